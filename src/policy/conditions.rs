//! The conditions of a statement in canonical form.

use std::cmp::Ordering;
use std::sync::Arc;

use super::set::Set;

/// Operator and lower-case key.
pub(super) type Asked = (Arc<str>, String);

/// Values by operator and key, as a sorted list: a statement can have thousands of keys, and a tree of them would take
/// longer to build than all the rest.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Conditions(Vec<(Asked, Set)>);

impl Conditions {
    /// From entries that are sorted and of different keys.
    pub(super) fn of_sorted(entries: Vec<(Asked, Set)>) -> Self {
        debug_assert!(entries.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b)), "sorted, no two alike");
        Self(entries)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keys and values.
    pub(super) fn weight(&self) -> usize {
        self.0.iter().map(|(_, values)| 1 + values.len()).sum()
    }

    pub(super) fn get(&self, asked: &Asked) -> Option<&Set> {
        let found = self.0.binary_search_by(|(known, _)| known.cmp(asked)).ok()?;
        self.0.get(found).map(|(_, values)| values)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Asked, &Set)> {
        self.0.iter().map(|(asked, values)| (asked, values))
    }

    /// All of both. Where both ask the same key, `common` says of which values; `None` where it can't.
    pub(super) fn both(&self, other: &Self, mut common: impl FnMut(&Asked, &Set, &Set) -> Option<Set>) -> Option<Self> {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut all = Vec::with_capacity(self.len() + other.len());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some((a, _)), Some((b, _))) => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Some(Self(all)),
            };
            if order == Ordering::Equal
                && let (Some((asked, one)), Some((_, another))) = (ours.next(), theirs.next())
            {
                all.push((asked.clone(), common(asked, one, another)?));
            } else if order == Ordering::Less {
                all.extend(ours.next().cloned());
            } else {
                all.extend(theirs.next().cloned());
            }
        }
    }
}
