//! The network: a libp2p swarm around the core of a node. It knows sockets, identities and
//! addresses, and no rule of the chain.
//!
//! - Messages of peers go to the core as `Event::Peer`.
//! - What the core wants of peers comes back as effects.
//! - Requests of peers are answered from snapshots, by `pithead_core::sync::serve`.
//!
//! Start reading at [`start`], then `shell`: the loop that passes events on. `policy` decides,
//! without sockets; `wire` is the swarm and what it sends; `handle` is what the rest of the node
//! uses.

mod files;
mod handle;
pub mod policy;
mod shell;
mod wire;

use std::io;
use std::net::{IpAddr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use libp2p::futures::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::info;

pub use handle::{AddPeerError, Handle, LocalNode, NetworkStopped};
pub use policy::address::PeerAddress;
pub use policy::bans::Subject;
pub use policy::peers::PeerReport;
pub use wire::behaviour::BuildError;
pub use wire::identity::IdentityError;

use pithead_core::sync::response_bytes_max;
use pithead_engine::{Clock, Engine, NetworkSide};
use policy::address_book::AddressBook;
use policy::bans::Bans;
use policy::dial_scope::DialScope;
use policy::dialer::Dialer;
use policy::gate::{Gate, GateLimits};
use shell::{Shell, ShellParts};
use wire::behaviour::{Behaviour, BehaviourEvent};
use wire::protocol_names::ProtocolNames;

/// Peers in all, by default: 10 outbound and 64 inbound ones (node policy).
pub const PEERS_MAX_DEFAULT: usize = OUTBOUND_MAX + 64;
/// Outbound peers (node policy).
const OUTBOUND_MAX: usize = 10;
/// Inbound peers from one host (node policy).
const PER_HOST_MAX: usize = 2;
/// Inbound peers from one site (node policy).
const PER_SITE_MAX: usize = 8;
/// Commands of the operator that may wait.
const COMMANDS_MAX: usize = 64;
/// How long the system may take to tell the addresses that the node listens on.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings of the network.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// The folder of the identity, the address book and the bans.
    pub data_dir: PathBuf,
    /// Program and version, as shown to peers.
    pub agent: String,
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Addresses at which the node can be reached from outside, if the operator knows them.
    pub external: Vec<Multiaddr>,
    /// Peers to connect to while no other is known.
    pub bootnodes: Vec<PeerAddress>,
    /// The most peers, inbound and outbound together.
    pub peers_max: usize,
    /// Whether to look for nodes on the local network.
    pub mdns: bool,
    /// Whether to ask the router for an open port.
    pub upnp: bool,
    /// Whether to relay connections for nodes that can't be reached.
    pub relay: bool,
}

/// Why the network can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The node's identity can't be had.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The swarm can't be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The node can't listen on an address.
    #[error("listening for peers on {address}: {reason}; choose another address with --listen")]
    Listen { address: Multiaddr, reason: String },
}

/// Starts the network: listens, and spawns a task that connects the core with its peers. The task
/// ends when the handle tells it to, or with the core.
///
/// # Errors
/// [`StartError`] if the identity can't be had, or the node can't listen on an address.
pub async fn start(
    options: NetworkOptions,
    engine: &Engine,
    core: NetworkSide,
    clock: Clock,
) -> Result<(Handle, JoinHandle<()>), StartError> {
    let key = wire::identity::load_or_create(&options.data_dir)?;
    let own = key.public().to_peer_id();
    let params = &engine.genesis().params;
    let names = ProtocolNames::of(&params.genesis_hash);
    let outbound = OUTBOUND_MAX.min(options.peers_max.div_ceil(2));
    let limits = GateLimits {
        peers_max: options.peers_max,
        inbound_max: options.peers_max.saturating_sub(outbound),
        per_host_max: PER_HOST_MAX,
        per_site_max: PER_SITE_MAX,
        count_loopback: false,
    };
    let bans = Bans::open(&options.data_dir, clock());
    let gate = Gate::new(limits, bans, std::sync::Arc::clone(&clock));
    let protocols = wire::behaviour::ProtocolOptions {
        agent: options.agent,
        mdns: options.mdns,
        upnp: options.upnp,
        relay: options.relay,
        response_bytes_max: response_bytes_max(params.max_block_bytes),
    };
    let dial_scope = DialScope::new(&options.listen);
    let mut swarm = wire::behaviour::build(key, &names, gate, dial_scope.clone(), protocols)?;
    let (listening, early) = listen(&mut swarm, &options.listen).await?;
    for address in &options.external {
        swarm.add_external_address(address.clone());
    }
    let (commands_sender, commands) = mpsc::channel(COMMANDS_MAX);
    let (local_sender, local) = watch::channel(LocalNode {
        listen_addresses: listening.clone(),
        external_addresses: options.external.clone(),
        peer_count: 0,
    });
    for address in &listening {
        info!("listening for peers on {address}/p2p/{own}");
    }
    let book = AddressBook::open(&options.data_dir, own);
    let shell = Shell::new(ShellParts {
        swarm,
        early,
        dial_scope: dial_scope.clone(),
        names,
        dialer: Dialer::new(book, outbound, &options.bootnodes, dial_scope),
        engine: engine.clone(),
        clock,
        commands,
        core,
        local: local_sender,
        answer_bytes_max: response_bytes_max(params.max_block_bytes),
    });
    let handle = Handle {
        peer_id: own,
        commands: commands_sender,
        local,
    };
    Ok((handle, tokio::spawn(shell.run())))
}

/// Listens on each address, and waits until the system has told the true ones: with port 0, the
/// system chooses. Returns these addresses, and other events that happen meanwhile, such as the
/// first peers that connect.
async fn listen(
    swarm: &mut Swarm<Behaviour>,
    addresses: &[Multiaddr],
) -> Result<(Vec<Multiaddr>, Vec<SwarmEvent<BehaviourEvent>>), StartError> {
    let refused = |address: &Multiaddr, reason: String| StartError::Listen {
        address: address.clone(),
        reason,
    };
    let mut waiting = std::collections::HashMap::new();
    // All addresses are checked before the first listens: they may share a port.
    let unused: Vec<_> = addresses.iter().map(check_unused).collect();
    for (address, unused) in addresses.iter().zip(unused) {
        let listener = unused.map_err(|error| error.to_string()).and_then(|()| {
            let listener = swarm.listen_on(address.clone());
            listener.map_err(|error| error.to_string())
        });
        match listener {
            Ok(listener) => {
                waiting.insert(listener, address);
            }
            // The default addresses include IPv6, which a machine may lack.
            Err(reason) if is_any_v6(address) && !waiting.is_empty() => {
                info!(%address, %reason, "not listening");
            }
            Err(reason) => return Err(refused(address, reason)),
        }
    }
    let (mut listening, mut early) = (Vec::new(), Vec::new());
    let deadline = tokio::time::Instant::now() + LISTEN_TIMEOUT;
    while !waiting.is_empty() {
        let event = tokio::time::timeout_at(deadline, swarm.select_next_some()).await;
        match event {
            Ok(SwarmEvent::NewListenAddr {
                listener_id,
                address,
            }) => {
                waiting.remove(&listener_id);
                listening.push(address);
            }
            Ok(SwarmEvent::ListenerClosed {
                listener_id,
                reason: Err(error),
                ..
            }) => {
                if let Some(address) = waiting.remove(&listener_id) {
                    return Err(refused(address, error.to_string()));
                }
            }
            // These are bounded by the gate's limits and by the deadline.
            Ok(other) => early.push(other),
            // An interface without an address may still get one.
            Err(_) => break,
        }
    }
    Ok((listening, early))
}

fn is_any_v6(address: &Multiaddr) -> bool {
    address.iter().next() == Some(Protocol::Ip6(Ipv6Addr::UNSPECIFIED))
}

/// Fails if another process listens on the port. The swarm would share the port with it, and each
/// would get some of the other's connections.
fn check_unused(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        Some(Protocol::Udp(port)) if port != 0 => UdpSocket::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}
