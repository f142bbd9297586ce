//! The final and approved checkpoints on a branch of headers. It looks at headers only and
//! does not know which peer has a branch, nor how much work is in it.

use pithead_consensus::{BlockHash, BlockHeader, Checkpoint, Height};

use super::headers::{HeaderTree, KnownBlock};
use super::node_view::NodeView;
use crate::finality::FinalityStatus;
use crate::store::StoreError;
use crate::store::schema;

/// The final and approved checkpoints on a branch, in the order of protocol §8: of two
/// branches, the one that compares greater is better, whatever their work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct BranchFinality {
    /// Height of the highest final block on the branch.
    pub(super) final_height: Height,
    pub(super) contains_approved: bool,
}

/// All that a [`BranchFinality`] depends on: the end of the branch and the state of finality.
pub(super) type BranchFinalityBasis = (BlockHash, FinalityStatus);

/// The [`BranchFinality`] of a peer's branch, worked out once for each of its tips.
#[derive(Debug, Default)]
pub(super) struct BranchFinalityCache(Option<(BranchFinalityBasis, BranchFinality)>);

impl BranchFinalityCache {
    pub(super) fn get(&self, basis: &BranchFinalityBasis) -> Option<BranchFinality> {
        let (of, found) = self.0.as_ref()?;
        (of == basis).then_some(*found)
    }

    pub(super) fn put(&mut self, basis: BranchFinalityBasis, found: BranchFinality) {
        self.0 = Some((basis, found));
    }
}

impl HeaderTree {
    /// The final and approved checkpoints on the branch that ends with a block.
    pub(super) fn branch_finality(
        &self,
        view: &NodeView<'_>,
        hash: &BlockHash,
    ) -> Result<BranchFinality, StoreError> {
        if view.checkpoint.is_none() {
            return Ok(BranchFinality::default());
        }
        let preferred = view.finality.status().preferred();
        Ok(BranchFinality {
            final_height: self.highest_final(view, hash)?.height,
            contains_approved: self.contains(view, hash, &preferred)?,
        })
    }

    /// Whether the branch that ends with `hash` contains a checkpoint.
    fn contains(
        &self,
        view: &NodeView<'_>,
        hash: &BlockHash,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let mut cursor = *hash;
        loop {
            let Some(known) = self.locate(view, &cursor)? else {
                return Ok(false);
            };
            if known.height <= checkpoint.height {
                return Ok(known.height == checkpoint.height && cursor == checkpoint.hash);
            }
            if known.stored && schema::is_best(view.store, &cursor, known.height)? {
                return schema::is_best(view.store, &checkpoint.hash, checkpoint.height);
            }
            cursor = known.prev;
        }
    }

    /// The highest final checkpoint on the branch that ends with `hash`.
    fn highest_final(
        &self,
        view: &NodeView<'_>,
        hash: &BlockHash,
    ) -> Result<Checkpoint, StoreError> {
        let mut cursor = *hash;
        loop {
            let Some(known) = self.locate(view, &cursor)? else {
                return Ok(view.finality.final_at(Height::GENESIS));
            };
            let here = view.finality.final_at(known.height);
            let is_it = here.height == known.height && here.hash == cursor;
            if is_it || here.height == Height::GENESIS {
                return Ok(here);
            }
            if known.stored && schema::is_best(view.store, &cursor, known.height)? {
                return view
                    .finality
                    .highest_final_on_best(view.store, known.height);
            }
            cursor = known.prev;
        }
    }

    /// Whether a new header is on a branch that lacks a final block. That is so if
    /// 1. another block is final at its height,
    /// 2. it is at or below the highest final block of our best chain, or
    /// 3. its parent is stored and lacks a final block that our best chain has.
    pub(super) fn contradicts_final(
        &self,
        view: &NodeView<'_>,
        hash: &BlockHash,
        header: &BlockHeader,
        parent: &KnownBlock,
    ) -> Result<bool, StoreError> {
        let height = parent.height.next();
        let last = view.finality.status().last_final.height;
        if view.checkpoint.is_none() || last == Height::GENESIS {
            return Ok(false);
        }
        let here = view.finality.final_at(height);
        if here.height == height && here.hash != *hash {
            return Ok(true);
        }
        if !parent.stored && height > last {
            // Its parent was checked when it was kept.
            return Ok(false);
        }
        let on_best = view
            .finality
            .highest_final_on_best(view.store, view.tip.height)?;
        if height <= on_best.height {
            return Ok(true);
        }
        Ok(parent.stored && self.highest_final(view, &header.prev)?.height < on_best.height)
    }
}
