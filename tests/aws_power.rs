//! The operator under the policy that `iamrole aws-policy` prints, on an emulated AWS that asks it: with the whole
//! policy everything works, and what one action less breaks says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod powers;
mod support;

use aws_sdk_iam::error::ProvideErrorMetadata as _;
use aws_sdk_iam::types::Tag;
use iamrole_operator::api::iamroleclass::DriftMethod;
use iamrole_operator::api::workload::{ClassWorkloadIdentity, Mechanism};
use iamrole_operator::api::{IamRole, IamRoleClassSpec};
use powers::{POWER, Powers, READ_ONLY, everything, policy_arn};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::ministack::ACCOUNT;
use support::{SOON, World, allow, aws, ec2, eventually, trust};

/// The policy without one action.
fn without(policy: &Value, action: &str) -> Value {
    let mut policy = policy.clone();
    let statements = policy["Statement"].as_array_mut().unwrap();
    for statement in statements.iter_mut().filter(|statement| statement["Effect"] == "Allow") {
        statement["Action"].as_array_mut().unwrap().retain(|known| known != action);
    }
    statements.retain(|statement| statement["Action"] != json!([]));
    policy
}

fn allowed(policy: &Value) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().unwrap().iter();
    let allows = statements.filter(|statement| statement["Effect"] == "Allow");
    allows.flat_map(|s| s["Action"].as_array().unwrap()).map(|action| action.as_str().unwrap().to_owned()).collect()
}

/// The same role with everything changed, and its documents moved: what was inline is a policy of its own, and the
/// other way round.
fn changed() -> Value {
    json!({
        "trustPolicy": trust(&json!({ "Service": "lambda.amazonaws.com" })), "description": "two",
        "maxSessionDurationSeconds": 3600, "tags": { "team": "ship" }, "managedPolicies": [POWER],
        "inlinePolicies": [{ "name": "own", "document": allow("sqs:SendMessage") }],
        "customerManagedPolicies": [{ "name": "inline", "document": allow("s3:GetObject") }],
        "instanceProfile": { "name": "renamed" },
    })
}

/// Makes the role, changes everything twice, has drift repaired, and deletes it.
async fn live(powers: &Powers, name: &str, role: &str) {
    let world = &powers.world;
    world.create(name, everything()).await;
    world.ready(name).await;
    let made = aws::role(&world.iam, role).await.expect("the role");
    assert_eq!((made.attached.len(), made.inline.len(), made.tags.len()), (2, 1, 2), "{made:?}");
    world.patch(name, changed()).await;
    // A merge patch leaves the keys of maps.
    world.patch(name, json!({ "tags": { "cost": null } })).await;
    world.ready(name).await;
    let now = aws::role(&world.iam, role).await.expect("the role");
    assert!(now.attached.contains(POWER) && now.inline.contains_key("own") && now.tags.len() == 1, "{now:?}");
    for action in ["s3:Get*", "s3:List*", "s3:Put*", "s3:*", "ec2:*", "sns:*"] {
        let own = json!([{ "name": "inline", "document": allow(action) }]);
        world.patch(name, json!({ "customerManagedPolicies": own })).await;
        world.ready(name).await;
    }
    world.patch(name, json!({ "instanceProfile": null, "managedPolicies": null })).await;
    world.ready(name).await;
    world.patch(name, everything()).await;
    world.ready(name).await;
    world.delete(name).await;
    world.gone(name).await;
    assert!(aws::role(&world.iam, role).await.is_none());
    assert_eq!(aws::policies_with(&world.iam, &world.namespace).await, BTreeSet::new());
}

#[tokio::test]
async fn with_the_widest_policy_a_role_lives_its_whole_life() {
    let mut powers = Powers::new("power", |_| {}).await;
    powers.user.may(&powers.policy(&["--operator-role", &format!("arn:aws:iam::{ACCOUNT}:role/op")]).await).await;
    powers.world.operator.start().await;
    let role = powers.world.templated("app");
    live(&powers, "app", &role).await;

    // And its boundary comes, changes and goes.
    let world = &powers.world;
    world.create("bounded", json!({ "trustPolicy": ec2(), "permissionsBoundary": policy_arn("boundary") })).await;
    for boundary in [json!(policy_arn("other-boundary")), Value::Null] {
        world.ready("bounded").await;
        world.patch("bounded", json!({ "permissionsBoundary": boundary })).await;
    }
    world.ready("bounded").await;
    assert_eq!(aws::role(&world.iam, &world.templated("bounded")).await.unwrap().boundary, None);
    powers.nothing_was_denied().await;
}

/// The narrowest policy for a class with path and boundary.
const NARROW: [&str; 11] = [
    "--cluster=CLUSTER",
    "--path=/k8s/tenants/",
    "--boundary=arn:aws:iam::000000000000:policy/boundary",
    "--boundary=arn:aws:iam::000000000000:policy/other-boundary",
    "--attach=ReadOnlyAccess",
    "--attach=PowerUserAccess",
    "--operator-role=arn:aws:iam::000000000000:user/iamrole-operator",
    "--policy-name=power",
    "--partition=aws",
    "--adoption",
    "--force-delete",
];

fn tenants(class: &mut IamRoleClassSpec) {
    class.path = Some("/k8s/tenants/$(namespace)/".into());
    class.unbounded = None;
    class.permissions_boundary = Some(policy_arn("boundary"));
}

#[tokio::test]
async fn with_the_narrowest_policy_it_does_too() {
    let mut powers = Powers::new("narrow", tenants).await;
    // Without the switches that widen.
    powers.user.may(&powers.policy(&NARROW[..9]).await).await;
    powers.world.operator.start().await;
    let world = &powers.world;
    live(&powers, "app", &world.templated("app")).await;

    world.create("kept", everything()).await;
    world.ready("kept").await;
    let role = world.templated("kept");
    world.iam.delete_role_permissions_boundary().role_name(&role).send().await.expect("by hand");
    world.check_now("kept").await;
    is_bounded(world, &role, "boundary").await;
    world.patch_class(json!({ "permissionsBoundary": policy_arn("other-boundary") })).await;
    is_bounded(world, &role, "other-boundary").await;
    world.ready("kept").await;
    powers.nothing_was_denied().await;
}

async fn is_bounded(world: &World, role: &str, boundary: &str) {
    let wanted = Some(policy_arn(boundary));
    let bounded = || async { aws::role(&world.iam, role).await.expect("the role").boundary == wanted };
    assert!(eventually(SOON, bounded).await, "{role} never got {boundary}:\n{}", world.operator.log());
}

#[tokio::test]
async fn roles_without_owner_tags_are_taken_over_only_where_the_policy_says_so() {
    let mut powers = Powers::new("adopting", |_| {}).await;
    let options = ["--cluster=CLUSTER", "--adoption"];
    powers.user.may(&powers.policy(&options[..1]).await).await;
    powers.world.operator.start().await;
    let world = &powers.world;
    aws::foreign_role(&world.iam, "legacy").await;
    let spec = json!({ "trustPolicy": ec2(), "roleName": "legacy", "adoption": "IfExists", "description": "ours" });
    world.create("app", spec).await;
    let message = world.reason("app", "AccessDenied").await;
    assert!(message.contains("iam:TagRole"), "{message}");

    powers.user.may(&powers.policy(&options).await).await;
    world.request_check("app").await;
    let [(key, cluster), ..] = world.owner_tags("app", "Adopted").await;
    let tagged =
        || async { aws::role(&world.iam, "legacy").await.expect("the role").owner_tags.get(key) == Some(&cluster) };
    assert!(eventually(SOON, tagged).await, "{}", world.operator.log());
}

/// Asserts that AWS denies a call.
macro_rules! denied {
    ($what:literal, $call:expr) => {
        let code = $call.send().await.err().and_then(|error| error.code().map(str::to_owned));
        assert_eq!(code.as_deref(), Some("AccessDenied"), $what);
    };
}

/// A tag.
fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build().unwrap()
}

/// A role `app` of the operator, a role `others` of another cluster, and a role `admin` of nobody.
async fn neighbours(powers: &Powers) -> String {
    let world = &powers.world;
    world.create("app", everything()).await;
    world.ready("app").await;
    let root = &powers.ministack.root;
    aws::foreign_role(root, "admin").await;
    let call = root.create_role().role_name("others").path("/k8s/tenants/").assume_role_policy_document("{}");
    let call = call.permissions_boundary(policy_arn("boundary")).tags(tag("iamrole.dev/cluster", "other/uid"));
    call.send().await.expect("a role");
    world.templated("app")
}

const ADMINISTRATOR: &str = "arn:aws:iam::aws:policy/AdministratorAccess";

/// What somebody with the operator's keys, but another program, tries.
#[tokio::test]
async fn whoever_has_the_operators_keys_is_held_by_the_policy() {
    let mut powers = Powers::new("stolen", tenants).await;
    powers.user.may(&powers.policy(&NARROW).await).await;
    powers.world.operator.start().await;
    let role = &neighbours(&powers).await;
    let [(key, cluster), ..] = powers.world.owner_tags("app", "Created").await;
    let (ours, origin) = (tag(key, &cluster), tag("iamrole.dev/origin", "Created"));

    let thief = powers.user.client(&powers.ministack.url);
    let wide = allow("*").to_string();
    let mine = thief.create_role().role_name("mine").assume_role_policy_document("{}");
    let bounded = mine.clone().path("/k8s/tenants/").permissions_boundary(policy_arn("boundary"));
    denied!("a role without tags", bounded.clone());
    let tagged = mine.tags(ours.clone()).tags(origin.clone());
    denied!("a role without boundary", tagged.clone().path("/k8s/tenants/"));
    denied!("a role elsewhere", tagged.permissions_boundary(policy_arn("boundary")));
    denied!(
        "another boundary",
        thief.put_role_permissions_boundary().role_name(role).permissions_boundary(ADMINISTRATOR)
    );
    denied!("what is not listed", thief.attach_role_policy().role_name(role).policy_arn(ADMINISTRATOR));
    denied!("a foreign role", thief.attach_role_policy().role_name("admin").policy_arn(READ_ONLY));
    denied!("its trust", thief.update_assume_role_policy().role_name("admin").policy_document("{}"));
    denied!("outside the path", thief.tag_role().role_name("admin").tags(ours.clone()).tags(origin.clone()));
    denied!("own roles given away", thief.tag_role().role_name(role).tags(tag(key, "other/uid")));
    denied!("a policy of others", thief.delete_policy().policy_arn(policy_arn("other-boundary")));
    denied!("anything else", thief.create_user().user_name("mallory"));

    bounded.tags(ours).tags(origin).send().await.expect("what the operator does is allowed");
    thief.attach_role_policy().role_name(role).policy_arn(POWER).send().await.expect("what is listed is allowed");
    denied!("nothing is inlined elsewhere", {
        thief.put_role_policy().role_name("others").policy_name("mine").policy_document(&wide)
    });
}

/// As happens where somebody attaches `IAMFullAccess` to make an error go away.
#[tokio::test]
async fn denials_hold_beside_a_policy_that_allows_everything() {
    let mut powers = Powers::new("denials", tenants).await;
    powers.user.may(&powers.policy(&NARROW).await).await;
    powers.world.operator.start().await;
    let role = &neighbours(&powers).await;
    let root = &powers.ministack.root;
    let all = allow("iam:*").to_string();
    let call = root.put_user_policy().user_name(&powers.user.name).policy_name("all").policy_document(&all);
    call.send().await.expect("a policy");

    let thief = powers.user.client(&powers.ministack.url);
    denied!("the boundary goes", thief.delete_role_permissions_boundary().role_name(role));
    for boundary in ["boundary", "other-boundary", "power"].map(policy_arn) {
        let version = thief.create_policy_version().policy_arn(&boundary).set_as_default(true);
        denied!("a wider boundary or policy", version.policy_document(&all));
        denied!("none", thief.delete_policy().policy_arn(&boundary));
        denied!("an older one", thief.set_default_policy_version().policy_arn(&boundary).version_id("v1"));
    }
    denied!("another cluster's role", {
        thief.put_role_policy().role_name("others").policy_name("mine").policy_document(&all)
    });
    denied!("its owner tag", thief.untag_role().role_name("others").tag_keys("iamrole.dev/cluster"));
    denied!("its deletion", thief.delete_role().role_name("others"));
    denied!("an owner tag", thief.untag_role().role_name(role).tag_keys("IAMROLE.DEV/cluster"));
    denied!("itself", thief.attach_user_policy().user_name(&powers.user.name).policy_arn(ADMINISTRATOR));
    thief.create_user().user_name("mallory").send().await.expect("all else is allowed now");
}

/// When an action is needed.
enum When {
    /// The role with everything is made.
    Made,
    /// It is looked at.
    Checked,
    /// Its spec changes.
    Changed(Value),
    /// Its spec changes a second time.
    ChangedAgain(Value, Value),
    /// Its object is deleted.
    Deleted,
}

/// Each action that shows in `Ready` as `AccessDenied`, and the moment at which it is missed.
fn table() -> Vec<(&'static str, When)> {
    use When::{Changed, ChangedAgain, Checked, Deleted, Made};
    let own = |action| json!({ "customerManagedPolicies": [{ "name": "own", "document": allow(action) }] });
    let no_own = || json!({ "customerManagedPolicies": null });
    let no_profile = || json!({ "instanceProfile": null });
    let other_trust = json!({ "trustPolicy": trust(&json!({ "Service": "lambda.amazonaws.com" })) });
    vec![
        ("iam:CreateRole", Made),
        ("iam:TagRole", Made),
        ("iam:AttachRolePolicy", Made),
        ("iam:PutRolePolicy", Made),
        ("iam:CreatePolicy", Made),
        ("iam:TagPolicy", Made),
        ("iam:CreateInstanceProfile", Made),
        ("iam:TagInstanceProfile", Made),
        ("iam:AddRoleToInstanceProfile", Made),
        ("iam:PassRole", Made),
        ("iam:GetRole", Checked),
        ("iam:ListAttachedRolePolicies", Checked),
        ("iam:ListRolePolicies", Checked),
        ("iam:GetRolePolicy", Checked),
        ("iam:GetPolicy", Checked),
        ("iam:GetPolicyVersion", Checked),
        ("iam:GetInstanceProfile", Checked),
        ("iam:UntagRole", Changed(json!({ "tags": { "cost": null } }))),
        ("iam:UpdateRole", Changed(json!({ "description": "other" }))),
        ("iam:UpdateAssumeRolePolicy", Changed(other_trust)),
        ("iam:PutRolePermissionsBoundary", Changed(json!({ "permissionsBoundary": policy_arn("other-boundary") }))),
        ("iam:DeleteRolePermissionsBoundary", {
            let boundary = json!({ "permissionsBoundary": policy_arn("boundary") });
            ChangedAgain(boundary, json!({ "permissionsBoundary": null }))
        }),
        ("iam:DetachRolePolicy", Changed(json!({ "managedPolicies": null }))),
        ("iam:DeleteRolePolicy", Changed(json!({ "inlinePolicies": null }))),
        ("iam:ListPolicyVersions", Changed(own("sqs:*"))),
        ("iam:CreatePolicyVersion", Changed(own("sqs:*"))),
        ("iam:DeletePolicyVersion", ChangedAgain(own("sqs:*"), no_own())),
        ("iam:DeletePolicy", Changed(no_own())),
        ("iam:RemoveRoleFromInstanceProfile", Changed(no_profile())),
        ("iam:DeleteInstanceProfile", Changed(no_profile())),
        ("iam:ListInstanceProfilesForRole", Deleted),
        ("iam:DeleteRole", Deleted),
    ]
}

/// Those that show elsewhere; each has its own test below.
const ELSEWHERE: [&str; 6] = [
    "iam:GetAccountAuthorizationDetails",
    "iam:GetAccountSummary",
    "iam:GetOpenIDConnectProvider",
    "iam:ListEntitiesForPolicy",
    "iam:ListPolicies",
    "iam:ListRoles",
];

#[tokio::test]
async fn without_any_one_action_the_condition_names_it() {
    let mut powers = Powers::new("missing", |_| {}).await;
    let policy = powers.policy(&["--cluster=CLUSTER"]).await;
    let tested = table().iter().map(|(action, _)| *action).chain(ELSEWHERE).map(str::to_owned).collect();
    assert_eq!(allowed(&policy), tested, "each action of the policy (left) is tried (right)");
    powers.user.may(&policy).await;
    powers.world.operator.start().await;
    for (i, (action, when)) in table().into_iter().enumerate() {
        misses(&powers, &policy, &format!("app-{i}"), action, when).await;
    }
}

/// Without `action` the object says so; once it is granted, everything goes on.
async fn misses(powers: &Powers, policy: &Value, name: &str, action: &str, when: When) {
    let world = &powers.world;
    if !matches!(when, When::Made) {
        world.create(name, everything()).await;
        world.ready(name).await;
    }
    if let When::ChangedAgain(first, _) = &when {
        world.patch(name, first.clone()).await;
        world.ready(name).await;
    }
    powers.user.may(&without(policy, action)).await;
    let deleted = matches!(when, When::Deleted);
    match when {
        When::Made => world.create(name, everything()).await,
        When::Checked => drop(world.request_check(name).await),
        When::Changed(patch) | When::ChangedAgain(_, patch) => world.patch(name, patch).await,
        When::Deleted => world.delete(name).await,
    }
    let message = world.reason(name, "AccessDenied").await;
    assert!(message.contains(&format!("perform: {action} ")), "{action} is missing, and the condition says: {message}");
    powers.user.may(policy).await;
    world.request_check(name).await;
    if deleted { world.gone(name).await } else { drop(world.ready(name).await) }
}

#[tokio::test]
async fn without_the_quotas_iams_defaults_are_assumed_and_the_log_says_so() {
    let mut powers = Powers::new("quotas", |_| {}).await;
    let policy = powers.policy(&[]).await;
    powers.user.may(&without(&policy, "iam:GetAccountSummary")).await;
    powers.world.operator.start().await;
    powers.world.create("app", everything()).await;
    powers.world.ready("app").await;
    let log = powers.world.operator.log();
    assert!(log.contains("quotas are unknown") && log.contains("iam:GetAccountSummary"), "{log}");
}

#[tokio::test]
async fn without_a_look_at_the_provider_the_role_is_served_and_the_condition_names_the_action() {
    let mut powers = Powers::new("provider", |class| {
        class.workload_identity = Some(ClassWorkloadIdentity {
            mechanism: Mechanism::IRSA,
            allow_override: None,
            audience: None,
            sts_regional_endpoints: None,
            pod_identity: None,
        });
    })
    .await;
    let policy = powers.policy(&[]).await;
    powers.user.may(&without(&policy, "iam:GetOpenIDConnectProvider")).await;
    powers.world.operator.start().await;
    let world = &powers.world;
    world.create("app", json!({ "serviceAccounts": [{ "name": "default" }] })).await;
    world.ready("app").await;
    let says = |part: &'static str| {
        move |role: &IamRole| {
            support::condition(role, "IdentityBound").is_some_and(|bound| bound.message.contains(part))
        }
    };
    world.until("app", "naming the action", says("perform: iam:GetOpenIDConnectProvider ")).await;
}

#[tokio::test]
async fn without_the_users_of_a_policy_a_blocked_deletion_does_not_name_them() {
    let mut powers = Powers::new("users", |_| {}).await;
    let policy = powers.policy(&[]).await;
    powers.user.may(&without(&policy, "iam:ListEntitiesForPolicy")).await;
    powers.world.operator.start().await;
    let world = &powers.world;
    world.create("app", everything()).await;
    let role = world.ready("app").await;
    let own = role.status.unwrap().customer_managed_policies[0].arn.clone();
    aws::foreign_role(&world.iam, "theirs").await;
    aws::attach(&world.iam, "theirs", &own).await;
    world.delete("app").await;
    let message = world.reason("app", "DeleteBlocked").await;
    assert!(message.contains(&own) && !message.contains("theirs"), "{message}");

    powers.user.may(&policy).await;
    world.request_check("app").await;
    world
        .until("app", "naming the role", |role| {
            support::condition(role, "Ready").is_some_and(|ready| ready.message.contains("role theirs"))
        })
        .await;
}

#[tokio::test]
async fn without_a_walk_over_the_account_each_role_is_read_and_the_class_says_so() {
    for action in ["iam:GetAccountAuthorizationDetails", "iam:ListPolicies", "iam:ListRoles"] {
        let mut powers = Powers::new("walks", |class| class.drift_check = support::every(5)).await;
        let policy = powers.policy(&[]).await;
        powers.user.may(&without(&policy, action)).await;
        powers.world.operator.start().await;
        let world = &powers.world;
        world.create("app", everything()).await;
        world.ready("app").await;
        let tells = || async {
            let class = world.classes().get(&world.namespace).await.expect("the class");
            class.status.and_then(|status| status.drift_check_method) == Some(DriftMethod::Role)
        };
        assert!(eventually(SOON, tells).await, "{action}\n{}", world.operator.log());
        let log = world.operator.log();
        assert!(log.contains("may not walk the account") && log.contains(action), "{action}: {log}");
    }
}
