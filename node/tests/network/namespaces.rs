//! Machines with a network of their own, for tests of what sockets on one machine can't show: a
//! test runs again inside network namespaces, and starts nodes on machines that are namespaces
//! themselves. It needs no privileges, and changes nothing outside the namespaces. Start with
//! [`enter`], then [`Machine::new`].

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pithead_testkit::process::{Network, TestNode};

/// Set for a test that runs inside the namespaces.
const INSIDE: &str = "NAMESPACE_TEST_INSIDE";
/// Makes the test's user root in a namespace of users, and gives it a network of its own.
const UNSHARE: [&str; 3] = ["--user", "--map-root-user", "--net"];

/// What becomes of a test where the system gives no namespaces, or lacks a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// It says so and ends.
    LeaveOut,
    /// The same, but it fails if `CI` is set, so that nobody misses that it was left out.
    FailInCi,
}

/// Whether the caller runs inside namespaces. If not, runs the test of this path again inside
/// new ones; the command `needs` has to work there.
pub(crate) fn enter(test: &str, needs: &[&str], otherwise: Otherwise) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let allowed = Command::new("unshare")
        .args(UNSHARE)
        .args(needs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        assert!(
            otherwise == Otherwise::LeaveOut || std::env::var_os("CI").is_none(),
            "no network namespaces: CI has to allow them, or this goes untested"
        );
        eprintln!("left out: this system gives no network namespaces, or has no {needs:?}");
        return false;
    }
    let output = Command::new("unshare")
        .args(UNSHARE)
        .args(["--kill-child", "--fork"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let reported = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(reported.contains("1 passed"), "it has not run: {reported}");
    false
}

/// Runs lines of shell that have to succeed, in the test's own namespace.
pub(crate) fn sh(lines: &str) {
    run(Command::new("sh").args(["-ec", lines]), lines);
}

fn run(command: &mut Command, lines: &str) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{lines}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A machine: a network namespace, held by a process that sleeps. It is gone when dropped.
pub(crate) struct Machine {
    holder: Child,
}

impl Machine {
    /// A machine without any connection but its loopback.
    pub(crate) fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo here; exec sleep 1000"]);
        let mut holder = command.stdout(Stdio::piped()).spawn().unwrap();
        // Once the process speaks, it is in its namespace.
        let mut word = [0; 4];
        let pipe = holder.stdout.as_mut().unwrap();
        pipe.read_exact(&mut word).unwrap();
        let machine = Self { holder };
        machine.sh("ip link set lo up");
        machine
    }

    /// The process by which `ip` names the namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid()));
        command.arg(program);
        command
    }

    /// Runs lines of shell that have to succeed on the machine; returns what they print.
    pub(crate) fn sh(&self, lines: &str) -> String {
        run(self.command("sh").args(["-ec", lines]), lines)
    }

    /// Starts a node on the machine that serves its API at `rpc`, and waits until it does.
    pub(crate) fn start_node(
        &self,
        network: &Network,
        dir: &Path,
        rpc: &str,
        flags: &[&str],
    ) -> TestNode {
        let mut command = self.command(env!("CARGO_BIN_EXE_pithead-node"));
        command.arg("--genesis").arg(network.path());
        command.arg("--data-dir").arg(dir);
        command.args(["--rpc-listen", rpc, "--rpc-allow-insecure"]);
        command.args(["--rpc-requests-per-minute", "0"]);
        command.args(flags).stdin(Stdio::null());
        TestNode::start_command(command, dir)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
