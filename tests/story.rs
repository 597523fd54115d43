//! The story that must work: the classic boto3 tutorial (role, policy, attachment), declaratively.

mod support;

use serde_json::json;
use std::collections::BTreeSet;
use support::{World, allow, aws, ec2, trust};

#[tokio::test]
async fn a_role_comes_is_edited_field_by_field_and_goes() {
    let world = World::new("story").await;
    let name = format!("app-role-{}", world.namespace);
    let policy = format!("arn:aws:iam::123456789012:policy/{name}_policy");
    world
        .create("app-role", json!({
            "roleName": name, "description": "This is a test role", "tags": { "Owner": "msb" },
            "trustPolicy": ec2(),
            "customerManagedPolicies": [{ "name": "ec2", "policyName": format!("{name}_policy"), "document": allow("ec2:*") }],
        }))
        .await;
    let object = world.ready("app-role").await;
    assert_eq!(object.status.unwrap().role.unwrap().arn.unwrap(), format!("arn:aws:iam::123456789012:role/{name}"));

    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.path.as_str(), role.description.as_str(), role.max_session), ("/", "This is a test role", 3600));
    assert_eq!(role.tags, [("Owner".to_owned(), "msb".to_owned())].into());
    assert_eq!(role.owner_tags["iamrole.dev/namespace"], world.namespace);
    assert_eq!(role.trust, ec2());
    assert_eq!(role.attached, BTreeSet::from([policy.clone()]));
    assert_eq!(aws::policy(&world.iam, &policy).await.expect("the policy").document, allow("ec2:*"));

    world.delete("app-role").await;
    world.gone("app-role").await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
    assert_eq!(aws::policy(&world.iam, &policy).await, None);
}

#[tokio::test]
async fn its_second_form_trusts_a_user_of_another_account() {
    let world = World::new("story").await;
    let user = trust(&json!({ "AWS": "arn:aws:iam::210987654321:user/alice" }));
    world.create("app-role", json!({ "trustPolicy": user })).await;
    world.ready("app-role").await;
    let role = aws::role(&world.iam, &world.templated("app-role")).await.expect("the role");
    assert_eq!(role.trust, user);
}
