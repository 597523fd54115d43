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
/// So old may the list be that all roles of a namespace share. It only says where to look: what is made or deleted is decided
/// by how it is at that moment.
const LATELY: Duration = Duration::from_mins(1);
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

/// The association of a ServiceAccount that is listed.
enum Seen {
    /// It is ours, with this ARN.
    Ours(String),
    /// Somebody else made what is wanted: there is nothing to do, and nothing to take back.
    OfOthers,
    /// There is none, and status does not say yet that one is asked for.
    Missing,
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
        for name in unheard {
            match self.of_account(&place, &name).await {
                Ok(there) => {
                    known.here.remove(&name);
                    goes.extend(there.map(|one| (one.arn, Some(name))));
                }
                Err(error) => findings.extend(Some(Finding::of_aws(&error))),
            }
        }
        for (arn, name) in goes {
            match self.leave(&place, &arn, name.as_ref(), Some(&mut *status)).await {
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
        let namespace = &self.binding.subject.namespace;
        let there = match self.account.associations(&place, namespace, LATELY).await {
            Ok(there) => there,
            Err(error) => {
                findings.extend(Some(Finding::of_aws(&error)));
                return associated;
            }
        };
        let accounts: BTreeSet<&String> = wanted.iter().flat_map(|wanted| &wanted.accounts).collect();
        for name in &accounts {
            let listed = there.iter().find(|one| one.account == **name);
            if let Some(other) = rival(self.binding.ctx, self.binding.subject, name) {
                findings.conflict(name, super::rival::told(name, &other));
                if listed.is_none() && known.here.contains_key(*name) {
                    match self.of_account(&place, name).await {
                        Ok(there) => drop(there.is_none().then(|| associated.here.remove(*name))),
                        Err(error) => findings.extend(Some(unknown(error))),
                    }
                }
                continue;
            }
            match self.see_to(&place, name, &known, listed, status).await {
                Ok(Seen::Ours(arn)) => drop(associated.here.insert((*name).clone(), Some(arn))),
                Ok(Seen::OfOthers) => drop(associated.here.remove(*name)),
                Ok(Seen::Missing) => drop(associated.announced.insert((*name).clone())),
                Err(finding) => {
                    // What somebody else made was none of ours that was asked for.
                    if finding.account.is_some() && known.here.get(*name).is_some_and(Option::is_none) {
                        associated.here.remove(*name);
                    }
                    findings.extend(Some(finding));
                }
            }
        }
        self.looks().keep_only(namespace, &there);
        self.take_away(&place, &accounts, &known, &there, (&mut associated, status, findings)).await;
        associated
    }

    /// Deletes what is ours and of no ServiceAccount that is listed.
    async fn take_away(
        &self,
        place: &Place,
        accounts: &BTreeSet<&String>,
        known: &Associated,
        there: &[Association],
        (associated, status, findings): (&mut Associated, &mut IamRoleStatus, &mut Findings),
    ) {
        associated.returned.clear();
        let stays: BTreeSet<String> = accounts.iter().filter_map(|name| associated.here.get(*name)?.clone()).collect();
        let mut goes: BTreeMap<String, String> = BTreeMap::new();
        for (name, arn) in known.here.iter().filter(|(name, _)| !accounts.contains(name)) {
            let arn = match arn {
                Some(arn) => Ok(Some(arn.clone()).filter(|arn| !stays.contains(arn))),
                None => self.of_account(place, name).await.map(|one| one.map(|one| one.arn)),
            };
            match arn {
                Ok(Some(arn)) => drop(goes.insert(arn, name.clone())),
                Ok(None) => drop(associated.here.remove(name)),
                Err(error) => findings.extend(Some(Finding::of_aws(&error))),
            }
        }
        let is_left = |one: &&Association| !accounts.contains(&one.account);
        let returned = there.iter().filter(is_left).filter(|one| known.returned.contains(&one.arn));
        goes.extend(returned.map(|one| (one.arn.clone(), one.account.clone())));
        let unknown = there.iter().filter(is_left).filter(|one| !goes.contains_key(&one.arn) && !self.is_listed(one));
        let (forgotten, error) = self.forgotten(place, unknown).await;
        findings.extend(error.map(|error| Finding::of_aws(&error)));
        goes.extend(forgotten.into_iter().map(|one| (one.arn.clone(), one.account.clone())));
        for (arn, name) in goes {
            match self.leave(place, &arn, Some(&name), Some(&mut *status)).await {
                Ok(_) => drop(associated.here.remove(&name)),
                Err(error) => {
                    // Status may have it elsewhere, or not at all.
                    associated.here.insert(name, Some(arn));
                    findings.extend(Some(Finding::of_aws(&error)));
                }
            }
        }
    }

    /// Those of a list that are ours by their tags; and the first error, since who may not look at one may look at others.
    async fn forgotten<'l>(
        &self,
        place: &Place,
        there: impl Iterator<Item = &'l Association>,
    ) -> (Vec<&'l Association>, Option<AwsError>) {
        let (mut ours, mut first) = (Vec::new(), None);
        for one in self.in_turn(there) {
            // Others may have looked at it meanwhile.
            if self.looks().is_known(one) {
                ours.extend((!self.is_of_others(one)).then_some(one));
                continue;
            }
            match self.account.association_for_all(place, one).await {
                Ok(seen) => {
                    let tags = seen.map(|seen| seen.tags).unwrap_or_default();
                    self.looks().seen(&one.namespace, &one.arn, &tags);
                    ours.extend(self.owner.judge(&tags).is_ours().then_some(one));
                }
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        (ours, first)
    }

    /// Whether another object lists its ServiceAccount: that one looks after it.
    fn is_listed(&self, one: &Association) -> bool {
        let subject = self.binding.subject;
        let listing = self.binding.ctx.listing(&subject.namespace, &one.account);
        listing.iter().any(|role| role.metadata.uid.as_deref() != Some(subject.uid.as_str()))
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

    /// Sees to the association of one ServiceAccount.
    async fn see_to(
        &self,
        place: &Place,
        name: &str,
        known: &Associated,
        listed: Option<&Association>,
        status: &mut IamRoleStatus,
    ) -> Result<Seen, Finding> {
        let arn = known.here.get(name);
        let was_there = arn.is_some_and(Option::is_some);
        let arn = arn.and_then(Option::as_deref).or(listed.map(|one| one.arn.as_str()));
        let seen = match arn {
            Some(arn) => self.account.association(place, id(arn)).await.map_err(unknown)?,
            None => None,
        };
        let is_it = |seen: &Association| seen.namespace == self.binding.subject.namespace && seen.account == name;
        let seen = match seen.filter(is_it) {
            // What is gone may have been made anew by somebody else.
            None if arn.is_some() => self.of_account(place, name).await.map_err(unknown)?,
            seen => seen,
        };
        if let Some(seen) = seen {
            return self.keep(place, name, seen, was_there, status).await;
        }
        if !known.here.contains_key(name) {
            return Ok(Seen::Missing);
        }
        let error = match self.make(place, name, was_there, status).await {
            Ok(arn) => return Ok(Seen::Ours(arn)),
            Err(error) => error,
        };
        if error.kind == Kind::AlreadyExists
            && let Some(seen) = self.of_account(place, name).await.map_err(unknown)?
        {
            return self.keep(place, name, seen, was_there, status).await;
        }
        Err(self.late(name, &error).unwrap_or_else(|| not_made(name, error)))
    }

    async fn make(
        &self,
        place: &Place,
        name: &str,
        was_there: bool,
        status: &mut IamRoleStatus,
    ) -> Result<String, AwsError> {
        let (subject, tags) = (self.binding.subject, self.owner.tags(Origin::Created));
        let arn = self.account.associate(place, &subject.namespace, name, self.binding.arn, tags.clone()).await?;
        self.looks().seen(&subject.namespace, &arn, &tags);
        let cause = self.cause(was_there);
        self.tell(status, (Reason::Created, cause), "CreatePodIdentityAssociation", place, name, "made").await;
        Ok(arn)
    }

    /// Gives the role to one that is there, if it is ours.
    async fn keep(
        &self,
        place: &Place,
        name: &str,
        seen: Association,
        was_there: bool,
        status: &mut IamRoleStatus,
    ) -> Result<Seen, Finding> {
        let role = self.binding.arn;
        self.looks().seen(&seen.namespace, &seen.arn, &seen.tags);
        match self.owner.judge(&seen.tags) {
            Ownership::Ours(_) if seen.gives(role) => Ok(Seen::Ours(seen.arn)),
            Ownership::Ours(_) => {
                let given = self.account.associate_anew(place, &seen.id, role).await;
                given.map_err(|error| self.late(name, &error).unwrap_or_else(|| unknown(error)))?;
                let (action, why) = ("UpdatePodIdentityAssociation", (Reason::Updated, self.cause(was_there)));
                self.tell(status, why, action, place, name, "given this role").await;
                Ok(Seen::Ours(seen.arn))
            }
            _ if seen.gives(role) => Ok(Seen::OfOthers),
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

    /// The association of a ServiceAccount, as it is now.
    async fn of_account(&self, place: &Place, name: &str) -> Result<Option<Association>, AwsError> {
        self.account.association_of(place, &self.binding.subject.namespace, name).await
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
    ///
    /// `name`: the ServiceAccount that status has it for. Where it is gone another one may have been made in its place, of
    /// which no answer came.
    async fn leave(
        &self,
        place: &Place,
        arn: &str,
        name: Option<&String>,
        status: Option<&mut IamRoleStatus>,
    ) -> Result<bool, AwsError> {
        let namespace = &self.binding.subject.namespace;
        let mut seen = self.account.association(place, id(arn)).await?;
        if seen.is_none() {
            self.looks().gone(namespace, arn);
            if let Some(name) = name {
                seen = self.of_account(place, name).await?;
            }
        }
        let Some(seen) = seen else { return Ok(true) };
        if seen.namespace != *namespace {
            return Ok(false);
        }
        self.looks().seen(&seen.namespace, &seen.arn, &seen.tags);
        if !self.owner.judge(&seen.tags).is_ours() {
            return Ok(false);
        }
        let was_there = self.account.dissociate(place, &seen.id).await?;
        self.looks().gone(namespace, &seen.arn);
        if was_there {
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
        let mut goes: BTreeMap<String, Option<&String>> =
            known.returned.iter().map(|arn| (arn.clone(), None)).collect();
        goes.extend(known.here.iter().filter_map(|(name, arn)| Some((arn.clone()?, Some(name)))));
        let Some(place) = self.place() else { return Ok(()) };
        for name in known.here.iter().filter_map(|(name, arn)| arn.is_none().then_some(name)) {
            goes.extend(self.of_account(&place, name).await?.map(|one| (one.arn, None)));
        }
        for (arn, name) in &goes {
            self.leave(&place, arn, *name, None).await?;
        }
        if !self.managed {
            return Ok(());
        }
        // Where status was lost, what this process made may be later than the list.
        let there = self.account.associations(&place, &subject.namespace, LATELY).await?;
        let (forgotten, error) = self.forgotten(&place, there.iter().filter(|one| !goes.contains_key(&one.arn))).await;
        let made = self.looks().ours(&subject.namespace, self.owner);
        let left: BTreeSet<String> = forgotten.into_iter().map(|one| one.arn.clone()).chain(made).collect();
        for arn in left.iter().filter(|arn| !goes.contains_key(*arn)) {
            self.leave(&place, arn, None, None).await?;
        }
        error.map_or(Ok(()), Err)
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

/// The id within the cluster.
fn id(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or_default()
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
