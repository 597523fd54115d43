//! How the classes stand, and which of those that have an account walked comes first.

use super::failure::Failure;
use crate::aws::Account;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a class stands, as its controller found it in this process.
#[derive(Clone, Debug)]
pub struct ClassState {
    /// UID of the class, so that a new class of the same name is not taken for it.
    pub uid: String,
    /// Generation of the class that was looked at.
    pub generation: i64,
    /// The account to work in, or why roles can't be served.
    pub account: Result<Arc<Account>, Failure>,
    /// The account that the class leads to, also where its roles can't be served: deletion asks for no more.
    pub reached: Option<Arc<Account>>,
    /// Whether the boundary that it forces can be kept on roles there, also where nothing else can be done.
    pub keeps_boundary: bool,
}

/// How all classes stand, by name.
#[derive(Debug, Default)]
pub struct ClassStates(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_name: HashMap<String, ClassState>,
    first: Firsts,
}

impl ClassStates {
    /// How the class stands; `None` before its controller has looked at it.
    #[must_use]
    pub fn get(&self, name: &str, uid: &str) -> Option<ClassState> {
        self.lock().by_name.get(name).filter(|state| state.uid == uid).cloned()
    }

    /// Remembers how a class stands, and whether it has its account walked; true if the former is news to its roles.
    pub fn set(&self, name: &str, state: ClassState, has_walks: bool) -> bool {
        let Inner { by_name, first } = &mut *self.lock();
        let news = by_name.get(name).is_none_or(|before| {
            let usable = |state: &ClassState| state.account.as_ref().map(|account| account.account.clone()).ok();
            let reached = |state: &ClassState| state.reached.as_ref().map(|account| account.account.clone());
            before.uid != state.uid
                || before.generation != state.generation
                || usable(before) != usable(&state)
                || reached(before) != reached(&state)
        });
        let walked = state.account.as_ref().ok().filter(|_| has_walks);
        first.put(name, walked.map(|account| account.account.id.as_str()));
        by_name.insert(name.to_owned(), state);
        news
    }

    /// The account that a class has walked.
    #[must_use]
    pub fn account_of(&self, name: &str) -> Option<String> {
        self.lock().first.account_of.get(name).cloned()
    }

    /// The first by name of those that are known to have the account walked, whether or not it still exists.
    #[must_use]
    pub fn foremost(&self, account: &str) -> Option<String> {
        self.lock().first.of_account.get(account)?.first().cloned()
    }

    /// Those that do not exist, by name and UID, where `exists` is asked for both.
    #[must_use]
    pub fn gone(&self, exists: impl Fn(&str, &str) -> bool) -> Vec<(String, String)> {
        let inner = self.lock();
        let gone = inner.by_name.iter().filter(|(name, state)| !exists(name, &state.uid));
        gone.map(|(name, state)| (name.clone(), state.uid.clone())).collect()
    }

    /// Forgets a class, unless another one of its name is known by now.
    pub fn forget_that(&self, name: &str, uid: &str) {
        let inner = &mut *self.lock();
        if inner.by_name.get(name).is_some_and(|state| state.uid == uid) {
            inner.by_name.remove(name);
            inner.first.put(name, None);
        }
    }

    /// Forgets a class that is gone, or is none of ours.
    pub fn forget(&self, name: &str) {
        let inner = &mut *self.lock();
        inner.by_name.remove(name);
        inner.first.put(name, None);
    }

    /// The first by name of the classes that can be served in the account and have it walked. `exists` is asked for name
    /// and UID: one that is no more is forgotten.
    #[must_use]
    pub fn first(&self, account: &str, exists: impl Fn(&str, &str) -> bool) -> Option<String> {
        let Inner { by_name, first } = &mut *self.lock();
        first.first(account, |name| {
            let exists = by_name.get(name).is_some_and(|state| exists(name, &state.uid));
            if !exists {
                by_name.remove(name);
            }
            exists
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves whole entries behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The classes that have an account walked, in order, so that none need go through all others.
#[derive(Debug, Default)]
struct Firsts {
    of_account: HashMap<String, BTreeSet<String>>,
    account_of: HashMap<String, String>,
}

impl Firsts {
    fn put(&mut self, name: &str, account: Option<&str>) {
        if self.account_of.get(name).map(String::as_str) == account {
            return;
        }
        if let Some(before) = self.account_of.remove(name)
            && let Some(names) = self.of_account.get_mut(&before)
        {
            names.remove(name);
            if names.is_empty() {
                self.of_account.remove(&before);
            }
        }
        if let Some(account) = account {
            self.of_account.entry(account.to_owned()).or_default().insert(name.to_owned());
            self.account_of.insert(name.to_owned(), account.to_owned());
        }
    }

    fn first(&mut self, account: &str, mut exists: impl FnMut(&str) -> bool) -> Option<String> {
        loop {
            let first = self.of_account.get(account)?.first()?.clone();
            if exists(&first) {
                return Some(first);
            }
            self.put(&first, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeSet, Firsts};
    use std::cell::Cell;

    const ACCOUNT: &str = "111122223333";

    fn name(i: usize) -> String {
        format!("class-{i:04}")
    }

    #[test]
    fn the_first_class_of_an_account_is_found_without_going_through_the_others() {
        const CLASSES: usize = 1000;
        let (mut firsts, asked) = (Firsts::default(), Cell::new(0));
        for i in 0..CLASSES {
            firsts.put(&name(i), Some(ACCOUNT));
        }
        let mut first_of_all = |gone: usize| {
            let exists = |other: &str| {
                asked.set(asked.get() + 1);
                *other >= *name(gone)
            };
            let first: BTreeSet<_> = (gone..CLASSES).filter_map(|_| firsts.first(ACCOUNT, exists)).collect();
            first.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(first_of_all(0), [name(0)]);
        assert!(asked.get() <= CLASSES, "{} questions about {CLASSES} classes", asked.get());
        asked.set(0);
        assert_eq!(first_of_all(CLASSES / 2), [name(CLASSES / 2)], "the first half is gone, and nobody said so");
        assert!(asked.get() <= CLASSES, "{} questions", asked.get());
    }

    #[test]
    fn a_class_counts_for_the_account_that_it_leads_to_now() {
        let mut firsts = Firsts::default();
        let first = |firsts: &mut Firsts, account: &str| firsts.first(account, |_| true);
        firsts.put("a", Some(ACCOUNT));
        firsts.put("b", Some(ACCOUNT));
        assert_eq!(first(&mut firsts, ACCOUNT).as_deref(), Some("a"));
        firsts.put("a", Some("444455556666"));
        assert_eq!(first(&mut firsts, ACCOUNT).as_deref(), Some("b"));
        assert_eq!(first(&mut firsts, "444455556666").as_deref(), Some("a"));
        firsts.put("a", None);
        assert_eq!(first(&mut firsts, "444455556666"), None);
        firsts.put("b", None);
        assert!(firsts.of_account.is_empty() && firsts.account_of.is_empty(), "nothing is left");
    }
}
