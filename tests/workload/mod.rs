//! What AWS compares when a pod asks for a role, written anew and knowing nothing of the operator's own code.

#![allow(dead_code, reason = "each test file uses a part")]

use serde_json::Value;

/// The values of a leaf: one, or a list.
fn values(leaf: &Value) -> Vec<&str> {
    match leaf {
        Value::String(one) => vec![one],
        Value::Array(list) => list.iter().map(|value| value.as_str().expect("text")).collect(),
        other => panic!("neither text nor a list: {other}"),
    }
}

/// Whether a statement lets this request in. `context` tells the value of a condition key; one that the request does not
/// have meets no condition.
fn allows(statement: &Value, principal: (&str, &str), action: &str, context: &dyn Fn(&str) -> Option<String>) -> bool {
    let (kind, name) = principal;
    let named = statement["Principal"].get(kind).is_some_and(|leaf| values(leaf).contains(&name));
    let conditions = statement.get("Condition").and_then(Value::as_object).into_iter().flatten();
    let holds = |(operator, keys): (&String, &Value)| {
        assert_eq!(operator, "StringEquals", "the only operator that is known here");
        keys.as_object()
            .expect("keys")
            .iter()
            .all(|(key, wanted)| context(key).is_some_and(|value| values(wanted).contains(&value.as_str())))
    };
    statement["Effect"] == "Allow"
        && named
        && values(&statement["Action"]).contains(&action)
        && conditions.into_iter().all(holds)
}

fn statements(trust: &Value) -> &Vec<Value> {
    trust["Statement"].as_array().expect("statements")
}

/// `sts:AssumeRoleWithWebIdentity` with the claims of a token: the provider is the issuer's in the role's account, and the
/// keys of the conditions begin with the issuer without its scheme.
pub fn web_identity(trust: &Value, partition: &str, account: &str, claims: &Value) -> bool {
    let host = claims["iss"].as_str().and_then(|iss| iss.strip_prefix("https://")).expect("an issuer");
    let provider = format!("arn:{partition}:iam::{account}:oidc-provider/{host}");
    let audiences = values(&claims["aud"]);
    // STS takes tokens for one audience only.
    let [audience] = audiences.as_slice() else { return false };
    let context = |key: &str| match key.strip_prefix(host) {
        Some(":sub") => claims["sub"].as_str().map(str::to_owned),
        Some(":aud") => Some((*audience).to_owned()),
        _ => None,
    };
    let action = "sts:AssumeRoleWithWebIdentity";
    statements(trust).iter().any(|statement| allows(statement, ("Federated", &provider), action, &context))
}

/// EKS Pod Identity for a pod: it assumes the role and tags the session, both of which must be allowed.
pub fn pod_identity(trust: &Value, cluster_arn: &str, namespace: &str, service_account: &str) -> bool {
    let context = |key: &str| {
        let parts: Vec<&str> = cluster_arn.split(':').collect();
        Some(match key {
            "aws:SourceArn" | "aws:RequestTag/eks-cluster-arn" => cluster_arn.to_owned(),
            "aws:SourceAccount" => parts[4].to_owned(),
            "aws:RequestTag/kubernetes-namespace" => namespace.to_owned(),
            "aws:RequestTag/kubernetes-service-account" => service_account.to_owned(),
            _ => return None,
        })
    };
    let service = ("Service", "pods.eks.amazonaws.com");
    let may = |action| statements(trust).iter().any(|statement| allows(statement, service, action, &context));
    may("sts:AssumeRole") && may("sts:TagSession")
}

/// The claims of a token, without a look at its signature.
pub fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bits, mut count, mut bytes) = (0u32, 0u32, Vec::new());
    for sign in part.bytes() {
        let value = alphabet.iter().position(|known| *known == sign).expect("base64url");
        bits = (bits << 6) | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).unwrap());
        }
    }
    serde_json::from_slice(&bytes).expect("claims")
}
