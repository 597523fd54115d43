//! Findings about documents that IAM takes but that are probably mistakes; the rules are told at
//! [`Document::lint`](super::Document::lint).

use super::action;
use super::arn::Arn;
use super::canonical::AccountRef;
use super::document::{Document, Effect, PrincipalType, Statement, Terms, Version};
use super::finding::{Finding, quote};
use super::operator::{Kind, Operator};
use super::pattern::Pattern;
use super::principal::is_unique_id;

const POD_IDENTITY: &str = "pods.eks.amazonaws.com";
/// Services that a role is passed to, in its own account, by `iam:PassRole`. They act for no third party when
/// they assume it and send no source, so that a condition on one would shut them out.
const PASSED: [&str; 2] = ["ec2", "lambda"];
/// What the names of services end in, by partition.
const DOMAINS: [&str; 5] = ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "c2s.ic.gov", "sc2s.sgov.gov"];
const SOURCES: [&str; 4] = ["aws:sourcearn", "aws:sourceaccount", "aws:sourceorgid", "aws:sourceorgpaths"];

/// The findings of a document, statement by statement.
pub(super) fn lint(document: &Document, account: &AccountRef) -> Vec<Finding> {
    let mut findings = Vec::new();
    for statement in &document.statements {
        let mut add = |place: &str, message: String| {
            let path = format!("{}{place}", statement.path);
            findings.push(Finding { path, message });
        };
        if statement.effect == Effect::Allow {
            service(statement, &mut add);
            aws(statement, account, &mut add);
            federated(statement, &mut add);
            everything(statement, &mut add);
        }
        nobody(statement, &mut add);
        unknown_action(statement, &mut add);
        variables(statement, document.version, &mut add);
        foreign_resource(statement, account, &mut add);
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
        let anything = |value: &String| value.contains('*') && value.bytes().all(|b| matches!(b, b'*' | b'?'));
        asks && !condition.values.iter().any(anything) && is_key(&condition.key.to_ascii_lowercase())
    })
}

fn allows(action: &Terms, wanted: &str) -> bool {
    let listed = action.values.iter().any(|action| Pattern::new(action).matches_ignore_case(wanted));
    listed != action.negated
}

/// Whether a role is passed to this service: `ec2.amazonaws.com`, with or without a region, in any partition.
fn is_passed(service: &str) -> bool {
    DOMAINS.iter().any(|domain| {
        let name = service.strip_suffix(domain).and_then(|name| name.strip_suffix('.'));
        name.is_some_and(|name| {
            let (service, region) = name.split_once('.').unwrap_or((name, ""));
            PASSED.contains(&service) && !region.contains('.')
        })
    })
}

fn service(statement: &Statement, add: Add<'_>) {
    let services: Vec<&str> = values(statement, PrincipalType::Service).collect();
    let third_party = services.iter().find(|service| !is_passed(service));
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
    if values(statement, PrincipalType::Aws).any(|value| value == "*") && !asks(statement, |_| true) {
        let message = "everybody in every AWS account may assume the role; name principals, or add a condition that \
                       asks for something";
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
    // Keys of one provider say nothing about the identities of another. Of each kind the first one is told.
    let (mut keys, mut web) =
        (vec![(":sub", "every identity it knows"), (":aud", "tokens made for any audience")], true);
    for provider in values(statement, PrincipalType::Federated) {
        if let Some((_, host)) = provider.split_once(":oidc-provider/") {
            let host = host.to_ascii_lowercase();
            keys.retain(|(key, what)| {
                let asked = asks(statement, |asked| asked.strip_suffix(key) == Some(host.as_str()));
                if !asked {
                    let message = format!(
                        "{} without a condition on its `{key}` key accepts {what}; add one under `StringEquals`",
                        quote(provider)
                    );
                    add(".Condition", message);
                }
                asked
            });
        } else if !provider.starts_with("arn:") && web {
            let prefix = format!("{provider}:").to_ascii_lowercase();
            web = asks(statement, |asked| asked.starts_with(&prefix));
            if !web {
                let message = format!(
                    "{} without a condition on a key of its own accepts everybody it knows, for every application; add \
                     one under `StringEquals`, such as {}",
                    quote(provider),
                    quote(&format!("{provider}:aud"))
                );
                add(".Condition", message);
            }
        }
    }
}

fn everything(statement: &Statement, add: Add<'_>) {
    let all =
        |terms: &Terms, every: &[&str]| !terms.negated && terms.values.iter().any(|v| every.contains(&v.as_str()));
    let all_actions = all(&statement.action, &["*", "*:*"]);
    if all_actions && statement.resource.as_ref().is_some_and(|resource| all(resource, &["*"])) {
        let message = "everything is allowed on everything; name the actions and resources that are needed";
        add("", message.to_owned());
    }
}

/// Everybody but everybody.
fn nobody(statement: &Statement, add: Add<'_>) {
    let negated = statement.principal.as_ref().is_some_and(|who| who.negated);
    if negated && values(statement, PrincipalType::Aws).any(|value| value == "*") {
        let message = "`NotPrincipal` with everybody is nobody, so that this statement does nothing; write `Principal`, \
                       or name who is left out";
        add(".NotPrincipal.AWS", message.to_owned());
    }
}

fn unknown_action(statement: &Statement, add: Add<'_>) {
    if statement.principal.is_none() {
        return;
    }
    if let Some(unknown) = statement.action.values.iter().find(|action| action::is_unknown(action)) {
        let key = if statement.action.negated { ".NotAction" } else { ".Action" };
        add(key, format!("{} is no action of sts that is known, and may be a typing mistake", quote(unknown)));
    }
}

/// Variables that are none. The values of conditions are not repeated.
fn variables(statement: &Statement, version: Version, add: Add<'_>) {
    let resource = statement.resource.iter();
    let resources = resource.map(|what| (if what.negated { ".NotResource" } else { ".Resource" }, &what.values));
    let conditions = statement.condition.iter().map(|condition| (".Condition", &condition.values));
    for (place, values) in resources.chain(conditions) {
        let variables = values.iter().filter_map(|value| value.split_once("${"));
        let message = match version {
            Version::V2008 if variables.count() > 0 => {
                "`${…}` is plain text under this version; write \"Version\": \"2012-10-17\" if a variable such as \
                 `${aws:username}` is meant"
            }
            Version::V2012 if values.iter().any(|value| is_unclosed(value)) => {
                "`${` without `}`, so that this is no variable; close it, or write `${$}{` where the text is meant"
            }
            _ => continue,
        };
        add(place, message.to_owned());
        return;
    }
}

fn is_unclosed(text: &str) -> bool {
    text.rsplit_once("${").is_some_and(|(_, variable)| !variable.contains('}'))
}

/// IAM refuses at least `aws` in accounts of other partitions ("Partition "aws" is not valid for resource").
fn foreign_resource(statement: &Statement, account: &AccountRef, add: Add<'_>) {
    let Some(resource) = &statement.resource else {
        return;
    };
    let is_foreign = |value: &&String| {
        let partition = value.strip_prefix("arn:").and_then(|rest| rest.split(':').next());
        partition.is_some_and(|partition| Arn::is_partition(partition) && partition != account.partition)
    };
    if let Some(foreign) = resource.values.iter().find(is_foreign) {
        let message = format!(
            "{} is of another partition than the account, which is of {}, and can be nothing there; write \
             arn:$(partition):…",
            quote(foreign),
            account.partition
        );
        add(if resource.negated { ".NotResource" } else { ".Resource" }, message);
    }
}
