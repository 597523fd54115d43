//! The operator's life under the policy that each option of `iamrole aws-policy` prints: what the option opens works only
//! with it, and what it takes away is not missed by who does not use it.
//!
//! What the emulator can't show: it has one account, so the role of `--assume-role` lies in the operator's own; and it
//! knows of conditions what the test tells it (`tests/rig/ministack/serve`), so AWS itself is not tried here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod powers;
mod support;

use aws_sdk_iam::types::Tag;
use iamrole_operator::api::IamRoleClassSpec;
use iamrole_operator::api::iamroleclass::{Account, AssumeRole};
use powers::{POWER, Powers, READ_ONLY, everything, policy_arn};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use support::ministack::ACCOUNT;
use support::{allow, aws, condition, ec2, eventually, trust};

/// The UID of a cluster that is no more.
const OLD: &str = "9e107d9d-372b-4b68-8a4f-1d2c3b4a5f60";
/// Longer than an adoption takes to settle.
const SETTLED: Duration = Duration::from_mins(1);
/// Everything narrowed that can be.
const NARROW: [&str; 6] = [
    "--cluster=CLUSTER",
    "--path=/k8s/tenants/",
    "--boundary=arn:aws:iam::000000000000:policy/boundary",
    "--attach=ReadOnlyAccess",
    "--attach=PowerUserAccess",
    "--operator-role=arn:aws:iam::000000000000:user/iamrole-operator",
];

/// A class with path and boundary.
fn tenants(class: &mut IamRoleClassSpec) {
    class.path = Some("/k8s/tenants/$(namespace)/".into());
    class.unbounded = None;
    class.permissions_boundary = Some(policy_arn("boundary"));
}

/// The narrow policy and these options.
async fn narrow(powers: &Powers, more: &[&str]) -> Value {
    powers.policy(&[&NARROW[..], more].concat()).await
}

/// A role with what `without` leaves of everything.
fn some(without: &[&str]) -> Value {
    let mut spec = everything();
    for field in without {
        spec.as_object_mut().unwrap().remove(*field);
    }
    spec
}

/// Makes a role of this spec, changes it, has drift repaired, and deletes it; nothing is left.
async fn lives(powers: &Powers, name: &str, spec: Value) {
    let (world, role) = (&powers.world, powers.world.templated(name));
    world.create(name, spec).await;
    world.ready(name).await;
    let other = json!({ "trustPolicy": trust(&json!({ "Service": "lambda.amazonaws.com" })), "managedPolicies": [POWER],
        "inlinePolicies": [{ "name": "other", "document": allow("s3:Put*") }], "tags": { "team": "ship", "cost": null } });
    world.patch(name, other).await;
    world.ready(name).await;
    let root = &powers.ministack.root;
    root.detach_role_policy().role_name(&role).policy_arn(POWER).send().await.expect("by hand");
    aws::put_inline(root, &role, "backdoor", &allow("*")).await;
    world.check_now(name).await;
    let now = aws::role(root, &role).await.expect("the role");
    assert!(now.attached.contains(POWER) && now.inline.keys().eq(["other"]), "{now:?}");
    world.delete(name).await;
    world.gone(name).await;
    assert_eq!(aws::role(root, &role).await, None);
    assert_eq!(aws::policies_with(root, &role).await, BTreeSet::new());
}

/// Waits until the object says that this action is denied.
async fn misses(powers: &Powers, name: &str, action: &str) {
    let message = powers.world.reason(name, "AccessDenied").await;
    assert!(message.contains(&format!("perform: {action} ")), "{action}: {message}");
}

#[tokio::test]
async fn who_uses_neither_own_policies_nor_profiles_misses_nothing_without_them() {
    let both = ["--no-customer-managed-policies", "--no-instance-profiles"];
    let fields = ["customerManagedPolicies", "instanceProfile"];
    for used in [vec![], vec![0], vec![1]] {
        let is_used = |i: usize| used.contains(&i);
        let mut powers = Powers::new("without", |class| {
            tenants(class);
            let allowed = class.allowed.as_mut().unwrap();
            (allowed.customer_managed_policies, allowed.instance_profiles) = (Some(is_used(0)), Some(is_used(1)));
        })
        .await;
        let of = |all: [&'static str; 2]| -> Vec<&str> { (0..2).filter(|i| !is_used(*i)).map(|i| all[i]).collect() };
        powers.user.may(&narrow(&powers, &of(both)).await).await;
        powers.world.operator.start().await;
        lives(&powers, "app", some(&of(fields))).await;
        powers.nothing_was_denied().await;
        if used.is_empty() {
            // What the policy no longer lets, a class that lets it again can't give.
            let allowed = json!({ "allowed": { "customerManagedPolicies": true, "instanceProfiles": true } });
            powers.world.patch_class(allowed).await;
            powers.world.create("more", everything()).await;
            let message = powers.world.reason("more", "ClassNotReady").await;
            assert!(message.contains("perform: iam:GetPolicy "), "{message}");
        }
    }
}

#[tokio::test]
async fn where_no_account_may_be_walked_each_role_is_read_and_nothing_is_missed() {
    let mut powers = Powers::new("unwalked", |class| {
        tenants(class);
        class.drift_check = support::each_by_itself(5);
    })
    .await;
    powers.user.may(&narrow(&powers, &["--no-account-walks"]).await).await;
    powers.world.operator.start().await;
    lives(&powers, "app", everything()).await;
    powers.nothing_was_denied().await;
    // Who asks for walks all the same gets the same by reads.
    powers.world.patch_class(json!({ "driftCheck": { "intervalSeconds": 5, "method": "Account" } })).await;
    lives(&powers, "again", everything()).await;
    let by_reads = || async {
        let class = powers.world.classes().get(&powers.world.namespace).await.expect("the class");
        let method = class.status.and_then(|status| status.drift_check_method);
        method == Some(iamrole_operator::api::iamroleclass::DriftMethod::Role)
    };
    assert!(eventually(SETTLED, by_reads).await, "{}", powers.world.operator.log());
}

#[tokio::test]
async fn a_role_in_profiles_of_others_is_deleted_by_force_only_where_the_policy_says_so() {
    let mut powers = Powers::new("force", tenants).await;
    powers.user.may(&narrow(&powers, &[]).await).await;
    powers.world.operator.start().await;
    let (world, root) = (&powers.world, &powers.ministack.root);
    let mut spec = some(&["instanceProfile"]);
    spec["deletionPolicy"] = json!("ForceDelete");
    world.create("app", spec).await;
    world.ready("app").await;
    let role = world.templated("app");
    root.create_instance_profile().instance_profile_name("theirs").send().await.expect("a profile");
    let add = root.add_role_to_instance_profile().instance_profile_name("theirs").role_name(&role);
    add.send().await.expect("by hand");
    world.delete("app").await;
    misses(&powers, "app", "iam:RemoveRoleFromInstanceProfile").await;
    powers.user.may(&narrow(&powers, &["--force-delete"]).await).await;
    world.request_check("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(root, &role).await, None);
    let left = root.get_instance_profile().instance_profile_name("theirs").send().await.expect("their profile");
    assert!(left.instance_profile().unwrap().roles().is_empty());
}

#[tokio::test]
async fn a_role_of_a_cluster_that_is_no_more_lives_on_only_where_the_policy_says_so() {
    let mut powers = Powers::new("heir", |class| {
        tenants(class);
        class.take_over_clusters = Some(vec![format!("old/{OLD}")]);
    })
    .await;
    powers.user.may(&narrow(&powers, &[]).await).await;
    powers.world.operator.start().await;
    let (world, root) = (&powers.world, &powers.ministack.root);
    let role = world.templated("app");
    let mut tags = world.owner_tags("app", "Created").await.map(|(key, value)| (key, value));
    tags[0].1 = format!("old/{OLD}");
    let tags = tags.map(|(key, value)| Tag::builder().key(key).value(value).build().unwrap());
    let call = root.create_role().role_name(&role).path(format!("/k8s/tenants/{}/", world.namespace));
    let call = call.assume_role_policy_document(ec2().to_string()).permissions_boundary(policy_arn("boundary"));
    call.set_tags(Some(tags.to_vec())).send().await.expect("a role");
    world.create("app", everything()).await;
    // The emulator asks for the tags of the role that is there; AWS may let this one pass, and miss iam:TagRole.
    misses(&powers, "app", "iam:CreateRole").await;

    powers.user.may(&narrow(&powers, &[&format!("--take-over=old/{OLD}")]).await).await;
    world.request_check("app").await;
    world.ready("app").await;
    let [(key, cluster), ..] = world.owner_tags("app", "Created").await;
    let found = aws::role(root, &role).await.expect("the role");
    assert_eq!(found.owner_tags.get(key), Some(&cluster), "it is this cluster's now");
    // From here on it is as any other of its own, also without the option.
    powers.user.may(&narrow(&powers, &[]).await).await;
    world.patch("app", json!({ "description": "ours", "managedPolicies": [POWER] })).await;
    world.ready("app").await;
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(root, &role).await, None);
}

#[tokio::test]
async fn an_adopted_role_lives_its_life_under_the_narrow_policy() {
    let mut powers = Powers::new("adopted", tenants).await;
    powers.user.may(&narrow(&powers, &["--adoption"]).await).await;
    powers.world.operator.start().await;
    let (world, root) = (&powers.world, &powers.ministack.root);
    let call = root.create_role().role_name("legacy").path("/k8s/tenants/");
    let call = call.assume_role_policy_document(ec2().to_string());
    call.permissions_boundary(policy_arn("boundary")).send().await.expect("a role");
    aws::attach(root, "legacy", READ_ONLY).await;
    let mut spec = everything();
    for (field, value) in
        [("roleName", "legacy"), ("adoption", "Required"), ("deletionPolicy", "Delete"), ("whenUnlisted", "Remove")]
    {
        spec[field] = json!(value);
    }
    world.create("app", spec).await;
    let ready = || async {
        let role = world.get("app").await;
        condition(&role, "Ready").is_some_and(|ready| ready.status == "True")
    };
    assert!(eventually(SETTLED, ready).await, "{:?}\n{}", world.status("app").await, world.operator.log());
    world.patch("app", json!({ "managedPolicies": [POWER], "description": "two", "tags": { "cost": null } })).await;
    world.ready("app").await;
    let found = aws::role(root, "legacy").await.expect("the role");
    assert!(!found.attached.contains(READ_ONLY) && found.boundary == Some(policy_arn("boundary")), "{found:?}");
    assert_eq!(found.owner_tags.get("iamrole.dev/origin").map(String::as_str), Some("Adopted"));
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(root, "legacy").await, None);
    powers.nothing_was_denied().await;
}

#[tokio::test]
async fn in_another_account_the_role_that_is_assumed_needs_the_policy_and_the_operator_the_way_to_it() {
    let worker = format!("arn:aws:iam::{ACCOUNT}:role/worker");
    let assume_role = AssumeRole { role_arn: worker.clone(), external_id: None, session_duration_seconds: None };
    let mut powers = Powers::new("assume", |class| {
        tenants(class);
        class.account = Some(Account { id: None, assume_role: Some(assume_role) });
    })
    .await;
    let root = powers.ministack.root.clone();
    let user = format!("arn:aws:iam::{ACCOUNT}:user/{}", powers.user.name);
    let trust = trust(&json!({ "AWS": user })).to_string();
    root.create_role().role_name("worker").assume_role_policy_document(trust).send().await.expect("a role");
    let policy = narrow(&powers, &[]).await;
    aws::put_inline(&root, "worker", "power", &policy).await;
    // The operator's own identity: the way there, and of all else nothing, so that it is the session that works.
    let mut way = narrow(&powers, &[&format!("--assume-role={worker}")]).await;
    way["Statement"].as_array_mut().unwrap().retain(|statement| statement["Sid"] == "OtherAccounts");
    assert_eq!(way["Statement"].as_array().unwrap().len(), 1);
    powers.user.may(&policy).await;
    powers.world.operator.start().await;
    powers.world.create("early", some(&[])).await;
    let message = powers.world.reason("early", "ClassNotReady").await;
    assert!(message.contains("sts:AssumeRole") && message.contains(&worker), "{message}");

    powers.user.may(&way).await;
    powers.world.ready("early").await;
    lives(&powers, "app", everything()).await;
    let less = without(&policy, "iam:CreateRole");
    aws::put_inline(&root, "worker", "power", &less).await;
    powers.world.create("late", everything()).await;
    misses(&powers, "late", "iam:CreateRole").await;
}

/// The policy without one action.
fn without(policy: &Value, action: &str) -> Value {
    let mut policy = policy.clone();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        statement["Action"].as_array_mut().unwrap().retain(|known| known != action);
    }
    policy["Statement"].as_array_mut().unwrap().retain(|statement| statement["Action"] != json!([]));
    policy
}

#[tokio::test]
async fn a_role_whose_owner_tags_were_taken_off_keeps_its_policies_in_use_until_they_are_back() {
    let mut powers = Powers::new("stripped", tenants).await;
    powers.user.may(&narrow(&powers, &[]).await).await;
    powers.world.operator.start().await;
    let (world, root) = (&powers.world, &powers.ministack.root);
    for name in ["plain", "owns"] {
        world
            .create(
                name,
                some(if name == "plain" {
                    &["customerManagedPolicies", "instanceProfile"]
                } else {
                    &["instanceProfile"]
                }),
            )
            .await;
        world.ready(name).await;
        let tags = aws::role(root, &world.templated(name)).await.expect("the role").owner_tags;
        let call = root.untag_role().role_name(world.templated(name));
        call.set_tag_keys(Some(tags.keys().cloned().collect())).send().await.expect("by hand");
        world.delete(name).await;
    }
    world.gone("plain").await;
    let role = world.templated("owns");
    let message = world.reason("owns", "DeleteBlocked").await;
    for part in [format!("role {role}"), "owner tags".to_owned(), "deletionPolicy: Retain".to_owned()] {
        assert!(message.contains(&part), "{part}: {message}");
    }
    assert!(aws::role(root, &role).await.is_some(), "what carries no tags is not touched");
    let tags = world.owner_tags("owns", "Created").await;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    aws::tag_role(root, &role, &tags).await;
    world.request_check("owns").await;
    world.gone("owns").await;
    assert_eq!(aws::role(root, &role).await, None);
}
