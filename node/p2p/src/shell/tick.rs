//! What is done twice a second: dial, let go, look around, and now and then write
//! the files.

use std::cmp::Reverse;
use std::collections::HashSet;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use crate::policy::dialer::Present;
use crate::policy::peers::{Link, Peer};
use crate::shell::Shell;

/// How often files are written, if there is anything new.
const SAVE_INTERVAL_MS: u64 = 30_000;
/// A peer has so long to show that it is on our network.
const ADMISSION_MS: u64 = 10_000;
/// A connection that a protocol opened on its own lasts so long, unless the dialer
/// chooses the peer.
const LOOKUP_MS: u64 = 10_000;
/// The same to a peer that is connected anyway: it only had to come about.
const PROBE_MS: u64 = 3_000;
/// Two connections to one peer last so long: until both sides know both.
const SURPLUS_MS: u64 = 30_000;
/// Whom we let go because it was one too many is not dialled for so long.
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
        let still = self.engine.sync().borrow().tip_stands_still;
        self.dialer.set_stale(still);
        self.release_extra(now_ms, &present);
        let due = self.dialer.due(now_ms, &present);
        for peer in due.adopt {
            self.adopt(peer);
        }
        for dial in due.dials {
            self.dial(dial);
        }
        self.look_around(now_ms, &present);
        self.keep_relays(now_ms);
        self.let_go(now_ms);
        self.swarm.behaviour_mut().gate.settle();
        if now_ms.saturating_sub(self.saved_ms) >= SAVE_INTERVAL_MS {
            self.saved_ms = now_ms;
            tokio::spawn(self.save());
        }
    }

    /// Lets an outbound peer go that was only taken while no blocks came: not the
    /// one that brought them.
    fn release_extra(&mut self, now_ms: u64, present: &Present) {
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

    /// Keeps a peer that a protocol has connected to, as the dialer would have.
    pub(super) fn adopt(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(link) = peer.links.iter_mut().min_by_key(|link| link.is_relayed()) else {
            return;
        };
        if !self.swarm.behaviour_mut().gate.adopt(id, link.id) {
            return;
        }
        link.wanted = true;
        if peer.identified {
            self.admit(id);
        }
    }

    /// Closes connections that nobody has use for: to peers that do not show that
    /// they are on our network, those that a protocol opened on its own, and all but
    /// one to the same peer.
    fn let_go(&mut self, now_ms: u64) {
        let own = *self.swarm.local_peer_id();
        let links = self.peers.iter().flat_map(|(_, peer)| &peer.links);
        let relays: HashSet<_> = links.filter_map(|link| link.relay).collect();
        let mut silent = Vec::new();
        let mut closing = Vec::new();
        for (id, peer) in self.peers.iter() {
            let age_ms = now_ms.saturating_sub(peer.since_ms);
            if !peer.identified && age_ms >= ADMISSION_MS {
                silent.push(*id);
                continue;
            }
            // Others are reached through it.
            let in_use = relays.contains(id);
            closing.extend(unneeded(peer, now_ms).filter(|_| !in_use));
            closing.extend(surplus(&own, id, peer, now_ms));
        }
        for id in silent {
            self.disconnect(&id);
        }
        for connection in closing {
            self.swarm.close_connection(connection);
        }
    }

    /// What writes the files, where blocking is allowed.
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
            // Failures are logged where they happen.
            let _ = write.await;
        }
    }
}

/// What a protocol opened on its own, and has had its use of.
fn unneeded(peer: &Peer, now_ms: u64) -> impl Iterator<Item = ConnectionId> + '_ {
    let lasts_ms = if peer.is_unwanted() {
        LOOKUP_MS
    } else {
        PROBE_MS
    };
    let links = peer.links.iter().filter(|link| link.is_unwanted());
    links
        .filter(move |link| now_ms.saturating_sub(link.since_ms) >= lasts_ms)
        .map(|link| link.id)
}

/// All connections to a peer but one. Both sides settle on the same: direct before
/// relayed, then, if they crossed, the one that was dialled by the larger identity.
fn surplus(own: &PeerId, id: &PeerId, peer: &Peer, now_ms: u64) -> Vec<ConnectionId> {
    let settled = |link: &Link| now_ms.saturating_sub(link.since_ms) >= SURPLUS_MS;
    let wanted = || peer.links.iter().filter(|link| !link.is_unwanted());
    if wanted().count() < 2 || !wanted().all(settled) {
        return Vec::new();
    }
    let by_larger = |link: &Link| (own > id) != link.inbound;
    // Of equals the newest: the older one may be dead, and not known to be.
    let keep = wanted().min_by_key(|link| {
        let newest_first = Reverse(link.since_ms);
        (link.is_relayed(), !by_larger(link), newest_first)
    });
    let keep = keep.map(|link| link.id);
    let others = wanted().map(|link| link.id);
    others.filter(|link| Some(*link) != keep).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::peers::Peers;

    fn link(id: usize, inbound: bool, wanted: bool, relay: Option<PeerId>) -> Link {
        Link {
            id: ConnectionId::new_unchecked(id),
            address: "/ip4/203.0.113.1/tcp/1".parse().unwrap(),
            inbound,
            wanted,
            relay,
            since_ms: 0,
        }
    }

    fn peer_with(links: &[Link]) -> (Peers, PeerId) {
        let (mut peers, id) = (Peers::default(), PeerId::random());
        for link in links {
            peers.connected(id, link.clone(), 0, 0);
        }
        (peers, id)
    }

    #[test]
    fn what_a_protocol_opened_is_closed_and_the_peer_stays() {
        let came = link(1, true, false, None);
        let probes = [link(2, false, false, None), link(3, false, false, None)];
        let (peers, id) = peer_with(&[came, probes[0].clone(), probes[1].clone()]);
        let peer = peers.get(&id).unwrap();
        assert_eq!(unneeded(peer, PROBE_MS - 1).count(), 0);
        let closed: Vec<_> = unneeded(peer, PROBE_MS).collect();
        assert_eq!(closed, [probes[0].id, probes[1].id]);
        assert!(surplus(&PeerId::random(), &id, peer, SURPLUS_MS).is_empty());
        // One whose own connection has ended is nobody's choice.
        let (peers, id) = peer_with(&[link(2, false, false, None)]);
        let peer = peers.get(&id).unwrap();
        assert!(peer.is_unwanted());
        assert_eq!(unneeded(peer, LOOKUP_MS - 1).count(), 0);
        assert_eq!(unneeded(peer, LOOKUP_MS).count(), 1);
    }

    #[test]
    fn both_sides_keep_the_same_of_two_that_crossed() {
        for _ in 0..10 {
            let own = PeerId::random();
            let (peers, other) =
                peer_with(&[link(1, false, true, None), link(2, true, false, None)]);
            let here = surplus(&own, &other, peers.get(&other).unwrap(), SURPLUS_MS);
            // Seen from there, it is the other way round.
            let there = [link(1, true, false, None), link(2, false, true, None)];
            let mut mirrored = Peers::default();
            for link in there {
                mirrored.connected(own, link, 0, 0);
            }
            let there = surplus(&other, &own, mirrored.get(&own).unwrap(), SURPLUS_MS);
            assert_eq!(here, there);
            assert_eq!(here.len(), 1);
        }
    }

    #[test]
    fn a_direct_connection_replaces_a_relayed_one() {
        let relayed = link(1, true, false, Some(PeerId::random()));
        let (peers, id) = peer_with(&[relayed.clone(), link(2, true, false, None)]);
        let peer = peers.get(&id).unwrap();
        let closed = surplus(&PeerId::random(), &id, peer, SURPLUS_MS);
        assert_eq!(closed, [relayed.id]);
        assert!(surplus(&PeerId::random(), &id, peer, SURPLUS_MS - 1).is_empty());
        // Also where nobody knows which relay it is.
        let unknown = Link {
            address: "/ip4/203.0.113.9/tcp/1/p2p-circuit".parse().unwrap(),
            ..link(1, true, false, None)
        };
        for _ in 0..10 {
            let (peers, id) = peer_with(&[unknown.clone(), link(2, true, false, None)]);
            let closed = surplus(&PeerId::random(), &id, peers.get(&id).unwrap(), SURPLUS_MS);
            assert_eq!(closed, [unknown.id]);
        }
    }
}
