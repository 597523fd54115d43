//! What lets the pods of listed ServiceAccounts into a role: statements that are added to its trust policy.
//!
//! Facts about the cluster come from the operator's settings and never from a class, so that one class serves many
//! clusters. Where a fact is missing nothing is generated: a statement without its condition would let in others.

use super::desired::{Facts, Problem};
use crate::api::workload::Mechanism;
use crate::api::{IamRoleClassSpec, IamRoleSpec, Reason};
use crate::policy::{AccountRef, Arn, Document, Finding, Grammar, Tokens};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Name of the generated statement for IRSA. Statements of these names are the operator's.
pub const SID_IRSA: &str = "IamRoleDevIrsa";
/// Name of the generated statement for EKS Pod Identity.
pub const SID_POD_IDENTITY: &str = "IamRoleDevPodIdentity";
/// Where the generated statements come from, for messages.
const FIELD: &str = "spec.serviceAccounts";
/// Name of the token that stands for the issuer.
pub const ISSUER: &str = "oidcIssuer";
/// The same as it is written in texts.
pub const ISSUER_TOKEN: &str = "$(oidcIssuer)";

/// What the operator was told about the EKS cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EksCluster {
    /// Its ARN.
    pub arn: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Its configured name.
    pub name: Option<String>,
}

impl EksCluster {
    /// The cluster's ARN: as configured, else of region and name in `account`, since EKS gives roles of the cluster's
    /// own account only. The error says what to do.
    pub fn arn_in(&self, account: &AccountRef) -> Result<String, String> {
        let arn = match (&self.arn, &self.region, &self.name) {
            (Some(arn), ..) => arn.clone(),
            (None, Some(region), Some(name)) => {
                format!("arn:{}:eks:{region}:{}:cluster/{name}", account.partition, account.id)
            }
            _ => {
                let message = "EKS Pod Identity needs the ARN of this cluster, which the operator does not know; set \
                               cluster.arn of the chart (--cluster-arn), or cluster.name and cluster.region";
                return Err(message.to_owned());
            }
        };
        let parsed: Arn = arn.parse().map_err(|error| format!("--cluster-arn {arn:?} is no ARN: {error}"))?;
        if (&parsed.partition, &parsed.account) == (&account.partition, &account.id) {
            return Ok(arn);
        }
        Err(format!(
            "EKS Pod Identity gives roles of the cluster's own account only: this cluster is in {} ({}), the role in {} \
             ({}); use the mechanism IRSA",
            parsed.account, parsed.partition, account.id, account.partition
        ))
    }
}

/// The ServiceAccounts of a role, and by which ways they get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Names of the ServiceAccounts, all of the object's own namespace.
    pub accounts: BTreeSet<String>,
    /// IRSA, if it is one of the ways.
    pub irsa: Option<Irsa>,
    /// EKS Pod Identity, if it is one of the ways: the ARN of the cluster.
    pub cluster_arn: Option<String>,
}

/// What IRSA goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Irsa {
    /// Issuer of the cluster's tokens, without `https://` and else letter by letter as they say it: AWS takes an issuer
    /// that ends in a slash for another one than the same without, in ARNs and in condition keys.
    pub issuer: String,
    /// ARN of its OIDC provider in the role's account.
    pub provider: String,
    /// What tokens must be for.
    pub audience: String,
}

/// The ServiceAccounts that the spec lists, as far as the class allows it; `None` without any. What is wrong goes into
/// `problems`.
pub fn workload(spec: &IamRoleSpec, facts: Facts<'_>, problems: &mut Vec<Problem>) -> Option<Workload> {
    let accounts: BTreeSet<String> = spec.service_accounts.iter().flatten().map(|entry| entry.name.clone()).collect();
    if accounts.is_empty() {
        return None;
    }
    let mut invalid = |field: &str, message: String| {
        problems.push(Problem { reason: Reason::InvalidSpec, message: format!("{field}: {message}") });
    };
    // The schema checks it too; a stored object may be from before that.
    if let Some(name) = accounts.iter().find(|name| !is_name(name)) {
        invalid(FIELD, format!("{name:?} is no name of a ServiceAccount"));
        return None;
    }
    let mechanism = mechanism(spec, facts).map_err(|problem| problems.push(problem)).ok()?;
    let irsa = mechanism.has_irsa().then(|| irsa(facts)).transpose();
    let cluster = mechanism.has_pod_identity().then(|| facts.owner.cluster.eks.arn_in(facts.account)).transpose();
    let cluster = cluster.map_err(|message| invalid_list(&message));
    match (irsa, cluster) {
        (Ok(irsa), Ok(cluster_arn)) => Some(Workload { accounts, irsa, cluster_arn }),
        (irsa, cluster) => {
            problems.extend([irsa.err(), cluster.err()].into_iter().flatten());
            None
        }
    }
}

fn invalid_list(message: &str) -> Problem {
    Problem { reason: Reason::InvalidSpec, message: format!("{FIELD}: {message}") }
}

/// What waits until the issuer is known.
#[must_use]
pub fn needs_issuer(field: &str) -> Problem {
    let message = format!("{field}: needs the issuer of this cluster's ServiceAccount tokens");
    Problem { reason: Reason::IssuerUnknown, message }
}

/// Whether something of the role is made from the issuer: its texts, or what the class puts on each role.
#[must_use]
pub fn is_of_issuer(spec: &IamRoleSpec, class: &IamRoleClassSpec) -> bool {
    let names = |text: &String| text.contains(ISSUER_TOKEN);
    let by_class = || {
        let texts = [&class.permissions_boundary, &class.path, &class.role_name_template];
        let managed = class.managed_policies.iter().flatten();
        let tags = class.tags.iter().flat_map(|tags| tags.values());
        texts.into_iter().flatten().chain(managed).chain(tags).any(names)
    };
    serde_json::to_string(spec).is_ok_and(|text| names(&text)) || by_class()
}

fn mechanism(spec: &IamRoleSpec, facts: Facts<'_>) -> Result<Mechanism, Problem> {
    let refused = |field: &str, message: String| {
        Err(Problem {
            reason: Reason::NotAllowed,
            message: format!("{field}: {message} (IamRoleClass {})", facts.class_name),
        })
    };
    let Some(class) = &facts.class.workload_identity else {
        return refused(FIELD, "is not allowed: the class has no workloadIdentity".to_owned());
    };
    let asked = spec.workload_identity.as_ref().and_then(|identity| identity.mechanism);
    let field = if asked.is_some() { "spec.workloadIdentity.mechanism" } else { FIELD };
    match asked.unwrap_or(class.mechanism) {
        Mechanism::Unknown => Err(Problem {
            reason: Reason::InvalidSpec,
            message: format!(
                "{field}: the mechanism is not known to this version of the operator; use IRSA, PodIdentity or Both"
            ),
        }),
        asked if asked != class.mechanism && class.allow_override != Some(true) => refused(
            field,
            format!(
                "{:?} is not allowed: workloadIdentity.mechanism is {}, and allowOverride is not true",
                asked.as_str(),
                class.mechanism.as_str()
            ),
        ),
        mechanism => Ok(mechanism),
    }
}

fn irsa(facts: Facts<'_>) -> Result<Irsa, Problem> {
    let issuer = facts.issuer.ok_or_else(|| needs_issuer(FIELD))?;
    if issuer.is_empty() || !issuer.chars().all(|c| c.is_ascii_alphanumeric() || "-._~:/@".contains(c)) {
        return Err(invalid_list(&format!(
            "the issuer {issuer:?} of this cluster's tokens can't be an OIDC provider; use PodIdentity"
        )));
    }
    let AccountRef { partition, id } = facts.account;
    let class = facts.class.workload_identity.as_ref();
    Ok(Irsa {
        issuer: issuer.to_owned(),
        provider: format!("arn:{partition}:iam::{id}:oidc-provider/{issuer}"),
        audience: class.map_or(crate::api::workload::DEFAULT_AUDIENCE, |class| class.audience()).to_owned(),
    })
}

/// A DNS subdomain, as Kubernetes names ServiceAccounts; none of the characters that mean something in a policy.
pub(crate) fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl Workload {
    /// The statements for a role of `namespace` in `account`: at most one for each way.
    pub fn statements(&self, namespace: &str, account: &AccountRef) -> Result<Document, Vec<Finding>> {
        let statements: Vec<Value> = [
            self.irsa.as_ref().map(|irsa| self.irsa_statement(irsa, namespace)),
            self.cluster_arn.as_ref().map(|arn| self.pod_identity_statement(arn, namespace, account)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let document = json!({ "Version": "2012-10-17", "Statement": statements });
        Document::from_value(Grammar::Trust, FIELD, &document, &Tokens::default())
    }

    fn irsa_statement(&self, irsa: &Irsa, namespace: &str) -> Value {
        let subject = |name: &String| format!("system:serviceaccount:{namespace}:{name}");
        let subjects: Vec<String> = self.accounts.iter().map(subject).collect();
        let conditions = json!({
            format!("{}:sub", irsa.issuer): subjects,
            format!("{}:aud", irsa.issuer): irsa.audience,
        });
        json!({
            "Sid": SID_IRSA,
            "Effect": "Allow",
            "Principal": { "Federated": irsa.provider },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": conditions },
        })
    }

    /// Without these conditions any association of any cluster of the account could use the role.
    fn pod_identity_statement(&self, arn: &str, namespace: &str, account: &AccountRef) -> Value {
        json!({
            "Sid": SID_POD_IDENTITY,
            "Effect": "Allow",
            "Principal": { "Service": "pods.eks.amazonaws.com" },
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": { "StringEquals": {
                "aws:SourceArn": arn,
                "aws:SourceAccount": account.id,
                "aws:RequestTag/kubernetes-namespace": namespace,
                "aws:RequestTag/kubernetes-service-account": self.accounts,
            } },
        })
    }
}

/// The `Sid`s of a hand-written trust policy that only generated statements may have.
pub fn reserved(trust: &Document) -> impl Iterator<Item = (&str, &str)> {
    let taken = |sid: &str| [SID_IRSA, SID_POD_IDENTITY].iter().any(|ours| ours.eq_ignore_ascii_case(sid));
    trust.statements().iter().filter_map(move |statement| {
        let sid = statement.sid.as_deref().filter(|sid| taken(sid))?;
        Some((statement.path.as_str(), sid))
    })
}

/// An ARN of an EKS cluster, or nothing, as a setting.
pub fn cluster_arn(text: &str) -> Result<String, String> {
    let is_cluster = text.parse::<Arn>().is_ok_and(|arn| {
        let name = arn.resource.strip_prefix("cluster/").unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let is_account = arn.account.len() == 12 && arn.account.chars().all(|c| c.is_ascii_digit());
        arn.service == "eks" && region(&arn.region).is_ok() && is_account && !name.is_empty() && name.chars().all(plain)
    });
    if text.is_empty() || is_cluster {
        return Ok(text.to_owned());
    }
    Err("no ARN of an EKS cluster: arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME".to_owned())
}

/// A region of AWS, or nothing, as a setting.
pub fn region(text: &str) -> Result<String, String> {
    if text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Ok(text.to_owned());
    }
    Err("no region of AWS, such as eu-central-1".to_owned())
}

#[cfg(test)]
mod tests;
