//! What the documentation tells people to write is taken, and what it tells them to type exists: each block and each
//! command is executed, or at least read by the program that it is for. What can't be is listed here with its reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "fences/asks.rs"]
mod asks;
mod fences;
mod support;

use clap::Parser as _;
use fences::{Fence, commands, documents, fences, filled, read, root};
use iamrole_operator::cli::Cli;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use support::kubectl::{helm, kubectl, kubectl_ok};
use support::{World, condition, ec2};

/// Blocks that nothing here reads, by language and what they begin with.
const BLOCKS_ELSEWHERE: [(&str, &str, &str); 3] = [
    ("hcl", "removed {", "Terraform is not here"),
    ("csv", "p, ", "a line of Argo CD's RBAC"),
    ("yml", "# kustomizeconfig.yaml", "tests/gitops.rs builds with integrations/kustomize/names, which is the same"),
];

/// Groups whose kinds the API server here does not have. Their fields were compared by hand with the CRDs of Argo CD 3.5.1,
/// kustomize-controller 1.10.1 and source-controller 1.10.1.
const GROUPS_ELSEWHERE: [&str; 2] = ["argoproj.io", "kustomize.config.k8s.io"];

/// Commands that can be neither executed nor read here, by what they begin with.
const COMMANDS_ELSEWHERE: [(&str, &str); 14] = [
    ("eksctl ", "makes things in AWS; not here"),
    ("terraform ", "not here"),
    ("flux ", "not here"),
    ("source ", "the shell's own"),
    ("BENCH_ONLY=", "a part of make bench, which takes minutes"),
    ("cosign ", "asks the network"),
    ("docker ", "asks the network"),
    ("gh ", "asks the network"),
    ("go run ", "asks the network"),
    ("pipx ", "asks the network"),
    ("pip ", "asks the network"),
    ("rustup ", "asks the network"),
    ("cargo zigbuild ", "not here, and takes minutes; tried by hand with ziglang 0.17.1"),
    ("qemu-aarch64 ", "not here; the program was tried by hand, with a role that came and went"),
];

/// Commands of kubectl and helm that are read but not executed, by words that they have.
const PARSED_ONLY: [(&str, &str); 5] = [
    (" wait ", "what it waits for would have to come first; tests/story.rs and tests/crds.rs wait"),
    (" logs ", "no pod runs here"),
    (" test ", "no pod runs here; tests/chart_lifecycle.rs runs what it would"),
    (" rollout ", "no pod runs here"),
    (" roles.iam.", "ACK and Crossplane are not here"),
];

/// Reads of what is not here.
const MISSING_HERE: [(&str, &str); 1] = [(" get lease ", "no pod runs here, so none was chosen")];

#[test]
fn every_block_is_of_a_sort_that_is_looked_at() {
    let mut unused: BTreeSet<&str> = BLOCKS_ELSEWHERE.iter().map(|(_, begin, _)| *begin).collect();
    for fence in documents().iter().flat_map(|file| fences(file)) {
        match fence.language.as_str() {
            "yaml" | "sh" | "json" => {}
            "" => assert!(!fence.text.contains("kind: "), "{}: a manifest without a language", fence.place()),
            language => {
                let known = |(l, begin, _): &&(&str, &str, &str)| *l == language && fence.text.starts_with(begin);
                let listed = BLOCKS_ELSEWHERE.iter().find(known);
                let (_, begin, _) = listed.unwrap_or_else(|| panic!("{}: what is {language}?", fence.place()));
                unused.remove(begin);
            }
        }
    }
    assert!(unused.is_empty(), "nothing begins with {unused:?} any more");
}

#[test]
fn manifests_are_taken_by_the_api_server_and_values_by_the_chart() {
    let (mut manifests, mut values) = (0, 0);
    for fence in of("yaml") {
        let text = filled(&fence.text);
        for part in text.split("\n---\n") {
            let part: Value = serde_saphyr::from_str(part).unwrap_or_else(|e| panic!("{}: {e}", fence.place()));
            if part.get("kind").is_none() {
                takes_values(&fence, &part);
                values += 1;
            } else if !GROUPS_ELSEWHERE.iter().any(|group| part["apiVersion"].as_str().unwrap().starts_with(group)) {
                takes_manifest(&fence, part);
                manifests += 1;
            }
        }
    }
    assert!(manifests >= 25 && values >= 3, "{manifests} manifests, {values} values");
}

fn of(language: &str) -> Vec<Fence> {
    documents().iter().flat_map(|file| fences(file)).filter(|fence| fence.language == language).collect()
}

fn takes_manifest(fence: &Fence, mut object: Value) {
    if object["metadata"].get("namespace").is_some() {
        object["metadata"]["namespace"] = json!("default");
    }
    // The namespace of the whole test run; a class by one of these names may be there.
    let name = format!("manual-{}", object["metadata"]["name"].as_str().unwrap());
    object["metadata"]["name"] = json!(name);
    let arguments = ["create", "-n", "default", "--dry-run=server", "--validate=strict", "-f", "-"];
    let taken = kubectl(&arguments, &object.to_string());
    assert!(taken.ok, "{}: {}", fence.place(), taken.stderr);
}

fn takes_values(fence: &Fence, values: &Value) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("values-{}.json", fence.line));
    std::fs::write(&file, values.to_string()).unwrap();
    let rendered = helm(&["template", "x", "charts/iamrole-operator", "--values", file.to_str().unwrap()]);
    assert!(rendered.ok, "{}: {}", fence.place(), rendered.stderr);
}

#[test]
fn a_shell_reads_each_block_for_it() {
    for fence in of("sh") {
        let read = Command::new("sh").args(["-n", "-c", &filled(&fence.text)]).output().unwrap();
        assert!(read.status.success(), "{}: {}", fence.place(), String::from_utf8_lossy(&read.stderr));
    }
}

#[test]
fn json_is_json() {
    for fence in of("json") {
        let json: Result<Value, _> = serde_json::from_str(&filled(&fence.text));
        assert!(json.is_ok(), "{}: {json:?}", fence.place());
    }
}

/// What the API server takes may still be nonsense to the operator.
#[tokio::test]
async fn roles_in_the_documentation_are_understood_by_the_operator() {
    let world = World::with_class("manual", |class| {
        class.workload_identity = serde_json::from_value(json!({ "mechanism": "IRSA" })).unwrap();
    })
    .await;
    let mut names = Vec::new();
    for fence in of("yaml") {
        for part in filled(&fence.text).split("\n---\n") {
            let mut object: Value = serde_saphyr::from_str(part).unwrap();
            if object["kind"] != "IamRole" {
                continue;
            }
            // Names in AWS are not to be shared, and classes are others'.
            let spec = object["spec"].as_object_mut().unwrap();
            spec.remove("roleClassName");
            if let Some(name) = spec.get_mut("roleName") {
                *name = json!(format!("{}-{}", world.namespace, names.len()));
            }
            let name = format!("role-{}", names.len());
            world.create(&name, object["spec"].clone()).await;
            names.push((name, fence.place()));
        }
    }
    assert!(names.len() >= 15, "{names:?}");
    for (name, place) in names {
        let judged = world.until(&name, "a word of the operator", |role| {
            condition(role, "Ready").is_some_and(|ready| {
                ready.observed_generation == role.metadata.generation && ready.reason != "Reconciling"
            })
        });
        let role = judged.await;
        let ready = condition(&role, "Ready").unwrap();
        let wrong =
            ["InvalidSpec", "NotAllowed", "PolicyRejected", "Rejected", "Unavailable"].contains(&ready.reason.as_str());
        assert!(!wrong, "{place}: {}: {}", ready.reason, ready.message);
    }
}

/// Commands that stand within a line of text.
fn mentioned(file: &str) -> Vec<Fence> {
    let text = read(file);
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        // Every second piece is within backticks.
        for piece in line.split('`').skip(1).step_by(2).filter(|_| !fenced) {
            if ["kubectl ", "helm ", "iamrole ", "aws "].iter().any(|program| piece.starts_with(program))
                && !piece.contains('…')
            {
                found.push(Fence {
                    file: file.to_owned(),
                    line: number + 1,
                    language: "sh".into(),
                    text: piece.to_owned(),
                });
            }
        }
    }
    found
}

#[derive(Default)]
struct Tally {
    executed: usize,
    parsed: usize,
    aws: Vec<Vec<String>>,
    elsewhere: BTreeSet<&'static str>,
}

#[tokio::test]
async fn commands_are_executed_or_read_by_their_programs() {
    let world = World::new("manual").await;
    for name in ["orders", "thumbnails"] {
        world.create(name, json!({ "trustPolicy": ec2() })).await;
        world.ready(name).await;
    }
    let of_this_run = format!("manual={}", world.namespace);
    let legacy =
        fences("docs/adopt.md").into_iter().find(|fence| fence.name().as_deref() == Some("legacy.yaml")).unwrap();
    let legacy: Value = serde_saphyr::from_str(&legacy.text).unwrap();
    world.create("legacy", legacy["spec"].clone()).await;
    let configmap = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}]}"#;
    kubectl_ok(&["apply", "-f", "-"], configmap);
    let (mut tally, mut failed) = (Tally::default(), 0);
    for file in documents() {
        let shell: Vec<Fence> = fences(&file).into_iter().filter(|fence| fence.language == "sh").collect();
        let files = written(&file);
        for fence in shell {
            for words in commands(&fence) {
                // All that is wrong is told in one run.
                let tried = || try_out(&fence, &words, &world, &files, &mut tally);
                failed += usize::from(catch_unwind(AssertUnwindSafe(tried)).is_err());
            }
        }
        for fence in mentioned(&file) {
            // A verb alone is a word about the program and no command, and so is one for a kind without a name.
            let words = commands(&fence).remove(0);
            if words[0] == "kubectl" && words.len() > 3 && file != "docs/design.md" {
                asks_for_what_there_is(&fence, &words, &files);
            }
            match words[0].as_str() {
                "iamrole" => drop(words.get(1).map(|verb| parse_iamrole(&fence, &[verb.clone(), "--help".into()]))),
                "aws" if words.len() > 3 => tally.aws.push(words),
                "aws" => {}
                _ => parse(&fence, &words, &mut tally),
            }
        }
    }
    kubectl_ok(&["delete", "iamroleclass", "-l", &of_this_run, "--wait=false"], "");
    assert_eq!(failed, 0, "commands failed, as told above");
    check_aws(&tally.aws);
    let listed = COMMANDS_ELSEWHERE.iter().chain(&PARSED_ONLY).chain(&MISSING_HERE);
    let listed: BTreeSet<&str> = listed.map(|(begin, _)| *begin).collect();
    let unused: Vec<_> = listed.difference(&tally.elsewhere).collect();
    assert!(unused.is_empty(), "nothing has {unused:?} any more");
    let Tally { executed, parsed, aws, .. } = tally;
    assert!(executed > 60 && parsed > 20 && aws.len() > 10, "{executed} executed, {parsed} parsed, {}", aws.len());
}

/// The files that a document tells to write, for its commands.
fn written(file: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("manual").join(file);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for fence in fences(file) {
        if let Some(name) = fence.name() {
            std::fs::write(folder.join(name), filled(&fence.text)).unwrap();
        }
    }
    folder
}

fn try_out(fence: &Fence, words: &[String], world: &World, files: &std::path::Path, tally: &mut Tally) {
    let line = words.join(" ");
    if words[0] == "kubectl" {
        asks_for_what_there_is(fence, words, files);
    }
    if let Some((begin, _)) = COMMANDS_ELSEWHERE.iter().find(|(begin, _)| line.starts_with(begin)) {
        tally.elsewhere.insert(begin);
        return;
    }
    if let Some((part, _)) = PARSED_ONLY.iter().find(|(part, _)| line.contains(part)) {
        tally.elsewhere.insert(part);
        return parse(fence, words, tally);
    }
    match words[0].as_str() {
        "kubectl" => run_kubectl(fence, words, world, files, tally),
        "helm" => run_helm(fence, words, files, tally),
        "iamrole" => {
            parse_iamrole(fence, &words[1..]);
            let run = Command::new(env!("CARGO_BIN_EXE_iamrole")).args(&words[1..]).output().unwrap();
            assert!(run.status.success(), "{}: {line}: {}", fence.place(), String::from_utf8_lossy(&run.stderr));
            tally.executed += 1;
        }
        "aws" => tally.aws.push(words.to_vec()),
        "make" => assert!(read("Makefile").contains(&format!("\n{}:", words[1])), "{}: {line}", fence.place()),
        "tests/rig/rig" => {
            assert!(usage("tests/rig/rig", "help").contains(&format!("\n  {}", words[1])), "{}: {line}", fence.place());
        }
        "hack/image" => {
            let usage = usage("hack/image", "--help");
            let unknown = words.iter().find(|word| word.starts_with("--") && !usage.contains(word.as_str()));
            assert!(unknown.is_none(), "{}: {line}", fence.place());
        }
        "sh" => {
            let told =
                |file: &String| fences(file).iter().any(|fence| fence.text.starts_with(&format!("# {}\n", words[1])));
            assert!(documents().iter().any(told), "{}: nobody is told to write {}", fence.place(), words[1]);
        }
        "cargo" => is_of_cargo(fence, &words[1..]),
        _ if line.starts_with("UPDATE_DOCS=1 cargo ") => is_of_cargo(fence, &words[2..]),
        _ => panic!("{}: what is {line}?", fence.place()),
    }
}

fn usage(script: &str, help: &str) -> String {
    let usage = Command::new(root().join(script)).arg(help).output().unwrap();
    String::from_utf8_lossy(&usage.stdout).into_owned()
}

fn is_of_cargo(fence: &Fence, words: &[String]) {
    let known = ["test", "run", "build", "install", "clippy", "fmt", "doc", "bench"];
    assert!(known.contains(&words[0].as_str()), "{}: cargo {}", fence.place(), words.join(" "));
    for pair in words.windows(2).filter(|pair| pair[0] == "--test") {
        assert!(root().join(format!("tests/{}.rs", pair[1])).exists(), "{}: no test {}", fence.place(), pair[1]);
    }
}

/// Lets the program read the command, without doing it: an unknown verb or flag is an error before `--help` counts.
fn parse(fence: &Fence, words: &[String], tally: &mut Tally) {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let mut arguments: Vec<&str> = words[1..end].iter().map(String::as_str).collect();
    arguments.push("--help");
    let read = if words[0] == "helm" { helm(&arguments) } else { kubectl(&arguments, "") };
    let verb = verb(&words[1..]);
    let line = words.join(" ");
    assert!(read.ok && read.stdout.contains(&format!("{} ", words[0])), "{}: {line}: {}", fence.place(), read.stderr);
    assert!(read.stdout.contains(verb), "{}: {line}: no such command", fence.place());
    tally.parsed += 1;
}

/// The subcommand, which may stand behind the namespace.
fn verb(words: &[String]) -> &str {
    let place = |(at, word): &(usize, &String)| !word.starts_with('-') && (*at == 0 || words[at - 1] != "-n");
    words.iter().enumerate().find(place).map_or("", |(_, word)| word)
}

fn parse_iamrole(fence: &Fence, words: &[String]) {
    let line = [vec!["iamrole".to_owned()], words.to_vec()].concat();
    if let Err(error) = Cli::try_parse_from(&line) {
        assert!(!error.use_stderr(), "{}: {}: {error}", fence.place(), line.join(" "));
    }
}

/// Files of the document, and its namespace, as they are here.
fn here(words: &[String], world: Option<&World>, files: &std::path::Path) -> Vec<String> {
    let here = |word: &String| match world {
        Some(world) if word == "shop" => world.namespace.clone(),
        Some(world) => word.replace("=shop", &format!("={}", world.namespace)),
        None => word.clone(),
    };
    let path = |word: String| {
        let path = files.join(&word);
        if path.is_file() { path.to_str().unwrap().to_owned() } else { word }
    };
    words[1..].iter().map(here).map(path).collect()
}

/// The class that is called so here: this test's, the chart's, or another one that serves nobody.
fn class_here(name: &str, world: &World) -> String {
    match name {
        "orders" => return world.namespace.clone(),
        "default" => return name.to_owned(),
        flag if flag.starts_with('-') => return name.to_owned(),
        _ => {}
    }
    let here = format!("{}-{}", world.namespace, name.to_lowercase());
    let class = json!({
        "apiVersion": "iamrole.dev/v1alpha1", "kind": "IamRoleClass",
        "metadata": { "name": here, "labels": { "manual": world.namespace } },
        "spec": { "controller": "nobody", "unbounded": true, "namespaceSelector": { "matchLabels": { "no": "one" } } },
    });
    kubectl_ok(&["apply", "-f", "-"], &class.to_string());
    here
}

/// The schema of a kind of ours that a command names.
fn schema(word: &str) -> Option<Value> {
    let file = match asks::resource(word) {
        "iamrole" | "iamroles" => "crds/iamroles.iamrole.dev.yaml",
        "iamroleclass" | "iamroleclasses" => "crds/iamroleclasses.iamrole.dev.yaml",
        _ => return None,
    };
    let crd: Value = serde_saphyr::from_str(&read(file)).unwrap();
    Some(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
}

/// A command must not depend on the namespace of whoever types it, and prints fields and waits for conditions that there are.
fn asks_for_what_there_is(fence: &Fence, words: &[String], files: &std::path::Path) {
    let line = words.join(" ");
    let manifest = |name: &str| std::fs::read_to_string(files.join(name)).ok();
    assert!(!asks::lacks_namespace(&words[1..], manifest), "{}: {line}: in which namespace?", fence.place());
    for condition in asks::conditions(words) {
        let known = ["Ready", "Reconciling", "Stalled", "Drifted", "IdentityBound"].contains(&condition.as_str());
        assert!(known, "{}: {line}: no condition is called {condition}", fence.place());
    }
    let schemas: Vec<Value> = words.iter().filter_map(|word| schema(word)).collect();
    for field in asks::fields(words) {
        let there = schemas.iter().any(|schema| asks::is_there(schema, &field));
        let of_all = schemas.is_empty() && asks::is_there(&Value::Null, &field);
        assert!(there || of_all, "{}: {line}: there is no {field}", fence.place());
    }
}

/// Reads are executed; writes are carried out by the API server up to the point where they would be stored.
fn run_kubectl(fence: &Fence, words: &[String], world: &World, files: &std::path::Path, tally: &mut Tally) {
    let mut arguments = here(words, Some(world), files);
    let verbs = ["get", "describe", "explain", "diff", "kustomize", "config", "auth"];
    let writes = ["apply", "create", "label", "annotate", "patch", "delete", "scale"];
    let verb = verb(&arguments).to_owned();
    let known = verbs.contains(&verb.as_str()) || writes.contains(&verb.as_str());
    assert!(known, "{}: {}", fence.place(), words.join(" "));
    if writes.contains(&verb.as_str()) {
        arguments.push("--dry-run=server".into());
    }
    if let Some(at) = arguments.iter().position(|word| word == "iamroleclass") {
        arguments[at + 1] = class_here(&arguments[at + 1], world);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = arguments.join(" ");
    let run = kubectl(&arguments, "");
    let missing = MISSING_HERE.iter().find(|(part, _)| format!(" {line}").contains(part));
    tally.elsewhere.extend(missing.map(|(part, _)| *part));
    // The namespace of this test is there, and what a page tells to apply is not.
    let is_there = verb == "create" && arguments[1] == "namespace" && run.stderr.contains("AlreadyExists");
    let is_gone = (missing.is_some() || verb == "delete" && line.contains(" -f ")) && run.stderr.contains("NotFound");
    let is_difference = verb == "diff" && run.stderr.trim().is_empty();
    assert!(run.ok || is_there || is_gone || is_difference, "{}: {line}: {}", fence.place(), run.stderr);
    assert!(!run.stderr.contains("unknown field"), "{}: {line}: {}", fence.place(), run.stderr);
    tally.executed += 1;
}

fn run_helm(fence: &Fence, words: &[String], files: &std::path::Path, tally: &mut Tally) {
    // Charts from the network, and the reader's own.
    if words.iter().any(|word| word == "--repo" || word.starts_with("oci://") || word == "CHART") {
        return parse(fence, words, tally);
    }
    let mut arguments = here(words, None, files);
    match verb(&arguments) {
        "upgrade" | "install" | "rollback" => arguments.push("--dry-run=server".into()),
        "uninstall" => arguments.push("--dry-run".into()),
        _ => {}
    }
    arguments.retain(|word| !word.starts_with("--wait"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = helm(&arguments);
    assert!(run.ok, "{}: {}: {}", fence.place(), arguments.join(" "), run.stderr);
    tally.executed += 1;
}

/// The AWS command line is not here; the models that it takes its commands from are.
fn check_aws(commands: &[Vec<String>]) {
    let script = root().join("tests/rig/check-aws");
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("aws-commands.json");
    std::fs::write(&file, json!(commands).to_string()).unwrap();
    let run = Command::new(root().join("tests/rig/rig"))
        .arg("python")
        .arg(script)
        .stdin(std::fs::File::open(file).unwrap())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
}
