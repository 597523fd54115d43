//! Reads a role with all that belongs to it.

use super::account::{Account, is_last};
use super::error::{AwsError, Kind};
use crate::policy::{Canonical, Grammar};
use crate::role::names;
use crate::role::{Asked, Observed, ObservedPolicy, ObservedProfile};
use aws_sdk_iam::types::{Role, Tag};
use futures::future::{try_join, try_join_all, try_join3};
use std::collections::{BTreeMap, BTreeSet};

/// A role and those of the asked-for policies that exist.
#[derive(Clone, Debug)]
pub struct RoleState {
    /// The role; `None` if there is none.
    pub role: Option<Observed>,
    /// The asked-for policies that exist, by ARN.
    pub own: BTreeMap<String, ObservedPolicy>,
    /// The asked-for instance profiles that exist, by the name as asked.
    pub profiles: BTreeMap<String, ObservedProfile>,
}

impl Account {
    /// Reads the role `name` and what else is asked for.
    ///
    /// Answers that contradict each other are an error: one of them is from the past, and nobody knows which.
    pub async fn observe(&self, name: &str, asked: &Asked) -> Result<RoleState, AwsError> {
        let role = async {
            match self.get_role(name).await? {
                Some(role) => self.read_role(role).await.map(Some),
                None => Ok(None),
            }
        };
        let policies = try_join_all(asked.policies.iter().map(|arn| self.read_policy(arn)));
        let profiles = self.profiles(asked.profiles.iter().map(String::as_str));
        let (mut role, own, profiles) = try_join3(role, policies, profiles).await?;
        let own: BTreeMap<String, ObservedPolicy> = own.into_iter().flatten().collect();
        if let Some(role) = &mut role {
            let asked = role.managed.intersection(&asked.policies);
            if let Some(arn) = asked.into_iter().find(|arn| !own.contains_key(*arn)) {
                return Err(contradiction("iam:GetPolicy", format!("policy {arn}")));
            }
            role.own.clone_from(&own);
            role.profiles.clone_from(&profiles);
        }
        Ok(RoleState { role, own, profiles })
    }

    /// The same of a role that was there a moment ago: an answer that it is not is no answer.
    pub async fn observe_there(&self, name: &str, asked: &Asked) -> Result<Observed, AwsError> {
        let state = self.observe(name, asked).await?;
        state.role.ok_or_else(|| contradiction("iam:GetRole", format!("role {name}")))
    }

    /// Reads instance profiles; those that exist, by the name as asked.
    pub async fn profiles(
        &self,
        names: impl Iterator<Item = &str>,
    ) -> Result<BTreeMap<String, ObservedProfile>, AwsError> {
        let read = try_join_all(names.map(|name| self.read_profile(name))).await?;
        Ok(read.into_iter().flatten().collect())
    }

    async fn read_profile(&self, name: &str) -> Result<Option<(String, ObservedProfile)>, AwsError> {
        if !is_name(name, names::POLICY_NAME) {
            return Ok(None);
        }
        let target = format!("instance profile {name}");
        let call = self.iam.get_instance_profile().instance_profile_name(name).send();
        let answer = absent_is_none(self.call("iam:GetInstanceProfile", &target, call).await)?;
        let profile = answer.and_then(|answer| answer.instance_profile);
        Ok(profile.map(|profile| {
            let observed = ObservedProfile {
                name: profile.instance_profile_name().to_owned(),
                arn: profile.arn().to_owned(),
                tags: tag_map(profile.tags()),
                roles: profile.roles().iter().map(|role| role.role_name().to_owned()).collect(),
            };
            (name.to_owned(), observed)
        }))
    }

    /// Unique id of the role, if there is one.
    pub async fn role_id(&self, name: &str) -> Result<Option<String>, AwsError> {
        Ok(self.get_role(name).await?.map(|role| role.role_id().to_owned()))
    }

    async fn get_role(&self, name: &str) -> Result<Option<Role>, AwsError> {
        if !is_name(name, names::ROLE_NAME) {
            return Ok(None);
        }
        let call = self.iam.get_role().role_name(name).send();
        let role = absent_is_none(self.call("iam:GetRole", &format!("role {name}"), call).await)?;
        Ok(role.and_then(|answer| answer.role))
    }

    async fn read_role(&self, role: Role) -> Result<Observed, AwsError> {
        // Names are compared without case in IAM; what follows is asked for by the name as AWS has it.
        let name = role.role_name().to_owned();
        let (managed, inline) = try_join(self.attached(&name), self.inline(&name)).await?;
        let trust = role.assume_role_policy_document().unwrap_or_default();
        Ok(Observed {
            path: role.path().to_owned(),
            arn: role.arn().to_owned(),
            id: role.role_id().to_owned(),
            create_date: role.create_date().to_string(),
            description: role.description().unwrap_or_default().to_owned(),
            max_session: role.max_session_duration().unwrap_or(crate::role::plan::DEFAULT_SESSION),
            boundary: role
                .permissions_boundary()
                .and_then(|boundary| boundary.permissions_boundary_arn())
                .map(str::to_owned),
            tags: tag_map(role.tags()),
            trust: Canonical::read(Grammar::Trust, trust, &self.account),
            managed,
            inline,
            own: BTreeMap::new(),
            profiles: BTreeMap::new(),
            name,
        })
    }

    async fn attached(&self, role: &str) -> Result<BTreeSet<String>, AwsError> {
        let target = format!("role {role}");
        let mut pages = self.iam.list_attached_role_policies().role_name(role).into_paginator().send();
        let mut arns = BTreeSet::new();
        while let Some(page) = self.page("iam:ListAttachedRolePolicies", &target, pages.next()).await? {
            arns.extend(page.attached_policies().iter().filter_map(|policy| policy.policy_arn()).map(str::to_owned));
            if is_last(page.marker()) {
                break;
            }
        }
        Ok(arns)
    }

    async fn inline(&self, role: &str) -> Result<BTreeMap<String, Canonical>, AwsError> {
        let target = format!("role {role}");
        let mut pages = self.iam.list_role_policies().role_name(role).into_paginator().send();
        let mut names = Vec::new();
        while let Some(page) = self.page("iam:ListRolePolicies", &target, pages.next()).await? {
            names.extend(page.policy_names().to_vec());
            if is_last(page.marker()) {
                break;
            }
        }
        let read = try_join_all(names.into_iter().map(|name| self.read_inline(role, name))).await?;
        Ok(read.into_iter().collect())
    }

    async fn read_inline(&self, role: &str, name: String) -> Result<(String, Canonical), AwsError> {
        let target = format!("inline policy {name} of role {role}");
        let call = self.iam.get_role_policy().role_name(role).policy_name(&name).send();
        match absent_is_none(self.call("iam:GetRolePolicy", &target, call).await)? {
            Some(answer) => {
                let document = Canonical::read(Grammar::Permission, answer.policy_document(), &self.account);
                Ok((name, document))
            }
            None => Err(contradiction("iam:GetRolePolicy", target)),
        }
    }

    pub(super) async fn read_policy(&self, arn: &str) -> Result<Option<(String, ObservedPolicy)>, AwsError> {
        if !self.may_have(arn) {
            return Ok(None);
        }
        let target = format!("policy {arn}");
        let call = self.iam.get_policy().policy_arn(arn).send();
        let answer = absent_is_none(self.call("iam:GetPolicy", &target, call).await)?;
        let Some(policy) = answer.and_then(|answer| answer.policy) else {
            return Ok(None);
        };
        let version = policy.default_version_id().unwrap_or_default().to_owned();
        let call = self.iam.get_policy_version().policy_arn(arn).version_id(&version).send();
        let answer = absent_is_none(self.call("iam:GetPolicyVersion", &target, call).await)?;
        let Some(found) = answer.and_then(|answer| answer.policy_version) else {
            return Err(contradiction("iam:GetPolicyVersion", target));
        };
        let text = found.document().unwrap_or_default();
        let observed = ObservedPolicy {
            id: policy.policy_id().unwrap_or_default().to_owned(),
            version,
            tags: tag_map(policy.tags()),
            document: Canonical::read(Grammar::Permission, text, &self.account),
        };
        Ok(Some((arn.to_owned(), observed)))
    }

    /// Whether the text can be the ARN of a policy of this account.
    fn may_have(&self, arn: &str) -> bool {
        let local = format!("arn:{}:iam::{}:policy/", self.account.partition, self.account.id);
        let name = arn.strip_prefix(&local).and_then(|rest| rest.rsplit('/').next());
        name.is_some_and(|name| is_name(name, names::POLICY_NAME)) && arn.chars().all(|c| ('!'..='~').contains(&c))
    }

    /// Names of the instance profiles that hold the role.
    pub async fn profiles_of(&self, role: &str) -> Result<Vec<String>, AwsError> {
        let target = format!("role {role}");
        let mut pages = self.iam.list_instance_profiles_for_role().role_name(role).into_paginator().send();
        let mut names = Vec::new();
        while let Some(page) =
            absent_is_none(self.page("iam:ListInstanceProfilesForRole", &target, pages.next()).await)?.flatten()
        {
            names.extend(page.instance_profiles().iter().map(|profile| profile.instance_profile_name().to_owned()));
            if is_last(page.marker()) {
                break;
            }
        }
        Ok(names)
    }

    /// Who uses the policy, in words: roles, users and groups to which it is attached.
    pub async fn users_of(&self, arn: &str) -> Result<Vec<String>, AwsError> {
        let target = format!("policy {arn}");
        let mut pages = self.iam.list_entities_for_policy().policy_arn(arn).into_paginator().send();
        let mut users = Vec::new();
        while let Some(page) =
            absent_is_none(self.page("iam:ListEntitiesForPolicy", &target, pages.next()).await)?.flatten()
        {
            users.extend(
                page.policy_roles().iter().filter_map(|role| role.role_name()).map(|name| format!("role {name}")),
            );
            users.extend(
                page.policy_users().iter().filter_map(|user| user.user_name()).map(|name| format!("user {name}")),
            );
            let groups = page.policy_groups().iter().filter_map(|group| group.group_name());
            users.extend(groups.map(|name| format!("group {name}")));
            if is_last(page.marker()) {
                break;
            }
        }
        Ok(users)
    }
}

/// Names come from status too, which may hold anything; AWS refuses the question for what can't be a name.
fn is_name(text: &str, limit: usize) -> bool {
    names::valid(text) && text.len() <= limit
}

fn absent_is_none<T>(result: Result<T, AwsError>) -> Result<Option<T>, AwsError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What was shown by one answer and denied by the next.
fn contradiction(call: &'static str, target: String) -> AwsError {
    let message = "AWS shows it and does not find it".to_owned();
    AwsError { kind: Kind::Transient, call, target, code: None, message }
}

pub(super) fn tag_map(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::Asked;
    use crate::aws::{Account, stand_in};
    use axum::Router;
    use axum::extract::State;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    const ARN: &str = "arn:aws:iam::111122223333:policy/p";

    /// An account with a role and a policy of its own. Where `pages`, there is one more page of each list.
    async fn serve(State((calls, pages)): State<(Arc<AtomicU64>, bool)>, body: String) -> String {
        calls.fetch_add(1, Relaxed);
        let parameters: Vec<&str> = body.split('&').collect();
        let action = parameters.iter().find_map(|pair| pair.strip_prefix("Action=")).expect("an action");
        let is_list = action.starts_with("List") || action == "GetAccountAuthorizationDetails";
        let more = pages && is_list && !parameters.contains(&"Marker=m");
        let end =
            if more { "<IsTruncated>true</IsTruncated><Marker>m</Marker>" } else { "<IsTruncated>false</IsTruncated>" };
        let result = match action {
            "GetCallerIdentity" => {
                "<Arn>arn:aws:iam::111122223333:user/u</Arn><Account>111122223333</Account>".to_owned()
            }
            "GetRole" => "<Role><RoleName>r</RoleName><RoleId>AROA1</RoleId><Path>/</Path>\
                          <Arn>arn:aws:iam::111122223333:role/r</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate></Role>"
                .to_owned(),
            "GetPolicy" => format!("<Policy><Arn>{ARN}</Arn><DefaultVersionId>v1</DefaultVersionId></Policy>"),
            "GetPolicyVersion" => "<PolicyVersion><Document>{}</Document></PolicyVersion>".to_owned(),
            "ListRolePolicies" if !more => format!("<PolicyNames><member>i</member></PolicyNames>{end}"),
            "GetRolePolicy" => "<RoleName>r</RoleName><PolicyName>i</PolicyName><PolicyDocument>{}</PolicyDocument>".into(),
            _ => end.to_owned(),
        };
        format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>")
    }

    async fn account(pages: bool) -> (Arc<Account>, Arc<AtomicU64>) {
        let calls = Arc::new(AtomicU64::new(0));
        let aws = stand_in::aws(Router::new().fallback(serve).with_state((calls.clone(), pages))).await;
        let account = aws.identify(None, None).await.expect("who it is");
        (account, calls)
    }

    /// Each turn takes its share of the account's rate, so one for no call would be lost.
    #[tokio::test]
    async fn each_turn_among_an_accounts_calls_is_a_call() {
        for pages in [false, true] {
            let (account, calls) = account(pages).await;
            let before = (account.turns(), calls.load(Relaxed));
            let asked = Asked { policies: [ARN.to_owned()].into(), ..Asked::default() };
            account.observe("r", &asked).await.expect("a role");
            account.profiles_of("r").await.expect("profiles");
            account.users_of(ARN).await.expect("users");
            account.walk_roles(&|_| true, drop).await.expect("a walk");
            account.walk_details(&|_| true, drop).await.expect("a walk");
            account.walk_policies(drop).await.expect("a walk");
            let made = calls.load(Relaxed) - before.1;
            assert_eq!(account.turns() - before.0, made, "more pages: {pages}");
            assert_eq!(made, 4 + 7 * (1 + u64::from(pages)), "four of one answer each, and seven lists");
        }
    }
}
