//! Which chain is the best (protocol §8), and what a certificate changes about that (§9). Start
//! reading at [`Chain::reconsider`].

use std::cmp::Ordering;
use std::sync::Arc;

use pithead_consensus::BlockHash;
use pithead_consensus::check::CheckedBlock;
use pithead_consensus::fork_choice::{self, Candidate, FinalityRank};

use super::{AcceptError, Accepted, Chain, ChainUpdate};
use crate::finality::FinalityView;
use crate::store::schema::{self, BlockStatus, ChainEntry};
use crate::store::{Overlay, Snapshot, StoreError};

/// Most ends of side branches that are remembered. A branch that was forgotten is considered
/// again with its next block.
const LEAVES_MAX: usize = 1_024;

impl Chain {
    /// Switches to the best chain among the stored ones, unless the present one is the best: to
    /// be called when finality has moved. `validated` is told of the new tip before the commit.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn reconsider(
        &mut self,
        finality: &FinalityView,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Option<ChainUpdate>, StoreError> {
        loop {
            let store = Arc::clone(&self.store);
            let snapshot = store.snapshot()?;
            let Some(entry) = self.best_stored(snapshot.as_ref(), finality)? else {
                return Ok(None);
            };
            let block = self.load(snapshot.as_ref(), &entry)?;
            let overlay = Overlay::new(snapshot.as_ref());
            match self.switch_to(overlay, (&entry, &block), finality, validated) {
                Ok(Accepted::NewTip(update)) => return Ok(Some(update)),
                // That chain is marked invalid now: try the next best.
                Err(AcceptError::Invalid(_) | AcceptError::InvalidAncestor { .. }) => {}
                Err(AcceptError::Internal(error)) => return Err(error),
                Ok(Accepted::Side) | Err(_) => return Ok(None),
            }
        }
    }

    /// The stored chain that is better than the present one, if there is one.
    fn best_stored(
        &mut self,
        from: &dyn Snapshot,
        finality: &FinalityView,
    ) -> Result<Option<ChainEntry>, StoreError> {
        let tip = self.tip.clone();
        let mut best = (self.candidate(from, &tip, finality)?, None);
        let status = finality.status();
        let named = [status.last_final.hash, status.preferred().hash];
        let ends: Vec<BlockHash> = self.leaves.iter().copied().chain(named).collect();
        for hash in &ends {
            let Some(entry) = schema::entry(from, hash)? else {
                continue;
            };
            if entry.status == BlockStatus::Invalid {
                continue;
            }
            let candidate = self.candidate(from, &entry, finality)?;
            if fork_choice::compare(&candidate, &best.0) == Ordering::Greater {
                best = (candidate, Some(entry));
            }
        }
        Ok(best.1)
    }

    /// How a chain compares with the best one (protocol §8).
    pub(super) fn compare_with_tip(
        &mut self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
        finality: &FinalityView,
    ) -> Result<Ordering, StoreError> {
        let tip = self.tip.clone();
        let new = self.candidate(from, entry, finality)?;
        let present = self.candidate(from, &tip, finality)?;
        Ok(fork_choice::compare(&new, &present))
    }

    /// The rank of the best chain in rules 1 to 3 of protocol §8.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn tip_rank(&mut self, finality: &FinalityView) -> Result<FinalityRank, StoreError> {
        let snapshot = self.store.snapshot()?;
        let tip = self.tip.clone();
        Ok(self.candidate(snapshot.as_ref(), &tip, finality)?.rank)
    }

    fn candidate(
        &mut self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
        finality: &FinalityView,
    ) -> Result<Candidate, StoreError> {
        let facts = self.ancestry.chain_finality(from, entry, finality)?;
        Ok(Candidate {
            rank: finality.rank(&facts),
            chain_work: entry.chain_work,
            arrival: entry.arrival,
        })
    }

    /// Remembers the end of a side branch, in memory and, with the other changes of the overlay, on
    /// disk: after a restart a certificate may still favour that branch. Ends that `leaf` builds
    /// on, and blocks of `joined`, are no longer ends.
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
