//! Operators who wait for a peer that they have added: each gets an answer once the peer has shown
//! that it is on our network, or once it is clear that it won't. `R` is whatever an answer is
//! sent through.

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

/// Operators who may wait at the same time.
pub(crate) const ADDITIONS_MAX: usize = 64;

/// An operator who waits for a peer.
struct PendingAddition<R> {
    /// The dial that was begun for the operator.
    connection: ConnectionId,
    /// The peer that the dial has led to.
    peer: Option<PeerId>,
    reply: R,
}

/// The operators who wait for a peer to be added.
pub(crate) struct PendingAdditions<R>(Vec<PendingAddition<R>>);

impl<R> PendingAdditions<R> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= ADDITIONS_MAX
    }

    /// Waits for the outcome of a dial.
    pub(crate) fn wait(&mut self, connection: ConnectionId, reply: R) {
        self.0.push(PendingAddition {
            connection,
            peer: None,
            reply,
        });
    }

    /// A dial has led to a peer. Its operator goes on waiting until the peer is admitted.
    pub(crate) fn connected(&mut self, connection: ConnectionId, peer: PeerId) {
        let mut all = self.0.iter_mut();
        if let Some(addition) = all.find(|addition| addition.connection == connection) {
            addition.peer = Some(peer);
        }
    }

    /// Takes the operators who wait for this dial, which has failed.
    pub(crate) fn take_dial(&mut self, connection: ConnectionId) -> Vec<R> {
        self.take(|addition| addition.connection == connection)
    }

    /// Takes the operators who wait for this peer.
    pub(crate) fn take_peer(&mut self, peer: &PeerId) -> Vec<R> {
        self.take(|addition| addition.peer == Some(*peer))
    }

    fn take(&mut self, which: impl Fn(&PendingAddition<R>) -> bool) -> Vec<R> {
        let taken = self.0.extract_if(.., |addition| which(addition));
        taken.map(|addition| addition.reply).collect()
    }
}
