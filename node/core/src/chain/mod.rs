//! The chain: accepts blocks, chooses the best chain, reorganises atomically.
//!
//! Blocks come onto the chain by [`Chain::accept_block`] or, after waiting, by
//! [`Chain::accept_checked`]. Both decide with the consensus crate, work out every change on an
//! overlay, and commit once. The chain knows no certificates: what is approved and final is passed
//! to it with each question (ADR 11). It only remembers how it ranked the last blocks by that.
//! Start reading in `accept`. `reorganise` switches chains, and `long_reorganisation` goes on with
//! what takes long (ADR 13); `connect` holds one step up or down, and `reorg_path` finds the way
//! from one block to another.

mod accept;
mod ancestry;
mod choose;
mod connect;
mod long_reorganisation;
mod open;
pub mod oracle;
mod reorg_path;
mod reorganise;
mod undo;
mod verify;
mod way;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use pithead_consensus::check::{CheckedBlock, check_block};
use pithead_consensus::difficulty::{Ancestors, expected_bits};
use pithead_consensus::{BlockHash, CompactTarget, ConsensusParams, Genesis, Hash256, Height};

use crate::mempool::Mempool;
use crate::store::schema::{self, ChainEntry};
use crate::store::{Batch, Snapshot, Store, StoreError};

pub use accept::{AcceptContext, AcceptError, Accepted, ChainUpdate};
use ancestry::Ancestry;
pub(crate) use connect::load_accounts;
pub use long_reorganisation::Advance;
pub use open::check_identity;
pub use reorg_path::{ChainPath, path_between};
pub use undo::{UNDO_BLOCKS, undo_reach};
pub use verify::{VerifyError, VerifyReport, verify, verify_stored};
pub use way::{Budget, ReorganisationLimits};
use way::{LongSwitch, Waiting};

/// The best chain, and where it is kept.
pub struct Chain {
    genesis: Genesis,
    store: Arc<dyn Store>,
    tip: ChainEntry,
    /// The pending transactions, whose signatures were checked when they came.
    pending: Option<Arc<RwLock<Mempool>>>,
    /// Whether commits may wait for [`Chain::flush`], and whether one does.
    defers_commits: bool,
    has_deferred: bool,
    /// Ranks of the last blocks by finality, for fork choice. They are worked out again when
    /// finality moves.
    ancestry: Ancestry,
    /// Ends of side branches, oldest first.
    leaves: VecDeque<BlockHash>,
    /// Whether a side block changed which stored chain is the best.
    reconsider_is_due: bool,
    /// The long reorganisation that occupies [`Table::Staged`], if there is one.
    long_switch: Option<LongSwitch>,
    /// What is to be done about better chains that may be stored.
    waiting: Waiting,
    limits: ReorganisationLimits,
}

impl Chain {
    /// The parameters that the genesis fixes.
    #[must_use]
    pub fn params(&self) -> &ConsensusParams {
        &self.genesis.params
    }

    /// The genesis of this chain, with its allocations and validators.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The tip of the best chain.
    #[must_use]
    pub fn tip(&self) -> &ChainEntry {
        &self.tip
    }

    /// Where the chain is kept.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Spares blocks the signatures of transactions that are pending in the very bytes of the block.
    pub fn spare_pending(&mut self, mempool: Arc<RwLock<Mempool>>) {
        self.pending = Some(mempool);
    }

    /// The leaves of a block's transactions whose signatures were verified when they came.
    fn verified_of(&self, block: &CheckedBlock) -> HashSet<Hash256> {
        let Some(pending) = &self.pending else {
            return HashSet::new();
        };
        // A panic while the lock was held leaves the mempool sound.
        let mempool = pending.read().unwrap_or_else(PoisonError::into_inner);
        mempool.verified_of(block)
    }

    /// A block that this chain has accepted, read back from the store.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails or is damaged.
    pub fn block(&self, hash: &BlockHash) -> Result<Arc<CheckedBlock>, StoreError> {
        let snapshot = self.store.snapshot()?;
        let entry = schema::expect_entry(snapshot.as_ref(), hash)?;
        self.load(snapshot.as_ref(), &entry)
    }

    /// Lets commits of blocks wait for [`Self::flush`]. This is for catching up, when blocks come by
    /// the hundred and can be fetched again after a crash.
    pub(crate) fn defer_commits(&mut self, defer: bool) {
        self.defers_commits = defer;
    }

    /// Brings deferred commits to disk.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.has_deferred) {
            self.store.commit(&Batch::default())?;
        }
        Ok(())
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        if self.defers_commits {
            self.has_deferred = true;
            return self.store.commit_lazily(&batch);
        }
        self.has_deferred = false;
        self.store.commit(&batch)
    }

    /// Reads a stored block back. It was checked when it came, so a failure means damage.
    fn load(
        &self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
    ) -> Result<Arc<CheckedBlock>, StoreError> {
        let hash = entry.hash();
        let block = schema::expect_block(from, &hash)?;
        check_block(self.params(), block)
            .map(Arc::new)
            .map_err(|error| StoreError::Damaged(format!("body of block {hash}: {error}")))
    }
}

/// The facts about the ancestors of a child of `parent` that the difficulty rule needs.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn ancestors(from: &dyn Snapshot, parent: &ChainEntry) -> Result<Ancestors, StoreError> {
    let grandparent_time = if parent.height == Height::GENESIS {
        None
    } else {
        Some(schema::expect_entry(from, &parent.header.prev)?.header.time)
    };
    Ok(Ancestors {
        parent_time: parent.header.time,
        parent_bits: parent.header.bits,
        grandparent_time,
    })
}

/// The compact target that a child of `parent` must carry.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn next_bits(
    params: &ConsensusParams,
    from: &dyn Snapshot,
    parent: &ChainEntry,
) -> Result<CompactTarget, StoreError> {
    Ok(expected_bits(params, &ancestors(from, parent)?))
}
