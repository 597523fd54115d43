//! Documents on the way to AWS and back: sent once as they are meant, compared by meaning, and never written
//! for ever, whatever AWS answers.

mod support;

use iamrole_operator::api::iamroleclass::{DriftCheck, DriftMethod};
use serde_json::{Value, json};
use support::proxy::Fault;
use support::{SOON, World, allow, aws, condition, ec2, eventually, trust};

/// A role with a document of each sort.
fn spec() -> Value {
    json!({
        "trustPolicy": trust(&json!({ "AWS": ["111122223333", "arn:aws:iam::210987654321:root"] })),
        "inlinePolicies": [{ "name": "inline", "document": {
            "Version": "2012-10-17",
            "Statement": [
                { "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "*" },
                { "Effect": "Deny", "Action": "s3:DeleteObject", "Resource": ["arn:aws:s3:::a", "arn:aws:s3:::b"],
                  "Condition": { "Bool": { "aws:SecureTransport": "false" } } },
            ],
        } }],
        "customerManagedPolicies": [{ "name": "own", "document": allow("ec2:*") }],
    })
}

/// The same in other words.
fn reworded() -> Value {
    json!({
        "trustPolicy": { "Version": "2012-10-17", "Statement": [{
            "Sid": "", "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:AssumeRole"],
            "Principal": { "AWS": ["210987654321", "arn:aws:iam::111122223333:root"] },
        }] },
        "inlinePolicies": [{ "name": "inline", "documentJson": r#"{
            "Statement": [
                {"Condition": {"Bool": {"AWS:securetransport": false}}, "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::a"],
                 "Action": ["S3:deleteobject"], "Effect": "Deny"},
                {"Effect": "Allow", "Resource": ["*"], "Action": ["s3:PutObject", "s3:GetObject", "s3:PutObject"]}
            ],
            "Version": "2012-10-17"
        }"#, "document": null }],
        "customerManagedPolicies": [{ "name": "own", "document": {
            "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": ["ec2:*"], "Resource": ["*"] }],
        } }],
    })
}

#[tokio::test]
async fn the_same_in_other_words_is_not_written() {
    let world = World::new("documents").await;
    world.create("app", spec()).await;
    world.ready("app").await;
    world.proxy.forget();
    let generation = world.get("app").await.metadata.generation;
    world.patch("app", reworded()).await;
    let object = world.ready("app").await;
    assert!(object.metadata.generation > generation, "the API server sees another spec");
    assert!(world.proxy.actions().contains(&"GetRole".to_owned()), "AWS was looked at");
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn every_character_that_iam_takes_arrives_as_meant_and_is_written_once() {
    let world = World::new("documents").await;
    let resources =
        json!(["arn:aws:s3:::a+b", "arn:aws:s3:::a%20b", "arn:aws:s3:::100%", "arn:aws:s3:::Stra\u{df}e/\u{e9}/*"]);
    let mut document = allow("s3:GetObject");
    document["Statement"][0]["Resource"] = resources.clone();
    let policies = json!([{ "name": "p", "document": document }]);
    world
        .create("app", json!({ "trustPolicy": ec2(), "inlinePolicies": policies, "customerManagedPolicies": policies }))
        .await;
    world.ready("app").await;
    let name = world.templated("app");
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.inline["p"]["Statement"][0]["Resource"], resources);
    let policy =
        aws::policy(&world.iam, &format!("arn:aws:iam::123456789012:policy/{name}.p")).await.expect("the policy");
    assert_eq!(policy.document["Statement"][0]["Resource"], resources);
    world.proxy.forget();
    world.check_now("app").await;
    world.check_now("app").await;
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
}

/// A role whose documents AWS may show in other, but equal words, and those words as they are on the wire.
fn wordy() -> Value {
    let own = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": ["ec2:Run"], "Resource": "*" }] });
    json!({
        "trustPolicy": trust(&json!({ "AWS": "210987654321" })),
        "inlinePolicies": [{ "name": "inline", "document": {
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Deny", "Action": "s3:Put", "Resource": "*",
                "Condition": { "Bool": { "aws:SecureTransport": "true" } } }],
        } }],
        "customerManagedPolicies": [{ "name": "own", "document": own }],
    })
}

/// By the call that shows it: what AWS is given, and what it answers.
const WORDS: [(&str, &str, &str); 3] = [
    ("GetRole", r#""210987654321""#, r#""arn:aws:iam::210987654321:root""#),
    ("GetRolePolicy", r#":"true""#, ":true"),
    ("GetPolicyVersion", r#""Action":"ec2:Run""#, r#""Action":["ec2:Run"]"#),
];

/// The emulator answers some calls with encoded documents, as AWS does, and some with plain ones.
fn encodings(ours: &str, theirs: &str) -> [Fault; 2] {
    let encoded =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    [Fault::Rewrite(ours.into(), theirs.into()), Fault::Rewrite(encoded(ours), encoded(theirs))]
}

#[tokio::test]
async fn other_words_of_aws_that_mean_the_same_are_never_written_over() {
    let world = World::new("documents").await;
    world.create("app", wordy()).await;
    world.ready("app").await;
    world.proxy.forget();
    for (action, ours, theirs) in WORDS {
        let mut happened = false;
        for fault in encodings(ours, theirs) {
            world.proxy.heal();
            world.proxy.fault(action, "", usize::MAX, fault);
            world.check_now("app").await;
            world.ready("app").await;
            happened |= world.proxy.happened(action);
        }
        assert!(happened, "{action}: the document is as the test thinks");
    }
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn nor_does_a_walk_over_the_account_take_them_for_drift() {
    let mut world = World::with_class("documents", |class| {
        class.drift_check = Some(DriftCheck { interval_seconds: Some(5), method: Some(DriftMethod::Account) });
    })
    .await;
    world.create("app", wordy()).await;
    world.ready("app").await;
    // From here on nobody has written a moment ago.
    world.operator.restart().await;
    let walk = "GetAccountAuthorizationDetails";
    // It knows own policies by their version and does not read them.
    let [trust, inline, _] = WORDS;
    let wrapped = ("", r#""Resource":"*""#, r#""Resource":["*"]"#);
    for (_, ours, theirs) in [trust, inline, wrapped] {
        let mut happened = false;
        for fault in encodings(ours, theirs) {
            world.proxy.heal();
            world.proxy.fault(walk, "", usize::MAX, fault);
            world.proxy.forget();
            let walks = || world.proxy.count_of(walk);
            assert!(eventually(2 * SOON, || async { walks() >= 2 }).await, "{ours}: {:?}", world.proxy.actions());
            happened |= world.proxy.happened(walk);
            let actions = world.proxy.actions();
            let looks = actions.iter().filter(|action| WORDS.iter().any(|(look, ..)| look == *action));
            assert_eq!((looks.count(), world.proxy.writes()), (0, vec![]), "{ours}: {actions:?}");
        }
        assert!(happened, "{ours}: the document is as the test thinks");
    }
}

#[tokio::test]
async fn what_aws_words_in_a_way_that_is_not_understood_is_written_twice_more_and_then_left() {
    let mut world = World::new("documents").await;
    world.create("app", spec()).await;
    world.ready("app").await;
    let rewrite = Fault::Rewrite("s3%3A%3A%3Ab".into(), "s3%3A%3A%3Ain-other-words".into());
    world.proxy.fault("GetRolePolicy", "", usize::MAX, rewrite);
    world.proxy.forget();
    world.check_now("app").await;
    assert_eq!(world.proxy.writes(), ["PutRolePolicy"], "written once");
    for _ in 0..3 {
        world.check_now("app").await;
    }
    let twice = ["PutRolePolicy", "PutRolePolicy"];
    assert_eq!(world.proxy.writes(), twice, "once more, since a denial seems to be lost, and then left");
    let message = world.reason("app", "Contested").await;
    assert!(message.contains("inline policy inline") && message.contains("not written again"), "{message}");
    let object = world.get("app").await;
    let drifted = condition(&object, "Drifted").expect("Drifted");
    assert_eq!((drifted.status.as_str(), drifted.reason.as_str()), ("True", "Contested"));
    let plan: Vec<String> = object.status.expect("a status").plan.into_iter().map(|planned| planned.action).collect();
    assert_eq!(plan, ["PutRolePolicy"], "what is not done is shown");

    world.operator.restart().await;
    world.check_now("app").await;
    assert_eq!(world.proxy.writes(), twice, "not after a restart either");
    world.reason("app", "Contested").await;

    world.proxy.heal();
    world.check_now("app").await;
    assert!(condition(&world.ready("app").await, "Drifted").is_none(), "it clears by itself");
}

/// Each kind of document, through planner and adapter: what AWS shows in other words is written once where that can allow
/// no more than what is wanted, and twice where it may; then it is left.
#[tokio::test]
async fn every_kind_of_document_is_written_once_or_twice_where_aws_words_it_otherwise() {
    let mut world = World::new("documents").await;
    let two = |one: &str, other: &str| {
        let mut document = allow(one);
        document["Statement"][0]["Action"] = json!([one, other]);
        document
    };
    let spec = json!({
        "trustPolicy": trust(&json!({ "AWS": ["111122223333", "210987654321"] })),
        "inlinePolicies": [{ "name": "inline", "document": two("s3:GetObject", "s3:PutObject") }],
        "customerManagedPolicies": [{ "name": "own", "document": two("ec2:StartInstances", "ec2:StopInstances") }],
    });
    // What shows it, what is shown, what instead that is less and what that is more, what writes it.
    let kinds = [
        ("trust", "GetRole", "210987654321", "111122223333", "444455556666", "UpdateAssumeRolePolicy"),
        ("inline", "GetRolePolicy", "s3%3APutObject", "s3%3AGetObject", "s3%3ADeleteObject", "PutRolePolicy"),
        ("own", "GetPolicyVersion", "ec2:Stop", "ec2:Start", "ec2:Reboot", "CreatePolicyVersion"),
    ];
    let mut roles = Vec::new();
    for (kind, look, shown, less, more, write) in kinds {
        for (how, instead, times) in [("less", less, 1), ("more", more, 2)] {
            let name = format!("{kind}-{how}");
            world.create(&name, spec.clone()).await;
            world.ready(&name).await;
            roles.push((name, look, Fault::Rewrite(shown.into(), instead.into()), write, times));
        }
    }
    world.operator.restart().await;
    for (name, look, fault, ..) in &roles {
        world.proxy.fault(look, &world.templated(name), usize::MAX, fault.clone());
    }
    world.proxy.forget();
    for _ in 0..4 {
        for (name, ..) in &roles {
            world.request_check(name).await;
        }
        for (name, ..) in &roles {
            world.check_now(name).await;
        }
    }
    for (name, _, _, write, times) in roles {
        world.reason(&name, "Contested").await;
        let role = world.templated(&name);
        let calls = world.proxy.calls();
        let is_of = |call: &&support::proxy::Call| {
            call.writes()
                && call.parameters.values().any(|value| *value == role || value.ends_with(&format!("{role}.own")))
        };
        let writes: Vec<&str> = calls.iter().filter(is_of).map(|call| call.action.as_str()).collect();
        assert_eq!(writes, vec![write; times], "{name}");
    }
}

#[tokio::test]
async fn somebody_who_keeps_undoing_repairs_is_not_fought_for_ever() {
    let world = World::new("documents").await;
    world.create("app", json!({ "trustPolicy": ec2(), "description": "ours" })).await;
    world.ready("app").await;
    let name = world.templated("app");
    world.proxy.forget();
    for round in 0..4 {
        let theirs = format!("theirs {round}");
        let request = world.iam.update_role().role_name(&name).description(theirs).max_session_duration(3600);
        request.send().await.expect("a change");
        world.check_now("app").await;
    }
    assert_eq!(world.proxy.writes().len(), 3, "{:?}", world.proxy.writes());
    let message = world.reason("app", "Contested").await;
    assert!(message.contains("description") && message.contains("CloudTrail"), "{message}");
    let role = world.get("app").await;
    assert_eq!(condition(&role, "Drifted").expect("Drifted").status, "True");
    world.patch("app", json!({ "description": "anew" })).await;
    world.ready("app").await;
    assert_eq!(aws::role(&world.iam, &name).await.expect("the role").description, "anew", "an edit is always applied");
}

#[tokio::test]
async fn a_deleted_principal_is_named_and_written_once_when_it_is_back() {
    let mut world = World::without_operator("documents", |_| {}).await;
    // So that it is known how often the role is read.
    world.operator.settle = "0s";
    world.operator.start().await;
    let user = "arn:aws:iam::123456789012:user/alice";
    world.create("app", json!({ "trustPolicy": trust(&json!({ "AWS": user })) })).await;
    world.ready("app").await;
    let shown = Fault::Rewrite("arn%3Aaws%3Aiam%3A%3A123456789012%3Auser/alice".into(), "AIDAEXAMPLEEXAMPLE123".into());
    world.proxy.fault("GetRole", "", 2, shown);
    let refused = Fault::Refuse(400, "MalformedPolicyDocument", format!("Invalid principal in policy: {user}"));
    world.proxy.fault("UpdateAssumeRolePolicy", "", 1, refused);
    world.proxy.forget();
    world.request_check("app").await;
    let message = world.reason("app", "PrincipalNotFound").await;
    assert!(message.contains("AIDAEXAMPLEEXAMPLE123") && message.contains(user), "{message}");
    // The user is back: the retry is taken, and that is all.
    world.ready("app").await;
    world.check_now("app").await;
    assert_eq!(world.proxy.writes(), ["UpdateAssumeRolePolicy", "UpdateAssumeRolePolicy"], "one refused, one taken");
    assert!(world.proxy.happened("GetRole"), "moto's encoding is as the test thinks");
}

#[tokio::test]
async fn advice_is_given_once_per_change() {
    let world = World::new("documents").await;
    let open = trust(&json!({ "AWS": "*" }));
    world
        .create("app", json!({ "trustPolicy": open, "inlinePolicies": [{ "name": "all", "document": allow("*") }] }))
        .await;
    world.ready("app").await;
    world.event("app", "PolicyWarning", "spec.trustPolicy.Statement[0]").await;
    world.patch("app", json!({ "description": "a change elsewhere" })).await;
    world.ready("app").await;
    world.check_now("app").await;
    let warnings = world.events("app").await.into_iter().filter(|(_, reason, _)| reason == "PolicyWarning").count();
    assert_eq!(warnings, 2, "one for each of the two findings");
}

#[tokio::test]
async fn advice_is_told_finding_by_finding_of_roles_that_fail_or_only_observe_too() {
    let world = World::new("documents").await;
    let wide = |i: usize| json!({ "Sid": format!("S{i}"), "Effect": "Allow", "Action": "*", "Resource": "*" });
    let mut long = allow("s3:GetObject");
    long["Statement"][0]["Resource"] = format!("arn:aws:s3:::{}", "x".repeat(5500)).into();
    let spec = |mode: &str| {
        json!({
            "mode": mode, "trustPolicy": ec2(),
            "inlinePolicies": [{ "name": "all", "document": {
                "Version": "2012-10-17", "Statement": (0..8).map(wide).collect::<Vec<_>>() } }],
            "customerManagedPolicies": [{ "name": "big", "document": long }],
        })
    };
    world.proxy.refuse("PutRolePolicy", "", 403, "AccessDenied", "not allowed");
    for (name, mode, reason) in [("fails", "Enforce", "AccessDenied"), ("looks", "Observe", "ChangesPending")] {
        world.create(name, spec(mode)).await;
        world.reason(name, reason).await;
        world.event(name, "PolicyWarning", "of the 6144 characters").await;
        for i in 0..8 {
            world.event(name, "PolicyWarning", &format!("document.Statement[{i}]: everything")).await;
        }
        world.check_now(name).await;
        let warnings = world.events(name).await.into_iter().filter(|(_, reason, _)| reason == "PolicyWarning").count();
        assert_eq!(warnings, 9, "{mode}: once each");
    }
}

#[tokio::test]
async fn a_policy_near_its_limit_is_told_and_the_accounts_own_limits_count() {
    let mut world = World::without_operator("documents", |_| {}).await;
    let raised = Fault::Rewrite("<value>10240</value>".into(), "<value>20480</value>".into());
    world.proxy.fault("GetAccountSummary", "", usize::MAX, raised);
    world.operator.start().await;
    let resources: Vec<String> = (0..600).map(|i| format!("arn:aws:s3:::bucket-{i:06}")).collect();
    let mut document = allow("s3:GetObject");
    document["Statement"][0]["Resource"] = json!(resources);
    world
        .create("app", json!({ "trustPolicy": ec2(), "inlinePolicies": [{ "name": "big", "document": document }] }))
        .await;
    world.ready("app").await;
    world.event("app", "PolicyWarning", "of the 20480 characters").await;
}

#[tokio::test]
async fn what_stays_unlisted_counts_towards_the_limit_and_is_named_once() {
    let mut world = World::new("documents").await;
    world.create("app", json!({ "trustPolicy": ec2(), "whenUnlisted": "Keep" })).await;
    world.ready("app").await;
    let mut theirs = allow("s3:GetObject");
    theirs["Statement"][0]["Resource"] = format!("arn:aws:s3:::{}", "x".repeat(8500)).into();
    aws::put_inline(&world.iam, &world.templated("app"), "theirs", &theirs).await;
    world.check_now("app").await;
    world.event("app", "PolicyWarning", "that the spec does not list: theirs").await;
    world.operator.stop().await;
    world.operator.start().await;
    world.check_now("app").await;
    world.check_now("app").await;
    let warnings = world.events("app").await.into_iter().filter(|(_, reason, _)| reason == "PolicyWarning").count();
    assert_eq!(warnings, 1);
    // What the spec lists by now is no more than before, and needs no warning.
    let mine = json!([{ "name": "theirs", "document": theirs }]);
    world.patch("app", json!({ "inlinePolicies": mine, "whenUnlisted": "Remove" })).await;
    world.ready("app").await;
    world.event("app", "PolicyWarning", "The biggest part is policy \"theirs\"").await;
    let warnings: Vec<_> =
        world.events("app").await.into_iter().filter(|(_, reason, _)| reason == "PolicyWarning").collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[tokio::test]
async fn what_stays_unlisted_is_told_of_a_role_that_is_only_observed_too() {
    let world = World::new("documents").await;
    world.create("app", json!({ "trustPolicy": ec2(), "whenUnlisted": "Keep" })).await;
    world.ready("app").await;
    let mut theirs = allow("s3:GetObject");
    theirs["Statement"][0]["Resource"] = format!("arn:aws:s3:::{}", "x".repeat(8500)).into();
    aws::put_inline(&world.iam, &world.templated("app"), "theirs", &theirs).await;
    world.patch("app", json!({ "mode": "Observe" })).await;
    world.reason("app", "Observed").await;
    world.event("app", "PolicyWarning", "that the spec does not list: theirs").await;
}
