//! What the rest of the node may ask of the network: its handle.

use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::policy::address::PeerAddress;
use crate::policy::bans::Subject;

/// This node as its peers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalNode {
    /// Where it listens, without `/p2p/ID`.
    pub listen_addresses: Vec<Multiaddr>,
    /// Where it can be reached from outside, as far as known.
    pub external_addresses: Vec<Multiaddr>,
    /// Peers that it works with.
    pub peer_count: usize,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerReport {
    /// Who.
    pub peer: PeerId,
    /// Where it is connected.
    pub address: Multiaddr,
    /// Program and version, as it says.
    pub agent: String,
    /// Whether it connected to us.
    pub inbound: bool,
    /// Height that it announced last; 0 if it has not.
    pub height: u64,
    /// Round trip, if measured yet.
    pub latency: Option<std::time::Duration>,
    /// Its standing in gossip.
    pub score: f64,
    /// Since when, Unix seconds.
    pub connected_at: u64,
    /// Bytes of messages sent to it.
    pub bytes_sent: u64,
    /// Bytes of messages received from it.
    pub bytes_received: u64,
}

/// The network is gone: the node is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the network is stopping")]
pub struct NetworkStopped;

/// Why a peer could not be added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddPeerError {
    /// The network is gone.
    #[error(transparent)]
    Stopped(#[from] NetworkStopped),
    /// Too many peers were added by hand.
    #[error("{max} peers were added by hand already: remove one first")]
    Full {
        /// How many may be.
        max: usize,
    },
    /// Too many are being connected to.
    #[error("{max} peers are being added at this moment: try again once they are, or are not")]
    Busy {
        /// How many may be.
        max: usize,
    },
    /// It can't be connected to, or is of no use. It is tried again from time
    /// to time.
    #[error("{0}")]
    Failed(String),
}

pub(super) type Reply<T> = oneshot::Sender<T>;

/// What the handle asks of the shell.
pub(super) enum Command {
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
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) local: watch::Receiver<LocalNode>,
}

impl Handle {
    /// This node's identity.
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
    /// [`NetworkStopped`].
    pub async fn peers(&self) -> Result<Vec<PeerReport>, NetworkStopped> {
        self.ask(Command::Peers).await
    }

    /// Connects to a peer and keeps the connection up for as long as the node
    /// runs.
    ///
    /// # Errors
    /// [`AddPeerError`]; a peer that could not be reached is tried again.
    pub async fn add_peer(&self, address: PeerAddress) -> Result<PeerId, AddPeerError> {
        self.ask(|reply| Command::Add(address, reply)).await?
    }

    /// Disconnects a peer and forgets it; whether it was known.
    ///
    /// # Errors
    /// [`NetworkStopped`].
    pub async fn remove_peer(&self, peer: PeerId) -> Result<bool, NetworkStopped> {
        self.ask(|reply| Command::Remove(peer, reply)).await
    }

    /// Bans for so many seconds, and disconnects.
    ///
    /// # Errors
    /// [`NetworkStopped`].
    pub async fn ban(&self, subject: Subject, secs: u64) -> Result<(), NetworkStopped> {
        self.ask(|reply| Command::Ban(subject, secs, reply)).await
    }

    /// Ends a ban; whether there was one.
    ///
    /// # Errors
    /// [`NetworkStopped`].
    pub async fn unban(&self, subject: Subject) -> Result<bool, NetworkStopped> {
        self.ask(|reply| Command::Unban(subject, reply)).await
    }

    /// The bans and when they end, Unix seconds, by name.
    ///
    /// # Errors
    /// [`NetworkStopped`].
    pub async fn bans(&self) -> Result<Vec<(String, u64)>, NetworkStopped> {
        self.ask(Command::Bans).await
    }

    /// Tells the network to end; it writes its files first.
    pub async fn stop(&self) {
        // One that has ended already needs no telling.
        let _ = self.commands.send(Command::Stop).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, NetworkStopped> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(command(reply)).await;
        sent.map_err(|_| NetworkStopped)?;
        answer.await.map_err(|_| NetworkStopped)
    }
}
