//! What `/metrics` tells, and that docs, alerts and dashboard speak of nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use iamrole_operator::api::Reason;
use iamrole_operator::telemetry::{Census, ClassLabels, Format, Metrics, RoleLabels};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::exposition::{Series, expressions, parse, selectors};
use support::proxy::Fault;
use support::{SOON, World, allow, aws, ec2, eventually};

const ACCOUNT: &str = "123456789012";

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path)
}

/// The tables of docs/metrics.md: metric to labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = read("docs/metrics.md");
    let tables = text.split("## Metrics\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the tables");
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let name = cells.next().unwrap().trim_matches('`').to_owned();
        let labels = cells.next().unwrap().split(", ").filter(|label| !label.is_empty());
        (name, labels.map(str::to_owned).collect())
    })
    .collect()
}

/// Metrics of which everything has happened once.
fn exercised() -> Metrics {
    let (metrics, second) = (Metrics::default(), Duration::from_secs(1));
    metrics.to_sweep(ACCOUNT, second);
    metrics.swept(ACCOUNT, second);
    metrics.orphaned(ACCOUNT, 1);
    metrics.suspected();
    metrics.aws_call("iam:GetRole", "Success", second);
    metrics.throttled(ACCOUNT);
    metrics.quota(ACCOUNT, "roles", 1, 1000);
    metrics.reconciled("iamrole", "error", second);
    metrics.stalled("iamrole");
    metrics.timed_out("iamrole");
    metrics.workers("iamrole", 24);
    metrics.kubernetes_call("GET", Some(200));
    metrics.failed(Reason::AccessDenied);
    metrics.drift_found();
    metrics.drift_repaired();
    metrics.leader("iamrole-operator", true);
    drop(metrics.waiting("iamrole"));
    drop(metrics.active("iamrole"));
    metrics.count_by(|| {
        let class = "default".to_owned();
        let role =
            RoleLabels { class: class.clone(), condition: "Ready", status: "True", reason: Reason::Applied.as_str() };
        Census {
            roles: BTreeMap::from([(role, 3)]),
            classes: BTreeMap::from([(ClassLabels { class, reason: Reason::Applied.as_str() }, true)]),
            accounts: BTreeSet::from([ACCOUNT.to_owned()]),
        }
    });
    metrics
}

fn labels_by_metric(series: &[Series]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in series {
        let labels = one.labels.keys().filter(|label| *label != "le").cloned();
        found.entry(one.metric.clone()).or_default().extend(labels);
    }
    found
}

#[test]
fn the_docs_have_each_metric_with_its_labels_and_no_other() {
    assert_eq!(documented(), labels_by_metric(&parse(&exercised().render(Format::Prometheus))));
}

#[test]
fn both_formats_have_the_same_metrics() {
    let metrics = exercised();
    let (plain, open) = (metrics.render(Format::Prometheus), metrics.render(Format::OpenMetrics));
    assert!(open.ends_with("# EOF\n") && !plain.contains("# EOF"));
    let names = |text: &str| {
        // 1 in the one is 1.0 in the other.
        let without_bounds = |mut labels: BTreeMap<String, String>| {
            labels.remove("le");
            labels
        };
        let series = parse(text).into_iter();
        series.map(|series| (series.name, without_bounds(series.labels))).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&plain), names(&open));
    for (header, expected) in [
        (None, Format::Prometheus),
        (Some("*/*"), Format::Prometheus),
        (Some("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"), Format::OpenMetrics),
    ] {
        assert_eq!(Format::accepted(header), expected, "{header:?}");
    }
}

#[test]
fn what_can_be_counted_begins_with_zero() {
    let text = Metrics::default().render(Format::Prometheus);
    for line in [
        r#"controller_runtime_reconcile_total{controller="iamrole",result="error"} 0"#,
        r#"controller_runtime_reconcile_errors_total{controller="iamroleclass"} 0"#,
        "iamrole_drift_repaired_total 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn no_help_text_repeats_a_time_that_the_code_may_change() {
    let text = exercised().render(Format::Prometheus);
    let helps: Vec<&str> = text.lines().filter(|line| line.starts_with("# HELP ")).collect();
    assert!(helps.len() > 30, "{text}");
    for unit in [" seconds", " minute", " hour", " day"] {
        let told: Vec<_> = helps.iter().filter(|help| help.contains(unit)).collect();
        assert!(told.is_empty(), "{told:?}");
    }
}

#[test]
fn a_class_that_is_gone_is_not_counted_any_more() {
    let metrics = exercised();
    assert!(metrics.render(Format::Prometheus).contains(r#"class="default""#));
    metrics.count_by(Census::default);
    assert!(!metrics.render(Format::Prometheus).contains(r#"class="default""#));
}

#[test]
fn an_account_that_no_class_leads_to_any_more_does_not_grow_old() {
    let metrics = exercised();
    let other = "210987654321";
    metrics.to_sweep(other, Duration::from_secs(1));
    metrics.orphaned(other, 1);
    metrics.quota(other, "roles", 1, 1000);
    let told = |account: &str| gauges_of(&metrics.render(Format::Prometheus), account);
    assert!(told(ACCOUNT).len() == 5 && !told(other).contains("iamrole_account_usage"), "no class leads there yet");
    metrics.count_by(move || Census { accounts: BTreeSet::from([other.to_owned()]), ..Census::default() });
    assert_eq!(told(other).len(), 5, "{:?}", told(other));
    metrics.sweep_only(|account| account != ACCOUNT);
    assert_eq!((told(ACCOUNT), told(other).len()), (BTreeSet::new(), 5));
}

#[test]
fn what_waits_and_works_is_told_while_it_does() {
    let metrics = Metrics::default();
    let value = |name: &str| {
        let series = parse(&metrics.render(Format::Prometheus));
        let is_it = |series: &&Series| {
            series.name == name && series.labels.get("controller").map(String::as_str) == Some("iamrole")
        };
        series.iter().find(is_it).map(|series| series.value)
    };
    let (waiting, active) = (metrics.waiting("iamrole"), metrics.active("iamrole"));
    assert_eq!((value("workqueue_depth"), value("controller_runtime_active_workers")), (Some(1.0), Some(1.0)));
    assert!(value("workqueue_longest_running_processor_seconds").unwrap() > 0.0);
    drop((waiting, active));
    assert_eq!((value("workqueue_depth"), value("controller_runtime_active_workers")), (Some(0.0), Some(0.0)));
    assert_eq!(value("workqueue_longest_running_processor_seconds"), Some(0.0));
    assert_eq!(value("workqueue_queue_duration_seconds_count"), Some(1.0));
    assert_eq!(value("workqueue_work_duration_seconds_count"), Some(1.0));
}

/// Every expression of alerts, dashboard and docs, with where it stands.
fn all_expressions() -> Vec<(String, String)> {
    let alerts: Value = serde_saphyr::from_str(&read("charts/iamrole-operator/files/alerts.yaml")).unwrap();
    let dashboard: Value = serde_json::from_str(&read("charts/iamrole-operator/files/dashboard.json")).unwrap();
    let mut found = expressions(&alerts, "alerts");
    found.extend(expressions(&dashboard, "dashboard"));
    let docs = read("docs/metrics.md");
    let table = docs.split("## Questions and answers").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows = table.lines().filter(|line| line.ends_with("` |"));
    found.extend(rows.map(|row| ("docs".to_owned(), row.rsplit('`').nth(1).unwrap().to_owned())));
    assert!(found.len() > 45, "{}", found.len());
    found
}

/// The values that a label can have, where they are a closed list.
fn values_of(label: &str) -> Option<BTreeSet<&'static str>> {
    let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
    Some(match label {
        "condition" => ["Ready", "Reconciling", "Stalled", "Drifted", "IdentityBound"].into(),
        "status" => ["True", "False", "Unknown"].into(),
        "reason" => reasons.chain(["None"]).collect(),
        "outcome" => reasons.chain(["Success", "NotFound", "AlreadyExists"]).collect(),
        "controller" | "name" => ["iamrole", "iamroleclass"].into(),
        "result" => ["success", "error", "requeue_after"].into(),
        _ => return None,
    })
}

#[test]
fn alerts_dashboard_and_docs_ask_for_metrics_labels_and_values_that_there_are() {
    let series = parse(&exercised().render(Format::Prometheus));
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in &series {
        known.entry(&one.name).or_default().extend(one.labels.keys().map(String::as_str));
    }
    for (place, expression) in all_expressions() {
        let used = selectors(&expression);
        assert!(!used.metrics.is_empty(), "{place}: {expression}");
        let mut labels = BTreeSet::from(["job", "namespace", "instance", "pod"]);
        for (metric, matchers) in &used.metrics {
            let of =
                known.get(metric.as_str()).unwrap_or_else(|| panic!("{place}: there is no {metric}: {expression}"));
            labels.extend(of);
            for (label, value) in matchers {
                assert!(of.contains(label.as_str()), "{place}: {metric} has no label {label}");
                let Some(values) = values_of(label) else { continue };
                for value in value.split('|') {
                    assert!(values.contains(value), "{place}: {label} is never {value}: {expression}");
                }
            }
        }
        for label in &used.grouped {
            assert!(labels.contains(label.as_str()), "{place}: no metric has the label {label}: {expression}");
        }
    }
}

#[test]
fn what_other_programs_serve_under_the_same_name_is_left_out() {
    let mut shared = 0;
    for (place, expression) in all_expressions() {
        let used = selectors(&expression).metrics;
        let (ours, others): (Vec<_>, Vec<_>) = used.iter().partition(|(name, _)| name.starts_with("iamrole_"));
        if others.is_empty() {
            continue;
        }
        shared += 1;
        let joined = expression.matches("and on (job, instance) iamrole_build_info").count();
        assert!(joined == others.len() && ours.len() == joined, "{place}: whose is it? {expression}");
    }
    assert!(shared > 8, "{shared}");
}

#[test]
fn the_docs_tell_what_to_do_about_each_alert() {
    let alerts: Value = serde_saphyr::from_str(&read("charts/iamrole-operator/files/alerts.yaml")).unwrap();
    let rules = alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let told =
        |name: &Value, severity: &Value| format!("| `{}` | {} |", name.as_str().unwrap(), severity.as_str().unwrap());
    let there: BTreeSet<String> = rules.map(|rule| told(&rule["alert"], &rule["labels"]["severity"])).collect();
    let docs = read("docs/metrics.md");
    for row in &there {
        assert!(docs.contains(row), "{row}");
    }
    assert_eq!(docs.lines().filter(|line| line.starts_with("| `IamRole")).count(), there.len(), "no other");
}

/// `promtool`, where it is installed or has to be.
fn promtool(arguments: &[&str], input: &str) {
    let child = Command::new("promtool")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        assert!(
            std::env::var_os("REQUIRE_PROMTOOL").is_none(),
            "promtool is not installed (Debian package prometheus)"
        );
        eprintln!("promtool is not installed: {arguments:?} is left out");
        return;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
}

/// Every expression as a rule of Prometheus, whose parser then reads it. A duration that Grafana fills in is one of minutes.
fn as_rules() -> String {
    let rules = all_expressions().into_iter().enumerate().map(|(at, (place, expression))| {
        json!({ "record": format!("{place}:{at}"), "expr": expression.replace("$__rate_interval", "5m") })
    });
    json!({ "groups": [{ "name": "expressions", "rules": rules.collect::<Vec<_>>() }] }).to_string()
}

#[test]
fn promtool_takes_the_metrics_the_rules_and_each_expression() {
    promtool(&["check", "metrics"], &exercised().render(Format::Prometheus));
    promtool(&["check", "rules", "charts/iamrole-operator/files/alerts.yaml"], "");
    promtool(&["test", "rules", "tests/alerts.yaml"], "");
    let file = format!("{}/expressions.json", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&file, as_rules()).unwrap();
    promtool(&["check", "rules", &file], "");
}

/// An operator that has seen a failure, a repair, a throttle and a walk.
async fn seasoned() -> World {
    let mut world = World::without_operator("metrics", |class| class.drift_check = support::every(5)).await;
    world.operator.start().await;
    world.create("good-role", json!({ "trustPolicy": ec2() })).await;
    world.ready("good-role").await;
    world.proxy.fault("GetRole", "", 1, Fault::Throttle(Duration::from_millis(1)));
    let name = world.templated("good-role");
    aws::put_inline(&world.iam, &name, "backdoor", &allow("*")).await;
    world.check_now("good-role").await;
    world.create("bad-role", json!({ "trustPolicyJson": "{" })).await;
    world.condition("bad-role", "Stalled", "True", Some("InvalidSpec")).await;
    let other = format!("{}-other", world.namespace);
    let mut spec = world.classes().get(&world.namespace).await.expect("the class").spec;
    spec.controller = Some("another/installation".into());
    world.create_class(&other, spec, false).await;
    world.create("other-role", json!({ "trustPolicy": ec2(), "roleClassName": other })).await;
    world
}

#[tokio::test]
async fn a_running_operator_tells_what_it_has_seen() {
    let world = seasoned().await;
    let metrics = async || world.operator.get("/metrics").await.expect("metrics").1;
    let class = &world.namespace;
    for line in [
        format!(r#"iamrole_roles{{class="{class}",condition="Ready",status="True",reason="Applied"}} 1"#),
        format!(r#"iamrole_roles{{class="{class}",condition="Stalled",status="True",reason="InvalidSpec"}} 1"#),
        format!(r#"iamrole_class_ready{{class="{class}",reason="Applied"}} 1"#),
        r#"iamrole_failures_total{reason="InvalidSpec"}"#.to_owned(),
        "iamrole_drift_found_total 1\n".to_owned(),
        "iamrole_drift_repaired_total 1\n".to_owned(),
        format!(r#"iamrole_aws_throttled_total{{account="{ACCOUNT}"}} 1"#),
        r#"iamrole_aws_calls_total{call="iam:CreateRole",outcome="Success"} 1"#.to_owned(),
        format!(r#"iamrole_account_quota{{account="{ACCOUNT}",resource="roles"}}"#),
        r#"controller_runtime_terminal_reconcile_errors_total{controller="iamrole"} 1"#.to_owned(),
        r#"controller_runtime_max_concurrent_reconciles{controller="iamrole"} 48"#.to_owned(),
        r#"rest_client_requests_total{method="PUT",code="200"}"#.to_owned(),
    ] {
        assert!(eventually(SOON, async || metrics().await.contains(&line)).await, "{line}\n{}", metrics().await);
    }
    let walked = async || {
        let series = parse(&metrics().await);
        let value = |name: &str| series.iter().find(|series| series.name == name).map(|series| series.value);
        value("iamrole_sweep_interval_seconds") == Some(5.0)
            && value("iamrole_sweep_last_success_timestamp_seconds").is_some_and(|at| at > 1.7e9)
    };
    assert!(eventually(Duration::from_mins(1), walked).await, "{}", metrics().await);

    let text = metrics().await;
    let ready = parse(&text).into_iter().filter(|series| {
        series.name == "iamrole_roles" && series.labels.get("condition").map(String::as_str) == Some("Ready")
    });
    assert!((ready.map(|series| series.value).sum::<f64>() - 2.0).abs() < 0.1, "no other installation's: {text}");
    promtool(&["check", "metrics"], &text);
    let (documented, found) = (documented(), labels_by_metric(&parse(&text)));
    for (metric, labels) in &found {
        assert_eq!(documented.get(metric), Some(labels), "{metric} is in the docs with its labels");
    }
    let missing: Vec<&String> = documented.keys().filter(|metric| !found.contains_key(*metric)).collect();
    assert_eq!(missing, ["leader_election_master_status"], "without election there is no leader");
    let names = ["good-role", "bad-role", "other-role", "backdoor"];
    assert!(names.iter().all(|name| !text.contains(name)), "names of objects are no labels: {text}");
}

/// The gauges that tell of an account.
fn gauges_of(text: &str, account: &str) -> BTreeSet<String> {
    let told = parse(text).into_iter().filter(|one| one.labels.get("account").map(String::as_str) == Some(account));
    told.map(|one| one.metric).filter(|metric| !metric.ends_with("_total")).collect()
}

#[tokio::test]
async fn what_an_account_has_is_told_while_a_class_leads_there_however_its_roles_are_read() {
    let world = World::with_class("led", |class| class.drift_check = support::each_by_itself(5)).await;
    let told = async || gauges_of(&world.operator.get("/metrics").await.expect("metrics").1, ACCOUNT);
    let usage =
        |told: &BTreeSet<String>| told.contains("iamrole_account_usage") && told.contains("iamrole_account_quota");
    assert!(eventually(SOON, async || usage(&told().await)).await, "{:?}", told().await);
    // The account is not walked for this class, and for a suspended one neither.
    world.patch_class(json!({ "suspend": true })).await;
    let is_seen = async || {
        let class = world.classes().get(&world.namespace).await.unwrap();
        class.status.and_then(|status| status.observed_generation) == class.metadata.generation
    };
    assert!(eventually(SOON, is_seen).await);
    assert!(usage(&told().await), "{:?}", told().await);
    world.patch_class(json!({ "suspend": null, "driftCheck": { "method": "Account" } })).await;
    let all = async || told().await.contains("iamrole_orphaned_roles");
    assert!(eventually(Duration::from_mins(1), all).await, "{:?}", told().await);
    world.classes().delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    assert!(eventually(SOON, async || told().await.is_empty()).await, "no class leads there: {:?}", told().await);
}
