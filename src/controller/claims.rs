//! Which object may use which role name, within this process: of two, the one that has the role keeps it,
//! else the younger is refused.
//!
//! Owner tags decide in AWS; this keeps two objects from racing to create the same role, which IAM would
//! report to the loser as "already exists".

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who claims: ordered by possession, then by age, then by name, so that the one to be served is the least.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimant {
    /// It has no role yet, as far as its status knows. One that has is never driven out by an elder that
    /// comes later (was suspended, say): AWS would refuse that one, and both would be stuck.
    pub waits: bool,
    /// Creation time, RFC 3339.
    pub created: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

type Key = (String, String);

/// All claims, by account and lower-case role name.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Most have one claimant: a list, not a tree, which has room for eleven.
    by_name: BTreeMap<Key, Vec<Claimant>>,
    /// What each UID claims.
    key_of: HashMap<String, Key>,
}

impl Claims {
    /// Claims the role for `me`. The claimant that goes before, if there is one that still exists, is the error.
    pub fn claim(
        &self,
        account: &str,
        role: &str,
        me: &Claimant,
        exists: impl Fn(&Claimant) -> bool,
    ) -> Result<(), Claimant> {
        let mut claims = self.lock();
        let key = (account.to_owned(), role.to_lowercase());
        let before = claims.key_of.insert(me.uid.clone(), key.clone()).filter(|before| *before != key);
        if let Some(before) = before
            && let Some(claimants) = claims.by_name.get_mut(&before)
        {
            // Its name was another one.
            claimants.retain(|claimant| claimant.uid != me.uid);
            if claimants.is_empty() {
                claims.by_name.remove(&before);
            }
        }
        let claimants = claims.by_name.entry(key).or_default();
        claimants.retain(|other| other.uid != me.uid && exists(other));
        claimants.reserve_exact(1);
        claimants.push(me.clone());
        match claimants.iter().min() {
            Some(first) if first.uid != me.uid => Err(first.clone()),
            _ => Ok(()),
        }
    }

    /// Who claims the role and would be served first.
    #[must_use]
    pub fn first(&self, account: &str, role: &str) -> Option<Claimant> {
        let key = (account.to_owned(), role.to_lowercase());
        self.lock().by_name.get(&key)?.iter().min().cloned()
    }

    /// Gives up the claim of `uid`; returns who waited for it.
    pub fn release(&self, uid: &str) -> Option<Claimant> {
        let inner = &mut *self.lock();
        let key = inner.key_of.remove(uid)?;
        let claimants = inner.by_name.get_mut(&key)?;
        claimants.retain(|claimant| claimant.uid != uid);
        let next = claimants.iter().min().cloned();
        if next.is_none() {
            inner.by_name.remove(&key);
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Claimant, Claims};

    fn claimant(created: &str, name: &str) -> Claimant {
        let (created, namespace, uid) = (created.into(), "shop".into(), format!("uid-{name}"));
        Claimant { waits: true, created, namespace, name: name.into(), uid }
    }

    #[test]
    fn the_elder_wins_whoever_comes_first_and_case_is_ignored() {
        let (claims, elder, younger) = (Claims::default(), claimant("2026-01", "a"), claimant("2026-02", "b"));
        assert_eq!(claims.claim("1", "App", &younger, |_| true), Ok(()));
        assert_eq!(claims.claim("1", "app", &elder, |_| true), Ok(()));
        assert_eq!(claims.claim("1", "APP", &younger, |_| true), Err(elder.clone()));
        assert_eq!(claims.claim("2", "app", &claimant("2026-03", "c"), |_| true), Ok(()), "another account");
        assert_eq!(claims.release(&elder.uid), Some(younger.clone()), "the one who waited");
        assert_eq!(claims.claim("1", "app", &younger, |_| true), Ok(()));
    }

    #[test]
    fn who_has_the_role_goes_before_an_elder() {
        let (claims, elder, younger) = (Claims::default(), claimant("2026-01", "a"), claimant("2026-02", "b"));
        assert_eq!(claims.claim("1", "app", &younger, |_| true), Ok(()));
        let has = Claimant { waits: false, ..younger };
        assert_eq!(claims.claim("1", "app", &has, |_| true), Ok(()));
        assert_eq!(claims.claim("1", "app", &elder, |_| true), Err(has.clone()));
        assert_eq!(claims.claim("1", "app", &has, |_| true), Ok(()));
        assert_eq!(claims.release(&has.uid), Some(elder), "and counts once");
    }

    #[test]
    fn who_claims_another_name_gives_up_the_first() {
        let (claims, elder, younger) = (Claims::default(), claimant("2026-01", "a"), claimant("2026-02", "b"));
        assert_eq!(claims.claim("1", "old", &elder, |_| true), Ok(()));
        assert_eq!(claims.claim("1", "new", &elder, |_| true), Ok(()));
        assert_eq!(claims.claim("1", "old", &younger, |_| true), Ok(()));
    }

    #[test]
    fn a_claimant_that_is_gone_does_not_count() {
        let (claims, elder, younger) = (Claims::default(), claimant("2026-01", "a"), claimant("2026-02", "b"));
        assert_eq!(claims.claim("1", "app", &elder, |_| true), Ok(()));
        assert_eq!(claims.claim("1", "app", &younger, |_| false), Ok(()));
    }
}
