//! Amazon Resource Names.

use std::fmt;
use std::str::FromStr;

/// An Amazon Resource Name, `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
///
/// Parsing checks the shape only: six parts, partition, service and resource not empty, and an account of 12 digits
/// where there is one (or `aws`, which owns the AWS-managed policies).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arn {
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: String,
    /// `iam`, `sts`, …
    pub service: String,
    /// Empty for IAM and other global services.
    pub region: String,
    /// 12 digits, `aws`, or empty.
    pub account: String,
    /// The rest, colons and slashes included: `role/path/name`.
    pub resource: String,
}

/// Why a text is no ARN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArnError {
    /// The text does not begin with `arn:`.
    #[error("an ARN begins with `arn:`")]
    Prefix,
    /// Fewer than six parts.
    #[error("an ARN has six parts, `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`; this has {0}")]
    Parts(usize),
    /// A part has the wrong form; the name of the part and what it has to be.
    #[error("the {part} of the ARN is not {expected}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
}

impl Arn {
    /// Whether `text` is an account id: 12 digits.
    #[must_use]
    pub fn is_account_id(text: &str) -> bool {
        text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
    }

    /// Whether `text` can be a partition: `aws` or `aws-…`, so that those count too which AWS will add.
    #[must_use]
    pub fn is_partition(text: &str) -> bool {
        let word = |tail: &str| {
            let mut bytes = tail.bytes();
            !tail.is_empty() && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        text == "aws" || text.strip_prefix("aws-").is_some_and(word)
    }

    /// The part of the resource after its last slash: the name of a role, policy or user.
    #[must_use]
    pub fn name(&self) -> &str {
        self.resource.rsplit('/').next().unwrap_or_default()
    }

    /// The part of the resource before its first slash: `role`, `policy`, `root`, …
    #[must_use]
    pub fn kind(&self) -> &str {
        self.resource.split('/').next().unwrap_or_default()
    }
}

impl FromStr for Arn {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        if !text.starts_with("arn:") {
            return Err(ArnError::Prefix);
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [_, partition, service, region, account, resource] = parts.as_slice() else {
            return Err(ArnError::Parts(parts.len()));
        };
        let word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let check = |part, ok: bool, expected| {
            if ok { Ok(()) } else { Err(ArnError::Part { part, expected }) }
        };
        check("partition", !partition.is_empty() && word(partition), "one such as `aws`")?;
        check("service", !service.is_empty() && word(service), "one such as `iam`")?;
        check("region", word(region), "one such as `eu-central-1`, or empty")?;
        let known = account.is_empty() || *account == "aws" || Self::is_account_id(account);
        check("account", known, "an account id of 12 digits")?;
        let resource_ok = !resource.is_empty() && !resource.chars().any(char::is_control);
        check("resource", resource_ok, "there")?;
        Ok(Self {
            partition: (*partition).to_owned(),
            service: (*service).to_owned(),
            region: (*region).to_owned(),
            account: (*account).to_owned(),
            resource: (*resource).to_owned(),
        })
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, service, region, account, resource } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for text in [
            "arn:aws:iam::123456789012:role/a/b/web",
            "arn:aws-cn:iam::aws:policy/service-role/X",
            "arn:aws:lambda:eu-central-1:123456789012:function:f:1",
            "arn:aws:s3:::bucket/key",
        ] {
            assert_eq!(text.parse::<Arn>().unwrap().to_string(), text);
        }
        let arn: Arn = "arn:aws:iam::123456789012:role/a/b/web".parse().unwrap();
        assert_eq!((arn.kind(), arn.name()), ("role", "web"));
    }

    #[test]
    fn refuses() {
        for (text, expected) in [
            ("role/web", "an ARN begins with `arn:`"),
            ("arn:aws:iam", "an ARN has six parts, `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`; this has 3"),
            ("arn::iam::123456789012:x", "the partition of the ARN is not one such as `aws`"),
            ("arn:aws:IAM::123456789012:x", "the service of the ARN is not one such as `iam`"),
            ("arn:aws:iam:*:123456789012:x", "the region of the ARN is not one such as `eu-central-1`, or empty"),
            ("arn:aws:iam::12345:x", "the account of the ARN is not an account id of 12 digits"),
            ("arn:aws:iam::123456789012:", "the resource of the ARN is not there"),
        ] {
            assert_eq!(text.parse::<Arn>().unwrap_err().to_string(), expected, "{text}");
        }
    }
}
