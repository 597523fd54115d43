//! Puts the parts of a spec together and collects what is wrong with them.

use super::{Exceptions, Facts, OwnPolicy, Problem, tokens};
use crate::api::iamrole::CustomerManagedPolicy;
use crate::api::schema::PolicyDocument;
use crate::api::{IamRoleSpec, Reason, TAG_PREFIX};
use crate::policy::{AccountRef, Arn, Document, Finding, Grammar, Pattern, Tokens, Usage, mistake_in_pattern};
use crate::role::guard::{self, Guard, Refusal};
use crate::role::names;
use crate::role::workload::{self, Workload};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub(super) struct Builder<'a> {
    spec: &'a IamRoleSpec,
    facts: Facts<'a>,
    tokens: Tokens,
    guard: Guard<'a>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(spec: &'a IamRoleSpec, facts: Facts<'a>) -> Self {
        let mut tokens = tokens(facts.owner, facts.account);
        // Whatever else is wrong is found all the same; what uses it is refused.
        tokens.set(workload::ISSUER, facts.issuer.unwrap_or(workload::ISSUER_TOKEN));
        let guard = Guard::new(facts.class, &tokens, facts.account, &facts.owner.namespace, facts.issuer);
        Self { spec, facts, tokens, guard, problems: Vec::new() }
    }

    pub(super) fn invalid(&mut self, field: &str, message: impl fmt::Display) {
        self.problems.push(Problem { reason: Reason::InvalidSpec, message: format!("{field}: {message}") });
    }

    fn not_allowed(&mut self, field: &str, message: impl fmt::Display) {
        let message = format!("{field}: {message} (IamRoleClass {})", self.facts.class_name);
        self.problems.push(Problem { reason: Reason::NotAllowed, message });
    }

    fn judged(&mut self, field: &str, result: Result<(), Refusal>) {
        if let Err(refusal) = result {
            self.not_allowed(field, refusal);
        }
    }

    /// Mistakes in the patterns of the class.
    pub(super) fn class_patterns(&mut self) {
        for (field, pattern) in guard::patterns(self.facts.class) {
            self.expand(&field, &pattern);
        }
    }

    /// Denials of the class that could never match: they would deny nothing.
    pub(super) fn denied(&mut self) {
        let denied = self.facts.class.denied.clone().unwrap_or_default();
        for (i, pattern) in denied.actions.iter().enumerate() {
            let Ok(text) = self.tokens.expand(pattern) else { continue };
            if let Some(mistake) = mistake_in_pattern(&text) {
                self.invalid(&format!("spec.denied.actions[{i}] of the class"), mistake);
            }
        }
        for (i, pattern) in denied.managed_policies.iter().enumerate() {
            let Ok(text) = self.tokens.expand(pattern) else { continue };
            let own = &self.facts.account.partition;
            let policies = format!("arn:{own}:iam::*:policy/*");
            let is_arn = text.starts_with("arn:");
            if is_arn && !Pattern::new(&text).overlaps(&Pattern::new(&policies)) {
                let field = format!("spec.denied.managedPolicies[{i}] of the class");
                self.invalid(&field, format!("{text:?} is no policy of this account, which is in partition {own}"));
            }
        }
    }

    /// Whether a policy may be what the class forces on some role: who writes it would write the limits of that role.
    fn may_be_a_boundary(&self, arn: &str) -> bool {
        let forced = self.facts.class.permissions_boundary.iter().chain(self.facts.boundaries);
        let mut any = self.tokens.clone();
        any.set("name", "*");
        any.set("namespace", "*");
        let mut forced = forced.filter_map(|forced| any.expand(forced).ok());
        forced.any(|pattern| Pattern::new(&pattern).matches_ignore_case(arn))
    }

    pub(super) fn session(&mut self) {
        if let Some(seconds) = self.spec.max_session_duration_seconds {
            self.judged("spec.maxSessionDurationSeconds", self.guard.session(seconds));
        }
    }

    pub(super) fn adoption(&mut self, name: &str) {
        self.judged("spec.adoption", self.guard.adoption(name));
    }

    fn findings(&mut self, findings: Vec<Finding>) {
        let problems =
            findings.into_iter().map(|finding| Problem { reason: Reason::InvalidSpec, message: finding.to_string() });
        self.problems.extend(problems);
    }

    /// Whether the issuer is known, if the text needs it.
    fn has_issuer(&mut self, field: &str, text: &str) -> bool {
        let lacks = self.facts.issuer.is_none() && text.contains(workload::ISSUER_TOKEN);
        if lacks {
            self.problems.push(workload::needs_issuer(field));
        }
        !lacks
    }

    fn expand(&mut self, field: &str, text: &str) -> String {
        match self.tokens.expand(text) {
            Ok(_) if !self.has_issuer(field, text) => String::new(),
            Ok(text) => text,
            Err(error) => {
                self.invalid(field, error);
                String::new()
            }
        }
    }

    pub(super) fn name(&mut self) -> String {
        if let Some(name) = &self.spec.role_name {
            if !names::valid(name) || name.len() > names::ROLE_NAME {
                self.invalid("spec.roleName", "1 to 64 of the characters A-Z a-z 0-9 _+=,.@-");
            }
            self.judged("spec.roleName", self.guard.role_name(name));
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

    pub(super) fn path(&mut self) -> String {
        let before = self.problems.len();
        let (field, path) = match (&self.spec.path, &self.facts.class.path) {
            (Some(path), _) => ("spec.path", path.clone()),
            (None, Some(path)) => ("spec.path of the class", self.expand("spec.path of the class", path)),
            (None, None) => return "/".to_owned(),
        };
        if self.problems.len() > before {
            return path;
        }
        let printable = path.chars().all(|c| ('!'..='~').contains(&c));
        if !(printable && path.starts_with('/') && path.ends_with('/') && path.len() <= 512) {
            self.invalid(field, "begins and ends with / and has at most 512 printable ASCII characters");
        }
        if self.spec.path.is_some() {
            self.judged(field, self.guard.path(&path));
        }
        path
    }

    pub(super) fn boundary(&mut self) -> Option<String> {
        let forced = self.facts.class.permissions_boundary.as_ref();
        let forced = forced.map(|arn| self.policy_arn("spec.permissionsBoundary of the class", arn));
        let asked = self.spec.permissions_boundary.as_ref();
        let asked = asked.map(|arn| self.policy_arn("spec.permissionsBoundary", arn));
        match (forced, asked) {
            (Some(Some(forced)), Some(Some(asked))) if forced != asked => {
                self.not_allowed(
                    "spec.permissionsBoundary",
                    format!("{asked:?} is not allowed: the class forces {forced}; remove the field"),
                );
                None
            }
            (Some(forced), _) => forced,
            (None, asked) => {
                let asked = asked.flatten();
                if let Some(arn) = &asked {
                    self.judged("spec.permissionsBoundary", self.guard.boundary(arn));
                }
                asked
            }
        }
    }

    pub(super) fn tags(&mut self) -> BTreeMap<String, String> {
        // By the key as IAM compares it: the key as it is written, and whether the class says so.
        let mut seen: BTreeMap<String, (&String, bool)> = BTreeMap::new();
        let mut tags = BTreeMap::new();
        let of_class = self.facts.class.tags.iter().flatten().map(|tag| (tag, true));
        let of_spec = self.spec.tags.iter().flatten().map(|tag| (tag, false));
        for ((key, value), by_class) in of_class.chain(of_spec) {
            let field = format!("spec.tags[{key}]{}", if by_class { " of the class" } else { "" });
            let value = self.tag(&field, key, value);
            if !by_class {
                self.judged(&field, self.guard.tag_key(key));
            }
            match seen.insert(key.to_lowercase(), (key, by_class)) {
                Some((other, true)) if !by_class => {
                    self.not_allowed(&field, format!("{key:?} is not allowed: the class sets {other}; remove it"));
                }
                Some((other, _)) => self.invalid(
                    &field,
                    format!("{other} is there too, and IAM takes keys that differ only in case for the same; keep one of them"),
                ),
                None => {}
            }
            tags.insert(key.clone(), value);
        }
        tags
    }

    pub(super) fn exceptions(&mut self) -> Exceptions {
        let class = self.facts.class;
        for (list, patterns) in class.unlisted_exceptions.iter().flat_map(|exceptions| {
            [("inlinePolicies", &exceptions.inline_policies), ("managedPolicies", &exceptions.managed_policies)]
        }) {
            for (i, pattern) in patterns.iter().enumerate() {
                self.expand(&format!("spec.unlistedExceptions.{list}[{i}] of the class"), pattern);
            }
        }
        Exceptions::new(Some(class), &self.tokens)
    }

    fn tag(&mut self, field: &str, key: &str, value: &str) -> String {
        let fits = |text: &str, limit: usize| text.chars().count() <= limit && names::valid_tag(text);
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
        let document = result.map_err(|findings| self.findings(findings)).ok()?;
        // In the text it may be written with escapes.
        if self.facts.issuer.is_none() {
            self.has_issuer(field, &document.to_json());
        }
        Some(document)
    }

    /// The trust policy as it is written, and what is generated for the ServiceAccounts. The class judges the written
    /// part: that it lets ServiceAccounts in is its leave for the other.
    pub(super) fn trust(&mut self, workload: Option<&Workload>) -> Option<Document> {
        let namespace = &self.facts.owner.namespace;
        let generated = workload.map(|workload| workload.statements(namespace, self.facts.account)).transpose();
        let generated = generated.map_err(|findings| self.findings(findings)).ok().flatten();
        let (object, text) = (self.spec.trust_policy.as_ref(), self.spec.trust_policy_json.as_ref());
        let lists = self.spec.service_accounts.as_ref().is_some_and(|list| !list.is_empty());
        if object.is_none() && text.is_none() {
            if !lists {
                let message = "one of it, spec.trustPolicyJson and spec.serviceAccounts is needed, or nobody could assume the role";
                self.invalid("spec.trustPolicy", message);
            }
            let trust = generated?;
            self.trust_size(&trust, "spec.serviceAccounts");
            return Some(trust);
        }
        let written = self.document(Grammar::Trust, "spec.trustPolicy", object, text)?;
        for (place, sid) in workload::reserved(&written) {
            let message = format!("{sid:?} marks what the operator generates for serviceAccounts; use another name");
            self.problems.push(Problem { reason: Reason::InvalidSpec, message: format!("{place}.Sid: {message}") });
        }
        self.findings(written.beyond_partition(self.facts.account));
        let trust = match generated {
            Some(generated) => written.clone().with_statements_of(generated),
            None => written.clone(),
        };
        let fits = self.trust_size(&trust, if text.is_some() { "spec.trustPolicyJson" } else { "spec.trustPolicy" });
        // What is too large is refused already, and would take long to judge.
        if fits {
            self.judge_trust(&written);
        }
        Some(trust)
    }

    fn judge_trust(&mut self, written: &Document) {
        let Facts { class, account, owner, issuer, .. } = self.facts;
        let refusals = self.guard.trust(written);
        // As if no provider were this cluster's but the one that the token stands for.
        let anyway = || Guard::new(class, &self.tokens, account, &owner.namespace, Some(workload::ISSUER_TOKEN));
        let anyway = if issuer.is_none() && !refusals.is_empty() { Some(anyway().trust(written)) } else { None };
        for (place, refusal) in refusals {
            if anyway.as_ref().is_some_and(|anyway| !anyway.contains(&(place.clone(), refusal.clone()))) {
                let message = format!("{place}: unless it is the provider of another cluster, {refusal}");
                self.problems.push(Problem { reason: Reason::IssuerUnknown, message });
            } else {
                self.not_allowed(&place, refusal);
            }
        }
    }

    fn trust_size(&mut self, trust: &Document, field: &str) -> bool {
        let mut usage = self.facts.limits.of_trust(trust).excess(field);
        if self.spec.service_accounts.as_ref().is_some_and(|list| !list.is_empty())
            && let Some(finding) = &mut usage
        {
            finding.message.push_str(". What is generated for serviceAccounts counts: name fewer of them");
        }
        let fits = usage.is_none();
        self.findings(Vec::from_iter(usage));
        fits
    }

    /// Whether a quota is kept; if not, that is a problem.
    fn fits(&mut self, field: &str, usage: &Usage) -> bool {
        let excess = usage.excess(field);
        let fits = excess.is_none();
        self.findings(Vec::from_iter(excess));
        fits
    }

    pub(super) fn managed(&mut self) -> BTreeSet<String> {
        let class = self.facts.class.managed_policies.iter().flatten();
        let class = class.enumerate().map(|(i, name)| (format!("spec.managedPolicies[{i}] of the class"), name, true));
        let spec = self.spec.managed_policies.iter().flatten();
        let spec = spec.enumerate().map(|(i, name)| (format!("spec.managedPolicies[{i}]"), name, false));
        let mut arns = BTreeSet::new();
        for (field, name, by_class) in class.chain(spec) {
            let Some(arn) = self.policy_arn(&field, name) else { continue };
            if !by_class {
                self.judged(&field, self.guard.managed_policy(&arn));
            }
            arns.insert(arn);
        }
        arns
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

    pub(super) fn inline(&mut self, exceptions: &Exceptions) -> BTreeMap<String, Document> {
        let mut inline = BTreeMap::new();
        for (i, policy) in self.spec.inline_policies.iter().flatten().enumerate() {
            let field = format!("spec.inlinePolicies[{i}].document");
            let (object, text) = (policy.document.as_ref(), policy.document_json.as_ref());
            let Some(document) = self.document(Grammar::Permission, &field, object, text) else {
                continue;
            };
            if document.size() <= self.facts.limits.inline_total {
                self.allowed_actions(&field, &policy.name, &document);
            }
            let field = format!("spec.inlinePolicies[{i}].name");
            self.policy_name(&field, &policy.name);
            if exceptions.keep_inline(&policy.name) {
                let message = format!(
                    "{:?} is not allowed: unlistedExceptions keeps it for others; choose another name",
                    policy.name
                );
                self.not_allowed(&field, message);
            }
            if inline.keys().any(|name: &String| name.eq_ignore_ascii_case(&policy.name)) {
                let message = format!("{:?} is there twice (IAM ignores case); choose another name", policy.name);
                self.invalid(&field, message);
            }
            inline.insert(policy.name.clone(), document);
        }
        let policies = inline.iter().map(|(name, document)| (name.as_str(), document.size()));
        if let Some(Finding { path, message }) = self.facts.limits.of_inline(policies).excess("spec.inlinePolicies") {
            self.invalid(&path, format!("{message} (spec.customerManagedPolicies)"));
        }
        inline
    }

    fn allowed_actions(&mut self, field: &str, name: &str, document: &Document) {
        let refusals = self.guard.actions(document);
        if refusals.is_empty() {
            self.judged(field, self.guard.document(name));
        }
        for (place, refusal) in refusals {
            self.not_allowed(&place, refusal);
        }
    }

    /// The schema checks it too; a stored object may be from before that.
    fn policy_name(&mut self, field: &str, name: &str) {
        if !names::valid(name) || name.len() > names::POLICY_NAME {
            self.invalid(field, "1 to 128 of the characters A-Z a-z 0-9 _+=,.@-");
        }
    }

    pub(super) fn profile(&mut self, role_name: &str) -> Option<String> {
        let profile = self.spec.instance_profile.as_ref()?;
        self.judged("spec.instanceProfile", self.guard.instance_profile(profile.name.as_deref()));
        if let Some(name) = &profile.name {
            self.judged("spec.instanceProfile.name", self.guard.role_name(name));
        }
        let name = profile.name.clone().unwrap_or_else(|| role_name.to_owned());
        self.policy_name("spec.instanceProfile.name", &name);
        Some(name)
    }

    pub(super) fn own(&mut self, role_name: &str, path: &str) -> Vec<OwnPolicy> {
        let entries = self.spec.customer_managed_policies.iter().flatten().enumerate();
        let names: Vec<String> = entries.clone().map(|(_, entry)| entry.name.clone()).collect();
        if !names.is_empty() {
            self.judged("spec.customerManagedPolicies", self.guard.customer_managed_policies(&names));
        }
        let own: Vec<OwnPolicy> = entries.filter_map(|(i, entry)| self.own_policy(i, entry, role_name, path)).collect();
        let mut names = BTreeSet::new();
        for (i, policy) in own.iter().enumerate() {
            if !names.insert(policy.name.to_lowercase()) {
                let field = format!("spec.customerManagedPolicies[{i}].policyName");
                let message = format!("{:?} is there twice (IAM ignores case); choose another name", policy.name);
                self.invalid(&field, message);
            }
        }
        own
    }

    /// The ARNs of the own policies, whatever is wrong with their documents.
    pub(super) fn own_arns(&self, role_name: &str, path: &str) -> BTreeSet<String> {
        let entries = self.spec.customer_managed_policies.iter().flatten();
        entries.map(|entry| self.own_arn(path, &own_name(entry, role_name))).collect()
    }

    fn own_arn(&self, path: &str, name: &str) -> String {
        let AccountRef { partition, id } = self.facts.account;
        format!("arn:{partition}:iam::{id}:policy{path}{name}")
    }

    fn own_policy(&mut self, i: usize, entry: &CustomerManagedPolicy, role: &str, path: &str) -> Option<OwnPolicy> {
        let field = format!("spec.customerManagedPolicies[{i}].document");
        let (object, text) = (entry.document.as_ref(), entry.document_json.as_ref());
        let document = self.document(Grammar::Permission, &field, object, text)?;
        let place = if text.is_some() { format!("{field}Json") } else { field.clone() };
        if self.fits(&place, &self.facts.limits.of_managed(&document)) {
            self.allowed_actions(&field, &entry.name, &document);
        }
        let name = own_name(entry, role);
        let field = format!("spec.customerManagedPolicies[{i}].policyName");
        self.policy_name(&field, &name);
        if entry.policy_name.is_some() {
            self.judged(&field, self.guard.policy_name(&name));
        }
        let arn = self.own_arn(path, &name);
        if self.may_be_a_boundary(&arn) {
            let message = format!("{arn} may be the permissions boundary that a class forces on some role");
            self.not_allowed(&field, message);
        }
        Some(OwnPolicy {
            entry: entry.name.clone(),
            arn,
            name,
            path: path.to_owned(),
            description: entry.description.clone().filter(|text| !text.is_empty()),
            document,
        })
    }
}

/// The name of an own policy of a role.
fn own_name(entry: &CustomerManagedPolicy, role: &str) -> String {
    let given = entry.policy_name.clone();
    given.unwrap_or_else(|| names::bounded(&format!("{role}.{}", entry.name), names::POLICY_NAME, &[role, &entry.name]))
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
