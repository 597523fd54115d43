//! The chart's values: values.yaml says what each is for, once; the schema and the README repeat it. What the schema says of
//! the default class is what its CRD says.
//! `UPDATE_DOCS=1 cargo test --test chart_values` writes it there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

const BEGIN: &str = "<!-- from values.yaml: UPDATE_DOCS=1 cargo test --test chart_values -->\n";
const END: &str = "<!-- end -->\n";
/// Longer defaults are left to values.yaml.
const WIDTH: usize = 90;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "charts/iamrole-operator", name].iter().collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// A value with a comment of its own.
struct Documented {
    path: Vec<String>,
    /// Lines of the comment; an indented one is code.
    comment: Vec<String>,
}

impl Documented {
    fn text(&self, code: impl Fn(&str) -> String) -> String {
        let line = |line: &String| line.strip_prefix("  ").map_or_else(|| line.clone(), |text| code(text.trim()));
        self.comment.iter().map(line).collect::<Vec<_>>().join(" ")
    }
}

/// Each key of values.yaml, in order; the comment is what stands right above it.
fn documented() -> Vec<Documented> {
    let mut found = Vec::new();
    let mut comment: Vec<String> = Vec::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    for line in read("values.yaml").lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.strip_prefix(' ').unwrap_or(words).to_owned());
            continue;
        }
        let key = text.split_once(':').map(|(key, _)| key).filter(|key| !key.starts_with(['-', '"']));
        if let Some(key) = key {
            above.retain(|(column, _)| *column < indent);
            above.push((indent, key.to_owned()));
            let path = above.iter().map(|(_, key)| key.clone()).collect();
            found.push(Documented { path, comment: std::mem::take(&mut comment) });
        }
        comment.clear();
    }
    found
}

fn values() -> Value {
    serde_saphyr::from_str(&read("values.yaml")).unwrap()
}

fn at<'v>(value: &'v Value, path: &[String]) -> &'v Value {
    path.iter().fold(value, |value, key| &value[key.as_str()])
}

/// Where the schema says what belongs at `path`.
fn schema_at<'s>(schema: &'s mut Value, path: &[String]) -> Option<&'s mut Map<String, Value>> {
    let mut node = schema;
    for key in path {
        node = node.get_mut("properties")?.get_mut(key)?;
    }
    node.as_object_mut()
}

/// Writes the file or, without `UPDATE_DOCS`, compares it.
fn settle(name: &str, wanted: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(name), wanted).unwrap();
    }
    assert!(read(name) == wanted, "{name} differs from values.yaml; UPDATE_DOCS=1 cargo test --test chart_values");
}

#[test]
fn every_value_says_what_it_is_for() {
    let all = documented();
    assert!(all.len() > 60, "{}", all.len());
    let values = values();
    for value in &all {
        let holds_others = at(&values, &value.path).as_object().is_some_and(|map| !map.is_empty());
        let inherits = all.iter().any(|other| {
            !other.comment.is_empty() && other.path.len() < value.path.len() && value.path.starts_with(&other.path)
        });
        assert!(!value.comment.is_empty() || holds_others || inherits, "{}", value.path.join("."));
    }
}

/// What the CRD says of a field, as JSON Schema. It is closed: the API server takes a class with a field that it does not
/// know and drops the field, and Helm 3 does not ask it to refuse.
fn closed(structural: &Value) -> Value {
    const TAKEN: [&str; 11] = [
        "type",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "maxProperties",
        "required",
    ];
    let mut schema = Map::new();
    for (key, value) in structural.as_object().unwrap() {
        let value = match key.as_str() {
            taken if TAKEN.contains(&taken) => value.clone(),
            "items" => closed(value),
            "additionalProperties" => or_null(closed(value)),
            "properties" => {
                schema.insert("additionalProperties".to_owned(), Value::Bool(false));
                let required = structural["required"].as_array().cloned().unwrap_or_default();
                let field = |name: &String, field: &Value| {
                    let field = closed(field);
                    if required.contains(&json!(name)) { field } else { or_null(field) }
                };
                value.as_object().unwrap().iter().map(|(name, inner)| (name.clone(), field(name, inner))).collect()
            }
            _ => continue,
        };
        schema.insert(key.clone(), value);
    }
    if structural["x-kubernetes-list-type"] == "set" {
        schema.insert("uniqueItems".to_owned(), Value::Bool(true));
    }
    Value::Object(schema)
}

/// Lets through the null that takes a default out: with `--reuse-values` Helm keeps it.
fn or_null(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        values.push(Value::Null);
    }
    schema
}

/// The spec of a class, as the CRD has it.
fn class_spec() -> Value {
    let crd: Value = serde_saphyr::from_str(&read("crds/iamroleclasses.iamrole.dev.yaml")).unwrap();
    closed(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])
}

/// Where a mistyped name would be taken, below `path`.
fn open(schema: &Value, path: &str) -> Vec<String> {
    let Some(schema) = schema.as_object() else { return Vec::new() };
    let is_open = schema.contains_key("properties") && schema.get("additionalProperties") != Some(&Value::Bool(false));
    let mut found: Vec<String> = is_open.then(|| path.to_owned()).into_iter().collect();
    for key in ["properties", "definitions"] {
        let inner = schema.get(key).and_then(Value::as_object).into_iter().flatten();
        found.extend(inner.flat_map(|(name, inner)| open(inner, &format!("{path}.{name}"))));
    }
    for key in ["items", "additionalProperties"] {
        found.extend(schema.get(key).into_iter().flat_map(|inner| open(inner, &format!("{path}[]"))));
    }
    found
}

#[test]
fn the_schema_knows_each_value_and_no_other() {
    let values = values();
    let mut schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    schema["properties"]["defaultClass"]["properties"]["spec"] = class_spec();
    // An umbrella chart has globals of its own, and of volumes there are always new sorts.
    assert_eq!(open(&schema, ""), [".extraVolumes[]", ".global"], "mistyped names are taken");
    let mut stack = vec![(Vec::new(), schema.clone())];
    while let Some((above, node)) = stack.pop() {
        let Some(properties) = node["properties"].as_object() else { continue };
        for (key, inner) in properties {
            let path = [&above[..], std::slice::from_ref(key)].concat();
            let name = path.join(".");
            // Optional: fields of the class, limits and requests.
            let has_no_default = name.starts_with("defaultClass.spec.") || name.starts_with("resources.");
            assert!(
                !at(&values, &path).is_null() || has_no_default || name == "enabled",
                "{name} is not in values.yaml"
            );
            stack.push((path, inner.clone()));
        }
    }
    for value in documented().iter().filter(|value| !value.comment.is_empty()) {
        let name = value.path.join(".");
        let node = schema_at(&mut schema, &value.path).unwrap_or_else(|| panic!("{name} is not in the schema"));
        node.insert("description".to_owned(), Value::String(value.text(str::to_owned)));
    }
    settle("values.schema.json", &format!("{}\n", serde_json::to_string_pretty(&schema).unwrap()));
}

#[test]
fn the_readme_lists_each_value() {
    let values = values();
    let mut table = String::from("| value | default | meaning |\n| --- | --- | --- |\n");
    let all = documented();
    let named: BTreeSet<&[String]> =
        all.iter().filter(|value| !value.comment.is_empty()).map(|value| value.path.as_slice()).collect();
    for value in all.iter().filter(|value| !value.comment.is_empty()) {
        let has_rows = named.iter().any(|path| path.len() > value.path.len() && path.starts_with(&value.path));
        let default = at(&values, &value.path).to_string();
        let default =
            if has_rows || default.len() > WIDTH { "see values.yaml".to_owned() } else { format!("`{default}`") };
        let meaning = value.text(|code| format!("`{code}`")).replace('|', "\\|");
        writeln!(table, "| `{}` | {default} | {meaning} |", value.path.join(".")).unwrap();
    }
    let readme = read("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("the beginning of the table");
    let (_, after) = rest.split_once(END).expect("its end");
    settle("README.md", &format!("{before}{BEGIN}{table}{END}{after}"));
}
