//! Of two replicas one works, whatever happens to it: stopped, frozen and thawed, cut off from the API server.
//!
//! Each replica has a proxy of its own before AWS and before the API server, so that what each of them does is told
//! apart. Their rights to the lease are those of the chart.

mod support;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use support::api::{ApiProxy, Asked, Trouble};
use support::kubectl::{helm, kubectl_ok};
use support::operator::Operator;
use support::proxy::{Call, Fault, Proxy};
use support::{SOON, World, allow, aws, ec2, env, eventually, stays, version};

const LEASE: Duration = Duration::from_secs(6);
const NAME: &str = "iamrole-operator";

/// One operator with its own ways to AWS and to the API server.
struct Replica {
    name: &'static str,
    operator: Operator,
    aws: Proxy,
    api: ApiProxy,
}

impl Replica {
    /// Everything it has written to AWS and to the API server, but for the lease.
    fn written(&self) -> Vec<String> {
        let api = self.api.writes().into_iter().map(|asked| format!("{} {}", asked.method, asked.path));
        self.aws.writes().into_iter().chain(api).collect()
    }

    /// All its calls to AWS, the look at the account included.
    async fn aws_calls(&self) -> usize {
        self.metric("iamrole_aws_calls_total").await.iter().map(|(_, count)| *count).sum()
    }

    async fn leads(&self) -> bool {
        self.metric("leader_election_master_status").await.iter().any(|(_, value)| *value == 1)
    }

    async fn metric(&self, name: &str) -> Vec<(String, usize)> {
        let (code, text) = self.operator.get("/metrics").await.expect("metrics are served");
        assert_eq!(code, 200);
        let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(k, v)| (k.to_owned(), v.parse().unwrap())).collect()
    }

    async fn is_ready(&self) -> bool {
        self.operator.get("/readyz").await.is_some_and(|(code, _)| code == 200)
    }
}

/// A world with two replicas, of which `a` leads and `b` stands by.
struct Pair {
    world: World,
    a: Replica,
    b: Replica,
}

impl Pair {
    async fn new(test: &str) -> Self {
        Self::settling(test, None).await
    }

    /// The same with another time to settle than the rig's short one.
    async fn settling(test: &str, settle: Option<&'static str>) -> Self {
        Self::with(test, settle, LEASE).await
    }

    async fn with(test: &str, settle: Option<&'static str>, lease: Duration) -> Self {
        let world = World::without_operator(test, |_| {}).await;
        grant(&world.namespace);
        let (a, b) = (replica(&world, "a", lease).await, replica(&world, "b", lease).await);
        let mut pair = Self { world, a, b };
        if let Some(settle) = settle {
            (pair.a.operator.settle, pair.b.operator.settle) = (settle, settle);
        }
        pair.a.operator.start().await;
        assert!(eventually(SOON, || async { pair.a.leads().await }).await, "{}", pair.a.operator.log());
        pair.b.operator.start().await;
        pair
    }

    async fn lease(&self) -> Lease {
        let api: Api<Lease> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        api.get(NAME).await.expect("the lease")
    }

    /// Which replica has the lease.
    async fn holder(&self) -> Option<String> {
        let holder = self.lease().await.spec?.holder_identity?;
        holder.split_once('_').map(|(name, _)| name.to_owned())
    }

    async fn takes_over(&self, name: &str, limit: Duration) {
        let took = eventually(limit, || async { self.holder().await.as_deref() == Some(name) }).await;
        let (a, b) = (self.a.operator.log(), self.b.operator.log());
        assert!(took, "{name} never took over within {limit:?}\n=== a\n{a}\n=== b\n{b}");
    }

    /// Who has reported events about objects of the namespace.
    async fn reporters(&self) -> BTreeSet<String> {
        let api: Api<Event> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        let events = api.list(&ListParams::default()).await.expect("events");
        events.items.into_iter().filter_map(|event| event.reporting_instance).collect()
    }
}

async fn replica(world: &World, name: &'static str, lease: Duration) -> Replica {
    let (aws, api) = (Proxy::start(&env("AWS_ENDPOINT_URL")).await, ApiProxy::start().await);
    let mut operator = Operator::replica(&world.namespace, &format!("-{name}"), &aws.url());
    operator.environment = vec![
        ("KUBECONFIG".into(), api.kubeconfig(&format!("{}-{name}", world.namespace))),
        ("HOSTNAME".into(), name.into()),
    ];
    operator.arguments = [
        "--leader-elect".into(),
        format!("--leader-elect-resource-namespace={}", world.namespace),
        format!("--leader-elect-lease-duration={}s", lease.as_secs()),
        "--leader-elect-renew-deadline=4s".into(),
        "--leader-elect-retry-period=500ms".into(),
    ]
    .into();
    Replica { name, operator, aws, api }
}

/// Gives the operator's ServiceAccount what the chart gives it for the election, in the test's namespace.
fn grant(namespace: &str) {
    let rendered =
        helm(&["template", NAME, "charts/iamrole-operator", "--namespace", namespace, "--set", "leaderElection=true"]);
    assert!(rendered.ok, "{}", rendered.stderr);
    for part in rendered.stdout.split("\n---").filter(|part| part.contains("leader-election\"\n")) {
        let mut object: Value = serde_saphyr::from_str(part.trim_start_matches("---")).expect("YAML");
        if object["kind"] == "RoleBinding" {
            object["subjects"][0]["namespace"] = json!("iamrole-system");
        }
        kubectl_ok(&["apply", "-f", "-"], &object.to_string());
    }
}

fn spec() -> Value {
    json!({
        "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"],
        "inlinePolicies": [{ "name": "inline", "document": allow("s3:Get*") }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_works_and_the_other_stands_by_without_a_call_or_a_write() {
    let pair = Pair::new("standby").await;
    pair.world.create("app", spec()).await;
    pair.world.ready("app").await;
    assert_eq!(pair.holder().await.as_deref(), Some("a"));
    assert!(pair.a.leads().await && !pair.b.leads().await);
    assert!(pair.b.is_ready().await, "a rolling update waits for it");
    assert_eq!(pair.b.operator.get("/livez").await.map(|(code, _)| code), Some(200));
    assert_eq!((pair.b.written(), pair.b.aws_calls().await), (Vec::new(), 0));
    assert_eq!(pair.b.api.watches(), 0);
    assert_eq!(pair.reporters().await, BTreeSet::from(["a".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_finishes_and_hands_over_at_once() {
    let mut pair = Pair::new("handover").await;
    pair.world.create("app", spec()).await;
    pair.world.ready("app").await;
    pair.a.aws.fault("*", "", usize::MAX, Fault::Delay(Duration::from_secs(1)));
    pair.a.aws.forget();
    pair.world.create("late", spec()).await;
    assert!(eventually(SOON, || async { !pair.a.aws.writes().is_empty() }).await);
    assert_eq!(pair.a.operator.stop().await, Some(0), "{}", pair.a.operator.log());
    let stopped = Instant::now();
    let spec = pair.lease().await.spec.expect("a spec");
    assert!(pair.a.operator.log().contains("released the lease"));
    assert!(spec.holder_identity.as_deref().is_none_or(|holder| holder.starts_with("b_")), "{spec:?}");
    pair.takes_over("b", Duration::from_secs(10)).await;
    let took = stopped.elapsed();
    println!("taken over {took:?} after the leader had ended");
    assert!(took < LEASE / 2, "not by waiting: {took:?}");
    assert_eq!(pair.lease().await.spec.and_then(|spec| spec.lease_transitions), Some(1));
    pair.world.ready("late").await;
    pair.world.patch("app", json!({ "description": "by b" })).await;
    pair.world.ready("app").await;
    assert_eq!(pair.b.aws.writes().iter().filter(|action| *action == "UpdateRole").count(), 1);
    assert!(pair.reporters().await.contains("b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_forty_steady_roles_walks_once_and_writes_nothing() {
    const ROLES: usize = 40;
    let mut pair = Pair::new("steady").await;
    let name = |i: usize| format!("role-{i}");
    for i in 0..ROLES {
        pair.world.create(&name(i), spec()).await;
    }
    let mut versions = BTreeMap::new();
    for i in 0..ROLES {
        versions.insert(name(i), version(&pair.world.ready(&name(i)).await));
    }
    let class = || async {
        let class = pair.world.classes().get(&pair.world.namespace).await.expect("the class");
        class.metadata.resource_version
    };
    // First one that ends in order, then one that is killed.
    for (kills, name) in [(false, "b"), (true, "a")] {
        let class_before = class().await;
        let (leads, stands_by) = if name == "b" { (&mut pair.a, &mut pair.b) } else { (&mut pair.b, &mut pair.a) };
        [&leads.aws, &stands_by.aws].into_iter().for_each(Proxy::forget);
        [&leads.api, &stands_by.api].into_iter().for_each(ApiProxy::forget);
        if kills {
            leads.operator.kill().await;
        } else {
            assert_eq!(leads.operator.stop().await, Some(0));
        }
        let walks = || stands_by.aws.count_of("GetAccountAuthorizationDetails");
        assert!(eventually(3 * SOON, || async { walks() >= 1 }).await, "{}", stands_by.operator.log());
        let calls = stands_by.aws.count();
        assert!(stays(Duration::from_secs(5), || async { stands_by.aws.count() == calls }).await, "more follow");
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        stands_by.aws.all().into_iter().for_each(|call| *counted.entry(call.action).or_default() += 1);
        let once = ["GetAccountAuthorizationDetails", "GetAccountSummary", "GetCallerIdentity", "ListRoles"];
        assert_eq!(counted, once.map(|action| (action.to_owned(), 1)).into(), "kills: {kills}");
        // The first walk of all tells the class how drift is looked for.
        let is_first = |write: &String| !kills && write.contains("/iamroleclasses/");
        let written = leads.written().into_iter().chain(stands_by.written()).filter(|write| !is_first(write));
        assert_eq!(written.collect::<Vec<_>>(), [""; 0]);
        assert!(!kills || class().await == class_before);
        leads.operator.start().await;
    }
    for (name, before) in versions {
        assert_eq!(version(&pair.world.get(&name).await), before, "{name}");
    }
}

/// What each object is in the middle of when the leader is frozen: a call is under way, the SDK pauses between two
/// tries of one, or a write to the API server is being repeated.
const STATES: [&str; 3] = ["under-way", "throttled", "refused"];

/// Many objects, since the process that thaws ends within milliseconds.
const OF_EACH: usize = 5;
/// Shorter than the lease, so that it is over when another has that. The SDK makes no longer one.
const PAUSE: Duration = Duration::from_secs(5);

fn interrupted() -> impl Iterator<Item = (&'static str, String)> {
    STATES.iter().flat_map(|state| (0..OF_EACH).map(move |i| (*state, format!("{state}-{i}"))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_frozen_writes_nothing_when_it_thaws_and_ends() {
    let mut pair = Pair::new("frozen").await;
    let name = |object: &str| pair.world.templated(object);
    pair.a.aws.fault("CreateRole", &name("throttled"), usize::MAX, Fault::Throttle(PAUSE));
    let seconds = u16::try_from(PAUSE.as_secs()).expect("a number");
    pair.a.api.trouble("PUT", "iamroles/refused", usize::MAX, Trouble::Later(seconds));
    let under_way = pair.a.aws.hold("CreateRole", &name("under-way"));
    let [throttled, refused] =
        [pair.a.aws.hold("CreateRole", &name("throttled")), pair.a.api.hold("PUT", "iamroles/refused")];
    for (_, object) in interrupted() {
        pair.world.create(&object, spec()).await;
    }
    let all_wait = || async {
        let (calls, writes) = (pair.a.aws.calls(), pair.a.api.writes());
        interrupted().all(|(state, object)| {
            let is_put = |asked: &Asked| asked.method == "PUT" && asked.path.contains(&object);
            let is_made =
                |call: &Call| call.action == "CreateRole" && call.parameters.get("RoleName") == Some(&name(&object));
            if state == "refused" { writes.iter().any(is_put) } else { calls.iter().any(is_made) }
        })
    };
    assert!(eventually(SOON, all_wait).await, "{}", pair.a.operator.log());
    // All pauses begin together, and are longer than it takes to see that they have begun; they are over when it thaws.
    throttled.release();
    refused.release();
    let pause = || async {
        let throttled: usize = pair.a.metric("iamrole_aws_throttled_total").await.iter().map(|(_, count)| count).sum();
        let requests = pair.a.metric("rest_client_requests_total").await;
        let is_refused = |labels: &str| labels.contains(r#"method="PUT""#) && labels.contains(r#"code="429""#);
        let refused: usize = requests.iter().filter(|(labels, _)| is_refused(labels)).map(|(_, count)| count).sum();
        throttled >= OF_EACH && refused >= OF_EACH
    };
    assert!(eventually(SOON, pause).await, "{}", pair.a.operator.log());
    pair.a.operator.freeze().await;
    let frozen = Instant::now();
    under_way.release();
    pair.a.aws.heal();
    pair.a.api.heal();
    pair.takes_over("b", LEASE * 3).await;
    println!("taken over {:?} after the leader had stood still", frozen.elapsed());
    for (_, object) in interrupted() {
        pair.world.ready(&object).await;
        pair.world.patch(&object, json!({ "description": "by b" })).await;
        pair.world.ready(&object).await;
    }
    let before = pair.a.written();
    let holder = pair.lease().await.spec.and_then(|spec| spec.holder_identity);
    pair.a.operator.thaw().await;
    let code = pair.a.operator.ended().await;
    assert!(code.is_some_and(|code| code != 0), "{code:?}\n{}", pair.a.operator.log());
    let after = pair.a.written().split_off(before.len());
    assert!(after.is_empty(), "the loser wrote after it had thawed: {after:?}\n{}", pair.a.operator.log());
    let log = pair.a.operator.log();
    assert!(log.contains("not the leader any more") && log.contains(NAME), "{log}");
    assert_eq!(pair.lease().await.spec.and_then(|spec| spec.holder_identity), holder, "it left the lease alone");
    for (_, object) in interrupted() {
        let role = aws::role(&pair.world.iam, &name(&object)).await.expect("the role");
        assert_eq!((role.description.as_str(), role.attached.len(), role.inline.len()), ("by b", 1, 1));
    }
    // Started anew as by Kubernetes, it stands by.
    pair.a.operator.start().await;
    assert_eq!(pair.holder().await.as_deref(), Some("b"));
    assert!(!pair.a.leads().await);
}

/// The leader is cut off, and ends before another takes over.
async fn cut_off(test: &str, cut: impl Fn(&ApiProxy)) {
    // Much longer than its holder goes on, so that we see who had it when that one ended.
    let lease = 4 * LEASE;
    let mut pair = Pair::with(test, None, lease).await;
    pair.world.create("app", spec()).await;
    pair.world.ready("app").await;
    cut(&pair.a.api);
    let since = Instant::now();
    let code = pair.a.operator.ended().await;
    println!("ended {:?} after it had lost the API server", since.elapsed());
    let log = pair.a.operator.log();
    assert!(code.is_some_and(|code| code != 0) && log.contains("could not be renewed"), "{code:?}\n{log}");
    assert_ne!(pair.holder().await.as_deref(), Some("b"), "there was time left");
    pair.takes_over("b", lease * 2).await;
    pair.world.patch("app", json!({ "description": "by b" })).await;
    pair.world.ready("app").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cant_reach_the_api_server_ends_before_another_takes_over() {
    Box::pin(cut_off("cutoff", ApiProxy::down)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_gets_no_answer_ends_before_another_takes_over() {
    let silence = |api: &ApiProxy| {
        for method in ["GET", "PUT", "PATCH", "POST"] {
            api.trouble(method, "", usize::MAX, Trouble::Hang);
        }
    };
    Box::pin(cut_off("hanging", silence)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_the_lease_nothing_is_done_and_the_log_says_why() {
    let world = World::without_operator("norights", |_| {}).await;
    let mut alone = replica(&world, "a", LEASE).await;
    world.create("app", spec()).await;
    alone.operator.spawn();
    let said = || async { alone.operator.log().contains("Does RBAC let the operator") };
    assert!(eventually(SOON, said).await, "{}", alone.operator.log());
    assert!(!alone.is_ready().await && alone.written().is_empty());
    grant(&world.namespace);
    world.ready("app").await;
    assert_eq!(alone.operator.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_and_lost_answers_cost_nobody_the_lease() {
    let mut pair = Pair::new("short").await;
    pair.a.api.trouble("PUT", "/leases/", 2, Trouble::DropAfter);
    assert!(eventually(SOON, || async { pair.a.api.happened() == 2 }).await);
    pair.a.api.heal();
    pair.a.api.trouble("PUT", "/leases/", 1, Trouble::Refuse(409));
    pair.a.api.trouble("PUT", "/leases/", 1, Trouble::Refuse(503));
    assert!(eventually(SOON, || async { pair.a.api.happened() == 2 }).await);
    let steady = stays(LEASE + Duration::from_secs(1), || async { pair.holder().await.as_deref() == Some("a") }).await;
    assert!(steady && pair.a.operator.runs(), "{}", pair.a.operator.log());
    assert_eq!(pair.lease().await.spec.and_then(|spec| spec.lease_transitions), Some(0));
    assert_eq!(pair.b.written(), Vec::<String>::new());
    let _ = pair.b.name;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_repairs_no_drift_before_things_have_settled() {
    let mut pair = Pair::settling("settle", Some("30s")).await;
    let started = Instant::now();
    pair.world.create("app", spec()).await;
    pair.world.ready("app").await;
    // b's process is older than the 30 seconds when it takes over; what counts is how long it leads.
    let standing_by = || async { !pair.b.leads().await };
    assert!(stays(Duration::from_secs(31).saturating_sub(started.elapsed()), standing_by).await);
    pair.a.operator.kill().await;
    aws::attach(&pair.world.iam, &pair.world.templated("app"), "arn:aws:iam::aws:policy/SecurityAudit").await;
    pair.takes_over("b", LEASE * 3).await;
    assert!(eventually(SOON, || async { !pair.b.aws.calls().is_empty() }).await, "it looks");
    let early = stays(Duration::from_secs(8), || async { pair.b.aws.writes().is_empty() }).await;
    assert!(early, "{:?}", pair.b.aws.writes());
}

#[test]
fn durations_that_do_not_fit_are_refused_with_the_flag_to_change() {
    let run = |arguments: &[&str]| {
        let command = std::process::Command::new(env!("CARGO_BIN_EXE_iamrole"))
            .args([&["run", "--leader-elect"], arguments].concat())
            .output()
            .expect("it runs");
        (command.status.success(), String::from_utf8_lossy(&command.stderr).into_owned())
    };
    for (argument, flag) in [
        ("--leader-elect-lease-duration=10s", "--leader-elect-lease-duration"),
        ("--leader-elect-renew-deadline=2s", "--leader-elect-renew-deadline"),
        ("--leader-elect-retry-period=0s", "--leader-elect-retry-period"),
        ("--leader-elect-retry-period=2", "--leader-elect-retry-period"),
    ] {
        let (ok, said) = run(&[argument]);
        assert!(!ok && said.contains(flag), "{argument}: {said}");
    }
}
