//! Differences that are left, in words.

use super::apply::Work;
use super::carry::Carried;
use super::failure::Failure;
use super::memory::Basis;
use super::roles::class_ref;
use super::status::find;
use super::subject::Subject;
use crate::api::iamrole::PlannedAction;
use crate::api::{ConditionType, IamRoleClass, Reason};
use crate::policy::closed;
use crate::role::contest::{Contest, Look, Repairs, Why};
use crate::role::{Desired, Observed, Plan};

impl Work<'_> {
    /// Leaves out what was written and did not last. A new generation of object or class starts afresh.
    pub(super) fn withhold(&self, subject: &Subject, plan: &mut Plan, observed: Option<&Observed>) -> Vec<Contest> {
        let Some(look) = observed.map(|observed| self.look(observed)) else { return Vec::new() };
        let basis: Basis = (subject.generation, class_ref(self.case.class));
        self.ctx.memory.with(&subject.uid, |entry| {
            if entry.repairs.0 != basis {
                // What status says counts once, after a start: later it could only have been forged.
                let first = entry.repairs.0 == Default::default();
                entry.repairs = (basis, Repairs::default());
                if first {
                    entry.repairs.1.resume(given_up(subject, self.case.class), look.now);
                }
            }
            entry.repairs.1.withhold(plan, look)
        })
    }

    /// Remembers what was written, and which of it as a repair.
    pub(super) fn note_repairs(&self, subject: &Subject, plan: &Plan, observed: Option<&Observed>, carried: &Carried) {
        let Some(look) = observed.map(|observed| self.look(observed)) else { return };
        let done = plan.steps.iter().enumerate().filter(|(i, _)| !carried.left.contains(i));
        let done = done.map(|(i, step)| (step, carried.repairs.contains(&i)));
        self.ctx.memory.with(&subject.uid, |entry| entry.repairs.1.note(done, look));
    }

    fn look<'l>(&'l self, observed: &'l Observed) -> Look<'l> {
        let now = self.ctx.started.elapsed();
        Look { observed, desired: &self.desired, now, settle: self.ctx.settle }
    }
}

/// What is not repaired (any more), and what to do about it.
#[must_use]
pub fn contested(contests: &[Contest], role: &str) -> Option<Failure> {
    let message = |contest: &Contest| {
        let what = contest.step.action.describe(role);
        match contest.why {
            Why::Undone => format!(
                "somebody else keeps changing the role; not repaired a fourth time within the hour: {what}. Find out who \
                 (CloudTrail tells), and stop them or change the spec"
            ),
            Why::Rewritten => format!(
                "AWS took a document and answers with another one, which allows no more, so it is not written again for \
                 now: {what}. Compare spec and AWS: somebody else may have changed it; if both mean the same, please \
                 report it"
            ),
            Why::Unmoved => format!(
                "AWS took a document twice, never showed it so, and answers with another one, which may allow more, so it \
                 is not written again for now: {what}. Compare spec and AWS: if somebody puts it back at once, CloudTrail \
                 tells who; if both mean the same, please report it"
            ),
            Why::Earlier => format!(
                "given up before the operator was restarted, and tried again within the hour: {what}. Find out who \
                 changes the role (CloudTrail tells), or change the spec"
            ),
        }
    };
    let mut messages: Vec<String> = contests.iter().map(message).collect();
    // One document may be written in two steps.
    messages.dedup();
    (!messages.is_empty()).then(|| Failure::slow(Reason::Contested, messages.join("; ")))
}

/// What status says was given up for this generation, by this process or an earlier one: action and target.
fn given_up<'s>(subject: &'s Subject, class: &IamRoleClass) -> impl Iterator<Item = (&'s str, &'s str)> {
    let status = &subject.status;
    let contested = find(&status.conditions, ConditionType::Ready).is_some_and(|ready| {
        ready.reason == Reason::Contested.as_str() && ready.observed_generation == Some(subject.generation)
    });
    let same_class = subject.saw(class);
    // Removals are tried anew in any case: what strangers attach must not stay.
    let removes = |action: &str| ["DetachRolePolicy", "DeleteRolePolicy"].contains(&action);
    let given_up = move |planned: &&PlannedAction| planned.contested == Some(true) && !removes(&planned.action);
    let plan = status.plan.iter().filter(move |_| contested && same_class).filter(given_up);
    plan.map(|planned| (planned.action.as_str(), planned.target.as_str()))
}

/// What a trust policy that AWS refuses for a principal, or has not been given yet, means for the role that is there.
pub fn name_the_dead(failure: &mut Failure, desired: &Desired, observed: Option<&Observed>) {
    let closed = closed(&desired.trust).canonical(&desired.account);
    let is_refused = failure.reason == Reason::PrincipalNotFound;
    if is_refused && observed.is_none_or(|observed| observed.trust == closed) {
        failure.message.push_str(" The role is there; nobody can assume it until then.");
    }
    if let Some(dead) = observed.and_then(|observed| dead_principals(desired, observed)) {
        failure.message = format!("{} {dead}; it is written once more when they exist again", failure.message);
    }
}

/// That the trust policy in AWS names principals that were deleted, if so: AWS shows ids in place of them.
#[must_use]
pub fn dead_principals(desired: &Desired, observed: &Observed) -> Option<String> {
    let dead = observed.trust.dead_principals();
    let differs = observed.trust != desired.trust.canonical(&desired.account);
    (differs && !dead.is_empty())
        .then(|| format!("In AWS the trust policy names principals that were deleted ({})", dead.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::{given_up, name_the_dead};
    use crate::api::{IamRoleClass, IamRoleClassSpec, Reason};
    use crate::controller::failure::Failure;
    use crate::controller::subject::Subject;
    use crate::policy::{Canonical, Grammar};
    use crate::role::desired::tests::{make, trust};
    use crate::role::plan::nothing;
    use serde_json::{Value, json};

    #[test]
    fn deleted_principals_are_named_beside_whatever_failed() {
        let alive = "arn:aws:iam::111122223333:role/alive";
        let desired = make(json!({ "trustPolicy": trust(&json!({ "AWS": alive })) })).unwrap();
        let mut observed = nothing(&desired);
        let told = |observed: &_| {
            let mut failure = Failure::slow(Reason::QuotaExceeded, "too many.");
            name_the_dead(&mut failure, &desired, Some(observed));
            failure.message
        };
        assert_eq!(told(&observed), "too many.", "as wanted");
        let dead = trust(&json!({ "AWS": "AROAEXAMPLEEXAMPLE123" })).to_string();
        observed.trust = Canonical::read(Grammar::Trust, &dead, &desired.account);
        let message = told(&observed);
        assert!(message.starts_with("too many. ") && message.contains("deleted (AROAEXAMPLEEXAMPLE123)"), "{message}");
    }

    #[test]
    fn only_what_did_not_last_is_given_up_after_a_restart_and_not_what_waited_for_it() {
        let mut class = IamRoleClass::new("c", IamRoleClassSpec::default());
        (class.metadata.uid, class.metadata.generation) = (Some("u".into()), Some(1));
        let planned = |action: &str, contested: Value| json!({ "action": action, "target": "t", "detail": "d", "contested": contested });
        let of = |reason: &str, observed: i64| -> Vec<String> {
            let condition = json!({ "type": "Ready", "status": "False", "reason": reason, "message": "m",
                "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z" });
            let object = json!({ "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRole",
                "metadata": { "name": "a", "namespace": "n", "uid": "x", "generation": 2 },
                "spec": {}, "status": {
                    "class": { "name": "c", "uid": "u", "observedGeneration": 1 }, "conditions": [condition],
                    "plan": [
                        planned("UpdateAssumeRolePolicy", json!(true)), planned("DetachRolePolicy", json!(true)),
                        planned("AttachRolePolicy", Value::Null), planned("PutRolePolicy", json!(false)),
                    ] } });
            let subject = Subject::new(serde_json::from_value(object).unwrap());
            given_up(&subject, &class).map(|(action, _)| action.to_owned()).collect()
        };
        assert_eq!(of("Contested", 2), ["UpdateAssumeRolePolicy"]);
        assert_eq!(of("Contested", 1), [""; 0], "of another spec");
        assert_eq!(of("AccessDenied", 2), [""; 0]);
    }
}
