//! A cluster whose roles reach pods in both ways: by annotations of ServiceAccounts, and by associations.

use super::{CLUSTER, Eks};
use crate::support::World;
use crate::support::kubectl::{helm, kubectl_ok};
use serde_json::json;

/// A world whose operator may do all that is needed in its namespace, with the class's mechanism; it has been started.
pub async fn world(test: &str, mechanism: &str) -> (World, Eks) {
    let eks = Eks::start().await;
    let mut world = World::without_operator(test, |class| {
        class.workload_identity = serde_json::from_value(json!({
            "mechanism": mechanism, "podIdentity": { "associations": "Managed" },
        }))
        .expect("a class");
    })
    .await;
    let namespaces = format!("watchNamespaces=[{:?}]", world.namespace);
    let set = ["--set-json", &namespaces, "--set", "workloadIdentity.annotateServiceAccounts=true"];
    let chart = ["template", "iamrole-operator", "charts/iamrole-operator", "--namespace", "iamrole-system"];
    let output = helm(&[&chart[..], &set[..], &["--show-only", "templates/rbac.yaml"]].concat());
    let here = format!("namespace: {:?}", world.namespace);
    for text in output.stdout.split("\n---").filter(|text| text.contains(&here)) {
        kubectl_ok(&["apply", "-f", "-"], text.trim_start_matches("---"));
    }
    // The rig's own provider, which other tests make as well.
    let provider = world.iam.create_open_id_connect_provider().url("https://kubernetes.default.svc");
    let _ = provider.client_id_list("sts.amazonaws.com").thumbprint_list("0".repeat(40)).send().await;
    world.operator.arguments = vec!["--annotate-service-accounts".into(), format!("--cluster-arn={CLUSTER}")];
    world.operator.environment.push(("AWS_ENDPOINT_URL_EKS".to_owned(), eks.url()));
    world.operator.start().await;
    (world, eks)
}
