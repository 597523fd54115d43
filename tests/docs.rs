//! The documentation says what the code does: reasons, permissions, manifests, links.
//!
//! `UPDATE_DOCS=1 cargo test --test docs` writes docs/reasons.md and the policy in docs/permissions.md anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fences;

use clap::Parser as _;
use fences::{documents, read};
use iamrole_operator::api::Reason;
use iamrole_operator::aws::{AwsError, Kind};
use iamrole_operator::cli::{Cli, Command, aws_policy};
use iamrole_operator::controller::failure::{Failure, Retry};
use iamrole_operator::power;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process;

/// What a person does about a reason. No wildcard: a new reason must be thought about here.
const fn remedy(reason: Reason) -> &'static str {
    match reason {
        Reason::Applied | Reason::Observed | Reason::Created | Reason::Updated | Reason::Deleted | Reason::Released => {
            "Nothing."
        }
        Reason::Reconciling => "Wait. If it lasts, the message says for what.",
        Reason::OrphanedRoles => {
            "Delete the roles in AWS if nobody needs them, or apply an IamRole of the namespace and name in their tags."
        }
        Reason::Deleting => "Wait.",
        Reason::Suspended => {
            "Take `spec.suspend` or the annotation `iamrole.dev/suspend` away, where the message says."
        }
        Reason::ChangesPending => "Read `status.plan`; remove `mode: Observe` to have it done.",
        Reason::InvalidSpec => "Correct the field that the message begins with.",
        Reason::NotAllowed => "Correct the field, or ask the admin of the class.",
        Reason::RoleNotOwned => {
            "Choose another `roleName`, remove the role in AWS, or take it over with `adoption: IfExists`."
        }
        Reason::RoleOwnedByOther => "Choose another `roleName`, or delete the other IamRole.",
        Reason::PolicyNameTaken => "Choose another `policyName`, or remove the policy in AWS.",
        Reason::IdentityImmutable => "Set name and path back, or delete the object and create it anew.",
        Reason::RoleMissing => "Create the role, or use `adoption: IfExists`.",
        Reason::NoClass => "Ask an admin to label the namespace, or name a class in `spec.roleClassName`.",
        Reason::ClassNotReady => "`kubectl describe iamroleclass NAME` tells why.",
        Reason::IssuerUnknown => "Nothing; it is asked for again. If it lasts, set `cluster.oidcIssuer` of the chart.",
        Reason::ClassAccountMismatch => "Name a class of the account that the role lives in.",
        Reason::AccountMismatch => "Give the operator an identity of the class's account, or make another class.",
        Reason::NoCredentials => "Give the operator an AWS identity; see [permissions](permissions.md).",
        Reason::AccessDenied => {
            "Grant the action that the message names to the operator; see [permissions](permissions.md)."
        }
        Reason::PrincipalNotFound => "Create the principal, or correct its ARN in the trust policy.",
        Reason::PolicyNotFound => "Create the policy, or correct its name. AWS-managed ones may need their path.",
        Reason::QuotaExceeded => "Remove something, or ask AWS for a higher quota.",
        Reason::PolicyRejected => "Correct the document, or attach another policy.",
        Reason::Rejected => "Read AWS's code and text in the message.",
        Reason::DeleteBlocked => {
            "Remove what the message names. A deletion also goes on with `deletionPolicy: ForceDelete` or `Retain`."
        }
        Reason::Busy | Reason::Unavailable => "Nothing; it is tried again.",
        Reason::KubernetesError => {
            "Nothing at first; if it is Stalled, compare the operator's RBAC and CRDs with the chart's."
        }
        Reason::InstanceProfileNotOwned => "Choose another `instanceProfile.name`, or remove the profile in AWS.",
        Reason::Recovered => "Nothing; list what the event names if it is meant to stay.",
        Reason::DriftRepaired => "Find out who changed AWS, and change the IamRole instead.",
        Reason::Contested => "Find out who undoes the repair, and stop that or change the IamRole.",
        Reason::PolicyWarning => "Correct the document as the event says, or leave it if it is meant so.",
        Reason::Bound => "Nothing. Pods that were there before must be restarted.",
        Reason::PodsWithoutCredentials => "Make the pods anew that the message names (`kubectl rollout restart`).",
        Reason::NoOidcProvider => {
            "Make the provider that the message names in the role's account, or use EKS Pod Identity."
        }
        Reason::AudienceNotRegistered => {
            "Add the audience to the client ids of the provider, or correct `workloadIdentity.audience` of the class."
        }
        Reason::ServiceAccountConflict => {
            "Take the ServiceAccount out of one of the two, or remove the annotation that somebody else set."
        }
        Reason::ServiceAccountMissing => "Create the ServiceAccount, or take it out of `spec.serviceAccounts`.",
        Reason::BindingNotManaged => {
            "Do it yourself as the message says, or let the operator: `workloadIdentity.annotateServiceAccounts` of the \
             chart for IRSA, `workloadIdentity.podIdentity.associations` of the class for EKS Pod Identity."
        }
        Reason::Retained => "Nothing, or delete the role in AWS by hand.",
    }
}

#[test]
fn the_list_of_reasons_is_that_of_the_code() {
    let mut text = String::from(
        "# Reasons\n\n\
         <!-- Written by `UPDATE_DOCS=1 cargo test --test docs`, from src/api/condition.rs. -->\n\n\
         One word is the reason of a condition, the reason of an event and the label of a metric. `Ready` always has\n\
         one; its message says what happened and what to do. Nothing is final: whatever is wrong, the operator looks\n\
         again, and a condition clears by itself once its cause is gone.\n\n\
         | Reason | Meaning | What to do |\n| --- | --- | --- |\n",
    );
    for reason in Reason::ALL {
        let meaning: Vec<&str> = reason.meaning().split_whitespace().collect();
        let meaning = meaning.join(" ");
        assert!(!remedy(*reason).is_empty(), "{reason}: say what to do in tests/docs.rs");
        writeln!(text, "| `{reason}` | {meaning} | {} |", remedy(*reason)).unwrap();
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(format!("{}/docs/reasons.md", env!("CARGO_MANIFEST_DIR")), &text).expect("docs/reasons.md");
    }
    assert!(read("docs/reasons.md") == text, "docs/reasons.md is stale; run UPDATE_DOCS=1 cargo test --test docs");
}

/// What becomes of every answer of AWS and of the API server.
fn failures() -> Vec<Failure> {
    let kinds = [
        Kind::NotFound,
        Kind::AlreadyExists,
        Kind::DeleteConflict,
        Kind::Invalid,
        Kind::Denied,
        Kind::NoCredentials,
        Kind::PrincipalNotFound,
        Kind::PolicyNotFound,
        Kind::Quota,
        Kind::PolicyRejected,
        Kind::Rejected,
        Kind::Busy,
        Kind::Transient,
    ];
    let of_aws = kinds.map(|kind| {
        let (target, message) = (String::new(), String::new());
        Failure::from(AwsError { kind, call: "iam:GetRole", target, code: None, message })
    });
    let of_kubernetes = [400, 401, 403, 404, 409, 410, 422, 429, 500, 503, 504].map(|code| {
        let status = json!({ "status": "Failure", "code": code, "message": "m", "reason": "R" });
        Failure::from(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
    });
    of_aws.into_iter().chain(of_kubernetes).collect()
}

/// Who is told to do nothing about what does not pass by itself waits for ever.
#[test]
fn what_can_be_stalled_has_a_remedy() {
    let (passes, lasts): (Vec<_>, Vec<_>) = failures().into_iter().partition(|f| f.retry == Retry::Passing);
    assert!(passes.len() > 3 && lasts.len() > 10);
    for failure in lasts {
        let remedy = remedy(failure.reason);
        let says = !remedy.starts_with("Nothing") || remedy.contains("if it is Stalled");
        assert!(says, "{} can be Stalled: {remedy}", failure.reason);
    }
}

/// The fenced blocks of a language.
fn blocks(file: &str, language: &str) -> Vec<String> {
    let of_it = fences::fences(file).into_iter().filter(|fence| fence.language == language);
    of_it.map(|fence| fence.text.trim_end().to_owned()).collect()
}

/// The policy for the options of a command line.
fn power(line: &[&str]) -> power::Policy {
    let cli =
        Cli::try_parse_from([&["iamrole", "aws-policy"], line].concat()).unwrap_or_else(|error| panic!("{error}"));
    let Command::AwsPolicy(args) = cli.command else { panic!("no aws-policy") };
    power::policy(&aws_policy::options(&args).unwrap())
}

#[test]
fn the_permissions_are_those_of_the_calls_that_the_code_makes() {
    let mut called = BTreeSet::new();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/aws")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        called.extend(code.split('"').filter(|word| is_action(word)).map(str::to_owned));
    }
    // Adding a role to an instance profile takes the right to pass it.
    called.insert("iam:PassRole".to_owned());
    let widest = power(&[]).allowed();
    assert_eq!(widest, called.iter().map(String::as_str).collect(), "src/power (left) and src/aws (right)");

    let boundary = "--boundary=arn:aws:iam::111122223333:policy/b";
    let options = ["--no-instance-profiles", "--no-customer-managed-policies", "--no-account-walks", boundary];
    let text = read("docs/permissions.md");
    for action in widest {
        let dropping = options.iter().filter(|option| !power(&[option]).allowed().contains(action));
        let dropping: Vec<String> =
            dropping.map(|option| format!("`{}`", option.split('=').next().unwrap_or_default())).collect();
        let row = text.lines().find(|line| line.starts_with(&format!("| `{action}` | ")));
        let row = row.unwrap_or_else(|| panic!("the table lacks {action}"));
        let dropping = dropping.iter().map(|option| format!(" {option}")).collect::<Vec<_>>().join(",");
        assert!(row.ends_with(&format!(" |{dropping} |")), "{row} {dropping:?}");
    }
}

/// What a line of a shell calls, without what is written to a file.
fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().take_while(|word| *word != ">").collect()
}

#[test]
fn the_printed_policies_are_what_the_commands_print() {
    let mut text = read("docs/permissions.md");
    let mut outputs = Vec::new();
    for block in blocks("docs/permissions.md", "sh") {
        let block = block.replace("\\\n", " ");
        for command in block.lines().filter(|line| line.starts_with("iamrole ")) {
            let run = process::Command::new(env!("CARGO_BIN_EXE_iamrole")).args(&words(command)[1..]).output().unwrap();
            assert!(run.status.success(), "{command}: {}", String::from_utf8_lossy(&run.stderr));
            outputs.push(String::from_utf8(run.stdout).unwrap());
        }
    }
    assert!(outputs.len() >= 4, "only {} commands found", outputs.len());
    let shown = blocks("docs/permissions.md", "json").remove(0);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let (old, new) = (format!("```json\n{shown}"), format!("```json\n{}", outputs[0].trim_end()));
        text = text.replacen(old.trim_end(), &new, 1);
        std::fs::write(format!("{}/docs/permissions.md", env!("CARGO_MANIFEST_DIR")), &text).unwrap();
    } else {
        assert_eq!(shown, outputs[0].trim_end(), "docs/permissions.md: run UPDATE_DOCS=1 cargo test --test docs");
    }
}

fn is_action(word: &str) -> bool {
    word.strip_prefix("iam:").is_some_and(|name| name.len() > 4 && name.chars().all(|c| c.is_ascii_alphabetic()))
}

/// The part of an address that leads to a headline, as GitHub makes it.
fn anchor(headline: &str) -> String {
    let kept = headline.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(file: &str) -> BTreeSet<String> {
    let text = read(file);
    let headlines = text.lines().filter(|line| line.starts_with('#'));
    headlines.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_lead_somewhere_and_the_text_is_plain() {
    let root = fences::root().canonicalize().unwrap();
    for path in documents() {
        let text = read(&path);
        let folder = Path::new(&path).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (target, part) = link.split_once('#').map_or((link, None), |(target, part)| (target, Some(part)));
            let target = if target.is_empty() { PathBuf::from(&path) } else { folder.join(target) };
            let full = root.join(&target).canonicalize();
            let full = full.unwrap_or_else(|_| panic!("{path}: {link} leads nowhere"));
            let file = full.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if let Some(part) = part {
                assert!(anchors(&file).contains(part), "{path}: {link}: no such headline in {:?}", anchors(&file));
            }
        }
        assert!(!text.contains('\u{2014}'), "{path} has an em dash");
    }
}

#[test]
fn roles_get_each_class_that_a_page_makes() {
    let mut found = 0;
    for file in documents() {
        let text = read(&file);
        for block in blocks(&file, "yaml") {
            for object in block.split("\n---\n").filter(|object| object.contains("\nkind: IamRoleClass\n")) {
                let name = object.split("\n  name: ").nth(1).and_then(|rest| rest.lines().next()).expect("a name");
                let named = [format!("roleClassName: {name}"), format!("\"roleClassName\":\"{name}\"")];
                let is_used = object.contains("iamrole.dev/is-default-class: \"true\"")
                    || named.iter().any(|named| text.contains(named));
                assert!(is_used, "{file}: no role names the class {name}, and it is no default");
                found += 1;
            }
        }
    }
    assert!(found >= 3, "{found}");
}

#[test]
fn every_document_is_in_the_index() {
    let index = read("docs/README.md");
    for path in documents().iter().filter_map(|path| path.strip_prefix("docs/")).filter(|path| *path != "README.md") {
        assert!(index.contains(path), "docs/README.md lacks {path}");
    }
    assert!(read("README.md").contains("](docs/README.md)"), "the README leads to the index");
}

#[test]
fn each_check_names_tests_that_exist_or_says_why_it_has_none() {
    let text = read("docs/checks.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ") && line.contains("| ")).skip(2).collect();
    let mut next = 1;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, _, tests] = cells.as_slice() else { panic!("three cells: {row}") };
        let (first, last) = number.split_once('-').unwrap_or((number, number));
        assert_eq!(first.parse(), Ok(next), "{row}");
        next = last.parse::<u32>().unwrap() + 1;
        let named: Vec<(&str, &str)> = tests.split('`').filter_map(|text| text.split_once("::")).collect();
        let reason = ["*not here*: ", "*open*", "none: "].iter().any(|word| tests.contains(word));
        assert!(!named.is_empty() || reason, "{row}");
        for (file, test) in named {
            let path = if file.contains('/') { file.to_owned() } else { format!("tests/{file}.rs") };
            assert!(read(&path).contains(&format!("fn {test}(")), "{file}::{test} is no test");
        }
    }
    assert_eq!(next, 64);
}
