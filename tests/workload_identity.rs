//! Workload identity: what the listed ServiceAccounts get, and nobody else, by real ServiceAccounts and real tokens of the
//! API server, checked by an evaluation of its own against the trust policy that is in AWS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
mod workload;

use iamrole_operator::api::IamRole;
use iamrole_operator::api::workload::{ClassWorkloadIdentity, Mechanism};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use std::time::Duration;
use support::proxy::Fault;
use support::{SOON, World, aws, condition, ec2, eventually, stays};
use workload::{claims, pod_identity, web_identity};

const ACCOUNT: &str = "123456789012";
const CLUSTER: &str = "arn:aws:eks:eu-central-1:123456789012:cluster/rig";

#[allow(clippy::unnecessary_wraps, reason = "the type of the field")]
fn identity(mechanism: Mechanism) -> Option<ClassWorkloadIdentity> {
    Some(ClassWorkloadIdentity {
        mechanism,
        allow_override: Some(true),
        audience: None,
        sts_regional_endpoints: None,
        pod_identity: None,
    })
}

async fn world(test: &str, mechanism: Mechanism) -> World {
    let mut world = World::without_operator(test, |class| class.workload_identity = identity(mechanism)).await;
    world.operator.arguments.extend(["--cluster-arn".to_owned(), CLUSTER.to_owned()]);
    world.operator.start().await;
    world
}

fn accounts(world: &World, namespace: &str) -> Api<ServiceAccount> {
    Api::namespaced(world.client.clone(), namespace)
}

async fn create_account(world: &World, name: &str) {
    let mut account = ServiceAccount::default();
    account.metadata.name = Some(name.to_owned());
    accounts(world, &world.namespace).create(&PostParams::default(), &account).await.expect("a ServiceAccount");
}

/// The claims of a real token of the API server.
async fn token(world: &World, namespace: &str, name: &str, audience: &str) -> Value {
    let spec = TokenRequestSpec { audiences: Some(vec![audience.to_owned()]), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let answer = accounts(world, namespace).create_token_request(name, &PostParams::default(), &request).await;
    claims(&answer.expect("a token").status.and_then(|status| status.token).expect("a token"))
}

async fn trust(world: &World, name: &str) -> Value {
    aws::role(&world.iam, &world.templated(name)).await.expect("the role in AWS").trust
}

#[tokio::test]
async fn a_listed_service_account_is_let_in_by_its_own_token_and_nobody_else() {
    let world = world("irsa", Mechanism::IRSA).await;
    for name in ["web", "api", "other"] {
        create_account(&world, name).await;
    }
    world.create("app", json!({ "serviceAccounts": [{ "name": "web" }, { "name": "api" }] })).await;
    world.ready("app").await;
    let trust = trust(&world, "app").await;
    let may = |claims: &Value| web_identity(&trust, "aws", ACCOUNT, claims);
    let sts = "sts.amazonaws.com";
    for name in ["web", "api"] {
        let claims = token(&world, &world.namespace, name, sts).await;
        assert!(may(&claims), "{claims} {trust}");
        let other_audience = token(&world, &world.namespace, name, "vault").await;
        assert!(!may(&other_audience), "a token for somebody else");
        let mut forged = claims.clone();
        forged["iss"] = json!("https://issuer.example");
        assert!(!may(&forged), "another cluster");
    }
    assert!(!may(&token(&world, &world.namespace, "other", sts).await), "not listed");
    assert!(!may(&token(&world, "default", "default", sts).await), "another namespace");
    assert!(!pod_identity(&trust, CLUSTER, &world.namespace, "web"), "the class says IRSA");

    // One entry goes, another comes.
    world.patch("app", json!({ "serviceAccounts": [{ "name": "api" }, { "name": "other" }] })).await;
    world.ready("app").await;
    let trust = self::trust(&world, "app").await;
    let may = async |name| web_identity(&trust, "aws", ACCOUNT, &token(&world, &world.namespace, name, sts).await);
    assert!(may("api").await && may("other").await && !may("web").await);
}

/// The account is asked for its provider once for all roles, and where that call hangs only the one that asks waits for it.
#[tokio::test]
async fn a_look_at_the_provider_that_hangs_holds_up_no_other_role_and_is_no_news() {
    let world = world("hangs", Mechanism::IRSA).await;
    let call = world.iam.create_open_id_connect_provider().url("https://kubernetes.default.svc");
    if let Err(error) = call.client_id_list("sts.amazonaws.com").thumbprint_list("0".repeat(40)).send().await {
        assert!(error.into_service_error().is_entity_already_exists_exception());
    }
    let hangs = world.proxy.hold("GetOpenIDConnectProvider", "");
    // What the SDK gives up and repeats is the same look.
    let asked = || {
        let calls = world.proxy.all().into_iter().filter(|call| !call.repeated);
        calls.filter(|call| call.action == "GetOpenIDConnectProvider").count()
    };
    let names: Vec<String> = (0..6).map(|i| format!("app-{i}")).collect();
    for name in &names {
        world.create(name, json!({ "serviceAccounts": [{ "name": "default" }] })).await;
    }
    let is_ready = |role: &IamRole| condition(role, "Ready").is_some_and(|ready| ready.status == "True");
    let others = || async {
        let roles = world.roles().list(&ListParams::default()).await.expect("the roles");
        roles.items.iter().filter(|role| is_ready(role)).count() == names.len() - 1
    };
    assert!(eventually(SOON, others).await, "{}", world.operator.log());
    // Those that did without the answer look again soon, while it hangs and when it is there.
    assert!(stays(Duration::from_secs(6), || async { asked() == 1 }).await, "{}", world.operator.log());
    hangs.release();
    for name in &names {
        world.ready(name).await;
    }
    assert!(stays(Duration::from_secs(6), || async { asked() == 1 }).await, "{}", world.operator.log());
    for name in &names {
        let events = world.events(name).await;
        let told: Vec<&str> = events.iter().map(|(_, reason, _)| reason.as_str()).collect();
        let of_binding = told.iter().filter(|reason| **reason == "BindingNotManaged").count();
        assert!(of_binding == 1 && !told.contains(&"Busy"), "{events:?}");
    }
}

#[tokio::test]
async fn pod_identity_lets_in_this_cluster_this_namespace_and_the_listed() {
    let world = world("podid", Mechanism::PodIdentity).await;
    world.create("app", json!({ "trustPolicy": ec2(), "serviceAccounts": [{ "name": "api" }] })).await;
    world.ready("app").await;
    let trust = trust(&world, "app").await;
    assert!(pod_identity(&trust, CLUSTER, &world.namespace, "api"), "{trust}");
    assert!(!pod_identity(&trust, CLUSTER, &world.namespace, "web"));
    assert!(!pod_identity(&trust, CLUSTER, "default", "api"));
    assert!(!pod_identity(&trust, "arn:aws:eks:eu-central-1:123456789012:cluster/other", &world.namespace, "api"));
    assert!(!pod_identity(&trust, "arn:aws:eks:eu-central-1:999999999999:cluster/rig", &world.namespace, "api"));
    assert_eq!(trust["Statement"][0]["Principal"]["Service"], "ec2.amazonaws.com", "what was written is there");
}

#[tokio::test]
async fn a_class_without_workload_identity_allows_none_and_audience_is_its_own() {
    let world = World::new("nowi").await;
    world.create("app", json!({ "serviceAccounts": [{ "name": "default" }] })).await;
    let message = world.reason("app", "NotAllowed").await;
    assert!(message.contains("spec.serviceAccounts") && message.contains("workloadIdentity"), "{message}");
    world.patch_class(json!({ "workloadIdentity": { "mechanism": "IRSA", "audience": "openshift" } })).await;
    world.ready("app").await;
    let trust = trust(&world, "app").await;
    let may = async |audience| {
        web_identity(&trust, "aws", ACCOUNT, &token(&world, &world.namespace, "default", audience).await)
    };
    assert!(may("openshift").await && !may("sts.amazonaws.com").await);
    // Both needs the leave, and the cluster's ARN.
    world.patch("app", json!({ "workloadIdentity": { "mechanism": "Both" } })).await;
    let message = world.reason("app", "NotAllowed").await;
    assert!(message.contains("allowOverride"), "{message}");
    world.patch_class(json!({ "workloadIdentity": { "allowOverride": true } })).await;
    let message = world.reason("app", "InvalidSpec").await;
    assert!(message.contains("--cluster-arn"), "{message}");
}

/// Who makes the operator leave a role alone, and how each takes it back.
fn ways_out_of_enforcing() -> [(&'static str, Value, Value); 5] {
    let annotation = |value: Value| json!({ "metadata": { "annotations": { "iamrole.dev/suspend": value } } });
    let role = |field: &str, value: Value| json!({ "spec": { field: value } });
    [
        ("role", role("mode", json!("Observe")), role("mode", Value::Null)),
        ("role", role("suspend", json!(true)), role("suspend", Value::Null)),
        ("role", annotation(json!("migration")), annotation(Value::Null)),
        ("class", json!({ "mode": "Observe" }), json!({ "mode": null })),
        ("class", json!({ "suspend": true }), json!({ "suspend": null })),
    ]
}

async fn change(world: &World, what: &str, patch: &Value) {
    match what {
        "role" => world.patch_object("app", patch.clone()).await.expect("the API server takes it"),
        _ => world.patch_class(patch.clone()).await,
    }
}

/// What was found before stays true for nobody: who waits for it would wait for ever, and be warned for ever.
#[tokio::test]
async fn where_nobody_looks_after_the_service_accounts_nothing_is_said_of_them() {
    let world = world("unlooked", Mechanism::IRSA).await;
    let is_told = async || {
        let metrics = world.operator.get("/metrics").await.expect("metrics").1;
        metrics.contains(r#"condition="IdentityBound""#)
    };
    world.create("app", json!({ "serviceAccounts": [{ "name": "web" }] })).await;
    for (what, leave, back) in ways_out_of_enforcing() {
        // Not bound: nobody annotates here, or there is no provider.
        let bound = |role: &IamRole| {
            let of_now = |kind| condition(role, kind).filter(|c| c.observed_generation == role.metadata.generation);
            of_now("Ready").is_some_and(|ready| ready.reason == "Applied") && of_now("IdentityBound").is_some()
        };
        world.until("app", "a word on its ServiceAccounts", bound).await;
        let known = world.status("app").await.workload_identity;
        assert!(known.is_some() && is_told().await);
        change(&world, what, &leave).await;
        let rests = |role: &IamRole| {
            condition(role, "Ready").is_some_and(|ready| {
                ["Observed", "Suspended"].contains(&ready.reason.as_str())
                    && ready.observed_generation == role.metadata.generation
            })
        };
        let role = world.until("app", &format!("rest by {leave}"), rests).await;
        assert!(condition(&role, "IdentityBound").is_none(), "{leave}: {:?}", role.status);
        assert_eq!(role.status.unwrap().workload_identity, known, "{leave}: what is to be taken back is not forgotten");
        assert!(eventually(SOON, async || !is_told().await).await, "{leave}");
        change(&world, what, &back).await;
    }
}

#[tokio::test]
async fn a_role_that_can_not_even_be_observed_says_nothing_of_its_service_accounts() {
    let world = world("unseen", Mechanism::IRSA).await;
    world.create("app", json!({ "serviceAccounts": [{ "name": "web" }] })).await;
    world.until("app", "a word on its ServiceAccounts", |role| condition(role, "IdentityBound").is_some()).await;
    world.proxy.fault(
        "GetRole",
        &world.templated("app"),
        usize::MAX,
        Fault::Refuse(403, "AccessDenied", "not now".to_owned()),
    );
    world.patch_class(json!({ "mode": "Observe" })).await;
    world.reason("app", "AccessDenied").await;
    let role = world.get("app").await;
    assert!(condition(&role, "IdentityBound").is_none(), "{:?}", role.status);
    world.proxy.heal();
}
