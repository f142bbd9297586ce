//! What the command says of approvals and finality, against a fake node, and how
//! it waits for them.

use pithead_api::v1;
use pithead_api::v1::TransactionState;
use pithead_consensus::genesis::Network;

use crate::support::{FakeNode, failure, hash, json, pithead, stderr, stdout, wallets};

#[tokio::test(flavor = "multi_thread")]
async fn validators_shows_who_is_heard_and_whether_finality_advances() {
    let (node, _) = FakeNode::with_validators(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now();
    {
        let mut state = node.state();
        let ages = [Some((40, 100)), Some((30, 98)), Some((10, 7)), None];
        for (validator, seen) in state.validators.validators.iter_mut().zip(ages) {
            if let Some((target_height, recent)) = seen {
                validator.last_approval = Some(v1::Approval {
                    validator: validator.address.clone(),
                    target_height,
                    ..v1::Approval::default()
                });
                validator.last_approval_time = Some(now.into());
                validator.recent_approvals = recent;
                validator.recent_checkpoints = 100;
            }
        }
        state.validators.validators[0].is_this_node = true;
        state.validators.validators[2].evidence_count = 2;
    }
    let text = stdout(&pithead(&node.url, folder.path(), &["validators"]).await);
    for part in [
        "3 of 4 validators: any two quorums share 2 of them, and 1 may be away",
        "2 of 4 voted for one of the last 3 checkpoints or since the last that is approved",
        "silent",
        "30 (12 blocks behind the tip)",
        "20 (22 blocks behind the tip)",
        "advancing",
        "98/100",
        "never",
        "this node",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    node.state().info.approved_lag = 40;
    let text = stdout(&pithead(&node.url, folder.path(), &["validators"]).await);
    assert!(text.contains("waiting for approvals: 40 blocks"), "{text}");
    assert!(text.contains("3 approvals are needed"), "{text}");
    node.state().info.finality_conflict = true;
    let text = stdout(&pithead(&node.url, folder.path(), &["validators"]).await);
    assert!(
        text.contains("stopped: two certificates conflict"),
        "{text}"
    );
    let value = json(&pithead(&node.url, folder.path(), &["validators", "--json"]).await);
    assert_eq!(value["progress"], "stopped");
    assert_eq!(value["heard"], 2);
    assert_eq!(value["validators"][0]["last_approval"]["target_height"], 40);
    assert_eq!(value["validators"][2]["evidence_count"], 2);
    assert!(value["validators"][3]["last_approval"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_without_validators_says_so_plainly() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    for command in ["validators", "evidence", "chain", "block"] {
        let text = stdout(&pithead(&node.url, folder.path(), &[command]).await);
        assert!(text.contains("no validators"), "{command}: {text}");
    }
    let value = json(&pithead(&node.url, folder.path(), &["chain", "--json"]).await);
    assert_eq!(value["finality_progress"], "no_validators");
    assert!(value["blocks"][0]["finality"].is_null());
    // The command refuses before it sends anything.
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    for wait in ["--wait=final", "--wait=approved"] {
        let args = ["send", "alice", "bob", "1", "--yes", wait];
        let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
        assert!(text.contains("no validators"), "{text}");
        assert!(text.contains("--wait=6"), "{text}");
    }
    assert!(node.state().submitted.is_empty());
    let args = ["tx", &"ab".repeat(32), "--wait=final"];
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
    assert!(text.contains("no validators"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_and_block_show_finality() {
    let (node, keys) = FakeNode::with_validators(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    {
        let mut state = node.state();
        for (block, finality) in state.blocks.iter_mut().zip([
            v1::Finality::Final,
            v1::Finality::Approved,
            v1::Finality::Pending,
        ]) {
            block.finality = finality.into();
        }
        // The second block plays a checkpoint, at height 40.
        state.blocks[1].header.as_mut().unwrap().height = 40;
        state.blocks[1].approvals = keys
            .iter()
            .take(3)
            .map(|key| v1::Approval {
                validator: key
                    .address()
                    .to_text(&Network::Dev.genesis().unwrap().prefix),
                source_height: 30,
                source_hash: hash(30, 'a'),
                ..v1::Approval::default()
            })
            .collect();
    }
    let text = stdout(&pithead(&node.url, folder.path(), &["chain"]).await);
    for part in [
        "30 (12 blocks behind the tip)",
        "20 (22 blocks behind the tip)",
        "advancing",
        "pending",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let value = json(&pithead(&node.url, folder.path(), &["chain", "--json"]).await);
    assert_eq!(value["final_lag"], 22);
    assert_eq!(value["approved_hash"], hash(30, 'a'));
    assert_eq!(value["blocks"][2]["finality"], "final");

    let text = stdout(&pithead(&node.url, folder.path(), &["block", "1", "--approvals"]).await);
    assert!(
        text.contains("approved, 3 of 4 validators approved it, 3 needed"),
        "{text}"
    );
    assert_eq!(text.matches("dpit1").count(), 3 + 1, "{text}");
    let text = stdout(&pithead(&node.url, folder.path(), &["block", "2"]).await);
    assert!(
        text.contains("pending; the next checkpoint is 10"),
        "{text}"
    );
    let value = json(&pithead(&node.url, folder.path(), &["block", "1", "--json"]).await);
    assert_eq!(value["finality"], "approved");
    assert_eq!(value["approvals"][2]["source_height"], 30);
}

fn status(state: TransactionState, confirmations: u64) -> v1::TransactionStatus {
    v1::TransactionStatus {
        state: state.into(),
        block_hash: hash(3, 'a'),
        block_height: 3,
        confirmations,
        ..v1::TransactionStatus::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn send_waits_until_approved_or_final_and_no_longer() {
    use TransactionState::{Approved, Final, Mined, Pending};
    let (node, _) = FakeNode::with_validators(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    let steps = vec![
        status(Pending, 0),
        status(Mined, 2),
        status(Approved, 3),
        status(Final, 4),
    ];
    for (wait, state) in [
        ("--wait", "mined"),
        ("--wait=mined", "mined"),
        ("--wait=approved", "approved"),
        ("--wait=final", "final"),
        ("--wait=4", "final"),
    ] {
        node.state().watches.push_back(steps.clone());
        let args = ["send", "alice", "bob", "1", "--yes", "--json", wait];
        let value = json(&pithead(&node.url, folder.path(), &args).await);
        assert_eq!(value["status"]["state"], state, "{wait}");
    }
    // As people type it, before and after the payment.
    for words in [
        "send alice bob 1 --yes --json --wait final",
        "send --wait final alice bob 1 --yes --json",
        "send --yes --json --wait final alice bob=1",
    ] {
        node.state().watches.push_back(steps.clone());
        let args: Vec<&str> = words.split(' ').collect();
        let value = json(&pithead(&node.url, folder.path(), &args).await);
        assert_eq!(value["status"]["state"], "final", "{words}");
        assert_eq!(value["outputs"][0]["name"], "bob", "{words}");
    }
    let args = ["send", "alice", "bob", "1", "--yes", "--wait=sealed"];
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 2);
    assert!(text.contains("expected mined, approved, final"), "{text}");

    let txid = "ab".repeat(32);
    let answer = v1::GetTransactionResponse {
        transaction: Some(v1::Transaction {
            txid: txid.clone(),
            ..v1::Transaction::default()
        }),
        status: Some(status(Final, 4)),
    };
    node.state().transactions.insert(txid.clone(), answer);
    let text = stdout(&pithead(&node.url, folder.path(), &["tx", &txid]).await);
    assert!(text.contains("final in block 3, 4 confirmations"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_tells_how_many_have_approved() {
    use TransactionState::{Approved, Final, Mined, Pending};
    let (node, _) = FakeNode::with_validators(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    {
        let mut state = node.state();
        let listed = |count| v1::ListApprovalsResponse {
            approvals: vec![v1::Approval::default(); count],
            approval_quorum: 3,
            ..v1::ListApprovalsResponse::default()
        };
        // Block 3 is secured by checkpoint 10, and final with 20. But votes passed over
        // both: the highest approved one is 30, and 40 is to come.
        state.info.final_height = 0;
        state.info.tip.as_mut().unwrap().height = 12;
        state.approvals.insert(10, listed(1));
        state.approvals.insert(30, listed(0));
        state.approvals.insert(40, listed(2));
        let steps = vec![status(Pending, 0), status(Mined, 2), status(Final, 4)];
        state.watches.push_back(steps);
    }
    let args = ["send", "alice", "bob", "1", "--yes", "--wait", "final"];
    let text = stderr(&pithead(&node.url, folder.path(), &args).await);
    let part = "waiting for approvals of block 10: 1 of 3";
    assert!(text.contains(part), "{part} in {text}");
    assert!(text.contains("\nfinal in block 3"), "{text}");
    // If votes skip checkpoint 10, the command names the checkpoint that is voted on.
    for state in [Mined, Approved] {
        node.state().info.tip.as_mut().unwrap().height = 42;
        let steps = vec![status(state, 3), status(Final, 4)];
        node.state().watches.push_back(steps);
        let text = stderr(&pithead(&node.url, folder.path(), &args).await);
        let part = "waiting for approvals of block 40: 2 of 3";
        assert!(text.contains(part), "{part} in {text}");
    }
    // The checkpoint may not be there yet.
    node.state().info.tip.as_mut().unwrap().height = 38;
    let steps = vec![status(Approved, 3), status(Final, 4)];
    node.state().watches.push_back(steps);
    let text = stderr(&pithead(&node.url, folder.path(), &args).await);
    let part = "waiting for block 40, the next checkpoint; the tip is 38";
    assert!(text.contains(part), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_finality_that_has_stopped() {
    use TransactionState::{Final, Mined};
    let (node, _) = FakeNode::with_validators(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    node.state().info.finality_conflict = true;
    for wait in ["--wait=final", "--wait=approved"] {
        let args = ["send", "alice", "bob", "1", "--yes", wait];
        let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
        assert!(text.contains("two certificates conflict"), "{text}");
        assert!(text.contains("pithead evidence"), "{text}");
    }
    assert!(node.state().submitted.is_empty());
    // A command that began to wait earlier ends as well. Final payments stay final.
    let txid = "ab".repeat(32);
    let tx = ["tx", txid.as_str(), "--wait", "final"];
    node.state().watches.push_back(vec![status(Mined, 2)]);
    let text = failure(&pithead(&node.url, folder.path(), &tx).await, 1);
    assert!(text.contains("two certificates conflict"), "{text}");
    let answer = v1::GetTransactionResponse {
        transaction: Some(v1::Transaction::default()),
        status: Some(status(Final, 4)),
    };
    node.state().transactions.insert(txid.clone(), answer);
    node.state().watches.push_back(vec![status(Final, 4)]);
    let text = stdout(&pithead(&node.url, folder.path(), &tx).await);
    assert!(text.contains("final in block 3"), "{text}");
}
