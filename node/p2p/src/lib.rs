//! The network: a libp2p swarm around the core. It knows sockets, identities and
//! addresses, and no rule of the chain: what peers tell goes to the core as
//! `Event::Peer`, what the core wants of them comes back as effects, and what they
//! ask is answered from snapshots by `pithead_core::sync::serve`.
//!
//! Start reading at [`start`], then `swarm`: the loop that everything else hangs
//! on. `behaviour` says which protocols run, `gate` who may connect, `dialer` whom
//! to connect to, `peers` who is there, `gossip` and `serving` carry messages,
//! `discovery` finds nodes.

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

pub use handle::{AddPeerError, Handle, LocalNode, NetworkStopped, PeerReport};
pub use policy::address::PeerAddress;
pub use policy::bans::Subject;
pub use wire::behaviour::BuildError;
pub use wire::identity::IdentityError;

use pithead_core::sync::response_bytes_max;
use pithead_engine::{Clock, Engine, NetworkSide};
use policy::address_book::Book;
use policy::bans::Bans;
use policy::dial_scope::Reach;
use policy::dialer::Dialer;
use policy::gate::{Gate, GateLimits};
use shell::{Parts, Shell};
use wire::behaviour::{Behaviour, BehaviourEvent};
use wire::protocol_names::Names;

/// Peers in all, if nothing else is said: 10 that we connect to and 64 that
/// connect to us (protocol §12).
pub const PEERS_MAX_DEFAULT: usize = OUTBOUND_MAX + 64;
/// Peers that a node connects to by itself (protocol §12).
const OUTBOUND_MAX: usize = 10;
/// Inbound peers from one host (protocol §12).
const PER_HOST_MAX: usize = 2;
/// Inbound peers from one site (protocol §12).
const PER_SITE_MAX: usize = 8;
/// Questions to the network that may wait.
const COMMANDS_MAX: usize = 64;
/// The system has so long to say where the node listens.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How the network runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where identity, known peers and bans are kept.
    pub data_dir: PathBuf,
    /// Program and version, told to peers.
    pub agent: String,
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Where this node can be reached from outside, if that is known.
    pub external: Vec<Multiaddr>,
    /// Whom to ask for others while none is known.
    pub bootnodes: Vec<PeerAddress>,
    /// Peers in all.
    pub peers_max: usize,
    /// Look for nodes on the local network.
    pub mdns: bool,
    /// Ask the router for an open port.
    pub upnp: bool,
    /// Pass on connections for nodes that can't be reached.
    pub relay: bool,
}

/// Why the network does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// No identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No swarm.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An address can't be listened on.
    #[error("listening for peers on {address}: {reason}; choose another address with --listen")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why not.
        reason: String,
    },
}

/// Starts the network: listens, and lets a task connect the core with its peers.
/// The task ends when told to by the handle, or with the core.
///
/// # Errors
/// [`StartError`] if the identity can't be had or an address not be listened on.
pub async fn start(
    options: Options,
    engine: &Engine,
    core: NetworkSide,
    clock: Clock,
) -> Result<(Handle, JoinHandle<()>), StartError> {
    let key = wire::identity::load_or_create(&options.data_dir)?;
    let own = key.public().to_peer_id();
    let params = &engine.genesis().params;
    let names = Names::of(&params.genesis_hash);
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
    let protocols = wire::behaviour::Options {
        mdns: options.mdns,
        upnp: options.upnp,
        relay: options.relay,
        response_bytes_max: response_bytes_max(params.max_block_bytes),
    };
    let reach = Reach::new(&options.listen);
    let mut swarm =
        wire::behaviour::build(key, &options.agent, &names, gate, reach.clone(), protocols)?;
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
    let book = Book::open(&options.data_dir, own);
    let shell = Shell::new(Parts {
        swarm,
        early,
        reach: reach.clone(),
        names,
        dialer: Dialer::new(book, outbound, &options.bootnodes, reach),
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

/// Listens on each address and waits until the system has said where that is:
/// ports may be left to it. What else happens meanwhile, such as the first peers
/// that connect, is returned for the shell.
async fn listen(
    swarm: &mut Swarm<Behaviour>,
    addresses: &[Multiaddr],
) -> Result<(Vec<Multiaddr>, Vec<SwarmEvent<BehaviourEvent>>), StartError> {
    let refused = |address: &Multiaddr, reason: String| StartError::Listen {
        address: address.clone(),
        reason,
    };
    let mut waiting = std::collections::HashMap::new();
    // All before the first: its own sockets would be in the way of the last.
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
            // A machine without IPv6, as the default addresses may find it.
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
            // Bounded by the gate's limits and the time.
            Ok(other) => early.push(other),
            // An interface without an address may get one later.
            Err(_) => break,
        }
    }
    Ok((listening, early))
}

fn is_any_v6(address: &Multiaddr) -> bool {
    address.iter().next() == Some(Protocol::Ip6(Ipv6Addr::UNSPECIFIED))
}

/// Fails if another process listens on the port: the swarm would share it, and
/// each would get some of the other's connections.
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
