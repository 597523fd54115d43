//! Who issues the tokens of this cluster's ServiceAccounts: the OIDC provider through which they reach IAM.

use serde_json::Value;
use std::time::Duration;

const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// The discovery document of the API server; every ServiceAccount may read it by default.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// The issuer without `https://`, as configured or as the API server tells it. Where it is not known, every OIDC
/// provider is taken for this cluster's, as far as ServiceAccounts are concerned.
pub async fn find(client: &kube::Client, configured: Option<&str>) -> Option<String> {
    let issuer = match configured.filter(|issuer| !issuer.is_empty()) {
        Some(issuer) => Ok(issuer.to_owned()),
        None => ask(client).await,
    };
    match issuer {
        Ok(issuer) => {
            let issuer = issuer.trim_start_matches("https://").trim_end_matches('/').to_owned();
            tracing::info!(issuer, "issuer of ServiceAccount tokens");
            Some(issuer)
        }
        Err(error) => {
            tracing::warn!(
                error,
                "the issuer of ServiceAccount tokens is not known; set --oidc-issuer (chart: cluster.oidcIssuer)"
            );
            None
        }
    }
}

/// Asks again for a while: at a start the API server may be in trouble, and without an answer trust policies of other
/// providers are refused.
async fn ask(client: &kube::Client) -> Result<String, String> {
    let mut last = String::new();
    for _ in 0..TRIES {
        match ask_once(client).await {
            Ok(issuer) => return Ok(issuer),
            Err(error) => last = error,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last)
}

async fn ask_once(client: &kube::Client) -> Result<String, String> {
    let request = axum::http::Request::get(DISCOVERY).body(Vec::new()).map_err(|error| error.to_string())?;
    let document: Value = client.request(request).await.map_err(|error| error.to_string())?;
    document["issuer"].as_str().map(str::to_owned).ok_or_else(|| format!("{DISCOVERY} names no issuer"))
}
