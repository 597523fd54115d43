//! The rules of a class at admission: the chart's `ValidatingAdmissionPolicy` refuses nothing that the operator allows,
//! names field and class, and is never in the way of a deletion.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::needless_pass_by_value, reason = "tables read better with json!() in place")]

mod admission_cases;
mod support;

use iamrole_operator::api::iamroleclass::Allowed;
use iamrole_operator::api::{IamRoleClassSpec, IamRoleSpec};
use iamrole_operator::policy::{AccountRef, Limits};
use iamrole_operator::role::desired::{Facts, desired};
use iamrole_operator::role::settings::settings;
use iamrole_operator::role::{Cluster, Owner};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use support::kubectl::{helm, kubectl, kubectl_ok};
use support::{SOON, World, aws, ec2, eventually, trust};

/// moto's.
const ACCOUNT: &str = "123456789012";

/// The chart's policy, for the world's namespace only, so that tests run side by side.
fn policy(world: &World) -> String {
    let chart = "charts/iamrole-operator";
    let name = format!("fullnameOverride={}", world.namespace);
    let output = helm(&[
        "template",
        "x",
        chart,
        "-s",
        "templates/admissionpolicy.yaml",
        "--set",
        "admissionPolicy.enabled=true",
        "--set",
        &name,
    ]);
    assert!(output.ok, "{}", output.stderr);
    let documents = output.stdout.split("\n---\n").map(|text| {
        let mut object: Value = serde_saphyr::from_str(text.trim_start_matches("---")).expect("YAML");
        if object["kind"] == "ValidatingAdmissionPolicyBinding" {
            object["spec"]["matchResources"] =
                json!({ "namespaceSelector": { "matchLabels": { "test": world.namespace } } });
        }
        object.to_string()
    });
    documents.collect::<Vec<_>>().join("\n---\n")
}

/// Installs the policy and waits until the API server knows it and all classes so far.
async fn install(world: &World) {
    kubectl_ok(&["apply", "-f", "-"], &policy(world));
    settle(world).await;
}

async fn uninstall(world: &World) {
    kubectl_ok(&["delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", &world.namespace], "");
    let gone = eventually(SOON, || async { dry_run(world, "probe", json!({ "roleClassName": probe(world) })).is_ok() });
    assert!(gone.await, "the API server forgets the policy");
}

fn probe(world: &World) -> String {
    format!("{}-probe", world.namespace)
}

/// The API server learns of classes in the order in which they were made and changed: once it knows a last one, it
/// knows all.
async fn settle(world: &World) {
    let name = probe(world);
    let _ = kubectl(&["delete", "--ignore-not-found", "iamroleclass", &name], "");
    let gone = || async { dry_run(world, "probe", json!({ "roleClassName": name, "roleName": "x" })).is_ok() };
    assert!(eventually(SOON, gone).await, "the last probe is forgotten");
    world.create_class(&name, of_world(world, json!({})), false).await;
    let known = || async { dry_run(world, "probe", json!({ "roleClassName": name, "roleName": "x" })).is_err() };
    assert!(eventually(SOON, known).await, "the policy never got active");
}

/// A class of the world's namespace that allows nothing but what is said.
fn of_world(world: &World, fields: Value) -> IamRoleClassSpec {
    let mut class = json!({
        "namespaceSelector": { "matchLabels": { "test": world.namespace } },
        "controller": world.operator.controller,
    });
    class.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    if class.get("permissionsBoundary").is_none() {
        class["unbounded"] = json!(true);
    }
    serde_json::from_value(class).expect("a class")
}

fn manifest(world: &World, name: &str, spec: Value) -> Value {
    let mut whole = json!({ "trustPolicy": ec2() });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({
        "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRole", "spec": whole,
        "metadata": { "name": name, "namespace": world.namespace },
    })
}

/// What the API server would say to a new object.
fn dry_run(world: &World, name: &str, spec: Value) -> Result<(), String> {
    let object = manifest(world, name, spec).to_string();
    let output = kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &object);
    if output.ok { Ok(()) } else { Err(output.stderr) }
}

/// What the operator would say: each refusal begins with its field.
fn operator(world: &World, name: &str, class: &IamRoleClassSpec, spec: Value) -> Vec<String> {
    let spec: IamRoleSpec = serde_json::from_value(manifest(world, name, spec)["spec"].clone()).expect("a spec");
    let cluster = Cluster::new(Some(&world.operator.cluster), "uid");
    let owner = Owner { cluster, namespace: world.namespace.clone(), name: name.into(), heir_of: Vec::new() };
    let account = AccountRef { partition: "aws".into(), id: ACCOUNT.into() };
    let settings = settings(&spec, Some(class), None, None);
    let facts = Facts {
        owner: &owner,
        account: &account,
        class_name: "c",
        class,
        boundaries: &[],
        limits: &Limits::default(),
        issuer: Some("kubernetes.default.svc"),
    };
    let problems = desired(&spec, &settings, facts).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).chain(settings.ignored.iter().map(ToString::to_string)).collect()
}

#[tokio::test]
async fn a_manifest_is_refused_at_apply_and_by_the_operator_without_the_policy() {
    let world = World::with_class("vap", |class| {
        class.allowed = Some(Allowed {
            managed_policies: vec!["ReadOnlyAccess".into()],
            trust_principals: vec!["Service:ec2.amazonaws.com".into()],
            ..Allowed::default()
        });
    })
    .await;
    let status = || async { world.classes().get(&world.namespace).await.unwrap().status.unwrap_or_default() };
    let known = || async { status().await.account_id.is_some() };
    assert!(eventually(SOON, known).await, "the class's account is known");
    install(&world).await;
    let wrong = json!({
        "roleName": "admin", "maxSessionDurationSeconds": 7200,
        "managedPolicies": ["ReadOnlyAccess", "AdministratorAccess"],
    });
    let object = manifest(&world, "app", wrong.clone()).to_string();
    let refused = kubectl(&["apply", "-f", "-"], &object);
    assert!(!refused.ok);
    for part in [
        "spec.roleName: \"admin\" is not allowed: allowed.roleNames lists nothing",
        "spec.managedPolicies: \"arn:aws:iam::aws:policy/AdministratorAccess\" is not allowed: allowed.managedPolicies \
         lists ReadOnlyAccess",
        "spec.maxSessionDurationSeconds: 7200 is not allowed: allowed.maxSessionDurationSeconds is 3600",
        &format!("(IamRoleClass {})", world.namespace),
    ] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert!(world.roles().get_opt("app").await.unwrap().is_none());

    kubectl_ok(
        &["apply", "-f", "-"],
        &manifest(&world, "fits", json!({ "managedPolicies": ["ReadOnlyAccess"] })).to_string(),
    );
    world.ready("fits").await;
    world.proxy.forget();
    uninstall(&world).await;
    kubectl_ok(&["apply", "-f", "-"], &object);
    let message = world.reason("app", "NotAllowed").await;
    for field in ["spec.roleName: ", "spec.managedPolicies[1]: ", "spec.maxSessionDurationSeconds: "] {
        assert!(message.contains(field), "{field}: {message}");
    }
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
    assert_eq!(aws::role(&world.iam, "admin").await, None);
}

/// Puts the namespace in where a text says NAMESPACE.
fn here(world: &World, value: &Value) -> Value {
    serde_json::from_str(&value.to_string().replace("NAMESPACE", &world.namespace)).unwrap()
}

#[tokio::test]
async fn policy_and_operator_agree_and_where_they_do_not_it_is_the_operator_who_refuses() {
    let world = World::without_operator("vap", |_| {}).await;
    let cases = admission_cases::all();
    assert!(cases.len() >= 30);
    for (i, (class, ..)) in cases.iter().enumerate() {
        let name = format!("{}-{i}", world.namespace);
        // An empty pattern can't be stored.
        let class = here(&world, class).to_string().replace("[\"\"]", "[]");
        world.create_class(&name, of_world(&world, serde_json::from_str(&class).unwrap()), false).await;
        let status = Patch::Merge(json!({ "status": { "accountId": ACCOUNT, "partition": "aws" } }));
        world.classes().patch_status(&name, &PatchParams::default(), &status).await.expect("a status");
    }
    install(&world).await;
    let mut refused = 0;
    for (i, (class, spec, field)) in cases.iter().enumerate() {
        let name = format!("{}-{i}", world.namespace);
        let (class, mut spec) = (of_world(&world, here(&world, class)), here(&world, spec));
        let said = operator(&world, "app", &class, spec.clone());
        spec["roleClassName"] = json!(name);
        let answer = dry_run(&world, "app", spec.clone());
        match (&answer, field) {
            (Ok(()), None) => {}
            (Err(message), Some(field)) => {
                refused += 1;
                assert!(
                    message.contains(field) && message.contains(&format!("(IamRoleClass {name})")),
                    "{spec}: {message}"
                );
                let field = field.split(": ").next().unwrap();
                assert!(said.iter().any(|said| said.starts_with(field)), "only the policy refuses {spec}: {said:?}");
            }
            _ => panic!("{spec} under {class:?}: {answer:?}; the operator says {said:?}"),
        }
    }
    assert!(refused >= 30, "{refused}");
    let classes: Vec<String> = (0..cases.len()).map(|i| format!("{}-{i}", world.namespace)).collect();
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    kubectl_ok(&[&["delete", "--wait=false", "iamroleclass"], &classes[..]].concat(), "");
    uninstall(&world).await;
}

#[tokio::test]
async fn the_class_in_use_is_found_as_the_operator_finds_it() {
    let world = World::without_operator("vap", |class| class.allowed = Some(Allowed::default())).await;
    let named = |suffix: &str| format!("{}-{suffix}", world.namespace);
    let selecting = |expressions: Value| {
        let mut class = of_world(&world, json!({}));
        class.namespace_selector = serde_json::from_value(json!({ "matchExpressions": expressions })).unwrap();
        class
    };
    let here = json!({ "key": "test", "operator": "In", "values": [world.namespace] });
    let elsewhere = json!({ "key": "test", "operator": "NotIn", "values": [world.namespace] });
    let classes = [
        ("open", of_world(&world, json!({ "allowed": Allowed::everything() }))),
        ("strict", of_world(&world, json!({}))),
        ("here", selecting(json!([here, { "key": "nope", "operator": "DoesNotExist" }]))),
        ("elsewhere", selecting(json!([elsewhere]))),
        ("unlabelled", selecting(json!([{ "key": "nope", "operator": "Exists" }]))),
    ];
    for (name, class) in &classes {
        world.create_class(&named(name), class.clone(), false).await;
    }
    install(&world).await;
    let wrong = |class: &str| {
        let mut spec = json!({ "suspend": true, "trustPolicy": ec2(), "path": "/x/" });
        if !class.is_empty() {
            spec["roleClassName"] = json!(named(class));
        }
        dry_run(&world, "app", spec)
    };
    for (class, refused) in [
        ("", true),
        ("open", false),
        ("strict", true),
        ("here", true),
        ("elsewhere", false),
        ("unlabelled", false),
        ("gone", false),
    ] {
        let answer = wrong(class);
        assert_eq!(answer.is_err(), refused, "{class}: {answer:?}");
        let name = if class.is_empty() { world.namespace.clone() } else { named(class) };
        assert!(answer.err().is_none_or(|message| message.contains(&format!("(IamRoleClass {name})"))));
    }

    // Remembered: what status names counts before the default.
    world.create("app", json!({ "trustPolicy": ec2(), "roleClassName": named("open") })).await;
    let status = json!({ "status": { "class": { "name": named("open"), "uid": "u", "observedGeneration": 1 } } });
    world.raw_roles().patch_status("app", &PatchParams::default(), &Patch::Merge(status)).await.expect("a status");
    let error = world.try_patch("app", json!({ "roleClassName": named("strict"), "suspend": true })).await.unwrap_err();
    assert!(error.contains("spec.suspend") && error.contains(&named("strict")), "{error}");
    world.patch("app", json!({ "roleClassName": null, "suspend": true })).await;
    uninstall(&world).await;
}

#[tokio::test]
async fn a_stricter_class_blocks_no_correction_and_no_deletion() {
    let world = World::with_class("vap", |_| {}).await;
    let spec = json!({
        "roleName": format!("{}-app", world.namespace), "trustPolicy": ec2(), "path": "/x/", "tags": { "Team": "a" },
        "managedPolicies": ["ReadOnlyAccess", "SecurityAudit"],
        "inlinePolicies": [{ "name": "old", "document": support::allow("s3:Get*") }],
    });
    world.create("app", spec.clone()).await;
    world.ready("app").await;
    world.patch_class(json!({ "allowed": null })).await;
    world.reason("app", "NotAllowed").await;
    install(&world).await;

    for metadata in [
        json!({ "labels": { "team": "a" } }),
        json!({ "annotations": { "iamrole.dev/reconcile-requested-at": "now", "iamrole.dev/suspend": "false" } }),
        json!({ "finalizers": ["iamrole.dev/finalizer", "example.com/mine"] }),
        json!({ "finalizers": ["iamrole.dev/finalizer"] }),
    ] {
        world.patch_object("app", json!({ "metadata": metadata })).await.expect("no spec");
    }
    let status = Patch::Merge(json!({ "status": { "accountId": ACCOUNT } }));
    world.raw_roles().patch_status("app", &PatchParams::default(), &status).await.expect("status");
    for (patch, field) in [
        (json!({ "spec": { "managedPolicies": ["ReadOnlyAccess", "AdministratorAccess"] } }), "spec.managedPolicies"),
        (json!({ "spec": { "tags": { "Cost": "b" } } }), "spec.tags"),
        (json!({ "spec": { "instanceProfile": {} } }), "spec.instanceProfile: {}"),
        (
            json!({ "spec": { "inlinePolicies": [{ "name": "new", "document": support::allow("s3:Get*") }] } }),
            "spec.inlinePolicies: \"new\"",
        ),
        (
            json!({ "metadata": { "annotations": { "iamrole.dev/suspend": "x".repeat(100) } } }),
            &format!("iamrole.dev/suspend: \"{}\" is not allowed", "x".repeat(64)),
        ),
    ] {
        let error = world.patch_object("app", patch).await.unwrap_err();
        assert!(error.contains(field) && !error.contains("spec.roleName"), "only what is new: {error}");
    }
    world.patch("app", json!({ "managedPolicies": ["ReadOnlyAccess"] })).await;
    world.patch("app", json!({ "description": "as before", "tags": null })).await;

    world
        .raw_roles()
        .patch(
            "app",
            &PatchParams::default(),
            &Patch::Merge(json!({ "metadata": { "finalizers": ["iamrole.dev/finalizer", "example.com/mine"] } })),
        )
        .await
        .expect("a finalizer");
    world.delete("app").await;
    world.patch("app", json!({ "deletionPolicy": "ForceDelete", "tags": { "Cost": "b" } })).await;
    world.patch_object("app", json!({ "metadata": { "finalizers": ["iamrole.dev/finalizer"] } })).await.ok();
    let mine_goes = || async {
        let patch = json!({ "metadata": { "finalizers": null } });
        let left = world.roles().get_opt("app").await.unwrap();
        match left {
            Some(role) if role.metadata.finalizers.as_deref() == Some(&["example.com/mine".to_owned()]) => {
                world.patch_object("app", patch).await.is_ok()
            }
            Some(_) => false,
            None => true,
        }
    };
    assert!(eventually(SOON, mine_goes).await);
    world.gone("app").await;
    assert_eq!(aws::role(&world.iam, &format!("{}-app", world.namespace)).await, None);
    uninstall(&world).await;
}

#[tokio::test]
async fn a_huge_class_uses_up_no_budget_and_odd_documents_are_no_error() {
    let world = World::without_operator("vap", |class| class.allowed = None).await;
    let long = |i: usize, of: &str, many: usize| format!("{}{i}", of.repeat(many));
    let patterns = |of: &str, many: usize| -> Vec<String> { (0..50).map(|i| long(i, of, many)).collect() };
    for (name, patterns) in [
        ("stars", patterns("*a", 1000)),
        ("edge", patterns("*a", 195)),
        ("plain", patterns("arn", 680)),
        ("slashes", patterns("\\", 2000)),
    ] {
        let mut lists: Vec<String> = patterns;
        lists[49] = "*".into();
        let all = json!({
            "roleNames": lists, "paths": lists, "managedPolicies": lists, "trustPrincipals": lists, "tagKeys": lists,
            "policyNames": lists, "customerManagedPolicies": true,
        });
        let class = json!({ "allowed": all, "denied": { "managedPolicies": lists[..49] } });
        world.create_class(&format!("{}-{name}", world.namespace), of_world(&world, class), false).await;
    }
    install(&world).await;
    let services: Vec<String> = (0..40).map(|i| format!("service-{i}.{}.amazonaws.com", "x".repeat(500))).collect();
    let statement = json!({ "Effect": "Allow", "Principal": { "Service": services }, "Action": "sts:AssumeRole" });
    let big = json!({
        "roleName": "r".repeat(64), "path": format!("/{}/", "p".repeat(500)),
        "managedPolicies": (0..30).map(|i| format!("arn:aws:iam::aws:policy/{}", long(i, "p", 2000))).collect::<Vec<_>>(),
        "trustPolicy": { "Version": "2012-10-17", "Statement": vec![statement; 3] },
        "tags": (0..34).map(|i| (long(i, "k", 120), json!("v"))).collect::<serde_json::Map<_, _>>(),
    });
    for name in ["stars", "edge", "plain", "slashes"] {
        let mut spec = big.clone();
        spec["roleClassName"] = json!(format!("{}-{name}", world.namespace));
        let answer = dry_run(&world, "app", spec);
        assert!(
            answer.as_ref().err().is_none_or(|error| !error.contains("budget") && !error.contains("expression")),
            "{name}: {answer:?}"
        );
        assert!(answer.is_ok(), "{name}: {answer:?}");
    }
    for principal in
        [json!(7), json!([]), json!("*"), json!({ "Service": [7, null, ["x"]] }), json!({ "AWS": {} }), Value::Null]
    {
        for effect in [json!("Allow"), json!("allow")] {
            let statement = json!({ "Effect": effect, "Principal": principal, "Action": [] });
            let trust = json!({ "Version": "2012-10-17", "Statement": [statement, {}] });
            let answer = dry_run(&world, "app", json!({ "trustPolicy": trust }));
            assert!(answer.is_ok(), "the operator tells what is wrong with {principal}: {answer:?}");
        }
    }
    let json = json!({ "trustPolicy": null, "trustPolicyJson": trust(&json!({ "AWS": "*" })).to_string() });
    assert_eq!(dry_run(&world, "app", json), Ok(()), "text is for the operator");
    uninstall(&world).await;
}
