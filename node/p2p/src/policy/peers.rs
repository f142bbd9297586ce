//! Who is there: every connected peer, with what is known of it. A peer is
//! *admitted* once it has shown that it is on our network; only then does the core
//! hear of it, under a key that is never used twice.

use std::collections::HashMap;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::handle::PeerReport;
use crate::policy::address::is_relayed;
use crate::policy::dialer::{Present, providers};
use crate::policy::limiter::Source;
use pithead_core::sync::{PeerKey, Status};

/// Characters of what a peer calls itself that are kept.
const AGENT_CHARS_MAX: usize = 100;

/// One connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    pub(crate) address: Multiaddr,
    pub(crate) inbound: bool,
    /// Whether the dialer chose it: protocols open connections on their own, to
    /// peers of others' choosing.
    pub(crate) wanted: bool,
    /// The relay that it goes through, if that is known.
    pub(crate) relay: Option<PeerId>,
    /// Monotonic milliseconds.
    pub(crate) since_ms: u64,
}

impl Link {
    /// Whether a protocol opened it on its own.
    pub(crate) fn is_unwanted(&self) -> bool {
        !self.inbound && !self.wanted
    }

    /// Whether it goes through a relay, known or not.
    pub(crate) fn is_relayed(&self) -> bool {
        self.relay.is_some() || is_relayed(&self.address)
    }
}

/// A connected peer.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Given on admission.
    pub(crate) key: Option<PeerKey>,
    /// Whether it has shown that it is on our network.
    pub(crate) identified: bool,
    pub(crate) links: Vec<Link>,
    /// Monotonic milliseconds.
    pub(crate) since_ms: u64,
    /// Unix seconds.
    pub(crate) connected_at: u64,
    pub(crate) agent: String,
    pub(crate) height: u64,
    /// The status that it last told unasked.
    pub(crate) told: Option<Status>,
    pub(crate) latency: Option<std::time::Duration>,
    /// What the core holds against it.
    pub(crate) points: u32,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// Whether it passes on connections for others.
    pub(crate) relays: bool,
    /// When it last announced a sound block, monotonic milliseconds.
    pub(crate) block_at_ms: Option<u64>,
    /// The addresses that Kademlia has of it.
    pub(crate) routed: Vec<Multiaddr>,
}

impl Peer {
    /// The connection that counts: one that is wanted before one that is not, a
    /// direct one before a relayed one, the first among equals.
    pub(crate) fn link(&self) -> Option<&Link> {
        let links = self.links.iter();
        links.min_by_key(|link| (link.is_unwanted(), link.is_relayed()))
    }

    pub(crate) fn is_inbound(&self) -> bool {
        self.link().is_none_or(|link| link.inbound)
    }

    /// Whether the dialer chose it, and it is on our network. One that came, and of
    /// whose connections only a protocol's is left, is not.
    pub(crate) fn is_outbound(&self) -> bool {
        self.key.is_some() && !self.is_inbound() && !self.is_unwanted()
    }

    /// Whether a protocol opened all its connections on its own.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.links.iter().all(Link::is_unwanted)
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
    /// Takes note of a connection.
    pub(crate) fn connected(&mut self, id: PeerId, link: Link, now_ms: u64, unix_secs: u64) {
        let peer = self.all.entry(id).or_insert_with(|| Peer {
            key: None,
            identified: false,
            links: Vec::new(),
            since_ms: now_ms,
            connected_at: unix_secs,
            agent: String::new(),
            height: 0,
            told: None,
            latency: None,
            points: 0,
            bytes_sent: 0,
            bytes_received: 0,
            relays: false,
            block_at_ms: None,
            routed: Vec::new(),
        });
        peer.links.push(link);
    }

    /// Takes note of a connection's end; returns the peer if it was the last one.
    pub(crate) fn disconnected(&mut self, id: &PeerId, connection: ConnectionId) -> Option<Peer> {
        let peer = self.all.get_mut(id)?;
        peer.links.retain(|link| link.id != connection);
        if !peer.links.is_empty() {
            return None;
        }
        let peer = self.all.remove(id)?;
        if let Some(key) = peer.key {
            self.by_key.remove(&key);
        }
        Some(peer)
    }

    /// Admits a peer; its new key, or `None` if it has one, is not there, or if
    /// only a protocol wanted it.
    pub(crate) fn admit(&mut self, id: &PeerId) -> Option<PeerKey> {
        let peer = self.all.get_mut(id)?;
        peer.identified = true;
        if peer.key.is_some() || peer.is_unwanted() {
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

    /// Whose limits hold for a peer.
    pub(crate) fn source(&self, id: &PeerId) -> Source {
        let link = self.all.get(id).and_then(Peer::link);
        Source::of(id, link.map(|link| &link.address))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.all.iter()
    }

    /// How many are admitted.
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

    /// What the dialer need not dial, or count on.
    pub(crate) fn present(&self) -> Present {
        let outbound = || {
            let all = self.all.iter();
            all.filter(|(_, peer)| peer.is_outbound())
        };
        let links = outbound().filter_map(|(_, peer)| peer.link());
        let unwanted = self.all.iter().filter(|(_, peer)| peer.is_unwanted());
        let unwanted: std::collections::HashSet<_> = unwanted.map(|(id, _)| *id).collect();
        let all = self.all.keys().copied();
        Present {
            connected: all.filter(|id| !unwanted.contains(id)).collect(),
            unwanted,
            outbound: outbound().map(|(id, _)| *id).collect(),
            providers: providers(links.map(|link| &link.address)),
        }
    }

    /// Admitted peers for those who ask, in the order of their identities;
    /// `gossip_score` tells their standing there.
    pub(crate) fn report(&self, gossip_score: impl Fn(&PeerId) -> f64) -> Vec<PeerReport> {
        let admitted = self.all.iter().filter(|(_, peer)| peer.key.is_some());
        let mut reports: Vec<_> = admitted
            .filter_map(|(id, peer)| {
                let link = peer.link()?;
                Some(PeerReport {
                    peer: *id,
                    address: link.address.clone(),
                    agent: peer.agent.clone(),
                    inbound: link.inbound,
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

/// What a peer calls itself, fit to be shown: short, and without anything that
/// moves a terminal's cursor.
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

    fn link(id: usize, inbound: bool) -> Link {
        Link {
            id: ConnectionId::new_unchecked(id),
            address: "/ip4/203.0.113.1/tcp/1".parse().unwrap(),
            inbound,
            wanted: !inbound,
            relay: None,
            since_ms: 0,
        }
    }

    #[test]
    fn keys_are_never_used_twice() {
        let mut peers = Peers::default();
        let id = PeerId::random();
        assert_eq!(peers.admit(&id), None);
        peers.connected(id, link(1, false), 0, 0);
        let first = peers.admit(&id).unwrap();
        assert_eq!(peers.admit(&id), None);
        peers.connected(id, link(2, true), 0, 0);
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
        peers.connected(id, link(3, true), 0, 0);
        assert_ne!(peers.admit(&id).unwrap(), first);
    }

    #[test]
    fn only_admitted_outbound_peers_count_as_outbound() {
        let mut peers = Peers::default();
        let ids: Vec<_> = (0..3).map(|_| PeerId::random()).collect();
        peers.connected(ids[0], link(1, false), 0, 0);
        peers.connected(ids[1], link(2, false), 0, 0);
        peers.connected(ids[2], link(3, true), 0, 0);
        peers.admit(&ids[1]);
        peers.admit(&ids[2]);
        let by_a_protocol = Link {
            wanted: false,
            ..link(4, false)
        };
        let unwanted = PeerId::random();
        peers.connected(unwanted, by_a_protocol.clone(), 0, 0);
        // Nobody hears of whom only a protocol wanted.
        assert_eq!(peers.admit(&unwanted), None);
        let present = peers.present();
        assert_eq!(present.connected, ids.iter().copied().collect());
        assert_eq!(present.unwanted, [unwanted].into());
        assert_eq!(present.outbound, [ids[1]].into());
        assert_eq!(present.providers.len(), 1);
        assert_eq!(peers.report(|_| 0.0).len(), 2);
        // Nor does one count that came, if that connection has ended since.
        peers.connected(
            ids[2],
            Link {
                id: ConnectionId::new_unchecked(5),
                ..by_a_protocol.clone()
            },
            0,
            0,
        );
        peers.disconnected(&ids[2], ConnectionId::new_unchecked(3));
        assert_eq!(peers.present().outbound, [ids[1]].into());
        peers.get_mut(&unwanted).unwrap().links[0].wanted = true;
        assert!(peers.admit(&unwanted).is_some());
    }

    #[test]
    fn names_are_fit_to_be_shown() {
        assert_eq!(printable("node/1\u{1b}[2J\n"), "node/1[2J");
        assert_eq!(printable(&"x".repeat(1_000)).len(), AGENT_CHARS_MAX);
    }
}
