//! What can be asked of the chart beside its defaults, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fences;
mod support;

use clap::CommandFactory as _;
use fences::fences;
use iamrole_operator::cli::Cli;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use support::chart::{CHART, CRDS, objects, of_kind, one, render};
use support::kubectl::{helm, helm3};

const ALL_ON: [&str; 6] = [
    "admissionPolicy.enabled=true",
    "networkPolicy.enabled=true",
    "serviceMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "grafanaDashboard.enabled=true",
    r#"watchNamespaces=["a","default"]"#,
];

fn refused(setting: &str) -> String {
    let output = helm(&["template", "x", CHART, "--set-json", setting]);
    assert!(!output.ok, "{setting} is taken");
    output.stderr
}

fn pod(settings: &[&str]) -> Value {
    one(settings, "Deployment")["spec"]["template"].clone()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn nothing_optional_is_there_by_default() {
    let all = objects(&render(CHART, &[]));
    let kinds: BTreeSet<&str> = all.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    for kind in ["NetworkPolicy", "ServiceMonitor", "PrometheusRule", "ConfigMap", "ValidatingAdmissionPolicy"] {
        assert!(!kinds.contains(kind), "{kind}");
    }
    let on = objects(&render(CHART, &ALL_ON));
    for kind in ["NetworkPolicy", "ServiceMonitor", "PrometheusRule", "ConfigMap", "ValidatingAdmissionPolicy"] {
        assert_eq!(of_kind(&on, kind).len(), 1, "{kind}, without a look at what the cluster serves");
    }
}

#[test]
fn helm_3_renders_the_same_objects() {
    for settings in [&[][..], &ALL_ON] {
        let sets: Vec<&str> = settings.iter().flat_map(|setting| ["--set-json", setting]).collect();
        for chart in [CHART, CRDS] {
            let sets = if chart == CHART { &sets[..] } else { &[] };
            let template = [&["template", "r", chart, "--namespace", "n", "--include-crds"], sets].concat();
            let (four, three) = (helm(&template), helm3(&template));
            assert!(four.ok && three.ok, "{}{}", four.stderr, three.stderr);
            assert!(objects(&four.stdout) == objects(&three.stdout), "{chart} {settings:?}");
            let lint = helm3(&["lint", "--strict", chart]);
            assert!(lint.ok, "{}{}", lint.stdout, lint.stderr);
        }
    }
}

#[test]
fn an_umbrella_chart_may_say_global_and_enabled() {
    let settings = [r#"global={"imagePullSecrets":[{"name":"pull"}],"storageClass":"x"}"#, "enabled=true"];
    assert_eq!(pod(&settings)["spec"]["imagePullSecrets"], json!([{ "name": "pull" }]));
    let both = [r#"imagePullSecrets=[{"name":"a"}]"#, settings[0]];
    assert_eq!(pod(&both)["spec"]["imagePullSecrets"], json!([{ "name": "a" }, { "name": "pull" }]));
    render(CRDS, &[r#"global={"a":1}"#, "enabled=true"]);
}

#[test]
fn it_can_be_a_part_of_an_umbrella_chart() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("umbrella");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("charts")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let chart = format!(
        "apiVersion: v2\nname: umbrella\nversion: 1.0.0\ndependencies:\n  - name: iamrole-operator\n    version: {version}\n    \
         condition: iamrole-operator.enabled\n"
    );
    std::fs::write(folder.join("Chart.yaml"), chart).unwrap();
    let values = "global: {environment: prod}\niamrole-operator: {enabled: true, cluster: {name: prod}}\n";
    std::fs::write(folder.join("values.yaml"), values).unwrap();
    let path = folder.to_str().unwrap();
    let packed = helm(&["package", CHART, "--destination", folder.join("charts").to_str().unwrap()]);
    assert!(packed.ok, "{}", packed.stderr);
    let output = helm(&["template", "u", path]);
    assert!(output.ok && output.stdout.contains("--cluster-name=prod"), "{}", output.stderr);
    let without = helm(&["template", "u", path, "--set", "iamrole-operator.enabled=false"]);
    assert!(without.ok && !without.stdout.contains("kind: Deployment"), "{}", without.stderr);
}

#[test]
fn every_object_has_the_common_labels_and_annotations() {
    let common =
        [r#"commonLabels={"team":"platform","app.kubernetes.io/name":"no"}"#, r#"commonAnnotations={"a":"b"}"#];
    for object in objects(&render(CHART, &[&ALL_ON[..], &common].concat())) {
        let (kind, meta) = (&object["kind"], &object["metadata"]);
        assert_eq!(meta["labels"]["team"], "platform", "{kind}");
        assert_ne!(meta["labels"]["app.kubernetes.io/name"], "no", "{kind}: those of the chart win");
        assert_eq!(meta["annotations"]["a"], "b", "{kind}");
    }
    let settings = [&common[..], &[r#"podLabels={"pod":"l"}"#, r#"podAnnotations={"pod":"a"}"#]].concat();
    let meta = &pod(&settings)["metadata"];
    let labels = (&meta["labels"]["team"], &meta["labels"]["pod"], &meta["annotations"]["pod"]);
    assert_eq!(labels, (&json!("platform"), &json!("l"), &json!("a")));
    assert!(meta["annotations"]["a"].is_null(), "a pod is not replaced for an annotation of the objects");
}

#[test]
fn a_new_version_of_the_chart_alone_replaces_no_pod() {
    let template = pod(&[]).to_string();
    assert!(!template.contains("helm.sh/chart") && !template.contains("app.kubernetes.io/version"), "{template}");
}

#[test]
fn the_namespace_can_be_another_one_than_the_releases() {
    for object in objects(&render(CHART, &[&ALL_ON[..5], &[r#"namespaceOverride="aws""#]].concat())) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("aws");
        assert_eq!(namespace, "aws", "{}", object["kind"]);
        for subject in list(&object["subjects"]) {
            assert_eq!(subject["namespace"], "aws");
        }
    }
    assert!(pod(&[r#"namespaceOverride="aws""#]).to_string().contains("--leader-elect-resource-namespace=aws"));
}

#[test]
fn namespaced_means_nothing_cluster_wide() {
    let settings = [r#"watchNamespaces=["a","b"]"#, "rbac.clusterRoles=false", "defaultClass.create=false"];
    let all = objects(&render(CHART, &settings));
    for object in &all {
        assert!(object["metadata"]["namespace"].is_string(), "{}", object["kind"]);
    }
    let with = objects(&render(CHART, &settings[..1]));
    let namespaced = |objects: &[Value]| of_kind(objects, "Role").into_iter().cloned().collect::<Vec<_>>();
    assert!(!namespaced(&all).is_empty() && namespaced(&all) == namespaced(&with), "the rest is as it was");
    let output = helm(&["template", "x", CHART, "--set", "rbac.clusterRoles=false"]);
    assert!(!output.ok && output.stderr.contains("watchNamespaces"), "{}", output.stderr);
}

#[test]
fn a_budget_never_blocks_a_drain() {
    assert_eq!(one(&[], "PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
    let percent = one(&[r#"podDisruptionBudget.maxUnavailable="50%""#], "PodDisruptionBudget");
    assert_eq!(percent["spec"]["maxUnavailable"], "50%");
    assert_eq!(percent["spec"]["selector"], one(&[], "Service")["spec"]["selector"].clone().into_match());
    for setting in ["replicas=1", "podDisruptionBudget.enabled=false"] {
        assert!(of_kind(&objects(&render(CHART, &[setting])), "PodDisruptionBudget").is_empty(), "{setting}");
    }
    for none in ["0", r#""0%""#, r#""half""#] {
        refused(&format!("podDisruptionBudget.maxUnavailable={none}"));
    }
}

trait IntoMatch {
    fn into_match(self) -> Value;
}

impl IntoMatch for Value {
    fn into_match(self) -> Value {
        json!({ "matchLabels": self })
    }
}

/// Whether a rule of the policy lets TCP (or UDP) out to that address and port.
fn goes_out(policy: &Value, protocol: &str, address: Option<&str>, port: u64) -> bool {
    list(&policy["spec"]["egress"]).iter().any(|rule| {
        let is_port = list(&rule["ports"]).iter().any(|one| one["port"] == port && one["protocol"] == protocol);
        let is_peer = rule["to"].is_null()
            || address.is_some_and(|address| list(&rule["to"]).iter().any(|peer| peer["ipBlock"]["cidr"] == address));
        is_port && is_peer
    })
}

#[test]
fn the_network_policy_lets_through_what_is_needed_and_no_more() {
    let on = "networkPolicy.enabled=true";
    let policy = one(&[on], "NetworkPolicy");
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["podSelector"], one(&[], "Service")["spec"]["selector"].clone().into_match());
    for (protocol, address, port) in [
        ("UDP", None, 53),
        ("TCP", None, 53),
        ("TCP", None, 443),
        ("TCP", None, 6443),
        ("TCP", Some("169.254.170.23/32"), 80),
        ("TCP", Some("fd00:ec2::23/128"), 80),
    ] {
        assert!(goes_out(&policy, protocol, address, port), "{protocol} {address:?} {port}");
    }
    for (address, port) in [(None, 80), (None, 8080), (Some("169.254.169.254/32"), 80)] {
        assert!(!goes_out(&policy, "TCP", address, port), "{address:?} {port}");
    }
    let metadata = one(&[on, "aws.metadataDisabled=false"], "NetworkPolicy");
    assert!(goes_out(&metadata, "TCP", Some("169.254.169.254/32"), 80));

    let ingress = |policy: &Value| list(&policy["spec"]["ingress"]).to_vec();
    let [open] = ingress(&policy).try_into().expect("one rule");
    assert_eq!(open, json!({ "ports": [{ "port": "http", "protocol": "TCP" }] }));
    let narrow = [
        on,
        r#"networkPolicy.metricsFrom=[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]"#,
        r#"networkPolicy.to=[{"ipBlock":{"cidr":"10.0.0.0/8"}}]"#,
        r#"networkPolicy.extraEgress=[{"ports":[{"port":3128,"protocol":"TCP"}]}]"#,
    ];
    let narrow = one(&narrow, "NetworkPolicy");
    let tester = one(&[], "Pod")["metadata"]["labels"].clone().into_match();
    assert_eq!(ingress(&narrow)[0]["from"][1]["podSelector"], tester, "helm test gets in as well");
    assert!(goes_out(&narrow, "TCP", Some("10.0.0.0/8"), 443) && !goes_out(&narrow, "TCP", None, 443));
    assert!(goes_out(&narrow, "TCP", None, 3128) && goes_out(&narrow, "UDP", None, 53));
}

#[test]
fn pods_are_spread_and_placed() {
    let spread = &pod(&[])["spec"]["topologySpreadConstraints"];
    let keys: Vec<&Value> = list(spread).iter().map(|constraint| &constraint["topologyKey"]).collect();
    assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    for constraint in list(spread) {
        assert_eq!(constraint["labelSelector"], one(&[], "Service")["spec"]["selector"].clone().into_match());
        assert_eq!(constraint["whenUnsatisfiable"], "ScheduleAnyway", "one node is enough");
    }
    assert!(pod(&["topologySpreadConstraints=[]"])["spec"]["topologySpreadConstraints"].is_null());
    let own = r#"topologySpreadConstraints=[{"maxSkew":2,"topologyKey":"rack","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"a":"b"}}}]"#;
    assert_eq!(
        pod(&[own])["spec"]["topologySpreadConstraints"][0]["labelSelector"],
        json!({ "matchLabels": { "a": "b" } })
    );
    let placed = [
        r#"nodeSelector={"a":"b"}"#,
        r#"tolerations=[{"key":"t","operator":"Exists"}]"#,
        r#"affinity={"nodeAffinity":{}}"#,
        r#"priorityClassName="system-cluster-critical""#,
        r#"extraVolumes=[{"name":"v","emptyDir":{}}]"#,
        r#"extraVolumeMounts=[{"name":"v","mountPath":"/v"}]"#,
        r#"extraEnv=[{"name":"HTTPS_PROXY","value":"http://proxy:3128"}]"#,
        r#"extraArgs=["--leader-elect-retry-period=1s"]"#,
    ];
    let all = objects(&render(CHART, &placed));
    let operator = of_kind(&all, "Deployment")[0]["spec"]["template"]["spec"].clone();
    let tester = of_kind(&all, "Pod")[0]["spec"].clone();
    for spec in [&operator, &tester] {
        for field in ["nodeSelector", "tolerations", "affinity", "priorityClassName", "volumes", "securityContext"] {
            assert!(!spec[field].is_null(), "{field}");
        }
        let container = &spec["containers"][0];
        assert_eq!(container["volumeMounts"][0]["mountPath"], "/v");
        assert!(container["env"].to_string().contains("HTTPS_PROXY"));
        assert!(!container["securityContext"].is_null() && !container["resources"].is_null());
    }
    let arguments = operator["containers"][0]["args"].to_string();
    assert!(arguments.contains(r#""--leader-elect-retry-period=1s""#), "{arguments}");
}

#[test]
fn helm_test_looks_at_the_classes_of_its_own_installation() {
    let told = fences("docs/accounts.md").into_iter().find(|fence| fence.text.contains("IAMROLE_CONTROLLER"));
    let values: Value = serde_saphyr::from_str(&told.expect("values for a second installation").text).unwrap();
    let values: Vec<String> =
        values.as_object().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
    let all = objects(&render(CHART, &values.iter().map(String::as_str).collect::<Vec<_>>()));
    let pod = &of_kind(&all, "Pod")[0]["spec"];
    for spec in [&of_kind(&all, "Deployment")[0]["spec"]["template"]["spec"], pod] {
        let env = list(&spec["containers"][0]["env"]);
        assert!(env.contains(&json!({ "name": "IAMROLE_CONTROLLER", "value": "NAME" })), "{env:?}");
    }
    // What both can be told, both read from the same variable.
    let program = Cli::command();
    let of = |verb: &str| program.find_subcommand(verb).unwrap().get_arguments().cloned().collect::<Vec<_>>();
    let (run, check) = (of("run"), of("check"));
    let shared = check.iter().filter_map(|one| Some((one, run.iter().find(|other| other.get_id() == one.get_id())?)));
    let variables: Vec<_> = shared.map(|(one, other)| (one.get_env().unwrap(), other.get_env().unwrap())).collect();
    assert!(!variables.is_empty() && variables.iter().all(|(one, other)| one == other), "{variables:?}");
}

#[test]
fn more_objects_are_taken_as_objects_and_as_text() {
    let object = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"{{ .Release.Name }}-a"}}"#;
    let text = r#""apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: '{{ .Release.Namespace }}'}""#;
    let all = objects(&render(CHART, &[&format!("extraObjects=[{object},{text}]")]));
    let [a, b] = of_kind(&all, "ConfigMap").try_into().expect("two");
    let names = (&a["metadata"]["name"], &b["metadata"]["name"], &b["metadata"]["namespace"]);
    assert_eq!(names, (&json!("iamrole-operator-a"), &json!("b"), &json!("iamrole-system")));
}

#[test]
fn prometheus_finds_the_pods_by_the_service() {
    let settings = [
        "serviceMonitor.enabled=true",
        r#"serviceMonitor.interval="30s""#,
        r#"serviceMonitor.namespace="monitoring""#,
        r#"serviceMonitor.labels={"release":"prometheus"}"#,
        r#"serviceMonitor.relabelings=[{"targetLabel":"cluster","replacement":"prod"}]"#,
    ];
    let all = objects(&render(CHART, &settings));
    let monitor = of_kind(&all, "ServiceMonitor")[0];
    let service = of_kind(&all, "Service")[0];
    let meta = (&monitor["metadata"]["namespace"], &monitor["metadata"]["labels"]["release"]);
    assert_eq!(meta, (&json!("monitoring"), &json!("prometheus")));
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&service["metadata"]["labels"][label], value, "{label}");
    }
    assert_eq!(monitor["spec"]["namespaceSelector"]["matchNames"], json!([service["metadata"]["namespace"]]));
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"], service["spec"]["ports"][0]["name"]);
    assert_eq!((&endpoint["path"], &endpoint["interval"]), (&json!("/metrics"), &json!("30s")));
    assert_eq!(endpoint["relabelings"][0]["targetLabel"], "cluster");
    let output = helm(&["template", "x", CHART, "--set", "serviceMonitor.enabled=true,service.enabled=false"]);
    assert!(!output.ok && output.stderr.contains("service.enabled"), "{}", output.stderr);
}

#[test]
fn alerts_can_be_left_out_and_labelled() {
    let alerts = |settings: &[&str]| {
        let rule = one(&[&["prometheusRule.enabled=true"], settings].concat(), "PrometheusRule");
        list(&rule["spec"]["groups"][0]["rules"]).to_vec()
    };
    let every = alerts(&[]);
    assert!(every.len() > 8 && every.iter().all(|alert| alert["labels"]["severity"].is_string()));
    assert!(
        every.iter().any(|alert| alert.to_string().contains("{{ $labels.reason }}")),
        "Prometheus's own templates stay"
    );
    let some =
        alerts(&[r#"prometheusRule.disabledAlerts=["IamRoleOrphans"]"#, r#"prometheusRule.alertLabels={"team":"a"}"#]);
    assert_eq!(some.len(), every.len() - 1);
    assert!(some.iter().all(|alert| alert["labels"]["team"] == "a" && alert["labels"]["severity"].is_string()));
    let output = helm(&[
        "template",
        "x",
        CHART,
        "--set",
        "prometheusRule.enabled=true",
        "--set-json",
        r#"prometheusRule.disabledAlerts=["Orphans"]"#,
    ]);
    assert!(!output.ok && output.stderr.contains("IamRoleOrphans"), "{}", output.stderr);
}

#[test]
fn the_dashboard_is_found_by_its_label() {
    let map = one(&["grafanaDashboard.enabled=true", r#"grafanaDashboard.annotations={"folder":"AWS"}"#], "ConfigMap");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(map["metadata"]["annotations"]["folder"], "AWS");
    let dashboard = map["data"]["iamrole-operator.json"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(dashboard).expect("JSON");
    assert!(list(&dashboard["panels"]).len() > 15);
}

#[test]
fn the_pod_of_helm_test_is_not_one_of_the_operators() {
    let all = objects(&render(CHART, &[]));
    let labels = &of_kind(&all, "Pod")[0]["metadata"]["labels"];
    let selector = of_kind(&all, "Service")[0]["spec"]["selector"].as_object().unwrap();
    assert!(selector.iter().any(|(label, value)| &labels[label] != value), "{labels}");
    let without = one(&["service.enabled=false"], "Pod")["spec"]["containers"][0]["args"].clone();
    assert_eq!(without, json!(["check"]), "what can't be reached is not asked");
}

#[test]
fn what_artifact_hub_shows_is_what_is_there() {
    let chart: Value = serde_saphyr::from_str(
        &std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/charts/iamrole-operator/Chart.yaml")).unwrap(),
    )
    .unwrap();
    let yaml = |name: &str| -> Value {
        let text = chart["annotations"][format!("artifacthub.io/{name}")].as_str().unwrap_or_else(|| panic!("{name}"));
        serde_saphyr::from_str(text).unwrap()
    };
    assert_eq!(yaml("images")[0]["image"], pod(&[])["spec"]["containers"][0]["image"], "as by default");
    let crds = yaml("crds");
    let examples = yaml("crdsExamples");
    let kinds: Vec<&Value> = list(&crds).iter().map(|crd| &crd["kind"]).collect();
    assert_eq!(kinds, list(&examples).iter().map(|example| &example["kind"]).collect::<Vec<_>>());
    for crd in list(&crds) {
        let shipped = std::fs::read_to_string(format!(
            "{}/crds/{}.yaml",
            env!("CARGO_MANIFEST_DIR"),
            crd["name"].as_str().unwrap()
        ));
        assert!(shipped.unwrap().contains(&format!("name: {}\n", crd["version"].as_str().unwrap())));
    }
    for example in list(&examples) {
        let taken = support::kubectl::kubectl(
            &["create", "--dry-run=server", "--validate=strict", "-f", "-"],
            &example.to_string(),
        );
        assert!(taken.ok, "{}", taken.stderr);
    }
    for change in list(&yaml("changes")) {
        let kind = change["kind"].as_str().unwrap();
        assert!(["added", "changed", "deprecated", "removed", "fixed", "security"].contains(&kind), "{kind}");
    }
}
