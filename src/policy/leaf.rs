//! Canonical forms of single values.

use super::arn::Arn;
use super::canonical::AccountRef;
use super::operator::{Kind, Operator};

/// Largest power of ten that is written out in a canonical number; more stay as they were written.
const WRITTEN_OUT: i64 = 64;

/// The canonical form of a value under `AWS`: an account's root ARN of our own partition is the account's id.
pub(super) fn aws_principal(value: &str, account: &AccountRef) -> String {
    let root = || {
        let rest = value
            .strip_prefix("arn:")?
            .strip_prefix(account.partition.as_str())?;
        let id = rest.strip_prefix(":iam::")?.strip_suffix(":root")?;
        Arn::is_account_id(id).then(|| id.to_owned())
    };
    root().unwrap_or_else(|| value.to_owned())
}

/// The canonical form of a condition's value, which depends on what the operator compares.
pub(super) fn condition_value(operator: &str, value: &str) -> String {
    match Operator::parse(operator).map(|operator| operator.kind) {
        Some(Kind::Bool | Kind::Null) => value.to_ascii_lowercase(),
        Some(Kind::Numeric) => decimal(value).unwrap_or_else(|| value.to_owned()),
        _ => value.to_owned(),
    }
}

/// The shortest way to write a decimal number, or `None` for other texts. Exact: no floating point is involved.
fn decimal(text: &str) -> Option<String> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    // The value is `significant` · 10^`power`.
    let power = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(i64::try_from(trailing).ok()?)?;
    let sign = if negative { "-" } else { "" };
    if power.abs() > WRITTEN_OUT {
        return Some(format!("{sign}{significant}e{power}"));
    }
    let shift = usize::try_from(power.unsigned_abs()).ok()?;
    if power >= 0 {
        return Some(format!("{sign}{significant}{}", "0".repeat(shift)));
    }
    let padded = format!("{significant:0>width$}", width = shift + 1);
    let (whole, fraction) = padded.split_at_checked(padded.len() - shift)?;
    Some(format!("{sign}{whole}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for (text, expected) in [
            ("1", "1"),
            ("+1", "1"),
            ("1.0", "1"),
            ("01", "1"),
            ("1e0", "1"),
            ("100", "100"),
            ("1e2", "100"),
            ("1.50E1", "15"),
            ("0.050", "0.05"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-0.0", "0"),
            ("-12.30", "-12.3"),
            ("9007199254740993", "9007199254740993"),
            ("1e999999999", "1e999999999"),
            ("10e999999998", "1e999999999"),
            ("1e-70", "1e-70"),
        ] {
            assert_eq!(decimal(text).as_deref(), Some(expected), "{text}");
            assert_eq!(
                decimal(expected).as_deref(),
                Some(expected),
                "{expected} is not canonical"
            );
        }
        for text in [
            "",
            "-",
            ".",
            "e1",
            "1e",
            "1x",
            "0x10",
            "1e99999999999999999999",
            "${x}",
            "1.2.3",
            "--1",
        ] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn account_roots() {
        let account = AccountRef {
            partition: "aws".to_owned(),
            id: "111122223333".to_owned(),
        };
        for (text, expected) in [
            ("arn:aws:iam::123456789012:root", "123456789012"),
            ("123456789012", "123456789012"),
            (
                "arn:aws-cn:iam::123456789012:root",
                "arn:aws-cn:iam::123456789012:root",
            ),
            (
                "arn:aws:iam::123456789012:role/root",
                "arn:aws:iam::123456789012:role/root",
            ),
            (
                "arn:aws:sts::123456789012:root",
                "arn:aws:sts::123456789012:root",
            ),
            ("arn:aws:iam::*:root", "arn:aws:iam::*:root"),
        ] {
            assert_eq!(aws_principal(text, &account), expected);
        }
    }
}
