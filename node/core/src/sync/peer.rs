//! What passes between the core and whatever connects it to peers: the network
//! shell, or a simulation. Peers are numbers here; the core knows no addresses.

use std::fmt;
use std::sync::Arc;

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::{BlockHash, BlockHeader, Height, SignedApproval, SignedTransaction, Work};

use super::message::{Request, Response, Status};

/// A connection, given by the shell and never used twice: a peer that comes
/// back is a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

/// A request of this node, given by the core and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A gossip message that waits for its verdict, given by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GossipId(pub u64);

/// What travels by gossip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gossip {
    /// A new block's header: whoever sends it has the block.
    Block(BlockHeader),
    /// A transaction, whole.
    Transaction(Box<SignedTransaction>),
    /// A validator's approval of a checkpoint.
    Approval(Box<SignedApproval>),
}

/// What to do with a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Sound and new: forward it.
    Accept,
    /// Known, or not to be judged: do not forward it, blame nobody.
    Ignore,
    /// Invalid for ever: do not forward it, and hold it against whoever sent it.
    Reject,
}

/// Why a request has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFailure {
    /// None came in time.
    Timeout,
    /// The peer declined, at its limit for instance, or speaks no such protocol.
    Refused,
    /// What came is no response, or exceeds its limits.
    Undecodable,
    /// The connection ended.
    Disconnected,
}

/// What a peer told or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// It is there.
    Connected {
        /// Which.
        peer: PeerKey,
        /// Whether it called us.
        inbound: bool,
    },
    /// It is gone.
    Disconnected {
        /// Which.
        peer: PeerKey,
    },
    /// What became of a request.
    Response {
        /// Who was asked.
        peer: PeerKey,
        /// The request.
        id: RequestId,
        /// Its answer, or why there is none.
        response: Result<Response, RequestFailure>,
    },
    /// It told how far its chain reaches, without having been asked.
    Status {
        /// Who.
        peer: PeerKey,
        /// What it told.
        status: Status,
    },
    /// It did something that is wrong whatever the chain says, such as sending bytes
    /// that are no message.
    Offended {
        /// Who.
        peer: PeerKey,
        /// What.
        offence: Offence,
    },
    /// Gossip came; it is answered by [`PeerEffect::Verdict`].
    Gossip {
        /// From whom.
        peer: PeerKey,
        /// Which message.
        id: GossipId,
        /// Its content.
        gossip: Gossip,
    },
}

/// What the core wants done about its peers.
#[derive(Debug, Clone)]
pub enum PeerEffect {
    /// Send a request. Its outcome comes back as [`PeerEvent::Response`].
    Request {
        peer: PeerKey,
        id: RequestId,
        request: Request,
    },
    /// Forward a gossip message, drop it, or hold it against its sender.
    Verdict {
        /// The peer that sent the message.
        peer: PeerKey,
        id: GossipId,
        verdict: Verdict,
    },
    /// Send a new gossip message to every peer.
    Publish(Gossip),
    /// A block has passed every rule and its commit begins. Keep it at hand: peers
    /// ask for it before the commit has ended.
    BlockValidated(Arc<CheckedBlock>),
    /// Close the connection.
    Disconnect {
        peer: PeerKey,
        /// The last offence, or why the peer is of no use.
        reason: Offence,
        /// Whether to refuse the peer for a while.
        ban: bool,
    },
    /// The points against a peer have changed. It is banned at [`BAN_POINTS`].
    Scored { peer: PeerKey, points: u32 },
}

/// Points at which a peer is banned.
pub const BAN_POINTS: u32 = 100;

/// What a peer did wrong. Nothing that an honest peer does by accident of
/// timing is among them: stale blocks, lost races, clocks a little apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A header without the work that it claims, or with a target, a time or a
    /// version that the rules exclude.
    InvalidHeader,
    /// A block that breaks a rule and that its header commits to.
    InvalidBlock,
    /// A body that is not the header's, or that does not decode.
    MutatedBody,
    /// A transaction that breaks a rule for ever.
    InvalidTransaction,
    /// An approval or a certificate that breaks a rule for ever.
    InvalidApproval,
    /// Bytes that are no message, or a message of the wrong kind.
    Malformed,
    /// Something that was not asked for.
    Unrequested,
    /// No answer in time.
    Timeout,
    /// It announced something and does not give it.
    Withheld,
    /// Headers that do not follow from the locator, or lead nowhere.
    UselessHeaders,
    /// Certificates that do not follow from the height asked for, or lead nowhere.
    UselessCertificates,
    /// It declines whatever it is asked: no offence, but no use either.
    Declines,
}

impl Offence {
    /// What it costs: at [`BAN_POINTS`] the peer is banned.
    #[must_use]
    pub const fn points(self) -> u32 {
        match self {
            Self::InvalidHeader
            | Self::InvalidBlock
            | Self::InvalidTransaction
            | Self::InvalidApproval => BAN_POINTS,
            Self::Malformed | Self::MutatedBody => 50,
            Self::Unrequested
            | Self::Timeout
            | Self::Withheld
            | Self::UselessHeaders
            | Self::UselessCertificates => 20,
            Self::Declines => 0,
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidHeader => "invalid header",
            Self::InvalidBlock => "invalid block",
            Self::MutatedBody => "body of another block",
            Self::InvalidTransaction => "invalid transaction",
            Self::InvalidApproval => "invalid approval",
            Self::Malformed => "malformed message",
            Self::Unrequested => "unrequested message",
            Self::Timeout => "no answer in time",
            Self::Withheld => "withheld what it announced",
            Self::UselessHeaders => "headers that lead nowhere",
            Self::UselessCertificates => "certificates that lead nowhere",
            Self::Declines => "declined all requests",
        })
    }
}

/// How far this node is behind what its peers show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncStatus {
    /// Whether it is far behind: it should not serve miners.
    pub syncing: bool,
    /// Height of the best chain of headers known.
    pub best_header_height: Height,
    /// Its last hash.
    pub best_header_hash: BlockHash,
    /// Its work.
    pub best_header_work: Work,
    /// Whether no block has come for so long that its peers may be keeping them from
    /// it: a few more are worth a try.
    pub tip_stands_still: bool,
}
