//! What must hold of each status, and of each pair of one and the next.

use serde_json::Value;
use std::collections::BTreeSet;

/// Reasons for which nothing is under way though the object is not ready: somebody asked for it.
const AT_REST: [&str; 3] = ["ChangesPending", "Observed", "Suspended"];

fn conditions(object: &Value) -> &[Value] {
    object["status"]["conditions"].as_array().map_or(&[], Vec::as_slice)
}

fn find<'o>(object: &'o Value, kind: &str) -> Option<&'o Value> {
    conditions(object).iter().find(|condition| condition["type"] == kind)
}

/// What is wrong with a status, by itself and after the one `before`.
pub fn faults(before: Option<&Value>, object: &Value) -> Vec<String> {
    let mut faults = of_generations(object);
    faults.extend(of_conditions(object));
    if let Some(before) = before {
        faults.extend(of_sequence(before, object));
    }
    faults
}

/// An object that is to go is `Terminating` for all who wait, whatever its status says; what is written then is what the
/// operator has to remember until it is gone.
fn is_going(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn of_generations(object: &Value) -> Vec<String> {
    if is_going(object) {
        return Vec::new();
    }
    let observed = &object["status"]["observedGeneration"];
    let mut faults = Vec::new();
    if observed.as_i64().is_none() || *observed != object["metadata"]["generation"] {
        faults.push(format!("observedGeneration is not the generation: {observed}"));
    }
    // IdentityBound speaks of Kubernetes, and comes when that is known: once the role is in AWS, it is.
    let is_ready = find(object, "Ready").is_some_and(|ready| ready["status"] == "True");
    for condition in conditions(object).iter().filter(|condition| is_ready || condition["type"] != "IdentityBound") {
        if condition["observedGeneration"] != *observed {
            faults.push(format!("{} is of another generation", condition["type"]));
        }
    }
    faults
}

fn of_conditions(object: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut kinds = BTreeSet::new();
    for condition in conditions(object) {
        let kind = condition["type"].as_str().unwrap_or_default();
        if !kinds.insert(kind) {
            faults.push(format!("{kind} is there twice"));
        }
        let reason = condition["reason"].as_str().unwrap_or_default();
        if !reason.starts_with(|c: char| c.is_ascii_uppercase()) || !reason.chars().all(|c| c.is_ascii_alphanumeric()) {
            faults.push(format!("{kind} has no reason of one word: {reason:?}"));
        }
        if condition["message"].as_str().unwrap_or_default().is_empty() {
            faults.push(format!("{kind} has no message"));
        }
        if ["Reconciling", "Stalled", "Drifted"].contains(&kind) && condition["status"] != "True" {
            faults.push(format!("{kind} is there only while True"));
        }
    }
    let is_there = |kind: &str| kinds.contains(kind);
    let Some(ready) = find(object, "Ready") else {
        faults.extend((!is_going(object)).then(|| "there is no Ready".to_owned()));
        return faults;
    };
    if is_there("Reconciling") && is_there("Stalled") {
        faults.push("Reconciling and Stalled are both there".to_owned());
    }
    let under_way = is_there("Reconciling") || is_there("Stalled");
    if ready["status"] == "True" && under_way {
        faults.push("something is under way beside Ready=True".to_owned());
    }
    let rests = ready["reason"].as_str().is_some_and(|reason| AT_REST.contains(&reason));
    if ready["status"] != "True" && !under_way && !rests {
        faults.push(format!("nothing says what is under way: {}", ready["reason"]));
    }
    if rests && is_there("IdentityBound") {
        faults.push(format!("nobody looks at its ServiceAccounts: {}", ready["reason"]));
    }
    faults
}

fn of_sequence(before: &Value, object: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if before["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"] {
        faults.push("the write says nothing new".to_owned());
    }
    for condition in conditions(object) {
        let kind = condition["type"].as_str().unwrap_or_default();
        let Some(last) = find(before, kind) else { continue };
        let same = last["status"] == condition["status"];
        let (then, now) = (last["lastTransitionTime"].as_str(), condition["lastTransitionTime"].as_str());
        if same && then != now {
            faults.push(format!("{kind}: the time moved and the status did not"));
        }
        if !same && now < then {
            faults.push(format!("{kind}: the time went back"));
        }
    }
    let about = |object: &Value, kind: &str| {
        find(object, kind).map(|condition| (condition["reason"].clone(), condition["observedGeneration"].clone()))
    };
    let stalled = about(before, "Stalled");
    if stalled.is_some() && about(object, "Reconciling") == stalled {
        faults.push("it was stalled for the same reason a moment ago".to_owned());
    }
    faults
}
