//! Deletion ends when AWS lets it, and says what blocks it and what the way out is.

mod support;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeSet;
use support::{SOON, World, allow, aws, condition, ec2, eventually};

const READ_ONLY: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";
const WAY_OUT: &str = "spec.deletionPolicy: Retain";

#[tokio::test]
async fn everything_that_belongs_to_the_role_goes_with_it() {
    let world = World::new("deletion").await;
    let boundary = aws::foreign_policy(&world.iam, &format!("{}-boundary", world.namespace)).await;
    let document = |action: &str| json!([{ "name": "one", "document": allow(action) }]);
    world
        .create(
            "app",
            json!({
                "trustPolicy": ec2(), "permissionsBoundary": boundary, "managedPolicies": [READ_ONLY],
                "inlinePolicies": document("s3:GetObject"), "customerManagedPolicies": document("ec2:*"),
            }),
        )
        .await;
    world.ready("app").await;
    world.patch("app", json!({ "customerManagedPolicies": document("ec2:Describe*") })).await;
    world.ready("app").await;
    let name = world.templated("app");
    aws::attach(&world.iam, &name, "arn:aws:iam::aws:policy/SecurityAudit").await;
    aws::put_inline(&world.iam, &name, "theirs", &allow("s3:GetObject")).await;
    aws::put_inline(&world.iam, &name, "AWSRevokeOlderSessions", &allow("s3:GetObject")).await;
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
    assert_eq!(aws::policies_with(&world.iam, &name).await, BTreeSet::new());
    assert!(aws::policy(&world.iam, &boundary).await.is_some(), "the boundary was never ours");
    world.event("app", "Deleted", &format!("Role {name} and all that belonged to it is gone")).await;
}

#[tokio::test]
async fn objects_deleted_at_once_leave_nothing() {
    let world = World::new("deletion").await;
    let own = json!([{ "name": "own", "document": allow("ec2:*") }]);
    let objects = ["at-once", "begun", "under-way"];
    let slow = support::proxy::Fault::Delay(std::time::Duration::from_secs(1));
    world.proxy.fault("CreateRole", &world.templated("begun"), 1, slow.clone());
    world.proxy.fault("CreatePolicy", &world.templated("under-way"), 1, slow);
    for object in objects {
        world.create(object, json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
    }
    world.delete("at-once").await;
    for (action, object) in [("CreateRole", "begun"), ("CreatePolicy", "under-way")] {
        let called = || async { world.proxy.actions().iter().any(|called| called == action) };
        assert!(eventually(SOON, called).await);
        world.delete(object).await;
    }
    for object in objects {
        world.gone(object).await;
        assert_eq!(aws::role(&world.iam, &world.templated(object)).await, None);
    }
    assert_eq!(aws::policies_with(&world.iam, &world.namespace).await, BTreeSet::new());
}

#[tokio::test]
async fn a_namespace_goes_with_all_its_roles() {
    let world = World::new("deletion").await;
    let own = json!([{ "name": "own", "document": allow("ec2:*") }]);
    let objects: Vec<String> = (1..=25).map(|i| format!("role-{i}")).collect();
    for object in &objects {
        world.create(object, json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
    }
    for object in &objects {
        world.ready(object).await;
    }
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.expect("a deletion");
    let gone = || async { namespaces.get_opt(&world.namespace).await.expect("an answer").is_none() };
    assert!(eventually(3 * SOON, gone).await, "{}", world.operator.log());
    for object in &objects {
        assert_eq!(aws::role(&world.iam, &world.templated(object)).await, None);
    }
    assert_eq!(aws::policies_with(&world.iam, &world.namespace).await, BTreeSet::new());
}

#[tokio::test]
async fn an_instance_profile_blocks_by_name_and_force_takes_the_role_out() {
    let world = World::new("deletion").await;
    world.create("app", json!({ "trustPolicy": ec2(), "managedPolicies": [READ_ONLY] })).await;
    world.ready("app").await;
    let (name, profile) = (world.templated("app"), format!("{}-profile", world.namespace));
    world.iam.create_instance_profile().instance_profile_name(&profile).send().await.expect("a profile");
    let call = world.iam.add_role_to_instance_profile().instance_profile_name(&profile).role_name(&name);
    call.send().await.expect("a role in it");
    world.delete("app").await;
    let message = world.reason("app", "DeleteBlocked").await;
    for part in [&format!("instance profile {profile}"), "deletionPolicy: ForceDelete", WAY_OUT] {
        assert!(message.contains(part), "{part}: {message}");
    }
    world.event("app", "DeleteBlocked", &profile).await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert!(role.attached.contains(READ_ONLY), "nothing is taken off a role that stays in use");

    world.patch("app", json!({ "deletionPolicy": "ForceDelete" })).await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
    let answer = world.iam.get_instance_profile().instance_profile_name(&profile).send().await.expect("the profile");
    assert!(answer.instance_profile().expect("a profile").roles().is_empty(), "it stays, without the role");
}

#[tokio::test]
async fn a_kept_attachment_blocks_by_name_until_it_is_taken_away() {
    let world = World::new("deletion").await;
    let inline = json!([{ "name": "ours", "document": allow("s3:GetObject") }]);
    world.create("app", json!({ "trustPolicy": ec2(), "whenUnlisted": "Keep", "inlinePolicies": inline })).await;
    world.ready("app").await;
    let name = world.templated("app");
    aws::attach(&world.iam, &name, READ_ONLY).await;
    aws::put_inline(&world.iam, &name, "theirs", &allow("sqs:*")).await;
    world.delete("app").await;
    let message = world.reason("app", "DeleteBlocked").await;
    for part in [READ_ONLY, "inline policy theirs", "ForceDelete", WAY_OUT] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.attached.len(), role.inline.len()), (1, 2), "nothing is taken off a role that stays");

    world.iam.detach_role_policy().role_name(&name).policy_arn(READ_ONLY).send().await.expect("a detachment");
    world.iam.delete_role_policy().role_name(&name).policy_name("theirs").send().await.expect("a deletion");
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
}

#[tokio::test]
async fn a_class_waits_for_its_last_role() {
    let world = World::new("deletion").await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    world.classes().delete(&world.namespace, &DeleteParams::default()).await.expect("a deletion");
    world.create("late", json!({ "trustPolicy": ec2() })).await;
    let message = world.reason("late", "NoClass").await;
    assert!(message.contains("default IamRoleClass"), "a terminating class is absent for new roles: {message}");
    assert!(world.classes().get_opt(&world.namespace).await.expect("an answer").is_some());
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &world.templated("app")).await, None);
    let gone = || async { world.classes().get_opt(&world.namespace).await.expect("an answer").is_none() };
    assert!(eventually(SOON, gone).await, "{}", world.operator.log());
    world.delete("late").await;
    world.gone("late").await;
}

#[tokio::test]
async fn without_its_class_a_deletion_is_blocked_and_has_ways_out() {
    let world = World::new("deletion").await;
    for object in ["kept", "removed"] {
        world.create(object, json!({ "trustPolicy": ec2() })).await;
        world.ready(object).await;
    }
    let spec = world.classes().get(&world.namespace).await.expect("the class").spec;
    world.classes().delete(&world.namespace, &DeleteParams::default()).await.expect("a deletion");
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    world.classes().patch(&world.namespace, &PatchParams::default(), &patch).await.expect("no finalizer");
    let gone = || async { world.classes().get_opt(&world.namespace).await.expect("an answer").is_none() };
    assert!(eventually(SOON, gone).await);
    world.proxy.forget();
    for object in ["kept", "removed"] {
        world.delete(object).await;
        let message = world.reason(object, "DeleteBlocked").await;
        for part in [&format!("IamRoleClass {}", world.namespace), "restore it", WAY_OUT] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    assert_eq!(world.proxy.actions(), [""; 0]);
    world.patch("kept", json!({ "deletionPolicy": "Retain" })).await;
    world.gone("kept").await;
    assert!(aws::role(&world.iam, &world.templated("kept")).await.is_some());
    world.create_class(&world.namespace.clone(), spec, true).await;
    world.gone("removed").await;
    assert_eq!(aws::role(&world.iam, &world.templated("removed")).await, None);
}

#[tokio::test]
async fn an_invalid_spec_is_deleted_all_the_same() {
    let world = World::new("deletion").await;
    let own = json!([{ "name": "own", "document": allow("ec2:*") }]);
    world.create("app", json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
    world.ready("app").await;
    world.patch("app", json!({ "trustPolicy": null, "trustPolicyJson": "{ nonsense" })).await;
    world.reason("app", "InvalidSpec").await;
    world.create("never", json!({ "trustPolicyJson": "{ nonsense" })).await;
    world.reason("never", "InvalidSpec").await;
    for object in ["app", "never"] {
        world.delete(object).await;
        world.gone(object).await;
        assert_eq!(aws::role(&world.iam, &world.templated(object)).await, None);
    }
    assert_eq!(aws::policies_with(&world.iam, &world.namespace).await, BTreeSet::new());
}

#[tokio::test]
async fn a_role_deleted_by_hand_does_not_hold_its_object() {
    let mut world = World::new("deletion").await;
    let own = json!([{ "name": "own", "document": allow("ec2:*") }]);
    world.create("app", json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
    world.ready("app").await;
    // A 404 soon after the creation would not be believed.
    world.operator.restart().await;
    let name = world.templated("app");
    aws::delete_role(&world.iam, &name).await;
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::policies_with(&world.iam, &name).await, BTreeSet::new(), "its policies go as well");
}

#[tokio::test]
async fn a_policy_whose_tags_are_not_ours_any_more_stays() {
    let world = World::new("deletion").await;
    let own = json!([{ "name": "own", "document": allow("ec2:*") }]);
    world.create("app", json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
    world.ready("app").await;
    let name = world.templated("app");
    let arn = format!("arn:aws:iam::123456789012:policy/{name}.own");
    world.iam.untag_policy().policy_arn(&arn).tag_keys("iamrole.dev/cluster").send().await.expect("no tag");
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
    assert_eq!(aws::policy(&world.iam, &arn).await.expect("the policy").document, allow("ec2:*"));
}

#[tokio::test]
async fn a_policy_that_others_use_blocks_by_their_names() {
    let world = World::new("deletion").await;
    let own = json!([{ "name": "own", "document": allow("ec2:*") }]);
    world.create("app", json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
    world.ready("app").await;
    // A group: among many roles the emulator does not find the users of a policy.
    let (name, other) = (world.templated("app"), format!("{}-other", world.namespace));
    let arn = format!("arn:aws:iam::123456789012:policy/{name}.own");
    world.iam.create_group().group_name(&other).send().await.expect("a group");
    world.iam.attach_group_policy().group_name(&other).policy_arn(&arn).send().await.expect("an attachment");
    // The emulator would delete it.
    let message = "Cannot delete a policy attached to entities.";
    world.proxy.refuse("DeletePolicy", &arn, 409, "DeleteConflict", message);
    world.delete("app").await;
    let message = world.reason("app", "DeleteBlocked").await;
    for part in [&arn, &format!("group {other}"), WAY_OUT] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let object = world.get("app").await;
    assert!(condition(&object, "Stalled").is_none(), "it may pass by itself");
    assert_eq!(object.status.unwrap().plan[0].action, "DeletePolicy");

    world.iam.detach_group_policy().group_name(&other).policy_arn(&arn).send().await.expect("a detachment");
    world.proxy.heal();
    world.gone("app").await;
    assert_eq!(aws::policy(&world.iam, &arn).await, None);
}

#[tokio::test]
async fn a_deletion_cut_off_by_a_crash_is_finished_after_the_restart() {
    let mut world = World::new("deletion").await;
    let own = json!([{ "name": "own", "document": allow("ec2:*") }]);
    let steps = ["DetachRolePolicy", "DeleteRole", "DeletePolicy"];
    for step in steps {
        let object = step.to_lowercase();
        world.create(&object, json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
        world.ready(&object).await;
        let fault = support::proxy::Fault::Delay(std::time::Duration::from_secs(1));
        world.proxy.fault(step, &world.templated(&object), 1, fault);
        world.delete(&object).await;
    }
    let under_way = || async { steps.iter().all(|step| world.proxy.actions().iter().any(|action| action == step)) };
    assert!(eventually(SOON, under_way).await, "{:?}", world.proxy.actions());
    world.operator.restart().await;
    for step in steps {
        world.gone(&step.to_lowercase()).await;
        assert_eq!(aws::role(&world.iam, &world.templated(&step.to_lowercase())).await, None);
    }
    assert_eq!(aws::policies_with(&world.iam, &world.namespace).await, BTreeSet::new());
}
