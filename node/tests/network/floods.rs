//! Floods against a real node. A peer that asks, sends or promises too much gets no more than its
//! share, other peers are served meanwhile, and the node's memory stays bounded.

use super::raw::{
    Outcome, RawPeer, assert_in_step, connect, framed, node_with_honest_peer, resident_bytes,
};
use pithead_consensus::{Block, Encode as _};
use pithead_core::sync::Request;
use pithead_testkit::key;
use pithead_testkit::process::{Network, PATIENCE, TestNode, data_dir};

/// Bytes by which a node may grow under any flood of these tests. The node's limits allow far less
/// here, and each flood sends far more.
const GROWTH_MAX: usize = 96 << 20;

/// Blocks that fill more than one answer.
async fn large_blocks(network: &Network, node: &TestNode) -> Vec<Block> {
    const BLOCKS: usize = 4;
    const PAYMENTS: u64 = 28;
    let mut chain = network.mirror();
    let mut blocks = Vec::new();
    for number in 0..BLOCKS as u64 {
        let payments = (0..4).flat_map(|owner| {
            let outputs = vec![(key(5).address, 10_000); 255];
            (0..PAYMENTS).map(move |index| {
                let sequence = number * PAYMENTS + index;
                key(owner).pay(&network.hash(), sequence, 20_000, &outputs)
            })
        });
        let block = chain.assemble(payments.collect(), key(6).address, 2);
        chain.connect(block.clone()).unwrap();
        node.extend(&block).await;
        blocks.push(block);
    }
    let bytes: usize = blocks.iter().map(Block::size).sum();
    assert!(bytes > 4 << 20, "{bytes} bytes");
    blocks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_do_not_read_do_not_keep_others_from_being_served() {
    let network = Network::with(|file| file.max_account_changes = 100_000);
    let dirs = [data_dir(), data_dir()];
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    let node = TestNode::start_with(&network, dirs[0].path(), &listen);
    let blocks = large_blocks(&network, &node).await;
    let tip = blocks.last().unwrap().header.hash().to_string();
    let request =
        framed(&Request::Blocks(blocks.iter().map(|b| b.header.hash()).collect()).encode());
    let before = resident_bytes(&node);
    let mut deaf = Vec::new();
    for _ in 0..8 {
        let mut peer = RawPeer::connect_deaf(&network, &node).await;
        for _ in 0..16 {
            peer.ask(request.clone());
        }
        // It asks again whenever the node declines, and never reads an answer.
        let request = request.clone();
        deaf.push(tokio::spawn(async move {
            loop {
                let (_, outcome) = peer.outcome().await;
                assert!(matches!(outcome, Outcome::Failed));
                peer.ask(request.clone());
                peer.run_for(std::time::Duration::from_millis(50)).await;
            }
        }));
    }
    // A node without blocks gets all of them meanwhile, and a new block travels both ways.
    let late = TestNode::start_with(&network, dirs[1].path(), &listen);
    connect(&late, &node).await;
    late.until_tip(&tip).await;
    assert_in_step(&network, &node, &late).await;
    let growth = resident_bytes(&node).saturating_sub(before);
    assert!(growth < GROWTH_MAX, "grown by {growth} bytes");
    for task in deaf {
        assert!(!task.is_finished(), "it was still asking");
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_asks_too_much_is_declined_and_others_are_served() {
    const ASKED: usize = 1_500;
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    let mut loud = RawPeer::connect(&network, &node).await;
    let mut quiet = RawPeer::connect(&network, &node).await;
    let answer = framed(&[4, 0, 0, 0, 0]);
    let expected = answer.clone();
    let flood = tokio::spawn(async move {
        for _ in 0..4 {
            loud.ask(framed(&[4]));
        }
        let (mut answered, mut declined) = (0, 0);
        while answered + declined < ASKED {
            match loud.outcome().await.1 {
                Outcome::Answered(raw) if raw == expected => answered += 1,
                Outcome::Answered(_) | Outcome::Failed => declined += 1,
            }
            loud.ask(framed(&[4]));
        }
        (answered, declined)
    });
    let mut served = 0;
    while !flood.is_finished() && served < 150 {
        match quiet.ask_and_wait(framed(&[4])).await {
            Outcome::Answered(raw) => assert_eq!(raw, answer),
            Outcome::Failed => panic!("declined although it asked little"),
        }
        served += 1;
    }
    let flood = tokio::time::timeout(2 * PATIENCE, flood).await.unwrap();
    let (answered, declined) = flood.unwrap();
    // A burst of 200, and one more every 60 ms.
    assert!(answered >= 200, "{answered} answered");
    assert!(declined >= 100, "{declined} declined");
    assert!(served > 0, "somebody asked meanwhile");
    assert_in_step(&network, &node, &honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_gossip_is_not_taken_in() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    let mut peer = RawPeer::connect(&network, &node).await;
    let before = resident_bytes(&node);
    for number in 0..100_u8 {
        peer.try_publish_block(vec![number; 2 << 20]).await;
    }
    assert_in_step(&network, &node, &honest).await;
    let growth = resident_bytes(&node).saturating_sub(before);
    assert!(growth < GROWTH_MAX, "grown by {growth} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_addresses_leaves_no_mark() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    let before = resident_bytes(&node);
    let mut peer = RawPeer::connect(&network, &node).await;
    // By identify and by Kademlia. No node listens at any of these addresses.
    peer.claim_addresses(60);
    peer.know_peers(20_000);
    // By then the node has asked it for peers and got as many as a message holds.
    peer.run_until("the node asks for peers", async |peer| peer.lookups >= 2)
        .await;
    assert_in_step(&network, &node, &honest).await;
    let growth = resident_bytes(&node).saturating_sub(before);
    assert!(growth < GROWTH_MAX, "grown by {growth} bytes");
}
