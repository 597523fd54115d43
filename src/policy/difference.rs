//! How far two documents are apart, in numbers: what may be told where policy text must not be.

use super::canonical::{Body, Canonical, Entry};
use std::collections::BTreeSet;

/// Statements of one document that another one lacks, and the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Only in the document itself.
    pub more: usize,
    /// Only in the other one.
    pub less: usize,
}

impl Canonical {
    /// Compares statement by statement; what is no policy at all has none.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Difference {
        let none = BTreeSet::new();
        let (own, others) = (self.entries(&none), other.entries(&none));
        Difference { more: own.difference(others).count(), less: others.difference(own).count() }
    }

    fn entries<'c>(&'c self, none: &'c BTreeSet<Entry>) -> &'c BTreeSet<Entry> {
        match &self.body {
            Body::Policy(policy) => &policy.statements,
            Body::Opaque(_) => none,
        }
    }
}
