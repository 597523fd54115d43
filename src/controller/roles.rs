//! The reconciliation of an `IamRole`, step by step.

use super::apply::{self, Case};
use super::begun::look_in_account;
use super::claims::Claimant;
use super::context::{Context, RawRole};
use super::events::{Tone, tell_once};
use super::failure::{Failure, Retry};
use super::memory::{Entry, jitter};
use super::queue;
use super::refused::bounded;
use super::removal;
use super::resolve::class_for;
use super::status::{Tri, Verdict, after_failure, conditions, is_news, is_ready, is_stalled};
use super::subject::{Subject, version};
use super::unread::unread;
use super::workload;
use crate::api::iamrole::{ClassRef, WhenUnlisted};
use crate::api::{IamRoleClass, IamRoleStatus, Reason};
use crate::aws::Account;
use crate::role::settings::settings;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Instrument as _;

const DEFAULT_INTERVAL: i32 = 900;
/// How long a class may take to be looked at.
const CLASS_CHECK: Duration = Duration::from_secs(2);
/// When to try again to find a place for what can as well come later.
const NO_PLACE: Duration = Duration::from_secs(2);
/// When to look again for a namespace that the cache does not have.
const UNKNOWN_NAMESPACE: Duration = Duration::from_secs(1);
/// A reconciliation that hangs must not hold its slot for ever.
const TIME_LIMIT: Duration = Duration::from_mins(5);

/// How a reconciliation ended: what status is to say, and when to look again.
pub struct Outcome {
    /// Everything of status but the conditions.
    pub status: IamRoleStatus,
    /// The conditions; `None` leaves them.
    pub verdict: Option<Verdict>,
    /// When to look again; `None` waits for a change.
    pub again: Option<Duration>,
    /// AWS is as wanted, and for so long only a change makes a look at it necessary.
    pub rests: Option<Duration>,
    /// A requested check was carried out.
    pub handled: bool,
}

/// The result of a step that may end the reconciliation.
pub type Stepped<T> = Result<T, Box<Setback>>;

/// A failed reconciliation, with what status should say beyond the conditions.
pub struct Setback {
    /// Why.
    pub failure: Failure,
    /// Everything of status but the conditions.
    pub status: IamRoleStatus,
    /// Whether something is known to be left to do in AWS.
    pub pending: bool,
    /// A requested check found out what there is to find.
    pub handled: bool,
}

impl Setback {
    /// A failure before it was known whether there is anything to do.
    #[must_use]
    pub fn early(failure: Failure, status: IamRoleStatus) -> Box<Self> {
        Box::new(Self { failure, status, pending: false, handled: true })
    }

    /// A failure with something left to do.
    #[must_use]
    pub fn pending(failure: Failure, status: IamRoleStatus) -> Box<Self> {
        Box::new(Self { failure, status, pending: true, handled: true })
    }

    /// A role that is as wanted, as last seen, stays so while AWS or its class can't be asked, or a fact is not known yet.
    fn is_quiet(&self, generation: i64) -> bool {
        let waits = matches!(self.failure.reason, Reason::ClassNotReady | Reason::IssuerUnknown);
        let passes = self.failure.retry == Retry::Passing || waits;
        passes && !self.pending && is_ready(&self.status.conditions, generation)
    }
}

/// Entry point for the controller; never fails, failures are in status.
pub async fn reconcile(object: Arc<RawRole>, ctx: Arc<Context>) -> Result<Action, Infallible> {
    let waiting = ctx.metrics.waiting("iamrole");
    let Some(place) = queue::enter(&object, &ctx).await else {
        return Ok(Action::requeue(jitter(NO_PLACE)));
    };
    drop(waiting);
    let started = Instant::now();
    // It may have changed while it waited.
    let cached = ctx.cached_role(&object.namespace().unwrap_or_default(), &object.name_any());
    let object = cached.filter(|cached| cached.metadata.uid == object.metadata.uid).unwrap_or(object);
    let _active = ctx.metrics.active("iamrole");
    let span = tracing::info_span!(
        "reconcile",
        kind = "IamRole",
        namespace = object.namespace(),
        object = object.name_any(),
        generation = object.metadata.generation,
        resource_version = object.metadata.resource_version,
    );
    let work = Box::pin(work(&object, &ctx)).instrument(span.clone());
    let (action, result) = if let Ok(done) = tokio::time::timeout(TIME_LIMIT, place.hold(work)).await {
        done
    } else {
        ctx.metrics.timed_out("iamrole");
        span.in_scope(|| tracing::warn!("gave up after {TIME_LIMIT:?}; trying again"));
        (Action::requeue(jitter(Duration::from_mins(1))), "error")
    };
    ctx.metrics.reconciled("iamrole", result, started.elapsed());
    Ok(action)
}

async fn work(object: &Arc<RawRole>, ctx: &Arc<Context>) -> (Action, &'static str) {
    let mut subject = match newest(object, ctx).await {
        Ok(Some(object)) => Subject::new(object).with_untold(ctx),
        Ok(None) => return (Action::await_change(), "success"),
        Err(failure) => {
            tracing::info!(%failure, "reading the object");
            let generation = object.metadata.generation.unwrap_or_default();
            let uid = object.uid().unwrap_or_default();
            let again = ctx.memory.with(&uid, |entry| entry.fail(&failure, generation, false, Instant::now()));
            return (Action::requeue(again.delay), "error");
        }
    };
    if let Some(left) = out_of_turn(&subject, ctx) {
        return (Action::requeue(left), "requeue_after");
    }
    let result = if subject.is_deleted() {
        removal::remove(&mut subject, ctx).await
    } else {
        Box::pin(advance(&mut subject, ctx)).await
    };
    match result {
        Ok(outcome) => conclude(&mut subject, ctx, outcome).await,
        Err(setback) => fail(&mut subject, ctx, *setback).await,
    }
}

/// How long a requested check waits for its turn. A spec that is new does not.
fn out_of_turn(subject: &Subject, ctx: &Context) -> Option<Duration> {
    let token = subject.requested()?;
    let left = ctx.memory.with(&subject.uid, |entry| entry.request(token, Instant::now()));
    left.filter(|_| subject.status.observed_generation == Some(subject.generation))
}

/// The object, read anew where the cache is older than our own last write.
async fn newest(object: &Arc<RawRole>, ctx: &Context) -> Result<Option<RawRole>, Failure> {
    let uid = object.uid().unwrap_or_default();
    let written = ctx.memory.with(&uid, |entry| entry.written_version);
    if version(object) >= written {
        return Ok(Some(object.as_ref().clone()));
    }
    let api = ctx.roles_api(&object.namespace().unwrap_or_default());
    let found = api.get_opt(&object.name_any()).await?;
    Ok(found.filter(|found| found.uid().as_deref() == Some(uid.as_str())))
}

/// Everything a live object goes through before AWS is touched.
async fn advance(subject: &mut Subject, ctx: &Arc<Context>) -> Stepped<Outcome> {
    let keep = |failure: Failure, subject: &Subject| Setback::early(failure, subject.status.clone());
    let spec = match subject.spec.clone() {
        Ok(spec) => spec,
        Err(failure) => return Err(unread(subject, ctx, failure).await),
    };
    let origin = subject.status.role.as_ref().and_then(|role| role.origin);
    let class = match resolve(subject, ctx, spec.role_class_name.as_deref()) {
        Ok(Some(class)) => class,
        Ok(None) => return Ok(ignored(subject)),
        Err(failure) => {
            let alone = settings(&spec, None, origin, subject.suspend_annotation());
            if alone.when_unlisted == WhenUnlisted::Remove {
                subject.forget_unlisted();
            }
            let suspended = alone.suspended_by.map(|by| suspended(subject.status.clone(), by));
            return suspended.ok_or_else(|| keep(failure, subject));
        }
    };
    let settings = settings(&spec, Some(&class.spec), origin, subject.suspend_annotation());
    if settings.when_unlisted == WhenUnlisted::Remove {
        subject.forget_unlisted();
    }
    let mut status = subject.status.clone();
    status.effective = Some(settings.effective());
    if let Some(by) = settings.suspended_by {
        if let Some(account) = reached(ctx, &class) {
            subject.moved = workload::has_moved(subject, ctx, &account);
        }
        apply::rest(ctx, subject, &class);
        return Ok(suspended(status, by));
    }
    let account = match account(ctx, &class, subject) {
        Ok(Some(account)) => account,
        // Its controller wakes us; should that be missed, the object must not wait for ever.
        Ok(None) => return Ok(look_again(subject, Some(CLASS_CHECK))),
        Err(setback) => match reached(ctx, &class) {
            Some(account) if same_account(subject, &account).is_ok() => {
                let case = Case { spec: &spec, class: &class, settings: &settings, account: &account };
                return Err(bounded(subject, ctx, case, true, setback).await);
            }
            _ => return Err(setback),
        },
    };
    look_in_account(subject, ctx, &account).await.map_err(|failure| keep(failure, subject))?;
    status = IamRoleStatus { effective: status.effective, ..subject.status.clone() };
    status.account_id = Some(account.account.id.clone());
    subject.moved = workload::has_moved(subject, ctx, &account);
    let case = Case { spec: &spec, class: &class, settings: &settings, account: &account };
    match apply::apply(subject, ctx, case, status).await {
        Ok(outcome) => Ok(workload::bind(subject, ctx, case, outcome).await),
        Err(mut setback) => {
            if matches!(setback.failure.retry, Retry::Waning(_)) {
                // Drift is looked for meanwhile.
                setback.failure.retry = setback.failure.retry.within(interval(&class));
            }
            let untouched = !setback.pending;
            // Another generation of the class may ask for more.
            setback.pending |= setback.failure.reason == Reason::IssuerUnknown && !subject.saw(&class);
            Err(bounded(subject, ctx, case, untouched, setback).await)
        }
    }
}

/// The class of the object; `None` if another installation serves it.
pub fn resolve(subject: &Subject, ctx: &Context, named: Option<&str>) -> Result<Option<Arc<IamRoleClass>>, Failure> {
    let Some(labels) = namespace_labels(subject, ctx) else {
        // It came with the object, and without its labels a class could be taken that does not select it.
        let message = format!("namespace {} is not known yet; its labels choose the class", subject.namespace);
        return Err(Failure::wait(UNKNOWN_NAMESPACE, message));
    };
    let remembered = subject.status.class.as_ref().map(|class| class.name.as_str());
    class_for(&ctx.classes, &ctx.controller, named, remembered, &subject.namespace, &labels)
}

/// The class that serves the object, if it is ours and in use.
pub fn class_named(subject: &Subject, ctx: &Context) -> Option<Arc<IamRoleClass>> {
    let named = subject.spec.as_ref().ok()?.role_class_name.clone();
    resolve(subject, ctx, named.as_deref()).ok().flatten()
}

/// The labels of the object's namespace; `None` where the cache does not have it.
pub fn namespace_labels(subject: &Subject, ctx: &Context) -> Option<BTreeMap<String, String>> {
    let namespace = ctx.namespaces.get(&ObjectRef::new(&subject.namespace));
    namespace.map(|namespace| namespace.labels().clone())
}

/// The class's account; `None` while its controller has not looked at this generation yet (it wakes us).
pub fn account(ctx: &Context, class: &IamRoleClass, subject: &Subject) -> Stepped<Option<Arc<Account>>> {
    let name = class.name_any();
    match ctx.class_state(&name, &class.uid().unwrap_or_default()) {
        Some(state) if state.generation >= class.metadata.generation.unwrap_or_default() => match state.account {
            Ok(account) => Ok(Some(account)),
            Err(why) => Err(Box::new(Setback {
                // A mistake does not pass, and another generation may ask for more: no role is known to be as wanted.
                pending: why.reason == Reason::InvalidSpec || !subject.saw(class),
                failure: Failure {
                    reason: Reason::ClassNotReady,
                    message: format!("IamRoleClass {name} is not ready: {}", why.message),
                    retry: why.retry,
                },
                status: subject.status.clone(),
                handled: true,
            })),
        },
        _ => Ok(None),
    }
}

/// The account that the class leads to, if its present generation was looked at and what it forces can be kept there:
/// also where its roles can't be served.
pub fn reached(ctx: &Context, class: &IamRoleClass) -> Option<Arc<Account>> {
    let state = ctx.class_state(&class.name_any(), &class.uid().unwrap_or_default())?;
    let is_current = state.generation >= class.metadata.generation.unwrap_or_default();
    state.reached.filter(|_| is_current && state.keeps_boundary)
}

/// A role that exists stays in its account.
pub fn same_account(subject: &Subject, account: &Account) -> Result<(), Failure> {
    let exists = subject.status.role.as_ref().is_some_and(|role| role.id.is_some());
    match &subject.status.account_id {
        Some(id) if exists && *id != account.account.id => Err(Failure::on_change(
            Reason::ClassAccountMismatch,
            format!(
                "the role lives in account {id}, its class leads to {}; name the class under which it was made, or lead this one \
                 back there; or set deletionPolicy: Retain, delete this object and create it anew",
                account.account.id
            ),
        )),
        _ => Ok(()),
    }
}

/// The status entry of the class.
#[must_use]
pub fn class_ref(class: &IamRoleClass) -> ClassRef {
    ClassRef {
        name: class.name_any(),
        uid: class.uid().unwrap_or_default(),
        observed_generation: class.metadata.generation.unwrap_or_default(),
    }
}

/// How often the class wants drift to be looked for.
#[must_use]
pub fn period(class: &IamRoleClass) -> Duration {
    let seconds = class.spec.drift_check.as_ref().and_then(|check| check.interval_seconds).unwrap_or(DEFAULT_INTERVAL);
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default().max(1))
}

/// When to look for drift again.
#[must_use]
pub fn interval(class: &IamRoleClass) -> Duration {
    jitter(period(class))
}

fn suspended(status: IamRoleStatus, by: &str) -> Outcome {
    let message = format!("suspended by {by}: no call to AWS is made; take that away to resume");
    let verdict = Verdict::rest(Tri::Unknown, Reason::Suspended, message);
    Outcome { status, verdict: Some(verdict), again: None, rests: None, handled: false }
}

/// Leaves the object as it is and waits for a change.
fn ignored(subject: &Subject) -> Outcome {
    look_again(subject, None)
}

/// Leaves the object as it is until then; `None` waits for a change.
#[must_use]
pub fn look_again(subject: &Subject, again: Option<Duration>) -> Outcome {
    Outcome { status: subject.status.clone(), verdict: None, again, rests: None, handled: false }
}

async fn conclude(subject: &mut Subject, ctx: &Context, outcome: Outcome) -> (Action, &'static str) {
    let mut status = outcome.status;
    if let Some(verdict) = &outcome.verdict {
        status.conditions = conditions(&status.conditions, verdict, subject.generation, &now());
        status.observed_generation = Some(subject.generation);
    }
    if outcome.handled
        && let Some(token) = subject.requested()
    {
        status.last_handled_reconcile_at = Some(token);
    }
    // An object that has just been let go is gone; one that waits to be says so.
    let released = subject.is_deleted() && outcome.verdict.is_none();
    // Who waits for its class, say, has nothing to tell.
    let is_new = outcome.verdict.is_some() || subject.has_untold() || status != subject.status;
    if !released && is_new {
        if let Err(failure) = subject.write_status(ctx, status).await {
            return Box::pin(fail(subject, ctx, *Setback::early(failure, subject.status.clone()))).await;
        }
        ctx.memory.with(&subject.uid, Entry::is_told);
    }
    if outcome.verdict.is_some() {
        // Not before it is written down: what can't be would be done again every second.
        ctx.memory.with(&subject.uid, |entry| {
            entry.succeed();
            if let Some(rest) = outcome.rests {
                entry.next_check = Some(Instant::now() + rest);
                entry.suspect = false;
            }
        });
    }
    match outcome.again {
        Some(delay) => (Action::requeue(delay), "requeue_after"),
        None => (Action::await_change(), "success"),
    }
}

async fn fail(subject: &mut Subject, ctx: &Context, setback: Setback) -> (Action, &'static str) {
    let quiet = setback.is_quiet(subject.generation);
    let Setback { failure, mut status, handled, .. } = setback;
    if failure.reason == Reason::KubernetesError {
        if failure.retry == Retry::Passing {
            return again(subject, ctx, &failure);
        }
        // What could not be written may be the status itself: the last one that was taken stays, with the reason.
        status = subject.status.clone();
    }
    let before = is_stalled(&status.conditions, subject.generation, failure.reason);
    let sentence =
        ctx.memory.with(&subject.uid, |entry| entry.fail(&failure, subject.generation, before, Instant::now()));
    if quiet {
        tracing::info!(%failure, "can't be checked now");
        // The boundary may have been put right all the same.
        if (subject.has_untold() || status.last_changes != subject.status.last_changes)
            && let Err(error) = subject.write_status(ctx, status).await
        {
            return again(subject, ctx, &error);
        }
        return (Action::requeue(sentence.delay), "error");
    }
    let waits = matches!(failure.retry, Retry::Wait(_));
    let old = status.conditions.clone();
    status.conditions = after_failure(&old, &failure, sentence, subject.generation, &now());
    status.observed_generation = Some(subject.generation);
    if !waits
        && handled
        && let Some(token) = subject.requested()
    {
        status.last_handled_reconcile_at = Some(token);
    }
    let news = is_news(&old, &status.conditions);
    let written = subject.write_status(ctx, status).await;
    if let Err(error) = &written
        && error.retry == Retry::Passing
    {
        return again(subject, ctx, error);
    }
    if !waits {
        ctx.metrics.failed(failure.reason);
        if sentence.stalled {
            ctx.metrics.stalled("iamrole");
        }
        // That something is under way is no warning.
        if news && failure.reason != Reason::Reconciling {
            tracing::warn!(
                reason = failure.reason.as_str(),
                message = failure.message,
                stalled = sentence.stalled,
                "failed"
            );
            tell_once(subject, ctx, Tone::Warning, failure.reason, "Reconcile", &failure.message).await;
        }
    }
    if let Err(error) = written {
        return again(subject, ctx, &error);
    }
    ctx.memory.with(&subject.uid, Entry::is_told);
    (Action::requeue(sentence.delay), if waits { "requeue_after" } else { "error" })
}

/// Kubernetes did not take a write, most often since the object changed under our hands: it can't be told in
/// status, and is tried again, ever more slowly if it lasts.
fn again(subject: &Subject, ctx: &Context, failure: &Failure) -> (Action, &'static str) {
    if failure.retry == Retry::Passing {
        tracing::info!(%failure, "writing to Kubernetes");
    } else {
        tracing::warn!(%failure, "Kubernetes refuses a write");
    }
    let sentence =
        ctx.memory.with(&subject.uid, |entry| entry.fail(failure, subject.generation, false, Instant::now()));
    (Action::requeue(sentence.delay), "error")
}

/// Now, in whole seconds as the API server keeps it; finer times would make each status look new.
#[must_use]
pub fn now() -> Time {
    let seconds = Timestamp::now().as_second();
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// An object has no part in its role name any more: the one that waited for it is woken.
pub fn release_name(ctx: &Context, uid: &str) {
    if let Some(claimant) = ctx.claims.release(uid) {
        wake(ctx, &claimant);
    }
}

fn wake(ctx: &Context, claimant: &Claimant) {
    let role = ctx.cached_role(&claimant.namespace, &claimant.name);
    if let Some(role) = role.filter(|role| role.uid().as_deref() == Some(claimant.uid.as_str())) {
        ctx.wake_role(&role);
    }
}

/// An object is no more, or is about to be: what is remembered of it goes, and those who waited for its role
/// name or its class are woken.
pub fn gone(role: &RawRole, ctx: &Context) {
    let uid = role.uid().unwrap_or_default();
    release_name(ctx, &uid);
    // One that was deleted, suspended or refused when this process began has a role and claimed no name.
    if let (Some(account), Some(name)) = (&role.said.account, &role.said.role_name)
        && let Some(claimant) = ctx.claims.first(account, name)
    {
        wake(ctx, &claimant);
    }
    ctx.memory.forget(&uid);
    workload::gone(role, ctx);
    let class = role.said.class.as_deref();
    let class = class.and_then(|class| ctx.classes.get(&ObjectRef::new(class)));
    if let Some(class) = class.filter(|class| class.metadata.deletion_timestamp.is_some()) {
        // It may be waiting to be deleted until its last role is gone.
        let _ = ctx.wake_class.unbounded_send(ObjectRef::from_obj(class.as_ref()));
    }
}

/// Whether the object's status names the class.
#[must_use]
pub fn uses_class(role: &RawRole, class: &str) -> bool {
    role.said.class.as_deref() == Some(class)
}
