//! What does not carry our owner tags is never changed or deleted, and the refusal says whose it is and
//! what to do.

mod support;

use iamrole_operator::api::iamrole::Origin;
use iamrole_operator::api::iamroleclass::UnlistedExceptions;
use serde_json::json;
use std::collections::BTreeSet;
use support::proxy::Fault;
use support::{World, allow, aws, condition, ec2, trust};

const READ_ONLY: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";

#[tokio::test]
async fn a_role_that_is_not_ours_is_refused_and_survives_the_object() {
    let world = World::new("ownership").await;
    let name = format!("theirs-{}", world.namespace);
    aws::foreign_role(&world.iam, &name).await;
    aws::tag_role(&world.iam, &name, &[("Team", "theirs")]).await;
    aws::put_inline(&world.iam, &name, "theirs", &allow("s3:GetObject")).await;
    let before = aws::role(&world.iam, &name).await.expect("the role");
    world
        .create("app", json!({
            "roleName": name, "description": "mine", "tags": { "Team": "mine" },
            "trustPolicy": trust(&json!({ "Service": "lambda.amazonaws.com" })), "managedPolicies": ["ReadOnlyAccess"],
            "customerManagedPolicies": [{ "name": "own", "document": allow("ec2:*") }],
        }))
        .await;
    let object = world.condition("app", "Stalled", "True", Some("RoleNotOwned")).await;
    let ready = condition(&object, "Ready").expect("Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "RoleNotOwned"));
    for part in [before.arn.as_str(), "another roleName", "adoption: IfExists", "remove it in AWS"] {
        assert!(ready.message.contains(part), "{part}: {}", ready.message);
    }
    world.event("app", "RoleNotOwned", &before.arn).await;
    assert_eq!(aws::role(&world.iam, &name).await.as_ref(), Some(&before));
    assert_eq!(aws::policies_with(&world.iam, &world.namespace).await, BTreeSet::new(), "no policy without a role");

    world.proxy.forget();
    world.delete("app").await;
    world.gone("app").await;
    world.event("app", "Retained", &format!("Left role {name} untouched")).await;
    assert_eq!(aws::role(&world.iam, &name).await, Some(before));
    assert_eq!(world.proxy.writes(), [""; 0]);
}

#[tokio::test]
async fn a_policy_name_that_is_taken_holds_up_removals_and_nothing_else_and_heals() {
    let world = World::new("ownership").await;
    let taken = format!("taken-{}", world.namespace);
    let arn = aws::foreign_policy(&world.iam, &taken).await;
    let before = aws::policy(&world.iam, &arn).await.expect("the policy");
    let own = json!([
        { "name": "taken", "policyName": taken, "document": allow("ec2:*") },
        { "name": "free", "document": allow("ec2:*") },
    ]);
    let inline = json!([{ "name": "one", "document": allow("s3:GetObject") }]);
    world
        .create(
            "app",
            json!({
                "trustPolicy": ec2(), "customerManagedPolicies": own, "inlinePolicies": inline,
                "managedPolicies": ["ReadOnlyAccess"],
            }),
        )
        .await;
    let message = world.reason("app", "PolicyNameTaken").await;
    for part in [arn.as_str(), "does not carry this operator's owner tags", "policyName", "managedPolicies"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let name = world.templated("app");
    let role = aws::role(&world.iam, &name).await.expect("the role stays ours");
    let free = format!("arn:aws:iam::123456789012:policy/{name}.free");
    assert_eq!(role.owner_tags["iamrole.dev/name"], "app");
    assert_eq!(role.attached, BTreeSet::from([READ_ONLY.to_owned(), free.clone()]));
    assert_eq!(role.inline, [("one".to_owned(), allow("s3:GetObject"))].into());

    let inline = json!([{ "name": "two", "document": allow("s3:PutObject") }]);
    world.patch("app", json!({ "inlinePolicies": inline, "managedPolicies": null })).await;
    world.reason("app", "PolicyNameTaken").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.inline.len(), 2, "the new one is there, the old one not gone yet");
    assert_eq!(role.attached, BTreeSet::from([READ_ONLY.to_owned(), free.clone()]));
    let plan = world.status("app").await.plan;
    let held: BTreeSet<&str> = plan.iter().map(|planned| planned.action.as_str()).collect();
    assert_eq!(held, BTreeSet::from(["DeleteRolePolicy", "DetachRolePolicy"]));

    let lambda = trust(&json!({ "Service": "lambda.amazonaws.com" }));
    world.patch("app", json!({ "trustPolicy": lambda })).await;
    world.reason("app", "PolicyNameTaken").await;
    let trusted = aws::role(&world.iam, &name).await.expect("the role").trust;
    assert!(
        trusted != lambda && !trusted.to_string().contains("ec2"),
        "who goes does not wait, who comes does: {trusted}"
    );
    assert_eq!(aws::policy(&world.iam, &arn).await, Some(before));

    world.iam.delete_policy().policy_arn(&arn).send().await.expect("a deletion");
    world.ready("app").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.attached, BTreeSet::from([free, arn.clone()]));
    assert_eq!(role.inline, [("two".to_owned(), allow("s3:PutObject"))].into());
    let policy = aws::policy(&world.iam, &arn).await.expect("ours now");
    assert_eq!(policy.document, allow("ec2:*"));
    assert_eq!(policy.tags["iamrole.dev/name"], "app");
    assert_eq!(world.status("app").await.plan, []);
}

#[tokio::test]
async fn a_policy_that_is_not_ours_survives_the_object() {
    let world = World::new("ownership").await;
    let taken = format!("taken-{}", world.namespace);
    let arn = aws::foreign_policy(&world.iam, &taken).await;
    let before = aws::policy(&world.iam, &arn).await;
    let own = json!([{ "name": "taken", "policyName": taken, "document": allow("ec2:*") }]);
    world.create("app", json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
    world.reason("app", "PolicyNameTaken").await;
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &world.templated("app")).await, None);
    assert_eq!(aws::policy(&world.iam, &arn).await, before);
}

#[tokio::test]
async fn the_younger_of_two_is_refused_and_woken_when_the_elder_goes() {
    let world = World::new("ownership").await;
    let name = format!("shared-{}", world.namespace);
    world.create("a-elder", json!({ "roleName": name, "description": "elder", "trustPolicy": ec2() })).await;
    world.ready("a-elder").await;
    // IAM compares names without case.
    let shouted = name.to_uppercase();
    world.create("b-younger", json!({ "roleName": shouted, "description": "younger", "trustPolicy": ec2() })).await;
    let object = world.condition("b-younger", "Stalled", "True", Some("RoleOwnedByOther")).await;
    let message = &condition(&object, "Ready").expect("Ready").message;
    assert!(message.contains(&format!("{}/a-elder", world.namespace)), "{message}");
    assert!(message.contains("another roleName"), "{message}");
    assert_eq!(aws::role(&world.iam, &shouted).await, None);

    world.delete("a-elder").await;
    world.gone("a-elder").await;
    world.ready("b-younger").await;
    assert_eq!(aws::role(&world.iam, &shouted).await.expect("the role").description, "younger");
    assert_eq!(aws::role(&world.iam, &name).await, None);
}

#[tokio::test]
async fn who_has_the_role_keeps_it_against_an_elder_that_comes_later() {
    let world = World::new("ownership").await;
    let name = format!("shared-{}", world.namespace);
    world.create("a-elder", json!({ "roleName": name, "trustPolicy": ec2(), "suspend": true })).await;
    world.condition("a-elder", "Ready", "Unknown", Some("Suspended")).await;
    world.create("b-younger", json!({ "roleName": name, "description": "younger", "trustPolicy": ec2() })).await;
    world.ready("b-younger").await;

    world.patch("a-elder", json!({ "suspend": null })).await;
    world.condition("a-elder", "Stalled", "True", Some("RoleOwnedByOther")).await;
    world.patch("b-younger", json!({ "description": "still mine" })).await;
    world.ready("b-younger").await;
    assert_eq!(aws::role(&world.iam, &name).await.expect("the role").description, "still mine");

    world.delete("b-younger").await;
    world.gone("b-younger").await;
    world.ready("a-elder").await;
}

#[tokio::test]
async fn a_role_of_another_cluster_is_refused_by_its_name() {
    let world = World::new("ownership").await;
    let name = format!("theirs-{}", world.namespace);
    aws::foreign_role(&world.iam, &name).await;
    let owner = [
        ("iamrole.dev/cluster", "elsewhere/11111111-2222-3333-4444-555555555555"),
        ("iamrole.dev/namespace", &world.namespace),
        ("iamrole.dev/name", "app"),
        ("iamrole.dev/origin", "Created"),
    ];
    aws::tag_role(&world.iam, &name, &owner).await;
    let before = aws::role(&world.iam, &name).await;
    let spec = json!({ "roleName": name, "adoption": "IfExists", "description": "mine", "trustPolicy": ec2() });
    world.create("app", spec).await;
    let message = world.reason("app", "RoleOwnedByOther").await;
    assert!(message.contains("cluster elsewhere/") && message.contains(&before.as_ref().unwrap().arn), "{message}");
    world.delete("app").await;
    world.gone("app").await;
    world.event("app", "Retained", "cluster elsewhere/").await;
    assert_eq!(aws::role(&world.iam, &name).await, before);
}

#[tokio::test]
async fn a_role_whose_owner_tags_were_taken_off_is_nobodys() {
    let world = World::new("ownership").await;
    let own = json!([{ "name": "own", "document": allow("ec2:*") }]);
    for name in ["app", "other"] {
        world.create(name, json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
        world.ready(name).await;
    }
    let name = world.templated("app");
    let tags = aws::role(&world.iam, &name).await.expect("the role").owner_tags;
    let keys = tags.keys().cloned().collect();
    world.iam.untag_role().role_name(&name).set_tag_keys(Some(keys)).send().await.expect("no tags");
    let before = aws::role(&world.iam, &name).await;
    world.check_now("app").await;
    world.condition("app", "Stalled", "True", Some("RoleNotOwned")).await;
    world.patch("app", json!({ "description": "mine", "managedPolicies": ["ReadOnlyAccess"] })).await;
    world.condition("app", "Stalled", "True", Some("RoleNotOwned")).await;
    assert_eq!(aws::role(&world.iam, &name).await, before);

    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    aws::tag_role(&world.iam, &name, &tags).await;
    world.check_now("app").await;
    world.ready("app").await;
    assert_eq!(aws::role(&world.iam, &name).await.expect("the role").description, "mine");

    let name = world.templated("other");
    world.iam.untag_role().role_name(&name).tag_keys("iamrole.dev/name").send().await.expect("no tag");
    let before = aws::role(&world.iam, &name).await;
    world.delete("other").await;
    world.gone("other").await;
    assert_eq!(aws::role(&world.iam, &name).await, before, "a part of the tags is none");
}

/// Adoption takes back what was ours before: as what we made, which goes with the object.
#[tokio::test]
async fn a_role_that_we_made_is_taken_back_as_that_where_it_may_be_adopted() {
    let world = World::new("ownership").await;
    let name = format!("stripped-{}", world.namespace);
    world.create("app", json!({ "roleName": name, "adoption": "IfExists", "trustPolicy": ec2() })).await;
    world.ready("app").await;
    let tags = aws::role(&world.iam, &name).await.expect("the role").owner_tags;
    assert_eq!(tags["iamrole.dev/origin"], "Created");
    let keys = tags.keys().cloned().collect();
    world.iam.untag_role().role_name(&name).set_tag_keys(Some(keys)).send().await.expect("no tags");
    world.iam.attach_role_policy().role_name(&name).policy_arn(READ_ONLY).send().await.expect("a policy");
    world.check_now("app").await;
    let object = world.ready("app").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.owner_tags, role.attached.len()), (tags, 0), "and what nobody listed is taken off as before");
    assert_eq!(object.status.unwrap().role.unwrap().origin, Some(Origin::Created));
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
}

#[tokio::test]
async fn a_boundary_that_nobody_listed_is_left_alone() {
    let world = World::new("ownership").await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    let (name, boundary) = (world.templated("app"), READ_ONLY);
    let call = world.iam.put_role_permissions_boundary().role_name(&name).permissions_boundary(boundary);
    call.send().await.expect("a boundary");
    world.check_now("app").await;
    world.patch("app", json!({ "description": "edited" })).await;
    let object = world.ready("app").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.boundary.as_deref(), role.description.as_str()), (Some(boundary), "edited"));
    assert_eq!(object.status.unwrap().permissions_boundary, None);
}

#[tokio::test]
async fn what_nobody_listed_is_removed_but_for_the_exceptions() {
    let world = World::with_class("ownership", |class| {
        class.unlisted_exceptions = Some(UnlistedExceptions {
            inline_policies: vec!["guard-*".into()],
            managed_policies: vec!["arn:aws:iam::aws:policy/AWSSupport*".into()],
        });
    })
    .await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    let (name, support) = (world.templated("app"), "arn:aws:iam::aws:policy/AWSSupportAccess");
    aws::attach(&world.iam, &name, READ_ONLY).await;
    aws::attach(&world.iam, &name, support).await;
    for policy in ["theirs", "guard-1", "AWSRevokeOlderSessions"] {
        aws::put_inline(&world.iam, &name, policy, &allow("s3:GetObject")).await;
    }
    world.check_now("app").await;
    let object = world.ready("app").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.attached, BTreeSet::from([support.to_owned()]));
    assert_eq!(role.inline.keys().collect::<Vec<_>>(), ["AWSRevokeOlderSessions", "guard-1"]);
    assert_eq!(object.status.unwrap().unlisted, ["AWSRevokeOlderSessions", support, "guard-1"]);
    world.event("app", "DriftRepaired", READ_ONLY).await;
    world.event("app", "DriftRepaired", "theirs").await;
}

#[tokio::test]
async fn kept_is_what_nobody_listed_and_not_what_was_ours() {
    let world = World::new("ownership").await;
    let ours = "arn:aws:iam::aws:policy/SecurityAudit";
    world
        .create(
            "app",
            json!({
                "trustPolicy": ec2(), "whenUnlisted": "Keep", "managedPolicies": ["SecurityAudit"],
                "inlinePolicies": [{ "name": "ours", "document": allow("s3:GetObject") }],
            }),
        )
        .await;
    world.ready("app").await;
    let name = world.templated("app");
    aws::attach(&world.iam, &name, READ_ONLY).await;
    aws::put_inline(&world.iam, &name, "theirs", &allow("sqs:SendMessage")).await;
    world.check_now("app").await;
    let object = world.ready("app").await;
    assert_eq!(object.status.unwrap().unlisted, [READ_ONLY, "theirs"]);
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.attached, BTreeSet::from([READ_ONLY.to_owned(), ours.to_owned()]));

    world.patch("app", json!({ "managedPolicies": null, "inlinePolicies": null })).await;
    world.ready("app").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.attached, BTreeSet::from([READ_ONLY.to_owned()]), "ours is gone, theirs stays");
    assert_eq!(role.inline.keys().collect::<Vec<_>>(), ["theirs"]);

    world.patch("app", json!({ "whenUnlisted": "Remove" })).await;
    let object = world.ready("app").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.attached.len(), role.inline.len()), (0, 0));

    assert!(object.status.unwrap().unlisted.is_empty());
}

/// A read from before a deletion tells nothing of the role that has the name by now, however many had it since.
#[tokio::test]
async fn a_read_of_a_role_that_we_deleted_decides_nothing_about_the_one_that_is_there() {
    let mut world = World::without_operator("ghost", |_| {}).await;
    world.operator.settle = "30s";
    world.operator.start().await;
    let name = world.templated("app");
    let mut ids = Vec::new();
    for last in [false, false, true] {
        world.create("app", json!({ "trustPolicy": ec2() })).await;
        world.ready("app").await;
        ids.push(aws::role(&world.iam, &name).await.expect("the role").id);
        if !last {
            world.delete("app").await;
            world.gone("app").await;
        }
    }
    world.proxy.fault("GetRole", &name, usize::MAX, Fault::Rewrite(ids[2].clone(), ids[0].clone()));
    world.proxy.forget();
    world.patch("app", json!({ "inlinePolicies": [{ "name": "more", "document": allow("s3:Get*") }] })).await;
    world
        .until("app", "a read that shows the present", |role| {
            condition(role, "Ready").is_some_and(|ready| ready.message.contains("does not show yet"))
        })
        .await;
    assert_eq!(world.proxy.writes(), [""; 0]);
    world.proxy.heal();
    world.ready("app").await;
    assert_eq!(aws::role(&world.iam, &name).await.expect("the role").inline.len(), 1);
}
