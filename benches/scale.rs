//! What the operator costs with many roles: calls to AWS by action, writes to Kubernetes, time against the least that
//! is possible (calls × latency / parallel calls), processor time and memory. `make bench` brings up what it needs:
//! a real API server and an emulated IAM that answers each call after 50 ms.
//!
//! Prints a table and ends with an error where a figure that does not depend on the machine is not what is promised.

#![allow(clippy::cast_precision_loss, reason = "numbers of a table")]

#[path = "../tests/support/mod.rs"]
mod support;

use iamrole_operator::api::iamroleclass::{DriftCheck, DriftMethod};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::api::ApiProxy;
use support::ministack::Ministack;
use support::proxy::{Call, Fault};
use support::{World, allow, ec2, eventually, stays};

const LATENCY: Duration = Duration::from_millis(50);
const PARALLEL: u32 = 16;
const LONG: Duration = Duration::from_mins(10);

/// A line of the table.
struct Row {
    case: String,
    calls: Vec<Call>,
    writes: Option<usize>,
    wall: Duration,
    cpu: f64,
    peak: u64,
    /// By how many the calls are divided.
    roles: usize,
    note: String,
}

impl Row {
    fn print(&self) {
        let mut actions: BTreeMap<&str, usize> = BTreeMap::new();
        self.calls.iter().for_each(|call| *actions.entry(&call.action).or_default() += 1);
        let actions: Vec<String> = actions.iter().map(|(action, count)| format!("{action} {count}")).collect();
        let least = LATENCY * u32::try_from(self.calls.len()).unwrap_or(u32::MAX) / PARALLEL;
        println!(
            "| {} | {} ({:.2} a role): {} | {} | {:.1} s | {:.2} | {:.1} s | {:.0} MiB | {} |",
            self.case,
            self.calls.len(),
            per(self.calls.len(), self.roles),
            actions.join(", "),
            self.writes.map_or_else(|| "not counted".to_owned(), |writes| format!("{:.2}", per(writes, self.roles))),
            self.wall.as_secs_f64(),
            self.wall.as_secs_f64() / least.as_secs_f64().max(0.001),
            self.cpu,
            self.peak as f64 / 1024.0,
            self.note,
        );
    }
}

fn per(count: usize, roles: usize) -> f64 {
    count as f64 / roles.max(1) as f64
}

struct Bench {
    world: World,
    api: ApiProxy,
    failed: Vec<String>,
    _aws: Ministack,
}

impl Bench {
    async fn start(name: &str, interval: i32, count_writes: bool) -> Self {
        let aws = Ministack::start().await;
        let check = DriftCheck { interval_seconds: Some(interval), method: Some(DriftMethod::Account) };
        let mut world = World::on(name, &aws.url, aws.root.clone(), |class| class.drift_check = Some(check)).await;
        let api = ApiProxy::start().await;
        let environment = &mut world.operator.environment;
        environment.push(("AWS_ACCESS_KEY_ID".into(), "test".into()));
        environment.push(("AWS_SECRET_ACCESS_KEY".into(), "test".into()));
        if count_writes {
            environment.push(("KUBECONFIG".into(), api.kubeconfig(&world.namespace)));
        }
        world.operator.log_level = "warn";
        world.proxy.fault("*", "", usize::MAX, Fault::Delay(LATENCY));
        world.operator.start().await;
        Self { world, api, failed: Vec::new(), _aws: aws }
    }

    fn must(&mut self, holds: bool, what: &str) {
        if !holds {
            self.failed.push(what.to_owned());
        }
    }

    fn objects(&self) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.world.client.clone(),
            &self.world.namespace,
            &ApiResource::erase::<iamrole_operator::api::IamRole>(&()),
        )
    }

    async fn create(&self, from: usize, to: usize) {
        let objects = self.objects();
        let all: Vec<usize> = (from..to).collect();
        for some in all.chunks(32) {
            let created = some.iter().map(|i| {
                let objects = objects.clone();
                async move {
                    let object: DynamicObject = serde_json::from_value(manifest(*i)).expect("an object");
                    objects.create(&PostParams::default(), &object).await.expect("a role");
                }
            });
            futures::future::join_all(created).await;
        }
    }

    async fn ready(&self, count: usize) {
        // Asked of the operator's metrics and then once of the API server: polling all objects would be the load.
        let done = || async {
            let calls = self.world.proxy.count_of("PutRolePolicy");
            calls >= count && self.objects_ready().await >= count
        };
        assert!(eventually(LONG, done).await, "not ready:\n{}", self.world.operator.log());
    }

    async fn objects_ready(&self) -> usize {
        let list = self.objects().list(&ListParams::default()).await.expect("roles").items;
        let is_ready = |object: &&DynamicObject| {
            let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
            conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        };
        list.iter().filter(is_ready).count()
    }

    async fn measure(&mut self, case: &str, roles: usize, work: impl AsyncFnOnce(&Self), counted: bool) -> Row {
        self.world.proxy.forget();
        self.api.forget();
        let (start, cpu) = (Instant::now(), self.world.operator.cpu());
        work(self).await;
        let wall = start.elapsed();
        let writes =
            counted.then(|| self.api.writes().iter().filter(|asked| asked.path.contains("/iamroles/")).count());
        Row {
            case: case.to_owned(),
            calls: self.world.proxy.calls(),
            writes,
            wall,
            cpu: self.world.operator.cpu() - cpu,
            peak: self.world.operator.peak(),
            roles,
            note: String::new(),
        }
    }
}

fn manifest(i: usize) -> Value {
    json!({
        "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRole", "metadata": { "name": format!("role-{i}") },
        "spec": {
            "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"],
            "inlinePolicies": [{ "name": "s3", "document": allow("s3:GetObject") }],
        },
    })
}

/// The longest and the median time between the first and the last call for a role.
fn spans(calls: &[Call]) -> (Duration, Duration) {
    let mut times: BTreeMap<&str, (Instant, Instant)> = BTreeMap::new();
    for call in calls {
        let Some(role) = call.parameters.get("RoleName") else { continue };
        let (_, last) = times.entry(role).or_insert((call.at, call.at));
        *last = call.at;
    }
    let mut spans: Vec<Duration> = times.values().map(|(first, last)| *last - *first).collect();
    spans.sort();
    (spans.last().copied().unwrap_or_default(), spans.get(spans.len() / 2).copied().unwrap_or_default())
}

fn with_spans(mut row: Row) -> Row {
    let (longest, median) = spans(&row.calls);
    row.note = format!("CreateRole to last permission: median {median:.2?}, longest {longest:.2?}");
    row
}

async fn small(rows: &mut Vec<Row>) -> Vec<String> {
    let mut bench = Bench::start("small", 900, true).await;
    let row = bench
        .measure(
            "create 1",
            1,
            async |bench| {
                bench.create(0, 1).await;
                bench.ready(1).await;
            },
            true,
        )
        .await;
    bench.must(row.calls.len() == 3, "a role is made with 3 calls");
    rows.push(row);
    bench.world.proxy.forget();
    let quiet = stays(Duration::from_secs(30), || async { bench.world.proxy.calls().is_empty() }).await;
    bench.must(quiet, "and none for 30 s");
    let row = bench.measure(
        "create 200",
        200,
        async |bench| {
            bench.create(1, 201).await;
            bench.ready(200).await;
        },
        true,
    );
    let row = with_spans(row.await);
    bench.must(row.calls.len() == 600, "200 roles are made with 600 calls");
    rows.push(row);
    bench.failed
}

async fn large(rows: &mut Vec<Row>, roles: usize) -> Vec<String> {
    let mut bench = Bench::start("large", 900, false).await;
    let create = async |bench: &Bench| {
        bench.create(0, roles).await;
        bench.ready(roles).await;
    };
    let row = with_spans(bench.measure(&format!("create {roles}"), roles, create, false).await);
    bench.must(row.calls.len() == 3 * roles, "as many calls as roles make");
    rows.push(row);

    bench.world.operator.kill().await;
    bench.world.operator.environment.retain(|(key, _)| key != "KUBECONFIG");
    let kubeconfig = bench.api.kubeconfig(&bench.world.namespace);
    bench.world.operator.environment.push(("KUBECONFIG".into(), kubeconfig));
    bench.world.proxy.forget();
    bench.api.forget();
    let start = Instant::now();
    bench.world.operator.start().await;
    let walked = || async { bench.world.proxy.count_of("GetAccountAuthorizationDetails") >= 1 };
    assert!(eventually(LONG, walked).await, "{}", bench.world.operator.log());
    let wall = start.elapsed();
    let before = bench.world.proxy.count();
    let quiet = stays(Duration::from_secs(20), || async { bench.world.proxy.count() == before }).await;
    bench.must(quiet, "nothing after the walk of a restart");
    let calls = bench.world.proxy.all();
    bench.must(calls.len() <= 5, "a restart takes 5 calls at most");
    let writes = bench.api.writes().len();
    bench.must(writes == 0, "a restart writes nothing to Kubernetes");
    let (cpu, peak) = (bench.world.operator.cpu(), bench.world.operator.peak());
    rows.push(Row {
        case: format!("restart with {roles}"),
        calls,
        writes: Some(writes),
        wall,
        cpu,
        peak,
        roles,
        note: String::new(),
    });

    bench.world.patch_class(json!({ "driftCheck": { "intervalSeconds": 10 } })).await;
    bench.world.proxy.forget();
    bench.api.forget();
    let cpu = bench.world.operator.cpu();
    let start = Instant::now();
    let walks = || async { bench.world.proxy.count_of("GetAccountAuthorizationDetails") >= 4 };
    assert!(eventually(LONG, walks).await, "{}", bench.world.operator.log());
    let calls: Vec<Call> = bench.world.proxy.calls();
    bench.must(
        calls.iter().all(|call| !call.writes() && call.action != "GetRole"),
        "a steady check reads no role by itself",
    );
    let writes = bench.api.writes().iter().filter(|asked| asked.path.contains("/iamroles/")).count();
    bench.must(writes == 0, "a steady check writes nothing to Kubernetes");
    rows.push(Row {
        case: format!("4 steady checks of {roles}"),
        calls,
        writes: Some(writes),
        wall: start.elapsed(),
        cpu: bench.world.operator.cpu() - cpu,
        peak: bench.world.operator.peak(),
        roles,
        note: "one each 10 s".into(),
    });
    bench.world.patch_class(json!({ "driftCheck": { "intervalSeconds": 900 } })).await;

    let delete = async |bench: &Bench| {
        let objects = bench.objects();
        objects.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("a deletion");
        let gone =
            || async { objects.list_metadata(&ListParams::default().limit(1)).await.expect("a list").items.is_empty() };
        assert!(eventually(LONG, gone).await, "{}", bench.world.operator.log());
    };
    let row = bench.measure(&format!("delete {roles}"), roles, delete, true).await;
    rows.push(row);
    bench.failed
}

/// An account that lets through 20 calls a second.
async fn throttled(rows: &mut Vec<Row>) -> Vec<String> {
    const RATE: f64 = 20.0;
    let mut bench = Bench::start("throttled", 900, false).await;
    bench.world.proxy.limit(RATE);
    let create = async |bench: &Bench| {
        bench.create(0, 100).await;
        bench.ready(100).await;
    };
    let mut row = with_spans(bench.measure("create 100 at 20 calls a second", 100, create, false).await);
    let refused = bench.world.proxy.throttled();
    let share = refused as f64 / (row.calls.len() + refused) as f64;
    // The bucket was full at the start.
    let used = (row.calls.len() as f64 - RATE) / (RATE * row.wall.as_secs_f64());
    row.note =
        format!("{:.0} % of the bucket used, {:.1} % of the calls refused; {}", used * 100.0, share * 100.0, row.note);
    rows.push(row);
    bench.failed
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` only sees that it compiles.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let roles = std::env::var("BENCH_ROLES").ok().and_then(|roles| roles.parse().ok()).unwrap_or(1000);
    let mut rows = Vec::new();
    let mut failed = small(&mut rows).await;
    failed.extend(throttled(&mut rows).await);
    failed.extend(large(&mut rows, roles).await);
    println!("\n| case | AWS calls | Kubernetes writes a role | wall | against the least | CPU | peak memory | |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    rows.iter().for_each(Row::print);
    assert!(failed.is_empty(), "not as promised: {failed:#?}");
}
