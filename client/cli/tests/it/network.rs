//! The whole chain as its users run it: a real node, real miners and the real
//! `pithead` command, all as processes on sockets.

use std::time::Instant;

use pithead_api::v1;
use pithead_api::v1::get_block_request;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::Client;

use crate::support::processes::{ONE_NETWORK, PATIENCE, Place};

const PIT: u64 = 100_000_000;

/// Follows the chain until so many blocks have joined it; returns the last.
async fn blocks(client: &Client, count: usize) -> v1::BlockHeader {
    let following = async {
        let mut events = client
            .subscribe_chain(Vec::new(), v1::BlockView::Header)
            .await
            .unwrap();
        let mut left = count;
        while let Some(event) = client.next(&mut events).await.unwrap() {
            if let Some(Event::Connected(block)) = event.event {
                left -= 1;
                if left == 0 {
                    return block.header.unwrap();
                }
            }
        }
        panic!("the stream of blocks ended");
    };
    tokio::time::timeout(PATIENCE, following).await.unwrap()
}

/// Waits until both miners have mined a block since the node started again.
async fn miners_come_back(client: &Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        blocks(client, 1).await;
        let workers = client.workers().await.unwrap().workers;
        let names: Vec<&str> = workers
            .iter()
            .filter(|worker| worker.connected && worker.accepted_blocks > 0)
            .map(|worker| worker.name.as_str())
            .collect();
        if names.contains(&"one") && names.contains(&"two") {
            break;
        }
        assert!(Instant::now() < deadline, "the miners do not come back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_loses_nothing_when_its_node_is_killed() {
    let _cores = ONE_NETWORK.lock().await;
    let place = Place::new();
    let (alice, bob, pool) = (
        place.wallet("alice"),
        place.wallet("bob"),
        place.wallet("pool"),
    );
    place.write_genesis(&alice);
    let mut node = place.start_node();
    let mut miners = [
        place.start_miner("one", &pool),
        place.start_miner("two", &pool),
    ];
    let client = place.client().await;
    blocks(&client, 5).await;

    let sent = place.json(&[
        "send",
        "alice",
        "bob",
        "12.5",
        "--wait",
        "--yes",
        "--data",
        "for the tea",
    ]);
    let txid = sent["txid"].as_str().unwrap().to_owned();
    let paid = client.transaction(&txid).await.unwrap();
    let status = paid.status.unwrap();
    assert_eq!(status.state(), v1::TransactionState::Mined);
    let fee = paid.transaction.unwrap().fee;
    let before = blocks(&client, 1).await;

    // In the middle of mining, without any warning.
    node.signal("KILL");
    assert!(!node.ended_well());
    drop(client);
    let mut node = place.start_node();

    let client = place.client().await;
    let request = v1::GetBlockRequest {
        block: Some(get_block_request::Block::Hash(before.hash.clone())),
        ..v1::GetBlockRequest::default()
    };
    let kept = client.block(request).await.unwrap().block.unwrap();
    assert!(kept.best_chain, "an acknowledged block is gone");
    let mined = client.transaction(&txid).await.unwrap().status.unwrap();
    assert_eq!(mined.block_hash, status.block_hash);
    let balance = |address: String| {
        let client = client.clone();
        async move { client.account(&address).await.unwrap().balance }
    };
    assert_eq!(balance(bob).await, 1_250_000_000);
    assert_eq!(balance(alice).await, 100 * PIT - 1_250_000_000 - fee);

    miners_come_back(&client).await;
    for miner in &mut miners {
        miner.signal("TERM");
        assert!(miner.ended_well());
    }
    drop(client);
    node.signal("TERM");
    assert!(node.ended_well());
    let verified = place.node_command().arg("--verify").output().unwrap();
    let report = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{report}");
    assert!(report.contains("everything agrees"), "{report}");
}

/// The way that docs/operating.md shows, with a passphrase.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_from_the_command_makes_payments_final() {
    let _cores = ONE_NETWORK.lock().await;
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let alice = place.wallet("alice");
    place.wallet("bob");
    let text = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let (key, public) = (text("anna.pem"), text("anna.public.toml"));
    let phrase = text("passphrase");
    std::fs::write(&phrase, "moss\n").unwrap();
    std::fs::set_permissions(&phrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    let new = [
        "validator",
        "new",
        "--out",
        &key,
        "--passphrase-file",
        &phrase,
    ];
    place.pithead(&new);
    let mut new = vec!["genesis", "new", "--name", "solo", "--validators", &public];
    let out = text("genesis.toml");
    new.extend(["--allocation", "alice=100", "--bits", "0x1f0fffff"]);
    new.extend(["--half-life-secs", "3600", "--out", &out]);
    let made = place.json(&new);
    assert_eq!(made["approval_quorum"], 1);

    let voting = || {
        let mut command = place.node_command();
        command.arg("--offline");
        command.args([
            "--validator-key",
            &key,
            "--validator-passphrase-file",
            &phrase,
        ]);
        command
    };
    // Without a record of its votes it does not start, and says what to do.
    let refused = voting().output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--init-vote-record"), "{said}");
    let mut first = voting();
    first.arg("--init-vote-record");
    let mut node = place.start(first);
    let miner = place.start_miner("one", &alice);
    let pay = ["send", "alice", "bob", "1", "--yes", "--wait=final"];
    assert_eq!(place.json(&pay)["status"]["state"], "final");
    let listed = place.json(&["validators"]);
    assert_eq!(listed["validators"][0]["is_this_node"], true);
    assert_eq!(place.json(&["chain"])["genesis_hash"], made["genesis_hash"]);
    assert_eq!(place.json(&["evidence"])["evidence"], serde_json::json!([]));

    // Killed in the middle, it goes on with its record.
    node.signal("KILL");
    node.ended_well();
    let _node = place.start(voting());
    assert_eq!(place.json(&pay)["status"]["state"], "final");
    drop(miner);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_shown_to_people_and_to_programs() {
    let _cores = ONE_NETWORK.lock().await;
    let place = Place::new();
    place.write_genesis(&place.wallet("alice"));
    let mut node = place.start_node();
    let shown = |place: &Place| {
        let output = place.pithead(&["peers"]);
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(shown(&place).contains("--offline"));
    assert_eq!(place.json(&["peers"])["offline"], true);
    node.signal("TERM");
    assert!(node.ended_well());

    let mut command = place.node_command();
    command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]);
    let _node = place.start(command);
    assert!(shown(&place).contains("pithead peers add"));
    assert_eq!(place.json(&["peers"])["offline"], false);
    let token = place.path("node/admin.token");
    let token = ["--token-file", token.to_str().unwrap()];
    let ban = [&token[..], &["peers", "ban", "192.0.2.1", "--secs", "60"]].concat();
    let banned = place.json(&ban);
    assert_eq!(banned["action"], "ban");
    assert_eq!(banned["peer"], "192.0.2.1");
    assert_eq!(banned["secs"], 60);
    let bans = place.json(&[&token[..], &["peers", "bans"]].concat());
    assert_eq!(bans["bans"][0]["peer"], "192.0.2.1");
    let unban = place.json(&[&token[..], &["peers", "unban", "192.0.2.1"]].concat());
    assert_eq!(unban["action"], "unban");
}
