//! Reading of Prometheus's text format and, as far as names and labels go, of its expressions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One line of `/metrics`.
#[derive(Debug)]
pub struct Series {
    /// As it stands there: with `_bucket`, `_sum` or `_count` for a histogram.
    pub name: String,
    /// The name after `# TYPE`.
    pub metric: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Reads the text; panics at a line that is not as it should be, or has no type and help before it.
pub fn parse(text: &str) -> Vec<Series> {
    let mut series = Vec::new();
    let (mut metric, mut helped) = (String::new(), String::new());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let word = |line: &str| line.split_whitespace().next().unwrap().to_owned();
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = word(rest);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            metric = word(rest);
            assert_eq!(metric, helped, "a help");
        } else {
            let (name, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
            assert!(name.starts_with(&metric), "{line} after the type of {metric}");
            let labels = pairs(labels.strip_suffix('}').expect(line)).into_iter();
            let labels = labels.map(|(label, _, value)| (label, value)).collect();
            let name = name.to_owned();
            // OpenMetrics leaves the suffix of counters out of the type.
            let metric = if name.ends_with("_total") { name.clone() } else { metric.clone() };
            series.push(Series { name, metric, labels, value: value.parse().expect(line) });
        }
    }
    series
}

/// `a="b",c=~"d"` as label, operator, value.
fn pairs(text: &str) -> Vec<(String, String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('"') {
        let (value, after) = after.split_once('"').expect(text);
        let name = before.trim_start_matches(',').trim();
        let label = name.trim_end_matches(['=', '~', '!']);
        pairs.push((label.to_owned(), name[label.len()..].to_owned(), value.to_owned()));
        rest = after;
    }
    pairs
}

/// What an expression asks for.
#[derive(Debug, Default)]
pub struct Used {
    /// Metrics with the labels that are compared and their values.
    pub metrics: Vec<(String, Vec<(String, String)>)>,
    /// Labels after `by` and `on`.
    pub grouped: BTreeSet<String>,
}

/// Takes an expression apart. What is no name of a metric is one of these words.
pub fn selectors(expression: &str) -> Used {
    const WORDS: [&str; 14] = [
        "sum",
        "max",
        "by",
        "on",
        "and",
        "or",
        "rate",
        "increase",
        "time",
        "absent",
        "vector",
        "offset",
        "histogram_quantile",
        "min_over_time",
    ];
    let mut used = Used::default();
    let mut rest = expression;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '[' || c.is_ascii_digit()) {
        rest = &rest[at..];
        if rest.starts_with('[') {
            // A range.
            rest = rest.split_once(']').expect(expression).1;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        if word == "by" || word == "on" {
            let (labels, after) = after.split_once(')').expect(expression);
            used.grouped.extend(labels.trim_start_matches([' ', '(']).split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if !WORDS.contains(&word) {
            let mut matchers = Vec::new();
            if let Some(inner) = after.strip_prefix('{') {
                let (inner, after) = inner.split_once('}').expect(expression);
                matchers = pairs(inner).into_iter().map(|(label, _, value)| (label, value)).collect();
                rest = after;
            }
            used.metrics.push((word.to_owned(), matchers));
        }
    }
    used
}

/// Every `expr` in the tree.
pub fn expressions(tree: &Value, place: &str) -> Vec<(String, String)> {
    match tree {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if key == "expr" => vec![(place.to_owned(), text.clone())],
                other => expressions(other, place),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(|item| expressions(item, place)).collect(),
        _ => Vec::new(),
    }
}
