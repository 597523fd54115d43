//! What an account may hold and what is in it, as `GetAccountSummary` tells it.

use super::account::Account;
use super::error::{AwsError, Kind};
use crate::policy::Limits;
use aws_sdk_iam::types::SummaryKeyType;
use std::collections::HashMap;

/// How much an account holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Roles, service-linked ones included.
    pub roles: usize,
    /// Customer-managed policies.
    pub policies: usize,
}

/// Quotas of an account; IAM's defaults where it does not tell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Sizes of policy documents.
    pub limits: Limits,
    /// Managed policies attached to one role.
    pub attachments: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { limits: Limits::default(), attachments: 10 }
    }
}

/// Both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// What the account's roles may have.
    pub quotas: Quotas,
    /// What is in the account; `None` where AWS does not tell.
    pub usage: Option<Usage>,
}

impl Account {
    /// The account's quotas, and what is in it. Not being allowed to read them is no reason not to work; an answer that
    /// does not come says nothing of them, and is the error.
    pub(super) async fn summary(&self) -> Result<Summary, AwsError> {
        let call = self.iam.get_account_summary().send();
        match self.call("iam:GetAccountSummary", "the account", call).await {
            Ok(answer) => {
                let numbers = answer.summary_map.unwrap_or_default();
                self.tell_usage(&numbers);
                Ok(read(&numbers))
            }
            Err(error) if matches!(error.kind, Kind::Busy | Kind::Transient | Kind::NoCredentials) => Err(error),
            Err(error) => {
                tracing::info!(%error, "the account's quotas are unknown; IAM's defaults are assumed");
                Ok(Summary::default())
            }
        }
    }

    fn tell_usage(&self, numbers: &HashMap<SummaryKeyType, i32>) {
        for (resource, has, may_have) in [
            ("roles", SummaryKeyType::Roles, SummaryKeyType::RolesQuota),
            ("policies", SummaryKeyType::Policies, SummaryKeyType::PoliciesQuota),
            ("policyVersions", SummaryKeyType::PolicyVersionsInUse, SummaryKeyType::PolicyVersionsInUseQuota),
            ("instanceProfiles", SummaryKeyType::InstanceProfiles, SummaryKeyType::InstanceProfilesQuota),
        ] {
            if let (Some(has), Some(may_have)) = (number(numbers, &has), number(numbers, &may_have)) {
                self.metrics.quota(&self.account.id, resource, has, may_have);
            }
        }
    }
}

fn number(numbers: &HashMap<SummaryKeyType, i32>, key: &SummaryKeyType) -> Option<usize> {
    numbers.get(key).and_then(|number| usize::try_from(*number).ok())
}

fn read(numbers: &HashMap<SummaryKeyType, i32>) -> Summary {
    let usage = number(numbers, &SummaryKeyType::Roles).zip(number(numbers, &SummaryKeyType::Policies));
    let quota = |key: SummaryKeyType, default| number(numbers, &key).filter(|quota| *quota > 0).unwrap_or(default);
    let default = Quotas::default();
    let quotas = Quotas {
        limits: Limits {
            trust: quota(SummaryKeyType::AssumeRolePolicySizeQuota, default.limits.trust),
            inline_total: quota(SummaryKeyType::RolePolicySizeQuota, default.limits.inline_total),
            managed: quota(SummaryKeyType::PolicySizeQuota, default.limits.managed),
        },
        attachments: quota(SummaryKeyType::AttachedPoliciesPerRoleQuota, default.attachments),
    };
    Summary { quotas, usage: usage.map(|(roles, policies)| Usage { roles, policies }) }
}

#[cfg(test)]
mod tests {
    use crate::aws::{Aws, Kind, Usage};
    use crate::telemetry::Metrics;
    use aws_config::retry::RetryConfig;
    use aws_config::{BehaviorVersion, Region};
    use aws_credential_types::Credentials;
    use axum::Router;
    use axum::extract::State;
    use axum::http::StatusCode;
    use std::sync::{Arc, Mutex};

    /// How an account answers `GetAccountSummary`: with status and code of a refusal, or with its quota of trust policies.
    type Answer = Result<usize, (StatusCode, &'static str)>;
    type Script = Arc<Mutex<Answer>>;

    async fn serve(State(script): State<Script>, body: String) -> (StatusCode, String) {
        let (action, result) = if body.contains("Action=GetCallerIdentity") {
            let who = "<Arn>arn:aws:iam::111122223333:user/u</Arn><Account>111122223333</Account>";
            ("GetCallerIdentity", who.to_owned())
        } else {
            (
                "GetAccountSummary",
                match *script.lock().unwrap() {
                    Ok(quota) => {
                        let numbers = [("AssumeRolePolicySizeQuota", quota), ("Roles", 7), ("Policies", 0)];
                        let entry = |(key, value)| format!("<entry><key>{key}</key><value>{value}</value></entry>");
                        format!("<SummaryMap>{}</SummaryMap>", numbers.map(entry).concat())
                    }
                    Err((status, code)) => {
                        return (status, format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>"));
                    }
                },
            )
        };
        let answer = format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>");
        (StatusCode::OK, answer)
    }

    struct World {
        aws: Aws,
        script: Script,
    }

    impl World {
        async fn new() -> Self {
            let script = Script::new(Mutex::new(Ok(2048)));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let server = Router::new().fallback(serve).with_state(script.clone());
            tokio::spawn(async move { axum::serve(listener, server).await });
            let config = aws_config::defaults(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
                .endpoint_url(url)
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .retry_config(RetryConfig::disabled())
                .load()
                .await;
            Self { aws: Aws::new(config, Metrics::default()), script }
        }

        /// The quota of trust policies that roles are judged by, and what is known to be in the account.
        async fn looks(&self, answer: Answer) -> Result<(usize, Option<Usage>), Kind> {
            *self.script.lock().unwrap() = answer;
            let account = self.aws.identify(None, None).await.expect("who it is");
            let known = (account.quotas.limits.trust, account.usage);
            account.unanswered.as_ref().map_or(Ok(known), |error| Err(error.kind))
        }
    }

    const THROTTLED: Answer = Err((StatusCode::BAD_REQUEST, "Throttling"));
    const DOWN: Answer = Err((StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"));
    const EXPIRED: Answer = Err((StatusCode::FORBIDDEN, "ExpiredToken"));
    const DENIED: Answer = Err((StatusCode::FORBIDDEN, "AccessDenied"));

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_no_smaller_quota() {
        let world = World::new().await;
        for (answer, kind) in [(THROTTLED, Kind::Busy), (DOWN, Kind::Transient), (EXPIRED, Kind::NoCredentials)] {
            assert_eq!(world.looks(answer).await, Err(kind), "nobody has told them yet");
        }
        let raised = Ok((4096, Some(Usage { roles: 7, policies: 0 })));
        assert_eq!(world.looks(Ok(4096)).await, raised);
        assert_eq!(world.looks(THROTTLED).await, raised, "as it said before");
        for (answer, kind) in [(DOWN, Kind::Transient), (EXPIRED, Kind::NoCredentials)] {
            assert_eq!(world.looks(answer).await, Err(kind), "the class is to tell it");
        }
        assert_eq!(world.looks(THROTTLED).await, raised, "and is not forgotten for that");
    }

    #[tokio::test]
    async fn who_may_not_read_the_quotas_has_the_defaults_also_when_the_account_is_busy() {
        let world = World::new().await;
        assert_eq!(world.looks(DENIED).await, Ok((2048, None)));
        assert_eq!(world.looks(THROTTLED).await, Ok((2048, None)));
    }
}
