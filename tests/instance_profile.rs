//! The instance profile of a role: made and filled with it, mended, renamed, removed; a stranger's is left alone.

mod support;

use aws_sdk_iam::types::InstanceProfile;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::proxy::Fault;
use support::{World, allow, aws, ec2, trust};

fn spec(profile: &Value) -> Value {
    let inline = json!([{ "name": "inline", "document": allow("s3:GetObject") }]);
    json!({ "trustPolicy": ec2(), "inlinePolicies": inline, "instanceProfile": profile })
}

async fn profile(world: &World, name: &str) -> Option<InstanceProfile> {
    match world.iam.get_instance_profile().instance_profile_name(name).send().await {
        Ok(answer) => answer.instance_profile,
        Err(error) => {
            let error = error.into_service_error();
            assert!(error.is_no_such_entity_exception(), "{error:?}");
            None
        }
    }
}

/// The profile exists, is ours, and holds the role of the object and nothing else.
async fn is_filled(world: &World, name: &str, object: &str) {
    let found = profile(world, name).await.expect("the profile");
    let roles: Vec<&str> = found.roles().iter().map(aws_sdk_iam::types::Role::role_name).collect();
    assert_eq!(roles, [world.templated(object)]);
    let tags: BTreeMap<&str, String> = found.tags().iter().map(|tag| (tag.key(), tag.value().to_owned())).collect();
    assert_eq!(tags, world.owner_tags(object, "Created").await.into());
}

#[tokio::test]
async fn it_comes_with_the_role_and_goes_with_it() {
    let world = World::new("profile").await;
    world.create("app", spec(&json!({}))).await;
    let object = world.ready("app").await;
    let name = world.templated("app");
    is_filled(&world, &name, "app").await;
    let status = object.status.expect("a status").instance_profile.expect("instanceProfile");
    assert_eq!(status.name, name);
    assert_eq!(status.arn, Some(format!("arn:aws:iam::123456789012:instance-profile/{name}")));
    let made = ["CreateRole", "PutRolePolicy", "CreateInstanceProfile", "AddRoleToInstanceProfile"];
    assert_eq!(world.proxy.actions(), made, "not a call more");

    world.proxy.forget();
    world.check_now("app").await;
    assert_eq!(world.proxy.writes(), Vec::<String>::new());

    world.delete("app").await;
    world.gone("app").await;
    assert!(profile(&world, &name).await.is_none() && aws::role(&world.iam, &name).await.is_none());
}

#[tokio::test]
async fn it_is_renamed_and_removed_with_the_spec() {
    let world = World::new("profile").await;
    let name = |n: u8| format!("{}-{n}", world.namespace);
    world.create("app", spec(&json!({ "name": name(1) }))).await;
    world.ready("app").await;
    is_filled(&world, &name(1), "app").await;
    world.patch("app", json!({ "instanceProfile": { "name": name(2) } })).await;
    world.ready("app").await;
    is_filled(&world, &name(2), "app").await;
    assert!(profile(&world, &name(1)).await.is_none());
    world.patch("app", json!({ "instanceProfile": null })).await;
    let object = world.ready("app").await;
    assert!(profile(&world, &name(2)).await.is_none());
    assert_eq!(object.status.expect("a status").instance_profile, None);
}

#[tokio::test]
async fn one_that_cannot_go_is_named_and_holds_up_nothing() {
    let world = World::new("profile").await;
    world.create("app", spec(&json!({}))).await;
    world.ready("app").await;
    let name = world.templated("app");
    let message = "Cannot delete entity, must remove roles from instance profile first.";
    world.proxy.refuse("DeleteInstanceProfile", &name, 409, "DeleteConflict", message);
    let lambda = trust(&json!({ "Service": "lambda.amazonaws.com" }));
    world.patch("app", json!({ "instanceProfile": null, "trustPolicy": lambda })).await;
    let message = world.reason("app", "DeleteBlocked").await;
    assert!(message.contains(&format!("instance profile {name} can't be deleted")), "{message}");
    assert_eq!(aws::role(&world.iam, &name).await.expect("the role").trust, lambda);
    world.proxy.heal();
    world.check_now("app").await;
    world.ready("app").await;
    assert!(profile(&world, &name).await.is_none());
}

#[tokio::test]
async fn a_strangers_is_refused_and_holds_nothing_up() {
    let world = World::new("profile").await;
    let name = world.namespace.clone();
    world.iam.create_instance_profile().instance_profile_name(&name).send().await.expect("a profile");
    world.create("app", spec(&json!({ "name": name }))).await;
    let message = world.reason("app", "InstanceProfileNotOwned").await;
    assert!(message.contains(&format!("instance-profile/{name}")) && message.contains("another"), "{message}");
    let role = aws::role(&world.iam, &world.templated("app")).await.expect("the role");
    assert!(role.inline.contains_key("inline"));
    world.patch("app", json!({ "inlinePolicies": null })).await;
    world.reason("app", "InstanceProfileNotOwned").await;
    let role = aws::role(&world.iam, &world.templated("app")).await.expect("the role");
    assert!(role.inline.is_empty(), "removals go on");
    world.delete("app").await;
    world.gone("app").await;
    assert!(profile(&world, &name).await.is_some_and(|profile| profile.tags().is_empty()), "untouched");
}

#[tokio::test]
async fn what_was_changed_by_hand_is_mended() {
    let world = World::new("profile").await;
    world.create("app", spec(&json!({}))).await;
    world.ready("app").await;
    let (name, other) = (world.templated("app"), format!("other-{}", world.namespace));
    aws::foreign_role(&world.iam, &other).await;
    let leave = world.iam.remove_role_from_instance_profile().instance_profile_name(&name);
    leave.role_name(&name).send().await.expect("it leaves");
    let join = world.iam.add_role_to_instance_profile().instance_profile_name(&name);
    join.role_name(&other).send().await.expect("another one joins");
    world.proxy.forget();
    world.check_now("app").await;
    is_filled(&world, &name, "app").await;
    assert_eq!(world.proxy.writes(), ["RemoveRoleFromInstanceProfile", "AddRoleToInstanceProfile"]);
    world.event("app", "DriftRepaired", "put the role into instance profile").await;
    assert!(aws::role(&world.iam, &other).await.is_some());

    let leave = world.iam.remove_role_from_instance_profile().instance_profile_name(&name);
    leave.role_name(&name).send().await.expect("it leaves");
    world.iam.delete_instance_profile().instance_profile_name(&name).send().await.expect("it is deleted");
    world.check_now("app").await;
    is_filled(&world, &name, "app").await;
}

#[tokio::test]
async fn lost_answers_and_refusals_converge() {
    let world = World::new("profile").await;
    let making = [("CreateInstanceProfile", "create"), ("AddRoleToInstanceProfile", "join")];
    // As many as the SDK tries.
    for (action, object) in making {
        world.proxy.fault(action, &world.templated(object), 3, Fault::DropAfter);
        world.create(object, spec(&json!({}))).await;
    }
    for (action, object) in making {
        world.ready(object).await;
        is_filled(&world, &world.templated(object), object).await;
        assert!(world.proxy.happened(action));
    }
    let going = [("RemoveRoleFromInstanceProfile", "create"), ("DeleteInstanceProfile", "join")];
    for (action, object) in going {
        world.proxy.fault(action, &world.templated(object), 3, Fault::DropAfter);
        world.delete(object).await;
    }
    for (action, object) in going {
        world.gone(object).await;
        assert!(profile(&world, &world.templated(object)).await.is_none());
        assert!(world.proxy.happened(action));
    }
    world.proxy.refuse("CreateInstanceProfile", "", 403, "AccessDenied", "not authorized to iam:CreateInstanceProfile");
    world.create("denied", spec(&json!({}))).await;
    let message = world.reason("denied", "AccessDenied").await;
    assert!(message.contains("iam:CreateInstanceProfile") && !message.contains("AddRole"), "{message}");
    world.proxy.heal();
    world.check_now("denied").await;
    world.ready("denied").await;
}
