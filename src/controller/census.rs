//! How many roles there are of each kind, counted from the cache when somebody asks for the metrics.
//!
//! Status is data: only words that the operator knows become labels, and only classes that are there.

use super::context::{Context, RawRole};
use super::queue::{class_or, default_of};
use super::status::find;
use crate::api::{ConditionType, IamRoleClass, Reason};
use crate::telemetry::{Census, ClassLabels, RoleLabels};
use kube::ResourceExt as _;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

const CONDITIONS: [ConditionType; 5] = [
    ConditionType::Ready,
    ConditionType::Reconciling,
    ConditionType::Stalled,
    ConditionType::Drifted,
    ConditionType::IdentityBound,
];
/// In place of a reason where there is none.
const NONE: &str = "None";

/// Counts roles and classes that this installation serves.
#[must_use]
pub fn take(ctx: &Context) -> Census {
    let mut census = Census::default();
    for class in ctx.classes.state().iter().filter(|class| ctx.serves(class)) {
        let conditions = class.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let ready = find(conditions, ConditionType::Ready);
        let labels = ClassLabels { class: class.name_any(), reason: ready.map_or(NONE, |ready| word(&ready.reason)) };
        let accounts = [
            class.spec.account.as_ref().and_then(|account| account.id.clone()),
            class.status.as_ref().and_then(|status| status.account_id.clone()),
        ];
        census.accounts.extend(accounts.into_iter().flatten());
        census.classes.insert(labels, ready.is_some_and(|ready| ready.status == "True"));
    }
    let mut defaults: HashMap<String, Option<Arc<IamRoleClass>>> = HashMap::new();
    let mut default = |namespace: &str| match defaults.get(namespace) {
        Some(known) => known.clone(),
        None => defaults.entry(namespace.to_owned()).or_insert_with(|| default_of(namespace, ctx)).clone(),
    };
    for role in ctx.scopes.iter().flat_map(|scope| scope.store.state()) {
        // One whose spec can't be read has no class in its status.
        let class = class_or(&role, ctx, &mut default);
        if class.as_ref().is_some_and(|class| !ctx.serves(class)) {
            continue; // Another installation's.
        }
        let class = class.map(|class| class.name_any()).unwrap_or_default();
        for (condition, status, reason) in standing(&role) {
            let labels = RoleLabels { class: class.clone(), condition, status, reason };
            *census.roles.entry(labels).or_default() += 1;
        }
    }
    census
}

/// Type, status and reason of the role's conditions; of Ready in any case.
fn standing(role: &RawRole) -> Vec<(&'static str, &'static str, &'static str)> {
    let conditions = role.conditions();
    let text = |condition: &Value, key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    let mut standing = Vec::new();
    for kind in CONDITIONS {
        if let Some(condition) = conditions.iter().find(|condition| condition["type"] == kind.as_str()) {
            let status = match text(condition, "status").as_str() {
                "True" => "True",
                "False" => "False",
                _ => "Unknown",
            };
            standing.push((kind.as_str(), status, word(&text(condition, "reason"))));
        } else if kind == ConditionType::Ready {
            standing.push((kind.as_str(), "Unknown", NONE));
        }
    }
    standing
}

fn word(reason: &str) -> &'static str {
    Reason::ALL.iter().map(|known| known.as_str()).find(|known| *known == reason).unwrap_or(NONE)
}
