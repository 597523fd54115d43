//! Which policies come, change and go; `order.rs` tells when.

use super::action::{Action, inline_key};
use super::class::other_class;
use super::order::{Change, Fact, Facts, Order, Room};
use super::step::{Phase, Plan, Step};
use crate::api::Reason;
use crate::api::iamrole::{Origin, WhenUnlisted};
use crate::policy::{Canonical, Document};
use crate::role::{Desired, Observed, ObservedPolicy, OwnPolicy, Problem, Record};
use std::collections::{BTreeMap, BTreeSet};

/// Adds the steps for all permissions to `plan`.
pub(super) fn plan(
    plan: &mut Plan,
    desired: &Desired,
    observed: &Observed,
    record: &Record,
    attachments: usize,
    recent: bool,
) {
    let order = Order::new(desired, attachments.max(observed.managed.len()));
    let ownership = desired.owner.judge(&observed.tags);
    let origin = ownership.origin(record.role.as_ref().and_then(|role| role.origin));
    let mut planner = Planner { desired, observed, record, origin, recent, plan, order, last: Vec::new() };
    planner.wanted_documents();
    planner.own_policies();
    planner.managed();
    planner.inline();
    planner.order.schedule(planner.plan);
    planner.plan.steps.append(&mut planner.last);
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    record: &'a Record,
    origin: Origin,
    recent: bool,
    plan: &'a mut Plan,
    order: Order<'a>,
    /// Steps that move no permission that is seen; they come last.
    last: Vec<Step>,
}

impl<'a> Planner<'a> {
    /// All that is wanted, also what is refused or there already.
    fn wanted_documents(&mut self) {
        let desired = self.desired;
        let own = desired.own.iter().map(|policy| &policy.document);
        for document in desired.inline.values().chain(own) {
            self.order.want_document(document);
        }
        for arn in &desired.managed {
            self.order.want(self.facts_of_policy(arn));
        }
    }

    fn facts(&self, document: &Document) -> Facts {
        facts(&document.canonical(&self.desired.account))
    }

    /// What an attached policy permits; of one that nobody asked about only that it is there.
    fn facts_of_policy(&self, arn: &str) -> Facts {
        let known = self.observed.own.get(arn);
        known.map_or_else(|| Facts::from([Fact::Policy(arn.to_owned())]), |policy| facts(&policy.document))
    }

    fn own_policies(&mut self) {
        let (desired, observed) = (self.desired, self.observed);
        for policy in &desired.own {
            let attached = observed.managed.contains(&policy.arn);
            match observed.own.get(&policy.arn) {
                Some(found) if !self.is_writable(found) => {
                    self.plan.refused.push(policy_taken(desired, policy, found));
                    if attached {
                        self.order.want(facts(&found.document));
                        self.order.there(policy.arn.clone(), facts(&found.document), Room::attached());
                    }
                }
                Some(found) => self.own_policy(policy, found, attached),
                None => {
                    let tags = desired.role_tags(Origin::Created);
                    self.plan.push(Phase::Add, Action::CreatePolicy { policy: Box::new(policy.clone()), tags });
                    self.attach_own(policy, true);
                }
            }
        }
        for gone in &self.record.own {
            let ours = observed.own.get(&gone.arn).is_some_and(|found| self.is_ours(found));
            // What moved to `managedPolicies` stays, and stays ours.
            if ours && !self.is_wanted(&gone.arn) {
                if !observed.managed.contains(&gone.arn) && self.recent {
                    self.last.push(Step::new(Phase::Remove, Action::Detach(gone.arn.clone())));
                }
                // The permission went with its attachment: whoever else uses the policy holds up nothing.
                let mut step = Step::new(Phase::DeleteOwned, Action::DeletePolicy(gone.arn.clone()));
                step.needs.insert(gone.arn.clone());
                step.is_loose = !observed.managed.contains(&gone.arn) && !self.recent;
                self.last.push(step);
            }
        }
    }

    fn is_ours(&self, policy: &ObservedPolicy) -> bool {
        self.desired.owner.judge(&policy.tags).is_ours()
    }

    /// Whether a policy is ours, and of this class: it may be attached to a role of another one.
    fn is_writable(&self, policy: &ObservedPolicy) -> bool {
        self.is_ours(policy) && other_class(self.desired, &policy.tags).is_none()
    }

    fn is_wanted(&self, arn: &str) -> bool {
        self.desired.uses(arn)
    }

    fn own_policy(&mut self, policy: &'a OwnPolicy, found: &ObservedPolicy, attached: bool) {
        // Of another cluster that this one takes over, or mended.
        let mut tags = self.desired.role_tags(Origin::Created);
        tags.retain(|key, value| found.tags.get(key) != Some(value));
        if !tags.is_empty() {
            self.plan.push(Phase::Own, Action::TagPolicy { arn: policy.arn.clone(), tags });
        }
        let (arn, document) = (policy.arn.clone(), policy.document.clone());
        let changed = found.document != policy.document.canonical(&self.desired.account);
        if attached {
            self.order.there(arn.clone(), facts(&found.document), Room::attached());
        }
        let update = Action::UpdatePolicy { arn, document };
        match (attached, changed) {
            (true, false) => {}
            (true, true) => {
                let after = self.facts(&policy.document);
                self.order.comes(Change::new(update, after, Room::attached()).of(&policy.document));
            }
            (false, true) => {
                self.plan.push(Phase::Add, update);
                self.attach_own(policy, true);
            }
            (false, false) => self.attach_own(policy, false),
        }
    }

    /// `written`: its document is written just before. What could not be written must not be attached: it may still
    /// say what it said long ago.
    fn attach_own(&mut self, policy: &'a OwnPolicy, written: bool) {
        if self.observed.managed.contains(&policy.arn) {
            return;
        }
        let mut change =
            Change::new(Action::Attach(policy.arn.clone()), self.facts(&policy.document), Room::attached());
        if written {
            change.needs.insert(policy.arn.clone());
        }
        self.order.comes(change);
    }

    fn managed(&mut self) {
        let (desired, observed) = (self.desired, self.observed);
        for arn in desired.managed.difference(&observed.managed) {
            let change = Change::new(Action::Attach(arn.clone()), self.facts_of_policy(arn), Room::attached());
            self.order.comes(change);
        }
        // An entry without an id was only intended, and its policy may have been a stranger's all along.
        let made = self.record.own.iter().filter(|policy| policy.id.is_some()).map(|policy| &policy.arn);
        let recorded: BTreeSet<&String> = self.record.managed.iter().chain(made).collect();
        for arn in &observed.managed {
            if desired.own.iter().any(|policy| policy.arn == *arn) {
                continue;
            }
            let facts = self.facts_of_policy(arn);
            self.order.there(arn.clone(), facts.clone(), Room::attached());
            let ours = self.record.own.iter().any(|policy| policy.arn == *arn)
                && observed.own.get(arn).is_some_and(|found| self.is_ours(found));
            if desired.managed.contains(arn) {
                // It stays.
            } else if !ours && self.stays(desired.exceptions.keep_managed(arn), recorded.contains(arn)) {
                self.plan.unlisted.push(arn.clone());
                self.order.want(facts);
            } else {
                self.goes(Action::Detach(arn.clone()), !ours && !recorded.contains(arn));
            }
        }
        if self.recent {
            let unseen = self.record.managed.iter().filter(|arn| !observed.managed.contains(*arn));
            let unseen: Vec<String> = unseen.filter(|arn| !self.is_wanted(arn)).cloned().collect();
            self.last.extend(unseen.into_iter().map(|arn| Step::new(Phase::Remove, Action::Detach(arn))));
        }
    }

    /// Whether what is not wanted stays. An exception of the class does, whatever status says: status can be forged.
    fn stays(&self, exception: bool, recorded: bool) -> bool {
        // The tags decide whether it was adopted: status may be lost, or new.
        let as_found = self.origin == Origin::Adopted && !self.desired.when_unlisted_given;
        let kept = as_found || self.desired.when_unlisted != WhenUnlisted::Remove;
        exception || (!recorded && kept)
    }

    fn goes(&mut self, action: Action, is_strangers: bool) {
        self.plan.strangers.extend(action.key().filter(|_| is_strangers));
        self.order.goes(Change::removal(action, is_strangers));
    }

    fn inline(&mut self) {
        let (desired, observed) = (self.desired, self.observed);
        // IAM takes names that differ only in case for the same: the one that is there is used.
        let spelled = |name: &'a String| {
            let other_case = || observed.inline.keys().find(|found| found.eq_ignore_ascii_case(name));
            observed.inline.get_key_value(name).map(|(found, _)| found).or_else(other_case).unwrap_or(name)
        };
        let wanted: BTreeMap<&String, &Document> =
            desired.inline.iter().map(|(name, document)| (spelled(name), document)).collect();
        for (name, found) in &observed.inline {
            self.order.there(inline_key(name), facts(found), Room::inline(found.size()));
        }
        // New ones first, for the eye only.
        let (new, old): (Vec<_>, Vec<_>) = wanted.iter().partition(|(name, _)| !observed.inline.contains_key(**name));
        for (name, document) in new.into_iter().chain(old) {
            let canonical = document.canonical(&desired.account);
            if observed.inline.get(*name) != Some(&canonical) {
                let put = Action::PutInline { name: (*name).clone(), document: (*document).clone() };
                self.order.comes(Change::new(put, facts(&canonical), Room::inline(document.size())).of(document));
            }
        }
        let recorded = |name: &String| self.record.inline.iter().any(|known| known.eq_ignore_ascii_case(name));
        for (name, found) in observed.inline.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
            if self.stays(desired.exceptions.keep_inline(name), recorded(name)) {
                self.plan.unlisted.push(name.clone());
                self.order.want(facts(found));
            } else {
                self.goes(Action::DeleteInline(name.clone()), !recorded(name));
            }
        }
        if self.recent {
            let there = |name: &String| {
                let mut names = observed.inline.keys().chain(wanted.keys().copied());
                names.any(|found| found.eq_ignore_ascii_case(name))
            };
            let unseen = self.record.inline.iter().filter(|name| !there(name)).cloned();
            self.last.extend(unseen.map(|name| Step::new(Phase::Remove, Action::DeleteInline(name))));
        }
    }
}

fn facts(document: &Canonical) -> Facts {
    document.clauses().into_iter().map(Fact::Clause).collect()
}

/// The refusal of an owned policy whose name belongs to somebody else.
#[must_use]
pub fn policy_taken(desired: &Desired, policy: &OwnPolicy, found: &ObservedPolicy) -> Problem {
    let of_another = |class: &String| format!("was made under IamRoleClass {class}, whose roles are not taken over");
    let ours = desired.owner.judge(&found.tags).is_ours();
    let other = other_class(desired, &found.tags).filter(|_| ours);
    let whose = other.map_or_else(|| desired.owner.whose(&found.tags), of_another);
    Problem {
        reason: Reason::PolicyNameTaken,
        message: format!(
            "policy {} exists and {whose}; it is left untouched. Choose another policyName for entry {:?}, attach it \
             by managedPolicies instead, or remove it in AWS",
            policy.arn, policy.entry
        ),
    }
}
