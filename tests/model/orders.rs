//! Whether an update can be made at all without losing anything, found by trying every order of its changes.

use super::Aws;
use super::wishes::{Permission, of_attached};
use std::collections::{BTreeMap, BTreeSet};

/// More changes than that are not tried.
const MOST: usize = 8;

/// What a policy gives, and what it takes of the quotas: inline characters and attachments.
type Part = (BTreeSet<Permission>, usize, usize);

/// Whether some order of plain changes, each policy at once from its old form to its new one, keeps all that is there
/// before and after, within the quotas; `None` where there are too many to try.
pub fn is_lossless(before: &Aws, end: &Aws) -> Option<bool> {
    let (old, new) = (parts(before), parts(end));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed: Vec<&String> = keys.iter().copied().filter(|key| old.get(*key) != new.get(*key)).collect();
    if changed.len() > MOST {
        return None;
    }
    let there = |done: usize| -> Vec<&Part> {
        let is_done = |key: &String| changed.iter().position(|known| *known == key).is_some_and(|i| done >> i & 1 == 1);
        keys.iter().filter_map(|key| if is_done(key) { new.get(*key) } else { old.get(*key) }).collect()
    };
    let given = |done: usize| there(done).into_iter().flat_map(|(facts, _, _)| facts).cloned().collect::<BTreeSet<_>>();
    let all = (1usize << changed.len()) - 1;
    let stays: BTreeSet<_> = given(0).intersection(&given(all)).cloned().collect();
    let mut reached = BTreeSet::from([0usize]);
    let mut next = vec![0usize];
    while let Some(done) = next.pop() {
        for i in (0..changed.len()).filter(|i| done >> i & 1 == 0) {
            let then = done | 1 << i;
            let (now, after) = (there(done), there(then));
            let grows = |part: fn(&&Part) -> usize, limit: usize| {
                let (now, after) = (now.iter().map(part).sum::<usize>(), after.iter().map(part).sum::<usize>());
                after > now && after > limit
            };
            let full = grows(|part| part.1, before.limits.inline_total) || grows(|part| part.2, before.quota);
            if !full && stays.is_subset(&given(then)) && reached.insert(then) {
                next.push(then);
            }
        }
    }
    Some(reached.contains(&all))
}

fn parts(aws: &Aws) -> BTreeMap<String, Part> {
    let role = aws.role();
    let attached = role.managed.iter().map(|arn| (arn.clone(), (of_attached(aws, arn), 0, 1)));
    let inline = role
        .inline
        .iter()
        .map(|(name, held)| (name.clone(), (held.document.clauses().into_iter().map(Ok).collect(), held.size, 0)));
    attached.chain(inline).collect()
}
