//! What the role should be: spec and class put together, checked, with every token replaced.
//!
//! All mistakes are found at once and named by field; a spec with a mistake yields no [`Desired`], so
//! nothing of it can reach AWS.

use super::names;
use super::owner::Owner;
use super::settings::Settings;
use crate::api::iamrole::{Adoption, CustomerManagedPolicy, WhenUnlisted};
use crate::api::schema::PolicyDocument;
use crate::api::{IamRoleClassSpec, IamRoleSpec, Reason, TAG_PREFIX};
use crate::policy::{AccountRef, Arn, Document, Finding, Grammar, Limits, Pattern, Tokens};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The inline policy by which AWS's console revokes sessions; nobody wants it removed as "unlisted".
pub const REVOKE_SESSIONS: &str = "AWSRevokeOlderSessions";

/// Why a spec can't be carried out: which field, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `InvalidSpec`, `NotAllowed` or another reason of their kind.
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
    /// Tags of spec and class, without the owner tags.
    pub tags: BTreeMap<String, String>,
    /// Trust policy.
    pub trust: Document,
    /// ARNs to attach, without those of `own`.
    pub managed: BTreeSet<String>,
    /// Inline policies by name.
    pub inline: BTreeMap<String, Document>,
    /// Policies that the role owns.
    pub own: Vec<OwnPolicy>,
    /// What happens to unlisted policies.
    pub when_unlisted: WhenUnlisted,
    /// Whether the spec itself says so; an adopted role keeps them where it does not.
    pub when_unlisted_given: bool,
    /// What is never removed as unlisted.
    pub exceptions: Exceptions,
    /// What to do with a role that is not ours.
    pub adoption: Adoption,
}

/// Patterns of what is never removed as unlisted.
#[derive(Clone, Debug, Default)]
pub struct Exceptions {
    inline: Vec<Pattern>,
    managed: Vec<Pattern>,
}

impl Exceptions {
    /// Those of a class, plus `AWSRevokeOlderSessions`.
    #[must_use]
    pub fn new(class: Option<&IamRoleClassSpec>) -> Self {
        let patterns = |list: &[String]| list.iter().map(|pattern| Pattern::new(pattern)).collect();
        let from_class = class.and_then(|class| class.unlisted_exceptions.as_ref());
        let mut exceptions = from_class.map_or_else(Self::default, |exceptions| Self {
            inline: patterns(&exceptions.inline_policies),
            managed: patterns(&exceptions.managed_policies),
        });
        exceptions.inline.push(Pattern::new(REVOKE_SESSIONS));
        exceptions
    }

    /// Whether the inline policy is never removed.
    #[must_use]
    pub fn keep_inline(&self, name: &str) -> bool {
        self.inline.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether the attachment is never removed.
    #[must_use]
    pub fn keep_managed(&self, arn: &str) -> bool {
        self.managed.iter().any(|pattern| pattern.matches(arn))
    }
}

/// What [`desired`] needs to know beyond the spec.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whose role it is.
    pub owner: &'a Owner,
    /// The account, as `GetCallerIdentity` says.
    pub account: &'a AccountRef,
    /// Name of the class, for messages.
    pub class_name: &'a str,
    /// The class.
    pub class: &'a IamRoleClassSpec,
    /// Quotas of the account.
    pub limits: &'a Limits,
}

/// Puts spec and class together, or says everything that is wrong with them.
pub fn desired(spec: &IamRoleSpec, settings: &Settings, facts: Facts<'_>) -> Result<Desired, Vec<Problem>> {
    let mut build = Builder { spec, facts, tokens: tokens(facts), problems: Vec::new() };
    let (name, path) = (build.name(), build.path());
    let description = spec.description.clone();
    let boundary = build.boundary();
    let tags = build.tags();
    let trust = build.trust();
    let mut managed = build.managed();
    let inline = build.inline();
    let own = build.own(&name, &path);
    own.iter().for_each(|policy| {
        managed.remove(&policy.arn);
    });
    let adoption = match spec.adoption {
        None | Some(Adoption::Unknown) => Adoption::Never,
        Some(adoption) => adoption,
    };
    if adoption != Adoption::Never && spec.role_name.is_none() {
        build.invalid("spec.adoption", "needs an explicit spec.roleName; name the role to take over");
    }
    match trust {
        Some(trust) if build.problems.is_empty() => Ok(Desired {
            owner: facts.owner.clone(),
            account: facts.account.clone(),
            name,
            path,
            path_given: spec.path.is_some(),
            description,
            max_session: spec.max_session_duration_seconds,
            boundary,
            tags,
            trust,
            managed,
            inline,
            own,
            when_unlisted: settings.when_unlisted,
            when_unlisted_given: spec.when_unlisted.is_some(),
            exceptions: Exceptions::new(Some(facts.class)),
            adoption,
        }),
        _ => Err(build.problems),
    }
}

/// The role's name alone, as spec and class give it; `None` if they give no valid one. Deletion asks for it
/// when status is lost, and must not depend on the rest of the spec.
#[must_use]
pub fn role_name(spec: &IamRoleSpec, facts: Facts<'_>) -> Option<String> {
    let mut build = Builder { spec, facts, tokens: tokens(facts), problems: Vec::new() };
    let name = build.name();
    build.problems.is_empty().then_some(name)
}

fn tokens(facts: Facts<'_>) -> Tokens {
    let mut tokens = Tokens::default();
    tokens.set("account", &facts.account.id);
    tokens.set("partition", &facts.account.partition);
    tokens.set("cluster", &facts.owner.cluster.name);
    tokens.set("namespace", &facts.owner.namespace);
    tokens.set("name", &facts.owner.name);
    tokens
}

struct Builder<'a> {
    spec: &'a IamRoleSpec,
    facts: Facts<'a>,
    tokens: Tokens,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    fn invalid(&mut self, field: &str, message: impl fmt::Display) {
        self.problems.push(Problem { reason: Reason::InvalidSpec, message: format!("{field}: {message}") });
    }

    fn not_allowed(&mut self, field: &str, message: impl fmt::Display) {
        let message = format!("{field}: {message} (IamRoleClass {})", self.facts.class_name);
        self.problems.push(Problem { reason: Reason::NotAllowed, message });
    }

    fn findings(&mut self, findings: Vec<Finding>) {
        let problems =
            findings.into_iter().map(|finding| Problem { reason: Reason::InvalidSpec, message: finding.to_string() });
        self.problems.extend(problems);
    }

    fn expand(&mut self, field: &str, text: &str) -> String {
        match self.tokens.expand(text) {
            Ok(text) => text,
            Err(error) => {
                self.invalid(field, error);
                String::new()
            }
        }
    }

    fn name(&mut self) -> String {
        if let Some(name) = &self.spec.role_name {
            if !names::valid(name) || name.len() > names::ROLE_NAME {
                self.invalid("spec.roleName", "1 to 64 of the characters A-Z a-z 0-9 _+=,.@-");
            }
            return name.clone();
        }
        let class = self.facts.class;
        let template = class.role_name_template.as_deref().unwrap_or(names::DEFAULT_TEMPLATE);
        let field = "spec.roleNameTemplate of the class";
        let full = self.expand(field, template);
        if !full.is_empty() && !names::valid(&full) {
            self.invalid(field, format!("gives {full:?}, which has characters that IAM does not take in names"));
        }
        let owner = self.facts.owner;
        names::bounded(&full, names::ROLE_NAME, &[&owner.cluster.uid, &owner.namespace, &owner.name])
    }

    fn path(&mut self) -> String {
        let (field, path) = match (&self.spec.path, &self.facts.class.path) {
            (Some(path), _) => ("spec.path", path.clone()),
            (None, Some(path)) => ("spec.path of the class", self.expand("spec.path of the class", path)),
            (None, None) => return "/".to_owned(),
        };
        let printable = path.chars().all(|c| ('!'..='~').contains(&c));
        if !(printable && path.starts_with('/') && path.ends_with('/') && path.len() <= 512) {
            self.invalid(field, "begins and ends with / and has at most 512 printable ASCII characters");
        }
        path
    }

    fn boundary(&mut self) -> Option<String> {
        let forced = self.facts.class.permissions_boundary.as_ref();
        let forced = forced.map(|arn| self.policy_arn("spec.permissionsBoundary of the class", arn));
        let asked = self.spec.permissions_boundary.as_ref();
        let asked = asked.map(|arn| self.policy_arn("spec.permissionsBoundary", arn));
        match (forced, asked) {
            (Some(Some(forced)), Some(Some(asked))) if forced != asked => {
                self.not_allowed("spec.permissionsBoundary", format!("the class forces {forced}; remove the field"));
                None
            }
            (Some(forced), _) => forced,
            (None, asked) => asked.flatten(),
        }
    }

    fn tags(&mut self) -> BTreeMap<String, String> {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let mut tags = BTreeMap::new();
        for (key, value) in self.facts.class.tags.iter().flatten() {
            let field = format!("spec.tags[{key}] of the class");
            let value = self.tag(&field, key, value);
            seen.insert(key.to_lowercase(), format!("the class sets {key}"));
            tags.insert(key.clone(), value);
        }
        for (key, value) in self.spec.tags.iter().flatten() {
            let field = format!("spec.tags[{key}]");
            let value = self.tag(&field, key, value);
            match seen.insert(key.to_lowercase(), format!("{key} is there too")) {
                Some(other) if other.starts_with("the class") => {
                    self.not_allowed(&field, format!("{other}; remove it"))
                }
                Some(other) => self.invalid(
                    &field,
                    format!("{other}, and IAM takes keys that differ only in case for the same; keep one of them"),
                ),
                None => {}
            }
            tags.insert(key.clone(), value);
        }
        tags
    }

    fn tag(&mut self, field: &str, key: &str, value: &str) -> String {
        let fits = |text: &str, limit: usize| {
            let plain = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
            text.chars().count() <= limit && text.chars().all(plain)
        };
        let lower = key.to_lowercase();
        if lower.starts_with("aws:") || lower.starts_with(TAG_PREFIX) {
            self.invalid(field, "keys under aws: and iamrole.dev/ are reserved");
        } else if key.is_empty() || !fits(key, 128) {
            self.invalid(field, "a key has 1 to 128 letters, digits, spaces or _.:/=+-@");
        }
        let value = self.expand(field, value);
        if !fits(&value, 256) {
            self.invalid(field, "a value has at most 256 letters, digits, spaces or _.:/=+-@");
        }
        value
    }

    fn document(
        &mut self,
        grammar: Grammar,
        field: &str,
        object: Option<&PolicyDocument>,
        text: Option<&String>,
    ) -> Option<Document> {
        let result = match (object, text) {
            (Some(object), None) => Document::from_value(grammar, field, &object.0, &self.tokens),
            (None, Some(text)) => Document::from_json(grammar, &format!("{field}Json"), text, &self.tokens),
            _ => {
                self.invalid(field, format!("exactly one of it and its …Json form is needed ({field}Json)"));
                return None;
            }
        };
        result.map_err(|findings| self.findings(findings)).ok()
    }

    fn trust(&mut self) -> Option<Document> {
        let (object, text) = (self.spec.trust_policy.as_ref(), self.spec.trust_policy_json.as_ref());
        let trust = self.document(Grammar::Trust, "spec.trustPolicy", object, text)?;
        let (size, limit) = (trust.size(), self.facts.limits.trust);
        if size > limit {
            let field = if text.is_some() { "spec.trustPolicyJson" } else { "spec.trustPolicy" };
            self.invalid(
                field,
                format!(
                    "{size} characters without white space; IAM takes {limit}. Name fewer principals or conditions"
                ),
            );
        }
        Some(trust)
    }

    fn managed(&mut self) -> BTreeSet<String> {
        let class = self.facts.class.managed_policies.iter().flatten();
        let class = class.enumerate().map(|(i, name)| (format!("spec.managedPolicies[{i}] of the class"), name));
        let spec = self.spec.managed_policies.iter().flatten();
        let spec = spec.enumerate().map(|(i, name)| (format!("spec.managedPolicies[{i}]"), name));
        class.chain(spec).filter_map(|(field, name)| self.policy_arn(&field, name)).collect()
    }

    /// The ARN behind an entry: an ARN, or the name of an AWS-managed policy.
    fn policy_arn(&mut self, field: &str, entry: &str) -> Option<String> {
        let before = self.problems.len();
        let text = self.expand(field, entry);
        if self.problems.len() > before {
            return None;
        }
        let account = self.facts.account;
        if !text.starts_with("arn:") {
            let printable = text.chars().all(|c| ('!'..='~').contains(&c));
            if text.is_empty() || !printable || text.starts_with('/') {
                self.invalid(
                    field,
                    "write an ARN, or the name of an AWS-managed policy with its path, such as ReadOnlyAccess",
                );
                return None;
            }
            return Some(format!("arn:{}:iam::aws:policy/{text}", account.partition));
        }
        match check_policy_arn(&text, account) {
            Ok(()) => Some(text),
            Err(message) => {
                self.invalid(field, message);
                None
            }
        }
    }

    fn inline(&mut self) -> BTreeMap<String, Document> {
        let mut inline = BTreeMap::new();
        for (i, policy) in self.spec.inline_policies.iter().flatten().enumerate() {
            let field = format!("spec.inlinePolicies[{i}].document");
            let (object, text) = (policy.document.as_ref(), policy.document_json.as_ref());
            let Some(document) = self.document(Grammar::Permission, &field, object, text) else {
                continue;
            };
            if inline.insert(policy.name.clone(), document).is_some() {
                self.invalid(&format!("spec.inlinePolicies[{i}].name"), format!("{:?} is there twice", policy.name));
            }
        }
        let (total, limit) = (inline.values().map(Document::size).sum::<usize>(), self.facts.limits.inline_total);
        if total > limit {
            let biggest = inline.iter().max_by_key(|(_, document)| document.size());
            let biggest = biggest.map(|(name, document)| format!("{name:?} with {}", document.size()));
            self.invalid(
                "spec.inlinePolicies",
                format!(
                    "{total} characters in all without white space; IAM takes {limit} per role. The biggest is {}; \
                     move it to customerManagedPolicies",
                    biggest.unwrap_or_default()
                ),
            );
        }
        inline
    }

    fn own(&mut self, role_name: &str, path: &str) -> Vec<OwnPolicy> {
        let entries = self.spec.customer_managed_policies.iter().flatten().enumerate();
        let own: Vec<OwnPolicy> = entries.filter_map(|(i, entry)| self.own_policy(i, entry, role_name, path)).collect();
        let mut names = BTreeSet::new();
        for (i, policy) in own.iter().enumerate() {
            if !names.insert(policy.name.to_lowercase()) {
                let field = format!("spec.customerManagedPolicies[{i}].policyName");
                self.invalid(
                    &field,
                    format!("{:?} is there twice (IAM ignores case); choose another name", policy.name),
                );
            }
        }
        own
    }

    fn own_policy(&mut self, i: usize, entry: &CustomerManagedPolicy, role: &str, path: &str) -> Option<OwnPolicy> {
        let field = format!("spec.customerManagedPolicies[{i}].document");
        let (object, text) = (entry.document.as_ref(), entry.document_json.as_ref());
        let document = self.document(Grammar::Permission, &field, object, text)?;
        let (size, limit) = (document.size(), self.facts.limits.managed);
        if size > limit {
            let field = if text.is_some() { format!("{field}Json") } else { field };
            self.invalid(
                &field,
                format!("{size} characters without white space; IAM takes {limit}. Split it into several policies"),
            );
        }
        let name = entry.policy_name.clone().unwrap_or_else(|| {
            names::bounded(&format!("{role}.{}", entry.name), names::POLICY_NAME, &[role, &entry.name])
        });
        let AccountRef { partition, id } = self.facts.account;
        Some(OwnPolicy {
            entry: entry.name.clone(),
            arn: format!("arn:{partition}:iam::{id}:policy{path}{name}"),
            name,
            path: path.to_owned(),
            description: entry.description.clone().filter(|text| !text.is_empty()),
            document,
        })
    }
}

/// What is wrong with `arn` as the ARN of a managed policy for a role of `account`.
fn check_policy_arn(text: &str, account: &AccountRef) -> Result<(), String> {
    let arn: Arn = text.parse().map_err(|error| format!("{text:?} is no ARN: {error}"))?;
    let shape = "a policy's ARN is arn:PARTITION:iam::ACCOUNT:policy/NAME";
    if arn.service != "iam" || !arn.region.is_empty() || !arn.resource.starts_with("policy/") || arn.resource.len() < 8
    {
        return Err(format!("{text:?} is no managed policy; {shape}"));
    }
    if arn.partition != account.partition {
        let here = &account.partition;
        return Err(format!(
            "{text:?} is of partition {}, the account of {here}; write arn:$(partition):…",
            arn.partition
        ));
    }
    if arn.account != "aws" && arn.account != account.id {
        return Err(format!(
            "{text:?} is of account {}, the role of {}, and IAM uses policies of the own account only; create the policy \
             there too and write arn:$(partition):iam::$(account):policy/NAME",
            arn.account, account.id
        ));
    }
    Ok(())
}
