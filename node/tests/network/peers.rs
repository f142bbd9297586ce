//! Nodes on one machine find each other from one bootnode, catch up, survive restarts and kills, and
//! pass blocks and payments on. Operators add, remove and ban peers, and miners are sent away from a
//! node that is behind.

use std::path::Path;

use pithead_api::v1;
use pithead_testkit::process::{
    Network, TestNode, bare_node_command, data_dir, end_of, failure_of, next, reason, verify,
    violated_field,
};
use pithead_testkit::{FEE, PIT};
use tempfile::TempDir;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Starts a node that listens on this machine and knows these others.
fn start(network: &Network, dir: &Path, bootnodes: &[&str]) -> TestNode {
    let mut flags = vec!["--listen", "/ip4/127.0.0.1/tcp/0"];
    for bootnode in bootnodes {
        flags.extend(["--bootnode", *bootnode]);
    }
    TestNode::start_with(network, dir, &flags)
}

/// Waits until the node has so many peers, and lists them.
async fn until_peers(node: &TestNode, count: usize) -> Vec<v1::Peer> {
    node.until(&format!("{count} peers"), async || {
        Some(node.peers().await).filter(|peers| peers.len() == count)
    })
    .await
}

/// Waits until the round trip to the only peer is measured.
async fn until_latency(node: &TestNode) {
    node.until("a round trip is measured", async || {
        node.peers().await.pop()?.latency
    })
    .await;
}

/// Two connected nodes. The first is the bootnode of the second.
async fn pair(network: &Network, dirs: &[TempDir; 2]) -> [TestNode; 2] {
    let first = start(network, dirs[0].path(), &[]);
    let bootnode = first.listen_address().await;
    let second = start(network, dirs[1].path(), &[&bootnode]);
    until_peers(&second, 1).await;
    [first, second]
}

#[tokio::test]
async fn a_bootnode_is_enough_to_connect() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let [first, second] = pair(&network, &dirs).await;
    let seen_by_second = until_peers(&second, 1).await.remove(0);
    let seen_by_first = until_peers(&first, 1).await.remove(0);
    assert_eq!(seen_by_second.peer_id, first.node_info().await.peer_id);
    assert_eq!(seen_by_first.peer_id, second.node_info().await.peer_id);
    assert!(!seen_by_second.inbound);
    assert!(seen_by_first.inbound);
    assert_eq!(first.node_info().await.peer_count, 1);
    until_latency(&first).await;
    until_latency(&second).await;
    let agent = first.peers().await.remove(0).agent;
    assert!(agent.starts_with("pithead-node/"), "{agent}");
    assert!(second.terminate().await.success());
    until_peers(&first, 0).await;
    assert!(first.terminate().await.success());
}

/// Waits until a node knows that it has caught up.
async fn until_in_step(node: &TestNode) {
    node.until("it has caught up", async || {
        (!node.node_info().await.syncing).then_some(())
    })
    .await;
}

async fn tip(node: &TestNode) -> String {
    node.info().await.tip.unwrap().hash
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_find_each_other_and_share_blocks_and_payments() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir(), data_dir()];
    let first = start(&network, dirs[0].path(), &[]);
    first.mine(&network, 30).await;
    let bootnode = first.listen_address().await;
    let second = start(&network, dirs[1].path(), &[&bootnode]);
    let third = start(&network, dirs[2].path(), &[&bootnode]);
    // The bootnode has told each of them of the other.
    for node in [&first, &second, &third] {
        until_peers(node, 2).await;
    }
    // Both catch up, and all have each block that one of them mines.
    for node in [&second, &third] {
        node.until_tip(&tip(&first).await).await;
    }
    for miner in [&second, &third, &first] {
        let hash = miner.mine(&network, 1).await;
        for node in [&first, &second, &third] {
            node.until_tip(&hash).await;
        }
    }
    // A payment that one node accepts is mined by another.
    let txid = second.accept(&network.pay(0, 0, 5, PIT, FEE)).await;
    for node in [&first, &third] {
        node.until("the payment arrives", async || {
            let request = v1::GetTransactionRequest { txid: txid.clone() };
            node.chain().get_transaction(request).await.ok()
        })
        .await;
    }
    let hash = third.mine(&network, 1).await;
    for node in [&first, &second] {
        node.until_tip(&hash).await;
        assert_eq!(node.account(&network, 5).await.balance, PIT);
    }
    // Peers' heights follow.
    let height = first.height().await;
    first
        .until("heights follow", async || {
            let all = first.peers().await;
            all.iter().any(|peer| peer.height == height).then_some(())
        })
        .await;
    for node in [first, second, third] {
        assert!(node.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_keeps_its_identity_and_finds_its_peers_again() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let [first, second] = pair(&network, &dirs).await;
    let identity = second.node_info().await.peer_id;
    assert!(second.terminate().await.success());
    // No bootnode this time.
    let second = start(&network, dirs[1].path(), &[]);
    let found = until_peers(&second, 1).await.remove(0);
    assert_eq!(second.node_info().await.peer_id, identity);
    assert_eq!(found.peer_id, first.node_info().await.peer_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_while_catching_up_goes_on_where_it_was() {
    const BLOCKS: u32 = 5_000;
    let network = Network::with(|file| file.time -= 3 * BLOCKS);
    let (first_dir, second_dir) = (data_dir(), data_dir());
    let first = start(&network, first_dir.path(), &[]);
    for _ in 0..5 {
        let request = v1::MineBlocksRequest {
            count: BLOCKS / 5,
            reward_address: network.address(7),
        };
        first.admin().mine_blocks(request).await.unwrap();
    }
    let hash = tip(&first).await;
    let bootnode = first.listen_address().await;
    let second = start(&network, second_dir.path(), &[&bootnode]);
    // Blocks are committed a few hundred at a time while catching up.
    second.until_height(1_000).await;
    second.kill();
    // Started offline, it shows how far it had come.
    let alone = TestNode::start(&network, second_dir.path());
    let reached = alone.height().await;
    assert!(reached > 0, "what was committed is kept");
    assert!(reached < u64::from(BLOCKS), "it was in the middle of it");
    assert!(alone.terminate().await.success());
    let second = start(&network, second_dir.path(), &[&bootnode]);
    second.until_tip(&hash).await;
    until_in_step(&second).await;
    assert!(second.terminate().await.success());
    verify(&network, second_dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_with_too_little_work_is_left_alone() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir(), data_dir()];
    let first = start(&network, dirs[0].path(), &[]);
    first.mine(&network, 30).await;
    let bootnode = first.listen_address().await;
    // Each block is worth two hashes.
    let flags = ["--listen", "/ip4/127.0.0.1/tcp/0", "--bootnode", &bootnode];
    let choosy = [&flags[..], &["--minimum-chain-work", "64"]].concat();
    let second = TestNode::start_with(&network, dirs[1].path(), &choosy);
    until_peers(&second, 1).await;
    let third = TestNode::start_with(&network, dirs[2].path(), &flags);
    third.until_tip(&tip(&first).await).await;
    assert_eq!(second.height().await, 0);
    assert!(second.node_info().await.syncing);
    let hash = first.mine(&network, 20).await;
    second.until_tip(&hash).await;
    until_in_step(&second).await;
}

/// A miner's stream ends when its node falls far behind, and not for a block.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn miners_are_sent_away_while_a_node_catches_up() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let [first, second] = pair(&network, &dirs).await;
    let subscribe = async || {
        let request = v1::SubscribeWorkRequest {
            reward_address: network.address(7),
            ..v1::SubscribeWorkRequest::default()
        };
        let stream = second.mining().subscribe_work(request).await;
        stream.map(tonic::Response::into_inner)
    };
    // Work may come again for a height that was there before.
    let until_height = async |work: &mut tonic::Streaming<v1::SubscribeWorkResponse>, height| {
        while next(work).await.height != height {}
    };
    let mut work = subscribe().await.unwrap();
    until_height(&mut work, 1).await;
    // A block of another node is new work.
    let hash = first.mine(&network, 1).await;
    second.until_tip(&hash).await;
    until_height(&mut work, 2).await;
    // While they are apart, the first gets far ahead.
    let peer = first.node_info().await.peer_id;
    let request = v1::BanPeerRequest {
        peer: peer.clone(),
        duration: None,
    };
    second.admin().ban_peer(request).await.unwrap();
    until_peers(&second, 0).await;
    let hash = first.mine(&network, 400).await;
    let request = v1::UnbanPeerRequest { peer };
    second.admin().unban_peer(request).await.unwrap();
    let request = v1::AddPeerRequest {
        address: first.listen_address().await,
    };
    second.admin().add_peer(request).await.unwrap();
    let ended = end_of(&mut work).await.unwrap();
    assert_eq!(ended.code(), tonic::Code::Unavailable, "{ended:?}");
    assert_eq!(reason(&ended), "SYNCING");
    second.until_tip(&hash).await;
    // In step again, the node's first work is on the tip.
    let mut work = second
        .until("it gives work again", async || subscribe().await.ok())
        .await;
    assert_eq!(next(&mut work).await.height, 402);
}

/// A miner process, killed when dropped.
struct Miner(std::process::Child);

impl Miner {
    fn start(nodes: &str, address: &str) -> Self {
        let mut command =
            std::process::Command::new(pithead_testkit::process::built("pithead-miner"));
        command.args(["--node", nodes, "--address", address, "--worker", "rig"]);
        command.args(["--threads", "1", "--quiet"]);
        command.stdin(std::process::Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The miner among a node's workers.
async fn worker(node: &TestNode) -> Option<v1::Worker> {
    let list = node.mining().list_workers(v1::ListWorkersRequest {}).await;
    list.unwrap().into_inner().workers.pop()
}

/// Blocks take two hashes at first, and every batch of a miner finds hundreds. The node gets about
/// as many blocks as the chain grows by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_miner_at_the_easiest_target_gives_the_node_one_block_a_tip() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start_with(&network, dir.path(), &["--mine-without-token"]);
    let miner = Miner::start(node.address(), &network.address(7));
    node.until_height(300).await;
    drop(miner);
    let worker = worker(&node).await.unwrap();
    assert!(worker.accepted_blocks >= 300, "{worker:?}");
    assert_eq!((worker.side_blocks, worker.rejected), (0, 0), "{worker:?}");
    // The miner may have gone before the answer to its last block.
    assert!(node.height().await.abs_diff(worker.accepted_blocks) <= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_miner_mines_for_the_node_that_is_in_step() {
    // Blocks take 2^20 hashes: some tens of milliseconds on a fast processor, a second on a slow
    // one.
    let network = Network::with(|file| {
        file.bits = 0x1e0f_ffff;
        file.pow_limit_bits = 0x1e0f_ffff;
    });
    let (first_dir, second_dir) = (data_dir(), data_dir());
    let open = ["--listen", "/ip4/127.0.0.1/tcp/0", "--mine-without-token"];
    let in_step = TestNode::start_with(&network, first_dir.path(), &open);
    let bootnode = in_step.listen_address().await;
    // In step once the chain has some ten blocks.
    let behind = ["--bootnode", &bootnode, "--minimum-chain-work", "a00000"];
    let behind = [&open[..], &behind].concat();
    let behind = TestNode::start_with(&network, second_dir.path(), &behind);
    until_peers(&behind, 1).await;
    assert!(behind.node_info().await.syncing);
    let nodes = format!("{},{}", behind.address(), in_step.address());
    let _miner = Miner::start(&nodes, &network.address(7));
    in_step
        .until("the miner finds a block", async || {
            worker(&in_step).await.filter(|one| one.accepted_blocks > 0)
        })
        .await;
    behind
        .until("it comes into step", async || {
            (!behind.node_info().await.syncing).then_some(())
        })
        .await;
    assert_eq!(worker(&behind).await, None, "it never gave work");
    // When the first node is gone, the miner turns to the second.
    in_step.kill();
    let before = behind.height().await;
    let one = behind
        .until("the miner finds a block", async || {
            worker(&behind).await.filter(|one| one.accepted_blocks > 0)
        })
        .await;
    assert_eq!((one.name.as_str(), one.connected), ("rig", true));
    assert!(behind.height().await > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_network_is_no_peer() {
    let network = Network::easy();
    let other = Network::with(|file| file.name = "another".to_owned());
    let (first_dir, second_dir) = (data_dir(), data_dir());
    let first = start(&network, first_dir.path(), &[]);
    let stranger = start(&other, second_dir.path(), &[]);
    let request = v1::AddPeerRequest {
        address: first.listen_address().await,
    };
    let status = stranger.admin().add_peer(request).await.unwrap_err();
    assert_eq!(reason(&status), "PEER_NOT_REACHED");
    assert!(status.message().contains("network"), "{status:?}");
    assert!(first.peers().await.is_empty());
    assert!(stranger.peers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_add_remove_ban_and_unban_peers() {
    let network = Network::easy();
    let (first_dir, second_dir) = (data_dir(), data_dir());
    let first = start(&network, first_dir.path(), &[]);
    let second = start(&network, second_dir.path(), &[]);
    let id = second.node_info().await.peer_id;
    let (mut admin, place) = (first.admin(), second.listen_address().await);
    let add = |address: &str| v1::AddPeerRequest {
        address: address.to_owned(),
    };
    let added = admin.add_peer(add(&place)).await.unwrap().into_inner();
    assert_eq!(added.peer_id, id);
    assert_eq!(until_peers(&first, 1).await[0].peer_id, id);

    let remove = v1::RemovePeerRequest {
        peer_id: id.clone(),
    };
    admin.remove_peer(remove.clone()).await.unwrap();
    until_peers(&first, 0).await;
    let status = admin.remove_peer(remove).await.unwrap_err();
    assert_eq!(reason(&status), "PEER_NOT_FOUND");

    let ban = v1::BanPeerRequest {
        peer: id.clone(),
        duration: None,
    };
    admin.ban_peer(ban).await.unwrap();
    let bans = admin.list_bans(v1::ListBansRequest::default()).await;
    let bans = bans.unwrap().into_inner().bans;
    assert_eq!(bans[0].peer, id);
    let ends =
        bans[0].end_time.unwrap().seconds - i64::try_from(pithead_testkit::process::now()).unwrap();
    assert!((86_300..=86_400).contains(&ends), "{ends}");
    let status = admin.add_peer(add(&place)).await.unwrap_err();
    assert_eq!(reason(&status), "PEER_NOT_REACHED");
    // A ban outlives the process.
    let place_of_first = first.listen_address().await;
    assert!(first.terminate().await.success());
    let flags = ["--listen", place_of_first.split("/p2p/").next().unwrap()];
    let first = TestNode::start_with(&network, first_dir.path(), &flags);
    let mut admin = first.admin();
    let status = second.admin().add_peer(add(&place_of_first)).await;
    assert_eq!(reason(&status.unwrap_err()), "PEER_NOT_REACHED");
    assert!(first.peers().await.is_empty());

    let unban = v1::UnbanPeerRequest { peer: id.clone() };
    admin.unban_peer(unban.clone()).await.unwrap();
    let status = admin.unban_peer(unban).await.unwrap_err();
    assert_eq!(reason(&status), "BAN_NOT_FOUND");
    admin.add_peer(add(&place)).await.unwrap();
    assert_eq!(until_peers(&first, 1).await[0].peer_id, id);
}

#[tokio::test]
async fn what_operators_mistype_is_explained() {
    let network = Network::easy();
    let dir = data_dir();
    let node = start(&network, dir.path(), &[]);
    let mut admin = node.admin();
    let add = |address: &str| v1::AddPeerRequest {
        address: address.to_owned(),
    };
    let status = admin.add_peer(add("nonsense")).await.unwrap_err();
    assert_eq!(violated_field(&status), "address");
    // No node listens at this address.
    let status = admin.add_peer(add("127.0.0.1:1")).await.unwrap_err();
    assert_eq!(reason(&status), "PEER_NOT_REACHED");
    // This is the node's own address.
    let own = node.listen_address().await;
    let own = own.split("/p2p/").next().unwrap();
    let status = admin.add_peer(add(own)).await.unwrap_err();
    assert_eq!(reason(&status), "PEER_NOT_REACHED");
    for who in ["nonsense", "127.0.0.1"] {
        let ban = v1::BanPeerRequest {
            peer: who.to_owned(),
            duration: None,
        };
        let status = admin.ban_peer(ban).await.unwrap_err();
        assert_eq!(violated_field(&status), "peer");
    }
    let remove = v1::RemovePeerRequest {
        peer_id: "nonsense".to_owned(),
    };
    let status = admin.remove_peer(remove).await.unwrap_err();
    assert_eq!(violated_field(&status), "peer_id");
}

#[tokio::test]
async fn an_offline_node_has_no_peers_and_takes_none() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let info = node.node_info().await;
    assert_eq!((info.peer_count, info.peer_id.as_str()), (0, ""));
    assert!(info.listen_addresses.is_empty());
    assert!(node.peers().await.is_empty());
    let add = v1::AddPeerRequest {
        address: "127.0.0.1:1".to_owned(),
    };
    let status = node.admin().add_peer(add).await.unwrap_err();
    assert_eq!(reason(&status), "OFFLINE");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let network = Network::easy();
    let (first_dir, second_dir) = (data_dir(), data_dir());
    let first = start(&network, first_dir.path(), &[]);
    let taken = first.listen_address().await;
    let taken = taken.split("/p2p/").next().unwrap();
    let mut command = bare_node_command(&network, second_dir.path());
    command.args(["--listen", taken]);
    let said = failure_of(&mut command);
    assert!(said.contains(taken) && said.contains("--listen"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_joiner_syncs_2000_blocks_and_sends_miners_elsewhere_meanwhile() {
    let network = Network::easy();
    let (first_dir, late_dir) = (data_dir(), data_dir());
    let first = start(&network, first_dir.path(), &[]);
    let hash = first.mine(&network, 2_000).await;
    let late = start(&network, late_dir.path(), &[]);
    let mut health = HealthClient::new(late.channel())
        .watch(HealthCheckRequest {
            service: "pithead.v1.MiningService".to_owned(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(next(&mut health).await.status(), ServingStatus::Serving);
    let add = v1::AddPeerRequest {
        address: first.listen_address().await,
    };
    late.admin().add_peer(add).await.unwrap();
    assert_eq!(next(&mut health).await.status(), ServingStatus::NotServing);
    assert_eq!(next(&mut health).await.status(), ServingStatus::Serving);
    late.until_tip(&hash).await;
    assert!(!late.node_info().await.syncing);
    // Blocks that it mines now extend the common chain.
    let hash = late.mine(&network, 1).await;
    first.until_tip(&hash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_does_as_well_as_tcp() {
    let network = Network::easy();
    let (first_dir, second_dir) = (data_dir(), data_dir());
    let quic = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];
    let first = TestNode::start_with(&network, first_dir.path(), &quic);
    let hash = first.mine(&network, 50).await;
    let second = TestNode::start_with(&network, second_dir.path(), &quic);
    let add = v1::AddPeerRequest {
        address: first.listen_address().await,
    };
    second.admin().add_peer(add).await.unwrap();
    let connected = until_peers(&second, 1).await.remove(0);
    assert!(connected.address.contains("/quic-v1"), "{connected:?}");
    second.until_tip(&hash).await;
    let hash = second.mine(&network, 1).await;
    first.until_tip(&hash).await;
}
