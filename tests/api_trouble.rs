//! Whatever the API server does, nothing is lost, nothing is done twice in AWS, and the operator does not make it worse.

mod support;

use iamrole_operator::api::IamRoleClassSpec;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::api::{ApiProxy, Asked, End, Trouble};
use support::{SOON, World, allow, aws, condition, ec2, eventually, stays};

/// The operator watches classes, namespaces, and the roles of its namespace.
const WATCHES: usize = 3;
/// After an outage a watch may be in its longest pause, which is half a minute.
const RECOVERS: Duration = Duration::from_mins(1);

/// A world whose operator talks to the API server through a proxy.
async fn world(test: &str) -> (World, ApiProxy) {
    let (mut world, api) = (World::without_operator(test, |_| {}).await, ApiProxy::start().await);
    world.operator.environment.push(("KUBECONFIG".into(), api.kubeconfig(&world.namespace)));
    (world, api)
}

fn name(i: usize) -> String {
    format!("app-{i}")
}

async fn create_all(world: &World, count: usize) {
    for i in 0..count {
        let spec = json!({
            "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"],
            "inlinePolicies": [{ "name": "inline", "document": allow("s3:Get*") }],
        });
        world.create(&name(i), spec).await;
    }
}

async fn all_ready(world: &World, count: usize) {
    let ready = eventually(RECOVERS, || async {
        let roles = world.roles().list(&kube::api::ListParams::default()).await.expect("roles").items;
        let is_ready = |role: &iamrole_operator::api::IamRole| {
            condition(role, "Ready")
                .is_some_and(|ready| ready.status == "True" && ready.observed_generation == role.metadata.generation)
        };
        roles.len() == count && roles.iter().all(is_ready)
    });
    assert!(ready.await, "not all were ready in time\n{}", world.operator.log());
}

/// How often each call that writes was made for each role; what the SDK repeats by itself counts once.
fn writes(world: &World) -> BTreeMap<(String, String), usize> {
    let mut counted = BTreeMap::new();
    for call in world.proxy.calls().into_iter().filter(|call| call.writes() && !call.repeated) {
        let role = call.parameters.get("RoleName").cloned().unwrap_or_default();
        *counted.entry((role, call.action)).or_default() += 1;
    }
    counted
}

/// How many times the time that was meant has passed, begun ones included: a machine with much to do looks later.
fn times(passed: Duration, meant: Duration) -> usize {
    usize::try_from(1 + passed.as_millis() / meant.as_millis()).expect("a number")
}

/// The most requests within any second.
fn busiest(asked: &[Asked]) -> usize {
    let within = |from: Instant| {
        asked.iter().filter(|asked| asked.at >= from && asked.at.duration_since(from) < Duration::from_secs(1)).count()
    };
    asked.iter().map(|asked| within(asked.at)).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_restarts_and_what_changed_meanwhile_is_done_once() {
    const ROLES: usize = 20;
    const OUTAGE: Duration = Duration::from_secs(10);
    const OUTAGE_ATTEMPTS: usize = 50;
    let (mut world, api) = world("restart").await;
    world.operator.start().await;
    create_all(&world, ROLES).await;
    all_ready(&world, ROLES).await;
    world.proxy.forget();
    api.forget();
    api.down();
    let down = Instant::now();
    for i in 0..ROLES / 2 {
        world.patch(&name(i), json!({ "description": "changed meanwhile" })).await;
    }
    world.delete(&name(ROLES - 1)).await;
    create_all_from(&world, ROLES, 2).await;
    let quiet = stays(OUTAGE, || async { world.proxy.writes().is_empty() }).await;
    assert!(quiet, "{:?}", world.proxy.writes());
    assert!(eventually(RECOVERS, || async { api.attempts() > 0 }).await, "{}", world.operator.log());
    let (attempts, outage) = (api.attempts(), down.elapsed());
    println!("{attempts} attempts within {outage:?} of outage");
    let most = OUTAGE_ATTEMPTS * times(outage, OUTAGE);
    assert!(attempts < most, "a storm of {attempts} attempts while it was down for {outage:?}");
    assert!(world.operator.runs(), "{}", world.operator.log());

    let (up, probe) = (Instant::now(), world.operator.get("/livez").await);
    assert_eq!(probe.map(|(code, _)| code), Some(200));
    api.up();
    world.gone(&name(ROLES - 1)).await;
    all_ready(&world, ROLES + 1).await;
    println!(
        "recovered {:?} after it was back, {} requests in the busiest second",
        up.elapsed(),
        busiest(&api.asked())
    );
    // A list and a watch each; a status per object, with finalizer, intent and events for those that are new.
    let asked = api.asked().len();
    assert!(asked <= 4 * WATCHES + 8 * (ROLES + 2), "a storm of {asked} requests afterwards");
    let counted = writes(&world);
    for i in 0..ROLES / 2 {
        assert_eq!(counted.get(&(world.templated(&name(i)), "UpdateRole".into())), Some(&1), "{i}: {counted:?}");
    }
    assert!(counted.values().all(|times| *times == 1), "{counted:#?}");
    for i in ROLES / 2..ROLES - 1 {
        let role = world.templated(&name(i));
        assert!(!counted.keys().any(|(name, _)| *name == role), "nothing was to be done to {role}: {counted:?}");
    }
    assert_eq!(aws::role(&world.iam, &world.templated(&name(ROLES - 1))).await, None);
}

async fn create_all_from(world: &World, first: usize, count: usize) {
    for i in first..first + count {
        world.create(&name(i), json!({ "trustPolicy": ec2() })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_end_lose_nothing_and_are_not_stormed() {
    const ROUNDS: usize = 4;
    let (mut world, api) = world("watches").await;
    world.operator.start().await;
    create_all(&world, 5).await;
    all_ready(&world, 5).await;
    for how in [End::Closed, End::Cut, End::Gone] {
        api.forget();
        world.proxy.forget();
        for round in 0..ROUNDS {
            assert!(eventually(RECOVERS, || async { api.watches() == WATCHES }).await, "{how:?}: {:?}", api.watches());
            api.end_watches(how);
            world.patch(&name(round), json!({ "description": format!("{how:?}") })).await;
            all_ready(&world, 5).await;
        }
        let expected: BTreeMap<_, _> =
            (0..ROUNDS).map(|i| ((world.templated(&name(i)), "UpdateRole".to_owned()), 1)).collect();
        assert_eq!(writes(&world), expected, "{how:?}");
        let asked = api.asked();
        let reads = asked.iter().filter(|asked| asked.method == "GET").count();
        println!("{how:?}: {reads} lists and watches for {ROUNDS} ends of {WATCHES} watches");
        assert!(reads <= ROUNDS * WATCHES * 4, "{how:?}: {asked:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_too_old_is_listed_anew_also_where_the_whole_answer_says_so() {
    let (mut world, api) = world("expired").await;
    world.operator.start().await;
    create_all(&world, 3).await;
    all_ready(&world, 3).await;
    assert!(eventually(SOON, || async { api.watches() == WATCHES }).await);
    api.forget();
    world.proxy.forget();
    api.trouble("WATCH", "iamroles?", 3, Trouble::Refuse(410));
    api.end_watches(End::Closed);
    world.patch(&name(0), json!({ "description": "seen by the list" })).await;
    all_ready(&world, 3).await;
    assert!(eventually(RECOVERS, || async { api.happened() == 3 && api.watches() == WATCHES }).await);
    world.patch(&name(1), json!({ "description": "seen by the watch" })).await;
    all_ready(&world, 3).await;
    let expected = (0..2).map(|i| ((world.templated(&name(i)), "UpdateRole".to_owned()), 1)).collect();
    assert_eq!(writes(&world), expected);
    let asked = api.asked();
    let lists = asked.iter().filter(|asked| asked.path.contains("/iamroles?") && !asked.is_watch()).count();
    assert_eq!(lists, 3, "a list for each refusal: {asked:#?}");
}

/// Each write of a role's life, by what may stand in its path and how many of its kind pass before: finalizer, intent,
/// event and outcome of the creation, outcome of the change, then status and finalizer of the deletion.
const POSITIONS: [(&str, &str, usize); 7] = [
    ("PATCH", "/iamroles/app-0", 0),
    ("PUT", "/iamroles/app-1/", 0),
    ("PUT", "/iamroles/app-2/", 1),
    ("PUT", "/iamroles/app-3/", 2),
    ("PATCH", "/iamroles/app-4", 1),
    ("POST", "/events", 5),
    ("PATCH", "/iamroleclasses/", 0),
];

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_are_refused_or_lost_are_made_again_and_nothing_is_repeated_in_aws() {
    const ROLES: usize = 6;
    let troubles = [409, 429, 500, 503].map(Trouble::Refuse);
    for trouble in troubles.into_iter().chain([Trouble::DropBefore, Trouble::DropAfter]) {
        let (mut world, api) = world("writes").await;
        world.operator.start().await;
        for (method, part, after) in POSITIONS {
            api.trouble_after(after, method, part, 2, trouble.clone());
        }
        create_all(&world, ROLES).await;
        all_ready(&world, ROLES).await;
        for i in 0..ROLES {
            world.patch(&name(i), json!({ "description": "changed" })).await;
        }
        all_ready(&world, ROLES).await;
        for i in 0..ROLES {
            world.delete(&name(i)).await;
        }
        for i in 0..ROLES {
            world.gone(&name(i)).await;
            assert_eq!(aws::role(&world.iam, &world.templated(&name(i))).await, None);
        }
        println!("{trouble:?} happened {} times", api.happened());
        assert!(api.happened() >= POSITIONS.len(), "{trouble:?}: {}", api.happened());
        for ((role, action), times) in writes(&world) {
            // A create whose outcome could not be written down is tried again, which IAM refuses.
            let most = if action == "CreateRole" { 3 } else { 1 };
            assert!(times <= most, "{trouble:?}: {action} of {role} {times} times\n{}", world.operator.log());
        }
        let busiest = busiest(&api.asked());
        assert!(busiest < 25 * ROLES, "{trouble:?}: {busiest} requests within a second");
    }
}

/// Requests and calls to AWS within a window that opens when all writes about each role were refused for some time.
#[tokio::test(flavor = "multi_thread")]
async fn while_writes_are_refused_the_operator_asks_ever_more_rarely() {
    const WINDOW: Duration = Duration::from_secs(10);
    const ROLES: usize = 20;
    // The first tries are quick; what counts is how it goes on. After so many a pause is six seconds at least, the next
    // one twelve.
    const TRIES: usize = 4;
    const PAUSE: Duration = Duration::from_secs(6);
    // A refusal with Retry-After is repeated by the client twice, as it says.
    for (status, of_a_try) in [(429, 3), (500, 1)] {
        let (mut world, api) = world("refusing").await;
        world.operator.start().await;
        create_all(&world, ROLES).await;
        all_ready(&world, ROLES).await;
        api.forget();
        for method in ["PUT", "PATCH", "POST"] {
            api.trouble(method, "", usize::MAX, Trouble::Refuse(status));
        }
        for i in 0..ROLES {
            world.patch(&name(i), json!({ "description": "while it refuses" })).await;
        }
        // The class is looked at, and the outcome can't be written.
        world.patch_class(json!({ "tags": { "new": "tag" } })).await;
        let refused = |i: usize| {
            let path = format!("/iamroles/{}/status", name(i));
            api.writes().iter().filter(|asked| asked.path.contains(&path)).count()
        };
        let slow = || async { (0..ROLES).all(|i| refused(i) >= TRIES * of_a_try) };
        assert!(eventually(2 * RECOVERS, slow).await, "{:?}", (0..ROLES).map(refused).collect::<Vec<_>>());
        api.forget();
        world.proxy.forget();
        let opened = Instant::now();
        let alive = || async { world.operator.get("/livez").await.is_some() };
        assert!(stays(WINDOW, alive).await);
        let each: Vec<usize> = (0..ROLES).map(refused).collect();
        let (asked, calls, tries) = (api.asked(), world.proxy.count(), times(opened.elapsed(), PAUSE));
        println!("{status}: {} requests and {calls} calls to AWS within {WINDOW:?} for {ROLES} roles", asked.len());
        assert!(each.iter().all(|refused| *refused <= of_a_try * tries), "{status}: {tries} tries: {each:?}");
        // The rest is of the class, and what is looked at.
        let classes = asked.iter().filter(|asked| asked.path.contains("/iamroleclasses/")).count();
        assert!(classes <= 8 * times(opened.elapsed(), 2 * WINDOW), "{status}: {classes} writes of the class");
        let rest = asked.len() - each.iter().sum::<usize>() - classes;
        assert!(rest <= ROLES * tries, "{status}: {asked:#?}");
        // A look at a role takes 4 of them.
        assert!(calls <= 4 * tries * ROLES, "{status}: {calls} calls to AWS within {WINDOW:?}");
        api.heal();
        all_ready(&world, ROLES).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_without_crds_or_without_an_api_server_says_so_and_waits() {
    let (mut world, api) = world("start").await;
    create_all(&world, 1).await;
    api.down();
    world.operator.spawn();
    let says = |text: &'static str| {
        let world = &world;
        move || async move { world.operator.log().contains(text) }
    };
    assert!(eventually(SOON, says("reading the namespace kube-system")).await, "{}", world.operator.log());
    assert_eq!(world.operator.get("/readyz").await.map(|(code, _)| code), Some(503));
    assert_eq!(world.operator.get("/livez").await.map(|(code, _)| code), Some(200), "a restart would not help");
    api.trouble("GET", "customresourcedefinitions", usize::MAX, Trouble::Refuse(404));
    api.up();
    let up = Instant::now();
    assert!(eventually(SOON, says("the CRD is not installed; waiting")).await, "{}", world.operator.log());
    assert_eq!(world.operator.get("/readyz").await.map(|(code, _)| code), Some(503));
    let alive = || async { world.operator.get("/livez").await.is_some() };
    assert!(stays(Duration::from_secs(6), alive).await, "{}", world.operator.log());
    let asked = api.asked();
    // The CRD is asked for every five seconds.
    assert!(asked.len() <= 6 * times(up.elapsed(), Duration::from_secs(15)), "{asked:#?}");
    assert!(!asked.iter().any(|asked| asked.path.contains("iamrole.dev/v1")), "nothing is watched yet: {asked:#?}");
    api.heal();
    all_ready(&world, 1).await;
    let ready = eventually(SOON, || async { world.operator.get("/readyz").await.is_some_and(|(code, _)| code == 200) });
    assert!(ready.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_in_aws_is_told_though_its_status_could_not_be_written() {
    for trouble in [Trouble::Refuse(409), Trouble::Refuse(500), Trouble::DropBefore, Trouble::DropAfter] {
        let (mut world, api) = world("untold").await;
        world.operator.start().await;
        create_all(&world, 1).await;
        world.ready("app-0").await;
        let told = |role: &iamrole_operator::api::IamRole, action: &str| {
            let changes = role.status.as_ref().map(|status| status.last_changes.clone()).unwrap_or_default();
            changes.iter().filter(|change| change.action == action && change.cause.as_str() == "Drift").count()
        };
        let role = world.templated("app-0");
        let arn = "arn:aws:iam::aws:policy/AdministratorAccess";
        aws::attach(&world.iam, &role, arn).await;
        api.trouble("PUT", "/status", 3, trouble.clone());
        world.request_check("app-0").await;
        let role = world.until("app-0", "telling what was repaired", |role| told(role, "DetachRolePolicy") > 0).await;
        assert_eq!(told(&role, "DetachRolePolicy"), 1, "{trouble:?}");
        assert!(api.happened() >= 1, "{trouble:?}");
        api.heal();
        world.check_now("app-0").await;
        assert_eq!(told(&world.get("app-0").await, "DetachRolePolicy"), 1, "{trouble:?}: once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_not_known_yet_selects_no_class() {
    let (mut world, api) = world("unknown").await;
    let late = format!("{}-late", world.namespace);
    // What is not known has no labels, and so would be selected.
    let tenant = json!({ "matchExpressions": [{ "key": "tenant", "operator": "DoesNotExist" }] });
    let class = world.classes().get(&world.namespace).await.expect("the class");
    let spec = IamRoleClassSpec { namespace_selector: serde_json::from_value(tenant).unwrap(), ..class.spec };
    world.create_class(&late, spec, false).await;
    world.operator.also.push(late.clone());
    world.operator.start().await;
    api.trouble("GET", "/api/v1/namespaces?", usize::MAX, Trouble::Refuse(500));
    api.end_watches(End::Closed);
    assert!(eventually(SOON, || async { api.happened() > 0 }).await);

    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(late.clone());
    namespace.metadata.labels = Some(BTreeMap::from([("tenant".to_owned(), "x".to_owned())]));
    Api::all(world.client.clone()).create(&PostParams::default(), &namespace).await.expect("a namespace");
    world.proxy.forget();
    world.namespace.clone_from(&late);
    world.create("app", json!({ "roleClassName": late, "trustPolicy": ec2() })).await;
    let message = world.reason("app", "Reconciling").await;
    assert!(message.contains("is not known yet"), "{message}");
    api.heal();
    let refused = eventually(RECOVERS, || async {
        condition(&world.get("app").await, "Ready").is_some_and(|ready| ready.reason == "NoClass")
    });
    assert!(refused.await, "{:?}\n{}", world.status("app").await, world.operator.log());
    assert_eq!(world.proxy.writes(), [""; 0]);
}
