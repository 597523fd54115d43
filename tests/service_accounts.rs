//! What the operator does to ServiceAccounts, and what it says about them: annotations for IRSA, by the rights that the
//! chart gives, and the condition `IdentityBound`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use iamrole_operator::api::IamRole;
use iamrole_operator::api::workload::{ClassWorkloadIdentity, Mechanism};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use support::kubectl::{helm, kubectl_ok};
use support::{World, aws, condition, ec2, eventually, stays};

const ROLE_ARN: &str = "eks.amazonaws.com/role-arn";
const MARKER: &str = "iamrole.dev/iam-role";
/// Issuer of the rig's API server, as it stands in ARNs.
const ISSUER: &str = "kubernetes.default.svc";

/// A world whose operator may annotate, by the rules that the chart makes for it.
async fn world(test: &str) -> World {
    world_with(test, &[]).await
}

/// The same with more arguments, for which the chart gives rights as well.
async fn world_with(test: &str, arguments: &[&str]) -> World {
    let mut world = World::without_operator(test, |class| {
        class.workload_identity = Some(ClassWorkloadIdentity {
            mechanism: Mechanism::IRSA,
            allow_override: Some(true),
            audience: None,
            sts_regional_endpoints: None,
            pod_identity: None,
        });
    })
    .await;
    grant(&world);
    world.operator.arguments.push("--annotate-service-accounts=true".to_owned());
    world.operator.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    world.operator.start().await;
    world
}

fn grant(world: &World) {
    let namespaces = format!("watchNamespaces=[{:?}]", world.namespace);
    let output = helm(&[
        "template",
        "iamrole-operator",
        "charts/iamrole-operator",
        "--namespace",
        "iamrole-system",
        "--set-json",
        &namespaces,
        "--set",
        "workloadIdentity.annotateServiceAccounts=true,workloadIdentity.checkPods=true",
        "--show-only",
        "templates/rbac.yaml",
    ]);
    assert!(output.ok, "{}", output.stderr);
    for text in output.stdout.split("\n---").filter(|text| text.contains(&format!("namespace: {:?}", world.namespace)))
    {
        kubectl_ok(&["apply", "-f", "-"], text.trim_start_matches("---"));
    }
}

fn accounts(world: &World) -> Api<ServiceAccount> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

async fn create_account(world: &World, name: &str, annotations: &[(&str, &str)]) {
    let mut account = ServiceAccount::default();
    account.metadata.name = Some(name.to_owned());
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    account.metadata.annotations = Some(annotations.iter().map(owned).collect());
    accounts(world).create(&PostParams::default(), &account).await.expect("a ServiceAccount");
}

async fn annotations(world: &World, name: &str) -> BTreeMap<String, String> {
    accounts(world).get(name).await.expect("the ServiceAccount").annotations().clone()
}

async fn becomes(world: &World, name: &str, what: &str, is: impl Fn(&BTreeMap<String, String>) -> bool) {
    let there = eventually(support::SOON, || async { is(&annotations(world, name).await) }).await;
    assert!(there, "{name} never got {what}: {:?}\n{}", annotations(world, name).await, world.operator.log());
}

/// Waits for the reason of `IdentityBound`; returns its message.
async fn bound(world: &World, role: &str, status: &str, reason: &str) -> String {
    let role = world.condition(role, "IdentityBound", status, Some(reason)).await;
    condition(&role, "IdentityBound").expect("the condition").message.clone()
}

/// The provider of the rig's own tokens, made by whichever test comes first.
async fn make_provider(world: &World) {
    let call = world.iam.create_open_id_connect_provider().url(format!("https://{ISSUER}"));
    if let Err(error) = call.client_id_list("sts.amazonaws.com").thumbprint_list("0".repeat(40)).send().await {
        assert!(error.into_service_error().is_entity_already_exists_exception());
    }
}

fn lists(names: &[&str]) -> Value {
    json!(names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>())
}

fn arn(world: &World, name: &str) -> String {
    format!("arn:aws:iam::123456789012:role/{}", world.templated(name))
}

#[tokio::test]
async fn listed_accounts_are_annotated_and_freed_again_in_every_way_that_leads_there() {
    let world = world("annotate").await;
    make_provider(&world).await;
    create_account(&world, "api", &[("team", "shop")]).await;
    world.create("app", json!({ "serviceAccounts": lists(&["api", "late"]) })).await;
    // A missing one holds up nothing, and is told.
    world.ready("app").await;
    let message = bound(&world, "app", "False", "ServiceAccountMissing").await;
    assert!(message.contains("ServiceAccount late"), "{message}");
    let ours = BTreeMap::from([
        ("team".to_owned(), "shop".to_owned()),
        (MARKER.to_owned(), "app".to_owned()),
        (ROLE_ARN.to_owned(), arn(&world, "app")),
    ]);
    assert_eq!(annotations(&world, "api").await, ours);
    // It wakes when it appears.
    create_account(&world, "late", &[]).await;
    bound(&world, "app", "True", "Bound").await;
    assert_eq!(annotations(&world, "late").await[ROLE_ARN], arn(&world, "app"));
    world.event("app", "Bound", &arn(&world, "app")).await;

    // Somebody takes it away, or replaces the account: it comes back.
    let none = json!({ "metadata": { "annotations": { ROLE_ARN: null } } });
    accounts(&world).patch("api", &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
    becomes(&world, "api", "its annotation back", |has| has.contains_key(ROLE_ARN)).await;
    accounts(&world).delete("late", &DeleteParams::default()).await.unwrap();
    bound(&world, "app", "False", "ServiceAccountMissing").await;
    create_account(&world, "late", &[]).await;
    becomes(&world, "late", "its annotation", |has| has.contains_key(ROLE_ARN)).await;

    // The entry goes; the mechanism changes; the role goes.
    world.patch("app", json!({ "serviceAccounts": lists(&["late"]) })).await;
    becomes(&world, "api", "free", |has| has.len() == 1 && has["team"] == "shop").await;
    world.patch("app", json!({ "trustPolicy": ec2(), "serviceAccounts": null })).await;
    becomes(&world, "late", "free", BTreeMap::is_empty).await;
    world.until("app", "no condition without a list", |role| condition(role, "IdentityBound").is_none()).await;
    world.patch("app", json!({ "serviceAccounts": lists(&["api", "late"]) })).await;
    becomes(&world, "api", "its annotation", |has| has.contains_key(ROLE_ARN)).await;
    world.delete("app").await;
    world.gone("app").await;
    for name in ["api", "late"] {
        assert!(
            !annotations(&world, name).await.contains_key(ROLE_ARN)
                && !annotations(&world, name).await.contains_key(MARKER)
        );
    }
}

#[tokio::test]
async fn what_somebody_else_wrote_stays() {
    let world = world("foreign").await;
    make_provider(&world).await;
    let theirs = "arn:aws:iam::123456789012:role/theirs";
    create_account(&world, "taken", &[(ROLE_ARN, theirs)]).await;
    create_account(&world, "same", &[(ROLE_ARN, &arn(&world, "app"))]).await;
    world.create("app", json!({ "serviceAccounts": lists(&["taken", "same"]) })).await;
    let message = bound(&world, "app", "False", "ServiceAccountConflict").await;
    assert!(message.contains("ServiceAccount taken") && message.contains(theirs), "{message}");
    world.event("app", "ServiceAccountConflict", "taken").await;
    world.ready("app").await;
    assert_eq!(annotations(&world, "taken").await, BTreeMap::from([(ROLE_ARN.to_owned(), theirs.to_owned())]));
    // It goes on by itself when they take it off.
    let none = json!({ "metadata": { "annotations": { ROLE_ARN: null } } });
    accounts(&world).patch("taken", &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
    bound(&world, "app", "True", "Bound").await;
    // Of what both wrote alike, theirs stays.
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(annotations(&world, "same").await, BTreeMap::from([(ROLE_ARN.to_owned(), arn(&world, "app"))]));
    assert!(annotations(&world, "taken").await.is_empty());
}

#[tokio::test]
async fn however_long_a_value_of_somebody_else_is_the_role_is_served_and_the_remedy_is_told() {
    let world = world("long").await;
    make_provider(&world).await;
    create_account(&world, "taken", &[(ROLE_ARN, &"x".repeat(100_000))]).await;
    create_account(&world, "audience", &[("eks.amazonaws.com/audience", &"y".repeat(100_000))]).await;
    world.create("app", json!({ "serviceAccounts": lists(&["taken", "audience"]) })).await;
    world.ready("app").await;
    let message = bound(&world, "app", "False", "ServiceAccountConflict").await;
    assert!(message.contains("kubectl annotate serviceaccount taken"), "{message}");
    let told = |role: &IamRole| {
        condition(role, "IdentityBound")
            .is_some_and(|bound| bound.message.contains("audience: yyy") && bound.message.contains("tokens for sts"))
    };
    world.until("app", "the audience is told as well", told).await;
}

#[tokio::test]
async fn of_two_roles_the_younger_is_told_and_follows_when_the_elder_goes() {
    let world = world("rivals").await;
    make_provider(&world).await;
    create_account(&world, "api", &[]).await;
    world.create("elder", json!({ "serviceAccounts": lists(&["api"]) })).await;
    bound(&world, "elder", "True", "Bound").await;
    world.create("younger", json!({ "serviceAccounts": lists(&["api"]) })).await;
    let message = bound(&world, "younger", "False", "ServiceAccountConflict").await;
    assert!(message.contains("IamRole elder"), "{message}");
    world.ready("younger").await;
    let has = async |role| annotations(&world, "api").await.get(ROLE_ARN) == Some(&arn(&world, role));
    assert!(stays(Duration::from_secs(2), || has("elder")).await);
    // The younger goes and leaves the elder's in place; one that comes later waits again.
    world.delete("younger").await;
    world.gone("younger").await;
    assert!(has("elder").await);
    world.create("younger", json!({ "serviceAccounts": lists(&["api"]) })).await;
    bound(&world, "younger", "False", "ServiceAccountConflict").await;
    world.delete("elder").await;
    world.gone("elder").await;
    bound(&world, "younger", "True", "Bound").await;
    assert!(has("younger").await);
}

#[tokio::test]
async fn the_provider_is_looked_for_once_for_the_account_and_its_audience_counts() {
    let mut world = world("provider").await;
    world.operator.stop().await;
    // An issuer of its own, so that no other test makes its provider.
    let issuer = format!("issuer.example/{}", world.namespace);
    world.operator.arguments.push(format!("--oidc-issuer=https://{issuer}"));
    world.operator.start().await;
    world.patch_class(json!({ "workloadIdentity": { "audience": "aud", "stsRegionalEndpoints": true } })).await;
    world.proxy.forget();
    for name in ["a", "b"] {
        create_account(&world, name, &[]).await;
        world.create(name, json!({ "serviceAccounts": lists(&[name]) })).await;
    }
    let provider = format!("arn:aws:iam::123456789012:oidc-provider/{issuer}");
    for name in ["a", "b"] {
        let message = bound(&world, name, "False", "NoOidcProvider").await;
        assert!(message.contains(&provider) && message.contains(&issuer), "{message}");
        world.ready(name).await;
    }
    let asked = world.proxy.actions().iter().filter(|action| *action == "GetOpenIDConnectProvider").count();
    assert_eq!(asked, 1, "once for the account, not per role");
    let has = annotations(&world, "a").await;
    assert_eq!(
        (has["eks.amazonaws.com/audience"].as_str(), has["eks.amazonaws.com/sts-regional-endpoints"].as_str()),
        ("aud", "true")
    );

    // The emulator knows no way to add an audience, so the provider is made anew.
    let make = async |audience: &str| {
        let call = world.iam.create_open_id_connect_provider().url(format!("https://{issuer}"));
        call.client_id_list(audience).thumbprint_list("0".repeat(40)).send().await.unwrap();
    };
    make("sts.amazonaws.com").await;
    let message = asking(&world, "a", "False", "AudienceNotRegistered").await;
    assert!(message.contains("tokens for aud"), "{message}");
    world.iam.delete_open_id_connect_provider().open_id_connect_provider_arn(&provider).send().await.unwrap();
    make("aud").await;
    asking(&world, "a", "True", "Bound").await;
    // What the class does not say any more goes from the ServiceAccount.
    world.patch_class(json!({ "workloadIdentity": { "stsRegionalEndpoints": null } })).await;
    becomes(&world, "a", "less", |has| !has.contains_key("eks.amazonaws.com/sts-regional-endpoints")).await;
}

/// Asks for looks, which are few for the account, until the condition has this reason.
async fn asking(world: &World, role: &str, status: &str, reason: &str) -> String {
    let is = |role: &IamRole| {
        condition(role, "IdentityBound").is_some_and(|bound| bound.reason == reason && bound.status == status)
    };
    let there = eventually(support::SOON, || async {
        world.check_now(role).await;
        is(&world.get(role).await)
    });
    assert!(there.await, "never {reason}: {:#?}\n{}", world.status(role).await.conditions, world.operator.log());
    bound(world, role, status, reason).await
}

#[tokio::test]
async fn without_the_right_to_annotate_the_role_is_served_and_the_condition_says_what_to_do() {
    let mut world = World::without_operator("noright", |class| {
        class.workload_identity = Some(ClassWorkloadIdentity {
            mechanism: Mechanism::IRSA,
            allow_override: None,
            audience: None,
            sts_regional_endpoints: None,
            pod_identity: None,
        });
    })
    .await;
    make_provider(&world).await;
    create_account(&world, "api", &[]).await;
    // Told to annotate, and not allowed to.
    world.operator.arguments.push("--annotate-service-accounts=true".to_owned());
    world.operator.start().await;
    world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    world.ready("app").await;
    let message = bound(&world, "app", "Unknown", "KubernetesError").await;
    assert!(message.contains("RBAC"), "{message}");
    world.delete("app").await;
    world.gone("app").await;

    world.operator.stop().await;
    world.operator.arguments.clear();
    world.operator.start().await;
    world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    world.ready("app").await;
    let message = bound(&world, "app", "Unknown", "BindingNotManaged").await;
    assert!(message.contains(&format!("{ROLE_ARN}: {}", arn(&world, "app"))), "{message}");
    assert!(annotations(&world, "api").await.is_empty());
}

/// A pod as it is after the webhook, or as it is without; nothing runs it here, so it says itself that it does.
async fn run_pod(world: &World, name: &str, account: &str, variable: Option<&str>) {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let env: Vec<Value> = variable.iter().map(|name| json!({ "name": name, "value": "x" })).collect();
    let pod = json!({ "metadata": { "name": name }, "spec": {
        "serviceAccountName": account, "containers": [{ "name": "app", "image": "app", "env": env }] } });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.expect("a pod");
    set_phase(world, name, "Running").await;
}

async fn set_phase(world: &World, name: &str, phase: &str) {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let running = Patch::Merge(json!({ "status": { "phase": phase } }));
    pods.patch_status(name, &PatchParams::default(), &running).await.expect("a phase");
}

#[tokio::test]
async fn pods_that_started_too_early_are_counted_and_named() {
    let world = world_with("pods", &["--check-pods"]).await;
    make_provider(&world).await;
    create_account(&world, "api", &[]).await;
    create_account(&world, "other", &[]).await;
    run_pod(&world, "early", "api", None).await;
    run_pod(&world, "late", "api", Some("AWS_WEB_IDENTITY_TOKEN_FILE")).await;
    run_pod(&world, "stranger", "other", None).await;
    world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    let message = bound(&world, "app", "True", "PodsWithoutCredentials").await;
    assert!(
        message.contains("1 pod was") && message.contains("early") && message.contains("rollout restart"),
        "{message}"
    );
    assert!(!message.contains("late") && !message.contains("stranger"), "{message}");
    world.event("app", "PodsWithoutCredentials", "early").await;
    let count = async || world.status("app").await.workload_identity.and_then(|status| status.pods_without_credentials);
    assert_eq!(count().await, Some(1));
    world.ready("app").await;

    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    pods.delete("early", &DeleteParams::default().grace_period(0)).await.unwrap();
    world.check_now("app").await;
    bound(&world, "app", "True", "Bound").await;
    assert_eq!(count().await, Some(0));
}

#[tokio::test]
async fn however_many_pods_came_too_early_all_are_counted() {
    const PODS: usize = 501;
    let world = world_with("podsmany", &["--check-pods"]).await;
    make_provider(&world).await;
    create_account(&world, "api", &[]).await;
    let pod = |i: usize| {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": format!("p{i}") }, "spec": {
            "serviceAccountName": "api", "containers": [{ "name": "app", "image": "app" }] } })
    };
    let all: Vec<Value> = (0..PODS).map(pod).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": all }).to_string();
    kubectl_ok(&["create", "-n", &world.namespace, "-f", "-"], &list);
    world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    let message = bound(&world, "app", "True", "PodsWithoutCredentials").await;
    assert!(message.contains(&format!("{PODS} pods were")), "{message}");
    kubectl_ok(&["delete", "pods", "--all", "--force", "-n", &world.namespace, "--wait=false"], "");
}

#[tokio::test]
async fn a_pod_that_waits_counts_and_one_that_ended_does_not_whatever_else_is_wrong() {
    let mut world = World::without_operator("podsodd", |class| {
        class.workload_identity = serde_json::from_value(json!({ "mechanism": "IRSA" })).unwrap();
    })
    .await;
    grant(&world);
    let issuer = format!("--oidc-issuer=https://issuer.example/{}", world.namespace);
    world.operator.arguments = vec!["--annotate-service-accounts=true".to_owned(), "--check-pods".to_owned(), issuer];
    create_account(&world, "api", &[]).await;
    create_account(&world, "taken", &[(ROLE_ARN, "arn:aws:iam::123456789012:role/theirs")]).await;
    for (name, account, phase) in [
        ("waits", "api", "Pending"),
        ("ended", "api", "Succeeded"),
        ("failed", "api", "Failed"),
        ("theirs", "taken", "Running"),
    ] {
        run_pod(&world, name, account, None).await;
        set_phase(&world, name, phase).await;
    }
    world.operator.start().await;
    world.create("app", json!({ "serviceAccounts": lists(&["api", "taken", "missing"]) })).await;
    let message = bound(&world, "app", "False", "NoOidcProvider").await;
    assert!(message.contains("1 pod was made too early") && message.contains("credentials: waits;"), "{message}");
    let status = world.status("app").await.workload_identity.expect("a status");
    assert_eq!(status.pods_without_credentials, Some(1));
}

#[tokio::test]
async fn a_pod_that_comes_while_the_role_is_bound_is_seen_a_minute_later() {
    let world = world_with("podslate", &["--check-pods"]).await;
    make_provider(&world).await;
    create_account(&world, "api", &[]).await;
    world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    bound(&world, "app", "True", "Bound").await;
    // What the annotation itself woke is over, and nothing else wakes it.
    world.check_now("app").await;
    run_pod(&world, "early", "api", None).await;
    let seen = eventually(Duration::from_secs(100), || async {
        let role = world.get("app").await;
        condition(&role, "IdentityBound").is_some_and(|bound| bound.reason == "PodsWithoutCredentials")
    });
    assert!(seen.await, "{}", world.operator.log());
}

#[tokio::test]
async fn who_holds_a_service_account_keeps_it_while_they_can_not_be_read() {
    let mut world = world("unread").await;
    make_provider(&world).await;
    create_account(&world, "api", &[]).await;
    world.create("elder", json!({ "serviceAccounts": lists(&["none"]) })).await;
    world.ready("elder").await;
    world.create("holder", json!({ "serviceAccounts": lists(&["api"]) })).await;
    bound(&world, "holder", "True", "Bound").await;
    world.operator.kill().await;
    kubectl_ok(&["delete", "rolebindings", "--all", "-n", &world.namespace], "");
    // Both are new to the operator, and it may read no ServiceAccount.
    world.patch("holder", json!({ "description": "newer" })).await;
    world.patch("elder", json!({ "serviceAccounts": lists(&["api"]) })).await;
    world.operator.start().await;
    bound(&world, "holder", "Unknown", "KubernetesError").await;
    let holds = world.status("holder").await.workload_identity.expect("a status").service_accounts;
    assert!(holds.iter().any(|account| account.name == "api" && account.annotated == Some(true)), "{holds:?}");
    let message = bound(&world, "elder", "False", "ServiceAccountConflict").await;
    assert!(message.contains("IamRole holder"), "{message}");
}

#[tokio::test]
async fn a_cluster_with_a_new_issuer_gets_new_trust_once_and_that_is_no_drift() {
    let mut world = world("moved").await;
    make_provider(&world).await;
    create_account(&world, "api", &[]).await;
    world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    world.create("plain", json!({ "trustPolicy": ec2() })).await;
    let by_hand = json!({ "trustPolicy": { "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "Federated": "arn:aws:iam::$(account):oidc-provider/$(oidcIssuer)" },
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": { "StringEquals": { "$(oidcIssuer):sub": "system:serviceaccount:$(namespace):api" } },
    }] } });
    let tagged = json!({ "trustPolicy": ec2(), "tags": { "issuer": "$(oidcIssuer)" } });
    for (name, spec) in [("hand", by_hand), ("tagged", tagged)] {
        world.create(name, spec).await;
        world.ready(name).await;
    }
    world.ready("plain").await;
    bound(&world, "app", "True", "Bound").await;
    world.operator.stop().await;
    world.operator.arguments.push("--oidc-issuer=https://green.example/id/1".to_owned());
    world.proxy.forget();
    world.operator.start().await;
    let green = eventually(support::SOON, || async {
        let trust = aws::role(&world.iam, &world.templated("app")).await.expect("the role").trust.to_string();
        trust.contains("green.example/id/1:sub") && !trust.contains(ISSUER)
    });
    assert!(green.await, "{}", world.operator.log());
    let message = bound(&world, "app", "False", "NoOidcProvider").await;
    assert!(message.contains("green.example/id/1"), "{message}");
    for (name, what) in [("app", "trust"), ("hand", "trust"), ("tagged", "tag")] {
        world.event(name, "Updated", what).await;
        assert!(!world.events(name).await.iter().any(|(_, reason, _)| reason == "DriftRepaired"), "{name}");
    }
    let mut writes = world.proxy.writes();
    writes.sort();
    assert_eq!(writes, ["TagRole", "UpdateAssumeRolePolicy", "UpdateAssumeRolePolicy"]);
    for name in ["app", "hand", "tagged"] {
        world.check_now(name).await;
    }
    assert_eq!(world.proxy.writes().len(), writes.len(), "once");
    // What somebody else does afterwards is drift; right after an own write it may be the past, and is nobody's.
    let named = eventually(support::SOON, || async {
        let role = world.iam.tag_role().role_name(world.templated("tagged"));
        role.tags(tag("issuer", "x")).send().await.unwrap();
        world.check_now("tagged").await;
        world.events("tagged").await.iter().any(|(_, reason, _)| reason == "DriftRepaired")
    });
    assert!(named.await, "{:#?}", world.events("tagged").await);
    world.check_now("tagged").await;
    let writes = world.writes_to("tagged").await;
    world.operator.stop().await;
    world.operator.start().await;
    world.check_now("hand").await;
    assert!(stays(Duration::from_secs(1), || async { writes.lock().unwrap().is_empty() }).await);
}

fn tag(key: &str, value: &str) -> aws_sdk_iam::types::Tag {
    aws_sdk_iam::types::Tag::builder().key(key).value(value).build().unwrap()
}

#[tokio::test]
async fn a_restart_writes_nothing_to_role_or_service_account() {
    let mut world = world("calm").await;
    make_provider(&world).await;
    create_account(&world, "api", &[]).await;
    world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    bound(&world, "app", "True", "Bound").await;
    let before = accounts(&world).get("api").await.unwrap().resource_version();
    let events = world.events("app").await.len();
    let writes = world.writes_to("app").await;
    world.operator.kill().await;
    world.proxy.forget();
    world.operator.start().await;
    let asked = || async { world.proxy.actions().iter().any(|action| action == "GetOpenIDConnectProvider") };
    assert!(eventually(support::SOON, asked).await, "it was looked at");
    assert!(
        stays(Duration::from_secs(3), || async { writes.lock().unwrap().is_empty() }).await,
        "{}",
        world.operator.log()
    );
    let version = accounts(&world).get("api").await.unwrap().resource_version();
    assert_eq!((version, world.events("app").await.len()), (before, events));
}
