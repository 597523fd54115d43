//! Ten ways to break a role: what `kubectl get`, `kubectl describe` and the event say is what docs/troubleshooting.md shows,
//! each tells what to do, and doing it mends the role.
//!
//! `UPDATE_DOCS=1 cargo test --test broken_roles` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use support::kubectl::kubectl_ok;
use support::{SOON, World, account, allow, aws, condition, ec2, eventually, trust};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/troubleshooting.md");
const BEGIN: &str = "<!-- broken roles: written by `UPDATE_DOCS=1 cargo test --test broken_roles` -->\n";
const END: &str = "<!-- end of broken roles -->\n";

/// The walk as it is written down.
struct Walk {
    text: String,
    count: usize,
    /// Messages that do not tell what to do.
    mute: Vec<String>,
}

impl Walk {
    /// Waits for the reason, and writes down what a person sees. `remedy` is part of what the message says to do.
    async fn note(&mut self, world: &World, name: &str, reason: &str, how: &str, remedy: &str) {
        let message = world.reason(name, reason).await;
        if !message.contains(remedy) {
            self.mute.push(format!("{reason}: {remedy:?} is to be said: {message}"));
        }
        world.event(name, reason, "").await;
        let plain = |text: &str| plain(world, text);
        let got = kubectl_ok(&["get", "iamrole", name, "-n", &world.namespace], "");
        let described = kubectl_ok(&["describe", "iamrole", name, "-n", &world.namespace], "");
        let (ready, warnings) = (ready_of(&described), warnings_of(&described, reason));
        self.count += 1;
        let _ = write!(self.text, "### {}. `{reason}`\n\n{how}\n\n```\n$ kubectl get iamrole {name}\n", self.count);
        self.text += &columns(&got, &plain);
        let _ = write!(
            self.text,
            "$ kubectl describe iamrole {name}\n{}Events:\n{}```\n\n",
            plain(&ready),
            plain(&warnings)
        );
    }
}

/// Names that differ from run to run, as a reader would have them.
fn plain(world: &World, text: &str) -> String {
    let suffix = format!("-{}", world.namespace);
    let (cluster, here) = (format!("{}.", world.operator.cluster), format!("prod.{}", world.namespace));
    text.replace(&format!("{cluster}{}", world.namespace), &here)
        .replace(&format!("legacy-app{suffix}"), "legacy-app")
        .replace(&format!("web{suffix}"), "web")
        .replace(&world.namespace, "shop")
        .replace("123456789012", "111122223333")
        .replace("210987654321", "444455556666")
}

/// The table of `kubectl get`, with columns as wide as the plain texts need.
fn columns(table: &str, plain: &dyn Fn(&str) -> String) -> String {
    let mut lines = table.lines();
    let head = lines.next().expect("a headline");
    let names: Vec<&str> = head.split_whitespace().collect();
    let starts: Vec<usize> =
        names.iter().map(|name| head.find(&format!("{name} ")).or(head.find(name)).unwrap()).collect();
    let cells = |line: &str| -> Vec<String> {
        let ends = starts.iter().skip(1).copied().chain([line.len()]);
        let cut = |(start, end): (&usize, usize)| line.get(*start..end.min(line.len())).unwrap_or_default().trim();
        starts.iter().zip(ends).map(cut).map(plain).collect()
    };
    let mut rows = vec![names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>()];
    rows.extend(lines.map(cells));
    for row in rows.iter_mut().skip(1) {
        *row.last_mut().unwrap() = "9s".into();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default() + 3;
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).fold(String::new(), |all, (cell, width)| format!("{all}{cell:width$}"));
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

/// The condition Ready, as `kubectl describe` prints it, without times and generations.
fn ready_of(described: &str) -> String {
    let lines: Vec<&str> = described.lines().collect();
    let at = lines.iter().position(|line| line.split_whitespace().eq(["Type:", "Ready"])).expect("Ready");
    let from = lines[..at].iter().rposition(|line| line.trim_start().starts_with("Message:")).expect("a message");
    let shown = lines[from..=at].iter().filter(|line| !line.contains("Observed Generation:"));
    shown.fold(String::new(), |all, line| all + line + "\n")
}

/// The warnings with this reason among the events, without age and source.
fn warnings_of(described: &str, reason: &str) -> String {
    let events = described.split("\nEvents:").nth(1).expect("events");
    let mut text = String::new();
    for line in events.lines().filter(|line| line.trim_start().starts_with("Warning")) {
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        if cells[1] == reason {
            let _ = writeln!(text, "  Warning  {reason}  {}", cells[4..].join(" "));
        }
    }
    assert!(!text.is_empty(), "no warning with {reason}: {events}");
    text
}

async fn spec_that_is_wrong(walk: &mut Walk) {
    let world = World::with_class("broken", |class| {
        let allowed = class.allowed.as_mut().expect("lists");
        allowed.managed_policies = vec!["ReadOnlyAccess".into(), "arn:aws:iam::123456789012:policy/*".into()];
    })
    .await;
    let mut mistyped = ec2();
    mistyped["Statement"][0]["Conditions"] = json!({ "Bool": { "aws:MultiFactorAuthPresent": "true" } });
    world.create("orders", json!({ "trustPolicy": mistyped })).await;
    let how = "A key of a document is mistyped: `Conditions` for `Condition`. Nothing has reached AWS.";
    walk.note(&world, "orders", "InvalidSpec", how, "Condition").await;
    world.patch("orders", json!({ "trustPolicy": ec2(), "managedPolicies": ["AdministratorAccess"] })).await;
    let how = "The class lists `ReadOnlyAccess` and the account's own policies, and nothing else.";
    walk.note(&world, "orders", "NotAllowed", how, "ask an admin").await;
    world.patch("orders", json!({ "managedPolicies": ["arn:aws:iam::123456789012:policy/missing"] })).await;
    let how = "A policy to attach does not exist. It is attached when it does.";
    walk.note(&world, "orders", "PolicyNotFound", how, "Create the policy").await;
    world.patch("orders", json!({ "managedPolicies": ["ReadOnlyAccess"] })).await;
    world.ready("orders").await;
}

async fn what_is_not_there_yet_or_not_permitted(walk: &mut Walk) {
    let world = World::new("broken").await;
    let web = format!("web-{}", world.namespace);
    let principal = json!({ "AWS": format!("arn:aws:iam::123456789012:role/{web}") });
    world.create("orders", json!({ "trustPolicy": trust(&principal) })).await;
    let how = "The trust policy names a role that does not exist. All else is made, and nobody can assume the role until then.";
    walk.note(&world, "orders", "PrincipalNotFound", how, "Create the principal").await;
    aws::foreign_role(&world.iam, &web).await;
    world.ready("orders").await;

    let denied = "User: arn:aws:sts::123456789012:assumed-role/iamrole-operator/prod is not authorized to perform: iam:PutRolePolicy \
                  on resource: role prod.shop.reports because no identity-based policy allows the iam:PutRolePolicy action";
    world.proxy.refuse("PutRolePolicy", "", 403, "AccessDenied", denied);
    let inline = json!([{ "name": "read", "document": allow("s3:GetObject") }]);
    world.create("reports", json!({ "trustPolicy": ec2(), "inlinePolicies": inline })).await;
    let how = "The operator's own AWS identity lacks a right. AWS's words name action and resource.";
    walk.note(&world, "reports", "AccessDenied", how, "Grant").await;
    world.proxy.heal();
    world.check_now("reports").await;
    world.ready("reports").await;
}

async fn names_that_are_taken(walk: &mut Walk) {
    let world = World::new("broken").await;
    let name = format!("legacy-app-{}", world.namespace);
    aws::foreign_role(&world.iam, &name).await;
    world.create("legacy", json!({ "roleName": name, "trustPolicy": ec2() })).await;
    let how = "Somebody else made a role of that name. It is left as it is.";
    walk.note(&world, "legacy", "RoleNotOwned", how, "adoption: IfExists").await;
    let web = format!("web-{}", world.namespace);
    world.create("first", json!({ "roleName": web, "trustPolicy": ec2() })).await;
    world.ready("first").await;
    world.create("second", json!({ "roleName": web, "trustPolicy": ec2() })).await;
    let how = "Two objects want one role. The first has it; the other gets it when that goes.";
    walk.note(&world, "second", "RoleOwnedByOther", how, "choose another roleName").await;
    world.delete("first").await;
    world.ready("second").await;
}

async fn a_deletion_that_is_blocked(walk: &mut Walk) {
    let world = World::new("broken").await;
    world.create("web", json!({ "trustPolicy": ec2() })).await;
    world.ready("web").await;
    let profile = format!("legacy-app-{}", world.namespace);
    world.iam.create_instance_profile().instance_profile_name(&profile).send().await.expect("a profile");
    let call = world.iam.add_role_to_instance_profile().instance_profile_name(&profile);
    call.role_name(world.templated("web")).send().await.expect("a role in it");
    world.delete("web").await;
    let how = "The object is being deleted, and an instance profile that somebody else made holds the role.";
    walk.note(&world, "web", "DeleteBlocked", how, "deletionPolicy").await;
    world.patch("web", json!({ "deletionPolicy": "ForceDelete" })).await;
    world.gone("web").await;
}

async fn classes(walk: &mut Walk) {
    let world = World::new("broken").await;
    let label = json!({ "metadata": { "labels": { "test": "other" } } });
    let namespace = |label: &Value| kubectl_ok(&["patch", "namespace", &world.namespace, "-p", &label.to_string()], "");
    namespace(&label);
    world.create("orders", json!({ "trustPolicy": ec2() })).await;
    let how = "No class selects the namespace: it lacks the label.";
    walk.note(&world, "orders", "NoClass", how, "label").await;
    namespace(&json!({ "metadata": { "labels": { "test": world.namespace } } }));
    world.ready("orders").await;

    let world = World::with_class("broken", |class| class.account = account("210987654321")).await;
    world.create("orders", json!({ "trustPolicy": ec2() })).await;
    let how = "The class is of another account than the operator's identity. The class says so itself, too.";
    walk.note(&world, "orders", "ClassNotReady", how, "give the operator another identity").await;
}

#[tokio::test]
async fn ten_broken_roles_say_what_the_documentation_shows() {
    let mut walk = Walk { text: String::new(), count: 0, mute: Vec::new() };
    spec_that_is_wrong(&mut walk).await;
    what_is_not_there_yet_or_not_permitted(&mut walk).await;
    names_that_are_taken(&mut walk).await;
    a_deletion_that_is_blocked(&mut walk).await;
    classes(&mut walk).await;
    assert_eq!((walk.count, walk.mute), (10, Vec::new()));
    let walked = format!(
        "{BEGIN}## Ten broken roles\n\nWhat each looks like, word for word: the event is told once, the condition stays until it is \
         mended. What the\noperator waits for is `Stalled` after two minutes, all else at once.\n\n{}{END}",
        walk.text
    );
    let text = std::fs::read_to_string(FILE).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the place of the walk");
    let (_, after) = rest.split_once(END).expect("its end");
    let wanted = format!("{before}{walked}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(FILE, &wanted).unwrap();
    }
    assert!(text == wanted || std::env::var_os("UPDATE_DOCS").is_some(), "docs/troubleshooting.md is stale:\n{walked}");
}

/// What is tried again is told once, and nothing is taken for progress meanwhile: neither by people nor by Argo CD and Flux.
#[tokio::test]
async fn a_failure_that_is_tried_again_is_no_news_and_no_progress() {
    let world = World::new("again").await;
    let name = format!("legacy-app-{}", world.namespace);
    aws::foreign_role(&world.iam, &name).await;
    // Credentials are renewed, each time under another session; and AWS has too much to do for a moment.
    let deny = |session: usize| {
        let who = format!("arn:aws:sts::123456789012:assumed-role/operator/web-identity-token-{session}");
        let message = format!("User: {who} is not authorized to perform: iam:CreateRole");
        world.proxy.refuse_instead("CreateRole", 403, "AccessDenied", &message);
    };
    world.proxy.refuse("CreateRole", &world.templated("denied"), 403, "AccessDenied", "no");
    deny(0);
    let reasons = reasons_of(&world).await;
    world.create("legacy", json!({ "roleName": name, "trustPolicy": ec2() })).await;
    world.create("denied", json!({ "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"] })).await;
    for (name, reason) in [("legacy", "RoleNotOwned"), ("denied", "AccessDenied")] {
        world.reason(name, reason).await;
        for session in 1..3 {
            deny(session);
            world.proxy.forget();
            world.check_now(name).await;
            world.reason(name, reason).await;
        }
        if name == "denied" {
            world.proxy.refuse_instead("CreateRole", 400, "Throttling", "Rate exceeded");
            world.proxy.forget();
            world.request_check(name).await;
            let tried = || async { world.proxy.actions().contains(&"CreateRole".to_owned()) };
            assert!(eventually(SOON, tried).await, "{}", world.operator.log());
            deny(3);
            world.check_now(name).await;
        }
        let told = world.events(name).await.into_iter().filter(|(_, said, _)| said == reason).count();
        assert_eq!(told, 1, "{name}: {:?}", world.events(name).await);
        let seen = reasons.lock().unwrap().get(name).cloned().unwrap_or_default();
        let first = seen.iter().position(|seen| seen == reason).expect("the reason");
        assert!(seen[first..].iter().all(|seen| seen == reason), "{name}: {seen:?}");
    }
    world.proxy.heal();
    world.check_now("denied").await;
    world.ready("denied").await;
}

/// The reasons of Ready of each object from now on, as they come.
async fn reasons_of(world: &World) -> Arc<Mutex<BTreeMap<String, Vec<String>>>> {
    let seen = Arc::new(Mutex::new(BTreeMap::<String, Vec<String>>::new()));
    let list = world.raw_roles().list(&ListParams::default()).await.expect("a list");
    let from = list.metadata.resource_version.expect("a version");
    let events = world.roles().watch(&WatchParams::default(), &from).await.expect("a watch");
    let all = seen.clone();
    tokio::spawn(events.for_each(move |event| {
        if let Ok(WatchEvent::Added(role) | WatchEvent::Modified(role)) = event
            && let Some(ready) = condition(&role, "Ready")
        {
            all.lock().unwrap().entry(role.name_any()).or_default().push(ready.reason.clone());
        }
        futures::future::ready(())
    }));
    seen
}
