//! Roles of nobody: found by walks over the account, confirmed, told once, and never deleted.

mod support;
mod walks;

use iamrole_operator::api::IamRoleClassSpec;
use iamrole_operator::api::iamroleclass::DriftMethod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use support::proxy::Fault;
use support::{SOON, World, aws, each_by_itself, ec2, eventually, every, stays};
use walks::{SETTLED, calls, class_status, count, each, stopped, world};

#[tokio::test]
async fn roles_of_nobody_are_told_and_left_alone() {
    let world = world(5).await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    let stray = format!("{}-stray", world.namespace);
    let tags = world.owner_tags("gone", "Created").await;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let document = ec2().to_string();
    world.iam.create_role().role_name(&stray).assume_role_policy_document(document).send().await.expect("a role");
    aws::tag_role(&world.iam, &stray, &tags).await;
    // Of another namespace, which this operator does not watch.
    let elsewhere = format!("{}-elsewhere", world.namespace);
    let document = ec2().to_string();
    world.iam.create_role().role_name(&elsewhere).assume_role_policy_document(document).send().await.expect("a role");
    let mut other = tags.clone();
    other[1].1 = "another-namespace";
    aws::tag_role(&world.iam, &elsewhere, &other).await;

    let told = || async { class_status(&world).await.orphaned_roles == [stray.clone()] };
    assert!(eventually(SETTLED, told).await, "{:?}\n{}", class_status(&world).await, world.operator.log());
    let events = || async { events_of_class(&world).await };
    assert!(eventually(SOON, || async { events().await.len() == 1 }).await, "{:?}", events().await);
    assert!(events().await[0].contains(&stray), "{:?}", events().await);
    let (status, metrics) = world.operator.get("/metrics").await.expect("metrics");
    assert!(status == 200 && metrics.contains("iamrole_orphaned_roles{account=\"123456789012\"} 1"), "{metrics}");

    let walks = count(&world, "ListRoles");
    assert!(eventually(SOON, || async { count(&world, "ListRoles") >= walks + 2 }).await);
    assert_eq!(events().await.len(), 1, "once");
    assert!(aws::role(&world.iam, &stray).await.is_some(), "it is not ours to delete");
    aws::delete_role(&world.iam, &stray).await;
    let forgotten = || async { class_status(&world).await.orphaned_roles.is_empty() };
    assert!(eventually(SOON, forgotten).await, "{:?}", class_status(&world).await);
    aws::delete_role(&world.iam, &elsewhere).await;
}

#[tokio::test]
async fn what_we_deleted_and_reads_go_on_to_show_is_no_role_of_nobody() {
    let mut world = stopped(5).await;
    world.operator.settle = "30s";
    world.operator.start().await;
    let names = ["by-us", "before-us"];
    for name in names {
        world.create(name, json!({ "trustPolicy": ec2() })).await;
        world.ready(name).await;
    }
    world.proxy.fault("DeleteRole", "", usize::MAX, Fault::Pretend);
    let walks = || count(&world, "GetAccountAuthorizationDetails");
    // Soon after the start nothing would be told anyway.
    assert!(stays(Duration::from_secs(31), || async { told(&world).await.is_empty() }).await);
    world.delete(names[0]).await;
    world.gone(names[0]).await;
    let before = walks();
    let shown = eventually(SETTLED, || async {
        let told = told(&world).await;
        assert!(told.is_empty(), "{told:?}");
        walks() >= before + 4
    });
    assert!(shown.await, "{} walks have shown it", walks() - before);
    world.delete(names[1]).await;
    world.gone(names[1]).await;
    world.operator.restart().await;
    let quiet = stays(Duration::from_secs(15), || async { told(&world).await.is_empty() }).await;
    assert!(quiet, "{:?}\n{}", told(&world).await, world.operator.log());
    // By now AWS shows that one of them is gone; that the other is there after all is told once nothing can be late.
    aws::delete_role(&world.iam, &world.templated(names[1])).await;
    let left = || async { told(&world).await == [world.templated(names[0])] };
    assert!(eventually(SETTLED, left).await, "{:?}\n{}", told(&world).await, world.operator.log());
    aws::delete_role(&world.iam, &world.templated(names[0])).await;
}

/// A role with this cluster's tags and those of an object that is no more.
async fn make_stray(world: &World, name: &str) {
    let tags = world.owner_tags("gone", "Created").await;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let call = world.iam.create_role().role_name(name).assume_role_policy_document(ec2().to_string());
    call.send().await.expect("a role");
    aws::tag_role(&world.iam, name, &tags).await;
}

async fn told(world: &World) -> Vec<String> {
    class_status(world).await.orphaned_roles
}

async fn events_of_class(world: &World) -> Vec<String> {
    events_of(world, &world.namespace).await
}

async fn events_of(world: &World, class: &str) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let events = api.list(&ListParams::default()).await.expect("events").items.into_iter();
    let about = |event: &Event| event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(class);
    let orphans = events.filter(about).filter(|event| event.reason.as_deref() == Some("OrphanedRoles"));
    orphans.map(|event| event.note.unwrap_or_default()).collect()
}

#[tokio::test]
async fn what_was_told_of_roles_of_nobody_stands_where_the_walk_is_not_permitted_any_more() {
    let mut world = world(5).await;
    let stray = format!("{}-stray", world.namespace);
    make_stray(&world, &stray).await;
    let is_told = || async { told(&world).await == [stray.clone()] };
    assert!(eventually(SETTLED, is_told).await, "{:?}\n{}", class_status(&world).await, world.operator.log());
    world.operator.stop().await;
    world.proxy.refuse("GetAccountAuthorizationDetails", "", 403, "AccessDenied", "not authorized");
    world.operator.start().await;
    let denied = || async { class_status(&world).await.drift_check_method == Some(DriftMethod::Role) };
    assert!(eventually(2 * SOON, denied).await, "{:?}\n{}", class_status(&world).await, world.operator.log());
    let is_told = || async { told(&world).await == [stray.clone()] };
    assert!(stays(Duration::from_secs(6), is_told).await, "nobody has looked: {:?}", class_status(&world).await);
    assert_eq!(events_of_class(&world).await.len(), 1, "{:?}", events_of_class(&world).await);
    aws::delete_role(&world.iam, &stray).await;
}

/// Of the classes that have the account walked, and not of all.
#[tokio::test]
async fn the_first_class_that_walks_tells_of_roles_of_nobody_whatever_comes_before_it() {
    let mut world = World::without_operator("sweep", |class| {
        class.drift_check = each_by_itself(5);
    })
    .await;
    let (read, suspended, walked) =
        (world.namespace.clone(), format!("{}-a", world.namespace), format!("{}-b", world.namespace));
    let mut spec = world.classes().get(&read).await.expect("the class").spec;
    spec.drift_check = Some(each(5, DriftMethod::Account));
    world.create_class(&suspended, IamRoleClassSpec { suspend: Some(true), ..spec.clone() }, false).await;
    world.create_class(&walked, spec, false).await;
    let stray = format!("{}-stray", world.namespace);
    make_stray(&world, &stray).await;
    let classes = world.classes();
    let tells = |class: &str| {
        let (classes, class) = (classes.clone(), class.to_owned());
        async move { classes.get(&class).await.expect("the class").status.unwrap_or_default().orphaned_roles }
    };
    world.operator.start().await;
    let is_told = || async { tells(&walked).await == [stray.clone()] };
    assert!(eventually(SETTLED, is_told).await, "{}", world.operator.log());

    // Nobody has anything else to tell after a restart, also where AWS takes its time.
    world.operator.stop().await;
    world.proxy.forget();
    world.proxy.fault("GetAccountSummary", "", 9, Fault::Refuse(503, "ServiceUnavailable", "come back later".into()));
    world.operator.start().await;
    let told = || async { tells(&walked).await == [stray.clone()] };
    let walks = || async { count(&world, "GetAccountAuthorizationDetails") >= 2 };
    let lasts = || async { !told().await || walks().await };
    assert!(eventually(SETTLED, lasts).await && told().await, "{:?}\n{}", tells(&walked).await, world.operator.log());
    assert!(stays(Duration::from_secs(3), told).await, "{:?}", tells(&walked).await);
    for other in [&read, &suspended] {
        assert_eq!((tells(other).await, events_of(&world, other).await), (vec![], vec![]), "{other}");
    }
    assert_eq!(events_of(&world, &walked).await.len(), 1, "{:?}", events_of(&world, &walked).await);

    // Whoever is the first by now tells at once: the next walk is far away.
    let patch = |class: &str, spec: Value| {
        let (classes, class) = (classes.clone(), class.to_owned());
        let patch = Patch::Merge(json!({ "spec": spec }));
        async move { classes.patch(&class, &PatchParams::default(), &patch).await.expect("a class") }
    };
    for class in [&suspended, &walked] {
        patch(class, json!({ "driftCheck": { "intervalSeconds": 3600 } })).await;
    }
    let before = count(&world, "GetAccountAuthorizationDetails");
    assert!(eventually(SOON, || async { count(&world, "GetAccountAuthorizationDetails") > before }).await);
    for (suspend, first) in [(false, &suspended), (true, &walked)] {
        patch(&suspended, json!({ "suspend": suspend })).await;
        let is_told = || async { tells(first).await == [stray.clone()] };
        assert!(eventually(SOON, is_told).await, "{first}: {:?}\n{}", tells(first).await, world.operator.log());
    }
    aws::delete_role(&world.iam, &stray).await;
}

#[tokio::test]
async fn a_role_of_nobody_that_cannot_be_read_hides_no_other() {
    let world = world(5).await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    let tags = world.owner_tags("gone", "Created").await;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let names = ["a-denied", "b-stray"].map(|name| format!("{}-{name}", world.namespace));
    world.proxy.refuse("GetRole", &names[0], 403, "AccessDenied", "not authorized");
    for name in &names {
        let call = world.iam.create_role().role_name(name).assume_role_policy_document(ec2().to_string());
        call.send().await.expect("a role");
        aws::tag_role(&world.iam, name, &tags).await;
    }
    let told = || async { class_status(&world).await.orphaned_roles == [names[1].clone()] };
    assert!(eventually(SETTLED, told).await, "{:?}\n{}", class_status(&world).await, world.operator.log());
    assert_eq!(class_status(&world).await.orphaned_role_count, Some(1));
    for name in &names {
        aws::delete_role(&world.iam, name).await;
    }
}

/// It is waited for, since the process before may have deleted it; the walks go on meanwhile, so that no other role is due.
#[tokio::test]
async fn a_role_of_nobody_that_is_new_at_a_restart_has_no_other_role_read() {
    const SETTLE: Duration = Duration::from_secs(30);
    let mut world = world(5).await;
    for i in 0..5 {
        world.create(&format!("role-{i}"), json!({ "trustPolicy": ec2() })).await;
    }
    for i in 0..5 {
        world.ready(&format!("role-{i}")).await;
    }
    world.operator.stop().await;
    let stray = format!("{}-stray", world.namespace);
    make_stray(&world, &stray).await;
    world.operator.settle = "30s";
    world.proxy.forget();
    let started = std::time::Instant::now();
    world.operator.start().await;
    let is_told = || async { told(&world).await == [stray.clone()] };
    assert!(eventually(SETTLED, is_told).await, "{:?}\n{}", class_status(&world).await, world.operator.log());
    assert!(started.elapsed() >= SETTLE, "{:?}", started.elapsed());
    assert!(count(&world, "GetAccountAuthorizationDetails") >= 3, "{:?}", calls(&world));
    let read = || {
        let read = world.proxy.calls().into_iter().filter(|call| call.action == "GetRole");
        read.map(|call| call.parameters["RoleName"].clone()).collect::<Vec<String>>()
    };
    // So long a settled role waits for the first walk after a start, and then looks whether it was shown.
    let others = || async { read().iter().all(|name| *name == stray) };
    assert!(stays(Duration::from_mins(2).saturating_sub(started.elapsed()), others).await, "{:?}", read());
    assert!(!read().is_empty());
    aws::delete_role(&world.iam, &stray).await;
}

/// Status names twenty of them and says how many there are; neither a walk nor a restart makes news of that.
#[tokio::test]
async fn many_roles_of_nobody_are_counted_at_once_and_told_once() {
    const MANY: usize = 25;
    let mut world = stopped(5).await;
    let tags = world.owner_tags("gone", "Created").await;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let names: Vec<String> = (0..MANY).map(|i| format!("{}-stray-{i:02}", world.namespace)).collect();
    for name in &names {
        let call = world.iam.create_role().role_name(name).assume_role_policy_document(ec2().to_string());
        call.send().await.expect("a role");
        aws::tag_role(&world.iam, name, &tags).await;
    }
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.operator.start().await;
    world.ready("app").await;
    let counted = || async { class_status(&world).await.orphaned_role_count == Some(i32::try_from(MANY).unwrap()) };
    assert!(eventually(SETTLED, counted).await, "{:?}\n{}", class_status(&world).await, world.operator.log());
    world.operator.stop().await;
    world.proxy.forget();
    world.operator.start().await;
    let walked = || async { count(&world, "GetAccountAuthorizationDetails") >= 3 };
    let same = || async { class_status(&world).await.orphaned_role_count == Some(i32::try_from(MANY).unwrap()) };
    assert!(eventually(SETTLED, walked).await && same().await, "{:?}", class_status(&world).await);
    assert_eq!(count(&world, "GetRole"), 0, "as many as before, with those that status names");
    assert_eq!(events_of_class(&world).await.len(), 1, "{:?}", events_of_class(&world).await);
    for name in &names {
        aws::delete_role(&world.iam, name).await;
    }
}

/// Where the roles are read one by one, a walk looks for roles of nobody all the same, and seldom.
async fn is_told_where_roles_are_read(change: impl FnOnce(&mut IamRoleClassSpec)) {
    let mut world = World::without_operator("sweep", |class| {
        class.drift_check = every(5);
        change(class);
    })
    .await;
    let stray = format!("{}-stray", world.namespace);
    let tags = world.owner_tags("gone", "Created").await;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let call = world.iam.create_role().role_name(&stray).assume_role_policy_document(ec2().to_string());
    call.send().await.expect("a role");
    aws::tag_role(&world.iam, &stray, &tags).await;
    // All attempts of the first call: a bad moment does not put it off to the next of the rare walks.
    world.proxy.fault("GetRole", &stray, 3, Fault::Refuse(500, "InternalFailure", "broken".into()));
    world.operator.start().await;
    let told = || async { class_status(&world).await.orphaned_roles == [stray.clone()] };
    assert!(eventually(SETTLED, told).await, "{:?}\n{}", class_status(&world).await, world.operator.log());
    assert_eq!(class_status(&world).await.drift_check_method, Some(DriftMethod::Role));
    let walks = count(&world, "ListRoles");
    assert!(stays(Duration::from_secs(12), || async { count(&world, "ListRoles") == walks }).await, "seldom");

    // What was told stands over a restart, and is no news.
    world.operator.stop().await;
    world.proxy.forget();
    world.operator.start().await;
    let told = || async { class_status(&world).await.orphaned_roles == [stray.clone()] };
    assert!(stays(Duration::from_secs(3), told).await, "{:?}", class_status(&world).await);
    let walked = || async { count(&world, "GetAccountAuthorizationDetails") >= 1 };
    assert!(eventually(SETTLED, walked).await, "{:?}", world.proxy.actions());
    assert!(stays(Duration::from_secs(3), told).await, "{:?}", class_status(&world).await);
    assert_eq!(count(&world, "GetRole"), 0, "it is one of those that status names");
    assert_eq!(events_of_class(&world).await.len(), 1, "{:?}", events_of_class(&world).await);
    aws::delete_role(&world.iam, &stray).await;
}

#[tokio::test]
async fn where_reading_is_cheaper_a_walk_looks_for_roles_of_nobody_all_the_same() {
    // There is no role at all, so reading all of them costs nothing.
    is_told_where_roles_are_read(|_| {}).await;
}

#[tokio::test]
async fn where_associations_are_made_a_walk_looks_for_roles_of_nobody_all_the_same() {
    for method in [DriftMethod::Auto, DriftMethod::Account] {
        is_told_where_roles_are_read(|class| {
            let managed = json!({ "mechanism": "PodIdentity", "podIdentity": { "associations": "Managed" } });
            class.workload_identity = Some(serde_json::from_value(managed).expect("a setting"));
            class.drift_check = Some(each(5, method));
        })
        .await;
    }
}
