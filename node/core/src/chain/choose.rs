//! Which chain is the best (protocol §8), and what a certificate changes about
//! that (§9).

use std::cmp::Ordering;
use std::sync::Arc;

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::fork_choice::{self, Candidate};
use pithead_consensus::{BlockHash, Checkpoint};

use super::{AcceptError, Accepted, Ancestry, Chain, ChainUpdate, FinalPath};
use crate::store::schema::{self, BlockStatus, ChainEntry};
use crate::store::{Overlay, Snapshot, StoreError};

/// Most ends of side branches that are remembered. One that is forgotten is
/// thought of again with its next block.
pub(super) const LEAVES_MAX: usize = 1_024;

impl Chain {
    /// The last final block, and the highest approved checkpoint that chains
    /// are preferred for: what certificates have shown. [`Self::reconsider`]
    /// acts on it.
    pub fn follow_finality(&mut self, last_final: Checkpoint, approved: Checkpoint) {
        self.last_final = last_final;
        self.approved = approved;
    }

    /// Where the chain learns which checkpoints below the last final one are final.
    pub fn know_finals(&mut self, finals: FinalPath) {
        self.finals = finals;
        self.ancestry = Ancestry::default();
    }

    /// What the chain knows of final checkpoints.
    #[must_use]
    pub fn finals(&self) -> &FinalPath {
        &self.finals
    }

    /// The last final block.
    #[must_use]
    pub fn last_final(&self) -> Checkpoint {
        self.last_final
    }

    /// The checkpoint that the best chain should contain, if there is a choice.
    #[must_use]
    pub fn approved(&self) -> Checkpoint {
        self.approved
    }

    /// Switches to the best chain among those that are stored, if the present
    /// one is not it: to be called when finality has moved. `validated` as in
    /// [`Self::accept_block_telling`].
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn reconsider(
        &mut self,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Option<ChainUpdate>, StoreError> {
        loop {
            let store = Arc::clone(&self.store);
            let snapshot = store.snapshot()?;
            let Some(entry) = self.best_stored(snapshot.as_ref())? else {
                return Ok(None);
            };
            let block = self.load(snapshot.as_ref(), &entry)?;
            let overlay = Overlay::new(snapshot.as_ref());
            match self.switch_to(overlay, &entry, block, validated) {
                Ok(Accepted::NewTip(update)) => return Ok(Some(update)),
                // Condemned: the next best is looked for.
                Err(AcceptError::Invalid(_) | AcceptError::InvalidAncestor { .. }) => {}
                Err(AcceptError::Internal(error)) => return Err(error),
                Ok(Accepted::Side) | Err(_) => return Ok(None),
            }
        }
    }

    /// The stored chain that is better than the present one, if there is one.
    fn best_stored(&mut self, from: &dyn Snapshot) -> Result<Option<ChainEntry>, StoreError> {
        let tip = self.tip.clone();
        let mut best = (self.candidate(from, &tip)?, None);
        let named = [self.last_final.hash, self.approved.hash];
        let ends: Vec<BlockHash> = self.leaves.iter().copied().chain(named).collect();
        for hash in &ends {
            let Some(entry) = schema::entry(from, hash)? else {
                continue;
            };
            if entry.status == BlockStatus::Invalid {
                continue;
            }
            let candidate = self.candidate(from, &entry)?;
            if fork_choice::compare(&candidate, &best.0) == Ordering::Greater {
                best = (candidate, Some(entry));
            }
        }
        Ok(best.1)
    }

    /// How a chain compares with the best one (protocol §8).
    pub(super) fn rank(
        &mut self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
    ) -> Result<Ordering, StoreError> {
        let tip = self.tip.clone();
        let (new, present) = (self.candidate(from, entry)?, self.candidate(from, &tip)?);
        Ok(fork_choice::compare(&new, &present))
    }

    fn candidate(
        &mut self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
    ) -> Result<Candidate, StoreError> {
        let secured = self
            .ancestry
            .secured(from, entry, &self.finals, &self.approved)?;
        Ok(Candidate {
            final_height: secured.final_height,
            contains_approved: secured.contains_approved,
            chain_work: entry.chain_work,
            arrival: entry.arrival,
        })
    }

    /// Notes the end of a side branch, in memory and, with what else is changed, on
    /// disk: after a restart a certificate may still be for it.
    pub(super) fn remember_leaf(
        &mut self,
        overlay: &mut Overlay<'_>,
        leaf: &ChainEntry,
        joined: &[BlockHash],
    ) {
        let end = leaf.hash();
        let passed = [leaf.header.prev, end];
        self.leaves
            .retain(|hash| !passed.contains(hash) && !joined.contains(hash));
        if self.leaves.len() >= LEAVES_MAX {
            self.leaves.pop_front();
        }
        self.leaves.push_back(end);
        schema::put_leaves(overlay, self.leaves.iter());
    }
}

/// Whether a checkpoint is on the best chain.
pub(super) fn contains_best(
    from: &dyn Snapshot,
    checkpoint: &Checkpoint,
) -> Result<bool, StoreError> {
    schema::is_best(from, &checkpoint.hash, checkpoint.height)
}
