use super::super::tests::{document, inline, names, settled, spec, without};
use super::super::{Action, Plan, update};
use super::forced;
use crate::api::iamrole::Origin;
use crate::api::{Reason, TAG_CLASS};
use crate::role::{Desired, Observed, Record};
use serde_json::{Value, json};

const ACCEPT: &str = "set tags iamrole.dev/class";

fn arn(boundary: &str) -> String {
    format!("arn:aws:iam::111122223333:policy/{boundary}")
}

/// What a class and its boundary make of a spec.
fn under(class: &str, boundary: Option<&str>, fields: Value) -> Desired {
    Desired { class: class.into(), boundary: boundary.map(arn), ..spec(fields) }
}

fn handed_over(old: &Desired, new: &Desired) -> (Plan, Observed, Record) {
    let (observed, record) = settled(old);
    (update(new, &observed, &record, 10, false), observed, record)
}

#[test]
fn what_is_not_wanted_any_more_goes_before_the_boundary_is_replaced() {
    let mut fields = inline(&[("a", &["s3:A", "s3:X"]), ("b", &["s3:*"]), ("c", &["!s3:D", "s3:Y"])]);
    fields["managedPolicies"] = json!(["Old", "Both"]);
    let old = under("one", Some("narrow"), fields);
    let mut fields = inline(&[("a", &["s3:A", "s3:N"])]);
    fields["managedPolicies"] = json!(["Both", "New"]);
    let new = under("two", Some("wide"), fields);
    let (plan, observed, record) = handed_over(&old, &new);
    let wide = format!("Rebound: set permissions boundary {}", arn("wide"));
    let accept = format!("Accept: {ACCEPT}");
    let expected = [
        "Shed: put inline policy a",
        "Shed: delete inline policy b",
        "Shed: put inline policy c",
        "Shed: detach policy arn:aws:iam::aws:policy/Old",
        &wide,
        &accept,
        "Add: attach policy arn:aws:iam::aws:policy/New",
        "Add: put inline policy a",
        "Remove: delete inline policy c",
    ];
    assert_eq!(names(&plan), expected, "a denial stays until what is new is there");
    for (i, shed) in expected[..4].iter().enumerate() {
        let others: Vec<_> = expected[..4].iter().enumerate().filter(|(j, _)| *j != i).map(|(_, step)| *step).collect();
        assert_eq!(without(&plan, shed), others, "one that fails keeps the boundary");
    }
    let first = without(&plan, "attach policy arn:aws:iam::aws:policy/New");
    assert_eq!(first[..6], expected[..6], "a refused addition costs nothing but itself");
    assert!(update(&new, &observed, &record, 10, true).steps.len() == plan.steps.len(), "nor soon after a write");
}

#[test]
fn a_document_that_only_narrows_is_written_before() {
    let old = under("one", Some("narrow"), inline(&[("a", &["s3:Get", "s3:Put"])]));
    let new = under("two", Some("wide"), inline(&[("a", &["s3:Get"])]));
    let plan = handed_over(&old, &new).0;
    let [put, _, _] = plan.steps.as_slice() else { panic!("{plan:?}") };
    let Action::PutInline { document, .. } = &put.action else { panic!("{put:?}") };
    assert_eq!(document.to_json(), new.inline["a"].to_json());
}

#[test]
fn own_policies_keep_what_is_wanted_and_others_are_detached() {
    let own = |name: &str, actions: &[&str]| json!({ "name": name, "policyName": name, "document": document(actions) });
    let old = under(
        "one",
        Some("narrow"),
        json!({ "customerManagedPolicies": [own("a", &["s3:A", "s3:X"]), own("b", &["s3:B"])] }),
    );
    let new = under("two", Some("wide"), json!({ "customerManagedPolicies": [own("a", &["s3:A", "s3:N"])] }));
    let plan = handed_over(&old, &new).0;
    let (a, b) = (arn("a"), arn("b"));
    let expected = [
        format!("Shed: make a new version of policy {a}"),
        format!("Shed: detach policy {b}"),
        format!("Rebound: set permissions boundary {}", arn("wide")),
        format!("Accept: {ACCEPT}"),
        format!("Add: make a new version of policy {a}"),
        format!("Remove: delete policy {b}"),
    ];
    assert_eq!(names(&plan), expected);
    // One whose name somebody else has by now is nothing that this class let in.
    let (mut observed, record) = settled(&old);
    observed.own.get_mut(&a).unwrap().tags.clear();
    let plan = update(&new, &observed, &record, 10, false);
    assert!(names(&plan).contains(&format!("Shed: detach policy {a}")) && plan.refused.len() == 1, "{plan:?}");
}

#[test]
fn the_tag_comes_last_where_no_boundary_is_replaced() {
    let fields = || inline(&[("a", &["s3:A"])]);
    let last = format!("Unbound: {ACCEPT}");
    for (from, to, before) in [
        (Some("same"), Some("same"), vec![]),
        (None, None, vec![]),
        (None, Some("wide"), vec![format!("Restore: set permissions boundary {}", arn("wide"))]),
        (Some("narrow"), None, vec!["Unbound: remove permissions boundary".to_owned()]),
    ] {
        let plan = handed_over(&under("one", from, fields()), &under("two", to, fields())).0;
        assert_eq!(names(&plan), [before, vec![last.clone()]].concat(), "{from:?} {to:?}");
    }
    let of_class = under("one", Some("narrow"), fields());
    let (mut observed, record) = settled(&of_class);
    observed.tags.remove(TAG_CLASS);
    assert_eq!(names(&update(&of_class, &observed, &record, 10, false)), [last], "somebody took it off");
}

#[test]
fn what_nobody_listed_is_not_taken_over() {
    let keep = json!({ "whenUnlisted": "Keep" });
    for (mut role, kept) in [(observed_with(Origin::Created), keep), (observed_with(Origin::Adopted), json!({}))] {
        for to in [Some("wide"), None] {
            let new = under("two", to, kept.clone());
            let record = Record { boundary: Some(arn("narrow")), ..Record::default() };
            let plan = update(&new, &role, &record, 10, false);
            assert!(plan.barred && plan.steps.is_empty(), "{plan:?}");
            assert_eq!(plan.refused[0].reason, Reason::NotAllowed);
            for word in ["AdministratorAccess", "stranger", "one", "two", "whenUnlisted"] {
                assert!(plan.refused[0].message.contains(word), "{word}: {}", plan.refused[0].message);
            }
            let same = update(&Desired { class: "one".into(), ..new }, &role, &record, 10, false);
            assert!(!same.barred && same.unlisted.len() == 2, "its own class goes on as ever");
        }
        let same = update(&under("two", Some("narrow"), kept.clone()), &role, &Record::default(), 10, false);
        assert!(
            same.steps.is_empty() && !same.barred,
            "under the same boundary it stays, and stays told as the other's"
        );
        role.inline.clear();
        role.managed.clear();
        let new = under("two", Some("wide"), kept.clone());
        assert!(!update(&new, &role, &Record::default(), 10, false).barred);
    }
}

/// A role of class `one` with an inline policy and an attachment that no record knows.
fn observed_with(origin: Origin) -> Observed {
    let old = under("one", Some("narrow"), inline(&[("stranger", &["s3:*"])]));
    let (mut observed, _) = settled(&old);
    observed.tags.extend(old.role_tags(origin));
    observed.managed.insert("arn:aws:iam::aws:policy/AdministratorAccess".into());
    observed
}

#[test]
fn a_class_holds_its_boundary_on_what_it_let_in() {
    let held = |of: Option<&str>, boundary: Option<&str>| {
        let (mut observed, _) = settled(&under("one", boundary, json!({})));
        match of {
            Some(class) => observed.tags.insert(TAG_CLASS.into(), class.into()),
            None => observed.tags.remove(TAG_CLASS),
        };
        forced("one", "arn:forced", &observed).is_some_and(|action| {
            assert!(matches!(action, Action::PutBoundary(arn) if arn == "arn:forced"));
            true
        })
    };
    for (of, boundary, puts) in [
        (Some("one"), Some("other"), true),
        (Some("one"), None, true),
        (Some("two"), Some("other"), false),
        (Some("two"), None, true),
        (None, Some("other"), true),
        (None, None, true),
    ] {
        assert_eq!(held(of, boundary), puts, "let in by {of:?} under {boundary:?}");
    }
    let (mut observed, _) = settled(&under("one", None, json!({})));
    observed.boundary = Some("arn:forced".into());
    assert!(forced("one", "arn:forced", &observed).is_none());
}
