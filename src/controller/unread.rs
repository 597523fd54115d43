//! A spec that can't be read: stored before a stricter schema, or nested too deep. Nothing of it is carried out, but what
//! its class forces on the role holds all the same.

use super::apply::Case;
use super::context::Context;
use super::failure::Failure;
use super::refused::bounded;
use super::roles::{Setback, reached, resolve, same_account};
use super::subject::Subject;
use crate::api::IamRoleSpec;
use crate::api::iamrole::Mode;
use crate::role::settings::settings;
use serde_json::Value;

/// The setback of a spec that can't be read, after the boundary of the role was looked at. The role is the one that status
/// names, or the one of the name that spec or class give; the class the one in status, or the one that spec names, or the
/// namespace's default.
pub async fn unread(subject: &mut Subject, ctx: &Context, failure: Failure) -> Box<Setback> {
    let setback = Setback::early(failure, subject.status.clone());
    let spec = salvaged(subject);
    let remembered = setback.status.class.as_ref().map(|class| class.name.clone());
    let named = remembered.or_else(|| spec.role_class_name.clone());
    let Ok(Some(class)) = resolve(subject, ctx, named.as_deref()) else { return setback };
    let origin = setback.status.role.as_ref().and_then(|role| role.origin);
    let settings = settings(&spec, Some(&class.spec), origin, subject.suspend_annotation());
    let Some(account) = reached(ctx, &class) else { return setback };
    if settings.suspended_by.is_some() || same_account(subject, &account).is_err() {
        return setback;
    }
    let case = Case { spec: &spec, class: &class, settings: &settings, account: &account };
    bounded(subject, ctx, case, true, setback).await
}

/// What of the spec can be read by itself and tells which role it is about, and whether it may be touched.
fn salvaged(subject: &Subject) -> IamRoleSpec {
    let spec = subject.object().spec();
    let field = |name: &str| spec.get(name);
    let text = |name: &str| field(name).and_then(Value::as_str).map(str::to_owned);
    IamRoleSpec {
        role_class_name: text("roleClassName"),
        role_name: text("roleName"),
        suspend: field("suspend").and_then(Value::as_bool),
        mode: salvaged_mode(subject, field("mode")),
        ..IamRoleSpec::default()
    }
}

/// The mode of a spec that can't be read: as it says, where that is the more careful one, else as it was in force.
#[must_use]
pub fn salvaged_mode(subject: &Subject, said: Option<&Value>) -> Option<Mode> {
    let observes = said.is_some_and(|mode| mode != "Enforce");
    if observes { Some(Mode::Observe) } else { subject.status.effective.as_ref().map(|effective| effective.mode) }
}
