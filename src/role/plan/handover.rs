//! A role that passes from one class to another, under another boundary.
//!
//! What a class lets in, it lets in under its own boundary. So under the boundary of the next class nothing may stand
//! that this one did not let in, not for a moment and not where a later step fails: else a class that allows every
//! action under a narrow boundary, and one that allows few under a wide one, would together give every action under the
//! wide one. First goes what is not wanted any more, then the boundary is replaced, and then comes what is new.
//!
//! Of a document that changes, the part stays that is wanted before and after, and every denial. What is worded anew is
//! missing for the moment between.

use super::action::Action;
use super::permissions::Listing;
use super::step::{Phase, Plan, Step};
use crate::api::{Reason, TAG_CLASS};
use crate::policy::{Canonical, Clause, Document, Grammar, Relation, bridge, relation};
use crate::role::{Desired, Observed, Problem, Record};
use std::collections::BTreeSet;

/// The class that let in what the role has, by the tag, where it is not the one that is asked now. A role without the tag
/// is taken for its class's.
fn other_class<'o>(desired: &Desired, observed: &'o Observed) -> Option<&'o String> {
    observed.tags.get(TAG_CLASS).filter(|class| **class != desired.class)
}

/// Whether the role has a boundary under which another class let in what it has, and which is to be replaced or taken off.
fn changes_boundary(desired: &Desired, observed: &Observed, record: &Record) -> bool {
    match (&observed.boundary, &desired.boundary) {
        (None, _) => false,
        (Some(found), Some(wanted)) => found != wanted,
        // One that neither spec nor class ever set is left alone.
        (Some(found), None) => record.has_set(found),
    }
}

/// What has to be done before the boundary of this class takes the place of the last one's, with that; and the role as it
/// is then. `None` where no boundary is replaced at a handover.
///
/// Where something would stay that nobody listed, the plan is [barred](Plan::barred).
pub(super) fn handover(
    desired: &Desired,
    observed: &Observed,
    record: &Record,
    recent: bool,
) -> Option<(Plan, Observed)> {
    let last = other_class(desired, observed)?;
    if !changes_boundary(desired, observed, record) {
        return None;
    }
    let mut handover = Handover {
        desired,
        listing: Listing::new(desired, observed, record),
        wanted: wanted(desired),
        after: observed.clone(),
        plan: Plan::default(),
    };
    let stays = handover.listing.kept_unlisted();
    if !stays.is_empty() {
        return Some((barred(desired, last, stays), observed.clone()));
    }
    // It is taken off last of all, so nothing has to go before.
    let boundary = desired.boundary.as_ref()?;
    handover.trust();
    handover.inline();
    handover.attached();
    if recent {
        handover.plan.steps.extend(handover.listing.unseen().into_iter().map(|action| Step::new(Phase::Shed, action)));
    }
    handover.plan.push(Phase::Rebound, Action::PutBoundary(boundary.clone()));
    handover.after.boundary = Some(boundary.clone());
    Some((handover.plan, handover.after))
}

fn barred(desired: &Desired, last: &str, stays: Vec<String>) -> Plan {
    let message = format!(
        "role {} has what nobody listed, and what was let in by IamRoleClass {last} under another permissions boundary: {}. \
         IamRoleClass {} does not take it over: list it in the spec, set whenUnlisted: Remove, take it off in AWS, or \
         go back to IamRoleClass {last}",
        desired.name,
        stays.join(", "),
        desired.class
    );
    let problem = Problem { reason: Reason::NotAllowed, message };
    Plan { refused: vec![problem], unlisted: stays, barred: true, ..Plan::default() }
}

/// All single permissions that the spec asks for.
fn wanted(desired: &Desired) -> BTreeSet<Clause> {
    let own = desired.own.iter().map(|policy| &policy.document);
    let documents = desired.inline.values().chain(own);
    documents.flat_map(|document| document.canonical(&desired.account).clauses()).collect()
}

/// What becomes of a document before the boundary is replaced.
enum Fate {
    Stays,
    Becomes(Document),
    Goes,
}

struct Handover<'a> {
    desired: &'a Desired,
    listing: Listing<'a>,
    wanted: BTreeSet<Clause>,
    after: Observed,
    plan: Plan,
}

impl Handover<'_> {
    fn trust(&mut self) {
        let account = &self.desired.account;
        let (old, new) = (&self.after.trust, &self.desired.trust);
        let narrowed = match relation(old, &new.canonical(account)) {
            Relation::Same | Relation::Widens => return,
            Relation::Narrows => new.clone(),
            Relation::Alters => bridge(old, new, account),
        };
        let then = narrowed.canonical(account);
        if then != *old {
            self.plan.push(Phase::Narrow, Action::UpdateTrust(narrowed));
            self.after.trust = then;
        }
    }

    fn inline(&mut self) {
        for (name, found) in self.after.inline.clone() {
            let listed = self.desired.inline.iter().find(|(wanted, _)| wanted.eq_ignore_ascii_case(&name));
            if self.desired.exceptions.class_keeps_inline(&name) && listed.is_none() {
                continue;
            }
            match self.fate(&found, listed.map(|(_, document)| document)) {
                Fate::Stays => {}
                Fate::Becomes(document) => {
                    self.after.inline.insert(name.clone(), self.held(&document));
                    self.plan.push(Phase::Shed, Action::PutInline { name, document });
                }
                Fate::Goes => {
                    self.after.inline.remove(&name);
                    self.plan.push(Phase::Shed, Action::DeleteInline(name));
                }
            }
        }
    }

    fn attached(&mut self) {
        for arn in self.after.managed.clone() {
            if self.desired.managed.contains(&arn) || self.desired.exceptions.class_keeps_managed(&arn) {
                continue;
            }
            let listed = self.desired.own.iter().find(|policy| policy.arn == arn).map(|policy| &policy.document);
            // A stranger's policy is not written; what it says today it may not say tomorrow.
            let ours = self.after.own.get(&arn).filter(|found| self.listing.is_ours(found));
            let fate = ours.map_or(Fate::Goes, |found| self.fate(&found.document, listed));
            match fate {
                Fate::Stays => {}
                Fate::Becomes(document) => {
                    let held = self.held(&document);
                    if let Some(found) = self.after.own.get_mut(&arn) {
                        found.document = held;
                    }
                    self.plan.push(Phase::Shed, Action::UpdatePolicy { arn, document });
                }
                Fate::Goes => {
                    self.after.managed.remove(&arn);
                    self.plan.push(Phase::Shed, Action::Detach(arn));
                }
            }
        }
    }

    /// What is read back of a document, with its size.
    fn held(&self, document: &Document) -> Canonical {
        Canonical::read(Grammar::Permission, &document.to_json(), &self.desired.account)
    }

    fn fate(&self, found: &Canonical, listed: Option<&Document>) -> Fate {
        let there = found.clauses();
        let kept: Vec<&Clause> =
            there.iter().filter(|clause| clause.denies() || self.wanted.contains(*clause)).collect();
        if kept.len() == there.len() {
            return Fate::Stays;
        }
        let narrower =
            |document: &&Document| relation(found, &document.canonical(&self.desired.account)) == Relation::Narrows;
        if let Some(document) = listed.filter(narrower) {
            return Fate::Becomes(document.clone());
        }
        let rest = if kept.is_empty() { None } else { Document::of_clauses(kept) };
        // What is written with other lists may be longer, and must not be refused for that.
        rest.filter(|document| document.size() <= found.size()).map_or(Fate::Goes, Fate::Becomes)
    }
}

/// The tag of the class, once all that the role has was let in by it: what stays and nobody listed was not.
pub(super) fn accept(plan: &mut Plan, phase: Phase, desired: &Desired, observed: &Observed, record: &Record) {
    let keeps = || !Listing::new(desired, observed, record).kept_unlisted().is_empty();
    let accepts = observed.tags.get(TAG_CLASS).is_none_or(|class| *class != desired.class && !keeps());
    if accepts {
        plan.push(phase, Action::TagRole([(TAG_CLASS.to_owned(), desired.class.clone())].into()));
    }
}

/// The boundary that a class forces on a role whose spec is not carried out; `None` where it has it, or where another
/// class let in what the role has: that was under the other's boundary, and this one may be wider.
#[must_use]
pub fn forced(class: &str, forced: &str, observed: &Observed) -> Option<Action> {
    let is_of_another = observed.tags.get(TAG_CLASS).is_some_and(|of| of != class);
    let stays = is_of_another && observed.boundary.is_some();
    (!stays && observed.boundary.as_deref() != Some(forced)).then(|| Action::PutBoundary(forced.to_owned()))
}

#[cfg(test)]
mod tests;
