//! Reading conditions (IAM user guide, "IAM JSON policy elements: Condition").

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use super::document::Condition;
use super::finding::Path;
use super::json::{Member, Node, Value};
use super::operator::{Kind, Operator, Unknown};
use super::parse::{Keys, Reader};

/// Reads `Condition`. An empty object and an operator without keys have no effect and are left out.
pub(super) fn read(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let Some(operators) = reader.object(path, node) else {
        return conditions;
    };
    let mut names = Keys::new(&[]);
    for member in operators {
        names.check(reader, path, member);
        let place = path.key(&member.key);
        let Some(operator) = Operator::parse(&member.key) else {
            let message = Unknown(&member.key);
            reader.findings.add(&place, member.at, message);
            continue;
        };
        let Some(keys) = reader.object(&place, &member.node) else {
            continue;
        };
        let mut seen = HashSet::with_capacity(keys.len());
        for key in keys {
            if reader.findings.are_enough() {
                break;
            }
            conditions.extend(read_key(reader, &place, &member.key, operator, key, &mut seen));
        }
    }
    conditions
}

fn read_key<'m>(
    reader: &mut Reader<'_>,
    path: &Path<'_>,
    name: &str,
    operator: Operator,
    member: &'m Member,
    seen: &mut HashSet<Cow<'m, str>>,
) -> Option<Condition> {
    let place = path.key(&member.key);
    let key = reader.expand(&place, member.at, &member.key)?;
    let lower = member.key == key && !key.bytes().any(|b| b.is_ascii_uppercase());
    let folded = if lower { Cow::Borrowed(member.key.as_str()) } else { Cow::Owned(key.to_ascii_lowercase()) };
    if !seen.insert(folded) {
        let message = "the key is there twice (case doesn't matter in condition keys); write one list of values";
        reader.findings.add(&place, member.at, message);
    }
    if !key.contains(':') {
        let message = "no condition key; a key begins with its service or provider, such as `aws:SourceArn`";
        reader.findings.add(&place, member.at, message);
    }
    let values =
        reader.one_or_more(&place, &member.node, |reader, path, node| value(reader, path, node, operator.kind));
    Some(Condition { operator: name.to_owned(), key, values })
}

/// Reads one value. Values are text; a number or boolean stands for its text where the operator compares such.
fn value(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node, kind: Kind) -> Option<String> {
    match (&node.value, kind) {
        (Value::Number(number), Kind::Numeric | Kind::Date) => Some(number.clone()),
        (Value::Bool(flag), Kind::Bool | Kind::Null) => Some(flag.to_string()),
        (Value::Number(_) | Value::Bool(_), _) => {
            let message = format!(
                "{}, where this operator compares text; write the value in quotes (YAML turns unquoted words and \
                 numbers into other values)",
                node.kind()
            );
            reader.findings.add(path, node.at, message);
            None
        }
        _ => {
            let text = reader.text(path, node)?;
            if let Some(wanted) = unfit(kind, &text) {
                reader.findings.add(path, node.at, format!("no value for this operator; write {wanted}"));
            }
            Some(text)
        }
    }
}

/// What an operator's value should be, where this text can be none. Such a condition never holds, and a denial
/// under it denies nothing. Text with a policy variable is left to AWS.
fn unfit(kind: Kind, text: &str) -> Option<&'static str> {
    if text.contains("${") {
        return None;
    }
    let (fits, wanted) = match kind {
        Kind::Bool | Kind::Null => {
            (text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"), "`true` or `false`")
        }
        Kind::Numeric => (text.parse::<f64>().is_ok_and(f64::is_finite), "a number"),
        Kind::Date => (is_date(text), "a date such as `2026-01-31T12:00:00Z`, or seconds since 1970"),
        Kind::Ip => (is_network(text), "an address or a network such as `203.0.113.0/24`"),
        Kind::Arn => {
            (may_be_arn(text), "an ARN, `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`, or a pattern of ARNs")
        }
        Kind::Binary => (is_base64(text), "base64"),
        Kind::String => (true, ""),
    };
    (!fits).then_some(wanted)
}

/// Whether a text is an ARN, or a pattern that can match one: a wildcard may stand for several parts.
fn may_be_arn(text: &str) -> bool {
    match text.split_once(['*', '?']) {
        Some((before, _)) => before.starts_with("arn:") || "arn:".starts_with(before),
        None => text.starts_with("arn:") && text.splitn(6, ':').count() == 6,
    }
}

/// Base64, also where the filling at its end is left out.
fn is_base64(text: &str) -> bool {
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    plain && digits.len() % 4 != 1 && (digits.len() == text.len() || text.len().is_multiple_of(4))
}

/// The beginning of an ISO 8601 date, or seconds of the epoch.
fn is_date(text: &str) -> bool {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    let day = text.split_once('T').map_or(text, |(day, _)| day);
    let mut parts = day.split('-').map(|part| part.parse::<u16>().ok().filter(|_| part.len() == 2 || part.len() == 4));
    let year = parts.next().flatten().is_some_and(|year| year >= 1000);
    let month = parts.next().flatten().is_some_and(|month| (1..=12).contains(&month));
    let day = parts.next().is_none_or(|day| day.is_some_and(|day| (1..=31).contains(&day)));
    year && month && day && parts.next().is_none()
}

fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|prefix| prefix <= longest))
}

#[cfg(test)]
mod tests {
    use super::{Kind, unfit};

    #[test]
    fn values_fit_their_operators() {
        for (kind, good, bad) in [
            (Kind::Bool, &["true", "False", "${aws:x}"][..], &["yes", "", "1"][..]),
            (Kind::Null, &["false"], &["maybe"]),
            (Kind::Numeric, &["0", "-1.5", "1e3"], &["abc", "", "1e400", "NaN"]),
            (
                Kind::Date,
                &["2026-01-31T12:00:00Z", "2026-01-31", "2026-01", "1767225600"],
                &["yesterday", "", "2026-13-01", "2026-01-45T00:00:00Z", "26-01-01"],
            ),
            (Kind::Ip, &["10.0.0.1", "10.0.0.0/8", "2001:db8::/32", "::1"], &["hello", "10.0.0.0/33", "10.0.0/8"]),
            (
                Kind::Arn,
                &["arn:aws:s3:::b", "arn:*", "*", "a*", "?rn:aws:iam::123456789012:role/x", "arn:aws:iam::*:role/a:b"],
                &["", "123456789012", "arn:aws:iam", "arn:", "role/*", "b*", "AROAEXAMPLEEXAMPLE123", "ARN:*"],
            ),
            (
                Kind::Binary,
                &["", "QmFzZQ==", "QmFzZQ", "QmFzZTY=", "+/+/"],
                &["QmFzZ", "QmFzZQ=", "Qm Fz", "ä", "===="],
            ),
            (Kind::String, &["", "anything"], &[]),
        ] {
            for text in good {
                assert_eq!(unfit(kind, text), None, "{text}");
            }
            for text in bad {
                assert!(unfit(kind, text).is_some(), "{text}");
            }
        }
    }
}
