//! What the process remembers of associations. Nothing depends on it but the number of calls.

use super::AGAIN;
use super::association::Associated;
use super::condition::{Finding, Passes};
use crate::api::{TAG_CLUSTER, TAG_NAME, TAG_NAMESPACE};
use crate::aws::Association;
use crate::role::Owner;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// So many associations that are gone may be remembered in a namespace, and as many as are there.
const GONE_KEPT: usize = 256;

/// What was found at the last look, so that a ServiceAccount that changes leads to no call to EKS.
#[derive(Clone)]
pub(super) struct Look {
    /// Generations of object and class, and the role.
    pub of: (i64, i64, String),
    pub at: Instant,
    pub associated: Associated,
    pub findings: Vec<Finding>,
}

impl Look {
    pub fn lasts(&self) -> bool {
        let is_soon = self.findings.iter().any(|finding| finding.passes == Passes::Soon);
        self.findings.is_empty() || (!is_soon && self.at.elapsed() < AGAIN)
    }
}

/// Tags of an owner, by ARN of what carries them.
type Owners = HashMap<String, BTreeMap<String, String>>;

/// What is remembered of all objects.
#[derive(Default)]
pub struct Looks {
    last: Mutex<HashMap<String, Look>>,
    /// Whose associations are, by namespace: what one object was told of them the others need not ask.
    owners: Mutex<HashMap<String, Owners>>,
    /// UIDs of objects with ARNs of associations that are left, as was told.
    told: Mutex<HashSet<(String, String)>>,
    /// When something was news about an object's ServiceAccounts, until their pods were looked at once more.
    news: Mutex<HashMap<String, Instant>>,
}

impl Looks {
    /// The next reconciliation of the object looks anew.
    pub fn forget(&self, uid: &str) {
        lock(&self.last).remove(uid);
        lock(&self.told).retain(|(of, _)| of != uid);
        lock(&self.news).remove(uid);
    }

    /// No object of the namespace is left.
    pub fn forget_namespace(&self, namespace: &str) {
        lock(&self.owners).remove(namespace);
    }

    pub(super) fn last(&self, uid: &str) -> Option<Look> {
        lock(&self.last).get(uid).cloned()
    }

    pub(super) fn keep(&self, uid: &str, look: Look) {
        lock(&self.last).insert(uid.to_owned(), look);
    }

    /// Remembers whose one is.
    pub(super) fn seen(&self, namespace: &str, arn: &str, tags: &BTreeMap<String, String>) {
        let of_owner = [TAG_CLUSTER, TAG_NAMESPACE, TAG_NAME].into_iter();
        let tags = of_owner.filter_map(|key| Some((key.to_owned(), tags.get(key)?.clone()))).collect();
        lock(&self.owners).entry(namespace.to_owned()).or_default().insert(arn.to_owned(), tags);
    }

    /// Remembers that one is nobody's any more: its ARN does not come again, but a list may still have it.
    pub(super) fn gone(&self, namespace: &str, arn: &str) {
        self.seen(namespace, arn, &BTreeMap::new());
    }

    /// Whether it is known whose one is.
    pub(super) fn is_known(&self, one: &Association) -> bool {
        lock(&self.owners).get(&one.namespace).is_some_and(|owners| owners.contains_key(&one.arn))
    }

    /// ARNs of those that are known to be this owner's.
    pub(super) fn ours(&self, namespace: &str, owner: &Owner) -> Vec<String> {
        let owners = lock(&self.owners);
        let all = owners.get(namespace).into_iter().flatten();
        all.filter(|(_, tags)| owner.judge(tags).is_ours()).map(|(arn, _)| arn.clone()).collect()
    }

    /// Whether one is known to be somebody else's.
    pub(super) fn is_of_others(&self, one: &Association, owner: &Owner) -> bool {
        let owners = lock(&self.owners);
        let tags = owners.get(&one.namespace).and_then(|owners| owners.get(&one.arn));
        tags.is_some_and(|tags| !owner.judge(tags).is_ours())
    }

    /// Forgets those of the namespace that are not there any more. Not at once: one may just have been made, and the list
    /// be from before.
    pub(super) fn keep_only(&self, namespace: &str, there: &[Association]) {
        let most = 2 * there.len() + GONE_KEPT;
        if let Some(owners) = lock(&self.owners).get_mut(namespace).filter(|owners| owners.len() > most) {
            let there: BTreeSet<&str> = there.iter().map(|one| one.arn.as_str()).collect();
            owners.retain(|arn, _| there.contains(arn.as_str()));
        }
    }

    /// Remembers that it was told of one that it is left; false if that was known.
    pub(super) fn is_news(&self, uid: &str, arn: &str) -> bool {
        lock(&self.told).insert((uid.to_owned(), arn.to_owned()))
    }

    /// How long until the pods are to be looked at once more: they come while a role is bound, and EKS's webhook sees
    /// an association late. `None`: that was done, just now at the latest.
    pub fn until_pods(&self, uid: &str, is_news: bool) -> Option<Duration> {
        let mut news = lock(&self.news);
        if is_news {
            news.insert(uid.to_owned(), Instant::now());
        }
        let left = AGAIN.saturating_sub(news.get(uid)?.elapsed());
        if left.is_zero() {
            news.remove(uid);
            return None;
        }
        Some(left)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{GONE_KEPT, Looks, lock};
    use crate::api::iamrole::Origin;
    use crate::aws::Association;
    use crate::role::Owner;
    use crate::role::owner::tests::owner;
    use std::collections::BTreeMap;

    fn association(arn: &str, tags: BTreeMap<String, String>) -> Association {
        Association {
            arn: arn.to_owned(),
            id: String::new(),
            namespace: "shop".to_owned(),
            account: String::new(),
            role: String::new(),
            tags,
            untagged: false,
            target: None,
        }
    }

    #[test]
    fn whose_one_is_is_known_to_all_once_one_has_looked() {
        let (looks, mine) = (Looks::default(), owner());
        let other = Owner { name: "other".to_owned(), ..mine.clone() };
        let (one, foreign) = (association("one", mine.tags(Origin::Created)), association("two", BTreeMap::new()));
        assert!(!looks.is_of_others(&one, &mine) && !looks.is_of_others(&one, &other), "nobody has looked");
        for seen in [&one, &foreign] {
            looks.seen("shop", &seen.arn, &seen.tags);
        }
        assert!(!looks.is_of_others(&one, &mine) && looks.is_of_others(&one, &other));
        assert!(looks.is_of_others(&foreign, &mine) && looks.is_of_others(&foreign, &other));
        let rebuilt = crate::role::Cluster::new(Some("prod"), "uid-2");
        let heir = Owner { cluster: rebuilt, heir_of: vec!["uid-1".to_owned()], ..mine.clone() };
        assert!(!looks.is_of_others(&one, &heir), "a class may say later whose heir one is");
        assert_eq!((looks.ours("shop", &mine), looks.ours("shop", &other)), (vec!["one".to_owned()], Vec::new()));
        looks.gone("shop", "one");
        assert!(looks.is_known(&one) && looks.is_of_others(&one, &mine) && looks.ours("shop", &mine).is_empty());
        looks.forget("uid of an object");
        assert!(looks.is_of_others(&one, &other), "objects come and go");
    }

    #[test]
    fn what_is_gone_is_not_remembered_for_ever() {
        let (looks, mine) = (Looks::default(), owner());
        let one = association("one", mine.tags(Origin::Created));
        looks.seen("shop", &one.arn, &one.tags);
        looks.keep_only("shop", &[]);
        assert_eq!(lock(&looks.owners)["shop"].len(), 1, "the list may be older");
        for i in 0..3 * GONE_KEPT {
            looks.seen("shop", &format!("gone-{i}"), &one.tags);
            looks.keep_only("shop", std::slice::from_ref(&one));
        }
        let kept = lock(&looks.owners)["shop"].keys().filter(|arn| arn.starts_with("gone")).count();
        assert!(kept <= GONE_KEPT + 2 && lock(&looks.owners)["shop"].contains_key("one"), "{kept}");
        looks.forget_namespace("shop");
        assert!(lock(&looks.owners).is_empty());
    }
}
