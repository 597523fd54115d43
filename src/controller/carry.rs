//! Carries a plan out: a loop over its steps that keeps the record and says what was done.

use super::apply::{Case, of_aws};
use super::conflict::{View, conflict};
use super::context::Context;
use super::events::Tone;
use super::failure::{Failure, Retry};
use super::memory::Entry;
use super::status::says;
use super::subject::Subject;
use crate::api::Reason;
use crate::api::iamrole::{Cause, Change, Origin, PolicyRef, ProfileRef, RoleRef};
use crate::aws::{AwsError, Done, Kind, Ticket};
use crate::role::found::found;
use crate::role::plan::nothing;
use crate::role::recent::{Attempt, MISSES_APART};
use crate::role::{Action, Desired, Observed, Plan, Progress, Record, Step};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait for all of AWS to know and to show what was written just before.
pub const LAG: Duration = Duration::from_secs(2);
/// A moment.
pub const SHORT: Duration = Duration::from_secs(1);

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Carried {
    /// What was done, oldest first.
    pub changes: Vec<Change>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Indexes of the steps that put right what somebody else did.
    pub repairs: BTreeSet<usize>,
    /// Indexes of the steps that failed or had to wait for one that did.
    pub left: BTreeSet<usize>,
    /// The role or a policy was there already, which nobody had looked at: it must be read, and planned anew.
    pub already_exists: bool,
    /// The role was not created since its trust names principals that don't exist (yet).
    pub unknown_principal: bool,
}

/// What a plan is carried out for.
pub struct Run<'a> {
    /// What all reconciliations share.
    pub ctx: &'a Context,
    /// The object.
    pub subject: &'a Subject,
    /// Class and account.
    pub case: Case<'a>,
    /// What is wanted.
    pub desired: &'a Desired,
    /// Why.
    pub why: Cause,
    /// AWS was read before the plan was made.
    pub looked: bool,
    /// A role is created with a trust that lets nobody in.
    pub closed: bool,
    /// What the plan was made from; `None` where the role was not there.
    pub before: Option<&'a Observed>,
}

/// A write that is under way, with what is to be remembered if nothing comes of it.
struct Begun {
    attempt: Attempt,
    created: bool,
}

impl Begun {
    fn refused(&self, entry: &mut Entry) {
        entry.recent.refused(&self.attempt);
        entry.may_have_created = self.created;
    }
}

impl Run<'_> {
    /// Executes the steps in order. A failure holds up what depends on it and nothing else.
    pub async fn carry_out(&self, plan: &Plan, record: &mut Record) -> Carried {
        let Self { ctx, subject, case, desired, .. } = *self;
        let mut carried = Carried::default();
        let mut progress = Progress::of(plan);
        let unsure = ctx.memory.with(&subject.uid, |entry| entry.unsure);
        for (i, step) in plan.steps.iter().enumerate() {
            if progress.holds_up(step) {
                progress.failed(step);
                carried.left.insert(i);
                continue;
            }
            if let Some(stopping) = stopping(ctx).or_else(|| self.outdated(&carried)) {
                carried.left.extend(i..plan.steps.len());
                carried.failures.push(stopping);
                return carried;
            }
            let begun = self.begin(step);
            // What an earlier spec left is nobody else's doing, and what came after the spec is not its own.
            let why = match self.why {
                Cause::Drift if record.is_of_rest(&step.action, desired) => Cause::Spec,
                _ if step.is_strangers && !unsure => Cause::Drift,
                why => why,
            };
            if why == Cause::Drift {
                ctx.metrics.drift_found();
            }
            match case.account.execute(&desired.name, &step.action).await {
                Ok(done) => {
                    self.note_write(&step.action);
                    if why == Cause::Drift {
                        carried.repairs.insert(i);
                    }
                    let nothing = done == Done::Absent && self.before.is_some_and(|seen| step.action.is_blind(seen));
                    enter(record, desired, &step.action, done);
                    if !nothing {
                        let found = (why == Cause::Drift)
                            .then(|| found(&step.action, self.before, &case.account.account))
                            .flatten();
                        carried.changes.push(report(ctx, subject, &desired.name, &step.action, why, found).await);
                    }
                }
                Err(error) if error.kind == Kind::AlreadyExists && self.is_unread(&step.action) => {
                    carried.already_exists = true;
                    carried.left.extend(i..plan.steps.len());
                    return carried;
                }
                Err(error) if error.kind == Kind::PrincipalNotFound && self.is_open(&step.action) => {
                    self.refused(&begun);
                    carried.unknown_principal = true;
                    carried.left.extend(i..plan.steps.len());
                    return carried;
                }
                Err(error) => {
                    carried.left.insert(i);
                    progress.failed(step);
                    self.failed(&begun, &step.action, error.kind, record);
                    let hopeless = match error.kind {
                        // AWS answers, as in this attempt, and has not answered this for long.
                        Kind::Transient => !(self.looked && self.is_silent_for_long()),
                        kind => matches!(kind, Kind::NoCredentials | Kind::Busy),
                    };
                    carried.failures.push(self.of_step(error, &step.action, record).await);
                    if hopeless {
                        carried.left.extend(i + 1..plan.steps.len());
                        return carried;
                    }
                }
            }
        }
        carried
    }

    /// Notes that AWS has not answered a write; whether that has been so for as long as it takes to be called stalled.
    fn is_silent_for_long(&self) -> bool {
        self.ctx.memory.with(&self.subject.uid, |entry| entry.is_silent_for_long(Instant::now()))
    }

    /// What went on past a call without an answer may take minutes, and must not do what nobody wants any more.
    fn outdated(&self, carried: &Carried) -> Option<Failure> {
        let Subject { namespace, name, generation, .. } = self.subject;
        let now = if carried.failures.is_empty() { None } else { self.ctx.cached_role(namespace, name) }?;
        let is_new = now.metadata.generation.is_some_and(|now| now > *generation);
        let is_old = is_new || now.metadata.deletion_timestamp.is_some();
        is_old.then(|| Failure::wait(SHORT, "the object was changed meanwhile; what is left follows that"))
    }

    fn begin(&self, step: &Step) -> Begun {
        let _ = Ticket::went_unheard();
        let now = self.ctx.started.elapsed();
        self.ctx.memory.with(&self.subject.uid, |entry| {
            let created = entry.may_have_created;
            // Whoever waits for the answer may be stopped.
            entry.created(&step.action);
            Begun { attempt: entry.recent.begin(now), created }
        })
    }

    fn note_write(&self, action: &Action) {
        let (account, now) = (&self.case.account.account, self.ctx.started.elapsed());
        if let Action::DeletePolicy(arn) = action {
            let id = self.before.and_then(|before| before.own.get(arn)).map(|policy| policy.id.as_str());
            let settle = self.ctx.settle;
            self.ctx.sweeps.departed(|departed| departed.note(&account.id, arn, id, now, settle));
        }
        self.ctx.memory.with(&self.subject.uid, |entry| {
            entry.created(action);
            match self.before {
                Some(before) => entry.recent.note(action, before, account, now),
                None => entry.recent.note(action, &nothing(self.desired), account, now),
            }
        });
    }

    fn refused(&self, begun: &Begun) {
        self.ctx.memory.with(&self.subject.uid, |entry| begun.refused(entry));
    }

    /// What AWS has refused to create does not exist: its intent leaves, or a spec that is refused again and again
    /// would fill status up. Not where an earlier attempt may have made it.
    fn failed(&self, begun: &Begun, action: &Action, kind: Kind, record: &mut Record) {
        let (now, unheard) = (self.ctx.started.elapsed(), Ticket::went_unheard());
        let is_new = self.ctx.memory.with(&self.subject.uid, |entry| match kind {
            Kind::Transient | Kind::Busy | Kind::NoCredentials => {
                entry.created(action);
                // AWS has turned it away each time, or was not asked.
                if kind == Kind::NoCredentials || (kind == Kind::Busy && !unheard) {
                    entry.may_have_created = begun.created;
                }
                if kind != Kind::NoCredentials {
                    entry.recent.doubt(action, self.subject.generation, now);
                }
                false
            }
            // The SDK may have asked twice, and the first answer was lost.
            Kind::AlreadyExists => false,
            _ => {
                begun.refused(entry);
                let taken_up = entry.inherited == Some(true) && now < self.ctx.settle;
                !taken_up && !entry.recent.may_exist(action, now, self.ctx.settle)
            }
        });
        if let (Action::CreatePolicy { policy, .. }, true) = (action, is_new) {
            record.own.retain(|own| own.id.is_some() || own.arn != policy.arn);
        }
    }

    /// Whether a read may tell more about what exists already. A policy that was asked for by its ARN and not
    /// found exists at another path or in other case, and that no read of ours shows.
    fn is_unread(&self, action: &Action) -> bool {
        !self.looked || !matches!(action, Action::CreatePolicy { .. } | Action::CreateProfile { .. })
    }

    /// Whether the role was to be created with its own trust policy.
    fn is_open(&self, action: &Action) -> bool {
        matches!(action, Action::CreateRole { .. }) && !self.closed
    }

    /// A failure of a step. A role or policy of ours that AWS does not know yet is waited for.
    async fn of_step(&self, error: AwsError, action: &Action, record: &Record) -> Failure {
        let (now, settle) = (self.ctx.started.elapsed(), self.ctx.settle);
        let (lags, frees) = self.ctx.memory.with(&self.subject.uid, |entry| {
            (entry.recent.unsettled(now, settle).is_some(), entry.recent.has_freed(now, settle))
        });
        let found = self.before.and_then(|before| before.boundary.as_deref());
        let boundary = self.desired.boundary.as_deref().or(found);
        let view = View { role: &self.desired.name, stays: false, lags, boundary };
        if let Some(conflict) = conflict(self.case.account, view, action, &error, "").await {
            return conflict;
        }
        if error.kind == Kind::AlreadyExists
            && let Some(failure) = self.taken(action)
        {
            return failure;
        }
        if error.kind == Kind::Quota
            && frees
            && !says(&self.subject.status.conditions, self.subject.generation, Reason::QuotaExceeded)
        {
            let name = &self.desired.name;
            return Failure::wait(LAG, format!("AWS still counts what was taken off role {name} a moment ago"));
        }
        let own = relies_on(action).filter(|arn| record.own.iter().any(|own| own.arn == **arn));
        let role_missing =
            error.kind == Kind::NotFound && !matches!(action, Action::UpdatePolicy { .. } | Action::TagPolicy { .. });
        if lags && (role_missing || (own.is_some() && matches!(error.kind, Kind::NotFound | Kind::PolicyNotFound))) {
            let name = &self.desired.name;
            return Failure::wait(LAG, format!("AWS does not find yet what was made for role {name} a moment ago"));
        }
        let mut failure = of_aws(self.ctx, self.case.class, error);
        if role_missing {
            failure.retry = Retry::Passing;
            failure.reason = Reason::Reconciling;
        }
        failure
    }

    /// AWS says that it exists and does not show it. What an attempt of ours made comes to light, and its tags tell
    /// whose it is; what does not is somebody else's, in other case or at another path.
    fn taken(&self, action: &Action) -> Option<Failure> {
        let (reason, message) = match action {
            Action::CreatePolicy { policy, .. } => {
                let message = format!(
                    "a policy named {:?} exists in the account at another path or in other case, and IAM takes it for the \
                     same name; it is left untouched. Choose another policyName for entry {:?}, or remove it in AWS",
                    policy.name, policy.entry
                );
                (Reason::PolicyNameTaken, message)
            }
            Action::CreateProfile { name, .. } => {
                let message = format!(
                    "an instance profile named {name:?} exists in the account in other case, and IAM takes it for the \
                     same name; it is left untouched. Choose another instanceProfile.name, or remove it in AWS"
                );
                (Reason::InstanceProfileNotOwned, message)
            }
            _ => return None,
        };
        let now = self.ctx.started.elapsed();
        let hidden = self.ctx.memory.with(&self.subject.uid, |entry| entry.recent.hidden_for(action, now));
        if hidden < self.ctx.settle && !says(&self.subject.status.conditions, self.subject.generation, reason) {
            let what = action.target(&self.desired.name);
            let message = format!("{what} exists and AWS does not show it yet; its tags will tell whose it is");
            return Some(Failure::wait((hidden / 2).clamp(SHORT, MISSES_APART), message));
        }
        Some(Failure::on_change(reason, message))
    }
}

/// The policy that has to be there for an action.
const fn relies_on(action: &Action) -> Option<&String> {
    match action {
        Action::Attach(arn)
        | Action::PutBoundary(arn)
        | Action::UpdatePolicy { arn, .. }
        | Action::TagPolicy { arn, .. } => Some(arn),
        _ => None,
    }
}

/// A stop must fit into the grace period: what was done is written down, the rest comes later.
#[must_use]
pub fn stopping(ctx: &Context) -> Option<Failure> {
    ctx.is_stopping().then(|| Failure::wait(SHORT, "the operator is stopping; the rest follows after its restart"))
}

/// Keeps the record: entries of what was made, none of what was removed.
fn enter(record: &mut Record, desired: &Desired, action: &Action, done: Done) {
    match (action, done) {
        (Action::CreateRole { .. }, Done::Role { arn, id, create_date }) => {
            record.role = Some(RoleRef {
                name: desired.name.clone(),
                path: desired.path.clone(),
                arn: Some(arn),
                id: Some(id),
                create_date: Some(create_date),
                origin: Some(Origin::Created),
            });
            record.set_boundary(desired.boundary.clone());
        }
        (Action::PutBoundary(arn), _) => record.set_boundary(Some(arn.clone())),
        (Action::Attach(arn), _) if desired.managed.contains(arn) => {
            record.managed.insert(arn.clone());
        }
        (Action::PutInline { name, .. }, _) => {
            record.inline.insert(name.clone());
        }
        (Action::CreatePolicy { policy, .. }, Done::Policy { id, version }) => {
            let entry =
                PolicyRef { name: policy.entry.clone(), arn: policy.arn.clone(), id: Some(id), version: Some(version) };
            record.own.retain(|known| known.arn != entry.arn);
            record.own.push(entry);
        }
        (Action::UpdatePolicy { arn, .. }, Done::Version(version)) => {
            if let Some(policy) = record.own_mut(arn) {
                policy.version = Some(version);
            }
        }
        (Action::CreateProfile { name, .. }, Done::Profile(arn)) => {
            record.profile = Some(ProfileRef { name: name.clone(), arn: Some(arn) });
        }
        _ => record.forget(action),
    }
}

/// One event, one log line and one entry of `status.lastChanges` per change.
///
/// `found` is what a repair met.
pub async fn report(
    ctx: &Context,
    subject: &Subject,
    role: &str,
    action: &Action,
    cause: Cause,
    found: Option<String>,
) -> Change {
    let drift = cause == Cause::Drift;
    let reason = match action {
        _ if drift => Reason::DriftRepaired,
        Action::CreateRole { .. } | Action::CreatePolicy { .. } | Action::CreateProfile { .. } => Reason::Created,
        Action::DeleteRole | Action::DeletePolicy(_) | Action::DeleteProfile(_) => Reason::Deleted,
        _ => Reason::Updated,
    };
    if drift {
        ctx.metrics.drift_repaired();
    }
    let words = action.describe(role);
    let note = match cause {
        Cause::Drift => {
            let found = found.as_ref().map(|found| format!(" ({found})")).unwrap_or_default();
            format!("Somebody else changed AWS; repaired: {words}{found}")
        }
        Cause::Class => format!("Since the class changed: {words}"),
        Cause::Spec | Cause::Unknown => capitalised(&words),
    };
    tracing::info!(action = action.name(), resource = action.target(role), cause = cause.as_str(), "changed AWS");
    ctx.events.publish(&subject.reference(), Tone::Normal, reason, action.name(), &note).await;
    Change {
        time: super::roles::now(),
        action: action.name().to_owned(),
        target: action.target(role).to_owned(),
        cause,
        found,
    }
}

fn capitalised(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
