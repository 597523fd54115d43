//! Facts that are everywhere together are one.
//!
//! Twenty policies of full size say tens of thousands of things, and an order looks at all of them again and again. But what
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

#[cfg(test)]
mod tests {
    use super::super::{Change, Fact, Facts, Order, Room};
    use crate::role::plan::Action;
    use crate::role::plan::tests::{document, inline, spec};
    use serde_json::Value;

    fn facts(desired: &crate::role::Desired, actions: &[String]) -> Facts {
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        let text: Value = document(&actions);
        let policy = spec(serde_json::json!({ "inlinePolicies": [{ "name": "a", "document": text }] }));
        let clauses = policy.inline["a"].canonical(&desired.account).clauses();
        clauses.into_iter().map(Fact::Clause).collect()
    }

    #[test]
    fn what_moves_together_is_one_and_what_does_not_is_told_apart() {
        let desired = spec(inline(&[]));
        let named = |letter: &str| (0..50).map(|i| format!("s3:{letter}{i}")).collect::<Vec<String>>();
        let denied = |letter: &str| named(letter).iter().map(|action| format!("!{action}")).collect::<Vec<String>>();
        let sets = [named("Stays"), named("Moves"), denied("Moves"), named("Goes"), named("Comes")];
        let [stays, moves, denials, goes, comes] = sets.each_ref().map(|actions| facts(&desired, actions));
        let mut order = Order::new(&desired, 10);
        let all = |parts: &[&Facts]| parts.iter().flat_map(|facts| (*facts).clone()).collect::<Facts>();
        order.there("a".into(), all(&[&stays, &moves, &denials, &goes]), Room::inline(1));
        order.want(all(&[&stays, &moves, &denials, &comes]));
        let change =
            |name: &str, after: &[&Facts]| Change::new(Action::DeleteInline(name.into()), all(after), Room::inline(1));
        order.comes(change("a", &[&stays]));
        order.comes(change("b", &[&moves, &denials, &comes]));
        order.merge_alike();
        let sizes: Vec<usize> = order.facts.iter().map(Vec::len).collect();
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (5, 250), "{sizes:?}");
        let there = &order.state["a"].0;
        assert_eq!((there.len(), order.wanted.len(), there.intersection(&order.wanted).count()), (4, 4, 3));
        assert_eq!(order.wanted.iter().filter(|id| order.denies(**id)).count(), 1, "a denial is no permission");
    }
}
