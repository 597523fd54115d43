//! Patterns against the texts of small alphabets, and what documents may allow by them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use iamrole_operator::policy::{AccountRef, Document, Grammar, Grant, Pattern, Tokens};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;

/// All texts over an alphabet up to a length.
fn texts(alphabet: &[char], length: usize) -> Vec<String> {
    let mut texts = vec![String::new()];
    let mut from = 0;
    for _ in 0..length {
        let last = texts.len();
        for index in from..last {
            for c in alphabet {
                texts.push(format!("{}{c}", texts[index]));
            }
        }
        from = last;
    }
    texts
}

/// The definition: what a pattern matches.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some('*'), _) => matches(&pattern[1..], text) || (!text.is_empty() && matches(pattern, &text[1..])),
        (Some('?'), Some(_)) => matches(&pattern[1..], &text[1..]),
        (Some(p), Some(t)) => p == t && matches(&pattern[1..], &text[1..]),
        _ => false,
    }
}

fn matched(pattern: &str, texts: &[String]) -> Vec<bool> {
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    let pattern = chars(pattern);
    texts.iter().map(|text| matches(&pattern, &chars(text))).collect()
}

/// What is left of a pattern, in each way of matching it, once a text that begins with `c` is read.
fn rest(ways: &BTreeSet<String>, c: char) -> BTreeSet<String> {
    let mut rests = BTreeSet::new();
    for way in ways {
        for (at, p) in way.char_indices() {
            match p {
                '*' => {
                    rests.insert(way[at..].to_owned());
                }
                p => {
                    if p == c || p == '?' {
                        rests.insert(way[at + 1..].to_owned());
                    }
                    break;
                }
            }
        }
    }
    rests
}

/// Whether one pattern and whether another matches, for the texts of whatever length: a text that two patterns have in
/// common may be as long as both together, which is too long to count all texts.
fn sides(a: &str, b: &str) -> BTreeSet<(bool, bool)> {
    let matches = |ways: &BTreeSet<String>| ways.iter().any(|way| way.chars().all(|c| c == '*'));
    let mut seen = BTreeSet::new();
    let mut open = vec![[a, b].map(|pattern| BTreeSet::from([pattern.to_owned()]))];
    while let Some(ways) = open.pop() {
        if seen.insert(ways.clone()) {
            open.extend(['a', 'b', 'z'].map(|c| ways.clone().map(|ways| rest(&ways, c))));
        }
    }
    seen.iter().map(|[a, b]| (matches(a), matches(b))).collect()
}

fn check(a: &str, b: &str, of_a: &[bool], of_b: &[bool]) {
    let (one, other) = (Pattern::new(a), Pattern::new(b));
    let covers = of_b.iter().zip(of_a).all(|(b, a)| *a || !b);
    assert_eq!(one.covers(&other), covers, "does {a} cover {b}");
    let overlaps = of_b.iter().zip(of_a).any(|(b, a)| *a && *b);
    assert_eq!(one.overlaps(&other), overlaps, "does {a} overlap {b}");
}

/// `z` is in no pattern: it stands for all the characters that the patterns don't name.
#[test]
fn all_short_patterns() {
    let texts = texts(&['a', 'b', 'z'], 6);
    let patterns = self::texts(&['a', 'b', '*', '?'], 3);
    let matched: Vec<Vec<bool>> = patterns.iter().map(|pattern| matched(pattern, &texts)).collect();
    for (a, of_a) in patterns.iter().zip(&matched) {
        let pattern = Pattern::new(a);
        for (text, expected) in texts.iter().zip(of_a) {
            assert_eq!(pattern.matches(text), *expected, "{a} {text}");
        }
        for (b, of_b) in patterns.iter().zip(&matched) {
            check(a, b, of_a, of_b);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn longer_patterns(a in "[ab*?]{4,8}", b in "[ab*?]{4,8}") {
        let sides = sides(&a, &b);
        let (one, other) = (Pattern::new(&a), Pattern::new(&b));
        prop_assert_eq!(one.covers(&other), sides.iter().all(|(a, b)| *a || !b), "does {} cover {}", a, b);
        prop_assert_eq!(one.overlaps(&other), sides.iter().any(|(a, b)| *a && *b), "does {} overlap {}", a, b);
    }

    #[test]
    fn pieces_of_a_pattern_are_covered(text in "[ab?]{0,12}", cuts in proptest::collection::vec(0..12_usize, 0..4)) {
        // Whatever stands in a pattern for a part of a text, the pattern covers the text.
        let mut wide: Vec<char> = text.chars().collect();
        for cut in cuts {
            let cut = cut.min(wide.len());
            let end = (cut + 2).min(wide.len());
            wide.splice(cut..end, ['*']);
        }
        let wide: String = wide.into_iter().collect();
        prop_assert!(Pattern::new(&wide).covers(&Pattern::new(&text)), "{wide} {text}");
        prop_assert!(Pattern::new(&wide).overlaps(&Pattern::new(&text)));
    }
}

#[test]
fn what_guard_rails_ask() {
    let pattern = Pattern::new;
    for (wide, narrow) in [
        ("s3:*", "s3:Get*"),
        ("*", "?*"),
        ("*", ""),
        ("?*", "*?"),
        ("*??*", "a*b"),
        ("s3:*Object*", "s3:GetObject?*"),
        ("arn:aws:iam::*:policy/*", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
    ] {
        assert!(pattern(wide).covers(&pattern(narrow)), "{wide} {narrow}");
        assert!(!pattern(narrow).covers(&pattern(wide)) || wide == "?*", "{wide} {narrow}");
    }
    assert!(!pattern("s3:*").covers(&pattern("S3:Get")));
    assert!(pattern("s3:*").covers_ignore_case(&pattern("S3:Get")));
    assert!(pattern("S3:g?t*").matches_ignore_case("s3:GETObject"));
    assert!(!pattern("S3:g?t*").matches("s3:GetObject"));
    assert!(pattern("s3:Get*").overlaps_ignore_case(&pattern("S3:*object")));
    assert!(!pattern("s3:Get*").overlaps(&pattern("s3:Put*")));
    assert!(pattern("ä?ö*").matches("äüöß"));
    assert_eq!(pattern("a**?*").to_string(), "a**?*");
}

#[test]
fn hard_patterns_end() {
    let hard = [
        "*a?".repeat(150),
        "*?a".repeat(150),
        "?".repeat(400) + "*",
        "*".repeat(900),
        "a?".repeat(200),
        format!("*{}*", "a".repeat(400)),
        format!("*{}b*", "a?".repeat(200)),
        "a*".repeat(200) + "b",
    ];
    let text = "a".repeat(400);
    for a in &hard {
        let _ = Pattern::new(a).matches(&text);
        for b in &hard {
            let (a, b) = (Pattern::new(a), Pattern::new(b));
            let _ = (a.covers(&b), a.overlaps(&b));
        }
        assert!(Pattern::new("*").covers(&Pattern::new(a)));
        assert!(Pattern::new(a).overlaps(&Pattern::new("*")));
    }
}

fn document(grammar: Grammar, statements: &serde_json::Value) -> Document {
    let value = json!({"Version": "2012-10-17", "Statement": statements});
    Document::from_value(grammar, "d", &value, &Tokens::default()).unwrap()
}

fn lines(grants: Vec<Grant>) -> Vec<String> {
    grants.into_iter().map(|grant| format!("{} {}", grant.path, grant.text)).collect()
}

#[test]
fn actions_of_documents() {
    let document = document(
        Grammar::Permission,
        &json!([
            {"Effect": "Allow", "Action": ["S3:get*", "ec2:*"], "Resource": "*"},
            {"Effect": "Deny", "Action": "iam:*", "Resource": "*"},
            {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"},
            {"Effect": "Allow", "NotAction": ["iam:*", "organizations:*"], "Resource": "*"},
        ]),
    );
    let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect::<Vec<_>>();
    let rest = "d.Statement[3].NotAction everything but iam:*, organizations:*";
    assert_eq!(
        lines(document.actions_beyond(&patterns(&["s3:*", "EC2:Describe*"]))),
        ["d.Statement[0].Action[1] ec2:*", "d.Statement[2].Action iam:PassRole", rest]
    );
    assert_eq!(lines(document.actions_beyond(&patterns(&["*"]))), Vec::<String>::new());
    // Every action has a colon.
    for all in ["*:*", "**", "?*"] {
        assert_eq!(lines(document.actions_beyond(&patterns(&[all]))).len(), usize::from(all == "?*"), "{all}");
    }
    assert_eq!(lines(document.actions_beyond(&patterns(&["s3*", "ec*", "iam:*"]))), [rest]);
    assert_eq!(lines(document.actions_beyond(&[])).len(), 4);
    assert_eq!(lines(document.actions_among(&patterns(&["iam:Pass*"]))), ["d.Statement[2].Action iam:PassRole"]);
    assert_eq!(
        lines(document.actions_among(&patterns(&["s3:*Object", "organizations:Leave*"]))),
        ["d.Statement[0].Action[0] S3:get*", rest]
    );
    assert_eq!(lines(document.actions_among(&patterns(&["*:CreateUser"]))), ["d.Statement[0].Action[1] ec2:*", rest]);
    assert_eq!(lines(document.actions_among(&patterns(&["EC*x"]))), ["d.Statement[0].Action[1] ec2:*", rest]);
    assert_eq!(lines(document.actions_among(&[])), Vec::<String>::new());
}

/// Every list of one or two short patterns, against the resources of a small alphabet: what a statement includes is told,
/// and nothing else, but where two patterns of a `NotResource` leave something out only together.
#[test]
fn resources_against_enumeration() {
    const BUCKET: &str = "arn:aws:s3:::";
    let texts = texts(&['a', 'b', 'z'], 4);
    let patterns = self::texts(&['a', 'b', '*', '?'], 2);
    let matched: Vec<Vec<bool>> = patterns.iter().map(|pattern| matched(pattern, &texts)).collect();
    let all: Vec<usize> = (0..patterns.len()).collect();
    let pairs = all.iter().flat_map(|a| all.iter().filter(move |b| a <= b).map(move |b| (*a, *b)));
    for (a, b) in pairs {
        let listed = [a, b].map(|index| format!("{BUCKET}{}", patterns[index]));
        let read =
            |key: &str| document(Grammar::Permission, &json!([{ "Effect": "Allow", "Action": "*", key: listed }]));
        let (positive, negative) = (read("Resource"), read("NotResource"));
        for (asked, of_asked) in patterns.iter().zip(&matched) {
            let asked = [Pattern::new(&format!("{BUCKET}{asked}"))];
            let common = |index: usize| of_asked.iter().zip(&matched[index]).any(|(asked, listed)| *asked && *listed);
            let expected: Vec<String> = [a, b]
                .into_iter()
                .filter(|index| common(*index))
                .map(|index| format!("{BUCKET}{}", patterns[index]))
                .collect();
            let among: Vec<String> = positive.resources_among(&asked).into_iter().map(|grant| grant.text).collect();
            assert_eq!(among, expected, "{listed:?} {asked:?}");
            let left = (0..texts.len()).any(|text| of_asked[text] && !matched[a][text] && !matched[b][text]);
            let said = !negative.resources_among(&asked).is_empty();
            assert!(said || !left, "{listed:?} includes {asked:?}");
            let out = |index: usize| of_asked.iter().zip(&matched[index]).all(|(asked, listed)| *listed || !asked);
            assert_eq!(said, !(out(a) || out(b)), "{listed:?} {asked:?}");
            let beyond: Vec<String> = positive.resources_beyond(&asked).into_iter().map(|grant| grant.text).collect();
            let outside = |index: usize| matched[index].iter().zip(of_asked).any(|(listed, asked)| *listed && !asked);
            let expected: Vec<String> = [a, b]
                .into_iter()
                .filter(|index| outside(*index))
                .map(|index| format!("{BUCKET}{}", patterns[index]))
                .collect();
            assert_eq!(beyond, expected, "{listed:?} {asked:?}");
            assert_eq!(negative.resources_beyond(&asked).len(), 1, "everything else is beyond a bucket");
        }
        assert!(negative.resources_beyond(&[Pattern::new("*")]).is_empty());
    }
}

#[test]
fn resources_of_documents() {
    let statements = json!([
        { "Effect": "Allow", "Action": "*", "Resource": ["arn:aws:s3:::home/${aws:username}/*", "arn:aws:s3:::B"] },
        { "Effect": "Allow", "Action": "*", "NotResource": ["arn:aws:s3:::home/${aws:username}/*", "arn:aws:s3:::b*"] },
        { "Effect": "Deny", "Action": "*", "Resource": "*" },
    ]);
    let ask = |version: &str, patterns: &[&str]| {
        let text = json!({ "Version": version, "Statement": statements }).to_string();
        let document = Document::from_json(Grammar::Permission, "d", &text, &Tokens::default()).unwrap();
        let patterns: Vec<Pattern> = patterns.iter().map(|text| Pattern::new(text)).collect();
        let paths =
            |grants: Vec<Grant>| grants.into_iter().map(|grant| grant.path[12..].to_owned()).collect::<Vec<_>>();
        (paths(document.resources_among(&patterns)), paths(document.resources_beyond(&patterns)))
    };
    let (new, old) = ("2012-10-17", "2008-10-17");
    let alice = ["arn:aws:s3:::home/alice/key"];
    assert_eq!(ask(new, &alice).0, ["0].Resource[0]", "1].NotResource"], "a variable may be anybody");
    assert_eq!(ask(old, &alice).0, ["1].NotResource"], "and is a text under the old version");
    let literal = ["arn:aws:s3:::home/${aws:username}/x"];
    assert_eq!(ask(old, &literal).0, ["0].Resource[0]"], "which is left out");
    assert_eq!(ask(new, &["arn:aws:s3:::b"]).0, Vec::<String>::new(), "case counts");
    assert_eq!(ask(new, &["arn:aws:s3:::B"]).0, ["0].Resource[1]", "1].NotResource"]);
    assert_eq!(ask(new, &["arn:aws:s3:::*"]).1, ["1].NotResource"], "denials allow nothing");
    assert_eq!(ask(new, &["arn:aws:s3:::home/*"]).1, ["0].Resource[1]", "1].NotResource"]);
    assert_eq!(ask(new, &["arn:aws:s3:::home/a*"]).1.len(), 3, "a variable may be anybody");
    let text =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","NotResource":["arn:aws:s3:::b"]}]}"#;
    let document = Document::from_json(Grammar::Permission, "d", text, &Tokens::default()).unwrap();
    assert_eq!(
        lines(document.resources_among(&[Pattern::new("*")])),
        ["d.Statement[0].NotResource everything but arn:aws:s3:::b"]
    );
}

#[test]
fn long_lists_are_cut() {
    let actions: Vec<String> = (0..1000).map(|index| format!("s3:A{index}")).collect();
    let document = document(Grammar::Permission, &json!({"Effect": "Allow", "NotAction": actions, "Resource": "*"}));
    let text = &document.actions_beyond(&[])[0].text;
    assert_eq!(text, "everything but s3:A0, s3:A1, s3:A2, s3:A3, s3:A4 and 995 more");
}

#[test]
fn principals_of_documents() {
    let account = AccountRef { partition: "aws".to_owned(), id: "111122223333".to_owned() };
    let trust = |statements| lines(document(Grammar::Trust, &statements).trusted(&account));
    assert_eq!(
        trust(json!([
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {
                "AWS": ["arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:role/x"], "Service": "ec2.amazonaws.com"}},
            {"Effect": "Deny", "Action": "sts:AssumeRole", "Principal": "*"},
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": "*"},
        ])),
        [
            "d.Statement[0].Principal.AWS[0] AWS:123456789012",
            "d.Statement[0].Principal.AWS[1] AWS:arn:aws:iam::123456789012:role/x",
            "d.Statement[0].Principal.Service Service:ec2.amazonaws.com",
            "d.Statement[2].Principal.AWS AWS:*",
        ]
    );
}

/// Patterns that are dear to compare, thousands of them: the answers come soon, and are on the safe side.
#[test]
fn many_dear_patterns_are_taken_for_allowed() {
    let dear = |n: usize| format!("s3:{}{n}", "*?a??b".repeat(40));
    let actions: Vec<String> = (0..400).map(dear).collect();
    let value =
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]});
    let document = Document::from_value(Grammar::Permission, "d", &value, &Tokens::default()).unwrap();
    let patterns: Vec<Pattern> = (0..400).map(|n| Pattern::new(&format!("{}x", dear(n)))).collect();
    let start = std::time::Instant::now();
    assert!(document.actions_beyond(&patterns).len() == 400);
    // Each ends in another character than all patterns do; where there was time it is known.
    assert!(document.actions_among(&patterns).len() <= 400);
    let short: Vec<Pattern> =
        (0..200).map(|n| Pattern::new(&format!("s3:Get{n}"))).chain([Pattern::new("s3:*")]).collect();
    assert!(document.actions_beyond(&short).is_empty());
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
}
