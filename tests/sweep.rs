//! Drift is found by a walk over the account: a handful of calls for all roles, and what it finds is repaired.

mod support;

use iamrole_operator::api::IamRoleClassSpec;
use iamrole_operator::api::iamroleclass::{DriftCheck, DriftMethod, IamRoleClassStatus};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use support::proxy::Fault;
use support::{SOON, World, allow, aws, ec2, eventually, stays, trust, version};

/// Longer than it takes until an own write may not be seen any more, and then a walk.
const SETTLED: Duration = Duration::from_mins(1);
const BOUNDARY: &str = "arn:aws:iam::aws:policy/PowerUserAccess";

async fn world(seconds: i32) -> World {
    let method = Some(DriftMethod::Account);
    World::with_class("sweep", |class| {
        class.drift_check = Some(DriftCheck { interval_seconds: Some(seconds), method });
    })
    .await
}

fn everything() -> Value {
    json!({
        "description": "d", "maxSessionDurationSeconds": 7200, "tags": { "Owner": "msb" }, "trustPolicy": ec2(),
        "permissionsBoundary": BOUNDARY, "managedPolicies": ["ReadOnlyAccess"], "instanceProfile": {},
        "inlinePolicies": [{ "name": "inline", "document": allow("s3:GetObject") }],
        "customerManagedPolicies": [{ "name": "own", "document": allow("ec2:*") }],
    })
}

async fn class_status(world: &World) -> IamRoleClassStatus {
    world.classes().get(&world.namespace).await.expect("the class").status.unwrap_or_default()
}

fn count(world: &World, action: &str) -> usize {
    world.proxy.actions().iter().filter(|seen| *seen == action).count()
}

/// Calls by action, without those by which the class looks at its account.
fn calls(world: &World) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for action in world.proxy.actions() {
        if !["GetCallerIdentity", "GetAccountSummary"].contains(&action.as_str()) {
            *calls.entry(action).or_insert(0) += 1;
        }
    }
    calls
}

#[tokio::test]
async fn a_walk_costs_the_same_for_one_role_and_for_many_and_writes_nothing() {
    let mut world = world(5).await;
    let mut names = Vec::new();
    for roles in [1, 12] {
        for i in names.len()..roles {
            let name = format!("role-{i}");
            world.create(&name, everything()).await;
            names.push(name);
        }
        let mut versions = BTreeMap::new();
        for name in &names {
            versions.insert(name.clone(), version(&world.ready(name).await));
        }
        // From here on nobody has written a moment ago.
        world.operator.restart().await;
        world.proxy.forget();
        let walks = || count(&world, "ListPolicies");
        assert!(eventually(2 * SOON, || async { walks() >= 4 }).await, "{:?}\n{}", calls(&world), world.operator.log());
        let walks = walks();
        let seen = calls(&world);
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["GetAccountAuthorizationDetails", "ListPolicies", "ListRoles"]);
        // The SDK asks twice where an answer takes too long, and that has nothing to do with the number of roles.
        assert!(seen.values().all(|calls| (walks - 1..=2 * walks).contains(calls)), "{roles} roles: {seen:?}");
        for (name, before) in versions {
            assert_eq!(version(&world.get(&name).await), before, "{name}");
        }
    }
    let class = world.classes().get(&world.namespace).await.expect("the class");
    assert_eq!(class.status.as_ref().and_then(|status| status.drift_check_method), Some(DriftMethod::Account));
    assert!(
        stays(Duration::from_secs(6), || async { version_of(&world).await == class.metadata.resource_version }).await
    );
}

async fn version_of(world: &World) -> Option<String> {
    world.classes().get(&world.namespace).await.expect("the class").metadata.resource_version
}

/// What somebody may do to a role behind the operator's back, and what undoes it.
async fn change(world: &World, role: &str, what: &str) {
    let iam = &world.iam;
    match what {
        "UpdateRole" => drop(iam.update_role().role_name(role).description("x").send().await.expect(what)),
        "TagRole" => aws::tag_role(iam, role, &[("Owner", "mallory")]).await,
        "PutRolePolicy" => aws::put_inline(iam, role, "inline", &allow("*")).await,
        "DeleteRolePolicy" => aws::put_inline(iam, role, "more", &allow("*")).await,
        "AttachRolePolicy" => {
            let call = iam.detach_role_policy().role_name(role).policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess");
            call.send().await.expect(what);
        }
        "DetachRolePolicy" => {
            let call = iam.attach_role_policy().role_name(role);
            call.policy_arn("arn:aws:iam::aws:policy/AdministratorAccess").send().await.expect(what);
        }
        "UpdateAssumeRolePolicy" => {
            let document = trust(&json!({ "AWS": "arn:aws:iam::210987654321:root" })).to_string();
            iam.update_assume_role_policy().role_name(role).policy_document(document).send().await.expect(what);
        }
        "PutRolePermissionsBoundary" => {
            iam.delete_role_permissions_boundary().role_name(role).send().await.expect(what);
        }
        "CreatePolicyVersion" => {
            let call = iam.create_policy_version().policy_arn(format!("arn:aws:iam::123456789012:policy/{role}.own"));
            call.policy_document(allow("*").to_string()).set_as_default(true).send().await.expect(what);
        }
        "AddRoleToInstanceProfile" => {
            let call = iam.remove_role_from_instance_profile().role_name(role).instance_profile_name(role);
            call.send().await.expect(what);
        }
        "CreateRole" => {
            let call = iam.remove_role_from_instance_profile().role_name(role).instance_profile_name(role);
            call.send().await.expect(what);
            aws::delete_role(iam, role).await;
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn whatever_was_changed_by_hand_is_found_by_the_walk_and_repaired() {
    const CHANGES: [&str; 11] = [
        "UpdateRole",
        "TagRole",
        "PutRolePolicy",
        "DeleteRolePolicy",
        "AttachRolePolicy",
        "DetachRolePolicy",
        "UpdateAssumeRolePolicy",
        "PutRolePermissionsBoundary",
        "CreatePolicyVersion",
        "AddRoleToInstanceProfile",
        "CreateRole",
    ];
    let mut world = world(5).await;
    for what in CHANGES {
        world.create(&what.to_lowercase(), everything()).await;
    }
    world.create("untouched", everything()).await;
    let mut before = BTreeMap::new();
    for what in CHANGES {
        let name = what.to_lowercase();
        world.ready(&name).await;
        before.insert(name.clone(), aws::role(&world.iam, &world.templated(&name)).await.expect("the role"));
    }
    world.ready("untouched").await;
    world.operator.kill().await;
    for what in CHANGES {
        change(&world, &world.templated(&what.to_lowercase()), what).await;
    }
    world.proxy.forget();
    world.operator.start().await;
    for what in CHANGES {
        let name = what.to_lowercase();
        let as_before = || async {
            let after = aws::role(&world.iam, &world.templated(&name)).await;
            after.is_some_and(|after| aws::Role { id: before[&name].id.clone(), ..after } == before[&name])
        };
        assert!(eventually(SETTLED, as_before).await, "{what}\n{}", world.operator.log());
        let told = || async { world.events(&name).await.iter().any(|(_, reason, _)| reason == "DriftRepaired") };
        assert!(eventually(SOON, told).await, "{what}: {:?}", world.events(&name).await);
        assert!(count(&world, what) >= 1, "{what}: {:?}", world.proxy.actions());
    }
    let read: Vec<_> = world.proxy.calls().into_iter().filter(|call| call.action == "GetRole").collect();
    let untouched = world.templated("untouched");
    assert!(read.iter().all(|call| call.parameters["RoleName"] != untouched), "only suspects are read: {read:?}");
}

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
    let mut world = World::without_operator("sweep", |class| {
        class.drift_check = Some(DriftCheck { interval_seconds: Some(5), method: Some(DriftMethod::Account) });
    })
    .await;
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
    assert!(
        stays(Duration::from_secs(20), || async { told(&world).await.is_empty() }).await,
        "{:?}",
        told(&world).await
    );
    assert!(walks() >= before + 2, "{} walks have shown it", walks() - before);
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
async fn where_the_walk_is_not_permitted_each_role_is_read_and_the_class_tells() {
    let mut world = world(5).await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    world.proxy.refuse("GetAccountAuthorizationDetails", "", 403, "AccessDenied", "not authorized");
    world.operator.restart().await;
    let told = || async { class_status(&world).await.drift_check_method == Some(DriftMethod::Role) };
    assert!(eventually(2 * SOON, told).await, "{:?}\n{}", class_status(&world).await, world.operator.log());
    world.proxy.forget();
    assert!(eventually(SOON, || async { count(&world, "GetRole") >= 2 }).await, "{:?}", world.proxy.actions());
    assert_eq!(count(&world, "GetAccountAuthorizationDetails"), 0, "not asked again and again");
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
        class.drift_check = Some(DriftCheck { interval_seconds: Some(5), method: Some(DriftMethod::Role) });
    })
    .await;
    let (read, suspended, walked) =
        (world.namespace.clone(), format!("{}-a", world.namespace), format!("{}-b", world.namespace));
    let mut spec = world.classes().get(&read).await.expect("the class").spec;
    spec.drift_check = Some(DriftCheck { interval_seconds: Some(5), method: Some(DriftMethod::Account) });
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
async fn a_walk_that_breaks_off_judges_nobody_and_is_done_again() {
    let mut world = world(5).await;
    world.create("app", everything()).await;
    let ready = world.ready("app").await;
    world.operator.kill().await;
    world.proxy.forget();
    world.proxy.fault("GetAccountAuthorizationDetails", "", 3, Fault::Refuse(500, "InternalFailure", "broken".into()));
    world.operator.start().await;
    let whole = || async { count(&world, "ListPolicies") >= 2 };
    assert!(eventually(2 * SOON, whole).await, "{:?}\n{}", calls(&world), world.operator.log());
    assert_eq!(count(&world, "GetRole"), 0, "{:?}", calls(&world));
    assert_eq!(version(&world.get("app").await), version(&ready));
}

#[tokio::test]
async fn a_version_of_the_same_meaning_is_looked_at_once() {
    let mut world = world(5).await;
    world.create("app", everything()).await;
    world.ready("app").await;
    world.operator.kill().await;
    let arn = format!("arn:aws:iam::123456789012:policy/{}.own", world.templated("app"));
    let same =
        json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow", "Action": ["ec2:*"], "Resource": ["*"] } });
    let call = world.iam.create_policy_version().policy_arn(&arn).policy_document(same.to_string());
    call.set_as_default(true).send().await.expect("a version");
    world.proxy.forget();
    world.operator.start().await;
    assert!(eventually(SETTLED, || async { count(&world, "GetPolicyVersion") >= 1 }).await, "{}", world.operator.log());
    let knows = || async {
        let status = world.status("app").await;
        status.customer_managed_policies[0].version.as_deref() == Some("v2")
    };
    assert!(eventually(SETTLED, knows).await, "{:?}\n{}", world.status("app").await, world.operator.log());
    let reads = count(&world, "GetRole");
    let walks = count(&world, "ListPolicies");
    assert!(eventually(2 * SOON, || async { count(&world, "ListPolicies") >= walks + 3 }).await);
    assert_eq!(count(&world, "GetRole"), reads, "it is no suspect any more");
    assert_eq!(world.proxy.writes(), [""; 0]);
}

#[tokio::test]
async fn whoever_else_says_that_a_role_is_his_hides_no_drift() {
    let mut world = world(5).await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    let role = world.ready("app").await.status.and_then(|status| status.role).expect("a role");
    world.create("forger", json!({ "trustPolicy": ec2() })).await;
    world.ready("forger").await;
    let own = world.status("forger").await.role.expect("a role");
    world.operator.kill().await;
    // Of equal name and id, and in other case; the second by a name that sorts before.
    let forged = json!({ "status": { "role": {
        "name": role.name.to_uppercase(), "path": role.path, "id": role.id, "arn": role.arn, "origin": "Created",
    } } });
    world.roles().patch_status("forger", &PatchParams::default(), &Patch::Merge(forged)).await.expect("a status");
    change(&world, &role.name, "DetachRolePolicy").await;
    change(&world, &own.name, "DetachRolePolicy").await;
    world.operator.start().await;
    for name in [&role.name, &own.name] {
        let back = || async { aws::role(&world.iam, name).await.is_some_and(|role| role.attached.is_empty()) };
        assert!(eventually(SETTLED, back).await, "{name}: {}", world.operator.log());
    }
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
    const SETTLE: Duration = Duration::from_secs(15);
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
    world.operator.settle = "15s";
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
    let mut world = World::without_operator("sweep", |class| {
        class.drift_check = Some(DriftCheck { interval_seconds: Some(5), method: Some(DriftMethod::Account) });
    })
    .await;
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
        class.drift_check = Some(DriftCheck { interval_seconds: Some(5), method: None });
        change(class);
    })
    .await;
    let stray = format!("{}-stray", world.namespace);
    let tags = world.owner_tags("gone", "Created").await;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let call = world.iam.create_role().role_name(&stray).assume_role_policy_document(ec2().to_string());
    call.send().await.expect("a role");
    aws::tag_role(&world.iam, &stray, &tags).await;
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
            class.drift_check = Some(DriftCheck { interval_seconds: Some(5), method: Some(method) });
        })
        .await;
    }
}

#[tokio::test]
async fn who_labels_an_object_all_the_time_does_not_put_off_its_repair() {
    let world = world(20).await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    let role = world.templated("app");
    let walks = || count(&world, "GetAccountAuthorizationDetails");
    let label = |i: usize| {
        let patch = json!({ "metadata": { "labels": { "i": i.to_string() } } });
        let world = &world;
        async move { world.patch_object("app", patch).await.expect("a label") }
    };
    let labelled = std::sync::atomic::AtomicUsize::new(0);
    let next = || labelled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let before = walks();
    let walked = eventually(Duration::from_mins(1), || async {
        label(next()).await;
        walks() > before
    });
    assert!(walked.await);
    change(&world, &role, "DetachRolePolicy").await;
    let changed = std::time::Instant::now();
    let back = eventually(Duration::from_mins(1), || async {
        label(next()).await;
        aws::role(&world.iam, &role).await.is_some_and(|role| role.attached.is_empty())
    });
    assert!(back.await, "{}", world.operator.log());
    // By itself it would be looked at after two intervals, less a quarter.
    assert!(changed.elapsed() < Duration::from_secs(27), "{:?}", changed.elapsed());
}
