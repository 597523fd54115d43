//! Associations of EKS Pod Identity: made, kept and deleted, where the class says so. Their namespace is always the
//! object's own, and what does not carry our owner tags is never changed.

use super::Binding;
use super::condition::{Finding, Findings};
use super::looks::{Look, Looks};
use super::rival::rival;
use crate::api::iamrole::{Cause, Change, Origin};
use crate::api::{IamRoleClass, IamRoleStatus, Reason};
use crate::aws::{Account, Association, AwsError, Kind, Place};
use crate::controller::apply::YOUNG;
use crate::controller::events::Tone;
use crate::controller::status::CHANGES_KEPT;
use crate::policy::Arn;
use crate::role::workload::is_name;
use crate::role::{Owner, Ownership, Workload};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;
use tokio::time::Instant;

/// What EKS says of a role that is not there, or whose trust policy does not let it in.
const REFUSED: &str = "InvalidParameterException";
/// A list may be so old where nothing but what others, or a process before, left behind is looked for: what this process
/// made is on it.
const LATELY: Duration = Duration::from_secs(10);
/// How many ARNs of other clusters status keeps.
pub const ELSEWHERE_KEPT: usize = 60;

/// The associations of a role, as status and EKS know them.
#[derive(Clone, Debug, Default)]
pub struct Associated {
    /// ARNs by ServiceAccount; `None`: asked for, and whether it was made is not known.
    pub here: BTreeMap<String, Option<String>>,
    /// ARNs of those in a cluster that is not this one (any more). Nothing is asked there: status can be forged.
    pub elsewhere: BTreeSet<String>,
    /// ARNs that status has elsewhere, and that are of this cluster (again).
    pub returned: BTreeSet<String>,
    /// ServiceAccounts whose association is made as soon as status says that it was asked for.
    pub announced: BTreeSet<String>,
}

impl Associated {
    fn knows(&self, one: &Association) -> bool {
        let of_account = self.here.get(&one.account).is_some_and(Option::is_none);
        of_account || self.returned.contains(&one.arn) || self.here.values().flatten().any(|arn| *arn == one.arn)
    }
}

/// The role's way into EKS.
#[derive(Clone, Copy)]
pub(super) struct Eks<'a> {
    pub binding: Binding<'a>,
    pub account: &'a Account,
    pub owner: &'a Owner,
    pub class: &'a IamRoleClass,
    /// The class says that the operator makes associations.
    pub managed: bool,
}

impl Eks<'_> {
    /// Brings EKS to what is listed; returns the associations that are ours. What is to be made is made once status says
    /// so, and else only announced. `fresh`: AWS was just asked for the role.
    pub async fn bring_about(
        &self,
        wanted: Option<&Workload>,
        fresh: bool,
        status: &mut IamRoleStatus,
        findings: &mut Findings,
    ) -> Associated {
        let known = self.known();
        if !known.elsewhere.is_empty() {
            findings.unknown(Reason::BindingNotManaged, out_of_reach(&known.elsewhere));
        }
        let wanted = wanted.filter(|wanted| wanted.cluster_arn.is_some());
        if !self.managed || !Account::MAKES_ASSOCIATIONS {
            if let Some(wanted) = wanted {
                findings.unknown(Reason::BindingNotManaged, self.not_managed(wanted));
            }
            return self.give_up(wanted, known, status, findings).await;
        }
        if wanted.is_none() && known.here.is_empty() && known.returned.is_empty() {
            return known;
        }
        let subject = self.binding.subject;
        let class_generation = self.class.metadata.generation.unwrap_or_default();
        let of = (subject.generation, class_generation, self.binding.arn.to_owned());
        let look = self.looks().last(&subject.uid);
        let look = look.filter(|look| !fresh && look.of == of && look.lasts());
        if let Some(look) = look {
            look.findings.into_iter().for_each(|finding| findings.extend(Some(finding)));
            return Associated { elsewhere: known.elsewhere, ..look.associated };
        }
        let mut found = Findings::default();
        let associated = self.look(wanted, known, status, &mut found).await;
        if !associated.announced.is_empty() {
            return associated;
        }
        let at = Instant::now();
        let look = Look { of, at, associated: associated.clone(), findings: found.clone().into_iter().collect() };
        self.looks().keep(&subject.uid, look);
        found.into_iter().for_each(|finding| findings.extend(Some(finding)));
        associated
    }

    /// Deletes what was made before the class said otherwise and is not wanted any more: pods would get the role by it, and
    /// its trust policy does not let them in.
    async fn give_up(
        &self,
        wanted: Option<&Workload>,
        mut known: Associated,
        status: &mut IamRoleStatus,
        findings: &mut Findings,
    ) -> Associated {
        let is_wanted = |name: &String| wanted.is_some_and(|wanted| wanted.accounts.contains(name));
        let mut goes: BTreeMap<String, Option<String>> = known.returned.iter().map(|arn| (arn.clone(), None)).collect();
        let made = known.here.iter().filter(|(name, _)| !is_wanted(name));
        goes.extend(made.clone().filter_map(|(name, arn)| Some((arn.clone()?, Some(name.clone())))));
        let unheard: BTreeSet<String> = made.filter(|(_, arn)| arn.is_none()).map(|(name, _)| name.clone()).collect();
        let Some(place) = self.place().filter(|_| Account::MAKES_ASSOCIATIONS) else { return known };
        if !unheard.is_empty() {
            match self.account.associations_within(&place, &self.binding.subject.namespace, Duration::ZERO).await {
                Ok(there) => {
                    let there = there.iter().filter(|one| unheard.contains(&one.account));
                    goes.extend(there.map(|one| (one.arn.clone(), Some(one.account.clone()))));
                    known.here.retain(|name, _| !unheard.contains(name));
                }
                Err(error) => findings.extend(Some(Finding::of_aws(&error))),
            }
        }
        for (arn, name) in goes {
            let id = arn.rsplit('/').next().unwrap_or_default();
            match self.leave(&place, id, Some(&mut *status)).await {
                Ok(_) => {
                    known.returned.remove(&arn);
                    name.map(|name| known.here.remove(&name));
                }
                Err(error) => {
                    name.map(|name| known.here.insert(name, Some(arn)));
                    findings.extend(Some(Finding::of_aws(&error)));
                }
            }
        }
        known
    }

    async fn look(
        &self,
        wanted: Option<&Workload>,
        known: Associated,
        status: &mut IamRoleStatus,
        findings: &mut Findings,
    ) -> Associated {
        let mut associated = known.clone();
        let Some(place) = self.place() else { return associated };
        // What is made or deleted by it is decided by what was there now, and never by what another one saw before.
        let namespace = &self.binding.subject.namespace;
        let there = match self.account.associations_within(&place, namespace, Duration::ZERO).await {
            Ok(there) => there,
            Err(error) => {
                findings.extend(Some(Finding::of_aws(&error)));
                return associated;
            }
        };
        let accounts: BTreeSet<&String> = wanted.iter().flat_map(|wanted| &wanted.accounts).collect();
        associated.returned.clear();
        for name in &accounts {
            let one = there.iter().find(|one| one.account == **name);
            if let Some(other) = rival(self.binding.ctx, self.binding.subject, name) {
                findings.conflict(name, super::rival::told(name, &other));
                if one.is_none() {
                    associated.here.remove(*name);
                }
                continue;
            }
            if one.is_none() && !known.here.contains_key(*name) {
                associated.announced.insert((*name).clone());
                continue;
            }
            let was_there = known.here.get(*name).is_some_and(Option::is_some);
            match self.keep(&place, name, one, was_there, status).await {
                Ok(Some(arn)) => drop(associated.here.insert((*name).clone(), Some(arn))),
                Ok(None) => drop(associated.here.remove(*name)),
                Err(finding) => findings.extend(Some(finding)),
            }
        }
        associated.here.retain(|name, _| accounts.contains(name) || there.iter().any(|one| one.account == *name));
        self.looks().keep_only(namespace, &there);
        let is_candidate = |one: &&Association| !accounts.contains(&one.account) && self.may_be_ours(one, &known);
        let candidates = self.in_turn(there.iter().filter(is_candidate));
        // Others may have looked at it meanwhile.
        for one in candidates.into_iter().filter(is_candidate) {
            match self.leave(&place, &one.id, Some(&mut *status)).await {
                Ok(_) => drop(associated.here.remove(&one.account)),
                Err(error) => {
                    // Status may have it elsewhere, or not at all.
                    if known.knows(one) {
                        associated.here.insert(one.account.clone(), Some(one.arn.clone()));
                    }
                    findings.extend(Some(Finding::of_aws(&error)));
                }
            }
        }
        associated
    }

    /// One that status knows, or that an attempt of which no answer came may have left. Others that list the
    /// ServiceAccount look after it themselves.
    fn may_be_ours(&self, one: &Association, known: &Associated) -> bool {
        let subject = self.binding.subject;
        let by_others = || {
            let listing = self.binding.ctx.listing(&subject.namespace, &one.account);
            listing.iter().any(|role| role.metadata.uid.as_deref() != Some(subject.uid.as_str()))
        };
        known.knows(one) || (!self.is_of_others(one) && !by_others())
    }

    /// In an order of this object's own: of many that look at once each asks for something else first, and for nothing that
    /// another one has asked for meanwhile.
    fn in_turn<'l>(&self, all: impl Iterator<Item = &'l Association>) -> Vec<&'l Association> {
        let mut all: Vec<&Association> = all.collect();
        all.sort_by_cached_key(|one| {
            let mut hasher = DefaultHasher::new();
            (&self.binding.subject.uid, &one.arn).hash(&mut hasher);
            hasher.finish()
        });
        all
    }

    /// Sees to the association of one ServiceAccount; its ARN if it is ours. `was_there`: status knows that it was.
    async fn keep(
        &self,
        place: &Place,
        name: &str,
        there: Option<&Association>,
        was_there: bool,
        status: &mut IamRoleStatus,
    ) -> Result<Option<String>, Finding> {
        let (subject, role) = (self.binding.subject, self.binding.arn);
        let Some(there) = there else {
            let tags = self.owner.tags(Origin::Created);
            let made = self.account.associate(place, &subject.namespace, name, role, tags.clone()).await;
            let arn = made.map_err(|error| self.late(name, &error).unwrap_or_else(|| not_made(name, error)))?;
            self.looks().seen(&subject.namespace, &arn, &tags);
            let cause = self.cause(was_there);
            self.tell(status, (Reason::Created, cause), "CreatePodIdentityAssociation", place, name, "made").await;
            return Ok(Some(arn));
        };
        let seen = self.account.association(place, &there.id).await.map_err(unknown)?;
        let Some(seen) = seen else {
            let message = format!("the association of ServiceAccount {name} has just gone; it is made anew");
            return Err(Finding::soon(message));
        };
        self.looks().seen(&seen.namespace, &seen.arn, &seen.tags);
        match self.owner.judge(&seen.tags) {
            Ownership::Ours(_) if seen.gives(role) => Ok(Some(seen.arn)),
            Ownership::Ours(_) => {
                let given = self.account.associate_anew(place, &seen.id, role).await;
                given.map_err(|error| self.late(name, &error).unwrap_or_else(|| unknown(error)))?;
                let (action, why) = ("UpdatePodIdentityAssociation", (Reason::Updated, self.cause(was_there)));
                self.tell(status, why, action, place, name, "given this role").await;
                Ok(Some(seen.arn))
            }
            // Somebody else made what is wanted: there is nothing to do, and nothing to take back.
            _ if seen.gives(role) => Ok(None),
            ownership => {
                let whose = match ownership {
                    Ownership::Other(owner) => format!("belongs to {owner}"),
                    _ => "was made by somebody else".to_owned(),
                };
                let tags = if seen.untagged { ", without session tags" } else { "" };
                let target = seen.target.map(|target| format!(", by way of it with {target}")).unwrap_or_default();
                let message = format!(
                    "ServiceAccount {name} has an association with {}{target}{tags} ({}), which {whose}; it is left \
                     untouched. Delete it in EKS, or take {name} out of spec.serviceAccounts",
                    seen.role, seen.id
                );
                Err(Finding::conflict(name, message))
            }
        }
    }

    /// EKS sees role and trust policy a little later than IAM has them, and refuses them until then.
    fn late(&self, name: &str, error: &AwsError) -> Option<Finding> {
        let (subject, ctx) = (self.binding.subject, self.binding.ctx);
        let now = ctx.started.elapsed();
        let is_young = || ctx.memory.with(&subject.uid, |entry| entry.recent.unsettled(now, YOUNG).is_some());
        (error.code.as_deref() == Some(REFUSED) && is_young()).then(|| {
            Finding::soon(format!(
                "EKS does not know the role as IAM has it (yet), so ServiceAccount {name} has no association; it is tried \
                 again. EKS says: {}",
                error.message
            ))
        })
    }

    /// Deletes an association if it is ours; whether it was.
    async fn leave(&self, place: &Place, id: &str, status: Option<&mut IamRoleStatus>) -> Result<bool, AwsError> {
        let Some(seen) = self.account.association(place, id).await? else { return Ok(true) };
        if seen.namespace != self.binding.subject.namespace {
            return Ok(false);
        }
        self.looks().seen(&seen.namespace, &seen.arn, &seen.tags);
        if !self.owner.judge(&seen.tags).is_ours() {
            return Ok(false);
        }
        if self.account.dissociate(place, id).await? {
            let mut scratch = IamRoleStatus::default();
            let status = status.unwrap_or(&mut scratch);
            let (action, name) = ("DeletePodIdentityAssociation", &seen.account);
            self.tell(status, (Reason::Deleted, Cause::Spec), action, place, name, "deleted").await;
        }
        Ok(true)
    }

    /// Deletes all that are ours, before the role goes.
    pub async fn leave_all(&self) -> Result<(), AwsError> {
        let (subject, known) = (self.binding.subject, self.known());
        let lists =
            subject.spec.as_ref().is_ok_and(|spec| spec.service_accounts.as_ref().is_some_and(|all| !all.is_empty()));
        let has_any = !known.here.is_empty() || !known.returned.is_empty();
        self.warn_of(&known.elsewhere).await;
        if !(has_any || (self.managed && lists)) || !Account::MAKES_ASSOCIATIONS {
            return Ok(());
        }
        let on_record: BTreeSet<&String> = known.here.values().flatten().chain(&known.returned).collect();
        for arn in &on_record {
            if let (Some(place), Some(id)) = (Place::of(arn), arn.rsplit('/').next()) {
                self.leave(&place, id, None).await?;
            }
        }
        // One of which no answer came is in no status, and none is where status was lost.
        let unheard = known.here.values().any(Option::is_none);
        let Some(place) = self.place().filter(|_| self.managed || unheard) else { return Ok(()) };
        let age = if unheard { Duration::ZERO } else { LATELY };
        let there = self.account.associations_within(&place, &subject.namespace, age).await?;
        let is_candidate = |one: &&Association| known.knows(one) || !self.is_of_others(one);
        let candidates = self.in_turn(there.iter().filter(|one| !on_record.contains(&one.arn)).filter(is_candidate));
        // Others may have looked at it meanwhile.
        for one in candidates.into_iter().filter(is_candidate) {
            self.leave(&place, &one.id, None).await?;
        }
        Ok(())
    }

    /// The object goes, and with it all that is known of these. They give nobody a role that is gone.
    async fn warn_of(&self, elsewhere: &BTreeSet<String>) {
        let uid = &self.binding.subject.uid;
        let left: BTreeSet<String> = elsewhere.iter().filter(|arn| self.looks().is_news(uid, arn)).cloned().collect();
        if left.is_empty() {
            return;
        }
        let (reference, note) = (self.binding.subject.reference(), out_of_reach(&left));
        tracing::warn!(associations = ?left, "left in EKS");
        self.binding.ctx.events.publish(&reference, Tone::Warning, Reason::Retained, "Delete", &note).await;
    }

    /// This cluster, as its associations are asked for.
    fn place(&self) -> Option<Place> {
        self.owner.cluster.eks.arn_in(&self.account.account).ok().and_then(|arn| Place::of(&arn))
    }

    fn is_of_others(&self, one: &Association) -> bool {
        self.looks().is_of_others(one, self.owner)
    }

    /// What status says. It can be forged: of another cluster or account nothing is asked, and what can't be an
    /// association of the role's account is nobody's.
    fn known(&self) -> Associated {
        let (mut known, here) = (Associated::default(), self.place());
        let is_here = |arn: &str| here.is_some() && Place::of(arn) == here;
        let Some(status) = &self.binding.subject.status.workload_identity else { return known };
        for account in status.service_accounts.iter().filter(|account| is_name(&account.name)) {
            match account.association_arn.as_ref().filter(|arn| self.is_possible(arn)) {
                Some(arn) if is_here(arn) => drop(known.here.insert(account.name.clone(), Some(arn.clone()))),
                Some(arn) => drop(known.elsewhere.insert(arn.clone())),
                None if account.associating == Some(true) => drop(known.here.insert(account.name.clone(), None)),
                None => {}
            }
        }
        for arn in status.associations_elsewhere.iter().filter(|arn| self.is_possible(arn)) {
            let side = if is_here(arn) { &mut known.returned } else { &mut known.elsewhere };
            side.insert(arn.clone());
        }
        known.elsewhere = known.elsewhere.into_iter().take(ELSEWHERE_KEPT).collect();
        known
    }

    fn is_possible(&self, arn: &str) -> bool {
        let account = &self.account.account;
        arn.parse::<Arn>().is_ok_and(|arn| {
            let own = (&arn.partition, &arn.account) == (&account.partition, &account.id);
            own && arn.service == "eks" && arn.resource.starts_with("podidentityassociation/")
        })
    }

    /// Why something is changed. A role is settled before EKS has what it needs, so only what was there once can have been
    /// changed by somebody else.
    fn cause(&self, was_there: bool) -> Cause {
        if was_there && self.binding.subject.is_settled(self.class) { Cause::Drift } else { Cause::Spec }
    }

    /// One event, one log line and one entry of `status.lastChanges` per change.
    async fn tell(
        &self,
        status: &mut IamRoleStatus,
        (reason, cause): (Reason, Cause),
        action: &'static str,
        place: &Place,
        name: &str,
        done: &str,
    ) {
        let subject = self.binding.subject;
        let target = format!("{}/{}/{name}", place.cluster, subject.namespace);
        let (reason, note) = match cause {
            Cause::Drift => {
                let note = format!("Somebody else changed EKS; repaired: association of ServiceAccount {name} {done}");
                (Reason::DriftRepaired, note)
            }
            _ => (reason, format!("Association of ServiceAccount {name} with cluster {} {done}", place.cluster)),
        };
        tracing::info!(action, resource = target, cause = cause.as_str(), "changed AWS");
        self.binding.ctx.events.publish(&subject.reference(), Tone::Normal, reason, action, &note).await;
        let change =
            Change { time: crate::controller::roles::now(), action: action.to_owned(), target, cause, found: None };
        status.last_changes.insert(0, change);
        status.last_changes.truncate(CHANGES_KEPT);
    }

    fn not_managed(&self, wanted: &Workload) -> String {
        let names: Vec<&str> = wanted.accounts.iter().map(String::as_str).collect();
        let place = wanted.cluster_arn.as_deref().and_then(Place::of);
        let cluster = place.map(|place| place.cluster).unwrap_or_default();
        let let_it = if Account::MAKES_ASSOCIATIONS {
            "let the operator (workloadIdentity.podIdentity.associations: Managed of the class)"
        } else {
            "use a build of the operator with EKS in it (feature eks)"
        };
        format!(
            "the operator makes no associations; see that {} have one (aws eks create-pod-identity-association \
             --cluster-name {cluster} --namespace {} --service-account NAME --role-arn {}), or {let_it}",
            names.join(", "),
            self.binding.subject.namespace,
            self.binding.arn
        )
    }

    fn looks(&self) -> &Looks {
        &self.binding.ctx.workloads.looks
    }
}

/// What can be done about associations of another cluster.
fn out_of_reach(arns: &BTreeSet<String>) -> String {
    let arns: Vec<&str> = arns.iter().map(String::as_str).collect();
    format!(
        "associations that the operator made in another cluster than cluster.arn of the chart says stay in EKS: {}; restore \
         cluster.arn, and they are deleted, or delete them (aws eks delete-pod-identity-association) and take them out of \
         status.workloadIdentity.associationsElsewhere (kubectl edit --subresource=status)",
        arns.join(", ")
    )
}

fn not_made(name: &str, error: AwsError) -> Finding {
    if error.kind != Kind::AlreadyExists {
        return unknown(error);
    }
    let message = format!("EKS has an association for ServiceAccount {name} and does not show it yet; looking again");
    Finding::soon(message)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unknown(error: AwsError) -> Finding {
    Finding::of_aws(&error)
}
