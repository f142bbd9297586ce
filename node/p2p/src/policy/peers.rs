//! All connected peers, with what the node knows of each.
//!
//! A peer is *admitted* once it has shown that it is on our network. Only then does the core hear
//! of it, under a key that is never used twice.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::policy::address::is_relayed;
use crate::policy::dialer::{ConnectedPeers, providers};
use crate::policy::limiter::Source;
use pithead_core::sync::{PeerKey, Status};

/// The longest agent string of a peer that is kept, characters.
const AGENT_CHARS_MAX: usize = 100;

/// A connected peer, as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerReport {
    pub peer: PeerId,
    /// The peer's end of the connection.
    pub address: Multiaddr,
    /// Program and version, as the peer itself says.
    pub agent: String,
    /// Whether the peer connected to us.
    pub inbound: bool,
    /// The height that the peer announced last; 0 before its first announcement.
    pub height: u64,
    /// Round trip, once it was measured.
    pub latency: Option<Duration>,
    /// The peer's gossip score, less the points that the core holds against it.
    pub score: f64,
    /// Unix seconds.
    pub connected_at: u64,
    /// Bytes of messages, without those of the transport.
    pub bytes_sent: u64,
    /// Bytes of messages, without those of the transport.
    pub bytes_received: u64,
}

/// One connection to a peer.
#[derive(Debug, Clone)]
pub(crate) struct PeerConnection {
    pub(crate) id: ConnectionId,
    pub(crate) address: Multiaddr,
    pub(crate) inbound: bool,
    /// Whether our dialer chose the peer. Protocols such as Kademlia also open connections, to
    /// peers that other nodes have named.
    pub(crate) chosen: bool,
    /// The relay that the connection goes through, if its identity is known.
    pub(crate) relay: Option<PeerId>,
    /// Monotonic milliseconds.
    pub(crate) since_ms: u64,
}

impl PeerConnection {
    /// Whether a protocol opened the connection for a purpose of its own.
    pub(crate) fn is_incidental(&self) -> bool {
        !self.inbound && !self.chosen
    }

    /// Whether the connection goes through a relay, even one of unknown identity.
    pub(crate) fn is_relayed(&self) -> bool {
        self.relay.is_some() || is_relayed(&self.address)
    }
}

/// A connected peer.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The core's name for the peer, given on admission.
    pub(crate) key: Option<PeerKey>,
    /// Whether the peer has shown that it is on our network.
    pub(crate) identified: bool,
    pub(crate) connections: Vec<PeerConnection>,
    /// Monotonic milliseconds.
    pub(crate) since_ms: u64,
    /// Unix seconds.
    pub(crate) connected_at: u64,
    pub(crate) agent: String,
    pub(crate) height: u64,
    /// The last status that the peer sent without being asked.
    pub(crate) last_status: Option<Status>,
    pub(crate) latency: Option<Duration>,
    /// Penalty points that the core holds against the peer.
    pub(crate) points: u32,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// Whether the peer relays connections for other nodes.
    pub(crate) offers_relay: bool,
    /// When the peer last announced a valid block, monotonic milliseconds.
    pub(crate) block_at_ms: Option<u64>,
    /// The peer's addresses in Kademlia's routing table.
    pub(crate) routed: Vec<Multiaddr>,
}

impl Peer {
    fn new(now_ms: u64, unix_secs: u64) -> Self {
        Self {
            key: None,
            identified: false,
            connections: Vec::new(),
            since_ms: now_ms,
            connected_at: unix_secs,
            agent: String::new(),
            height: 0,
            last_status: None,
            latency: None,
            points: 0,
            bytes_sent: 0,
            bytes_received: 0,
            offers_relay: false,
            block_at_ms: None,
            routed: Vec::new(),
        }
    }

    /// The connection that represents the peer. Connections that were meant for it come before
    /// incidental ones, then direct before relayed, then older before newer.
    pub(crate) fn connection(&self) -> Option<&PeerConnection> {
        let all = self.connections.iter();
        all.min_by_key(|connection| (connection.is_incidental(), connection.is_relayed()))
    }

    pub(crate) fn is_inbound(&self) -> bool {
        self.connection()
            .is_none_or(|connection| connection.inbound)
    }

    /// Whether our dialer chose the peer and it is on our network. An inbound peer does not
    /// become outbound when only an incidental connection to it is left.
    pub(crate) fn is_outbound(&self) -> bool {
        self.key.is_some() && !self.is_inbound() && !self.is_incidental()
    }

    /// Whether protocols opened all connections to the peer for purposes of their own.
    pub(crate) fn is_incidental(&self) -> bool {
        self.connections.iter().all(PeerConnection::is_incidental)
    }
}

/// All connected peers.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    all: HashMap<PeerId, Peer>,
    by_key: HashMap<PeerKey, PeerId>,
    next_key: u64,
}

impl Peers {
    /// Notes a new connection.
    pub(crate) fn connected(
        &mut self,
        id: PeerId,
        connection: PeerConnection,
        now_ms: u64,
        unix_secs: u64,
    ) {
        let new = || Peer::new(now_ms, unix_secs);
        let peer = self.all.entry(id).or_insert_with(new);
        peer.connections.push(connection);
    }

    /// Notes the end of a connection. Returns the peer if it was the last one.
    pub(crate) fn disconnected(&mut self, id: &PeerId, closed: ConnectionId) -> Option<Peer> {
        let peer = self.all.get_mut(id)?;
        peer.connections
            .retain(|connection| connection.id != closed);
        if !peer.connections.is_empty() {
            return None;
        }
        let peer = self.all.remove(id)?;
        if let Some(key) = peer.key {
            self.by_key.remove(&key);
        }
        Some(peer)
    }

    /// Admits a peer and returns its new key. Returns `None` if the peer has a key already, is
    /// not connected, or has incidental connections only.
    pub(crate) fn admit(&mut self, id: &PeerId) -> Option<PeerKey> {
        let peer = self.all.get_mut(id)?;
        peer.identified = true;
        if peer.key.is_some() || peer.is_incidental() {
            return None;
        }
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        peer.key = Some(key);
        self.by_key.insert(key, *id);
        Some(key)
    }

    pub(crate) fn get(&self, id: &PeerId) -> Option<&Peer> {
        self.all.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Peer> {
        self.all.get_mut(id)
    }

    pub(crate) fn key(&self, id: &PeerId) -> Option<PeerKey> {
        self.all.get(id)?.key
    }

    pub(crate) fn id(&self, key: PeerKey) -> Option<PeerId> {
        self.by_key.get(&key).copied()
    }

    pub(crate) fn by_key_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        let id = self.by_key.get(&key)?;
        self.all.get_mut(id)
    }

    /// The source whose rate limits hold for a peer.
    pub(crate) fn source(&self, id: &PeerId) -> Source {
        let connection = self.all.get(id).and_then(Peer::connection);
        Source::of(id, connection.map(|connection| &connection.address))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.all.iter()
    }

    /// How many peers are admitted.
    pub(crate) fn admitted(&self) -> usize {
        self.by_key.len()
    }

    /// Counts bytes of messages.
    pub(crate) fn count_bytes(&mut self, id: &PeerId, sent: usize, received: usize) {
        if let Some(peer) = self.all.get_mut(id) {
            let wide = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
            peer.bytes_sent = peer.bytes_sent.saturating_add(wide(sent));
            peer.bytes_received = peer.bytes_received.saturating_add(wide(received));
        }
    }

    /// The connected peers, sorted as the dialer needs them.
    pub(crate) fn present(&self) -> ConnectedPeers {
        let outbound = || {
            let all = self.all.iter();
            all.filter(|(_, peer)| peer.is_outbound())
        };
        let represented = outbound().filter_map(|(_, peer)| peer.connection());
        let incidental = self.all.iter().filter(|(_, peer)| peer.is_incidental());
        let incidental: HashSet<_> = incidental.map(|(id, _)| *id).collect();
        let all = self.all.keys().copied();
        ConnectedPeers {
            connected: all.filter(|id| !incidental.contains(id)).collect(),
            incidental,
            outbound: outbound().map(|(id, _)| *id).collect(),
            providers: providers(represented.map(|connection| &connection.address)),
        }
    }

    /// Reports on the admitted peers, in the order of their identities. `gossip_score` gives a
    /// peer's score in gossip.
    pub(crate) fn report(&self, gossip_score: impl Fn(&PeerId) -> f64) -> Vec<PeerReport> {
        let admitted = self.all.iter().filter(|(_, peer)| peer.key.is_some());
        let mut reports: Vec<_> = admitted
            .filter_map(|(id, peer)| {
                let connection = peer.connection()?;
                Some(PeerReport {
                    peer: *id,
                    address: connection.address.clone(),
                    agent: peer.agent.clone(),
                    inbound: connection.inbound,
                    height: peer.height,
                    latency: peer.latency,
                    score: gossip_score(id) - f64::from(peer.points),
                    connected_at: peer.connected_at,
                    bytes_sent: peer.bytes_sent,
                    bytes_received: peer.bytes_received,
                })
            })
            .collect();
        reports.sort_by_key(|report| report.peer);
        reports
    }
}

/// A peer's agent string in a form that is safe to print: short, and without control characters
/// that could move a terminal's cursor.
pub(crate) fn printable(agent: &str) -> String {
    let graphic = |letter: &char| !letter.is_control();
    agent
        .chars()
        .filter(graphic)
        .take(AGENT_CHARS_MAX)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn connection(id: usize, inbound: bool) -> PeerConnection {
        PeerConnection {
            id: ConnectionId::new_unchecked(id),
            address: "/ip4/203.0.113.1/tcp/1".parse().unwrap(),
            inbound,
            chosen: !inbound,
            relay: None,
            since_ms: 0,
        }
    }

    #[test]
    fn keys_are_never_used_twice() {
        let mut peers = Peers::default();
        let id = PeerId::random();
        assert_eq!(peers.admit(&id), None);
        peers.connected(id, connection(1, false), 0, 0);
        let first = peers.admit(&id).unwrap();
        assert_eq!(peers.admit(&id), None);
        peers.connected(id, connection(2, true), 0, 0);
        assert!(
            peers
                .disconnected(&id, ConnectionId::new_unchecked(1))
                .is_none()
        );
        assert_eq!(peers.id(first), Some(id));
        let gone = peers
            .disconnected(&id, ConnectionId::new_unchecked(2))
            .unwrap();
        assert_eq!(gone.key, Some(first));
        assert_eq!(peers.id(first), None);
        peers.connected(id, connection(3, true), 0, 0);
        assert_ne!(peers.admit(&id).unwrap(), first);
    }

    #[test]
    fn only_admitted_outbound_peers_count_as_outbound() {
        let mut peers = Peers::default();
        let ids: Vec<_> = (0..3).map(|_| PeerId::random()).collect();
        peers.connected(ids[0], connection(1, false), 0, 0);
        peers.connected(ids[1], connection(2, false), 0, 0);
        peers.connected(ids[2], connection(3, true), 0, 0);
        peers.admit(&ids[1]);
        peers.admit(&ids[2]);
        let by_a_protocol = PeerConnection {
            chosen: false,
            ..connection(4, false)
        };
        let incidental = PeerId::random();
        peers.connected(incidental, by_a_protocol.clone(), 0, 0);
        // The core does not hear of a peer with incidental connections only.
        assert_eq!(peers.admit(&incidental), None);
        let present = peers.present();
        assert_eq!(present.connected, ids.iter().copied().collect());
        assert_eq!(present.incidental, [incidental].into());
        assert_eq!(present.outbound, [ids[1]].into());
        assert_eq!(present.providers.len(), 1);
        assert_eq!(peers.report(|_| 0.0).len(), 2);
        // An inbound peer does not count either, once its own connection has ended.
        peers.connected(
            ids[2],
            PeerConnection {
                id: ConnectionId::new_unchecked(5),
                ..by_a_protocol.clone()
            },
            0,
            0,
        );
        peers.disconnected(&ids[2], ConnectionId::new_unchecked(3));
        assert_eq!(peers.present().outbound, [ids[1]].into());
        peers.get_mut(&incidental).unwrap().connections[0].chosen = true;
        assert!(peers.admit(&incidental).is_some());
    }

    #[test]
    fn names_are_fit_to_be_shown() {
        assert_eq!(printable("node/1\u{1b}[2J\n"), "node/1[2J");
        assert_eq!(printable(&"x".repeat(1_000)).len(), AGENT_CHARS_MAX);
    }
}
