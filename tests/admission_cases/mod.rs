//! Classes, specs, and what the policy says to them.

use crate::support::{self, trust};
use serde_json::{Value, json};

/// A class, a spec, and the field that the policy names; none where it lets through.
pub type Case = (Value, Value, Option<&'static str>);

fn allowed(lists: Value) -> Value {
    json!({ "allowed": lists })
}

fn names_and_paths() -> Vec<Case> {
    let name = |pattern: &str, name: &str, field| {
        let lists = json!({ "roleNames": [pattern], "trustPrincipals": ["*"] });
        (allowed(lists), json!({ "roleName": name }), field)
    };
    let path = |pattern: &str, path: &str, field| {
        (allowed(json!({ "paths": [pattern], "trustPrincipals": ["*"] })), json!({ "path": path }), field)
    };
    let (no_name, no_path) = (Some("spec.roleName"), Some("spec.path"));
    vec![
        name("*", "any", None),
        name("team-*", "team-a", None),
        name("team-*", "teama", no_name),
        name("team-*", "my-team-a", no_name),
        name("team-?", "team-ab", no_name),
        name("team-?", "team-a", None),
        name("TEAM-*", "team-a", no_name),
        name("a.c", "abc", no_name),
        name("a.c", "a.c", None),
        name("a+", "aa", no_name),
        name("a+", "a+", None),
        name("(a|b)", "a", no_name),
        name(r"\w", "a", no_name),
        name(r"\E.*\Q", "a", no_name),
        name("^a$", "a", no_name),
        name("[a-z]", "a", no_name),
        name("a", "ab", no_name),
        name("", "a", no_name),
        name("$(namespace)-*", "NAMESPACE-x", None),
        name("$(namespace)-*", "other-x", no_name),
        name("$(namespace).$(name)", "NAMESPACE.app", None),
        name("$(namespace).$(name)", "NAMESPACE.other", no_name),
        name("$(cluster)-*", "rig-x", None),
        name("x-$(cluster)-*", "rig-x", no_name),
        name("x$(account)", "x123456789012", None),
        name("x$(account)", "x210987654321", no_name),
        name("$$(name)", "app", None),
        name("$(nonsense)*", "app", None),
        name("$(name", "app", None),
        path("/tenants/$(namespace)/", "/tenants/NAMESPACE/", None),
        path("/tenants/$(namespace)/", "/tenants/other/", no_path),
        path("/tenants/$(namespace)/*", "/tenants/NAMESPACE/deep/", None),
        path("/tenants/*/", "/admin/", no_path),
        path("/*/", "/$(namespace)/", None),
        path("/x/", "/$(namespace)/", no_path),
    ]
}

fn policies_and_boundaries() -> Vec<Case> {
    let managed = |patterns: Value, denied: Value, entry: &str, field| {
        let lists = json!({ "managedPolicies": patterns, "trustPrincipals": ["*"] });
        let class = json!({ "allowed": lists, "denied": { "managedPolicies": denied } });
        (class, json!({ "managedPolicies": [entry] }), field)
    };
    let boundary = |class: Value, arn: &str, field| {
        let mut class = class;
        class["allowed"]["trustPrincipals"] = json!(["*"]);
        (class, json!({ "permissionsBoundary": arn }), field)
    };
    let (no, none) = (Some("spec.managedPolicies"), json!([]));
    let no_boundary = Some("spec.permissionsBoundary");
    let admin = "arn:aws:iam::aws:policy/AdministratorAccess";
    let own = "arn:$(partition):iam::$(account):policy/tenants/$(namespace)/*";
    let forced = json!({ "permissionsBoundary": "arn:$(partition):iam::$(account):policy/b", "allowed": {} });
    vec![
        managed(json!(["*"]), none.clone(), "AdministratorAccess", None),
        managed(json!(["ReadOnlyAccess"]), none.clone(), "ReadOnlyAccess", None),
        managed(json!(["ReadOnlyAccess"]), none.clone(), "arn:aws:iam::aws:policy/ReadOnlyAccess", None),
        managed(json!(["ReadOnlyAccess"]), none.clone(), "arn:$(partition):iam::aws:policy/ReadOnlyAccess", None),
        managed(json!(["ReadOnlyAccess"]), none.clone(), admin, no),
        managed(json!(["ReadOnlyAccess"]), none.clone(), "job/ReadOnlyAccess", no),
        managed(json!(["service-role/*"]), none.clone(), "service-role/AWSLambdaBasicExecutionRole", None),
        managed(json!(["service-role/*"]), none.clone(), "AdministratorAccess", no),
        managed(json!(["*ReadOnlyAccess"]), none.clone(), "arn:aws:iam::123456789012:policy/MyReadOnlyAccess", None),
        managed(json!([own]), none.clone(), "arn:aws:iam::123456789012:policy/tenants/NAMESPACE/p", None),
        managed(json!([own]), none.clone(), "arn:$(partition):iam::$(account):policy/tenants/$(namespace)/p", None),
        managed(json!([own]), none.clone(), "arn:aws:iam::123456789012:policy/tenants/other/p", no),
        managed(json!([own]), none.clone(), "arn:$(partition):iam::$(account):policy/tenants/other/p", no),
        managed(json!([own]), none.clone(), "arn:aws:iam::123456789012:policy/$(cluster)", None),
        managed(json!(["*"]), json!(["AdministratorAccess"]), "AdministratorAccess", no),
        managed(json!(["*"]), json!(["AdministratorAccess"]), admin, no),
        managed(json!(["*"]), json!(["Administrator*"]), "AdministratorAccess", no),
        managed(json!(["*"]), json!(["*/$(cluster)*"]), "AdministratorAccess", None),
        managed(json!(["*"]), json!(["$(nonsense)"]), "ReadOnlyAccess", None),
        managed(json!(["*"]), json!(["IAM*"]), "ReadOnlyAccess", None),
        boundary(forced.clone(), "arn:aws:iam::123456789012:policy/b", None),
        boundary(forced.clone(), "arn:$(partition):iam::$(account):policy/b", None),
        boundary(forced.clone(), "arn:aws:iam::123456789012:policy/mine", no_boundary),
        boundary(forced, "arn:$(partition):iam::$(account):policy/$(namespace)", no_boundary),
        boundary(json!({ "allowed": {} }), "arn:aws:iam::aws:policy/ReadOnlyAccess", no_boundary),
        boundary(
            json!({ "allowed": { "permissionsBoundaries": [own] } }),
            "arn:aws:iam::123456789012:policy/tenants/NAMESPACE/b",
            None,
        ),
        boundary(json!({ "allowed": { "permissionsBoundaries": [own] } }), admin, no_boundary),
    ]
}

fn trust_and_the_rest() -> Vec<Case> {
    let no = Some("spec.trustPolicy");
    let principal = |patterns: Value, principal: Value, field| {
        (allowed(json!({ "trustPrincipals": patterns })), json!({ "trustPolicy": trust(&principal) }), field)
    };
    let open = |more: Value, spec: Value, field| {
        let mut lists = json!({ "trustPrincipals": ["*"], "actions": ["*"] });
        lists.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (allowed(lists), spec, field)
    };
    let own = json!([{ "name": "p", "policyName": "team-p", "document": support::allow("s3:Get*") }]);
    let mut denies = trust(&json!({ "Service": "ec2.amazonaws.com" }));
    denies["Statement"].as_array_mut().unwrap().push(json!({
        "Effect": "Deny", "Principal": { "Service": "lambda.amazonaws.com" }, "Action": "sts:AssumeRole",
    }));
    let ec2_only = json!(["Service:ec2.amazonaws.com"]);
    vec![
        principal(ec2_only.clone(), json!({ "Service": "ec2.amazonaws.com" }), None),
        principal(ec2_only.clone(), json!({ "Service": "lambda.amazonaws.com" }), no),
        principal(ec2_only.clone(), json!({ "Service": ["ec2.amazonaws.com", "lambda.amazonaws.com"] }), no),
        principal(json!(["Service:*"]), json!({ "Service": ["ec2.amazonaws.com", "lambda.amazonaws.com"] }), None),
        principal(json!(["Service:*"]), json!({ "AWS": "arn:aws:iam::210987654321:role/x" }), no),
        principal(json!(["Service:*"]), json!({ "AWS": "*" }), no),
        principal(json!(["AWS:210987654321"]), json!({ "AWS": "arn:aws:iam::210987654321:root" }), None),
        principal(json!(["AWS:arn:aws:iam::210987654321:root"]), json!({ "AWS": "210987654321" }), None),
        principal(
            json!(["AWS:arn:aws:iam::$(account):role/*"]),
            json!({ "AWS": "arn:aws:iam::$(account):role/x" }),
            None,
        ),
        principal(
            json!(["AWS:arn:aws:iam::$(account):role/*"]),
            json!({ "AWS": "arn:aws:iam::210987654321:role/x" }),
            no,
        ),
        principal(
            json!(["Federated:arn:aws:iam::$(account):saml-provider/*"]),
            json!({ "Federated": "arn:aws:iam::123456789012:saml-provider/sso" }),
            None,
        ),
        principal(json!(["Service:*"]), json!({ "Federated": "arn:aws:iam::123456789012:saml-provider/sso" }), no),
        principal(json!(["Service:*"]), json!({ "Service": 7 }), None),
        principal(json!(["Service:*"]), json!("*"), None),
        (allowed(json!({ "trustPrincipals": ec2_only })), json!({ "trustPolicy": denies }), None),
        open(json!({}), json!({ "maxSessionDurationSeconds": 3600 }), None),
        open(json!({}), json!({ "maxSessionDurationSeconds": 3601 }), Some("spec.maxSessionDurationSeconds")),
        open(json!({ "maxSessionDurationSeconds": 7200 }), json!({ "maxSessionDurationSeconds": 7200 }), None),
        open(json!({}), json!({ "instanceProfile": {} }), Some("spec.instanceProfile")),
        open(json!({ "instanceProfiles": true }), json!({ "instanceProfile": {} }), None),
        open(json!({}), json!({ "customerManagedPolicies": own }), Some("spec.customerManagedPolicies")),
        open(
            json!({ "customerManagedPolicies": true }),
            json!({ "customerManagedPolicies": own }),
            Some("spec.customerManagedPolicies: \"team-p\""),
        ),
        open(
            json!({ "customerManagedPolicies": true, "policyNames": ["team-*"] }),
            json!({ "customerManagedPolicies": own }),
            None,
        ),
        open(json!({}), json!({ "customerManagedPolicies": [] }), None),
        open(json!({}), json!({ "suspend": true }), Some("spec.suspend")),
        open(json!({}), json!({ "suspend": false }), None),
        open(json!({ "suspend": true }), json!({ "suspend": true }), None),
        open(json!({}), json!({ "mode": "Observe" }), Some("spec.mode")),
        open(json!({}), json!({ "mode": "Enforce" }), None),
        open(json!({ "observe": true }), json!({ "mode": "Observe" }), None),
        open(json!({ "tagKeys": ["Team"] }), json!({ "tags": { "Team": "a" } }), None),
        open(
            json!({ "tagKeys": ["Team"] }),
            json!({ "tags": { "Team": "a", "Cost": "b" } }),
            Some("spec.tags: \"Cost\""),
        ),
        open(
            json!({ "roleNames": ["*"], "adoptedRoles": ["old-*"] }),
            json!({ "roleName": "old-x", "adoption": "IfExists" }),
            None,
        ),
        open(
            json!({ "roleNames": ["*"], "adoptedRoles": ["old-*"] }),
            json!({ "roleName": "new-x", "adoption": "Required" }),
            Some("spec.adoption"),
        ),
        open(json!({ "roleNames": ["*"] }), json!({ "roleName": "new-x", "adoption": "Never" }), None),
    ]
}

/// Where no action is allowed there is no document, whatever it says.
fn documents() -> Vec<Case> {
    let case = |actions: Value, spec: Value, field| {
        let mut lists = json!({ "trustPrincipals": ["*"], "customerManagedPolicies": true });
        if !actions.is_null() {
            lists["actions"] = actions;
        }
        (allowed(lists), spec, field)
    };
    let mut denies = support::allow("s3:*");
    denies["Statement"][0]["Effect"] = json!("Deny");
    let inline = |document: &Value| json!({ "inlinePolicies": [{ "name": "guard", "document": document }] });
    let own = |document: &Value| json!({ "customerManagedPolicies": [{ "name": "guard", "document": document }] });
    let text = json!({ "inlinePolicies": [{ "name": "guard", "documentJson": denies.to_string() }] });
    let (no_inline, no_own) = (Some("spec.inlinePolicies: \"guard\""), Some("spec.customerManagedPolicies: \"guard\""));
    let some = || json!(["sqs:SendMessage"]);
    vec![
        case(Value::Null, inline(&denies), no_inline),
        case(json!([]), inline(&denies), no_inline),
        case(json!([]), text.clone(), no_inline),
        case(Value::Null, own(&denies), no_own),
        case(Value::Null, inline(&support::allow("s3:Get*")), no_inline),
        case(some(), inline(&denies), None),
        case(some(), text, None),
        case(some(), own(&denies), None),
        case(Value::Null, json!({ "inlinePolicies": [], "customerManagedPolicies": [] }), None),
        // Whether the actions are among them is for the operator.
        case(some(), inline(&support::allow("s3:Get*")), None),
    ]
}

/// All of them.
pub fn all() -> Vec<Case> {
    [names_and_paths(), policies_and_boundaries(), trust_and_the_rest(), documents()].concat()
}
