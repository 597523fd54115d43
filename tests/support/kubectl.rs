//! kubectl and helm as people use them.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub struct Output {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs kubectl against the rig; `input` is its standard input.
pub fn kubectl(arguments: &[&str], input: &str) -> Output {
    run("kubectl", arguments, input)
}

/// Runs kubectl and expects success; returns what it printed.
pub fn kubectl_ok(arguments: &[&str], input: &str) -> String {
    let output = kubectl(arguments, input);
    assert!(output.ok, "kubectl {}: {}", arguments.join(" "), output.stderr);
    output.stdout
}

/// Runs helm; it needs no cluster for `template`.
pub fn helm(arguments: &[&str]) -> Output {
    run("helm", arguments, "")
}

/// Runs Helm 3, which many still have; likewise.
pub fn helm3(arguments: &[&str]) -> Output {
    run("helm3", arguments, "")
}

fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{program}: {error}; is the rig's env sourced, and all of it built (tests/rig/rig build)?")
        });
    let mut stdin = child.stdin.take().expect("standard input");
    let input = input.to_owned();
    // From a thread: a command that prints before it has read everything would wait for us, and we for it.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("its output");
    let _ = writer.join();
    Output {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
