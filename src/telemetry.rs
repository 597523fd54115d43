//! Logs (JSON, one object a line) and metrics (bounded labels: no object names).

use crate::api::Reason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is no filter.
    #[error("--log-level {level:?}: {source}; use error, warn, info, debug, trace or a filter such as info,kube=debug")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A logger is there already.
    #[error("starting the log: {0}")]
    Init(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts JSON logs on standard error at `level` (a level or a filter as of `tracing`).
pub fn start_logs(level: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(level).map_err(|source| LogError::Level { level: level.to_owned(), source })?;
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(json).try_init()?;
    Ok(())
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AwsLabels {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconcileLabels {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LeaseLabels {
    name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AccountLabels {
    account: String,
}

/// All metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    aws_calls: Family<AwsLabels, Counter>,
    aws_seconds: Family<AwsLabels, Histogram, fn() -> Histogram>,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_errors: Family<ControllerLabels, Counter>,
    reconcile_seconds: Family<ControllerLabels, Histogram, fn() -> Histogram>,
    failures: Family<ReasonLabels, Counter>,
    drift_repaired: Counter,
    active: Gauge,
    leader: Family<LeaseLabels, Gauge>,
    sweep_seconds: Histogram,
    sweep_at: Family<AccountLabels, Gauge>,
    suspects: Counter,
    orphans: Family<AccountLabels, Gauge>,
}

fn seconds() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let mut metrics = Self {
            registry: Arc::new(Registry::default()),
            aws_calls: Family::default(),
            aws_seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            reconciles: Family::default(),
            reconcile_errors: Family::default(),
            reconcile_seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            failures: Family::default(),
            drift_repaired: Counter::default(),
            active: Gauge::default(),
            leader: Family::default(),
            sweep_seconds: seconds(),
            sweep_at: Family::default(),
            suspects: Counter::default(),
            orphans: Family::default(),
        };
        registry.register("iamrole_aws_calls", "Calls to AWS by action and outcome", metrics.aws_calls.clone());
        registry.register(
            "iamrole_aws_call_duration_seconds",
            "Duration of calls to AWS, retries included",
            metrics.aws_seconds.clone(),
        );
        registry.register(
            "controller_runtime_reconcile",
            "Reconciliations by controller and result",
            metrics.reconciles.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_errors",
            "Failed reconciliations by controller",
            metrics.reconcile_errors.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_time_seconds",
            "Duration of reconciliations",
            metrics.reconcile_seconds.clone(),
        );
        registry.register("controller_runtime_active_workers", "Reconciliations under way", metrics.active.clone());
        registry.register("iamrole_failures", "Failures of roles by reason", metrics.failures.clone());
        registry.register(
            "iamrole_drift_repaired",
            "Changes made in AWS to undo somebody else's",
            metrics.drift_repaired.clone(),
        );
        registry.register(
            "leader_election_master_status",
            "1 on the replica that holds the lease, 0 on the others",
            metrics.leader.clone(),
        );
        metrics.register_sweeps(&mut registry);
        metrics.registry = Arc::new(registry);
        metrics
    }
}

impl Metrics {
    fn register_sweeps(&self, registry: &mut Registry) {
        registry.register(
            "iamrole_sweep_duration_seconds",
            "Duration of complete walks over an account",
            self.sweep_seconds.clone(),
        );
        registry.register(
            "iamrole_sweep_last_success_timestamp_seconds",
            "When the last complete walk over an account ended",
            self.sweep_at.clone(),
        );
        registry.register(
            "iamrole_sweep_suspects",
            "Roles that a walk showed otherwise than wanted, and that were looked at by themselves",
            self.suspects.clone(),
        );
        registry.register(
            "iamrole_orphaned_roles",
            "Roles with owner tags of this cluster that belong to no IamRole, by account",
            self.orphans.clone(),
        );
    }

    /// Notes a complete walk over an account, and how many of its roles belong to nobody.
    pub fn swept(&self, account: &str, duration: Duration, orphans: usize) {
        let labels = AccountLabels { account: account.to_owned() };
        self.sweep_seconds.observe(duration.as_secs_f64());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.sweep_at.get_or_create(&labels).set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        self.orphans.get_or_create(&labels).set(i64::try_from(orphans).unwrap_or(i64::MAX));
    }

    /// Counts a role that a walk showed otherwise than wanted.
    pub fn suspected(&self) {
        self.suspects.inc();
    }

    /// Counts a call to AWS.
    pub fn aws_call(&self, call: &'static str, outcome: &'static str, duration: Duration) {
        let labels = AwsLabels { call, outcome };
        self.aws_calls.get_or_create(&labels).inc();
        self.aws_seconds.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Counts a reconciliation; `result` is success, error or requeue.
    pub fn reconciled(&self, controller: &'static str, result: &'static str, duration: Duration) {
        self.reconciles.get_or_create(&ReconcileLabels { controller, result }).inc();
        if result == "error" {
            self.reconcile_errors.get_or_create(&ControllerLabels { controller }).inc();
        }
        self.reconcile_seconds.get_or_create(&ControllerLabels { controller }).observe(duration.as_secs_f64());
    }

    /// Counts a failure of a role.
    pub fn failed(&self, reason: Reason) {
        self.failures.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
    }

    /// Counts a change that undid somebody else's.
    pub fn drift_repaired(&self) {
        self.drift_repaired.inc();
    }

    /// Says whether this replica holds the lease `name`.
    pub fn leader(&self, name: &str, holds: bool) {
        self.leader.get_or_create(&LeaseLabels { name: name.to_owned() }).set(i64::from(holds));
    }

    /// Marks a reconciliation as under way until the guard is dropped.
    #[must_use]
    pub fn active(&self) -> ActiveGuard {
        self.active.inc();
        ActiveGuard(self.active.clone())
    }

    /// The metrics as `OpenMetrics` text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// See [`Metrics::active`].
#[derive(Debug)]
pub struct ActiveGuard(Gauge);

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
