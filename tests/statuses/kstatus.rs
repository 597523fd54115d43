//! What kstatus (sigs.k8s.io/cli-utils), and so Flux and `helm --wait`, makes of an object of a kind that it does not know:
//! deletion first, then the generation, then `Reconciling` and `Stalled` in the order of the list, then `Ready`.

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kstatus {
    Current,
    InProgress,
    Failed,
    Terminating,
}

pub fn kstatus(object: &Value) -> Kstatus {
    let (meta, status) = (&object["metadata"], &object["status"]);
    if !meta["deletionTimestamp"].is_null() {
        return Kstatus::Terminating;
    }
    let observed = status["observedGeneration"].as_i64();
    if observed.is_some_and(|observed| Some(observed) != meta["generation"].as_i64()) {
        return Kstatus::InProgress;
    }
    let none = Vec::new();
    let conditions = status["conditions"].as_array().unwrap_or(&none);
    for condition in conditions.iter().filter(|condition| condition["status"] == "True") {
        match condition["type"].as_str() {
            Some("Reconciling") => return Kstatus::InProgress,
            Some("Stalled") => return Kstatus::Failed,
            _ => {}
        }
    }
    match conditions.iter().find(|condition| condition["type"] == "Ready") {
        Some(ready) if ready["status"] != "True" => Kstatus::InProgress,
        _ => Kstatus::Current,
    }
}
