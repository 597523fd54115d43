//! The story that must work: the classic boto3 tutorial (role, policy, attachment), declaratively.

mod support;

use iamrole_operator::api::IamRole;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::kubectl::kubectl_ok;
use support::{World, allow, aws, ec2, trust};

#[tokio::test]
async fn a_role_comes_and_goes_with_all_that_belongs_to_it() {
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_changed_and_deleted_is_told_once_each_and_kubectl_describe_shows_it() {
    let mut world = World::new("told").await;
    let shown = |world: &World| -> Vec<(String, String)> {
        let text = kubectl_ok(&["describe", "iamrole", "app", "-n", &world.namespace], "");
        let lines = text.lines().skip_while(|line| !line.starts_with("Events:")).skip(3);
        let words = lines.map(|line| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>());
        words.map(|words| (words[0].clone(), words[1].clone())).collect()
    };
    let normal = |reasons: &[&str]| -> Vec<(String, String)> {
        reasons.iter().map(|reason| ("Normal".to_owned(), (*reason).to_owned())).collect()
    };
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    world.event("app", "Created", "").await;
    world.patch("app", json!({ "description": "new" })).await;
    world.ready("app").await;
    world.event("app", "Updated", "").await;
    for _ in 0..2 {
        world.check_now("app").await;
    }
    world.operator.restart().await;
    world.check_now("app").await;
    let mut told = shown(&world);
    told.sort();
    assert_eq!(told, normal(&["Created", "Updated"]));

    world.delete("app").await;
    world.gone("app").await;
    // The change in AWS, and that nothing is left of it.
    world.event("app", "Deleted", "and all that belonged to it is gone").await;
    let events = world.events("app").await;
    let notes: BTreeSet<&String> = events.iter().map(|(_, _, note)| note).collect();
    assert_eq!(notes.len(), events.len(), "none says what another says: {events:?}");
    let mut told: Vec<_> = events.iter().map(|(tone, reason, _)| (tone.clone(), reason.clone())).collect();
    told.sort();
    assert_eq!(told, normal(&["Created", "Deleted", "Deleted", "Updated"]));
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

/// An edit of one field, and the only calls by which AWS is changed.
async fn edit(world: &World, patch: Value, calls: &[&str]) -> (aws::Role, IamRole) {
    world.proxy.forget();
    world.patch("app-role", patch.clone()).await;
    // It waits for seconds, and by itself a role is looked at after minutes.
    let object = world.ready("app-role").await;
    assert_eq!(world.proxy.writes(), calls, "{patch}");
    let role = aws::role(&world.iam, &world.templated("app-role")).await.expect("the role");
    (role, object)
}

#[tokio::test]
async fn each_edited_field_arrives_and_nothing_else_is_touched() {
    let world = World::new("story").await;
    world
        .create(
            "app-role",
            json!({
                "description": "This is a test role", "tags": { "Owner": "msb", "Team": "shop" }, "trustPolicy": ec2(),
                "maxSessionDurationSeconds": 7200,
                "inlinePolicies": [{ "name": "first", "document": allow("s3:GetObject") }],
                "managedPolicies": ["ReadOnlyAccess"],
            }),
        )
        .await;
    world.ready("app-role").await;
    let mut expected = aws::role(&world.iam, &world.templated("app-role")).await.expect("the role");
    let boundary = aws::foreign_policy(&world.iam, &format!("{}-boundary", world.namespace)).await;
    let other = aws::foreign_policy(&world.iam, &format!("{}-other", world.namespace)).await;

    expected.tags.insert("Owner".into(), "somebody else".into());
    let patch = json!({ "tags": { "Owner": "somebody else" } });
    assert_eq!(edit(&world, patch, &["TagRole"]).await.0, expected);

    expected.tags.remove("Team");
    expected.tags.insert("Stage".into(), "test".into());
    let patch = json!({ "tags": { "Team": null, "Stage": "test" } });
    assert_eq!(edit(&world, patch, &["TagRole", "UntagRole"]).await.0, expected);

    expected.description = "Another text".into();
    assert_eq!(edit(&world, json!({ "description": "Another text" }), &["UpdateRole"]).await.0, expected);

    expected.max_session = 43200;
    assert_eq!(edit(&world, json!({ "maxSessionDurationSeconds": 43200 }), &["UpdateRole"]).await.0, expected);

    expected.trust = trust(&json!({ "AWS": "arn:aws:iam::210987654321:user/alice" }));
    let patch = json!({ "trustPolicy": expected.trust });
    assert_eq!(edit(&world, patch, &["UpdateAssumeRolePolicy"]).await.0, expected);

    expected.inline.insert("second".into(), allow("sqs:SendMessage"));
    let first = json!({ "name": "first", "document": allow("s3:GetObject") });
    let second = json!({ "name": "second", "document": allow("sqs:SendMessage") });
    let patch = json!({ "inlinePolicies": [first, second] });
    assert_eq!(edit(&world, patch, &["PutRolePolicy"]).await.0, expected);

    expected.inline.insert("first".into(), allow("s3:PutObject"));
    let first = json!({ "name": "first", "document": allow("s3:PutObject") });
    let patch = json!({ "inlinePolicies": [first, second] });
    assert_eq!(edit(&world, patch, &["PutRolePolicy"]).await.0, expected);

    expected.inline.remove("second");
    assert_eq!(edit(&world, json!({ "inlinePolicies": [first] }), &["DeleteRolePolicy"]).await.0, expected);

    expected.attached.insert(other.clone());
    let patch = json!({ "managedPolicies": ["ReadOnlyAccess", other] });
    assert_eq!(edit(&world, patch, &["AttachRolePolicy"]).await.0, expected);

    expected.attached.remove("arn:aws:iam::aws:policy/ReadOnlyAccess");
    let patch = json!({ "managedPolicies": [other] });
    assert_eq!(edit(&world, patch, &["DetachRolePolicy"]).await.0, expected);

    expected.boundary = Some(boundary.clone());
    let patch = json!({ "permissionsBoundary": boundary });
    assert_eq!(edit(&world, patch, &["PutRolePermissionsBoundary"]).await.0, expected);

    expected.boundary = Some(other.clone());
    let patch = json!({ "permissionsBoundary": other });
    let (role, object) = edit(&world, patch, &["PutRolePermissionsBoundary"]).await;
    assert_eq!(role, expected);
    assert_eq!(object.status.unwrap().permissions_boundary, Some(other));
}

#[tokio::test]
async fn an_own_policy_comes_changes_by_versions_and_goes() {
    let world = World::new("story").await;
    world.create("app-role", json!({ "trustPolicy": ec2() })).await;
    world.ready("app-role").await;
    let before = aws::role(&world.iam, &world.templated("app-role")).await.expect("the role");
    let arn = format!("arn:aws:iam::123456789012:policy/{}.own", world.templated("app-role"));
    let own = |action: &str| json!({ "customerManagedPolicies": [{ "name": "own", "document": allow(action) }] });

    let (role, _) = edit(&world, own("ec2:*"), &["CreatePolicy", "AttachRolePolicy"]).await;
    assert_eq!(role, aws::Role { attached: BTreeSet::from([arn.clone()]), ..before.clone() });

    for edited in 1..=7 {
        let action = format!("ec2:Describe{edited}*");
        let room = ["DeletePolicyVersion", "CreatePolicyVersion"];
        let (_, object) = edit(&world, own(&action), if edited < 5 { &room[1..] } else { &room }).await;
        let policy = aws::policy(&world.iam, &arn).await.expect("the policy");
        assert_eq!(policy.document, allow(&action));
        assert_eq!(policy.version, format!("v{}", edited + 1));
        assert_eq!(policy.versions, 5.min(edited + 1));
        let recorded = &object.status.unwrap().customer_managed_policies[0];
        assert_eq!(recorded.version.as_deref(), Some(policy.version.as_str()));
    }

    let gone = ["DetachRolePolicy", "DeletePolicyVersion", "DeletePolicyVersion", "DeletePolicyVersion"];
    let calls = [&gone[..], &["DeletePolicyVersion", "DeletePolicy"]].concat();
    let (role, object) = edit(&world, json!({ "customerManagedPolicies": null }), &calls).await;
    assert_eq!(role, before);
    assert_eq!(object.status.unwrap().customer_managed_policies, []);
    assert_eq!(aws::policy(&world.iam, &arn).await, None);
}

#[tokio::test]
async fn each_removed_field_is_cleared() {
    let world = World::new("story").await;
    let boundary = aws::foreign_policy(&world.iam, &format!("{}-boundary", world.namespace)).await;
    world
        .create(
            "app-role",
            json!({
                "description": "This is a test role", "tags": { "Owner": "msb" }, "trustPolicy": ec2(),
                "maxSessionDurationSeconds": 7200, "permissionsBoundary": boundary,
                "inlinePolicies": [{ "name": "first", "document": allow("s3:GetObject") }],
                "managedPolicies": ["ReadOnlyAccess"],
            }),
        )
        .await;
    world.ready("app-role").await;
    let mut expected = aws::role(&world.iam, &world.templated("app-role")).await.expect("the role");
    assert_eq!(expected.boundary, Some(boundary));

    expected.description = String::new();
    assert_eq!(edit(&world, json!({ "description": null }), &["UpdateRole"]).await.0, expected);
    expected.max_session = 3600;
    assert_eq!(edit(&world, json!({ "maxSessionDurationSeconds": null }), &["UpdateRole"]).await.0, expected);
    expected.tags.clear();
    let (role, object) = edit(&world, json!({ "tags": null }), &["UntagRole"]).await;
    assert_eq!((role, object.status.unwrap().tag_keys), (expected.clone(), vec![]));
    expected.inline.clear();
    assert_eq!(edit(&world, json!({ "inlinePolicies": null }), &["DeleteRolePolicy"]).await.0, expected);
    expected.attached.clear();
    assert_eq!(edit(&world, json!({ "managedPolicies": null }), &["DetachRolePolicy"]).await.0, expected);
    expected.boundary = None;
    let (role, object) = edit(&world, json!({ "permissionsBoundary": null }), &["DeleteRolePermissionsBoundary"]).await;
    assert_eq!((role, object.status.unwrap().permissions_boundary), (expected, None));
}
