//! What sync sees of the node: the chain, the mempool, finality and the time of one moment.
//! Sync does not change them.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use pithead_consensus::{Checkpoint, ConsensusParams, Height};

use crate::chain::undo_reach;
use crate::finality::FinalityView;
use crate::mempool::Mempool;
use crate::store::schema::ChainEntry;
use crate::store::{Snapshot, StoreError};

/// The node as sync sees it at one moment.
pub(crate) struct NodeView<'a> {
    pub(crate) params: &'a ConsensusParams,
    pub(crate) store: &'a dyn Snapshot,
    pub(crate) tip: &'a ChainEntry,
    pub(crate) mempool: &'a RwLock<Mempool>,
    /// Which checkpoints are approved and final.
    pub(crate) finality: &'a FinalityView,
    /// The highest checkpoint of the best chain, if there are validators.
    pub(crate) checkpoint: Option<Height>,
    /// The time of day, Unix seconds.
    pub(crate) unix_secs: u64,
    /// Milliseconds of a clock that never goes back, for deadlines.
    pub(crate) ms: u64,
}

impl NodeView<'_> {
    // A panic while the lock is held leaves the mempool sound: its invariants hold between its
    // methods.
    pub(super) fn mempool(&self) -> RwLockReadGuard<'_, Mempool> {
        self.mempool.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest approved checkpoint that the best chain contains: validators vote from it.
    pub(super) fn approved_on_best(&self) -> Result<Checkpoint, StoreError> {
        self.finality
            .highest_approved_on_best(self.store, self.tip.height)
    }

    /// How many blocks a reorganisation can undo.
    pub(super) fn reorg_depth_max(&self) -> Result<u64, StoreError> {
        undo_reach(self.store, self.tip.height)
    }
}
