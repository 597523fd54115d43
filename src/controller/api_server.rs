//! The way to the API server, which is the same for all that this program does.

use axum::http::header::USER_AGENT;
use axum::http::{HeaderValue, Uri};
use kube::config::InferConfigError;

/// How the API server's audit log calls the operator.
const AGENT: &str = concat!("iamrole-operator/", env!("CARGO_PKG_VERSION"));

/// Where the API server is, by `KUBECONFIG` or the pod's service account. A proxy of the environment is left out: kube takes
/// `HTTPS_PROXY` for each kubeconfig, but here it is the way out to AWS.
///
/// # Errors
/// There is neither a kubeconfig nor a service account.
pub async fn config() -> Result<kube::Config, InferConfigError> {
    let mut config = kube::Config::infer().await?;
    config.proxy_url = config.proxy_url.filter(|proxy| !is_of_environment(proxy));
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    Ok(config)
}

fn is_of_environment(proxy: &Uri) -> bool {
    let named = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok()).as_ref() == Some(proxy);
    named("HTTPS_PROXY") || named("https_proxy")
}
