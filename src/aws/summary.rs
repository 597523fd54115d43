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
    use crate::aws::{Aws, Kind, Usage, stand_in};
    use axum::Router;
    use axum::extract::State;
    use axum::http::StatusCode;
    use futures::future::join_all;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// How an account answers `GetAccountSummary`: with status and code of a refusal, or with its quota of trust policies.
    type Answer = Result<usize, (StatusCode, &'static str)>;
    type Script = Arc<Mutex<Answer>>;
    /// The actions that were called.
    type Calls = Arc<Mutex<Vec<&'static str>>>;

    async fn serve(State((script, calls)): State<(Script, Calls)>, body: String) -> (StatusCode, String) {
        let actions = ["GetCallerIdentity", "GetAccountSummary", "GetPolicy"];
        let called = actions.into_iter().find(|action| body.contains(&format!("Action={action}&"))).expect("an action");
        calls.lock().unwrap().push(called);
        let (action, result) = if called == "GetPolicy" {
            if body.contains("lost") {
                return refusal(StatusCode::NOT_FOUND, "NoSuchEntity");
            }
            ("GetPolicy", "<Policy><Arn>arn</Arn></Policy>".to_owned())
        } else if called == "GetCallerIdentity" {
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
                    Err((status, code)) => return refusal(status, code),
                },
            )
        };
        let answer = format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>");
        (StatusCode::OK, answer)
    }

    fn refusal(status: StatusCode, code: &str) -> (StatusCode, String) {
        (status, format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>"))
    }

    struct World {
        aws: Aws,
        script: Script,
        calls: Calls,
    }

    impl World {
        async fn new() -> Self {
            let (script, calls) = (Script::new(Mutex::new(Ok(2048))), Calls::default());
            let aws = stand_in::aws(Router::new().fallback(serve).with_state((script.clone(), calls.clone()))).await;
            Self { aws, script, calls }
        }

        /// The quota of trust policies that roles are judged by, and what is known to be in the account.
        async fn looks(&self, answer: Answer) -> Result<(usize, Option<Usage>), Kind> {
            *self.script.lock().unwrap() = answer;
            let account = self.aws.identify(None, None).await.expect("who it is");
            let known = (account.quotas.limits.trust, account.usage);
            account.unanswered.as_ref().map_or(Ok(known), |error| Err(error.kind))
        }
    }

    impl World {
        /// So many look at once at what may be as old as that: what was called for it.
        async fn look(&self, classes: usize, wanted: Option<&str>, age: Duration) -> Vec<&'static str> {
            let wanted = wanted.map(str::to_owned);
            join_all((0..classes).map(|_| self.aws.identify_within(None, wanted.as_ref(), age))).await;
            std::mem::take(&mut self.calls.lock().unwrap())
        }
    }

    const AGE: Duration = Duration::from_mins(5);

    #[tokio::test]
    async fn an_account_is_looked_at_once_for_all_who_lead_there_by_one_identity() {
        const LOOK: [&str; 2] = ["GetCallerIdentity", "GetAccountSummary"];
        let world = World::new().await;
        assert_eq!(world.look(50, None, AGE).await, LOOK);
        assert_eq!(world.look(50, Some("111122223333"), AGE).await, [""; 0]);
        assert_eq!(world.look(1, None, Duration::ZERO).await, LOOK, "whoever asks for it");
        assert_eq!(world.look(1, Some("444455556666"), AGE).await, LOOK[..1], "that it is another one is asked for");
        let account = world.aws.identify_within(None, None, AGE).await.expect("who it is");
        *world.script.lock().unwrap() = EXPIRED;
        account.summary().await.expect_err("no credentials");
        assert_eq!(world.calls.lock().unwrap().split_off(0), LOOK[1..]);
        assert_eq!(world.look(1, None, AGE).await, LOOK, "its credentials ended");
        *world.script.lock().unwrap() = DOWN;
        assert_eq!(world.look(1, None, AGE).await, LOOK, "so did they for the summary");
        assert_eq!(world.look(1, None, AGE).await, LOOK[1..], "what was not answered is not known");
        assert_eq!(world.look(50, None, AGE).await, [LOOK[1]; 2], "and all who wait hear of one answer");
        *world.script.lock().unwrap() = Ok(4096);
        assert_eq!(world.look(1, None, AGE).await, LOOK[1..]);
        assert_eq!(world.look(50, None, AGE).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_boundary_is_asked_for_once_for_all_who_force_it_and_again_while_it_is_missing() {
        let world = World::new().await;
        let account = world.aws.identify(None, None).await.expect("who it is");
        let asked = async |arn: &str, age: Duration| {
            world.calls.lock().unwrap().clear();
            let found = join_all((0..50).map(|_| account.has_policy(arn, age))).await;
            let found = found.into_iter().collect::<Result<Vec<_>, _>>().expect("an answer");
            (found, world.calls.lock().unwrap().len())
        };
        assert_eq!(asked("there", AGE).await, (vec![true; 50], 1));
        assert_eq!(asked("there", AGE).await, (vec![true; 50], 0));
        assert!(asked("there", Duration::ZERO).await.1 > 0, "whoever asks for it");
        assert!(asked("lost", AGE).await.0.iter().all(|found| !found));
        assert!(asked("lost", AGE).await.1 > 0, "somebody may have made it");
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
