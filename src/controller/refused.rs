//! A spec that can't be carried out, or that its class does not allow: nothing of it reaches AWS. But the boundary that
//! the class forces on a role of ours holds whatever its spec says, or a bad spec would be a way out of it.

use super::apply::{Case, of_aws};
use super::carry::report;
use super::context::Context;
use super::failure::Failure;
use super::subject::Subject;
use crate::api::iamrole::{Cause, Change, Mode};
use crate::api::{IamRoleStatus, Reason};
use crate::role::desired::tokens;
use crate::role::{Action, Asked, Owner, Problem};

/// The failure of a refused spec, after the boundary was looked at.
pub async fn refused(
    subject: &Subject,
    ctx: &Context,
    case: Case<'_>,
    owner: &Owner,
    status: &mut IamRoleStatus,
    problems: &[Problem],
) -> Failure {
    let mut failure = Failure::problems(problems);
    match hold_boundary(subject, ctx, case, owner, status).await {
        Ok(Some(change)) => {
            status.last_changes.insert(0, change);
            status.last_changes.truncate(super::status::CHANGES_KEPT);
        }
        Ok(None) => {}
        Err(error) => failure.message = format!("{}; {}", failure.message, error.message),
    }
    failure
}

async fn hold_boundary(
    subject: &Subject,
    ctx: &Context,
    case: Case<'_>,
    owner: &Owner,
    status: &mut IamRoleStatus,
) -> Result<Option<Change>, Failure> {
    let role = subject.status.role.as_ref().filter(|role| role.id.is_some());
    let tokens = tokens(owner, &case.account.account);
    let forced = case.class.spec.permissions_boundary.as_ref().and_then(|arn| tokens.expand(arn).ok());
    let (Some(role), Some(forced), Mode::Enforce) = (role, forced, case.settings.mode) else { return Ok(None) };
    let state = case.account.observe(&role.name, &Asked::default()).await;
    let state = state.map_err(|error| of_aws(ctx, case.class, error))?;
    let Some(observed) = state.role.filter(|observed| owner.judge(&observed.tags).is_ours()) else { return Ok(None) };
    if observed.boundary.as_ref() == Some(&forced) {
        return Ok(None);
    }
    let why = if subject.status.permissions_boundary.as_ref() == Some(&forced) { Cause::Drift } else { Cause::Class };
    let action = Action::PutBoundary(forced.clone());
    case.account.execute(&role.name, &action).await.map_err(|error| of_aws(ctx, case.class, error))?;
    status.permissions_boundary = Some(forced);
    Ok(Some(report(ctx, subject, &role.name, &action, why).await))
}

/// What keeps the operator from its work and the class does not permit: it is done all the same, and said.
#[must_use]
pub fn ignored(case: Case<'_>) -> Option<Failure> {
    let class = case.class.metadata.name.as_deref().unwrap_or_default();
    let message = |field: &&str| {
        let leave = if *field == "spec.mode" { "observe" } else { "suspend" };
        format!("{field} is ignored: allowed.{leave} is not true (IamRoleClass {class}); remove it")
    };
    let messages: Vec<String> = case.settings.ignored.iter().map(message).collect();
    (!messages.is_empty()).then(|| Failure::on_change(Reason::NotAllowed, messages.join("; ")))
}
