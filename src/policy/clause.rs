//! Single statements of permission policies, so that an update can tell what moves between documents.

use super::canonical::{Body, Canonical, Entry, Meaning, Policy, What};
use super::document::{Condition, Document, Effect, Statement, Terms};
use std::collections::BTreeSet;
use std::fmt;

/// What one statement says, whatever its name and its document: two are equal when they mean the same.
///
/// The `Debug` form tells the effect, never the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clause(Said);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Said {
    /// The version counts, since variables depend on it.
    Known(String, Meaning),
    /// Not understood; equal to the same text only.
    Text(String),
}

impl Clause {
    /// Whether it denies. What is not understood is taken to allow.
    #[must_use]
    pub fn denies(&self) -> bool {
        matches!(&self.0, Said::Known(_, meaning) if meaning.effect == Effect::Deny)
    }
}

impl fmt::Debug for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.denies() { "Clause(Deny)" } else { "Clause(Allow)" })
    }
}

impl Canonical {
    /// The statements one by one.
    #[must_use]
    pub fn clauses(&self) -> BTreeSet<Clause> {
        let Body::Policy(Policy { version, statements, .. }) = &self.body else {
            return BTreeSet::from([Clause(Said::Text(self.to_json()))]);
        };
        let clause = |entry: &Entry| match entry {
            Entry::Known(meaning, _) => Said::Known(version.clone(), (**meaning).clone()),
            Entry::Unknown(text) => Said::Text(text.clone()),
        };
        statements.iter().map(|entry| Clause(clause(entry))).collect()
    }
}

impl Document {
    /// The document with more statements, which have no names. `None` where one would mean something else here, or
    /// is not understood.
    #[must_use]
    pub fn with_clauses<'c>(&self, clauses: impl IntoIterator<Item = &'c Clause>) -> Option<Self> {
        let mut extended = self.clone();
        for clause in clauses {
            match &clause.0 {
                Said::Known(version, meaning) if version == self.version.as_str() && meaning.principal.is_none() => {
                    extended.statements.push(written(meaning));
                }
                _ => return None,
            }
        }
        Some(extended)
    }
}

fn written(meaning: &Meaning) -> Statement {
    let terms = |what: &What| Terms { negated: what.negated, values: what.values.iter().cloned().collect() };
    let condition = meaning.condition.iter().map(|((operator, key), values)| Condition {
        operator: operator.to_string(),
        key: key.clone(),
        values: values.iter().cloned().collect(),
    });
    Statement {
        path: String::new(),
        sid: None,
        effect: meaning.effect,
        principal: None,
        action: terms(&meaning.action),
        resource: meaning.resource.as_ref().map(terms),
        condition: condition.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{AccountRef, Grammar, Tokens};

    fn document(statements: &str) -> Document {
        let text = format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#);
        Document::from_json(Grammar::Permission, "d", &text, &Tokens::default()).unwrap()
    }

    #[test]
    fn statements_are_told_by_meaning_and_carried_over_without_names() {
        let account = AccountRef { partition: "aws".into(), id: "111122223333".into() };
        let get = r#"{"Sid": "A", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}"#;
        let same = r#"{"Sid": "B", "Effect": "Allow", "Action": ["S3:getobject"], "Resource": ["*"]}"#;
        let deny = r#"{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}"#;
        let (get, same, both) = (document(get), document(same), document(&format!("{get}, {deny}")));
        let clauses = |document: &Document| document.canonical(&account).clauses();
        assert_eq!(clauses(&get), clauses(&same));
        let missing: BTreeSet<Clause> = clauses(&both).difference(&clauses(&get)).cloned().collect();
        assert!(missing.len() == 1 && missing.iter().all(Clause::denies));
        let extended = same.with_clauses(&missing).unwrap();
        assert_eq!(clauses(&extended), clauses(&both));
        assert!(!format!("{missing:?}").contains("s3"), "no policy text in logs");
    }
}
