//! Commands of the operator, which come through the handle.

use libp2p::PeerId;
use libp2p::swarm::{ConnectionId, DialError};

use crate::handle::{AddPeerError, NetworkCommand, Reply};
use crate::policy::adding::ADDITIONS_MAX;
use crate::policy::address::{PeerAddress, ip_of};
use crate::policy::bans::{BannedBy, Subject};
use crate::policy::dialer::ADDED_MAX;
use crate::policy::peers::Peer;
use crate::shell::Shell;

/// A peer that the operator removed is not dialled for so long.
const REMOVED_MS: u64 = 600_000;

impl Shell {
    // Replies are sent without looking at the result: the operator may have stopped waiting.
    pub(super) fn on_command(&mut self, command: NetworkCommand) {
        match command {
            NetworkCommand::Peers(reply) => {
                let gossip = &self.swarm.behaviour().gossip;
                let score = |id: &PeerId| gossip.peer_score(id).unwrap_or_default();
                let _ = reply.send(self.peers.report(score));
            }
            NetworkCommand::Add(address, reply) => self.add_peer(&address, reply),
            NetworkCommand::Remove(peer, reply) => {
                let until_ms = self.now_ms().saturating_add(REMOVED_MS);
                let known = self.dialer.remove(&peer, until_ms);
                let connected = self.peers.get(&peer).is_some();
                self.swarm.behaviour_mut().kad.remove_peer(&peer);
                self.disconnect(&peer);
                let _ = reply.send(known || connected);
            }
            NetworkCommand::Ban(subject, secs, reply) => {
                self.ban_for_operator(subject, secs);
                let _ = reply.send(());
            }
            NetworkCommand::Unban(subject, reply) => {
                let now = self.now();
                let banned = self.swarm.behaviour_mut().gate.bans().unban(&subject, now);
                let _ = reply.send(banned);
            }
            NetworkCommand::Bans(reply) => {
                let now = self.now();
                let _ = reply.send(self.swarm.behaviour_mut().gate.bans().list(now));
            }
            // The loop handles this one itself.
            NetworkCommand::Stop => {}
        }
    }

    fn add_peer(&mut self, address: &PeerAddress, reply: Reply<Result<PeerId, AddPeerError>>) {
        if self.additions.is_full() {
            let _ = reply.send(Err(AddPeerError::Busy { max: ADDITIONS_MAX }));
            return;
        }
        if !self.dialer.add(address.clone()) {
            let _ = reply.send(Err(AddPeerError::Full { max: ADDED_MAX }));
            return;
        }
        if let Some(peer) = address.peer
            && self.peers.get(&peer).is_some_and(Peer::is_incidental)
        {
            self.adopt(peer);
        }
        if let Some(peer) = address.peer
            && self.peers.key(&peer).is_some()
        {
            self.dialer.mark_useful(peer);
            let _ = reply.send(Ok(peer));
            return;
        }
        let dial = self.dialer.dial_named(address);
        self.additions.wait(dial.connection_id(), reply);
        self.dial(dial);
    }

    /// A dial has led to a peer. Whether it is on our network will be seen.
    pub(super) fn addition_connected(&mut self, connection: ConnectionId, peer: PeerId) {
        self.additions.connected(connection, peer);
        if self.peers.key(&peer).is_some() {
            self.dialer.mark_useful(peer);
            self.addition_admitted(&peer);
        }
    }

    /// A dial has failed.
    pub(super) fn addition_not_dialled(&mut self, connection: ConnectionId, error: &DialError) {
        for reply in self.additions.take_dial(connection) {
            let _ = reply.send(Err(AddPeerError::Failed(error.to_string())));
        }
    }

    /// A peer has shown that it is on our network.
    pub(super) fn addition_admitted(&mut self, peer: &PeerId) {
        for reply in self.additions.take_peer(peer) {
            let _ = reply.send(Ok(*peer));
        }
    }

    /// A peer turned out to be of no use, or has left before it was admitted.
    pub(super) fn addition_failed(&mut self, peer: &PeerId, reason: &str) {
        for reply in self.additions.take_peer(peer) {
            let _ = reply.send(Err(AddPeerError::Failed(reason.to_owned())));
        }
    }

    /// Bans a subject, and disconnects the peers that it covers.
    fn ban_for_operator(&mut self, subject: Subject, secs: u64) {
        let now = self.now();
        let bans = self.swarm.behaviour_mut().gate.bans();
        bans.ban(subject, now.saturating_add(secs), now, BannedBy::Operator);
        let banned: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(id, peer)| {
                let addresses = peer.connections.iter().map(|one| &one.address);
                let mut hosts = addresses.filter_map(ip_of);
                subject == Subject::Peer(**id) || hosts.any(|ip| Subject::host(ip) == Some(subject))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in banned {
            self.dialer.book.forget(&id);
            self.swarm.behaviour_mut().kad.remove_peer(&id);
            self.disconnect(&id);
        }
    }
}
