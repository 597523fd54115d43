//! What associations of EKS Pod Identity take, for one cluster.
//!
//! EKS checks to make one against the cluster, and all else against the association (Service Authorization Reference).
//! It knows no condition on the namespace: that the operator keeps to the object's own is in its code alone.

use super::statements::{allow, condition, new, ours, under_path};
use super::{Conditions, Options, Statement};

/// The statements for the cluster of this ARN: a policy of their own, since a managed policy has no room for both.
pub(super) fn associations(options: &Options, cluster: &str) -> Vec<Statement> {
    let clusters = || vec![cluster.to_owned()];
    let associations = || vec![format!("{}/*", cluster.replacen(":cluster/", ":podidentityassociation/", 1))];
    let to_pods = condition("StringEquals", "iam:PassedToService", vec!["pods.eks.amazonaws.com".to_owned()]);
    let change = vec!["eks:DeletePodIdentityAssociation", "eks:UpdatePodIdentityAssociation"];
    vec![
        allow("ListAssociations", vec!["eks:ListPodIdentityAssociations"], clusters(), Conditions::new()),
        allow("ReadAssociations", vec!["eks:DescribePodIdentityAssociation"], associations(), Conditions::new()),
        allow("MakeAssociations", vec!["eks:CreatePodIdentityAssociation"], clusters(), new(options)),
        allow("TagAssociations", vec!["eks:TagResource"], associations(), new(options)),
        allow("ChangeAssociations", change, associations(), ours(options)),
        allow("PassRolesToPods", vec!["iam:PassRole"], under_path(options, "role"), to_pods),
    ]
}
