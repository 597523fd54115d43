//! Executes one action of a plan. Decides nothing: what is gone already counts as removed.

use super::account::Account;
use super::error::{AwsError, Kind};
use crate::policy::{Canonical, Grammar};
use crate::role::Action;
use aws_sdk_iam::types::{PolicyVersion, Tag};
use std::collections::BTreeMap;

/// IAM keeps this many versions of a managed policy.
const POLICY_VERSIONS: usize = 5;

/// What a successful action brought to light.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// A role was created.
    Role {
        /// Its ARN.
        arn: String,
        /// Its unique id.
        id: String,
        /// When, RFC 3339.
        create_date: String,
    },
    /// A policy was created.
    Policy {
        /// Its unique id.
        id: String,
        /// Its default version.
        version: String,
    },
    /// An instance profile was created; its ARN.
    Profile(String),
    /// A policy has a new default version.
    Version(String),
    /// It was gone already.
    Absent,
    /// Nothing beyond success.
    Nothing,
}

impl Account {
    /// Executes `action` on the role `name`.
    pub async fn execute(&self, name: &str, action: &Action) -> Result<Done, AwsError> {
        let role = format!("role {name}");
        let iam = &self.iam;
        match action {
            Action::CreateRole { .. } => return self.create_role(name, action).await,
            Action::CreatePolicy { .. } => return self.create_policy(action).await,
            Action::CreateProfile { name, path, tags } => return self.create_profile(name, path, tags).await,
            Action::TagProfile { name, tags } => self.tag_profile(name, tags).await?,
            Action::JoinProfile(profile) => self.join_profile(name, profile).await?,
            Action::DeleteProfile(profile) => {
                let target = format!("instance profile {profile}");
                let call = iam.delete_instance_profile().instance_profile_name(profile).send();
                gone(self.call("iam:DeleteInstanceProfile", &target, call).await)?;
            }
            Action::UpdatePolicy { arn, document } => {
                return self.update_policy(arn, &document.to_json()).await;
            }
            Action::DeletePolicy(arn) => return self.delete_policy(arn).await,
            Action::TagRole(tags) => {
                let call = iam.tag_role().role_name(name).set_tags(tag_list("iam:TagRole", &role, tags)?).send();
                self.call("iam:TagRole", &role, call).await.map(drop)?;
            }
            Action::TagPolicy { arn, tags } => {
                let target = format!("policy {arn}");
                let call = iam.tag_policy().policy_arn(arn).set_tags(tag_list("iam:TagPolicy", &target, tags)?).send();
                self.call("iam:TagPolicy", &target, call).await.map(drop)?;
            }
            Action::UntagRole(keys) => {
                let call = iam.untag_role().role_name(name).set_tag_keys(Some(keys.iter().cloned().collect())).send();
                self.call("iam:UntagRole", &role, call).await.map(drop)?;
            }
            Action::UpdateRole { description, max_session } => {
                let call =
                    iam.update_role().role_name(name).description(description).max_session_duration(*max_session);
                self.call("iam:UpdateRole", &role, call.send()).await.map(drop)?;
            }
            Action::PutBoundary(arn) => {
                let call = iam.put_role_permissions_boundary().role_name(name).permissions_boundary(arn).send();
                self.call("iam:PutRolePermissionsBoundary", arn, call).await.map(drop)?;
            }
            Action::DeleteBoundary => {
                let call = iam.delete_role_permissions_boundary().role_name(name).send();
                return gone(self.call("iam:DeleteRolePermissionsBoundary", &role, call).await);
            }
            Action::UpdateTrust(document) => {
                let call = iam.update_assume_role_policy().role_name(name).policy_document(document.to_json()).send();
                self.call("iam:UpdateAssumeRolePolicy", &role, call).await.map(drop)?;
            }
            Action::Attach(arn) => {
                let call = iam.attach_role_policy().role_name(name).policy_arn(arn).send();
                self.call("iam:AttachRolePolicy", arn, call).await.map(drop)?;
            }
            Action::Detach(arn) => {
                let call = iam.detach_role_policy().role_name(name).policy_arn(arn).send();
                return gone(self.call("iam:DetachRolePolicy", arn, call).await);
            }
            Action::PutInline { name: policy, document } => {
                let call =
                    iam.put_role_policy().role_name(name).policy_name(policy).policy_document(document.to_json());
                let target = format!("inline policy {policy} of {role}");
                self.call("iam:PutRolePolicy", &target, call.send()).await.map(drop)?;
            }
            Action::DeleteInline(policy) => {
                let call = iam.delete_role_policy().role_name(name).policy_name(policy).send();
                let target = format!("inline policy {policy} of {role}");
                return gone(self.call("iam:DeleteRolePolicy", &target, call).await);
            }
            Action::LeaveProfile { profile, role } => {
                let call = iam.remove_role_from_instance_profile().instance_profile_name(profile).role_name(role);
                let target = format!("instance profile {profile}");
                gone(self.call("iam:RemoveRoleFromInstanceProfile", &target, call.send()).await)?;
            }
            Action::DeleteRole => {
                gone(self.call("iam:DeleteRole", &role, iam.delete_role().role_name(name).send()).await)?;
            }
        }
        Ok(Done::Nothing)
    }

    async fn create_role(&self, name: &str, action: &Action) -> Result<Done, AwsError> {
        let Action::CreateRole { path, description, max_session, boundary, tags, trust } = action else {
            return Ok(Done::Nothing);
        };
        let target = format!("role {name}");
        let call = self
            .iam
            .create_role()
            .role_name(name)
            .path(path)
            .set_description(description.clone())
            .max_session_duration(*max_session)
            .set_permissions_boundary(boundary.clone())
            .set_tags(tag_list("iam:CreateRole", &target, tags)?)
            .assume_role_policy_document(trust.to_json());
        let answer = self.call("iam:CreateRole", &target, call.send()).await?;
        Ok(answer.role().map_or(Done::Nothing, |role| Done::Role {
            arn: role.arn().to_owned(),
            id: role.role_id().to_owned(),
            create_date: role.create_date().to_string(),
        }))
    }

    async fn create_policy(&self, action: &Action) -> Result<Done, AwsError> {
        let Action::CreatePolicy { policy, tags } = action else {
            return Ok(Done::Nothing);
        };
        let target = format!("policy {}", policy.arn);
        let call = self
            .iam
            .create_policy()
            .policy_name(&policy.name)
            .path(&policy.path)
            .set_description(policy.description.clone())
            .policy_document(policy.document.to_json())
            .set_tags(tag_list("iam:CreatePolicy", &target, tags)?);
        let answer = self.call("iam:CreatePolicy", &target, call.send()).await?;
        Ok(answer.policy().map_or(Done::Nothing, |policy| Done::Policy {
            id: policy.policy_id().unwrap_or_default().to_owned(),
            version: policy.default_version_id().unwrap_or_default().to_owned(),
        }))
    }

    async fn create_profile(&self, name: &str, path: &str, tags: &BTreeMap<String, String>) -> Result<Done, AwsError> {
        let target = format!("instance profile {name}");
        let call = self.iam.create_instance_profile().instance_profile_name(name).path(path).set_tags(tag_list(
            "iam:CreateInstanceProfile",
            &target,
            tags,
        )?);
        let answer = self.call("iam:CreateInstanceProfile", &target, call.send()).await?;
        let profile = answer.instance_profile();
        Ok(profile.map_or(Done::Nothing, |profile| Done::Profile(profile.arn().to_owned())))
    }

    async fn tag_profile(&self, name: &str, tags: &BTreeMap<String, String>) -> Result<(), AwsError> {
        let target = format!("instance profile {name}");
        let tags = tag_list("iam:TagInstanceProfile", &target, tags)?;
        let call = self.iam.tag_instance_profile().instance_profile_name(name).set_tags(tags).send();
        self.call("iam:TagInstanceProfile", &target, call).await.map(drop)
    }

    /// IAM calls it a used-up quota when the role is in the profile already, as after an answer that was lost.
    async fn join_profile(&self, role: &str, profile: &str) -> Result<(), AwsError> {
        let target = format!("instance profile {profile}");
        let call = self.iam.add_role_to_instance_profile().instance_profile_name(profile).role_name(role).send();
        match self.call("iam:AddRoleToInstanceProfile", &target, call).await {
            Err(error) if matches!(error.kind, Kind::Quota | Kind::AlreadyExists) => {
                let found = self.profiles(std::iter::once(profile)).await?;
                let is_in = found.values().any(|found| found.roles.iter().any(|name| name.eq_ignore_ascii_case(role)));
                if is_in { Ok(()) } else { Err(error) }
            }
            // So it calls one that was made a moment ago, too.
            Err(error)
                if error.kind == Kind::Invalid && error.message.contains("Invalid IAM Instance Profile name") =>
            {
                Err(AwsError { kind: Kind::NotFound, ..error })
            }
            other => other.map(drop),
        }
    }

    /// Makes room if need be, then makes the document the default version.
    async fn update_policy(&self, arn: &str, document: &str) -> Result<Done, AwsError> {
        let mut versions = self.versions(arn).await?;
        versions.sort_by_key(version_number);
        let excess = (versions.len() + 1).saturating_sub(POLICY_VERSIONS);
        for version in versions.iter().filter(|version| !version.is_default_version()).take(excess) {
            self.delete_version(arn, version).await?;
        }
        let call = self.iam.create_policy_version().policy_arn(arn).policy_document(document).set_as_default(true);
        match self.call("iam:CreatePolicyVersion", &format!("policy {arn}"), call.send()).await {
            // Not that of its size.
            Err(error) if error.kind == Kind::Quota && error.message.contains("versions") => {
                self.versions_full(arn, document, error).await
            }
            other => {
                let answer = other?;
                let version = answer.policy_version().and_then(|version| version.version_id());
                Ok(version.map_or(Done::Nothing, |version| Done::Version(version.to_owned())))
            }
        }
    }

    /// There was room, as far as AWS showed: an attempt whose answer was lost has used it, or somebody else.
    async fn versions_full(&self, arn: &str, document: &str, error: AwsError) -> Result<Done, AwsError> {
        let wanted = Canonical::read(Grammar::Permission, document, &self.account);
        match self.read_policy(arn).await? {
            Some((_, found)) if found.document == wanted => Ok(Done::Version(found.version)),
            // The next look tells, and makes room again.
            _ => Err(AwsError { kind: Kind::Busy, message: String::new(), ..error }),
        }
    }

    async fn delete_policy(&self, arn: &str) -> Result<Done, AwsError> {
        let versions = match self.versions(arn).await {
            // A read may lag behind; only the call that deletes can tell that it is gone.
            Err(error) if error.kind == Kind::NotFound => Vec::new(),
            other => other?,
        };
        for version in versions.iter().filter(|version| !version.is_default_version()) {
            self.delete_version(arn, version).await?;
        }
        let call = self.iam.delete_policy().policy_arn(arn).send();
        gone(self.call("iam:DeletePolicy", &format!("policy {arn}"), call).await)
    }

    async fn versions(&self, arn: &str) -> Result<Vec<PolicyVersion>, AwsError> {
        let mut pages = self.iam.list_policy_versions().policy_arn(arn).into_paginator().send();
        let mut versions = Vec::new();
        while let Some(page) = pages.next().await {
            let page = self.call("iam:ListPolicyVersions", &format!("policy {arn}"), async { page }).await?;
            versions.extend(page.versions().to_vec());
        }
        Ok(versions)
    }

    async fn delete_version(&self, arn: &str, version: &PolicyVersion) -> Result<(), AwsError> {
        let id = version.version_id().unwrap_or_default();
        let call = self.iam.delete_policy_version().policy_arn(arn).version_id(id).send();
        gone(self.call("iam:DeletePolicyVersion", &format!("version {id} of policy {arn}"), call).await).map(drop)
    }
}

/// `v12` comes after `v9`.
fn version_number(version: &PolicyVersion) -> u64 {
    version.version_id().and_then(|id| id.trim_start_matches('v').parse().ok()).unwrap_or_default()
}

fn gone<T>(result: Result<T, AwsError>) -> Result<Done, AwsError> {
    match result {
        Ok(_) => Ok(Done::Nothing),
        Err(error) if error.kind == Kind::NotFound => Ok(Done::Absent),
        Err(error) => Err(error),
    }
}

fn tag_list(call: &'static str, target: &str, tags: &BTreeMap<String, String>) -> Result<Option<Vec<Tag>>, AwsError> {
    let tags: Result<Vec<Tag>, _> =
        tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    tags.map(Some).map_err(|error| AwsError {
        kind: Kind::Invalid,
        call,
        target: target.to_owned(),
        code: None,
        message: error.to_string(),
    })
}
