//! Each row of the table in the module's documentation.

use super::{Contest, Look, Repairs, Why};
use crate::policy::{Canonical, Grammar};
use crate::role::desired::tests::{allow, make, trust};
use crate::role::plan::{Action, Phase, Plan, Step, nothing};
use crate::role::{Desired, Observed};
use serde_json::{Value, json};
use std::time::Duration;

const SETTLE: u64 = 30;
const HOUR: u64 = 3600;

/// The trust policy that is wanted, and an inline policy that denies.
fn desired() -> Desired {
    make(json!({
        "trustPolicy": trust(&json!({ "AWS": "arn:aws:sts::111122223333:assumed-role/R/S" })),
        "inlinePolicies": [{ "name": "guard", "document": guard(&["s3:Put", "s3:Delete"], "*") }],
    }))
    .unwrap()
}

fn guard(actions: &[&str], resource: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Deny", "Action": actions, "Resource": resource },
        { "Effect": "Allow", "Action": "s3:Get", "Resource": resource },
    ] })
}

fn reads(grammar: Grammar, document: &Value) -> Canonical {
    Canonical::read(grammar, &document.to_string(), &desired().account)
}

/// A role as it should be, but for its trust policy.
fn trusting(principal: &Value) -> Observed {
    let mut observed = as_wanted();
    observed.trust = reads(Grammar::Trust, &trust(principal));
    observed
}

/// A role as it should be, but for its inline policy.
fn guarded(document: &Value) -> Observed {
    let mut observed = as_wanted();
    observed.inline.insert("guard".into(), reads(Grammar::Permission, document));
    observed
}

fn as_wanted() -> Observed {
    let desired = desired();
    let mut observed = nothing(&desired);
    observed.inline.insert("guard".into(), desired.inline["guard"].canonical(&desired.account));
    observed
}

/// What nobody but AWS would make of the session's ARN: another principal, as far as we can tell.
fn reworded() -> Observed {
    trusting(&json!({ "AWS": "arn:aws:iam::111122223333:role/R" }))
}

/// A wording that can allow no more: the principal is shown by its unique id.
fn by_id() -> Observed {
    trusting(&json!({ "AWS": "AROAEXAMPLEEXAMPLE123" }))
}

#[derive(Default)]
struct Case {
    repairs: Repairs,
    /// What is done is what an edit asked for.
    edits: bool,
}

impl Case {
    /// Looks at the role, and repairs what differs and is not given up.
    fn look(&mut self, observed: &Observed, seconds: u64) -> Vec<Why> {
        let wanted = as_wanted();
        let mut plan = Plan::default();
        if observed.trust != wanted.trust {
            plan.steps.push(Step::new(Phase::Widen, Action::UpdateTrust(desired().trust)));
        }
        if observed.inline != wanted.inline {
            let document = desired().inline["guard"].clone();
            plan.steps.push(Step::new(Phase::Add, Action::PutInline { name: "guard".into(), document }));
        }
        if observed.boundary != wanted.boundary {
            plan.steps.push(Step::new(Phase::Restore, Action::PutBoundary("arn:b".into())));
        }
        for arn in observed.managed.difference(&wanted.managed) {
            plan.steps.push(Step::new(Phase::Remove, Action::Detach(arn.clone())));
        }
        let desired = desired();
        let settle = Duration::from_secs(SETTLE);
        let look = Look { observed, desired: &desired, now: Duration::from_secs(seconds), settle };
        let contests = self.repairs.withhold(&mut plan, look);
        self.repairs.note(plan.steps.iter().map(|step| (step, !self.edits)), look);
        contests.iter().map(|contest: &Contest| contest.why).collect()
    }

    /// Looks every ten minutes from one hour to another; the seconds at which it was repaired, in hours.
    fn repaired(&mut self, observed: &Observed, hours: std::ops::Range<u64>) -> Vec<u64> {
        let looks = (hours.start * 6..hours.end * 6).map(|look| look * 600);
        looks.filter(|second| self.look(observed, *second).is_empty()).map(|second| second / HOUR).collect()
    }
}

#[test]
fn a_read_within_the_settle_window_is_not_judged() {
    let mut case = Case::default();
    for second in [0, 1, 3, 20, 49] {
        assert_eq!(case.look(&by_id(), second), [], "the read may be old");
    }
    assert_eq!(case.look(&by_id(), 80), [Why::Rewritten], "all of that was one repair");
}

#[test]
fn a_wording_that_allows_no_more_is_left_after_one_repair() {
    let mut case = Case::default();
    assert_eq!(case.look(&by_id(), 0), []);
    assert!(case.repairs.unconfirmed());
    assert_eq!(case.look(&by_id(), 60), [Why::Rewritten]);
    let mut narrower = trust(&json!({ "AWS": "arn:aws:sts::111122223333:assumed-role/R/S" }));
    narrower["Statement"][0]["Condition"] = json!({ "Bool": { "aws:SecureTransport": "true" } });
    let mut observed = as_wanted();
    observed.trust = reads(Grammar::Trust, &narrower);
    let mut case = Case::default();
    assert_eq!((case.look(&observed, 0), case.look(&observed, 60)), (vec![], vec![Why::Rewritten]));
}

#[test]
fn what_may_allow_more_and_was_never_seen_right_is_left_after_two_repairs() {
    let session = "arn:aws:sts::111122223333:assumed-role/R/S";
    for observed in [
        reworded(),
        trusting(&json!({ "AWS": [session, "444455556666"] })),
        guarded(&guard(&["s3:Put"], "*")),
        guarded(&guard(&["s3:Put", "s3:Delete"], "arn:aws:s3:::b")),
        guarded(&allow("s3:Get")),
        guarded(&json!({ "Version": "2012-10-17",
            "Statement": [{ "Effect": "Deny", "Action": "s3:Put", "Resource": "*" }] })),
    ] {
        let mut case = Case::default();
        assert_eq!(case.look(&observed, 0), []);
        assert_eq!(case.look(&observed, 60), [], "it is not called a wording lightly");
        assert_eq!(case.look(&observed, 120), [Why::Unmoved]);
    }
}

#[test]
fn what_writing_does_not_change_is_written_ever_more_rarely() {
    // Days of looks: at the beginning, then after 1, 6 and 24 hours, and each day.
    assert_eq!(Case::default().repaired(&by_id(), 0..80), [0, 1, 7, 31, 55, 79]);
    assert_eq!(Case::default().repaired(&reworded(), 0..80), [0, 0, 1, 7, 31, 55, 79]);
}

#[test]
fn what_was_seen_right_and_changed_is_somebodys() {
    for observed in [reworded(), guarded(&allow("s3:Get"))] {
        let mut case = Case::default();
        assert_eq!(case.look(&as_wanted(), 0), []);
        for minute in [1, 2, 3] {
            assert_eq!(case.look(&observed, minute * 60), [], "it is repaired again");
        }
        assert_eq!(case.look(&observed, 240), [Why::Undone]);
        assert_eq!(case.look(&observed, HOUR + 60), [], "and again in the next hour");
        assert!(case.repaired(&observed, 2..50).len() >= 48, "for as long as somebody does it");
    }
}

#[test]
fn what_was_seen_right_and_is_worded_otherwise_since_is_left_after_three_repairs() {
    let mut case = Case::default();
    assert_eq!(case.look(&as_wanted(), 0), []);
    for minute in [1, 2, 3] {
        assert_eq!(case.look(&by_id(), minute * 60), [], "somebody may have changed it");
    }
    assert_eq!(case.look(&by_id(), 240), [Why::Rewritten], "nobody is blamed");
    assert_eq!(case.repaired(&by_id(), 1..80), [1, 7, 31, 55, 79], "and it is written ever more rarely");

    let mut case = Case::default();
    assert_eq!(case.look(&as_wanted(), 0), []);
    let rounds: Vec<u64> = (1..10).collect();
    for hour in &rounds {
        assert_eq!(case.look(&by_id(), hour * HOUR), [], "each repair was seen to hold: somebody changes it each time");
        assert_eq!(case.look(&as_wanted(), hour * HOUR + 600), []);
    }
    let mut case = Case::default();
    assert_eq!(case.look(&as_wanted(), 0), []);
    for hour in 1..4 {
        assert_eq!(case.look(&by_id(), hour * HOUR), []);
        assert_eq!(
            case.look(&as_wanted(), hour * HOUR + SETTLE / 2),
            [],
            "a look right after the write proves nothing"
        );
    }
    assert_eq!(case.look(&by_id(), 3 * HOUR + 600), [Why::Rewritten]);
}

#[test]
fn what_was_a_wording_is_somebodys_once_a_repair_was_seen_to_hold() {
    let mut case = Case::default();
    for second in [0, 60, 120] {
        case.look(&reworded(), second);
    }
    assert_eq!(case.look(&reworded(), 180), [Why::Unmoved]);
    assert_eq!(case.look(&as_wanted(), 240), []);
    assert!(!case.repairs.unconfirmed());
    assert_eq!(case.look(&reworded(), 300), [], "it really changed in between");
    assert_eq!(case.look(&reworded(), 360), [Why::Undone], "the third of the hour was the last");
    assert_eq!(case.look(&reworded(), 2 * HOUR), []);
    assert_eq!(case.look(&reworded(), 2 * HOUR + 60), [], "not left for longer");
}

#[test]
fn another_difference_beside_a_wording_is_repaired_at_once() {
    let more = trusting(&json!({ "AWS": ["arn:aws:iam::111122223333:role/R", "444455556666"] }));
    let mut case = Case::default();
    case.repaired(&reworded(), 0..40);
    assert_eq!(case.look(&reworded(), 40 * HOUR), [Why::Unmoved]);
    assert_eq!(case.look(&more, 40 * HOUR + 60), [], "somebody added to it");
    assert_eq!(case.look(&reworded(), 40 * HOUR + 120), [Why::Unmoved], "what is left is the wording that is known");
}

#[test]
fn answers_that_are_always_new_are_bounded_by_the_hour() {
    let mut case = Case::default();
    let answer = |n: u64| trusting(&json!({ "AWS": format!("{:012}", n + 1) }));
    let written = (0..600).filter(|n| case.look(&answer(*n), n * 60).is_empty()).count();
    assert_eq!(written, 30, "three in each of ten hours");
    let history = case.repairs.histories.values().next().unwrap();
    assert!(history.tried.len() <= super::ANSWERS, "and memory is bounded, too");
}

#[test]
fn a_document_that_is_gone_is_no_wording() {
    let mut gone = as_wanted();
    gone.inline.clear();
    let mut case = Case::default();
    for minute in [0, 1, 2] {
        assert_eq!(case.look(&gone, minute * 60), []);
    }
    assert_eq!(case.look(&gone, 180), [Why::Undone]);
    assert_eq!(case.look(&gone, HOUR + 60), []);
}

#[test]
fn what_is_no_document_is_repaired_three_times_an_hour() {
    let mut attached = as_wanted();
    attached.managed.insert("arn:x".into());
    let mut case = Case::default();
    for minute in [0, 10, 20] {
        assert_eq!(case.look(&attached, minute * 60), []);
    }
    assert_eq!(case.look(&attached, 1800), [Why::Undone]);
    assert_eq!(case.look(&attached, HOUR + 60), [], "one is more than an hour old");
}

#[test]
fn a_boundary_is_never_given_up() {
    let mut bounded = as_wanted();
    bounded.boundary = Some("arn:other".into());
    let mut case = Case::default();
    case.repairs.resume([("PutRolePermissionsBoundary", "arn:b")], Duration::ZERO);
    for minute in 1..10 {
        assert_eq!(case.look(&bounded, minute * 60), []);
    }
}

#[test]
fn what_an_earlier_process_gave_up_waits_its_hour() {
    let mut attached = as_wanted();
    attached.managed.insert("arn:x".into());
    let mut case = Case::default();
    case.repairs.resume([("DetachRolePolicy", "arn:x")], Duration::from_secs(40));
    assert_eq!(case.look(&attached, 41), [Why::Earlier], "at once");
    assert_eq!(case.look(&by_id(), 100), [], "another thing is not concerned");
    assert_eq!(case.look(&attached, 3700), []);
    case.repairs.resume([("DetachRolePolicy", "arn:x")], Duration::from_secs(3700));
    assert_eq!(case.look(&attached, 3760), [], "only at the first look");
}

#[test]
fn a_wording_is_learned_anew_after_a_restart_and_an_hour() {
    let mut case = Case::default();
    let name = desired().name;
    case.repairs.resume([("UpdateAssumeRolePolicy", name.as_str())], Duration::ZERO);
    assert_eq!(case.look(&reworded(), 60), [Why::Earlier]);
    assert_eq!(case.repaired(&reworded(), 1..40), [1, 1, 2, 8, 32]);
}

#[test]
fn what_an_edit_asked_for_is_no_repair() {
    let mut case = Case { edits: true, ..Case::default() };
    let mut strange = as_wanted();
    strange.managed.insert("arn:aws:iam::aws:policy/AdministratorAccess".into());
    assert_eq!(case.look(&strange, 0), []);
    case.edits = false;
    for minute in [10, 20, 30] {
        assert_eq!(case.look(&strange, minute * 60), [], "three repairs");
    }
    assert_eq!(case.look(&strange, 2400), [Why::Undone]);
}

#[test]
fn what_a_walk_showed_as_wanted_was_changed_by_somebody() {
    let mut case = Case::default();
    case.repairs.seen_as_wanted();
    for minute in [1, 2, 3] {
        assert_eq!(case.look(&reworded(), minute * 60), [], "it is repaired again");
    }
    assert_eq!(case.look(&reworded(), 240), [Why::Undone], "and not called AWS's wording");
    let mut case = Case::default();
    for hour in 1..10 {
        case.repairs.seen_as_wanted();
        assert_eq!(case.look(&by_id(), hour * HOUR), [], "each walk showed that the last repair held");
    }
}

#[test]
fn what_differs_again_is_a_repair_also_while_the_spec_is_not_applied_in_full() {
    let mut case = Case { edits: true, ..Case::default() };
    let mut strange = as_wanted();
    strange.managed.insert("arn:aws:iam::aws:policy/AdministratorAccess".into());
    for minute in [0, 1, 2, 3] {
        assert_eq!(case.look(&strange, minute * 60), [], "one that the spec asked for, and three repairs");
    }
    assert_eq!(case.look(&strange, 240), [Why::Undone]);
}

#[test]
fn what_no_walk_reads_no_walk_shows() {
    let own = |action: &str| json!({ "customerManagedPolicies": [{ "name": "own", "document": allow(action) }] });
    let (desired, narrower) = (make(own("s3:Get*")).unwrap(), make(own("s3:GetObject")).unwrap());
    let (wanted, found) = (&desired.own[0], &narrower.own[0]);
    let mut observed = nothing(&desired);
    let document = found.document.canonical(&desired.account);
    let policy = crate::role::ObservedPolicy {
        id: "ANPA1".into(),
        version: "v1".into(),
        tags: desired.role_tags(crate::api::iamrole::Origin::Created),
        document,
    };
    observed.own.insert(wanted.arn.clone(), policy);
    let mut repairs = Repairs::default();
    let mut look = |seconds: u64| -> Vec<Why> {
        repairs.seen_as_wanted();
        let (arn, document) = (wanted.arn.clone(), wanted.document.clone());
        let update = Step::new(Phase::Own, Action::UpdatePolicy { arn, document });
        let mut plan = Plan { steps: vec![update], ..Plan::default() };
        let (now, settle) = (Duration::from_secs(seconds), Duration::from_secs(SETTLE));
        let look = Look { observed: &observed, desired: &desired, now, settle };
        let contests = repairs.withhold(&mut plan, look);
        repairs.note(plan.steps.iter().map(|step| (step, true)), look);
        contests.iter().map(|contest: &Contest| contest.why).collect()
    };
    assert_eq!((look(60), look(120)), (vec![], vec![]));
    assert_eq!(look(180), [Why::Unmoved], "AWS never showed it, whatever walks saw, and nobody is blamed");
}

#[test]
fn of_what_strangers_attach_under_ever_new_names_nothing_is_kept_for_long() {
    let mut case = Case::default();
    for hour in 0..20 {
        let mut attached = as_wanted();
        attached.managed.insert(format!("arn:x{hour}"));
        for minute in [0, 10, 20] {
            assert_eq!(case.look(&attached, hour * HOUR + minute * 60), []);
        }
        assert_eq!(case.look(&attached, hour * HOUR + 1800), [Why::Undone]);
        assert!(case.repairs.histories.len() <= 2, "{:?}", case.repairs.histories.keys());
    }
}

/// The tags of the spec and those of the owner are set by the same action, and status does not tell which were given up.
#[test]
fn after_a_restart_the_tags_that_were_given_up_wait_and_others_do_not() {
    let tag = |phase: Phase| Step::new(phase, Action::TagRole([("a".to_owned(), "b".to_owned())].into()));
    let role = as_wanted();
    for (first, second) in [(Phase::Own, Phase::Describe), (Phase::Describe, Phase::Own)] {
        let mut repairs = Repairs::default();
        repairs.resume([("TagRole", desired().name.as_str())], Duration::ZERO);
        let mut look = |phase: Phase, seconds: u64| -> Vec<Why> {
            let mut plan = Plan { steps: vec![tag(phase)], ..Plan::default() };
            let (now, settle) = (Duration::from_secs(seconds), Duration::from_secs(SETTLE));
            let look = Look { observed: &role, desired: &desired(), now, settle };
            repairs.withhold(&mut plan, look).iter().map(|contest| contest.why).collect()
        };
        assert_eq!(look(first, 60), [Why::Earlier]);
        assert_eq!(look(second, 120), [], "nobody has changed these again and again");
    }
}
