//! Pods that started too early: AWS's webhook looks at a pod once, when it is made, so one from before the annotation or
//! the association never gets credentials. They are counted and named; to restart them is not ours.
//!
//! Of a pod only its name, its ServiceAccount and the names of its environment variables are read.

use super::Binding;
use super::condition::Findings;
use crate::api::Reason;
use crate::role::Workload;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;

/// How many pods a message names.
const NAMED: usize = 5;
/// So many pods are asked for at once.
const PAGE: u32 = 500;

/// What the webhook sets for each of the two ways.
const IRSA: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const POD_IDENTITY: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

#[derive(Deserialize)]
struct Pods {
    #[serde(default)]
    metadata: Page,
    items: Vec<Pod>,
}

#[derive(Default, Deserialize)]
struct Page {
    /// What to ask for the next one with.
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    metadata: Named,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    env: Vec<Named>,
}

/// Anything with a name; the values of variables are left where they are.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

impl Pod {
    fn has(&self, variable: &str) -> bool {
        self.spec.containers.iter().flat_map(|container| &container.env).any(|entry| entry.name == variable)
    }

    /// Whether one of the ways gives it credentials.
    fn is_served(&self, wanted: &Workload) -> bool {
        (wanted.irsa.is_some() && self.has(IRSA)) || (wanted.cluster_arn.is_some() && self.has(POD_IDENTITY))
    }
}

impl Binding<'_> {
    /// How many pods that have not ended lack credentials; `None` if that is not to be looked for, or can't be.
    pub(super) async fn pods(&self, wanted: &Workload, findings: &mut Findings) -> Option<i32> {
        if !self.ctx.workloads.check_pods {
            return None;
        }
        let mut without = Vec::new();
        for account in wanted.accounts.iter().filter(|account| !findings.is_in_conflict(account)) {
            let pods = match self.living(account).await {
                Ok(pods) => pods,
                Err(error) => {
                    tracing::info!(%error, "the pods can't be looked at");
                    return None;
                }
            };
            without.extend(pods.into_iter().filter(|pod| !pod.is_served(wanted)).map(|pod| pod.metadata.name));
        }
        if !without.is_empty() {
            findings.note(Reason::PodsWithoutCredentials, told(&without, &self.subject.namespace));
        }
        i32::try_from(without.len()).ok()
    }

    async fn living(&self, account: &str) -> Result<Vec<Pod>, kube::Error> {
        // The variables of a pod are there from its beginning.
        let ended = "status.phase!=Succeeded,status.phase!=Failed";
        let fields = format!("spec.serviceAccountName={account},{ended}");
        let mut params = ListParams::default().fields(&fields).limit(PAGE);
        let path = format!("/api/v1/namespaces/{}/pods", self.subject.namespace);
        let mut all = Vec::new();
        loop {
            let request = Request::new(path.clone()).list(&params).map_err(kube::Error::BuildRequest)?;
            let Pods { metadata, items } = self.ctx.client.request::<Pods>(request).await?;
            all.extend(items);
            match metadata.next.filter(|next| !next.is_empty()) {
                Some(next) => params = params.continue_token(&next),
                None => return Ok(all),
            }
        }
    }
}

fn told(pods: &[String], namespace: &str) -> String {
    let (count, more) = (pods.len(), pods.len().saturating_sub(NAMED));
    let named = pods.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (noun, verb) = if count == 1 { ("pod was", "has") } else { ("pods were", "have") };
    format!(
        "{count} {noun} made too early and {verb} no credentials: {named}{more}; make them anew (kubectl -n {namespace} \
         rollout restart of their Deployment)"
    )
}

#[cfg(test)]
mod tests {
    use super::{Pods, told};
    use crate::role::Workload;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn the_variable_of_one_of_the_ways_must_be_in_some_container() {
        let env = |name: &str| json!({ "env": [{ "name": name, "value": "secret" }] });
        let pod = |containers: serde_json::Value| json!({ "metadata": { "name": "p" }, "spec": { "containers": containers } });
        let pods = json!({ "items": [
            pod(json!([{}, env("AWS_WEB_IDENTITY_TOKEN_FILE")])),
            pod(json!([env("AWS_CONTAINER_CREDENTIALS_FULL_URI")])),
            pod(json!([env("OTHER")])),
        ] });
        let pods: Pods = serde_json::from_value(pods).unwrap();
        let irsa = crate::role::workload::Irsa { issuer: "i".into(), provider: "p".into(), audience: "a".into() };
        let workload = |irsa, cluster_arn| Workload { accounts: BTreeSet::new(), irsa, cluster_arn };
        let served = |workload: &Workload| pods.items.iter().map(|pod| pod.is_served(workload)).collect::<Vec<_>>();
        assert_eq!(served(&workload(Some(irsa.clone()), None)), [true, false, false]);
        assert_eq!(served(&workload(None, Some("arn".into()))), [false, true, false]);
        assert_eq!(served(&workload(Some(irsa), Some("arn".into()))), [true, true, false]);
    }

    #[test]
    fn many_pods_are_counted_and_some_are_named() {
        let pods: Vec<String> = (0..7).map(|i| format!("p{i}")).collect();
        let text = told(&pods, "shop");
        assert!(text.starts_with("7 pods") && text.contains("p4 and 2 more") && text.contains("-n shop"), "{text}");
    }
}
