//! Where roles are found by what others ask for, so that nobody goes through all of them: those of a namespace, those
//! that list a ServiceAccount, and those of a class.

use super::raw::RawRole;
use kube::runtime::watcher::Event;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A namespace and a name in it.
pub type Place = (String, String);

/// The names of the roles of one watch. It may be ahead of the cache, never behind it.
#[derive(Debug, Default)]
pub struct Index(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By namespace and name, under what else each is found.
    roles: HashMap<String, BTreeMap<String, Keys>>,
    /// By ServiceAccount, the roles that list it.
    listing: HashMap<Place, BTreeSet<String>>,
    /// By class, the roles that name it, in spec or status.
    of_class: HashMap<Box<str>, BTreeSet<Place>>,
    /// Those that name none.
    without_class: BTreeSet<Place>,
    /// What a list that is not at its end has shown so far.
    shown: Option<HashSet<Place>>,
}

/// What a role names.
#[derive(Debug, Default)]
struct Keys {
    accounts: Box<[Box<str>]>,
    classes: Box<[Box<str>]>,
}

impl Keys {
    fn of(role: &RawRole) -> Self {
        let classes: BTreeSet<&Box<str>> = role.said.class.iter().chain(&role.said.named_class).collect();
        Self { accounts: role.said.service_accounts.clone(), classes: classes.into_iter().cloned().collect() }
    }
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

    /// Whether a namespace has roles beside that of the name.
    #[must_use]
    pub fn has_others(&self, namespace: &str, name: &str) -> bool {
        self.lock().roles.get(namespace).is_some_and(|roles| roles.keys().any(|other| other != name))
    }

    /// The names of the roles of a namespace that list a ServiceAccount of it.
    #[must_use]
    pub fn listing(&self, namespace: &str, account: &str) -> Vec<String> {
        let key = (namespace.to_owned(), account.to_owned());
        self.lock().listing.get(&key).into_iter().flatten().cloned().collect()
    }

    /// The roles that name the class, in spec or status.
    #[must_use]
    pub fn of_class(&self, class: &str) -> Vec<Place> {
        self.lock().of_class.get(class).into_iter().flatten().cloned().collect()
    }

    /// Whether `is_meant` picks one of the roles that name the class. It is asked under the lock of the index, and must not
    /// ask the index itself.
    #[must_use]
    pub fn any_of_class(&self, class: &str, is_meant: impl FnMut(&Place) -> bool) -> bool {
        self.lock().of_class.get(class).into_iter().flatten().any(is_meant)
    }

    /// The roles that name no class.
    #[must_use]
    pub fn without_class(&self) -> Vec<Place> {
        self.lock().without_class.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves names behind that the cache does not know, which is asked after all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, role: &RawRole) {
        let (place, keys) = (place(role), Keys::of(role));
        self.remove(&place);
        for account in &keys.accounts {
            self.listing.entry((place.0.clone(), account.to_string())).or_default().insert(place.1.clone());
        }
        for class in &keys.classes {
            self.of_class.entry(class.clone()).or_default().insert(place.clone());
        }
        if keys.classes.is_empty() {
            self.without_class.insert(place.clone());
        }
        self.roles.entry(place.0.clone()).or_default().insert(place.1.clone(), keys);
        if let Some(shown) = &mut self.shown {
            shown.insert(place);
        }
    }

    fn remove(&mut self, place: &Place) {
        let (namespace, name) = place;
        let Some(roles) = self.roles.get_mut(namespace) else { return };
        let Some(keys) = roles.remove(name) else { return };
        if roles.is_empty() {
            self.roles.remove(namespace);
        }
        for account in keys.accounts {
            take(&mut self.listing, &(namespace.clone(), account.into_string()), name);
        }
        for class in keys.classes {
            take(&mut self.of_class, &class, place);
        }
        self.without_class.remove(place);
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

fn take<K: Eq + Hash, V: Ord>(map: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
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
        assert!(index.has_others("n", "two") && !index.has_others("m", "two"));
        index.note(&Event::Delete(role("two", &["b"])));
        assert!(!index.has_others("n", "one") && index.has_others("n", "two"));
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
        assert!(index.lock().without_class.is_empty());
    }

    fn of_classes(name: &str, spec: Option<&str>, status: Option<&str>) -> RawRole {
        let class = status.map(|name| json!({ "name": name }));
        let role = json!({
            "metadata": { "namespace": "n", "name": name },
            "spec": { "roleClassName": spec }, "status": { "class": class },
        });
        serde_json::from_value(role).unwrap()
    }

    #[test]
    fn a_class_finds_its_roles_and_none_of_the_others() {
        let index = Index::default();
        for i in 0..1000 {
            index.note(&Event::Apply(of_classes(&format!("other-{i}"), None, Some("other"))));
        }
        let roles = [
            ("named", Some("mine"), None),
            ("both", Some("mine"), Some("mine")),
            ("remembered", None, Some("mine")),
            ("comes", Some("mine"), Some("other")),
            ("goes", Some("other"), Some("mine")),
            ("none", None, None),
        ];
        for (name, spec, status) in roles {
            index.note(&Event::Apply(of_classes(name, spec, status)));
        }
        let names = |places: Vec<super::Place>| places.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(names(index.of_class("mine")), ["both", "comes", "goes", "named", "remembered"]);
        assert_eq!((names(index.without_class()), index.of_class("other").len()), (vec!["none".to_owned()], 1002));
        let asked = |class: &str, last: &str| {
            let mut asked = 0;
            let found = index.any_of_class(class, |(_, name)| {
                asked += 1;
                name == last
            });
            (found, asked)
        };
        assert_eq!(asked("other", "comes"), (true, 1), "whoever looks for one goes through no others");
        assert_eq!((asked("mine", "none"), asked("nobody's", "none")), ((false, 5), (false, 0)));
        for (name, ..) in roles {
            index.note(&Event::Apply(of_classes(name, None, Some("other"))));
        }
        assert_eq!(
            (index.of_class("mine"), index.without_class(), index.of_class("other").len()),
            (vec![], vec![], 1006)
        );
    }
}
