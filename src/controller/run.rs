//! Starts everything and stops it in order.

use super::context::{Context, RawRole, RoleScope};
use super::events::Events;
use super::fence::{fenced, plain};
use super::index::Index;
use super::issuer::{self, Issuer};
use super::lanes::Lanes;
use super::memory::Memory;
use super::sweeps::Sweeps;
use super::workload::{self, Workloads};
use super::{api_server, census, classes, crds, roles, sweep, watch};
use crate::api::IamRoleClass;
use crate::aws::{Aws, TransportError};
use crate::lease::{Election, Leadership, Lost, Timing};
use crate::role::{Cluster, EksCluster};
use crate::server::Health;
use crate::telemetry::{Metrics, with_sources};
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::future::{join, join_all, join3};
use futures::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{Controller, watcher};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

/// Within the 60 seconds that the chart gives the pod.
const GRACE: Duration = Duration::from_secs(50);
const RETRY: Duration = Duration::from_secs(5);
/// Classes of one account that are looked at at once: they are few, and each check is one call.
const CLASS_CONCURRENCY: usize = 4;

/// What the operator was told at start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Calls to AWS at once, in each account.
    pub concurrency: u16,
    /// Name of the cluster in role names and owner tags.
    pub cluster_name: Option<String>,
    /// Only these namespaces; empty for all.
    pub namespaces: Vec<String>,
    /// Which classes are served: those that name this installation.
    pub controller: String,
    /// Issuer of the cluster's ServiceAccount tokens; absent: as the operator's own token says, or the API server.
    pub oidc_issuer: Option<String>,
    /// For how long after a write reads may show the past.
    pub settle: Duration,
    /// What is known of this cluster in EKS.
    pub eks: EksCluster,
    /// What is done to ServiceAccounts.
    pub workload: workload::Options,
    /// How one of several replicas is chosen; `None`: this is the only one.
    pub election: Option<ElectionOptions>,
}

/// The Lease by which one of several replicas is chosen.
#[derive(Clone, Debug)]
pub struct ElectionOptions {
    /// Its name.
    pub name: String,
    /// Its namespace; `None` for that of the pod's service account, or of the kubeconfig's context.
    pub namespace: Option<String>,
    /// How it is kept.
    pub timing: Timing,
}

/// The operator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to the cluster.
    #[error("finding the cluster: {0}; set KUBECONFIG, or run in a pod with a service account")]
    Config(#[from] kube::config::InferConfigError),
    /// The client could not be built.
    #[error("building the Kubernetes client: {0}")]
    Client(#[from] kube::Error),
    /// No way to AWS.
    #[error(transparent)]
    Aws(#[from] TransportError),
    /// Another replica may work by now.
    #[error("{0}; ending, so that no two replicas work at once")]
    Lost(#[from] Lost),
}

/// The process's surroundings.
#[derive(Clone)]
struct Process {
    metrics: Metrics,
    health: Arc<Health>,
    stop: Receiver<bool>,
}

/// Runs until `stop` turns true, then lets what is under way finish. With leader election: as soon as this replica is
/// the leader, and an error the moment that it is not any more; what is under way is then dropped.
pub async fn run(options: Options, metrics: Metrics, health: Arc<Health>, stop: Receiver<bool>) -> Result<(), Error> {
    let started = Instant::now();
    let config = api_server::config().await?;
    let process = Process { metrics, health, stop };
    let reader = fenced(config.clone(), Leadership::unconditional(), &process.metrics)?;
    let before = async {
        let cluster = cluster(&reader, options.cluster_name.as_deref()).await;
        let cluster = Cluster { eks: options.eks.clone(), ..cluster };
        crds::wait(&reader).await;
        cluster
    };
    let Some(cluster) = or_stop(before, stopped(process.stop.clone())).await else {
        return Ok(());
    };
    tracing::info!(cluster = cluster.name, uid = cluster.uid, version = env!("CARGO_PKG_VERSION"), "starting");
    match options.election.clone() {
        None => Box::pin(work(options, config, cluster, Leadership::unconditional(), started, &process)).await,
        Some(election) => Box::pin(lead(options, config, cluster, election, &process)).await,
    }
}

/// Works while this replica is the leader.
async fn lead(
    options: Options,
    config: kube::Config,
    cluster: Cluster,
    by: ElectionOptions,
    process: &Process,
) -> Result<(), Error> {
    let namespace = by.namespace.unwrap_or_else(|| config.default_namespace.clone());
    // Cut off by the election's own, shorter limits.
    let client = plain(config.clone(), None, &process.metrics)?;
    let metrics = process.metrics.clone();
    let mut election = Election::new(client, &namespace, &by.name, &instance(), by.timing, metrics);
    // A replica that stands by is ready: a rolling update waits for it before it stops the leader.
    let standby = || process.health.set_ready(true);
    let won = or_stop(election.win(standby), stopped(process.stop.clone())).await;
    process.health.set_ready(false);
    let mut result = Ok(());
    if won.is_some() {
        let leadership = election.leadership();
        let work = work(options, config, cluster, leadership.clone(), Instant::now(), process);
        result = tokio::select! {
            result = work => result,
            lost = election.keep() => {
                tracing::error!(%lost, "not the leader any more; ending at once");
                return Err(lost.into());
            }
        };
    }
    election.release().await;
    result
}

/// Serves classes and roles until the process is to stop. Differences soon after `since` may be the past, of this
/// process or of the leader before.
async fn work(
    options: Options,
    config: kube::Config,
    cluster: Cluster,
    leadership: Leadership,
    since: Instant,
    process: &Process,
) -> Result<(), Error> {
    let watches = plain(config.clone(), config.read_timeout, &process.metrics)?;
    let token = config.auth_info.token_file.clone();
    let client = fenced(config, leadership.clone(), &process.metrics)?;
    let Process { metrics, health, stop } = process.clone();
    let issuer = Issuer::find(&client, options.oidc_issuer.as_deref(), token.as_deref()).await;
    let aws = Aws::from_environment(metrics.clone()).await?.fenced(leadership).at_once(options.concurrency);
    let (class_store, class_writer) = store::<IamRoleClass>();
    let (namespace_store, namespace_writer) = store_of_namespaces();
    let (wake_class, class_wakes) = unbounded();
    let (scopes, to_serve) = role_scopes(&options.namespaces);
    let (accounts, accounts_to_watch) = workload::accounts(&options.workload, &options.namespaces);
    let ctx = Arc::new(Context {
        events: Events::new(client.clone(), &instance()),
        client,
        aws,
        cluster,
        controller: options.controller,
        issuer,
        workloads: Workloads {
            accounts,
            prefix: options.workload.prefix,
            check_pods: options.workload.check_pods,
            ..Workloads::default()
        },
        classes: class_store.clone(),
        namespaces: namespace_store.clone(),
        scopes,
        wake_class,
        memory: Memory::default(),
        class_memory: Memory::default(),
        lanes: Lanes::of_calls(options.concurrency),
        class_lanes: Lanes::new(CLASS_CONCURRENCY),
        claims: super::claims::Claims::default(),
        sweeps: Sweeps::working(),
        metrics,
        settle: options.settle,
        started: since,
        stop: stop.clone(),
        class_states: super::states::ClassStates::default(),
    });

    let counted = Arc::downgrade(&ctx);
    ctx.metrics.count_by(move || counted.upgrade().map(|ctx| census::take(&ctx)).unwrap_or_default());
    ctx.metrics.workers("iamrole", ctx.lanes.width());
    ctx.metrics.workers("iamroleclass", CLASS_CONCURRENCY);
    let namespaces = watch_namespaces(watches.clone(), namespace_writer, ctx.clone(), stop.clone());
    let gone = ctx.clone();
    let classes = watch::classes(watches.clone(), class_writer, move || gone.forget_gone_classes());
    let classes = serve_classes(classes, class_wakes, class_store, ctx.clone(), stop.clone());
    let roles = to_serve.into_iter().map(|watched| serve_roles(watched, watches.clone(), ctx.clone(), stop.clone()));
    let accounts = or_stop(workload::serve(accounts_to_watch, watches.clone(), ctx.clone()), stopped(stop.clone()));
    let announce = announce(ctx.clone(), health, stop.clone());
    let sweeps = walk_accounts(ctx.clone(), stop.clone());
    let issuer = or_stop(issuer::keep_asking(&ctx), stopped(stop.clone()));
    join3(join(namespaces, classes), join(accounts, issuer), join3(join_all(roles), announce, sweeps)).await;
    tracing::info!("stopped");
    Ok(())
}

struct Watched {
    namespace: Option<String>,
    store: Store<RawRole>,
    index: Arc<Index>,
    writer: Writer<RawRole>,
    wakes: UnboundedReceiver<ObjectRef<RawRole>>,
}

fn role_scopes(namespaces: &[String]) -> (Vec<RoleScope>, Vec<Watched>) {
    let all = [None];
    let names: Vec<Option<String>> = namespaces.iter().cloned().map(Some).collect();
    let names = if names.is_empty() { all.to_vec() } else { names };
    let scope = |namespace: Option<String>| {
        let writer = Writer::default();
        let (wake, wakes) = unbounded();
        let store = writer.as_reader();
        let index: Arc<Index> = Arc::default();
        let watched =
            Watched { namespace: namespace.clone(), store: store.clone(), index: index.clone(), writer, wakes };
        (RoleScope { namespace, store, index, wake }, watched)
    };
    names.into_iter().map(scope).unzip()
}

fn store_of_namespaces() -> (Store<PartialObjectMeta<Namespace>>, Writer<PartialObjectMeta<Namespace>>) {
    store()
}

async fn stopped(mut stop: Receiver<bool>) {
    // An error means that the sender is gone, which is the end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn or_stop<T>(work: impl Future<Output = T>, stop: impl Future<Output = ()>) -> Option<T> {
    tokio::select! {
        value = work => Some(value),
        () = stop => None,
    }
}

/// Which cluster this is; the UID of `kube-system` is as old as the cluster.
async fn cluster(client: &kube::Client, name: Option<&str>) -> Cluster {
    let api: Api<Namespace> = Api::all(client.clone());
    loop {
        match api.get_metadata("kube-system").await {
            Ok(namespace) => return Cluster::new(name, &namespace.uid().unwrap_or_default()),
            Err(error) => {
                let error = with_sources(&error);
                tracing::warn!(error, "reading the namespace kube-system, whose UID names the cluster; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn instance() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| format!("iamrole-{}", std::process::id()))
}

async fn watch_namespaces(
    client: kube::Client,
    writer: Writer<PartialObjectMeta<Namespace>>,
    ctx: Arc<Context>,
    stop: Receiver<bool>,
) {
    let relabelled = watch::namespaces(client, writer).for_each(|result| {
        if let Ok(namespace) = result {
            ctx.wake_namespace(&namespace.name_any());
        }
        futures::future::ready(())
    });
    or_stop(relabelled, stopped(stop)).await;
}

async fn serve_classes(
    stream: impl Stream<Item = Result<IamRoleClass, watcher::Error>> + Send + 'static,
    wakes: UnboundedReceiver<ObjectRef<IamRoleClass>>,
    store: Store<IamRoleClass>,
    ctx: Arc<Context>,
    stop: Receiver<bool>,
) {
    let filled = store.clone();
    let running = Controller::for_stream(stream, store)
        .reconcile_on(wakes)
        // The lanes know better.
        .with_config(Config::default().concurrency(0))
        .graceful_shutdown_on(stopped(stop.clone()))
        .run(classes::reconcile, never, ctx)
        .for_each(|result| {
            log_controller("IamRoleClass", result.err());
            futures::future::ready(())
        });
    run_out(running, || is_filled(&filled), stop).await;
}

async fn serve_roles(watched: Watched, client: kube::Client, ctx: Arc<Context>, stop: Receiver<bool>) {
    let Watched { namespace, store, index, writer, wakes } = watched;
    let gone = ctx.clone();
    let stream = watch::roles(client, namespace.as_deref(), writer, index, move |role| roles::gone(role, &gone));
    // Without classes and namespaces every role would seem to have none.
    let ready = join(ctx.classes.wait_until_ready(), ctx.namespaces.wait_until_ready());
    if or_stop(ready, stopped(stop.clone())).await.is_none() {
        return;
    }
    let filled = store.clone();
    let running = Controller::for_stream(stream, store)
        .reconcile_on(wakes)
        // kube's queue takes whichever object it likes; the lanes know better.
        .with_config(Config::default().concurrency(0))
        .graceful_shutdown_on(stopped(stop.clone()))
        .run(roles::reconcile, never, ctx)
        .for_each(|result| {
            log_controller("IamRole", result.err());
            futures::future::ready(())
        });
    run_out(running, || is_filled(&filled), stop).await;
}

fn is_filled<K>(store: &Store<K>) -> bool
where
    K: kube::runtime::reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    store.wait_until_ready().now_or_never().is_some()
}

/// Runs a controller to its end. kube's runner hears of a stop only once its cache is filled; before that
/// nothing is under way, and it is dropped.
async fn run_out(running: impl Future<Output = ()>, is_filled: impl Fn() -> bool, stop: Receiver<bool>) {
    let mut running = std::pin::pin!(running);
    tokio::select! {
        () = &mut running => return,
        () = stopped(stop) => {}
    }
    if is_filled() && tokio::time::timeout(GRACE, running).await.is_err() {
        tracing::warn!("gave up waiting for what is under way; it is taken up again after the restart");
    }
}

async fn filled(ctx: &Context) {
    let _ = join(ctx.classes.wait_until_ready(), ctx.namespaces.wait_until_ready()).await;
    join_all(ctx.scopes.iter().map(|scope| scope.store.wait_until_ready())).await;
}

/// Without all roles in the cache, roles in AWS would seem to belong to nobody.
async fn walk_accounts(ctx: Arc<Context>, stop: Receiver<bool>) {
    let walks = async {
        filled(&ctx).await;
        sweep::run(ctx.clone()).await;
    };
    or_stop(walks, stopped(stop)).await;
}

/// Says that the operator works, once every cache is filled.
async fn announce(ctx: Arc<Context>, health: Arc<Health>, stop: Receiver<bool>) {
    if or_stop(filled(&ctx), stopped(stop.clone())).await.is_some() {
        health.set_ready(true);
        tracing::info!(seconds = ctx.started.elapsed().as_secs_f64(), "ready");
    }
}

/// The controllers' reconcilers never fail.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is kube's")]
fn never<K>(_: Arc<K>, error: &Infallible, _: Arc<Context>) -> Action {
    match *error {}
}

fn log_controller<E: std::fmt::Display>(kind: &'static str, error: Option<E>) {
    if let Some(error) = error {
        tracing::debug!(kind, %error, "controller");
    }
}
