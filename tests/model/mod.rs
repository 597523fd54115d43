//! IAM in memory, as strict as AWS where plans could go wrong: names and tag keys that ignore case, quotas, conflicts,
//! missing entities. Any step can be refused.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod orders;
pub mod wishes;

use iamrole_operator::api::iamrole::{Origin, PolicyRef, ProfileRef, RoleRef};
use iamrole_operator::api::iamroleclass::Allowed;
use iamrole_operator::api::{IamRoleClassSpec, IamRoleSpec};
use iamrole_operator::policy::{AccountRef, Canonical, Document, Grammar, Limits};
use iamrole_operator::role::desired::{Facts, desired};
use iamrole_operator::role::settings::settings;
use iamrole_operator::role::{
    Action, Asked, Cluster, Desired, Observed, ObservedPolicy, ObservedProfile, Owner, Phase, Plan, Progress, Record,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub const ACCOUNT: &str = "111122223333";
/// Name of the one role.
pub const ROLE: &str = "role";

pub fn account() -> AccountRef {
    AccountRef { partition: "aws".into(), id: ACCOUNT.into() }
}

pub fn owner() -> Owner {
    let (namespace, name) = ("shop".into(), "api".into());
    Owner { cluster: Cluster::new(Some("prod"), "uid-1"), namespace, name, heir_of: Vec::new() }
}

pub fn arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:policy/{name}")
}

/// The desired state of a spec, under an empty class.
pub fn want(spec: &Value, limits: Limits) -> Desired {
    let spec: IamRoleSpec = serde_json::from_value(spec.clone()).unwrap();
    let class = IamRoleClassSpec { allowed: Some(Allowed::everything()), ..IamRoleClassSpec::default() };
    let settings = settings(&spec, Some(&class), None, None);
    let (owner, account) = (owner(), account());
    let facts = Facts {
        owner: &owner,
        account: &account,
        class_name: "default",
        class: &class,
        boundaries: &[],
        limits: &limits,
        issuer: None,
    };
    let desired = desired(&spec, &settings, facts).unwrap_or_else(|problems| panic!("{problems:?}"));
    Desired { name: ROLE.to_owned(), ..desired }
}

/// A document as AWS holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub document: Canonical,
    pub size: usize,
}

impl Held {
    pub fn new(document: &Document) -> Self {
        // Read from the text, as the adapter does: it knows the size.
        let document = if document.statements().iter().any(|statement| statement.principal.is_some()) {
            Canonical::read(Grammar::Trust, &document.to_json(), &account())
        } else {
            Canonical::read(Grammar::Permission, &document.to_json(), &account())
        };
        Self { size: document.size(), document }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub held: Held,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct Role {
    pub description: String,
    pub max_session: i32,
    pub boundary: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub trust: Document,
    pub managed: BTreeSet<String>,
    pub inline: BTreeMap<String, Held>,
}

/// An instance profile.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    pub tags: BTreeMap<String, String>,
    pub roles: BTreeSet<String>,
}

/// An account with at most one role.
#[derive(Clone, Debug)]
pub struct Aws {
    pub role: Option<Role>,
    pub policies: BTreeMap<String, Policy>,
    pub profiles: BTreeMap<String, Profile>,
    pub quota: usize,
    pub limits: Limits,
    /// Whether a tag that is set again in other case keeps its old case.
    pub keeps_case: bool,
    /// ARNs of policies to which somebody else holds on.
    pub used_elsewhere: BTreeSet<String>,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            role: None,
            policies: BTreeMap::new(),
            profiles: BTreeMap::new(),
            quota: 10,
            limits: Limits::default(),
            keeps_case: false,
            used_elsewhere: BTreeSet::new(),
        }
    }
}

fn same<'m, V>(map: &'m BTreeMap<String, V>, key: &str) -> Option<&'m String> {
    map.keys().find(|known| known.eq_ignore_ascii_case(key))
}

impl Aws {
    pub fn role(&self) -> &Role {
        self.role.as_ref().unwrap()
    }

    pub fn role_mut(&mut self) -> &mut Role {
        self.role.as_mut().unwrap()
    }

    /// Executes like the adapter: what is gone already counts as removed.
    pub fn execute(&mut self, action: &Action) -> Result<(), &'static str> {
        if let Action::CreateRole { description, max_session, boundary, tags, trust, .. } = action {
            if self.role.is_some() {
                return Err("EntityAlreadyExists");
            }
            self.role = Some(Role {
                description: description.clone().unwrap_or_default(),
                max_session: *max_session,
                boundary: boundary.clone(),
                tags: tags.clone(),
                trust: trust.clone(),
                managed: BTreeSet::new(),
                inline: BTreeMap::new(),
            });
            return Ok(());
        }
        match action {
            Action::CreatePolicy { .. }
            | Action::TagPolicy { .. }
            | Action::UpdatePolicy { .. }
            | Action::DeletePolicy(_) => self.on_policy(action),
            Action::CreateProfile { .. }
            | Action::TagProfile { .. }
            | Action::JoinProfile(_)
            | Action::LeaveProfile { .. }
            | Action::DeleteProfile(_) => self.on_profile(action),
            _ => self.on_role(action),
        }
    }

    fn on_policy(&mut self, action: &Action) -> Result<(), &'static str> {
        match action {
            Action::CreatePolicy { policy, tags } => {
                if same(&self.policies, &policy.arn).is_some() {
                    return Err("EntityAlreadyExists");
                }
                let held = Held::new(&policy.document);
                self.policies.insert(policy.arn.clone(), Policy { held, tags: tags.clone() });
            }
            Action::TagPolicy { arn, tags } => {
                self.policies.get_mut(arn).ok_or("NoSuchEntity")?.tags.extend(tags.clone());
            }
            Action::UpdatePolicy { arn, document } => {
                let held = Held::new(document);
                if held.size > self.limits.managed {
                    return Err("LimitExceeded");
                }
                self.policies.get_mut(arn).ok_or("NoSuchEntity")?.held = held;
            }
            Action::DeletePolicy(arn) => {
                let attached = self.role.as_ref().is_some_and(|role| role.managed.contains(arn));
                if attached || self.used_elsewhere.contains(arn) {
                    return Err("DeleteConflict");
                }
                self.policies.remove(arn);
            }
            _ => panic!("{action:?}"),
        }
        Ok(())
    }

    fn on_profile(&mut self, action: &Action) -> Result<(), &'static str> {
        let missing = "NoSuchEntity";
        match action {
            Action::CreateProfile { name, .. } if same(&self.profiles, name).is_some() => {
                return Err("EntityAlreadyExists");
            }
            Action::CreateProfile { name, tags, .. } => {
                self.profiles.insert(name.clone(), Profile { tags: tags.clone(), ..Profile::default() });
            }
            Action::TagProfile { name, tags } => {
                self.profiles.get_mut(name).ok_or(missing)?.tags.extend(tags.clone());
            }
            Action::JoinProfile(name) => {
                let profile = self.profiles.get_mut(name).ok_or(missing)?;
                if self.role.is_none() || !profile.roles.is_empty() {
                    return Err(if self.role.is_none() { missing } else { "LimitExceeded" });
                }
                profile.roles.insert(ROLE.to_owned());
            }
            Action::LeaveProfile { profile, role } => {
                if let Some(profile) = self.profiles.get_mut(profile) {
                    profile.roles.remove(role);
                }
            }
            Action::DeleteProfile(name) => {
                if self.profiles.get(name).is_some_and(|profile| !profile.roles.is_empty()) {
                    return Err("DeleteConflict");
                }
                self.profiles.remove(name);
            }
            _ => panic!("{action:?}"),
        }
        Ok(())
    }

    fn on_role(&mut self, action: &Action) -> Result<(), &'static str> {
        let (quota, total, keeps_case) = (self.quota, self.limits.inline_total, self.keeps_case);
        let exists = |arn: &String| arn.starts_with("arn:aws:iam::aws:") || self.policies.contains_key(arn);
        let missing = matches!(action, Action::Attach(arn) | Action::PutBoundary(arn) if !exists(arn));
        let Some(role) = &mut self.role else {
            let gone = matches!(action, Action::DeleteRole | Action::Detach(_) | Action::DeleteInline(_));
            return if gone { Ok(()) } else { Err("NoSuchEntity") };
        };
        match action {
            _ if missing => return Err("NoSuchEntity"),
            Action::TagRole(tags) => {
                for (key, value) in tags {
                    let old = same(&role.tags, key).cloned();
                    let spelled = old.clone().filter(|_| keeps_case).unwrap_or_else(|| key.clone());
                    old.and_then(|old| role.tags.remove(&old));
                    role.tags.insert(spelled, value.clone());
                }
            }
            Action::UntagRole(keys) => {
                role.tags.retain(|known, _| !keys.iter().any(|key| known.eq_ignore_ascii_case(key)));
            }
            Action::UpdateRole { description, max_session } => {
                role.description.clone_from(description);
                role.max_session = *max_session;
            }
            Action::PutBoundary(arn) => role.boundary = Some(arn.clone()),
            Action::DeleteBoundary => role.boundary = None,
            Action::UpdateTrust(document) if document.size() > self.limits.trust => return Err("LimitExceeded"),
            Action::UpdateTrust(document) => role.trust = document.clone(),
            Action::Attach(arn) => {
                if !role.managed.contains(arn) && role.managed.len() >= quota {
                    return Err("LimitExceeded");
                }
                role.managed.insert(arn.clone());
            }
            Action::Detach(arn) => drop(role.managed.remove(arn)),
            Action::PutInline { name, document } => {
                let name = same(&role.inline, name).unwrap_or(name).clone();
                let others: usize = role.inline.iter().filter(|(known, _)| **known != name).map(|(_, p)| p.size).sum();
                if others + document.size() > total {
                    return Err("LimitExceeded");
                }
                role.inline.insert(name, Held::new(document));
            }
            Action::DeleteInline(name) => role.inline.retain(|known, _| !known.eq_ignore_ascii_case(name)),
            Action::DeleteRole => {
                let is_in = self.profiles.values().any(|profile| profile.roles.contains(ROLE));
                if !(role.managed.is_empty() && role.inline.is_empty()) || is_in {
                    return Err("DeleteConflict");
                }
                self.role = None;
            }
            _ => panic!("{action:?}"),
        }
        Ok(())
    }

    /// What the adapter reads: the role, and those of the policies that the plan asks about.
    pub fn observe(&self, asked: &Asked) -> Option<Observed> {
        let role = self.role.as_ref()?;
        Some(Observed {
            name: ROLE.into(),
            path: "/".into(),
            arn: format!("arn:aws:iam::{ACCOUNT}:role/{ROLE}"),
            id: "AROA1".into(),
            create_date: "2026-01-01T00:00:00Z".into(),
            description: role.description.clone(),
            max_session: role.max_session,
            boundary: role.boundary.clone(),
            tags: role.tags.clone(),
            trust: role.trust.canonical(&account()),
            managed: role.managed.clone(),
            inline: role.inline.iter().map(|(name, held)| (name.clone(), held.document.clone())).collect(),
            own: self.observe_policies(asked),
            profiles: self.observe_profiles(|name| asked.profiles.contains(name)),
        })
    }

    pub fn observe_profiles(&self, asked: impl Fn(&str) -> bool) -> BTreeMap<String, ObservedProfile> {
        let read = |(name, profile): (&String, &Profile)| {
            let arn = format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}");
            let (tags, roles) = (profile.tags.clone(), profile.roles.clone());
            (name.clone(), ObservedProfile { name: name.clone(), arn, tags, roles })
        };
        self.profiles.iter().filter(|(name, _)| asked(name)).map(read).collect()
    }

    pub fn observe_policies(&self, asked: &Asked) -> BTreeMap<String, ObservedPolicy> {
        let found = self.policies.iter().filter(|(arn, _)| asked.policies.contains(*arn));
        let read = |policy: &Policy| ObservedPolicy {
            id: "ANPA1".into(),
            version: "v1".into(),
            tags: policy.tags.clone(),
            document: policy.held.document.clone(),
        };
        found.map(|(arn, policy)| (arn.clone(), read(policy))).collect()
    }
}

/// What the controller asks about.
pub fn asked(desired: &Desired, record: &Record) -> Asked {
    Asked::new(Some(desired), record)
}

/// What the controller writes into status before it begins.
pub fn intend(record: &mut Record, desired: &Desired, plan: &Plan, aws: &Aws) {
    let role = record.role.get_or_insert_with(RoleRef::default);
    role.name.clone_from(&desired.name);
    role.origin.get_or_insert(Origin::Created);
    record.managed.extend(desired.managed.iter().cloned());
    record.inline.extend(desired.inline.keys().cloned());
    record.tag_keys.extend(desired.tags.keys().cloned());
    for policy in &desired.own {
        if record.own_mut(&policy.arn).is_none() {
            let (name, arn) = (policy.entry.clone(), policy.arn.clone());
            record.own.push(PolicyRef { name, arn, ..PolicyRef::default() });
        }
    }
    let found = aws.role.as_ref().and_then(|role| role.boundary.as_ref());
    record.intend_boundary(desired.boundary.as_ref(), found);
    if let Some(wanted) = desired.profile.as_ref().filter(|_| !plan.unfinished) {
        let known = record.profile.take().filter(|known| known.name == *wanted);
        record.profile = known.or_else(|| Some(ProfileRef { name: wanted.clone(), arn: None }));
    }
}

/// What the controller notes in status of a step that was done.
pub fn enter(record: &mut Record, desired: &Desired, action: &Action) {
    match action {
        Action::CreateRole { .. } => {
            if let Some(role) = &mut record.role {
                role.id = Some("AROA1".into());
            }
            record.set_boundary(desired.boundary.clone());
        }
        Action::UntagRole(keys) => record.tag_keys.retain(|key| !keys.contains(key)),
        Action::PutBoundary(arn) => record.set_boundary(Some(arn.clone())),
        Action::DeleteBoundary => record.set_boundary(None),
        Action::Attach(arn) if desired.managed.contains(arn) => drop(record.managed.insert(arn.clone())),
        Action::Detach(arn) => drop(record.managed.remove(arn)),
        Action::PutInline { name, .. } => drop(record.inline.insert(name.clone())),
        Action::DeleteInline(name) => drop(record.inline.remove(name)),
        Action::CreatePolicy { policy, .. } => {
            if let Some(entry) = record.own_mut(&policy.arn) {
                entry.id = Some("ANPA1".into());
            }
        }
        Action::CreateProfile { name, .. } => {
            record.profile = Some(ProfileRef { name: name.clone(), arn: Some(name.clone()) });
        }
        Action::DeleteProfile(name) => record.profile = record.profile.take().filter(|known| known.name != *name),
        Action::DeletePolicy(arn) => record.own.retain(|policy| policy.arn != *arn),
        _ => {}
    }
}

/// Carries a plan out as the controller does; `refuses` tells which steps fail. `seen` is called after each step.
pub fn carry(
    aws: &mut Aws,
    plan: &Plan,
    desired: &Desired,
    record: &mut Record,
    refuses: impl Fn(usize) -> bool,
    seen: impl FnMut(&Aws, &Action),
) -> usize {
    let fate = |i: usize| if refuses(i) { Fate::Refused } else { Fate::Answered };
    carry_through(aws, plan, desired, record, fate, seen)
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Answered,
    Refused,
    /// It has its effect, and the answer is lost.
    Unheard,
}

/// The same, where answers may be lost.
pub fn carry_through(
    aws: &mut Aws,
    plan: &Plan,
    desired: &Desired,
    record: &mut Record,
    fate: impl Fn(usize) -> Fate,
    mut seen: impl FnMut(&Aws, &Action),
) -> usize {
    let mut progress = Progress::of(plan);
    let mut left = plan.refused.len();
    for (i, step) in plan.steps.iter().enumerate() {
        if progress.holds_up(step) {
            progress.failed(step);
            left += 1;
            continue;
        }
        let result = match fate(i) {
            Fate::Answered => aws.execute(&step.action),
            Fate::Refused => Err("refused"),
            Fate::Unheard => {
                if aws.execute(&step.action).is_ok() {
                    seen(aws, &step.action);
                }
                Err("unheard")
            }
        };
        if result == Err("EntityAlreadyExists") {
            return left + plan.steps.len() - i;
        }
        if result.is_err() {
            progress.failed(step);
            left += 1;
            continue;
        }
        enter(record, desired, &step.action);
        seen(aws, &step.action);
    }
    left
}

/// The order of phases is kept.
pub fn is_ordered(plan: &Plan) -> bool {
    let phases: Vec<Phase> = plan.steps.iter().map(|step| step.phase).collect();
    phases.is_sorted()
}
