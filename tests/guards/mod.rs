//! Classes and specs for the tests of what a class allows.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::needless_pass_by_value, reason = "tables read better with json!() in place")]

use iamrole_operator::api::{IamRoleClassSpec, IamRoleSpec};
use iamrole_operator::policy::{AccountRef, Limits};
use iamrole_operator::role::desired::{Facts, desired};
use iamrole_operator::role::settings::settings;
use iamrole_operator::role::{Cluster, Owner};
use serde_json::{Value, json};

pub const ISSUER: &str = "oidc.eks.eu-west-1.amazonaws.com/id/ABC";

pub fn account() -> AccountRef {
    AccountRef { partition: "aws".into(), id: "111122223333".into() }
}

pub fn owner() -> Owner {
    let (namespace, name) = ("shop".into(), "api".into());
    Owner { cluster: Cluster::new(Some("prod"), "uid-1"), namespace, name, heir_of: Vec::new() }
}

pub fn class(fields: Value) -> IamRoleClassSpec {
    let mut class = json!({ "namespaceSelector": {}, "unbounded": true });
    class.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(class).unwrap()
}

/// A trust that only the class itself could give is none, so every spec names one; EC2 is allowed where nothing else
/// is asked.
pub fn spec(fields: Value) -> IamRoleSpec {
    let mut spec = json!({ "trustPolicy": trust(json!({ "Service": "ec2.amazonaws.com" }), json!({})) });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

pub fn trust(principal: Value, condition: Value) -> Value {
    let mut statement = json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal });
    if principal.get("Federated").is_some() {
        statement["Action"] = json!("sts:AssumeRoleWithWebIdentity");
    }
    if condition != json!({}) {
        statement["Condition"] = condition;
    }
    json!({ "Version": "2012-10-17", "Statement": [statement] })
}

pub fn document(statement: Value) -> Value {
    let mut whole = json!({ "Effect": "Allow", "Resource": "*" });
    whole.as_object_mut().unwrap().extend(statement.as_object().unwrap().clone());
    json!({ "Version": "2012-10-17", "Statement": [whole] })
}

pub fn inline(statement: Value) -> Value {
    json!({ "inlinePolicies": [{ "name": "p", "document": document(statement) }] })
}

/// The refusals of a spec under a class.
pub fn refusals(spec: &IamRoleSpec, class: &IamRoleClassSpec, issuer: Option<&str>) -> Vec<String> {
    let settings = settings(spec, Some(class), None, None);
    let (owner, account, limits) = (owner(), account(), Limits::default());
    let facts = Facts {
        owner: &owner,
        account: &account,
        class_name: "tenants",
        class,
        boundaries: &[],
        limits: &limits,
        issuer,
    };
    match desired(spec, &settings, facts) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|problem| format!("{}: {problem}", problem.reason.as_str())).collect(),
    }
}

pub const BOUNDARY: &str = "arn:aws:iam::111122223333:policy/boundary";
