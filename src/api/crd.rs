//! The two CustomResourceDefinitions as they are shipped.
//!
//! The derive's output is adjusted in the ways that tools need: no `nullable` (an explicit null and an
//! absent field would differ, and `kubectl explain` stops there), no empty lists (the API server drops
//! them, and Argo CD then sees a difference for ever), and a default status that makes a new object
//! "in progress" for everybody who waits on it before the operator has seen it.

use super::{IamRole, IamRoleClass};
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

/// A CRD with the file name under which it is shipped.
pub struct Manifest {
    /// `PLURAL.GROUP.yaml`.
    pub file_name: String,
    /// The CustomResourceDefinition.
    pub value: Value,
}

/// A CRD could not be rendered; points to a mistake in the types.
#[derive(Debug, thiserror::Error)]
#[error("rendering a CRD: {0}")]
pub struct RenderError(String);

impl Manifest {
    /// The manifest as YAML text, ending in a newline.
    pub fn to_yaml(&self) -> Result<String, RenderError> {
        serde_saphyr::to_string(&self.value)
            .map(|yaml| format!("{}\n", yaml.trim_end()))
            .map_err(|error| RenderError(error.to_string()))
    }
}

/// Both CRDs.
pub fn manifests() -> Result<Vec<Manifest>, RenderError> {
    [serde_json::to_value(IamRole::crd()), serde_json::to_value(IamRoleClass::crd())]
        .into_iter()
        .map(|crd| crd.map(manifest).map_err(|error| RenderError(error.to_string())))
        .collect()
}

fn manifest(mut value: Value) -> Manifest {
    tidy(&mut value);
    if let Some(status) = value.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/status") {
        status["default"] = json!({ "observedGeneration": -1 });
        status["description"] = json!("How it stands, as the operator sees it.");
    }
    value["metadata"]["labels"] = json!({ "app.kubernetes.io/name": "iamrole-operator" });
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Manifest { file_name: format!("{name}.yaml"), value }
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => tidy_object(map),
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => {
            // Bounds come as 3600.0; the API server gives them back as 3600.
            let whole = number.as_f64().filter(|bound| number.is_f64() && bound.fract() == 0.0);
            if let Some(whole) = whole.and_then(|bound| format!("{bound:.0}").parse::<i64>().ok()) {
                *number = whole.into();
            }
        }
        _ => {}
    }
}

fn tidy_object(map: &mut Map<String, Value>) {
    if map.get("nullable") == Some(&Value::Bool(true)) {
        map.remove("nullable");
        if let Some(Value::Array(choices)) = map.get_mut("enum") {
            choices.retain(|choice| !choice.is_null());
        }
    }
    // A default would be written into objects that leave the field out; the only one is that of status.
    map.remove("default");
    map.remove("title");
    map.retain(|_, value| !matches!(value, Value::Array(items) if items.is_empty()));
    map.values_mut().for_each(tidy);
}

#[cfg(test)]
mod tests {
    use super::manifests;
    use serde_json::Value;

    fn schemas() -> Vec<Value> {
        manifests().unwrap().into_iter().map(|manifest| manifest.value["spec"]["versions"][0].clone()).collect()
    }

    /// Calls `check` on every object below `value` with its path.
    fn walk(value: &Value, path: &str, check: &mut dyn FnMut(&str, &serde_json::Map<String, Value>)) {
        match value {
            Value::Object(map) => {
                check(path, map);
                map.iter().for_each(|(key, value)| walk(value, &format!("{path}.{key}"), check));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, value)| walk(value, &format!("{path}[{i}]"), check));
            }
            _ => {}
        }
    }

    #[test]
    fn a_new_object_is_in_progress_before_the_operator_has_seen_it() {
        for crd in schemas() {
            let status = &crd["schema"]["openAPIV3Schema"]["properties"]["status"];
            assert_eq!(status["default"]["observedGeneration"], -1);
            let conditions = &status["properties"]["conditions"];
            assert_eq!(conditions["x-kubernetes-list-type"], "map");
            assert_eq!(conditions["x-kubernetes-list-map-keys"], serde_json::json!(["type"]));
        }
    }

    #[test]
    fn nothing_is_nullable_empty_unbounded_or_unexplained() {
        for crd in schemas() {
            walk(&crd, "", &mut |path, map| {
                assert!(!map.contains_key("nullable"), "{path} is nullable");
                for (key, value) in map {
                    assert!(value.as_array().is_none_or(|items| !items.is_empty()), "{path}.{key} is empty");
                }
                if map.get("type").is_some_and(|kind| kind == "array") {
                    assert!(map.contains_key("maxItems"), "{path} is an unbounded list");
                    assert!(map.contains_key("x-kubernetes-list-type"), "{path} has no list type");
                }
                if map.get("type").is_some_and(|kind| kind == "string") && path.contains("Schema") {
                    let bounded = ["maxLength", "enum", "format"].iter().any(|key| map.contains_key(*key));
                    assert!(bounded, "{path} is an unbounded string");
                }
                if path.contains(".items") {
                    assert!(!map.contains_key("default"), "{path} has a default below list items");
                }
            });
        }
    }

    #[test]
    fn every_field_has_a_description() {
        for crd in schemas() {
            let schema = &crd["schema"]["openAPIV3Schema"];
            walk(schema, "", &mut |path, map| {
                let Some(Value::Object(properties)) = map.get("properties") else {
                    return;
                };
                for (name, property) in properties {
                    if path.is_empty() && ["apiVersion", "kind", "metadata", "spec"].contains(&name.as_str()) {
                        continue;
                    }
                    let text = property["description"].as_str().unwrap_or_default();
                    assert!(text.len() > 3, "{path}.{name} has no description");
                }
            });
        }
    }

    #[test]
    fn the_crds_are_small_enough_for_client_side_apply() {
        for manifest in manifests().unwrap() {
            assert!(manifest.to_yaml().unwrap().len() < 200_000, "{}", manifest.file_name);
        }
    }
}
