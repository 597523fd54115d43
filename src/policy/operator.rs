//! Condition operators (IAM user guide, "IAM JSON policy elements: Condition operators").

use std::fmt;

use super::finding::{did_you_mean, quote};

/// What an operator compares, which decides the values it takes and when two of them are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Numeric,
    Date,
    Bool,
    Binary,
    Ip,
    Arn,
    Null,
}

/// All operators: name, what they compare, and whether they hold when *no* value matches.
const OPERATORS: [(&str, Kind, bool); 27] = [
    ("StringEquals", Kind::String, false),
    ("StringNotEquals", Kind::String, true),
    ("StringEqualsIgnoreCase", Kind::String, false),
    ("StringNotEqualsIgnoreCase", Kind::String, true),
    ("StringLike", Kind::String, false),
    ("StringNotLike", Kind::String, true),
    ("NumericEquals", Kind::Numeric, false),
    ("NumericNotEquals", Kind::Numeric, true),
    ("NumericLessThan", Kind::Numeric, false),
    ("NumericLessThanEquals", Kind::Numeric, false),
    ("NumericGreaterThan", Kind::Numeric, false),
    ("NumericGreaterThanEquals", Kind::Numeric, false),
    ("DateEquals", Kind::Date, false),
    ("DateNotEquals", Kind::Date, true),
    ("DateLessThan", Kind::Date, false),
    ("DateLessThanEquals", Kind::Date, false),
    ("DateGreaterThan", Kind::Date, false),
    ("DateGreaterThanEquals", Kind::Date, false),
    ("Bool", Kind::Bool, false),
    ("BinaryEquals", Kind::Binary, false),
    ("IpAddress", Kind::Ip, false),
    ("NotIpAddress", Kind::Ip, true),
    ("ArnEquals", Kind::Arn, false),
    ("ArnLike", Kind::Arn, false),
    ("ArnNotEquals", Kind::Arn, true),
    ("ArnNotLike", Kind::Arn, true),
    ("Null", Kind::Null, false),
];

const PREFIXES: [&str; 2] = ["ForAllValues:", "ForAnyValue:"];
const SUFFIX: &str = "IfExists";

/// An operator, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    pub kind: Kind,
    /// Holds when no value matches, so more values make it hold less often.
    pub negated: bool,
    /// `…IfExists`, or `ForAllValues:…`: also holds when the request has no such key.
    pub holds_without_key: bool,
}

impl Operator {
    /// Reads an operator in IAM's own spelling.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = text.starts_with("ForAllValues:");
        let bare = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
        let (name, if_exists) = bare.strip_suffix(SUFFIX).map_or((bare, false), |name| (name, true));
        let (_, kind, negated) = OPERATORS.iter().find(|(known, ..)| *known == name)?;
        if if_exists && *kind == Kind::Null {
            return None;
        }
        Some(Self { kind: *kind, negated: *negated, holds_without_key: all || if_exists })
    }
}

/// What to say about a text that is no operator. Worked out when it is written, since a guess is dear.
pub(super) struct Unknown<'t>(pub &'t str);

impl fmt::Display for Unknown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == "NullIfExists" {
            return f.write_str("`Null` asks whether the key exists and takes no `IfExists`; write `Null`");
        }
        match meant(self.0) {
            Some(meant) => write!(f, "unknown condition operator; did you mean `{meant}`?"),
            None => write!(
                f,
                "unknown condition operator {}; operators are `StringEquals`, `ArnLike`, `Bool`, …, with `IfExists` \
                 after or `ForAllValues:`/`ForAnyValue:` before them",
                quote(self.0)
            ),
        }
    }
}

fn meant(text: &str) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let (prefix, bare) = match text.split_once(':') {
        Some((word, bare)) => (did_you_mean(&format!("{word}:"), PREFIXES)?, bare),
        None => ("", text),
    };
    let cut = bare.len().checked_sub(SUFFIX.len());
    let (bare, suffix) = match cut.and_then(|cut| Some((bare.get(..cut)?, bare.get(cut..)?))) {
        Some((name, end)) if end.eq_ignore_ascii_case(SUFFIX) => (name, SUFFIX),
        _ => (bare, ""),
    };
    let name = did_you_mean(bare, OPERATORS.iter().map(|(name, ..)| *name))?;
    Some(format!("{prefix}{name}{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_known() {
        for (name, kind, negated) in OPERATORS {
            for prefix in ["", "ForAllValues:", "ForAnyValue:"] {
                for suffix in ["", "IfExists"] {
                    let text = format!("{prefix}{name}{suffix}");
                    let parsed = Operator::parse(&text);
                    if name == "Null" && !suffix.is_empty() {
                        assert_eq!(parsed, None, "{text}");
                    } else {
                        let parsed = parsed.unwrap();
                        assert_eq!((parsed.kind, parsed.negated), (kind, negated), "{text}");
                        assert_eq!(parsed.holds_without_key, prefix == "ForAllValues:" || !suffix.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn hints() {
        for (text, hint) in [
            ("stringequals", "did you mean `StringEquals`?"),
            ("StringEqual", "did you mean `StringEquals`?"),
            ("ForAnyValues:stringLikeifexists", "did you mean `ForAnyValue:StringLikeIfExists`?"),
            ("ForAnyValue:Stringlike", "did you mean `ForAnyValue:StringLike`?"),
            ("NullIfExists", "write `Null`"),
            ("Whatever", "unknown condition operator `Whatever`"),
            ("aws:SourceArn", "unknown condition operator `aws:SourceArn`"),
            ("", "unknown condition operator ``"),
        ] {
            assert!(Operator::parse(text).is_none());
            let message = Unknown(text).to_string();
            assert!(message.contains(hint), "{text}: {message}");
        }
    }
}
