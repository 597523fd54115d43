//! Which class a role belongs to.
//!
//! What a class lets in, it lets in under its own boundary and for its own principals. If a role could pass from one class
//! to another, one that allows every action under a narrow boundary and one that allows few under a wide one would
//! together give every action under the wide one. So a tag tells which class let in what a role has, and another class
//! has the role only where it says that it takes over that one's (`takeOverClasses`).

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

/// What forces a boundary on a role whose spec is not carried out: its class, by name, and the boundary, if any.
#[derive(Clone, Debug)]
pub struct Forced {
    /// Name of the class.
    pub class: String,
    /// ARN of the boundary.
    pub boundary: Option<String>,
}

/// The boundary that is to be put on a role whose spec is not carried out, if any. What it has was let in under the boundary
/// of the class that made it, so that one's holds, also while the object names another class. `named` is the one that the
/// object names, and `of` tells what another class forces; `None` if it is no more: then nobody knows what the role may have,
/// and any boundary is left, but none is no boundary.
#[must_use]
pub fn forced(named: &Forced, of: impl FnOnce(&str) -> Option<Forced>, observed: &Observed) -> Option<String> {
    let other = observed.tags.get(TAG_CLASS).filter(|class| **class != named.class);
    let boundary = match other.map(|class| of(class)) {
        Some(Some(made)) => made.boundary,
        Some(None) if observed.boundary.is_some() => None,
        _ => named.boundary.clone(),
    };
    boundary.filter(|boundary| observed.boundary.as_ref() != Some(boundary))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{inline, names, settled, spec};
    use super::super::update;
    use super::{Forced, forced};
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
    fn the_class_that_made_a_role_holds_its_boundary_on_it() {
        let of_class = |class: &str, boundary: Option<&str>| Forced {
            class: class.to_owned(),
            boundary: boundary.map(|name| format!("arn:{name}")),
        };
        let other = Some("made");
        // The class that made it, what it forces if it is still there, what is there, what is put. Named is a class that
        // forces `named`.
        let cases = [
            ("its own class", Some("named"), None, Some("x"), Some("named")),
            ("its own class, without one", Some("named"), None, None, Some("named")),
            ("its own class, as it should be", Some("named"), None, Some("named"), None),
            ("no tag", None, None, Some("x"), Some("named")),
            ("another's, as that forces it", other, Some(Some("made")), Some("made"), None),
            ("another's, taken off", other, Some(Some("made")), None, Some("made")),
            ("another's, replaced or tightened", other, Some(Some("made")), Some("x"), Some("made")),
            ("another's, which forces none", other, Some(None), None, None),
            ("another's, which forces none, and there is one", other, Some(None), Some("x"), None),
            ("another's, which is no more", other, None, Some("x"), None),
            ("another's, which is no more, without one", other, None, None, Some("named")),
        ];
        for (what, tag, made, there, put) in cases {
            let (mut observed, _) = settled(&spec(json!({})));
            observed.boundary = there.map(|name| format!("arn:{name}"));
            observed.tags.remove(TAG_CLASS);
            observed.tags.extend(tag.map(|class| (TAG_CLASS.to_owned(), class.to_owned())));
            let of = |class: &str| made.map(|boundary| of_class(class, boundary));
            let found = forced(&of_class("named", Some("named")), of, &observed);
            assert_eq!(found, put.map(|name| format!("arn:{name}")), "{what}");
            let unbounded = forced(&of_class("named", None), of, &observed);
            assert_eq!(unbounded, found.filter(|arn| arn != "arn:named"), "{what}, named is unbounded");
        }
    }
}
