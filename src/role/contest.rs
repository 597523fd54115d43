//! Repairs that do not last: told apart, and not repeated for ever.
//!
//! Two things make a repaired difference come back. AWS may render a document in a way that we don't take
//! for the same: it is written once, read again when that has settled, and if AWS answers as before and never
//! answered otherwise, it is not written again. Or somebody else keeps changing it: after three repairs in an
//! hour the operator stops for the rest of the hour. Both are reported as a failure: a role that is not as the
//! spec says is not ready, whoever is to blame.

use super::observed::Observed;
use super::plan::{Action, Plan, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// So many repairs of one thing ...
const REPAIRS: usize = 3;
/// ... in so long are a contest.
const WINDOW: Duration = Duration::from_hours(1);

/// Why a difference is not repaired (any more).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contest {
    /// AWS answers a write with the same text as before it.
    Rewritten(String),
    /// Somebody else keeps undoing the repair.
    Undone(String),
}

#[derive(Clone, Debug, Default)]
struct History {
    /// When it was repaired, since the process started.
    at: Vec<Duration>,
    /// What AWS had when it was last repaired; cleared once the repair was seen to hold.
    found: Option<u64>,
    /// AWS has shown it as it is wanted before: whatever differs now was made by somebody.
    matched: bool,
}

/// What was repaired on one role, and when. Lives in the process and is forgotten when the spec changes.
#[derive(Clone, Debug, Default)]
pub struct Repairs {
    histories: BTreeMap<(&'static str, String), History>,
    /// How often the role was looked at since the spec was applied.
    checks: usize,
}

impl Repairs {
    /// Takes out of a plan for a settled role what must not be done again. `now` is the time since the
    /// process started.
    pub fn withhold(&mut self, plan: &mut Plan, observed: &Observed, now: Duration) -> Vec<Contest> {
        let planned: Vec<_> = plan.steps.iter().map(|step| key(&step.action, observed)).collect();
        self.checks += 1;
        let earlier = self.checks > 1;
        for known in &planned {
            // Not planned at an earlier look: AWS had it as wanted then.
            let new = || History { matched: earlier, ..History::default() };
            self.histories.entry(known.clone()).or_insert_with(new);
        }
        for (known, history) in &mut self.histories {
            history.at.retain(|at| now.saturating_sub(*at) < WINDOW);
            if !planned.contains(known) {
                // It held.
                history.found = None;
                history.matched = true;
            }
        }
        let mut contests = Vec::new();
        let mut undone: BTreeSet<String> = BTreeSet::new();
        plan.steps.retain(|step| {
            // What relies on a repair that is given up must wait, or what moves would be lost.
            if !step.needs.is_disjoint(&undone) {
                undone.extend(step.action.key());
                return false;
            }
            let Some(history) = self.histories.get(&key(&step.action, observed)) else { return true };
            let same = history.found.is_some() && !history.matched;
            let contest = if same && history.found == answer(&step.action, observed) {
                undone.extend(step.action.key());
                Contest::Rewritten(step.action.describe(&observed.name))
            } else if history.at.len() >= REPAIRS {
                undone.extend(step.action.key());
                Contest::Undone(step.action.describe(&observed.name))
            } else {
                return true;
            };
            contests.push(contest);
            false
        });
        contests
    }

    /// Remembers that steps were carried out as repairs of what was observed.
    pub fn note<'s>(&mut self, steps: impl IntoIterator<Item = &'s Step>, observed: &Observed, now: Duration) {
        for step in steps {
            let history = self.histories.entry(key(&step.action, observed)).or_default();
            // One repair may take two steps, with a document in between.
            if history.at.last() != Some(&now) {
                history.at.push(now);
            }
            history.found = answer(&step.action, observed);
        }
    }

    /// Whether a repair waits to be read again soon, to see whether AWS took it.
    #[must_use]
    pub fn unconfirmed(&self) -> bool {
        self.histories.values().any(|history| history.found.is_some())
    }
}

fn key(action: &Action, observed: &Observed) -> (&'static str, String) {
    (action.name(), action.target(&observed.name).to_owned())
}

/// What AWS has where a document is to be written; `None` for everything that AWS does not render.
fn answer(action: &Action, observed: &Observed) -> Option<u64> {
    let document = match action {
        Action::UpdateTrust(_) => Some(&observed.trust),
        Action::PutInline { name, .. } => observed.inline.get(name),
        Action::UpdatePolicy { arn, .. } => observed.own.get(arn).map(|policy| &policy.document),
        _ => None,
    }?;
    let mut hasher = DefaultHasher::new();
    document.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::{Contest, Repairs};
    use crate::policy::{AccountRef, Canonical, Document, Grammar, Tokens};
    use crate::role::Observed;
    use crate::role::plan::{Action, Phase, Plan, Step};
    use std::time::Duration;

    const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"SERVICE"},"Action":"sts:AssumeRole"}]}"#;

    fn trust(service: &str) -> String {
        TRUST.replace("SERVICE", service)
    }

    fn observed(service: &str) -> Observed {
        let account = AccountRef { partition: "aws".into(), id: "123456789012".into() };
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
            trust: Canonical::read(Grammar::Trust, &trust(service), &account),
            managed: [].into(),
            inline: [].into(),
            own: [].into(),
        }
    }

    fn update_trust() -> Plan {
        let document = Document::from_json(Grammar::Trust, "trust", &trust("ec2.amazonaws.com"), &Tokens::default());
        Plan { steps: vec![Step::new(Phase::Widen, Action::UpdateTrust(document.unwrap()))], ..Plan::default() }
    }

    fn detach() -> Plan {
        Plan { steps: vec![Step::new(Phase::Remove, Action::Detach("arn:x".into()))], ..Plan::default() }
    }

    fn at(minutes: u64) -> Duration {
        Duration::from_mins(minutes)
    }

    #[test]
    fn a_document_that_reads_as_before_its_repair_is_left_alone() {
        let (mut repairs, strange) = (Repairs::default(), observed("lambda.amazonaws.com"));
        assert_eq!(repairs.withhold(&mut update_trust(), &strange, at(0)), []);
        repairs.note(&update_trust().steps, &strange, at(0));
        assert!(repairs.unconfirmed());
        let mut plan = update_trust();
        let contests = repairs.withhold(&mut plan, &strange, at(1));
        assert!(matches!(contests.as_slice(), [Contest::Rewritten(_)]) && plan.steps.is_empty());
        assert_eq!(repairs.withhold(&mut update_trust(), &strange, at(300)).len(), 1, "also hours later");
        let other = observed("ecs.amazonaws.com");
        assert_eq!(repairs.withhold(&mut update_trust(), &other, at(301)), [], "another difference is another matter");
    }

    #[test]
    fn what_aws_showed_as_wanted_before_is_no_rewriting() {
        let (mut repairs, strange) = (Repairs::default(), observed("lambda.amazonaws.com"));
        assert_eq!(repairs.withhold(&mut Plan::default(), &observed("ec2.amazonaws.com"), at(0)), []);
        for minute in [1, 2, 3] {
            assert_eq!(repairs.withhold(&mut update_trust(), &strange, at(minute)), [], "it is repaired again");
            repairs.note(&update_trust().steps, &strange, at(minute));
        }
        assert!(matches!(repairs.withhold(&mut update_trust(), &strange, at(4)).as_slice(), [Contest::Undone(_)]));
    }

    #[test]
    fn a_repair_that_failed_at_first_is_still_told_apart() {
        let (mut repairs, strange) = (Repairs::default(), observed("lambda.amazonaws.com"));
        assert_eq!(repairs.withhold(&mut update_trust(), &strange, at(0)), [], "planned, and not carried out");
        assert_eq!(repairs.withhold(&mut update_trust(), &strange, at(10)), []);
        repairs.note(&update_trust().steps, &strange, at(10));
        assert!(matches!(repairs.withhold(&mut update_trust(), &strange, at(20)).as_slice(), [Contest::Rewritten(_)]));
    }

    #[test]
    fn a_repair_that_held_is_no_rewriting_when_it_is_needed_again() {
        let (mut repairs, strange) = (Repairs::default(), observed("lambda.amazonaws.com"));
        repairs.note(&update_trust().steps, &strange, at(0));
        assert_eq!(repairs.withhold(&mut Plan::default(), &observed("ec2.amazonaws.com"), at(1)), []);
        assert!(!repairs.unconfirmed());
        assert_eq!(repairs.withhold(&mut update_trust(), &strange, at(20)), []);
    }

    #[test]
    fn the_fourth_repair_within_an_hour_waits() {
        let (mut repairs, observed) = (Repairs::default(), observed("ec2.amazonaws.com"));
        for minute in [0, 10, 20] {
            assert_eq!(repairs.withhold(&mut detach(), &observed, at(minute)), []);
            repairs.note(&detach().steps, &observed, at(minute));
        }
        assert!(matches!(repairs.withhold(&mut detach(), &observed, at(30)).as_slice(), [Contest::Undone(_)]));
        assert_eq!(repairs.withhold(&mut detach(), &observed, at(61)), [], "one is more than an hour old");
    }
}
