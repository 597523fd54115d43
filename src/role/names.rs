//! Names that the operator makes: templates are filled, and what is too long is cut with a hash.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Longest role name (IAM quotas).
pub const ROLE_NAME: usize = 64;
/// Longest managed policy name (IAM quotas).
pub const POLICY_NAME: usize = 128;
/// The template of a class that has none.
pub const DEFAULT_TEMPLATE: &str = "$(cluster).$(namespace).$(name)";

const HASH_DIGITS: usize = 8;

/// `name`, or its beginning with a hash over `parts` where it is longer than `limit`.
///
/// The hash is taken over the parts and not over the cut name, so that two objects never share a cut name
/// because their long names begin alike. Deterministic: the same object always gets the same name.
#[must_use]
pub fn bounded(name: &str, limit: usize, parts: &[&str]) -> String {
    if name.len() <= limit {
        return name.to_owned();
    }
    let keep = limit.saturating_sub(HASH_DIGITS + 1);
    let head: String = name.chars().take(keep).collect();
    format!("{head}-{}", hash(parts))
}

fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hasher.finalize().iter().take(HASH_DIGITS / 2).fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether `name` has only characters that IAM takes in names of roles and policies.
#[must_use]
pub fn valid(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c))
}

/// Whether `text` has only characters that IAM takes in keys and values of tags.
#[must_use]
pub fn valid_tag(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c))
}

#[cfg(test)]
mod tests {
    use super::{bounded, valid};
    use proptest::prelude::*;

    #[test]
    fn short_names_stay_and_long_ones_are_cut_with_a_hash_of_the_parts() {
        assert_eq!(bounded("prod.shop.api", 64, &["prod", "shop", "api"]), "prod.shop.api");
        let long = "x".repeat(70);
        let (one, two) = (bounded(&long, 64, &["a", "bc"]), bounded(&long, 64, &["ab", "c"]));
        assert_eq!(one.len(), 64);
        assert_ne!(one, two, "the same beginning, other parts");
        assert_eq!(one, bounded(&long, 64, &["a", "bc"]), "deterministic");
    }

    proptest! {
        #[test]
        fn a_bounded_name_is_never_too_long_and_stays_valid(name in "[A-Za-z0-9_+=,.@-]{1,200}", limit in 10usize..130) {
            let bounded = bounded(&name, limit, &[&name]);
            prop_assert!(bounded.len() <= limit && valid(&bounded));
        }
    }
}
