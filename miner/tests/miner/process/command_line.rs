//! The command line, what the program prints, and `bench`.

use pithead_api::v1::SubmitOutcome;
use serde_json::Value;

use super::{MinerProcess, miner_command};
use crate::fake_node::{FakeMiningNode, WorkSpec, reward_text};

#[test]
fn wrong_arguments_end_it_with_status_2() {
    for (arguments, said) in [
        (vec![], "--address"),
        (vec!["--address", "dpit1nonsense"], "is not an address"),
        (vec!["--node", "https://127.0.0.1:1"], "not TLS"),
        (vec!["--frobnicate"], "unexpected argument"),
    ] {
        let output = miner_command().args(&arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
}

#[test]
fn logs_json_and_reports_without_a_terminal() {
    let node = FakeMiningNode::start(WorkSpec::default());
    let mut miner = MinerProcess::start(&[&node], &["--log-format", "json", "--report-secs", "1"]);
    let line = miner.wait_log("\"report\"");
    let report: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(report["height"], 1);
    assert!(report["hash_rate"].as_str().unwrap().ends_with("H/s"));
    miner.finish();
}

#[test]
fn the_summary_for_people_and_quiet() {
    let mut node = FakeMiningNode::start(WorkSpec::easy());
    let output = miner_command()
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
fn bench_compares_every_kernel_and_uses_the_chosen_one() {
    let arguments = [
        "--seconds",
        "0.02",
        "--threads",
        "1",
        "--all-kernels",
        "--json",
    ];
    let output = miner_command()
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
fn an_unknown_kernel_is_answered_with_the_known_ones() {
    let output = miner_command()
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
    let output = miner_command()
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
