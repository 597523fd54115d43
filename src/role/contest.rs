//! Repairs that do not last: told apart, and not repeated for ever.
//!
//! Two things make a repaired difference come back: AWS renders a document in a way that we don't take for the same,
//! or somebody else keeps changing it. What tells them apart is whether AWS ever showed the document as it is wanted
//! since the spec was applied. If it did, AWS can say it in our words, and whatever differs later was made by somebody.
//! If it never did, though the reads are late enough, another write changes nothing. AWS may also say it otherwise from some
//! day on: then no repair is ever seen to hold, each finds what the last one found, and whoever it is, nothing is gained by
//! another write but a call. What may allow more is repaired all the same, since it may be an attack.
//!
//! Even what was given up is written once a day: somebody may have ended the cause, and nothing else would tell.
//!
//! | AWS showed the document as wanted | what AWS shows now | what is done |
//! | --- | --- | --- |
//! | | within the settle window of the last repair | repaired: the read may be old |
//! | yes, at some look | what three repairs in a row found and left; it can allow no more | [`Why::Rewritten`]; written once more after 1 h, 6 h, and then every 24 h |
//! | yes, at some look | anything else | [`Why::Undone`] after three repairs in an hour, for the rest of it |
//! | never | what no repair has found yet | repaired, three times an hour at most |
//! | never | what one repair found and left; it can allow no more than what is wanted | [`Why::Rewritten`]; written once more after 1 h, 6 h, and then every 24 h |
//! | never | what two repairs found and left; it may allow more, or deny less | [`Why::Unmoved`]; written once more after 1 h, 6 h, and then every 24 h |
//! | yes, once a repair had settled | | what its repairs found is forgotten: the next one begins a new row |
//! | | the document is gone | as where it was shown: nobody words a document so |
//! | | an earlier process gave it up | [`Why::Earlier`] for an hour, then as if nothing was known |
//!
//! What is no document (an attachment, a tag, the description) is repaired three times an hour at most; a boundary
//! always. Whatever is given up is reported as a failure: a role that is not as the spec says is not ready, whoever is to
//! blame.

use super::desired::Desired;
use super::observed::Observed;
use super::plan::{Action, Phase, Plan, Step};
use crate::policy::{AccountRef, Canonical};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// So many repairs of one thing ...
const REPAIRS: usize = 3;
/// ... in so long are a contest.
const WINDOW: Duration = Duration::from_hours(1);
/// How long a document that AWS does not show as wanted is left before it is written once more; the last one for good.
const PAUSES: [Duration; 3] = [Duration::from_hours(1), Duration::from_hours(6), Duration::from_hours(24)];
/// So many answers of AWS are remembered per document; of more, those that were repaired last.
const ANSWERS: usize = 8;

/// Why a difference is not repaired (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// AWS answers as before the repairs, with what can allow no more, and never showed that one of them held.
    Rewritten,
    /// AWS never showed the document as wanted and answers as before its repairs, with what may allow more than what is
    /// wanted, or deny less.
    Unmoved,
    /// Somebody else keeps undoing the repair.
    Undone,
    /// An earlier process gave it up, and why is not known any more.
    Earlier,
}

/// A repair that is not made (again).
#[derive(Clone, Debug)]
pub struct Contest {
    /// Why not.
    pub why: Why,
    /// The repair.
    pub step: Step,
}

/// A look at a role.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// What is in AWS.
    pub observed: &'a Observed,
    /// What should be.
    pub desired: &'a Desired,
    /// Time since the process started.
    pub now: Duration,
    /// A repair younger than this may not be visible yet.
    pub settle: Duration,
}

impl Look<'_> {
    fn account(&self) -> &AccountRef {
        &self.desired.account
    }

    fn is_recent(&self, at: Duration) -> bool {
        at == self.now || self.now.saturating_sub(at) < self.settle
    }
}

/// Repairs of one and the same answer of AWS.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    times: usize,
    /// Since the process started.
    last: Duration,
}

#[derive(Clone, Debug, Default)]
struct History {
    /// When it was repaired in the last hour, since the process started.
    at: Vec<Duration>,
    /// When it was last written, as a repair or since the spec asked for it.
    written: Option<Duration>,
    /// The document that is repaired.
    place: Option<Place>,
    /// What the repairs of a document found in AWS, since one of them was seen to hold.
    tried: BTreeMap<u64, Tried>,
    /// A document was repaired, and not seen as wanted since.
    open: bool,
    /// An earlier process gave it up.
    resumed: bool,
}

/// Whether owner tags are mended, name of the action, and its target.
type Key = (bool, String, String);

/// One of a role's documents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Trust,
    Inline(String),
    Own(String),
}

/// What was repaired on one role, and when. Lives in the process and is forgotten when the spec changes.
#[derive(Clone, Debug, Default)]
pub struct Repairs {
    histories: BTreeMap<Key, History>,
    /// The documents that AWS has shown as they are wanted.
    shown: BTreeSet<Place>,
    /// A walk over the account has shown all that walks read: trust and inline policies.
    all_shown: bool,
    /// The role was looked at since the spec was applied.
    looked: bool,
}

impl Repairs {
    /// Takes over from an earlier process what it had given up, as action and target: it gets a new hour.
    pub fn resume<'p>(&mut self, given_up: impl IntoIterator<Item = (&'p str, &'p str)>, now: Duration) {
        if self.looked || !self.histories.is_empty() {
            return;
        }
        let contest = || History { at: vec![now; REPAIRS], resumed: true, ..History::default() };
        // Status does not tell which tags; what the first look does not find to differ is forgotten.
        let keys = given_up.into_iter().flat_map(|(action, target)| {
            [true, false].map(|is_owners| (is_owners, action.to_owned(), target.to_owned()))
        });
        self.histories = keys.map(|key| (key, contest())).collect();
    }

    /// A walk over the account has shown the role as it is wanted.
    pub fn seen_as_wanted(&mut self) {
        self.looked = true;
        self.all_shown = true;
        for history in self.histories.values_mut().filter(|history| !matches!(history.place, Some(Place::Own(_)))) {
            history.open = false;
            history.tried.clear();
        }
    }

    /// Takes out of a plan for a settled role what must not be done again.
    pub fn withhold(&mut self, plan: &mut Plan, look: Look<'_>) -> Vec<Contest> {
        self.follow(plan, look);
        let mut contests = Vec::new();
        let mut undone: BTreeSet<String> = BTreeSet::new();
        for step in std::mem::take(&mut plan.steps) {
            // What relies on a repair that is given up must wait, or what moves would be lost.
            let waits = !step.needs.is_disjoint(&undone);
            let why = self.given_up(&step, look);
            if !waits && why.is_none() {
                plan.steps.push(step);
                continue;
            }
            undone.extend(step.action.key());
            contests.extend(why.map(|why| Contest { why, step: step.clone() }));
            plan.withheld.push(step);
        }
        contests
    }

    /// Learns from a look what held and what did not.
    fn follow(&mut self, plan: &Plan, look: Look<'_>) {
        self.looked = true;
        let held: BTreeSet<Place> = as_wanted(look).collect();
        let planned: BTreeSet<Key> = plan.steps.iter().map(|step| key(step, look.observed)).collect();
        for (known, history) in &mut self.histories {
            history.at.retain(|at| look.now.saturating_sub(*at) < WINDOW);
            if history.resumed && !planned.contains(known) {
                (history.resumed, history.at) = (false, Vec::new());
            }
            history.resumed &= !history.at.is_empty();
            history.open &= planned.contains(known);
            let settled = !history.written.is_some_and(|at| look.is_recent(at));
            // AWS may show what was written for a moment before it says it in its own words.
            if settled && history.place.as_ref().is_some_and(|place| held.contains(place)) {
                history.tried.clear();
            }
        }
        // What strangers put on a role has ever new names.
        self.histories.retain(|known, history| planned.contains(known) || !history.is_past(look.now));
        // What was written a moment ago may be shown for a moment, before AWS says it in its own words.
        let recent: BTreeSet<&Place> = self
            .histories
            .values()
            .filter(|history| history.written.is_some_and(|at| look.is_recent(at)))
            .filter_map(|history| history.place.as_ref())
            .collect();
        self.shown.extend(held.into_iter().filter(|place| !recent.contains(place)));
    }

    fn given_up(&self, step: &Step, look: Look<'_>) -> Option<Why> {
        // Whoever fights about a boundary would win it by a fourth round.
        if matches!(step.action, Action::PutBoundary(_)) {
            return None;
        }
        let history = self.histories.get(&key(step, look.observed))?;
        if history.resumed {
            return Some(Why::Earlier);
        }
        if history.written.is_some_and(|at| look.is_recent(at)) {
            return None;
        }
        self.in_vain(history, step, look).or((history.at.len() >= REPAIRS).then_some(Why::Undone))
    }

    /// Whether writing a document has changed nothing that AWS shows, and it is too early to try again.
    fn in_vain(&self, history: &History, step: &Step, look: Look<'_>) -> Option<Why> {
        let place = place(&step.action)?;
        let tried = history.tried.get(&answer(&step.action, look.observed)?)?;
        let walked = self.all_shown && !matches!(place, Place::Own(_));
        let shown = walked || self.shown.contains(&place);
        let (enough, why) = match (shown, may_allow_more(&step.action, look)) {
            (true, true) => return None,
            (true, false) => (REPAIRS, Why::Rewritten),
            (false, true) => (2, Why::Unmoved),
            (false, false) => (1, Why::Rewritten),
        };
        let beyond = tried.times.checked_sub(enough)?;
        let pause = PAUSES.get(beyond).or(PAUSES.last())?;
        (look.now.saturating_sub(tried.last) < *pause).then_some(why)
    }

    /// Remembers that steps were carried out on what was looked at, and which of them as repairs: what an edit asked for
    /// is none.
    pub fn note<'s>(&mut self, steps: impl IntoIterator<Item = (&'s Step, bool)>, look: Look<'_>) {
        for (step, is_repair) in steps {
            let history = self.histories.entry(key(step, look.observed)).or_default();
            // One repair may take two steps, with a document in between; and one that was not visible yet may have
            // been made twice.
            let same = history.written.is_some_and(|at| look.is_recent(at));
            // What was written before, and differs again, was changed by somebody, whatever else the role still needs.
            let is_repair = is_repair || (history.written.is_some() && !same);
            history.written = Some(look.now);
            history.place = place(&step.action);
            match history.at.last_mut() {
                _ if !is_repair => {}
                Some(last) if look.is_recent(*last) => *last = look.now,
                _ => history.at.push(look.now),
            }
            if let Some(found) = answer(&step.action, look.observed) {
                history.found(found, same, look.now);
            }
        }
    }

    /// Whether a repair waits to be read again soon, to see whether AWS took it.
    #[must_use]
    pub fn unconfirmed(&self) -> bool {
        self.histories.values().any(|history| history.open)
    }
}

impl History {
    /// It is no document, and was left alone for as long as a repair counts.
    fn is_past(&self, now: Duration) -> bool {
        let lately = |at: Duration| now.saturating_sub(at) < WINDOW;
        self.place.is_none() && self.at.is_empty() && !self.written.is_some_and(lately)
    }

    /// A repair found this; `same` says that it is one that was counted already.
    fn found(&mut self, answer: u64, same: bool, now: Duration) {
        self.open = true;
        let tried = self.tried.entry(answer).or_default();
        if !same || tried.times == 0 {
            tried.times = tried.times.saturating_add(1);
        }
        tried.last = now;
        while self.tried.len() > ANSWERS {
            let oldest = self.tried.iter().min_by_key(|(_, tried)| tried.last).map(|(answer, _)| *answer);
            self.tried.remove(&oldest.unwrap_or_default());
        }
    }
}

fn key(step: &Step, observed: &Observed) -> Key {
    let Step { phase, action, .. } = step;
    (*phase == Phase::Own, action.name().to_owned(), action.target(&observed.name).to_owned())
}

/// Which document an action writes.
fn place(action: &Action) -> Option<Place> {
    match action {
        Action::UpdateTrust(_) => Some(Place::Trust),
        Action::PutInline { name, .. } => Some(Place::Inline(name.to_lowercase())),
        Action::UpdatePolicy { arn, .. } => Some(Place::Own(arn.clone())),
        _ => None,
    }
}

/// The documents that AWS shows as they are wanted.
fn as_wanted(look: Look<'_>) -> impl Iterator<Item = Place> + '_ {
    let Look { desired, observed, .. } = look;
    let is = |found: Option<&Canonical>, wanted: &crate::policy::Document| {
        found.is_some_and(|found| *found == wanted.canonical(&desired.account))
    };
    let trust = is(Some(&observed.trust), &desired.trust).then_some(Place::Trust);
    // IAM takes names that differ only in case for the same.
    let found = |name: &str| {
        observed.inline.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, document)| document)
    };
    let inline = desired.inline.iter().filter(move |(name, wanted)| is(found(name), wanted));
    let own = desired
        .own
        .iter()
        .filter(move |wanted| is(observed.own.get(&wanted.arn).map(|found| &found.document), &wanted.document));
    let inline = inline.map(|(name, _)| Place::Inline(name.to_lowercase()));
    trust.into_iter().chain(inline).chain(own.map(|wanted| Place::Own(wanted.arn.clone())))
}

/// What AWS has where a document is to be written; `None` for everything that AWS does not render.
fn document<'o>(action: &Action, observed: &'o Observed) -> Option<&'o Canonical> {
    match action {
        Action::UpdateTrust(_) => Some(&observed.trust),
        Action::PutInline { name, .. } => observed.inline.get(name),
        Action::UpdatePolicy { arn, .. } => observed.own.get(arn).map(|policy| &policy.document),
        _ => None,
    }
}

fn answer(action: &Action, observed: &Observed) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    document(action, observed)?.hash(&mut hasher);
    Some(hasher.finish())
}

/// Whether what AWS has may allow more than what is to be written.
fn may_allow_more(action: &Action, look: Look<'_>) -> bool {
    let (Action::UpdateTrust(wanted)
    | Action::PutInline { document: wanted, .. }
    | Action::UpdatePolicy { document: wanted, .. }) = action
    else {
        return false;
    };
    let wanted = wanted.canonical(look.account());
    document(action, look.observed).is_some_and(|found| found.may_allow_more_than(&wanted))
}

#[cfg(test)]
mod tests;
