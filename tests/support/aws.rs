//! AWS's side of things, asked directly and not through the operator.

use aws_sdk_iam::Client;
use aws_sdk_iam::types::Tag;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A client for the emulated AWS.
pub async fn client() -> Client {
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .load()
        .await;
    Client::new(&config)
}

/// A role as AWS shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    pub arn: String,
    pub id: String,
    pub path: String,
    pub description: String,
    pub max_session: i32,
    pub boundary: Option<String>,
    /// Without the owner tags.
    pub tags: BTreeMap<String, String>,
    pub owner_tags: BTreeMap<String, String>,
    pub trust: Value,
    pub attached: BTreeSet<String>,
    pub inline: BTreeMap<String, Value>,
}

/// The role with all that belongs to it; `None` if there is none.
pub async fn role(iam: &Client, name: &str) -> Option<Role> {
    let role = match iam.get_role().role_name(name).send().await {
        Ok(answer) => answer.role?,
        Err(error) => {
            let error = error.into_service_error();
            assert!(error.is_no_such_entity_exception(), "{error:?}");
            return None;
        }
    };
    let attached = iam.list_attached_role_policies().role_name(name).send().await.expect("attachments");
    let names = iam.list_role_policies().role_name(name).send().await.expect("inline policies");
    let mut inline = BTreeMap::new();
    for policy in names.policy_names() {
        let answer = iam.get_role_policy().role_name(name).policy_name(policy).send().await.expect("an inline policy");
        inline.insert(policy.clone(), document(answer.policy_document()));
    }
    let (owner_tags, tags) = tags(role.tags()).into_iter().partition(|(key, _)| key.starts_with("iamrole.dev/"));
    Some(Role {
        arn: role.arn().into(),
        id: role.role_id().into(),
        path: role.path().into(),
        description: role.description().unwrap_or_default().into(),
        max_session: role.max_session_duration().unwrap_or_default(),
        boundary: role
            .permissions_boundary()
            .and_then(|boundary| boundary.permissions_boundary_arn())
            .map(str::to_owned),
        tags,
        owner_tags,
        trust: document(role.assume_role_policy_document().unwrap_or_default()),
        attached: attached
            .attached_policies()
            .iter()
            .filter_map(|policy| policy.policy_arn())
            .map(str::to_owned)
            .collect(),
        inline,
    })
}

/// A customer-managed policy as AWS shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub version: String,
    pub versions: usize,
    pub document: Value,
    pub tags: BTreeMap<String, String>,
}

/// The policy; `None` if there is none.
pub async fn policy(iam: &Client, arn: &str) -> Option<Policy> {
    let policy = match iam.get_policy().policy_arn(arn).send().await {
        Ok(answer) => answer.policy?,
        Err(error) => {
            let error = error.into_service_error();
            assert!(error.is_no_such_entity_exception(), "{error:?}");
            return None;
        }
    };
    let version = policy.default_version_id().unwrap_or_default().to_owned();
    let answer = iam.get_policy_version().policy_arn(arn).version_id(&version).send().await.expect("a version");
    let text = answer.policy_version().and_then(|version| version.document()).unwrap_or_default().to_owned();
    let versions = iam.list_policy_versions().policy_arn(arn).send().await.expect("versions").versions().len();
    Some(Policy { version, versions, document: document(&text), tags: tags(policy.tags()) })
}

fn tags(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect()
}

/// AWS encodes each document; moto leaves those of policies as they are.
fn document(text: &str) -> Value {
    if text.starts_with('{') {
        return serde_json::from_str(text).expect("JSON");
    }
    let text = percent_encoding::percent_decode_str(text).decode_utf8().expect("UTF-8");
    serde_json::from_str(&text).expect("JSON")
}

/// Creates a role that is nobody's.
pub async fn foreign_role(iam: &Client, name: &str) {
    let trust = super::ec2().to_string();
    iam.create_role().role_name(name).assume_role_policy_document(trust).send().await.expect("a role");
}

/// Creates a policy that is nobody's; returns its ARN.
pub async fn foreign_policy(iam: &Client, name: &str) -> String {
    let answer =
        iam.create_policy().policy_name(name).policy_document(super::allow("s3:Get*").to_string()).send().await;
    answer.expect("a policy").policy().and_then(|policy| policy.arn()).expect("an ARN").to_owned()
}

/// Names of all customer-managed policies whose name holds `part`. In one page: moto leaves some out where others
/// are deleted between two.
pub async fn policies_with(iam: &Client, part: &str) -> BTreeSet<String> {
    let mut pages =
        iam.list_policies().scope(aws_sdk_iam::types::PolicyScopeType::Local).max_items(1000).into_paginator().send();
    let mut names = BTreeSet::new();
    while let Some(page) = pages.next().await {
        let page = page.expect("policies");
        names.extend(page.policies().iter().filter_map(|policy| policy.policy_name()).map(str::to_owned));
    }
    names.retain(|name| name.contains(part));
    names
}

/// Attaches a policy by hand.
pub async fn attach(iam: &Client, role: &str, arn: &str) {
    iam.attach_role_policy().role_name(role).policy_arn(arn).send().await.expect("an attachment");
}

/// Puts an inline policy by hand.
pub async fn put_inline(iam: &Client, role: &str, name: &str, document: &Value) {
    let call = iam.put_role_policy().role_name(role).policy_name(name).policy_document(document.to_string());
    call.send().await.expect("an inline policy");
}

/// Sets tags by hand.
pub async fn tag_role(iam: &Client, role: &str, tags: &[(&str, &str)]) {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build().expect("a tag"));
    iam.tag_role().role_name(role).set_tags(Some(tags.collect())).send().await.expect("tags");
}

/// Removes a role by hand, with all that hangs on it; its managed policies stay.
pub async fn delete_role(iam: &Client, name: &str) {
    let found = role(iam, name).await.expect("the role");
    for arn in &found.attached {
        iam.detach_role_policy().role_name(name).policy_arn(arn).send().await.expect("a detachment");
    }
    for policy in found.inline.keys() {
        iam.delete_role_policy().role_name(name).policy_name(policy).send().await.expect("a deletion");
    }
    iam.delete_role().role_name(name).send().await.expect("a deletion");
}

/// When AWS made the role.
pub async fn created(iam: &Client, name: &str) -> std::time::SystemTime {
    let answer = iam.get_role().role_name(name).send().await.expect("the role");
    let date = *answer.role().expect("the role").create_date();
    std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(date.secs()).expect("a date"))
}
