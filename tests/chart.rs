//! What the charts render, and what the operator may do with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::chart::{CHART, CRDS, objects, of_kind, render};
use support::kubectl::{Output, helm, helm3, kubectl, kubectl_ok};

/// Every right that a Role or `ClusterRole` gives, as `group/resource verb`.
fn rights(role: &Value) -> BTreeSet<String> {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                for verb in list(&rule["verbs"]) {
                    rights.insert(format!("{group}/{resource} {verb}"));
                }
            }
        }
    }
    rights
}

/// What the operator uses, and where.
const CLUSTER: [(&str, &str); 9] = [
    ("iamrole.dev/iamroleclasses get", "read anew where the cache is late (controller/classes.rs)"),
    ("iamrole.dev/iamroleclasses list", "watch"),
    ("iamrole.dev/iamroleclasses watch", "watch"),
    ("iamrole.dev/iamroleclasses patch", "finalizer (controller/finalizer.rs)"),
    ("iamrole.dev/iamroleclasses/status update", "status (controller/classes.rs)"),
    ("/namespaces get", "UID of kube-system (controller/run.rs)"),
    ("/namespaces list", "labels, watch"),
    ("/namespaces watch", "labels, watch"),
    ("apiextensions.k8s.io/customresourcedefinitions get", "the served CRDs, at start (controller/crds.rs)"),
];
const NAMESPACED: [(&str, &str); 6] = [
    ("iamrole.dev/iamroles get", "read anew where the cache is late (controller/roles.rs)"),
    ("iamrole.dev/iamroles list", "watch"),
    ("iamrole.dev/iamroles watch", "watch"),
    ("iamrole.dev/iamroles patch", "finalizer (controller/finalizer.rs)"),
    ("iamrole.dev/iamroles/status update", "status (controller/subject.rs)"),
    ("events.k8s.io/events create", "events (controller/events.rs)"),
];

const ELECTION: [(&str, &str); 3] = [
    ("coordination.k8s.io/leases create", "the first time (lease.rs)"),
    ("coordination.k8s.io/leases get", "lease.rs"),
    ("coordination.k8s.io/leases update", "lease.rs"),
];

fn table(tables: &[&[(&str, &str)]]) -> BTreeSet<String> {
    tables.iter().flat_map(|table| table.iter()).map(|(right, _)| (*right).to_owned()).collect()
}

#[test]
fn rights_are_exactly_those_that_are_used() {
    let all = objects(&render(CHART, &[]));
    let own = |objects: &[Value], kind: &str| -> Vec<Value> {
        let named = of_kind(objects, kind).into_iter().filter(|role| role["metadata"]["name"] == "iamrole-operator");
        named.cloned().collect()
    };
    let [role] = own(&all, "ClusterRole").try_into().expect("one ClusterRole");
    assert_eq!(rights(&role), table(&[&CLUSTER, &NAMESPACED]));
    assert!(own(&all, "Role").is_empty());

    let some = objects(&render(CHART, &[r#"watchNamespaces=["a","b"]"#]));
    let [role] = own(&some, "ClusterRole").try_into().expect("one ClusterRole");
    assert_eq!(rights(&role), table(&[&CLUSTER]), "no IamRoles of other namespaces");
    for role in own(&some, "Role") {
        let expected = match role["metadata"]["namespace"].as_str() {
            Some("a" | "b") => table(&[&NAMESPACED]),
            // Events about classes land there.
            Some("default") => table(&[&[NAMESPACED[5]]]),
            other => panic!("a Role in {other:?}"),
        };
        assert_eq!(rights(&role), expected);
    }
    assert_eq!(own(&some, "Role").len(), 3);
    assert_eq!(own(&some, "RoleBinding").len(), 3);
}

#[test]
fn service_accounts_are_patched_only_where_that_is_asked_for() {
    let asked = r"workloadIdentity.annotateServiceAccounts=true";
    let with = |verb: &str| format!("/serviceaccounts {verb}");
    let expected: BTreeSet<String> = ["get", "list", "watch", "patch"].map(with).into();
    for (settings, kind) in [(vec![asked], "ClusterRole"), (vec![asked, r#"watchNamespaces=["a"]"#], "Role")] {
        let all = objects(&render(CHART, &settings));
        let given: Vec<(&str, BTreeSet<String>)> = ["ClusterRole", "Role"]
            .into_iter()
            .flat_map(|kind| of_kind(&all, kind).into_iter().map(move |role| (kind, rights(role))))
            .map(|(kind, rights)| {
                (kind, rights.into_iter().filter(|right| right.contains("serviceaccounts")).collect())
            })
            .filter(|(_, rights): &(&str, BTreeSet<String>)| !rights.is_empty())
            .collect();
        assert_eq!(given, [(kind, expected.clone())]);
        let arguments = &of_kind(&all, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"];
        for argument in ["--annotate-service-accounts=true", "--service-account-annotation-prefix=eks.amazonaws.com"] {
            assert!(arguments.as_array().unwrap().contains(&json!(argument)), "{arguments}");
        }
    }
    let pods = objects(&render(CHART, &["workloadIdentity.checkPods=true"]));
    let given = of_kind(&pods, "ClusterRole").into_iter().flat_map(rights);
    let given: Vec<String> =
        given.filter(|right| right.contains("/pods") || right.contains("serviceaccounts")).collect();
    assert_eq!(given, ["/pods list"]);
    // Who annotates by hand is told of it by the condition.
    let prefixed = render(CHART, &["workloadIdentity.annotationPrefix=\"pods.example.com\""]);
    assert!(prefixed.contains("--service-account-annotation-prefix=pods.example.com"));
    let default = render(CHART, &[]);
    assert!(!default.contains("annotate") && !default.contains("serviceaccounts") && !default.contains("pods]"));
}

#[test]
fn the_lease_is_one_by_name_in_the_namespace_of_the_release() {
    let all = objects(&render(CHART, &[r#"watchNamespaces=["a"]"#]));
    let of_leases = |role: &&Value| role["rules"].to_string().contains("leases");
    assert!(!of_kind(&all, "ClusterRole").iter().any(of_leases));
    let [role] = of_kind(&all, "Role").into_iter().filter(of_leases).collect::<Vec<_>>().try_into().expect("one Role");
    assert_eq!(role["metadata"]["namespace"], "iamrole-system");
    assert_eq!(rights(role), table(&[&ELECTION]));
    let named =
        |rule: &Value| rule["verbs"] == json!(["create"]) || rule["resourceNames"] == json!(["iamrole-operator"]);
    assert!(role["rules"].as_array().unwrap().iter().all(named), "{role}");
    let bound = |binding: &&&Value| binding["roleRef"]["name"] == role["metadata"]["name"];
    let bindings = of_kind(&all, "RoleBinding");
    let [binding] = bindings.iter().filter(bound).collect::<Vec<_>>().try_into().expect("one binding");
    assert_eq!(binding["subjects"][0]["name"], "iamrole-operator");
    let arguments = &of_kind(&all, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"];
    for argument in [
        "--leader-elect=true",
        "--leader-elect-resource-name=iamrole-operator",
        "--leader-elect-resource-namespace=iamrole-system",
    ] {
        assert!(arguments.as_array().unwrap().contains(&json!(argument)), "{arguments}");
    }
}

#[test]
fn more_than_one_replica_needs_leader_election() {
    let deployment = |settings: &[&str]| of_kind(&objects(&render(CHART, settings)), "Deployment")[0]["spec"].clone();
    let refused = helm(&["template", "x", CHART, "--set", "leaderElection=false"]);
    assert!(!refused.ok && refused.stderr.contains("leaderElection=true"), "{}", refused.stderr);
    let two = deployment(&[]);
    assert_eq!(two["replicas"], 2);
    assert_eq!(
        two["strategy"],
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } })
    );
    assert_eq!(deployment(&["replicas=1"])["strategy"]["type"], "RollingUpdate", "also for one");
    let without = "leaderElection=false";
    for replicas in [0, 1] {
        let alone = deployment(&[without, &format!("replicas={replicas}")]);
        assert_eq!((&alone["replicas"], &alone["strategy"]), (&json!(replicas), &json!({ "type": "Recreate" })));
        assert!(!alone.to_string().contains("leader-elect"), "{alone}");
    }
    let all = render(CHART, &[without, "replicas=1"]);
    assert!(!all.contains("leases"), "{all}");
}

#[test]
fn what_the_values_say_of_the_cluster_reaches_the_operator() {
    let arguments = |settings: &[&str]| {
        let all = objects(&render(CHART, settings));
        of_kind(&all, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"].to_string()
    };
    let default = arguments(&[]);
    assert!(!default.contains("--cluster-name") && !default.contains("--oidc-issuer"), "{default}");
    let said = arguments(&[r#"cluster={"name":"prod","oidcIssuer":"https://oidc.example/id/A"}"#]);
    for argument in [r#""--cluster-name=prod""#, r#""--oidc-issuer=https://oidc.example/id/A""#] {
        assert!(said.contains(argument), "{argument}: {said}");
    }
}

#[test]
fn nothing_has_a_wildcard_or_reads_secrets() {
    for settings in
        [vec![], vec!["rbac.aggregateToEdit=true", "rbac.aggregateToAdmin=true", r#"watchNamespaces=["a"]"#]]
    {
        let all = objects(&render(CHART, &settings));
        for role in of_kind(&all, "ClusterRole").into_iter().chain(of_kind(&all, "Role")) {
            let rules = role["rules"].to_string();
            assert!(!rules.contains('*') && !rules.contains("secrets"), "{rules}");
        }
        assert!(of_kind(&all, "Secret").is_empty());
    }
}

#[test]
fn writing_iam_roles_is_given_to_nobody_by_default() {
    let all = objects(&render(CHART, &[]));
    let aggregated: Vec<&Value> = of_kind(&all, "ClusterRole");
    let labels: Vec<String> = aggregated.iter().map(|role| role["metadata"]["labels"].to_string()).collect();
    assert_eq!(labels.iter().filter(|labels| labels.contains("aggregate-to-view")).count(), 1);
    assert!(!labels.iter().any(|labels| labels.contains("aggregate-to-edit") || labels.contains("aggregate-to-admin")));
    let edit = render(CHART, &["rbac.aggregateToEdit=true"]);
    assert!(edit.contains("aggregate-to-edit") && !edit.contains("aggregate-to-admin"));
}

#[test]
fn the_installed_operator_may_do_no_more() {
    let operator = "--as=system:serviceaccount:iamrole-system:iamrole-operator";
    let may = |verb: &str, resource: &str| {
        let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
        let part = format!("--subresource={part}");
        kubectl(&["auth", "can-i", verb, resource, &part, operator, "-n", "default"], "").ok
    };
    for (verb, resource) in [("patch", "iamroles.iamrole.dev"), ("update", "iamroles.iamrole.dev/status")] {
        assert!(may(verb, resource), "{verb} {resource}");
    }
    for (verb, resource) in [
        ("create", "iamroles.iamrole.dev"),
        ("update", "iamroles.iamrole.dev"),
        ("delete", "iamroles.iamrole.dev"),
        ("delete", "iamroleclasses.iamrole.dev"),
        ("get", "secrets"),
        ("list", "pods"),
        ("create", "serviceaccounts"),
        ("patch", "namespaces"),
        ("list", "customresourcedefinitions.apiextensions.k8s.io"),
    ] {
        assert!(!may(verb, resource), "{verb} {resource}");
    }
}

#[test]
fn a_mistyped_value_is_refused_and_named() {
    for (setting, name) in [
        ("replicaCout=2", "replicaCout"),
        ("image={\"tagg\":\"x\"}", "tagg"),
        ("log={\"levl\":\"info\"}", "levl"),
        ("rbac={\"aggregateToEdt\":true}", "aggregateToEdt"),
        ("defaultClass={\"spec\":{\"unbonded\":true}}", "unbonded"),
        (r#"defaultClass={"spec":{"allowed":{"action":["s3:*"]}}}"#, "action"),
        (r#"defaultClass={"spec":{"denied":{"action":["iam:*"]}}}"#, "action"),
        (r#"defaultClass={"spec":{"driftCheck":{"intervalSecond":60}}}"#, "intervalSecond"),
        (r#"defaultClass={"spec":{"workloadIdentity":{"mechanism":"IRSSA"}}}"#, "mechanism"),
        (r#"defaultClass={"spec":{"namespaceSelector":{"matchLabls":{"a":"b"}}}}"#, "matchLabls"),
        (r#"defaultClass={"spec":{"account":{"assumeRole":{"roleARN":"x"}}}}"#, "roleARN"),
        (r#"defaultClass={"spec":{"whenUnlisted":"Kep"}}"#, "whenUnlisted"),
        (r#"defaultClass={"spec":{"path":"teams"}}"#, "path"),
        (r#"networkPolicy={"metricsFrom":[{"namespaceSelector":{"matchLabls":{"a":"b"}}}]}"#, "matchLabls"),
        (r#"networkPolicy={"extraEgress":[{"ports":[{"port":3128}],"tos":[]}]}"#, "tos"),
        (r#"extraEnv=[{"name":"HTTPS_PROXY","valu":"http://proxy:3128"}]"#, "valu"),
        ("concurrency=\"many\"", "concurrency"),
        ("cluster={\"oidcIssuer\":\"oidc.example\"}", "oidcIssuer"),
        ("admissionPolicy={\"enable\":true}", "enable"),
        ("admissionPolicy={\"failurePolicy\":\"Faill\"}", "failurePolicy"),
        ("admissionPolicy={\"validationActions\":[\"Deny\",\"Warn\"]}", "validationActions"),
    ] {
        for helm in [helm, helm3] {
            let output = helm(&["template", "x", CHART, "--set-json", setting]);
            assert!(!output.ok && output.stderr.contains(name), "{setting}: {}", output.stderr);
        }
    }
    let output = helm(&["template", "x", CRDS, "--set-json", "keep=false"]);
    assert!(!output.ok && output.stderr.contains("keep"), "{}", output.stderr);
}

#[test]
fn what_the_class_has_by_default_is_taken_out_with_null() {
    let class = |helm: fn(&[&str]) -> Output, spec: &Value| {
        let setting = format!("defaultClass={}", json!({ "spec": spec }));
        let output = helm(&["template", "x", CHART, "--set-json", &setting]);
        assert!(output.ok, "{spec}: {}", output.stderr);
        of_kind(&objects(&output.stdout), "IamRoleClass")[0]["spec"].clone()
    };
    let all: Value = serde_saphyr::from_str(&std::fs::read_to_string(format!("{CHART}/values.yaml")).unwrap()).unwrap();
    let fields = all["defaultClass"]["spec"].as_object().unwrap().keys();
    for helm in [helm, helm3] {
        // The selector is required, and one of unbounded and permissionsBoundary.
        for field in fields.clone().filter(|field| !["namespaceSelector", "unbounded"].contains(&field.as_str())) {
            assert_eq!(class(helm, &json!({ field: null })).get(field), None, "{field}");
        }
        for field in all["defaultClass"]["spec"]["allowed"].as_object().unwrap().keys() {
            assert_eq!(class(helm, &json!({ "allowed": { field: null } }))["allowed"].get(field), None, "{field}");
        }
        let selects =
            |selector: Value| class(helm, &json!({ "namespaceSelector": selector }))["namespaceSelector"].clone();
        assert_eq!(selects(json!({ "matchLabels": null })), json!({}));
        let other = json!({ "matchLabels": { "iamrole.dev/enabled": null, "team": "a" } });
        assert_eq!(selects(other), json!({ "matchLabels": { "team": "a" } }));
    }
}

#[test]
fn the_admission_policy_is_off_by_default_and_follows_its_values() {
    let kinds = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
    let default = objects(&render(CHART, &[]));
    assert!(kinds.iter().all(|kind| of_kind(&default, kind).is_empty()));
    let on = "admissionPolicy.enabled=true";
    for (settings, failure, actions) in [
        (vec![on], "Fail", json!(["Deny"])),
        (
            vec![
                on,
                r#"admissionPolicy.failurePolicy="Ignore""#,
                r#"admissionPolicy.validationActions=["Warn","Audit"]"#,
            ],
            "Ignore",
            json!(["Warn", "Audit"]),
        ),
    ] {
        let all = objects(&render(CHART, &settings));
        let [policy, binding] = kinds.map(|kind| of_kind(&all, kind)[0]);
        assert_eq!(policy["spec"]["failurePolicy"], failure);
        assert_eq!(binding["spec"]["validationActions"], actions);
        assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
        assert_eq!(binding["spec"]["paramRef"]["selector"], json!({}), "every class");
        let rules = policy["spec"]["matchConstraints"]["resourceRules"].as_array().unwrap();
        let [rule] = rules.as_slice() else { panic!("one rule") };
        assert_eq!(rule["resources"], json!(["iamroles"]), "not their status");
        assert_eq!(rule["operations"], json!(["CREATE", "UPDATE"]), "no deletion");
        let taken = kubectl(
            &["apply", "--dry-run=server", "-f", "-"],
            &json!({
                "apiVersion": "v1", "kind": "List", "items": [policy, binding],
            })
            .to_string(),
        );
        assert!(taken.ok, "{}", taken.stderr);
    }
}

#[test]
fn rendering_is_deterministic_and_needs_no_cluster() {
    assert_eq!(render(CHART, &[]), render(CHART, &[]));
    for chart in [CHART, CRDS] {
        let folder = format!("{}/{chart}/templates", env!("CARGO_MANIFEST_DIR"));
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            // The only hook is that of `helm test`.
            if path.ends_with("NOTES.txt") || path.ends_with("tests") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for word in ["lookup ", "rand", "genCA", "uuidv4", "now ", "helm.sh/hook", ".Capabilities"] {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
        let output = helm(&["lint", "--strict", chart]);
        assert!(output.ok, "{}{}", output.stdout, output.stderr);
    }
}

#[test]
fn the_pod_is_hardened() {
    let all = objects(&render(CHART, &[]));
    let [deployment] = of_kind(&all, "Deployment").try_into().expect("one Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    assert_eq!(
        pod["securityContext"],
        json!({
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" },
        })
    );
    assert_eq!(
        container["securityContext"],
        json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
        })
    );
    assert!(container["resources"]["limits"]["memory"].is_string() && container["resources"]["requests"].is_object());
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(pod["enableServiceLinks"], false);
    let metadata = json!({ "name": "AWS_EC2_METADATA_DISABLED", "value": "true" });
    assert!(container["env"].as_array().unwrap().contains(&metadata), "never the node's role");
}

#[test]
fn the_api_server_takes_all_of_it_where_pods_are_restricted() {
    let namespace = "chart-restricted";
    let restricted = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
        } },
    });
    kubectl_ok(&["apply", "-f", "-"], &restricted.to_string());
    let settings = r#"defaultClass={"name":"chart-dry-run"}"#;
    let on = "networkPolicy.enabled=true,grafanaDashboard.enabled=true";
    let template = ["template", "dry", CHART, "--namespace", namespace, "--set-json", settings, "--set", on];
    let output = helm(&template);
    assert!(output.ok, "{}", output.stderr);
    // The pod of `helm test` needs the ServiceAccount, which a dry run does not make: see tests/chart_lifecycle.rs.
    let all: Vec<Value> = objects(&output.stdout).into_iter().filter(|object| object["kind"] != "Pod").collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": all }).to_string();
    let created = kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &list);
    assert!(created.ok, "{}", created.stderr);
    assert!(!created.stderr.contains("would violate"), "{}", created.stderr);
}

#[test]
fn the_image_follows_its_values() {
    let image = |settings: &[&str]| {
        let all = objects(&render(CHART, settings));
        of_kind(&all, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        image(&[]),
        format!("ghcr.io/iamrole-dev/iamrole-operator:{version}"),
        "the chart's version is the crate's"
    );
    let digest = format!("sha256:{}", "a".repeat(64));
    let both = image(&[r#"image.tag="v9""#, &format!("image.digest={}", json!(digest))]);
    assert_eq!(both, format!("ghcr.io/iamrole-dev/iamrole-operator@{digest}"));
    let moved = image(&[r#"global.imageRegistry="registry.example""#]);
    assert_eq!(moved, format!("registry.example/iamrole-dev/iamrole-operator:{version}"));
}

#[test]
fn the_crds_chart_carries_the_same_crds_and_keeps_them() {
    let all = objects(&render(CRDS, &[]));
    assert_eq!(all.len(), 2);
    for mut crd in all {
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        let [mut shipped] = support::yaml_documents(&format!("crds/{name}.yaml")).try_into().expect("one CRD");
        for crd in [&mut crd, &mut shipped] {
            crd.as_object_mut().unwrap().remove("metadata");
        }
        assert!(crd == shipped, "{name} differs from crds/");
    }
}

#[test]
fn the_default_class_is_a_class_that_selects_by_label() {
    let all = objects(&render(CHART, &[]));
    let [class] = of_kind(&all, "IamRoleClass").try_into().expect("one class");
    assert_eq!(class["metadata"]["annotations"]["iamrole.dev/is-default-class"], "true");
    assert_eq!(class["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    assert_eq!(class["spec"]["namespaceSelector"], json!({ "matchLabels": { "iamrole.dev/enabled": "true" } }));
    assert!(of_kind(&objects(&render(CHART, &["defaultClass.create=false"])), "IamRoleClass").is_empty());
    let bounded = r#"defaultClass.spec={"unbounded":false,"permissionsBoundary":"arn:aws:iam::111122223333:policy/b"}"#;
    let all = objects(&render(CHART, &[bounded]));
    let output = kubectl(&["apply", "--dry-run=server", "-f", "-"], &of_kind(&all, "IamRoleClass")[0].to_string());
    assert!(output.ok, "the README's way to force a boundary: {}", output.stderr);
}
