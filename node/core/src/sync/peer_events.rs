//! What passes between the core and the network shell, or a simulation in its place:
//! [`PeerEvent`]s go in, [`PeerEffect`]s come out. A peer is a number here. The core knows no
//! addresses.

use std::fmt;
use std::sync::Arc;

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::{BlockHash, BlockHeader, Height, SignedApproval, SignedTransaction, Work};

use super::message::{Request, Response, Status};

/// The number of a connected peer. The shell chooses it and never uses one twice, so a peer
/// that connects again is a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

/// The number of a request of this node. The core chooses it and never uses one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The number of a gossip message that waits for its verdict. The shell chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GossipId(pub u64);

/// A message that spreads from node to node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gossip {
    /// A new block's header. The sender has the block.
    Block(BlockHeader),
    /// A pending transaction.
    Transaction(Box<SignedTransaction>),
    /// A validator's approval of a checkpoint.
    Approval(Box<SignedApproval>),
}

/// What to do with a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is valid and new: forward it.
    Accept,
    /// It is known, or can't be judged: do not forward it, and penalise no peer.
    Ignore,
    /// It is invalid and stays so: do not forward it, and penalise the sender.
    Reject,
}

/// Why a request has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFailure {
    /// No response came in time.
    Timeout,
    /// The peer declined, for instance because it is at its limit, or does not speak the
    /// protocol.
    Refused,
    /// The bytes are no response, or exceed its limits.
    Undecodable,
    /// The connection ended.
    Disconnected,
}

/// Something that a peer sent or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// A peer has connected.
    Connected {
        peer: PeerKey,
        /// Whether the peer opened the connection.
        inbound: bool,
    },
    /// A peer's last connection has ended.
    Disconnected { peer: PeerKey },
    /// The outcome of a [`PeerEffect::Request`].
    Response {
        peer: PeerKey,
        id: RequestId,
        response: Result<Response, RequestFailure>,
    },
    /// A peer sent its status unasked, in a request for ours.
    Status { peer: PeerKey, status: Status },
    /// The shell saw an offence that does not depend on the chain, such as bytes that are no
    /// message.
    Offended { peer: PeerKey, offence: Offence },
    /// Gossip came. The core answers with a [`PeerEffect::Verdict`].
    Gossip {
        peer: PeerKey,
        id: GossipId,
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
    /// Forward a gossip message, drop it, or penalise its sender.
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

/// What a peer did wrong. An honest peer's accidents of timing are no offences: stale blocks,
/// lost races, clocks that are a little apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A header without the work that it claims, or with a target, a time or a version that the
    /// rules exclude.
    InvalidHeader,
    /// A block that breaks a rule, with the body that its header commits to.
    InvalidBlock,
    /// A body that its header does not commit to, or that does not decode.
    MutatedBody,
    /// A transaction that breaks a rule and always will.
    InvalidTransaction,
    /// An approval or a certificate that breaks a rule and always will.
    InvalidApproval,
    /// Bytes that are no message, or a response of another kind than the request.
    Malformed,
    /// Blocks, transactions or responses that this node did not ask for.
    Unrequested,
    /// No answer in time.
    Timeout,
    /// The peer announced or listed something and does not give it.
    Withheld,
    /// Headers that do not follow from the locator, or add nothing to what is known.
    UselessHeaders,
    /// Certificates that do not follow from the height asked for, or add nothing.
    UselessCertificates,
    /// The peer declines every request. That costs no points, but the peer is of no use.
    Declines,
}

impl Offence {
    /// The points of this offence. A peer is banned at [`BAN_POINTS`].
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

/// How far this node is behind its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncStatus {
    /// Whether the node is far behind. It should not serve miners then.
    pub syncing: bool,
    /// Height of the best known chain of headers.
    pub best_header_height: Height,
    pub best_header_hash: BlockHash,
    /// Work of the chain up to that header.
    pub best_header_work: Work,
    /// How many seconds this node's clock seems to be behind those of its peers, to within a
    /// minute; 0 unless most of them have blocks that are too far ahead of it. The node should
    /// not serve miners then: they would mine a chain of their own.
    pub clock_behind_secs: u64,
    /// Whether no block has come for so long that the peers may be keeping blocks from this
    /// node. It should look for a few more peers then.
    pub tip_stands_still: bool,
}
