//! The ordered list of actions that makes AWS match.
//!
//! The order keeps two promises while an update is under way or stops half-way: no permission that is
//! wanted before and after is ever missing, and no principal ever holds a permission that the spec did
//! not combine with it. [`Phase`] is that order; [`Phase::blocked_by`] says what a failure holds up.

use super::desired::{Desired, OwnPolicy, Problem};
use super::observed::{Observed, ObservedPolicy};
use super::owner::Ownership;
use super::record::Record;
use crate::api::Reason;
use crate::api::iamrole::{Origin, WhenUnlisted};
use crate::policy::{Document, Relation, bridge, relation};
use std::collections::{BTreeMap, BTreeSet};

/// IAM's default for the longest session.
pub const DEFAULT_SESSION: i32 = 3600;

/// When a step is done; steps are ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The role itself.
    Create,
    /// Owner tags: adoption, or mending.
    Own,
    /// Tags, description, duration: independent of all others.
    Describe,
    /// The boundary is set or replaced, before any permission comes.
    Bound,
    /// Trust that only narrows, or a bridge between two trusts.
    Narrow,
    /// Detach what goes anyway, where the attachment quota has no room for what comes.
    MakeRoom,
    /// New and changed permissions.
    Add,
    /// Permissions that go.
    Remove,
    /// Trust that adds or alters.
    Widen,
    /// A boundary of ours that is not wanted any more.
    Unbound,
    /// Deletion of the role.
    Delete,
    /// Deletion of the policies that the role owned.
    DeletePolicies,
}

impl Phase {
    /// Whether a step of this phase must wait since a step of `failed` did not succeed.
    #[must_use]
    pub fn blocked_by(self, failed: Self) -> bool {
        match failed {
            Self::Describe | Self::DeletePolicies => false,
            // Narrowing is safe at any time; it also is what a removed principal needs most.
            Self::Bound => self > failed && self != Self::Narrow,
            // Each change of permissions stands for itself; what follows needs all of them.
            Self::MakeRoom | Self::Add | Self::Remove => self > failed && self != Self::Describe,
            Self::Create | Self::Own | Self::Narrow | Self::Widen | Self::Unbound | Self::Delete => self > failed,
        }
    }
}

/// One call (or one short fixed sequence of calls) to IAM.
#[derive(Clone, Debug)]
pub enum Action {
    /// `CreateRole` with everything that it can carry.
    CreateRole {
        /// Path.
        path: String,
        /// Description, not empty.
        description: Option<String>,
        /// Longest session in seconds.
        max_session: i32,
        /// ARN of the boundary.
        boundary: Option<String>,
        /// All tags, with the owner's.
        tags: BTreeMap<String, String>,
        /// Trust policy.
        trust: Document,
    },
    /// `TagRole`.
    TagRole(BTreeMap<String, String>),
    /// `UntagRole`.
    UntagRole(BTreeSet<String>),
    /// `UpdateRole`; always with both members, since some servers clear what is left out.
    UpdateRole {
        /// Description, empty to clear.
        description: String,
        /// Longest session in seconds.
        max_session: i32,
    },
    /// `PutRolePermissionsBoundary`.
    PutBoundary(String),
    /// `DeleteRolePermissionsBoundary`.
    DeleteBoundary,
    /// `UpdateAssumeRolePolicy`.
    UpdateTrust(Document),
    /// `CreatePolicy`.
    CreatePolicy {
        /// The policy.
        policy: Box<OwnPolicy>,
        /// Its tags.
        tags: BTreeMap<String, String>,
    },
    /// `CreatePolicyVersion` as default, after the oldest version has made room.
    UpdatePolicy {
        /// ARN of the policy.
        arn: String,
        /// The new document.
        document: Document,
    },
    /// `AttachRolePolicy`.
    Attach(String),
    /// `DetachRolePolicy`.
    Detach(String),
    /// `PutRolePolicy`.
    PutInline {
        /// Name of the inline policy.
        name: String,
        /// Its document.
        document: Document,
    },
    /// `DeleteRolePolicy`.
    DeleteInline(String),
    /// `DeletePolicy`, after its other versions.
    DeletePolicy(String),
    /// `RemoveRoleFromInstanceProfile`.
    LeaveProfile(String),
    /// `DeleteRole`.
    DeleteRole,
}

impl Action {
    /// IAM's name of the call that matters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateRole { .. } => "CreateRole",
            Self::TagRole(_) => "TagRole",
            Self::UntagRole(_) => "UntagRole",
            Self::UpdateRole { .. } => "UpdateRole",
            Self::PutBoundary(_) => "PutRolePermissionsBoundary",
            Self::DeleteBoundary => "DeleteRolePermissionsBoundary",
            Self::UpdateTrust(_) => "UpdateAssumeRolePolicy",
            Self::CreatePolicy { .. } => "CreatePolicy",
            Self::UpdatePolicy { .. } => "CreatePolicyVersion",
            Self::Attach(_) => "AttachRolePolicy",
            Self::Detach(_) => "DetachRolePolicy",
            Self::PutInline { .. } => "PutRolePolicy",
            Self::DeleteInline(_) => "DeleteRolePolicy",
            Self::DeletePolicy(_) => "DeletePolicy",
            Self::LeaveProfile(_) => "RemoveRoleFromInstanceProfile",
            Self::DeleteRole => "DeleteRole",
        }
    }

    /// What it is done to: an ARN or name, or the role's name where it is the role itself.
    #[must_use]
    pub fn target<'a>(&'a self, role: &'a str) -> &'a str {
        match self {
            Self::CreatePolicy { policy, .. } => &policy.arn,
            Self::UpdatePolicy { arn, .. }
            | Self::Attach(arn)
            | Self::Detach(arn)
            | Self::DeletePolicy(arn)
            | Self::PutBoundary(arn) => arn,
            Self::PutInline { name, .. } | Self::DeleteInline(name) | Self::LeaveProfile(name) => name,
            _ => role,
        }
    }

    /// In a person's words, with tag keys but without values and without policy text.
    #[must_use]
    pub fn describe(&self, role: &str) -> String {
        let list = |keys: &mut dyn Iterator<Item = &String>| keys.map(String::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Self::CreateRole { .. } => format!("create role {role}"),
            Self::TagRole(tags) => format!("set tags {}", list(&mut tags.keys())),
            Self::UntagRole(keys) => format!("remove tags {}", list(&mut keys.iter())),
            Self::UpdateRole { .. } => "set description and session duration".to_owned(),
            Self::PutBoundary(arn) => format!("set permissions boundary {arn}"),
            Self::DeleteBoundary => "remove permissions boundary".to_owned(),
            Self::UpdateTrust(_) => "update trust policy".to_owned(),
            Self::CreatePolicy { policy, .. } => format!("create policy {}", policy.arn),
            Self::UpdatePolicy { arn, .. } => format!("make a new version of policy {arn}"),
            Self::Attach(arn) => format!("attach policy {arn}"),
            Self::Detach(arn) => format!("detach policy {arn}"),
            Self::PutInline { name, .. } => format!("put inline policy {name}"),
            Self::DeleteInline(name) => format!("delete inline policy {name}"),
            Self::DeletePolicy(arn) => format!("delete policy {arn}"),
            Self::LeaveProfile(name) => format!("take the role out of instance profile {name}"),
            Self::DeleteRole => format!("delete role {role}"),
        }
    }
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub phase: Phase,
    /// What.
    pub action: Action,
    /// ARN of a policy; no earlier step done to it may have failed.
    pub needs: Option<String>,
}

impl Step {
    pub(super) const fn new(phase: Phase, action: Action) -> Self {
        Self { phase, action, needs: None }
    }

    pub(super) const fn after(phase: Phase, action: Action, needs: String) -> Self {
        Self { phase, action, needs: Some(needs) }
    }
}

/// What is to be done, in order, and what is refused.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Parts that can't be done; they hold up removals as a failed addition does.
    pub refused: Vec<Problem>,
    /// Attachments and inline policies that nobody listed and that stay.
    pub unlisted: Vec<String>,
}

impl Plan {
    /// Whether AWS is as wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.refused.is_empty()
    }

    fn push(&mut self, phase: Phase, action: Action) {
        self.steps.push(Step::new(phase, action));
    }

    fn has(&self, phase: Phase) -> bool {
        self.steps.iter().any(|step| step.phase == phase)
    }
}

/// The plan for a role that does not exist: it is created without a read.
#[must_use]
pub fn create(desired: &Desired) -> Plan {
    let mut plan = Plan::default();
    let mut tags = desired.tags.clone();
    tags.extend(desired.owner.tags(Origin::Created));
    plan.push(
        Phase::Create,
        Action::CreateRole {
            path: desired.path.clone(),
            description: desired.description.clone().filter(|text| !text.is_empty()),
            max_session: desired.max_session.unwrap_or(DEFAULT_SESSION),
            boundary: desired.boundary.clone(),
            tags,
            trust: desired.trust.clone(),
        },
    );
    desired.own.iter().for_each(|policy| create_policy(&mut plan, desired, policy, true));
    desired.managed.iter().for_each(|arn| plan.push(Phase::Add, Action::Attach(arn.clone())));
    for (name, document) in &desired.inline {
        plan.push(Phase::Add, Action::PutInline { name: name.clone(), document: document.clone() });
    }
    plan
}

/// The plan for a foreign role that may be adopted: the owner tags, and nothing else in this pass.
#[must_use]
pub fn adopt(desired: &Desired) -> Plan {
    let mut plan = Plan::default();
    plan.push(Phase::Own, Action::TagRole(desired.owner.tags(Origin::Adopted)));
    plan
}

/// The plan for a role of ours. `attachments` is the account's quota of attached policies per role.
///
/// `recent` says that we wrote a moment ago: a read may then lag behind, so what we recorded is taken to
/// be there even if it is not seen.
#[must_use]
pub fn update(desired: &Desired, observed: &Observed, record: &Record, attachments: usize, recent: bool) -> Plan {
    let origin = match desired.owner.judge(&observed.tags) {
        Ownership::Ours(origin) => origin,
        Ownership::Other(_) | Ownership::Foreign => return Plan::default(),
    };
    let mut planner = Planner { desired, observed, record, origin, recent, plan: Plan::default() };
    planner.tags();
    planner.scalars();
    planner.boundary();
    planner.own_policies();
    planner.managed();
    planner.inline();
    planner.trust();
    planner.make_room(attachments);
    planner.plan.steps.sort_by_key(|step| step.phase);
    planner.plan.unlisted.sort();
    planner.plan
}

fn create_policy(plan: &mut Plan, desired: &Desired, policy: &OwnPolicy, attach: bool) {
    let tags = desired.owner.tags(Origin::Created);
    plan.push(Phase::Add, Action::CreatePolicy { policy: Box::new(policy.clone()), tags });
    if attach {
        let arn = policy.arn.clone();
        plan.steps.push(Step::after(Phase::Add, Action::Attach(arn.clone()), arn));
    }
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    record: &'a Record,
    origin: Origin,
    recent: bool,
    plan: Plan,
}

impl Planner<'_> {
    fn tags(&mut self) {
        let (observed, desired) = (&self.observed.tags, &self.desired.tags);
        let mut own = self.desired.owner.tags(self.origin);
        own.retain(|key, value| observed.get(key) != Some(value));
        if !own.is_empty() {
            self.plan.push(Phase::Own, Action::TagRole(own));
        }
        let mut missing = desired.clone();
        missing.retain(|key, value| !self.tag_is_set(key, value));
        if !missing.is_empty() {
            self.plan.push(Phase::Describe, Action::TagRole(missing));
        }
        // IAM takes keys that differ only in case for one: untagging the old case would remove the new.
        let wanted: BTreeSet<String> = desired.keys().map(|key| key.to_lowercase()).collect();
        let seen = |key: &String| self.recent || observed.contains_key(key);
        let stale = self.record.tag_keys.iter().filter(|key| !wanted.contains(&key.to_lowercase()) && seen(key));
        let stale: BTreeSet<String> = stale.cloned().collect();
        if !stale.is_empty() {
            self.plan.push(Phase::Describe, Action::UntagRole(stale));
        }
    }

    /// Whether the tag is there; a key in other case counts once we have written it in ours.
    fn tag_is_set(&self, key: &str, value: &str) -> bool {
        if let Some(found) = self.observed.tags.get(key) {
            return found == value;
        }
        let lower = key.to_lowercase();
        let other_case = self.observed.tags.iter().find(|(found, _)| found.to_lowercase() == lower);
        other_case.is_some_and(|(_, found)| found == value) && self.record.tag_keys.contains(key)
    }

    fn scalars(&mut self) {
        let as_found = self.origin == Origin::Adopted;
        let description = match &self.desired.description {
            Some(text) => text.clone(),
            None if as_found => self.observed.description.clone(),
            None => String::new(),
        };
        let max_session = match self.desired.max_session {
            Some(seconds) => seconds,
            None if as_found => self.observed.max_session,
            None => DEFAULT_SESSION,
        };
        if description != self.observed.description || max_session != self.observed.max_session {
            self.plan.push(Phase::Describe, Action::UpdateRole { description, max_session });
        }
    }

    fn boundary(&mut self) {
        match (&self.desired.boundary, &self.observed.boundary) {
            (Some(wanted), found) if found.as_ref() != Some(wanted) => {
                self.plan.push(Phase::Bound, Action::PutBoundary(wanted.clone()));
            }
            // One that neither spec nor class ever set is left alone.
            (None, Some(found)) if self.record.boundary.as_ref() == Some(found) => {
                self.plan.push(Phase::Unbound, Action::DeleteBoundary);
            }
            _ => {}
        }
    }

    fn own_policies(&mut self) {
        for policy in &self.desired.own {
            let attached = self.observed.managed.contains(&policy.arn);
            match self.observed.own.get(&policy.arn) {
                None => create_policy(&mut self.plan, self.desired, policy, !attached),
                Some(found) => self.own_policy(policy, found, attached),
            }
        }
        let wanted: BTreeSet<&str> = self.desired.own.iter().map(|policy| policy.arn.as_str()).collect();
        for gone in self.record.own.iter().filter(|policy| !wanted.contains(policy.arn.as_str())) {
            let ours = self.observed.own.get(&gone.arn).is_some_and(|found| self.is_ours(found));
            if ours {
                if self.observed.managed.contains(&gone.arn) || self.recent {
                    self.plan.push(Phase::Remove, Action::Detach(gone.arn.clone()));
                }
                let arn = gone.arn.clone();
                self.plan.steps.push(Step::after(Phase::Remove, Action::DeletePolicy(arn.clone()), arn));
            }
        }
    }

    fn is_ours(&self, policy: &ObservedPolicy) -> bool {
        self.desired.owner.judge(&policy.tags).is_ours()
    }

    fn own_policy(&mut self, policy: &OwnPolicy, found: &ObservedPolicy, attached: bool) {
        if !self.is_ours(found) {
            self.plan.refused.push(policy_taken(self.desired, policy, found));
            return;
        }
        if found.document != policy.document.canonical(&self.desired.account) {
            let (arn, document) = (policy.arn.clone(), policy.document.clone());
            self.plan.push(Phase::Add, Action::UpdatePolicy { arn, document });
        }
        if !attached {
            self.plan.push(Phase::Add, Action::Attach(policy.arn.clone()));
        }
    }

    fn managed(&mut self) {
        let own: BTreeSet<&String> = self.desired.own.iter().map(|policy| &policy.arn).collect();
        let handled: BTreeSet<&String> = self.record.own.iter().map(|policy| &policy.arn).collect();
        for arn in self.desired.managed.difference(&self.observed.managed) {
            self.plan.push(Phase::Add, Action::Attach(arn.clone()));
        }
        let unwanted = |arn: &&String| !self.desired.managed.contains(*arn) && !own.contains(arn);
        let mut gone: BTreeSet<String> = BTreeSet::new();
        for arn in self.observed.managed.iter().filter(unwanted) {
            let ours = handled.contains(arn) && self.observed.own.get(arn).is_some_and(|found| self.is_ours(found));
            if ours {
                continue;
            }
            let unlisted = !self.record.managed.contains(arn) && !handled.contains(arn);
            if unlisted && self.keeps(self.desired.exceptions.keep_managed(arn)) {
                self.plan.unlisted.push(arn.clone());
            } else {
                gone.insert(arn.clone());
            }
        }
        if self.recent {
            gone.extend(self.record.managed.iter().filter(unwanted).cloned());
        }
        gone.into_iter().for_each(|arn| self.plan.push(Phase::Remove, Action::Detach(arn)));
    }

    fn keeps(&self, exception: bool) -> bool {
        exception || self.desired.when_unlisted != WhenUnlisted::Remove
    }

    fn inline(&mut self) {
        let put =
            |name: &String, document: &Document| Action::PutInline { name: name.clone(), document: document.clone() };
        let wanted = &self.desired.inline;
        // New ones first: what moves from a changed policy into a new one is then never missing.
        for (name, document) in wanted.iter().filter(|(name, _)| !self.observed.inline.contains_key(*name)) {
            self.plan.push(Phase::Add, put(name, document));
        }
        for (name, document) in wanted {
            let found = self.observed.inline.get(name);
            if found.is_some_and(|found| *found != document.canonical(&self.desired.account)) {
                self.plan.push(Phase::Add, put(name, document));
            }
        }
        let mut gone: BTreeSet<String> = BTreeSet::new();
        for name in self.observed.inline.keys().filter(|name| !wanted.contains_key(*name)) {
            let unlisted = !self.record.inline.contains(name);
            if unlisted && self.keeps(self.desired.exceptions.keep_inline(name)) {
                self.plan.unlisted.push(name.clone());
            } else {
                gone.insert(name.clone());
            }
        }
        if self.recent {
            gone.extend(self.record.inline.iter().filter(|name| !wanted.contains_key(*name)).cloned());
        }
        gone.into_iter().for_each(|name| self.plan.push(Phase::Remove, Action::DeleteInline(name)));
    }

    fn trust(&mut self) {
        let account = &self.desired.account;
        let (old, new) = (&self.observed.trust, &self.desired.trust);
        match relation(old, &new.canonical(account)) {
            Relation::Same => {}
            Relation::Narrows => self.plan.push(Phase::Narrow, Action::UpdateTrust(new.clone())),
            Relation::Widens => self.plan.push(Phase::Widen, Action::UpdateTrust(new.clone())),
            Relation::Alters => {
                // Principals that go must not see what is added, those that come not what is removed.
                if self.plan.has(Phase::Add) || self.plan.has(Phase::Bound) {
                    let between = bridge(old, new, account);
                    self.plan.push(Phase::Narrow, Action::UpdateTrust(between));
                }
                self.plan.push(Phase::Widen, Action::UpdateTrust(new.clone()));
            }
        }
    }

    fn make_room(&mut self, quota: usize) {
        let comes = self.plan.steps.iter().filter(|step| matches!(step.action, Action::Attach(_))).count();
        let mut excess = (self.observed.managed.len() + comes).saturating_sub(quota);
        if comes == 0 {
            return;
        }
        for step in &mut self.plan.steps {
            if excess > 0 && step.phase == Phase::Remove && matches!(step.action, Action::Detach(_)) {
                step.phase = Phase::MakeRoom;
                excess -= 1;
            }
        }
    }
}

/// The refusal of an owned policy whose name belongs to somebody else.
#[must_use]
pub fn policy_taken(desired: &Desired, policy: &OwnPolicy, found: &ObservedPolicy) -> Problem {
    let whose = match desired.owner.judge(&found.tags) {
        Ownership::Other(owner) => format!("belongs to {owner}"),
        _ => "was not made by this operator".to_owned(),
    };
    Problem {
        reason: Reason::PolicyNameTaken,
        message: format!(
            "policy {} exists and {whose}; it is left untouched. Choose another policyName for entry {:?}, attach it \
             by managedPolicies instead, or remove it in AWS",
            policy.arn, policy.entry
        ),
    }
}
