//! Our finalizer, put on and taken off by JSON patches that test what they change.
//!
//! Not kube's `finalizer()`: it puts the finalizer on before anything else is known, and an object that is
//! refused, suspended or without a class must be deletable without the operator.

use super::failure::{Failure, Retry};
use crate::api::FINALIZER;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Whether our finalizer holds the object.
pub fn is_on<K: ResourceExt>(object: &K) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// The patch that puts it on.
pub fn with<K: ResourceExt>(object: &K) -> Value {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    patch(object, &finalizers)
}

/// The patch that takes it off.
pub fn without<K: ResourceExt>(object: &K) -> Value {
    let kept: Vec<String> = object.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    patch(object, &kept)
}

/// Fails on the API server if the object is another one or its finalizers have changed; other changes,
/// such as an edit of the spec meanwhile, do not matter.
fn patch<K: ResourceExt>(object: &K, finalizers: &[String]) -> Value {
    let before = if object.finalizers().is_empty() { Value::Null } else { json!(object.finalizers()) };
    json!([
        { "op": "test", "path": "/metadata/uid", "value": object.uid() },
        { "op": "test", "path": "/metadata/finalizers", "value": before },
        { "op": "add", "path": "/metadata/finalizers", "value": finalizers },
    ])
}

/// The failure of a patch. One whose test failed is answered by 422, and means that the object has changed.
#[must_use]
pub fn moved(error: kube::Error) -> Failure {
    let changed = matches!(&error, kube::Error::Api(status) if status.code == 422);
    let failure = Failure::from(error);
    if changed { Failure { retry: Retry::Passing, ..failure } } else { failure }
}

/// Sends the patch; `None` if the object is gone, or is another one of the same name.
pub async fn apply<K>(api: &Api<K>, name: &str, patch: Value) -> Result<Option<K>, kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    match api.patch(name, &PatchParams::default(), &Patch::<()>::Json(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}
