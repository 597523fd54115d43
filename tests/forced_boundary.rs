//! A user with every right on `IamRole`s and their status in his namespace, and none on classes, gets no role out of the
//! boundary that its class forces, nor under a wider one. Each attack is judged by what AWS has afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
mod tenants;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use support::proxy::Fault;
use support::{SOON, World, allow, aws, ec2, eventually, every};
use tenants::{Tenants, policy_arn};

fn role() -> Value {
    json!({ "trustPolicy": ec2() })
}

/// Everything is allowed.
fn all() -> Value {
    json!([{ "name": "all", "document": allow("*") }])
}

/// Tenants of a class that forces this boundary.
async fn under(boundary: &str) -> Tenants {
    Tenants::new(|class| {
        class.unbounded = None;
        class.permissions_boundary = Some(boundary.to_owned());
    })
    .await
}

/// The boundary of the role of `app`; empty without one.
async fn boundary(world: &World) -> String {
    let role = aws::role(&world.iam, &world.templated("app")).await.expect("his role");
    role.boundary.unwrap_or_default()
}

#[tokio::test]
async fn a_wiped_status_is_no_way_out_of_the_forced_boundary() {
    let boundary = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    let forced = json!({ "unbounded": null, "permissionsBoundary": boundary });
    let refused = json!({ "permissionsBoundary": "arn:aws:iam::aws:policy/AdministratorAccess" });
    for forged in [Value::Null, json!({ "role": { "name": "another", "path": "/", "id": "AROAX" } })] {
        let tenants = Tenants::new(|_| {}).await;
        let attacker = &tenants.attacker;
        attacker.create("app", role()).await;
        attacker.ready("app").await;
        attacker.patch("app", refused.clone()).await;
        attacker.ready("app").await;
        tenants.forge("app", forged).await;
        tenants.admin.patch_class(forced.clone()).await;
        attacker.reason("app", "NotAllowed").await;
        let role = aws::role(&attacker.iam, &attacker.templated("app")).await.expect("his role");
        assert_eq!(role.boundary.as_deref(), Some(boundary));
    }
}

#[tokio::test]
async fn nor_is_a_wiped_status_where_the_role_lies_at_another_path_by_now() {
    let boundary = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    let tenants = Tenants::new(|_| {}).await;
    let attacker = &tenants.attacker;
    attacker.create("app", role()).await;
    attacker.ready("app").await;
    attacker.patch("app", json!({ "suspend": true })).await;
    attacker.condition("app", "Ready", "Unknown", Some("Suspended")).await;
    tenants.forge("app", Value::Null).await;
    let locked = json!({ "unbounded": null, "permissionsBoundary": boundary, "path": "/tenants/$(namespace)/",
        "allowed": { "suspend": false } });
    tenants.admin.patch_class(locked).await;
    attacker.reason("app", "IdentityImmutable").await;
    let bounded = || async {
        let role = aws::role(&attacker.iam, &attacker.templated("app")).await.expect("his role");
        role.boundary.as_deref() == Some(boundary)
    };
    assert!(eventually(SOON, bounded).await, "{}", tenants.admin.operator.log());
}

#[tokio::test]
async fn nor_is_a_lost_claim() {
    let boundary = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    let tenants = under(boundary).await;
    let attacker = &tenants.attacker;
    let name = format!("own-{}", attacker.namespace);
    attacker.create("elder", json!({ "roleName": name, "trustPolicy": ec2(), "suspend": true })).await;
    attacker.condition("elder", "Ready", "Unknown", Some("Suspended")).await;
    attacker.create("app", json!({ "roleName": name, "trustPolicy": ec2() })).await;
    attacker.ready("app").await;
    attacker.patch("app", json!({ "suspend": true })).await;
    attacker.condition("app", "Ready", "Unknown", Some("Suspended")).await;
    tenants.forge("app", Value::Null).await;
    attacker.patch("elder", json!({ "suspend": false })).await;
    attacker.reason("elder", "RoleOwnedByOther").await;
    attacker.iam.delete_role_permissions_boundary().role_name(&name).send().await.expect("no boundary");
    attacker.patch("app", json!({ "suspend": false })).await;
    attacker.ready("app").await;
    let role = aws::role(&attacker.iam, &name).await.expect("his role");
    assert_eq!(role.boundary.as_deref(), Some(boundary));
}

#[tokio::test]
async fn a_forced_boundary_that_is_taken_off_or_replaced_is_put_back_first_of_all() {
    let boundary = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    let tenants = under(boundary).await;
    let attacker = &tenants.attacker;
    attacker.create("app", role()).await;
    attacker.ready("app").await;
    let name = attacker.templated("app");
    for replaced in [None, Some("arn:aws:iam::aws:policy/AdministratorAccess")] {
        let iam = &attacker.iam;
        match replaced {
            None => drop(iam.delete_role_permissions_boundary().role_name(&name).send().await.expect("no boundary")),
            Some(arn) => {
                let call = iam.put_role_permissions_boundary().role_name(&name).permissions_boundary(arn);
                call.send().await.expect("another boundary");
            }
        }
        aws::attach(iam, &name, "arn:aws:iam::aws:policy/AdministratorAccess").await;
        attacker.proxy.forget();
        attacker.check_now("app").await;
        assert_eq!(attacker.proxy.writes(), ["PutRolePermissionsBoundary", "DetachRolePolicy"]);
        let role = aws::role(iam, &name).await.expect("the role");
        assert_eq!((role.boundary.as_deref(), role.attached.len()), (Some(boundary), 0));
    }
}

#[tokio::test]
async fn what_a_class_forced_in_an_attempt_that_nobody_noted_goes_with_it() {
    let mut world = World::new("forced").await;
    world.create("app", role()).await;
    world.ready("app").await;
    let name = world.templated("app");
    world.patch("app", json!({ "inlinePolicies": [{ "name": "bad", "document": allow("no-service") }] })).await;
    world.reason("app", "InvalidSpec").await;
    world.proxy.fault("PutRolePermissionsBoundary", &name, 1, Fault::Delay(Duration::from_secs(2)));
    world
        .patch_class(json!({ "unbounded": null, "permissionsBoundary": "arn:aws:iam::aws:policy/ReadOnlyAccess" }))
        .await;
    assert!(
        eventually(SOON, || async { world.proxy.count_of("PutRolePermissionsBoundary") > 0 }).await,
        "{}",
        world.operator.log()
    );
    world.operator.kill().await;
    assert!(eventually(SOON, || async { world.proxy.under_way() == 0 }).await, "what was delayed arrives");
    assert!(boundary(&world).await.ends_with("/ReadOnlyAccess"));
    world.patch_class(json!({ "unbounded": true, "permissionsBoundary": null })).await;
    world.operator.start().await;
    world.patch("app", json!({ "inlinePolicies": null })).await;
    world.ready("app").await;
    assert_eq!(boundary(&world).await, "");
}

#[tokio::test]
async fn a_class_that_does_not_select_the_namespace_gives_no_boundary_in_place_of_its_own() {
    let (own, wider) = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::aws:policy/PowerUserAccess");
    let tenants = under(own).await;
    let attacker = &tenants.attacker;
    let platform = format!("{}-platform", attacker.namespace);
    let mut spec = tenants.admin.classes().get(&attacker.namespace).await.unwrap().spec;
    spec.namespace_selector.match_labels.insert("platform".to_owned(), "yes".to_owned());
    spec.permissions_boundary = Some(wider.to_owned());
    tenants.admin.create_class(&platform, spec, false).await;

    let mut wanted = role();
    wanted["inlinePolicies"] = all();
    wanted["deletionPolicy"] = json!("Retain");
    attacker.create("app", wanted).await;
    attacker.ready("app").await;
    let name = attacker.templated("app");
    attacker.delete("app").await;
    attacker.gone("app").await;
    let again = json!({ "roleClassName": platform, "roleName": name, "trustPolicy": ec2(), "deletionPolicy": "Delete",
        "whenUnlisted": "Keep" });
    attacker.create("app", again).await;
    attacker.reason("app", "NoClass").await;
    let held = json!({ "metadata": { "finalizers": [iamrole_operator::api::FINALIZER] } });
    attacker.patch_object("app", held).await.expect("his own object");
    attacker.delete("app").await;
    attacker.reason("app", "DeleteBlocked").await;
    attacker.request_check("app").await;
    attacker
        .until("app", "another look", |role| {
            role.status.as_ref().is_some_and(|status| status.last_handled_reconcile_at.is_some())
        })
        .await;
    let role = aws::role(&attacker.iam, &name).await.expect("the role");
    assert_eq!(role.boundary.as_deref(), Some(own));
}

#[tokio::test]
async fn a_class_that_refuses_the_role_gives_no_boundary_in_place_of_the_others() {
    let (narrow, wide) = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::aws:policy/PowerUserAccess");
    let tenants = under(narrow).await;
    let attacker = &tenants.attacker;
    let strict = strict_class(&tenants, wide).await;
    let mut wanted = role();
    wanted["inlinePolicies"] = all();
    attacker.create("app", wanted).await;
    attacker.ready("app").await;
    let boundary = || boundary(attacker);
    attacker.patch("app", json!({ "roleClassName": strict })).await;
    attacker.reason("app", "NotAllowed").await;
    attacker.check_now("app").await;
    assert_eq!(boundary().await, narrow, "what it may do was let in under that one");
    attacker.patch("app", json!({ "inlinePolicies": null })).await;
    attacker.reason("app", "NotAllowed").await;
    attacker.check_now("app").await;
    assert_eq!(boundary().await, narrow, "nor where its spec is in order, since it is still the other's");
}

/// The tenants' class forces another boundary, and the operator knows it.
async fn force(tenants: &Tenants, boundary: &str) {
    tenants.admin.patch_class(json!({ "permissionsBoundary": boundary })).await;
    let known = || async {
        let class = tenants.admin.classes().get(&tenants.attacker.namespace).await.unwrap();
        class.status.and_then(|status| status.observed_generation) == class.metadata.generation
    };
    assert!(eventually(SOON, known).await, "{}", tenants.admin.operator.log());
}

/// Another class of the tenants: a wide boundary, and little that it lets in under that. Returns its name.
async fn strict_class(tenants: &Tenants, wide: &str) -> String {
    let own = &tenants.attacker.namespace;
    let strict = format!("{own}-strict");
    let mut spec = tenants.admin.classes().get(own).await.unwrap().spec;
    spec.unbounded = None;
    spec.permissions_boundary = Some(wide.to_owned());
    let allowed = spec.allowed.as_mut().unwrap();
    allowed.actions = vec!["dynamodb:Get*".into()];
    allowed.managed_policies = vec![policy_arn("*")];
    tenants.admin.create_class(&strict, spec, false).await;
    strict
}

#[tokio::test]
async fn a_role_that_is_parked_while_its_class_changes_gets_no_wider_boundary_from_another() {
    let policy = |name: &str| format!("arn:aws:iam::aws:policy/{name}");
    let (narrow, later, wide) = (policy("ReadOnlyAccess"), policy("SecurityAudit"), policy("PowerUserAccess"));
    for wiped in [false, true] {
        let tenants = under(&narrow).await;
        let attacker = &tenants.attacker;
        let strict = strict_class(&tenants, &wide).await;
        let mut wanted = role();
        wanted["inlinePolicies"] = all();
        attacker.create("app", wanted).await;
        attacker.ready("app").await;
        let boundary = || boundary(attacker);
        attacker.patch("app", json!({ "roleClassName": "nope" })).await;
        attacker.reason("app", "NoClass").await;
        force(&tenants, &later).await;
        if wiped {
            tenants.forge("app", Value::Null).await;
        }
        attacker.patch("app", json!({ "roleClassName": strict })).await;
        attacker.reason("app", "NotAllowed").await;
        attacker.check_now("app").await;
        assert_eq!(boundary().await, later, "what the class forces by now that let it in: {wiped}");
    }
}

/// What AWS has of the role of `app`: its boundary, its inline policies, and the class that let them in.
async fn held(world: &World) -> (String, usize, String) {
    let role = aws::role(&world.iam, &world.templated("app")).await.expect("his role");
    (role.boundary.unwrap_or_default(), role.inline.len(), role.owner_tags["iamrole.dev/class"].clone())
}

#[tokio::test]
async fn what_one_class_lets_in_passes_to_another_only_where_that_takes_it_over() {
    let (narrow, wide) = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::aws:policy/PowerUserAccess");
    for retained in [true, false] {
        let tenants = under(narrow).await;
        let attacker = &tenants.attacker;
        let (own, strict) = (attacker.namespace.clone(), strict_class(&tenants, wide).await);
        let mut wanted = role();
        wanted["inlinePolicies"] = all();
        wanted["deletionPolicy"] = json!("Retain");
        attacker.create("app", wanted).await;
        attacker.ready("app").await;
        let before = (narrow.to_owned(), 1, own.clone());
        assert_eq!(held(attacker).await, before);
        let fails = json!([policy_arn("not-there")]);
        let moved = json!({ "roleClassName": strict, "trustPolicy": ec2(), "whenUnlisted": "Keep" });
        if retained {
            attacker.delete("app").await;
            attacker.gone("app").await;
            attacker.create("app", moved).await;
        } else {
            let moved = json!({ "roleClassName": strict, "inlinePolicies": null, "managedPolicies": fails });
            attacker.patch("app", moved).await;
        }
        let message = attacker.reason("app", "NotAllowed").await;
        assert!(message.contains(&format!("takeOverClasses of {strict}")), "{message}");
        // With any status, any mode, and anything unlisted.
        for status in [json!({ "inlinePolicies": ["all"], "permissionsBoundary": narrow }), Value::Null] {
            tenants.forge("app", status).await;
            for change in [json!({ "mode": "Observe" }), json!({ "mode": null, "whenUnlisted": "Remove" })] {
                attacker.patch("app", change).await;
                attacker.proxy.forget();
                attacker.check_now("app").await;
                let writes = attacker.proxy.writes();
                assert!(
                    writes.iter().all(|call| call == "CreateRole"),
                    "looked for, since status says nothing: {writes:?}"
                );
                assert_eq!(held(attacker).await, before, "{retained}");
            }
        }
        let taken = json!({ "spec": { "takeOverClasses": [own] } });
        tenants.admin.classes().patch(&strict, &PatchParams::default(), &Patch::Merge(taken)).await.expect("the leave");
        attacker.patch("app", json!({ "whenUnlisted": null, "managedPolicies": null })).await;
        attacker.ready("app").await;
        assert_eq!(held(attacker).await, (wide.to_owned(), 0, strict));
    }
}

#[tokio::test]
async fn a_role_whose_object_names_another_class_keeps_the_boundary_of_the_one_that_made_it() {
    let [narrow, later, wide] =
        ["ReadOnlyAccess", "SecurityAudit", "PowerUserAccess"].map(|name| format!("arn:aws:iam::aws:policy/{name}"));
    // The class that made the role forces a boundary or none; so does the one that is named then.
    for (made, named) in [(true, true), (true, false), (false, true)] {
        let tenants = Tenants::new(|class| {
            class.unbounded = (!made).then_some(true);
            class.permissions_boundary = made.then(|| narrow.clone());
            class.drift_check = every(60);
        })
        .await;
        let attacker = &tenants.attacker;
        let other = strict_class(&tenants, &wide).await;
        let rarely = json!({ "spec": { "driftCheck": { "intervalSeconds": 86400 } } });
        tenants.admin.classes().patch(&other, &PatchParams::default(), &Patch::Merge(rarely)).await.expect("it");
        if !named {
            let unbounded = json!({ "spec": { "unbounded": true, "permissionsBoundary": null } });
            tenants.admin.classes().patch(&other, &PatchParams::default(), &Patch::Merge(unbounded)).await.expect("it");
        }
        attacker.create("app", role()).await;
        attacker.ready("app").await;
        attacker.patch("app", json!({ "roleClassName": other })).await;
        attacker.reason("app", "NotAllowed").await;
        attacker.check_now("app").await;
        let before = if made { narrow.clone() } else { String::new() };
        assert_eq!(boundary(attacker).await, before, "{made} {named}");
        if !made {
            continue;
        }
        let name = attacker.templated("app");
        attacker.iam.delete_role_permissions_boundary().role_name(&name).send().await.expect("no boundary");
        attacker.check_now("app").await;
        assert_eq!(boundary(attacker).await, narrow, "{made} {named}");
        force(&tenants, &later).await;
        let tightened = || async { boundary(attacker).await == later };
        assert!(eventually(SOON, tightened).await, "{made} {named}: {}", tenants.admin.operator.log());
    }
}

/// Each edit makes the write of status fail that comes before a change in AWS.
#[tokio::test]
async fn who_edits_his_object_all_the_time_does_not_put_off_the_boundary() {
    let (old, new) = ("arn:aws:iam::aws:policy/PowerUserAccess", "arn:aws:iam::aws:policy/ReadOnlyAccess");
    let tenants = Tenants::new(|class| {
        class.unbounded = None;
        class.permissions_boundary = Some(old.to_owned());
        class.drift_check = every(10);
    })
    .await;
    let attacker = &tenants.attacker;
    attacker.create("app", role()).await;
    attacker.ready("app").await;
    let label = |i: u64| json!({ "metadata": { "labels": { "i": i.to_string() } } });
    let spec = |i: u64| json!({ "spec": { "description": i.to_string() } });
    let ways: [(&dyn Fn(u64) -> Value, &str); 2] = [(&label, new), (&spec, old)];
    for (edit, wanted) in ways {
        let edits = async {
            for i in 0_u64.. {
                attacker.patch_object("app", edit(i)).await.expect("it");
            }
        };
        let bounded = async {
            force(&tenants, wanted).await;
            eventually(Duration::from_secs(40), || async { boundary(attacker).await == wanted }).await
        };
        tokio::select! {
            () = edits => unreachable!("it goes on"),
            bounded = bounded => assert!(bounded, "{wanted}: {}", tenants.admin.operator.log()),
        }
    }
}

#[tokio::test]
async fn observing_under_another_class_changes_nothing_that_the_role_belongs_to() {
    let (narrow, wide) = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::aws:policy/PowerUserAccess");
    let tenants = under(narrow).await;
    let attacker = &tenants.attacker;
    let (own, other) = (attacker.namespace.clone(), strict_class(&tenants, wide).await);
    attacker.create("app", role()).await;
    attacker.ready("app").await;
    attacker.patch("app", json!({ "roleClassName": other, "mode": "Observe" })).await;
    let message = attacker.reason("app", "NotAllowed").await;
    assert!(message.contains("takeOverClasses"), "{message}");
    let status = attacker.get("app").await.status.unwrap();
    assert_eq!(status.class.unwrap().name, own);
    assert_eq!(boundary(attacker).await, narrow);
    attacker.patch("app", json!({ "roleClassName": null, "mode": null })).await;
    attacker.ready("app").await;
}

#[tokio::test]
async fn a_policy_that_another_class_let_in_is_not_rewritten_through_a_second_role() {
    let (narrow, wide) = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::aws:policy/PowerUserAccess");
    let tenants = under(narrow).await;
    let attacker = &tenants.attacker;
    let strict = strict_class(&tenants, wide).await;
    let named = |name: &str, class: Option<&str>, action: &str| {
        let policy =
            json!([{ "name": "own", "policyName": format!("{}-own", attacker.namespace), "document": allow(action) }]);
        json!({ "roleClassName": class, "roleName": format!("{}-{name}", attacker.namespace), "trustPolicy": ec2(),
            "customerManagedPolicies": policy, "deletionPolicy": "Retain" })
    };
    attacker.create("app", named("wide", Some(&strict), "dynamodb:GetItem")).await;
    attacker.ready("app").await;
    attacker.delete("app").await;
    attacker.gone("app").await;
    attacker.create("app", named("narrow", None, "*")).await;
    let message = attacker.reason("app", "PolicyNameTaken").await;
    assert!(message.contains(&strict), "{message}");
    let policy = aws::policy(&attacker.iam, &policy_arn(&format!("{}-own", attacker.namespace))).await.expect("it");
    assert_eq!(policy.document, allow("dynamodb:GetItem"));
}

#[tokio::test]
async fn a_boundary_of_one_class_is_no_policy_of_a_role_of_another() {
    let tenants = under("arn:aws:iam::aws:policy/ReadOnlyAccess").await;
    let attacker = &tenants.attacker;
    let pattern = policy_arn(&format!("{}-boundary-$(name)", attacker.namespace));
    strict_class(&tenants, &pattern).await;
    let name = format!("{}-boundary-x", attacker.namespace);
    let own = json!([{ "name": "own", "policyName": name, "document": allow("*") }]);
    attacker.create("app", json!({ "trustPolicy": ec2(), "customerManagedPolicies": own })).await;
    let message = attacker.reason("app", "NotAllowed").await;
    assert!(message.contains("boundary that a class forces"), "{message}");
    assert!(aws::policy(&attacker.iam, &policy_arn(&name)).await.is_none());
}

#[tokio::test]
async fn a_tightened_boundary_reaches_a_refused_role_also_where_another_class_forces_the_old_one() {
    let (old, new) = ("arn:aws:iam::aws:policy/PowerUserAccess", "arn:aws:iam::aws:policy/ReadOnlyAccess");
    let tenants = under(old).await;
    let attacker = &tenants.attacker;
    let spec = tenants.admin.classes().get(&attacker.namespace).await.unwrap().spec;
    tenants.admin.create_class(&format!("{}-other", attacker.namespace), spec, false).await;
    attacker.create("app", role()).await;
    attacker.ready("app").await;
    attacker.patch("app", json!({ "permissionsBoundary": "arn:aws:iam::aws:policy/AdministratorAccess" })).await;
    attacker.reason("app", "NotAllowed").await;
    tenants.admin.patch_class(json!({ "permissionsBoundary": new })).await;
    let tightened = || async {
        let role = aws::role(&attacker.iam, &attacker.templated("app")).await.expect("his role");
        role.boundary.as_deref() == Some(new)
    };
    assert!(eventually(SOON, tightened).await, "{}", tenants.admin.operator.log());
}
