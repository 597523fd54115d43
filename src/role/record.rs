//! What we have applied, as far as status remembers it.
//!
//! Entries enter before the call that makes them (intent) and leave after their removal is confirmed.
//! So a crash or a lost reply never turns our own thing into a stranger's.

use crate::api::IamRoleStatus;
use crate::api::iamrole::{PolicyRef, RoleRef};
use std::collections::BTreeSet;

/// What we have applied or were about to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The role; without ARN and id it was only intended.
    pub role: Option<RoleRef>,
    /// ARNs of attached managed policies.
    pub managed: BTreeSet<String>,
    /// Names of inline policies.
    pub inline: BTreeSet<String>,
    /// Policies owned by the role.
    pub own: Vec<PolicyRef>,
    /// Keys of tags.
    pub tag_keys: BTreeSet<String>,
    /// The boundary that we set.
    pub boundary: Option<String>,
}

impl Record {
    /// Reads the record out of a status.
    #[must_use]
    pub fn from_status(status: &IamRoleStatus) -> Self {
        Self {
            role: status.role.clone(),
            managed: status.managed_policies.iter().cloned().collect(),
            inline: status.inline_policies.iter().cloned().collect(),
            own: status.customer_managed_policies.clone(),
            tag_keys: status.tag_keys.iter().cloned().collect(),
            boundary: status.permissions_boundary.clone(),
        }
    }

    /// Writes the record into a status.
    pub fn into_status(self, status: &mut IamRoleStatus) {
        status.role = self.role;
        status.managed_policies = self.managed.into_iter().collect();
        status.inline_policies = self.inline.into_iter().collect();
        status.customer_managed_policies = self.own;
        status.tag_keys = self.tag_keys.into_iter().collect();
        status.permissions_boundary = self.boundary;
    }

    /// Whether the role is known to exist, or to have existed.
    #[must_use]
    pub fn role_exists(&self) -> bool {
        self.role.as_ref().is_some_and(|role| role.id.is_some())
    }

    /// The owned policy with this ARN, made if absent.
    pub fn own_mut(&mut self, arn: &str) -> Option<&mut PolicyRef> {
        self.own.iter_mut().find(|policy| policy.arn == arn)
    }
}
