//! The plan that removes a role. Needs no valid spec: the record and what AWS shows are enough.

use super::desired::Exceptions;
use super::observed::{Observed, ObservedProfile};
use super::owner::Owner;
use super::plan::{Action, Phase, Plan, Step};
use super::record::Record;
use crate::api::iamrole::{DeletionPolicy, WhenUnlisted};
use crate::policy::Canonical;
use std::collections::{BTreeMap, BTreeSet};

/// What a deletion does and what keeps it from starting.
#[derive(Clone, Debug, Default)]
pub struct Deletion {
    /// The steps; none while something blocks.
    pub plan: Plan,
    /// Things that are not ours and that nobody permitted to remove, in words.
    pub blockers: Vec<String>,
    /// What is on record as made by us and stays, since somebody took our owner tags off it, in words.
    pub left: Vec<String>,
}

/// How far a deletion may go.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// Whose role it is.
    pub owner: &'a Owner,
    /// `Delete` or `ForceDelete`; `Retain` never gets here.
    pub policy: DeletionPolicy,
    /// Where unlisted policies are removed anyway, deletion removes them too.
    pub when_unlisted: WhenUnlisted,
    /// What is never taken for unlisted; it then blocks a plain `Delete`.
    pub exceptions: &'a Exceptions,
}

/// Plans the deletion of a role of ours (`observed`), or of what is left of it.
///
/// `own` are policies of the account with their tags: the recorded ones, and where status is lost all that are attached.
/// Only those that carry our owner tags are deleted; of the others those that are not on record are strangers'.
/// `profiles` are the instance profiles that hold the role, and the recorded one.
#[must_use]
pub fn plan(
    terms: &Terms<'_>,
    record: &Record,
    observed: Option<&Observed>,
    own: &BTreeMap<String, BTreeMap<String, String>>,
    profiles: &[ObservedProfile],
) -> Deletion {
    let mut deletion = Deletion::default();
    let mut steps = Vec::new();
    let mut step = |phase, action| steps.push(Step::new(phase, action));
    if let Some(observed) = observed {
        let recorded: BTreeSet<&String> =
            record.managed.iter().chain(record.own.iter().map(|policy| &policy.arn)).collect();
        for arn in &observed.managed {
            // To take it off a role that goes takes it from nobody, also where the class keeps it for others.
            let ours = recorded.contains(arn) || own.get(arn).is_some_and(|tags| terms.owner.judge(tags).is_ours());
            if ours || terms.may_remove(terms.exceptions.keep_managed(arn)) {
                step(Phase::Remove, Action::Detach(arn.clone()));
            } else {
                deletion.blockers.push(format!("attached policy {arn}"));
            }
        }
        for name in observed.inline.keys() {
            // It only denies, and dies with the role.
            let revocation = name == super::desired::REVOKE_SESSIONS;
            let recorded = record.inline.iter().any(|known| known.eq_ignore_ascii_case(name));
            let kept = terms.exceptions.keep_inline(name);
            if (recorded && !kept) || revocation || terms.may_remove(kept) {
                step(Phase::Remove, Action::DeleteInline(name.clone()));
            } else {
                deletion.blockers.push(format!("inline policy {name}"));
            }
        }
        for profile in profiles.iter().filter(|profile| !terms.owner.judge(&profile.tags).is_ours()) {
            for role in profile.roles.iter().filter(|role| role.eq_ignore_ascii_case(&observed.name)) {
                if terms.policy == DeletionPolicy::ForceDelete {
                    let (profile, role) = (profile.name.clone(), role.clone());
                    step(Phase::Remove, Action::LeaveProfile { profile, role });
                } else {
                    deletion.blockers.push(format!("instance profile {}", profile.name));
                }
            }
        }
        step(Phase::Delete, Action::DeleteRole);
    }
    for profile in profiles.iter().filter(|profile| terms.owner.judge(&profile.tags).is_ours()) {
        for role in &profile.roles {
            step(Phase::Narrow, Action::LeaveProfile { profile: profile.name.clone(), role: role.clone() });
        }
        step(Phase::DeleteOwned, Action::DeleteProfile(profile.name.clone()));
    }
    // What was only ever intended is a stranger's.
    let is_recorded = |profile: &&ObservedProfile| {
        record.profile.iter().any(|known| known.arn.is_some() && known.name == profile.name)
    };
    let strange = profiles.iter().filter(|profile| !terms.owner.judge(&profile.tags).is_ours()).filter(is_recorded);
    deletion.left.extend(strange.map(|profile| format!("instance profile {}", profile.name)));
    for (arn, tags) in own {
        if terms.owner.judge(tags).is_ours() {
            step(Phase::DeleteOwned, Action::DeletePolicy(arn.clone()));
        } else if record.own.iter().any(|known| known.id.is_some() && known.arn == *arn) {
            deletion.left.push(format!("policy {arn}"));
        }
    }
    steps.sort_by_key(|step| (step.phase, lifts(&step.action, observed)));
    if deletion.blockers.is_empty() {
        deletion.plan.steps = steps;
    }
    deletion
}

/// What a step lifts, least first: until the role is gone, nobody may do more than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lifts {
    /// No denial.
    Nothing,
    /// Nobody knows: the text of an attached policy was not read.
    Unknown,
    /// A denial and something that is allowed: what it denies may be allowed elsewhere, and it alone may allow what is
    /// denied elsewhere.
    Both,
    /// Nothing but denials.
    Denials,
}

fn lifts(action: &Action, observed: Option<&Observed>) -> Lifts {
    let document = match (action, observed) {
        (Action::Detach(arn), Some(observed)) => match observed.own.get(arn) {
            Some(policy) => Some(&policy.document),
            None => return Lifts::Unknown,
        },
        (Action::DeleteInline(name), Some(observed)) => observed.inline.get(name),
        _ => None,
    };
    let clauses = document.map(Canonical::clauses).unwrap_or_default();
    let denials = clauses.iter().filter(|clause| clause.denies()).count();
    match denials {
        0 => Lifts::Nothing,
        _ if denials < clauses.len() => Lifts::Both,
        _ => Lifts::Denials,
    }
}

impl Terms<'_> {
    fn may_remove(&self, exception: bool) -> bool {
        self.policy == DeletionPolicy::ForceDelete || (self.when_unlisted == WhenUnlisted::Remove && !exception)
    }
}
