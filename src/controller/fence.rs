//! The Kubernetes clients. What a replica that is not the leader (any more) wants to write stops here, at the last
//! place before the network: no step of a reconciliation can forget to ask, and no retry gets around it.

use super::requests::Count;
use crate::lease::{Leadership, NotLeader};
use crate::telemetry::Metrics;
use axum::http::{Method, Request};
use kube::client::{Body, ClientBuilder, retry::RetryPolicy};
use std::time::Duration;
use tower::buffer::BufferLayer;
use tower::filter::FilterLayer;
use tower::retry::RetryLayer;

/// Requests that are no watches get an answer within this time or are tried again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// kube's own policy goes on for minutes, and would hold a reconciliation's slot for as long. What is still refused
/// after these comes back with the object's backoff.
const RETRIES: u32 = 2;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// Requests that wait for their turn; as kube has it.
const QUEUE: usize = 1024;

/// A client that repeats nothing by itself: for watches and the election, which do so in their own way.
pub fn plain(
    mut config: kube::Config,
    read_timeout: Option<Duration>,
    metrics: &Metrics,
) -> Result<kube::Client, kube::Error> {
    config.read_timeout = read_timeout;
    config.default_retry = false;
    Ok(ClientBuilder::try_from(config)?.with_layer(&Count(metrics.clone())).build())
}

/// The client for everything else; it writes only while `leadership` holds, and asks before each attempt.
pub fn fenced(
    mut config: kube::Config,
    leadership: Leadership,
    metrics: &Metrics,
) -> Result<kube::Client, kube::Error> {
    config.read_timeout = Some(REQUEST_TIMEOUT);
    config.default_retry = false;
    let fence = FilterLayer::new(move |request: Request<Body>| {
        if request.method() == Method::GET || leadership.holds() { Ok(request) } else { Err(NotLeader) }
    });
    let policy = RetryPolicy::new(FIRST_RETRY, LAST_RETRY, RETRIES, true).unwrap_or_default();
    let builder = ClientBuilder::try_from(config)?
        .with_layer(&Count(metrics.clone()))
        .with_layer(&fence)
        .with_layer(&BufferLayer::new(QUEUE))
        .with_layer(&RetryLayer::new(policy));
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::{RETRIES, fenced};
    use crate::lease::{Leadership, refusing};
    use crate::telemetry::{Format, Metrics};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, PostParams};
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test]
    async fn what_lost_its_place_between_two_tries_makes_no_second_one() {
        let (url, count) = refusing::server("429 Too Many Requests\r\nretry-after: 1").await;
        let leadership = Leadership::elected();
        let config = kube::Config::new(url.parse().unwrap());
        let metrics = Metrics::default();
        let api: Api<ConfigMap> = Api::namespaced(fenced(config, leadership.clone(), &metrics).unwrap(), "default");
        let write = || async {
            let mut object = ConfigMap::default();
            object.metadata.name = Some("x".into());
            api.create(&PostParams::default(), &object).await.map(drop)
        };
        let error = write().await.unwrap_err();
        assert!(error.to_string().contains("not the leader"), "{error}");
        assert_eq!(count.load(SeqCst), 0, "not the leader yet");
        leadership.extend(Instant::now() + Duration::from_mins(1));
        let (result, ()) = tokio::join!(write(), async {
            refusing::asked(&count).await;
            leadership.revoke();
        });
        assert!(result.is_err());
        assert_eq!(count.load(SeqCst), 1);
        // One that is refused as often as it is tried ends only then.
        assert!(api.get("x").await.is_err());
        assert_eq!(count.load(SeqCst), 2 + RETRIES as usize, "reads go on trying");
        let counted = metrics.render(Format::Prometheus);
        assert!(counted.contains(r#"rest_client_requests_total{method="POST",code="429"} 1"#), "{counted}");
    }
}
