//! When each account is walked for drift, and which of its roles need no look of their own because of that.

use super::memory::jitter;
use crate::api::IamRoleClassSpec;
use crate::api::iamroleclass::DriftMethod;
use crate::api::workload::ClassWorkloadIdentity;
use crate::aws::Usage;
use crate::role::departed::Departed;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Roles that no walk has shown yet ask for one at once; another follows no sooner.
const APART: Duration = Duration::from_mins(1);
/// After a walk that did not end, the next one waits so long, then twice as long, up to the interval.
const RETRY: Duration = Duration::from_secs(20);
/// So many walks are under way at once: each holds a page of an account, which may be large.
const AT_ONCE: usize = 4;
/// One that takes longer is counted no more: an account that does not answer delays no other.
const QUICK: Duration = Duration::from_secs(20);
/// So many of them are of accounts whose last walk broke off, or many that hang would have all of them.
const BROKEN_AT_ONCE: usize = AT_ONCE - 1;
/// A role that no walk has shown for so many intervals is looked at by itself.
pub const UNSEEN: u32 = 2;
/// No sooner than this after a start, however often drift is looked for: minutes of trouble at the first walk are no
/// reason to read thousands of roles, which would go before the walk.
const FIRST_WALK: Duration = Duration::from_mins(5);
/// What is known of an account that no class leads to any more is forgotten so much later, or after an interval.
const ABSENT: Duration = Duration::from_hours(1);
/// Where the walk is not permitted, it is tried again so much later.
const DENIED: Duration = Duration::from_mins(30);
/// Where reading them one by one took fewer calls, roles that settle have that found out anew, which takes no call: so long
/// after the last time,
const RECONSIDER: Duration = Duration::from_secs(10);
/// and not before the cache shows them.
const CACHED: Duration = Duration::from_secs(1);
/// Where roles are read one by one since that takes fewer calls, a walk looks so often for roles that belong to nobody. So
/// often, too, is one asked for that may not be read.
const ORPHANS: Duration = Duration::from_hours(24);

/// Why an account is not walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The operator's identity may not list the account.
    Denied,
    /// Reading its few roles takes fewer calls.
    Dearer,
}

/// How a walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It saw the whole account.
    Complete {
        /// Names of the roles that carry this cluster's tags and are known to belong to nobody.
        orphans: BTreeSet<String>,
        /// Why roles are read one by one all the same.
        obstacle: Option<Obstacle>,
    },
    /// It was not begun, or can't be.
    Not(Obstacle),
    /// AWS did not answer to the end.
    Broken,
}

#[derive(Debug)]
struct State {
    due: Instant,
    interval: Duration,
    begun: Option<Instant>,
    under_way: bool,
    /// A walk has ended, or was found not to be for this account.
    decided: bool,
    broken: u32,
    obstacle: Option<Obstacle>,
    orphans: BTreeSet<String>,
    /// These are all that a walk since the start has shown.
    looked_through: bool,
    /// What else seems to belong to nobody since a moment ago: ids by name.
    doubtful: BTreeMap<String, String>,
    /// Those of them that may not be read, until then: ids by name.
    refused: BTreeMap<String, (String, Instant)>,
    /// Those that are too many to be asked for by name, which a walk that begins after that confirms: ids by name.
    shown: BTreeMap<String, (String, Instant)>,
    /// When roles that belong to nobody were last looked for, with or without success.
    looked: Option<Instant>,
    /// The identity that went through it last: others may not be permitted to.
    walker: Option<String>,
    /// What there was to go through then.
    size: Option<Usage>,
    /// Since when no class that is ready leads there.
    absent: Option<Instant>,
    /// When a role settled while the walk was under way.
    settled: Option<Instant>,
}

impl State {
    const fn new(due: Instant, interval: Duration) -> Self {
        Self {
            due,
            interval,
            begun: None,
            under_way: false,
            decided: false,
            broken: 0,
            obstacle: None,
            orphans: BTreeSet::new(),
            looked_through: false,
            doubtful: BTreeMap::new(),
            refused: BTreeMap::new(),
            shown: BTreeMap::new(),
            looked: None,
            walker: None,
            size: None,
            absent: None,
            settled: None,
        }
    }

    /// Whether the last walk broke off.
    const fn is_broken(&self) -> bool {
        self.broken > 0
    }

    /// What `looked` is where roles of nobody are to be looked for again after an interval.
    fn soon(&self, now: Instant) -> Option<Instant> {
        // Walks come a little sooner than an interval.
        now.checked_sub(ORPHANS.saturating_sub(self.interval / 2))
    }
}

/// The accounts that are walked.
#[derive(Debug, Default)]
pub struct Sweeps {
    works: bool,
    states: Mutex<HashMap<String, State>>,
    departed: Mutex<Departed>,
    /// Something may be due sooner than was thought.
    pub wake: Notify,
}

impl Sweeps {
    /// With somebody who carries them out. Without, each role is looked at by itself.
    #[must_use]
    pub fn working() -> Self {
        Self { works: true, ..Self::default() }
    }

    /// Whether walks over `account` show the drift of a class's roles. Before the first walk it is taken for granted.
    #[must_use]
    pub fn cover(&self, class: &IamRoleClassSpec, account: &str) -> bool {
        let open = || self.lock().get(account).is_none_or(|state| state.obstacle.is_none());
        self.works && is_walked(class) && open()
    }

    /// A role of the account was not looked at yet: the walk is due now, unless one was a moment ago.
    pub fn ask(&self, account: &str, now: Instant) {
        let mut states = self.lock();
        let state = states.entry(account.to_owned()).or_insert_with(|| State::new(now, Duration::MAX));
        let soon = state.begun.map_or(now, |begun| begun + APART);
        if soon <= state.due {
            state.due = soon;
            drop(states);
            self.wake.notify_one();
        }
    }

    /// A role of a class is settled. Where a walk over the account took more calls than reading its few roles, it may take
    /// fewer by now.
    pub fn reconsider(&self, class: &IamRoleClassSpec, account: &str, now: Instant) {
        let mut states = self.lock();
        let Some(state) = states.get_mut(account).filter(|_| is_walked(class)) else { return };
        if state.under_way {
            state.settled = Some(now);
        }
        if state.obstacle != Some(Obstacle::Dearer) || state.is_broken() {
            return;
        }
        let soon = state.begun.map_or(now, |begun| begun + RECONSIDER).max(now + CACHED);
        if soon < state.due {
            state.due = soon;
            drop(states);
            self.wake.notify_one();
        }
    }

    /// The accounts whose walk is due, which begins by that as far as not too many are under way, and when the next one is:
    /// the end of a walk makes room, too. `intervals` has all accounts
    /// that are to be walked.
    pub fn begin(&self, intervals: &BTreeMap<String, Duration>, now: Instant) -> (Vec<String>, Option<Instant>) {
        let mut states = self.lock();
        // A class that is not ready for a moment is no end.
        states.retain(|account, state| {
            let since = |since: Instant| now.saturating_duration_since(since);
            let long = state.absent.is_some_and(|absent| since(absent) >= state.interval.min(ABSENT));
            state.absent = (!intervals.contains_key(account)).then(|| state.absent.unwrap_or(now));
            state.under_way || !long
        });
        for (account, interval) in intervals {
            let first = || State::new(now + jitter(*interval), *interval);
            let state = states.entry(account.clone()).or_insert_with(first);
            if *interval < state.interval {
                // The class asks for more by now.
                state.due = state.due.min(now + jitter(*interval));
            }
            state.interval = *interval;
        }
        let begins = begin_due(&mut states, now);
        let quick = quick(&states, now);
        let waiting = states.values().filter(|state| !state.under_way && state.absent.is_none());
        let next = waiting.map(|state| state.due.max(quick.room(state.is_broken(), now))).min();
        (begins, next)
    }

    /// A walk has ended.
    pub fn end(&self, account: &str, ended: Ended, now: Instant) {
        let mut states = self.lock();
        let Some(state) = states.get_mut(account) else { return };
        let interval = state.interval;
        state.under_way = false;
        state.decided |= ended != Ended::Broken;
        let after = match ended {
            Ended::Complete { orphans, obstacle } => {
                (state.broken, state.obstacle, state.orphans) = (0, obstacle, orphans);
                state.looked = if state.shown.is_empty() { Some(now) } else { state.soon(now) };
                state.looked_through |= state.doubtful.is_empty();
                interval
            }
            Ended::Not(obstacle) => {
                // What was told of roles of nobody stays: nobody has looked again.
                (state.broken, state.obstacle) = (0, Some(obstacle));
                if obstacle == Obstacle::Denied {
                    state.looked = Some(now);
                    interval.max(DENIED)
                } else {
                    interval
                }
            }
            Ended::Broken => {
                state.broken = state.broken.saturating_add(1);
                RETRY.saturating_mul(1 << state.broken.saturating_sub(1).min(10)).min(interval)
            }
        };
        let is_new = state.settled.take().is_some() && state.obstacle == Some(Obstacle::Dearer) && state.broken == 0;
        state.due = now + if is_new { RECONSIDER } else { jitter(after) };
    }

    /// What the last walk has gone through. Of policies none where no role of ours owns one.
    #[must_use]
    pub fn size(&self, account: &str) -> Option<Usage> {
        self.lock().get(account).and_then(|state| state.size)
    }

    /// Notes what a walk goes through.
    pub fn measured(&self, account: &str, size: Usage) {
        if let Some(state) = self.lock().get_mut(account) {
            state.size = Some(size);
        }
    }

    /// The identity that went through the account last.
    #[must_use]
    pub fn walker(&self, account: &str) -> Option<String> {
        self.lock().get(account).and_then(|state| state.walker.clone())
    }

    /// An identity went through the whole account.
    pub fn walked_by(&self, account: &str, identity: &str) {
        if let Some(state) = self.lock().get_mut(account) {
            state.walker = Some(identity.to_owned());
        }
    }

    /// The roles of the account that carry this cluster's tags and belong to no object. `None` as long as this process
    /// does not know them all.
    #[must_use]
    pub fn orphans(&self, account: &str) -> Option<BTreeSet<String>> {
        let states = self.lock();
        let state = states.get(account).filter(|state| state.looked_through && state.absent.is_none());
        state.map(|state| state.orphans.clone())
    }

    /// Notes what else a walk shows that seems to belong to nobody: ids by name. Returns the names of those that no walk
    /// has shown before; the others are being asked for already, or may not be read.
    pub fn appear(&self, account: &str, mut strays: BTreeMap<String, String>, now: Instant) -> BTreeSet<String> {
        let mut states = self.lock();
        let Some(state) = states.get_mut(account) else { return BTreeSet::new() };
        state.shown.retain(|name, (id, _)| strays.get(name) == Some(id));
        state.refused.retain(|name, (id, until)| strays.get(name) == Some(id) && *until > now);
        strays.retain(|name, _| !state.refused.contains_key(name));
        let is_new = |(name, id): &(&String, &String)| state.doubtful.get(*name) != Some(*id);
        let new = strays.iter().filter(is_new).map(|(name, _)| name.clone()).collect();
        state.doubtful = strays;
        new
    }

    /// What seems to belong to nobody is too much to be asked for by name: a walk that begins after `settled` confirms it.
    pub fn put_off(&self, account: &str, strays: BTreeMap<String, String>, settled: Instant) {
        if let Some(state) = self.lock().get_mut(account) {
            state.shown.extend(strays.into_iter().map(|(name, id)| (name, (id, settled))));
        }
    }

    /// Which of those that were put off a walk shows again that began late enough.
    pub fn shown_again(&self, account: &str, strays: &BTreeMap<String, String>, begun: Instant) -> BTreeSet<String> {
        let mut states = self.lock();
        let Some(state) = states.get_mut(account) else { return BTreeSet::new() };
        let again =
            state.shown.extract_if(.., |name, (id, settled)| *settled <= begun && strays.get(name) == Some(&*id));
        again.map(|(name, _)| name).collect()
    }

    /// What seems to belong to nobody may not be read: it is not asked for again after each walk.
    pub fn refused(&self, account: &str, name: String, id: String, now: Instant) {
        if let Some(state) = self.lock().get_mut(account) {
            state.refused.insert(name, (id, now + ORPHANS));
        }
    }

    /// Those that seemed to belong to nobody (ids by name) were asked for, and those in `free` do. Returns all that are known to;
    /// `None` where nobody asked for them in this account, since it was not walked for a while, or where they are not all known
    /// yet. What the last walk did not show any more is none of them.
    pub fn confirm(
        &self,
        account: &str,
        asked: &BTreeMap<String, String>,
        free: &BTreeSet<String>,
    ) -> Option<BTreeSet<String>> {
        let mut states = self.lock();
        let state = states.get_mut(account)?;
        if state.absent.is_some() {
            // Nobody is there to tell; the next walk shows them anew.
            state.doubtful.retain(|name, id| asked.get(name) != Some(id));
            return None;
        }
        let doubtful: Vec<&String> =
            asked.iter().filter(|(name, id)| state.doubtful.get(*name) == Some(*id)).map(|(name, _)| name).collect();
        for name in &doubtful {
            state.doubtful.remove(*name);
            state.orphans.extend(free.get(*name).cloned());
        }
        state.looked_through |= !doubtful.is_empty() && state.doubtful.is_empty();
        (state.looked_through && !doubtful.is_empty()).then(|| state.orphans.clone())
    }

    /// What seems to belong to nobody could not be read just now: the next walk shows it again, and comes after an
    /// interval also where walks are for nothing else.
    pub fn missed(&self, account: &str, now: Instant) {
        if let Some(state) = self.lock().get_mut(account) {
            state.looked = state.soon(now);
        }
    }

    /// Runs `with` on the roles that were deleted a moment ago. Never held across an await.
    pub fn departed<T>(&self, with: impl FnOnce(&mut Departed) -> T) -> T {
        // A panic elsewhere leaves whole entries behind.
        with(&mut self.departed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is time to look for roles of nobody in an account whose own roles are read one by one.
    #[must_use]
    pub fn may_hide_orphans(&self, account: &str, now: Instant) -> bool {
        let looked = self.lock().get(account).and_then(|state| state.looked);
        looked.is_none_or(|looked| now.saturating_duration_since(looked) >= ORPHANS)
    }

    /// Why the account is not walked, if it is not.
    #[must_use]
    pub fn obstacle(&self, account: &str) -> Option<Obstacle> {
        self.lock().get(account).and_then(|state| state.obstacle)
    }

    /// Whether the account is walked so far; `None` before this process has decided.
    #[must_use]
    pub fn is_walked(&self, account: &str) -> Option<bool> {
        self.lock().get(account).filter(|state| state.decided).map(|state| state.obstacle.is_none())
    }

    /// How drift of the class's roles is looked for at present: by walks, or role by role. `None` before the first walk.
    #[must_use]
    pub fn method_of(&self, class: &IamRoleClassSpec, account: &str) -> Option<DriftMethod> {
        if !is_walked(class) {
            return Some(DriftMethod::Role);
        }
        let states = self.lock();
        let state = states.get(account).filter(|state| state.decided)?;
        Some(if state.obstacle.is_none() { DriftMethod::Account } else { DriftMethod::Role })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, State>> {
        // A panic elsewhere leaves whole entries behind.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins the walks that are due, as far as there is room, and first those that have waited longest.
fn begin_due(states: &mut HashMap<String, State>, now: Instant) -> Vec<String> {
    let Quick { all, broken } = quick(states, now);
    let (mut free, mut free_to_broken) =
        (AT_ONCE.saturating_sub(all.len()), BROKEN_AT_ONCE.saturating_sub(broken.len()));
    let is_due = |state: &State| !state.under_way && state.absent.is_none() && state.due <= now;
    let mut due: Vec<_> = states.iter_mut().filter(|(_, state)| is_due(state)).collect();
    due.sort_by(|(a, first), (b, second)| (first.due, a).cmp(&(second.due, b)));
    let mut begins = Vec::new();
    for (account, state) in due {
        let room = if state.is_broken() { free.min(free_to_broken) } else { free };
        if room == 0 {
            continue;
        }
        free -= 1;
        free_to_broken -= usize::from(state.is_broken());
        (state.begun, state.under_way, state.settled) = (Some(now), true, None);
        begins.push(account.clone());
    }
    begins
}

/// Until when each walk that is under way counts.
struct Quick {
    all: Vec<Instant>,
    /// Those of them that are of accounts whose last walk broke off.
    broken: Vec<Instant>,
}

fn quick(states: &HashMap<String, State>, now: Instant) -> Quick {
    let begun = |state: &State| state.begun.filter(|_| state.under_way).map(|begun| begun + QUICK);
    let counts = |state: &State| begun(state).filter(|until| *until > now);
    let broken = states.values().filter(|state| state.is_broken()).filter_map(counts).collect();
    Quick { all: states.values().filter_map(counts).collect(), broken }
}

impl Quick {
    /// When another walk may begin over an account like this, unless one ends before.
    fn room(&self, is_broken: bool, now: Instant) -> Instant {
        let room =
            |until: &[Instant], at_once| until.iter().min().filter(|_| until.len() >= at_once).copied().unwrap_or(now);
        let any = room(&self.all, AT_ONCE);
        if is_broken { any.max(room(&self.broken, BROKEN_AT_ONCE)) } else { any }
    }
}

/// Whether walks may show the drift of a class's roles: not where it wants them read one by one, and not where
/// associations belong to them, which EKS is asked for role by role.
#[must_use]
pub fn is_walked(class: &IamRoleClassSpec) -> bool {
    let associations = class.workload_identity.as_ref().is_some_and(ClassWorkloadIdentity::manages_associations);
    method(class) != DriftMethod::Role && !associations
}

/// Whether the account of a class is walked for it: also where each of its roles is read for what EKS alone shows, since a
/// walk still finds roles of nobody.
#[must_use]
pub fn has_walks(class: &IamRoleClassSpec) -> bool {
    method(class) != DriftMethod::Role && class.suspend != Some(true)
}

/// How long a settled role waits at most for a walk to show it, before it is looked at by itself: between 75 and 100
/// percent of it, each at another time. After a start as long as between walks, since the one before it may have shown it a
/// moment ago.
#[must_use]
pub fn patience(interval: Duration) -> Duration {
    (UNSEEN * interval).max(FIRST_WALK)
}

/// How the class wants drift to be looked for.
#[must_use]
pub fn method(class: &IamRoleClassSpec) -> DriftMethod {
    class.drift_check.as_ref().and_then(|check| check.method).unwrap_or(DriftMethod::Auto)
}

#[cfg(test)]
mod tests;
