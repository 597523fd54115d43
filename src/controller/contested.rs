//! Differences that are left, in words.

use super::failure::Failure;
use crate::api::Reason;
use crate::role::Observed;
use crate::role::contest::Contest;

/// What is not repaired (any more), and what to do about it.
#[must_use]
pub fn contested(contests: &[Contest]) -> Option<Failure> {
    let messages: Vec<String> = contests
        .iter()
        .map(|contest| match contest {
            Contest::Undone(what) => format!(
                "somebody else keeps changing the role; not repaired a fourth time within the hour: {what}. Find out who \
                 (CloudTrail tells), and stop them or change the spec"
            ),
            Contest::Rewritten(what) => format!(
                "AWS took a document and answers with another one, so it is not written again: {what}. Compare spec and \
                 AWS: somebody else may have changed it; if both mean the same, please report it"
            ),
        })
        .collect();
    (!messages.is_empty()).then(|| Failure::slow(Reason::Contested, messages.join("; ")))
}

/// A trust policy that AWS refuses for a principal may hold others that were deleted: AWS then shows ids.
pub fn name_the_dead(failure: &mut Failure, observed: Option<&Observed>) {
    let dead = observed.map(|observed| observed.trust.dead_principals()).unwrap_or_default();
    if failure.reason == Reason::PrincipalNotFound && !dead.is_empty() {
        failure.message = format!(
            "{} In AWS the trust policy names principals that were deleted ({}); it is written once more when they exist again",
            failure.message,
            dead.join(", ")
        );
    }
}
