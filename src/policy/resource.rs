//! Checking resources (IAM user guide, "IAM JSON policy elements: Resource").
//!
//! IAM refuses more than this; a resource is refused here only where that is certain, and where in doubt it is left to
//! AWS, which then names it.

use super::arn::Arn;
use super::finding::{Quoted, distance_within, quote};

/// Kinds of IAM's own resources: those that IAM's refusal lists ("IAM resource path must either be "*" or start with
/// user/, …"), and those that AWS-managed policies name besides.
const IAM_KINDS: [&str; 15] = [
    "user",
    "federated-user",
    "role",
    "group",
    "instance-profile",
    "mfa",
    "server-certificate",
    "policy",
    "sms-mfa",
    "saml-provider",
    "oidc-provider",
    "report",
    "access-report",
    "role-template",
    "root",
];

/// What is wrong with a resource.
pub(super) fn check(resource: &str) -> Option<String> {
    if resource == "*" {
        return None;
    }
    let quoted = quote(resource);
    if !resource.starts_with("arn:") {
        return Some(format!("{quoted} is no resource; write an ARN, or `*` for all"));
    }
    let parts = split(resource);
    let part = |index: usize| parts.get(index).copied();
    if let Some(message) = part(1).and_then(|partition| check_partition(partition, quoted)) {
        return Some(message);
    }
    let count = parts.len();
    // A wildcard may stand for several parts: `arn:aws:s3:*` is in use.
    if count < 6 && !resource.contains(['*', '?']) {
        return Some(format!(
            "{quoted} is no ARN; an ARN has six parts, `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`, this has {count}"
        ));
    }
    let service = part(2).unwrap_or_default();
    if service.is_empty() || service.contains(['*', '?', '$']) {
        return Some(format!(
            "{quoted}: the service of an ARN is written in full, without wildcards and variables \
             (`arn:PARTITION:SERVICE:…`); write one ARN for each service, or `*` for all"
        ));
    }
    match (service, part(3)?, part(4)?, part(5)?) {
        ("iam", region, _, path) => check_iam(region, path, quoted),
        ("s3", region, account, path) => check_s3(region, account, path, quoted),
        _ => None,
    }
}

/// The up to six parts of an ARN. A colon within a policy variable, as in `${aws:PrincipalAccount}`, divides nothing.
fn split(resource: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut variable) = (0, false);
    for (at, c) in resource.char_indices() {
        match c {
            '{' => variable |= resource[..at].ends_with('$'),
            '}' => variable = false,
            ':' if !variable && parts.len() < 5 => {
                parts.push(&resource[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&resource[from..]);
    parts
}

/// IAM's "Partition … is not valid for resource", which variables there get too.
fn check_partition(partition: &str, quoted: Quoted<'_>) -> Option<String> {
    let wildcard = partition.contains(['*', '?']) && !partition.contains("${");
    (!Arn::is_partition(partition) && !wildcard).then(|| {
        format!("{quoted}: {} is no partition; write `aws`, `aws-cn`, `aws-us-gov`, …, or `*`", quote(partition))
    })
}

fn check_iam(region: &str, path: &str, quoted: Quoted<'_>) -> Option<String> {
    if !region.is_empty() && !is_open(region) {
        return Some(format!("{quoted}: IAM has no regions; leave the region out: `arn:PARTITION:iam::ACCOUNT:…`"));
    }
    let (kind, named) = path.split_once('/').map_or((path, false), |(kind, _)| (kind, true));
    if is_open(kind) || kind == "root" || (named && IAM_KINDS.contains(&kind)) {
        return None;
    }
    // A word before a slash that is like no known one may be a kind that AWS added.
    let meant = IAM_KINDS.into_iter().find(|known| distance_within(kind, known, 1).is_some());
    if named && !kind.is_empty() && meant.is_none() {
        return None;
    }
    let meant = meant.unwrap_or("role");
    Some(format!(
        "{quoted} is no resource of IAM; write its kind before its name, such as `arn:PARTITION:iam::ACCOUNT:{meant}/NAME`"
    ))
}

/// A bucket and its objects have no region; access points, jobs and the like have one, and an account.
fn check_s3(region: &str, account: &str, path: &str, quoted: Quoted<'_>) -> Option<String> {
    let (kind, below) = path.split_once(['/', ':']).map_or((path, false), |(kind, _)| (kind, true));
    let plain = kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let bucket = !is_open(kind) && (account.is_empty() || !below || !plain);
    (!region.is_empty() && bucket).then(|| {
        format!("{quoted}: a bucket has no region and no account in its ARN; write `arn:PARTITION:s3:::BUCKET/KEY`")
    })
}

/// Whether a part of an ARN can stand for several texts.
fn is_open(part: &str) -> bool {
    part.contains(['*', '?']) || part.contains("${")
}
