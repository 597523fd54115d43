//! No call leaves a replica that is not the leader (any more).

use crate::lease::{Leadership, NotLeader};
use aws_sdk_iam::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_iam::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_iam::error::BoxError;

/// Asks before each attempt of each call, the SDK's own repetitions included: a process that was frozen in the pause
/// between two of them may have lost its place.
#[derive(Clone, Debug)]
pub struct Fence(pub Leadership);

impl Intercept for Fence {
    fn name(&self) -> &'static str {
        "Fence"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if self.0.holds() { Ok(()) } else { Err(NotLeader.into()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::aws::Aws;
    use crate::lease::{Leadership, refusing};
    use crate::telemetry::Metrics;
    use aws_config::retry::RetryConfig;
    use aws_config::{BehaviorVersion, Region, SdkConfig};
    use aws_credential_types::Credentials;
    use aws_smithy_http_client::Builder;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;
    use tokio::time::Instant;

    async fn config(endpoint: &str) -> SdkConfig {
        aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .endpoint_url(endpoint)
            .http_client(Builder::new().build_http())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .load()
            .await
    }

    #[tokio::test]
    async fn what_lost_its_place_between_two_tries_makes_no_second_one() {
        let (url, count) = refusing::server("503 Service Unavailable\r\nx-amz-retry-after: 300").await;
        let leadership = Leadership::elected();
        let aws = Aws::new(config(&url).await, Metrics::default()).fenced(leadership.clone());
        assert!(aws.identify(None, None).await.is_err());
        assert_eq!(count.load(SeqCst), 0, "not the leader yet");
        leadership.extend(Instant::now() + Duration::from_mins(1));
        let (result, ()) = tokio::join!(aws.identify(None, None), async {
            refusing::asked(&count).await;
            leadership.revoke();
        });
        assert!(result.is_err());
        assert_eq!(count.load(SeqCst), 1);
        leadership.extend(Instant::now() + Duration::from_mins(1));
        assert!(aws.identify(None, None).await.is_err());
        assert_eq!(count.load(SeqCst), 4, "the leader tries three times");
    }
}
