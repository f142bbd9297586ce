//! What the operator asks of the network, through its handle.

use libp2p::PeerId;
use libp2p::swarm::{ConnectionId, DialError};

use crate::handle::{AddPeerError, Command, Reply};
use crate::policy::address::{PeerAddress, ip_of};
use crate::policy::bans::{By, Subject};
use crate::policy::dialer::ADDED_MAX;
use crate::policy::peers::Peer;
use crate::shell::Shell;

/// A peer that was removed is not dialled for so long.
const REMOVED_MS: u64 = 600_000;
/// Operators who may wait for a peer at the same time.
const ADDING_MAX: usize = 64;

/// Someone who waits for a peer that was added.
pub(crate) struct Adding {
    connection: ConnectionId,
    peer: Option<PeerId>,
    reply: Reply<Result<PeerId, AddPeerError>>,
}

impl Shell {
    // An asker that is gone needs no answer.
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Peers(reply) => {
                let gossip = &self.swarm.behaviour().gossip;
                let score = |id: &PeerId| gossip.peer_score(id).unwrap_or_default();
                let _ = reply.send(self.peers.report(score));
            }
            Command::Add(address, reply) => self.add_peer(&address, reply),
            Command::Remove(peer, reply) => {
                let until_ms = self.now_ms().saturating_add(REMOVED_MS);
                let known = self.dialer.remove(&peer, until_ms);
                let connected = self.peers.get(&peer).is_some();
                self.swarm.behaviour_mut().kad.remove_peer(&peer);
                self.disconnect(&peer);
                let _ = reply.send(known || connected);
            }
            Command::Ban(subject, secs, reply) => {
                self.ban(subject, secs);
                let _ = reply.send(());
            }
            Command::Unban(subject, reply) => {
                let now = self.now();
                let banned = self.swarm.behaviour_mut().gate.bans().unban(&subject, now);
                let _ = reply.send(banned);
            }
            Command::Bans(reply) => {
                let now = self.now();
                let _ = reply.send(self.swarm.behaviour_mut().gate.bans().list(now));
            }
            // The loop has ended by then.
            Command::Stop => {}
        }
    }

    fn add_peer(&mut self, address: &PeerAddress, reply: Reply<Result<PeerId, AddPeerError>>) {
        if self.adding.len() >= ADDING_MAX {
            let _ = reply.send(Err(AddPeerError::Busy { max: ADDING_MAX }));
            return;
        }
        if !self.dialer.add(address.clone()) {
            let _ = reply.send(Err(AddPeerError::Full { max: ADDED_MAX }));
            return;
        }
        if let Some(peer) = address.peer
            && self.peers.get(&peer).is_some_and(Peer::is_unwanted)
        {
            self.adopt(peer);
        }
        if let Some(peer) = address.peer
            && self.peers.key(&peer).is_some()
        {
            self.dialer.useful(peer);
            let _ = reply.send(Ok(peer));
            return;
        }
        let dial = self.dialer.dial(address);
        self.adding.push(Adding {
            connection: dial.connection_id(),
            peer: None,
            reply,
        });
        self.dial(dial);
    }

    /// A dial has led somewhere; whether that is of use will be seen.
    pub(super) fn dialled(&mut self, connection: ConnectionId, peer: PeerId) {
        let mut adding = self.adding.iter_mut();
        if let Some(adding) = adding.find(|adding| adding.connection == connection) {
            adding.peer = Some(peer);
        }
        if self.peers.key(&peer).is_some() {
            self.dialer.useful(peer);
            self.added(&peer);
        }
    }

    pub(super) fn not_dialled(&mut self, connection: ConnectionId, error: &DialError) {
        self.answer_adding(
            |adding| adding.connection == connection,
            || Err(AddPeerError::Failed(error.to_string())),
        );
    }

    /// A peer has shown that it is on our network.
    pub(super) fn added(&mut self, peer: &PeerId) {
        self.answer_adding(|adding| adding.peer == Some(*peer), || Ok(*peer));
    }

    /// A peer has left before that.
    pub(super) fn not_added(&mut self, peer: &PeerId, reason: &str) {
        self.answer_adding(
            |adding| adding.peer == Some(*peer),
            || Err(AddPeerError::Failed(reason.to_owned())),
        );
    }

    fn answer_adding(
        &mut self,
        which: impl Fn(&Adding) -> bool,
        answer: impl Fn() -> Result<PeerId, AddPeerError>,
    ) {
        for adding in self.adding.extract_if(.., |adding| which(adding)) {
            let _ = adding.reply.send(answer());
        }
    }

    fn ban(&mut self, subject: Subject, secs: u64) {
        let now = self.now();
        let bans = self.swarm.behaviour_mut().gate.bans();
        bans.ban(subject, now.saturating_add(secs), now, By::Operator);
        let banned: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(id, peer)| {
                let mut hosts = peer.links.iter().filter_map(|link| ip_of(&link.address));
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
