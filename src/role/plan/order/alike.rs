//! Facts that are everywhere together are one.
//!
//! Twenty policies of full size say more than 100,000 things, and an order looks at all of them again and again. But what
//! is in the same policies before and after each change, and wanted or not alike, is never apart while changes are
//! ordered, so it is looked at once. What is left are as many as there are ways in which permissions move.

use super::{Fact, Ids, Order};
use std::collections::BTreeMap;

/// Of what sort a fact is, and which of all sets hold it.
type Place = (bool, bool, Vec<usize>);

impl Order<'_> {
    /// Makes one of all facts that no change can tell apart.
    pub(super) fn merge_alike(&mut self) {
        let mut places: Vec<Place> =
            (0..self.facts.len()).map(|id| (self.denies(id), self.is_unread_fact(id), Vec::new())).collect();
        let sets = self.state.values().map(|(ids, _)| ids).chain([&self.wanted]);
        let sets = sets.chain(self.comes.iter().chain(&self.goes).map(|op| &op.after));
        for (set, ids) in sets.enumerate() {
            for id in ids {
                places.get_mut(*id).into_iter().for_each(|(_, _, held)| held.push(set));
            }
        }
        let mut merged: Vec<Vec<Fact>> = Vec::new();
        let mut known: BTreeMap<Place, usize> = BTreeMap::new();
        let mut new = Vec::with_capacity(places.len());
        for (place, facts) in places.into_iter().zip(std::mem::take(&mut self.facts)) {
            let id = *known.entry(place).or_insert(merged.len());
            match merged.get_mut(id) {
                Some(group) => group.extend(facts),
                None => merged.push(facts),
            }
            new.push(id);
        }
        self.facts = merged;
        self.renumber(&new);
    }

    fn renumber(&mut self, new: &[usize]) {
        let renumber = |ids: &mut Ids| *ids = ids.iter().filter_map(|id| new.get(*id)).copied().collect();
        self.numbers.clear();
        self.state.values_mut().for_each(|(ids, _)| renumber(ids));
        self.comes.iter_mut().chain(&mut self.goes).for_each(|op| renumber(&mut op.after));
        renumber(&mut self.wanted);
    }
}
