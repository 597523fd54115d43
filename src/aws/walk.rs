//! Walks over an account: every role and policy in a handful of calls, page by page.
//!
//! No call of IAM lists all that there is to know of roles: `ListRoles` has description and longest session and lacks
//! boundary and tags, `GetAccountAuthorizationDetails` has everything but these two, and neither has the policies that
//! belong to a role, which `ListPolicies` has without their documents.

use super::account::{Account, is_last};
use super::error::AwsError;
use super::observe::tag_map;
use crate::policy::{Canonical, Grammar};
use crate::role::sweep::{Detailed, Listed, ListedPolicy};
use aws_sdk_iam::types::{EntityType, PolicyScopeType, Role, RoleDetail};

/// The most that IAM puts on a page.
const PAGE: i32 = 1000;
const TARGET: &str = "the account";

/// Whether a role on a page is of interest, by its name. Documents of the others are not read.
pub type Wanted<'w> = &'w (dyn Fn(&str) -> bool + Sync);

impl Account {
    /// Hands every page of `ListRoles` to `take`; only the `wanted` roles. Returns the number of roles there are.
    pub async fn walk_roles(&self, wanted: Wanted<'_>, mut take: impl FnMut(Vec<Listed>)) -> Result<usize, AwsError> {
        let mut pages = self.iam.list_roles().into_paginator().page_size(PAGE).send();
        let mut seen = 0;
        while let Some(page) = self.page("iam:ListRoles", TARGET, pages.next()).await? {
            seen += page.roles().len();
            take(page.roles().iter().filter(|role| wanted(role.role_name())).map(listed).collect());
            if is_last(page.marker()) {
                break;
            }
        }
        Ok(seen)
    }

    /// Hands every page of `GetAccountAuthorizationDetails` to `take`; only the `wanted` roles, and those whose tags
    /// `is_ours` accepts.
    pub async fn walk_details(
        &self,
        wanted: &(dyn Fn(&RoleName<'_>) -> bool + Sync),
        mut take: impl FnMut(Vec<Detailed>),
    ) -> Result<(), AwsError> {
        let call = self.iam.get_account_authorization_details().filter(EntityType::Role);
        let mut pages = call.into_paginator().page_size(PAGE).send();
        while let Some(page) = self.page("iam:GetAccountAuthorizationDetails", TARGET, pages.next()).await? {
            let roles = page.role_detail_list().iter();
            let roles = roles.filter(|role| {
                let tag = |key: &str| role.tags().iter().find(|tag| tag.key() == key).map(|tag| tag.value().to_owned());
                wanted(&RoleName { name: role.role_name().unwrap_or_default(), tag: &tag })
            });
            take(roles.map(|role| self.detailed(role)).collect());
            if is_last(page.marker()) {
                break;
            }
        }
        Ok(())
    }

    /// Hands every page of the account's own policies to `take`.
    pub async fn walk_policies(&self, mut take: impl FnMut(Vec<ListedPolicy>)) -> Result<(), AwsError> {
        let mut pages = self.iam.list_policies().scope(PolicyScopeType::Local).into_paginator().page_size(PAGE).send();
        while let Some(page) = self.page("iam:ListPolicies", TARGET, pages.next()).await? {
            let listed = page.policies().iter().map(|policy| ListedPolicy {
                arn: policy.arn().unwrap_or_default().to_owned(),
                id: policy.policy_id().unwrap_or_default().to_owned(),
                version: policy.default_version_id().unwrap_or_default().to_owned(),
            });
            take(listed.collect());
            if is_last(page.marker()) {
                break;
            }
        }
        Ok(())
    }

    fn detailed(&self, role: &RoleDetail) -> Detailed {
        let read = |grammar, text: Option<&str>| Canonical::read(grammar, text.unwrap_or_default(), &self.account);
        let inline = role.role_policy_list().iter().map(|policy| {
            let name = policy.policy_name().unwrap_or_default().to_owned();
            (name, read(Grammar::Permission, policy.policy_document()))
        });
        let managed = role.attached_managed_policies().iter().filter_map(|policy| policy.policy_arn());
        let boundary = role.permissions_boundary().and_then(|boundary| boundary.permissions_boundary_arn());
        let profiles = role.instance_profile_list().iter();
        Detailed {
            name: role.role_name().unwrap_or_default().to_owned(),
            path: role.path().unwrap_or_default().to_owned(),
            arn: role.arn().unwrap_or_default().to_owned(),
            id: role.role_id().unwrap_or_default().to_owned(),
            boundary: boundary.map(str::to_owned),
            tags: tag_map(role.tags()),
            trust: read(Grammar::Trust, role.assume_role_policy_document()),
            managed: managed.map(str::to_owned).collect(),
            inline: inline.collect(),
            profiles: profiles.map(|profile| profile.instance_profile_name().to_owned()).collect(),
        }
    }
}

/// A role on a page, before its documents are read.
pub struct RoleName<'r> {
    /// Its name.
    pub name: &'r str,
    tag: &'r dyn Fn(&str) -> Option<String>,
}

impl RoleName<'_> {
    /// The value of a tag.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<String> {
        (self.tag)(key)
    }
}

fn listed(role: &Role) -> Listed {
    Listed {
        name: role.role_name().to_owned(),
        id: role.role_id().to_owned(),
        description: role.description().unwrap_or_default().to_owned(),
        max_session: role.max_session_duration().unwrap_or(crate::role::plan::DEFAULT_SESSION),
    }
}
