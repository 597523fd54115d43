//! Who issues the tokens of this cluster's ServiceAccounts: the OIDC provider through which they reach IAM.

use super::context::Context;
use serde_json::Value;
use std::sync::OnceLock;
use std::time::Duration;

/// So often it is asked before roles are served: at a start the API server may be in trouble.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// How long to wait between two questions afterwards.
const LATER: Duration = Duration::from_secs(30);
/// The discovery document of the API server; every ServiceAccount may read it by default.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// The issuer, as configured or as the API server tells it. While it is not known, every OIDC provider is taken for this
/// cluster's as far as ServiceAccounts are concerned, and no ServiceAccount can be given a role by IRSA.
#[derive(Debug, Default)]
pub struct Issuer(OnceLock<String>);

impl Issuer {
    /// It without `https://`; `None` while it is not known.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn learn(&self, issuer: &str) {
        let issuer = issuer.trim_start_matches("https://").trim_end_matches('/');
        tracing::info!(issuer, "issuer of ServiceAccount tokens");
        // The first answer stays: one process serves one cluster.
        let _ = self.0.set(issuer.to_owned());
    }

    /// Takes the configured one, or asks the API server for a while.
    pub async fn find(client: &kube::Client, configured: Option<&str>) -> Self {
        let issuer = Self::default();
        if let Some(configured) = configured.filter(|configured| !configured.is_empty()) {
            issuer.learn(configured);
            return issuer;
        }
        let mut tries = 1;
        while let Err(error) = issuer.ask(client).await {
            if tries == TRIES {
                tracing::warn!(
                    error,
                    "the issuer of ServiceAccount tokens is not known yet; set --oidc-issuer (chart: cluster.oidcIssuer)"
                );
                break;
            }
            tries += 1;
            tokio::time::sleep(PAUSE).await;
        }
        issuer
    }

    async fn ask(&self, client: &kube::Client) -> Result<(), String> {
        let request = axum::http::Request::get(DISCOVERY).body(Vec::new()).map_err(|error| error.to_string())?;
        let document: Value = client.request(request).await.map_err(|error| error.to_string())?;
        let issuer = document["issuer"].as_str().ok_or_else(|| format!("{DISCOVERY} names no issuer"))?;
        self.learn(issuer);
        Ok(())
    }
}

/// Goes on asking where the start had no answer; once there is one, classes and roles are looked at with it.
pub async fn keep_asking(ctx: &Context) {
    while ctx.issuer.get().is_none() {
        tokio::time::sleep(LATER).await;
        if let Err(error) = ctx.issuer.ask(&ctx.client).await {
            tracing::debug!(error, "the issuer of ServiceAccount tokens is still not known");
            continue;
        }
        for class in ctx.classes.state() {
            // The receiver lives as long as the controller.
            let _ = ctx.wake_class.unbounded_send(kube::runtime::reflector::ObjectRef::from_obj(class.as_ref()));
        }
        ctx.wake_roles(|_| true);
    }
}
