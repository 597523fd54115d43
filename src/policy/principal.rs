//! Reading principals (IAM user guide, "IAM JSON policy elements: Principal").

use super::arn::Arn;
use super::document::{PrincipalType, Principals};
use super::finding::{Path, Quoted, quote};
use super::json::{Node, Value};
use super::parse::{Keys, Reader};

/// Reads `Principal` or `NotPrincipal`.
pub(super) fn read(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node<'_>, negated: bool) -> Option<Principals> {
    if let Value::Text(text) = &node.value {
        if text == "*" {
            let entries = vec![(PrincipalType::Aws, vec!["*".to_owned()])];
            return Some(Principals { negated, entries });
        }
        let message = format!("{} is no principal; write `*` or an object such as {}", quote(text), example(text));
        reader.findings.add(path, node.at, message);
        return None;
    }
    if matches!(node.value, Value::Number(_)) {
        reader.findings.add(path, node.at, number(node));
        return None;
    }
    let members = reader.object(path, node)?;
    if members.is_empty() {
        let message = "an empty principal; name one, such as {\"Service\": \"ec2.amazonaws.com\"}";
        reader.findings.add(path, node.at, message);
    }
    let mut entries = Vec::new();
    let mut keys = Keys::new(&PrincipalType::NAMES);
    for member in members {
        keys.check(reader, path, member);
        if let Some(kind) = PrincipalType::parse(&member.key) {
            let place = path.key(&member.key);
            let values = reader.one_or_more(&place, &member.node, |reader, path, node| value(reader, path, node, kind));
            entries.push((kind, values));
        }
    }
    Some(Principals { negated, entries })
}

/// The object that was probably meant by a bare text.
fn example(text: &str) -> String {
    let kind = match text {
        text if text.contains(":saml-provider/") || text.contains(":oidc-provider/") => PrincipalType::Federated,
        text if text.ends_with(".amazonaws.com") => PrincipalType::Service,
        _ => PrincipalType::Aws,
    };
    format!("{{\"{}\": \"…\"}}", kind.as_str())
}

/// What to say about a number: the account id in quotes, where the number still is one.
fn number(node: &Node<'_>) -> String {
    let id = match &node.value {
        Value::Number(text) if Arn::is_account_id(text) => text,
        _ => "012345670123",
    };
    format!(
        "a number; write the account id in quotes: \"{id}\" (YAML turns an unquoted number with a leading zero into \
         another number)"
    )
}

fn value(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node<'_>, kind: PrincipalType) -> Option<String> {
    if matches!(node.value, Value::Number(_)) {
        reader.findings.add(path, node.at, number(node));
        return None;
    }
    let text = reader.text(path, node)?;
    if let Some(message) = check(kind, &text) {
        reader.findings.add(path, node.at, message);
    }
    Some(text)
}

/// What is wrong with a principal.
fn check(kind: PrincipalType, text: &str) -> Option<String> {
    let quoted = quote(text);
    if text == "*" {
        let everybody = matches!(kind, PrincipalType::Aws);
        return (!everybody).then(|| format!("{quoted}: everybody is written under `AWS`; here list who is meant"));
    }
    if text.contains("${") {
        return Some(format!("{quoted}: IAM replaces no variables in principals; write the principal in full"));
    }
    if text.contains(['*', '?']) {
        return Some(format!(
            "{quoted}: a principal is `*` or has no wildcard; list the principals in full, or allow the account and \
             narrow it by a condition on `aws:PrincipalArn`"
        ));
    }
    match kind {
        PrincipalType::Aws => check_aws(text, quoted),
        PrincipalType::Service => check_service(text, quoted),
        PrincipalType::Federated => check_federated(text, quoted),
        PrincipalType::CanonicalUser => {
            let known = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
            (!known).then(|| format!("{quoted} is no canonical user id"))
        }
    }
}

fn check_aws(text: &str, quoted: Quoted<'_>) -> Option<String> {
    if Arn::is_account_id(text) {
        return None;
    }
    // AWS shows the ARN in place of the id of one that exists, and refuses the id of any other.
    if is_unique_id(text) {
        return Some(format!(
            "{quoted} is a unique id; write the ARN of a role or user that exists: AWS shows ids for deleted principals"
        ));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        let digits = text.len();
        return Some(format!("{quoted}: an account id has 12 digits, this has {digits}; keep leading zeros"));
    }
    if !text.starts_with("arn:") {
        let hint = if text.ends_with(".amazonaws.com") { "; a service goes under `Service`" } else { "" };
        return Some(format!(
            "{quoted} is no principal; write an account id of 12 digits, an ARN of a role or user, or `*`{hint}"
        ));
    }
    let arn = match arn(text, quoted) {
        Ok(arn) => arn,
        Err(message) => return Some(message),
    };
    if matches!(arn.kind(), "saml-provider" | "oidc-provider") {
        return Some(format!("{quoted}: an identity provider goes under `Federated`"));
    }
    let named = arn.resource.contains('/') && !arn.name().is_empty();
    let known = match (arn.service.as_str(), arn.kind()) {
        ("iam", "root") => arn.resource == "root",
        ("iam", "role" | "user") | ("sts", "federated-user") => named,
        ("sts", "assumed-role") => arn.resource.split('/').filter(|part| !part.is_empty()).count() == 3,
        _ => false,
    };
    let known = known && arn.region.is_empty() && Arn::is_account_id(&arn.account);
    (!known).then(|| {
        format!(
            "{quoted} is no principal; write the ARN of an account (`…:root`), a role, a user, or a session \
             (`arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`)"
        )
    })
}

fn arn(text: &str, quoted: Quoted<'_>) -> Result<Arn, String> {
    let arn: Arn = text.parse().map_err(|error| format!("{quoted}: {error}"))?;
    if Arn::is_partition(&arn.partition) {
        return Ok(arn);
    }
    let partition = quote(&arn.partition);
    Err(format!("{quoted}: {partition} is no partition; write `aws`, `aws-cn`, `aws-us-gov`, …"))
}

/// Whether a text is the unique id of a role (`AROA…`) or a user (`AIDA…`): what AWS shows in place of the ARN once the
/// principal is deleted (IAM user guide, "IAM identifiers").
pub(super) fn is_unique_id(text: &str) -> bool {
    let tail = text.strip_prefix("AROA").or_else(|| text.strip_prefix("AIDA"));
    tail.is_some_and(|tail| tail.len() >= 12 && tail.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()))
}

fn host_name(text: &str) -> bool {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    text.contains('.') && text.split('.').all(label)
}

/// Web identity providers that are named without an ARN (IAM user guide, "AWS JSON policy elements: Principal").
fn web_identity(host: &str) -> bool {
    let cognito = host.strip_prefix("cognito-identity").is_some_and(|rest| {
        let rest = rest.strip_suffix(".cn").unwrap_or(rest);
        rest.ends_with(".amazonaws.com")
    });
    cognito || ["accounts.google.com", "graph.facebook.com", "www.amazon.com"].contains(&host)
}

fn check_service(text: &str, quoted: Quoted<'_>) -> Option<String> {
    let hint = if text.starts_with("arn:") || Arn::is_account_id(text) {
        "; accounts, roles and users go under `AWS`"
    } else {
        ""
    };
    (!host_name(text)).then(|| format!("{quoted} is no service principal; write one such as `ec2.amazonaws.com`{hint}"))
}

fn check_federated(text: &str, quoted: Quoted<'_>) -> Option<String> {
    if !text.starts_with("arn:") {
        return (!web_identity(text)).then(|| {
            format!(
                "{quoted} is no identity provider; write its ARN (`…:oidc-provider/HOST/PATH` without `https://`, or \
                 `…:saml-provider/NAME`), or a web identity provider such as `accounts.google.com`"
            )
        });
    }
    let arn = match arn(text, quoted) {
        Ok(arn) => arn,
        Err(message) => return Some(message),
    };
    if arn.service != "iam" || !matches!(arn.kind(), "saml-provider" | "oidc-provider") {
        return Some(format!("{quoted} is no identity provider; roles and users go under `AWS`"));
    }
    let name = arn.resource.split_once('/').map_or("", |(_, name)| name);
    let whole = arn.region.is_empty() && Arn::is_account_id(&arn.account) && !name.is_empty() && !name.contains("://");
    (!whole).then(|| {
        format!(
            "{quoted} is not the ARN of an identity provider; write `arn:PARTITION:iam::ACCOUNT:oidc-provider/HOST/PATH` \
             without `https://`, or `…:saml-provider/NAME`"
        )
    })
}
