//! The gate: a behaviour of the swarm that is asked about every connection before anything else
//! is set up for it. It applies bans, and limits on peers in all, per host, per site and per
//! relay.
//!
//! The limits count peers, not connections. A peer has one connection, and for a moment a second
//! one; the shell's tick closes connections that are not needed.
//!
//! Start reading at `checks`, which holds the decisions. `connections` is what they are based on.

mod checks;
mod connections;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::hash::RandomState;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure,
    NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

use crate::policy::address::ip_of;
use crate::policy::bans::Bans;
use crate::policy::ip_prefix::provider_of;
use connections::{ConnectionPurpose, ConnectionTable, GateConnection, InboundOrigin};
use pithead_engine::Clock;

/// How many peers the node takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GateLimits {
    /// Peers in all.
    pub(crate) peers_max: usize,
    /// Inbound peers in all.
    pub(crate) inbound_max: usize,
    /// Inbound peers from one host.
    pub(crate) per_host_max: usize,
    /// Inbound peers from one site.
    pub(crate) per_site_max: usize,
    /// Whether the limits per host and per site hold for this machine's own addresses, too.
    pub(crate) count_loopback: bool,
}

/// Why the gate refuses a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum GateRefusal {
    /// The ban is of the peer's identity, or of the host that it connects from.
    #[error("the peer or its host is banned")]
    Banned,
    /// A newcomer finds no free place and no guest that could leave for it, or it comes through a
    /// relay, or too many connections wait for their handshake.
    #[error("all inbound places are taken")]
    InboundFull,
    /// No inbound peer can leave for a peer that this node dials, or 64 dials are under way.
    #[error("all outbound places are taken")]
    OutboundFull,
    /// libp2p's protocols have opened as many lookups or probes as they may.
    #[error("too many lookups are under way")]
    LookupsFull,
    /// One peer may have three connections for a while.
    #[error("too many connections to that peer")]
    PeerFull,
    /// The inbound limit of an IPv4 address or an IPv6 /64 is reached.
    #[error("too many peers from that host")]
    HostFull,
    /// The inbound limit of an IPv4 /24 or an IPv6 /48 is reached.
    #[error("too many peers from that site")]
    SiteFull,
    /// The limit of one relay, or that of all relays together, is reached.
    #[error("too many peers behind relays")]
    RelayFull,
}

/// The limits, the bans, and the connections that they are applied to.
pub(crate) struct Gate {
    limits: GateLimits,
    bans: Bans,
    clock: Clock,
    /// Decides which providers are protected from eviction.
    secret: RandomState,
    table: ConnectionTable,
    /// Peers that the swarm still has to disconnect.
    evicted: VecDeque<PeerId>,
    pending_inbound: HashMap<ConnectionId, Option<IpAddr>>,
    /// Dials of the dialer that are about to begin.
    expected_dials: HashSet<ConnectionId>,
    pending_outbound: HashMap<ConnectionId, ConnectionPurpose>,
}

impl Gate {
    /// A gate with these limits and bans; `clock` tells when bans end.
    #[must_use]
    pub(crate) fn new(limits: GateLimits, bans: Bans, clock: Clock) -> Self {
        Self {
            limits,
            bans,
            clock,
            secret: RandomState::new(),
            table: ConnectionTable::default(),
            evicted: VecDeque::new(),
            pending_inbound: HashMap::new(),
            expected_dials: HashSet::new(),
            pending_outbound: HashMap::new(),
        }
    }

    /// The bans, to be read and changed.
    pub(crate) fn bans(&mut self) -> &mut Bans {
        &mut self.bans
    }

    /// The dialer is about to dial. Every dial that is not announced like this is taken for a
    /// protocol's.
    pub(crate) fn expect_dial(&mut self, connection: ConnectionId) {
        self.expected_dials.insert(connection);
    }

    /// Counts a connection of a protocol as the dialer's choice, because the dialer wants the
    /// peer. Returns false if there are too many peers.
    pub(crate) fn adopt(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        self.check_total(peer).is_ok() && self.table.set_chosen(connection)
    }

    /// Notes a measured round trip.
    pub(crate) fn note_latency(&mut self, peer: PeerId, latency: Duration) {
        self.table.note_latency(&peer, latency);
    }

    /// Notes that a peer was the first to announce a valid block.
    pub(crate) fn note_block(&mut self, peer: &PeerId) {
        self.table.note_block(peer);
    }

    fn forget_pending(&mut self, connection: ConnectionId) {
        self.expected_dials.remove(&connection);
        self.pending_outbound.remove(&connection);
        self.pending_inbound.remove(&connection);
    }

    fn established(&mut self, event: &ConnectionEstablished<'_>) {
        let purpose = self.pending_outbound.remove(&event.connection_id);
        self.pending_inbound.remove(&event.connection_id);
        let remote = event.endpoint.get_remote_address();
        let (purpose, origin) = match event.endpoint {
            ConnectedPoint::Listener { local_addr, .. } => (
                ConnectionPurpose::Inbound,
                InboundOrigin::new(local_addr, remote),
            ),
            // Both sides dial to replace a relayed connection, and the peer plays the dialer:
            // the peer connected to us.
            ConnectedPoint::Dialer {
                role_override: Endpoint::Listener,
                ..
            } => (
                ConnectionPurpose::Inbound,
                InboundOrigin::new(remote, remote),
            ),
            ConnectedPoint::Dialer { .. } => (
                purpose.unwrap_or(ConnectionPurpose::Lookup),
                InboundOrigin::default(),
            ),
        };
        let connection = GateConnection {
            peer: event.peer_id,
            purpose,
            origin,
            provider: provider_of(remote),
            since: (self.clock)(),
        };
        self.table.add(event.connection_id, connection);
    }

    fn closed(&mut self, event: &ConnectionClosed<'_>) {
        let last = event.remaining_established == 0;
        self.table.remove(event.connection_id, &event.peer_id, last);
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = InboundOrigin::new(local, remote).ip;
        self.check_inbound_pending(ip)
            .map_err(ConnectionDenied::new)?;
        self.pending_inbound.insert(connection, ip);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_inbound.remove(&connection);
        self.check_inbound(peer, InboundOrigin::new(local, remote))
            .map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let only = match addresses {
            [only] => ip_of(only),
            _ => None,
        };
        let banned = self.check_ban(peer, only);
        let purpose = banned
            .and_then(|()| self.check_outbound_pending(connection, peer))
            .map_err(ConnectionDenied::new)?;
        self.pending_outbound.insert(connection, purpose);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // It stays pending until the swarm reports it as established.
        let pending = self.pending_outbound.get(&connection);
        let purpose = pending.copied().unwrap_or(ConnectionPurpose::Lookup);
        self.check_outbound(peer, ip_of(address), purpose)
            .map_err(|refused| {
                self.pending_outbound.remove(&connection);
                ConnectionDenied::new(refused)
            })?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => self.established(&event),
            FromSwarm::ConnectionClosed(event) => self.closed(&event),
            FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.forget_pending(connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        match self.evicted.pop_front() {
            Some(peer_id) => Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::All,
            }),
            None => Poll::Pending,
        }
    }
}
