//! Nodes as processes that find each other, and what operators see and do of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::time::Instant;

use pithead_api::v1;
use support::{Network, PATIENCE, TestNode, data_dir};

/// Starts a node that listens on this machine and knows these others.
fn start(network: &Network, dir: &Path, bootnodes: &[&str]) -> TestNode {
    let mut flags = vec!["--listen", "/ip4/127.0.0.1/tcp/0"];
    for bootnode in bootnodes {
        flags.extend(["--bootnode", *bootnode]);
    }
    TestNode::start_with(network, dir, &flags)
}

async fn node_info(node: &TestNode) -> v1::GetNodeInfoResponse {
    let request = v1::GetNodeInfoRequest {};
    let response = node.network().get_node_info(request).await;
    response.unwrap().into_inner()
}

/// Where the node can be reached, with its identity.
async fn address(node: &TestNode) -> String {
    node_info(node).await.listen_addresses.remove(0)
}

async fn peers(node: &TestNode) -> Vec<v1::Peer> {
    let request = v1::ListPeersRequest::default();
    let response = node.network().list_peers(request).await;
    response.unwrap().into_inner().peers
}

/// Waits until something holds; `what` says what, if it never does.
async fn until<T>(node: &TestNode, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: {}", node.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits until the node has so many peers, and lists them.
async fn until_peers(node: &TestNode, count: usize) -> Vec<v1::Peer> {
    until(node, &format!("{count} peers"), async || {
        Some(peers(node).await).filter(|peers| peers.len() == count)
    })
    .await
}

#[tokio::test]
async fn a_bootnode_is_enough_to_connect() {
    let network = Network::easy();
    let (first_dir, second_dir) = (data_dir(), data_dir());
    let first = start(&network, first_dir.path(), &[]);
    let second = start(&network, second_dir.path(), &[&address(&first).await]);
    let seen_by_second = until_peers(&second, 1).await.remove(0);
    let seen_by_first = until_peers(&first, 1).await.remove(0);
    assert_eq!(seen_by_second.peer_id, node_info(&first).await.peer_id);
    assert_eq!(seen_by_first.peer_id, node_info(&second).await.peer_id);
    assert!(!seen_by_second.inbound);
    assert!(seen_by_first.inbound);
    assert_eq!(node_info(&first).await.peer_count, 1);
    let latency = |node| async move {
        let measured = async || peers(node).await.pop()?.latency;
        until(node, "a round trip is measured", measured).await
    };
    latency(&first).await;
    latency(&second).await;
    let agent = peers(&first).await.remove(0).agent;
    assert!(agent.starts_with("pithead-node/"), "{agent}");
    assert!(second.terminate().await.success());
    until_peers(&first, 0).await;
    assert!(first.terminate().await.success());
}
