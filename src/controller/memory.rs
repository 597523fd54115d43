//! What the process remembers of each object: backoff, own recent writes, misses. Lost on restart, and
//! nothing depends on it but timing.

use super::failure::{Failure, Retry};
use crate::api::IamRoleStatus;
use crate::api::iamrole::{Cause, Change, ClassRef};
use crate::role::Action;
use crate::role::contest::Repairs;
use crate::role::recent::Recent;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A failure that lasts as long is reported as stalled.
const STALLED_AFTER: Duration = Duration::from_mins(2);
/// What only a change can cure is still looked at now and then, ever more slowly.
const ON_CHANGE: Duration = Duration::from_mins(10);
const PASSING_CAP: Duration = Duration::from_mins(1);
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// How often what no walk over an account shows is looked at.
const HIDDEN: Duration = Duration::from_hours(24);
/// Who may annotate an object must not get the account throttled.
const REQUESTS_APART: Duration = Duration::from_secs(10);

/// The part of an interval after which a look at a boundary does for the next one: tries come by themselves, too.
const EARLY: f64 = 0.7;

/// What a role is made from: the generation of the object, and the class with its own.
pub type Basis = (i64, ClassRef);

/// A look at the boundary of a role whose spec is not carried out.
#[derive(Clone, Debug)]
pub struct BoundarySeen {
    /// The spec and the class that it names.
    pub basis: Basis,
    /// The class that made the role, where it is another one.
    pub made: Option<ClassRef>,
    /// When.
    pub at: Instant,
}

/// What only the operator knows until its status is written: changes in AWS, and which boundary they set.
#[derive(Clone, Debug, PartialEq)]
pub struct Untold {
    changes: Vec<Change>,
    boundary: Option<String>,
    replaced_boundary: Option<String>,
}

impl Untold {
    /// What a status tells of it.
    #[must_use]
    pub fn of(status: &IamRoleStatus) -> Self {
        Self {
            changes: status.last_changes.clone(),
            boundary: status.permissions_boundary.clone(),
            replaced_boundary: status.replaced_permissions_boundary.clone(),
        }
    }

    /// Has a status tell it.
    pub fn into_status(self, status: &mut IamRoleStatus) {
        status.last_changes = self.changes;
        status.permissions_boundary = self.boundary;
        status.replaced_permissions_boundary = self.replaced_boundary;
    }
}

/// What is remembered of one object.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Entry {
    failures: u32,
    failing_since: Option<Instant>,
    failing_generation: Option<i64>,
    /// Since when it fails for nothing but what passes by itself.
    passing_since: Option<Instant>,
    /// Since when it fails for something that stays away.
    waning_since: Option<Instant>,
    /// Why there is something to do. Once the basis is applied in full, whatever differs is drift.
    pub cause: Option<(Basis, Cause)>,
    /// An earlier process worked on it, and may have written what nobody knows of.
    pub inherited: Option<bool>,
    /// What was taken for applied may have been a read of the past: what differs at the next look is no drift.
    pub unsure: bool,
    /// What was told last of the inline policies that stay though nobody listed them; absent before a look at the role.
    pub kept_advice: Option<Option<String>>,
    /// The advice that was given and still holds, so that it is given once.
    pub advice: Option<BTreeSet<String>>,
    /// When a foreign role was tagged as ours; the rest waits until that has settled.
    pub adopted: Option<Instant>,
    /// What was written to AWS a moment ago, against reads of the past.
    pub recent: Recent,
    /// Id of the role that we delete, or have deleted.
    pub departing: Option<String>,
    /// We have deleted the role ourselves; that it is not seen is no surprise then.
    pub deleted: bool,
    /// When our last attempt to create the role began or, later, was answered or given up.
    pub create_attempt: Option<Instant>,
    /// Such an attempt was not refused for certain.
    pub may_have_created: bool,
    /// What was written, and whether it lasts.
    pub repairs: (Basis, Repairs),
    /// When a settled role is to be looked at again.
    pub next_check: Option<Instant>,
    /// A walk over the account shows it otherwise than wanted: it is to be looked at now.
    pub suspect: bool,
    /// What others had put on the role before a spec of ours was carried out in full, by its keys.
    before: Option<(Basis, String, BTreeSet<String>)>,
    /// What was told by events and status does not tell yet, as hashes.
    told: BTreeSet<u64>,
    /// What was told last of the ServiceAccounts, as a hash: the condition goes where nobody looks after them, and comes
    /// again.
    binding: Option<u64>,
    /// What a status whose write failed would have told.
    pub untold: Option<Untold>,
    /// When the role is to be looked at by itself for the sake of what no walk shows.
    hidden_check: Option<Instant>,
    /// When a role whose spec is not carried out was last seen to have its boundary.
    pub boundary_seen: Option<BoundarySeen>,
    /// Since when nobody knows whether the role has its boundary, since something fails.
    boundary_unseen: Option<Instant>,
    /// Since when AWS says of a role that it is there and shows none.
    pub contradicted: Option<Instant>,
    /// When the role was first found missing.
    pub first_miss: Option<Instant>,
    /// The generation of a class for which the rights were found to suffice.
    pub preflight: Option<i64>,
    /// The resource version of our last write to the object.
    pub written_version: u64,
    /// The check that was last requested and begun, and when.
    requested: Option<(String, Instant)>,
}

/// When to look again, and whether the failure counts as stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Delay.
    pub delay: Duration,
    /// Report as stalled.
    pub stalled: bool,
    /// It tells so little that what was told before still holds: something is waited for, or AWS had other things to do
    /// for a moment.
    pub passes: bool,
}

impl Entry {
    /// Counts a failure of `generation` at `now`. `already_stalled`: status says so from before a restart.
    pub fn fail(&mut self, failure: &Failure, generation: i64, already_stalled: bool, now: Instant) -> Sentence {
        if let Retry::Wait(delay) = failure.retry {
            return Sentence { delay, stalled: false, passes: true };
        }
        if self.failing_generation != Some(generation) {
            self.start_over();
            self.failing_generation = Some(generation);
        }
        let since = *self.failing_since.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        let lasting = already_stalled || now.saturating_duration_since(since) >= STALLED_AFTER;
        let passing = if failure.retry == Retry::Passing { self.passing_since.or(Some(now)) } else { None };
        self.passing_since = passing;
        let passes = passing.is_some_and(|since| now.saturating_duration_since(since) < STALLED_AFTER);
        let (delay, stalled) = match failure.retry {
            Retry::OnChange => (self.delay(ON_CHANGE), true),
            Retry::Within(interval) => (self.delay(ON_CHANGE).min(interval), true),
            Retry::Passing => (self.delay(PASSING_CAP), false),
            Retry::Wait(delay) => (delay, false),
            Retry::Backoff(bound) | Retry::Waning(bound) => {
                let wanes = matches!(failure.retry, Retry::Waning(_));
                let away = if wanes { *self.waning_since.get_or_insert(now) } else { now };
                let cap = if wanes { waning(now.saturating_duration_since(away)).min(bound) } else { bound };
                let mut delay = self.delay(cap);
                if !lasting {
                    // Wake in time to report it as stalled.
                    delay = delay.min((since + STALLED_AFTER).saturating_duration_since(now) + FIRST_DELAY);
                }
                (delay, lasting)
            }
        };
        Sentence { delay, stalled, passes }
    }

    /// Whether no attempt has come to its end for so long that a failure is reported as stalled.
    #[must_use]
    pub fn fails_for_long(&self, now: Instant) -> bool {
        self.failing_since.is_some_and(|since| now.saturating_duration_since(since) >= STALLED_AFTER)
    }

    /// The role may have been made just now, if that is what the action does.
    pub fn created(&mut self, action: &Action) {
        if matches!(action, Action::CreateRole { .. }) {
            self.create_attempt = Some(Instant::now());
            self.may_have_created = true;
            self.first_miss = None;
        }
    }

    /// Forgets the failures.
    pub fn succeed(&mut self) {
        self.start_over();
        self.contradicted = None;
        self.boundary_unseen = None;
    }

    /// What failed for another spec tells nothing of this one. But its boundary was not looked at either.
    fn start_over(&mut self) {
        self.failures = 0;
        self.failing_since = None;
        self.failing_generation = None;
        self.passing_since = None;
        self.waning_since = None;
    }

    /// How long the requested check `token` has to wait for its turn after the last one; `None` if it may begin. One that
    /// has begun goes on.
    pub fn request(&mut self, token: String, now: Instant) -> Option<Duration> {
        if let Some((known, at)) = &self.requested
            && *known != token
            && let left = REQUESTS_APART.saturating_sub(now.saturating_duration_since(*at))
            && !left.is_zero()
        {
            return Some(left);
        }
        if self.requested.as_ref().is_none_or(|(known, _)| *known != token) {
            self.requested = Some((token, now));
        }
        None
    }

    /// Whether something else was told last of the ServiceAccounts by this process, and this is told now.
    pub fn tells_of_binding(&mut self, what: &impl Hash) -> bool {
        let now = Some(hash_of(what));
        let is_news = self.binding != now;
        self.binding = now;
        is_news
    }

    /// Whether something was not told since status was last written, and is told now.
    pub fn tells(&mut self, what: &impl Hash) -> bool {
        self.told.insert(hash_of(what))
    }

    /// Status tells what was told.
    pub fn is_told(&mut self) {
        self.told = BTreeSet::new();
    }

    /// When to look again for a boundary that was seen to be right a while ago, for this spec and class: before `period` is
    /// over. `None` if it is to be looked for now.
    #[must_use]
    pub fn saw_boundary(&self, basis: &Basis, period: Duration, now: Instant) -> Option<Duration> {
        let seen = self.boundary_seen.as_ref().filter(|seen| seen.basis == *basis)?;
        let since = now.saturating_duration_since(seen.at);
        (since < period.mul_f64(EARLY)).then(|| period.mul_f64(0.9).saturating_sub(since))
    }

    /// Which of what strangers put on the role, by its keys, was there when the spec came, as far as this process knows: what
    /// replaces it may not be there yet. Where the spec was in AWS in full, `settled`, it was not. `role` is the id: of one
    /// made anew nothing is known.
    pub fn found_before(
        &mut self,
        basis: Basis,
        role: &str,
        settled: bool,
        found: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let known = self.before.take().filter(|(known, id, _)| *known == basis && id == role);
        let before: BTreeSet<String> = match known {
            _ if settled => BTreeSet::new(),
            // What was gone and is there again came later.
            Some((.., before)) => before.intersection(found).cloned().collect(),
            None => found.clone(),
        };
        self.before = Some((basis, role.to_owned(), before.clone()));
        before
    }

    /// Notes that the role has its boundary.
    pub fn sees_boundary(&mut self, seen: BoundarySeen) {
        self.boundary_seen = Some(seen);
        self.looked_at_boundary();
    }

    /// Notes that somebody has looked at the boundary.
    pub const fn looked_at_boundary(&mut self) {
        self.boundary_unseen = None;
    }

    /// Whether the boundary is to be looked at whatever fails: nobody has done so for the better part of a `period`. Whoever
    /// makes something fail again and again, by edits say, must not put off the look.
    pub fn boundary_is_due(&mut self, period: Duration, now: Instant) -> bool {
        let since = *self.boundary_unseen.get_or_insert(now);
        now.saturating_duration_since(since) >= period.mul_f64(EARLY)
    }

    /// Whether somebody asks for a check by a token that was not seen yet.
    pub fn is_new_request(&mut self, token: &str, now: Instant) -> bool {
        let is_new = self.requested.as_ref().is_none_or(|(known, _)| known != token);
        self.requested = Some((token.to_owned(), now));
        is_new
    }

    /// Whether it is time to look at what no walk shows; the next time is a day later. After a start the roles take turns.
    pub fn hidden_is_due(&mut self, now: Instant) -> bool {
        let due = *self.hidden_check.get_or_insert_with(|| now + HIDDEN.mul_f64(0.02 + 0.98 * random()));
        if due <= now {
            self.looked(now);
        }
        due <= now
    }

    /// The role was looked at by itself.
    pub fn looked(&mut self, now: Instant) {
        self.hidden_check = Some(now + jitter(HIDDEN));
    }

    fn delay(&self, cap: Duration) -> Duration {
        let doubled = FIRST_DELAY.saturating_mul(1 << self.failures.saturating_sub(1).min(12));
        jitter(doubled.min(cap))
    }

    /// Whether this generation failed more than once in a row: one answer that did not come makes no hopeless case.
    #[must_use]
    pub fn has_failed(&self, generation: i64) -> bool {
        self.failures > 1 && self.failing_generation == Some(generation)
    }
}

fn hash_of(what: &impl Hash) -> u64 {
    let mut hash = DefaultHasher::new();
    what.hash(&mut hash);
    hash.finish()
}

/// Longest delay of what was on its way when it first failed, so long ago.
const fn waning(age: Duration) -> Duration {
    match age.as_secs() {
        0..600 => Duration::from_mins(1),
        600..3600 => Duration::from_mins(10),
        _ => Duration::from_hours(1),
    }
}

/// Between 75 and 100 percent of `delay`, so that many objects spread.
#[must_use]
pub fn jitter(delay: Duration) -> Duration {
    delay.mul_f64(0.75 + 0.25 * random())
}

/// Less than `period`, so that what many objects are due for after a start is spread over it.
#[must_use]
pub fn share(period: Duration) -> Duration {
    period.mul_f64(random())
}

/// At least 0 and less than 1.
fn random() -> f64 {
    let random = RandomState::new().hash_one(0u8) >> u32::BITS;
    f64::from(u32::try_from(random).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

/// The entries of all objects, by UID.
#[derive(Debug, Default)]
pub struct Memory {
    entries: Mutex<HashMap<String, Entry>>,
}

impl Memory {
    /// Runs `change` on the entry of `uid`, made if absent. Never held across an await.
    pub fn with<T>(&self, uid: &str, change: impl FnOnce(&mut Entry) -> T) -> T {
        change(self.lock().entry(uid.to_owned()).or_default())
    }

    /// Forgets an object.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // A panic elsewhere leaves whole entries behind.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{BoundarySeen, Entry, STALLED_AFTER};
    use crate::api::Reason;
    use crate::controller::failure::{Failure, Retry};
    use std::time::Duration;
    use tokio::time::Instant;

    fn failure(retry: Retry) -> Failure {
        Failure { reason: Reason::AccessDenied, message: String::new(), retry }
    }

    #[test]
    fn delays_grow_to_the_cap_and_are_forgotten_on_success() {
        let (mut entry, now, cap) = (Entry::default(), Instant::now(), Duration::from_mins(5));
        let failure = failure(Retry::Backoff(cap));
        let delays: Vec<Duration> = (0..12).map(|_| entry.fail(&failure, 1, true, now).delay).collect();
        assert!(delays[0] <= Duration::from_secs(1) && delays[11] <= cap && delays[11] >= cap.mul_f64(0.75));
        entry.succeed();
        assert!(entry.fail(&failure, 1, false, now).delay <= Duration::from_secs(1));
    }

    #[test]
    fn a_lasting_failure_is_stalled_after_two_minutes_and_a_new_generation_starts_afresh() {
        let (mut entry, start) = (Entry::default(), Instant::now());
        let slow = failure(Retry::Backoff(Duration::from_mins(5)));
        let first = entry.fail(&slow, 1, false, start);
        assert!(!first.stalled);
        for _ in 0..10 {
            let sentence = entry.fail(&slow, 1, false, start + Duration::from_mins(1));
            assert!(!sentence.stalled && sentence.delay <= Duration::from_secs(61), "wakes when it gets stalled");
        }
        let later = start + STALLED_AFTER;
        assert!(entry.fail(&slow, 1, false, later).stalled);
        assert!(!entry.fail(&slow, 2, false, later).stalled, "a new generation gets its own two minutes");
        assert!(entry.fail(&slow, 2, true, later).stalled, "it was before the restart");
    }

    #[test]
    fn what_passes_does_so_for_two_minutes_and_says_nothing_of_what_lasts() {
        let (mut entry, start) = (Entry::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let (wait, passing) = (failure(Retry::Wait(Duration::from_secs(1))), failure(Retry::Passing));
        let lasting = failure(Retry::Backoff(Duration::from_mins(5)));
        assert!(entry.fail(&wait, 1, false, start).passes);
        assert!(!entry.fail(&lasting, 1, false, start).passes);
        for (seconds, passes) in [(1, true), (119, true), (121, false), (200, false)] {
            assert_eq!(entry.fail(&passing, 1, false, after(seconds)).passes, passes, "{seconds}");
        }
        assert!(entry.fail(&wait, 1, false, after(201)).passes);
        assert!(!entry.fail(&passing, 1, false, after(202)).passes, "a moment's wait is no end of it");
        entry.fail(&lasting, 1, false, after(203));
        assert!(entry.fail(&passing, 1, false, after(204)).passes, "another trouble of its own");
        entry.succeed();
        assert!(entry.fail(&passing, 1, false, after(900)).passes);
    }

    #[test]
    fn what_does_not_come_is_looked_for_ever_more_rarely() {
        let (mut entry, start) = (Entry::default(), Instant::now());
        let waning = failure(Retry::Waning(Duration::from_hours(1)));
        let looks = |entry: &mut Entry, failure: &Failure, from: u64, until: u64| {
            let (mut at, mut looks) = (from, 0);
            while at < until {
                at += entry.fail(failure, 1, true, start + Duration::from_secs(at)).delay.as_secs().max(1);
                looks += 1;
            }
            looks
        };
        assert!((10..=20).contains(&looks(&mut entry, &waning, 0, 600)));
        assert!((4..=8).contains(&looks(&mut entry, &waning, 600, 3600)));
        assert!((23..=33).contains(&looks(&mut entry, &waning, 3600, 25 * 3600)));
        let within = Failure { retry: waning.retry.within(Duration::from_mins(5)), ..waning };
        assert!(looks(&mut entry, &within, 25 * 3600, 26 * 3600) >= 12, "what the class forces must hold meanwhile");
    }

    #[test]
    fn what_strangers_put_there_after_the_spec_is_told_from_what_it_may_replace() {
        let keys =
            |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<std::collections::BTreeSet<String>>();
        let basis = |generation| (generation, crate::api::iamrole::ClassRef::default());
        let mut entry = Entry::default();
        let mut found = |generation, role: &str, settled, found: &[&str]| {
            entry.found_before(basis(generation), role, settled, &keys(found))
        };
        assert_eq!(found(1, "A", false, &["a"]), keys(&["a"]), "it may be what the spec replaces");
        assert_eq!(found(1, "A", false, &["a", "b"]), keys(&["a"]), "b came later");
        assert_eq!(found(1, "A", false, &["b"]), keys(&[]));
        assert_eq!(found(1, "A", false, &["a"]), keys(&[]), "and so did an a that was gone");
        assert_eq!(found(1, "A", true, &["a"]), keys(&[]), "the spec was in AWS in full without it");
        assert_eq!(found(1, "A", false, &["a", "c"]), keys(&[]));
        assert_eq!(found(1, "B", false, &["a"]), keys(&["a"]), "another role");
        assert_eq!(found(2, "B", false, &["a", "d"]), keys(&["a", "d"]), "another spec");
    }

    #[test]
    fn requested_checks_take_turns_and_the_one_under_way_goes_on() {
        let (mut entry, start) = (Entry::default(), Instant::now());
        let mut ask = |token: &str, after: u64| entry.request(token.to_owned(), start + Duration::from_secs(after));
        assert_eq!(ask("a", 0), None);
        assert_eq!(ask("b", 1), Some(Duration::from_secs(9)));
        assert_eq!(ask("a", 2), None, "it waits for AWS, say");
        assert_eq!(ask("c", 9), Some(Duration::from_secs(1)), "asking does not put it off");
        assert_eq!(ask("c", 10), None);
        assert_eq!(ask("d", 11), Some(Duration::from_secs(9)));
        assert_eq!(ask("d", 60), None);
    }

    #[test]
    fn a_boundary_is_looked_for_within_each_interval_whatever_else_tries() {
        let basis = (1, crate::api::iamrole::ClassRef::default());
        for seconds in [5, 60, 600, 700, 900, 3600] {
            let (period, mut now) = (Duration::from_secs(seconds), Instant::now());
            let mut entry = Entry::default();
            let (mut looked, mut longest) = (None, Duration::ZERO);
            for _ in 0..60 {
                let refusal = failure(Retry::OnChange).retry.within(period);
                let retry = if let Some(left) = entry.saw_boundary(&basis, period, now) {
                    refusal.within(left)
                } else {
                    entry.sees_boundary(BoundarySeen { basis: basis.clone(), made: None, at: now });
                    longest = looked.map_or(longest, |before| longest.max(now - before));
                    looked = Some(now);
                    refusal
                };
                now += entry.fail(&failure(retry), 1, false, now).delay;
            }
            assert!(longest > period / 2 && longest <= period, "{longest:?} of {period:?}");
        }
    }

    #[test]
    fn a_boundary_that_nobody_looks_at_is_missed_over_all_edits() {
        let (mut entry, start) = (Entry::default(), Instant::now());
        let period = Duration::from_mins(1);
        let at = |second: i64| start + Duration::from_secs(u64::try_from(second).unwrap());
        for generation in 0..60 {
            assert_eq!(entry.boundary_is_due(period, at(generation)), generation >= 42, "after {generation} s");
            entry.fail(&failure(Retry::Passing), generation, false, at(generation));
        }
        entry.succeed();
        assert!(!entry.boundary_is_due(period, at(61)));
    }

    #[test]
    fn what_no_walk_shows_is_looked_at_once_a_day() {
        let (start, hour) = (Instant::now(), Duration::from_hours(1));
        for _ in 0..50 {
            let mut entry = Entry::default();
            let looks: Vec<u32> = (0..=72).filter(|hours| entry.hidden_is_due(start + *hours * hour)).collect();
            assert!(looks[0] <= 24 && (3..=4).contains(&looks.len()), "{looks:?}");
            assert!(looks.windows(2).all(|pair| (18..=25).contains(&(pair[1] - pair[0]))), "{looks:?}");
        }
        let mut entry = Entry::default();
        entry.looked(start);
        assert!(!entry.hidden_is_due(start + 17 * hour) && entry.hidden_is_due(start + 24 * hour));
    }

    #[test]
    fn what_passes_is_never_stalled_and_what_needs_a_change_is_at_once() {
        let (mut entry, start) = (Entry::default(), Instant::now());
        entry.fail(&failure(Retry::Passing), 1, false, start);
        let hours_later = start + Duration::from_hours(2);
        assert!(!entry.fail(&failure(Retry::Passing), 1, true, hours_later).stalled);
        assert!(entry.fail(&failure(Retry::OnChange), 1, false, start).stalled);
        let wait = failure(Retry::Wait(Duration::from_secs(7)));
        assert_eq!(entry.fail(&wait, 1, true, start).delay, Duration::from_secs(7));
    }
}
