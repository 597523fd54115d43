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

/// What waited so often in a row goes before others no more: if it never ends, they would never be begun.
const OFTEN: u32 = 5;

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
    /// How often it waited since it last came to an end.
    waits: u32,
    failing_since: Option<Instant>,
    /// Since when AWS does not answer a write.
    silent_since: Option<Instant>,
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
        if self.failing_generation != Some(generation) {
            self.start_over();
            self.failing_generation = Some(generation);
        }
        if let Retry::Wait(delay) = failure.retry {
            self.waits = self.waits.saturating_add(1);
            return Sentence { delay, stalled: false, passes: true };
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

    /// Notes that AWS has not answered a write of an attempt; whether that began as long ago as a failure is reported as
    /// stalled. It ends with an attempt that succeeds, and with a new generation.
    pub fn is_silent_for_long(&mut self, now: Instant) -> bool {
        let since = *self.silent_since.get_or_insert(now);
        now.saturating_duration_since(since) >= STALLED_AFTER
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
        (self.failures, self.waits) = (0, 0);
        self.failing_since = None;
        self.silent_since = None;
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

    /// Whether this generation waited for AWS again and again.
    #[must_use]
    pub fn has_waited(&self, generation: i64) -> bool {
        self.waits > OFTEN && self.failing_generation == Some(generation)
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

    /// Forgets the objects whose UID is not among these.
    pub fn keep(&self, is_kept: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| is_kept(uid));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // A panic elsewhere leaves whole entries behind.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
