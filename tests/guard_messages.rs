//! Whoever is refused is told what, by which rule of which class.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::needless_pass_by_value, reason = "tables read better with json!() in place")]

mod guards;

use guards::{BOUNDARY, ISSUER, class, document, inline, refusals, spec, trust};
use iamrole_operator::role::settings::settings;
use serde_json::{Value, json};

/// A refusal: what the class says beside `trustPrincipals` for EC2, what the spec asks for, and the field, the value and
/// the rule that the message names.
type Told = (Value, Value, &'static str, &'static str, &'static str);

fn told_of_names() -> Vec<Told> {
    let allowed = |lists: Value| json!({ "allowed": lists });
    let forced = json!({ "unbounded": null, "permissionsBoundary": BOUNDARY });
    let other = "arn:aws:iam::aws:policy/PowerUserAccess";
    vec![
        (allowed(json!({})), json!({ "roleName": "admin" }), "spec.roleName", "\"admin\"", "allowed.roleNames"),
        (allowed(json!({})), json!({ "path": "/admin/" }), "spec.path", "\"/admin/\"", "allowed.paths"),
        (
            allowed(json!({})),
            json!({ "permissionsBoundary": other }),
            "spec.permissionsBoundary",
            "\"arn:aws:iam::aws:policy/PowerUserAccess\"",
            "allowed.permissionsBoundaries",
        ),
        (
            forced,
            json!({ "permissionsBoundary": other }),
            "spec.permissionsBoundary",
            "\"arn:aws:iam::aws:policy/PowerUserAccess\"",
            "the class forces arn:aws:iam::111122223333:policy/boundary",
        ),
        (allowed(json!({})), json!({ "tags": { "Cost": "x" } }), "spec.tags[Cost]", "\"Cost\"", "allowed.tagKeys"),
        (
            json!({ "tags": { "Cost": "x" }, "allowed": { "tagKeys": ["*"] } }),
            json!({ "tags": { "cost": "y" } }),
            "spec.tags[cost]",
            "\"cost\"",
            "the class sets Cost",
        ),
    ]
}

fn told_of_policies() -> Vec<Told> {
    let allowed = |lists: Value| json!({ "allowed": lists });
    let own = |name: Option<&str>| {
        let mut entry = json!({ "name": "mine", "document": document(json!({ "Action": "s3:GetObject" })) });
        if let Some(name) = name {
            entry["policyName"] = json!(name);
        }
        json!({ "customerManagedPolicies": [entry] })
    };
    let s3 = |more: Value| {
        let mut lists = json!({ "actions": ["s3:*"] });
        lists.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        allowed(lists)
    };
    let denied = json!({ "allowed": { "actions": ["*"], "managedPolicies": ["*"] }, "denied": {
        "actions": ["iam:*"], "managedPolicies": ["Power*"],
    } });
    vec![
        (
            allowed(json!({})),
            json!({ "managedPolicies": ["PowerUserAccess"] }),
            "spec.managedPolicies[0]",
            "\"arn:aws:iam::aws:policy/PowerUserAccess\"",
            "allowed.managedPolicies",
        ),
        (
            denied.clone(),
            json!({ "managedPolicies": ["PowerUserAccess"] }),
            "spec.managedPolicies[0]",
            "\"arn:aws:iam::aws:policy/PowerUserAccess\"",
            "denied.managedPolicies",
        ),
        (
            s3(json!({})),
            inline(json!({ "Action": "sqs:*" })),
            "spec.inlinePolicies[0].document.Statement[0].Action",
            "\"sqs:*\"",
            "allowed.actions",
        ),
        (
            s3(json!({})),
            inline(json!({ "NotAction": "iam:*" })),
            "spec.inlinePolicies[0].document.Statement[0].NotAction",
            "\"everything but iam:*\"",
            "allowed.actions",
        ),
        (
            denied,
            inline(json!({ "Action": "iam:Pass*" })),
            "spec.inlinePolicies[0].document.Statement[0].Action",
            "\"iam:Pass*\"",
            "denied.actions",
        ),
        (
            allowed(json!({})),
            inline(json!({ "Effect": "Deny", "Action": "s3:*" })),
            "spec.inlinePolicies[0].document",
            "\"p\"",
            "allowed.actions",
        ),
        (
            json!({ "allowed": { "actions": ["s3:*"] }, "unlistedExceptions": { "inlinePolicies": ["p*"] } }),
            inline(json!({ "Action": "s3:*" })),
            "spec.inlinePolicies[0].name",
            "\"p\"",
            "unlistedExceptions",
        ),
        (s3(json!({})), own(None), "spec.customerManagedPolicies", "\"mine\"", "allowed.customerManagedPolicies"),
        (
            s3(json!({ "customerManagedPolicies": true })),
            own(Some("taken")),
            "spec.customerManagedPolicies[0].policyName",
            "\"taken\"",
            "allowed.policyNames",
        ),
    ]
}

fn told_of_the_rest() -> Vec<Told> {
    let allowed = |lists: Value| json!({ "allowed": lists });
    let provider = format!("arn:aws:iam::111122223333:oidc-provider/{ISSUER}");
    let all = allowed(json!({ "trustPrincipals": ["*"] }));
    vec![
        (
            allowed(json!({})),
            json!({ "instanceProfile": {} }),
            "spec.instanceProfile",
            "{}",
            "allowed.instanceProfiles",
        ),
        (
            allowed(json!({ "roleNames": ["web"] })),
            json!({ "instanceProfile": { "name": "web" } }),
            "spec.instanceProfile",
            "\"web\"",
            "allowed.instanceProfiles",
        ),
        (
            allowed(json!({ "instanceProfiles": true })),
            json!({ "instanceProfile": { "name": "web" } }),
            "spec.instanceProfile.name",
            "\"web\"",
            "allowed.roleNames",
        ),
        (
            allowed(json!({})),
            json!({ "maxSessionDurationSeconds": 7200 }),
            "spec.maxSessionDurationSeconds",
            "7200",
            "allowed.maxSessionDurationSeconds",
        ),
        (
            allowed(json!({ "roleNames": ["*"] })),
            json!({ "roleName": "old", "adoption": "IfExists" }),
            "spec.adoption",
            "\"old\"",
            "allowed.adoptedRoles",
        ),
        (
            allowed(json!({})),
            json!({ "trustPolicy": trust(json!({ "Service": "lambda.amazonaws.com" }), json!({})) }),
            "spec.trustPolicy.Statement[0].Principal.Service",
            "\"Service:lambda.amazonaws.com\"",
            "allowed.trustPrincipals",
        ),
        (
            all.clone(),
            json!({ "trustPolicy": trust(json!({ "Federated": provider }), json!({})) }),
            "spec.trustPolicy.Statement[0].Principal.Federated",
            "\"oidc.eks.eu-west-1.amazonaws.com/id/ABC\"",
            "allowed.trustPrincipals",
        ),
        (
            all,
            json!({ "trustPolicy": trust(json!({ "Service": "pods.eks.amazonaws.com" }), json!({})) }),
            "spec.trustPolicy.Statement[0].Principal.Service",
            "\"pods.eks.amazonaws.com\"",
            "allowed.trustPrincipals",
        ),
    ]
}

#[test]
fn every_kind_of_refusal_names_field_value_class_and_rule() {
    for (class_fields, fields, field, value, rule) in
        told_of_names().into_iter().chain(told_of_policies()).chain(told_of_the_rest())
    {
        let mut class_fields = class_fields;
        if class_fields["allowed"].get("trustPrincipals").is_none() {
            class_fields["allowed"]["trustPrincipals"] = json!(["Service:ec2.amazonaws.com"]);
        }
        let all = refusals(&spec(fields.clone()), &class(class_fields.clone()), Some(ISSUER));
        let [told] = all.as_slice() else { panic!("{class_fields} {fields}: {all:#?}") };
        assert!(told.starts_with(&format!("NotAllowed: {field}: {value} ")), "{value}: {told}");
        assert!(told.contains(rule) && told.ends_with(" (IamRoleClass tenants)"), "{rule}: {told}");
    }
    // What is ignored is told in the same way.
    let dodging = spec(json!({ "suspend": true, "mode": "Observe" }));
    let ignored = settings(&dodging, Some(&class(json!({}))), None, Some(&"x".repeat(1000))).ignored;
    let ignored: Vec<String> = ignored.iter().map(ToString::to_string).collect();
    let annotation = format!("the annotation iamrole.dev/suspend: \"{}\" is ignored: allowed.suspend", "x".repeat(64));
    for (told, begins) in ignored.iter().zip([
        "spec.mode: \"Observe\" is ignored: allowed.observe",
        "spec.suspend: true is ignored: allowed.suspend",
        &annotation,
    ]) {
        assert!(told.starts_with(begins), "{told}");
    }
    assert_eq!(ignored.len(), 3);
}
