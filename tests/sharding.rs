//! Two installations beside each other over one namespace: each serves the classes that name it, and never touches what
//! belongs to the other.

mod support;

use iamrole_operator::api::IamRoleClassSpec;
use iamrole_operator::api::iamroleclass::{Allowed, DriftCheck, DriftMethod};
use iamrole_operator::api::schema::Selector;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use support::api::ApiProxy;
use support::operator::Operator;
use support::proxy::{Fault, Proxy};
use support::{SOON, World, allow, aws, condition, ec2, env, eventually, stays, version};

/// An installation with ways of its own to AWS and to the API server, so that what it does is told apart.
struct Installation {
    operator: Operator,
    class: String,
    aws: Proxy,
    api: ApiProxy,
}

impl Installation {
    async fn new(world: &World, name: &str) -> Self {
        let (aws, api) = (Proxy::start(&env("AWS_ENDPOINT_URL")).await, ApiProxy::start().await);
        let mut operator = Operator::replica(&world.namespace, &format!("-{name}"), &aws.url());
        operator.controller = format!("{}/{name}", operator.controller);
        let full = format!("{}-{name}", world.namespace);
        operator.environment = vec![("KUBECONFIG".into(), api.kubeconfig(&full)), ("HOSTNAME".into(), name.to_owned())];
        Self { operator, class: full, aws, api }
    }

    async fn class(&self, world: &World, is_default: bool) {
        let labels = BTreeMap::from([("test".to_owned(), world.namespace.clone())]);
        let walk = DriftCheck { interval_seconds: Some(5), method: Some(DriftMethod::Account) };
        let spec = IamRoleClassSpec {
            namespace_selector: Selector { match_labels: labels, ..Selector::default() },
            unbounded: Some(true),
            allowed: Some(Allowed::everything()),
            controller: Some(self.operator.controller.clone()),
            drift_check: Some(walk),
            ..IamRoleClassSpec::default()
        };
        world.create_class(&self.class, spec, is_default).await;
    }

    /// The objects that it has written to, by kind and name.
    fn wrote_to(&self) -> BTreeSet<String> {
        let writes = self.api.writes().into_iter().map(|asked| asked.path);
        let object = |path: String| {
            let path = path.split('?').next()?.trim_end_matches("/status");
            path.rfind("/iamrole").map(|at| path[at + 1..].to_owned())
        };
        writes.filter_map(object).collect()
    }

    /// The roles that it has asked AWS about, or written.
    fn asked_for(&self) -> BTreeSet<String> {
        self.aws.calls().iter().filter_map(|call| call.parameters.get("RoleName").cloned()).collect()
    }

    fn forget(&self) {
        self.aws.forget();
        self.api.forget();
    }

    /// Waits until it has walked the account twice from now: until then it would have found what it cares for.
    async fn walks_twice(&self) {
        let walks = || self.aws.count_of("GetAccountAuthorizationDetails");
        let before = walks();
        let done = eventually(3 * SOON, || async { walks() >= before + 2 });
        assert!(done.await, "{:?}\n{}", self.aws.actions(), self.operator.log());
    }
}

/// A world with both, and a class of each; the default one is of the first.
async fn both(test: &str) -> (World, Installation, Installation) {
    let world = World::without_operator(test, |class| class.namespace_selector = nowhere()).await;
    let mut first = Installation::new(&world, "first").await;
    let mut second = Installation::new(&world, "second").await;
    first.class(&world, true).await;
    second.class(&world, false).await;
    first.operator.start().await;
    second.operator.start().await;
    (world, first, second)
}

/// The world's own class is nobody's here.
fn nowhere() -> Selector {
    Selector { match_labels: BTreeMap::from([("no".to_owned(), "where".to_owned())]), ..Selector::default() }
}

fn spec(class: &Installation) -> Value {
    json!({
        "trustPolicy": ec2(), "roleClassName": class.class, "managedPolicies": ["ReadOnlyAccess"],
        "inlinePolicies": [{ "name": "inline", "document": allow("s3:Get*") }],
        "customerManagedPolicies": [{ "name": "own", "document": allow("sqs:*") }],
    })
}

fn set<T: Into<String>>(names: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    names.into_iter().map(Into::into).collect()
}

/// Who has told events of an object.
async fn reporters(world: &World, object: &str) -> BTreeSet<String> {
    let api: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let events = api.list(&ListParams::default()).await.expect("events").items.into_iter();
    let about = |event: &Event| event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(object);
    events.filter(about).filter_map(|event| event.reporting_instance).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_serves_its_own_classes_and_leaves_the_others_alone() {
    let (world, first, second) = both("shards").await;
    world.create("one", spec(&first)).await;
    let mut by_default = spec(&first);
    by_default.as_object_mut().expect("a spec").remove("roleClassName");
    world.create("default", by_default).await;
    world.create("two", spec(&second)).await;
    for name in ["one", "default", "two"] {
        world.ready(name).await;
    }
    first.walks_twice().await;
    second.walks_twice().await;
    let names = |names: &[&str]| set(names.iter().map(|name| world.templated(name)));
    assert_eq!(first.asked_for(), names(&["default", "one"]));
    assert_eq!(second.asked_for(), names(&["two"]));
    assert_eq!(first.wrote_to(), set(["iamroles/default", "iamroles/one", &format!("iamroleclasses/{}", first.class)]));
    assert_eq!(second.wrote_to(), set(["iamroles/two", &format!("iamroleclasses/{}", second.class)]));
    assert_eq!(reporters(&world, "one").await, set(["first"]));
    assert_eq!(reporters(&world, "two").await, set(["second"]));
    for (installation, theirs) in [(&first, &second.class), (&second, &first.class)] {
        let (_, metrics) = installation.operator.get("/metrics").await.expect("metrics");
        assert!(!metrics.contains(theirs.as_str()), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_the_others_roles_are_not_walked_for() {
    let (world, first, second) = both("shards").await;
    world.create("two", spec(&second)).await;
    world.ready("two").await;
    let mut plain = spec(&first);
    plain.as_object_mut().expect("a spec").remove("customerManagedPolicies");
    world.create("one", plain).await;
    world.ready("one").await;
    first.forget();
    first.walks_twice().await;
    assert_eq!(first.aws.count_of("ListPolicies"), 0, "{:?}", first.aws.actions());
    second.forget();
    second.walks_twice().await;
    assert!(second.aws.count_of("ListPolicies") >= 1, "{:?}", second.aws.actions());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_other_is_not_there_to_delete_waits_for_it() {
    let (world, first, mut second) = both("shards").await;
    world.create("one", spec(&first)).await;
    world.create("two", spec(&second)).await;
    world.ready("one").await;
    world.ready("two").await;
    assert_eq!(second.operator.stop().await, Some(0));
    first.forget();
    world.delete("two").await;
    world.patch("one", json!({ "description": "changed" })).await;
    world.ready("one").await;
    let waiting = version(&world.get("two").await);
    first.walks_twice().await;
    assert_eq!(version(&world.get("two").await), waiting);
    assert!(!first.wrote_to().contains("iamroles/two"), "{:?}", first.wrote_to());
    assert_eq!(first.asked_for(), set([world.templated("one")]));
    assert!(aws::role(&world.iam, &world.templated("two")).await.is_some());

    // And its class, too, which only one of them may let go.
    world.classes().delete(&second.class, &kube::api::DeleteParams::default()).await.expect("a deletion");
    first.walks_twice().await;
    assert!(world.classes().get_opt(&second.class).await.expect("an answer").is_some(), "{}", first.operator.log());
    second.operator.start().await;
    world.gone("two").await;
    assert_eq!(aws::role(&world.iam, &world.templated("two")).await, None);
    let gone = || async { world.classes().get_opt(&second.class).await.expect("an answer").is_none() };
    assert!(eventually(SOON, gone).await, "{}", second.operator.log());
    assert!(!first.wrote_to().iter().any(|object| object.contains("two") || object.contains("second")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_other_has_deleted_a_moment_ago_is_no_role_of_nobody() {
    const SETTLE: Duration = Duration::from_secs(15);
    let (world, mut first, second) = both("shards").await;
    first.operator.settle = "15s";
    first.operator.restart().await;
    let started = Instant::now();
    world.create("two", spec(&second)).await;
    world.ready("two").await;
    // Soon after a start it would wait in any case.
    assert!(eventually(2 * SETTLE, || async { started.elapsed() > SETTLE }).await);
    second.aws.fault("DeleteRole", "", usize::MAX, Fault::Pretend);
    world.delete("two").await;
    world.gone("two").await;
    let told = || async {
        let class = world.classes().get(&first.class).await.expect("the class");
        class.status.unwrap_or_default().orphaned_roles
    };
    first.walks_twice().await;
    assert_eq!(told().await, [""; 0], "{}", first.operator.log());
    // By now AWS shows it no more.
    aws::delete_role(&world.iam, &world.templated("two")).await;
    let quiet = stays(SETTLE, || async { told().await.is_empty() });
    assert!(quiet.await, "{:?}\n{}", told().await, first.operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_moves_is_served_by_the_other_from_then_on_with_its_role_untouched() {
    let (world, first, second) = both("shards").await;
    let leave = Patch::Merge(json!({ "spec": { "takeOverClasses": [first.class] } }));
    world.classes().patch(&second.class, &PatchParams::default(), &leave).await.expect("the leave");
    world.create("moves", spec(&first)).await;
    let before = world.ready("moves").await.status.and_then(|status| status.role).expect("a role");
    second.forget();
    world.patch("moves", json!({ "roleClassName": second.class })).await;
    let taken = |role: &iamrole_operator::api::IamRole| {
        let class = role.status.as_ref().and_then(|status| status.class.as_ref());
        let ready = condition(role, "Ready")
            .is_some_and(|ready| ready.status == "True" && ready.observed_generation == role.metadata.generation);
        ready && class.is_some_and(|class| class.name == second.class)
    };
    let moved = world.until("moves", "the other class", taken).await;
    let after = moved.status.and_then(|status| status.role).expect("a role");
    assert_eq!((&after.id, &after.create_date), (&before.id, &before.create_date));
    let writes = second.aws.writes();
    assert_eq!(writes, ["TagRole", "TagPolicy"], "both classes want the same, but say whose it is");

    first.forget();
    world.patch("moves", json!({ "description": "by the second" })).await;
    world.ready("moves").await;
    let role = world.templated("moves");
    let attached = "arn:aws:iam::aws:policy/AdministratorAccess";
    world.iam.attach_role_policy().role_name(&role).policy_arn(attached).send().await.expect("drift");
    let repaired =
        || async { aws::role(&world.iam, &role).await.is_some_and(|role| !role.attached.contains(attached)) };
    assert!(eventually(3 * SOON, repaired).await, "{}", second.operator.log());
    first.walks_twice().await;
    world.delete("moves").await;
    world.gone("moves").await;
    assert_eq!(aws::role(&world.iam, &role).await, None);
    assert_eq!((first.asked_for(), first.wrote_to().contains("iamroles/moves")), (set([""; 0]), false));
    assert!(second.asked_for().contains(&role));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_moves_while_it_is_deleted_is_deleted_once_by_who_had_it() {
    let (world, first, mut second) = both("shards").await;
    world.create("moves", spec(&first)).await;
    world.ready("moves").await;
    let role = world.templated("moves");
    first.aws.refuse("DetachRolePolicy", "", 403, "AccessDenied", "not authorized");
    second.forget();
    world.delete("moves").await;
    assert!(eventually(SOON, || async { first.aws.count_of("DetachRolePolicy") >= 1 }).await);
    world.patch("moves", json!({ "roleClassName": second.class })).await;
    second.operator.restart().await;
    second.walks_twice().await;
    assert_eq!((second.asked_for(), second.wrote_to().contains("iamroles/moves")), (set([""; 0]), false));
    first.aws.heal();
    world.gone("moves").await;
    assert_eq!(aws::role(&world.iam, &role).await, None);
    assert!(!second.wrote_to().contains("iamroles/moves"), "{:?}", second.wrote_to());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_class_serves_is_told_once_and_not_fought_over() {
    let (world, first, second) = both("shards").await;
    world.create("lost", json!({ "trustPolicy": ec2(), "roleClassName": "no-such-class" })).await;
    world.reason("lost", "NoClass").await;
    // Both look again all the time while it is new. What they find is the same, and one of them has told it.
    let version_of = || async { version(&world.get("lost").await) };
    let before = version_of().await;
    assert!(stays(Duration::from_secs(6), || async { version_of().await == before }).await);
    let told = world.events("lost").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((first.asked_for(), second.asked_for()), (set([""; 0]), set([""; 0])));
}
