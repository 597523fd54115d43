#![allow(clippy::needless_pass_by_value, reason = "tables read better with json!() in place")]

use super::{Desired, Facts, desired, role_name};
use crate::api::iamroleclass::Allowed;
use crate::api::{IamRoleClassSpec, IamRoleSpec};
use crate::policy::{AccountRef, Limits};
use crate::role::owner::tests::owner;
use crate::role::settings::settings;
use serde_json::{Map, Value, json};

pub(crate) fn allow(action: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": action, "Resource": "*" }] })
}

pub(crate) fn trust(principal: &Value) -> Value {
    json!({ "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal }] })
}

/// A valid spec with these fields in place of its own.
fn spec(fields: Value) -> IamRoleSpec {
    let mut spec = json!({ "trustPolicy": trust(&json!({ "Service": "ec2.amazonaws.com" })) });
    let Value::Object(fields) = fields else { panic!("an object") };
    let known: &mut Map<String, Value> = spec.as_object_mut().unwrap();
    for (key, value) in fields {
        if value.is_null() {
            known.remove(&key)
        } else {
            known.insert(key, value)
        };
    }
    serde_json::from_value(spec).unwrap()
}

fn class(fields: Value) -> IamRoleClassSpec {
    let mut class = json!({ "namespaceSelector": {}, "unbounded": true, "allowed": Allowed::everything() });
    class.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(class).unwrap()
}

fn ask<T>(class: &IamRoleClassSpec, with: impl FnOnce(Facts<'_>) -> T) -> T {
    let account = AccountRef { partition: "aws".into(), id: "111122223333".into() };
    let (owner, limits) = (owner(), Limits::default());
    with(Facts {
        owner: &owner,
        account: &account,
        class_name: "default",
        class,
        boundaries: &[],
        limits: &limits,
        issuer: Some("issuer.example"),
    })
}

/// The desired state, or all problems as `Reason: message`.
fn under(spec: &IamRoleSpec, class: &IamRoleClassSpec) -> Result<Desired, Vec<String>> {
    let settings = settings(spec, Some(class), None, None);
    ask(class, |facts| desired(spec, &settings, facts))
        .map_err(|problems| problems.iter().map(|problem| format!("{}: {problem}", problem.reason.as_str())).collect())
}

pub(crate) fn make(fields: Value) -> Result<Desired, Vec<String>> {
    under(&spec(fields), &class(json!({})))
}

fn refused(fields: Value, starts: &str, holds: &str) {
    let problems = make(fields.clone()).expect_err(starts);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with(starts) && problems[0].contains(holds), "{fields}: {problems:?}");
}

#[test]
fn every_problem_names_its_field() {
    let long = "x".repeat(65);
    let invalid = |fields: Value, field: &str, holds: &str| refused(fields, &format!("InvalidSpec: {field}"), holds);
    invalid(json!({ "roleName": "a b" }), "spec.roleName:", "1 to 64");
    invalid(json!({ "roleName": long }), "spec.roleName:", "1 to 64");
    invalid(json!({ "path": "/a" }), "spec.path:", "ends with /");
    invalid(json!({ "path": "/ä/" }), "spec.path:", "ASCII");
    invalid(json!({ "path": format!("/{}/", "x".repeat(511)) }), "spec.path:", "512");
    invalid(json!({ "adoption": "IfExists" }), "spec.adoption:", "spec.roleName");
    invalid(json!({ "trustPolicy": null }), "spec.trustPolicy:", "spec.trustPolicyJson");
    invalid(json!({ "trustPolicyJson": "{}" }), "spec.trustPolicy:", "exactly one");
    invalid(json!({ "trustPolicy": null, "serviceAccounts": [] }), "spec.trustPolicy:", "spec.serviceAccounts");
    invalid(json!({ "trustPolicy": null, "trustPolicyJson": "{" }), "spec.trustPolicyJson", "line");
    invalid(json!({ "trustPolicy": trust(&json!({ "Service": 1 })) }), "spec.trustPolicy.Statement[0].Principal", "");
    invalid(json!({ "tags": { "aws:x": "1" } }), "spec.tags[aws:x]:", "reserved");
    invalid(json!({ "tags": { "IAMRole.dev/Name": "1" } }), "spec.tags[IAMRole.dev/Name]:", "reserved");
    invalid(json!({ "tags": { "a!": "1" } }), "spec.tags[a!]:", "key");
    invalid(json!({ "tags": { "a": "!" } }), "spec.tags[a]:", "value");
    invalid(json!({ "tags": { "a": "1", "A": "1" } }), "spec.tags[a]:", "case");
    invalid(json!({ "tags": { "a": "$(nope)" } }), "spec.tags[a]:", "$(namespace)");
    invalid(json!({ "managedPolicies": ["$(nope)"] }), "spec.managedPolicies[0]:", "unknown token");
    invalid(json!({ "managedPolicies": ["A", "/B"] }), "spec.managedPolicies[1]:", "ReadOnlyAccess");
    invalid(json!({ "managedPolicies": ["arn:aws:iam"] }), "spec.managedPolicies[0]:", "six parts");
    let arn = |fields: &str| format!("arn:{fields}");
    invalid(
        json!({ "managedPolicies": [arn("aws:iam::111122223333:role/x")] }),
        "spec.managedPolicies[0]:",
        "no managed",
    );
    invalid(
        json!({ "managedPolicies": [arn("aws-cn:iam::aws:policy/x")] }),
        "spec.managedPolicies[0]:",
        "$(partition)",
    );
    invalid(
        json!({ "managedPolicies": [arn("aws:iam::999999999999:policy/x")] }),
        "spec.managedPolicies[0]:",
        "own account",
    );
    invalid(
        json!({ "permissionsBoundary": arn("aws:s3:::policy/x") }),
        "spec.permissionsBoundary:",
        "no managed policy",
    );
}

#[test]
fn a_principal_is_of_the_accounts_partition() {
    for (principal, place) in [
        (json!({ "AWS": "arn:aws-cn:iam::123456789012:role/a" }), "AWS"),
        (json!({ "AWS": ["123456789012", "arn:aws-us-gov:iam::123456789012:root"] }), "AWS[1]"),
        (json!({ "Federated": "arn:aws-cn:iam::111122223333:oidc-provider/a.example" }), "Federated"),
    ] {
        let field = format!("InvalidSpec: spec.trustPolicy.Statement[0].Principal.{place}:");
        refused(json!({ "trustPolicy": trust(&principal) }), &field, "the account of aws");
        let text = json!({ "trustPolicy": null, "trustPolicyJson": trust(&principal).to_string() });
        let field = format!("InvalidSpec: spec.trustPolicyJson.Statement[0].Principal.{place}:");
        refused(text, &field, "write arn:$(partition):");
    }
    for principal in [
        json!("*"),
        json!({ "AWS": ["123456789012", "arn:aws:iam::123456789012:role/a", "arn:$(partition):iam::$(account):root"] }),
        json!({ "Service": "ec2.amazonaws.com.cn" }),
        json!({ "Federated": "accounts.google.com" }),
    ] {
        assert!(make(json!({ "trustPolicy": trust(&principal) })).is_ok(), "{principal}");
    }
}

#[test]
fn every_problem_of_a_policy_names_its_place() {
    let invalid = |fields: Value, field: &str, holds: &str| refused(fields, &format!("InvalidSpec: {field}"), holds);
    let inline = |policies: Value| json!({ "inlinePolicies": policies });
    let own = |policies: Value| json!({ "customerManagedPolicies": policies });
    let doc = allow("s3:*");
    invalid(inline(json!([{ "name": "a" }])), "spec.inlinePolicies[0].document:", "exactly one");
    invalid(inline(json!([{ "name": "a b", "document": doc }])), "spec.inlinePolicies[0].name:", "1 to 128");
    let twice = json!([{ "name": "a", "document": doc }, { "name": "A", "document": doc }]);
    invalid(inline(twice), "spec.inlinePolicies[1].name:", "IAM ignores case");
    let text = r#"{"Version": "2012-10-17", "Statement": [], "Statement": []}"#;
    let problems = make(inline(json!([{ "name": "a", "documentJson": text }]))).unwrap_err();
    assert!(problems.iter().any(|p| p.starts_with("InvalidSpec: spec.inlinePolicies[0].documentJson")), "{problems:?}");
    invalid(
        inline(json!([{ "name": "a", "document": allow("s3") }])),
        "spec.inlinePolicies[0].document.Statement[0].Action",
        "",
    );
    invalid(own(json!([{ "name": "a" }])), "spec.customerManagedPolicies[0].document:", "exactly one");
    invalid(
        own(json!([{ "name": "a", "policyName": "a/b", "document": doc }])),
        "spec.customerManagedPolicies[0].policyName:",
        "128",
    );
    let twice = json!([{ "name": "a", "policyName": "x", "document": doc }, { "name": "b", "policyName": "X", "document": doc }]);
    invalid(own(twice), "spec.customerManagedPolicies[1].policyName:", "IAM ignores case");
}

#[test]
fn all_problems_are_told_at_once() {
    let fields = json!({
        "roleName": "a b", "path": "x", "tags": { "aws:a": "1" }, "managedPolicies": ["/x"],
        "inlinePolicies": [{ "name": "a" }], "customerManagedPolicies": [{ "name": "b" }], "trustPolicy": null,
    });
    assert_eq!(make(fields).unwrap_err().len(), 7);
}

#[test]
fn sizes_are_checked_against_the_quotas() {
    let big = |size: usize| {
        let resource = |i: usize| format!("arn:aws:s3:::{}{i:04}", "b".repeat(80));
        let resources: Vec<String> = (0..size / 100).map(resource).collect();
        json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "s3:*", "Resource": resources }] })
    };
    let one =
        json!({ "inlinePolicies": [{ "name": "a", "document": big(4000) }, { "name": "b", "document": big(7000) }] });
    let says = "The biggest part is policy \"b\" with 7086; make it a customer managed policy, which has a quota of its own \
                (spec.customerManagedPolicies)";
    refused(one, "InvalidSpec: spec.inlinePolicies:", says);
    let own = json!({ "customerManagedPolicies": [{ "name": "a", "documentJson": big(7000).to_string() }] });
    refused(
        own,
        "InvalidSpec: spec.customerManagedPolicies[0].documentJson:",
        "IAM takes 6144. The biggest part is Statement[0]",
    );
    let users: Vec<String> = (0..60).map(|i| format!("arn:aws:iam::444455556666:user/somebody-{i:02}")).collect();
    refused(
        json!({ "trustPolicy": trust(&json!({ "AWS": users })) }),
        "InvalidSpec: spec.trustPolicy:",
        "IAM takes 2048. The biggest part is Statement[0]",
    );
}

#[test]
fn what_is_too_large_is_not_judged() {
    let actions: Vec<String> = (0..2000).map(|i| format!("ec2:Action{i:04}")).collect();
    let big =
        json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }] });
    let class =
        class(json!({ "allowed": { "actions": ["s3:*"], "trustPrincipals": ["*"], "customerManagedPolicies": true } }));
    for (list, field) in [
        ("inlinePolicies", "spec.inlinePolicies"),
        ("customerManagedPolicies", "spec.customerManagedPolicies[0].document"),
    ] {
        let problems = under(&spec(json!({ list: [{ "name": "big", "document": big }] })), &class).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with(&format!("InvalidSpec: {field}: ")) && problems[0].contains("IAM takes"),
            "{problems:?}"
        );
    }
}

#[test]
fn advice_on_sizes_names_the_biggest_part() {
    let resources: Vec<String> = (0..80).map(|i| format!("arn:aws:s3:::{}{i:02}", "b".repeat(88))).collect();
    let big = json!({ "Version": "2012-10-17",
        "Statement": [{ "Sid": "Buckets", "Effect": "Allow", "Action": "s3:GetObject", "Resource": resources }] });
    let desired = make(json!({ "inlinePolicies": [{ "name": "big", "document": big }] })).unwrap();
    let advice = crate::role::advice::advice(&desired, &Limits::default());
    assert_eq!(advice.len(), 1, "{advice:?}");
    let starts = "the inline policies together: 8590 of the 10240 characters that IAM takes are used. The biggest part is policy \"big\"";
    assert!(advice[0].starts_with(starts) && advice[0].ends_with("before it grows"), "{advice:?}");
}

#[test]
fn tokens_are_replaced_where_they_may_be() {
    let desired = under(
        &spec(json!({
            "permissionsBoundary": "arn:$(partition):iam::$(account):policy/b-$(namespace)",
            "tags": { "who": "$(name)" },
            "managedPolicies": ["arn:$(partition):iam::$(account):policy/x", "job-function/$(name)"],
            "inlinePolicies": [{ "name": "a", "document": {
                "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "s3:*",
                    "Resource": "arn:$(partition):s3:::$(cluster)-${aws:username}-$$(x)" }] } }],
        })),
        &class(
            json!({ "path": "/$(namespace)/", "roleNameTemplate": "$(namespace)-$(name)", "tags": { "c": "$(cluster)" },
            "unlistedExceptions": { "managedPolicies": ["arn:$(partition):iam::$(account):policy/audit-*"] } }),
        ),
    )
    .unwrap();
    assert_eq!((desired.name.as_str(), desired.path.as_str(), desired.path_given), ("shop-api", "/shop/", false));
    assert_eq!(desired.boundary.as_deref(), Some("arn:aws:iam::111122223333:policy/b-shop"));
    assert_eq!((desired.tags["who"].as_str(), desired.tags["c"].as_str()), ("api", "prod"));
    let managed: Vec<&str> = desired.managed.iter().map(String::as_str).collect();
    assert_eq!(managed, ["arn:aws:iam::111122223333:policy/x", "arn:aws:iam::aws:policy/job-function/api"]);
    assert!(desired.inline["a"].to_json().contains("arn:aws:s3:::prod-${aws:username}-$(x)"));
    assert!(desired.exceptions.keep_managed("arn:aws:iam::111122223333:policy/audit-2"));
}

#[test]
fn an_unknown_token_of_the_class_is_its_mistake() {
    let problems = under(
        &spec(json!({})),
        &class(json!({ "path": "/$(nope)/", "unlistedExceptions": { "inlinePolicies": ["$(nope)"] } })),
    );
    let problems = problems.unwrap_err();
    assert!(problems.iter().any(|p| p.starts_with("InvalidSpec: spec.path of the class:")), "{problems:?}");
    assert!(
        problems.iter().any(|p| p.contains("spec.unlistedExceptions.inlinePolicies[0] of the class:")),
        "{problems:?}"
    );
}

#[test]
fn names_come_from_the_template_and_are_cut_with_a_hash() {
    let name = |template: &str| {
        let class = class(json!({ "roleNameTemplate": template }));
        ask(&class, |facts| role_name(&spec(json!({ "trustPolicy": null })), facts))
    };
    assert_eq!(name("$(namespace)_$(name)").as_deref(), Some("shop_api"), "whatever else is wrong");
    let long = name(&format!("{}$(namespace)$(name)", "x".repeat(80))).unwrap();
    assert!(long.len() == 64 && long.starts_with("xxx"));
    assert_eq!(name("$(namespace)/$(name)"), None, "no character of a name");
    let desired = make(json!({})).unwrap();
    assert_eq!(desired.name, "prod.shop.api");
    let entry = "e".repeat(120);
    let own = json!({ "customerManagedPolicies": [
        { "name": "short", "document": allow("s3:*") }, { "name": entry, "document": allow("s3:*"), "description": "" }] });
    let desired = make(own).unwrap();
    assert_eq!(desired.own[0].arn, "arn:aws:iam::111122223333:policy/prod.shop.api.short");
    assert_eq!((desired.own[1].name.len(), desired.own[1].description.as_deref()), (128, None));
}

#[test]
fn an_own_policy_is_not_attached_twice() {
    let desired = make(json!({
        "customerManagedPolicies": [{ "name": "a", "policyName": "own", "document": allow("s3:*") }],
        "managedPolicies": ["arn:aws:iam::111122223333:policy/own", "service-role/AWSLambdaBasicExecutionRole"],
    }));
    let managed: Vec<String> = desired.unwrap().managed.into_iter().collect();
    assert_eq!(managed, ["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"]);
}

#[test]
fn the_class_wins_over_the_role() {
    let strict = class(json!({
        "permissionsBoundary": "arn:aws:iam::111122223333:policy/bound", "tags": { "Team": "core" },
        "managedPolicies": ["AuditAccess"],
    }));
    let desired = under(&spec(json!({})), &strict).unwrap();
    assert_eq!(desired.boundary.as_deref(), Some("arn:aws:iam::111122223333:policy/bound"));
    assert_eq!(desired.tags["Team"], "core");
    assert!(desired.managed.contains("arn:aws:iam::aws:policy/AuditAccess"));
    let same = spec(json!({ "permissionsBoundary": "arn:aws:iam::$(account):policy/bound" }));
    assert!(under(&same, &strict).is_ok(), "the same by another spelling");
    for (fields, field) in [
        (json!({ "permissionsBoundary": "arn:aws:iam::111122223333:policy/other" }), "spec.permissionsBoundary:"),
        (json!({ "tags": { "team": "mine" } }), "spec.tags[team]:"),
    ] {
        let problems = under(&spec(fields), &strict).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with(&format!("NotAllowed: {field}")), "{problems:?}");
        assert!(problems[0].ends_with("(IamRoleClass default)"), "{problems:?}");
    }
    let mut loose = strict;
    loose.tags = Some([("a".to_owned(), "1".to_owned()), ("A".to_owned(), "2".to_owned())].into());
    assert!(under(&spec(json!({})), &loose).unwrap_err()[0].contains("case"), "the class's own mistake");
}

#[test]
fn all_tags_together_fit_into_the_fifty_that_iam_takes() {
    use kube::CustomResourceExt as _;
    let most = |crd: serde_json::Result<serde_json::Value>| {
        let tags = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/tags/maxProperties";
        crd.unwrap().pointer(tags).and_then(serde_json::Value::as_f64).unwrap()
    };
    let of_spec = most(serde_json::to_value(crate::api::IamRole::crd()));
    let of_class = most(serde_json::to_value(crate::api::IamRoleClass::crd()));
    let ours = make(json!({})).unwrap().role_tags(crate::api::iamrole::Origin::Created).into_iter().map(|_| 1.0);
    assert!((of_spec + of_class + ours.sum::<f64>() - 50.0).abs() < 0.5, "{of_spec} and {of_class} and ours");
}
