//! Deletions that meet what is not as status says, or no status: single moments in virtual time.

use super::faults::Fault;
use super::lives::{self, Edit};
use super::moments::{HOUR, apply, calls, live, started, warnings, world};
use super::operator::Operator;
use super::world::World;
use serde_json::json;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_deletion_without_status_takes_what_the_spec_lists_and_nothing_of_strangers() {
    for (lost, invalid) in [(false, false), (true, false), (true, true)] {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, 0);
        let (shared, foreign) = (crate::model::arn("shared"), crate::model::arn("foreign"));
        let mut spec = lives::wanted();
        spec["whenUnlisted"] = json!("Keep");
        spec["managedPolicies"] = json!([shared, "ReadOnlyAccess"]);
        world.lock().cluster.class["spec"]["managedPolicies"] = json!(["SecurityAudit"]);
        let mut operator = started(&world, &spec).await;
        world.lock().change(|iam| {
            let role = iam.roles.get_mut("api").expect("a role");
            role.managed.insert(foreign.clone());
            role.inline.insert("theirs".to_owned(), lives::allow(&["theirs:One"]).to_string());
        });
        if invalid {
            // What is wrong elsewhere in it holds up no deletion.
            spec["description"] = json!("d".repeat(2000));
            spec["roleName"] = json!("api");
            spec["permissionsBoundary"] = json!("nonsense");
            apply(&world, &spec);
        }
        world.lock().said.clear();
        let delete = if lost { Edit::Lose } else { Edit::Delete };
        delete.apply(&mut world.lock().cluster);
        live(&mut operator, HOUR).await;
        let warned = warnings(&world);
        assert_eq!(warned.len(), 1, "{lost} {invalid}: {warned:?}");
        let named = format!("what this object did not make: attached policy {foreign}, inline policy theirs. Remove");
        assert!(warned[0].contains(&named), "{lost} {invalid}: {warned:?}");
        let role = world.lock().iam.roles["api"].clone();
        assert_eq!((role.managed.len(), role.inline.len()), (5, 2), "nothing is taken off a role that stays");

        world.lock().change(|iam| {
            let role = iam.roles.get_mut("api").expect("a role");
            role.managed.remove(&foreign);
            role.inline.remove("theirs");
        });
        live(&mut operator, HOUR).await;
        let inner = world.lock();
        assert!(inner.cluster.role.is_none() && !inner.iam.roles.contains_key("api"), "{lost} {invalid}");
        let left: Vec<&str> = inner.iam.policies.keys().map(String::as_str).collect();
        assert_eq!(left, ["fence", "foreign", "shared", "wall"], "{lost} {invalid}");
        let end = inner.said.iter().rev().find(|said| said.action == "Delete").expect("an event");
        assert_eq!(end.note, "Role api and all that belonged to it is gone", "{lost} {invalid}");
    }
}

/// Its message, and whether it is stalled.
fn stands(world: &World) -> (String, bool) {
    let inner = world.lock();
    let conditions = inner.cluster.role.as_ref().expect("an object")["status"]["conditions"].clone();
    let of = |kind: &str| conditions.as_array().into_iter().flatten().find(|one| one["type"] == kind).cloned();
    let message = of("Ready").map(|ready| ready["message"].as_str().unwrap_or_default().to_owned());
    (message.unwrap_or_default(), of("Stalled").is_some_and(|stalled| stalled["status"] == "True"))
}

#[tokio::test(start_paused = true)]
async fn an_own_policy_that_is_the_roles_own_boundary_is_told_and_not_waited_for() {
    let fence = crate::model::arn("api-fence");
    for (by_spec, lag) in [(true, 0), (false, 0), (true, 20), (false, 20)] {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, lag);
        let mut operator = started(&world, &lives::spec_of(&["fence"], None)).await;
        let spec = |names: &[&str]| {
            let mut spec = lives::spec_of(names, None);
            if by_spec {
                spec["permissionsBoundary"] = json!(fence);
            }
            spec
        };
        apply(&world, &spec(&["fence"]));
        live(&mut operator, Duration::from_mins(10)).await;
        assert!(world.lock().cluster.is_ready(), "{:?}", world.lock().cluster.role);
        world.lock().change(|iam| iam.roles.get_mut("api").expect("a role").boundary = Some(fence.clone()));
        live(&mut operator, Duration::from_mins(10)).await;
        world.lock().said.clear();
        let before = calls(&world, "DeletePolicy ");
        apply(&world, &spec(&[]));
        live(&mut operator, HOUR).await;
        let (message, stalled) = stands(&world);
        assert!(stalled, "by spec {by_spec}, {lag} s late: {message}");
        for part in [fence.as_str(), "permissions boundary of role api", "spec.permissionsBoundary", "in AWS"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        let warned = warnings(&world);
        assert_eq!(warned.len(), 1, "by spec {by_spec}, {lag} s late: {warned:?}");
        let tries = calls(&world, "DeletePolicy ") - before;
        assert!(tries < 40, "by spec {by_spec}, {lag} s late: {tries} an hour");
        apply(&world, &lives::spec_of(&[], None));
        if !by_spec {
            world.lock().change(|iam| iam.roles.get_mut("api").expect("a role").boundary = None);
        }
        live(&mut operator, HOUR).await;
        assert!(world.lock().cluster.is_ready(), "by spec {by_spec}, {lag} s late: {}", stands(&world).0);
        assert!(!world.lock().iam.policies.contains_key("api-fence"), "by spec {by_spec}, {lag} s late");
    }
}

/// Whichever part of IAM a read reaches, another one refuses.
#[tokio::test(start_paused = true)]
async fn what_iam_refuses_by_what_was_before_our_own_writes_is_waited_for_without_a_word() {
    for (reads, judges) in [(0, 4), (0, 20), (20, 4), (20, 20)] {
        let at = format!("reads {reads} s late, writes {judges} s");
        let life = lives::owning();
        let world = world(life.iam, life.cluster, reads);
        world.lock().judges_late = Duration::from_secs(judges);
        let mut operator = started(&world, &lives::spec_of(&["x", "y"], Some("first"))).await;
        apply(&world, &lives::spec_of(&["y", "z"], None));
        live(&mut operator, HOUR).await;
        assert!(world.lock().cluster.is_ready(), "{at}: {}", stands(&world).0);
        assert!(!world.lock().iam.policies.contains_key("api-x"), "{at}");
        apply(&world, &lives::spec_of(&["y"], Some("first")));
        live(&mut operator, HOUR).await;
        world.lock().cluster.delete();
        live(&mut operator, HOUR).await;
        assert!(world.lock().cluster.role.is_none(), "{at}");
        let left: Vec<String> =
            world.lock().iam.policies.keys().filter(|name| name.starts_with("api")).cloned().collect();
        assert_eq!(left, Vec::<String>::new(), "{at}");
        let inner = world.lock();
        let warned = inner.said.iter().filter(|said| said.is_warning && said.reason != "PolicyWarning");
        let warned: Vec<&String> = warned.map(|said| &said.note).collect();
        assert_eq!(warned, Vec::<&String>::new(), "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_status_what_is_ours_and_off_the_role_goes_too() {
    for (role_is_gone, invalid) in [(false, false), (true, false), (false, true), (true, true)] {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, 0);
        let mut operator = started(&world, &lives::spec_of(&["x", "y"], Some("first"))).await;
        world.lock().change(|iam| {
            iam.profiles.get_mut("first").expect("a profile").role = None;
            iam.roles.get_mut("api").expect("a role").managed.clear();
            if role_is_gone {
                iam.roles.remove("api");
            }
        });
        if invalid {
            let mut spec = lives::spec_of(&["x", "y"], Some("first"));
            spec["customerManagedPolicies"][0]["document"] = json!({ "Statement": "nonsense" });
            apply(&world, &spec);
        }
        Edit::Lose.apply(&mut world.lock().cluster);
        live(&mut operator, HOUR).await;
        let inner = world.lock();
        assert!(inner.cluster.role.is_none() && !inner.iam.roles.contains_key("api"), "{role_is_gone}");
        let ours = inner.iam.policies.keys().filter(|name| name.starts_with("api"));
        assert_eq!((ours.count(), inner.iam.profiles.len()), (0, 1), "{role_is_gone}");
    }
}

/// Whoever names what a stranger has is refused; nobody took tags off it, and it is not kept on record as ours.
#[tokio::test(start_paused = true)]
async fn what_a_stranger_has_is_never_said_to_have_been_ours() {
    let foreign = crate::model::arn("foreign");
    let policies = json!([{ "name": "taken", "policyName": "foreign", "document": lives::allow(&["x:One"]) }]);
    let cases = [
        (json!({ "customerManagedPolicies": policies }), "PolicyNameTaken"),
        (json!({ "instanceProfile": { "name": "strange" } }), "InstanceProfileNotOwned"),
    ];
    for (part, reason) in cases {
        for moves in [false, true] {
            let life = lives::owning();
            let world = world(life.iam, life.cluster, 0);
            let mut spec = lives::spec_of(&[], None);
            spec.as_object_mut().expect("a spec").extend(part.as_object().expect("fields").clone());
            apply(&world, &spec);
            let mut operator = Operator::start(&world, 0).await;
            live(&mut operator, HOUR).await;
            assert!(world.lock().said.iter().any(|said| said.reason == reason), "{reason}: {}", stands(&world).0);
            if moves {
                let mut spec = lives::spec_of(&[], None);
                spec["managedPolicies"] = json!([foreign]);
                apply(&world, &spec);
                live(&mut operator, HOUR).await;
                let status = world.lock().cluster.role.as_ref().expect("an object")["status"].clone();
                assert!(world.lock().cluster.is_ready(), "{status}");
                let kept = (&status["customerManagedPolicies"], &status["instanceProfile"]);
                assert_eq!(kept, (&serde_json::Value::Null, &serde_json::Value::Null), "{reason}");
            }
            world.lock().cluster.delete();
            live(&mut operator, HOUR).await;
            let inner = world.lock();
            assert!(inner.cluster.role.is_none() && inner.iam.policies.contains_key("foreign"));
            let end = inner.said.iter().rev().find(|said| said.action == "Delete").expect("an event");
            assert_eq!(end.note, "Role api and all that belonged to it is gone", "{reason} {moves}");
        }
    }
}

/// A policy that changed lists before the answer to its creation came is ours by its tags.
#[tokio::test(start_paused = true)]
async fn a_policy_of_ours_that_moved_before_it_was_confirmed_goes_with_the_role() {
    let life = lives::owning();
    let world = world(life.iam, life.cluster, 0);
    let mut operator = started(&world, &lives::spec_of(&[], None)).await;
    apply(&world, &lives::spec_of(&["x"], None));
    let creates = |world: &World| calls(world, "CreatePolicy ");
    for position in 0.. {
        world.lock().trouble_later(position, Fault::Lost);
        operator.reconcile().await.expect("nobody kills it");
        if creates(&world) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    let mut spec = lives::spec_of(&[], None);
    spec["managedPolicies"] = json!([crate::model::arn("api-x")]);
    apply(&world, &spec);
    live(&mut operator, HOUR).await;
    world.lock().cluster.delete();
    live(&mut operator, HOUR).await;
    assert!(world.lock().cluster.role.is_none());
    assert!(!world.lock().iam.policies.contains_key("api-x"));
}

/// What blocks was told by the process before; one that was not told may be what that has taken off a moment ago.
#[tokio::test(start_paused = true)]
async fn a_blocked_deletion_is_looked_at_a_few_times_after_a_restart_and_told_once() {
    let foreign = crate::model::arn("foreign");
    for told in [true, false] {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, 0);
        let mut spec = lives::spec_of(&["x"], None);
        spec["whenUnlisted"] = json!("Keep");
        let mut operator = started(&world, &spec).await;
        world.lock().change(|iam| {
            iam.roles.get_mut("api").expect("a role").managed.insert(foreign.clone());
        });
        world.lock().cluster.delete();
        if told {
            live(&mut operator, HOUR).await;
            assert!(stands(&world).1);
        }
        world.lock().said.clear();
        let mut operator = Operator::start(&world, 1).await;
        let before = (calls(&world, "GetRole "), world.lock().cluster.role.clone());
        live(&mut operator, Duration::from_secs(28)).await;
        let looks = calls(&world, "GetRole ") - before.0;
        assert!(looks <= 6, "{told}: {looks} looks");
        assert_eq!(warnings(&world), Vec::<String>::new(), "{told}");
        if told {
            assert_eq!(world.lock().cluster.role, before.1, "nothing is new");
        }
        live(&mut operator, HOUR).await;
        assert!(stands(&world).1 && stands(&world).0.contains(&foreign), "{told}: {}", stands(&world).0);
        assert_eq!(warnings(&world).len(), usize::from(!told), "{told}");
    }
}
