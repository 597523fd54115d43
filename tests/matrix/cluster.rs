//! A Kubernetes API server with one `IamRole`, its class and its events, as strict as the real one about what the
//! operator relies on: resource versions, the status subresource, tests in patches, finalizers.

use iamrole_operator::api::IamRole;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

pub const NAMESPACE: &str = "shop";
pub const NAME: &str = "api";
pub const UID: &str = "object-1";

#[derive(Clone, Debug)]
pub struct Cluster {
    version: u64,
    pub role: Option<Value>,
    pub class: Value,
    pub events: Vec<Value>,
}

/// HTTP status and body.
pub type Answer = (u16, Value);

pub fn refusal(code: u16, reason: &str, message: &str) -> Answer {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code });
    (code, status)
}

impl Cluster {
    pub fn new(class: &Value) -> Self {
        let class = json!({ "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRoleClass", "spec": class,
            "metadata": { "name": "default", "uid": "class-1", "generation": 1, "resourceVersion": "1",
                "annotations": { "iamrole.dev/is-default-class": "true" } } });
        Self { version: 10, role: None, class, events: Vec::new() }
    }

    /// A user applies a spec.
    pub fn apply(&mut self, spec: &Value) {
        self.version += 1;
        let version = self.version.to_string();
        let role = self.role.get_or_insert_with(|| {
            json!({ "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRole", "status": { "observedGeneration": -1 },
                "metadata": { "name": NAME, "namespace": NAMESPACE, "uid": UID, "generation": 0,
                    "creationTimestamp": "2026-01-02T03:04:05Z" } })
        });
        role["spec"] = spec.clone();
        role["metadata"]["generation"] = (role["metadata"]["generation"].as_i64().expect("a number") + 1).into();
        role["metadata"]["resourceVersion"] = version.into();
    }

    /// Somebody edits the spec, and edits it back.
    pub fn touch(&mut self) {
        if let Some(spec) = self.role.as_ref().map(|role| role["spec"].clone()) {
            self.apply(&spec);
            self.apply(&spec);
        }
    }

    /// The object comes back from a backup: its spec, and no status.
    pub fn restore(&mut self, spec: &Value) {
        self.apply(spec);
        if let Some(role) = &mut self.role {
            role["status"] = json!({ "observedGeneration": -1 });
        }
    }

    /// The object loses its status, and is deleted.
    pub fn lose(&mut self) {
        if let Some(role) = &mut self.role {
            role["status"] = json!({ "observedGeneration": -1 });
        }
        self.delete();
    }

    /// A user deletes the object.
    pub fn delete(&mut self) {
        self.version += 1;
        let role = self.role.as_mut().expect("an object");
        role["metadata"]["deletionTimestamp"] = "2026-01-02T04:04:05Z".into();
        role["metadata"]["generation"] = (role["metadata"]["generation"].as_i64().expect("a number") + 1).into();
        role["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.collect();
    }

    fn collect(&mut self) {
        let gone = self.role.as_ref().is_some_and(|role| {
            let held = role["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
            role["metadata"].get("deletionTimestamp").is_some() && !held
        });
        if gone {
            self.role = None;
        }
    }

    /// What the controller's watch lets through: not our own writes of status.
    pub fn wakes(&self) -> Value {
        let meta = self.role.as_ref().map(|role| &role["metadata"]).cloned().unwrap_or_default();
        json!([meta["generation"], meta["finalizers"], meta["deletionTimestamp"]])
    }

    /// Whether status says that the object's generation is in AWS.
    pub fn is_ready(&self) -> bool {
        let Some(role) = &self.role else { return false };
        let conditions = role["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "Ready"
                && condition["status"] == "True"
                && condition["observedGeneration"] == role["metadata"]["generation"]
        })
    }

    /// Answers a request.
    pub fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        let role = format!("/apis/iamrole.dev/v1alpha1/namespaces/{NAMESPACE}/iamroles/{NAME}");
        let class = "/apis/iamrole.dev/v1alpha1/iamroleclasses/default";
        let json = || serde_json::from_slice::<Value>(body).expect("JSON");
        match (method, path) {
            ("GET", path) if path == role => self.get(),
            ("PUT", path) if path == format!("{role}/status") => self.put_status(&json()),
            ("PATCH", path) if path == role => self.patch(&json(), false),
            ("GET", path) if path == class => (200, self.class.clone()),
            ("PATCH", path) if path == class => self.patch(&json(), true),
            ("POST", path) if path.ends_with("/events") => {
                self.events.push(json());
                (201, json())
            }
            _ => panic!("the stand-in knows no {method} {path}"),
        }
    }

    fn get(&self) -> Answer {
        self.role.clone().map_or_else(|| refusal(404, "NotFound", "iamroles \"api\" not found"), |role| (200, role))
    }

    fn put_status(&mut self, new: &Value) -> Answer {
        let Some(role) = &mut self.role else { return self.get() };
        if new["metadata"]["uid"] != role["metadata"]["uid"]
            || new["metadata"]["resourceVersion"] != role["metadata"]["resourceVersion"]
        {
            return refusal(
                409,
                "Conflict",
                "the object has been modified; please apply your changes to the latest version",
            );
        }
        if let Some(field) = too_long(&new["status"]) {
            return refusal(422, "Invalid", &format!("status.{field}: Too many"));
        }
        if new["status"] != role["status"] {
            self.version += 1;
            role["status"] = new["status"].clone();
            role["metadata"]["resourceVersion"] = self.version.to_string().into();
        }
        (200, role.clone())
    }

    /// A JSON patch; nothing but finalizers may be changed by one.
    fn patch(&mut self, patch: &Value, of_class: bool) -> Answer {
        let object = if of_class { Some(&mut self.class) } else { self.role.as_mut() };
        let Some(object) = object else { return self.get() };
        for operation in patch.as_array().expect("operations") {
            let place = operation["path"].as_str().expect("a path");
            let at = object.pointer(place).cloned().unwrap_or_default();
            match operation["op"].as_str() {
                Some("test") if at == operation["value"] => {}
                Some("test") => {
                    return refusal(422, "Invalid", "the server rejected our request due to an error in our request");
                }
                Some("add") if place == "/metadata/finalizers" => {
                    self.version += 1;
                    object["metadata"]["finalizers"] = operation["value"].clone();
                    object["metadata"]["resourceVersion"] = self.version.to_string().into();
                }
                _ => panic!("{operation} is none of the operator's business"),
            }
        }
        let answer = (200, object.clone());
        self.collect();
        answer
    }
}

/// A list in status that is longer than the CRD permits.
fn too_long(status: &Value) -> Option<&'static str> {
    static MOST: LazyLock<BTreeMap<String, usize>> = LazyLock::new(|| {
        let crd = serde_json::to_value(IamRole::crd()).expect("JSON");
        let fields = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties");
        let fields = fields.and_then(Value::as_object).expect("a schema").iter();
        let most =
            |(name, field): (&String, &Value)| Some((name.clone(), usize::try_from(field["maxItems"].as_u64()?).ok()?));
        fields.filter_map(most).collect()
    });
    let length = |name: &str| status[name].as_array().map_or(0, Vec::len);
    MOST.iter().find(|(name, most)| length(name) > **most).map(|(name, _)| name.as_str())
}
