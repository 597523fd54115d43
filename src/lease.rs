//! Which of several replicas works: the one that has the Lease.
//!
//! The Lease (coordination.k8s.io/v1) is written by compare-and-swap: each write carries the resource version
//! that was read, so of two candidates one is refused. No crate does all of this: `kube-leader-election` and
//! `kube-lease-manager` judge a holder by comparing its clock with ours, and patch without a version.
//!
//! A holder trusts itself for the renew deadline, the others wait for the longer lease duration. A holder that was
//! frozen in between (SIGSTOP, a frozen cgroup) finds its time used up when it wakes: [`Leadership`] is asked
//! before each request that leaves the process, not once per reconciliation. The clock that tells stands still while the
//! whole machine is suspended; `docs/design.md` says what then holds.

mod decision;

use crate::telemetry::Metrics;
use decision::{Observer, Step, claimed, holder, released};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// A request that hangs must leave room for others within the renew deadline.
const ATTEMPTS_PER_DEADLINE: u32 = 3;
/// client-go's: two candidates' looks must fit between.
const JITTER: f64 = 1.2;

/// How the Lease is kept; the names and defaults are client-go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// So long a silent holder keeps the Lease.
    pub lease_duration: Duration,
    /// So long the holder tries to renew before it gives up; shorter than the lease duration.
    pub renew_deadline: Duration,
    /// Between two looks or renewals.
    pub retry_period: Duration,
}

/// Durations that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Two would hold it at once.
    #[error("--leader-elect-lease-duration must be longer than --leader-elect-renew-deadline, and at least 1s")]
    Lease,
    /// It could not be renewed in time.
    #[error("--leader-elect-renew-deadline must be longer than 1.2 times --leader-elect-retry-period")]
    Deadline,
    /// A loop without a pause.
    #[error("--leader-elect-retry-period must be at least 100ms")]
    Retry,
}

impl Timing {
    /// Whether the durations fit together.
    pub fn check(&self) -> Result<(), TimingError> {
        if self.lease_duration <= self.renew_deadline || self.lease_duration < Duration::from_secs(1) {
            return Err(TimingError::Lease);
        }
        if self.renew_deadline <= self.retry_period.mul_f64(JITTER) {
            return Err(TimingError::Deadline);
        }
        if self.retry_period < Duration::from_millis(100) {
            return Err(TimingError::Retry);
        }
        Ok(())
    }
}

/// Whether this process may write. Clones share it.
#[derive(Clone, Debug)]
pub struct Leadership(Option<Arc<Mutex<Instant>>>);

impl Leadership {
    /// Without election: always.
    #[must_use]
    pub const fn unconditional() -> Self {
        Self(None)
    }

    /// With election: not before the Lease is ours.
    #[must_use]
    pub fn elected() -> Self {
        Self(Some(Arc::new(Mutex::new(Instant::now()))))
    }

    /// Whether this process may write now. The clock is monotonic, and goes on while the process is frozen.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.0.is_none() || !self.left().is_zero()
    }

    fn left(&self) -> Duration {
        self.until().map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
    }

    fn until(&self) -> Option<MutexGuard<'_, Instant>> {
        self.0.as_ref().map(|until| until.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Until then this process may write, as the Lease says.
    pub(crate) fn extend(&self, to: Instant) {
        if let Some(mut until) = self.until() {
            *until = to;
        }
    }

    /// From now on this process may not write.
    pub fn revoke(&self) {
        self.extend(Instant::now());
    }
}

/// A request was held back, since another replica may be the leader by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("held back: this replica is not the leader (any more)")]
pub struct NotLeader;

/// The Lease is not ours any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another one has it.
    #[error("the lease {lease} was taken by {holder}")]
    Taken {
        /// Namespace and name.
        lease: String,
        /// Who has it.
        holder: String,
    },
    /// It could not be renewed.
    #[error(
        "the lease {lease} could not be renewed within {deadline:?} (--leader-elect-renew-deadline): the Kubernetes API is out \
         of reach, refuses (see the log), or this process was halted"
    )]
    Deadline {
        /// Namespace and name.
        lease: String,
        /// The renew deadline.
        deadline: Duration,
    },
}

/// A candidate, and then a holder.
pub struct Election {
    api: Api<Lease>,
    namespace: String,
    name: String,
    me: String,
    timing: Timing,
    leadership: Leadership,
    observer: Observer,
    held: Option<Lease>,
    metrics: Metrics,
}

impl Election {
    /// A candidate for the Lease `namespace`/`name`. `client` must not repeat requests by itself.
    #[must_use]
    pub fn new(
        client: kube::Client,
        namespace: &str,
        name: &str,
        instance: &str,
        timing: Timing,
        metrics: Metrics,
    ) -> Self {
        let me = identity(instance);
        metrics.leader(name, false);
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            observer: Observer::new(me.clone(), timing.lease_duration, Instant::now()),
            me,
            timing,
            leadership: Leadership::elected(),
            held: None,
            metrics,
        }
    }

    /// What is to be asked before each write.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    fn lease(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Waits until the Lease is ours. `standby` is called once it is known to be somebody else's.
    pub async fn win(&mut self, standby: impl Fn()) {
        let mut told = None;
        tracing::info!(lease = self.lease(), identity = self.me, "taking part in leader election");
        loop {
            match timeout(self.limit(), self.attempt()).await {
                Ok(Ok(None)) => {
                    tracing::info!(lease = self.lease(), identity = self.me, "this replica is the leader");
                    self.metrics.leader(&self.name, true);
                    return;
                }
                Ok(Ok(Some(holder))) => {
                    standby();
                    if told.as_ref() != Some(&holder) {
                        tracing::info!(lease = self.lease(), holder, "another replica is the leader; standing by");
                        told = Some(holder);
                    }
                }
                Ok(Err(error)) => self.complain(&error),
                Err(_) => self.complain(&"no answer in time"),
            }
            sleep(self.timing.retry_period).await;
        }
    }

    /// Keeps the Lease; returns when it is lost.
    pub async fn keep(&mut self) -> Lost {
        loop {
            sleep(self.timing.retry_period).await;
            let left = self.leadership.left();
            if left.is_zero() {
                return self.lost(Lost::Deadline { lease: self.lease(), deadline: self.timing.renew_deadline });
            }
            match timeout(left.min(self.limit()), self.attempt()).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(holder))) => return self.lost(Lost::Taken { lease: self.lease(), holder }),
                Ok(Err(error)) => self.complain(&error),
                Err(_) => self.complain(&"no answer in time"),
            }
        }
    }

    /// Lets the next one have the Lease at once. To be called when nothing is under way any more.
    pub async fn release(mut self) {
        self.leadership.revoke();
        self.metrics.leader(&self.name, false);
        let result = timeout(self.limit(), async {
            // Read anew: an attempt that was cut off may have succeeded.
            let lease = self.api.get_opt(&self.name).await?;
            if let Some(lease) = lease.filter(|lease| holder(lease) == Some(self.me.as_str())) {
                let free = released(&lease, Timestamp::now());
                self.api.replace(&self.name, &PostParams::default(), &free).await?;
                tracing::info!(lease = self.lease(), "released the lease");
            }
            Ok::<_, kube::Error>(())
        });
        match result.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease could not be released; if it is ours, it runs out by itself");
            }
            Err(_) => tracing::warn!("the lease could not be released in time; if it is ours, it runs out by itself"),
        }
        self.held = None;
    }

    fn limit(&self) -> Duration {
        self.timing.renew_deadline / ATTEMPTS_PER_DEADLINE
    }

    fn lost(&mut self, lost: Lost) -> Lost {
        self.leadership.revoke();
        self.metrics.leader(&self.name, false);
        self.held = None;
        lost
    }

    fn complain(&self, error: &dyn std::fmt::Display) {
        let what = if self.held.is_some() { "renewing the lease" } else { "asking for the lease" };
        tracing::warn!(lease = self.lease(), %error, "{what}; trying again. Does RBAC let the operator get, create and update it?");
    }

    /// One try to get or renew the Lease: `None` if it is ours now, or whose it is.
    async fn attempt(&mut self) -> Result<Option<String>, kube::Error> {
        let leading = self.held.is_some();
        if let Some(held) = &self.held {
            let renewed = claimed(Some(held), &self.me, self.timing.lease_duration, Timestamp::now());
            if self.write(Step::Renew, renewed).await? {
                return Ok(None);
            }
        }
        let lease = self.api.get_opt(&self.name).await?;
        let step = self.observer.look(lease.as_ref(), Instant::now());
        let whose = lease.as_ref().and_then(holder).unwrap_or("somebody").to_owned();
        // A holder that finds it in other hands, or let go by them, has lost it whatever it could do now.
        if step == Step::Wait || (leading && step == Step::Take) {
            return Ok(Some(whose));
        }
        let mine = claimed(lease.as_ref(), &self.me, self.timing.lease_duration, Timestamp::now());
        Ok(if self.write(step, mine).await? { None } else { Some(whose) })
    }

    /// Writes the Lease; false if somebody else was faster.
    async fn write(&mut self, step: Step, mut lease: Lease) -> Result<bool, kube::Error> {
        // Others count from when they see the write, which is later.
        let begun = Instant::now();
        let params = PostParams::default();
        let result = if step == Step::Create {
            lease.metadata.name = Some(self.name.clone());
            self.api.create(&params, &lease).await
        } else {
            self.api.replace(&self.name, &params, &lease).await
        };
        match result {
            Ok(written) => {
                self.held = Some(written);
                self.leadership.extend(begun + self.timing.renew_deadline);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A name that no other process has, not even the next one in the same pod.
fn identity(instance: &str) -> String {
    let random = RandomState::new().hash_one((std::process::id(), Timestamp::now().as_nanosecond()));
    format!("{instance}_{random:016x}")
}

/// For the tests of what asks for leadership.
#[cfg(test)]
pub(crate) mod refusing {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that answers every request with `answer` (its status line and headers) and counts them.
    pub async fn server(answer: &'static str) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    counted.fetch_add(1, SeqCst);
                    let text = format!("HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                    let _ = stream.write_all(text.as_bytes()).await;
                }
            }
        });
        (url, count)
    }

    /// Waits until the server was asked.
    pub async fn asked(count: &AtomicUsize) {
        while count.load(SeqCst) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Leadership, Timing, TimingError, identity};
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn durations_must_leave_room_for_each_other() {
        let check = |lease, deadline, retry| {
            let millis = Duration::from_millis;
            let timing =
                Timing { lease_duration: millis(lease), renew_deadline: millis(deadline), retry_period: millis(retry) };
            timing.check()
        };
        assert_eq!(check(15_000, 10_000, 2_000), Ok(()));
        assert_eq!(check(10_000, 10_000, 2_000), Err(TimingError::Lease));
        assert_eq!(check(900, 500, 100), Err(TimingError::Lease), "the record has whole seconds");
        assert_eq!(check(15_000, 2_400, 2_000), Err(TimingError::Deadline));
        assert_eq!(check(15_000, 10_000, 0), Err(TimingError::Retry));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leadership_ends_by_itself() {
        let (leadership, clone) = (Leadership::elected(), Leadership::elected());
        assert!(!leadership.holds() && Leadership::unconditional().holds());
        let shared = leadership.clone();
        leadership.extend(Instant::now() + Duration::from_secs(10));
        assert!(leadership.holds() && shared.holds() && !clone.holds());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(shared.holds());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!shared.holds(), "whether or not anybody has noticed");
        leadership.extend(Instant::now() + Duration::from_secs(10));
        shared.revoke();
        assert!(!leadership.holds());
    }

    #[test]
    fn two_processes_in_one_pod_are_two_candidates() {
        assert_ne!(identity("pod"), identity("pod"));
        assert!(identity("pod").starts_with("pod_"));
    }
}
