//! What we have applied, as far as status remembers it.
//!
//! Entries enter before the call that makes them (intent) and leave after their removal is confirmed.
//! So a crash or a lost reply never turns our own thing into a stranger's.

use super::desired::Listed;
use super::plan::profile_key;
use super::{Action, Desired, Observed, ObservedProfile, Owner, Plan, names};
use crate::api::iamrole::{Origin, PolicyRef, ProfileRef, RoleRef};
use crate::api::{IamRoleStatus, TAG_PREFIX};
use crate::policy::Arn;
use std::collections::BTreeSet;

fn may_be_ours(key: &str) -> bool {
    names::valid_tag(key) && !key.to_lowercase().starts_with(TAG_PREFIX)
}

/// What we have applied or were about to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The role; without ARN and id it was only intended.
    pub role: Option<RoleRef>,
    /// ARNs of attached managed policies.
    pub managed: BTreeSet<String>,
    /// Names of inline policies.
    pub inline: BTreeSet<String>,
    /// Policies owned by the role.
    pub own: Vec<PolicyRef>,
    /// Keys of tags.
    pub tag_keys: BTreeSet<String>,
    /// The boundary that we set.
    pub boundary: Option<String>,
    /// The one that `boundary` is to replace: until it has, either of them may be there. The same as `boundary` if what it is
    /// to replace, if anything, is not ours.
    pub replaced_boundary: Option<String>,
    /// The instance profile; without ARN it was only intended.
    pub profile: Option<ProfileRef>,
}

impl Record {
    /// Reads the record out of a status. It can be forged: what can't be ours is left out, since the operator would
    /// take it away, and with an owner tag lose the role.
    #[must_use]
    pub fn from_status(status: &IamRoleStatus) -> Self {
        Self {
            role: status.role.clone(),
            managed: status.managed_policies.iter().filter(|arn| arn.parse::<Arn>().is_ok()).cloned().collect(),
            inline: status.inline_policies.iter().filter(|name| names::valid(name)).cloned().collect(),
            own: status.customer_managed_policies.clone(),
            tag_keys: status.tag_keys.iter().filter(|key| may_be_ours(key)).cloned().collect(),
            boundary: status.permissions_boundary.clone(),
            replaced_boundary: status.replaced_permissions_boundary.clone(),
            profile: status.instance_profile.clone().filter(|profile| names::valid(&profile.name)),
        }
    }

    /// Writes the record into a status.
    pub fn into_status(self, status: &mut IamRoleStatus) {
        status.role = self.role;
        status.managed_policies = self.managed.into_iter().collect();
        status.inline_policies = self.inline.into_iter().collect();
        status.customer_managed_policies = self.own;
        status.tag_keys = self.tag_keys.into_iter().collect();
        status.permissions_boundary = self.boundary;
        status.replaced_permissions_boundary = self.replaced_boundary;
        status.instance_profile = self.profile;
    }

    /// Notes that `wanted` is about to be set where `found` is; without one the last boundary stays on record until it is
    /// gone.
    pub fn intend_boundary(&mut self, wanted: Option<&String>, found: Option<&String>) {
        let Some(wanted) = wanted else { return };
        if self.boundary.as_ref() == Some(wanted) {
            return;
        }
        let before = self.boundary.replace(wanted.clone());
        // The one that is there, though nobody answered; else the first of several that never came to be. Where that is none
        // of ours, whatever is there is not taken for ours.
        let ours = [self.replaced_boundary.take(), before];
        let seen = ours.iter().flatten().find(|ours| *ours != wanted && found == Some(ours)).cloned();
        let ours = seen.or_else(|| ours.into_iter().flatten().find(|before| before != wanted));
        self.replaced_boundary = ours.or_else(|| Some(wanted.clone()));
    }

    /// Whether the boundary `wanted` is known to have been on the role: another one, or none, is somebody else's doing.
    #[must_use]
    pub fn was_bounded(&self, wanted: &String) -> bool {
        self.boundary.as_ref() == Some(wanted) && self.replaced_boundary.is_none()
    }

    /// Notes which boundary the role has.
    pub fn set_boundary(&mut self, boundary: Option<String>) {
        self.boundary = boundary;
        self.replaced_boundary = None;
    }

    /// Whether we have set this boundary.
    #[must_use]
    pub fn has_set(&self, boundary: &String) -> bool {
        self.boundary.as_ref() == Some(boundary) || self.replaced_boundary.as_ref() == Some(boundary)
    }

    /// Whether the role is known to exist, or to have existed.
    #[must_use]
    pub fn role_exists(&self) -> bool {
        self.role.as_ref().is_some_and(|role| role.id.is_some())
    }

    /// The role that is there is not ours, and so ours was never made or is gone: what was intended for it leaves.
    /// Policies that were made stay on record.
    pub fn withdraw_role(&mut self) {
        if self.role_exists() {
            return;
        }
        let own = std::mem::take(&mut self.own).into_iter().filter(|policy| policy.id.is_some()).collect();
        let profile = self.profile.take().filter(|profile| profile.arn.is_some());
        *self = Self { own, profile, ..Self::default() };
    }

    /// The role that is there, by id, is not ours and may be taken over. What was intended for a new role leaves, and so does
    /// what is known of an earlier one of the name, which is gone.
    pub fn withdraw_other(&mut self, found: &str) {
        if self.role.as_ref().and_then(|role| role.id.as_deref()) != Some(found) {
            self.role = None;
        }
        self.withdraw_role();
    }

    /// Where a role without owner tags comes from: one that we made is still that when somebody took its tags off.
    #[must_use]
    pub fn origin_of(&self, found: &Observed) -> Origin {
        let role = self.role.as_ref().filter(|role| role.id.as_deref() == Some(found.id.as_str()));
        role.and_then(|role| role.origin).filter(|origin| *origin == Origin::Created).unwrap_or(Origin::Adopted)
    }

    /// Lets go of what an action removed, once AWS said so.
    pub fn forget(&mut self, action: &Action) {
        match action {
            Action::UntagRole(keys) => self.tag_keys.retain(|key| !keys.contains(key)),
            Action::DeleteBoundary => self.set_boundary(None),
            Action::Detach(arn) => drop(self.managed.remove(arn)),
            Action::DeleteInline(name) => drop(self.inline.remove(name)),
            Action::DeleteProfile(name) => {
                self.profile.take_if(|known| known.name.eq_ignore_ascii_case(name));
            }
            Action::DeletePolicy(arn) => self.own.retain(|policy| policy.arn != *arn),
            Action::DeleteRole => {
                self.managed.clear();
                self.inline.clear();
            }
            _ => {}
        }
    }

    /// The owned policy with this ARN, made if absent.
    pub fn own_mut(&mut self, arn: &str) -> Option<&mut PolicyRef> {
        self.own.iter_mut().find(|policy| policy.arn == arn)
    }

    /// Lets go of what was removed, or was only ever intended: `gone` has the [keys](super::Action::key) of what is not
    /// there for certain. An entry that left since one read did not show it would leave its policy behind for ever.
    pub fn release(&mut self, desired: &Desired, gone: &BTreeSet<String>) {
        let wanted = |arn: &str| desired.own.iter().any(|policy| policy.arn == arn);
        self.own.retain(|own| wanted(&own.arn) || !gone.contains(&own.arn));
        self.profile
            .take_if(|profile| !desired.uses_profile(&profile.name) && gone.contains(&profile_key(&profile.name)));
    }

    /// Whether one of these, by their keys, is wanted and was made, as AWS said.
    #[must_use]
    pub fn has_made<'k>(&self, keys: impl IntoIterator<Item = &'k String>, desired: &Desired) -> bool {
        let own = self.own.iter().filter(|own| own.id.is_some() && desired.uses(&own.arn)).map(|own| own.arn.clone());
        let profile = self.profile.iter().filter(|known| known.arn.is_some() && desired.uses_profile(&known.name));
        let made: BTreeSet<String> = own.chain(profile.map(|profile| profile_key(&profile.name))).collect();
        keys.into_iter().any(|key| made.contains(key))
    }

    /// Puts on record what is on a role of ours and carries our tags, where nothing is known of it: policies that are
    /// attached, instance profiles that hold it.
    pub fn take_up(&mut self, role: &Observed, origin: Origin, owner: &Owner, profiles: &[ObservedProfile]) {
        self.role = Some(RoleRef {
            name: role.name.clone(),
            path: role.path.clone(),
            arn: Some(role.arn.clone()),
            id: Some(role.id.clone()),
            create_date: Some(role.create_date.clone()),
            origin: Some(origin),
        });
        self.take_up_policies(role, owner);
        let mut ours = profiles.iter().filter(|profile| owner.judge(&profile.tags).is_ours());
        if let (None, Some(profile)) = (&self.profile, ours.next()) {
            self.profile = Some(ProfileRef { name: profile.name.clone(), arn: Some(profile.arn.clone()) });
        }
    }

    /// Puts on record what spec and class list of that role's permissions. Whoever could not tell that from what strangers
    /// put there would be kept from deleting it.
    pub fn take_up_listed(&mut self, role: &Observed, listed: &Listed) {
        let is_listed = |arn: &&String| listed.managed.contains(*arn) || listed.own.contains(*arn);
        self.managed.extend(role.managed.iter().filter(is_listed).cloned());
        // IAM takes names that differ only in case for the same.
        let is_listed = |name: &&String| listed.inline.iter().any(|listed| listed.eq_ignore_ascii_case(name));
        self.inline.extend(role.inline.keys().filter(is_listed).cloned());
    }

    /// The attached policies among it.
    pub fn take_up_policies(&mut self, role: &Observed, owner: &Owner) {
        for (arn, found) in &role.own {
            if self.own_mut(arn).is_none() && owner.judge(&found.tags).is_ours() {
                let (id, version) = (Some(found.id.clone()), Some(found.version.clone()));
                self.own.push(PolicyRef { name: String::new(), arn: arn.clone(), id, version });
            }
        }
    }

    /// Whether there is something left of an earlier spec that has to go.
    #[must_use]
    pub fn has_rests(&self, desired: &Desired) -> bool {
        self.own.iter().any(|own| !desired.uses(&own.arn))
            || self.profile.as_ref().is_some_and(|profile| !desired.uses_profile(&profile.name))
    }

    /// Whether an action removes what an earlier spec left, rather than what somebody else did.
    #[must_use]
    pub fn is_of_rest(&self, action: &Action, desired: &Desired) -> bool {
        let Some(key) = action.key() else { return false };
        self.own.iter().any(|own| own.arn == key && !desired.uses(&own.arn))
            || self
                .profile
                .as_ref()
                .is_some_and(|profile| profile_key(&profile.name) == key && !desired.uses_profile(&profile.name))
    }

    /// Lets go of attachments, inline policies and tags that were only ever intended, are not wanted any more, and are
    /// not seen either: a spec that is refused again and again would else fill status up. Not for a read soon after a
    /// write, which may show the past.
    pub fn prune(&mut self, desired: &Desired, observed: &Observed) {
        self.managed.retain(|arn| desired.managed.contains(arn) || observed.managed.contains(arn));
        // IAM takes names that differ only in case for the same.
        let there = |name: &String| observed.inline.keys().any(|found| found.eq_ignore_ascii_case(name));
        self.inline.retain(|name| desired.inline.contains_key(name) || there(name));
        let seen: BTreeSet<String> = observed.tags.keys().map(|key| key.to_lowercase()).collect();
        self.tag_keys.retain(|key| desired.tags.contains_key(key) || seen.contains(&key.to_lowercase()));
        if self.boundary.is_some() && self.boundary == observed.boundary {
            self.replaced_boundary = None;
        }
    }

    /// Takes over which version of a policy AWS has, where `plan` changes nothing about it: somebody may have made another
    /// one of the same meaning.
    pub fn follow_versions(&mut self, desired: &Desired, plan: &Plan, observed: &Observed) {
        let written: BTreeSet<String> = plan.steps.iter().filter_map(|step| step.action.key()).collect();
        for own in self.own.iter_mut().filter(|own| !written.contains(&own.arn)) {
            let seen = observed.own.get(&own.arn);
            // Ours by its tags: made anew, perhaps, by an attempt whose answer was lost.
            if let Some(seen) = seen.filter(|seen| desired.owner.judge(&seen.tags).is_ours()) {
                own.id = Some(seen.id.clone());
                own.version = Some(seen.version.clone());
            }
        }
    }

    /// After full success the record is exactly what is wanted, and those of our policies that may still be there.
    pub fn settle(&mut self, desired: &Desired, observed: Option<&Observed>) {
        self.managed.clone_from(&desired.managed);
        self.inline = desired.inline.keys().cloned().collect();
        self.tag_keys = desired.tags.keys().cloned().collect();
        self.set_boundary(desired.boundary.clone());
        self.settle_profile(desired, observed);
        let known = std::mem::take(&mut self.own);
        self.own.extend(desired.own.iter().map(|policy| {
            let before = known.iter().find(|known| known.arn == policy.arn);
            let seen = observed.and_then(|observed| observed.own.get(&policy.arn));
            PolicyRef {
                name: policy.entry.clone(),
                arn: policy.arn.clone(),
                id: before.and_then(|before| before.id.clone()).or_else(|| seen.map(|seen| seen.id.clone())),
                version: before
                    .and_then(|before| before.version.clone())
                    .or_else(|| seen.map(|seen| seen.version.clone())),
            }
        }));
        let stays = |known: &PolicyRef| {
            // A role is made without a look at what the last one had; what moved to `managedPolicies` stays ours.
            observed.and_then(|observed| observed.own.get(&known.arn)).is_none_or(|seen| {
                let is_ours = known.id.is_some() || desired.owner.judge(&seen.tags).is_ours();
                is_ours && desired.managed.contains(&known.arn)
            })
        };
        let more: Vec<PolicyRef> = known
            .into_iter()
            .filter(|known| stays(known) && desired.own.iter().all(|policy| policy.arn != known.arn))
            .collect();
        self.own.extend(more);
    }

    fn settle_profile(&mut self, desired: &Desired, observed: Option<&Observed>) {
        let known = self.profile.take();
        let seen = |name: &String| observed.and_then(|observed| observed.profiles.get(name));
        self.profile = match &desired.profile {
            Some(name) => {
                let before = known.filter(|known| known.name == *name).and_then(|known| known.arn);
                Some(ProfileRef { name: name.clone(), arn: before.or_else(|| seen(name).map(|seen| seen.arn.clone())) })
            }
            None => known.filter(|known| seen(&known.name).is_none()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Record;
    use crate::api::iamrole::Origin;
    use crate::role::ObservedPolicy;
    use crate::role::desired::tests::{allow, make};
    use crate::role::plan::{Action, Phase, Plan, Step, nothing};
    use serde_json::json;

    #[test]
    fn a_policy_made_anew_is_known_by_its_new_id_and_a_strangers_is_not() {
        let own = json!([{ "name": "own", "document": allow("sqs:*") }]);
        let desired = make(json!({ "customerManagedPolicies": own })).unwrap();
        let mut record = Record::default();
        record.settle(&desired, None);
        let arn = record.own[0].arn.clone();
        let ids = |record: &Record| (record.own[0].id.clone(), record.own[0].version.clone());
        let seen = |id: &str, version: &str, tags| {
            let document = desired.own[0].document.canonical(&desired.account);
            let policy = ObservedPolicy { id: id.into(), version: version.into(), tags, document };
            let mut observed = nothing(&desired);
            observed.own.insert(arn.clone(), policy);
            observed
        };
        let ours = desired.owner.tags(Origin::Created);
        record.follow_versions(&desired, &Plan::default(), &seen("ANPA1", "v1", ours.clone()));
        assert_eq!(ids(&record), (Some("ANPA1".into()), Some("v1".into())));
        record.follow_versions(&desired, &Plan::default(), &seen("ANPA2", "v3", ours.clone()));
        assert_eq!(ids(&record), (Some("ANPA2".into()), Some("v3".into())), "made anew");
        record.follow_versions(&desired, &Plan::default(), &seen("ANPA3", "v1", std::collections::BTreeMap::new()));
        assert_eq!(ids(&record).0, Some("ANPA2".into()), "a stranger's");
        let document = desired.own[0].document.clone();
        let write = Step::new(Phase::Own, Action::UpdatePolicy { arn: arn.clone(), document });
        let plan = Plan { steps: vec![write], ..Plan::default() };
        record.follow_versions(&desired, &plan, &seen("ANPA2", "v4", ours));
        assert_eq!(ids(&record).1, Some("v3".into()), "the write tells its version itself");
    }
}
