//! Effects of the core: what it wants done with peers.

use std::collections::HashSet;

use libp2p::PeerId;
use libp2p::multiaddr::Multiaddr;
use tracing::{debug, info};

use crate::policy::address::ip_of;
use crate::policy::bans::{BannedBy, Subject};
use crate::shell::Shell;
use crate::wire::codec::WireRequest;
use pithead_core::sync::{Offence, PeerEffect, PeerEvent, PeerKey, Request, RequestId};

/// How long a peer is banned by its identity, seconds: a day.
const PEER_BAN_SECS: u64 = 86_400;
/// How long a host is banned, seconds. New identities cost nothing, but other peers may share the
/// address, so this is short.
const HOST_BAN_SECS: u64 = 3_600;
/// A peer that was disconnected for an offence is not dialled for so long.
const AVOID_MS: u64 = 600_000;
/// A peer that was disconnected because it did not answer is not dialled for so long. The line may
/// have been at fault.
const AVOID_SILENT_MS: u64 = 30_000;

impl Shell {
    /// Carries an effect out.
    pub(super) fn carry_out(&mut self, effect: PeerEffect) {
        match effect {
            PeerEffect::Request { peer, id, request } => self.send_request(peer, id, request),
            PeerEffect::Verdict { id, verdict, .. } => self.on_verdict(id, verdict),
            PeerEffect::Publish(gossip) => self.publish(&gossip),
            PeerEffect::BlockValidated(block) => self.recent.push(block),
            PeerEffect::Disconnect { peer, reason, ban } => {
                if let Some(id) = self.peers.id(peer) {
                    self.punish(&id, reason, ban);
                }
            }
            PeerEffect::Scored { peer, points } => {
                if let Some(peer) = self.peers.by_key_mut(peer) {
                    peer.points = points;
                }
            }
        }
    }

    fn send_request(&mut self, key: PeerKey, id: RequestId, request: Request) {
        // If the peer has left, the core has been told, or is about to be.
        let Some(peer) = self.peers.id(key) else {
            return;
        };
        debug!(%peer, kind = request.kind(), "asking");
        let sync = &mut self.swarm.behaviour_mut().sync;
        let sent = sync.send_request(&peer, WireRequest::Valid { request, bytes: 0 });
        self.requests.insert(sent, (key, id));
    }

    /// Disconnects a peer for an offence, and bans it if `ban` says so.
    fn punish(&mut self, id: &PeerId, reason: Offence, ban: bool) {
        info!(peer = %id, %reason, ban, "disconnecting a peer");
        let (now, now_ms) = (self.now(), self.now_ms());
        if ban {
            self.ban_for_offence(id, now);
        }
        let avoid_ms = match reason {
            Offence::Timeout if !ban => AVOID_SILENT_MS,
            _ => AVOID_MS,
        };
        self.dialer.avoid(*id, now_ms.saturating_add(avoid_ms));
        self.disconnect(id);
    }

    /// Bans a peer for a day, and its host for an hour if it is the second ban within a day.
    fn ban_for_offence(&mut self, id: &PeerId, now: u64) {
        let peers = self.peers.get(id).into_iter();
        let connections = peers.flat_map(|peer| &peer.connections);
        let addresses: Vec<Multiaddr> = connections.map(|one| one.address.clone()).collect();
        let bans = self.swarm.behaviour_mut().gate.bans();
        bans.ban(Subject::Peer(*id), now + PEER_BAN_SECS, now, BannedBy::Node);
        let hosts = addresses.iter().filter_map(ip_of).filter_map(Subject::host);
        for host in hosts.collect::<HashSet<_>>() {
            if self.offenders.is_repeated(host, now) {
                bans.ban(host, now + HOST_BAN_SECS, now, BannedBy::Node);
            }
        }
        self.dialer.book.forget(id);
        self.swarm.behaviour_mut().kad.remove_peer(id);
    }

    /// Tells the core of an offence that only the network can see.
    pub(super) fn report_offence(&mut self, peer: &PeerId, offence: Offence) {
        if let Some(peer) = self.peers.key(peer) {
            self.outbox.push(PeerEvent::Offended { peer, offence });
        }
    }
}
