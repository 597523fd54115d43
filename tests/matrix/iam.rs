//! IAM in memory behind its query protocol, as strict as AWS where an operator could go wrong: names and tag keys that
//! ignore case, names unique across paths, quotas, conflicts, versions, encoded documents, principals in AWS's wording.

use super::meaning::{Facts, facts};
use super::profiles::{Profile, is_about_profiles};
use super::wire::{self, Form, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub const ACCOUNT: &str = crate::model::ACCOUNT;
/// Later than any look at it: what is there was made by the operator under test.
pub const CREATED: &str = "2099-01-01T00:00:00Z";
/// Earlier than any object: what is there was made for another one, or for one that is restored.
pub const LONG_AGO: &str = "2020-01-01T00:00:00Z";
const ATTACHMENTS: usize = 10;
const VERSIONS: usize = 5;

#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    pub name: String,
    pub path: String,
    pub id: String,
    pub created: &'static str,
    pub description: String,
    pub max_session: i32,
    pub boundary: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub trust: String,
    pub managed: BTreeSet<String>,
    pub inline: BTreeMap<String, String>,
}

impl Role {
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role{}{}", self.path, self.name)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub name: String,
    pub path: String,
    pub id: String,
    pub tags: BTreeMap<String, String>,
    /// By number; the default is named beside.
    pub versions: BTreeMap<u32, String>,
    pub default: u32,
    /// Numbers are never used again.
    pub next: u32,
}

impl Policy {
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:policy{}{}", self.path, self.name)
    }

    pub fn document(&self) -> &str {
        &self.versions[&self.default]
    }
}

/// One account. Both maps by name in lower case: IAM takes names for the same whatever their case and path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Iam {
    pub roles: BTreeMap<String, Role>,
    pub policies: BTreeMap<String, Policy>,
    pub profiles: BTreeMap<String, Profile>,
    /// The date of roles that are created, if another one than usual.
    pub born: Option<&'static str>,
    /// ARNs of principals that do not exist.
    pub gone: BTreeSet<String>,
    serial: u32,
}

/// Code, HTTP status, message.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal(pub &'static str, pub u16, pub String);

pub type Answer = Result<String, Refusal>;

pub fn refuse<T>(code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    let status = match code {
        "NoSuchEntity" => 404,
        "EntityAlreadyExists" | "LimitExceeded" | "DeleteConflict" => 409,
        _ => 400,
    };
    Err(Refusal(code, status, message.into()))
}

fn size(document: &str) -> usize {
    document.chars().filter(|c| !c.is_whitespace()).count()
}

/// The key as it is known, ignoring case.
fn known(map: &BTreeMap<String, String>, key: &str) -> Option<String> {
    map.keys().find(|known| known.eq_ignore_ascii_case(key)).cloned()
}

fn tag(tags: &mut BTreeMap<String, String>, new: BTreeMap<String, String>) -> Result<(), Refusal> {
    for (key, value) in new {
        if let Some(old) = known(tags, &key) {
            tags.remove(&old);
        }
        tags.insert(key, value);
    }
    if tags.len() > 50 { refuse("LimitExceeded", "The number of tags has reached the maximum limit.") } else { Ok(()) }
}

/// Refuses what is no policy; rewrites account ids as AWS shows them.
fn check(document: &str, trust: bool) -> Result<String, Refusal> {
    let malformed = |message: &str| refuse("MalformedPolicyDocument", message);
    let Ok(mut value) = serde_json::from_str::<Value>(document) else { return malformed("Syntax errors in policy.") };
    let Some(statements) = value.get_mut("Statement").and_then(Value::as_array_mut) else {
        return malformed("Syntax errors in policy.");
    };
    for statement in statements {
        if statement.get("Principal").is_some() != trust || statement.get("Resource").is_some() == trust {
            return malformed("Policy document should not specify a principal, or has prohibited field Resource.");
        }
        let Some(principals) = statement.pointer_mut("/Principal/AWS") else { continue };
        let rewrite = |value: &mut Value| {
            if let Some(id) = value.as_str().filter(|id| id.chars().all(|c| c.is_ascii_digit())) {
                *value = format!("arn:aws:iam::{id}:root").into();
            }
        };
        match principals {
            Value::Array(all) => all.iter_mut().for_each(rewrite),
            one => rewrite(one),
        }
    }
    Ok(value.to_string())
}

pub fn is_read(action: &str) -> bool {
    action.starts_with("Get") || action.starts_with("List")
}

impl Iam {
    fn id(&mut self, kind: &str) -> String {
        self.serial += 1;
        format!("{kind}{:017}", self.serial)
    }

    fn role(&self, form: &Form) -> Result<&Role, Refusal> {
        let name = form.get("RoleName");
        match self.roles.get(&name.to_lowercase()) {
            Some(role) => Ok(role),
            None => refuse("NoSuchEntity", format!("The role with name {name} cannot be found.")),
        }
    }

    fn role_mut(&mut self, form: &Form) -> Result<&mut Role, Refusal> {
        let key = self.role(form)?.name.to_lowercase();
        Ok(self.roles.get_mut(&key).expect("it is there"))
    }

    /// By ARN, which has name and path in their own case.
    pub fn policy(&self, arn: &str) -> Option<&Policy> {
        let name = arn.rsplit('/').next().unwrap_or_default().to_lowercase();
        self.policies.get(&name).filter(|policy| policy.arn() == arn)
    }

    fn policy_mut(&mut self, form: &Form) -> Result<&mut Policy, Refusal> {
        let arn = form.get("PolicyArn");
        let found = self.policy(arn).map(|policy| policy.name.to_lowercase());
        match found.and_then(|key| self.policies.get_mut(&key)) {
            Some(policy) => Ok(policy),
            None => refuse("NoSuchEntity", format!("Policy {arn} was not found.")),
        }
    }

    fn attachable(&self, arn: &str) -> bool {
        arn.starts_with("arn:aws:iam::aws:policy/") || self.policy(arn).is_some()
    }

    fn users(&self, arn: &str) -> impl Iterator<Item = &Role> {
        self.roles.values().filter(move |role| role.managed.contains(arn))
    }

    /// Those that it is attached to, and those whose boundary it is: either keeps it from being deleted.
    fn entities(&self, arn: &str) -> impl Iterator<Item = &Role> {
        self.roles.values().filter(move |role| role.managed.contains(arn) || role.boundary.as_deref() == Some(arn))
    }

    /// What a policy says, by ARN; an AWS-managed one stands for itself.
    pub fn says(&self, arn: &str) -> Facts {
        self.policy(arn).map_or_else(|| Facts::named(arn), |policy| (*facts(policy.document())).clone())
    }

    /// Answers a call.
    pub fn call(&mut self, action: &str, form: &Form) -> Answer {
        match action {
            _ if is_about_profiles(action) => self.call_profile(action, form),
            _ if is_read(action) => self.read(action, form),
            "CreateRole" => self.create_role(form),
            "CreatePolicy" | "CreatePolicyVersion" | "DeletePolicyVersion" | "DeletePolicy" | "TagPolicy" => {
                self.write_policy(action, form)
            }
            "AttachRolePolicy" | "PutRolePolicy" | "DeleteRole" => self.write_role(action, form),
            _ => self.set_role(action, form),
        }
    }

    fn create_role(&mut self, form: &Form) -> Answer {
        let name = form.get("RoleName").to_owned();
        if self.roles.contains_key(&name.to_lowercase()) {
            return refuse("EntityAlreadyExists", format!("Role with name {name} already exists."));
        }
        let boundary = form.opt("PermissionsBoundary").map(str::to_owned);
        if let Some(boundary) = boundary.as_ref().filter(|boundary| !self.attachable(boundary)) {
            return refuse("NoSuchEntity", format!("Scope ARN: {boundary} does not exist or is not attachable."));
        }
        self.check_principals(form.get("AssumeRolePolicyDocument"))?;
        let trust = check(form.get("AssumeRolePolicyDocument"), true)?;
        let role = Role {
            path: form.opt("Path").unwrap_or("/").to_owned(),
            id: self.id("AROA"),
            created: self.born.unwrap_or(CREATED),
            description: form.opt("Description").unwrap_or_default().to_owned(),
            max_session: form.opt("MaxSessionDuration").map_or(3600, |seconds| seconds.parse().expect("seconds")),
            boundary,
            tags: form.tags(),
            trust,
            managed: BTreeSet::new(),
            inline: BTreeMap::new(),
            name: name.clone(),
        };
        let answer = format!("<Role>{}</Role>", show_role(&role, false));
        self.roles.insert(name.to_lowercase(), role);
        Ok(answer)
    }

    fn write_policy(&mut self, action: &str, form: &Form) -> Answer {
        if action == "CreatePolicy" {
            return self.create_policy(form);
        }
        let arn = form.get("PolicyArn").to_owned();
        let used = self.entities(&arn).count();
        let policy = self.policy_mut(form)?;
        match action {
            "TagPolicy" => tag(&mut policy.tags, form.tags()).map(|()| String::new()),
            "CreatePolicyVersion" => {
                let document = check(form.get("PolicyDocument"), false)?;
                if policy.versions.len() >= VERSIONS || size(&document) > 6144 {
                    return refuse("LimitExceeded", "A managed policy can have up to 5 versions.");
                }
                let number = policy.next;
                policy.next += 1;
                policy.versions.insert(number, document);
                policy.default = number;
                Ok(format!("<PolicyVersion>{}</PolicyVersion>", show_version(policy, number, false)))
            }
            "DeletePolicyVersion" => {
                let number: u32 = form.get("VersionId").trim_start_matches('v').parse().expect("a number");
                if number == policy.default {
                    return refuse("DeleteConflict", "Cannot delete the default version of a policy.");
                }
                match policy.versions.remove(&number) {
                    Some(_) => Ok(String::new()),
                    None => refuse("NoSuchEntity", format!("Policy {arn} version v{number} does not exist.")),
                }
            }
            _ if used > 0 => refuse("DeleteConflict", "Cannot delete a policy attached to entities."),
            _ if policy.versions.len() > 1 => refuse(
                "DeleteConflict",
                "This policy has more than one version. Before you delete a policy, delete them.",
            ),
            _ => {
                let key = policy.name.to_lowercase();
                self.policies.remove(&key);
                Ok(String::new())
            }
        }
    }

    fn create_policy(&mut self, form: &Form) -> Answer {
        let name = form.get("PolicyName").to_owned();
        if self.policies.contains_key(&name.to_lowercase()) {
            return refuse("EntityAlreadyExists", format!("A policy called {name} already exists."));
        }
        let document = check(form.get("PolicyDocument"), false)?;
        if size(&document) > 6144 {
            return refuse("LimitExceeded", "Cannot exceed quota for PolicySize: 6144");
        }
        let policy = Policy {
            path: form.opt("Path").unwrap_or("/").to_owned(),
            id: self.id("ANPA"),
            tags: form.tags(),
            versions: BTreeMap::from([(1, document)]),
            default: 1,
            next: 2,
            name: name.clone(),
        };
        let answer = format!("<Policy>{}</Policy>", show_policy(&policy, 0));
        self.policies.insert(name.to_lowercase(), policy);
        Ok(answer)
    }

    fn write_role(&mut self, action: &str, form: &Form) -> Answer {
        match action {
            "AttachRolePolicy" => {
                let arn = form.get("PolicyArn");
                let exists = self.attachable(arn);
                let role = self.role_mut(form)?;
                if !exists {
                    return refuse("NoSuchEntity", format!("Policy {arn} does not exist or is not attachable."));
                }
                if !role.managed.contains(arn) && role.managed.len() >= ATTACHMENTS {
                    return refuse("LimitExceeded", "Cannot exceed quota for PoliciesPerRole: 10");
                }
                role.managed.insert(arn.to_owned());
            }
            "PutRolePolicy" => {
                let document = check(form.get("PolicyDocument"), false)?;
                let role = self.role_mut(form)?;
                let name =
                    known(&role.inline, form.get("PolicyName")).unwrap_or_else(|| form.get("PolicyName").to_owned());
                let others: usize = role.inline.iter().filter(|(n, _)| **n != name).map(|(_, d)| size(d)).sum();
                if others + size(&document) > 10_240 {
                    return refuse("LimitExceeded", "Maximum policy size of 10240 bytes exceeded for role");
                }
                role.inline.insert(name, document);
            }
            _ => {
                let in_profile = self.profiles.values().any(|profile| profile.holds(form.get("RoleName")));
                let role = self.role(form)?;
                if in_profile {
                    return refuse(
                        "DeleteConflict",
                        "Cannot delete entity, must remove roles from instance profile first.",
                    );
                }
                if !role.managed.is_empty() || !role.inline.is_empty() {
                    return refuse(
                        "DeleteConflict",
                        "Cannot delete entity, must detach and delete all policies first.",
                    );
                }
                let key = role.name.to_lowercase();
                self.roles.remove(&key);
            }
        }
        Ok(String::new())
    }

    fn check_principals(&self, document: &str) -> Result<(), Refusal> {
        let gone = self.gone.iter().find(|gone| document.contains(&format!("\"{gone}\"")));
        gone.map_or(Ok(()), |gone| {
            refuse("MalformedPolicyDocument", format!("Invalid principal in policy: \"AWS\":\"{gone}\""))
        })
    }

    fn set_role(&mut self, action: &str, form: &Form) -> Answer {
        if action == "UpdateAssumeRolePolicy" {
            self.check_principals(form.get("PolicyDocument"))?;
        }
        let boundary = form.opt("PermissionsBoundary").map(|arn| (arn.to_owned(), self.attachable(arn)));
        let role = self.role_mut(form)?;
        let missing = |what: &str| refuse("NoSuchEntity", format!("The {what} cannot be found."));
        match action {
            "TagRole" => tag(&mut role.tags, form.tags())?,
            "UntagRole" => {
                for key in form.list("TagKeys") {
                    known(&role.tags, &key).and_then(|key| role.tags.remove(&key));
                }
            }
            "UpdateRole" => {
                // What is left out stays.
                if let Some(text) = form.opt("Description") {
                    text.clone_into(&mut role.description);
                }
                if let Some(seconds) = form.opt("MaxSessionDuration") {
                    role.max_session = seconds.parse().expect("seconds");
                }
            }
            "PutRolePermissionsBoundary" => match boundary.expect("a boundary") {
                (arn, true) => role.boundary = Some(arn),
                (arn, false) => return missing(&format!("policy {arn}")),
            },
            "DeleteRolePermissionsBoundary" if role.boundary.is_none() => return missing("boundary"),
            "DeleteRolePermissionsBoundary" => role.boundary = None,
            "UpdateAssumeRolePolicy" => {
                let document = check(form.get("PolicyDocument"), true)?;
                if size(&document) > 2048 {
                    return refuse("LimitExceeded", "Cannot exceed quota for ACLSizePerRole: 2048");
                }
                role.trust = document;
            }
            "DetachRolePolicy" => {
                if !role.managed.remove(form.get("PolicyArn")) {
                    return missing(&format!("policy {}", form.get("PolicyArn")));
                }
            }
            "DeleteRolePolicy" => {
                let Some(name) = known(&role.inline, form.get("PolicyName")) else {
                    return missing(&format!("role policy with name {}", form.get("PolicyName")));
                };
                role.inline.remove(&name);
            }
            _ => panic!("the stand-in knows no {action}"),
        }
        Ok(String::new())
    }

    fn read(&self, action: &str, form: &Form) -> Answer {
        let policy = || match self.policy(form.get("PolicyArn")) {
            Some(policy) => Ok(policy),
            None => refuse("NoSuchEntity", format!("Policy {} was not found.", form.get("PolicyArn"))),
        };
        Ok(match action {
            "GetAccountSummary" => "<SummaryMap></SummaryMap>".to_owned(),
            "GetRole" => format!("<Role>{}</Role>", show_role(self.role(form)?, true)),
            "ListAttachedRolePolicies" => wire::page(
                "AttachedPolicies",
                self.role(form)?.managed.iter().map(|arn| {
                    text("PolicyArn", arn) + &text("PolicyName", arn.rsplit('/').next().unwrap_or_default())
                }),
            ),
            "ListRolePolicies" => wire::page("PolicyNames", self.role(form)?.inline.keys().cloned()),
            "GetRolePolicy" => {
                let role = self.role(form)?;
                let Some(name) = known(&role.inline, form.get("PolicyName")) else {
                    return refuse("NoSuchEntity", "The role policy cannot be found.");
                };
                text("RoleName", &role.name)
                    + &text("PolicyName", &name)
                    + &wire::document("PolicyDocument", &role.inline[&name])
            }
            "GetPolicy" => {
                let policy = policy()?;
                format!("<Policy>{}</Policy>", show_policy(policy, self.users(&policy.arn()).count()))
            }
            "GetPolicyVersion" => {
                let (policy, number) =
                    (policy()?, form.get("VersionId").trim_start_matches('v').parse().expect("a number"));
                if !policy.versions.contains_key(&number) {
                    return refuse("NoSuchEntity", "This policy version does not exist.");
                }
                format!("<PolicyVersion>{}</PolicyVersion>", show_version(policy, number, true))
            }
            "ListPolicyVersions" => {
                let policy = policy()?;
                wire::page("Versions", policy.versions.keys().rev().map(|number| show_version(policy, *number, false)))
            }
            "ListEntitiesForPolicy" => {
                // Without a filter of usage both kinds are listed, and look the same.
                let users = self.entities(form.get("PolicyArn")).map(|role| text("RoleName", &role.name));
                wire::page("PolicyRoles", users) + &wire::list("PolicyUsers", []) + &wire::list("PolicyGroups", [])
            }
            _ => panic!("the stand-in knows no {action}"),
        })
    }
}

pub fn show_role(role: &Role, whole: bool) -> String {
    let mut all = [
        text("Path", &role.path),
        text("RoleName", &role.name),
        text("RoleId", &role.id),
        text("Arn", &role.arn()),
        text("CreateDate", role.created),
        wire::document("AssumeRolePolicyDocument", &role.trust),
        wire::tags(&role.tags),
    ]
    .concat();
    if whole {
        all += &text("MaxSessionDuration", &role.max_session.to_string());
        if !role.description.is_empty() {
            all += &text("Description", &role.description);
        }
        if let Some(arn) = &role.boundary {
            let boundary = text("PermissionsBoundaryType", "Policy") + &text("PermissionsBoundaryArn", arn);
            all += &["<PermissionsBoundary>", &boundary, "</PermissionsBoundary>"].concat();
        }
    }
    all
}

fn show_policy(policy: &Policy, attachments: usize) -> String {
    [
        text("PolicyName", &policy.name),
        text("PolicyId", &policy.id),
        text("Arn", &policy.arn()),
        text("Path", &policy.path),
        text("DefaultVersionId", &format!("v{}", policy.default)),
        text("AttachmentCount", &attachments.to_string()),
        text("IsAttachable", "true"),
        text("CreateDate", CREATED),
        wire::tags(&policy.tags),
    ]
    .concat()
}

fn show_version(policy: &Policy, number: u32, whole: bool) -> String {
    let document = if whole { wire::document("Document", &policy.versions[&number]) } else { String::new() };
    let default = text("IsDefaultVersion", &(policy.default == number).to_string());
    text("VersionId", &format!("v{number}")) + &default + &text("CreateDate", CREATED) + &document
}
