//! What the role should be: spec and class put together, checked, with every token replaced.
//!
//! All mistakes are found at once and named by field; a spec with a mistake yields no [`Desired`], so
//! nothing of it can reach AWS.

mod build;
mod class;

use self::build::Builder;
pub use self::class::class_mistakes;
use super::owner::Owner;
use super::settings::Settings;
use super::workload::{Workload, workload};
use crate::api::iamrole::{Adoption, Origin, WhenUnlisted};
use crate::api::{IamRoleClassSpec, IamRoleSpec, Reason, TAG_CLASS};
use crate::policy::{AccountRef, Document, Limits, Pattern, Tokens};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The inline policy by which AWS's console revokes sessions; nobody wants it removed as "unlisted".
pub const REVOKE_SESSIONS: &str = "AWSRevokeOlderSessions";

/// Why a spec can't be carried out: which field, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `InvalidSpec`, `NotAllowed` or another reason of their kind; `IssuerUnknown` where a fact has to be waited for.
    pub reason: Reason,
    /// In words, beginning with the field.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A policy that the role owns, as it should be.
#[derive(Clone, Debug)]
pub struct OwnPolicy {
    /// Name of the entry in the spec.
    pub entry: String,
    /// Name in AWS.
    pub name: String,
    /// Path in AWS, that of the role.
    pub path: String,
    /// The ARN that it has or will have.
    pub arn: String,
    /// Description; used at creation only.
    pub description: Option<String>,
    /// The document.
    pub document: Document,
}

/// The role as it should be.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Whose it is.
    pub owner: Owner,
    /// The account in which it lives.
    pub account: AccountRef,
    /// Quotas of that account.
    pub limits: Limits,
    /// Name of the class.
    pub class: String,
    /// Classes whose roles it takes over.
    pub takes_over_classes: BTreeSet<String>,
    /// Name.
    pub name: String,
    /// Path.
    pub path: String,
    /// Whether the spec itself gives the path; an adopted role keeps its own where it does not.
    pub path_given: bool,
    /// Description; absent means empty on a created role and "as found" on an adopted one.
    pub description: Option<String>,
    /// Longest session; absent means 3600 on a created role and "as found" on an adopted one.
    pub max_session: Option<i32>,
    /// ARN of the boundary; absent means none of ours.
    pub boundary: Option<String>,
    /// The boundary is the one that the class forces.
    pub forces_boundary: bool,
    /// Tags of spec and class, without the owner tags.
    pub tags: BTreeMap<String, String>,
    /// Trust policy, with what is generated for the ServiceAccounts.
    pub trust: Document,
    /// The ServiceAccounts that get the role, if any.
    pub workload: Option<Workload>,
    /// ARNs to attach, without those of `own`.
    pub managed: BTreeSet<String>,
    /// Inline policies by name.
    pub inline: BTreeMap<String, Document>,
    /// Policies that the role owns.
    pub own: Vec<OwnPolicy>,
    /// Name of the instance profile that holds the role, if one is wanted.
    pub profile: Option<String>,
    /// What happens to unlisted policies.
    pub when_unlisted: WhenUnlisted,
    /// Whether the spec itself says so; an adopted role keeps them where it does not.
    pub when_unlisted_given: bool,
    /// What is never removed as unlisted.
    pub exceptions: Exceptions,
    /// What to do with a role that is not ours.
    pub adoption: Adoption,
}

impl Desired {
    /// The tags of the operator on the role and its policies: whose they are, and which class let them in.
    #[must_use]
    pub fn role_tags(&self, origin: Origin) -> BTreeMap<String, String> {
        let mut tags = self.owner.tags(origin);
        tags.insert(TAG_CLASS.to_owned(), self.class.clone());
        tags
    }

    /// Whether a policy is wanted on the role, as one of its own or as an existing one.
    #[must_use]
    pub fn uses(&self, arn: &str) -> bool {
        self.managed.contains(arn) || self.own.iter().any(|policy| policy.arn == arn)
    }

    /// Whether this is the instance profile that is wanted; IAM ignores the case of its name.
    #[must_use]
    pub fn uses_profile(&self, name: &str) -> bool {
        self.profile.as_ref().is_some_and(|wanted| wanted.eq_ignore_ascii_case(name))
    }
}

/// Patterns of what is never removed as unlisted.
#[derive(Clone, Debug, Default)]
pub struct Exceptions {
    inline: Vec<Pattern>,
    managed: Vec<Pattern>,
    found: BTreeSet<String>,
}

impl Exceptions {
    /// Those of a class, with tokens replaced, plus `AWSRevokeOlderSessions`. A text with an unknown token is taken
    /// as it is, since deletion needs no valid class; [`desired`] names it.
    #[must_use]
    pub fn new(class: Option<&IamRoleClassSpec>, tokens: &Tokens) -> Self {
        let expand = |text: &String| tokens.expand(text).unwrap_or_else(|_| text.clone());
        let patterns = |list: &[String]| list.iter().map(|text| Pattern::new(&expand(text))).collect();
        let from_class = class.and_then(|class| class.unlisted_exceptions.as_ref());
        let mut exceptions = from_class.map_or_else(Self::default, |exceptions| Self {
            inline: patterns(&exceptions.inline_policies),
            managed: patterns(&exceptions.managed_policies),
            found: BTreeSet::new(),
        });
        exceptions.inline.push(Pattern::new(REVOKE_SESSIONS));
        exceptions
    }

    /// Also keeps what was found on a role when status was lost, by name or ARN: whose it is, nobody knows.
    pub fn keep_found(&mut self, found: impl IntoIterator<Item = String>) {
        self.found.extend(found);
    }

    /// Whether the inline policy is never removed.
    #[must_use]
    pub fn keep_inline(&self, name: &str) -> bool {
        self.found.contains(name) || self.inline.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether the attachment is never removed.
    #[must_use]
    pub fn keep_managed(&self, arn: &str) -> bool {
        self.found.contains(arn) || self.managed.iter().any(|pattern| pattern.matches(arn))
    }
}

/// What [`desired`] needs to know beyond the spec.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whose role it is.
    pub owner: &'a Owner,
    /// The account, as `GetCallerIdentity` says.
    pub account: &'a AccountRef,
    /// Name of the class.
    pub class_name: &'a str,
    /// The class.
    pub class: &'a IamRoleClassSpec,
    /// The boundaries that any class forces, with tokens: none of them may be a policy of a role.
    pub boundaries: &'a [String],
    /// Quotas of the account.
    pub limits: &'a Limits,
    /// Issuer of this cluster's ServiceAccount tokens without `https://`, if known (yet).
    pub issuer: Option<&'a str>,
}

/// Puts spec and class together, or says everything that is wrong with them.
pub fn desired(spec: &IamRoleSpec, settings: &Settings, facts: Facts<'_>) -> Result<Desired, Vec<Problem>> {
    let mut build = Builder::new(spec, facts);
    build.class_patterns();
    let (name, path) = (build.name(), build.path());
    build.session();
    let description = spec.description.clone();
    let boundary = build.boundary();
    let tags = build.tags();
    let workload = workload(spec, facts, &mut build.problems);
    let trust = build.trust(workload.as_ref());
    let mut managed = build.managed();
    let exceptions = build.exceptions();
    let inline = build.inline(&exceptions);
    let own = build.own(&name, &path);
    let profile = build.profile(&name);
    managed.retain(|arn| own.iter().all(|policy| policy.arn != *arn));
    let adoption = match spec.adoption {
        None | Some(Adoption::Unknown) => Adoption::Never,
        Some(adoption) => adoption,
    };
    if adoption != Adoption::Never && spec.role_name.is_none() {
        build.invalid("spec.adoption", "needs an explicit spec.roleName; name the role to take over");
    }
    if adoption != Adoption::Never {
        build.adoption(&name);
    }
    match trust {
        Some(trust) if build.problems.is_empty() => Ok(Desired {
            owner: facts.owner.clone(),
            account: facts.account.clone(),
            limits: *facts.limits,
            class: facts.class_name.to_owned(),
            takes_over_classes: facts.class.take_over_classes.iter().flatten().cloned().collect(),
            name,
            path,
            path_given: spec.path.is_some(),
            description,
            max_session: spec.max_session_duration_seconds,
            boundary,
            forces_boundary: facts.class.permissions_boundary.is_some(),
            tags,
            trust,
            workload,
            managed,
            inline,
            own,
            profile,
            when_unlisted: settings.when_unlisted,
            when_unlisted_given: spec.when_unlisted.is_some(),
            exceptions,
            adoption,
        }),
        _ => Err(build.problems),
    }
}

/// The role's name alone, as spec and class give it; `None` if they give no valid one. Deletion asks for it
/// when status is lost, and must not depend on the rest of the spec.
#[must_use]
pub fn role_name(spec: &IamRoleSpec, facts: Facts<'_>) -> Option<String> {
    let mut build = Builder::new(spec, facts);
    let name = build.name();
    // What is not allowed (any more) may have been, and must go all the same.
    build.problems.iter().all(|problem| problem.reason == Reason::NotAllowed).then_some(name)
}

/// What spec and class list of permissions, whatever else is wrong with them.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// ARNs of existing policies.
    pub managed: BTreeSet<String>,
    /// Names of inline policies.
    pub inline: BTreeSet<String>,
    /// ARNs of policies that the role owns.
    pub own: BTreeSet<String>,
    /// Name of the instance profile that holds the role.
    pub profile: Option<String>,
}

/// What a role may have of its spec and class where status does not tell. As for [`role_name`], deletion must not depend on
/// the rest of the spec, and what is not allowed (any more) may have been.
#[must_use]
pub fn listed(spec: &IamRoleSpec, facts: Facts<'_>) -> Listed {
    let mut build = Builder::new(spec, facts);
    let (name, path) = (build.name(), build.path());
    Listed {
        managed: build.managed(),
        inline: spec.inline_policies.iter().flatten().map(|policy| policy.name.clone()).collect(),
        own: build.own_arns(&name, &path),
        profile: build.profile(&name),
    }
}

/// The tokens of an object in an account.
#[must_use]
pub fn tokens(owner: &Owner, account: &AccountRef) -> Tokens {
    let mut tokens = Tokens::default();
    tokens.set("account", &account.id);
    tokens.set("partition", &account.partition);
    tokens.set("cluster", &owner.cluster.name);
    tokens.set("namespace", &owner.namespace);
    tokens.set("name", &owner.name);
    tokens
}

#[cfg(test)]
pub(crate) mod tests;
