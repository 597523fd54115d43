//! Single moments in virtual time: what is told how often, and what waits for AWS to settle.

use super::cluster::{Cluster, NAME};
use super::faults::{ANY_CALL, Fault, Script};
use super::iam::Iam;
use super::lives::{self, Edit};
use super::meaning::Laws;
use super::operator::Operator;
use super::world::World;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_hours(1);

/// A world where reads show the state of so long ago.
fn world(iam: Iam, cluster: Cluster, lag: u64) -> Arc<World> {
    let laws = Laws {
        role: NAME.to_owned(),
        ends: None,
        strangers: BTreeSet::new(),
        adoptable: false,
        heir_of: vec![],
        keeps: false,
    };
    let never =
        Script { position: usize::MAX, fault: Fault::KilledAfter, killed: false, lag: Duration::from_secs(lag) };
    let world = World::new(iam, cluster, laws, Some(never), None);
    world.lock().begin();
    world
}

fn apply(world: &World, spec: &Value) {
    Edit::Apply(spec.clone()).apply(&mut world.lock().cluster);
}

/// Reconciles whenever it is due, for so long.
async fn live(operator: &mut Operator, long: Duration) {
    let end = Instant::now() + long;
    while Instant::now() < end {
        let again = operator.reconcile().await.expect("nobody kills it").unwrap_or(HOUR);
        tokio::time::sleep(again.min(end.saturating_duration_since(Instant::now()))).await;
    }
}

async fn started(world: &Arc<World>, spec: &Value) -> Operator {
    apply(world, spec);
    let mut operator = Operator::start(world, 0).await;
    live(&mut operator, Duration::from_mins(10)).await;
    assert!(world.lock().cluster.is_ready(), "{:?}", world.lock().cluster.role);
    operator
}

/// How many events name this action, and how many are warnings.
fn events(world: &World, action: &str) -> usize {
    world.lock().said.iter().filter(|said| said.action == action).count()
}

fn warnings(world: &World) -> Vec<String> {
    world.lock().said.iter().filter(|said| said.is_warning).map(|said| said.note.clone()).collect()
}

fn calls(world: &World, what: &str) -> usize {
    world.lock().calls.iter().filter(|call| call.what.starts_with(what)).count()
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_others_use_is_told_once_by_their_names() {
    for lag in [0, 4, 20] {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, lag);
        let with = |names: &[&str]| lives::spec_of(names, None);
        let mut operator = started(&world, &with(&["x", "y"])).await;
        let arn = crate::model::arn("api-x");
        let others = |iam: &mut Iam| iam.roles.get_mut("other").expect("a role").managed.insert(arn.clone());
        assert!(world.lock().change(others));
        world.lock().said.clear();
        apply(&world, &with(&["y"]));
        live(&mut operator, HOUR).await;
        assert_eq!(events(&world, "DetachRolePolicy"), 1, "reads {lag} s late");
        let warned = warnings(&world);
        assert_eq!(warned.len(), 1, "{warned:?}");
        for part in ["role other", "api-x", "in AWS"] {
            assert!(warned[0].contains(part), "{part}: {warned:?}");
        }
        assert!(world.lock().change(|iam| iam.roles.get_mut("other").expect("a role").managed.remove(&arn)));
        live(&mut operator, HOUR).await;
        assert!(world.lock().cluster.is_ready() && !world.lock().iam.policies.contains_key("api-x"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_forced_boundary_is_set_and_told_once_while_reads_lag() {
    for lag in [0, 4, 20] {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, lag);
        let mut operator = started(&world, &lives::spec_of(&["x"], None)).await;
        world.lock().said.clear();
        let fence = crate::model::arn("Fence");
        {
            let class = &mut world.lock().cluster.class;
            class["spec"]["unbounded"] = Value::Null;
            class["spec"]["permissionsBoundary"] = json!(fence);
            class["metadata"]["generation"] = json!(2);
        }
        let mut refused = lives::spec_of(&["x"], None);
        refused["trustPolicy"] = json!({ "Version": "2012-10-17", "Statement": [] });
        apply(&world, &refused);
        live(&mut operator, HOUR).await;
        assert_eq!(world.lock().iam.roles["api"].boundary.as_ref(), Some(&fence));
        let told = events(&world, "PutRolePermissionsBoundary");
        assert_eq!((told, calls(&world, "PutRolePermissionsBoundary")), (1, 1), "reads {lag} s late");

        world.lock().change(|iam| iam.roles.get_mut("api").expect("a role").boundary = None);
        live(&mut operator, HOUR).await;
        assert_eq!(world.lock().iam.roles["api"].boundary.as_ref(), Some(&fence), "and held");
        assert_eq!(events(&world, "PutRolePermissionsBoundary"), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_requested_check_takes_no_late_read_for_drift_and_is_answered_at_once_otherwise() {
    let life = lives::owning();
    let world = world(life.iam, life.cluster, 20);
    let mut operator = started(&world, &lives::spec_of(&["x"], None)).await;
    let handled = || world.lock().cluster.role.as_ref().expect("an object")["status"]["lastHandledReconcileAt"].clone();
    let ask = |token: &str| {
        let annotations = json!({ "iamrole.dev/reconcile-requested-at": token });
        world.lock().cluster.role.as_mut().expect("an object")["metadata"]["annotations"] = annotations;
    };
    ask("calm");
    operator.reconcile().await.expect("nobody kills it");
    assert_eq!(handled(), "calm");

    let mut edited = lives::spec_of(&["x"], None);
    edited["inlinePolicies"] = json!([{ "name": "new", "document": lives::allow(&["new:One"]) }]);
    apply(&world, &edited);
    operator.reconcile().await.expect("nobody kills it");
    assert!(world.lock().cluster.is_ready());
    let writes = calls(&world, "PutRolePolicy");
    for second in 1..25 {
        ask(&format!("soon {second}"));
        operator.reconcile().await.expect("nobody kills it");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((calls(&world, "PutRolePolicy"), events(&world, "PutRolePolicy")), (writes, 1));
    live(&mut operator, Duration::from_mins(1)).await;
    assert_eq!(handled(), "soon 24");
    assert!(world.lock().change(|iam| iam.roles.get_mut("api").expect("a role").inline.remove("new")).is_some());
    tokio::time::sleep(Duration::from_secs(40)).await;
    ask("drift");
    operator.reconcile().await.expect("nobody kills it");
    assert_eq!((handled(), calls(&world, "PutRolePolicy")), (json!("drift"), writes + 1));
}

#[tokio::test(start_paused = true)]
async fn a_class_made_anew_with_the_same_generation_is_another_class() {
    let life = lives::owning();
    let world = world(life.iam, life.cluster, 0);
    let mut operator = started(&world, &lives::spec_of(&["x"], None)).await;
    {
        let class = &mut world.lock().cluster.class;
        class["spec"]["tags"] = json!({ "cost": "7" });
        class["metadata"]["uid"] = json!("class-2");
    }
    operator.reconcile().await.expect("nobody kills it");
    live(&mut operator, Duration::from_secs(10)).await;
    assert_eq!(world.lock().iam.roles["api"].tags.get("cost").map(String::as_str), Some("7"));
    let class = world.lock().cluster.role.as_ref().expect("an object")["status"]["class"]["uid"].clone();
    assert_eq!(class, "class-2");
}

/// A spec that was stored before a stricter schema.
fn unreadable(more: &Value) -> Value {
    let mut spec = lives::spec_of(&["x"], None);
    spec["maxSessionDurationSeconds"] = json!("one hour");
    spec.as_object_mut().expect("a spec").extend(more.as_object().expect("fields").clone());
    spec
}

#[tokio::test(start_paused = true)]
async fn what_can_be_read_of_a_spec_that_cannot_be_is_kept_to() {
    let cases = [
        (json!({ "deletionPolicy": "Retain" }), true, true),
        (json!({ "suspend": true }), true, false),
        (json!({ "suspend": "nonsense", "deletionPolicy": "nonsense" }), true, true),
        (json!({ "mode": "Observe" }), true, true),
        (json!({ "deletionPolicy": "Delete" }), false, true),
        (json!({}), false, true),
    ];
    for (more, stays, released) in cases {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, 0);
        let mut operator = started(&world, &lives::spec_of(&["x"], None)).await;
        apply(&world, &unreadable(&more));
        live(&mut operator, Duration::from_mins(10)).await;
        assert!(
            warnings(&world).iter().any(|note| note.contains("can't be read")) || more["suspend"] == true,
            "{more}"
        );
        world.lock().cluster.delete();
        live(&mut operator, Duration::from_mins(10)).await;
        assert_eq!(world.lock().iam.roles.contains_key("api"), stays, "{more}");
        assert_eq!(world.lock().cluster.role.is_none(), released, "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_boundary_is_forced_on_the_role_of_a_spec_that_cannot_be_read_unless_it_is_suspended() {
    for (more, forced) in [(json!({}), true), (json!({ "suspend": true }), false)] {
        let life = lives::owning();
        let world = world(life.iam, life.cluster, 0);
        let mut operator = started(&world, &lives::spec_of(&["x"], None)).await;
        let fence = crate::model::arn("Fence");
        {
            let class = &mut world.lock().cluster.class;
            class["spec"]["unbounded"] = Value::Null;
            class["spec"]["permissionsBoundary"] = json!(fence);
            class["spec"]["allowed"]["suspend"] = json!(true);
            class["metadata"]["generation"] = json!(2);
        }
        apply(&world, &unreadable(&more));
        live(&mut operator, HOUR).await;
        assert_eq!(world.lock().iam.roles["api"].boundary.as_ref() == Some(&fence), forced, "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_principal_that_stays_deleted_costs_ever_fewer_refusals_and_its_return_heals_the_role_by_one_write() {
    const PARTNER: &str = "arn:aws:iam::444455556666:role/partner";
    let life = lives::owning();
    let world = world(life.iam, life.cluster, 0);
    let mut spec = lives::spec_of(&["x"], None);
    spec["trustPolicy"] = lives::trust(&[PARTNER]);
    let mut operator = started(&world, &spec).await;
    let ask = |token: &str| {
        let annotations = json!({ "iamrole.dev/reconcile-requested-at": token });
        world.lock().cluster.role.as_mut().expect("an object")["metadata"]["annotations"] = annotations;
    };
    let update = "UpdateAssumeRolePolicy";
    world.lock().change(|iam| {
        let role = iam.roles.get_mut("api").expect("a role");
        role.trust = role.trust.replace(PARTNER, "AROAEXAMPLEEXAMPLE123");
        iam.gone.insert(PARTNER.to_owned());
    });
    ask("deleted");
    let before = calls(&world, update);
    live(&mut operator, Duration::from_mins(10)).await;
    let soon = calls(&world, update) - before;
    assert!((8..=25).contains(&soon), "most principals come back at once: {soon}");
    live(&mut operator, 24 * HOUR).await;
    let day = calls(&world, update) - before - soon;
    assert!((80..=130).contains(&day), "as often as drift is looked for, four times an hour: {day}");
    assert!(warnings(&world).iter().any(|note| note.contains("AROAEXAMPLEEXAMPLE123")));

    let refused = calls(&world, update);
    ask("once more");
    operator.reconcile().await.expect("nobody kills it");
    assert_eq!(calls(&world, update), refused + 1, "who asks gets an answer at once");
    spec["description"] = json!("edited");
    apply(&world, &spec);
    operator.reconcile().await.expect("nobody kills it");
    assert_eq!(calls(&world, update), refused + 2, "and so an edit");
    live(&mut operator, 5 * HOUR).await;

    world.lock().change(|iam| iam.gone.clear());
    let refused = calls(&world, update);
    live(&mut operator, 2 * HOUR).await;
    assert!(world.lock().cluster.is_ready(), "{:?}", world.lock().cluster.role);
    assert_eq!(calls(&world, update), refused + 1);
}

/// A role whose spec attaches a policy that is not there.
fn failing() -> Value {
    let mut spec = lives::spec_of(&["x"], None);
    spec["managedPolicies"] = json!([crate::model::arn("Missing")]);
    spec
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
    for role_is_gone in [false, true] {
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
        Edit::Lose.apply(&mut world.lock().cluster);
        live(&mut operator, HOUR).await;
        let inner = world.lock();
        assert!(inner.cluster.role.is_none() && !inner.iam.roles.contains_key("api"), "{role_is_gone}");
        let ours = inner.iam.policies.keys().filter(|name| name.starts_with("api"));
        assert_eq!((ours.count(), inner.iam.profiles.len()), (0, 1), "{role_is_gone}");
    }
}
