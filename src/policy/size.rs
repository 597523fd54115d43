//! Sizes of policy documents and IAM's quotas for them.

use std::fmt;

use super::document::{Document, Statement};
use super::finding::{Finding, quote};
use super::json;

/// Share of a quota, in percent, from which on [`Usage::is_near`] warns.
const NEAR: usize = 80;

/// IAM's quotas for the size of policy documents, in characters that are not white space
/// (IAM user guide, "IAM and AWS STS quotas").
///
/// The default is what a new account has; `GetAccountSummary` tells an account's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A role's trust policy (`AssumeRolePolicySizeQuota`); 2048 by default.
    pub trust: usize,
    /// All inline policies of a role together (`RolePolicySizeQuota`); 10240 by default.
    pub inline_total: usize,
    /// One managed policy (`PolicySizeQuota`); 6144 by default.
    pub managed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { trust: 2048, inline_total: 10240, managed: 6144 }
    }
}

/// How much of a quota is used, and by what most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Characters used.
    pub used: usize,
    /// The quota.
    pub limit: usize,
    /// The biggest part, the first one of several: a statement by index and Sid, or a policy by name.
    pub biggest: String,
    /// Its characters.
    pub biggest_size: usize,
    advice: &'static str,
}

impl Usage {
    /// The used share in percent, rounded down.
    #[must_use]
    pub fn percent(&self) -> usize {
        self.used.saturating_mul(100).checked_div(self.limit).unwrap_or(100)
    }

    /// Whether 80 % or more of the quota is used.
    #[must_use]
    pub fn is_near(&self) -> bool {
        self.percent() >= NEAR
    }

    /// What to say where the quota is exceeded; `path` is the place of what was measured.
    #[must_use]
    pub fn excess(&self, path: &str) -> Option<Finding> {
        (self.used > self.limit).then(|| Finding {
            path: path.to_owned(),
            message: format!("{} characters without white space; IAM takes {}. {self}", self.used, self.limit),
        })
    }
}

/// The biggest part, and what to do about it.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { biggest, biggest_size, advice, .. } = self;
        write!(f, "The biggest part is {biggest} with {biggest_size}; {advice}")
    }
}

impl Limits {
    /// What a trust policy uses of its quota.
    #[must_use]
    pub fn of_trust(&self, document: &Document) -> Usage {
        let advice = "name fewer principals, or allow an account and narrow it by one condition on `aws:PrincipalArn`";
        one(self.trust, document, advice)
    }

    /// What a managed policy uses of its quota.
    #[must_use]
    pub fn of_managed(&self, document: &Document) -> Usage {
        one(self.managed, document, "move statements to another managed policy, which has a quota of its own")
    }

    /// What the inline policies of a role, given by name and size, use of the one quota that they share.
    #[must_use]
    pub fn of_inline<'p>(&self, policies: impl IntoIterator<Item = (&'p str, usize)>) -> Usage {
        let parts = policies.into_iter().map(|(name, size)| (format!("policy {name:?}"), size));
        let (used, biggest, biggest_size) = sum(parts);
        let advice = "make it a customer managed policy, which has a quota of its own";
        Usage { used, limit: self.inline_total, biggest, biggest_size, advice }
    }
}

fn one(limit: usize, document: &Document, advice: &'static str) -> Usage {
    let parts = document.statements().iter().enumerate().map(|(index, statement)| {
        let sid = statement.sid.as_deref().filter(|sid| !sid.is_empty());
        let sid = sid.map(|sid| format!(" (Sid {})", quote(sid))).unwrap_or_default();
        (format!("Statement[{index}]{sid}"), of_statement(statement))
    });
    let (_, biggest, biggest_size) = sum(parts);
    Usage { used: document.size(), limit, biggest, biggest_size, advice }
}

/// The size of a statement in the form that is sent.
pub(super) fn of_statement(statement: &Statement) -> usize {
    let mut text = String::new();
    json::write(&statement.to_node(), &mut text);
    count(&text)
}

/// The sum of sizes, and the first of the biggest parts.
fn sum(parts: impl Iterator<Item = (String, usize)>) -> (usize, String, usize) {
    parts.fold((0, String::new(), 0), |(used, biggest, most), (part, size)| {
        let used = used.saturating_add(size);
        if size > most { (used, part, size) } else { (used, biggest, most) }
    })
}

/// The characters of a text that are not white space.
pub(super) fn count(text: &str) -> usize {
    text.chars().filter(|c| !c.is_ascii_whitespace()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Grammar, Tokens};

    /// A document of exactly so many characters, of which a second statement named `Big` has most.
    fn document(size: usize) -> Document {
        let text = |fill: usize| {
            format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":"*","Resource":"*"}},
                   {{"Sid":"Big","Effect":"Deny","Action":"s3:{}","Resource":"*"}}]}}"#,
                "a".repeat(fill)
            )
        };
        let read = |fill| Document::from_json(Grammar::Permission, "d", &text(fill), &Tokens::default()).unwrap();
        read(1 + size - read(1).size())
    }

    #[test]
    fn limits_are_inclusive_and_the_biggest_statement_is_named() {
        let limits = Limits::default();
        assert_eq!(limits.of_trust(&document(2048)).excess("t"), None);
        let error = limits.of_trust(&document(2049)).excess("spec.trustPolicy").unwrap().to_string();
        let expected = "spec.trustPolicy: 2049 characters without white space; IAM takes 2048. The biggest part is Statement[1] \
                        (Sid `Big`) with 1964; name fewer principals, or allow";
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(limits.of_managed(&document(6144)).excess("m"), None);
        let error = limits.of_managed(&document(6145)).excess("m").unwrap().to_string();
        assert!(error.contains("Statement[1] (Sid `Big`) with 6060; move statements to another"), "{error}");
    }

    #[test]
    fn inline_policies_share_one() {
        let (limits, small, big, bigger) = (Limits::default(), 5000, 5240, 5241);
        let usage = limits.of_inline([("a", small), ("b", big)]);
        assert_eq!((usage.used, usage.percent(), usage.is_near(), usage.excess("i")), (10240, 100, true, None));
        let error = limits.of_inline([("a", small), ("b", bigger), ("c", small)]).excess("i").unwrap().to_string();
        let expected = "i: 15241 characters without white space; IAM takes 10240. The biggest part is policy \"b\" with 5241; make";
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(limits.of_inline([]).excess("i"), None);
    }

    #[test]
    fn near_is_from_eighty_percent() {
        let usage = |used, limit| Limits { trust: limit, ..Limits::default() }.of_trust(&document(used));
        assert!(!usage(1638, 2048).is_near());
        assert!(usage(1639, 2048).is_near());
        assert!(usage(500, 0).is_near());
    }

    #[test]
    fn white_space_is_not_counted() {
        assert_eq!(count("a b\tc\n\"é\""), 6);
    }
}
