//! What a scenario works on: a namespace with a class, an emulated IAM of its own and an operator.

use crate::judge::{Spent, too_much};
use crate::machine::{Machine, OPERATOR, processes};
use crate::support::ministack::Ministack;
use crate::support::{World, allow, ec2, eventually, stays};
use crate::table::Row;
use iamrole_operator::api::IamRole;
use iamrole_operator::api::iamroleclass::{DriftCheck, DriftMethod};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long each call to AWS takes.
pub const LATENCY: Duration = Duration::from_millis(50);
/// Calls to AWS at once, as the operator makes them by default.
pub const PARALLEL: usize = 16;
/// Roles that are under way at once.
pub const ROLES: usize = 3 * PARALLEL;
/// The longest that anything here may take.
pub const LONG: Duration = Duration::from_mins(8);
/// Objects that are created at once.
const AT_ONCE: usize = 32;
/// What is to be read by itself after a walk is read within this time.
const AFTER_WALK: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);

/// What the API server has counted.
struct Writes {
    roles: usize,
    classes: usize,
    events: usize,
}

pub struct Bench {
    pub world: World,
    pub failed: Vec<String>,
    latency: Duration,
    aws: Ministack,
}

impl Bench {
    pub async fn start(name: &str, interval: i32, latency: Duration) -> Self {
        let aws = Ministack::start().await;
        let check = DriftCheck { interval_seconds: Some(interval), method: Some(DriftMethod::Account) };
        let mut world = World::on(name, &aws.url, aws.root.clone(), |class| class.drift_check = Some(check)).await;
        let environment = &mut world.operator.environment;
        environment.push(("AWS_ACCESS_KEY_ID".into(), "test".into()));
        environment.push(("AWS_SECRET_ACCESS_KEY".into(), "test".into()));
        world.operator.log_level = "warn,iamrole_operator::aws::throttle=debug";
        // As it is shipped; this program itself may be built otherwise.
        if let Some(binary) = std::env::var_os("BENCH_OPERATOR") {
            world.operator.binary = binary.into();
        }
        world.proxy.latency(latency);
        world.operator.start().await;
        let class = || async {
            let status = world.classes().get(&world.namespace).await.expect("the class").status.unwrap_or_default();
            status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        assert!(eventually(LONG, class).await, "the class is not ready:\n{}", world.operator.log());
        Self { world, failed: Vec::new(), latency, aws }
    }

    pub fn must(&mut self, holds: bool, what: &str) {
        if !holds {
            self.failed.push(what.to_owned());
        }
    }

    /// A time that is too long counts only where the machine kept up; the row tells where it did not.
    pub fn must_in_time(&mut self, row: &mut Row, times_least: f64) {
        let ratio = row.ratio();
        if ratio <= times_least {
            return;
        }
        match row.load.reason(self.latency) {
            Some(reason) => row.add(&format!("longer than {times_least} times, which is not judged: {reason}")),
            None => self.must(false, &format!("{} takes {times_least} times the least, not {ratio:.2}", row.case)),
        }
    }

    /// The operator's own processor time counts however busy the machine is. `few` is what few roles took, if known.
    pub fn must_spend_little(&mut self, row: &Row, few: Option<Spent>) {
        if let Some(what) = too_much(row.spent(), few) {
            self.must(false, &format!("{}: {what}", row.case));
        }
    }

    /// Makes these roles, and waits until all that there are are ready.
    pub async fn create(&self, from: usize, to: usize) {
        let objects = self.world.raw_roles();
        for some in (from..to).collect::<Vec<_>>().chunks(AT_ONCE) {
            let created = some.iter().map(|i| {
                let object: DynamicObject = serde_json::from_value(manifest(*i)).expect("an object");
                let objects = objects.clone();
                async move { objects.create(&PostParams::default(), &object).await.expect("a role") }
            });
            futures::future::join_all(created).await;
        }
        // Only then all objects are read: to ask for them all the time would be the load.
        let last_call = || async { self.world.proxy.count_of("PutRolePolicy") >= to - from };
        assert!(eventually(LONG, last_call).await, "not made:\n{}", self.world.operator.log());
        let deadline = Instant::now() + LONG;
        while self.ready().await < to {
            assert!(Instant::now() < deadline, "not ready:\n{}", self.world.operator.log());
            tokio::time::sleep(POLL).await;
        }
    }

    async fn ready(&self) -> usize {
        let list = self.world.raw_roles().list(&ListParams::default()).await.expect("roles").items;
        let is_ready = |object: &&DynamicObject| {
            let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
            conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        };
        list.iter().filter(is_ready).count()
    }

    /// Deletes all roles, and waits until they are gone.
    pub async fn delete_all(&self) {
        let objects: Api<IamRole> = self.world.roles();
        objects.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("a deletion");
        let one = ListParams::default().limit(1);
        let deadline = Instant::now() + LONG;
        while !objects.list_metadata(&one).await.expect("a list").items.is_empty() {
            assert!(Instant::now() < deadline, "not deleted:\n{}", self.world.operator.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for a walk over the account to end, and for what follows from it.
    pub async fn walked(&self) {
        let walks = || async { self.world.proxy.count_of("GetAccountAuthorizationDetails") >= 1 };
        assert!(eventually(LONG, walks).await, "no walk:\n{}", self.world.operator.log());
        loop {
            let before = self.world.proxy.count();
            if stays(AFTER_WALK, || async { self.world.proxy.count() == before }).await {
                return;
            }
        }
    }

    pub async fn measure(&mut self, case: &str, roles: usize, work: impl AsyncFnOnce(&mut Self)) -> Row {
        eprintln!("{case} ...");
        self.world.proxy.forget();
        let (start, before, writes) = (Instant::now(), self.machine(), self.writes().await);
        work(self).await;
        let wall = start.elapsed();
        let load = self.machine().since(&before, self.world.proxy.mean_answer());
        let now = self.writes().await;
        Row {
            case: case.to_owned(),
            calls: self.world.proxy.all(),
            writes: now.roles - writes.roles,
            class_writes: now.classes - writes.classes,
            events: now.events - writes.events,
            latency: self.latency,
            wall,
            load,
            peak: self.world.operator.peak(),
            roles,
            note: String::new(),
        }
    }

    fn machine(&mut self) -> Machine {
        let operator = if self.world.operator.runs() { Some((OPERATOR, self.world.operator.id())) } else { None };
        let emulator = self.aws.id().map(|id| ("emulator", id));
        Machine::now(&processes(operator.into_iter().chain(emulator).collect()))
    }

    /// Requests so far that changed a role, and that told an event, as the API server has counted them.
    async fn writes(&self) -> Writes {
        let request = axum::http::Request::get("/metrics").body(Vec::new()).expect("a request");
        let metrics = self.world.client.request_text(request).await.expect("the API server's metrics");
        let count = |of: &str, verbs: [&str; 2]| {
            let counts = metrics.lines().filter(|line| {
                let verb = || verbs.iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")));
                line.starts_with("apiserver_request_total{") && line.contains(of) && verb()
            });
            counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
        };
        Writes {
            roles: count("resource=\"iamroles\"", ["PUT", "PATCH"]),
            classes: count("resource=\"iamroleclasses\"", ["PUT", "PATCH"]),
            events: count("group=\"events.k8s.io\"", ["POST", "PATCH"]),
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

pub fn share(part: usize, all: usize) -> f64 {
    float(part) / float(all.max(1))
}

#[allow(clippy::cast_precision_loss, reason = "numbers of a table")]
pub fn float(count: usize) -> f64 {
    count as f64
}
