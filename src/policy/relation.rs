//! How an update changes what a document allows.

use std::collections::BTreeSet;

use super::canonical::{Body, Canonical, Entry, Meaning, Policy, What, Who};
use super::conditions::Conditions;
use super::document::Effect;
use super::operator::{Kind, Operator};
use super::set::Set;

/// Comparisons that one call makes at most; see [`relation`].
pub(super) const BUDGET: usize = 200_000;

/// What an update does to what a document allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The documents are equal.
    Same,
    /// The new document allows nothing that the old one doesn't.
    Narrows,
    /// The new document allows all that the old one does, and perhaps more.
    Widens,
    /// Anything else, also everything that can't be told.
    Alters,
}

/// How the update from `old` to `new` changes what is allowed.
///
/// It narrows when every `Allow` of `new` is within those of `old` and every `Deny` of `old` is within those of `new`;
/// it widens in the reverse case. Within means: for each principal, action and resource that a statement lists there
/// is a statement that lists it too under the same or weaker conditions. Patterns are compared as text. Documents that
/// differ in the names of statements only narrow, too.
///
/// `Narrows` and `Widens` are always right. What can't be proved with little effort is `Alters`: statements that are
/// not understood, variables under different versions, very large documents.
#[must_use]
pub fn relation(old: &Canonical, new: &Canonical) -> Relation {
    if old == new {
        return Relation::Same;
    }
    let (Some(old), Some(new)) = (Rules::of(old), Rules::of(new)) else {
        return Relation::Alters;
    };
    let mut budget = BUDGET;
    let mut all_within = |small: &Rules<'_>, big: &Rules<'_>, effect| {
        let mut rules = small.of_effect(effect);
        rules.all(|rule| big.cover(rule, small, &mut budget))
    };
    // Where nothing is allowed, denials say nothing.
    let mut narrows = |old: &Rules<'_>, new: &Rules<'_>| {
        new.of_effect(Effect::Allow).next().is_none()
            || (all_within(new, old, Effect::Allow) && all_within(old, new, Effect::Deny))
    };
    if narrows(&old, &new) {
        Relation::Narrows
    } else if narrows(&new, &old) {
        Relation::Widens
    } else {
        Relation::Alters
    }
}

/// The statements of a document that is understood in full.
pub(super) struct Rules<'c> {
    version: &'c str,
    meanings: BTreeSet<&'c Meaning>,
}

impl<'c> Rules<'c> {
    /// The statements, or `None` where something in the document is not understood.
    pub(super) fn of(canonical: &'c Canonical) -> Option<Self> {
        let Body::Policy(Policy { version, statements, rest, .. }) = &canonical.body else {
            return None;
        };
        let meanings = statements.iter().map(|entry| match entry {
            Entry::Known(meaning, _) => Some(&**meaning),
            Entry::Unknown(_) => None,
        });
        let meanings = meanings.collect::<Option<_>>()?;
        rest.is_empty().then_some(Self { version, meanings })
    }

    pub(super) fn of_effect(&self, effect: Effect) -> impl Iterator<Item = &'c Meaning> {
        self.meanings.iter().copied().filter(move |meaning| meaning.effect == effect)
    }

    pub(super) fn contains(&self, meaning: &Meaning) -> bool {
        self.meanings.contains(meaning)
    }

    /// Whether a statement of `other` means the same in this document: variables depend on the version.
    pub(super) fn speaks_alike(&self, other: &Self, meaning: &Meaning) -> bool {
        self.version == other.version || !has_variables(meaning)
    }

    /// Whether all that `small`, a statement of `origin`, says is said by statements of this document.
    pub(super) fn cover(&self, small: &Meaning, origin: &Self, budget: &mut usize) -> bool {
        if !self.speaks_alike(origin, small) {
            return false;
        }
        if self.contains(small) {
            return true;
        }
        let mut parts = Vec::new();
        for big in self.of_effect(small.effect) {
            if !spend(budget, 1 + small.condition.len()) {
                return false;
            }
            if self.speaks_alike(origin, big) && implies(&small.condition, &big.condition) {
                if lists_within(small, big) {
                    return true;
                }
                parts.push(big);
            }
        }
        parts.len() > 1 && covered_in_parts(small, &parts, budget)
    }
}

fn spend(budget: &mut usize, cost: usize) -> bool {
    let left = budget.checked_sub(cost);
    *budget = left.unwrap_or_default();
    left.is_some()
}

fn has_variables(meaning: &Meaning) -> bool {
    let resources = meaning.resource.iter().flat_map(|what| &what.values);
    let mut texts = resources.chain(meaning.condition.iter().flat_map(|(_, values)| values));
    texts.any(|text| text.contains("${"))
}

fn lists_within(small: &Meaning, big: &Meaning) -> bool {
    let who = match (&small.principal, &big.principal) {
        (Some(small), Some(big)) => who_within(small, big),
        (small, big) => small == big,
    };
    let resource = match (&small.resource, &big.resource) {
        (Some(small), Some(big)) => what_within(small, big),
        (small, big) => small == big,
    };
    who && resource && what_within(&small.action, &big.action)
}

pub(super) fn what_within(small: &What, big: &What) -> bool {
    match (small.negated, big.negated) {
        (_, false) if big.values.contains("*") => true,
        (false, false) => small.values.is_subset(&big.values),
        (true, true) => big.values.is_subset(&small.values),
        _ => false,
    }
}

pub(super) fn who_within(small: &Who, big: &Who) -> bool {
    let (inner, outer) = if small.negated { (big, small) } else { (small, big) };
    let within = |kind: &String, values: &Set| {
        values.is_empty() || outer.entries.get(kind).is_some_and(|outer| values.is_subset(outer))
    };
    small.negated == big.negated && inner.entries.iter().all(|(kind, values)| within(kind, values))
}

/// Whether each principal, action and resource of a statement is in one of the others.
fn covered_in_parts(small: &Meaning, parts: &[&Meaning], budget: &mut usize) -> bool {
    let (Some(who), false) = (positive_who(small), small.action.negated) else {
        return false;
    };
    if small.resource.as_ref().is_some_and(|what| what.negated) {
        return false;
    }
    let resources: Vec<Option<&String>> = match &small.resource {
        Some(what) => what.values.iter().map(Some).collect(),
        None => vec![None],
    };
    let has = |what: &What, value: &String| !what.negated && (what.values.contains(value) || what.values.contains("*"));
    who.iter().all(|who| {
        small.action.values.iter().all(|action| {
            resources.iter().all(|resource| {
                spend(budget, parts.len())
                    && parts.iter().any(|part| {
                        let resource_ok = match (resource, &part.resource) {
                            (Some(resource), Some(what)) => has(what, resource),
                            (None, None) => true,
                            _ => false,
                        };
                        resource_ok && has(&part.action, action) && has_principal(part, *who)
                    })
            })
        })
    })
}

/// The principals of a statement one by one; a statement without a principal has the one entry `None`.
fn positive_who(meaning: &Meaning) -> Option<Vec<Option<(&String, &String)>>> {
    match &meaning.principal {
        None => Some(vec![None]),
        Some(who) if who.negated => None,
        Some(who) => {
            let entries = who.entries.iter();
            let pairs = entries.flat_map(|(kind, values)| values.iter().map(move |value| Some((kind, value))));
            Some(pairs.collect())
        }
    }
}

fn has_principal(meaning: &Meaning, who: Option<(&String, &String)>) -> bool {
    match (&meaning.principal, who) {
        (None, None) => true,
        (Some(listed), Some((kind, value))) => {
            !listed.negated && listed.entries.get(kind).is_some_and(|values| values.contains(value))
        }
        _ => false,
    }
}

/// Whether whatever meets `strong` meets `weak`: `strong` asks all that `weak` asks, of the same or fewer values.
pub(super) fn implies(strong: &Conditions, weak: &Conditions) -> bool {
    weak.iter().all(|(place, weak)| {
        strong.get(place).is_some_and(|strong| match Operator::parse(&place.0) {
            Some(operator) if operator.kind != Kind::Null && !operator.negated => strong.is_subset(weak),
            Some(operator) if operator.kind != Kind::Null => weak.is_subset(strong),
            _ => strong == weak,
        })
    })
}
