//! Our own last writes, so that a read from before them is known for what it is.
//!
//! IAM is eventually consistent. A plan made from a read of the past would undo or repeat what was written a moment
//! ago: take away what stays, write a document twice, or let an old principal meet a new permission. Nor does what one
//! read does not show have to be gone.

use super::observed::{Asked, Observed};
use super::plan::{Action, Plan};
use crate::policy::AccountRef;
use crate::policy::Canonical;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

/// A part of a role that one write changes as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Facet {
    Trust,
    Boundary,
    /// Description and session duration.
    Words,
    /// By its key in lower case.
    Tag(String),
    Managed(String),
    /// By its name in lower case.
    Inline(String),
    Own(String),
    Profile(String),
}

#[derive(Clone, Debug)]
struct Written {
    at: Duration,
    /// What a read from before shows.
    past: BTreeSet<u64>,
    now: u64,
}

/// A policy or instance profile must be missing twice, so far apart, before it is believed to be gone.
pub const MISSES_APART: Duration = Duration::from_secs(10);

/// What was written to one role a moment ago, and what is not seen of it. All times are since the process started.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    written: BTreeMap<Facet, Written>,
    /// The last write that had an effect, or may have had one.
    last: Option<Duration>,
    /// The last write of which nobody knows whether it had one, by the generation of the spec that it was for.
    doubted: BTreeMap<i64, Duration>,
    /// The last time that something was taken away, which makes room.
    freed: Option<Duration>,
    /// Since when policies and instance profiles that were asked for are not seen, by their [keys](Action::key).
    missing: BTreeMap<String, Duration>,
    /// Since when AWS says of some of them that they exist, and does not show them.
    hidden: BTreeMap<String, Duration>,
}

/// A write that is under way; see [`Recent::begin`].
#[derive(Debug)]
pub struct Attempt(Option<Duration>);

impl Recent {
    /// Notes that something is about to be written. Who gives up waiting for the answer need not say so.
    pub fn begin(&mut self, now: Duration) -> Attempt {
        Attempt(self.last.replace(now))
    }

    /// AWS refused it for certain: nothing was written.
    pub fn refused(&mut self, attempt: &Attempt) {
        self.last = attempt.0;
    }

    /// Nobody knows what became of it: reads may show only after a while what it made or removed.
    pub fn doubt(&mut self, action: &Action, generation: i64, now: Duration) {
        self.doubted.insert(generation, now);
        // The effect may be as late as the end of the last attempt.
        self.last = Some(now);
        self.forget_miss(action);
    }

    /// An earlier process may have written for this generation until this one started.
    pub fn inherit(&mut self, generation: i64) {
        self.doubted.insert(generation, Duration::ZERO);
    }

    /// Whether a read may show the past without being known for it, since an answer was lost less than `settle` ago.
    #[must_use]
    pub fn is_in_doubt(&self, now: Duration, settle: Duration) -> bool {
        self.doubted.values().any(|at| now.saturating_sub(*at) < settle)
    }

    /// For how long a read may hide what was written for another spec than that of this generation. What is written again is
    /// as wanted whatever is hidden.
    #[must_use]
    pub fn hides(&self, generation: i64, now: Duration, settle: Duration) -> Option<Duration> {
        let others = self.doubted.iter().filter(|(of, _)| **of != generation);
        others.map(|(_, at)| settle.saturating_sub(now.saturating_sub(*at))).max().filter(|left| !left.is_zero())
    }

    /// Whether IAM may still count what was taken away.
    #[must_use]
    pub fn has_freed(&self, now: Duration, settle: Duration) -> bool {
        self.freed.is_some_and(|at| now.saturating_sub(at) < settle)
    }

    /// Whether what an action makes may be there though AWS refuses to make it: an earlier answer was lost, or said so.
    #[must_use]
    pub fn may_exist(&self, action: &Action, now: Duration, settle: Duration) -> bool {
        self.is_in_doubt(now, settle) || action.key().is_some_and(|key| self.hidden.contains_key(&key))
    }

    fn forget_miss(&mut self, action: &Action) {
        if let Some(key) = action.key() {
            self.missing.remove(&key);
            self.hidden.remove(&key);
        }
    }

    /// Notes a write that succeeded. `before` is what the plan was made from.
    pub fn note(&mut self, action: &Action, before: &Observed, account: &AccountRef, now: Duration) {
        self.last = Some(now);
        self.freed = if action.frees() { Some(now) } else { self.freed };
        self.forget_miss(action);
        for (facet, after) in effects(action, account) {
            let mut past = BTreeSet::from([facet.read(before)]);
            if let Some(earlier) = self.written.remove(&facet) {
                past.extend(earlier.past);
                past.insert(earlier.now);
            }
            past.remove(&after);
            self.written.insert(facet, Written { at: now, past, now: after });
        }
    }

    /// For how long reads may still show the past: something was written less than `settle` ago, or the process has
    /// only just started and does not know what the last one wrote.
    #[must_use]
    pub fn unsettled(&self, now: Duration, settle: Duration) -> Option<Duration> {
        let since = now.saturating_sub(self.last.unwrap_or_default());
        Some(settle.saturating_sub(since)).filter(|left| !left.is_zero())
    }

    /// Whether something was written less than `window` ago.
    #[must_use]
    pub fn wrote_within(&self, window: Duration, now: Duration) -> bool {
        self.last.is_some_and(|at| now.saturating_sub(at) < window)
    }

    /// Learns which of the things asked for a read did not show, and answers with those that are gone for certain.
    pub fn miss(&mut self, unseen: &BTreeSet<String>, now: Duration, settle: Duration) -> BTreeSet<String> {
        self.missing.retain(|key, _| unseen.contains(key));
        self.hidden.retain(|key, _| unseen.contains(key));
        for key in unseen {
            self.missing.entry(key.clone()).or_insert(now);
        }
        if self.unsettled(now, settle).is_some() {
            return BTreeSet::new();
        }
        let long = self.missing.iter().filter(|(_, since)| now.saturating_sub(**since) >= MISSES_APART.min(settle));
        long.map(|(key, _)| key.clone()).collect()
    }

    /// AWS refuses to make something since it exists, and a look does not show it. For how long it has been so.
    pub fn hidden_for(&mut self, action: &Action, now: Duration) -> Duration {
        let Some(key) = action.key() else { return Duration::ZERO };
        now.saturating_sub(*self.hidden.entry(key).or_insert(now))
    }

    /// Takes out of a plan what was removed a moment ago already: it is planned since a read that may be late does not
    /// show whether it is there.
    pub fn drop_repeats(&self, plan: &mut Plan, observed: &Observed, account: &AccountRef) {
        let is_done = |(facet, after): (Facet, u64)| self.written.get(&facet).is_some_and(|last| last.now == after);
        plan.steps
            .retain(|step| !step.action.is_blind(observed) || !effects(&step.action, account).into_iter().all(is_done));
    }

    /// Forgets the writes that every read shows by now.
    pub fn tidy(&mut self, now: Duration, settle: Duration) {
        self.written.retain(|_, written| now.saturating_sub(written.at) < settle);
        self.doubted.retain(|_, at| now.saturating_sub(*at) < settle);
    }

    /// Whether a read shows what was there before a write of the last `settle`. What was not `asked` for is not shown.
    pub fn is_past(&mut self, observed: &Observed, asked: &Asked, now: Duration, settle: Duration) -> bool {
        self.tidy(now, settle);
        let is_shown = |facet: &Facet| match facet {
            Facet::Own(arn) => asked.policies.contains(arn),
            Facet::Profile(name) => asked.profiles.contains(name),
            _ => true,
        };
        self.written.iter().any(|(facet, written)| is_shown(facet) && written.past.contains(&facet.read(observed)))
    }
}

impl Facet {
    fn read(&self, observed: &Observed) -> u64 {
        match self {
            Self::Trust => digest(&Some(&observed.trust)),
            Self::Boundary => digest(&observed.boundary),
            Self::Words => digest(&(&observed.description, observed.max_session)),
            Self::Tag(key) => {
                digest(&observed.tags.iter().find(|(known, _)| known.to_lowercase() == *key).map(|(_, value)| value))
            }
            Self::Managed(arn) => digest(&observed.managed.contains(arn)),
            Self::Inline(name) => digest(
                &observed.inline.iter().find(|(known, _)| known.to_lowercase() == *name).map(|(_, document)| document),
            ),
            Self::Own(arn) => digest(&observed.own.get(arn).map(|policy| &policy.document)),
            Self::Profile(name) => digest(&observed.profiles.get(name).map(|profile| profile.roles.is_empty())),
        }
    }
}

/// What a write changes, and how a read shows it afterwards.
fn effects(action: &Action, account: &AccountRef) -> Vec<(Facet, u64)> {
    let document = |document: &crate::policy::Document| digest(&Some(&document.canonical(account)));
    let nothing = || digest(&None::<&Canonical>);
    let text = |text: &str| digest(&Some(text));
    vec![match action {
        Action::UpdateTrust(trust) => (Facet::Trust, document(trust)),
        Action::PutBoundary(arn) => (Facet::Boundary, text(arn)),
        Action::DeleteBoundary => (Facet::Boundary, digest(&None::<&str>)),
        Action::UpdateRole { description, max_session } => (Facet::Words, digest(&(description, *max_session))),
        Action::TagRole(tags) => {
            return tags.iter().map(|(key, value)| (Facet::Tag(key.to_lowercase()), text(value))).collect();
        }
        Action::UntagRole(keys) => {
            return keys.iter().map(|key| (Facet::Tag(key.to_lowercase()), digest(&None::<&str>))).collect();
        }
        Action::Attach(arn) => (Facet::Managed(arn.clone()), digest(&true)),
        Action::Detach(arn) => (Facet::Managed(arn.clone()), digest(&false)),
        Action::PutInline { name, document: put } => (Facet::Inline(name.to_lowercase()), document(put)),
        Action::DeleteInline(name) => (Facet::Inline(name.to_lowercase()), nothing()),
        Action::CreatePolicy { policy, .. } => (Facet::Own(policy.arn.clone()), document(&policy.document)),
        Action::UpdatePolicy { arn, document: put } => (Facet::Own(arn.clone()), document(put)),
        Action::DeletePolicy(arn) => (Facet::Own(arn.clone()), nothing()),
        Action::CreateProfile { name, .. } => (Facet::Profile(name.clone()), digest(&Some(true))),
        Action::JoinProfile(name) => (Facet::Profile(name.clone()), digest(&Some(false))),
        Action::LeaveProfile { profile, .. } => (Facet::Profile(profile.clone()), digest(&Some(true))),
        Action::DeleteProfile(name) => (Facet::Profile(name.clone()), digest(&None::<bool>)),
        // A role that is not seen yet is waited for elsewhere; owner tags of policies don't change twice.
        Action::CreateRole { .. } | Action::DeleteRole | Action::TagPolicy { .. } | Action::TagProfile { .. } => {
            return Vec::new();
        }
    }]
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Asked, Plan, Recent};
    use crate::role::desired::tests::{allow, make, trust};
    use crate::role::plan::{Action, Phase, Step, nothing};
    use serde_json::json;
    use std::collections::BTreeSet;
    use std::time::Duration;

    const SETTLE: Duration = Duration::from_secs(30);

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn a_read_from_before_a_write_is_known_until_it_has_settled() {
        let desired = make(json!({})).unwrap();
        let account = &desired.account;
        let (before, mut after) = (nothing(&desired), nothing(&desired));
        let mut recent = Recent::default();
        recent.note(&Action::Attach("arn:x".into()), &before, account, at(10));
        assert!(recent.is_past(&before, &Asked::default(), at(11), SETTLE));
        after.managed.insert("arn:x".into());
        assert!(!recent.is_past(&after, &Asked::default(), at(11), SETTLE));
        assert!(!recent.is_past(&before, &Asked::default(), at(40), SETTLE), "by now somebody else has taken it away");
    }

    #[test]
    fn all_that_was_there_before_several_writes_is_past_and_a_strangers_change_is_not() {
        let with = |services: &[&str]| make(json!({ "trustPolicy": trust(&json!({ "Service": services })) })).unwrap();
        let (old, between, new) =
            (with(&["ec2.amazonaws.com"]), with(&["ecs.amazonaws.com"]), with(&["lambda.amazonaws.com"]));
        let before = nothing(&old);
        let mut recent = Recent::default();
        for trust in [&between.trust, &new.trust] {
            recent.note(&Action::UpdateTrust(trust.clone()), &before, &old.account, at(0));
        }
        assert!(
            recent.is_past(&before, &Asked::default(), at(1), SETTLE)
                && recent.is_past(&nothing(&between), &Asked::default(), at(1), SETTLE)
        );
        assert!(!recent.is_past(&nothing(&new), &Asked::default(), at(1), SETTLE));
        assert!(
            !recent.is_past(&nothing(&with(&["eks.amazonaws.com"])), &Asked::default(), at(1), SETTLE),
            "nobody of us wrote that"
        );
    }

    #[test]
    fn what_was_written_and_written_back_is_no_past() {
        let desired = make(json!({ "inlinePolicies": [{ "name": "P", "document": allow("s3:Get*") }] })).unwrap();
        let (account, mut before) = (&desired.account, nothing(&desired));
        before.inline.insert("p".into(), desired.inline["P"].canonical(account));
        let put = Action::PutInline { name: "P".into(), document: desired.inline["P"].clone() };
        let mut recent = Recent::default();
        recent.note(&Action::DeleteInline("P".into()), &before, account, at(0));
        assert!(recent.is_past(&before, &Asked::default(), at(1), SETTLE));
        recent.note(&put, &before, account, at(2));
        assert!(!recent.is_past(&before, &Asked::default(), at(3), SETTLE));
        let mut gone = before.clone();
        gone.inline.clear();
        assert!(recent.is_past(&gone, &Asked::default(), at(3), SETTLE));
    }

    #[test]
    fn what_one_read_does_not_show_is_not_gone() {
        let (mut recent, unseen) = (Recent::default(), BTreeSet::from(["arn:x".to_owned()]));
        assert!(recent.miss(&unseen, at(15), SETTLE).is_empty(), "soon after the start");
        assert_eq!(recent.miss(&unseen, at(40), SETTLE), unseen);
        let mut recent = Recent::default();
        assert!(recent.miss(&unseen, at(40), SETTLE).is_empty(), "once");
        recent.miss(&BTreeSet::new(), at(45), SETTLE);
        assert!(recent.miss(&unseen, at(51), SETTLE).is_empty(), "it was seen in between");
        let attempt = recent.begin(at(60));
        assert!(recent.miss(&unseen, at(70), SETTLE).is_empty(), "soon after a write");
        recent.refused(&attempt);
        assert_eq!(recent.miss(&unseen, at(70), SETTLE), unseen, "that was none");
    }

    #[test]
    fn a_lost_answer_begins_the_wait_anew() {
        let create = Action::DeletePolicy("arn:x".into());
        let mut recent = Recent::default();
        assert_eq!(recent.hidden_for(&create, at(40)), at(0));
        assert_eq!(recent.hidden_for(&create, at(60)), at(20));
        assert!(recent.may_exist(&create, at(60), SETTLE));
        recent.begin(at(41));
        recent.doubt(&create, 1, at(70));
        assert_eq!(recent.unsettled(at(80), SETTLE), Some(at(20)), "it may have had its effect at the last moment");
        assert!(recent.may_exist(&create, at(80), SETTLE) && !recent.may_exist(&create, at(100), SETTLE));
        assert!(recent.is_in_doubt(at(80), SETTLE) && !recent.is_in_doubt(at(100), SETTLE));
        assert_eq!((recent.hides(1, at(80), SETTLE), recent.hides(2, at(80), SETTLE)), (None, Some(at(20))));
        recent.doubt(&create, 2, at(81));
        assert_eq!((recent.hides(1, at(82), SETTLE), recent.hides(2, at(82), SETTLE)), (Some(at(29)), Some(at(18))));
        assert_eq!(recent.hides(3, at(111), SETTLE), None);
        assert_eq!(recent.hidden_for(&create, at(80)), at(0));
        recent.miss(&BTreeSet::new(), at(85), SETTLE);
        assert_eq!(recent.hidden_for(&create, at(90)), at(0), "it was seen in between");
    }

    #[test]
    fn what_was_removed_a_moment_ago_is_not_removed_again_unseen() {
        let desired = make(json!({})).unwrap();
        let (mut before, after) = (nothing(&desired), nothing(&desired));
        before.managed.insert("arn:x".into());
        let plan = || Plan { steps: vec![Step::new(Phase::Remove, Action::Detach("arn:x".into()))], ..Plan::default() };
        let mut recent = Recent::default();
        let left = |recent: &Recent, seen| {
            let mut plan = plan();
            recent.drop_repeats(&mut plan, seen, &desired.account);
            plan.steps.len()
        };
        assert_eq!(left(&recent, &after), 1, "an earlier process may have attached it");
        recent.note(&Action::Detach("arn:x".into()), &before, &desired.account, at(40));
        assert_eq!((left(&recent, &after), left(&recent, &before)), (0, 1));
    }
}
