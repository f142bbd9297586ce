//! What the shell does twice a second: dial, close connections that are not needed, look up peers,
//! and now and then write the files.

use std::cmp::Reverse;
use std::collections::HashSet;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use crate::policy::dialer::ConnectedPeers;
use crate::policy::peers::{Peer, PeerConnection};
use crate::shell::Shell;

/// How often files are written, if anything has changed.
const SAVE_INTERVAL_MS: u64 = 30_000;
/// How long a peer may take to show that it is on our network.
const ADMISSION_MS: u64 = 10_000;
/// How long a peer with incidental connections only stays, unless the dialer chooses it.
const LOOKUP_MS: u64 = 10_000;
/// How long an incidental connection to any other peer lasts. A probe only has to be established.
const PROBE_MS: u64 = 3_000;
/// How long two connections to one peer last: until both sides know of both.
const SURPLUS_MS: u64 = 30_000;
/// A peer that was disconnected because it was one too many is not dialled for so long.
const EXTRA_AVOIDED_MS: u64 = 60_000;
/// Outbound peers that are dialled first after a restart.
const ANCHORS_MAX: usize = 4;

impl Shell {
    pub(super) fn tick(&mut self) {
        let now_ms = self.now_ms();
        let present = self.peers.present();
        while let Ok(effect) = self.core.missed_disconnects.try_recv() {
            self.carry_out(effect);
        }
        let stale = self.engine.sync().borrow().tip_stands_still;
        self.dialer.set_stale(stale);
        self.release_extra(now_ms, &present);
        let due = self.dialer.due(now_ms, &present);
        for peer in due.adopt {
            self.adopt(peer);
        }
        for dial in due.dials {
            self.dial(dial);
        }
        self.look_up_peers(now_ms, &present);
        self.keep_relays(now_ms);
        self.close_unneeded(now_ms);
        self.swarm.behaviour_mut().gate.settle_guests();
        if now_ms.saturating_sub(self.saved_ms) >= SAVE_INTERVAL_MS {
            self.saved_ms = now_ms;
            tokio::spawn(self.save());
        }
    }

    /// Disconnects an outbound peer beyond the target: it was taken while no blocks arrived. The
    /// peer whose last block is the oldest goes first, so the one that brought blocks stays.
    fn release_extra(&mut self, now_ms: u64, present: &ConnectedPeers) {
        let chosen = present.outbound.iter();
        let chosen = chosen.filter(|id| !self.dialer.is_added(id));
        let mut chosen: Vec<_> = chosen
            .filter_map(|id| {
                let peer = self.peers.get(id)?;
                Some((peer.block_at_ms, Reverse(peer.since_ms), *id))
            })
            .collect();
        if chosen.len() <= self.dialer.outbound_target() {
            return;
        }
        chosen.sort_unstable();
        if let Some((_, _, id)) = chosen.first().copied() {
            self.dialer
                .avoid(id, now_ms.saturating_add(EXTRA_AVOIDED_MS));
            self.disconnect(&id);
        }
    }

    /// Keeps a peer that a protocol has connected to, as if the dialer had chosen it.
    pub(super) fn adopt(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let connections = peer.connections.iter_mut();
        let Some(adopted) = connections.min_by_key(|one| one.is_relayed()) else {
            return;
        };
        if !self.swarm.behaviour_mut().gate.adopt(id, adopted.id) {
            return;
        }
        adopted.chosen = true;
        if peer.identified {
            self.admit(id);
        }
    }

    /// Closes connections that are not needed: to peers that do not show that they are on our
    /// network, incidental ones, and all but one to the same peer.
    fn close_unneeded(&mut self, now_ms: u64) {
        let own = *self.swarm.local_peer_id();
        let connections = self.peers.iter().flat_map(|(_, peer)| &peer.connections);
        let relays: HashSet<_> = connections.filter_map(|one| one.relay).collect();
        let mut silent = Vec::new();
        let mut closing = Vec::new();
        for (id, peer) in self.peers.iter() {
            let age_ms = now_ms.saturating_sub(peer.since_ms);
            if !peer.identified && age_ms >= ADMISSION_MS {
                silent.push(*id);
                continue;
            }
            // Other peers are reached through this one.
            let in_use = relays.contains(id);
            closing.extend(incidental(peer, now_ms).filter(|_| !in_use));
            closing.extend(surplus(&own, id, peer, now_ms));
        }
        for id in silent {
            self.disconnect(&id);
        }
        for connection in closing {
            self.swarm.close_connection(connection);
        }
    }

    /// Returns a future that writes the files where blocking is allowed.
    pub(super) fn save(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let chosen = self.peers.iter();
        let chosen = chosen.filter(|(_, peer)| peer.is_outbound());
        let mut outbound: Vec<_> = chosen.map(|(id, peer)| (peer.since_ms, *id)).collect();
        outbound.sort_unstable();
        let longest = outbound.iter().take(ANCHORS_MAX).map(|(_, id)| *id);
        self.dialer
            .book
            .set_anchors(&longest.collect::<Vec<_>>(), ANCHORS_MAX);
        let book = self.dialer.book.unsaved();
        let bans = self.swarm.behaviour_mut().gate.bans().unsaved();
        async move {
            let write = tokio::task::spawn_blocking(move || {
                if let Some(book) = book {
                    book();
                }
                if let Some(bans) = bans {
                    bans();
                }
            });
            // The closures log their failures themselves.
            let _ = write.await;
        }
    }
}

/// The incidental connections to a peer that have served their purpose.
fn incidental(peer: &Peer, now_ms: u64) -> impl Iterator<Item = ConnectionId> + '_ {
    let lasts_ms = if peer.is_incidental() {
        LOOKUP_MS
    } else {
        PROBE_MS
    };
    let connections = peer.connections.iter().filter(|one| one.is_incidental());
    connections
        .filter(move |one| now_ms.saturating_sub(one.since_ms) >= lasts_ms)
        .map(|one| one.id)
}

/// All connections to a peer but one. Both sides choose the same one to keep:
///
/// 1. A direct connection is kept before a relayed one.
/// 2. Of two that crossed, the one is kept that the larger identity dialled.
/// 3. Of equal ones the newest is kept: the older may be dead without either side knowing.
fn surplus(own: &PeerId, id: &PeerId, peer: &Peer, now_ms: u64) -> Vec<ConnectionId> {
    let known_to_both = |one: &PeerConnection| now_ms.saturating_sub(one.since_ms) >= SURPLUS_MS;
    let lasting = || peer.connections.iter().filter(|one| !one.is_incidental());
    if lasting().count() < 2 || !lasting().all(known_to_both) {
        return Vec::new();
    }
    let by_larger = |one: &PeerConnection| (own > id) != one.inbound;
    let keep = lasting().min_by_key(|one| {
        let newest_first = Reverse(one.since_ms);
        (one.is_relayed(), !by_larger(one), newest_first)
    });
    let keep = keep.map(|one| one.id);
    let all = lasting().map(|one| one.id);
    all.filter(|one| Some(*one) != keep).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::peers::Peers;

    fn connection(id: usize, inbound: bool, chosen: bool, relay: Option<PeerId>) -> PeerConnection {
        PeerConnection {
            id: ConnectionId::new_unchecked(id),
            address: "/ip4/203.0.113.1/tcp/1".parse().unwrap(),
            inbound,
            chosen,
            relay,
            since_ms: 0,
        }
    }

    fn peer_with(connections: &[PeerConnection]) -> (Peers, PeerId) {
        let (mut peers, id) = (Peers::default(), PeerId::random());
        for connection in connections {
            peers.connected(id, connection.clone(), 0, 0);
        }
        (peers, id)
    }

    #[test]
    fn incidental_connections_are_closed_and_the_peer_stays() {
        let came = connection(1, true, false, None);
        let probes = [
            connection(2, false, false, None),
            connection(3, false, false, None),
        ];
        let (peers, id) = peer_with(&[came, probes[0].clone(), probes[1].clone()]);
        let peer = peers.get(&id).unwrap();
        assert_eq!(incidental(peer, PROBE_MS - 1).count(), 0);
        let closed: Vec<_> = incidental(peer, PROBE_MS).collect();
        assert_eq!(closed, [probes[0].id, probes[1].id]);
        assert!(surplus(&PeerId::random(), &id, peer, SURPLUS_MS).is_empty());
        // A peer whose own connection has ended is closed after the time of a lookup.
        let (peers, id) = peer_with(&[connection(2, false, false, None)]);
        let peer = peers.get(&id).unwrap();
        assert!(peer.is_incidental());
        assert_eq!(incidental(peer, LOOKUP_MS - 1).count(), 0);
        assert_eq!(incidental(peer, LOOKUP_MS).count(), 1);
    }

    #[test]
    fn both_sides_keep_the_same_of_two_that_crossed() {
        for _ in 0..10 {
            let own = PeerId::random();
            let (peers, other) = peer_with(&[
                connection(1, false, true, None),
                connection(2, true, false, None),
            ]);
            let here = surplus(&own, &other, peers.get(&other).unwrap(), SURPLUS_MS);
            // The other side sees both connections the other way round.
            let there = [
                connection(1, true, false, None),
                connection(2, false, true, None),
            ];
            let mut mirrored = Peers::default();
            for connection in there {
                mirrored.connected(own, connection, 0, 0);
            }
            let there = surplus(&other, &own, mirrored.get(&own).unwrap(), SURPLUS_MS);
            assert_eq!(here, there);
            assert_eq!(here.len(), 1);
        }
    }

    #[test]
    fn a_direct_connection_replaces_a_relayed_one() {
        let relayed = connection(1, true, false, Some(PeerId::random()));
        let (peers, id) = peer_with(&[relayed.clone(), connection(2, true, false, None)]);
        let peer = peers.get(&id).unwrap();
        let closed = surplus(&PeerId::random(), &id, peer, SURPLUS_MS);
        assert_eq!(closed, [relayed.id]);
        assert!(surplus(&PeerId::random(), &id, peer, SURPLUS_MS - 1).is_empty());
        // The same holds if the relay's identity is unknown.
        let unknown = PeerConnection {
            address: "/ip4/203.0.113.9/tcp/1/p2p-circuit".parse().unwrap(),
            ..connection(1, true, false, None)
        };
        for _ in 0..10 {
            let (peers, id) = peer_with(&[unknown.clone(), connection(2, true, false, None)]);
            let closed = surplus(&PeerId::random(), &id, peers.get(&id).unwrap(), SURPLUS_MS);
            assert_eq!(closed, [unknown.id]);
        }
    }
}
