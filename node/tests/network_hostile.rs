//! Peers that break the protocol, against a real node: each is turned away, and
//! honest ones are served all the same. What peers do wrong within the protocol is
//! tested without sockets, in `sync_faulty`.

#![allow(clippy::unwrap_used)]

mod support;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use libp2p::futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::request_response::{self, Message, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify, noise, tcp, yamux};
use pithead_api::v1;
use pithead_consensus::hash::sha256;
use pithead_consensus::{BlockHeader, Encode as _};
use support::{Network, PATIENCE, TestNode, data_dir};

/// Sends and receives bytes as they are.
#[derive(Clone)]
struct RawCodec;

impl request_response::Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut raw = Vec::new();
        io.read_to_end(&mut raw).await?;
        Ok(raw)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut raw = Vec::new();
        io.read_to_end(&mut raw).await?;
        Ok(raw)
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        raw: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&raw).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        raw: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&raw).await
    }
}

#[derive(NetworkBehaviour)]
struct RawBehaviour {
    identify: identify::Behaviour,
    sync: request_response::Behaviour<RawCodec>,
    gossip: gossipsub::Behaviour,
}

/// A peer that speaks the node's protocols and says whatever a test wants.
struct RawPeer {
    swarm: Swarm<RawBehaviour>,
    node: PeerId,
    blocks: IdentTopic,
}

impl RawPeer {
    /// Connects to a node and waits until the node has taken note of it.
    async fn connect(network: &Network, node: &TestNode) -> Self {
        let genesis = network.hash();
        let name = |rest: &str| format!("/pithead/{genesis}/{rest}");
        let sync = StreamProtocol::try_from_owned(name("sync/1")).unwrap();
        let blocks = IdentTopic::new(name("blocks/1"));
        let mut swarm = libp2p::SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .unwrap()
            .with_behaviour(|key| {
                let config = gossipsub::ConfigBuilder::default()
                    .protocol_id_prefix(name("gossip"))
                    .validation_mode(ValidationMode::Anonymous)
                    .heartbeat_interval(Duration::from_millis(100))
                    .flood_publish(true)
                    .message_id_fn(|message| sha256(&message.data).to_vec().into())
                    .build()?;
                let identity = identify::Config::new(name("1"), key.public());
                Ok(RawBehaviour {
                    identify: identify::Behaviour::new(identity),
                    sync: request_response::Behaviour::with_codec(
                        RawCodec,
                        [(sync, ProtocolSupport::Full)],
                        request_response::Config::default().with_max_concurrent_streams(1_000),
                    ),
                    gossip: gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config)?,
                })
            })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
            .build();
        swarm.behaviour_mut().gossip.subscribe(&blocks).unwrap();
        let info = node_info(node).await;
        let address: Multiaddr = info.listen_addresses[0].parse().unwrap();
        swarm.dial(address).unwrap();
        let mut peer = Self {
            swarm,
            node: info.peer_id.parse().unwrap(),
            blocks,
        };
        let own = peer.id();
        let deadline = Instant::now() + PATIENCE;
        while !peer_ids(node).await.contains(&own) {
            assert!(Instant::now() < deadline, "not admitted: {}", node.log());
            peer.run_for(Duration::from_millis(20)).await;
        }
        peer
    }

    fn id(&self) -> String {
        self.swarm.local_peer_id().to_string()
    }

    /// Lets its connection live for a while; what the node asks stays unanswered.
    async fn run_for(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, async {
            loop {
                self.swarm.select_next_some().await;
            }
        })
        .await;
    }

    fn ask(&mut self, raw: Vec<u8>) {
        let sync = &mut self.swarm.behaviour_mut().sync;
        sync.send_request(&self.node, raw);
    }

    /// Runs until the node has closed the connection.
    async fn until_disconnected(&mut self) {
        tokio::time::timeout(PATIENCE, async {
            loop {
                if let SwarmEvent::ConnectionClosed { .. } = self.swarm.select_next_some().await {
                    return;
                }
            }
        })
        .await
        .expect("the node closes the connection");
    }

    /// Publishes under the topic of blocks, as soon as the node listens.
    async fn publish_block(&mut self, raw: Vec<u8>) {
        let deadline = Instant::now() + PATIENCE;
        let topic = self.blocks.hash();
        while let Err(error) = self
            .swarm
            .behaviour_mut()
            .gossip
            .publish(topic.clone(), raw.clone())
        {
            assert!(Instant::now() < deadline, "{error}");
            self.run_for(Duration::from_millis(20)).await;
        }
    }
}

async fn node_info(node: &TestNode) -> v1::GetNodeInfoResponse {
    let request = v1::GetNodeInfoRequest {};
    let response = node.network().get_node_info(request).await;
    response.unwrap().into_inner()
}

async fn peers(node: &TestNode) -> Vec<v1::Peer> {
    let request = v1::ListPeersRequest::default();
    let response = node.network().list_peers(request).await;
    response.unwrap().into_inner().peers
}

async fn peer_ids(node: &TestNode) -> Vec<String> {
    let peers = peers(node).await.into_iter();
    peers.map(|peer| peer.peer_id).collect()
}

async fn bans(node: &TestNode) -> Vec<String> {
    let request = v1::ListBansRequest::default();
    let response = node.admin().list_bans(request).await;
    let bans = response.unwrap().into_inner().bans.into_iter();
    bans.map(|ban| ban.peer).collect()
}

/// A node of a network that has one other, honest peer.
async fn node_with_honest_peer(
    network: &Network,
    dirs: [&std::path::Path; 2],
) -> (TestNode, TestNode) {
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    let node = TestNode::start_with(network, dirs[0], &listen);
    let honest = TestNode::start_with(network, dirs[1], &listen);
    connect(&honest, &node).await;
    (node, honest)
}

async fn connect(from: &TestNode, to: &TestNode) {
    let address = node_info(to).await.listen_addresses.remove(0);
    let request = v1::AddPeerRequest { address };
    from.admin().add_peer(request).await.unwrap();
}

/// The two still follow each other.
async fn assert_in_step(network: &Network, node: &TestNode, honest: &TestNode) {
    let hash = honest.mine(network, 1).await;
    let deadline = Instant::now() + PATIENCE;
    while node.info().await.tip.unwrap().hash != hash {
        assert!(Instant::now() < deadline, "{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let honest = node_info(honest).await.peer_id;
    assert!(peer_ids(node).await.contains(&honest));
    assert!(!bans(node).await.contains(&honest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_get_their_sender_banned() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    // An unknown kind; a count beyond what follows; more than any request takes.
    let huge = [vec![2, 0xe8, 0x03], vec![7; 100_000]].concat();
    for raw in [vec![9], vec![2, 0xff, 0xff], huge, Vec::new()] {
        let mut peer = RawPeer::connect(&network, &node).await;
        peer.ask(raw);
        peer.until_disconnected().await;
        assert!(bans(&node).await.contains(&peer.id()));
        // The peer sees the connection end before the node has put it away.
        let deadline = Instant::now() + PATIENCE;
        while peer_ids(&node).await.contains(&peer.id()) {
            assert!(Instant::now() < deadline, "{}", node.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_in_step(&network, &node, &honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_without_work_gets_its_sender_banned() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    let mut peer = RawPeer::connect(&network, &node).await;
    let mut header = honest
        .next_block(&support::key(7).address, &network)
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
async fn gossip_that_is_no_message_costs_standing() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    let mut peer = RawPeer::connect(&network, &node).await;
    for length in [0, 79, 81, 500] {
        peer.publish_block(vec![7; length]).await;
    }
    let own = peer.id();
    let deadline = Instant::now() + PATIENCE;
    loop {
        peer.run_for(Duration::from_millis(20)).await;
        let all = peers(&node).await;
        // Gone is as good as in disgrace.
        if all
            .iter()
            .all(|peer| peer.peer_id != own || peer.score < 0.0)
        {
            break;
        }
        assert!(Instant::now() < deadline, "{all:?}");
    }
    assert_in_step(&network, &node, &honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_asks_too_much_is_declined_and_others_are_served() {
    const ASKED: usize = 1_500;
    let network = Network::easy();
    let dirs = [data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    let mut peer = RawPeer::connect(&network, &node).await;
    let (mut sent, mut answered, mut declined) = (0, 0, 0);
    let asking = async {
        for _ in 0..4 {
            peer.ask(vec![4]);
            sent += 1;
        }
        while answered + declined < ASKED {
            let event = peer.swarm.select_next_some().await;
            let SwarmEvent::Behaviour(RawBehaviourEvent::Sync(event)) = event else {
                continue;
            };
            match event {
                request_response::Event::Message {
                    message: Message::Response { response, .. },
                    ..
                } if response == [4, 0, 0, 0, 0] => answered += 1,
                request_response::Event::Message {
                    message: Message::Response { .. },
                    ..
                }
                | request_response::Event::OutboundFailure { .. } => declined += 1,
                _ => continue,
            }
            if sent < ASKED {
                peer.ask(vec![4]);
                sent += 1;
            }
        }
    };
    tokio::time::timeout(2 * PATIENCE, asking).await.unwrap();
    // A burst of 200, and one more every 60 ms.
    assert!(answered >= 200, "{answered} answered");
    assert!(declined >= 100, "{declined} declined");
    assert_in_step(&network, &node, &honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_do_not_keep_others_out() {
    let network = Network::easy();
    let dirs = [data_dir(), data_dir(), data_dir()];
    let (node, honest) = node_with_honest_peer(&network, [dirs[0].path(), dirs[1].path()]).await;
    let address: Multiaddr = node_info(&node).await.listen_addresses[0].parse().unwrap();
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
        let address = node_info(&node).await.listen_addresses.remove(0);
        // It may well be declined at first.
        let _ = late.admin().add_peer(v1::AddPeerRequest { address }).await;
    }
    assert_in_step(&network, &node, &honest).await;
    drop(silent);
}
