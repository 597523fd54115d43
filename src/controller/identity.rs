//! Which role is the object's. Status names it, and status can be forged: where it differs from what spec and class
//! say, or where another object claims the same role, the owner tags in AWS decide.

use super::apply::{Case, of_aws};
use super::begun::look_by_name;
use super::context::Context;
use super::failure::Failure;
use super::intent::role_ref;
use super::judge::same_identity;
use super::subject::Subject;
use crate::api::IamRoleClass;
use crate::api::iamrole::Origin;
use crate::aws::Account;
use crate::role::{Asked, Desired, Observed, Owner};

/// The role of this name, if it carries the owner's tags.
pub async fn ours(
    ctx: &Context,
    class: &IamRoleClass,
    account: &Account,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, Failure> {
    let state = account.observe(name, &Asked::default()).await;
    let state = state.map_err(|error| of_aws(ctx, class, error))?;
    Ok(state.role.filter(|observed| owner.judge(&observed.tags).is_ours()))
}

/// Name and path of the role are those that spec and class ask for. A role in status that is not ours, while the one
/// asked for is, is put right there.
pub async fn check(subject: &mut Subject, ctx: &Context, case: Case<'_>, desired: &Desired) -> Result<(), Failure> {
    look_by_name(subject, ctx, case, desired).await?;
    let Err(failure) = same_identity(subject, desired) else { return Ok(()) };
    let recorded = subject.status.role.as_ref().map(|role| role.name.clone()).unwrap_or_default();
    let ours = |name: String| async move { ours(ctx, case.class, case.account, &desired.owner, &name).await };
    if recorded != desired.name && ours(recorded.clone()).await?.is_some() {
        return Err(failure);
    }
    let Some(observed) = ours(desired.name.clone()).await? else { return Err(failure) };
    let role = role_ref(desired, Some(&observed), None, Origin::Created);
    if subject.status.role.as_ref() == Some(&role) {
        return Err(failure);
    }
    tracing::warn!(recorded, role = role.name, "status names a role that is not this object's; its own is taken");
    subject.status.role = Some(role);
    same_identity(subject, desired)
}

/// Whether the object has the role by its tags, though another object claims it.
pub async fn has_role(ctx: &Context, case: Case<'_>, desired: &Desired) -> Result<bool, Failure> {
    Ok(ours(ctx, case.class, case.account, &desired.owner, &desired.name).await?.is_some())
}
