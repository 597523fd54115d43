//! All AWS-managed policies, as moto ships them: read from the installed package, not copied into the repository.
//!
//! The environment variable `RIG_MOTO_POLICIES` names moto's `aws_managed_policies.py`; without it the file is looked
//! for in the rig's virtual environment, `target/rig/moto`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Runs `check` for every policy on two threads and adds up what it counts.
fn on_two_threads(check: impl Fn(&str, &Value) -> usize + Sync) -> usize {
    let policies = policies();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut count = 0;
        while let Some((name, value)) = policies.get(next.fetch_add(1, Ordering::Relaxed)) {
            count += check(name, value);
        }
        count
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work() + other.join().unwrap()
    })
}

/// Some elements of each policy, in the whole document.
#[test]
fn different_after_a_change_of_one_element_of_the_whole() {
    let changes = on_two_threads(|name, value| {
        let meant = canonical(value);
        let mut all = Vec::new();
        places(value, String::new(), &mut all);
        let mut changes = 0;
        for place in all.iter().step_by(all.len().div_ceil(8)) {
            let mut mutant = value.clone();
            if change(mutant.pointer_mut(place).unwrap()) {
                assert_ne!(canonical(&mutant), meant, "{name} {place}");
                changes += 1;
            }
        }
        changes
    });
    assert!(changes > 8_000, "only {changes} changes");
}

/// One step down into a value.
#[derive(Clone, Copy)]
enum Step<'v> {
    Key(&'v str),
    Index(usize),
}

/// One change of what is at a place.
#[derive(Clone, Copy, Debug)]
enum Edit<'v> {
    Leaf,
    RemoveItem(usize),
    RemoveKey(&'v str),
    RenameKey(&'v str),
    AddKey,
}

/// The value with only what is needed to see a change at `path`: of lists the item on the path (or the one that is
/// removed) and one of its neighbours, of other lists the first item. Without this the test would read gigabytes.
fn cut(value: &Value, path: &[Step<'_>], at: Option<usize>) -> Value {
    match value {
        Value::Object(members) => {
            let below = |key: &str| match path {
                [Step::Key(step), rest @ ..] if *step == key => (rest, at),
                _ => (&[][..], None),
            };
            let member = |(key, value): (&String, &Value)| {
                let (path, at) = below(key);
                (key.clone(), cut(value, path, at))
            };
            Value::Object(members.iter().map(member).collect())
        }
        Value::Array(items) => {
            let (index, below, removes) = match path {
                [Step::Index(index), rest @ ..] => (*index, rest, false),
                _ => (at.unwrap_or(0), path, at.is_some()),
            };
            let at = at.filter(|_| !removes);
            let mut kept: Vec<Value> = items.get(index).map(|item| cut(item, below, at)).into_iter().collect();
            let neighbour = if index == 0 { items.get(1) } else { items.get(index - 1) };
            let neighbour = neighbour.filter(|item| removes || (!path.is_empty() && item.is_string()));
            kept.extend(neighbour.map(|item| cut(item, &[], None)));
            Value::Array(kept)
        }
        leaf => leaf.clone(),
    }
}

/// The place in a value that was cut.
fn find<'v>(value: &'v mut Value, path: &[Step<'_>]) -> &'v mut Value {
    path.iter().fold(value, |value, step| match step {
        Step::Key(key) => &mut value[*key],
        Step::Index(_) => &mut value[0],
    })
}

fn edit(value: &mut Value, edit: Edit<'_>) {
    match (value, edit) {
        (Value::String(text), Edit::Leaf) => text.push('\u{fe}'),
        (Value::Bool(flag), Edit::Leaf) => *flag = !*flag,
        (Value::Array(items), Edit::RemoveItem(_)) => drop(items.remove(0)),
        (Value::Object(members), Edit::RemoveKey(key)) => drop(members.remove(key).unwrap()),
        (Value::Object(members), Edit::RenameKey(key)) => {
            let member = members.remove(key).unwrap();
            members.insert(format!("{key}\u{fe}"), member);
        }
        (Value::Object(members), Edit::AddKey) => {
            members.insert("New".to_owned(), json!({"aws:new": "new"}));
        }
        (value, edit) => panic!("{edit:?} of {value}"),
    }
}

/// Every change of what is at a place and that says something else.
fn edits(value: &Value) -> Vec<Edit<'_>> {
    match value {
        Value::String(_) | Value::Bool(_) => vec![Edit::Leaf],
        Value::Array(items) => {
            // Some of AWS's lists name an action twice, in another case too.
            let same = |a: &Value, b: &Value| match (a.as_str(), b.as_str()) {
                (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
                _ => a == b,
            };
            let single = |item: &Value| items.iter().filter(|other| same(item, other)).count() == 1;
            let indices = (0..items.len()).filter(|index| single(&items[*index]));
            indices.map(Edit::RemoveItem).collect()
        }
        Value::Object(members) => {
            // An empty name or condition says nothing, nor does its absence.
            let says = |value: &Value| value.as_str() != Some("") && value.as_object().is_none_or(|o| !o.is_empty());
            let says = members.iter().filter(|(_, value)| says(value));
            let keys = says.flat_map(|(key, _)| [Edit::RemoveKey(key), Edit::RenameKey(key)]);
            keys.chain([Edit::AddKey]).collect()
        }
        Value::Number(_) | Value::Null => panic!("AWS has none"),
    }
}

/// Tries every change at and below a place. A text in a list is tried where its removal is, in the same excerpt.
fn try_all<'v>(name: &str, whole: &Value, value: &'v Value, path: &mut Vec<Step<'v>>) -> usize {
    let mut changes = 0;
    let mut before = None;
    let texts = value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
    for what in edits(value) {
        let at = match what {
            Edit::RemoveItem(index) => Some(index),
            _ => None,
        };
        if at.is_some() || before.is_none() {
            let small = cut(whole, path, at);
            before = Some((canonical(&small), small));
        }
        let (meant, small) = before.as_ref().unwrap();
        let mut differs = |what, item: Option<Step<'_>>| {
            let mut mutant = small.clone();
            let place: Vec<Step<'_>> = path.iter().copied().chain(item).collect();
            edit(find(&mut mutant, &place), what);
            assert!(canonical(&mutant) != *meant, "{name}: {what:?} in {mutant}");
            changes += 1;
        };
        differs(what, None);
        if texts && let Some(index) = at {
            differs(Edit::Leaf, Some(Step::Index(index)));
        }
    }
    let mut below = |step, value| {
        path.push(step);
        changes += try_all(name, whole, value, path);
        path.pop();
    };
    match value {
        Value::Array(items) if !texts => {
            items.iter().enumerate().for_each(|(index, item)| below(Step::Index(index), item));
        }
        Value::Object(members) => members.iter().for_each(|(key, item)| below(Step::Key(key), item)),
        _ => {}
    }
    changes
}

/// Every leaf changed, every item of a list removed, every key removed, renamed and joined by another: each place of all
/// policies, in an excerpt of the document.
#[test]
fn different_after_any_change_of_one_element() {
    let changes = on_two_threads(|name, value| try_all(name, value, value, &mut Vec::new()));
    assert!(changes > 250_000, "only {changes} changes");
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
