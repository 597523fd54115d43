//! What somebody else changed in AWS is repaired once, and said once.

mod support;

use iamrole_operator::api::IamRole;
use iamrole_operator::api::iamrole::Cause;
use serde_json::json;
use std::time::Duration;
use support::proxy::Fault;
use support::{SOON, World, allow, aws, condition, ec2, eventually, every, trust};

async fn world_with_app() -> (World, String) {
    let world = World::new("drift").await;
    world
        .create(
            "app",
            json!({
                "description": "d", "maxSessionDurationSeconds": 7200, "tags": { "Owner": "msb" }, "trustPolicy": ec2(),
                "managedPolicies": ["ReadOnlyAccess"],
                "inlinePolicies": [{ "name": "inline", "document": allow("s3:GetObject") }],
                "customerManagedPolicies": [{ "name": "own", "document": allow("ec2:*") }],
            }),
        )
        .await;
    world.ready("app").await;
    let name = world.templated("app");
    (world, name)
}

fn causes(role: &IamRole) -> Vec<(String, Cause)> {
    let changes = &role.status.as_ref().expect("a status").last_changes;
    changes.iter().map(|change| (change.action.clone(), change.cause)).collect()
}

#[tokio::test]
async fn whatever_was_changed_by_hand_is_repaired_once_and_told_once() {
    let (world, name) = world_with_app().await;
    let own = format!("arn:aws:iam::123456789012:policy/{name}.own");
    let before = aws::role(&world.iam, &name).await.expect("the role");
    let iam = &world.iam;
    aws::tag_role(iam, &name, &[("Owner", "mallory"), ("Theirs", "stays")]).await;
    iam.update_role().role_name(&name).description("x").max_session_duration(3600).send().await.unwrap();
    let document = trust(&json!({ "AWS": "arn:aws:iam::210987654321:root" })).to_string();
    iam.update_assume_role_policy().role_name(&name).policy_document(document).send().await.unwrap();
    iam.detach_role_policy()
        .role_name(&name)
        .policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess")
        .send()
        .await
        .unwrap();
    aws::put_inline(iam, &name, "inline", &allow("*")).await;
    let document = allow("*").to_string();
    iam.create_policy_version().policy_arn(&own).policy_document(document).set_as_default(true).send().await.unwrap();
    let call = iam.put_role_permissions_boundary().role_name(&name);
    call.permissions_boundary("arn:aws:iam::aws:policy/ReadOnlyAccess").send().await.unwrap();

    world.proxy.forget();
    world.check_now("app").await;
    let object = world.ready("app").await;
    let mut expected = before.clone();
    expected.tags.insert("Theirs".into(), "stays".into());
    expected.boundary = Some("arn:aws:iam::aws:policy/ReadOnlyAccess".into());
    assert_eq!(aws::role(iam, &name).await, Some(expected));
    assert_eq!(aws::policy(iam, &own).await.expect("the policy").document, allow("ec2:*"));
    let repairs =
        ["TagRole", "UpdateRole", "UpdateAssumeRolePolicy", "AttachRolePolicy", "PutRolePolicy", "CreatePolicyVersion"];
    let mut writes = world.proxy.writes();
    // Between two trusts that have nothing in common lies one that both contain.
    writes.sort_unstable();
    writes.dedup();
    assert_eq!(writes.len(), repairs.len(), "{writes:?}");
    for repair in repairs {
        assert!(writes.iter().any(|write| write == repair), "{repair}: {writes:?}");
        assert!(causes(&object).contains(&(repair.to_owned(), Cause::Drift)), "{:?}", causes(&object));
    }
    let changes = object.status.expect("a status").last_changes;
    for (repair, found) in [
        ("TagRole", "changed: Owner"),
        ("UpdateRole", "the description was another one, the session duration was 3600 seconds"),
        ("UpdateAssumeRolePolicy", "somebody changed it: 1 statement more, 1 statement missing"),
        ("AttachRolePolicy", "somebody detached it"),
        ("PutRolePolicy", "somebody changed it: 1 statement more, 1 statement missing"),
        ("CreatePolicyVersion", "somebody changed it: 1 statement more, 1 statement missing"),
    ] {
        let change = changes.iter().find(|change| change.action == repair && change.cause == Cause::Drift);
        assert_eq!(change.expect(repair).found.as_deref(), Some(found), "{repair}");
        world.event("app", "DriftRepaired", found).await;
    }
    let told = || async { world.events("app").await.into_iter().filter(|event| event.1 == "DriftRepaired").count() };
    let done = world.proxy.writes().len();
    assert!(eventually(SOON, || async { told().await == done }).await, "{} of {done}", told().await);

    world.proxy.forget();
    world.check_now("app").await;
    assert_eq!((world.proxy.writes(), told().await), (vec![], done), "once");
}

#[tokio::test]
async fn a_role_deleted_by_hand_is_made_anew_after_two_misses() {
    let (mut world, name) = world_with_app().await;
    let before = aws::role(&world.iam, &name).await.expect("the role");
    // A role just created would be waited for; nothing is known of it after a restart.
    world.operator.kill().await;
    aws::delete_role(&world.iam, &name).await;
    world.operator.start().await;
    world.proxy.forget();
    world.check_now("app").await;
    let object = world.ready("app").await;
    let reads = world.proxy.actions().iter().position(|action| action == "CreateRole").expect("it is made anew");
    let misses = world.proxy.actions()[..reads].iter().filter(|action| *action == "GetRole").count();
    assert!(misses >= 2, "{:?}", world.proxy.actions());
    let after = aws::role(&world.iam, &name).await.expect("the role");
    assert_ne!(after.id, before.id);
    assert_eq!(object.status.as_ref().unwrap().role.as_ref().unwrap().id.as_ref(), Some(&after.id));
    assert_eq!(aws::Role { id: before.id.clone(), ..after }, before);
    assert!(causes(&object).contains(&("CreateRole".to_owned(), Cause::Drift)), "{:?}", causes(&object));
    world.event("app", "DriftRepaired", "create role").await;
}

#[tokio::test]
async fn a_policy_deleted_by_hand_is_made_anew() {
    let (world, name) = world_with_app().await;
    let own = format!("arn:aws:iam::123456789012:policy/{name}.own");
    world.iam.detach_role_policy().role_name(&name).policy_arn(&own).send().await.expect("a detachment");
    world.iam.delete_policy().policy_arn(&own).send().await.expect("a deletion");
    world.check_now("app").await;
    let object = world.ready("app").await;
    assert!(aws::role(&world.iam, &name).await.expect("the role").attached.contains(&own));
    let policy = aws::policy(&world.iam, &own).await.expect("the policy");
    assert_eq!((policy.document, policy.tags["iamrole.dev/name"].as_str()), (allow("ec2:*"), "app"));
    assert!(causes(&object).contains(&("CreatePolicy".to_owned(), Cause::Drift)), "{:?}", causes(&object));
}

#[tokio::test]
async fn a_repair_that_failed_at_first_is_still_a_repair() {
    let (world, name) = world_with_app().await;
    aws::put_inline(&world.iam, &name, "inline", &allow("*")).await;
    world.proxy.fault("PutRolePolicy", "", 1, Fault::Refuse(403, "AccessDenied", "not authorized".into()));
    world.check_now("app").await;
    let object = world
        .until("app", "the repair", |role| {
            condition(role, "Ready").is_some_and(|ready| ready.status == "True")
                && causes(role).contains(&("PutRolePolicy".to_owned(), Cause::Drift))
        })
        .await;
    assert_eq!(aws::role(&world.iam, &name).await.expect("the role").inline["inline"], allow("s3:GetObject"));
    assert_eq!(causes(&object)[0], ("PutRolePolicy".to_owned(), Cause::Drift));
}

#[tokio::test]
async fn the_class_interval_finds_drift_by_itself_once_the_own_write_has_settled() {
    let world = World::with_class("drift", |class| class.drift_check = every(5)).await;
    world.create("app", json!({ "description": "d", "trustPolicy": ec2() })).await;
    world.ready("app").await;
    let name = world.templated("app");
    world.iam.update_role().role_name(&name).description("x").send().await.expect("an edit");
    let repaired = || async { aws::role(&world.iam, &name).await.expect("the role").description == "d" };
    assert!(eventually(Duration::from_mins(1), repaired).await, "{}", world.operator.log());
    world.event("app", "DriftRepaired", "description").await;
}

#[tokio::test]
async fn a_change_of_the_class_is_applied_and_called_so() {
    let world = World::new("drift").await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    world.patch_class(json!({ "tags": { "CostCenter": "42" } })).await;
    let name = world.templated("app");
    let tagged = || async { aws::role(&world.iam, &name).await.expect("the role").tags.contains_key("CostCenter") };
    assert!(eventually(SOON, tagged).await, "{}", world.operator.log());
    world.event("app", "Updated", "Since the class changed: set tags CostCenter").await;
    let object = world.ready("app").await;
    assert_eq!(causes(&object)[0], ("TagRole".to_owned(), Cause::Class));
}
