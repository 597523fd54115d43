//! What a new process reads where no walk over the account is for its roles.

use super::lives;
use super::moments::{HOUR, apply, calls, live, started, world};
use super::operator::Operator;
use super::world::World;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How often drift is looked for where the class does not tell.
const INTERVAL: Duration = Duration::from_mins(15);

type Change<'a> = &'a dyn Fn(&World);

async fn settled() -> Arc<World> {
    let life = lives::owning();
    let world = world(life.iam, life.cluster, 0);
    drop(started(&world, &lives::spec_of(&["x"], None)).await);
    world
}

/// The first look of a new process at the object: the calls to read the role, and when the next look is.
async fn first_look(world: &Arc<World>, run: usize) -> (usize, Duration) {
    let before = calls(world, "GetRole");
    let mut operator = Operator::begin(world, run).await;
    let again = operator.reconcile().await.expect("nobody kills it").expect("another look");
    (calls(world, "GetRole") - before, again)
}

#[tokio::test(start_paused = true)]
async fn settled_roles_are_read_one_after_another_within_an_interval() {
    let world = settled().await;
    let writes = world.lock().writes;
    let mut nexts = Vec::new();
    for run in 0..40 {
        let (reads, next) = first_look(&world, run).await;
        assert_eq!(reads, 0, "of many roles each is read at another time");
        nexts.push(next);
    }
    nexts.sort();
    assert!(nexts[0] < INTERVAL / 3 && nexts[20] > INTERVAL / 6 && nexts[39] > INTERVAL * 2 / 3, "{nexts:?}");
    assert!(nexts[39] <= INTERVAL, "{nexts:?}");
    assert_eq!(world.lock().writes, writes);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changed_while_no_process_ran_is_found_within_an_interval() {
    for run in 0..10 {
        let world = settled().await;
        world.lock().change(|iam| iam.roles.get_mut("api").expect("a role").description = "drift".to_owned());
        let mut operator = Operator::begin(&world, run).await;
        live(&mut operator, INTERVAL).await;
        assert_eq!(world.lock().iam.roles["api"].description, "", "{run}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_not_settled_is_read_at_once() {
    let part = |world: &World, path: &str, change: &dyn Fn(&mut Value)| {
        let role = &mut world.lock().cluster.role;
        change(role.as_mut().expect("an object").pointer_mut(path).expect(path));
    };
    let ask = |world: &World| {
        let annotations = json!({ "iamrole.dev/reconcile-requested-at": "now" });
        world.lock().cluster.role.as_mut().expect("an object")["metadata"]["annotations"] = annotations;
    };
    let is_ready = |one: &&mut Value| one["type"] == "Ready";
    let fails = |all: &mut Value| {
        let ready = all.as_array_mut().expect("a list").iter_mut().find(is_ready);
        ready.expect("a condition")["status"] = json!("False");
    };
    let more = |all: &mut Value| {
        let mut left = all[0].clone();
        (left["name"], left["arn"]) = (json!("left"), json!(crate::model::arn("api-left")));
        all.as_array_mut().expect("a list").push(left);
    };
    let cases: [(&str, Change<'_>); 5] = [
        ("edited", &|world| apply(world, &lives::spec_of(&["x", "y"], None))),
        ("asked for a check", &ask),
        ("not Ready", &|world| part(world, "/status/conditions", &fails)),
        ("of another class", &|world| part(world, "/status/class/uid", &|uid| *uid = json!("other"))),
        ("with something of an earlier spec", &|world| part(world, "/status/customerManagedPolicies", &more)),
    ];
    for (what, change) in cases {
        let world = settled().await;
        change(&world);
        let (reads, _) = first_look(&world, 0).await;
        assert!(reads > 0, "{what}: {:?}", world.lock().cluster.role);
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_that_was_read_is_read_again_after_an_interval_and_not_sooner() {
    let world = settled().await;
    let mut operator = Operator::begin(&world, 0).await;
    live(&mut operator, INTERVAL).await;
    let before = calls(&world, "GetRole");
    live(&mut operator, HOUR).await;
    assert!((4..=6).contains(&(calls(&world, "GetRole") - before)));
}
