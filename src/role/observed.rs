//! What is in AWS, as far as the operator needs it.

use super::plan::profile_key;
use super::{Desired, Record};
use crate::policy::{AccountRef, Canonical};
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
    /// Those of the instance profiles we asked for that exist, by the name as we asked.
    pub profiles: BTreeMap<String, ObservedProfile>,
}

/// What to ask for beyond the role.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// ARNs of customer-managed policies.
    pub policies: BTreeSet<String>,
    /// Names of instance profiles.
    pub profiles: BTreeSet<String>,
}

impl Asked {
    /// What is wanted, and what is on record.
    #[must_use]
    pub fn new(desired: Option<&Desired>, record: &Record) -> Self {
        let wanted = desired.iter().flat_map(|desired| &desired.own).map(|policy| policy.arn.clone());
        let profile = desired.and_then(|desired| desired.profile.clone());
        let recorded = record.profile.as_ref().map(|profile| profile.name.clone());
        Self {
            policies: wanted.chain(record.own.iter().map(|policy| policy.arn.clone())).collect(),
            profiles: profile.into_iter().chain(recorded).collect(),
        }
    }

    /// With the policies of the account that are attached to a role, so that their tags tell whose they are.
    #[must_use]
    pub fn with_attached(mut self, role: &Observed, account: &AccountRef) -> Self {
        let AccountRef { partition, id } = account;
        let local = format!("arn:{partition}:iam::{id}:policy/");
        self.policies.extend(role.managed.iter().filter(|arn| arn.starts_with(&local)).cloned());
        self
    }

    /// What was asked for and not found, by the [keys](super::Action::key) of actions.
    #[must_use]
    pub fn unseen(
        &self,
        policies: &BTreeMap<String, ObservedPolicy>,
        profiles: &BTreeMap<String, ObservedProfile>,
    ) -> BTreeSet<String> {
        let policies = self.policies.iter().filter(|arn| !policies.contains_key(*arn)).cloned();
        let profiles = self.profiles.iter().filter(|name| !profiles.contains_key(*name));
        policies.chain(profiles.map(|name| profile_key(name))).collect()
    }
}

/// An instance profile as AWS describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedProfile {
    /// Name in AWS's own case.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// All tags.
    pub tags: BTreeMap<String, String>,
    /// Names of the roles in it; IAM permits one.
    pub roles: BTreeSet<String>,
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
