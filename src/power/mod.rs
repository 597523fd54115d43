//! The operator's own power in AWS: the least IAM policy under which it can do its work. Pure.
//!
//! Which action is checked against which resource and which condition keys is what AWS's Service Authorization
//! Reference says of IAM. A condition is strict where a request that lacks the key must be denied, and of the
//! `…IfExists` kind where a strict one could lock the operator out of work that is its own: docs/permissions.md
//! tells which is which, and why.

mod pod_identity;
mod render;
mod statements;

pub use render::{Format, RenderError};
pub use statements::policy;

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the operator may be used for beyond roles with inline and existing policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// `instanceProfile`.
    InstanceProfiles,
    /// `customerManagedPolicies`.
    CustomerManagedPolicies,
    /// `adoption`: roles without owner tags may be given some.
    Adoption,
    /// `deletionPolicy: ForceDelete`: roles are taken out of instance profiles that others made.
    ForceDelete,
    /// Walks over the account (`driftCheck.method`), which show the documents of all roles.
    AccountWalks,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::InstanceProfiles, Self::CustomerManagedPolicies, Self::Adoption, Self::ForceDelete, Self::AccountWalks];
}

/// What the policy is to be for. Every value is taken as it is: the caller has checked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The account; `None` leaves it open. IAM's calls reach the caller's own account only, so this grants no more.
    pub account: Option<String>,
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: String,
    /// UID of the cluster; without one no condition on owner tags is made.
    pub cluster: Option<String>,
    /// UIDs of clusters whose roles are taken over (`takeOverClusters`). Counts beside a cluster only.
    pub take_over: Vec<String>,
    /// Path of all roles, policies and instance profiles, or the beginning of it; with a slash at both ends.
    pub path: String,
    /// ARNs of the permissions boundaries, one of which each role has; none asks for no boundary.
    pub boundaries: Vec<String>,
    /// What else the operator is used for.
    pub features: BTreeSet<Feature>,
    /// Patterns of the ARNs of policies that may be attached; none asks for no condition.
    pub attach: Vec<String>,
    /// ARNs of roles that are assumed to work in other accounts (`account.assumeRole` of classes).
    pub assume: Vec<String>,
    /// The policy is a second one beside the other, for associations of the EKS cluster with this ARN.
    pub pod_identity: Option<String>,
    /// ARN of the operator's own role or user, which it may then not touch.
    pub identity: Option<String>,
    /// Name of the policy itself, which the operator may not change.
    pub policy_name: String,
}

impl Options {
    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    fn arn(&self, resource: &str) -> String {
        format!("arn:{}:iam::{}:{resource}", self.partition, self.account.as_deref().unwrap_or("*"))
    }
}

/// A permission policy, in the order in which a person reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

impl Policy {
    /// The statements.
    #[must_use]
    pub fn statements(&self) -> &[Statement] {
        &self.statement
    }

    /// The actions that some statement allows.
    #[must_use]
    pub fn allowed(&self) -> BTreeSet<&'static str> {
        let allows = self.statement.iter().filter(|statement| statement.effect == "Allow");
        allows.flat_map(|statement| statement.action.iter().copied()).collect()
    }
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// What it is there for, in a word or two.
    pub sid: &'static str,
    /// `Allow` or `Deny`.
    pub effect: &'static str,
    /// The actions, sorted.
    pub action: Vec<&'static str>,
    /// The resources.
    pub resource: OneOrMore,
    /// The conditions, by operator and key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub condition: Conditions,
}

/// Conditions by operator and key.
pub type Conditions = BTreeMap<&'static str, BTreeMap<String, OneOrMore>>;

/// One value is written as it is, several as a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

impl From<Vec<String>> for OneOrMore {
    fn from(mut values: Vec<String>) -> Self {
        if values.len() == 1 { Self::One(values.remove(0)) } else { Self::More(values) }
    }
}

#[cfg(test)]
mod tests;
