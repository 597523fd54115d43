//! What a class allows its roles. Fails closed: an absent list allows nothing, and what can't be judged with certainty
//! counts as asked for.
//!
//! Each refusal names the field, the value, the class and the rule.

use crate::api::IamRoleClassSpec;
use crate::api::iamroleclass::{Allowed, Denied};
use crate::policy::{AccountRef, Document, Grant, Pattern, Tokens};

/// Where EKS Pod Identity assumes roles; in all partitions.
const POD_IDENTITY: &str = "pods.eks.amazonaws.com";
/// The tag by which it tells the namespace.
const POD_NAMESPACE: &str = "aws:RequestTag/kubernetes-namespace";
/// IAM's shortest and default session.
const SESSION: i32 = 3600;
/// Ids of accounts have twelve digits.
const ANY_ACCOUNT: &str = "????????????";
/// How many patterns a message shows.
const SHOWN: usize = 5;

/// A value that is not allowed, with the rule, in words.
pub type Refusal = String;

/// The rules of a class for one object, tokens replaced.
#[derive(Clone, Debug)]
pub struct Guard<'a> {
    allowed: Allowed,
    denied: Denied,
    account: &'a AccountRef,
    namespace: &'a str,
    /// Issuer of this cluster's ServiceAccount tokens without `https://`, if known.
    issuer: Option<&'a str>,
}

impl<'a> Guard<'a> {
    /// The rules of `class`. A pattern with an unknown token matches nothing where it allows, and everything where it
    /// denies; [`patterns`] finds those.
    #[must_use]
    pub fn new(
        class: &IamRoleClassSpec,
        tokens: &Tokens,
        account: &'a AccountRef,
        namespace: &'a str,
        issuer: Option<&'a str>,
    ) -> Self {
        let mut allowed = class.allowed.clone().unwrap_or_default();
        let mut denied = class.denied.clone().unwrap_or_default();
        for list in allowed_lists(&mut allowed) {
            *list.1 = list.1.iter().filter_map(|pattern| tokens.expand(pattern).ok()).collect();
        }
        for list in denied_lists(&mut denied) {
            *list.1 = list.1.iter().map(|pattern| tokens.expand(pattern).unwrap_or_else(|_| "*".to_owned())).collect();
        }
        Self { allowed, denied, account, namespace, issuer }
    }

    /// Judges `spec.roleName`.
    pub fn role_name(&self, name: &str) -> Result<(), Refusal> {
        listed("roleNames", &self.allowed.role_names, name)
    }

    /// Judges `spec.path`.
    pub fn path(&self, path: &str) -> Result<(), Refusal> {
        listed("paths", &self.allowed.paths, path)
    }

    /// Judges a `policyName`.
    pub fn policy_name(&self, name: &str) -> Result<(), Refusal> {
        listed("policyNames", &self.allowed.policy_names, name)
    }

    /// Judges the ARN of `spec.permissionsBoundary`.
    pub fn boundary(&self, arn: &str) -> Result<(), Refusal> {
        listed("permissionsBoundaries", &self.allowed.permissions_boundaries, arn)
    }

    /// Judges a key of `spec.tags`.
    pub fn tag_key(&self, key: &str) -> Result<(), Refusal> {
        listed("tagKeys", &self.allowed.tag_keys, key)
    }

    /// Judges the name of a role that is to be adopted.
    pub fn adoption(&self, name: &str) -> Result<(), Refusal> {
        listed("adoptedRoles", &self.allowed.adopted_roles, name)
    }

    /// Judges `spec.customerManagedPolicies`, whose entries have these names.
    pub fn customer_managed_policies(&self, names: &[String]) -> Result<(), Refusal> {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        flag("customerManagedPolicies", self.allowed.customer_managed_policies, &shown(&names))
    }

    /// Judges `spec.instanceProfile`; `name` if it has one.
    pub fn instance_profile(&self, name: Option<&str>) -> Result<(), Refusal> {
        let value = name.map_or_else(|| "{}".to_owned(), |name| format!("{name:?}"));
        flag("instanceProfiles", self.allowed.instance_profiles, &value)
    }

    /// Judges that there is a permission policy `name` at all, whatever it says: one that only denies grants nothing,
    /// but where no action is allowed there are no documents.
    pub fn document(&self, name: &str) -> Result<(), Refusal> {
        if self.allowed.actions.is_empty() {
            return Err(format!("{}, so no document is", refusal("actions", &[], &format!("{name:?}"))));
        }
        Ok(())
    }

    /// Judges `spec.maxSessionDurationSeconds`.
    pub fn session(&self, seconds: i32) -> Result<(), Refusal> {
        let most = self.allowed.max_session_duration_seconds.unwrap_or(SESSION);
        if seconds <= most {
            return Ok(());
        }
        Err(format!("{seconds} is not allowed: allowed.maxSessionDurationSeconds is {most}"))
    }

    /// Judges the ARN of a managed policy that is attached.
    pub fn managed_policy(&self, arn: &str) -> Result<(), Refusal> {
        let patterns =
            |list: &[String]| -> Vec<String> { list.iter().map(|entry| self.policy_pattern(entry)).collect() };
        if let Some(i) = patterns(&self.denied.managed_policies)
            .iter()
            .position(|pattern| Pattern::new(pattern).matches_ignore_case(arn))
        {
            return Err(format!(
                "{arn:?} is not allowed: denied.managedPolicies lists {:?}",
                self.denied.managed_policies[i]
            ));
        }
        if patterns(&self.allowed.managed_policies).iter().any(|pattern| Pattern::new(pattern).matches(arn)) {
            return Ok(());
        }
        Err(refusal("managedPolicies", &self.allowed.managed_policies, &format!("{arn:?}")))
    }

    /// The pattern of ARNs that an entry stands for: as in a spec, what does not begin with `arn:` is AWS-managed.
    fn policy_pattern(&self, entry: &str) -> String {
        if entry.starts_with("arn:") || entry.starts_with('*') {
            entry.to_owned()
        } else {
            format!("arn:{}:iam::aws:policy/{entry}", self.account.partition)
        }
    }

    /// Judges a permission policy: every action it may allow must be within an allowed pattern, and none of them may be
    /// among the denied ones. Each refusal comes with its place.
    #[must_use]
    pub fn actions(&self, document: &Document) -> Vec<(String, Refusal)> {
        let patterns = |list: &[String]| -> Vec<Pattern> { list.iter().map(|text| Pattern::new(text)).collect() };
        let beyond = document.actions_beyond(&patterns(&self.allowed.actions)).into_iter().map(|grant| {
            let hint = if grant.path.ends_with("NotAction") { "; NotAction needs \"*\" there" } else { "" };
            let text = refusal("actions", &self.allowed.actions, &format!("{:?}", grant.text));
            (grant.path, format!("{text}{hint}"))
        });
        let among = document.actions_among(&patterns(&self.denied.actions)).into_iter().map(|grant| {
            let list = shown(&self.denied.actions);
            (
                grant.path,
                format!("{:?} is not allowed: it includes actions of denied.actions, which lists {list}", grant.text),
            )
        });
        beyond.chain(among).collect()
    }

    /// Judges a trust policy: every principal must be listed, and of this cluster's ServiceAccounts only those of the
    /// own namespace, or listed ones, may be let in. Each refusal comes with its place.
    #[must_use]
    pub fn trust(&self, document: &Document) -> Vec<(String, Refusal)> {
        let patterns: Vec<Pattern> =
            self.allowed.trust_principals.iter().map(|entry| Pattern::new(&self.principal_pattern(entry))).collect();
        let is_listed = |grant: &Grant| patterns.iter().any(|pattern| pattern.matches(&grant.text));
        let strangers = document.trusted(self.account).into_iter().filter(|grant| !is_listed(grant));
        let strangers = strangers.map(|grant| {
            let text = refusal("trustPrincipals", &self.allowed.trust_principals, &format!("{:?}", grant.text));
            (grant.path, text)
        });
        strangers.chain(self.service_accounts(document)).collect()
    }

    /// An account may be written as its root user; any account by `*`, which would else stand for everybody.
    fn principal_pattern(&self, entry: &str) -> String {
        let root = format!("AWS:arn:{}:iam::", self.account.partition);
        match entry.strip_prefix(&root).and_then(|rest| rest.strip_suffix(":root")) {
            Some("*") => format!("AWS:{ANY_ACCOUNT}"),
            Some(account) if account.starts_with(|c: char| c.is_ascii_digit()) => format!("AWS:{account}"),
            _ => entry.to_owned(),
        }
    }

    fn service_accounts(&self, document: &Document) -> Vec<(String, Refusal)> {
        let own = format!("{}/*", self.namespace);
        let more = self.allowed.trust_principals.iter().filter_map(|entry| entry.strip_prefix("ServiceAccount:"));
        let accounts: Vec<&str> = std::iter::once(own.as_str()).chain(more).collect();
        let mut refusals = Vec::new();
        for door in document.doors() {
            let subject = |text: &str| Pattern::new(&format!("system:serviceaccount:{}", text.replacen('/', ":", 1)));
            let whole_namespace = |text: &&str| text.strip_suffix("/*").map(Pattern::new);
            let (key, may): (String, Vec<Pattern>) = match door.provider {
                Some(host) if self.issuer.is_some_and(|issuer| !same_issuer(issuer, host)) => continue,
                Some(host) => (format!("{host}:sub"), accounts.iter().map(|text| subject(text)).collect()),
                None if door.service == "*" || door.service.to_ascii_lowercase().starts_with(POD_IDENTITY) => {
                    (POD_NAMESPACE.to_owned(), accounts.iter().filter_map(whole_namespace).collect())
                }
                None => continue,
            };
            let is_ours = |value: &Pattern| {
                // Of a provider that may be another one only ServiceAccounts matter.
                let any = Pattern::new("system:serviceaccount:*");
                door.provider.is_none() || self.issuer.is_some() || value.overlaps_ignore_case(&any)
            };
            let within = |value: &Pattern| !is_ours(value) || may.iter().any(|pattern| pattern.covers(value));
            if !door.is_bound(&key, within) {
                let who = door.provider.unwrap_or(door.service);
                refusals.push((door.path, self.unbound(who, &key)));
            }
        }
        refusals
    }

    fn unbound(&self, who: &str, key: &str) -> Refusal {
        let namespace = self.namespace;
        let value =
            if key == POD_NAMESPACE { namespace.to_owned() } else { format!("system:serviceaccount:{namespace}:NAME") };
        format!(
            "{who:?} lets in ServiceAccounts of other namespaces: add the condition StringEquals {key}: {value}, or have \
             ServiceAccount:NAMESPACE/NAME listed in allowed.trustPrincipals"
        )
    }
}

/// Some issuers end with a slash, and not everybody writes it.
fn same_issuer(one: &str, other: &str) -> bool {
    one.trim_end_matches('/').eq_ignore_ascii_case(other.trim_end_matches('/'))
}

fn listed(list: &str, patterns: &[String], value: &str) -> Result<(), Refusal> {
    if patterns.iter().any(|pattern| Pattern::new(pattern).matches(value)) {
        return Ok(());
    }
    Err(refusal(list, patterns, &format!("{value:?}")))
}

fn flag(name: &str, leave: Option<bool>, value: &str) -> Result<(), Refusal> {
    if leave == Some(true) { Ok(()) } else { Err(format!("{value} is not allowed: allowed.{name} is not true")) }
}

fn refusal(list: &str, patterns: &[String], value: &str) -> Refusal {
    format!("{value} is not allowed: allowed.{list} lists {}", shown(patterns))
}

fn shown(patterns: &[String]) -> String {
    if patterns.is_empty() {
        return "nothing".to_owned();
    }
    let more = patterns.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", patterns.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

/// All patterns of a class with their fields, for finding mistakes in them.
#[must_use]
pub fn patterns(class: &IamRoleClassSpec) -> Vec<(String, String)> {
    let mut allowed = class.allowed.clone().unwrap_or_default();
    let mut denied = class.denied.clone().unwrap_or_default();
    let mut all = Vec::new();
    let mut collect = |section: &str, name: &str, list: &[String]| {
        let entries = list.iter().enumerate();
        all.extend(entries.map(|(i, pattern)| (format!("spec.{section}.{name}[{i}] of the class"), pattern.clone())));
    };
    for (name, list) in allowed_lists(&mut allowed) {
        collect("allowed", name, list);
    }
    for (name, list) in denied_lists(&mut denied) {
        collect("denied", name, list);
    }
    all
}

fn allowed_lists(allowed: &mut Allowed) -> [(&'static str, &mut Vec<String>); 9] {
    [
        ("roleNames", &mut allowed.role_names),
        ("paths", &mut allowed.paths),
        ("policyNames", &mut allowed.policy_names),
        ("permissionsBoundaries", &mut allowed.permissions_boundaries),
        ("managedPolicies", &mut allowed.managed_policies),
        ("trustPrincipals", &mut allowed.trust_principals),
        ("actions", &mut allowed.actions),
        ("tagKeys", &mut allowed.tag_keys),
        ("adoptedRoles", &mut allowed.adopted_roles),
    ]
}

fn denied_lists(denied: &mut Denied) -> [(&'static str, &mut Vec<String>); 2] {
    [("actions", &mut denied.actions), ("managedPolicies", &mut denied.managed_policies)]
}
