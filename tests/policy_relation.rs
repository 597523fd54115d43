//! What an update does, and the trust policy in between, checked against an evaluator that asks every request of a
//! small world.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use iamrole_operator::policy::{
    AccountRef, Bridge, Canonical, Document, Effect, Grammar, Pattern, PrincipalType, Principals, Relation, Statement,
    Tokens, bridge, relation,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

fn account() -> AccountRef {
    AccountRef { partition: "aws".to_owned(), id: "111122223333".to_owned() }
}

fn trust(statements: &Value) -> Document {
    let value = json!({"Version": "2012-10-17", "Statement": statements});
    Document::from_value(Grammar::Trust, "trust", &value, &Tokens::default()).unwrap()
}

fn canonical(document: &Document) -> Canonical {
    document.canonical(&account())
}

const WHO: [(PrincipalType, &str); 4] = [
    (PrincipalType::Aws, "111111111111"),
    (PrincipalType::Aws, "222222222222"),
    (PrincipalType::Aws, "arn:aws:iam::111122223333:role/r"),
    (PrincipalType::Service, "ec2.amazonaws.com"),
];
const ACTIONS: [&str; 3] = ["sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:TagSession"];
const VALUES: [&str; 3] = ["p", "q", "other"];

/// Somebody who wants to do something, with or without a value of the key `aws:x` and of `aws:y`.
struct Request {
    who: (PrincipalType, &'static str),
    action: &'static str,
    x: Option<&'static str>,
    y: Option<&'static str>,
}

fn world() -> Vec<Request> {
    let values = || std::iter::once(None).chain(VALUES.map(Some));
    let mut requests = Vec::new();
    for who in WHO {
        for action in ACTIONS {
            for x in values() {
                for y in values() {
                    requests.push(Request { who, action, x, y });
                }
            }
        }
    }
    requests
}

fn names(principals: &Principals, who: (PrincipalType, &str)) -> bool {
    let root = who.1.replace("111111111111", "arn:aws:iam::111111111111:root");
    let listed = principals.entries.iter().any(|(kind, values)| {
        let is_him = |value: &String| value == who.1 || *value == root || (value == "*" && *kind == PrincipalType::Aws);
        (*kind == who.0 || values.iter().any(|value| value == "*")) && values.iter().any(is_him)
    });
    listed != principals.negated
}

fn applies(statement: &Statement, request: &Request) -> bool {
    let action = &statement.action;
    let named = action.values.iter().any(|value| Pattern::new(value).matches_ignore_case(request.action));
    let conditions = statement.condition.iter().all(|condition| {
        let asked = if condition.key.eq_ignore_ascii_case("aws:x") { request.x } else { request.y };
        let any = |asked: &str| condition.values.iter().any(|value| value == asked);
        match (&*condition.operator, asked) {
            ("StringEquals", asked) => asked.is_some_and(any),
            ("StringEqualsIfExists", asked) => asked.is_none_or(any),
            ("StringNotEquals", asked) => !asked.is_some_and(any),
            ("Null", asked) => any(if asked.is_none() { "true" } else { "false" }),
            (other, _) => panic!("{other}"),
        }
    });
    let who = statement.principal.as_ref().unwrap();
    conditions && named != action.negated && names(who, request.who)
}

/// Whether a statement of this effect applies.
fn says(document: &Document, effect: Effect, request: &Request) -> bool {
    let mut statements = document.statements().iter();
    statements.any(|statement| statement.effect == effect && applies(statement, request))
}

fn allows(document: &Document, request: &Request) -> bool {
    says(document, Effect::Allow, request) && !says(document, Effect::Deny, request)
}

fn statement() -> impl Strategy<Value = Value> {
    let who = subsequence(WHO.to_vec(), 1..=3);
    let actions = subsequence(ACTIONS.to_vec(), 1..=3);
    let operators = vec!["StringEquals", "StringEqualsIfExists", "StringNotEquals", "Null"];
    let entry = (select(operators), select(vec!["aws:x", "AWS:y"]), subsequence(VALUES[..2].to_vec(), 1..=2));
    let conditions = proptest::collection::vec(entry, 0..3);
    (who, actions, conditions, 0..6_u8, any::<bool>()).prop_map(|(who, actions, conditions, kind, not_action)| {
        let mut principal = Map::new();
        for (kind, value) in who {
            let values = principal.entry(kind.as_str()).or_insert_with(|| json!([]));
            values.as_array_mut().unwrap().push(json!(value));
        }
        let mut condition = json!({});
        for (operator, key, values) in conditions {
            condition[operator][key] = if operator == "Null" { json!("true") } else { json!(values) };
        }
        let deny = kind == 0 || kind == 1;
        json!({
            "Effect": if deny { "Deny" } else { "Allow" },
            if kind == 1 { "NotPrincipal" } else { "Principal" }: principal,
            if not_action && kind > 3 { "NotAction" } else { "Action" }: actions,
            "Condition": condition,
        })
    })
}

fn statements() -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::vec(statement(), 1..4)
}

/// Two documents that are often alike: the second has some statements of the first, some changed, some new.
fn pair() -> impl Strategy<Value = (Document, Document)> {
    (statements(), statements(), any::<[u8; 4]>()).prop_map(|(old, fresh, how)| {
        let mut new = Vec::new();
        for (index, mut statement) in old.iter().cloned().enumerate() {
            match how[index % 4] % 6 {
                0 => continue,
                1 => statement["Condition"]["StringEquals"] = json!({"aws:x": "p"}),
                2 => statement["Condition"] = json!({}),
                3 => {
                    let other = fresh[index % fresh.len()].clone();
                    statement["Condition"] = other["Condition"].clone();
                    new.push(statement.clone());
                }
                4 => {
                    let list = if statement.get("Action").is_some() { "Action" } else { "NotAction" };
                    let actions = statement[list].as_array_mut().unwrap();
                    if actions.len() > 1 {
                        actions.pop();
                    }
                }
                _ => {}
            }
            new.push(statement);
        }
        if how[3] % 2 == 0 || new.is_empty() {
            new.extend(fresh);
        }
        (trust(&json!(old)), trust(&json!(new)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn relations_and_bridges_are_true((old, new) in pair()) {
        let (before, after) = (canonical(&old), canonical(&new));
        let found = relation(&before, &after);
        let Bridge { document: between, keeps_all } = bridge(&before, &new, &account(), 0);
        for request in world() {
            let (was, is) = (allows(&old, &request), allows(&new, &request));
            let held = match found {
                Relation::Same => was == is,
                Relation::Narrows => was || !is,
                Relation::Widens => is || !was,
                Relation::Alters => true,
            };
            prop_assert!(held, "{found:?}\n{}\n{}", old.to_json(), new.to_json());
            if allows(&between, &request) {
                prop_assert!(was && is, "{}\n{}\n{}", old.to_json(), new.to_json(), between.to_json());
            } else if keeps_all {
                prop_assert!(!was || !is, "{}\n{}\n{}", old.to_json(), new.to_json(), between.to_json());
            }
        }
        if !after.may_allow_more_than(&before) {
            for request in world() {
                let more = says(&new, Effect::Allow, &request) && !says(&old, Effect::Allow, &request);
                let less = says(&old, Effect::Deny, &request) && !says(&new, Effect::Deny, &request);
                prop_assert!(!more && !less, "{}\n{}", old.to_json(), new.to_json());
            }
        }
        let back = relation(&after, &before);
        prop_assert_eq!(found == Relation::Same, back == Relation::Same);
        prop_assert!((found == Relation::Alters) == (back == Relation::Alters));
        prop_assert!(matches!(relation(&before, &canonical(&between)), Relation::Same | Relation::Narrows));
        prop_assert!(between.size() <= old.size().max(new.size()).max(200));
        // It is a document like any other.
        let sent = Document::from_json(Grammar::Trust, "d", &between.to_json(), &Tokens::default()).unwrap();
        prop_assert!(canonical(&sent) == canonical(&between));
    }
}

#[test]
fn documents_beyond_any_quota_get_a_bridge_that_lets_nobody_in() {
    let account = account();
    let document = |count: usize, condition: &str| {
        let allow = |n: usize| {
            format!(
                r#"{{"Effect":"Allow","Principal":{{"AWS":"{n:012}"}},"Action":"sts:AssumeRole","Condition":{{"StringLike":{{"aws:x":"{condition}"}}}}}}"#
            )
        };
        let statements: Vec<String> = (0..count).map(allow).collect();
        let text = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
        Document::from_json(Grammar::Trust, "d", &text, &Tokens::default()).unwrap()
    };
    let (small, large) = (document(3, "a"), document(200, "b"));
    let lets_in = |old: &Document, new: &Document| {
        !bridge(&old.canonical(&account), new, &account, 0).document.trusted(&account).is_empty()
    };
    assert!(lets_in(&small, &small) && lets_in(&document(3, "a"), &document(4, "a")));
    for (old, new) in [(&small, &large), (&large, &small), (&large, &large)] {
        assert!(!lets_in(old, new));
    }
}

const ALL: &str = r#"{"Effect": "Allow", "Principal": {"AWS": ["111111111111", "222222222222"]}, "Action": ["sts:AssumeRole", "sts:TagSession"]}"#;

/// A statement with some members replaced.
fn changed(statement: &str, change: Value) -> Value {
    let mut statement: Value = serde_json::from_str(statement).unwrap();
    let Value::Object(change) = change else {
        panic!("no object");
    };
    statement.as_object_mut().unwrap().extend(change);
    statement
}

/// Statements by name, for the table below.
fn named(name: &str) -> Value {
    let of = |principals: Value| changed(ALL, json!({"Principal": {"AWS": principals}}));
    let asks = |operator: &str, values: Value| changed(ALL, json!({"Condition": {operator: {"aws:x": values}}}));
    match name {
        "all" => changed(ALL, json!({})),
        "one" => of(json!("111111111111")),
        "two" => of(json!("222222222222")),
        "third" => of(json!(["111111111111", "333333333333"])),
        "action" => changed(ALL, json!({"Action": "sts:assumerole"})),
        "sid" => changed(ALL, json!({"Sid": "A"})),
        "deny" => changed(ALL, json!({"Effect": "Deny", "Principal": {"AWS": "222222222222"}})),
        "p" | "q" | "${aws:username}" => asks("StringEquals", json!(name)),
        "p,q" => asks("StringEquals", json!(["p", "q"])),
        "!p" => asks("StringNotEquals", json!("p")),
        "!p,q" => asks("StringNotEquals", json!(["p", "q"])),
        other => panic!("{other}"),
    }
}

#[test]
fn typical_updates() {
    let table = "
        all => one => Narrows => Widens
        all => action => Narrows => Widens
        all => one two => Narrows => Narrows
        all => all one => Narrows => Narrows
        all => p => Narrows => Widens
        p,q => p => Narrows => Widens
        p,q => p q => Narrows => Widens
        !p => !p,q => Narrows => Widens
        all => all deny => Narrows => Widens
        all => deny => Narrows => Widens
        all => sid => Narrows => Narrows
        all => third => Alters => Alters
        one => two => Alters => Alters
        all => one third => Alters => Alters
        p => q => Alters => Alters
        all deny => one => Alters => Alters
        ${aws:username} => ${aws:username} => Same => Same
    ";
    let document = |names: &str| {
        let statements: Vec<Value> = names.split_whitespace().map(named).collect();
        canonical(&trust(&json!(statements)))
    };
    for row in table.lines().filter(|row| row.contains("=>")) {
        let [old, new, there, back] = row.split(" => ").collect::<Vec<_>>()[..] else {
            panic!("not a row: {row}");
        };
        let (old, new) = (document(old), document(new));
        assert_eq!(format!("{:?}", relation(&old, &new)), there, "{row}");
        assert_eq!(format!("{:?}", relation(&new, &old)), back, "{row}");
    }
}

#[test]
fn permissions_have_relations_too() {
    let permission = |resource: Value| {
        let statement = json!({"Effect": "Allow", "Action": ["s3:Get*", "s3:Put*"], "Resource": resource});
        let value = json!({"Version": "2012-10-17", "Statement": statement});
        let document = Document::from_value(Grammar::Permission, "d", &value, &Tokens::default());
        canonical(&document.unwrap())
    };
    let (all, one, two) = (json!("*"), json!("arn:aws:s3:::a"), json!(["arn:aws:s3:::a", "arn:aws:s3:::b"]));
    for (old, new, expected) in [
        (&all, &one, Relation::Narrows),
        (&two, &one, Relation::Narrows),
        (&one, &all, Relation::Widens),
        (&one, &two, Relation::Widens),
    ] {
        assert_eq!(relation(&permission(old.clone()), &permission(new.clone())), expected);
    }
}

#[test]
fn variables_mean_another_thing_in_another_version() {
    let read = |version: &str, value: &str| {
        let text = format!(
            r#"{{"Version":"{version}","Statement":{{"Effect":"Allow","Principal":{{"AWS":"111111111111"}},
            "Action":"sts:AssumeRole","Condition":{{"StringEquals":{{"aws:x":"{value}"}}}}}}}}"#
        );
        Canonical::read(Grammar::Trust, &text, &account())
    };
    let (old, new) = ("2008-10-17", "2012-10-17");
    assert_eq!(relation(&read(old, "${aws:y}"), &read(new, "${aws:y}")), Relation::Alters);
    assert_eq!(relation(&read(old, "p"), &read(new, "p")), Relation::Narrows);
    assert_eq!(relation(&read(new, "${aws:y}"), &read(new, "${aws:y}")), Relation::Same);
}

#[test]
fn what_is_not_understood_alters() {
    let read = |text: &str| Canonical::read(Grammar::Trust, text, &account());
    let plain = canonical(&trust(&serde_json::from_str(ALL).unwrap()));
    let extra = plain.to_json().replace(r#""Effect""#, r#""New":1,"Effect""#);
    for strange in ["no policy", "{}x", &extra, &plain.to_json().replace("{\"V", "{\"New\":1,\"V")] {
        assert_eq!(relation(&plain, &read(strange)), Relation::Alters);
        assert_eq!(relation(&read(strange), &plain), Relation::Alters);
        assert_eq!(relation(&read(strange), &read(strange)), Relation::Same);
    }
}

fn statements_of(document: &Document) -> Value {
    let value: Value = serde_json::from_str(&document.to_json()).unwrap();
    value["Statement"].clone()
}

fn nobody() -> Value {
    let actions = ["sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity"];
    json!([{"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": actions}])
}

#[test]
fn bridges_keep_what_is_common() {
    let old = trust(&serde_json::from_str(ALL).unwrap());
    let third = changed(
        ALL,
        json!({"Sid": "B", "Principal": {"Service": "ec2.amazonaws.com",
        "AWS": ["arn:aws:iam::111111111111:root", "333333333333"]}}),
    );
    let between = bridge(&canonical(&old), &trust(&json!([third])), &account(), 0).document;
    let expected = json!([{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
        "Action": ["sts:AssumeRole", "sts:TagSession"]}]);
    assert_eq!(statements_of(&between), expected);
}

#[test]
fn bridges_ask_for_both_conditions() {
    let with = |condition: Value| changed(ALL, json!({ "Condition": condition }));
    let bridged = |old: Value, new: Value| {
        let (old, new) = (trust(&json!([with(old)])), trust(&json!([with(new)])));
        statements_of(&bridge(&canonical(&old), &new, &account(), 0).document)
    };
    let old = json!({"StringEquals": {"aws:x": ["p", "q"]}, "StringNotEquals": {"aws:y": "p"}});
    let new = json!({"StringEquals": {"aws:X": ["q", "r"], "aws:z": "z"}, "StringNotEquals": {"aws:y": "q"}});
    let both = json!({"StringEquals": {"aws:x": "q", "aws:z": "z"}, "StringNotEquals": {"aws:y": ["p", "q"]}});
    assert_eq!(bridged(old.clone(), new), json!([with(both)]));
    assert_eq!(bridged(old, json!({"StringEquals": {"aws:x": "r"}})), nobody());
    let null = |flag: &str| json!({"Null": {"aws:x": flag}, "Bool": {format!("a:{flag}"): "true"}});
    assert_eq!(bridged(null("true"), null("false")), nobody());
}

#[test]
fn bridges_keep_every_denial() {
    let deny = |id: &str| json!({"Effect": "Deny", "Principal": {"AWS": id}, "Action": "sts:AssumeRole"});
    let allow: Value = serde_json::from_str(ALL).unwrap();
    let only_old = changed(ALL, json!({"Principal": {"AWS": "333333333333"}}));
    let old = trust(&json!([only_old, allow, deny("222222222222")]));
    let new = trust(&json!([allow, deny("111111111111")]));
    let between = bridge(&canonical(&old), &new, &account(), 0).document;
    assert_eq!(statements_of(&between), json!([allow, deny("111111111111"), deny("222222222222")]));
}

#[test]
fn bridges_leave_deleted_principals_out() {
    let deny = |ids: Value| json!({"Effect": "Deny", "Principal": {"AWS": ids}, "Action": "sts:AssumeRole"});
    let allow: Value = serde_json::from_str(ALL).unwrap();
    let only_old = changed(ALL, json!({"Principal": {"AWS": "333333333333"}}));
    let dead = "AROAEXAMPLEEXAMPLE123";
    // As AWS shows it: nobody can write it.
    let old = json!({"Version": "2012-10-17", "Statement": [only_old, allow, deny(json!([dead, "222222222222"])),
        deny(json!(dead)), {"Effect": "Deny", "NotPrincipal": {"AWS": [dead]}, "Action": "sts:TagSession"}]});
    let old = Canonical::read(Grammar::Trust, &old.to_string(), &account());
    let new = trust(&json!([allow, deny(json!("111111111111"))]));
    let between = statements_of(&bridge(&old, &new, &account(), 0).document);
    assert!(!between.to_string().contains(dead), "{between}");
    let everybody = json!({"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sts:tagsession"});
    assert!(between.as_array().unwrap().contains(&everybody), "{between}");
}

#[test]
fn without_anything_common_nobody_may_assume() {
    let trusts = |id: &str| trust(&json!([changed(ALL, json!({"Principal": {"AWS": id}}))]));
    let new = trusts("111111111111");
    for old in [
        canonical(&trusts("222222222222")),
        Canonical::read(Grammar::Trust, "no policy", &account()),
        Canonical::read(Grammar::Trust, &new.to_json().replace("Effect", "Other"), &account()),
    ] {
        let between = bridge(&old, &new, &account(), 0).document;
        assert_eq!(statements_of(&between), nobody());
        assert!(!world().iter().any(|request| allows(&between, request)));
    }
}

#[test]
fn a_bridge_is_never_larger_than_what_it_joins() {
    let deny =
        |id: usize| json!({"Effect": "Deny", "Principal": {"AWS": format!("{id:012}")}, "Action": "sts:AssumeRole"});
    let all: Value = serde_json::from_str(ALL).unwrap();
    let document = |ids: std::ops::Range<usize>| {
        trust(&json!(std::iter::once(all.clone()).chain(ids.map(deny)).collect::<Vec<_>>()))
    };
    let between = bridge(&canonical(&document(0..20)), &document(20..40), &account(), 0).document;
    assert_eq!(statements_of(&between), nobody());
}

#[test]
fn a_bridge_within_the_quota_keeps_all_or_says_that_it_may_not() {
    let allow = |who: Value, condition: Value| json!({"Effect": "Allow", "Principal": who, "Action": "sts:AssumeRole", "Condition": condition});
    let aws = |who: &str| json!({ "AWS": who });
    let (k, other) = (aws("arn:aws:iam::111111111111:role/k"), aws("arn:aws:iam::111111111111:role/other"));
    let id = |id: &str| json!({"StringEquals": {"sts:ExternalId": id}});
    let org = json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}});
    let from = |ranges: [&str; 2]| {
        let condition = json!({"NotIpAddress": {"aws:SourceIp": ranges}});
        json!({"Effect": "Deny", "Principal": aws("*"), "Action": "sts:AssumeRole", "Condition": condition})
    };
    let subjects = |names: [&str; 2]| json!({"StringLike": {"oidc:sub": names}});
    let team = |team: &str| json!({"StringEquals": {"aws:RequestTag/team": team}});
    let service = |name: &str| json!({ "Service": format!("{name}.amazonaws.com") });
    let only = |statement: Value| json!([statement]);
    let none = || json!({});
    // The old and the new one, whether somebody is in both, whether the bridge keeps all that are.
    let cases = [
        (only(allow(k.clone(), none())), only(allow(other, none())), false, true),
        (only(allow(k.clone(), id("a"))), only(allow(k.clone(), id("b"))), false, true),
        (only(allow(k.clone(), org)), only(allow(k.clone(), id("b"))), true, true),
        (
            json!([allow(k.clone(), none()), from(["192.0.2.0/24", "198.51.100.0/24"])]),
            json!([allow(k.clone(), none()), from(["192.0.2.0/24", "203.0.113.0/24"])]),
            true,
            true,
        ),
        (
            only(allow(k.clone(), subjects(["a:*", "b:x"]))),
            only(allow(k.clone(), subjects(["a:y", "b:x"]))),
            true,
            false,
        ),
        (only(allow(k.clone(), none())), only(allow(aws("111111111111"), id("a"))), false, false),
        (
            only(allow(service("codedeploy.us-east-1"), none())),
            only(allow(service("codedeploy"), none())),
            false,
            false,
        ),
        (only(allow(service("ecs"), none())), only(allow(service("ec2"), none())), false, true),
        (only(allow(k.clone(), team("${aws:PrincipalTag/team}"))), only(allow(k, team("blue"))), false, false),
    ];
    for (old, new, lets_in, keeps_all) in cases {
        let bridge = bridge(&canonical(&trust(&old)), &trust(&new), &account(), 2048);
        let found = (!bridge.document.trusted(&account()).is_empty(), bridge.keeps_all);
        assert_eq!(found, (lets_in, keeps_all), "{old} {new} {}", bridge.document.to_json());
    }
}
