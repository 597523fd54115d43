//! What tests of walks over an account share.

#![allow(dead_code, reason = "each test file uses a part")]

use crate::support::World;
use iamrole_operator::api::iamroleclass::{DriftCheck, DriftMethod, IamRoleClassStatus};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longer than it takes until an own write may not be seen any more, and then a walk.
pub const SETTLED: Duration = Duration::from_mins(1);

/// Drift is looked for as often, in this way.
pub const fn each(seconds: i32, method: DriftMethod) -> DriftCheck {
    DriftCheck { interval_seconds: Some(seconds), method: Some(method) }
}

/// Whose account is walked as often.
pub async fn world(seconds: i32) -> World {
    World::with_class("sweep", |class| class.drift_check = Some(each(seconds, DriftMethod::Account))).await
}

/// The same before the operator runs.
pub async fn stopped(seconds: i32) -> World {
    World::without_operator("sweep", |class| class.drift_check = Some(each(seconds, DriftMethod::Account))).await
}

pub async fn class_status(world: &World) -> IamRoleClassStatus {
    world.classes().get(&world.namespace).await.expect("the class").status.unwrap_or_default()
}

pub fn count(world: &World, action: &str) -> usize {
    world.proxy.actions().iter().filter(|seen| *seen == action).count()
}

/// Calls by action, without those by which the class looks at its account.
pub fn calls(world: &World) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for action in world.proxy.actions() {
        if !["GetCallerIdentity", "GetAccountSummary"].contains(&action.as_str()) {
            *calls.entry(action).or_insert(0) += 1;
        }
    }
    calls
}
