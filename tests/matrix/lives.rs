//! The lives of roles that the matrix walks.

use super::cluster::Cluster as Kubernetes;
use super::iam::{Iam, LONG_AGO, Policy, Role};
use super::profiles::Profile;
use iamrole_operator::api::iamrole::Origin;
use iamrole_operator::api::iamroleclass::Allowed;
use iamrole_operator::role::{Cluster, Owner};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What happens to the object, or to the role behind its back, at the beginning of an act.
#[derive(Clone, Debug)]
pub enum Edit {
    /// A user applies this spec.
    Apply(Value),
    /// The object is restored with this spec, and without its status.
    Restore(Value),
    /// The object loses its status and is deleted.
    Lose,
    /// Nobody touches the object; what strangers did to the account is to be found.
    Nothing,
    /// A user deletes the object.
    Delete,
}

impl Edit {
    pub fn apply(&self, cluster: &mut Kubernetes) {
        match self {
            Self::Apply(spec) => cluster.apply(spec),
            Self::Restore(spec) => cluster.restore(spec),
            Self::Lose => cluster.lose(),
            Self::Nothing => {}
            Self::Delete => cluster.delete(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Act {
    pub name: &'static str,
    pub edit: Edit,
    /// What strangers do to the account before.
    pub before: fn(&mut Iam),
    /// It only leads to the next act: another life has the same.
    pub leads: bool,
}

/// The life of one object, from its creation to its end.
pub struct Life {
    pub name: &'static str,
    pub iam: Iam,
    pub cluster: Kubernetes,
    pub acts: Vec<Act>,
    /// What others attach to the role or put into it, and keep there.
    pub strangers: BTreeSet<String>,
    /// The role exists before, is nobody's, and may be taken over.
    pub adoptable: bool,
    /// Clusters that are no more, whose roles are the object's.
    pub heir_of: Vec<String>,
}

impl Life {
    /// Without some acts.
    pub fn without(mut self, names: &[&str]) -> Self {
        self.acts.retain(|act| !names.contains(&act.name));
        self
    }
}

fn nothing(_: &mut Iam) {}

fn arn(name: &str) -> String {
    crate::model::arn(name)
}

pub fn allow(actions: &[&str]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }] })
}

fn deny(action: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Deny", "Action": action, "Resource": "*" }] })
}

pub fn trust(accounts: &[&str]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Principal": { "AWS": accounts }, "Action": "sts:AssumeRole" }] })
}

pub fn inline(name: &str, document: &Value) -> Value {
    json!({ "name": name, "document": document })
}

pub fn own(name: &str, document: &Value) -> Value {
    json!({ "name": name, "policyName": format!("api-{name}"), "document": document })
}

pub const ONE: &str = "111111111111";
pub const TWO: &str = "222222222222";
const THREE: &str = "333333333333";

/// Created with everything, changed in everything, policies moved between the lists, shrunk.
fn specs() -> [(&'static str, Value); 4] {
    let guard = || inline("guard", &deny("iam:Pass"));
    [
        (
            "create",
            json!({
                "roleName": "api", "trustPolicy": trust(&[ONE, TWO]), "permissionsBoundary": arn("Fence"),
                "description": "The API", "maxSessionDurationSeconds": 7200, "tags": { "team": "shop", "Tier": "1" },
                "managedPolicies": [arn("shared")], "instanceProfile": {},
                "inlinePolicies": [guard(), inline("a", &allow(&["a:One", "a:Two"]))],
                "customerManagedPolicies": [own("x", &allow(&["x:One"]))],
            }),
        ),
        (
            "change",
            json!({
                "roleName": "api", "trustPolicy": trust(&[TWO, THREE]), "permissionsBoundary": arn("Wall"),
                "description": "Changed", "tags": { "team": "ship", "tier": "2", "new": "tag" },
                "managedPolicies": ["job-function/Billing"], "instanceProfile": { "name": "other" },
                "inlinePolicies": [guard(), inline("a", &allow(&["a:One", "a:Three"]))],
                "customerManagedPolicies": [own("x", &allow(&["x:One", "x:Two"])), own("z", &allow(&["z:One"]))],
            }),
        ),
        (
            "move",
            json!({
                "roleName": "api", "trustPolicy": trust(&[TWO, THREE]), "permissionsBoundary": arn("Wall"),
                "description": "Changed", "tags": { "team": "ship", "tier": "2", "new": "tag" },
                "managedPolicies": [arn("api-z")], "instanceProfile": { "name": "other" },
                "inlinePolicies": [guard(), inline("x", &allow(&["x:One", "x:Two"])), inline("a", &allow(&["a:One"]))],
                "customerManagedPolicies": [own("y", &allow(&["a:Three"]))],
            }),
        ),
        (
            "shrink",
            json!({
                "roleName": "api", "trustPolicy": trust(&[THREE]), "managedPolicies": [],
                "inlinePolicies": [inline("a", &allow(&["a:One"]))], "customerManagedPolicies": [own("y", &allow(&["a:Three"]))],
            }),
        ),
    ]
}

/// What is enough beside things of others.
fn small() -> [(&'static str, Value); 2] {
    [
        (
            "create",
            json!({
                "roleName": "api", "trustPolicy": trust(&[ONE]), "permissionsBoundary": arn("Fence"), "tags": { "team": "shop" },
                "managedPolicies": [arn("shared")], "inlinePolicies": [inline("a", &allow(&["a:One"]))],
                "customerManagedPolicies": [own("x", &allow(&["x:One"]))],
            }),
        ),
        (
            "change",
            json!({
                "roleName": "api", "trustPolicy": trust(&[TWO]), "permissionsBoundary": arn("Wall"), "tags": { "new": "tag" },
                "managedPolicies": ["ReadOnlyAccess"], "inlinePolicies": [inline("b", &allow(&["b:One"]))],
                "customerManagedPolicies": [own("y", &allow(&["x:One"]))],
            }),
        ),
    ]
}

fn with(mut spec: Value, more: &Value) -> Value {
    spec.as_object_mut().expect("a spec").extend(more.as_object().expect("fields").clone());
    spec
}

fn role(name: &str, managed: &[String], inline: &[(&str, Value)]) -> Role {
    Role {
        name: name.to_owned(),
        path: "/".to_owned(),
        id: format!("AROA{name}"),
        created: LONG_AGO,
        description: "Not yours".to_owned(),
        max_session: 3600,
        boundary: None,
        tags: BTreeMap::from([("owner".to_owned(), "somebody".to_owned())]),
        trust: trust(&["arn:aws:iam::444444444444:root"]).to_string(),
        managed: managed.iter().cloned().collect(),
        inline: inline.iter().map(|(name, document)| ((*name).to_owned(), document.to_string())).collect(),
    }
}

/// The account before: policies and a role of others.
fn account() -> Iam {
    let mut iam = Iam::default();
    for name in ["Fence", "Wall", "shared", "foreign"] {
        let policy = Policy {
            name: name.to_owned(),
            path: "/".to_owned(),
            id: format!("ANPA{name}"),
            tags: BTreeMap::new(),
            versions: BTreeMap::from([(1, allow(&[&format!("{name}:Any")]).to_string())]),
            default: 1,
            next: 2,
        };
        iam.policies.insert(name.to_lowercase(), policy);
    }
    let other = role("other", &[arn("foreign")], &[("mine", allow(&["other:One"]))]);
    iam.roles.insert("other".to_owned(), other);
    let profile = Profile {
        name: "strange".to_owned(),
        path: "/".to_owned(),
        tags: BTreeMap::from([("owner".to_owned(), "somebody".to_owned())]),
        role: Some("other".to_owned()),
    };
    iam.profiles.insert("strange".to_owned(), profile);
    iam
}

fn class(more: &Value) -> Kubernetes {
    Kubernetes::new(&with(
        json!({ "namespaceSelector": {}, "unbounded": true, "allowed": Allowed::everything() }),
        more,
    ))
}

fn acts(specs: impl IntoIterator<Item = (&'static str, Value)>, more: &Value) -> Vec<Act> {
    let edits = specs.into_iter().map(|(name, spec)| (name, Edit::Apply(with(spec, more))));
    edits
        .chain([("delete", Edit::Delete)])
        .map(|(name, edit)| Act { name, edit, before: nothing, leads: false })
        .collect()
}

fn intrude(iam: &mut Iam) {
    let role = iam.roles.get_mut("api").expect("a role");
    role.managed.insert(arn("foreign"));
    role.inline.insert("theirs".to_owned(), allow(&["theirs:One"]).to_string());
}

fn retreat(iam: &mut Iam) {
    let role = iam.roles.get_mut("api").expect("a role");
    role.managed.remove(&arn("foreign"));
    role.inline.remove("theirs");
}

fn strangers() -> BTreeSet<String> {
    [arn("foreign"), "theirs".to_owned()].into()
}

/// A role that the operator creates and has for itself.
pub fn created() -> Life {
    Life {
        name: "created",
        iam: account(),
        cluster: class(&json!({})),
        acts: acts(specs(), &json!({})),
        strangers: BTreeSet::new(),
        adoptable: false,
        heir_of: Vec::new(),
    }
}

/// A spec with own policies of these names.
pub fn spec_of(names: &[&str], profile: Option<&str>) -> Value {
    let policies: Vec<Value> = names.iter().map(|name| own(name, &allow(&[&format!("{name}:One")]))).collect();
    let mut spec = json!({ "roleName": "api", "trustPolicy": trust(&[ONE]), "customerManagedPolicies": policies });
    if let Some(name) = profile {
        spec["instanceProfile"] = json!({ "name": name });
    }
    spec
}

/// A role with several policies of its own and an instance profile, all of which the next spec does without or has
/// otherwise.
pub fn owning() -> Life {
    let specs = [
        ("own", spec_of(&["x", "y", "z"], Some("first"))),
        ("rename", spec_of(&["z", "w"], Some("second"))),
        ("without", spec_of(&[], None)),
        ("again", spec_of(&["x"], Some("first"))),
    ];
    Life { name: "owning", acts: acts(specs, &json!({})), ..created() }
}

/// A role with nothing but its trust, which goes soon after it came.
pub fn bare() -> Life {
    let specs = [("create", json!({ "roleName": "api", "trustPolicy": trust(&[ONE]) }))];
    Life { name: "bare", acts: acts(specs, &json!({})), ..created() }
}

/// A role that gets more just before it goes, of which lists do not tell at once.
pub fn growing() -> Life {
    let of = |inline: &[Value], managed: &[String]| json!({ "roleName": "api", "trustPolicy": trust(&[ONE]), "inlinePolicies": inline, "managedPolicies": managed });
    let (a, b) = (inline("a", &allow(&["a:One"])), inline("b", &allow(&["b:One"])));
    let specs =
        [("create", of(std::slice::from_ref(&a), &[])), ("grow", of(&[a, b], &[arn("shared"), arn("foreign")]))];
    Life { name: "growing", acts: acts(specs, &json!({})), ..created() }
}

/// AWS's clock, or the one by which status is dated, is wrong: each role seems older than its object.
pub fn skewed() -> Life {
    let mut iam = account();
    iam.born = Some(LONG_AGO);
    Life { name: "skewed", iam, ..created() }
}

/// A role where others have something too, which is kept.
pub fn kept() -> Life {
    let mut acts = acts(small(), &json!({ "whenUnlisted": "Keep" }));
    acts[0].leads = true;
    acts[1].before = intrude;
    acts[2].before = retreat;
    Life { name: "kept", acts, strangers: strangers(), ..created() }
}

/// The same without strangers: what was begun for a spec that is no more is not taken for somebody else's.
pub fn keeping() -> Life {
    Life { name: "keeping", acts: acts(small(), &json!({ "whenUnlisted": "Keep" })), ..created() }
}

/// A role whose boundary the class forces, and that goes with all that others put there.
pub fn forced() -> Life {
    let more = json!({ "permissionsBoundary": null, "whenUnlisted": "Keep", "deletionPolicy": "ForceDelete" });
    let mut acts = acts(small(), &more);
    acts[0].leads = true;
    acts[2].before = |iam| {
        intrude(iam);
        let profile = Profile {
            name: "theirs".to_owned(),
            path: "/".to_owned(),
            tags: BTreeMap::new(),
            role: Some("api".to_owned()),
        };
        iam.profiles.insert("theirs".to_owned(), profile);
    };
    let cluster = class(&json!({ "unbounded": null, "permissionsBoundary": arn("Fence") }));
    Life { name: "forced", cluster, acts, ..created() }
}

/// Everything of the role is changed by hand, and put right.
pub fn meddled() -> Life {
    let mut acts = acts(small(), &json!({}));
    acts[0].leads = true;
    acts[1] = Act { name: "drift", edit: Edit::Nothing, before: meddle, leads: false };
    acts.truncate(2);
    Life { name: "meddled", acts, ..created() }
}

fn meddle(iam: &mut Iam) {
    let role = iam.roles.get_mut("api").expect("a role");
    "Theirs".clone_into(&mut role.description);
    role.boundary = None;
    role.tags.insert("team".to_owned(), "theirs".to_owned());
    role.trust = trust(&["arn:aws:iam::444444444444:root"]).to_string();
    role.managed.remove(&arn("shared"));
    role.managed.insert(arn("foreign"));
    role.inline = [("theirs".to_owned(), allow(&["theirs:One"]).to_string())].into();
    let own = iam.policies.get_mut("api-x").expect("a policy");
    own.versions.insert(2, allow(&["x:Any"]).to_string());
    (own.default, own.next) = (2, 3);
}

/// The object is restored without its status; others have something on the role, which is kept.
pub fn restored() -> Life {
    let [create, change] = small();
    let mut acts = acts([create, change], &json!({}));
    acts[0].leads = true;
    let Edit::Apply(spec) = acts[1].edit.clone() else { panic!("an edit") };
    acts[1] = Act { name: "restore", edit: Edit::Restore(spec), before: found_again, leads: false };
    acts.truncate(2);
    Life { name: "restored", acts, strangers: strangers(), ..created() }
}

/// The object is deleted without its status, so that nothing but names, tags and the spec tell what is its own; and what
/// is not would keep it.
pub fn lost() -> Life {
    let [(_, create), _] = small();
    let mut acts = acts([("create", create)], &json!({ "instanceProfile": {}, "whenUnlisted": "Keep" }));
    acts[0].leads = true;
    acts[1] = Act { name: "lose", edit: Edit::Lose, before: nothing, leads: false };
    Life { name: "lost", acts, ..created() }
}

/// The same with its status.
pub fn plain() -> Life {
    let [(_, create), _] = small();
    let mut acts = acts([("create", create)], &json!({ "instanceProfile": {} }));
    acts[0].leads = true;
    Life { name: "plain", acts, ..created() }
}

fn found_again(iam: &mut Iam) {
    iam.roles.get_mut("api").expect("a role").created = LONG_AGO;
    intrude(iam);
}

/// A role and its policy that the operator of a lost cluster made for an object of the same name.
pub fn inherited() -> Life {
    let old = "lost/uid-0";
    let owner = Owner { cluster: Cluster::new(Some("lost"), "uid-0"), ..crate::model::owner() };
    let mut iam = account();
    let mut api = role("api", &[arn("foreign"), arn("api-x")], &[("theirs", allow(&["theirs:One"]))]);
    api.tags = owner.tags(Origin::Created);
    iam.roles.insert("api".to_owned(), api);
    let own = Policy { name: "api-x".to_owned(), tags: owner.tags(Origin::Created), ..iam.policies["foreign"].clone() };
    iam.policies.insert("api-x".to_owned(), own);
    let mut acts = acts(small(), &json!({}));
    acts.truncate(1);
    let cluster = class(&json!({ "takeOverClusters": [old] }));
    let heir_of = vec![old.to_owned()];
    Life { name: "inherited", iam, cluster, acts, strangers: strangers(), heir_of, ..created() }
}

/// A role that was there before, is taken over, and is left when the object goes.
pub fn adopted() -> Life {
    let mut iam = account();
    let api = role("api", &[arn("foreign")], &[("theirs", allow(&["theirs:One"]))]);
    iam.roles.insert("api".to_owned(), Role { boundary: Some(arn("Wall")), ..api });
    Life {
        name: "adopted",
        iam,
        cluster: class(&json!({})),
        acts: acts(small(), &json!({ "adoption": "IfExists" })),
        strangers: strangers(),
        adoptable: true,
        heir_of: Vec::new(),
    }
}

/// The same where the role has to be there.
pub fn required() -> Life {
    let mut acts = acts(small(), &json!({ "adoption": "Required" }));
    acts.truncate(1);
    Life { name: "required", acts, ..adopted() }
}

/// A stranger puts a role of his own in the place of the one that is there, and that is taken over in turn.
pub fn usurped() -> Life {
    let mut acts = acts(small(), &json!({ "adoption": "IfExists" }));
    acts[0].leads = true;
    let before = |iam: &mut Iam| {
        let other = role("api", &[arn("foreign")], &[("theirs", allow(&["theirs:One"]))]);
        let other = Role { id: "AROAusurper".to_owned(), boundary: Some(arn("Wall")), ..other };
        iam.roles.insert("api".to_owned(), other);
    };
    acts[1] = Act { name: "usurp", edit: Edit::Nothing, before, leads: false };
    acts.truncate(2);
    Life { name: "usurped", acts, ..adopted() }
}

/// An account where everything can be done once: a role that has something, one that has nothing, a policy that
/// nobody uses.
pub fn furnished() -> Iam {
    let mut iam = account();
    let mut api = role("api", &[arn("shared")], &[("mine", allow(&["mine:One"]))]);
    api.boundary = Some(arn("Wall"));
    iam.roles.insert("api".to_owned(), api);
    iam.roles.insert("bare".to_owned(), role("bare", &[], &[]));
    let mut loose = iam.policies["foreign"].clone();
    "loose".clone_into(&mut loose.name);
    loose.versions.insert(2, allow(&["loose:Two"]).to_string());
    loose.next = 3;
    iam.policies.insert("loose".to_owned(), loose);
    iam
}

/// A spec with one of each.
pub fn wanted() -> Value {
    let [(_, create), _] = small();
    create
}
