//! What a command of kubectl asks for: where, and for which fields. A namespace that it lacks is that of whoever types it, and
//! a field that there is not prints nothing; kubectl tells neither.

use serde_json::Value;

/// Kinds that lie in a namespace, as commands write them.
const NAMESPACED: [&str; 14] = [
    "iamrole",
    "iamroles",
    "deployment",
    "deployments",
    "pod",
    "pods",
    "event",
    "events",
    "lease",
    "configmap",
    "rolebinding",
    "quota",
    "serviceaccount",
    "service",
];

/// Kinds that lie in none, as manifests write them.
const CLUSTERED: [&str; 4] = ["IamRoleClass", "Namespace", "CustomResourceDefinition", "ClusterRole"];

/// Verbs that ask no API server, or for no object.
const NOWHERE: [&str; 3] = ["explain", "kustomize", "config"];

/// Verbs of which all that they are about lies in a namespace.
const OF_NAMESPACES: [&str; 3] = ["logs", "exec", "rollout"];

/// The resource of a word: `pods` of `pods/one`, `iamroles` of `iamroles.iamrole.dev`.
pub fn resource(word: &str) -> &str {
    let resource = word.split('/').next().unwrap_or_default();
    resource.strip_suffix(".iamrole.dev").unwrap_or(resource)
}

/// Whether what it asks for depends on the namespace of whoever types it. `manifest` reads a file that it names.
pub fn lacks_namespace(words: &[String], manifest: impl Fn(&str) -> Option<String>) -> bool {
    let says = |word: &String| ["-n", "-A", "--all-namespaces"].contains(&word.as_str());
    let says = |word: &String| says(word) || word.starts_with("--namespace");
    if words.iter().any(|word| says(word) || NOWHERE.contains(&word.as_str()) || word == "crd") {
        return false;
    }
    let of_namespaces = |word: &String| {
        OF_NAMESPACES.contains(&word.as_str()) || word.split(',').any(|part| NAMESPACED.contains(&resource(part)))
    };
    let files = words.windows(2).filter(|pair| pair[0] == "-f").filter_map(|pair| manifest(&pair[1]));
    let mut objects = files.flat_map(|text| text.split("\n---\n").map(str::to_owned).collect::<Vec<_>>());
    let is_anywhere = |object: &String| {
        let kind = object.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or_default();
        !CLUSTERED.contains(&kind) && !object.contains("\n  namespace: ")
    };
    words.iter().any(of_namespaces) || objects.any(|object| is_anywhere(&object))
}

/// The fields that it prints or waits for, from the root of one object.
pub fn fields(words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for word in words {
        let (_, template) = word.split_once("jsonpath=").unwrap_or_default();
        found.extend(of_template(template));
        if let Some(columns) = word.strip_prefix("custom-columns=") {
            found.extend(
                columns.split(',').filter_map(|column| column.rsplit_once(':')).map(|(_, path)| path.to_owned()),
            );
        }
        found.extend(word.strip_prefix("--sort-by=").map(str::to_owned));
    }
    found.iter().map(|path| path.trim_start_matches(".items[*]").to_owned()).collect()
}

/// The paths in the braces of a template; those between `range` and `end` begin where the range is.
fn of_template(template: &str) -> Vec<String> {
    let (mut found, mut ranges) = (Vec::new(), Vec::<String>::new());
    for brace in template.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        let within = ranges.last().cloned().unwrap_or_default();
        if brace == "end" {
            ranges.pop();
        } else if let Some(path) = brace.strip_prefix("range ") {
            ranges.push(format!("{within}{path}"));
            found.push(format!("{within}{path}"));
        } else if brace.starts_with('.') {
            found.push(format!("{within}{brace}"));
        }
    }
    found
}

/// The types of conditions that it selects or waits for.
pub fn conditions(words: &[String]) -> Vec<String> {
    let selected =
        words.iter().flat_map(|word| word.split("@.type==\"").skip(1).filter_map(|rest| rest.split('"').next()));
    let awaited = words.iter().filter_map(|word| word.strip_prefix("--for=condition="));
    selected.chain(awaited.filter_map(|rest| rest.split('=').next())).map(str::to_owned).collect()
}

/// Whether a kind has the field, by its schema. Of metadata the usual fields are known.
pub fn is_there(schema: &Value, path: &str) -> bool {
    const METADATA: [&str; 8] =
        ["name", "namespace", "uid", "labels", "annotations", "generation", "finalizers", "creationTimestamp"];
    let steps = steps(path);
    if steps.first().is_some_and(|step| step == "metadata") {
        return steps.get(1).is_none_or(|step| METADATA.contains(&step.as_str()));
    }
    let mut node = schema;
    for step in steps {
        while let Some(items) = node.get("items") {
            node = items;
        }
        let open = node.get("additionalProperties").or_else(|| node.get("x-kubernetes-preserve-unknown-fields"));
        match node["properties"].get(&step).or(open) {
            Some(Value::Bool(_)) => return true,
            Some(inner) => node = inner,
            None => return false,
        }
    }
    true
}

/// The names on the way, without what stands in brackets.
fn steps(path: &str) -> Vec<String> {
    let (mut depth, mut bare) = (0_usize, String::new());
    for sign in path.replace("\\.", "\u{0}").chars() {
        match sign {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 => bare.push(sign),
            _ => {}
        }
    }
    bare.split('.').filter(|step| !step.is_empty()).map(|step| step.replace('\u{0}', ".")).collect()
}

#[test]
fn what_is_wrong_with_a_command_is_seen() {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let file = |name: &str| (name == "role.yaml").then(|| "kind: IamRole\nmetadata:\n  name: a\n".to_owned());
    for (line, lacks) in [
        ("get events --field-selector involvedObject.name=a", true),
        ("wait iamrole/a --for=condition=Ready", true),
        ("get iamroleclasses,iamroles -o yaml", true),
        ("rollout restart deployment/a", true),
        ("apply -f role.yaml", true),
        ("apply -f class.yaml", false),
        ("get iamroleclasses,iamroles -A -o yaml", false),
        ("-n shop get pods", false),
        ("explain iamroles.spec", false),
        ("get iamroleclass a", false),
        ("delete crd iamroles.iamrole.dev", false),
        ("label namespace a iamrole.dev/enabled=true", false),
    ] {
        assert_eq!(lacks_namespace(&words(line), file), lacks, "{line}");
    }
    let template =
        r#"jsonpath={range .status.plan[*]}{.action}{"\n"}{end}{.status.conditions[?(@.type=="Ready")].message}"#;
    let template = [template.to_owned(), "custom-columns=A:.metadata.name,B:.spec.path".to_owned()];
    let all = [
        ".status.plan[*]",
        ".status.plan[*].action",
        r#".status.conditions[?(@.type=="Ready")].message"#,
        ".metadata.name",
        ".spec.path",
    ];
    assert_eq!(fields(&template), all);
    assert_eq!(conditions(&template), ["Ready"]);
    let crd = super::read("crds/iamroles.iamrole.dev.yaml");
    let crd: Value = serde_saphyr::from_str(&crd).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for path in all {
        assert!(is_there(schema, path), "{path}");
        assert!(!is_there(schema, &format!("{path}s.x")), "{path}");
    }
}
