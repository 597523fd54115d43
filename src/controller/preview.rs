//! Mode Observe: what would be done, and nothing done.

use super::advise::advise_of_kept;
use super::apply::{Case, count, of_aws};
use super::contested::dead_principals;
use super::context::Context;
use super::failure::Failure;
use super::judge::{judge, missing};
use super::recover::{is_lost, kept, take_up};
use super::roles::{Outcome, Setback, Stepped, class_ref, interval};
use super::status::{Tri, Verdict, show_whole_plan};
use super::subject::Subject;
use crate::api::iamrole::{Adoption, Origin, WhenUnlisted};
use crate::api::{IamRoleStatus, Reason};
use crate::role::settings::settings;
use crate::role::{Asked, Desired, Observed, Plan, Record, plan};
use k8s_openapi::jiff::Timestamp;

/// Reads, plans, and reports the plan.
pub async fn preview(
    subject: &Subject,
    ctx: &Context,
    case: Case<'_>,
    mut desired: Desired,
    mut status: IamRoleStatus,
) -> Stepped<Outcome> {
    status.class = Some(class_ref(case.class));
    let mut record = Record::from_status(&status);
    let kept = kept(subject, case.class);
    if case.settings.when_unlisted == WhenUnlisted::Remove {
        status.unlisted.clone_from(&kept);
    }
    desired.exceptions.keep_found(kept);
    let failed = |error| Setback::early(of_aws(ctx, case.class, error), status.clone());
    let asked = Asked::new(Some(&desired), &record);
    let mut role = case.account.observe(&desired.name, &asked).await.map_err(failed)?.role;
    let now = subject.status.role.is_none().then(Timestamp::now);
    if let Some(observed) =
        role.take_if(|role| desired.owner.judge(&role.tags).is_ours() && is_lost(subject, &record, role, now))
    {
        role = Some(take_up(case.account, &mut desired, &mut record, observed).await.map_err(failed)?);
    }
    let desired = &desired;
    let dead = role.as_ref().and_then(|role| dead_principals(desired, role));
    let foreign = role.as_ref().filter(|role| !desired.owner.judge(&role.tags).is_ours());
    if let Some(foreign) = foreign {
        record.withdraw_other(&foreign.id);
    }
    let plan = would_do(desired, role.as_ref(), &record, case.account.quotas.attachments)
        .map_err(|failure| Setback::early(failure, status.clone()))?;
    if plan.barred {
        status.class.clone_from(&subject.status.class);
        return Err(Setback::early(Failure::problems(&plan.refused), status));
    }
    if let Some(role) = &role {
        advise_of_kept(subject, ctx, case, desired, plan.kept_inline(role)).await;
    }
    if foreign.is_some() {
        // What applies once it is taken over, which is what somebody wants to know before.
        let Case { spec, class, .. } = case;
        let adopted = settings(spec, Some(&class.spec), Some(Origin::Adopted), subject.suspend_annotation());
        status.effective = Some(adopted.effective());
    }
    show_whole_plan(&mut status, &desired.name, &plan);
    status.unlisted.clone_from(&plan.unlisted);
    let verdict = if plan.is_empty() {
        Verdict::rest(Tri::True, Reason::Observed, format!("role {} is as specified", desired.name))
    } else {
        let refused: Vec<String> = plan.refused.iter().map(ToString::to_string).collect();
        let message = format!(
            "{} would be done, see status.plan; set mode: Enforce to do it{}{}{}{}",
            count(plan.steps.len(), "change"),
            if refused.is_empty() { "" } else { ". Refused: " },
            refused.join("; "),
            if dead.is_some() { ". " } else { "" },
            dead.unwrap_or_default(),
        );
        let mut verdict = Verdict::rest(Tri::False, Reason::ChangesPending, message);
        verdict.drift = role.is_some().then(|| (verdict.reason, verdict.message.clone()));
        verdict
    };
    let again = Some(interval(case.class));
    let handled = subject.requested().is_some();
    Ok(Outcome { status, verdict: Some(verdict), again, rests: None, handled })
}

fn would_do(desired: &Desired, role: Option<&Observed>, record: &Record, attachments: usize) -> Result<Plan, Failure> {
    let Some(observed) = role else {
        return if desired.adoption == Adoption::Required { Err(missing(desired)) } else { Ok(plan::create(desired)) };
    };
    if judge(desired, observed)?.is_ours() {
        return Ok(whole(desired, observed, record, attachments));
    }
    let origin = record.origin_of(observed);
    let (mut plan, mut observed) = (plan::adopt(desired, origin), observed.clone());
    observed.tags.extend(desired.role_tags(origin));
    let rest = plan::update(desired, &observed, record, attachments, false);
    plan.steps.extend(rest.steps);
    Ok(Plan { refused: rest.refused, unlisted: rest.unlisted, ..plan })
}

/// The plan with what follows once an instance profile of another name is gone, which is done by a plan of its own.
fn whole(desired: &Desired, observed: &Observed, record: &Record, attachments: usize) -> Plan {
    let mut first = plan::update(desired, observed, record, attachments, false);
    if first.unfinished {
        let without = Record { profile: None, ..record.clone() };
        let then = plan::update(desired, observed, &without, attachments, false);
        first.steps.extend(then.steps.into_iter().filter(|step| step.action.is_of_profile()));
        first.refused = then.refused;
        first.unfinished = false;
    }
    first
}
