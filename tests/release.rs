//! What a release is made of: one version, and workflows that run nothing but what was looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fences;

use fences::{documents, read};
use serde_json::Value;

#[test]
fn the_version_is_that_of_cargo_toml_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    for chart in ["iamrole-operator", "iamrole-operator-crds"] {
        let chart = read(&format!("charts/{chart}/Chart.yaml"));
        let line = |key: &str| chart.lines().find_map(|line| line.strip_prefix(&format!("{key}: "))).map(str::to_owned);
        assert_eq!(line("version").as_deref().map(|text| text.trim_matches('"')), Some(version));
        assert_eq!(line("appVersion").as_deref().map(|text| text.trim_matches('"')), Some(version));
    }
    let changes = read("CHANGELOG.md");
    let newest = changes.lines().find(|line| line.starts_with("## [")).expect("a version");
    let newest = newest.trim_start_matches("## [Unreleased] ").trim_start_matches("## [");
    assert_eq!(newest.split([']', ' ']).next(), Some(version), "CHANGELOG.md begins with the version in Cargo.toml");
    // Wherever a document or manifest names a version of this project.
    let manifests = ["integrations/flux/operator.yaml", "integrations/flux/roles.yaml"].map(str::to_owned);
    for path in documents().into_iter().chain(manifests).filter(|path| path != "CHANGELOG.md") {
        for line in read(&path).lines() {
            for before in ["?ref=v", "targetRevision: ", "semver: ", "--version "] {
                let named = line.split(before).nth(1).map(|rest| rest.split([' ', '`', '"', ')']).next().unwrap());
                let named = named.filter(|named| named.starts_with(|c: char| c.is_ascii_digit()));
                let minor = version.rsplit_once('.').expect("three numbers").0;
                let right = named.is_none_or(|named| named == version || named == format!("{minor}.x"));
                assert!(right, "{path}: {line}: the version is {version}");
            }
        }
    }
}

/// What is shipped that some API server once did not know: where it stands, and since which 1.x it works on every one. Before
/// that the API server drops it or refuses the object, and what is in the cluster is never what was applied.
const FEATURES: [(&str, &str, u32); 5] = [
    ("charts/iamrole-operator/crds", "x-kubernetes-validations:", 25),
    ("charts/iamrole-operator/crds", "fieldPath:", 28),
    // Alpha and off in 1.30: KEP-4358.
    ("charts/iamrole-operator/crds", "selectableFields:", 31),
    // admissionregistration.k8s.io/v1, with variables and match conditions.
    ("charts/iamrole-operator/templates", "kind: ValidatingAdmissionPolicy", 30),
    ("charts/iamrole-operator/templates", "unhealthyPodEvictionPolicy:", 27),
];

fn is_shipped(folder: &str, word: &str) -> bool {
    let files = std::fs::read_dir(fences::root().join(folder)).expect("a folder");
    let files = files.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    files.into_iter().any(|path| std::fs::read_to_string(path).expect("text").contains(word))
}

#[test]
fn the_kubernetes_version_asked_for_is_the_one_that_has_all_that_is_used() {
    let unused: Vec<_> = FEATURES.iter().filter(|(folder, word, _)| !is_shipped(folder, word)).collect();
    assert!(unused.is_empty(), "no more: {unused:?}");
    let newest = FEATURES.iter().map(|(.., minor)| minor).max().expect("features");
    for chart in ["iamrole-operator", "iamrole-operator-crds"] {
        let text = read(&format!("charts/{chart}/Chart.yaml"));
        assert!(text.contains(&format!("\nkubeVersion: \">=1.{newest}.0-0\"\n")), "{chart} asks for another one");
    }
    let mut told = Vec::new();
    for path in documents() {
        for line in read(&path).split("Kubernetes 1.").skip(1) {
            if let Some((minor, _)) = line.split_once(" or later").filter(|(minor, _)| minor.len() < 3) {
                assert_eq!(minor, newest.to_string(), "{path}");
                told.push(path.clone());
            }
        }
    }
    let expected = ["CHANGELOG.md", "charts/iamrole-operator/README.md", "docs/quick-start.md"];
    assert_eq!(told, expected, "who installs it is told");
}

const WORKFLOWS: [&str; 2] = [".github/workflows/ci.yaml", ".github/workflows/release.yaml"];

fn workflow(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn actions_are_pinned_by_commit_and_name_the_version_that_it_is() {
    for path in WORKFLOWS {
        for line in read(path).lines().filter_map(|line| line.split_once("uses: ").map(|(_, used)| used)) {
            if line.starts_with("./") {
                continue;
            }
            let (action, rest) = line.split_once('@').unwrap_or_else(|| panic!("{path}: {line}"));
            let (commit, version) = rest.split_once(" # v").unwrap_or_else(|| panic!("{path}: {line}: which version?"));
            let is_commit = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_commit && version.starts_with(|c: char| c.is_ascii_digit()), "{path}: {action}: {rest}");
        }
    }
}

#[test]
fn workflows_have_no_rights_but_those_that_a_job_asks_for_and_keep_no_token() {
    for path in WORKFLOWS {
        let workflow = workflow(path);
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{path}");
        for (name, job) in workflow["jobs"].as_object().unwrap() {
            assert!(job["permissions"].is_object(), "{path}: {name} says what it may");
            assert!(job["uses"].is_string() || job["timeout-minutes"].is_number(), "{path}: {name} may run for ever");
            for step in job["steps"].as_array().into_iter().flatten() {
                let used = step["uses"].as_str().unwrap_or_default();
                let keeps = used.starts_with("actions/checkout@") && step["with"]["persist-credentials"] != false;
                assert!(!keeps, "{path}: {name} keeps a token in the checkout");
                // What comes from outside must not become part of a script.
                let script = step["run"].as_str().unwrap_or_default();
                assert!(!script.contains("${{"), "{path}: {name}: {script}");
            }
        }
    }
}

#[test]
fn a_release_tests_first_and_publishes_both_architectures_signed_with_sbom_and_provenance() {
    let release = workflow(WORKFLOWS[1]);
    let jobs = &release["jobs"];
    assert_eq!(jobs["test"]["uses"], "./.github/workflows/ci.yaml");
    let needs = |job: &str| jobs[job]["needs"].to_string();
    assert!(needs("image").contains("\"test\"") && needs("publish").contains("\"image\""));
    let architectures = jobs["image"]["strategy"]["matrix"]["include"].as_array().unwrap();
    let architectures: Vec<&str> = architectures.iter().map(|entry| entry["arch"].as_str().unwrap()).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    let text = read(WORKFLOWS[1]);
    for part in [
        "--provenance=mode=max --sbom=true",
        "cosign sign --yes --recursive \"$IMAGE@$DIGEST\"",
        "cosign attest --yes --type spdxjson",
        "cosign sign --yes \"$CHARTS/iamrole-operator@",
        "actions/attest-build-provenance@",
        "sha256sum",
    ] {
        assert!(text.contains(part), "{part}");
    }
    // What people are told to compare with is what signs.
    let told = read("docs/operate.md");
    assert!(told.contains("iamrole-dev/iamrole-operator/.github/workflows/release.yaml@refs/tags/"));
    assert!(text.contains("IMAGE: ghcr.io/iamrole-dev/iamrole-operator\n"));
}
