//! One `IamRole` under reconciliation: decoded, and written to only through here.
//!
//! Nothing of the object is written but its status and our finalizer, always with the resource version
//! that was read, so that a stale cache can't undo a newer write.

use super::claims::Claimant;
use super::context::{Context, RawRole};
use super::failure::Failure;
use super::finalizer;
use super::memory::Untold;
use super::roles::class_ref;
use super::status::is_ready;
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
    /// Status has changes that the object does not have, since a write failed.
    untold: bool,
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
            status,
            moved: false,
            untold: false,
            object,
        }
    }

    /// It, with what an earlier write of its status that failed would have told.
    #[must_use]
    pub fn with_untold(mut self, ctx: &Context) -> Self {
        if let Some(untold) = ctx.memory.with(&self.uid, |entry| entry.untold.clone()) {
            self.untold = untold != Untold::of(&self.status);
            untold.into_status(&mut self.status);
        }
        self
    }

    /// Whether status has to be written though nothing is new.
    #[must_use]
    pub const fn has_untold(&self) -> bool {
        self.untold
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
        let token = self.object.annotations().get(ANNOTATION_RECONCILE)?;
        // Status takes 1024 characters.
        let token: String = token.chars().take(1024).collect();
        (self.status.last_handled_reconcile_at.as_ref() != Some(&token)).then_some(token)
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
        self.untold |= untold != Untold::of(&self.status);
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
        if status == self.status && !self.untold && self.object.said.has_conditions {
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
        self.status = status;
        self.untold = false;
        Ok(())
    }

    /// Puts our finalizer on the object if it is not there.
    pub async fn add_finalizer(&mut self, ctx: &Context) -> Result<(), Failure> {
        if self.has_finalizer() {
            return Ok(());
        }
        self.set_finalizers(ctx, finalizer::with(&self.object)).await
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

/// The resource version as a number; the API server promises an order since Kubernetes 1.35, and etcd
/// always gave one. 0 where it is none.
#[must_use]
pub fn version(object: &RawRole) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
