//! `pithead send` against a fake node: it signs what the user asked for, refuses
//! what can't be meant, and explains why a payment fails.

use pithead_api::v1;
use pithead_api::v1::TransactionState;
use pithead_consensus::genesis::Network;
use pithead_consensus::{Address, AddressPrefix, Amount};

use crate::support::{FakeNode, failure, hash, json, pithead, stderr, stdout, wallets};

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_to_many_is_signed_here_and_submitted_once() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "10");
    let stranger = Address([9; 32]);
    let prefix = AddressPrefix::new("dpit").unwrap();
    let to_stranger = format!("{}=0.00000001", stranger.to_text(&prefix));
    let args = [
        "send",
        "alice",
        "bob=1.5",
        &to_stranger,
        "--data",
        "rent",
        "--yes",
        "--json",
    ];
    let value = json(&pithead(&node.url, folder.path(), &args).await);

    let state = node.state();
    let [transaction] = state.submitted.as_slice() else {
        panic!("{} transactions", state.submitted.len());
    };
    let body = &transaction.body;
    assert_eq!(body.sender, addresses[0]);
    assert_eq!(body.outputs[0].recipient, addresses[1]);
    assert_eq!(body.outputs[0].amount, "1.5".parse::<Amount>().unwrap());
    assert_eq!(body.outputs[1].recipient, stranger);
    assert_eq!(body.outputs[1].amount.grains(), 1);
    assert_eq!(body.data, b"rent");
    assert_eq!(body.fee.grains(), 2 * transaction.size() as u64);
    assert_eq!(value["amount"]["grains"], 150_000_001);
    assert_eq!(value["fee"]["grains"], body.fee.grains());
    assert_eq!(value["outputs"][0]["name"], "bob");
    assert_eq!(value["outputs"][1]["amount"]["pit"], "0.00000001");
    assert_eq!(value["status"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_write_a_payment_means_the_same() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "10");
    let ways: [&[&str]; 4] = [
        &["alice", "bob", "2"],
        &["alice", "bob=2"],
        &["--from", "alice", "--to", "bob=2"],
        &["--from", "alice", "bob", "2"],
    ];
    for way in ways {
        let args = [&["send", "--yes", "--fee", "0.001"], way].concat();
        let text = stdout(&pithead(&node.url, folder.path(), &args).await);
        assert!(text.contains("0.001 PIT"), "{text}");
        let submitted = node.state().submitted.pop().unwrap();
        assert_eq!(submitted.body.sender, addresses[0]);
        assert_eq!(submitted.body.outputs[0].recipient, addresses[1]);
        assert_eq!(submitted.body.outputs[0].amount.grains(), 200_000_000);
        assert_eq!(submitted.body.fee.grains(), 100_000);
    }
    let wrong: [(&[&str], &str); 6] = [
        (&["send"], "who pays?"),
        (&["send", "alice"], "who is to be paid?"),
        (&["send", "alice", "bob", "1,5"], "not an amount"),
        (&["send", "alice", "bob", "0"], "zero"),
        (&["send", "alice", "bob", "0.000000001"], "8 decimals"),
        (&["send", "alice", "--to", "bob"], "TO=AMOUNT"),
    ];
    for (args, expected) in wrong {
        let text = failure(&pithead(&node.url, folder.path(), args).await, 2);
        assert!(text.contains(expected), "{args:?}: {text}");
    }
    let args = ["send", "alice", "bob", "1"];
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
    assert!(text.contains("--yes"), "{text}");
    assert!(node.state().submitted.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_another_network_is_refused_with_both_names() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice"]);
    node.fund(&addresses[0], "10");
    let main = Address([9; 32]).to_text(&AddressPrefix::new("pit").unwrap());
    let args = ["send", "alice", &main, "1", "--yes"];
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
    assert!(text.contains("the network main"), "{text}");
    assert!(text.contains("the network dev"), "{text}");
    let text = failure(
        &pithead(&node.url, folder.path(), &["balance", &main]).await,
        1,
    );
    assert!(text.contains("the network main"), "{text}");
    assert!(node.state().submitted.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_contradicts_itself_gets_no_signature() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "10");
    let args = ["send", "alice", "bob", "1", "--yes"];

    let main = Network::Main.genesis().unwrap().params.genesis_hash;
    let dev = node.state().info.genesis_hash.clone();
    // Play money by its prefix, but the signature would count on main.
    node.state().info.genesis_hash = main.to_string();
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
    assert!(text.contains("don't trust it"), "{text}");
    // Main by its prefix, but another chain.
    node.state().info.genesis_hash = dev.clone();
    node.state().info.address_prefix = "pit".to_owned();
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
    assert!(text.contains("another chain"), "{text}");
    assert!(text.contains(&format!("--network {dev}")), "{text}");
    assert!(node.state().submitted.is_empty());

    node.state().info.address_prefix = "dpit".to_owned();
    let wrong = ["chain", "--network", "test"];
    let text = failure(&pithead(&node.url, folder.path(), &wrong).await, 1);
    assert!(text.contains("follows the network dev, not test"), "{text}");
    stdout(&pithead(&node.url, folder.path(), &["chain", "--network", &dev]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn insufficient_balance_names_what_there_is_and_what_is_missing() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    let args = ["send", "alice", "bob", "5", "--fee", "0.5", "--yes"];
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
    for figure in ["can spend 3.00 PIT", "needs 5.50 PIT", "2.50 PIT missing"] {
        assert!(text.contains(figure), "{figure} in {text}");
    }
    assert!(node.state().submitted.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_payments_count_against_the_balance() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    let alice = addresses[0].to_text(&AddressPrefix::new("dpit").unwrap());
    {
        let mut state = node.state();
        let account = state.accounts.get_mut(&alice).unwrap();
        account.next_sequence = 1;
        // 2.5 of its own are on their way out, 4 on their way in.
        account.pending_balance = 450_000_000;
        state.pending.push(v1::PendingTransaction {
            transaction: Some(v1::Transaction {
                sender: alice,
                fee: 50_000_000,
                outputs: vec![v1::TransactionOutput {
                    recipient: String::new(),
                    amount: 200_000_000,
                }],
                ..v1::Transaction::default()
            }),
            ..v1::PendingTransaction::default()
        });
    }
    let args = ["send", "alice", "bob", "1", "--fee", "0", "--yes"];
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
    for figure in [
        "can spend 0.50 PIT",
        "needs 1.00 PIT",
        "0.50 PIT missing",
        "2.50 PIT are in its own pending payments",
        "4.00 PIT are on their way",
    ] {
        assert!(text.contains(figure), "{figure} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_rejection_is_told_with_its_rule_and_figures() {
    use v1::TransactionRule as Rule;
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    let rejected = |rule: Rule, found: &str, expected: &str| v1::SubmitTransactionResponse {
        outcome: v1::SubmitTransactionOutcome::Rejected.into(),
        rejection: Some(v1::TransactionRejection {
            rule: rule.into(),
            found: found.to_owned(),
            expected: expected.to_owned(),
            message: "no".to_owned(),
        }),
        ..v1::SubmitTransactionResponse::default()
    };
    let args = ["send", "alice", "bob", "1", "--yes"];
    for (rule, found, expected, shown) in [
        (
            Rule::FeeTooLow,
            "0.00000001 PIT",
            "0.00000607 PIT",
            "FEE_TOO_LOW",
        ),
        (
            Rule::InsufficientBalance,
            "0.20 PIT",
            "1.00 PIT",
            "INSUFFICIENT_BALANCE",
        ),
    ] {
        node.state().next_answer = Some(rejected(rule, found, expected));
        let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
        for part in [found, expected, shown] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    // A node that names another transaction than the one it was given.
    node.state().next_answer = Some(v1::SubmitTransactionResponse {
        outcome: v1::SubmitTransactionOutcome::Accepted.into(),
        txid: "00".repeat(32),
        ..v1::SubmitTransactionResponse::default()
    });
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
    assert!(text.contains("malformed"), "{text}");
}

fn status(state: TransactionState, confirmations: u64) -> v1::TransactionStatus {
    let mined = confirmations > 0;
    v1::TransactionStatus {
        state: state.into(),
        block_hash: if mined { hash(3, 'a') } else { String::new() },
        block_height: 3,
        confirmations,
        ..v1::TransactionStatus::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_survives_a_broken_stream_and_tells_every_step() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    // The first stream ends before the transaction has what was asked for.
    node.state().watches.extend([
        vec![
            status(TransactionState::Pending, 0),
            status(TransactionState::Mined, 1),
        ],
        vec![
            status(TransactionState::Mined, 1),
            status(TransactionState::Mined, 2),
        ],
    ]);
    let args = ["send", "alice", "bob", "1", "--yes", "--wait=2"];
    let output = pithead(&node.url, folder.path(), &args).await;
    let text = stdout(&output);
    for label in ["txid", "fee", "balance"] {
        assert!(text.contains(label), "{label} in {text}");
    }
    let told = stderr(&output);
    for step in ["pending", "1 confirmation\n", "2 confirmations"] {
        assert!(told.contains(step), "{step} in {told}");
    }
    assert!(node.state().watches.is_empty());

    node.state().watches.push_back(vec![v1::TransactionStatus {
        detail: "expired".to_owned(),
        ..status(TransactionState::Dropped, 0)
    }]);
    let args = ["send", "alice", "bob", "1", "--yes", "--wait", "--json"];
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
    assert!(text.contains("dropped: expired"), "{text}");
}
