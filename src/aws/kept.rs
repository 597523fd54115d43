//! What is kept as long as somebody asks for it: accounts, sessions and policies come and go with the classes that name
//! them, and nobody says which are left by all.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// Each class asks for all that it needs every ten minutes.
const KEPT: Duration = Duration::from_hours(2);
/// So few are no reason to look for what is old.
const FEW: usize = 32;

/// Values by what is asked for, each with when that was done last.
#[derive(Debug)]
pub(super) struct Kept<K, V> {
    values: HashMap<K, (V, Instant)>,
    /// When there are so many, those are looked for that nobody asks for any more: so each costs little.
    many: usize,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), many: FEW }
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        let (value, asked) = self.values.get_mut(key)?;
        *asked = Instant::now();
        Some(value.clone())
    }

    /// The value that is there, else a new one. What `is_used` by somebody is not forgotten meanwhile.
    pub(super) fn get_or(&mut self, key: K, new: impl FnOnce() -> V, is_used: impl Fn(&V) -> bool) -> V {
        if let Some(value) = self.get(&key) {
            return value;
        }
        if self.values.len() >= self.many {
            self.values.retain(|_, (value, asked)| is_used(value) || asked.elapsed() < KEPT);
            self.many = FEW.max(2 * self.values.len());
        }
        let value = new();
        self.values.insert(key, (value.clone(), Instant::now()));
        value
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.values.remove(key);
    }

    /// Forgets those whose key is not among these.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&K) -> bool) {
        self.values.retain(|key, _| is_kept(key));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}
