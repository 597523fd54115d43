//! Laws of deletion: only our own things go, blockers are named, `ForceDelete` clears the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::struct_excessive_bools, reason = "independent choices of a generator")]

mod model;

use iamrole_operator::api::IamRoleClassSpec;
use iamrole_operator::api::iamrole::{DeletionPolicy, PolicyRef, WhenUnlisted};
use iamrole_operator::api::iamroleclass::UnlistedExceptions;
use iamrole_operator::policy::Limits;
use iamrole_operator::role::deletion::{self, Deletion, Terms};
use iamrole_operator::role::desired::{Exceptions, tokens};
use iamrole_operator::role::{Asked, ObservedProfile, Record, plan};
use model::{Aws, Held, Policy, arn, carry, intend, owner, want};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn document(effect: &str, action: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{ "Effect": effect, "Action": action, "Resource": "*" }] })
}

fn spec() -> Value {
    json!({
        "trustPolicy": { "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": "ec2.amazonaws.com" } }] },
        "managedPolicies": ["ReadOnlyAccess"],
        "inlinePolicies": [
            { "name": "a-guard", "document": document("Deny", "s3:Delete*") },
            { "name": "b-work", "document": document("Allow", "s3:*") }],
        "customerManagedPolicies": [{ "name": "own", "policyName": "own", "document": document("Allow", "sqs:*") }],
        "instanceProfile": { "name": "own" },
    })
}

/// What strangers did to the role, and how far deletion may go.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
struct Case {
    attached: bool,
    inline: bool,
    revoked: bool,
    profile: bool,
    excepted: bool,
    /// The recorded own policy lost its tags.
    stripped: bool,
    /// Status knows nothing of the own policy; its tags tell.
    lost: bool,
    force: bool,
    keep: bool,
}

fn case() -> impl Strategy<Value = Case> {
    any::<[bool; 9]>().prop_map(|[attached, inline, revoked, profile, excepted, stripped, lost, force, keep]| Case {
        attached,
        inline,
        revoked,
        profile,
        excepted,
        stripped: stripped && !lost,
        lost,
        force,
        keep,
    })
}

const STRANGER: &str = "arn:aws:iam::aws:policy/Stranger";

/// A policy of the account that strangers use.
fn shared() -> String {
    arn("shared")
}

fn world(case: &Case) -> (Aws, Record) {
    let desired = want(&spec(), Limits::default());
    let (mut aws, mut record) = (Aws::default(), Record::default());
    let plan = plan::create(&desired);
    intend(&mut record, &desired, &plan, &aws);
    assert_eq!(carry(&mut aws, &plan, &desired, &mut record, |_| false, |_, _| {}), 0);
    record.settle(&desired, None);
    let held = Held::new(&desired.inline["b-work"]);
    let role = aws.role_mut();
    role.managed.extend(case.attached.then(|| STRANGER.to_owned()));
    role.managed.extend(case.attached.then(shared));
    role.inline.extend(case.inline.then(|| ("stranger".to_owned(), held.clone())));
    role.inline.extend(case.revoked.then(|| ("AWSRevokeOlderSessions".to_owned(), held.clone())));
    if case.profile {
        let roles = [model::ROLE.to_owned()].into();
        aws.profiles.insert("profile".to_owned(), model::Profile { roles, ..model::Profile::default() });
    }
    if case.stripped {
        aws.policies.get_mut(&arn("own")).unwrap().tags.clear();
    }
    // A status that claims what is not ours: a stranger's policy.
    aws.policies.insert(arn("foreign"), Policy { held: held.clone(), tags: BTreeMap::new() });
    aws.policies.insert(arn("taken"), Policy { held: held.clone(), tags: BTreeMap::new() });
    aws.policies.insert(shared(), Policy { held, tags: BTreeMap::new() });
    if case.lost {
        record.own.clear();
    }
    let id = Some("ANPAFOREIGN".to_owned());
    record.own.push(PolicyRef { name: "foreign".into(), arn: arn("foreign"), id, ..PolicyRef::default() });
    // One that the spec asked for, whose name was a stranger's all along.
    record.own.push(PolicyRef { name: "taken".into(), arn: arn("taken"), ..PolicyRef::default() });
    (aws, record)
}

fn delete(case: &Case, aws: &Aws, record: &Record) -> Deletion {
    let class = IamRoleClassSpec {
        unlisted_exceptions: case.excepted.then(|| UnlistedExceptions {
            inline_policies: vec!["strang*".into()],
            managed_policies: vec!["*:policy/Stranger".into()],
        }),
        ..IamRoleClassSpec::default()
    };
    let (owner, exceptions) = (owner(), Exceptions::new(Some(&class), &tokens(&owner(), &model::account())));
    let terms = Terms {
        owner: &owner,
        policy: if case.force { DeletionPolicy::ForceDelete } else { DeletionPolicy::Delete },
        when_unlisted: if case.keep { WhenUnlisted::Keep } else { WhenUnlisted::Remove },
        exceptions: &exceptions,
    };
    // The tags of all that is attached were asked for.
    let mut asked = Asked::new(None, record);
    asked.policies.extend([arn("own"), shared()]);
    let own = aws.observe_policies(&asked).into_iter().map(|(arn, policy)| (arn, policy.tags)).collect();
    let profiles: Vec<ObservedProfile> = aws.observe_profiles(|_| true).into_values().collect();
    deletion::plan(&terms, record, aws.observe(&asked).as_ref(), &own, &profiles)
}

proptest! {
    #[test]
    fn only_our_own_goes_and_what_blocks_is_named(case in case()) {
        let (mut aws, record) = world(&case);
        let deletion = delete(&case, &aws, &record);
        let unlisted_stay = !case.force && (case.keep || case.excepted);
        let mut expected: Vec<String> = Vec::new();
        // The class excepts one of them.
        let kept = case.attached && !case.force;
        expected.extend((kept && case.keep).then(|| format!("attached policy {}", shared())));
        expected.extend((kept && unlisted_stay).then(|| format!("attached policy {STRANGER}")));
        expected.extend((case.inline && unlisted_stay).then(|| "inline policy stranger".to_owned()));
        expected.extend((case.profile && !case.force).then(|| "instance profile profile".to_owned()));
        prop_assert_eq!(&deletion.blockers, &expected);
        prop_assert_eq!(deletion.plan.steps.is_empty(), !expected.is_empty(), "nothing is begun that can't end");
        for step in &deletion.plan.steps {
            prop_assert_eq!(aws.execute(&step.action), Ok(()), "{:?}", step.action);
        }
        prop_assert!(aws.policies.contains_key(&arn("foreign")), "whatever status says");
        prop_assert!(aws.policies.contains_key(&arn("taken")), "whatever was intended");
        prop_assert!(aws.policies.contains_key(&shared()), "whatever was read");
        let mut left = deletion.left.clone();
        left.sort();
        let mut stays = vec![format!("policy {}", arn("foreign"))];
        stays.extend(case.stripped.then(|| format!("policy {}", arn("own"))));
        stays.sort();
        prop_assert_eq!(left, stays, "what stays though status had it is told, and what never was ours is not");
        if expected.is_empty() {
            prop_assert!(aws.role.is_none());
            prop_assert_eq!(aws.policies.contains_key(&arn("own")), case.stripped, "without our tags it is not ours");
            prop_assert!(!aws.profiles.contains_key("own"));
            prop_assert_eq!(aws.profiles.contains_key("profile"), case.profile, "it is a stranger's");
        }
    }

    #[test]
    fn stopped_anywhere_it_goes_on(case in case(), stop in 0usize..16) {
        let case = Case { force: true, ..case };
        let (mut aws, record) = world(&case);
        for step in delete(&case, &aws, &record).plan.steps.iter().take(stop) {
            prop_assert_eq!(aws.execute(&step.action), Ok(()));
        }
        for step in &delete(&case, &aws, &record).plan.steps {
            prop_assert_eq!(aws.execute(&step.action), Ok(()), "{:?}", step.action);
        }
        prop_assert!(aws.role.is_none());
        prop_assert!(delete(&case, &aws, &record).plan.steps.is_empty());
    }
}

fn quiet() -> Case {
    Case {
        attached: false,
        inline: false,
        revoked: false,
        profile: false,
        excepted: false,
        stripped: false,
        lost: false,
        force: false,
        keep: true,
    }
}

#[test]
fn denials_go_after_what_they_deny_and_policies_after_the_role() {
    let (aws, record) = world(&quiet());
    let names: Vec<String> =
        delete(&quiet(), &aws, &record).plan.steps.iter().map(|step| step.action.describe("role")).collect();
    let place = |what: &str| names.iter().position(|name| name.contains(what)).unwrap();
    assert!(place("inline policy b-work") < place("inline policy a-guard"), "{names:?}");
    assert!(place("delete role") < place("delete policy"), "{names:?}");
}

#[test]
fn what_only_allows_goes_first_and_what_only_denies_last() {
    let (mut aws, record) = world(&quiet());
    let mixed = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "s3:*", "Resource": "*" },
        { "Effect": "Deny", "Action": "s3:PutBucketPolicy", "Resource": "*" }] });
    let held = |document: Value| {
        let inline = json!([{ "name": "x", "document": document }]);
        let spec = json!({ "trustPolicy": spec()["trustPolicy"], "inlinePolicies": inline });
        Held::new(&want(&spec, Limits::default()).inline["x"])
    };
    let inline = &mut aws.role_mut().inline;
    inline.insert("AWSRevokeOlderSessions".to_owned(), held(document("Deny", "*")));
    inline.insert("a-mixed".to_owned(), held(mixed.clone()));
    inline.insert("z-work".to_owned(), held(document("Allow", "sqs:*")));
    aws.policies.get_mut(&arn("own")).unwrap().held = held(mixed);
    let steps = delete(&Case { force: true, ..quiet() }, &aws, &record).plan.steps;
    let names: Vec<String> = steps.iter().map(|step| step.action.describe("role")).collect();
    let expected = [
        "delete inline policy b-work",
        "delete inline policy z-work",
        "detach policy arn:aws:iam::aws:policy/ReadOnlyAccess",
        &format!("detach policy {}", arn("own")),
        "delete inline policy a-mixed",
        "delete inline policy AWSRevokeOlderSessions",
        "delete inline policy a-guard",
        "delete role role",
    ];
    let from = names.iter().position(|name| name.contains("b-work")).unwrap();
    assert_eq!(names[from..from + expected.len()], expected, "{names:?}");
}

#[test]
fn a_role_that_is_gone_leaves_its_policies_to_be_deleted() {
    let (mut aws, record) = world(&quiet());
    aws.role = None;
    let deletion = delete(&quiet(), &aws, &record);
    let names: Vec<String> = deletion.plan.steps.iter().map(|step| step.action.describe(model::ROLE)).collect();
    let own = format!("delete policy {}", arn("own"));
    let expected = ["take the role out of instance profile own", "delete instance profile own", &own];
    assert_eq!(names, expected);
}

#[test]
fn a_recorded_name_counts_in_any_case() {
    let (aws, mut record) = world(&quiet());
    record.inline = record.inline.iter().map(|name| name.to_uppercase()).collect();
    assert!(delete(&quiet(), &aws, &record).blockers.is_empty());
}

#[test]
fn an_inline_policy_that_the_class_keeps_for_others_blocks_also_where_status_calls_it_ours() {
    let case = Case { inline: true, excepted: true, ..quiet() };
    let (aws, mut record) = world(&case);
    record.inline.insert("stranger".to_owned());
    assert_eq!(delete(&case, &aws, &record).blockers, ["inline policy stranger"]);
    assert!(delete(&Case { force: true, ..case }, &aws, &record).blockers.is_empty());
}

#[test]
fn a_policy_used_elsewhere_conflicts_after_the_role_is_gone() {
    let (mut aws, record) = world(&quiet());
    aws.used_elsewhere.insert(arn("own"));
    let results: Vec<_> =
        delete(&quiet(), &aws, &record).plan.steps.iter().map(|step| aws.execute(&step.action)).collect();
    assert_eq!(results.last(), Some(&Err("DeleteConflict")));
    assert!(aws.role.is_none());
}
