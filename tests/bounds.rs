//! Every bound in the schema of both kinds is tried: one more than it allows is refused, by the field's name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use iamrole_operator::api::crd::manifests;
use serde_json::{Value, json};
use support::kubectl::kubectl;
use support::{allow, ec2};

/// A spec of each kind that has every field, so that each can be broken. Whether the fields go together does
/// not matter: the schema is checked before the rules.
fn full(kind: &str) -> Value {
    let document = |mut document: Value| {
        document["Id"] = json!("id");
        document["Statement"][0]["Sid"] = json!("Sid");
        document
    };
    let boundary = "arn:aws:iam::123456789012:policy/boundary";
    let both = json!({
        "deletionPolicy": "Delete", "whenUnlisted": "Keep", "mode": "Enforce", "suspend": true,
        "permissionsBoundary": boundary, "managedPolicies": ["ReadOnlyAccess"], "path": "/x/", "tags": { "k": "v" },
    });
    let only = match kind {
        "IamRole" => json!({
            "roleClassName": "class", "roleName": "role", "description": "text", "maxSessionDurationSeconds": 3600,
            "trustPolicy": document(ec2()), "trustPolicyJson": "{}", "adoption": "Never",
            "inlinePolicies": [{ "name": "a", "document": document(allow("s3:*")), "documentJson": "{}" }],
            "customerManagedPolicies": [{
                "name": "a", "policyName": "p", "description": "text", "document": document(allow("s3:*")),
                "documentJson": "{}",
            }],
            "instanceProfile": { "name": "p" }, "serviceAccounts": [{ "name": "a" }],
            "workloadIdentity": { "mechanism": "IRSA" },
        }),
        _ => json!({
            "namespaceSelector": {
                "matchLabels": { "k": "v" }, "matchExpressions": [{ "key": "k", "operator": "In", "values": ["v"] }],
            },
            "account": {
                "id": "123456789012",
                "assumeRole": {
                    "roleArn": "arn:aws:iam::123456789012:role/r", "externalId": "xx", "sessionDurationSeconds": 3600,
                },
            }, "roleNameTemplate": "$(namespace).$(name)", "unbounded": true,
            "unlistedExceptions": { "inlinePolicies": ["a"], "managedPolicies": ["a"] },
            "allowed": {
                "roleNames": ["a"], "paths": ["a"], "policyNames": ["a"], "permissionsBoundaries": ["a"],
                "managedPolicies": ["a"], "trustPrincipals": ["a"], "actions": ["a"], "tagKeys": ["a"],
                "adoptedRoles": ["a"], "customerManagedPolicies": true, "instanceProfiles": true, "suspend": true,
                "observe": true, "maxSessionDurationSeconds": 3600,
            },
            "denied": { "actions": ["a"], "managedPolicies": ["a"] },
            "takeOverClasses": ["other"],
            "takeOverClusters": ["old/11111111-2222-3333-4444-555555555555"],
            "workloadIdentity": { "mechanism": "IRSA", "allowOverride": true, "audience": "a", "stsRegionalEndpoints": true, "podIdentity": { "associations": "None" } },
            "driftCheck": { "intervalSeconds": 60, "method": "Auto" }, "controller": "c",
        }),
    };
    let mut spec = both;
    spec.as_object_mut().unwrap().extend(only.as_object().unwrap().clone());
    spec
}

/// One way to break a value: what to write, and what the refusal says.
type Break = (Value, &'static str);

fn breaks(schema: &Value, sample: &Value) -> Vec<Break> {
    let mut out: Vec<Break> = Vec::new();
    let number = |key: &str| schema[key].as_i64();
    let length = |n: i64| "a".repeat(usize::try_from(n).unwrap());
    if let Some(max) = number("maxLength") {
        out.push((json!(length(max + 1)), "Too long"));
    }
    if number("minLength").is_some_and(|min| min > 0) {
        out.push((json!(""), "at least 1 chars long"));
    }
    if schema["pattern"].is_string() {
        out.push((json!("\u{1}"), "should match"));
    }
    if schema["enum"].is_array() {
        out.push((json!("NoSuchChoice"), "Unsupported value"));
    }
    if let Some(min) = number("minimum") {
        out.push((json!(min - 1), "greater than or equal to"));
    }
    if let Some(max) = number("maximum") {
        out.push((json!(max + 1), "less than or equal to"));
    }
    if let Some(max) = number("maxItems") {
        let item = |i: i64| match &sample[0] {
            Value::Object(object) => {
                let mut object = object.clone();
                object.entry("name").and_modify(|name| *name = json!(format!("n{i}")));
                Value::Object(object)
            }
            _ => json!(format!("n{i}")),
        };
        out.push((json!((0..=max).map(item).collect::<Vec<_>>()), "Too many"));
    }
    if let Some(max) = number("maxProperties") {
        let map: serde_json::Map<String, Value> = (0..=max).map(|i| (format!("k{i}"), json!("v"))).collect();
        out.push((Value::Object(map), "Too many"));
    }
    out
}

/// Every place below `schema` with its pointer into the object, its path in messages, and how to break it.
fn walk(schema: &Value, sample: &Value, pointer: &str, path: &str, out: &mut Vec<(String, String, Break)>) {
    assert!(!sample.is_null(), "{path}: give the full sample a value for it");
    out.extend(breaks(schema, sample).into_iter().map(|broken| (pointer.to_owned(), path.to_owned(), broken)));
    if let Some(properties) = schema["properties"].as_object() {
        for (name, below) in properties {
            // What may be anything has no bounds.
            if below.get("type").is_some() {
                walk(below, &sample[name], &format!("{pointer}/{name}"), &format!("{path}.{name}"), out);
            }
        }
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &sample[0], &format!("{pointer}/0"), &format!("{path}[0]"), out);
    }
    if let Some((key, value)) = sample.as_object().and_then(|map| map.iter().next())
        && schema["additionalProperties"].is_object()
    {
        walk(&schema["additionalProperties"], value, &format!("{pointer}/{key}"), &format!("{path}.{key}"), out);
    }
}

#[test]
fn every_bound_of_every_field_is_kept_by_the_api_server() {
    for manifest in manifests().unwrap() {
        let kind = manifest.value["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        let version = &manifest.value["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let sample = full(&kind);
        let mut all = Vec::new();
        walk(schema, &sample, "", "spec", &mut all);
        assert!(all.len() > 30, "{kind}: only {} bounds found", all.len());

        // One request with one broken object each.
        let object = |i: usize, (pointer, _, (value, _)): &(String, String, Break)| {
            let mut spec = sample.clone();
            *spec.pointer_mut(pointer).expect("a place") = value.clone();
            json!({
                "apiVersion": "iamrole.dev/v1alpha1", "kind": kind, "metadata": { "name": format!("bound-{i}") },
                "spec": spec,
            })
        };
        let items: Vec<Value> = all.iter().enumerate().map(|(i, broken)| object(i, broken)).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        let output = kubectl(&["create", "-n", "default", "--dry-run=server", "-f", "-"], &list.to_string());
        let mut wrong = Vec::new();
        for (i, (_, path, (value, says))) in all.iter().enumerate() {
            let name = format!("\"bound-{i}\" is invalid");
            let refusal = output.stderr.split("The IamRole").find(|part| part.contains(&name)).unwrap_or_default();
            if !(refusal.contains(&format!("{path}: ")) && refusal.contains(says)) {
                let value: String = value.to_string().chars().take(60).collect();
                wrong.push(format!("{path} = {value} should say {says:?}: {refusal}"));
            }
        }
        assert!(wrong.is_empty(), "{kind}: {} of {}\n{}", wrong.len(), all.len(), wrong.join("\n"));
    }
}
