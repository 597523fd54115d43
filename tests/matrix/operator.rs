//! The operator's own code on the stand-ins, in virtual time.

use super::cluster::{NAMESPACE, UID};
use super::world::{Reply, World};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_iam::config::http::{HttpRequest, HttpResponse};
use aws_sdk_iam::config::{AsyncSleep, IdentityCache, RuntimeComponents, Sleep};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use axum::body::Bytes;
use axum::http::{Request, Response};
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::{FutureExt as _, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use iamrole_operator::api::{DEFAULT_CONTROLLER, IamRoleClass};
use iamrole_operator::aws::{Account, Aws};
use iamrole_operator::controller::claims::Claims;
use iamrole_operator::controller::context::{ClassState, Context, RawRole, RoleScope};
use iamrole_operator::controller::events::Events;
use iamrole_operator::controller::issuer::Issuer;
use iamrole_operator::controller::lanes::Lanes;
use iamrole_operator::controller::memory::Memory;
use iamrole_operator::controller::roles;
use iamrole_operator::controller::states::ClassStates;
use iamrole_operator::controller::sweeps::Sweeps;
use iamrole_operator::controller::workload::Workloads;
use iamrole_operator::role::Cluster;
use iamrole_operator::telemetry::Metrics;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;
use std::time::Duration;

/// Longer than any time limit of the SDK.
const NEVER: Duration = Duration::from_hours(1);

/// AWS and Kubernetes as the operator's clients meet them.
pub trait Backend: Send + Sync + 'static {
    /// A request to AWS; attempts of one call have the same `invocation`.
    fn aws(&self, invocation: &str, body: &str) -> impl Future<Output = Reply> + Send;
    /// A request to Kubernetes.
    fn kubernetes(&self, method: &str, path: &str, body: &[u8]) -> impl Future<Output = Reply> + Send;
}

impl Backend for World {
    async fn aws(&self, invocation: &str, body: &str) -> Reply {
        self.aws(invocation, body)
    }

    async fn kubernetes(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        self.kubernetes(method, path, body)
    }
}

struct Http<B>(Arc<B>);

impl<B> Debug for Http<B> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("stand-in")
    }
}

impl<B: Backend> HttpConnector for Http<B> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let invocation = request.headers().get("amz-sdk-invocation-id").unwrap_or_default().to_owned();
        let backend = self.0.clone();
        HttpConnectorFuture::new(async move {
            let (status, body) = match backend.aws(&invocation, &body).await {
                Reply::Answer(status, body) => (status, SdkBody::from(body)),
                Reply::Cut(body) => {
                    let half = Bytes::copy_from_slice(&body.as_bytes()[..body.len() / 2]);
                    let frames = [Ok(Frame::data(half)), Err(std::io::Error::other("cut"))];
                    (200, SdkBody::from_body_1_x(StreamBody::new(futures::stream::iter(frames))))
                }
                Reply::Dropped => return Err(ConnectorError::io("dropped".into())),
                Reply::Late => {
                    tokio::time::sleep(NEVER).await;
                    return Err(ConnectorError::io("late".into()));
                }
                Reply::Killed => return futures::future::pending().await,
            };
            Ok(HttpResponse::new(status.try_into().expect("a status"), body))
        })
    }
}

impl<B: Backend> HttpClient for Http<B> {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Self(self.0.clone()))
    }
}

/// Sleeps in virtual time.
#[derive(Debug)]
struct Virtual;

impl AsyncSleep for Virtual {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(tokio::time::sleep(duration))
    }
}

/// With the operator's own time limits and attempts. `run` gives each run its own budget of retries: the SDK
/// shares it within a process, by region.
fn aws<B: Backend>(backend: &Arc<B>, run: usize) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(format!("run-{run}")))
        .endpoint_url("http://aws.test")
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "test")))
        .identity_cache(IdentityCache::no_cache())
        .sleep_impl(Virtual)
        .timeout_config(iamrole_operator::aws::time_limits())
        .retry_config(iamrole_operator::aws::retries())
        .http_client(Http(backend.clone()))
        .build()
}

/// A client of the stand-in for Kubernetes.
pub fn kubernetes<B: Backend>(backend: &Arc<B>) -> kube::Client {
    let backend = backend.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let backend = backend.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            match backend.kubernetes(head.method.as_str(), head.uri.path(), &body).await {
                Reply::Answer(status, body) => {
                    let answer = Response::builder().status(status).header("content-type", "application/json");
                    Ok::<_, tower::BoxError>(answer.body(Full::new(Bytes::from(body)))?)
                }
                Reply::Killed => futures::future::pending().await,
                Reply::Cut(_) | Reply::Dropped | Reply::Late => Err("dropped".into()),
            }
        }
    });
    kube::Client::new(service, NAMESPACE)
}

/// The stand-in's account.
pub async fn account<B: Backend>(backend: &Arc<B>) -> Arc<Account> {
    Aws::new(aws(backend, 0), Metrics::default()).identify(None, None).await.expect("an identity")
}

/// The object as it is.
pub fn object(world: &World) -> RawRole {
    serde_json::from_value(world.lock().cluster.role.clone().expect("an object")).expect("an object")
}

/// What feeds a process of the operator.
pub struct Feed {
    pub roles: Writer<RawRole>,
    pub classes: Writer<IamRoleClass>,
    pub class_wakes: UnboundedReceiver<ObjectRef<IamRoleClass>>,
    pub wakes: UnboundedReceiver<ObjectRef<RawRole>>,
    _stop: tokio::sync::watch::Sender<bool>,
}

/// A process of the operator that makes at most so many calls to AWS at once.
pub fn process<B: Backend>(backend: &Arc<B>, run: usize, calls: u16) -> (Context, Feed) {
    let (mut roles, mut classes) = (Writer::default(), Writer::<IamRoleClass>::default());
    let mut namespaces = Writer::<PartialObjectMeta<Namespace>>::default();
    for event in [Event::Init, Event::InitDone] {
        roles.apply_watcher_event(&event);
    }
    classes.apply_watcher_event(&Event::Init);
    classes.apply_watcher_event(&Event::InitDone);
    namespaces.apply_watcher_event(&Event::Init);
    let mut namespace = PartialObjectMeta::<Namespace>::default();
    namespace.metadata.name = Some(crate::model::owner().namespace);
    namespaces.apply_watcher_event(&Event::InitApply(namespace));
    namespaces.apply_watcher_event(&Event::InitDone);
    let (wake, wakes) = unbounded();
    let (wake_class, class_wakes) = unbounded();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let (client, metrics) = (kubernetes(backend), Metrics::default());
    let ctx = Context {
        events: Events::new(client.clone(), "test"),
        client,
        aws: Aws::new(aws(backend, run), metrics.clone()).at_once(calls),
        cluster: Cluster::new(Some("prod"), "uid-1"),
        controller: DEFAULT_CONTROLLER.to_owned(),
        issuer: Issuer::default(),
        workloads: Workloads::default(),
        classes: classes.as_reader(),
        namespaces: namespaces.as_reader(),
        scopes: vec![RoleScope { namespace: None, store: roles.as_reader(), index: Arc::default(), wake }],
        wake_class,
        memory: Memory::default(),
        class_memory: Memory::default(),
        claims: Claims::default(),
        lanes: Lanes::of_calls(calls),
        class_lanes: Lanes::new(4),
        sweeps: Sweeps::default(),
        metrics,
        settle: Duration::from_secs(30),
        started: tokio::time::Instant::now(),
        stop: stopping,
        class_states: ClassStates::default(),
    };
    (ctx, Feed { roles, classes, class_wakes, wakes, _stop: stop })
}

/// What the controller of classes does with the default class of this metadata.
pub async fn check_class(ctx: &Context, meta: &serde_json::Value) {
    let account = ctx.aws.identify(None, None).await.map_err(Into::into);
    let (uid, generation) = (meta["uid"].as_str().expect("a UID"), meta["generation"].as_i64().expect("a number"));
    let (uid, reached) = (uid.to_owned(), account.as_ref().ok().cloned());
    ctx.set_class_state("default", ClassState { uid, generation, reached, account, keeps_boundary: true });
}

/// One process of the operator.
pub struct Operator {
    world: Arc<World>,
    ctx: Arc<Context>,
    feed: Feed,
    /// The class that was looked at.
    class: serde_json::Value,
}

impl Operator {
    /// One that has been running until it was the object's turn.
    pub async fn start(world: &Arc<World>, run: usize) -> Self {
        let operator = Self::begin(world, run).await;
        let now = tokio::time::Instant::now();
        operator.ctx.memory.with(UID, |entry| entry.next_check = Some(now));
        operator
    }

    /// One that has just begun.
    pub async fn begin(world: &Arc<World>, run: usize) -> Self {
        let (ctx, feed) = process(world, run, 16);
        let mut operator = Self { world: world.clone(), ctx: Arc::new(ctx), feed, class: serde_json::Value::Null };
        operator.check_class().await;
        operator
    }

    /// What the controller of classes does.
    async fn check_class(&mut self) {
        self.class = self.world.lock().cluster.class["metadata"].clone();
        check_class(&self.ctx, &self.class).await;
    }

    /// What the watches bring.
    fn watch(&mut self) -> Option<RawRole> {
        let inner = self.world.lock();
        let class = serde_json::from_value(inner.cluster.class.clone()).expect("a class");
        self.feed.classes.apply_watcher_event(&Event::Apply(class));
        let role: RawRole = serde_json::from_value(inner.cluster.role.clone()?).expect("an object");
        let event = Event::Apply(role.clone());
        self.ctx.scopes[0].index.note(&event);
        self.feed.roles.apply_watcher_event(&event);
        Some(role)
    }

    /// One reconciliation, and when the next one is due. `Err` if the operator was killed.
    pub async fn reconcile(&mut self) -> Result<Option<Duration>, ()> {
        let class = self.world.lock().cluster.class["metadata"].clone();
        if ["uid", "generation"].iter().any(|part| class[part] != self.class[part]) {
            self.check_class().await;
        }
        let Some(role) = self.watch() else { return Ok(None) };
        let wakes = self.world.lock().cluster.wakes();
        let action = tokio::select! {
            biased;
            () = self.world.death.notified() => return Err(()),
            action = roles::reconcile(Arc::new(role), self.ctx.clone()) => action,
        };
        while self.feed.class_wakes.next().now_or_never().flatten().is_some() {
            self.check_class().await;
        }
        let action = action.unwrap_or_else(|never| match never {});
        let woken = self.world.lock().cluster.wakes() != wakes;
        Ok(if woken { Some(Duration::from_millis(10)) } else { delay(&action) })
    }
}

/// kube shows an action's delay to nobody but a debugger.
pub fn delay(action: &Action) -> Option<Duration> {
    let shown = format!("{action:?}");
    let (_, rest) = shown.split_once("Some(")?;
    let number = rest.split(')').next()?;
    let (number, unit) = number.split_at(number.find(|c: char| c.is_alphabetic() || c == 'µ')?);
    let unit = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        other => panic!("{other}"),
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().expect("a number") * unit))
}
