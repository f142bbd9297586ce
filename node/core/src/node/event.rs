//! What goes into the core and what comes out: events, answers, effects.

use std::sync::Arc;

use pithead_consensus::{Block, SignedTransaction, Txid};

use crate::chain::AcceptError;
use crate::finality::FinalityStatus;
use crate::mempool::{PendingChange, RejectReason};
use crate::store::StoreError;
use crate::store::schema::ChainEntry;
use crate::sync::{PeerEffect, PeerEvent, SyncStatus};
use crate::template::BlockTemplate;

/// The time of an event, read once outside the core: two clocks, since the
/// rules need the time of day and deadlines one that never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Unix seconds, for the rules.
    pub unix_secs: u64,
    /// Milliseconds since any fixed moment, for deadlines; never goes back.
    pub monotonic_ms: u64,
}

impl From<u64> for Now {
    /// One clock for both, in Unix seconds: for tests and replays.
    fn from(unix_secs: u64) -> Self {
        Self {
            unix_secs,
            monotonic_ms: unix_secs.saturating_mul(1_000),
        }
    }
}

/// Where effects go as they arise.
pub type Sink<'a> = dyn FnMut(Effect) + 'a;

/// Something that happened, for the core to handle.
#[derive(Debug)]
pub enum Event {
    /// A block came in.
    Block(Box<Block>),
    /// A transaction came in.
    Transaction(Box<SignedTransaction>),
    /// Someone wants a template that has everything pending in it.
    FreshTemplate,
    /// A second has passed: look at what depends on time.
    Tick,
    /// A peer told or did something.
    Peer(PeerEvent),
    /// There is time to go on with what `Node::has_more` tells of.
    Continue,
}

/// The core's answer to one event.
#[derive(Debug)]
pub enum Answer {
    /// To a block.
    Block(Result<BlockVerdict, AcceptError>),
    /// To a transaction.
    Transaction(Result<TransactionVerdict, RejectedTransaction>),
    /// To the wish for a template.
    Template(Result<Arc<BlockTemplate>, StoreError>),
    /// Nothing to say.
    None,
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockVerdict {
    /// It is the new tip.
    NewTip,
    /// It is kept, off the best chain.
    Side,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionVerdict {
    /// It is in the mempool.
    Accepted,
    /// It is in the mempool in place of another.
    Replaced {
        /// That one's txid.
        txid: Txid,
    },
    /// It was in the mempool or on the chain before.
    Duplicate,
}

/// Why a transaction did not get in.
#[derive(Debug)]
pub enum RejectedTransaction {
    /// It breaks a rule.
    Rule(RejectReason),
    /// Storage failed.
    Internal(StoreError),
}

/// Something for the shell around the core to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// The best chain has a new tip.
    TipChanged {
        /// Its entry.
        tip: Box<ChainEntry>,
        /// How many blocks left the best chain on the way.
        disconnected: usize,
    },
    /// There is a new template to work on.
    NewTemplate(Arc<BlockTemplate>),
    /// The mempool changed.
    Pending(PendingChange),
    /// Storage failed: stop, before anything is lost.
    Fatal(String),
    /// Something to do about peers: the network shell's part.
    Peer(PeerEffect),
    /// A checkpoint was approved, a block became final, or finality stopped.
    FinalityMoved(FinalityStatus),
    /// An approval came that had not been there.
    ApprovalsChanged,
    /// This node is catching up, has caught up, or knows of more headers.
    SyncChanged(SyncStatus),
}
