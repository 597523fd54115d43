//! The canonical form: equal exactly for documents of equal meaning.
//!
//! One reader serves both our own documents and what AWS returned. It is lenient: whatever it doesn't understand is
//! kept word for word and stays in the comparison, so an unknown difference is a difference and is never lost.
//!
//! What is equal follows IAM's rules, not JSON's: lists are sets, statements have no order, one value equals a list of
//! it, actions and condition keys ignore case, `"*"` is `{"AWS":"*"}`, an account id is the ARN of its root user (in
//! the account's own partition), `true` is `"true"`, an absent `Version` is `2008-10-17`, an empty `Id`,
//! `Sid` or `Condition` is none.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::conditions::Conditions;
use super::document::{Effect, Grammar, Statement};
use super::json::{self, Member, Node, Seen, Value};
use super::leaf::{self, ValueRule};
use super::principal::is_unique_id;
use super::print;
use super::set::{Set, prefix};
use super::size;

/// The account a document belongs to. In its partition an account id and the ARN of the account's root user are the
/// same principal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountRef {
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: String,
    /// 12 digits.
    pub id: String,
}

/// A document reduced to its meaning: two are equal exactly when IAM treats the documents alike.
///
/// The `Debug` form tells the number of statements, never the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Canonical {
    pub(super) body: Body,
    size: Size,
}

/// The characters of the text that was read, where one was: no part of the meaning, so that all are equal.
#[derive(Clone, Copy, Default)]
struct Size(Option<usize>);

impl PartialEq for Size {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Size {}

impl PartialOrd for Size {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Size {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl Hash for Size {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Body {
    Policy(Policy),
    /// No policy at all; equal only to the same text.
    Opaque(String),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Policy {
    pub version: String,
    pub id: Option<String>,
    pub statements: BTreeSet<Entry>,
    /// Members that no grammar knows, as text.
    pub rest: BTreeSet<(String, String)>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Entry {
    /// Boxed, since sets of entries are sorted.
    Known(Box<Meaning>, Sid),
    /// A statement that is not understood, as text.
    Unknown(String),
}

/// A statement's name; empty where there is none.
pub(super) type Sid = String;

/// What a statement says, its name aside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Meaning {
    pub effect: Effect,
    pub principal: Option<Who>,
    pub action: What,
    pub resource: Option<What>,
    pub condition: Conditions,
}

/// Principals by type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Who {
    pub negated: bool,
    pub entries: BTreeMap<String, Set>,
}

/// Actions or resources.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct What {
    pub negated: bool,
    pub values: Set,
}

impl Canonical {
    /// Reads what AWS returned: percent-encoded (RFC 3986) JSON. A `+` is a plus sign, as in every part of a URL but
    /// a form.
    ///
    /// This never fails: what is not understood stays in the comparison, and a text that is no JSON equals only
    /// itself. What the grammar does not have, such as a `Resource` in a trust policy, is not understood. A text that begins with `{` can't be percent-encoded and is read as it is.
    #[must_use]
    pub fn read(grammar: Grammar, percent_encoded: &str, account: &AccountRef) -> Self {
        let decoded = if percent_encoded.trim_start().starts_with('{') {
            percent_encoded.into()
        } else {
            match percent_encoding::percent_decode_str(percent_encoded).decode_utf8() {
                Ok(text) => text,
                Err(_) => return Self::opaque(percent_encoded),
            }
        };
        let read = match json::parse(&decoded) {
            Ok(node) => of_node(&node, grammar, account),
            Err(_) => Self::opaque(&decoded),
        };
        Self { size: Size(Some(size::count(&decoded))), ..read }
    }

    /// What the document takes of IAM's quotas, in characters that are not white space: of the text that AWS returned,
    /// else of this form.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size.0.unwrap_or_else(|| size::count(&self.to_json()))
    }

    /// The form as JSON text: one text for equal documents, so a good thing to hash or to show. Of a text that is no
    /// policy it is that text.
    #[must_use]
    pub fn to_json(&self) -> String {
        match &self.body {
            Body::Policy(policy) => print::policy(policy),
            Body::Opaque(text) => text.clone(),
        }
    }

    fn opaque(text: &str) -> Self {
        Self { body: Body::Opaque(text.to_owned()), size: Size::default() }
    }

    /// Unique ids of deleted roles and users (`AROA…`, `AIDA…`) that stand where their ARNs were, sorted.
    ///
    /// IAM stores a principal by its id and shows the ARN only while the principal exists. The id stays even if
    /// another one of that name is made, until the ARN is written again (IAM user guide, "IAM JSON policy elements:
    /// Principal").
    #[must_use]
    pub fn dead_principals(&self) -> Vec<String> {
        let Body::Policy(policy) = &self.body else {
            return Vec::new();
        };
        let principals = policy.statements.iter().filter_map(|entry| match entry {
            Entry::Known(meaning, _) => meaning.principal.as_ref(),
            Entry::Unknown(_) => None,
        });
        let values = principals.flat_map(|who| who.entries.values().flatten());
        let dead: BTreeSet<&String> = values.filter(|value| is_unique_id(value)).collect();
        dead.into_iter().cloned().collect()
    }
}

impl fmt::Debug for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Policy(policy) => write!(f, "Canonical({} statements)", policy.statements.len()),
            Body::Opaque(text) => write!(f, "Canonical(no policy, {} bytes)", text.len()),
        }
    }
}

/// The canonical form of a document.
pub(super) fn of_node(node: &Node<'_>, grammar: Grammar, account: &AccountRef) -> Canonical {
    match policy(node, grammar, account) {
        Some(policy) => Canonical { body: Body::Policy(policy), size: Size::default() },
        None => Canonical::opaque(&verbatim(node)),
    }
}

/// A policy, or `None` where a document is so strange that only its text can be compared.
fn policy(node: &Node<'_>, grammar: Grammar, account: &AccountRef) -> Option<Policy> {
    let members = distinct(node)?;
    let mut policy =
        Policy { version: "2008-10-17".to_owned(), id: None, statements: BTreeSet::new(), rest: BTreeSet::new() };
    let mut rest = Vec::new();
    for (key, node) in members {
        match (key, &node.value) {
            ("Version", Value::Text(text)) => (**text).clone_into(&mut policy.version),
            ("Id", Value::Text(text)) => policy.id = Some(text.to_string()).filter(|id| !id.is_empty()),
            ("Statement", Value::List(items)) => {
                policy.statements = items.iter().map(|item| entry(item, grammar, account)).collect();
            }
            ("Statement", Value::Object(_)) => {
                policy.statements = BTreeSet::from([entry(node, grammar, account)]);
            }
            ("Version" | "Id" | "Statement", _) => return None,
            _ => rest.push((key.to_owned(), verbatim(node))),
        }
    }
    policy.rest = rest.into_iter().collect();
    Some(policy)
}

/// What a statement of a checked document means.
pub(super) fn meaning(statement: &Statement, account: &AccountRef) -> Option<Meaning> {
    known(&statement.to_node(), account).map(|(meaning, _)| meaning)
}

fn entry(node: &Node<'_>, grammar: Grammar, account: &AccountRef) -> Entry {
    match known(node, account) {
        Some((meaning, sid)) if meaning.is_of(grammar) => Entry::Known(Box::new(meaning), sid),
        _ => Entry::Unknown(verbatim(node)),
    }
}

impl Meaning {
    fn is_of(&self, grammar: Grammar) -> bool {
        match grammar {
            Grammar::Trust => self.principal.is_some() && self.resource.is_none(),
            Grammar::Permission => self.principal.is_none() && self.resource.is_some(),
        }
    }
}

/// A statement, or `None` where a part of it is not understood.
fn known(node: &Node<'_>, account: &AccountRef) -> Option<(Meaning, Sid)> {
    let (mut sid, mut effect, mut principal, mut action, mut resource) = (String::new(), None, None, None, None);
    let mut condition = Conditions::default();
    for (key, node) in distinct(node)? {
        let negated = key.starts_with("Not");
        // Of a pair such as `Action` and `NotAction` one may be there.
        let is_second = match key {
            "Sid" => {
                text(node)?.clone_into(&mut sid);
                false
            }
            "Effect" => effect.replace(Effect::parse(text(node)?)?).is_some(),
            "Principal" | "NotPrincipal" => principal.replace(who(node, negated, account)?).is_some(),
            "Action" | "NotAction" => {
                let values = set(node, str::to_ascii_lowercase)?;
                action.replace(What { negated, values }).is_some()
            }
            "Resource" | "NotResource" => {
                let values = set(node, str::to_owned)?;
                resource.replace(What { negated, values }).is_some()
            }
            "Condition" => {
                condition = conditions(node)?;
                false
            }
            _ => return None,
        };
        if is_second {
            return None;
        }
    }
    Some((Meaning { effect: effect?, principal, action: action?, resource, condition }, sid))
}

fn who(node: &Node<'_>, negated: bool, account: &AccountRef) -> Option<Who> {
    if text(node) == Some("*") {
        let entries = BTreeMap::from([("AWS".to_owned(), Set::of("*".to_owned()))]);
        return Some(Who { negated, entries });
    }
    let mut entries = BTreeMap::new();
    for (kind, node) in distinct(node)? {
        let values = set(node, |value| match kind {
            "AWS" => leaf::aws_principal(value, account),
            _ => value.to_owned(),
        })?;
        entries.insert(kind.to_owned(), values);
    }
    Some(Who { negated, entries })
}

/// Conditions. An operator without keys and a key without values have no effect.
fn conditions(node: &Node<'_>) -> Option<Conditions> {
    let mut operators: Vec<(&str, &[Member<'_>])> = Vec::new();
    for (operator, node) in distinct(node)? {
        let Value::Object(members) = &node.value else {
            return None;
        };
        operators.push((operator, members));
    }
    operators.sort_unstable_by_key(|(operator, _)| *operator);
    let mut all = Vec::with_capacity(operators.iter().map(|(_, members)| members.len()).sum());
    for (operator, members) in operators {
        let rule = ValueRule::of(operator);
        let operator: Arc<str> = operator.into();
        let mut keys = Vec::with_capacity(members.len());
        for member in members {
            let key = member.key.to_ascii_lowercase();
            keys.push((prefix(&key), key, condition_values(rule, &member.node)?));
        }
        keys.sort_unstable_by(|(a, x, _), (b, y, _)| a.cmp(b).then_with(|| x.cmp(y)));
        // A key that is there twice, perhaps in two spellings: which one counts is not known.
        if keys.windows(2).any(|pair| matches!(pair, [(a, x, _), (b, y, _)] if a == b && x == y)) {
            return None;
        }
        let keys = keys.into_iter().filter(|(_, _, values)| !values.is_empty());
        all.extend(keys.map(|(_, key, values)| ((Arc::clone(&operator), key), values)));
    }
    Some(Conditions::of_sorted(all))
}

fn condition_values(rule: ValueRule, node: &Node<'_>) -> Option<Set> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Null => &[],
        _ => std::slice::from_ref(node),
    };
    let value = |item: &Node<'_>| match &item.value {
        Value::Text(text) | Value::Number(text) => Some(rule.canonical(text)),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::List(_) | Value::Object(_) => None,
    };
    match items {
        [one] => value(one).map(Set::of),
        several => several.iter().map(value).collect(),
    }
}

fn text<'n>(node: &'n Node<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// A text or a list of texts, as a set.
fn set(node: &Node<'_>, normal: impl Fn(&str) -> String) -> Option<Set> {
    match &node.value {
        Value::List(items) => items.iter().map(|item| text(item).map(&normal)).collect(),
        _ => text(node).map(|text| Set::of(normal(text))),
    }
}

/// The members of an object as key and value; `None` for another value, and where a key is there twice.
fn distinct<'n>(node: &'n Node<'_>) -> Option<impl Iterator<Item = (&'n str, &'n Node<'n>)>> {
    let Value::Object(members) = &node.value else {
        return None;
    };
    let mut seen = Seen::of(members.len());
    let distinct = members.iter().all(|member| seen.insert(&member.key));
    let pairs = members.iter().map(|member| (&*member.key, &member.node));
    distinct.then_some(pairs)
}

/// The text of a value, the keys of objects sorted.
fn verbatim(node: &Node<'_>) -> String {
    let mut out = String::new();
    json::write_sorted(node, &mut out);
    out
}
