//! How long an update takes to plan where everything changes at once: as many policies as a role can have, of full size,
//! all of whose permissions move to another policy.
//! `cargo bench --bench plan` prints the times and fails where a plan needs too long. A plan is made between two calls to
//! AWS, on a thread that others need. It is no part of `make test`, which may run on a busy machine.

use iamrole_operator::api::iamrole::{Origin, RoleRef};
use iamrole_operator::api::iamroleclass::Allowed;
use iamrole_operator::api::{IamRoleClassSpec, IamRoleSpec};
use iamrole_operator::policy::{AccountRef, Limits};
use iamrole_operator::role::desired::{Facts, desired};
use iamrole_operator::role::plan::{nothing, update};
use iamrole_operator::role::settings::settings;
use iamrole_operator::role::{Cluster, Desired, Observed, ObservedPolicy, Owner, Record};
use serde_json::{Value, json};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// IAM's highest quota of attached policies.
const POLICIES: usize = 20;
const DOCUMENT: usize = 6144;
const BOUND: Duration = Duration::from_millis(250);

/// Statements as name, text and how many of them are in a document at most; `%` counts up through all documents.
const SHAPES: [(&str, &str, usize); 5] = [
    ("one statement each", r#"{"Effect":"Allow","Action":"a:%","Resource":"*"}"#, 1),
    (
        "usual statements",
        r#"{"Sid":"S%","Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::bucket-%/*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"t%"}}}"#,
        usize::MAX,
    ),
    ("small statements", r#"{"Effect":"Allow","Action":"a:%","Resource":"*"}"#, usize::MAX),
    ("denials", r#"{"Effect":"Deny","Action":"a:%","Resource":"*"}"#, usize::MAX),
    (
        "pairs",
        r#"{"Effect":"Allow","Action":["a:a","a:b","a:c","a:d","a:e","a:f","a:g","a:h","a:i","a:j"],"Resource":["arn:aws:s3:::%a","arn:aws:s3:::%b","arn:aws:s3:::%c","arn:aws:s3:::%d","arn:aws:s3:::%e","arn:aws:s3:::%f","arn:aws:s3:::%g","arn:aws:s3:::%h","arn:aws:s3:::%i","arn:aws:s3:::%j"]}"#,
        usize::MAX,
    ),
];

/// Documents of a shape, none of which says what another one does.
fn documents(statement: &str, most: usize) -> Vec<Value> {
    let mut number = 0;
    let mut next = || {
        number += 1;
        statement.replace('%', &number.to_string())
    };
    let mut document = || {
        let mut text = String::from(r#"{"Version":"2012-10-17","Statement":["#);
        text.push_str(&next());
        for _ in 1..most {
            let more = next();
            if text.len() + more.len() + 200 > DOCUMENT {
                break;
            }
            text.push(',');
            text.push_str(&more);
        }
        serde_json::from_str(&(text + "]}")).unwrap_or_default()
    };
    (0..POLICIES).map(|_| document()).collect()
}

/// A role with these documents as policies of its own, which are numbered from `first`.
fn role(documents: &[Value], first: usize) -> Option<Desired> {
    let policy = |(i, document): (usize, &Value)| {
        let name = format!("p{}", (i + first) % 100);
        json!({ "name": name, "policyName": name, "document": document })
    };
    let own: Vec<Value> = documents.iter().enumerate().map(policy).collect();
    let trust = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": { "Service": "ec2.amazonaws.com" } }] });
    let spec = json!({ "roleName": "role", "trustPolicy": trust, "customerManagedPolicies": own });
    let spec: IamRoleSpec = serde_json::from_value(spec).ok()?;
    let class = json!({ "namespaceSelector": {}, "unbounded": true, "allowed": Allowed::everything() });
    let class: IamRoleClassSpec = serde_json::from_value(class).ok()?;
    let account = AccountRef { partition: "aws".into(), id: "111122223333".into() };
    let cluster = Cluster::new(Some("bench"), "0b0b0b0b-0000-4000-8000-000000000000");
    let owner = Owner { cluster, namespace: "namespace".into(), name: "role".into(), heir_of: Vec::new() };
    let facts = Facts {
        owner: &owner,
        account: &account,
        class_name: "default",
        class: &class,
        boundaries: &[],
        limits: &Limits::default(),
        issuer: None,
    };
    let made = desired(&spec, &settings(&spec, Some(&class), None, None), facts);
    made.map_err(|problems| println!("{problems:?}")).ok()
}

fn settled(desired: &Desired) -> (Observed, Record) {
    let mut observed = nothing(desired);
    observed.tags = desired.role_tags(Origin::Created);
    for policy in &desired.own {
        observed.managed.insert(policy.arn.clone());
        let found = ObservedPolicy {
            id: "ANPA1".into(),
            version: "v1".into(),
            tags: desired.role_tags(Origin::Created),
            document: policy.document.canonical(&desired.account),
        };
        observed.own.insert(policy.arn.clone(), found);
    }
    let mut record = Record { role: Some(RoleRef::default()), ..Record::default() };
    record.settle(desired, Some(&observed));
    (observed, record)
}

fn planned(what: &str, old: &[Value], new: &[Value], first: usize) -> bool {
    let (Some(old), Some(new)) = (role(old, 0), role(new, first)) else {
        println!("{what}: no spec");
        return false;
    };
    let (observed, record) = settled(&old);
    let mut best = Duration::MAX;
    let mut steps = 0;
    for _ in 0..3 {
        let start = Instant::now();
        steps = black_box(update(&new, &observed, &record, POLICIES, false)).steps.len();
        best = best.min(start.elapsed());
        if best > BOUND * 8 {
            break;
        }
    }
    let verdict = if best < BOUND { "" } else { ", which is TOO LONG" };
    println!("{what}: {steps} steps, {best:.1?}{verdict}");
    best < BOUND && steps > 0
}

/// Two policies that exchange more than either has room for, beside many small ones that change: no order is without loss,
/// and the search for one goes on until its work is done.
fn exchanged() -> bool {
    let (what, statement, most) = SHAPES[4];
    let big = documents(statement, most);
    let small = |letter: &str| documents(&SHAPES[0].1.replace("a:", letter), 1);
    let with = |first: usize, second: usize, letter: &str| {
        let mut all = vec![big[first].clone(), big[second].clone()];
        all.extend(small(letter).into_iter().skip(2));
        all
    };
    planned(&format!("{what}, exchanged beside small ones"), &with(0, 1, "a:"), &with(1, 0, "b:"), 0)
}

fn main() -> ExitCode {
    let mut good = true;
    for (what, statement, most) in SHAPES {
        let old = documents(statement, most);
        let mut turned = old.clone();
        turned.rotate_left(1);
        good &= planned(&format!("{what}, turned round"), &old, &turned, 0);
        good &= planned(&format!("{what}, in other policies"), &old, &old, 50);
        let other = documents(&statement.replace("a:", "b:").replace("bucket", "bin"), most);
        good &= planned(&format!("{what}, replaced"), &old, &other, 0);
        good &= planned(&format!("{what}, replaced in other policies"), &old, &other, 50);
    }
    good &= exchanged();
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
