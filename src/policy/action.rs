//! Checking actions (IAM user guide, "IAM JSON policy elements: Action").

use super::document::Grammar;
use super::finding::quote;
use super::pattern::Pattern;

/// The actions of AWS STS (service authorization reference), all of which IAM takes in a trust policy.
const STS: [&str; 16] = [
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "AssumeRoot",
    "DecodeAuthorizationMessage",
    "GetAccessKeyInfo",
    "GetCallerIdentity",
    "GetDelegatedAccessToken",
    "GetFederationToken",
    "GetServiceBearerToken",
    "GetSessionToken",
    "GetWebIdentityToken",
    "SetContext",
    "SetSourceIdentity",
    "TagGetWebIdentityToken",
    "TagSession",
];

/// What is wrong with an action.
pub(super) fn check(grammar: Grammar, action: &str) -> Option<String> {
    let quoted = quote(action);
    let form = || format!("{quoted} is no action; write `SERVICE:ACTION`, such as `s3:GetObject`");
    if grammar == Grammar::Trust && sts(action).is_none() {
        return Some(format!("{quoted} in a trust policy, which takes actions of sts only, such as `sts:AssumeRole`"));
    }
    if action == "*" {
        return None;
    }
    let Some((service, name)) = action.split_once(':') else {
        return Some(form());
    };
    if let Some(name) = name.strip_prefix(':').filter(|name| !name.is_empty() && !service.is_empty()) {
        let meant = format!("{service}:{name}");
        return Some(format!("{quoted} has two colons; write `SERVICE:ACTION`, here {}", quote(&meant)));
    }
    if service.is_empty() || name.is_empty() {
        return Some(form());
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if service != "*" && !service.bytes().all(word) {
        return Some(format!(
            "{quoted}: the service before the colon has only letters, digits, `-` and `.`, and no wildcards"
        ));
    }
    let name_ok = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'*' | b'?'));
    if !name_ok {
        return Some(format!("{quoted}: after the colon an action has only letters, digits, `*` and `?`"));
    }
    if grammar == Grammar::Trust {
        return mistyped(name)
            .map(|meant| format!("{quoted} is no action of sts; did you mean `sts:{meant}`? (case doesn't matter)"));
    }
    None
}

/// The action of sts that was meant by a name one letter away from it. Two letters or a digit can be something new: it
/// is two from `AssumeRole` to `AssumeRoot`, which AWS added; [`is_unknown`] is about those.
fn mistyped(name: &str) -> Option<&'static str> {
    if !name.bytes().all(|b| b.is_ascii_alphabetic()) || STS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return None;
    }
    STS.into_iter().find(|known| is_one_apart(name, known))
}

/// Whether two different texts are the same but for one letter, ignoring case. A document can have thousands of actions.
fn is_one_apart(a: &str, b: &str) -> bool {
    if a.len().abs_diff(b.len()) > 1 {
        return false;
    }
    let same = |(a, b): &(u8, u8)| a.eq_ignore_ascii_case(b);
    let before = a.bytes().zip(b.bytes()).take_while(same).count();
    let after = a.bytes().rev().zip(b.bytes().rev()).take_while(same).count();
    before + after + 1 >= a.len().max(b.len())
}

/// Whether a trust policy's action or pattern is, or includes, none of those that are known.
pub(super) fn is_unknown(action: &str) -> bool {
    let Some(name) = sts(action) else {
        return false;
    };
    let pattern = Pattern::new(name);
    !STS.iter().any(|known| pattern.matches_ignore_case(known))
}

/// What keeps a pattern of actions from ever matching one, such as `iam`, `iam.*` or `iam:* `; `None` if it can.
#[must_use]
pub fn mistake_in_pattern(pattern: &str) -> Option<String> {
    let plain = pattern.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.*?:".contains(&b));
    let shaped = match pattern.split_once(':') {
        Some((service, name)) => !service.is_empty() && !name.is_empty() && !name.contains(':'),
        // No service has a dot: it is meant as in a regular expression.
        None => pattern.contains('*') && !pattern.contains('.'),
    };
    (!plain || !shaped).then(|| {
        let quoted = quote(pattern);
        format!(
            "{quoted} matches no action; write `SERVICE:ACTION` with `*` and `?`, such as `iam:*`, one in each entry"
        )
    })
}

/// The name of an action of sts.
fn sts(action: &str) -> Option<&str> {
    let (service, name) = action.split_at_checked(4)?;
    service.eq_ignore_ascii_case("sts:").then_some(name)
}
