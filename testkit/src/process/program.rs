//! The program `pithead-node` and other programs of the workspace as commands: with the flags
//! of a test, run to their end, and what they said. A node that goes on running is a
//! [`TestNode`](super::TestNode).

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::network::Network;

/// Longest wait for anything that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at something that can only be polled.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// A new directory for a node's data.
pub fn data_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// `pithead-node` with no environment variable that could change its settings.
pub fn program() -> Command {
    let mut command = Command::new(built("pithead-node"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PITHEAD_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A program of the workspace, beside the folder of the running test; it is built if it is not
/// there yet. Cargo builds a package's own programs before that package's tests.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/PROFILE/deps/TEST
    let profile = test.parent().and_then(Path::parent).unwrap();
    let path = profile.join(name);
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--bin", name]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "{name} does not build");
    }
    path
}

/// A command that starts a node offline on a network and a directory, at a free port.
pub fn node_command(network: &Network, dir: &Path) -> Command {
    let mut command = bare_node_command(network, dir);
    command.arg("--offline");
    command
}

/// The same without `--offline`: the caller says where the node listens for others.
pub fn bare_node_command(network: &Network, dir: &Path) -> Command {
    let mut command = program();
    command.arg("--genesis").arg(network.path());
    command.arg("--data-dir").arg(dir);
    command.args(["--rpc-listen", "127.0.0.1:0"]);
    command
}

/// Runs a command to its end. A program that does not end in time is killed and fails the test.
pub fn run_to_end(command: &mut Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            signal(id, "KILL");
            panic!("the program was still running after {PATIENCE:?}");
        }
    }
}

/// Runs a command that has to fail; returns its standard error.
pub fn failure_of(command: &mut Command) -> String {
    let output = run_to_end(command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it succeeded: {text}");
    text
}

/// Runs `--verify` on a directory, which has to be in order; returns what it prints.
pub fn verify(network: &Network, dir: &Path) -> String {
    let output = run_to_end(node_command(network, dir).arg("--verify"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("everything agrees"), "{text}");
    text
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()
        .unwrap();
    assert!(status.success());
}
