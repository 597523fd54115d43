//! What status says: conditions that `kubectl wait`, Helm, Flux and Argo CD read the same way.
//!
//! `Ready` always; `Reconciling` or `Stalled` only while True and never both; every condition carries the
//! generation; the transition time moves only with the status. A status that says nothing new equals the
//! old one and is not written.

use super::failure::Failure;
use super::memory::Sentence;
use crate::api::iamrole::PlannedAction;
use crate::api::{ConditionType, IamRoleStatus, Reason};
use crate::role::contest::Contest;
use crate::role::{Plan, Step};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// How many entries of a plan status shows.
const PLAN_SHOWN: usize = 50;
/// How many changes status remembers.
pub const CHANGES_KEPT: usize = 10;
/// Longest message; the API server would take more, nobody reads it.
const MESSAGE: usize = 4096;

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tri {
    /// True.
    True,
    /// False.
    False,
    /// Unknown.
    Unknown,
}

/// What goes beside `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is under way.
    Rest,
    /// Work is pending and expected to succeed.
    Reconciling,
    /// Somebody must act.
    Stalled,
}

/// The outcome of a reconciliation, as conditions show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Status of `Ready`.
    pub ready: Tri,
    /// What goes beside it.
    pub progress: Progress,
    /// Reason of all of them.
    pub reason: Reason,
    /// Message of all of them.
    pub message: String,
    /// Differences that are not being repaired: the reason and message of `Drifted`.
    pub drift: Option<(Reason, String)>,
}

impl Verdict {
    /// This generation is in AWS.
    pub fn applied(message: impl Into<String>) -> Self {
        Self::rest(Tri::True, Reason::Applied, message)
    }

    /// Nothing is under way.
    pub fn rest(ready: Tri, reason: Reason, message: impl Into<String>) -> Self {
        Self { ready, progress: Progress::Rest, reason, message: message.into(), drift: None }
    }

    /// Whether nobody is to bring AWS to the spec: it is only observed, or suspended.
    const fn is_left_alone(&self) -> bool {
        matches!(self.reason, Reason::Observed | Reason::ChangesPending | Reason::Suspended)
    }

    /// Work is under way.
    pub fn reconciling(message: impl Into<String>) -> Self {
        Self {
            ready: Tri::False,
            progress: Progress::Reconciling,
            reason: Reason::Reconciling,
            message: message.into(),
            drift: None,
        }
    }

    /// A failure.
    #[must_use]
    pub fn failed(failure: &Failure, stalled: bool) -> Self {
        let progress = if stalled { Progress::Stalled } else { Progress::Reconciling };
        let (reason, message) = (failure.reason, failure.message.clone());
        let drift = (reason == Reason::Contested).then(|| (reason, message.clone()));
        Self { ready: Tri::False, progress, reason, message, drift }
    }
}

/// The conditions after a failure. What passes leaves those of a failure of this generation that was told before it: else
/// that one would be news once more, and what is stalled would seem to go on.
#[must_use]
pub fn after_failure(
    old: &[Condition],
    failure: &Failure,
    sentence: Sentence,
    generation: i64,
    now: &Time,
) -> Vec<Condition> {
    if sentence.passes && has_failed(old, generation) {
        return old.to_vec();
    }
    conditions(old, &Verdict::failed(failure, sentence.stalled), generation, now)
}

/// Puts the verdict into `conditions`, keeping transition times where the status stays.
#[must_use]
pub fn conditions(old: &[Condition], verdict: &Verdict, generation: i64, now: &Time) -> Vec<Condition> {
    let mut new = vec![condition(old, ConditionType::Ready, verdict.ready, verdict, generation, now)];
    let beside = match verdict.progress {
        Progress::Rest => None,
        Progress::Reconciling => Some(ConditionType::Reconciling),
        Progress::Stalled => Some(ConditionType::Stalled),
    };
    new.extend(beside.map(|kind| condition(old, kind, Tri::True, verdict, generation, now)));
    if let Some((reason, message)) = &verdict.drift {
        let verdict = Verdict { reason: *reason, message: message.clone(), ..verdict.clone() };
        new.push(condition(old, ConditionType::Drifted, Tri::True, &verdict, generation, now));
    }
    // It speaks of Kubernetes, and is written by `workload` alone, which looks only at what is being enforced.
    new.extend(find(old, ConditionType::IdentityBound).filter(|_| !verdict.is_left_alone()).cloned());
    new
}

fn condition(
    old: &[Condition],
    kind: ConditionType,
    status: Tri,
    verdict: &Verdict,
    generation: i64,
    now: &Time,
) -> Condition {
    let status = match status {
        Tri::True => "True",
        Tri::False => "False",
        Tri::Unknown => "Unknown",
    };
    let before = find(old, kind).filter(|before| before.status == status);
    Condition {
        type_: kind.as_str().to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        message: shorten(&verdict.message),
        observed_generation: Some(generation),
        last_transition_time: before.map_or_else(|| now.clone(), |before| before.last_transition_time.clone()),
    }
}

/// A message as a condition takes it.
#[must_use]
pub fn shorten(message: &str) -> String {
    cut(message, MESSAGE)
}

/// At most so many characters of a text; what is missing at the end is shown by an ellipsis.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The condition of a type.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// Whether the conditions say that `generation` is in AWS.
#[must_use]
pub fn is_ready(conditions: &[Condition], generation: i64) -> bool {
    find(conditions, ConditionType::Ready)
        .is_some_and(|ready| ready.status == "True" && ready.observed_generation == Some(generation))
}

/// Whether the last word is that AWS would not do what it was asked to, so that nothing came of it.
#[must_use]
pub fn was_refused(conditions: &[Condition]) -> bool {
    aws_refused(conditions)
        || find(conditions, ConditionType::Ready).is_some_and(|ready| ready.reason == Reason::InvalidSpec.as_str())
}

/// Whether the last word is that AWS was asked and would not.
#[must_use]
pub fn aws_refused(conditions: &[Condition]) -> bool {
    let refusals = [Reason::AccessDenied, Reason::QuotaExceeded, Reason::Rejected];
    find(conditions, ConditionType::Ready)
        .is_some_and(|ready| refusals.iter().any(|reason| ready.reason == reason.as_str()))
}

/// Whether `Ready` gives this reason for `generation`.
#[must_use]
pub fn says(conditions: &[Condition], generation: i64, reason: Reason) -> bool {
    find(conditions, ConditionType::Ready)
        .is_some_and(|ready| ready.reason == reason.as_str() && ready.observed_generation == Some(generation))
}

/// Whether `Ready` gives this reason for `generation`, in these words.
#[must_use]
pub fn tells(conditions: &[Condition], generation: i64, reason: Reason, message: &str) -> bool {
    let ready = find(conditions, ConditionType::Ready).filter(|ready| ready.message == shorten(message));
    ready.is_some() && says(conditions, generation, reason)
}

/// Whether the conditions call `generation` stalled for `reason`.
#[must_use]
pub fn is_stalled(conditions: &[Condition], generation: i64, reason: Reason) -> bool {
    find(conditions, ConditionType::Stalled)
        .is_some_and(|stalled| stalled.reason == reason.as_str() && stalled.observed_generation == Some(generation))
}

/// Whether the last word on this generation is that something went wrong. A plan that was only looked at is at rest.
#[must_use]
pub fn has_failed(conditions: &[Condition], generation: i64) -> bool {
    let is_at_rest =
        [ConditionType::Reconciling, ConditionType::Stalled].iter().all(|kind| find(conditions, *kind).is_none());
    find(conditions, ConditionType::Ready).is_some_and(|ready| {
        let is_failure = ready.status == "False" && ready.reason != Reason::Reconciling.as_str();
        is_failure && !is_at_rest && ready.observed_generation == Some(generation)
    })
}

/// Whether `Ready` says something else than before: another reason or message, apart from its time.
#[must_use]
pub fn is_news(old: &[Condition], new: &[Condition]) -> bool {
    let said =
        |conditions| find(conditions, ConditionType::Ready).map(|c: &Condition| (c.reason.clone(), c.message.clone()));
    said(old) != said(new)
}

/// Shows steps that are not done in `status.plan`, those first that were done and did not last.
pub fn show_left<'a>(
    status: &mut IamRoleStatus,
    role: &str,
    contests: &[Contest],
    left: impl Iterator<Item = &'a Step>,
) {
    let planned = |step: &Step, contested| PlannedAction {
        action: step.action.name().to_owned(),
        target: step.action.target(role).to_owned(),
        detail: step.action.describe(role).chars().take(1024).collect(),
        contested,
    };
    let contested = contests.iter().map(|contest| planned(&contest.step, Some(true)));
    let all: Vec<PlannedAction> = contested.chain(left.map(|step| planned(step, None))).collect();
    status.plan_count = (!all.is_empty()).then(|| i32::try_from(all.len()).unwrap_or(i32::MAX));
    status.plan = all.into_iter().take(PLAN_SHOWN).collect();
}

/// Shows a whole plan.
pub fn show_whole_plan(status: &mut IamRoleStatus, role: &str, plan: &Plan) {
    show_left(status, role, &[], plan.steps.iter());
}

#[cfg(test)]
mod tests {
    use super::{Progress, Tri, Verdict, conditions, find, is_news, is_ready};
    use crate::api::{ConditionType, Reason};
    use crate::controller::failure::Failure;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let first = conditions(&[], &Verdict::reconciling("a"), 1, &at(10));
        let second = conditions(&first, &Verdict::reconciling("b"), 2, &at(20));
        let ready = find(&second, ConditionType::Ready).unwrap();
        assert_eq!((ready.last_transition_time.clone(), ready.observed_generation), (at(10), Some(2)));
        let third = conditions(&second, &Verdict::applied("c"), 2, &at(30));
        assert_eq!(find(&third, ConditionType::Ready).unwrap().last_transition_time, at(30));
        assert_eq!(conditions(&third, &Verdict::applied("c"), 2, &at(40)), third, "nothing new, nothing to write");
    }

    #[test]
    fn reconciling_and_stalled_are_never_both_there() {
        for progress in [Progress::Rest, Progress::Reconciling, Progress::Stalled] {
            let verdict = Verdict { progress, ..Verdict::rest(Tri::False, Reason::AccessDenied, "x") };
            let set = conditions(&[], &verdict, 1, &at(1));
            let there = |kind| find(&set, kind).is_some();
            assert_eq!(there(ConditionType::Reconciling), progress == Progress::Reconciling);
            assert_eq!(there(ConditionType::Stalled), progress == Progress::Stalled);
            assert!(there(ConditionType::Ready) && !there(ConditionType::Drifted));
        }
    }

    #[test]
    fn of_service_accounts_that_nobody_looks_after_nothing_is_said() {
        let bound = Verdict::rest(Tri::False, Reason::NoOidcProvider, "x");
        let mut before = conditions(&[], &Verdict::applied("x"), 1, &at(1));
        before.push(super::condition(&[], ConditionType::IdentityBound, Tri::False, &bound, 1, &at(1)));
        let denied = Failure::slow(Reason::AccessDenied, "x");
        for (verdict, stays) in [
            (Verdict::applied("y"), true),
            (Verdict::reconciling("y"), true),
            (Verdict::failed(&denied, false), true),
            (Verdict::failed(&denied, true), true),
            (Verdict::rest(Tri::True, Reason::Observed, "y"), false),
            (Verdict::rest(Tri::False, Reason::ChangesPending, "y"), false),
            (Verdict::rest(Tri::Unknown, Reason::Suspended, "y"), false),
        ] {
            let after = conditions(&before, &verdict, 1, &at(2));
            assert_eq!(find(&after, ConditionType::IdentityBound).is_some(), stays, "{verdict:?}");
        }
    }

    #[test]
    fn ready_counts_for_its_own_generation_only() {
        let set = conditions(&[], &Verdict::applied("x"), 3, &at(1));
        assert!(is_ready(&set, 3) && !is_ready(&set, 4));
        assert!(!is_news(&set, &conditions(&set, &Verdict::applied("x"), 4, &at(2))));
        assert!(is_news(&set, &conditions(&set, &Verdict::applied("y"), 3, &at(2))));
    }
}
