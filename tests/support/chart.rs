//! What the charts render.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use super::kubectl::helm;
use serde_json::Value;

pub const CHART: &str = "charts/iamrole-operator";
pub const CRDS: &str = "charts/iamrole-operator-crds";

/// The chart as text, with settings in the form `key=JSON`.
pub fn render(chart: &str, settings: &[&str]) -> String {
    let sets: Vec<&str> = settings.iter().flat_map(|setting| ["--set-json", setting]).collect();
    let output = helm(&[&["template", "iamrole-operator", chart, "--namespace", "iamrole-system"], &sets[..]].concat());
    assert!(output.ok, "{settings:?}: {}", output.stderr);
    output.stdout
}

/// The objects in a text of YAML.
pub fn objects(text: &str) -> Vec<Value> {
    let documents = text.split("\n---").filter(|part| part.lines().any(|line| line.starts_with("kind:")));
    documents.map(|part| serde_saphyr::from_str(part.trim_start_matches("---")).expect("YAML")).collect()
}

pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The one object of that kind.
pub fn one(settings: &[&str], kind: &str) -> Value {
    let all = objects(&render(CHART, settings));
    let [object] = of_kind(&all, kind).try_into().unwrap_or_else(|_| panic!("not one {kind} with {settings:?}"));
    object.clone()
}
