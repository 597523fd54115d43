//! The two passes of an adoption: the tags, and once they have settled, the rest.

use super::apply::Work;
use super::carry::Carried;
use super::failure::Failure;
use super::roles::{Outcome, Stepped, now};
use super::status::{Verdict, conditions, is_ready, was_refused};
use super::subject::Subject;
use crate::api::iamrole::Origin;
use crate::role::Record;
use std::time::Duration;
use tokio::time::Instant;

impl Work<'_> {
    pub(super) fn adopted(&self, subject: &Subject, carried: &Carried) -> Stepped<Outcome> {
        if let Some(failure) = Failure::merged(&carried.failures) {
            return Err(self.early(failure));
        }
        self.ctx.memory.with(&subject.uid, |entry| entry.adopted = Some(Instant::now()));
        let settling = self.settling(self.ctx.settle);
        let mut setback = self.early(settling.clone());
        // What was refused before has been done: status says so also to the next process.
        let (verdict, old) = (Verdict::reconciling(settling.message), &subject.status.conditions);
        setback.status.conditions = conditions(old, &verdict, subject.generation, &now());
        Err(setback)
    }

    /// The second pass of an adoption reads what the first one wrote, and must not read the past.
    pub(super) fn adoption_settles(&self, subject: &Subject) -> Stepped<()> {
        let adopted = self.ctx.memory.with(&subject.uid, |entry| entry.adopted);
        // An adoption from before our start may have been just then: nothing of the second pass is recorded yet.
        let record = Record::from_status(&self.status);
        let is_first_pass = record.role.as_ref().is_some_and(|role| role.origin == Some(Origin::Adopted))
            && Record { role: record.role.clone(), ..Record::default() } == record
            && subject.written().unlisted.is_empty()
            && !is_ready(&subject.status.conditions, subject.generation)
            && !was_refused(&subject.status.conditions);
        let adopted = adopted.or_else(|| is_first_pass.then_some(self.ctx.started));
        let left = adopted.map(|at| self.ctx.settle.saturating_sub(at.elapsed())).unwrap_or_default();
        if left.is_zero() { Ok(()) } else { Err(self.early(self.settling(left))) }
    }

    fn settling(&self, left: Duration) -> Failure {
        Failure::wait(left, format!("role {} is adopted; its tags settle before the rest is done", self.desired.name))
    }
}
