//! The established connections that the gate counts, sorted by what they are for, and the merits
//! of the peers behind them. Takes no decision: that is `checks`.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::policy::address::{ip_of, is_relayed, relay_of};
use crate::policy::eviction::EvictionCandidate;
use crate::policy::ip_prefix::IpPrefix;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionPurpose {
    /// The peer connected to us.
    Inbound,
    /// Our dialer chose the peer.
    Chosen,
    /// A protocol opened the connection to look up other peers.
    Lookup,
    /// A protocol tries another way to a peer that is connected already.
    Probe,
}

/// The place that an inbound connection comes from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InboundOrigin {
    pub(super) ip: Option<IpAddr>,
    pub(super) relay: Option<RelayIdentity>,
}

/// A relay, by what is known of it. A relay that was dialled by its address alone shows no peer
/// identity in the addresses of the peers behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RelayIdentity {
    peer: Option<PeerId>,
    ip: Option<IpAddr>,
}

impl InboundOrigin {
    pub(super) fn new(local: &Multiaddr, remote: &Multiaddr) -> Self {
        // Behind a relay, the remote address shows nothing of the peer.
        if is_relayed(local) {
            let (peer, ip) = (relay_of(local), ip_of(local));
            return Self {
                ip: None,
                relay: Some(RelayIdentity { peer, ip }),
            };
        }
        Self {
            ip: ip_of(remote),
            relay: None,
        }
    }
}

/// An established connection.
pub(super) struct GateConnection {
    pub(super) peer: PeerId,
    pub(super) purpose: ConnectionPurpose,
    pub(super) origin: InboundOrigin,
    pub(super) provider: Option<IpPrefix>,
    /// Unix seconds.
    pub(super) since: u64,
}

impl GateConnection {
    fn is_inbound(&self) -> bool {
        self.purpose == ConnectionPurpose::Inbound
    }
}

/// The merits of a connected peer, for `eviction`.
#[derive(Debug, Clone, Copy, Default)]
struct PeerMerit {
    latency: Option<Duration>,
    block_at: u64,
}

/// All established connections.
#[derive(Default)]
pub(super) struct ConnectionTable {
    /// Each connection with its number in the count of arrivals.
    pub(super) connections: HashMap<ConnectionId, (u64, GateConnection)>,
    merits: HashMap<PeerId, PeerMerit>,
    /// Counts connections and announced blocks, as a clock for their order.
    pub(super) arrivals: u64,
    /// Peers that are being disconnected. They no longer take a place.
    leaving: HashSet<PeerId>,
}

impl ConnectionTable {
    pub(super) fn add(&mut self, id: ConnectionId, connection: GateConnection) {
        self.arrivals += 1;
        self.merits.entry(connection.peer).or_default();
        self.connections.insert(id, (self.arrivals, connection));
    }

    /// Removes a connection; `last` says that its peer has no other.
    pub(super) fn remove(&mut self, id: ConnectionId, peer: &PeerId, last: bool) {
        self.connections.remove(&id);
        if last {
            self.merits.remove(peer);
            self.leaving.remove(peer);
        }
    }

    /// Turns a connection of a protocol into one of the dialer's. Returns false if it is gone.
    pub(super) fn set_chosen(&mut self, id: ConnectionId) -> bool {
        let Some((_, connection)) = self.connections.get_mut(&id) else {
            return false;
        };
        connection.purpose = ConnectionPurpose::Chosen;
        true
    }

    /// Notes a measured round trip. The shortest one counts: it tells how near the peer is, and
    /// the others tell how busy it was.
    pub(super) fn note_latency(&mut self, peer: &PeerId, latency: Duration) {
        if let Some(merit) = self.merits.get_mut(peer) {
            let best = merit.latency.map_or(latency, |known| known.min(latency));
            merit.latency = Some(best);
        }
    }

    /// Notes that a peer was the first to announce a valid block.
    pub(super) fn note_block(&mut self, peer: &PeerId) {
        if let Some(merit) = self.merits.get_mut(peer) {
            self.arrivals += 1;
            merit.block_at = self.arrivals;
        }
    }

    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.merits.contains_key(peer)
    }

    pub(super) fn is_leaving(&self, peer: &PeerId) -> bool {
        self.leaving.contains(peer)
    }

    /// From now on the peer takes no place, until its last connection has closed.
    pub(super) fn set_leaving(&mut self, peer: PeerId) {
        self.leaving.insert(peer);
    }

    /// Connections to one peer.
    pub(super) fn count_of(&self, peer: PeerId) -> usize {
        let all = self.connections.values();
        all.filter(|(_, one)| one.peer == peer).count()
    }

    /// What each connection is for.
    pub(super) fn purposes(&self) -> impl Iterator<Item = ConnectionPurpose> + '_ {
        self.connections.values().map(|(_, one)| one.purpose)
    }

    /// Peers that have such a connection and are not leaving.
    fn peers(&self, which: impl Fn(&GateConnection) -> bool) -> HashSet<PeerId> {
        let connections = self.connections.values().filter(|(_, one)| which(one));
        let peers = connections.map(|(_, one)| one.peer);
        peers.filter(|peer| !self.leaving.contains(peer)).collect()
    }

    /// Peers that our dialer chose.
    pub(super) fn chosen(&self) -> HashSet<PeerId> {
        self.peers(|one| one.purpose == ConnectionPurpose::Chosen)
    }

    /// Peers that connected to us, without those that our dialer chose as well.
    pub(super) fn inbound(&self) -> HashSet<PeerId> {
        let chosen = self.chosen();
        let mut inbound = self.peers(GateConnection::is_inbound);
        inbound.retain(|peer| !chosen.contains(peer));
        inbound
    }

    /// Inbound peers with a connection that began at `until` or before, Unix seconds.
    pub(super) fn inbound_since(&self, until: u64) -> HashSet<PeerId> {
        let stayed = self.peers(|one| one.is_inbound() && one.since <= until);
        self.inbound().intersection(&stayed).copied().collect()
    }

    /// How many other inbound peers come from the same place as `peer`.
    pub(super) fn neighbours(
        &self,
        peer: PeerId,
        same_place: impl Fn(&InboundOrigin) -> bool,
    ) -> usize {
        let neighbour =
            |one: &GateConnection| one.is_inbound() && one.peer != peer && same_place(&one.origin);
        self.peers(neighbour).len()
    }

    /// These inbound peers with their merits.
    pub(super) fn candidates(&self, inbound: &HashSet<PeerId>) -> Vec<EvictionCandidate> {
        let mut candidates: HashMap<PeerId, EvictionCandidate> = HashMap::new();
        for (arrival, one) in self.connections.values() {
            if !inbound.contains(&one.peer) || !one.is_inbound() {
                continue;
            }
            let merit = self.merits.get(&one.peer).copied().unwrap_or_default();
            let candidate = candidates.entry(one.peer).or_insert(EvictionCandidate {
                peer: one.peer,
                arrival: *arrival,
                latency: merit.latency,
                block_at: merit.block_at,
                provider: one.provider,
            });
            candidate.arrival = candidate.arrival.min(*arrival);
        }
        candidates.into_values().collect()
    }
}
