//! Whatever happens to a call, the end state is the same: all of it is there, nothing is orphaned, and
//! what is ours is never taken for somebody else's.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use support::proxy::Fault;
use support::{SOON, World, allow, aws, condition, ec2, eventually, trust};

/// The calls that make something, each with an object of its own whose name a fault can be aimed at.
const MAKING: [(&str, &str); 4] = [
    ("CreateRole", "create-role"),
    ("CreatePolicy", "create-policy"),
    ("AttachRolePolicy", "attach-policy"),
    ("PutRolePolicy", "put-policy"),
];
const MARKER: &str = "s3:GetObjectLegalHold";

fn spec() -> Value {
    json!({
        "description": "d", "tags": { "Owner": "msb" }, "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"],
        "inlinePolicies": [{ "name": "inline", "document": allow(MARKER) }],
        "customerManagedPolicies": [{ "name": "own", "document": allow(MARKER) }],
    })
}

/// Everything is there and ours, once; and gone with the object.
async fn whole(world: &World, object: &str) {
    let ready = world.ready(object).await;
    assert!(condition(&ready, "Stalled").is_none() && condition(&ready, "Reconciling").is_none());
    let name = world.templated(object);
    let own = format!("arn:aws:iam::123456789012:policy/{name}.own");
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!((role.description.as_str(), role.trust.clone()), ("d", ec2()));
    assert_eq!((role.tags["Owner"].as_str(), role.owner_tags["iamrole.dev/name"].as_str()), ("msb", object));
    assert_eq!(role.attached, BTreeSet::from(["arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned(), own.clone()]));
    assert_eq!(role.inline, [("inline".to_owned(), allow(MARKER))].into());
    let policy = aws::policy(&world.iam, &own).await.expect("the policy");
    assert_eq!((policy.document, policy.versions), (allow(MARKER), 1));
    assert_eq!(policy.tags["iamrole.dev/name"], object);
    let status = ready.status.expect("a status");
    assert_eq!(status.role.as_ref().and_then(|role| role.id.as_deref()), Some(role.id.as_str()));
    assert_eq!(status.customer_managed_policies[0].version.as_deref(), Some("v1"));

    world.delete(object).await;
    world.gone(object).await;
    assert_eq!(aws::role(&world.iam, &name).await, None);
    assert_eq!(aws::policies_with(&world.iam, &name).await, BTreeSet::new());
}

/// Creates an object per call, does `fault` to the call of each, and ends with `whole`.
async fn survives(fault: impl Fn(&World, &'static str, &str)) {
    survives_within(SOON, fault).await;
}

async fn survives_within(patience: Duration, fault: impl Fn(&World, &'static str, &str)) {
    let mut world = World::new("faults").await;
    world.patience = patience;
    for (action, object) in MAKING {
        fault(&world, action, &world.templated(object));
        world.create(object, spec()).await;
    }
    for (_, object) in MAKING {
        whole(&world, object).await;
        let foreign = ["RoleNotOwned", "RoleOwnedByOther", "PolicyNameTaken"];
        let events = world.events(object).await;
        assert!(!events.iter().any(|(_, reason, _)| foreign.contains(&reason.as_str())), "{events:#?}");
    }
}

/// Refuses the call of each object, waits for a reason whose message holds `parts`, heals, ends with `whole`.
async fn refused_and_healed(code: &'static str, message: &str, reason: &str, parts: &[&str]) {
    let world = World::new("faults").await;
    for (action, object) in MAKING {
        world.proxy.refuse(action, &world.templated(object), 403, code, message);
        world.create(object, spec()).await;
    }
    for (action, object) in MAKING {
        let text = world.reason(object, reason).await;
        assert!(text.contains(&format!("iam:{action}")) && text.contains(&world.templated(object)), "{text}");
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
        world.event(object, reason, &format!("iam:{action}")).await;
    }
    world.proxy.heal();
    for (_, object) in MAKING {
        whole(&world, object).await;
    }
}

#[tokio::test]
async fn a_missing_right_is_named_and_heals() {
    let message = "User: operator is not authorized to perform it";
    refused_and_healed("AccessDenied", message, "AccessDenied", &[message, "Grant the action"]).await;
}

#[tokio::test]
async fn a_used_up_quota_is_named_and_heals() {
    let message = "Cannot exceed quota for PoliciesPerRole: 10";
    refused_and_healed("LimitExceeded", message, "QuotaExceeded", &[message, "higher quota"]).await;
}

#[tokio::test]
async fn a_principal_that_is_not_there_yet_is_waited_for() {
    let world = World::new("faults").await;
    let late = format!("{}-late", world.namespace);
    let arn = format!("arn:aws:iam::123456789012:role/{late}");
    let mut spec = spec();
    spec["trustPolicy"] = trust(&json!({ "AWS": arn }));
    world.create("app", spec).await;
    let text = world.reason("app", "PrincipalNotFound").await;
    assert!(text.contains(&arn) && text.contains("nobody can assume it until then"), "{text}");
    assert!(condition(&world.get("app").await, "Stalled").is_none(), "it may come any moment");
    let name = world.templated("app");
    let role = aws::role(&world.iam, &name).await.expect("the role, for others that wait for it");
    assert_eq!(role.trust["Statement"][0]["Effect"], "Deny");
    assert_eq!((role.attached.len(), role.inline.len()), (2, 1), "all but the trust is there");
    aws::foreign_role(&world.iam, &late).await;
    world.ready("app").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.trust["Statement"][0]["Principal"]["AWS"], arn);
}

#[tokio::test]
async fn a_role_that_trusts_itself_and_roles_that_trust_each_other_get_ready() {
    let world = World::new("faults").await;
    let arn = |object: &str| format!("arn:aws:iam::123456789012:role/{}", world.templated(object));
    let trusting = |object: &str| json!({ "trustPolicy": trust(&json!({ "AWS": arn(object) })) });
    world.create("itself", trusting("itself")).await;
    world.create("left", trusting("right")).await;
    world.create("right", trusting("left")).await;
    for (object, principal) in [("itself", "itself"), ("left", "right"), ("right", "left")] {
        world.ready(object).await;
        let role = aws::role(&world.iam, &world.templated(object)).await.expect("the role");
        assert_eq!(role.trust["Statement"][0]["Principal"]["AWS"], arn(principal), "{object}");
    }
    world.proxy.forget();
    world.check_now("itself").await;
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
    for object in ["itself", "left", "right"] {
        world.delete(object).await;
        world.gone(object).await;
    }
}

#[tokio::test]
async fn a_document_that_aws_refuses_says_so_and_the_rest_is_done() {
    let world = World::new("faults").await;
    let message = "Syntax errors in policy.";
    world.proxy.refuse("PutRolePolicy", "", 400, "MalformedPolicyDocument", message);
    world.create("app", spec()).await;
    let object = world.condition("app", "Stalled", "True", Some("InvalidSpec")).await;
    let text = &condition(&object, "Ready").expect("Ready").message;
    assert!(text.contains(message) && text.contains("inline policy inline"), "{text}");
    let role = aws::role(&world.iam, &world.templated("app")).await.expect("the role");
    assert_eq!((role.attached.len(), role.inline.len()), (2, 0));
    world.proxy.heal();
    world.check_now("app").await;
    whole(&world, "app").await;
}

#[tokio::test]
async fn a_call_that_aws_never_saw_is_made_again() {
    // The SDK tries three times by itself.
    survives(|world, action, name| world.proxy.fault(action, name, 4, Fault::DropBefore)).await;
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_is_not_taken_for_somebody_elses() {
    survives(|world, action, name| world.proxy.fault(action, name, 4, Fault::DropAfter)).await;
}

#[tokio::test]
async fn one_lost_answer_is_survived_within_the_sdk() {
    survives(|world, action, name| world.proxy.fault(action, name, 1, Fault::DropAfter)).await;
}

#[tokio::test]
async fn throttling_passes() {
    // What is refused at any pace slows the operator down to two calls a second, and the four roles need some forty.
    survives_within(3 * SOON, |world, action, name| {
        let fault = Fault::Refuse(400, "Throttling", "Rate exceeded".into());
        world.proxy.fault(action, name, 4, fault);
    })
    .await;
}

#[tokio::test]
async fn a_server_error_passes() {
    survives(|world, action, name| {
        let fault = Fault::Refuse(503, "ServiceUnavailable", "try again".into());
        world.proxy.fault(action, name, 4, fault);
    })
    .await;
}

#[tokio::test]
async fn an_operator_killed_in_the_middle_of_a_call_converges_after_the_restart() {
    let mut world = World::new("faults").await;
    // Two each: one that AWS carries out after the new operator has begun, one before.
    for (action, object) in MAKING {
        world.proxy.fault(action, &world.templated(object), 1, Fault::Delay(Duration::from_secs(4)));
        world.create(object, spec()).await;
        let soon = format!("soon-{object}");
        world.proxy.fault(action, &world.templated(&soon), 1, Fault::Delay(Duration::from_millis(500)));
        world.create(&soon, spec()).await;
    }
    let under_way = || async {
        let calls = world.proxy.calls();
        MAKING.iter().all(|(action, object)| {
            let name = world.templated(object);
            calls.iter().any(|call| call.action == *action && call.parameters.values().any(|v| v.contains(&name)))
        })
    };
    assert!(eventually(SOON, under_way).await, "{:?}", world.proxy.actions());
    world.operator.restart().await;
    for (_, object) in MAKING {
        world.ready(object).await;
        world.ready(&format!("soon-{object}")).await;
    }
    assert!(eventually(SOON, || async { world.proxy.under_way() == 0 }).await, "what was delayed arrives");
    for (_, object) in MAKING {
        whole(&world, object).await;
        whole(&world, &format!("soon-{object}")).await;
    }
}

#[tokio::test]
async fn no_policy_text_in_events_and_logs() {
    let mut world = World::without_operator("faults", |_| {}).await;
    world.operator.log_level = "info";
    world.operator.start().await;
    world.proxy.fault("PutRolePolicy", "", 1, Fault::Refuse(403, "AccessDenied", "not authorized".into()));
    world.proxy.fault("CreatePolicy", "", 1, Fault::Refuse(400, "LimitExceeded", "quota".into()));
    let mut spec = spec();
    spec["trustPolicy"]["Statement"][0]["Condition"] = json!({ "StringEquals": { "sts:ExternalId": "hush-hush" } });
    world.create("app", spec).await;
    world.ready("app").await;
    let own = json!([{ "name": "own", "document": allow("s3:GetObjectTagging") }]);
    world.patch("app", json!({ "customerManagedPolicies": own })).await;
    world.ready("app").await;
    world
        .patch(
            "app",
            json!({ "inlinePolicies": [{ "name": "x", "document": { "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": MARKER, "Resource": "arn:aws:s3:::very-private", "Conditions": {} }
    ] } }] }),
        )
        .await;
    world.reason("app", "InvalidSpec").await;
    world.delete("app").await;
    world.gone("app").await;
    let (log, events) = (world.operator.log(), format!("{:?}", world.events("app").await));
    assert!(log.contains("changed AWS") && events.contains("QuotaExceeded") && events.contains("InvalidSpec"), "{log}");
    // Who is trusted may be named: without that nobody could act on a warning about it.
    for secret in ["GetObject", "hush-hush", "very-private", "2012-10-17"] {
        assert!(!log.contains(secret), "{secret} in {log}");
        assert!(!events.contains(secret), "{secret} in {events}");
    }
}
