//! A short fuzz run that is the same every time: no text makes the library panic, disagree with itself, or take long.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../fuzz/properties.rs"]
mod properties;

use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use iamrole_operator::policy::{Arn, Canonical, Document, Grammar, Relation, Tokens, bridge, relation};
use properties::{account, check};

/// xorshift64*: good enough, and always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(bits).unwrap() % limit
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

const SEEDS: [&str; 5] = [
    r#"{"Version":"2012-10-17","Id":"x","Statement":[{"Sid":"A","Effect":"Allow","Principal":{"AWS":["123456789012","arn:aws:iam::123456789012:root"],"Service":"ec2.amazonaws.com"},"Action":["sts:AssumeRole","sts:Tag*"],"Condition":{"StringEquals":{"aws:SourceArn":["a","b"]},"Bool":{"aws:x":true}}},{"Effect":"Deny","NotPrincipal":"*","NotAction":"sts:*"}]}"#,
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":["arn:aws:s3:::b/${aws:username}","*"],"Condition":{"NumericLessThan":{"s3:max-keys":1.50},"Null":{"a:b":"true"}}}}"#,
    r#"{"Version":"2008-10-17","Statement":[{"Effect":"Deny","NotAction":["iam:*"],"NotResource":"arn:aws:iam::*:role/$(name)"}]}"#,
    r#"{"Statement":[{"Effect":"Allow","Principal":{"AWS":"AROAEXAMPLEEXAMPLE123"},"Action":"sts:AssumeRole"}]}"#,
    "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%5D%7D",
];

const PIECES: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u00e9",
    "\\ud800",
    "null",
    "true",
    "0",
    "-1.5e9",
    "01",
    " ",
    "\n",
    "*",
    "?",
    "${",
    "$(",
    "$$(",
    "$(name)",
    ")",
    "%",
    "%7B",
    "+",
    "é",
    "—",
    "😀",
    "\u{0}",
    "\"Effect\":\"Allow\"",
    "\"Action\":",
    "\"NotAction\":[",
    "\"Condition\":{",
    "\"StringLike\":{",
    "\"aws:x\":",
    "\"Principal\":{",
    "\"AWS\":",
    "\"*\"",
    "\"Sid\":\"A\"",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":",
    "arn:aws:iam::",
];

fn mutate(random: &mut Random, seed: &str) -> String {
    let mut text: Vec<char> = seed.chars().collect();
    for _ in 0..=random.below(6) {
        let at = random.below(text.len() + 1);
        match random.below(4) {
            0 => drop(text.splice(at..at, random.pick(&PIECES).chars())),
            1 => drop(text.drain(at..(at + random.below(9)).min(text.len()))),
            2 => {
                let end = (at + random.below(60)).min(text.len());
                let copy = text[at..end].to_vec();
                let to = random.below(text.len() + 1);
                text.splice(to..to, copy);
            }
            _ => {
                let end = (at + random.below(9)).min(text.len());
                text.splice(at..end, random.pick(&PIECES).chars());
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn mutated_documents() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut last = Canonical::read(Grammar::Trust, SEEDS[0], &account());
    let mut policies = 0;
    for _ in 0..20_000 {
        let seed = random.pick(&SEEDS);
        let text = mutate(&mut random, seed);
        let read = check(&text, &last);
        assert_eq!(relation(&last, &read) == Relation::Same, last == read);
        if !format!("{read:?}").contains("no policy") {
            policies += 1;
            last = read;
        }
        let _ = text.parse::<Arn>();
    }
    assert!(policies > 1_000, "only {policies} of the texts were policies");
}

/// A value in which one place, picked at random, has the value of a place of another document, or is gone.
fn graft(random: &mut Random, into: &Value, from: &Value) -> Value {
    fn places(value: &Value, place: &str, all: &mut Vec<String>) {
        all.push(place.to_owned());
        let mut below = |key: &str, value: &Value| {
            let key = key.replace('~', "~0").replace('/', "~1");
            places(value, &format!("{place}/{key}"), all);
        };
        match value {
            Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| below(&index.to_string(), item)),
            Value::Object(members) => members.iter().for_each(|(key, item)| below(key, item)),
            _ => {}
        }
    }
    let mut pick = |value: &Value| {
        let mut all = Vec::new();
        places(value, "", &mut all);
        all.swap_remove(random.below(all.len()))
    };
    let mut grafted = into.clone();
    let scion = from.pointer(&pick(from)).unwrap().clone();
    *grafted.pointer_mut(&pick(into)).unwrap() = scion;
    grafted
}

/// Documents to begin with: the seeds, and the smaller AWS-managed policies where `RIG_MOTO_POLICIES` names them.
fn stock() -> Vec<String> {
    let mut stock: Vec<String> = SEEDS.iter().map(ToString::to_string).collect();
    if let Some(path) = std::env::var_os("RIG_MOTO_POLICIES") {
        let source = std::fs::read_to_string(path).unwrap();
        let policies: Value = serde_json::from_str(source.split("\"\"\"").nth(1).unwrap()).unwrap();
        let texts = policies.as_object().unwrap().values().map(|policy| policy["Document"].to_string());
        stock.extend(texts.filter(|text| text.len() < 6_000));
    }
    stock
}

/// The same for as long as one likes, always with other texts:
/// `POLICY_FUZZ_SECONDS=600 cargo test --release --test policy_fuzz -- --ignored for_long --nocapture`.
#[test]
#[ignore = "takes POLICY_FUZZ_SECONDS, which are 60 where that is not set"]
fn mutated_for_long() {
    let seconds = std::env::var("POLICY_FUZZ_SECONDS").map_or(60, |text| text.parse().unwrap());
    let start = Instant::now();
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let (mut random, stock) = (Random(u64::from(seed) | 1 << 40), stock());
    println!("seed {seed}, {} documents", stock.len());
    let values: Vec<Value> = stock.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    let mut last = Canonical::read(Grammar::Trust, SEEDS[0], &account());
    let (mut texts, mut slowest) = (0, (Duration::ZERO, String::new()));
    while start.elapsed() < Duration::from_secs(seconds) {
        let mut text = if random.below(2) == 0 {
            let (into, from) = (&values[random.below(values.len())], &values[random.below(values.len())]);
            graft(&mut random, into, from).to_string()
        } else {
            stock[random.below(stock.len())].clone()
        };
        if random.below(3) > 0 {
            text = mutate(&mut random, &text);
        }
        let begin = Instant::now();
        let read = std::panic::catch_unwind(|| check(&text, &last)).unwrap_or_else(|_| panic!("seed {seed}: {text}"));
        let mut took = begin.elapsed();
        if took > slowest.0 {
            // The machine may have been busy.
            took = took.min(quickest(|| drop(check(&text, &last))));
        }
        assert_eq!(relation(&last, &read) == Relation::Same, last == read, "seed {seed}: {text}");
        if !format!("{read:?}").contains("no policy") {
            last = read;
        }
        if took > slowest.0 {
            slowest = (took, text);
        }
        texts += 1;
    }
    println!("{texts} texts, the slowest took {:?}: {:.2000}", slowest.0, slowest.1);
}

/// Shapes of texts that would be slow if anything was quadratic, as `NAME => BEFORE => REPEATED => AFTER`: `#` is a
/// number that counts up, `STATEMENT` stands for a statement's members.
const SHAPES: &str = r##"
    equal statements => {"Version":"2012-10-17","Statement":[ => {STATEMENT}, => {STATEMENT}]}
    statements => {"Version":"2012-10-17","Statement":[ => {"Sid":"S#",STATEMENT}, => {STATEMENT}]}
    equal sids => {"Version":"2012-10-17","Statement":[ => {"Sid":"S",STATEMENT}, => {STATEMENT}]}
    conditions => {"Version":"2012-10-17","Statement":[ => {STATEMENT,"Condition":{"StringLike":{"aws:x":"#"}}}, => {STATEMENT}]}
    actions => {"Version":"2012-10-17","Statement":[{"Principal":"*","Effect":"Allow","Action":[ => "sts:A#", => "sts:B"]}]}
    equal actions => {"Version":"2012-10-17","Statement":[{"Principal":"*","Effect":"Allow","Action":[ => "sts:A", => "sts:B"]}]}
    principals => {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:A","Principal":{"AWS":[ => "arn:aws:iam::123456789012:role/#", => "*"]}}]}
    bad principals => {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:A","Principal":{"AWS":[ => "#", => "*"]}}]}
    condition keys => {"Version":"2012-10-17","Statement":[{STATEMENT,"Condition":{"StringLike":{ => "a:#":"x", => "b:x":"x"}}}]}
    condition values => {"Version":"2012-10-17","Statement":[{STATEMENT,"Condition":{"StringLike":{"a:b":[ => "#", => ""]}}}]}
    equal keys => {"Version":"2012-10-17","Statement":[{ => "Effect":"Allow", => STATEMENT}]}
    unknown keys => {"Version":"2012-10-17","Statement":[{ => "Effec#":1, => STATEMENT}]}
    unknown operators => {"Version":"2012-10-17","Statement":[{STATEMENT,"Condition":{ => "StringEqual#":{}, => "Null":{}}}]}
    numbers => {"Version":"2012-10-17","Statement":[ => #, => 1]}
    a long text => {"Version":"2012-10-17","Statement":{STATEMENT,"Sid":" => abcdefgh => "}}
    a long key => {"Version":"2012-10-17","Statement":{STATEMENT," => Conditio => ":{}}}
    unknown kinds => {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":[ => "arn:aws:iam::123456789012:rolx#/x", => "*"]}]}
    a long kind => {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:iam::123456789012: => instance-profile => /x"}]}
    permissions => {"Version":"2012-10-17","Statement":[ => {"Effect":"Allow","Action":"s3:Get#","Resource":"arn:aws:s3:::b#/*"}, => {"Effect":"Allow","Action":"*","Resource":"*"}]}
    resources => {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":[ => "arn:aws:s3:::b/#", => "*"]}]}
    bad resources => {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":[ => "arn:aws:iam::1:usr#", => "*"]}]}
    tokens => {"Version":"2012-10-17","Statement":{STATEMENT,"Sid":" => $( => "}}
    dollars => {"Version":"2012-10-17","Statement":{STATEMENT,"Sid":" => $$( => "}}
    escapes => {"Version":"2012-10-17","Statement":{STATEMENT,"Sid":" => \u0041 => "}}
    wildcards => {"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"sts: => *?a => "}}
    brackets => [ => [ => ]
    open objects => {"a": => {"a": => 1
    percent signs => %7B => %7B => %7D
    lines => [ => LINE => 1]x
"##;

/// The shapes' texts, each of IAM's largest size.
fn large() -> Vec<(&'static str, String)> {
    const SIZE: usize = 131_072;
    let statement = r#""Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole""#;
    let rows = SHAPES.lines().map(str::trim_start).filter(|row| !row.is_empty());
    let text = |row: &'static str| {
        let [name, before, unit, after] = row.split(" => ").collect::<Vec<_>>()[..] else {
            panic!("not a row: {row}");
        };
        let full = |text: &str| text.replace("STATEMENT", statement).replace("LINE", "\n");
        let (mut text, after) = (full(before), full(after));
        for index in 0.. {
            let next = full(unit).replace('#', &index.to_string());
            if text.len() + next.len() + after.len() > SIZE {
                break;
            }
            text.push_str(&next);
        }
        (name, text + &after)
    };
    rows.map(text).collect()
}

/// The time of the quickest of three runs; the machine may be busy.
fn quickest(mut run: impl FnMut()) -> Duration {
    let times = std::array::from_fn::<_, 3, _>(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    times.into_iter().min().unwrap()
}

/// In a release build each takes a few milliseconds; what is quadratic takes many seconds in a debug build.
#[test]
fn the_largest_documents() {
    let allowed = Duration::from_secs(8);
    let plain = Canonical::read(Grammar::Trust, SEEDS[0], &account());
    let texts = large();
    let forms = texts.iter().map(|(_, text)| Canonical::read(Grammar::Trust, text, &account()));
    let forms: Vec<Canonical> = forms.collect();
    for ((what, text), form) in texts.iter().zip(&forms) {
        assert!((130_900..=131_072).contains(&text.len()), "{what}: {}", text.len());
        let took = quickest(|| drop(check(text, &plain)));
        assert!(took < allowed, "{what}: {took:?}");
        let took = quickest(|| {
            for other in &forms {
                assert_eq!(relation(form, other) == Relation::Same, form == other);
            }
        });
        assert!(took < allowed, "{what} to all others: {took:?}");
    }
}

/// Where time goes; run by hand: `cargo test --release --test policy_fuzz -- --ignored --nocapture`.
#[test]
#[ignore = "prints times, asserts nothing"]
fn times() {
    let texts = large();
    for (what, text) in &texts {
        let mut best = [Duration::MAX; 4];
        for _ in 0..15 {
            let mut measure = |index: usize, run: &dyn Fn()| {
                let start = Instant::now();
                run();
                best[index] = best[index].min(start.elapsed());
            };
            let read = || Canonical::read(Grammar::Trust, text, &account());
            let parsed = Document::from_json(Grammar::Trust, "d", text, &Tokens::default());
            let canonical = read();
            let other = Canonical::read(Grammar::Trust, &texts[3].1, &account());
            measure(0, &|| {
                drop(Document::from_json(Grammar::Trust, "d", text, &Tokens::default()));
            });
            measure(1, &|| assert!(read() == canonical));
            measure(2, &|| {
                let _ = (relation(&canonical, &other), relation(&other, &canonical));
            });
            measure(3, &|| {
                if let Ok(document) = &parsed {
                    let _ = bridge(&other, document, &account(), 0);
                }
            });
        }
        println!(
            "{what}: parse {:?}, read and compare {:?}, relations {:?}, bridge {:?}",
            best[0], best[1], best[2], best[3]
        );
    }
}

/// The fuzz target is a workspace of its own, which `make test` does not build: its lock goes stale unseen.
#[test]
fn the_fuzz_target_is_locked_to_the_dependencies_of_today() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let of_lock = |path: &str| -> BTreeSet<String> {
        let lock = read(path);
        let (_, package) = lock.split_once("name = \"iamrole-operator\"\n").unwrap();
        let (_, list) = package.split_once("dependencies = [").unwrap();
        let names = list.split(']').next().unwrap().split('"').skip(1).step_by(2);
        // Where there are several versions of a package, one follows the name.
        names.map(|name| name.split(' ').next().unwrap().to_owned()).collect()
    };
    let manifest = read("Cargo.toml");
    let section = |title: &str| -> BTreeSet<String> {
        let (_, section) = manifest.split_once(&format!("\n[{title}]\n")).unwrap();
        let entries = section.lines().take_while(|line| !line.starts_with('['));
        entries
            .filter_map(|line| line.split_once(" = "))
            .map(|(name, _)| name.to_owned())
            .filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))
            .collect()
    };
    let (locked, fuzzed) = (of_lock("Cargo.lock"), of_lock("fuzz/Cargo.lock"));
    // A lock lists what a package needs for its own tests only in its own workspace.
    let only_tests: BTreeSet<String> =
        section("dev-dependencies").difference(&section("dependencies")).cloned().collect();
    let expected: BTreeSet<String> = locked.difference(&only_tests).cloned().collect();
    assert!(expected.contains("aws-sdk-iam") && !expected.contains("proptest"), "{expected:?}");
    let how = "cp Cargo.lock fuzz/Cargo.lock && cargo metadata --manifest-path fuzz/Cargo.toml >/dev/null";
    assert_eq!(fuzzed, expected, "fuzz/Cargo.lock is stale; {how}");
}
