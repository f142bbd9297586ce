//! What the core wants done with peers.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use libp2p::PeerId;
use libp2p::multiaddr::Multiaddr;
use lru::LruCache;
use tracing::{debug, info};

use crate::policy::address::ip_of;
use crate::policy::bans::{By, Subject};
use crate::shell::Shell;
use crate::wire::codec::WireRequest;
use pithead_core::sync::{Offence, PeerEffect, PeerKey, Request, RequestId};

/// How long a peer is banned by its identity, seconds: a day.
const PEER_BAN_SECS: u64 = 86_400;
/// How long its host is banned, seconds: identities cost nothing, but others may
/// share the address.
const HOST_BAN_SECS: u64 = 3_600;
/// The host is banned only if another ban of one of its peers is no older than this,
/// seconds: one peer may be unlucky.
const REPEAT_SECS: u64 = 86_400;
/// Hosts remembered for that.
const OFFENDERS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("it is not zero");
/// A peer that was let go is not dialled for so long.
const AVOID_MS: u64 = 600_000;
/// The same of one that did not answer: that may have been the line.
const AVOID_SILENT_MS: u64 = 30_000;

/// Hosts whose peers were banned, and when, Unix seconds.
pub(crate) struct Offenders(LruCache<Subject, u64>);

impl Offenders {
    pub(super) fn new() -> Self {
        Self(LruCache::new(OFFENDERS_MAX))
    }

    /// Takes note of a ban; whether it was not the first within a day.
    fn is_repeated(&mut self, host: Subject, now: u64) -> bool {
        let before = self.0.put(host, now);
        before.is_some_and(|before| now.saturating_sub(before) < REPEAT_SECS)
    }
}

impl Shell {
    /// Carries an effect out.
    pub(super) fn carry_out(&mut self, effect: PeerEffect) {
        match effect {
            PeerEffect::Request { peer, id, request } => self.ask(peer, id, request),
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
            let hosts = addresses.iter().filter_map(ip_of).filter_map(Subject::host);
            for host in hosts.collect::<HashSet<_>>() {
                if self.offenders.is_repeated(host, now) {
                    bans.ban(host, now + HOST_BAN_SECS, now, By::Node);
                }
            }
            self.dialer.book.forget(id);
            self.swarm.behaviour_mut().kad.remove_peer(id);
        }
        let avoid_ms = match reason {
            Offence::Timeout if !ban => AVOID_SILENT_MS,
            _ => AVOID_MS,
        };
        self.dialer.avoid(*id, now_ms.saturating_add(avoid_ms));
        self.disconnect(id);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_banned_only_on_repeat() {
        let mut offenders = Offenders::new();
        let [host, other] = ["203.0.113.1", "203.0.113.2"].map(|ip| {
            let ip = ip.parse().unwrap();
            Subject::host(ip).unwrap()
        });
        assert!(!offenders.is_repeated(host, 1_000));
        assert!(!offenders.is_repeated(other, 1_000));
        assert!(offenders.is_repeated(host, 2_000));
        assert!(!offenders.is_repeated(host, 2_000 + REPEAT_SECS));
    }
}
