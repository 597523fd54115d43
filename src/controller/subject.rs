//! One `IamRole` under reconciliation: decoded, and written to only through here.
//!
//! Nothing of the object is written but its status and our finalizer, always with the resource version
//! that was read, so that a stale cache can't undo a newer write.

use super::claims::Claimant;
use super::context::{Context, RawRole};
use super::failure::{Failure, Retry};
use super::finalizer;
use super::memory::Untold;
use super::recover::is_half_way;
use super::roles::{class_ref, now};
use super::status::{Verdict, conditions, is_ready};
use crate::api::{
    ANNOTATION_RECONCILE, ANNOTATION_SUSPEND, FINALIZER, IamRoleClass, IamRoleSpec, IamRoleStatus, Reason,
};
use crate::role::Owner;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use serde::Deserialize as _;
use serde_json::Value;

/// One `IamRole` under reconciliation.
pub struct Subject {
    object: RawRole,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// The spec, or why it can't be read.
    pub spec: Result<IamRoleSpec, Failure>,
    /// Status as it was read or last written.
    pub status: IamRoleStatus,
    /// The cluster has moved since: what status says is in AWS is for another one.
    pub moved: bool,
    /// Status as the object has it; the other one also has what a write that failed would have told.
    written: IamRoleStatus,
}

impl Subject {
    /// Decodes an object; spec and status apart from each other.
    #[must_use]
    pub fn new(object: RawRole) -> Self {
        let spec = IamRoleSpec::deserialize(&object.spec()).map_err(|error| {
            Failure::on_change(Reason::InvalidSpec, format!("spec can't be read: {error}; correct it or apply it anew"))
        });
        let status = IamRoleStatus::deserialize(&object.status()).unwrap_or_default();
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            spec,
            written: status.clone(),
            status,
            moved: false,
            object,
        }
    }

    /// It, with what an earlier write of its status that failed would have told.
    #[must_use]
    pub fn with_untold(mut self, ctx: &Context) -> Self {
        if let Some(untold) = ctx.memory.with(&self.uid, |entry| entry.untold.clone()) {
            untold.into_status(&mut self.status);
        }
        self
    }

    /// Forgets what status calls unlisted where that was found for a spec that is no more: the new one, which has such things
    /// removed, would take it for what was kept for its own sake. A role that was being taken up keeps it.
    pub fn forget_unlisted(&mut self) {
        if self.status.observed_generation != Some(self.generation) && !is_half_way(&self.status) {
            self.status.unlisted.clear();
        }
    }

    /// Status as the object has it.
    #[must_use]
    pub const fn written(&self) -> &IamRoleStatus {
        &self.written
    }

    /// Whether status has to be written though nothing is new.
    #[must_use]
    pub fn has_untold(&self) -> bool {
        Untold::of(&self.status) != Untold::of(&self.written)
    }

    /// The object as it was read or last written.
    #[must_use]
    pub const fn object(&self) -> &RawRole {
        &self.object
    }

    /// Whose AWS role it is, by the leave of its class.
    #[must_use]
    pub fn owner(&self, ctx: &Context, class: &IamRoleClass) -> Owner {
        Owner {
            cluster: ctx.cluster.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            heir_of: class.spec.take_over_clusters.clone().unwrap_or_default(),
        }
    }

    /// When the object was created; status and spec of a restored one are older.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        self.object.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// It as a claimant of a role name.
    #[must_use]
    pub fn claimant(&self) -> Claimant {
        Claimant {
            waits: self.status.role.as_ref().is_none_or(|role| role.id.is_none()),
            created: self.created().map(|time| time.to_string()).unwrap_or_default(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }

    /// Whether the object is being deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Whether our finalizer holds it.
    #[must_use]
    pub fn has_finalizer(&self) -> bool {
        self.object.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
    }

    /// The annotation that suspends it.
    #[must_use]
    pub fn suspend_annotation(&self) -> Option<&str> {
        self.object.annotations().get(ANNOTATION_SUSPEND).map(String::as_str)
    }

    /// The token of a requested check that has not been handled yet.
    #[must_use]
    pub fn requested(&self) -> Option<String> {
        requested(&self.object, self.status.last_handled_reconcile_at.as_deref())
    }

    /// Whether status says that this generation, under that generation of that class, is in AWS.
    #[must_use]
    pub fn is_settled(&self, class: &IamRoleClass) -> bool {
        !self.moved && is_ready(&self.status.conditions, self.generation) && self.saw(class)
    }

    /// Whether the class was looked at in this generation; one made anew under the same name is another one.
    #[must_use]
    pub fn saw(&self, class: &IamRoleClass) -> bool {
        self.status.class.as_ref() == Some(&class_ref(class))
    }

    /// For events.
    #[must_use]
    pub fn reference(&self) -> ObjectReference {
        ObjectRef::from_obj(&self.object).into()
    }

    /// Remembers what a status would tell, until one is written.
    pub fn remember(&mut self, ctx: &Context, status: &IamRoleStatus) {
        let untold = Untold::of(status);
        untold.clone().into_status(&mut self.status);
        ctx.memory.with(&self.uid, |entry| entry.untold = Some(untold));
    }

    /// Writes `status` unless it says nothing new. The changes in it are told sooner or later, also if the write fails.
    pub async fn write_status(&mut self, ctx: &Context, status: IamRoleStatus) -> Result<(), Failure> {
        let untold = Untold::of(&status);
        let written = self.replace_status(ctx, status).await;
        let untold = written.is_err().then_some(untold);
        ctx.memory.with(&self.uid, |entry| entry.untold = untold);
        written
    }

    async fn replace_status(&mut self, ctx: &Context, status: IamRoleStatus) -> Result<(), Failure> {
        let mut status = status;
        self.speak_of_now(&mut status, || format!("generation {} is being looked at", self.generation));
        if status == self.written && self.object.said.has_conditions {
            self.status = status;
            return Ok(());
        }
        let mut object = self.object.with_status(&status).map_err(|error| {
            Failure::slow(Reason::KubernetesError, format!("status can't be written: {error}; please report this"))
        })?;
        object.types = Some(kube::api::TypeMeta {
            api_version: format!("{}/{}", crate::api::GROUP, crate::api::VERSION),
            kind: "IamRole".to_owned(),
        });
        let api = ctx.roles_api(&self.namespace);
        let written = api.replace_status(&self.name, &PostParams::default(), &object).await?;
        self.accept(ctx, written);
        self.written.clone_from(&status);
        self.status = status;
        Ok(())
    }

    /// Has a status that is written before all is known speak of the generation that is looked at: `doing` says of what.
    pub fn speak_of_now(&self, status: &mut IamRoleStatus, doing: impl FnOnce() -> String) {
        let is_of_now = status.observed_generation == Some(self.generation) && !status.conditions.is_empty();
        if !is_of_now && !self.is_deleted() {
            let verdict = Verdict::reconciling(doing());
            status.conditions = conditions(&self.written.conditions, &verdict, self.generation, &now());
            status.observed_generation = Some(self.generation);
        }
    }

    /// Puts our finalizer on the object if it is not there.
    pub async fn add_finalizer(&mut self, ctx: &Context) -> Result<(), Failure> {
        if self.has_finalizer() {
            return Ok(());
        }
        let generation = self.object.metadata.generation;
        self.set_finalizers(ctx, finalizer::with(&self.object)).await?;
        if self.has_finalizer() && self.object.metadata.generation == generation {
            return Ok(());
        }
        // What is said or made now would be of a spec that is no more, in the name of the one that is.
        let message = "the object was edited or deleted meanwhile; it is looked at anew".to_owned();
        Err(Failure { reason: Reason::KubernetesError, message, retry: Retry::Passing })
    }

    /// Takes our finalizer off; an object that is gone already is fine.
    pub async fn release(&mut self, ctx: &Context) -> Result<(), Failure> {
        if !self.has_finalizer() {
            return Ok(());
        }
        self.set_finalizers(ctx, finalizer::without(&self.object)).await
    }

    async fn set_finalizers(&mut self, ctx: &Context, patch: Value) -> Result<(), Failure> {
        if let Some(written) =
            finalizer::apply(&ctx.roles_api(&self.namespace), &self.name, patch).await.map_err(finalizer::moved)?
        {
            self.accept(ctx, written);
        } else {
            tracing::debug!("the object is gone already");
        }
        Ok(())
    }

    fn accept(&mut self, ctx: &Context, written: RawRole) {
        let version = version(&written);
        ctx.memory.with(&self.uid, |entry| entry.written_version = version);
        self.object = written;
    }
}

/// The token of a check that is requested of the object, if it is another one than `handled`.
#[must_use]
pub fn requested(object: &RawRole, handled: Option<&str>) -> Option<String> {
    let token = object.annotations().get(ANNOTATION_RECONCILE)?;
    // Status takes 1024 characters.
    let token: String = token.chars().take(1024).collect();
    (handled != Some(&token)).then_some(token)
}

/// The resource version as a number; the API server promises an order since Kubernetes 1.35, and etcd
/// always gave one. 0 where it is none.
#[must_use]
pub fn version(object: &RawRole) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::status::find;
    use super::Subject;
    use crate::api::ConditionType;
    use serde_json::{Value, json};

    fn subject(generation: i64, deleted: bool, status: &Value) -> Subject {
        let object = json!({
            "metadata": { "name": "r", "namespace": "n", "uid": "u", "generation": generation,
                "deletionTimestamp": deleted.then_some("2026-01-02T00:00:00Z") },
            "spec": { "trustPolicy": {} }, "status": status,
        });
        Subject::new(serde_json::from_value(object).unwrap())
    }

    /// A change that a failed write kept from status is told before the class, say, of an edit has been looked at.
    #[test]
    fn what_is_written_on_the_way_speaks_of_the_generation_that_is_looked_at() {
        let ready = json!({ "observedGeneration": 1, "conditions": [{ "type": "Ready", "status": "True",
            "reason": "Applied", "message": "m", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" }] });
        let unseen = json!({ "observedGeneration": -1 });
        for (generation, deleted, before, rewritten) in
            [(1, false, &ready, false), (2, false, &ready, true), (2, true, &ready, false), (1, false, &unseen, true)]
        {
            let subject = subject(generation, deleted, before);
            let mut status = subject.status.clone();
            subject.speak_of_now(&mut status, || "on the way".to_owned());
            assert_eq!(status != subject.status, rewritten, "{generation} {deleted} {before}");
            if rewritten {
                assert_eq!(status.observed_generation, Some(generation));
                let of = |kind| {
                    find(&status.conditions, kind).map(|found| (found.status.as_str(), found.observed_generation))
                };
                assert_eq!(of(ConditionType::Ready), Some(("False", Some(generation))));
                assert_eq!(of(ConditionType::Reconciling), Some(("True", Some(generation))));
                assert_eq!(of(ConditionType::Stalled), None);
            }
        }
    }
}
