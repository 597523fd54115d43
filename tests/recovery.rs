//! Objects that lost their status, were applied anew, or came to another cluster: the role is found by its owner
//! tags, nothing is made twice, nothing of ours is forgotten, and what nobody listed is kept and told.

mod support;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{World, allow, aws, ec2};

const AUDIT: &str = "arn:aws:iam::aws:policy/SecurityAudit";
const OLD: &str = "old/11111111-2222-3333-4444-555555555555";

fn spec(own: &[&str]) -> Value {
    let own: Vec<Value> = own.iter().map(|name| json!({ "name": name, "document": allow("sqs:*") })).collect();
    json!({
        "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"], "customerManagedPolicies": own,
        "inlinePolicies": [{ "name": "ours", "document": allow("s3:GetObject") }],
    })
}

async fn wipe_status(world: &World, name: &str) {
    let patch = Patch::Merge(json!({ "status": null }));
    world.raw_roles().patch_status(name, &PatchParams::default(), &patch).await.expect("the API server takes it");
}

fn arn(role: &str, policy: &str) -> String {
    format!("arn:aws:iam::123456789012:policy/{role}.{policy}")
}

#[tokio::test]
async fn without_its_status_a_role_is_found_again_and_what_nobody_listed_stays() {
    let mut world = World::new("recovery").await;
    world.create("app", spec(&["stays", "goes"])).await;
    world.ready("app").await;
    let name = world.templated("app");
    let before = aws::role(&world.iam, &name).await.expect("the role");
    world.operator.stop().await;
    aws::attach(&world.iam, &name, AUDIT).await;
    aws::put_inline(&world.iam, &name, "theirs", &allow("ec2:*")).await;
    let boundary = "arn:aws:iam::aws:policy/PowerUserAccess";
    let bound = world.iam.put_role_permissions_boundary().role_name(&name).permissions_boundary(boundary);
    bound.send().await.expect("a boundary");
    world.patch("app", spec(&["stays"])).await;
    wipe_status(&world, "app").await;
    world.proxy.forget();
    world.operator.start().await;
    let object = world.ready("app").await;
    let after = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(after.id, before.id, "not made anew");
    let attached = BTreeSet::from(["arn:aws:iam::aws:policy/ReadOnlyAccess".into(), AUDIT.into(), arn(&name, "stays")]);
    assert_eq!(after.attached, attached);
    assert_eq!(after.inline.keys().collect::<Vec<_>>(), ["ours", "theirs"]);
    assert!(aws::policy(&world.iam, &arn(&name, "goes")).await.is_none(), "its tags say that it was ours");
    let status = object.status.expect("a status");
    assert_eq!(status.unlisted, [AUDIT, "theirs"]);
    world.event("app", "Recovered", "SecurityAudit, theirs").await;
    world.event("app", "Recovered", &format!("permissions boundary {boundary}")).await;

    world.operator.restart().await;
    world.proxy.forget();
    world.check_now("app").await;
    assert_eq!(world.proxy.writes(), Vec::<String>::new(), "and rests");
    assert_eq!(world.status("app").await.unlisted, [AUDIT, "theirs"]);

    world.patch("app", json!({ "description": "an edit" })).await;
    world.ready("app").await;
    let after = aws::role(&world.iam, &name).await.expect("the role");
    assert!(!after.attached.contains(AUDIT) && !after.inline.contains_key("theirs"), "whenUnlisted applies again");
    assert_eq!(after.boundary.as_deref(), Some(boundary), "as the event says");
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::policies_with(&world.iam, &name).await, BTreeSet::new(), "nothing is orphaned");
}

#[tokio::test]
async fn an_object_applied_anew_after_retain_has_its_role_back() {
    let world = World::new("recovery").await;
    let mut spec = spec(&["own"]);
    spec["deletionPolicy"] = json!("Retain");
    world.create("app", spec.clone()).await;
    world.ready("app").await;
    let name = world.templated("app");
    world.delete("app").await;
    world.gone("app").await;
    let before = aws::role(&world.iam, &name).await.expect("the role");
    aws::put_inline(&world.iam, &name, "theirs", &allow("ec2:*")).await;
    spec["deletionPolicy"] = json!("Delete");
    world.create("app", spec).await;
    world.ready("app").await;
    let after = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((after.id, after.attached), (before.id, before.attached));
    assert!(after.inline.contains_key("theirs"), "it came while nobody looked");
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
    assert_eq!(aws::policies_with(&world.iam, &name).await, BTreeSet::new());
}

#[tokio::test]
async fn a_role_that_a_stranger_made_in_place_of_ours_is_his() {
    let world = World::new("recovery").await;
    world.create("app", spec(&["own"])).await;
    world.ready("app").await;
    let name = world.templated("app");
    aws::delete_role(&world.iam, &name).await;
    aws::foreign_role(&world.iam, &name).await;
    let theirs = aws::role(&world.iam, &name).await.expect("the role");
    world.request_check("app").await;
    world.reason("app", "RoleNotOwned").await;
    world.delete("app").await;
    world.gone("app").await;
    world.event("app", "Retained", "does not carry this operator's owner tags").await;
    assert_eq!(aws::role(&world.iam, &name).await, Some(theirs));
    assert!(aws::policy(&world.iam, &arn(&name, "own")).await.is_none(), "the policy was ours");
}

/// A role and its policy as the operator of a cluster that is no more left them.
async fn left_behind(world: &World) -> String {
    let name = world.templated("app");
    let tags = [
        ("iamrole.dev/cluster", OLD),
        ("iamrole.dev/namespace", &world.namespace),
        ("iamrole.dev/name", "app"),
        ("iamrole.dev/origin", "Created"),
    ];
    aws::foreign_role(&world.iam, &name).await;
    aws::tag_role(&world.iam, &name, &tags).await;
    let arn = aws::foreign_policy(&world.iam, &format!("{name}.own")).await;
    let tags = tags.map(|(key, value)| aws_sdk_iam::types::Tag::builder().key(key).value(value).build().unwrap());
    world.iam.tag_policy().policy_arn(&arn).set_tags(Some(tags.to_vec())).send().await.expect("tags");
    aws::attach(&world.iam, &name, &arn).await;
    aws::attach(&world.iam, &name, AUDIT).await;
    name
}

#[tokio::test]
async fn a_rebuilt_cluster_takes_over_what_its_class_names_and_nothing_else() {
    let world = World::new("recovery").await;
    let name = left_behind(&world).await;
    let before = aws::role(&world.iam, &name).await.expect("the role");
    world.create("app", spec(&["own"])).await;
    let message = world.reason("app", "RoleOwnedByOther").await;
    assert!(message.contains("takeOverClusters") && message.contains(OLD), "{message}");
    assert_eq!(aws::role(&world.iam, &name).await.as_ref(), Some(&before));

    world.patch_class(json!({ "takeOverClusters": ["11111111-2222-3333-4444-555555555555"] })).await;
    world.ready("app").await;
    let tags = world.role_tags("app", "Created").await.map(|(key, value)| (key.to_owned(), value));
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.id, role.owner_tags), (before.id, tags.clone().into()));
    assert!(role.attached.contains(AUDIT), "kept, since nobody knows whose it was");
    let policy = aws::policy(&world.iam, &arn(&name, "own")).await.expect("the policy");
    assert_eq!((policy.tags, policy.document), (tags.into(), allow("sqs:*")));

    // Without the leave it is ours all the same by now.
    world.patch_class(json!({ "takeOverClusters": null })).await;
    world.ready("app").await;
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
    assert_eq!(aws::policies_with(&world.iam, &name).await, BTreeSet::new());
}

#[tokio::test]
async fn what_a_lost_cluster_left_is_removed_with_the_object_that_inherits_it() {
    let world = World::with_class("recovery", |class| class.take_over_clusters = Some(vec![OLD.into()])).await;
    let name = left_behind(&world).await;
    let mut spec = spec(&["own"]);
    spec["deletionPolicy"] = json!("ForceDelete");
    world.create("app", spec).await;
    world.ready("app").await;
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
}

#[tokio::test]
async fn without_its_status_an_object_takes_its_policies_with_it_all_the_same() {
    let mut world = World::new("recovery").await;
    world.create("app", spec(&["own"])).await;
    world.ready("app").await;
    let name = world.templated("app");
    world.operator.stop().await;
    wipe_status(&world, "app").await;
    world.delete("app").await;
    world.operator.start().await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
    assert_eq!(aws::policies_with(&world.iam, &name).await, BTreeSet::new(), "nothing is orphaned");
}

#[tokio::test]
async fn what_status_lost_is_found_also_where_the_first_call_fails() {
    let mut world = World::new("recovery").await;
    world.create("app", spec(&["stays", "goes"])).await;
    world.ready("app").await;
    let name = world.templated("app");
    world.operator.stop().await;
    aws::put_inline(&world.iam, &name, "theirs", &allow("ec2:*")).await;
    world.patch("app", spec(&["stays"])).await;
    wipe_status(&world, "app").await;
    world.proxy.fault("CreateRole", "", 3, support::proxy::Fault::Refuse(400, "Throttling", "Rate exceeded".into()));
    // Status tells whole seconds of when an object was first looked at.
    let made = aws::created(&world.iam, &name).await;
    let later = || async { std::time::SystemTime::now() > made + std::time::Duration::from_secs(2) };
    assert!(support::eventually(support::SOON, later).await);
    world.operator.start().await;
    world.ready("app").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert!(role.inline.contains_key("theirs"), "what nobody listed stays");
    assert!(aws::policy(&world.iam, &arn(&name, "goes")).await.is_none());
    world.event("app", "Recovered", "theirs").await;
}

#[tokio::test]
async fn what_observe_shows_of_a_lost_status_is_what_enforce_does() {
    let mut world = World::new("recovery").await;
    world.create("app", spec(&["stays", "goes"])).await;
    world.ready("app").await;
    let name = world.templated("app");
    world.operator.stop().await;
    aws::attach(&world.iam, &name, AUDIT).await;
    aws::put_inline(&world.iam, &name, "theirs", &allow("ec2:*")).await;
    let mut observed = spec(&["stays"]);
    observed["mode"] = json!("Observe");
    world.patch("app", observed).await;
    wipe_status(&world, "app").await;
    world.proxy.forget();
    world.operator.start().await;
    let object = world.condition("app", "Ready", "False", Some("ChangesPending")).await;
    let status = object.status.expect("a status");
    let planned: Vec<String> = status.plan.iter().map(|planned| planned.action.clone()).collect();
    assert_eq!(planned, ["DetachRolePolicy", "DeletePolicy"], "{:?}", status.plan);
    assert_eq!(status.unlisted, [AUDIT, "theirs"]);
    assert_eq!(world.proxy.writes(), Vec::<String>::new());

    world.patch("app", json!({ "mode": "Enforce" })).await;
    let done = world.ready("app").await.status.expect("a status");
    let changes: Vec<String> = done.last_changes.iter().rev().map(|change| change.action.clone()).collect();
    assert_eq!((changes, done.unlisted), (planned, status.unlisted));
}
