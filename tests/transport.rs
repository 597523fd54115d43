//! The way to AWS: proxies and certificates of the environment count for AWS, and not for the API server.

mod support;

use serde_json::json;
use support::{SOON, World, ec2, env, eventually};

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

#[tokio::test]
async fn what_no_proxy_names_goes_past_the_proxy() {
    let mut world = World::without_operator("direct", |_| {}).await;
    world.operator.environment =
        vec![("HTTP_PROXY".into(), "http://127.0.0.1:1".into()), ("NO_PROXY".into(), "127.0.0.1".into())];
    world.operator.start().await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
}

/// The rig's API server has a certificate of the rig's own authority. It is no AWS, so it gives no useful answer; but it
/// is only heard where its certificate is trusted.
#[tokio::test]
async fn a_private_authority_is_trusted_by_the_bundle() {
    let config = std::fs::read_to_string(env("RIG_OPERATOR_KUBECONFIG")).expect("a kubeconfig");
    let value = |key: &str| {
        let line = config.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_else(|| panic!("{key}"));
        line.trim().trim_matches('"').to_owned()
    };
    let (server, data) = (value("server:"), value("certificate-authority-data:"));
    let authority = format!("{}/authority.pem", env!("CARGO_TARGET_TMPDIR"));
    let decoded = std::process::Command::new("sh")
        .args(["-c", r#"printf %s "$1" | base64 -d > "$2""#, "sh", &data, &authority])
        .status();
    assert!(decoded.expect("base64").success());
    let mut outcomes = Vec::new();
    for bundle in [None, Some(authority)] {
        let mut world = World::without_operator("bundle", |_| {}).await;
        world.operator.environment = vec![("AWS_ENDPOINT_URL".into(), server.clone())];
        world.operator.environment.extend(bundle.map(|path| ("AWS_CA_BUNDLE".to_owned(), path)));
        world.operator.start().await;
        let told = || async { !["", "Unknown", "Pending"].contains(&class_reason(&world).await.0.as_str()) };
        assert!(eventually(3 * SOON, told).await, "{}", world.operator.log());
        outcomes.push(class_reason(&world).await);
    }
    assert_eq!(outcomes[0].0, "Unavailable", "{outcomes:?}");
    assert_ne!(outcomes[0], outcomes[1], "with the bundle the server is heard: {outcomes:?}");
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
