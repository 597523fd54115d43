//! The two kinds of `iamrole.dev/v1alpha1`, and every name that users see.
//!
//! Data only: types, bounds, CEL rules, columns, condition types and reasons.
//! What they mean is decided in [`crate::role`]; nothing here acts.

pub mod condition;
pub mod crd;
pub mod iamrole;
pub mod iamroleclass;
pub mod schema;
pub mod workload;

pub use condition::{ConditionType, Reason};
pub use iamrole::{IamRole, IamRoleSpec, IamRoleStatus};
pub use iamroleclass::{IamRoleClass, IamRoleClassSpec, IamRoleClassStatus};

/// API group of both kinds.
pub const GROUP: &str = "iamrole.dev";
/// Served and stored version of both kinds.
pub const VERSION: &str = "v1alpha1";

/// On an `IamRole` while AWS may hold something of it; on an `IamRoleClass` while a role uses it.
pub const FINALIZER: &str = "iamrole.dev/finalizer";
/// Any value but `"false"` suspends the object, as `spec.suspend` does.
pub const ANNOTATION_SUSPEND: &str = "iamrole.dev/suspend";
/// A token; a new one asks for an immediate check and is echoed in `status.lastHandledReconcileAt`.
pub const ANNOTATION_RECONCILE: &str = "iamrole.dev/reconcile-requested-at";
/// `"true"` makes a class the default of the namespaces that it selects.
pub const ANNOTATION_DEFAULT_CLASS: &str = "iamrole.dev/is-default-class";

/// On a `ServiceAccount` that the operator annotated: name of the `IamRole` for which it did.
pub const ANNOTATION_IAM_ROLE: &str = "iamrole.dev/iam-role";

/// Prefix of every AWS tag that is ours; users may not set tags under it.
pub const TAG_PREFIX: &str = "iamrole.dev/";
/// Owner tag: `CLUSTERNAME/UID of the kube-system namespace`; only the UID counts.
pub const TAG_CLUSTER: &str = "iamrole.dev/cluster";
/// Owner tag: namespace of the `IamRole`.
pub const TAG_NAMESPACE: &str = "iamrole.dev/namespace";
/// Owner tag: name of the `IamRole`.
pub const TAG_NAME: &str = "iamrole.dev/name";
/// Owner tag: `Created` or `Adopted`.
pub const TAG_ORIGIN: &str = "iamrole.dev/origin";
/// Tag on roles: name of the IamRoleClass that let in what the role has.
pub const TAG_CLASS: &str = "iamrole.dev/class";

/// The value of `spec.controller` of a class that the default installation serves.
pub const DEFAULT_CONTROLLER: &str = "iamrole.dev/operator";
