//! Carries a plan out: a loop over its steps that keeps the record and says what was done.

use super::apply::{Case, of_aws};
use super::context::Context;
use super::events::Tone;
use super::failure::{Failure, Retry};
use super::subject::Subject;
use crate::api::iamrole::{Cause, Change, Origin, PolicyRef, RoleRef};
use crate::api::{IamRoleClass, Reason};
use crate::aws::{AwsError, Done, Kind};
use crate::role::{Action, Desired, Phase, Plan, Progress, Record, Step};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_secs(1);

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Carried {
    /// What was done, oldest first.
    pub changes: Vec<Change>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Indexes of the steps that failed or had to wait for one that did.
    pub left: BTreeSet<usize>,
    /// The role or a policy was there already: it must be read, and planned anew.
    pub already_exists: bool,
}

/// Executes the steps in order. A failure holds up what depends on it and nothing else.
pub async fn carry_out(
    ctx: &Context,
    subject: &Subject,
    case: Case<'_>,
    desired: &Desired,
    plan: &Plan,
    record: &mut Record,
    why: Cause,
) -> Carried {
    let mut carried = Carried::default();
    let mut progress = Progress::of(plan);
    for (i, step) in plan.steps.iter().enumerate() {
        if progress.holds_up(step) {
            progress.failed(step);
            carried.left.insert(i);
            continue;
        }
        if ctx.is_stopping() {
            // A stop must fit into the grace period: what was done is written down, the rest comes later.
            carried.left.extend(i..plan.steps.len());
            carried.failures.push(Failure::wait(SHORT, "the operator is stopping; the rest follows after its restart"));
            return carried;
        }
        note_attempt(ctx, subject, step);
        match case.account.execute(&desired.name, &step.action).await {
            Ok(done) => {
                enter(record, desired, &step.action, done);
                carried.changes.push(report(ctx, subject, desired, &step.action, why).await);
            }
            Err(error) if error.kind == Kind::AlreadyExists => {
                carried.already_exists = true;
                return carried;
            }
            Err(error) => {
                carried.left.insert(i);
                progress.failed(step);
                let hopeless = matches!(error.kind, Kind::NoCredentials | Kind::Transient | Kind::Busy);
                carried.failures.push(of_step(ctx, case.class, error, &step.action));
                if hopeless {
                    carried.left.extend(i + 1..plan.steps.len());
                    return carried;
                }
            }
        }
    }
    carried
}

/// A failure of a step. A role of ours that AWS does not know yet is waited for.
fn of_step(ctx: &Context, class: &IamRoleClass, error: AwsError, action: &Action) -> Failure {
    let role_missing = error.kind == Kind::NotFound && !matches!(action, Action::UpdatePolicy { .. });
    let mut failure = of_aws(ctx, class, error);
    if role_missing {
        failure.retry = Retry::Passing;
        failure.reason = Reason::Reconciling;
    }
    failure
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
        (Action::PutBoundary(arn), _) => record.boundary = Some(arn.clone()),
        (Action::DeleteBoundary, _) => record.boundary = None,
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
        (Action::DeletePolicy(arn), _) => record.own.retain(|policy| policy.arn != *arn),
        (Action::DeleteRole, _) => {
            record.managed.clear();
            record.inline.clear();
        }
        _ => {}
    }
}

/// One event, one log line and one entry of `status.lastChanges` per change.
pub async fn report(ctx: &Context, subject: &Subject, desired: &Desired, action: &Action, cause: Cause) -> Change {
    report_on(ctx, subject, &desired.name, action, cause).await
}

/// The same by the role's name.
pub async fn report_on(ctx: &Context, subject: &Subject, role: &str, action: &Action, cause: Cause) -> Change {
    let drift = cause == Cause::Drift;
    let reason = match action {
        _ if drift => Reason::DriftRepaired,
        Action::CreateRole { .. } | Action::CreatePolicy { .. } => Reason::Created,
        Action::DeleteRole | Action::DeletePolicy(_) => Reason::Deleted,
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
