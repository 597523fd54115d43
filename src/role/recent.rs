//! Our own last writes, so that a read from before them is known for what it is.
//!
//! IAM is eventually consistent. A plan made from a read of the past would undo or repeat what was written a moment
//! ago: take away what stays, write a document twice, or let an old principal meet a new permission.

use super::observed::{Asked, Observed};
use super::plan::Action;
use crate::policy::AccountRef;
use crate::policy::Canonical;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

/// A part of a role that one write changes as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Facet {
    Trust,
    Boundary,
    /// Description and session duration.
    Words,
    /// By its key in lower case.
    Tag(String),
    Managed(String),
    /// By its name in lower case.
    Inline(String),
    Own(String),
    Profile(String),
}

#[derive(Clone, Debug)]
struct Written {
    at: Duration,
    /// What a read from before shows.
    past: BTreeSet<u64>,
    now: u64,
}

/// What was written to one role a moment ago.
#[derive(Clone, Debug, Default)]
pub struct Recent(BTreeMap<Facet, Written>);

impl Recent {
    /// Notes a write that succeeded. `before` is what the plan was made from, `now` the time since the process started.
    pub fn note(&mut self, action: &Action, before: &Observed, account: &AccountRef, now: Duration) {
        for (facet, after) in effects(action, account) {
            let mut past = BTreeSet::from([facet.read(before)]);
            if let Some(earlier) = self.0.remove(&facet) {
                past.extend(earlier.past);
                past.insert(earlier.now);
            }
            past.remove(&after);
            self.0.insert(facet, Written { at: now, past, now: after });
        }
    }

    /// Whether a read shows what was there before a write of the last `settle`. What was not `asked` for is not shown.
    pub fn is_past(&mut self, observed: &Observed, asked: &Asked, now: Duration, settle: Duration) -> bool {
        self.0.retain(|_, written| now.saturating_sub(written.at) < settle);
        let is_shown = |facet: &Facet| match facet {
            Facet::Own(arn) => asked.policies.contains(arn),
            Facet::Profile(name) => asked.profiles.contains(name),
            _ => true,
        };
        self.0.iter().any(|(facet, written)| is_shown(facet) && written.past.contains(&facet.read(observed)))
    }
}

impl Facet {
    fn read(&self, observed: &Observed) -> u64 {
        match self {
            Self::Trust => digest(&Some(&observed.trust)),
            Self::Boundary => digest(&observed.boundary),
            Self::Words => digest(&(&observed.description, observed.max_session)),
            Self::Tag(key) => {
                digest(&observed.tags.iter().find(|(known, _)| known.to_lowercase() == *key).map(|(_, value)| value))
            }
            Self::Managed(arn) => digest(&observed.managed.contains(arn)),
            Self::Inline(name) => digest(
                &observed.inline.iter().find(|(known, _)| known.to_lowercase() == *name).map(|(_, document)| document),
            ),
            Self::Own(arn) => digest(&observed.own.get(arn).map(|policy| &policy.document)),
            Self::Profile(name) => digest(&observed.profiles.get(name).map(|profile| profile.roles.is_empty())),
        }
    }
}

/// What a write changes, and how a read shows it afterwards.
fn effects(action: &Action, account: &AccountRef) -> Vec<(Facet, u64)> {
    let document = |document: &crate::policy::Document| digest(&Some(&document.canonical(account)));
    let nothing = || digest(&None::<&Canonical>);
    let text = |text: &str| digest(&Some(text));
    vec![match action {
        Action::UpdateTrust(trust) => (Facet::Trust, document(trust)),
        Action::PutBoundary(arn) => (Facet::Boundary, text(arn)),
        Action::DeleteBoundary => (Facet::Boundary, digest(&None::<&str>)),
        Action::UpdateRole { description, max_session } => (Facet::Words, digest(&(description, *max_session))),
        Action::TagRole(tags) => {
            return tags.iter().map(|(key, value)| (Facet::Tag(key.to_lowercase()), text(value))).collect();
        }
        Action::UntagRole(keys) => {
            return keys.iter().map(|key| (Facet::Tag(key.to_lowercase()), digest(&None::<&str>))).collect();
        }
        Action::Attach(arn) => (Facet::Managed(arn.clone()), digest(&true)),
        Action::Detach(arn) => (Facet::Managed(arn.clone()), digest(&false)),
        Action::PutInline { name, document: put } => (Facet::Inline(name.to_lowercase()), document(put)),
        Action::DeleteInline(name) => (Facet::Inline(name.to_lowercase()), nothing()),
        Action::CreatePolicy { policy, .. } => (Facet::Own(policy.arn.clone()), document(&policy.document)),
        Action::UpdatePolicy { arn, document: put } => (Facet::Own(arn.clone()), document(put)),
        Action::DeletePolicy(arn) => (Facet::Own(arn.clone()), nothing()),
        Action::CreateProfile { name, .. } => (Facet::Profile(name.clone()), digest(&Some(true))),
        Action::JoinProfile(name) => (Facet::Profile(name.clone()), digest(&Some(false))),
        Action::LeaveProfile { profile, .. } => (Facet::Profile(profile.clone()), digest(&Some(true))),
        Action::DeleteProfile(name) => (Facet::Profile(name.clone()), digest(&None::<bool>)),
        // A role that is not seen yet is waited for elsewhere; owner tags of policies don't change twice.
        Action::CreateRole { .. } | Action::DeleteRole | Action::TagPolicy { .. } | Action::TagProfile { .. } => {
            return Vec::new();
        }
    }]
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Asked, Recent};
    use crate::role::desired::tests::{allow, make, trust};
    use crate::role::plan::{Action, nothing};
    use serde_json::json;
    use std::time::Duration;

    const SETTLE: Duration = Duration::from_secs(30);

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn a_read_from_before_a_write_is_known_until_it_has_settled() {
        let desired = make(json!({})).unwrap();
        let account = &desired.account;
        let (before, mut after) = (nothing(&desired), nothing(&desired));
        let mut recent = Recent::default();
        recent.note(&Action::Attach("arn:x".into()), &before, account, at(10));
        assert!(recent.is_past(&before, &Asked::default(), at(11), SETTLE));
        after.managed.insert("arn:x".into());
        assert!(!recent.is_past(&after, &Asked::default(), at(11), SETTLE));
        assert!(!recent.is_past(&before, &Asked::default(), at(40), SETTLE), "by now somebody else has taken it away");
    }

    #[test]
    fn all_that_was_there_before_several_writes_is_past_and_a_strangers_change_is_not() {
        let with = |services: &[&str]| make(json!({ "trustPolicy": trust(&json!({ "Service": services })) })).unwrap();
        let (old, between, new) =
            (with(&["ec2.amazonaws.com"]), with(&["ecs.amazonaws.com"]), with(&["lambda.amazonaws.com"]));
        let before = nothing(&old);
        let mut recent = Recent::default();
        for trust in [&between.trust, &new.trust] {
            recent.note(&Action::UpdateTrust(trust.clone()), &before, &old.account, at(0));
        }
        assert!(
            recent.is_past(&before, &Asked::default(), at(1), SETTLE)
                && recent.is_past(&nothing(&between), &Asked::default(), at(1), SETTLE)
        );
        assert!(!recent.is_past(&nothing(&new), &Asked::default(), at(1), SETTLE));
        assert!(
            !recent.is_past(&nothing(&with(&["eks.amazonaws.com"])), &Asked::default(), at(1), SETTLE),
            "nobody of us wrote that"
        );
    }

    #[test]
    fn what_was_written_and_written_back_is_no_past() {
        let desired = make(json!({ "inlinePolicies": [{ "name": "P", "document": allow("s3:Get*") }] })).unwrap();
        let (account, mut before) = (&desired.account, nothing(&desired));
        before.inline.insert("p".into(), desired.inline["P"].canonical(account));
        let put = Action::PutInline { name: "P".into(), document: desired.inline["P"].clone() };
        let mut recent = Recent::default();
        recent.note(&Action::DeleteInline("P".into()), &before, account, at(0));
        assert!(recent.is_past(&before, &Asked::default(), at(1), SETTLE));
        recent.note(&put, &before, account, at(2));
        assert!(!recent.is_past(&before, &Asked::default(), at(3), SETTLE));
        let mut gone = before.clone();
        gone.inline.clear();
        assert!(recent.is_past(&gone, &Asked::default(), at(3), SETTLE));
    }
}
