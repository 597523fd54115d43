//! Instance profiles of the stand-in: one role each, names that ignore case, conflicts.

use super::iam::{ACCOUNT, Answer, Iam, refuse};
use super::wire::{self, Form, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub name: String,
    pub path: String,
    pub tags: BTreeMap<String, String>,
    /// Name of the role in it.
    pub role: Option<String>,
}

impl Profile {
    pub fn holds(&self, role: &str) -> bool {
        self.role.as_ref().is_some_and(|held| held.eq_ignore_ascii_case(role))
    }

    pub fn meaning(&self) -> Value {
        json!([self.name, self.path, self.tags, self.role])
    }
}

pub fn is_about_profiles(action: &str) -> bool {
    action.contains("InstanceProfile")
}

impl Iam {
    /// Answers a call about instance profiles.
    pub fn call_profile(&mut self, action: &str, form: &Form) -> Answer {
        let (name, role) =
            (form.opt("InstanceProfileName").unwrap_or_default(), form.opt("RoleName").unwrap_or_default());
        let key = name.to_lowercase();
        if action == "ListInstanceProfilesForRole" {
            let holding = self.profiles.values().filter(|profile| profile.holds(role));
            return Ok(wire::page("InstanceProfiles", holding.map(|profile| self.show_profile(profile))));
        }
        if action == "CreateInstanceProfile" {
            if self.profiles.contains_key(&key) {
                return refuse("EntityAlreadyExists", format!("Instance Profile {name} already exists."));
            }
            let path = form.opt("Path").unwrap_or("/").to_owned();
            let profile = Profile { name: name.to_owned(), path, tags: form.tags(), role: None };
            let shown = format!("<InstanceProfile>{}</InstanceProfile>", self.show_profile(&profile));
            self.profiles.insert(key, profile);
            return Ok(shown);
        }
        let role_exists = self.roles.contains_key(&role.to_lowercase());
        let Some(profile) = self.profiles.get_mut(&key) else {
            return refuse("NoSuchEntity", format!("Instance Profile {name} cannot be found."));
        };
        match action {
            "GetInstanceProfile" => {
                let profile = profile.clone();
                return Ok(format!("<InstanceProfile>{}</InstanceProfile>", self.show_profile(&profile)));
            }
            "TagInstanceProfile" => profile.tags.extend(form.tags()),
            "AddRoleToInstanceProfile" if !role_exists => {
                return refuse("NoSuchEntity", format!("The role with name {role} cannot be found."));
            }
            "AddRoleToInstanceProfile" if profile.role.is_some() => {
                return refuse("LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1");
            }
            "AddRoleToInstanceProfile" => profile.role = Some(role.to_owned()),
            "RemoveRoleFromInstanceProfile" if !profile.holds(role) => {
                return refuse("NoSuchEntity", format!("The role with name {role} cannot be found."));
            }
            "RemoveRoleFromInstanceProfile" => profile.role = None,
            "DeleteInstanceProfile" if profile.role.is_some() => {
                return refuse(
                    "DeleteConflict",
                    "Cannot delete entity, must remove roles from instance profile first.",
                );
            }
            "DeleteInstanceProfile" => drop(self.profiles.remove(&key)),
            _ => panic!("the stand-in knows no {action}"),
        }
        Ok(String::new())
    }

    fn show_profile(&self, profile: &Profile) -> String {
        let role = profile.role.as_ref().and_then(|role| self.roles.get(&role.to_lowercase()));
        [
            text("InstanceProfileName", &profile.name),
            text("InstanceProfileId", "AIPA1"),
            text("Path", &profile.path),
            text("Arn", &format!("arn:aws:iam::{ACCOUNT}:instance-profile{}{}", profile.path, profile.name)),
            text("CreateDate", super::iam::CREATED),
            wire::list("Roles", role.map(|role| super::iam::show_role(role, false))),
            wire::tags(&profile.tags),
        ]
        .concat()
    }
}
