//! Whose account it is, and what it may hold: asked once for all who lead there by one identity.

use super::account::{Account, Aws, Session, observe_call};
use super::associations::{Association, Place};
use super::error::{AwsError, Kind, without_sessions};
use super::look::{Looks, Since, Unanswered};
use super::summary::Summary;
use super::ticket::Turn;
use crate::policy::AccountRef;
use aws_config::SdkConfig;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// What was found out a moment ago.
#[derive(Clone, Debug)]
pub struct Found {
    /// Who we are in a session, or by ourselves.
    identities: Arc<Looks<Option<Session>, Who>>,
    /// What each identity was told of its account.
    summaries: Arc<Looks<String, Summary>>,
    /// Whether there is a policy, by the identity that asked and the ARN.
    pub(super) policies: Arc<Looks<(String, String), bool>>,
    /// The associations of a namespace.
    pub(super) associations: Arc<Looks<Listed, Arc<Vec<Association>>>>,
    /// Associations that are being looked at.
    #[cfg(feature = "eks")]
    pub(super) owners: Arc<Looks<LookedAt, Option<Association>>>,
}

/// The associations of a namespace, by the identity that asked and the cluster; and by what they are asked for, since
/// nothing that is urgent waits for the answer to what is not.
pub(super) type Listed = (String, Place, String, Option<Turn>);

/// An association, by the identity that asked and its ARN; and by what it is asked for.
#[cfg(feature = "eks")]
pub(super) type LookedAt = (String, String, Option<Turn>);

impl Default for Found {
    fn default() -> Self {
        // One identity may have several sessions, and each its own end.
        let is_for_all = |error: &AwsError| error.kind != Kind::NoCredentials;
        Self {
            identities: Arc::new(Looks::new(|_| true)),
            summaries: Arc::new(Looks::new(is_for_all)),
            policies: Arc::new(Looks::new(is_for_all)),
            associations: Arc::new(Looks::new(is_for_all)),
            #[cfg(feature = "eks")]
            owners: Arc::new(Looks::new(is_for_all)),
        }
    }
}

#[cfg(test)]
impl Found {
    pub(super) fn look_at_identity(&self, session: Option<Session>) {
        drop(self.identities.of(session));
    }

    /// How many identities are known.
    pub(super) fn identities(&self) -> usize {
        self.identities.len()
    }
}

/// An identity, as AWS tells it.
#[derive(Clone, Debug)]
struct Who {
    account: AccountRef,
    /// Its ARN.
    identity: String,
}

impl Aws {
    /// Asks AWS who we are, by ourselves or in a session of another role. Nothing that AWS says is believed before. An
    /// account that is not the `wanted` one is asked for nothing; any other for its quotas.
    ///
    /// # Errors
    /// There is no answer to who we are.
    pub async fn identify(&self, session: Option<&Session>, wanted: Option<&String>) -> Result<Arc<Account>, AwsError> {
        self.identify_within(session, wanted, Duration::ZERO).await
    }

    /// The same, where nobody has asked within `age`. That another account than the `wanted` one is reached is never said
    /// without asking, nor after a call by the session that found it without credentials.
    ///
    /// # Errors
    /// There is no answer to who we are.
    pub async fn identify_within(
        &self,
        session: Option<&Session>,
        wanted: Option<&String>,
        age: Duration,
    ) -> Result<Arc<Account>, AwsError> {
        let since = Since::within(age);
        let config = match session {
            Some(session) => self.assume(session).await,
            None => self.config.clone(),
        };
        let look = self.found.identities.of(session.cloned());
        let is_wanted = |who: &Who| wanted.is_none_or(|wanted| *wanted == who.account.id);
        let mut who = look.ask(since, self.who(&config, session)).await.map_err(|unanswered| unanswered.error)?;
        if !is_wanted(&who) {
            let anew = look.ask(since.anew(), self.who(&config, session)).await;
            who = anew.map_err(|unanswered| unanswered.error)?;
        }
        let is_wanted = is_wanted(&who);
        let mut account = self.account(&config, who.account, who.identity);
        account.doubts.push(look.doubts());
        if is_wanted {
            self.sum_up(&mut account, session, since).await;
        }
        Ok(Arc::new(account))
    }

    async fn who(&self, config: &SdkConfig, session: Option<&Session>) -> Result<Who, AwsError> {
        let sts = self.sts(config, session);
        let call = Box::pin(sts.get_caller_identity().send());
        let answer = observe_call(&self.metrics, "sts:GetCallerIdentity", "the operator's identity", call).await;
        let answer = answer.inspect_err(|error| self.forget(session, error))?;
        let identity = without_sessions(answer.arn().unwrap_or_default());
        let account = who(&identity, answer.account().unwrap_or_default())?;
        Ok(Who { account, identity })
    }

    /// What the account may hold and what is in it: where it does not say, what it said before. And the error, but where it
    /// has only too much to do to say the same again.
    async fn sum_up(&self, account: &mut Account, session: Option<&Session>, since: Since) {
        let look = self.found.summaries.of(account.identity.clone());
        let (summary, unanswered) = match look.ask(since, account.summary()).await {
            Ok(summary) => (summary, None),
            Err(Unanswered { error, before }) => {
                self.forget(session, &error);
                let is_told = before.is_none() || error.kind != Kind::Busy;
                (before.unwrap_or_default(), is_told.then_some(error))
            }
        };
        account.doubts.push(look.doubts());
        (account.quotas, account.usage, account.unanswered) = (summary.quotas, summary.usage, unanswered);
    }

    /// The namespace has nobody any more who would ask for its associations.
    pub fn forget_associations(&self, namespace: &str) {
        self.found.associations.forget(|(_, _, listed, _)| listed == namespace);
    }

    /// Where AWS does not know the session any more, as after its role was made anew, another one is asked for the next
    /// time.
    fn forget(&self, session: Option<&Session>, error: &AwsError) {
        if let Some(session) = session.filter(|_| error.kind == Kind::NoCredentials) {
            self.assumed.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
        }
    }
}

/// Partition and account, as AWS tells them. What it does not tell is not guessed: ARNs are made of them.
fn who(identity: &str, account: &str) -> Result<AccountRef, AwsError> {
    match identity.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", partition, _, _, of, ..] if !partition.is_empty() && !account.is_empty() && *of == account => {
            Ok(AccountRef { partition: (*partition).to_owned(), id: account.to_owned() })
        }
        _ => Err(AwsError {
            kind: Kind::Transient,
            call: "sts:GetCallerIdentity",
            target: "the operator's identity".to_owned(),
            code: None,
            message: format!(
                "the answer names {identity:?} of account {account:?}, which is no identity of an account"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::who;

    #[test]
    fn the_partition_is_as_aws_says_and_never_guessed() {
        let id = "111122223333";
        for partition in ["aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-eusc", "aws-of-tomorrow"] {
            for rest in ["iam::111122223333:user/u", "iam::111122223333:root", "sts::111122223333:assumed-role/a/b"] {
                let account = who(&format!("arn:{partition}:{rest}"), id).unwrap();
                assert_eq!((account.partition.as_str(), account.id.as_str()), (partition, id));
            }
        }
        let user = "arn:aws:iam::111122223333:user/u";
        for (identity, account) in [("", id), ("user/u", id), ("arn::iam::111122223333:user/u", id), (user, "")] {
            assert!(who(identity, account).is_err(), "{identity} of {account}");
        }
        assert!(who(user, "444455556666").is_err(), "one of them is wrong");
    }
}
