//! Which chain is the best (protocol §8), and what a certificate changes about that (§9). Start
//! reading at [`Chain::reconsider`].

use std::cmp::Ordering;
use std::sync::Arc;

use pithead_consensus::BlockHash;
use pithead_consensus::check::CheckedBlock;
use pithead_consensus::fork_choice::{self, Candidate, Ground};

use super::{AcceptError, Accepted, Chain, ChainUpdate, Waiting};
use crate::finality::FinalityView;
use crate::store::schema::{self, BlockStatus, ChainEntry};
use crate::store::{Overlay, Snapshot, StoreError};

/// Most ends of side branches that are remembered. A branch that was forgotten is considered
/// again with its next block.
const LEAVES_MAX: usize = 1_024;

impl Chain {
    /// Switches to the best chain among the stored ones, or begins to, unless the present one is
    /// the best: to be called when finality has moved. `validated` is told of the new tip before
    /// the commit.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn reconsider(
        &mut self,
        finality: &FinalityView,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Option<ChainUpdate>, StoreError> {
        if self.is_building() {
            self.give_up_if_worse(finality)?;
            return Ok(None);
        }
        self.waiting = Waiting::Nothing;
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
                // That chain is out of reach: try the next best.
                Err(AcceptError::TooDeep { .. }) if self.forget_leaf(&entry.hash()) => {}
                Err(AcceptError::Internal(error)) => return Err(error),
                Ok(Accepted::Side) | Err(_) => return Ok(None),
            }
        }
    }

    /// The best of the stored chains, if it is not the present one.
    pub(super) fn best_stored(
        &mut self,
        from: &dyn Snapshot,
        finality: &FinalityView,
    ) -> Result<Option<ChainEntry>, StoreError> {
        let (mut entries, mut candidates) = self.known_chains(from, finality)?;
        let tip = self.tip.clone();
        candidates.push(self.candidate(from, &tip, finality)?);
        entries.push(tip);
        let best = fork_choice::best(&candidates).and_then(|number| entries.get(number));
        Ok(best.filter(|best| best.hash() != self.tip.hash()).cloned())
    }

    /// The chains that end with side branches, with the last final block or with the preferred
    /// checkpoint, as far as they are stored and not known to be invalid.
    fn known_chains(
        &mut self,
        from: &dyn Snapshot,
        finality: &FinalityView,
    ) -> Result<(Vec<ChainEntry>, Vec<Candidate>), StoreError> {
        let status = finality.status();
        let named = [status.last_final.hash, status.preferred().hash];
        let ends: Vec<BlockHash> = self.leaves.iter().copied().chain(named).collect();
        let (mut entries, mut candidates) = (Vec::new(), Vec::new());
        for hash in &ends {
            let Some(entry) = schema::entry(from, hash)? else {
                continue;
            };
            if entry.status == BlockStatus::Invalid {
                continue;
            }
            candidates.push(self.candidate(from, &entry, finality)?);
            entries.push(entry);
        }
        Ok((entries, candidates))
    }

    /// Whether a chain is to take the place of the present one: then it is `Greater` (protocol §8).
    ///
    /// Almost always the two chains decide it. All others are looked at only if the new chain is
    /// heavier than the present one and lacks the preferred checkpoint: a third chain may be
    /// heavier, and only the heaviest is asked how far it is above a fork.
    pub(super) fn compare_with_tip(
        &mut self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
        finality: &FinalityView,
    ) -> Result<Ordering, StoreError> {
        let tip = self.tip.clone();
        let new = self.candidate(from, entry, finality)?;
        let present = self.candidate(from, &tip, finality)?;
        let order = fork_choice::compare(&new, &present);
        if new.ground == Ground::Contains {
            // With the first chain that contains the preferred checkpoint, the present one may lose
            // its place whatever its work.
            let yields = present.ground == Ground::Near
                && new.final_height == present.final_height
                && new.votable == present.votable;
            return Ok(if yields { Ordering::Greater } else { order });
        }
        if order != Ordering::Greater {
            return Ok(order);
        }
        let (_, mut candidates) = self.known_chains(from, finality)?;
        candidates.extend([present, new]);
        let chosen = fork_choice::best(&candidates);
        let chosen = chosen.and_then(|number| candidates.get(number)).copied();
        if chosen == Some(new) {
            return Ok(Ordering::Greater);
        }
        // The heaviest chain may be another one now, and then neither of the two is the best.
        self.reconsider_is_due = chosen != Some(present);
        Ok(Ordering::Less)
    }

    /// Whether a block that stayed off the best chain changed which stored chain is the best.
    pub(crate) fn take_reconsider_due(&mut self) -> bool {
        std::mem::take(&mut self.reconsider_is_due)
    }

    /// Whether a quorum can still vote on the best chain (protocol §8, rule 2).
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn is_votable(&mut self, finality: &FinalityView) -> Result<bool, StoreError> {
        let snapshot = self.store.snapshot()?;
        let tip = self.tip.clone();
        Ok(self.candidate(snapshot.as_ref(), &tip, finality)?.votable)
    }

    fn candidate(
        &mut self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
        finality: &FinalityView,
    ) -> Result<Candidate, StoreError> {
        let facts = self.ancestry.chain_finality(from, entry, finality)?;
        finality.sound()?;
        let candidate = Candidate {
            final_height: facts.final_height,
            votable: finality.votable(&facts),
            ground: finality.ground(&facts),
            chain_work: entry.chain_work,
            arrival: entry.arrival,
        };
        #[cfg(feature = "fault-injection")]
        let candidate = crate::fault_injection::as_followed(candidate);
        Ok(candidate)
    }

    /// Forgets the end of a side branch until its next block comes, or until the next start. Returns
    /// whether it was remembered.
    fn forget_leaf(&mut self, leaf: &BlockHash) -> bool {
        let before = self.leaves.len();
        self.leaves.retain(|hash| hash != leaf);
        self.leaves.len() < before
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
