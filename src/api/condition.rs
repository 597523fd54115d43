//! Condition types and the closed list of reasons.
//!
//! One word is condition reason, event reason and metric label at once, so that what a person
//! reads in `kubectl describe` can be searched for in the docs and alerted on.

use std::fmt;

/// Types of the conditions that the operator writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// Always present. True: this generation is in AWS, as last seen.
    Ready,
    /// Present only while True: work is pending and is expected to succeed.
    Reconciling,
    /// Present only while True: it will not succeed until somebody acts. Retries go on slowly.
    Stalled,
    /// True only for differences that are not being repaired.
    Drifted,
    /// Present where the spec lists ServiceAccounts. True: their pods can get the role, as last seen. It does not
    /// change Ready, which speaks of the role in AWS.
    IdentityBound,
}

impl ConditionType {
    /// The type as it stands in `status.conditions[].type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Drifted => "Drifted",
            Self::IdentityBound => "IdentityBound",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:expr])+ $name:ident),+ $(,)?) => {
        /// Why a condition is as it is; also the reason of events and the label of metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $name),+ }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The word as users see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// What the reason means, for the documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc, "\n"),+)),+ }
            }
        }
    };
}

reasons! {
    /// This generation is in AWS, as last seen.
    Applied,
    /// Work is pending; it is being done or retried.
    Reconciling,
    /// Being deleted.
    Deleting,
    /// `spec.suspend`, the annotation or the class suspends it: no call to AWS is made.
    Suspended,
    /// Mode `Observe`, and AWS is as the spec says.
    Observed,
    /// Mode `Observe`, and `status.plan` lists what would be done.
    ChangesPending,
    /// The spec can't be carried out as it is written; the message names the field.
    InvalidSpec,
    /// The class does not permit it; the message names field and class.
    NotAllowed,
    /// A role of that name exists, is not ours, and adoption is not asked for.
    RoleNotOwned,
    /// The role of that name belongs to another `IamRole`.
    RoleOwnedByOther,
    /// A policy of that name exists and is not ours.
    PolicyNameTaken,
    /// An instance profile of that name exists and is not ours.
    InstanceProfileNotOwned,
    /// The name or path differs from the role that exists; neither can be changed.
    IdentityImmutable,
    /// `adoption: Required`, and there is no such role.
    RoleMissing,
    /// No class selects this namespace, or more than one default class does.
    NoClass,
    /// The class can't be used; its own `Ready` condition says why.
    ClassNotReady,
    /// The role, or its class, needs the issuer of this cluster's ServiceAccount tokens, which is not known yet.
    IssuerUnknown,
    /// The class leads to another AWS account than the role lives in.
    ClassAccountMismatch,
    /// The AWS identity belongs to another account than the class says.
    AccountMismatch,
    /// The operator has no usable AWS credentials.
    NoCredentials,
    /// AWS denied a call; the message names action and resource.
    AccessDenied,
    /// The trust policy names a principal that does not exist (yet).
    PrincipalNotFound,
    /// A policy to attach, or the permissions boundary, does not exist (yet).
    PolicyNotFound,
    /// An AWS quota is used up; the message says which.
    QuotaExceeded,
    /// AWS refuses a policy document or an attachment.
    PolicyRejected,
    /// AWS refuses a call with a code that has no reason of its own.
    Rejected,
    /// A difference is not repaired (any more): somebody keeps undoing the repair, or AWS words it otherwise.
    Contested,
    /// A document is probably not what is meant, or close to a limit (event).
    PolicyWarning,
    /// Roles in AWS carry this cluster's owner tags and belong to no `IamRole` (event on the class).
    OrphanedRoles,
    /// The ServiceAccounts of the role have all that their pods need (`IdentityBound`).
    Bound,
    /// New pods get the role, but some that run were made too early and have no credentials (`IdentityBound`).
    PodsWithoutCredentials,
    /// The role's account has no OIDC provider for this cluster's tokens (`IdentityBound`).
    NoOidcProvider,
    /// The OIDC provider does not take the audience of the tokens (`IdentityBound`).
    AudienceNotRegistered,
    /// A `ServiceAccount` belongs to another role; it is left untouched (`IdentityBound`).
    ServiceAccountConflict,
    /// A `ServiceAccount` does not exist (yet) (`IdentityBound`).
    ServiceAccountMissing,
    /// The operator does not annotate ServiceAccounts, or makes no EKS Pod Identity associations, so it does not know
    /// whether they are there (`IdentityBound`).
    BindingNotManaged,
    /// What is to be deleted can't be; the message names what blocks it.
    DeleteBlocked,
    /// AWS asks for patience: throttling or a parallel change.
    Busy,
    /// A call to AWS got no usable answer: timeout, connection, server error.
    Unavailable,
    /// The Kubernetes API refused or lost a call.
    KubernetesError,
    /// Something was made in AWS (event).
    Created,
    /// Something was changed in AWS (event).
    Updated,
    /// Something was removed from AWS (event).
    Deleted,
    /// A difference made by somebody else was repaired (event).
    DriftRepaired,
    /// The object had no status, and the role was found by its owner tags (event). What nobody listed stays until the spec changes.
    Recovered,
    /// The object is gone and the role was left in AWS (event).
    Retained,
    /// The object is gone, and nothing of it was there to be removed in AWS (event).
    Released,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_is_one_pascal_case_word() {
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(word.chars().all(|c| c.is_ascii_alphanumeric()), "{word}");
            assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
            assert!(word.len() <= 128 && !reason.meaning().trim().is_empty(), "{word}");
        }
    }
}
