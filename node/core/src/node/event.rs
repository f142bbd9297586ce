//! What passes between the core and the program around it: an [`Event`] goes in, an [`Answer`]
//! and [`Effect`]s come out. Nothing here knows threads, sockets or a clock.

use std::sync::Arc;

use pithead_consensus::{Block, SignedTransaction, Txid};

use crate::chain::AcceptError;
use crate::finality::FinalityStatus;
use crate::mempool::{PendingChange, RejectReason};
use crate::store::StoreError;
use crate::store::schema::ChainEntry;
use crate::sync::{PeerEffect, PeerEvent, SyncStatus};
use crate::template::BlockTemplate;

/// The time of an event, read once outside the core. There are two clocks: the rules need the
/// time of day, and deadlines need a clock that never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time of day for the rules, Unix seconds.
    pub unix_secs: u64,
    /// The clock for deadlines, milliseconds since any fixed moment. It never goes back.
    pub monotonic_ms: u64,
}

impl From<u64> for Now {
    /// Uses one clock for both, in Unix seconds: for tests and replays.
    fn from(unix_secs: u64) -> Self {
        Self {
            unix_secs,
            monotonic_ms: unix_secs.saturating_mul(1_000),
        }
    }
}

/// Receives effects as they arise.
pub type Sink<'a> = dyn FnMut(Effect) + 'a;

/// Something that happened, for the core to handle.
#[derive(Debug)]
pub enum Event {
    /// A block was submitted to this node.
    Block(Box<Block>),
    /// A transaction was submitted to this node.
    Transaction(Box<SignedTransaction>),
    /// A miner wants a template with all pending transactions in it.
    FreshTemplate,
    /// A second has passed: look at every deadline.
    Tick,
    /// A peer sent or did something.
    Peer(PeerEvent),
    /// There is time for the work that `Node::has_more` reports.
    Continue,
}

/// The core's answer to one event.
#[derive(Debug)]
pub enum Answer {
    /// To [`Event::Block`].
    Block(Result<BlockVerdict, AcceptError>),
    /// To [`Event::Transaction`].
    Transaction(Result<TransactionVerdict, RejectedTransaction>),
    /// To [`Event::FreshTemplate`].
    Template(Result<Arc<BlockTemplate>, StoreError>),
    /// To any other event.
    None,
}

/// What became of a valid block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockVerdict {
    /// The block is the new tip.
    NewTip,
    /// The block is stored, off the best chain. If its chain is the better one, but long to switch
    /// to, the switch follows.
    Side,
}

/// What became of a valid transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionVerdict {
    /// The transaction is in the mempool now.
    Accepted,
    /// The transaction is in the mempool now, in place of another.
    Replaced {
        /// The txid of the transaction that it replaced.
        txid: Txid,
    },
    /// The transaction was in the mempool or on the chain before.
    Duplicate,
}

/// Why a transaction is not in the mempool.
#[derive(Debug)]
pub enum RejectedTransaction {
    /// The transaction breaks a rule of the protocol or of the mempool.
    Rule(RejectReason),
    /// Storage failed, which says nothing about the transaction.
    Internal(StoreError),
}

/// Something for the program around the core to do or to know.
#[derive(Debug, Clone)]
pub enum Effect {
    /// The best chain has a new tip.
    TipChanged {
        tip: Box<ChainEntry>,
        /// How many blocks left the best chain.
        disconnected: usize,
    },
    /// There is a new template for miners.
    NewTemplate(Arc<BlockTemplate>),
    /// The mempool changed.
    Pending(PendingChange),
    /// The core can't go on, for this reason: stop the process before anything is lost.
    Fatal(String),
    /// For the network shell.
    Peer(PeerEffect),
    /// A checkpoint was approved, a block became final, or finality stopped.
    FinalityMoved(FinalityStatus),
    /// A new approval came.
    ApprovalsChanged,
    /// This node has begun to catch up, has caught up, or knows of more headers.
    SyncChanged(SyncStatus),
}
