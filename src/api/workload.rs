//! Workload identity: which ServiceAccounts get a role, and by which of AWS's two ways.

use super::iamrole::choice;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The audience that AWS's own webhook and SDKs use, in every partition.
pub const DEFAULT_AUDIENCE: &str = "sts.amazonaws.com";

choice! {
    /// By which way pods get the role.
    Mechanism {
        /// IAM roles for service accounts: the pod's token, through the cluster's OIDC provider.
        IRSA,
        /// EKS Pod Identity: an association, and the agent on the node.
        PodIdentity,
        /// Both, as while changing from one to the other.
        Both,
    }
}

impl Mechanism {
    /// Whether the cluster's OIDC provider is let in.
    #[must_use]
    pub const fn has_irsa(self) -> bool {
        matches!(self, Self::IRSA | Self::Both)
    }

    /// Whether EKS Pod Identity is let in.
    #[must_use]
    pub const fn has_pod_identity(self) -> bool {
        matches!(self, Self::PodIdentity | Self::Both)
    }
}

/// A `ServiceAccount` of the object's own namespace that may assume the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ServiceAccountEntry {
    /// Name of the `ServiceAccount`, without its namespace. It need not exist yet.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// How the ServiceAccounts of a role get it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline, extend("x-kubernetes-map-type" = "atomic"))]
pub struct RoleWorkloadIdentity {
    /// IRSA, `PodIdentity` or Both, in place of the class's; needs the class's leave. Absent: the class's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<Mechanism>,
}

/// How the ServiceAccounts of a class's roles get them. What the operator writes into trust policies for
/// `spec.serviceAccounts` needs no entry in `allowed.trustPrincipals`: it lets in ServiceAccounts of the role's own
/// namespace and nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline, extend("x-kubernetes-map-type" = "atomic"))]
pub struct ClassWorkloadIdentity {
    /// IRSA (the cluster's OIDC provider), `PodIdentity` (EKS Pod Identity) or Both, as while changing from one to the
    /// other.
    pub mechanism: Mechanism,
    /// Whether a role may choose another mechanism. Absent: it may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_override: Option<bool>,
    /// The audience that tokens must be for with IRSA, one of the client ids of the OIDC provider. Absent:
    /// sts.amazonaws.com, also in China and `GovCloud`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9_.:/@+=,~-]+$"))]
    pub audience: Option<String>,
    /// The annotation sts-regional-endpoints of the ServiceAccounts, for old SDKs that would else ask STS in
    /// us-east-1. Absent: it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_regional_endpoints: Option<bool>,
    /// What is done for EKS Pod Identity beside the trust policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_identity: Option<PodIdentity>,
}

/// What is done for EKS Pod Identity beside the trust policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PodIdentity {
    /// Managed: the operator makes the associations of the ServiceAccounts in EKS, keeps them and deletes them with the
    /// role. None: others do. Absent: None.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub associations: Option<Associations>,
}

choice! {
    /// Who makes the associations of EKS Pod Identity.
    Associations {
        /// The operator.
        Managed,
        /// Others.
        None,
    }
}

impl ClassWorkloadIdentity {
    /// Whether the operator makes the associations of EKS Pod Identity.
    #[must_use]
    pub fn manages_associations(&self) -> bool {
        let associations = self.pod_identity.as_ref().and_then(|pod_identity| pod_identity.associations);
        associations == Some(Associations::Managed)
    }

    /// The audience that applies.
    #[must_use]
    pub fn audience(&self) -> &str {
        self.audience.as_deref().unwrap_or(DEFAULT_AUDIENCE)
    }
}

/// What the ServiceAccounts of a role have got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct WorkloadStatus {
    /// Issuer of the cluster's tokens, without https://, for which the role was made (IRSA, `$(oidcIssuer)`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub issuer: Option<String>,
    /// ARN of the cluster for which the trust policy was made (EKS Pod Identity).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub cluster_arn: Option<String>,
    /// How many pods of the ServiceAccounts that have not ended were made too early and have no credentials. Absent: they
    /// were not looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub pods_without_credentials: Option<i32>,
    /// The ServiceAccounts that the operator has given the role.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 60), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub service_accounts: Vec<BoundServiceAccount>,
    /// ARNs of associations that the operator made in a cluster that is not its own (any more), which it asks for nothing
    /// there. They are deleted once `cluster.arn` of the chart is restored; who deletes them in EKS takes them out here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 60), inner(length(max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub associations_elsewhere: Vec<String>,
}

/// A `ServiceAccount` that the operator has given the role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct BoundServiceAccount {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// True: it carries the role's annotation (IRSA).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotated: Option<bool>,
    /// ARN of its association in EKS, which the operator made (EKS Pod Identity).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub association_arn: Option<String>,
    /// True: its association in EKS was asked for, and whether it was made is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub associating: Option<bool>,
}
