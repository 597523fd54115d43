//! Ways into a role for Kubernetes ServiceAccounts, and what binds them.

use super::document::{Document, Effect, PrincipalType, Statement};
use super::operator::{Kind, Operator};
use super::pattern::{Pattern, without_variables};

/// A principal of an `Allow` statement behind which ServiceAccounts may stand: an OIDC provider or a service.
pub struct Door<'d> {
    /// Place of the principal.
    pub path: String,
    /// Host and path of the OIDC provider, as in its condition keys; `None` for a service.
    pub provider: Option<&'d str>,
    /// The service, or `*` for everybody where the statement permits web identities; empty for a provider.
    pub service: &'d str,
    statement: &'d Statement,
}

impl Document {
    /// The doors of a trust policy.
    #[must_use]
    pub fn doors(&self) -> Vec<Door<'_>> {
        let mut doors = Vec::new();
        let web_identity = Pattern::new("sts:AssumeRoleWithWebIdentity");
        for statement in self.statements.iter().filter(|statement| statement.effect == Effect::Allow) {
            let actions = &statement.action;
            let overlaps = |text: &String| Pattern::new(text).overlaps_ignore_case(&web_identity);
            let web = actions.negated || actions.values.iter().any(overlaps);
            for (kind, values) in statement.principal.iter().flat_map(|who| &who.entries) {
                for value in values {
                    let (provider, service) = match kind {
                        PrincipalType::Federated => (value.split_once(":oidc-provider/").map(|(_, host)| host), ""),
                        PrincipalType::Service => (None, value.as_str()),
                        PrincipalType::Aws if value == "*" && web => (None, "*"),
                        PrincipalType::Aws | PrincipalType::CanonicalUser => continue,
                    };
                    if provider.is_some() || !service.is_empty() {
                        let path = format!("{}.Principal.{}", statement.path, kind.as_str());
                        doors.push(Door { path, provider, service, statement });
                    }
                }
            }
        }
        doors
    }
}

impl Door<'_> {
    /// Whether a condition asks for `key` and each of its values is `within` what is meant. A condition that also holds
    /// where the key is missing, or where the value is *not* among some, binds nothing. A policy variable may stand for
    /// any text.
    pub fn is_bound(&self, key: &str, within: impl Fn(&Pattern) -> bool) -> bool {
        self.statement.condition.iter().any(|condition| {
            let binds = Operator::parse(&condition.operator).is_some_and(|operator| {
                operator.kind == Kind::String && !operator.negated && !operator.holds_without_key
            });
            binds
                && condition.key.eq_ignore_ascii_case(key)
                && condition.values.iter().all(|value| within(&Pattern::new(&without_variables(value))))
        })
    }
}
