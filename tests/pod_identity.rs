//! Associations of EKS Pod Identity: made, found again, kept and deleted, and those of others left alone.
//!
//! EKS is a stand-in of ours (tests/eks): no emulator has associations, and what matters is which calls are made.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod eks;
mod support;

use eks::CLUSTER;
use eks::managed::{Both, lists};
use iamrole_operator::api::IamRole;
use iamrole_operator::api::iamrole::Cause;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::{condition, ec2, eventually, every, stays};

/// Roles, or associations of others.
const MANY: usize = 30;

#[tokio::test]
async fn an_association_follows_the_list_and_goes_with_the_role() {
    let both = Both::new("assoc").await;
    let (world, arn) = (&both.world, both.arn("app"));
    world.create("app", json!({ "serviceAccounts": lists(&["api", "web", "job"]) })).await;
    both.bound("app", "True", "Bound").await;
    assert_eq!(both.roles(), ["api", "job", "web"].map(|name| (name.to_owned(), arn.clone())));
    let tags = &both.eks.of(&world.namespace)["api"]["tags"];
    for (key, value) in world.owner_tags("app", "Created").await {
        assert_eq!(tags[key], value);
    }
    world.event("app", "Created", "Association of ServiceAccount api").await;
    let status = world.status("app").await;
    assert_eq!(status.workload_identity.unwrap().service_accounts.len(), 3);
    assert!(status.last_changes.iter().any(|change| change.action == "CreatePodIdentityAssociation"));

    world.patch("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.becomes("what is not listed goes", &[("api", &arn)]).await;
    world.patch("app", json!({ "workloadIdentity": { "mechanism": "IRSA" } })).await;
    both.becomes("another mechanism", &[]).await;
    world.patch("app", json!({ "workloadIdentity": null })).await;
    both.becomes("and back", &[("api", &arn)]).await;
    world.delete("app").await;
    world.gone("app").await;
    assert!(both.roles().is_empty(), "{:?}", both.roles());
    world.event("app", "Deleted", "Association of ServiceAccount api").await;
}

/// What was asked of EKS.
#[derive(Debug)]
struct Asked {
    /// Whole lists of the namespace that were begun.
    lists: usize,
    looks: usize,
    /// Anything of one association or of one ServiceAccount.
    calls: BTreeMap<String, usize>,
}

impl Both {
    fn asked(&self) -> Asked {
        let mut calls: BTreeMap<String, usize> = BTreeMap::new();
        for call in self.eks.calls() {
            *calls.entry(call).or_default() += 1;
        }
        let lists = calls.remove("ListPodIdentityAssociations").unwrap_or_default();
        calls.remove("NextPage");
        let looks = calls.get("DescribePodIdentityAssociation").copied().unwrap_or_default();
        Asked { lists, looks, calls }
    }
}

/// However fast or slow it goes: no role reads the namespace for itself, and none looks at what belongs to another one. Not
/// even in a process that knows of nothing yet.
#[tokio::test]
async fn many_roles_of_a_namespace_go_with_few_calls_for_each() {
    let mut both = Both::new("manygo").await;
    let names: Vec<String> = (0..MANY).map(|i| format!("app-{i}")).collect();
    // The list lasts a minute, for each of the urgencies by which somebody may ask.
    let most_lists = |since: Instant| 3 * (1 + usize::try_from(since.elapsed().as_secs() / 60).unwrap());
    for is_new_process in [false, true] {
        let since = Instant::now();
        for name in &names {
            both.world.create(name, json!({ "serviceAccounts": lists(&[name]) })).await;
        }
        for name in &names {
            both.bound(name, "True", "Bound").await;
        }
        if is_new_process {
            both.world.operator.kill().await;
        }
        let made = both.asked();
        println!("while they were made: {made:?}");
        assert!(made.lists <= most_lists(since), "{made:?}");
        // A check may have come, which looks at what is there.
        assert!(made.looks <= 2 * MANY, "{made:?}");
        assert_eq!(made.calls["CreatePodIdentityAssociation"], MANY, "{made:?}");
        let since = Instant::now();
        for name in &names {
            both.world.delete(name).await;
        }
        if is_new_process {
            both.world.operator.start().await;
        }
        for name in &names {
            both.world.gone(name).await;
        }
        assert!(both.roles().is_empty(), "{:?}", both.roles());
        let gone = both.asked();
        println!("while they went: {gone:?}");
        assert_eq!(gone.calls["DeletePodIdentityAssociation"], MANY, "{gone:?}");
        // Each looks at its own, and of many that do not know yet whose one is, one asks.
        assert!(gone.looks <= 2 * MANY && gone.lists <= most_lists(since), "{gone:?}");
    }
}

#[tokio::test]
async fn what_others_made_is_looked_at_once_and_not_by_each_role() {
    let both = Both::new("once").await;
    for i in 0..MANY {
        both.eks.put(&both.world.namespace, &format!("theirs-{i}"), "arn:aws:iam::123456789012:role/theirs");
    }
    let names: Vec<String> = (0..10).map(|i| format!("app-{i}")).collect();
    for name in &names {
        both.world.create(name, json!({ "serviceAccounts": lists(&[name]) })).await;
    }
    for name in &names {
        both.bound(name, "True", "Bound").await;
    }
    for name in &names {
        both.world.delete(name).await;
    }
    for name in &names {
        both.world.gone(name).await;
    }
    assert_eq!(both.roles().len(), MANY);
    let looks = both.eks.calls().iter().filter(|call| call.starts_with("Describe")).count();
    // Each of others' once, of many who ask at once by one of them; and what is their own.
    assert!(looks <= MANY + 3 * names.len(), "{looks} looks at {MANY} of others by {} roles", names.len());
}

/// A list is no right: what the tags say is ours goes, also where nothing but the tags says so.
#[tokio::test]
async fn what_another_role_lists_is_not_hidden_from_the_one_that_made_it() {
    let mut both = Both::new("hidden").await;
    both.world.create("elder", json!({ "serviceAccounts": lists(&["api", "own"]) })).await;
    both.bound("elder", "True", "Bound").await;
    both.world.create("younger", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.bound("younger", "False", "ServiceAccountConflict").await;
    both.world.operator.kill().await;
    let none = Patch::Merge(json!({ "status": { "workloadIdentity": null } }));
    both.world.roles().patch_status("elder", &PatchParams::default(), &none).await.unwrap();
    both.world.patch("elder", json!({ "serviceAccounts": lists(&["own"]) })).await;
    both.world.delete("elder").await;
    both.world.operator.start().await;
    both.world.gone("elder").await;
    assert!(both.roles().iter().all(|(_, role)| *role == both.arn("younger")), "{:?}", both.roles());
    both.world.check_now("younger").await;
    both.becomes("the younger follows", &[("api", &both.arn("younger"))]).await;
}

#[tokio::test]
async fn a_lost_answer_and_a_lost_status_leave_nothing_behind() {
    let mut both = Both::new("lost").await;
    let arn = both.arn("app");
    both.eks.lose_next();
    both.world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.becomes("made, though nobody heard of it", &[("api", &arn)]).await;
    both.world.check_now("app").await;
    both.bound("app", "True", "Bound").await;
    assert!(both.world.status("app").await.workload_identity.is_some(), "found by its tags");

    // The status is lost, and the object is deleted before it is looked at again.
    both.world.operator.kill().await;
    let none = Patch::Merge(json!({ "status": { "workloadIdentity": null } }));
    both.world.roles().patch_status("app", &PatchParams::default(), &none).await.unwrap();
    both.world.delete("app").await;
    both.world.operator.start().await;
    both.world.gone("app").await;
    assert!(both.roles().is_empty(), "{:?}", both.roles());
}

#[tokio::test]
async fn what_was_asked_for_before_an_answer_was_lost_goes_with_the_entry_and_with_the_role() {
    let mut both = Both::new("unheard").await;
    let plain = json!({ "trustPolicy": ec2(), "serviceAccounts": null });
    both.eks.lose_next();
    both.world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.becomes("made, though nobody heard of it", &[("api", &both.arn("app"))]).await;
    // The process ends, and nothing lists the ServiceAccount any more.
    both.world.operator.kill().await;
    both.world.patch("app", plain.clone()).await;
    both.world.operator.start().await;
    both.becomes("found by what status says was asked for", &[]).await;

    both.eks.lose_next();
    both.world.create("gone", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.becomes("made, though nobody heard of it", &[("api", &both.arn("gone"))]).await;
    both.world.operator.kill().await;
    both.world.patch("gone", plain).await;
    both.world.delete("gone").await;
    both.world.operator.start().await;
    both.world.gone("gone").await;
    assert!(both.roles().is_empty(), "{:?}", both.roles());
}

/// Somebody deleted one, and the answer to making it anew was lost: status has the ARN of the one that is gone.
#[tokio::test]
async fn what_was_made_anew_without_an_answer_goes_with_the_entry_and_with_the_role() {
    let mut both = Both::new("anew").await;
    for name in ["entry", "role"] {
        both.world.create(name, json!({ "serviceAccounts": lists(&[name]) })).await;
        both.bound(name, "True", "Bound").await;
        let before = both.eks.of(&both.world.namespace)[name]["associationArn"].clone();
        both.eks.remove(&both.world.namespace, name);
        both.eks.lose_next();
        both.world.request_check(name).await;
        let is_anew = || async {
            both.eks.of(&both.world.namespace).get(name).is_some_and(|one| one["associationArn"] != before)
        };
        assert!(eventually(support::SOON, is_anew).await, "made, though nobody heard of it");
        both.world.operator.kill().await;
        if name == "entry" {
            both.world.patch(name, json!({ "trustPolicy": ec2(), "serviceAccounts": null })).await;
        } else {
            both.world.delete(name).await;
        }
        both.world.operator.start().await;
        both.becomes("found by its ServiceAccount", &[]).await;
    }
    both.world.gone("role").await;
}

#[tokio::test]
async fn what_is_not_of_one_role_is_still_looked_at_for_another() {
    let both = Both::new("twogo").await;
    let world = &both.world;
    world.create("heard", json!({ "serviceAccounts": lists(&["one"]) })).await;
    both.bound("heard", "True", "Bound").await;
    both.eks.lose_next();
    world.create("unheard", json!({ "serviceAccounts": lists(&["two"]) })).await;
    both.becomes("both", &[("one", &both.arn("heard")), ("two", &both.arn("unheard"))]).await;
    world.delete("heard").await;
    world.gone("heard").await;
    both.becomes("that of the other stays", &[("two", &both.arn("unheard"))]).await;
    world.delete("unheard").await;
    world.gone("unheard").await;
    assert!(both.roles().is_empty(), "{:?}", both.roles());
}

#[tokio::test]
async fn what_was_made_in_another_cluster_is_told_until_the_cluster_is_back_and_not_forgotten_with_the_role() {
    let mut both = Both::new("moved").await;
    let elsewhere = "arn:aws:eks:eu-central-1:123456789012:cluster/another";
    for name in ["app", "gone"] {
        both.world.create(name, json!({ "serviceAccounts": lists(&[name]) })).await;
        both.bound(name, "True", "Bound").await;
    }
    let associations = both.eks.of(&both.world.namespace);
    let of = |name: &str| associations[name]["associationArn"].as_str().unwrap().to_owned();
    both.world.operator.kill().await;
    for name in ["app", "gone"] {
        both.world.patch(name, json!({ "workloadIdentity": { "mechanism": "IRSA" } })).await;
    }
    both.cluster(elsewhere).await;
    for name in ["app", "gone"] {
        let told = |role: &IamRole| {
            let bound = condition(role, "IdentityBound");
            bound.is_some_and(|bound| bound.message.contains(&of(name)) && bound.message.contains("cluster.arn"))
        };
        both.world.until(name, "told of its association", told).await;
    }
    assert_eq!(
        both.eks.unknown_clusters(),
        0,
        "nothing is asked, not even in the other cluster: nothing is wanted there"
    );
    both.world.delete("gone").await;
    both.world.gone("gone").await;
    both.world.event("gone", "Retained", &of("gone")).await;
    assert_eq!(both.roles().len(), 2);

    both.world.operator.kill().await;
    both.cluster(CLUSTER).await;
    both.becomes("the cluster is back", &[("gone", &both.arn("gone"))]).await;
    let forgotten = |role: &IamRole| {
        let bound = condition(role, "IdentityBound").map(|bound| bound.message.clone()).unwrap_or_default();
        !bound.contains(&of("app"))
    };
    both.world.until("app", "nothing to tell any more", forgotten).await;
}

#[tokio::test]
async fn what_others_made_stays_and_what_they_change_is_repaired() {
    let both = Both::new("theirs").await;
    let (world, namespace) = (&both.world, &both.world.namespace);
    both.eks.put(namespace, "taken", "arn:aws:iam::123456789012:role/theirs");
    both.eks.put(namespace, "same", &both.arn("app"));
    both.eks.put(namespace, "unlisted", "arn:aws:iam::123456789012:role/theirs");
    world.create("app", json!({ "serviceAccounts": lists(&["taken", "same", "mine"]) })).await;
    let message = both.bound("app", "False", "ServiceAccountConflict").await;
    assert!(message.contains("ServiceAccount taken") && message.contains("role/theirs"), "{message}");
    assert!(!message.contains("same"), "{message}");
    world.ready("app").await;

    both.eks.change(namespace, "mine", "arn:aws:iam::123456789012:role/other");
    world.check_now("app").await;
    let repaired = eventually(support::SOON, || async { both.eks.of(namespace)["mine"]["roleArn"] == both.arn("app") });
    assert!(repaired.await, "{:?}", both.roles());
    world.event("app", "DriftRepaired", "ServiceAccount mine").await;
    both.eks.remove(namespace, "mine");
    both.eks.remove(namespace, "taken");
    world.check_now("app").await;
    both.bound("app", "True", "Bound").await;

    world.delete("app").await;
    world.gone("app").await;
    let theirs = "arn:aws:iam::123456789012:role/theirs";
    both.becomes("theirs stay", &[("same", &both.arn("app")), ("unlisted", theirs)]).await;
}

#[tokio::test]
async fn an_association_without_session_tags_or_with_another_role_behind_is_not_as_wanted() {
    let both = Both::new("odd").await;
    let (world, namespace) = (&both.world, &both.world.namespace);
    let (untagged, target) = (json!({ "disableSessionTags": true }), "arn:aws:iam::210987654321:role/behind");
    let odd = [("tags", untagged), ("behind", json!({ "targetRoleArn": target }))];
    for (name, members) in &odd {
        both.eks.put(namespace, name, &both.arn("theirs"));
        both.eks.set(namespace, name, members);
    }
    world.create("theirs", json!({ "serviceAccounts": lists(&["tags", "behind"]) })).await;
    let message = both.bound("theirs", "False", "ServiceAccountConflict").await;
    assert!(message.contains("ServiceAccount tags") && message.contains("without session tags"), "{message}");
    assert!(message.contains("ServiceAccount behind") && message.contains(target), "{message}");

    world.create("app", json!({ "serviceAccounts": lists(&["a", "b"]) })).await;
    both.bound("app", "True", "Bound").await;
    for (name, (_, members)) in ["a", "b"].iter().zip(&odd) {
        both.eks.set(namespace, name, members);
    }
    world.check_now("app").await;
    let repaired = eventually(support::SOON, || async {
        let all = both.eks.of(namespace);
        all["a"]["disableSessionTags"] == false && all["b"].get("targetRoleArn").is_none()
    });
    assert!(repaired.await, "{:?}", both.eks.of(namespace));
    for name in ["a", "b"] {
        world.event("app", "DriftRepaired", &format!("ServiceAccount {name}")).await;
    }
    both.eks.calls();
    world.check_now("app").await;
    assert!(!both.eks.calls().iter().any(|call| call.starts_with("Update")), "once");
}

#[tokio::test]
async fn of_two_roles_the_younger_is_told_and_follows() {
    let both = Both::new("tworoles").await;
    let world = &both.world;
    world.create("elder", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.bound("elder", "True", "Bound").await;
    world.create("younger", json!({ "serviceAccounts": lists(&["api"]) })).await;
    let message = both.bound("younger", "False", "ServiceAccountConflict").await;
    assert!(message.contains("IamRole elder"), "{message}");
    world.delete("younger").await;
    world.gone("younger").await;
    both.becomes("the elder's stays", &[("api", &both.arn("elder"))]).await;
    world.create("younger", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.bound("younger", "False", "ServiceAccountConflict").await;
    world.delete("elder").await;
    world.gone("elder").await;
    both.becomes("the younger follows", &[("api", &both.arn("younger"))]).await;
    both.bound("younger", "True", "Bound").await;
}

#[tokio::test]
async fn who_only_observes_keeps_nobody_from_a_service_account() {
    let both = Both::new("observes").await;
    let world = &both.world;
    world.create("elder", json!({ "serviceAccounts": lists(&["api"]), "mode": "Observe" })).await;
    world.reason("elder", "ChangesPending").await;
    world.create("younger", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.bound("younger", "True", "Bound").await;
    // Who has it keeps it.
    world.patch("elder", json!({ "mode": null })).await;
    let message = both.bound("elder", "False", "ServiceAccountConflict").await;
    assert!(message.contains("IamRole younger"), "{message}");
    world.check_now("younger").await;
    both.becomes("the younger's stays", &[("api", &both.arn("younger"))]).await;
}

#[tokio::test]
async fn eks_may_see_a_role_later_than_iam_and_is_asked_again_soon() {
    let both = Both::new("late").await;
    let world = &both.world;
    both.eks.refuse_only(Some("CreatePodIdentityAssociation"));
    both.eks.refuse(Some("InvalidParameterException"));
    world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    let message = both.bound("app", "Unknown", "Busy").await;
    assert!(message.contains("ServiceAccount api") && message.contains("does not know"), "{message}");
    world.ready("app").await;
    both.eks.refuse(None);
    both.bound("app", "True", "Bound").await;
    both.becomes("made as soon as EKS knows the role", &[("api", &both.arn("app"))]).await;
    world.event("app", "Created", "Association of ServiceAccount api").await;
    let events = world.events("app").await;
    let accuses = |(tone, reason, _): &(String, String, String)| tone == "Warning" || reason == "DriftRepaired";
    assert!(!events.iter().any(accuses), "{events:?}");
    let changes = world.status("app").await.last_changes;
    assert!(changes.iter().all(|change| change.cause != Cause::Drift), "{changes:?}");
}

/// The class says otherwise: what was made before would give pods a role that lets them in no more.
#[tokio::test]
async fn what_the_class_made_before_goes_when_it_makes_none_any_more() {
    let both = Both::new("gives-up").await;
    let (world, arn) = (&both.world, both.arn("app"));
    world.create("app", json!({ "serviceAccounts": lists(&["api", "web"]) })).await;
    both.bound("app", "True", "Bound").await;
    let none = json!({ "workloadIdentity": { "podIdentity": { "associations": "None" } } });
    world.patch_class(none).await;
    both.bound("app", "Unknown", "BindingNotManaged").await;
    both.becomes("what is listed stays", &[("api", &arn), ("web", &arn)]).await;
    world.patch("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.becomes("what is not listed goes", &[("api", &arn)]).await;
    world.patch_class(json!({ "workloadIdentity": { "mechanism": "IRSA", "podIdentity": null } })).await;
    both.becomes("another mechanism", &[]).await;
}

#[tokio::test]
async fn a_settled_role_costs_few_calls_and_no_write_and_only_its_own_namespace_is_asked_for() {
    let both = Both::new("calm").await;
    let world = &both.world;
    world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    world.create("plain", json!({ "trustPolicy": ec2() })).await;
    both.bound("app", "True", "Bound").await;
    world.ready("plain").await;
    both.eks.calls();
    world.check_now("app").await;
    world.check_now("plain").await;
    let asked = both.asked();
    assert!(asked.lists <= 1 && asked.looks == 1 && asked.calls.len() == 1, "{asked:?}");
    let writes = world.writes_to("app").await;
    let quiet = stays(Duration::from_secs(2), || async { writes.lock().unwrap().is_empty() }).await;
    assert!(quiet && both.eks.calls().is_empty());
    world.delete("plain").await;
    world.gone("plain").await;
    assert!(both.eks.calls().is_empty(), "a role without ServiceAccounts has nothing in EKS");
}

#[tokio::test]
async fn without_the_rights_the_role_is_served_and_its_deletion_waits_for_them() {
    let both = Both::new("denied").await;
    let world = &both.world;
    world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.bound("app", "True", "Bound").await;
    both.eks.refuse(Some("AccessDeniedException"));
    world.check_now("app").await;
    let message = both.bound("app", "Unknown", "AccessDenied").await;
    assert!(message.contains("eks:DescribePodIdentityAssociation"), "{message}");
    world.ready("app").await;
    world.delete("app").await;
    let message = world.reason("app", "AccessDenied").await;
    assert!(message.contains("eks:DescribePodIdentityAssociation"), "{message}");
    both.eks.refuse(None);
    world.request_check("app").await;
    world.gone("app").await;
    assert!(both.roles().is_empty());
}

#[tokio::test]
async fn each_right_that_is_missing_is_named_and_taken_up_once_it_is_there() {
    let both = Both::new("rights").await;
    let (world, namespace) = (&both.world, &both.world.namespace);
    let calls = [
        "ListPodIdentityAssociations",
        "CreatePodIdentityAssociation",
        "DescribePodIdentityAssociation",
        "UpdatePodIdentityAssociation",
        "DeletePodIdentityAssociation",
    ];
    for call in calls {
        both.eks.refuse_only(Some(call));
        let app = call.to_lowercase();
        let list = |names: &[&str]| json!({ "serviceAccounts": lists(names) });
        if !["ListPodIdentityAssociations", "CreatePodIdentityAssociation"].contains(&call) {
            world.create(&app, list(&[&app, "other"])).await;
            both.bound(&app, "True", "Bound").await;
        }
        both.eks.refuse(Some("AccessDeniedException"));
        match call {
            "UpdatePodIdentityAssociation" => both.eks.change(namespace, &app, "arn:aws:iam::123456789012:role/x"),
            "DeletePodIdentityAssociation" => world.patch(&app, list(&[&app])).await,
            "DescribePodIdentityAssociation" => {}
            _ => world.create(&app, list(&[&app])).await,
        }
        world.request_check(&app).await;
        let message = both.bound(&app, "Unknown", "AccessDenied").await;
        assert!(message.contains(&format!("eks:{call}")), "{message}");
        world.ready(&app).await;
        both.eks.refuse(None);
        world.request_check(&app).await;
        both.bound(&app, "True", "Bound").await;
        world.delete(&app).await;
        world.gone(&app).await;
        assert!(both.roles().is_empty(), "{call}: {:?}", both.roles());
    }
}

#[tokio::test]
async fn a_class_that_leaves_them_to_others_asks_eks_for_nothing() {
    let both = Both::with("none", None).await;
    both.world.patch_class(json!({ "driftCheck": every(5) })).await;
    both.world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
    both.world.ready("app").await;
    let message = both.bound("app", "Unknown", "BindingNotManaged").await;
    assert!(message.contains("create-pod-identity-association") && message.contains(&both.arn("app")), "{message}");
    both.world.delete("app").await;
    both.world.gone("app").await;
    assert!(both.eks.calls().is_empty());
}

#[tokio::test]
async fn a_cluster_that_is_known_by_region_and_name_gets_new_trust_once_it_moves_and_that_is_no_drift() {
    let mut both = Both::with("region", None).await;
    for region in ["eu-central-1", "eu-west-1"] {
        both.world.operator.stop().await;
        let arguments = &mut both.world.operator.arguments;
        arguments.retain(|argument| !argument.starts_with("--cluster-"));
        arguments.push(format!("--cluster-region={region}"));
        both.world.operator.start().await;
        if region == "eu-central-1" {
            both.world.create("app", json!({ "serviceAccounts": lists(&["api"]) })).await;
        }
        let of = format!("arn:aws:eks:{region}:123456789012:cluster/{}", both.world.operator.cluster);
        let trusts = |role: &IamRole| {
            let status = role.status.as_ref().and_then(|status| status.workload_identity.as_ref());
            status.is_some_and(|status| status.cluster_arn.as_deref() == Some(of.as_str()))
        };
        both.world.until("app", region, trusts).await;
    }
    both.world.event("app", "Updated", "trust").await;
    assert!(!both.world.events("app").await.iter().any(|(_, reason, _)| reason == "DriftRepaired"));
}

#[tokio::test]
async fn forged_status_asks_for_nothing_elsewhere_and_takes_nothing_from_others() {
    let both = Both::new("forged").await;
    let (world, namespace) = (&both.world, &both.world.namespace);
    world.create("app", json!({ "serviceAccounts": lists(&["mine"]) })).await;
    both.bound("app", "True", "Bound").await;
    let role = "arn:aws:iam::123456789012:role/theirs";
    both.eks.put("elsewhere", "theirs", role);
    both.eks.put(namespace, "theirs", role);
    let of = |namespace: &str| both.eks.of(namespace)["theirs"]["associationArn"].as_str().unwrap().to_owned();
    let (elsewhere, here) = (of("elsewhere"), of(namespace));
    let forged = [
        ("elsewhere", elsewhere.as_str()),
        ("here", here.as_str()),
        ("region", "arn:aws:eks:us-east-1:123456789012:podidentityassociation/x/a-1"),
        ("cluster", "arn:aws:eks:eu-central-1:123456789012:podidentityassociation/another/a-1"),
        ("account", "arn:aws:eks:eu-central-1:210987654321:podidentityassociation/prod/a-1"),
        ("nonsense", "../../x"),
    ];
    let accounts: Vec<Value> =
        forged.iter().map(|(name, arn)| json!({ "name": name, "associationArn": arn, "annotated": true })).collect();
    let patch = Patch::Merge(json!({ "status": { "workloadIdentity": { "serviceAccounts": accounts } } }));
    both.eks.calls();
    world.roles().patch_status("app", &PatchParams::default(), &patch).await.unwrap();
    world.check_now("app").await;
    // Forged or not can't be told: those of this account are named, and hold up nothing.
    let message = both.bound("app", "Unknown", "BindingNotManaged").await;
    assert!(message.contains(":podidentityassociation/another/a-1"), "{message}");
    assert!(!message.contains("210987654321") && !message.contains("../") && !message.contains(&here), "{message}");
    world.delete("app").await;
    world.gone("app").await;
    assert_eq!(both.eks.of("elsewhere").len(), 1);
    both.becomes("theirs stays, mine is gone", &[("theirs", role)]).await;
    let calls = both.eks.calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("Delete")).count(), 1, "{calls:?}");
    assert_eq!(both.eks.unknown_clusters(), 0, "no other cluster is asked");
}
