//! How documents come in: as objects, of which the API server has read the numbers already, or as JSON text.
#![allow(clippy::unwrap_used)]

use iamrole_operator::policy::{AccountRef, Document, Finding, Grammar, Tokens};
use serde_json::{Value, json};

fn account() -> AccountRef {
    AccountRef { partition: "aws".into(), id: "111122223333".into() }
}

fn lines(result: Result<Document, Vec<Finding>>) -> Vec<String> {
    result.err().into_iter().flatten().map(|finding| finding.to_string()).collect()
}

fn of_value(value: &Value) -> Result<Document, Vec<Finding>> {
    Document::from_value(Grammar::Permission, "doc", value, &Tokens::default())
}

fn of_text(text: &str) -> Result<Document, Vec<Finding>> {
    Document::from_json(Grammar::Permission, "doc", text, &Tokens::default())
}

/// A document with this under `NumericEquals`.
fn numeric(number: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":"*","Resource":"*",
            "Condition":{{"NumericEquals":{{"s3:max-keys":[{number}]}}}}}}]}}"#
    )
}

#[test]
fn a_number_that_may_have_become_another_is_refused_and_its_text_is_kept() {
    for number in ["9007199254740993", "-9007199254740993", "0.1234567890123456789", "1e30", "123456789012345678901"] {
        let text = numeric(number);
        let found = lines(of_value(&serde_json::from_str(&text).unwrap()));
        assert_eq!(found.len(), 1, "{number}: {found:?}");
        let place = "doc.Statement[0].Condition.NumericEquals[\"s3:max-keys\"][0]: ";
        assert!(found[0].starts_with(place) && found[0].ends_with("write it in quotes"), "{found:?}");
        assert!(
            of_text(&text).unwrap().to_json().contains(&format!("\"{number}\"")),
            "JSON text keeps what was written"
        );
        let quoted = numeric(&format!("\"{number}\""));
        assert!(of_value(&serde_json::from_str(&quoted).unwrap()).unwrap().to_json().contains(number));
    }
    for number in ["9007199254740991", "0", "-5", "1.5", "1000.0", "0.000123456789012345"] {
        let text = numeric(number);
        let value = of_value(&serde_json::from_str(&text).unwrap()).unwrap();
        assert!(value.canonical(&account()) == of_text(&text).unwrap().canonical(&account()), "{number}");
    }
}

#[test]
fn dates_as_numbers_are_seconds_of_the_epoch() {
    let document = |date: Value| {
        json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*",
            "Condition": { "DateLessThan": { "aws:CurrentTime": date } } }] })
    };
    assert_eq!(lines(of_value(&document(json!(1_767_225_600)))), Vec::<String>::new());
    for date in
        [json!(2026), json!(20_260_131), json!(-1_767_225_600), json!(1_767_225_600_000_i64), json!(1_767_225_600.5)]
    {
        for found in [lines(of_value(&document(date.clone()))), lines(of_text(&document(date.clone()).to_string()))] {
            assert!(found.len() == 1 && found[0].contains("seconds since 1970"), "{date}: {found:?}");
        }
    }
}

#[test]
fn a_missing_version_is_not_guessed_where_it_decides_what_is_meant() {
    let document = |resource: &str, key: &str| {
        json!({ "Statement": [{ "Effect": "Allow", "Action": "s3:Get", "Resource": resource,
            "Condition": { "StringLike": { "aws:x": key } } }] })
    };
    let same = "doc: `Version` is missing, which AWS takes for 2008-10-17; write \"Version\": \"2012-10-17\", which means the \
                same here";
    assert_eq!(lines(of_value(&document("*", "$aws:username}"))), [same]);
    let which = "doc: `Version` is missing, which AWS takes for 2008-10-17, under which `${…}` is plain text; write \
                 \"Version\": \"2012-10-17\" if `${…}` are variables, such as `${aws:username}`, or \"2008-10-17\" if they are \
                 text as they stand";
    assert_eq!(lines(of_value(&document("arn:aws:s3:::${aws:username}", "x"))), [which]);
    assert_eq!(lines(of_value(&document("*", "a${b}"))), [which]);
}

#[test]
fn what_is_larger_than_iam_reads_is_refused_before_it_is_looked_into() {
    let start = std::time::Instant::now();
    let message = "doc: more than 262144 characters; IAM takes 131072 at most, and its quotas are lower; split it into \
                   several policies";
    let long = "x".repeat(262_144);
    let nodes = json!({ "Statement": vec![json!([]); 100_000] });
    let keys: serde_json::Map<String, Value> = (0..40_000).map(|n| (format!("k{n}"), json!(1))).collect();
    let mut deep = json!(0);
    for _ in 0..60 {
        deep = json!([deep.clone(), vec![1; 3_000]]);
    }
    for value in [json!({ "Version": long }), json!({ long.clone(): 1 }), nodes, Value::Object(keys), deep] {
        assert_eq!(lines(of_value(&value)), [message]);
        assert_eq!(lines(of_text(&value.to_string())), [message]);
    }
    let wide = serde_json::to_string(&vec!["a"; 2_000_000]).unwrap();
    assert_eq!(lines(of_text(&wide)), [message]);
    assert_eq!(lines(of_value(&serde_json::from_str(&wide).unwrap())), [message]);
    assert!(start.elapsed() < std::time::Duration::from_secs(8), "{:?}", start.elapsed());
    // White space is not sent, and characters are counted, not bytes.
    let spacious = numeric("1").replace(' ', &" ".repeat(300_000));
    assert_eq!(lines(of_text(&spacious)), Vec::<String>::new());
    let latin = json!({ "Version": "\u{e9}".repeat(262_000) });
    assert!(lines(of_value(&latin))[0].contains("no version of the policy language"));
}

#[test]
fn tokens_do_not_make_a_document_larger_than_it_may_be() {
    let mut tokens = Tokens::default();
    tokens.set("name", "n".repeat(253));
    let value = "$(name)".repeat(30_000);
    let document = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*",
        "Condition": { "StringEquals": { "aws:PrincipalTag/a": [value, value] } },
    }] });
    let findings = Document::from_value(Grammar::Permission, "d", &document, &tokens).expect_err("7 MB");
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].to_string().contains("262144"), "{findings:?}");
}
