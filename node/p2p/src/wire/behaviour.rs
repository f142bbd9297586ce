//! The swarm: which libp2p protocols run on each connection, and with which limits. It takes no
//! decisions.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use libp2p::gossipsub::{
    IdentityTransform, MaxCountSubscriptionFilter, MessageAuthenticity, MessageId, PeerScoreParams,
    PeerScoreThresholds, TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
    score_parameter_decay,
};
use libp2p::identity::Keypair;
use libp2p::request_response::ProtocolSupport;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, Swarm, autonat, dcutr, gossipsub, identify, kad, mdns, memory_connection_limits, noise,
    ping, relay, request_response, upnp,
};
use pithead_consensus::hash::sha256;
use thiserror::Error;

use crate::policy::dial_scope::DialScope;
use crate::policy::gate::Gate;
use crate::wire::codec::SyncCodec;
use crate::wire::protocol_names::ProtocolNames;
use crate::wire::transport::BoxedError;

/// How long a peer may take to answer a request (node policy).
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests under way on one connection, in both directions together.
const STREAMS_PER_CONNECTION_MAX: usize = 32;
/// Streams of one connection whose protocol is still being negotiated.
const NEGOTIATING_STREAMS_MAX: usize = 32;
/// The longest gossip frame: control messages with many ids, or a few transactions.
const GOSSIP_FRAME_BYTES_MAX: usize = 64 * 1024;
/// The longest message about a block: an 80-byte header and its framing.
const BLOCK_MESSAGE_BYTES_MAX: usize = 1_024;
/// The longest message with a transaction: at most 16,384 bytes (protocol §3) and its framing.
const TRANSACTION_MESSAGE_BYTES_MAX: usize = 17 * 1_024;
/// The longest message with an approval: 369 bytes (protocol §9) and its framing.
const APPROVAL_MESSAGE_BYTES_MAX: usize = 1_024;
/// How long gossip is kept to be forwarded after the core's verdict: heartbeats of a second.
pub(crate) const GOSSIP_MEMORY_SECS: usize = 15;
/// The node takes no more connections while it uses more than this share of the machine's memory.
const MEMORY_SHARE_MAX: f64 = 0.8;
/// How often the round trip of a connection is measured.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long the answer to a ping may take. Two failures in a row end the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Peers that this node probes in each [`PROBES_PERIOD`], to tell them whether they can be reached.
const PROBES_PER_PERIOD_MAX: usize = 8;
/// Longer than the connection of such a probe lasts, with the time to set it up.
const PROBES_PERIOD: Duration = Duration::from_secs(15);
/// How often Kademlia looks up the nodes nearest to this one.
const KAD_BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(120);

/// All protocols that run on a connection.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    // The gate comes first: the other behaviours never see a connection that it refuses.
    pub(crate) gate: Gate,
    memory: memory_connection_limits::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) gossip: Gossip,
    pub(crate) sync: request_response::Behaviour<SyncCodec>,
    pub(crate) kad: kad::Behaviour<kad::store::MemoryStore>,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) upnp: Toggle<upnp::tokio::Behaviour>,
    pub(crate) autonat: autonat::Behaviour,
    pub(crate) relay_client: relay::client::Behaviour,
    pub(crate) relay_server: Toggle<relay::Behaviour>,
    pub(crate) dcutr: dcutr::Behaviour,
}

/// Gossipsub, for the topics of this network only.
pub(crate) type Gossip = gossipsub::Behaviour<
    IdentityTransform,
    MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>,
>;

/// Why the swarm could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A transport can't be set up, for example because the system's resolver has no settings.
    #[error("setting up the transports to peers: {0}")]
    Transport(String),
    /// A protocol refuses its settings.
    #[error("setting up the protocols between peers: {0}")]
    Protocol(String),
}

/// The settings of the protocols.
#[derive(Debug, Clone)]
pub(crate) struct ProtocolOptions {
    /// Program and version, as shown to peers.
    pub(crate) agent: String,
    /// Whether to look for nodes on the local network.
    pub(crate) mdns: bool,
    /// Whether to ask the router for an open port.
    pub(crate) upnp: bool,
    /// Whether to relay connections for nodes that can't be reached.
    pub(crate) relay: bool,
    /// The most bytes of a response.
    pub(crate) response_bytes_max: usize,
}

/// Builds the swarm. It neither listens nor dials yet.
///
/// # Errors
/// [`BuildError`] if the system lacks something that the swarm needs.
pub(crate) fn build(
    key: Keypair,
    names: &ProtocolNames,
    gate: Gate,
    dial_scope: DialScope,
    options: ProtocolOptions,
) -> Result<Swarm<Behaviour>, BuildError> {
    let transport = |error: &dyn std::fmt::Display| BuildError::Transport(error.to_string());
    let swarm = libp2p::SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_other_transport(|key| crate::wire::transport::build(key, dial_scope))
        .map_err(|error| transport(&error))?
        .with_relay_client(noise::Config::new, crate::wire::transport::muxer)
        .map_err(|error| transport(&error))?
        .with_behaviour(|key, relay_client| behaviour(key, relay_client, names, gate, options))
        .map_err(|error| BuildError::Protocol(error.to_string()))?
        .with_swarm_config(|config| {
            config
                .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS_MAX)
                // The shell alone decides which idle connections are closed.
                .with_idle_connection_timeout(Duration::from_secs(u64::from(u32::MAX)))
        })
        .with_connection_timeout(crate::wire::transport::CONNECTION_TIMEOUT)
        .build();
    Ok(swarm)
}

fn behaviour(
    key: &Keypair,
    relay_client: relay::client::Behaviour,
    names: &ProtocolNames,
    gate: Gate,
    options: ProtocolOptions,
) -> Result<Behaviour, BoxedError> {
    let own = key.public().to_peer_id();
    let mdns = options
        .mdns
        .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), own))
        .transpose()?;
    Ok(Behaviour {
        gate,
        memory: memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE_MAX),
        identify: identify::Behaviour::new(
            identify::Config::new(names.family.clone(), key.public())
                .with_agent_version(options.agent)
                .with_push_listen_addr_updates(true)
                // The address book keeps addresses, bounded and checked.
                .with_cache_size(0),
        ),
        ping: ping::Behaviour::new(
            ping::Config::new()
                .with_interval(PING_INTERVAL)
                .with_timeout(PING_TIMEOUT),
        ),
        gossip: gossip(names)?,
        sync: request_response::Behaviour::with_codec(
            SyncCodec::new(options.response_bytes_max),
            [(names.sync.clone(), ProtocolSupport::Full)],
            request_response::Config::default()
                .with_request_timeout(REQUEST_TIMEOUT)
                .with_max_concurrent_streams(STREAMS_PER_CONNECTION_MAX),
        ),
        kad: kademlia(own, names),
        mdns: mdns.into(),
        upnp: options.upnp.then(upnp::tokio::Behaviour::default).into(),
        autonat: autonat::Behaviour::new(
            own,
            autonat::Config {
                // Fewer than the gate allows at once: a probe that the gate refused would tell
                // the peer that it can't be reached.
                throttle_clients_global_max: PROBES_PER_PERIOD_MAX,
                throttle_clients_peer_max: 1,
                throttle_clients_period: PROBES_PERIOD,
                ..autonat::Config::default()
            },
        ),
        relay_client,
        relay_server: options
            .relay
            .then(|| relay::Behaviour::new(own, relay::Config::default()))
            .into(),
        dcutr: dcutr::Behaviour::new(own),
    })
}

fn kademlia(own: PeerId, names: &ProtocolNames) -> kad::Behaviour<kad::store::MemoryStore> {
    let mut config = kad::Config::new(names.kad.clone());
    config
        // Kademlia is used to look up peers only: no one may store records here.
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_periodic_bootstrap_interval(Some(KAD_BOOTSTRAP_INTERVAL))
        // The shell adds peers once identify has told who they are.
        .set_kbucket_inserts(kad::BucketInserts::Manual);
    let store = kad::store::MemoryStore::new(own);
    let mut behaviour = kad::Behaviour::with_config(own, store, config);
    behaviour.set_mode(Some(kad::Mode::Server));
    behaviour
}

fn gossip(names: &ProtocolNames) -> Result<Gossip, BoxedError> {
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(names.gossip_prefix.clone())
        // Messages must name no author and carry no signature of gossipsub. Their content is
        // proven by its own work or signature, and no peer learns which node sent a payment
        // first.
        .validation_mode(ValidationMode::Anonymous)
        // A message is forwarded only after the core has accepted it.
        .validate_messages()
        .message_id_fn(content_id)
        .max_transmit_size(GOSSIP_FRAME_BYTES_MAX)
        .max_transmit_size_for_topic(BLOCK_MESSAGE_BYTES_MAX, names.blocks.hash())
        .max_transmit_size_for_topic(TRANSACTION_MESSAGE_BYTES_MAX, names.transactions.hash())
        .max_transmit_size_for_topic(APPROVAL_MESSAGE_BYTES_MAX, names.approvals.hash())
        .flood_publish(true)
        .heartbeat_initial_delay(Duration::from_millis(200))
        .heartbeat_interval(Duration::from_secs(1))
        .history_length(GOSSIP_MEMORY_SECS)
        .history_gossip(3)
        .mesh_n(8)
        .mesh_n_low(6)
        .mesh_n_high(12)
        .mesh_outbound_min(3)
        .connection_handler_queue_len(1_000)
        .build()?;
    let topics = [
        names.blocks.hash(),
        names.transactions.hash(),
        names.approvals.hash(),
    ];
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(HashSet::from(topics.clone())),
        max_subscribed_topics: topics.len(),
        max_subscriptions_per_request: 2 * topics.len(),
    };
    let mut gossip =
        Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)?;
    let scored = topics.map(|topic| (topic, topic_score()));
    let params = PeerScoreParams {
        topics: HashMap::from(scored),
        topic_score_cap: 100.0,
        // The gate limits peers per host, and a devnet is one host.
        ip_colocation_factor_weight: 0.0,
        ..PeerScoreParams::default()
    };
    gossip.with_peer_score(params, PeerScoreThresholds::default())?;
    gossip.subscribe(&names.blocks)?;
    gossip.subscribe(&names.transactions)?;
    gossip.subscribe(&names.approvals)?;
    Ok(gossip)
}

/// The score of a peer in a topic: rewards for staying and for delivering messages first, and a
/// heavy penalty for invalid messages. Silence costs nothing, because blocks are rare, and payments
/// may be.
fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 1_000.0,
        first_message_deliveries_weight: 0.5,
        first_message_deliveries_decay: score_parameter_decay(Duration::from_secs(600)),
        first_message_deliveries_cap: 80.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -10.0,
        invalid_message_deliveries_decay: score_parameter_decay(Duration::from_secs(3_600)),
        ..TopicScoreParams::default()
    }
}

/// The id of a message is the hash of its topic and content: two peers that send the same content
/// send the same message.
fn content_id(message: &gossipsub::Message) -> MessageId {
    let topic = message.topic.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(topic.len() + message.data.len());
    bytes.extend_from_slice(topic);
    bytes.extend_from_slice(&message.data);
    MessageId::new(&sha256(&bytes))
}
