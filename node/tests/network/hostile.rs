//! Peers that break the protocol against a real node. The node turns each of them away, blames no
//! peer for a broken connection, and serves honest peers all the same. What peers do wrong within
//! the protocol is tested without sockets, in the sync tests of `pithead-core`; floods are in
//! `floods`.

use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::raw::{
    Outcome, RawPeer, assert_in_step, bans, framed, node_with_honest_peer, peer_ids, score,
};
use libp2p::Multiaddr;
use pithead_api::v1;
use pithead_consensus::{Block, BlockHeader, Encode as _};
use pithead_core::sync::Offence;
use pithead_testkit::process::{Network, PATIENCE, TestNode, data_dir};

/// Whether a score that was a little above zero shows this offence.
fn is_blamed(score: Option<f64>, offence: Offence) -> bool {
    score.is_some_and(|score| score < 1.0 - f64::from(offence.points()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_get_their_sender_banned() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    // An unknown kind; a count larger than what follows; the same block 1,000 times; no byte;
    // more bytes than any request has.
    let again = [vec![2, 0xe8, 0x03], vec![7; 32_000]].concat();
    let huge = vec![4; 100_000];
    for raw in [vec![9], vec![2, 0xff, 0xff], again, Vec::new(), huge] {
        let mut peer = RawPeer::connect(&network, &node).await;
        peer.ask(framed(&raw));
        let own = peer.id();
        peer.run_until("it costs points", async |_| {
            is_blamed(score(&node, &own).await, Offence::Malformed)
        })
        .await;
        assert!(!bans(&node).await.contains(&own), "once may be an accident");
        // Twice more is no accident, even if a point was forgiven in between.
        peer.ask(framed(&raw));
        peer.ask(framed(&raw));
        peer.until_disconnected().await;
        assert!(bans(&node).await.contains(&own));
        // The peer sees the connection end before the node has removed it from its list.
        node.until("the peer is no longer listed", async || {
            (!peer_ids(&node).await.contains(&own)).then_some(())
        })
        .await;
    }
    assert_in_step(&network, &node, &honest).await;
}

/// Connections break: a peer is not penalised for half a request or half an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_message_is_not_held_against_a_peer() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    // Half an answer to whatever the node asks.
    let half = |_: &[u8]| Some(framed(&[0; 81])[..40].to_vec());
    let mut peer = RawPeer::connect_answering(&network, &node, half).await;
    let whole = framed(&[4]);
    for length in 0..whole.len() {
        let outcome = peer.ask_and_wait(whole[..length].to_vec()).await;
        let nothing = match &outcome {
            Outcome::Answered(raw) => raw.is_empty(),
            Outcome::Failed => true,
        };
        assert!(nothing, "{outcome:?}");
    }
    let Outcome::Answered(answer) = peer.ask_and_wait(whole).await else {
        panic!("a whole request is answered");
    };
    assert_eq!(answer, framed(&[4, 0, 0, 0, 0]));
    peer.run_until("the node asks", async |peer| !peer.asked.is_empty())
        .await;
    assert!(score(&node, &peer.id()).await.unwrap() >= 0.0);
    assert!(bans(&node).await.is_empty());
    assert_in_step(&network, &node, &honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_longer_than_its_kind_costs_points() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    // A megabyte as an answer to a request for the status.
    let huge = |_: &[u8]| Some(framed(&vec![0; 1 << 20]));
    let mut peer = RawPeer::connect_answering(&network, &node, huge).await;
    let own = peer.id();
    peer.run_until("it costs points", async |_| {
        is_blamed(score(&node, &own).await, Offence::Malformed)
    })
    .await;
    assert_in_step(&network, &node, &honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_without_work_gets_its_sender_banned() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    let mut peer = RawPeer::connect(&network, &node).await;
    let mut header = honest
        .next_block(&pithead_testkit::key(7).address, &network)
        .await
        .header;
    let target = network.genesis.params.pow_limit;
    while target.is_met_by(&header.hash()) {
        header = BlockHeader {
            nonce: header.nonce + 1,
            ..header
        };
    }
    peer.publish_block(header.encode()).await;
    peer.until_disconnected().await;
    assert!(bans(&node).await.contains(&peer.id()));
    assert_in_step(&network, &node, &honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_that_is_no_message_gets_its_sender_banned() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    for length in [0, 79] {
        let mut peer = RawPeer::connect(&network, &node).await;
        let own = peer.id();
        peer.publish_block(vec![7; length]).await;
        peer.run_until("it costs points", async |_| {
            is_blamed(score(&node, &own).await, Offence::Malformed)
        })
        .await;
        peer.publish_transaction(vec![7; length + 1]).await;
        peer.publish_transaction(vec![7; length + 2]).await;
        peer.until_disconnected().await;
        assert!(bans(&node).await.contains(&own));
    }
    assert_in_step(&network, &node, &honest).await;
}

/// A node can't judge a header whose parent it lacks, and gossip carries no message twice. Once
/// the node has the block, it tells its peers by its status instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_gossip_does_not_carry_is_told_of_directly() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start_with(&network, dir.path(), &["--listen", "/ip4/127.0.0.1/tcp/0"]);
    let mut chain = network.mirror();
    let blocks: Vec<Block> = (0..2)
        .map(|_| {
            let block = chain.assemble(Vec::new(), pithead_testkit::key(7).address, 2);
            chain.connect(block.clone()).unwrap();
            block
        })
        .collect();
    // It has the node's own status, no headers, and nothing pending.
    let answers = |request: &[u8]| match request[0] {
        0 => Some(framed(request)),
        1 => Some(framed(&[1, 0, 0])),
        4 => Some(framed(&[4, 0, 0, 0, 0])),
        _ => None,
    };
    let mut peer = RawPeer::connect_answering(&network, &node, answers).await;
    peer.publish_block(blocks[1].header.encode()).await;
    peer.run_until("the node asks for what comes before", async |peer| {
        peer.asked.iter().any(|request| request[0] == 1)
    })
    .await;
    for block in &blocks {
        node.extend(block).await;
    }
    let hash = blocks[1].header.hash();
    peer.run_until("the node tells of the block", async |peer| {
        let told = |request: &Vec<u8>| request[0] == 0 && request[1..33] == hash.0;
        peer.asked.iter().any(told)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_do_not_keep_others_out() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    let address: Multiaddr = node.node_info().await.listen_addresses[0].parse().unwrap();
    let port = address.iter().find_map(|part| match part {
        libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let place = SocketAddr::from(([127, 0, 0, 1], port.unwrap()));
    let silent: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(place).unwrap())
        .collect();
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    let late = TestNode::start_with(&network, dirs[2].path(), &listen);
    let deadline = Instant::now() + PATIENCE;
    while peer_ids(&late).await.is_empty() {
        assert!(Instant::now() < deadline, "{}", late.log());
        let address = node.listen_address().await;
        // The node may refuse it at first.
        let _ = late.admin().add_peer(v1::AddPeerRequest { address }).await;
    }
    assert_in_step(&network, &node, &honest).await;
    drop(silent);
}
