//! The ordered list of actions that makes AWS match.
//!
//! The order keeps two promises while an update is under way or stops half-way: no permission that is
//! wanted before and after is ever missing, and no principal ever holds a permission that the spec did
//! not combine with it. [`Phase`] is that order; [`Phase::blocked_by`] says what a failure holds up.
//! Within the permissions the order follows from what the documents say: `order.rs`.

mod action;
mod class;
mod order;
mod permissions;
mod profile;
mod step;

pub use action::Action;
pub(super) use action::profile_key;
pub use class::{Forced, forced};
pub use permissions::policy_taken;
pub use step::{Phase, Plan, Progress, Step};

use super::desired::Desired;
use super::observed::Observed;
use super::record::Record;
use crate::api::iamrole::Origin;
use crate::policy::{AccountRef, Bridge, Document, Relation, bridge, closed, relation};
use std::collections::{BTreeMap, BTreeSet};

/// IAM's default for the longest session.
pub const DEFAULT_SESSION: i32 = 3600;
/// So many tags a role has at most.
const TAGS: usize = 50;

/// The plan for a role that does not exist: it is created without a read.
///
/// IAM takes no trust policy that names a principal that does not exist, and a role does not before it is created:
/// one that names itself is made by [`create_closed`].
#[must_use]
pub fn create(desired: &Desired) -> Plan {
    if names_itself(desired) { create_closed(desired) } else { create_with(desired, &desired.trust) }
}

/// The plan for a role whose trust policy names principals that may not exist yet, such as a role that trusts this
/// one in turn: it is created with a trust that lets nobody in, and gets its own as the last step.
#[must_use]
pub fn create_closed(desired: &Desired) -> Plan {
    let mut plan = create_with(desired, &closed(&desired.trust));
    plan.push(Phase::Widen, Action::UpdateTrust(desired.trust.clone()));
    plan.steps.sort_by_key(|step| step.phase);
    plan
}

fn names_itself(desired: &Desired) -> bool {
    let AccountRef { partition, id } = &desired.account;
    let own = format!("arn:{partition}:iam::{id}:role{}{}", desired.path, desired.name);
    let principals = desired.trust.statements().iter().filter_map(|statement| statement.principal.as_ref());
    principals.flat_map(|principals| &principals.entries).any(|(_, values)| values.contains(&own))
}

fn create_with(desired: &Desired, trust: &Document) -> Plan {
    let mut plan = Plan::default();
    let mut tags = desired.tags.clone();
    tags.extend(desired.role_tags(Origin::Created));
    plan.push(
        Phase::Create,
        Action::CreateRole {
            path: desired.path.clone(),
            description: desired.description.clone().filter(|text| !text.is_empty()),
            max_session: desired.max_session.unwrap_or(DEFAULT_SESSION),
            boundary: desired.boundary.clone(),
            tags,
            trust: trust.clone(),
        },
    );
    let (nothing, record) = (nothing(desired), Record::default());
    permissions::plan(&mut plan, desired, &nothing, &record, usize::MAX, false);
    profile::plan(&mut plan, desired, &nothing, &record);
    plan.steps.sort_by_key(|step| step.phase);
    plan
}

/// The plan for a foreign role that may be adopted: the owner tags, and nothing else in this pass. `origin` is where it
/// [comes from](Record::origin_of).
#[must_use]
pub fn adopt(desired: &Desired, origin: Origin) -> Plan {
    let mut plan = Plan::default();
    plan.push(Phase::Own, Action::TagRole(desired.role_tags(origin)));
    plan
}

/// The plan for a role of ours. `attachments` is the account's quota of attached policies per role.
///
/// `recent` says that we wrote a moment ago: a read may then lag behind, so what we recorded is taken to
/// be there even if it is not seen.
#[must_use]
pub fn update(desired: &Desired, observed: &Observed, record: &Record, attachments: usize, recent: bool) -> Plan {
    if !desired.owner.judge(&observed.tags).is_ours() {
        return Plan::default();
    }
    if let Some(barred) = class::barred(desired, observed) {
        return barred;
    }
    let ownership = desired.owner.judge(&observed.tags);
    let origin = ownership.origin(record.role.as_ref().and_then(|role| role.origin));
    let mut planner = Planner { desired, observed, record, origin, recent, plan: Plan::default() };
    planner.tags();
    planner.scalars();
    planner.boundary();
    permissions::plan(&mut planner.plan, desired, observed, record, attachments, recent);
    profile::plan(&mut planner.plan, desired, observed, record);
    planner.trust();
    planner.plan.steps.sort_by_key(|step| (step.phase, step.action.is_of_profile()));
    planner.plan.unlisted.sort();
    planner.plan
}

/// A role before it has anything.
#[must_use]
pub fn nothing(desired: &Desired) -> Observed {
    Observed {
        name: desired.name.clone(),
        path: desired.path.clone(),
        arn: String::new(),
        id: String::new(),
        create_date: String::new(),
        description: String::new(),
        max_session: DEFAULT_SESSION,
        boundary: None,
        tags: BTreeMap::new(),
        trust: desired.trust.canonical(&desired.account),
        managed: BTreeSet::new(),
        inline: BTreeMap::new(),
        own: BTreeMap::new(),
        profiles: BTreeMap::new(),
    }
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    record: &'a Record,
    origin: Origin,
    recent: bool,
    plan: Plan,
}

impl Planner<'_> {
    fn tags(&mut self) {
        let (observed, desired) = (&self.observed.tags, &self.desired.tags);
        let mut own = self.desired.role_tags(self.origin);
        own.retain(|key, value| observed.get(key) != Some(value));
        if !own.is_empty() {
            self.plan.push(Phase::Own, Action::TagRole(own));
        }
        let mut missing = desired.clone();
        missing.retain(|key, value| !self.tag_is_set(key, value));
        // IAM takes keys that differ only in case for one: untagging the old case would remove the new.
        let wanted: BTreeSet<String> = desired.keys().map(|key| key.to_lowercase()).collect();
        // AWS may have kept the case of another hand, so what we wrote is looked for without it.
        let there: BTreeSet<String> = observed.keys().map(|key| key.to_lowercase()).collect();
        let seen = |key: &String| self.recent || there.contains(&key.to_lowercase());
        let stale = self.record.tag_keys.iter().filter(|key| !wanted.contains(&key.to_lowercase()) && seen(key));
        let stale: BTreeSet<String> = stale.cloned().collect();
        let come = missing.keys().filter(|key| !there.contains(&key.to_lowercase())).count();
        let fits = observed.len() + come <= TAGS;
        let comes = (!missing.is_empty()).then_some(Action::TagRole(missing));
        let goes = (!stale.is_empty()).then_some(Action::UntagRole(stale));
        // Policies may ask for either: none is missing for a moment where there is room for both.
        let in_turn = if fits { [comes, goes] } else { [goes, comes] };
        in_turn.into_iter().flatten().for_each(|action| self.plan.push(Phase::Describe, action));
    }

    /// Whether the tag is there; a key in other case counts once we have written it in ours.
    fn tag_is_set(&self, key: &str, value: &str) -> bool {
        if let Some(found) = self.observed.tags.get(key) {
            return found == value;
        }
        let lower = key.to_lowercase();
        let other_case = self.observed.tags.iter().find(|(found, _)| found.to_lowercase() == lower);
        other_case.is_some_and(|(_, found)| found == value) && self.record.tag_keys.contains(key)
    }

    fn scalars(&mut self) {
        let as_found = self.origin == Origin::Adopted;
        let description = match &self.desired.description {
            Some(text) => text.clone(),
            None if as_found => self.observed.description.clone(),
            None => String::new(),
        };
        let max_session = match self.desired.max_session {
            Some(seconds) => seconds,
            None if as_found => self.observed.max_session,
            None => DEFAULT_SESSION,
        };
        if description != self.observed.description || max_session != self.observed.max_session {
            self.plan.push(Phase::Describe, Action::UpdateRole { description, max_session });
        }
    }

    fn boundary(&mut self) {
        match (&self.desired.boundary, &self.observed.boundary) {
            // None restricts nothing, so the first one is safe at once; and so is ours in place of a stranger's.
            (Some(wanted), found) if found.as_ref() != Some(wanted) => {
                // What an attempt of ours has not replaced yet is no stranger's.
                let is_first = found.is_none() || self.record.was_bounded(wanted);
                let comes = if self.desired.forces_boundary { Phase::Force } else { Phase::Bound };
                let phase = if is_first { Phase::Restore } else { comes };
                self.plan.push(phase, Action::PutBoundary(wanted.clone()));
            }
            // One that neither spec nor class ever set is left alone.
            (None, Some(found)) if self.record.has_set(found) => {
                self.plan.push(Phase::Unbound, Action::DeleteBoundary);
            }
            // Set a moment ago, and this read is from before that.
            (None, None) if self.recent && self.record.boundary.is_some() => {
                self.plan.push(Phase::Unbound, Action::DeleteBoundary);
            }
            _ => {}
        }
    }

    fn trust(&mut self) {
        let account = &self.desired.account;
        let (old, new) = (&self.observed.trust, &self.desired.trust);
        match relation(old, &new.canonical(account)) {
            Relation::Same => {}
            Relation::Narrows => self.plan.push(Phase::Narrow, Action::UpdateTrust(new.clone())),
            Relation::Widens => self.plan.push(Phase::Widen, Action::UpdateTrust(new.clone())),
            Relation::Alters => {
                // Principals that go must not see what is added, those that come not what is removed; and those that go
                // don't stay since something else fails, if those that stay can do without that.
                let between = || bridge(old, new, account, self.desired.limits.trust);
                let bridge = self.plan.may_delay_trust().then(between);
                let bridge = bridge.filter(|bridge| bridge.keeps_all || self.plan.has_additions());
                // Already there when the last attempt got no further.
                if let Some(Bridge { document, .. }) =
                    bridge.filter(|bridge| bridge.document.canonical(account) != *old)
                {
                    self.plan.push(Phase::Narrow, Action::UpdateTrust(document));
                }
                self.plan.push(Phase::Widen, Action::UpdateTrust(new.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
