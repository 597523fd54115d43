//! The annotation that makes AWS's webhook hand a role to the pods of a ServiceAccount (IRSA).
//!
//! By server-side apply with a field manager of our own, never forced: what somebody else wrote stays, and what we take
//! back is ours only. A marker beside it tells people and us for which IamRole it is.

use super::Binding;
use super::condition::{Finding, Findings};
use super::rival::{rival, told};
use super::watch::{AccountMeta, Cached, cached, pick};
use crate::api::workload::DEFAULT_AUDIENCE;
use crate::api::{ANNOTATION_IAM_ROLE, Reason};
use crate::controller::failure::Failure;
use crate::controller::status::cut;
use crate::role::Workload;
use crate::role::workload::{Irsa, is_name};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Our name in `managedFields`.
pub const FIELD_MANAGER: &str = "iamrole-operator";
/// So long after a start the ServiceAccounts may not be read yet; what was found before the start stays.
const STARTING: Duration = Duration::from_mins(2);
/// So many characters of a value that somebody else wrote are shown; an annotation may have 256 KiB.
const QUOTED: usize = 200;
/// The API server's word for a field that somebody else owns.
const OWNED_BY_OTHER: &str = "FieldManagerConflict";

impl Binding<'_> {
    /// Annotates what is listed and takes it from what is not; returns the ServiceAccounts that have it.
    pub(super) async fn annotations(&self, wanted: Option<&Workload>, findings: &mut Findings) -> BTreeSet<String> {
        let irsa = wanted.and_then(|wanted| wanted.irsa.as_ref());
        let listed = wanted.filter(|_| irsa.is_some()).map(|wanted| wanted.accounts.clone()).unwrap_or_default();
        if self.ctx.workloads.accounts.is_none() {
            if irsa.is_some() {
                let (prefix, arn) = (&self.ctx.workloads.prefix, self.arn);
                let message = format!(
                    "the operator does not annotate ServiceAccounts; see that they have {prefix}/role-arn: {arn}, or let it \
                     (workloadIdentity.annotateServiceAccounts of the chart)"
                );
                findings.unknown(Reason::BindingNotManaged, message);
            }
            // Once it was allowed to, and may be at the end again.
            return self.known();
        }
        let mut bound = BTreeSet::new();
        for name in self.given().difference(&listed) {
            if let Err(failure) = self.release(name).await {
                findings.unknown(Reason::KubernetesError, format!("ServiceAccount {name}: {}", failure.message));
                bound.insert(name.clone());
            }
        }
        for name in &listed {
            if let Some(irsa) = irsa
                && (self.annotate(name, irsa, findings).await || self.marked().contains(name))
            {
                bound.insert(name.clone());
            }
        }
        bound
    }

    /// Takes it from all that have it. A ServiceAccount that is gone, or that we may not touch (any more), holds up nothing.
    pub(super) async fn release_all(&self) -> Result<(), Failure> {
        let mut names = self.given();
        if self.ctx.workloads.accounts.is_some() {
            // The cache may not be filled, and status may be lost.
            let spec = self.subject.spec.as_ref().ok();
            let listed = spec.iter().flat_map(|spec| spec.service_accounts.iter().flatten());
            names.extend(listed.map(|entry| entry.name.clone()));
        }
        for name in names {
            self.release(&name).await?;
        }
        Ok(())
    }

    /// The ServiceAccounts that have it from us, as status and cache know them.
    fn given(&self) -> BTreeSet<String> {
        self.known().into_iter().chain(self.marked()).collect()
    }

    fn known(&self) -> BTreeSet<String> {
        let status = self.subject.status.workload_identity.iter().flat_map(|status| &status.service_accounts);
        // Status can be forged, and what can't be a name would never be answered.
        let real = status.filter(|account| account.annotated == Some(true) && is_name(&account.name));
        real.map(|account| account.name.clone()).collect()
    }

    fn marked(&self) -> BTreeSet<String> {
        let scopes = self.ctx.workloads.accounts.as_deref().unwrap_or_default();
        pick(scopes, &self.subject.namespace, |account| self.is_marked(account)).into_iter().collect()
    }

    fn is_marked(&self, account: &AccountMeta) -> bool {
        account.annotations().get(ANNOTATION_IAM_ROLE) == Some(&self.subject.name)
    }

    /// Whether the ServiceAccount has it in the end.
    async fn annotate(&self, name: &str, irsa: &Irsa, findings: &mut Findings) -> bool {
        let scopes = self.ctx.workloads.accounts.as_deref().unwrap_or_default();
        if let Some(other) = rival(self.ctx, self.subject, name) {
            findings.conflict(name, told(name, &other));
            return false;
        }
        let account = match cached(scopes, &self.subject.namespace, name) {
            Cached::Found(account) => account,
            Cached::Missing => {
                findings
                    .add(Reason::ServiceAccountMissing, format!("there is no ServiceAccount {name} (yet); create it"));
                return false;
            }
            Cached::Unknown => {
                let message =
                    "the ServiceAccounts are not read yet; if this lasts, compare the operator's RBAC with the chart's";
                let starting = self.ctx.started.elapsed() < STARTING;
                let finding = if starting { Finding::passing } else { Finding::unknown };
                findings.extend(Some(finding(Reason::KubernetesError, message)));
                // Who has it keeps it: else another role would go before this one.
                return self.known().contains(name);
            }
        };
        let wanted = self.wanted(irsa);
        let has = account.annotations();
        let (key, marked) = (self.key("role-arn"), has.get(ANNOTATION_IAM_ROLE));
        if let (Some(other), None) = (has.get(&key).filter(|value| *value != self.arn), marked) {
            findings.conflict(name, foreign(name, &key, other));
            return false;
        }
        let ours = ["role-arn", "audience", "sts-regional-endpoints"].map(|part| self.key(part));
        let differs = ours.iter().any(|key| wanted.get(key).is_some_and(|value| has.get(key) != Some(value)));
        let too_much: Vec<&String> =
            ours.iter().filter(|key| has.contains_key(*key) && !wanted.contains_key(*key)).collect();
        let outdated = differs || marked != Some(&self.subject.name) || self.owns_any(name, &too_much).await;
        if outdated && !self.apply(name, &account, &wanted, findings).await {
            return false;
        }
        if let (Some(audience), false) = (has.get(&ours[1]), outdated || wanted.contains_key(&ours[1])) {
            let message = format!(
                "ServiceAccount {name} has {}: {audience}, which this operator did not set; the role takes tokens for {} only",
                ours[1],
                irsa.audience,
                audience = cut(audience, QUOTED)
            );
            findings.add(Reason::ServiceAccountConflict, message);
        }
        true
    }

    /// Whether one of these annotations is ours, from before the class changed. The cache does not know whose they are.
    async fn owns_any(&self, name: &str, keys: &[&String]) -> bool {
        if keys.is_empty() {
            return false;
        }
        let Ok(found) = self.api().get_metadata(name).await else { return false };
        let entries = found.managed_fields().iter().filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
        let fields: Vec<&Value> =
            entries.filter_map(|entry| entry.fields_v1.as_ref().map(|fields| &fields.0)).collect();
        let owns = |key: &str| {
            fields.iter().any(|fields| !fields["f:metadata"]["f:annotations"][format!("f:{key}")].is_null())
        };
        keys.iter().any(|key| owns(key))
    }

    async fn apply(
        &self,
        name: &str,
        account: &AccountMeta,
        wanted: &BTreeMap<String, String>,
        findings: &mut Findings,
    ) -> bool {
        let annotated = match self.patch(name, account.uid().as_deref(), wanted).await {
            Ok(_) => return true,
            Err(kube::Error::Api(status)) => status,
            Err(error) => {
                findings.unknown(
                    Reason::KubernetesError,
                    format!("ServiceAccount {name}: {}", Failure::from(error).message),
                );
                return false;
            }
        };
        let causes = annotated.details.iter().flat_map(|details| &details.causes);
        let owned: Vec<&str> =
            causes.filter(|cause| cause.reason == OWNED_BY_OTHER).map(|cause| cause.message.as_str()).collect();
        if owned.is_empty() {
            let failure = Failure::from(kube::Error::Api(annotated));
            findings.unknown(Reason::KubernetesError, format!("ServiceAccount {name}: {}", failure.message));
        } else {
            let message = format!(
                "ServiceAccount {name} carries annotations that somebody else wrote ({}); take them out there, or take it out \
                 of spec.serviceAccounts",
                owned.join(", ")
            );
            findings.conflict(name, message);
        }
        false
    }

    /// Takes back what is ours on a ServiceAccount that carries our marker.
    async fn release(&self, name: &str) -> Result<(), Failure> {
        let api = self.api();
        let found = match api.get_metadata_opt(name).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                tracing::warn!(account = name, "the ServiceAccount can't be read, so an annotation may stay on it");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if !self.is_marked(&found) {
            return Ok(());
        }
        match self.patch(name, found.uid().as_deref(), &BTreeMap::new()).await {
            Ok(_) => Ok(()),
            // Gone, or another one of the same name.
            Err(kube::Error::Api(status)) if [403, 404, 409].contains(&status.code) => {
                tracing::info!(account = name, message = status.message, "the annotation could not be taken back");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Server-side apply of exactly these annotations. By its UID, since it would otherwise make what is missing.
    async fn patch(
        &self,
        name: &str,
        uid: Option<&str>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<AccountMeta, kube::Error> {
        let mut metadata = json!({ "name": name, "namespace": self.subject.namespace, "uid": uid });
        if !annotations.is_empty() {
            metadata["annotations"] = json!(annotations);
        }
        let patch = Patch::Apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }));
        self.api().patch_metadata(name, &PatchParams::apply(FIELD_MANAGER), &patch).await
    }

    fn wanted(&self, irsa: &Irsa) -> BTreeMap<String, String> {
        let mut wanted = BTreeMap::from([
            (ANNOTATION_IAM_ROLE.to_owned(), self.subject.name.clone()),
            (self.key("role-arn"), self.arn.to_owned()),
        ]);
        if irsa.audience != DEFAULT_AUDIENCE {
            wanted.insert(self.key("audience"), irsa.audience.clone());
        }
        if let Some(regional) = self.regional {
            wanted.insert(self.key("sts-regional-endpoints"), regional.to_string());
        }
        wanted
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.ctx.workloads.prefix)
    }

    fn api(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.ctx.client.clone(), &self.subject.namespace)
    }
}

fn foreign(name: &str, key: &str, other: &str) -> String {
    let other = cut(other, QUOTED);
    format!(
        "ServiceAccount {name} has {key}: {other}, which this operator did not set; take it off (kubectl annotate \
         serviceaccount {name} {key}-), or take {name} out of spec.serviceAccounts"
    )
}
