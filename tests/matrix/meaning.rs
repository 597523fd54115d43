//! What IAM's state means, and what must hold at every moment of it.

use super::iam::{Iam, Role};
use super::profiles::Profile;
use iamrole_operator::role::Owner;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

/// What a document says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub allows: BTreeSet<String>,
    pub denies: BTreeSet<String>,
    /// Who may assume, with which external id.
    pub callers: BTreeSet<(String, &'static str)>,
}

const IDS: [&str; 3] = ["none", "id-1", "id-2"];

impl Facts {
    pub fn named(arn: &str) -> Self {
        Self { allows: [arn.to_owned()].into(), ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.allows.extend(other.allows);
        self.denies.extend(other.denies);
        self.callers.extend(other.callers);
    }

    fn of(document: &str) -> Self {
        let document: Value = serde_json::from_str(document).expect("JSON");
        let mut facts = Self::default();
        let (mut admitted, mut denied) = (BTreeSet::new(), BTreeSet::new());
        for statement in document["Statement"].as_array().expect("statements") {
            let condition = statement.get("Condition");
            if let Some(principals) = statement.get("Principal") {
                for who in principals.as_object().expect("kinds").values().flat_map(strings) {
                    let ids = condition.map(|condition| strings(&condition["StringEquals"]["sts:ExternalId"]));
                    let matches = |id: &&str| ids.as_ref().is_none_or(|ids| ids.contains(id));
                    let callers = IDS.into_iter().filter(matches).map(|id| (who.to_owned(), id));
                    if statement["Effect"] == "Allow" { admitted.extend(callers) } else { denied.extend(callers) }
                }
                continue;
            }
            let all = if statement["Effect"] == "Allow" { &mut facts.allows } else { &mut facts.denies };
            for action in strings(&statement["Action"]) {
                all.extend(strings(&statement["Resource"]).into_iter().map(|on| format!("{action} on {on}")));
            }
        }
        let is_denied = |(who, id): &(String, &'static str)| {
            [who.clone(), "*".to_owned()].into_iter().any(|who| denied.contains(&(who, *id)))
        };
        facts.callers = admitted.into_iter().filter(|caller| !is_denied(caller)).collect();
        facts
    }
}

fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

/// Few documents are read very often.
pub fn facts(document: &str) -> Arc<Facts> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Facts>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().expect("no panic");
    if let Some(facts) = known.get(document) {
        return facts.clone();
    }
    let facts = Arc::new(Facts::of(document));
    known.insert(document.to_owned(), facts.clone());
    facts
}

/// Everything of the account that matters, without ids and numbers of versions.
pub fn meaning(iam: &Iam) -> Value {
    let said = |document: &str| format!("{:?}", facts(document));
    let roles = iam.roles.values().map(|role| {
        let inline: BTreeMap<_, _> = role.inline.iter().map(|(name, document)| (name, said(document))).collect();
        json!({
            "arn": role.arn(), "description": role.description, "session": role.max_session, "boundary": role.boundary,
            "tags": role.tags, "trust": said(&role.trust), "managed": role.managed, "inline": inline,
        })
    });
    let policies = iam
        .policies
        .values()
        .map(|policy| json!({ "arn": policy.arn(), "tags": policy.tags, "says": said(policy.document()) }));
    let profiles: Vec<Value> = iam.profiles.values().map(super::profiles::Profile::meaning).collect();
    json!({ "roles": roles.collect::<Vec<_>>(), "policies": policies.collect::<Vec<_>>(), "profiles": profiles })
}

/// One end of an update.
#[derive(Clone, Debug, Default)]
pub struct End {
    pub there: bool,
    facts: Facts,
    boundary: Option<String>,
}

impl End {
    pub fn of(iam: &Iam, name: &str) -> Self {
        let Some(role) = iam.roles.get(name) else { return Self::default() };
        Self { there: true, facts: may(iam, role), boundary: role.boundary.clone() }
    }
}

fn may(iam: &Iam, role: &Role) -> Facts {
    let mut all = Facts { callers: facts(&role.trust).callers.clone(), ..Facts::default() };
    role.managed.iter().for_each(|arn| all.add(iam.says(arn)));
    role.inline.values().for_each(|document| all.add((*facts(document)).clone()));
    all
}

/// What must hold at every moment.
#[derive(Clone, Debug)]
pub struct Laws {
    /// Name of the role in lower case.
    pub role: String,
    /// Before and after the update; `None` while the end is being found out.
    pub ends: Option<(End, End)>,
    /// Attachments and inline policies of others on the role, which stay as long as it does.
    pub strangers: BTreeSet<String>,
    /// The role is there, is nobody's, and may be taken over.
    pub adoptable: bool,
    /// Clusters that are no more, whose roles are the object's.
    pub heir_of: Vec<String>,
    /// What is there before and after must never be missing. Not where the operator can't know what was there before:
    /// reads show the past, and the edit before was a moment ago. More than is allowed is never there all the same.
    pub keeps: bool,
}

impl Laws {
    /// What is broken by the step from one state to the next.
    pub fn broken(&self, before: &Iam, after: &Iam) -> Vec<String> {
        let mut broken = self.foreign(before, after);
        if let (Some((old, new)), Some(role)) = (&self.ends, after.roles.get(&self.role)) {
            let now = may(after, role);
            broken.extend(combined(old, new, &now));
            broken.extend(bounded(old, new, &now, role.boundary.as_ref()));
            broken.extend(loosened(old, new, &now, role.boundary.as_ref()));
            broken.extend(kept(old, new, &now).into_iter().filter(|_| self.keeps));
        }
        broken
    }

    /// What carries no tags of ours is as before; what is new carries them.
    fn foreign(&self, before: &Iam, after: &Iam) -> Vec<String> {
        let owner = Owner { heir_of: self.heir_of.clone(), ..crate::model::owner() };
        let ours = |tags: &BTreeMap<String, String>| owner.judge(tags).is_ours();
        let mut broken = Vec::new();
        for (name, old) in &before.roles {
            let new = after.roles.get(name);
            let adopted = self.adoptable
                && *name == self.role
                && new.is_some_and(|new| {
                    let mut tags = new.tags.clone();
                    tags.retain(|key, _| !key.starts_with("iamrole.dev/"));
                    Role { tags, ..new.clone() } == *old
                });
            if !ours(&old.tags) && new != Some(old) && !adopted {
                broken.push(format!("role {name}, which is not ours, was changed"));
            }
        }
        for (name, old) in &before.policies {
            if !ours(&old.tags) && after.policies.get(name) != Some(old) {
                broken.push(format!("policy {name}, which is not ours, was changed"));
            }
        }
        for (name, old) in &before.profiles {
            let new = after.profiles.get(name);
            // Our role may leave, and nothing else.
            let left = new
                .is_some_and(|new| old.holds(&self.role) && Profile { role: old.role.clone(), ..new.clone() } == *old);
            if !ours(&old.tags) && new != Some(old) && !left {
                broken.push(format!("instance profile {name}, which is not ours, was changed"));
            }
        }
        let made = after.roles.iter().filter(|(name, _)| !before.roles.contains_key(*name)).map(|(n, r)| (n, &r.tags));
        let more = after.policies.iter().filter(|(n, _)| !before.policies.contains_key(*n)).map(|(n, p)| (n, &p.tags));
        let profiles =
            after.profiles.iter().filter(|(n, _)| !before.profiles.contains_key(*n)).map(|(n, p)| (n, &p.tags));
        broken.extend(
            made.chain(more)
                .chain(profiles)
                .filter(|(_, tags)| !ours(tags))
                .map(|(name, _)| format!("{name} is made without tags")),
        );
        if let (Some(old), Some(new)) = (before.roles.get(&self.role), after.roles.get(&self.role)) {
            let has = |role: &Role, what: &String| role.managed.contains(what) || role.inline.contains_key(what);
            let lost = self.strangers.iter().filter(|what| has(old, what) && !has(new, what));
            broken.extend(lost.map(|what| format!("{what} of somebody else was taken away")));
        }
        broken
    }
}

/// Nobody holds what neither end gives; what is allowed comes with the denials of its end.
fn combined(old: &End, new: &End, now: &Facts) -> Vec<String> {
    let mut broken = Vec::new();
    for allowed in &now.allows {
        let (before, after) = (old.facts.allows.contains(allowed), new.facts.allows.contains(allowed));
        if !before && !after {
            broken.push(format!("{allowed} was never asked for"));
        }
        for caller in &now.callers {
            let (goes, comes) = (old.facts.callers.contains(caller), new.facts.callers.contains(caller));
            if !((goes && before) || (comes && after) || (goes && comes)) {
                broken.push(format!("{caller:?} with {allowed}"));
            }
        }
        let guarded = |end: &End, listed: bool| listed && end.facts.denies.is_subset(&now.denies);
        if !guarded(old, before) && !guarded(new, after) {
            broken.push(format!("{allowed} without its denials"));
        }
    }
    broken
}

/// Nothing is there without the boundary that goes with it.
fn bounded(old: &End, new: &End, now: &Facts, boundary: Option<&String>) -> Option<String> {
    let fits = |end: &End| end.there && now.allows.is_subset(&end.facts.allows) && end.boundary.as_ref() == boundary;
    // Permissions of both ends are held in by the new boundary, or by the old one if none is to come.
    let held = match (&old.boundary, &new.boundary) {
        (_, Some(wanted)) => Some(wanted) == boundary,
        (Some(before), None) => Some(before) == boundary,
        (None, None) => true,
    };
    (!now.allows.is_empty() && !held && !fits(old) && !fits(new))
        .then(|| format!("permissions under boundary {boundary:?}"))
}

/// Who goes never has anything under the boundary that comes. One where there was none takes nothing but away, and comes
/// first.
fn loosened(old: &End, new: &End, now: &Facts, boundary: Option<&String>) -> Option<String> {
    let comes = old.boundary.is_some() && old.boundary != new.boundary && boundary == new.boundary.as_ref();
    let gone: Vec<_> = now.callers.difference(&new.facts.callers).collect();
    (new.there && comes && !now.allows.is_empty() && !gone.is_empty())
        .then(|| format!("{gone:?} under boundary {boundary:?}"))
}

/// What is there before and after is there now.
fn kept(old: &End, new: &End, now: &Facts) -> Vec<String> {
    let (Facts { allows, denies, .. }, both) = (&old.facts, old.there && new.there);
    let lost_allow = allows.intersection(&new.facts.allows).filter(|kept| !now.allows.contains(*kept));
    let lost_deny = denies.intersection(&new.facts.denies).filter(|kept| !now.denies.contains(*kept));
    let lost_caller = old.facts.callers.intersection(&new.facts.callers).filter(|kept| !now.callers.contains(*kept));
    let lost = lost_allow.chain(lost_deny).cloned().chain(lost_caller.map(|caller| format!("{caller:?}")));
    if both { lost.map(|lost| format!("{lost} is missing")).collect() } else { Vec::new() }
}
