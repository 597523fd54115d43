//! Why a reconciliation did not get through, and what follows from it: when to try again, when to call it
//! stalled.

use crate::api::Reason;
use crate::aws::{AwsError, Kind};
use crate::role::Problem;
use std::fmt::Write as _;
use std::time::Duration;

/// How a failure is retried and reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Only a change of the object or class helps: stalled at once, looked at again slowly.
    OnChange,
    /// The same, but AWS is looked at in so long: what the class forces must hold meanwhile.
    Within(Duration),
    /// Somebody must act in AWS or on the class, and may do so any time: backoff up to the given bound,
    /// stalled after two minutes.
    Backoff(Duration),
    /// As [`Retry::Backoff`], for what is on its way as a rule: looked for within a minute at first, and ever more rarely
    /// the longer it stays away, up to the given bound.
    Waning(Duration),
    /// It passes by itself: jittered backoff, never stalled.
    Passing,
    /// A wait of known length, not a failure: never stalled and not counted.
    Wait(Duration),
}

impl Retry {
    /// The same, but looked at again within `interval` however long it lasts.
    #[must_use]
    pub fn within(self, interval: Duration) -> Self {
        match self {
            Self::OnChange => Self::Within(interval),
            Self::Within(shorter) => Self::Within(shorter.min(interval)),
            Self::Backoff(cap) => Self::Backoff(cap.min(interval)),
            Self::Waning(bound) => Self::Waning(bound.min(interval)),
            Self::Passing | Self::Wait(_) => self,
        }
    }
}

/// A reconciliation that did not get through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Failure {
    /// Reason of the condition, event and metric.
    pub reason: Reason,
    /// What happened and what to do.
    pub message: String,
    /// What follows.
    pub retry: Retry,
}

/// Longest delay of what waits for AWS rights, quotas and the like.
const SLOW: Duration = Duration::from_mins(5);
/// Longest delay of what was probably on its way and did not come.
const RARELY: Duration = Duration::from_hours(1);
/// Longest delay of what waits for something that is probably on its way.
const SOON: Duration = Duration::from_mins(1);

impl Failure {
    /// A failure that only a change of the object or class cures.
    pub fn on_change(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry: Retry::OnChange }
    }

    /// A failure that may be cured from outside at any time.
    pub fn slow(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry: Retry::Backoff(SLOW) }
    }

    /// A failure whose cure is probably on its way.
    pub fn soon(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry: Retry::Backoff(SOON) }
    }

    /// A wait of known length.
    pub fn wait(delay: Duration, message: impl Into<String>) -> Self {
        Self { reason: Reason::Reconciling, message: message.into(), retry: Retry::Wait(delay) }
    }

    /// All problems of a spec in one message. What only has to be waited for is told where there is no other.
    #[must_use]
    pub fn problems(problems: &[Problem]) -> Self {
        let (waits, problems): (Vec<&Problem>, Vec<&Problem>) =
            problems.iter().partition(|problem| problem.reason == Reason::IssuerUnknown);
        if problems.is_empty() && !waits.is_empty() {
            let messages: Vec<&str> = waits.iter().map(|problem| problem.message.as_str()).collect();
            let message = format!(
                "{}; the operator does not know the issuer (yet) and goes on asking. If this lasts, set cluster.oidcIssuer \
                 of the chart (--oidc-issuer)",
                join(&messages)
            );
            return Self::soon(Reason::IssuerUnknown, message);
        }
        let reason = problems.first().map_or(Reason::InvalidSpec, |problem| problem.reason);
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        let mut message = join(&messages);
        if problems.iter().any(|problem| problem.reason == Reason::NotAllowed) {
            message.push_str("; correct what is not allowed, or ask an admin of the class");
        }
        Self::on_change(reason, message)
    }

    /// Several failures in one: the first one that needs somebody names the reason, and beside it what passes by itself is
    /// not told, or its end would be news.
    #[must_use]
    pub fn merged(failures: &[Self]) -> Option<Self> {
        let passing = |failure: &&Self| matches!(failure.retry, Retry::Passing | Retry::Wait(_));
        let first = failures.iter().find(|failure| !passing(failure)).or_else(|| failures.first())?;
        let told = failures.iter().filter(|failure| passing(&first) || !passing(failure));
        let messages: Vec<&str> = told.map(|failure| failure.message.as_str()).collect();
        // What stays away must not keep the others waiting.
        let sooner = failures.iter().map(|failure| failure.retry).find(|retry| matches!(retry, Retry::Backoff(_)));
        let retry = sooner.filter(|_| matches!(first.retry, Retry::Waning(_))).unwrap_or(first.retry);
        Some(Self { message: join(&messages), retry, ..first.clone() })
    }
}

/// Conditions may hold 32768 characters; nobody reads more than a few findings.
fn join(messages: &[&str]) -> String {
    const SHOWN: usize = 10;
    let mut text = messages.iter().take(SHOWN).copied().collect::<Vec<_>>().join("; ");
    if messages.len() > SHOWN {
        // Writing to a String can't fail.
        let _ = write!(text, "; and {} more", messages.len() - SHOWN);
    }
    text
}

impl From<AwsError> for Failure {
    fn from(error: AwsError) -> Self {
        let retry = match error.kind {
            Kind::Invalid => Retry::OnChange,
            Kind::PrincipalNotFound | Kind::PolicyNotFound => Retry::Waning(RARELY),
            Kind::NoCredentials => Retry::Backoff(SOON),
            Kind::Busy | Kind::Transient => Retry::Passing,
            _ => Retry::Backoff(SLOW),
        };
        Self { reason: error.kind.reason(), message: error.to_string(), retry }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        let message = match &error {
            kube::Error::Api(status) => format!(
                "the Kubernetes API answered {}: {}. If this lasts, compare the operator's RBAC and CRDs with the chart's",
                status.code,
                status.message.trim_end_matches('.')
            ),
            _ => "the Kubernetes API gave no usable answer".to_owned(),
        };
        tracing::debug!(%error, "Kubernetes API");
        // Refused for what it is or who we are: nothing but somebody's action changes that.
        let refused = matches!(&error, kube::Error::Api(status) if [400, 401, 403, 422].contains(&status.code));
        let retry = if refused { Retry::Backoff(SOON) } else { Retry::Passing };
        Self { reason: Reason::KubernetesError, message, retry }
    }
}
