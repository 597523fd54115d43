//! The way to AWS: proxies and certificates of the environment count for AWS, and not for the API server.

mod support;

use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use support::api::ApiProxy;
use support::operator::Operator;
use support::tunnel::Tunnel;
use support::{SOON, World, aws, ec2, eventually, stays, tls};

/// A name that nobody can look up: only a proxy leads there.
const NOWHERE: &str = "http://iam.aws.invalid";

async fn class_reason(world: &World) -> (String, String) {
    let class = world.classes().get(&world.namespace).await.expect("the class");
    let conditions = class.status.unwrap_or_default().conditions;
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ready.map(|ready| (ready.reason, ready.message)).unwrap_or_default()
}

#[tokio::test]
async fn aws_is_reached_by_the_proxy_and_kubernetes_is_not() {
    let mut world = World::without_operator("proxied", |_| {}).await;
    let proxy = world.proxy.url();
    world.operator.environment = vec![
        ("AWS_ENDPOINT_URL".into(), NOWHERE.into()),
        ("HTTP_PROXY".into(), proxy),
        // The API server speaks https: were this for it, nothing would work.
        ("HTTPS_PROXY".into(), "http://127.0.0.1:1".into()),
        ("NO_PROXY".into(), String::new()),
    ];
    world.operator.start().await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    assert!(world.proxy.count_of("CreateRole") == 1, "{:?}", world.proxy.actions());
}

/// As `helm test` runs it, outside of the cluster too: with a kubeconfig, for which kube takes the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_reaches_aws_by_the_proxy_and_kubernetes_not() {
    let world = World::new("checked").await;
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_iamrole"))
        .args(["check", "--timeout=20s"])
        .env("IAMROLE_CONTROLLER", &world.operator.controller)
        .env("KUBECONFIG", support::env("RIG_OPERATOR_KUBECONFIG"))
        .env("AWS_ENDPOINT_URL", NOWHERE)
        .env("HTTP_PROXY", world.proxy.url())
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env("NO_PROXY", "")
        .output()
        .await
        .expect("the check runs");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(output.status.success() && text.contains(&world.namespace), "{text}");
}

#[tokio::test]
async fn what_no_proxy_names_goes_past_the_proxy() {
    let mut world = World::without_operator("direct", |_| {}).await;
    world.operator.environment =
        vec![("HTTP_PROXY".into(), "http://127.0.0.1:1".into()), ("NO_PROXY".into(), "127.0.0.1".into())];
    world.operator.start().await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
}

/// AWS speaks https, to which a proxy is a tunnel; and whoever has one often has an authority of his own.
#[tokio::test(flavor = "multi_thread")]
async fn https_goes_through_the_tunnel_of_the_proxy_and_past_it_where_no_proxy_says_so() {
    let mut world = World::without_operator("tunnel", |_| {}).await;
    let (aws, tunnel) = (tls::before(world.proxy.address()).await, Tunnel::start().await);
    let environment = |proxy: &str, direct: &str| {
        vec![
            ("AWS_ENDPOINT_URL".to_owned(), aws.clone()),
            ("AWS_CA_BUNDLE".to_owned(), tls::authority()),
            ("HTTPS_PROXY".to_owned(), proxy.to_owned()),
            ("NO_PROXY".to_owned(), direct.to_owned()),
        ]
    };
    world.operator.environment = environment(&tunnel.url, "");
    world.operator.start().await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    let target = aws.trim_start_matches("https://");
    let targets = tunnel.targets();
    assert!(!targets.is_empty() && targets.iter().all(|asked| asked == target), "nothing else: {targets:?}");

    world.operator.stop().await;
    world.operator.environment = environment("http://127.0.0.1:1", "127.0.0.1");
    world.operator.start().await;
    world.create("other", json!({ "trustPolicy": ec2() })).await;
    world.ready("other").await;
    assert_eq!((tunnel.targets(), world.proxy.count_of("CreateRole")), (targets, 2));
}

/// The variables by which a private authority is made known, each of which is enough.
const AUTHORITIES: [&str; 2] = ["AWS_CA_BUNDLE", "SSL_CERT_FILE"];

#[tokio::test(flavor = "multi_thread")]
async fn aws_with_a_certificate_of_a_private_authority_is_reached_by_either_variable_alone() {
    for variable in [None, Some(AUTHORITIES[0]), Some(AUTHORITIES[1])] {
        let mut world = World::without_operator("authority", |_| {}).await;
        let aws = tls::before(world.proxy.address()).await;
        world.operator.environment = vec![("AWS_ENDPOINT_URL".into(), aws)];
        world.operator.without = AUTHORITIES.to_vec();
        world.operator.environment.extend(variable.map(|variable| (variable.to_owned(), tls::authority())));
        world.operator.start().await;
        world.create("app", json!({ "trustPolicy": ec2() })).await;
        if variable.is_some() {
            world.ready("app").await;
            assert_eq!(world.proxy.count_of("CreateRole"), 1, "{variable:?}");
        } else {
            let told = || async { class_reason(&world).await.0 == "Unavailable" };
            assert!(eventually(3 * SOON, told).await, "{:?}\n{}", class_reason(&world).await, world.operator.log());
            assert_eq!(world.proxy.count(), 0, "nothing was asked of who can't be trusted");
        }
    }
}

/// Whether a log tells that the API server can't be asked, and that it is for its certificate.
fn says_why(log: &str) -> bool {
    log.lines().any(|line| line.contains("reading the namespace kube-system") && line.contains("certificate"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trusted_as_aws_is_not_trusted_as_the_api_server() {
    let world = World::without_operator("leak", |_| {}).await;
    let api = ApiProxy::start().await;
    // With the address of another, and still the authority of the API server.
    let server = tls::before(api.address()).await;
    let kubeconfig = ApiProxy::kubeconfig_to(&server, &world.namespace);
    let text = std::fs::read_to_string(&kubeconfig).expect("a kubeconfig");
    let authority = text.lines().find_map(|line| line.trim().strip_prefix("certificate-authority-data: "));
    let mut environment = vec![("KUBECONFIG".to_owned(), kubeconfig.clone())];
    environment.extend(AUTHORITIES.map(|variable| (variable.to_owned(), tls::authority())));
    let mut operator = Operator::replica(&world.namespace, "-leak", &world.proxy.url());
    operator.environment = environment;
    operator.spawn();
    let refuses = || async { says_why(&operator.log()) };
    assert!(eventually(SOON, refuses).await, "{}", operator.log());
    assert!(stays(Duration::from_secs(6), || async { api.asked().is_empty() }).await, "{:?}", api.asked());
    operator.kill().await;

    // Where the kubeconfig names no authority, those of the system count, and the bundle is none of them.
    let line = format!("certificate-authority-data: {}", authority.expect("an authority"));
    std::fs::write(&kubeconfig, text.replace(&line, "")).expect("a kubeconfig");
    operator.environment.retain(|(name, _)| name != "SSL_CERT_FILE");
    operator.without = vec!["SSL_CERT_FILE", "SSL_CERT_DIR"];
    let before = operator.log().len();
    operator.spawn();
    let refuses = || async { says_why(&operator.log()[before..]) };
    assert!(eventually(SOON, refuses).await, "{}", operator.log());
    assert!(stays(Duration::from_secs(6), || async { api.asked().is_empty() }).await, "{:?}", api.asked());
    operator.kill().await;

    // With the right authority it is served, so it was for its certificate that it was not.
    let trusted = text.replace(&line, &format!("certificate-authority: {}", tls::authority()));
    std::fs::write(&kubeconfig, trusted).expect("a kubeconfig");
    operator.start().await;
    assert!(!api.asked().is_empty());
}

#[tokio::test]
async fn a_bundle_that_cannot_be_read_ends_the_start_with_its_name() {
    let mut world = World::without_operator("nobundle", |_| {}).await;
    world.operator.environment = vec![("AWS_CA_BUNDLE".into(), "/nonexistent/bundle.pem".into())];
    world.operator.spawn();
    assert_ne!(world.operator.ended().await, Some(0));
    let log = world.operator.log();
    assert!(log.contains("AWS_CA_BUNDLE") && log.contains("/nonexistent/bundle.pem"), "{log}");
}

/// One bad certificate among good ones: whoever reads the log must find the file, and which one it is.
#[tokio::test]
async fn a_bundle_with_a_bad_certificate_ends_the_start_with_its_place() {
    let mut world = World::without_operator("badbundle", |_| {}).await;
    let path = tls::authority();
    let good = std::fs::read_to_string(&path).expect("a bundle");
    let (_, body) = good.split_once('\n').expect("a certificate");
    let not_base64 = good.replace(&body[..10], "!!!!!!!!!!");
    let no_certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned();
    for bad in [good[..good.len() / 2].to_owned(), not_base64, no_certificate] {
        std::fs::write(&path, format!("{good}{bad}")).expect("a bundle");
        world.operator.environment = vec![("AWS_CA_BUNDLE".into(), path.clone())];
        let before = world.operator.log().len();
        world.operator.spawn();
        assert!(world.operator.ended().await.is_some_and(|code| code != 0), "it ends by itself: {bad}");
        let log = world.operator.log().split_off(before);
        assert!(log.contains(&format!("AWS_CA_BUNDLE: certificate 2 of {path}")) && !log.contains("panicked"), "{log}");
    }
}

/// IAM has one endpoint for all regions, where calls are signed for its own.
#[tokio::test(flavor = "multi_thread")]
async fn no_region_need_be_set_and_another_one_changes_nothing() {
    let regions = ["AWS_REGION", "AWS_DEFAULT_REGION"];
    let mut seen = Vec::new();
    for region in [None, Some("us-east-1"), Some("eu-central-1"), Some("ap-southeast-7")] {
        let mut world = World::without_operator("region", |_| {}).await;
        world.operator.without = regions.to_vec();
        // No file of the user's home may name one, either.
        world.operator.environment = vec![("AWS_CONFIG_FILE".into(), "/nonexistent".into())];
        world.operator.environment.extend(region.map(|region| (regions[0].to_owned(), region.to_owned())));
        world.operator.start().await;
        world.create("app", json!({ "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"] })).await;
        let status = world.ready("app").await.status.expect("a status");
        let role = aws::role(&world.iam, &world.templated("app")).await.expect("the role");
        world.delete("app").await;
        world.gone("app").await;
        let class = world.classes().get(&world.namespace).await.expect("the class").status.expect("a status");
        let mut calls: BTreeMap<(String, String), usize> = BTreeMap::new();
        for call in world.proxy.all().into_iter().filter(|call| call.action != "GetCallerIdentity") {
            *calls.entry((call.action, call.signed_for)).or_default() += 1;
        }
        let arn = status.role.and_then(|role| role.arn).map(|arn| arn.replace(&world.namespace, "NAMESPACE"));
        seen.push((calls, arn, status.account_id, class.partition, role.attached, role.trust));
    }
    for other in &seen[1..] {
        assert_eq!(*other, seen[0]);
    }
    assert!(seen[0].0.keys().all(|(_, signed_for)| signed_for == "us-east-1/iam"), "{:?}", seen[0].0);
}
