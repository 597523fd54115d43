//! The metrics: one table has the name, labels, type and meaning of each. docs/metrics.md tells what to do with them.

use super::process::Process;
use super::underway::{ActiveGuard, Underway, WaitingGuard};
use crate::api::Reason;
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The two controllers, as the label `controller` has them.
const CONTROLLERS: [&str; 2] = ["iamrole", "iamroleclass"];
/// What a reconciliation can end in, as the label `result` of `controller_runtime_reconcile_total` has it.
const RESULTS: [&str; 3] = ["success", "error", "requeue_after"];

type Counted<L> = Family<L, Counter>;
type Gauged<L> = Family<L, Gauge>;
type Seconds = Gauge<f64, AtomicU64>;
type Timed<L> = Family<L, Histogram, fn() -> Histogram>;

macro_rules! labels {
    ($($(#[$doc:meta])+ $name:ident { $($(#[$of:meta])* $label:ident: $type:ty),+ })+) => {
        $($(#[$doc])+
        #[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
        pub struct $name { $($(#[$of])* pub $label: $type),+ })+
    };
}

labels! {
    /// Roles that have a condition in common.
    RoleLabels {
        /// Name of the class in use; empty for roles that have none, or one that is not there.
        class: String,
        /// Type of the condition.
        condition: &'static str,
        /// True, False or Unknown.
        status: &'static str,
        /// A word of [`Reason`], or `None` where nobody has looked at the role yet.
        reason: &'static str
    }
    /// How a class stands.
    ClassLabels {
        /// Its name.
        class: String,
        /// A word of [`Reason`], or `None`.
        reason: &'static str
    }
}

/// The labels that only this file fills in.
mod inner {
    use super::EncodeLabelSet;

    labels! {
        /// Of a call to AWS.
        Call { call: &'static str, outcome: &'static str }
        /// Of the end of a reconciliation.
        Ended { controller: &'static str, result: &'static str }
        /// Of a controller.
        Of { controller: &'static str }
        /// Of a queue; dashboards ask for either label.
        Queue { name: &'static str, controller: &'static str }
        /// Of a failure.
        Why { reason: &'static str }
        /// Of a lease.
        Lease { name: String }
        /// Of an AWS account.
        Account { account: String }
        /// Of what an account has a quota for.
        Quota { account: String, resource: &'static str }
        /// Of an answer of the Kubernetes API.
        Answer { method: &'static str, code: String }
        /// Of this program.
        Build { version: &'static str }
    }
}
use inner::{Account, Answer, Build, Call, Ended, Lease, Of, Queue, Quota, Why};

fn seconds() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0])
}

fn timed<L: Clone + std::hash::Hash + Eq>() -> Timed<L> {
    Family::new_with_constructor(seconds as fn() -> Histogram)
}

/// One line a metric; counters get `_total` when they are written.
macro_rules! table {
    ($($field:ident: $metric:ty = $new:expr, $name:literal, $help:literal;)+) => {
        #[derive(Debug)]
        struct Table { $($field: $metric),+ }

        impl Table {
            fn new(registry: &mut Registry) -> Self {
                let table = Self { $($field: $new),+ };
                $(registry.register($name, $help, table.$field.clone());)+
                table
            }
        }
    };
}

table! {
    build: Gauged<Build> = Family::default(), "iamrole_build_info", "1, with the version of the operator";
    leader: Gauged<Lease> = Family::default(), "leader_election_master_status", "1 on the replica that holds the lease, 0 on the others";

    roles: Gauged<RoleLabels> = Family::default(), "iamrole_roles", "IamRoles by class, condition, status and reason; the sum of condition Ready is their number";
    classes: Gauged<ClassLabels> = Family::default(), "iamrole_class_ready", "1 for a class that can be used, 0 for one that can not, and why";
    failures: Counted<Why> = Family::default(), "iamrole_failures", "Failures of roles by reason, each time that one is met";
    drift_found: Counter = Counter::default(), "iamrole_drift_found", "Changes that somebody else made in AWS and that are to be undone, each time that one is met";
    drift_repaired: Counter = Counter::default(), "iamrole_drift_repaired", "Changes made in AWS to undo somebody else's";

    aws_calls: Counted<Call> = Family::default(), "iamrole_aws_calls", "Calls to AWS by action and outcome";
    aws_seconds: Timed<Call> = timed(), "iamrole_aws_call_duration_seconds", "Duration of calls to AWS, with the repetitions of the SDK";
    aws_throttled: Counted<Account> = Family::default(), "iamrole_aws_throttled", "Answers of AWS that ask for patience, also those after which the SDK tried again by itself, by account";
    quota: Gauged<Quota> = Family::default(), "iamrole_account_quota", "How many of a resource the account may have";
    usage: Gauged<Quota> = Family::default(), "iamrole_account_usage", "How many of a resource the account has, whoever made them";

    sweep_seconds: Histogram = seconds(), "iamrole_sweep_duration_seconds", "Duration of complete walks over an account";
    sweep_at: Gauged<Account> = Family::default(), "iamrole_sweep_last_success_timestamp_seconds", "When the last complete walk over an account ended; 0 if none has since the start";
    sweep_interval: Gauged<Account> = Family::default(), "iamrole_sweep_interval_seconds", "How often the account is to be walked; absent where each role is looked at by itself";
    suspects: Counter = Counter::default(), "iamrole_sweep_suspects", "Roles that a walk showed otherwise than wanted, and that were looked at by themselves";
    orphans: Gauged<Account> = Family::default(), "iamrole_orphaned_roles", "Roles with owner tags of this cluster that belong to no IamRole, by account";

    reconciles: Counted<Ended> = Family::default(), "controller_runtime_reconcile", "Reconciliations by controller and result";
    errors: Counted<Of> = Family::default(), "controller_runtime_reconcile_errors", "Failed reconciliations by controller";
    terminal: Counted<Of> = Family::default(), "controller_runtime_terminal_reconcile_errors", "Failed reconciliations of objects that are Stalled: somebody has to act";
    timeouts: Counted<Of> = Family::default(), "controller_runtime_reconcile_timeouts", "Reconciliations that were broken off because they took too long";
    reconcile_seconds: Timed<Of> = timed(), "controller_runtime_reconcile_time_seconds", "Duration of reconciliations";
    active: Gauged<Of> = Family::default(), "controller_runtime_active_workers", "Reconciliations under way";
    workers: Gauged<Of> = Family::default(), "controller_runtime_max_concurrent_reconciles", "How many reconciliations may be under way; of roles in each account";

    requests: Counted<Answer> = Family::default(), "rest_client_requests", "Requests to the Kubernetes API by method and code of the answer, each attempt for itself";

    depth: Gauged<Queue> = Family::default(), "workqueue_depth", "Objects that wait for their turn";
    adds: Counted<Queue> = Family::default(), "workqueue_adds", "Objects that began to wait for their turn";
    retries: Counted<Queue> = Family::default(), "workqueue_retries", "Objects that are tried again after a failure";
    queue_seconds: Timed<Queue> = timed(), "workqueue_queue_duration_seconds", "How long objects waited for their turn";
    work_seconds: Timed<Queue> = timed(), "workqueue_work_duration_seconds", "How long the work on an object took";
    unfinished: Family<Queue, Seconds> = Family::default(), "workqueue_unfinished_work_seconds", "For how long all that is under way has been, in sum";
    longest: Family<Queue, Seconds> = Family::default(), "workqueue_longest_running_processor_seconds", "For how long the oldest of what is under way has been";
}

/// For so long an account is known to which no class leads: what one found of it comes before its status tells of it.
const KNOWN: Duration = Duration::from_hours(2);

/// What is counted anew at each scrape.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Roles by what they have in common.
    pub roles: BTreeMap<RoleLabels, i64>,
    /// Classes, and whether each can be used.
    pub classes: BTreeMap<ClassLabels, bool>,
    /// AWS accounts that they lead to.
    pub accounts: BTreeSet<String>,
}

/// Who counts.
struct Counting(Box<dyn Fn() -> Census + Send>);

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's own, version 0.0.4: what is sent to those who do not ask for another one.
    Prometheus,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that the header `Accept` of a request asks for.
    #[must_use]
    pub fn accepted(header: Option<&str>) -> Self {
        let is_open = header.is_some_and(|header| header.contains("application/openmetrics-text"));
        if is_open { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    table: Arc<Table>,
    underway: Underway,
    counting: Arc<Mutex<Option<Counting>>>,
    /// Accounts of which walks are told.
    walked: Arc<Mutex<BTreeSet<String>>>,
    /// What accounts have and may have, as last seen. It is told of those that a class leads to, which is known a little
    /// later.
    holdings: Arc<Mutex<BTreeMap<Quota, (i64, i64)>>>,
    /// When accounts were last heard of.
    heard: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let table = Table::new(&mut registry);
        registry.register_collector(Box::new(Process::since(SystemTime::now())));
        table.build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        // A rate can be told from the first event on only if there was a 0 before.
        for controller in CONTROLLERS {
            for result in RESULTS {
                at_zero(&table.reconciles, &Ended { controller, result });
            }
            let (of, queue) = (Of { controller }, Queue { name: controller, controller });
            for counter in [&table.errors, &table.terminal, &table.timeouts] {
                at_zero(counter, &of);
            }
            at_zero(&table.active, &of);
            at_zero(&table.retries, &queue);
        }
        // The classes wait in kube's own queue, which does not tell.
        let queue = Queue { name: "iamrole", controller: "iamrole" };
        at_zero(&table.depth, &queue);
        at_zero(&table.adds, &queue);
        Self {
            registry: Arc::new(registry),
            table: Arc::new(table),
            underway: Underway::default(),
            counting: Arc::default(),
            walked: Arc::default(),
            holdings: Arc::default(),
            heard: Arc::default(),
        }
    }
}

impl Metrics {
    /// Forgets the walks over accounts that are not among these: no class has them walked any more.
    pub fn sweep_only(&self, is_walked: impl Fn(&str) -> bool) {
        let mut walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
        for account in walked.extract_if(.., |account| !is_walked(account)) {
            self.not_swept(&account);
            self.table.orphans.remove(&Account { account });
        }
    }

    /// Notes that an account is to be walked every `interval`.
    pub fn to_sweep(&self, account: &str, interval: Duration) {
        self.walked.lock().unwrap_or_else(PoisonError::into_inner).insert(account.to_owned());
        let account = Account { account: account.to_owned() };
        self.table.sweep_interval.get_or_create(&account).set(whole(interval.as_secs()));
        at_zero(&self.table.sweep_at, &account);
    }

    /// Notes that an account is not walked: each of its roles is looked at by itself.
    pub fn not_swept(&self, account: &str) {
        let account = Account { account: account.to_owned() };
        self.table.sweep_interval.remove(&account);
        self.table.sweep_at.remove(&account);
    }

    /// Notes a complete walk over an account.
    pub fn swept(&self, account: &str, duration: Duration) {
        let labels = Account { account: account.to_owned() };
        self.table.sweep_seconds.observe(duration.as_secs_f64());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.table.sweep_at.get_or_create(&labels).set(whole(now.as_secs()));
    }

    /// Notes how many roles of an account belong to nobody.
    pub fn orphaned(&self, account: &str, roles: usize) {
        // Also where no class leads there any more by now.
        self.walked.lock().unwrap_or_else(PoisonError::into_inner).insert(account.to_owned());
        self.table.orphans.get_or_create(&Account { account: account.to_owned() }).set(whole(roles as u64));
    }

    /// Counts a role that a walk showed otherwise than wanted.
    pub fn suspected(&self) {
        self.table.suspects.inc();
    }

    /// Counts a call to AWS.
    pub fn aws_call(&self, call: &'static str, outcome: &'static str, duration: Duration) {
        let labels = Call { call, outcome };
        self.table.aws_calls.get_or_create(&labels).inc();
        self.table.aws_seconds.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Counts an answer of AWS that asks for patience.
    pub fn throttled(&self, account: &str) {
        self.hear(account);
        self.table.aws_throttled.get_or_create(&Account { account: account.to_owned() }).inc();
    }

    /// Notes that an account is known; what it is asked from now on is counted.
    pub fn account(&self, account: &str) {
        self.hear(account);
        at_zero(&self.table.aws_throttled, &Account { account: account.to_owned() });
    }

    fn hear(&self, account: &str) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(account.to_owned(), Instant::now());
    }

    /// Forgets the accounts to which no class leads any more.
    fn forget_accounts(&self, is_led_to: impl Fn(&str) -> bool) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut holdings = self.holdings.lock().unwrap_or_else(PoisonError::into_inner);
        for (account, _) in heard.extract_if(.., |account, heard| !is_led_to(account) && heard.elapsed() >= KNOWN) {
            holdings.retain(|labels, _| labels.account != account);
            self.table.aws_throttled.remove(&Account { account });
        }
    }

    /// Notes how many of `resource` an account has and may have.
    pub fn quota(&self, account: &str, resource: &'static str, has: usize, may_have: usize) {
        let labels = Quota { account: account.to_owned(), resource };
        let numbers = (whole(has as u64), whole(may_have as u64));
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner).insert(labels, numbers);
    }

    /// Counts a reconciliation; `result` is success, error or `requeue_after`.
    pub fn reconciled(&self, controller: &'static str, result: &'static str, duration: Duration) {
        self.table.reconciles.get_or_create(&Ended { controller, result }).inc();
        if result == "error" {
            self.table.errors.get_or_create(&Of { controller }).inc();
            self.table.retries.get_or_create(&Queue { name: controller, controller }).inc();
        }
        self.table.reconcile_seconds.get_or_create(&Of { controller }).observe(duration.as_secs_f64());
    }

    /// Counts a failed reconciliation of an object for which somebody has to act.
    pub fn stalled(&self, controller: &'static str) {
        self.table.terminal.get_or_create(&Of { controller }).inc();
    }

    /// Counts a reconciliation that took too long.
    pub fn timed_out(&self, controller: &'static str) {
        self.table.timeouts.get_or_create(&Of { controller }).inc();
    }

    /// Says how many reconciliations may be under way.
    pub fn workers(&self, controller: &'static str, number: usize) {
        self.table.workers.get_or_create(&Of { controller }).set(whole(number as u64));
    }

    /// Counts a request to the Kubernetes API; without a code there was no answer, which client-go calls `<error>`.
    pub fn kubernetes_call(&self, method: &'static str, code: Option<u16>) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        self.table.requests.get_or_create(&Answer { method, code }).inc();
    }

    /// Counts a failure of a role.
    pub fn failed(&self, reason: Reason) {
        self.table.failures.get_or_create(&Why { reason: reason.as_str() }).inc();
    }

    /// Counts a change by somebody else that is to be undone.
    pub fn drift_found(&self) {
        self.table.drift_found.inc();
    }

    /// Counts a change that undid somebody else's.
    pub fn drift_repaired(&self) {
        self.table.drift_repaired.inc();
    }

    /// Says whether this replica holds the lease `name`.
    pub fn leader(&self, name: &str, holds: bool) {
        self.table.leader.get_or_create(&Lease { name: name.to_owned() }).set(i64::from(holds));
    }

    /// Marks an object as waiting for its turn until the guard is dropped.
    #[must_use]
    pub fn waiting(&self, controller: &'static str) -> WaitingGuard {
        let queue = Queue { name: controller, controller };
        self.table.adds.get_or_create(&queue).inc();
        let depth = self.table.depth.get_or_create_owned(&queue);
        WaitingGuard::new(depth, self.table.queue_seconds.get_or_create_owned(&queue))
    }

    /// Marks a reconciliation as under way until the guard is dropped.
    #[must_use]
    pub fn active(&self, controller: &'static str) -> ActiveGuard {
        let queue = Queue { name: controller, controller };
        let active = self.table.active.get_or_create_owned(&Of { controller });
        self.underway.begin(controller, active, self.table.work_seconds.get_or_create_owned(&queue))
    }

    /// Has roles and classes counted at each scrape.
    pub fn count_by(&self, count: impl Fn() -> Census + Send + 'static) {
        *self.counting.lock().unwrap_or_else(PoisonError::into_inner) = Some(Counting(Box::new(count)));
    }

    /// The metrics as text.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        // Held to the end: a second scrape must not see the families while they are empty.
        let counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let census = counting.as_ref().map(|Counting(count)| count());
        if let Some(census) = &census {
            self.enter(census);
            self.forget_accounts(|account| census.accounts.contains(account));
        }
        self.enter_holdings(|account| census.as_ref().is_none_or(|census| census.accounts.contains(account)));
        for controller in CONTROLLERS {
            let queue = Queue { name: controller, controller };
            let (sum, longest) = self.underway.seconds(controller);
            self.table.unfinished.get_or_create(&queue).set(sum);
            self.table.longest.get_or_create(&queue).set(longest);
        }
        let mut written = String::new();
        // Writing to a String can't fail.
        let _ = match format {
            Format::Prometheus => prometheus_text::encode(&mut written, &self.registry),
            Format::OpenMetrics => text::encode(&mut written, &self.registry),
        };
        written
    }

    fn enter(&self, census: &Census) {
        self.table.roles.clear();
        for (labels, number) in &census.roles {
            self.table.roles.get_or_create(labels).set(*number);
        }
        self.table.classes.clear();
        for (labels, is_ready) in &census.classes {
            self.table.classes.get_or_create(labels).set(i64::from(*is_ready));
        }
    }

    fn enter_holdings(&self, is_led_to: impl Fn(&str) -> bool) {
        self.table.usage.clear();
        self.table.quota.clear();
        let holdings = self.holdings.lock().unwrap_or_else(PoisonError::into_inner);
        for (labels, (has, may_have)) in holdings.iter().filter(|(labels, _)| is_led_to(&labels.account)) {
            self.table.usage.get_or_create(labels).set(*has);
            self.table.quota.get_or_create(labels).set(*may_have);
        }
    }
}

/// Has a series written from now on, as 0 until something happens.
fn at_zero<L, M, C>(family: &Family<L, M, C>, labels: &L)
where
    L: Clone + std::hash::Hash + Eq,
    M: Clone,
    C: MetricConstructor<M>,
{
    drop(family.get_or_create_owned(labels));
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Census, Format, Metrics};
    use std::collections::BTreeSet;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn accounts_to_which_no_class_leads_any_more_are_forgotten_and_none_that_is_new() {
        let (metrics, served) = (Metrics::default(), "111122223333");
        metrics.count_by(move || Census { accounts: BTreeSet::from([served.to_owned()]), ..Census::default() });
        let ask = |id: &str| {
            metrics.account(id);
            metrics.throttled(id);
            metrics.quota(id, "roles", 1, 1000);
        };
        let others: Vec<String> = (0..1000).map(|i| format!("{i:012}")).collect();
        ask(served);
        for id in &others {
            ask(id);
        }
        let told = || metrics.render(Format::Prometheus).matches("iamrole_aws_throttled_total{").count();
        let kept = || metrics.holdings.lock().unwrap().len();
        assert_eq!((told(), kept()), (1001, 1001), "their classes may not tell yet");
        tokio::time::sleep(Duration::from_hours(3)).await;
        ask(&others[0]);
        assert_eq!((told(), kept()), (2, 2));
    }
}
