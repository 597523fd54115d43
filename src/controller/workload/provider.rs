//! Whether the account of a role knows the issuer of this cluster's tokens: asked once for all roles that look at the account
//! by the same identity. One may be permitted to ask, and another not.

use super::condition::Finding;
use crate::api::Reason;
use crate::aws::{Account, AwsError};
use crate::role::workload::Irsa;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long an answer counts.
const LASTS: Duration = Duration::from_mins(15);
/// How long it counts where something is missing: it may be made any time.
const LASTS_MISSING: Duration = Duration::from_secs(45);
/// However many ask at once for a fresh look, AWS is asked so seldom.
const APART: Duration = Duration::from_secs(2);
/// Since it was asked, the others wait so long for the answer. A role is served without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The client ids of a provider, or none without a provider.
type Answer = Result<Option<Vec<String>>, AwsError>;

/// The OIDC providers, as last seen, by who has looked and their ARN.
#[derive(Debug, Default)]
pub struct Providers(Mutex<HashMap<(String, String), Arc<Provider>>>);

#[derive(Debug, Default)]
struct Provider {
    /// Never held across an await.
    seen: Mutex<Seen>,
    /// The call has ended, with an answer or without.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<(Instant, Answer)>,
    /// Since when somebody asks.
    asking: Option<Instant>,
}

/// What whoever wants to know does next.
enum Next {
    Take(Answer),
    Ask,
    /// Somebody else asks since then.
    Wait(Instant),
}

impl Providers {
    /// What keeps tokens of this cluster from the account. `fresh`: somebody asked for a look now.
    pub async fn check(&self, account: &Account, irsa: &Irsa, fresh: bool) -> Option<Finding> {
        self.look(&account.identity, irsa, fresh, || account.client_ids(&irsa.provider)).await
    }

    async fn look<F>(&self, identity: &str, irsa: &Irsa, fresh: bool, ask: impl FnOnce() -> F) -> Option<Finding>
    where
        F: Future<Output = Answer>,
    {
        let key = (identity.to_owned(), irsa.provider.clone());
        let provider = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
        loop {
            // Before the look, so that no end is missed.
            let ended = provider.ended.notified();
            match provider.next(&irsa.audience, fresh) {
                Next::Take(answer) => return finding(answer, irsa),
                Next::Ask => break,
                Next::Wait(since) => {
                    if timeout_at(since + PATIENCE, ended).await.is_err() {
                        let message = format!("whether {} is there is being asked", irsa.provider);
                        return Some(Finding::soon(message));
                    }
                }
            }
        }
        let asking = Asking(&provider);
        let answer = ask().await;
        provider.lock().last = Some((Instant::now(), answer.clone()));
        drop(asking);
        finding(answer, irsa)
    }
}

impl Provider {
    fn next(&self, audience: &String, fresh: bool) -> Next {
        let mut seen = self.lock();
        if let Some((at, answer)) = &seen.last {
            let lasts = match answer {
                _ if fresh => APART,
                Ok(Some(ids)) if ids.contains(audience) => LASTS,
                _ => LASTS_MISSING,
            };
            if at.elapsed() < lasts {
                return Next::Take(answer.clone());
            }
        }
        if let Some(since) = seen.asking {
            return Next::Wait(since);
        }
        seen.asking = Some(Instant::now());
        Next::Ask
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // A panic elsewhere leaves whole entries behind.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way, until it is dropped: also where whoever made it is.
struct Asking<'p>(&'p Provider);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().asking = None;
        self.0.ended.notify_waiters();
    }
}

fn finding(answer: Answer, irsa: &Irsa) -> Option<Finding> {
    let Irsa { issuer, provider, audience } = irsa;
    let certain = |reason: Reason, message: String| Some(Finding::certain(reason, message));
    match answer {
        Ok(Some(ids)) if ids.contains(audience) => None,
        Ok(Some(_)) => certain(
            Reason::AudienceNotRegistered,
            format!(
                "{provider} does not take tokens for {audience}; add it to its client ids, or correct \
                 workloadIdentity.audience of the class"
            ),
        ),
        Ok(None) => certain(
            Reason::NoOidcProvider,
            format!(
                "there is no {provider}, so tokens of this cluster lead nowhere; make an OIDC provider for https://{issuer} \
                 with the client id {audience} in that account (eksctl utils associate-iam-oidc-provider, or \
                 aws_iam_openid_connect_provider of Terraform)"
            ),
        ),
        Err(error) => {
            let message = format!("whether {provider} is there could not be found out: {error}");
            Some(Finding { message, ..Finding::of_aws(&error) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{APART, Answer, LASTS, LASTS_MISSING, PATIENCE, Providers};
    use crate::api::Reason;
    use crate::aws::{AwsError, Kind};
    use crate::controller::workload::condition::{Finding, Passes};
    use crate::role::workload::Irsa;
    use futures::future::{join, pending, ready};
    use std::cell::Cell;
    use std::time::Duration;
    use tokio::time::{Instant, advance, sleep, timeout};

    fn irsa() -> Irsa {
        let (issuer, audience) = ("issuer.example".to_owned(), "sts.amazonaws.com".to_owned());
        Irsa { provider: format!("arn:aws:iam::111122223333:oidc-provider/{issuer}"), issuer, audience }
    }

    #[allow(clippy::unnecessary_wraps, reason = "as AWS answers")]
    fn known() -> Answer {
        Ok(Some(vec![irsa().audience]))
    }

    fn denied() -> Answer {
        let (call, target) = ("iam:GetOpenIDConnectProvider", irsa().provider);
        Err(AwsError { kind: Kind::Denied, call, target, code: None, message: String::new() })
    }

    async fn look(providers: &Providers, identity: &str, answer: Answer) -> Option<Finding> {
        providers.look(identity, &irsa(), false, || ready(answer)).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_identity_may_not_ask_is_no_answer_for_another() {
        let providers = Providers::default();
        for _ in 0..3 {
            let one = look(&providers, "a", denied()).await.unwrap();
            assert_eq!((one.reason, one.certain), (Reason::AccessDenied, false));
            assert_eq!(look(&providers, "b", known()).await, None, "not told for a's sake");
            advance(LASTS_MISSING).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_for_a_while_for_all() {
        let (providers, asked, irsa) = (Providers::default(), Cell::new(0), irsa());
        let look = |fresh: bool| {
            providers.look("a", &irsa, fresh, || {
                asked.set(asked.get() + 1);
                ready(known())
            })
        };
        for (after, fresh, calls) in [
            (Duration::ZERO, false, 1),
            (LASTS / 2, false, 1),
            (Duration::ZERO, true, 2),
            (APART / 2, true, 2),
            (LASTS, false, 3),
        ] {
            advance(after).await;
            assert_eq!((look(fresh).await, asked.get()), (None, calls));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_holds_up_nobody_else_and_is_made_by_one() {
        let (providers, slow) = (Providers::default(), Duration::from_secs(50));
        let (began, irsa) = (Instant::now(), irsa());
        let asks = providers.look("a", &irsa, false, || async {
            sleep(slow).await;
            known()
        });
        let others = async {
            for _ in 0..20 {
                let found = look(&providers, "a", denied()).await.unwrap();
                assert_eq!((found.passes, found.reason, found.certain), (Passes::Soon, Reason::Busy, false));
            }
            assert_eq!(began.elapsed(), PATIENCE, "one after the other, not each as long");
            sleep(slow).await;
            assert_eq!(look(&providers, "a", denied()).await, None, "the answer that came late counts");
        };
        assert_eq!(join(asks, others).await.0, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_is_the_one_of_all_who_wait() {
        let (providers, irsa) = (Providers::default(), irsa());
        let asks = providers.look("a", &irsa, false, || async {
            sleep(PATIENCE / 2).await;
            known()
        });
        assert_eq!(join(asks, look(&providers, "a", denied())).await, (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_is_made_by_the_next() {
        let (providers, irsa) = (Providers::default(), irsa());
        let given_up = timeout(PATIENCE / 2, providers.look("a", &irsa, false, pending));
        let (given_up, next) = join(given_up, look(&providers, "a", known())).await;
        assert!(given_up.is_err() && next.is_none());
    }
}
