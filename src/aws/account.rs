//! The AWS identity and the clients that go with it.

use super::error::{AwsError, Kind};
use super::fence::Fence;
use super::identify::Found;
use super::kept::Kept;
use super::look::Doubts;
use super::pace::Pace;
use super::summary::{Quotas, Usage};
use super::throttle::Throttle;
use super::ticket::Turn;
use super::transport::{TransportError, http_client};
use crate::api::iamroleclass::AssumeRole;
use crate::lease::Leadership;
use crate::policy::AccountRef;
use crate::telemetry::Metrics;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::identity::IdentityCache;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_iam::config::http::HttpResponse;
use aws_sdk_iam::config::retry::RetryPartition;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use std::error::Error as StdError;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// IAM has one endpoint per partition; the region only chooses the partition.
const DEFAULT_REGION: &str = "us-east-1";
/// The SDK has no time limits of its own on reading an answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(50);
/// Calls at once in one account, where nothing else is said.
const AT_ONCE: usize = 16;
/// Length of a session that the class does not tell; STS's own default.
const SESSION: Duration = Duration::from_hours(1);
/// Attempts per call, the first included.
const ATTEMPTS: u32 = 3;

/// The operator's own AWS configuration; makes [`Account`]s.
#[derive(Clone, Debug)]
pub struct Aws {
    pub(super) config: SdkConfig,
    leadership: Leadership,
    pub(super) metrics: Metrics,
    /// Configurations of assumed roles by role and session, so that a session is used until it ends.
    pub(super) assumed: Arc<Mutex<Kept<Session, SdkConfig>>>,
    /// Calls at once in one account.
    at_once: usize,
    /// How fast each account is called, however many identities lead there.
    paces: Arc<Mutex<Kept<String, Pace>>>,
    /// What was found out a moment ago, for all who lead there.
    pub(super) found: Found,
}

/// A session of a role that is assumed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// The role, and how.
    pub role: AssumeRole,
    /// Name of the session, as CloudTrail shows it: 2 to 64 of `[A-Za-z0-9_+=,.@-]`.
    pub name: String,
}

/// An AWS account that was identified by `GetCallerIdentity`.
#[derive(Clone, Debug)]
pub struct Account {
    pub(super) iam: aws_sdk_iam::Client,
    /// For clients of EKS, which has an endpoint in each region.
    #[cfg(feature = "eks")]
    pub(super) eks: (SdkConfig, Fence, Throttle),
    /// What EKS takes is no part of what IAM takes.
    #[cfg(feature = "eks")]
    pub(super) eks_pace: Pace,
    pub(super) metrics: Metrics,
    /// For what others found out of it.
    pub(super) found: Found,
    /// Of what was found out by these credentials.
    pub(super) doubts: Vec<Doubts>,
    pace: Pace,
    /// Partition and account id.
    pub account: AccountRef,
    /// ARN of the identity.
    pub identity: String,
    /// What the account's roles may have.
    pub quotas: Quotas,
    /// What is in the account; `None` where AWS does not tell.
    pub usage: Option<Usage>,
    /// Why it did not tell either: what it told before, or IAM's defaults, may be less than what its roles have.
    pub unanswered: Option<AwsError>,
}

/// How long a call to AWS may take.
#[must_use]
pub fn time_limits() -> TimeoutConfig {
    TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).operation_timeout(OPERATION_TIMEOUT).build()
}

/// How often a call to AWS is tried.
#[must_use]
pub fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS)
}

impl Aws {
    /// Reads AWS's own environment: keys, web identity, container credentials, endpoint, region, profile.
    ///
    /// # Errors
    /// The environment names certificates that can't be read.
    pub async fn from_environment(metrics: Metrics) -> Result<Self, TransportError> {
        let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else(Region::new(DEFAULT_REGION));
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client()?)
            .region(region)
            .timeout_config(time_limits())
            .retry_config(retries());
        if let Ok(name) = AppName::new(concat!("iamrole-operator-", env!("CARGO_PKG_VERSION"))) {
            loader = loader.app_name(name);
        }
        Ok(Self::new(loader.load().await, metrics))
    }

    /// Works with a configuration that was made elsewhere.
    #[must_use]
    pub fn new(config: SdkConfig, metrics: Metrics) -> Self {
        let leadership = Leadership::unconditional();
        Self {
            config,
            leadership,
            metrics,
            assumed: Arc::default(),
            at_once: AT_ONCE,
            paces: Arc::default(),
            found: Found::default(),
        }
    }

    /// Makes at most so many calls at once in each account.
    #[must_use]
    pub fn at_once(self, calls: u16) -> Self {
        Self { at_once: usize::from(calls.max(1)), ..self }
    }

    /// Makes no call but while `leadership` holds.
    #[must_use]
    pub fn fenced(self, leadership: Leadership) -> Self {
        Self { leadership, ..self }
    }

    /// Whoever gets no answer by one session is no reason to ask less often by another.
    pub(super) fn sts(&self, config: &SdkConfig, session: Option<&Session>) -> aws_sdk_sts::Client {
        let of_session = |session: &Session| format!("sts {} {}", session.role.role_arn, session.name);
        let partition = RetryPartition::new(session.map_or_else(|| "sts".to_owned(), of_session));
        let config = aws_sdk_sts::config::Builder::from(config).interceptor(Fence(self.leadership.clone()));
        aws_sdk_sts::Client::from_conf(config.retry_partition(partition).build())
    }

    /// The account to which a configuration leads, of whose quotas nothing is known yet.
    pub(super) fn account(
        &self,
        config: &SdkConfig,
        AccountRef { partition, id }: AccountRef,
        identity: String,
    ) -> Account {
        let (pace, fence) = (self.pace(&id), Fence(self.leadership.clone()));
        #[cfg(feature = "eks")]
        let eks_pace = self.pace(&format!("eks {id}"));
        // What is throttled is an account, and only that.
        let partition_of_retries = RetryPartition::new(format!("iam-{id}"));
        let iam = aws_sdk_iam::config::Builder::from(config)
            .interceptor(fence.clone())
            .interceptor(Throttle::new(pace.clone(), &self.metrics, &id))
            .retry_partition(partition_of_retries);
        let iam = match region_of_iam(&partition) {
            Some(region) => iam.region(Region::new(region)),
            None => iam,
        };
        Account {
            iam: aws_sdk_iam::Client::from_conf(iam.build()),
            #[cfg(feature = "eks")]
            eks: (config.clone(), fence, Throttle::new(eks_pace.clone(), &self.metrics, &id)),
            #[cfg(feature = "eks")]
            eks_pace,
            metrics: self.metrics.clone(),
            found: self.found.clone(),
            doubts: Vec::new(),
            pace,
            account: AccountRef { partition, id },
            identity,
            quotas: Quotas::default(),
            usage: None,
            unanswered: None,
        }
    }

    fn pace(&self, id: &str) -> Pace {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        paces.get_or(id.to_owned(), || Pace::new(self.at_once), Pace::is_shared)
    }

    /// The configuration for a session. Its credentials are asked for when the first call needs them, and anew before
    /// they end.
    pub(super) async fn assume(&self, session: &Session) -> SdkConfig {
        let assumed = || self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = assumed().get(session);
        if let Some(config) = known {
            return config;
        }
        let Session { role, name } = session;
        let seconds = role.session_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let mut provider = AssumeRoleProvider::builder(&role.role_arn)
            .session_name(name)
            .session_length(seconds.map_or(SESSION, Duration::from_secs))
            .configure(&self.config);
        if let Some(id) = &role.external_id {
            provider = provider.external_id(id);
        }
        let provider = provider.build().await;
        let config = self
            .config
            .to_builder()
            .credentials_provider(SharedCredentialsProvider::new(provider))
            .identity_cache(IdentityCache::lazy().load_timeout(OPERATION_TIMEOUT).build())
            .build();
        assumed().get_or(session.clone(), || config, |_| false)
    }
}

/// For which region calls to IAM are signed, whatever region is configured: it is the same for all of a partition. The SDK
/// knows, but not where an endpoint is configured, such as that of a VPC. `None` for a partition that is not known yet.
fn region_of_iam(partition: &str) -> Option<&'static str> {
    Some(match partition {
        "aws" => DEFAULT_REGION,
        "aws-cn" => "cn-north-1",
        "aws-us-gov" => "us-gov-west-1",
        "aws-eusc" => "eusc-de-east-1",
        "aws-iso" => "us-iso-east-1",
        "aws-iso-b" => "us-isob-east-1",
        "aws-iso-e" => "eu-isoe-west-1",
        "aws-iso-f" => "us-isof-south-1",
        _ => return None,
    })
}

impl Account {
    pub(super) fn call<'c, T, E, F>(
        &'c self,
        call: &'static str,
        target: &'c str,
        future: F,
    ) -> impl Future<Output = Result<T, AwsError>> + use<'c, T, E, F>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>> + 'c,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
        T: 'c,
    {
        self.call_at(&self.pace, call, target, future)
    }

    // Not an async function: its future would be as large as the SDK's, 16 kB.
    pub(super) fn call_at<'c, T, E, F>(
        &'c self,
        pace: &'c Pace,
        call: &'static str,
        target: &'c str,
        future: F,
    ) -> impl Future<Output = Result<T, AwsError>> + use<'c, T, E, F>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>> + 'c,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
        T: 'c,
    {
        let answer = Box::pin(async move { self.told(observe_call(&self.metrics, call, target, future).await) });
        pace.run(Turn::Change, answer)
    }

    /// The next page of a list, or `None` after the last one. Whoever has seen by [`is_last`] that no other follows asks for
    /// none: that would take a turn among the account's calls, and part of its rate, for no call.
    pub(super) async fn page<T, E, F>(&self, call: &'static str, target: &str, next: F) -> Result<Option<T>, AwsError>
    where
        F: Future<Output = Option<Result<T, SdkError<E, HttpResponse>>>>,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let next = Box::pin(async { (Instant::now(), next.await) });
        let (start, answer) = self.pace.run(Turn::Walk, next).await;
        match answer {
            Some(answer) => self.told(tell(&self.metrics, call, target, start, answer)).map(Some),
            None => Ok(None),
        }
    }

    /// What was found out by credentials that AWS does not take any more is looked at again by the next who asks.
    fn told<T>(&self, answer: Result<T, AwsError>) -> Result<T, AwsError> {
        answer.inspect_err(|error| {
            if error.kind == Kind::NoCredentials {
                for doubts in &self.doubts {
                    doubts.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    }
}

#[cfg(test)]
impl Account {
    /// How many turns its calls have had.
    pub(super) fn turns(&self) -> u64 {
        self.pace.turns()
    }
}

/// Whether no page follows one with this marker.
pub(super) fn is_last(marker: Option<&str>) -> bool {
    marker.is_none_or(str::is_empty)
}

pub(super) async fn observe_call<T, E, F>(
    metrics: &Metrics,
    call: &'static str,
    target: &str,
    future: F,
) -> Result<T, AwsError>
where
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let start = Instant::now();
    let answer = future.await;
    tell(metrics, call, target, start, answer)
}

fn tell<T, E>(
    metrics: &Metrics,
    call: &'static str,
    target: &str,
    start: Instant,
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<T, AwsError>
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let result = answer.map_err(|error| AwsError::new(call, target, &error));
    let outcome = result.as_ref().map_or_else(|error| error.kind.outcome(), |_| "Success");
    metrics.aws_call(call, outcome, start.elapsed());
    tracing::debug!(call, resource = target, outcome, "AWS call");
    result
}

#[cfg(test)]
mod tests {
    use super::{Account, Aws, Session, region_of_iam};
    use crate::api::iamroleclass::AssumeRole;
    #[cfg(feature = "eks")]
    use crate::aws::Place;
    use crate::policy::AccountRef;
    use crate::telemetry::Metrics;
    use aws_config::{BehaviorVersion, Region, SdkConfig};
    use aws_sdk_iam::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
    use aws_smithy_types::Document;

    /// The region for which the SDK signs calls to IAM when it is configured with `region`, and the host that it calls.
    async fn by_the_sdk(region: &str) -> (String, String) {
        let params = Params::builder().region(region).build().unwrap();
        let endpoint = DefaultResolver::new().resolve_endpoint(&params).await.unwrap();
        let signed_for = endpoint.auth_schemes()[0].get("signingRegion").and_then(Document::as_string).unwrap();
        (signed_for.to_owned(), endpoint.url().to_owned())
    }

    #[tokio::test]
    async fn calls_to_iam_are_signed_as_the_sdk_does_it_without_an_endpoint() {
        let partitions = [
            ("aws", ["us-east-1", "eu-central-1", "ap-southeast-7"]),
            ("aws-cn", ["cn-north-1", "cn-northwest-1", "cn-north-1"]),
            ("aws-us-gov", ["us-gov-west-1", "us-gov-east-1", "us-gov-west-1"]),
            ("aws-eusc", ["eusc-de-east-1"; 3]),
            ("aws-iso", ["us-iso-east-1", "us-iso-west-1", "us-iso-east-1"]),
            ("aws-iso-b", ["us-isob-east-1"; 3]),
            ("aws-iso-e", ["eu-isoe-west-1"; 3]),
            ("aws-iso-f", ["us-isof-south-1", "us-isof-east-1", "us-isof-south-1"]),
        ];
        for (partition, regions) in partitions {
            let ours = region_of_iam(partition).unwrap();
            let there = by_the_sdk(ours).await;
            assert_eq!(there.0, ours);
            for region in regions {
                assert_eq!(by_the_sdk(region).await, there, "{region}");
            }
        }
        assert_eq!(region_of_iam("aws-of-tomorrow"), None);
    }

    fn config() -> SdkConfig {
        SdkConfig::builder().behavior_version(BehaviorVersion::latest()).region(Region::new("us-east-1")).build()
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_and_sessions_that_nobody_asks_for_any_more_are_forgotten() {
        let aws = crate::aws::stand_in::aws(axum::Router::new()).await;
        let id = |i: u64| format!("{i:012}");
        let session = |i: u64| {
            let role_arn = format!("arn:aws:iam::{}:role/operator", id(i));
            let role = AssumeRole { role_arn, external_id: None, session_duration_seconds: None };
            Session { role, name: "iamrole-rig-class".to_owned() }
        };
        let account = |i: u64| aws.account(&config(), AccountRef { partition: "aws".to_owned(), id: id(i) }, id(i));
        let used = account(0);
        used.pace.refused(tokio::time::Instant::now());
        for i in 1..1000 {
            tokio::time::sleep(std::time::Duration::from_mins(10)).await;
            used.pace.refused(tokio::time::Instant::now());
            drop((aws.assume(&session(i)).await, account(i)));
            drop((aws.found.look_at_identity(Some(session(i))), aws.assume(&session(0)).await));
        }
        let known = (aws.paces.lock().unwrap().len(), aws.assumed.lock().unwrap().len(), aws.found.identities());
        assert!(known.0 <= 150 && known.1 <= 100 && known.2 <= 100, "{known:?}");
        assert!(account(0).pace.rate().is_some(), "somebody has it still");
    }

    /// The SDK has a budget of repetitions for each partition of retries, which is one for all clients of a region otherwise.
    #[test]
    fn who_gets_no_answer_for_one_account_repeats_no_less_for_another() {
        let aws = Aws::new(config(), Metrics::default());
        let partitions = |id: &str| {
            let account = AccountRef { partition: "aws".to_owned(), id: id.to_owned() };
            let account: Account = aws.account(&config(), account, String::new());
            let iam = account.iam.config().retry_partition().map(ToString::to_string);
            let role_arn = format!("arn:aws:iam::{id}:role/operator");
            let role = AssumeRole { role_arn, external_id: None, session_duration_seconds: None };
            let session = Session { role, name: "iamrole-rig-class".to_owned() };
            let sts = aws.sts(&config(), Some(&session)).config().retry_partition().map(ToString::to_string);
            #[cfg(feature = "eks")]
            {
                let place = Place { region: "us-east-1".to_owned(), cluster: "prod".to_owned() };
                let eks = account.eks(&place).config().retry_partition().map(ToString::to_string);
                vec![iam, sts, eks]
            }
            #[cfg(not(feature = "eks"))]
            vec![iam, sts]
        };
        let (one, other) = (partitions("111122223333"), partitions("444455556666"));
        for (one, other) in one.iter().zip(&other) {
            assert!(one.is_some() && one != other, "{one:?} {other:?}");
        }
        let own = aws.sts(&config(), None).config().retry_partition().map(ToString::to_string);
        assert!(own.is_some() && !one.contains(&own), "{own:?}");
    }
}
