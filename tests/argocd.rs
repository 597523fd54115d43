//! `integrations/argocd`: the Lua is run as Argo CD runs it, on objects of the API server, and says what the operator's
//! conditions mean, in whatever order they stand.
//!
//! `UPDATE_DOCS=1 cargo test --test argocd` writes the patch of the `ConfigMap` and the chart values from the Lua files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lua;
mod support;

use iamrole_operator::api::Reason;
use iamrole_operator::api::iamroleclass::Denied;
use iamrole_operator::controller::status::{Progress, Tri, Verdict, conditions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use lua::{health, orders, patch_of, run};
use serde_json::{Value, json};
use std::fmt::Write as _;
use support::kubectl::kubectl_ok;
use support::{World, allow, aws, ec2, eventually};

const FOLDER: &str = "integrations/argocd";
const KINDS: [&str; 2] = ["IamRole", "IamRoleClass"];
const HEADER: &str = "# Written by `UPDATE_DOCS=1 cargo test --test argocd` from the files in lua/.\n";

fn path(name: &str) -> String {
    format!("{}/{FOLDER}/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn script(name: &str) -> String {
    read(&format!("lua/{name}.lua"))
}

fn indented(text: &str, by: usize) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = if line.is_empty() { writeln!(all) } else { writeln!(all, "{:by$}{line}", "") };
        all
    })
}

/// The entries of `argocd-cm`, as YAML.
fn entries() -> String {
    let mut text = String::new();
    for kind in KINDS {
        let action = |name: &str| if name == "reconcile" { script(name) } else { script(&format!("{kind}/{name}")) };
        let _ =
            write!(text, "resource.customizations.health.iamrole.dev_{kind}: |\n{}", indented(&script("health"), 2));
        let _ = write!(text, "resource.customizations.actions.iamrole.dev_{kind}: |\n  discovery.lua: |\n");
        text += &indented(&action("discovery"), 4);
        text += "  definitions:\n";
        for name in ["reconcile", "suspend", "resume"] {
            let _ = write!(text, "    - name: {name}\n      action.lua: |\n{}", indented(&action(name), 8));
        }
    }
    text
}

#[test]
fn the_patch_and_the_values_are_made_of_the_same_lua() {
    let patch = format!("{HEADER}data:\n{}", indented(&entries(), 2));
    let values = format!("{HEADER}configs:\n  cm:\n{}", indented(&entries(), 4));
    for (name, text) in [("argocd-cm.yaml", &patch), ("values.yaml", &values)] {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path(name), text).unwrap();
        }
        assert!(&read(name) == text, "{name} is stale; run UPDATE_DOCS=1 cargo test --test argocd");
    }
    let patch: Value = serde_saphyr::from_str(&patch).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    assert_eq!(patch["data"], values["configs"]["cm"]);
    for kind in KINDS {
        assert_eq!(patch["data"][format!("resource.customizations.health.iamrole.dev_{kind}")], script("health"));
        let actions = patch["data"][format!("resource.customizations.actions.iamrole.dev_{kind}")].as_str().unwrap();
        let actions: Value = serde_saphyr::from_str(actions).unwrap();
        assert_eq!(actions["discovery.lua"], script(&format!("{kind}/discovery")));
        assert_eq!(actions["definitions"][0]["action.lua"], script("reconcile"));
        assert_eq!(actions["definitions"][2]["action.lua"], script(&format!("{kind}/resume")));
    }
}

/// What Argo CD shall say of a verdict of the operator. No wildcard: a new kind of progress must be thought about here.
fn meaning(verdict: &Verdict) -> &'static str {
    match (verdict.progress, verdict.ready) {
        (Progress::Stalled, _) => "Degraded",
        (Progress::Reconciling, _) => "Progressing",
        (Progress::Rest, Tri::True) => "Healthy",
        (Progress::Rest, Tri::False | Tri::Unknown) => "Suspended",
    }
}

#[test]
fn each_verdict_means_the_same_in_every_order_of_the_conditions() {
    let now = Time(Timestamp::from_second(1).unwrap());
    for (progress, ready) in [Progress::Rest, Progress::Reconciling, Progress::Stalled]
        .into_iter()
        .flat_map(|progress| [Tri::True, Tri::False, Tri::Unknown].map(|ready| (progress, ready)))
    {
        let verdict = Verdict {
            ready,
            progress,
            reason: Reason::Contested,
            message: "what to do".into(),
            drift: Some((Reason::Contested, "somebody".into())),
        };
        for kind in KINDS {
            let mut object = json!({
                "kind": kind, "metadata": { "name": "x", "generation": 3 }, "spec": {},
                "status": { "observedGeneration": 3, "conditions": conditions(&[], &verdict, 3, &now) },
            });
            for order in orders(&object) {
                let said = health(&order);
                assert_eq!(said, (meaning(&verdict).to_owned(), "what to do".to_owned()), "{order}");
            }
            // Of an older generation, or on the way out, it means nothing any more.
            object["metadata"]["generation"] = json!(4);
            assert_eq!(health(&object).0, "Progressing");
            object["metadata"] = json!({ "generation": 3, "deletionTimestamp": "2026-01-01T00:00:00Z" });
            assert_eq!(health(&object), ("Progressing".into(), "what to do".into()));
        }
    }
}

/// The object as Argo CD sees it.
fn live(world: &World, kind: &str, name: &str) -> Value {
    let text = kubectl_ok(&["get", kind, name, "-n", &world.namespace, "-o", "json"], "");
    serde_json::from_str(&text).unwrap()
}

/// What Argo CD says of it, in every order of its conditions.
fn assess(world: &World, kind: &str, name: &str) -> (String, String) {
    let object = live(world, kind, name);
    let said = health(&object);
    for order in orders(&object) {
        assert_eq!(health(&order), said, "{order}");
    }
    said
}

fn assert_said(said: &(String, String), status: &str, part: &str) {
    assert!(said.0 == status && said.1.contains(part), "{status} with {part:?} is wanted: {said:?}");
}

#[tokio::test]
async fn real_objects_are_healthy_progressing_degraded_and_suspended_when_the_operator_means_so() {
    let mut world = World::without_operator("argo", |_| {}).await;
    let role = json!({ "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"] });
    world.create("app", role).await;
    assert_said(&assess(&world, "iamrole", "app"), "Progressing", "has not seen it yet");
    let class = world.namespace.clone();
    assert_said(&assess(&world, "iamroleclass", &class), "Progressing", "has not seen it yet");
    world.operator.start().await;
    world.ready("app").await;
    assert_said(&assess(&world, "iamrole", "app"), "Healthy", &format!(":role/{}", world.templated("app")));
    assert_said(&assess(&world, "iamroleclass", &class), "Healthy", "account 123456789012");

    world.operator.kill().await;
    world.patch("app", json!({ "description": "newer" })).await;
    assert_said(&assess(&world, "iamrole", "app"), "Progressing", "to see this generation");
    world.operator.start().await;
    world.ready("app").await;

    world.patch("app", json!({ "managedPolicies": ["No/SuchPolicy"] })).await;
    world.reason("app", "PolicyNotFound").await;
    assert_said(&assess(&world, "iamrole", "app"), "Progressing", "No/SuchPolicy");
    let mistyped = json!([{ "name": "p", "document": { "Version": "2012-10-17", "Statements": [] } }]);
    world.patch("app", json!({ "managedPolicies": [], "inlinePolicies": mistyped })).await;
    world.reason("app", "InvalidSpec").await;
    assert_said(&assess(&world, "iamrole", "app"), "Degraded", "spec.inlinePolicies[0]");

    let right = json!([{ "name": "p", "document": allow("s3:*") }]);
    world.patch("app", json!({ "mode": "Observe", "inlinePolicies": right })).await;
    world.reason("app", "ChangesPending").await;
    assert_said(&assess(&world, "iamrole", "app"), "Suspended", "status.plan");
    world.patch("app", json!({ "mode": null, "suspend": true })).await;
    world.reason("app", "Suspended").await;
    assert_said(&assess(&world, "iamrole", "app"), "Suspended", "spec.suspend");
    world.delete("app").await;
    let waits = || async { assess(&world, "iamrole", "app").1.contains("deletion waits") };
    assert!(eventually(support::SOON, waits).await, "{:?}", assess(&world, "iamrole", "app"));
    assert_eq!(assess(&world, "iamrole", "app").0, "Progressing");
    world.patch("app", json!({ "suspend": null })).await;
    world.gone("app").await;

    world.patch_class(json!({ "account": { "id": "210987654321" } })).await;
    let degraded = || async { assess(&world, "iamroleclass", &class).0 == "Degraded" };
    assert!(eventually(support::SOON, degraded).await, "{:?}", assess(&world, "iamroleclass", &class));
    assert_said(&assess(&world, "iamroleclass", &class), "Degraded", "spec.account.id says 210987654321");
}

/// Does with the live object what Argo CD does when somebody presses the button.
fn press(world: &World, kind: &str, name: &str, action: &str) {
    let object = live(world, kind, name);
    let file = if action == "reconcile" { "reconcile".to_owned() } else { format!("{}/{action}", kind_of(kind)) };
    let patch = patch_of(&object, &run(&script(&file), &object)).to_string();
    kubectl_ok(&["patch", kind, name, "-n", &world.namespace, "--type=merge", "-p", &patch], "");
}

fn kind_of(kind: &str) -> &'static str {
    if kind == "iamrole" { "IamRole" } else { "IamRoleClass" }
}

/// The buttons that Argo CD shows.
fn buttons(world: &World, kind: &str, name: &str) -> Vec<String> {
    let found = run(&script(&format!("{}/discovery", kind_of(kind))), &live(world, kind, name));
    let mut names: Vec<String> = found.as_object().unwrap().keys().cloned().collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_buttons_of_a_role_reconcile_suspend_and_resume_it() {
    let world = World::new("argo").await;
    // Maps that are empty: Lua can't tell them from lists, and Argo CD must get them back.
    world.create("app", json!({ "trustPolicy": ec2(), "instanceProfile": {} })).await;
    world.ready("app").await;
    assert_eq!(buttons(&world, "iamrole", "app"), ["reconcile", "suspend"]);
    press(&world, "iamrole", "app", "reconcile");
    let asked = live(&world, "iamrole", "app")["metadata"]["annotations"]["iamrole.dev/reconcile-requested-at"].clone();
    assert!(asked.as_str().unwrap().ends_with('Z'), "{asked}");
    world
        .until("app", "handling the check", |role| {
            role.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref()) == asked.as_str()
        })
        .await;

    press(&world, "iamrole", "app", "suspend");
    assert!(world.reason("app", "Suspended").await.contains("annotation"));
    assert_eq!(buttons(&world, "iamrole", "app"), ["resume"]);
    assert_eq!(world.get("app").await.spec.suspend, None, "what Git has is left alone");
    press(&world, "iamrole", "app", "resume");
    world.ready("app").await;
    world.patch("app", json!({ "suspend": true })).await;
    world.reason("app", "Suspended").await;
    press(&world, "iamrole", "app", "resume");
    world.ready("app").await;
    assert_eq!(buttons(&world, "iamrole", "app"), ["reconcile", "suspend"]);
}

#[tokio::test]
async fn the_buttons_of_a_class_reconcile_suspend_and_resume_its_roles() {
    // Empty maps in a class, too.
    let world = World::with_class("argo", |class| class.denied = Some(Denied::default())).await;
    let class = world.namespace.clone();
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    assert_eq!(buttons(&world, "iamroleclass", &class), ["reconcile", "suspend"]);
    // The identity is looked at once in ten minutes.
    world.proxy.forget();
    press(&world, "iamroleclass", &class, "reconcile");
    let asked = || async { world.proxy.count_of("GetCallerIdentity") > 0 };
    assert!(eventually(support::SOON, asked).await, "the class is not looked at: {}", world.operator.log());

    press(&world, "iamroleclass", &class, "suspend");
    world.reason("app", "Suspended").await;
    let said = || async { assess(&world, "iamroleclass", &class).0 == "Suspended" };
    assert!(eventually(support::SOON, said).await, "{:?}", assess(&world, "iamroleclass", &class));
    assert_eq!(buttons(&world, "iamroleclass", &class), ["resume"]);
    press(&world, "iamroleclass", &class, "resume");
    world.ready("app").await;
    assert!(aws::role(&world.iam, &world.templated("app")).await.is_some());
}

#[tokio::test]
async fn a_role_whose_pods_would_get_nothing_holds_the_next_wave_unless_its_service_account_is_part_of_it() {
    let world = World::with_class("argo", |class| {
        class.workload_identity = serde_json::from_value(json!({ "mechanism": "IRSA" })).unwrap();
    })
    .await;
    world.create("app", json!({ "serviceAccounts": [{ "name": "late" }] })).await;
    world.ready("app").await;
    let mut object = live(&world, "iamrole", "app");
    let bound = |status: &str, reason: &str| json!({ "type": "IdentityBound", "status": status, "reason": reason, "message": "make it", "observedGeneration": 1 });
    let wanted = [
        ("False", "NoOidcProvider", "Progressing"),
        ("False", "ServiceAccountConflict", "Progressing"),
        ("False", "ServiceAccountMissing", "Healthy"),
        ("Unknown", "BindingNotManaged", "Healthy"),
        ("Unknown", "AccessDenied", "Progressing"),
        ("Unknown", "KubernetesError", "Progressing"),
        ("Unknown", "Unavailable", "Progressing"),
        ("True", "PodsWithoutCredentials", "Healthy"),
    ];
    for (status, reason, health_wanted) in wanted {
        let list = object["status"]["conditions"].as_array_mut().unwrap();
        list.retain(|condition| condition["type"] != "IdentityBound");
        list.push(bound(status, reason));
        for order in orders(&object) {
            assert_eq!(health(&order).0, health_wanted, "{status} {reason}");
        }
    }
}
