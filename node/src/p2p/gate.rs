//! Who may connect: bans, and limits on connections in all, per peer, per host
//! and per site. A behaviour of the swarm, asked before anything else is set up
//! for a connection.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure, NetworkBehaviour,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

use super::address::{Network, ip_of};
use super::bans::{Bans, Subject};
use crate::engine::Clock;

/// Connections to one peer: a direct one that replaces a relayed one, and two
/// that cross each other.
const PER_PEER_MAX: usize = 3;
/// Inbound connections that have not shown who they are yet, in all.
const PENDING_INBOUND_MAX: usize = 64;
/// The same from one host.
const PENDING_PER_HOST_MAX: usize = 4;
/// Outbound connections under way.
const PENDING_OUTBOUND_MAX: usize = 64;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GateLimits {
    /// Inbound ones in all.
    pub(super) inbound_max: usize,
    /// Outbound ones in all.
    pub(super) outbound_max: usize,
    /// Inbound peers from one host.
    pub(super) per_host_max: usize,
    /// Inbound peers from one site.
    pub(super) per_site_max: usize,
    /// Whether the last two hold for this machine's own addresses, too.
    pub(super) count_loopback: bool,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Refused {
    /// The peer or its host is banned.
    #[error("banned")]
    Banned,
    /// Too many inbound connections.
    #[error("no inbound connection is free")]
    InboundFull,
    /// Too many outbound connections.
    #[error("no outbound connection is free")]
    OutboundFull,
    /// Too many connections with that peer.
    #[error("enough connections to that peer")]
    PeerFull,
    /// Too many peers on that host.
    #[error("enough peers of that host")]
    HostFull,
    /// Too many peers on that site.
    #[error("enough peers of that part of the network")]
    SiteFull,
}

struct Connection {
    peer: PeerId,
    inbound: bool,
    ip: Option<IpAddr>,
}

/// The behaviour.
pub(super) struct Gate {
    limits: GateLimits,
    bans: Bans,
    clock: Clock,
    connections: HashMap<ConnectionId, Connection>,
    pending_inbound: HashMap<ConnectionId, Option<IpAddr>>,
    pending_outbound: HashSet<ConnectionId>,
}

impl Gate {
    /// With these limits and bans; `clock` tells when bans end.
    #[must_use]
    pub(super) fn new(limits: GateLimits, bans: Bans, clock: Clock) -> Self {
        Self {
            limits,
            bans,
            clock,
            connections: HashMap::new(),
            pending_inbound: HashMap::new(),
            pending_outbound: HashSet::new(),
        }
    }

    /// The bans.
    pub(super) fn bans(&mut self) -> &mut Bans {
        &mut self.bans
    }

    /// Whether the peer, or the host at `ip`, is banned.
    pub(super) fn is_banned(&mut self, peer: Option<PeerId>, ip: Option<IpAddr>) -> bool {
        let now = (self.clock)();
        let subjects = [peer.map(Subject::Peer), ip.and_then(Subject::host)];
        subjects
            .iter()
            .flatten()
            .any(|subject| self.bans.is_banned(subject, now))
    }

    fn check_ban(&mut self, peer: Option<PeerId>, ip: Option<IpAddr>) -> Result<(), Refused> {
        if self.is_banned(peer, ip) {
            return Err(Refused::Banned);
        }
        Ok(())
    }

    fn check_peer(&self, peer: PeerId) -> Result<(), Refused> {
        let held = self.connections.values().filter(|one| one.peer == peer);
        if held.count() >= PER_PEER_MAX {
            return Err(Refused::PeerFull);
        }
        Ok(())
    }

    fn count(&self, inbound: bool) -> usize {
        let connections = self.connections.values();
        connections.filter(|one| one.inbound == inbound).count()
    }

    /// The address if the limits of hosts and sites hold for it.
    fn counted(&self, ip: Option<IpAddr>) -> Option<IpAddr> {
        ip.filter(|ip| self.limits.count_loopback || !ip.is_loopback())
    }

    /// Other peers that are connected inbound from the same network.
    fn neighbours(&self, peer: PeerId, same: impl Fn(IpAddr) -> bool) -> usize {
        let neighbours: HashSet<PeerId> = self
            .connections
            .values()
            .filter(|one| one.inbound && one.peer != peer && one.ip.is_some_and(&same))
            .map(|one| one.peer)
            .collect();
        neighbours.len()
    }

    fn check_inbound_pending(&mut self, ip: Option<IpAddr>) -> Result<(), Refused> {
        self.check_ban(None, ip)?;
        if self.pending_inbound.len() >= PENDING_INBOUND_MAX {
            return Err(Refused::InboundFull);
        }
        if let Some(ip) = self.counted(ip) {
            let host = Network::host(ip);
            let same = |other: &&Option<IpAddr>| other.is_some_and(|ip| Network::host(ip) == host);
            if self.pending_inbound.values().filter(same).count() >= PENDING_PER_HOST_MAX {
                return Err(Refused::HostFull);
            }
        }
        Ok(())
    }

    fn check_inbound(&mut self, peer: PeerId, ip: Option<IpAddr>) -> Result<(), Refused> {
        self.check_ban(Some(peer), ip)?;
        self.check_peer(peer)?;
        if self.count(true) >= self.limits.inbound_max {
            return Err(Refused::InboundFull);
        }
        if let Some(ip) = self.counted(ip) {
            let (host, site) = (Network::host(ip), Network::site(ip));
            if self.neighbours(peer, |ip| Network::host(ip) == host) >= self.limits.per_host_max {
                return Err(Refused::HostFull);
            }
            if self.neighbours(peer, |ip| Network::site(ip) == site) >= self.limits.per_site_max {
                return Err(Refused::SiteFull);
            }
        }
        Ok(())
    }

    fn check_outbound(&mut self, peer: PeerId, ip: Option<IpAddr>) -> Result<(), Refused> {
        self.check_ban(Some(peer), ip)?;
        self.check_peer(peer)?;
        if self.count(false) >= self.limits.outbound_max {
            return Err(Refused::OutboundFull);
        }
        Ok(())
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = ip_of(remote);
        self.check_inbound_pending(ip)
            .map_err(ConnectionDenied::new)?;
        self.pending_inbound.insert(connection, ip);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_inbound.remove(&connection);
        self.check_inbound(peer, ip_of(remote))
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
        self.check_ban(peer, only).map_err(ConnectionDenied::new)?;
        if self.pending_outbound.len() >= PENDING_OUTBOUND_MAX {
            return Err(ConnectionDenied::new(Refused::OutboundFull));
        }
        self.pending_outbound.insert(connection);
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
        self.pending_outbound.remove(&connection);
        self.check_outbound(peer, ip_of(address))
            .map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                let connection = Connection {
                    peer: peer_id,
                    inbound: endpoint.is_listener(),
                    ip: ip_of(endpoint.get_remote_address()),
                };
                self.connections.insert(connection_id, connection);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.connections.remove(&connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.pending_outbound.remove(&connection_id);
            }
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.pending_inbound.remove(&connection_id);
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
        Poll::Pending
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use libp2p::core::ConnectedPoint;

    use super::*;

    const LIMITS: GateLimits = GateLimits {
        inbound_max: 20,
        outbound_max: 3,
        per_host_max: 2,
        per_site_max: 8,
        count_loopback: false,
    };
    const NOW: u64 = 1_700_000_000;

    fn gate(limits: GateLimits) -> (Gate, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let bans = Bans::open(dir.path(), NOW);
        (Gate::new(limits, bans, Arc::new(|| NOW)), dir)
    }

    /// Goes through what the swarm does with an inbound connection.
    fn arrive(gate: &mut Gate, peer: PeerId, ip: &str) -> Result<ConnectionId, Refused> {
        let kind = if ip.contains(':') { "ip6" } else { "ip4" };
        let remote: Multiaddr = format!("/{kind}/{ip}/tcp/5000").parse().unwrap();
        let local: Multiaddr = "/ip4/192.0.2.200/tcp/7311".parse().unwrap();
        let id = ConnectionId::new_unchecked(gate.connections.len() + 1_000);
        let refused = |denied: ConnectionDenied| *denied.downcast_ref::<Refused>().unwrap();
        gate.handle_pending_inbound_connection(id, &local, &remote)
            .map_err(refused)?;
        gate.handle_established_inbound_connection(id, peer, &local, &remote)
            .map_err(refused)?;
        gate.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: id,
            endpoint: &ConnectedPoint::Listener {
                local_addr: local,
                send_back_addr: remote,
            },
            failed_addresses: &[],
            other_established: 0,
        }));
        Ok(id)
    }

    #[test]
    fn two_peers_of_a_host_and_eight_of_a_site() {
        let (mut gate, _dir) = gate(LIMITS);
        for ip in ["203.0.113.1", "::ffff:203.0.113.1"] {
            arrive(&mut gate, PeerId::random(), ip).unwrap();
        }
        let third = arrive(&mut gate, PeerId::random(), "203.0.113.1");
        assert_eq!(third.unwrap_err(), Refused::HostFull);
        for last in 2..8 {
            arrive(&mut gate, PeerId::random(), &format!("203.0.113.{last}")).unwrap();
        }
        let ninth = arrive(&mut gate, PeerId::random(), "203.0.113.99");
        assert_eq!(ninth.unwrap_err(), Refused::SiteFull);
        arrive(&mut gate, PeerId::random(), "203.0.114.1").unwrap();
        // IPv6 hosts are whole /64s.
        for last in 1..3 {
            arrive(&mut gate, PeerId::random(), &format!("2001:db8::{last}")).unwrap();
        }
        let third = arrive(&mut gate, PeerId::random(), "2001:db8::ffff");
        assert_eq!(third.unwrap_err(), Refused::HostFull);
    }

    #[test]
    fn this_machine_is_exempt_unless_told() {
        let (mut open, _dir) = gate(LIMITS);
        for _ in 0..LIMITS.inbound_max {
            arrive(&mut open, PeerId::random(), "127.0.0.1").unwrap();
        }
        let over = arrive(&mut open, PeerId::random(), "127.0.0.1");
        assert_eq!(over.unwrap_err(), Refused::InboundFull);
        let (mut strict, _dir) = gate(GateLimits {
            count_loopback: true,
            ..LIMITS
        });
        for _ in 0..2 {
            arrive(&mut strict, PeerId::random(), "127.0.0.1").unwrap();
        }
        let third = arrive(&mut strict, PeerId::random(), "127.0.0.1");
        assert_eq!(third.unwrap_err(), Refused::HostFull);
    }

    #[test]
    fn a_place_is_free_again_once_its_connection_closes() {
        let (mut gate, _dir) = gate(LIMITS);
        let peer = PeerId::random();
        let first = arrive(&mut gate, peer, "203.0.113.1").unwrap();
        arrive(&mut gate, PeerId::random(), "203.0.113.1").unwrap();
        assert!(arrive(&mut gate, PeerId::random(), "203.0.113.1").is_err());
        let endpoint = ConnectedPoint::Listener {
            local_addr: Multiaddr::empty(),
            send_back_addr: Multiaddr::empty(),
        };
        gate.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: peer,
            connection_id: first,
            endpoint: &endpoint,
            cause: None,
            remaining_established: 0,
        }));
        arrive(&mut gate, PeerId::random(), "203.0.113.1").unwrap();
    }

    #[test]
    fn the_banned_are_refused_by_identity_and_by_host() {
        let (mut gate, _dir) = gate(LIMITS);
        let peer = PeerId::random();
        gate.bans().ban(Subject::Peer(peer), NOW + 10, NOW);
        let refused = arrive(&mut gate, peer, "127.0.0.1");
        assert_eq!(refused.unwrap_err(), Refused::Banned);
        let host = Subject::host("203.0.113.7".parse().unwrap()).unwrap();
        gate.bans().ban(host, NOW + 10, NOW);
        let refused = arrive(&mut gate, PeerId::random(), "203.0.113.7");
        assert_eq!(refused.unwrap_err(), Refused::Banned);
        arrive(&mut gate, PeerId::random(), "203.0.113.8").unwrap();
    }

    #[test]
    fn a_peer_gets_three_connections() {
        let (mut gate, _dir) = gate(LIMITS);
        let peer = PeerId::random();
        for _ in 0..PER_PEER_MAX {
            arrive(&mut gate, peer, "203.0.113.1").unwrap();
        }
        let over = arrive(&mut gate, peer, "203.0.113.1");
        assert_eq!(over.unwrap_err(), Refused::PeerFull);
    }
}
