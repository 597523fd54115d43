//! A role that was begun and of which nobody heard, where the next look asks for one of another name or in another account:
//! it is found, or was never made.

use super::faults::{Fault, THROTTLED};
use super::iam::Iam;
use super::lives;
use super::moments::{apply, live, world};
use super::operator::Operator;
use super::world::World;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const A_WHILE: Duration = Duration::from_mins(10);
const ELSEWHERE: &str = "999999999999";

/// A role that is named by its class.
fn named() -> Value {
    let mut spec = lives::wanted();
    spec.as_object_mut().expect("a spec").remove("roleName");
    spec["instanceProfile"] = json!({});
    spec
}

/// The same with nothing that is of one account: there is but one stand-in.
fn movable() -> Value {
    let mut spec = named();
    for part in ["customerManagedPolicies", "permissionsBoundary", "instanceProfile"] {
        spec.as_object_mut().expect("a spec").remove(part);
    }
    spec["managedPolicies"] = json!(["ReadOnlyAccess"]);
    spec
}

fn edit_class(world: &World, change: impl FnOnce(&mut Value)) {
    let class = &mut world.lock().cluster.class;
    change(&mut class["spec"]);
    class["metadata"]["generation"] = json!(class["metadata"]["generation"].as_i64().expect("a number") + 1);
}

fn rename(world: &World) {
    edit_class(world, |spec| spec["roleNameTemplate"] = json!("new.$(namespace).$(name)"));
}

/// Whatever is tagged as the object's.
fn ours(iam: &Iam) -> Vec<String> {
    let owner = crate::model::owner();
    let roles = iam.roles.values().map(|role| (role.arn(), &role.tags));
    let policies = iam.policies.values().map(|policy| (policy.arn(), &policy.tags));
    let profiles = iam.profiles.values().map(|profile| (format!("instance-profile/{}", profile.name), &profile.tags));
    let all = roles.chain(policies).chain(profiles).filter(|(_, tags)| owner.judge(tags).is_ours());
    all.map(|(arn, _)| arn).collect()
}

fn ready(world: &World) -> Value {
    let conditions = world.lock().cluster.role.as_ref().expect("an object")["status"]["conditions"].clone();
    let ready = conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    ready.cloned().unwrap_or_default()
}

/// The creation meets the fault at this call, and nothing is looked at since. `None` where it has fewer calls.
async fn begun(spec: &Value, lag: u64, position: usize, fault: Fault) -> Option<(Arc<World>, Operator)> {
    let world = world(lives::created().iam, lives::created().cluster, lag);
    let mut operator = Operator::start(&world, 0).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    apply(&world, spec);
    world.lock().begin();
    world.lock().trouble_later(position, fault);
    loop {
        match operator.reconcile().await {
            Err(()) => operator = Operator::start(&world, 1).await,
            Ok(_) if world.lock().struck() => {}
            Ok(_) if world.lock().cluster.is_ready() => return None,
            Ok(again) => {
                tokio::time::sleep(again.unwrap_or_default()).await;
                continue;
            }
        }
        return Some((world, operator));
    }
}

/// All moments of a creation at which nobody knows what became of a call.
async fn at_each_moment(
    spec: &Value,
    change: impl Fn(&World),
    check: impl AsyncFn(&Arc<World>, &mut Operator, bool, &str),
) {
    for lag in [0, 20] {
        for fault in [Fault::KilledAfter, Fault::Lost, Fault::LostThenThrottled] {
            let mut position = 0;
            while let Some((world, mut operator)) = begun(spec, lag, position, fault).await {
                let made = !ours(&world.lock().iam).is_empty();
                change(&world);
                live(&mut operator, A_WHILE).await;
                let at = format!("{fault:?} at call {position}, reads {lag} s late");
                check(&world, &mut operator, made, &at).await;
                position += 1;
            }
            assert!(position > 8, "{position} calls");
        }
    }
}

async fn is_gone_in_full(world: &Arc<World>, operator: &mut Operator, at: &str) {
    world.lock().cluster.delete();
    live(operator, A_WHILE).await;
    assert!(world.lock().cluster.role.is_none(), "{at}: {}", ready(world));
    assert_eq!(ours(&world.lock().iam), Vec::<String>::new(), "{at}");
}

#[tokio::test(start_paused = true)]
async fn a_role_whose_name_changes_before_it_is_confirmed_is_not_left_behind() {
    at_each_moment(&named(), rename, async |world, operator, made, at| {
        let roles = ours(&world.lock().iam).into_iter().filter(|arn| arn.contains(":role/")).collect::<Vec<_>>();
        assert_eq!(roles.len(), 1, "{at}: {roles:?}");
        let status = world.lock().cluster.role.as_ref().expect("an object")["status"].clone();
        assert_eq!(status["role"]["arn"], json!(roles[0]), "{at}: {status}");
        assert_ne!(roles[0].contains("role/new."), made, "{at}: {roles:?}");
        assert!(status["role"]["id"].is_string(), "{at}: {status}");
        if made {
            assert_eq!(ready(world)["reason"], "IdentityImmutable", "{at}: {status}");
        } else {
            assert_eq!(ready(world)["status"], "True", "{at}: {status}");
        }
        is_gone_in_full(world, operator, at).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_role_whose_account_changes_before_it_is_confirmed_is_not_left_behind() {
    let move_away = |world: &World| {
        world.lock().account = ELSEWHERE;
        edit_class(world, |spec| spec["tags"] = json!({ "moved": "yes" }));
    };
    at_each_moment(&movable(), move_away, async |world, operator, made, at| {
        let status = world.lock().cluster.role.as_ref().expect("an object")["status"].clone();
        if status["accountId"] == ELSEWHERE {
            assert!(!made, "{at}: {status}");
            assert_eq!(ready(world)["status"], "True", "{at}: {status}");
            return;
        }
        assert_eq!(ready(world)["reason"], "ClassAccountMismatch", "{at}: {status}");
        world.lock().account = super::iam::ACCOUNT;
        edit_class(world, |spec| spec["tags"] = json!({}));
        live(operator, A_WHILE).await;
        assert_eq!(ready(world)["status"], "True", "{at}: {}", ready(world));
        is_gone_in_full(world, operator, at).await;
    })
    .await;
}

/// Nor does it keep the object: its class was led to the account that it was meant for meanwhile.
#[tokio::test(start_paused = true)]
async fn a_role_that_aws_refused_to_make_goes_whatever_account_its_class_leads_to() {
    for restarts in [false, true] {
        let world = world(lives::created().iam, lives::created().cluster, 0);
        world.lock().denied = Some("CreateRole");
        let mut operator = Operator::start(&world, 0).await;
        apply(&world, &movable());
        live(&mut operator, A_WHILE).await;
        assert_eq!(ready(&world)["reason"], "AccessDenied");
        world.lock().account = ELSEWHERE;
        edit_class(&world, |spec| spec["tags"] = json!({ "moved": "yes" }));
        if restarts {
            operator = Operator::start(&world, 1).await;
        }
        world.lock().cluster.delete();
        live(&mut operator, A_WHILE).await;
        assert!(world.lock().cluster.role.is_none(), "{restarts}: {}", ready(&world));
    }
}

/// What AWS has refused for certain to make is not looked for. Also where it was throttled first, as where many are made.
#[tokio::test(start_paused = true)]
async fn a_role_that_aws_refused_to_make_keeps_no_class_from_being_put_right() {
    for (moves, restarts) in [(false, false), (true, false), (false, true), (true, true)] {
        for throttled in 0..6 {
            let world = world(lives::created().iam, lives::created().cluster, 0);
            world.lock().denied = Some("CreateRole");
            let mut operator = Operator::start(&world, 0).await;
            apply(&world, &movable());
            world.lock().trouble_later(throttled, THROTTLED);
            live(&mut operator, A_WHILE).await;
            assert_eq!(ready(&world)["reason"], "AccessDenied");
            world.lock().denied = None;
            if moves {
                world.lock().account = ELSEWHERE;
            }
            rename(&world);
            if restarts {
                operator = Operator::start(&world, 1).await;
            }
            live(&mut operator, Duration::from_secs(20)).await;
            assert_eq!(ready(&world)["status"], "True", "{moves}, {restarts}, {throttled}: {}", ready(&world));
        }
    }
}
