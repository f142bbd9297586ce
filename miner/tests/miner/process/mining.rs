//! Mining as a whole: shares, blocks, new work, answers, and the end of a run.

use pithead_api::v1::SubmitOutcome;
use pithead_consensus::block::VERSION_ROLL_MASK;
use pithead_miner::outcome;
use serde_json::Value;
use tonic::Status;

use super::{MinerProcess, count};
use crate::fake_node::{FakeMiningNode, MinerCall, ScriptedAnswer, WorkSpec, reward_text};

#[test]
fn finds_shares_and_says_who_it_is() {
    let mut node = FakeMiningNode::start(WorkSpec::default());
    let miner = MinerProcess::start(&[&node], &["--worker", "rig-1"]);
    let subscribed = node.wait_subscribed();
    assert_eq!(subscribed.reward_address, reward_text());
    assert_eq!(subscribed.worker, "rig-1");
    assert_eq!(subscribed.agent, pithead_miner::AGENT);
    for _ in 0..3 {
        let solution = node.wait_submitted("a share", Some);
        assert!(solution.is_share, "{solution:?}");
        assert_eq!(solution.authorization, None);
        let share = solution.request;
        assert!((1_600_000_000..=1_800_000_000).contains(&share.time));
        assert!(share.first_hash_ms.is_some());
        assert_eq!(share.version & !VERSION_ROLL_MASK, 0x2000_0000);
    }
    let report = node.wait("telemetry", |call| match call {
        MinerCall::Telemetry(report) => Some(report),
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
fn stops_after_the_configured_blocks_and_follows_every_new_tip() {
    let mut node = FakeMiningNode::start(WorkSpec::easy());
    node.advance_after_blocks();
    let miner = MinerProcess::start(&[&node], &["--blocks", "5"]);
    let mut works = Vec::new();
    for _ in 0..5 {
        works.push(
            node.wait_answer("a block", SubmitOutcome::AcceptedBlock)
                .work_id,
        );
    }
    let ended = miner.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    // Each block was found on the work for its own height.
    assert_eq!(works, ["work-1", "work-2", "work-3", "work-4", "work-5"]);
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(summary["accepted_blocks"], 5);
    assert_eq!(ended.log.matches("block found").count(), 5);
    assert!(ended.log.contains("50 PIT"));
}

/// At the easiest target every batch finds dozens of blocks. The node gets one for each tip.
#[test]
fn hands_in_one_block_a_tip_at_the_easiest_target() {
    let mut node = FakeMiningNode::start(WorkSpec {
        bits: pithead_consensus::Target::MAX.to_compact().0,
        ..WorkSpec::default()
    });
    node.advance_after_blocks();
    let miner = MinerProcess::start(&[&node], &["--blocks", "50"]);
    let mut works = Vec::new();
    while works.len() < 50 {
        let solution = node.wait_submitted("a block", Some);
        assert_eq!(solution.answer, Some(SubmitOutcome::AcceptedBlock));
        works.push(solution.request.work_id);
    }
    let ended = miner.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(summary["accepted_blocks"], 50);
    assert_eq!(summary["stale"], 0);
    assert!(summary["spare"].as_u64().unwrap() > 0);
    works.dedup();
    assert_eq!(works.len(), 50, "each piece of work gave one block");
}

/// A block that its node refuses, or does not judge, is not the end of mining on that tip.
#[test]
fn goes_on_with_the_same_tip_after_a_refused_block() {
    let mut node = FakeMiningNode::start(WorkSpec::easy());
    node.script([
        ScriptedAnswer::Outcome(SubmitOutcome::Invalid as i32),
        ScriptedAnswer::Status(Status::internal("disk full")),
    ]);
    let miner = MinerProcess::start(&[&node], &["--blocks", "1"]);
    let block = node.wait_answer("a third block", SubmitOutcome::AcceptedBlock);
    assert_eq!(block.work_id, "work-1");
    let ended = miner.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(count(&summary, SubmitOutcome::Invalid), 1);
    assert_eq!(summary["failed"], 1);
}

#[test]
fn switches_to_new_work_whether_it_is_clean_or_not() {
    let mut node = FakeMiningNode::start(WorkSpec::default());
    let miner = MinerProcess::start(&[&node], &[]);
    for (work, clean) in [("work-1", true), ("work-2", false), ("work-3", true)] {
        node.wait_submitted("a share for the newest work", |solution| {
            (solution.request.work_id == work).then_some(())
        });
        node.push_work(|spec| {
            spec.clean = clean;
            spec.height += u64::from(clean);
        });
    }
    node.wait_submitted("a share for the last work", |solution| {
        (solution.request.work_id == "work-4").then_some(())
    });
    let summary = miner.finish();
    assert_eq!(summary["work_items"], 4);
    assert_eq!(summary["rejected"], 0);
}

#[test]
fn counts_every_answer_by_itself() {
    let mut node = FakeMiningNode::start(WorkSpec::default());
    node.script(
        outcome::OUTCOMES
            .into_iter()
            .filter(|outcome| *outcome != SubmitOutcome::AcceptedShare)
            .map(|outcome| ScriptedAnswer::Outcome(outcome as i32)),
    );
    // A newer node may send a number that this miner does not know.
    node.script([ScriptedAnswer::Outcome(77)]);
    let miner = MinerProcess::start(&[&node], &[]);
    // The node judges by itself again once the script is used up.
    node.wait_accepted_share();
    // The miner waits for all answers before it ends.
    miner.terminate();
    let ended = miner.end();
    let seen = ended.log;
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    for outcome in outcome::OUTCOMES {
        match outcome {
            SubmitOutcome::AcceptedShare => {}
            SubmitOutcome::Unspecified => assert_eq!(count(&summary, outcome), 2),
            _ => assert_eq!(count(&summary, outcome), 1, "{outcome:?}"),
        }
        assert!(
            seen.contains(outcome::explain(outcome)),
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
    let mut node = FakeMiningNode::start(WorkSpec::default());
    node.script([
        ScriptedAnswer::Status(Status::resource_exhausted("too busy")),
        ScriptedAnswer::Status(Status::internal("disk full")),
    ]);
    let mut miner = MinerProcess::start(&[&node], &[]);
    miner.wait_log("asking again in 500ms");
    miner.wait_log("did not judge the solution: disk full");
    node.wait_accepted_share();
    let summary = miner.finish();
    assert_eq!(summary["rejected"], 0);
    assert_eq!(summary["failed"], 1);
    assert_eq!(summary["connections"], 1);
}

#[test]
fn a_block_for_work_that_its_node_has_forgotten_is_handed_in_whole() {
    let mut node = FakeMiningNode::start(WorkSpec::easy());
    node.script([ScriptedAnswer::Outcome(SubmitOutcome::UnknownWork as i32)]);
    let miner = MinerProcess::start(&[&node], &["--blocks", "1"]);
    let found = node.wait_submitted("a block", |solution| Some(solution.request));
    let block = node.wait_block();
    assert_eq!(block.header.nonce, found.nonce);
    assert_eq!(block.header.version, found.version);
    let ended = miner.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(count(&summary, SubmitOutcome::AcceptedBlock), 1);
    assert_eq!(count(&summary, SubmitOutcome::UnknownWork), 0);
}

/// Every solution that the workers find before they end reaches the node.
#[test]
fn the_end_of_a_run_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for run in 0..5 {
        let trace = folder.path().join(format!("trace-{run}"));
        let mut node = FakeMiningNode::start(WorkSpec {
            // Every batch finds several shares.
            share_hashes: 64,
            ..WorkSpec::easy()
        });
        let trace_flags = ["--trace-ranges", trace.to_str().unwrap()];
        let miner = MinerProcess::start(&[&node], &trace_flags);
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
