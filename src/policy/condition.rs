//! Reading conditions (IAM user guide, "IAM JSON policy elements: Condition").

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::document::Condition;
use super::finding::Path;
use super::json::{Member, Node, Value};
use super::operator::{Kind, Operator, Unknown};
use super::parse::{Keys, Reader};

/// Reads `Condition`. An empty object and an operator without keys have no effect and are left out.
pub(super) fn read(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node<'_>) -> Vec<Condition> {
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
        let name: Arc<str> = (*member.key).into();
        let mut seen = HashSet::with_capacity(keys.len());
        for key in keys {
            if reader.findings.are_enough() {
                break;
            }
            conditions.extend(read_key(reader, &place, &name, operator, key, &mut seen));
        }
    }
    conditions
}

fn read_key<'m>(
    reader: &mut Reader<'_>,
    path: &Path<'_>,
    name: &Arc<str>,
    operator: Operator,
    member: &'m Member<'_>,
    seen: &mut HashSet<Cow<'m, str>>,
) -> Option<Condition> {
    let place = path.key(&member.key);
    let key = reader.expand(&place, member.at, &member.key)?;
    let lower = member.key == key && !key.bytes().any(|b| b.is_ascii_uppercase());
    let folded = if lower { Cow::Borrowed(&*member.key) } else { Cow::Owned(key.to_ascii_lowercase()) };
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
    Some(Condition { operator: Arc::clone(name), key, values })
}

/// Reads one value. Values are text; a number or boolean stands for its text where the operator compares such.
fn value(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node<'_>, kind: Kind) -> Option<String> {
    match (&node.value, kind) {
        (Value::Number(number), Kind::Numeric | Kind::Date) => {
            if node.at.is_none() && !survives(number) {
                let message = "a number that may not be the one that was written: only integers below 2^53 and decimals \
                               of at most 15 digits without exponent are surely kept; write it in quotes";
                reader.findings.add(path, node.at, message);
            } else if let Some(wanted) = unfit(kind, number) {
                reader.findings.add(path, node.at, format!("no value for this operator; write {wanted}"));
            }
            Some(number.to_string())
        }
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
        Kind::Numeric => (is_number(text), "a number"),
        Kind::Date => (is_date(text), "a date such as `2026-01-31T12:00:00Z`, or seconds since 1970 (10 digits today)"),
        Kind::Ip => (is_network(text), "an address or a network such as `203.0.113.0/24`"),
        Kind::Arn => {
            (may_be_arn(text), "an ARN, `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`, or a pattern of ARNs")
        }
        Kind::Binary => (is_base64(text), "base64"),
        Kind::String => (true, ""),
    };
    (!fits).then_some(wanted)
}

/// A number that is no infinity as floating point. Most need no reading for that.
fn is_number(text: &str) -> bool {
    let short = (1..20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    short || text.parse::<f64>().is_ok_and(f64::is_finite)
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

/// Whether a number that came from no text is surely the one that was written. The API server and we read numbers as
/// 64-bit floating point where they are no small integers: what is longer has become the nearest such number, in
/// silence. Numbers in JSON text keep their source text and need none of this.
fn survives(number: &str) -> bool {
    const EXACT: u64 = 1 << 53;
    let digits = number.strip_prefix('-').unwrap_or(number);
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    if !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return false;
    }
    match digits.split_once('.') {
        // 2^53 itself is also what 2^53 + 1 becomes.
        None => digits.parse::<u64>().is_ok_and(|number| number < EXACT),
        Some((whole, fraction)) => {
            let significant = format!("{whole}{fraction}");
            significant.trim_start_matches('0').len() <= 15
        }
    }
}

/// A number of exactly so many digits: `parse` alone would take a sign.
fn digits(text: &str, count: usize) -> Option<u32> {
    let plain = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// A date as W3C writes it (IAM user guide: "one of the W3C implementations of the ISO 8601 date formats"), or seconds of
/// the epoch. The zone may be left out, since it is not known that AWS refuses that.
fn is_date(text: &str) -> bool {
    let (day, time) = text.split_once('T').map_or((text, None), |(day, time)| (day, Some(time)));
    if time.is_none() && text.bytes().all(|b| b.is_ascii_digit()) {
        return is_epoch(text);
    }
    let parts: Vec<&str> = day.split('-').collect();
    match (parts.as_slice(), time) {
        ([year, month], None) => is_day(year, month, "01"),
        ([year, month, day], time) => is_day(year, month, day) && time.is_none_or(is_time),
        _ => false,
    }
}

/// Seconds from 1973 to the year 9999. Shorter numbers are years (2026) or days (20260131), longer ones milliseconds.
fn is_epoch(text: &str) -> bool {
    let range = 100_000_000..=253_402_300_799;
    !text.starts_with('0') && text.parse::<u64>().is_ok_and(|seconds| range.contains(&seconds))
}

fn is_day(year: &str, month: &str, day: &str) -> bool {
    let (Some(year), Some(month), Some(day)) = (digits(year, 4), digits(month, 2), digits(day, 2)) else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    year >= 1000 && (1..=last).contains(&day)
}

/// `12:00`, `12:00:00` or `12:00:00.5`, with `Z`, `+01:00` or no zone.
fn is_time(text: &str) -> bool {
    let up_to = |text: &str, last: u32| digits(text, 2).is_some_and(|number| number <= last);
    let is_clock = |text: &str| text.split_once(':').is_some_and(|(hour, minute)| up_to(hour, 23) && up_to(minute, 59));
    let clock = match text.strip_suffix('Z') {
        Some(clock) => clock,
        None => match text.split_once(['+', '-']) {
            Some((clock, zone)) if is_clock(zone) => clock,
            Some(_) => return false,
            None => text,
        },
    };
    let Some((minutes, seconds)) = clock.split_at_checked(5) else {
        return false;
    };
    let (second, fraction) = seconds.split_once('.').map_or((seconds, "0"), |(second, fraction)| (second, fraction));
    let fraction_ok = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    let second_ok = second.strip_prefix(':').is_some_and(|second| up_to(second, 59));
    is_clock(minutes) && fraction_ok && (seconds.is_empty() || second_ok)
}

/// An address, or one with the length of a network's prefix. Bits behind the prefix are let through: AWS ignores them.
fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    // `parse` alone would take signs and leading zeros.
    let plain = |prefix: &str| prefix.parse::<u32>().ok().filter(|length| length.to_string() == prefix);
    prefix.is_none_or(|prefix| plain(prefix).is_some_and(|length| length <= longest))
}

#[cfg(test)]
mod tests {
    use super::{Kind, survives, unfit};

    #[test]
    fn values_fit_their_operators() {
        for (kind, good, bad) in [
            (Kind::Bool, &["true", "False", "${aws:x}"][..], &["yes", "", "1"][..]),
            (Kind::Null, &["false"], &["maybe"]),
            (Kind::Numeric, &["0", "-1.5", "1e3"], &["abc", "", "1e400", "NaN"]),
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
            judge(kind, good, bad);
        }
    }

    fn judge(kind: Kind, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(unfit(kind, text), None, "{text}");
        }
        for text in bad {
            assert!(unfit(kind, text).is_some(), "{text}");
        }
    }

    #[test]
    fn dates() {
        let good = "2026-01-31T12:00:00Z 2026-01-31T12:00Z 2026-01-31T23:59:59.999+05:30 2026-01-31T00:00:00-08:00 \
                    2026-01-31T12:00:00 2026-01-31 2026-01 2024-02-29 2000-02-29 1767225600 100000000 253402300799 \
                    ${aws:x}";
        let bad = "yesterday 2026-13-01 2026-00-01 2026-01-45T00:00:00Z 2026-02-29 1900-02-29 2026-04-31 2026-01-00 \
                   26-01-01 2026-1-31 2026-01-031 +026-01-31 2026-+1-31 2026-01-31- 2026-01-31-01 20260131T120000Z \
                   2026-01-31Tgarbage 2026-01-31T 2026-01T12:00Z 2026-01-31T12 2026-01-31T12Z 2026-01-31T24:00Z \
                   2026-01-31T12:60Z 2026-01-31T12:00:60Z 2026-01-31T12:00:00z 2026-01-31t12:00:00Z \
                   2026-01-31T12:00:00ZZ 2026-01-31T12:00:00.Z 2026-01-31T12:00.5Z 2026-01-31T12:00:00+0530 \
                   2026-01-31T12:00:00+5:30 2026-01-31T12:00:00+25:00 2026-01-31T12:00:00+01:00Z 2026-01-31T+2:00:00Z \
                   2026-01-31T12:00:00é 2026-01-31Té2:00 2026 20260131 1767225600000 0 -1767225600 +1767225600 1767225600.5 \
                   1.767e9 01767225600 253402300800 99999999999999999999 2026/01/31";
        let words = |texts: &'static str| texts.split_whitespace().collect::<Vec<_>>();
        judge(Kind::Date, &words(good), &words(bad));
        judge(Kind::Date, &[], &["", " ", "2026-01-31 12:00:00", " 2026-01-31", "2026-01-31 "]);
    }

    #[test]
    fn networks() {
        let good = [
            "10.0.0.1",
            "10.0.0.0/8",
            "10.0.0.1/8",
            "0.0.0.0/0",
            "1.2.3.4/32",
            "2001:db8::/32",
            "::1",
            "::/0",
            "::1/128",
        ];
        let bad = [
            "",
            "hello",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.1/+8",
            "10.0.0.1/08",
            "10.0.0.1/-8",
            "10.0.0.1/",
            "10.0.0.1/8/8",
            "10.0.0.1/ 8",
            "10.0.0.1/8 ",
            " 10.0.0.1",
            "010.0.0.1",
            "10.0.0.256",
            "10.0.0.1.1",
            "10.0.0.1/255.0.0.0",
            "10.0.0.*",
            "::1/129",
            "::1/0128",
            ":::1",
            "fe80::1%eth0",
            "[::1]",
            "10.0.0.1-10.0.0.9",
            "10.0.0.1,10.0.0.2",
            "10.0.0.1/00",
        ];
        judge(Kind::Ip, &good, &bad);
    }

    #[test]
    fn numbers_that_survive_floating_point() {
        for text in [
            "0",
            "-1",
            "5",
            "1.5",
            "-0.25",
            "0.1",
            "100.0",
            "9007199254740991",
            "-9007199254740991",
            "123456789.012345",
        ] {
            assert!(survives(text), "{text}");
        }
        for text in [
            "9007199254740992",
            "-9007199254740992",
            "18446744073709551615",
            "1e20",
            "1e-7",
            "0.30000000000000004",
            "1234567890.123456",
            "9007199254740992.0",
            "1E5",
        ] {
            assert!(!survives(text), "{text}");
        }
    }
}
