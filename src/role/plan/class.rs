//! Which class a role belongs to.
//!
//! What a class lets in, it lets in under its own boundary and for its own principals. If a role could pass from one class
//! to another, one that allows every action under a narrow boundary and one that allows few under a wide one would
//! together give every action under the wide one. So a tag tells which class let in what a role has, and another class
//! has the role only where it says that it takes over that one's (`takeOverClasses`).

use super::action::Action;
use super::step::Plan;
use crate::api::{Reason, TAG_CLASS};
use crate::role::{Desired, Observed, Problem};
use std::collections::BTreeMap;

/// The class that let in what carries these tags, where it is not the one that is asked now and not taken over by it.
/// What has no such tag is taken for the class's own.
pub(super) fn other_class<'t>(desired: &Desired, tags: &'t BTreeMap<String, String>) -> Option<&'t String> {
    let is_other = |class: &&String| **class != desired.class && !desired.takes_over_classes.contains(*class);
    tags.get(TAG_CLASS).filter(is_other)
}

/// The plan for a role of another class: none.
pub(super) fn barred(desired: &Desired, observed: &Observed) -> Option<Plan> {
    let (other, class) = (other_class(desired, &observed.tags)?, &desired.class);
    let message = format!(
        "spec.roleClassName: role {} was made under IamRoleClass {other}, and IamRoleClass {class} does not take over its \
         roles: name {other} again, ask an admin to add {other} to takeOverClasses of {class}, or delete the role and \
         create it anew",
        desired.name,
    );
    let problem = Problem { reason: Reason::NotAllowed, message };
    Some(Plan { refused: vec![problem], barred: true, ..Plan::default() })
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
mod tests {
    use super::super::tests::{inline, names, settled, spec};
    use super::super::{Action, update};
    use super::forced;
    use crate::api::{Reason, TAG_CLASS};
    use crate::role::Desired;
    use serde_json::json;

    fn of_class(class: &str, takes_over: &[&str]) -> Desired {
        let takes_over_classes = takes_over.iter().map(|class| (*class).to_owned()).collect();
        let own = json!([{ "name": "o", "policyName": "o", "document": super::super::tests::document(&["s3:O"]) }]);
        let mut fields = inline(&[("a", &["s3:A"])]);
        fields["customerManagedPolicies"] = own;
        Desired { class: class.to_owned(), takes_over_classes, ..spec(fields) }
    }

    #[test]
    fn a_role_of_another_class_is_left_as_it_is() {
        let old = Desired { boundary: Some("arn:narrow".into()), ..of_class("one", &[]) };
        let (observed, record) = settled(&old);
        for changed in [spec(json!({})), spec(json!({ "whenUnlisted": "Keep" })), of_class("", &["three"])] {
            for boundary in [None, Some("arn:wide".into()), old.boundary.clone()] {
                let new = Desired { class: "two".into(), boundary, ..changed.clone() };
                let plan = update(&new, &observed, &record, 10, true);
                assert!(plan.barred && plan.steps.is_empty() && !plan.is_empty(), "{plan:?}");
                let [problem] = plan.refused.as_slice() else { panic!("{plan:?}") };
                assert_eq!(problem.reason, Reason::NotAllowed);
                for word in ["spec.roleClassName", "one", "two", "takeOverClasses"] {
                    assert!(problem.message.contains(word), "{word}: {}", problem.message);
                }
            }
        }
        let again = update(&old, &observed, &record, 10, false);
        assert!(again.is_empty(), "{again:?}");
    }

    #[test]
    fn a_class_that_takes_over_has_the_role_and_its_policies_at_once() {
        let (observed, record) = settled(&of_class("one", &[]));
        let plan = update(&of_class("two", &["one"]), &observed, &record, 10, false);
        let own = "arn:aws:iam::111122223333:policy/o";
        let expected =
            ["Own: set tags iamrole.dev/class".to_owned(), format!("Own: set tags iamrole.dev/class of policy {own}")];
        assert_eq!(names(&plan), expected);
    }

    #[test]
    fn what_carries_no_class_is_the_classes_own() {
        let desired = of_class("one", &[]);
        let (mut observed, record) = settled(&desired);
        observed.tags.remove(TAG_CLASS);
        assert_eq!(names(&update(&desired, &observed, &record, 10, false)), ["Own: set tags iamrole.dev/class"]);
    }

    #[test]
    fn a_policy_that_another_class_let_in_is_not_written() {
        let (mut observed, record) = settled(&of_class("two", &[]));
        let own = "arn:aws:iam::111122223333:policy/o";
        observed.own.get_mut(own).unwrap().tags.insert(TAG_CLASS.into(), "one".into());
        for attached in [true, false] {
            if !attached {
                observed.managed.remove(own);
            }
            let mut desired = of_class("two", &[]);
            desired.own[0].document = desired.inline["a"].clone();
            let plan = update(&desired, &observed, &record, 10, false);
            assert!(plan.steps.is_empty(), "{plan:?}");
            let [problem] = plan.refused.as_slice() else { panic!("{plan:?}") };
            assert_eq!(problem.reason, Reason::PolicyNameTaken);
            assert!(problem.message.contains("IamRoleClass one"), "{}", problem.message);
        }
    }

    #[test]
    fn a_class_holds_its_boundary_on_what_it_let_in() {
        let held = |of: Option<&str>, boundary: Option<&str>| {
            let (mut observed, _) = settled(&of_class("one", &[]));
            observed.boundary = boundary.map(str::to_owned);
            match of {
                Some(class) => observed.tags.insert(TAG_CLASS.into(), class.into()),
                None => observed.tags.remove(TAG_CLASS),
            };
            let action = forced("one", "arn:forced", &observed);
            assert!(action.iter().all(|action| matches!(action, Action::PutBoundary(arn) if arn == "arn:forced")));
            action.is_some()
        };
        for (of, boundary, puts) in [
            (Some("one"), Some("other"), true),
            (Some("one"), None, true),
            (Some("one"), Some("arn:forced"), false),
            (Some("two"), Some("other"), false),
            (Some("two"), None, true),
            (None, Some("other"), true),
            (None, None, true),
        ] {
            assert_eq!(held(of, boundary), puts, "let in by {of:?} under {boundary:?}");
        }
    }
}
