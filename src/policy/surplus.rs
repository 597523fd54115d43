//! What a document allows by name that another one does not.

use std::collections::BTreeSet;

use super::canonical::{Body, Canonical, Entry, Meaning, What};
use super::document::Effect;
use super::principal::is_unique_id;

impl Canonical {
    /// Whether an `Allow` statement names a principal or an action that no `Allow` statement of `wanted` names. IAM
    /// words documents in its own way, but adds neither; the ids that it shows for deleted principals don't count, nor
    /// does what is not understood.
    #[must_use]
    pub fn names_more_than(&self, wanted: &Self) -> bool {
        let (found, wanted) = (Names::of(self), Names::of(wanted));
        !found.principals.is_subset(&wanted.principals) || !found.actions.is_subset(&wanted.actions)
    }
}

/// Principals with their type, and actions; those of `Not…` elements as one each.
#[derive(Default)]
struct Names<'c> {
    principals: BTreeSet<(bool, &'c str, &'c str)>,
    actions: BTreeSet<(bool, &'c str)>,
}

impl<'c> Names<'c> {
    fn of(document: &'c Canonical) -> Self {
        let mut names = Self::default();
        let Body::Policy(policy) = &document.body else { return names };
        for entry in &policy.statements {
            match entry {
                Entry::Known(meaning, _) if meaning.effect == Effect::Allow => names.add(meaning),
                _ => {}
            }
        }
        names
    }

    fn add(&mut self, meaning: &'c Meaning) {
        let What { negated, values } = &meaning.action;
        self.actions.extend(values.iter().map(|value| (*negated, value.as_str())));
        if let Some(who) = &meaning.principal {
            for (kind, values) in &who.entries {
                let living = values.iter().filter(|value| !is_unique_id(value));
                self.principals.extend(living.map(|value| (who.negated, kind.as_str(), value.as_str())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::{AccountRef, Canonical, Grammar};

    #[test]
    fn other_names_are_more_and_other_words_are_not() {
        let account = AccountRef { partition: "aws".into(), id: "111122223333".into() };
        let trust = |principal: &str, action: &str, more: &str| {
            let text = format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},"Action":{action}{more}}}]}}"#
            );
            Canonical::read(Grammar::Trust, &text, &account)
        };
        let root = r#"{"AWS":"111122223333"}"#;
        let wanted = trust(root, r#""sts:AssumeRole""#, "");
        for (principal, action, more) in [
            (root, r#"["STS:assumerole"]"#, ""),
            (r#"{"AWS":"AROAEXAMPLEEXAMPLE123"}"#, r#""sts:AssumeRole""#, ""),
            (root, r#""sts:AssumeRole""#, r#","Condition":{"Bool":{"aws:SecureTransport":"true"}}"#),
            (root, r#""sts:AssumeRole""#, r#","Surprise":1"#),
        ] {
            assert!(!trust(principal, action, more).names_more_than(&wanted), "{principal} {action} {more}");
        }
        for (principal, action) in [
            (r#"{"AWS":"*"}"#, r#""sts:AssumeRole""#),
            (r#"{"AWS":["111122223333","444455556666"]}"#, r#""sts:AssumeRole""#),
            (r#"{"Service":"ec2.amazonaws.com"}"#, r#""sts:AssumeRole""#),
            (root, r#"["sts:AssumeRole","sts:TagSession"]"#),
        ] {
            assert!(trust(principal, action, "").names_more_than(&wanted), "{principal} {action}");
        }
    }
}
