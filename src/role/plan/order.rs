//! When each policy comes, changes and goes.
//!
//! Documents change one at a time, and a statement may move from one to another. The order is found by carrying
//! the changes out on paper, one by one, each time the first one after which all this is still so:
//!
//! - what is there now and is wanted, be it a statement or an attached policy, is still there, wherever it stands;
//! - what is allowed is accompanied by all denials that now go with it, or by all that shall go with it;
//! - IAM's quotas are kept.
//!
//! Additions go before removals. Where two documents exchange statements none can be first, so one of them takes both
//! for a moment. Where nothing is left that keeps all three (the documents are too large for that), denials are given
//! up first, since IAM's denials are rare, and a gap in what works last; but not before other orders were tried
//! (`order/search.rs`), since the first step that is possible may take the room that another one needs.
//!
//! An attached policy whose text was not read may deny as well as allow. So of what may come next it comes first, and of
//! what may go next it goes last; but not what a stranger attached, of which it is more likely that it allows.
//!
//! What IAM would have no room for in the end is left out, with all that it would cost: `order/quota.rs`.
//!
//! A step that relies on earlier ones [needs](Step::needs) them: if one fails, it waits, and the last document stays.

mod alike;
mod quota;
mod search;

use super::action::Action;
use super::step::{Phase, Plan, Step};
use crate::policy::{Clause, Document};
use crate::role::Desired;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::rc::Rc;

/// Something that the role may or may not do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    /// A statement of a document.
    Clause(Clause),
    /// An attached policy whose document was not read.
    Policy(String),
}

pub(super) type Facts = BTreeSet<Fact>;
/// Facts by their number.
type Ids = BTreeSet<usize>;
/// Operations by policy and what its document takes in for a moment; `None` where that can't be.
type Extended<'a> = BTreeMap<(String, Ids), Option<Rc<Op<'a>>>>;

/// What a policy takes of the role's quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    inline: usize,
    attached: usize,
}

impl Room {
    pub(super) const fn attached() -> Self {
        Self { inline: 0, attached: 1 }
    }

    pub(super) const fn inline(size: usize) -> Self {
        Self { inline: size, attached: 0 }
    }

    pub(super) const fn nothing() -> Self {
        Self { inline: 0, attached: 0 }
    }
}

/// One change of one policy.
#[derive(Clone, Debug)]
pub(super) struct Change<'a> {
    action: Action,
    after: Facts,
    room: Room,
    document: Option<&'a Document>,
    pub(super) needs: BTreeSet<String>,
    is_strangers: bool,
}

impl<'a> Change<'a> {
    /// `after` and `room` are those of the policy when it is done.
    pub(super) const fn new(action: Action, after: Facts, room: Room) -> Self {
        Self { action, after, room, document: None, needs: BTreeSet::new(), is_strangers: false }
    }

    /// What goes from the role; whether a stranger put it there.
    pub(super) fn removal(action: Action, is_strangers: bool) -> Self {
        Self { is_strangers, ..Self::new(action, Facts::new(), Room::nothing()) }
    }

    /// The document that is written.
    pub(super) fn of(self, document: &'a Document) -> Self {
        Self { document: Some(document), ..self }
    }
}

#[derive(Clone, Debug)]
struct Op<'a> {
    key: String,
    after: Ids,
    change: Change<'a>,
    /// It already took in what would be lost.
    between: bool,
}

/// A step that was planned.
#[derive(Clone)]
struct Done {
    key: String,
    brings: Ids,
    drops: Ids,
}

/// What carrying out an operation now would do.
struct Verdict {
    lost: Ids,
    unguarded: bool,
    no_inline: bool,
    no_attachment: bool,
}

impl Verdict {
    const fn fits(&self) -> bool {
        !self.no_inline && !self.no_attachment
    }

    fn keeps(&self) -> bool {
        self.lost.is_empty()
    }
}

enum Choice<'a> {
    Add(usize),
    Between(Rc<Op<'a>>),
    Remove(usize),
    /// It waits for a part that is refused.
    Leave(usize),
}

#[derive(Clone)]
pub(super) struct Order<'a> {
    desired: &'a Desired,
    attachments: usize,
    numbers: BTreeMap<Fact, usize>,
    /// By number; those that are everywhere together have one.
    facts: Vec<Vec<Fact>>,
    state: BTreeMap<String, (Ids, Room)>,
    wanted: Ids,
    comes: Vec<Op<'a>>,
    goes: Vec<Op<'a>>,
    done: Vec<Done>,
    old: Ids,
    refused: bool,
    cost: Cost,
    /// Documents with more, by policy and what they take in: many orders ask for the same.
    extended: RefCell<Extended<'a>>,
}

/// What the steps cost that were planned.
#[derive(Clone)]
struct Cost {
    /// Something that is wanted is missing for a moment, or IAM will refuse a step.
    loses: bool,
    /// Something is without its denials for a moment.
    is_open: bool,
    /// There was no room for an addition when its turn might have come.
    is_tight: bool,
}

impl<'a> Order<'a> {
    /// Nothing there, nothing wanted; room for so many attached policies.
    pub(super) const fn new(desired: &'a Desired, attachments: usize) -> Self {
        Self {
            desired,
            attachments,
            numbers: BTreeMap::new(),
            facts: Vec::new(),
            state: BTreeMap::new(),
            wanted: Ids::new(),
            comes: Vec::new(),
            goes: Vec::new(),
            done: Vec::new(),
            old: Ids::new(),
            refused: false,
            cost: Cost { loses: false, is_open: false, is_tight: false },
            extended: RefCell::new(BTreeMap::new()),
        }
    }

    /// A policy that is there.
    pub(super) fn there(&mut self, key: String, facts: Facts, room: Room) {
        let ids = self.number(facts);
        self.state.insert(key, (ids, room));
    }

    /// What shall be there.
    pub(super) fn want(&mut self, facts: Facts) {
        let ids = self.number(facts);
        self.wanted.extend(ids);
    }

    /// A document that shall be there.
    pub(super) fn want_document(&mut self, document: &Document) {
        let clauses = document.canonical(&self.desired.account).clauses();
        self.want(clauses.into_iter().map(Fact::Clause).collect());
    }

    /// A policy that is new, or whose document changes.
    pub(super) fn comes(&mut self, change: Change<'a>) {
        let op = self.op(change);
        self.comes.push(op);
    }

    /// A policy that goes.
    pub(super) fn goes(&mut self, change: Change<'a>) {
        let op = self.op(change);
        self.goes.push(op);
    }

    fn op(&mut self, mut change: Change<'a>) -> Op<'a> {
        let after = self.number(mem::take(&mut change.after));
        Op { key: change.action.key().unwrap_or_default(), after, change, between: false }
    }

    fn number(&mut self, facts: Facts) -> Ids {
        let mut ids = Ids::new();
        for fact in facts {
            let id = *self.numbers.entry(fact.clone()).or_insert(self.facts.len());
            if id == self.facts.len() {
                self.facts.push(vec![fact]);
            }
            ids.insert(id);
        }
        ids
    }

    /// Adds all steps to the plan, in order.
    pub(super) fn schedule(&mut self, plan: &mut Plan) {
        self.merge_alike();
        self.old = self.union(None);
        plan.refused.extend(self.leave_out());
        self.refused = !plan.refused.is_empty();
        self.sort_unread();
        let other = (!self.comes.is_empty() && !self.state.is_empty()).then(|| self.clone());
        let steps = self.next_best();
        let other = other.filter(|_| !self.refused && (self.cost.loses || (self.cost.is_open && self.cost.is_tight)));
        let lossless = other.and_then(|mut other| other.lossless(!self.cost.loses));
        plan.steps.extend(lossless.unwrap_or(steps));
    }

    /// Unread policies before other additions and after other removals.
    fn sort_unread(&mut self) {
        let (mut comes, mut goes) = (mem::take(&mut self.comes), mem::take(&mut self.goes));
        comes.sort_by_key(|op| !self.is_unread(&op.after));
        goes.sort_by_key(|op| self.goes_late(op));
        (self.comes, self.goes) = (comes, goes);
    }

    fn is_unread(&self, ids: &Ids) -> bool {
        ids.iter().any(|id| self.is_unread_fact(*id))
    }

    fn is_unread_fact(&self, id: usize) -> bool {
        matches!(self.fact(id), Some(Fact::Policy(_)))
    }

    /// One of those that have this number: all are of one sort.
    fn fact(&self, id: usize) -> Option<&Fact> {
        self.facts.get(id)?.first()
    }

    /// Whether what goes may deny, for all that is known.
    fn goes_late(&self, op: &Op<'_>) -> bool {
        !op.change.is_strangers && self.state.get(&op.key).is_some_and(|(ids, _)| self.is_unread(ids))
    }

    /// All steps, each time the one that seems best.
    fn next_best(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut exchange = false;
        while let Some(choice) = self.choose() {
            let phase = if exchange { Phase::Exchange } else { Phase::Add };
            match choice {
                Choice::Add(i) => {
                    let op = self.comes.remove(i);
                    steps.push(self.carry(op, phase));
                }
                Choice::Between(op) => steps.push(self.carry((*op).clone(), phase)),
                Choice::Remove(i) => {
                    exchange |= !self.comes.is_empty();
                    let phase = if self.comes.is_empty() { Phase::Remove } else { Phase::Exchange };
                    let op = self.goes.remove(i);
                    steps.push(self.carry(op, phase));
                }
                Choice::Leave(i) => drop(self.comes.remove(i)),
            }
        }
        steps
    }

    fn choose(&mut self) -> Option<Choice<'a>> {
        let adds: Vec<Verdict> = self.comes.iter().map(|op| self.check(op)).collect();
        self.cost.is_tight |= adds.iter().any(|verdict| !verdict.fits());
        let add = |good: &dyn Fn(&Verdict) -> bool| adds.iter().position(good);
        if let Some(i) = add(&|verdict| verdict.keeps() && !verdict.unguarded && verdict.fits()) {
            return Some(Choice::Add(i));
        }
        if let Some(op) = self.between(&adds) {
            return Some(Choice::Between(op));
        }
        if let Some(i) = adds.iter().enumerate().position(|(i, verdict)| self.is_hopeless(i, verdict)) {
            return Some(Choice::Leave(i));
        }
        let removals: Vec<Verdict> = self.goes.iter().map(|op| self.check(op)).collect();
        let remove = |good: &dyn Fn(&Verdict) -> bool| self.removal(&adds, &removals, good);
        let harmless = remove(&|verdict| verdict.keeps() && !verdict.unguarded)
            .or_else(|| add(&|verdict| verdict.keeps() && verdict.fits()).map(Choice::Add))
            .or_else(|| remove(&Verdict::keeps));
        if self.refused {
            // What goes waits until all is in order, and so what was to take its place would not come.
            return harmless;
        }
        harmless
            .or_else(|| add(&Verdict::fits).map(Choice::Add))
            .or_else(|| remove(&|_| true))
            .or_else(|| add(&|_| true).map(Choice::Add))
    }

    /// A removal that helps an addition that can't be made now, or any where all additions are made.
    fn removal(&self, adds: &[Verdict], all: &[Verdict], good: &dyn Fn(&Verdict) -> bool) -> Option<Choice<'a>> {
        let helps = |op: &Op<'_>, add: &Verdict| (add.fits() && add.unguarded) || self.makes_room(op, add);
        let useful = |op: &Op<'_>| adds.is_empty() || adds.iter().any(|add| helps(op, add));
        let mut candidates = self.goes.iter().zip(all);
        candidates.position(|(op, verdict)| useful(op) && good(verdict)).map(Choice::Remove)
    }

    /// Whether a removal makes room of the sort that an addition lacks.
    fn makes_room(&self, goes: &Op<'_>, add: &Verdict) -> bool {
        let room = self.state.get(&goes.key).map_or(Room::nothing(), |(_, room)| *room);
        (add.no_inline && room.inline > 0) || (add.no_attachment && room.attached > 0)
    }

    /// Whether an addition would lose what only a refused part could bring.
    fn is_hopeless(&self, index: usize, verdict: &Verdict) -> bool {
        let others = || self.comes.iter().enumerate().filter(|(i, _)| *i != index);
        let brought = |id: &usize| others().any(|(_, op)| op.after.contains(id));
        self.refused && verdict.lost.iter().any(|id| !brought(id))
    }

    fn between(&mut self, adds: &[Verdict]) -> Option<Rc<Op<'a>>> {
        for (i, verdict) in adds.iter().enumerate() {
            let Some(mixed) = self.comes.get(i).filter(|op| !op.between).and_then(|op| self.mixed(op, verdict)) else {
                continue;
            };
            if let Some(op) = self.comes.get_mut(i) {
                op.between = true;
            }
            return Some(mixed);
        }
        None
    }

    /// A document that keeps what its last form would lose too early, be it wanted or a denial that still has
    /// something to deny; if there is room for that.
    fn mixed(&self, op: &Op<'a>, verdict: &Verdict) -> Option<Rc<Op<'a>>> {
        let now = self.state.get(&op.key).map(|(ids, _)| ids);
        let mut more = verdict.lost.clone();
        if verdict.unguarded {
            more.extend(now.iter().flat_map(|ids| ids.difference(&op.after)).filter(|id| self.denies(**id)));
        }
        if more.is_empty() {
            return None;
        }
        let key = (op.key.clone(), more);
        let known = self.extended.borrow().get(&key).cloned();
        let extended = known.unwrap_or_else(|| {
            let extended = self.extended(op, &key.1).map(Rc::new);
            self.extended.borrow_mut().insert(key, extended.clone());
            extended
        })?;
        let check = self.check(&extended);
        let helps = now != Some(&extended.after) && check.keeps() && !check.unguarded && check.fits();
        helps.then_some(extended)
    }

    fn extended(&self, op: &Op<'a>, more: &Ids) -> Option<Op<'a>> {
        let facts = more.iter().filter_map(|id| self.facts.get(*id)).flatten();
        let clauses = facts.map(|fact| match fact {
            Fact::Clause(clause) => Some(clause),
            Fact::Policy(_) => None,
        });
        let document = op.change.document?.with_clauses(clauses.collect::<Option<Vec<_>>>()?)?;
        let mut extended = op.clone();
        extended.after.extend(more);
        match &mut extended.change.action {
            Action::PutInline { document: put, .. } => {
                extended.change.room = Room::inline(document.size());
                *put = document;
            }
            Action::UpdatePolicy { document: update, .. } if document.size() <= self.desired.limits.managed => {
                *update = document;
            }
            _ => return None,
        }
        Some(extended)
    }

    fn check(&self, op: &Op<'_>) -> Verdict {
        let (before, after) = (self.union(None), self.union(Some(op)));
        let lost = before.difference(&after).filter(|id| self.wanted.contains(id)).copied().collect();
        let unguarded = !self.unguarded(&after).is_subset(&self.unguarded(&before));
        let taken = self.state.get(&op.key).map_or(Room::nothing(), |(_, room)| *room);
        let sum = |part: fn(&Room) -> usize| self.state.values().map(|(_, room)| part(room)).sum::<usize>();
        let full = |part: fn(&Room) -> usize, limit: usize| {
            let (now, then) = (part(&taken), part(&op.change.room));
            then > now && sum(part) + then - now > limit
        };
        Verdict {
            lost,
            unguarded,
            no_inline: full(|room| room.inline, self.desired.limits.inline_total),
            no_attachment: full(|room| room.attached, self.attachments),
        }
    }

    /// All that the role may do, now or after an operation.
    fn union(&self, op: Option<&Op<'_>>) -> Ids {
        let others = self.state.iter().filter(|(key, _)| op.is_none_or(|op| op.key != **key));
        let mut union: Ids = others.flat_map(|(_, (ids, _))| ids).copied().collect();
        union.extend(op.iter().flat_map(|op| &op.after));
        union
    }

    fn denies(&self, id: usize) -> bool {
        matches!(self.fact(id), Some(Fact::Clause(clause)) if clause.denies())
    }

    /// What is allowed there without all the denials that were with it, or shall be.
    fn unguarded(&self, there: &Ids) -> Ids {
        let denials_in = |ids: &Ids| ids.iter().all(|id| !self.denies(*id) || there.contains(id));
        let (old, new) = (denials_in(&self.old), denials_in(&self.wanted));
        let guarded = |id: &usize| (old && self.old.contains(id)) || (new && self.wanted.contains(id));
        there.iter().filter(|id| !self.denies(**id) && !guarded(id)).copied().collect()
    }

    /// Plans an operation and notes what is so then.
    fn carry(&mut self, op: Op<'a>, phase: Phase) -> Step {
        let verdict = self.check(&op);
        self.cost.loses |= !verdict.keeps() || !verdict.fits();
        self.cost.is_open |= verdict.unguarded;
        let before = self.state.get(&op.key).map(|(ids, _)| ids.clone()).unwrap_or_default();
        let brings: Ids = op.after.difference(&before).copied().collect();
        let drops: Ids = before.difference(&op.after).copied().collect();
        let mut step = Step::new(phase, op.change.action);
        step.needs = op.change.needs;
        step.is_strangers = op.change.is_strangers;
        step.needs.extend(self.needs(&op.key, &brings, &drops));
        self.set(op.key.clone(), op.after, op.change.room);
        self.done.push(Done { key: op.key, brings, drops });
        step
    }

    /// Notes a policy as it is then; returns what it was.
    fn set(&mut self, key: String, ids: Ids, room: Room) -> Option<(Ids, Room)> {
        if ids.is_empty() && room == Room::nothing() {
            self.state.remove(&key)
        } else {
            self.state.insert(key, (ids, room))
        }
    }

    /// The policies on whose earlier steps a change relies.
    fn needs(&self, key: &str, brings: &Ids, drops: &Ids) -> BTreeSet<String> {
        let was_there = |id: &usize| {
            let brought = |key: &String| self.done.iter().any(|done| done.key == *key && done.brings.contains(id));
            self.state.iter().any(|(other, (ids, _))| other != key && ids.contains(id) && !brought(other))
        };
        let moved: Ids = drops.iter().filter(|id| self.wanted.contains(id) && !was_there(id)).copied().collect();
        let lifts = drops.iter().any(|id| self.denies(*id) && !self.wanted.contains(id));
        let allows = brings.iter().any(|id| !self.denies(*id) && !self.old.contains(id));
        let relied = |done: &&Done| {
            let denial = |id: &usize| self.denies(*id) && self.wanted.contains(id);
            let last_use = |id: &usize| !self.denies(*id) && !self.wanted.contains(id);
            done.brings.iter().any(|id| moved.contains(id))
                || ((lifts || allows) && done.brings.iter().any(denial))
                || (lifts && done.drops.iter().any(last_use))
        };
        let relied = self.done.iter().filter(relied);
        relied.map(|done| done.key.clone()).filter(|other| other != key).collect()
    }
}
