//! The lives of roles that the matrix walks.

use super::cluster::Cluster;
use super::iam::{Iam, Policy, Role};
use iamrole_operator::api::iamroleclass::Allowed;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What happens to the object, or to the role behind its back, at the beginning of an act.
#[derive(Clone, Debug)]
pub enum Edit {
    /// A user applies this spec.
    Apply(Value),
    /// A user deletes the object.
    Delete,
}

impl Edit {
    pub fn apply(&self, cluster: &mut Cluster) {
        match self {
            Self::Apply(spec) => cluster.apply(spec),
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
    pub cluster: Cluster,
    pub acts: Vec<Act>,
    /// What others attach to the role or put into it, and keep there.
    pub strangers: BTreeSet<String>,
    /// The role exists before, is nobody's, and may be taken over.
    pub adoptable: bool,
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

fn trust(accounts: &[&str]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Principal": { "AWS": accounts }, "Action": "sts:AssumeRole" }] })
}

fn inline(name: &str, document: &Value) -> Value {
    json!({ "name": name, "document": document })
}

fn own(name: &str, document: &Value) -> Value {
    json!({ "name": name, "policyName": format!("api-{name}"), "document": document })
}

const ONE: &str = "111111111111";
const TWO: &str = "222222222222";
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
    iam
}

fn class(more: &Value) -> Cluster {
    Cluster::new(&with(json!({ "namespaceSelector": {}, "unbounded": true, "allowed": Allowed::everything() }), more))
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

/// A role where others have something too, which is kept.
pub fn kept() -> Life {
    let mut acts = acts(small(), &json!({ "whenUnlisted": "Keep" }));
    acts[0].leads = true;
    acts[1].before = intrude;
    acts[2].before = retreat;
    Life { name: "kept", iam: account(), cluster: class(&json!({})), acts, strangers: strangers(), adoptable: false }
}

/// A role that was there before, is taken over, and is left when the object goes.
pub fn adopted() -> Life {
    let mut iam = account();
    iam.roles.insert("api".to_owned(), role("api", &[arn("foreign")], &[("theirs", allow(&["theirs:One"]))]));
    Life {
        name: "adopted",
        iam,
        cluster: class(&json!({})),
        acts: acts(small(), &json!({ "adoption": "IfExists" })),
        strangers: strangers(),
        adoptable: true,
    }
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
