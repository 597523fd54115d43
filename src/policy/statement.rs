//! Reading statements.

use std::collections::HashSet;

use super::condition;
use super::document::{Effect, Grammar, Statement, Terms};
use super::finding::{Path, quote};
use super::json::{Member, Node, Value};
use super::parse::{Keys, Reader};
use super::{action, principal, resource};

const KEYS: [&str; 9] =
    ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"];

/// Reads `Statement`: a list of statements, or one.
pub(super) fn read_all(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node<'_>) -> Vec<Statement> {
    let mut sids = HashSet::new();
    reader.one_or_more(path, node, |reader, path, node| read(reader, path, node, &mut sids))
}

fn read(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node<'_>, sids: &mut HashSet<String>) -> Option<Statement> {
    let members = reader.object(path, node)?;
    let mut keys = Keys::new(&KEYS);
    let (mut sid, mut effect, mut who, mut action, mut resource) = (None, None, None, None, None);
    let mut condition = Vec::new();
    for member in members {
        keys.check(reader, path, member);
        let place = path.key(&member.key);
        let node = &member.node;
        let negated = member.key.starts_with("Not");
        match &*member.key {
            "Sid" => sid = read_sid(reader, &place, node, sids),
            "Effect" => effect = read_effect(reader, &place, node),
            "Principal" | "NotPrincipal" if allows_principal(reader, &place, member) => {
                who = principal::read(reader, &place, node, negated);
            }
            "Action" | "NotAction" => {
                action = Some(terms(reader, &place, node, negated, action::check));
            }
            "Resource" | "NotResource" if allows_resource(reader, &place, member) => {
                resource = Some(terms(reader, &place, node, negated, |_, resource| resource::check(resource)));
            }
            "Condition" => condition = condition::read(reader, &place, node),
            _ => {}
        }
    }
    check_presence(reader, path, node, &keys);
    if effect == Some(Effect::Allow) && who.as_ref().is_some_and(|who| who.negated) {
        let message = "`NotPrincipal` with `Allow` lets in everybody who is not listed, and IAM supports it with \
                       `Deny` only; write `Principal`";
        reader.findings.add(path, node.at, message);
    }
    Some(Statement {
        path: path.to_string(),
        sid,
        effect: effect?,
        principal: who,
        action: action?,
        resource,
        condition,
    })
}

fn allows_principal(reader: &mut Reader<'_>, path: &Path<'_>, member: &Member<'_>) -> bool {
    let allowed = reader.grammar == Grammar::Trust;
    if !allowed {
        let message = "a permission policy names no principal, it is for the role it belongs to; leave it out";
        reader.findings.add(path, member.at, message);
    }
    allowed
}

fn allows_resource(reader: &mut Reader<'_>, path: &Path<'_>, member: &Member<'_>) -> bool {
    let allowed = reader.grammar == Grammar::Permission;
    if !allowed {
        let message = "a trust policy names no resource, it is about the role it belongs to; leave it out";
        reader.findings.add(path, member.at, message);
    }
    allowed
}

/// Adds findings for what a statement lacks, and for both of a pair of which one may be there.
fn check_presence(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node<'_>, keys: &Keys<'_>) {
    if !keys.has("Effect") {
        let message = "`Effect` is missing; write `Allow` or `Deny`";
        reader.findings.add(path, node.at, message);
    }
    let pairs = match reader.grammar {
        Grammar::Trust => [("Principal", "NotPrincipal"), ("Action", "NotAction")],
        Grammar::Permission => [("Action", "NotAction"), ("Resource", "NotResource")],
    };
    for (positive, negative) in pairs {
        match (keys.has(positive), keys.has(negative)) {
            (true, true) => {
                let message = format!("both `{positive}` and `{negative}`; a statement has one of them");
                reader.findings.add(path, node.at, message);
            }
            (false, false) => {
                let message = format!("`{positive}` is missing; a statement has `{positive}` or `{negative}`");
                reader.findings.add(path, node.at, message);
            }
            _ => {}
        }
    }
}

fn read_sid(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node<'_>, sids: &mut HashSet<String>) -> Option<String> {
    let sid = reader.text(path, node)?;
    if !sid.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let message = format!("{} is no Sid; a Sid has only letters A-Z, a-z and digits", quote(&sid));
        reader.findings.add(path, node.at, message);
    }
    if !sid.is_empty() && !sids.insert(sid.clone()) {
        let message = format!("the Sid {} is there twice; a Sid is unique in its document", quote(&sid));
        reader.findings.add(path, node.at, message);
    }
    Some(sid)
}

fn read_effect(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node<'_>) -> Option<Effect> {
    let text = reader.text(path, node)?;
    let effect = Effect::parse(&text);
    if effect.is_none() {
        let message = match ["Allow", "Deny"].into_iter().find(|known| known.eq_ignore_ascii_case(&text)) {
            Some(meant) => format!("{} is no effect; write `{meant}`, case matters here", quote(&text)),
            None => format!("{} is no effect; write `Allow` or `Deny`", quote(&text)),
        };
        reader.findings.add(path, node.at, message);
    }
    effect
}

/// Reads a text or a list of texts, each checked.
fn terms(
    reader: &mut Reader<'_>,
    path: &Path<'_>,
    node: &Node<'_>,
    negated: bool,
    check: fn(Grammar, &str) -> Option<String>,
) -> Terms {
    let values = reader.one_or_more(path, node, |reader, path, node| {
        if matches!(node.value, Value::List(_)) {
            reader.findings.add(path, node.at, "a list inside a list; write one list");
            return None;
        }
        let text = reader.text(path, node)?;
        if let Some(message) = check(reader.grammar, &text) {
            reader.findings.add(path, node.at, message);
        }
        Some(text)
    });
    Terms { negated, values }
}
