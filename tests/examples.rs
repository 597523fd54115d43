//! Each manifest of `examples/` is applied as it is (but for names that two tests would share) and does in
//! AWS what its comments say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use support::aws::Role;
use support::kubectl::{kubectl, kubectl_ok};
use support::{World, aws, condition, eventually, yaml_documents};

const ACCOUNT: &str = "123456789012";
const ALL: [&str; 8] = [
    "boundary-and-tags",
    "ci-oidc",
    "cross-account-user",
    "customer-managed-policies",
    "ec2-service-role",
    "lambda-role",
    "observe-only",
    "service-accounts",
];

/// The one object of an example.
fn example(name: &str) -> Value {
    let mut documents = yaml_documents(&format!("examples/{name}.yaml"));
    assert_eq!(documents.len(), 1, "{name}: one object per file");
    let object = documents.remove(0);
    assert_eq!(object["apiVersion"], "iamrole.dev/v1alpha1", "{name}");
    assert_eq!(object["kind"], "IamRole", "{name}");
    assert_eq!(object["metadata"], json!({ "name": name }), "a name as the file's, and no namespace");
    object
}

/// Applies the example and waits until it is Ready; returns the role as AWS has it.
async fn applied(world: &World, name: &str, change: impl FnOnce(&mut Value)) -> Role {
    let mut spec = example(name)["spec"].clone();
    change(&mut spec);
    world.create(name, spec).await;
    let object = world.ready(name).await;
    let role = object.status.and_then(|status| status.role).expect("a role in status");
    aws::role(&world.iam, &role.name).await.expect("the role in AWS")
}

fn managed(name: &str) -> BTreeSet<String> {
    BTreeSet::from([format!("arn:aws:iam::aws:policy/{name}")])
}

fn statement(document: &Value) -> &Value {
    &document["Statement"][0]
}

#[test]
fn every_example_is_tested_and_explains_itself() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).expect("examples/");
    let files: BTreeSet<String> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, ALL.iter().map(|name| format!("{name}.yaml")).collect());
    for name in ALL {
        let object = example(name);
        let text = std::fs::read_to_string(format!("{}/examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(text.starts_with("# "), "{name} begins with what it is for");
        assert!(object["metadata"].get("namespace").is_none(), "{name} goes where kubectl -n says");
    }
}

#[tokio::test]
async fn ec2_service_role() {
    let world = World::new("example").await;
    let (name, policy) = (format!("app-role-{}", world.namespace), format!("app-role_policy-{}", world.namespace));
    let role = applied(&world, "ec2-service-role", |spec| {
        assert_eq!((&spec["roleName"], &spec["description"]), (&json!("app-role"), &json!("This is a test role")));
        spec["roleName"] = json!(name);
        assert_eq!(spec["customerManagedPolicies"][0]["policyName"], "app-role_policy");
        spec["customerManagedPolicies"][0]["policyName"] = json!(policy);
    })
    .await;
    assert_eq!(role.arn, format!("arn:aws:iam::{ACCOUNT}:role/{name}"));
    assert_eq!(role.description, "This is a test role");
    assert_eq!(role.tags, [("Owner".to_owned(), "msb".to_owned())].into());
    assert_eq!(role.trust, support::ec2());
    let arn = format!("arn:aws:iam::{ACCOUNT}:policy/{policy}");
    assert_eq!(role.attached, BTreeSet::from([arn.clone()]));
    assert_eq!(aws::policy(&world.iam, &arn).await.expect("the policy").document, support::allow("ec2:*"));
}

#[tokio::test]
async fn lambda_role() {
    let world = World::new("example").await;
    let role = applied(&world, "lambda-role", |_| {}).await;
    assert_eq!(statement(&role.trust)["Principal"], json!({ "Service": "lambda.amazonaws.com" }));
    assert_eq!(role.attached, managed("service-role/AWSLambdaBasicExecutionRole"));
    let inline = &role.inline["thumbnails"];
    assert_eq!(statement(inline)["Resource"], format!("arn:aws:s3:::uploads-{ACCOUNT}/*"));
    assert_eq!(inline["Statement"][1]["Action"], "s3:PutObject");
}

#[tokio::test]
async fn service_accounts() {
    let world = World::with_class("example", |class| {
        class.workload_identity = serde_json::from_value(json!({ "mechanism": "IRSA" })).expect("what the chart has");
    })
    .await;
    let role = applied(&world, "service-accounts", |_| {}).await;
    let condition = &statement(&role.trust)["Condition"]["StringEquals"];
    let subject = |name| format!("system:serviceaccount:{}:{name}", world.namespace);
    assert_eq!(condition["kubernetes.default.svc:sub"], json!([subject("orders"), subject("orders-worker")]));
    assert_eq!(condition["kubernetes.default.svc:aud"], "sts.amazonaws.com");
}

#[tokio::test]
async fn cross_account_user() {
    let world = World::new("example").await;
    let role = applied(&world, "cross-account-user", |_| {}).await;
    assert_eq!(role.max_session, 7200);
    assert_eq!(statement(&role.trust)["Principal"], json!({ "AWS": "arn:aws:iam::210987654321:user/alice" }));
    let condition = json!({ "StringEquals": { "sts:ExternalId": "audit-2f6c1d" } });
    assert_eq!(statement(&role.trust)["Condition"], condition);
    assert_eq!(role.attached, managed("SecurityAudit"));
    let events = world.events("cross-account-user").await;
    assert!(!events.iter().any(|(.., note)| note.contains("audit-2f6c1d")), "no external id in events: {events:?}");
    assert!(!world.operator.log().contains("audit-2f6c1d"), "no external id in the log");
}

#[tokio::test]
async fn customer_managed_policies() {
    let world = World::new("example").await;
    let role = applied(&world, "customer-managed-policies", |_| {}).await;
    assert_eq!(role.path, "/batch/");
    let arn = |entry: &str| {
        let name = format!("{}.{entry}", world.templated("customer-managed-policies"));
        format!("arn:aws:iam::{ACCOUNT}:policy/batch/{name}")
    };
    assert_eq!(role.attached, BTreeSet::from([arn("queue"), arn("results")]));
    let queue = aws::policy(&world.iam, &arn("queue")).await.expect("a policy");
    assert_eq!(statement(&queue.document)["Resource"], format!("arn:aws:sqs:*:{ACCOUNT}:jobs"));
    assert_eq!(queue.tags["iamrole.dev/namespace"], world.namespace);
    let results = aws::policy(&world.iam, &arn("results")).await.expect("a policy");
    let bucket = format!("arn:aws:s3:::results-{ACCOUNT}/{}/*", world.namespace);
    assert_eq!(statement(&results.document)["Resource"], bucket);
}

#[tokio::test]
async fn boundary_and_tags() {
    let world = World::new("example").await;
    seed_boundary(&world).await;
    let role = applied(&world, "boundary-and-tags", |_| {}).await;
    assert_eq!(role.boundary, Some(format!("arn:aws:iam::{ACCOUNT}:policy/developer-boundary")));
    assert_eq!(role.tags["cost-center"], "4711");
    assert_eq!(role.tags["kubernetes"], format!("{}/{}", world.operator.cluster, world.namespace));
    assert_eq!(statement(&role.trust)["Condition"], json!({ "StringEquals": { "aws:SourceAccount": ACCOUNT } }));
    assert_eq!(role.attached, managed("PowerUserAccess"));
}

#[tokio::test]
async fn observe_only() {
    let world = World::new("example").await;
    let name = format!("legacy-app-{}", world.namespace);
    aws::foreign_role(&world.iam, &name).await;
    let mut spec = example("observe-only")["spec"].clone();
    assert_eq!(spec["roleName"], "legacy-app");
    spec["roleName"] = json!(name);
    world.create("observe-only", spec).await;
    let message = world.reason("observe-only", "ChangesPending").await;
    assert!(message.contains("status.plan") && message.contains("mode: Enforce"), "{message}");
    let plan = world.status("observe-only").await.plan;
    assert!(plan.iter().any(|step| step.action == "PutRolePolicy"), "{plan:#?}");
    assert!(plan.iter().all(|step| !step.detail.is_empty()), "{plan:#?}");
    assert_eq!(world.proxy.writes(), Vec::<String>::new());

    // What the comment promises: without mode the role is taken over, and stays when the object goes.
    world.patch("observe-only", json!({ "mode": null })).await;
    // The owner tags settle for half a minute before the rest is done.
    let done = || async { condition(&world.get("observe-only").await, "Ready").is_some_and(|it| it.status == "True") };
    assert!(eventually(Duration::from_mins(1), done).await, "{}", world.operator.log());
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.attached, managed("AmazonS3ReadOnlyAccess"));
    assert!(role.inline.contains_key("queue"));
    assert_eq!(role.owner_tags["iamrole.dev/origin"], "Adopted");
    world.delete("observe-only").await;
    world.gone("observe-only").await;
    assert!(aws::role(&world.iam, &name).await.is_some(), "a role taken over stays");
}

#[tokio::test]
async fn ci_oidc() {
    let world = World::new("example").await;
    seed_provider(&world).await;
    let role = applied(&world, "ci-oidc", |_| {}).await;
    let provider = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com");
    let statement = statement(&role.trust);
    assert_eq!(statement["Principal"], json!({ "Federated": provider }));
    assert_eq!(statement["Action"], "sts:AssumeRoleWithWebIdentity");
    let condition = json!({ "StringEquals": {
        "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
        "token.actions.githubusercontent.com:sub": "repo:example-org/shop:ref:refs/heads/main",
    } });
    assert_eq!(statement["Condition"], condition);
    assert_eq!(role.inline.keys().collect::<Vec<_>>(), ["deploy"]);
}

/// What nobody may find after `kubectl apply`, the operator's work and an edit of the manifest: a difference to it. Then
/// Argo CD and Flux have nothing to undo either.
async fn apply_leaves_no_difference(how: &[&str]) {
    let world = World::with_class("diff", |class| {
        class.workload_identity = serde_json::from_value(json!({ "mechanism": "IRSA" })).expect("what the chart has");
    })
    .await;
    seed_boundary(&world).await;
    seed_provider(&world).await;
    aws::foreign_role(&world.iam, &format!("legacy-app-{}", world.namespace)).await;
    for name in ALL {
        let mut object = example(name);
        for pointer in ["/spec/roleName", "/spec/customerManagedPolicies/0/policyName"] {
            if let Some(own) = object.pointer_mut(pointer) {
                *own = json!(format!("{}-{}", own.as_str().expect("a name"), world.namespace));
            }
        }
        applied_without_difference(&world, name, &object, how).await;
        let as_it_was = object.clone();
        object["spec"]["description"] = json!("An edit");
        object["spec"]["tags"] = json!({ "edited": "yes" });
        object["spec"]["inlinePolicies"] = json!([{ "name": "edited", "document": support::allow("s3:GetObject") }]);
        applied_without_difference(&world, name, &object, how).await;
        applied_without_difference(&world, name, &as_it_was, how).await;
        let live = kubectl_ok(&["get", "iamrole", name, "-n", &world.namespace, "-o", "json"], "");
        let live: Value = serde_json::from_str(&live).unwrap();
        assert_eq!(live["spec"], as_it_was["spec"], "{name}: nothing is added, and nothing is left of an edit");
    }
}

async fn applied_without_difference(world: &World, name: &str, object: &Value, how: &[&str]) {
    let manifest = object.to_string();
    let with = |verb: &'static str| [&[verb, "-n", &world.namespace, "-f", "-"], how].concat();
    kubectl_ok(&with("apply"), &manifest);
    world
        .until(name, "an end", |role| {
            let ready = condition(role, "Ready");
            ready.is_some_and(|ready| ready.observed_generation == role.metadata.generation)
                && condition(role, "Reconciling").is_none()
        })
        .await;
    let diff = kubectl(&with("diff"), &manifest);
    assert!(diff.ok && diff.stdout.is_empty(), "{name} {how:?}: {}{}", diff.stdout, diff.stderr);
}

#[tokio::test]
async fn after_apply_the_operator_and_an_edit_there_is_no_difference() {
    apply_leaves_no_difference(&[]).await;
}

#[tokio::test]
async fn nor_is_there_one_after_server_side_apply() {
    apply_leaves_no_difference(&["--server-side", "--field-manager=gitops"]).await;
}

async fn seed_boundary(world: &World) {
    let document = support::allow("*").to_string();
    let made = world.iam.create_policy().policy_name("developer-boundary").policy_document(document).send().await;
    if let Err(error) = made {
        assert!(error.into_service_error().is_entity_already_exists_exception());
    }
}

async fn seed_provider(world: &World) {
    let made = world
        .iam
        .create_open_id_connect_provider()
        .url("https://token.actions.githubusercontent.com")
        .client_id_list("sts.amazonaws.com")
        .thumbprint_list("6938fd4d98bab03faadb97b34396831e3780aea1")
        .send()
        .await;
    if let Err(error) = made {
        assert!(error.into_service_error().is_entity_already_exists_exception());
    }
}
