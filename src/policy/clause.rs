//! Single permissions of policies, so that an update can tell what moves between documents.
//!
//! A statement with several actions and resources says the same as one statement for each pair of them; so what moves is
//! found also where a statement is taken apart.

use super::canonical::{Body, Canonical, Entry, Meaning, Policy, What};
use super::document::{Condition, Document, Effect, Statement, Terms};
use super::set::Set;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A statement with more pairs of action and resource than that is taken as a whole.
const PAIRS: usize = 100;

/// What a statement says of one action on one resource, whatever its name and its document: two are equal when they
/// mean the same.
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
    /// The permissions one by one.
    #[must_use]
    pub fn clauses(&self) -> BTreeSet<Clause> {
        let Body::Policy(Policy { version, statements, .. }) = &self.body else {
            return BTreeSet::from([Clause(Said::Text(self.to_json()))]);
        };
        let clauses = statements.iter().flat_map(|entry| match entry {
            Entry::Known(meaning, _) => {
                pairs(meaning).into_iter().map(|pair| Clause(Said::Known(version.clone(), pair))).collect()
            }
            Entry::Unknown(text) => vec![Clause(Said::Text(text.clone()))],
        });
        clauses.collect()
    }
}

fn pairs(meaning: &Meaning) -> Vec<Meaning> {
    let count = |what: &What| if what.negated { 1 } else { what.values.len() };
    if count(&meaning.action) * meaning.resource.as_ref().map_or(1, count) > PAIRS {
        return vec![meaning.clone()];
    }
    let resources: Vec<Option<What>> = match &meaning.resource {
        Some(resource) => singles(resource).into_iter().map(Some).collect(),
        None => vec![None],
    };
    let pair =
        |action: What, resource: &Option<What>| Meaning { action, resource: resource.clone(), ..meaning.clone() };
    let with_all = |action: What| resources.iter().map(move |resource| pair(action.clone(), resource));
    singles(&meaning.action).into_iter().flat_map(with_all).collect()
}

/// All but the named ones is one thing; named ones are each for themselves.
fn singles(what: &What) -> Vec<What> {
    if what.negated {
        return vec![what.clone()];
    }
    let single = |value: &String| What { negated: false, values: Set::of(value.clone()) };
    what.values.iter().map(single).collect()
}

impl Document {
    /// The document with more statements, which have no names. `None` where one would mean something else here, or
    /// is not understood.
    #[must_use]
    pub fn with_clauses<'c>(&self, clauses: impl IntoIterator<Item = &'c Clause>) -> Option<Self> {
        let mut meanings = Vec::new();
        for clause in clauses {
            match &clause.0 {
                Said::Known(version, meaning) if version == self.version.as_str() && meaning.principal.is_none() => {
                    meanings.push(meaning.clone());
                }
                _ => return None,
            }
        }
        let mut extended = self.clone();
        extended.statements.extend(joined(meanings).iter().map(written));
        Some(extended)
    }
}

/// The same in fewer statements: documents have little room.
fn joined(meanings: Vec<Meaning>) -> Vec<Meaning> {
    let mut by_resource: BTreeMap<Meaning, What> = BTreeMap::new();
    for meaning in meanings {
        // One that is negated stays for itself.
        let key =
            if meaning.action.negated { meaning.clone() } else { Meaning { action: nothing(), ..meaning.clone() } };
        let joined =
            by_resource.entry(key).or_insert_with(|| What { values: Set::default(), ..meaning.action.clone() });
        joined.values = joined.values.union(&meaning.action.values);
    }
    let mut by_action: BTreeMap<Meaning, Option<What>> = BTreeMap::new();
    for (key, action) in by_resource {
        let resource = key.resource.clone();
        let apart = resource.as_ref().is_none_or(|resource| resource.negated);
        let key = Meaning { action, resource: if apart { resource.clone() } else { Some(nothing()) }, ..key };
        let values: Set = resource.iter().flat_map(|resource| &resource.values).cloned().collect();
        let joined = by_action
            .entry(key)
            .or_insert_with(|| resource.map(|resource| What { values: Set::default(), ..resource }));
        if let Some(joined) = joined {
            joined.values = joined.values.union(&values);
        }
    }
    by_action.into_iter().map(|(key, resource)| Meaning { resource, ..key }).collect()
}

fn nothing() -> What {
    What { negated: false, values: Set::default() }
}

fn written(meaning: &Meaning) -> Statement {
    let terms = |what: &What| Terms { negated: what.negated, values: what.values.iter().cloned().collect() };
    let condition = meaning.condition.iter().map(|((operator, key), values)| Condition {
        operator: Arc::clone(operator),
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
        let many = document(
            r#"{"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::a", "arn:aws:s3:::b"]},
               {"Effect": "Allow", "NotAction": ["iam:*", "sts:*"], "Resource": "*"}"#,
        );
        let put = r#"{"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::b"}"#;
        assert!(clauses(&document(put)).is_subset(&clauses(&many)), "a part of a statement is found");
        let joined = get.with_clauses(&clauses(&many)).unwrap();
        assert_eq!(joined.statements().len(), 3, "and put together again");
        assert_eq!(clauses(&joined), &clauses(&get) | &clauses(&many));
        assert!(!format!("{missing:?}").contains("s3"), "no policy text in logs");
    }
}
