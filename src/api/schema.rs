//! JSON schemas of the parts that a derive can't express: IAM documents, conditions, selectors.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// An IAM policy document as written by the user, with IAM's own key case.
///
/// The schema declares IAM's keys so that `kubectl explain` works, but keeps every unknown field:
/// if the API server pruned a mistyped `Conditions:`, the role would be open to everybody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyDocument(pub Value);

const STATEMENTS: u32 = 100;

impl JsonSchema for PolicyDocument {
    fn schema_name() -> Cow<'static, str> {
        "PolicyDocument".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "required": ["Version"],
            "properties": {
                "Version": {
                    "type": "string", "enum": ["2012-10-17", "2008-10-17"],
                    "description": "Version of the policy language; use \"2012-10-17\".",
                },
                "Id": {
                    "type": "string", "maxLength": 1024,
                    "description": "Optional identifier of the document; IAM keeps it in trust policies only.",
                },
                "Statement": {
                    "type": "array", "maxItems": STATEMENTS, "x-kubernetes-list-type": "atomic",
                    "description": "The statements; at least one.",
                    "items": statement(),
                },
            },
        })
    }
}

fn leaf(description: &str) -> Value {
    json!({ "x-kubernetes-preserve-unknown-fields": true, "description": description })
}

fn statement() -> Value {
    json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "description": "One statement of the document.",
        "properties": {
            "Sid": {
                "type": "string", "maxLength": 1024,
                "description": "Optional identifier, letters and digits, unique in the document.",
            },
            "Effect": { "type": "string", "maxLength": 64, "description": "Allow or Deny." },
            "Principal": leaf(
                "Trust policies only: who may assume the role. A map of AWS, Service, Federated or CanonicalUser \
                 to one value or a list. Write account ids in quotes."),
            "NotPrincipal": leaf("Trust policies only: everybody but these. Avoid it with Allow."),
            "Action": leaf("One action or a list, such as s3:GetObject."),
            "NotAction": leaf("Every action but these."),
            "Resource": leaf("Permission policies only: one ARN or a list."),
            "NotResource": leaf("Permission policies only: every resource but these."),
            "Condition": leaf("Map of operator to map of condition key to one value or a list."),
        },
    })
}

/// A label selector, as in `metav1.LabelSelector` but bounded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline, extend("x-kubernetes-map-type" = "atomic"))]
pub struct Selector {
    /// Labels that must all be there with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements that must all be met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<SelectorRequirement>,
}

/// One requirement of a [`Selector`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SelectorRequirement {
    /// Label key.
    #[schemars(length(max = 317))]
    pub key: String,
    /// In, `NotIn`, Exists or `DoesNotExist`.
    pub operator: SelectorOperator,
    /// Values for In and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "label_values")]
    pub values: Vec<String>,
}

/// Operator of a [`SelectorRequirement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SelectorOperator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// Written by a newer version: selects nothing.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Selector {
    /// Whether the labels meet the selector; an empty selector matches everything, an unknown operator nothing.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }
}

impl SelectorRequirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            SelectorOperator::In => value.is_some_and(|value| self.values.contains(value)),
            SelectorOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            SelectorOperator::Exists => value.is_some(),
            SelectorOperator::DoesNotExist => value.is_none(),
            SelectorOperator::Unknown => false,
        }
    }
}

fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 20,
        "additionalProperties": { "type": "string", "maxLength": 63, "description": "Label value." },
    })
}

fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 50, "x-kubernetes-list-type": "atomic",
        "items": { "type": "string", "maxLength": 63, "description": "Label value." },
    })
}

/// `metav1.Condition`s with the API server's own bounds, merged by type.
#[must_use]
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string", "maxLength": 316, "description": "Ready, Reconciling, Stalled, Drifted or IdentityBound." },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"], "description": "True, False or Unknown." },
                "reason": { "type": "string", "maxLength": 1024, "minLength": 1, "description": "One word for the cause." },
                "message": { "type": "string", "maxLength": 32768, "description": "What happened and what to do." },
                "lastTransitionTime": { "type": "string", "format": "date-time", "description": "When the status last changed." },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation that this was found for.",
                },
            },
        },
    })
}

/// Tags or class tags: at most `max`, with IAM's bounds. Keys are checked by a CEL rule of the spec.
#[must_use]
pub fn tags(max: u32) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": max, "x-kubernetes-map-type": "atomic",
        "additionalProperties": {
            "type": "string", "maxLength": 256, "pattern": r"^[\p{L}\p{Z}\p{N}_.:/=+\-@$()]*$",
            "description": "Tag value.",
        },
    })
}

/// The characters that IAM takes in descriptions. A rule and no pattern: a pattern's refusal shows an expression
/// that nobody reads, for the em dash that a text was copied with.
#[must_use]
pub fn iam_text() -> Value {
    json!({
        "rule": r"self.matches('^[\\t\\n\\r -~¡-ÿ]*$')",
        "message": "IAM takes letters, digits and signs of Latin-1 only: no em dash, no typographic quotes, no emoji",
    })
}

/// The ARN of a managed policy, tokens allowed. A rule, since a bare name is the likely mistake.
#[must_use]
pub fn policy_arn() -> Value {
    json!({
        "rule": r"self.matches('^arn:([a-z0-9-]+|\\$\\(partition\\)):iam::([0-9]{12}|aws|\\$\\(account\\)):policy/[!-~]+$')",
        "message": "write the ARN of a managed policy, such as arn:$(partition):iam::$(account):policy/NAME",
    })
}

/// A set of bounded strings.
#[must_use]
pub fn string_set(max_items: u32, max_length: u32, description: &str) -> Schema {
    json_schema!({
        "type": "array", "maxItems": max_items, "x-kubernetes-list-type": "set",
        "items": { "type": "string", "minLength": 1, "maxLength": max_length, "description": description },
    })
}

#[cfg(test)]
mod tests {
    use super::{Selector, SelectorOperator, SelectorRequirement};
    use std::collections::BTreeMap;

    fn requirement(operator: SelectorOperator) -> Selector {
        Selector {
            match_expressions: vec![SelectorRequirement {
                key: "team".into(),
                operator,
                values: vec!["a".into(), "b".into()],
            }],
            ..Selector::default()
        }
    }

    #[test]
    fn selectors_follow_metav1() {
        let labelled = |value: &str| BTreeMap::from([("team".to_owned(), value.to_owned())]);
        let (inside, outside, none) = (labelled("a"), labelled("z"), BTreeMap::new());
        for (operator, expected) in [
            (SelectorOperator::In, [true, false, false]),
            (SelectorOperator::NotIn, [false, true, true]),
            (SelectorOperator::Exists, [true, true, false]),
            (SelectorOperator::DoesNotExist, [false, false, true]),
            (SelectorOperator::Unknown, [false, false, false]),
        ] {
            let selector = requirement(operator);
            assert_eq!([&inside, &outside, &none].map(|labels| selector.matches(labels)), expected, "{operator:?}");
        }
        assert!(Selector::default().matches(&none), "an empty selector selects everything");
    }
}
