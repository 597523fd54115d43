//! An update that is cut off anywhere, or refused in part, never leaves more power than the spec ever
//! combined, and ends where it should.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use support::proxy::Fault;
use support::{SOON, World, allow, aws, ec2, eventually, trust};

const AUDIT: &str = "arn:aws:iam::aws:policy/SecurityAudit";
const ADMIN: &str = "arn:aws:iam::aws:policy/AdministratorAccess";
/// The calls of the edit from `old` to `new`, each with an object of its own.
const EDITING: [&str; 13] = [
    "TagRole",
    "UntagRole",
    "UpdateRole",
    "PutRolePermissionsBoundary",
    "UpdateAssumeRolePolicy",
    "AttachRolePolicy",
    "DetachRolePolicy",
    "PutRolePolicy",
    "DeleteRolePolicy",
    "CreatePolicy",
    "CreatePolicyVersion",
    "DeletePolicyVersion",
    "DeletePolicy",
];
const DELETING: [&str; 4] = ["DetachRolePolicy", "DeleteRolePolicy", "DeleteRole", "DeletePolicy"];

fn named(names: &[(&str, &str)]) -> Value {
    names.iter().map(|(name, action)| json!({ "name": name, "document": allow(action) })).collect()
}

fn lambda() -> Value {
    trust(&json!({ "Service": "lambda.amazonaws.com" }))
}

fn old() -> Value {
    json!({
        "description": "old", "tags": { "Kept": "old", "Gone": "x" }, "trustPolicy": ec2(),
        "managedPolicies": ["ReadOnlyAccess"], "inlinePolicies": named(&[("kept", "s3:GetObject"), ("gone", "s3:*")]),
        "customerManagedPolicies": named(&[("kept", "ec2:*"), ("gone", "ec2:*")]),
    })
}

fn new() -> Value {
    json!({
        "description": "new", "tags": { "Kept": "new", "Gone": null }, "trustPolicy": lambda(),
        "permissionsBoundary": AUDIT, "managedPolicies": ["SecurityAudit"],
        "inlinePolicies": named(&[("kept", "sqs:*"), ("come", "s3:PutObject")]),
        "customerManagedPolicies": named(&[("kept", "sqs:*"), ("come", "sns:*")]),
    })
}

async fn is_new(world: &World, object: &str) {
    world.ready(object).await;
    let name = world.templated(object);
    let own = |entry: &str| format!("arn:aws:iam::123456789012:policy/{name}.{entry}");
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.description.as_str(), role.boundary.as_deref()), ("new", Some(AUDIT)));
    assert_eq!((role.tags, role.trust), ([("Kept".to_owned(), "new".to_owned())].into(), lambda()));
    assert_eq!(role.attached, BTreeSet::from([AUDIT.to_owned(), own("kept"), own("come")]));
    let inline = [("kept", "sqs:*"), ("come", "s3:PutObject")];
    assert_eq!(role.inline, inline.map(|(name, action)| (name.to_owned(), allow(action))).into());
    let names = BTreeSet::from([format!("{name}.kept"), format!("{name}.come")]);
    assert_eq!(aws::policies_with(&world.iam, &format!("{name}.")).await, names);
    for (entry, action) in [("kept", "sqs:*"), ("come", "sns:*")] {
        let policy = aws::policy(&world.iam, &own(entry)).await.expect("the policy");
        assert_eq!(policy.document, allow(action));
        assert!(policy.versions <= 5);
    }
}

/// Does the edit and then the deletion, each call of each disturbed on an object of its own.
async fn converges(fault: &Fault) {
    let mut world = World::new("updates").await;
    let object = |action: &str| action.to_lowercase();
    for action in EDITING {
        world.create(&object(action), old()).await;
    }
    for action in EDITING {
        world.ready(&object(action)).await;
    }
    // Old versions, so that an update has to make room and a deletion to clear up.
    for action in EDITING {
        let name = world.templated(&object(action));
        for entry in ["kept", "gone"] {
            for _ in 0..4 {
                let call = world.iam.create_policy_version().policy_document(allow("ec2:*").to_string());
                let arn = format!("arn:aws:iam::123456789012:policy/{name}.{entry}");
                call.policy_arn(arn).send().await.expect("a version");
            }
        }
        world.proxy.fault(action, &name, 4, fault.clone());
        world.patch(&object(action), new()).await;
    }
    for action in EDITING {
        is_new(&world, &object(action)).await;
        assert!(world.proxy.happened(action), "{action} was disturbed");
    }
    for action in DELETING {
        world.create(&format!("{}-2", object(action)), old()).await;
    }
    for action in DELETING {
        world.ready(&format!("{}-2", object(action))).await;
    }
    // Soon after it was created, a role that is not seen would be waited for.
    world.operator.restart().await;
    for action in DELETING {
        let object = format!("{}-2", object(action));
        world.proxy.fault(action, &world.templated(&object), 4, fault.clone());
        world.delete(&object).await;
    }
    for action in DELETING {
        let object = format!("{}-2", object(action));
        world.gone(&object).await;
        assert_eq!(aws::role(&world.iam, &world.templated(&object)).await, None);
        assert_eq!(aws::policies_with(&world.iam, &world.templated(&object)).await, BTreeSet::new());
        assert!(world.proxy.happened(action), "{action} was disturbed");
    }
}

#[tokio::test]
async fn an_edit_whose_calls_aws_never_saw_arrives() {
    converges(&Fault::DropBefore).await;
}

#[tokio::test]
async fn an_edit_whose_answers_were_lost_arrives() {
    converges(&Fault::DropAfter).await;
}

#[tokio::test]
async fn nothing_is_added_while_the_boundary_is_refused() {
    let world = World::new("updates").await;
    world.create("app", old()).await;
    world.ready("app").await;
    let name = world.templated("app");
    let before = aws::role(&world.iam, &name).await.expect("the role");
    world.proxy.refuse("PutRolePermissionsBoundary", &name, 403, "AccessDenied", "not authorized");
    world.patch("app", new()).await;
    world.reason("app", "AccessDenied").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((&role.attached, &role.inline), (&before.attached, &before.inline));
    assert_ne!(role.trust, lambda(), "the new principal does not get the old permissions");
    assert_eq!((role.description.as_str(), role.tags["Kept"].as_str()), ("new", "new"), "these depend on nothing");
    let policies = aws::policies_with(&world.iam, &format!("{name}.")).await;
    assert_eq!(policies, BTreeSet::from([format!("{name}.kept"), format!("{name}.gone")]));
    world.proxy.heal();
    is_new(&world, "app").await;
}

#[tokio::test]
async fn nothing_is_removed_and_nobody_comes_while_an_addition_is_refused() {
    let world = World::new("updates").await;
    world.create("app", old()).await;
    world.ready("app").await;
    let name = world.templated("app");
    world.proxy.refuse("PutRolePolicy", "come", 403, "AccessDenied", "not authorized");
    world.patch("app", new()).await;
    world.reason("app", "AccessDenied").await;
    aws::attach(&world.iam, &name, ADMIN).await;
    aws::put_inline(&world.iam, &name, "theirs", &allow("*")).await;
    world.check_now("app").await;
    world.event("app", "DriftRepaired", ADMIN).await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert!(
        !role.attached.contains(ADMIN) && !role.inline.contains_key("theirs"),
        "what strangers put there waits for nothing"
    );
    assert!(role.inline.contains_key("gone") && role.attached.contains("arn:aws:iam::aws:policy/ReadOnlyAccess"));
    assert!(role.attached.contains(&format!("arn:aws:iam::123456789012:policy/{name}.gone")));
    assert_eq!(role.inline["kept"], allow("sqs:*"), "other additions are made");
    assert_ne!(role.trust, lambda(), "the new principal waits until the old permissions are gone");
    world.proxy.heal();
    is_new(&world, "app").await;
}

#[tokio::test]
async fn an_own_policy_that_others_use_by_now_holds_up_nothing_else() {
    let world = World::new("updates").await;
    world.create("app", old()).await;
    world.ready("app").await;
    let (name, users) = (world.templated("app"), format!("{}-users", world.namespace));
    let gone = format!("arn:aws:iam::123456789012:policy/{name}.gone");
    // A group: among many roles the emulator does not find the users of a policy. And it would delete it.
    world.iam.create_group().group_name(&users).send().await.expect("a group");
    world.iam.attach_group_policy().group_name(&users).policy_arn(&gone).send().await.expect("an attachment");
    world.proxy.refuse("DeletePolicy", &gone, 409, "DeleteConflict", "Cannot delete a policy attached to entities.");
    world.patch("app", new()).await;
    let message = world.reason("app", "DeleteBlocked").await;
    assert!(message.contains(&gone) && message.contains(&format!("group {users}")), "{message}");
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.trust, role.boundary.as_deref(), role.inline.len()), (lambda(), Some(AUDIT), 2));
    assert!(!role.attached.contains(&gone));
    world.iam.detach_group_policy().group_name(&users).policy_arn(&gone).send().await.expect("out of use");
    world.proxy.heal();
    world.check_now("app").await;
    is_new(&world, "app").await;
}

#[tokio::test]
async fn a_right_to_untag_that_is_missing_stops_nothing_else() {
    let world = World::new("updates").await;
    world.create("app", old()).await;
    world.ready("app").await;
    let name = world.templated("app");
    world.proxy.refuse("UntagRole", &name, 403, "AccessDenied", "not authorized");
    world.patch("app", new()).await;
    let message = world.reason("app", "AccessDenied").await;
    assert!(message.contains("iam:UntagRole"), "{message}");
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.trust, role.inline.len(), role.tags.len()), (lambda(), 2, 2));
    world.proxy.heal();
    is_new(&world, "app").await;
}

#[tokio::test]
async fn an_operator_killed_in_the_middle_of_an_edit_finishes_it_after_the_restart() {
    let mut world = World::new("updates").await;
    for action in EDITING {
        world.create(&action.to_lowercase(), old()).await;
    }
    for action in EDITING {
        let object = action.to_lowercase();
        world.ready(&object).await;
        world.proxy.fault(action, &world.templated(&object), 1, Fault::Delay(Duration::from_secs(2)));
        world.patch(&object, new()).await;
    }
    // Old versions to delete there are none here.
    let disturbed = || async {
        EDITING.iter().filter(|action| **action != "DeletePolicyVersion").all(|action| world.proxy.happened(action))
    };
    assert!(eventually(SOON, disturbed).await, "{:?}", world.proxy.actions());
    world.operator.restart().await;
    for action in EDITING {
        is_new(&world, &action.to_lowercase()).await;
    }
}
