//! Sizes of policy documents and IAM's quotas for them.

use super::Finding;

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

/// How much of a quota is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Characters used.
    pub used: usize,
    /// The quota.
    pub limit: usize,
}

impl Usage {
    /// The used share in percent, rounded down.
    #[must_use]
    pub fn percent(self) -> usize {
        self.used.saturating_mul(100).checked_div(self.limit).unwrap_or(100)
    }

    /// Whether 80 % or more of the quota is used.
    #[must_use]
    pub fn is_near(self) -> bool {
        self.percent() >= NEAR
    }
}

impl Limits {
    /// Checks a trust policy of `size` characters; `path` is its place, for the finding.
    ///
    /// # Errors
    /// It is larger than the quota.
    pub fn check_trust(&self, path: &str, size: usize) -> Result<Usage, Finding> {
        one("a trust policy", self.trust, path, size)
    }

    /// Checks a managed policy of `size` characters; `path` is its place, for the finding.
    ///
    /// # Errors
    /// It is larger than the quota.
    pub fn check_managed(&self, path: &str, size: usize) -> Result<Usage, Finding> {
        one("a managed policy", self.managed, path, size)
    }

    /// Checks the inline policies of a role, given as place and size of each. They share one quota.
    ///
    /// # Errors
    /// Their sum is larger than the quota; the finding is about the biggest of them, the first one of several.
    pub fn check_inline<'p>(&self, parts: impl IntoIterator<Item = (&'p str, usize)>) -> Result<Usage, Finding> {
        let limit = self.inline_total;
        let (mut used, mut biggest) = (0usize, ("", 0));
        for (path, size) in parts {
            used = used.saturating_add(size);
            if size > biggest.1 {
                biggest = (path, size);
            }
        }
        if used <= limit {
            return Ok(Usage { used, limit });
        }
        let (path, size) = biggest;
        Err(Finding {
            path: path.to_owned(),
            message: format!(
                "the inline policies of a role may have {limit} characters without white space together, these have \
                 {used}; this one is the biggest with {size}, customer managed policies have a quota each"
            ),
        })
    }
}

fn one(what: &str, limit: usize, path: &str, used: usize) -> Result<Usage, Finding> {
    if used <= limit {
        return Ok(Usage { used, limit });
    }
    Err(Finding {
        path: path.to_owned(),
        message: format!("{what} may have {limit} characters without white space, this has {used}"),
    })
}

/// The characters of a text that are not white space.
pub(super) fn count(text: &str) -> usize {
    text.chars().filter(|c| !c.is_ascii_whitespace()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive() {
        let limits = Limits::default();
        assert!(limits.check_trust("t", 2048).is_ok());
        let error = limits.check_trust("spec.trustPolicy", 2049).unwrap_err().to_string();
        assert_eq!(
            error,
            "spec.trustPolicy: a trust policy may have 2048 characters without white space, this has 2049"
        );
        assert!(limits.check_managed("m", 6144).is_ok());
        assert!(limits.check_managed("m", 6145).is_err());
    }

    #[test]
    fn inline_policies_share_one() {
        let limits = Limits::default();
        let usage = limits.check_inline([("a", 5000), ("b", 5240)]).unwrap();
        assert_eq!((usage.used, usage.percent(), usage.is_near()), (10240, 100, true));
        let finding = limits.check_inline([("a", 5000), ("b", 5241)]).unwrap_err();
        assert_eq!(finding.path, "b");
        assert!(
            finding.message.contains("10240") && finding.message.contains("10241") && finding.message.contains("5241")
        );
        assert!(limits.check_inline([]).is_ok());
    }

    #[test]
    fn near_is_from_eighty_percent() {
        assert!(!Usage { used: 1638, limit: 2048 }.is_near());
        assert!(Usage { used: 1639, limit: 2048 }.is_near());
        assert!(Usage { used: 0, limit: 0 }.is_near());
    }

    #[test]
    fn white_space_is_not_counted() {
        assert_eq!(count("a b\tc\n\"é\""), 6);
    }
}
