//! Findings about documents that IAM takes but that are probably mistakes.

use std::collections::BTreeSet;
use std::fmt;

use super::action;
use super::arn::Arn;
use super::canonical::AccountRef;
use super::document::{Document, Effect, PrincipalType, Statement, Terms, Version};
use super::finding::{Finding, quote};
use super::operator::{Kind, Operator};
use super::pattern::Pattern;

const POD_IDENTITY: &str = "pods.eks.amazonaws.com";
/// Services that a role is passed to, in its own account, by `iam:PassRole`. They act for no third party when
/// they assume it and send no source, so that a condition on one would shut them out.
const PASSED: [&str; 2] = ["ec2", "lambda"];
/// What the names of services end in, by partition.
const DOMAINS: [&str; 5] = ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "c2s.ic.gov", "sc2s.sgov.gov"];
const SOURCES: [&str; 4] = ["aws:sourcearn", "aws:sourceaccount", "aws:sourceorgid", "aws:sourceorgpaths"];

/// A rule that a statement breaks (IAM user guide, "The confused deputy problem" and "Security best practices in IAM").
/// docs/policies.md tells how to end each.
///
/// Where a condition is asked for, one counts only if it asks for something: not under `…IfExists`, `ForAllValues:`, a
/// negated operator or `Null`, and not with a value of wildcards alone (`*`, `?*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A service may assume the role without a condition on `aws:SourceArn`, `aws:SourceAccount`, `aws:SourceOrgID` or
    /// `aws:SourceOrgPaths`: it can be made to use the role for somebody else. EC2 and Lambda, which a role is passed to,
    /// send none and are left out, in every partition and region.
    ServiceWithoutSource,
    /// A principal of another account without a condition on `sts:ExternalId`, or on `aws:PrincipalOrgID`, which keeps it
    /// in the own organization.
    OtherAccountUnbound,
    /// An OIDC provider without conditions on its own `:sub` and `:aud` keys: everybody it knows may assume the role.
    OidcUnbound,
    /// A web identity provider such as `accounts.google.com` without a condition on a key of its own.
    WebIdentityUnbound,
    /// Everybody (`{"AWS": "*"}`) without a condition that asks for something.
    EverybodyUnbound,
    /// `pods.eks.amazonaws.com` without both `sts:AssumeRole` and `sts:TagSession`, which EKS Pod Identity needs.
    PodIdentityIncomplete,
    /// `Action` `*` (or `*:*`) on `Resource` `*`.
    EverythingAllowed,
    /// `NotPrincipal` with everybody, which is nobody.
    NotPrincipalNobody,
    /// An action of sts that is not known, in a trust policy.
    UnknownAction,
    /// A variable under the version `2008-10-17`, where it is plain text.
    VariableAsText,
    /// `${` without `}`.
    VariableUnclosed,
    /// A resource of another partition than the account's.
    OtherPartition,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ServiceWithoutSource,
        Self::OtherAccountUnbound,
        Self::OidcUnbound,
        Self::WebIdentityUnbound,
        Self::EverybodyUnbound,
        Self::PodIdentityIncomplete,
        Self::EverythingAllowed,
        Self::NotPrincipalNobody,
        Self::UnknownAction,
        Self::VariableAsText,
        Self::VariableUnclosed,
        Self::OtherPartition,
    ];
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lint {
    /// Which one.
    pub rule: Rule,
    /// Where, and what to do.
    pub finding: Finding,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.finding, self.rule)
    }
}

/// The findings of a document, statement by statement.
pub(super) fn lint(document: &Document, account: &AccountRef) -> Vec<Lint> {
    let mut findings = Vec::new();
    for statement in &document.statements {
        let mut add = |rule: Rule, place: &str, message: String| {
            let path = format!("{}{place}", statement.path);
            findings.push(Lint { rule, finding: Finding { path, message } });
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

type Add<'a> = &'a mut dyn FnMut(Rule, &str, String);

fn values(statement: &Statement, kind: PrincipalType) -> impl Iterator<Item = &str> {
    let principals = statement.principal.iter().flat_map(|principal| &principal.entries);
    let of_kind = principals.filter(move |(listed, _)| *listed == kind);
    of_kind.flat_map(|(_, values)| values.iter().map(String::as_str))
}

/// Whether the statement asks for a certain value of a key.
fn asks(statement: &Statement, is_key: impl Fn(&str) -> bool) -> bool {
    asked(statement).any(|key| is_key(&key))
}

/// All keys that a statement asks for, in lower case.
fn asked_keys(statement: &Statement) -> BTreeSet<String> {
    asked(statement).collect()
}

fn asked(statement: &Statement) -> impl Iterator<Item = String> + '_ {
    statement.condition.iter().filter_map(|condition| {
        let asks = Operator::parse(&condition.operator)
            .is_some_and(|operator| !operator.negated && !operator.holds_without_key && operator.kind != Kind::Null);
        let anything = |value: &String| value.contains('*') && value.bytes().all(|b| matches!(b, b'*' | b'?'));
        (asks && !condition.values.iter().any(anything)).then(|| condition.key.to_ascii_lowercase())
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
        add(Rule::ServiceWithoutSource, ".Principal.Service", message);
    }
    let complete = ["sts:AssumeRole", "sts:TagSession"].iter().all(|wanted| allows(&statement.action, wanted));
    if services.contains(&POD_IDENTITY) && !complete {
        let message = format!("`{POD_IDENTITY}` needs both `sts:AssumeRole` and `sts:TagSession`");
        add(Rule::PodIdentityIncomplete, ".Action", message);
    }
}

fn aws(statement: &Statement, account: &AccountRef, add: Add<'_>) {
    if values(statement, PrincipalType::Aws).any(|value| value == "*") && !asks(statement, |_| true) {
        let message = "everybody in every AWS account may assume the role; name principals, or add a condition that \
                       asks for something";
        add(Rule::EverybodyUnbound, ".Principal.AWS", message.to_owned());
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
        add(Rule::OtherAccountUnbound, ".Principal.AWS", message);
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
    let (mut seen, mut asked) = (BTreeSet::new(), None);
    for provider in values(statement, PrincipalType::Federated) {
        if keys.is_empty() && !web {
            break;
        }
        if let Some((_, host)) = provider.split_once(":oidc-provider/") {
            let host = host.to_ascii_lowercase();
            if !seen.insert(host.clone()) {
                continue;
            }
            let of_host = asked.get_or_insert_with(|| asked_keys(statement));
            keys.retain(|(key, what)| {
                let asked = of_host.contains(&format!("{host}{key}"));
                if !asked {
                    let message = format!(
                        "{} without a condition on its `{key}` key accepts {what}; add one under `StringEquals`",
                        quote(provider)
                    );
                    add(Rule::OidcUnbound, ".Condition", message);
                }
                asked
            });
        } else if !provider.starts_with("arn:") && web {
            let prefix = format!("{provider}:").to_ascii_lowercase();
            let all = asked.get_or_insert_with(|| asked_keys(statement));
            web = all.range(prefix.clone()..).next().is_some_and(|key| key.starts_with(&prefix));
            if !web {
                let message = format!(
                    "{} without a condition on a key of its own accepts everybody it knows, for every application; add \
                     one under `StringEquals`, such as {}",
                    quote(provider),
                    quote(&format!("{provider}:aud"))
                );
                add(Rule::WebIdentityUnbound, ".Condition", message);
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
        add(Rule::EverythingAllowed, "", message.to_owned());
    }
}

/// Everybody but everybody.
fn nobody(statement: &Statement, add: Add<'_>) {
    let negated = statement.principal.as_ref().is_some_and(|who| who.negated);
    if negated && values(statement, PrincipalType::Aws).any(|value| value == "*") {
        let message = "`NotPrincipal` with everybody is nobody, so that this statement does nothing; write `Principal`, \
                       or name who is left out";
        add(Rule::NotPrincipalNobody, ".NotPrincipal.AWS", message.to_owned());
    }
}

fn unknown_action(statement: &Statement, add: Add<'_>) {
    if statement.principal.is_none() {
        return;
    }
    if let Some(unknown) = statement.action.values.iter().find(|action| action::is_unknown(action)) {
        let key = if statement.action.negated { ".NotAction" } else { ".Action" };
        add(
            Rule::UnknownAction,
            key,
            format!("{} is no action of sts that is known, and may be a typing mistake", quote(unknown)),
        );
    }
}

/// Variables that are none. The values of conditions are not repeated.
fn variables(statement: &Statement, version: Version, add: Add<'_>) {
    let resource = statement.resource.iter();
    let resources = resource.map(|what| (if what.negated { ".NotResource" } else { ".Resource" }, &what.values));
    let conditions = statement.condition.iter().map(|condition| (".Condition", &condition.values));
    for (place, values) in resources.chain(conditions) {
        let variables = values.iter().filter_map(|value| value.split_once("${"));
        let (rule, message) = match version {
            Version::V2008 if variables.count() > 0 => (
                Rule::VariableAsText,
                "`${…}` is plain text under this version; write \"Version\": \"2012-10-17\" if a variable such as \
                 `${aws:username}` is meant",
            ),
            Version::V2012 if values.iter().any(|value| is_unclosed(value)) => (
                Rule::VariableUnclosed,
                "`${` without `}`, so that this is no variable; close it, or write `${$}{` where the text is meant",
            ),
            _ => continue,
        };
        add(rule, place, message.to_owned());
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
        add(Rule::OtherPartition, if resource.negated { ".NotResource" } else { ".Resource" }, message);
    }
}
