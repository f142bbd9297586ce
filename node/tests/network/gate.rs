//! Limits on connections. A node never has more peers than `--max-peers`, and drops a peer that
//! identifies itself again and again.

use std::path::Path;
use std::time::{Duration, Instant};

use libp2p::futures::StreamExt as _;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify, kad};
use pithead_api::v1;
use pithead_testkit::process::{Network, PATIENCE, TestNode, data_dir};

use super::raw::tcp_swarm;

/// Starts a node that listens for others on this machine.
fn start(network: &Network, dir: &Path, more: &[&str]) -> TestNode {
    let flags = [&["--listen", "/ip4/127.0.0.1/tcp/0"], more].concat();
    TestNode::start_with(network, dir, &flags)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn max_peers_is_a_bound() {
    const MOST: usize = 4;
    let network = Network::easy();
    let dir = data_dir();
    let dirs: Vec<_> = (0..7).map(|_| data_dir()).collect();
    let first = start(&network, dirs[0].path(), &[]);
    let bootnode = first.listen_address().await;
    let known = ["--bootnode", bootnode.as_str()];
    let small = [&known[..], &["--max-peers", "4"]].concat();
    let small = start(&network, dir.path(), &small);
    let more = dirs.iter().skip(1);
    let more = more.map(|dir| start(&network, dir.path(), &known));
    let others: Vec<_> = std::iter::once(first).chain(more).collect();
    // All nodes find each other. The small one reaches its bound and never exceeds it, although
    // its protocols look for more peers.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let held = small.peers().await.len();
        assert!(held <= MOST, "{held}: {}", small.log());
        let mut fewest = usize::MAX;
        for other in &others {
            fewest = fewest.min(other.peers().await.len());
        }
        if held == MOST && fewest >= MOST {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{held}, {fewest}: {}",
            small.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Peers that an operator adds count towards the same bound.
    for other in &others {
        let address = other.listen_address().await;
        // Some are connected already; for others there is no place.
        let _ = small.admin().add_peer(v1::AddPeerRequest { address }).await;
        assert!(small.peers().await.len() <= MOST);
    }
}

/// A peer that identifies itself and claims to take part in the network. It offers the name of the
/// sync protocol, but does not speak it.
#[derive(NetworkBehaviour)]
struct Talker {
    identify: identify::Behaviour,
    claims: kad::Behaviour<kad::store::MemoryStore>,
}

fn talker(network: &Network) -> Swarm<Talker> {
    let name = format!("/pithead/{}/sync/1", network.hash());
    let name = StreamProtocol::try_from_owned(name).unwrap();
    tcp_swarm(4 * PATIENCE, |key| {
        let config = identify::Config::new("/talker/1".to_owned(), key.public());
        let own = key.public().to_peer_id();
        let store = kad::store::MemoryStore::new(own);
        let mut claims = kad::Behaviour::with_config(own, store, kad::Config::new(name));
        claims.set_mode(Some(kad::Mode::Server));
        Talker {
            identify: identify::Behaviour::new(config),
            claims,
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_identifies_itself_again_and_again_is_dropped() {
    let network = Network::easy();
    let dir = data_dir();
    let node = start(&network, dir.path(), &[]);
    let mut talker = talker(&network);
    let own = talker.local_peer_id().to_string();
    let id: PeerId = node.node_info().await.peer_id.parse().unwrap();
    let there: Multiaddr = node.listen_address().await.parse().unwrap();
    talker.dial(there).unwrap();
    // Identified once, it is a peer.
    let deadline = Instant::now() + PATIENCE;
    while node.peers().await.iter().all(|peer| peer.peer_id != own) {
        assert!(Instant::now() < deadline, "{}", node.log());
        let moment = Duration::from_millis(20);
        let _ = tokio::time::timeout(moment, async {
            loop {
                talker.select_next_some().await;
            }
        })
        .await;
    }
    talker.behaviour_mut().identify.push([id]);
    let closed = async {
        loop {
            match talker.select_next_some().await {
                SwarmEvent::ConnectionClosed { .. } => return,
                // As soon as it has identified itself, it does it again.
                SwarmEvent::Behaviour(TalkerEvent::Identify(_)) => {
                    talker.behaviour_mut().identify.push([id]);
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
}
