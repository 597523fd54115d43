//! Who may read and write `IamRole`s: what the chart gives, and what an admin gives with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use support::kubectl::{helm, kubectl, kubectl_ok};
use support::{SOON, World, ec2, eventually};

const ROLES: &str = "iamroles.iamrole.dev";
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

fn may(who: &[&str], verb: &str, resource: &str, namespace: &str) -> bool {
    let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
    let part = format!("--subresource={part}");
    kubectl(&[&["auth", "can-i", verb, resource, &part, "-n", namespace], who].concat(), "").ok
}

#[tokio::test]
async fn the_role_binding_of_the_readme_lets_a_group_write_and_no_more() {
    let world = World::without_operator("rbac", |_| {}).await;
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/charts/iamrole-operator/README.md")).unwrap();
    let block = readme.split("```yaml\n").find(|block| block.contains("kind: RoleBinding")).expect("an example");
    let binding = block.split("```").next().unwrap();
    let group = format!("team-{}", world.namespace);
    kubectl_ok(&["apply", "-f", "-"], &binding.replace("NAMESPACE", &world.namespace).replace("GROUP", &group));
    let who = ["--as=jane", &format!("--as-group={group}")];
    for verb in ["get", "list", "watch"].iter().chain(&WRITES) {
        assert!(may(&who, verb, ROLES, &world.namespace), "{verb}");
        assert!(!may(&who, verb, ROLES, "default"), "{verb} elsewhere");
        assert!(!may(&who, verb, "iamroles.iamrole.dev/status", &world.namespace), "{verb} status");
        assert!(!may(&who, verb, "iamroleclasses.iamrole.dev", &world.namespace), "{verb} classes");
    }
    let role = json!({
        "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRole", "spec": { "trustPolicy": ec2() },
        "metadata": { "name": "app", "namespace": world.namespace },
    });
    kubectl_ok(&[&["apply", "-f", "-"], &who[..]].concat(), &role.to_string());
}

#[tokio::test]
async fn of_the_built_in_roles_view_reads_and_none_writes() {
    let world = World::without_operator("rbac", |_| {}).await;
    for built_in in ["view", "edit", "admin"] {
        let (user, role) = (format!("--user={built_in}-user"), format!("--clusterrole={built_in}"));
        kubectl_ok(&["create", "rolebinding", built_in, &role, &user, "-n", &world.namespace], "");
        let who = [format!("--as={built_in}-user")];
        let who: Vec<&str> = who.iter().map(String::as_str).collect();
        let reads = || async { may(&who, "list", ROLES, &world.namespace) };
        assert!(eventually(SOON, reads).await, "{built_in} reads");
        for verb in WRITES {
            assert!(!may(&who, verb, ROLES, &world.namespace), "{built_in} {verb}");
            assert!(!may(&who, verb, "iamroles.iamrole.dev/status", &world.namespace), "{built_in} {verb} status");
        }
    }
}

#[test]
fn nothing_gives_status_but_the_operators_own_role_and_nothing_binds_the_others() {
    let everything = ["rbac.aggregateToEdit=true", "rbac.aggregateToAdmin=true", "admissionPolicy.enabled=true"];
    for settings in [&[][..], &everything] {
        let sets: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let output = helm(&[&["template", "iamrole-operator", "charts/iamrole-operator"], &sets[..]].concat());
        assert!(output.ok, "{}", output.stderr);
        let objects = output.stdout.split("\n---").filter(|text| text.contains("kind:"));
        let objects: Vec<Value> =
            objects.map(|text| serde_saphyr::from_str(text.trim_start_matches("---")).expect("YAML")).collect();
        let mut users = Vec::new();
        for object in &objects {
            let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
            if kind.ends_with("Role") && object["rules"].is_array() {
                let status = object["rules"].to_string().contains("/status");
                assert_eq!(status, name == "iamrole-operator", "{name}");
                users.extend((!status && kind == "ClusterRole").then_some(name));
            }
            if kind.ends_with("Binding") && object["roleRef"].is_object() {
                let bound = object["roleRef"]["name"].as_str().unwrap();
                assert!(["iamrole-operator", "iamrole-operator-leader-election"].contains(&bound), "{name}: {bound}");
            }
        }
        assert_eq!(users, ["iamrole-operator-view", "iamrole-operator-edit"], "there to be bound");
    }
}

#[tokio::test]
async fn a_quota_bounds_how_many_roles_a_namespace_has() {
    let world = World::without_operator("quota", |_| {}).await;
    let count = "count/iamroles.iamrole.dev";
    kubectl_ok(&["create", "quota", "iamroles", &format!("--hard={count}=2"), "-n", &world.namespace], "");
    let counted = || async {
        let quota = kubectl_ok(&["get", "quota", "iamroles", "-n", &world.namespace, "-o", "json"], "");
        let quota: Value = serde_json::from_str(&quota).unwrap();
        quota["status"]["used"][count] == "0"
    };
    assert!(eventually(Duration::from_mins(1), counted).await, "the quota controller has counted");
    for name in ["one", "two"] {
        world.create(name, json!({ "trustPolicy": ec2() })).await;
    }
    let error = world.try_create("three", json!({ "trustPolicy": ec2() })).await.unwrap_err();
    assert!(error.contains("exceeded quota"), "{error}");
}
