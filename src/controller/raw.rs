//! An `IamRole` as it comes from the API server, decoded so that no object can hide the others.
//!
//! Documents keep unknown fields, so a user can write JSON that is nested deeper than our JSON library reads. In a
//! list one such object would fail the whole. Each part is therefore cut out first, which needs no depth, and then
//! read by itself; what lies deeper in it than anything that has a meaning is left out.
//!
//! Thousands of them are kept, so each is kept as the text that it came as, with what is asked all the time beside it.

use crate::api::{IamRole, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::api::TypeMeta;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// An `IamRole` whose spec and status are not decoded yet.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RawRole {
    /// API version and kind; absent in lists.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub types: Option<TypeMeta>,
    /// Metadata, without `managedFields`: they are as deep as the object.
    pub metadata: ObjectMeta,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Box<RawValue>>,
    /// What spec and status say that is asked often.
    #[serde(skip)]
    pub said: Said,
}

/// What an object says of itself, as far as it can be read without decoding the whole. What is not there, or is of
/// another type, is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Said {
    /// `spec.roleClassName`.
    pub named_class: Option<Box<str>>,
    /// Names in `spec.serviceAccounts`.
    pub service_accounts: Box<[Box<str>]>,
    /// `status.observedGeneration`.
    pub observed_generation: Option<i64>,
    /// `status.class.name`.
    pub class: Option<Box<str>>,
    /// `status.class.observedGeneration`.
    pub class_generation: Option<i64>,
    /// `status.accountId`.
    pub account: Option<Box<str>>,
    /// `status.role.name`.
    pub role_name: Option<Box<str>>,
    /// Whether there is a `status.role.id`.
    pub has_role: bool,
    /// Whether there is one, and `Ready` says that its spec is being applied.
    pub is_begun: bool,
    /// Whether there are conditions.
    pub has_conditions: bool,
    /// Whether `Ready` is True.
    pub is_ready: bool,
    /// `status.lastHandledReconcileAt`.
    pub handled: Option<Box<str>>,
    /// Names in `status.workloadIdentity.serviceAccounts`.
    pub bound_accounts: Box<[Box<str>]>,
    /// `status.effective.mode`.
    pub mode: Option<Box<str>>,
}

/// Of spec and status what [`Said`] is made from; everything else is passed over.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Excerpt {
    role_class_name: Value,
    service_accounts: Value,
    observed_generation: Value,
    class: Value,
    account_id: Value,
    role: Value,
    effective: Value,
    conditions: Value,
    last_handled_reconcile_at: Value,
    workload_identity: Value,
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
        let types = api_version.zip(kind).map(|(api_version, kind)| TypeMeta { api_version, kind });
        let said = Said::of(&excerpt(spec.as_deref()), &excerpt(status.as_deref()));
        Ok(Self { types, metadata: metadata.into(), spec, status, said })
    }
}

/// More than a policy document may have, which is refused with its place, and fewer than the JSON library reads.
const LEVELS: usize = 100;
/// Stands for what lies deeper.
const DEEPER: &str = "\"nested too deep to be read\"";

impl RawRole {
    /// The spec; an empty object where there is none, without what is nested too deep.
    #[must_use]
    pub fn spec(&self) -> Value {
        read(self.spec.as_deref())
    }

    /// Likewise the status.
    #[must_use]
    pub fn status(&self) -> Value {
        read(self.status.as_deref())
    }

    /// The conditions in status as they stand there, without the rest being read.
    #[must_use]
    pub fn conditions(&self) -> Vec<Value> {
        match excerpt(self.status.as_deref()).conditions {
            Value::Array(conditions) => conditions,
            _ => Vec::new(),
        }
    }

    /// The object with another status.
    pub fn with_status(&self, status: &impl Serialize) -> Result<Self, serde_json::Error> {
        let status = to_raw_value(status)?;
        let said = Said::of(&excerpt(self.spec.as_deref()), &excerpt(Some(&status)));
        let (types, metadata, spec) = (self.types.clone(), self.metadata.clone(), self.spec.clone());
        Ok(Self { types, metadata, spec, status: Some(status), said })
    }
}

fn read(part: Option<&RawValue>) -> Value {
    let Some(part) = part else { return Value::Object(Map::new()) };
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

fn excerpt(part: Option<&RawValue>) -> Excerpt {
    part.and_then(|part| serde_json::from_str(part.get()).ok()).unwrap_or_default()
}

impl Said {
    fn of(spec: &Excerpt, status: &Excerpt) -> Self {
        let conditions = status.conditions.as_array();
        let is_begun = |one: &Value| one["type"] == "Ready" && one["reason"] == Reason::Reconciling.as_str();
        let is_ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
        Self {
            named_class: text(&spec.role_class_name),
            service_accounts: names(&spec.service_accounts),
            observed_generation: status.observed_generation.as_i64(),
            class: text(&status.class["name"]),
            class_generation: status.class["observedGeneration"].as_i64(),
            account: text(&status.account_id),
            role_name: text(&status.role["name"]),
            has_role: status.role["id"].is_string(),
            is_begun: status.role["id"].is_string() && conditions.is_some_and(|all| all.iter().any(is_begun)),
            has_conditions: conditions.is_some(),
            is_ready: conditions.is_some_and(|all| all.iter().any(is_ready)),
            handled: text(&status.last_handled_reconcile_at),
            bound_accounts: names(&status.workload_identity["serviceAccounts"]),
            mode: text(&status.effective["mode"]),
        }
    }
}

fn text(value: &Value) -> Option<Box<str>> {
    value.as_str().map(Box::from)
}

fn names(list: &Value) -> Box<[Box<str>]> {
    list.as_array().into_iter().flatten().filter_map(|entry| text(&entry["name"])).collect()
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
    // Not kube's `ApiResource`: each of the many references to an object would carry its five texts.
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        IamRole::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        IamRole::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        IamRole::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        IamRole::plural(&())
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
    use super::{RawRole, Said};
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::{Value, json};

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
        assert_eq!(list.items[1].spec()["trustPolicy"]["x"][0][0][0], 1);
        assert_eq!(list.items[0].spec()["deletionPolicy"], "Retain");
        assert!(list.items[0].spec()["trustPolicy"]["x"].to_string().contains("[\"nested too deep to be read\"]"));
        assert_eq!(list.items[0].status()["accountId"], "1");
        assert_eq!(list.items[0].said.account.as_deref(), Some("1"));
        let event = format!(r#"{{"type":"MODIFIED","object":{}}}"#, role("deep", 5000));
        let event: WatchEvent<RawRole> = serde_json::from_str(&event).unwrap();
        assert!(matches!(event, WatchEvent::Modified(role) if role.metadata.name.as_deref() == Some("deep")));
    }

    #[test]
    fn what_is_read_is_written_alike() {
        let role: RawRole = serde_json::from_str(&role("good", 3)).unwrap();
        let text = serde_json::to_value(&role).unwrap();
        assert_eq!((&text["kind"], &text["metadata"]["uid"]), (&"IamRole".into(), &"u".into()));
        let again = serde_json::from_value::<RawRole>(text).unwrap();
        assert_eq!((again.metadata, again.said), (role.metadata.clone(), role.said.clone()));
        let changed = role.with_status(&json!({ "accountId": "2" })).unwrap();
        assert_eq!((changed.spec(), changed.status()), (role.spec(), json!({ "accountId": "2" })));
        assert_eq!(changed.said.account.as_deref(), Some("2"));
    }

    fn said(spec: &Value, status: &Value) -> Said {
        serde_json::from_value::<RawRole>(json!({ "metadata": {}, "spec": spec, "status": status })).unwrap().said
    }

    #[test]
    fn what_is_asked_often_is_known_and_a_mistake_hides_nothing_else() {
        let spec = json!({ "roleClassName": "c", "serviceAccounts": [{ "name": "a" }, { "name": "b" }], "path": "/" });
        let status = json!({
            "observedGeneration": 3, "class": { "name": "d", "observedGeneration": 4 }, "accountId": "1",
            "role": { "name": "r", "id": "AROA" }, "lastHandledReconcileAt": "t",
            "conditions": [{ "type": "Drifted", "status": "True" }, { "type": "Ready", "status": "True" }],
            "workloadIdentity": { "serviceAccounts": [{ "name": "a", "annotated": true }] },
        });
        let known = said(&spec, &status);
        let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
        let texts = [&known.named_class, &known.class, &known.account, &known.role_name, &known.handled].map(text);
        assert_eq!(texts, ["c", "d", "1", "r", "t"]);
        assert_eq!((known.observed_generation, known.class_generation), (Some(3), Some(4)));
        assert!(known.has_role && known.has_conditions && known.is_ready && !known.is_begun);
        let reconciling = json!([{ "type": "Ready", "status": "False", "reason": "Reconciling" }]);
        let of = |role: &Value| said(&json!({}), &json!({ "role": role, "conditions": reconciling })).is_begun;
        assert!(of(&json!({ "id": "AROA" })) && !of(&json!({ "name": "r" })));
        assert_eq!((known.service_accounts.concat(), known.bound_accounts.concat()), ("ab".into(), "a".into()));
        let odd = said(&json!({ "roleClassName": 5, "serviceAccounts": [1, { "name": "a" }] }), &json!("x"));
        assert_eq!((odd.named_class, odd.service_accounts.concat(), odd.class), (None, "a".into(), None));
        assert_eq!(said(&json!({}), &json!({})), Said::default());
    }
}
