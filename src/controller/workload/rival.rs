//! Two roles that list one ServiceAccount: a pod gets one role, so the one that has the ServiceAccount keeps it, else the
//! elder gets it, and the other is told.

use crate::controller::context::{Context, RawRole};
use crate::controller::subject::Subject;
use kube::ResourceExt as _;
use serde_json::Value;

/// The ServiceAccounts that an object lists.
pub fn listed(role: &RawRole) -> impl Iterator<Item = &str> {
    let list = role.data.pointer("/spec/serviceAccounts").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|entry| entry.get("name").and_then(Value::as_str))
}

/// Whether status says that the operator gave the ServiceAccount this role.
fn holds(role: &RawRole, account: &str) -> bool {
    let list = role.data.pointer("/status/workloadIdentity/serviceAccounts").and_then(Value::as_array);
    list.into_iter().flatten().any(|entry| entry.get("name").and_then(Value::as_str) == Some(account))
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
    let competes = |other: &&std::sync::Arc<RawRole>| {
        other.metadata.namespace.as_deref() == Some(subject.namespace.as_str())
            && other.metadata.uid.as_deref() != Some(subject.uid.as_str())
            && listed(other).any(|name| name == account)
            // One that goes keeps what it has to its end, and gets nothing more.
            && (other.metadata.deletion_timestamp.is_none() || holds(other, account))
            && rank(other, account) < mine
    };
    let stores = ctx.scopes.iter().flat_map(|scope| scope.store.state());
    let stores: Vec<_> = stores.collect();
    stores.iter().filter(competes).min_by_key(|other| rank(other, account)).map(|other| other.name_any())
}
