//! The handle of the network: what the rest of the node can ask of it.

use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::policy::address::PeerAddress;
use crate::policy::bans::Subject;
use crate::policy::peers::PeerReport;

/// This node as its peers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalNode {
    /// The addresses that the node listens on, without `/p2p/ID`.
    pub listen_addresses: Vec<Multiaddr>,
    /// The addresses at which it can be reached from outside, as far as known.
    pub external_addresses: Vec<Multiaddr>,
    /// Admitted peers.
    pub peer_count: usize,
}

/// The network no longer answers, because the node is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the network is stopping")]
pub struct NetworkStopped;

/// Why a peer could not be added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddPeerError {
    /// The node is stopping.
    #[error(transparent)]
    Stopped(#[from] NetworkStopped),
    /// Too many peers are added by hand already.
    #[error("{max} peers were added by hand already: remove one first")]
    Full { max: usize },
    /// Too many operators wait for a peer at this moment.
    #[error("{max} peers are being added at this moment: try again in a few seconds")]
    Busy { max: usize },
    /// The peer can't be connected to, or is of no use. It is tried again from time to time.
    #[error("{0}")]
    Failed(String),
}

pub(super) type Reply<T> = oneshot::Sender<T>;

/// A command of the handle to the shell.
pub(super) enum NetworkCommand {
    Peers(Reply<Vec<PeerReport>>),
    Add(PeerAddress, Reply<Result<PeerId, AddPeerError>>),
    Remove(PeerId, Reply<bool>),
    Ban(Subject, u64, Reply<()>),
    Unban(Subject, Reply<bool>),
    Bans(Reply<Vec<(String, u64)>>),
    Stop,
}

/// A handle on the running network. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) peer_id: PeerId,
    pub(super) commands: mpsc::Sender<NetworkCommand>,
    pub(super) local: watch::Receiver<LocalNode>,
}

impl Handle {
    /// This node's identity among peers.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// This node as its peers see it.
    #[must_use]
    pub fn local(&self) -> LocalNode {
        self.local.borrow().clone()
    }

    /// The connected peers, in the order of their identities.
    ///
    /// # Errors
    /// [`NetworkStopped`] if the node is stopping.
    pub async fn peers(&self) -> Result<Vec<PeerReport>, NetworkStopped> {
        self.ask(NetworkCommand::Peers).await
    }

    /// Connects to a peer, and keeps the connection up as long as the node runs.
    ///
    /// # Errors
    /// [`AddPeerError`] says why the peer is not connected yet.
    pub async fn add_peer(&self, address: PeerAddress) -> Result<PeerId, AddPeerError> {
        self.ask(|reply| NetworkCommand::Add(address, reply))
            .await?
    }

    /// Disconnects a peer and forgets it. Returns whether it was known.
    ///
    /// # Errors
    /// [`NetworkStopped`] if the node is stopping.
    pub async fn remove_peer(&self, peer: PeerId) -> Result<bool, NetworkStopped> {
        self.ask(|reply| NetworkCommand::Remove(peer, reply)).await
    }

    /// Bans a peer or a host for `secs` seconds, and disconnects it.
    ///
    /// # Errors
    /// [`NetworkStopped`] if the node is stopping.
    pub async fn ban(&self, subject: Subject, secs: u64) -> Result<(), NetworkStopped> {
        self.ask(|reply| NetworkCommand::Ban(subject, secs, reply))
            .await
    }

    /// Ends a ban. Returns whether there was one.
    ///
    /// # Errors
    /// [`NetworkStopped`] if the node is stopping.
    pub async fn unban(&self, subject: Subject) -> Result<bool, NetworkStopped> {
        self.ask(|reply| NetworkCommand::Unban(subject, reply))
            .await
    }

    /// The bans and when each ends, Unix seconds, sorted by their subjects.
    ///
    /// # Errors
    /// [`NetworkStopped`] if the node is stopping.
    pub async fn bans(&self) -> Result<Vec<(String, u64)>, NetworkStopped> {
        self.ask(NetworkCommand::Bans).await
    }

    /// Tells the network to end. It writes its files first.
    pub async fn stop(&self) {
        // It fails only if the network has ended already.
        let _ = self.commands.send(NetworkCommand::Stop).await;
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> NetworkCommand,
    ) -> Result<T, NetworkStopped> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(command(reply)).await;
        sent.map_err(|_| NetworkStopped)?;
        answer.await.map_err(|_| NetworkStopped)
    }
}
