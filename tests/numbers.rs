//! Calls and writes are counted, not timed.

mod support;

use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use support::{SOON, World, allow, each_by_itself, ec2, eventually, stays, version};

#[tokio::test]
async fn a_role_is_created_with_exactly_the_calls_that_make_it() {
    let world = World::new("numbers").await;
    let writes = world.writes_to("app").await;
    let (managed, inline, own) = (["ReadOnlyAccess", "SecurityAudit"], ["a", "b", "c"], ["x", "y"]);
    let policies = |names: &[&str]| -> Vec<_> {
        names.iter().map(|name| json!({ "name": name, "document": allow("s3:GetObject") })).collect()
    };
    world
        .create("app", json!({
            "description": "d", "maxSessionDurationSeconds": 7200, "tags": { "a": "b" }, "trustPolicy": ec2(),
            "managedPolicies": managed, "inlinePolicies": policies(&inline), "customerManagedPolicies": policies(&own),
        }))
        .await;
    let ready = world.ready("app").await;
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    world.proxy.actions().into_iter().for_each(|action| *counted.entry(action).or_default() += 1);
    let expected = [
        ("CreateRole", 1),
        ("AttachRolePolicy", managed.len() + own.len()),
        ("PutRolePolicy", inline.len()),
        ("CreatePolicy", own.len()),
    ];
    assert_eq!(counted, expected.map(|(action, count)| (action.to_owned(), count)).into());

    let calls = world.proxy.actions().len();
    let quiet = stays(Duration::from_secs(5), || async { world.proxy.actions().len() == calls }).await;
    assert!(quiet, "and none afterwards: {:?}", world.proxy.actions());
    assert_eq!(version(&world.get("app").await), version(&ready));
    let seen = writes.lock().unwrap().clone();
    assert!(seen.contains(&version(&ready)), "the watch saw everything: {seen:?}");
    assert!(seen.len() <= 4, "the user's create and at most three of ours: {seen:?}");
}

#[tokio::test]
async fn a_steady_role_is_read_and_never_written() {
    let world = World::with_class("numbers", |class| class.drift_check = each_by_itself(5)).await;
    let policy = json!({ "name": "x", "document": allow("s3:GetObject") });
    world
        .create(
            "app",
            json!({
                "description": "d", "maxSessionDurationSeconds": 7200, "tags": { "a": "b" }, "trustPolicy": ec2(),
                "managedPolicies": ["ReadOnlyAccess"], "inlinePolicies": [policy], "customerManagedPolicies": [policy],
            }),
        )
        .await;
    let ready = world.ready("app").await;
    world.proxy.forget();
    let checks = || world.proxy.actions().iter().filter(|action| *action == "GetRole").count();
    // The fourth begins after the third has ended.
    assert!(eventually(2 * SOON, || async { checks() >= 4 }).await, "{:?}", world.proxy.actions());
    assert_eq!(world.proxy.writes(), [""; 0]);
    let after = world.get("app").await;
    assert_eq!(version(&after), version(&ready), "{:#?}\n{:#?}", ready.status, after.status);
}

#[tokio::test]
async fn a_restart_with_fifty_steady_roles_writes_nothing() {
    const ROLES: usize = 50;
    let mut world = World::new("numbers").await;
    let name = |i: usize| format!("role-{i}");
    for i in 0..ROLES {
        let inline = json!([{ "name": "x", "document": allow("s3:GetObject") }]);
        world.create(&name(i), json!({ "trustPolicy": ec2(), "inlinePolicies": inline })).await;
    }
    let mut versions = BTreeMap::new();
    for i in 0..ROLES {
        versions.insert(name(i), version(&world.ready(&name(i)).await));
    }
    // The first walk of all, which a restart brings about, tells the class how drift is looked for.
    assert_eq!(world.operator.stop().await, Some(0));
    world.operator.start().await;
    let class = || async { world.classes().get(&world.namespace).await.expect("the class") };
    let told = || async { class().await.status.is_some_and(|status| status.drift_check_method.is_some()) };
    assert!(eventually(Duration::from_mins(2), told).await, "{:?}", world.proxy.actions());
    let class = class().await.metadata.resource_version;
    assert_eq!(world.operator.stop().await, Some(0));
    world.proxy.forget();
    world.operator.start().await;
    let walked = || world.proxy.actions().iter().any(|action| action == "GetAccountAuthorizationDetails");
    assert!(eventually(3 * SOON, || async { walked() }).await, "{:?}", world.proxy.actions());
    let calls = world.proxy.actions().len();
    assert!(stays(Duration::from_secs(5), || async { world.proxy.actions().len() == calls }).await);
    // Beside who we are and the quotas, which the class asks.
    assert_eq!(world.proxy.actions(), ["ListRoles", "GetAccountAuthorizationDetails"]);
    assert_eq!(world.proxy.writes(), [""; 0]);
    let class_after = world.classes().get(&world.namespace).await.expect("the class").metadata.resource_version;
    assert_eq!(class_after, class);
    for (name, before) in versions {
        assert_eq!(version(&world.get(&name).await), before, "{name}");
    }
}

/// How often the operator has looked at one of its classes since it runs.
async fn looks_at_classes(world: &World) -> u32 {
    let text = world.operator.get("/metrics").await.map(|(_, text)| text).unwrap_or_default();
    let series = "controller_runtime_reconcile_total{controller=\"iamroleclass\",result=\"requeue_after\"} ";
    text.lines().find_map(|line| line.strip_prefix(series)).map_or(0, |number| number.parse().expect("a number"))
}

#[tokio::test]
async fn a_restart_costs_as_much_with_ten_classes_of_an_account_as_with_one() {
    let mut world = World::new("numbers").await;
    let spec = world.classes().get(&world.namespace).await.expect("the class").spec;
    let mut names = vec![world.namespace.clone()];
    for classes in [1, 10] {
        for i in names.len()..classes {
            names.push(format!("{}-{i}", world.namespace));
            world.create_class(&names[i], spec.clone(), false).await;
        }
        for name in &names {
            let is_ready = || async {
                let status = world.classes().get(name).await.expect("the class").status.unwrap_or_default();
                status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
            };
            assert!(eventually(SOON, is_ready).await, "{name}: {}", world.operator.log());
        }
        assert_eq!(world.operator.stop().await, Some(0));
        world.proxy.forget();
        world.operator.start().await;
        let looked = || async { looks_at_classes(&world).await as usize >= classes };
        assert!(eventually(SOON, looked).await, "{}", world.operator.log());
        let calls: Vec<_> = world.proxy.all().into_iter().filter(|call| !call.repeated).collect();
        let calls: Vec<_> = calls.iter().map(|call| call.action.as_str()).collect();
        assert_eq!(calls, ["GetCallerIdentity", "GetAccountSummary"], "{classes} classes");
    }
}
