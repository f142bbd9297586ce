//! What the core wants done with peers.

use libp2p::PeerId;
use libp2p::multiaddr::Multiaddr;
use tracing::{debug, info};

use super::address::ip_of;
use super::bans::{By, Subject};
use super::codec::WireRequest;
use super::swarm::Shell;
use crate::node::Effect;
use crate::sync::{Offence, PeerKey, Request, RequestId};

/// How long a peer is banned by its identity, seconds: a day.
const PEER_BAN_SECS: u64 = 86_400;
/// How long its host is banned, seconds: identities cost nothing, but others may
/// share the address.
const HOST_BAN_SECS: u64 = 3_600;
/// A peer that was let go is not dialled for so long.
const AVOID_MS: u64 = 600_000;

impl Shell {
    /// Carries an effect out.
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Request { peer, id, request } => self.ask(peer, id, request),
            Effect::Verdict { id, verdict, .. } => self.on_verdict(id, verdict),
            Effect::Publish(gossip) => self.publish(&gossip),
            Effect::BlockValidated(block) => {
                self.last_block_ms = self.now_ms();
                self.recent.push(block);
            }
            Effect::Disconnect { peer, reason, ban } => {
                if let Some(id) = self.peers.id(peer) {
                    self.punish(&id, reason, ban);
                }
            }
            Effect::PeerScored { peer, points } => {
                if let Some(peer) = self.peers.by_key_mut(peer) {
                    peer.points = points;
                }
            }
            // For others: the engine keeps them to itself.
            Effect::TipChanged { .. }
            | Effect::NewTemplate(_)
            | Effect::Pending(_)
            | Effect::Fatal(_)
            | Effect::FinalityMoved(_)
            | Effect::ApprovalsChanged
            | Effect::SyncChanged(_) => {}
        }
    }

    fn ask(&mut self, key: PeerKey, id: RequestId, request: Request) {
        // One that has left: the core has been told, or is about to be.
        let Some(peer) = self.peers.id(key) else {
            return;
        };
        debug!(%peer, kind = request.kind(), "asking");
        let sync = &mut self.swarm.behaviour_mut().sync;
        let sent = sync.send_request(&peer, WireRequest::Sound { request, bytes: 0 });
        self.requests.insert(sent, (key, id));
    }

    /// Closes the connections to a peer, and refuses it for a while if it is to be
    /// banned.
    pub(super) fn punish(&mut self, id: &PeerId, reason: Offence, ban: bool) {
        info!(peer = %id, %reason, ban, "disconnecting a peer");
        let (now, now_ms) = (self.now(), self.now_ms());
        if ban {
            let peers = self.peers.get(id).into_iter();
            let addresses: Vec<Multiaddr> = peers
                .flat_map(|peer| peer.links.iter().map(|link| link.address.clone()))
                .collect();
            let bans = self.swarm.behaviour_mut().gate.bans();
            bans.ban(Subject::Peer(*id), now + PEER_BAN_SECS, now, By::Node);
            for host in addresses.iter().filter_map(ip_of).filter_map(Subject::host) {
                bans.ban(host, now + HOST_BAN_SECS, now, By::Node);
            }
            self.dialer.book.forget(id);
            self.swarm.behaviour_mut().kad.remove_peer(id);
        }
        self.dialer.avoid(*id, now_ms.saturating_add(AVOID_MS));
        self.disconnect(id);
    }
}
