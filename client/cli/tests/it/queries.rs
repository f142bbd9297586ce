//! What the commands that ask a node print, and how they fail, against a fake
//! node.

use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::genesis::Network;

use crate::support::{
    FakeNode, block, chain_event, failure, hash, json, pithead, pithead_with, stderr, stdout,
    wallets,
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
            .push_back(vec![chain_event(Event::Start(start), hash(2, 'a'))]);
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
