//! Many roles at once, in virtual time: what the operator itself makes of latencies, whatever machine it runs on.

use super::cluster::{Cluster, NAME};
use super::iam::{Iam, Refusal};
use super::lives::{allow, trust};
use super::operator::{Backend, Feed, check_class, delay, process};
use super::wire::{self, Form};
use super::world::{Reply, fact};
use futures::channel::mpsc::unbounded;
use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use iamrole_operator::controller::context::{Context, RawRole};
use iamrole_operator::controller::sweeps::Sweeps;
use iamrole_operator::controller::{roles, sweep};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How long each call takes.
#[derive(Clone, Copy)]
pub struct Latency {
    pub aws: Duration,
    pub kubernetes: Duration,
}

/// What was seen while roles were made.
pub struct Made {
    /// From the first object to the last one that is Ready.
    pub wall: Duration,
    /// Calls to AWS.
    pub calls: usize,
    /// The most of them under way at once.
    pub at_once: usize,
    /// From a role's first call to its last: the longest of all roles.
    pub longest: Duration,
}

pub struct Inner {
    iam: Iam,
    pub class: Cluster,
    /// The objects, by name.
    roles: BTreeMap<String, Cluster>,
    /// When the first call for a role began, and when the last one ended; by the role's name.
    spans: BTreeMap<String, (Instant, Instant)>,
    calls: usize,
    under_way: usize,
    at_once: usize,
    /// Calls to AWS by action, and writes to Kubernetes.
    pub actions: BTreeMap<String, usize>,
    pub writes: usize,
    /// How long each page of a walk takes, where walks take two pages for each list.
    page: Duration,
    /// The first call of this action does not find the role that was made a moment ago.
    stumbles: Option<&'static str>,
    /// The role that it was for.
    stumbled: Option<String>,
}

/// AWS and Kubernetes with many objects.
pub struct Crowd {
    inner: Mutex<Inner>,
    latency: Latency,
}

/// What can't succeed, by how the name of the object begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The operator itself refuses the spec.
    Invalid,
    /// AWS does not permit to make the role.
    Denied,
    /// AWS has something else to do with the role, each time.
    Busy,
}

impl Broken {
    /// How the names of such objects begin.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Busy => "busy",
        }
    }
}

/// How AWS refuses what is to be broken.
fn refusal(action: &str, role: &str) -> Option<(u16, &'static str)> {
    let is = |kind: Broken| action == "CreateRole" && role.contains(kind.prefix());
    if is(Broken::Denied) {
        return Some((403, "AccessDenied"));
    }
    is(Broken::Busy).then_some((409, "ConcurrentModification"))
}

impl Backend for Crowd {
    async fn aws(&self, _: &str, body: &str) -> Reply {
        let form = Form::parse(body);
        let action = form.get("Action");
        if let Some(answer) = fact(action, super::iam::ACCOUNT) {
            return answer;
        }
        if let Some(reply) = self.page(action, &form).await {
            return reply;
        }
        let began = Instant::now();
        {
            let inner = &mut *self.lock();
            inner.calls += 1;
            *inner.actions.entry(action.to_owned()).or_default() += 1;
            inner.under_way += 1;
            inner.at_once = inner.at_once.max(inner.under_way);
        }
        sleep(self.latency.aws).await;
        let inner = &mut *self.lock();
        inner.under_way -= 1;
        let span = inner.spans.entry(form.get("RoleName").to_owned()).or_insert((began, began));
        span.1 = Instant::now();
        if inner.stumbles.take_if(|stumbles| *stumbles == action).is_some() {
            let role = form.get("RoleName");
            inner.stumbled = Some(role.to_owned());
            let message = format!("The role with name {role} cannot be found.");
            return Reply::Answer(404, wire::refusal("NoSuchEntity", &message));
        }
        if let Some((status, code)) = refusal(action, form.get("RoleName")) {
            return Reply::Answer(status, wire::refusal(code, "refused by the test"));
        }
        match inner.iam.call(action, &form) {
            Ok(result) => Reply::Answer(200, wire::answer(action, &result)),
            Err(Refusal(code, status, message)) => Reply::Answer(status, wire::refusal(code, &message)),
        }
    }

    async fn kubernetes(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        sleep(self.latency.kubernetes).await;
        let inner = &mut *self.lock();
        inner.writes += usize::from(method != "GET");
        let named = path.split_once("/iamroles/").and_then(|(_, rest)| rest.split('/').next());
        let (code, body) = match named {
            // Each stand-in has an object of the same name.
            Some(name) => {
                let path = path.replacen(&format!("/iamroles/{name}"), &format!("/iamroles/{NAME}"), 1);
                inner.roles.get_mut(name).expect("an object").call(method, &path, body)
            }
            None => inner.class.call(method, path, body),
        };
        Reply::Answer(code, body.to_string())
    }
}

impl Crowd {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic")
    }

    /// A user applies an object with an attachment and an inline policy.
    pub fn create(&self, name: &str) {
        let mut spec = json!({
            "trustPolicy": trust(&["111111111111"]), "managedPolicies": ["ReadOnlyAccess"],
            "inlinePolicies": [{ "name": "inline", "document": allow(&["s3:GetObject"]) }],
        });
        if name.starts_with(Broken::Invalid.prefix()) {
            spec["inlinePolicies"][0]["document"]["Statement"][0]["Efect"] = json!("Allow");
        }
        self.apply(name, &spec);
    }

    fn apply(&self, name: &str, spec: &Value) {
        let inner = &mut *self.lock();
        let mut cluster = inner.class.clone();
        cluster.apply(spec);
        let meta = &mut cluster.role.as_mut().expect("an object")["metadata"];
        (meta["name"], meta["uid"]) = (name.into(), format!("uid-of-{name}").into());
        inner.roles.insert(name.to_owned(), cluster);
    }

    /// What the watches bring of an object.
    fn watch(&self, name: &str, ctx: &Context, feed: &Mutex<Feed>) -> RawRole {
        let (inner, mut feed) = (self.lock(), feed.lock().expect("no panic"));
        feed.classes
            .apply_watcher_event(&Event::Apply(serde_json::from_value(inner.class.class.clone()).expect("a class")));
        let role = inner.roles[name].role.clone().expect("an object");
        let role: RawRole = serde_json::from_value(role).expect("an object");
        let event = Event::Apply(role.clone());
        ctx.scopes[0].index.note(&event);
        feed.roles.apply_watcher_event(&event);
        role
    }

    /// One look at the object, and when the next one is due.
    async fn look(&self, name: &str, ctx: &Arc<Context>, feed: &Mutex<Feed>) -> Option<Duration> {
        let role = self.watch(name, ctx, feed);
        let action = roles::reconcile(Arc::new(role), ctx.clone()).await.unwrap_or_else(|never| match never {});
        delay(&action)
    }

    /// One look after the other, for ever.
    async fn keep(&self, name: &str, ctx: &Arc<Context>, feed: &Mutex<Feed>) {
        loop {
            let wakes = self.lock().roles[name].wakes();
            let again = self.look(name, ctx, feed).await;
            let woken = self.lock().roles[name].wakes() != wakes;
            if !woken {
                match again {
                    Some(again) => sleep(again).await,
                    None => futures::future::pending().await,
                }
            }
        }
    }

    /// Until the object is Ready and nothing wakes it. `Err` tells what it says instead.
    pub async fn settle(&self, name: &str, ctx: &Arc<Context>, feed: &Mutex<Feed>) -> Result<(), String> {
        for _ in 0..10 {
            let wakes = self.lock().roles[name].wakes();
            let again = self.look(name, ctx, feed).await;
            let (woken, ready) = {
                let cluster = &self.lock().roles[name];
                (cluster.wakes() != wakes, cluster.is_ready())
            };
            match again {
                _ if woken => {}
                _ if ready => return Ok(()),
                Some(again) => sleep(again).await,
                None => break,
            }
        }
        Err(self.lock().roles[name].role.clone().unwrap_or_default()["status"].to_string())
    }
}

impl Crowd {
    pub fn new(latency: Latency) -> Arc<Self> {
        let class = Cluster::new(&json!({
            "namespaceSelector": {}, "unbounded": true,
            "allowed": iamrole_operator::api::iamroleclass::Allowed::everything(),
        }));
        let inner = Inner {
            iam: Iam::default(),
            class,
            roles: BTreeMap::new(),
            spans: BTreeMap::new(),
            calls: 0,
            under_way: 0,
            at_once: 0,
            actions: BTreeMap::new(),
            writes: 0,
            page: latency.aws,
            stumbles: None,
            stumbled: None,
        };
        Arc::new(Self { inner: Mutex::new(inner), latency })
    }

    /// A process that has been running for a while.
    pub async fn process(self: &Arc<Self>, run: usize, calls: u16) -> (Arc<Context>, Mutex<Feed>) {
        let (ctx, feed) = process(self, run, calls);
        let (ctx, feed) = (Arc::new(ctx), Mutex::new(feed));
        let meta = self.lock().class.class["metadata"].clone();
        check_class(&ctx, &meta).await;
        sleep(Duration::from_secs(100)).await;
        (ctx, feed)
    }
}

impl Crowd {
    /// A page of a walk: the first has all roles, and where walks are slow another one follows.
    async fn page(&self, action: &str, form: &Form) -> Option<Reply> {
        let (page, again) = {
            let inner = &mut *self.lock();
            let again = form.opt("Marker").is_some();
            let roles = inner.iam.roles.values().filter(|_| !again);
            (super::walked::page(action, roles)?, again)
        };
        let long = {
            let inner = &mut *self.lock();
            *inner.actions.entry(action.to_owned()).or_default() += usize::from(!again);
            inner.page
        };
        sleep(long).await;
        let more = "<IsTruncated>true</IsTruncated><Marker>more</Marker>";
        let page = if again || long <= self.latency.aws {
            page
        } else {
            page.replace("<IsTruncated>false</IsTruncated>", more)
        };
        Some(Reply::Answer(200, wire::answer(action, &page)))
    }

    /// From now on is counted what is done, and a page of a walk takes so long.
    pub fn forget(&self, page: Duration) {
        let inner = &mut *self.lock();
        (inner.actions, inner.writes, inner.page) = (BTreeMap::new(), 0, page);
    }

    /// What a process that begins now does for so long: it walks, and looks at each role that is due or woken.
    pub async fn live(self: &Arc<Self>, names: &[String], long: Duration) {
        let (mut ctx, feed) = process(self, 1, 16);
        ctx.sweeps = Sweeps::working();
        let (ctx, feed) = (Arc::new(ctx), Mutex::new(feed));
        let meta = self.lock().class.class["metadata"].clone();
        for name in names {
            self.watch(name, &ctx, &feed);
        }
        check_class(&ctx, &meta).await;
        let end = Instant::now() + long;
        let mut wakes = std::mem::replace(&mut feed.lock().expect("no panic").wakes, unbounded().1);
        let mut due: BTreeMap<String, Instant> = names.iter().map(|name| (name.clone(), Instant::now())).collect();
        let looks = async {
            loop {
                let next = due.values().min().copied().unwrap_or(end);
                tokio::select! {
                    () = sleep_until(next) => {}
                    Some(woken) = wakes.next() => drop(due.insert(woken.name, Instant::now())),
                }
                let now = Instant::now();
                for (name, due) in due.iter_mut().filter(|(_, due)| **due <= now) {
                    let again = self.look(name, &ctx, &feed).await;
                    *due = again.map_or(end, |again| Instant::now() + again);
                }
            }
        };
        tokio::select! {
            () = looks => {}
            () = sweep::run(ctx.clone()) => {}
            () = sleep_until(end) => {}
        }
    }
}

/// So many roles are made, with so many calls at once.
pub fn make(roles: usize, calls: u16, latency: Latency) -> Made {
    make_with(roles, calls, latency, None)
}

fn make_with(roles: usize, calls: u16, latency: Latency, stumbles: Option<&'static str>) -> Made {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let crowd = Crowd::new(latency);
        crowd.lock().stumbles = stumbles;
        let (ctx, feed) = crowd.process(0, calls).await;
        let names: Vec<String> = (0..roles).map(|i| format!("role-{i}")).collect();
        for name in &names {
            crowd.create(name);
        }
        let started = Instant::now();
        let ends = join_all(names.iter().map(|name| crowd.settle(name, &ctx, &feed))).await;
        let wall = started.elapsed();
        for end in ends {
            end.expect("a role that is Ready");
        }
        let inner = crowd.lock();
        assert_eq!(inner.iam.roles.len(), roles);
        assert_eq!(inner.stumbled.is_some(), stumbles.is_some());
        let longest = inner.spans.values().map(|(first, last)| *last - *first).max().unwrap_or_default();
        Made { wall, calls: inner.calls, at_once: inner.at_once, longest }
    })
}

/// A role that is half made may be used by nobody, or by those who miss its permissions: it does not wait for all the
/// others because of one answer.
#[test]
fn a_role_that_was_begun_is_finished_before_others_are_begun() {
    let latency = Latency { aws: Duration::from_millis(50), kubernetes: Duration::from_millis(25) };
    for stumbles in ["AttachRolePolicy", "PutRolePolicy"] {
        let [few, many] = [200, 1000].map(|roles| make_with(roles, 16, latency, Some(stumbles)).longest);
        println!("{stumbles}: {few:?} for a role among 200, {many:?} among 1,000");
        assert!(many <= few + Duration::from_secs(1), "{stumbles}: {few:?} among 200, {many:?} among 1,000");
    }
}

/// How long roles took that were made beside others, and what became of those.
pub struct Beside {
    /// From the object to Ready, shortest first.
    pub taken: Vec<Duration>,
    /// How many of the others are Ready.
    pub others_ready: usize,
    /// For how many of the others AWS was called.
    pub others_called: usize,
}

/// So many roles are made, with so many calls at once, when the others are there for `lead`.
pub fn make_beside(roles: usize, others: &[String], lead: Duration, calls: u16, latency: Latency) -> Beside {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let crowd = Crowd::new(latency);
        let (ctx, feed) = crowd.process(0, calls).await;
        let names: Vec<String> = (0..roles).map(|i| format!("good-{i}")).collect();
        let (crowd, ctx, feed) = (&crowd, &ctx, &feed);
        for name in others {
            crowd.create(name);
        }
        let kept = async {
            join_all(others.iter().map(|name| crowd.keep(name, ctx, feed))).await;
            futures::future::pending::<Infallible>().await
        };
        let good = async {
            sleep(lead).await;
            for name in &names {
                crowd.create(name);
            }
            let created = Instant::now();
            join_all(names.iter().map(async |name| {
                crowd.settle(name, ctx, feed).await.expect("a role that is Ready");
                created.elapsed()
            }))
            .await
        };
        let mut taken = tokio::select! {
            biased;
            never = kept => match never {},
            taken = good => taken,
        };
        taken.sort();
        let inner = crowd.lock();
        let others_ready = others.iter().filter(|name| inner.roles[*name].is_ready()).count();
        let is_called = |name: &&String| inner.spans.keys().any(|role| role.ends_with(&format!(".{name}")));
        Beside { taken, others_ready, others_called: others.iter().filter(is_called).count() }
    })
}

/// Whoever has the role may never have claimed its name in this process: it was deleted, suspended or refused when that
/// began.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_name_is_woken_when_its_holder_goes_also_after_a_restart() {
    for (how, mark) in [("deleted", json!({})), ("suspended", json!({ "suspend": true })), ("retained", json!({}))] {
        let crowd = Crowd::new(Latency { aws: Duration::ZERO, kubernetes: Duration::ZERO });
        let spec = json!({ "roleName": "shared", "trustPolicy": trust(&["111111111111"]) });
        let (ctx, feed) = crowd.process(0, 16).await;
        for name in ["first", "second"] {
            crowd.apply(name, &spec);
        }
        crowd.settle("first", &ctx, &feed).await.expect("a role that is Ready");
        let edit = |more: &Value| {
            let mut spec = spec.clone();
            spec.as_object_mut().expect("a spec").extend(more.as_object().expect("fields").clone());
            crowd.lock().roles.get_mut("first").expect("an object").apply(&spec);
        };
        edit(&mark);
        let (ctx, feed) = crowd.process(1, 16).await;
        let delete = || crowd.lock().roles.get_mut("first").expect("an object").delete();
        if how == "suspended" {
            crowd.look("first", &ctx, &feed).await;
        } else {
            delete();
        }
        crowd.look("second", &ctx, &feed).await;
        let said = crowd.lock().roles["second"].role.clone().unwrap_or_default()["status"].to_string();
        assert!(said.contains("RoleOwnedByOther"), "{how}: {said}");
        if how == "suspended" {
            edit(&json!({}));
            delete();
        }
        if how == "retained" {
            edit(&json!({ "deletionPolicy": "Retain" }));
        }
        while crowd.lock().roles["first"].role.is_some() {
            let again = crowd.look("first", &ctx, &feed).await;
            sleep(again.unwrap_or_default()).await;
        }
        let woken = feed.lock().expect("no panic").wakes.next().now_or_never().flatten();
        assert_eq!(woken.map(|woken| woken.name), Some("second".to_owned()), "{how}");
    }
}
