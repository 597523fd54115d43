//! One act in virtual time, until the object rests or is gone.

use super::cluster::Cluster;
use super::faults::Script;
use super::iam::Iam;
use super::lives::Edit;
use super::meaning::meaning;
use super::operator::Operator;
use super::walk::Plan;
use super::world::{Call, Inner, World};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Whoever waits longer than that is not going to be ready soon.
const SETTLED: Duration = Duration::from_mins(5);
/// IAM has settled by then.
const QUIET: Duration = Duration::from_secs(30);
const ROUNDS: usize = 60;

/// How an act ended.
pub struct Ended {
    pub iam: Iam,
    pub cluster: Cluster,
    pub calls: Vec<Call>,
    pub problems: Vec<String>,
    /// It was not followed to its end, since another run came by the same place.
    pub known: bool,
}

/// What was left behind by operators that were killed, and was taken up well by new ones. Nothing else is left of a
/// process, so a run that comes to the same place ends the same way.
#[derive(Default)]
pub struct Known(Mutex<HashSet<String>>);

impl Known {
    fn has(&self, place: &str) -> bool {
        self.0.lock().expect("no panic").contains(place)
    }

    fn add(&self, place: String) {
        self.0.lock().expect("no panic").insert(place);
    }
}

/// One run of an act.
pub struct Run<'a> {
    pub plan: &'a Plan,
    pub script: Option<Script>,
    /// The end to which it must come, where it is known.
    pub end: Option<&'a Ended>,
    pub known: &'a Known,
    pub number: usize,
}

enum Rest {
    /// The last round, long after the last write, wrote nothing.
    Silent,
    /// Whether anything more is written is to be seen.
    Ready,
    Known,
}

impl Run<'_> {
    pub fn run(&self) -> Ended {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().expect("a runtime").block_on(self.walk())
    }

    async fn walk(&self) -> Ended {
        let Self { plan, script, .. } = *self;
        // Ready speaks of what was last seen, which may be the past; what is seen later is put right.
        let lags = script.is_some_and(|script| !script.lag.is_zero());
        let meant = self.end.filter(|_| !lags).map(|end| meaning(&end.iam));
        let world = World::new(plan.iam.clone(), plan.cluster.clone(), plan.laws.clone(), script, meant);
        let mut operator = Operator::start(&world, self.number).await;
        // It has been running for a while.
        tokio::time::sleep(Duration::from_secs(100)).await;
        if let Some(earlier) = &plan.hurried {
            self.hurry(&world, &mut operator, earlier).await;
        }
        plan.act.edit.apply(&mut world.lock().cluster);
        if !plan.interrupted {
            world.lock().begin();
        }
        let mut left = None;
        let rest = self.settle(&world, &mut operator, &mut left).await;
        let counted = world.lock().calls.len();
        let known = matches!(rest, Ok(Rest::Known));
        let mut problems: Vec<String> = match rest {
            Err(problem) => vec![problem],
            Ok(Rest::Ready) => steady(&world, &mut operator).await.into_iter().collect(),
            Ok(Rest::Silent | Rest::Known) => Vec::new(),
        };
        let inner = &mut *world.lock();
        inner.calls.truncate(counted);
        problems.append(&mut inner.broken);
        problems.extend(told(inner));
        if !matches!(plan.act.edit, Edit::Nothing) {
            problems.extend(inner.false_alarms().map(|note| format!("false alarm: {note}")));
        }
        if !inner.doubt && !lags {
            problems.extend(inner.needless.iter().map(|what| format!("needless: {what}")));
        }
        let ended = Ended {
            iam: inner.iam.clone(),
            cluster: inner.cluster.clone(),
            calls: inner.calls.clone(),
            problems,
            known,
        };
        if let Some(place) = left.filter(|_| !known && self.end.is_some_and(|end| ended.differs(end).is_empty())) {
            self.known.add(place);
        }
        ended
    }

    /// The edit before: until it is ready, or until it has met the fault. What holds on the way holds between the two
    /// edits, and where one interrupts the other only the end counts.
    async fn hurry(&self, world: &Arc<World>, operator: &mut Operator, edit: &Edit) {
        let interrupted = self.plan.interrupted;
        let (ends, meant) = {
            let inner = &mut *world.lock();
            if interrupted {
                inner.begin();
            }
            edit.apply(&mut inner.cluster);
            (inner.laws.ends.take(), inner.end.take())
        };
        while !(world.lock().cluster.is_ready() || interrupted && world.lock().struck()) {
            let Ok(again) = operator.reconcile().await else {
                *operator = Operator::start(world, self.number).await;
                continue;
            };
            if !(interrupted && world.lock().struck()) {
                tokio::time::sleep(again.unwrap_or_default().min(QUIET / 30)).await;
            }
        }
        let inner = &mut *world.lock();
        inner.end = meant;
        inner.laws.ends = ends.filter(|_| !interrupted);
    }

    /// Until the object is ready and rests, or is gone. `left` becomes what a killed operator left behind.
    async fn settle(
        &self,
        world: &Arc<World>,
        operator: &mut Operator,
        left: &mut Option<String>,
    ) -> Result<Rest, String> {
        let mut waited = Duration::ZERO;
        for _ in 0..ROUNDS {
            let before = world.lock().writes;
            let Ok(again) = operator.reconcile().await else {
                let place = self.place(&world.lock());
                if self.known.has(&place) {
                    return Ok(Rest::Known);
                }
                *left = Some(place);
                tokio::time::sleep(Duration::from_secs(1)).await;
                *operator = Operator::start(world, self.number).await;
                continue;
            };
            waited = match Self::rests(&world.lock(), again, waited >= QUIET, before)? {
                Ok(rest) => return Ok(rest),
                Err(again) => again,
            };
            tokio::time::sleep(waited).await;
        }
        Err(format!("no end in sight: {:?}", world.lock().cluster.role))
    }

    /// How it rests, or else when to go on.
    fn rests(
        inner: &Inner,
        again: Option<Duration>,
        quiet: bool,
        writes: usize,
    ) -> Result<Result<Rest, Duration>, String> {
        let silent = quiet && inner.writes == writes;
        match (&inner.cluster.role, again) {
            (None, _) => Ok(Ok(Rest::Silent)),
            (_, None) => Err("it waits for a change that nobody will make".to_owned()),
            (_, Some(again)) if again >= SETTLED && inner.cluster.is_ready() => {
                Ok(Ok(if silent { Rest::Silent } else { Rest::Ready }))
            }
            (_, Some(again)) => Ok(Err(again)),
        }
    }

    /// All that is left when the process is gone, but for times and resource versions.
    fn place(&self, inner: &Inner) -> String {
        let mut role = inner.cluster.role.clone().unwrap_or_default();
        role["metadata"]["resourceVersion"] = Value::Null;
        role["status"]["lastChanges"] = Value::Null;
        for condition in role["status"]["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastTransitionTime"] = Value::Null;
        }
        let lag = self.script.map(|script| script.lag).unwrap_or_default();
        // Where reads show the past it counts, and is never the same.
        let past = if lag.is_zero() { 0 } else { self.number };
        let class = &inner.cluster.class["metadata"]["finalizers"];
        format!("{} {:?} {role} {class} {:?} {past}", self.plan.act.name, inner.iam, inner.end.is_some())
    }
}

/// Another look, long after: nothing is written any more. What could not be known soon after a lost answer may leave
/// status in the first one.
async fn steady(world: &World, operator: &mut Operator) -> Option<String> {
    let mut written = None;
    let looks = if world.lock().doubt { 2 } else { 1 };
    for _ in 0..looks {
        tokio::time::sleep(Duration::from_secs(1000)).await;
        let before = world.lock().writes;
        let count = world.lock().calls.len();
        if operator.reconcile().await.is_err() {
            return None;
        }
        let inner = world.lock();
        if inner.writes == before {
            return None;
        }
        written = Some(format!("writes at rest: {:?}", &inner.calls[count..]));
    }
    written
}

/// One event per change, as far as the operator heard of it and lived to tell.
fn told(inner: &Inner) -> Vec<String> {
    let mut said = BTreeMap::new();
    for one in inner.said.iter().filter(|said| !said.is_warning) {
        *said.entry(one.action.clone()).or_insert(0) += 1;
    }
    let ends = ["Delete", "Reconcile", "Recover"];
    let mut problems = Vec::new();
    for (action, said) in said.iter().filter(|(action, _)| !ends.contains(&action.as_str())) {
        let heard = inner.heard.get(action).copied().unwrap_or_default();
        let least = heard - inner.nothing.get(action).copied().unwrap_or_default().min(heard);
        let asked_again = action == "AddRoleToInstanceProfile";
        if *said > heard || (*said < least && inner.deaths == 0 && !asked_again) {
            problems.push(format!("{said} events for {heard} times {action}"));
        }
    }
    let mut repeated = BTreeMap::new();
    for one in inner.said.iter().filter(|said| said.is_taken && (said.is_warning || said.action == "Recover")) {
        *repeated.entry((&one.reason, &one.note)).or_insert(0) += 1;
        if one.is_warning && one.reason == "Reconciling" {
            problems.push(format!("a warning of what is under way: {}", one.note));
        }
    }
    repeated.retain(|_, times| *times > 1 && inner.deaths == 0);
    problems.extend(repeated.iter().map(|((_, note), times)| format!("told {times} times: {note}")));
    problems
}

/// Status without times and numbers of versions and policies; of generations whether it is the last.
fn status(ended: &Ended) -> Value {
    let mut status = ended.cluster.role.as_ref().map(|role| role["status"].clone()).unwrap_or_default();
    if let Some(status) = status.as_object_mut() {
        status.remove("lastChanges");
    }
    let generation = ended.cluster.role.as_ref().map(|role| role["metadata"]["generation"].clone()).unwrap_or_default();
    let is_of_now = |of: &Value| json!(of["observedGeneration"] == generation);
    status["observedGeneration"] = is_of_now(&status);
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = Value::Null;
        condition["observedGeneration"] = is_of_now(condition);
    }
    for policy in status["customerManagedPolicies"].as_array_mut().into_iter().flatten() {
        for number in ["version", "id"] {
            policy[number] = json!(policy[number].is_string());
        }
    }
    json!([status, ended.cluster.role.as_ref().map(|role| &role["metadata"]["finalizers"])])
}

fn versions(iam: &Iam) -> usize {
    iam.policies.values().map(|policy| policy.versions.len()).max().unwrap_or_default()
}

impl Ended {
    /// What is wrong after a run with a fault.
    pub fn differs(&self, wanted: &Self) -> Vec<String> {
        let (mut problems, ended) = (self.problems.clone(), self);
        if self.known {
            return problems;
        }
        if meaning(&wanted.iam) != meaning(&ended.iam) {
            problems.push(format!("AWS is\n  {}\nnot\n  {}", meaning(&ended.iam), meaning(&wanted.iam)));
        }
        if status(wanted) != status(ended) {
            problems.push(format!("status is\n  {}\nnot\n  {}", status(ended), status(wanted)));
        }
        if versions(&ended.iam) > versions(&wanted.iam) + 2 {
            problems.push(format!("{} versions", versions(&ended.iam)));
        }
        problems
    }
}
