//! What is equal and what must stay different, one row each: the cases in which other tools loop for ever or miss a
//! change.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use iamrole_operator::policy::{AccountRef, Canonical, Document, Grammar, Relation, Tokens, relation};

fn account() -> AccountRef {
    AccountRef { partition: "aws".to_owned(), id: "111122223333".to_owned() }
}

fn read(text: &str) -> Canonical {
    let grammar = if text.contains("Resource") { Grammar::Permission } else { Grammar::Trust };
    Canonical::read(grammar, text, &account())
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A document around the members of one statement.
fn statement(members: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{members}}}]}}"#)
}

fn permission(rest: &str) -> String {
    statement(&format!(r#""Action":"s3:GetObject","Resource":"*"{rest}"#))
}

fn trust(principal: &str) -> String {
    statement(&format!(r#""Action":"sts:AssumeRole","Principal":{principal}"#))
}

fn condition(condition: &str) -> String {
    permission(&format!(r#","Condition":{condition}"#))
}

#[track_caller]
fn equal(a: &str, b: &str) {
    assert!(read(a) == read(b), "different:\n{a}\n{b}");
    assert!(read(&encode(a)) == read(b), "different when encoded:\n{a}\n{b}");
    assert_eq!(read(a).to_json(), read(b).to_json());
    assert_eq!(relation(&read(a), &read(b)), Relation::Same);
}

#[track_caller]
fn different(a: &str, b: &str) {
    assert!(read(a) != read(b), "equal:\n{a}\n{b}");
    assert_ne!(read(a).to_json(), read(b).to_json());
    assert_ne!(relation(&read(a), &read(b)), Relation::Same);
}

const ROOT: &str = r#"{"AWS":"arn:aws:iam::123456789012:root"}"#;

#[test]
fn one_value_is_a_list_of_it() {
    equal(
        &statement(r#""Action":"s3:GetObject","Resource":"*""#),
        &statement(r#""Action":["s3:GetObject"],"Resource":["*"]"#),
    );
    equal(&condition(r#"{"StringEquals":{"a:b":"x"}}"#), &condition(r#"{"StringEquals":{"a:b":["x"]}}"#));
    for kind in ["AWS", "Service", "Federated", "CanonicalUser"] {
        equal(&trust(&format!(r#"{{"{kind}":"x"}}"#)), &trust(&format!(r#"{{"{kind}":["x"]}}"#)));
    }
    different(
        &statement(r#""Action":["s3:GetObject","s3:PutObject"],"Resource":"*""#),
        &statement(r#""Action":"s3:GetObject","Resource":"*""#),
    );
}

#[test]
fn lists_have_no_order() {
    equal(
        &statement(r#""NotAction":["a:B","c:D"],"NotResource":["arn:a","arn:b"]"#),
        &statement(r#""NotAction":["c:D","a:B"],"NotResource":["arn:b","arn:a"]"#),
    );
    equal(
        &condition(r#"{"StringEquals":{"a:b":["x","y"],"c:d":"z"},"Bool":{"e:f":"true"}}"#),
        &condition(r#"{"Bool":{"e:f":"true"},"StringEquals":{"c:d":"z","a:b":["y","x"]}}"#),
    );
    equal(&trust(r#"{"AWS":["1","2"],"Service":"s"}"#), &trust(r#"{"Service":"s","AWS":["2","1"]}"#));
    let document = |statements: &str| format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    let (a, b) = (
        r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#,
        r#"{"Effect":"Deny","Action":"s3:PutObject","Resource":"*"}"#,
    );
    equal(&document(&format!("{a},{b}")), &document(&format!("{b},{a}")));
    different(&document(&format!("{a},{b}")), &document(a));
}

#[test]
fn a_statement_is_a_list_of_it() {
    equal(
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#,
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#,
    );
}

#[test]
fn repetition_says_nothing() {
    equal(
        &statement(r#""Action":["s3:Get","s3:Get"],"Resource":["*","*"]"#),
        &statement(r#""Action":"s3:Get","Resource":"*""#),
    );
    equal(&condition(r#"{"StringEquals":{"a:b":["x","x"]}}"#), &condition(r#"{"StringEquals":{"a:b":"x"}}"#));
    equal(&trust(r#"{"Service":["s","s"]}"#), &trust(r#"{"Service":"s"}"#));
    let one = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;
    equal(
        &format!(r#"{{"Version":"2012-10-17","Statement":[{one},{one}]}}"#),
        &format!(r#"{{"Version":"2012-10-17","Statement":{one}}}"#),
    );
}

#[test]
fn an_account_is_its_root_in_our_partition() {
    equal(&trust(r#"{"AWS":"123456789012"}"#), &trust(ROOT));
    equal(&trust(r#"{"AWS":["123456789012","arn:aws:iam::123456789012:root"]}"#), &trust(ROOT));
    different(&trust(r#"{"AWS":"123456789012"}"#), &trust(r#"{"AWS":"arn:aws-cn:iam::123456789012:root"}"#));
    different(&trust(ROOT), &trust(r#"{"AWS":"arn:aws-cn:iam::123456789012:root"}"#));
    different(&trust(r#"{"AWS":"123456789012"}"#), &trust(r#"{"AWS":"123456789013"}"#));
    // In China it is the other way round.
    let china = AccountRef { partition: "aws-cn".to_owned(), ..account() };
    let read = |text: &str| Canonical::read(Grammar::Trust, text, &china);
    assert_eq!(
        read(&trust(r#"{"AWS":"123456789012"}"#)),
        read(&trust(r#"{"AWS":"arn:aws-cn:iam::123456789012:root"}"#))
    );
    assert_ne!(read(&trust(r#"{"AWS":"123456789012"}"#)), read(&trust(ROOT)));
    // Only under `AWS`, and only there is it an account.
    different(&trust(r#"{"Service":"arn:aws:iam::123456789012:root"}"#), &trust(r#"{"Service":"123456789012"}"#));
    different(
        &condition(r#"{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::123456789012:root"}}"#),
        &condition(r#"{"ArnEquals":{"aws:PrincipalArn":"123456789012"}}"#),
    );
}

#[test]
fn everybody() {
    equal(&trust(r#""*""#), &trust(r#"{"AWS":"*"}"#));
    equal(&trust(r#""*""#), &trust(r#"{"AWS":["*"]}"#));
    for other in [
        trust("{}"),
        trust("null"),
        trust(r#"{"AWS":[]}"#),
        trust(r#""123456789012""#),
        trust(r#"{"Service":"*"}"#),
        statement(r#""Action":"sts:AssumeRole""#),
        statement(r#""Action":"sts:AssumeRole","NotPrincipal":"*""#),
    ] {
        different(&trust(r#""*""#), &other);
    }
    different(&trust(r#""a""#), &trust(r#""b""#));
    different(
        &statement(r#""Action":"sts:AssumeRole","NotPrincipal":"a""#),
        &statement(r#""Action":"sts:AssumeRole","NotPrincipal":"b""#),
    );
    different(&trust("{}"), &statement(r#""Action":"sts:AssumeRole""#));
    different(&trust(r#"{"AWS":[]}"#), &statement(r#""Action":"sts:AssumeRole""#));
}

#[test]
fn all_principal_types_count() {
    different(&trust(r#"{"CanonicalUser":"a"}"#), &trust(r#"{"CanonicalUser":"b"}"#));
    different(&trust(r#"{"Unheard":"a"}"#), &trust(r#"{"Unheard":"b"}"#));
    different(&trust(r#"{"AWS":"1","Unheard":"b"}"#), &trust(r#"{"AWS":"1"}"#));
    different(&trust(r#"{"AWS":"a"}"#), &trust(r#"{"Service":"a"}"#));
    different(
        &trust(r#"{"AWS":"arn:aws:iam::123456789012:role/A"}"#),
        &trust(r#"{"AWS":"arn:aws:iam::123456789012:role/a"}"#),
    );
}

#[test]
fn a_condition_without_content_is_none() {
    for empty in ["{}", r#"{"StringEquals":{}}"#, r#"{"StringEquals":{"a:b":[]}}"#, r#"{"StringEquals":{"a:b":null}}"#]
    {
        equal(&condition(empty), &permission(""));
    }
    for full in [r#"{"StringEquals":{"a:b":""}}"#, r#"{"StringEquals":{"a:b":[""]}}"#, r#"{"Null":{"a:b":"true"}}"#] {
        different(&condition(full), &permission(""));
    }
}

#[test]
fn condition_values_are_text() {
    let value = |operator: &str, value: &str| condition(&format!(r#"{{"{operator}":{{"a:b":{value}}}}}"#));
    for (operator, a, b) in [
        ("Bool", "true", r#""true""#),
        ("Bool", "true", r#""True""#),
        ("BoolIfExists", r#""FALSE""#, "false"),
        ("Null", "true", r#""TRUE""#),
        ("NumericEquals", "1", r#""1""#),
        ("NumericEquals", "1.0", r#""1""#),
        ("NumericEquals", r#""1.0""#, "1"),
        ("NumericEquals", "9007199254740993", r#""9007199254740993""#),
        ("StringEquals", "1", r#""1""#),
        ("StringEquals", "true", r#""true""#),
        ("DateEquals", "1372550400", r#""1372550400""#),
        ("StringEqualsIgnoreCase", r#""Ab""#, r#""aB""#),
        ("StringEquals", r#""\u0041\/""#, r#""A/""#),
    ] {
        equal(&value(operator, a), &value(operator, b));
    }
    for (operator, a, b) in [
        ("Bool", "true", "false"),
        ("StringEquals", "true", r#""True""#),
        ("StringEquals", "1.0", r#""1""#),
        ("StringEquals", r#""Ab""#, r#""ab""#),
        ("StringLike", r#""Ab*""#, r#""ab*""#),
        ("ArnLike", r#""arn:A""#, r#""arn:a""#),
        ("NumericEquals", "1", "1.01"),
        ("NumericEquals", "-1", "1"),
        ("NumericEquals", "9007199254740993", "9007199254740992"),
        ("NumericEquals", "9007199254740993", r#""9007199254740992""#),
        ("StringEquals", "null", r#""null""#),
        ("StringEquals", "{}", r#""{}""#),
        ("StringEquals", "[null]", "[]"),
        ("StringEquals", r#"[["x"]]"#, r#"["x"]"#),
        ("IpAddress", r#""10.0.0.0/8""#, r#""10.0.0.0/9""#),
    ] {
        different(&value(operator, a), &value(operator, b));
    }
}

#[test]
fn case_matters_where_iam_says_so() {
    equal(
        &statement(r#""Action":"S3:getobject","Resource":"*""#),
        &statement(r#""Action":"s3:GetObject","Resource":"*""#),
    );
    equal(
        &condition(r#"{"StringEquals":{"aws:SourceArn":"x"}}"#),
        &condition(r#"{"StringEquals":{"AWS:sourcearn":"x"}}"#),
    );
    different(
        &statement(r#""Action":"s3:*","Resource":"arn:aws:s3:::A""#),
        &statement(r#""Action":"s3:*","Resource":"arn:aws:s3:::a""#),
    );
    different(&condition(r#"{"StringEquals":{"a:b":"x"}}"#), &condition(r#"{"stringequals":{"a:b":"x"}}"#));
    different(&permission(""), &permission("").replace("Allow", "allow"));
    different(&permission(""), &permission("").replace("Action", "action"));
    different(&permission(r#","Sid":"A""#), &permission(r#","Sid":"a""#));
}

#[test]
fn versions() {
    let document = |version: &str| {
        format!(
            r#"{{{version}"Statement":{{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::${{aws:username}}"}}}}"#
        )
    };
    equal(&document(""), &document(r#""Version":"2008-10-17","#));
    different(&document(""), &document(r#""Version":"2012-10-17","#));
    different(&document(r#""Version":"2008-10-17","#), &document(r#""Version":"2012-10-17","#));
    different(&document(r#""Version":"2030-01-01","#), &document(r#""Version":"2012-10-17","#));
    different(&document(r#""Version":2012,"#), &document(""));
    different(&document(r#""Version":null,"#), &document(""));
}

#[test]
fn names() {
    equal(&permission(r#","Sid":"""#), &permission(""));
    different(&permission(r#","Sid":"A""#), &permission(""));
    let document = |id: &str| format!(r#"{{{id}"Statement":[]}}"#);
    equal(&document(r#""Id":"","#), &document(""));
    different(&document(r#""Id":"a","#), &document(""));
    different(&document(r#""Id":"a","#), &document(r#""Id":"b","#));
}

#[test]
fn not_is_never_the_positive_form() {
    different(&statement(r#""Action":"s3:*","Resource":"*""#), &statement(r#""NotAction":"s3:*","Resource":"*""#));
    different(&statement(r#""Action":"s3:*","Resource":"*""#), &statement(r#""Action":"s3:*","NotResource":"*""#));
    different(
        &statement(r#""Action":"sts:AssumeRole","Principal":{"AWS":"123456789012"}"#),
        &statement(r#""Action":"sts:AssumeRole","NotPrincipal":{"AWS":"123456789012"}"#),
    );
    different(&permission(""), &permission("").replace("Allow", "Deny"));
}

#[test]
fn keys_have_no_order_and_white_space_no_meaning() {
    equal(
        "\n{ \"Statement\" : [ {\"Resource\":\"*\",\t\"Action\":\"s3:*\",\"Effect\":\"Allow\"} ],\r\n\"Version\":\"2012-10-17\" } ",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#,
    );
}

#[test]
fn what_is_not_understood_stays_in_the_comparison() {
    let plain = permission("");
    for rest in [
        r#","Comment":"x""#,
        r#","Effect":"Allow""#,
        r#","NotAction":"s3:*""#,
        r#","Condition":[]"#,
        r#","Condition":{"StringEquals":"x"}"#,
        r#","Condition":{"StringEquals":{"a:b":"x","A:B":"y"}}"#,
        r#","Condition":{"StringEquals":{"a:b":"x"},"StringEquals":{"c:d":"x"}}"#,
        r#","Condition":{"Unheard":{"a:b":"x"}}"#,
        r#","Principal":null"#,
        r#","Sid":null"#,
        r#","Sid":1"#,
    ] {
        different(&plain, &permission(rest));
        equal(&permission(rest), &permission(rest));
    }
    different(&permission(r#","Comment":"x""#), &permission(r#","Comment":"y""#));
    different(&statement(r#""Action":{},"Resource":"*""#), &statement(r#""Action":{"a":1},"Resource":"*""#));
    different(
        &statement(r#""Action":"s3:*","Action":"s3:Get*","Resource":"*""#),
        &statement(r#""Action":"s3:Get*","Resource":"*""#),
    );
    // Of a key that is there twice it is not known which one counts, or whether both do.
    let two = r#"{"StringEquals":{"a:b":"x"},"StringEquals":{"c:d":"x"}}"#;
    for one in [
        r#"{"StringEquals":{"a:b":"x"}}"#,
        r#"{"StringEquals":{"c:d":"x"}}"#,
        r#"{"StringEquals":{"a:b":"x","c:d":"x"}}"#,
    ] {
        different(&condition(two), &condition(one));
    }
    for one in [r#"{"AWS":"1"}"#, r#"{"AWS":"2"}"#, r#"{"AWS":["1","2"]}"#] {
        different(&trust(r#"{"AWS":"1","AWS":"2"}"#), &trust(one));
    }
    different(&permission(r#","Sid":"A","Sid":"B""#), &permission(r#","Sid":"B""#));
    let twice = permission("").replace("\"Version\"", "\"Version\":\"2008-10-17\",\"Version\"");
    different(&twice, &permission(""));
    // Keys of what is not understood have no order either.
    equal(&permission(r#","Comment":{"a":1,"b":2}"#), &permission(r#","Comment":{"b":2,"a":1}"#));
    for strange in [
        "",
        "{}",
        "[]",
        "null",
        "%7B",
        "{\"Statement\":null}",
        "{\"Statement\":[null]}",
        "{\"Statement\":[],\"Statement\":[]}",
        "{\"Statement\":[],\"Other\":1}",
        "%FF",
        "not a policy",
        "[{\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":\"*\"}]",
    ] {
        assert_eq!(read(strange), read(strange));
        different(strange, &plain);
        different(strange, "another text");
    }
}

#[test]
fn deleted_principals_are_named() {
    let alive = trust(r#"{"AWS":"arn:aws:iam::123456789012:role/web"}"#);
    let dead = trust(r#"{"AWS":["AROAEXAMPLEEXAMPLE123","AIDAEXAMPLEEXAMPLE123","123456789012"]}"#);
    different(&alive, &trust(r#"{"AWS":"AROAEXAMPLEEXAMPLE123"}"#));
    assert_eq!(read(&dead).dead_principals(), ["AIDAEXAMPLEEXAMPLE123", "AROAEXAMPLEEXAMPLE123"]);
    for text in
        [alive.as_str(), "no policy", &trust(r#"{"AWS":["AROA","AROAexampleexample","ANPAEXAMPLEEXAMPLE123"]}"#)]
    {
        assert!(read(text).dead_principals().is_empty(), "{text}");
    }
}

#[test]
fn aws_text_is_percent_decoded_and_never_form_decoded() {
    let document = permission(r#","Condition":{"StringLike":{"aws:PrincipalTag/a+b":"x+y z%20é%zz"}}"#);
    let encoded = encode(&document);
    assert_eq!(read(&encoded), read(&document));
    assert_ne!(read(&encoded.replace("%2B", "%20")), read(&document));
    // A plus sign that came through unencoded is a plus sign.
    assert_eq!(read(&encoded.replace("%2B", "+")), read(&document));
    // Encoded once more it is another text.
    assert_ne!(read(&encode(&encoded)), read(&document));
    // Lower-case digits are the same encoding; Latin-1 bytes that are no UTF-8 are no policy.
    assert_eq!(read(&encoded.replace("%C3%A9", "%c3%a9")), read(&document));
    assert_ne!(read(&encoded.replace("%C3%A9", "%E9")), read(&document));
}

#[test]
fn user_text_is_never_decoded() {
    let text = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*",
        "Resource":"arn:aws:s3:::b/%20+%2B é ${aws:username}"}]}"#;
    let document = Document::from_json(Grammar::Permission, "d", text, &Tokens::default()).unwrap();
    assert!(document.to_json().contains("b/%20+%2B é ${aws:username}"));
    let canonical = document.canonical(&account());
    assert_eq!(canonical, read(&encode(&document.to_json())));
    assert_eq!(canonical, read(&encode(text)));
}

#[test]
fn what_is_sent() {
    let document = |grammar, text: &str| Document::from_json(grammar, "d", text, &Tokens::default()).unwrap();
    let trust = document(
        Grammar::Trust,
        r#" {"Statement": {"Condition": {"StringEquals": {}, "Bool": {"aws:x": true}, "NumericLessThan": {"aws:n": 1.50}},
            "Principal": "*", "Action": ["sts:AssumeRole"], "Effect": "Deny", "Sid": ""}, "Id": "x\u0079", "Version": "2012-10-17"} "#,
    );
    assert_eq!(
        trust.to_json(),
        concat!(
            r#"{"Version":"2012-10-17","Id":"xy","Statement":[{"Effect":"Deny","Principal":{"AWS":"*"},"#,
            r#""Action":"sts:AssumeRole","Condition":{"Bool":{"aws:x":"true"},"NumericLessThan":{"aws:n":"1.50"}}}]}"#
        )
    );
    let permission = document(
        Grammar::Permission,
        r#"{"Version":"2008-10-17","Statement":[{"Sid":"A","Effect":"Allow","NotAction":["a:B","c:D"],"NotResource":"*"}]}"#,
    );
    assert_eq!(
        permission.to_json(),
        r#"{"Version":"2008-10-17","Statement":[{"Sid":"A","Effect":"Allow","NotAction":["a:B","c:D"],"NotResource":"*"}]}"#
    );
    assert_eq!(permission.size(), permission.to_json().len());
}

#[test]
fn sizes_count_characters_without_white_space() {
    let text = |resource: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::{resource}"}}]}}"#
        )
    };
    let size = |resource: &str| {
        let document = Document::from_json(Grammar::Permission, "d", &text(resource), &Tokens::default());
        document.unwrap().size()
    };
    assert_eq!(size("ab"), text("ab").len());
    assert_eq!(size("a b"), size("ab"));
    assert_eq!(size("éé"), size("ab"));
}

#[test]
fn debug_forms_tell_no_text() {
    let text = trust(r#"{"AWS":"123456789012"}"#);
    let document = Document::from_json(Grammar::Trust, "d", &text, &Tokens::default()).unwrap();
    let (debug, statement) = (format!("{document:?}"), format!("{:?}", document.statements()[0]));
    assert_eq!(debug, format!("Document {{ grammar: Trust, size: {}, .. }}", document.size()));
    assert_eq!(statement, r#"Statement { path: "d.Statement[0]", effect: Allow, .. }"#);
    assert_eq!(format!("{:?}", read(&text)), "Canonical(1 statements)");
    assert_eq!(format!("{:?}", read("secret")), "Canonical(no policy, 6 bytes)");
}

#[test]
fn the_canonical_text_of_the_deepest_document_is_readable() {
    let nested =
        |around: &str, levels: usize| around.replace('#', &format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    for around in [
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","What":#}}"#,
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","What":#}]}"#,
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","What":#},{"Effect":"Deny"}]}"#,
        r#"{"Version":"2012-10-17","Statement":[#]}"#,
        r#"{"Version":"2012-10-17","Statement":"x","What":#}"#,
        r#"{"Version":"2012-10-17","Statement":[],"What":#}"#,
        "[#]",
    ] {
        for levels in 58..=65 {
            let canonical = read(&nested(around, levels));
            let again = read(&canonical.to_json());
            assert!(again == canonical, "{around} {levels}");
            assert_eq!(again.to_json(), canonical.to_json());
        }
    }
}

#[test]
fn what_the_grammar_does_not_have_is_not_understood() {
    let trust = trust(ROOT);
    let permission = permission("");
    for (text, grammar, other) in
        [(&trust, Grammar::Trust, Grammar::Permission), (&permission, Grammar::Permission, Grammar::Trust)]
    {
        let (known, unknown) = (Canonical::read(grammar, text, &account()), Canonical::read(other, text, &account()));
        assert!(known != unknown);
        assert_eq!(unknown, Canonical::read(other, &unknown.to_json(), &account()));
        // Whoever is taken from it, nobody can tell that it narrows.
        let none = Canonical::read(other, r#"{"Version":"2012-10-17","Statement":[]}"#, &account());
        assert_eq!(relation(&unknown, &none), Relation::Alters);
        assert_eq!(relation(&known, &none), Relation::Narrows);
    }
}
