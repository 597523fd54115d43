//! Values as JSON text.

use super::{Member, Node, Value};
use std::fmt::Write as _;

/// Writes a value without white space. Only quotes, backslashes and control characters are escaped.
pub(in crate::policy) fn write(node: &Node<'_>, out: &mut String) {
    write_value(node, false, out);
}

/// Like [`write()`], the members of objects sorted by key; those of one key stay in their order.
pub(in crate::policy) fn write_sorted(node: &Node<'_>, out: &mut String) {
    write_value(node, true, out);
}

fn write_value(node: &Node<'_>, sorted: bool, out: &mut String) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(number),
        Value::Text(text) => write_text(text, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, sorted, out);
            }
            out.push(']');
        }
        Value::Object(members) if sorted => {
            let mut members: Vec<&Member<'_>> = members.iter().collect();
            members.sort_by(|a, b| a.key.cmp(&b.key));
            write_members(members.into_iter(), sorted, out);
        }
        Value::Object(members) => write_members(members.iter(), sorted, out),
    }
}

fn write_members<'m>(members: impl Iterator<Item = &'m Member<'m>>, sorted: bool, out: &mut String) {
    out.push('{');
    for (index, member) in members.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(&member.key, out);
        out.push(':');
        write_value(&member.node, sorted, out);
    }
    out.push('}');
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = special.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(c) => {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}
