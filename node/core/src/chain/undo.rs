//! How far back blocks can be undone, and when undo records are dropped (node policy). Start
//! reading at [`Chain::prune`].

use pithead_consensus::Height;

use super::Chain;
use crate::finality::FinalityView;
use crate::store::schema;
use crate::store::{Overlay, Snapshot, StoreError, Table};

/// How many blocks can be undone. Ten thousand blocks are more than a day of the main network: a
/// network that was split over night can still become one again.
pub const UNDO_BLOCKS: u64 = 10_000;
/// Most undo records that are dropped with one new block.
const PRUNED_AT_ONCE: u64 = 8;

impl Chain {
    /// Drops the undo records of blocks that are never undone any more: those more than
    /// [`UNDO_BLOCKS`] below the new tip at `height`, and with validators only those that are also
    /// at or below the last final block. The height up to which records were dropped is on record
    /// and never goes down: after a reorganisation to a shorter chain, the same records are gone.
    /// Records that waited for finality are dropped a few with each block.
    ///
    /// The overlay contains the block at `height`.
    pub(super) fn prune(
        &self,
        overlay: &mut Overlay<'_>,
        height: Height,
        finality: &FinalityView,
    ) -> Result<(), StoreError> {
        let Some(deep) = height.checked_sub(UNDO_BLOCKS) else {
            return Ok(());
        };
        let limit = if self.genesis().validators.is_empty() {
            deep
        } else {
            // A final block that this chain does not contain may still require undoing blocks of
            // it.
            deep.min(finality.highest_final_on_best(overlay, height)?.height)
        };
        let done = schema::pruned(overlay)?;
        let next = Height(done.0.saturating_add(PRUNED_AT_ONCE)).min(limit);
        if next <= done {
            return Ok(());
        }
        for height in done.0.saturating_add(1)..=next.0 {
            prune_block(overlay, Height(height))?;
        }
        overlay.put(Table::Meta, schema::META_PRUNED, next.0.to_le_bytes());
        Ok(())
    }

    /// How many blocks of the best chain can be undone.
    pub(super) fn undo_reach(&self, from: &dyn Snapshot) -> Result<u64, StoreError> {
        undo_reach(from, self.tip().height)
    }
}

/// How many blocks below a tip of this height can be undone: those with an undo record. They are
/// the last [`UNDO_BLOCKS`], and with validators at least all blocks that are not final (node
/// policy); fewer after a reorganisation to a shorter chain.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn undo_reach(from: &dyn Snapshot, tip: Height) -> Result<u64, StoreError> {
    Ok(tip.0.saturating_sub(schema::pruned(from)?.0))
}

/// The height up to which undo records were dropped in a store that has no record of it: an earlier
/// version kept none on a network without validators.
pub(super) fn find_pruned(from: &dyn Snapshot, tip: Height) -> Result<Height, StoreError> {
    let mut pruned = Height(tip.0.saturating_sub(UNDO_BLOCKS));
    while pruned < tip {
        let Some(hash) = schema::best_hash(from, pruned.next())? else {
            break;
        };
        if from.get(Table::Undo, &hash.0)?.is_some() {
            break;
        }
        pruned = pruned.next();
    }
    Ok(pruned)
}

/// Drops the undo record of one block, and the nodes of the state tree that the block replaced.
/// Those of the blocks below it are gone.
fn prune_block(overlay: &mut Overlay<'_>, height: Height) -> Result<(), StoreError> {
    let Some(hash) = schema::best_hash(overlay, height)? else {
        return Ok(());
    };
    overlay.delete(Table::Undo, hash.0);
    let entry = schema::expect_entry(overlay, &hash)?;
    let below = schema::expect_entry(overlay, &entry.header.prev)?;
    let from = below.outcome.tree_version.saturating_add(1).to_be_bytes();
    let to = entry.outcome.tree_version.saturating_add(1).to_be_bytes();
    for (index, _) in overlay.range(Table::StaleNodes, &from, &to, usize::MAX, false)? {
        if let Some((_, key)) = index.split_first_chunk::<8>() {
            overlay.delete(Table::StateNodes, key.to_vec());
        }
        overlay.delete(Table::StaleNodes, index);
    }
    Ok(())
}
