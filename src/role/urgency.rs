//! How urgent it is to look at an object, by what its status and the last looks tell.

/// What goes first. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// An object is being deleted.
    Deletion,
    /// A spec that is applied in part: what is half made is finished before anything else is begun.
    Begun,
    /// A spec that is not applied yet, or a check that somebody asked for.
    Change,
    /// A look at what a walk showed otherwise than wanted: after what people wait for.
    Suspect,
    /// A look at what was applied before. It takes a free place, one of those kept for it, or none.
    Check,
    /// What failed last time. Likewise, and of the free places half at most.
    Retry,
}

impl Urgency {
    /// Whether it comes back later rather than stand in line.
    #[must_use]
    pub const fn can_wait(self) -> bool {
        matches!(self, Self::Check | Self::Retry)
    }
}

/// How an object stands before it is looked at.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Standing {
    /// Somebody asked for a check that was not made yet.
    pub is_asked: bool,
    /// This generation failed more than once in a row.
    pub has_failed: bool,
    /// It is being deleted.
    pub is_deleted: bool,
    /// Status tells of another generation, or of none.
    pub is_new: bool,
    /// Status tells of another generation of its class.
    pub has_new_class: bool,
    /// Status says that it is applied.
    pub is_ready: bool,
    /// Status tells of a role in AWS whose spec is being applied.
    pub is_begun: bool,
    /// It has been waiting for AWS again and again.
    pub has_waited: bool,
    /// A walk showed its role otherwise than wanted.
    pub is_suspect: bool,
}

impl Standing {
    /// Who asks is served at once, also where it failed before; else what failed lets the others pass, deletions
    /// included, or what can never succeed would hold up what can.
    #[must_use]
    pub const fn urgency(self) -> Urgency {
        if self.is_asked {
            Urgency::Change
        } else if self.has_failed {
            Urgency::Retry
        } else if self.is_deleted {
            Urgency::Deletion
        } else if self.is_new || self.has_new_class {
            Urgency::Change
        } else if !self.is_ready {
            // Whoever waits for ever would keep the others from being begun.
            if self.is_begun && !self.has_waited { Urgency::Begun } else { Urgency::Change }
        } else if self.is_suspect {
            Urgency::Suspect
        } else {
            Urgency::Check
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Standing, Urgency};

    #[test]
    fn what_a_person_waits_for_is_urgent_and_what_failed_is_not() {
        let applied = Standing { is_ready: true, ..Standing::default() };
        let waits = Standing { is_new: true, ..applied };
        let begun = Standing { is_begun: true, ..Standing::default() };
        let cases = [
            ("applied", applied, Urgency::Check),
            ("new", Standing { is_new: true, ..Standing::default() }, Urgency::Change),
            ("changed", waits, Urgency::Change),
            ("changed, and its role too", Standing { is_suspect: true, ..waits }, Urgency::Change),
            ("its class changed", Standing { has_new_class: true, ..applied }, Urgency::Change),
            ("not ready yet", Standing { is_ready: false, ..applied }, Urgency::Change),
            ("begun", begun, Urgency::Begun),
            ("begun, and waited for again and again", Standing { has_waited: true, ..begun }, Urgency::Change),
            ("begun, and failed", Standing { has_failed: true, ..begun }, Urgency::Retry),
            ("begun, and deleted", Standing { is_deleted: true, ..begun }, Urgency::Deletion),
            ("begun, and changed", Standing { is_new: true, ..begun }, Urgency::Change),
            ("begun, and its class changed", Standing { has_new_class: true, ..begun }, Urgency::Change),
            ("made and applied", Standing { is_ready: true, ..begun }, Urgency::Check),
            ("its role changed", Standing { is_suspect: true, ..applied }, Urgency::Suspect),
            (
                "its role changed, and it failed",
                Standing { is_suspect: true, has_failed: true, ..applied },
                Urgency::Retry,
            ),
            ("failed", Standing { has_failed: true, ..waits }, Urgency::Retry),
            (
                "failed, and its class changed",
                Standing { has_failed: true, has_new_class: true, ..applied },
                Urgency::Retry,
            ),
            ("deleted", Standing { is_deleted: true, ..applied }, Urgency::Deletion),
            ("deleted before it was applied", Standing { is_deleted: true, ..waits }, Urgency::Deletion),
            ("its deletion failed", Standing { is_deleted: true, has_failed: true, ..applied }, Urgency::Retry),
            ("asked for", Standing { is_asked: true, ..applied }, Urgency::Change),
            ("asked for, and failed", Standing { is_asked: true, has_failed: true, ..waits }, Urgency::Change),
            (
                "its deletion failed, and asked for",
                Standing { is_asked: true, is_deleted: true, has_failed: true, ..applied },
                Urgency::Change,
            ),
        ];
        for (what, standing, urgency) in cases {
            assert_eq!(standing.urgency(), urgency, "{what}");
        }
    }

    #[test]
    fn only_what_nobody_waits_for_comes_back_later() {
        use Urgency::{Begun, Change, Check, Deletion, Retry, Suspect};
        let all = [Deletion, Begun, Change, Suspect, Check, Retry];
        assert!(all.is_sorted());
        assert_eq!(all.map(Urgency::can_wait), [false, false, false, false, true, true]);
    }
}
