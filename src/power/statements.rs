//! The statements of the policy.

use super::{Conditions, Feature, OneOrMore, Options, Policy, Statement};
use crate::api::iamrole::Origin;
use crate::api::{TAG_CLASS, TAG_CLUSTER, TAG_NAME, TAG_NAMESPACE, TAG_ORIGIN};

const BOUNDARY: &str = "iam:PermissionsBoundary";
const LEAVE: &str = "iam:RemoveRoleFromInstanceProfile";

/// The least policy for these options.
#[must_use]
pub fn policy(options: &Options) -> Policy {
    if let Some(cluster) = &options.pod_identity {
        return Policy { version: "2012-10-17", statement: super::pod_identity::associations(options, cluster) };
    }
    let mut statement = reads(options);
    statement.extend(roles(options));
    statement.extend(tags(options));
    statement.extend(belongings(options));
    statement.extend(profiles(options));
    statement.extend(denials(options));
    Policy { version: "2012-10-17", statement }
}

/// Reads are neither bound to the path nor to tags: of a role or profile that does not exist IAM knows neither, and
/// would deny the question instead of saying so.
fn reads(options: &Options) -> Vec<Statement> {
    let mut actions = vec![
        "iam:GetInstanceProfile",
        "iam:GetOpenIDConnectProvider",
        "iam:GetRole",
        "iam:GetRolePolicy",
        "iam:ListAttachedRolePolicies",
        "iam:ListInstanceProfilesForRole",
        "iam:ListRolePolicies",
    ];
    let mut resources = vec![options.arn("role/*"), options.arn("instance-profile/*"), options.arn("oidc-provider/*")];
    if options.has(Feature::CustomerManagedPolicies) {
        actions.extend([
            "iam:GetPolicy",
            "iam:GetPolicyVersion",
            "iam:ListEntitiesForPolicy",
            "iam:ListPolicyVersions",
        ]);
        resources.push(options.arn("policy/*"));
    }
    let mut account = vec!["iam:GetAccountSummary"];
    if options.has(Feature::AccountWalks) {
        account.extend(["iam:GetAccountAuthorizationDetails", "iam:ListRoles"]);
        if options.has(Feature::CustomerManagedPolicies) {
            account.push("iam:ListPolicies");
        }
    }
    let mut statements = vec![
        allow("Read", actions, resources, Conditions::new()),
        // IAM knows no narrower resource for these.
        allow("ReadAccount", account, vec!["*".to_owned()], Conditions::new()),
    ];
    if !options.boundaries.is_empty() {
        // Whether it is there is asked before a class counts as ready.
        statements.push(allow("ReadBoundary", vec!["iam:GetPolicy"], options.boundaries.clone(), Conditions::new()));
    }
    if !options.assume.is_empty() {
        statements.push(allow("OtherAccounts", vec!["sts:AssumeRole"], options.assume.clone(), Conditions::new()));
    }
    statements
}

fn roles(options: &Options) -> Vec<Statement> {
    let resources = || under_path(options, "role");
    let (exact, if_exists) = if options.boundaries.iter().any(|arn| arn.contains('*')) {
        ("StringLike", "StringLikeIfExists")
    } else {
        ("StringEquals", "StringEqualsIfExists")
    };
    let strict = || with(ours(options), boundary(options, exact));
    let lenient = || with(ours(options), boundary(options, if_exists));
    let create = with(new(options), boundary(options, exact));
    let mut widen = vec!["iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"];
    let mut other = vec![
        "iam:DeleteRole",
        "iam:DeleteRolePolicy",
        "iam:DetachRolePolicy",
        "iam:UntagRole",
        "iam:UpdateAssumeRolePolicy",
        "iam:UpdateRole",
    ];
    if options.boundaries.is_empty() {
        other.push("iam:DeleteRolePermissionsBoundary");
    }
    let mut statements = vec![allow("CreateRoles", vec!["iam:CreateRole"], resources(), create)];
    if options.attach.is_empty() {
        widen.push("iam:AttachRolePolicy");
    } else {
        let listed = condition("ArnLike", "iam:PolicyARN", attachable(options));
        statements.push(allow("Attach", vec!["iam:AttachRolePolicy"], resources(), with(strict(), listed)));
    }
    statements.push(allow("Permissions", widen, resources(), strict()));
    statements.push(allow("ChangeRoles", other, resources(), lenient()));
    statements
}

/// The listed patterns, and the policies that belong to the roles.
fn attachable(options: &Options) -> Vec<String> {
    let own = options.has(Feature::CustomerManagedPolicies).then(|| under_path(options, "policy"));
    options.attach.iter().cloned().chain(own.into_iter().flatten()).collect()
}

/// To create something with tags takes the right to tag it, so the tags of what is new are asked for here as well.
fn tags(options: &Options) -> Vec<Statement> {
    let mut actions = vec!["iam:TagRole"];
    let mut resources = under_path(options, "role");
    if options.has(Feature::CustomerManagedPolicies) {
        actions.push("iam:TagPolicy");
        resources.extend(under_path(options, "policy"));
    }
    if options.has(Feature::InstanceProfiles) {
        actions.push("iam:TagInstanceProfile");
        resources.extend(under_path(options, "instance-profile"));
    }
    let mut origins = vec![Origin::Created.as_str().to_owned()];
    if options.has(Feature::Adoption) {
        origins.push(Origin::Adopted.as_str().to_owned());
    }
    let origin = |operator| condition(operator, &request_tag(TAG_ORIGIN), origins.clone());
    let Some(cluster) = &options.cluster else {
        return vec![allow("Tag", actions, resources, origin("StringEqualsIfExists"))];
    };
    let never_away = condition("StringLikeIfExists", &request_tag(TAG_CLUSTER), vec![of_cluster(cluster)]);
    vec![
        allow("TagNew", actions.clone(), resources.clone(), with(new(options), origin("StringEquals"))),
        allow("TagOwn", actions, resources, with(ours(options), never_away)),
    ]
}

/// Policies and instance profiles that belong to the roles. In one statement, since each action is checked against
/// one sort of resource only.
fn belongings(options: &Options) -> Vec<Statement> {
    let (mut create, mut change, mut resources) = (Vec::new(), Vec::new(), Vec::new());
    if options.has(Feature::CustomerManagedPolicies) {
        create.push("iam:CreatePolicy");
        change.extend(["iam:CreatePolicyVersion", "iam:DeletePolicy", "iam:DeletePolicyVersion"]);
        resources.extend(under_path(options, "policy"));
    }
    if options.has(Feature::InstanceProfiles) {
        create.push("iam:CreateInstanceProfile");
        change.extend(["iam:AddRoleToInstanceProfile", "iam:DeleteInstanceProfile", LEAVE]);
        resources.extend(under_path(options, "instance-profile"));
    }
    if create.is_empty() {
        return Vec::new();
    }
    vec![
        allow("CreateOwned", create, resources.clone(), new(options)),
        allow("ChangeOwned", change, resources, ours(options)),
    ]
}

fn profiles(options: &Options) -> Vec<Statement> {
    let mut statements = Vec::new();
    if options.has(Feature::InstanceProfiles) {
        // No tags here: AWS's own advice is not to rely on them with PassRole.
        let ec2 = vec!["ec2.amazonaws.com".to_owned(), "ec2.amazonaws.com.cn".to_owned()];
        let to_ec2 = condition("StringEqualsIfExists", "iam:PassedToService", ec2);
        statements.push(allow("PassRoles", vec!["iam:PassRole"], under_path(options, "role"), to_ec2));
    }
    if options.has(Feature::ForceDelete) {
        let all = vec![options.arn("instance-profile/*")];
        statements.push(allow("LeaveProfiles", vec![LEAVE], all, Conditions::new()));
    }
    statements
}

/// They hold whatever other policies are attached to the operator's identity.
fn denials(options: &Options) -> Vec<Statement> {
    let everywhere = || vec!["*".to_owned()];
    let owner_tags = [TAG_CLUSTER, TAG_NAMESPACE, TAG_NAME, TAG_ORIGIN, TAG_CLASS].map(str::to_owned).to_vec();
    // IAM takes keys of a role's tags that differ only in case for one.
    let owner_tags = condition("ForAnyValue:StringEqualsIgnoreCase", "aws:TagKeys", owner_tags);
    let mut statements = vec![deny("KeepTags", vec!["iam:Untag*"], everywhere(), owner_tags)];
    if options.cluster.is_some() {
        let tagged = condition("Null", &resource_tag(), vec!["false".to_owned()]);
        let other = condition("StringNotLike", &resource_tag(), clusters(options));
        statements.push(deny("NotOthers", WRITES.to_vec(), everywhere(), with(tagged, other)));
    }
    if !options.boundaries.is_empty() {
        let remove = vec!["iam:DeleteRolePermissionsBoundary"];
        statements.push(deny("KeepBounds", remove, everywhere(), Conditions::new()));
    }
    let mut limits = options.boundaries.clone();
    limits.push(options.arn(&format!("policy/{}", options.policy_name)));
    let change = vec![
        "iam:CreatePolicy",
        "iam:CreatePolicyVersion",
        "iam:DeletePolicy",
        "iam:DeletePolicyVersion",
        "iam:SetDefaultPolicyVersion",
    ];
    statements.push(deny("KeepLimits", change, limits, Conditions::new()));
    if let Some(identity) = &options.identity {
        statements.push(deny("NotItself", vec!["iam:*"], vec![identity.clone()], Conditions::new()));
    }
    statements
}

/// Everything of IAM that changes something.
const WRITES: [&str; 10] = [
    "iam:Add*",
    "iam:Attach*",
    "iam:Create*",
    "iam:Delete*",
    "iam:Detach*",
    "iam:Put*",
    "iam:Remove*",
    "iam:Set*",
    "iam:Tag*",
    "iam:U*",
];

pub(super) fn allow(
    sid: &'static str,
    mut action: Vec<&'static str>,
    resource: Vec<String>,
    condition: Conditions,
) -> Statement {
    action.sort_unstable();
    Statement { sid, effect: "Allow", action, resource: resource.into(), condition }
}

fn deny(sid: &'static str, action: Vec<&'static str>, resource: Vec<String>, condition: Conditions) -> Statement {
    Statement { effect: "Deny", ..allow(sid, action, resource, condition) }
}

pub(super) fn under_path(options: &Options, kind: &str) -> Vec<String> {
    vec![options.arn(&format!("{kind}{}*", options.path))]
}

fn request_tag(key: &str) -> String {
    format!("aws:RequestTag/{key}")
}

fn resource_tag() -> String {
    format!("aws:ResourceTag/{TAG_CLUSTER}")
}

/// Of the tag only the UID counts: a cluster may get another name.
fn of_cluster(uid: &str) -> String {
    format!("*/{uid}")
}

fn clusters(options: &Options) -> Vec<String> {
    options.cluster.iter().chain(&options.take_over).map(|uid| of_cluster(uid)).collect()
}

/// It carries the owner tag of the cluster, or of one that is taken over.
pub(super) fn ours(options: &Options) -> Conditions {
    options
        .cluster
        .as_ref()
        .map_or_else(Conditions::new, |_| condition("StringLike", &resource_tag(), clusters(options)))
}

/// The call gives it the owner tag of the cluster.
pub(super) fn new(options: &Options) -> Conditions {
    let Some(cluster) = &options.cluster else { return Conditions::new() };
    condition("StringLike", &request_tag(TAG_CLUSTER), vec![of_cluster(cluster)])
}

fn boundary(options: &Options, operator: &'static str) -> Conditions {
    if options.boundaries.is_empty() {
        return Conditions::new();
    }
    condition(operator, BOUNDARY, options.boundaries.clone())
}

pub(super) fn condition(operator: &'static str, key: &str, values: Vec<String>) -> Conditions {
    let values = OneOrMore::from(values);
    Conditions::from([(operator, [(key.to_owned(), values)].into())])
}

/// Both; the keys under one operator are put together.
fn with(mut one: Conditions, other: Conditions) -> Conditions {
    for (operator, keys) in other {
        one.entry(operator).or_default().extend(keys);
    }
    one
}
