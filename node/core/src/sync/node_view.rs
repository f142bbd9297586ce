//! What sync sees of the node: the chain, the mempool, finality and the time of one moment.
//! Sync does not change them.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use pithead_consensus::{Checkpoint, ConsensusParams, Height};

use crate::chain::{FinalPath, undo_reach};
use crate::finality::{FinalityState, FinalityStatus};
use crate::mempool::Mempool;
use crate::store::schema::ChainEntry;
use crate::store::{Snapshot, StoreError};

/// The node as sync sees it at one moment.
pub(crate) struct NodeView<'a> {
    pub(crate) params: &'a ConsensusParams,
    pub(crate) store: &'a dyn Snapshot,
    pub(crate) tip: &'a ChainEntry,
    pub(crate) mempool: &'a RwLock<Mempool>,
    /// The last final and the highest approved checkpoint.
    pub(crate) finality: FinalityStatus,
    /// All approvals, and the checkpoints that they approve.
    pub(crate) approvals: &'a RwLock<FinalityState>,
    /// The final checkpoints up to the last one.
    pub(crate) finals: &'a FinalPath,
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

    pub(super) fn is_approved(&self, checkpoint: &Checkpoint) -> bool {
        let state = self.approvals.read();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        state.is_approved(checkpoint)
    }

    /// How many blocks a reorganisation can undo.
    pub(super) fn reorg_depth_max(&self) -> Result<u64, StoreError> {
        undo_reach(self.store, self.checkpoint.is_none(), self.tip.height)
    }
}
