//! A peer that speaks a node's protocols but says whatever a test wants, and what such tests look at.
//! It shares no networking code with the node. Start with [`RawPeer::connect`].

use std::io;
use std::time::{Duration, Instant};

use libp2p::futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _,
};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, PublishError, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Message, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify, kad, noise, tcp, yamux};
use pithead_api::v1;
use pithead_consensus::hash::sha256;

use pithead_testkit::process::{Network, PATIENCE, TestNode};

/// Longest gossip frame that it sends itself: far more than a node takes.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// A message as it is on the wire: its length in front.
pub(crate) fn framed(raw: &[u8]) -> Vec<u8> {
    let length = u32::try_from(raw.len()).unwrap();
    [&length.to_le_bytes(), raw].concat()
}

/// Sends bytes unchanged, and receives them up to the end of a message.
#[derive(Clone)]
struct RawCodec {
    /// Whether it reads answers to its requests.
    reads: bool,
}

impl request_response::Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut length = [0; 4];
        io.read_exact(&mut length).await?;
        let mut raw = vec![0; u32::from_le_bytes(length) as usize];
        io.read_exact(&mut raw).await?;
        Ok(raw)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        if !self.reads {
            return std::future::pending().await;
        }
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
    kad: kad::Behaviour<kad::store::MemoryStore>,
}

/// The node's protocols: identify, Kademlia and gossip by these names, and requests.
fn raw_behaviour(
    key: &Keypair,
    [identify, kad, gossip]: [String; 3],
    sync: StreamProtocol,
    reads: bool,
) -> RawBehaviour {
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(gossip)
        .validation_mode(ValidationMode::Anonymous)
        .heartbeat_interval(Duration::from_millis(100))
        .flood_publish(true)
        .max_transmit_size(FRAME_BYTES_MAX)
        .message_id_fn(|message| sha256(&message.data).to_vec().into())
        .build()
        .unwrap();
    let identity =
        identify::Config::new(identify, key.public()).with_push_listen_addr_updates(true);
    let own = key.public().to_peer_id();
    let mut kad = kad::Behaviour::with_config(
        own,
        kad::store::MemoryStore::new(own),
        kad::Config::new(StreamProtocol::try_from_owned(kad).unwrap()),
    );
    kad.set_mode(Some(kad::Mode::Server));
    RawBehaviour {
        identify: identify::Behaviour::new(identity),
        sync: request_response::Behaviour::with_codec(
            RawCodec { reads },
            [(sync, ProtocolSupport::Full)],
            request_response::Config::default().with_max_concurrent_streams(1_000),
        ),
        gossip: gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).unwrap(),
        kad,
    }
}

/// A swarm over TCP with an identity of its own, whose connections live while idle.
pub(crate) fn tcp_swarm<B: NetworkBehaviour>(
    idle: Duration,
    behaviour: impl FnOnce(&Keypair) -> B,
) -> Swarm<B> {
    libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(idle))
        .build()
}

/// How a request of a raw peer ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The bytes of an answer.
    Answered(Vec<u8>),
    /// No answer came.
    Failed,
}

/// How a raw peer answers the bytes of a request; with `None` it does not answer.
pub(crate) type RawAnswerPolicy = Box<dyn FnMut(&[u8]) -> Option<Vec<u8>> + Send>;

/// A peer that speaks the node's protocols and says whatever a test wants.
pub(crate) struct RawPeer {
    swarm: Swarm<RawBehaviour>,
    node: PeerId,
    blocks: IdentTopic,
    transactions: IdentTopic,
    policy: RawAnswerPolicy,
    /// Requests of the node, as they came.
    pub asked: Vec<Vec<u8>>,
    /// How often the node asked for other peers.
    pub lookups: usize,
}

/// An event of the swarm, as far as tests care.
enum Seen {
    Outcome(OutboundRequestId, Outcome),
    Closed,
    Other,
}

impl RawPeer {
    /// Connects to a node and waits until the node has taken note of it. It leaves
    /// all requests unanswered.
    pub(crate) async fn connect(network: &Network, node: &TestNode) -> Self {
        Self::connect_as(network, node, true, Box::new(|_| None)).await
    }

    /// The same for one that does not read what it is answered.
    pub(crate) async fn connect_deaf(network: &Network, node: &TestNode) -> Self {
        Self::connect_as(network, node, false, Box::new(|_| None)).await
    }

    /// The same for one that answers by a policy of its own.
    pub(crate) async fn connect_answering(
        network: &Network,
        node: &TestNode,
        policy: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Self {
        Self::connect_as(network, node, true, Box::new(policy)).await
    }

    async fn connect_as(
        network: &Network,
        node: &TestNode,
        reads: bool,
        policy: RawAnswerPolicy,
    ) -> Self {
        let info = node.node_info().await;
        let address: Multiaddr = info.listen_addresses[0].parse().unwrap();
        let mut peer = Self::new(network, info.peer_id.parse().unwrap(), reads, policy);
        peer.swarm.dial(address).unwrap();
        peer.until_admitted(node).await;
        peer
    }

    /// Lets a node dial a new peer, which answers by a policy of its own, and waits until the node
    /// has taken note of it: an outbound peer of the node.
    pub(crate) async fn be_dialled(
        network: &Network,
        node: &TestNode,
        policy: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Self {
        let info = node.node_info().await;
        let id = info.peer_id.parse().unwrap();
        let mut peer = Self::new(network, id, true, Box::new(policy));
        let any = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        peer.swarm.listen_on(any).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = peer.swarm.select_next_some().await {
                break address;
            }
        };
        let request = v1::AddPeerRequest {
            address: format!("{address}/p2p/{}", peer.id()),
        };
        // The call waits for the connection, which needs the peer to run.
        let mut admin = node.admin();
        let call = tokio::spawn(async move { admin.add_peer(request).await });
        peer.until_admitted(node).await;
        call.await.unwrap().unwrap();
        peer
    }

    async fn until_admitted(&mut self, node: &TestNode) {
        let own = self.id();
        let deadline = Instant::now() + PATIENCE;
        while !peer_ids(node).await.contains(&own) {
            assert!(Instant::now() < deadline, "not admitted: {}", node.log());
            self.run_for(Duration::from_millis(20)).await;
        }
    }

    fn new(network: &Network, node: PeerId, reads: bool, policy: RawAnswerPolicy) -> Self {
        let genesis = network.hash();
        let name = |rest: &str| format!("/pithead/{genesis}/{rest}");
        let sync = StreamProtocol::try_from_owned(name("sync/1")).unwrap();
        let blocks = IdentTopic::new(name("blocks/1"));
        let transactions = IdentTopic::new(name("transactions/1"));
        let protocols = [name("1"), name("kad/1"), name("gossip")];
        let mut swarm = tcp_swarm(2 * PATIENCE, |key| {
            raw_behaviour(key, protocols, sync, reads)
        });
        let gossip = &mut swarm.behaviour_mut().gossip;
        gossip.subscribe(&blocks).unwrap();
        gossip.subscribe(&transactions).unwrap();
        Self {
            swarm,
            node,
            blocks,
            transactions,
            policy,
            asked: Vec::new(),
            lookups: 0,
        }
    }

    pub(crate) fn id(&self) -> String {
        self.swarm.local_peer_id().to_string()
    }

    async fn see(&mut self) -> Seen {
        match self.swarm.select_next_some().await {
            SwarmEvent::Behaviour(RawBehaviourEvent::Sync(event)) => match event {
                request_response::Event::Message {
                    message:
                        Message::Response {
                            request_id,
                            response,
                        },
                    ..
                } => Seen::Outcome(request_id, Outcome::Answered(response)),
                request_response::Event::OutboundFailure { request_id, .. } => {
                    Seen::Outcome(request_id, Outcome::Failed)
                }
                request_response::Event::Message {
                    message:
                        Message::Request {
                            request, channel, ..
                        },
                    ..
                } => {
                    if let Some(raw) = (self.policy)(&request) {
                        let sync = &mut self.swarm.behaviour_mut().sync;
                        let _ = sync.send_response(channel, raw);
                    }
                    self.asked.push(request);
                    Seen::Other
                }
                _ => Seen::Other,
            },
            SwarmEvent::Behaviour(RawBehaviourEvent::Kad(kad::Event::InboundRequest {
                request: kad::InboundRequest::FindNode { .. },
            })) => {
                self.lookups += 1;
                Seen::Other
            }
            SwarmEvent::ConnectionClosed { .. } => Seen::Closed,
            _ => Seen::Other,
        }
    }

    /// Handles the events of its connection for a while.
    pub(crate) async fn run_for(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, async {
            loop {
                self.see().await;
            }
        })
        .await;
    }

    /// Sends a request, in bytes as they are on the wire.
    pub(crate) fn ask(&mut self, wire: Vec<u8>) -> OutboundRequestId {
        let sync = &mut self.swarm.behaviour_mut().sync;
        sync.send_request(&self.node, wire)
    }

    /// Waits for the next request that ends.
    pub(crate) async fn outcome(&mut self) -> (OutboundRequestId, Outcome) {
        loop {
            if let Seen::Outcome(id, outcome) = self.see().await {
                return (id, outcome);
            }
        }
    }

    /// Sends a request and waits for its outcome.
    pub(crate) async fn ask_and_wait(&mut self, wire: Vec<u8>) -> Outcome {
        let asked = self.ask(wire);
        let waiting = async {
            loop {
                let (id, outcome) = self.outcome().await;
                if id == asked {
                    return outcome;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap()
    }

    /// Runs until the node has closed the connection.
    pub(crate) async fn until_disconnected(&mut self) {
        tokio::time::timeout(PATIENCE, async {
            while !matches!(self.see().await, Seen::Closed) {}
        })
        .await
        .expect("the node closes the connection");
    }

    /// Runs until a condition holds; `what` describes it in the failure.
    pub(crate) async fn run_until(
        &mut self,
        what: &str,
        mut holds: impl AsyncFnMut(&Self) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self).await {
            assert!(Instant::now() < deadline, "{what}");
            self.run_for(Duration::from_millis(20)).await;
        }
    }

    /// Publishes under the topic of blocks, as soon as the node listens.
    pub(crate) async fn publish_block(&mut self, raw: Vec<u8>) {
        self.publish(self.blocks.clone(), raw).await;
    }

    /// Publishes under the topic of transactions, as soon as the node listens.
    pub(crate) async fn publish_transaction(&mut self, raw: Vec<u8>) {
        self.publish(self.transactions.clone(), raw).await;
    }

    /// Publishes under the topic of blocks if it can: the node may have closed the
    /// stream.
    pub(crate) async fn try_publish_block(&mut self, raw: Vec<u8>) {
        let topic = self.blocks.hash();
        let _ = self.swarm.behaviour_mut().gossip.publish(topic, raw);
        self.run_for(Duration::from_millis(20)).await;
    }

    /// Claims to listen at `count` addresses.
    pub(crate) fn claim_addresses(&mut self, count: u32) {
        for number in 0..count {
            self.swarm.add_external_address(nowhere(number));
        }
    }

    /// Claims to know `count` other peers, each at three addresses.
    pub(crate) fn know_peers(&mut self, count: u32) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        for number in 0..count {
            let peer = PeerId::random();
            for place in 0..3 {
                kad.add_address(&peer, nowhere(3 * number + place));
            }
        }
    }

    async fn publish(&mut self, topic: IdentTopic, raw: Vec<u8>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            match gossip.publish(topic.hash(), raw.clone()) {
                Ok(_) | Err(PublishError::Duplicate) => return,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            self.run_for(Duration::from_millis(20)).await;
        }
    }
}

/// An address of this machine at which no program listens.
fn nowhere(number: u32) -> Multiaddr {
    let [_, a, b, c] = (number + 256).to_be_bytes();
    format!("/ip4/127.{a}.{b}.{c}/tcp/1").parse().unwrap()
}

pub(crate) async fn peer_ids(node: &TestNode) -> Vec<String> {
    let peers = node.peers().await.into_iter();
    peers.map(|peer| peer.peer_id).collect()
}

pub(crate) async fn bans(node: &TestNode) -> Vec<String> {
    let request = v1::ListBansRequest::default();
    let response = node.admin().list_bans(request).await;
    let bans = response.unwrap().into_inner().bans.into_iter();
    bans.map(|ban| ban.peer).collect()
}

/// A node's score of a peer; `None` if they are not connected.
pub(crate) async fn score(node: &TestNode, peer: &str) -> Option<f64> {
    let mut peers = node.peers().await.into_iter();
    peers.find(|one| one.peer_id == peer).map(|one| one.score)
}

/// Resident memory of a node, bytes.
pub(crate) fn resident_bytes(node: &TestNode) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() << 10
}

/// A node of a network that has one other, honest peer.
pub(crate) async fn node_with_honest_peer(
    network: &Network,
    dirs: [&std::path::Path; 2],
) -> (TestNode, TestNode) {
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    let node = TestNode::start_with(network, dirs[0], &listen);
    let honest = TestNode::start_with(network, dirs[1], &listen);
    connect(&honest, &node).await;
    (node, honest)
}

pub(crate) async fn connect(from: &TestNode, to: &TestNode) {
    let address = to.listen_address().await;
    let request = v1::AddPeerRequest { address };
    from.admin().add_peer(request).await.unwrap();
}

/// Asserts that two nodes still follow each other and neither blames or bans the other.
pub(crate) async fn assert_in_step(network: &Network, node: &TestNode, honest: &TestNode) {
    let hash = honest.mine(network, 1).await;
    node.until_tip(&hash).await;
    for (by, of) in [(node, honest), (honest, node)] {
        let of = of.node_info().await.peer_id;
        assert!(score(by, &of).await.expect("it is there") >= 0.0);
        assert!(!bans(by).await.contains(&of));
    }
}
