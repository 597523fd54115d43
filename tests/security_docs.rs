//! docs/security.md: every row of the threat table has a test that exists, and the class that it ends in does what the
//! text says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use iamrole_operator::api::IamRoleClassSpec;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use support::{SOON, World, aws, ec2, eventually};

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let (text, fence) = (read("docs/security.md"), format!("```{language}\n"));
    let parts = text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    parts.collect()
}

fn manifest(part: &str) -> Value {
    let block = blocks("yaml").into_iter().find(|block| block.contains(part)).expect("a manifest");
    serde_saphyr::from_str(&block).expect("YAML")
}

#[test]
fn every_row_of_the_threat_table_names_tests_that_exist() {
    let text = read("docs/security.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(rows.len() >= 25, "{}", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [_, _, tests] = cells.as_slice() else { panic!("three cells: {row}") };
        let named: Vec<(&str, &str)> = tests.split('`').filter_map(|text| text.split_once("::")).collect();
        assert!(!named.is_empty(), "no test: {row}");
        for (file, test) in named {
            let code = read(&format!("tests/{file}.rs"));
            let (head, _) =
                code.split_once(&format!("fn {test}(")).unwrap_or_else(|| panic!("{file}::{test} is no test"));
            let attribute = head.trim_end().trim_end_matches("async").trim_end().lines().last().unwrap_or_default();
            let is_run = attribute.ends_with("test]") || attribute.starts_with("#[tokio::test(");
            assert!(is_run, "{file}::{test} is not run: {attribute}");
        }
    }
}

#[tokio::test]
async fn under_the_example_class_one_role_fits_and_the_other_is_refused_in_five_places() {
    let class = manifest("kind: IamRoleClass");
    let mut spec: IamRoleClassSpec = serde_json::from_value(class["spec"].clone()).unwrap();
    assert_eq!(class["metadata"]["annotations"]["iamrole.dev/is-default-class"], "true");
    let world = World::with_class("secure", |own| {
        spec.namespace_selector = own.namespace_selector.clone();
        spec.controller.clone_from(&own.controller);
        *own = spec;
    })
    .await;
    let [boundary] = blocks("json").try_into().expect("one boundary");
    // Another run may have made it.
    let _ = world.iam.create_policy().policy_name("tenant-boundary").policy_document(&boundary).send().await;

    world.create("uploads", manifest("name: uploads")["spec"].clone()).await;
    world.ready("uploads").await;
    let role = aws::role(&world.iam, &world.templated("uploads")).await.expect("the role");
    assert_eq!(role.boundary.as_deref(), Some("arn:aws:iam::123456789012:policy/tenant-boundary"));
    assert_eq!(role.path, format!("/tenants/{}/", world.namespace));
    assert_eq!(
        role.tags,
        [("namespace", world.namespace.as_str()), ("team", "shop")].map(|(k, v)| (k.into(), v.into())).into()
    );

    world.proxy.forget();
    world.create("climbs", manifest("name: climbs")["spec"].clone()).await;
    let message = world.reason("climbs", "NotAllowed").await;
    for field in [
        "spec.roleName: \"admin\" is not allowed: allowed.roleNames lists nothing",
        "spec.permissionsBoundary: \"arn:aws:iam::123456789012:policy/mine\" is not allowed: the class forces",
        "spec.trustPolicy.Statement[0].Principal.AWS: \"AWS:444455556666\" is not allowed",
        "spec.managedPolicies[0]: \"arn:aws:iam::aws:policy/AdministratorAccess\" is not allowed",
        "spec.inlinePolicies[0].document.Statement[0].Action: \"s3:*\" is not allowed: it includes actions of denied.actions",
    ] {
        assert!(message.contains(field), "{field}: {message}");
    }
    assert_eq!(message.matches("(IamRoleClass ").count(), 5, "five places: {message}");
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
}

/// The command of the text that begins so, for this namespace, with labels that are nobody else's.
fn command(begin: &str, world: &World) -> Vec<String> {
    let text = read("docs/security.md");
    let line = text.lines().map(str::trim).find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{begin}"));
    let line = line.replace("NAMESPACE", &world.namespace).replace("iamrole.dev/", &format!("{}/", world.namespace));
    line.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn run(command: &[String]) {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    support::kubectl::kubectl_ok(&words, "");
}

#[tokio::test]
async fn the_way_from_the_default_class_to_the_one_for_tenants_goes_as_written() {
    let mut world = World::without_operator("moves", |_| {}).await;
    let enabled = format!("{}/enabled", world.namespace);
    world.patch_class(json!({ "namespaceSelector": { "matchLabels": { &enabled: "true", "test": null } } })).await;
    world.operator.start().await;
    let text = read("README.md");
    let open = text.lines().find(|line| line.trim().starts_with("kubectl label namespace")).expect("step 3");
    assert!(open.contains("NAMESPACE iamrole.dev/enabled=true"), "the label that is taken off below: {open}");
    run(&["label", "namespace", &world.namespace, &format!("{enabled}=true")].map(str::to_owned));
    let old = json!({ "trustPolicy": ec2(), "managedPolicies": ["CloudWatchReadOnlyAccess"] });
    world.create("old", old.clone()).await;
    world.ready("old").await;

    let [boundary] = blocks("json").try_into().expect("one boundary");
    let _ = world.iam.create_policy().policy_name("tenant-boundary").policy_document(&boundary).send().await;
    let class = manifest("kind: IamRoleClass")
        .to_string()
        .replace("iamrole.dev/tenant", &format!("{}/tenant", world.namespace));
    let class: Value = serde_json::from_str(&class).unwrap();
    let mut spec: IamRoleClassSpec = serde_json::from_value(class["spec"].clone()).unwrap();
    spec.controller = Some(world.operator.controller.clone());
    let tenants = format!("{}-tenants", world.namespace);
    world.create_class(&tenants, spec, true).await;
    let ready = || async {
        let class = world.classes().get(&tenants).await.unwrap();
        let conditions = class.status.unwrap_or_default().conditions;
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    assert!(eventually(SOON, ready).await, "{}", world.operator.log());
    run(&command("kubectl label namespace", &world));
    world.create("uploads", manifest("name: uploads")["spec"].clone()).await;
    let made = world.ready("uploads").await.status.unwrap();
    assert_eq!(made.class.unwrap().name, tenants);

    world.check_now("old").await;
    world.reason("old", "NoClass").await;
    world.patch("old", json!({ "roleClassName": tenants })).await;
    world.reason("old", "IdentityImmutable").await;
    let moves = |path: Value, of: Value| Patch::Merge(json!({ "spec": { "path": path, "takeOverClasses": of } }));
    let here = class["spec"]["path"].clone();
    let patch = async |patch: Patch<Value>| {
        world.classes().patch(&tenants, &PatchParams::default(), &patch).await.expect("a patch")
    };
    patch(moves(Value::Null, Value::Null)).await;
    world.reason("old", "NotAllowed").await;
    patch(moves(Value::Null, json!([world.namespace]))).await;
    world.ready("old").await;
    let role = aws::role(&world.iam, &world.templated("old")).await.expect("the role");
    assert!(role.path == "/" && role.boundary.is_some(), "it moves as it is: {role:?}");
    patch(moves(here, Value::Null)).await;
    world.reason("old", "IdentityImmutable").await;
    world.delete("old").await;
    world.gone("old").await;
    world.create("old", old.clone()).await;
    world.ready("old").await;
    let role = aws::role(&world.iam, &world.templated("old")).await.expect("the role");
    assert_eq!(role.path, format!("/tenants/{}/", world.namespace));
    assert!(role.boundary.is_some());
}
