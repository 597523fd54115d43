//! The process stops when it is told to, and no object is left waiting for something that has come.

mod support;

use iamrole_operator::api::iamroleclass::Allowed;
use iamrole_operator::api::schema::Selector;
use iamrole_operator::api::{IamRole, IamRoleClassSpec};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::kubectl::kubectl_ok;
use support::proxy::Fault;
use support::{World, allow, aws, ec2, env, eventually};

/// Longest stop; the chart gives the pod 60 seconds, and one call takes 50 at most.
const STOP: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_role_moves_to_a_class_that_is_made_in_the_same_breath() {
    let world = World::new("move").await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    // As slow as the real STS: the role is looked at before the class is.
    world.proxy.fault("GetCallerIdentity", "", usize::MAX, Fault::Delay(Duration::from_millis(900)));
    let spec = IamRoleClassSpec {
        namespace_selector: Selector::default(),
        unbounded: Some(true),
        allowed: Some(Allowed::everything()),
        controller: Some(world.operator.controller.clone()),
        take_over_classes: Some(vec![world.namespace.clone()]),
        ..IamRoleClassSpec::default()
    };
    let class = format!("{}-b", world.namespace);
    world.create_class(&class, spec, false).await;
    world.patch("app", json!({ "roleClassName": class })).await;
    let role = world.ready("app").await;
    assert_eq!(role.status.unwrap().class.unwrap().name, class);
}

#[tokio::test]
async fn requested_checks_have_a_limit_and_the_last_one_is_answered() {
    let world = World::new("requests").await;
    for (name, spec, reason) in [
        ("app", json!({ "trustPolicy": ec2() }), "Applied"),
        ("watched", json!({ "trustPolicy": ec2(), "mode": "Observe" }), "ChangesPending"),
    ] {
        world.create(name, spec).await;
        world.reason(name, reason).await;
        world.proxy.forget();
        world.check_now(name).await;
        let one = world.proxy.actions().len();
        let mut last = String::new();
        for _ in 0..20 {
            last = world.request_check(name).await;
        }
        world
            .until(name, "handling the last request", |role| {
                role.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_ref()) == Some(&last)
            })
            .await;
        assert!(one > 0);
        assert_eq!(world.proxy.actions().len(), 2 * one, "{name}: {:?}", world.proxy.actions());
    }
}

#[tokio::test]
async fn who_only_observes_keeps_nobody_from_a_name() {
    let world = World::new("observer").await;
    let name = format!("shared-{}", world.namespace);
    world.create("observer", json!({ "roleName": name, "trustPolicy": ec2(), "mode": "Observe" })).await;
    world.reason("observer", "ChangesPending").await;
    world.create("maker", json!({ "roleName": name, "trustPolicy": ec2() })).await;
    world.ready("maker").await;
}

/// A kubeconfig whose ServiceAccount may do everything that the operator does, but not read `IamRole`s.
fn blind(namespace: &str) -> String {
    let rules = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": namespace },
        "rules": [
            { "apiGroups": ["iamrole.dev"], "resources": ["iamroleclasses"], "verbs": ["get", "list", "watch", "patch"] },
            { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"] },
            { "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["get"] },
        ] });
    kubectl_ok(&["apply", "-f", "-"], &rules.to_string());
    kubectl_ok(&["create", "serviceaccount", "blind", "-n", namespace], "");
    let subject = format!("--serviceaccount={namespace}:blind");
    kubectl_ok(&["create", "clusterrolebinding", namespace, &format!("--clusterrole={namespace}"), &subject], "");
    let token = kubectl_ok(&["create", "token", "blind", "-n", namespace], "");
    let config = std::fs::read_to_string(env("RIG_OPERATOR_KUBECONFIG")).expect("the operator's kubeconfig");
    let lines = config.lines().map(|line| match line.split_once("token:") {
        Some((indent, _)) => format!("{indent}token: {}", token.trim()),
        None => line.to_owned(),
    });
    let path = format!("{}/{namespace}.kubeconfig", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).expect("a kubeconfig");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_may_not_read_roles_says_so_and_stops_when_told() {
    let mut world = World::without_operator("blind", |_| {}).await;
    world.operator.environment.push(("KUBECONFIG".into(), blind(&world.namespace)));
    world.operator.spawn();
    let said = || async { world.operator.log().contains("watch failed") };
    assert!(eventually(support::SOON, said).await, "{}", world.operator.log());
    let (status, _) = world.operator.get("/readyz").await.expect("an answer");
    assert_eq!(status, 503, "it is not ready");
    let told = Instant::now();
    assert_eq!(world.operator.stop().await, Some(0));
    assert!(told.elapsed() < STOP, "{:?}", told.elapsed());
    kubectl_ok(&["delete", "clusterrole,clusterrolebinding", &world.namespace], "");
}

/// An outage of AWS must not restart the pod, nor take it out of service: neither one that hangs nor one that is refused, and
/// neither from the start nor later.
#[tokio::test]
async fn the_probes_do_not_depend_on_aws() {
    let healthy = async |world: &World| {
        let well = || async {
            for path in ["/livez", "/healthz", "/readyz"] {
                if world.operator.get(path).await.map(|(code, _)| code) != Some(200) {
                    return false;
                }
            }
            true
        };
        assert!(eventually(support::SOON, well).await, "{}", world.operator.log());
        assert!(support::stays(Duration::from_secs(3), well).await, "{}", world.operator.log());
    };
    for fault in [Fault::Delay(Duration::from_mins(10)), Fault::DropBefore] {
        let mut world = World::without_operator("probes", |_| {}).await;
        world.proxy.fault("*", "", usize::MAX, fault.clone());
        world.operator.spawn();
        healthy(&world).await;
        world.create("app", json!({ "trustPolicy": ec2() })).await;
        healthy(&world).await;
        world.proxy.heal();
        // A call that hangs is given up by itself, and then tried again.
        let ready = |role: &iamrole_operator::api::IamRole| {
            support::condition(role, "Ready").is_some_and(|ready| ready.status == "True")
        };
        assert!(eventually(Duration::from_mins(3), || async { ready(&world.get("app").await) }).await);
        world.proxy.fault("*", "", usize::MAX, fault);
        world.request_check("app").await;
        healthy(&world).await;
    }
}

#[tokio::test]
async fn a_deletion_stops_between_two_calls_and_goes_on_after_the_restart() {
    let mut world = World::new("stop").await;
    let own: Vec<Value> = (0..6).map(|i| json!({ "name": format!("p{i}"), "document": allow("ec2:*") })).collect();
    world.create("app", json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
    world.ready("app").await;
    world.proxy.fault("*", "", usize::MAX, Fault::Delay(Duration::from_secs(3)));
    world.proxy.forget();
    world.delete("app").await;
    assert!(eventually(support::SOON, || async { !world.proxy.writes().is_empty() }).await);
    let told = Instant::now();
    assert_eq!(world.operator.stop().await, Some(0));
    assert!(told.elapsed() < STOP, "{:?}", told.elapsed());
    world.proxy.heal();
    world.operator.start().await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &world.templated("app")).await, None);
    assert!(aws::policies_with(&world.iam, &world.namespace).await.is_empty(), "nothing is orphaned");
}

#[tokio::test]
async fn a_spec_that_is_refused_again_and_again_does_not_fill_status_up() {
    let world = World::new("refused").await;
    world.proxy.refuse("CreatePolicy", "", 403, "AccessDenied", "not authorized");
    let entries = |round: usize| -> Vec<Value> {
        (0..9).map(|i| json!({ "name": format!("r{round}-{i}"), "document": allow("ec2:*") })).collect()
    };
    world.create("app", json!({ "trustPolicy": ec2(), "customerManagedPolicies": entries(0) })).await;
    world.reason("app", "AccessDenied").await;
    for round in 1..7 {
        world.patch("app", json!({ "customerManagedPolicies": entries(round) })).await;
        world.reason("app", "AccessDenied").await;
    }
    world.proxy.heal();
    world.patch("app", json!({ "description": "the right is granted" })).await;
    world.ready("app").await;
    // An intent whose refusal could not be written down goes once it was looked for.
    let is_clean = |role: &IamRole| role.status.as_ref().unwrap().customer_managed_policies.len() == 9;
    world.until("app", "remembering nothing but what is there", is_clean).await;
}

#[tokio::test]
async fn a_policy_name_that_is_taken_at_another_path_is_named_and_holds_nothing_else_up() {
    let world = World::new("taken").await;
    let message = "A policy called dup already exists. Duplicate names are not allowed.";
    world.proxy.refuse("CreatePolicy", "dup", 409, "EntityAlreadyExists", message);
    world
        .create(
            "app",
            json!({
                "trustPolicy": ec2(), "inlinePolicies": [{ "name": "inline", "document": allow("s3:Get*") }],
                "customerManagedPolicies": [
                    { "name": "dup", "policyName": format!("{}-dup", world.namespace), "document": allow("ec2:*") },
                    { "name": "fine", "document": allow("sqs:*") },
                ],
            }),
        )
        .await;
    let message = world.reason("app", "PolicyNameTaken").await;
    assert!(message.contains("-dup\"") && message.contains("another path"), "{message}");
    let role = aws::role(&world.iam, &world.templated("app")).await.expect("the role");
    assert!(role.inline.contains_key("inline") && role.attached.len() == 1, "{role:?}");
    world.proxy.heal();
    world.ready("app").await;
}
