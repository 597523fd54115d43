//! Every status that the operator writes while the suite runs, as the rig's API server records it, is one that all who
//! wait for it read in the same way, and follows from the one before.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "statuses/kstatus.rs"]
mod kstatus;
#[path = "statuses/rules.rs"]
mod rules;

use kstatus::{Kstatus, kstatus};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

/// A status as it was written.
struct Written {
    object: Value,
    by_operator: bool,
}

/// Logs that the API server laid aside when they were full: statuses that would be missed here.
fn laid_aside(logs: &Path) -> Vec<String> {
    let files = std::fs::read_dir(logs).expect("the rig's logs");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("audit-")).collect()
}

/// What the API server recorded, by the object's UID.
fn recorded() -> BTreeMap<String, Vec<Written>> {
    let directory = std::env::var("RIG_DIR").expect("RIG_DIR: this needs the rig");
    let logs = Path::new(&directory).join("logs");
    let aside = laid_aside(&logs);
    assert!(aside.is_empty(), "the statuses in {aside:?} are not looked at");
    let log = std::fs::File::open(logs.join("audit.log")).expect("the API server's audit log");
    let mut all: BTreeMap<String, Vec<Written>> = BTreeMap::new();
    let (mut lines, mut unread) = (0, 0);
    for line in BufReader::new(log).lines() {
        lines += 1;
        // Some tests have objects that are nested deeper than anything is read.
        let Ok(event) = serde_json::from_str::<Value>(&line.expect("a line")) else {
            unread += 1;
            continue;
        };
        if event["responseStatus"]["code"] != 200 || event["stage"] != "ResponseComplete" {
            continue;
        }
        let object = event["responseObject"].clone();
        let Some(uid) = object["metadata"]["uid"].as_str() else { continue };
        let by_operator = event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("iamrole-operator/"));
        all.entry(uid.to_owned()).or_default().push(Written { object, by_operator });
    }
    assert!(unread * 50 <= lines, "{unread} of {lines} can't be read");
    let version =
        |written: &Written| written.object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok());
    for history in all.values_mut() {
        history.sort_by_key(version);
    }
    all
}

/// Run by `make test` when all other tests are done.
#[test]
#[ignore = "reads what the other tests left"]
fn every_status_of_the_suite_is_a_possible_one() {
    let (mut judged, mut objects, mut wrong) = (0, 0, Vec::new());
    let mut seen: BTreeMap<Kstatus, usize> = BTreeMap::new();
    for history in recorded().values() {
        objects += 1;
        let mut before: Option<&Written> = None;
        for written in history {
            if written.by_operator {
                judged += 1;
                *seen.entry(kstatus(&written.object)).or_default() += 1;
                let faults = rules::faults(before.map(|before| &before.object), &written.object);
                let meta = &written.object["metadata"];
                let place = format!("{} {}/{}", written.object["kind"], meta["namespace"], meta["name"]);
                wrong.extend(faults.into_iter().map(|fault| {
                    format!(
                        "{place} at {}: {fault}: {}",
                        meta["resourceVersion"], written.object["status"]["conditions"]
                    )
                }));
            }
            before = Some(written);
        }
    }
    println!("{judged} statuses of {objects} objects: {seen:?}");
    assert!(
        wrong.is_empty(),
        "{} faults:\n{}",
        wrong.len(),
        wrong.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
    );
    assert!(judged > 1000, "the suite writes thousands; is the audit log that of this run?");
    for kind in [Kstatus::Current, Kstatus::InProgress, Kstatus::Failed, Kstatus::Terminating] {
        assert!(seen.contains_key(&kind), "no status was {kind:?}");
    }
}

#[test]
fn no_log_is_laid_aside_and_one_that_was_would_be_seen() {
    let rig = std::fs::read_to_string("tests/rig/lib/services.sh").unwrap();
    assert!(rig.contains("--audit-log-maxsize 0"), "the API server begins a new log at 100 MB");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit");
    std::fs::create_dir_all(&folder).unwrap();
    // As lumberjack, with which the API server writes, names them.
    let full = "audit-2026-01-31T12-00-00.000.log";
    for name in ["audit.log", "moto.log", full] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    assert_eq!(laid_aside(&folder), [full]);
}

fn object(generation: i64, observed: impl Into<Value>, conditions: &[Value]) -> Value {
    let observed: Value = observed.into();
    json!({ "kind": "IamRole", "metadata": { "generation": generation, "resourceVersion": "7" },
        "status": { "observedGeneration": observed, "conditions": conditions } })
}

fn condition(kind: &str, status: &str, reason: &str, generation: i64, at: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": "m", "observedGeneration": generation,
        "lastTransitionTime": format!("2026-01-01T00:00:{at}Z") })
}

#[test]
fn the_evaluator_reads_as_kstatus_does() {
    let ready = |status: &str| condition("Ready", status, "R", 1, "00");
    let beside = |kind: &str| condition(kind, "True", "R", 1, "00");
    for (object, expected) in [
        (object(1, 1, &[ready("True")]), Kstatus::Current),
        (object(2, 1, &[ready("True")]), Kstatus::InProgress),
        (object(1, 1, &[ready("False")]), Kstatus::InProgress),
        (object(1, 1, &[ready("Unknown")]), Kstatus::InProgress),
        (object(1, 1, &[ready("False"), beside("Reconciling")]), Kstatus::InProgress),
        (object(1, 1, &[ready("False"), beside("Stalled")]), Kstatus::Failed),
        (object(1, 1, &[beside("Stalled"), beside("Reconciling")]), Kstatus::Failed),
        (object(1, 1, &[beside("Reconciling"), beside("Stalled")]), Kstatus::InProgress),
        (object(1, -1, &[]), Kstatus::InProgress),
        (json!({ "metadata": { "generation": 1 } }), Kstatus::Current),
    ] {
        assert_eq!(kstatus(&object), expected, "{object}");
        let mut going = object;
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(kstatus(&going), Kstatus::Terminating);
    }
}

/// Breaks a status.
type Change<'c> = &'c dyn Fn(&mut Value);

#[test]
fn each_rule_finds_what_breaks_it() {
    let good = [
        condition("Ready", "False", "AccessDenied", 2, "10"),
        condition("Reconciling", "True", "AccessDenied", 2, "10"),
    ];
    let before = object(2, 2, &good);
    assert_eq!(rules::faults(None, &before), Vec::<String>::new());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut object = before.clone();
        object["metadata"]["resourceVersion"] = json!("8");
        object["status"]["conditions"][0]["message"] = json!("news");
        change(&mut object);
        rules::faults(Some(&before), &object)
    };
    assert_eq!(with(&|_| {}), Vec::<String>::new());
    let goes = |o: &mut Value| {
        o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        o["metadata"]["generation"] = json!(3);
    };
    assert_eq!(with(&goes), Vec::<String>::new(), "who waits for its end asks for nothing else");
    let bound_before = |o: &mut Value| {
        let bound = condition("IdentityBound", "True", "Bound", 1, "05");
        o["status"]["conditions"].as_array_mut().unwrap().push(bound);
    };
    assert_eq!(with(&bound_before), Vec::<String>::new(), "until the role is in AWS, what was known before stays");
    let conditions: [(&str, Change<'_>); 15] = [
        ("observedGeneration is not", &|o| o["status"]["observedGeneration"] = json!(1)),
        ("observedGeneration is not", &|o| o["status"]["observedGeneration"] = json!("2")),
        ("of another generation", &|o| o["status"]["conditions"][0]["observedGeneration"] = json!(1)),
        ("\"IdentityBound\" is of another generation", &|o| {
            let ready = condition("Ready", "True", "Applied", 2, "20");
            o["status"]["conditions"] = json!([ready, condition("IdentityBound", "True", "Bound", 1, "10")]);
        }),
        ("nobody looks", &|o| {
            let ready = condition("Ready", "True", "Observed", 2, "20");
            o["status"]["conditions"] = json!([ready, condition("IdentityBound", "False", "NoOidcProvider", 2, "10")]);
        }),
        ("no Ready", &|o| drop(o["status"]["conditions"].as_array_mut().unwrap().remove(0))),
        ("twice", &|o| o["status"]["conditions"][1]["type"] = json!("Ready")),
        ("only while True", &|o| o["status"]["conditions"][1]["status"] = json!("False")),
        ("beside Ready=True", &|o| o["status"]["conditions"][0]["status"] = json!("True")),
        ("nothing says what is under way", &|o| drop(o["status"]["conditions"].as_array_mut().unwrap().remove(1))),
        ("no reason", &|o| o["status"]["conditions"][0]["reason"] = json!("access denied")),
        ("no message", &|o| o["status"]["conditions"][0]["message"] = json!("")),
        ("time moved", &|o| o["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:00:11Z")),
        ("both", &|o| {
            let both = condition("Stalled", "True", "AccessDenied", 2, "10");
            o["status"]["conditions"].as_array_mut().unwrap().push(both);
        }),
        ("says nothing new", &|o| o["metadata"]["resourceVersion"] = json!("7")),
    ];
    for (fault, change) in conditions {
        let found = with(change);
        assert!(found.iter().any(|found| found.contains(fault)), "{fault}: {found:?}");
    }
    let stalled =
        [condition("Ready", "False", "AccessDenied", 2, "10"), condition("Stalled", "True", "AccessDenied", 2, "10")];
    let stalled = object(2, 2, &stalled);
    let again = rules::faults(
        Some(&stalled),
        &json!({ "kind": "IamRole", "metadata": { "generation": 2, "resourceVersion": "9" },
        "status": before["status"] }),
    );
    assert!(again.iter().any(|fault| fault.contains("stalled for the same reason")), "{again:?}");
}
