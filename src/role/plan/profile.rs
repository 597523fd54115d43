//! The instance profile: the last thing that is made, and the first that is left.
//!
//! Instances that run with it hold the role, so it is treated like a principal of the trust policy.

use super::action::{Action, profile_key};
use super::step::{Phase, Plan, Step};
use crate::api::Reason;
use crate::api::iamrole::Origin;
use crate::role::{Desired, Observed, ObservedProfile, Problem, Record};

/// Adds the steps for the instance profile to `plan`.
///
/// One of another name goes before the one that is wanted is made, since status remembers one:
/// [`Plan::unfinished`] then asks to plan again.
pub(super) fn plan(plan: &mut Plan, desired: &Desired, observed: &Observed, record: &Record) {
    if let Some(old) = record.profile.as_ref().filter(|old| !desired.uses_profile(&old.name)) {
        match observed.profiles.get(&old.name) {
            Some(found) if desired.owner.judge(&found.tags).is_ours() => {
                leave(plan, Phase::Narrow, found, |_| true);
                plan.push(Phase::DeleteOwned, Action::DeleteProfile(found.name.clone()));
                plan.unfinished = desired.profile.is_some();
            }
            // It may come to light: it would be forgotten if the wanted one took its place on record.
            None => plan.unfinished = desired.profile.is_some(),
            // Somebody else's by now.
            Some(_) => {}
        }
    }
    let Some(wanted) = desired.profile.as_ref().filter(|_| !plan.unfinished) else { return };
    match observed.profiles.get(wanted) {
        None => {
            let tags = desired.owner.tags(Origin::Created);
            plan.push(Phase::Widen, Action::CreateProfile { name: wanted.clone(), path: desired.path.clone(), tags });
            join(plan, wanted);
        }
        Some(found) if desired.owner.judge(&found.tags).is_ours() => mend(plan, desired, found),
        Some(found) => plan.refused.push(taken(desired, found)),
    }
}

fn mend(plan: &mut Plan, desired: &Desired, found: &ObservedProfile) {
    let mut tags = desired.owner.tags(Origin::Created);
    tags.retain(|key, value| found.tags.get(key) != Some(value));
    if !tags.is_empty() {
        plan.push(Phase::Own, Action::TagProfile { name: found.name.clone(), tags });
    }
    let is_role = |role: &str| role.eq_ignore_ascii_case(&desired.name);
    leave(plan, Phase::Widen, found, |role| !is_role(role));
    if !found.roles.iter().any(|role| is_role(role)) {
        join(plan, &found.name);
    }
}

fn join(plan: &mut Plan, profile: &str) {
    let mut step = Step::new(Phase::Widen, Action::JoinProfile(profile.to_owned()));
    step.needs.insert(profile_key(profile));
    plan.steps.push(step);
}

fn leave(plan: &mut Plan, phase: Phase, found: &ObservedProfile, goes: impl Fn(&str) -> bool) {
    for role in found.roles.iter().filter(|role| goes(role)) {
        plan.push(phase, Action::LeaveProfile { profile: found.name.clone(), role: role.clone() });
    }
}

fn taken(desired: &Desired, found: &ObservedProfile) -> Problem {
    let whose = desired.owner.whose(&found.tags);
    Problem {
        reason: Reason::InstanceProfileNotOwned,
        message: format!(
            "instance profile {} exists and {whose}; it is left untouched. Choose another instanceProfile.name, or remove \
             it in AWS",
            found.arn
        ),
    }
}
