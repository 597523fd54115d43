//! Findings about documents that IAM takes but that are probably mistakes; the rules are told at
//! [`Document::lint`](super::Document::lint).

use super::arn::Arn;
use super::canonical::AccountRef;
use super::document::{Document, Effect, PrincipalType, Statement, Terms};
use super::finding::{Finding, quote};
use super::operator::{Kind, Operator};
use super::pattern::Pattern;
use super::principal::is_unique_id;

const POD_IDENTITY: &str = "pods.eks.amazonaws.com";
/// Services that a role is passed to, in its own account, by `iam:PassRole`. They act for no third party when
/// they assume it and send no source, so that a condition on one would shut them out.
const PASSED: [&str; 2] = ["ec2.amazonaws.com", "lambda.amazonaws.com"];
const SOURCES: [&str; 4] = ["aws:sourcearn", "aws:sourceaccount", "aws:sourceorgid", "aws:sourceorgpaths"];

/// The findings of a document, statement by statement.
pub(super) fn lint(document: &Document, account: &AccountRef) -> Vec<Finding> {
    let mut findings = Vec::new();
    for statement in document.statements.iter().filter(|statement| statement.effect == Effect::Allow) {
        let mut add = |place: &str, message: String| {
            let path = format!("{}{place}", statement.path);
            findings.push(Finding { path, message });
        };
        service(statement, &mut add);
        aws(statement, account, &mut add);
        federated(statement, &mut add);
        everything(statement, &mut add);
    }
    findings
}

type Add<'a> = &'a mut dyn FnMut(&str, String);

fn values(statement: &Statement, kind: PrincipalType) -> impl Iterator<Item = &str> {
    let principals = statement.principal.iter().flat_map(|principal| &principal.entries);
    let of_kind = principals.filter(move |(listed, _)| *listed == kind);
    of_kind.flat_map(|(_, values)| values.iter().map(String::as_str))
}

/// Whether the statement asks for a certain value of a key.
fn asks(statement: &Statement, is_key: impl Fn(&str) -> bool) -> bool {
    statement.condition.iter().any(|condition| {
        let asks = Operator::parse(&condition.operator)
            .is_some_and(|operator| !operator.negated && !operator.holds_without_key && operator.kind != Kind::Null);
        let anything = condition.values.iter().any(|value| value.bytes().all(|b| b == b'*') && !value.is_empty());
        asks && !anything && is_key(&condition.key.to_ascii_lowercase())
    })
}

fn allows(action: &Terms, wanted: &str) -> bool {
    let listed = action.values.iter().any(|action| Pattern::new(action).matches_ignore_case(wanted));
    listed != action.negated
}

fn service(statement: &Statement, add: Add<'_>) {
    let services: Vec<&str> = values(statement, PrincipalType::Service).collect();
    let third_party = services.iter().find(|service| !PASSED.contains(service));
    if let Some(first) = third_party
        && !asks(statement, |key| SOURCES.contains(&key))
    {
        let message = format!(
            "{} may assume the role whoever it acts for; where the service supports it, add a condition on \
             `aws:SourceAccount` or `aws:SourceArn`",
            quote(first)
        );
        add(".Principal.Service", message);
    }
    let complete = ["sts:AssumeRole", "sts:TagSession"].iter().all(|wanted| allows(&statement.action, wanted));
    if services.contains(&POD_IDENTITY) && !complete {
        let message = format!("`{POD_IDENTITY}` needs both `sts:AssumeRole` and `sts:TagSession`");
        add(".Action", message);
    }
}

fn aws(statement: &Statement, account: &AccountRef, add: Add<'_>) {
    if values(statement, PrincipalType::Aws).any(|value| value == "*") && statement.condition.is_empty() {
        let message = "everybody in every AWS account may assume the role; name principals, or add a condition";
        add(".Principal.AWS", message.to_owned());
    }
    if let Some(dead) = values(statement, PrincipalType::Aws).find(|value| is_unique_id(value)) {
        let message =
            format!("{} is what AWS shows for a deleted role or user; write the ARN of one that exists", quote(dead));
        add(".Principal.AWS", message);
    }
    let foreign = values(statement, PrincipalType::Aws).find(|value| is_foreign(value, account));
    if let Some(foreign) = foreign
        && !asks(statement, |key| key == "sts:externalid" || key == "aws:principalorgid")
    {
        let message = format!(
            "{} is of another account; if that is a third party's, add a condition on `sts:ExternalId`, if it is of \
             your organization, on `aws:PrincipalOrgID`",
            quote(foreign)
        );
        add(".Principal.AWS", message);
    }
}

fn is_foreign(value: &str, account: &AccountRef) -> bool {
    if Arn::is_account_id(value) {
        return value != account.id;
    }
    value.parse::<Arn>().is_ok_and(|arn| arn.account != account.id || arn.partition != account.partition)
}

fn federated(statement: &Statement, add: Add<'_>) {
    let provider = values(statement, PrincipalType::Federated).find(|value| value.contains(":oidc-provider/"));
    let Some(provider) = provider else {
        return;
    };
    for (key, what) in [(":sub", "every identity it knows"), (":aud", "tokens made for any audience")] {
        if !asks(statement, |asked| asked.ends_with(key)) {
            let message = format!(
                "{} without a condition on its `{key}` key accepts {what}; add one under `StringEquals`",
                quote(provider)
            );
            add(".Condition", message);
        }
    }
}

fn everything(statement: &Statement, add: Add<'_>) {
    let all = |terms: &Terms| !terms.negated && terms.values.iter().any(|value| value == "*");
    if all(&statement.action) && statement.resource.as_ref().is_some_and(all) {
        let message = "everything is allowed on everything; name the actions and resources that are needed";
        add("", message.to_owned());
    }
}
