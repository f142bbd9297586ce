//! A long reorganisation: it is worked out piece by piece beside the tables
//! (`crate::store::staged`) and takes effect in one commit (ADR 13). Knows no fork choice. Start
//! reading at [`Chain::advance`].
//!
//! While a long way is worked out, the tip stands still: a new block is stored, whatever it builds
//! on, and the chains are compared once at the end. A flood of blocks can't start it afresh.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use pithead_consensus::BlockHash;
use pithead_consensus::check::CheckedBlock;

use super::way::{LongSwitch, ReorganisationLimits, Waiting, Way};
use super::{AcceptError, Chain, ChainUpdate, path_between};
use crate::finality::FinalityView;
use crate::store::schema::{self, ChainEntry, Staging};
use crate::store::staged::{self, StagedView};
use crate::store::{Batch, Overlay, Snapshot, StoreError, Table};

/// What became of a piece of a long reorganisation.
#[derive(Debug)]
pub enum Advance {
    /// There is more to do, or nothing.
    Nothing,
    /// The best chain changed. `is_long` tells whether the blocks are too many to go through them
    /// in one event.
    Switched { update: ChainUpdate, is_long: bool },
    /// The block `bad` on the way to `end` breaks a rule. The chain stays as it was.
    Condemned { end: BlockHash, bad: BlockHash },
}

impl Chain {
    /// Whether a better block is only stored for now, because a long reorganisation is being worked
    /// out, or another chain is waiting. The chains are compared when there is time again.
    pub(super) fn defer_to_long_reorganisation(&mut self) -> bool {
        match self.waiting {
            Waiting::IsBetter | Waiting::ForRoom => true,
            Waiting::Nothing | Waiting::MayBeBetter if self.is_building() => {
                self.waiting = Waiting::MayBeBetter;
                true
            }
            Waiting::Nothing | Waiting::MayBeBetter => false,
        }
    }

    pub(super) fn is_building(&self) -> bool {
        matches!(self.long_switch, Some(LongSwitch::Building(_)))
    }

    /// How many blocks the long reorganisation that is being worked out has disconnected and
    /// connected, and of how many; `None` if there is none.
    #[must_use]
    pub fn reorganising(&self) -> Option<(usize, usize)> {
        match &self.long_switch {
            Some(LongSwitch::Building(way)) => {
                Some((way.done, way.path.down.len() + way.path.up.len()))
            }
            _ => None,
        }
    }

    /// Sets what a reorganisation may take.
    pub fn set_limits(&mut self, limits: ReorganisationLimits) {
        self.limits = limits;
    }

    /// Whether [`Self::advance`] has something to do.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.long_switch.is_some() || self.waiting != Waiting::Nothing
    }

    /// Does the next piece of what takes long: a reorganisation, or a look among the stored chains
    /// for a better one. `validated` is told of a new tip before the commit.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails. The piece was not done then.
    pub fn advance(
        &mut self,
        finality: &FinalityView,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Advance, StoreError> {
        let may_look = matches!(self.waiting, Waiting::MayBeBetter | Waiting::IsBetter);
        match self.long_switch.take() {
            Some(LongSwitch::Building(way)) => return self.advance_way(way, finality, validated),
            other if may_look => {
                self.long_switch = other;
                let update = self.reconsider(finality, validated)?;
                return Ok(update.map_or(Advance::Nothing, |update| Advance::Switched {
                    update,
                    is_long: false,
                }));
            }
            Some(occupied) => {
                let is_live = matches!(occupied, LongSwitch::Live);
                self.long_switch = Some(occupied);
                self.empty_staged(is_live)?;
            }
            None => self.waiting = Waiting::Nothing,
        }
        Ok(Advance::Nothing)
    }

    /// Moves or deletes the next staged rows.
    fn empty_staged(&mut self, is_live: bool) -> Result<(), StoreError> {
        let snapshot = self.store.snapshot()?;
        let bytes = self.limits.piece.bytes;
        let next = if is_live {
            staged::move_rows(snapshot.as_ref(), bytes)?
        } else {
            staged::clear_rows(snapshot.as_ref(), bytes)?
        };
        if let Some(batch) = next {
            return self.store.commit(&batch);
        }
        let mut batch = Batch::default();
        schema::put_staging(&mut batch, None);
        self.store.commit(&batch)?;
        self.long_switch = None;
        if self.waiting == Waiting::ForRoom {
            self.waiting = Waiting::IsBetter;
        }
        Ok(())
    }

    fn advance_way(
        &mut self,
        mut way: Box<Way>,
        finality: &FinalityView,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Advance, StoreError> {
        let before = way.done;
        let result = self.work_out(&mut way, finality, validated);
        match result {
            Ok(Advance::Nothing) if self.long_switch.is_none() => {
                self.long_switch = Some(LongSwitch::Building(way));
            }
            Err(_) => {
                way.done = before;
                self.long_switch = Some(LongSwitch::Building(way));
            }
            Ok(_) => {}
        }
        result
    }

    /// Does the next piece of a long way. Sets [`Chain::long_switch`] if the way ends with that.
    fn work_out(
        &mut self,
        way: &mut Way,
        finality: &FinalityView,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Advance, StoreError> {
        let store = Arc::clone(&self.store);
        let snapshot = store.snapshot()?;
        let view = StagedView(snapshot.as_ref());
        let mut overlay = Overlay::new(&view);
        match self.go(&mut overlay, way, self.limits.piece, finality) {
            Ok(()) => {}
            Err(AcceptError::Internal(error)) => return Err(error),
            Err(error) => {
                let (Some(bad), Some(end)) = (way.left().first(), way.left().last()) else {
                    return Err(StoreError::Damaged(error.to_string()));
                };
                self.condemn(snapshot.as_ref(), way.left())?;
                self.give_up()?;
                let (end, bad) = (*end, *bad);
                return Ok(Advance::Condemned { end, bad });
            }
        }
        if way.is_finished() {
            return self.take_effect(overlay, snapshot.as_ref(), way, finality, validated);
        }
        let mut batch = Batch::default();
        staged::stage(&overlay.into_batch().changes, &mut batch)?;
        schema::put_staging(&mut batch, way.building());
        store.commit(&batch)?;
        Ok(Advance::Nothing)
    }

    /// Puts a long way into force with its last piece, in one commit, if it is still worth it.
    fn take_effect(
        &mut self,
        overlay: Overlay<'_>,
        from: &dyn Snapshot,
        way: &Way,
        finality: &FinalityView,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Advance, StoreError> {
        let end = way.connected().last().copied().unwrap_or(self.tip.hash());
        let target = schema::expect_entry(from, &end)?;
        if !self.is_worth_it(from, &target, finality)? {
            self.give_up()?;
            return Ok(Advance::Nothing);
        }
        let tip = schema::expect_entry(&overlay, &end)?;
        let update = ChainUpdate {
            disconnected: way.path.down.clone(),
            connected: way.path.up.clone(),
            tip: self.load(from, &target)?,
        };
        let connected: HashSet<&BlockHash> = update.connected.iter().collect();
        let ends = self.leaves.iter().filter(|leaf| connected.contains(leaf));
        let joined: Vec<BlockHash> = ends.copied().collect();
        let mut plain = Overlay::new(from);
        let left = self.tip.clone();
        self.remember_leaf(&mut plain, &left, &joined);
        plain.put(Table::Meta, schema::META_TIP, end.0);
        let mut batch = plain.into_batch();
        staged::stage(&overlay.into_batch().changes, &mut batch)?;
        schema::put_staging(&mut batch, Some(Staging::Live));
        validated(&update.tip);
        self.store.commit(&batch)?;
        self.tip = tip;
        self.long_switch = Some(LongSwitch::Live);
        self.waiting = Waiting::IsBetter;
        let is_long = true;
        Ok(Advance::Switched { update, is_long })
    }

    /// Whether to switch to `target` now that the way was worked out: if it is still better than the
    /// present tip, and no chain that came meanwhile goes on from the present tip and is better.
    fn is_worth_it(
        &mut self,
        from: &dyn Snapshot,
        target: &ChainEntry,
        finality: &FinalityView,
    ) -> Result<bool, StoreError> {
        if self.compare_with_tip(from, target, finality)? != Ordering::Greater {
            return Ok(false);
        }
        let Some(best) = self.best_stored(from, finality)? else {
            return Ok(true);
        };
        let goes_on = path_between(from, &self.tip, &best)?.down.is_empty();
        Ok(!goes_on)
    }

    /// Gives up the long reorganisation that is being worked out if finality has moved so that its
    /// end is no longer better than the tip. Other chains are looked at after it in any case.
    pub(super) fn give_up_if_worse(&mut self, finality: &FinalityView) -> Result<(), StoreError> {
        self.waiting = Waiting::MayBeBetter;
        let Some(LongSwitch::Building(way)) = &self.long_switch else {
            return Ok(());
        };
        let Some(end) = way.path.up.last().copied() else {
            return Ok(());
        };
        let snapshot = self.store.snapshot()?;
        let target = schema::expect_entry(snapshot.as_ref(), &end)?;
        if self.compare_with_tip(snapshot.as_ref(), &target, finality)? == Ordering::Greater {
            return Ok(());
        }
        self.give_up()
    }

    fn give_up(&mut self) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        schema::put_staging(&mut batch, Some(Staging::Clearing));
        self.store.commit(&batch)?;
        self.long_switch = Some(LongSwitch::Clearing);
        self.waiting = Waiting::MayBeBetter;
        Ok(())
    }

    /// Goes on with the long reorganisation that the last process left, at the start.
    pub(super) fn resume_long_switch(&mut self, from: &dyn Snapshot) -> Result<(), StoreError> {
        self.long_switch = match schema::staging(from)? {
            None => None,
            Some(Staging::Live) => Some(LongSwitch::Live),
            Some(Staging::Clearing) => Some(LongSwitch::Clearing),
            Some(Staging::Building { target, done }) => {
                let target = schema::expect_entry(from, &target)?;
                let mut way = Way::new(path_between(from, &self.tip, &target)?, None);
                way.done = usize::try_from(done).unwrap_or(usize::MAX);
                Some(LongSwitch::Building(Box::new(way)))
            }
        };
        Ok(())
    }
}
