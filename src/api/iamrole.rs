//! `IamRole`: one AWS IAM role, as its namespace wants it.

use super::schema::{self, PolicyDocument};
use super::workload::{RoleWorkloadIdentity, ServiceAccountEntry, WorkloadStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// What the role should be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "iamrole.dev",
    version = "v1alpha1",
    kind = "IamRole",
    plural = "iamroles",
    namespaced,
    status = "IamRoleStatus",
    doc = "IamRole is an AWS IAM role: trust policy, permission policies, tags and boundary. The operator makes AWS match it and removes the role when the object is deleted.",
    category = "aws",
    selectable = ".spec.roleName",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether this generation is in AWS."}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason","description":"Why."}"#,
    printcolumn = r#"{"name":"Role","type":"string","jsonPath":".status.role.name","description":"Name of the role in AWS."}"#,
    printcolumn = r#"{"name":"Account","type":"string","jsonPath":".status.accountId","description":"AWS account of the role."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Age of the object."}"#,
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".status.effective.mode","priority":1,"description":"Enforce or Observe."}"#,
    printcolumn = r#"{"name":"Class","type":"string","jsonPath":".status.class.name","priority":1,"description":"The IamRoleClass in use."}"#,
    printcolumn = r#"{"name":"Drifted","type":"string","jsonPath":".status.conditions[?(@.type==\"Drifted\")].status","priority":1,"description":"True for differences that are not being repaired."}"#,
    printcolumn = r#"{"name":"ARN","type":"string","jsonPath":".status.role.arn","priority":1,"description":"ARN of the role."}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1,"description":"What happened and what to do."}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = spec_rules()))]
pub struct IamRoleSpec {
    /// Name of the `IamRoleClass` to use. Absent: the default class that selects this namespace, resolved
    /// once and kept in status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub role_class_name: Option<String>,

    /// Name of the role in AWS. Absent: made from the class's template. Can't be changed. Note that IAM
    /// takes names that differ only in case for the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+=,.@-]+$"))]
    pub role_name: Option<String>,

    /// Path of the role in AWS, "/" or "/…/". Absent: the class's. Can't be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^(/|/[!-~]+/)$"))]
    pub path: Option<String>,

    /// Description of the role. Absent: empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000), extend("x-kubernetes-validations" = [schema::iam_text()]))]
    pub description: Option<String>,

    /// Longest session in seconds, 3600 to 43200. Absent: 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3600, max = 43200))]
    pub max_session_duration_seconds: Option<i32>,

    /// ARN of the managed policy that bounds what the role can do. A boundary of the class wins; a different
    /// one is then refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = [schema::policy_arn()]))]
    pub permissions_boundary: Option<String>,

    /// Tags of the role in AWS, at most 34. Keys under aws: and iamrole.dev/ are reserved; IAM takes keys
    /// that differ only in case for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "tags")]
    pub tags: Option<BTreeMap<String, String>>,

    /// Who may assume the role, as an IAM document. At most one of trustPolicy and trustPolicyJson; one of them or
    /// serviceAccounts is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_policy: Option<PolicyDocument>,

    /// Who may assume the role, as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 131_072))]
    pub trust_policy_json: Option<String>,

    /// ServiceAccounts of this namespace whose pods get the role, at most 30. The operator adds what lets them in to
    /// the trust policy, by the mechanism of the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 30), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub service_accounts: Option<Vec<ServiceAccountEntry>>,

    /// How the ServiceAccounts get the role. Absent: as the class says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<RoleWorkloadIdentity>,

    /// Existing managed policies to attach: an ARN, or the name of an AWS-managed policy with its path, such
    /// as ReadOnlyAccess or service-role/AWSLambdaBasicExecutionRole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "managed_policies")]
    pub managed_policies: Option<Vec<String>>,

    /// Policies embedded in the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 25), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub inline_policies: Option<Vec<InlinePolicy>>,

    /// Managed policies that this role owns: created, attached, updated by new versions, and deleted with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub customer_managed_policies: Option<Vec<CustomerManagedPolicy>>,

    /// An instance profile that holds the role, for EC2: created, filled, and deleted with the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_profile: Option<InstanceProfile>,

    /// What to do with attachments and inline policies that nobody listed. Absent: the class's, else Remove;
    /// on adopted roles Keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_unlisted: Option<WhenUnlisted>,

    /// What to do when a role of this name exists that is not ours. Absent: Never. Anything else needs an
    /// explicit roleName.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,

    /// What becomes of the role when this object is deleted. Absent: Retain if adopted, else the class's,
    /// else Delete. May be set to Retain at any time, also while the object is being deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// Enforce makes AWS match; Observe reads and reports in status.plan, and writes nothing to AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// True: no call to AWS at all. Status says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// A policy embedded in the role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline, extend("x-kubernetes-validations" = [one_document()]))]
pub struct InlinePolicy {
    /// Name of the policy in the role.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_+=,.@-]+$"))]
    pub name: String,
    /// What the role may do, as an IAM document. Exactly one of document and documentJson is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<PolicyDocument>,
    /// What the role may do, as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 131_072))]
    pub document_json: Option<String>,
}

/// A managed policy that the role owns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline, extend("x-kubernetes-validations" = [one_document(), fixed("policyName"), fixed("description")]))]
pub struct CustomerManagedPolicy {
    /// Name of the entry in this list.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_+=,.@-]+$"))]
    pub name: String,
    /// Name of the policy in AWS. Absent: ROLENAME.NAME, cut at 128 with a hash. Can't be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_+=,.@-]+$"))]
    pub policy_name: Option<String>,
    /// Description of the policy in AWS. Can't be changed, since IAM can't.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000), extend("x-kubernetes-validations" = [schema::iam_text()]))]
    pub description: Option<String>,
    /// What the policy permits, as an IAM document. Exactly one of document and documentJson is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<PolicyDocument>,
    /// What the policy permits, as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 131_072))]
    pub document_json: Option<String>,
}

/// An instance profile that holds the role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline, extend("x-kubernetes-map-type" = "atomic"))]
pub struct InstanceProfile {
    /// Name of the profile in AWS. Absent: the role's name. With another name it is deleted, and made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_+=,.@-]+$"))]
    pub name: Option<String>,
}

macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:expr])+ $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)+
            /// Written by a newer version of the operator; the most careful meaning applies.
            #[serde(other)]
            Unknown,
        }

        impl $name {
            /// The value as users write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                    Self::Unknown => "Unknown",
                }
            }
        }

        // By hand, so that the description is that of the field and `Unknown` is no choice.
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "enum": [$(stringify!($variant)),+] })
            }
        }
    };
}

pub(super) use choice;

choice! {
    /// What to do with attachments and inline policies that nobody listed.
    WhenUnlisted {
        /// Remove them.
        Remove,
        /// Keep them and report them in `status.unlisted`.
        Keep,
    }
}
choice! {
    /// What to do when a role of the name exists that is not ours.
    Adoption {
        /// Refuse.
        Never,
        /// Take it over; create it if there is none.
        IfExists,
        /// Take it over; never create.
        Required,
    }
}
choice! {
    /// What becomes of the role when the object is deleted.
    DeletionPolicy {
        /// Remove what the operator made; name and wait for what it did not.
        Delete,
        /// Remove everything, also what is not ours.
        ForceDelete,
        /// Leave the role in AWS.
        Retain,
    }
}
choice! {
    /// Whether AWS is changed.
    Mode {
        /// Make AWS match.
        Enforce,
        /// Only report.
        Observe,
    }
}

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct IamRoleStatus {
    /// The generation that status speaks of; -1 before the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The class in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassRef>,
    /// AWS account of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12))]
    pub account_id: Option<String>,
    /// The role in AWS. Written before it is created; arn and id follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleRef>,
    /// ARNs of the managed policies attached by the operator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "status_arns")]
    pub managed_policies: Vec<String>,
    /// Names of the inline policies put by the operator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "status_names")]
    pub inline_policies: Vec<String>,
    /// The policies that this role owns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub customer_managed_policies: Vec<PolicyRef>,
    /// Keys of the tags set by the operator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "status_names")]
    pub tag_keys: Vec<String>,
    /// The permissions boundary that the operator set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub permissions_boundary: Option<String>,
    /// The boundary that permissionsBoundary is to replace, or the same if it replaces none of ours; absent once it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub replaced_permissions_boundary: Option<String>,
    /// The instance profile that holds the role. Written before it is created; arn follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_profile: Option<ProfileRef>,
    /// What the ServiceAccounts of the role have got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadStatus>,
    /// Attachments (by ARN) and inline policies (by name) that nobody listed and that were kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "status_arns")]
    pub unlisted: Vec<String>,
    /// What applies after spec and class are put together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// What would be done, in mode Observe or while blocked; at most 50 entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "atomic"))]
    pub plan: Vec<PlannedAction>,
    /// How many actions the whole plan has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub plan_count: Option<i32>,
    /// The last changes made in AWS, newest first, at most 10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub last_changes: Vec<Change>,
    /// The token of the last handled reconcile-requested-at annotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_handled_reconcile_at: Option<String>,
    /// Ready always; Reconciling and Stalled while True; Drifted where differences stay; `IdentityBound`
    /// where ServiceAccounts are listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The class in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ClassRef {
    /// Name of the `IamRoleClass`.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The generation of the class that was applied.
    pub observed_generation: i64,
}

/// The role in AWS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct RoleRef {
    /// Name of the role.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Path of the role.
    #[schemars(length(max = 512))]
    pub path: String,
    /// ARN; absent until the role exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub arn: Option<String>,
    /// Unique id (AROA…); absent until the role exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub id: Option<String>,
    /// When AWS created the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub create_date: Option<String>,
    /// Created by the operator, or Adopted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

choice! {
    /// Where the role comes from.
    Origin {
        /// The operator created it.
        Created,
        /// It existed, and the operator took it over.
        Adopted,
    }
}

/// A policy that the role owns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct PolicyRef {
    /// Name of the entry in spec.customerManagedPolicies.
    #[schemars(length(max = 128))]
    pub name: String,
    /// ARN of the policy.
    #[schemars(length(max = 2048))]
    pub arn: String,
    /// Unique id (ANPA…); absent until the policy exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub id: Option<String>,
    /// Default version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub version: Option<String>,
}

/// The instance profile that the role owns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct ProfileRef {
    /// Name of the profile.
    #[schemars(length(max = 128))]
    pub name: String,
    /// ARN of the profile; absent until it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub arn: Option<String>,
}

/// What applies after spec and class are put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Effective {
    /// What becomes of the role on deletion.
    pub deletion_policy: DeletionPolicy,
    /// What happens to unlisted policies.
    pub when_unlisted: WhenUnlisted,
    /// Whether AWS is changed.
    pub mode: Mode,
}

/// One action that would be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PlannedAction {
    /// The action, by IAM's name.
    #[schemars(length(max = 64))]
    pub action: String,
    /// What it is done to.
    #[schemars(length(max = 2048))]
    pub target: String,
    /// In words; never policy text.
    #[schemars(length(max = 1024))]
    pub detail: String,
    /// It was done before and did not last, so it is not done again for now. What is not contested only waits for what is,
    /// or for something else that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contested: Option<bool>,
}

/// One change made in AWS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Change {
    /// When.
    #[schemars(schema_with = "time")]
    pub time: Time,
    /// The action, by IAM's name.
    #[schemars(length(max = 64))]
    pub action: String,
    /// What it was done to.
    #[schemars(length(max = 2048))]
    pub target: String,
    /// Spec, Class or Drift.
    pub cause: Cause,
    /// What was in AWS, where somebody else had changed it; never policy text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub found: Option<String>,
}

choice! {
    /// Why a change was made.
    Cause {
        /// The spec asked for it.
        Spec,
        /// The class asked for it.
        Class,
        /// Somebody else had changed AWS.
        Drift,
    }
}

fn tags(_: &mut SchemaGenerator) -> Schema {
    schema::tags(34)
}

fn managed_policies(_: &mut SchemaGenerator) -> Schema {
    schema::string_set(30, 2048, "ARN, or name of an AWS-managed policy with its path.")
}

fn status_arns(_: &mut SchemaGenerator) -> Schema {
    schema::string_set(200, 2048, "ARN or name.")
}

fn status_names(_: &mut SchemaGenerator) -> Schema {
    schema::string_set(200, 256, "Name.")
}

fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// Keys of a tag map: length, characters, reserved prefixes, and none twice when case is ignored.
pub(super) fn tag_rules(owner: &str) -> Vec<serde_json::Value> {
    let rule = |rule: &str, message: &str| json!({ "rule": format!("!has({owner}.tags) || {rule}"), "message": message, "fieldPath": ".tags" });
    vec![
        rule(&format!("{owner}.tags.all(k, k.size() >= 1 && k.size() <= 128)"), "a tag key has 1 to 128 characters"),
        rule(
            &format!("{owner}.tags.all(k, !k.matches('^(?i)(aws:|iamrole\\\\.dev/)'))"),
            "tag keys under aws: and iamrole.dev/ are reserved",
        ),
        // Other letters than ASCII are compared by the operator.
        rule(
            &format!("{owner}.tags.all(k, {owner}.tags.exists_one(other, other.lowerAscii() == k.lowerAscii()))"),
            "two tag keys differ only in case, and IAM takes them for the same; keep one of them",
        ),
    ]
}

fn spec_rules() -> Vec<serde_json::Value> {
    let mut rules = vec![
        json!({
            "rule": "!has(self.trustPolicy) || !has(self.trustPolicyJson)",
            "message": "trustPolicy and trustPolicyJson exclude each other; keep one of them",
            "reason": "FieldValueInvalid", "fieldPath": ".trustPolicy",
        }),
        json!({
            "rule": "has(self.trustPolicy) || has(self.trustPolicyJson) || (has(self.serviceAccounts) && size(self.serviceAccounts) > 0)",
            "message": "one of trustPolicy, trustPolicyJson and serviceAccounts is needed, or nobody could assume the role",
            "reason": "FieldValueInvalid", "fieldPath": ".trustPolicy",
        }),
        fixed("roleName"),
        fixed("path"),
        json!({
            "rule": "!has(self.adoption) || self.adoption == 'Never' || has(self.roleName)",
            "message": "adoption needs an explicit roleName", "fieldPath": ".roleName",
        }),
    ];
    rules.extend(tag_rules("self"));
    rules
}

fn one_document() -> serde_json::Value {
    json!({
        "rule": "has(self.document) != has(self.documentJson)",
        "message": "exactly one of document and documentJson is needed",
    })
}

/// Neither changed, nor set later, nor unset: a rule on an optional field alone would miss the last two.
pub(super) fn fixed(field: &str) -> serde_json::Value {
    json!({
        "rule": format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        ),
        "message": format!("{field} can't be changed, set later or removed; delete the object and create it anew"),
        "reason": "FieldValueForbidden", "fieldPath": format!(".{field}"),
    })
}
