//! Who may connect: bans, and limits on peers in all, per host, per site and per
//! relay. A behaviour of the swarm, asked before anything else is set up for a
//! connection.
//!
//! What is limited is peers. A peer has one connection, and another for a moment:
//! `upkeep` closes what is not needed.

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

use crate::policy::address::{Network, Scope, ip_of, is_relayed, provider_of, relay_of};
use crate::policy::bans::{Bans, Subject};
use crate::policy::eviction::{self, Candidate};
use pithead_engine::Clock;

/// Connections to one peer: the one, one that crosses or replaces it, and one by
/// which it is found out whether the peer can be reached.
const PER_PEER_MAX: usize = 3;
/// Inbound connections that have not shown who they are yet, in all.
const PENDING_INBOUND_MAX: usize = 64;
/// The same from one host.
const PENDING_PER_HOST_MAX: usize = 4;
/// The same from one site.
const PENDING_PER_SITE_MAX: usize = 16;
/// Outbound connections under way.
const PENDING_OUTBOUND_MAX: usize = 64;
/// Connections that protocols may open on their own to ask the way.
const LOOKUPS_MAX: usize = 16;
/// Connections that protocols may open on their own to peers that are connected
/// already: to see whether they can be reached, or to do without a relay.
const PROBES_MAX: usize = 16;
/// Inbound peers through one relay: nobody knows where they come from.
const PER_RELAY_MAX: usize = 2;
/// The same through all relays.
const RELAYED_MAX: usize = 8;

/// Of so many inbound places one is for guests: those who ask the way and go again,
/// and newcomers until they have stayed for [`GUEST_SECS`].
const PLACES_PER_GUEST: usize = 8;
/// Longer than a lookup lasts.
const GUEST_SECS: u64 = 15;

/// How many peers there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GateLimits {
    /// In all.
    pub(crate) peers_max: usize,
    /// Inbound ones in all.
    pub(crate) inbound_max: usize,
    /// Inbound ones from one host.
    pub(crate) per_host_max: usize,
    /// Inbound ones from one site.
    pub(crate) per_site_max: usize,
    /// Whether the last two hold for this machine's own addresses, too.
    pub(crate) count_loopback: bool,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    /// The peer or its host is banned.
    #[error("banned")]
    Banned,
    /// Too many inbound peers, each of which deserves its place.
    #[error("no inbound connection is free")]
    InboundFull,
    /// Too many peers, or dials under way.
    #[error("no outbound connection is free")]
    OutboundFull,
    /// Protocols have opened enough connections on their own.
    #[error("enough lookups are under way")]
    LookupsFull,
    /// Too many connections with that peer.
    #[error("enough connections to that peer")]
    PeerFull,
    /// Too many peers on that host.
    #[error("enough peers of that host")]
    HostFull,
    /// Too many peers on that site.
    #[error("enough peers of that part of the network")]
    SiteFull,
    /// Too many peers through relays.
    #[error("enough peers through relays")]
    RelayFull,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The peer came to us.
    Inbound,
    /// The dialer chose the peer.
    Chosen,
    /// A protocol asks the way.
    Lookup,
    /// A protocol tries another way to a connected peer.
    Probe,
}

/// Where an inbound connection comes from.
#[derive(Debug, Clone, Copy, Default)]
struct Origin {
    ip: Option<IpAddr>,
    relay: Option<Relay>,
}

/// A relay, by what is known of it: one that was dialled by its address alone shows
/// no identity in the addresses of those who come through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Relay {
    peer: Option<PeerId>,
    ip: Option<IpAddr>,
}

impl Origin {
    fn new(local: &Multiaddr, remote: &Multiaddr) -> Self {
        // An address behind a relay shows nothing of the peer.
        if is_relayed(local) {
            let (peer, ip) = (relay_of(local), ip_of(local));
            return Self {
                ip: None,
                relay: Some(Relay { peer, ip }),
            };
        }
        Self {
            ip: ip_of(remote),
            relay: None,
        }
    }
}

struct Connection {
    peer: PeerId,
    purpose: Purpose,
    origin: Origin,
    provider: Option<Network>,
    arrival: u64,
    /// Unix seconds.
    since: u64,
}

/// What speaks for a connected peer.
#[derive(Debug, Clone, Copy, Default)]
struct Merit {
    latency: Option<Duration>,
    block_at: u64,
}

/// The behaviour.
pub(crate) struct Gate {
    limits: GateLimits,
    bans: Bans,
    clock: Clock,
    secret: RandomState,
    connections: HashMap<ConnectionId, Connection>,
    merits: HashMap<PeerId, Merit>,
    arrivals: u64,
    /// Peers that are on their way out, and count no longer.
    leaving: HashSet<PeerId>,
    evicted: VecDeque<PeerId>,
    pending_inbound: HashMap<ConnectionId, Option<IpAddr>>,
    /// Dials of the dialer that are about to begin.
    chosen: HashSet<ConnectionId>,
    pending_outbound: HashMap<ConnectionId, Purpose>,
}

impl Gate {
    /// With these limits and bans; `clock` tells when bans end.
    #[must_use]
    pub(crate) fn new(limits: GateLimits, bans: Bans, clock: Clock) -> Self {
        Self {
            limits,
            bans,
            clock,
            secret: RandomState::new(),
            connections: HashMap::new(),
            merits: HashMap::new(),
            arrivals: 0,
            leaving: HashSet::new(),
            evicted: VecDeque::new(),
            pending_inbound: HashMap::new(),
            chosen: HashSet::new(),
            pending_outbound: HashMap::new(),
        }
    }

    /// The bans.
    pub(crate) fn bans(&mut self) -> &mut Bans {
        &mut self.bans
    }

    /// The dialer is about to dial: what is not announced so is a protocol's.
    pub(crate) fn announce(&mut self, connection: ConnectionId) {
        self.chosen.insert(connection);
    }

    /// The dialer would have chosen a peer that a protocol has connected to; false
    /// if there are too many peers.
    pub(crate) fn adopt(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        if self.check_total(peer).is_err() {
            return false;
        }
        let Some(adopted) = self.connections.get_mut(&connection) else {
            return false;
        };
        adopted.purpose = Purpose::Chosen;
        true
    }

    /// A round trip was measured.
    pub(crate) fn note_latency(&mut self, peer: PeerId, latency: Duration) {
        if let Some(merit) = self.merits.get_mut(&peer) {
            // The best says how near it is; the rest how busy.
            let best = merit.latency.map_or(latency, |known| known.min(latency));
            merit.latency = Some(best);
        }
    }

    /// A peer was the first to announce a block that turned out sound.
    pub(crate) fn note_block(&mut self, peer: &PeerId) {
        if let Some(merit) = self.merits.get_mut(peer) {
            self.arrivals += 1;
            merit.block_at = self.arrivals;
        }
    }

    /// Whether the peer, or the host at `ip`, is banned.
    pub(crate) fn is_banned(&mut self, peer: Option<PeerId>, ip: Option<IpAddr>) -> bool {
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

    /// Peers that have a connection of this kind, without those on their way out.
    fn peers(&self, which: impl Fn(&Connection) -> bool) -> HashSet<PeerId> {
        let connections = self.connections.values().filter(|one| which(one));
        let peers = connections.map(|one| one.peer);
        peers.filter(|peer| !self.leaving.contains(peer)).collect()
    }

    fn inbound(&self) -> HashSet<PeerId> {
        let chosen = self.chosen_peers();
        let mut inbound = self.peers(|one| one.purpose == Purpose::Inbound);
        inbound.retain(|peer| !chosen.contains(peer));
        inbound
    }

    fn chosen_peers(&self) -> HashSet<PeerId> {
        self.peers(|one| one.purpose == Purpose::Chosen)
    }

    /// The address if the limits of hosts and sites hold for it.
    fn counted(&self, ip: Option<IpAddr>) -> Option<IpAddr> {
        let own = |ip: &IpAddr| Scope::of_ip(*ip) == Some(Scope::Machine);
        ip.filter(|ip| self.limits.count_loopback || !own(ip))
    }

    /// Other peers that are connected inbound from the same place.
    fn neighbours(&self, peer: PeerId, same: impl Fn(&Origin) -> bool) -> usize {
        let inbound = |one: &Connection| one.purpose == Purpose::Inbound;
        let all = self.peers(|one| inbound(one) && one.peer != peer && same(&one.origin));
        all.len()
    }

    fn check_inbound_pending(&mut self, ip: Option<IpAddr>) -> Result<(), Refused> {
        self.check_ban(None, ip)?;
        if self.pending_inbound.len() >= PENDING_INBOUND_MAX {
            return Err(Refused::InboundFull);
        }
        if let Some(ip) = self.counted(ip) {
            let pending = |of: fn(IpAddr) -> Network| {
                let others = self.pending_inbound.values().flatten();
                others.filter(|other| of(**other) == of(ip)).count()
            };
            if pending(Network::host) >= PENDING_PER_HOST_MAX {
                return Err(Refused::HostFull);
            }
            if pending(Network::site) >= PENDING_PER_SITE_MAX {
                return Err(Refused::SiteFull);
            }
        }
        Ok(())
    }

    fn check_inbound(&mut self, peer: PeerId, origin: Origin) -> Result<(), Refused> {
        self.check_ban(Some(peer), origin.ip)?;
        self.check_peer(peer)?;
        // Who was put out has not left yet: until then it comes back to nothing.
        if self.leaving.contains(&peer) {
            return Err(Refused::InboundFull);
        }
        if self.inbound().contains(&peer) || self.chosen_peers().contains(&peer) {
            return Ok(());
        }
        if let Some(relay) = origin.relay
            && (self.neighbours(peer, |other| other.relay == Some(relay)) >= PER_RELAY_MAX
                || self.neighbours(peer, |other| other.relay.is_some()) >= RELAYED_MAX)
        {
            return Err(Refused::RelayFull);
        }
        if let Some(ip) = self.counted(origin.ip) {
            let neighbours = |of: fn(IpAddr) -> Network| {
                let same = |other: &Origin| other.ip.is_some_and(|other| of(other) == of(ip));
                self.neighbours(peer, same)
            };
            if neighbours(Network::host) >= self.limits.per_host_max {
                return Err(Refused::HostFull);
            }
            if neighbours(Network::site) >= self.limits.per_site_max {
                return Err(Refused::SiteFull);
            }
        }
        let inbound = self.inbound();
        if inbound.len() < self.places() {
            return Ok(());
        }
        // Nobody is put out for one of whom nothing can be known.
        if origin.relay.is_some() {
            return Err(Refused::InboundFull);
        }
        let made = if self.guests_max() == 0 {
            self.make_room(&inbound, eviction::choose)
        } else {
            // Who perhaps only asks the way puts out nobody who stays.
            let settled = self.settled();
            let guests = inbound.difference(&settled).copied().collect();
            self.make_room(&guests, |guests, _| eviction::newest_of_crowd(&guests))
        };
        if !made {
            return Err(Refused::InboundFull);
        }
        Ok(())
    }

    /// Inbound places that there are at present.
    fn places(&self) -> usize {
        let rest = self.limits.peers_max;
        let rest = rest.saturating_sub(self.chosen_peers().len());
        self.limits.inbound_max.min(rest)
    }

    fn guests_max(&self) -> usize {
        self.limits.inbound_max / PLACES_PER_GUEST
    }

    /// Inbound peers that are guests no longer.
    fn settled(&self) -> HashSet<PeerId> {
        let now = (self.clock)();
        let long = |one: &Connection| now.saturating_sub(one.since) >= GUEST_SECS;
        let inbound = |one: &Connection| one.purpose == Purpose::Inbound;
        let stayed = self.peers(|one| inbound(one) && long(one));
        self.inbound().intersection(&stayed).copied().collect()
    }

    /// Newcomers become peers like others: whoever is then one too many leaves.
    pub(crate) fn settle(&mut self) {
        let most = self.places().saturating_sub(self.guests_max());
        loop {
            let settled = self.settled();
            if settled.len() <= most || !self.make_room(&settled, eviction::choose) {
                return;
            }
        }
    }

    /// Puts one of these inbound peers out, if one of them is found to be the one.
    fn make_room(
        &mut self,
        inbound: &HashSet<PeerId>,
        choose: impl Fn(Vec<Candidate>, &RandomState) -> Option<PeerId>,
    ) -> bool {
        let mut candidates: HashMap<PeerId, Candidate> = HashMap::new();
        for one in self.connections.values() {
            if !inbound.contains(&one.peer) || one.purpose != Purpose::Inbound {
                continue;
            }
            let merit = self.merits.get(&one.peer).copied().unwrap_or_default();
            let candidate = candidates.entry(one.peer).or_insert(Candidate {
                peer: one.peer,
                arrival: one.arrival,
                latency: merit.latency,
                block_at: merit.block_at,
                provider: one.provider,
            });
            candidate.arrival = candidate.arrival.min(one.arrival);
        }
        let Some(peer) = choose(candidates.into_values().collect(), &self.secret) else {
            return false;
        };
        self.leaving.insert(peer);
        self.evicted.push_back(peer);
        true
    }

    /// Whether one more peer may be had.
    fn check_total(&mut self, peer: PeerId) -> Result<(), Refused> {
        let (inbound, chosen) = (self.inbound(), self.chosen_peers());
        if chosen.contains(&peer) || inbound.contains(&peer) {
            return Ok(());
        }
        if chosen.len() >= self.limits.peers_max
            || (chosen.len() + inbound.len() >= self.limits.peers_max
                && !self.make_room(&inbound, eviction::choose))
        {
            return Err(Refused::OutboundFull);
        }
        Ok(())
    }

    /// Whether a dial may begin, and what it is for.
    fn check_outbound_pending(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
    ) -> Result<Purpose, Refused> {
        if self.pending_outbound.len() >= PENDING_OUTBOUND_MAX {
            return Err(Refused::OutboundFull);
        }
        if self.chosen.remove(&connection) {
            return Ok(Purpose::Chosen);
        }
        let connected = peer.is_some_and(|peer| self.merits.contains_key(&peer));
        let (purpose, most) = if connected {
            (Purpose::Probe, PROBES_MAX)
        } else {
            (Purpose::Lookup, LOOKUPS_MAX)
        };
        let held = self.connections.values().map(|one| one.purpose);
        let all = held.chain(self.pending_outbound.values().copied());
        if all.filter(|other| *other == purpose).count() >= most {
            return Err(Refused::LookupsFull);
        }
        Ok(purpose)
    }

    fn check_outbound(
        &mut self,
        peer: PeerId,
        ip: Option<IpAddr>,
        purpose: Purpose,
    ) -> Result<(), Refused> {
        self.check_ban(Some(peer), ip)?;
        self.check_peer(peer)?;
        if self.leaving.contains(&peer) {
            return Err(Refused::OutboundFull);
        }
        if purpose == Purpose::Chosen {
            self.check_total(peer)?;
        }
        Ok(())
    }

    fn forget_pending(&mut self, connection: ConnectionId) {
        self.chosen.remove(&connection);
        self.pending_outbound.remove(&connection);
        self.pending_inbound.remove(&connection);
    }

    fn established(&mut self, event: &ConnectionEstablished<'_>) {
        let purpose = self.pending_outbound.remove(&event.connection_id);
        self.pending_inbound.remove(&event.connection_id);
        let remote = event.endpoint.get_remote_address();
        // Whom we met halfway, as its part of getting rid of a relay, came to us.
        let (purpose, origin) = match event.endpoint {
            ConnectedPoint::Listener { local_addr, .. } => {
                (Purpose::Inbound, Origin::new(local_addr, remote))
            }
            ConnectedPoint::Dialer {
                role_override: Endpoint::Listener,
                ..
            } => (Purpose::Inbound, Origin::new(remote, remote)),
            ConnectedPoint::Dialer { .. } => {
                (purpose.unwrap_or(Purpose::Lookup), Origin::default())
            }
        };
        self.arrivals += 1;
        let connection = Connection {
            peer: event.peer_id,
            purpose,
            origin,
            provider: provider_of(remote),
            arrival: self.arrivals,
            since: (self.clock)(),
        };
        self.connections.insert(event.connection_id, connection);
        self.merits.entry(event.peer_id).or_default();
    }

    fn closed(&mut self, event: &ConnectionClosed<'_>) {
        self.connections.remove(&event.connection_id);
        if event.remaining_established == 0 {
            self.merits.remove(&event.peer_id);
            self.leaving.remove(&event.peer_id);
        }
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
        let ip = Origin::new(local, remote).ip;
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
        self.check_inbound(peer, Origin::new(local, remote))
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
        // It stays pending until the swarm counts it.
        let pending = self.pending_outbound.get(&connection);
        let purpose = pending.copied().unwrap_or(Purpose::Lookup);
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

#[cfg(test)]
mod tests;
