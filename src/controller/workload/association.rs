//! Associations of EKS Pod Identity: made, kept and deleted, where the class says so. Their namespace is always the
//! object's own, and what does not carry our owner tags is never changed.

use super::condition::{Finding, Findings};
use super::rival::rival;
use super::{AGAIN, Binding};
use crate::api::iamrole::{Cause, Change, Origin};
use crate::api::{IamRoleClass, IamRoleStatus, Reason};
use crate::aws::{Account, Association, AwsError, Kind, Place};
use crate::controller::events::Tone;
use crate::controller::status::CHANGES_KEPT;
use crate::policy::Arn;
use crate::role::workload::is_name;
use crate::role::{Owner, Ownership, Workload};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// ARNs of associations by ServiceAccount.
pub type Associated = BTreeMap<String, String>;

/// What was found at the last look, so that a ServiceAccount that changes leads to no call to EKS.
#[derive(Clone)]
struct Look {
    /// Generations of object and class, and the role.
    of: (i64, i64, String),
    at: Instant,
    associated: Associated,
    findings: Vec<Finding>,
}

/// What the process remembers of associations. Nothing depends on it but the number of calls.
#[derive(Default)]
pub struct Looks {
    looks: Mutex<HashMap<String, Look>>,
    /// ARNs of associations that are not ours.
    strangers: Mutex<HashSet<String>>,
}

impl Looks {
    /// The next reconciliation of the object looks anew.
    pub fn forget(&self, uid: &str) {
        lock(&self.looks).remove(uid);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Brings EKS to what is listed; returns the associations that are ours. `fresh`: AWS was just asked for the role.
    pub async fn bring_about(
        &self,
        wanted: Option<&Workload>,
        fresh: bool,
        status: &mut IamRoleStatus,
        findings: &mut Findings,
    ) -> Associated {
        let known = self.known();
        let wanted = wanted.filter(|wanted| wanted.cluster_arn.is_some());
        if !self.managed || !Account::MAKES_ASSOCIATIONS {
            if let Some(wanted) = wanted {
                findings.unknown(Reason::BindingNotManaged, self.not_managed(wanted));
            }
            return known;
        }
        if wanted.is_none() && known.is_empty() {
            return known;
        }
        let subject = self.binding.subject;
        let class_generation = self.class.metadata.generation.unwrap_or_default();
        let of = (subject.generation, class_generation, self.binding.arn.to_owned());
        let look = lock(&self.looks().looks).get(&subject.uid).cloned();
        let look =
            look.filter(|look| !fresh && look.of == of && (look.findings.is_empty() || look.at.elapsed() < AGAIN));
        if let Some(look) = look {
            look.findings.into_iter().for_each(|finding| findings.extend(Some(finding)));
            return look.associated;
        }
        let mut found = Findings::default();
        let associated = self.look(wanted, known, status, &mut found).await;
        let at = Instant::now();
        let look = Look { of, at, associated: associated.clone(), findings: found.clone().into_iter().collect() };
        lock(&self.looks().looks).insert(subject.uid.clone(), look);
        found.into_iter().for_each(|finding| findings.extend(Some(finding)));
        associated
    }

    async fn look(
        &self,
        wanted: Option<&Workload>,
        known: Associated,
        status: &mut IamRoleStatus,
        findings: &mut Findings,
    ) -> Associated {
        let mut associated = known.clone();
        let arn = wanted.and_then(|wanted| wanted.cluster_arn.as_ref());
        let place = arn.or_else(|| known.values().next()).and_then(|arn| Place::of(arn));
        let Some(place) = place else { return associated };
        let there = match self.account.associations(&place, &self.binding.subject.namespace).await {
            Ok(there) => there,
            Err(error) => {
                findings.extend(Some(Finding::of_aws(&error)));
                return associated;
            }
        };
        let accounts: BTreeSet<&String> = wanted.iter().flat_map(|wanted| &wanted.accounts).collect();
        for name in &accounts {
            let one = there.iter().find(|one| one.account == **name);
            match self.keep(&place, name, one, status).await {
                Ok(Some(arn)) => drop(associated.insert((*name).clone(), arn)),
                Ok(None) => drop(associated.remove(*name)),
                Err(finding) => findings.extend(Some(finding)),
            }
        }
        let gone = |arn: &String| !there.iter().any(|one| one.arn == *arn) && Place::of(arn).as_ref() == Some(&place);
        associated.retain(|name, arn| accounts.contains(name) || !gone(arn));
        let candidates = there.iter().filter(|one| !accounts.contains(&one.account) && self.may_be_ours(one, &known));
        for one in candidates {
            match self.leave(&place, &one.arn, &one.id, Some(&mut *status)).await {
                Ok(_) => drop(associated.remove(&one.account)),
                Err(error) => findings.extend(Some(Finding::of_aws(&error))),
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
        known.values().any(|arn| *arn == one.arn) || (!lock(&self.looks().strangers).contains(&one.arn) && !by_others())
    }

    /// Sees to the association of one ServiceAccount; its ARN if it is ours.
    async fn keep(
        &self,
        place: &Place,
        name: &str,
        there: Option<&Association>,
        status: &mut IamRoleStatus,
    ) -> Result<Option<String>, Finding> {
        let (subject, role) = (self.binding.subject, self.binding.arn);
        if let Some(other) = rival(self.binding.ctx, subject, name) {
            return Err(Finding::certain(Reason::ServiceAccountConflict, super::rival::told(name, &other)));
        }
        let Some(there) = there else {
            let tags = self.owner.tags(Origin::Created);
            let made = self.account.associate(place, &subject.namespace, name, role, tags).await;
            let arn = made.map_err(|error| not_made(name, error))?;
            self.tell(status, Reason::Created, "CreatePodIdentityAssociation", place, name, "made").await;
            return Ok(Some(arn));
        };
        let seen = self.account.association(place, &there.id).await.map_err(unknown)?;
        let Some(seen) = seen else {
            let message = format!("the association of ServiceAccount {name} has just gone; it is made anew");
            return Err(Finding::passing(Reason::Busy, message));
        };
        match self.owner.judge(&seen.tags) {
            Ownership::Ours(_) if seen.role == role => Ok(Some(seen.arn)),
            Ownership::Ours(_) => {
                self.account.associate_anew(place, &seen.id, role).await.map_err(unknown)?;
                self.tell(status, Reason::Updated, "UpdatePodIdentityAssociation", place, name, "given this role")
                    .await;
                Ok(Some(seen.arn))
            }
            // Somebody else made what is wanted: there is nothing to do, and nothing to take back.
            _ if seen.role == role => Ok(None),
            ownership => {
                let whose = match ownership {
                    Ownership::Other(owner) => format!("belongs to {owner}"),
                    _ => "was made by somebody else".to_owned(),
                };
                let message = format!(
                    "ServiceAccount {name} has an association with {} ({}), which {whose}; it is left untouched. Delete it \
                     in EKS, or take {name} out of spec.serviceAccounts",
                    seen.role, seen.id
                );
                Err(Finding::certain(Reason::ServiceAccountConflict, message))
            }
        }
    }

    /// Deletes an association if it is ours; whether it was.
    async fn leave(
        &self,
        place: &Place,
        arn: &str,
        id: &str,
        status: Option<&mut IamRoleStatus>,
    ) -> Result<bool, AwsError> {
        let Some(seen) = self.account.association(place, id).await? else { return Ok(true) };
        let is_own = seen.namespace == self.binding.subject.namespace && self.owner.judge(&seen.tags).is_ours();
        if !is_own {
            lock(&self.looks().strangers).insert(arn.to_owned());
            return Ok(false);
        }
        if self.account.dissociate(place, id).await? {
            let mut scratch = IamRoleStatus::default();
            let status = status.unwrap_or(&mut scratch);
            let (action, name) = ("DeletePodIdentityAssociation", &seen.account);
            self.tell(status, Reason::Deleted, action, place, name, "deleted").await;
        }
        Ok(true)
    }

    /// Deletes all that are ours, before the role goes.
    pub async fn leave_all(&self) -> Result<(), AwsError> {
        let (subject, known) = (self.binding.subject, self.known());
        let lists =
            subject.spec.as_ref().is_ok_and(|spec| spec.service_accounts.as_ref().is_some_and(|all| !all.is_empty()));
        let may_have = !known.is_empty() || (self.managed && lists);
        if !may_have || !Account::MAKES_ASSOCIATIONS {
            return Ok(());
        }
        for arn in known.values() {
            if let (Some(place), Some(id)) = (Place::of(arn), arn.rsplit('/').next()) {
                self.leave(&place, arn, id, None).await?;
            }
        }
        let place = self.owner.cluster.eks.arn_in(&self.account.account).ok().and_then(|arn| Place::of(&arn));
        // One of which no answer came is in no status.
        let Some(place) = place.filter(|_| self.managed) else { return Ok(()) };
        for one in self.account.associations(&place, &subject.namespace).await? {
            if !lock(&self.looks().strangers).contains(&one.arn) {
                self.leave(&place, &one.arn, &one.id, None).await?;
            }
        }
        Ok(())
    }

    fn known(&self) -> Associated {
        let status = self.binding.subject.status.workload_identity.iter().flat_map(|status| &status.service_accounts);
        let here = self.owner.cluster.eks.arn_in(&self.account.account).ok().and_then(|arn| Place::of(&arn));
        // Status can be forged: of another cluster or account nothing is asked.
        let is_here = |text: &String| {
            let same_account = text.parse::<Arn>().is_ok_and(|arn| arn.account == self.account.account.id);
            here.is_some() && Place::of(text) == here && same_account
        };
        let known = status.filter_map(|account| Some((account.name.clone(), account.association_arn.clone()?)));
        known.filter(|(name, arn)| is_name(name) && is_here(arn)).collect()
    }

    /// One event, one log line and one entry of `status.lastChanges` per change.
    async fn tell(
        &self,
        status: &mut IamRoleStatus,
        reason: Reason,
        action: &'static str,
        place: &Place,
        name: &str,
        done: &str,
    ) {
        let subject = self.binding.subject;
        let target = format!("{}/{}/{name}", place.cluster, subject.namespace);
        let cause = if subject.is_settled(self.class) { Cause::Drift } else { Cause::Spec };
        let (reason, note) = match cause {
            Cause::Drift if reason != Reason::Deleted => {
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

fn not_made(name: &str, error: AwsError) -> Finding {
    if error.kind != Kind::AlreadyExists {
        return unknown(error);
    }
    let message = format!("EKS has an association for ServiceAccount {name} and does not show it yet; looking again");
    Finding::passing(Reason::Busy, message)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unknown(error: AwsError) -> Finding {
    Finding::of_aws(&error)
}
