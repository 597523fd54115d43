//! What a class allows holds on the rig: nothing of a refused object reaches AWS, nobody dodges, a forced boundary comes
//! back first, and a class is ready only where its roles can be served.

mod support;

use iamrole_operator::api::IamRoleClass;
use iamrole_operator::api::iamroleclass::Allowed;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use support::{SOON, World, allow, aws, condition, ec2, eventually};

fn spec() -> Value {
    json!({ "description": "ours", "trustPolicy": ec2(), "inlinePolicies": [{ "name": "p", "document": allow("s3:GetObject") }] })
}

async fn class(world: &World) -> IamRoleClass {
    world.classes().get(&world.namespace).await.expect("the class")
}

/// Waits until the class is `Ready` for this reason; returns the message.
async fn class_says(world: &World, reason: &str) -> String {
    let ready = |class: &IamRoleClass| {
        let conditions = class.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == "Ready")
    };
    let said = || async {
        let class = class(world).await;
        let generation = class.metadata.generation;
        ready(&class).is_some_and(|ready| ready.reason == reason && ready.observed_generation == generation)
    };
    assert!(eventually(SOON, said).await, "{reason}: {:?}\n{}", class(world).await.status, world.operator.log());
    ready(&class(world).await).expect("Ready").message
}

/// A class that forces a boundary; the policy is not there yet.
async fn bounded(test: &str, change: impl FnOnce(&mut Allowed)) -> (World, String) {
    let world = World::without_operator(test, |class| {
        let allowed = class.allowed.as_mut().expect("allowed");
        change(allowed);
        class.unbounded = None;
        class.permissions_boundary = Some("arn:aws:iam::123456789012:policy/not-yet".to_owned());
    })
    .await;
    let name = format!("{}-boundary", world.namespace);
    world.patch_class(json!({ "permissionsBoundary": format!("arn:aws:iam::$(account):policy/{name}") })).await;
    (world, name)
}

/// Whether the role has this boundary.
async fn is_under(world: &World, role: &str, boundary: &str) -> bool {
    let role = aws::role(&world.iam, role).await.expect("the role");
    role.boundary.as_deref() == Some(boundary)
}

#[tokio::test]
async fn nothing_of_a_refused_object_reaches_aws_and_all_refusals_are_told() {
    let world = World::with_class("rails", |class| {
        class.allowed = Some(Allowed {
            trust_principals: vec!["Service:ec2.amazonaws.com".into()],
            actions: vec!["s3:*".into()],
            ..Allowed::default()
        });
    })
    .await;
    let mut refused = spec();
    refused["roleName"] = json!("admin");
    refused["managedPolicies"] = json!(["AdministratorAccess"]);
    refused["inlinePolicies"][0]["document"] = allow("iam:*");
    world.create("app", refused).await;
    let message = world.reason("app", "NotAllowed").await;
    for part in
        ["spec.roleName: \"admin\"", "AdministratorAccess", "\"iam:*\"", &format!("IamRoleClass {}", world.namespace)]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    world.condition("app", "Stalled", "True", Some("NotAllowed")).await;
    world.event("app", "NotAllowed", "AdministratorAccess").await;
    assert_eq!(world.proxy.actions(), Vec::<String>::new(), "not a single call");
    world.delete("app").await;
    world.gone("app").await;
    world.create("app", spec()).await;
    world.ready("app").await;
}

#[tokio::test]
async fn a_class_made_stricter_stops_new_work_says_so_on_each_and_removes_nothing() {
    let world = World::new("rails").await;
    for name in ["a", "b"] {
        world.create(name, spec()).await;
        world.ready(name).await;
    }
    let before = aws::role(&world.iam, &world.templated("a")).await;
    world.proxy.forget();
    let open = json!({ "allowed": Allowed::everything() });
    let mut strict = open.clone();
    strict["allowed"]["actions"] = json!(["sqs:*"]);
    world.patch_class(strict).await;
    for name in ["a", "b"] {
        let message = world.reason(name, "NotAllowed").await;
        assert!(message.contains("s3:GetObject") && message.contains("lists sqs:*"), "{message}");
    }
    world.patch("a", json!({ "description": "new work" })).await;
    world.reason("a", "NotAllowed").await;
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
    assert_eq!(aws::role(&world.iam, &world.templated("a")).await, before);
    world.patch_class(open).await;
    world.ready("a").await;
    world.ready("b").await;
    let role = aws::role(&world.iam, &world.templated("a")).await.expect("the role");
    assert_eq!(role.description, "new work", "it heals by itself");
    let mut stricter = json!({ "allowed": Allowed::everything() });
    stricter["allowed"]["actions"] = json!([]);
    world.patch_class(stricter).await;
    world.reason("b", "NotAllowed").await;
    world.delete("b").await;
    world.gone("b").await;
    assert_eq!(aws::role(&world.iam, &world.templated("b")).await, None, "what may not be may still go");
}

#[tokio::test]
async fn nobody_dodges_by_suspending_or_observing_where_the_class_gives_no_leave() {
    let world = World::with_class("rails", |class| {
        let allowed = class.allowed.as_mut().expect("allowed");
        (allowed.suspend, allowed.observe) = (None, Some(false));
    })
    .await;
    world.create("app", spec()).await;
    world.ready("app").await;
    let name = world.templated("app");
    let annotation = json!({ "metadata": { "annotations": { "iamrole.dev/suspend": "yes" } } });
    world.patch_object("app", annotation).await.expect("an annotation");
    world.patch("app", json!({ "suspend": true, "mode": "Observe" })).await;
    let message = world.reason("app", "NotAllowed").await;
    for field in [
        "spec.suspend: true is ignored",
        "the annotation iamrole.dev/suspend: \"yes\" is ignored",
        "spec.mode: \"Observe\" is ignored",
    ] {
        assert!(message.contains(field), "{field}: {message}");
    }
    aws::put_inline(&world.iam, &name, "backdoor", &allow("*")).await;
    world.check_now("app").await;
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.inline.keys().collect::<Vec<_>>(), ["p"], "it is enforced all the same");
    let annotation = json!({ "metadata": { "annotations": { "iamrole.dev/suspend": null } } });
    world.patch_object("app", annotation).await.expect("an annotation");
    world.patch("app", json!({ "suspend": null, "mode": null })).await;
    world.ready("app").await;
}

#[tokio::test]
async fn a_boundary_that_was_taken_away_comes_back_before_anything_else() {
    let (mut world, policy) = bounded("rails", |_| {}).await;
    let boundary = aws::foreign_policy(&world.iam, &policy).await;
    world.operator.start().await;
    world.create("app", spec()).await;
    world.ready("app").await;
    let name = world.templated("app");
    for replaced in [false, true] {
        if replaced {
            let admin = "arn:aws:iam::aws:policy/AdministratorAccess";
            let call = world.iam.put_role_permissions_boundary().role_name(&name).permissions_boundary(admin);
            call.send().await.expect("another boundary");
        } else {
            let call = world.iam.delete_role_permissions_boundary().role_name(&name);
            call.send().await.expect("no boundary");
        }
        aws::put_inline(&world.iam, &name, "backdoor", &allow("*")).await;
        aws::tag_role(&world.iam, &name, &[("iamrole.dev/origin", "Adopted")]).await;
        let trust = support::trust(&json!({ "AWS": "*" })).to_string();
        world.iam.update_assume_role_policy().role_name(&name).policy_document(trust).send().await.expect("a trust");
        world.proxy.forget();
        world.check_now("app").await;
        assert_eq!(world.proxy.writes().first().map(String::as_str), Some("PutRolePermissionsBoundary"));
        let role = aws::role(&world.iam, &name).await.expect("the role");
        assert_eq!((role.boundary.as_deref(), role.trust), (Some(boundary.as_str()), ec2()));
    }
    world.event("app", "DriftRepaired", "set permissions boundary").await;
    let (_, metrics) = world.operator.get("/metrics").await.expect("metrics");
    assert!(metrics.contains("iamrole_drift_repaired_total"), "{metrics}");
}

#[tokio::test]
async fn a_bad_spec_is_no_way_out_of_the_boundary() {
    let (mut world, policy) = bounded("rails", |allowed| allowed.managed_policies = Vec::new()).await;
    let boundary = aws::foreign_policy(&world.iam, &policy).await;
    world.operator.start().await;
    world.create("app", spec()).await;
    world.ready("app").await;
    let name = world.templated("app");
    let away = || async {
        let call = world.iam.delete_role_permissions_boundary().role_name(&name);
        call.send().await.expect("no boundary");
    };
    let back = || is_under(&world, &name, &boundary);
    for (fields, reason) in [
        (json!({ "managedPolicies": ["AdministratorAccess"] }), "NotAllowed"),
        (json!({ "managedPolicies": null, "trustPolicy": null, "trustPolicyJson": "nonsense" }), "InvalidSpec"),
    ] {
        world.patch("app", fields).await;
        world.reason("app", reason).await;
        away().await;
        world.proxy.forget();
        world.check_now("app").await;
        assert!(back().await, "{reason}");
        assert_eq!(world.proxy.writes(), ["PutRolePermissionsBoundary"]);
        assert_eq!(condition(&world.get("app").await, "Ready").expect("Ready").reason, reason);
    }
}

#[tokio::test]
async fn a_spec_that_cannot_be_read_is_no_way_out_of_the_boundary() {
    let (mut world, policy) = bounded("rails", |_| {}).await;
    let boundary = aws::foreign_policy(&world.iam, &policy).await;
    world.operator.start().await;
    for wiped in [false, true] {
        let app = if wiped { "wiped" } else { "app" };
        world.create(app, spec()).await;
        world.ready(app).await;
        let name = world.templated(app);
        let patch = |subresource: &str, patch: &str| {
            let part = format!("--subresource={subresource}");
            let namespace = format!("--namespace={}", world.namespace);
            let mut line = vec!["patch", "iamrole", app, &namespace, "--type=merge", "-p", patch];
            line.extend((!subresource.is_empty()).then_some(part.as_str()));
            support::kubectl::kubectl_ok(&line, "");
        };
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        patch("", &format!(r#"{{"spec":{{"trustPolicy":{{"Id":"x","Extra":{deep}}}}}}}"#));
        if wiped {
            patch("status", r#"{"status":null}"#);
        }
        world.iam.delete_role_permissions_boundary().role_name(&name).send().await.expect("no boundary");
        world.proxy.forget();
        patch("", r#"{"metadata":{"annotations":{"iamrole.dev/reconcile-requested-at":"now"}}}"#);
        let back = || is_under(&world, &name, &boundary);
        assert!(eventually(SOON, back).await, "{app}: {}", world.operator.log());
        assert_eq!(world.proxy.writes(), ["PutRolePermissionsBoundary"]);
    }
}

#[tokio::test]
async fn a_class_is_ready_once_its_boundary_and_the_operators_rights_are_there() {
    let (mut world, policy) = bounded("rails", |_| {}).await;
    let denied =
        "User: arn:aws:sts::123456789012:assumed-role/operator/x is not authorized to perform: iam:ListRolePolicies";
    world.proxy.refuse("ListRolePolicies", "", 403, "AccessDenied", denied);
    world.operator.start().await;
    world.create("app", spec()).await;
    let message = class_says(&world, "AccessDenied").await;
    assert!(message.contains("iam:ListRolePolicies") && message.contains("Grant the action"), "{message}");
    let message = world.reason("app", "ClassNotReady").await;
    assert!(message.contains("iam:ListRolePolicies"), "{message}");
    world.proxy.heal();
    let message = class_says(&world, "PolicyNotFound").await;
    assert!(message.contains(&format!("policy/{policy}")) && message.contains("create it"), "{message}");
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
    aws::foreign_policy(&world.iam, &policy).await;
    class_says(&world, "Applied").await;
    world.ready("app").await;
    let ready = support::kubectl::kubectl_ok(&["get", "iamroleclass", &world.namespace], "");
    let header: Vec<&str> = ready.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["NAME", "READY", "REASON", "ACCOUNT", "DEFAULT", "AGE"]);
    assert!(ready.contains("True") && ready.contains("123456789012"), "{ready}");
}

#[tokio::test]
async fn a_class_with_a_mistake_serves_nobody_says_so_and_lets_go() {
    let (mut world, policy) = bounded("rails", |_| {}).await;
    let boundary = aws::foreign_policy(&world.iam, &policy).await;
    world.operator.start().await;
    for name in ["app", "goes"] {
        world.create(name, spec()).await;
        world.ready(name).await;
    }
    for (fields, field) in [
        (
            json!({ "permissionsBoundary": "arn:aws:iam::$(account):policy/$(nonsense)" }),
            "spec.permissionsBoundary: unknown token",
        ),
        (json!({ "permissionsBoundary": "arn:aws:iam::210987654321:policy/x" }), "spec.permissionsBoundary: "),
        (json!({ "permissionsBoundary": boundary, "path": "/$(nonsense)/" }), "spec.path: unknown token"),
    ] {
        world.patch_class(fields).await;
        let message = class_says(&world, "InvalidSpec").await;
        assert!(message.starts_with(field), "{message}");
        // Also one that was as wanted: nobody keeps its boundary now.
        let said = || async {
            let ready = condition(&world.get("app").await, "Ready").expect("Ready").clone();
            (ready.status.as_str(), ready.reason.as_str()) == ("False", "ClassNotReady")
                && ready.message.contains(field)
        };
        assert!(eventually(SOON, said).await, "{:?}", world.status("app").await.conditions);
    }
    world.proxy.forget();
    world.create("new", spec()).await;
    world.reason("new", "ClassNotReady").await;
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
    world.delete("goes").await;
    world.gone("goes").await;
    assert_eq!(aws::role(&world.iam, &world.templated("goes")).await, None);
    world.patch_class(json!({ "path": null })).await;
    class_says(&world, "Applied").await;
    world.ready("app").await;
    world.ready("new").await;
}

#[tokio::test]
async fn a_removed_boundary_is_back_within_one_check_interval() {
    let (mut world, policy) = bounded("rails", |_| {}).await;
    let boundary = aws::foreign_policy(&world.iam, &policy).await;
    world.patch_class(json!({ "driftCheck": { "intervalSeconds": 5 } })).await;
    world.operator.start().await;
    world.create("app", spec()).await;
    world.ready("app").await;
    let name = world.templated("app");
    let call = world.iam.delete_role_permissions_boundary().role_name(&name);
    call.send().await.expect("no boundary");
    let back = || is_under(&world, &name, &boundary);
    // The settle window after our own write comes on top of the interval.
    assert!(eventually(Duration::from_secs(45), back).await, "{}", world.operator.log());
}

#[tokio::test]
async fn an_object_that_is_nested_too_deep_costs_only_itself() {
    let mut world = World::new("rails").await;
    let deep = format!("{}\"DEEP-SECRET\"{}", "[".repeat(300), "]".repeat(300));
    let manifest = format!(
        r#"{{"apiVersion":"iamrole.dev/v1alpha1","kind":"IamRole","metadata":{{"name":"deep"}},"spec":{{"trustPolicy":
            {{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"AWS":{deep}}}}}]}}}}}}"#
    );
    support::kubectl::kubectl_ok(&["create", "-n", &world.namespace, "-f", "-"], &manifest);
    world.operator.restart().await;
    world.create("good", spec()).await;
    world.ready("good").await;
    assert!(!world.operator.log().contains("DEEP-SECRET"), "no document in the log");
    let read =
        ["get", "iamrole", "deep", "-n", &world.namespace, "-o", "jsonpath={.status.conditions[?(@.type==\"Ready\")]}"];
    let said = || async { support::kubectl::kubectl_ok(&read, "").contains("nested deeper than 64 levels") };
    assert!(eventually(SOON, said).await, "{}\n{}", support::kubectl::kubectl_ok(&read, ""), world.operator.log());
    support::kubectl::kubectl_ok(&["delete", "iamrole", "deep", "-n", &world.namespace, "--timeout=20s"], "");
}

#[tokio::test]
async fn a_role_that_fails_for_long_gets_its_boundary_back_within_the_interval() {
    let (mut world, policy) = bounded("rails", |_| {}).await;
    world.patch_class(json!({ "driftCheck": { "intervalSeconds": 5 } })).await;
    let boundary = aws::foreign_policy(&world.iam, &policy).await;
    let denied = "User: arn:aws:sts::123456789012:assumed-role/x/x is not authorized to perform: iam:AttachRolePolicy";
    world.proxy.refuse("AttachRolePolicy", "", 403, "AccessDenied", denied);
    world.operator.start().await;
    world.create("app", json!({ "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"] })).await;
    world.reason("app", "AccessDenied").await;
    let name = world.templated("app");
    // Doubling delays would be beyond a minute and a half by then.
    let tries = || async { world.proxy.count_of("AttachRolePolicy") >= 8 };
    assert!(
        eventually(6 * SOON, tries).await,
        "{}\n{}",
        world.proxy.count_of("AttachRolePolicy"),
        world.operator.log()
    );
    world.iam.delete_role_permissions_boundary().role_name(&name).send().await.expect("no boundary");
    let back = || is_under(&world, &name, &boundary);
    assert!(eventually(SOON, back).await, "{}", world.operator.log());
}

#[tokio::test]
async fn a_deletion_policy_beside_a_document_that_is_nested_too_deep_counts() {
    let world = World::new("deep").await;
    let namespace = format!("--namespace={}", world.namespace);
    let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    for app in ["retained", "goes"] {
        world.create(app, spec()).await;
        world.ready(app).await;
        let policy = if app == "goes" { "Delete" } else { "Retain" };
        let patch = format!(r#"{{"spec":{{"deletionPolicy":"{policy}","trustPolicy":{{"Id":"x","Extra":{deep}}}}}}}"#);
        support::kubectl::kubectl_ok(&["patch", "iamrole", app, &namespace, "--type=merge", "-p", &patch], "");
        support::kubectl::kubectl_ok(&["delete", "iamrole", app, &namespace, "--wait=false"], "");
        // Our own client can't read it.
        let read = ["get", "iamrole", app, &namespace, "--ignore-not-found", "-o", "name"];
        let gone = || async { support::kubectl::kubectl_ok(&read, "").is_empty() };
        assert!(eventually(SOON, gone).await, "{app}: {}", world.operator.log());
    }
    world.event("retained", "Retained", "deletionPolicy is Retain").await;
    assert!(aws::role(&world.iam, &world.templated("retained")).await.is_some());
    assert!(aws::role(&world.iam, &world.templated("goes")).await.is_none(), "{}", world.operator.log());
}

#[tokio::test]
async fn the_roles_of_a_class_that_is_not_ready_say_so_and_keep_their_boundary() {
    let (mut world, policy) = bounded("rails", |_| {}).await;
    let boundary = aws::foreign_policy(&world.iam, &policy).await;
    world.patch_class(json!({ "driftCheck": { "intervalSeconds": 5 } })).await;
    world.operator.start().await;
    world.create("app", spec()).await;
    world.ready("app").await;
    let name = world.templated("app");

    // It asks for more by now, and nobody knows whether the role has it.
    world.patch_class(json!({ "permissionsBoundary": format!("{boundary}-of-nobody") })).await;
    class_says(&world, "PolicyNotFound").await;
    let message = world.reason("app", "ClassNotReady").await;
    assert!(message.contains("there is no policy"), "{message}");

    let denied =
        "User: arn:aws:sts::123456789012:assumed-role/x/x is not authorized to perform: iam:GetInstanceProfile";
    world.proxy.refuse("GetInstanceProfile", "iamrole-preflight", 403, "AccessDenied", denied);
    world.patch_class(json!({ "permissionsBoundary": boundary })).await;
    class_says(&world, "AccessDenied").await;
    world.reason("app", "ClassNotReady").await;
    world.iam.delete_role_permissions_boundary().role_name(&name).send().await.expect("no boundary");
    let back = || is_under(&world, &name, &boundary);
    assert!(eventually(SOON, back).await, "{}", world.operator.log());
    world.event("app", "DriftRepaired", "boundary").await;
    world.proxy.heal();
    world.ready("app").await;
}

#[tokio::test]
async fn a_role_whose_deletion_is_blocked_keeps_its_boundary() {
    let (mut world, policy) = bounded("rails", |_| {}).await;
    let boundary = aws::foreign_policy(&world.iam, &policy).await;
    world.patch_class(json!({ "driftCheck": { "intervalSeconds": 5 } })).await;
    world.operator.start().await;
    let mut kept = spec();
    kept["whenUnlisted"] = json!("Keep");
    world.create("app", kept).await;
    world.ready("app").await;
    let name = world.templated("app");
    aws::attach(&world.iam, &name, "arn:aws:iam::aws:policy/AdministratorAccess").await;
    world.delete("app").await;
    world.reason("app", "DeleteBlocked").await;
    world.iam.delete_role_permissions_boundary().role_name(&name).send().await.expect("no boundary");
    let back = || is_under(&world, &name, &boundary);
    assert!(eventually(SOON, back).await, "{}", world.operator.log());
    world.event("app", "DriftRepaired", "boundary").await;
}

#[tokio::test]
async fn a_boundary_that_is_put_back_while_the_class_cannot_be_looked_at_is_told() {
    let (mut world, policy) = bounded("rails", |_| {}).await;
    let boundary = aws::foreign_policy(&world.iam, &policy).await;
    world.operator.start().await;
    world.create("app", spec()).await;
    world.ready("app").await;
    world.proxy.refuse(
        "GetPolicy",
        &policy,
        403,
        "AccessDenied",
        "User: x is not authorized to perform: iam:GetPolicy",
    );
    let ask = json!({ "metadata": { "annotations": { "iamrole.dev/reconcile-requested-at": "now" } } });
    let class = world.classes();
    class.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(ask)).await.expect("an annotation");
    class_says(&world, "AccessDenied").await;
    let name = world.templated("app");
    world.iam.delete_role_permissions_boundary().role_name(&name).send().await.expect("no boundary");
    world.request_check("app").await;
    let told = world.until("app", "telling of its boundary", |role| {
        let changes = role.status.as_ref().map(|status| status.last_changes.clone()).unwrap_or_default();
        changes.first().is_some_and(|change| change.action == "PutRolePermissionsBoundary")
    });
    assert_eq!(condition(&told.await, "Ready").expect("Ready").status, "True", "as last seen it is as wanted");
    let role = aws::role(&world.iam, &name).await.expect("the role");
    assert_eq!(role.boundary.as_deref(), Some(boundary.as_str()));
}

#[tokio::test]
async fn a_deletion_that_waits_for_a_right_keeps_the_boundary_too() {
    let (mut world, policy) = bounded("rails", |_| {}).await;
    let boundary = aws::foreign_policy(&world.iam, &policy).await;
    world.patch_class(json!({ "driftCheck": { "intervalSeconds": 5 } })).await;
    world.operator.start().await;
    world.create("app", spec()).await;
    world.ready("app").await;
    let name = world.templated("app");
    let denied = "User: x is not authorized to perform: iam:ListInstanceProfilesForRole";
    world.proxy.refuse("ListInstanceProfilesForRole", &name, 403, "AccessDenied", denied);
    world.delete("app").await;
    world.reason("app", "AccessDenied").await;
    world.iam.delete_role_permissions_boundary().role_name(&name).send().await.expect("no boundary");
    let back = || is_under(&world, &name, &boundary);
    assert!(eventually(SOON, back).await, "{}", world.operator.log());
    world.proxy.heal();
    world.gone("app").await;
}
