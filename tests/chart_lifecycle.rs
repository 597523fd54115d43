//! A release from its installation to the next one under another name, by Helm 4 on a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fences;
mod support;

use fences::{fences, read};
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use support::chart::{CHART, CRDS};
use support::kubectl::{helm, kubectl, kubectl_ok};
use support::{SOON, World, ec2, env, eventually, unique};

/// A release in a namespace of its own that takes restricted pods only.
struct Release {
    name: String,
    namespace: String,
    class: String,
}

impl Release {
    fn new() -> Self {
        let name = format!("chart-{:x}", unique());
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
        kubectl_ok(&["apply", "-f", "-"], &namespace.to_string());
        Self { namespace: name.clone(), class: name.clone(), name }
    }

    /// `helm upgrade --install`. Its class serves no namespace, so that it is in no other test's way.
    fn apply(&self, more: &[&str]) {
        let class = json!({ "name": self.class, "spec": {
            "controller": "nobody", "namespaceSelector": { "matchLabels": { "iamrole.dev/enabled": null, "no": "one" } },
        } });
        self.apply_with(&class, more);
    }

    fn apply_with(&self, class: &Value, more: &[&str]) {
        let class = format!("defaultClass={class}");
        let install = ["upgrade", "--install", &self.name, CHART, "--namespace", &self.namespace, "--set-json", &class];
        let output = helm(&[&install, more].concat());
        assert!(output.ok, "{}", output.stderr);
        assert!(!output.stderr.contains("would violate"), "{}", output.stderr);
    }

    fn uninstall(&self) {
        let output = helm(&["uninstall", &self.name, "--namespace", &self.namespace]);
        assert!(output.ok, "{}", output.stderr);
    }

    fn deployment(&self) -> Value {
        let name = format!("{}-iamrole-operator", self.name);
        let text = kubectl_ok(&["get", "deployment", &name, "-n", &self.namespace, "-o", "json"], "");
        serde_json::from_str(&text).unwrap()
    }

    /// Every object of the release as it was last written.
    fn objects(&self) -> BTreeMap<String, Value> {
        let manifest = helm(&["get", "manifest", &self.name, "--namespace", &self.namespace]).stdout;
        let text = kubectl_ok(&["get", "-n", &self.namespace, "-o", "json", "-f", "-"], &manifest);
        let list: Value = serde_json::from_str(&text).unwrap();
        let mut objects = BTreeMap::new();
        for mut object in list["items"].as_array().unwrap().iter().cloned() {
            let key = format!("{} {}", object["kind"], object["metadata"]["name"]);
            object.as_object_mut().unwrap().remove("status");
            let meta = object["metadata"].as_object_mut().unwrap();
            // The controllers of Deployments and budgets write status.
            meta.remove("resourceVersion");
            meta.remove("managedFields");
            objects.insert(key, object);
        }
        objects
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        kubectl(&["delete", "namespace", &self.namespace, "--wait=false"], "");
        kubectl(&["delete", "iamroleclass", &self.class, "--wait=false"], "");
        // What is in no namespace.
        let of = format!("app.kubernetes.io/instance={}", self.name);
        for kind in
            ["clusterrole", "clusterrolebinding", "validatingadmissionpolicy", "validatingadmissionpolicybinding"]
        {
            kubectl(&["delete", kind, "-l", &of, "--wait=false"], "");
        }
    }
}

#[tokio::test]
async fn a_release_lives_and_leaves_what_roles_need() {
    let release = Release::new();
    let on = ["--set", "networkPolicy.enabled=true,grafanaDashboard.enabled=true"];
    release.apply(&on);

    let pods = || async {
        let text = kubectl_ok(&["get", "pods", "-n", &release.namespace, "-o", "name"], "");
        text.lines().count() == 2
    };
    assert!(eventually(SOON, pods).await, "two pods, where pods are restricted");
    let tester = helm(&["get", "hooks", &release.name, "--namespace", &release.namespace]).stdout;
    let taken = kubectl(&["create", "--dry-run=server", "-n", &release.namespace, "-f", "-"], &tester);
    assert!(taken.ok, "{}", taken.stderr);

    let before = release.objects();
    release.apply(&on);
    release.apply(&on);
    assert_eq!(before, release.objects(), "an upgrade without news changes nothing");
    // With these Helm hands over the null by which the values take a label away.
    let with_null = helm(&["upgrade", &release.name, CHART, "--namespace", &release.namespace, "--reuse-values"]);
    assert!(with_null.ok && before == release.objects(), "{}", with_null.stderr);
    release.apply(&[&on[..], &["--set", "commonAnnotations.a=b,service.labels.c=d"]].concat());
    let generation = |objects: &BTreeMap<String, Value>| {
        let (_, deployment) = objects.iter().find(|(key, _)| key.contains("Deployment")).unwrap();
        deployment["spec"]["template"].clone()
    };
    assert_eq!(generation(&before), generation(&release.objects()), "no pod is replaced for an annotation");
    release.apply(&[&on[..], &["--set", "log.level=debug"]].concat());
    assert!(release.deployment()["spec"]["template"].to_string().contains("--log-level=debug"));

    let secrets = kubectl_ok(&["get", "secrets", "-n", &release.namespace, "-o", "json", "-l", "owner=helm"], "");
    let secrets: Value = serde_json::from_str(&secrets).unwrap();
    let size = |secret: &Value| secret["data"]["release"].as_str().unwrap().len() * 3 / 4;
    let largest = secrets["items"].as_array().unwrap().iter().map(size).max().unwrap();
    assert!(largest < 500_000, "a release of {largest} bytes; Kubernetes takes 1 MiB");

    release.uninstall();
    for kept in [&["iamroleclass", &release.class], &["crd", "iamroles.iamrole.dev"]] {
        kubectl_ok(&[&["get"], &kept[..]].concat(), "");
    }
    let left = kubectl_ok(
        &[
            "get",
            "deployments,services,roles,pdb,networkpolicies,serviceaccounts,configmaps",
            "-n",
            &release.namespace,
            "-o",
            "name",
        ],
        "",
    );
    let ours: Vec<&str> = left.lines().filter(|name| name.contains("iamrole")).collect();
    assert!(ours.is_empty(), "{ours:?}");

    let other = Release {
        name: format!("{}-b", release.name),
        namespace: release.namespace.clone(),
        class: release.class.clone(),
    };
    let class = format!("defaultClass={}", json!({ "name": other.class }));
    let refused = helm(&["install", &other.name, CHART, "--namespace", &other.namespace, "--set-json", &class]);
    assert!(!refused.ok && refused.stderr.contains("ownership"), "{}", refused.stderr);
    helm(&["uninstall", &other.name, "--namespace", &other.namespace]);
    other.apply(&[&on[..], &["--take-ownership"]].concat());
    let class = kubectl_ok(&["get", "iamroleclass", &other.class, "-o", "json"], "");
    assert!(class.contains(&format!(r#""meta.helm.sh/release-name": "{}""#, other.name)), "{class}");
    other.uninstall();
}

/// The class of the release serves this world, and no other does.
async fn serving(release: &Release, world: &World) {
    world.classes().delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    let selector = json!({ "matchLabels": { "iamrole.dev/enabled": null, "test": world.namespace } });
    let class = json!({ "name": release.class, "spec": {
        "controller": world.operator.controller, "namespaceSelector": selector,
    } });
    release.apply_with(&class, &["--set", "replicas=1,leaderElection=false"]);
}

/// The commands of a document, for this release, its class and the role of the same name.
fn done(file: &str, words: &str, release: &Release, world: &World) {
    let chart = "charts/iamrole-operator ";
    let commands = told(file, words)
        .replace(&format!("upgrade iamrole-operator {chart}"), &format!("upgrade {} {chart}", release.name))
        .replace("iamrole-system", &release.namespace)
        .replace("NAMESPACE", &world.namespace)
        .replace("NAME", &release.name);
    let shell = Command::new("sh").args(["-e", "-c", &commands]).output().unwrap();
    assert!(shell.status.success(), "{commands}: {}", String::from_utf8_lossy(&shell.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_serves_is_stopped_started_and_upgraded_as_the_documents_tell() {
    let release = Release::new();
    let mut world = World::without_operator("release", |_| {}).await;
    serving(&release, &world).await;
    world.operator.start().await;
    world.create(&release.name, json!({ "trustPolicy": ec2() })).await;
    world.ready(&release.name).await;
    let seen = || async { release.deployment()["metadata"]["annotations"].to_string().contains("/revision") };
    assert!(eventually(SOON, seen).await, "Kubernetes has seen the Deployment");
    // Both keep the null by which the values take a label away, and with --reuse-values the chart gets it.
    let again = || {
        for reuse in ["--reset-then-reuse-values", "--reuse-values"] {
            let output = helm(&["upgrade", &release.name, CHART, reuse, "--namespace", &release.namespace]);
            assert!(output.ok, "{reuse}: {}", output.stderr);
        }
    };
    let replicas = || release.deployment()["spec"]["replicas"].clone();
    let before = release.objects();
    again();
    assert_eq!(before, release.objects(), "an upgrade without news changes nothing of a class that serves");

    done("charts/iamrole-operator/README.md", "leaderElection=true", &release, &world);
    again();
    assert!(replicas() == 2 && release.deployment().to_string().contains("--leader-elect=true"));
    done("docs/operate.md", "--set replicas=0", &release, &world);
    world.reason(&release.name, "Suspended").await;
    again();
    assert_eq!(replicas(), 0);
    done("docs/operate.md", "--set replicas=2", &release, &world);
    world.ready(&release.name).await;
    again();
    assert_eq!(replicas(), 2);
    // The class stays for the role, and goes with it.
    world.delete(&release.name).await;
    world.gone(&release.name).await;
}

#[test]
fn what_kubectl_changed_of_the_values_does_not_last_or_stops_an_upgrade_as_told() {
    let release = Release::new();
    release.apply(&[]);
    let name = format!("{}-iamrole-operator", release.name);
    let upgrade = ["upgrade", &release.name, CHART, "--namespace", &release.namespace, "--reuse-values"];
    let after = |replicas: &str, more: &[&str]| {
        kubectl_ok(&["scale", "deployment", &name, "-n", &release.namespace, "--replicas", replicas], "");
        helm(&[&upgrade[..], more].concat())
    };
    let back = after("0", &[]);
    assert!(back.ok && release.deployment()["spec"]["replicas"] == 2, "it did last: {}", back.stderr);
    let stopped = after("3", &[]);
    assert!(!stopped.ok && stopped.stderr.contains(".spec.replicas"), "it is no conflict: {}", stopped.stderr);
    let forced = after("4", &["--force-conflicts"]);
    assert!(forced.ok && release.deployment()["spec"]["replicas"] == 2, "{}", forced.stderr);
    for file in ["docs/operate.md", "charts/iamrole-operator/README.md"] {
        let scales = fences(file).iter().any(|fence| fence.text.contains(" scale "));
        assert!(!scales && read(file).contains("another\nnumber than 0, it ends in a conflict"), "{file}");
    }
}

/// The commands of the notes that come with a document of their own, up to the next empty line.
fn pasted(notes: &str) -> String {
    let lines = notes.lines().skip_while(|line| !line.contains("<<"));
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_notes_tell_how_the_class_is_opened_that_there_is() {
    let opening = |settings: &[&str]| {
        let sets: Vec<&str> = settings.iter().flat_map(|setting| ["--set-json", setting]).collect();
        let install = ["install", "x", CHART, "--dry-run=client", "--namespace", "n"];
        let output = helm(&[&install, &sets[..]].concat());
        assert!(output.ok, "{}", output.stderr);
        let (_, rest) = output.stdout.split_once("\n3. ").expect("a third step");
        rest.split_once("\n4. ").expect("a fourth").0.to_owned()
    };
    let selector = |selector: &str| opening(&[&format!("defaultClass.spec.namespaceSelector={selector}")]);
    let label = "kubectl label namespace NAMESPACE ";
    assert!(selector("{}").contains(&format!("{label}iamrole.dev/enabled=true\n")));
    let all = selector(r#"{"matchLabels":null}"#);
    assert!(all.contains("Every namespace may use the class \"default\"") && !all.contains("label"), "{all}");
    let other = selector(r#"{"matchLabels":{"iamrole.dev/enabled":null,"team":"a","stage":"b"}}"#);
    assert!(other.contains(&format!("{label}stage=b team=a\n")) && !other.contains("tenants"), "{other}");
    let by_rule = r#"{"matchLabels":null,"matchExpressions":[{"key":"team","operator":"Exists"}]}"#;
    assert!(selector(by_rule).contains("the labels that the class's namespaceSelector asks for"));
    let some = r#"watchNamespaces=["a","b"]"#;
    let served = "The operator serves these namespaces and no other: a, b.";
    for more in
        ["enabled=true", "defaultClass.create=false", r#"defaultClass.spec.namespaceSelector={"matchLabels":null}"#]
    {
        assert!(opening(&[some, more]).contains(served), "{more}");
        assert!(!opening(&[more]).contains("no other"), "{more}");
    }
}

#[test]
fn what_the_notes_tell_to_paste_is_taken_by_a_shell() {
    let release = Release::new();
    release.apply(&[]);
    let notes = helm(&["get", "notes", &release.name, "--namespace", &release.namespace]).stdout;
    let commands = pasted(&notes).replace("NAMESPACE", &release.namespace);
    // Nothing serves the role: what waits for it is only to be reached.
    let script = format!(
        "kubectl() {{ case \" $* \" in *' apply '*) command kubectl \"$@\" --dry-run=server ;; *) echo \"then: $*\" ;; esac; }}\n\
         {commands}\necho the end\n"
    );
    let shell = Command::new("sh").args(["-e", "-c", &script]).output().unwrap();
    let (told, wrong) = (String::from_utf8_lossy(&shell.stdout), String::from_utf8_lossy(&shell.stderr));
    assert!(shell.status.success() && wrong.is_empty(), "{wrong}{notes}");
    assert!(told.contains("iamrole.iamrole.dev/reader created (server dry run)"), "{told}");
    assert!(told.contains(" wait iamroles/reader ") && told.ends_with("the end\n"), "{told}");
}

#[tokio::test]
async fn the_crds_chart_takes_over_and_stays_when_it_goes() {
    let release = Release::new();
    let install = ["upgrade", "--install", &release.name, CRDS, "--namespace", &release.namespace];
    for _ in 0..2 {
        let output = helm(&[&install[..], &["--take-ownership", "--force-conflicts"]].concat());
        assert!(output.ok, "{}", output.stderr);
    }
    release.uninstall();
    kubectl_ok(&["get", "crd", "iamroles.iamrole.dev", "iamroleclasses.iamrole.dev"], "");
}

/// The CRDs with another group and other names, so that nobody who asks for ours gets these.
fn write_crds(group: &str, folder: &Path, change: impl Fn(&mut Value)) {
    std::fs::create_dir_all(folder).unwrap();
    for name in ["iamroles", "iamroleclasses"] {
        let shipped = std::fs::read_to_string(format!("crds/{name}.iamrole.dev.yaml")).unwrap();
        let mut crd: Value = serde_saphyr::from_str(&shipped).unwrap();
        crd["metadata"]["name"] = json!(format!("old{name}.{group}"));
        crd["spec"]["group"] = json!(group);
        crd["spec"]["names"] = json!({ "kind": format!("Old{name}"), "plural": format!("old{name}") });
        change(&mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]);
        std::fs::write(folder.join(format!("{name}.yaml")), crd.to_string()).unwrap();
    }
}

/// The commands of the only block for a shell in a document that has these words.
fn told(file: &str, words: &str) -> String {
    let blocks: Vec<_> = fences(file).into_iter().filter(|fence| fence.text.contains(words)).collect();
    assert_eq!(blocks.len(), 1, "{file}: {words}");
    blocks[0].text.clone()
}

/// Does what a document tells, after older CRDs came by `before`; a copy of the charts is where the document expects them.
fn new_fields_come(before: &str, tell: &str) {
    let release = Release::new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&release.name);
    let group = format!("{}.example", release.name);
    let (chart, crds) = (folder.join(CHART), folder.join(CRDS));
    std::fs::create_dir_all(crds.join("templates")).unwrap();
    for file in ["Chart.yaml", "values.yaml", "values.schema.json", "templates/crds.yaml"] {
        std::fs::copy(Path::new(CRDS).join(file), crds.join(file)).unwrap();
    }
    write_crds(&group, &crds.join("files"), |_| {});
    write_crds(&group, &chart.join("crds"), |fields| drop(fields.as_object_mut().unwrap().remove("description")));
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: iamrole-operator\nversion: 0.0.1\n").unwrap();

    let shell = |commands: &str| {
        let commands = commands.replace("iamrole-system", &release.namespace);
        let done = Command::new("sh").args(["-e", "-c", &commands]).current_dir(&folder).output().unwrap();
        assert!(done.status.success(), "{before}; {commands}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let crd = format!("oldiamroles.{group}");
    let has_field = || kubectl_ok(&["get", "crd", &crd, "-o", "json"], "").contains("Description of the role. Absent");
    shell(before);
    assert!(!has_field(), "{before}");
    write_crds(&group, &chart.join("crds"), |_| {});
    shell(tell);
    assert!(has_field(), "{before}; {tell}");
    kubectl_ok(&["delete", "crd", &crd, &format!("oldiamroleclasses.{group}"), "--wait=false"], "");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn crds_of_an_older_version_get_new_fields_by_the_commands_of_the_documents() {
    let old = "install old charts/iamrole-operator --namespace iamrole-system";
    let (old3, old) = (format!("helm3 {old}"), format!("helm {old}"));
    let upgrade = told("docs/operate.md", "helm upgrade --install iamrole-operator-crds");
    let apply = told("charts/iamrole-operator/README.md", "charts/iamrole-operator/crds/");
    new_fields_come(&old, &upgrade);
    new_fields_come(&old, &apply);
    new_fields_come(&old3, &upgrade);
    new_fields_come(&old3, &upgrade.replace("helm upgrade", "helm3 upgrade"));
    // What kubectl applied last.
    assert!(read("docs/operate.md").contains("add `--force-conflicts`"));
    new_fields_come(&apply, &format!("{} --force-conflicts", upgrade.trim_end()));
}

/// What `helm test` runs, as the operator's pod would.
fn check(controller: &str, arguments: &[&str], endpoint: &str) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_iamrole"))
        .arg("check")
        .args(arguments)
        .env("IAMROLE_CONTROLLER", controller)
        .env("KUBECONFIG", env("RIG_OPERATOR_KUBECONFIG"))
        .env("AWS_ENDPOINT_URL", endpoint)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_test_tells_a_good_installation_from_a_bad_one() {
    let world = World::new("check").await;
    let controller = &world.operator.controller;
    let address = world.operator.address();
    let operator = format!("--operator={address}");
    let endpoint = world.proxy.url();
    let (good, text) = check(controller, &[&operator], &endpoint);
    assert!(good, "{text}");
    for part in [address.as_str(), "arn:aws:", &world.namespace] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let short = "--timeout=2s";
    let (good, text) = check(controller, &["--operator=127.0.0.1:1", short], &endpoint);
    assert!(!good && text.contains("http://127.0.0.1:1/readyz"), "{text}");
    // No credentials, as in a pod without an identity.
    let (good, text) = check_without_identity(&[&operator, short]);
    assert!(!good && text.contains("the AWS identity") && text.contains("docs/permissions.md"), "{text}");

    world.patch_class(json!({ "account": { "id": "999999999999" } })).await;
    let fails = || async {
        let (good, text) = check(controller, &["--timeout=0s"], &endpoint);
        assert!(!good, "also before the operator has looked at what was changed: {text}");
        text.contains("AccountMismatch")
    };
    assert!(eventually(SOON, fails).await, "a class that can't be used");
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_test_takes_no_class_for_good_before_the_operator_says_so_of_what_it_is_now() {
    let mut world = World::without_operator("unlooked", |_| {}).await;
    let (controller, endpoint) = (world.operator.controller.clone(), world.proxy.url());
    let look = || check(&controller, &["--timeout=0s"], &endpoint);
    let is_unseen = |text: &str| text.contains("nobody has looked at it") && text.contains(&world.namespace);
    let (good, text) = look();
    assert!(!good && is_unseen(&text), "made, and no operator is there: {text}");

    world.operator.start().await;
    let (good, text) = check(&controller, &[], &endpoint);
    assert!(good, "it waits until it is looked at: {text}");
    world.operator.stop().await;
    world.patch_class(json!({ "tags": { "a": "b" } })).await;
    let (good, text) = look();
    assert!(!good && is_unseen(&text), "changed, and no operator is there: {text}");

    world.operator.start().await;
    let (good, text) = check(&controller, &[], &endpoint);
    assert!(good, "{text}");
    world.operator.stop().await;
    let mut class = world.classes().get(&world.namespace).await.unwrap();
    for condition in &mut class.status.as_mut().unwrap().conditions {
        "Unknown".clone_into(&mut condition.status);
    }
    world.classes().replace_status(&world.namespace, &PostParams::default(), &class).await.unwrap();
    let (good, text) = look();
    assert!(!good && text.contains("IamRoleClass") && text.contains("Applied"), "not known: {text}");
}

fn check_without_identity(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_iamrole"))
        .arg("check")
        .args(arguments)
        .env("KUBECONFIG", env("RIG_OPERATOR_KUBECONFIG"))
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}
