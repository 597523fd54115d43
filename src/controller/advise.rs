//! Advice on what IAM takes but is probably a mistake: told as events, whatever becomes of the role, and once per change.

use super::apply::Case;
use super::context::Context;
use super::events::Tone;
use super::memory::Entry;
use super::status::find;
use super::subject::Subject;
use crate::api::{ConditionType, Reason};
use crate::role::Desired;
use crate::role::advice::advice;
use std::collections::{BTreeMap, BTreeSet};

/// Tells what was not told yet. An event that could not be written is told at the next look.
pub async fn advise(subject: &Subject, ctx: &Context, case: Case<'_>, desired: &Desired) {
    let is_told = is_told(subject, case);
    let news = ctx.memory.with(&subject.uid, |entry| {
        let all = of(entry, case, desired);
        let told = entry.advice.get_or_insert_with(|| if is_told { all.clone() } else { BTreeSet::new() });
        told.retain(|note| all.contains(note));
        all.difference(told).cloned().collect::<Vec<String>>()
    });
    for note in news {
        let reference = subject.reference();
        if ctx.events.publish(&reference, Tone::Warning, Reason::PolicyWarning, "Lint", &note).await {
            ctx.memory.with(&subject.uid, |entry| entry.advice.get_or_insert_default().insert(note));
        }
    }
}

/// Remembers which inline policies stay on the role though nobody listed them, which takes a look at it, and tells what
/// follows.
pub async fn saw_kept(
    subject: &Subject,
    ctx: &Context,
    case: Case<'_>,
    desired: &Desired,
    kept: BTreeMap<String, usize>,
) {
    let is_told = is_told(subject, case) && kept.keys().all(|name| subject.status.unlisted.contains(name));
    let is_news = ctx.memory.with(&subject.uid, |entry| {
        let first = entry.kept_inline.is_none();
        let is_news = entry.kept_inline.replace(kept).unwrap_or_default() != *entry.kept_inline.get_or_insert_default();
        if is_news && first && is_told {
            entry.advice = Some(of(entry, case, desired));
        }
        is_news
    });
    if is_news {
        advise(subject, ctx, case, desired).await;
    }
}

fn of(entry: &Entry, case: Case<'_>, desired: &Desired) -> BTreeSet<String> {
    let none = BTreeMap::new();
    let kept = entry.kept_inline.as_ref().unwrap_or(&none);
    advice(desired, &case.account.quotas.limits, kept).into_iter().collect()
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
