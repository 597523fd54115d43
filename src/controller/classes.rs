//! The reconciliation of an `IamRoleClass`: which account does it lead to, and is it still needed.

use super::context::{ClassState, Context};
use super::events::Tone;
use super::failure::{Failure, Retry};
use super::finalizer;
use super::memory::jitter;
use super::roles::{now, uses_class};
use super::status::{Verdict, after_failure, conditions, is_news, is_ready, is_stalled};
use super::sweeps;
use crate::api::iamroleclass::{DriftMethod, ORPHANS};
use crate::api::{ANNOTATION_RECONCILE, IamRoleClass, IamRoleClassStatus, Reason};
use crate::aws::{Account, AwsError, Kind, Session};
use crate::policy::Tokens;
use crate::role::desired::class_mistakes;
use crate::role::names;
use crate::role::urgency::Urgency;
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Instrument as _;

/// Longest name of a session.
const SESSION_NAME: usize = 64;
/// How often the identity is looked at again.
const RECHECK: Duration = Duration::from_mins(10);
/// For so long what was found is not asked for again, whatever else changed about the class.
const FRESH: Duration = Duration::from_mins(5);
/// How often a class that is being deleted is looked at for its last role.
const DELETION: Duration = Duration::from_secs(5);

/// Entry point for the controller; never fails, failures are in status.
pub async fn reconcile(class: Arc<IamRoleClass>, ctx: Arc<Context>) -> Result<Action, Infallible> {
    let started = Instant::now();
    let _active = ctx.metrics.active("iamroleclass");
    let span = tracing::info_span!(
        "reconcile",
        kind = "IamRoleClass",
        object = class.name_any(),
        generation = class.metadata.generation,
    );
    let work = Box::pin(work(&class, &ctx)).instrument(span);
    // Never without a place: whoever may not wait for one is given none.
    let (action, result) = match ctx.class_lanes.enter(lane(&class), Urgency::Change).await {
        Some(place) => place.hold(work).await,
        None => work.await,
    };
    ctx.metrics.reconciled("iamroleclass", result, started.elapsed());
    Ok(action)
}

/// One lane an account, so that one that does not answer holds no other's classes back.
fn lane(class: &IamRoleClass) -> &str {
    let role = class.spec.account.as_ref().and_then(|account| account.assume_role.as_ref());
    role.and_then(|role| role.role_arn.split(':').nth(4)).unwrap_or_default()
}

async fn work(class: &IamRoleClass, ctx: &Context) -> (Action, &'static str) {
    if !ctx.serves(class) {
        // It may have been ours before.
        ctx.forget_class(&class.name_any());
        return (Action::await_change(), "success");
    }
    if class.metadata.deletion_timestamp.is_some()
        && let Some(action) = let_go(class, ctx).await
    {
        return (action, "success");
    }
    let (found, reached) = check(class, ctx).await;
    let generation = class.metadata.generation.unwrap_or_default();
    let (name, uid) = (class.name_any(), class.uid().unwrap_or_default());
    let known = ctx.class_state(&name, &uid).filter(|state| state.generation == generation);
    let state = match (&found, known.filter(|state| state.reached.is_some())) {
        // An account that gives no answer for a while is the same one after it.
        (Err(failure), Some(known)) if failure.retry == Retry::Passing => known,
        _ => {
            let keeps_boundary = reached.as_ref().is_some_and(|account| keeps_boundary(class, ctx, account, &found));
            ClassState { uid, generation, account: found.clone(), reached, keeps_boundary }
        }
    };
    let news = ctx.set_class_state(&name, state);
    let result = report(class, ctx, found).await;
    let result = match result {
        // The cache may still show a role that has just been let go.
        (_, outcome) if class.metadata.deletion_timestamp.is_some() => (Action::requeue(DELETION), outcome),
        other => other,
    };
    if news {
        // Roles without a class may have found theirs, others may be on their way to this one.
        ctx.wake_class_roles(&name);
    }
    result
}

/// Whether the boundary that the class forces, if any, can be set: it is there, and nothing is wrong with its ARN.
fn keeps_boundary(
    class: &IamRoleClass,
    ctx: &Context,
    account: &Account,
    found: &Result<Arc<Account>, Failure>,
) -> bool {
    match found.as_ref().map_err(|why| why.reason) {
        Err(Reason::PolicyNotFound) => false,
        Err(Reason::InvalidSpec) => {
            let mistakes = class_mistakes(&class.spec, &ctx.cluster, &account.account, ctx.issuer.get());
            !mistakes.iter().any(|mistake| mistake.message.starts_with("spec.permissionsBoundary"))
        }
        _ => true,
    }
}

/// Who we are in AWS, whether that is the account the class means, and whether roles of the class can be served there.
/// The account also where only the last is not so.
async fn check(class: &IamRoleClass, ctx: &Context) -> (Result<Arc<Account>, Failure>, Option<Arc<Account>>) {
    let asked = is_asked(class, ctx);
    if let Some(account) = fresh(class, ctx).filter(|_| !asked) {
        return (Ok(account.clone()), Some(account));
    }
    // What others found a moment ago counts for all classes that lead there by one identity.
    let age = if asked { Duration::ZERO } else { FRESH };
    let (found, reached) = match identify(class, ctx, age).await {
        Ok(account) => (served(class, ctx, &account, age).await.map(|()| account.clone()), Some(account)),
        Err(failure) => (Err(failure), None),
    };
    // What was found before a failure is not fresh any more.
    let next = found.is_ok().then(|| Instant::now() + FRESH);
    ctx.class_memory.with(&class.uid().unwrap_or_default(), |entry| entry.next_check = next);
    (found, reached)
}

/// Whether somebody asks for a look at AWS. What was asked of the process before is no news after the first look of this one,
/// which is made in any case.
fn is_asked(class: &IamRoleClass, ctx: &Context) -> bool {
    let Some(token) = class.annotations().get(ANNOTATION_RECONCILE) else { return false };
    let uid = class.uid().unwrap_or_default();
    let is_new = ctx.class_memory.with(&uid, |entry| entry.is_new_request(token, Instant::now()));
    is_new && ctx.class_state(&class.name_any(), &uid).is_some()
}

/// The account, where it was found in order a moment ago: what woke the class since then is no news of AWS, and a restart
/// of many roles shall not cost more than it must.
fn fresh(class: &IamRoleClass, ctx: &Context) -> Option<Arc<Account>> {
    let (uid, now) = (class.uid().unwrap_or_default(), Instant::now());
    let is_fresh = ctx.class_memory.with(&uid, |entry| entry.next_check.is_some_and(|next| now < next));
    let state = ctx.class_state(&class.name_any(), &uid).filter(|_| is_fresh)?;
    state.account.ok().filter(|_| Some(state.generation) == class.metadata.generation)
}

/// Wakes a class whose identity had no credentials for a call: what was in order a moment ago is not any more.
pub fn doubt(ctx: &Context, class: &IamRoleClass) {
    ctx.class_memory.with(class.metadata.uid.as_deref().unwrap_or_default(), |entry| entry.next_check = None);
    // The receiver lives as long as the controller.
    let _ = ctx.wake_class.unbounded_send(ObjectRef::from_obj(class));
}

/// Where the quotas are not known, no spec can be judged by them.
async fn served(class: &IamRoleClass, ctx: &Context, account: &Account, age: Duration) -> Result<(), Failure> {
    let Some(error) = account.unanswered.clone() else { return usable(class, ctx, account, age).await };
    let generation = class.metadata.generation;
    if was_ready(class) {
        // All was well before a restart, also when the account answers again.
        let uid = class.uid().unwrap_or_default();
        ctx.class_memory.with(&uid, |entry| entry.preflight = entry.preflight.or(generation));
    }
    Err(error.into())
}

/// Whether status says that this generation of the class is in order.
fn was_ready(class: &IamRoleClass) -> bool {
    let conditions = class.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    is_ready(conditions, class.metadata.generation.unwrap_or_default())
}

/// A class with a mistake allows nothing: what it forces could not be kept.
async fn usable(class: &IamRoleClass, ctx: &Context, account: &Account, age: Duration) -> Result<(), Failure> {
    let mistakes = class_mistakes(&class.spec, &ctx.cluster, &account.account, ctx.issuer.get());
    if !mistakes.is_empty() {
        return Err(Failure::problems(&mistakes));
    }
    if class.spec.suspend == Some(true) { Ok(()) } else { preflight(class, ctx, account, age).await }
}

/// The rights once per generation, and again while one is missing; the boundary at each check (of any class that forces the
/// same), since without it no role can be made.
async fn preflight(class: &IamRoleClass, ctx: &Context, account: &Account, age: Duration) -> Result<(), Failure> {
    let generation = class.metadata.generation;
    let uid = class.uid().unwrap_or_default();
    let (first, start) =
        ctx.class_memory.with(&uid, |entry| (entry.preflight != generation, entry.preflight.is_none()));
    if start && was_ready(class) {
        // Before a restart all was well: a thousand roles that need nothing shall not cost a call each time.
        ctx.class_memory.with(&uid, |entry| entry.preflight = generation);
        return Ok(());
    }
    if first {
        let allowed = class.spec.allowed.clone().unwrap_or_default();
        let is_used = |leave: Option<bool>| leave == Some(true);
        let (policies, profiles) = (is_used(allowed.customer_managed_policies), is_used(allowed.instance_profiles));
        account.preflight(policies, profiles).await?;
    }
    let mut tokens = Tokens::default();
    tokens.set("account", &account.account.id);
    tokens.set("partition", &account.account.partition);
    tokens.set("cluster", &ctx.cluster.name);
    // One with the name of the object or its namespace is another policy for each.
    let boundary = class.spec.permissions_boundary.as_ref().and_then(|arn| tokens.expand(arn).ok());
    let Some(arn) = boundary.filter(|arn| arn.starts_with("arn:")) else {
        ctx.class_memory.with(&uid, |entry| entry.preflight = generation);
        return Ok(());
    };
    match account.has_policy(&arn, age).await {
        Ok(false) => Err(Failure::soon(
            Reason::PolicyNotFound,
            format!("spec.permissionsBoundary: there is no policy {arn}; create it, or correct the ARN"),
        )),
        // Once it was there, an answer that does not come is no reason to stop.
        Err(error) if first || !matches!(error.kind, Kind::Transient | Kind::Busy) => Err(error.into()),
        _ => {
            ctx.class_memory.with(&uid, |entry| entry.preflight = generation);
            Ok(())
        }
    }
}

/// Who we are in CloudTrail of the other account: cluster and class, and no namespace.
fn session(class: &IamRoleClass, ctx: &Context) -> Option<Session> {
    let role = class.spec.account.as_ref()?.assume_role.clone()?;
    let full = format!("iamrole-{}-{}", ctx.cluster.name, class.name_any());
    let name = names::bounded(&full, SESSION_NAME, &[&ctx.cluster.uid, &class.name_any()]);
    Some(Session { role, name })
}

fn of_session(error: AwsError, session: Option<&Session>) -> Failure {
    let passes = matches!(error.kind, Kind::Transient | Kind::Busy);
    let failure = Failure::from(error);
    match session.filter(|_| !passes) {
        Some(session) => Failure {
            message: format!(
                "spec.account.assumeRole: {}. Let {} trust the operator's own identity, with the external id if it asks \
                 for one, and let that identity assume it",
                failure.message.trim_end_matches('.'),
                session.role.role_arn
            ),
            ..failure
        },
        None => failure,
    }
}

async fn identify(class: &IamRoleClass, ctx: &Context, age: Duration) -> Result<Arc<Account>, Failure> {
    let session = session(class, ctx);
    let wanted = class.spec.account.as_ref().and_then(|account| account.id.as_ref());
    let pinned = class.status.as_ref().and_then(|status| status.account_id.as_ref());
    let account = ctx.aws.identify_within(session.as_ref(), wanted.or(pinned), age).await;
    let account = account.map_err(|error| of_session(error, session.as_ref()))?;
    let id = &account.account.id;
    match (wanted, pinned) {
        (Some(wanted), _) if wanted != id => Err(Failure::on_change(
            Reason::AccountMismatch,
            format!(
                "the operator's AWS identity {} is of account {id}, spec.account.id says {wanted}; give the operator another \
                 identity, or make a class for {id}",
                account.identity
            ),
        )),
        (None, Some(pinned)) if pinned != id => Err(Failure::on_change(
            Reason::AccountMismatch,
            format!(
                "the operator's AWS identity {} is of account {id}, but roles of this class live in {pinned}; restore the \
                 identity, or make a new class for {id}",
                account.identity
            ),
        )),
        _ => Ok(account),
    }
}

/// Writes into status what walks over the account found. Of the classes that have it walked, the first one tells of the
/// roles that belong to nobody. What it told stays until somebody has looked (again); a class that wants its roles read one
/// by one has nothing to tell.
pub fn tell_of_walks(class: &IamRoleClass, ctx: &Context, account: &str, status: &mut IamRoleClassStatus) {
    let Some(method) = ctx.sweeps.method_of(&class.spec, account) else { return };
    status.drift_check_method = Some(method);
    let found = if sweeps::method(&class.spec) == DriftMethod::Role {
        BTreeSet::new()
    } else {
        let Some((found, first)) = ctx.sweeps.orphans(account).zip(ctx.first_class(account)) else { return };
        if first == class.name_any() { found } else { BTreeSet::new() }
    };
    status.orphaned_role_count = i32::try_from(found.len()).ok().filter(|count| *count > 0);
    status.orphaned_roles = found.into_iter().take(ORPHANS as usize).collect();
}

/// Wakes those of an account's classes whose status does not tell yet what walks have found.
pub fn tell(ctx: &Context, account: &str, classes: &[Arc<IamRoleClass>]) {
    if let Some(orphans) = ctx.sweeps.orphans(account) {
        ctx.metrics.orphaned(account, orphans.len());
    }
    for class in classes.iter().filter_map(|class| ctx.classes.get(&ObjectRef::from_obj(class.as_ref()))) {
        let mut status = class.status.clone().unwrap_or_default();
        tell_of_walks(&class, ctx, account, &mut status);
        if class.status.as_ref() != Some(&status) {
            // The receiver lives as long as the controller.
            let _ = ctx.wake_class.unbounded_send(ObjectRef::from_obj(class.as_ref()));
        }
    }
}

async fn report(class: &IamRoleClass, ctx: &Context, found: Result<Arc<Account>, Failure>) -> (Action, &'static str) {
    let generation = class.metadata.generation.unwrap_or_default();
    let uid = class.uid().unwrap_or_default();
    let old = class.status.clone().unwrap_or_default();
    let mut status = IamRoleClassStatus { observed_generation: Some(generation), ..old.clone() };
    let (again, failure) = match found {
        Ok(account) => {
            status.account_id = Some(account.account.id.clone());
            status.partition = Some(account.account.partition.clone());
            tell_of_walks(class, ctx, &account.account.id, &mut status);
            let message = format!("account {} as {}", account.account.id, account.identity);
            status.conditions = conditions(&old.conditions, &Verdict::applied(message), generation, &now());
            (jitter(RECHECK), None)
        }
        Err(failure) => {
            let before = is_stalled(&old.conditions, generation, failure.reason);
            let sentence =
                ctx.class_memory.with(&uid, |entry| entry.fail(&failure, generation, before, Instant::now()));
            status.conditions = after_failure(&old.conditions, &failure, sentence, generation, &now());
            (sentence.delay, Some(failure))
        }
    };
    let news = is_news(&old.conditions, &status.conditions);
    if status != old
        && let Err(error) = write_status(class, ctx, status).await
    {
        tracing::info!(%error, "writing status");
        return (later(class, ctx, error), "error");
    }
    if failure.is_none() {
        ctx.class_memory.with(&uid, super::memory::Entry::succeed);
    }
    if let Some(failure) = &failure
        && news
    {
        tracing::warn!(reason = failure.reason.as_str(), message = failure.message, "class is not ready");
        let reference = class.object_ref(&());
        ctx.events.publish(&reference, Tone::Warning, failure.reason, "Check", &failure.message).await;
    }
    (Action::requeue(again), if failure.is_some() { "error" } else { "requeue_after" })
}

/// Kubernetes did not take a write: again, ever more slowly if it lasts.
fn later(class: &IamRoleClass, ctx: &Context, error: kube::Error) -> Action {
    let (uid, generation) = (class.uid().unwrap_or_default(), class.metadata.generation.unwrap_or_default());
    let failure = Failure::from(error);
    let again = ctx.class_memory.with(&uid, |entry| entry.fail(&failure, generation, false, Instant::now()));
    Action::requeue(again.delay)
}

async fn write_status(class: &IamRoleClass, ctx: &Context, status: IamRoleClassStatus) -> Result<(), kube::Error> {
    let object = IamRoleClass { status: Some(status), ..class.clone() };
    api(ctx).replace_status(&class.name_any(), &PostParams::default(), &object).await.map(drop)
}

/// A class that is being deleted stays as long as a role needs it to be reached. `None`: still in use.
async fn let_go(class: &IamRoleClass, ctx: &Context) -> Option<Action> {
    let name = class.name_any();
    // Asked again for each role that goes: whoever made a list of the others each time would do N² in all.
    let is_used = || ctx.scopes.iter().any(|scope| scope.index.any_of_class(&name, |place| holds(ctx, place, &name)));
    if !ctx.knows_roles() || is_used() {
        return None;
    }
    if !finalizer::is_on(class) {
        ctx.forget_class(&name);
        return Some(Action::await_change());
    }
    match finalizer::apply(&api(ctx), &name, finalizer::without(class)).await {
        Ok(_) => {
            ctx.forget_class(&name);
            Some(Action::await_change())
        }
        Err(error) => {
            tracing::info!(%error, class = name, "taking the finalizer off");
            Some(later(class, ctx, error))
        }
    }
}

fn holds(ctx: &Context, (namespace, name): &(String, String), class: &str) -> bool {
    ctx.cached_role(namespace, name).is_some_and(|role| uses_class(&role, class) && finalizer::is_on(role.as_ref()))
}

/// Puts our finalizer on a class that is used for the first time.
pub async fn add_finalizer(ctx: &Context, class: &IamRoleClass) -> Result<(), kube::Error> {
    let current = ctx.classes.get(&ObjectRef::from_obj(class));
    let class = current.as_deref().unwrap_or(class);
    match hold(ctx, class).await {
        // Several roles may use the class for the first time at once; the test of the patch then fails.
        Err(kube::Error::Api(_)) => hold(ctx, &api(ctx).get(&class.name_any()).await?).await,
        other => other,
    }
}

async fn hold(ctx: &Context, class: &IamRoleClass) -> Result<(), kube::Error> {
    if finalizer::is_on(class) {
        return Ok(());
    }
    finalizer::apply(&api(ctx), &class.name_any(), finalizer::with(class)).await.map(drop)
}

fn api(ctx: &Context) -> Api<IamRoleClass> {
    Api::all(ctx.client.clone())
}
