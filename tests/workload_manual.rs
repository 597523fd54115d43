//! docs/workload-identity.md is done as it stands there: the chart's values, with which it makes the default class, and the
//! application in the order of its waves, each when Argo CD's health check lets the next one begin. Pods then have all that
//! they need. Only whom the class serves is said otherwise, since the tests share a cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod eks;
mod fences;
mod lua;
mod support;
mod workload;

use eks::{CLUSTER, Eks};
use fences::{Fence, fences, filled};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use std::path::PathBuf;
use support::kubectl::{helm, kubectl, kubectl_ok};
use support::{World, aws, eventually};
use workload::{claims, pod_identity, web_identity};

const DOCUMENT: &str = "docs/workload-identity.md";
const WAVE: &str = "argocd.argoproj.io/sync-wave";

/// The block whose text holds this, with the cluster that is here.
fn block(part: &str) -> String {
    let is_it = |fence: &Fence| fence.language == "yaml" && fence.text.contains(part);
    let found: Vec<Fence> = fences(DOCUMENT).into_iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{part}");
    filled(&found[0].text.replace("arn:aws:eks:REGION:ACCOUNT:cluster/CLUSTER", CLUSTER))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What the chart makes of the values: arguments of the operator, its rights in this namespace, and the default class, which
/// is that of the world's namespace and operator.
fn install(world: &World, values: &str) -> Vec<String> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-values.yaml", world.namespace));
    std::fs::write(&file, values).unwrap();
    let namespaces = format!("watchNamespaces=[{:?}]", world.namespace);
    let selector = json!({ "matchLabels": { "iamrole.dev/enabled": null, "test": world.namespace } });
    let of_class = [
        format!("defaultClass.name={:?}", world.namespace),
        format!("defaultClass.spec.controller={:?}", world.operator.controller),
        format!("defaultClass.spec.namespaceSelector={selector}"),
    ];
    let chart = ["template", "iamrole-operator", "charts/iamrole-operator", "--namespace", "iamrole-system"];
    let mut set = vec!["--values", file.to_str().unwrap(), "--set-json", &namespaces];
    set.extend(of_class.iter().flat_map(|one| ["--set-json", one]));
    let rendered = |template: &str| {
        let output = helm(&[&chart[..], &set[..], &["--show-only", template]].concat());
        assert!(output.ok, "{}", output.stderr);
        output.stdout
    };
    let here = format!("namespace: {:?}", world.namespace);
    for text in rendered("templates/rbac.yaml").split("\n---").filter(|text| text.contains(&here)) {
        kubectl_ok(&["apply", "-f", "-"], text.trim_start_matches("---"));
    }
    kubectl_ok(&["apply", "-f", "-"], &rendered("templates/iamroleclass.yaml"));
    let deployment = yaml(rendered("templates/deployment.yaml").trim_start_matches("---"));
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().clone();
    let arguments = arguments.iter().map(|argument| argument.as_str().unwrap().to_owned());
    let ours = ["--annotate-service-accounts", "--cluster-arn", "--cluster-region", "--oidc-issuer", "--check-pods"];
    arguments.filter(|argument| ours.iter().any(|name| argument.starts_with(name))).collect()
}

/// Applies the application wave by wave, as Argo CD does.
async fn sync(world: &World) {
    let text = block("sync-wave: \"-2\"");
    let mut objects: Vec<Value> = text.split("\n---\n").map(yaml).collect();
    let wave = |object: &Value| object["metadata"]["annotations"][WAVE].as_str().unwrap().parse::<i32>().unwrap();
    objects.sort_by_key(wave);
    let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ServiceAccount", "IamRole", "Deployment"]);
    for object in &objects {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let applied = kubectl(&["apply", "-n", &world.namespace, "-f", "-"], &object.to_string());
        assert!(applied.ok, "{}", applied.stderr);
        if kind == "IamRole" {
            let healthy = eventually(support::SOON, || async {
                let live = kubectl_ok(&["get", "iamrole", name, "-n", &world.namespace, "-o", "json"], "");
                lua::health(&serde_json::from_str(&live).unwrap()).0 == "Healthy"
            });
            assert!(healthy.await, "{:#?}\n{}", world.status(name).await.conditions, world.operator.log());
        }
    }
    let deployment = kubectl_ok(&["get", "deployment", "orders", "-n", &world.namespace, "-o", "json"], "");
    let deployment: Value = serde_json::from_str(&deployment).unwrap();
    assert_eq!(deployment["spec"]["template"]["spec"]["serviceAccountName"], "orders");
}

async fn world(test: &str, way: &str, eks: &Eks) -> World {
    let mut world = World::without_operator(test, |_| {}).await;
    // The chart's is the only one.
    world.classes().delete(&world.namespace, &kube::api::DeleteParams::default()).await.unwrap();
    world.operator.arguments = install(&world, &block(&format!("# values-{way}.yaml")));
    world.operator.environment.push(("AWS_ENDPOINT_URL_EKS".to_owned(), eks.url()));
    world.operator.start().await;
    world
}

async fn trust(world: &World) -> Value {
    let role = aws::role(&world.iam, &world.templated("orders")).await.expect("the role");
    assert!(role.attached.contains("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"), "{:?}", role.attached);
    role.trust
}

#[tokio::test]
async fn by_irsa_each_wave_waits_for_the_one_before() {
    let eks = Eks::start().await;
    let world = world("manirsa", "irsa", &eks).await;
    let provider = world.iam.create_open_id_connect_provider().url("https://kubernetes.default.svc");
    let _ = provider.client_id_list("sts.amazonaws.com").thumbprint_list("0".repeat(40)).send().await;
    sync(&world).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let has = accounts.get("orders").await.unwrap().annotations().clone();
    let arn = format!("arn:aws:iam::123456789012:role/{}", world.templated("orders"));
    assert_eq!(has["eks.amazonaws.com/role-arn"], arn);
    assert_eq!(has["eks.amazonaws.com/sts-regional-endpoints"], "true");
    let spec = TokenRequestSpec { audiences: Some(vec!["sts.amazonaws.com".into()]), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let token = accounts.create_token_request("orders", &PostParams::default(), &request).await.unwrap();
    let claims = claims(&token.status.and_then(|status| status.token).expect("a token"));
    assert!(web_identity(&trust(&world).await, "aws", "123456789012", &claims));
    assert!(eks.calls().is_empty(), "EKS has no part in it");
    // What is applied once more, as Argo CD does all the time, takes nothing away.
    sync(&world).await;
    assert_eq!(accounts.get("orders").await.unwrap().annotations()["eks.amazonaws.com/role-arn"], arn);
}

#[tokio::test]
async fn by_pod_identity_each_wave_waits_for_the_one_before() {
    let eks = Eks::start().await;
    let world = world("manpodid", "pod-identity", &eks).await;
    sync(&world).await;
    let association = &eks.of(&world.namespace)["orders"];
    assert_eq!(association["roleArn"], format!("arn:aws:iam::123456789012:role/{}", world.templated("orders")));
    assert!(pod_identity(&trust(&world).await, CLUSTER, &world.namespace, "orders"));
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    assert_eq!(accounts.get("orders").await.unwrap().annotations().get("eks.amazonaws.com/role-arn"), None);
}
