//! An `IamRole` as it comes from the API server, decoded so that no object can hide the others.
//!
//! Documents keep unknown fields, so a user can write JSON that is nested deeper than our JSON library reads. In a
//! list one such object would fail the whole. Each part is therefore cut out first, which needs no depth, and then
//! read by itself; what lies deeper in it than anything that has a meaning is left out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::api::TypeMeta;
use kube::core::ApiResource;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// An `IamRole` whose spec and status are not decoded yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RawRole {
    /// API version and kind; absent in lists.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub types: Option<TypeMeta>,
    /// Metadata, without `managedFields`: they are as deep as the object.
    pub metadata: ObjectMeta,
    /// `spec` and `status`.
    #[serde(flatten)]
    pub data: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parts {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    metadata: Metadata,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

/// What the operator needs of the metadata.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    annotations: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

impl<'de> Deserialize<'de> for RawRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts { api_version, kind, metadata, spec, status } = Parts::deserialize(deserializer)?;
        let mut data = Map::new();
        for (name, part) in [("spec", spec), ("status", status)] {
            if let Some(part) = part {
                data.insert(name.to_owned(), read(&part));
            }
        }
        let types = api_version.zip(kind).map(|(api_version, kind)| TypeMeta { api_version, kind });
        Ok(Self { types, metadata: metadata.into(), data: Value::Object(data) })
    }
}

/// More than a policy document may have, which is refused with its place, and fewer than the JSON library reads.
const LEVELS: usize = 100;
/// Stands for what lies deeper.
const DEEPER: &str = "\"nested too deep to be read\"";

fn read(part: &RawValue) -> Value {
    let text = part.get();
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&shallow(text))).unwrap_or_default()
}

/// JSON without what is nested deeper than `LEVELS`: all the rest of the object counts, such as a `deletionPolicy`.
fn shallow(text: &str) -> String {
    let mut shallow = String::new();
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for c in text.chars() {
        let opens = !in_string && matches!(c, '{' | '[');
        let closes = !in_string && matches!(c, '}' | ']');
        if opens {
            depth += 1;
        }
        if depth <= LEVELS {
            shallow.push(c);
        } else if opens && depth == LEVELS + 1 {
            shallow.push_str(DEEPER);
        }
        if closes {
            depth = depth.saturating_sub(1);
        }
        in_string ^= c == '"' && !escaped;
        escaped = in_string && c == '\\' && !escaped;
    }
    shallow
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            finalizers: metadata.finalizers,
            annotations: metadata.annotations,
            labels: metadata.labels,
            ..Self::default()
        }
    }
}

impl Resource for RawRole {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::RawRole;
    use kube::core::{ObjectList, WatchEvent};

    fn role(name: &str, depth: usize) -> String {
        let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let fields = format!("{}1{}", "{\"f:x\":".repeat(depth), "}".repeat(depth));
        format!(
            r#"{{"apiVersion":"iamrole.dev/v1alpha1","kind":"IamRole","metadata":{{"name":"{name}","uid":"u",
                "managedFields":[{{"fieldsV1":{fields}}}]}},"spec":{{"trustPolicy":{{"]\"[":"}}","x":{deep},"y":{{}}}},
                "deletionPolicy":"Retain"}},"status":{{"accountId":"1"}}}}"#
        )
    }

    #[test]
    fn an_object_that_is_too_deep_hides_no_other() {
        let items = [role("deep", 5000), role("good", 3)].join(",");
        let list = format!(r#"{{"apiVersion":"v1","kind":"List","metadata":{{}},"items":[{items}]}}"#);
        let list: ObjectList<RawRole> = serde_json::from_str(&list).unwrap();
        assert_eq!(list.items[1].data["spec"]["trustPolicy"]["x"][0][0][0], 1);
        assert_eq!(list.items[0].data["spec"]["deletionPolicy"], "Retain");
        assert!(
            list.items[0].data["spec"]["trustPolicy"]["x"].to_string().contains("[\"nested too deep to be read\"]")
        );
        assert_eq!(list.items[0].data["status"]["accountId"], "1");
        let event = format!(r#"{{"type":"MODIFIED","object":{}}}"#, role("deep", 5000));
        let event: WatchEvent<RawRole> = serde_json::from_str(&event).unwrap();
        assert!(matches!(event, WatchEvent::Modified(role) if role.metadata.name.as_deref() == Some("deep")));
    }

    #[test]
    fn what_is_read_is_written_alike() {
        let role: RawRole = serde_json::from_str(&role("good", 3)).unwrap();
        let text = serde_json::to_value(&role).unwrap();
        assert_eq!((&text["kind"], &text["metadata"]["uid"]), (&"IamRole".into(), &"u".into()));
        assert_eq!(serde_json::from_value::<RawRole>(text).unwrap(), role);
    }
}
