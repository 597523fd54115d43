//! Events on the objects: one per change made in AWS, one per new failure.
//!
//! Not kube's `Recorder`: it folds events that differ only in their note into one, and keeps the first
//! note; two policies attached within six minutes would be reported as one.

use super::context::Context;
use super::subject::Subject;
use crate::api::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};

/// Bounds of the API server.
const NOTE: usize = 1024;

/// Writes events; a failure to do so is logged and never fails a reconciliation.
#[derive(Clone)]
pub struct Events {
    client: kube::Client,
    instance: String,
}

/// How an event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Events {
    /// `instance` tells this process from others.
    #[must_use]
    pub fn new(client: kube::Client, instance: &str) -> Self {
        Self { client, instance: instance.chars().take(128).collect() }
    }

    /// Writes one event about `object`, and tells whether the API server took it.
    pub async fn publish(
        &self,
        object: &ObjectReference,
        tone: Tone,
        reason: Reason,
        action: &str,
        note: &str,
    ) -> bool {
        // The API server wants events of cluster-scoped objects in `default`.
        let namespace = object.namespace.as_deref().unwrap_or("default");
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(prefix(object.name.as_deref().unwrap_or("iamrole"))),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            action: Some(action.to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(cut(note, NOTE)),
            reason: Some(reason.as_str().to_owned()),
            regarding: Some(object.clone()),
            reporting_controller: Some("iamrole.dev/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(match tone {
                Tone::Normal => "Normal".to_owned(),
                Tone::Warning => "Warning".to_owned(),
            }),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let written = api.create(&PostParams::default(), &event).await;
        let is_written = written.is_ok();
        if let Err(error) = written {
            // In a namespace that is being deleted this is refused; the change itself stands.
            let error = match error {
                kube::Error::Api(status) => status.message,
                other => other.to_string(),
            };
            tracing::info!(error, reason = reason.as_str(), "event not written");
        }
        is_written
    }
}

/// The beginning of an event's name; the API server adds five characters and takes no dot before them.
fn prefix(name: &str) -> String {
    let head: String = name.chars().take(200).collect();
    format!("{}-", head.trim_end_matches(['-', '.']))
}

fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Writes an event about `subject` that its status is about to tell, too: once, however often that can't be written.
pub async fn tell_once(subject: &Subject, ctx: &Context, tone: Tone, reason: Reason, action: &str, note: &str) {
    let is_first = ctx.memory.with(&subject.uid, |entry| entry.tells(&(reason.as_str(), action, note)));
    if is_first {
        ctx.events.publish(&subject.reference(), tone, reason, action, note).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{NOTE, cut, prefix};

    #[test]
    fn names_of_events_are_valid_for_every_object_name() {
        assert_eq!(prefix("app-role"), "app-role-");
        assert_eq!(prefix(&format!("{}.b", "a".repeat(199))), format!("{}-", "a".repeat(199)));
    }

    #[test]
    fn notes_fit_the_api_and_stay_whole_characters() {
        assert_eq!(cut("short", NOTE), "short");
        let long = cut(&"ü".repeat(NOTE), NOTE);
        assert!(long.len() <= NOTE && long.ends_with('…'));
    }
}
