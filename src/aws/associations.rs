//! Associations of EKS Pod Identity: which role the pods of a ServiceAccount get. For those of one namespace at a time.

use super::account::Account;
use super::error::AwsError;
use crate::policy::Arn;
use std::collections::BTreeMap;

/// A cluster in EKS, as its associations are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Region.
    pub region: String,
    /// Name of the cluster.
    pub cluster: String,
}

impl Place {
    /// That of a cluster's ARN (`…:cluster/NAME`) or of an association's (`…:podidentityassociation/NAME/ID`).
    #[must_use]
    pub fn of(arn: &str) -> Option<Self> {
        let arn: Arn = arn.parse().ok()?;
        let mut parts = arn.resource.split('/').skip(1);
        Some(Self { region: arn.region, cluster: parts.next()?.to_owned() })
    }
}

/// An association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// Its ARN.
    pub arn: String,
    /// Its id within the cluster.
    pub id: String,
    /// The namespace.
    pub namespace: String,
    /// The ServiceAccount.
    pub account: String,
    /// ARN of the role; empty in a list.
    pub role: String,
    /// Tags; empty in a list.
    pub tags: BTreeMap<String, String>,
    /// No session tags are sent, so that no trust policy can tell ServiceAccounts apart. False in a list.
    pub untagged: bool,
    /// ARN of a second role that pods get by way of the first; `None` in a list.
    pub target: Option<String>,
}

impl Association {
    /// Whether it gives pods this role, in a way that the generated trust policy lets in.
    #[must_use]
    pub fn gives(&self, role: &str) -> bool {
        self.role == role && !self.untagged && self.target.is_none()
    }
}

#[cfg(feature = "eks")]
mod calls {
    use super::{Account, Association, AwsError, BTreeMap, Place};
    use crate::aws::look::Since;
    use crate::aws::{Kind, Ticket};
    use aws_config::Region;
    use aws_sdk_eks::config::retry::RetryPartition;
    use aws_sdk_eks::types::PodIdentityAssociation;
    use std::sync::Arc;
    use std::time::Duration;

    fn text(text: Option<&str>) -> String {
        text.unwrap_or_default().to_owned()
    }

    fn read(found: &PodIdentityAssociation) -> Association {
        Association {
            arn: text(found.association_arn()),
            id: text(found.association_id()),
            namespace: text(found.namespace()),
            account: text(found.service_account()),
            role: text(found.role_arn()),
            tags: found.tags().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
            untagged: found.disable_session_tags() == Some(true),
            target: found.target_role_arn().filter(|arn| !arn.is_empty()).map(str::to_owned),
        }
    }

    impl Account {
        /// Whether this build can make associations.
        pub const MAKES_ASSOCIATIONS: bool = true;

        pub(in crate::aws) fn eks(&self, place: &Place) -> aws_sdk_eks::Client {
            let (config, fence, throttle) = &self.eks;
            let region = Region::new(place.region.clone());
            let config = aws_sdk_eks::config::Builder::from(config)
                .region(region)
                .interceptor(fence.clone())
                .interceptor(throttle.clone())
                .retry_partition(RetryPartition::new(format!("eks-{}-{}", self.account.id, place.region)));
            aws_sdk_eks::Client::from_conf(config.build())
        }

        /// Those of a namespace, or of one ServiceAccount there, without role and tags.
        async fn list(
            &self,
            place: &Place,
            namespace: &str,
            account: Option<&str>,
        ) -> Result<Vec<Association>, AwsError> {
            let (eks, target) = (self.eks(place), format!("cluster {}", place.cluster));
            let (mut all, mut next) = (Vec::new(), None);
            loop {
                let call = eks.list_pod_identity_associations().cluster_name(&place.cluster).namespace(namespace);
                let call = call.set_service_account(account.map(str::to_owned)).set_next_token(next.take()).send();
                let answer = match self.call_at(&self.eks_pace, "eks:ListPodIdentityAssociations", &target, call).await
                {
                    Err(error) if error.kind == Kind::NotFound => return Ok(Vec::new()),
                    other => other?,
                };
                let found = answer.associations().iter().map(|found| Association {
                    arn: text(found.association_arn()),
                    id: text(found.association_id()),
                    namespace: text(found.namespace()),
                    account: text(found.service_account()),
                    role: String::new(),
                    tags: BTreeMap::new(),
                    untagged: false,
                    target: None,
                });
                // EKS filters, too; what is of another namespace is nobody's business here.
                let is_meant = |found: &Association| account.is_none_or(|account| found.account == account);
                all.extend(found.filter(|found| found.namespace == namespace && is_meant(found)));
                next = answer.next_token().map(str::to_owned);
                if next.is_none() {
                    return Ok(all);
                }
            }
        }

        /// Those of a namespace, without role and tags, as they were not longer than `age` ago: what was made since is not
        /// among them, and what is gone may be. None where there is no such cluster. Of many who ask at once one does.
        pub async fn associations(
            &self,
            place: &Place,
            namespace: &str,
            age: Duration,
        ) -> Result<Arc<Vec<Association>>, AwsError> {
            let since = Since::within(age);
            let ask = async { self.list(place, namespace, None).await.map(Arc::new) };
            let key = (self.identity.clone(), place.clone(), namespace.to_owned(), Ticket::turn());
            self.found.associations.of(key).ask(since, ask).await.map_err(|unanswered| unanswered.error)
        }

        /// That of a ServiceAccount, as it is now, with role and tags: two calls.
        pub async fn association_of(
            &self,
            place: &Place,
            namespace: &str,
            account: &str,
        ) -> Result<Option<Association>, AwsError> {
            match self.list(place, namespace, Some(account)).await?.first() {
                Some(listed) => self.association(place, &listed.id).await,
                None => Ok(None),
            }
        }

        /// One of a list, with role and tags, for those who only want to know whose it is: of many who ask at once one does.
        pub async fn association_for_all(
            &self,
            place: &Place,
            listed: &Association,
        ) -> Result<Option<Association>, AwsError> {
            let key = (self.identity.clone(), listed.arn.clone(), Ticket::turn());
            let (looks, since) = (&self.found.owners, Since::within(Duration::MAX));
            let seen = looks.of(key.clone()).ask(since, self.association(place, &listed.id)).await;
            // Who waits for it has it. Whoever comes later knows whose it is without asking.
            looks.forget(|other| *other == key);
            seen.map_err(|unanswered| unanswered.error)
        }

        /// One with role and tags; `None` if it is gone.
        pub async fn association(&self, place: &Place, id: &str) -> Result<Option<Association>, AwsError> {
            let call =
                self.eks(place).describe_pod_identity_association().cluster_name(&place.cluster).association_id(id);
            match self
                .call_at(
                    &self.eks_pace,
                    "eks:DescribePodIdentityAssociation",
                    &format!("association {id}"),
                    call.send(),
                )
                .await
            {
                Ok(answer) => Ok(answer.association().map(read)),
                Err(error) if error.kind == Kind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        }

        /// Makes one; returns its ARN.
        pub async fn associate(
            &self,
            place: &Place,
            namespace: &str,
            account: &str,
            role: &str,
            tags: BTreeMap<String, String>,
        ) -> Result<String, AwsError> {
            let call = self.eks(place).create_pod_identity_association().cluster_name(&place.cluster);
            let call = call.namespace(namespace).service_account(account).role_arn(role);
            let call = call.set_tags(Some(tags.into_iter().collect())).send();
            let target = format!("cluster {} for ServiceAccount {namespace}/{account}", place.cluster);
            let answer = self.call_at(&self.eks_pace, "eks:CreatePodIdentityAssociation", &target, call).await?;
            Ok(answer.association().map(read).map(|made| made.arn).unwrap_or_default())
        }

        /// Gives one this role and no other, with session tags. An empty target takes one away.
        pub async fn associate_anew(&self, place: &Place, id: &str, role: &str) -> Result<(), AwsError> {
            let call = self.eks(place).update_pod_identity_association().cluster_name(&place.cluster);
            let call = call.association_id(id).role_arn(role).disable_session_tags(false).target_role_arn("").send();
            self.call_at(&self.eks_pace, "eks:UpdatePodIdentityAssociation", &format!("association {id}"), call)
                .await
                .map(drop)
        }

        /// Deletes one; false if it was gone already.
        pub async fn dissociate(&self, place: &Place, id: &str) -> Result<bool, AwsError> {
            let call =
                self.eks(place).delete_pod_identity_association().cluster_name(&place.cluster).association_id(id);
            match self
                .call_at(&self.eks_pace, "eks:DeletePodIdentityAssociation", &format!("association {id}"), call.send())
                .await
            {
                Ok(_) => Ok(true),
                Err(error) if error.kind == Kind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        }
    }
}

#[cfg(not(feature = "eks"))]
mod calls {
    use super::{Account, Association, AwsError, BTreeMap, Place};
    use crate::aws::Kind;
    use std::sync::Arc;
    use std::time::Duration;

    fn unable<T>(call: &'static str) -> Result<T, AwsError> {
        let message = "this build of the operator has no EKS in it (feature eks)".to_owned();
        Err(AwsError { kind: Kind::Rejected, call, target: "EKS".to_owned(), code: None, message })
    }

    #[allow(clippy::unused_async, reason = "the signatures of those that can")]
    impl Account {
        /// Whether this build can make associations.
        pub const MAKES_ASSOCIATIONS: bool = false;

        /// Not in this build.
        pub async fn associations(&self, _: &Place, _: &str, _: Duration) -> Result<Arc<Vec<Association>>, AwsError> {
            unable("eks:ListPodIdentityAssociations")
        }

        /// Not in this build.
        pub async fn association_of(&self, _: &Place, _: &str, _: &str) -> Result<Option<Association>, AwsError> {
            unable("eks:ListPodIdentityAssociations")
        }

        /// Not in this build.
        pub async fn association_for_all(&self, _: &Place, _: &Association) -> Result<Option<Association>, AwsError> {
            unable("eks:DescribePodIdentityAssociation")
        }

        /// Not in this build.
        pub async fn association(&self, _: &Place, _: &str) -> Result<Option<Association>, AwsError> {
            unable("eks:DescribePodIdentityAssociation")
        }

        /// Not in this build.
        pub async fn associate(
            &self,
            _: &Place,
            _: &str,
            _: &str,
            _: &str,
            _: BTreeMap<String, String>,
        ) -> Result<String, AwsError> {
            unable("eks:CreatePodIdentityAssociation")
        }

        /// Not in this build.
        pub async fn associate_anew(&self, _: &Place, _: &str, _: &str) -> Result<(), AwsError> {
            unable("eks:UpdatePodIdentityAssociation")
        }

        /// Not in this build.
        pub async fn dissociate(&self, _: &Place, _: &str) -> Result<bool, AwsError> {
            unable("eks:DeletePodIdentityAssociation")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn the_place_is_in_both_kinds_of_arn() {
        let place = Some(Place { region: "eu-central-1".into(), cluster: "prod".into() });
        assert_eq!(Place::of("arn:aws:eks:eu-central-1:111122223333:cluster/prod"), place);
        assert_eq!(Place::of("arn:aws:eks:eu-central-1:111122223333:podidentityassociation/prod/a-1"), place);
        assert_eq!(Place::of("prod"), None);
    }

    #[cfg(feature = "eks")]
    mod lists {
        use crate::aws::{Account, Place, Ticket, Turn, stand_in};
        use axum::Router;
        use axum::extract::State;
        use axum::http::{Method, Uri};
        use axum::response::{IntoResponse as _, Response};
        use futures::future::join_all;
        use serde_json::json;
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
        use std::time::Duration;
        use tokio::sync::Notify;

        const AGE: Duration = Duration::from_mins(1);

        /// Associations that were made, and lists and single ones that were asked for.
        #[derive(Default)]
        struct Eks {
            made: AtomicUsize,
            lists: AtomicUsize,
            looks: AtomicUsize,
            /// The next list waits until it may be answered.
            hangs: AtomicBool,
            asked: Notify,
            answer: Notify,
        }

        async fn serve(State(eks): State<Arc<Eks>>, method: Method, uri: Uri, text: String) -> Response {
            let text = |action: &str| {
                let who = "<Arn>arn:aws:iam::111122223333:user/u</Arn><Account>111122223333</Account>";
                let is_called = text.contains(&format!("Action={action}&"));
                is_called
                    .then(|| format!("<{action}Response><{action}Result>{who}</{action}Result></{action}Response>"))
            };
            if !uri.path().starts_with("/clusters/") {
                let answer = text("GetCallerIdentity").or_else(|| text("GetAccountSummary"));
                return answer.unwrap_or_default().into_response();
            }
            let one = |id: usize| json!({ "associationId": id.to_string(), "namespace": "shop" });
            if method == Method::POST {
                return json!({ "association": one(eks.made.fetch_add(1, Relaxed)) }).to_string().into_response();
            }
            if !uri.path().ends_with("/pod-identity-associations") {
                eks.looks.fetch_add(1, Relaxed);
                return json!({ "association": one(0) }).to_string().into_response();
            }
            eks.lists.fetch_add(1, Relaxed);
            if eks.hangs.swap(false, Relaxed) {
                eks.asked.notify_one();
                eks.answer.notified().await;
            }
            let all: Vec<_> = (0..eks.made.load(Relaxed)).map(one).collect();
            json!({ "associations": all }).to_string().into_response()
        }

        fn place() -> Place {
            Place { region: "eu-central-1".into(), cluster: "prod".into() }
        }

        async fn seen(account: &Account, age: Duration) -> usize {
            account.associations(&place(), "shop", age).await.expect("a list").len()
        }

        #[tokio::test]
        async fn a_list_is_asked_for_once_until_it_is_old_or_wanted_anew() {
            let eks = Arc::new(Eks::default());
            let aws = stand_in::aws(Router::new().fallback(serve).with_state(eks.clone())).await;
            let account = aws.identify(None, None).await.expect("who it is");
            let make =
                async || account.associate(&place(), "shop", "api", "role", std::collections::BTreeMap::new()).await;
            make().await.expect("an association");
            assert_eq!(join_all((0..20).map(|_| seen(&account, AGE))).await, [1; 20]);
            let other = aws.identify(None, None).await.expect("who it is");
            assert_eq!((seen(&other, AGE).await, eks.lists.load(Relaxed)), (1, 1), "also for another class");
            make().await.expect("an association");
            assert_eq!((seen(&account, AGE).await, eks.lists.load(Relaxed)), (1, 1), "as it was");
            assert_eq!((seen(&account, Duration::ZERO).await, eks.lists.load(Relaxed)), (2, 2));
            let at_once = (0..20).map(|_| seen(&account, Duration::ZERO));
            assert_eq!(
                (join_all(at_once).await, eks.lists.load(Relaxed)),
                (vec![2; 20], 4),
                "the first, and one for all others"
            );
            aws.forget_associations("another");
            assert_eq!((seen(&account, AGE).await, eks.lists.load(Relaxed)), (2, 4));
            aws.forget_associations("shop");
            assert_eq!((seen(&account, AGE).await, eks.lists.load(Relaxed)), (2, 5));
        }

        #[tokio::test]
        async fn many_who_want_to_know_whose_one_is_ask_once_and_nothing_is_kept_of_it() {
            let eks = Arc::new(Eks::default());
            let aws = stand_in::aws(Router::new().fallback(serve).with_state(eks.clone())).await;
            let account = aws.identify(None, None).await.expect("who it is");
            account.associate(&place(), "shop", "api", "role", std::collections::BTreeMap::new()).await.expect("made");
            let listed = account.associations(&place(), "shop", AGE).await.expect("a list");
            let place = place();
            let at_once = (0..20).map(|_| account.association_for_all(&place, &listed[0]));
            let found = join_all(at_once).await.into_iter().filter(|seen| matches!(seen, Ok(Some(_)))).count();
            assert_eq!((found, eks.looks.load(Relaxed)), (20, 1));
            account.association_for_all(&place, &listed[0]).await.expect("it is asked for anew");
            assert_eq!(eks.looks.load(Relaxed), 2);
        }

        #[tokio::test]
        async fn who_changes_something_does_not_wait_for_the_list_of_a_check() {
            let eks = Arc::new(Eks::default());
            eks.hangs.store(true, Relaxed);
            let aws = stand_in::aws(Router::new().fallback(serve).with_state(eks.clone())).await;
            let account = aws.identify(None, None).await.expect("who it is");
            let check = Ticket::new(Turn::Check).scope(seen(&account, Duration::ZERO));
            let change = Ticket::new(Turn::Change).scope(async {
                eks.asked.notified().await;
                let seen = seen(&account, Duration::ZERO).await;
                eks.answer.notify_one();
                seen
            });
            assert_eq!(tokio::join!(check, change), (0, 0));
            assert_eq!(eks.lists.load(Relaxed), 2);
        }
    }
}
