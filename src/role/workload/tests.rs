#![allow(clippy::needless_pass_by_value, reason = "tables read better with json!() in place")]

use super::{EksCluster, cluster_arn, region};
use crate::api::iamroleclass::Allowed;
use crate::api::{IamRoleClassSpec, IamRoleSpec};
use crate::policy::{AccountRef, Limits};
use crate::role::desired::{Desired, Facts, desired};
use crate::role::owner::tests::owner;
use crate::role::settings::settings;
use serde_json::{Value, json};

/// A cluster in a partition: issuer, and what EKS says.
struct Place {
    account: AccountRef,
    issuer: Option<&'static str>,
    eks: EksCluster,
    allowed: Allowed,
}

const ISSUER: &str = "oidc.eks.eu-central-1.amazonaws.com/id/ABCDEF0123456789";

fn place(partition: &str) -> Place {
    let arn = format!("arn:{partition}:eks:eu-central-1:111122223333:cluster/prod");
    Place {
        account: AccountRef { partition: partition.into(), id: "111122223333".into() },
        issuer: Some(ISSUER),
        eks: EksCluster { arn: Some(arn), ..EksCluster::default() },
        // Nothing: what is generated needs no leave of its own.
        allowed: Allowed::default(),
    }
}

fn make(place: &Place, spec: Value, workload_identity: Value) -> Result<Desired, Vec<String>> {
    let spec: IamRoleSpec = serde_json::from_value(spec).unwrap();
    let class = json!({ "namespaceSelector": {}, "unbounded": true, "allowed": place.allowed,
        "workloadIdentity": workload_identity });
    let class: IamRoleClassSpec = serde_json::from_value(class).unwrap();
    let settings = settings(&spec, Some(&class), None, None);
    let (mut owner, limits) = (owner(), Limits::default());
    owner.cluster.eks = place.eks.clone();
    let facts = Facts {
        owner: &owner,
        account: &place.account,
        class_name: "default",
        class: &class,
        boundaries: &[],
        limits: &limits,
        issuer: place.issuer,
    };
    desired(&spec, &settings, facts)
        .map_err(|problems| problems.iter().map(|problem| format!("{}: {problem}", problem.reason.as_str())).collect())
}

fn trust(desired: &Desired) -> Value {
    serde_json::from_str(&desired.trust.to_json()).unwrap()
}

fn accounts(names: &[&str]) -> Value {
    json!(names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>())
}

fn refused(place: &Place, spec: Value, class: Value, parts: &[&str]) {
    let problems = make(place, spec, class).expect_err("a refusal").join("\n");
    assert!(parts.iter().all(|part| problems.contains(part)), "{problems}");
}

#[test]
fn irsa_asks_for_issuer_subject_and_audience_in_every_partition() {
    for partition in ["aws", "aws-cn", "aws-us-gov"] {
        let spec = json!({ "serviceAccounts": accounts(&["web", "api"]) });
        let made = make(&place(partition), spec, json!({ "mechanism": "IRSA" })).unwrap();
        let expected = json!({ "Version": "2012-10-17", "Statement": [{
            "Sid": "IamRoleDevIrsa",
            "Effect": "Allow",
            "Principal": { "Federated": format!("arn:{partition}:iam::111122223333:oidc-provider/{ISSUER}") },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": {
                format!("{ISSUER}:aud"): "sts.amazonaws.com",
                format!("{ISSUER}:sub"): ["system:serviceaccount:shop:api", "system:serviceaccount:shop:web"],
            } },
        }] });
        assert_eq!(trust(&made), expected);
        assert!(made.trust.lint(&made.account).is_empty(), "nothing to warn of");
    }
}

#[test]
fn pod_identity_pins_cluster_namespace_and_service_account() {
    let made =
        make(&place("aws"), json!({ "serviceAccounts": accounts(&["api"]) }), json!({ "mechanism": "PodIdentity" }));
    let made = made.unwrap();
    let expected = json!({ "Version": "2012-10-17", "Statement": [{
        "Sid": "IamRoleDevPodIdentity",
        "Effect": "Allow",
        "Principal": { "Service": "pods.eks.amazonaws.com" },
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": { "StringEquals": {
            "aws:SourceArn": "arn:aws:eks:eu-central-1:111122223333:cluster/prod",
            "aws:SourceAccount": "111122223333",
            "aws:RequestTag/kubernetes-namespace": "shop",
            "aws:RequestTag/kubernetes-service-account": "api",
        } },
    }] });
    assert_eq!(trust(&made), expected);
    assert!(made.trust.lint(&made.account).is_empty(), "nothing to warn of");
}

#[test]
fn the_written_policy_stays_and_comes_first() {
    let written = json!({ "Version": "2012-10-17", "Statement": [{
        "Sid": "Build", "Effect": "Allow", "Principal": { "Service": "codebuild.amazonaws.com" }, "Action": "sts:AssumeRole",
        "Condition": { "StringEquals": { "aws:SourceAccount": "111122223333" } },
    }] });
    let open = Place { allowed: Allowed::everything(), ..place("aws") };
    for spec in [json!({ "trustPolicy": written }), json!({ "trustPolicyJson": written.to_string() })] {
        let mut spec = spec;
        spec["serviceAccounts"] = accounts(&["api"]);
        let made = make(&open, spec.clone(), json!({ "mechanism": "Both" })).unwrap();
        let sids: Vec<Value> =
            trust(&made)["Statement"].as_array().unwrap().iter().map(|one| one["Sid"].clone()).collect();
        assert_eq!(sids, ["Build", "IamRoleDevIrsa", "IamRoleDevPodIdentity"]);
        // What is generated gives no leave for what is written.
        refused(&place("aws"), spec, json!({ "mechanism": "Both" }), &["NotAllowed", "codebuild.amazonaws.com"]);
    }
    let mut taken = written;
    taken["Statement"][0]["Sid"] = json!("IAMRoleDevIRSA");
    let spec = json!({ "trustPolicy": taken, "serviceAccounts": accounts(&["api"]) });
    refused(
        &open,
        spec,
        json!({ "mechanism": "IRSA" }),
        &["InvalidSpec: spec.trustPolicy.Statement[0].Sid", "use another"],
    );
}

#[test]
fn a_class_that_says_nothing_allows_nothing_and_the_override_needs_its_leave() {
    let spec = |mechanism: Value| json!({ "serviceAccounts": accounts(&["api"]), "workloadIdentity": { "mechanism": mechanism } });
    refused(&place("aws"), spec(json!("IRSA")), json!(null), &["NotAllowed: spec.serviceAccounts", "workloadIdentity"]);
    let irsa = json!({ "mechanism": "IRSA" });
    refused(&place("aws"), spec(json!("Both")), irsa.clone(), &["NotAllowed: spec.workloadIdentity.mechanism", "Both"]);
    assert!(make(&place("aws"), spec(json!("IRSA")), irsa).is_ok(), "the same is no other");
    let open = json!({ "mechanism": "IRSA", "allowOverride": true });
    let both = make(&place("aws"), spec(json!("Both")), open.clone()).unwrap();
    assert_eq!(trust(&both)["Statement"].as_array().unwrap().len(), 2);
    refused(
        &place("aws"),
        spec(json!("Telepathy")),
        open,
        &["InvalidSpec: spec.workloadIdentity.mechanism", "not known"],
    );
    refused(
        &place("aws"),
        json!({ "serviceAccounts": accounts(&["api"]) }),
        json!({ "mechanism": "New" }),
        &["not known"],
    );
}

#[test]
fn without_the_facts_nothing_is_generated_and_the_setting_is_named() {
    let spec = json!({ "serviceAccounts": accounts(&["api"]) });
    let unknown = Place { issuer: None, eks: EksCluster::default(), ..place("aws") };
    let both = json!({ "mechanism": "Both" });
    refused(
        &unknown,
        spec.clone(),
        both.clone(),
        &["IssuerUnknown: spec.serviceAccounts", "InvalidSpec: spec.serviceAccounts", "--cluster-arn"],
    );
    let elsewhere =
        EksCluster { arn: Some("arn:aws:eks:eu-central-1:999999999999:cluster/prod".into()), ..EksCluster::default() };
    refused(
        &Place { eks: elsewhere, ..place("aws") },
        spec.clone(),
        both.clone(),
        &["999999999999", "use the mechanism IRSA"],
    );
    for issuer in ["", "a b", "x/*", "${aws:username}", "x\"y"] {
        let odd = Place { issuer: Some(issuer), ..place("aws") };
        refused(&odd, spec.clone(), json!({ "mechanism": "IRSA" }), &["can't be an OIDC provider"]);
    }
    for name in ["*", "a:b", "${x}", "", "-a", "a.", "Big"] {
        refused(
            &place("aws"),
            json!({ "serviceAccounts": accounts(&[name]) }),
            both.clone(),
            &["no name of a ServiceAccount"],
        );
    }
}

#[test]
fn the_arn_is_made_of_region_and_name_where_it_is_not_told() {
    let eks = EksCluster { arn: None, region: Some("cn-north-1".into()), name: Some("prod".into()) };
    let account = AccountRef { partition: "aws-cn".into(), id: "111122223333".into() };
    assert_eq!(eks.arn_in(&account).unwrap(), "arn:aws-cn:eks:cn-north-1:111122223333:cluster/prod");
    assert!(EksCluster { name: None, ..eks }.arn_in(&account).is_err());
    assert!(cluster_arn("arn:aws:eks:eu-central-1:111122223333:cluster/prod").is_ok() && cluster_arn("").is_ok());
    for wrong in ["prod", "arn:aws:eks:eu-central-1:1:cluster/prod", "arn:aws:eks:x:111122223333:cluster/*"] {
        assert!(cluster_arn(wrong).is_err(), "{wrong}");
    }
    assert!(region("eu-central-1").is_ok() && region("EU*").is_err());
}

#[test]
fn the_limit_counts_for_the_sum() {
    let many: Vec<String> = (0..30).map(|i| format!("service-account-with-a-long-name-{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let spec = json!({ "serviceAccounts": accounts(&many) });
    refused(
        &place("aws"),
        spec,
        json!({ "mechanism": "Both" }),
        &["InvalidSpec: spec.serviceAccounts", "IAM takes 2048"],
    );
    // Thirty of usual names go in by one list.
    let many: Vec<String> = (0..30).map(|i| format!("app-{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(make(&place("aws"), json!({ "serviceAccounts": accounts(&many) }), json!({ "mechanism": "IRSA" })).is_ok());
    let open = Place { allowed: Allowed::everything(), ..place("aws") };
    let filler: Vec<String> =
        (0..25).map(|i| format!("arn:aws:iam::111122223333:role/some-role-of-ours-{i}")).collect();
    let written = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "AWS": filler }, "Action": "sts:AssumeRole" }] });
    assert!(make(&open, json!({ "trustPolicy": written }), json!({ "mechanism": "Both" })).is_ok());
    let spec = json!({ "trustPolicy": written, "serviceAccounts": accounts(&["api"]) });
    refused(&open, spec, json!({ "mechanism": "Both" }), &["spec.trustPolicy:", "generated for serviceAccounts"]);
}

#[test]
fn the_issuer_is_a_token_in_documents_and_patterns() {
    let written = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "Federated": "arn:$(partition):iam::$(account):oidc-provider/$(oidcIssuer)" },
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": { "StringEquals": {
            "$(oidcIssuer):aud": "sts.amazonaws.com", "$(oidcIssuer):sub": "system:serviceaccount:$(namespace):api" } },
    }] });
    let provider = "Federated:arn:$(partition):iam::$(account):oidc-provider/$(oidcIssuer)".to_owned();
    let listed = Allowed { trust_principals: vec![provider], ..Allowed::default() };
    let made =
        make(&Place { allowed: listed, ..place("aws") }, json!({ "trustPolicy": written }), json!(null)).unwrap();
    let subject = &trust(&made)["Statement"][0]["Condition"]["StringEquals"][format!("{ISSUER}:sub")];
    assert_eq!(subject, "system:serviceaccount:shop:api");
}

#[test]
fn while_the_issuer_is_not_known_what_needs_it_waits_and_what_is_wrong_anyway_is_told() {
    let unknown = Place { issuer: None, allowed: Allowed::everything(), ..place("aws") };
    let trust = |host: &str, condition: Value| {
        json!({ "trustPolicy": { "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Federated": format!("arn:aws:iam::111122223333:oidc-provider/{host}") },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": condition },
        }] } })
    };
    let own = "system:serviceaccount:shop:api";
    let problems = |spec: Value| make(&unknown, spec, json!(null)).err().unwrap_or_default();
    let reasons = |spec: Value| {
        problems(spec).iter().map(|problem| problem.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected: [(Value, &[&str]); 6] = [
        (trust("x.example", json!({ "x.example:sub": own })), &[]),
        (trust("x.example", json!({ "x.example:sub": "repo:a/b" })), &[]),
        (trust("x.example", json!({ "x.example:aud": "a" })), &["IssuerUnknown"]),
        (trust("$(oidcIssuer)", json!({ "$(oidcIssuer):sub": own })), &["IssuerUnknown"]),
        (trust("$(oidcIssuer)", json!({ "$(oidcIssuer):aud": "a" })), &["IssuerUnknown", "NotAllowed"]),
        (trust("$(oidcIssuer)", json!({ "$(odicIssuer):sub": own })), &["InvalidSpec"]),
    ];
    for (spec, reasons_expected) in expected {
        assert_eq!(reasons(spec.clone()), reasons_expected, "{spec}: {:#?}", problems(spec.clone()));
    }
    let escaped = trust("ISSUER", json!({ "ISSUER:sub": own }))["trustPolicy"].to_string();
    let escaped = json!({ "trustPolicyJson": escaped.replace("ISSUER", r"\u0024(oidcIssuer)") });
    assert_eq!(reasons(escaped), ["IssuerUnknown"]);
    let tagged =
        json!({ "trustPolicy": trust("x", json!({ "x:sub": own }))["trustPolicy"], "tags": { "a": "$(oidcIssuer)" } });
    assert_eq!(reasons(tagged), ["IssuerUnknown"]);
}
