//! Advice on what IAM takes but is probably a mistake: told as events, whatever becomes of the role, and once per change.

use super::apply::Case;
use super::context::Context;
use super::events::Tone;
use super::status::find;
use super::subject::Subject;
use crate::api::{ConditionType, Reason};
use crate::role::Desired;
use crate::role::advice::advice;
use std::collections::BTreeSet;

/// Tells what was not told yet. An event that could not be written is told at the next look.
pub async fn advise(subject: &Subject, ctx: &Context, case: Case<'_>, desired: &Desired) {
    let all = advice(desired, &case.account.quotas.limits);
    let known = || if is_told(subject, case) { all.iter().cloned().collect() } else { BTreeSet::new() };
    let news: Vec<&String> = ctx.memory.with(&subject.uid, |entry| {
        let told = entry.advice.get_or_insert_with(known);
        told.retain(|note| all.contains(note));
        all.iter().filter(|note| !told.contains(*note)).collect()
    });
    for note in news {
        let reference = subject.reference();
        if ctx.events.publish(&reference, Tone::Warning, Reason::PolicyWarning, "Lint", note).await {
            ctx.memory.with(&subject.uid, |entry| entry.advice.get_or_insert_default().insert(note.clone()));
        }
    }
}

/// Whether an earlier process told it, as far as status shows: whatever it says of this spec after it was accepted.
fn is_told(subject: &Subject, case: Case<'_>) -> bool {
    let before = [Reason::InvalidSpec, Reason::NotAllowed, Reason::NoClass, Reason::ClassNotReady, Reason::Suspended];
    let ready = find(&subject.status.conditions, ConditionType::Ready);
    let got_further = ready.is_some_and(|ready| {
        ready.observed_generation == Some(subject.generation)
            && before.iter().all(|reason| ready.reason != reason.as_str())
    });
    got_further && subject.saw(case.class)
}
