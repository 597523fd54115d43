//! Drift is found by a walk over the account: a handful of calls for all roles, and what it finds is repaired.

mod support;
mod walks;

use futures::StreamExt as _;
use iamrole_operator::api::IamRoleClassSpec;
use iamrole_operator::api::iamroleclass::DriftMethod;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::proxy::Fault;
use support::{SOON, World, allow, aws, ec2, eventually, stays, trust, version};
use walks::{SETTLED, calls, class_status, count, each, world};

const BOUNDARY: &str = "arn:aws:iam::aws:policy/PowerUserAccess";

fn everything() -> Value {
    json!({
        "description": "d", "maxSessionDurationSeconds": 7200, "tags": { "Owner": "msb" }, "trustPolicy": ec2(),
        "permissionsBoundary": BOUNDARY, "managedPolicies": ["ReadOnlyAccess"], "instanceProfile": {},
        "inlinePolicies": [{ "name": "inline", "document": allow("s3:GetObject") }],
        "customerManagedPolicies": [{ "name": "own", "document": allow("ec2:*") }],
    })
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

/// Four walks that break off: by then each role would have read itself, before the walk that ends it.
#[tokio::test]
async fn minutes_in_which_walks_break_off_after_a_restart_have_no_role_read() {
    const WALK: &str = "GetAccountAuthorizationDetails";
    let mut world = world(900).await;
    let names: Vec<String> = (0..12).map(|i| format!("role-{i}")).collect();
    for name in &names {
        world.create(name, json!({ "trustPolicy": ec2() })).await;
    }
    for name in &names {
        world.ready(name).await;
    }
    world.operator.kill().await;
    world.proxy.forget();
    // Each walk tries three times.
    world.proxy.fault(WALK, "", 12, Fault::Refuse(500, "InternalFailure", "broken".into()));
    world.operator.start().await;
    let broken = || async { count(&world, WALK) >= 12 };
    assert!(eventually(Duration::from_mins(3), broken).await, "{:?}\n{}", calls(&world), world.operator.log());
    assert_eq!(count(&world, "GetRole"), 0, "{:?}", calls(&world));
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
    let seen = walks();
    let back = eventually(Duration::from_mins(1), || async {
        label(next()).await;
        aws::role(&world.iam, &role).await.is_some_and(|role| role.attached.is_empty())
    });
    assert!(back.await, "{}", world.operator.log());
    // By a walk that was under way, or the next one; by itself it would be looked at after minutes.
    assert!(walks() <= seen + 2, "{} walks", walks() - seen);
}

/// How drift is looked for, as the class says it from now on, one after the other: a watch sees also what is told for a
/// moment only.
async fn methods(world: &World) -> Arc<Mutex<Vec<DriftMethod>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let class = world.classes().get(&world.namespace).await.expect("the class");
    let params = WatchParams::default().fields(&format!("metadata.name={}", world.namespace));
    let events = world
        .classes()
        .watch(&params, &class.metadata.resource_version.clone().unwrap_or_default())
        .await
        .expect("a watch");
    let seen = told.clone();
    tokio::spawn(events.for_each(move |event| {
        if let Ok(WatchEvent::Modified(class)) = event {
            let method = class.status.and_then(|status| status.drift_check_method);
            let mut seen = seen.lock().unwrap();
            if method.is_some() && seen.last() != method.as_ref() {
                seen.extend(method);
            }
        }
        futures::future::ready(())
    }));
    told
}

#[tokio::test]
async fn in_an_account_that_does_not_tell_its_size_the_first_walk_tells_whether_another_is_worth_it() {
    let auto = |class: &mut IamRoleClassSpec| class.drift_check = Some(each(5, DriftMethod::Auto));
    let mut world = World::without_operator("sweep", auto).await;
    world.proxy.refuse("GetAccountSummary", "", 403, "AccessDenied", "not authorized");
    let told = methods(&world).await;
    world.operator.start().await;
    // From the end of the first walk until the next one would begin, and from then on.
    let both = [DriftMethod::Account, DriftMethod::Role];
    let is_told = || async { *told.lock().unwrap() == both };
    assert!(eventually(3 * SOON, is_told).await, "{:?}\n{}", told.lock().unwrap(), world.operator.log());
    let walks = count(&world, "ListRoles");
    assert!(stays(Duration::from_secs(12), || async { count(&world, "ListRoles") == walks }).await);
    assert_eq!(walks, 1, "there is no role of ours");
}

#[tokio::test]
async fn roles_that_come_to_an_account_where_reading_was_cheaper_are_left_to_walks_at_once() {
    const INTERVAL: Duration = Duration::from_secs(90);
    let world = World::with_class("sweep", |class| class.drift_check = Some(each(90, DriftMethod::Auto))).await;
    let method = || async { class_status(&world).await.drift_check_method };
    let dearer = eventually(2 * INTERVAL, || async { method().await == Some(DriftMethod::Role) });
    assert!(dearer.await, "without roles of ours: {:?}\n{}", method().await, world.operator.log());
    for i in 0..10 {
        world.create(&format!("role-{i}"), json!({ "trustPolicy": ec2() })).await;
    }
    // The next walk would be due three quarters of an interval after the last one.
    let walked = eventually(INTERVAL * 2 / 3, || async { method().await == Some(DriftMethod::Account) });
    assert!(walked.await, "{:?}\n{}", method().await, world.operator.log());
    // By itself each would be looked at within an interval.
    let unread = stays(INTERVAL, || async { count(&world, "GetRole") == 0 });
    assert!(unread.await, "{:?}", calls(&world));
    assert!(count(&world, "ListRoles") >= 2, "{:?}", calls(&world));
}
