//! What IAM takes but what is probably a mistake.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use iamrole_operator::policy::{AccountRef, Document, Grammar, Rule, Tokens};
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
    finds(&service(json!({"StringLike": {"aws:SourceAccount": ["123456789012", "?*"]}})), &finding);
    finds(&service(json!({"StringLike": {"aws:SourceAccount": "*??"}})), &finding);
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
        finds(&service(json!({operator: {key: "arn:aws:sns:*"}})), &[]);
    }
}

#[test]
fn services_that_a_role_is_passed_to_send_no_source() {
    let passed = |services| trust(&json!("sts:AssumeRole"), &json!({ "Service": services }), &json!({}));
    finds(&passed(json!(["ec2.amazonaws.com", "lambda.amazonaws.com"])), &[]);
    for service in [
        "ec2.amazonaws.com.cn",
        "ec2.cn-north-1.amazonaws.com.cn",
        "lambda.eu-central-1.amazonaws.com",
        "ec2.amazonaws.eu",
        "ec2.c2s.ic.gov",
    ] {
        finds(&passed(json!(service)), &[]);
    }
    for service in [
        "sns.amazonaws.com.cn",
        "ec2fleet.amazonaws.com",
        "spot.ec2.amazonaws.com",
        "ec2.a.b.amazonaws.com",
        "ec2.amazonaws.org",
    ] {
        finds(&passed(json!(service)), &["may assume the role whoever"]);
    }
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
    for nothing in [
        json!({"StringLike": {"aws:PrincipalOrgID": "*"}}),
        json!({"StringLike": {"aws:PrincipalOrgID": "?*", "aws:PrincipalArn": ["a", "**"]}}),
        json!({"StringNotEquals": {"aws:PrincipalAccount": "123456789012"}}),
        json!({"Null": {"aws:PrincipalOrgID": "false"}}),
    ] {
        finds(&aws(json!("*"), nothing), &["everybody in every AWS account may assume the role"]);
    }
    for own in ["111122223333", "arn:aws:iam::111122223333:root", "arn:aws:sts::111122223333:assumed-role/a/b"] {
        finds(&aws(json!(own), json!({})), &[]);
    }
    for foreign in ["123456789012", "arn:aws:iam::123456789012:role/x", "arn:aws-cn:iam::111122223333:role/x"] {
        finds(&aws(json!(["111122223333", foreign]), json!({})), &["is of another account"]);
        finds(&aws(json!(foreign), json!({"StringEquals": {"sts:ExternalId": "secret"}})), &[]);
        finds(&aws(json!(foreign), json!({"StringEquals": {"aws:principalorgid": "o-x"}})), &[]);
        finds(&aws(json!(foreign), json!({"StringLike": {"sts:ExternalId": "*"}})), &["is of another account"]);
    }
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
    let other = json!({"StringEquals": {"oidc.example.com/id/Y:sub": "a", "example.com/id/X:aud": "a"}});
    finds(&federated(provider, other), &["`:sub`", "`:aud`"]);
    let case = json!({"StringEquals": {"OIDC.example.com/id/x:SUB": "a", aud: "a"}});
    finds(&federated(provider, case), &[]);
    finds(&federated(provider, json!({"StringEquals": {aud: "a"}, "StringLike": {sub: "?*"}})), &["`:sub`"]);
    let both = json!([provider, "arn:aws:iam::111122223333:oidc-provider/oidc.example.com/id/Y"]);
    let of_one = json!({"StringEquals": {aud: "a", sub: "b"}});
    let found = trust(&json!("sts:AssumeRoleWithWebIdentity"), &json!({ "Federated": both }), &of_one);
    finds(&found, &["id/Y` without a condition on its `:sub`", "id/Y` without a condition on its `:aud`"]);
    for web in ["accounts.google.com", "cognito-identity.amazonaws.com"] {
        let key = format!("{web}:aud");
        finds(&federated(web, json!({})), &["Condition: `"]);
        finds(&federated(web, json!({"StringLike": {&key: "*"}})), &["without a condition on a key of its own"]);
        finds(&federated(web, json!({"StringEquals": {"aws:x": "a"}})), &["without a condition on a key of its own"]);
        finds(&federated(web, json!({"StringEquals": {key: "a"}})), &[]);
    }
}

#[test]
fn everything_on_everything() {
    let all = |action: &str, actions, resource: &str, resources| {
        lint(Grammar::Permission, &json!({"Effect": "Allow", action: actions, resource: resources}))
    };
    finds(&all("Action", json!(["s3:*", "*"]), "Resource", json!("*")), &["everything is allowed on everything"]);
    finds(&all("Action", json!("*:*"), "Resource", json!(["*"])), &["everything is allowed on everything"]);
    finds(&all("Action", json!("s3:*"), "Resource", json!("*")), &[]);
    finds(&all("Action", json!("*"), "Resource", json!("arn:aws:s3:::b")), &[]);
    finds(&all("NotAction", json!("*"), "Resource", json!("*")), &[]);
    finds(&all("Action", json!("*"), "NotResource", json!("*")), &[]);
    finds(&lint(Grammar::Permission, &json!({"Effect": "Deny", "Action": "*", "Resource": "*"})), &[]);
}

#[test]
fn denying_everybody_but_everybody() {
    let deny = |principal| {
        let action = json!("sts:AssumeRole");
        lint(Grammar::Trust, &json!({"Effect": "Deny", "NotPrincipal": principal, "Action": action}))
    };
    finds(&deny(json!("*")), &["NotPrincipal.AWS: `NotPrincipal` with everybody is nobody"]);
    finds(&deny(json!({"AWS": ["123456789012", "*"]})), &["is nobody"]);
    finds(&deny(json!({"AWS": ["123456789012"]})), &[]);
}

#[test]
fn unknown_actions_of_sts() {
    let action = |key: &str, action: Value| {
        lint(Grammar::Trust, &json!({"Effect": "Deny", "Principal": {"AWS": "111122223333"}, key: action}))
    };
    finds(&action("Action", json!(["sts:AssumeRole", "sts:Nonsense"])), &[".Action: `sts:Nonsense` is no action"]);
    finds(&action("NotAction", json!("sts:AsumeRloe")), &[".NotAction: `sts:AsumeRloe`"]);
    finds(&action("Action", json!("sts:Nonsense*")), &["`sts:Nonsense*`"]);
    finds(&action("Action", json!(["sts:*", "STS:assumerole", "sts:Tag*", "sts:?etContext"])), &[]);
}

#[test]
fn variables_that_are_none() {
    let of = |version: &str, change: Value| {
        let mut statement = json!({"Effect": "Deny", "Action": "s3:*", "Resource": "*"});
        statement.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let value = json!({"Version": version, "Statement": [statement]});
        let document = Document::from_value(Grammar::Permission, "d", &value, &Tokens::default()).unwrap();
        let account = AccountRef { partition: "aws".to_owned(), id: "111122223333".to_owned() };
        document.lint(&account).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let resource = |text: &str| json!({"Resource": ["*", format!("arn:aws:s3:::b/{text}")]});
    let condition = |text: &str| json!({"Condition": {"StringLike": {"aws:x": ["a", text]}}});
    finds(&of("2008-10-17", resource("${aws:username}")), &[".Resource: `${…}` is plain text under this version"]);
    finds(&of("2008-10-17", condition("secret${aws:username}")), &[".Condition: `${…}` is plain text"]);
    assert!(!of("2008-10-17", condition("secret${aws:username}"))[0].contains("secret"));
    finds(&of("2008-10-17", resource("$aws")), &[]);
    for text in ["${aws:username}", "a${*}b${?}", "$", "{}", "}${$}", "$$$"] {
        finds(&of("2012-10-17", resource(text)), &[]);
        finds(&of("2012-10-17", condition(text)), &[]);
    }
    for text in ["${", "${aws:username", "${aws:username}/${x", "$${"] {
        finds(&of("2012-10-17", resource(text)), &[".Resource: `${` without `}`"]);
        finds(&of("2012-10-17", condition(text)), &[".Condition: `${` without `}`"]);
    }
}

#[test]
fn resources_of_other_partitions() {
    let resource = |key: &str, resource: Value| {
        lint(Grammar::Permission, &json!({"Effect": "Deny", "Action": "s3:*", key: resource}))
    };
    finds(&resource("Resource", json!(["*", "arn:aws-cn:s3:::b"])), &[".Resource: `arn:aws-cn:s3:::b` is of another"]);
    finds(&resource("NotResource", json!("arn:aws-us-gov:s3:::b")), &[".NotResource: "]);
    finds(&resource("Resource", json!(["arn:aws:s3:::b", "arn:*:s3:::b", "arn:aws*:s3:::b"])), &[]);
}

/// A document that breaks nothing but one rule, for each of them. `match`: a new rule must be thought about here.
fn breaks(rule: Rule) -> Value {
    let trust = |principal: Value| json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal });
    let reads = |resource: &str| json!({ "Effect": "Allow", "Action": "s3:Get", "Resource": resource });
    match rule {
        Rule::ServiceWithoutSource => trust(json!({ "Service": "sns.amazonaws.com" })),
        Rule::OtherAccountUnbound => trust(json!({ "AWS": "444455556666" })),
        Rule::OidcUnbound => json!({ "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": { "Federated": "arn:aws:iam::111122223333:oidc-provider/id.example" },
            "Condition": { "StringEquals": { "id.example:sub": "x" } } }),
        Rule::WebIdentityUnbound => trust(json!({ "Federated": "accounts.google.com" })),
        Rule::EverybodyUnbound => trust(json!("*")),
        Rule::PodIdentityIncomplete => json!({ "Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": { "Service": "pods.eks.amazonaws.com" },
            "Condition": { "StringEquals": { "aws:SourceAccount": "111122223333" } } }),
        Rule::EverythingAllowed => json!({ "Effect": "Allow", "Action": "*", "Resource": "*" }),
        Rule::NotPrincipalNobody => json!({ "Effect": "Deny", "Action": "sts:AssumeRole", "NotPrincipal": "*" }),
        Rule::UnknownAction => json!({ "Effect": "Deny", "Action": "sts:New2", "Principal": "*" }),
        Rule::VariableAsText | Rule::VariableUnclosed => reads("arn:aws:s3:::${x"),
        Rule::OtherPartition => reads("arn:aws-cn:s3:::b"),
    }
}

#[test]
fn each_rule_is_told_by_its_word_and_in_the_documentation() {
    let account = AccountRef { partition: "aws".to_owned(), id: "111122223333".to_owned() };
    for rule in Rule::ALL {
        let version = if rule == Rule::VariableAsText { "2008-10-17" } else { "2012-10-17" };
        let statement = breaks(rule);
        let grammar = if statement.get("Resource").is_some() { Grammar::Permission } else { Grammar::Trust };
        let value = json!({ "Version": version, "Statement": [statement] });
        let document = Document::from_value(grammar, "d", &value, &Tokens::default()).unwrap();
        let found = document.lint(&account);
        assert_eq!(found.iter().map(|lint| lint.rule).collect::<Vec<_>>(), [rule]);
        assert!(found[0].to_string().ends_with(&format!(" ({rule:?})")), "{}", found[0]);
    }
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policies.md")).unwrap();
    let (_, table) = text.split_once("\n| finding |").unwrap();
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `")).filter_map(|row| row.split('`').next());
    let code = Rule::ALL.map(|rule| rule.to_string());
    assert!(
        rows.eq(code.iter().map(String::as_str)),
        "docs/policies.md has a row for each rule, in the order of the code"
    );
}
