//! The CRDs behave as people and tools expect: kubectl, server-side apply, `GitOps`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use iamrole_operator::api::crd::manifests;
use serde_json::{Value, json};
use std::process::Command;
use support::kubectl::{kubectl, kubectl_ok};
use support::{World, allow, ec2, trust};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn iam_role(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRole", "metadata": { "name": name }, "spec": spec })
}

/// A role with one of each.
fn rich(world: &World) -> Value {
    json!({
        "roleName": format!("rich-{}", world.namespace), "path": "/team/", "description": "rich", "tags": { "Owner": "msb" },
        "maxSessionDurationSeconds": 3600, "trustPolicy": trust(&json!({ "AWS": ["123456789012"] })),
        "managedPolicies": ["ReadOnlyAccess", "SecurityAudit"], "whenUnlisted": "Remove", "deletionPolicy": "Delete",
        "inlinePolicies": [{ "name": "a", "document": allow("s3:GetObject") }],
        "customerManagedPolicies": [{ "name": "own", "documentJson": allow("sqs:*").to_string() }],
    })
}

#[test]
fn the_shipped_crds_are_what_the_types_say() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("crds");
    std::fs::create_dir_all(&folder).expect("a folder");
    let run = Command::new(env!("CARGO_BIN_EXE_iamrole")).args(["crds", "--out"]).arg(&folder).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for manifest in manifests().unwrap() {
        let fresh = std::fs::read(folder.join(&manifest.file_name)).expect("a file");
        for shipped in ["crds", "charts/iamrole-operator/crds", "charts/iamrole-operator-crds/files"] {
            let path = format!("{shipped}/{}", manifest.file_name);
            let there = std::fs::read(format!("{ROOT}/{path}")).unwrap_or_default();
            assert!(there == fresh, "{path} is stale; run `make crds`");
        }
        assert!(fresh.len() < 200_000, "{} is too long for client-side apply", manifest.file_name);
    }
}

#[test]
fn they_install_by_client_side_apply_and_nothing_is_left_to_do() {
    kubectl_ok(&["apply", "-f", "crds/"], "");
    let again = kubectl_ok(&["apply", "-f", "crds/"], "");
    assert_eq!(again.matches(" unchanged").count(), 2, "{again}");
    let difference = kubectl(&["diff", "-f", "crds/"], "");
    assert!(difference.ok, "{}", difference.stdout);
}

/// Names of all fields below `schema`, as explain indents them, and those without a text.
fn fields(schema: &Value, path: &str, all: &mut Vec<String>, silent: &mut Vec<String>) {
    let properties = schema["properties"].as_object().into_iter().flatten();
    for (name, property) in properties {
        let path = format!("{path}.{name}");
        if property["description"].as_str().is_none_or(|text| text.len() < 4) && property.get("allOf").is_none() {
            silent.push(path.clone());
        }
        all.push(name.clone());
        fields(property, &path, all, silent);
        fields(&property["items"], &path, all, silent);
    }
}

#[test]
fn explain_knows_every_field() {
    let served = kubectl_ok(&["get", "--raw", "/openapi/v3/apis/iamrole.dev/v1alpha1"], "");
    let served: Value = serde_json::from_str(&served).expect("JSON");
    for (plural, kind) in [("iamroles", "IamRole"), ("iamroleclasses", "IamRoleClass")] {
        let schema = &served["components"]["schemas"][format!("dev.iamrole.v1alpha1.{kind}")];
        let (mut all, mut silent) = (Vec::new(), Vec::new());
        fields(schema, "", &mut all, &mut silent);
        assert!(silent.is_empty(), "{kind} says nothing of {silent:?}");
        let explained = kubectl_ok(&["explain", plural, "--recursive"], "");
        for name in &all {
            let there = explained.lines().any(|line| line.split_whitespace().next() == Some(name));
            assert!(there, "kubectl explain {plural} --recursive does not show {name}");
        }
        assert!(all.len() > 25, "{kind}: {all:?}");
    }
    let text = kubectl_ok(&["explain", "iamroles.spec.trustPolicy.Statement.Principal"], "");
    assert!(text.contains("Write account ids in") && text.contains("quotes"), "{text}");
}

#[test]
fn the_kind_is_found_by_its_singular_and_its_category() {
    // A category of the same name would make kubectl take `get iamrole NAME` for many kinds.
    let resources = kubectl_ok(&["api-resources", "--api-group=iamrole.dev", "--no-headers", "-o", "name"], "");
    assert_eq!(resources.lines().count(), 2, "{resources}");
    kubectl_ok(&["get", "aws", "-n", "default"], "");
    let missing = kubectl(&["get", "iamrole", "no-such-role", "-n", "default"], "");
    assert!(missing.stderr.contains("NotFound"), "{}", missing.stderr);
    let missing = kubectl(&["describe", "iamrole", "no-such-role", "-n", "default"], "");
    assert!(missing.stderr.contains("NotFound"), "{}", missing.stderr);
}

#[tokio::test]
async fn apply_is_a_fixed_point_client_side_and_server_side() {
    let world = World::new("fixpoint").await;
    let minimal = iam_role("minimal", &json!({ "trustPolicy": ec2() }));
    let observing = iam_role("observing", &json!({ "trustPolicy": ec2(), "mode": "Observe" }));
    let all = [minimal, observing, iam_role("rich", &rich(&world))];
    for server_side in [false, true] {
        let flags: &[&str] = if server_side { &["--server-side", "--field-manager=gitops"] } else { &[] };
        let with = |verb: &'static str| [&[verb, "-n", &world.namespace, "-f", "-"], flags].concat();
        for object in &all {
            kubectl_ok(&with("apply"), &object.to_string());
        }
        world.ready("minimal").await;
        world.ready("rich").await;
        world.reason("observing", "ChangesPending").await;
        for object in &all {
            let difference = kubectl(&with("diff"), &object.to_string());
            assert!(difference.ok, "server side {server_side}: {}{}", difference.stdout, difference.stderr);
            let before = world.get(object["metadata"]["name"].as_str().unwrap()).await;
            kubectl_ok(&with("apply"), &object.to_string());
            let after = world.get(object["metadata"]["name"].as_str().unwrap()).await;
            assert_eq!(before.metadata.resource_version, after.metadata.resource_version, "nothing to write");
        }
        for name in ["minimal", "observing", "rich"] {
            world.delete(name).await;
            world.gone(name).await;
        }
    }
}

#[tokio::test]
async fn of_an_object_the_operator_owns_status_and_its_finalizer_alone() {
    let world = World::new("owner").await;
    world.create("rich", rich(&world)).await;
    let object = world.ready("rich").await;
    let managed = object.metadata.managed_fields.unwrap_or_default();
    let others: Vec<_> = managed.iter().filter(|entry| entry.manager.as_deref() != Some("test")).collect();
    assert!(!others.is_empty(), "the operator writes status");
    for entry in others {
        let fields = serde_json::to_value(&entry.fields_v1).expect("JSON");
        let tops: Vec<&String> = fields.as_object().unwrap().keys().collect();
        let finalizer = json!({ "f:finalizers": { ".": {}, "v:\"iamrole.dev/finalizer\"": {} } });
        for top in tops {
            let fine = top == "f:status" || (top == "f:metadata" && fields[top] == finalizer);
            assert!(fine, "{:?} owns {top}: {fields:#}", entry.manager);
        }
    }
}

#[tokio::test]
async fn two_appliers_own_an_inline_policy_each() {
    let world = World::new("appliers").await;
    let with = |policies: Value, trust: Option<Value>| {
        let mut spec = json!({ "inlinePolicies": policies });
        if let Some(trust) = trust {
            spec["trustPolicy"] = trust;
        }
        iam_role("shared", &spec).to_string()
    };
    let apply = |manager: &str, text: &str| {
        let manager = format!("--field-manager={manager}");
        kubectl(&["apply", "--server-side", &manager, "-n", &world.namespace, "-f", "-"], text)
    };
    let one = |name: &str, action: &str| json!([{ "name": name, "document": allow(action) }]);
    let first = apply("platform", &with(one("logs", "logs:PutLogEvents"), Some(ec2())));
    assert!(first.ok, "{}", first.stderr);
    let second = apply("team", &with(one("queue", "sqs:SendMessage"), None));
    assert!(second.ok, "{}", second.stderr);
    world.ready("shared").await;
    let names = |role: support::aws::Role| role.inline.into_keys().collect::<Vec<_>>();
    let role = support::aws::role(&world.iam, &world.templated("shared")).await.expect("the role");
    assert_eq!(names(role), ["logs", "queue"]);
    // What one stops applying goes, the other's stays.
    let third = apply("team", &with(json!([]), None));
    assert!(third.ok, "{}", third.stderr);
    world.ready("shared").await;
    let role = support::aws::role(&world.iam, &world.templated("shared")).await.expect("the role");
    assert_eq!(names(role), ["logs"]);
    // The same entry with other content is a conflict that names the other.
    let conflict = apply("team", &with(one("logs", "s3:*"), None));
    assert!(!conflict.ok && conflict.stderr.contains("\"platform\""), "{}", conflict.stderr);
}

#[tokio::test]
async fn roles_are_found_by_their_name_in_aws() {
    let world = World::without_operator("select", |_| {}).await;
    for (name, role) in [("one", "first"), ("two", "second")] {
        world.create(name, json!({ "trustPolicy": ec2(), "roleName": role })).await;
    }
    let arguments =
        ["get", "iamroles", "-n", &world.namespace, "--field-selector", "spec.roleName=second", "-o", "name"];
    assert_eq!(kubectl_ok(&arguments, "").trim(), "iamrole.iamrole.dev/two");
}

#[tokio::test]
async fn strict_validation_refuses_unknown_fields() {
    let world = World::without_operator("strict", |_| {}).await;
    let object = iam_role("typo", &json!({ "trustPolicy": ec2(), "descripton": "x" }));
    for verb in ["apply", "create"] {
        let arguments = [verb, "--dry-run=server", "--validate=strict", "-n", &world.namespace, "-f", "-"];
        let output = kubectl(&arguments, &object.to_string());
        assert!(!output.ok && output.stderr.contains("unknown field \"spec.descripton\""), "{}", output.stderr);
    }
}

#[tokio::test]
async fn columns_tell_what_matters() {
    let world = World::new("columns").await;
    world.create("good", json!({ "trustPolicy": ec2() })).await;
    world.create("bad", json!({ "trustPolicyJson": "{" })).await;
    world.ready("good").await;
    world.reason("bad", "InvalidSpec").await;
    let table = |wide: &[&str]| {
        let text = kubectl_ok(&[&["get", "iamroles", "-n", &world.namespace], wide].concat(), "");
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
    };
    let narrow = table(&[]);
    assert_eq!(narrow[0], ["NAME", "READY", "REASON", "ROLE", "ACCOUNT", "AGE"]);
    assert_eq!(narrow[1][..3], ["bad", "False", "InvalidSpec"]);
    let role = world.templated("good");
    assert_eq!(narrow[2][..5], ["good", "True", "Applied", role.as_str(), "123456789012"]);
    let wide = table(&["-o", "wide"]);
    assert_eq!(wide[0][6..], ["MODE", "CLASS", "DRIFTED", "ARN", "MESSAGE"]);
    assert!(wide[2].contains(&format!("arn:aws:iam::123456789012:role/{role}")), "{wide:?}");
    assert!(wide[1].iter().any(|word| word.starts_with("spec.trustPolicyJson")), "{wide:?}");
    let classes = kubectl_ok(&["get", "iamroleclass", &world.namespace], "");
    let classes: Vec<&str> = classes.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(classes, ["NAME", "READY", "REASON", "ACCOUNT", "DEFAULT", "AGE"]);
}

// More than one thread: the proxy must answer while kubectl waits.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_a_new_object_for_done_while_the_operator_is_down() {
    let mut world = World::without_operator("down", |_| {}).await;
    world.create("new", json!({ "trustPolicy": ec2() })).await;
    let status = world.status("new").await;
    assert_eq!(status.observed_generation, Some(-1));
    let wait = ["wait", "--for=condition=Ready", "-n", &world.namespace.clone(), "iamrole/new"];
    let output = kubectl(&[&wait[..], &["--timeout=1s"]].concat(), "");
    assert!(!output.ok && output.stderr.contains("timed out"), "{}", output.stderr);
    world.operator.start().await;
    kubectl_ok(&[&wait[..], &["--timeout=10s"]].concat(), "");
    assert_eq!(world.get("new").await.metadata.generation, world.status("new").await.observed_generation);
}

#[test]
fn an_object_that_breaks_a_newer_rule_can_still_be_edited_elsewhere() {
    // The same CRD under another name: first with the rules taken away, then as it is.
    let mut strict = manifests().unwrap().remove(0).value;
    strict["metadata"]["name"] = json!("ratchetroles.ratchet.example");
    strict["spec"]["group"] = json!("ratchet.example");
    strict["spec"]["names"] = json!({
        "plural": "ratchetroles", "singular": "ratchetrole", "kind": "RatchetRole", "listKind": "RatchetRoleList",
    });
    let mut lax = strict.clone();
    without_rules(&mut lax);
    kubectl_ok(&["apply", "-f", "-"], &lax.to_string());
    let established = "--for=condition=Established";
    kubectl_ok(&["wait", established, "--timeout=20s", "crd/ratchetroles.ratchet.example"], "");
    let object = json!({
        "apiVersion": "ratchet.example/v1alpha1", "kind": "RatchetRole", "metadata": { "name": "old" },
        "spec": { "roleName": "with blank", "path": "bad", "description": "\u{2014}", "tags": { "aws:x": "y" } },
    });
    let created = retry(|| kubectl(&["apply", "-n", "default", "-f", "-"], &object.to_string()).ok);
    kubectl_ok(&["apply", "-f", "-"], &strict.to_string());
    let refuses = retry(|| {
        let mut other = object.clone();
        other["metadata"]["name"] = json!("new");
        !kubectl(&["create", "--dry-run=server", "-n", "default", "-f", "-"], &other.to_string()).ok
    });
    let label = kubectl(&["label", "-n", "default", "ratchetrole/old", "edited=yes"], "");
    let finalizer = r#"{"metadata":{"finalizers":["iamrole.dev/finalizer"]}}"#;
    let finalizer = kubectl(&["patch", "-n", "default", "ratchetrole/old", "--type=merge", "-p", finalizer], "");
    let release = r#"{"metadata":{"finalizers":null}}"#;
    let release = kubectl(&["patch", "-n", "default", "ratchetrole/old", "--type=merge", "-p", release], "");
    kubectl_ok(&["delete", "crd", "ratchetroles.ratchet.example", "--timeout=30s"], "");
    assert!(created && refuses, "created {created}, the rules came {refuses}");
    for output in [label, finalizer, release] {
        assert!(output.ok, "{}", output.stderr);
    }
}

fn without_rules(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !["x-kubernetes-validations", "pattern", "minLength"].contains(&key.as_str()));
            map.values_mut().for_each(without_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rules),
        _ => {}
    }
}

/// A CRD takes a moment to be served after a change.
fn retry(done: impl Fn() -> bool) -> bool {
    (0..100).any(|_| {
        let done = done();
        if !done {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        done
    })
}
