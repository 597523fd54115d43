//! Associations of EKS Pod Identity: which role the pods of a ServiceAccount get. For those of one namespace at a time.

use super::account::Account;
use super::error::AwsError;
use crate::policy::Arn;
use std::collections::BTreeMap;

/// A cluster in EKS, as its associations are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    use crate::aws::Kind;
    use aws_config::Region;
    use aws_sdk_eks::config::retry::RetryPartition;
    use aws_sdk_eks::types::PodIdentityAssociation;

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

        /// Those of a namespace, without role and tags. None where there is no such cluster.
        pub async fn associations(&self, place: &Place, namespace: &str) -> Result<Vec<Association>, AwsError> {
            let (eks, target) = (self.eks(place), format!("cluster {}", place.cluster));
            let (mut all, mut next) = (Vec::new(), None);
            loop {
                let call = eks.list_pod_identity_associations().cluster_name(&place.cluster).namespace(namespace);
                let call = call.set_next_token(next.take()).send();
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
                all.extend(found.filter(|found| found.namespace == namespace));
                next = answer.next_token().map(str::to_owned);
                if next.is_none() {
                    return Ok(all);
                }
            }
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

    fn unable<T>(call: &'static str) -> Result<T, AwsError> {
        let message = "this build of the operator has no EKS in it (feature eks)".to_owned();
        Err(AwsError { kind: Kind::Rejected, call, target: "EKS".to_owned(), code: None, message })
    }

    #[allow(clippy::unused_async, reason = "the signatures of those that can")]
    impl Account {
        /// Whether this build can make associations.
        pub const MAKES_ASSOCIATIONS: bool = false;

        /// Not in this build.
        pub async fn associations(&self, _: &Place, _: &str) -> Result<Vec<Association>, AwsError> {
            unable("eks:ListPodIdentityAssociations")
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
}
