//! How the classes stand, and which of the classes of an account comes first.

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

    /// Remembers how a class stands; true if that is news to its roles.
    pub fn set(&self, name: &str, state: ClassState) -> bool {
        let Inner { by_name, first } = &mut *self.lock();
        let news = by_name.get(name).is_none_or(|before| {
            let usable = |state: &ClassState| state.account.as_ref().map(|account| account.account.clone()).ok();
            let reached = |state: &ClassState| state.reached.as_ref().map(|account| account.account.clone());
            before.uid != state.uid
                || before.generation != state.generation
                || usable(before) != usable(&state)
                || reached(before) != reached(&state)
        });
        first.put(name, state.account.as_ref().ok().map(|account| account.account.id.as_str()));
        by_name.insert(name.to_owned(), state);
        news
    }

    /// Forgets a class that is gone, or is none of ours.
    pub fn forget(&self, name: &str) {
        let inner = &mut *self.lock();
        inner.by_name.remove(name);
        inner.first.put(name, None);
    }

    /// Whether no other class that can be served in the account comes before `name`. `exists` is asked for name and UID
    /// of those that may: one that is no more is forgotten.
    #[must_use]
    pub fn is_first(&self, name: &str, account: &str, exists: impl Fn(&str, &str) -> bool) -> bool {
        let Inner { by_name, first } = &mut *self.lock();
        first.is_first(name, account, |other| {
            let exists = by_name.get(other).is_some_and(|state| exists(other, &state.uid));
            if !exists {
                by_name.remove(other);
            }
            exists
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves whole entries behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The classes of each account in order, so that no class need go through all others.
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

    fn is_first(&mut self, name: &str, account: &str, mut exists: impl FnMut(&str) -> bool) -> bool {
        loop {
            let first = self.of_account.get(account).and_then(BTreeSet::first);
            let Some(before) = first.filter(|first| first.as_str() < name).cloned() else { return true };
            if exists(&before) {
                return false;
            }
            self.put(&before, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Firsts;
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
            (gone..CLASSES).filter(|i| firsts.is_first(&name(*i), ACCOUNT, exists)).collect::<Vec<_>>()
        };
        assert_eq!(first_of_all(0), [0]);
        assert!(asked.get() <= CLASSES, "{} questions about {CLASSES} classes", asked.get());
        asked.set(0);
        assert_eq!(first_of_all(CLASSES / 2), [CLASSES / 2], "the first half is gone, and nobody said so");
        assert!(asked.get() <= CLASSES, "{} questions", asked.get());
    }

    #[test]
    fn a_class_counts_for_the_account_that_it_leads_to_now() {
        let mut firsts = Firsts::default();
        let is_first = |firsts: &mut Firsts, name: &str, account: &str| firsts.is_first(name, account, |_| true);
        firsts.put("a", Some(ACCOUNT));
        firsts.put("b", Some(ACCOUNT));
        assert!(is_first(&mut firsts, "a", ACCOUNT) && !is_first(&mut firsts, "b", ACCOUNT));
        firsts.put("a", Some("444455556666"));
        assert!(is_first(&mut firsts, "b", ACCOUNT) && !is_first(&mut firsts, "b", "444455556666"));
        firsts.put("a", None);
        assert!(is_first(&mut firsts, "b", "444455556666"));
        firsts.put("b", None);
        assert!(firsts.of_account.is_empty() && firsts.account_of.is_empty(), "nothing is left");
    }
}
