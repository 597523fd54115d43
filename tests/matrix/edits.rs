//! An edit that meets what an earlier one left, or what became of a call of it: single moments in virtual time.

use super::faults::Fault;
use super::iam::Iam;
use super::lives;
use super::moments::{HOUR, apply, calls, live, started, warnings, world};
use super::operator::Operator;
use super::world::World;
use crate::model::arn;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const A_WHILE: Duration = Duration::from_mins(10);

fn plain() -> Value {
    lives::spec_of(&[], None)
}

fn with(part: &str, value: Value) -> Value {
    let mut spec = plain();
    spec[part] = value;
    spec
}

fn status(world: &World) -> Value {
    world.lock().cluster.role.as_ref().expect("an object")["status"].clone()
}

/// Warnings but the advice about the trust policy.
fn told(world: &World) -> Vec<String> {
    warnings(world).into_iter().filter(|note| !note.starts_with("spec.trustPolicy")).collect()
}

fn ready(world: &World) -> Value {
    let conditions = status(world)["conditions"].clone();
    let ready = conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    ready.cloned().unwrap_or_default()
}

/// However often it is tried: a crash right after it would leave what nobody knows of.
#[tokio::test(start_paused = true)]
async fn nothing_is_made_before_status_tells_of_it_whatever_becomes_of_that() {
    let parts = [
        ("permissionsBoundary", json!(arn("Fence"))),
        ("managedPolicies", json!([arn("shared")])),
        ("inlinePolicies", json!([lives::inline("a", &lives::allow(&["a:One"]))])),
        ("customerManagedPolicies", json!([lives::own("x", &lives::allow(&["x:One"]))])),
        ("instanceProfile", json!({})),
        ("tags", json!({ "team": "a" })),
    ];
    let refused =
        [(409, "Conflict"), (422, "Invalid"), (500, "InternalError")].map(|(code, why)| Fault::Status(code, why));
    for (part, value) in parts {
        for fault in refused.into_iter().chain([Fault::FailedAfter, Fault::Lost, Fault::KilledBefore]) {
            for position in 0.. {
                let life = lives::owning();
                let world = world(life.iam, life.cluster, 0);
                let operator = started(&world, &plain()).await;
                let edit = with(part, value.clone());
                let Some(mut operator) = met(&world, operator, &edit, position, fault).await else { break };
                live(&mut operator, HOUR).await;
                let broken = std::mem::take(&mut world.lock().broken);
                assert!(
                    broken.is_empty() && world.lock().cluster.is_ready(),
                    "{part}, {fault:?} at {position}: {broken:?}"
                );
            }
        }
    }
}

/// As Git does it with the hash of a document in its name, beside something that fails for good.
#[tokio::test(start_paused = true)]
async fn own_policies_that_are_renamed_again_and_again_do_not_fill_status_up() {
    let life = lives::owning();
    let world = world(life.iam, life.cluster, 0);
    let edit = |nth: usize, fails: bool| {
        let own = |i: usize| lives::own(&format!("p{i}-{nth}"), &lives::allow(&[&format!("p{i}:Do{nth}")]));
        let mut spec = with("customerManagedPolicies", (0..8).map(own).collect());
        if fails {
            spec["managedPolicies"] = json!([arn("Missing")]);
        }
        spec
    };
    let mut operator = started(&world, &edit(0, false)).await;
    for nth in 1..15 {
        apply(&world, &edit(nth, true));
        // Also where nobody waits for the one before.
        live(&mut operator, if nth % 2 == 0 { A_WHILE } else { Duration::from_secs(5) }).await;
        assert_ne!(ready(&world)["reason"], "KubernetesError", "edit {nth}: {}", ready(&world));
    }
    apply(&world, &edit(15, false));
    live(&mut operator, HOUR).await;
    assert!(world.lock().cluster.is_ready(), "{}", ready(&world));
    let iam = &world.lock().iam;
    let left: Vec<&String> = iam.policies.keys().filter(|name| name.starts_with("api-p")).collect();
    assert!(left.len() == 8 && left.iter().all(|name| name.ends_with("-15")), "{left:?}");
}

/// What would be done is all that would be done.
#[tokio::test(start_paused = true)]
async fn an_instance_profile_of_another_name_is_shown_before_it_is_made() {
    for gone in [false, true] {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, 0);
        let mut operator = started(&world, &lives::spec_of(&[], Some("first"))).await;
        if gone {
            world.lock().change(|iam| iam.profiles.remove("first"));
        }
        let mut spec = lives::spec_of(&[], Some("second"));
        spec["mode"] = json!("Observe");
        apply(&world, &spec);
        live(&mut operator, A_WHILE).await;
        assert_eq!(ready(&world)["reason"], "ChangesPending", "{gone}: {}", status(&world));
        let plan = status(&world)["plan"].to_string();
        for (action, is_planned) in [
            ("RemoveRoleFromInstanceProfile", !gone),
            ("DeleteInstanceProfile", !gone),
            ("CreateInstanceProfile", true),
            ("AddRoleToInstanceProfile", true),
        ] {
            assert_eq!(plan.contains(action), is_planned, "{gone}, {action}: {plan}");
        }
        spec["mode"] = json!("Enforce");
        let planned = status(&world)["planCount"].as_u64();
        world.lock().calls.clear();
        apply(&world, &spec);
        live(&mut operator, HOUR).await;
        let done = ["RemoveRoleFrom", "DeleteInstance", "CreateInstance", "AddRoleTo"].map(|call| calls(&world, call));
        assert_eq!(planned, Some(done.iter().sum::<usize>() as u64), "{gone}: {done:?}");
    }
}

/// An edit that meets the fault at this call, and the operator that goes on. `None` where it has fewer calls.
async fn met(
    world: &Arc<World>,
    mut operator: Operator,
    edit: &Value,
    position: usize,
    fault: Fault,
) -> Option<Operator> {
    world.lock().trouble_later(position, fault);
    apply(world, edit);
    loop {
        match operator.reconcile().await {
            Err(()) => return Some(Operator::start(world, 1).await),
            Ok(_) if world.lock().struck() => return Some(operator),
            Ok(_) if world.lock().cluster.is_ready() => return None,
            Ok(again) => tokio::time::sleep(again.unwrap_or_default()).await,
        }
    }
}

/// The answer to an elevation was lost, and reads show the past: what it gave is taken back before anybody else comes. Also
/// where another process goes on.
#[tokio::test(start_paused = true)]
async fn who_comes_with_the_next_edit_does_not_meet_what_an_unheard_one_gave() {
    let spec = |action: &str, comes: Option<&str>| {
        let mut spec = with("inlinePolicies", json!([lives::inline("a", &lives::allow(&[action]))]));
        match comes {
            Some("trust") => spec["trustPolicy"] = lives::trust(&[lives::ONE, lives::TWO]),
            Some(part) => spec[part] = json!({}),
            None => {}
        }
        spec
    };
    for (fault, comes, lag) in [
        (Fault::Lost, "trust", 20),
        (Fault::KilledAfter, "trust", 20),
        (Fault::Lost, "instanceProfile", 20),
        (Fault::KilledAfter, "instanceProfile", 20),
        (Fault::KilledAfter, "trust", 0),
    ] {
        let mut position = 0;
        loop {
            let life = lives::owning();
            let world = world(life.iam, life.cluster, lag);
            let operator = started(&world, &spec("a:Little", None)).await;
            let edit = spec("a:Much", None);
            let Some(mut operator) = met(&world, operator, &edit, position, fault).await else { break };
            apply(&world, &spec("a:Little", Some(comes)));
            live(&mut operator, HOUR).await;
            let at = format!("{fault:?} at call {position}, {comes}, reads {lag} s late");
            assert!(world.lock().cluster.is_ready(), "{at}: {}", ready(&world));
            let has_come = |iam: &Iam| {
                iam.roles.get("api").is_some_and(|role| role.trust.contains(lives::TWO))
                    || iam.profiles.values().any(|profile| profile.holds("api"))
            };
            assert!(world.lock().ever(has_come), "{at}");
            let meets =
                |iam: &Iam| has_come(iam) && iam.roles["api"].inline.values().any(|held| held.contains("a:Much"));
            assert!(!world.lock().ever(meets), "{at}");
            position += 1;
        }
        assert!(position > 2, "{position} calls");
    }
}

/// IAM counts what is there, and lets nobody have more for a moment.
#[tokio::test(start_paused = true)]
async fn tags_are_renamed_where_there_is_no_room_for_both() {
    let life = lives::owning();
    let world = world(life.iam, life.cluster, 0);
    let tags = |of: &str, many: usize| -> Value {
        (0..many).map(|i| (format!("{of}-{i}"), json!("x"))).collect::<serde_json::Map<_, _>>().into()
    };
    let mut both = tags("old", 20);
    both.as_object_mut().expect("tags").extend(tags("stays", 20).as_object().expect("tags").clone());
    let mut operator = started(&world, &with("tags", both)).await;
    let mut next = tags("new", 20);
    next.as_object_mut().expect("tags").extend(tags("stays", 20).as_object().expect("tags").clone());
    apply(&world, &with("tags", next));
    live(&mut operator, HOUR).await;
    assert!(world.lock().cluster.is_ready());
    assert!(told(&world).is_empty(), "{:?}", told(&world));
}

/// All attachments are exchanged at a full quota, and IAM counts one that went a moment ago.
#[tokio::test(start_paused = true)]
async fn a_quota_that_is_judged_by_the_past_is_waited_for_without_a_word() {
    for lag in [0, 4, 20] {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, lag);
        let own = |nth: usize| -> Value {
            (0..10).map(|i| lives::own(&format!("p{i}-{nth}"), &lives::allow(&[&format!("p{i}:Do{nth}")]))).collect()
        };
        let mut operator = started(&world, &with("customerManagedPolicies", own(0))).await;
        world.lock().judges_late = Duration::from_secs(10);
        apply(&world, &with("customerManagedPolicies", own(1)));
        live(&mut operator, HOUR).await;
        assert!(world.lock().cluster.is_ready(), "{lag}: {}", ready(&world));
        assert!(told(&world).is_empty(), "{lag}: {:?}", told(&world));
    }
}
