//! Canonical forms of single values.

use super::arn::Arn;
use super::canonical::AccountRef;
use super::operator::{Kind, Operator};

/// The canonical form of a value under `AWS`: an account's root ARN of our own partition is the account's id.
pub(super) fn aws_principal(value: &str, account: &AccountRef) -> String {
    let root = || {
        let rest = value.strip_prefix("arn:")?.strip_prefix(account.partition.as_str())?;
        let id = rest.strip_prefix(":iam::")?.strip_suffix(":root")?;
        Arn::is_account_id(id).then(|| id.to_owned())
    };
    root().unwrap_or_else(|| value.to_owned())
}

/// How values of a condition operator are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueRule {
    /// As text.
    Exact,
    /// As text, but for the case of ASCII letters.
    AnyCase,
    /// As decimal numbers.
    Decimal,
}

impl ValueRule {
    /// The rule of an operator; of an unknown one, the exact text.
    pub(super) fn of(operator: &str) -> Self {
        match Operator::parse(operator).map(|operator| operator.kind) {
            Some(Kind::Bool | Kind::Null) => Self::AnyCase,
            Some(Kind::String) if operator.contains("EqualsIgnoreCase") => Self::AnyCase,
            Some(Kind::Numeric) => Self::Decimal,
            _ => Self::Exact,
        }
    }

    /// The canonical form of a value.
    pub(super) fn canonical(self, value: &str) -> String {
        match self {
            Self::Exact => value.to_owned(),
            Self::AnyCase => value.to_ascii_lowercase(),
            Self::Decimal => decimal(value).unwrap_or_else(|| value.to_owned()),
        }
    }
}

/// The shortest way to write a plain decimal number such as `-12.50`, or `None` for other texts. Digit by digit: as
/// floating point large numbers would become equal that are not. Exponents stay as they are, since it is not known
/// what IAM makes of them.
fn decimal(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) {
        return None;
    }
    if fraction == "0" && sign.is_empty() && (whole == "0" || !whole.starts_with('0')) {
        return Some(whole.to_owned());
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    Some(match (whole, fraction) {
        ("", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        ("", fraction) => format!("{sign}0.{fraction}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for (text, expected) in [
            ("1", "1"),
            ("1.0", "1"),
            ("01", "1"),
            ("100", "100"),
            ("0.050", "0.05"),
            ("-0.0", "0"),
            ("-12.30", "-12.3"),
            ("9007199254740993", "9007199254740993"),
        ] {
            assert_eq!(decimal(text).as_deref(), Some(expected), "{text}");
            assert_eq!(decimal(expected).as_deref(), Some(expected));
        }
        for text in ["", "-", ".", ".5", "5.", "1e2", "1x", "0x10", "${x}", "1.2.3", "--1", "+1", "1.-2"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn values_follow_their_operator() {
        for (operator, value, expected) in [
            ("Bool", "True", "true"),
            ("ForAnyValue:BoolIfExists", "FALSE", "false"),
            ("Null", "True", "true"),
            ("NumericLessThanIfExists", "5.0", "5"),
            ("StringEquals", "True", "True"),
            ("StringEquals", "5.0", "5.0"),
            ("StringEqualsIgnoreCase", "Ab", "ab"),
            ("ForAllValues:StringNotEqualsIgnoreCaseIfExists", "Ab", "ab"),
            ("DateEquals", "5.0", "5.0"),
            ("Unheard", "True", "True"),
        ] {
            let rule = ValueRule::of(operator);
            assert_eq!(rule.canonical(value), expected, "{operator}");
        }
    }

    #[test]
    fn account_roots() {
        let account = AccountRef { partition: "aws".to_owned(), id: "111122223333".to_owned() };
        for (text, expected) in [
            ("arn:aws:iam::123456789012:root", "123456789012"),
            ("123456789012", "123456789012"),
            ("arn:aws-cn:iam::123456789012:root", "arn:aws-cn:iam::123456789012:root"),
            ("arn:aws:iam::123456789012:role/root", "arn:aws:iam::123456789012:role/root"),
            ("arn:aws:sts::123456789012:root", "arn:aws:sts::123456789012:root"),
            ("arn:aws:iam::*:root", "arn:aws:iam::*:root"),
        ] {
            assert_eq!(aws_principal(text, &account), expected);
        }
    }
}
