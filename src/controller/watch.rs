//! The watches: trimmed to what is needed, filtered to what matters, logged when they fail.

use super::context::RawRole;
use super::index::Index;
use crate::api::{
    ANNOTATION_DEFAULT_CLASS, ANNOTATION_IAM_ROLE, ANNOTATION_RECONCILE, ANNOTATION_SUSPEND, IamRoleClass,
    IamRoleClassSpec,
};
use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::Api;
use kube::core::error_boundary::InvalidObject;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::PredicateConfig as Config;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

/// Shorter than the idle timeouts of common load balancers, which cut silently.
const TIMEOUT_SECONDS: u32 = 200;

fn config() -> watcher::Config {
    watcher::Config::default().timeout(TIMEOUT_SECONDS)
}

/// kube's watcher, begun anew with a list where the API server refuses the resource version by the status of its answer
/// (410). kube's own does so only for an error within the stream, and else asks for the same version for ever.
fn watching<K>(api: Api<K>) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    stream::unfold((api, None), async |(api, running)| {
        let mut running = running.unwrap_or_else(|| watcher(api.clone(), config()).boxed());
        let result = running.next().await?;
        let is_stale =
            matches!(&result, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if status.code == 410);
        Some((result, (api, (!is_stale).then_some(running))))
    })
}

/// What nobody here reads, and what makes up half of an object.
fn trim<K: kube::ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}

fn report<T>(kind: &'static str, result: &Result<T, watcher::Error>) {
    if let Err(error) = result {
        let reason = without_bodies(error);
        tracing::warn!(
            kind,
            reason,
            "watch failed; trying again. Are the CRDs installed, and is RBAC as the chart has it?"
        );
        tracing::debug!(kind, %error, "watch failed");
    }
}

/// An error of decoding holds what could not be decoded: documents of all namespaces.
fn without_bodies(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    let error = match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => error,
        WatchError(status) => return status.message.clone(),
        NoResourceVersion => return "the list has no version".to_owned(),
    };
    match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::SerdeError(_) => "the answer can't be read".to_owned(),
        kube::Error::HyperError(error) => error.to_string(),
        _ => "no answer".to_owned(),
    }
}

/// Roles whose spec, finalizers, deletion or annotations of ours changed; our own status writes are not seen.
/// `gone` is told of each that is no more, with or without a finalizer.
pub fn roles(
    client: kube::Client,
    namespace: Option<&str>,
    writer: Writer<RawRole>,
    index: Arc<Index>,
    gone: impl Fn(&RawRole) + Send + 'static,
) -> impl Stream<Item = Result<RawRole, watcher::Error>> + Send + 'static {
    let api: Api<RawRole> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    watching(api)
        .default_backoff()
        .modify(trim)
        .inspect(move |result| {
            report("IamRole", result);
            if let Ok(event) = result {
                index.note(event);
            }
        })
        .reflect(writer)
        .inspect(move |result| {
            if let Ok(watcher::Event::Delete(role)) = result {
                gone(role);
            }
        })
        .applied_objects()
        .predicate_filter(role_changes, Config::default())
}

#[allow(clippy::unnecessary_wraps, reason = "the signature of a predicate")]
fn role_changes(role: &RawRole) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let meta = role.meta();
    (meta.generation, meta.deletion_timestamp.is_some(), &meta.finalizers).hash(&mut hasher);
    for annotation in [ANNOTATION_RECONCILE, ANNOTATION_SUSPEND] {
        role.annotations().get(annotation).hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// Classes whose spec, finalizers, deletion or annotations (default, requested check) changed. One that can't be read, such as one that
/// was stored before a stricter schema, counts as absent, and is no reason not to see the others. `gone` is told when one is
/// no more.
pub fn classes(
    client: kube::Client,
    writer: Writer<IamRoleClass>,
    gone: impl Fn() + Send + 'static,
) -> impl Stream<Item = Result<IamRoleClass, watcher::Error>> + Send + 'static {
    watching(Api::<DeserializeGuard<IamRoleClass>>::all(client))
        .default_backoff()
        .filter_map(|result| futures::future::ready(result.map(readable).transpose()))
        .modify(trim)
        .inspect(|result| report("IamRoleClass", result))
        .reflect(writer)
        .inspect(move |result| {
            if let Ok(watcher::Event::Delete(_)) = result {
                gone();
            }
        })
        .applied_objects()
        .predicate_filter(class_changes, Config::default())
}

fn readable(event: watcher::Event<DeserializeGuard<IamRoleClass>>) -> Option<watcher::Event<IamRoleClass>> {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    Some(match event {
        Init => Init,
        InitDone => InitDone,
        InitApply(class) => InitApply(class.0.map_err(|broken| warn(&broken)).ok()?),
        Apply(class) => class.0.map_or_else(|broken| Delete(stub(&broken)), Apply),
        Delete(class) => Delete(class.0.unwrap_or_else(|broken| stub(&broken))),
    })
}

fn warn(broken: &InvalidObject) {
    let (class, error) = (broken.metadata.name.as_deref().unwrap_or_default(), &broken.error);
    tracing::error!(class, error, "the IamRoleClass can't be read and counts as absent; correct it or apply it anew");
}

fn stub(broken: &InvalidObject) -> IamRoleClass {
    warn(broken);
    let mut class = IamRoleClass::new("", IamRoleClassSpec::default());
    class.metadata = broken.metadata.clone();
    class
}

#[allow(clippy::unnecessary_wraps, reason = "the signature of a predicate")]
fn class_changes(class: &IamRoleClass) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let meta = class.meta();
    (meta.generation, meta.deletion_timestamp.is_some(), &meta.finalizers).hash(&mut hasher);
    for annotation in [ANNOTATION_DEFAULT_CLASS, ANNOTATION_RECONCILE] {
        class.annotations().get(annotation).hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// Namespaces whose labels changed; metadata only.
pub fn namespaces(
    client: kube::Client,
    writer: Writer<PartialObjectMeta<Namespace>>,
) -> impl Stream<Item = Result<PartialObjectMeta<Namespace>, watcher::Error>> + Send + 'static {
    watching(Api::<PartialObjectMeta<Namespace>>::all(client))
        .default_backoff()
        .modify(|namespace| {
            trim(namespace);
            namespace.annotations_mut().clear();
        })
        .inspect(|result| report("Namespace", result))
        .reflect(writer)
        .applied_objects()
        .predicate_filter(kube::runtime::predicates::labels, Config::default())
}

/// ServiceAccounts, of them only the metadata, and of that only what tells for which role they are.
pub fn service_accounts(
    client: kube::Client,
    namespace: Option<&str>,
    prefix: &str,
    writer: Writer<PartialObjectMeta<ServiceAccount>>,
) -> impl Stream<Item = Result<watcher::Event<PartialObjectMeta<ServiceAccount>>, watcher::Error>> + Send + 'static {
    let api: Api<PartialObjectMeta<ServiceAccount>> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let prefix = format!("{prefix}/");
    watching(api)
        .default_backoff()
        .modify(move |account| {
            trim(account);
            account.labels_mut().clear();
            account.annotations_mut().retain(|key, _| key == ANNOTATION_IAM_ROLE || key.starts_with(&prefix));
        })
        .inspect(|result| report("ServiceAccount", result))
        .reflect(writer)
}

#[cfg(test)]
mod tests {
    use super::{DeserializeGuard, IamRoleClass, readable};
    use kube::ResourceExt as _;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    fn class(spec: &serde_json::Value) -> DeserializeGuard<IamRoleClass> {
        let (api_version, metadata) = ("iamrole.dev/v1alpha1", json!({ "name": "c", "uid": "u" }));
        let class = json!({ "apiVersion": api_version, "kind": "IamRoleClass", "metadata": metadata, "spec": spec });
        serde_json::from_value(class).unwrap()
    }

    #[test]
    fn a_class_that_cannot_be_read_is_absent() {
        let good = || class(&json!({ "namespaceSelector": {}, "unbounded": true }));
        let bad = || class(&json!({ "namespaceSelector": 1 }));
        assert!(matches!(readable(Event::InitApply(good())), Some(Event::InitApply(class)) if class.name_any() == "c"));
        assert!(readable(Event::InitApply(bad())).is_none());
        assert!(matches!(readable(Event::Apply(good())), Some(Event::Apply(_))));
        assert!(matches!(readable(Event::Apply(bad())), Some(Event::Delete(class)) if class.name_any() == "c"));
        assert!(matches!(readable(Event::Delete(bad())), Some(Event::Delete(class)) if class.name_any() == "c"));
    }
}
