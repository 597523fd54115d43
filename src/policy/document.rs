//! The model of a policy document (IAM user guide, "Grammar of the IAM JSON policy language").

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::json::{self, Member, Node, Value};
use super::parse;
use super::size::count;
use super::{AccountRef, Canonical, Finding, Lint, Tokens, canonical, lint};

/// Which of IAM's two grammars a document follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grammar {
    /// A role's trust policy: `Principal` required, no `Resource`, sts actions only.
    Trust,
    /// An inline or managed policy: `Resource` required, no `Principal`, no `Id`.
    Permission,
}

/// Version of the policy language. Policy variables such as `${aws:username}` exist only in the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `2008-10-17`, what IAM assumes where a document has none.
    V2008,
    /// `2012-10-17`.
    V2012,
}

impl Version {
    /// The version as it is written in a document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2008 => "2008-10-17",
            Self::V2012 => "2012-10-17",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::V2008, Self::V2012].into_iter().find(|version| version.as_str() == text)
    }
}

/// What a statement does with the requests it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Allows them, unless a statement denies them.
    Allow,
    /// Denies them, whatever allows them.
    Deny,
}

impl Effect {
    /// The effect as it is written in a document; case matters there.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Allow, Self::Deny].into_iter().find(|effect| effect.as_str() == text)
    }
}

/// What kind of principal a value names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalType {
    /// An account, a user, a role or a session of one; `*` is everybody.
    Aws,
    /// A canonical user id, as Amazon S3 has them.
    CanonicalUser,
    /// An identity provider.
    Federated,
    /// An AWS service.
    Service,
}

impl PrincipalType {
    pub(super) const NAMES: [&'static str; 4] = ["AWS", "CanonicalUser", "Federated", "Service"];

    /// The type as it is written in a document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "AWS",
            Self::CanonicalUser => "CanonicalUser",
            Self::Federated => "Federated",
            Self::Service => "Service",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Aws, Self::CanonicalUser, Self::Federated, Self::Service];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// `Principal`, or `NotPrincipal` where `negated`. The bare `"*"` is read as `{"AWS": "*"}`, which is what it means.
#[derive(Clone, PartialEq, Eq)]
pub struct Principals {
    /// Everybody but these.
    pub negated: bool,
    /// The values by type, as they were written.
    pub entries: Vec<(PrincipalType, Vec<String>)>,
}

/// `Action` or `Resource`; `NotAction` or `NotResource` where `negated`.
#[derive(Clone, PartialEq, Eq)]
pub struct Terms {
    /// Everything but these.
    pub negated: bool,
    /// The patterns, as they were written.
    pub values: Vec<String>,
}

/// One key of one operator of a `Condition`. A statement applies when all of them hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Condition {
    /// The operator, such as `StringEquals` or `ForAnyValue:StringLikeIfExists`. Shared, since thousands of keys can
    /// have the same.
    pub operator: Arc<str>,
    /// The key, as it was written; IAM ignores its case.
    pub key: String,
    /// The values as text. One of them has to match; for a negated operator such as `StringNotEquals`, none.
    pub values: Vec<String>,
}

/// One statement.
#[derive(Clone)]
pub struct Statement {
    /// The statement's place, from the path that the caller gave.
    pub path: String,
    /// The statement's name in the document; an empty one counts as absent.
    pub sid: Option<String>,
    /// Allow or deny.
    pub effect: Effect,
    /// Who; only in trust policies, and there always.
    pub principal: Option<Principals>,
    /// What may be done.
    pub action: Terms,
    /// On what; only in permission policies, and there always.
    pub resource: Option<Terms>,
    /// When.
    pub condition: Vec<Condition>,
}

/// A policy document that was checked: what IAM is known to refuse is not in it, and its tokens are replaced.
///
/// The `Debug` form tells grammar and size, never the text.
#[derive(Clone)]
pub struct Document {
    pub(super) grammar: Grammar,
    pub(super) version: Version,
    pub(super) id: Option<String>,
    pub(super) statements: Vec<Statement>,
}

impl Document {
    /// Reads a document from a value, such as a field of a Kubernetes object; `path` is the field's place
    /// (`spec.inlinePolicies[2].document`) and begins every finding.
    ///
    /// # Errors
    /// Everything that is wrong with the document, in its order; at most 20 findings and the number of the
    /// others, which are counted up to some 1000.
    pub fn from_value(
        grammar: Grammar,
        path: &str,
        value: &serde_json::Value,
        tokens: &Tokens,
    ) -> Result<Self, Vec<Finding>> {
        parse::from_value(grammar, path, value, tokens)
    }

    /// Reads a document from JSON text. Findings also tell line and column, both from 1.
    ///
    /// The text is taken as it is: it is never percent-decoded.
    ///
    /// # Errors
    /// Like [`Document::from_value`]; a text that is no JSON has one finding.
    pub fn from_json(grammar: Grammar, path: &str, text: &str, tokens: &Tokens) -> Result<Self, Vec<Finding>> {
        parse::from_json(grammar, path, text, tokens)
    }

    /// The document as it is sent to AWS: compact, `Version` first, `Statement` a list, everybody as `{"AWS":"*"}`.
    ///
    /// AWS refused documents with another first key and a single statement object ("failed legacy parsing"), and a
    /// bare `"*"` principal in trust policies.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        json::write(&self.to_node(), &mut out);
        out
    }

    /// The size as IAM counts it against its quotas: the characters that are not white space.
    #[must_use]
    pub fn size(&self) -> usize {
        count(&self.to_json())
    }

    /// The form that is equal for equal meanings. `account` is the account the document is for.
    #[must_use]
    pub fn canonical(&self, account: &AccountRef) -> Canonical {
        canonical::of_node(&self.to_node(), self.grammar, account)
    }

    /// What IAM takes but what is probably a mistake: the broken [`Rule`](super::Rule)s, statement by statement.
    #[must_use]
    pub fn lint(&self, account: &AccountRef) -> Vec<Lint> {
        lint::lint(self, account)
    }

    /// The grammar the document was read with.
    #[must_use]
    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// The version of the policy language.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The statements in their order; at least one.
    #[must_use]
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    fn to_node(&self) -> Node<'_> {
        let mut members = vec![member("Version", text(self.version.as_str()))];
        if let Some(id) = &self.id {
            members.push(member("Id", text(id)));
        }
        let statements = self.statements.iter().map(Statement::to_node).collect();
        members.push(member("Statement", Node::new(Value::List(statements))));
        Node::new(Value::Object(members))
    }
}

impl Statement {
    pub(super) fn to_node(&self) -> Node<'_> {
        let mut members = Vec::new();
        if let Some(sid) = self.sid.as_ref().filter(|sid| !sid.is_empty()) {
            members.push(member("Sid", text(sid)));
        }
        members.push(member("Effect", text(self.effect.as_str())));
        if let Some(principal) = &self.principal {
            let key = if principal.negated { "NotPrincipal" } else { "Principal" };
            let entries = principal.entries.iter();
            let entries = entries.map(|(kind, values)| member(kind.as_str(), texts(values)));
            members.push(member(key, Node::new(Value::Object(entries.collect()))));
        }
        let key = if self.action.negated { "NotAction" } else { "Action" };
        members.push(member(key, texts(&self.action.values)));
        if let Some(resource) = &self.resource {
            let key = if resource.negated { "NotResource" } else { "Resource" };
            members.push(member(key, texts(&resource.values)));
        }
        if !self.condition.is_empty() {
            members.push(member("Condition", conditions(&self.condition)));
        }
        Node::new(Value::Object(members))
    }
}

/// Conditions by operator. Those of one operator follow each other: that is how they are read.
fn conditions(conditions: &[Condition]) -> Node<'_> {
    let mut operators: Vec<Member<'_>> = Vec::new();
    for condition in conditions {
        let entry = member(condition.key.as_str(), texts(&condition.values));
        match operators.last_mut() {
            Some(Member { key, node: Node { value: Value::Object(keys), .. }, .. }) if **key == *condition.operator => {
                keys.push(entry);
            }
            _ => operators.push(member(&*condition.operator, Node::new(Value::Object(vec![entry])))),
        }
    }
    Node::new(Value::Object(operators))
}

fn member<'t>(key: impl Into<Cow<'t, str>>, node: Node<'t>) -> Member<'t> {
    Member { key: key.into(), at: None, node }
}

fn text(text: &str) -> Node<'_> {
    Node::new(Value::Text(text.into()))
}

/// One value as it is, several as a list.
fn texts(values: &[String]) -> Node<'_> {
    match values {
        [one] => text(one),
        several => Node::new(Value::List(several.iter().map(|value| text(value)).collect())),
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("grammar", &self.grammar).field("size", &self.size()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement").field("path", &self.path).field("effect", &self.effect).finish_non_exhaustive()
    }
}
