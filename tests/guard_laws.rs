//! What a class does not list is not allowed, rule by rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::needless_pass_by_value, reason = "tables read better with json!() in place")]

mod guards;

use guards::{BOUNDARY, ISSUER, account, class, document, inline, owner, refusals, spec, trust};
use iamrole_operator::api::IamRoleSpec;
use iamrole_operator::policy::Limits;
use iamrole_operator::role::desired::{Facts, role_name};
use serde_json::{Value, json};

/// EC2 may be trusted; the rest is as given.
fn under(allowed: Value, denied: Value, spec_fields: Value) -> Vec<String> {
    let mut all = json!({ "trustPrincipals": ["Service:ec2.amazonaws.com"] });
    all.as_object_mut().unwrap().extend(allowed.as_object().unwrap().clone());
    refusals(&spec(spec_fields), &class(json!({ "allowed": all, "denied": denied })), None)
}

fn allows(allowed: Value, fields: Value) {
    assert_eq!(under(allowed.clone(), json!({}), fields.clone()), [""; 0], "{allowed} {fields}");
}

fn refuses(allowed: Value, fields: Value, parts: &[&str]) {
    let all = under(allowed.clone(), json!({}), fields.clone());
    assert_eq!(all.len(), 1, "{allowed} {fields}: {all:?}");
    for part in ["NotAllowed: ", "(IamRoleClass tenants)"].iter().chain(parts) {
        assert!(all[0].contains(part), "{part}: {}", all[0]);
    }
}

#[test]
fn every_field_needs_its_leave_and_the_refusal_names_field_value_rule_and_class() {
    for (list, patterns, fields, field) in [
        ("roleNames", json!(["shop-*"]), json!({ "roleName": "shop-api" }), "spec.roleName: \"shop-api\""),
        ("paths", json!(["/shop/*"]), json!({ "path": "/shop/x/" }), "spec.path: \"/shop/x/\""),
        (
            "permissionsBoundaries",
            json!(["arn:aws:iam::$(account):policy/b*"]),
            json!({ "permissionsBoundary": BOUNDARY }),
            "spec.permissionsBoundary: \"arn:",
        ),
        (
            "managedPolicies",
            json!(["ReadOnly*"]),
            json!({ "managedPolicies": ["ReadOnlyAccess"] }),
            "spec.managedPolicies[0]: ",
        ),
        ("tagKeys", json!(["Team"]), json!({ "tags": { "Team": "x" } }), "spec.tags[Team]: \"Team\""),
        (
            "actions",
            json!(["s3:Get*"]),
            inline(json!({ "Action": "S3:GetObject" })),
            "spec.inlinePolicies[0].document.Statement[0].Action: ",
        ),
    ] {
        let rule = format!("allowed.{list} lists ");
        allows(json!({ list: patterns }), fields.clone());
        allows(json!({ list: ["*"] }), fields.clone());
        refuses(json!({}), fields.clone(), &[field, &rule, "nothing"]);
        refuses(json!({ list: ["no"] }), fields, &[field, &rule, " no"]);
    }
    allows(json!({ "roleNames": ["$(namespace)-*"] }), json!({ "roleName": "shop-api" }));
    refuses(json!({ "roleNames": ["$(namespace)-*"] }), json!({ "roleName": "team-api" }), &["lists shop-*"]);
}

#[test]
fn switches_numbers_and_names_of_policies() {
    let own = |name: Option<&str>| {
        let mut entry = json!({ "name": "p", "document": document(json!({ "Action": "s3:GetObject" })) });
        if let Some(name) = name {
            entry["policyName"] = json!(name);
        }
        json!({ "customerManagedPolicies": [entry] })
    };
    let s3 = |more: Value| {
        let mut allowed = json!({ "actions": ["s3:*"] });
        allowed.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        allowed
    };
    refuses(
        s3(json!({})),
        own(None),
        &["spec.customerManagedPolicies: ", "allowed.customerManagedPolicies is not true"],
    );
    refuses(s3(json!({ "customerManagedPolicies": false })), own(None), &["is not true"]);
    allows(s3(json!({ "customerManagedPolicies": true })), own(None));
    refuses(
        s3(json!({ "customerManagedPolicies": true })),
        own(Some("shop-p")),
        &["spec.customerManagedPolicies[0].policyName: \"shop-p\"", "allowed.policyNames lists nothing"],
    );
    allows(s3(json!({ "customerManagedPolicies": true, "policyNames": ["shop-*"] })), own(Some("shop-p")));
    refuses(
        json!({ "customerManagedPolicies": true, "actions": ["sqs:*"] }),
        own(None),
        &["spec.customerManagedPolicies[0].document.Statement[0].Action", "lists sqs:*"],
    );

    refuses(json!({}), json!({ "instanceProfile": {} }), &["spec.instanceProfile: ", "allowed.instanceProfiles"]);
    allows(json!({ "instanceProfiles": true }), json!({ "instanceProfile": {} }));

    let named = json!({ "instanceProfile": { "name": "prod-web" } });
    refuses(
        json!({ "instanceProfiles": true }),
        named,
        &["spec.instanceProfile.name: \"prod-web\"", "allowed.roleNames"],
    );
    let revoke = json!({ "inlinePolicies": [{ "name": "AWSRevokeOlderSessions", "document": document(json!({ "Effect": "Deny", "Action": "s3:*" })) }] });
    refuses(s3(json!({})), revoke, &["spec.inlinePolicies[0].name", "unlistedExceptions"]);

    let session = |seconds: i32| json!({ "maxSessionDurationSeconds": seconds });
    allows(json!({}), session(3600));
    refuses(json!({}), session(3601), &["spec.maxSessionDurationSeconds: 3601", "is 3600"]);
    allows(json!({ "maxSessionDurationSeconds": 7200 }), session(7200));
    refuses(json!({ "maxSessionDurationSeconds": 7200 }), session(7201), &["is 7200"]);

    let adopt = json!({ "roleName": "old", "adoption": "Required" });
    refuses(
        json!({ "roleNames": ["old"] }),
        adopt.clone(),
        &["spec.adoption: \"old\"", "allowed.adoptedRoles lists nothing"],
    );
    refuses(json!({ "adoptedRoles": ["old"] }), adopt.clone(), &["spec.roleName: \"old\""]);
    allows(json!({ "roleNames": ["o*"], "adoptedRoles": ["old"] }), adopt);
    allows(json!({ "roleNames": ["*"] }), json!({ "roleName": "old", "adoption": "Never" }));
}

#[test]
fn where_no_action_is_allowed_there_is_no_document_whatever_it_says() {
    let own =
        |statement: Value| json!({ "customerManagedPolicies": [{ "name": "p", "document": document(statement) }] });
    for statement in [
        json!({ "Effect": "Deny", "Action": "s3:*" }),
        json!({ "Effect": "Deny", "NotAction": "s3:*" }),
        json!({ "Effect": "Deny", "Action": "*" }),
    ] {
        for list in [json!({}), json!({ "actions": [] })] {
            let place = "spec.inlinePolicies[0].document: \"p\"";
            refuses(list.clone(), inline(statement.clone()), &[place, "allowed.actions lists nothing"]);
            let mut list = list;
            list["customerManagedPolicies"] = json!(true);
            let place = "spec.customerManagedPolicies[0].document: \"p\"";
            refuses(list, own(statement.clone()), &[place, "allowed.actions lists nothing"]);
        }
        // What it denies needs no cover.
        allows(json!({ "actions": ["sqs:SendMessage"] }), inline(statement.clone()));
        allows(json!({ "actions": ["sqs:SendMessage"], "customerManagedPolicies": true }), own(statement));
    }
    refuses(json!({}), inline(json!({ "Action": "s3:GetObject" })), &["Statement[0].Action", "lists nothing"]);
}

#[test]
fn a_class_without_lists_lets_through_what_it_gives_itself() {
    let bounded = class(json!({
        "unbounded": null, "permissionsBoundary": BOUNDARY, "path": "/tenants/$(namespace)/", "tags": { "Team": "$(namespace)" },
        "managedPolicies": ["ReadOnlyAccess"],
    }));
    let closed: IamRoleSpec = serde_json::from_value(json!({
        "trustPolicy": { "Version": "2012-10-17", "Statement": [
            { "Effect": "Deny", "Principal": { "AWS": "*" }, "Action": "sts:AssumeRole" }] },
    }))
    .unwrap();
    assert_eq!(refusals(&closed, &bounded, None), [""; 0]);
    let everything = spec(json!({
        "roleName": "r", "path": "/", "tags": { "a": "b" }, "managedPolicies": ["AdministratorAccess"],
        "inlinePolicies": [{ "name": "p", "document": document(json!({ "Action": "*" })) }],
        "customerManagedPolicies": [{ "name": "p", "policyName": "p", "document": document(json!({ "NotAction": "s3:*" })) }],
        "instanceProfile": {}, "maxSessionDurationSeconds": 43200, "adoption": "IfExists",
    }));
    let all = refusals(&everything, &bounded, None);
    for field in [
        "roleName",
        "path",
        "tags[a]",
        "managedPolicies[0]",
        "inlinePolicies[0].document.Statement[0].Action",
        "customerManagedPolicies:",
        "customerManagedPolicies[0].policyName",
        "NotAction",
        "instanceProfile",
        "maxSessionDurationSeconds",
        "adoption",
        "trustPolicy.Statement[0].Principal.Service",
    ] {
        let named =
            all.iter().filter(|problem| problem.contains(&format!("spec.{field}")) || problem.contains(field)).count();
        assert!(named >= 1, "{field}: {all:#?}");
    }
    assert!(all.iter().all(|problem| problem.starts_with("NotAllowed: ")), "{all:#?}");
}

#[test]
fn managed_policies_are_told_by_arn_or_name_and_denial_wins() {
    let policy = |name: &str| json!({ "managedPolicies": [name] });
    allows(json!({ "managedPolicies": ["service-role/*"] }), policy("service-role/AWSLambdaBasicExecutionRole"));
    allows(json!({ "managedPolicies": ["arn:aws:iam::aws:policy/Read*"] }), policy("ReadOnlyAccess"));
    let own = "arn:aws:iam::111122223333:policy/shop/x";
    allows(json!({ "managedPolicies": ["arn:aws:iam::$(account):policy/$(namespace)/*"] }), policy(own));
    refuses(json!({ "managedPolicies": ["shop/*"] }), policy(own), &["spec.managedPolicies[0]"]);
    allows(json!({ "managedPolicies": ["*/shop/x"] }), policy(own));
    let denied = json!({ "managedPolicies": ["Administrator*", "$(nonsense)x"] });
    let all = under(json!({ "managedPolicies": ["*"] }), denied, policy("ReadOnlyAccess"));
    assert!(all.iter().any(|problem| problem.contains("spec.denied.managedPolicies[1] of the class")), "{all:?}");
    let all = under(
        json!({ "managedPolicies": ["*"] }),
        json!({ "managedPolicies": ["Admin*"] }),
        policy("AdministratorAccess"),
    );
    assert!(all.len() == 1 && all[0].contains("denied.managedPolicies lists \"Admin*\""), "{all:?}");
    let quiet = policy("arn:aws:iam::aws:policy/administratoraccess");
    assert_eq!(under(json!({ "managedPolicies": ["*"] }), json!({ "managedPolicies": ["Admin*"] }), quiet).len(), 1);
}

#[test]
fn actions_that_a_statement_may_grant_are_covered_or_it_is_refused() {
    let s3 = json!({ "actions": ["s3:*", "sqs:Send*"] });
    for good in [
        json!({ "Action": ["s3:GetObject", "S3:put*", "sqs:SendMessage"] }),
        json!({ "Effect": "Deny", "Action": "*" }),
        json!({ "Effect": "Deny", "NotAction": "iam:*" }),
    ] {
        allows(s3.clone(), inline(good));
    }
    for bad in ["*", "s*:*", "sqs:*", "sqs:S*", "iam:PassRole", "s3*", "?3:GetObject"] {
        // Some of them are no actions at all, and refused for that.
        assert!(!under(s3.clone(), json!({}), inline(json!({ "Action": bad }))).is_empty(), "{bad}");
    }
    let all = under(s3.clone(), json!({}), inline(json!({ "Action": ["s3:GetObject", "iam:PassRole"] })));
    assert!(all.len() == 1 && all[0].contains("Action[1]: \"iam:PassRole\""), "{all:?}");
    refuses(s3, inline(json!({ "NotAction": "iam:*" })), &["NotAction", "needs \"*\""]);

    let denied = json!({ "actions": ["iam:*", "s3:PutBucketPolicy"] });
    let with = |statement: Value| under(json!({ "actions": ["*"] }), denied.clone(), inline(statement));
    for good in [json!({ "Action": ["s3:Get*", "sqs:*"] }), json!({ "NotAction": ["iam:*", "s3:Put*"] })] {
        assert_eq!(with(good.clone()), [""; 0], "{good}");
    }
    for bad in [
        json!({ "Action": "s3:*" }),
        json!({ "Action": "IAM:passrole" }),
        json!({ "Action": "*" }),
        json!({ "NotAction": "iam:*" }),
    ] {
        let all = with(bad.clone());
        assert!(all.len() == 1 && all[0].contains("denied.actions, which lists iam:*"), "{bad}: {all:?}");
    }
}

#[test]
fn principals_are_told_by_type_and_value() {
    let asks = |allowed: &[&str], principal: Value| {
        let class = class(json!({ "allowed": { "trustPrincipals": allowed } }));
        refusals(&spec(json!({ "trustPolicy": trust(principal, json!({})) })), &class, Some(ISSUER))
    };
    let role = "arn:aws:iam::444455556666:role/ci-main";
    let saml = "arn:aws:iam::111122223333:saml-provider/idp";
    for (pattern, principal) in [
        ("Service:ec2.amazonaws.com", json!({ "Service": "ec2.amazonaws.com" })),
        ("Service:*.amazonaws.com", json!({ "Service": "ec2.amazonaws.com" })),
        ("AWS:444455556666", json!({ "AWS": "444455556666" })),
        ("AWS:444455556666", json!({ "AWS": "arn:aws:iam::444455556666:root" })),
        ("AWS:arn:aws:iam::444455556666:root", json!({ "AWS": "444455556666" })),
        ("AWS:arn:aws:iam::$(account):root", json!({ "AWS": "111122223333" })),
        ("AWS:arn:aws:iam::*:root", json!({ "AWS": "444455556666" })),
        ("AWS:arn:aws:iam::4444*:root", json!({ "AWS": "444455556666" })),
        ("AWS:arn:aws:iam::444455556666:role/ci-*", json!({ "AWS": role })),
        ("AWS:*", json!({ "AWS": "*" })),
        ("*", json!({ "AWS": "*" })),
        ("Federated:arn:aws:iam::$(account):saml-provider/*", json!({ "Federated": saml })),
    ] {
        assert_eq!(asks(&[pattern], principal.clone()), [""; 0], "{pattern} {principal}");
    }
    for (pattern, principal) in [
        ("Service:ec2.amazonaws.com", json!({ "Service": "lambda.amazonaws.com" })),
        ("AWS:111122223333", json!({ "AWS": role })),
        ("AWS:arn:aws:iam::444455556666:role/ci-*", json!({ "AWS": "444455556666" })),
        ("AWS:arn:aws:iam::444455556666:*", json!({ "AWS": "*" })),
        // Root users of any account are not everybody.
        ("AWS:arn:aws:iam::*:root", json!({ "AWS": "*" })),
        ("AWS:arn:aws:iam::*:root", json!({ "AWS": role })),
        ("AWS:arn:aws:iam::?*:root", json!({ "AWS": role })),
        ("Service:*", json!({ "AWS": "*" })),
        ("ServiceAccount:*/*", json!({ "Service": "ec2.amazonaws.com" })),
        ("Service:EC2.amazonaws.com", json!({ "Service": "ec2.amazonaws.com" })),
    ] {
        let all = asks(&[pattern], principal.clone());
        assert!(
            all.len() == 1 && all[0].contains("spec.trustPolicy.Statement[0].Principal."),
            "{pattern} {principal}: {all:?}"
        );
    }
    let both =
        asks(&["AWS:111122223333"], json!({ "AWS": ["111122223333", "444455556666"], "Service": "ec2.amazonaws.com" }));
    assert_eq!(both.len(), 2, "{both:?}");
}

#[test]
fn service_accounts_of_other_namespaces_need_a_leave_of_their_own() {
    let provider = |host: &str| json!({ "Federated": format!("arn:aws:iam::111122223333:oidc-provider/{host}") });
    let sub = |operator: &str, values: Value| json!({ operator: { format!("{ISSUER}:sub"): values } });
    let asks = |more: &[&str], principal: Value, condition: Value, issuer: Option<&str>| {
        let allowed: Vec<&str> = ["*"].iter().chain(more).copied().collect();
        let class = class(json!({ "allowed": { "trustPrincipals": allowed } }));
        refusals(&spec(json!({ "trustPolicy": trust(principal, condition) })), &class, issuer).len()
    };
    let ours = || provider(ISSUER);
    for (condition, refused) in [
        (sub("StringEquals", json!("system:serviceaccount:shop:api")), 0),
        (sub("StringLike", json!("system:serviceaccount:shop:*")), 0),
        (sub("StringEquals", json!(["system:serviceaccount:shop:a", "system:serviceaccount:shop:b"])), 0),
        (sub("ForAnyValue:StringEquals", json!("system:serviceaccount:shop:api")), 0),
        (sub("StringEquals", json!(["system:serviceaccount:shop:a", "system:serviceaccount:other:b"])), 1),
        (sub("StringLike", json!("system:serviceaccount:shop*")), 1),
        (sub("StringLike", json!("system:serviceaccount:*:api")), 1),
        (sub("StringLike", json!("*")), 1),
        (sub("StringLike", json!("system:serviceaccount:${aws:PrincipalTag/x}:api")), 1),
        (sub("StringEqualsIfExists", json!("system:serviceaccount:shop:api")), 1),
        (sub("ForAllValues:StringEquals", json!("system:serviceaccount:shop:api")), 1),
        (sub("StringNotEquals", json!("system:serviceaccount:other:api")), 1),
        (json!({ "StringEquals": { format!("{ISSUER}:aud"): "sts.amazonaws.com" } }), 1),
        (json!({ "StringEquals": { "other.example/id:sub": "system:serviceaccount:shop:api" } }), 1),
        (json!({}), 1),
    ] {
        for issuer in [Some(ISSUER), None] {
            assert_eq!(asks(&[], ours(), condition.clone(), issuer), refused, "{condition} {issuer:?}");
        }
    }
    let other = sub("StringEquals", json!("system:serviceaccount:other:api"));
    for (leave, refused) in [
        ("ServiceAccount:other/api", 0),
        ("ServiceAccount:other/*", 0),
        ("ServiceAccount:*/*", 0),
        ("ServiceAccount:other/web", 1),
        ("ServiceAccount:more/*", 1),
    ] {
        assert_eq!(asks(&[leave], ours(), other.clone(), Some(ISSUER)), refused, "{leave}");
    }
    // Another provider: of no concern where ours is known, else only what could be a ServiceAccount.
    let github = "token.actions.githubusercontent.com";
    let repo = json!({ "StringLike": { format!("{github}:sub"): "repo:org/*" } });
    assert_eq!(asks(&[], provider(github), repo.clone(), Some(ISSUER)), 0);
    assert_eq!(asks(&[], provider(github), repo, None), 0);
    let anything = json!({ "StringLike": { format!("{github}:sub"): "*org*" } });
    assert_eq!(asks(&[], provider(github), anything.clone(), Some(ISSUER)), 0);
    assert_eq!(asks(&[], provider(github), anything, None), 1, "it could be our provider");

    // A slash at the end of the issuer, as some have it, is no other issuer.
    let slash = json!({ "StringLike": { "oic.example/t/:sub": "system:serviceaccount:*" } });
    for issuer in ["oic.example/t", "oic.example/t/", "OIC.example/t"] {
        assert_eq!(asks(&[], provider("oic.example/t/"), slash.clone(), Some(issuer)), 1, "{issuer}");
    }

    let pods = || json!({ "Service": "pods.eks.amazonaws.com" });
    let shouting = json!({ "Service": "Pods.EKS.amazonaws.com" });
    assert_eq!(asks(&[], shouting, json!({}), None), 1, "whatever AWS makes of it");
    let namespace = |values: Value| json!({ "StringEquals": { "aws:requestTag/kubernetes-namespace": values } });
    for (condition, refused) in [
        (namespace(json!("shop")), 0),
        (namespace(json!(["shop", "other"])), 1),
        (json!({ "StringLike": { "aws:RequestTag/kubernetes-namespace": "shop*" } }), 1),
        (json!({ "StringEqualsIfExists": { "aws:RequestTag/kubernetes-namespace": "shop" } }), 1),
        (json!({}), 1),
    ] {
        assert_eq!(asks(&[], pods(), condition.clone(), Some(ISSUER)), refused, "{condition}");
    }
    assert_eq!(asks(&["ServiceAccount:other/*"], pods(), namespace(json!(["shop", "other"])), None), 0);
    assert_eq!(asks(&["ServiceAccount:other/api"], pods(), namespace(json!("other")), None), 1, "a whole namespace");
}

#[test]
fn everybody_by_web_identity_includes_every_service_account() {
    let mut policy = trust(json!({ "AWS": "*" }), json!({ "StringEquals": { "aws:PrincipalOrgID": "o-1" } }));
    let all = class(json!({ "allowed": { "trustPrincipals": ["*"] } }));
    assert_eq!(refusals(&spec(json!({ "trustPolicy": policy })), &all, Some(ISSUER)), [""; 0]);
    policy["Statement"][0]["Action"] = json!(["sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"]);
    let refused = refusals(&spec(json!({ "trustPolicy": policy })), &all, Some(ISSUER));
    assert!(refused.len() == 1 && refused[0].contains("ServiceAccounts of other namespaces"), "{refused:?}");
}

#[test]
fn mistakes_in_a_class_allow_nothing_and_are_named() {
    let class = class(
        json!({ "allowed": { "trustPrincipals": ["Service:ec2.amazonaws.com"], "roleNames": ["$(nonsense)*"] } }),
    );
    let all = refusals(&spec(json!({ "roleName": "anything" })), &class, None);
    assert!(
        all.iter().any(|problem| problem.starts_with("InvalidSpec: spec.allowed.roleNames[0] of the class")),
        "{all:?}"
    );
    assert!(all.iter().any(|problem| problem.starts_with("NotAllowed: spec.roleName")), "{all:?}");
    // What is not allowed any more may have been: its role must be found all the same when it is deleted.
    let (owner, account, limits) = (owner(), account(), Limits::default());
    let facts = Facts {
        owner: &owner,
        account: &account,
        class_name: "t",
        class: &class,
        boundaries: &[],
        limits: &limits,
        issuer: None,
    };
    assert_eq!(role_name(&spec(json!({ "roleName": "anything" })), facts).as_deref(), Some("anything"));
}

#[test]
fn a_policy_that_may_be_a_boundary_is_nobodys() {
    let own = |name: &str, policy: Option<&str>| {
        let mut entry = json!({ "name": name, "document": { "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "s3:Get*", "Resource": "*" }] } });
        if let Some(policy) = policy {
            entry["policyName"] = json!(policy);
        }
        json!({ "customerManagedPolicies": [entry] })
    };
    let forced = "arn:$(partition):iam::$(account):policy/$(namespace)-$(name)-b";
    let allowed = json!({ "customerManagedPolicies": true, "policyNames": ["*"], "actions": ["*"],
        "trustPrincipals": ["*"] });
    let class = class(json!({ "unbounded": null, "permissionsBoundary": forced, "allowed": allowed }));
    let refused = |fields: Value| {
        let all = refusals(&spec(fields), &class, None);
        all.iter().any(|text| text.starts_with("NotAllowed: ") && text.contains("may be the permissions boundary"))
    };
    for (name, policy, expected) in [
        ("x", Some("shop-y-b"), true),
        ("x", Some("SHOP-Y-B"), true),
        ("x", Some("other-team-b"), true),
        ("x", Some("shop-y-c"), false),
        ("x", None, false),
    ] {
        assert_eq!(refused(own(name, policy)), expected, "{name} {policy:?}");
    }
}
