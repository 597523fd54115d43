//! Many roles, random edits, faults, strangers and kills for as long as one likes; in the end AWS is what was asked for,
//! nothing is orphaned, and memory is flat: from the middle on the operator lives, so that it could grow. Not part of `make test`: `make soak` runs it.
//!
//! `SOAK_MINUTES` (20), `SOAK_ROLES` (100) and `SOAK_SEED` (random, printed) are its settings.

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use support::proxy::Fault;
use support::{World, allow, aws, condition, eventually, every, trust};

/// Between two disturbances; the load, not a wait for anything.
const PACE: Duration = Duration::from_millis(150);
const BOUNDARIES: [Option<&str>; 3] =
    [None, Some("arn:aws:iam::aws:policy/SecurityAudit"), Some("arn:aws:iam::aws:policy/PowerUserAccess")];
const CALLS: [&str; 16] = [
    "CreateRole",
    "PutRolePermissionsBoundary",
    "DeleteRolePermissionsBoundary",
    "CreatePolicy",
    "CreatePolicyVersion",
    "AttachRolePolicy",
    "DetachRolePolicy",
    "PutRolePolicy",
    "DeleteRolePolicy",
    "UpdateAssumeRolePolicy",
    "TagRole",
    "GetRole",
    "ListAttachedRolePolicies",
    "DeleteRole",
    "DeletePolicy",
    "CreateInstanceProfile",
];

struct Dice(u64);

impl Dice {
    /// A number below `n` (xorshift).
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.below(list.len() as u64)).expect("an index")]
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: a number")))
}

/// A spec whose documents are written as AWS gives them back.
fn random_spec(dice: &mut Dice) -> Value {
    let mut named = |prefix: &str| -> Vec<Value> {
        let count = dice.below(3);
        let action = |dice: &mut Dice| format!("s3:{}Object{}", dice.pick(&["Get", "Put", "List"]), dice.below(4));
        (0..count).map(|i| json!({ "name": format!("{prefix}{i}"), "document": allow(&action(dice)) })).collect()
    };
    let (inline, own) = (named("inline"), named("own"));
    let managed = ["ReadOnlyAccess", "SecurityAudit", "job-function/ViewOnlyAccess"];
    let managed: Vec<&str> = managed.into_iter().filter(|_| dice.below(2) == 0).collect();
    let services = ["ec2.amazonaws.com", "lambda.amazonaws.com", "ecs-tasks.amazonaws.com"];
    let mut spec = json!({
        "trustPolicy": trust(&json!({ "Service": dice.pick(&services) })), "inlinePolicies": inline,
        "customerManagedPolicies": own, "managedPolicies": managed, "tags": { "n": dice.below(5).to_string() },
        "description": format!("edit {}", dice.below(1000)), "instanceProfile": null,
        "permissionsBoundary": dice.pick(&BOUNDARIES),
    });
    if dice.below(4) == 0 {
        spec["instanceProfile"] = json!({});
    }
    spec
}

struct Soak {
    world: World,
    dice: Dice,
    /// What is asked for, by object.
    wanted: BTreeMap<String, Value>,
    roles: u64,
    done: BTreeMap<&'static str, usize>,
}

impl Soak {
    /// Something happens; `lives`: not to the operator's process.
    async fn disturb(&mut self, lives: bool) {
        let name = format!("role-{}", self.dice.below(self.roles));
        let role = self.world.templated(&name);
        let what = match self.dice.below(100) {
            0..40 => self.edit(&name).await,
            40..50 => self.delete(&name).await,
            50..75 => self.fault(),
            75..90 => self.meddle(&role).await,
            90..96 => {
                if self.wanted.contains_key(&name) {
                    self.world.request_check(&name).await;
                }
                "check"
            }
            96 if !lives => {
                self.world.operator.restart().await;
                "kill"
            }
            97 if !lives => {
                self.world.operator.stop().await;
                self.world.operator.start().await;
                "stop"
            }
            _ => {
                self.world.proxy.heal();
                "heal"
            }
        };
        *self.done.entry(what).or_default() += 1;
    }

    async fn edit(&mut self, name: &str) -> &'static str {
        let spec = random_spec(&mut self.dice);
        let known = self.wanted.contains_key(name);
        let result = if known {
            self.world.try_patch(name, spec.clone()).await
        } else {
            self.world.try_create(name, spec.clone()).await
        };
        match result {
            Ok(()) => drop(self.wanted.insert(name.to_owned(), spec)),
            // An object of that name is still being deleted.
            Err(error) => assert!(error.contains("AlreadyExists") || error.contains("being deleted"), "{error}"),
        }
        if known { "edit" } else { "create" }
    }

    async fn delete(&mut self, name: &str) -> &'static str {
        if self.wanted.remove(name).is_some() {
            self.world.delete(name).await;
        }
        "delete"
    }

    fn fault(&mut self) -> &'static str {
        let fault = match self.dice.below(6) {
            0 => Fault::DropBefore,
            1 => Fault::DropAfter,
            2 => Fault::Delay(Duration::from_secs(2)),
            3 => Fault::Refuse(400, "Throttling", "Rate exceeded".into()),
            4 => Fault::Refuse(500, "ServiceFailure", "oops".into()),
            _ => Fault::Refuse(403, "AccessDenied", "not authorized".into()),
        };
        let times = usize::try_from(1 + self.dice.below(6)).expect("a number");
        let call = *self.dice.pick(&CALLS);
        self.world.proxy.fault(call, "", times, fault);
        "fault"
    }

    /// A stranger changes a role by hand; whatever fails was not there.
    async fn meddle(&mut self, role: &str) -> &'static str {
        let iam = &self.world.iam;
        match self.dice.below(6) {
            0 => drop(
                iam.detach_role_policy()
                    .role_name(role)
                    .policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess")
                    .send()
                    .await,
            ),
            1 => {
                let document = allow("iam:*").to_string();
                drop(
                    iam.put_role_policy().role_name(role).policy_name("theirs").policy_document(document).send().await,
                );
            }
            2 => {
                let trust = trust(&json!({ "AWS": "*" })).to_string();
                drop(iam.update_assume_role_policy().role_name(role).policy_document(trust).send().await);
            }
            3 => drop(iam.untag_role().role_name(role).tag_keys("n").send().await),
            4 => drop(iam.delete_role_permissions_boundary().role_name(role).send().await),
            _ => drop(iam.update_role().role_name(role).description("theirs").max_session_duration(7200).send().await),
        }
        "meddle"
    }

    /// All faults end; every object gets Ready by itself or is gone, and AWS is what was asked for. A repair that was given
    /// up within the hour is taken up with an edit.
    async fn settle(&mut self) {
        self.world.proxy.heal();
        let started = Instant::now();
        let mut contested = 0;
        for (name, spec) in &mut self.wanted {
            let says = |part: &'static str, what: &'static str| {
                let world = &self.world;
                async move {
                    let role = world.get(name).await;
                    condition(&role, "Ready").is_some_and(|ready| {
                        let found = if part == "status" { &ready.status } else { &ready.reason };
                        found == what && ready.observed_generation == role.metadata.generation
                    })
                }
            };
            let ends = || async { says("status", "True").await || says("reason", "Contested").await };
            let done = eventually(Duration::from_mins(8), ends).await;
            assert!(done, "{name}: {:#?}\n{}", self.world.status(name).await, self.world.operator.log());
            if says("reason", "Contested").await {
                contested += 1;
                spec["description"] = json!("the last edit");
                self.world.patch(name, json!({ "description": "the last edit" })).await;
                let done = eventually(Duration::from_mins(8), || says("status", "True")).await;
                assert!(done, "{name}: {:#?}\n{}", self.world.status(name).await, self.world.operator.log());
            }
        }
        println!("{contested} of {} needed an edit", self.wanted.len());
        let only_wanted = || async {
            let list = self.world.roles().list(&kube::api::ListParams::default()).await.expect("a list");
            list.items.len() == self.wanted.len()
        };
        assert!(eventually(Duration::from_mins(5), only_wanted).await, "deleted objects are gone");
        println!("settled after {:?}", started.elapsed());
    }

    async fn compare(&self) {
        let iam = &self.world.iam;
        let (mut policies, mut profiles) = (BTreeSet::new(), BTreeSet::new());
        for (name, spec) in &self.wanted {
            let role_name = self.world.templated(name);
            let role = aws::role(iam, &role_name).await.unwrap_or_else(|| panic!("{role_name} is missing"));
            let description = spec["description"].as_str().unwrap_or_default();
            assert_eq!((&role.trust, role.description.as_str()), (&spec["trustPolicy"], description), "{name}");
            assert_eq!(role.max_session, 3600, "{name}");
            assert_eq!(role.boundary.as_deref(), spec["permissionsBoundary"].as_str(), "{name}");
            assert_eq!(json!(role.tags), spec["tags"], "{name}");
            let documents = |field: &str| -> BTreeMap<String, Value> {
                let list = spec[field].as_array().into_iter().flatten();
                list.map(|entry| (entry["name"].as_str().expect("a name").to_owned(), entry["document"].clone()))
                    .collect()
            };
            assert_eq!(role.inline, documents("inlinePolicies"), "{name}");
            let mut attached: BTreeSet<String> = spec["managedPolicies"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|policy| format!("arn:aws:iam::aws:policy/{}", policy.as_str().expect("a name")))
                .collect();
            for (entry, document) in documents("customerManagedPolicies") {
                let policy_name = format!("{role_name}.{entry}");
                let arn = format!("arn:aws:iam::123456789012:policy/{policy_name}");
                assert_eq!(aws::policy(iam, &arn).await.expect("its policy").document, document, "{arn}");
                policies.insert(policy_name);
                attached.insert(arn);
            }
            assert_eq!(role.attached, attached, "{name}");
            profiles.extend((!spec["instanceProfile"].is_null()).then_some(role_name));
        }
        assert_eq!(aws::policies_with(iam, &self.world.namespace).await, policies, "no policy is orphaned");
        let found = iam.list_instance_profiles().max_items(1000).send().await.expect("profiles");
        let found = found.instance_profiles().iter().map(|profile| profile.instance_profile_name().to_owned());
        let found: BTreeSet<String> = found.filter(|name| name.contains(&self.world.namespace)).collect();
        assert_eq!(found, profiles, "no instance profile is orphaned");
        let roles = iam.list_roles().max_items(1000).send().await.expect("roles");
        let roles = roles.roles().iter().filter(|role| role.role_name().contains(&self.world.namespace)).count();
        assert_eq!(roles, self.wanted.len(), "no role is orphaned");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "20 minutes: make soak"]
async fn whatever_happens_the_end_is_what_was_asked_for() {
    let seed =
        setting("SOAK_SEED", std::time::UNIX_EPOCH.elapsed().map_or(1, |since| u64::from(since.subsec_nanos())) | 1);
    let (minutes, roles) = (setting("SOAK_MINUTES", 20), setting("SOAK_ROLES", 100));
    println!("SOAK_SEED={seed} SOAK_MINUTES={minutes} SOAK_ROLES={roles}");
    let mut world = World::without_operator("soak", |class| class.drift_check = every(60)).await;
    world.operator.log_level = "info";
    world.operator.start().await;
    let mut soak = Soak { world, dice: Dice(seed), wanted: BTreeMap::new(), roles, done: BTreeMap::new() };
    let (start, whole) = (Instant::now(), Duration::from_mins(minutes));
    let mut early = None;
    while start.elapsed() < whole {
        // A quarter of the time that the last process lives.
        if early.is_none() && start.elapsed() >= whole.mul_f64(0.625) {
            early = Some(soak.world.operator.resident());
        }
        soak.disturb(start.elapsed() >= whole / 2).await;
        tokio::time::sleep(PACE).await;
    }
    soak.settle().await;
    let (early, late) = (early.expect("a quarter of it"), soak.world.operator.resident());
    soak.compare().await;
    println!("{:?}; {} objects in the end, nothing orphaned", soak.done, soak.wanted.len());
    println!("resident memory of the last process after a quarter of its life and in the end: {early} and {late} KiB");
    assert!(late * 10 <= early * 13, "memory grows: {early} KiB, then {late} KiB");
}
