//! Makes AWS match: claim, finalizer, observe, plan, intent, execute, status.

use super::advise::{advise, advise_of_kept};
use super::carry::{Carried, LAG, Run, SHORT};
use super::contested::{contested, name_the_dead};
use super::context::Context;
use super::failure::Failure;
use super::identity;
use super::intent::role_ref;
use super::judge::{judge, missing};
use super::memory::{jitter, share};
use super::preview::preview;
use super::recover::{Kept, kept};
use super::refused::{accepted, ignored};
use super::roles::{Outcome, Setback, Stepped, class_ref, interval, look_again, period, release_name};
use super::status::{Verdict, find, is_ready, show_left};
use super::subject::Subject;
use super::sweeps::{UNSEEN, patience};
use super::workload;
use crate::api::iamrole::{Adoption, Cause, Mode, Origin, WhenUnlisted};
use crate::api::{ConditionType, IamRoleClass, IamRoleSpec, IamRoleStatus, Reason};
use crate::aws::{Account, AwsError, Kind};
use crate::role::contest::Contest;
use crate::role::desired::Facts;
use crate::role::recent::{MISSES_APART, Recent};
use crate::role::settings::settings;
use crate::role::{Asked, Desired, Observed, Owner, Plan, Record, Settings, plan};
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A role just created may be missing in reads for so long.
pub const YOUNG: Duration = Duration::from_mins(1);
/// Create, then read what was there already, then work on that.
const ROUNDS: usize = 3;

/// What one reconciliation works on.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The spec.
    pub spec: &'a IamRoleSpec,
    /// The class.
    pub class: &'a Arc<IamRoleClass>,
    /// Both put together.
    pub settings: &'a Settings,
    /// The class's account.
    pub account: &'a Arc<Account>,
}

impl<'a> Case<'a> {
    /// What else than spec and class decides what is wanted.
    #[must_use]
    pub fn facts(&self, ctx: &'a Context, owner: &'a Owner) -> Facts<'a> {
        facts(ctx, self.class, self.account, owner)
    }
}

/// What decides what is wanted beside a spec.
#[must_use]
pub fn facts<'a>(ctx: &'a Context, class: &'a IamRoleClass, account: &'a Account, owner: &'a Owner) -> Facts<'a> {
    Facts {
        owner,
        account: &account.account,
        class_name: class.metadata.name.as_deref().unwrap_or_default(),
        class: &class.spec,
        boundaries: &[],
        limits: &account.quotas.limits,
        issuer: ctx.issuer.get(),
    }
}

/// What is to be done, after AWS was asked where need be.
enum Decision {
    /// Do this; `Observed` if the role was read.
    Do(Plan, Option<Box<Observed>>),
    /// Take a foreign role over.
    Adopt(Plan, Box<Observed>),
    /// Look again in so long: what was read may be from before a write of ours, or an answer from the past.
    Later(Duration),
}

/// Brings AWS to what spec and class say, or reports what would be done.
pub async fn apply(subject: &mut Subject, ctx: &Context, case: Case<'_>, status: IamRoleStatus) -> Stepped<Outcome> {
    let owner = subject.owner(ctx, case.class);
    let desired = accepted(subject, ctx, case, &owner, &status).await?;
    Box::pin(advise(subject, ctx, case, &desired)).await;
    let mut status = IamRoleStatus { role: subject.status.role.clone(), ..status };
    let early = |failure| Setback::early(failure, status.clone());
    if case.settings.mode != Mode::Enforce {
        // Who only looks keeps nobody from the name.
        release_name(ctx, &subject.uid);
        return Box::pin(preview(subject, ctx, case, desired, workload::unspoken(status))).await;
    }
    if let Err(failure) = claim(subject, ctx, &desired)
        && !identity::has_role(ctx, case, &desired).await.map_err(early)?
    {
        return Err(early(failure));
    }
    subject.add_finalizer(ctx).await.map_err(early)?;
    hold_class(ctx, case.class).await.map_err(early)?;
    if let Some(later) = not_due(subject, ctx, case, &desired) {
        // It was its class, say, that could not be asked; whatever comes is another failure.
        ctx.memory.with(&subject.uid, super::memory::Entry::succeed);
        return Ok(look_again(subject, Some(later)));
    }
    let mut desired = desired;
    let kept = kept(subject, case.class);
    if case.settings.when_unlisted == WhenUnlisted::Remove {
        status.unlisted.clone_from(&kept);
    }
    desired.exceptions.keep_found(kept);
    let unknown = status.role.is_none();
    let mut work = Work {
        ctx,
        case,
        desired,
        status,
        changed: false,
        closed: false,
        lost: None,
        unknown,
        begun: Timestamp::now(),
    };
    work.status.plan.clear();
    work.status.plan_count = None;
    Box::pin(work.run(subject)).await
}

/// A settled role that something woke (our own finalizer, a class that says the same) is not read before
/// its time. The time is `None` when it is due.
fn not_due(subject: &Subject, ctx: &Context, case: Case<'_>, desired: &Desired) -> Option<Duration> {
    let settled = subject.is_settled(case.class);
    if !settled || subject.requested().is_some() {
        return None;
    }
    let (account, now) = (&case.account.account.id, Instant::now());
    let walks = ctx.sweeps.cover(&case.class.spec, account);
    let next = ctx.memory.with(&subject.uid, |entry| {
        if entry.next_check.is_none() {
            let every = period(case.class);
            if walks {
                // The first walk of this process shows it.
                ctx.sweeps.ask(account, now);
                entry.next_check = Some(now + jitter(patience(every)));
            } else if !Record::from_status(&subject.status).has_rests(desired) {
                // A thousand others are looked at for the first time now.
                entry.next_check = Some(now + share(every));
            }
        }
        entry.next_check.filter(|_| !entry.suspect)
    })?;
    let later = next.saturating_duration_since(now);
    (!later.is_zero()).then_some(later)
}

fn claim(subject: &Subject, ctx: &Context, desired: &Desired) -> Result<(), Failure> {
    let exists = |other: &super::claims::Claimant| {
        let found = ctx.cached_role(&other.namespace, &other.name);
        found.is_some_and(|role| role.metadata.uid.as_deref() == Some(other.uid.as_str()))
    };
    ctx.claims.claim(&desired.account.id, &desired.name, &subject.claimant(), exists).map_err(|first| {
        Failure::on_change(
            Reason::RoleOwnedByOther,
            format!(
                "IamRole {}/{} came first and uses role {} of account {}; choose another roleName",
                first.namespace, first.name, desired.name, desired.account.id
            ),
        )
    })
}

/// A failed call. Without credentials it is the class that is not ready: it is looked at at once, and its
/// condition tells why.
pub fn of_aws(ctx: &Context, class: &IamRoleClass, error: AwsError) -> Failure {
    if error.kind != Kind::NoCredentials {
        return error.into();
    }
    super::classes::doubt(ctx, class);
    let name = class.metadata.name.as_deref().unwrap_or_default();
    Failure::soon(Reason::ClassNotReady, format!("IamRoleClass {name} is not ready: {error}"))
}

/// A class in use must not vanish: its roles could then not be deleted.
async fn hold_class(ctx: &Context, class: &IamRoleClass) -> Result<(), Failure> {
    super::classes::add_finalizer(ctx, class).await.map_err(super::finalizer::moved)
}

/// A number with its noun.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// One reconciliation that may change AWS.
pub(super) struct Work<'a> {
    pub(super) ctx: &'a Context,
    pub(super) case: Case<'a>,
    pub(super) desired: Desired,
    pub(super) status: IamRoleStatus,
    /// Something was changed in AWS in this reconciliation.
    changed: bool,
    /// A role is created with a trust that lets nobody in, since its own names principals that don't exist (yet).
    closed: bool,
    /// The role is ours, and what status knew of it is lost: this was found on it and is kept.
    pub(super) lost: Option<Kept>,
    /// Status had no role when this began.
    pub(super) unknown: bool,
    /// When this began, by the wall clock.
    pub(super) begun: Timestamp,
}

impl Work<'_> {
    pub(super) fn early(&self, failure: Failure) -> Box<Setback> {
        Box::new(Setback { pending: self.changed, ..*Setback::early(failure, self.status.clone()) })
    }

    async fn run(&mut self, subject: &mut Subject) -> Stepped<Outcome> {
        let settled = subject.is_settled(self.case.class);
        let known = subject.status.role.is_some();
        // Of an edit in between status need not tell: it names what is made, and not what it says.
        let generation = subject.generation;
        let same = subject.status.observed_generation == Some(generation);
        let earlier = if same { generation } else { generation.saturating_sub(1) };
        let unfinished = known && !is_ready(&subject.status.conditions, generation);
        self.ctx.memory.with(&subject.uid, |entry| {
            if entry.inherited.is_none() && unfinished {
                entry.recent.inherit(earlier);
            }
            entry.inherited.get_or_insert(known);
        });
        let cause = cause(self.ctx, subject, settled, self.case.class);
        self.adoption_settles(subject)?;
        self.status.class = Some(class_ref(self.case.class));
        for round in 0..ROUNDS {
            let decision = self.decide(subject, round > 0).await?;
            let (mut plan, observed, adopting) = match decision {
                Decision::Do(plan, observed) => (plan, observed, false),
                Decision::Adopt(plan, observed) => (plan, Some(observed), true),
                Decision::Later(delay) if settled => return Ok(look_again(subject, Some(delay))),
                Decision::Later(delay) => {
                    let message = format!("AWS does not show yet what was written to role {}", self.desired.name);
                    return Err(self.early(Failure::wait(delay.min(LAG), message)));
                }
            };
            if let Some(left) = self.unsettled(subject).filter(|_| settled && !plan.steps.is_empty()) {
                return Ok(look_again(subject, Some(left)));
            }
            if let Some(observed) = &observed {
                let kept = plan.kept_inline(observed);
                Box::pin(advise_of_kept(subject, self.ctx, self.case, &self.desired, kept)).await;
            }
            let contests = self.withhold(subject, &mut plan, observed.as_deref());
            self.intend(subject, &plan, observed.as_deref(), adopting).await?;
            let mut record = Record::from_status(&self.status);
            let looked = round > 0 || observed.is_some();
            let Self { ctx, case, ref desired, closed, .. } = *self;
            let before = observed.as_deref();
            let run = Run { ctx, subject, case, desired, why: cause, looked, closed, before };
            let carried = run.carry_out(&plan, &mut record).await;
            self.changed |= !carried.changes.is_empty();
            self.remember(record, &carried);
            self.note_repairs(subject, &plan, observed.as_deref(), &carried);
            self.closed |= carried.unknown_principal;
            if carried.already_exists || carried.unknown_principal {
                continue;
            }
            if adopting {
                if let Some(failure) = contested(&contests, &self.desired.name) {
                    return Err(self.early(failure));
                }
                return self.adopted(subject, &carried);
            }
            self.tell_recovered(subject).await;
            return self.close(subject, &plan, observed.as_deref(), &carried, &contests);
        }
        Err(self.early(self.contradiction(subject)))
    }

    /// What an attempt of ours has made comes to light while reads lag; what does not is for somebody to look at.
    fn contradiction(&self, subject: &Subject) -> Failure {
        let role = &self.desired.name;
        let message = format!("AWS says that role {role} exists and does not exist at once; looking again");
        let now = Instant::now();
        let since = self.ctx.memory.with(&subject.uid, |entry| *entry.contradicted.get_or_insert(now));
        if now.saturating_duration_since(since) < self.ctx.settle {
            return Failure::wait(LAG, message);
        }
        Failure::slow(Reason::Rejected, message)
    }

    /// Reads what must be read and plans. A role that never was is created without a read.
    async fn decide(&mut self, subject: &Subject, look: bool) -> Stepped<Decision> {
        let mut record = Record::from_status(&self.status);
        let fresh = !record.role_exists() && self.desired.adoption != Adoption::Required;
        if fresh && !look {
            return Ok(Decision::Do(self.create(&record), None));
        }
        let account = self.case.account;
        let asked = Asked::new(Some(&self.desired), &record);
        let state = account.observe(&self.desired.name, &asked).await;
        let state = state.map_err(|error| self.early(of_aws(self.ctx, self.case.class, error)))?;
        let unseen = asked.unseen(&state.own, &state.profiles);
        let gone = self.recent(subject, |recent, now, settle| recent.miss(&unseen, now, settle));
        record.release(&self.desired, &gone);
        let lacks = record.has_made(unseen.difference(&gone), &self.desired);
        record.clone().into_status(&mut self.status);
        let Some(observed) = state.role else {
            self.absent(subject, &record)?;
            return Ok(Decision::Do(self.create(&record), None));
        };
        self.ctx.memory.with(&subject.uid, |entry| (entry.first_miss, entry.contradicted) = (None, None));
        if shows_departed(self.ctx, &self.desired.account.id, &observed) {
            return Ok(Decision::Later(SHORT));
        }
        let ownership = judge(&self.desired, &observed).map_err(|failure| {
            record.withdraw_role();
            record.clone().into_status(&mut self.status);
            self.early(failure)
        })?;
        if !ownership.is_ours() {
            record.withdraw_other(&observed.id);
            let plan = plan::adopt(&self.desired, record.origin_of(&observed));
            record.into_status(&mut self.status);
            return Ok(Decision::Adopt(plan, Box::new(observed)));
        }
        let observed = if self.is_lost(subject, &record, &observed) {
            self.recover(&mut record, observed).await?
        } else {
            observed
        };
        if shows_departed(self.ctx, &self.desired.account.id, &observed) {
            return Ok(Decision::Later(SHORT));
        }
        if let Some(delay) = self.is_past(subject, &observed, &asked, lacks) {
            return Ok(Decision::Later(delay));
        }
        let recent = self.unsettled(subject).is_some();
        if !recent {
            record.prune(&self.desired, &observed);
            record.clone().into_status(&mut self.status);
        }
        let mut plan = plan::update(&self.desired, &observed, &record, account.quotas.attachments, recent);
        if plan.barred {
            return Err(self.barred(subject, record, &observed, &plan));
        }
        self.recent(subject, |recent, _, _| recent.drop_repeats(&mut plan, &observed, &account.account));
        if self.hides(subject).is_some() {
            plan.hold_back();
        }
        let (basis, settled) = ((subject.generation, class_ref(self.case.class)), subject.is_settled(self.case.class));
        let before = self
            .ctx
            .memory
            .with(&subject.uid, |entry| entry.found_before(basis, &observed.id, settled, &plan.strangers));
        plan.have_wait(&before);
        Ok(Decision::Do(plan, Some(Box::new(observed))))
    }

    /// Nothing is done. The role is on record all the same, or it would be looked for as a new one each time; and what was
    /// made under another class stays with that.
    fn barred(&mut self, subject: &Subject, mut record: Record, observed: &Observed, plan: &Plan) -> Box<Setback> {
        record.role = Some(role_ref(&self.desired, Some(observed), record.role.as_ref(), Origin::Created));
        record.into_status(&mut self.status);
        if subject.status.class.is_some() {
            self.status.class.clone_from(&subject.status.class);
        }
        self.early(Failure::problems(&plan.refused))
    }

    /// When to look again where the read is from before a write of ours, or where what AWS made is not shown: that is
    /// gone only if it is missing for longer.
    fn is_past(&self, subject: &Subject, observed: &Observed, asked: &Asked, lacks: bool) -> Option<Duration> {
        self.recent(subject, |recent, now, settle| {
            let left = recent.unsettled(now, settle).unwrap_or(SHORT);
            let past = recent.is_past(observed, asked, now, settle).then_some(left);
            past.or_else(|| lacks.then(|| left.max(MISSES_APART)))
        })
    }

    /// For how long a difference may still be the past, as after our own write or soon after the start.
    fn unsettled(&self, subject: &Subject) -> Option<Duration> {
        self.recent(subject, |recent, now, settle| recent.unsettled(now, settle))
    }

    /// For how long a read may hide what was written for another spec.
    fn hides(&self, subject: &Subject) -> Option<Duration> {
        self.recent(subject, |recent, now, settle| recent.hides(subject.generation, now, settle))
    }

    fn recent<T>(&self, subject: &Subject, ask: impl FnOnce(&mut Recent, Duration, Duration) -> T) -> T {
        let (now, settle) = (self.ctx.started.elapsed(), self.ctx.settle);
        self.ctx.memory.with(&subject.uid, |entry| ask(&mut entry.recent, now, settle))
    }

    /// An instance profile of another name, which an interrupted attempt may have left, is not forgotten: it goes once
    /// the role is there, and the wanted one follows.
    fn create(&self, record: &Record) -> Plan {
        let known = record.profile.as_ref().filter(|_| self.desired.profile.is_some());
        let other = known.is_some_and(|known| !self.desired.uses_profile(&known.name));
        let without = other.then(|| Desired { profile: None, ..self.desired.clone() });
        let desired = without.as_ref().unwrap_or(&self.desired);
        let plan = if self.closed { plan::create_closed(desired) } else { plan::create(desired) };
        Plan { unfinished: other, ..plan }
    }

    /// The role is not there: wait, look twice, or go on to create it.
    fn absent(&self, subject: &Subject, record: &Record) -> Stepped<()> {
        let required = self.desired.adoption == Adoption::Required;
        let goes_on = || if required { Err(self.early(missing(&self.desired))) } else { Ok(()) };
        if !record.role_exists() {
            return goes_on();
        }
        let now = Instant::now();
        let wait = self.ctx.memory.with(&subject.uid, |entry| {
            let young = entry.create_attempt.is_some_and(|at| now.saturating_duration_since(at) < YOUNG);
            let first = *entry.first_miss.get_or_insert(now);
            let apart = now.saturating_duration_since(first);
            (young || apart < MISSES_APART).then(|| MISSES_APART.saturating_sub(apart).max(Duration::from_secs(1)))
        });
        let message = format!("role {} is missing in AWS; looking once more before it is made anew", self.desired.name);
        wait.map_or_else(goes_on, |delay| Err(self.early(Failure::wait(delay, message))))
    }

    fn remember(&mut self, record: Record, carried: &Carried) {
        record.into_status(&mut self.status);
        let mut changes = carried.changes.clone();
        changes.reverse();
        changes.append(&mut self.status.last_changes);
        changes.truncate(super::status::CHANGES_KEPT);
        self.status.last_changes = changes;
    }

    /// Success, or everything that went wrong in one failure.
    fn close(
        &mut self,
        subject: &Subject,
        plan: &Plan,
        observed: Option<&Observed>,
        carried: &Carried,
        contests: &[Contest],
    ) -> Stepped<Outcome> {
        self.status.unlisted.clone_from(&plan.unlisted);
        // First of all: only its reason says that there is drift which is not repaired, also after a restart.
        let mut failures: Vec<Failure> = contested(contests, &self.desired.name).into_iter().collect();
        failures.extend(carried.failures.iter().cloned());
        if !plan.refused.is_empty() {
            failures.push(Failure::problems(&plan.refused));
        }
        failures.extend(ignored(self.case));
        if let Some(mut failure) = Failure::merged(&failures) {
            name_the_dead(&mut failure, &self.desired, observed);
            let left = plan.steps.iter().enumerate().filter(|(i, _)| carried.left.contains(i)).map(|(_, step)| step);
            show_left(&mut self.status, &self.desired.name, contests, left);
            return Err(Setback::pending(failure, self.status.clone()));
        }
        if plan.unfinished {
            let message = "the old instance profile goes before the new one is made";
            return Err(Setback::pending(Failure::wait(LAG, message), self.status.clone()));
        }
        if plan.held_back {
            let message = "AWS may not show yet what was written for the spec before; what comes follows once it does";
            let left = self.hides(subject).unwrap_or(SHORT);
            return Err(Setback::pending(Failure::wait(left, message), self.status.clone()));
        }
        let has_rests = self.settle_record(plan, observed);
        let arn = self.status.role.as_ref().and_then(|role| role.arn.clone()).unwrap_or_default();
        let verdict = Verdict::applied(format!("{arn} is as specified"));
        let was_ready =
            find(&subject.status.conditions, ConditionType::Ready).is_some_and(|ready| ready.status == "True");
        if !was_ready {
            tracing::info!(arn, "applied");
        }
        let (now, settle) = (self.ctx.started.elapsed(), self.ctx.settle);
        let class = self.case.class;
        let walks = self.ctx.sweeps.cover(&class.spec, &self.case.account.account.id);
        let usual = interval(class) * if walks { UNSEEN } else { 1 };
        let again = self.ctx.memory.with(&subject.uid, |entry| {
            // An answer was lost, or an earlier process knew more.
            let taken_up = entry.inherited == Some(true) && now < settle && !subject.is_settled(self.case.class);
            entry.unsure = taken_up || entry.recent.is_in_doubt(now, settle);
            if observed.is_some() {
                entry.looked(Instant::now());
            }
            let soon = entry.unsure || has_rests || entry.repairs.1.unconfirmed();
            Some(if soon { settle } else { usual })
        });
        if !walks {
            self.ctx.sweeps.reconsider(&class.spec, &self.case.account.account.id, Instant::now());
        }
        let handled = subject.requested().is_some();
        Ok(Outcome { status: self.status.clone(), verdict: Some(verdict), again, rests: again, handled })
    }

    /// Whether something of an earlier spec may come to light yet.
    fn settle_record(&mut self, plan: &Plan, observed: Option<&Observed>) -> bool {
        let mut record = Record::from_status(&self.status);
        if observed.is_some() {
            let before = record.role.take();
            let role = role_ref(&self.desired, observed, before.as_ref(), Origin::Created);
            // Status may have known nothing of an adoption; the tags do.
            let Case { spec, class, .. } = self.case;
            self.status.effective = Some(settings(spec, Some(&class.spec), role.origin, None).effective());
            record.role = Some(role);
        }
        if let Some(observed) = observed {
            record.follow_versions(&self.desired, plan, observed);
        }
        record.settle(&self.desired, observed);
        let has_rests = record.has_rests(&self.desired);
        record.into_status(&mut self.status);
        has_rests
    }
}

/// Whether the read shows a role or policy that we deleted a moment ago: another of its name may be there since, and the
/// tags of the old one would tell whose that is.
pub fn shows_departed(ctx: &Context, account: &str, observed: &Observed) -> bool {
    let (now, settle) = (ctx.started.elapsed(), ctx.settle);
    ctx.sweeps.departed(|departed| {
        let gone = |name: &str, id: &str| departed.shows_past(account, name, id, now, settle);
        gone(&observed.name, &observed.id) || observed.own.iter().any(|(arn, policy)| gone(arn, &policy.id))
    })
}

/// The object is suspended by its annotation. If it was as wanted, whatever differs when it is taken up again is somebody
/// else's doing. (A suspension in the spec or in the class is a new generation, and all that follows is told as of that.)
/// Soon after the start it may be what the process before has done.
pub fn rest(ctx: &Context, subject: &Subject, class: &IamRoleClass) {
    if subject.is_settled(class) {
        let (basis, soon) = ((subject.generation, class_ref(class)), ctx.started.elapsed() < ctx.settle);
        ctx.memory.with(&subject.uid, |entry| {
            if !entry.unsure && (!soon || entry.inherited == Some(false)) {
                entry.cause = Some((basis, Cause::Drift));
            }
        });
    }
}

/// Why there is something to do. What was found at first stays while it is retried: status has moved on by
/// then.
fn cause(ctx: &Context, subject: &Subject, settled: bool, class: &IamRoleClass) -> Cause {
    let basis = (subject.generation, class_ref(class));
    let same_generation = subject.status.observed_generation == Some(subject.generation);
    let other_class = subject.status.class.is_some() && !subject.saw(class);
    ctx.memory.with(&subject.uid, |entry| {
        let cause = match &entry.cause {
            Some((known, cause)) if *known == basis && (entry.unsure || !settled) => *cause,
            _ if settled => Cause::Drift,
            _ if same_generation && other_class => Cause::Class,
            _ => Cause::Spec,
        };
        entry.cause = Some((basis, cause));
        cause
    })
}
