//! Walks a life act by act: once without a fault, then each act with every fault at every call.

use super::act::{Ended, Known, Run};
use super::cluster::Cluster;
use super::faults::{Fault, IN_DOUBT, Script, Side, faults};
use super::iam::{Iam, Role};
use super::lives::{Act, Edit, Life};
use super::meaning::{End, Laws};
use super::world::Call;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// An act with its beginning and the end to which it must come.
pub struct Plan {
    pub life: &'static str,
    pub act: Act,
    /// The edit right before, a moment ago.
    pub hurried: Option<Edit>,
    /// The fault is met by that edit, and this one comes before anything is put right.
    pub interrupted: bool,
    pub iam: Iam,
    pub cluster: Cluster,
    pub laws: Laws,
    pub end: Ended,
    pub calls: Vec<Call>,
    pub scripts: Vec<Script>,
}

/// How a life is lived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Reads show the state of so long ago.
    pub lag: Duration,
    /// Each edit comes a moment after the one before, and the operator still remembers that.
    pub hurried: bool,
    /// And it comes when the one before has met a fault, before the operator could put that right.
    pub interrupted: bool,
    /// Only faults of different kinds, and the operator survives most of them: another life has all of them.
    pub thin: bool,
}

/// Walks a life without a fault; what it finds is what every faulty run must come to.
pub fn plans(life: Life, pace: Pace) -> Vec<Plan> {
    let Life { name, mut iam, mut cluster, acts, strangers, adoptable, heir_of } = life;
    let mut plans: Vec<Plan> = Vec::new();
    for act in acts {
        (act.before)(&mut iam);
        let is_foreign = |role: &Role| !crate::model::owner().judge(&role.tags).is_ours();
        let adoptable = adoptable && iam.roles.get("api").is_some_and(is_foreign);
        let laws = Laws {
            role: "api".to_owned(),
            ends: None,
            strangers: strangers.clone(),
            adoptable,
            heir_of: heir_of.clone(),
            keeps: true,
        };
        let end = Ended { iam: iam.clone(), cluster: cluster.clone(), calls: vec![], problems: vec![], known: false };
        let mut plan = Plan {
            life: name,
            act,
            iam: iam.clone(),
            cluster,
            laws,
            end,
            hurried: None,
            interrupted: pace.interrupted,
            calls: vec![],
            scripts: vec![],
        };
        let found = fault_free(&plan, None, None);
        plan.laws.ends = Some((End::of(&iam, "api"), End::of(&found.iam, "api")));
        plan.end = fault_free(&plan, None, Some(&found));
        plan.calls.clone_from(&plan.end.calls);
        (iam, cluster) = (plan.end.iam.clone(), plan.end.cluster.clone());
        plans.push(plan);
    }
    plans.retain(|plan| !plan.act.leads || pace.hurried);
    if pace.hurried {
        hurry(&mut plans, pace);
    }
    for plan in &mut plans {
        if !pace.interrupted && (pace.hurried || !pace.lag.is_zero()) {
            let never = Script { position: usize::MAX, fault: Fault::KilledAfter, killed: false, lag: pace.lag };
            plan.calls = fault_free(plan, Some(never), Some(&plan.end)).calls;
        }
        plan.scripts = plan.calls.iter().enumerate().flat_map(|(i, call)| scripts(i, call, pace)).collect();
    }
    plans
}

/// Each act begins where the one before it began, with both edits.
fn hurry(plans: &mut Vec<Plan>, pace: Pace) {
    for i in (1..plans.len()).rev() {
        let (before, after) = plans.split_at_mut(i);
        let (Some(before), Some(plan)) = (before.last(), after.first_mut()) else { continue };
        plan.hurried = Some(before.act.edit.clone());
        (plan.iam, plan.cluster) = (before.iam.clone(), before.cluster.clone());
        plan.laws.adoptable |= before.laws.adoptable;
        plan.laws.keeps = pace.lag.is_zero();
        if pace.interrupted {
            plan.calls.clone_from(&before.calls);
        }
    }
    plans.remove(0);
}

fn fault_free(plan: &Plan, script: Option<Script>, end: Option<&Ended>) -> Ended {
    let ended = Run { plan, script, end, known: &Known::default(), number: 0 }.run();
    let problems = end.map(|end| ended.differs(end)).unwrap_or_default();
    assert!(problems.is_empty(), "{}/{} without a fault: {problems:#?}", plan.life, plan.act.name);
    ended
}

/// All that can happen at a call. Killed at the call itself, it does not matter how it would have been answered;
/// killed at the next one, it does.
fn scripts(position: usize, call: &Call, pace: Pace) -> Vec<Script> {
    let script = |fault, killed| Script { position, fault, killed, lag: pace.lag };
    if pace.hurried || !pace.lag.is_zero() {
        // What matters then is what was done, and whether the operator knows.
        let known = if call.side == Side::Write { IN_DOUBT.as_slice() } else { &IN_DOUBT[..1] };
        return known.iter().map(|fault| script(*fault, false)).collect();
    }
    let kills = |fault| !pace.thin || fault == Fault::Lost;
    let faults = faults(call.side, &call.what).into_iter().filter(|fault| !pace.thin || fault.is_typical());
    let faults = faults.flat_map(|fault| [Some(script(fault, false)), kills(fault).then(|| script(fault, true))]);
    faults.flatten().chain([script(Fault::KilledBefore, false), script(Fault::KilledAfter, false)]).collect()
}

/// Of all that can happen, what is left to be run: one of those that the operator can't tell apart.
fn distinct(plan: &Plan) -> Vec<Script> {
    let calls = &plan.calls;
    // Nobody reads events, nor learns what became of them: with or without one, the operator is at the same place.
    let is_event = |position: usize| calls[position].what.ends_with("/events");
    let leaves_nothing = |position: usize| calls[position].side == Side::Read || is_event(position);
    let is_old = |position: usize| calls[..position].iter().all(|call| call.side != Side::Write);
    let seen = |script: &Script| {
        let Call { side, what } = &calls[script.position];
        if script.fault == Fault::Stale && is_old(script.position) {
            // Nothing was written yet.
            return None;
        }
        let mut script = Script { fault: script.fault.representative(*side, what)?, ..*script };
        if script.killed && is_event(script.position) && script.position + 1 < calls.len() {
            script = Script { position: script.position + 1, fault: Fault::KilledAfter, killed: false, ..script };
        }
        if script.fault == Fault::KilledBefore && script.position > 0 {
            // Nothing happens between two calls.
            script = Script { position: script.position - 1, fault: Fault::KilledAfter, ..script };
        }
        while script.fault == Fault::KilledAfter && script.position > 0 && leaves_nothing(script.position) {
            script.position -= 1;
        }
        Some(script)
    };
    let all: BTreeSet<Script> = plan.scripts.iter().filter_map(seen).collect();
    all.into_iter().collect()
}

/// Runs everything on all cores; says how much that was, and what failed.
///
/// `MATRIX=created/move/17/ cargo test --test matrix -- --nocapture` runs what is at one call only, and shows the calls
/// of what failed.
pub fn run_all(plans: &[Plan], pace: Pace) {
    let only = std::env::var("MATRIX").ok();
    let at = |plan: &Plan, script: &Script| format!("{}/{}/{}/", plan.life, plan.act.name, script.position);
    let all: Vec<(&Plan, Script)> = plans
        .iter()
        .flat_map(|plan| distinct(plan).into_iter().map(move |script| (plan, script)))
        .filter(|(plan, script)| only.as_ref().is_none_or(|only| at(plan, script).contains(only)))
        .collect();
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    let (known, failed) = (Known::default(), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some((i, (plan, script))) = claim(&next, &all) {
            let run = Run { plan, script: Some(*script), end: Some(&plan.end), known: &known, number: i + 1 };
            let ended = run.run();
            let problems = ended.differs(&plan.end);
            if !problems.is_empty() {
                failed.lock().expect("no panic").insert(i, (*plan, *script, problems, ended.calls));
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
    let failed = failed.into_inner().expect("no panic");
    println!(
        "{}, {} failed, in {:.1} s",
        summary(plans, pace, all.len()),
        failed.len(),
        started.elapsed().as_secs_f64()
    );
    for (plan, script, problems, calls) in failed.values() {
        println!("{} {}: {script:?}\n  {}", at(plan, script), plan.calls[script.position].what, problems.join("\n  "));
        let shown = if only.is_some() { calls.as_slice() } else { &[] };
        shown.iter().enumerate().for_each(|(i, call)| println!("    {i} {}", call.what));
    }
    assert!(failed.is_empty(), "{} of {} combinations failed", failed.len(), all.len());
}

fn claim<'a, T>(next: &AtomicUsize, all: &'a [T]) -> Option<(usize, &'a T)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    all.get(i).map(|item| (i, item))
}

/// How many combinations there are, of each fault at each call, survived or not, and killed before and after it; and how
/// many of them are left out.
fn summary(plans: &[Plan], pace: Pace, distinct: usize) -> String {
    let calls: Vec<&Call> = plans.iter().flat_map(|plan| &plan.calls).collect();
    let combinations: usize = plans.iter().map(|plan| plan.scripts.len()).sum();
    let each = calls.iter().map(|call| 2 * faults(call.side, &call.what).len() + 2);
    let left_out = each.sum::<usize>() - combinations;
    let Pace { lag, hurried, interrupted, .. } = pace;
    let how = match (hurried, interrupted) {
        (_, true) => "interrupted",
        (true, _) => "in a hurry",
        _ => "calm",
    };
    format!(
        "{}, {how}, reads {lag:?} late: {combinations} combinations ({left_out} left out) at {} calls ({distinct} that the \
         operator can tell apart)",
        plans[0].life,
        calls.len()
    )
}
