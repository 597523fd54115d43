//! A role that was begun and of which no answer is known, where one of another name or in another account is asked for by
//! now. It is looked for first: nothing but status tells of it, and status is about to tell of the other one.

use super::apply::{Case, YOUNG, of_aws};
use super::context::Context;
use super::failure::Failure;
use super::identity::ours;
use super::intent::seen;
use super::refused::is_looked_at;
use super::roles::same_account;
use super::status::aws_refused;
use super::subject::Subject;
use crate::api::iamrole::{Origin, RoleRef};
use crate::api::{IamRoleClass, Reason};
use crate::aws::Account;
use crate::role::recent::MISSES_APART;
use crate::role::{Asked, Desired, Observed, Owner, Record};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A class and the account that it leads to.
type Way = (Arc<IamRoleClass>, Arc<Account>);

/// How long a class that was not looked at yet is waited for.
const CLASS_CHECK: Duration = Duration::from_secs(1);

/// Finds out whether a role of another name was made. If so status knows it from here on; else it forgets it.
pub async fn look_by_name(
    subject: &mut Subject,
    ctx: &Context,
    case: Case<'_>,
    desired: &Desired,
) -> Result<(), Failure> {
    // What differs in nothing but case is the same to IAM, which will say so.
    let begun = begun(subject).filter(|role| !role.name.eq_ignore_ascii_case(&desired.name));
    let Some(role) = begun else { return Ok(()) };
    match ours(ctx, case.class, case.account, &desired.owner, &role.name).await {
        Ok(Some(found)) => take(subject, &desired.owner, &found, &role),
        Ok(None) if may_be_late(subject, ctx) => return Err(late(&role)),
        Ok(None) => subject.status.role = None,
        // Nor may we have been permitted to make it.
        Err(failure) if failure.reason == Reason::AccessDenied && !may_have_been_made(subject, ctx) => {
            subject.status.role = None;
        }
        Err(failure) => return Err(failure),
    }
    Ok(())
}

/// What was made for the object stays in its account; so does what may have been made, unless a look there tells otherwise.
pub async fn look_in_account(subject: &mut Subject, ctx: &Context, account: &Account) -> Result<(), Failure> {
    same_account(subject, account)?;
    let before = subject.status.account_id.clone().filter(|before| *before != account.account.id);
    let (Some(role), Some(before)) = (begun(subject), before) else { return Ok(()) };
    let record = Record::from_status(&subject.status);
    if was_made(&record) || may_have_been_made(subject, ctx) {
        let stays = || stays(&role.name, &before, &account.account.id);
        let (class, there) = former(subject, ctx, &before)?.ok_or_else(stays)?;
        let owner = subject.owner(ctx, &class);
        let state = there.observe(&role.name, &Asked::new(None, &record)).await;
        let state = state.map_err(|error| of_aws(ctx, &class, error))?;
        if let Some(found) = state.role.filter(|found| owner.judge(&found.tags).is_ours()) {
            take(subject, &owner, &found, &role);
            return same_account(subject, account);
        }
        let policies = state.own.values().map(|policy| &policy.tags);
        let mut tags = policies.chain(state.profiles.values().map(|profile| &profile.tags));
        if tags.any(|tags| owner.judge(tags).is_ours()) {
            return Err(stays());
        }
        if may_be_late(subject, ctx) {
            return Err(late(&role));
        }
    }
    Record::default().into_status(&mut subject.status);
    Ok(())
}

/// The role that was asked for and of which no answer is known.
fn begun(subject: &Subject) -> Option<RoleRef> {
    subject.status.role.clone().filter(|role| role.id.is_none())
}

/// Of the role, and of all that belongs to it, AWS has refused to make anything.
pub fn was_never_made(subject: &Subject, ctx: &Context) -> bool {
    let is_open = subject.status.role.as_ref().is_none_or(|role| role.id.is_none());
    is_open && !was_made(&Record::from_status(&subject.status)) && !may_have_been_made(subject, ctx)
}

fn take(subject: &mut Subject, owner: &Owner, found: &Observed, before: &RoleRef) {
    tracing::info!(role = found.name, "found what an attempt without an answer has made");
    subject.status.role = Some(seen(owner, found, Some(before), Origin::Created));
}

/// Something of an earlier role was made, as AWS said.
fn was_made(record: &Record) -> bool {
    record.own.iter().any(|own| own.id.is_some()) || record.profile.iter().any(|profile| profile.arn.is_some())
}

/// Whether AWS did not refuse each attempt for certain. What an earlier process heard only status tells: of a role that is
/// not confirmed its last word is what became of the attempt. Else whoever puts a class right that led to a wrong account, and
/// restarts the operator by that, would have all its roles stuck.
fn may_have_been_made(subject: &Subject, ctx: &Context) -> bool {
    let was_refused = aws_refused(&subject.status.conditions);
    ctx.memory.with(&subject.uid, |entry| entry.may_have_created || (entry.inherited != Some(false) && !was_refused))
}

/// Right after an attempt a role that is not seen may be there all the same.
fn may_be_late(subject: &Subject, ctx: &Context) -> bool {
    let attempt = ctx.memory.with(&subject.uid, |entry| entry.create_attempt).unwrap_or(ctx.started);
    may_have_been_made(subject, ctx) && Instant::now().saturating_duration_since(attempt) < YOUNG
}

fn late(role: &RoleRef) -> Failure {
    let message =
        format!("role {} was asked for and is not there (yet); looking again before another is made", role.name);
    Failure::wait(MISSES_APART, message)
}

/// The class under which it was begun, if it still leads to that account.
fn former(subject: &Subject, ctx: &Context, id: &str) -> Result<Option<Way>, Failure> {
    let class = subject.status.class.as_ref().and_then(|class| ctx.classes.get(&ObjectRef::new(&class.name)));
    let Some(class) = class.filter(|class| ctx.serves(class)) else { return Ok(None) };
    if !is_looked_at(ctx, &class) {
        return Err(Failure::wait(CLASS_CHECK, "the class under which the role was begun is being looked at"));
    }
    let name = class.name_any();
    let state = ctx.class_state(&name, &class.uid().unwrap_or_default());
    let account = state.and_then(|state| state.reached).ok_or_else(|| {
        let message = format!("the role was begun under IamRoleClass {name}, which is not ready: see its conditions");
        Failure::soon(Reason::ClassNotReady, message)
    })?;
    Ok((account.account.id == id).then_some((class, account)))
}

fn stays(role: &str, before: &str, now: &str) -> Failure {
    Failure::on_change(
        Reason::ClassAccountMismatch,
        format!(
            "role {role} was begun in account {before} and may be there, its class leads to {now}; name the class under which \
             it was begun, or lead this one back there; or set deletionPolicy: Retain, delete this object and create it anew"
        ),
    )
}
