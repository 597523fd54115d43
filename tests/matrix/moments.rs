//! Single moments in virtual time: what is told how often, and what waits for AWS to settle.

use super::cluster::{Cluster, NAME};
use super::faults::{Fault, Script};
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

pub const HOUR: Duration = Duration::from_hours(1);

/// A world where reads show the state of so long ago.
pub fn world(iam: Iam, cluster: Cluster, lag: u64) -> Arc<World> {
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

pub fn apply(world: &World, spec: &Value) {
    Edit::Apply(spec.clone()).apply(&mut world.lock().cluster);
}

/// Reconciles whenever it is due, for so long.
pub async fn live(operator: &mut Operator, long: Duration) {
    let end = Instant::now() + long;
    while Instant::now() < end {
        let again = operator.reconcile().await.expect("nobody kills it").unwrap_or(HOUR);
        tokio::time::sleep(again.min(end.saturating_duration_since(Instant::now()))).await;
    }
}

pub async fn started(world: &Arc<World>, spec: &Value) -> Operator {
    apply(world, spec);
    let mut operator = Operator::start(world, 0).await;
    live(&mut operator, Duration::from_mins(10)).await;
    assert!(world.lock().cluster.is_ready(), "{:?}", world.lock().cluster.role);
    operator
}

/// How many events name this action, and how many are warnings.
pub fn events(world: &World, action: &str) -> usize {
    world.lock().said.iter().filter(|said| said.action == action).count()
}

pub fn warnings(world: &World) -> Vec<String> {
    world.lock().said.iter().filter(|said| said.is_warning).map(|said| said.note.clone()).collect()
}

pub fn calls(world: &World, what: &str) -> usize {
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
