//! Carries a plan out: a loop over its steps that keeps the record and says what was done.

use super::apply::{Case, of_aws};
use super::context::Context;
use super::events::Tone;
use super::failure::{Failure, Retry};
use super::subject::Subject;
use crate::api::Reason;
use crate::api::iamrole::{Cause, Change, Origin, PolicyRef, ProfileRef, RoleRef};
use crate::aws::{AwsError, Done, Kind};
use crate::role::plan::nothing;
use crate::role::{Action, Desired, Observed, Phase, Plan, Progress, Record, Step};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// A moment.
pub const SHORT: Duration = Duration::from_secs(1);

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Carried {
    /// What was done, oldest first.
    pub changes: Vec<Change>,
    /// What failed.
    pub failures: Vec<Failure>,
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
    /// What was read may be the past.
    pub early: bool,
    /// What the plan was made from; `None` where the role was not there.
    pub before: Option<&'a Observed>,
}

impl Run<'_> {
    /// Executes the steps in order. A failure holds up what depends on it and nothing else.
    pub async fn carry_out(&self, plan: &Plan, record: &mut Record) -> Carried {
        let Self { ctx, subject, case, desired, .. } = *self;
        let mut carried = Carried::default();
        let mut progress = Progress::of(plan);
        for (i, step) in plan.steps.iter().enumerate() {
            if progress.holds_up(step) {
                progress.failed(step);
                carried.left.insert(i);
                continue;
            }
            if let Some(stopping) = stopping(ctx) {
                carried.left.extend(i..plan.steps.len());
                carried.failures.push(stopping);
                return carried;
            }
            note_attempt(ctx, subject, step);
            match case.account.execute(&desired.name, &step.action).await {
                Ok(done) => {
                    self.note_write(&step.action);
                    enter(record, desired, &step.action, done);
                    carried.changes.push(report(ctx, subject, &desired.name, &step.action, self.why).await);
                }
                Err(error) if error.kind == Kind::AlreadyExists && self.is_unread(&step.action) => {
                    carried.already_exists = true;
                    carried.left.extend(i..plan.steps.len());
                    return carried;
                }
                Err(error) if error.kind == Kind::PrincipalNotFound && self.is_open(&step.action) => {
                    carried.unknown_principal = true;
                    carried.left.extend(i..plan.steps.len());
                    return carried;
                }
                Err(error) => {
                    carried.left.insert(i);
                    progress.failed(step);
                    withdraw(record, &step.action, error.kind);
                    let hopeless = matches!(error.kind, Kind::NoCredentials | Kind::Transient | Kind::Busy);
                    carried.failures.push(self.of_step(error, &step.action, record));
                    if hopeless {
                        carried.left.extend(i + 1..plan.steps.len());
                        return carried;
                    }
                }
            }
        }
        carried
    }

    fn note_write(&self, action: &Action) {
        let (account, now) = (&self.case.account.account, self.ctx.started.elapsed());
        self.ctx.memory.with(&self.subject.uid, |entry| match self.before {
            Some(before) => entry.recent.note(action, before, account, now),
            None => entry.recent.note(action, &nothing(self.desired), account, now),
        });
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

    /// A failure of a step. A role of ours that AWS does not know yet is waited for.
    fn of_step(&self, error: AwsError, action: &Action, record: &mut Record) -> Failure {
        if let (Kind::AlreadyExists, Action::CreatePolicy { policy, .. }) = (error.kind, action) {
            if self.early && record.own_mut(&policy.arn).is_some_and(|own| own.id.is_some()) {
                let message = format!("AWS does not show policy {} yet, which was made a moment ago", policy.arn);
                return Failure { reason: Reason::Reconciling, message, retry: Retry::Passing };
            }
            let message = format!(
                "a policy named {:?} exists in the account at another path or in other case, and IAM takes it for the same \
                 name; it is left untouched. Choose another policyName for entry {:?}, or remove it in AWS",
                policy.name, policy.entry
            );
            return Failure::on_change(Reason::PolicyNameTaken, message);
        }
        if let (Kind::AlreadyExists, Action::CreateProfile { name, .. }) = (error.kind, action) {
            let message = format!(
                "an instance profile named {name:?} exists in the account in other case, and IAM takes it for the same name; \
                 it is left untouched. Choose another instanceProfile.name, or remove it in AWS"
            );
            return Failure::on_change(Reason::InstanceProfileNotOwned, message);
        }
        let role_missing =
            error.kind == Kind::NotFound && !matches!(action, Action::UpdatePolicy { .. } | Action::TagPolicy { .. });
        let mut failure = of_aws(self.ctx, self.case.class, error);
        if role_missing {
            failure.retry = Retry::Passing;
            failure.reason = Reason::Reconciling;
        }
        failure
    }
}

/// A stop must fit into the grace period: what was done is written down, the rest comes later.
#[must_use]
pub fn stopping(ctx: &Context) -> Option<Failure> {
    ctx.is_stopping().then(|| Failure::wait(SHORT, "the operator is stopping; the rest follows after its restart"))
}

/// What AWS has refused to create does not exist: its intent leaves, or a spec that is refused again and again
/// would fill status up.
fn withdraw(record: &mut Record, action: &Action, kind: Kind) {
    // What exists already may be ours, from an attempt of which no answer came.
    let unknown = matches!(kind, Kind::Transient | Kind::Busy | Kind::NoCredentials | Kind::AlreadyExists);
    if let (Action::CreatePolicy { policy, .. }, false) = (action, unknown) {
        record.own.retain(|own| own.id.is_some() || own.arn != policy.arn);
    }
}

fn note_attempt(ctx: &Context, subject: &Subject, step: &Step) {
    let now = Instant::now();
    ctx.memory.with(&subject.uid, |entry| {
        entry.last_write = Some(now);
        if step.phase == Phase::Create {
            entry.create_attempt = Some(now);
        }
    });
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
        }
        (Action::UntagRole(keys), _) => record.tag_keys.retain(|key| !keys.contains(key)),
        (Action::PutBoundary(arn), _) => record.set_boundary(Some(arn.clone())),
        (Action::DeleteBoundary, _) => record.set_boundary(None),
        (Action::Attach(arn), _) if desired.managed.contains(arn) => {
            record.managed.insert(arn.clone());
        }
        (Action::Detach(arn), _) => {
            record.managed.remove(arn);
        }
        (Action::PutInline { name, .. }, _) => {
            record.inline.insert(name.clone());
        }
        (Action::DeleteInline(name), _) => {
            record.inline.remove(name);
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
        (Action::DeleteProfile(name), _) => {
            record.profile = record.profile.take().filter(|known| !known.name.eq_ignore_ascii_case(name));
        }
        (Action::DeletePolicy(arn), _) => record.own.retain(|policy| policy.arn != *arn),
        (Action::DeleteRole, _) => {
            record.managed.clear();
            record.inline.clear();
        }
        _ => {}
    }
}

/// One event, one log line and one entry of `status.lastChanges` per change.
pub async fn report(ctx: &Context, subject: &Subject, role: &str, action: &Action, cause: Cause) -> Change {
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
        Cause::Drift => format!("Somebody else changed AWS; repaired: {words}"),
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
    }
}

fn capitalised(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
