//! Intent before effect: status holds what is about to be made before it is made.

use super::apply::{Work, count};
use super::roles::Stepped;
use super::status::{Verdict, has_failed};
use super::subject::Subject;
use crate::api::iamrole::{Origin, PolicyRef, ProfileRef, RoleRef};
use crate::role::{Desired, Observed, Owner, Ownership, Plan, Record};

impl Work<'_> {
    /// Writes down what is about to be made, before it is made.
    pub(super) async fn intend(
        &mut self,
        subject: &mut Subject,
        plan: &Plan,
        observed: Option<&Observed>,
        adopting: bool,
    ) -> Stepped<()> {
        if plan.steps.is_empty() {
            return Ok(());
        }
        let mut record = Record::from_status(&self.status);
        let origin = observed.filter(|_| adopting).map_or(Origin::Created, |found| record.origin_of(found));
        record.role = Some(role_ref(&self.desired, observed, record.role.as_ref(), origin));
        if observed.is_none() {
            // The role is made anew: what the last one had is gone with it.
            record.role = Some(RoleRef { arn: None, id: None, create_date: None, ..record.role.unwrap_or_default() });
        }
        if !adopting {
            record.managed.extend(self.desired.managed.iter().cloned());
            record.inline.extend(self.desired.inline.keys().cloned());
            record.tag_keys.extend(self.desired.tags.keys().cloned());
            for policy in &self.desired.own {
                if record.own_mut(&policy.arn).is_none() {
                    let (name, arn) = (policy.entry.clone(), policy.arn.clone());
                    record.own.push(PolicyRef { name, arn, ..PolicyRef::default() });
                }
            }
            let found = observed.and_then(|observed| observed.boundary.as_ref());
            record.intend_boundary(self.desired.boundary.as_ref(), found);
            if let Some(wanted) = self.desired.profile.as_ref().filter(|_| !plan.unfinished) {
                let known = record.profile.take().filter(|known| known.name == *wanted);
                record.profile = known.or_else(|| Some(ProfileRef { name: wanted.clone(), arn: None }));
            }
        }
        // What a write that failed would have told is not there for the next process.
        let written = subject.written();
        if record == Record::from_status(written) && self.status.unlisted == written.unlisted {
            return Ok(());
        }
        record.into_status(&mut self.status);
        // What is tried again stays failed until it is not: else each attempt would be news, and look like progress.
        if !has_failed(&self.status.conditions, subject.generation) {
            let verdict = Verdict::reconciling(format!("{} to make in AWS", count(plan.steps.len(), "change")));
            self.status.conditions =
                super::status::conditions(&self.status.conditions, &verdict, subject.generation, &super::roles::now());
        }
        self.status.observed_generation = Some(subject.generation);
        let status = self.status.clone();
        subject.write_status(self.ctx, status).await.map_err(|failure| self.early(failure))
    }
}

/// The entry of the role in status: as seen, or as intended.
#[must_use]
pub fn role_ref(desired: &Desired, observed: Option<&Observed>, before: Option<&RoleRef>, origin: Origin) -> RoleRef {
    match observed {
        Some(observed) => seen(&desired.owner, observed, before, origin),
        None => RoleRef {
            name: desired.name.clone(),
            path: desired.path.clone(),
            origin: Some(origin),
            ..before.cloned().unwrap_or_default()
        },
    }
}

/// The entry of a role that was seen.
#[must_use]
pub fn seen(owner: &Owner, observed: &Observed, before: Option<&RoleRef>, origin: Origin) -> RoleRef {
    RoleRef {
        name: observed.name.clone(),
        path: observed.path.clone(),
        arn: Some(observed.arn.clone()),
        id: Some(observed.id.clone()),
        create_date: Some(observed.create_date.clone()),
        origin: Some(match owner.judge(&observed.tags) {
            ours @ Ownership::Ours(_) => ours.origin(before.and_then(|before| before.origin)),
            _ => origin,
        }),
    }
}
