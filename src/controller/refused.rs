//! A spec that can't be carried out, or that its class does not allow: nothing of it reaches AWS. But the boundary that
//! the class forces on a role of ours holds whatever its spec says, or a bad spec would be a way out of it.

use super::apply::{Case, of_aws};
use super::carry::report;
use super::context::Context;
use super::failure::{Failure, Retry};
use super::identity::{self, ours};
use super::memory::{Basis, BoundarySeen, Entry};
use super::roles::{Setback, Stepped, class_ref, interval, period, reached};
use super::subject::Subject;
use crate::api::iamrole::{Cause, ClassRef, Mode};
use crate::api::{IamRoleClass, IamRoleStatus, Reason, TAG_CLASS};
use crate::aws::Account;
use crate::role::desired::{Facts, desired, role_name, tokens};
use crate::role::found::found;
use crate::role::plan::{self, Forced};
use crate::role::{Action, Asked, Desired, Owner, Record};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// When to look again for a boundary that could not be looked at.
const MISSED: Duration = Duration::from_secs(5);

/// Spec and class put together, for the role that is the object's; or the refusal.
pub async fn accepted(
    subject: &mut Subject,
    ctx: &Context,
    case: Case<'_>,
    owner: &Owner,
    status: &IamRoleStatus,
) -> Stepped<Desired> {
    let refusal = |failure| Setback::early(failure, status.clone());
    // Few specs write policies, and there may be many classes.
    let writes = case.spec.customer_managed_policies.as_ref().is_some_and(|policies| !policies.is_empty());
    let boundaries = if writes { ctx.forced_boundaries() } else { Vec::new() };
    let facts = Facts { boundaries: &boundaries, ..case.facts(ctx, owner) };
    let desired = desired(case.spec, case.settings, facts);
    let desired = desired.map_err(|problems| refusal(Failure::problems(&problems)))?;
    let checked = identity::check(subject, ctx, case, &desired).await;
    // A role that was found out to be there is kept in mind.
    let status = || IamRoleStatus { role: subject.status.role.clone(), ..status.clone() };
    checked.map_err(|failure| Setback::early(failure, status()))?;
    Ok(desired)
}

/// What a setback means where the class forces a boundary: the role is looked at as often as if all were well, and if it
/// is `untouched`, since nothing of the spec could be carried out, its boundary is put right all the same.
pub async fn bounded(
    subject: &mut Subject,
    ctx: &Context,
    case: Case<'_>,
    untouched: bool,
    mut setback: Box<Setback>,
) -> Box<Setback> {
    if !may_be_bounded(subject, ctx, case.class) {
        return setback;
    }
    setback.failure.retry = setback.failure.retry.within(interval(case.class));
    if case.settings.mode != Mode::Enforce {
        return setback;
    }
    let passes = matches!(setback.failure.retry, Retry::Wait(_) | Retry::Passing);
    let period = period(case.class);
    let is_due = ctx.memory.with(&subject.uid, |entry| entry.boundary_is_due(period, Instant::now()));
    if (!untouched || passes) && !is_due {
        return setback;
    }
    let basis = (subject.generation, class_ref(case.class));
    let fresh = is_fresh(subject, ctx, case.class, &basis);
    if let Some(left) = fresh.filter(|_| subject.requested().is_none()) {
        // A class that is not ready for long, say, must not cost a look at each of its roles at each try.
        setback.failure.retry = setback.failure.retry.within(left);
        return setback;
    }
    let owner = &subject.owner(ctx, case.class);
    let given = role_name(case.spec, case.facts(ctx, owner));
    let (mut looked, mut made) = (true, None);
    for name in roles(subject, given) {
        let named = Named { class: case.class, selects: true };
        match hold_boundary(subject, ctx, named, case.account, owner, &name, &mut setback.status).await {
            Ok(maker) => made = maker.or(made),
            Err(error) => looked &= missed(&mut setback, case.class, &error),
        }
    }
    if looked {
        let soon = made.as_ref().and_then(|made| ctx.classes.get(&ObjectRef::new(&made.name)));
        setback.failure.retry =
            soon.map_or(setback.failure.retry, |class| setback.failure.retry.within(interval(&class)));
        let seen = BoundarySeen { basis, made, at: Instant::now() };
        ctx.memory.with(&subject.uid, |entry| entry.sees_boundary(seen));
    }
    setback
}

/// Whether a class may force a boundary on the role: the one that is named, or another one that may have made it.
pub fn may_be_bounded(subject: &Subject, ctx: &Context, named: &IamRoleClass) -> bool {
    named.spec.permissions_boundary.is_some() || (subject.status.role.is_some() && ctx.forces_any())
}

/// For how long what was seen of the boundary counts: until the class that is named or the one that made the role wants
/// another look, or until the latter changes.
fn is_fresh(subject: &Subject, ctx: &Context, class: &IamRoleClass, basis: &Basis) -> Option<Duration> {
    let made = ctx.memory.with(&subject.uid, |entry| entry.boundary_seen.as_ref().and_then(|seen| seen.made.clone()));
    let mut shortest = period(class);
    if let Some(made) = made {
        let known = ctx.classes.get(&ObjectRef::new(&made.name)).filter(|class| class_ref(class) == made)?;
        shortest = shortest.min(period(&known));
    }
    ctx.memory.with(&subject.uid, |entry| entry.saw_boundary(basis, shortest, Instant::now()))
}

/// What it means that the boundary could not be seen to. False if it is to be tried soon.
pub fn missed(setback: &mut Setback, class: &IamRoleClass, error: &Failure) -> bool {
    let soon = match error.retry {
        Retry::Wait(soon) => soon,
        Retry::Passing => MISSED,
        _ => {
            setback.failure.message = format!("{}; {}", setback.failure.message, error.message);
            return true;
        }
    };
    // Whoever took the boundary away meanwhile.
    setback.failure.retry = setback.failure.retry.within(soon.min(interval(class)));
    setback.handled = false;
    false
}

/// The roles that may be the object's: status may be wiped or forged and the finalizer taken off, so the name that is
/// given counts too.
fn roles(subject: &Subject, given: Option<String>) -> BTreeSet<String> {
    let recorded = subject.status.role.as_ref().map(|role| role.name.clone());
    recorded.into_iter().chain(given).collect()
}

/// The class that the object names, or that status remembers.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    /// The class.
    pub class: &'a IamRoleClass,
    /// Whether it selects the namespace: no class gives a boundary to the roles of another one.
    pub selects: bool,
}

/// Writes down which boundary the role has, or is about to get.
fn note_boundary(record: &Record, status: &mut IamRoleStatus) {
    status.permissions_boundary.clone_from(&record.boundary);
    status.replaced_permissions_boundary.clone_from(&record.replaced_boundary);
}

/// Sees to it that a role of ours has the boundary that its class forces, which is the one that made it, else the one that is
/// `named`. What is put right is noted in `status`, and if possible in that of the object before it is done. A failure with
/// [`Retry::Wait`] where AWS may not show yet what we wrote.
///
/// Nothing else of the spec is carried out, so the role has what it was given before. Returns the class that made the role,
/// where that is another one than the named.
pub async fn hold_boundary(
    subject: &mut Subject,
    ctx: &Context,
    named: Named<'_>,
    account: &Account,
    owner: &Owner,
    name: &str,
    status: &mut IamRoleStatus,
) -> Result<Option<ClassRef>, Failure> {
    let Some(observed) = ours(ctx, named.class, account, owner, name).await? else { return Ok(None) };
    let tokens = tokens(owner, &account.account);
    let of = |class: &IamRoleClass| Forced {
        class: class.name_any(),
        boundary: class.spec.permissions_boundary.as_ref().and_then(|arn| tokens.expand(arn).ok()),
    };
    let other = observed.tags.get(TAG_CLASS).filter(|class| **class != named.class.name_any());
    let other = other.and_then(|class| ctx.classes.get(&ObjectRef::new(class)));
    let made = other.as_ref().map(|class| class_ref(class));
    if other.as_ref().is_some_and(|class| ctx.serves(class) && !is_looked_at(ctx, class)) {
        return Err(Failure::wait(MISSED, format!("the class that made role {name} is being looked at")));
    }
    let by_maker = |_: &str| {
        let class = other.clone()?;
        let here = reached(ctx, &class).is_some_and(|other| other.account.id == account.account.id);
        let forced = of(&class);
        Some(if here { forced } else { Forced { boundary: None, ..forced } })
    };
    let mut by_name = of(named.class);
    by_name.boundary = by_name.boundary.filter(|_| named.selects);
    let Some(forced) = plan::forced(&by_name, by_maker, &observed) else { return Ok(made) };
    let action = Action::PutBoundary(forced.clone());
    let (now, settle) = (ctx.started.elapsed(), ctx.settle);
    let is_late = |entry: &mut Entry| entry.recent.is_past(&observed, &Asked::default(), now, settle);
    if ctx.memory.with(&subject.uid, is_late) {
        let message = format!("AWS does not show yet that role {} has its boundary", observed.name);
        return Err(Failure::wait(settle, message));
    }
    let mut record = Record::from_status(status);
    let why = if record.was_bounded(&forced) { Cause::Drift } else { Cause::Class };
    record.intend_boundary(Some(&forced), observed.boundary.as_ref());
    intend(subject, ctx, &observed.name, &record, status).await;
    if why == Cause::Drift {
        ctx.metrics.drift_found();
    }
    account.execute(&observed.name, &action).await.map_err(|error| of_aws(ctx, named.class, error))?;
    ctx.memory.with(&subject.uid, |entry| entry.recent.note(&action, &observed, &account.account, now));
    let found = if why == Cause::Drift { found(&action, Some(&observed), &account.account) } else { None };
    let change = report(ctx, subject, &observed.name, &action, why, found).await;
    record.set_boundary(Some(forced));
    note_boundary(&record, status);
    status.last_changes.insert(0, change);
    status.last_changes.truncate(super::status::CHANGES_KEPT);
    subject.remember(ctx, status);
    Ok(made)
}

/// Writes down that the boundary is about to be set, as `record` has it: in `status`, and in that of the object.
async fn intend(subject: &mut Subject, ctx: &Context, role: &str, record: &Record, status: &mut IamRoleStatus) {
    note_boundary(record, status);
    subject.speak_of_now(status, || format!("the permissions boundary of role {role} is being set"));
    let mut intended = subject.status.clone();
    note_boundary(record, &mut intended);
    intended.conditions.clone_from(&status.conditions);
    intended.observed_generation = status.observed_generation;
    if let Err(failure) = subject.write_status(ctx, intended.clone()).await {
        // Who edits his object all the time must not keep away what the class forces. The next write of status tells it.
        tracing::debug!(%failure, "the boundary is set all the same");
        subject.remember(ctx, &intended);
    }
}

/// Whether the present generation of a class was looked at.
pub fn is_looked_at(ctx: &Context, class: &IamRoleClass) -> bool {
    let state = ctx.class_state(&class.name_any(), &class.uid().unwrap_or_default());
    state.is_some_and(|state| state.generation >= class.metadata.generation.unwrap_or_default())
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
