//! All AWS-managed policies, as moto ships them: read from the installed package, not copied into the repository.
//!
//! The environment variable `RIG_MOTO_POLICIES` names moto's `aws_managed_policies.py`; without it the file is looked
//! for in the rig's virtual environment, `target/rig/moto`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use iamrole_operator::policy::{AccountRef, Canonical, Document, Grammar, Relation, Tokens, relation};
use serde_json::{Value, json};

const FILE: &str = "site-packages/moto/iam/aws_managed_policies.py";

fn account() -> AccountRef {
    AccountRef { partition: "aws".to_owned(), id: "111122223333".to_owned() }
}

/// Where the policies are.
fn file() -> PathBuf {
    if let Some(path) = std::env::var_os("RIG_MOTO_POLICIES") {
        return path.into();
    }
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rig/moto/lib");
    let pythons = fs::read_dir(&lib).into_iter().flatten().flatten();
    let found = pythons.map(|python| python.path().join(FILE)).find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!("no moto in {}; start the rig once, or set RIG_MOTO_POLICIES", lib.display());
    })
}

/// The policies by name. The file is Python: one JSON text in triple quotes.
fn policies() -> Vec<(String, Value)> {
    let path = file();
    let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = source.split("\"\"\"").nth(1).unwrap();
    assert!(!text.contains('\\'), "Python escapes, which this test doesn't read");
    let Value::Object(policies) = serde_json::from_str(text).unwrap() else {
        panic!("no object in {}", path.display());
    };
    let document = |(name, policy): (String, Value)| (name, policy["Document"].clone());
    policies.into_iter().map(document).collect()
}

fn parse(name: &str, value: &Value) -> Document {
    let document = Document::from_value(Grammar::Permission, name, value, &Tokens::default());
    document.unwrap_or_else(|findings| panic!("{findings:#?}"))
}

fn canonical(value: &Value) -> Canonical {
    Canonical::read(Grammar::Permission, &value.to_string(), &account())
}

/// Every list in reverse order, every single value of a statement in a list or out of it.
fn rewrap(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.reverse();
            for item in items.iter_mut() {
                rewrap(item);
            }
            if items.len() == 1 {
                *value = items.remove(0);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let single = member.is_string() || member.is_boolean();
                if single && !["Version", "Sid", "Effect"].contains(&key.as_str()) {
                    *member = json!([member]);
                } else {
                    rewrap(member);
                }
            }
        }
        _ => {}
    }
}

/// The places of all values.
fn places(value: &Value, place: String, all: &mut Vec<String>) {
    let mut below = |key: &str, value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        places(value, format!("{place}/{key}"), all);
    };
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| below(&index.to_string(), item)),
        Value::Object(members) => members.iter().for_each(|(key, item)| below(key, item)),
        _ => {}
    }
    all.push(place);
}

/// Changes one element and tells whether that says something else.
fn change(value: &mut Value) -> bool {
    match value {
        Value::String(text) => text.push('x'),
        Value::Bool(flag) => *flag = !*flag,
        Value::Array(items) => {
            let last = items.pop();
            // Some of AWS's lists name an action twice, in another case too.
            let same = |item: &Value, last: &str| item.as_str().is_some_and(|item| item.eq_ignore_ascii_case(last));
            return match &last {
                Some(Value::String(last)) => !items.iter().any(|item| same(item, last)),
                Some(last) => !items.contains(last),
                None => false,
            };
        }
        Value::Object(members) => {
            members.insert("New".to_owned(), json!({"aws:new": "new"}));
        }
        Value::Number(_) | Value::Null => return false,
    }
    true
}

#[test]
fn parse_print_and_parse_again() {
    let policies = policies();
    assert!(policies.len() > 1500, "only {} policies", policies.len());
    for (name, value) in &policies {
        let document = parse(name, value);
        let meant = document.canonical(&account());
        assert_eq!(canonical(value), meant, "{name}");
        let sent = document.to_json();
        assert!(sent.starts_with(r#"{"Version":"#), "{name}");
        assert_eq!(parse(name, &serde_json::from_str(&sent).unwrap()).canonical(&account()), meant, "{name}");
        let encoded = percent_encoding::utf8_percent_encode(&sent, percent_encoding::NON_ALPHANUMERIC);
        let returned = Canonical::read(Grammar::Permission, &encoded.to_string(), &account());
        assert_eq!(returned, meant, "{name}");
        let own = Canonical::read(Grammar::Permission, &meant.to_json(), &account());
        assert_eq!(own, meant, "{name}");
    }
}

#[test]
fn equal_when_shuffled_and_wrapped() {
    for (name, value) in policies() {
        let mut other = value.clone();
        rewrap(&mut other);
        assert_ne!(other, value, "{name}");
        assert_eq!(canonical(&other), canonical(&value), "{name}");
        assert_eq!(parse(&name, &other).canonical(&account()), canonical(&value), "{name}");
        assert_eq!(relation(&canonical(&value), &canonical(&other)), Relation::Same);
    }
}

/// Every element of the smaller policies, and some of the large ones.
#[test]
fn different_after_any_change_of_one_element() {
    let mut changes = 0;
    for (name, value) in policies() {
        let meant = canonical(&value);
        let mut all = Vec::new();
        places(&value, String::new(), &mut all);
        let step = all.len().div_ceil(30);
        for place in all.iter().step_by(step) {
            let mut mutant = value.clone();
            if change(mutant.pointer_mut(place).unwrap()) {
                assert_ne!(canonical(&mutant), meant, "{name} {place}");
                changes += 1;
            }
        }
    }
    assert!(changes > 20_000, "only {changes} changes");
}

/// Printed are the largest policy's times, which a release build does in some milliseconds.
#[test]
fn all_of_them_are_quick() {
    let mut texts: Vec<String> = policies().into_iter().map(|(_, value)| value.to_string()).collect();
    texts.sort_by_key(String::len);
    let start = Instant::now();
    for text in &texts {
        let begin = Instant::now();
        let document = Document::from_json(Grammar::Permission, "d", text, &Tokens::default()).unwrap();
        let parsed = begin.elapsed();
        let wanted = document.canonical(&account());
        let returned = Canonical::read(Grammar::Permission, text, &account());
        assert_eq!(wanted, returned);
        if text.len() > 80_000 {
            let all = begin.elapsed();
            println!("{} bytes: parsed in {parsed:?}, read and compared after {all:?}", text.len());
        }
    }
    // Some 3 MB: in a debug build a second or two, also on a busy machine far from a minute.
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
}
