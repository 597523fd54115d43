//! How long the biggest document that IAM's API takes (131072 characters) needs. Prints, judges nothing:
//! `cargo bench --bench policy`.

use iamrole_operator::policy::{AccountRef, Canonical, Document, Grammar, Tokens};
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

const LARGEST: usize = 131_072;

fn best(run: impl Fn()) -> Duration {
    let once = || {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..20).map(|_| once()).min().unwrap_or_default()
}

/// Statements of the usual kind, as many as fit.
fn statements() -> String {
    let mut text = String::from(r#"{"Version":"2012-10-17","Statement":["#);
    for i in 0.. {
        let statement = format!(
            r#"{{"Sid":"S{i}","Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::bucket-{i}/*","Condition":{{"StringEquals":{{"aws:PrincipalTag/team":"t{i}"}}}}}}"#
        );
        if text.len() + statement.len() + 3 > LARGEST {
            break;
        }
        let _ = write!(text, "{}{statement}", if i > 0 { "," } else { "" });
    }
    text.push_str("]}");
    text
}

/// One statement with as many actions as fit.
fn actions() -> String {
    let mut text =
        String::from(r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":["s3:A""#);
    for i in 0.. {
        let action = format!(r#","ec2:Describe{i}""#);
        if text.len() + action.len() + 5 > LARGEST {
            break;
        }
        text.push_str(&action);
    }
    text.push_str("]}]}");
    text
}

fn main() {
    let account = AccountRef { partition: "aws".into(), id: "123456789012".into() };
    for (what, text) in [("statements", statements()), ("actions", actions())] {
        let parse = || Document::from_json(Grammar::Permission, "d", &text, &Tokens::default());
        let Ok(document) = parse() else {
            println!("{what}: the document is refused");
            continue;
        };
        let wanted = document.canonical(&account);
        let parsed = best(|| drop(black_box(parse())));
        let compared = best(|| {
            black_box(Canonical::read(Grammar::Permission, &text, &account) == wanted);
        });
        println!("{what}, {} characters: parse {parsed:?}, read and compare {compared:?}", text.len());
    }
}
