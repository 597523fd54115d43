//! Reading conditions (IAM user guide, "IAM JSON policy elements: Condition").

use std::collections::HashSet;

use super::document::Condition;
use super::finding::Path;
use super::json::{Member, Node, Value};
use super::operator::{Kind, Operator, Unknown};
use super::parse::{Keys, Reader};

/// Reads `Condition`. An empty object and an operator without keys have no effect and are left out.
pub(super) fn read(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let Some(operators) = reader.object(path, node) else {
        return conditions;
    };
    let mut names = Keys::new(&[]);
    for member in operators {
        names.check(reader, path, member);
        let place = path.key(&member.key);
        let Some(operator) = Operator::parse(&member.key) else {
            let message = Unknown(&member.key);
            reader.findings.add(&place, member.at, message);
            continue;
        };
        let Some(keys) = reader.object(&place, &member.node) else {
            continue;
        };
        let mut seen = HashSet::new();
        for key in keys {
            conditions.extend(read_key(reader, &place, &member.key, operator, key, &mut seen));
        }
    }
    conditions
}

fn read_key(
    reader: &mut Reader<'_>,
    path: &Path<'_>,
    name: &str,
    operator: Operator,
    member: &Member,
    seen: &mut HashSet<String>,
) -> Option<Condition> {
    let place = path.key(&member.key);
    let key = reader.expand(&place, member.at, &member.key)?;
    if !seen.insert(key.to_ascii_lowercase()) {
        let message = "the key is there twice (case doesn't matter in condition keys); write one list of values";
        reader.findings.add(&place, member.at, message);
    }
    if !key.contains(':') {
        let message = "no condition key; a key begins with its service or provider, such as `aws:SourceArn`";
        reader.findings.add(&place, member.at, message);
    }
    let values =
        reader.one_or_more(&place, &member.node, |reader, path, node| value(reader, path, node, operator.kind));
    Some(Condition { operator: name.to_owned(), key, values })
}

/// Reads one value. Values are text; a number or boolean stands for its text where the operator compares such.
fn value(reader: &mut Reader<'_>, path: &Path<'_>, node: &Node, kind: Kind) -> Option<String> {
    match (&node.value, kind) {
        (Value::Number(number), Kind::Numeric | Kind::Date) => Some(number.clone()),
        (Value::Bool(flag), Kind::Bool | Kind::Null) => Some(flag.to_string()),
        (Value::Number(_) | Value::Bool(_), _) => {
            let message = format!(
                "{}, where this operator compares text; write the value in quotes (YAML turns unquoted words and \
                 numbers into other values)",
                node.kind()
            );
            reader.findings.add(path, node.at, message);
            None
        }
        _ => reader.text(path, node),
    }
}
