//! What the API server refuses at apply time: a message that names the field, for every bound of both CRDs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::kubectl::kubectl;
use support::{World, allow, ec2, trust};

/// A valid spec, changed by a merge patch.
fn spec(patch: &Value) -> Value {
    let mut spec = json!({ "trustPolicy": ec2() });
    merge(&mut spec, patch);
    spec
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn tagged(keys: &[&str]) -> Value {
    let tags: BTreeMap<&str, &str> = keys.iter().map(|key| (*key, "x")).collect();
    json!({ "tags": tags })
}

/// Spec, and what its refusal must hold: the field and what to do.
fn refusals() -> Vec<(Value, [&'static str; 2])> {
    let reserved = ["spec.tags", "aws: and iamrole.dev/ are reserved"];
    let one_trust = ["spec.trustPolicy", "one of trustPolicy, trustPolicyJson and serviceAccounts is needed"];
    let one_document = ["spec.inlinePolicies[0]", "exactly one of document and documentJson is needed"];
    let boundary = ["spec.permissionsBoundary", "write the ARN of a managed policy"];
    let path = ["spec.path", "should match"];
    vec![
        (json!({ "roleName": "has blank" }), ["spec.roleName", "should match"]),
        (json!({ "roleName": "" }), ["spec.roleName", "at least 1"]),
        (json!({ "roleName": "ä" }), ["spec.roleName", "should match"]),
        (json!({ "path": "no-slash" }), path),
        (json!({ "path": "/no-end" }), path),
        (json!({ "path": "/bl ank/" }), path),
        (
            json!({ "maxSessionDurationSeconds": 3599 }),
            ["spec.maxSessionDurationSeconds", "greater than or equal to 3600"],
        ),
        (
            json!({ "maxSessionDurationSeconds": 43201 }),
            ["spec.maxSessionDurationSeconds", "less than or equal to 43200"],
        ),
        (json!({ "maxSessionDurationSeconds": "3600" }), ["spec.maxSessionDurationSeconds", "integer"]),
        (json!({ "description": "an em dash \u{2014} in it" }), ["spec.description", "no em dash"]),
        (json!({ "description": "€" }), ["spec.description", "no em dash"]),
        (json!({ "permissionsBoundary": "developer-boundary" }), boundary),
        (json!({ "permissionsBoundary": "arn:aws:iam::123456789012:role/not-a-policy" }), boundary),
        (json!({ "permissionsBoundary": "arn:aws:iam::1234:policy/short-account" }), boundary),
        (tagged(&["aws:mine"]), reserved),
        (tagged(&["AWS:mine"]), reserved),
        (tagged(&["iamrole.dev/mine"]), reserved),
        (tagged(&["IamRole.Dev/mine"]), reserved),
        (tagged(&["Owner", "owner"]), ["spec.tags", "differ only in case"]),
        (tagged(&[""]), ["spec.tags", "1 to 128 characters"]),
        (tagged(&[&"k".repeat(129)]), ["spec.tags", "1 to 128 characters"]),
        (json!({ "tags": { "Owner": "sem;colon" } }), ["spec.tags.Owner", "should match"]),
        (json!({ "trustPolicy": null }), one_trust),
        (json!({ "trustPolicy": null, "serviceAccounts": [] }), one_trust),
        (
            json!({ "trustPolicyJson": ec2().to_string() }),
            ["spec.trustPolicy", "trustPolicy and trustPolicyJson exclude each other"],
        ),
        (json!({ "serviceAccounts": [{ "name": "Big" }] }), ["spec.serviceAccounts[0].name", "should match"]),
        (
            json!({ "serviceAccounts": [{ "name": "a" }, { "name": "a" }] }),
            ["spec.serviceAccounts[1]", "Duplicate value"],
        ),
        (json!({ "workloadIdentity": { "mechanism": "irsa" } }), ["spec.workloadIdentity.mechanism", "\"IRSA\""]),
        (json!({ "trustPolicy": { "Version": null } }), ["spec.trustPolicy.Version", "Required value"]),
        (json!({ "trustPolicy": { "Version": "2012-10-18" } }), ["spec.trustPolicy.Version", "2012-10-17"]),
        (json!({ "inlinePolicies": [{ "name": "x" }] }), one_document),
        (json!({ "inlinePolicies": [{ "name": "x", "document": allow("s3:*"), "documentJson": "{}" }] }), one_document),
        (
            json!({ "inlinePolicies": [
                { "name": "x", "document": allow("s3:*") }, { "name": "x", "document": allow("sqs:*") },
            ] }),
            ["spec.inlinePolicies[1]", "Duplicate value"],
        ),
        (
            json!({ "managedPolicies": ["ReadOnlyAccess", "ReadOnlyAccess"] }),
            ["spec.managedPolicies[1]", "Duplicate value"],
        ),
        (json!({ "adoption": "IfExists" }), ["spec.roleName", "adoption needs an explicit roleName"]),
        (json!({ "adoption": "Sometimes" }), ["spec.adoption", "\"IfExists\""]),
        (json!({ "mode": "observe" }), ["spec.mode", "\"Observe\""]),
        (json!({ "deletionPolicy": "Orphan" }), ["spec.deletionPolicy", "\"Retain\""]),
    ]
}

#[tokio::test]
async fn a_mistake_is_refused_at_apply_time_and_the_message_names_the_field() {
    let world = World::without_operator("refused", |_| {}).await;
    let mut wrong = Vec::new();
    for (patch, expected) in refusals() {
        let error = world.try_create("bad", spec(&patch)).await.err().unwrap_or_else(|| "not refused".into());
        let missing = expected.iter().filter(|part| !error.contains(*part));
        wrong.extend(missing.map(|part| format!("{patch}: no {part:?} in: {error}")));
        if error == "not refused" {
            world.delete("bad").await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.create("good", spec(&json!({}))).await;
}

#[tokio::test]
async fn a_class_is_checked_too() {
    let world = World::without_operator("refused", |_| {}).await;
    let boundary = "arn:$(partition):iam::$(account):policy/developer-boundary";
    for (patch, expected) in [
        (
            json!({ "unbounded": null }),
            ["spec.permissionsBoundary", "exactly one of permissionsBoundary and unbounded"],
        ),
        (json!({ "permissionsBoundary": boundary }), ["spec.permissionsBoundary", "exactly one of"]),
        (json!({ "unbounded": false }), ["spec.permissionsBoundary", "exactly one of"]),
        (json!({ "roleNameTemplate": "$(name)" }), ["spec.roleNameTemplate", "must hold $(namespace) and $(name)"]),
        (json!({ "account": { "id": "1234" } }), ["spec.account.id", "should match"]),
        (json!({ "account": { "id": 123_456_789_012_u64 } }), ["spec.account.id", "string"]),
        (json!({ "namespaceSelector": null }), ["spec.namespaceSelector", "Required value"]),
        (
            json!({ "driftCheck": { "intervalSeconds": 1 } }),
            ["spec.driftCheck.intervalSeconds", "greater than or equal"],
        ),
        (tagged(&["aws:mine"]), ["spec.tags", "reserved"]),
        (tagged(&["Owner", "OWNER"]), ["spec.tags", "differ only in case"]),
    ] {
        let mut spec = json!({ "namespaceSelector": {}, "unbounded": true, "controller": world.operator.controller });
        merge(&mut spec, &patch);
        let error = dry_run("IamRoleClass", None, &spec).expect_err(&patch.to_string());
        for part in expected {
            assert!(error.contains(part), "{patch} was refused without {part:?}: {error}");
        }
    }
}

#[tokio::test]
async fn what_is_fixed_stays_fixed() {
    let world = World::without_operator("refused", |_| {}).await;
    let own = |name: Value, description: Value| {
        let mut policy = json!({ "name": "own", "document": allow("s3:*") });
        merge(&mut policy, &json!({ "policyName": name, "description": description }));
        json!({ "customerManagedPolicies": [policy] })
    };
    let named = json!({ "roleName": "given", "path": "/team/" });
    for (from, to, field) in [
        (named.clone(), json!({ "roleName": "other" }), "spec.roleName"),
        (named.clone(), json!({ "roleName": null }), "spec.roleName"),
        (json!({}), json!({ "roleName": "set-later" }), "spec.roleName"),
        (named.clone(), json!({ "path": "/other/" }), "spec.path"),
        (named, json!({ "path": null }), "spec.path"),
        (json!({}), json!({ "path": "/set-later/" }), "spec.path"),
        (own(json!("a"), Value::Null), own(json!("b"), Value::Null), "customerManagedPolicies[0].policyName"),
        (own(json!("a"), Value::Null), own(Value::Null, Value::Null), "customerManagedPolicies[0].policyName"),
        (own(Value::Null, json!("a")), own(Value::Null, json!("b")), "customerManagedPolicies[0].description"),
    ] {
        world.create("fixed", spec(&from)).await;
        let error = world.try_patch("fixed", to.clone()).await.expect_err(&to.to_string());
        assert!(error.contains(field) && error.contains("can't be changed"), "{from} to {to}: {error}");
        assert!(error.contains("delete the object and create it anew"), "{error}");
        world.delete("fixed").await;
        world.gone("fixed").await;
    }
}

#[tokio::test]
async fn an_unknown_field_is_refused_outside_documents_and_kept_inside() {
    let world = World::without_operator("refused", |_| {}).await;
    let error = dry_run("IamRole", Some(&world.namespace), &spec(&json!({ "rolename": "x" }))).unwrap_err();
    assert!(error.contains("unknown field") && error.contains("spec.rolename"), "{error}");
    let inside = spec(&json!({ "inlinePolicies": [{ "name": "x", "document": allow("s3:*"), "documents": {} }] }));
    let error = dry_run("IamRole", Some(&world.namespace), &inside).unwrap_err();
    assert!(error.contains("unknown field") && error.contains("spec.inlinePolicies[0].documents"), "{error}");

    // Pruned, the mistyped condition would open the role to everybody.
    let mut open = trust(&json!({ "AWS": "*" }));
    open["Statement"][0]["Conditions"] = json!({ "StringEquals": { "sts:ExternalId": "x" } });
    world.create("kept", json!({ "trustPolicy": open })).await;
    let kept = world.get("kept").await.spec.trust_policy.expect("a document").0;
    assert_eq!(kept, open);
}

/// What the API server says to an object of this spec, as `kubectl apply` asks it.
fn dry_run(kind: &str, namespace: Option<&str>, spec: &Value) -> Result<(), String> {
    let object = json!({
        "apiVersion": "iamrole.dev/v1alpha1", "kind": kind,
        "metadata": { "name": "dry-run", "namespace": namespace }, "spec": spec,
    });
    let output = kubectl(&["create", "--dry-run=server", "-f", "-"], &object.to_string());
    if output.ok { Ok(()) } else { Err(output.stderr) }
}
