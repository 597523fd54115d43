//! Advice on what IAM takes but is probably a mistake: told as events, whatever becomes of the role, and once per change.

use super::apply::Case;
use super::context::Context;
use super::events::Tone;
use super::status::find;
use super::subject::Subject;
use crate::api::{ConditionType, Reason};
use crate::role::Desired;
use crate::role::advice::{advice, kept_advice};
use std::collections::{BTreeMap, BTreeSet};

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
        if tell(subject, ctx, note).await {
            ctx.memory.with(&subject.uid, |entry| entry.advice.get_or_insert_default().insert(note.clone()));
        }
    }
}

/// The same of the inline policies, by name and size, that stay on the role though nobody listed it: that is known after a look at it.
/// An earlier process has told it where status names all that stays.
pub async fn advise_of_kept(
    subject: &Subject,
    ctx: &Context,
    case: Case<'_>,
    desired: &Desired,
    kept: BTreeMap<String, usize>,
) {
    let note = kept_advice(desired, &case.account.quotas.limits, &kept);
    let is_told = is_told(subject, case) && kept.keys().all(|name| subject.status.unlisted.contains(name));
    let news = ctx.memory.with(&subject.uid, |entry| {
        let told = entry.kept_advice.get_or_insert_with(|| note.clone().filter(|_| is_told));
        *told = told.take().filter(|told| note.as_ref() == Some(told));
        note.filter(|_| told.is_none())
    });
    if let Some(note) = news
        && tell(subject, ctx, &note).await
    {
        ctx.memory.with(&subject.uid, |entry| entry.kept_advice = Some(Some(note)));
    }
}

async fn tell(subject: &Subject, ctx: &Context, note: &str) -> bool {
    ctx.events.publish(&subject.reference(), Tone::Warning, Reason::PolicyWarning, "Lint", note).await
}

/// Whether an earlier process told it, as far as status shows: whatever it says of this spec after it was accepted.
fn is_told(subject: &Subject, case: Case<'_>) -> bool {
    let before = [
        Reason::InvalidSpec,
        Reason::NotAllowed,
        Reason::NoClass,
        Reason::ClassNotReady,
        Reason::IssuerUnknown,
        Reason::Suspended,
    ];
    let ready = find(&subject.status.conditions, ConditionType::Ready);
    let got_further = ready.is_some_and(|ready| {
        ready.observed_generation == Some(subject.generation)
            && before.iter().all(|reason| ready.reason != reason.as_str())
    });
    got_further && subject.saw(case.class)
}
