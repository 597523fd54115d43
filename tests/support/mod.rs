//! What the tests on the rig share: a namespace with a class of its own, an operator process of its own
//! (the real binary, with the chart's ServiceAccount token), and a proxy in front of the emulated AWS that
//! counts calls and injects faults. So tests run side by side.
//!
//! Needs the rig: `make test` brings it up, or `tests/rig/rig up --no-operator && source target/rig/env`.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod api;
pub mod aws;
pub mod chart;
pub mod exposition;
pub mod kubectl;
pub mod ministack;
pub mod operator;
pub mod pages;
pub mod proxy;
pub mod tls;
pub mod tunnel;

use futures::StreamExt as _;
use iamrole_operator::api::iamroleclass::{Account, Allowed, DriftCheck, DriftMethod};
use iamrole_operator::api::schema::Selector;
use iamrole_operator::api::{ANNOTATION_DEFAULT_CLASS, IamRole, IamRoleClass, IamRoleClassSpec, IamRoleStatus};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use operator::Operator;
use proxy::Proxy;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest wait for something that should take a second.
pub const SOON: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(25);

/// One test's world.
pub struct World {
    pub namespace: String,
    pub client: Client,
    pub iam: aws_sdk_iam::Client,
    pub proxy: Proxy,
    pub operator: Operator,
    /// How long [`Self::until`] and [`Self::gone`] wait.
    pub patience: Duration,
}

/// A setting of the rig.
pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: these tests need the rig (make test, or tests/rig/rig up --no-operator && source target/rig/env)")
    })
}

impl World {
    /// A namespace `test` with a default class and an operator.
    pub async fn new(test: &str) -> Self {
        Self::with_class(test, |_| {}).await
    }

    /// The same with a changed class.
    pub async fn with_class(test: &str, change: impl FnOnce(&mut IamRoleClassSpec)) -> Self {
        let mut world = Self::without_operator(test, change).await;
        world.operator.start().await;
        world
    }

    /// The same without a running operator; see [`Operator::start`].
    pub async fn without_operator(test: &str, change: impl FnOnce(&mut IamRoleClassSpec)) -> Self {
        Self::on(test, &env("AWS_ENDPOINT_URL"), aws::client().await, change).await
    }

    /// The same on another emulated AWS, which `iam` asks directly.
    pub async fn on(
        test: &str,
        endpoint: &str,
        iam: aws_sdk_iam::Client,
        change: impl FnOnce(&mut IamRoleClassSpec),
    ) -> Self {
        let client = Client::try_default().await.expect("a client for KUBECONFIG; is the rig up?");
        let namespace = format!("{test}-{:x}", unique());
        let labels = BTreeMap::from([("test".to_owned(), namespace.clone())]);
        let mut object = Namespace::default();
        object.metadata.name = Some(namespace.clone());
        object.metadata.labels = Some(labels.clone());
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.expect("a namespace");
        let proxy = Proxy::start(endpoint).await;
        let operator = Operator::new(&namespace, &proxy.url());
        let world = Self { namespace, client, iam, proxy, operator, patience: SOON };
        let mut spec = IamRoleClassSpec {
            namespace_selector: Selector { match_labels: labels, ..Selector::default() },
            unbounded: Some(true),
            allowed: Some(Allowed::everything()),
            controller: Some(world.operator.controller.clone()),
            ..IamRoleClassSpec::default()
        };
        change(&mut spec);
        world.create_class(&world.namespace.clone(), spec, true).await;
        world
    }

    pub async fn create_class(&self, name: &str, spec: IamRoleClassSpec, is_default: bool) {
        let mut class = IamRoleClass::new(name, spec);
        if is_default {
            class.metadata.annotations = Some(BTreeMap::from([(ANNOTATION_DEFAULT_CLASS.into(), "true".into())]));
        }
        self.classes().create(&PostParams::default(), &class).await.expect("a class");
    }

    pub fn classes(&self) -> Api<IamRoleClass> {
        Api::all(self.client.clone())
    }

    /// Merge-patches the spec of this world's class.
    pub async fn patch_class(&self, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.classes().patch(&self.namespace, &PatchParams::default(), &patch).await.expect("the API server takes it");
    }

    pub fn roles(&self) -> Api<IamRole> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn raw_roles(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::erase::<IamRole>(&()))
    }

    /// Creates an `IamRole` from its spec in YAML or JSON; the API server's refusal is the error.
    pub async fn try_create(&self, name: &str, spec: Value) -> Result<(), String> {
        let object = json!({
            "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRole", "metadata": { "name": name }, "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let params = PostParams { field_manager: Some("test".into()), ..PostParams::default() };
        self.raw_roles().create(&params, &object).await.map(drop).map_err(|error| error.to_string())
    }

    pub async fn create(&self, name: &str, spec: Value) {
        self.try_create(name, spec).await.expect("the API server takes it");
    }

    /// Merge-patches the spec.
    pub async fn try_patch(&self, name: &str, spec: Value) -> Result<(), String> {
        self.patch_object(name, json!({ "spec": spec })).await
    }

    pub async fn patch(&self, name: &str, spec: Value) {
        self.try_patch(name, spec).await.expect("the API server takes it");
    }

    pub async fn patch_object(&self, name: &str, patch: Value) -> Result<(), String> {
        let params = PatchParams::default();
        self.raw_roles().patch(name, &params, &Patch::Merge(patch)).await.map(drop).map_err(|error| error.to_string())
    }

    pub async fn get(&self, name: &str) -> IamRole {
        self.roles().get(name).await.expect("the object")
    }

    pub async fn status(&self, name: &str) -> IamRoleStatus {
        self.get(name).await.status.unwrap_or_default()
    }

    pub async fn delete(&self, name: &str) {
        self.roles().delete(name, &DeleteParams::default()).await.expect("a deletion");
    }

    /// Waits until `Ready` is True for the current generation; returns the object.
    pub async fn ready(&self, name: &str) -> IamRole {
        self.condition(name, "Ready", "True", None).await
    }

    /// Waits until a condition of the current generation has this status (and reason).
    pub async fn condition(&self, name: &str, kind: &str, status: &str, reason: Option<&str>) -> IamRole {
        let what = format!("{kind}={status} {}", reason.unwrap_or_default());
        self.until(name, &what, |role| {
            let generation = role.metadata.generation;
            condition(role, kind).is_some_and(|condition| {
                condition.status == status
                    && reason.is_none_or(|reason| condition.reason == reason)
                    && condition.observed_generation == generation
            })
        })
        .await
    }

    /// Waits until `Ready` of the current generation has this reason; returns its message.
    pub async fn reason(&self, name: &str, reason: &str) -> String {
        let role = self
            .until(name, reason, |role| {
                let generation = role.metadata.generation;
                condition(role, "Ready")
                    .is_some_and(|ready| ready.reason == reason && ready.observed_generation == generation)
            })
            .await;
        condition(&role, "Ready").expect("Ready").message.clone()
    }

    /// Waits until the object is as `done` wants it.
    pub async fn until(&self, name: &str, what: &str, done: impl Fn(&IamRole) -> bool) -> IamRole {
        let deadline = Instant::now() + self.patience;
        loop {
            let role = self.get(name).await;
            if done(&role) {
                return role;
            }
            assert!(
                Instant::now() < deadline,
                "{name} never got to {what}; status: {:#?}\n{}",
                role.status,
                self.operator.log()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the object is gone.
    pub async fn gone(&self, name: &str) {
        let done =
            eventually(self.patience, || async { self.roles().get_opt(name).await.expect("an answer").is_none() })
                .await;
        assert!(done, "{name} is still there: {:#?}\n{}", self.status(name).await, self.operator.log());
    }

    /// The events of an object, as `(type, reason, note)`.
    pub async fn events(&self, name: &str) -> Vec<(String, String, String)> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let events = api.list(&ListParams::default()).await.expect("events");
        let about =
            |event: &Event| event.regarding.as_ref().and_then(|about| about.name.clone()) == Some(name.to_owned());
        let text = |text: Option<String>| text.unwrap_or_default();
        events
            .items
            .into_iter()
            .filter(about)
            .map(|event| (text(event.type_), text(event.reason), text(event.note)))
            .collect()
    }

    /// Waits for an event with this reason whose note holds `part`.
    pub async fn event(&self, name: &str, reason: &str, part: &str) {
        let there = eventually(SOON, || async {
            self.events(name).await.iter().any(|(_, r, note)| r == reason && note.contains(part))
        });
        assert!(there.await, "no event {reason} with {part:?}: {:#?}", self.events(name).await);
    }

    /// Collects the resource version of every write to the object from now on, its creation included.
    pub async fn writes_to(&self, name: &str) -> Arc<Mutex<BTreeSet<String>>> {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let list = self.raw_roles().list(&ListParams::default()).await.expect("a list");
        let from = list.metadata.resource_version.expect("a version");
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let events = self.raw_roles().watch(&params, &from).await.expect("a watch");
        let writes = seen.clone();
        tokio::spawn(events.for_each(move |event| {
            if let Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) = event {
                writes.lock().unwrap().extend(object.metadata.resource_version);
            }
            futures::future::ready(())
        }));
        seen
    }

    /// Annotates the object so that it is checked now; returns the token.
    pub async fn request_check(&self, name: &str) -> String {
        let token = format!("{:x}", unique());
        let patch = json!({ "metadata": { "annotations": { "iamrole.dev/reconcile-requested-at": token } } });
        self.patch_object(name, patch).await.expect("an annotation");
        token
    }

    /// The same, and waits until it was.
    pub async fn check_now(&self, name: &str) {
        let token = self.request_check(name).await;
        self.until(name, "handling the requested check", |role| {
            role.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_ref()) == Some(&token)
        })
        .await;
    }

    /// The tags of a role or policy of the object under this world's class.
    pub async fn role_tags(&self, name: &str, origin: &str) -> [(&'static str, String); 5] {
        let [cluster, namespace, name, origin] = self.owner_tags(name, origin).await;
        [cluster, namespace, name, origin, ("iamrole.dev/class", self.namespace.clone())]
    }

    /// The tags by which something is the object's.
    pub async fn owner_tags(&self, name: &str, origin: &str) -> [(&'static str, String); 4] {
        let system = Api::<Namespace>::all(self.client.clone()).get("kube-system").await.expect("kube-system");
        [
            ("iamrole.dev/cluster", format!("{}/{}", self.operator.cluster, system.uid().expect("a UID"))),
            ("iamrole.dev/namespace", self.namespace.clone()),
            ("iamrole.dev/name", name.into()),
            ("iamrole.dev/origin", origin.into()),
        ]
    }

    /// The name that the class's template gives.
    pub fn templated(&self, name: &str) -> String {
        format!("{}.{}.{name}", self.operator.cluster, self.namespace)
    }
}

/// A class's drift interval.
#[allow(clippy::unnecessary_wraps, reason = "the type of the field")]
pub fn every(seconds: i32) -> Option<DriftCheck> {
    Some(DriftCheck { interval_seconds: Some(seconds), method: None })
}

/// The same, with each role read by itself.
#[allow(clippy::unnecessary_wraps, reason = "the type of the field")]
pub fn each_by_itself(seconds: i32) -> Option<DriftCheck> {
    Some(DriftCheck { interval_seconds: Some(seconds), method: Some(DriftMethod::Role) })
}

/// A class's account.
#[allow(clippy::unnecessary_wraps, reason = "the type of the field")]
pub fn account(id: &str) -> Option<Account> {
    Some(Account { id: Some(id.to_owned()), assume_role: None })
}

/// The condition of a type.
pub fn condition<'a>(role: &'a IamRole, kind: &str) -> Option<&'a Condition> {
    role.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Polls until `done`, or false at the deadline.
pub async fn eventually<F: Future<Output = bool>>(limit: Duration, done: impl Fn() -> F) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if done().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether `holds` is true all the time for so long. For what must *not* happen; never to wait for something.
pub async fn stays<F: Future<Output = bool>>(long: Duration, holds: impl Fn() -> F) -> bool {
    !eventually(long, || async { !holds().await }).await
}

/// Trust for EC2.
pub fn ec2() -> Value {
    trust(&json!({ "Service": "ec2.amazonaws.com" }))
}

/// Trust for a principal.
pub fn trust(principal: &Value) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole" }] })
}

/// A document that allows an action on everything.
pub fn allow(action: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": action, "Resource": "*" }] })
}

pub fn unique() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id()) & 0xffff_ffff
}

/// Reads a YAML file of the repository as JSON documents.
pub fn yaml_documents(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect("a file");
    let documents =
        text.split("\n---\n").filter(|part| part.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')));
    documents.map(|part| serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{path}: {error}"))).collect()
}

/// The object's resource version.
pub fn version(role: &IamRole) -> String {
    role.resource_version().unwrap_or_default()
}
