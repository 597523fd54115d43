//! What a class lets through, over random classes and documents: if a document is let through, then no action that it
//! grants lies outside the class. Found by enumeration over a small alphabet: services one of which begins like another,
//! with actions of the same names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod guards;

use guards::{account, class, owner};
use iamrole_operator::policy::{Document, Grammar, Pattern, Tokens};
use iamrole_operator::role::guard::Guard;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::cell::Cell;

const SERVICES: [&str; 4] = ["s", "sa", "sab", "b"];
const LETTERS: [&str; 2] = ["a", "b"];

/// A statement: whether it allows, whether it is a `NotAction`, its patterns.
type Statement = (bool, bool, Vec<String>);

/// All actions of the services with up to three letters.
fn alphabet() -> Vec<String> {
    let mut names = vec![String::new()];
    for length in 0..3 {
        let longest: Vec<String> = names.iter().filter(|name| name.len() == length).cloned().collect();
        names.extend(longest.iter().flat_map(|name| LETTERS.map(|letter| format!("{name}{letter}"))));
    }
    let of = |service: &str| -> Vec<String> { names[1..].iter().map(|name| format!("{service}:{name}")).collect() };
    SERVICES.iter().flat_map(|service| of(service)).collect()
}

/// A pattern as it may stand in a document: a service, and names with wildcards, in any case.
fn in_document() -> impl Strategy<Value = String> {
    let service = select(&["s", "sa", "sab", "b", "S", "sA"][..]);
    let name = vec(select(&["a", "b", "*", "?", "A"][..]), 1..4).prop_map(|parts| parts.concat());
    let action = (service, name).prop_map(|(service, name)| format!("{service}:{name}"));
    prop_oneof![20 => action, 1 => Just("*".to_owned())]
}

/// A pattern as it may stand in a class, which may have wildcards in the service, too, or no colon at all.
fn in_class() -> impl Strategy<Value = String> {
    const ODD: [&str; 12] = ["s*", "sa*", "*a", "*:a*", "s*:*", "s?:*", "*:*b", "?:a", "s*b", "*", "sa?:?", "*s:*"];
    prop_oneof![3 => in_document(), 1 => select(&ODD[..]).prop_map(str::to_owned)]
}

fn statements(allowed: &[String]) -> impl Strategy<Value = Vec<Statement>> + use<> {
    let known: Vec<String> = allowed.iter().filter(|text| text.contains(':') || *text == "*").cloned().collect();
    // Often what is allowed, or most documents would be refused and show nothing.
    let pattern = (any::<Index>(), 0..4, in_document()).prop_map(move |(index, chance, other)| {
        if chance == 0 || known.is_empty() { other } else { index.get(&known).clone() }
    });
    let statement = (prop_oneof![3 => Just(true), 1 => Just(false)], prop_oneof![4 => Just(false), 1 => Just(true)]);
    vec((statement, vec(pattern, 1..4)).prop_map(|((allow, negated), patterns)| (allow, negated, patterns)), 1..4)
}

fn document(statements: &[Statement]) -> Value {
    let list = statements.iter().map(|(allow, negated, patterns)| {
        let key = if *negated { "NotAction" } else { "Action" };
        json!({ "Effect": if *allow { "Allow" } else { "Deny" }, key: patterns, "Resource": "*" })
    });
    json!({ "Version": "2012-10-17", "Statement": list.collect::<Vec<_>>() })
}

/// What the engine says; `None` where it is no document (a service of IAM's has no wildcards, say).
fn refusals(allowed: &[String], denied: &[String], document: &Value) -> Option<usize> {
    let class = class(json!({ "allowed": { "actions": allowed }, "denied": { "actions": denied } }));
    let (owner, account, tokens) = (owner(), account(), Tokens::default());
    let guard = Guard::new(&class, &tokens, &account, &owner.namespace, None);
    let document = Document::from_value(Grammar::Permission, "d", document, &tokens).ok()?;
    Some(guard.actions(&document).len() + usize::from(guard.document("d").is_err()))
}

fn is_in(patterns: &[String], action: &str) -> bool {
    patterns.iter().any(|text| Pattern::new(text).matches_ignore_case(action))
}

#[test]
fn what_is_let_through_grants_nothing_beyond() {
    const CASES: u32 = 4000;
    let classes = (vec(in_class(), 0..4), vec(in_class(), 0..2));
    let cases = classes.prop_flat_map(|(allowed, denied)| {
        let statements = statements(&allowed);
        (Just(allowed), Just(denied), statements)
    });
    let (actions, let_through, negated) = (alphabet(), Cell::new(0), Cell::new(0));
    let law = |(allowed, denied, statements): (Vec<String>, Vec<String>, Vec<Statement>)| {
        let text = document(&statements);
        if refusals(&allowed, &denied, &text) != Some(0) {
            return Ok(());
        }
        let_through.set(let_through.get() + 1);
        negated.set(negated.get() + u32::from(statements.iter().any(|(allow, negated, _)| *allow && *negated)));
        prop_assert!(!allowed.is_empty(), "no action is allowed: {text}");
        for action in &actions {
            let grants = |(allow, negated, patterns): &Statement| *allow && is_in(patterns, action) != *negated;
            let granted = statements.iter().any(grants);
            prop_assert!(!granted || is_in(&allowed, action), "{action} is not allowed by {allowed:?}: {text}");
            prop_assert!(!granted || !is_in(&denied, action), "{action} is denied by {denied:?}: {text}");
        }
        Ok(())
    };
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })
        .run(&cases, law)
        .unwrap();
    assert!(let_through.get() > CASES / 10, "{} documents were let through: too few to show much", let_through.get());
    assert!(negated.get() > CASES / 200, "{} with NotAction were let through", negated.get());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Failing closed is no excuse: what the class lists is let through.
    #[test]
    fn what_is_listed_is_let_through(listed in vec(in_document(), 1..4), other in in_class()) {
        let allowed: Vec<String> = listed.iter().cloned().chain([other]).collect();
        let text = document(&[(true, false, listed.clone()), (false, true, listed.clone())]);
        prop_assert_eq!(refusals(&allowed, &[], &text), Some(0), "{:?}: {}", allowed, text);
    }
}
