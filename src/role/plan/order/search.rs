//! An order that loses nothing, where choosing the next best step each time has lost something.
//!
//! Where IAM's quotas are nearly full, room that goes to the wrong addition is missing for the one that takes over what is
//! to go. So all orders are tried, as far as a bounded amount of work reaches: first those that keep what is wanted and
//! accompany what is allowed by its denials, then those that at least keep it; each first without, then with documents
//! that overlap for a moment.

use super::{Ids, Op, Order, Phase, Room, Verdict};
use crate::role::plan::step::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::rc::Rc;

/// How many facts are looked at in one search, about as many as where 40 policies change: all orders of eight small
/// policies, and some of many large ones.
const WORK: usize = 300_000;

/// What an order may do.
#[derive(Clone, Copy)]
struct Rules {
    /// All that is allowed comes with its denials.
    guarded: bool,
    /// Documents may take in for a moment what others are about to lose.
    overlap: bool,
}

/// One operation, by its place in the lists.
enum Move<'a> {
    Add(usize),
    Between(usize, Rc<Op<'a>>),
    Remove(usize),
}

/// What is still to be done, by its place in the lists.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Left {
    comes: BTreeSet<usize>,
    goes: BTreeSet<usize>,
    /// Documents that have not overlapped yet.
    unmixed: BTreeSet<usize>,
    /// What those hold that do: it depends on when they took it in.
    mixed: BTreeMap<usize, Ids>,
}

struct Search<'o, 'a> {
    order: &'o mut Order<'a>,
    comes: &'o [Op<'a>],
    goes: &'o [Op<'a>],
    rules: Rules,
    work: usize,
    left: Left,
    seen: BTreeSet<Left>,
    path: Vec<Move<'a>>,
}

impl<'a> Order<'a> {
    /// The steps of an order that loses nothing that is wanted, if one is found. With `guarded` only one in which nothing
    /// is without its denials either.
    pub(super) fn lossless(&mut self, guarded: bool) -> Option<Vec<Step>> {
        let (comes, goes) = (mem::take(&mut self.comes), mem::take(&mut self.goes));
        let rules = [(true, false), (true, true), (false, false), (false, true)];
        for (is_guarded, overlap) in rules.into_iter().filter(|(is_guarded, _)| *is_guarded || !guarded) {
            let start = self.state.clone();
            let path = Search::new(self, &comes, &goes, Rules { guarded: is_guarded, overlap }).run();
            self.state = start;
            if let Some(path) = path {
                return Some(self.carry_all(path, &comes, &goes));
            }
        }
        None
    }

    fn carry_all(&mut self, path: Vec<Move<'a>>, comes: &[Op<'a>], goes: &[Op<'a>]) -> Vec<Step> {
        let (mut left, mut exchange) = (comes.len(), false);
        let mut steps = Vec::new();
        for step in path {
            let (op, removes) = match step {
                Move::Add(i) => {
                    left = left.saturating_sub(1);
                    (comes.get(i).cloned(), false)
                }
                Move::Between(_, op) => (Some((*op).clone()), false),
                Move::Remove(i) => (goes.get(i).cloned(), true),
            };
            exchange |= removes && left > 0;
            let phase = match (removes, exchange) {
                (true, _) if left == 0 => Phase::Remove,
                (false, false) => Phase::Add,
                _ => Phase::Exchange,
            };
            steps.extend(op.map(|op| self.carry(op, phase)));
        }
        steps
    }
}

impl<'o, 'a> Search<'o, 'a> {
    fn new(order: &'o mut Order<'a>, comes: &'o [Op<'a>], goes: &'o [Op<'a>], rules: Rules) -> Self {
        let unmixed = comes.iter().enumerate().filter(|(_, op)| rules.overlap && !op.between).map(|(i, _)| i);
        let left = Left {
            comes: (0..comes.len()).collect(),
            goes: (0..goes.len()).collect(),
            unmixed: unmixed.collect(),
            mixed: BTreeMap::new(),
        };
        Self { order, comes, goes, rules, work: WORK, left, seen: BTreeSet::new(), path: Vec::new() }
    }

    fn run(mut self) -> Option<Vec<Move<'a>>> {
        self.ends_well().then_some(self.path)
    }

    fn ends_well(&mut self) -> bool {
        if self.left.comes.is_empty() && self.left.goes.is_empty() {
            return true;
        }
        if !self.seen.insert(self.left.clone()) {
            return false;
        }
        for step in self.moves() {
            let left = self.left.clone();
            let Some((key, after, room)) = self.take(&step) else { continue };
            let before = self.order.set(key.clone(), after, room);
            self.path.push(step);
            if self.ends_well() {
                return true;
            }
            self.path.pop();
            self.left = left;
            match before {
                Some(before) => drop(self.order.state.insert(key, before)),
                None => drop(self.order.state.remove(&key)),
            }
        }
        false
    }

    /// Notes a move as made, and returns the policy with what it then is.
    fn take(&mut self, step: &Move<'a>) -> Option<(String, Ids, Room)> {
        let then = |op: &Op<'a>| (op.key.clone(), op.after.clone(), op.change.room);
        match step {
            Move::Add(i) => {
                self.left.comes.remove(i);
                self.left.unmixed.remove(i);
                self.left.mixed.remove(i);
                self.comes.get(*i).map(then)
            }
            Move::Between(i, op) => {
                self.left.unmixed.remove(i);
                self.left.mixed.insert(*i, op.after.clone());
                Some(then(op))
            }
            Move::Remove(i) => {
                self.left.goes.remove(i);
                self.goes.get(*i).map(then)
            }
        }
    }

    /// What may be done next, in the order in which it is tried: additions that take over what something else is about to
    /// lose, other additions, overlaps, removals that make room, other removals, removals of what may deny. Of each, what
    /// leaves something allowed without its denials comes last.
    fn moves(&mut self) -> Vec<Move<'a>> {
        let there: usize = self.order.state.values().map(|(ids, _)| ids.len() + 1).sum();
        let cost = there * (self.left.comes.len() + self.left.goes.len());
        let Some(work) = self.work.checked_sub(cost) else { return Vec::new() };
        self.work = work;
        let adds = self.look(self.comes, &self.left.comes);
        let removals = self.look(self.goes, &self.left.goes);
        let leaving: Ids = adds.iter().chain(&removals).flat_map(|(_, _, verdict)| &verdict.lost).copied().collect();
        let good = |verdict: &Verdict| verdict.keeps() && !(self.rules.guarded && verdict.unguarded);
        let mut fit: Vec<_> = adds.iter().filter(|(_, _, verdict)| good(verdict) && verdict.fits()).collect();
        fit.sort_by_key(|(_, op, verdict)| (verdict.unguarded, op.after.is_disjoint(&leaving)));
        let mut moves: Vec<Move<'a>> = fit.into_iter().map(|(i, _, _)| Move::Add(*i)).collect();
        let unmixed = adds.iter().filter(|(i, _, _)| self.left.unmixed.contains(i));
        let mixed = unmixed.filter_map(|(i, op, verdict)| Some(Move::Between(*i, self.order.mixed(op, verdict)?)));
        moves.extend(mixed);
        let makes_room = |op: &Op<'_>| adds.iter().any(|(_, _, add)| self.order.makes_room(op, add));
        let mut go: Vec<_> = removals.iter().filter(|(_, _, verdict)| good(verdict)).collect();
        go.sort_by_key(|(_, op, verdict)| (self.order.goes_late(op), !makes_room(op), verdict.unguarded));
        moves.extend(go.into_iter().map(|(i, _, _)| Move::Remove(*i)));
        moves
    }

    fn look(&self, all: &'o [Op<'a>], left: &BTreeSet<usize>) -> Vec<(usize, &'o Op<'a>, Verdict)> {
        let pending = left.iter().filter_map(|i| Some((*i, all.get(*i)?)));
        pending.map(|(i, op)| (i, op, self.order.check(op))).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::role::Desired;
    use crate::role::plan::Plan;
    use crate::role::plan::tests::{document, keeping, names, settled, sized, spec};
    use crate::role::plan::update;
    use serde_json::{Value, json};

    fn own(policies: &[(&str, &[&str])], quota: usize) -> Desired {
        let policy = |(name, actions): &(&str, &[&str])| json!({ "name": name, "policyName": name, "document": document(actions) });
        let policies: Vec<Value> = policies.iter().map(policy).collect();
        let shared: Vec<String> = (0..quota - policies.len()).map(|i| format!("Shared{i}")).collect();
        spec(json!({ "managedPolicies": shared, "customerManagedPolicies": policies }))
    }

    fn short(plan: &Plan) -> Vec<String> {
        let steps = names(plan).into_iter().filter(|name| name.starts_with("Exchange"));
        steps.map(|name| name.replace("policy arn:aws:iam::111122223333:policy/", "")).collect()
    }

    #[test]
    fn room_goes_first_to_what_takes_over_what_is_to_go() {
        let old = own(&[("a", &["s3:X"]), ("c", &["s3:Y"])], 10);
        let (observed, record) = settled(&old);
        let expected = ["Exchange: detach c", "Exchange: attach d", "Exchange: detach a", "Exchange: attach b"];
        for new in [[("b", &["s3:Z"][..]), ("d", &["s3:X"])], [("d", &["s3:X"]), ("b", &["s3:Z"])]] {
            let plan = update(&own(&new, 10), &observed, &record, 10, false);
            assert_eq!(short(&plan), expected, "whatever the order of the spec");
        }
    }

    /// What may deny guards `all` until that is gone, and what makes no room is not taken off for its sake.
    #[test]
    fn room_is_made_by_what_takes_room_and_not_by_what_may_deny() {
        let with = |own: &[(&str, &str)], managed: &[&str], inline: &[&str]| {
            let own: Vec<Value> = own
                .iter()
                .map(|(name, action)| json!({ "name": name, "policyName": name, "document": document(&[*action]) }))
                .collect();
            let shared = 10 - own.len().max(managed.len() + 1);
            let mut shared: Vec<String> = (0..shared).map(|i| format!("Shared{i}")).collect();
            shared.extend(managed.iter().map(|name| (*name).to_owned()));
            let inline: Vec<Value> =
                inline.iter().map(|name| json!({ "name": name, "document": document(&["sqs:*"]) })).collect();
            spec(json!({ "managedPolicies": shared, "customerManagedPolicies": own, "inlinePolicies": inline }))
        };
        let place = |steps: &[String], part: &str| {
            steps.iter().position(|step| step.contains(part)).unwrap_or_else(|| panic!("{part}: {steps:?}"))
        };
        let (observed, record) = settled(&with(&[("a", "s3:X"), ("c", "s3:Y")], &[], &["legacy"]));
        let plan = names(&update(&with(&[("b", "s3:Z"), ("d", "s3:X")], &[], &[]), &observed, &record, 10, false));
        assert!(
            place(&plan, "attach policy arn:aws:iam::111122223333:policy/d")
                < place(&plan, "detach policy arn:aws:iam::111122223333:policy/a"),
            "{plan:?}"
        );
        assert!(place(&plan, "attach policy arn:aws:iam::111122223333:policy/b") < place(&plan, "legacy"), "{plan:?}");

        let (observed, record) = settled(&with(&[("a", "s3:X")], &["SecurityAudit"], &["all"]));
        let plan = names(&update(&with(&[("b", "s3:Z"), ("d", "s3:X")], &[], &[]), &observed, &record, 10, false));
        assert!(place(&plan, "policy all") < place(&plan, "SecurityAudit"), "{plan:?}");
    }

    #[test]
    fn it_is_the_same_for_characters() {
        let with = |policies: &[(&str, &str)]| {
            let policy = |(name, action): &(&str, &str)| json!({ "name": name, "document": document(&[action]) });
            spec(json!({ "inlinePolicies": policies.iter().map(policy).collect::<Vec<_>>() }))
        };
        let (observed, record) = settled(&with(&[("a", "s3:X"), ("c", "s3:Y")]));
        let mut new = with(&[("b", "s3:Z"), ("d", "s3:X")]);
        new.limits.inline_total = observed.inline.values().map(crate::policy::Canonical::size).sum();
        let expected =
            ["delete inline policy c", "put inline policy d", "delete inline policy a", "put inline policy b"];
        assert_eq!(
            short(&update(&new, &observed, &record, 10, false)),
            expected.map(|step| format!("Exchange: {step}"))
        );
    }

    #[test]
    fn the_search_ends_also_where_no_order_is_without_loss() {
        let small: Vec<String> = (0..20).map(|i| format!("small{i}")).collect();
        let with = |a: &str, b: &str, action: &str| {
            let mut policies = vec![("a", vec![sized(a, 3500)]), ("b", vec![sized(b, 3500)])];
            policies.extend(small.iter().map(|name| (name.as_str(), vec![sized(action, 0)])));
            let policies: Vec<(&str, &[Value])> = policies.iter().map(|(name, all)| (*name, all.as_slice())).collect();
            keeping(&policies)
        };
        let (observed, record) = settled(&with("s3:A", "s3:B", "s3:Old"));
        let steps = names(&update(&with("s3:B", "s3:A", "s3:New"), &observed, &record, 10, false));
        assert_eq!(steps.len(), 22, "a gap rather than a dead end: {steps:?}");
    }
}
