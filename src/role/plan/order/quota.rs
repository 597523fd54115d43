//! What IAM's quotas have no room for in the end, beside what stays on the role.
//!
//! A change that IAM will refuse must cost nothing: neither what would go to make room for it, nor what it was to take
//! over. So it is left out before the order is made, and with it each change that without it would lose something that
//! is wanted, or leave it without its denials.

use super::{Ids, Op, Order, Room};
use crate::api::Reason;
use crate::role::Problem;
use crate::role::plan::action::inline_name;
use std::collections::{BTreeMap, BTreeSet};

/// Policies that a message names at most.
const NAMED: usize = 5;

/// Where a change is listed.
enum At {
    Comes(usize),
    Goes(usize),
}

/// A quota that several policies share.
#[derive(Clone, Copy)]
enum Quota {
    Inline,
    Attached,
}

impl Quota {
    const fn of(self, room: Room) -> usize {
        match self {
            Self::Inline => room.inline,
            Self::Attached => room.attached,
        }
    }
}

/// The policies as they will be, by key.
type End<'o> = BTreeMap<&'o str, (&'o Ids, Room)>;

impl Order<'_> {
    /// Takes out what does not fit, and tells why.
    pub(super) fn leave_out(&mut self) -> Vec<Problem> {
        let exceeded: Vec<Quota> =
            [Quota::Inline, Quota::Attached].into_iter().filter(|quota| self.growth(*quota).is_some()).collect();
        if exceeded.is_empty() {
            return Vec::new();
        }
        let end = self.end();
        let told: Vec<String> = exceeded.into_iter().map(|quota| self.tell(quota, &end)).collect();
        let mut left = BTreeSet::new();
        while let Some(at) = self.next_out() {
            let op = match at {
                At::Comes(i) => self.comes.remove(i),
                At::Goes(i) => self.goes.remove(i),
            };
            left.insert(op.key);
        }
        let named: Vec<String> = left.iter().take(NAMED).map(|key| name(key)).collect();
        let more = left.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let problem = |told| Problem {
            reason: Reason::QuotaExceeded,
            message: format!("{told}. Until then left as they are: {}{more}", named.join(", ")),
        };
        told.into_iter().map(problem).collect()
    }

    fn next_out(&self) -> Option<At> {
        let growth = self.growth(Quota::Inline).or_else(|| self.growth(Quota::Attached));
        growth.map(At::Comes).or_else(|| self.loses()).or_else(|| self.unguards())
    }

    /// The policy that grows most, where there is no room for all; one that shrinks or goes is in nobody's way.
    fn growth(&self, quota: Quota) -> Option<usize> {
        let limit = match quota {
            Quota::Inline => self.desired.limits.inline_total,
            Quota::Attached => self.attachments,
        };
        let sum: usize = self.end().values().map(|(_, room)| quota.of(*room)).sum();
        let grows = |op: &Op<'_>| {
            let now = self.state.get(&op.key).map_or(0, |(_, room)| quota.of(*room));
            quota.of(op.change.room).saturating_sub(now)
        };
        let growing = self.comes.iter().map(grows).enumerate().filter(|(_, growth)| *growth > 0);
        growing.max_by_key(|(_, growth)| *growth).filter(|_| sum > limit).map(|(i, _)| i)
    }

    fn end(&self) -> End<'_> {
        let mut end: End<'_> = self.state.iter().map(|(key, (ids, room))| (key.as_str(), (ids, *room))).collect();
        for op in self.comes.iter().chain(&self.goes) {
            end.insert(&op.key, (&op.after, op.change.room));
        }
        end
    }

    fn facts_in_the_end(&self) -> Ids {
        self.end().values().flat_map(|(ids, _)| ids.iter()).copied().collect()
    }

    /// A change that would lose what is there and wanted.
    fn loses(&self) -> Option<At> {
        let end = self.facts_in_the_end();
        let lost = self.old.iter().filter(|id| self.wanted.contains(id) && !end.contains(id));
        self.drops(&lost.copied().collect())
    }

    /// A change after which something is allowed without its denials.
    fn unguards(&self) -> Option<At> {
        let end = self.facts_in_the_end();
        let open = self.unguarded(&end);
        let brings = |op: &Op<'_>| op.after.iter().any(|id| open.contains(id) && !self.old.contains(id));
        let lifted = || {
            let denials = self.old.iter().filter(|id| self.denies(**id) && !end.contains(id));
            self.drops(&denials.copied().collect()).filter(|_| !open.is_empty())
        };
        self.comes.iter().position(brings).map(At::Comes).or_else(lifted)
    }

    /// A change that drops one of these.
    fn drops(&self, ids: &Ids) -> Option<At> {
        let drops = |op: &Op<'_>| {
            let now = self.state.get(&op.key).map(|(now, _)| now);
            now.is_some_and(|now| now.iter().any(|id| ids.contains(id) && !op.after.contains(id)))
        };
        let comes = self.comes.iter().position(drops).map(At::Comes);
        comes.or_else(|| self.goes.iter().position(drops).map(At::Goes))
    }

    fn tell(&self, quota: Quota, end: &End<'_>) -> String {
        let used: usize = end.values().map(|(_, room)| quota.of(*room)).sum();
        match quota {
            Quota::Inline => {
                let limit = self.desired.limits.inline_total;
                let biggest = end.iter().rev().max_by_key(|(_, (_, room))| room.inline);
                let biggest = biggest.map(|(key, (_, room))| {
                    let of_spec = |known: &String| known.eq_ignore_ascii_case(inline_name(key).unwrap_or_default());
                    let stays = !self.desired.inline.keys().any(of_spec);
                    let whose = if stays { ", which is not in the spec and stays" } else { "" };
                    format!("The biggest is {} with {}{whose}; ", name(key), room.inline)
                });
                format!(
                    "spec.inlinePolicies: with the inline policies that stay on the role {used} characters without white \
                     space, and IAM takes {limit}. {}make a policy a customer managed one, which has a quota of its own \
                     (spec.customerManagedPolicies), or remove in AWS what nobody needs",
                    biggest.unwrap_or_default()
                )
            }
            Quota::Attached => {
                let stays = end.iter().filter(|(key, (_, room))| room.attached > 0 && !self.desired.uses(key));
                let stays: Vec<String> = stays.take(NAMED).map(|(key, _)| name(key)).collect();
                let beside = if stays.is_empty() {
                    String::new()
                } else {
                    format!(", with those that are not in the spec and stay ({})", stays.join(", "))
                };
                format!(
                    "spec.managedPolicies, spec.customerManagedPolicies: {used} policies would be attached to the role{beside}, \
                     and IAM takes {}. Join policies, detach in AWS what nobody needs, or ask AWS for a higher quota, \
                     which counts where the operator may call iam:GetAccountSummary",
                    self.attachments
                )
            }
        }
    }
}

/// A policy by its key, for a message.
fn name(key: &str) -> String {
    inline_name(key).map_or_else(|| key.to_owned(), |name| format!("{name:?}"))
}
