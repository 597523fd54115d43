//! What IAM takes but is probably a mistake, and what is close to a limit. Never a refusal.

use super::desired::Desired;
use crate::policy::{Document, Limits, Usage};

/// Advice on a role, most often none; each names the field.
#[must_use]
pub fn advice(desired: &Desired, limits: &Limits) -> Vec<String> {
    let documents = std::iter::once(&desired.trust)
        .chain(desired.inline.values())
        .chain(desired.own.iter().map(|policy| &policy.document));
    let lint = documents.flat_map(|document| document.lint(&desired.account)).map(|finding| finding.to_string());
    let inline: usize = desired.inline.values().map(Document::size).sum();
    let mut sizes = vec![
        ("the trust policy".to_owned(), Usage { used: desired.trust.size(), limit: limits.trust }),
        ("the inline policies together".to_owned(), Usage { used: inline, limit: limits.inline_total }),
    ];
    sizes.extend(desired.own.iter().map(|policy| {
        let usage = Usage { used: policy.document.size(), limit: limits.managed };
        (format!("customer-managed policy {:?}", policy.entry), usage)
    }));
    let near = sizes.into_iter().filter(|(_, usage)| usage.is_near()).map(|(what, Usage { used, limit })| {
        format!("{what}: {used} of the {limit} characters that IAM takes are used; make room before it grows")
    });
    lint.chain(near).collect()
}
