//! Walks over accounts, in virtual time: what they cost, and what is made of them.

use super::cluster::UID;
use super::crowd::{Crowd, Latency};
use super::iam::{ACCOUNT, Role, show_role};
use super::lives;
use super::moments::{started, world};
use super::operator::{Backend, Feed, account, process};
use super::wire::{self, Form, text};
use super::world::{Reply, World};
use iamrole_operator::api::iamroleclass::DriftMethod;
use iamrole_operator::api::{IamRoleClass, IamRoleClassSpec};
use iamrole_operator::aws::{Account, Usage};
use iamrole_operator::controller::context::{ClassState, Context, RawRole};
use iamrole_operator::controller::sweep;
use iamrole_operator::controller::sweeps::{Obstacle, Sweeps};
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const DETAILS: &str = "GetAccountAuthorizationDetails";
/// How often drift is looked for where the class does not tell.
const INTERVAL: Duration = Duration::from_mins(15);
/// An account with so much in it that a few roles are better read one by one.
const CROWDED: Usage = Usage { roles: 5000, policies: 0 };

#[derive(Default)]
struct Seen {
    calls: BTreeMap<String, usize>,
    /// The actions that AWS fails to answer, and those that it does not let us call.
    broken: Vec<&'static str>,
    denied: Vec<&'static str>,
    under_way: usize,
    at_once: usize,
}

/// A world whose account can be walked.
struct Walked {
    world: Arc<World>,
    latency: Duration,
    seen: Mutex<Seen>,
}

impl Backend for Walked {
    async fn aws(&self, invocation: &str, body: &str) -> Reply {
        let form = Form::parse(body);
        let action = form.get("Action").to_owned();
        {
            let seen = &mut *self.seen();
            *seen.calls.entry(action.clone()).or_default() += 1;
            if seen.broken.contains(&action.as_str()) {
                return Reply::Answer(500, wire::refusal("InternalFailure", "broken by the test"));
            }
            if seen.denied.contains(&action.as_str()) {
                return Reply::Answer(403, wire::refusal("AccessDenied", "not permitted by the test"));
            }
            seen.under_way += 1;
            seen.at_once = seen.at_once.max(seen.under_way);
        }
        sleep(self.latency).await;
        self.seen().under_way -= 1;
        let roles: Vec<Role> = self.world.lock().iam.roles.values().cloned().collect();
        match page(&action, roles.iter()) {
            Some(result) => Reply::Answer(200, wire::answer(&action, &result)),
            None => self.world.aws(invocation, body),
        }
    }

    async fn kubernetes(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        self.world.kubernetes(method, path, body)
    }
}

/// What a walk is shown of an account; `None` where the call is none of a walk.
pub fn page<'a>(action: &str, roles: impl Iterator<Item = &'a Role>) -> Option<String> {
    Some(match action {
        "ListRoles" => wire::page("Roles", roles.map(|role| show_role(role, true))),
        DETAILS => wire::page("RoleDetailList", roles.map(detail)),
        "ListPolicies" => wire::page("Policies", []),
        _ => return None,
    })
}

fn detail(role: &Role) -> String {
    let attached = |arn: &String| text("PolicyArn", arn) + &text("PolicyName", "p");
    let inline = |(name, json): (&String, &String)| text("PolicyName", name) + &wire::document("PolicyDocument", json);
    show_role(role, true)
        + &wire::list("AttachedManagedPolicies", role.managed.iter().map(attached))
        + &wire::list("RolePolicyList", role.inline.iter().map(inline))
}

impl Walked {
    fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self { world, latency: Duration::from_millis(50), seen: Mutex::default() })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic")
    }

    fn calls(&self, action: &str) -> usize {
        self.seen().calls.get(action).copied().unwrap_or_default()
    }
}

fn empty() -> Arc<World> {
    let life = lives::owning();
    world(life.iam, life.cluster, 0)
}

/// One with a role that is settled, in an account that is walked whatever that costs.
async fn settled() -> Arc<World> {
    let world = empty();
    drop(started(&world, &lives::spec_of(&[], None)).await);
    world.lock().cluster.class["spec"]["driftCheck"] = json!({ "method": "Account" });
    world
}

fn changed(account: Arc<Account>, change: impl FnOnce(&mut Account)) -> Account {
    let mut account = Arc::unwrap_or_clone(account);
    change(&mut account);
    account
}

/// A process that walks, whose classes lead to these accounts, and the object if there is one.
fn walking(walked: &Arc<Walked>, classes: &[(&str, Account)]) -> (Arc<Context>, Feed) {
    let (mut ctx, mut feed) = process(walked, 0, 16);
    ctx.sweeps = Sweeps::working();
    let (class, role) = {
        let cluster = &walked.world.lock().cluster;
        (cluster.class.clone(), cluster.role.clone())
    };
    for (name, account) in classes {
        let mut class = class.clone();
        class["metadata"]["name"] = json!(name);
        if *name != "default" {
            class["metadata"]["annotations"] = json!({});
        }
        let class: IamRoleClass = serde_json::from_value(class).expect("a class");
        feed.classes.apply_watcher_event(&Event::Apply(class.clone()));
        let account = Arc::new(account.clone());
        let state = ClassState {
            uid: class.metadata.uid.clone().expect("a UID"),
            generation: class.metadata.generation.expect("a generation"),
            account: Ok(account.clone()),
            reached: Some(account),
            keeps_boundary: true,
        };
        ctx.set_class_state(name, state);
    }
    if let Some(role) = role {
        let role: RawRole = serde_json::from_value(role).expect("an object");
        feed.roles.apply_watcher_event(&Event::Apply(role));
    }
    (Arc::new(ctx), feed)
}

/// Walks for so long, the first time at once.
async fn walk(ctx: &Arc<Context>, accounts: &[&str], long: Duration) {
    for account in accounts {
        ctx.sweeps.ask(account, Instant::now());
    }
    tokio::select! {
        () = sweep::run(ctx.clone()) => {}
        () = sleep(long) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_search_for_roles_of_nobody_that_breaks_off_leaves_it_decided_that_roles_are_read_one_by_one() {
    let walked = Walked::new(empty());
    walked.seen().broken = vec![DETAILS];
    let account = changed(account(&walked).await, |account| account.usage = Some(CROWDED));
    let (ctx, _feed) = walking(&walked, &[("default", account)]);
    walk(&ctx, &[ACCOUNT], INTERVAL / 2).await;
    let class = IamRoleClassSpec::default();
    assert_eq!(ctx.sweeps.obstacle(ACCOUNT), Some(Obstacle::Dearer));
    assert_eq!(ctx.sweeps.method_of(&class, ACCOUNT), Some(DriftMethod::Role), "the class tells");
    assert_eq!(walked.calls("ListRoles"), 1, "not again and again");
    walk(&ctx, &[], INTERVAL).await;
    assert_eq!(walked.calls("ListRoles"), 2, "but after an interval");
    walked.seen().broken.clear();
    walk(&ctx, &[], INTERVAL).await;
    assert_eq!((walked.calls("ListRoles"), ctx.sweeps.orphans(ACCOUNT)), (3, Some([].into())), "until it is done");
    walk(&ctx, &[], 10 * INTERVAL).await;
    assert_eq!(walked.calls("ListRoles"), 3, "which lasts a day");
    assert_eq!(ctx.sweeps.method_of(&class, ACCOUNT), Some(DriftMethod::Role));
}

#[tokio::test(start_paused = true)]
async fn a_role_is_judged_by_what_its_own_class_was_told_of_the_account() {
    let walked = Walked::new(settled().await);
    let told = account(&walked).await;
    let other = changed(told.clone(), |account| {
        account.identity.push_str("-walker");
        (account.quotas.limits.trust, account.quotas.attachments) = (1, 0);
    });
    let identity = other.identity.clone();
    let (ctx, _feed) = walking(&walked, &[("another", other), ("default", Account::clone(&told))]);
    walk(&ctx, &[ACCOUNT], INTERVAL / 2).await;
    assert_eq!((walked.calls(DETAILS), ctx.sweeps.walker(ACCOUNT)), (1, Some(identity)));
    let (suspect, next) = ctx.memory.with(UID, |entry| (entry.suspect, entry.next_check));
    assert!(!suspect, "by what the walker was told it can't be as it is");
    assert!(next.is_some(), "the walk was for it");
}

#[tokio::test(start_paused = true)]
async fn of_many_accounts_a_few_are_walked_at_once() {
    let walked = Walked::new(empty());
    let one = account(&walked).await;
    let of = |i: usize| changed(one.clone(), |account| account.account.id = format!("{i:012}"));
    let names: Vec<(String, Account)> = (0..12).map(|i| (format!("class-{i:02}"), of(i))).collect();
    let classes: Vec<(&str, Account)> = names.iter().map(|(name, account)| (name.as_str(), account.clone())).collect();
    let (ctx, _feed) = walking(&walked, &classes);
    let ids: Vec<&str> = classes.iter().map(|(_, account)| account.account.id.as_str()).collect();
    walk(&ctx, &ids, Duration::from_secs(10)).await;
    assert_eq!(walked.calls(DETAILS), ids.len(), "but all of them in the end");
    let at_once = walked.seen().at_once;
    assert!(at_once <= 4, "{at_once}");
}

#[tokio::test(start_paused = true)]
async fn a_role_of_nobody_that_may_not_be_read_is_not_asked_for_after_each_walk() {
    let world = settled().await;
    world.lock().cluster.role = None;
    let walked = Walked::new(world);
    walked.seen().denied = vec!["GetRole"];
    let account = account(&walked).await;
    let (ctx, _feed) = walking(&walked, &[("default", Account::clone(&account))]);
    walk(&ctx, &[ACCOUNT], 10 * INTERVAL).await;
    assert!(walked.calls(DETAILS) >= 9, "{}", walked.calls(DETAILS));
    assert_eq!((walked.calls("GetRole"), ctx.sweeps.orphans(ACCOUNT)), (1, Some([].into())));
    walked.seen().denied.clear();
    walk(&ctx, &[], Duration::from_hours(25)).await;
    assert_eq!(
        (walked.calls("GetRole"), ctx.sweeps.orphans(ACCOUNT)),
        (2, Some(["api".to_owned()].into())),
        "once a day"
    );
}

#[tokio::test(start_paused = true)]
async fn many_roles_of_nobody_are_confirmed_by_another_walk_and_not_one_by_one() {
    for method in ["Account", "Auto"] {
        let world = settled().await;
        {
            let inner = &mut *world.lock();
            (inner.cluster.role, inner.cluster.class["spec"]["driftCheck"]["method"]) = (None, json!(method));
            let role = inner.iam.roles["api"].clone();
            let others = (0..200).map(|i| (format!("api-{i:03}"), format!("{}{i:03}", role.id)));
            let others = others.map(|(name, id)| (name.clone(), Role { name, id, ..role.clone() }));
            inner.change(|iam| iam.roles.extend(others));
        }
        let walked = Walked::new(world);
        let account = account(&walked).await;
        let (ctx, _feed) = walking(&walked, &[("default", Account::clone(&account))]);
        walk(&ctx, &[ACCOUNT], INTERVAL / 2).await;
        assert_eq!((walked.calls(DETAILS), ctx.sweeps.orphans(ACCOUNT)), (1, None), "the walk may show the past");
        walked.world.lock().change(|iam| iam.roles.remove("api-007"));
        walk(&ctx, &[], 2 * INTERVAL).await;
        let orphans = ctx.sweeps.orphans(ACCOUNT).expect("all are known");
        assert!(orphans.len() == 200 && !orphans.contains("api-007"), "{method}: {orphans:?}");
        assert_eq!(walked.calls("GetRole"), 0, "{method}");
        let told = |world: &World| world.lock().said.iter().filter(|said| said.reason == "OrphanedRoles").count();
        assert_eq!(told(&walked.world), 1, "{method}");
    }
}

/// Ten roles that a process before has made, and what another one that has just begun makes of them for so many intervals.
async fn restarted(interval: Duration, page: Duration, intervals: u32) -> Arc<Crowd> {
    let crowd = Crowd::new(Latency { aws: Duration::from_millis(50), kubernetes: Duration::from_millis(25) });
    crowd.lock().class.class["spec"]["driftCheck"] =
        json!({ "method": "Account", "intervalSeconds": interval.as_secs() });
    let names: Vec<String> = (0..10).map(|i| format!("role-{i}")).collect();
    let (ctx, feed) = crowd.process(0, 16).await;
    for name in &names {
        crowd.create(name);
        crowd.settle(name, &ctx, &feed).await.expect("a role that is Ready");
    }
    sleep(Duration::from_mins(1)).await;
    crowd.forget(page);
    Box::pin(crowd.live(&names, interval * intervals)).await;
    crowd
}

#[tokio::test(start_paused = true)]
async fn a_restart_and_the_intervals_after_it_cost_walks_and_no_look_at_a_role_and_no_write() {
    for minutes in [5, 15, 60] {
        let crowd = restarted(Duration::from_mins(minutes), Duration::from_millis(50), 3).await;
        let inner = crowd.lock();
        let walks = inner.actions.get(DETAILS).copied().unwrap_or_default();
        assert!((3..=5).contains(&walks), "{minutes} minutes: {walks} walks");
        let walks = BTreeMap::from(["ListRoles", DETAILS].map(|action| (action.to_owned(), walks)));
        assert_eq!((&inner.actions, inner.writes), (&walks, 0), "{minutes} minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn roles_that_slow_walks_show_as_wanted_are_not_read_by_themselves() {
    // Four pages take 52 s.
    let crowd = restarted(Duration::from_mins(1), Duration::from_secs(13), 10).await;
    let inner = crowd.lock();
    assert!(inner.actions[DETAILS] >= 5, "{:?}", inner.actions);
    assert_eq!((inner.actions.get("GetRole"), inner.writes), (None, 0), "{:?}", inner.actions);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_classes_that_are_gone_is_forgotten_also_where_nobody_said_so() {
    let walked = Walked::new(empty());
    let one = account(&walked).await;
    let names: Vec<String> = (0..200).map(|i| format!("class-{i:03}")).collect();
    let classes: Vec<(&str, Account)> = names.iter().map(|name| (name.as_str(), Account::clone(&one))).collect();
    let (ctx, mut feed) = walking(&walked, &classes);
    let uid = |name: &str| format!("uid-of-{name}");
    for class in ctx.classes.state() {
        let (mut class, name) = (IamRoleClass::clone(&class), class.name_any());
        let state = ctx.class_state(&name, "class-1").expect("a state");
        class.metadata.uid = Some(uid(&name));
        feed.classes.apply_watcher_event(&Event::Apply(class));
        ctx.set_class_state(&name, ClassState { uid: uid(&name), ..state });
        ctx.class_memory.with(&uid(&name), |entry| entry.preflight = Some(1));
    }
    for class in ctx.classes.state().iter().filter(|class| class.name_any() != "class-007") {
        feed.classes.apply_watcher_event(&Event::Delete(IamRoleClass::clone(class)));
    }
    walk(&ctx, &[ACCOUNT], INTERVAL).await;
    let known = |name: &String| {
        let remembered = ctx.class_memory.with(&uid(name), |entry| entry.preflight.is_some());
        (ctx.class_state(name, &uid(name)).is_some(), remembered)
    };
    let known: Vec<_> = names.iter().filter(|name| known(name) != (false, false)).collect();
    assert_eq!(known, ["class-007"]);
    assert_eq!(ctx.first_class(ACCOUNT).as_deref(), Some("class-007"));
}
