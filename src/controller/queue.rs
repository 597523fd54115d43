//! In which lane a role waits, and how urgent it is: told by the object as the cache has it, before it is decoded.

use super::context::{Context, RawRole};
use super::lanes::Place;
use super::memory::Entry;
use super::resolve::default_class;
use super::subject::requested;
use crate::api::IamRoleClass;
use crate::role::urgency::{Standing, Urgency};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use std::sync::Arc;

/// A place for the object; `None` where there is none for what can as well come later.
pub async fn enter(role: &RawRole, ctx: &Context) -> Option<Place> {
    let class = class(role, ctx);
    let urgency = urgency(role, class.as_deref(), ctx);
    ctx.lanes.enter(&lane(class.as_deref(), ctx), urgency).await
}

/// The class that the object probably belongs to.
pub fn class(role: &RawRole, ctx: &Context) -> Option<Arc<IamRoleClass>> {
    class_or(role, ctx, |namespace| default_of(namespace, ctx))
}

/// The same, with the default class of a namespace from elsewhere: to look for it means to go through all classes.
pub fn class_or(
    role: &RawRole,
    ctx: &Context,
    default: impl FnOnce(&str) -> Option<Arc<IamRoleClass>>,
) -> Option<Arc<IamRoleClass>> {
    match role.said.named_class.as_deref().or(role.said.class.as_deref()) {
        Some(name) => ctx.classes.get(&ObjectRef::new(name)),
        None => default(role.metadata.namespace.as_deref().unwrap_or_default()),
    }
}

/// The default class of a namespace.
pub fn default_of(namespace: &str, ctx: &Context) -> Option<Arc<IamRoleClass>> {
    let labels = ctx.namespaces.get(&ObjectRef::new(namespace)).map(|namespace| namespace.labels().clone());
    default_class(&ctx.classes.state(), namespace, &labels.unwrap_or_default()).ok()
}

/// One lane an account; as long as a class leads to none, one a class.
fn lane(class: Option<&IamRoleClass>, ctx: &Context) -> String {
    let Some(class) = class else { return String::new() };
    let name = class.name_any();
    let state = ctx.class_state(&name, &class.uid().unwrap_or_default());
    let account = state.and_then(|state| state.account.ok()).map(|account| account.account.id.clone());
    account.unwrap_or_else(|| format!("class {name}"))
}

fn urgency(role: &RawRole, class: Option<&IamRoleClass>, ctx: &Context) -> Urgency {
    let uid = role.metadata.uid.as_deref().unwrap_or_default();
    ctx.memory.with(uid, |entry| standing(role, class, entry)).urgency()
}

fn standing(role: &RawRole, class: Option<&IamRoleClass>, entry: &Entry) -> Standing {
    let generation = role.metadata.generation.unwrap_or_default();
    let of_class = class.and_then(|class| class.metadata.generation);
    Standing {
        is_asked: requested(role, role.said.handled.as_deref()).is_some(),
        has_failed: entry.has_failed(generation),
        is_deleted: role.metadata.deletion_timestamp.is_some(),
        is_new: role.said.observed_generation != Some(generation),
        has_new_class: of_class.is_some() && role.said.class_generation != of_class,
        is_ready: role.said.is_ready,
        is_begun: role.said.is_begun,
        has_waited: entry.has_waited(generation),
        is_suspect: entry.suspect,
    }
}

#[cfg(test)]
mod tests {
    use super::standing;
    use crate::controller::context::RawRole;
    use crate::controller::memory::Entry;
    use crate::role::urgency::Urgency;
    use serde_json::json;

    #[test]
    fn a_check_is_asked_for_until_it_was_made_however_long_its_token() {
        for length in [1, 1023, 1024, 1025, 5000] {
            let token = "ä".repeat(length);
            let kept: String = token.chars().take(1024).collect();
            for (handled, urgency) in
                [(None, Urgency::Change), (Some("x"), Urgency::Change), (Some(&*kept), Urgency::Check)]
            {
                let role: RawRole = serde_json::from_value(json!({
                    "metadata": { "generation": 1, "annotations": { "iamrole.dev/reconcile-requested-at": &token } },
                    "spec": {},
                    "status": { "observedGeneration": 1, "lastHandledReconcileAt": handled,
                        "conditions": [{ "type": "Ready", "status": "True" }] },
                }))
                .unwrap();
                assert_eq!(standing(&role, None, &Entry::default()).urgency(), urgency, "{length}: {handled:?}");
            }
        }
    }
}
