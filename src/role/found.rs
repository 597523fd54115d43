//! What a repair found, in words: tag keys and numbers of statements, never policy text.

use super::observed::Observed;
use super::plan::Action;
use crate::policy::{AccountRef, Canonical, Difference, Document};
use std::collections::BTreeMap;

/// As many characters as `status.lastChanges[].found` takes.
const LONGEST: usize = 1024;

/// What was in AWS where an action puts it right; `None` where that says no more than the action.
#[must_use]
pub fn found(action: &Action, observed: Option<&Observed>, account: &AccountRef) -> Option<String> {
    let Some(observed) = observed else {
        return matches!(action, Action::CreateRole { .. }).then(|| "the role was gone".to_owned());
    };
    let text = match action {
        Action::TagRole(tags) => tags_found(tags, &observed.tags),
        Action::TagPolicy { arn, tags } => tags_found(tags, &observed.own.get(arn)?.tags),
        Action::TagProfile { name, tags } => tags_found(tags, &observed.profiles.get(name)?.tags),
        Action::UntagRole(_) | Action::DeleteBoundary => "somebody set it".to_owned(),
        Action::UpdateRole { description, max_session } => {
            let words = (*description != observed.description).then(|| "the description was another one".to_owned());
            let session = (*max_session != observed.max_session)
                .then(|| format!("the session duration was {} seconds", observed.max_session));
            words.into_iter().chain(session).collect::<Vec<_>>().join(", ")
        }
        Action::PutBoundary(_) => {
            observed.boundary.as_ref().map_or_else(|| "it was taken away".to_owned(), |arn| format!("it was {arn}"))
        }
        Action::UpdateTrust(wanted) => document_found(Some(&observed.trust), wanted, account),
        Action::UpdatePolicy { arn, document } => {
            document_found(observed.own.get(arn).map(|policy| &policy.document), document, account)
        }
        Action::PutInline { name, document } => document_found(observed.inline.get(name), document, account),
        Action::CreatePolicy { .. } | Action::CreateProfile { .. } => "it was gone".to_owned(),
        Action::Attach(_) => "somebody detached it".to_owned(),
        Action::Detach(_) => "somebody attached it".to_owned(),
        Action::DeleteInline(_) => "somebody put it there".to_owned(),
        Action::JoinProfile(_) => "the role was not in it".to_owned(),
        Action::LeaveProfile { role, .. } => format!("role {role} was in it"),
        Action::CreateRole { .. } | Action::DeleteRole | Action::DeletePolicy(_) | Action::DeleteProfile(_) => {
            return None;
        }
    };
    Some(text.chars().take(LONGEST).collect())
}

fn document_found(found: Option<&Canonical>, wanted: &Document, account: &AccountRef) -> String {
    let Some(found) = found else { return "somebody deleted it".to_owned() };
    let Difference { more, less } = found.difference(&wanted.canonical(account));
    let statements = |count: usize, what: &str| {
        let noun = if count == 1 { "statement" } else { "statements" };
        (count > 0).then(|| format!("{count} {noun} {what}"))
    };
    let both: Vec<String> = [statements(more, "more"), statements(less, "missing")].into_iter().flatten().collect();
    if both.is_empty() { "somebody changed it".to_owned() } else { format!("somebody changed it: {}", both.join(", ")) }
}

fn tags_found(wanted: &BTreeMap<String, String>, observed: &BTreeMap<String, String>) -> String {
    let seen: Vec<String> = observed.keys().map(|key| key.to_lowercase()).collect();
    let (changed, missing): (Vec<&str>, Vec<&str>) =
        wanted.keys().map(String::as_str).partition(|key| seen.contains(&key.to_lowercase()));
    let list = |what: &str, keys: &[&str]| (!keys.is_empty()).then(|| format!("{what}: {}", keys.join(", ")));
    [list("changed", &changed), list("missing", &missing)].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::found;
    use crate::role::Observed;
    use crate::role::desired::tests::{allow, make, trust};
    use crate::role::plan::{Action, nothing};
    use crate::role::{Desired, ObservedProfile};
    use serde_json::json;

    fn spec() -> Desired {
        make(json!({
            "trustPolicy": trust(&json!({ "Service": "ec2.amazonaws.com" })),
            "inlinePolicies": [{ "name": "i", "document": allow("s3:Secret*") }],
        }))
        .unwrap()
    }

    fn say(action: &Action, observed: &Observed) -> String {
        found(action, Some(observed), &spec().account).unwrap_or_default()
    }

    #[test]
    fn what_was_there_is_told_without_policy_text() {
        let desired = spec();
        let put = Action::PutInline { name: "i".into(), document: desired.inline["i"].clone() };
        let mut observed = nothing(&desired);
        assert_eq!(say(&put, &observed), "somebody deleted it");
        let other = make(json!({ "inlinePolicies": [{ "name": "i", "document": allow("iam:PassRole") }] })).unwrap();
        observed.inline.insert("i".into(), other.inline["i"].canonical(&desired.account));
        assert_eq!(say(&put, &observed), "somebody changed it: 1 statement more, 1 statement missing");
        assert_eq!(say(&Action::UpdateTrust(desired.trust.clone()), &observed), "somebody changed it");
        assert_eq!(say(&Action::PutBoundary("arn:b".into()), &observed), "it was taken away");
        observed.boundary = Some("arn:theirs".into());
        assert_eq!(say(&Action::PutBoundary("arn:b".into()), &observed), "it was arn:theirs");
        let tags = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), "secret".to_owned())).collect();
        observed.tags = tags(&["Team"]);
        assert_eq!(say(&Action::TagRole(tags(&["team", "cost"])), &observed), "changed: team; missing: cost");
        observed.max_session = 7200;
        let update = Action::UpdateRole { description: String::new(), max_session: 3600 };
        assert_eq!(say(&update, &observed), "the session duration was 7200 seconds");
        assert_eq!(say(&Action::Detach("arn:x".into()), &observed), "somebody attached it");
        assert_eq!(found(&Action::DeleteRole, Some(&observed), &desired.account), None);
    }

    #[test]
    fn it_fits_the_schema() {
        let desired = spec();
        let observed = nothing(&desired);
        let many = (0..50).map(|i| (format!("{i}{}", "ü".repeat(120)), String::new())).collect();
        assert_eq!(say(&Action::TagRole(many), &observed).chars().count(), 1024);
        let profile = ObservedProfile { name: "p".into(), arn: String::new(), tags: [].into(), roles: [].into() };
        let observed = Observed { profiles: [("p".to_owned(), profile)].into(), ..observed };
        let leave = Action::LeaveProfile { profile: "p".into(), role: "other".into() };
        assert_eq!(say(&leave, &observed), "role other was in it");
    }
}
