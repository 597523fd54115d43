//! How often AWS asks for patience: the SDK tries again by itself, so that most of these answers are seen by nobody.

use crate::telemetry::Metrics;
use aws_sdk_iam::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_iam::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_iam::error::BoxError;

/// The codes by which AWS says that there were too many calls, as the SDK knows them
/// (`aws_runtime::retries::classifiers::THROTTLING_ERRORS`); IAM says `Throttling`.
const CODES: [&str; 6] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "RequestThrottled",
];

/// Looks at each answer of an account's IAM.
#[derive(Clone, Debug)]
pub struct Throttles {
    metrics: Metrics,
    account: String,
}

impl Throttles {
    /// For the client of that account.
    pub fn new(metrics: &Metrics, account: &str) -> Self {
        metrics.account(account);
        Self { metrics: metrics.clone(), account: account.to_owned() }
    }
}

impl Intercept for Throttles {
    fn name(&self) -> &'static str {
        "Throttles"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(response) = context.response() else { return Ok(()) };
        let body = || response.body().bytes().and_then(|body| std::str::from_utf8(body).ok()).unwrap_or_default();
        if response.status().as_u16() == 429 || (!response.status().is_success() && is_throttling(body())) {
            self.metrics.throttled(&self.account);
        }
        Ok(())
    }
}

/// Of the XML in which IAM tells an error.
fn is_throttling(body: &str) -> bool {
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.is_some_and(|(code, _)| CODES.contains(&code.trim()))
}
