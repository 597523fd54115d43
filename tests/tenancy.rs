//! A user with every right on `IamRole`s, their status and Events in his namespace, and none on classes, gets at nothing
//! that is not his. Each attack is judged by what AWS has afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
mod tenants;

use serde_json::{Value, json};
use support::{World, allow, aws, condition, ec2};
use tenants::{Tenants, policy_arn};

fn role() -> Value {
    json!({ "trustPolicy": ec2() })
}

#[tokio::test]
async fn a_forged_role_in_status_leads_to_no_stranger() {
    let tenants = Tenants::new(|_| {}).await;
    let (attacker, theirs) = (&tenants.attacker, tenants.full_role("api").await);
    let before = tenants.all_of(&theirs).await;
    let status = tenants.victim.status("api").await;
    for name in ["edited", "deleted"] {
        attacker.create(name, role()).await;
        attacker.ready(name).await;
        tenants.forge(name, json!({ "role": status.role, "unlisted": null })).await;
    }
    attacker.patch("edited", json!({ "managedPolicies": ["SecurityAudit"], "description": "mine" })).await;
    attacker.ready("edited").await;
    let own = aws::role(&attacker.iam, &attacker.templated("edited")).await.expect("his own role");
    assert_eq!(own.description, "mine", "the tags tell which role is his");
    assert_eq!(attacker.status("edited").await.role.unwrap().name, attacker.templated("edited"));
    attacker.patch("deleted", json!({ "deletionPolicy": "ForceDelete" })).await;
    tenants.forge("deleted", json!({ "role": status.role })).await;
    attacker.delete("deleted").await;
    attacker.gone("deleted").await;
    assert_eq!(tenants.all_of(&theirs).await, before);
    assert_eq!(aws::role(&attacker.iam, &attacker.templated("deleted")).await, None, "and his own is not left behind");
}

#[tokio::test]
async fn forged_lists_delete_and_detach_nothing_of_a_stranger() {
    let tenants = Tenants::new(|_| {}).await;
    let (attacker, theirs) = (&tenants.attacker, tenants.full_role("api").await);
    let before = tenants.all_of(&theirs).await;
    let nobodys = aws::foreign_policy(&attacker.iam, &format!("nobodys-{}", attacker.namespace)).await;
    let status = tenants.victim.status("api").await;
    let mut own = serde_json::to_value(&status.customer_managed_policies).unwrap();
    own.as_array_mut().unwrap().push(json!({ "name": "x", "arn": nobodys, "id": "ANPAX", "version": "v1" }));
    let forged = json!({
        "managedPolicies": [nobodys, policy_arn(&format!("{theirs}.own"))], "inlinePolicies": ["inline"],
        "customerManagedPolicies": own, "instanceProfile": status.instance_profile, "tagKeys": ["Team", "iamrole.dev/name"],
    });
    attacker.create("app", json!({ "trustPolicy": ec2(), "deletionPolicy": "ForceDelete" })).await;
    attacker.ready("app").await;
    for spec in [json!({ "description": "mine" }), json!({ "instanceProfile": {} }), json!({ "instanceProfile": null })]
    {
        tenants.forge("app", forged.clone()).await;
        attacker.patch("app", spec).await;
        attacker.ready("app").await;
        assert_eq!(tenants.all_of(&theirs).await, before);
    }
    let tags = aws::role(&attacker.iam, &attacker.templated("app")).await.expect("his role").owner_tags;
    assert_eq!(tags["iamrole.dev/name"], "app", "owner tags are not his to take off");
    tenants.forge("app", forged).await;
    attacker.delete("app").await;
    attacker.gone("app").await;
    assert_eq!(tenants.all_of(&theirs).await, before);
    assert!(aws::policy(&attacker.iam, &nobodys).await.is_some());
}

#[tokio::test]
async fn nonsense_in_status_is_no_name_and_stops_nothing() {
    let tenants = Tenants::new(|_| {}).await;
    let attacker = &tenants.attacker;
    attacker.create("app", role()).await;
    attacker.ready("app").await;
    // What AWS says to texts that are no names and no ARNs; moto takes them for missing.
    for (action, part) in [
        ("GetPolicy", "nonsense"),
        ("GetPolicy", "210987654321"),
        ("GetInstanceProfile", "no name"),
        ("GetRole", "no role"),
    ] {
        let code = if part == "210987654321" { "AccessDenied" } else { "ValidationError" };
        attacker.proxy.refuse(action, part, if code == "AccessDenied" { 403 } else { 400 }, code, "not like this");
    }
    let forged = json!({
        "role": { "name": "no role!", "path": "", "id": "x" }, "instanceProfile": { "name": "no name!", "arn": "x" },
        "customerManagedPolicies": [
            { "name": "x", "arn": "nonsense", "id": "x" },
            { "name": "y", "arn": "arn:aws:iam::210987654321:policy/y", "id": "x" },
        ],
        "managedPolicies": ["nonsense"], "inlinePolicies": ["no such thing!"], "tagKeys": ["{}"],
    });
    tenants.forge("app", forged.clone()).await;
    attacker.patch("app", json!({ "description": "goes on" })).await;
    attacker.ready("app").await;
    assert_eq!(aws::role(&attacker.iam, &attacker.templated("app")).await.expect("his role").description, "goes on");
    tenants.forge("app", forged).await;
    attacker.delete("app").await;
    attacker.gone("app").await;
    assert_eq!(aws::role(&attacker.iam, &attacker.templated("app")).await, None);
}

#[tokio::test]
async fn forged_possession_drives_nobody_out() {
    let tenants = Tenants::new(|_| {}).await;
    let (attacker, victim) = (&tenants.attacker, &tenants.victim);
    let name = format!("shared-{}", victim.namespace);
    let spec = json!({ "roleName": name, "trustPolicy": ec2() });
    attacker.create("elder", json!({ "roleName": name, "trustPolicy": ec2(), "suspend": true })).await;
    attacker.condition("elder", "Ready", "Unknown", Some("Suspended")).await;
    victim.create("younger", spec).await;
    victim.ready("younger").await;
    let before = aws::role(&victim.iam, &name).await;
    let mut forged = json!(victim.status("younger").await.role);
    forged["createDate"] = Value::Null;
    tenants.forge("elder", json!({ "role": forged })).await;
    attacker.patch("elder", json!({ "suspend": false })).await;
    attacker.reason("elder", "RoleOwnedByOther").await;
    assert_eq!(aws::role(&victim.iam, &name).await, before);
    aws::attach(&victim.iam, &name, "arn:aws:iam::aws:policy/AdministratorAccess").await;
    victim.check_now("younger").await;
    victim.ready("younger").await;
    assert_eq!(aws::role(&victim.iam, &name).await, before, "its owner's is still looked after");
}

#[tokio::test]
async fn suspend_and_observe_are_no_way_out() {
    let tenants = Tenants::new(|class| {
        let allowed = class.allowed.as_mut().unwrap();
        (allowed.suspend, allowed.observe) = (None, None);
    })
    .await;
    let attacker = &tenants.attacker;
    for (name, spec) in [("suspends", json!({ "suspend": true })), ("observes", json!({ "mode": "Observe" }))] {
        let mut whole = role();
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        attacker.create(name, whole).await;
        let message = attacker.reason(name, "NotAllowed").await;
        assert!(message.contains("is ignored"), "{message}");
        let role = attacker.templated(name);
        aws::attach(&attacker.iam, &role, "arn:aws:iam::aws:policy/AdministratorAccess").await;
        let annotations = json!({ "iamrole.dev/suspend": "yes" });
        attacker.patch_object(name, json!({ "metadata": { "annotations": annotations } })).await.expect("he may");
        let token = attacker.request_check(name).await;
        let handled = |role: &iamrole_operator::api::IamRole| {
            role.status.as_ref().unwrap().last_handled_reconcile_at.as_ref() == Some(&token)
        };
        attacker.until(name, "the check", handled).await;
        assert!(aws::role(&attacker.iam, &role).await.expect("his role").attached.is_empty(), "{name}");
    }
}

/// What docs/security.md says of it: the class judges what is asked for, and the boundary holds in any case.
#[tokio::test]
async fn what_a_stricter_class_leaves_on_a_role_is_told() {
    let tenants = Tenants::new(|_| {}).await;
    let (attacker, boundary) = (&tenants.attacker, "arn:aws:iam::aws:policy/ReadOnlyAccess");
    let (admin, without) = ("arn:aws:iam::aws:policy/AdministratorAccess", json!({ "managedPolicies": null }));
    for name in ["obeys", "wipes"] {
        attacker.create(name, json!({ "trustPolicy": ec2(), "managedPolicies": ["AdministratorAccess"] })).await;
        attacker.ready(name).await;
    }
    let allowed = json!({ "managedPolicies": [], "trustPrincipals": ["Service:ec2.amazonaws.com"] });
    let stricter = json!({ "allowed": allowed, "unbounded": null, "permissionsBoundary": boundary });
    tenants.admin.patch_class(stricter).await;
    for name in ["obeys", "wipes"] {
        attacker.reason(name, "NotAllowed").await;
    }
    tenants.forge("wipes", Value::Null).await;
    for (name, left) in [("obeys", vec![]), ("wipes", vec![admin.to_owned()])] {
        attacker.patch(name, without.clone()).await;
        let status = attacker.ready(name).await.status.unwrap();
        let role = aws::role(&attacker.iam, &attacker.templated(name)).await.expect("his role");
        assert_eq!(role.boundary.as_deref(), Some(boundary));
        assert_eq!(role.attached.into_iter().collect::<Vec<_>>(), left);
        assert_eq!(status.unlisted, left, "nobody is in the dark about it");
    }
    attacker.event("wipes", "Recovered", "AdministratorAccess").await;
    attacker.patch("wipes", json!({ "description": "a change" })).await;
    attacker.ready("wipes").await;
    let role = aws::role(&attacker.iam, &attacker.templated("wipes")).await.expect("his role");
    assert!(role.attached.is_empty(), "until the spec changes");
}

#[tokio::test]
async fn forged_conditions_convince_nobody_for_long() {
    let tenants = Tenants::new(|class| class.allowed.as_mut().unwrap().role_names.clear()).await;
    let attacker = &tenants.attacker;
    attacker.create("wrong", json!({ "roleName": "admin", "trustPolicy": ec2() })).await;
    attacker.reason("wrong", "NotAllowed").await;
    attacker.create("fits", role()).await;
    attacker.ready("fits").await;
    let ready = json!([{
        "type": "Ready", "status": "True", "reason": "Applied", "message": "forged", "observedGeneration": 7,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]);
    let theirs = json!({ "name": "admin", "path": "/", "arn": "arn:aws:iam::123456789012:role/admin", "id": "AROAX" });
    let forged = json!({
        "conditions": ready, "observedGeneration": 7, "lastHandledReconcileAt": "x", "role": theirs,
        "effective": { "deletionPolicy": "Retain", "whenUnlisted": "Keep", "mode": "Observe" },
        "plan": [{ "action": "Forged", "target": "x", "detail": "x" }],
    });
    tenants.forge("wrong", forged.clone()).await;
    attacker.request_check("wrong").await;
    attacker.until("wrong", "the truth", |role| condition(role, "Ready").unwrap().reason == "NotAllowed").await;
    assert_eq!(aws::role(&attacker.iam, "admin").await, None);
    assert_eq!(attacker.proxy.writes(), ["CreateRole"], "only what fits");

    let name = attacker.templated("fits");
    aws::attach(&attacker.iam, &name, "arn:aws:iam::aws:policy/AdministratorAccess").await;
    tenants.forge("fits", forged).await;
    attacker.check_now("fits").await;
    let status = attacker.status("fits").await;
    let own = aws::role(&attacker.iam, &name).await.expect("his role");
    assert!(own.attached.is_empty(), "neither the forged mode nor Keep nor Ready kept it there");
    assert_eq!(status.role.unwrap().arn.as_deref(), Some(own.arn.as_str()), "the ARN is the true one again");
    assert!(status.plan.is_empty() && status.effective.unwrap().mode.as_str() == "Enforce");
    attacker.delete("fits").await;
    attacker.gone("fits").await;
    assert_eq!(aws::role(&attacker.iam, &name).await, None, "nor the forged Retain");
}

#[tokio::test]
async fn a_forged_class_or_account_opens_no_other() {
    let tenants = Tenants::new(|_| {}).await;
    let attacker = &tenants.attacker;
    let strong = format!("{}-strong", attacker.namespace);
    let mut spec = tenants.admin.classes().get(&attacker.namespace).await.unwrap().spec;
    spec.namespace_selector.match_labels.insert("strong".to_owned(), "yes".to_owned());
    tenants.admin.create_class(&strong, spec, false).await;
    tenants.admin.patch_class(json!({ "allowed": { "trustPrincipals": ["Service:ec2.amazonaws.com"] } })).await;
    attacker.create("named", json!({ "roleClassName": strong, "trustPolicy": ec2() })).await;
    let message = attacker.reason("named", "NoClass").await;
    assert!(message.contains("does not select namespace"), "{message}");
    attacker.create("forged", role()).await;
    attacker.ready("forged").await;
    let name = attacker.templated("forged");
    let before = aws::role(&attacker.iam, &name).await;
    let class = json!({ "name": strong, "uid": "x", "observedGeneration": 1 });
    tenants.forge("forged", json!({ "class": class })).await;
    attacker.patch("forged", json!({ "managedPolicies": ["AdministratorAccess"] })).await;
    attacker.reason("forged", "NoClass").await;
    let real = json!({ "name": attacker.namespace, "uid": "x", "observedGeneration": 99 });
    tenants.forge("forged", json!({ "class": real, "accountId": "210987654321" })).await;
    attacker.patch("forged", json!({ "description": "x" })).await;
    attacker.reason("forged", "ClassAccountMismatch").await;
    assert_eq!(aws::role(&attacker.iam, &name).await, before, "it stays as the class had it");
    let error = attacker.classes().get(&attacker.namespace).await.unwrap_err().to_string();
    assert!(error.contains("forbidden"), "{error}");
}

#[tokio::test]
async fn without_its_finalizer_a_role_stays_its_owners() {
    let mut tenants = Tenants::new(|_| {}).await;
    let name = format!("kept-{}", tenants.attacker.namespace);
    let spec = json!({ "roleName": name, "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"] });
    tenants.attacker.create("app", spec.clone()).await;
    tenants.attacker.ready("app").await;
    tenants.admin.operator.stop().await;
    tenants.attacker.delete("app").await;
    tenants.attacker.patch_object("app", json!({ "metadata": { "finalizers": null } })).await.expect("he may");
    tenants.attacker.gone("app").await;
    tenants.admin.operator.start().await;
    let (attacker, victim) = (&tenants.attacker, &tenants.victim);
    let before = aws::role(&attacker.iam, &name).await;
    victim.create("app", json!({ "roleName": name, "trustPolicy": ec2(), "deletionPolicy": "ForceDelete" })).await;
    victim.reason("app", "RoleOwnedByOther").await;
    victim.delete("app").await;
    victim.gone("app").await;
    assert_eq!(aws::role(&attacker.iam, &name).await, before);
    attacker.create("app", spec).await;
    attacker.ready("app").await;
    assert_eq!(aws::role(&attacker.iam, &name).await.unwrap().id, before.unwrap().id, "he gets his own back");
}

#[tokio::test]
async fn a_finalizer_put_on_by_hand_holds_nobody_but_its_own_object() {
    let tenants = Tenants::new(|class| class.allowed = None).await;
    let attacker = &tenants.attacker;
    attacker.create("app", json!({ "roleName": "admin", "trustPolicy": ec2() })).await;
    attacker.reason("app", "NotAllowed").await;
    attacker.patch_object("app", json!({ "metadata": { "finalizers": ["iamrole.dev/finalizer"] } })).await.unwrap();
    aws::foreign_role(&attacker.iam, &format!("admin-{}", attacker.namespace)).await;
    attacker.delete("app").await;
    attacker.gone("app").await;
    assert_eq!(attacker.proxy.writes(), Vec::<String>::new());
}

async fn both(tenants: &Tenants, mine: &str, theirs: &str) {
    tenants.victim.create(theirs, role()).await;
    tenants.victim.ready(theirs).await;
    tenants.attacker.create(mine, role()).await;
}

#[tokio::test]
async fn names_that_are_made_to_collide_meet_the_owners_tags() {
    // The default template: a namespace has no dots, so one with a name is always told from another.
    let tenants = Tenants::new(|_| {}).await;
    let long = format!("{}.{}", "x".repeat(100), "y".repeat(152));
    both(&tenants, &format!("{}.api", tenants.victim.namespace), "api").await;
    tenants.attacker.ready(&format!("{}.api", tenants.victim.namespace)).await;
    both(&tenants, &long, &long).await;
    let mine = tenants.attacker.ready(&long).await.status.unwrap().role.unwrap().name;
    let theirs = tenants.victim.status(&long).await.role.unwrap().name;
    assert!(mine != theirs && mine.len() <= 64 && theirs.len() <= 64, "{mine} {theirs}");

    // A template whose parts run together: the later one is refused, and the first stays as it is.
    let tenants = Tenants::new(|class| class.role_name_template = Some("$(name)$(namespace)".into())).await;
    let (attacker, victim) = (&tenants.attacker, &tenants.victim);
    victim.create("api", json!({ "trustPolicy": ec2(), "roleName": format!("api{}", attacker.namespace) })).await;
    victim.ready("api").await;
    let name = format!("api{}", attacker.namespace);
    let before = aws::role(&victim.iam, &name).await;
    attacker.create("api", json!({ "trustPolicy": ec2(), "deletionPolicy": "ForceDelete" })).await;
    attacker.reason("api", "RoleOwnedByOther").await;
    attacker.delete("api").await;
    attacker.gone("api").await;
    assert_eq!(aws::role(&victim.iam, &name).await, before);
}

#[tokio::test]
async fn a_name_in_other_case_is_the_same_name() {
    let tenants = Tenants::new(|_| {}).await;
    let (attacker, victim) = (&tenants.attacker, &tenants.victim);
    let name = format!("api-{}", victim.namespace);
    victim.create("api", json!({ "roleName": name, "trustPolicy": ec2() })).await;
    victim.ready("api").await;
    let before = aws::role(&victim.iam, &name).await;
    attacker.create("api", json!({ "roleName": name.to_uppercase(), "trustPolicy": ec2() })).await;
    let message = attacker.reason("api", "RoleOwnedByOther").await;
    assert!(message.contains(&victim.namespace), "{message}");
    assert_eq!(aws::role(&victim.iam, &name).await, before);
    assert_eq!(aws::role(&victim.iam, &name.to_uppercase()).await, None);
}

#[tokio::test]
async fn names_that_the_class_does_not_give_need_its_leave() {
    let tenants = Tenants::new(|class| {
        let allowed = class.allowed.as_mut().unwrap();
        allowed.role_names = vec!["$(namespace)-*".into()];
        allowed.paths = vec!["/tenants/$(namespace)/".into()];
    })
    .await;
    let (attacker, victim) = (&tenants.attacker, &tenants.victim);
    for (name, spec, field) in [
        ("squats", json!({ "roleName": victim.templated("api") }), "spec.roleName"),
        ("trusted-elsewhere", json!({ "roleName": "deployer" }), "spec.roleName"),
        ("path", json!({ "path": format!("/tenants/{}/", victim.namespace) }), "spec.path"),
    ] {
        let mut whole = role();
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        attacker.create(name, whole).await;
        let message = attacker.reason(name, "NotAllowed").await;
        assert!(message.contains(field), "{message}");
    }
    assert_eq!(attacker.proxy.actions(), Vec::<String>::new());
}

#[tokio::test]
async fn names_of_a_strangers_policy_profile_or_role_are_taken() {
    let tenants = Tenants::new(|_| {}).await;
    let (attacker, theirs) = (&tenants.attacker, tenants.full_role("api").await);
    let before = tenants.all_of(&theirs).await;
    let own = json!([{ "name": "own", "policyName": format!("{theirs}.own"), "document": allow("iam:*") }]);
    for (name, spec, reason) in [
        ("policy", json!({ "customerManagedPolicies": own }), "PolicyNameTaken"),
        ("profile", json!({ "instanceProfile": { "name": theirs } }), "InstanceProfileNotOwned"),
        ("role", json!({ "roleName": theirs }), "RoleOwnedByOther"),
        ("adopt", json!({ "roleName": theirs, "adoption": "Required" }), "RoleOwnedByOther"),
    ] {
        let mut whole = json!({ "trustPolicy": ec2(), "deletionPolicy": "ForceDelete" });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        attacker.create(name, whole).await;
        attacker.reason(name, reason).await;
        attacker.delete(name).await;
        attacker.gone(name).await;
        assert_eq!(tenants.all_of(&theirs).await, before, "{name}");
    }
}

fn web_identity(subject: &str) -> Value {
    let provider = "arn:aws:iam::123456789012:oidc-provider/kubernetes.default.svc";
    json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Federated": provider }, "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": { "StringLike": { "kubernetes.default.svc:sub": subject } },
    }] })
}

#[tokio::test]
async fn documents_that_let_in_or_grant_too_much_reach_nothing() {
    let tenants = Tenants::new(|class| {
        let allowed = class.allowed.as_mut().unwrap();
        allowed.trust_principals = vec!["Service:*".into(), "Federated:arn:aws:iam::$(account):oidc-provider/*".into()];
        allowed.actions = vec!["s3:*".into()];
    })
    .await;
    let (attacker, victim) = (&tenants.attacker, &tenants.victim.namespace);
    let grants = |statement: Value| {
        let document = json!({ "Version": "2012-10-17", "Statement": [statement] });
        json!({ "trustPolicy": ec2(), "inlinePolicies": [{ "name": "p", "document": document }] })
    };
    let trusts = |principal: Value| json!({ "trustPolicy": support::trust(&principal) });
    let pods = support::trust(&json!({ "Service": "pods.eks.amazonaws.com" }));
    for (name, spec) in [
        ("not-action", grants(json!({ "Effect": "Allow", "NotAction": "s3:*", "Resource": "*" }))),
        ("star", grants(json!({ "Effect": "Allow", "Action": "*", "Resource": "*" }))),
        ("case", grants(json!({ "Effect": "Allow", "Action": "IAM:passrole", "Resource": "*" }))),
        ("wild", grants(json!({ "Effect": "Allow", "Action": ["s3:Get*", "iam:*"], "Resource": "*" }))),
        ("everybody", trusts(json!("*"))),
        ("account", trusts(json!({ "AWS": "210987654321" }))),
        ("their-pods", json!({ "trustPolicy": web_identity(&format!("system:serviceaccount:{victim}:api")) })),
        ("all-pods", json!({ "trustPolicy": web_identity("system:serviceaccount:*") })),
        ("pod-identity", json!({ "trustPolicy": pods })),
    ] {
        attacker.create(name, spec).await;
        attacker.reason(name, "NotAllowed").await;
    }
    assert_eq!(attacker.proxy.actions(), Vec::<String>::new());
    let own = web_identity(&format!("system:serviceaccount:{}:*", attacker.namespace));
    attacker.create("own-pods", json!({ "trustPolicy": own })).await;
    attacker.ready("own-pods").await;
}

#[tokio::test]
async fn owner_tags_are_not_to_be_had_by_spec() {
    let tenants = Tenants::new(|_| {}).await;
    let attacker = &tenants.attacker;
    for key in ["iamrole.dev/namespace", "IAMROLE.DEV/cluster", "iamrole.dev/x", "aws:cloudformation:stack-name"] {
        let spec = json!({ "trustPolicy": ec2(), "tags": { key: tenants.victim.namespace } });
        let error = attacker.try_create("app", spec).await.unwrap_err();
        assert!(error.contains("are reserved"), "{key}: {error}");
    }
}

#[tokio::test]
async fn his_rights_end_at_his_namespace() {
    let tenants = Tenants::new(|_| {}).await;
    let attacker = &tenants.attacker;
    let denied =
        |error: Result<(), String>| assert!(error.as_ref().is_err_and(|e| e.contains("forbidden")), "{error:?}");
    let elsewhere = World {
        namespace: tenants.victim.namespace.clone(),
        client: attacker.client.clone(),
        iam: attacker.iam.clone(),
        proxy: attacker.proxy.clone(),
        patience: attacker.patience,
        operator: support::operator::Operator::new(&tenants.victim.namespace, &attacker.proxy.url()),
    };
    denied(elsewhere.try_create("app", role()).await);
    let label = kube::api::Patch::Merge(json!({ "metadata": { "labels": { "strong": "yes" } } }));
    let params = kube::api::PatchParams::default();
    let namespaces = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(attacker.client.clone());
    denied(namespaces.patch(&attacker.namespace, &params, &label).await.map(drop).map_err(|e| e.to_string()));
    let classes = attacker.classes();
    let open = kube::api::Patch::Merge(json!({ "spec": { "unbounded": true } }));
    denied(classes.patch(&attacker.namespace, &params, &open).await.map(drop).map_err(|e| e.to_string()));
}
