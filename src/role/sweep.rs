//! Whether a role is as wanted, by what a walk over the account shows of it.
//!
//! Each of the calls that list a whole account shows a part, so each is compared by itself: what it does not show is
//! taken to be as wanted. A difference makes a role a suspect and nothing more. Before anything is written, the role is
//! read by itself.

use super::{Desired, Observed, ObservedPolicy, ObservedProfile, Ownership, Record, plan};
use crate::api::iamrole::{Origin, PolicyRef};
use crate::policy::Canonical;
use std::collections::{BTreeMap, BTreeSet};

/// What `ListRoles` adds to the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name in AWS's own case.
    pub name: String,
    /// Unique id (AROA…).
    pub id: String,
    /// Description; empty if absent.
    pub description: String,
    /// Longest session in seconds.
    pub max_session: i32,
}

/// A role as `GetAccountAuthorizationDetails` describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Detailed {
    /// Name in AWS's own case.
    pub name: String,
    /// Path.
    pub path: String,
    /// ARN.
    pub arn: String,
    /// Unique id (AROA…).
    pub id: String,
    /// ARN of the permissions boundary.
    pub boundary: Option<String>,
    /// All tags.
    pub tags: BTreeMap<String, String>,
    /// Trust policy by meaning.
    pub trust: Canonical,
    /// ARNs of all attached managed policies.
    pub managed: BTreeSet<String>,
    /// All inline policies by meaning.
    pub inline: BTreeMap<String, Canonical>,
    /// Names of the instance profiles that hold the role.
    pub profiles: BTreeSet<String>,
}

/// A policy of the account as `ListPolicies` describes it. Versions never change, so its default version stands for its
/// document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPolicy {
    /// ARN.
    pub arn: String,
    /// Unique id (ANPA…).
    pub id: String,
    /// Default version, such as v3.
    pub version: String,
}

/// Whether a policy that a role owns is as status remembers it, as far as `ListPolicies` shows it.
#[must_use]
pub fn matches_policy(own: &PolicyRef, seen: &ListedPolicy) -> bool {
    own.arn == seen.arn && own.id.as_ref() == Some(&seen.id) && own.version.as_ref() == Some(&seen.version)
}

/// Whether some of the roles of nobody were not told yet. `known` are those that were, as far as their names are kept;
/// `told` is how many the process before told of, as long as this one has not looked: it then stands for the names that
/// were too many to keep.
#[must_use]
pub fn has_news(orphans: &BTreeSet<String>, known: &BTreeSet<String>, told: Option<usize>) -> bool {
    let by_number = told == Some(orphans.len()) && known.is_subset(orphans);
    !orphans.is_subset(known) && !by_number
}

/// A settled role, as walks should show it.
#[derive(Debug)]
pub struct Settled {
    /// The role as it should be.
    pub desired: Desired,
    /// What status remembers of it.
    pub record: Record,
    /// What status says is there and kept though nobody listed it.
    pub unlisted: Vec<String>,
    /// The account's quota of attached policies per role.
    pub attachments: usize,
}

impl Settled {
    /// Whether the role is as wanted, as far as `ListRoles` shows it.
    #[must_use]
    pub fn matches_listed(&self, seen: &Listed) -> bool {
        let mut observed = self.as_wanted();
        observed.description.clone_from(&seen.description);
        observed.max_session = seen.max_session;
        self.is_same_role(&seen.name, &seen.id) && self.is_as_wanted(&observed)
    }

    /// Whether the role is as wanted, as far as `GetAccountAuthorizationDetails` shows it.
    #[must_use]
    pub fn matches_detailed(&self, seen: &Detailed) -> bool {
        let mut observed = self.as_wanted();
        observed.boundary.clone_from(&seen.boundary);
        observed.tags.clone_from(&seen.tags);
        observed.trust.clone_from(&seen.trust);
        observed.managed.clone_from(&seen.managed);
        observed.inline.clone_from(&seen.inline);
        for (name, profile) in &mut observed.profiles {
            let holds = seen.profiles.iter().any(|seen| seen.eq_ignore_ascii_case(name));
            if !holds {
                profile.roles.clear();
            }
        }
        let place = self.record.role.as_ref().is_some_and(|role| role.path == seen.path);
        place && self.is_same_role(&seen.name, &seen.id) && self.is_as_wanted(&observed)
    }

    fn is_same_role(&self, name: &str, id: &str) -> bool {
        self.record.role.as_ref().is_some_and(|role| role.name == name && role.id.as_deref() == Some(id))
    }

    fn is_as_wanted(&self, observed: &Observed) -> bool {
        let Self { desired, record, .. } = self;
        let ours = matches!(desired.owner.judge(&observed.tags), Ownership::Ours(_));
        let plan = plan::update(desired, observed, record, self.attachments, false);
        ours && plan.is_empty() && !plan.unfinished && plan.unlisted == self.unlisted
    }

    /// The role as a read would show it if nobody had touched it.
    fn as_wanted(&self) -> Observed {
        let Self { desired, record, .. } = self;
        let account = &desired.account;
        let origin = record.role.as_ref().and_then(|role| role.origin).unwrap_or(Origin::Created);
        let mut observed = plan::nothing(desired);
        observed.tags = desired.tags.clone();
        observed.tags.extend(desired.role_tags(origin));
        observed.boundary.clone_from(&desired.boundary);
        observed.description = desired.description.clone().unwrap_or_default();
        observed.max_session = desired.max_session.unwrap_or(plan::DEFAULT_SESSION);
        observed.managed = desired.managed.iter().chain(desired.own.iter().map(|own| &own.arn)).cloned().collect();
        let inline = desired.inline.iter().map(|(name, document)| (name.clone(), document.canonical(account)));
        observed.inline = inline.collect();
        // What is kept though unlisted is told by name or ARN.
        for kept in &self.unlisted {
            if kept.starts_with("arn:") {
                observed.managed.insert(kept.clone());
            } else {
                observed.inline.insert(kept.clone(), plan::nothing(desired).trust);
            }
        }
        observed.own = desired
            .own
            .iter()
            .map(|own| {
                let document = own.document.canonical(account);
                let tags = desired.role_tags(Origin::Created);
                (own.arn.clone(), ObservedPolicy { id: String::new(), version: String::new(), tags, document })
            })
            .collect();
        observed.profiles = desired
            .profile
            .iter()
            .map(|name| {
                let roles = BTreeSet::from([desired.name.clone()]);
                let tags = desired.owner.tags(Origin::Created);
                (name.clone(), ObservedProfile { name: name.clone(), arn: String::new(), tags, roles })
            })
            .collect();
        observed
    }
}

/// What IAM puts on a page at most.
const PAGE: usize = 1000;

const fn pages(entities: usize) -> usize {
    if entities == 0 { 1 } else { entities.div_ceil(PAGE) }
}

/// Calls that a walk over the account takes, with so many roles and policies in it.
#[must_use]
pub const fn cost_of_walk(roles: usize, policies: Option<usize>) -> usize {
    2 * pages(roles)
        + match policies {
            Some(policies) => pages(policies),
            None => 0,
        }
}

/// Calls that it takes to read one role by itself, as status describes it.
#[must_use]
pub fn cost_of_read(record: &Record) -> usize {
    3 + record.inline.len() + 2 * record.own.len() + usize::from(record.profile.is_some())
}

/// Whether a walk takes so many more calls than reading the roles one by one that they are read. Where they are walked so
/// far it must be more than twice as many: an account with about a thousand roles, where one comes and goes, would be
/// looked at in another way each time.
#[must_use]
pub const fn is_dearer(walk: usize, reads: usize, is_walked: bool) -> bool {
    walk > if is_walked { 2 * reads } else { reads }
}

#[cfg(test)]
mod tests {
    use super::{
        Detailed, Listed, ListedPolicy, Settled, cost_of_read, cost_of_walk, has_news, is_dearer, matches_policy,
    };
    use crate::api::iamrole::{Origin, RoleRef};
    use crate::role::desired::tests::{allow, make};
    use crate::role::{Desired, Record};
    use serde_json::json;
    use std::collections::BTreeSet;

    fn settled() -> Settled {
        let desired: Desired = make(json!({
            "description": "d", "maxSessionDurationSeconds": 7200, "tags": { "a": "b" },
            "managedPolicies": ["ReadOnlyAccess"], "instanceProfile": {},
            "inlinePolicies": [{ "name": "inline", "document": allow("s3:GetObject") }],
            "customerManagedPolicies": [{ "name": "own", "document": allow("sqs:*") }],
        }))
        .unwrap();
        let mut record = Record::default();
        record.settle(&desired, None);
        for own in &mut record.own {
            (own.id, own.version) = (Some("ANPA1".into()), Some("v1".into()));
        }
        let (name, path) = (desired.name.clone(), desired.path.clone());
        let id = Some("AROA1".to_owned());
        record.role = Some(RoleRef { name, path, id, origin: Some(Origin::Created), ..RoleRef::default() });
        Settled { desired, record, unlisted: Vec::new(), attachments: 10 }
    }

    fn listed(settled: &Settled) -> Listed {
        let (name, id) = (settled.desired.name.clone(), "AROA1".to_owned());
        Listed { name, id, description: "d".into(), max_session: 7200 }
    }

    fn detailed(settled: &Settled) -> Detailed {
        let wanted = settled.as_wanted();
        Detailed {
            name: wanted.name,
            path: wanted.path,
            arn: "arn:aws:iam::111122223333:role/x".into(),
            id: "AROA1".into(),
            boundary: wanted.boundary,
            tags: wanted.tags,
            trust: wanted.trust,
            managed: wanted.managed,
            inline: wanted.inline,
            profiles: wanted.profiles.into_keys().collect(),
        }
    }

    #[test]
    fn an_untouched_role_is_no_suspect_and_each_change_makes_it_one() {
        let role = settled();
        assert!(role.matches_listed(&listed(&role)) && role.matches_detailed(&detailed(&role)));

        let changes: [fn(&mut Listed); 4] = [
            |seen| seen.description.clear(),
            |seen| seen.max_session = 3600,
            |seen| seen.id = "AROA2".into(),
            |seen| seen.name = seen.name.to_uppercase(),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut seen = listed(&role);
            change(&mut seen);
            assert!(!role.matches_listed(&seen), "change {i}");
        }

        let changes: [fn(&mut Detailed); 14] = [
            |seen| seen.path = "/x/".into(),
            |seen| seen.id = "AROA2".into(),
            |seen| seen.name = seen.name.to_uppercase(),
            |seen| drop(seen.tags.remove("a")),
            |seen| drop(seen.tags.insert("a".into(), "c".into())),
            |seen| drop(seen.tags.remove(crate::api::TAG_ORIGIN)),
            |seen| seen.tags.clear(),
            |seen| seen.trust = seen.inline["inline"].clone(),
            |seen| drop(seen.inline.remove("inline")),
            |seen| drop(seen.inline.insert("more".into(), seen.trust.clone())),
            |seen| seen.managed.extend(["arn:aws:iam::aws:policy/AdministratorAccess".to_owned()]),
            |seen| seen.managed.retain(|arn| !arn.ends_with("ReadOnlyAccess")),
            |seen| seen.managed.retain(|arn| arn.ends_with("ReadOnlyAccess")),
            |seen| seen.profiles.clear(),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut seen = detailed(&role);
            change(&mut seen);
            assert!(!role.matches_detailed(&seen), "change {i}");
        }
    }

    #[test]
    fn a_boundary_counts_where_it_is_wanted() {
        let boundary = "arn:aws:iam::111122223333:policy/b";
        let mut role = settled();
        let mut strange = detailed(&role);
        strange.boundary = Some(boundary.into());
        assert!(role.matches_detailed(&strange), "one that nobody here set is left alone");
        role.desired.boundary = Some(boundary.into());
        assert!(role.matches_detailed(&strange));
        strange.boundary = None;
        assert!(!role.matches_detailed(&strange));
    }

    #[test]
    fn what_is_kept_though_unlisted_is_no_news_and_more_of_it_is() {
        let mut role = settled();
        role.desired.when_unlisted = crate::api::iamrole::WhenUnlisted::Keep;
        let (other, untouched) = ("arn:aws:iam::aws:policy/AdministratorAccess", detailed(&role));
        let mut seen = untouched.clone();
        seen.managed.insert(other.into());
        seen.inline.insert("theirs".into(), seen.trust.clone());
        assert!(!role.matches_detailed(&seen), "status has to tell it");
        role.unlisted = vec![other.into(), "theirs".into()];
        assert!(role.matches_detailed(&seen) && role.matches_listed(&listed(&role)));
        assert!(!role.matches_detailed(&untouched), "it is gone again");
    }

    #[test]
    fn a_walk_is_cheaper_than_reading_but_for_few_roles_in_a_crowded_account() {
        assert_eq!((cost_of_walk(0, None), cost_of_walk(1000, None), cost_of_walk(1001, Some(1))), (2, 2, 5));
        let role = settled();
        assert_eq!(cost_of_read(&role.record), 3 + 1 + 2 + 1);
        assert_eq!(cost_of_read(&Record::default()), 3);
    }

    #[test]
    fn what_takes_fewer_calls_is_done_and_changes_only_where_that_is_clear() {
        for (walk, reads, dearer, dearer_where_walked) in [
            (2, 0, true, true),
            (2, 3, false, false),
            (3, 3, false, false),
            (4, 3, true, false),
            (6, 3, true, false),
            (7, 3, true, true),
            (10, 6, true, false),
            (200, 99, true, true),
        ] {
            let found = (is_dearer(walk, reads, false), is_dearer(walk, reads, true));
            assert_eq!(found, (dearer, dearer_where_walked), "{walk} calls or {reads}");
        }
    }

    #[test]
    fn where_one_role_comes_and_goes_the_way_is_not_changed_each_time() {
        for thousand in [1000, 2000, 10_000] {
            for policies in [None, Some(1), Some(thousand)] {
                for reads in 3..80 {
                    let (mut is_walked, mut changes) = (false, 0);
                    for one in [0, 1].into_iter().cycle().take(20) {
                        let walk = cost_of_walk(thousand + one, policies.map(|policies| policies + one));
                        let walks = !is_dearer(walk, reads, is_walked);
                        changes += usize::from(walks != is_walked);
                        is_walked = walks;
                    }
                    assert!(changes <= 1, "{thousand} roles, {policies:?} policies, {reads} calls: {changes} changes");
                }
            }
        }
    }

    #[test]
    fn roles_of_nobody_are_told_once() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let (all, some) = (set(&["a", "b", "c"]), set(&["a", "b"]));
        assert!(has_news(&all, &some, None) && has_news(&all, &set(&[]), Some(0)));
        assert!(!has_news(&some, &all, None) && !has_news(&all, &all, None) && !has_news(&set(&[]), &some, Some(2)));
        assert!(!has_news(&all, &some, Some(3)), "the process before told of three");
        assert!(has_news(&all, &some, Some(2)) && has_news(&all, &set(&["a", "x"]), Some(3)));
    }

    #[test]
    fn a_policy_is_known_by_its_default_version() {
        let role = settled();
        let own = &role.record.own[0];
        let seen = |arn: &str, id: &str, version: &str| {
            matches_policy(own, &ListedPolicy { arn: arn.into(), id: id.into(), version: version.into() })
        };
        assert!(seen(&own.arn, "ANPA1", "v1"));
        assert!(!seen(&own.arn, "ANPA1", "v2") && !seen(&own.arn, "ANPA2", "v1") && !seen("arn:x", "ANPA1", "v1"));
    }
}
