//! What applies once spec and class are put together. Needs no valid spec, since deletion asks too.

use crate::api::iamrole::{DeletionPolicy, Effective, Mode, Origin, WhenUnlisted};
use crate::api::iamroleclass::Allowed;
use crate::api::{IamRoleClassSpec, IamRoleSpec};
use std::fmt;

const ANNOTATION: &str = "the annotation iamrole.dev/suspend";
/// How much of a value a message shows.
const SHOWN: usize = 64;

/// The settings in force; see [`settings`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What becomes of the role on deletion.
    pub deletion_policy: DeletionPolicy,
    /// What happens to unlisted policies.
    pub when_unlisted: WhenUnlisted,
    /// Whether AWS is changed.
    pub mode: Mode,
    /// Who suspends the object, in words; `None` if nobody does.
    pub suspended_by: Option<&'static str>,
    /// What the object says to keep the operator from its work and its class does not permit: it is ignored.
    pub ignored: Vec<Ignored>,
}

/// Something of the object that is ignored, since its class does not permit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Where it is said.
    pub field: &'static str,
    /// What it says, at most 64 characters of it.
    pub value: String,
    /// The switch of the class's `allowed` that would permit it.
    pub leave: &'static str,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, leave } = self;
        write!(f, "{field}: {value} is ignored: allowed.{leave} is not true")
    }
}

impl Settings {
    /// As it stands in `status.effective`.
    #[must_use]
    pub const fn effective(&self) -> Effective {
        Effective { deletion_policy: self.deletion_policy, when_unlisted: self.when_unlisted, mode: self.mode }
    }
}

/// Puts spec, class and annotation together. The stricter of class and role wins for mode and suspension, where the
/// class lets the role have a say; what a newer version wrote and we don't know is taken for the most careful value.
#[must_use]
pub fn settings(
    spec: &IamRoleSpec,
    class: Option<&IamRoleClassSpec>,
    origin: Option<Origin>,
    suspend_annotation: Option<&str>,
) -> Settings {
    let adopted = match origin {
        Some(Origin::Created) | None => false,
        Some(Origin::Adopted | Origin::Unknown) => true,
    };
    let deletion_policy = match spec.deletion_policy {
        Some(policy) => policy,
        None if adopted => DeletionPolicy::Retain,
        None => class.and_then(|class| class.deletion_policy).unwrap_or(DeletionPolicy::Delete),
    };
    let when_unlisted = match spec.when_unlisted {
        Some(choice) => choice,
        None if adopted => WhenUnlisted::Keep,
        None => class.and_then(|class| class.when_unlisted).unwrap_or(WhenUnlisted::Remove),
    };
    let may = |leave: fn(&Allowed) -> Option<bool>| {
        class.is_none_or(|class| class.allowed.as_ref().and_then(leave) == Some(true))
    };
    let mut ignored = Vec::new();
    let observes = spec.mode == Some(Mode::Observe);
    if observes && !may(|allowed| allowed.observe) {
        let value = format!("{:?}", Mode::Observe.as_str());
        ignored.push(Ignored { field: "spec.mode", value, leave: "observe" });
    }
    let modes = [spec.mode.filter(|_| ignored.is_empty()), class.and_then(|class| class.mode)];
    let by_object = suspended_by_object(spec, suspend_annotation);
    let suspended_by = if may(|allowed| allowed.suspend) {
        by_object.first().copied()
    } else {
        ignored.extend(by_object.into_iter().map(|field| suspending(field, suspend_annotation)));
        None
    };
    Settings {
        deletion_policy: match deletion_policy {
            DeletionPolicy::Unknown => DeletionPolicy::Retain,
            known => known,
        },
        when_unlisted: match when_unlisted {
            WhenUnlisted::Unknown => WhenUnlisted::Keep,
            known => known,
        },
        mode: if modes.iter().flatten().any(|mode| *mode != Mode::Enforce) { Mode::Observe } else { Mode::Enforce },
        suspended_by: suspended_by.or_else(|| suspended_otherwise(class, &modes)),
        ignored,
    }
}

fn suspended_by_object(spec: &IamRoleSpec, annotation: Option<&str>) -> Vec<&'static str> {
    let by_spec = (spec.suspend == Some(true)).then_some("spec.suspend");
    let by_annotation = annotation.is_some_and(|value| value != "false");
    by_spec.into_iter().chain(by_annotation.then_some(ANNOTATION)).collect()
}

fn suspending(field: &'static str, annotation: Option<&str>) -> Ignored {
    let said = annotation.filter(|_| field == ANNOTATION);
    let value =
        said.map_or_else(|| "true".to_owned(), |said| format!("{:?}", said.chars().take(SHOWN).collect::<String>()));
    Ignored { field, value, leave: "suspend" }
}

fn suspended_otherwise(class: Option<&IamRoleClassSpec>, modes: &[Option<Mode>]) -> Option<&'static str> {
    if class.is_some_and(|class| class.suspend == Some(true)) {
        Some("its class (spec.suspend)")
    } else if modes.contains(&Some(Mode::Unknown)) {
        Some("a mode that this version of the operator does not know")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::settings;
    use crate::api::iamrole::{DeletionPolicy, Mode, Origin, WhenUnlisted};
    use crate::api::iamroleclass::Allowed;
    use crate::api::{IamRoleClassSpec, IamRoleSpec};

    #[test]
    fn deletion_policy_and_unlisted_follow_spec_then_origin_then_class() {
        use DeletionPolicy::{Delete, ForceDelete, Retain};
        use WhenUnlisted::{Keep, Remove};
        let class = IamRoleClassSpec {
            deletion_policy: Some(DeletionPolicy::ForceDelete),
            when_unlisted: Some(WhenUnlisted::Remove),
            ..IamRoleClassSpec::default()
        };
        let said = IamRoleSpec { deletion_policy: Some(DeletionPolicy::Delete), ..IamRoleSpec::default() };
        let silent = IamRoleSpec::default();
        let ask = |spec, class, origin| {
            let settings = settings(spec, class, origin, None);
            (settings.deletion_policy, settings.when_unlisted)
        };
        assert_eq!(ask(&silent, None, None), (Delete, Remove));
        assert_eq!(ask(&silent, Some(&class), Some(Origin::Created)), (ForceDelete, Remove));
        assert_eq!(ask(&silent, Some(&class), Some(Origin::Adopted)), (Retain, Keep));
        assert_eq!(ask(&said, Some(&class), Some(Origin::Adopted)), (Delete, Keep));
    }

    #[test]
    fn what_is_unknown_is_taken_carefully() {
        let newer = IamRoleSpec {
            deletion_policy: Some(DeletionPolicy::Unknown),
            when_unlisted: Some(WhenUnlisted::Unknown),
            mode: Some(Mode::Unknown),
            ..IamRoleSpec::default()
        };
        let settings = settings(&newer, None, None, None);
        assert_eq!(settings.deletion_policy, DeletionPolicy::Retain);
        assert_eq!(settings.when_unlisted, WhenUnlisted::Keep);
        assert!(settings.suspended_by.is_some() && settings.mode == Mode::Observe);
    }

    #[test]
    fn a_class_that_gives_no_leave_is_not_dodged() {
        let dodging = IamRoleSpec { mode: Some(Mode::Observe), suspend: Some(true), ..IamRoleSpec::default() };
        let strict = settings(&dodging, Some(&IamRoleClassSpec::default()), None, Some("yes"));
        assert_eq!((strict.mode, strict.suspended_by), (Mode::Enforce, None));
        let ignored: Vec<String> = strict.ignored.iter().map(ToString::to_string).collect();
        assert_eq!(
            ignored,
            [
                "spec.mode: \"Observe\" is ignored: allowed.observe is not true",
                "spec.suspend: true is ignored: allowed.suspend is not true",
                "the annotation iamrole.dev/suspend: \"yes\" is ignored: allowed.suspend is not true",
            ]
        );
        let leave = Allowed { suspend: Some(true), observe: Some(true), ..Allowed::default() };
        let class = IamRoleClassSpec { allowed: Some(leave), ..IamRoleClassSpec::default() };
        let open = settings(&dodging, Some(&class), None, Some("yes"));
        assert_eq!((open.mode, open.suspended_by), (Mode::Observe, Some("spec.suspend")));
        assert!(open.ignored.is_empty());
    }

    #[test]
    fn the_stricter_of_class_and_role_wins() {
        let class = IamRoleClassSpec { mode: Some(Mode::Observe), suspend: Some(true), ..IamRoleClassSpec::default() };
        let eager = IamRoleSpec { mode: Some(Mode::Enforce), suspend: Some(false), ..IamRoleSpec::default() };
        let both = settings(&eager, Some(&class), None, Some("false"));
        assert_eq!((both.mode, both.suspended_by), (Mode::Observe, Some("its class (spec.suspend)")));
        assert!(settings(&eager, None, None, Some("false")).suspended_by.is_none());
        assert!(settings(&eager, None, None, Some("")).suspended_by.is_some(), "any value but false");
    }
}
