//! How long documents of the biggest size that IAM's API takes (131072 characters) need: to be read and checked, and
//! to be read as AWS returns them and compared. Both together should stay below 5 ms whatever the document's shape.
//! Prints, judges nothing: `cargo bench --bench policy`.

use iamrole_operator::policy::{AccountRef, Canonical, Document, Grammar, Tokens};
use std::hint::black_box;
use std::time::{Duration, Instant};

const LARGEST: usize = 131_072;

/// Shapes as name, what comes before, what is repeated (`%` counts up) and what comes after.
const SHAPES: [(&str, &str, &str, &str); 15] = [
    (
        "usual statements",
        r#"{"Version":"2012-10-17","Statement":["#,
        r#"{"Sid":"S%","Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::bucket-%/*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"t%"}}},"#,
        r#"{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}"#,
    ),
    (
        "small statements",
        r#"{"Version":"2012-10-17","Statement":["#,
        r#"{"Effect":"Deny","Action":"a:%","Resource":"*"},"#,
        r#"{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}"#,
    ),
    (
        "equal statements",
        r#"{"Version":"2012-10-17","Statement":["#,
        r#"{"Effect":"Deny","Action":"a:b","Resource":"*"},"#,
        r#"{"Effect":"Deny","Action":"a:b","Resource":"*"}]}"#,
    ),
    ("empty statements", r#"{"Version":"2012-10-17","Statement":["#, "{},", "{}]}"),
    (
        "actions",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":["#,
        r#""ec2:Describe%","#,
        r#""s3:A"]}]}"#,
    ),
    (
        "equal actions",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":["#,
        r#""a:","#,
        r#""a:"]}]}"#,
    ),
    (
        "small actions",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":["#,
        r#""a:%","#,
        r#""s3:A"]}]}"#,
    ),
    (
        "resources",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":["#,
        r#""arn:aws:iam:::role/%","#,
        r#""*"]}]}"#,
    ),
    (
        "condition keys",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"#,
        r#""%:":"","#,
        r#""a:b":"true"}}}]}"#,
    ),
    (
        "good condition keys",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"#,
        r#""%:":"","#,
        r#""a:b":"true"}}}]}"#,
    ),
    (
        "condition values",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NumericEquals":{"a:b":["#,
        "%,",
        "0]}}}]}",
    ),
    ("numbers for a version", r#"{"Version":["#, "%,", r#"0],"Statement":[]}"#),
    ("numbers for statements", r#"{"Version":"2012-10-17","Statement":["#, "%,", "0]}"),
    ("unknown keys", r#"{"Version":"2012-10-17","Statement":[],"#, r#""%":0,"#, r#""a":0}"#),
    (
        "unknown keys of a statement",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","#,
        r#""%":0,"#,
        r#""a":0}]}"#,
    ),
];

/// The shape's text, as many of its units as fit.
fn text(before: &str, unit: &str, after: &str) -> String {
    let mut text = before.to_owned();
    for index in 0.. {
        let next = unit.replace('%', &index.to_string());
        if text.len() + next.len() + after.len() > LARGEST {
            break;
        }
        text.push_str(&next);
    }
    text + after
}

fn best(run: impl Fn()) -> Duration {
    let once = || {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..40).map(|_| once()).min().unwrap_or_default()
}

fn main() {
    let account = AccountRef { partition: "aws".into(), id: "123456789012".into() };
    for (what, before, unit, after) in SHAPES {
        let text = text(before, unit, after);
        let parse = || Document::from_json(Grammar::Permission, "d", &text, &Tokens::default());
        let wanted = match parse() {
            Ok(document) => document.canonical(&account),
            Err(_) => Canonical::read(Grammar::Permission, &text, &account),
        };
        let parsed = best(|| drop(black_box(parse())));
        let compared = best(|| {
            black_box(Canonical::read(Grammar::Permission, &text, &account) == wanted);
        });
        let both = parsed + compared;
        println!("{what}: parse {parsed:.1?}, read and compare {compared:.1?}, both {both:.1?}");
    }
}
