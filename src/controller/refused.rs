//! A spec that can't be carried out, or that its class does not allow: nothing of it reaches AWS. But the boundary that
//! the class forces on a role of ours holds whatever its spec says, or a bad spec would be a way out of it.

use super::apply::{Case, of_aws};
use super::carry::report;
use super::context::Context;
use super::failure::{Failure, Retry};
use super::identity::{self, ours};
use super::memory::Entry;
use super::roles::{Setback, Stepped, interval};
use super::subject::Subject;
use crate::api::iamrole::{Cause, Change, Mode};
use crate::api::{IamRoleStatus, Reason};
use crate::role::desired::{desired, role_name, tokens};
use crate::role::found::found;
use crate::role::{Action, Asked, Desired, Owner};
use std::collections::BTreeSet;

/// Spec and class put together, for the role that is the object's; or the refusal.
pub async fn accepted(
    subject: &mut Subject,
    ctx: &Context,
    case: Case<'_>,
    owner: &Owner,
    status: &IamRoleStatus,
) -> Stepped<Desired> {
    let failure = match desired(case.spec, case.settings, case.facts(ctx, owner)) {
        Ok(desired) => match identity::check(subject, ctx, case, &desired).await {
            Ok(()) => return Ok(desired),
            Err(failure) => failure,
        },
        Err(problems) => Failure::problems(&problems),
    };
    let mut status = status.clone();
    let refusal = refused(subject, ctx, case, owner, &mut status, failure).await;
    Err(Box::new(Setback { handled: refusal.looked, ..*Setback::early(refusal.failure, status) }))
}

/// Why a spec is refused, and what became of the boundary.
pub struct Refusal {
    /// Why.
    pub failure: Failure,
    /// Whether it is known how the boundary is.
    pub looked: bool,
}

/// The failure of a refused spec, after the boundary was looked at.
pub async fn refused(
    subject: &Subject,
    ctx: &Context,
    case: Case<'_>,
    owner: &Owner,
    status: &mut IamRoleStatus,
    mut failure: Failure,
) -> Refusal {
    let mut looked = true;
    let is_forced = case.class.spec.permissions_boundary.is_some();
    if is_forced {
        failure.retry = failure.retry.within(interval(case.class));
    }
    let given = role_name(case.spec, case.facts(ctx, owner));
    for name in roles(subject, given) {
        match hold_boundary(subject, ctx, case, owner, &name, status).await {
            Ok(Some(change)) => {
                status.last_changes.insert(0, change);
                status.last_changes.truncate(super::status::CHANGES_KEPT);
            }
            Ok(None) => {}
            // It is looked at again soon, whoever took the boundary away meanwhile.
            Err(Failure { retry: Retry::Wait(soon), .. }) => {
                failure.retry = failure.retry.within(soon.min(interval(case.class)));
                looked = false;
            }
            Err(error) => failure.message = format!("{}; {}", failure.message, error.message),
        }
    }
    Refusal { failure, looked }
}

/// The roles that may be the object's: status may be wiped or forged and the finalizer taken off, so the name that is
/// given counts too.
fn roles(subject: &Subject, given: Option<String>) -> BTreeSet<String> {
    let recorded = subject.status.role.as_ref().map(|role| role.name.clone());
    recorded.into_iter().chain(given).collect()
}

async fn hold_boundary(
    subject: &Subject,
    ctx: &Context,
    case: Case<'_>,
    owner: &Owner,
    name: &str,
    status: &mut IamRoleStatus,
) -> Result<Option<Change>, Failure> {
    let tokens = tokens(owner, &case.account.account);
    let forced = case.class.spec.permissions_boundary.as_ref().and_then(|arn| tokens.expand(arn).ok());
    let (Some(forced), Mode::Enforce) = (forced, case.settings.mode) else { return Ok(None) };
    let Some(observed) = ours(ctx, case, owner, name).await? else { return Ok(None) };
    if observed.boundary.as_ref() == Some(&forced) {
        return Ok(None);
    }
    let (now, settle) = (ctx.started.elapsed(), ctx.settle);
    let is_late = |entry: &mut Entry| entry.recent.is_past(&observed, &Asked::default(), now, settle);
    if ctx.memory.with(&subject.uid, is_late) {
        return Err(Failure::wait(settle, format!("AWS does not show yet that role {name} has its boundary")));
    }
    let why = if subject.status.permissions_boundary.as_ref() == Some(&forced) { Cause::Drift } else { Cause::Class };
    let action = Action::PutBoundary(forced.clone());
    case.account.execute(&observed.name, &action).await.map_err(|error| of_aws(ctx, case.class, error))?;
    let account = &case.account.account;
    ctx.memory.with(&subject.uid, |entry| entry.recent.note(&action, &observed, account, now));
    status.permissions_boundary = Some(forced);
    status.replaced_permissions_boundary = None;
    let found = if why == Cause::Drift { found(&action, Some(&observed), account) } else { None };
    Ok(Some(report(ctx, subject, &observed.name, &action, why, found).await))
}

/// What keeps the operator from its work and the class does not permit: it is done all the same, and said.
#[must_use]
pub fn ignored(case: Case<'_>) -> Option<Failure> {
    let class = case.class.metadata.name.as_deref().unwrap_or_default();
    let told = case.settings.ignored.iter().map(|ignored| format!("{ignored} (IamRoleClass {class}); remove it"));
    let messages: Vec<String> = told.collect();
    let failure = || Failure {
        retry: Retry::Within(interval(case.class)),
        ..Failure::on_change(Reason::NotAllowed, messages.join("; "))
    };
    (!messages.is_empty()).then(failure)
}
