//! Switching to another chain: what happens at once. A short way is worked out in memory and takes
//! effect in one commit; `long_reorganisation` goes on with a long one. Knows no fork choice. Start
//! reading at [`Chain::switch_to`].

use std::sync::Arc;

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::{BlockHash, Encode as _};
use tracing::info;

use super::way::{Budget, LongSwitch, Step, Waiting, Way};
use super::{AcceptError, Accepted, Chain, ChainUpdate, path_between};
use crate::finality::FinalityView;
use crate::store::schema::{self, BlockStatus, ChainEntry};
use crate::store::{Batch, Overlay, Snapshot, StoreError, Table, staged};

/// Blocks that one commit marks invalid.
const CONDEMNED_AT_ONCE: usize = 1_024;

impl Chain {
    /// Makes a block the tip whose entry is in the overlay or the store: disconnects the blocks down
    /// to the fork and connects those up to the new tip, in one commit. If a block on the way is
    /// invalid, only that verdict is committed. If the way is long, the block is stored, and
    /// [`Self::advance`] goes on.
    pub(super) fn switch_to(
        &mut self,
        mut stored: Overlay<'_>,
        (entry, block): (&ChainEntry, &Arc<CheckedBlock>),
        finality: &FinalityView,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Accepted, AcceptError> {
        let path = path_between(&stored, &self.tip, entry)?;
        let depth = path.down.len() as u64;
        let reach = self.undo_reach(&stored)?;
        if depth > reach {
            // Kept as a side chain: more undo records may exist elsewhere.
            self.remember_leaf(&mut stored, entry, &[]);
            self.store.commit(&stored.into_batch())?;
            return Err(AcceptError::TooDeep { depth, reach });
        }
        let mut way = Way::new(path, Some(Arc::clone(block)));
        let mut overlay = Overlay::new(&stored);
        if let Err(error) = self.go(&mut overlay, &mut way, self.limits.at_once, finality) {
            drop(overlay);
            return Err(match (error, way.left().first()) {
                (AcceptError::Invalid(error), Some(bad)) => {
                    self.condemn(&stored, way.left())?;
                    if *bad == block.hash() {
                        AcceptError::Invalid(error)
                    } else {
                        AcceptError::InvalidAncestor { ancestor: *bad }
                    }
                }
                (error, _) => error,
            });
        }
        let changes = overlay.into_batch();
        // Each block on a way that only goes up makes a better chain.
        if way.is_finished() || way.path.down.is_empty() {
            stored.absorb(changes);
            return Ok(Accepted::NewTip(self.arrive(stored, &way, validated)?));
        }
        self.remember_leaf(&mut stored, entry, &[]);
        let mut batch = stored.into_batch();
        if self.long_switch.is_some() {
            self.waiting = Waiting::ForRoom;
            self.store.commit(&batch)?;
            return Ok(Accepted::Side);
        }
        staged::stage(&changes.changes, &mut batch)?;
        schema::put_staging(&mut batch, way.building());
        self.store.commit(&batch)?;
        way.end = None;
        let blocks = way.path.down.len() + way.path.up.len();
        info!(blocks, tip = %block.hash(), "a long reorganisation begins");
        self.long_switch = Some(LongSwitch::Building(Box::new(way)));
        Ok(Accepted::Side)
    }

    /// Goes on along a way until its end or that of the budget. If a block is invalid, it is the
    /// first of those left.
    pub(super) fn go(
        &mut self,
        overlay: &mut Overlay<'_>,
        way: &mut Way,
        budget: Budget,
        finality: &FinalityView,
    ) -> Result<(), AcceptError> {
        let until = way.done.saturating_add(budget.blocks);
        while way.done < until && overlay.bytes() < budget.bytes {
            match way.next() {
                None => break,
                Some(Step::Down(hash)) => {
                    let entry = schema::expect_entry(overlay, &hash)?;
                    self.disconnect(overlay, &entry)?;
                }
                Some(Step::Up(hash)) => {
                    let entry = schema::expect_entry(overlay, &hash)?;
                    let parent = schema::expect_entry(overlay, &entry.header.prev)?;
                    let block = match &way.end {
                        Some(end) if end.hash() == hash => Arc::clone(end),
                        _ => self.load(overlay, &entry)?,
                    };
                    let connected = self.connect(overlay, &parent, &entry, &block)?;
                    self.prune(overlay, connected.height, finality)?;
                }
            }
            way.done += 1;
        }
        Ok(())
    }

    /// Commits a way that was gone to its end, or up to some block if it leads up only.
    fn arrive(
        &mut self,
        mut overlay: Overlay<'_>,
        way: &Way,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<ChainUpdate, StoreError> {
        let end = way.connected().last().copied().unwrap_or(self.tip.hash());
        let tip = schema::expect_entry(&overlay, &end)?;
        let block = match &way.end {
            Some(block) if block.hash() == end => Arc::clone(block),
            _ => self.load(&overlay, &tip)?,
        };
        let update = ChainUpdate {
            disconnected: way.path.down.clone(),
            connected: way.connected().to_vec(),
            tip: block,
        };
        if !update.disconnected.is_empty() {
            let left = self.tip.clone();
            self.remember_leaf(&mut overlay, &left, &update.connected);
        }
        if let Some(target) = way.left().last() {
            let target = schema::expect_entry(&overlay, target)?;
            self.remember_leaf(&mut overlay, &target, &[]);
            self.waiting = Waiting::IsBetter;
        }
        overlay.put(Table::Meta, schema::META_TIP, end.0);
        validated(&update.tip);
        self.commit(overlay.into_batch())?;
        self.tip = tip;
        Ok(update)
    }

    /// Marks these blocks of a branch invalid, of which the first breaks a rule. The last are marked
    /// first: if the process ends in between, the first is judged again.
    pub(super) fn condemn(
        &self,
        from: &dyn Snapshot,
        branch: &[BlockHash],
    ) -> Result<(), StoreError> {
        for part in branch.rchunks(CONDEMNED_AT_ONCE) {
            let mut batch = Batch::default();
            for hash in part {
                let condemned = ChainEntry {
                    status: BlockStatus::Invalid,
                    ..schema::expect_entry(from, hash)?
                };
                batch.put(Table::Entries, hash.0, condemned.encode());
            }
            self.store.commit(&batch)?;
        }
        Ok(())
    }
}
