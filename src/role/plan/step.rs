//! Steps, their order, and what a failure holds up.

use super::action::Action;
use crate::api::Reason;
use crate::role::{Observed, Problem};
use std::collections::{BTreeMap, BTreeSet};

/// When a step is done; steps are ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The role itself.
    Create,
    /// A boundary that somebody took away or replaced, before anything else.
    Restore,
    /// Owner tags: adoption, or mending.
    Own,
    /// Tags, description, duration: independent of all others.
    Describe,
    /// Trust that only narrows, or a bridge between two trusts. Before the boundary, since one that is replaced may
    /// let through more than the last one did, and principals that go must not see that.
    Narrow,
    /// The boundary that the class forces is set or replaced, before any permission comes.
    Force,
    /// The same of one that the spec names.
    Bound,
    /// New and changed permissions.
    Add,
    /// Some go and others come, alternately: where IAM's quotas have no room for both, and where what goes must be
    /// gone before a denial is lifted. One failure stops it all.
    Exchange,
    /// Permissions that go.
    Remove,
    /// Trust that adds or alters.
    Widen,
    /// A boundary of ours that is not wanted any more.
    Unbound,
    /// Deletion of the role.
    Delete,
    /// Deletion of the policies and of the instance profile that the role owned.
    DeleteOwned,
}

impl Phase {
    /// Whether a step of this phase must wait since a step of `failed` did not succeed.
    #[must_use]
    pub fn blocked_by(self, failed: Self) -> bool {
        match failed {
            Self::Describe | Self::DeleteOwned => false,
            Self::Restore => self > failed && !matches!(self, Self::Own | Self::Describe | Self::Narrow),
            Self::Own => self > failed && self != Self::Describe,
            // A trust that IAM keeps refusing must not keep away what the admin forces.
            Self::Narrow => self > failed && self != Self::Force,
            Self::Exchange => self >= failed,
            // What the role does not have any more keeps nothing of it from being deleted.
            Self::Remove | Self::Widen | Self::Unbound => self > failed && self != Self::DeleteOwned,
            // Each addition and each removal stands for itself; what follows needs all of them.
            Self::Create | Self::Force | Self::Bound | Self::Add | Self::Delete => self > failed,
        }
    }
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub phase: Phase,
    /// What.
    pub action: Action,
    /// [Keys](Action::key) of policies: no earlier step done to them may have failed.
    pub needs: BTreeSet<String>,
    /// It takes off what somebody else put on the role: that stays for no failure but of what it [needs](Self::needs).
    pub is_strangers: bool,
    /// It deletes what the role does not have and nobody asks for: that waits for nothing but what it [needs](Self::needs).
    /// Else what earlier specs left would pile up as long as something fails.
    pub is_loose: bool,
}

impl Step {
    pub(crate) const fn new(phase: Phase, action: Action) -> Self {
        Self { phase, action, needs: BTreeSet::new(), is_strangers: false, is_loose: false }
    }
}

/// What is to be done, in order, and what is refused.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Parts that can't be done; they hold up removals as a failed addition does.
    pub refused: Vec<Problem>,
    /// Attachments and inline policies that nobody listed and that stay.
    pub unlisted: Vec<String>,
    /// Repairs that were given up, and what relies on them; they hold up what follows like steps that failed, but for
    /// removals.
    pub withheld: Vec<Step>,
    /// The [keys](Action::key) of what strangers put on the role and that is to go, also where it can't yet.
    pub strangers: BTreeSet<String>,
    /// Nothing may be done; `refused` says why.
    pub barred: bool,
    /// An instance profile has to go, or a late read has to show it, before the rest can be planned.
    pub unfinished: bool,
    /// What comes [waits](Self::hold_back).
    pub held_back: bool,
}

impl Plan {
    /// The inline policies of `observed` that stay though nobody listed them, by name and size.
    #[must_use]
    pub fn kept_inline(&self, observed: &Observed) -> BTreeMap<String, usize> {
        let kept = observed.inline.iter().filter(|(name, _)| self.unlisted.contains(name));
        kept.map(|(name, document)| (name.clone(), document.size())).collect()
    }

    /// Whether AWS is as wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.refused.is_empty()
    }

    pub(super) fn push(&mut self, phase: Phase, action: Action) {
        self.steps.push(Step::new(phase, action));
    }

    /// What is refused and counts as an addition that failed.
    fn refused_additions(&self) -> impl Iterator<Item = &Problem> {
        self.refused.iter().filter(|problem| problem.reason != Reason::InstanceProfileNotOwned)
    }

    /// What was there before the spec, by its keys, goes only when all that comes is there: it may be what that replaces.
    pub fn have_wait(&mut self, before: &BTreeSet<String>) {
        for step in &mut self.steps {
            step.is_strangers &= !step.action.key().is_some_and(|key| before.contains(&key));
        }
    }

    /// Leaves what lets nobody have more: an earlier spec may have given what this read does not show, and nobody who comes
    /// may meet that, nor anything that comes meet whom it let in.
    pub fn hold_back(&mut self) {
        let before = self.steps.len();
        self.steps.retain(|step| step.phase < Phase::Bound || step.is_strangers || step.is_loose);
        self.held_back = self.steps.len() < before;
    }

    /// Whether permissions or a boundary come.
    pub(super) fn has_additions(&self) -> bool {
        let comes = |step: &Step| matches!(step.phase, Phase::Add | Phase::Exchange | Phase::Force | Phase::Bound);
        self.steps.iter().any(comes)
    }

    /// Whether a trust that adds may have to wait for something that one which only narrows does not wait for.
    pub(super) fn may_delay_trust(&self) -> bool {
        let delays = |step: &Step| Phase::Widen.blocked_by(step.phase) && !Phase::Narrow.blocked_by(step.phase);
        self.refused_additions().next().is_some() || self.steps.iter().any(delays)
    }
}

/// What failed so far while a plan is carried out, and so what has to wait.
///
/// ```text
/// for each step: if it is held up or fails, tell it to `failed`
/// ```
#[derive(Clone, Debug)]
pub struct Progress {
    failed: Vec<Failed>,
}

#[derive(Clone, Debug)]
struct Failed {
    phase: Phase,
    key: Option<String>,
    /// A repair that was given up.
    withheld: bool,
    /// It was to tell whose something is.
    tells_owner: bool,
}

impl Failed {
    fn of(step: &Step, withheld: bool) -> Self {
        Self { phase: step.phase, key: step.action.key(), withheld, tells_owner: step.action.tells_owner() }
    }

    /// What is given up can stay so for an hour or a day, and must be no shelter meanwhile. What goes from a role does not
    /// wait for a document; where it needs the very policy, it waits by the policy's key. And nothing waits for owner tags
    /// beside those that tell whose the role is.
    fn blocks(&self, step: &Step) -> bool {
        if self.withheld && self.phase == Phase::Own && !self.tells_owner {
            return false;
        }
        if (step.is_strangers || step.is_loose) && !matches!(self.phase, Phase::Create | Phase::Own) {
            return false;
        }
        let goes = matches!(step.action, Action::Detach(_) | Action::DeleteInline(_) | Action::DeletePolicy(_));
        let is_document = matches!(self.phase, Phase::Narrow | Phase::Add | Phase::Exchange);
        step.phase.blocked_by(self.phase) && !(self.withheld && is_document && goes)
    }
}

impl Progress {
    /// At the beginning of a plan. A policy that was refused counts as an addition that failed.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let refused = plan.refused_additions().map(|_| Failed {
            phase: Phase::Add,
            key: None,
            withheld: false,
            tells_owner: false,
        });
        let withheld = plan.withheld.iter().map(|step| Failed::of(step, true));
        Self { failed: refused.chain(withheld).collect() }
    }

    /// Whether the step has to wait for one that failed, or that had to wait itself.
    #[must_use]
    pub fn holds_up(&self, step: &Step) -> bool {
        let needs = |failed: &Failed| failed.key.as_ref().is_some_and(|key| step.needs.contains(key));
        self.failed.iter().any(|failed| failed.blocks(step) || needs(failed))
    }

    /// Notes a step that failed or was held up.
    pub fn failed(&mut self, step: &Step) {
        self.failed.push(Failed::of(step, false));
    }
}
