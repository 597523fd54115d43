//! Properties of canonical forms over generated documents: they survive every rewriting that keeps the meaning, and
//! notice every change of one element.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use iamrole_operator::policy::{AccountRef, Canonical, Document, Grammar, Relation, Tokens, relation};
use proptest::collection::btree_set;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

fn account() -> AccountRef {
    AccountRef { partition: "aws".to_owned(), id: "111122223333".to_owned() }
}

fn read(value: &Value) -> Canonical {
    let text = value.to_string();
    let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
    let grammar = if text.contains("Resource") { Grammar::Permission } else { Grammar::Trust };
    Canonical::read(grammar, &encoded.to_string(), &account())
}

/// Different texts from a pool, as a list or, one alone, as it is.
fn some_of(pool: &'static [&'static str]) -> impl Strategy<Value = Value> {
    (btree_set(select(pool), 1..=pool.len().min(4)), any::<bool>()).prop_map(|(values, listed)| {
        let values: Vec<&str> = values.into_iter().collect();
        if values.len() == 1 && !listed { json!(values[0]) } else { json!(values) }
    })
}

fn condition() -> impl Strategy<Value = Value> {
    let texts = || some_of(&["a", "B", "${aws:username}", "é +%20", ""]);
    let operators = vec![
        ("StringEquals", texts().boxed()),
        ("ForAnyValue:StringNotLikeIfExists", texts().boxed()),
        ("ArnLike", some_of(&["arn:aws:iam::123456789012:role/*"]).boxed()),
        ("Bool", prop_oneof![Just(json!(true)), Just(json!("False"))].boxed()),
        ("NumericLessThan", prop_oneof![Just(json!(10)), Just(json!(["1.50", 2]))].boxed()),
        ("Null", Just(json!("true")).boxed()),
    ];
    let entry = select(operators).prop_flat_map(|(operator, values)| {
        let key = select(vec!["aws:SourceArn", "aws:PrincipalTag/Team", "oidc.example.com/x:sub"]);
        (Just(operator), key, values)
    });
    proptest::collection::vec(entry, 0..4).prop_map(|entries| {
        let mut condition = Map::new();
        for (operator, key, values) in entries {
            let keys = condition.entry(operator).or_insert_with(|| json!({}));
            keys[key] = values;
        }
        Value::Object(condition)
    })
}

fn principal() -> impl Strategy<Value = Value> {
    let aws = some_of(&[
        "123456789012",
        "arn:aws:iam::210987654321:root",
        "arn:aws-cn:iam::210987654321:root",
        "arn:aws:iam::123456789012:role/web",
        "arn:aws:iam::123456789012:user/bob",
    ]);
    let service = some_of(&["ec2.amazonaws.com", "lambda.amazonaws.com"]);
    let federated = some_of(&["accounts.google.com", "arn:aws:iam::123456789012:saml-provider/x"]);
    prop_oneof![
        1 => Just(json!("*")),
        4 => (aws, service, federated, 1..8_u8).prop_map(|(aws, service, federated, which)| {
            let all = [("AWS", aws), ("Service", service), ("Federated", federated)];
            let picked = all.into_iter().zip(0..).filter(|(_, bit)| which >> bit & 1 == 1);
            Value::Object(picked.map(|((kind, values), _)| (kind.to_owned(), values)).collect())
        }),
    ]
}

fn statement(grammar: Grammar) -> impl Strategy<Value = Value> {
    let trust = grammar == Grammar::Trust;
    let actions: &[&str] = if trust {
        &["sts:AssumeRole", "sts:TagSession", "sts:Set*"]
    } else {
        &["s3:GetObject", "s3:Put*", "ec2:Describe?", "iam:PassRole"]
    };
    let resources = some_of(&["*", "arn:aws:s3:::b/${aws:username}", "arn:aws:s3:::B/*"]);
    (some_of(actions), principal(), resources, condition(), any::<[bool; 4]>()).prop_map(
        move |(action, principal, resource, condition, [deny, not_action, not_resource, conditional])| {
            let mut statement = Map::new();
            let mut add = |key: &str, value| statement.insert(key.to_owned(), value);
            add("Effect", json!(if deny { "Deny" } else { "Allow" }));
            add(if not_action { "NotAction" } else { "Action" }, action);
            if trust {
                add(if deny && not_resource { "NotPrincipal" } else { "Principal" }, principal);
            } else {
                add(if not_resource { "NotResource" } else { "Resource" }, resource);
            }
            if conditional {
                add("Condition", condition);
            }
            Value::Object(statement)
        },
    )
}

/// A document whose statements all differ by their Sids.
fn document() -> impl Strategy<Value = (Grammar, Value)> {
    select(vec![Grammar::Trust, Grammar::Permission]).prop_flat_map(|grammar| {
        let statements = proptest::collection::vec(statement(grammar), 1..4);
        (Just(grammar), statements, any::<bool>()).prop_map(|(grammar, mut statements, old)| {
            for (index, statement) in statements.iter_mut().enumerate().skip(1) {
                statement["Sid"] = json!(format!("S{index}"));
            }
            let version = if old { "2008-10-17" } else { "2012-10-17" };
            (grammar, json!({"Version": version, "Statement": statements}))
        })
    })
}

/// Numbers that decide how to rewrite.
#[derive(Debug)]
struct Dice {
    rolls: Vec<Index>,
    next: usize,
}

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.next += 1;
        self.rolls[self.next % self.rolls.len()].index(limit)
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

fn dice() -> impl Strategy<Value = Dice> {
    proptest::collection::vec(any::<Index>(), 97).prop_map(|rolls| Dice { rolls, next: 0 })
}

/// The same list in another order, with repetitions, wrapped or not.
fn relist(value: &mut Value, dice: &mut Dice, each: impl Fn(&mut Value, &mut Dice)) {
    let mut items = match value.take() {
        Value::Array(items) => items,
        one => vec![one],
    };
    if dice.flip() {
        items.push(items[dice.below(items.len())].clone());
    }
    dice.shuffle(&mut items);
    for item in &mut items {
        each(item, dice);
    }
    *value = if items.len() == 1 && dice.flip() { items.remove(0) } else { Value::Array(items) };
}

fn recase(text: &str, dice: &mut Dice) -> String {
    let flip = |c: char| {
        if c.is_ascii_uppercase() { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() }
    };
    text.chars().map(|c| if dice.flip() { flip(c) } else { c }).collect()
}

/// The same principal in its other form.
fn respell_principal(value: &mut Value, _: &mut Dice) {
    let text = value.as_str().unwrap();
    let root = text.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_suffix(":root"));
    let other = match root {
        Some(id) => id.to_owned(),
        None if text.len() == 12 => format!("arn:aws:iam::{text}:root"),
        None => return,
    };
    *value = json!(other);
}

/// Numbers and booleans as text and back.
fn respell_value(value: &mut Value, _: &mut Dice) {
    *value = match value {
        Value::String(text) => match text.as_str() {
            "true" | "False" => json!(text.eq_ignore_ascii_case("true")),
            "1.50" => json!(1.5),
            _ => return,
        },
        ref other => json!(other.to_string()),
    };
}

fn rewrite_statement(statement: &mut Value, dice: &mut Dice) {
    for (key, value) in statement.as_object_mut().unwrap() {
        match key.trim_start_matches("Not") {
            "Action" => relist(value, dice, |action, dice| {
                *action = json!(recase(action.as_str().unwrap(), dice));
            }),
            "Resource" => relist(value, dice, |_, _| ()),
            "Principal" if value == "*" => *value = json!({"AWS": "*"}),
            "Principal" => {
                for (kind, value) in value.as_object_mut().unwrap() {
                    let respell = kind == "AWS";
                    relist(value, dice, |item, dice| {
                        if respell && dice.flip() {
                            respell_principal(item, dice);
                        }
                    });
                }
            }
            "Condition" => {
                for (operator, keys) in value.as_object_mut().unwrap() {
                    let typed = ["Bool", "NumericLessThan"].contains(&operator.as_str());
                    let old = std::mem::take(keys.as_object_mut().unwrap());
                    for (key, mut values) in old {
                        relist(&mut values, dice, |item, dice| {
                            if typed && dice.flip() {
                                respell_value(item, dice);
                            }
                        });
                        keys[recase(&key, dice)] = values;
                    }
                }
                value["StringLike"] = json!({});
            }
            _ => {}
        }
    }
    if dice.flip() && statement.get("Sid").is_none() {
        statement["Sid"] = json!("");
    }
}

/// Another document of the same meaning.
fn rewrite(document: &Value, dice: &mut Dice) -> Value {
    let mut document = document.clone();
    if document["Version"] == "2008-10-17" && dice.flip() {
        document.as_object_mut().unwrap().remove("Version");
    }
    relist(&mut document["Statement"], dice, rewrite_statement);
    document
}

/// All documents that differ from this one in one element.
fn mutants(document: &Value) -> Vec<(String, Value)> {
    let mut mutants = Vec::new();
    let mut change = |place: &str, edit: &dyn Fn(&mut Value)| {
        let mut mutant = document.clone();
        edit(mutant.pointer_mut(place).unwrap());
        mutants.push((place.to_owned(), mutant));
    };
    let mut places = Vec::new();
    collect_places(document, String::new(), &mut places);
    for place in &places {
        let value = document.pointer(place).unwrap();
        match value {
            Value::String(text) => {
                // What isn't there yet, and differs in more than case.
                change(place, &|value| *value = json!(format!("{text}x")));
                change(place, &|value| *value = json!({"x": text}));
            }
            Value::Number(number) => change(place, &|value| *value = json!(format!("{number}1"))),
            Value::Bool(flag) => change(place, &|value| *value = json!(!flag)),
            Value::Array(items) => {
                change(place, &|value| {
                    value.as_array_mut().unwrap().push(json!("new"));
                });
                for index in 0..items.len() {
                    change(place, &|value| {
                        drop(value.as_array_mut().unwrap().remove(index));
                    });
                }
            }
            Value::Object(members) => {
                change(place, &|value| value["New"] = json!({"aws:new": "new"}));
                for key in members.keys().filter(|key| matters(document, place, key)) {
                    change(place, &|value| {
                        drop(value.as_object_mut().unwrap().remove(key));
                    });
                    change(place, &|value| {
                        let members = value.as_object_mut().unwrap();
                        let moved = members.remove(key).unwrap();
                        let renamed = key.strip_prefix("Not").map_or(format!("Not{key}"), str::to_owned);
                        members.insert(renamed, moved);
                    });
                }
            }
            Value::Null => {}
        }
    }
    mutants
}

/// Whether a member says anything; an absent version is the old one.
fn matters(document: &Value, place: &str, key: &str) -> bool {
    let value = &document.pointer(place).unwrap()[key];
    *value != json!({}) && *value != "2008-10-17"
}

fn collect_places(value: &Value, place: String, places: &mut Vec<String>) {
    let mut below = |key: &str, value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        collect_places(value, format!("{place}/{key}"), places);
    };
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| below(&index.to_string(), item)),
        Value::Object(members) => members.iter().for_each(|(key, item)| below(key, item)),
        _ => {}
    }
    places.push(place);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printing_and_parsing_keep_the_meaning((grammar, value) in document()) {
        let parse = |text: &str| Document::from_json(grammar, "d", text, &Tokens::default()).unwrap();
        let document = Document::from_value(grammar, "d", &value, &Tokens::default()).unwrap();
        let canonical = document.canonical(&account());
        let sent = document.to_json();
        prop_assert_eq!(sent.find("Version"), Some(2));
        let bare = sent.contains(r#"rincipal":"*""#);
        prop_assert!(!bare, "a bare star is sent");
        let again = parse(&sent);
        prop_assert_eq!(again.to_json(), sent.clone());
        prop_assert_eq!(again.size(), document.size());
        prop_assert!(again.canonical(&account()) == canonical);
        prop_assert!(read(&serde_json::from_str(&sent).unwrap()) == canonical);
        // The text of the source keeps its numbers; that of a value is what the JSON library made of them.
        prop_assert!(parse(&value.to_string()).canonical(&account()) == canonical);
        prop_assert!(read(&value) == canonical);
    }

    #[test]
    fn the_canonical_form_is_its_own((grammar, value) in document()) {
        let canonical = read(&value);
        let text = canonical.to_json();
        prop_assert!(Canonical::read(grammar, &text, &account()) == canonical);
        prop_assert_eq!(Canonical::read(grammar, &text, &account()).to_json(), text.clone());
        // It is a document that can be sent, too.
        let document = Document::from_json(grammar, "d", &text, &Tokens::default()).unwrap();
        prop_assert!(document.canonical(&account()) == canonical);
    }

    #[test]
    fn rewriting_keeps_documents_equal((_, value) in document(), mut one in dice(), mut two in dice()) {
        let (first, second) = (rewrite(&value, &mut one), rewrite(&value, &mut two));
        let canonical = read(&value);
        prop_assert!(canonical == read(&first), "{value}\n{first}");
        prop_assert!(read(&first) == read(&second), "{first}\n{second}");
        prop_assert_eq!(relation(&canonical, &read(&first)), Relation::Same);
        prop_assert_eq!(canonical.to_json(), read(&second).to_json());
    }

    #[test]
    fn every_change_is_noticed((_, value) in document(), mut dice in dice()) {
        let canonical = read(&value);
        for (place, mutant) in mutants(&value) {
            let rewritten = rewrite_known(&mutant, &mut dice);
            prop_assert!(read(&mutant) != canonical, "{place}\n{value}\n{mutant}");
            prop_assert!(read(&rewritten) != canonical, "{place}\n{value}\n{rewritten}");
            prop_assert_ne!(relation(&canonical, &read(&mutant)), Relation::Same);
        }
    }
}

/// Shuffles the statements; a mutant need not be a valid document.
fn rewrite_known(document: &Value, dice: &mut Dice) -> Value {
    let mut document = document.clone();
    if let Some(Value::Array(statements)) = document.get_mut("Statement") {
        dice.shuffle(statements);
    }
    document
}
