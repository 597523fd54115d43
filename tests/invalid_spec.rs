//! What a schema can't see is found by the operator before it calls AWS: `InvalidSpec`, the field's path, what
//! to write instead. Once it is corrected, it heals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::{World, allow, condition, ec2, eventually, trust};

/// A mistake in a spec.
struct Case {
    name: &'static str,
    spec: Value,
    /// The beginning of the message.
    path: &'static str,
    /// What it also says.
    says: Vec<&'static str>,
}

fn case(name: &'static str, spec: Value, path: &'static str, says: &[&'static str]) -> Case {
    Case { name, spec, path, says: says.to_vec() }
}

fn trusting(trust: &Value) -> Value {
    json!({ "trustPolicy": trust })
}

fn inline(document: &Value) -> Value {
    json!({ "trustPolicy": ec2(), "inlinePolicies": [{ "name": "p", "document": document }] })
}

fn inline_json(text: &str) -> Value {
    json!({ "trustPolicy": ec2(), "inlinePolicies": [{ "name": "p", "documentJson": text }] })
}

/// A document whose only statement is changed.
fn changed(mut document: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut document["Statement"][0]);
    document
}

/// A document of about so many characters without white space.
fn big(size: usize) -> Value {
    let resources: Vec<String> = (0..size / 40).map(|i| format!("arn:aws:s3:::{i:024}/*")).collect();
    changed(allow("s3:GetObject"), |statement| statement["Resource"] = json!(resources))
}

const IN: &str = "spec.inlinePolicies[0].document.Statement[0]";

#[allow(clippy::too_many_lines, reason = "a table")]
fn documents() -> Vec<Case> {
    let text = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [,]\n}";
    let twice = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}"#;
    let twice_in_condition = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "true", "aws:SecureTransport": "false"}}}]}"#;
    vec![
        case("no-json", inline_json(text), "spec.inlinePolicies[0].documentJson", &["no JSON", "line 3, column 17"]),
        case("empty", inline_json(" "), "spec.inlinePolicies[0].documentJson", &["no JSON", "line 1, column"]),
        case("encoded", inline_json("%7B%22Version%22%3A"), "spec.inlinePolicies[0].documentJson", &["plain JSON"]),
        case(
            "twice",
            inline_json(twice),
            "spec.inlinePolicies[0].documentJson.Statement[0].Effect",
            &["twice", "keep one"],
        ),
        case(
            "twice-deep",
            inline_json(twice_in_condition),
            "spec.inlinePolicies[0].documentJson.Statement[0].Condition.Bool[\"aws:SecureTransport\"]",
            &["twice", "line 1"],
        ),
        case("list", inline_json("[]"), "spec.inlinePolicies[0].documentJson", &["one object"]),
    ]
}

fn statements() -> Vec<Case> {
    vec![
        case(
            "conditions",
            trusting(&changed(ec2(), |s| s["Conditions"] = json!({ "Bool": { "a:b": "true" } }))),
            "spec.trustPolicy.Statement[0].Conditions",
            &["unknown key", "did you mean `Condition`?"],
        ),
        case(
            "lower-case",
            inline(&changed(allow("s3:*"), |s| s["action"] = json!("sqs:*"))),
            "spec.inlinePolicies[0].document.Statement[0].action",
            &["did you mean `Action`?"],
        ),
        case(
            "statements",
            inline(&json!({ "Version": "2012-10-17", "Statements": [] })),
            "spec.inlinePolicies[0].document.Statements",
            &["did you mean `Statement`?"],
        ),
        case(
            "comment",
            inline(&changed(allow("s3:*"), |s| s["Comment"] = json!("why"))),
            "spec.inlinePolicies[0].document.Statement[0].Comment",
            &["known here are", "`Sid`"],
        ),
        case(
            "effect",
            inline(&changed(allow("s3:*"), |s| s["Effect"] = json!("allow"))),
            "spec.inlinePolicies[0].document.Statement[0].Effect",
            &["write `Allow`", "case matters"],
        ),
        case(
            "permit",
            inline(&changed(allow("s3:*"), |s| s["Effect"] = json!("Permit"))),
            "spec.inlinePolicies[0].document.Statement[0].Effect",
            &["write `Allow` or `Deny`"],
        ),
        case(
            "no-action",
            inline(&changed(allow("s3:*"), |s| drop(s.as_object_mut().unwrap().remove("Action")))),
            IN,
            &["`Action` is missing"],
        ),
        case(
            "no-resource",
            inline(&changed(allow("s3:*"), |s| drop(s.as_object_mut().unwrap().remove("Resource")))),
            IN,
            &["`Resource` is missing"],
        ),
        case(
            "bad-action",
            inline(&allow("s3GetObject")),
            "spec.inlinePolicies[0].document.Statement[0].Action",
            &["`SERVICE:ACTION`"],
        ),
        case(
            "bad-resource",
            inline(&changed(allow("s3:*"), |s| s["Resource"] = json!("my-bucket"))),
            "spec.inlinePolicies[0].document.Statement[0].Resource",
            &["write an ARN"],
        ),
    ]
}

fn principals() -> Vec<Case> {
    vec![
        case(
            "principal",
            inline(&changed(allow("s3:*"), |s| s["Principal"] = json!("*"))),
            "spec.inlinePolicies[0].document.Statement[0].Principal",
            &["names no principal", "leave it out"],
        ),
        case(
            "no-principal",
            trusting(&changed(ec2(), |s| drop(s.as_object_mut().unwrap().remove("Principal")))),
            "spec.trustPolicy.Statement[0]",
            &["`Principal` is missing"],
        ),
        case(
            "resource-in-trust",
            trusting(&changed(ec2(), |s| s["Resource"] = json!("*"))),
            "spec.trustPolicy.Statement[0].Resource",
            &["names no resource", "leave it out"],
        ),
        case(
            "number",
            trusting(&trust(&json!({ "AWS": 123_456_789_012_u64 }))),
            "spec.trustPolicy.Statement[0].Principal.AWS",
            &["in quotes: \"123456789012\""],
        ),
        case(
            "octal",
            // What a YAML reader makes of 012345670123.
            trusting(&trust(&json!({ "AWS": [1_402_433_619_u64] }))),
            "spec.trustPolicy.Statement[0].Principal.AWS[0]",
            &["a number", "in quotes"],
        ),
        case(
            "number-in-condition",
            trusting(&changed(ec2(), |s| {
                s["Condition"] = json!({ "StringEquals": { "aws:SourceAccount": 1_402_433_619 } });
            })),
            "spec.trustPolicy.Statement[0].Condition.StringEquals[\"aws:SourceAccount\"]",
            &["number", "quotes"],
        ),
        case(
            "short-account",
            trusting(&trust(&json!({ "AWS": "12345" }))),
            "spec.trustPolicy.Statement[0].Principal.AWS",
            &["12 digits"],
        ),
        case(
            "service-under-aws",
            trusting(&trust(&json!({ "AWS": "ec2.amazonaws.com" }))),
            "spec.trustPolicy.Statement[0].Principal.AWS",
            &["goes under `Service`"],
        ),
        case(
            "no-statement",
            trusting(&json!({ "Version": "2012-10-17", "Statement": [] })),
            "spec.trustPolicy.Statement",
            &["empty list"],
        ),
    ]
}

fn fields() -> Vec<Case> {
    let arn = |arn: &str| json!({ "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess", arn] });
    let bounded = |arn: &str| json!({ "trustPolicy": ec2(), "permissionsBoundary": arn });
    let own = |document: Value| json!({ "trustPolicy": ec2(), "customerManagedPolicies": [{ "name": "p", "document": document }] });
    let big_trust = {
        let users: Vec<String> = (0..60).map(|i| format!("arn:aws:iam::123456789012:user/somebody-{i:04}")).collect();
        trust(&json!({ "AWS": users }))
    };
    vec![
        case(
            "token",
            arn("$(nobody)"),
            "spec.managedPolicies[1]",
            &["unknown token `$(nobody)`", "`$$(`", "$(account)"],
        ),
        case("token-open", arn("x$(account"), "spec.managedPolicies[1]", &["without `)`"]),
        case(
            "token-in-document",
            inline(&changed(allow("s3:*"), |s| s["Resource"] = json!("arn:aws:s3:::$(bucket)"))),
            "spec.inlinePolicies[0].document.Statement[0].Resource",
            &["unknown token `$(bucket)`"],
        ),
        case(
            "token-in-tag",
            json!({ "trustPolicy": ec2(), "tags": { "team": "$(team)" } }),
            "spec.tags[team]",
            &["unknown token `$(team)`"],
        ),
        case(
            "arn-of-role",
            arn("arn:aws:iam::123456789012:role/x"),
            "spec.managedPolicies[1]",
            &["is no managed policy", "policy/NAME"],
        ),
        case("arn-cut", arn("arn:aws:iam"), "spec.managedPolicies[1]", &["is no ARN"]),
        case(
            "arn-elsewhere",
            arn("arn:aws:iam::210987654321:policy/x"),
            "spec.managedPolicies[1]",
            &["of account 210987654321", "own account"],
        ),
        case(
            "arn-partition",
            arn("arn:aws-cn:iam::aws:policy/ReadOnlyAccess"),
            "spec.managedPolicies[1]",
            &["partition aws-cn", "$(partition)"],
        ),
        case(
            "arn-blank",
            arn("Read Only"),
            "spec.managedPolicies[1]",
            &["write an ARN, or the name of an AWS-managed policy"],
        ),
        case(
            "boundary",
            bounded("arn:aws:iam::210987654321:policy/x"),
            "spec.permissionsBoundary",
            &["of account 210987654321"],
        ),
        case("big-trust", trusting(&big_trust), "spec.trustPolicy", &["IAM takes 2048"]),
        case(
            "big-inline",
            inline(&big(11_000)),
            "spec.inlinePolicies",
            &["IAM takes 10240", "\"p\"", "customerManagedPolicies"],
        ),
        case("big-own", own(big(7000)), "spec.customerManagedPolicies[0].document", &["IAM takes 6144"]),
        case(
            "own-twice",
            json!({ "trustPolicy": ec2(), "customerManagedPolicies": [
                { "name": "a", "policyName": "same", "document": allow("s3:*") },
                { "name": "b", "policyName": "SAME", "document": allow("s3:*") },
            ] }),
            "spec.customerManagedPolicies[1].policyName",
            &["is there twice", "ignores case"],
        ),
        case(
            "tags-non-ascii",
            json!({ "trustPolicy": ec2(), "tags": { "Größe": "x", "GRÖßE": "y" } }),
            "spec.tags[Größe]",
            &["differ only in case"],
        ),
    ]
}

/// Creates all cases, checks what is said of each and that AWS was not asked, then corrects them.
async fn check(cases: Vec<Case>) {
    let world = World::new("invalid").await;
    for case in &cases {
        world.create(case.name, case.spec.clone()).await;
    }
    let mut wrong = Vec::new();
    for Case { name, path, says, .. } in &cases {
        let message = world.reason(name, "InvalidSpec").await;
        println!("{name}: {message}");
        let role = world.get(name).await;
        let stalled = condition(&role, "Stalled").expect("Stalled at once: nothing but a change helps");
        assert_eq!((stalled.status.as_str(), &stalled.message), ("True", &message), "{name}");
        assert!(condition(&role, "Reconciling").is_none(), "{name}: never both");
        assert!(role.metadata.finalizers.is_none(), "{name}: nothing in AWS, nothing to wait for");
        let at_start = message.starts_with(&format!("{path}: "));
        if !at_start || !says.iter().all(|part| message.contains(part)) {
            wrong.push(format!("{name}: wants {path}: and {says:?}\n    {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(world.proxy.actions(), Vec::<String>::new(), "an invalid spec costs no call to AWS");

    // Looking again brings no second event: there is no news.
    for case in &cases {
        world.check_now(case.name).await;
    }
    for case in &cases {
        let about = world.events(case.name).await;
        let [(kind, reason, note)] = about.as_slice() else { panic!("{}: one event, not {about:#?}", case.name) };
        assert_eq!((kind.as_str(), reason.as_str()), ("Warning", "InvalidSpec"), "{}", case.name);
        assert!(note.starts_with(case.path), "{}: {note}", case.name);
    }
    assert_eq!(world.proxy.actions(), Vec::<String>::new(), "nor does looking again");

    for case in &cases {
        let mut good = json!({
            "trustPolicy": null, "managedPolicies": null, "inlinePolicies": null, "customerManagedPolicies": null,
            "permissionsBoundary": null, "tags": null,
        });
        // Null removes the wrong document whole, another patch puts the right one in its place.
        good["trustPolicyJson"] = json!(ec2().to_string());
        world.patch(case.name, good).await;
    }
    for case in &cases {
        let role = world.ready(case.name).await;
        assert!(condition(&role, "Stalled").is_none(), "{} healed", case.name);
    }
    for case in &cases {
        world.delete(case.name).await;
    }
    for case in &cases {
        world.gone(case.name).await;
    }
}

#[tokio::test]
async fn mistakes_in_documents_are_named_by_place_and_cost_no_call_to_aws() {
    check(documents().into_iter().chain(statements()).chain(principals()).collect()).await;
}

#[tokio::test]
async fn mistakes_in_other_fields_are_named_and_cost_no_call_to_aws() {
    check(fields()).await;
}

#[tokio::test]
async fn all_mistakes_of_a_spec_are_told_at_once() {
    let world = World::new("invalid").await;
    let spec = json!({
        "trustPolicy": trust(&json!({ "AWS": 1 })), "managedPolicies": ["$(x)"], "tags": { "team": "$(y)" },
        "inlinePolicies": [{ "name": "p", "documentJson": "{" }],
    });
    world.create("many", spec).await;
    let message = world.reason("many", "InvalidSpec").await;
    for path in
        ["spec.trustPolicy.", "spec.managedPolicies[0]", "spec.tags[team]", "spec.inlinePolicies[0].documentJson"]
    {
        assert!(message.contains(path), "{path}: {message}");
    }
}

#[tokio::test]
async fn an_invalid_edit_leaves_the_role_as_it_was() {
    let world = World::new("invalid").await;
    world.create("edit", inline(&allow("s3:GetObject"))).await;
    world.ready("edit").await;
    world.proxy.forget();
    world
        .patch("edit", json!({ "description": "new", "inlinePolicies": [{ "name": "p", "documentJson": "{" }] }))
        .await;
    world.reason("edit", "InvalidSpec").await;
    assert_eq!(world.proxy.actions(), Vec::<String>::new());
    let role = support::aws::role(&world.iam, &world.templated("edit")).await.expect("the role");
    assert_eq!((role.description.as_str(), &role.inline["p"]), ("", &allow("s3:GetObject")));
    // Deletion needs no valid spec.
    world.delete("edit").await;
    world.gone("edit").await;
    assert!(
        eventually(support::SOON, || async {
            support::aws::role(&world.iam, &world.templated("edit")).await.is_none()
        })
        .await
    );
}
