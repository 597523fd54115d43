//! A stand-in for EKS with associations of Pod Identity and nothing else: no emulator has them. It answers as the API
//! reference says, and knows what every call asked for.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod both;
pub mod managed;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Inner {
    /// By id.
    associations: BTreeMap<String, Value>,
    made: usize,
    calls: Vec<String>,
    /// The next create is carried out and answered by a server error.
    lose_next: bool,
    /// Every call is refused with this code.
    refuse: Option<&'static str>,
    /// This call only.
    only: Option<&'static str>,
    /// Calls for clusters that are not there.
    unknown: usize,
}

#[derive(Clone)]
pub struct Eks {
    inner: Arc<Mutex<Inner>>,
    address: SocketAddr,
}

type Shared = State<Arc<Mutex<Inner>>>;

pub const CLUSTER: &str = "arn:aws:eks:eu-central-1:123456789012:cluster/rig";
const NAME: &str = "rig";

impl Eks {
    pub async fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new()
            .route("/clusters/{cluster}/pod-identity-associations", get(list).post(create))
            .route("/clusters/{cluster}/pod-identity-associations/{id}", get(describe).post(update).delete(delete))
            .with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { inner, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The associations of a namespace, by ServiceAccount.
    pub fn of(&self, namespace: &str) -> BTreeMap<String, Value> {
        let inner = self.inner.lock().unwrap();
        let of = inner.associations.values().filter(|one| one["namespace"] == namespace);
        of.map(|one| (one["serviceAccount"].as_str().unwrap().to_owned(), one.clone())).collect()
    }

    /// One that somebody else makes.
    pub fn put(&self, namespace: &str, account: &str, role: &str) {
        self.inner.lock().unwrap().make(namespace, account, role, &json!({ "team": "other" }));
    }

    /// Somebody gives one another role.
    pub fn change(&self, namespace: &str, account: &str, role: &str) {
        let mut inner = self.inner.lock().unwrap();
        let one = inner
            .associations
            .values_mut()
            .find(|one| one["namespace"] == namespace && one["serviceAccount"] == account);
        one.expect("an association")["roleArn"] = json!(role);
    }

    /// Somebody changes members of one.
    pub fn set(&self, namespace: &str, account: &str, members: &Value) {
        let mut inner = self.inner.lock().unwrap();
        let mut all = inner.associations.values_mut();
        let one = all.find(|one| one["namespace"] == namespace && one["serviceAccount"] == account);
        let one = one.expect("an association").as_object_mut().unwrap();
        one.extend(members.as_object().unwrap().clone());
    }

    /// Somebody deletes one.
    pub fn remove(&self, namespace: &str, account: &str) {
        let mut inner = self.inner.lock().unwrap();
        inner.associations.retain(|_, one| one["namespace"] != namespace || one["serviceAccount"] != account);
    }

    /// The next one that is made is made, but the answer is lost.
    pub fn lose_next(&self) {
        self.inner.lock().unwrap().lose_next = true;
    }

    pub fn refuse(&self, code: Option<&'static str>) {
        self.inner.lock().unwrap().refuse = code;
    }

    /// Refuses one call only; `None` for each.
    pub fn refuse_only(&self, call: Option<&'static str>) {
        self.inner.lock().unwrap().only = call;
    }

    /// How often a cluster was asked for that is not there.
    pub fn unknown_clusters(&self) -> usize {
        self.inner.lock().unwrap().unknown
    }

    /// The calls so far, which are forgotten. A list of one ServiceAccount is a `ListOfServiceAccount`, and all but the first
    /// page of one are a `NextPage`.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().unwrap().calls)
    }
}

impl Inner {
    fn make(&mut self, namespace: &str, account: &str, role: &str, tags: &Value) -> Value {
        self.made += 1;
        let id = format!("a-{:017}", self.made);
        let arn = format!("arn:aws:eks:eu-central-1:123456789012:podidentityassociation/{NAME}/{id}");
        let one = json!({ "clusterName": NAME, "namespace": namespace, "serviceAccount": account, "roleArn": role,
            "associationArn": arn, "associationId": id, "tags": tags, "disableSessionTags": false });
        self.associations.insert(id, one.clone());
        one
    }

    /// Notes the call; what is refused, and a cluster that is not there.
    fn enter(&mut self, call: &str, cluster: &str, headers: &HeaderMap) -> Option<Response> {
        let signed = headers.get("authorization").and_then(|text| text.to_str().ok()).unwrap_or_default();
        assert!(signed.contains("/eu-central-1/eks/aws4_request"), "signed for the cluster's region: {signed}");
        self.calls.push(call.to_owned());
        if let Some(code) = self.refuse.filter(|_| self.only.is_none_or(|only| only == call)) {
            return Some(refusal(403, code, &format!("User is not authorized to perform: eks:{call}")));
        }
        self.unknown += usize::from(cluster != NAME);
        (cluster != NAME).then(|| refusal(404, "ResourceNotFoundException", "No cluster found"))
    }
}

fn refusal(status: u16, code: &'static str, message: &str) -> Response {
    let body = json!({ "message": message }).to_string();
    (StatusCode::from_u16(status).unwrap(), [("x-amzn-errortype", code)], body).into_response()
}

fn answer(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}

fn missing() -> Response {
    refusal(404, "ResourceNotFoundException", "No pod identity association found")
}

async fn list(
    State(inner): Shared,
    Path(cluster): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let mut inner = inner.lock().unwrap();
    let query = query.unwrap_or_default();
    let query: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let call = match (query.contains_key("nextToken"), query.contains_key("serviceAccount")) {
        (true, _) => "NextPage",
        (false, true) => "ListOfServiceAccount",
        (false, false) => "ListPodIdentityAssociations",
    };
    let refused = inner.enter("ListPodIdentityAssociations", &cluster, &headers);
    call.clone_into(inner.calls.last_mut().expect("just noted"));
    if let Some(response) = refused {
        return response;
    }
    let meant = |one: &&Value, key: &str| query.get(key).is_none_or(|wanted| one[key] == *wanted);
    let found = inner.associations.values().filter(|one| meant(one, "namespace") && meant(one, "serviceAccount"));
    let short = |one: &Value| {
        let mut short = one.clone();
        let whole = ["roleArn", "tags", "disableSessionTags", "targetRoleArn"];
        short.as_object_mut().unwrap().retain(|key, _| !whole.contains(&key.as_str()));
        short
    };
    // Pages of two: nobody may count on seeing all at once.
    let all: Vec<Value> = found.map(short).collect();
    let from: usize = query.get("nextToken").and_then(|token| token.parse().ok()).unwrap_or_default();
    let page: Vec<Value> = all.iter().skip(from).take(2).cloned().collect();
    let next = (from + 2 < all.len()).then(|| (from + 2).to_string());
    answer(&json!({ "associations": page, "nextToken": next }))
}

async fn create(State(inner): Shared, Path(cluster): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let mut inner = inner.lock().unwrap();
    if let Some(response) = inner.enter("CreatePodIdentityAssociation", &cluster, &headers) {
        return response;
    }
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let text = |key: &str| asked[key].as_str().expect("a required member");
    let (namespace, account) = (text("namespace"), text("serviceAccount"));
    if inner.associations.values().any(|one| one["namespace"] == namespace && one["serviceAccount"] == account) {
        return refusal(409, "ResourceInUseException", "Association already exists");
    }
    let one = inner.make(namespace, account, text("roleArn"), &asked["tags"]);
    if std::mem::take(&mut inner.lose_next) {
        return refusal(400, "SomethingElseException", "lost");
    }
    answer(&json!({ "association": one }))
}

async fn describe(State(inner): Shared, Path((cluster, id)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let mut inner = inner.lock().unwrap();
    let refused = inner.enter("DescribePodIdentityAssociation", &cluster, &headers);
    let found = inner.associations.get(&id).map(|one| answer(&json!({ "association": one })));
    refused.or(found).unwrap_or_else(missing)
}

async fn update(
    State(inner): Shared,
    Path((cluster, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inner = inner.lock().unwrap();
    if let Some(response) = inner.enter("UpdatePodIdentityAssociation", &cluster, &headers) {
        return response;
    }
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let Some(one) = inner.associations.get_mut(&id) else { return missing() };
    let one = one.as_object_mut().unwrap();
    for member in ["roleArn", "disableSessionTags", "targetRoleArn"] {
        match asked.get(member) {
            Some(Value::String(empty)) if empty.is_empty() => drop(one.remove(member)),
            Some(value) => drop(one.insert(member.to_owned(), value.clone())),
            // What an update does not say stays.
            None => {}
        }
    }
    answer(&json!({ "association": &*one }))
}

async fn delete(State(inner): Shared, Path((cluster, id)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let mut inner = inner.lock().unwrap();
    if let Some(response) = inner.enter("DeletePodIdentityAssociation", &cluster, &headers) {
        return response;
    }
    inner.associations.remove(&id).map_or_else(missing, |one| answer(&json!({ "association": one })))
}
