//! What is in AWS, as far as the operator needs it.

use crate::policy::Canonical;
use std::collections::{BTreeMap, BTreeSet};

/// A role as AWS describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Name in AWS's own case.
    pub name: String,
    /// Path.
    pub path: String,
    /// ARN.
    pub arn: String,
    /// Unique id (AROA…), new when a role of the same name is created again.
    pub id: String,
    /// When it was created, RFC 3339.
    pub create_date: String,
    /// Description; empty if absent.
    pub description: String,
    /// Longest session in seconds.
    pub max_session: i32,
    /// ARN of the permissions boundary.
    pub boundary: Option<String>,
    /// All tags.
    pub tags: BTreeMap<String, String>,
    /// Trust policy by meaning.
    pub trust: Canonical,
    /// ARNs of all attached managed policies.
    pub managed: BTreeSet<String>,
    /// All inline policies by meaning.
    pub inline: BTreeMap<String, Canonical>,
    /// Those of the policies we asked for (wanted or recorded) that exist, by ARN.
    pub own: BTreeMap<String, ObservedPolicy>,
}

/// A customer-managed policy as AWS describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedPolicy {
    /// Unique id (ANPA…).
    pub id: String,
    /// Default version, such as v3.
    pub version: String,
    /// All tags.
    pub tags: BTreeMap<String, String>,
    /// The default version's document by meaning.
    pub document: Canonical,
}
