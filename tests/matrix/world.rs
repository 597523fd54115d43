//! AWS and Kubernetes as the operator meets them, with one fault, and a record of everything.

use super::cluster::{self, Cluster};
use super::faults::{Fault, STALE, Script, Side};
use super::iam::{ACCOUNT, Iam, Refusal, is_read};
use super::meaning::{Laws, facts, meaning};
use super::rules;
use super::wire::{self, Form, text};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How a call ends for the operator.
pub enum Reply {
    Answer(u16, String),
    Cut(String),
    Dropped,
    Late,
    /// There is nobody any more who could hear it.
    Killed,
}

/// A call that was counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub side: Side,
    pub what: String,
}

/// An event.
#[derive(Clone, Debug)]
pub struct Said {
    pub is_warning: bool,
    pub reason: String,
    pub action: String,
    pub note: String,
    /// The operator heard that it was taken.
    pub is_taken: bool,
}

pub struct Inner {
    pub iam: Iam,
    /// Since when IAM is how.
    history: Vec<(Instant, Iam)>,
    pub cluster: Cluster,
    pub calls: Vec<Call>,
    invocations: HashMap<String, (usize, u32)>,
    script: Option<Script>,
    /// The API server takes no status.
    pub is_deaf: bool,
    /// IAM denies this action, each time.
    pub denied: Option<&'static str>,
    /// IAM never answers this action; and whether it carries it out.
    pub silent: Option<(&'static str, bool)>,
    /// The account that the operator's identity belongs to.
    pub account: &'static str,
    /// For so long IAM judges a deletion, an attachment or a quota by what was before.
    pub judges_late: std::time::Duration,
    begun: bool,
    pub laws: Laws,
    /// What the account means once all is done.
    pub end: Option<Value>,
    pub broken: Vec<String>,
    /// Writes of which the operator heard that they are done, by action.
    pub heard: BTreeMap<String, usize>,
    /// How often that was since there was nothing to do: it may be told, or not.
    pub nothing: BTreeMap<String, usize>,
    /// Events that the operator tried to write.
    pub said: Vec<Said>,
    /// Writes that changed nothing.
    pub needless: Vec<String>,
    /// Writes to either side.
    pub writes: usize,
    pub deaths: usize,
    /// Anything happened of which the operator can't know.
    pub doubt: bool,
}

pub struct World {
    inner: Mutex<Inner>,
    /// The operator is dead.
    pub death: Notify,
}

impl World {
    pub fn new(iam: Iam, cluster: Cluster, laws: Laws, script: Option<Script>, end: Option<Value>) -> Arc<Self> {
        let inner = Inner {
            history: vec![(Instant::now(), iam.clone())],
            iam,
            cluster,
            calls: Vec::new(),
            invocations: HashMap::new(),
            script,
            is_deaf: false,
            denied: None,
            silent: None,
            account: ACCOUNT,
            judges_late: script.map(|script| script.lag).unwrap_or_default(),
            begun: false,
            laws,
            end,
            broken: Vec::new(),
            heard: BTreeMap::new(),
            nothing: BTreeMap::new(),
            said: Vec::new(),
            needless: Vec::new(),
            writes: 0,
            deaths: 0,
            doubt: false,
        };
        Arc::new(Self { inner: Mutex::new(inner), death: Notify::new() })
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic")
    }

    fn kill(&self, inner: &mut Inner) {
        inner.deaths += 1;
        inner.doubt = true;
        self.death.notify_one();
    }

    /// A request to AWS.
    pub fn aws(&self, invocation: &str, body: &str) -> Reply {
        let form = Form::parse(body);
        let action = form.get("Action");
        let inner = &mut *self.lock();
        if let Some(answer) = fact(action, inner.account) {
            return answer;
        }
        let side = if is_read(action) { Side::Read } else { Side::Write };
        let what = format!("{action} {}", form.target());
        let (position, attempt) = inner.attempt(invocation, side, what);
        let first = attempt == 0;
        if inner.denied == Some(action) && inner.fault(position).is_none() {
            return Reply::Answer(403, wire::refusal("AccessDenied", "User is not authorized to perform this action"));
        }
        if let Some((_, has_effect)) = inner.silent.filter(|(silent, _)| *silent == action) {
            return if has_effect { inner.unheard(action, &form, |_| Reply::Dropped) } else { Reply::Dropped };
        }
        let Some(fault) = inner.fault(position) else {
            return inner.answer(action, &form, first);
        };
        inner.doubt |= fault.leaves_doubt();
        if side == Side::Read && matches!(fault, Fault::Refused("NoSuchEntity", ..)) {
            // A read that denies what is there: the operator can but believe it, or look again.
            inner.doubt = true;
            inner.end = None;
        }
        match fault {
            Fault::Stale => {
                let past = inner.ago(STALE).call(action, &form);
                inner.end = None;
                match past {
                    Ok(result) => Reply::Answer(200, wire::answer(action, &result)),
                    Err(Refusal(code, status, message)) => Reply::Answer(status, wire::refusal(code, &message)),
                }
            }
            // Somebody else was faster.
            Fault::Refused("NoSuchEntity", status, message) if removes(action) => {
                let _ = inner.perform(action, &form);
                inner.hear(action, &Ok(String::new()));
                Reply::Answer(status, wire::refusal("NoSuchEntity", message))
            }
            Fault::Refused(code, status, message) => Reply::Answer(status, wire::refusal(code, message)),
            Fault::DroppedOnce if first => Reply::Dropped,
            Fault::LostOnce | Fault::Lost if first => inner.unheard(action, &form, |_| Reply::Dropped),
            Fault::LostThenThrottled if first => inner.unheard(action, &form, |_| Reply::Dropped),
            Fault::LostThenThrottled => Reply::Answer(400, wire::refusal("Throttling", "Rate exceeded")),
            Fault::Unreachable | Fault::Lost => Reply::Dropped,
            Fault::LateOnce | Fault::Late if first => inner.unheard(action, &form, |_| Reply::Late),
            Fault::Late => Reply::Late,
            Fault::CutOnce if first => inner.unheard(action, &form, Reply::Cut),
            Fault::Cut => inner.unheard(action, &form, Reply::Cut),
            Fault::KilledAfter => {
                let _ = inner.perform(action, &form);
                self.kill(inner);
                Reply::Killed
            }
            Fault::KilledBefore => {
                self.kill(inner);
                Reply::Killed
            }
            _ => inner.answer(action, &form, first),
        }
    }

    /// A request to Kubernetes.
    pub fn kubernetes(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let inner = &mut *self.lock();
        let position = inner.note(Side::Kubernetes, format!("{method} {path}"));
        inner.writes += usize::from(method != "GET");
        let deaf = (inner.is_deaf && method == "PUT").then_some(Fault::Status(403, "Forbidden"));
        let fault = deaf.or_else(|| inner.fault(position));
        if path.ends_with("/events") {
            let event: Value = serde_json::from_slice(body).expect("JSON");
            let part = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            inner.said.push(Said {
                is_warning: part("type") == "Warning",
                reason: part("reason"),
                action: part("action"),
                note: part("note"),
                is_taken: fault.is_none(),
            });
        }
        let perform = |inner: &mut Inner| {
            let before = inner.cluster.role.clone();
            let (code, body) = inner.cluster.call(method, path, body);
            if method == "PUT" && code == 200 {
                inner.check_ready();
                let faults = rules::faults(before.as_ref(), inner.cluster.role.as_ref().expect("an object"));
                inner.broken.extend(faults.into_iter().map(|fault| format!("status: {fault}")));
            }
            (code, body.to_string())
        };
        // What status does not take in is not known later.
        inner.doubt |= fault.is_some_and(|fault| fault.leaves_doubt() || method == "PUT");
        match fault {
            Some(Fault::Status(code, reason)) => {
                Reply::Answer(code, cluster::refusal(code, reason, "refused by the test").1.to_string())
            }
            Some(Fault::Unreachable) => Reply::Dropped,
            Some(Fault::Edited) => {
                inner.cluster.touch();
                let (code, body) = perform(inner);
                Reply::Answer(code, body)
            }
            Some(Fault::Lost) => {
                perform(inner);
                Reply::Dropped
            }
            Some(Fault::FailedAfter) => {
                perform(inner);
                Reply::Answer(500, cluster::refusal(500, "InternalError", "failed by the test").1.to_string())
            }
            Some(Fault::KilledBefore) => {
                self.kill(inner);
                Reply::Killed
            }
            Some(Fault::KilledAfter) => {
                perform(inner);
                self.kill(inner);
                Reply::Killed
            }
            _ => {
                let (code, body) = perform(inner);
                Reply::Answer(code, body)
            }
        }
    }
}

/// Answers what is asked of the account before any role.
pub fn fact(action: &str, account: &str) -> Option<Reply> {
    let result = match action {
        "GetCallerIdentity" => {
            let arn = text("Arn", &format!("arn:aws:iam::{account}:user/operator"));
            arn + &text("UserId", "AIDA1") + &text("Account", account)
        }
        "GetAccountSummary" => "<SummaryMap></SummaryMap>".to_owned(),
        _ => return None,
    };
    Some(Reply::Answer(200, wire::answer(action, &result)))
}

fn removes(action: &str) -> bool {
    ["Delete", "Detach", "Remove"].iter().any(|verb| action.starts_with(verb))
}

impl Inner {
    /// What the operator did before does not count.
    pub fn begin(&mut self) {
        self.begun = true;
        self.calls.clear();
        self.invocations.clear();
        self.needless.clear();
        self.writes = 0;
    }

    /// The next call meets this fault.
    pub fn trouble(&mut self, fault: Fault) {
        self.trouble_later(0, fault);
    }

    /// A call meets this fault after so many others.
    pub fn trouble_later(&mut self, calls: usize, fault: Fault) {
        let position = self.calls.len() + calls;
        self.script = self.script.map(|script| Script { position, fault, ..script });
    }

    /// Somebody else changes the account, or AWS words it in its own way.
    pub fn meddle(&mut self, change: impl FnOnce(&mut Iam)) {
        change(&mut self.iam);
        self.history.push((Instant::now(), self.iam.clone()));
    }

    /// Whether the call that meets the fault has been made.
    pub fn struck(&self) -> bool {
        self.begun && self.script.is_some_and(|script| self.calls.len() > script.position)
    }

    /// Which call it is, and which attempt of it.
    fn attempt(&mut self, invocation: &str, side: Side, what: String) -> (usize, u32) {
        if let Some((position, attempts)) = self.invocations.get_mut(invocation) {
            *attempts += 1;
            return (*position, *attempts);
        }
        let position = self.note(side, what);
        self.invocations.insert(invocation.to_owned(), (position, 0));
        (position, 0)
    }

    fn note(&mut self, side: Side, what: String) -> usize {
        self.writes += usize::from(side == Side::Write);
        self.calls.push(Call { side, what });
        self.calls.len() - 1
    }

    fn fault(&self, position: usize) -> Option<Fault> {
        let script = self.script.as_ref().filter(|_| self.begun)?;
        let next = script.killed && position == script.position + 1;
        (position == script.position).then_some(script.fault).or(next.then_some(Fault::KilledAfter))
    }

    /// Has its effect; the operator does not hear of it.
    fn unheard(&mut self, action: &str, form: &Form, reply: impl Fn(String) -> Reply) -> Reply {
        match self.perform(action, form) {
            Ok(result) => reply(wire::answer(action, &result)),
            Err(Refusal(code, _, message)) => reply(wire::refusal(code, &message)),
        }
    }

    fn answer(&mut self, action: &str, form: &Form, first: bool) -> Reply {
        let result = self.perform(action, form);
        self.hear(action, &result);
        if first && matches!(result, Err(Refusal("NoSuchEntity", ..))) {
            *self.nothing.entry(action.to_owned()).or_default() += 1;
        }
        match result {
            Ok(result) => Reply::Answer(200, wire::answer(action, &result)),
            Err(Refusal(code, status, message)) => Reply::Answer(status, wire::refusal(code, &message)),
        }
    }

    /// What is gone already counts as removed.
    fn hear(&mut self, action: &str, result: &Result<String, Refusal>) {
        let gone = matches!(result, Err(Refusal("NoSuchEntity", ..))) && removes(action);
        // That the quota is full of the role itself the operator finds out by a look.
        let full = matches!(result, Err(Refusal("LimitExceeded", ..))) && action == "AddRoleToInstanceProfile";
        if !is_read(action) && (result.is_ok() || gone || full) {
            *self.heard.entry(action.to_owned()).or_default() += 1;
        }
    }

    fn perform(&mut self, action: &str, form: &Form) -> Result<String, Refusal> {
        if is_read(action) {
            return self.ago(self.script.map(|script| script.lag).unwrap_or_default()).call(action, form);
        }
        if let Some(refusal) = self.refused_by_the_past(action, form) {
            return Err(refusal);
        }
        let before = self.iam.clone();
        let said = |iam: &Iam| iam.policy(form.opt("PolicyArn").unwrap_or_default()).map(|p| facts(p.document()));
        let result = self.iam.call(action, form);
        let same = if action == "CreatePolicyVersion" { said(&before) == said(&self.iam) } else { before == self.iam };
        let what = format!("{action} {}", form.target());
        if result.is_ok() && same && action != "DeletePolicyVersion" {
            self.needless.push(what.clone());
        }
        if before != self.iam {
            self.history.push((Instant::now(), self.iam.clone()));
            let broken = self.laws.broken(&before, &self.iam);
            self.broken.extend(broken.into_iter().map(|law| format!("after {what}: {law}")));
            if !self.is_intended(action, form) {
                self.broken.push(format!("{what}: status tells nothing of it"));
            }
        }
        result
    }

    /// Intent before effect: what is made stands in status by then.
    fn is_intended(&self, action: &str, form: &Form) -> bool {
        let Some(role) = &self.cluster.role else { return true };
        let status = &role["status"];
        let part = |name: &str| form.opt(name).unwrap_or_default().to_owned();
        let lists =
            |list: &str, entry: &str| status[list].as_array().is_some_and(|all| all.iter().any(|one| one == entry));
        let owns = |field: &str, is: &dyn Fn(&str) -> bool| {
            let all = status["customerManagedPolicies"].as_array();
            all.is_some_and(|all| all.iter().any(|one| one[field].as_str().is_some_and(is)))
        };
        match action {
            "CreateRole" => status["role"]["name"] == part("RoleName"),
            "PutRolePermissionsBoundary" => status["permissionsBoundary"] == part("PermissionsBoundary"),
            "AttachRolePolicy" => {
                let arn = part("PolicyArn");
                lists("managedPolicies", &arn) || owns("arn", &|own| own == arn)
            }
            "PutRolePolicy" => lists("inlinePolicies", &part("PolicyName")),
            "CreatePolicy" => owns("arn", &|own| own.ends_with(&format!("/{}", part("PolicyName")))),
            "CreateInstanceProfile" => status["instanceProfile"]["name"] == part("InstanceProfileName"),
            "TagRole" => {
                let mut keys = form.tags().into_keys().filter(|key| !key.starts_with("iamrole.dev/"));
                keys.all(|key| lists("tagKeys", &key))
            }
            _ => true,
        }
    }

    /// What was taken away a moment ago still holds up a deletion, and what was made is not known yet.
    fn refused_by_the_past(&self, action: &str, form: &Form) -> Option<Refusal> {
        let codes: &[&str] = match action {
            "AttachRolePolicy" => &["NoSuchEntity", "LimitExceeded"],
            "AddRoleToInstanceProfile" | "PutRolePolicy" | "TagRole" => &["LimitExceeded"],
            "DeleteRole" | "DeletePolicy" | "DeleteInstanceProfile" => &["DeleteConflict"],
            _ => return None,
        };
        if self.judges_late.is_zero() || self.iam.clone().call(action, form).is_err() {
            return None;
        }
        self.ago(self.judges_late).call(action, form).err().filter(|refusal| codes.contains(&refusal.0))
    }

    /// Whether the account ever was so.
    pub fn ever(&self, is: impl Fn(&Iam) -> bool) -> bool {
        self.history.iter().any(|(_, iam)| is(iam))
    }

    /// How the account was so long ago.
    fn ago(&self, long: std::time::Duration) -> Iam {
        let seen = self.history.iter().rev().find(|(since, _)| since.elapsed() >= long);
        seen.map_or(&self.history[0].1, |(_, iam)| iam).clone()
    }

    /// Somebody else changes the account.
    pub fn change<T>(&mut self, change: impl FnOnce(&mut Iam) -> T) -> T {
        let changed = change(&mut self.iam);
        self.history.push((Instant::now(), self.iam.clone()));
        changed
    }

    /// What is said to be somebody else's, or somebody else's doing, where there is nobody else.
    pub fn false_alarms(&self) -> impl Iterator<Item = &String> {
        let alarms = [
            "PolicyNameTaken",
            "InstanceProfileNotOwned",
            "RoleNotOwned",
            "Contested",
            "DriftRepaired",
            "DeleteBlocked",
        ];
        // What AWS is made to say is believed; not that something is in use which was taken off a moment ago.
        let is_first = |position| self.calls.iter().take(position).all(|call| call.side != Side::Write);
        let refused = self.script.is_some_and(|script| match script.fault {
            Fault::Refused("DeleteConflict", ..) => is_first(script.position),
            fault => matches!(fault, Fault::Refused(..)),
        });
        let is_false = move |reason: &str| alarms.contains(&reason) && !(refused && reason == "DeleteBlocked");
        // A profile that was made a moment ago.
        let unknown =
            self.script.is_some_and(|script| matches!(script.fault, Fault::Refused("InvalidParameterValue", ..)));
        // Nobody takes tags off, and the policies that are the role's own are there once they were made.
        let is_untrue = |said: &Said| {
            said.note.contains("owner tags were taken off")
                || said.reason == "PolicyNotFound" && said.note.contains(":policy/api-")
        };
        let is_false = move |said: &&Said| {
            is_false(&said.reason) || is_untrue(said) || unknown && said.is_warning && said.action != "Lint"
        };
        self.said.iter().filter(is_false).map(|said| &said.note)
    }

    fn check_ready(&mut self) {
        if self.begun && self.cluster.is_ready() && self.end.as_ref().is_some_and(|end| meaning(&self.iam) != *end) {
            self.broken.push("Ready while AWS is not as wanted".to_owned());
        }
    }
}
