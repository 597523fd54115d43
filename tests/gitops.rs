//! `integrations/kustomize` and `integrations/flux`: what they promise is what kustomize and the API server do with them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fences;
mod support;

use fences::{Fence, documents, fences, filled};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use support::kubectl::{Output, helm, kubectl, kubectl_ok};
use support::{World, condition, ec2};

/// The objects of a stream of YAML documents.
fn objects(stream: &str) -> Vec<Value> {
    stream.split("\n---\n").map(|text| serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// Builds an overlay beside the example, with these components.
fn built(test: &str, components: &[&str], prefix: &str, patches: &[&str]) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kustomize-{test}"));
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("integrations/kustomize");
    let _ = std::fs::remove_dir_all(&folder);
    for part in ["names", "merge", "example/base", "overlay"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
        let Ok(files) = std::fs::read_dir(from.join(part)) else { continue };
        for file in files {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.join(part).join(file.file_name())).unwrap();
        }
    }
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": ["../example/base", "deployment.yaml"], "namePrefix": prefix,
        "components": components.iter().map(|name| format!("../{name}")).collect::<Vec<_>>(),
        "patches": patches.iter().map(|patch| json!({ "patch": patch })).collect::<Vec<_>>(),
    });
    std::fs::write(folder.join("overlay/kustomization.yaml"), kustomization.to_string()).unwrap();
    let pods = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "orders" },
        "spec": { "template": { "spec": { "serviceAccountName": "orders", "containers": [
            { "name": "one", "image": "a" }, { "name": "two", "image": "b" },
        ] } } },
    });
    std::fs::write(folder.join("overlay/deployment.yaml"), pods.to_string()).unwrap();
    objects(&kubectl_ok(&["kustomize", folder.join("overlay").to_str().unwrap()], ""))
}

const OF_THE_ROLE: &str = r#"{"apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRole", "metadata": {"name": "orders"},
    "spec": {"inlinePolicies": [{"name": "bucket", "document": {"Version": "2012-10-17", "Statement": []}}]}}"#;
const OF_THE_PODS: &str = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"},
    "spec": {"template": {"spec": {"containers": [{"name": "one", "image": "c"}]}}}}"#;

fn names(list: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn with_the_component_names_references_to_service_accounts_follow_a_prefix() {
    let role = |components: &[&str]| {
        let all = built(&format!("names{}", components.len()), components, "blue-", &[OF_THE_PODS]);
        assert_eq!(of_kind(&all, "ServiceAccount")["metadata"]["name"], "blue-orders");
        of_kind(&all, "IamRole")["spec"].clone()
    };
    let spec = role(&["names"]);
    assert_eq!(names(&spec["serviceAccounts"]), ["blue-orders"]);
    assert_eq!(spec["roleClassName"], "teams", "a class that is not part of the build");
    assert_eq!(names(&role(&[])["serviceAccounts"]), ["orders"], "without it they do not: it is needed");
}

#[test]
fn with_the_component_merge_a_patch_changes_one_policy_and_other_kinds_are_merged_as_before() {
    let merged = |test: &str, components: &[&str], patches: &[&str]| {
        let all = built(&format!("merge-{test}"), components, "", patches);
        let role = of_kind(&all, "IamRole")["spec"]["inlinePolicies"].clone();
        let pods = of_kind(&all, "Deployment")["spec"]["template"]["spec"]["containers"].clone();
        (names(&role).join(" "), names(&pods).join(" "))
    };
    let whole = ("bucket queue".to_owned(), "one two".to_owned());
    assert_eq!(merged("both", &["names", "merge"], &[OF_THE_ROLE, OF_THE_PODS]), whole);
    assert_eq!(merged("turned", &["merge", "names"], &[OF_THE_PODS, OF_THE_ROLE]), whole);
    let without = merged("without", &["names"], &[OF_THE_ROLE, OF_THE_PODS]);
    assert_eq!(without, ("bucket".to_owned(), "one two".to_owned()), "the component is needed");
}

#[test]
fn the_schema_for_merging_names_every_list_of_the_kind_that_has_a_key() {
    let text = std::fs::read_to_string("integrations/kustomize/merge/schema.json").unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let merged = schema["definitions"]["dev.iamrole.v1alpha1.IamRole"]["properties"]["spec"]["properties"].clone();
    let crd = std::fs::read_to_string("crds/iamroles.iamrole.dev.yaml").unwrap();
    let crd: Value = serde_saphyr::from_str(&crd).unwrap();
    let fields = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let keyed: Vec<&String> = fields
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, field)| field["x-kubernetes-list-map-keys"] == json!(["name"]))
        .map(|(name, _)| name)
        .collect();
    assert!(keyed.len() >= 3, "{keyed:?}");
    assert_eq!(keyed, merged.as_object().unwrap().keys().collect::<Vec<_>>());
    for list in merged.as_object().unwrap().values() {
        assert_eq!(
            (&list["x-kubernetes-patch-merge-key"], &list["x-kubernetes-patch-strategy"]),
            (&json!("name"), &json!("merge"))
        );
    }
}

#[test]
fn the_example_is_taken_by_the_api_server() {
    let stream = kubectl_ok(&["kustomize", "integrations/kustomize/example/overlay"], "");
    let all = objects(&stream);
    assert_eq!(names(&of_kind(&all, "IamRole")["spec"]["serviceAccounts"]), ["blue-orders"]);
    let here = stream.replace("namespace: shop", "namespace: default");
    let taken = kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], &here);
    assert!(taken.ok, "{}", taken.stderr);
}

#[test]
fn what_is_for_flux_waits_for_the_operator_and_keeps_its_names() {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("integrations/flux/{name}")).unwrap();
        let body: String =
            text.lines().filter(|line| !line.starts_with('#')).fold(String::new(), |all, line| all + line + "\n");
        objects(&body)
    };
    let operator = read("operator.yaml");
    let release = &of_kind(&operator, "HelmRelease")["spec"];
    assert_eq!(
        release["releaseName"], "iamrole-operator",
        "else Flux puts the namespace before it, and before the ServiceAccount"
    );
    assert_eq!(
        (&release["install"]["crds"], &release["upgrade"]["crds"]),
        (&json!("CreateReplace"), &json!("CreateReplace"))
    );
    let roles = read("roles.yaml");
    assert_eq!(roles.len(), 2);
    for kustomization in &roles {
        assert_eq!(kustomization["kind"], "Kustomization");
        assert!(!kustomization["spec"]["dependsOn"].as_array().unwrap().is_empty());
    }
    let [waits, checks] = roles.try_into().unwrap();
    assert_eq!(
        (&waits["spec"]["wait"], &waits["spec"]["deletionPolicy"]),
        (&json!(true), &json!("WaitForTermination"))
    );
    assert_eq!(checks["spec"]["healthChecks"][0]["kind"], "IamRole");
    assert!(checks["spec"].get("wait").is_none(), "Flux leaves healthChecks out where it waits for all");
}

/// The chart's values in manifests for Argo CD and Flux, with where they stand.
fn values_for_the_chart() -> Vec<(String, Value)> {
    let blocks = documents().into_iter().flat_map(|file| fences(&file)).filter(|fence| fence.language == "yaml");
    let mut texts: Vec<(String, String)> = blocks.map(|fence| (fence.place(), filled(&fence.text))).collect();
    for file in std::fs::read_dir("integrations/flux").unwrap().chain(std::fs::read_dir("integrations/argocd").unwrap())
    {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            texts.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
        }
    }
    let mut found = Vec::new();
    for (place, text) in texts {
        for object in text.split("\n---\n") {
            let Ok(object) = serde_saphyr::from_str::<Value>(object) else { panic!("{place}") };
            let spec = &object["spec"];
            let sources = spec["sources"].as_array().into_iter().flatten().chain([&spec["source"]]);
            let of_argocd = sources.map(|source| &source["helm"]["valuesObject"]);
            let values = of_argocd.chain([&spec["values"]]).filter(|values| values.is_object());
            found.extend(values.map(|values| (place.clone(), values.clone())));
        }
    }
    found
}

#[test]
fn the_operator_of_an_application_and_of_a_helm_release_annotates_for_irsa() {
    let all = values_for_the_chart();
    assert!(all.len() >= 2, "{all:?}");
    for (place, values) in all {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gitops-values.json");
        std::fs::write(&file, values.to_string()).unwrap();
        let chart = ["template", "iamrole-operator", "charts/iamrole-operator", "--values", file.to_str().unwrap()];
        let rendered = helm(&chart);
        assert!(rendered.ok, "{place}: {}", rendered.stderr);
        let says = |words: &str| rendered.stdout.contains(words);
        assert!(says("mechanism: IRSA") && says("eks.amazonaws.com/role-arn"), "{place}: another way to pods?");
        assert!(
            says("--annotate-service-accounts=true"),
            "{place}: pods would start without their role, and all be green"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_goes_to_its_end_with_and_without_a_difference_and_stops_at_a_failure() {
    let world = World::with_class("pipeline", |class| {
        class.workload_identity = serde_json::from_value(json!({ "mechanism": "IRSA" })).unwrap();
    })
    .await;
    let all = fences("docs/gitops.md");
    let of = |what: &dyn Fn(&&Fence) -> bool| all.iter().find(what).unwrap().text.clone();
    let script = of(&|fence| fence.language == "sh" && fence.text.contains("kubectl diff"));
    let manifest = of(&|fence| fence.name().as_deref() == Some("orders.yaml"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&world.namespace);
    std::fs::create_dir_all(&folder).unwrap();
    let runs = |manifest: &str| {
        std::fs::write(folder.join("orders.yaml"), manifest).unwrap();
        let script = script.replace("NAMESPACE", &world.namespace);
        let run = Command::new("sh").args(["-e", "-c", &script]).current_dir(&folder).output().unwrap();
        let text = String::from_utf8([run.stdout, run.stderr].concat()).unwrap();
        (run.status.success(), text)
    };
    let edited = manifest.replace("AmazonS3ReadOnlyAccess", "AmazonSQSReadOnlyAccess");
    assert_ne!(edited, manifest);
    for (manifest, differs) in [(&manifest, true), (&edited, true), (&edited, false)] {
        let (good, text) = runs(manifest);
        assert!(good && text.contains("condition met"), "{text}");
        assert_eq!(text.contains("@@"), differs, "{text}");
    }
    let (good, text) = runs(&manifest.replace("managedPolicies", "managedPolicy"));
    assert!(!good && !text.contains("configured"), "{text}");
}

/// Longest that Helm is told to wait.
const PATIENCE: Duration = Duration::from_mins(2);

/// `helm upgrade --install --wait` of a chart with one role, and how long it took.
fn deployed(namespace: &str, trust: &Value) -> (Output, Duration) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart-of-a-role");
    std::fs::create_dir_all(folder.join("templates")).unwrap();
    std::fs::write(folder.join("Chart.yaml"), "apiVersion: v2\nname: shop\nversion: 1.0.0\n").unwrap();
    let role = json!({
        "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRole", "metadata": { "name": "orders" },
        "spec": { "trustPolicy": trust },
    });
    std::fs::write(folder.join("templates/role.yaml"), role.to_string()).unwrap();
    let began = Instant::now();
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    let chart = folder.to_str().unwrap();
    let output = helm(&["upgrade", "--install", "shop", chart, "--namespace", namespace, "--wait", &timeout]);
    (output, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_waits_for_a_role_and_fails_at_once_where_it_is_stalled() {
    let world = World::new("helm").await;
    let ready = || async {
        let (good, _) = deployed(&world.namespace, &ec2());
        assert!(good.ok, "{}", good.stderr);
        let role = world.get("orders").await;
        let of_now =
            |ready: &Condition| ready.status == "True" && ready.observed_generation == role.metadata.generation;
        assert!(condition(&role, "Ready").is_some_and(of_now), "Helm did not wait: {:?}", role.status);
    };
    ready().await;

    let mut mistyped = ec2();
    mistyped["Statement"][0]["Conditions"] = json!({ "Bool": { "aws:SecureTransport": "true" } });
    let (refused, took) = deployed(&world.namespace, &mistyped);
    assert!(!refused.ok, "{}", refused.stdout);
    assert!(took < PATIENCE / 4, "{took:?}");
    let message = condition(&world.get("orders").await, "Stalled").unwrap().message.clone();
    assert!(message.contains("Conditions") && refused.stderr.contains(&message), "{message}\n{}", refused.stderr);

    // The way out is the next upgrade, which does not take the failure for its own.
    ready().await;
}
