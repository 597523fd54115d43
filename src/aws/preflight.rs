//! One harmless read of each kind, so that a missing right is told by the class and not by each of its roles.

use super::account::Account;
use super::error::{AwsError, Kind};
use super::look::{Since, Unanswered};
use futures::future::join_all;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Nobody makes an entity of this name: AWS answers that there is none, or that we may not ask.
pub const PROBE: &str = "iamrole-preflight";

type Read<'a> = Pin<Box<dyn Future<Output = Result<(), AwsError>> + Send + 'a>>;

impl Account {
    /// Asks for a role, what hangs on it, and as far as they are used a policy and an instance profile that don't exist.
    /// The first denial is the error, or else the first answer that did not come.
    pub async fn preflight(&self, policies: bool, profiles: bool) -> Result<(), AwsError> {
        let policy = format!("arn:{}:iam::{}:policy/{PROBE}", self.account.partition, self.account.id);
        let role = format!("role {PROBE}");
        let iam = &self.iam;
        let mut reads: Vec<Read<'_>> = vec![
            Box::pin(async { self.read("iam:GetRole", &role, iam.get_role().role_name(PROBE).send()).await }),
            Box::pin(async {
                let call = iam.list_role_policies().role_name(PROBE).send();
                self.read("iam:ListRolePolicies", &role, call).await
            }),
            Box::pin(async {
                let call = iam.get_role_policy().role_name(PROBE).policy_name(PROBE).send();
                self.read("iam:GetRolePolicy", &role, call).await
            }),
            Box::pin(async {
                let call = iam.list_attached_role_policies().role_name(PROBE).send();
                self.read("iam:ListAttachedRolePolicies", &role, call).await
            }),
            Box::pin(async {
                let call = iam.list_instance_profiles_for_role().role_name(PROBE).send();
                self.read("iam:ListInstanceProfilesForRole", &role, call).await
            }),
        ];
        if policies {
            reads.push(Box::pin(async {
                self.read("iam:GetPolicy", &format!("policy {policy}"), iam.get_policy().policy_arn(&policy).send())
                    .await
            }));
        }
        if profiles {
            reads.push(Box::pin(async {
                let call = iam.get_instance_profile().instance_profile_name(PROBE).send();
                self.read("iam:GetInstanceProfile", &format!("instance profile {PROBE}"), call).await
            }));
        }
        let failed: Vec<AwsError> = join_all(reads).await.into_iter().filter_map(Result::err).collect();
        let first = failed.iter().find(|error| error.kind == Kind::Denied).or_else(|| failed.first());
        first.map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Whether the managed policy exists, as it was found within `age`. That there is none is never said without asking.
    pub async fn has_policy(&self, arn: &str, age: Duration) -> Result<bool, AwsError> {
        let since = Since::within(age);
        let look = self.found.policies.of((self.identity.clone(), arn.to_owned()));
        let told = |unanswered: Unanswered<bool>| unanswered.error;
        Ok(look.ask(since, self.finds_policy(arn)).await.map_err(told)?
            || look.ask(since.anew(), self.finds_policy(arn)).await.map_err(told)?)
    }

    async fn finds_policy(&self, arn: &str) -> Result<bool, AwsError> {
        let call = self.iam.get_policy().policy_arn(arn).send();
        match self.call("iam:GetPolicy", &format!("policy {arn}"), call).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::PolicyNotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn read<T, E, F>(&self, call: &'static str, target: &str, future: F) -> Result<(), AwsError>
    where
        F: Future<Output = Result<T, aws_sdk_iam::error::SdkError<E, aws_sdk_iam::config::http::HttpResponse>>>,
        E: aws_sdk_iam::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match self.call(call, target, future).await {
            Err(error) if matches!(error.kind, Kind::Denied | Kind::Busy | Kind::Transient | Kind::NoCredentials) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}
