//! What fork choice asks about a branch of headers before it looks at work (protocol §8, rules 1 to
//! 3). It looks at headers only and does not know which peer has a branch, nor how much work is in
//! it. `chain/ancestry` answers the same for stored chains.

use pithead_consensus::fork_choice::{APPROVAL_REORG_MAX, ChainFinality, Ground};
use pithead_consensus::{BlockHash, BlockHeader, Checkpoint, Height};

use super::headers::{HeaderTree, KnownBlock};
use super::node_view::NodeView;
use crate::finality::FinalityStatus;
use crate::store::StoreError;
use crate::store::schema;

/// How a branch compares with others before work counts. The greater may be better and is worth
/// fetching. The chain decides once it has the blocks: only the heaviest of all chains is asked how
/// far it is above a fork, and headers do not tell whether a heavier branch is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct BranchRank {
    /// Height of the highest final block on the branch.
    pub(super) final_height: Height,
    pub(super) votable: bool,
    /// Whether the branch contains the highest approved checkpoint or is far above the fork.
    pub(super) may_keep_ground: bool,
}

impl BranchRank {
    pub(super) fn of(view: &NodeView<'_>, branch: &ChainFinality) -> Self {
        Self {
            final_height: branch.final_height,
            votable: view.finality.votable(branch),
            may_keep_ground: view.finality.ground(branch) > Ground::Near,
        }
    }
}

/// All that the facts about a branch depend on: its end, the certificates, and whether the chain of
/// the preferred checkpoint is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BranchFinalityBasis {
    end: BlockHash,
    status: FinalityStatus,
    certificates: u64,
    preferred_known: bool,
}

/// The facts about a peer's branch, worked out once for each of its tips. The rank is not kept: it
/// also depends on the validators' votes.
#[derive(Debug, Default)]
pub(super) struct BranchFinalityCache(Option<(BranchFinalityBasis, ChainFinality)>);

impl BranchFinalityCache {
    pub(super) fn get(&self, basis: &BranchFinalityBasis) -> Option<ChainFinality> {
        let (of, found) = self.0.as_ref()?;
        (of == basis).then_some(*found)
    }

    pub(super) fn put(&mut self, basis: BranchFinalityBasis, found: ChainFinality) {
        self.0 = Some((basis, found));
    }
}

impl HeaderTree {
    /// The basis of [`Self::chain_finality`] for the branch that ends with a block.
    pub(super) fn finality_basis(
        &self,
        view: &NodeView<'_>,
        end: &BlockHash,
    ) -> Result<BranchFinalityBasis, StoreError> {
        let status = view.finality.status();
        Ok(BranchFinalityBasis {
            end: *end,
            status,
            certificates: view.finality.certificates(),
            preferred_known: self.locate(view, &status.preferred().hash)?.is_some(),
        })
    }

    /// The rank of the branch that ends with a block. Without validators all ranks are equal.
    pub(super) fn branch_rank(
        &self,
        view: &NodeView<'_>,
        hash: &BlockHash,
    ) -> Result<BranchRank, StoreError> {
        if view.checkpoint.is_none() {
            return Ok(BranchRank::default());
        }
        Ok(BranchRank::of(view, &self.chain_finality(view, hash)?))
    }

    /// What rules 1 to 3 depend on, for the branch that ends with a block.
    pub(super) fn chain_finality(
        &self,
        view: &NodeView<'_>,
        hash: &BlockHash,
    ) -> Result<ChainFinality, StoreError> {
        let Some(end) = self.locate(view, hash)? else {
            return Ok(ChainFinality {
                height: Height::GENESIS,
                final_height: Height::GENESIS,
                approved_height: Height::GENESIS,
                common_height: None,
            });
        };
        Ok(ChainFinality {
            height: end.height,
            final_height: self.highest_final(view, hash)?.height,
            approved_height: self.highest_approved(view, hash)?,
            common_height: self.common_with_preferred(view, hash)?,
        })
    }

    /// The height of the last block that the branch has in common with the chain of the preferred
    /// checkpoint, or a height more than [`APPROVAL_REORG_MAX`] below its end if that is all that
    /// rule 3 needs to know; `None` if that chain is not known.
    fn common_with_preferred(
        &self,
        view: &NodeView<'_>,
        hash: &BlockHash,
    ) -> Result<Option<Height>, StoreError> {
        let preferred = view.finality.status().preferred();
        if self.locate(view, &preferred.hash)?.is_none() {
            return Ok(None);
        }
        if self.contains(view, hash, &preferred)? {
            return Ok(Some(preferred.height));
        }
        let mut cursor = *hash;
        for _ in 0..=APPROVAL_REORG_MAX {
            let Some(known) = self.locate(view, &cursor)? else {
                return Ok(Some(Height::GENESIS));
            };
            let at = Checkpoint {
                height: known.height,
                hash: cursor,
            };
            if self.contains(view, &preferred.hash, &at)? {
                return Ok(Some(at.height));
            }
            cursor = known.prev;
        }
        Ok(Some(Height::GENESIS))
    }

    /// The height of the highest approved checkpoint on the branch that ends with `hash`.
    fn highest_approved(
        &self,
        view: &NodeView<'_>,
        hash: &BlockHash,
    ) -> Result<Height, StoreError> {
        let mut cursor = *hash;
        loop {
            let Some(known) = self.locate(view, &cursor)? else {
                return Ok(Height::GENESIS);
            };
            let at = Checkpoint {
                height: known.height,
                hash: cursor,
            };
            if view.finality.is_approved(&at) {
                return Ok(at.height);
            }
            if known.stored && schema::is_best(view.store, &cursor, known.height)? {
                let found = view
                    .finality
                    .highest_approved_on_best(view.store, at.height);
                return Ok(found?.height);
            }
            cursor = known.prev;
        }
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
