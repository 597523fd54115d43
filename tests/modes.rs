//! Observe, suspension and retention: what is *not* done, and what status says meanwhile.

mod support;

use serde_json::json;
use std::time::Duration;
use support::{World, allow, aws, condition, ec2, every, stays};

const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// The calls about a role. A look at the account for roles that belong to nobody is about none.
fn about_roles(world: &World) -> Vec<String> {
    let of_account = ["ListRoles", "GetAccountAuthorizationDetails"];
    world.proxy.actions().into_iter().filter(|action| !of_account.contains(&action.as_str())).collect()
}

/// No call to AWS while this is polled.
async fn no_call(world: &World) -> bool {
    stays(LONG_ENOUGH, || async { about_roles(world).is_empty() }).await
}

#[tokio::test]
async fn observe_shows_what_would_be_made_and_makes_nothing() {
    let world = World::new("modes").await;
    world
        .create(
            "app",
            json!({
                "mode": "Observe", "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"],
                "inlinePolicies": [{ "name": "inline", "document": allow("s3:GetObject") }],
                "customerManagedPolicies": [{ "name": "own", "document": allow("ec2:*") }],
            }),
        )
        .await;
    let object = world.condition("app", "Ready", "False", Some("ChangesPending")).await;
    assert!(condition(&object, "Drifted").is_none(), "there is no role that could differ");
    let status = object.status.as_ref().unwrap();
    let mut planned: Vec<&str> = status.plan.iter().map(|planned| planned.action.as_str()).collect();
    planned.sort_unstable();
    assert_eq!(planned, ["AttachRolePolicy", "AttachRolePolicy", "CreatePolicy", "CreateRole", "PutRolePolicy"]);
    assert_eq!(status.plan_count, Some(5));
    let name = world.templated("app");
    assert!(status.plan.iter().any(|planned| planned.action == "CreateRole" && planned.target == name));
    assert!(status.role.is_none() && object.metadata.finalizers.is_none());
    assert_eq!(world.proxy.writes(), [""; 0]);

    world.patch("app", json!({ "mode": "Enforce" })).await;
    let object = world.ready("app").await;
    let status = object.status.unwrap();
    assert_eq!((status.plan, status.plan_count), (vec![], None));
}

#[tokio::test]
async fn observe_reports_differences_of_an_existing_role_and_says_when_there_are_none() {
    let world = World::with_class("modes", |class| class.drift_check = every(5)).await;
    world.create("app", json!({ "description": "d", "trustPolicy": ec2() })).await;
    world.ready("app").await;
    world.proxy.forget();
    world.patch("app", json!({ "mode": "Observe" })).await;
    world.condition("app", "Ready", "True", Some("Observed")).await;
    let name = world.templated("app");
    world.iam.update_role().role_name(&name).description("x").max_session_duration(3600).send().await.unwrap();
    let object = world.condition("app", "Ready", "False", Some("ChangesPending")).await;
    assert_eq!(condition(&object, "Drifted").expect("Drifted").status, "True");
    assert_eq!(object.status.unwrap().plan[0].action, "UpdateRole");
    world.iam.update_role().role_name(&name).description("d").max_session_duration(3600).send().await.unwrap();
    let object = world.condition("app", "Ready", "True", Some("Observed")).await;
    assert!(condition(&object, "Drifted").is_none() && object.status.unwrap().plan.is_empty());
    assert_eq!(world.proxy.writes(), [""; 0]);
}

#[tokio::test]
async fn a_class_in_observe_holds_its_roles_there() {
    let world = World::with_class("modes", |class| {
        class.mode = Some(iamrole_operator::api::iamrole::Mode::Observe);
    })
    .await;
    world.create("app", json!({ "mode": "Enforce", "trustPolicy": ec2() })).await;
    world.reason("app", "ChangesPending").await;
    assert_eq!(world.proxy.writes(), [""; 0]);
}

#[tokio::test]
async fn suspended_by_spec_no_call_is_made_until_it_resumes() {
    let world = World::with_class("modes", |class| class.drift_check = every(5)).await;
    world.create("app", json!({ "suspend": true, "description": "1", "trustPolicy": ec2() })).await;
    let object = world.condition("app", "Ready", "Unknown", Some("Suspended")).await;
    let message = &condition(&object, "Ready").unwrap().message;
    assert!(message.contains("spec.suspend") && message.contains("resume"), "{message}");
    world.patch("app", json!({ "description": "2" })).await;
    let object = world.condition("app", "Ready", "Unknown", Some("Suspended")).await;
    assert_eq!(object.status.as_ref().unwrap().observed_generation, Some(2));
    assert!(condition(&object, "Reconciling").is_none() && condition(&object, "Stalled").is_none());
    assert!(no_call(&world).await, "{:?}", world.proxy.actions());

    world.patch("app", json!({ "suspend": false })).await;
    world.ready("app").await;
    assert_eq!(aws::role(&world.iam, &world.templated("app")).await.expect("the role").description, "2");

    world.patch("app", json!({ "suspend": true })).await;
    world.condition("app", "Ready", "Unknown", Some("Suspended")).await;
    world.proxy.forget();
    let long = Duration::from_secs(7);
    assert!(stays(long, || async { about_roles(&world).is_empty() }).await, "{:?}", world.proxy.actions());
}

#[tokio::test]
async fn suspended_by_annotation_no_call_is_made_until_it_resumes() {
    let world = World::new("modes").await;
    world.create("app", json!({ "description": "1", "trustPolicy": ec2() })).await;
    world.ready("app").await;
    let annotate =
        |value: serde_json::Value| json!({ "metadata": { "annotations": { "iamrole.dev/suspend": value } } });
    world.patch_object("app", annotate(json!("migration"))).await.unwrap();
    let object = world.condition("app", "Ready", "Unknown", Some("Suspended")).await;
    assert!(condition(&object, "Ready").unwrap().message.contains("iamrole.dev/suspend"));
    world.proxy.forget();
    world.patch("app", json!({ "description": "2" })).await;
    world.condition("app", "Ready", "Unknown", Some("Suspended")).await;
    assert!(no_call(&world).await, "{:?}", world.proxy.actions());
    world.patch_object("app", annotate(json!("false"))).await.unwrap();
    world.ready("app").await;
    assert_eq!(aws::role(&world.iam, &world.templated("app")).await.expect("the role").description, "2");
}

#[tokio::test]
async fn what_others_do_meanwhile_is_told_as_theirs() {
    let world = World::new("modes").await;
    let managed = ["ReadOnlyAccess"];
    world.create("app", json!({ "trustPolicy": ec2(), "managedPolicies": managed })).await;
    world.ready("app").await;
    let annotate =
        |value: serde_json::Value| json!({ "metadata": { "annotations": { "iamrole.dev/suspend": value } } });
    world.patch_object("app", annotate(json!("incident"))).await.unwrap();
    world.condition("app", "Ready", "Unknown", Some("Suspended")).await;
    let arn = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    world.iam.detach_role_policy().role_name(world.templated("app")).policy_arn(arn).send().await.unwrap();
    world.patch_object("app", annotate(json!(null))).await.unwrap();
    world.ready("app").await;
    let told = &world.status("app").await.last_changes[0];
    assert_eq!((told.action.as_str(), json!(told.cause)), ("AttachRolePolicy", json!("Drift")), "{told:?}");
}

#[tokio::test]
async fn suspended_by_its_class_no_call_is_made_until_it_resumes() {
    let world = World::with_class("modes", |class| class.suspend = Some(true)).await;
    world.create("app", json!({ "suspend": false, "trustPolicy": ec2() })).await;
    let object = world.condition("app", "Ready", "Unknown", Some("Suspended")).await;
    assert!(condition(&object, "Ready").unwrap().message.contains("class"));
    assert!(no_call(&world).await, "{:?}", world.proxy.actions());
    world.patch_class(json!({ "suspend": null })).await;
    world.ready("app").await;
}

#[tokio::test]
async fn retained_and_observed_roles_stay_without_a_call() {
    let world = World::new("modes").await;
    world.create("retained", json!({ "deletionPolicy": "Retain", "trustPolicy": ec2() })).await;
    world.create("observed", json!({ "trustPolicy": ec2() })).await;
    world.ready("retained").await;
    world.ready("observed").await;
    world.patch("observed", json!({ "mode": "Observe" })).await;
    world.reason("observed", "Observed").await;
    world.proxy.forget();
    for (object, why) in [("retained", "deletionPolicy is Retain"), ("observed", "mode is Observe")] {
        world.delete(object).await;
        world.gone(object).await;
        world.event(object, "Retained", &format!("Left {} in AWS since {why}", world.templated(object))).await;
        assert!(aws::role(&world.iam, &world.templated(object)).await.is_some());
    }
    assert_eq!(world.proxy.actions(), [""; 0]);
}

#[tokio::test]
async fn a_suspended_deletion_waits_and_goes_on() {
    let world = World::new("modes").await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    world.patch("app", json!({ "suspend": true })).await;
    world.condition("app", "Ready", "Unknown", Some("Suspended")).await;
    world.proxy.forget();
    world.delete("app").await;
    let object = world
        .until("app", "a waiting deletion", |role| {
            condition(role, "Ready").is_some_and(|ready| ready.message.contains("deletion waits"))
        })
        .await;
    let ready = condition(&object, "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("Unknown", "Suspended"));
    assert_eq!(ready.observed_generation, object.metadata.generation);
    assert!(ready.message.contains("spec.deletionPolicy: Retain"), "{}", ready.message);
    assert!(no_call(&world).await, "{:?}", world.proxy.actions());
    world.patch("app", json!({ "suspend": null })).await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &world.templated("app")).await, None);
}

#[tokio::test]
async fn retain_set_while_terminating_frees_a_blocked_object() {
    let world = World::new("modes").await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    world.proxy.refuse("DeleteRole", "", 403, "AccessDenied", "not authorized");
    world.delete("app").await;
    let message = world.reason("app", "AccessDenied").await;
    assert!(message.contains("iam:DeleteRole"), "{message}");
    world.patch("app", json!({ "deletionPolicy": "Retain" })).await;
    world.gone("app").await;
    assert!(aws::role(&world.iam, &world.templated("app")).await.is_some());
}

#[tokio::test]
async fn a_requested_check_is_done_now_and_acknowledged() {
    let world = World::new("modes").await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    let before = world.ready("app").await;
    world.proxy.forget();
    world.check_now("app").await;
    let after = world.ready("app").await;
    assert_eq!(after.metadata.generation, before.metadata.generation);
    assert!(world.proxy.actions().contains(&"GetRole".to_owned()) && world.proxy.writes().is_empty());
    world.proxy.forget();
    assert!(no_call(&world).await, "once: {:?}", world.proxy.actions());
}
