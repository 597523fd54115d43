//! AWS that never shows a document as it was written, and strangers who keep changing one: over days the operator's
//! writes stay few, what it reports is true, and it is well again as soon as AWS is.

use super::iam::{ACCOUNT, Iam};
use super::lives::{Life, created};
use super::operator::Operator;
use super::world::World;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);

fn spec() -> Value {
    json!({
        "roleName": "api",
        "tags": { "team": "shop" },
        "trustPolicy": { "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": { "AWS": "arn:aws:sts::123456789012:assumed-role/R/S" } }] },
        "inlinePolicies": [{ "name": "guard", "document": { "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "s3:Get", "Resource": "*" },
            { "Effect": "Deny", "Action": "s3:Put", "Resource": "arn:aws:s3:::bucket" }] } }],
    })
}

/// Replaces texts in the documents of the role.
fn reword(iam: &mut Iam, words: &[(&str, &str)]) {
    for role in iam.roles.values_mut() {
        for document in std::iter::once(&mut role.trust).chain(role.inline.values_mut()) {
            for (from, to) in words {
                *document = document.replace(from, to);
            }
        }
    }
}

/// The operator and its stand-ins for so long; after each of its turns, `meddle`. Calls that write to the documents.
async fn live(world: &Arc<World>, operator: &mut Operator, long: Duration, meddle: impl Fn(&mut Iam)) -> Vec<String> {
    let end = tokio::time::Instant::now() + long;
    let before = world.lock().calls.len();
    while tokio::time::Instant::now() < end {
        let again = operator.reconcile().await.expect("it lives");
        world.lock().meddle(&meddle);
        tokio::time::sleep(again.expect("it looks again")).await;
    }
    let writes = ["UpdateAssumeRolePolicy", "PutRolePolicy"];
    let calls = world.lock().calls[before..].to_vec();
    calls.into_iter().map(|call| call.what).filter(|what| writes.iter().any(|write| what.starts_with(write))).collect()
}

fn condition(world: &World, kind: &str) -> (String, String) {
    let inner = world.lock();
    let conditions = inner.cluster.role.as_ref().expect("an object")["status"]["conditions"].clone();
    let found = conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == kind).cloned();
    let text = |name: &str| found.as_ref().and_then(|found| found[name].as_str()).unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

fn contested(world: &World) -> bool {
    let is = |kind, status: &str| condition(world, kind) == (status.to_owned(), "Contested".to_owned());
    is("Ready", "False") && is("Drifted", "True")
}

fn in_virtual_time(test: impl AsyncFnOnce(Arc<World>, Operator)) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().expect("a runtime").block_on(async {
        let Life { iam, mut cluster, strangers, .. } = created();
        cluster.apply(&spec());
        let laws = super::meaning::Laws {
            role: "api".to_owned(),
            ends: None,
            strangers,
            adoptable: false,
            keeps: true,
            heir_of: vec![],
        };
        let world = World::new(iam, cluster, laws, None, None);
        let operator = Operator::start(&world, 0).await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        test(world, operator).await;
    });
}

#[test]
fn what_aws_words_in_its_own_way_is_written_ever_more_rarely_and_well_again_by_itself() {
    let wordings: [&[(&str, &str)]; 4] = [
        &[("arn:aws:sts::123456789012:assumed-role/R/S", "arn:aws:iam::123456789012:role/R")],
        &[("arn:aws:sts::123456789012:assumed-role/R/S", "AROAEXAMPLEEXAMPLE123")],
        &[("arn:aws:s3:::bucket", "arn:aws:s3:::in-other-words")],
        &[("\"Deny\"", "\"Allow\"")],
    ];
    for words in wordings {
        in_virtual_time(async |world, mut operator| {
            let own_words = |iam: &mut Iam| reword(iam, words);
            let written = live(&world, &mut operator, HOUR / 2, own_words).await;
            // The first one of an inline policy makes it.
            assert!((1..=3).contains(&written.len()), "{words:?}: {written:?}");
            assert!(contested(&world), "{words:?}: {:?}", condition(&world, "Ready"));
            let written = live(&world, &mut operator, 48 * HOUR, own_words).await;
            assert_eq!(written.len(), 3, "after 1 hour, 6 and 24: {words:?}: {written:?}");
            assert!(contested(&world), "{words:?}");
            let understood: Vec<(&str, &str)> = words.iter().map(|(from, to)| (*to, *from)).collect();
            if words[0].1 != "\"Allow\"" {
                world.lock().meddle(|iam| reword(iam, &understood));
                let written = live(&world, &mut operator, HOUR, |_| {}).await;
                assert_eq!((written.len(), condition(&world, "Ready").0.as_str()), (0, "True"), "{words:?}");
            }
        });
    }
}

#[test]
fn what_somebody_adds_to_a_document_that_was_seen_right_is_taken_away_for_as_long_as_it_comes_back() {
    in_virtual_time(async |world, mut operator| {
        live(&world, &mut operator, HOUR, |_| {}).await;
        assert_eq!(condition(&world, "Ready").0, "True");
        let more = |iam: &mut Iam| {
            reword(iam, &[("arn:aws:sts::123456789012:assumed-role/R/S", "arn:aws:iam::444455556666:root")]);
        };
        world.lock().meddle(more);
        let written = live(&world, &mut operator, 10 * HOUR, more).await;
        assert!((27..=33).contains(&written.len()), "three times an hour: {}", written.len());
        assert!(contested(&world));
    });
}

#[test]
fn what_strangers_attach_goes_also_where_a_document_is_contested() {
    let wordings = [
        ("arn:aws:s3:::bucket", "arn:aws:s3:::in-other-words"),
        ("arn:aws:sts::123456789012:assumed-role/R/S", "arn:aws:iam::123456789012:role/R"),
    ];
    for words in wordings {
        in_virtual_time(async |world, mut operator| {
            let own_words = |iam: &mut Iam| reword(iam, &[words]);
            live(&world, &mut operator, HOUR / 2, own_words).await;
            assert!(contested(&world));
            let foreign = format!("arn:aws:iam::{ACCOUNT}:policy/foreign");
            world.lock().meddle(|iam| {
                iam.roles.get_mut("api").expect("a role").managed.insert(foreign);
            });
            live(&world, &mut operator, HOUR / 4, own_words).await;
            let left = world.lock().iam.roles["api"].managed.clone();
            assert!(left.is_empty() && contested(&world), "{words:?}: {left:?}");
            let role = world.lock().cluster.role.clone().expect("an object");
            let message = role["status"]["conditions"][0]["message"].as_str().expect("a message").to_owned();
            assert_eq!(message.matches("for now").count(), 1, "told once, whatever the number of steps: {message}");
        });
    }
}

fn look_often(world: &World) {
    world.lock().cluster.class["spec"]["driftCheck"] = json!({ "method": "Role", "intervalSeconds": 300 });
}

#[test]
fn what_strangers_attach_goes_also_where_a_tag_is_contested() {
    for tag in ["iamrole.dev/origin", "iamrole.dev/class", "team"] {
        in_virtual_time(async |world, mut operator| {
            look_often(&world);
            let untag = |iam: &mut Iam| {
                let role = iam.roles.get_mut("api").expect("a role");
                role.tags.retain(|key, _| !key.eq_ignore_ascii_case(tag));
            };
            live(&world, &mut operator, HOUR / 2, untag).await;
            assert!(contested(&world), "{tag}");
            let foreign = format!("arn:aws:iam::{ACCOUNT}:policy/foreign");
            world.lock().meddle(|iam| {
                iam.roles.get_mut("api").expect("a role").managed.insert(foreign);
            });
            live(&world, &mut operator, HOUR / 5, untag).await;
            let left = world.lock().iam.roles["api"].managed.clone();
            assert!(left.is_empty() && contested(&world), "{tag}: {left:?}");
        });
    }
}

/// Somebody who resets an ordinary tag again and again does not use up the repairs of the owner tags.
#[test]
fn owner_tags_are_mended_also_where_another_tag_is_contested() {
    in_virtual_time(async |world, mut operator| {
        look_often(&world);
        let untag = |iam: &mut Iam| drop(iam.roles.get_mut("api").expect("a role").tags.remove("team"));
        live(&world, &mut operator, HOUR / 2, untag).await;
        assert!(contested(&world));
        world.lock().meddle(|iam| drop(iam.roles.get_mut("api").expect("a role").tags.remove("iamrole.dev/origin")));
        live(&world, &mut operator, HOUR / 5, untag).await;
        assert!(world.lock().iam.roles["api"].tags.contains_key("iamrole.dev/origin") && contested(&world));
    });
}
