//! The operator as a process: the real binary with the chart's ServiceAccount token.

use super::{env, eventually};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// An operator that serves one namespace and the classes of one test.
pub struct Operator {
    /// The value of `spec.controller` of the classes that it serves.
    pub controller: String,
    /// Its cluster name.
    pub cluster: String,
    /// More namespaces that the next start serves.
    pub also: Vec<String>,
    /// More environment for the next start.
    pub environment: Vec<(String, String)>,
    /// What of the tests' own environment the next start does not see.
    pub without: Vec<&'static str>,
    /// More arguments for the next start.
    pub arguments: Vec<String>,
    /// For how long reads may lag. The emulator shows at once what was written; how AWS lags is the matrix's matter.
    pub settle: &'static str,
    /// The program.
    pub binary: std::path::PathBuf,
    /// What the next start logs.
    pub log_level: &'static str,
    namespace: String,
    endpoint: String,
    port: u16,
    log: std::path::PathBuf,
    child: Option<Child>,
}

impl Operator {
    pub fn new(namespace: &str, endpoint: &str) -> Self {
        Self::replica(namespace, "", endpoint)
    }

    /// One of several for the same namespace and classes.
    pub fn replica(namespace: &str, name: &str, endpoint: &str) -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("operators");
        std::fs::create_dir_all(&folder).expect("a folder for logs");
        Self {
            controller: format!("test/{namespace}"),
            cluster: "rig".into(),
            also: Vec::new(),
            environment: Vec::new(),
            without: Vec::new(),
            arguments: Vec::new(),
            settle: "2s",
            binary: env!("CARGO_BIN_EXE_iamrole").into(),
            log_level: "info,iamrole_operator=debug",
            namespace: namespace.into(),
            endpoint: endpoint.into(),
            port: free_port(),
            log: folder.join(format!("{namespace}{name}.log")),
            child: None,
        }
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) {
        self.spawn();
        let ready = eventually(Duration::from_secs(30), || async {
            self.get("/readyz").await.is_some_and(|(code, _)| code == 200)
        });
        assert!(ready.await, "the operator never got ready:\n{}", self.log());
    }

    /// Starts it without waiting.
    pub fn spawn(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(&self.log).expect("a log file");
        let namespaces = [std::slice::from_ref(&self.namespace), &self.also].concat().join(",");
        let mut command = Command::new(&self.binary);
        for name in &self.without {
            command.env_remove(name);
        }
        let child = command
            .args(["run", "--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--cluster-name", &self.cluster, "--watch-namespaces", &namespaces])
            .args(["--controller", &self.controller, "--log-level", self.log_level])
            .args(["--settle", self.settle])
            .args(&self.arguments)
            .env("KUBECONFIG", env("RIG_OPERATOR_KUBECONFIG"))
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the operator starts");
        self.child = Some(child);
    }

    /// SIGKILL, as a crash.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("a kill");
        }
    }

    /// A crash and a new start: all that it remembers is lost.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.start().await;
    }

    /// SIGTERM; returns the exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Waits until it ends by itself; returns the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        // The chart gives it 60.
        let ended = tokio::time::timeout(Duration::from_secs(55), child.wait()).await.expect("it ends in time");
        ended.expect("a status").code()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("a status").is_none())
    }

    /// SIGSTOP: it stands still, with all its connections open.
    pub async fn freeze(&self) {
        self.signal("STOP").await;
    }

    /// SIGCONT: it goes on where it stood.
    pub async fn thaw(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.as_ref().and_then(Child::id).expect("a running operator");
        let sent = Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status().await.expect("kill");
        assert!(sent.success());
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory so far, in KiB.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("/proc");
        let line = status.lines().find(|line| line.starts_with(what)).expect(what);
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("a running operator")
    }

    /// Where its server listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// GETs a path of its own server: status and body.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        super::proxy::get(&format!("http://127.0.0.1:{}{path}", self.port)).await
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A free port, out of the range from which the system serves those who ask for any: a proxy that is started in between
/// would get it.
fn free_port() -> u16 {
    let random = || 20_000 + u16::try_from(super::unique() % 12_000).expect("a port");
    std::iter::repeat_with(random).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
