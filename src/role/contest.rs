//! Repairs that do not last: told apart, and not repeated for ever.
//!
//! Two things make a repaired difference come back. AWS may render a document in a way that we don't take
//! for the same: it is written once, read again when that has settled, and if AWS answers as before and never
//! answered otherwise, it is not written again. Or somebody else keeps changing it: after three repairs in an
//! hour the operator stops for the rest of the hour. A document that lets in or permits by name what the wanted one
//! does not, or is the wanted one and more, is somebody's, never AWS's wording. Both are reported as a failure: a role that is not as the spec says is not
//! ready, whoever is to blame.

use super::observed::Observed;
use super::plan::{Action, Plan, Step};
use crate::policy::{AccountRef, Canonical, Relation, relation};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// So many repairs of one thing ...
const REPAIRS: usize = 3;
/// ... in so long are a contest.
const WINDOW: Duration = Duration::from_hours(1);

/// Why a difference is not repaired (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// AWS answers a write with the same text as before it.
    Rewritten,
    /// Somebody else keeps undoing the repair.
    Undone,
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
    /// The account, for comparing documents.
    pub account: &'a AccountRef,
    /// Time since the process started.
    pub now: Duration,
    /// A repair younger than this may not be visible yet.
    pub settle: Duration,
}

#[derive(Clone, Debug, Default)]
struct History {
    /// When it was repaired, since the process started.
    at: Vec<Duration>,
    /// When it was last written, as a repair or since the spec asked for it.
    written: Option<Duration>,
    /// What AWS had when it was last repaired; cleared once the repair was seen to hold.
    found: Option<u64>,
    /// AWS has shown it as it is wanted before: whatever differs now was made by somebody.
    matched: bool,
    /// An earlier process gave it up.
    resumed: bool,
}

/// Name of an action, and its target.
type Key = (String, String);

/// What was repaired on one role, and when. Lives in the process and is forgotten when the spec changes.
#[derive(Clone, Debug, Default)]
pub struct Repairs {
    histories: BTreeMap<Key, History>,
    /// How often the role was looked at since the spec was applied.
    checks: usize,
}

impl Repairs {
    /// Takes over from an earlier process what it had given up, as action and target: it gets a new hour.
    pub fn resume<'p>(&mut self, given_up: impl IntoIterator<Item = (&'p str, &'p str)>, now: Duration) {
        if self.checks > 0 || !self.histories.is_empty() {
            return;
        }
        let contest = || History { at: vec![now; REPAIRS], resumed: true, ..History::default() };
        let keys = given_up.into_iter().map(|(action, target)| (action.to_owned(), target.to_owned()));
        self.histories = keys.map(|key| (key, contest())).collect();
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
        let planned: BTreeSet<Key> = plan.steps.iter().map(|step| key(&step.action, look.observed)).collect();
        self.checks += 1;
        let earlier = self.checks > 1;
        for known in &planned {
            // Not planned at an earlier look: AWS had it as wanted then.
            let new = || History { matched: earlier, ..History::default() };
            self.histories.entry(known.clone()).or_insert_with(new);
        }
        for (known, history) in &mut self.histories {
            history.at.retain(|at| look.now.saturating_sub(*at) < WINDOW);
            history.resumed &= !history.at.is_empty();
            if !planned.contains(known) {
                // It held.
                history.found = None;
                history.matched = true;
            }
        }
    }

    fn given_up(&self, step: &Step, look: Look<'_>) -> Option<Why> {
        // Whoever fights about a boundary would win it by a fourth round.
        if matches!(step.action, Action::PutBoundary(_)) {
            return None;
        }
        let history = self.histories.get(&key(&step.action, look.observed))?;
        if history.written.is_some_and(|at| look.now.saturating_sub(at) < look.settle) {
            return None;
        }
        let same = history.found.is_some() && !history.matched && history.found == answer(&step.action, look.observed);
        if same && !is_somebodys(&step.action, look) {
            return Some(Why::Rewritten);
        }
        (history.at.len() >= REPAIRS).then_some(Why::Undone)
    }

    /// Remembers that steps were carried out on what was looked at, and which of them as repairs: what an edit asked for
    /// is none.
    pub fn note<'s>(&mut self, steps: impl IntoIterator<Item = (&'s Step, bool)>, look: Look<'_>) {
        for (step, is_repair) in steps {
            let history = self.histories.entry(key(&step.action, look.observed)).or_default();
            history.written = Some(look.now);
            history.found = answer(&step.action, look.observed);
            if !is_repair {
                continue;
            }
            // One repair may take two steps, with a document in between; and one that was not visible yet may have
            // been made twice.
            match history.at.last_mut() {
                Some(last) if *last == look.now || look.now.saturating_sub(*last) < look.settle => *last = look.now,
                _ => history.at.push(look.now),
            }
        }
    }

    /// Whether a repair waits to be read again soon, to see whether AWS took it.
    #[must_use]
    pub fn unconfirmed(&self) -> bool {
        self.histories.values().any(|history| history.found.is_some())
    }
}

fn key(action: &Action, observed: &Observed) -> Key {
    (action.name().to_owned(), action.target(&observed.name).to_owned())
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

/// Whether AWS has what only somebody else can have put there.
fn is_somebodys(action: &Action, look: Look<'_>) -> bool {
    let (Action::UpdateTrust(wanted)
    | Action::PutInline { document: wanted, .. }
    | Action::UpdatePolicy { document: wanted, .. }) = action
    else {
        return false;
    };
    let (found, wanted) = (document(action, look.observed), wanted.canonical(look.account));
    found.is_some_and(|found| found.names_more_than(&wanted) || relation(&wanted, found) == Relation::Widens)
}

#[cfg(test)]
mod tests {
    use super::{Contest, Look, Repairs, Why};
    use crate::policy::{AccountRef, Canonical, Document, Grammar, Tokens};
    use crate::role::Observed;
    use crate::role::plan::{Action, Phase, Plan, Step};
    use std::time::Duration;

    const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":SERVICES},"Action":"sts:AssumeRole"}]}"#;

    fn trust(services: &[&str]) -> String {
        TRUST.replace("SERVICES", &format!("{services:?}"))
    }

    fn account() -> AccountRef {
        AccountRef { partition: "aws".into(), id: "123456789012".into() }
    }

    fn observed(services: &[&str]) -> Observed {
        Observed {
            name: "app".into(),
            path: "/".into(),
            arn: String::new(),
            id: String::new(),
            create_date: String::new(),
            description: String::new(),
            max_session: 3600,
            boundary: None,
            tags: [].into(),
            trust: Canonical::read(Grammar::Trust, &trust(services), &account()),
            managed: [].into(),
            inline: [].into(),
            own: [].into(),
            profiles: [].into(),
        }
    }

    fn update_trust() -> Plan {
        let trust = trust(&["ec2.amazonaws.com"]);
        let document = Document::from_json(Grammar::Trust, "trust", &trust, &Tokens::default());
        Plan { steps: vec![Step::new(Phase::Widen, Action::UpdateTrust(document.unwrap()))], ..Plan::default() }
    }

    fn detach() -> Plan {
        Plan { steps: vec![Step::new(Phase::Remove, Action::Detach("arn:x".into()))], ..Plan::default() }
    }

    struct Case {
        repairs: Repairs,
        is_repair: bool,
    }

    impl Default for Case {
        fn default() -> Self {
            Self { repairs: Repairs::default(), is_repair: true }
        }
    }

    impl Case {
        /// Looks, and repairs what is not given up.
        fn check(&mut self, mut plan: Plan, services: &[&str], seconds: u64) -> Vec<Why> {
            let (observed, account) = (observed(services), account());
            let (now, settle) = (Duration::from_secs(seconds), Duration::from_secs(30));
            let look = Look { observed: &observed, account: &account, now, settle };
            let contests = self.repairs.withhold(&mut plan, look);
            self.repairs.note(plan.steps.iter().map(|step| (step, self.is_repair)), look);
            contests.iter().map(|contest: &Contest| contest.why).collect()
        }
    }

    /// The same in words that are not understood.
    const STRANGE: &[&str] = &["AIDAEXAMPLEEXAMPLE123"];

    #[test]
    fn a_document_that_reads_as_before_its_repair_is_left_alone() {
        let mut case = Case::default();
        assert_eq!(case.check(update_trust(), STRANGE, 0), []);
        assert!(case.repairs.unconfirmed());
        assert_eq!(case.check(update_trust(), STRANGE, 60), [Why::Rewritten]);
        assert_eq!(case.check(update_trust(), STRANGE, 18_000), [Why::Rewritten], "also hours later");
        assert_eq!(
            case.check(update_trust(), &["ecs.amazonaws.com"], 18_060),
            [],
            "another difference is another matter"
        );
    }

    #[test]
    fn a_repair_that_cannot_be_seen_yet_is_not_judged() {
        let mut case = Case::default();
        assert_eq!(case.check(update_trust(), STRANGE, 0), []);
        for second in [1, 3, 20] {
            assert_eq!(case.check(update_trust(), STRANGE, second), [], "the read may be old");
        }
        assert_eq!(case.check(update_trust(), STRANGE, 50), [Why::Rewritten]);
    }

    #[test]
    fn what_aws_showed_as_wanted_before_is_no_rewriting() {
        let mut case = Case::default();
        assert_eq!(case.check(Plan::default(), &["ec2.amazonaws.com"], 0), []);
        for minute in [1, 2, 3] {
            assert_eq!(case.check(update_trust(), STRANGE, minute * 60), [], "it is repaired again");
        }
        assert_eq!(case.check(update_trust(), STRANGE, 240), [Why::Undone]);
    }

    #[test]
    fn an_addition_is_somebodys_also_when_it_is_there_at_once_again() {
        let (mut case, more) = (Case::default(), ["ec2.amazonaws.com", "evil.amazonaws.com"]);
        for minute in [0, 1, 2] {
            assert_eq!(case.check(update_trust(), &more, minute * 60), [], "it is repaired again");
        }
        assert_eq!(case.check(update_trust(), &more, 180), [Why::Undone]);
        assert_eq!(case.check(update_trust(), &more, 3700), [], "and again in the next hour");
    }

    #[test]
    fn a_repair_that_held_is_no_rewriting_when_it_is_needed_again() {
        let mut case = Case::default();
        assert_eq!(case.check(update_trust(), STRANGE, 0), []);
        assert_eq!(case.check(Plan::default(), &["ec2.amazonaws.com"], 60), []);
        assert!(!case.repairs.unconfirmed());
        assert_eq!(case.check(update_trust(), STRANGE, 1200), []);
    }

    #[test]
    fn the_fourth_repair_within_an_hour_waits() {
        let mut case = Case::default();
        for minute in [0, 10, 20] {
            assert_eq!(case.check(detach(), STRANGE, minute * 60), []);
        }
        assert_eq!(case.check(detach(), STRANGE, 1800), [Why::Undone]);
        assert_eq!(case.check(detach(), STRANGE, 3660), [], "one is more than an hour old");
    }

    #[test]
    fn what_an_edit_asked_for_is_no_repair() {
        let mut case = Case { is_repair: false, ..Case::default() };
        assert_eq!(case.check(detach(), STRANGE, 0), []);
        case.is_repair = true;
        for minute in [10, 20, 30] {
            assert_eq!(case.check(detach(), STRANGE, minute * 60), [], "three repairs");
        }
        assert_eq!(case.check(detach(), STRANGE, 2400), [Why::Undone]);
    }

    #[test]
    fn a_boundary_is_never_given_up() {
        let mut case = Case::default();
        let put =
            || Plan { steps: vec![Step::new(Phase::Restore, Action::PutBoundary("arn:b".into()))], ..Plan::default() };
        case.repairs.resume([("PutRolePermissionsBoundary", "arn:b")], Duration::from_secs(0));
        for minute in 1..10 {
            assert_eq!(case.check(put(), STRANGE, minute * 60), []);
        }
    }

    #[test]
    fn what_is_worded_otherwise_is_written_once_more_after_a_restart_and_never_again() {
        let mut case = Case::default();
        case.repairs.resume([("UpdateAssumeRolePolicy", "app")], Duration::from_secs(0));
        assert_eq!(case.check(update_trust(), STRANGE, 60), [Why::Undone]);
        assert_eq!(case.check(update_trust(), STRANGE, 3700), [], "once");
        for hour in 2..50 {
            assert_eq!(case.check(update_trust(), STRANGE, hour * 3600), [Why::Rewritten]);
        }
    }

    #[test]
    fn what_an_earlier_process_gave_up_waits_its_hour() {
        let mut case = Case::default();
        case.repairs.resume([("DetachRolePolicy", "arn:x")], Duration::from_secs(40));
        assert_eq!(case.check(detach(), STRANGE, 41), [Why::Undone], "at once");
        assert_eq!(case.check(update_trust(), STRANGE, 100), [], "another thing is not concerned");
        assert_eq!(case.check(detach(), STRANGE, 3700), []);
        case.repairs.resume([("DetachRolePolicy", "arn:x")], Duration::from_secs(3700));
        assert_eq!(case.check(detach(), STRANGE, 3760), [], "only at the first look");
    }
}
