//! Mistakes that a class has by itself, whatever its roles ask for.

use super::build::Builder;
use super::{Facts, Problem};
use crate::api::{IamRoleClassSpec, IamRoleSpec, Reason};
use crate::policy::{AccountRef, Limits};
use crate::role::owner::{Cluster, Owner};

/// Namespace and name of the object that a class is tried with: as short as they get, so that what is refused is refused
/// for all.
const SAMPLE: &str = "a";
/// How [`desired`](super::desired) names a field of the class in the status of a role.
const OF_CLASS: &str = " of the class";

/// Everything that makes a class unusable for any role in `account`: unknown tokens, names and paths that IAM does not
/// take, policies of another account or partition, reserved tags, neither a boundary nor `unbounded`. Empty if its roles
/// can be served as far as the class alone tells. The schema checks some of it; a stored class may be from before that.
/// `issuer` as in [`Facts`]; what needs it while it is not known is among them, as `IssuerUnknown`.
#[must_use]
pub fn class_mistakes(
    class: &IamRoleClassSpec,
    cluster: &Cluster,
    account: &AccountRef,
    issuer: Option<&str>,
) -> Vec<Problem> {
    let owner =
        Owner { cluster: cluster.clone(), namespace: SAMPLE.to_owned(), name: SAMPLE.to_owned(), heir_of: Vec::new() };
    let (spec, limits) = (IamRoleSpec::default(), Limits::default());
    let facts = Facts { owner: &owner, account, class_name: "", class, boundaries: &[], limits: &limits, issuer };
    let mut build = Builder::new(&spec, facts);
    build.class_patterns();
    build.name();
    build.path();
    if class.permissions_boundary.is_some() == (class.unbounded == Some(true)) {
        build.invalid("spec.permissionsBoundary", "exactly one of it and unbounded: true is needed");
    }
    build.boundary();
    build.tags();
    build.managed();
    build.exceptions();
    build.denied();
    let own_words = |problem: Problem| Problem { message: problem.message.replacen(OF_CLASS, "", 1), ..problem };
    let is_mistake = |problem: &Problem| matches!(problem.reason, Reason::InvalidSpec | Reason::IssuerUnknown);
    build.problems.into_iter().filter(is_mistake).map(own_words).collect()
}

#[cfg(test)]
mod tests {
    use super::class_mistakes;
    use crate::api::IamRoleClassSpec;
    use crate::policy::AccountRef;
    use crate::role::owner::Cluster;
    use serde_json::{Value, json};

    fn mistakes(fields: &Value) -> Vec<String> {
        let mut class = json!({ "namespaceSelector": {}, "unbounded": true });
        class.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let class: IamRoleClassSpec = serde_json::from_value(class).unwrap();
        let account = AccountRef { partition: "aws".into(), id: "111122223333".into() };
        let problems = class_mistakes(&class, &Cluster::new(Some("prod"), "uid-1"), &account, None);
        problems.iter().map(|problem| format!("{}: {problem}", problem.reason.as_str())).collect()
    }

    fn bounded(arn: &str) -> Value {
        json!({ "unbounded": null, "permissionsBoundary": arn })
    }

    #[test]
    fn what_makes_a_class_unusable_is_named_by_field() {
        let bad = "$(nonsense)x";
        let list = |section: &str, name: &str| json!({ section: { name: ["*", bad] } });
        let mut cases = vec![
            (json!({ "roleNameTemplate": "$(namespace).$(name).$(nonsense)" }), "roleNameTemplate".to_owned()),
            (json!({ "path": "/$(nonsense)/" }), "path".to_owned()),
            (json!({ "path": "tenants" }), "path".to_owned()),
            (json!({ "tags": { "team": bad } }), "tags[team]".to_owned()),
            (json!({ "tags": { "iamrole.dev/name": "x" } }), "tags[iamrole.dev/name]".to_owned()),
            (json!({ "tags": { "Team": "x", "team": "y" } }), "tags[team]".to_owned()),
            (json!({ "managedPolicies": ["ReadOnlyAccess", bad] }), "managedPolicies[1]".to_owned()),
            (json!({ "managedPolicies": ["arn:aws:iam::444455556666:policy/x"] }), "managedPolicies[0]".to_owned()),
            (json!({ "unbounded": null }), "permissionsBoundary".to_owned()),
            (bounded("arn:aws:iam::$(acount):policy/b"), "permissionsBoundary".to_owned()),
            (bounded("arn:aws:iam::111122223333:role/b"), "permissionsBoundary".to_owned()),
            (bounded("arn:aws:iam::444455556666:policy/b"), "permissionsBoundary".to_owned()),
            (bounded("arn:aws-cn:iam::111122223333:policy/b"), "permissionsBoundary".to_owned()),
            (bounded("arn:aws:iam::111122223333:policy/b$("), "permissionsBoundary".to_owned()),
        ];
        for name in ["roleNames", "paths", "policyNames", "permissionsBoundaries", "managedPolicies"] {
            cases.push((list("allowed", name), format!("allowed.{name}[1]")));
        }
        for name in ["trustPrincipals", "actions", "tagKeys", "adoptedRoles"] {
            cases.push((list("allowed", name), format!("allowed.{name}[1]")));
        }
        for name in ["actions", "managedPolicies"] {
            cases.push((list("denied", name), format!("denied.{name}[1]")));
        }
        for never in ["iam", "iam.*", "iam:* ", "iam::*", "iam:*, sts:*", "iam:", ":*", "", "iam:*/x"] {
            cases.push((json!({ "denied": { "actions": ["*", never] } }), "denied.actions[1]".to_owned()));
        }
        let abroad = json!({ "denied": { "managedPolicies": ["*", "arn:aws-cn:iam::aws:policy/*"] } });
        cases.push((abroad, "denied.managedPolicies[1]".to_owned()));
        for name in ["inlinePolicies", "managedPolicies"] {
            cases.push((list("unlistedExceptions", name), format!("unlistedExceptions.{name}[1]")));
        }
        for (fields, field) in cases {
            let all = mistakes(&fields);
            assert_eq!(all.len(), 1, "{fields}: {all:?}");
            assert!(all[0].starts_with(&format!("InvalidSpec: spec.{field}: ")), "{fields}: {all:?}");
        }
        let both = json!({ "unbounded": true, "permissionsBoundary": "arn:aws:iam::aws:policy/ReadOnlyAccess" });
        assert_eq!(mistakes(&both).len(), 1, "{:?}", mistakes(&both));
        let two = json!({ "path": "/$(x)/", "allowed": { "actions": ["$(y)"] } });
        assert_eq!(mistakes(&two).len(), 2, "all at once");
    }

    #[test]
    fn a_class_that_can_serve_has_none() {
        for fields in [
            json!({}),
            bounded("arn:$(partition):iam::$(account):policy/$(namespace)/$(name)-b"),
            bounded("arn:aws:iam::aws:policy/ReadOnlyAccess"),
            json!({
                "roleNameTemplate": "$(cluster)-$(namespace)-$(name)", "path": "/tenants/$(namespace)/",
                "tags": { "namespace": "$(namespace)" }, "managedPolicies": ["service-role/X", "arn:aws:iam::$(account):policy/y"],
                "allowed": { "actions": ["*"], "paths": ["/$$(literal)/*"] },
                "denied": {
                    "actions": ["*", "iam:*", "iam*", "*:Delete*", "s3-object-lambda:Get?", "elastic*:*"],
                    "managedPolicies": ["AdministratorAccess", "arn:*/AdministratorAccess", "arn:*:iam::aws:policy/*", "arn:$(partition):iam::*:policy/x", "*"],
                },
                "unlistedExceptions": { "managedPolicies": ["arn:*:$(name)*"] },
            }),
        ] {
            assert_eq!(mistakes(&fields), [""; 0], "{fields}");
        }
    }
}
