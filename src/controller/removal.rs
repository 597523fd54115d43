//! An `IamRole` is being deleted. The first of these that applies:
//!
//! 1. `Retain`, or mode `Observe`: no call to AWS, an event, release.
//! 2. Suspended: wait, and say so.
//! 3. No usable class: `DeleteBlocked`, naming the way out.
//! 4. No role, or one that is not ours: an event, release.
//! 5. Ours: the deletion plan; what blocks it is named.

use super::apply::{facts, of_aws};
use super::begun::was_never_made;
use super::carry::{LAG, report, stopping};
use super::conflict::{View, conflict};
use super::context::Context;
use super::events::Tone;
use super::failure::{Failure, Retry};
use super::memory::Entry;
use super::refused::{Named, hold_boundary, may_be_bounded, missed};
use super::resolve::default_class;
use super::roles::{Outcome, Setback, Stepped, class_ref, gone, interval, namespace_labels, period};
use super::status::{Tri, Verdict, show_left, tells};
use super::subject::Subject;
use super::unread::salvaged_mode;
use super::workload;
use crate::api::iamrole::{Cause, DeletionPolicy, Mode, Origin, WhenUnlisted};
use crate::api::{IamRoleClass, IamRoleSpec, IamRoleStatus, Reason};
use crate::aws::{Account, AwsError, Kind, RoleState};
use crate::role::deletion::{self, Terms};
use crate::role::desired::{Exceptions, Listed, listed, role_name, tokens};
use crate::role::recent::MISSES_APART;
use crate::role::settings::{Settings, settings};
use crate::role::{Action, Asked, Observed, ObservedProfile, Owner, Ownership, Plan, Record};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const WAY_OUT: &str = "To let the object go and leave the role in AWS, set spec.deletionPolicy: Retain (it works while it is being deleted)";

/// Removes the role, or lets the object go without it.
pub async fn remove(subject: &mut Subject, ctx: &Arc<Context>) -> Stepped<Outcome> {
    if !subject.has_finalizer() {
        gone(subject.object(), ctx);
        return Ok(outcome(subject.status.clone(), None));
    }
    let class = class_of(subject, ctx);
    if class.as_ref().is_some_and(|class| !ctx.serves(class)) {
        return Ok(outcome(subject.status.clone(), None));
    }
    let origin = subject.status.role.as_ref().and_then(|role| role.origin);
    let settings = terms(subject, class.as_deref(), origin);
    if settings.deletion_policy == DeletionPolicy::Retain || settings.mode == Mode::Observe {
        let why = if settings.mode == Mode::Observe { "mode is Observe" } else { "deletionPolicy is Retain" };
        let role = subject.status.role.as_ref().map_or("no role", |role| role.name.as_str());
        return release(subject, ctx, Reason::Retained, &format!("Left {role} in AWS since {why}")).await;
    }
    if let Some(by) = settings.suspended_by {
        let message = format!("deletion waits: suspended by {by}; take that away to go on. {WAY_OUT}");
        return Ok(outcome(subject.status.clone(), Some(Verdict::rest(Tri::Unknown, Reason::Suspended, message))));
    }
    let status = subject.status.clone();
    let (class, account) = reach(subject, ctx, class).map_err(|failure| Setback::pending(failure, status.clone()))?;
    if subject.status.account_id.as_ref().is_some_and(|id| *id != account.account.id) {
        Record::default().into_status(&mut subject.status);
    }
    let removal = Removal { ctx, class: &class, account: &account, owner: subject.owner(ctx, &class) };
    Box::pin(removal.run(subject)).await
}

/// The class that status remembers, or the one that the spec names; also one that is being deleted. An
/// object that was deleted before it had a status, or that lost it, is of the default class.
fn class_of(subject: &Subject, ctx: &Context) -> Option<Arc<IamRoleClass>> {
    let remembered = subject.status.class.as_ref().map(|class| class.name.clone());
    let named = subject.spec.as_ref().ok().and_then(|spec| spec.role_class_name.clone());
    match remembered.or(named) {
        Some(name) => ctx.classes.get(&ObjectRef::new(&name)),
        None => default_class(&ctx.classes.state(), &subject.namespace, &namespace_labels(subject, ctx)?).ok(),
    }
}

/// The settings in force. A spec that can't be read leaves those that status remembers; without a trace
/// of either, the role is kept.
fn terms(subject: &Subject, class: Option<&IamRoleClass>, origin: Option<Origin>) -> Settings {
    let effective = subject.status.effective.as_ref();
    let raw = subject.object().spec();
    let said = |name: &str| raw.get(name);
    // What can be read of it counts: the way out must lead out.
    let retains = said("deletionPolicy").is_some_and(|policy| policy != "Delete" && policy != "ForceDelete");
    let kept =
        if retains { Some(DeletionPolicy::Retain) } else { effective.map(|effective| effective.deletion_policy) };
    let keeps = said("whenUnlisted").is_some_and(|choice| choice != "Remove");
    let unlisted = effective.filter(|_| !keeps).map_or(WhenUnlisted::Keep, |effective| effective.when_unlisted);
    let spec = subject.spec.as_ref().cloned().unwrap_or_else(|_| IamRoleSpec {
        deletion_policy: Some(kept.unwrap_or(DeletionPolicy::Retain)),
        suspend: said("suspend").and_then(serde_json::Value::as_bool),
        when_unlisted: Some(unlisted),
        mode: salvaged_mode(subject, said("mode")),
        ..IamRoleSpec::default()
    });
    let class_spec = class.map(|class| &class.spec);
    let mut settings = settings(&spec, class_spec, origin, subject.suspend_annotation());
    if class.is_none()
        && spec.deletion_policy.is_none()
        && let Some(effective) = effective
    {
        settings.deletion_policy = effective.deletion_policy;
    }
    settings
}

/// The class and its account, or why the role can't be reached.
fn reach(
    subject: &Subject,
    ctx: &Context,
    class: Option<Arc<IamRoleClass>>,
) -> Result<(Arc<IamRoleClass>, Arc<Account>), Failure> {
    let blocked = |why: String| Failure::slow(Reason::DeleteBlocked, format!("{why}. {WAY_OUT}"));
    let Some(class) = class else {
        let name = subject.status.class.as_ref().map_or("of this role", |class| class.name.as_str());
        return Err(blocked(format!(
            "the IamRoleClass {name} is gone, and with it the way into the AWS account; restore it"
        )));
    };
    let name = class.name_any();
    let state = ctx.class_state(&name, &class.uid().unwrap_or_default());
    let Some(state) = state else {
        return Err(Failure::wait(Duration::from_secs(1), format!("waiting for IamRoleClass {name} to be checked")));
    };
    let account = match (state.account, state.reached) {
        (Ok(account), _) => account,
        // A class with a mistake, or whose boundary is not there, serves no role and still lets go of those it has.
        (Err(_), Some(account)) if subject.status.role.is_some() => account,
        (Err(why), _) => return Err(blocked(format!("IamRoleClass {name} is not ready: {}", why.message))),
    };
    match &subject.status.account_id {
        Some(id) if *id != account.account.id && !was_never_made(subject, ctx) => Err(blocked(format!(
            "the role lives in account {id}, but IamRoleClass {name} leads to {}; correct the class",
            account.account.id
        ))),
        _ => Ok((class, account)),
    }
}

const fn outcome(status: IamRoleStatus, verdict: Option<Verdict>) -> Outcome {
    Outcome { status, verdict, again: None, rests: None, handled: false }
}

async fn release(subject: &mut Subject, ctx: &Context, reason: Reason, note: &str) -> Stepped<Outcome> {
    let status = subject.status.clone();
    subject.release(ctx).await.map_err(|failure| Setback::pending(failure, status.clone()))?;
    tracing::info!(reason = reason.as_str(), note, "released");
    ctx.events.publish(&subject.reference(), Tone::Normal, reason, "Delete", note).await;
    gone(subject.object(), ctx);
    Ok(outcome(status, None))
}

struct Removal<'a> {
    ctx: &'a Context,
    class: &'a IamRoleClass,
    account: &'a Account,
    owner: Owner,
}

impl Removal<'_> {
    /// The deletion. Whatever holds it up may last; what the class forces holds meanwhile.
    async fn run(&self, subject: &mut Subject) -> Stepped<Outcome> {
        match Box::pin(self.delete(subject)).await {
            Err(setback) => Err(self.hold_boundary(subject, setback).await),
            done => done,
        }
    }

    async fn delete(&self, subject: &mut Subject) -> Stepped<Outcome> {
        let status = subject.status.clone();
        let mut record = Record::from_status(&status);
        let name = self.name(subject, &record);
        let Some(name) = name else {
            return release(subject, self.ctx, Reason::Released, "Nothing was ever made in AWS").await;
        };
        let failed = |failure: Failure| Setback::pending(failure, status.clone());
        let (name, state) = self.find(subject, name, &record).await.map_err(|error| failed(self.of_aws(error)))?;
        if state.role.is_some() {
            self.ctx.memory.with(&subject.uid, |entry| entry.first_miss = None);
        }
        if state.role.as_ref().is_some_and(|role| self.shows_earlier(subject, role)) {
            let message = format!("AWS still shows a role {name} that is gone; looking again");
            return Err(failed(Failure::wait(LAG, message)));
        }
        if state.role.is_none() && (self.may_be_late(subject, &record) || self.is_first_miss(subject, &record)) {
            let message = format!("role {name} is not there (yet); looking again before the object is let go");
            return Err(failed(Failure::wait(Duration::from_secs(5), message)));
        }
        if let Some(failure) = self.unseen(subject, &record, &state).or_else(|| self.is_past(subject, &record, &state))
        {
            return Err(failed(failure));
        }
        let origin = match state.role.as_ref().map(|role| self.owner.judge(&role.tags)) {
            Some(ours @ Ownership::Ours(_)) => {
                Some(ours.origin(subject.status.role.as_ref().and_then(|role| role.origin)))
            }
            _ => None,
        };
        let ours = origin.is_some();
        // Status may have known nothing of an adoption; the tags do.
        let settings = terms(subject, Some(self.class), origin);
        if settings.deletion_policy == DeletionPolicy::Retain {
            let note = format!("Left {name} in AWS since deletionPolicy is Retain");
            return release(subject, self.ctx, Reason::Retained, &note).await;
        }
        let foreign = state.role.as_ref().filter(|_| !ours).map(|role| {
            let whose = self.owner.whose(&role.tags);
            format!("Left role {} untouched: it {whose}", role.name)
        });
        // Asked for beforehand: a role that stays in use must not lose its policies first.
        let profiles = self.profiles(&name, &state, ours).await.map_err(|error| failed(self.of_aws(error)))?;
        let is_new = self.take_up(subject, &mut record, &state, &profiles, origin);
        let deletion = self.plan(&settings, &record, &state, ours, &profiles);
        if !deletion.blockers.is_empty() {
            return Err(failed(self.held_up(subject, &name, &deletion.blockers)));
        }
        if is_new {
            self.write_down(subject, record).await?;
        }
        let unbound = workload::unbind(subject, self.ctx, self.class, self.account, &self.owner).await;
        unbound.map_err(failed)?;
        let done = match self.carry_out(subject, &name, &deletion.plan, &state, foreign.is_some()).await {
            Err(mut setback) if setback.failure.reason == Reason::DeleteBlocked && foreign.is_some() => {
                let (left, why) = (foreign.unwrap_or_default(), &setback.failure.message);
                setback.failure.message = format!("{left}, and {why}");
                return Err(setback);
            }
            done => done?,
        };
        let left = match deletion.left.as_slice() {
            [] => String::new(),
            left => format!(". Left in AWS since our owner tags were taken off: {}", left.join(", ")),
        };
        if foreign.is_none() && state.role.is_none() {
            let id = subject.status.role.as_ref().and_then(|role| role.id.as_deref());
            self.depart(&name, id);
        }
        let (reason, note) = match foreign {
            Some(foreign) => (Reason::Retained, format!("{foreign}{left}")),
            None if done == 0 => (Reason::Released, format!("Role {name} was gone already{left}")),
            None if left.is_empty() => (Reason::Deleted, format!("Role {name} and all that belonged to it is gone")),
            None => (Reason::Deleted, format!("Role {name} is gone{left}")),
        };
        release(subject, self.ctx, reason, &note).await
    }

    /// The role with what is recorded of it. Where the recorded one is not ours but the one that spec and class name
    /// is, it is that one: status can be forged.
    async fn find(&self, subject: &Subject, name: String, record: &Record) -> Result<(String, RoleState), AwsError> {
        let is_ours =
            |state: &RoleState| state.role.as_ref().is_some_and(|role| self.owner.judge(&role.tags).is_ours());
        let mut asked = Asked::new(None, record);
        if !record.role_exists() {
            // Once they are off the role, or that is gone, nothing but the spec leads to them.
            let listed = self.listed(subject);
            asked.policies.extend(listed.own);
            asked.profiles.extend(listed.profile);
        }
        let mut state = self.account.observe(&name, &asked).await?;
        let attached = state.role.as_ref().filter(|_| !record.role_exists() && is_ours(&state));
        if let Some(role) = attached {
            // Status is lost; the tags of what is attached tell what is ours.
            let more = asked.clone().with_attached(role, &self.account.account);
            let role = self.account.observe_there(&name, &more).await?;
            state = RoleState { own: role.own.clone(), profiles: role.profiles.clone(), role: Some(role) };
        }
        let given = self.given_name(subject).filter(|given| *given != name && !is_ours(&state));
        let Some(given) = given else { return Ok((name, state)) };
        let other = self.account.observe(&given, &asked).await?;
        Ok(if is_ours(&other) { (given, other) } else { (name, state) })
    }

    /// The instance profiles that hold the role, and the recorded one.
    async fn profiles(&self, name: &str, state: &RoleState, ours: bool) -> Result<Vec<ObservedProfile>, AwsError> {
        let mut profiles = state.profiles.clone();
        if ours {
            let names = self.account.profiles_of(name).await?;
            let unread = names.iter().filter(|name| !profiles.values().any(|known| known.name == **name));
            let more = self.account.profiles(unread.map(String::as_str)).await?;
            profiles.extend(more);
        }
        Ok(profiles.into_values().collect())
    }

    /// Where status knows nothing of a role of ours, tags and the spec tell what it had of us. Whether there is something
    /// new on record.
    fn take_up(
        &self,
        subject: &Subject,
        record: &mut Record,
        state: &RoleState,
        profiles: &[ObservedProfile],
        origin: Option<Origin>,
    ) -> bool {
        let (Some(role), Some(origin), false) = (&state.role, origin, record.role_exists()) else { return false };
        record.take_up(role, origin, &self.owner, profiles);
        record.take_up_listed(role, &self.listed(subject));
        true
    }

    /// What was taken up is written down before it goes: once it is detached nothing else would tell of it.
    async fn write_down(&self, subject: &mut Subject, record: Record) -> Stepped<()> {
        let mut status = subject.status.clone();
        record.into_status(&mut status);
        status.account_id = Some(self.account.account.id.clone());
        status.class = Some(class_ref(self.class));
        let before = subject.status.clone();
        subject.write_status(self.ctx, status).await.map_err(|failure| Setback::pending(failure, before))
    }

    async fn hold_boundary(&self, subject: &mut Subject, mut setback: Box<Setback>) -> Box<Setback> {
        let period = period(self.class);
        let is_due = self.ctx.memory.with(&subject.uid, |entry| entry.boundary_is_due(period, Instant::now()));
        let passes = matches!(setback.failure.retry, Retry::Wait(_) | Retry::Passing) && !is_due;
        // Deletion goes by the class that status remembers, and status can be forged: no class gives a boundary to the
        // roles of a namespace that it does not select.
        let labels = namespace_labels(subject, self.ctx);
        let selects = labels.is_some_and(|labels| self.class.spec.namespace_selector.matches(&labels));
        let name = self.name(subject, &Record::from_status(&subject.status));
        let Some(name) = name.filter(|_| may_be_bounded(subject, self.ctx, self.class) && !passes) else {
            return setback;
        };
        setback.failure.retry = setback.failure.retry.within(interval(self.class));
        let named = Named { class: self.class, selects };
        let (ctx, status) = (self.ctx, &mut setback.status);
        match hold_boundary(subject, ctx, named, self.account, &self.owner, &name, status).await {
            Ok(_) => ctx.memory.with(&subject.uid, Entry::looked_at_boundary),
            Err(error) => drop(missed(&mut setback, self.class, &error)),
        }
        setback
    }

    /// Executes the steps; the first that fails ends it. Returns how many were done.
    /// `stays`: the role is not ours, so nothing is detached from it.
    async fn carry_out(
        &self,
        subject: &Subject,
        name: &str,
        plan: &Plan,
        state: &RoleState,
        stays: bool,
    ) -> Stepped<usize> {
        let mut record = Record::from_status(&subject.status);
        for (i, step) in plan.steps.iter().enumerate() {
            let failure = match stopping(self.ctx) {
                Some(stopping) => stopping,
                None => match self.account.execute(name, &step.action).await {
                    Ok(_) => {
                        self.note_write(subject, &step.action, state);
                        record.forget(&step.action);
                        report(self.ctx, subject, name, &step.action, Cause::Spec, None).await;
                        continue;
                    }
                    Err(error) => {
                        if error.kind == Kind::Transient {
                            // It may have been done.
                            self.note_departure(subject, &step.action, state);
                            let now = self.ctx.started.elapsed();
                            self.ctx
                                .memory
                                .with(&subject.uid, |entry| entry.recent.doubt(&step.action, subject.generation, now));
                        }
                        self.blocked(subject, name, &step.action, error, stays).await
                    }
                },
            };
            let mut status = subject.status.clone();
            record.into_status(&mut status);
            show_left(&mut status, name, &[], plan.steps.iter().skip(i));
            return Err(Setback::pending(failure, status));
        }
        Ok(plan.steps.len())
    }

    /// A role, by name, or a policy, by ARN, is gone, and may be shown by walks and reads for a while.
    fn depart(&self, name: &str, id: Option<&str>) {
        let (account, now, settle) = (&self.account.account.id, self.ctx.started.elapsed(), self.ctx.settle);
        self.ctx.sweeps.departed(|departed| departed.note(account, name, id, now, settle));
    }

    /// Whether the read shows a role that was deleted a moment ago, and not by this object.
    fn shows_earlier(&self, subject: &Subject, role: &Observed) -> bool {
        let own = self.ctx.memory.with(&subject.uid, |entry| entry.departing.as_ref() == Some(&role.id));
        let (now, settle) = (self.ctx.started.elapsed(), self.ctx.settle);
        let id = &self.account.account.id;
        !own && self.ctx.sweeps.departed(|departed| departed.shows_past(id, &role.name, &role.id, now, settle))
    }

    fn note_departure(&self, subject: &Subject, action: &Action, state: &RoleState) {
        match (action, &state.role) {
            (Action::DeleteRole, Some(role)) => {
                self.ctx.memory.with(&subject.uid, |entry| entry.departing = Some(role.id.clone()));
                self.depart(&role.name, Some(&role.id));
            }
            (Action::DeletePolicy(arn), _) => {
                self.depart(arn, state.own.get(arn).map(|policy| policy.id.as_str()));
            }
            _ => {}
        }
    }

    /// What this deletion did itself is not the past when the next look shows it.
    fn note_write(&self, subject: &Subject, action: &Action, state: &RoleState) {
        let (account, now) = (&self.account.account, self.ctx.started.elapsed());
        self.note_departure(subject, action, state);
        self.ctx.memory.with(&subject.uid, |entry| {
            entry.deleted |= matches!(action, Action::DeleteRole);
            match &state.role {
                Some(role) => entry.recent.note(action, role, account, now),
                None => {
                    entry.recent.begin(now);
                }
            }
        });
    }

    /// The role's name: as recorded, else as spec and class give it.
    fn name(&self, subject: &Subject, record: &Record) -> Option<String> {
        let recorded = record.role.as_ref().map(|role| role.name.clone());
        recorded.or_else(|| self.given_name(subject))
    }

    /// What the spec lists, if it can be read.
    fn listed(&self, subject: &Subject) -> Listed {
        let listed = |spec| listed(spec, facts(self.ctx, self.class, self.account, &self.owner));
        subject.spec.as_ref().map(listed).unwrap_or_default()
    }

    /// The role's name as spec and class give it.
    fn given_name(&self, subject: &Subject) -> Option<String> {
        let spec = subject.spec.as_ref().ok()?;
        role_name(spec, facts(self.ctx, self.class, self.account, &self.owner))
    }

    /// Right after an attempt to create it, a role that is not seen may be there all the same.
    fn may_be_late(&self, subject: &Subject, record: &Record) -> bool {
        let now = Instant::now();
        let (deleted, attempt) = self.ctx.memory.with(&subject.uid, |entry| (entry.deleted, entry.create_attempt));
        if deleted {
            return false;
        }
        // An intent without an answer from before our start: the attempt may have been just then.
        let unanswered = record.role.is_some() && !record.role_exists();
        let attempt = attempt.or_else(|| unanswered.then_some(self.ctx.started));
        attempt.is_some_and(|at| now.saturating_duration_since(at) < super::apply::YOUNG)
    }

    /// One answer that a role is not there is not believed where it was made, or where status does not tell.
    fn is_first_miss(&self, subject: &Subject, record: &Record) -> bool {
        let now = Instant::now();
        let first =
            self.ctx.memory.with(&subject.uid, |entry| (!entry.deleted).then(|| *entry.first_miss.get_or_insert(now)));
        let known = record.role_exists() || subject.status.conditions.is_empty();
        // The process before this one may have made it a moment ago.
        let (settle, is_new) = (self.ctx.settle, self.ctx.started.elapsed() < self.ctx.settle);
        known && first.is_some_and(|first| is_new || now.saturating_duration_since(first) < MISSES_APART.min(settle))
    }

    /// What is on record and not shown may come to light yet, and would be left behind.
    fn unseen(&self, subject: &Subject, record: &Record, state: &RoleState) -> Option<Failure> {
        let unseen = Asked::new(None, record).unseen(&state.own, &state.profiles);
        let (now, settle) = (self.ctx.started.elapsed(), self.ctx.settle);
        let gone = self.ctx.memory.with(&subject.uid, |entry| entry.recent.miss(&unseen, now, settle));
        let first = unseen.difference(&gone).next()?;
        let message = format!("{first} is not there (yet); looking again before the object is let go");
        Some(Failure::wait(Duration::from_secs(5), message))
    }

    /// A read from before our own last write does not show all that is on the role.
    fn is_past(&self, subject: &Subject, record: &Record, state: &RoleState) -> Option<Failure> {
        let (role, asked) = (state.role.as_ref()?, Asked::new(None, record));
        let (now, settle) = (self.ctx.started.elapsed(), self.ctx.settle);
        let is_past = self.ctx.memory.with(&subject.uid, |entry| entry.recent.is_past(role, &asked, now, settle));
        let message = || format!("AWS does not show yet what was written to role {}", role.name);
        is_past.then(|| Failure::wait(LAG, message()))
    }

    /// What others have on the role holds the deletion up. What seems to be others' may be what the process before took off
    /// and off the record a moment ago, but for what that one has told.
    fn held_up(&self, subject: &Subject, name: &str, blockers: &[String]) -> Failure {
        let message = format!(
            "role {name} has what this object did not make: {}. Remove it in AWS, or set deletionPolicy: ForceDelete. {WAY_OUT}",
            blockers.join(", ")
        );
        let left = self.ctx.settle.saturating_sub(self.ctx.started.elapsed());
        if left.is_zero() || tells(&subject.status.conditions, subject.generation, Reason::DeleteBlocked, &message) {
            return Failure::slow(Reason::DeleteBlocked, message);
        }
        let message = format!("AWS may still show on role {name} what was taken off before the operator started");
        Failure::wait(left.min(MISSES_APART), message)
    }

    fn plan(
        &self,
        settings: &Settings,
        record: &Record,
        state: &RoleState,
        ours: bool,
        profiles: &[ObservedProfile],
    ) -> deletion::Deletion {
        let exceptions = Exceptions::new(Some(&self.class.spec), &tokens(&self.owner, &self.account.account));
        let terms = Terms {
            owner: &self.owner,
            policy: settings.deletion_policy,
            when_unlisted: settings.when_unlisted,
            exceptions: &exceptions,
        };
        let own: BTreeMap<String, BTreeMap<String, String>> =
            state.own.iter().map(|(arn, policy)| (arn.clone(), policy.tags.clone())).collect();
        deletion::plan(&terms, record, state.role.as_ref().filter(|_| ours), &own, profiles)
    }

    /// Without credentials the way out is named, as for a class that is not ready.
    fn of_aws(&self, error: AwsError) -> Failure {
        let failure = of_aws(self.ctx, self.class, error);
        if failure.reason == Reason::ClassNotReady {
            return Failure::slow(Reason::DeleteBlocked, format!("{}. {WAY_OUT}", failure.message));
        }
        failure
    }

    /// What a failed step means; a conflict is explained by naming who is in the way.
    async fn blocked(&self, subject: &Subject, role: &str, action: &Action, error: AwsError, stays: bool) -> Failure {
        let (now, settle) = (self.ctx.started.elapsed(), self.ctx.settle);
        let unsettled = self.ctx.memory.with(&subject.uid, |entry| entry.recent.unsettled(now, settle));
        let view = View { role, stays, lags: unsettled.is_some(), boundary: None };
        conflict(self.account, view, action, &error, WAY_OUT).await.unwrap_or_else(|| self.of_aws(error))
    }
}
