//! What is refused, with the place, what is wrong, and what is right.
//!
//! Tables are lines of `JSON => PLACE => PART OF THE MESSAGE`; the place `-` is the object itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use iamrole_operator::policy::{Document, Finding, Grammar, Tokens};
use serde_json::{Value, json};

fn tokens() -> Tokens {
    let mut tokens = Tokens::default();
    tokens.set("account", "111122223333").set("partition", "aws").set("oidcIssuer", "oidc.example.com/id/X");
    tokens
}

fn lines(result: Result<Document, Vec<Finding>>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(findings) => findings.iter().map(Finding::to_string).collect(),
    }
}

/// The findings of a value. Those of its text have to be the same, but for line and column.
#[track_caller]
fn findings(grammar: Grammar, value: &Value) -> Vec<String> {
    let from_value = lines(Document::from_value(grammar, "doc", value, &tokens()));
    let text = value.to_string();
    let from_text = lines(Document::from_json(grammar, "doc", &text, &tokens()));
    let bare = |line: &String| line.split(" (line 1, column ").next().unwrap().to_owned();
    assert_eq!(from_value, from_text.iter().map(bare).collect::<Vec<_>>());
    from_value
}

#[track_caller]
fn accepts(grammar: Grammar, value: &Value) {
    assert_eq!(findings(grammar, value), Vec::<String>::new(), "{value}");
}

/// Exactly one finding, at this place and with this in its message.
#[track_caller]
fn refuses(grammar: Grammar, value: &Value, place: &str, message: &str) {
    let found = findings(grammar, value);
    assert_eq!(found.len(), 1, "{value}: {found:#?}");
    let (path, text) = found[0].split_once(": ").unwrap();
    assert_eq!(path, format!("doc{place}"), "{}", found[0]);
    assert!(text.contains(message), "{}", found[0]);
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
}

/// Each row is refused; `document` puts its value into a document at the place `path`.
#[track_caller]
fn refuses_all(grammar: Grammar, path: &str, table: &str, document: impl Fn(Value) -> Value) {
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let [value, place, message] = row.split(" => ").collect::<Vec<_>>()[..] else {
            panic!("not a row: {row}");
        };
        let place = place.trim_start_matches('-');
        let value = document(serde_json::from_str(value).unwrap());
        refuses(grammar, &value, &format!("{path}{place}"), message);
    }
}

/// An object in which some members are replaced, or left out where they are `"absent"`.
fn changed(mut object: Value, change: &Value) -> Value {
    let members = object.as_object_mut().unwrap();
    for (key, value) in change.as_object().unwrap() {
        members.insert(key.clone(), value.clone());
    }
    members.retain(|_, value| value != "absent");
    object
}

fn document(statement: &Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": [statement]})
}

/// A permission policy with a changed statement.
fn permission(change: &Value) -> Value {
    let statement = json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"});
    document(&changed(statement, change))
}

/// A trust policy with a changed statement.
fn trust(change: &Value) -> Value {
    let principal = json!({"AWS": "123456789012"});
    let statement = json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal});
    document(&changed(statement, change))
}

const STATEMENT: &str = ".Statement[0]";

#[test]
fn plain_documents_pass() {
    accepts(Grammar::Permission, &permission(&json!({})));
    accepts(Grammar::Trust, &trust(&json!({})));
    let statement =
        json!({"Sid": "A1", "Effect": "Deny", "NotAction": ["STS:assumerole", "sts:Tag*"], "NotPrincipal": "*"});
    let old = json!({"Version": "2008-10-17", "Id": "x", "Statement": statement});
    accepts(Grammar::Trust, &old);
}

#[test]
fn top_level() {
    let table = r#"
        {"Version": "absent"} => - => `Version` is missing, which AWS takes for 2008-10-17; write "Version": "2012-10-17", which means the same here
        {"Statement": "absent"} => - => `Statement` is missing
        {"Statement": "absent", "statement": []} => .statement => unknown key; did you mean `Statement`?
        {"Statement": "absent", "Statements": []} => .Statements => did you mean `Statement`?
        {"Comment": "x"} => .Comment => unknown key; known here are `Version`, `Id`, `Statement`
        {"a b\n": "x"} => ["a b\n"] => unknown key
        {"Id": "x"} => .Id => a permission policy has no `Id`; leave it out
        {"Version": "2012-10-18"} => .Version => `2012-10-18` is no version of the policy language; write
        {"Version": "2008-10-7"} => .Version => write "Version": "2008-10-17"
        {"Version": "20121017"} => .Version => write "Version": "2012-10-17"
        {"Version": 2012} => .Version => a number, where text is expected; write "Version": "2012-10-17"
        {"Version": null} => .Version => null, where text is expected; write "Version": "2012-10-17"
        {"Statement": []} => .Statement => an empty list
        {"Statement": "x"} => .Statement => text, where an object is expected
        {"Statement": [["x"]]} => .Statement[0] => a list, where an object is expected
    "#;
    refuses_all(Grammar::Permission, "", table, |change| changed(permission(&json!({})), &change));
    let table = r#"
        [{"Version": "2012-10-17"}] => - => a list; a policy document is one object, with the list under `Statement`
        "x" => - => text, where an object is expected
        null => - => null, where an object is expected
    "#;
    refuses_all(Grammar::Permission, "", table, |document| document);
    accepts(Grammar::Trust, &changed(trust(&json!({})), &json!({"Id": ""})));
    let id = changed(trust(&json!({})), &json!({"Id": 1}));
    refuses(Grammar::Trust, &id, ".Id", "a number, where text is expected");
}

#[test]
fn statement_keys() {
    let table = r#"
        {"action": "s3:Get", "Action": "absent"} => .action => unknown key; did you mean `Action`?
        {"Actions": "s3:Get", "Action": "absent"} => .Actions => did you mean `Action`?
        {"condition": {}} => .condition => unknown key; did you mean `Condition`?
        {"Conditions": {}} => .Conditions => did you mean `Condition`?
        {"SID": "a"} => .SID => did you mean `Sid`?
        {"Comment": "a"} => .Comment => unknown key; known here are `Sid`, `Effect`,
        {"Effect": "absent"} => - => `Effect` is missing; write `Allow` or `Deny`
        {"Effect": "allow"} => .Effect => `allow` is no effect; write `Allow`, case matters here
        {"Effect": "Maybe"} => .Effect => `Maybe` is no effect; write `Allow` or `Deny`
        {"Effect": true} => .Effect => a boolean, where text is expected
        {"Action": "absent"} => - => `Action` is missing; a statement has `Action` or `NotAction`
        {"NotAction": "s3:Get"} => - => both `Action` and `NotAction`
        {"Resource": "absent"} => - => `Resource` is missing
        {"NotResource": "*"} => - => both `Resource` and `NotResource`
        {"Sid": "a b"} => .Sid => `a b` is no Sid; a Sid has only letters A-Z, a-z and digits
        {"Sid": 1} => .Sid => a number, where text is expected
        {"Principal": "*"} => .Principal => a permission policy names no principal
        {"NotPrincipal": "*"} => .NotPrincipal => a permission policy names no principal
    "#;
    refuses_all(Grammar::Permission, STATEMENT, table, |change| permission(&change));
    let table = r#"
        {"Principal": "absent"} => - => `Principal` is missing; a statement has `Principal` or `NotPrincipal`
        {"Effect": "Deny", "NotPrincipal": {"AWS": "*"}} => - => both `Principal` and `NotPrincipal`
        {"Principal": "absent", "NotPrincipal": {"AWS": "123456789012"}} => - => `NotPrincipal` with `Allow` lets in everybody
        {"Resource": "*"} => .Resource => a trust policy names no resource
        {"NotResource": "*"} => .NotResource => a trust policy names no resource
    "#;
    refuses_all(Grammar::Trust, STATEMENT, table, |change| trust(&change));
}

#[test]
fn repeated_sids() {
    let statement = |sid: &str| json!({"Sid": sid, "Effect": "Allow", "Action": "s3:*", "Resource": "*"});
    let document = |sids: [&str; 3]| json!({"Version": "2012-10-17", "Statement": sids.map(statement)});
    accepts(Grammar::Permission, &document(["", "", "A"]));
    accepts(Grammar::Permission, &document(["a", "A", "b"]));
    let twice = document(["A", "b", "A"]);
    refuses(Grammar::Permission, &twice, ".Statement[2].Sid", "the Sid `A` is there twice");
}

#[test]
fn actions() {
    for action in ["*", "s3:*", "s3:Get?bject*", "aws-portal:View*", "*:*", "SSO-Directory:x", "a4b:Get"] {
        accepts(Grammar::Permission, &permission(&json!({"Action": action})));
        let not = json!({"Action": "absent", "NotAction": [action]});
        accepts(Grammar::Permission, &permission(&not));
    }
    let table = r#"
        "s3" => .Action => `s3` is no action; write `SERVICE:ACTION`
        "" => .Action => `` is no action
        ":Get" => .Action => is no action
        "s3:" => .Action => is no action
        "s3::GetObject" => .Action => `s3::GetObject` has two colons; write `SERVICE:ACTION`, here `s3:GetObject`
        "s3::" => .Action => after the colon an action has only letters
        "::Get" => .Action => is no action
        "s3:Get:x" => .Action => after the colon an action has only letters
        "s3:Get Object" => .Action => after the colon an action has only letters
        " s3:Get" => .Action => the service before the colon
        "s*:Get" => .Action => no wildcards
        ["s3:Get", "${aws:x}"] => .Action[1] => `${aws:x}`: the service before the colon
        [] => .Action => an empty list; give it a value or leave the key out
        {} => .Action => an object, where text is expected
        1 => .Action => a number, where text is expected
        null => .Action => null, where text is expected
        ["s3:Get", null] => .Action[1] => null, where text is expected
        [["s3:Get"]] => .Action[0] => a list inside a list
    "#;
    let with = |action| permission(&json!({"Action": action}));
    refuses_all(Grammar::Permission, STATEMENT, table, with);
    for action in [
        "sts:AssumeRole",
        "STS:assumerole",
        "sts:AssumeRolewithSAML",
        "sts:AssumeRoleWithWebIdentity",
        "sts:AssumeRoot",
        "sts:*",
        "sts:TagSession",
        "sts:SetSourceIdentity",
        "sts:SetContext",
        "sts:GetCallerIdentity",
        "sts:AssumeRol?",
        "sts:AssumeRol*",
        "sts:Assume*Saml",
        "sts:AssumeRoleV2",
        "sts:AssumeRoot2",
        "sts:Nonsense",
        "sts:Nonsense*",
    ] {
        accepts(Grammar::Trust, &trust(&json!({"Action": action})));
    }
    let table = r#"
        ["sts:TagSession", "*"] => .Action[1] => `*` in a trust policy, which takes actions of sts only
        ["sts:TagSession", "s3:GetObject"] => .Action[1] => which takes actions of sts only
        "st*:AssumeRole" => .Action => which takes actions of sts only
        "sts" => .Action => which takes actions of sts only
        "sté" => .Action => which takes actions of sts only
        "sts:" => .Action => `sts:` is no action
        "sts::AssumeRole" => .Action => here `sts:AssumeRole`
        "sts:AssumeRol" => .Action => `sts:AssumeRol` is no action of sts; did you mean `sts:AssumeRole`?
        "sts:assumerolle" => .Action => did you mean `sts:AssumeRole`?
        "sts:AssumeRoleWithWebIdendity" => .Action => did you mean `sts:AssumeRoleWithWebIdentity`?
        ["sts:TagSession", "sts:TagSessions"] => .Action[1] => did you mean `sts:TagSession`?
    "#;
    refuses_all(Grammar::Trust, STATEMENT, table, |action| trust(&json!({"Action": action})));
}

#[test]
fn resources() {
    for resource in [
        "*",
        "arn:aws:s3:::bucket/*",
        "arn:*:s3:::b",
        "arn:aws*:s3:::b",
        "arn:aws-iso-b:s3:::b",
        "arn:aws-new-2:ec2:*:*:instance/*",
        "arn:aws:organizations::*:",
        "arn:aws:s3:*",
        "arn:aws:s3:::${aws:username}/a:b",
        "arn:aws:s3:*:*:*",
        "arn:aws:s3::123456789012:b",
        "arn:aws:s3:*:*:accesspoint/a",
        "arn:aws:s3:eu-central-1:123456789012:accesspoint/a/object/*",
        "arn:aws:s3:*:123456789012:storage-lens-group/a",
        "arn:aws:s3:eu-central-1:123456789012:brand-new/a",
        "arn:aws:s3-outposts:eu-central-1:123456789012:outpost/op-1/bucket/b",
        "arn:aws:s3:eu-central-1:123456789012:${aws:username}",
        "arn:aws:iam::*:root",
        "arn:aws:iam::aws:policy/*",
        "arn:aws:iam::123456789012:*",
        "arn:aws:iam::123456789012:r*",
        "arn:aws:iam:*:123456789012:role/a",
        "arn:aws:iam::${aws:PrincipalAccount}:role/a",
        "arn:aws:iam::${aws:PrincipalAccount}:root",
        "arn:aws:s3:us-west-2:${aws:PrincipalAccount}:accesspoint/ap",
        "arn:aws:s3:*:${aws:PrincipalAccount}:job/*",
        "arn:aws:s3:${aws:RequestedRegion}:123456789012:accesspoint/ap",
        "arn:*:kms:*:${aws:PrincipalAccount}:key/*",
        "arn:aws:iam::*:role-template/a",
        "arn:aws:iam::123456789012:brand-new/a",
        "arn:aws:iam::123456789012:sms-mfa/a",
        "arn:aws:iam::123456789012:${aws:x}/a",
        "arn:aws:iam:*",
    ] {
        accepts(Grammar::Permission, &permission(&json!({"Resource": resource})));
        let not = json!({"Resource": "absent", "NotResource": resource});
        accepts(Grammar::Permission, &permission(&not));
    }
    let table = r#"
        "bucket" => .Resource => `bucket` is no resource; write an ARN, or `*` for all
        "" => .Resource => `` is no resource
        "s3:::bucket" => .Resource => is no resource
        "arn:aws:s3" => .Resource => `arn:aws:s3` is no ARN; an ARN has six parts, `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`, this has 3
        [] => .Resource => an empty list
        ["*", 5] => .Resource[1] => a number
        "arn:::::" => .Resource => `` is no partition; write `aws`, `aws-cn`
        "arn:amazon:s3:::b" => .Resource => `amazon` is no partition
        "arn:AWS:s3:::b" => .Resource => `AWS` is no partition
        "arn:aws-:s3:::b" => .Resource => `aws-` is no partition
        "arn:s3:::b" => .Resource => `s3` is no partition
        "arn:${aws:Partition}:s3:::b" => .Resource => is no partition
        "arn:*" => .Resource => the service of an ARN is written in full
        "arn:aws::::b" => .Resource => the service of an ARN is written in full
        "arn:aws:*:*:*:*" => .Resource => the service of an ARN is written in full
        "arn:aws:s3*" => .Resource => the service of an ARN is written in full
        "arn:aws:${aws:x}:::b" => .Resource => the service of an ARN is written in full
        "arn:aws:iam:us-east-1:123456789012:role/a" => .Resource => IAM has no regions
        "arn:aws:iam::123456789012:" => .Resource => write its kind before its name
        "arn:aws:iam::123456789012:web" => .Resource => iam::ACCOUNT:role/NAME
        "arn:aws:iam::123456789012:role" => .Resource => iam::ACCOUNT:role/NAME
        "arn:aws:iam::123456789012:/role/a" => .Resource => iam::ACCOUNT:role/NAME
        "arn:aws:iam::123456789012:users/a" => .Resource => iam::ACCOUNT:user/NAME
        "arn:aws:iam::123456789012:Policy/a" => .Resource => iam::ACCOUNT:policy/NAME
        "arn:aws:s3:eu-central-1::b/*" => .Resource => a bucket has no region
        "arn:aws:s3:eu-central-1:123456789012:b" => .Resource => a bucket has no region
        "arn:aws:s3:*:*:b.example/*" => .Resource => a bucket has no region
    "#;
    let with = |resource| permission(&json!({"Resource": resource}));
    refuses_all(Grammar::Permission, STATEMENT, table, with);
}

#[test]
fn principals() {
    for principal in [
        json!("*"),
        json!({"AWS": "*"}),
        json!({"AWS": ["123456789012", "012345670123"]}),
        json!({"AWS": "arn:aws:iam::123456789012:root"}),
        json!({"AWS": "arn:aws-us-gov:iam::123456789012:role/path/x"}),
        json!({"AWS": "arn:aws-new-2:iam::123456789012:role/x"}),
        json!({"AWS": "arn:aws:iam::123456789012:user/x@y"}),
        json!({"AWS": "arn:aws:sts::123456789012:assumed-role/x/session"}),
        json!({"AWS": "arn:aws:sts::123456789012:federated-user/x"}),
        json!({"Service": ["ec2.amazonaws.com", "scraper.aps.aws.internal", "ec2.amazonaws.com.cn"]}),
        json!({"Federated": "arn:aws:iam::123456789012:oidc-provider/oidc.example.com/id/X"}),
        json!({"Federated": "arn:aws:iam::123456789012:saml-provider/x"}),
        json!({"Federated": "accounts.google.com", "CanonicalUser": "79a59df900b949e5"}),
    ] {
        accepts(Grammar::Trust, &trust(&json!({"Principal": principal})));
        let not = json!({"Principal": "absent", "NotPrincipal": principal, "Effect": "Deny"});
        accepts(Grammar::Trust, &trust(&not));
    }
    let table = r#"
        {} => - => an empty principal; name one
        [] => - => a list, where an object is expected
        null => - => null, where an object is expected
        "123456789012" => - => `123456789012` is no principal; write `*` or an object such as {"AWS": "…"}
        "ec2.amazonaws.com" => - => {"Service": "…"}
        "arn:aws:iam::123456789012:oidc-provider/x" => - => {"Federated": "…"}
        123456789012 => - => a number; write the account id in quotes: "123456789012"
        {"AWS": []} => .AWS => an empty list
        {"AWS": {}} => .AWS => an object, where text is expected
        {"AWS": [true]} => .AWS[0] => a boolean, where text is expected
        {"aws": "123456789012"} => .aws => unknown key; did you mean `AWS`?
        {"Services": "ec2.amazonaws.com"} => .Services => did you mean `Service`?
        {"Group": "x"} => .Group => unknown key; known here are `AWS`, `CanonicalUser`, `Federated`, `Service`
        {"AWS": [1402556499]} => .AWS[0] => a number; write the account id in quotes: "012345670123" (YAML turns an unquoted number with a leading zero into another number)
        {"AWS": "12345"} => .AWS => `12345`: an account id has 12 digits, this has 5
        {"AWS": ""} => .AWS => is no principal; write an account id of 12 digits
        {"AWS": "bob"} => .AWS => `bob` is no principal
        {"AWS": ["AROAEXAMPLEEXAMPLE123"]} => .AWS[0] => `AROAEXAMPLEEXAMPLE123` is a unique id; write the ARN of a role or user that exists: AWS shows ids for deleted principals
        {"AWS": "AIDAEXAMPLEEXAMPLE123"} => .AWS => write the ARN
        {"AWS": "ec2.amazonaws.com"} => .AWS => a service goes under `Service`
        {"AWS": "arn:aws:iam::123456789012:role/*"} => .AWS => a principal is `*` or has no wildcard; list the principals in full
        {"AWS": "arn:aws:iam::123456789012:role/a?"} => .AWS => has no wildcard
        {"AWS": "arn:aws:iam::*:root"} => .AWS => has no wildcard
        {"AWS": "arn:aws:iam::${aws:x}:root"} => .AWS => IAM replaces no variables in principals
        {"AWS": "arn:amazon:iam::123456789012:root"} => .AWS => `amazon` is no partition; write `aws`, `aws-cn`
        {"AWS": "arn:aws-:iam::123456789012:role/x"} => .AWS => `aws-` is no partition
        {"Federated": "arn:azure:iam::123456789012:saml-provider/x"} => .Federated => `azure` is no partition
        {"AWS": "arn:aws:iam::1234:root"} => .AWS => the account of the ARN is not an account id of 12 digits
        {"AWS": "arn:aws:iam::123456789012:saml-provider/x"} => .AWS => an identity provider goes under `Federated`
        {"AWS": "arn:aws:iam::123456789012:group/x"} => .AWS => write the ARN of an account
        {"AWS": "arn:aws:iam::123456789012:role/"} => .AWS => write the ARN of an account
        {"AWS": "arn:aws:iam::123456789012:role"} => .AWS => write the ARN of an account
        {"AWS": "arn:aws:iam::aws:role/x"} => .AWS => write the ARN of an account
        {"AWS": "arn:aws:sts::123456789012:assumed-role/x"} => .AWS => assumed-role/ROLE/SESSION
        {"AWS": "arn:aws:s3:::bucket"} => .AWS => write the ARN of an account
        {"Service": "ec2"} => .Service => `ec2` is no service principal; write one such as `ec2.amazonaws.com`
        {"Service": "*.amazonaws.com"} => .Service => has no wildcard
        {"Service": "123456789012"} => .Service => accounts, roles and users go under `AWS`
        {"Service": "arn:aws:iam::123456789012:root"} => .Service => go under `AWS`
        {"Federated": "https://oidc.example.com"} => .Federated => without `https://`
        {"Federated": "arn:aws:iam::123456789012:role/x"} => .Federated => roles and users go under `AWS`
        {"Federated": "arn:aws:iam::123456789012:oidc-provider/https://x.com"} => .Federated => without `https://`
        {"Federated": "arn:aws:iam::123456789012:oidc-provider/"} => .Federated => not the ARN of an identity provider
        {"Federated": "arn:aws:iam:::saml-provider/x"} => .Federated => not the ARN of an identity provider
        {"Federated": "token.actions.githubusercontent.com"} => .Federated => write its ARN
        {"Federated": "*"} => .Federated => everybody is written under `AWS`
        {"Service": "*"} => .Service => everybody is written under `AWS`
        {"Service": "ec2..amazonaws.com"} => .Service => no service principal
        {"Federated": "arn:aws:iam"} => .Federated => an ARN has six parts
        {"CanonicalUser": "a-b"} => .CanonicalUser => is no canonical user id
    "#;
    let with = |principal| trust(&json!({"Principal": principal}));
    refuses_all(Grammar::Trust, ".Statement[0].Principal", table, with);
}

#[test]
fn conditions() {
    for condition in [
        json!({}),
        json!({"StringEquals": {}}),
        json!({"StringEquals": {"aws:x": ["", "a"], "aws:y": "${aws:username}"}}),
        json!({"ForAnyValue:StringLikeIfExists": {"aws:x": "*"}}),
        json!({"ForAllValues:ArnNotEquals": {"aws:x": "arn:aws:iam::123456789012:role/*"}}),
        json!({"Bool": {"aws:x": true, "aws:y": "false"}, "Null": {"aws:z": [true]}}),
        json!({"NumericLessThanIfExists": {"s3:max-keys": [10, "11"]}}),
        json!({"DateGreaterThan": {"aws:CurrentTime": 1_372_550_400}}),
        json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}, "BinaryEquals": {"a:b": "QmFzZQ=="}}),
    ] {
        accepts(Grammar::Permission, &permission(&json!({"Condition": condition})));
    }
    let table = r#"
        [] => - => a list, where an object is expected
        {"StringEquals": "x"} => .StringEquals => text, where an object is expected
        {"StringEquals": [{"aws:x": "y"}]} => .StringEquals => a list, where an object is expected
        {"stringEquals": {"aws:x": "y"}} => .stringEquals => unknown condition operator; did you mean `StringEquals`?
        {"StringEqual": {"aws:x": "y"}} => .StringEqual => did you mean `StringEquals`?
        {"ForAnyValue:StringLikes": {"aws:x": "y"}} => ["ForAnyValue:StringLikes"] => did you mean `ForAnyValue:StringLike`?
        {"NullIfExists": {"aws:x": "true"}} => .NullIfExists => write `Null`
        {"aws:SourceArn": "x"} => ["aws:SourceArn"] => unknown condition operator `aws:SourceArn`; operators are
        {"StringEquals": {"SourceArn": "x"}} => .StringEquals.SourceArn => a key begins with its service or provider
        {"StringEquals": {"aws:x": []}} => .StringEquals["aws:x"] => an empty list
        {"StringEquals": {"aws:x": null}} => .StringEquals["aws:x"] => null, where text is expected
        {"StringEquals": {"aws:x": {}}} => .StringEquals["aws:x"] => an object, where text is expected
        {"StringEquals": {"aws:x": [["y"]]}} => .StringEquals["aws:x"][0] => a list, where text is expected
        {"StringEquals": {"aws:x": ["y", 5]}} => .StringEquals["aws:x"][1] => a number, where this operator compares text; write the value in quotes
        {"StringLike": {"aws:x": true}} => .StringLike["aws:x"] => a boolean, where this operator compares text
        {"ArnLike": {"aws:x": ["arn:aws:s3:::b", "123456789012"]}} => .ArnLike["aws:x"][1] => no value for this operator; write an ARN
        {"ForAnyValue:ArnNotEqualsIfExists": {"aws:x": "x*"}} => ["ForAnyValue:ArnNotEqualsIfExists"]["aws:x"] => write an ARN
        {"BinaryEquals": {"a:b": "no base64"}} => .BinaryEquals["a:b"] => no value for this operator; write base64
        {"ArnLike": {"aws:x": 5}} => .ArnLike["aws:x"] => a number, where
        {"IpAddress": {"aws:x": 5}} => .IpAddress["aws:x"] => a number, where
        {"NumericEquals": {"aws:x": true}} => .NumericEquals["aws:x"] => a boolean, where
        {"Bool": {"aws:x": 1}} => .Bool["aws:x"] => a number, where
        {"StringEquals": {"AWS:x": "a", "aws:X": "b"}} => .StringEquals["aws:X"] => the key is there twice (case doesn't matter in condition keys)
    "#;
    let with = |condition| permission(&json!({"Condition": condition}));
    refuses_all(Grammar::Permission, ".Statement[0].Condition", table, with);
}

#[test]
fn characters() {
    let fine = "arn:aws:s3:::b/ÿ\u{a0}\u{7f}\t\r\n ~";
    accepts(Grammar::Permission, &permission(&json!({"Resource": fine})));
    let table = r#"
        "\u2028" => - => IAM refuses the character U+2028; allowed are tab, line feed, carriage return and U+0020
        "—" => - => U+2014
        "Ā" => - => U+0100
        "\u0000" => - => U+0000
        "😀" => - => U+1F600
    "#;
    let resource = |text: Value| {
        let arn = format!("arn:aws:s3:::b/{}", text.as_str().unwrap());
        permission(&json!({"Resource": [arn]}))
    };
    refuses_all(Grammar::Permission, ".Statement[0].Resource[0]", table, resource);
    let value = |text| permission(&json!({"Condition": {"StringEquals": {"aws:x": text}}}));
    let place = ".Statement[0].Condition.StringEquals[\"aws:x\"]";
    refuses_all(Grammar::Permission, place, table, value);
    let table = r#"
        {"StringEquals": {"aws:—": "x"}} => .StringEquals["aws:—"] => U+2014
    "#;
    let with = |condition| permission(&json!({"Condition": condition}));
    refuses_all(Grammar::Permission, ".Statement[0].Condition", table, with);
}

#[test]
fn tokens_are_replaced_everywhere() {
    let statement = r#"{"Sid": "A$(account)", "Effect": "Allow", "Action": "sts:AssumeRole*",
        "Principal": {"Federated": "arn:$(partition):iam::$(account):oidc-provider/$(oidcIssuer)", "AWS": ["$(account)"]},
        "Condition": {"StringEquals": {"$(oidcIssuer):sub": "$$(account)", "aws:x": "${aws:y/$(partition)}"}}}"#;
    let value = document(&serde_json::from_str(statement).unwrap());
    let sent = Document::from_value(Grammar::Trust, "doc", &value, &tokens()).unwrap().to_json();
    let expected = r#"{"Sid": "A111122223333", "Effect": "Allow", "Action": "sts:AssumeRole*",
        "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/oidc.example.com/id/X", "AWS": "111122223333"},
        "Condition": {"StringEquals": {"oidc.example.com/id/X:sub": "$(account)", "aws:x": "${aws:y/aws}"}}}"#;
    let expected = document(&serde_json::from_str(expected).unwrap());
    assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), expected);
    let table = r#"
        {"Principal": {"AWS": "$(acount)"}} => .Principal.AWS => unknown token `$(acount)`; known are `$(account)`, `$(oidcIssuer)`, `$(partition)`
        {"Condition": {"StringEquals": {"$(x):sub": "y"}}} => .Condition.StringEquals["$(x):sub"] => unknown token `$(x)`
        {"Condition": {"StringEquals": {"aws:x": "$(y"}}} => .Condition.StringEquals["aws:x"] => `$(` without `)`
        {"Condition": {"StringEquals": {"$(oidcIssuer):sub": "a", "oidc.example.com/id/x:sub": "b"}}} => .Condition.StringEquals["oidc.example.com/id/x:sub"] => the key is there twice
    "#;
    refuses_all(Grammar::Trust, STATEMENT, table, |change| trust(&change));
}

#[test]
fn what_a_token_brings_is_checked() {
    let mut tokens = Tokens::default();
    tokens.set("account", "*");
    let value = trust(&json!({"Principal": {"AWS": "arn:aws:iam::$(account):root"}}));
    let found = lines(Document::from_value(Grammar::Trust, "doc", &value, &tokens));
    assert!(found[0].contains("has no wildcard"), "{found:?}");
}

#[test]
fn text_has_line_and_column() {
    let parse = |text: &str| lines(Document::from_json(Grammar::Trust, "doc", text, &tokens()));
    let text = r#"{
  "Version": "2012-10-17",
  "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
    "Principal": {"AWS": ["ü", 012345670123]}
}]}"#;
    let zero = "doc: no JSON: a number with a leading zero; an account id is text, in quotes (line 4, column 32)";
    assert_eq!(parse(text), [zero]);
    let found = parse(&text.replace("012345670123", "123456789012"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("doc.Statement[0].Principal.AWS[0]: `ü` is no principal"), "{found:?}");
    assert!(found[0].ends_with(" (line 4, column 27)"), "{found:?}");
    assert!(found[1].starts_with("doc.Statement[0].Principal.AWS[1]: a number"), "{found:?}");
    assert!(found[1].ends_with(" (line 4, column 32)"), "{found:?}");
    for (text, expected) in [
        ("", "doc: no JSON: a value is expected, not the end of the text (line 1, column 1)"),
        (
            "%7B%22Version%22",
            "doc: no JSON: a value is expected, not `%`; the text is percent-encoded, write it as plain JSON (line 1, column 1)",
        ),
    ] {
        assert_eq!(parse(text), [expected]);
    }
}

#[test]
fn nesting_is_limited() {
    let deep = "[".repeat(1000);
    let found = lines(Document::from_json(Grammar::Trust, "doc", &deep, &tokens()));
    assert_eq!(found, ["doc: no JSON: nested deeper than 64 levels (line 1, column 66)"]);
    let mut deep = json!(0);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let found = lines(Document::from_value(Grammar::Trust, "doc", &deep, &tokens()));
    assert_eq!(found, ["doc: nested deeper than 64 levels"]);
}

#[test]
fn duplicate_keys_at_every_level() {
    let table = r#"
        "Version":"2012-10-17","Statement":{A,P} => .Version
        "Statement":{A,P},"Statement":{A,P} => .Statement
        "Statement":{A,P,A} => .Statement.Action
        "Statement":{A,"Principal":{"AWS":"*","AWS":"123456789012"}} => .Statement.Principal.AWS
        "Statement":{A,P,"Condition":{"Bool":{"aws:x":"true"},"Bool":{}}} => .Statement.Condition.Bool
        "Statement":{A,P,"Condition":{"Bool":{"aws:x":"true","aws:x":"true"}}} => .Statement.Condition.Bool["aws:x"]
    "#;
    for row in table.lines().filter(|row| row.contains("=>")) {
        let (members, place) = row.split_once(" => ").unwrap();
        let members = members
            .replace("{A,", r#"{"Effect":"Allow","Action":"sts:TagSession","#)
            .replace(",A}", r#","Action":"sts:TagSession"}"#)
            .replace(",P", r#","Principal":"*""#);
        let text = format!(r#"{{"Version":"2012-10-17",{members}}}"#);
        let found = lines(Document::from_json(Grammar::Trust, "doc", &text, &tokens()));
        let expected = format!("doc{place}: the key is there twice");
        assert!(!found.is_empty(), "{text}");
        for line in found {
            assert!(line.starts_with(&expected), "{text}: {line}");
        }
    }
}

#[test]
fn several_findings_in_the_order_of_the_document() {
    let text = r#"{"version":"2012-10-17","Statement":[
        {"Effect":"allow","Action":"s3","Resource":["*","x"]},
        {"Sid":"a-b","Action":"s3:*","NotAction":"s3:*","resource":"*","Condition":{"Foo":{}}},
        7]}"#;
    let found = lines(Document::from_json(Grammar::Permission, "doc", text, &tokens()));
    let places: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "doc.version",
            "doc.Statement[0].Effect",
            "doc.Statement[0].Action",
            "doc.Statement[0].Resource[1]",
            "doc.Statement[1].Sid",
            "doc.Statement[1].resource",
            "doc.Statement[1].Condition.Foo",
            "doc.Statement[1]",
            "doc.Statement[1]",
            "doc.Statement[2]",
        ]
    );
}

#[test]
fn condition_values_are_never_repeated_in_messages() {
    let condition = json!({"StringEquals": {"sts:ExternalId": "very-secret-—"}});
    let found = findings(Grammar::Trust, &trust(&json!({"Condition": condition})));
    assert_eq!(found.len(), 1);
    assert!(!found[0].contains("secret"), "{found:?}");
}
