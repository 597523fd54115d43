//! In which lane a role waits, and how urgent it is: told by the object as the cache has it, before it is decoded.

use super::context::{Context, RawRole};
use super::lanes::{Place, Urgency};
use super::resolve::default_class;
use crate::api::{ANNOTATION_RECONCILE, IamRoleClass};
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
    let named = role.said.named_class.as_deref().or(role.said.class.as_deref());
    if let Some(name) = named {
        return ctx.classes.get(&ObjectRef::new(name));
    }
    let namespace = role.namespace().unwrap_or_default();
    let labels = ctx.namespaces.get(&ObjectRef::new(&namespace)).map(|namespace| namespace.labels().clone());
    default_class(&ctx.classes.state(), &namespace, &labels.unwrap_or_default()).ok()
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
    let generation = role.metadata.generation.unwrap_or_default();
    let uid = role.metadata.uid.as_deref().unwrap_or_default();
    let of_class = class.and_then(|class| class.metadata.generation);
    let is_new = role.said.observed_generation != Some(generation)
        || (of_class.is_some() && role.said.class_generation != of_class);
    let asked = role.annotations().get(ANNOTATION_RECONCILE).map(String::as_str);
    let is_asked = asked.is_some() && role.said.handled.as_deref() != asked;
    let (has_failed, suspect) = ctx.memory.with(uid, |entry| (entry.has_failed(generation), entry.suspect));
    if is_asked {
        Urgency::Change
    } else if has_failed {
        Urgency::Retry
    } else if role.metadata.deletion_timestamp.is_some() {
        Urgency::Deletion
    } else if is_new || !role.said.is_ready {
        Urgency::Change
    } else if suspect {
        Urgency::Suspect
    } else {
        Urgency::Check
    }
}
