//! Which class a role gets, and what is said when there is none, more than one, or one that can't be used.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use iamrole_operator::api::iamroleclass::Allowed;
use iamrole_operator::api::schema::Selector;
use iamrole_operator::api::{IamRoleClass, IamRoleClassSpec};
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{SOON, World, account, aws, condition, ec2, eventually};

fn role() -> Value {
    json!({ "trustPolicy": ec2() })
}

fn select(key: &str, value: &str) -> Selector {
    Selector { match_labels: BTreeMap::from([(key.to_owned(), value.to_owned())]), ..Selector::default() }
}

/// A class like the world's own.
fn another(world: &World) -> IamRoleClassSpec {
    IamRoleClassSpec {
        namespace_selector: select("test", &world.namespace),
        unbounded: Some(true),
        allowed: Some(Allowed::everything()),
        controller: Some(world.operator.controller.clone()),
        ..IamRoleClassSpec::default()
    }
}

async fn label_namespace(world: &World, key: &str, value: &str) {
    let api: Api<Namespace> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({ "metadata": { "labels": { key: value } } }));
    api.patch(&world.namespace, &PatchParams::default(), &patch).await.expect("a label");
}

async fn patch_class(world: &World, name: &str, patch: Value) {
    world.classes().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("a patch");
}

/// Waits until the class is ready, or not ready for this reason; returns the message.
async fn class_reason(world: &World, name: &str, reason: &str) -> String {
    let ready = |class: &IamRoleClass| {
        let conditions = class.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        let current = class.metadata.generation;
        conditions.into_iter().find(|c| c.type_ == "Ready" && c.reason == reason && c.observed_generation == current)
    };
    let there = eventually(SOON, || async { ready(&world.classes().get(name).await.expect("the class")).is_some() });
    let reached = there.await;
    let class = world.classes().get(name).await.expect("the class");
    assert!(reached, "class {name} never got to {reason}: {:#?}", class.status);
    ready(&class).expect("the condition").message
}

#[tokio::test]
async fn a_namespace_that_no_class_selects_is_told_so_and_a_label_heals_it() {
    let world = World::with_class("noclass", |class| {
        class.namespace_selector.match_labels.insert("open".to_owned(), "yes".to_owned());
    })
    .await;
    world.create("waits", role()).await;
    let message = world.reason("waits", "NoClass").await;
    assert!(message.contains(&format!("no default IamRoleClass selects namespace {}", world.namespace)), "{message}");
    assert!(message.contains("ask an admin to label it") && message.contains("iamrole.dev/enabled=true"), "{message}");
    assert_eq!(world.proxy.actions(), Vec::<String>::new(), "without a class nothing is asked of AWS");
    world.event("waits", "NoClass", "no default IamRoleClass").await;
    label_namespace(&world, "open", "yes").await;
    world.ready("waits").await;
}

#[tokio::test]
async fn of_two_default_classes_none_is_taken_and_both_are_named() {
    let world = World::new("noclass").await;
    let second = format!("{}-second", world.namespace);
    world.create_class(&second, another(&world), true).await;
    // Else the role may be faster: a class once found is kept.
    class_reason(&world, &second, "Applied").await;
    world.create("torn", role()).await;
    let message = world.reason("torn", "NoClass").await;
    assert!(message.contains("more than one default IamRoleClass"), "{message}");
    assert!(message.contains(&format!("{}, {second}", world.namespace)), "both, in order: {message}");
    assert!(message.contains("name one in spec.roleClassName"), "{message}");
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
    world.patch("torn", json!({ "roleClassName": second })).await;
    let object = world.ready("torn").await;
    assert_eq!(object.status.unwrap().class.unwrap().name, second);
}

#[tokio::test]
async fn a_class_that_is_not_there_is_named_and_taken_once_it_is() {
    let world = World::new("noclass").await;
    let later = format!("{}-later", world.namespace);
    world.create("early", json!({ "trustPolicy": ec2(), "roleClassName": later })).await;
    let message = world.reason("early", "NoClass").await;
    assert!(message.contains(&format!("there is no IamRoleClass {later}")), "{message}");
    assert!(message.contains("kubectl get iamroleclasses"), "{message}");
    world.create_class(&later, another(&world), false).await;
    world.ready("early").await;
}

#[tokio::test]
async fn a_named_class_must_select_the_namespace() {
    let world = World::new("noclass").await;
    let closed = format!("{}-closed", world.namespace);
    let spec = IamRoleClassSpec { namespace_selector: select("open", "yes"), ..another(&world) };
    world.create_class(&closed, spec, false).await;
    // Until the operator has seen it, there is none.
    class_reason(&world, &closed, "Applied").await;
    world.create("outside", json!({ "trustPolicy": ec2(), "roleClassName": closed })).await;
    let message = world.reason("outside", "NoClass").await;
    assert!(message.contains(&format!("{closed} does not select namespace {}", world.namespace)), "{message}");
    assert!(message.contains("ask an admin to label the namespace"), "{message}");
    label_namespace(&world, "open", "yes").await;
    world.ready("outside").await;
}

#[tokio::test]
async fn a_class_of_another_account_is_refused_before_any_call_to_iam() {
    let world = World::with_class("account", |class| class.account = account("210987654321")).await;
    world.create("lost", role()).await;
    let said = class_reason(&world, &world.namespace, "AccountMismatch").await;
    for part in ["123456789012", "spec.account.id says 210987654321", "make a class for 123456789012"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let message = world.reason("lost", "ClassNotReady").await;
    assert!(message.contains(&world.namespace) && message.contains(&said), "the class's own words: {message}");
    let role = world.get("lost").await;
    assert!(role.metadata.finalizers.is_none(), "nothing of it is in AWS");
    let asked: Vec<String> = world.proxy.all().into_iter().map(|call| call.action).collect();
    assert!(asked.iter().all(|action| action == "GetCallerIdentity"), "{asked:?}");
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let class = world.namespace.clone();
    let told = eventually(SOON, || async {
        let list = events.list(&ListParams::default()).await.expect("events").items;
        list.iter().any(|e| {
            e.involved_object.name.as_deref() == Some(&class) && e.reason.as_deref() == Some("AccountMismatch")
        })
    });
    assert!(told.await, "a Warning on the class too");

    let error = world
        .classes()
        .patch(
            &class,
            &PatchParams::default(),
            &Patch::Merge(json!({ "spec": { "account": { "id": "123456789012" } } })),
        )
        .await
        .expect_err("the id is fixed")
        .to_string();
    assert!(error.contains("account.id can't be changed once set; make a new class"), "{error}");
    let right = format!("{class}-right");
    let spec = IamRoleClassSpec { account: account("123456789012"), ..another(&world) };
    world.create_class(&right, spec, false).await;
    world.patch("lost", json!({ "roleClassName": right })).await;
    world.ready("lost").await;
}

#[tokio::test]
async fn a_forced_boundary_wins_and_another_one_is_refused() {
    let name = format!("forced-{}", std::process::id());
    let forced = format!("arn:$(partition):iam::$(account):policy/{name}");
    let mut world = World::without_operator("forced", |class| {
        class.unbounded = None;
        class.permissions_boundary = Some(forced.clone());
    })
    .await;
    let arn = aws::foreign_policy(&world.iam, &name).await;
    world.operator.start().await;
    world
        .create(
            "other",
            json!({ "trustPolicy": ec2(), "permissionsBoundary": "arn:aws:iam::123456789012:policy/mine" }),
        )
        .await;
    let message = world.reason("other", "NotAllowed").await;
    assert!(message.starts_with("spec.permissionsBoundary: "), "{message}");
    for part in [arn.as_str(), "remove the field", &world.namespace] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(world.proxy.writes(), Vec::<String>::new());
    world.patch("other", json!({ "permissionsBoundary": null })).await;
    world.ready("other").await;
    let role = aws::role(&world.iam, &world.templated("other")).await.expect("the role");
    assert_eq!(role.boundary, Some(arn));
    // The same boundary, written out, is no conflict.
    world.create("same", json!({ "trustPolicy": ec2(), "permissionsBoundary": forced })).await;
    world.ready("same").await;
}

#[tokio::test]
async fn a_tag_of_the_class_is_added_and_can_not_be_set_by_a_role() {
    let tags = BTreeMap::from([("Team".to_owned(), "$(namespace)".to_owned())]);
    let world = World::with_class("tags", |class| class.tags = Some(tags)).await;
    for (name, key) in [("same", "Team"), ("other-case", "TEAM")] {
        world.create(name, json!({ "trustPolicy": ec2(), "tags": { key: "mine" } })).await;
        let message = world.reason(name, "NotAllowed").await;
        assert!(message.starts_with(&format!("spec.tags[{key}]: ")), "{message}");
        for part in ["the class sets Team", "remove it", &world.namespace] {
            assert!(message.contains(part), "{part}: {message}");
        }
        world.event(name, "NotAllowed", "the class sets Team").await;
        assert!(condition(&world.get(name).await, "Stalled").is_some());
    }
    assert_eq!(world.proxy.actions(), Vec::<String>::new());
    for name in ["same", "other-case"] {
        world.patch(name, json!({ "tags": null })).await;
        world.ready(name).await;
        let role = aws::role(&world.iam, &world.templated(name)).await.expect("the role");
        assert_eq!(role.tags, [("Team".to_owned(), world.namespace.clone())].into());
    }
}

#[tokio::test]
async fn a_suspended_class_suspends_its_roles_and_says_who_does() {
    let world = World::with_class("suspend", |class| class.suspend = Some(true)).await;
    world.create("still", role()).await;
    let object = world.condition("still", "Ready", "Unknown", Some("Suspended")).await;
    let message = &condition(&object, "Ready").unwrap().message;
    assert!(message.contains("its class") && message.contains("take that away to resume"), "{message}");
    assert_eq!(world.proxy.actions(), Vec::<String>::new());
    patch_class(&world, &world.namespace, json!({ "spec": { "suspend": null } })).await;
    world.ready("still").await;
}

#[tokio::test]
async fn a_class_in_use_stays_until_its_last_role_is_gone() {
    let world = World::new("inuse").await;
    let class = world.namespace.clone();
    world.create("last", role()).await;
    world.ready("last").await;
    world.classes().delete(&class, &DeleteParams::default()).await.expect("a deletion");
    let is_known = || async {
        let class = world.classes().get(&class).await.expect("the class");
        let observed = class.status.and_then(|status| status.observed_generation);
        class.metadata.deletion_timestamp.is_some() && observed == class.metadata.generation
    };
    assert!(eventually(SOON, is_known).await, "{}", world.operator.log());
    world.create("late", json!({ "trustPolicy": ec2(), "roleClassName": class })).await;
    let message = world.reason("late", "NoClass").await;
    assert!(message.contains("is being deleted; name another one"), "{message}");
    assert!(world.classes().get_opt(&class).await.expect("an answer").is_some(), "a role still needs it");
    world.delete("last").await;
    world.gone("last").await;
    assert_eq!(aws::role(&world.iam, &world.templated("last")).await, None);
    let gone = eventually(SOON, || async { world.classes().get_opt(&class).await.expect("an answer").is_none() });
    assert!(gone.await, "nothing holds the class any more");
}

#[tokio::test]
async fn a_class_that_was_in_order_a_moment_ago_is_looked_at_when_somebody_asks_or_credentials_end() {
    let world = World::new("classes").await;
    world.create("app", role()).await;
    world.ready("app").await;
    world.proxy.forget();
    let ask = Patch::Merge(json!({ "metadata": { "annotations": { "iamrole.dev/reconcile-requested-at": "now" } } }));
    world.classes().patch(&world.namespace, &PatchParams::default(), &ask).await.expect("an annotation");
    let looked = || async { world.proxy.all().iter().any(|call| call.action == "GetCallerIdentity") };
    assert!(eventually(SOON, looked).await, "{}", world.operator.log());

    for call in ["GetRole", "GetCallerIdentity"] {
        world.proxy.refuse(call, "", 403, "ExpiredToken", "The security token included in the request is expired");
    }
    world.request_check("app").await;
    let said = || async {
        let class = world.classes().get(&world.namespace).await.expect("the class");
        let conditions = class.status.map(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.reason == "NoCredentials")
    };
    assert!(eventually(SOON, said).await, "{}", world.operator.log());
    world.proxy.heal();
    world.ready("app").await;
}
