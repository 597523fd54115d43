//! What can be done to IAM.

use crate::api::{TAG_CLUSTER, TAG_NAME, TAG_NAMESPACE};
use crate::policy::Document;
use crate::role::{Observed, OwnPolicy};
use std::collections::{BTreeMap, BTreeSet};

/// One call (or one short fixed sequence of calls) to IAM.
#[derive(Clone, Debug)]
pub enum Action {
    /// `CreateRole` with everything that it can carry.
    CreateRole {
        /// Path.
        path: String,
        /// Description, not empty.
        description: Option<String>,
        /// Longest session in seconds.
        max_session: i32,
        /// ARN of the boundary.
        boundary: Option<String>,
        /// All tags, with the owner's.
        tags: BTreeMap<String, String>,
        /// Trust policy.
        trust: Document,
    },
    /// `TagRole`.
    TagRole(BTreeMap<String, String>),
    /// `UntagRole`.
    UntagRole(BTreeSet<String>),
    /// `UpdateRole`; always with both members, since some servers clear what is left out.
    UpdateRole {
        /// Description, empty to clear.
        description: String,
        /// Longest session in seconds.
        max_session: i32,
    },
    /// `PutRolePermissionsBoundary`.
    PutBoundary(String),
    /// `DeleteRolePermissionsBoundary`.
    DeleteBoundary,
    /// `UpdateAssumeRolePolicy`.
    UpdateTrust(Document),
    /// `CreatePolicy`.
    CreatePolicy {
        /// The policy.
        policy: Box<OwnPolicy>,
        /// Its tags.
        tags: BTreeMap<String, String>,
    },
    /// `TagPolicy`.
    TagPolicy {
        /// ARN of the policy.
        arn: String,
        /// The tags.
        tags: BTreeMap<String, String>,
    },
    /// `CreatePolicyVersion` as default, after the oldest version has made room.
    UpdatePolicy {
        /// ARN of the policy.
        arn: String,
        /// The new document.
        document: Document,
    },
    /// `AttachRolePolicy`.
    Attach(String),
    /// `DetachRolePolicy`.
    Detach(String),
    /// `PutRolePolicy`.
    PutInline {
        /// Name of the inline policy.
        name: String,
        /// Its document.
        document: Document,
    },
    /// `DeleteRolePolicy`.
    DeleteInline(String),
    /// `DeletePolicy`, after its other versions.
    DeletePolicy(String),
    /// `CreateInstanceProfile`.
    CreateProfile {
        /// Name.
        name: String,
        /// Path, that of the role.
        path: String,
        /// Its tags.
        tags: BTreeMap<String, String>,
    },
    /// `TagInstanceProfile`.
    TagProfile {
        /// Name.
        name: String,
        /// The tags.
        tags: BTreeMap<String, String>,
    },
    /// `AddRoleToInstanceProfile`.
    JoinProfile(String),
    /// `RemoveRoleFromInstanceProfile`.
    LeaveProfile {
        /// The profile.
        profile: String,
        /// The role that is taken out.
        role: String,
    },
    /// `DeleteInstanceProfile`.
    DeleteProfile(String),
    /// `DeleteRole`.
    DeleteRole,
}

impl Action {
    /// Whether it makes room in one of IAM's quotas of the role.
    pub(crate) const fn frees(&self) -> bool {
        matches!(
            self,
            Self::Detach(_)
                | Self::DeleteInline(_)
                | Self::PutInline { .. }
                | Self::UntagRole(_)
                | Self::LeaveProfile { .. }
                | Self::DeletePolicy(_)
                | Self::DeleteProfile(_)
        )
    }

    /// Whether it is about an instance profile.
    #[must_use]
    pub const fn is_of_profile(&self) -> bool {
        matches!(
            self,
            Self::CreateProfile { .. }
                | Self::TagProfile { .. }
                | Self::JoinProfile(_)
                | Self::LeaveProfile { .. }
                | Self::DeleteProfile(_)
        )
    }

    /// IAM's name of the call that matters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateRole { .. } => "CreateRole",
            Self::TagRole(_) => "TagRole",
            Self::UntagRole(_) => "UntagRole",
            Self::UpdateRole { .. } => "UpdateRole",
            Self::PutBoundary(_) => "PutRolePermissionsBoundary",
            Self::DeleteBoundary => "DeleteRolePermissionsBoundary",
            Self::UpdateTrust(_) => "UpdateAssumeRolePolicy",
            Self::CreatePolicy { .. } => "CreatePolicy",
            Self::TagPolicy { .. } => "TagPolicy",
            Self::UpdatePolicy { .. } => "CreatePolicyVersion",
            Self::Attach(_) => "AttachRolePolicy",
            Self::Detach(_) => "DetachRolePolicy",
            Self::PutInline { .. } => "PutRolePolicy",
            Self::DeleteInline(_) => "DeleteRolePolicy",
            Self::DeletePolicy(_) => "DeletePolicy",
            Self::CreateProfile { .. } => "CreateInstanceProfile",
            Self::TagProfile { .. } => "TagInstanceProfile",
            Self::JoinProfile(_) => "AddRoleToInstanceProfile",
            Self::LeaveProfile { .. } => "RemoveRoleFromInstanceProfile",
            Self::DeleteProfile(_) => "DeleteInstanceProfile",
            Self::DeleteRole => "DeleteRole",
        }
    }

    /// What it is done to: an ARN or name, or the role's name where it is the role itself.
    #[must_use]
    pub fn target<'a>(&'a self, role: &'a str) -> &'a str {
        match self {
            Self::CreatePolicy { policy, .. } => &policy.arn,
            Self::UpdatePolicy { arn, .. }
            | Self::TagPolicy { arn, .. }
            | Self::Attach(arn)
            | Self::Detach(arn)
            | Self::DeletePolicy(arn)
            | Self::PutBoundary(arn) => arn,
            Self::PutInline { name, .. }
            | Self::DeleteInline(name)
            | Self::CreateProfile { name, .. }
            | Self::TagProfile { name, .. }
            | Self::JoinProfile(name)
            | Self::LeaveProfile { profile: name, .. }
            | Self::DeleteProfile(name) => name,
            _ => role,
        }
    }

    /// Of which policy or instance profile it is a step: the ARN, `inline/NAME` or `profile/NAME`; `None` for what is
    /// done to the role itself.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        match self {
            Self::CreatePolicy { policy, .. } => Some(policy.arn.clone()),
            Self::UpdatePolicy { arn, .. } | Self::Attach(arn) | Self::Detach(arn) | Self::DeletePolicy(arn) => {
                Some(arn.clone())
            }
            Self::PutInline { name, .. } | Self::DeleteInline(name) => Some(inline_key(name)),
            Self::CreateProfile { name, .. }
            | Self::JoinProfile(name)
            | Self::LeaveProfile { profile: name, .. }
            | Self::DeleteProfile(name) => Some(profile_key(name)),
            _ => None,
        }
    }

    /// Whether it sets tags that tell whose something is.
    pub(super) fn tells_owner(&self) -> bool {
        let (Self::TagRole(tags) | Self::TagPolicy { tags, .. } | Self::TagProfile { tags, .. }) = self else {
            return false;
        };
        [TAG_CLUSTER, TAG_NAMESPACE, TAG_NAME].into_iter().any(|key| tags.contains_key(key))
    }

    /// Whether it removes what a read did not show: a read that may be late does not tell whether it is there.
    #[must_use]
    pub fn is_blind(&self, observed: &Observed) -> bool {
        match self {
            Self::Detach(arn) => !observed.managed.contains(arn),
            Self::DeleteInline(name) => !observed.inline.keys().any(|found| found.eq_ignore_ascii_case(name)),
            Self::UntagRole(keys) => {
                let seen: BTreeSet<String> = observed.tags.keys().map(|key| key.to_lowercase()).collect();
                keys.iter().all(|key| !seen.contains(&key.to_lowercase()))
            }
            Self::DeleteBoundary => observed.boundary.is_none(),
            _ => false,
        }
    }

    /// In a person's words, with tag keys but without values and without policy text.
    #[must_use]
    pub fn describe(&self, role: &str) -> String {
        let list = |keys: &mut dyn Iterator<Item = &String>| keys.map(String::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Self::CreateRole { .. } => format!("create role {role}"),
            Self::TagRole(tags) => format!("set tags {}", list(&mut tags.keys())),
            Self::UntagRole(keys) => format!("remove tags {}", list(&mut keys.iter())),
            Self::UpdateRole { .. } => "set description and session duration".to_owned(),
            Self::PutBoundary(arn) => format!("set permissions boundary {arn}"),
            Self::DeleteBoundary => "remove permissions boundary".to_owned(),
            Self::UpdateTrust(_) => "update trust policy".to_owned(),
            Self::CreatePolicy { policy, .. } => format!("create policy {}", policy.arn),
            Self::TagPolicy { arn, tags } => format!("set tags {} of policy {arn}", list(&mut tags.keys())),
            Self::UpdatePolicy { arn, .. } => format!("make a new version of policy {arn}"),
            Self::Attach(arn) => format!("attach policy {arn}"),
            Self::Detach(arn) => format!("detach policy {arn}"),
            Self::PutInline { name, .. } => format!("put inline policy {name}"),
            Self::DeleteInline(name) => format!("delete inline policy {name}"),
            Self::DeletePolicy(arn) => format!("delete policy {arn}"),
            Self::CreateProfile { name, .. } => format!("create instance profile {name}"),
            Self::TagProfile { name, tags } => {
                format!("set tags {} of instance profile {name}", list(&mut tags.keys()))
            }
            Self::JoinProfile(name) => format!("put the role into instance profile {name}"),
            Self::LeaveProfile { profile, role: other } if other == role => {
                format!("take the role out of instance profile {profile}")
            }
            Self::LeaveProfile { profile, role: other } => {
                format!("take role {other} out of instance profile {profile}")
            }
            Self::DeleteProfile(name) => format!("delete instance profile {name}"),
            Self::DeleteRole => format!("delete role {role}"),
        }
    }
}

/// The key of an instance profile.
pub(in crate::role) fn profile_key(name: &str) -> String {
    format!("profile/{name}")
}

/// The key of an inline policy; no ARN looks like it.
pub(super) fn inline_key(name: &str) -> String {
    format!("inline/{name}")
}

/// The name of the inline policy whose key this is.
pub(super) fn inline_name(key: &str) -> Option<&str> {
    key.strip_prefix("inline/")
}
