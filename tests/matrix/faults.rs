//! What can go wrong with a call.

use std::collections::BTreeSet;
use std::time::Duration;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// Refused, in each attempt, without effect. AWS only.
    Refused(&'static str, u16, &'static str),
    /// Refused by the API server.
    Status(u16, &'static str),
    /// No attempt gets there.
    Unreachable,
    /// The first attempt does not get there.
    DroppedOnce,
    /// The first attempt has its effect, the answer is lost.
    LostOnce,
    /// The first attempt has its effect, the answer is lost, and all others are throttled. AWS only.
    LostThenThrottled,
    /// The first attempt has its effect, the answer is lost, and no further attempt gets there.
    Lost,
    /// The first attempt has its effect, the answer comes too late.
    LateOnce,
    /// The first attempt has its effect, all answers come too late.
    Late,
    /// The first attempt has its effect, its answer breaks off.
    CutOnce,
    /// All attempts have their effect, all answers break off.
    Cut,
    /// It answers with what was there a while ago ([`STALE`]). Reads of AWS only.
    Stale,
    /// It had its effect and answers with a server error. Kubernetes only.
    FailedAfter,
    /// Just before it gets there, somebody edits the object, and edits it back. Kubernetes only.
    Edited,
    /// The operator is killed before the call has an effect.
    KilledBefore,
    /// The operator is killed after the call had its effect.
    KilledAfter,
}

/// How old a stale answer is: not older than IAM may be behind.
pub const STALE: Duration = Duration::from_secs(25);

const fn refused(code: &'static str, status: u16, message: &'static str) -> Fault {
    Fault::Refused(code, status, message)
}

pub const THROTTLED: Fault = refused("Throttling", 400, "Rate exceeded");
const SERVER_ERROR: Fault = Fault::Status(500, "InternalError");

pub const ANY_CALL: [Fault; 11] = [
    refused("AccessDenied", 403, "User is not authorized to perform this action"),
    THROTTLED,
    refused("ServiceFailure", 500, "The request processing has failed."),
    refused("ExpiredToken", 403, "The security token included in the request is expired"),
    Fault::Unreachable,
    Fault::DroppedOnce,
    Fault::Lost,
    Fault::LateOnce,
    Fault::Late,
    Fault::CutOnce,
    Fault::Cut,
];

/// What IAM refuses some calls with: part of the call's name, and the refusals.
const REFUSALS: [(&str, Fault); 25] = [
    ("", refused("NoSuchEntity", 404, "The role with name api cannot be found.")),
    ("CreateRole", refused("EntityAlreadyExists", 409, "Role with name api already exists.")),
    ("CreatePolicy ", refused("EntityAlreadyExists", 409, "A policy called so already exists.")),
    ("Create", refused("LimitExceeded", 409, "Cannot exceed quota")),
    ("Put", refused("LimitExceeded", 409, "Maximum policy size of 10240 bytes exceeded for role api")),
    ("Attach", refused("LimitExceeded", 409, "Cannot exceed quota for PoliciesPerRole: 10")),
    ("TagRole", refused("LimitExceeded", 409, "The number of tags has reached the maximum limit.")),
    ("UpdateAssume", refused("LimitExceeded", 409, "Cannot exceed quota for ACLSizePerRole: 2048")),
    ("Create", refused("ConcurrentModification", 409, "The request was rejected because multiple requests were made.")),
    ("Role", refused("ConcurrentModification", 409, "The request was rejected because multiple requests were made.")),
    ("CreateRole", refused("MalformedPolicyDocument", 400, "Invalid principal in policy: \"AWS\":\"x\"")),
    ("UpdateAssume", refused("MalformedPolicyDocument", 400, "Invalid principal in policy: \"AWS\":\"x\"")),
    ("CreateRole", refused("MalformedPolicyDocument", 400, "Syntax errors in policy.")),
    ("UpdateAssume", refused("MalformedPolicyDocument", 400, "Syntax errors in policy.")),
    ("PutRolePolicy", refused("MalformedPolicyDocument", 400, "Syntax errors in policy.")),
    ("CreatePolicy", refused("MalformedPolicyDocument", 400, "Syntax errors in policy.")),
    ("DeleteRole ", refused("DeleteConflict", 409, "Cannot delete entity, must detach all policies first.")),
    ("DeletePolicy", refused("DeleteConflict", 409, "Cannot delete a policy attached to entities.")),
    ("DeleteInstanceProfile", refused("DeleteConflict", 409, "Cannot delete entity, must remove roles first.")),
    ("CreateInstanceProfile", refused("EntityAlreadyExists", 409, "Instance Profile api already exists.")),
    ("AddRoleTo", refused("InvalidParameterValue", 400, "Invalid IAM Instance Profile name")),
    ("AddRoleTo", refused("LimitExceeded", 409, "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")),
    ("Attach", refused("NoSuchEntity", 404, "Policy arn:aws:iam::aws:policy/X does not exist or is not attachable.")),
    ("Attach", refused("PolicyNotAttachable", 400, "The policy is reserved for a service-linked role.")),
    ("Boundary", refused("NoSuchEntity", 404, "Policy arn:aws:iam::aws:policy/X does not exist.")),
];

const KUBERNETES: [Fault; 8] = [
    Fault::Status(403, "Forbidden"),
    Fault::Status(409, "Conflict"),
    Fault::Status(429, "TooManyRequests"),
    SERVER_ERROR,
    Fault::Unreachable,
    Fault::Lost,
    Fault::FailedAfter,
    Fault::Edited,
];

/// After which the next operator, or the next round, reads what is long past.
pub const IN_DOUBT: [Fault; 4] = [Fault::KilledAfter, Fault::Lost, Fault::LostOnce, THROTTLED];

/// How a call could be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Read,
    Write,
    Kubernetes,
}

/// The faults that a call can meet.
pub fn faults(side: Side, call: &str) -> Vec<Fault> {
    let refusals: BTreeSet<Fault> =
        REFUSALS.iter().filter(|(part, _)| call.contains(part)).map(|(_, fault)| *fault).collect();
    match side {
        Side::Read => ANY_CALL.into_iter().chain([REFUSALS[0].1, Fault::Stale]).collect(),
        Side::Write => {
            ANY_CALL.into_iter().chain([Fault::LostOnce, Fault::LostThenThrottled]).chain(refusals).collect()
        }
        Side::Kubernetes if call.starts_with("PATCH") => {
            KUBERNETES.into_iter().chain([Fault::Status(422, "Invalid")]).collect()
        }
        Side::Kubernetes => KUBERNETES.to_vec(),
    }
}

/// One run of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Script {
    /// The call that meets the fault, counted from the edit.
    pub position: usize,
    pub fault: Fault,
    /// The operator is killed once the next call has had its effect.
    pub killed: bool,
    /// Reads show the state of so long ago.
    pub lag: Duration,
}

impl Fault {
    /// The fault that stands for this one: the client below the operator makes the same of both, and no more of a fault
    /// reaches the operator than its kind of error and its effect. `None`: the client gets over it, and the operator sees
    /// nothing. Tests of their own prove it for each call.
    pub fn representative(self, side: Side, call: &str) -> Option<Self> {
        let read = side == Side::Read;
        Some(match self {
            // An event speaks of the object as it was, and nobody looks at what became of it.
            Self::Edited if call.ends_with("/events") => return None,
            Self::Status(..) | Self::Unreachable | Self::Lost | Self::FailedAfter if call.ends_with("/events") => {
                SERVER_ERROR
            }
            Self::Lost if side == Side::Kubernetes && !call.starts_with("PATCH") => Self::FailedAfter,
            // Of a status it matters only whether it may be tried again.
            Self::Status(409 | 429, _) | Self::Unreachable if call.starts_with("PUT") => SERVER_ERROR,
            other if side == Side::Kubernetes => other,
            Self::DroppedOnce => return None,
            Self::LostOnce | Self::LateOnce | Self::CutOnce if read => return None,
            Self::LateOnce | Self::CutOnce => Self::LostOnce,
            Self::Lost | Self::Late | Self::Cut | Self::Refused("ServiceFailure", ..) if read => Self::Unreachable,
            Self::Late => Self::Lost,
            Self::Refused("ServiceFailure", ..) => Self::Unreachable,
            Self::Refused("ConcurrentModification", ..) => THROTTLED,
            other => other,
        })
    }

    /// One of each kind: refused, gone, not reached, lost, old.
    pub fn is_typical(self) -> bool {
        !matches!(
            self,
            Self::Refused("Throttling" | "ServiceFailure" | "ExpiredToken", ..)
                | Self::DroppedOnce
                | Self::LateOnce
                | Self::CutOnce
                | Self::Late
                | Self::Cut
                | Self::Status(409 | 429, _)
        )
    }

    /// Whether the operator can't know from the answer what became of the call.
    pub fn leaves_doubt(self) -> bool {
        !matches!(
            self,
            Self::Refused(..)
                | Self::Status(..)
                | Self::Unreachable
                | Self::DroppedOnce
                | Self::Edited
                | Self::KilledBefore
        )
    }
}
