//! Canonical forms as JSON.

use super::canonical::{Entry, Meaning, Policy, What, Who};
use super::json::{self, Member, Node, Value};
use super::set::Set;
use std::borrow::Cow;

/// The JSON text of a canonical policy; reading it gives the same canonical policy.
pub(super) fn policy(policy: &Policy) -> String {
    let mut members = vec![member("Version", text(&policy.version))];
    members.extend(policy.id.iter().map(|id| member("Id", text(id))));
    let statements = policy.statements.iter().map(|entry| match entry {
        Entry::Known(meaning, sid) => statement(meaning, sid),
        Entry::Unknown(source) => verbatim(source),
    });
    let mut statements: Vec<Node<'_>> = statements.collect();
    // A list around it could make a statement that is nested as deep as is read too deep.
    let single = matches!(policy.statements.first(), Some(Entry::Unknown(_))) && statements.len() == 1;
    let statement = statements.pop_if(|only| single && matches!(only.value, Value::Object(_)));
    members.push(member("Statement", statement.unwrap_or_else(|| Node::new(Value::List(statements)))));
    members.extend(policy.rest.iter().map(|(key, source)| member(key.as_str(), verbatim(source))));
    let mut out = String::new();
    json::write(&Node::new(Value::Object(members)), &mut out);
    out
}

fn statement<'m>(meaning: &'m Meaning, sid: &'m str) -> Node<'m> {
    let mut members = Vec::new();
    if !sid.is_empty() {
        members.push(member("Sid", text(sid)));
    }
    members.push(member("Effect", text(meaning.effect.as_str())));
    if let Some(Who { negated, entries }) = &meaning.principal {
        let entries = entries.iter().map(|(kind, values)| member(kind.as_str(), set(values)));
        members.push(pair("Principal", *negated, Node::new(Value::Object(entries.collect()))));
    }
    let mut add = |key, what: &'m What| members.push(pair(key, what.negated, set(&what.values)));
    add("Action", &meaning.action);
    if let Some(resource) = &meaning.resource {
        add("Resource", resource);
    }
    let mut operators: Vec<Member<'_>> = Vec::new();
    for ((operator, key), values) in meaning.condition.iter() {
        let entry = member(key.as_str(), set(values));
        match operators.last_mut() {
            Some(Member { key: last, node: Node { value: Value::Object(keys), .. }, .. }) if **last == **operator => {
                keys.push(entry);
            }
            _ => operators.push(member(&**operator, Node::new(Value::Object(vec![entry])))),
        }
    }
    if !operators.is_empty() {
        members.push(member("Condition", Node::new(Value::Object(operators))));
    }
    Node::new(Value::Object(members))
}

/// `Action` or `NotAction`, and so on.
fn pair<'t>(key: &'t str, negated: bool, node: Node<'t>) -> Member<'t> {
    if negated { member(format!("Not{key}"), node) } else { member(key, node) }
}

/// What was kept as JSON text.
fn verbatim(source: &str) -> Node<'_> {
    json::parse(source).unwrap_or_else(|_| text(source))
}

fn member<'t>(key: impl Into<Cow<'t, str>>, node: Node<'t>) -> Member<'t> {
    Member { key: key.into(), at: None, node }
}

fn text(text: &str) -> Node<'_> {
    Node::new(Value::Text(text.into()))
}

fn set(values: &Set) -> Node<'_> {
    Node::new(Value::List(values.iter().map(|value| text(value)).collect()))
}
