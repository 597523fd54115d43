//! What the ServiceAccounts of a role need beside its trust policy, and how that stands: the condition `IdentityBound`.
//!
//! It begins once the role is in AWS, and ends before it goes. Nothing here changes `Ready`, which speaks of the role:
//! a ServiceAccount that is missing, or that belongs to another role, is no fault of it.

mod annotation;
mod association;
mod condition;
mod looks;
mod pods;
mod provider;
mod rival;
mod watch;

pub use provider::Providers;
pub use watch::{AccountScope, Watched, accounts, serve};

use self::association::{Associated, ELSEWHERE_KEPT, Eks};
use self::condition::{Finding, Findings};
use self::looks::Looks;
use super::apply::{Case, of_aws};
use super::context::{Context, RawRole};
use super::events::Tone;
use super::failure::Failure;
use super::roles::Outcome;
use super::subject::Subject;
use crate::api::iamrole::Mode;
use crate::api::workload::{BoundServiceAccount, ClassWorkloadIdentity, WorkloadStatus};
use crate::api::{IamRoleClass, IamRoleStatus};
use crate::aws::Account;
use crate::role::workload::{is_of_issuer, workload};
use crate::role::{Owner, Workload};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The prefix of the annotations that AWS's own webhook reads by default.
pub const DEFAULT_PREFIX: &str = "eks.amazonaws.com";
/// What is missing, or in the way, is looked for again after so long; most of it wakes us by itself.
const AGAIN: Duration = Duration::from_mins(1);
/// The same for what EKS does not know yet of what was just written to IAM.
const SOON: Duration = Duration::from_secs(5);

/// What the operator was told about ServiceAccounts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Annotate ServiceAccounts, which takes rights of its own.
    pub annotate: bool,
    /// Prefix of the annotations, without the slash.
    pub prefix: String,
    /// Look for pods without credentials, which takes rights of its own.
    pub check_pods: bool,
}

/// What all reconciliations share of ServiceAccounts.
pub struct Workloads {
    /// All ServiceAccounts that are watched; `None`: they are not annotated.
    pub accounts: Option<Vec<AccountScope>>,
    /// Prefix of the annotations, without the slash.
    pub prefix: String,
    /// Whether pods without credentials are looked for.
    pub check_pods: bool,
    /// OIDC providers, as last seen.
    pub providers: Providers,
    /// Associations of EKS Pod Identity, as last seen.
    pub looks: Looks,
}

impl Default for Workloads {
    fn default() -> Self {
        Self {
            accounts: None,
            prefix: DEFAULT_PREFIX.to_owned(),
            check_pods: false,
            providers: Providers::default(),
            looks: Looks::default(),
        }
    }
}

/// One role and its ServiceAccounts.
#[derive(Clone, Copy)]
struct Binding<'a> {
    subject: &'a Subject,
    ctx: &'a Context,
    /// ARN of the role.
    arn: &'a str,
    /// The annotation by which old SDKs ask STS in their own region.
    regional: Option<bool>,
}

/// Gives the ServiceAccounts what they need, takes it from those that are not listed any more, and says how it stands.
/// The role itself is as it should be, as last seen.
pub async fn bind(subject: &mut Subject, ctx: &Context, case: Case<'_>, mut outcome: Outcome) -> Outcome {
    let arn = outcome.status.role.as_ref().and_then(|role| role.arn.clone());
    let (Some(arn), Mode::Enforce) = (arn, case.settings.mode) else { return outcome };
    let class_identity = case.class.spec.workload_identity.as_ref();
    let regional = class_identity.and_then(|class| class.sts_regional_endpoints);
    let wanted = wanted(subject, ctx, case);
    let mut findings = Findings::default();
    let associated = Box::pin(associate(subject, ctx, case, wanted.as_ref(), &mut outcome, &mut findings)).await;
    let subject = &*subject;
    let binding = Binding { subject, ctx, arn: &arn, regional };
    let annotated = binding.annotations(wanted.as_ref(), &mut findings).await;
    if let Some(irsa) = wanted.as_ref().and_then(|wanted| wanted.irsa.as_ref()) {
        findings.extend(ctx.workloads.providers.check(case.account, irsa, outcome.handled).await);
    }
    let mut now = made_for(ctx, case, wanted.as_ref(), status(annotated, associated));
    if let Some(wanted) = &wanted {
        now.pods_without_credentials = binding.pods(wanted, &mut findings).await;
    }
    if findings.is_open() {
        let again = if findings.is_soon() { SOON } else { AGAIN };
        outcome.again = Some(outcome.again.map_or(again, |before| before.min(again)));
    }
    if (findings.pass() || findings.is_starting()) && condition::is_current(&outcome.status, subject.generation) {
        let before = outcome.status.workload_identity.take().unwrap_or_default();
        let kept = made_for(ctx, case, wanted.as_ref(), before);
        outcome.status.workload_identity = (kept != WorkloadStatus::default()).then_some(kept);
        return outcome;
    }
    outcome.status.workload_identity = (now != WorkloadStatus::default()).then_some(now);
    let names: Vec<&str> = wanted.iter().flat_map(|wanted| &wanted.accounts).map(String::as_str).collect();
    let shown = wanted.is_some() || !findings.is_clear();
    let listed = shown.then(|| findings.verdict(&names, &arn));
    let news = condition::write(&mut outcome.status, listed.as_ref(), subject.generation);
    if let Some(news) = news {
        tracing::info!(reason = news.reason.as_str(), message = news.message, "ServiceAccounts");
    }
    // What passes within seconds is no event.
    if let Some(news) = news.filter(|_| !(findings.pass() && findings.is_soon())) {
        let tone = if news.is_bound() { Tone::Normal } else { Tone::Warning };
        let said = (news.reason.as_str(), &news.message);
        if ctx.memory.with(&subject.uid, |entry| entry.tells_of_binding(&said)) {
            ctx.events.publish(&subject.reference(), tone, news.reason, "Bind", &news.message).await;
        }
    }
    if ctx.workloads.check_pods && listed.is_some() {
        let left = ctx.workloads.looks.until_pods(&subject.uid, news.is_some());
        outcome.again = outcome.again.into_iter().chain(left).min();
    }
    outcome
}

/// The status of a role whose ServiceAccounts nobody looks after: what was said of them would never be taken back. What they
/// were given stays on record.
#[must_use]
pub fn unspoken(mut status: IamRoleStatus) -> IamRoleStatus {
    condition::write(&mut status, None, 0);
    status
}

/// Brings EKS to what is wanted, and status first to what is about to be made there.
async fn associate(
    subject: &mut Subject,
    ctx: &Context,
    case: Case<'_>,
    wanted: Option<&Workload>,
    outcome: &mut Outcome,
    findings: &mut Findings,
) -> Associated {
    let arn = outcome.status.role.as_ref().and_then(|role| role.arn.clone()).unwrap_or_default();
    let (owner, fresh) = (subject.owner(ctx, case.class), outcome.verdict.is_some());
    let mut first = Findings::default();
    let binding = Binding { subject, ctx, arn: &arn, regional: None };
    let to_eks = eks(binding, case.class, case.account, &owner);
    let mut associated = to_eks.bring_about(wanted, fresh, &mut outcome.status, &mut first).await;
    if associated.announced.is_empty() {
        first.into_iter().for_each(|finding| findings.extend(Some(finding)));
        return associated;
    }
    if let Err(failure) = announce(subject, ctx, &associated, &mut outcome.status).await {
        first.into_iter().for_each(|finding| findings.extend(Some(finding)));
        findings.unknown(failure.reason, failure.message);
        return associated;
    }
    let binding = Binding { subject, ctx, arn: &arn, regional: None };
    let to_eks = eks(binding, case.class, case.account, &owner);
    associated = to_eks.bring_about(wanted, fresh, &mut outcome.status, findings).await;
    if !associated.announced.is_empty() {
        findings.extend(Some(Finding::soon("associations have just gone; they are made anew")));
    }
    associated
}

/// Writes down which associations are about to be made: a lost answer, or the end of the process, must leave a trace.
async fn announce(
    subject: &mut Subject,
    ctx: &Context,
    associated: &Associated,
    status: &mut IamRoleStatus,
) -> Result<(), Failure> {
    let mark = |identity: &mut WorkloadStatus| {
        for name in &associated.announced {
            let entry = identity.service_accounts.iter_mut().find(|entry| entry.name == *name);
            if let Some(entry) = entry {
                // One of another cluster would else be forgotten.
                let elsewhere = entry.association_arn.take().filter(|arn| associated.elsewhere.contains(arn));
                identity.associations_elsewhere.extend(elsewhere);
                entry.associating = Some(true);
            } else {
                let name = name.clone();
                let begun = BoundServiceAccount { name, associating: Some(true), ..BoundServiceAccount::default() };
                identity.service_accounts.push(begun);
            }
        }
        identity.associations_elsewhere.sort();
        identity.associations_elsewhere.dedup();
    };
    mark(status.workload_identity.get_or_insert_default());
    subject.speak_of_now(status, || "EKS Pod Identity associations are being made".to_owned());
    let mut begun = subject.status.clone();
    begun.conditions.clone_from(&status.conditions);
    begun.observed_generation = status.observed_generation;
    mark(begun.workload_identity.get_or_insert_default());
    begun.last_changes.clone_from(&status.last_changes);
    subject.write_status(ctx, begun).await
}

/// Takes from the ServiceAccounts what they were given, before the role goes. What is gone already is fine.
pub async fn unbind(
    subject: &Subject,
    ctx: &Context,
    class: &IamRoleClass,
    account: &Account,
    owner: &Owner,
) -> Result<(), Failure> {
    let binding = Binding { subject, ctx, arn: "", regional: None };
    binding.release_all().await?;
    let left = eks(binding, class, account, owner).leave_all().await;
    left.map_err(|error| of_aws(ctx, class, error))
}

fn eks<'a>(binding: Binding<'a>, class: &'a IamRoleClass, account: &'a Account, owner: &'a Owner) -> Eks<'a> {
    let managed = class.spec.workload_identity.as_ref().is_some_and(ClassWorkloadIdentity::manages_associations);
    Eks { binding, account, owner, class, managed }
}

/// An object is gone: those that wait for one of its ServiceAccounts are woken.
pub fn gone(role: &RawRole, ctx: &Context) {
    let (namespace, uid) = (&role.metadata.namespace, &role.metadata.uid);
    let forget = |uid: &Option<String>| uid.iter().for_each(|uid| ctx.workloads.looks.forget(uid));
    forget(uid);
    let namespace = namespace.as_deref().unwrap_or_default();
    for other in role.said.service_accounts.iter().flat_map(|account| ctx.listing(namespace, account)) {
        if other.metadata.uid != *uid {
            forget(&other.metadata.uid);
            ctx.wake_role(&other);
        }
    }
    let name = role.metadata.name.as_deref().unwrap_or_default();
    if !ctx.has_others(namespace, name) {
        ctx.workloads.looks.forget_namespace(namespace);
        ctx.aws.forget_associations(namespace);
    }
}

/// The ServiceAccounts that the spec lists. It was accepted just before, or when it was applied.
fn wanted(subject: &Subject, ctx: &Context, case: Case<'_>) -> Option<Workload> {
    let owner = subject.owner(ctx, case.class);
    workload(case.spec, case.facts(ctx, &owner), &mut Vec::new())
}

/// For which cluster the role was made, so far as anything of it is of one.
fn made_for(ctx: &Context, case: Case<'_>, wanted: Option<&Workload>, status: WorkloadStatus) -> WorkloadStatus {
    let needs_issuer = wanted.is_some_and(|wanted| wanted.irsa.is_some()) || is_of_issuer(case.spec, &case.class.spec);
    let issuer = ctx.issuer.get().filter(|_| needs_issuer).map(str::to_owned);
    WorkloadStatus { issuer, cluster_arn: wanted.and_then(|wanted| wanted.cluster_arn.clone()), ..status }
}

fn status(annotated: BTreeSet<String>, associated: Associated) -> WorkloadStatus {
    let mut accounts: BTreeMap<String, BoundServiceAccount> = BTreeMap::new();
    for name in annotated {
        accounts.entry(name).or_default().annotated = Some(true);
    }
    let associations_elsewhere =
        associated.elsewhere.into_iter().chain(associated.returned).take(ELSEWHERE_KEPT).collect();
    for (name, arn) in associated.here {
        let entry = accounts.entry(name).or_default();
        entry.associating = arn.is_none().then_some(true);
        entry.association_arn = arn;
    }
    let named = |(name, account)| BoundServiceAccount { name, ..account };
    let service_accounts = accounts.into_iter().map(named).collect();
    WorkloadStatus { service_accounts, associations_elsewhere, ..WorkloadStatus::default() }
}

/// Whether the cluster has another issuer or ARN than the trust policy was made for: it is made anew, and that is no
/// drift.
pub fn has_moved(subject: &Subject, ctx: &Context, account: &Account) -> bool {
    let Some(made) = &subject.status.workload_identity else { return false };
    let issuer = made.issuer.as_ref().is_some_and(|issuer| ctx.issuer.get().is_some_and(|now| now != issuer));
    let arn = ctx.cluster.eks.arn_in(&account.account);
    issuer || made.cluster_arn.as_ref().is_some_and(|made| arn.is_ok_and(|now| now != *made))
}
