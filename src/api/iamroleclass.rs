//! `IamRoleClass`: what an admin lays down for the roles of some namespaces.

use super::iamrole::{DeletionPolicy, Mode, WhenUnlisted, choice, tag_rules};
use super::schema::{self, Selector};
use super::workload::ClassWorkloadIdentity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// What applies to the roles of the selected namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "iamrole.dev",
    version = "v1alpha1",
    kind = "IamRoleClass",
    plural = "iamroleclasses",
    status = "IamRoleClassStatus",
    doc = "IamRoleClass says in which AWS account and under which rules the IamRoles of the selected namespaces live, as a StorageClass does for volumes.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether roles of this class can be served."}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason","description":"Why."}"#,
    printcolumn = r#"{"name":"Account","type":"string","jsonPath":".status.accountId","description":"AWS account of the class."}"#,
    printcolumn = r#"{"name":"Default","type":"string","jsonPath":".metadata.annotations.iamrole\\.dev/is-default-class","description":"Whether it is the default of its namespaces."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Age of the object."}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1,"description":"What happened and what to do."}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = spec_rules()))]
pub struct IamRoleClassSpec {
    /// The namespaces whose roles may use this class; {} selects all.
    pub namespace_selector: Selector,

    /// The AWS account. Absent: that of the operator's own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,

    /// Names of roles without roleName; must hold $(namespace) and $(name). Absent:
    /// $(cluster).$(namespace).$(name). Cut at 64 characters with a hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9_+=,.@$()-]+$"))]
    pub role_name_template: Option<String>,

    /// Path of roles without path; tokens are replaced. Absent: "/".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^(/|/[!-~]+/)$"))]
    pub path: Option<String>,

    /// ARN of the permissions boundary that is forced on every role; tokens are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = [schema::policy_arn()]))]
    pub permissions_boundary: Option<String>,

    /// True: roles may have no boundary. Exactly one of permissionsBoundary and unbounded is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unbounded: Option<bool>,

    /// How the ServiceAccounts that a role lists get it. Absent: spec.serviceAccounts of roles is not allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<ClassWorkloadIdentity>,

    /// What the roles of this class may ask for. What is not listed is not allowed; what the class itself gives
    /// (templated names, its path, boundary, policies and tags) needs no leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Allowed>,

    /// What no role of this class gets, whatever is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,

    /// Tags that every role gets, at most 11; tokens are replaced. A role that sets one of these keys is
    /// refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "tags")]
    pub tags: Option<BTreeMap<String, String>>,

    /// Managed policies that every role gets: ARNs or names of AWS-managed ones with their path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "managed_policies")]
    pub managed_policies: Option<Vec<String>>,

    /// Unlisted policies that are never removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlisted_exceptions: Option<UnlistedExceptions>,

    /// What to do with unlisted policies of roles that don't say. Absent: Remove.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_unlisted: Option<WhenUnlisted>,

    /// What becomes of roles that don't say when their object is deleted. Absent: Delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// Observe holds all roles of the class at Observe, whatever they say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// True: no call to AWS for any role of the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// Clusters that are no more: what their operator made for an object of the same namespace and name is taken
    /// over. Each as the tag iamrole.dev/cluster has it (NAME/UID), or its UID alone. Never name a cluster that
    /// lives: two operators would change the same roles. Generated names are found again only where the operator has
    /// the cluster name (`cluster.name` of the chart) that it had there, since $(cluster) is part of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "old_clusters")]
    pub take_over_clusters: Option<Vec<String>>,

    /// Other classes whose roles may be moved to this one by roleClassName, or made anew under it after they were
    /// retained. They come with all that they have, more than this class allows, under its boundary, until their specs
    /// are applied here: name only classes that allow no more than this one, or only while roles move. Absent: a role
    /// stays with the class under which it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "other_classes")]
    pub take_over_classes: Option<Vec<String>>,

    /// How drift is looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_check: Option<DriftCheck>,

    /// Which installation of the operator serves the class. Absent: iamrole.dev/operator. Can't be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub controller: Option<String>,
}

/// How many roles that belong to nobody a class tells.
pub const ORPHANS: u32 = 20;

/// The AWS account of a class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline, extend("x-kubernetes-map-type" = "atomic"))]
pub struct Account {
    /// Account id, 12 digits in quotes. The operator checks it before it believes any answer. Can't be changed
    /// once set. Absent: the first account seen is kept in status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12), regex(pattern = r"^[0-9]{12}$"))]
    pub id: Option<String>,
    /// A role through which the operator works in this account. Absent: its own identity does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,
}

/// A role that the operator assumes.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct AssumeRole {
    /// ARN of the role. It must trust the operator's own identity.
    #[schemars(length(max = 2048), regex(pattern = r"^arn:[a-z0-9-]+:iam::[0-9]{12}:role/[!-~]+$"))]
    pub role_arn: String,
    /// External id that the role's trust policy asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224), regex(pattern = r"^[A-Za-z0-9_+=,.@:/-]+$"))]
    pub external_id: Option<String>,
    /// Length of the sessions in seconds. Absent: 3600, which is also the most that AWS gives an operator whose own
    /// identity is a role (IRSA, EKS Pod Identity).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 900, max = 43200))]
    pub session_duration_seconds: Option<i32>,
}

// By hand: an external id is for the trust policy and for nobody's log.
impl std::fmt::Debug for AssumeRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AssumeRole").field("role_arn", &self.role_arn).finish_non_exhaustive()
    }
}

/// What roles may ask for. In patterns `*` stands for any text and `?` for any one character; $(namespace), $(name) and
/// the other tokens are replaced. An absent list allows nothing, an absent boolean is false.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-map-type" = "atomic"))]
pub struct Allowed {
    /// Values of spec.roleName.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns")]
    pub role_names: Vec<String>,
    /// Values of spec.path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns")]
    pub paths: Vec<String>,
    /// Values of policyName in spec.customerManagedPolicies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns")]
    pub policy_names: Vec<String>,
    /// ARNs that spec.permissionsBoundary may choose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns")]
    pub permissions_boundaries: Vec<String>,
    /// Entries of spec.managedPolicies: patterns of ARNs, or of names of AWS-managed policies with their path
    /// (`ReadOnlyAccess`, `service-role/*`). One that begins with `*` is a pattern of ARNs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns")]
    pub managed_policies: Vec<String>,
    /// Whom trust policies may let in, by type and value: `Service:ec2.amazonaws.com`, `AWS:111122223333`,
    /// `AWS:arn:aws:iam::111122223333:role/ci-*`, `Federated:arn:aws:iam::$(account):saml-provider/*`. ServiceAccounts
    /// of the own namespace may always be let in through a provider that is allowed; those of others need
    /// `ServiceAccount:NAMESPACE/NAME`, which `*` does not include.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns")]
    pub trust_principals: Vec<String>,
    /// Actions that documents may allow, such as `s3:*`. NotAction needs `*`. Without an entry there are no documents at
    /// all, also none that only deny.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "many_patterns")]
    pub actions: Vec<String>,
    /// Keys of spec.tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns")]
    pub tag_keys: Vec<String>,
    /// Names of roles that may be adopted. The name must be within roleNames as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns")]
    pub adopted_roles: Vec<String>,
    /// Whether spec.customerManagedPolicies may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_managed_policies: Option<bool>,
    /// Whether spec.instanceProfile may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_profiles: Option<bool>,
    /// Whether a role may be suspended by spec.suspend or the annotation. If not, both are ignored and reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Whether a role may be held at mode Observe by its spec. If not, the mode is ignored and reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observe: Option<bool>,
    /// Greatest spec.maxSessionDurationSeconds. Absent: 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3600, max = 43200))]
    pub max_session_duration_seconds: Option<i32>,
}

impl Allowed {
    /// Everything but ServiceAccounts of other namespaces.
    #[must_use]
    pub fn everything() -> Self {
        let all = || vec!["*".to_owned()];
        Self {
            role_names: all(),
            paths: all(),
            policy_names: all(),
            permissions_boundaries: all(),
            managed_policies: all(),
            trust_principals: all(),
            actions: all(),
            tag_keys: all(),
            adopted_roles: all(),
            customer_managed_policies: Some(true),
            instance_profiles: Some(true),
            suspend: Some(true),
            observe: Some(true),
            max_session_duration_seconds: Some(43_200),
        }
    }
}

/// What no role gets, whatever is allowed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-map-type" = "atomic"))]
pub struct Denied {
    /// Actions that no document may allow: a document that allows `s3:*` allows `s3:PutBucketPolicy`, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "many_patterns")]
    pub actions: Vec<String>,
    /// Patterns of managed policies, as in allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns")]
    pub managed_policies: Vec<String>,
}

/// Unlisted policies that are never removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-map-type" = "atomic"))]
pub struct UnlistedExceptions {
    /// Names of inline policies; `*` and `?` match. `AWSRevokeOlderSessions` always counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "inline_exceptions")]
    pub inline_policies: Vec<String>,
    /// ARNs of managed policies; `*` and `?` match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "managed_exceptions")]
    pub managed_policies: Vec<String>,
}

/// How drift is looked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline, extend("x-kubernetes-map-type" = "atomic"))]
pub struct DriftCheck {
    /// Seconds between two checks, with some jitter. Absent: 900.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 86400))]
    pub interval_seconds: Option<i32>,
    /// How: Account by walks over the whole account, two to three calls a thousand roles; Role by reading each role,
    /// about four calls a role. Absent: Auto, which walks unless reading takes fewer calls. Where walks are not
    /// permitted, each role is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<DriftMethod>,
}

choice! {
    /// How drift is looked for.
    DriftMethod {
        /// The operator chooses.
        Auto,
        /// One walk over the account.
        Account,
        /// Role by role.
        Role,
    }
}

/// How the class stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct IamRoleClassStatus {
    /// The generation that status speaks of; -1 before the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The AWS account; once seen it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12))]
    pub account_id: Option<String>,
    /// The AWS partition, such as aws or aws-cn.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub partition: Option<String>,
    /// How drift is looked for at present: Account (by walks over the account) or Role (role by role, where a walk is
    /// not wanted, not permitted, or takes more calls).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_check_method: Option<DriftMethod>,
    /// Roles of the account that carry this cluster's owner tags and belong to no `IamRole`, at most 20 of them. Where
    /// several classes share an account, the first by name that is ready and has the account walked tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "orphans")]
    pub orphaned_roles: Vec<String>,
    /// How many there are of them, also beyond 20. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub orphaned_role_count: Option<i32>,
    /// Ready always; Reconciling and Stalled while True.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

fn tags(_: &mut SchemaGenerator) -> Schema {
    schema::tags(11)
}

fn managed_policies(_: &mut SchemaGenerator) -> Schema {
    schema::string_set(20, 2048, "ARN, or name of an AWS-managed policy with its path.")
}

fn patterns(_: &mut SchemaGenerator) -> Schema {
    schema::string_set(50, 2048, "A pattern.")
}

fn many_patterns(_: &mut SchemaGenerator) -> Schema {
    schema::string_set(500, 256, "A pattern of actions.")
}

fn orphans(_: &mut SchemaGenerator) -> Schema {
    schema::string_set(ORPHANS, 64, "Name of a role.")
}

fn old_clusters(_: &mut SchemaGenerator) -> Schema {
    let mut schema = schema::string_set(10, 256, "NAME/UID or UID of a cluster.");
    if let Some(items) = schema.get_mut("items").and_then(serde_json::Value::as_object_mut) {
        let pattern = "^([^/]+/)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
        items.insert("pattern".to_owned(), pattern.into());
    }
    schema
}

fn other_classes(_: &mut SchemaGenerator) -> Schema {
    schema::string_set(20, 253, "Name of a class.")
}

fn inline_exceptions(_: &mut SchemaGenerator) -> Schema {
    schema::string_set(20, 128, "Name of an inline policy, or a pattern.")
}

fn managed_exceptions(_: &mut SchemaGenerator) -> Schema {
    schema::string_set(20, 2048, "ARN of a managed policy, or a pattern.")
}

fn spec_rules() -> Vec<serde_json::Value> {
    let mut rules = vec![
        json!({
            "rule": "has(self.permissionsBoundary) != (has(self.unbounded) && self.unbounded)",
            "message": "exactly one of permissionsBoundary and unbounded: true is needed",
            "fieldPath": ".permissionsBoundary",
        }),
        json!({
            "rule": "!has(self.roleNameTemplate) || (self.roleNameTemplate.contains('$(namespace)') && self.roleNameTemplate.contains('$(name)'))",
            "message": "roleNameTemplate must hold $(namespace) and $(name), else two roles would share a name",
            "fieldPath": ".roleNameTemplate",
        }),
        json!({
            "rule": "!has(oldSelf.account) || !has(oldSelf.account.id) || (has(self.account) && has(self.account.id) && self.account.id == oldSelf.account.id)",
            "message": "account.id can't be changed once set; make a new class",
            "reason": "FieldValueForbidden", "fieldPath": ".account",
        }),
        json!({
            "rule": "!has(self.account) || !has(self.account.id) || !has(self.account.assumeRole) || self.account.assumeRole.roleArn.split(':')[4] == self.account.id",
            "message": "account.assumeRole.roleArn is of another account than account.id", "fieldPath": ".account",
        }),
        super::iamrole::fixed("controller"),
    ];
    rules.extend(tag_rules("self"));
    rules
}
