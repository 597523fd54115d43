//! What IAM takes but is probably a mistake, and what is close to a limit. Never a refusal.

use super::desired::Desired;
use crate::policy::{Limits, Usage};

/// Advice on a role, most often none; each names the field.
#[must_use]
pub fn advice(desired: &Desired, limits: &Limits) -> Vec<String> {
    let documents = std::iter::once(&desired.trust)
        .chain(desired.inline.values())
        .chain(desired.own.iter().map(|policy| &policy.document));
    let lint = documents.flat_map(|document| document.lint(&desired.account)).map(|finding| finding.to_string());
    let inline = desired.inline.iter().map(|(name, document)| (name.as_str(), document));
    let mut sizes = vec![
        ("the trust policy".to_owned(), limits.of_trust(&desired.trust)),
        ("the inline policies together".to_owned(), limits.of_inline(inline)),
    ];
    sizes.extend(
        desired
            .own
            .iter()
            .map(|policy| (format!("customer-managed policy {:?}", policy.entry), limits.of_managed(&policy.document))),
    );
    let near = sizes.into_iter().filter(|(_, usage)| usage.is_near()).map(|(what, usage)| {
        let Usage { used, limit, .. } = usage;
        format!("{what}: {used} of the {limit} characters that IAM takes are used. {usage}, before it grows")
    });
    lint.chain(near).collect()
}
