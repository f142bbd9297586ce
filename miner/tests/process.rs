//! The real program against fake nodes: what it does when all goes well, and
//! when work changes, nodes die, come back, refuse or talk nonsense.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod fake_node;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fake_node::{EASY_BITS, Event, FakeNode, Port, Say, WorkSpec, reward_address, reward_text};
use pithead_api::v1::SubmitOutcome;
use pithead_consensus::block::VERSION_ROLL_MASK;
use serde_json::Value;
use tonic::Status;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running miner.
struct Miner {
    child: Child,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
}

struct Ended {
    status: ExitStatus,
    stdout: String,
    log: String,
}

impl Miner {
    fn start(nodes: &[&FakeNode], arguments: &[&str]) -> Self {
        let nodes: Vec<String> = nodes.iter().map(|node| node.url()).collect();
        Self::start_at(&nodes.join(","), arguments)
    }

    fn start_at(nodes: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pithead-miner"))
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
                // The end of the test may come before that of the log.
                let _ = sender.send(line.unwrap());
            }
        });
        Self {
            child,
            log,
            seen: Vec::new(),
        }
    }

    /// Waits for a line of the log.
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

    /// Waits for its end.
    fn end(mut self) -> Ended {
        let mut stdout = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        let status = self.child.wait().unwrap();
        self.seen.extend(self.log.iter());
        Ended {
            status,
            stdout,
            log: std::mem::take(&mut self.seen).join("\n"),
        }
    }

    /// Ends it by SIGTERM; gives its summary.
    fn finish(self) -> Value {
        self.terminate();
        let ended = self.end();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count(summary: &Value, outcome: SubmitOutcome) -> u64 {
    summary["outcomes"][pithead_miner::outcome::name(outcome)]
        .as_u64()
        .unwrap_or(0)
}

#[test]
fn finds_shares_and_says_who_it_is() {
    let mut node = FakeNode::start(WorkSpec::default());
    let miner = Miner::start(&[&node], &["--worker", "rig-1"]);
    let subscribed = node.wait_subscribed();
    assert_eq!(subscribed.reward_address, reward_text());
    assert_eq!(subscribed.worker, "rig-1");
    assert_eq!(subscribed.agent, pithead_miner::AGENT);
    for _ in 0..3 {
        let share = node.wait("a share", |event| match event {
            Event::Submitted {
                request,
                is_share,
                authorization,
                ..
            } => {
                assert!(is_share, "{request:?}");
                assert_eq!(authorization, None);
                Some(request)
            }
            _ => None,
        });
        assert!((1_600_000_000..=1_800_000_000).contains(&share.time));
        assert!(share.first_hash_ms.is_some());
        assert_eq!(share.version & !VERSION_ROLL_MASK, 0x2000_0000);
    }
    let report = node.wait("telemetry", |event| match event {
        Event::Telemetry(report) => Some(report),
        _ => None,
    });
    assert_eq!(report.worker, "rig-1");
    assert_eq!(report.reward_address, reward_text());
    let telemetry = report.telemetry.unwrap();
    pithead_miner::kernel::by_name(&telemetry.kernel).unwrap();
    assert!(telemetry.threads > 0 && telemetry.hash_rate > 0.0);
    let summary = miner.finish();
    assert!(summary["accepted_shares"].as_u64().unwrap() >= 3);
    assert_eq!(summary["accepted_blocks"], 0);
    assert_eq!(summary["connections"], 1);
    assert!(summary["hashes"].as_u64().unwrap() > 0);
}

#[test]
fn stops_after_the_blocks_asked_for_and_follows_every_new_tip() {
    let mut node = FakeNode::start(WorkSpec {
        bits: EASY_BITS,
        ..WorkSpec::default()
    });
    node.advance_after_blocks();
    let miner = Miner::start(&[&node], &["--blocks", "5"]);
    let mut works = Vec::new();
    for _ in 0..5 {
        works.push(
            node.wait_answer("a block", SubmitOutcome::AcceptedBlock)
                .work_id,
        );
    }
    let ended = miner.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    // Each block was found on work for its own height.
    assert_eq!(works, ["work-1", "work-2", "work-3", "work-4", "work-5"]);
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(summary["accepted_blocks"], 5);
    assert_eq!(ended.log.matches("block found").count(), 5);
    assert!(ended.log.contains("50 PIT"));
}

#[test]
fn switches_to_new_work_whether_it_is_clean_or_not() {
    let mut node = FakeNode::start(WorkSpec::default());
    let miner = Miner::start(&[&node], &[]);
    for (work, clean) in [("work-1", true), ("work-2", false), ("work-3", true)] {
        node.wait("a share for the newest work", |event| match event {
            Event::Submitted { request, .. } => (request.work_id == work).then_some(()),
            _ => None,
        });
        node.push_work(|spec| {
            spec.clean = clean;
            spec.height += u64::from(clean);
        });
    }
    node.wait("a share for the last work", |event| match event {
        Event::Submitted { request, .. } => (request.work_id == "work-4").then_some(()),
        _ => None,
    });
    let summary = miner.finish();
    assert_eq!(summary["work_items"], 4);
    assert_eq!(summary["rejected"], 0);
}

#[test]
fn counts_every_answer_by_itself() {
    let mut node = FakeNode::start(WorkSpec::default());
    node.say(
        pithead_miner::outcome::OUTCOMES
            .into_iter()
            .filter(|outcome| *outcome != SubmitOutcome::AcceptedShare)
            .map(|outcome| Say::Outcome(outcome as i32)),
    );
    // From a node newer than this miner.
    node.say([Say::Outcome(77)]);
    let miner = Miner::start(&[&node], &[]);
    // The script is used up when the node judges by itself again.
    node.wait_answer("a share", SubmitOutcome::AcceptedShare);
    // The end waits for all answers.
    miner.terminate();
    let ended = miner.end();
    let seen = ended.log;
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    for outcome in pithead_miner::outcome::OUTCOMES {
        match outcome {
            SubmitOutcome::AcceptedShare => {}
            SubmitOutcome::Unspecified => assert_eq!(count(&summary, outcome), 2),
            _ => assert_eq!(count(&summary, outcome), 1, "{outcome:?}"),
        }
        assert!(
            seen.contains(pithead_miner::outcome::explain(outcome)),
            "{outcome:?} is not explained:\n{seen}"
        );
    }
    assert_eq!(summary["accepted_blocks"], 1);
    assert_eq!(summary["stale"], 3);
    assert_eq!(summary["rejected"], 7);
    assert_eq!(summary["failed"], 0);
}

#[test]
fn a_failed_call_is_never_a_rejection() {
    let mut node = FakeNode::start(WorkSpec::default());
    node.say([
        Say::Status(Status::resource_exhausted("too busy")),
        Say::Status(Status::internal("disk full")),
    ]);
    let mut miner = Miner::start(&[&node], &[]);
    miner.wait_log("asking again in 500ms");
    miner.wait_log("did not judge the solution: disk full");
    node.wait_answer("a share", SubmitOutcome::AcceptedShare);
    let summary = miner.finish();
    assert_eq!(summary["rejected"], 0);
    assert_eq!(summary["failed"], 1);
    assert_eq!(summary["connections"], 1);
}

#[test]
fn a_solution_survives_a_broken_connection() {
    let mut node = FakeNode::start(WorkSpec::default());
    node.say([Say::Status(Status::unavailable("going away"))]);
    let mut miner = Miner::start(&[&node], &[]);
    let first = node.wait("a solution", |event| match event {
        Event::Submitted {
            request,
            answer: None,
            ..
        } => Some(request),
        _ => None,
    });
    miner.wait_log("connection lost: going away");
    let again = node.wait("the same solution again", |event| match event {
        Event::Submitted {
            request, answer, ..
        } if request.nonce == first.nonce && request.extra_nonce == first.extra_nonce => {
            Some((request.work_id, answer))
        }
        _ => None,
    });
    assert_eq!(again, (first.work_id, Some(SubmitOutcome::AcceptedShare)));
    let summary = miner.finish();
    assert_eq!(summary["connections"], 2);
    assert_eq!(summary["rejected"], 0);
    assert_eq!(summary["failed"], 0);
}

#[test]
fn survives_its_nodes_restart() {
    let mut node = FakeNode::start(WorkSpec::default());
    let mut miner = Miner::start(&[&node], &[]);
    node.wait_answer("a share", SubmitOutcome::AcceptedShare);
    for remembers in [true, false] {
        node.restart(remembers);
        miner.wait_log("connection lost");
        node.wait_subscribed();
        node.wait_answer("a share after the restart", SubmitOutcome::AcceptedShare);
    }
    let summary = miner.finish();
    assert_eq!(summary["connections"], 3);
    // What was found meanwhile is unknown to the node now: not a rejection.
    assert_eq!(summary["rejected"], 0);
}

#[test]
fn fails_over_to_the_next_node_and_back() {
    let mut first = FakeNode::start(WorkSpec::default());
    let mut second = FakeNode::start(WorkSpec {
        // Other work under the same names.
        prefix: [0xbb; 4],
        ..WorkSpec::default()
    });
    let mut miner = Miner::start(&[&first, &second], &[]);
    first.wait_answer("a share for the first", SubmitOutcome::AcceptedShare);
    // It goes away with one solution under way.
    first.say([Say::Status(Status::unavailable("going away"))]);
    miner.wait_log("connection lost: going away");
    first.stop();
    second.wait_answer("a share for the second", SubmitOutcome::AcceptedShare);
    first.restart(false);
    second.stop();
    first.wait_answer("a share for the first again", SubmitOutcome::AcceptedShare);
    let summary = miner.finish();
    assert_eq!(summary["connections"], 3);
    // Solutions for one node's work are never handed to the other.
    assert_eq!(summary["rejected"], 0);
    assert!(summary["lost"].as_u64().unwrap() >= 1);
}

#[test]
fn goes_past_a_node_that_is_syncing_or_has_the_wrong_work() {
    let mut syncing = FakeNode::start(WorkSpec::default());
    syncing.refuse(Some(Status::unavailable("syncing: 12 blocks behind")));
    let wrong = FakeNode::start(WorkSpec {
        reward_address: pithead_consensus::Address([9; 32]),
        ..WorkSpec::default()
    });
    let mut good = FakeNode::start(WorkSpec::default());
    let mut miner = Miner::start(&[&syncing, &wrong, &good], &[]);
    syncing.wait_subscribed();
    miner.wait_log("syncing: 12 blocks behind");
    miner.wait_log("pays another address");
    good.wait_answer("a share", SubmitOutcome::AcceptedShare);
    miner.finish();
}

#[test]
fn an_address_that_the_node_refuses_ends_it_with_status_2() {
    let node = FakeNode::start(WorkSpec::default());
    node.refuse(Some(Status::invalid_argument(
        "reward_address: this network's addresses start with \"tpit\"",
    )));
    let ended = Miner::start(&[&node], &[]).end();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.log);
    assert!(ended.log.contains("start with \"tpit\""), "{}", ended.log);
    assert_eq!(ended.stdout, "");
}

/// What one node finds wrong is no reason to leave the others.
#[test]
fn goes_past_a_node_that_refuses_the_address() {
    let refusing = FakeNode::start(WorkSpec::default());
    refusing.refuse(Some(Status::invalid_argument("reward_address: not mine")));
    let mut good = FakeNode::start(WorkSpec::default());
    let mut miner = Miner::start(&[&refusing, &good], &[]);
    miner.wait_log("does not accept what this miner asks for");
    good.wait_answer("a share", SubmitOutcome::AcceptedShare);
    // Later neither: one of them has given work, so this may pass.
    good.refuse(Some(Status::invalid_argument("reward_address: not mine")));
    good.end_subscriptions();
    miner.wait_log("connection lost");
    for _ in 0..4 {
        miner.wait_log("does not accept what this miner asks for");
    }
    good.refuse(None);
    good.wait_answer("a share again", SubmitOutcome::AcceptedShare);
    miner.finish();
}

#[test]
fn ends_once_every_node_refuses_the_address() {
    let nodes = [(); 2].map(|()| FakeNode::start(WorkSpec::default()));
    for node in &nodes {
        node.refuse(Some(Status::invalid_argument("reward_address: not mine")));
    }
    let ended = Miner::start(&[&nodes[0], &nodes[1]], &[]).end();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.log);
    assert_eq!(ended.log.matches("does not accept").count(), 2);
}

/// Two nodes that give work and hang up are not asked as fast as they answer.
#[test]
fn pauses_between_nodes_that_are_of_no_use() {
    let nodes = [(); 2].map(|()| FakeNode::start(WorkSpec::default()));
    for node in &nodes {
        node.end_subscriptions_at_once();
        // No solution of it counts in its favour either.
        node.say((0..1_000).map(|_| Say::Outcome(SubmitOutcome::StaleWork as i32)));
    }
    let mut miner = Miner::start(&[&nodes[0], &nodes[1]], &[]);
    for _ in 0..6 {
        miner.wait_log("the node ended the subscription");
    }
    let log = miner.seen.join("\n");
    // One before every connection but the first.
    assert_eq!(log.matches("next attempt in").count(), 5, "{log}");
    miner.finish();
}

/// A block without transactions is whole: any node can judge it.
#[test]
fn a_block_for_a_lost_node_goes_to_the_next() {
    let easy = || WorkSpec {
        bits: EASY_BITS,
        ..WorkSpec::default()
    };
    let mut first = FakeNode::start(easy());
    let mut second = FakeNode::start(WorkSpec::default());
    first.say([Say::Status(Status::unavailable("going away"))]);
    let miner = Miner::start(&[&first, &second], &[]);
    let found = first.wait("a block", |event| match event {
        Event::Submitted {
            request,
            answer: None,
            is_block: true,
            ..
        } => Some(request),
        _ => None,
    });
    loop {
        let block = second.wait_block();
        assert_eq!(block.commitment.reward_address, reward_address());
        assert!(block.transactions.is_empty());
        if (block.header.nonce, block.header.version) == (found.nonce, found.version) {
            break;
        }
    }
    let summary = miner.finish();
    assert!(summary["accepted_blocks"].as_u64().unwrap() >= 1);
    assert_eq!(summary["rejected"], 0);
}

#[test]
fn a_block_with_transactions_for_a_lost_node_is_told_of() {
    let mut first = FakeNode::start(WorkSpec {
        bits: EASY_BITS,
        transaction_count: 1,
        ..WorkSpec::default()
    });
    let mut second = FakeNode::start(WorkSpec::default());
    first.say([Say::Status(Status::unavailable("going away"))]);
    let mut miner = Miner::start(&[&first, &second], &[]);
    first.wait_subscribed();
    miner.wait_log("block lost: only the node that gave its work has its transactions");
    second.wait_answer("a share", SubmitOutcome::AcceptedShare);
    let summary = miner.finish();
    assert!(summary["lost"].as_u64().unwrap() >= 1);
}

#[test]
fn a_block_for_work_that_its_node_has_forgotten_is_handed_in_whole() {
    let mut node = FakeNode::start(WorkSpec {
        bits: EASY_BITS,
        ..WorkSpec::default()
    });
    node.say([Say::Outcome(SubmitOutcome::UnknownWork as i32)]);
    let miner = Miner::start(&[&node], &["--blocks", "1"]);
    let found = node.wait("a block", |event| match event {
        Event::Submitted { request, .. } => Some(request),
        _ => None,
    });
    let block = node.wait_block();
    assert_eq!(block.header.nonce, found.nonce);
    assert_eq!(block.header.version, found.version);
    let ended = miner.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(count(&summary, SubmitOutcome::AcceptedBlock), 1);
    assert_eq!(count(&summary, SubmitOutcome::UnknownWork), 0);
}

/// Whatever the workers find until they have ended reaches the node.
#[test]
fn the_end_of_a_run_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for run in 0..5 {
        let trace = folder.path().join(format!("trace-{run}"));
        let mut node = FakeNode::start(WorkSpec {
            bits: EASY_BITS,
            // Every batch finds some.
            share_hashes: 64,
            ..WorkSpec::default()
        });
        let trace_flags = ["--trace-ranges", trace.to_str().unwrap()];
        let miner = Miner::start(&[&node], &trace_flags);
        node.wait_answer("a block", SubmitOutcome::AcceptedBlock);
        miner.finish();
        let trace = std::fs::read_to_string(&trace).unwrap();
        let hashes = |line: &'static str, at: usize| {
            let lines = trace.lines().filter(move |each| each.starts_with(line));
            let hashes = lines.map(move |each| each.split(' ').nth(at).unwrap().to_owned());
            let mut hashes: Vec<String> = hashes.collect();
            hashes.sort();
            hashes
        };
        assert_eq!(hashes("hit ", 4), hashes("answer ", 1));
        assert!(!trace.contains("at_the_end"), "{trace}");
    }
}

#[test]
fn reads_the_token_anew_at_every_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.token");
    let mut node = FakeNode::start(WorkSpec::default());
    node.require_token("second");
    let mut miner = Miner::start(&[&node], &["--token-file", path.to_str().unwrap()]);
    miner.wait_log("the node writes this file when it starts");
    std::fs::write(&path, "first\n").unwrap();
    miner.wait_log("is not one that this node takes");
    std::fs::write(&path, "second\n").unwrap();
    let authorization = node.wait("a share", |event| match event {
        Event::Submitted { authorization, .. } => Some(authorization),
        _ => None,
    });
    assert_eq!(authorization.as_deref(), Some("Bearer second"));
    miner.finish();
}

#[test]
fn says_that_a_token_is_missing() {
    let node = FakeNode::start(WorkSpec::default());
    node.require_token("secret");
    let mut miner = Miner::start(&[&node], &[]);
    miner.wait_log("pass --token-file");
    let summary = miner.finish();
    assert_eq!(summary["connections"], 0);
    assert_eq!(summary["hashes"], 0);
}

#[test]
fn ends_at_once_while_no_node_is_there() {
    let port = Port::take();
    let mut miner = Miner::start_at(&port.url(), &[]);
    miner.wait_log("is the node running?");
    let summary = miner.finish();
    assert_eq!(summary["hashes"], 0);
}

#[test]
fn wrong_arguments_end_it_with_status_2() {
    for (arguments, said) in [
        (vec![], "--address"),
        (vec!["--address", "dpit1nonsense"], "is not an address"),
        (vec!["--node", "https://127.0.0.1:1"], "not TLS"),
        (vec!["--frobnicate"], "unexpected argument"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pithead-miner"))
            .args(&arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
}

#[test]
fn logs_json_and_reports_without_a_terminal() {
    let node = FakeNode::start(WorkSpec::default());
    let mut miner = Miner::start(&[&node], &["--log-format", "json", "--report-secs", "1"]);
    let line = miner.wait_log("\"report\"");
    let report: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(report["height"], 1);
    assert!(report["hash_rate"].as_str().unwrap().ends_with("H/s"));
    miner.finish();
}

#[test]
fn the_summary_for_people_and_quiet() {
    let mut node = FakeNode::start(WorkSpec {
        bits: EASY_BITS,
        ..WorkSpec::default()
    });
    let output = Command::new(env!("CARGO_BIN_EXE_pithead-miner"))
        .args(["--address", &reward_text(), "--threads", "2", "--quiet"])
        .args(["--blocks", "1", "--node", &node.url()])
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("blocks accepted 1,"), "{text}");
    node.wait_answer("the block", SubmitOutcome::AcceptedBlock);
}

#[test]
fn bench_compares_every_kernel_and_uses_the_one_asked_for() {
    let arguments = [
        "--seconds",
        "0.02",
        "--threads",
        "1",
        "--all-kernels",
        "--json",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_pithead-miner"))
        .arg("bench")
        .args(arguments)
        .args(["--kernel", "portable"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut names: Vec<&str> = report["kernels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    let mut known: Vec<&str> = pithead_miner::kernel::all()
        .iter()
        .map(|kernel| kernel.name())
        .collect();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);
    assert_eq!(report["kernel"], "portable");
}

#[test]
fn an_unknown_kernel_is_told_with_those_that_there_are() {
    let output = Command::new(env!("CARGO_BIN_EXE_pithead-miner"))
        .args(["bench", "--kernel", "warp"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("\"warp\"") && text.contains("portable"),
        "{text}"
    );
}

#[test]
fn bench_needs_no_node() {
    let output = Command::new(env!("CARGO_BIN_EXE_pithead-miner"))
        .args(["bench", "--seconds", "0.05", "--threads", "2", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["rows"].as_array().unwrap().len(), 2);
    for (row, threads) in report["rows"].as_array().unwrap().iter().zip(1..) {
        assert_eq!(row["threads"], threads);
        assert!(row["hash_rate"].as_f64().unwrap() > 0.0);
    }
}
