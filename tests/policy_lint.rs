//! What IAM takes but what is probably a mistake.
#![allow(clippy::unwrap_used)]

use iamrole_operator::policy::{AccountRef, Document, Grammar, Tokens};
use serde_json::{Value, json};

fn lint(grammar: Grammar, statement: &Value) -> Vec<String> {
    let account = AccountRef { partition: "aws".to_owned(), id: "111122223333".to_owned() };
    let value = json!({"Version": "2012-10-17", "Statement": [statement]});
    let document = Document::from_value(grammar, "d", &value, &Tokens::default()).unwrap();
    document.lint(&account).iter().map(ToString::to_string).collect()
}

fn trust(action: &Value, principal: &Value, condition: &Value) -> Vec<String> {
    let statement =
        |effect| json!({"Effect": effect, "Action": action, "Principal": principal, "Condition": condition});
    assert!(lint(Grammar::Trust, &statement("Deny")).is_empty());
    lint(Grammar::Trust, &statement("Allow"))
}

/// The findings' number and parts of them, in order.
#[track_caller]
fn finds(found: &[String], parts: &[&str]) {
    assert_eq!(found.len(), parts.len(), "{found:#?}");
    for (line, part) in found.iter().zip(parts) {
        assert!(line.starts_with("d.Statement[0]") && line.contains(part), "{line}");
    }
}

#[test]
fn services() {
    let service = |condition| trust(&json!("sts:AssumeRole"), &json!({"Service": ["sns.amazonaws.com"]}), &condition);
    let finding = ["Principal.Service: `sns.amazonaws.com` may assume the role whoever it acts for"];
    finds(&service(json!({})), &finding);
    finds(&service(json!({"StringLike": {"aws:SourceArn": "**"}})), &finding);
    finds(&service(json!({"StringEquals": {"aws:other": "x"}})), &finding);
    finds(&service(json!({"StringNotEquals": {"aws:SourceAccount": "123456789012"}})), &finding);
    finds(&service(json!({"StringEqualsIfExists": {"aws:SourceAccount": "123456789012"}})), &finding);
    finds(&service(json!({"ForAllValues:StringEquals": {"aws:SourceAccount": "123456789012"}})), &finding);
    finds(&service(json!({"Null": {"aws:SourceAccount": "false"}})), &finding);
    for (operator, key) in [
        ("StringEquals", "aws:SourceAccount"),
        ("ArnLike", "AWS:sourcearn"),
        ("ForAnyValue:StringLike", "aws:SourceOrgPaths"),
        ("StringEquals", "aws:SourceOrgID"),
    ] {
        finds(&service(json!({operator: {key: "x*"}})), &[]);
    }
}

#[test]
fn services_that_a_role_is_passed_to_send_no_source() {
    let passed = |services| trust(&json!("sts:AssumeRole"), &json!({ "Service": services }), &json!({}));
    finds(&passed(json!(["ec2.amazonaws.com", "lambda.amazonaws.com"])), &[]);
    finds(&passed(json!(["ec2.amazonaws.com", "sns.amazonaws.com"])), &["`sns.amazonaws.com` may assume"]);
}

#[test]
fn pod_identity() {
    let source = json!({"StringEquals": {"aws:SourceAccount": "111122223333"}});
    let pods = |action| trust(&action, &json!({"Service": "pods.eks.amazonaws.com"}), &source);
    finds(&pods(json!("sts:AssumeRole")), &["Action: `pods.eks.amazonaws.com` needs both"]);
    finds(&pods(json!("sts:TagSession")), &["needs both"]);
    finds(&pods(json!(["sts:assumerole", "sts:Tag*"])), &[]);
}

#[test]
fn accounts() {
    let aws = |principal, condition| trust(&json!("sts:AssumeRole"), &json!({"AWS": principal}), &condition);
    finds(&aws(json!("*"), json!({})), &["Principal.AWS: everybody in every AWS account may assume the role"]);
    finds(&aws(json!("*"), json!({"StringEquals": {"aws:PrincipalOrgID": "o-x"}})), &[]);
    for own in ["111122223333", "arn:aws:iam::111122223333:root", "arn:aws:sts::111122223333:assumed-role/a/b"] {
        finds(&aws(json!(own), json!({})), &[]);
    }
    for foreign in ["123456789012", "arn:aws:iam::123456789012:role/x", "arn:aws-cn:iam::111122223333:role/x"] {
        finds(&aws(json!(["111122223333", foreign]), json!({})), &["is of another account"]);
        finds(&aws(json!(foreign), json!({"StringEquals": {"sts:ExternalId": "secret"}})), &[]);
        finds(&aws(json!(foreign), json!({"StringEquals": {"aws:principalorgid": "o-x"}})), &[]);
        finds(&aws(json!(foreign), json!({"StringLike": {"sts:ExternalId": "*"}})), &["is of another account"]);
    }
    let dead = json!("AROAEXAMPLEEXAMPLE123");
    finds(&aws(dead, json!({})), &["`AROAEXAMPLEEXAMPLE123` is what AWS shows for a deleted role or user"]);
}

#[test]
fn identity_providers() {
    let provider = "arn:aws:iam::111122223333:oidc-provider/oidc.example.com/id/X";
    let federated = |principal: &str, condition| {
        trust(&json!("sts:AssumeRoleWithWebIdentity"), &json!({"Federated": principal}), &condition)
    };
    let (sub, aud) = ("oidc.example.com/id/X:sub", "oidc.example.com/id/X:aud");
    finds(
        &federated(provider, json!({})),
        &[
            "Condition: `arn:aws:iam::111122223333:oidc-provider/oidc.example.com/id/X` without a condition on its `:sub`",
            "`:aud`",
        ],
    );
    finds(&federated(provider, json!({"StringEquals": {aud: "sts.amazonaws.com"}})), &["`:sub`"]);
    finds(&federated(provider, json!({"StringEquals": {aud: "a"}, "StringLike": {sub: "*"}})), &["`:sub`"]);
    finds(&federated(provider, json!({"StringEquals": {aud: "a"}, "StringLike": {sub: "system:*"}})), &[]);
    finds(&federated("arn:aws:iam::111122223333:saml-provider/x", json!({})), &[]);
}

#[test]
fn everything_on_everything() {
    let all = |action: &str, actions, resource: &str, resources| {
        lint(Grammar::Permission, &json!({"Effect": "Allow", action: actions, resource: resources}))
    };
    finds(&all("Action", json!(["s3:*", "*"]), "Resource", json!("*")), &["everything is allowed on everything"]);
    finds(&all("Action", json!("s3:*"), "Resource", json!("*")), &[]);
    finds(&all("Action", json!("*"), "Resource", json!("arn:aws:s3:::b")), &[]);
    finds(&all("NotAction", json!("*"), "Resource", json!("*")), &[]);
    finds(&all("Action", json!("*"), "NotResource", json!("*")), &[]);
    finds(&lint(Grammar::Permission, &json!({"Effect": "Deny", "Action": "*", "Resource": "*"})), &[]);
}
