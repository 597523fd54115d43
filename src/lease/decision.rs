//! What follows from the state of the Lease. Pure: the record and the time come from outside.
//!
//! The times in a record are the clock of another machine, so they are written for people and never read.
//! Whether a holder is alive is told by how long this process, on its own monotonic clock, has seen the record
//! unchanged; clients of client-go judge the same way.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// What a candidate does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no Lease: make one that is ours.
    Create,
    /// Nobody has it, or its holder has not renewed it for as long as it promised: take it.
    Take,
    /// It is ours already: renew it.
    Renew,
    /// Somebody else has it: look again later.
    Wait,
}

/// What this process has seen of the Lease.
#[derive(Clone, Debug)]
pub struct Observer {
    me: String,
    /// Taken for a record that promises nothing.
    duration: Duration,
    version: Option<String>,
    since: Instant,
}

impl Observer {
    /// An observer for the candidate `me`, that has seen nothing.
    #[must_use]
    pub const fn new(me: String, duration: Duration, now: Instant) -> Self {
        Self { me, duration, version: None, since: now }
    }

    /// Notes the Lease as it is at `now`, and says what to do.
    pub fn look(&mut self, lease: Option<&Lease>, now: Instant) -> Step {
        let Some(lease) = lease else {
            self.version = None;
            return Step::Create;
        };
        // Any write is a sign of life: taking too late is harmless, taking too early is not.
        if self.version.is_none() || self.version != lease.metadata.resource_version {
            self.version.clone_from(&lease.metadata.resource_version);
            self.since = now;
        }
        match holder(lease) {
            None => Step::Take,
            Some(holder) if holder == self.me => Step::Renew,
            Some(_) if now.saturating_duration_since(self.since) >= self.promised(lease) => Step::Take,
            Some(_) => Step::Wait,
        }
    }

    /// How long the holder may keep silent. The holder's own promise counts, since it acts by that.
    fn promised(&self, lease: &Lease) -> Duration {
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => self.duration,
        }
    }
}

/// Who has the Lease.
#[must_use]
pub fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// The Lease as it is to be written by `me` for another `duration`; `before` brings what else it has, and the
/// resource version by which the API server refuses the write if somebody else was faster.
#[must_use]
pub fn claimed(before: Option<&Lease>, me: &str, duration: Duration, time: Timestamp) -> Lease {
    let mut lease = before.cloned().unwrap_or_default();
    let mine = holder(&lease) == Some(me);
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if !mine {
        spec.acquire_time = Some(MicroTime(time));
        spec.lease_transitions =
            Some(before.map_or(0, |_| spec.lease_transitions.unwrap_or_default().saturating_add(1)));
    }
    spec.holder_identity = Some(me.to_owned());
    // Rounded up: others must not think it over while it is not.
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
    spec.renew_time = Some(MicroTime(time));
    lease
}

/// The Lease as it is to be written by its holder who leaves, so that the next one need not wait.
#[must_use]
pub fn released(before: &Lease, time: Timestamp) -> Lease {
    let mut lease = before.clone();
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = None;
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(time));
    lease
}

#[cfg(test)]
mod tests {
    use super::{Observer, Step, claimed, holder, released};
    use k8s_openapi::api::coordination::v1::Lease;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use k8s_openapi::jiff::{SignedDuration, Timestamp};
    use std::time::Duration;
    use tokio::time::Instant;

    const LEASE: Duration = Duration::from_secs(15);

    /// A Lease of `holder` in version `version`, renewed by a clock that is `skew` off.
    fn lease(holder: &str, version: &str, skew: SignedDuration) -> Lease {
        let time = Timestamp::now() + skew;
        let mut lease = claimed(None, holder, LEASE, time);
        lease.metadata.resource_version = Some(version.to_owned());
        lease
    }

    #[test]
    fn clocks_that_are_minutes_off_change_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for minutes in [-600, -10, -1, 0, 1, 10, 600] {
            let skew = SignedDuration::from_mins(minutes);
            let mut me = Observer::new("me".into(), LEASE, start);
            let first = lease("other", "1", skew);
            // A record seen for the first time may be as fresh as can be, however old it looks.
            assert_eq!(me.look(Some(&first), at(100)), Step::Wait, "{minutes} min");
            assert_eq!(me.look(Some(&first), at(114)), Step::Wait, "{minutes} min: not silent long enough");
            let renewed = lease("other", "2", skew);
            assert_eq!(me.look(Some(&renewed), at(114)), Step::Wait, "{minutes} min: renewed");
            assert_eq!(me.look(Some(&renewed), at(128)), Step::Wait, "{minutes} min: counted from then");
            assert_eq!(me.look(Some(&renewed), at(129)), Step::Take, "{minutes} min: silent for as long as promised");
        }
    }

    #[test]
    fn the_clock_of_a_holder_may_jump_back_between_two_renewals() {
        let start = Instant::now();
        let mut me = Observer::new("me".into(), LEASE, start);
        me.look(Some(&lease("other", "1", SignedDuration::from_mins(5))), start);
        let jumped = lease("other", "2", SignedDuration::from_mins(-5));
        assert_eq!(me.look(Some(&jumped), start + LEASE), Step::Wait);
    }

    #[test]
    fn a_free_lease_is_taken_at_once_and_a_missing_one_is_made() {
        let now = Instant::now();
        let mut me = Observer::new("me".into(), LEASE, now);
        assert_eq!(me.look(None, now), Step::Create);
        let held = lease("other", "1", SignedDuration::ZERO);
        assert_eq!(me.look(Some(&held), now), Step::Wait);
        assert_eq!(me.look(Some(&released(&held, Timestamp::now())), now), Step::Take);
        assert_eq!(me.look(Some(&Lease::default()), now), Step::Take, "made by hand, without a spec");
        assert_eq!(me.look(Some(&lease("me", "3", SignedDuration::ZERO)), now), Step::Renew);
    }

    #[test]
    fn the_holders_own_promise_counts_and_one_without_gets_ours() {
        let start = Instant::now();
        let mut held = lease("other", "1", SignedDuration::ZERO);
        for (promise, expected) in [(Some(60), 60), (Some(3), 3), (Some(0), 15), (Some(-1), 15), (None, 15)] {
            held.spec.as_mut().unwrap().lease_duration_seconds = promise;
            let mut me = Observer::new("me".into(), LEASE, start);
            let look = |me: &mut Observer, seconds| me.look(Some(&held), start + Duration::from_secs(seconds));
            look(&mut me, 0);
            assert_eq!(look(&mut me, expected - 1), Step::Wait, "{promise:?}");
            assert_eq!(look(&mut me, expected), Step::Take, "{promise:?}");
        }
    }

    #[test]
    fn a_claim_keeps_what_it_does_not_mean_and_counts_changes_of_hands() {
        let now = Timestamp::now();
        let made = claimed(None, "a", Duration::from_millis(2500), now);
        let spec = |lease: &Lease| lease.spec.clone().unwrap();
        assert_eq!((spec(&made).lease_transitions, spec(&made).lease_duration_seconds), (Some(0), Some(3)));
        let mut labelled = made.clone();
        labelled.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into());
        labelled.metadata.resource_version = Some("7".into());
        let later = now + SignedDuration::from_secs(2);
        let renewed = claimed(Some(&labelled), "a", LEASE, later);
        assert_eq!(renewed.metadata, labelled.metadata, "with the version that was read");
        assert_eq!(
            (spec(&renewed).acquire_time, spec(&renewed).renew_time),
            (Some(MicroTime(now)), Some(MicroTime(later)))
        );
        assert_eq!(spec(&renewed).lease_transitions, Some(0));
        let free = released(&renewed, later);
        assert_eq!(holder(&free), None);
        let taken = claimed(Some(&free), "b", LEASE, later);
        assert_eq!((holder(&taken), spec(&taken).lease_transitions), (Some("b"), Some(1)));
        assert_eq!(spec(&taken).acquire_time, Some(MicroTime(later)));
    }
}
