//! An object that lost its status, or never had one, while its role carries our owner tags: restored from a backup,
//! applied anew after a `Retain`, or wiped. Nothing is made twice, nothing of ours is forgotten, and what nobody
//! listed is kept, since status can't tell any more whether it was ours.

use super::apply::{Work, of_aws};
use super::events::{Tone, tell_once};
use super::roles::Stepped;
use super::status::find;
use super::subject::Subject;
use crate::api::iamrole::{Mode, ProfileRef, WhenUnlisted};
use crate::api::{ConditionType, IamRoleClass, IamRoleStatus, Reason};
use crate::aws::{Account, AwsError};
use crate::role::lost::Looked;
use crate::role::{Asked, Desired, Observed, Record, plan};
use k8s_openapi::jiff::Timestamp;

/// What was kept when status was lost stays so until the spec or the class changes. An edit that comes while the role is
/// being taken up is none of somebody who was told what is there.
#[must_use]
pub fn kept(subject: &Subject, class: &IamRoleClass) -> Vec<String> {
    let status = &subject.status;
    let same = status.observed_generation == Some(subject.generation) && subject.saw(class);
    if same || is_half_way(status) { status.unlisted.clone() } else { Vec::new() }
}

/// Whether status was written before the changes that it announces, for a spec that keeps nothing of its own accord.
#[must_use]
pub fn is_half_way(status: &IamRoleStatus) -> bool {
    let announces = find(&status.conditions, ConditionType::Ready)
        .is_some_and(|ready| ready.reason == Reason::Reconciling.as_str());
    let removes = status
        .effective
        .as_ref()
        .is_some_and(|effective| effective.mode == Mode::Enforce && effective.when_unlisted == WhenUnlisted::Remove);
    announces && removes
}

/// Whether the role is ours and status never told of it. It was restored without its status, made anew, or wiped; an
/// attempt to create the role a moment ago leaves an intent in status. `without_role`: when it was first looked at while
/// status had no role.
pub(super) fn is_lost(
    subject: &Subject,
    record: &Record,
    observed: &Observed,
    without_role: Option<Timestamp>,
) -> bool {
    let ready = find(&subject.status.conditions, ConditionType::Ready);
    let looked = Looked {
        object_created: subject.created(),
        not_ready_since: ready.map(|ready| ready.last_transition_time.0),
        without_role,
    };
    !record.role_exists() && looked.is_older(&observed.create_date)
}

/// Finds out by their tags which policies and instance profiles of the role are ours, and puts them on record; all else
/// that is there is kept.
pub(super) async fn take_up(
    account: &Account,
    desired: &mut Desired,
    record: &mut Record,
    observed: Observed,
) -> Result<Observed, AwsError> {
    let mut asked = Asked::new(Some(desired), record).with_attached(&observed, &desired.account);
    asked.profiles.extend(account.profiles_of(&observed.name).await?);
    let observed = account.observe_there(&observed.name, &asked).await?;
    record.take_up_policies(&observed, &desired.owner);
    let mut profiles = observed.profiles.values().filter(|profile| desired.owner.judge(&profile.tags).is_ours());
    if let (None, Some(profile)) = (&record.profile, profiles.next()) {
        record.profile = Some(ProfileRef { name: profile.name.clone(), arn: Some(profile.arn.clone()) });
    }
    // What an attempt of ours has put down is ours: the clocks by which status seems lost may differ.
    let recorded = |name: &String| record.inline.iter().any(|known| known.eq_ignore_ascii_case(name));
    let managed = observed.managed.iter().filter(|arn| !record.managed.contains(*arn));
    let inline = observed.inline.keys().filter(|name| !recorded(name));
    desired.exceptions.keep_found(managed.chain(inline).cloned());
    Ok(observed)
}

/// What was on a role whose status was lost and neither spec nor class asks for.
pub(super) struct Kept {
    unlisted: Vec<String>,
    boundary: Option<String>,
}

impl Kept {
    const fn is_empty(&self) -> bool {
        self.unlisted.is_empty() && self.boundary.is_none()
    }
}

impl Work<'_> {
    /// Whether status lost what it knew of the role, and this reconciliation has not taken it up yet.
    pub(super) fn is_lost(&self, subject: &Subject, record: &Record, observed: &Observed) -> bool {
        self.lost.is_none() && is_lost(subject, record, observed, self.unknown.then_some(self.begun))
    }

    /// Takes the role up again.
    pub(super) async fn recover(&mut self, record: &mut Record, observed: Observed) -> Stepped<Observed> {
        let found = take_up(self.case.account, &mut self.desired, record, observed).await;
        let observed = found.map_err(|error| self.early(of_aws(self.ctx, self.case.class, error)))?;
        record.clone().into_status(&mut self.status);
        let plan = plan::update(&self.desired, &observed, record, self.case.account.quotas.attachments, false);
        self.status.unlisted.clone_from(&plan.unlisted);
        let boundary = observed.boundary.clone().filter(|found| !record.has_set(found));
        let boundary = boundary.filter(|_| self.desired.boundary.is_none());
        self.lost = Some(Kept { unlisted: plan.unlisted, boundary });
        Ok(observed)
    }

    /// Tells that the role was found again.
    pub(super) async fn tell_recovered(&mut self, subject: &Subject) {
        // An attempt of ours that was not answered may look like it.
        let Some(kept) = self.lost.take().filter(|kept| self.unknown || !kept.is_empty()) else { return };
        let Kept { unlisted, boundary } = kept;
        let role = self.status.role.as_ref().and_then(|role| role.arn.as_deref()).unwrap_or_default();
        let mut note = format!("The object had no status; role {role} was found by its owner tags");
        if !unlisted.is_empty() {
            let kept = unlisted.join(", ");
            let more = format!(". Nobody listed {kept}: kept until the spec changes, then whenUnlisted applies");
            note.push_str(&more);
        }
        if let Some(boundary) = boundary {
            let more = format!(
                ". It has permissions boundary {boundary}, which nobody asks for and which stays; if it is not \
                                wanted, take it off in AWS"
            );
            note.push_str(&more);
        }
        tell_once(subject, self.ctx, Tone::Normal, Reason::Recovered, "Recover", &note).await;
    }
}
