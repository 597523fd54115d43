//! The trust policy between two that neither narrow nor widen each other.

use super::canonical::{self, AccountRef, Canonical, Meaning, What, Who};
use super::conditions::{Asked, Conditions};
use super::document::{Condition, Document, Effect, PrincipalType, Principals, Statement, Terms};
use super::leaf;
use super::operator::{Kind, Operator};
use super::principal::is_unique_id;
use super::relation::{Rules, implies, what_within, who_within};
use super::set::Set;
use super::size;
use std::sync::Arc;

/// Comparisons that finding the common statements takes at most.
const BUDGET: usize = 20_000;
/// Larger documents are not looked into, in characters: twice the highest quota for trust policies that is heard of, and
/// small enough that a bridge is built within some milliseconds.
const LARGEST: usize = 16_384;

/// Actions by which a role is assumed.
const ASSUME: [&str; 3] = ["sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity"];

/// A trust policy that stands between two.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// It allows only what both allow, and denies what either denies.
    pub document: Document,
    /// It allows all that both allow. False where that can't be said, or may not have been.
    pub keeps_all: bool,
}

/// A trust policy that allows only what both `old` and `new` allow, and denies what either denies.
///
/// It stands between the two while the permissions of a role are exchanged: no principal that only one of them lets in
/// can then use permissions that were meant for the other. Names of statements are left out.
///
/// Where nothing is common, where `old` is not understood in full, where the result would be larger than both documents and
/// than `quota` (in characters), or where one of them is larger than any quota, it is one statement that denies everybody to
/// assume the role.
#[must_use]
pub fn bridge(old: &Canonical, new: &Document, account: &AccountRef, quota: usize) -> Bridge {
    let mut keeps_all = true;
    match build(old, new, account, quota, &mut keeps_all) {
        Some(statements) if statements.is_empty() => Bridge { document: closed(new), keeps_all },
        Some(statements) => Bridge { document: with_statements(new, statements), keeps_all },
        None => Bridge { document: closed(new), keeps_all: false },
    }
}

/// A trust policy of the same version that lets nobody in.
#[must_use]
pub fn closed(trust: &Document) -> Document {
    let everybody = Principals { negated: false, entries: vec![(PrincipalType::Aws, vec!["*".to_owned()])] };
    let assume = Terms { negated: false, values: ASSUME.map(str::to_owned).to_vec() };
    with_statements(trust, vec![statement(Effect::Deny, everybody, assume, Vec::new())])
}

/// The statements of a bridge, or none where nothing is common; `None` where it can't be said.
fn build(
    old: &Canonical,
    new: &Document,
    account: &AccountRef,
    quota: usize,
    keeps_all: &mut bool,
) -> Option<Vec<Statement>> {
    let size = Some(new.size()).filter(|size| *size <= LARGEST)?;
    let target = new.canonical(account);
    let (old, target) = (Rules::of(old)?, Rules::of(&target)?);
    let before = || old.of_effect(Effect::Allow).chain(old.of_effect(Effect::Deny));
    if before().map(weight).sum::<usize>() > LARGEST {
        return None;
    }
    let before: Vec<Statement> = before().filter_map(revive).flatten().collect();
    let limit = size.max(with_statements(new, before).size()).max(quota);
    let mut statements = common_statements(&old, &target, new, account, limit, keeps_all)?;
    if statements.is_empty() {
        return Some(statements);
    }
    let denied = new.statements.iter().filter(|statement| statement.effect == Effect::Deny);
    statements.extend(denied.cloned().map(unnamed));
    for meaning in old.of_effect(Effect::Deny).filter(|meaning| !target.contains(meaning)) {
        if !old.speaks_alike(&target, meaning) {
            return None;
        }
        statements.extend(revive(meaning)?);
    }
    (with_statements(new, statements.clone()).size() <= limit).then_some(statements)
}

/// What statements of both documents allow. `None` where finding that takes too long, or it is larger than `limit`; clears
/// `keeps_all` where they may allow more together.
fn common_statements(
    old: &Rules<'_>,
    target: &Rules<'_>,
    new: &Document,
    account: &AccountRef,
    limit: usize,
    keeps_all: &mut bool,
) -> Option<Vec<Statement>> {
    let (mut statements, mut budget, mut room) = (Vec::new(), BUDGET, limit);
    let mut add = |statement: Statement| {
        room = room.checked_sub(size::of_statement(&statement))?;
        statements.push(statement);
        Some(())
    };
    for statement in new.statements.iter().filter(|statement| statement.effect == Effect::Allow) {
        let meaning = canonical::meaning(statement, account)?;
        if old.cover(&meaning, target, &mut budget) {
            add(unnamed(statement.clone()))?;
            continue;
        }
        let principals = statement.principal.iter().flat_map(|who| &who.entries);
        let principals: usize = principals.map(|(_, values)| values.len()).sum();
        let cost = principals + statement.action.values.len() + meaning.condition.weight();
        for other in old.of_effect(Effect::Allow) {
            budget = budget.checked_sub(cost + other.condition.weight())?;
            let (common, is_all) = common(statement, &meaning, other, account);
            if old.speaks_alike(target, &meaning) && old.speaks_alike(target, other) {
                *keeps_all &= is_all;
                common.map_or(Some(()), &mut add)?;
            } else {
                *keeps_all &= is_all && common.is_none();
            }
        }
    }
    Some(statements)
}

/// The characters of a statement's values, without the syntax around them.
fn weight(meaning: &Meaning) -> usize {
    let who = meaning.principal.iter().flat_map(|who| who.entries.values().flatten());
    let conditions = meaning.condition.iter().flat_map(|((_, key), values)| std::iter::once(key).chain(values));
    who.chain(&meaning.action.values).chain(conditions).map(String::len).sum()
}

fn with_statements(new: &Document, statements: Vec<Statement>) -> Document {
    Document { statements, ..new.clone() }
}

fn statement(effect: Effect, who: Principals, action: Terms, condition: Vec<Condition>) -> Statement {
    Statement { path: String::new(), sid: None, effect, principal: Some(who), action, resource: None, condition }
}

fn unnamed(statement: Statement) -> Statement {
    Statement { sid: None, ..statement }
}

/// What a new `Allow` statement and an old one both allow, where that can be said in one statement, and whether they allow
/// nothing else together.
fn common(new: &Statement, meaning: &Meaning, old: &Meaning, account: &AccountRef) -> (Option<Statement>, bool) {
    let (who, all_of_them) = common_who(new, meaning, old, account);
    let (action, all_actions) = common_action(new, meaning, old);
    let (condition, all_requests) = common_conditions(new, meaning, old);
    if (who.is_none() && all_of_them) || (action.is_none() && all_actions) || (condition.is_none() && all_requests) {
        return (None, true);
    }
    let (Some(who), Some(action), Some(condition)) = (who, action, condition) else { return (None, false) };
    (Some(statement(Effect::Allow, who, action, condition)), all_of_them && all_actions && all_requests)
}

/// Conditions that hold only where those of both statements do; `None` where that is never or can't be said. And whether
/// they always hold then.
fn common_conditions(new: &Statement, meaning: &Meaning, old: &Meaning) -> (Option<Vec<Condition>>, bool) {
    if implies(&meaning.condition, &old.condition) {
        return (Some(new.condition.clone()), true);
    }
    let (mut is_all, mut is_never) = (true, false);
    let both = meaning.condition.both(&old.condition, |(operator, _), one, other| {
        // Of the others a value may match several, and a variable may be anything.
        let is_fixed = one.iter().chain(other).all(|value| !value.contains("${"));
        let is_exact = is_fixed && matches!(&**operator, "StringEquals" | "StringNotEquals");
        is_all &= is_exact || one == other;
        let common = match Operator::parse(operator) {
            Some(operator) if operator.negated => one.union(other),
            Some(operator) if operator.kind != Kind::Null => one.intersection(other),
            _ if one == other => one.clone(),
            _ => return None,
        };
        is_never |= is_exact && common.is_empty();
        (!common.is_empty()).then_some(common)
    });
    let is_all = if both.is_some() { is_all } else { is_never };
    (both.as_ref().map(revive_conditions), is_all)
}

fn common_who(new: &Statement, meaning: &Meaning, old: &Meaning, account: &AccountRef) -> (Option<Principals>, bool) {
    let (Some(new), Some(meaning), Some(old)) =
        (new.principal.as_ref(), meaning.principal.as_ref(), old.principal.as_ref())
    else {
        return (None, false);
    };
    if new.negated || old.negated {
        let is_within = who_within(meaning, old);
        return (is_within.then(|| new.clone()), is_within);
    }
    let mut entries = Vec::new();
    for (kind, values) in &new.entries {
        let Some(listed) = old.entries.get(kind.as_str()) else {
            continue;
        };
        let is_listed = |value: &&String| match kind {
            PrincipalType::Aws => listed.contains(&leaf::aws_principal(value, account)),
            _ => listed.contains(value.as_str()),
        };
        let values: Vec<String> = values.iter().filter(is_listed).cloned().collect();
        if !values.is_empty() {
            entries.push((*kind, values));
        }
    }
    let names = |who: &Who| who.entries.values().flatten().cloned().collect::<Vec<String>>();
    let old = names(old);
    let overlap = |new: &String| old.iter().any(|old| old != new && may_overlap(old, new));
    let is_all = !names(meaning).iter().any(overlap);
    ((!entries.is_empty()).then_some(Principals { negated: false, entries }), is_all)
}

/// Whether two principals that are called otherwise may be the same, or one of them the other's account or session.
fn may_overlap(one: &str, other: &str) -> bool {
    let is_alone = |name: &str| name.contains(":iam:") && !name.ends_with(":root");
    // A service has a name for all regions, and perhaps one for each.
    let service = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    let account = |name: &str| name.split(':').nth(4).map_or_else(|| service(name), str::to_owned);
    one == "*" || other == "*" || (account(one) == account(other) && !(is_alone(one) && is_alone(other)))
}

fn common_action(new: &Statement, meaning: &Meaning, old: &Meaning) -> (Option<Terms>, bool) {
    if new.action.negated || old.action.negated {
        let is_within = what_within(&meaning.action, &old.action);
        return (is_within.then(|| new.action.clone()), is_within);
    }
    let listed = |action: &&String| old.action.values.contains(&action.to_ascii_lowercase());
    let values: Vec<String> = new.action.values.iter().filter(listed).cloned().collect();
    let mut all = new.action.values.iter().chain(&old.action.values);
    let is_all = !all.any(|action| action.contains(['*', '?']));
    ((!values.is_empty()).then_some(Terms { negated: false, values }), is_all)
}

/// An old statement, to be sent again; without the principals that were deleted, since IAM refuses their ids. The
/// outer `None`: it can't be sent. The inner one: nobody is left in it.
#[allow(clippy::option_option)]
fn revive(meaning: &Meaning) -> Option<Option<Statement>> {
    let who = meaning.principal.as_ref()?;
    if meaning.resource.is_some() {
        return None;
    }
    let who = revive_who(who)?;
    if who.entries.is_empty() && !who.negated {
        return Some(None);
    }
    let who = if who.entries.is_empty() {
        // Everybody but nobody.
        let entries = vec![(PrincipalType::Aws, vec!["*".to_owned()])];
        Principals { negated: false, entries }
    } else {
        who
    };
    let (action, condition) = (revive_actions(&meaning.action), revive_conditions(&meaning.condition));
    Some(Some(statement(meaning.effect, who, action, condition)))
}

fn revive_who(who: &Who) -> Option<Principals> {
    let mut entries = Vec::new();
    for (kind, values) in &who.entries {
        let kind = PrincipalType::parse(kind)?;
        let values: Vec<String> = values.iter().filter(|value| !is_unique_id(value)).cloned().collect();
        if !values.is_empty() {
            entries.push((kind, values));
        }
    }
    Some(Principals { negated: who.negated, entries })
}

fn revive_actions(action: &What) -> Terms {
    let spelled = |action: &String| {
        let usual = ASSUME.iter().find(|usual| usual.eq_ignore_ascii_case(action));
        usual.map_or_else(|| action.clone(), |usual| (*usual).to_owned())
    };
    Terms { negated: action.negated, values: action.values.iter().map(spelled).collect() }
}

fn revive_conditions(conditions: &Conditions) -> Vec<Condition> {
    let one = |((operator, key), values): (&Asked, &Set)| Condition {
        operator: Arc::clone(operator),
        key: key.clone(),
        values: values.iter().cloned().collect(),
    };
    conditions.iter().map(one).collect()
}
