//! How long documents of the biggest size that IAM's API takes (131072 characters) need: to be read and checked, to be
//! read as AWS returns them (percent-encoded) and compared, and to be looked through for mistakes; and trust policies of
//! the biggest size that a bridge is built for.
//! `cargo bench --bench policy` prints the times and fails where a shape needs 5 ms or more. It is no part of
//! `make test`, which may run on a busy machine.

use iamrole_operator::policy::{AccountRef, Canonical, Document, Grammar, Tokens, bridge, relation};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const LARGEST: usize = 131_072;
const LARGEST_TRUST: usize = 16_384;
const BOUND: Duration = Duration::from_millis(5);

/// Shapes as name, what comes before, what is repeated (`%` counts up) and what comes after.
const SHAPES: [(&str, &str, &str, &str); 17] = [
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
        "unknown kinds",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":["#,
        r#""arn:aws:iam:::rolx%/a","#,
        r#""*"]}]}"#,
    ),
    (
        "a long kind",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:iam:::"#,
        "instance-profile",
        r#"/a"}]}"#,
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

/// Trust policies of the biggest size, as those before.
const LARGE_TRUSTS: [(&str, &str, &str, &str); 4] = [
    (
        "accounts",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":["#,
        r#""arn:aws:iam::123456789012:role/path/to/role-%","#,
        r#""arn:aws:iam::123456789012:root"]}}]}"#,
    ),
    (
        "services",
        r#"{"Version":"2012-10-17","Statement":["#,
        r#"{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"s%.amazonaws.com"}},"#,
        r#"{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"ec2.amazonaws.com"}}]}"#,
    ),
    (
        "identity providers",
        r#"{"Version":"2012-10-17","Statement":["#,
        r#"{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/E%"},"Condition":{"StringEquals":{"oidc.eks.eu-west-1.amazonaws.com/id/E%:sub":"system:serviceaccount:n:s%","oidc.eks.eu-west-1.amazonaws.com/id/E%:aud":"sts.amazonaws.com"}}},"#,
        r#"{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"ec2.amazonaws.com"}}]}"#,
    ),
    (
        "ServiceAccounts of one provider",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/o.example"},"Condition":{"StringEquals":{"o.example:aud":"sts.amazonaws.com","o.example:sub":["#,
        r#""system:serviceaccount:namespace:account-%","#,
        r#""system:serviceaccount:namespace:last"]}}}]}"#,
    ),
];

/// Trust policies for [`bridge`], of the largest size that it looks into: an old document of one shape and a new one of
/// another.
const TRUSTS: [(&str, &str, &str, &str); 5] = [
    (
        "statements",
        r#"{"Version":"2012-10-17","Statement":["#,
        r#"{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:A%"},"#,
        r#"{"Effect":"Deny","Principal":{"AWS":"*"},"Action":"sts:TagSession"}]}"#,
    ),
    (
        "statements with conditions",
        r#"{"Version":"2012-10-17","Statement":["#,
        r#"{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole","Condition":{"StringNotEquals":{"aws:%":"%"}}},"#,
        r#"{"Effect":"Deny","Principal":{"AWS":"*"},"Action":"sts:TagSession"}]}"#,
    ),
    (
        "condition keys",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole","Condition":{"StringNotEquals":{"#,
        r#""a:%":"x","#,
        r#""b:x":"x"}}}]}"#,
    ),
    (
        "condition values",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole","Condition":{"StringNotEquals":{"b:x":["#,
        r#""%","#,
        r#""x"]}}}]}"#,
    ),
    (
        "principals",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":["#,
        r#""arn:aws:iam::123456789012:role/%","#,
        r#""*"]}}]}"#,
    ),
];

/// The shape's text, as many of its units as fit.
fn text(before: &str, unit: &str, after: &str, largest: usize) -> String {
    let mut text = before.to_owned();
    for index in 0.. {
        let next = unit.replace('%', &index.to_string());
        if text.len() + next.len() + after.len() > largest {
            break;
        }
        text.push_str(&next);
    }
    text + after
}

fn best(run: &dyn Fn()) -> Duration {
    let once = || {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..40).map(|_| once()).min().unwrap_or_default()
}

/// Times of the parts, and whether they are within the bound together. A busy machine gets a few more chances.
fn judge(what: &str, parts: &[(&str, &dyn Fn())]) -> bool {
    let measure = || parts.iter().map(|(_, run)| best(run)).collect::<Vec<_>>();
    let mut times = measure();
    for _ in 0..4 {
        if times.iter().sum::<Duration>() < BOUND {
            break;
        }
        times = times.into_iter().zip(measure()).map(|(one, other)| one.min(other)).collect();
    }
    let sum: Duration = times.iter().sum();
    let named = parts.iter().zip(&times).map(|((part, _), time)| format!("{part} {time:.1?}")).collect::<Vec<_>>();
    let verdict = if sum < BOUND { "" } else { ", which is TOO LONG" };
    println!("{what}: {}, in all {sum:.1?}{verdict}", named.join(", "));
    sum < BOUND
}

/// The text as AWS returns it: all but letters, digits and `-._~` is escaped.
fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

fn parsed_and_compared(account: &AccountRef) -> bool {
    let permissions = SHAPES.iter().map(|shape| (Grammar::Permission, shape));
    let trusts = LARGE_TRUSTS.iter().map(|shape| (Grammar::Trust, shape));
    let mut good = true;
    for (grammar, (what, before, unit, after)) in permissions.chain(trusts) {
        let text = text(before, unit, after, LARGEST);
        let returned = percent_encoded(&text);
        let parse = || Document::from_json(grammar, "d", &text, &Tokens::default());
        let document = parse();
        let wanted = match &document {
            Ok(document) => document.canonical(account),
            Err(_) => Canonical::read(grammar, &returned, account),
        };
        let parsed = || drop(black_box(parse()));
        let compared = || {
            black_box(Canonical::read(grammar, &returned, account) == wanted);
        };
        good &= judge(what, &[("parse", &parsed), ("read and compare", &compared)]);
        if let Ok(document) = document {
            let lint = || drop(black_box(document.lint(account)));
            good &= judge(what, &[("lint", &lint)]);
        }
    }
    good
}

fn bridged(account: &AccountRef) -> bool {
    let mut good = true;
    for (old_shape, before, unit, after) in TRUSTS {
        let old = Canonical::read(Grammar::Trust, &text(before, unit, after, LARGEST_TRUST), account);
        for (new_shape, before, unit, after) in TRUSTS {
            // Nothing is the same in both, or there would be nothing to join.
            let new = text(before, &unit.replace('%', "n%"), after, LARGEST_TRUST);
            let Ok(new) = Document::from_json(Grammar::Trust, "d", &new, &Tokens::default()) else {
                println!("{new_shape}: no trust policy");
                return false;
            };
            let bridge = || drop(black_box(bridge(&old, &new, account, 0)));
            let canonical = new.canonical(account);
            let related = || {
                black_box((relation(&old, &canonical), relation(&canonical, &old)));
            };
            good &= judge(&format!("{old_shape} to {new_shape}"), &[("bridge", &bridge), ("relations", &related)]);
        }
    }
    good
}

fn main() -> ExitCode {
    let account = AccountRef { partition: "aws".into(), id: "123456789012".into() };
    let (compared, bridged) = (parsed_and_compared(&account), bridged(&account));
    if compared && bridged { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
