//! Who issues the tokens of this cluster's ServiceAccounts: the OIDC provider through which they reach IAM.
//!
//! A setting says it; else the operator's own token does, which has the same issuer as those of all pods; else the API
//! server is asked.

use super::context::Context;
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// So long the start waits for the API server's answer; roles that need it wait longer.
const AT_START: Duration = Duration::from_secs(5);
/// How long to wait between two questions: at first, and at most.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(30);
/// The discovery document of the API server; every ServiceAccount may read it by default.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// What IAM takes for an OIDC provider begins with it.
const SCHEME: &str = "https://";

/// The issuer. While it is not known, every OIDC provider is taken for this cluster's as far as ServiceAccounts are
/// concerned, and roles that need it wait.
#[derive(Debug, Default)]
pub struct Issuer {
    known: OnceLock<String>,
    /// The file with the operator's own token, if it has one.
    token: Option<PathBuf>,
}

impl Issuer {
    /// It without `https://`, and else letter by letter as tokens have it; `None` while it is not known.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.known.get().map(String::as_str)
    }

    fn learn(&self, issuer: &str, from: &'static str) {
        tracing::info!(issuer, from, "issuer of ServiceAccount tokens");
        // The first answer stays: one process serves one cluster.
        let _ = self.known.set(issuer.strip_prefix(SCHEME).unwrap_or(issuer).to_owned());
    }

    /// Takes the configured one, or that of the token in this file, or asks the API server, for a moment only.
    pub async fn find(client: &kube::Client, configured: Option<&str>, token: Option<&str>) -> Self {
        let issuer = Self { known: OnceLock::new(), token: token.map(PathBuf::from) };
        if let Some(configured) = configured.filter(|configured| !configured.is_empty()) {
            issuer.learn(configured, "setting");
            if let Some(own) = issuer.of_own_token().filter(|own| differs_by_slash(configured, own)) {
                tracing::warn!(
                    own,
                    "--oidc-issuer (chart: cluster.oidcIssuer) differs from the issuer of this cluster's tokens by a slash at \
                     its end; AWS takes them for two, and lets in no pod if the setting is the wrong one"
                );
            }
            return issuer;
        }
        let asked = tokio::time::timeout(AT_START, issuer.ask(client)).await;
        if let Err(error) = asked.unwrap_or_else(|_| Err("the API server does not answer".to_owned())) {
            tracing::warn!(
                error,
                "the issuer of ServiceAccount tokens is not known yet; if this lasts, set --oidc-issuer (chart: \
                 cluster.oidcIssuer)"
            );
        }
        issuer
    }

    fn of_own_token(&self) -> Option<String> {
        self.token.as_deref().and_then(of_file)
    }

    async fn ask(&self, client: &kube::Client) -> Result<(), String> {
        if let Some(issuer) = self.of_own_token() {
            self.learn(&issuer, "token");
            return Ok(());
        }
        let request = axum::http::Request::get(DISCOVERY).body(Vec::new()).map_err(|error| error.to_string())?;
        let document: Value = client.request(request).await.map_err(|error| error.to_string())?;
        let issuer = document["issuer"].as_str().ok_or_else(|| format!("{DISCOVERY} names no issuer"))?;
        self.learn(issuer, "API server");
        Ok(())
    }
}

fn differs_by_slash(one: &str, other: &str) -> bool {
    let bare = |issuer: &str| issuer.trim_start_matches(SCHEME).trim_end_matches('/').to_owned();
    one.ends_with('/') != other.ends_with('/') && bare(one) == bare(other)
}

/// Goes on asking where the start had no answer; once there is one, classes and roles are looked at with it.
pub async fn keep_asking(ctx: &Context) {
    let mut pause = SOONEST;
    while ctx.issuer.get().is_none() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LATEST);
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

fn of_file(file: &Path) -> Option<String> {
    // A few KiB that the kubelet keeps in memory.
    let token = std::fs::read_to_string(file).inspect_err(|error| tracing::debug!(%error, "the own token")).ok()?;
    of_token(token.trim())
}

/// The issuer of a ServiceAccount's token, if it can be an OIDC provider. It is not verified: the file is our own, and
/// the API server looks at it with each request. Tokens of other identity providers have another issuer, and so have
/// those of the old kind that never end.
fn of_token(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
        sub: String,
    }
    let claims = token.split('.').nth(1)?;
    let mut base64 = claims.replace('-', "+").replace('_', "/");
    base64.extend(std::iter::repeat_n('=', (4 - base64.len() % 4) % 4));
    let ByteString(claims) = ByteString::deserialize(json!(base64)).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let is_ours = claims.sub.starts_with("system:serviceaccount:") && claims.iss.starts_with(SCHEME);
    is_ours.then_some(claims.iss)
}

#[cfg(test)]
mod tests {
    use super::of_token;

    #[test]
    fn the_issuer_of_a_service_account_is_as_its_token_says_it_and_that_of_others_is_none() {
        // Claims in base64url without padding, by another program.
        let tokens = [
            // {"iss":"https://a.example/id/1","sub":"system:serviceaccount:a:b"}
            (
                "h.eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZS9pZC8xIiwic3ViIjoic3lzdGVtOnNlcnZpY2VhY2NvdW50OmE6YiJ9.s",
                Some("https://a.example/id/1"),
            ),
            // The same with a slash at the end, and with letters that only base64url has.
            (
                "h.eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZS9pZC8xLyIsInN1YiI6InN5c3RlbTpzZXJ2aWNlYWNjb3VudDphOmIiLCJ4IjoiPz8_Pj4-w7_Dv35-In0.s",
                Some("https://a.example/id/1/"),
            ),
            // {"iss":"https://dex.example","sub":"jane"}
            ("h.eyJpc3MiOiJodHRwczovL2RleC5leGFtcGxlIiwic3ViIjoiamFuZSJ9.s", None),
            // {"iss":"kubernetes/serviceaccount","sub":"system:serviceaccount:a:b"}
            ("h.eyJpc3MiOiJrdWJlcm5ldGVzL3NlcnZpY2VhY2NvdW50Iiwic3ViIjoic3lzdGVtOnNlcnZpY2VhY2NvdW50OmE6YiJ9.s", None),
            ("opaque", None),
            ("a.b.c", None),
            ("", None),
        ];
        for (token, issuer) in tokens {
            assert_eq!(of_token(token).as_deref(), issuer, "{token}");
        }
    }
}
