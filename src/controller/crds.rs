//! At start: are both CRDs served, and do they have every field that this version knows?
//!
//! Helm never upgrades CRDs of a chart's `crds/` folder, so an operator newer than its CRDs is common; the
//! API server would then prune what users write, without a word.

use crate::api::crd::manifests;
use crate::telemetry::with_sources;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

const RETRY: Duration = Duration::from_secs(5);

/// Waits until both CRDs are there; warns of fields that they lack.
pub async fn wait(client: &kube::Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let manifests = match manifests() {
        Ok(manifests) => manifests,
        Err(error) => {
            tracing::error!(%error, "the CRDs are not compared");
            return;
        }
    };
    for manifest in manifests {
        let name = manifest.value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        loop {
            match api.get_opt(&name).await {
                Ok(Some(served)) => {
                    compare(&served, &manifest.value);
                    break;
                }
                Ok(None) => tracing::warn!(
                    crd = name,
                    "the CRD is not installed; waiting. Install it with: iamrole crds | kubectl apply --server-side -f -"
                ),
                Err(error) => {
                    tracing::warn!(crd = name, error = with_sources(&error), "the CRD can't be read; trying again");
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn compare(served: &CustomResourceDefinition, ours: &Value) {
    let served_value = serde_json::to_value(served).unwrap_or_default();
    let missing: Vec<String> = fields(ours).difference(&fields(&served_value)).cloned().collect();
    if !missing.is_empty() {
        tracing::warn!(
            crd = served.name_any(),
            missing = missing.join(", "),
            "the served CRD is older than the operator, and what users write into these fields is lost. Upgrade it with: \
             iamrole crds | kubectl apply --server-side -f -"
        );
    }
}

/// The paths of all declared fields.
fn fields(crd: &Value) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    if let Some(schema) = crd.pointer("/spec/versions/0/schema/openAPIV3Schema") {
        collect(schema, "", &mut paths);
    }
    paths
}

fn collect(schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        collect(property, &path, paths);
        paths.insert(path);
    }
    if let Some(items) = schema.get("items") {
        collect(items, &format!("{path}[]"), paths);
    }
}

#[cfg(test)]
mod tests {
    use super::fields;
    use crate::api::crd::manifests;

    #[test]
    fn a_field_that_is_not_served_is_found() {
        let ours = manifests().unwrap().remove(0).value;
        let mut older = ours.clone();
        let spec = older.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
        spec.as_object_mut().unwrap().remove("inlinePolicies");
        let missing: Vec<String> = fields(&ours).difference(&fields(&older)).cloned().collect();
        assert!(missing.contains(&".spec.inlinePolicies".to_owned()), "{missing:?}");
        assert!(missing.iter().all(|path| path.starts_with(".spec.inlinePolicies")));
    }
}
