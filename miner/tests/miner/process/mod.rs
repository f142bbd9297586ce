//! The real program against fake nodes.
//!
//! This file starts and ends the program; `mining`, `failover` and `command_line` are the
//! tests.

mod command_line;
mod failover;
mod mining;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use pithead_api::v1::SubmitOutcome;
use serde_json::Value;

use crate::PATIENCE;
use crate::fake_node::{FakeMiningNode, reward_text};

/// A running miner.
struct MinerProcess {
    child: Child,
    log: mpsc::Receiver<String>,
    /// The lines of the log that were read so far.
    seen: Vec<String>,
}

/// A miner that has ended.
struct ExitedMiner {
    status: ExitStatus,
    stdout: String,
    log: String,
}

impl MinerProcess {
    /// Starts a miner of one thread for these nodes.
    fn start(nodes: &[&FakeMiningNode], arguments: &[&str]) -> Self {
        let nodes: Vec<String> = nodes.iter().map(|node| node.url()).collect();
        Self::start_at(&nodes.join(","), arguments)
    }

    fn start_at(nodes: &str, arguments: &[&str]) -> Self {
        let mut child = miner_command()
            .args(["--address", &reward_text(), "--threads", "1"])
            .args(["--json-stats", "--node", nodes])
            .args(arguments)
            .env("RUST_LOG", "pithead_miner=debug")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                // The send fails if the test ends before the log does.
                let _ = sender.send(line.unwrap());
            }
        });
        Self {
            child,
            log,
            seen: Vec::new(),
        }
    }

    /// Waits for a line of the log that contains `text`.
    fn wait_log(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else {
                panic!("{text:?} never in the log:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits until the program has ended.
    fn end(mut self) -> ExitedMiner {
        let mut stdout = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        let status = self.child.wait().unwrap();
        self.seen.extend(self.log.iter());
        ExitedMiner {
            status,
            stdout,
            log: std::mem::take(&mut self.seen).join("\n"),
        }
    }

    /// Ends the program by SIGTERM and returns its summary.
    fn finish(self) -> Value {
        self.terminate();
        let ended = self.end();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

impl Drop for MinerProcess {
    fn drop(&mut self) {
        // This fails if the program has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that runs the program under test.
fn miner_command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pithead-miner"))
}

/// How many times an answer is counted in a summary.
fn count(summary: &Value, outcome: SubmitOutcome) -> u64 {
    summary["outcomes"][pithead_miner::outcome::name(outcome)]
        .as_u64()
        .unwrap_or(0)
}
