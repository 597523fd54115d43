//! Tells an account's pace how AWS answered each attempt of each call, and counts the refusals: the SDK repeats calls by
//! itself, so that most of them are seen by nobody else.

use super::error::{TOO_MANY, is_throttling};
use super::pace::Pace;
use super::ticket::Ticket;
use crate::telemetry::Metrics;
use aws_sdk_iam::config::http::HttpResponse;
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
    /// For the clients of that account that go by this pace.
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
        let Some(Sent(sent)) = cfg.load::<Sent>() else { return Ok(()) };
        let Some(response) = context.response() else {
            Ticket::goes_unheard();
            return Ok(());
        };
        if response.status().is_server_error() {
            Ticket::goes_unheard();
        }
        if asks_for_patience(response) {
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

/// Whether the answer refuses the call for being one of too many.
fn asks_for_patience(response: &HttpResponse) -> bool {
    match response.status().as_u16() {
        // That is all it says, also without a code, and where something before AWS says it.
        TOO_MANY => true,
        400 | 503 => code(response).is_some_and(|code| is_throttling(&code)),
        _ => false,
    }
}

/// The code of a refusal, by IAM's Query protocol or by EKS's JSON.
fn code(response: &HttpResponse) -> Option<String> {
    if let Some(header) = response.headers().get("x-amzn-errortype") {
        return Some(bare(header).to_owned());
    }
    let text = std::str::from_utf8(response.body().bytes()?).ok()?;
    if let Some((_, rest)) = text.split_once("<Code>") {
        return rest.split_once("</Code>").map(|(code, _)| code.to_owned());
    }
    let error: serde_json::Value = serde_json::from_str(text).ok()?;
    let code = ["__type", "code"].iter().find_map(|key| error.get(key)?.as_str());
    code.map(|code| bare(code).to_owned())
}

/// A code may come between a namespace and an address.
fn bare(code: &str) -> &str {
    let code = code.split(':').next().unwrap_or_default();
    code.rsplit('#').next().unwrap_or_default()
}

#[cfg(all(test, feature = "eks"))]
mod tests {
    use crate::aws::{Account, Kind, Place, stand_in};
    use axum::Router;
    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode, Uri};
    use axum::response::{IntoResponse as _, Response};
    use std::sync::Arc;

    /// An answer of EKS: status, code in the header, body.
    type Answer = (u16, Option<&'static str>, &'static str);

    async fn serve(State((status, code, body)): State<Answer>, uri: Uri, text: String) -> Response {
        if !uri.path().starts_with("/clusters/") {
            let who = "<Arn>arn:aws:iam::111122223333:user/u</Arn><Account>111122223333</Account>";
            let answer =
                if text.contains("Action=GetCallerIdentity") { "GetCallerIdentity" } else { "GetAccountSummary" };
            return format!("<{answer}Response><{answer}Result>{who}</{answer}Result></{answer}Response>")
                .into_response();
        }
        let headers: HeaderMap =
            code.into_iter().map(|code| ("x-amzn-errortype".parse().unwrap(), code.parse().unwrap())).collect();
        (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
    }

    async fn account(answer: Answer) -> Arc<Account> {
        let aws = stand_in::aws(Router::new().fallback(serve).with_state(answer)).await;
        aws.identify(None, None).await.expect("who it is")
    }

    /// What became of a call to EKS with this answer, the rate at which it is called now, and the refusals counted.
    async fn asked(answer: Answer) -> (Kind, Option<f64>, String) {
        let account = account(answer).await;
        let place = Place { region: "eu-central-1".into(), cluster: "prod".into() };
        let error = account.association(&place, "a-1").await.expect_err("a refusal");
        let metrics = account.metrics.render(crate::telemetry::Format::Prometheus);
        let counted = metrics.lines().find_map(|line| line.strip_prefix("iamrole_aws_throttled_total{account="));
        (error.kind, account.eks_pace.rate(), counted.unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn what_eks_refuses_as_too_many_slows_down_all_that_goes_there_and_is_counted() {
        let answers: [Answer; 7] = [
            (400, Some("ThrottlingException"), "{}"),
            (429, Some("ThrottlingException:http://internal.amazon.com/coral/com.amazon.coral.availability/"), "{}"),
            (429, None, r#"{"__type":"com.amazonaws.eks#ThrottlingException","message":"Rate exceeded"}"#),
            (400, None, r#"{"message":"Rate exceeded","code":"TooManyRequestsException"}"#),
            (503, Some("aws.eks#SlowDown"), ""),
            (429, None, ""),
            (429, Some("OfAProxyInBetween"), "<html>"),
        ];
        for answer in answers {
            let (kind, rate, counted) = asked(answer).await;
            assert!(rate.is_some(), "{answer:?}: {kind:?}");
            assert_eq!((kind, counted.as_str()), (Kind::Busy, r#""111122223333"} 1"#), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn what_eks_refuses_for_what_it_is_slows_down_nobody() {
        let answers: [Answer; 5] = [
            (400, Some("InvalidParameterException"), r#"{"message":"ThrottlingException"}"#),
            (403, Some("AccessDeniedException"), "{}"),
            (503, Some("ServiceUnavailableException"), "{}"),
            (500, None, ""),
            (400, None, r#"{"code":7,"__type":null}"#),
        ];
        for answer in answers {
            let (kind, rate, counted) = asked(answer).await;
            assert!(rate.is_none() && kind != Kind::Busy, "{answer:?}: {kind:?} {rate:?}");
            assert_eq!(counted, r#""111122223333"} 0"#, "{answer:?}");
        }
    }
}
