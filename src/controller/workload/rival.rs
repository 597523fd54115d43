//! Two roles that list one ServiceAccount: a pod gets one role, so the one that has the ServiceAccount keeps it, else the
//! elder gets it, and the other is told.

use crate::controller::context::{Context, RawRole};
use crate::controller::subject::Subject;
use kube::ResourceExt as _;
use std::sync::Arc;

/// Whether status says that the operator gave the ServiceAccount this role.
fn holds(role: &RawRole, account: &str) -> bool {
    role.said.bound_accounts.iter().any(|bound| &**bound == account)
}

/// The order in which roles are served: who holds it, who is older, whose name is less.
fn rank(role: &RawRole, account: &str) -> (bool, String, String) {
    let created = role.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
    (!holds(role, account), created, role.name_any())
}

/// What the one that waits is told.
pub fn told(account: &str, other: &str) -> String {
    format!(
        "ServiceAccount {account} is listed by IamRole {other} as well, which came first; take it out of one of them"
    )
}

/// The role that goes before this one for a ServiceAccount, by name.
pub fn rival(ctx: &Context, subject: &Subject, account: &str) -> Option<String> {
    let mine = rank(subject.object(), account);
    let competes = |other: &&Arc<RawRole>| {
        // One that goes keeps what it has to its end, and gets nothing more. One that only observes gets nothing either.
        let observes = other.said.mode.as_deref() == Some("Observe");
        let gets_more = other.metadata.deletion_timestamp.is_none() && !observes;
        other.metadata.uid.as_deref() != Some(subject.uid.as_str())
            && (gets_more || holds(other, account))
            && rank(other, account) < mine
    };
    let others = ctx.listing(&subject.namespace, account);
    others.iter().filter(competes).min_by_key(|other| rank(other, account)).map(|other| other.name_any())
}
