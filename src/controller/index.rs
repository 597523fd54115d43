//! Where roles are found by what others ask for, so that nobody goes through all of them: those of a namespace, and
//! those that list a ServiceAccount.

use super::raw::RawRole;
use kube::runtime::watcher::Event;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A namespace and a name in it.
type Place = (String, String);
type Accounts = Box<[Box<str>]>;

/// The names of the roles of one watch. It may be ahead of the cache, never behind it.
#[derive(Debug, Default)]
pub struct Index(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By namespace and name, the ServiceAccounts that each lists.
    roles: HashMap<String, BTreeMap<String, Accounts>>,
    /// By ServiceAccount, the roles that list it.
    listing: HashMap<Place, BTreeSet<String>>,
    /// What a list that is not at its end has shown so far.
    shown: Option<HashSet<Place>>,
}

impl Index {
    /// Takes note of what the watch tells.
    pub fn note(&self, event: &Event<RawRole>) {
        let mut inner = self.lock();
        match event {
            Event::Init => inner.shown = Some(HashSet::new()),
            Event::InitApply(role) | Event::Apply(role) => inner.put(role),
            Event::InitDone => inner.keep_shown(),
            Event::Delete(role) => inner.remove(&place(role)),
        }
    }

    /// The names of the roles of a namespace.
    #[must_use]
    pub fn of_namespace(&self, namespace: &str) -> Vec<String> {
        self.lock().roles.get(namespace).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// The names of the roles of a namespace that list a ServiceAccount of it.
    #[must_use]
    pub fn listing(&self, namespace: &str, account: &str) -> Vec<String> {
        let key = (namespace.to_owned(), account.to_owned());
        self.lock().listing.get(&key).into_iter().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves names behind that the cache does not know, which is asked after all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, role: &RawRole) {
        let place = place(role);
        self.remove(&place);
        for account in &role.said.service_accounts {
            self.listing.entry((place.0.clone(), account.to_string())).or_default().insert(place.1.clone());
        }
        let accounts = role.said.service_accounts.clone();
        self.roles.entry(place.0.clone()).or_default().insert(place.1.clone(), accounts);
        if let Some(shown) = &mut self.shown {
            shown.insert(place);
        }
    }

    fn remove(&mut self, (namespace, name): &Place) {
        let Some(roles) = self.roles.get_mut(namespace) else { return };
        let Some(accounts) = roles.remove(name) else { return };
        if roles.is_empty() {
            self.roles.remove(namespace);
        }
        for account in accounts {
            let key = (namespace.clone(), account.into_string());
            if let Some(listing) = self.listing.get_mut(&key) {
                listing.remove(name);
                if listing.is_empty() {
                    self.listing.remove(&key);
                }
            }
        }
    }

    /// What a whole list has not shown is gone.
    fn keep_shown(&mut self) {
        let Some(shown) = self.shown.take() else { return };
        let all =
            self.roles.iter().flat_map(|(namespace, roles)| roles.keys().map(|name| (namespace.clone(), name.clone())));
        let gone: Vec<Place> = all.filter(|place| !shown.contains(place)).collect();
        for place in gone {
            self.remove(&place);
        }
    }
}

fn place(role: &RawRole) -> Place {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&role.metadata.namespace), text(&role.metadata.name))
}

#[cfg(test)]
mod tests {
    use super::{Event, Index, RawRole};
    use serde_json::json;

    fn role(name: &str, accounts: &[&str]) -> RawRole {
        let accounts: Vec<_> = accounts.iter().map(|name| json!({ "name": name })).collect();
        let role = json!({ "metadata": { "namespace": "n", "name": name }, "spec": { "serviceAccounts": accounts } });
        serde_json::from_value(role).unwrap()
    }

    #[test]
    fn a_role_is_found_by_what_it_lists_now() {
        let index = Index::default();
        index.note(&Event::Apply(role("one", &["a", "b"])));
        index.note(&Event::Apply(role("two", &["b"])));
        assert_eq!(
            (index.listing("n", "a"), index.listing("n", "b")),
            (vec!["one".into()], vec!["one".into(), "two".into()])
        );
        assert_eq!((index.of_namespace("n"), index.listing("m", "b")), (vec!["one".into(), "two".into()], vec![]));
        index.note(&Event::Apply(role("one", &["c"])));
        assert_eq!((index.listing("n", "a"), index.listing("n", "b")), (vec![], vec!["two".into()]));
        index.note(&Event::Delete(role("two", &["b"])));
        assert_eq!((index.listing("n", "b"), index.of_namespace("n")), (vec![], vec!["one".into()]));
    }

    #[test]
    fn what_a_new_list_does_not_show_is_gone_once_the_list_is_whole() {
        let index = Index::default();
        index.note(&Event::Apply(role("one", &["a"])));
        index.note(&Event::Init);
        index.note(&Event::InitApply(role("two", &["a"])));
        assert_eq!(index.listing("n", "a"), ["one", "two"]);
        index.note(&Event::InitDone);
        assert_eq!((index.listing("n", "a"), index.of_namespace("n")), (vec!["two".into()], vec!["two".into()]));
        index.note(&Event::Delete(role("two", &["a"])));
        assert!(index.lock().roles.is_empty() && index.lock().listing.is_empty(), "nothing is left");
    }
}
