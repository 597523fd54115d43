//! What the policy lets through, request by request, and what holds for every choice of options.

use super::{Feature, Format, Options, policy};
use crate::policy::{Document, Effect, Grammar, Limits, Pattern, Statement, Tokens};
use std::collections::{BTreeMap, BTreeSet};

const UID: &str = "0f6c1a52-5d0b-4a3c-9b61-5f1c8b1d2a10";
const OLD: &str = "9e107d9d-372b-4b68-8a4f-1d2c3b4a5f60";
const BOUNDARY: &str = "arn:aws:iam::111122223333:policy/developer-boundary";

/// Nothing narrowed, every feature.
fn widest() -> Options {
    Options {
        account: Some("111122223333".to_owned()),
        partition: "aws".to_owned(),
        cluster: None,
        take_over: Vec::new(),
        path: "/".to_owned(),
        boundaries: Vec::new(),
        features: Feature::ALL.into_iter().collect(),
        attach: Vec::new(),
        assume: Vec::new(),
        pod_identity: None,
        identity: None,
        policy_name: "iamrole-operator".to_owned(),
    }
}

fn narrowest() -> Options {
    Options {
        cluster: Some(UID.to_owned()),
        take_over: vec![OLD.to_owned()],
        path: "/kubernetes/production/".to_owned(),
        boundaries: vec![BOUNDARY.to_owned()],
        features: BTreeSet::new(),
        attach: vec!["arn:aws:iam::aws:policy/job-function/*".to_owned()],
        assume: vec!["arn:aws:iam::444455556666:role/iamrole-operator".to_owned()],
        identity: Some("arn:aws:iam::111122223333:role/platform/iamrole-operator".to_owned()),
        ..widest()
    }
}

/// The narrowest one, with these features.
fn narrow(features: &[Feature]) -> Options {
    Options { features: features.iter().copied().collect(), ..narrowest() }
}

fn every_choice() -> Vec<Options> {
    let mut all = Vec::new();
    for bits in 0..1024_u32 {
        let narrowed = |bit: u32| bits & (1 << bit) != 0;
        let pick = |bit| if narrowed(bit) { narrowest() } else { widest() };
        let features = Feature::ALL.into_iter().enumerate();
        let features = features.filter(|(i, _)| narrowed(u32::try_from(*i).unwrap())).map(|(_, feature)| feature);
        all.push(Options {
            features: features.collect(),
            cluster: pick(5).cluster,
            take_over: pick(5).take_over,
            path: pick(6).path,
            boundaries: pick(7).boundaries,
            attach: pick(8).attach,
            assume: pick(9).assume,
            identity: pick(9).identity,
            ..widest()
        });
    }
    all
}

fn document(options: &Options) -> Document {
    let text = policy(options).render(options, Format::Json).unwrap();
    Document::from_json(Grammar::Permission, "policy", &text, &Tokens::default()).unwrap()
}

#[test]
fn every_choice_is_a_policy_that_fits_and_grants_only_what_it_names() {
    for options in every_choice() {
        let document = document(&options);
        let text = policy(&options).render(&options, Format::Json).unwrap();
        let size = text.chars().filter(|c| !c.is_whitespace()).count();
        assert!(size <= Limits::default().managed, "{size} characters: {options:?}");
        assert_eq!(size, policy(&options).size().unwrap(), "what is judged is what is printed: {options:?}");
        for statement in document.statements() {
            let wild = statement.action.values.iter().any(|action| action.contains('*'));
            assert!(statement.effect == Effect::Deny || !wild, "an allowed action is written out: {options:?}");
            let everything = statement.resource.as_ref().is_some_and(|resource| resource.values.contains(&"*".into()));
            let walks =
                ["iam:GetAccountAuthorizationDetails", "iam:GetAccountSummary", "iam:ListPolicies", "iam:ListRoles"];
            let harmless = statement.action.values.iter().all(|action| walks.contains(&action.as_str()));
            assert!(statement.effect == Effect::Deny || !everything || harmless, "{options:?}");
        }
    }
}

#[test]
fn a_feature_brings_its_actions_and_a_boundary_takes_one_away() {
    let all = policy(&widest()).allowed();
    let gone = |options: &Options| all.difference(&policy(options).allowed()).copied().collect::<Vec<_>>();
    let without = |feature| {
        let mut options = widest();
        options.features.remove(&feature);
        options
    };
    assert_eq!(
        gone(&without(Feature::InstanceProfiles)),
        [
            "iam:AddRoleToInstanceProfile",
            "iam:CreateInstanceProfile",
            "iam:DeleteInstanceProfile",
            "iam:PassRole",
            "iam:TagInstanceProfile"
        ],
        "ForceDelete still takes roles out of profiles"
    );
    assert_eq!(
        gone(&without(Feature::CustomerManagedPolicies)),
        [
            "iam:CreatePolicy",
            "iam:CreatePolicyVersion",
            "iam:DeletePolicy",
            "iam:DeletePolicyVersion",
            "iam:GetPolicy",
            "iam:GetPolicyVersion",
            "iam:ListEntitiesForPolicy",
            "iam:ListPolicies",
            "iam:ListPolicyVersions",
            "iam:TagPolicy"
        ]
    );
    assert_eq!(
        gone(&without(Feature::AccountWalks)),
        ["iam:GetAccountAuthorizationDetails", "iam:ListPolicies", "iam:ListRoles"]
    );
    assert_eq!(gone(&without(Feature::Adoption)), [""; 0]);
    assert_eq!(gone(&without(Feature::ForceDelete)), [""; 0]);
    let bounded = Options { boundaries: vec![BOUNDARY.to_owned()], ..widest() };
    assert_eq!(gone(&bounded), ["iam:DeleteRolePermissionsBoundary"]);
    let others = Options { features: BTreeSet::new(), boundaries: Vec::new(), ..narrowest() };
    assert!(gone(&others).contains(&"iam:RemoveRoleFromInstanceProfile"), "neither profiles nor ForceDelete");
}

/// A request to IAM: action, resource, and the condition keys that it comes with.
struct Request(&'static str, String, BTreeMap<String, Vec<String>>);

fn role(action: &'static str, path: &str) -> Request {
    Request(action, format!("arn:aws:iam::111122223333:role{path}"), BTreeMap::new())
}

fn on_policy(action: &'static str, path: &str) -> Request {
    Request(action, format!("arn:aws:iam::111122223333:policy{path}"), BTreeMap::new())
}

fn on_profile(action: &'static str, path: &str) -> Request {
    Request(action, format!("arn:aws:iam::111122223333:instance-profile{path}"), BTreeMap::new())
}

impl Request {
    fn with(mut self, key: &str, value: &str) -> Self {
        self.2.entry(key.to_lowercase()).or_default().push(value.to_owned());
        self
    }

    /// It has, or gets, the boundary.
    fn bounded(self) -> Self {
        self.with("iam:PermissionsBoundary", BOUNDARY)
    }

    /// What it is about carries the owner tag of the cluster.
    fn of(self, uid: &str) -> Self {
        self.with("aws:ResourceTag/iamrole.dev/cluster", &format!("prod/{uid}"))
    }

    /// It sets the owner tags of the cluster.
    fn tagging(self, uid: &str, origin: &str) -> Self {
        self.with("aws:RequestTag/iamrole.dev/cluster", &format!("renamed/{uid}"))
            .with("aws:RequestTag/iamrole.dev/origin", origin)
    }

    fn allowed(&self, options: &Options) -> bool {
        let document = document(options);
        let applies = |effect| document.statements().iter().any(|s| s.effect == effect && self.matches(s));
        applies(Effect::Allow) && !applies(Effect::Deny)
    }

    fn matches(&self, statement: &Statement) -> bool {
        let any = |patterns: &[String], ignore_case: bool, text: &str| {
            patterns
                .iter()
                .map(|pattern| Pattern::new(pattern))
                .any(|pattern| if ignore_case { pattern.matches_ignore_case(text) } else { pattern.matches(text) })
        };
        any(&statement.action.values, true, self.0)
            && any(&statement.resource.as_ref().unwrap().values, false, &self.1)
            && statement.condition.iter().all(|condition| {
                let actual = self.2.get(&condition.key.to_lowercase());
                let is = |value: &String| any(&condition.values, false, value);
                let equals = |value: &String| condition.values.contains(value);
                let same = |value: &String| condition.values.iter().any(|known| known.eq_ignore_ascii_case(value));
                match &*condition.operator {
                    "StringLike" | "ArnLike" => actual.is_some_and(|values| values.iter().all(is)),
                    "StringLikeIfExists" => actual.is_none_or(|values| values.iter().all(is)),
                    "StringNotLike" => !actual.is_some_and(|values| values.iter().any(is)),
                    "StringEquals" => actual.is_some_and(|values| values.iter().all(equals)),
                    "StringEqualsIfExists" => actual.is_none_or(|values| values.iter().all(equals)),
                    "ForAnyValue:StringEqualsIgnoreCase" => actual.is_some_and(|values| values.iter().any(same)),
                    "Null" => condition.values == [actual.is_none().to_string()],
                    other => panic!("{other} is not known here"),
                }
            })
    }
}

#[track_caller]
fn check(options: &Options, rows: Vec<(&str, bool, Request)>) {
    for (what, expected, request) in rows {
        assert_eq!(request.allowed(options), expected, "{what}: {} on {} with {:?}", request.0, request.1, request.2);
    }
}

const ROLE: &str = "/kubernetes/production/prod.shop.api";

#[test]
fn permissions_are_given_only_under_the_boundary_and_to_what_is_the_clusters() {
    let put = || role("iam:PutRolePolicy", ROLE);
    let boundary = "iam:PermissionsBoundary";
    let wide = "arn:aws:iam::aws:policy/AdministratorAccess";
    let set = || role("iam:PutRolePermissionsBoundary", ROLE).of(UID);
    let options = narrow(&[]);
    check(
        &options,
        vec![
            ("created with tags and boundary", true, role("iam:CreateRole", ROLE).tagging(UID, "Created").bounded()),
            ("its tags", true, role("iam:TagRole", ROLE).tagging(UID, "Created")),
            ("created without boundary", false, role("iam:CreateRole", ROLE).tagging(UID, "Created")),
            ("under another", false, role("iam:CreateRole", ROLE).tagging(UID, "Created").with(boundary, wide)),
            ("created for another cluster", false, role("iam:CreateRole", ROLE).tagging(OLD, "Created").bounded()),
            ("created without tags", false, role("iam:CreateRole", ROLE).bounded()),
            ("elsewhere", false, role("iam:CreateRole", "/kubernetes/api").tagging(UID, "Created").bounded()),
            ("its own", true, put().of(UID).bounded()),
            ("that of a cluster that is taken over", true, put().of(OLD).bounded()),
            ("not of another cluster", false, put().of("uid-3").bounded()),
            ("not of nobody", false, put().bounded()),
            ("not without the boundary", false, put().of(UID)),
            ("not under another boundary", false, put().of(UID).with(boundary, wide)),
            ("the boundary is put back", true, set().bounded()),
            ("and no other", false, set().with(boundary, wide)),
            ("nor taken away", false, role("iam:DeleteRolePermissionsBoundary", ROLE).of(UID).bounded()),
        ],
    );
}

#[test]
fn a_boundary_for_each_namespace_is_one_of_a_pattern() {
    let patterns = vec!["arn:aws:iam::111122223333:policy/developer-*".to_owned()];
    let options = Options { boundaries: patterns, ..narrow(&[]) };
    let key = "iam:PermissionsBoundary";
    let put = || role("iam:PutRolePolicy", ROLE).of(UID);
    let other = "arn:aws:iam::111122223333:policy/admin-shop";
    check(
        &options,
        vec![
            ("under one of them", true, put().bounded()),
            ("under another one of them", true, put().with(key, "arn:aws:iam::111122223333:policy/developer-shop")),
            ("under one that is none of them", false, put().with(key, other)),
            ("without", false, put()),
            ("reduced under one of them", true, role("iam:DeleteRolePolicy", ROLE).of(UID).bounded()),
            ("reduced without", true, role("iam:DeleteRolePolicy", ROLE).of(UID)),
            ("reduced under none of them", false, role("iam:DeleteRolePolicy", ROLE).of(UID).with(key, other)),
        ],
    );
}

#[test]
fn what_lost_its_boundary_can_still_be_reduced_and_removed() {
    let options = narrow(&[]);
    for action in [
        "iam:DeleteRole",
        "iam:DeleteRolePolicy",
        "iam:DetachRolePolicy",
        "iam:UpdateRole",
        "iam:UpdateAssumeRolePolicy",
        "iam:UntagRole",
    ] {
        let other = "arn:aws:iam::111122223333:policy/other";
        check(
            &options,
            vec![
                ("without a boundary, or where IAM tells none", true, role(action, ROLE).of(UID)),
                ("with it", true, role(action, ROLE).of(UID).bounded()),
                ("under another", false, role(action, ROLE).of(UID).with("iam:PermissionsBoundary", other)),
                ("another cluster's", false, role(action, ROLE).of("uid-3").bounded()),
                ("nobody's", false, role(action, ROLE).bounded()),
            ],
        );
    }
}

#[test]
fn only_listed_policies_are_attached_and_all_are_detached() {
    let attach = |arn: &str| role("iam:AttachRolePolicy", ROLE).of(UID).bounded().with("iam:PolicyARN", arn);
    let listed = "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess";
    let own = "arn:aws:iam::111122223333:policy/kubernetes/production/own";
    let other = "arn:aws:iam::aws:policy/AdministratorAccess";
    let detach = role("iam:DetachRolePolicy", ROLE).of(UID).bounded().with("iam:PolicyARN", other);
    check(
        &narrow(&[Feature::CustomerManagedPolicies]),
        vec![
            ("listed", true, attach(listed)),
            ("the role's own", true, attach(own)),
            ("any other", false, attach(other)),
            ("what somebody else attached is removed", true, detach),
        ],
    );
    check(&narrow(&[]), vec![("no policies of its own", false, attach(own))]);
    let unlisted = Options { attach: Vec::new(), ..narrow(&[]) };
    check(&unlisted, vec![("without a list", true, attach(other))]);
}

#[test]
fn owner_tags_are_set_on_what_is_new_and_never_turned_or_removed() {
    let tag = || role("iam:TagRole", ROLE);
    let untag = |key: &str| role("iam:UntagRole", ROLE).of(UID).with("aws:TagKeys", "team").with("aws:TagKeys", key);
    let claimed = tag().tagging(UID, "Adopted");
    check(
        &narrow(&[]),
        vec![
            ("its own gets another tag", true, tag().of(UID).with("aws:RequestTag/team", "shop")),
            ("its own gets the cluster's new name", true, tag().of(UID).tagging(UID, "Created")),
            ("inherited", true, tag().of(OLD).tagging(UID, "Created")),
            ("its own is given to another cluster", false, tag().of(UID).tagging(OLD, "Created")),
            ("another cluster's", false, tag().of("uid-3").tagging(UID, "Created")),
            ("a foreign role is not adopted", false, claimed),
            ("a foreign role gets no tag", false, tag().with("aws:RequestTag/team", "shop")),
            ("a user's tag is removed", true, untag("cost")),
            ("an owner tag is not", false, untag("iamrole.dev/cluster")),
            ("in no case", false, untag("IAMROLE.dev/Origin")),
        ],
    );
    check(
        &narrow(&[Feature::Adoption]),
        vec![
            ("adopted", true, tag().tagging(UID, "Adopted")),
            ("not from another cluster", false, tag().of("uid-3").tagging(UID, "Adopted")),
        ],
    );
    let no_cluster = Options { cluster: None, ..narrow(&[]) };
    check(
        &no_cluster,
        vec![
            ("not adopted either", false, tag().tagging(UID, "Adopted")),
            ("tagged", true, tag().with("aws:RequestTag/team", "shop")),
        ],
    );
}

#[test]
fn policies_and_profiles_are_the_clusters_own() {
    let (name, profile) = ("/kubernetes/production/own", "/kubernetes/production/prod.shop.api");
    let on = |action| on_policy(action, name);
    let options = narrow(&[Feature::InstanceProfiles, Feature::CustomerManagedPolicies]);
    let leave = || on_profile("iam:RemoveRoleFromInstanceProfile", "/elsewhere");
    let pass = || role("iam:PassRole", ROLE);
    check(
        &options,
        vec![
            ("created", true, on("iam:CreatePolicy").tagging(UID, "Created")),
            ("with tags", true, on("iam:TagPolicy").tagging(UID, "Created")),
            ("created without", false, on("iam:CreatePolicy")),
            ("changed", true, on("iam:CreatePolicyVersion").of(UID)),
            ("a foreign one", false, on("iam:CreatePolicyVersion")),
            ("another cluster's", false, on("iam:DeletePolicy").of("uid-3")),
            ("profile", true, on_profile("iam:CreateInstanceProfile", profile).tagging(UID, "Created")),
            ("its tags", true, on_profile("iam:TagInstanceProfile", profile).tagging(UID, "Created")),
            ("filled", true, on_profile("iam:AddRoleToInstanceProfile", profile).of(UID)),
            ("passed to EC2", true, pass().with("iam:PassedToService", "ec2.amazonaws.com")),
            ("passed where AWS does not say to whom", true, pass()),
            ("passed to Lambda", false, pass().with("iam:PassedToService", "lambda.amazonaws.com")),
            ("a foreign one is filled", false, on_profile("iam:AddRoleToInstanceProfile", profile)),
            ("a role leaves a foreign one", false, leave()),
        ],
    );
    check(
        &narrow(&[Feature::ForceDelete]),
        vec![("with ForceDelete", true, leave()), ("not another cluster's", false, leave().of("uid-3"))],
    );
    check(&narrow(&[]), vec![("no policies", false, on("iam:CreatePolicy").tagging(UID, "Created"))]);
}

#[test]
fn the_operator_cannot_reach_what_limits_it() {
    let limits = [BOUNDARY.rsplit(':').next().unwrap(), "policy/iamrole-operator"];
    for limit in limits {
        let path = limit.strip_prefix("policy").unwrap();
        for action in ["iam:CreatePolicy", "iam:CreatePolicyVersion", "iam:DeletePolicyVersion", "iam:DeletePolicy"] {
            let options = Options { boundaries: vec![BOUNDARY.to_owned()], ..widest() };
            check(&options, vec![("a limit, whatever its tags", false, on_policy(action, path).of(UID))]);
            check(&options, vec![("another", true, on_policy(action, "/other"))]);
        }
    }
    let itself = || role("iam:AttachRolePolicy", "/iamrole-operator").of(UID);
    let identity = Some("arn:aws:iam::111122223333:role/iamrole-operator".to_owned());
    check(&Options { identity, ..widest() }, vec![("itself", false, itself())]);
    check(&widest(), vec![("unless nobody said who it is", true, itself())]);
}

#[test]
fn reads_reach_what_does_not_exist() {
    for options in [narrowest(), widest()] {
        check(
            &options,
            vec![
                ("IAM knows no path of what is not there", true, role("iam:GetRole", "/prod.shop.api")),
                ("nor its tags", true, on_profile("iam:GetInstanceProfile", "/prod.shop.api")),
            ],
        );
    }
}

#[test]
fn what_is_too_large_is_not_printed() {
    let attach = (0..120).map(|i| format!("arn:aws:iam::aws:policy/SomeManagedPolicyNumber{i}")).collect();
    let options = Options { attach, ..widest() };
    let message = policy(&options).render(&options, Format::Json).unwrap_err().to_string();
    assert!(message.contains("may have 6144") && message.contains("--attach"), "{message}");
}

#[test]
fn terraform_and_cloudformation_carry_the_same_policy() {
    for options in [widest(), narrowest()] {
        let policy = policy(&options);
        let json: serde_json::Value = serde_json::to_value(&policy).unwrap();
        let terraform = policy.render(&options, Format::Terraform).unwrap();
        let (_, rest) = terraform.split_once("<<-JSON\n").unwrap();
        let (heredoc, after) = rest.split_once("\n  JSON\n").unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(heredoc).unwrap(), json);
        assert!(!heredoc.contains("${") && !heredoc.contains("%{"), "Terraform would take these for its own");
        assert_eq!(after.contains("role       = \"iamrole-operator\""), options.identity.is_some(), "{after}");

        let yaml = policy.render(&options, Format::Cloudformation).unwrap();
        let template: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        let properties = &template["Resources"]["OperatorPolicy"]["Properties"];
        assert_eq!(properties["PolicyDocument"], json);
        assert_eq!(properties["Roles"].is_array(), options.identity.is_some());
        assert!(yaml.contains("\"2012-10-17\""), "unquoted it would be a date");
    }
}

#[test]
fn associations_are_for_one_cluster_and_those_of_the_operator() {
    let cluster = "arn:aws:eks:eu-central-1:111122223333:cluster/prod";
    let options = Options { pod_identity: Some(cluster.to_owned()), ..narrowest() };
    let added: Vec<&str> = policy(&options).allowed().into_iter().collect();
    let expected = [
        "eks:CreatePodIdentityAssociation",
        "eks:DeletePodIdentityAssociation",
        "eks:DescribePodIdentityAssociation",
        "eks:ListPodIdentityAssociations",
        "eks:TagResource",
        "eks:UpdatePodIdentityAssociation",
        "iam:PassRole",
    ];
    assert_eq!(added, expected);
    let text = policy(&options).render(&options, Format::Json).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let statement = |sid: &str| {
        let all = document["Statement"].as_array().unwrap();
        all.iter().find(|statement| statement["Sid"] == sid).unwrap_or_else(|| panic!("{sid}")).clone()
    };
    let association = "arn:aws:eks:eu-central-1:111122223333:podidentityassociation/prod/*";
    assert_eq!(statement("MakeAssociations")["Resource"], cluster);
    for sid in ["ReadAssociations", "TagAssociations", "ChangeAssociations"] {
        assert_eq!(statement(sid)["Resource"], association);
    }
    let key = |kind: &str| format!("aws:{kind}/iamrole.dev/cluster");
    assert!(statement("MakeAssociations")["Condition"]["StringLike"][key("RequestTag")].is_string());
    assert!(statement("ChangeAssociations")["Condition"]["StringLike"].get(key("ResourceTag")).is_some());
    assert_eq!(
        statement("PassRolesToPods")["Condition"]["StringEquals"]["iam:PassedToService"],
        "pods.eks.amazonaws.com"
    );
}
