//! Classes that lead to other accounts by a role that is assumed: each in its own session, and a broken one alone.

mod support;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use iamrole_operator::api::IamRoleClassSpec;
use iamrole_operator::api::iamroleclass::{Account, Allowed, AssumeRole, DriftCheck, DriftMethod};
use iamrole_operator::api::schema::Selector;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::proxy::Fault;
use support::{SOON, World, allow, aws, each_by_itself, ec2, eventually, stays};

const OTHER: &str = "210987654321";
const SECRET: &str = "external-id-that-nobody-logs";

fn account(role: &str) -> Account {
    let role_arn = format!("arn:aws:iam::{OTHER}:role/{role}");
    let assume_role = AssumeRole { role_arn, external_id: Some(SECRET.into()), session_duration_seconds: Some(900) };
    Account { id: Some(OTHER.into()), assume_role: Some(assume_role) }
}

/// A client for the other account.
async fn in_the_other(role: &str) -> aws_sdk_iam::Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest()).http_client(http).load().await;
    let sts = aws_sdk_sts::Client::new(&config);
    let arn = format!("arn:aws:iam::{OTHER}:role/{role}");
    let session = sts.assume_role().role_arn(arn).role_session_name("test").send().await.expect("a session");
    let keys = session.credentials.expect("credentials");
    let token = Some(keys.session_token);
    let keys = Credentials::new(keys.access_key_id, keys.secret_access_key, token, None, "test");
    let keys = SharedCredentialsProvider::new(keys);
    aws_sdk_iam::Client::new(&config.into_builder().credentials_provider(keys).build())
}

async fn class(world: &World, name: &str, account: Account) {
    create_class(world, name, account, None).await;
}

async fn create_class(world: &World, name: &str, account: Account, drift_check: Option<DriftCheck>) {
    let labels = BTreeMap::from([("test".to_owned(), world.namespace.clone())]);
    let spec = IamRoleClassSpec {
        namespace_selector: Selector { match_labels: labels, ..Selector::default() },
        unbounded: Some(true),
        allowed: Some(Allowed::everything()),
        account: Some(account),
        drift_check,
        controller: Some(world.operator.controller.clone()),
        ..IamRoleClassSpec::default()
    };
    world.create_class(name, spec, false).await;
}

#[tokio::test]
async fn roles_live_in_the_account_of_their_class_and_sessions_tell_cluster_and_class() {
    let world = World::new("accounts").await;
    let other = format!("{}-other", world.namespace);
    class(&world, &other, account("operator")).await;
    let spec = |class: Option<&str>| {
        let mut spec = json!({
            "trustPolicy": ec2(), "inlinePolicies": [{ "name": "p", "document": allow("s3:GetObject") }],
            "customerManagedPolicies": [{ "name": "own", "document": allow("sqs:*") }],
        });
        if let Some(class) = class {
            spec["roleClassName"] = json!(class);
        }
        spec
    };
    world.create("here", spec(None)).await;
    world.create("there", spec(Some(&other))).await;
    world.ready("here").await;
    let object = world.ready("there").await;
    let status = object.status.expect("a status");
    assert_eq!(status.account_id.as_deref(), Some(OTHER));
    let name = world.templated("there");
    assert_eq!(status.role.expect("a role").arn, Some(format!("arn:aws:iam::{OTHER}:role/{name}")));
    let iam = in_the_other("operator").await;
    let role = aws::role(&iam, &name).await.expect("the role, in the other account");
    assert_eq!(role.attached, [format!("arn:aws:iam::{OTHER}:policy/{name}.own")].into());
    assert_eq!(aws::role(&world.iam, &name).await, None, "and not in the own one");

    let assumed: Vec<_> = world.proxy.calls().into_iter().filter(|call| call.action == "AssumeRole").collect();
    assert_eq!(assumed.len(), 1, "one session for all calls");
    let said = |key: &str| assumed[0].parameters.get(key).map(String::as_str);
    assert_eq!(said("RoleSessionName"), Some(format!("iamrole-rig-{other}").as_str()));
    assert_eq!((said("ExternalId"), said("DurationSeconds")), (Some(SECRET), Some("900")));
    assert!(!world.operator.log().contains(SECRET), "not even at debug");

    for object in ["here", "there"] {
        world.delete(object).await;
        world.gone(object).await;
    }
    assert_eq!(aws::role(&iam, &name).await, None);
}

#[tokio::test]
async fn a_role_that_was_begun_in_another_account_is_looked_for_there_before_its_object_moves() {
    let mut world = World::new("accounts").await;
    world.patience = 3 * SOON;
    let other = format!("{}-other", world.namespace);
    class(&world, &other, account("operator")).await;
    let policies = json!([{ "name": "p", "document": allow("s3:GetObject") }]);
    world.proxy.fault("CreateRole", "never", usize::MAX, Fault::DropBefore);
    world.proxy.fault("PutRolePolicy", "made", 1, Fault::Delay(Duration::from_mins(5)));
    for name in ["made", "never"] {
        world.create(name, json!({ "trustPolicy": ec2(), "inlinePolicies": policies, "roleClassName": other })).await;
        world.until(name, "asked for", |role| role.status.as_ref().is_some_and(|status| status.role.is_some())).await;
    }
    assert!(eventually(SOON, || async { world.proxy.happened("PutRolePolicy") }).await, "{}", world.operator.log());
    world.operator.kill().await;
    for name in ["made", "never"] {
        world.patch(name, json!({ "roleClassName": world.namespace })).await;
    }
    world.proxy.heal();
    world.operator.start().await;

    let message = world.reason("made", "ClassAccountMismatch").await;
    assert!(message.contains(OTHER), "{message}");
    let (name, iam) = (world.templated("made"), in_the_other("operator").await);
    let arn = format!("arn:aws:iam::{OTHER}:role/{name}");
    assert_eq!(world.status("made").await.role.and_then(|role| role.arn), Some(arn));
    assert_eq!(aws::role(&world.iam, &name).await, None);
    let message = world.reason("never", "Reconciling").await;
    assert!(message.contains("was asked for and is not there (yet)"), "{message}");
    assert!(
        eventually(Duration::from_mins(2), || async {
            world.status("never").await.account_id.as_deref() != Some(OTHER)
        })
        .await
    );
    world.ready("never").await;
    assert!(aws::role(&world.iam, &world.templated("never")).await.is_some());

    world.patch("made", json!({ "roleClassName": other })).await;
    world.ready("made").await;
    for object in ["made", "never"] {
        world.delete(object).await;
        world.gone(object).await;
    }
    assert_eq!(aws::role(&iam, &name).await, None);
}

#[tokio::test]
async fn a_broken_account_shows_on_its_class_alone_and_heals() {
    let world = World::new("accounts").await;
    let broken = format!("{}-broken", world.namespace);
    let denied = "User: arn:aws:sts::123456789012:assumed-role/operator/x is not authorized to perform: sts:AssumeRole";
    world.proxy.refuse("AssumeRole", "", 403, "AccessDenied", denied);
    class(&world, &broken, account("closed")).await;
    world.create("there", json!({ "trustPolicy": ec2(), "roleClassName": broken })).await;
    world.create("here", json!({ "trustPolicy": ec2() })).await;
    world.ready("here").await;
    let message = world.reason("there", "ClassNotReady").await;
    // The session is another one after each renewal.
    let denied = denied.replace("operator/x", "operator");
    for part in [denied.as_str(), "role/closed", "trust the operator's own identity"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains(SECRET));
    let class = world.classes().get(&broken).await.expect("the class");
    let ready = class.status.expect("a status").conditions.into_iter().find(|condition| condition.type_ == "Ready");
    assert_eq!(ready.expect("Ready").reason, "NoCredentials");
    world.proxy.heal();
    world.ready("there").await;
}

#[test]
fn a_role_of_another_account_than_the_class_says_is_refused_at_apply() {
    let class = json!({
        "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRoleClass", "metadata": { "name": "wrong" },
        "spec": {
            "namespaceSelector": {}, "unbounded": true,
            "account": { "id": "111122223333", "assumeRole": { "roleArn": format!("arn:aws:iam::{OTHER}:role/x") } },
        },
    });
    let output = support::kubectl::kubectl(&["create", "--dry-run=server", "-f", "-"], &class.to_string());
    assert!(!output.ok && output.stderr.contains("another account than account.id"), "{}", output.stderr);
}

#[tokio::test]
async fn sts_that_does_not_answer_is_no_lack_of_leave() {
    let world = World::new("accounts").await;
    let busy = format!("{}-busy", world.namespace);
    for (status, code, reason) in [(503, "ServiceUnavailable", "Unavailable"), (400, "Throttling", "Busy")] {
        world.proxy.refuse("AssumeRole", "", status, code, "come back later");
        let name = format!("{busy}-{status}");
        class(&world, &name, account("operator")).await;
        let ready = || async {
            let class = world.classes().get(&name).await.expect("the class");
            let conditions = class.status.map(|status| status.conditions).unwrap_or_default();
            conditions.into_iter().find(|condition| condition.type_ == "Ready")
        };
        let said = eventually(SOON, || async { ready().await.is_some_and(|ready| ready.reason == reason) });
        assert!(said.await, "{code}: {:?}\n{}", ready().await, world.operator.log());
        let message = ready().await.expect("Ready").message;
        assert!(!message.contains("trust the operator"), "{message}");
        world.proxy.heal();
        let healed = eventually(SOON, || async { ready().await.is_some_and(|ready| ready.status == "True") });
        assert!(healed.await, "{code}: {:?}", ready().await);
    }
}

#[tokio::test]
async fn a_session_that_aws_does_not_know_any_more_is_asked_for_anew() {
    let world = World::new("accounts").await;
    let other = format!("{}-other", world.namespace);
    class(&world, &other, account("operator")).await;
    world.create("there", json!({ "trustPolicy": ec2(), "roleClassName": other })).await;
    world.ready("there").await;
    let sessions = || world.proxy.all().iter().filter(|call| call.action == "AssumeRole").count();
    assert_eq!(sessions(), 1);
    // As after the role was deleted and made anew: the old keys are nobody's.
    let gone = "The security token included in the request is invalid";
    for call in ["GetRole", "GetCallerIdentity"] {
        world.proxy.fault(call, "", 1, Fault::Refuse(403, "InvalidClientTokenId", gone.into()));
    }
    world.request_check("there").await;
    assert!(eventually(SOON, || async { sessions() >= 2 }).await, "{}", world.operator.log());
    world.ready("there").await;
}

/// A trust policy that only fits where the account's quota was raised.
fn long_trust() -> Value {
    let accounts: Vec<String> = (0..200).map(|i| format!("{:012}", 111_122_223_333_u64 + i)).collect();
    let mut trust = ec2();
    trust["Statement"][0]["Condition"] = json!({ "StringEquals": { "aws:SourceAccount": accounts } });
    trust
}

#[tokio::test]
async fn an_account_that_does_not_tell_its_quotas_keeps_them_and_only_one_that_is_down_shows_on_its_class() {
    let mut world = World::without_operator("accounts", |class| class.drift_check = each_by_itself(5)).await;
    let raised = || Fault::Rewrite("<value>2048</value>".into(), "<value>4096</value>".into());
    world.proxy.fault("GetAccountSummary", "", usize::MAX, raised());
    world.operator.start().await;
    world.create("app", json!({ "trustPolicy": long_trust() })).await;
    world.ready("app").await;

    let class = world.namespace.clone();
    let reason = || async {
        let conditions = world.classes().get(&class).await.expect("the class").status.unwrap_or_default().conditions;
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        ready.map(|ready| ready.reason).unwrap_or_default()
    };
    let asked = || world.proxy.all().iter().filter(|call| call.action == "GetAccountSummary").count();
    for (i, (status, code, said)) in
        [(400, "Throttling", "Applied"), (503, "ServiceUnavailable", "Unavailable")].into_iter().enumerate()
    {
        world.proxy.heal();
        world.proxy.refuse("GetAccountSummary", "", status, code, "come back later");
        let before = asked();
        let ask = json!({ "metadata": { "annotations": { "iamrole.dev/reconcile-requested-at": i.to_string() } } });
        world.classes().patch(&class, &PatchParams::default(), &Patch::Merge(ask)).await.expect("an annotation");
        let refused = eventually(SOON, || async { asked() >= before + 3 });
        assert!(refused.await, "{code}: {:?}", world.proxy.all());
        assert!(eventually(SOON, || async { reason().await == said }).await, "{code}: {}", reason().await);
        world.check_now("app").await;
        world.ready("app").await;
        let stays = stays(Duration::from_secs(3), || async { reason().await == said });
        assert!(stays.await, "{code}: {}\n{}", reason().await, world.operator.log());
    }
    world.proxy.heal();
    world.proxy.fault("GetAccountSummary", "", usize::MAX, raised());
    assert!(eventually(SOON, || async { reason().await == "Applied" }).await, "{}", world.operator.log());
    world.check_now("app").await;
    world.ready("app").await;
    let events = world.events("app").await;
    assert!(events.iter().all(|(kind, reason, _)| kind != "Warning" || reason == "PolicyWarning"), "{events:?}");
}

#[tokio::test]
async fn deletions_go_on_where_an_account_does_not_tell_its_quotas_since_the_start() {
    let mut world = World::new("accounts").await;
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    world.operator.stop().await;
    world.proxy.refuse("GetAccountSummary", "", 503, "ServiceUnavailable", "come back later");
    world.operator.start().await;
    let down = || async {
        let class = world.classes().get(&world.namespace).await.expect("the class");
        let conditions = class.status.map(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.reason == "Unavailable")
    };
    assert!(eventually(SOON, down).await, "{}", world.operator.log());
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &world.templated("app")).await, None);
}

/// How often the account of these is walked: long enough to tell what is done at once from what is done the next time.
const WALKED: Duration = Duration::from_secs(20);

/// Two identities of one account, of which the first one can't walk it: `code` is what it is told.
async fn a_walk_by_another_identity(code: &'static str) -> (World, [String; 2]) {
    let world = World::without_operator("accounts", |class| class.drift_check = each_by_itself(900)).await;
    let classes = ["a", "b"].map(|name| format!("{}-{name}", world.namespace));
    let seconds = i32::try_from(WALKED.as_secs()).expect("a number");
    for (name, role) in classes.iter().zip(["first", "second"]) {
        let drift_check = Some(DriftCheck { interval_seconds: Some(seconds), method: Some(DriftMethod::Account) });
        create_class(&world, name, account(role), drift_check).await;
    }
    world.proxy.fault("ListRoles", "", 1, Fault::Refuse(403, code, "not by this one".into()));
    (world, classes)
}

/// The walks so far: when each call began, and by which key.
fn walks(world: &World) -> Vec<(Instant, String)> {
    let calls = world.proxy.calls().into_iter().filter(|call| call.action == "ListRoles" && !call.repeated);
    calls.map(|call| (call.at, call.key)).collect()
}

#[tokio::test]
async fn whoever_may_not_walk_an_account_leaves_it_to_another_class_and_is_not_asked_each_time() {
    let (mut world, _) = a_walk_by_another_identity("AccessDenied").await;
    world.operator.start().await;
    assert!(eventually(6 * WALKED, || async { walks(&world).len() >= 3 }).await, "{}", world.operator.log());
    let walks = walks(&world);
    assert!(walks[1].0 - walks[0].0 < WALKED / 2, "at once: {walks:?}");
    assert!(walks[1..].iter().all(|(_, key)| *key == walks[1].1 && *key != walks[0].1), "{walks:?}");
}

#[tokio::test]
async fn a_session_that_ended_breaks_no_walk_by_another_class_and_shows_on_its_own() {
    let (mut world, classes) = a_walk_by_another_identity("InvalidClientTokenId").await;
    // The walk does not end before the session has.
    let walk = world.proxy.hold("ListRoles", "");
    world.operator.start().await;
    let ready = async |class: &str| {
        let conditions = world.classes().get(class).await.expect("the class").status.unwrap_or_default().conditions;
        conditions.into_iter().find(|condition| condition.type_ == "Ready").map(|ready| ready.reason)
    };
    for class in &classes {
        let is_ready = || async { ready(class).await.as_deref() == Some("Applied") };
        assert!(eventually(SOON, is_ready).await, "{class}: {:?}", ready(class).await);
    }
    assert!(eventually(2 * WALKED, || async { !walks(&world).is_empty() }).await, "{}", world.operator.log());
    // From here on it gets no session, and what it has is refused.
    world.proxy.refuse("AssumeRole", "role/first", 403, "AccessDenied", "it trusts nobody");
    world.proxy.fault("GetCallerIdentity", "", 1, Fault::Refuse(403, "InvalidClientTokenId", "ended".into()));
    walk.release();
    assert!(eventually(6 * WALKED, || async { walks(&world).len() >= 2 }).await, "{}", world.operator.log());
    let walks = walks(&world);
    assert!(walks[1].0 - walks[0].0 < WALKED / 2 && walks[1].1 != walks[0].1, "at once: {walks:?}");
    let told = || async { ready(&classes[0]).await.as_deref() == Some("NoCredentials") };
    assert!(eventually(2 * SOON, told).await, "{:?}\n{}", ready(&classes[0]).await, world.operator.log());
}
