//! Whether the account of a role knows the issuer of this cluster's tokens: asked once for all roles of the account.

use super::condition::Finding;
use crate::api::Reason;
use crate::aws::{Account, AwsError};
use crate::role::workload::Irsa;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer counts.
const LASTS: Duration = Duration::from_mins(15);
/// How long it counts where something is missing: it may be made any time.
const LASTS_MISSING: Duration = Duration::from_secs(45);
/// However many ask at once for a fresh look, AWS is asked so seldom.
const APART: Duration = Duration::from_secs(2);

/// The client ids of a provider, or none without a provider.
type Answer = Result<Option<Vec<String>>, AwsError>;

type Seen = Arc<Mutex<Option<(Instant, Answer)>>>;

/// The OIDC providers by their ARN, as last seen.
#[derive(Debug, Default)]
pub struct Providers(std::sync::Mutex<HashMap<String, Seen>>);

impl Providers {
    /// What keeps tokens of this cluster from the account. `fresh`: somebody asked for a look now.
    pub async fn check(&self, account: &Account, irsa: &Irsa, fresh: bool) -> Option<Finding> {
        let seen = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(irsa.provider.clone()).or_default().clone()
        };
        // Held while AWS is asked: the others wait for the same answer.
        let mut seen = seen.lock().await;
        let known = seen.as_ref().filter(|(at, answer)| {
            let lasts = match answer {
                _ if fresh => APART,
                Ok(Some(ids)) if ids.contains(&irsa.audience) => LASTS,
                _ => LASTS_MISSING,
            };
            at.elapsed() < lasts
        });
        if let Some((_, answer)) = known {
            return finding(answer.clone(), irsa);
        }
        let answer = account.client_ids(&irsa.provider).await;
        *seen = Some((Instant::now(), answer.clone()));
        finding(answer, irsa)
    }
}

fn finding(answer: Answer, irsa: &Irsa) -> Option<Finding> {
    let Irsa { issuer, provider, audience } = irsa;
    let certain = |reason: Reason, message: String| Some(Finding::certain(reason, message));
    match answer {
        Ok(Some(ids)) if ids.contains(audience) => None,
        Ok(Some(_)) => certain(
            Reason::AudienceNotRegistered,
            format!(
                "{provider} does not take tokens for {audience}; add it to its client ids, or correct \
                 workloadIdentity.audience of the class"
            ),
        ),
        Ok(None) => certain(
            Reason::NoOidcProvider,
            format!(
                "there is no {provider}, so tokens of this cluster lead nowhere; make an OIDC provider for https://{issuer} \
                 with the client id {audience} in that account (eksctl utils associate-iam-oidc-provider, or \
                 aws_iam_openid_connect_provider of Terraform)"
            ),
        ),
        Err(error) => {
            let message = format!("whether {provider} is there could not be found out: {error}");
            Some(Finding { message, ..Finding::of_aws(&error) })
        }
    }
}
