//! Tells an account's pace how AWS answered each attempt of each call, and counts the refusals: the SDK repeats calls by
//! itself, so that most of them are seen by nobody else.

use super::error::is_throttling;
use super::pace::Pace;
use crate::telemetry::Metrics;
use aws_sdk_iam::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_iam::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_iam::error::BoxError;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tokio::time::Instant;

/// Watches the answers to an account's calls.
#[derive(Clone, Debug)]
pub struct Throttle {
    pace: Pace,
    metrics: Metrics,
    account: String,
}

impl Throttle {
    /// For the client of that account.
    pub fn new(pace: Pace, metrics: &Metrics, account: &str) -> Self {
        metrics.account(account);
        Self { pace, metrics: metrics.clone(), account: account.to_owned() }
    }
}

/// When the attempt was sent.
#[derive(Debug)]
struct Sent(Instant);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Throttle {
    fn name(&self) -> &'static str {
        "Throttle"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let attempt = context.request().headers().get("amz-sdk-request").unwrap_or_default();
        if !attempt.contains("attempt=1") {
            self.pace.repeated();
        }
        cfg.interceptor_state().store_put(Sent(Instant::now()));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(response), Some(Sent(sent))) = (context.response(), cfg.load::<Sent>()) else { return Ok(()) };
        let is_refusal = matches!(response.status().as_u16(), 400 | 429 | 503);
        if is_refusal && code(response.body().bytes().unwrap_or_default()).is_some_and(is_throttling) {
            self.metrics.throttled(&self.account);
            if self.pace.refused(*sent) {
                let rate = self.pace.rate().unwrap_or_default();
                tracing::debug!(rate, "AWS takes no more calls a second");
            }
        } else {
            self.pace.answered();
        }
        Ok(())
    }
}

/// The code of an answer of the Query protocol.
fn code(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}
