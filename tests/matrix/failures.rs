//! What is told of a failure, how often, and what it keeps from happening: single moments in virtual time.

use super::faults::{ANY_CALL, Fault, THROTTLED};
use super::iam::{LONG_AGO, Role, is_read};
use super::lives::{self, Edit};
use super::moments::{HOUR, apply, events, live, started, warnings, world};
use super::operator::Operator;
use super::world::World;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A role whose spec attaches a policy that is not there.
fn failing() -> Value {
    let mut spec = lives::spec_of(&["x"], None);
    spec["managedPolicies"] = json!([crate::model::arn("Missing")]);
    spec
}

/// A role with something of each kind, all of which the second one has otherwise.
fn twice() -> [Value; 2] {
    let of = |nth: usize, name: &str, [policy, boundary]: [&str; 2], principal: &str| {
        let mut spec = lives::spec_of(&[name], Some(name));
        spec["customerManagedPolicies"]
            .as_array_mut()
            .expect("a list")
            .push(lives::own("both", &lives::allow(&[&format!("both:Do{nth}")])));
        spec["trustPolicy"] = lives::trust(&[principal]);
        spec["description"] = json!(format!("description {nth}"));
        spec["permissionsBoundary"] = json!(crate::model::arn(boundary));
        spec["maxSessionDuration"] = json!(format!("{nth}h"));
        spec["tags"] = json!({ format!("tag-{nth}"): "x" });
        spec["managedPolicies"] = json!([crate::model::arn(policy)]);
        spec["inlinePolicies"] = json!([
            lives::inline(name, &lives::allow(&[&format!("{name}:One")])),
            lives::inline("both", &lives::allow(&[&format!("both:Do{nth}")])),
        ]);
        spec
    };
    [of(1, "x", ["shared", "Fence"], lives::ONE), of(2, "y", ["foreign", "Wall"], lives::TWO)]
}

/// What somebody sees of the role, and of all policies and instance profiles.
fn seen(world: &World) -> Value {
    let iam = &world.lock().iam;
    let role = iam.roles.get("api").map(|role| format!("{:?}", Role { id: String::new(), ..role.clone() }));
    let policies: BTreeMap<&String, _> =
        iam.policies.iter().map(|(name, policy)| (name, (policy.document(), &policy.tags))).collect();
    json!([role, policies, format!("{:?}", iam.profiles)])
}

fn is_stalled(world: &World) -> bool {
    let role = world.lock().cluster.role.clone().expect("an object");
    let conditions = role["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Stalled")
}

#[tokio::test(start_paused = true)]
async fn what_passes_does_not_make_a_failure_that_lasts_news() {
    for lag in [0, 4, 20] {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, lag);
        apply(&world, &failing());
        let mut operator = Operator::start(&world, 0).await;
        live(&mut operator, Duration::from_mins(10)).await;
        let missing = || warnings(&world).iter().filter(|note| note.contains("Missing")).count();
        assert_eq!(missing(), 1, "reads {lag} s late: {:?}", warnings(&world));
        assert!(is_stalled(&world));
        for fault in ANY_CALL {
            world.lock().trouble(fault);
            operator.reconcile().await.expect("nobody kills it");
            let denied = matches!(fault, Fault::Refused("AccessDenied" | "ExpiredToken", ..));
            assert!(denied || is_stalled(&world), "{fault:?} is no progress");
            live(&mut operator, Duration::from_mins(30)).await;
            assert!(is_stalled(&world), "{fault:?}");
        }
        assert!(missing() <= 3, "once, and after what is no passing trouble: {:?}", warnings(&world));
        let broken = std::mem::take(&mut world.lock().broken);
        assert!(broken.is_empty(), "{broken:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_status_can_not_tell_is_told_once_by_an_event() {
    let life = lives::owning();
    let world = world(life.iam, life.cluster, 0);
    apply(&world, &failing());
    let mut operator = Operator::start(&world, 0).await;
    // The role is made before, since nothing is while status can't be written.
    live(&mut operator, Duration::from_secs(1)).await;
    world.lock().said.clear();
    let mut edited = failing();
    edited["managedPolicies"] = json!([crate::model::arn("Missing"), crate::model::arn("Gone")]);
    edited["inlinePolicies"] = json!([{ "name": "bad", "document": lives::allow(&["no-service"]) }]);
    world.lock().is_deaf = true;
    apply(&world, &edited);
    live(&mut operator, HOUR).await;
    let heard = warnings(&world);
    assert_eq!(heard.len(), 1, "{heard:?}");
    world.lock().is_deaf = false;
    live(&mut operator, HOUR).await;
    assert_eq!(warnings(&world), heard, "nor again when it can be written");
    apply(&world, &failing());
    live(&mut operator, HOUR).await;
    apply(&world, &edited);
    live(&mut operator, HOUR).await;
    assert_eq!(warnings(&world).iter().filter(|note| **note == heard[0]).count(), 2, "what comes back is news");
}

/// Each call of the update may be the one whose first answer is lost.
#[tokio::test(start_paused = true)]
async fn a_policy_with_all_its_versions_is_updated_once_whatever_answer_is_lost() {
    for position in 0.. {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, 0);
        let with = |action: usize| {
            let mut spec = lives::spec_of(&["x"], None);
            spec["customerManagedPolicies"][0]["document"] = lives::allow(&[&format!("x:Do{action}")]);
            spec
        };
        let mut operator = started(&world, &with(0)).await;
        for i in 1..8 {
            apply(&world, &with(i));
            live(&mut operator, Duration::from_mins(10)).await;
        }
        assert_eq!(world.lock().iam.policies["api-x"].versions.len(), 5);
        world.lock().said.clear();
        let before = world.lock().calls.len();
        world.lock().trouble_later(position, Fault::LostOnce);
        apply(&world, &with(8));
        live(&mut operator, Duration::from_mins(10)).await;
        assert!(world.lock().cluster.is_ready());
        let warned: Vec<String> = warnings(&world).into_iter().filter(|note| note.contains("quota")).collect();
        assert_eq!((events(&world, "CreatePolicyVersion"), warned), (1, vec![]), "call {position}");
        let made =
            world.lock().calls[before..].iter().filter(|call| call.what.starts_with("CreatePolicyVersion")).count();
        assert_eq!(made, 1, "call {position}");
        if world.lock().calls.len() <= before + position {
            assert!(position > 5);
            break;
        }
    }
}

/// What others attached stays while the spec keeps it, or since nobody knows any more whose it is. Each call of the look for
/// the next spec may be refused.
#[tokio::test(start_paused = true)]
async fn an_edit_removes_what_was_kept_before_it_whatever_fails_at_first() {
    let foreign = crate::model::arn("foreign");
    for (fault, restored) in [(THROTTLED, false), (ANY_CALL[0], false), (THROTTLED, true), (ANY_CALL[0], true)] {
        for position in 0..10 {
            let life = lives::owning();
            let world = world(life.iam, life.cluster, 0);
            let mut spec = lives::spec_of(&["x"], None);
            spec["whenUnlisted"] = json!(if restored { "Remove" } else { "Keep" });
            let mut operator = started(&world, &spec).await;
            world.lock().change(|iam| {
                let role = iam.roles.get_mut("api").expect("a role");
                role.created = LONG_AGO;
                role.managed.insert(foreign.clone());
            });
            if restored {
                Edit::Restore(spec.clone()).apply(&mut world.lock().cluster);
            }
            live(&mut operator, HOUR).await;
            assert!(world.lock().cluster.is_ready());
            let is_there = || world.lock().iam.roles["api"].managed.contains(&foreign);
            assert!(is_there(), "{restored}");
            if !restored {
                // Who only corrects his list still reads what is not on it.
                let mut wrong = spec.clone();
                wrong["inlinePolicies"] = json!([{ "name": "bad", "document": { "Statement": "nonsense" } }]);
                apply(&world, &wrong);
                live(&mut operator, HOUR).await;
                let role = world.lock().cluster.role.clone().expect("an object");
                assert_eq!(role["status"]["unlisted"], json!([foreign]));
                assert!(is_stalled(&world) && is_there());
            }
            spec["whenUnlisted"] = json!("Remove");
            spec["description"] = json!("edited");
            world.lock().trouble_later(position, fault);
            apply(&world, &spec);
            live(&mut operator, HOUR).await;
            assert!(world.lock().cluster.is_ready() && !is_there(), "{fault:?} at call {position}, {restored}");
        }
    }
}

/// Where AWS answers all but one action, that one holds up what it holds up where it is refused: what does not need it is
/// not shut out by it. And where it has its effect, that is seen, and all is as wanted.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_never_answered_holds_up_what_one_that_is_refused_does() {
    #[derive(Clone, Copy)]
    enum How {
        Well,
        Denied(&'static str),
        Silent(&'static str, bool),
    }
    async fn changed(how: How) -> Arc<World> {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, 0);
        let [old, new] = twice();
        let mut operator = started(&world, &old).await;
        world.lock().calls.clear();
        match how {
            How::Well => {}
            How::Denied(action) => world.lock().denied = Some(action),
            How::Silent(action, has_effect) => world.lock().silent = Some((action, has_effect)),
        }
        apply(&world, &new);
        live(&mut operator, 2 * HOUR).await;
        world
    }
    let well = changed(How::Well).await;
    assert!(well.lock().cluster.is_ready());
    let actions: BTreeSet<&'static str> = {
        let calls = &well.lock().calls;
        let actions = calls.iter().filter_map(|call| call.what.split(' ').next());
        let is_write = |action: &&str| !is_read(action) && action.contains(char::is_lowercase);
        actions.filter(is_write).map(|action| &*action.to_owned().leak()).collect()
    };
    assert!(actions.len() >= 12, "{actions:?}");
    for action in actions {
        let (denied, silent) = (changed(How::Denied(action)).await, changed(How::Silent(action, false)).await);
        assert_ne!(seen(&denied), seen(&well), "{action}");
        assert_eq!(seen(&silent), seen(&denied), "{action}");
        assert!(!silent.lock().cluster.is_ready(), "{action}");
        let silent = changed(How::Silent(action, true)).await;
        assert_eq!((seen(&silent), silent.lock().cluster.is_ready()), (seen(&well), true), "{action}");
    }
}
