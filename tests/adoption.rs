//! A foreign role is taken over only where the spec says so, in two passes, and what it did not name stays
//! as it was found.

mod support;

use iamrole_operator::api::IamRole;
use iamrole_operator::api::iamrole::{DeletionPolicy, Origin, WhenUnlisted};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use support::{SOON, World, allow, aws, condition, ec2, eventually, trust};

const READ_ONLY: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";
const AUDIT: &str = "arn:aws:iam::aws:policy/SecurityAudit";

/// A role with everything, under a path, made by somebody else.
async fn theirs(world: &World) -> String {
    let name = format!("theirs-{}", world.namespace);
    let call = world.iam.create_role().role_name(&name).path("/theirs/").description("theirs");
    let call = call.max_session_duration(7200).permissions_boundary(AUDIT);
    call.assume_role_policy_document(ec2().to_string()).send().await.expect("a role");
    aws::attach(&world.iam, &name, READ_ONLY).await;
    aws::put_inline(&world.iam, &name, "theirs", &allow("s3:GetObject")).await;
    aws::tag_role(&world.iam, &name, &[("Team", "theirs")]).await;
    name
}

#[tokio::test]
async fn a_role_is_adopted_in_two_passes_and_kept_as_found() {
    let mut world = World::without_operator("adoption", |_| {}).await;
    world.operator.settle = "30s";
    world.operator.start().await;
    let name = theirs(&world).await;
    let before = aws::role(&world.iam, &name).await.expect("the role");
    let lambda = trust(&json!({ "Service": "lambda.amazonaws.com" }));
    world
        .create(
            "app",
            json!({
                "roleName": name, "adoption": "IfExists", "trustPolicy": lambda, "tags": { "Owner": "msb" },
                "inlinePolicies": [{ "name": "ours", "document": allow("sqs:*") }],
            }),
        )
        .await;
    let adopted = || async {
        aws::role(&world.iam, &name).await.is_some_and(|role| role.owner_tags.contains_key("iamrole.dev/origin"))
    };
    assert!(eventually(SOON, adopted).await, "{}", world.operator.log());
    world
        .until("app", "settling", |role| {
            condition(role, "Reconciling").is_some_and(|reconciling| reconciling.message.contains("settle"))
        })
        .await;
    // Whatever wakes it meanwhile.
    world.request_check("app").await;
    world.patch("app", json!({ "tags": { "Stage": "test" } })).await;
    let settling = |role: &IamRole| role.status.as_ref().unwrap().observed_generation == Some(2);
    world.until("app", "settling with the new generation", settling).await;
    let first = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(first.owner_tags["iamrole.dev/origin"], "Adopted");
    assert_eq!(aws::Role { owner_tags: [].into(), ..first }, before, "nothing but the tags in the first pass");

    let done = || async { condition(&world.get("app").await, "Ready").is_some_and(|ready| ready.status == "True") };
    assert!(eventually(Duration::from_mins(1), done).await, "{}", world.operator.log());
    let calls = world.proxy.calls();
    let tagged = calls.iter().position(|call| call.action == "TagRole").expect("the first pass");
    let next = calls[tagged + 1..].iter().find(|call| call.writes()).expect("the second pass");
    let apart = next.at - calls[tagged].at;
    assert!(apart >= Duration::from_secs(29), "the tags settle before they are believed: {apart:?}");
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.trust, lambda);
    assert_eq!(
        role.tags,
        [("Team", "theirs"), ("Owner", "msb"), ("Stage", "test")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    assert_eq!(role.inline.keys().collect::<Vec<_>>(), ["ours", "theirs"]);
    assert_eq!(
        (role.id.as_str(), role.description.as_str(), role.max_session, role.boundary.as_deref(), role.attached),
        (before.id.as_str(), "theirs", 7200, Some(AUDIT), BTreeSet::from([READ_ONLY.to_owned()])),
        "what the spec does not name is as found"
    );
    let status = world.status("app").await;
    let (kept, known) = (status.effective.clone().unwrap(), status.role.clone().unwrap());
    assert_eq!((kept.deletion_policy, kept.when_unlisted), (DeletionPolicy::Retain, WhenUnlisted::Keep));
    assert_eq!((known.origin, known.path.as_str()), (Some(Origin::Adopted), "/theirs/"));
    assert_eq!(status.unlisted, [READ_ONLY, "theirs"]);

    world.patch("app", json!({ "description": "ours now", "maxSessionDurationSeconds": 3600 })).await;
    world.ready("app").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.description.as_str(), role.max_session), ("ours now", 3600));

    world.proxy.forget();
    world.delete("app").await;
    world.gone("app").await;
    world.event("app", "Retained", &name).await;
    assert!(aws::role(&world.iam, &name).await.is_some());
    assert_eq!(world.proxy.writes(), [""; 0]);
}

/// A role that was adopted by the object `app`, which was deleted and left it there.
async fn adopted_before(world: &World) -> String {
    let name = theirs(world).await;
    let tags = world.role_tags("app", "Adopted").await;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    aws::tag_role(&world.iam, &name, &tags).await;
    name
}

#[tokio::test]
async fn an_adopted_role_is_kept_as_found_by_an_object_made_anew() {
    let world = World::new("adoption").await;
    let name = adopted_before(&world).await;
    let before = aws::role(&world.iam, &name).await;
    world.create("app", json!({ "roleName": name, "adoption": "IfExists", "trustPolicy": ec2() })).await;
    let status = world.ready("app").await.status.unwrap();
    assert_eq!(aws::role(&world.iam, &name).await, before);
    let kept = status.effective.unwrap();
    assert_eq!((kept.deletion_policy, kept.when_unlisted), (DeletionPolicy::Retain, WhenUnlisted::Keep));
    assert_eq!((status.role.unwrap().origin, status.unlisted.len()), (Some(Origin::Adopted), 2));
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, before);
}

#[tokio::test]
async fn an_adopted_role_survives_an_object_that_never_got_to_it() {
    let world = World::new("adoption").await;
    let name = adopted_before(&world).await;
    let before = aws::role(&world.iam, &name).await;
    world.proxy.refuse("GetRole", &name, 403, "AccessDenied", "not authorized");
    world.create("app", json!({ "roleName": name, "adoption": "IfExists", "trustPolicy": ec2() })).await;
    world.reason("app", "AccessDenied").await;
    world.delete("app").await;
    world.proxy.heal();
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, before);
    world.event("app", "Retained", &name).await;
}

#[tokio::test]
async fn if_exists_creates_a_role_that_does_not_exist() {
    let world = World::new("adoption").await;
    let name = format!("new-{}", world.namespace);
    world.create("app", json!({ "roleName": name, "adoption": "IfExists", "trustPolicy": ec2() })).await;
    let status = world.ready("app").await.status.unwrap();
    assert_eq!(status.role.unwrap().origin, Some(Origin::Created));
    assert_eq!(status.effective.unwrap().deletion_policy, DeletionPolicy::Delete);
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
}

#[tokio::test]
async fn required_never_creates_and_adopts_what_comes() {
    let world = World::new("adoption").await;
    let name = format!("theirs-{}", world.namespace);
    world.create("app", json!({ "roleName": name, "adoption": "Required", "trustPolicy": ec2() })).await;
    let message = world.reason("app", "RoleMissing").await;
    assert!(message.contains(&name) && message.contains("adoption: IfExists"), "{message}");
    assert_eq!(world.proxy.writes(), [""; 0]);
    assert_eq!(aws::role(&world.iam, &name).await, None);

    theirs(&world).await;
    world.request_check("app").await;
    let adopted = || async { aws::role(&world.iam, &name).await.is_some_and(|role| !role.owner_tags.is_empty()) };
    assert!(eventually(SOON, adopted).await, "{}", world.operator.log());
}

#[tokio::test]
async fn required_without_a_role_is_let_go_at_once() {
    let world = World::new("adoption").await;
    let name = format!("theirs-{}", world.namespace);
    world.create("app", json!({ "roleName": name, "adoption": "Required", "trustPolicy": ec2() })).await;
    world.reason("app", "RoleMissing").await;
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(world.proxy.writes(), [""; 0]);
}

#[tokio::test]
async fn observe_shows_before_what_an_adoption_would_do() {
    let world = World::new("adoption").await;
    let name = theirs(&world).await;
    let before = aws::role(&world.iam, &name).await;
    world
        .create(
            "app",
            json!({
                "mode": "Observe", "roleName": name, "adoption": "Required", "trustPolicy": ec2(),
                "inlinePolicies": [{ "name": "ours", "document": allow("sqs:*") }],
            }),
        )
        .await;
    world.reason("app", "ChangesPending").await;
    let status = world.status("app").await;
    let planned: Vec<&str> = status.plan.iter().map(|planned| planned.action.as_str()).collect();
    assert_eq!(planned, ["TagRole", "PutRolePolicy"], "{:#?}", status.plan);
    assert_eq!(status.unlisted, [READ_ONLY, "theirs"], "an adopted role keeps what nobody listed");
    let effective = json!(status.effective);
    assert_eq!(effective, json!({ "mode": "Observe", "deletionPolicy": "Retain", "whenUnlisted": "Keep" }));
    assert_eq!(world.proxy.writes(), [""; 0]);
    assert_eq!(aws::role(&world.iam, &name).await, before);
}

#[tokio::test]
async fn a_path_that_differs_is_no_reason_to_touch_a_foreign_role() {
    let world = World::new("adoption").await;
    let name = theirs(&world).await;
    let before = aws::role(&world.iam, &name).await;
    let spec = json!({ "roleName": name, "path": "/mine/", "adoption": "IfExists", "trustPolicy": ec2() });
    world.create("app", spec).await;
    let message = world.reason("app", "IdentityImmutable").await;
    assert!(message.contains(&before.as_ref().unwrap().arn), "{message}");
    assert_eq!(aws::role(&world.iam, &name).await, before);
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, before);
}

#[tokio::test]
async fn an_adopted_role_is_deleted_where_the_spec_says_so() {
    let world = World::new("adoption").await;
    let name = format!("theirs-{}", world.namespace);
    aws::foreign_role(&world.iam, &name).await;
    let spec = json!({ "roleName": name, "adoption": "IfExists", "deletionPolicy": "Delete", "trustPolicy": ec2() });
    world.create("app", spec).await;
    let adopted = || async { aws::role(&world.iam, &name).await.is_some_and(|role| !role.owner_tags.is_empty()) };
    assert!(eventually(SOON, adopted).await, "{}", world.operator.log());
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
}

#[tokio::test]
async fn an_adoption_that_aws_refuses_is_never_called_done_and_goes_on_once_it_may() {
    for (status, code, reason) in
        [(403, "AccessDenied", "AccessDenied"), (409, "LimitExceeded", "QuotaExceeded"), (400, "Strange", "Rejected")]
    {
        let mut world = World::new("adoption").await;
        let name = theirs(&world).await;
        world.proxy.refuse("TagRole", "", status, code, "not now");
        world.create("app", json!({ "roleName": name, "adoption": "IfExists", "trustPolicy": ec2() })).await;
        world.reason("app", reason).await;
        // Each look from now on says the same, the first one after a restart too.
        world.check_now("app").await;
        world.reason("app", reason).await;
        world.operator.restart().await;
        world.check_now("app").await;
        world.reason("app", reason).await;
        world.proxy.heal();
        world.request_check("app").await;
        let adopted = || async { !aws::role(&world.iam, &name).await.expect("the role").owner_tags.is_empty() };
        assert!(eventually(SOON, adopted).await, "{}", world.operator.log());
    }
}

#[tokio::test]
async fn required_does_not_create_the_role_anew_either() {
    let mut world = World::new("adoption").await;
    let name = theirs(&world).await;
    world.create("app", json!({ "roleName": name, "adoption": "Required", "trustPolicy": ec2() })).await;
    let done = || async { condition(&world.get("app").await, "Ready").is_some_and(|ready| ready.status == "True") };
    assert!(eventually(Duration::from_mins(1), done).await, "{}", world.operator.log());
    world.operator.restart().await;
    aws::delete_role(&world.iam, &name).await;
    world.request_check("app").await;
    world.reason("app", "RoleMissing").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
}
