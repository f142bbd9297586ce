//! Nodes that die, come back, refuse or talk nonsense.

use pithead_api::v1::SubmitOutcome;
use tonic::Status;

use super::MinerProcess;
use crate::fake_node::{FakeMiningNode, ReservedPort, ScriptedAnswer, WorkSpec, reward_address};

#[test]
fn a_solution_survives_a_broken_connection() {
    let mut node = FakeMiningNode::start(WorkSpec::default());
    node.script_going_away();
    let mut miner = MinerProcess::start(&[&node], &[]);
    let first = node.wait_submitted("a solution", |solution| {
        solution.answer.is_none().then_some(solution.request)
    });
    miner.wait_log("connection lost: going away");
    let again = node.wait_submitted("the same solution again", |solution| {
        let request = solution.request;
        let same = request.nonce == first.nonce && request.extra_nonce == first.extra_nonce;
        same.then_some((request.work_id, solution.answer))
    });
    assert_eq!(again, (first.work_id, Some(SubmitOutcome::AcceptedShare)));
    let summary = miner.finish();
    assert_eq!(summary["connections"], 2);
    assert_eq!(summary["rejected"], 0);
    assert_eq!(summary["failed"], 0);
}

#[test]
fn survives_a_restart_of_its_node() {
    let mut node = FakeMiningNode::start(WorkSpec::default());
    let mut miner = MinerProcess::start(&[&node], &[]);
    node.wait_accepted_share();
    for remembers in [true, false] {
        node.restart(remembers);
        miner.wait_log("connection lost");
        node.wait_subscribed();
        node.wait_answer("a share after the restart", SubmitOutcome::AcceptedShare);
    }
    let summary = miner.finish();
    assert_eq!(summary["connections"], 3);
    // The node does not know the work of solutions from before its restart. They are not
    // counted as rejected.
    assert_eq!(summary["rejected"], 0);
}

#[test]
fn fails_over_to_the_next_node_and_back() {
    let mut first = FakeMiningNode::start(WorkSpec::default());
    let mut second = FakeMiningNode::start(WorkSpec {
        // The second node gives other work under the same names.
        prefix: [0xbb; 4],
        ..WorkSpec::default()
    });
    let mut miner = MinerProcess::start(&[&first, &second], &[]);
    first.wait_answer("a share for the first", SubmitOutcome::AcceptedShare);
    // The first node goes away while a call is under way.
    first.script_going_away();
    miner.wait_log("connection lost: going away");
    first.stop();
    second.wait_answer("a share for the second", SubmitOutcome::AcceptedShare);
    first.restart(false);
    second.stop();
    first.wait_answer("a share for the first again", SubmitOutcome::AcceptedShare);
    let summary = miner.finish();
    assert_eq!(summary["connections"], 3);
    // A solution of one node's work is never handed in to the other node.
    assert_eq!(summary["rejected"], 0);
    assert!(summary["lost"].as_u64().unwrap() >= 1);
}

#[test]
fn goes_past_a_node_that_is_syncing_or_has_the_wrong_work() {
    let mut syncing = FakeMiningNode::start(WorkSpec::default());
    syncing.refuse(Some(Status::unavailable("syncing: 12 blocks behind")));
    let wrong = FakeMiningNode::start(WorkSpec {
        reward_address: pithead_consensus::Address([9; 32]),
        ..WorkSpec::default()
    });
    let mut good = FakeMiningNode::start(WorkSpec::default());
    let mut miner = MinerProcess::start(&[&syncing, &wrong, &good], &[]);
    syncing.wait_subscribed();
    miner.wait_log("syncing: 12 blocks behind");
    miner.wait_log("pays another address");
    good.wait_accepted_share();
    miner.finish();
}

#[test]
fn an_address_that_the_node_refuses_ends_it_with_status_2() {
    let node = FakeMiningNode::start(WorkSpec::default());
    node.refuse(Some(Status::invalid_argument(
        "reward_address: this network's addresses start with \"tpit\"",
    )));
    let ended = MinerProcess::start(&[&node], &[]).end();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.log);
    assert!(ended.log.contains("start with \"tpit\""), "{}", ended.log);
    assert_eq!(ended.stdout, "");
}

/// When one node finds the address wrong, the miner still tries the others.
#[test]
fn goes_past_a_node_that_refuses_the_address() {
    let refusing = FakeMiningNode::start(WorkSpec::default());
    refusing.refuse(Some(Status::invalid_argument("reward_address: not mine")));
    let mut good = FakeMiningNode::start(WorkSpec::default());
    let mut miner = MinerProcess::start(&[&refusing, &good], &[]);
    miner.wait_log("does not accept what this miner asks for");
    good.wait_accepted_share();
    // Later both nodes refuse. One of them has given work before, so the miner does not
    // give up.
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
    let nodes = [(); 2].map(|()| FakeMiningNode::start(WorkSpec::default()));
    for node in &nodes {
        node.refuse(Some(Status::invalid_argument("reward_address: not mine")));
    }
    let ended = MinerProcess::start(&[&nodes[0], &nodes[1]], &[]).end();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.log);
    assert_eq!(ended.log.matches("does not accept").count(), 2);
}

/// Two nodes that give work and end the subscription at once are not asked again at once.
#[test]
fn pauses_between_useless_nodes() {
    let nodes = [(); 2].map(|()| FakeMiningNode::start(WorkSpec::default()));
    for node in &nodes {
        node.end_subscriptions_at_once();
        // No accepted solution makes these sessions useful.
        node.script((0..1_000).map(|_| ScriptedAnswer::Outcome(SubmitOutcome::StaleWork as i32)));
    }
    let mut miner = MinerProcess::start(&[&nodes[0], &nodes[1]], &[]);
    for _ in 0..6 {
        miner.wait_log("the node ended the subscription");
    }
    let log = miner.seen.join("\n");
    // A pause comes before every connection but the first.
    assert_eq!(log.matches("next attempt in").count(), 5, "{log}");
    miner.finish();
}

/// Any node can judge a block without transactions.
#[test]
fn a_block_for_a_lost_node_goes_to_the_next() {
    let mut first = FakeMiningNode::start(WorkSpec::easy());
    let mut second = FakeMiningNode::start(WorkSpec::default());
    first.script_going_away();
    let miner = MinerProcess::start(&[&first, &second], &[]);
    let found = first.wait_submitted("a block", |solution| {
        (solution.answer.is_none() && solution.is_block).then_some(solution.request)
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
fn a_lost_block_with_transactions_is_logged() {
    let mut first = FakeMiningNode::start(WorkSpec {
        transaction_count: 1,
        ..WorkSpec::easy()
    });
    let mut second = FakeMiningNode::start(WorkSpec::default());
    first.script_going_away();
    let mut miner = MinerProcess::start(&[&first, &second], &[]);
    first.wait_subscribed();
    miner.wait_log("block lost: only the node that gave its work has its transactions");
    second.wait_answer("a share", SubmitOutcome::AcceptedShare);
    let summary = miner.finish();
    assert!(summary["lost"].as_u64().unwrap() >= 1);
}

#[test]
fn reads_the_token_for_every_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.token");
    let mut node = FakeMiningNode::start(WorkSpec::default());
    node.require_token("second");
    let mut miner = MinerProcess::start(&[&node], &["--token-file", path.to_str().unwrap()]);
    miner.wait_log("the node writes this file when it starts");
    std::fs::write(&path, "first\n").unwrap();
    miner.wait_log("is not one that this node takes");
    std::fs::write(&path, "second\n").unwrap();
    let authorization = node.wait_submitted("a share", |solution| Some(solution.authorization));
    assert_eq!(authorization.as_deref(), Some("Bearer second"));
    miner.finish();
}

#[test]
fn a_missing_token_is_logged() {
    let node = FakeMiningNode::start(WorkSpec::default());
    node.require_token("secret");
    let mut miner = MinerProcess::start(&[&node], &[]);
    miner.wait_log("pass --token-file");
    let summary = miner.finish();
    assert_eq!(summary["connections"], 0);
    assert_eq!(summary["hashes"], 0);
}

#[test]
fn ends_at_once_on_sigterm_without_a_node() {
    let port = ReservedPort::take();
    let mut miner = MinerProcess::start_at(&port.url(), &[]);
    miner.wait_log("is the node running?");
    let summary = miner.finish();
    assert_eq!(summary["hashes"], 0);
}
