//! The command against a fake node: what it prints, how it fails, and that it
//! signs what it was told to.
#![allow(clippy::unwrap_used)]

mod support;

use pithead_api::v1;
use pithead_api::v1::TransactionState;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::genesis::Network;
use pithead_consensus::{Address, AddressPrefix, Amount};

use support::{
    FakeNode, block, failure, hash, json, pithead, pithead_with, stderr, stdout, wallets,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_running_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let text = failure(&pithead(&url, folder.path(), &["chain"]).await, 1);
    assert!(
        text.contains(&format!("no node answers at {url}")),
        "{text}"
    );
    assert!(text.contains("hint: is it running?"), "{text}");
    assert!(text.contains("pithead devnet"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_shows_the_network_and_every_page_of_blocks() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(&pithead(&node.url, folder.path(), &["chain", "--full"]).await);
    for expected in [
        "dev",
        "1.50 MH/s",
        "150.00 PIT",
        &hash(0, 'a'),
        &hash(2, 'a'),
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let value = json(&pithead(&node.url, folder.path(), &["--json", "chain", "-n", "2"]).await);
    assert_eq!(value["supply"]["grains"], 15_000_000_000u64);
    assert_eq!(value["supply"]["pit"], "150.00");
    assert_eq!(value["blocks"].as_array().unwrap().len(), 2);
    assert_eq!(value["blocks"][0]["header"]["height"], 2);
    assert_eq!(value["tip"]["time"], "2026-11-01T00:00:04Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_variables_count_as_not_set() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let empty = [("PITHEAD_NETWORK", ""), ("PITHEAD_TOKEN_FILE", "")];
    let output = pithead_with(&node.url, folder.path(), &["chain"], &empty).await;
    assert!(stdout(&output).contains("dev"));
    let wrong = [("PITHEAD_NETWORK", "main")];
    failure(
        &pithead_with(&node.url, folder.path(), &["chain"], &wrong).await,
        1,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_found_by_height_hash_and_tag() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    for (name, height) in [("1", 1), ("head", 2), (hash(0, 'a').as_str(), 0)] {
        let value = json(&pithead(&node.url, folder.path(), &["block", name, "--json"]).await);
        assert_eq!(value["header"]["height"], height, "{name}");
    }
    let text = failure(&pithead(&node.url, folder.path(), &["block", "9"]).await, 1);
    assert!(text.contains("no such block"), "{text}");
    let text = failure(
        &pithead(&node.url, folder.path(), &["block", "tallest"]).await,
        2,
    );
    assert!(text.contains("expected a hash"), "{text}");
}

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

#[tokio::test(flavor = "multi_thread")]
async fn balances_of_all_wallets_add_up() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3.00000001");
    node.fund(&addresses[1], "0.5");
    let text = stdout(&pithead(&node.url, folder.path(), &["balance"]).await);
    for figure in ["3.00000001", "0.50", "3.50000001", "total"] {
        assert!(text.contains(figure), "{figure} in {text}");
    }
    let value = json(&pithead(&node.url, folder.path(), &["balance", "--json"]).await);
    assert_eq!(value["total"]["grains"], 350_000_001);
    assert_eq!(value["accounts"][1]["name"], "bob");
    // Asked for twice, shown twice, counted once.
    let twice = ["balance", "bob", "bob", "--json"];
    let value = json(&pithead(&node.url, folder.path(), &twice).await);
    assert_eq!(value["accounts"].as_array().unwrap().len(), 2);
    assert_eq!(value["total"]["grains"], 50_000_000);
    let value = json(
        &pithead(
            &node.url,
            folder.path(),
            &["account", "bob", "--history", "--json"],
        )
        .await,
    );
    assert_eq!(value["balance"]["pit"], "0.50");
    assert_eq!(value["history"], serde_json::json!([]));
    let text = failure(
        &pithead(&node.url, folder.path(), &["balance", "carol"]).await,
        1,
    );
    assert!(text.contains("known wallets: alice, bob"), "{text}");
}

fn event(event: Event, cursor: String) -> v1::SubscribeChainResponse {
    v1::SubscribeChainResponse {
        event: Some(event),
        cursor,
        sent_time: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_shows_a_reorganisation_and_resumes_without_a_gap() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let start = |height, branch| {
        let header = block(height, branch, "").header.unwrap();
        event(Event::Start(header), hash(height, branch))
    };
    let joined = |height, branch| {
        event(
            Event::Connected(block(height, branch, "")),
            hash(height, branch),
        )
    };
    let left = |height, branch, now| {
        event(
            Event::Disconnected(block(height, branch, "")),
            hash(height - 1, now),
        )
    };
    let script = vec![
        vec![start(2, 'a'), joined(3, 'a'), joined(4, 'a')],
        vec![
            start(4, 'a'),
            left(4, 'a', 'a'),
            left(3, 'a', 'a'),
            joined(3, 'b'),
            joined(4, 'b'),
            joined(5, 'b'),
        ],
    ];
    node.state().subscriptions.extend(script.clone());
    let output = pithead(&node.url, folder.path(), &["watch", "--count", "5"]).await;
    let text = stdout(&output);
    assert!(
        text.contains("reorganisation: 2 blocks left the chain at height 3"),
        "{text}"
    );
    assert_eq!(text.matches("left the chain\n").count(), 2, "{text}");
    assert!(
        stderr(&output).contains("trying again"),
        "{}",
        stderr(&output)
    );
    let resumed_from = std::mem::take(&mut node.state().resumed_from);
    assert_eq!(resumed_from[0], Vec::<String>::new());
    assert_eq!(resumed_from[1], [hash(4, 'a'), hash(3, 'a'), hash(2, 'a')]);

    node.state().subscriptions.extend(script);
    let output = pithead(
        &node.url,
        folder.path(),
        &["watch", "--count", "5", "--json"],
    )
    .await;
    let events: Vec<serde_json::Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    let expected =
        "start connected connected start disconnected disconnected connected connected connected";
    assert_eq!(kinds.join(" "), expected);
    assert_eq!(events[8]["block"]["header"]["hash"], hash(5, 'b'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_limits_requests_is_asked_again_a_few_times() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    node.state().refusals = 3;
    stdout(&pithead(&node.url, folder.path(), &["chain"]).await);
    assert_eq!(node.state().refusals, 0);
    node.state().refusals = 1_000;
    let text = failure(&pithead(&node.url, folder.path(), &["chain"]).await, 1);
    assert!(text.contains("limiting requests"), "{text}");
    assert_eq!(node.state().refusals, 996);
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_become_sentences() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let text = failure(&pithead(&node.url, folder.path(), &["node"]).await, 1);
    assert!(text.contains("the node is stopping"), "{text}");
    let txid = "ab".repeat(32);
    let text = failure(&pithead(&node.url, folder.path(), &["tx", &txid]).await, 1);
    assert!(text.contains("no transaction with this txid"), "{text}");
    let text = failure(&pithead(&node.url, folder.path(), &["tx", "ab"]).await, 2);
    assert!(text.contains("64 hexadecimal digits"), "{text}");
    let text = failure(&pithead("ftp://x", folder.path(), &["chain"]).await, 1);
    assert!(text.contains("http://"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_needs_the_token_and_finds_it() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let text = failure(&pithead(&node.url, folder.path(), &["workers"]).await, 1);
    assert!(text.contains("--token-file"), "{text}");
    let file = folder.path().join("some.token");
    std::fs::write(&file, "right\n").unwrap();
    let named = ["workers", "--token-file", file.to_str().unwrap()];
    let text = stdout(&pithead(&node.url, folder.path(), &named).await);
    assert!(text.contains("shed"), "{text}");
    // Where a node of this network on this machine keeps it.
    let data = folder.path().join("pithead/dev");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("mine.token"), "right").unwrap();
    let variables = [("XDG_DATA_HOME", folder.path().to_str().unwrap())];
    let found = pithead_with(&node.url, folder.path(), &["workers", "--json"], &variables).await;
    assert_eq!(json(&found)["workers"][0]["accepted_blocks"], 4);
    assert_eq!(node.state().tokens[0], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    for args in [&["chain"][..], &["completions", "bash"], &["watch"]] {
        let start = block(2, 'a', "").header.unwrap();
        node.state().subscriptions.clear();
        node.state()
            .subscriptions
            .push_back(vec![event(Event::Start(start), hash(2, 'a'))]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_pithead"))
            .args(args)
            .args(["--node", &node.url, "--wallet-dir"])
            .arg(folder.path())
            .stdout(writer)
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{args:?}");
    }
}
