//! The issuer of the cluster's ServiceAccount tokens: whence it is known, and what waits while it is not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
mod workload;

use iamrole_operator::api::IamRole;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use std::time::Duration;
use support::api::{ApiProxy, Trouble};
use support::{World, aws, condition, ec2, eventually, stays};
use workload::{claims, web_identity};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const ALWAYS: usize = usize::MAX;
/// The operator asks again ever more rarely, in half a minute at most.
const ASKED_AGAIN: Duration = Duration::from_mins(1);

/// A world whose class gives ServiceAccounts roles by IRSA, and whose operator, which does not run yet, talks to the API
/// server through a proxy, with a token that is no file.
async fn world(test: &str) -> (World, ApiProxy) {
    let mut world = World::without_operator(test, |class| {
        class.workload_identity = serde_json::from_value(json!({ "mechanism": "IRSA" })).expect("a class");
    })
    .await;
    let api = ApiProxy::start().await;
    world.operator.environment.push(("KUBECONFIG".into(), api.kubeconfig(&world.namespace)));
    (world, api)
}

/// The operator's token is in a file, as it is in a pod.
fn mount_token(world: &World) {
    let (_, kubeconfig) =
        world.operator.environment.iter().find(|(name, _)| name == "KUBECONFIG").expect("a kubeconfig");
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let (before, rest) = text.split_once("token: ").expect("a token");
    let end = rest.find(|c: char| c.is_whitespace() || "\"',}".contains(c)).unwrap_or(rest.len());
    let file = format!("{kubeconfig}.token");
    std::fs::write(&file, &rest[..end]).unwrap();
    std::fs::write(kubeconfig, format!("{before}tokenFile: {file}{}", &rest[end..])).unwrap();
}

fn lists(name: &str) -> Value {
    json!({ "serviceAccounts": [{ "name": name }] })
}

/// The claims of a pod's token.
async fn token(world: &World) -> Value {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let spec = TokenRequestSpec { audiences: Some(vec!["sts.amazonaws.com".into()]), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let answer = accounts.create_token_request("default", &PostParams::default(), &request).await.expect("a token");
    claims(&answer.status.and_then(|status| status.token).expect("a token"))
}

async fn lets_in(world: &World, role: &str, claims: &Value) -> bool {
    let role = aws::role(&world.iam, &world.templated(role)).await.expect("the role in AWS");
    web_identity(&role.trust, "aws", "123456789012", claims)
}

/// Whether the role gets ready though the operator may be in a pause.
async fn ready(world: &World, role: &str) {
    let is_ready = || async { condition(&world.get(role).await, "Ready").is_some_and(|ready| ready.status == "True") };
    let there = eventually(ASKED_AGAIN, is_ready).await;
    assert!(there, "{role}: {:?}\n{}", world.status(role).await, world.operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_own_token_tells_the_issuer_and_the_api_server_is_not_asked() {
    let (mut world, api) = world("owntoken").await;
    mount_token(&world);
    api.trouble("GET", DISCOVERY, ALWAYS, Trouble::Refuse(403));
    world.operator.start().await;
    world.create("app", lists("default")).await;
    world.ready("app").await;
    assert!(lets_in(&world, "app", &token(&world).await).await);
    assert!(!api.asked().iter().any(|asked| asked.path.contains(DISCOVERY)), "there is nothing to ask");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_goes_before_the_token_and_keeps_its_slash_as_aws_compares_it() {
    let (mut world, _api) = world("slash").await;
    mount_token(&world);
    let host = format!("issuer.example/{}/", world.namespace);
    world.operator.arguments.push(format!("--oidc-issuer=https://{host}"));
    world.operator.start().await;
    let written = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "Federated": "arn:$(partition):iam::$(account):oidc-provider/$(oidcIssuer)" },
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": { "StringEquals": { "$(oidcIssuer):aud": "sts.amazonaws.com",
            "$(oidcIssuer):sub": "system:serviceaccount:$(namespace):default" } },
    }] });
    world.create("listed", lists("default")).await;
    world.create("written", json!({ "trustPolicy": written })).await;
    let mut claims = token(&world).await;
    for role in ["listed", "written"] {
        world.ready(role).await;
        assert!(!lets_in(&world, role, &claims).await, "the setting wins over the token");
        claims["iss"] = json!(format!("https://{host}"));
        assert!(lets_in(&world, role, &claims).await, "{role}: tokens of an issuer that ends in a slash");
        claims["iss"] = json!(format!("https://{}", host.trim_end_matches('/')));
        assert!(!lets_in(&world, role, &claims).await, "{role}: of another issuer");
    }
    // The provider of the same name without the slash is another one.
    let make = async |url: String| {
        let call = world.iam.create_open_id_connect_provider().url(url).client_id_list("sts.amazonaws.com");
        call.thumbprint_list("0".repeat(40)).send().await.unwrap();
    };
    make(format!("https://{}", host.trim_end_matches('/'))).await;
    world.check_now("listed").await;
    let role = world.condition("listed", "IdentityBound", "False", Some("NoOidcProvider")).await;
    let message = &condition(&role, "IdentityBound").unwrap().message;
    assert!(
        message.contains(&format!("oidc-provider/{host},")) && message.contains(&format!("https://{host} ")),
        "{message}"
    );
    make(format!("https://{host}")).await;
    let there = eventually(support::SOON, || async {
        world.check_now("listed").await;
        condition(&world.get("listed").await, "IdentityBound").is_some_and(|bound| bound.reason != "NoOidcProvider")
    });
    assert!(there.await, "{:?}", world.status("listed").await.conditions);
}

#[tokio::test]
async fn a_setting_that_only_lacks_the_slash_of_the_own_token_or_has_one_too_many_is_told() {
    let (mut world, _api) = world("oneslash").await;
    mount_token(&world);
    let told = |log: String| log.lines().any(|line| line.contains("WARN") && line.contains("--oidc-issuer"));
    world.operator.arguments = vec!["--oidc-issuer=https://quite.another".to_owned()];
    world.operator.start().await;
    assert!(!told(world.operator.log()), "tokens of pods may have another issuer");
    world.operator.stop().await;
    world.operator.arguments = vec!["--oidc-issuer=https://kubernetes.default.svc/".to_owned()];
    world.operator.start().await;
    assert!(told(world.operator.log()), "{}", world.operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_needs_the_issuer_waits_for_it_and_nobody_else_does() {
    let (mut world, api) = world("unknown").await;
    api.trouble("GET", DISCOVERY, ALWAYS, Trouble::Refuse(403));
    world.operator.start().await;
    world.create("plain", json!({ "trustPolicy": ec2() })).await;
    world.ready("plain").await;
    let trust = |host: &str, claim: &str, value: &str| {
        json!({ "trustPolicyJson": json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Federated": format!("arn:aws:iam::123456789012:oidc-provider/{host}") },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": { format!("{host}:{claim}"): value } },
        }] }).to_string() })
    };
    let subject = "system:serviceaccount:$(namespace):default";
    world.create("listed", lists("default")).await;
    world.create("token", trust("$(oidcIssuer)", "sub", subject)).await;
    world.create("tag", json!({ "trustPolicy": ec2(), "tags": { "issuer": "$(oidcIssuer)" } })).await;
    // It may be this cluster's, whose ServiceAccounts of other namespaces are not let in.
    world.create("guarded", trust("other.example", "aud", "x")).await;
    let all = ["listed", "token", "tag", "guarded"];
    for role in all {
        let message = world.reason(role, "IssuerUnknown").await;
        assert!(message.contains("cluster.oidcIssuer"), "{role}: {message}");
    }
    // They are tried again and again, and told once.
    let writes = world.writes_to("listed").await;
    assert!(stays(Duration::from_secs(3), || async { writes.lock().unwrap().is_empty() }).await);
    // What is wrong by itself is told at once.
    world.create("wrong", json!({ "serviceAccounts": [{ "name": "default" }], "tags": { "x": "$(nope)" } })).await;
    let message = world.reason("wrong", "InvalidSpec").await;
    assert!(message.contains("spec.tags[x]") && !message.contains("cluster.oidcIssuer"), "{message}");
    world.create("open", trust("$(oidcIssuer)", "aud", "x")).await;
    let message = world.reason("open", "NotAllowed").await;
    assert!(message.contains("ServiceAccounts of other namespaces"), "{message}");
    assert_eq!(world.proxy.writes(), ["CreateRole"], "the one that needs no issuer");
    api.heal();
    for role in all {
        ready(&world, role).await;
    }
    let claims = token(&world).await;
    assert!(lets_in(&world, "listed", &claims).await && lets_in(&world, "token", &claims).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_roles_are_left_alone_while_the_issuer_is_not_known() {
    let (mut world, api) = world("quiet").await;
    let pattern = "Federated:arn:aws:iam::*:oidc-provider/$(oidcIssuer)";
    let unlisted = json!({ "inlinePolicies": ["$(oidcIssuer)-*"] });
    world.operator.start().await;
    world.create("listed", lists("default")).await;
    world.create("tag", json!({ "trustPolicy": ec2(), "tags": { "issuer": "$(oidcIssuer)" } })).await;
    for role in ["listed", "tag"] {
        world.ready(role).await;
    }
    // Once by what the roles say, once by what their class says.
    for of_class in [false, true] {
        if of_class {
            let allowed = json!({ "trustPrincipals": [pattern, "*"] });
            world.patch_class(json!({ "allowed": allowed, "unlistedExceptions": unlisted })).await;
            let generation = world.classes().get(&world.namespace).await.unwrap().metadata.generation;
            for role in ["listed", "tag"] {
                let saw = |role: &IamRole| {
                    let class = role.status.as_ref().and_then(|status| status.class.as_ref());
                    class.map(|class| class.observed_generation) == generation
                };
                world.until(role, "the class", saw).await;
            }
        }
        world.operator.kill().await;
        api.trouble("GET", DISCOVERY, ALWAYS, Trouble::Refuse(503));
        world.proxy.forget();
        let (listed, tag) = (world.writes_to("listed").await, world.writes_to("tag").await);
        world.operator.start().await;
        // A role that is new shows that the others were looked at, and that a check was asked for makes no difference.
        world.request_check("tag").await;
        world.create("new", lists("default")).await;
        let waits = if of_class { "ClassNotReady" } else { "IssuerUnknown" };
        world.reason("new", waits).await;
        let quiet = stays(Duration::from_secs(3), || async {
            listed.lock().unwrap().is_empty() && tag.lock().unwrap().len() <= 1 && world.proxy.writes().is_empty()
        });
        assert!(quiet.await, "{listed:?} {tag:?} {:?}\n{}", world.proxy.writes(), world.operator.log());
        for role in ["listed", "tag"] {
            world.ready(role).await;
        }
        if of_class {
            // Who goes needs no issuer.
            world.delete("tag").await;
            world.gone("tag").await;
            assert_eq!(aws::role(&world.iam, &world.templated("tag")).await, None);
            world.proxy.forget();
        }
        api.heal();
        ready(&world, "new").await;
        assert!(world.proxy.writes().iter().all(|action| action == "CreateRole"), "{:?}", world.proxy.writes());
        world.delete("new").await;
        world.gone("new").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_move_strangers_are_told_apart_though_service_accounts_are_not_read_yet() {
    let (mut world, _api) = world("movedhalf").await;
    world.operator.start().await;
    world.create("app", lists("default")).await;
    world.until("app", "a first word", |role| condition(role, "IdentityBound").is_some()).await;
    world.operator.stop().await;
    // It may not read them: for a while that is how every start is.
    world.operator.arguments.push("--annotate-service-accounts=true".to_owned());
    world.operator.arguments.push(format!("--oidc-issuer=https://green.example/{}", world.namespace));
    world.operator.start().await;
    world.event("app", "Updated", "trust").await;
    // What is seen right after an own write may be the past, and is then nobody's.
    let named = eventually(support::SOON, || async {
        let role = world.iam.update_role().role_name(world.templated("app")).description("by hand");
        role.send().await.unwrap();
        world.check_now("app").await;
        world
            .events("app")
            .await
            .iter()
            .any(|(_, reason, note)| reason == "DriftRepaired" && note.contains("description"))
    });
    assert!(named.await, "{:#?}", world.events("app").await);
}
