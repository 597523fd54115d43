//! What the operator logs can be read by a machine, from the first line to the last.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use iamrole_operator::telemetry;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::process::Command;
use support::proxy::Fault;
use support::{World, ec2, env};

/// Each line as an object; all have what a line must have.
fn lines(log: &str) -> Vec<Value> {
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    for line in &lines {
        let text = |field: &str| line[field].as_str().unwrap_or_else(|| panic!("no {field}: {line}"));
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&text("level")), "{line}");
        assert!(text("timestamp").parse::<Timestamp>().is_ok(), "{line}");
        assert!(!text("message").is_empty(), "{line}");
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_json_and_says_which_object_it_is_about() {
    let mut world = World::new("logs").await;
    world.proxy.fault("CreateRole", "", 1, Fault::Refuse(403, "AccessDenied", "not authorized".into()));
    world.create("app", json!({ "trustPolicy": ec2() })).await;
    world.ready("app").await;
    world.patch("app", json!({ "trustPolicy": { "Version": "2012-10-17", "Statement": [{}] } })).await;
    world.reason("app", "InvalidSpec").await;
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(world.operator.stop().await, Some(0));

    let role = world.templated("app");
    let (mut roles, mut classes) = (0, 0);
    for line in lines(&world.operator.log()) {
        let of = &line["span"];
        let is_for_role = line["resource"].as_str().is_some_and(|resource| resource.contains(&role));
        assert!(!is_for_role || of["kind"] == "IamRole", "{line}");
        let name = match of["kind"].as_str() {
            Some("IamRole") => {
                assert_eq!(of["namespace"], world.namespace, "{line}");
                roles += 1;
                "app"
            }
            Some("IamRoleClass") => {
                classes += 1;
                &world.namespace
            }
            _ => continue,
        };
        assert!(of["object"] == name && of["generation"].as_u64() > Some(0), "{line}");
    }
    assert!(roles > 5 && classes > 0, "{roles} lines about roles, {classes} about classes");
}

#[test]
fn a_panic_is_a_line_of_the_log() {
    const SELF: &str = "PANICS_WITH_A_LOG";
    if std::env::var_os(SELF).is_some() {
        telemetry::start_logs("info").unwrap();
        panic!("not\nmeant");
    }
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_panic_is_a_line_of_the_log", "--nocapture"])
        .env(SELF, "1")
        .output()
        .unwrap();
    let log = String::from_utf8(run.stderr).unwrap();
    let [line] = lines(&log).try_into().unwrap_or_else(|_| panic!("one line: {log}"));
    assert_eq!((&line["level"], &line["message"]), (&json!("ERROR"), &json!("panicked: not\nmeant")));
    assert!(line["place"].as_str().unwrap().starts_with("tests/logs.rs:"), "{line}");
}

/// The operator where another program listens already: its exit code, and what it said.
fn in_the_way(level: &str) -> (Option<i32>, String, String) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = Command::new(env!("CARGO_BIN_EXE_iamrole"))
        .args(["run", "--listen", &address, "--log-level", level])
        .env("KUBECONFIG", env("RIG_OPERATOR_KUBECONFIG"))
        .output()
        .unwrap();
    (run.status.code(), String::from_utf8(run.stderr).unwrap(), address)
}

#[test]
fn why_the_program_ended_is_its_last_line() {
    let (code, log, address) = in_the_way("info");
    let last = lines(&log).pop().expect("a line");
    assert_eq!((code, &last["level"]), (Some(1), &json!("ERROR")), "{log}");
    assert!(last["message"].as_str().unwrap().contains(&address), "{log}");

    // Where the log would not show it.
    for level in ["off", "kube=debug"] {
        let (code, log, address) = in_the_way(level);
        assert!(code == Some(1) && log.starts_with("iamrole: ") && log.contains(&address), "{level}: {log}");
    }
    let (code, log, _) = in_the_way("nonsense=nonsense");
    assert!(code == Some(1) && log.starts_with("iamrole: --log-level"), "{log}");
}
