//! Accepting a block: the only way onto the chain. Start reading at [`Chain::accept_block`].

use std::cmp::Ordering;
use std::sync::Arc;

use pithead_consensus::check::{
    BlockError, CheckedBlock, NotYet, check_block, check_header_in_context, check_time_at,
    known_parent,
};
use pithead_consensus::{Block, BlockHash, Encode};
use thiserror::Error;

use super::{Chain, ancestors};
use crate::finality::FinalityView;
use crate::store::schema::{self, BlockStatus, ChainEntry};
use crate::store::{Overlay, Snapshot, StoreError, Table};

/// Why a block was not accepted.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// The block breaks a rule for ever.
    #[error("invalid: {0}")]
    Invalid(#[from] BlockError),
    /// The block descends from a block that breaks a rule.
    #[error("invalid: it descends from {ancestor}, which is invalid")]
    InvalidAncestor {
        /// The parent, or the block itself if it was marked invalid earlier.
        ancestor: BlockHash,
    },
    /// The block can't be judged now. It comes back, so that [`Chain::accept_checked`] can try it
    /// again.
    #[error("not yet: {reason}")]
    NotYet {
        /// Why the block has to wait.
        reason: NotYet,
        /// The block, which has passed all checks that need no context.
        block: Arc<CheckedBlock>,
    },
    /// The block was accepted before.
    #[error("block {hash} is known already")]
    Known {
        /// The block's hash.
        hash: BlockHash,
    },
    /// The block's chain is better, but the blocks that it would replace can't be undone.
    #[error("a reorganisation of {depth} blocks: undo records reach back {reach}")]
    TooDeep {
        /// Blocks that would have to be undone.
        depth: u64,
        /// Blocks that can be undone.
        reach: u64,
    },
    /// The block is not better than the best chain, and enough blocks with its parent are stored
    /// already. The node refuses it before it is judged ([`crate::node`]).
    #[error("enough side blocks on {parent} are stored already")]
    TooManySiblings {
        /// The block's parent.
        parent: BlockHash,
    },
    /// Storage failed.
    #[error(transparent)]
    Internal(#[from] StoreError),
}

/// The effect of accepting a block.
#[derive(Debug, Clone)]
pub enum Accepted {
    /// The best chain changed.
    NewTip(ChainUpdate),
    /// The block is stored, off the best chain. If its chain is the better one, and switching to it
    /// takes long, [`Chain::advance`] works on that.
    Side,
}

/// How the best chain changed. It names blocks instead of holding them, because the blocks of a
/// long reorganisation are more than memory holds; [`Chain::block`] reads each back.
#[derive(Debug, Clone)]
pub struct ChainUpdate {
    /// Blocks that left the best chain, newest first.
    pub disconnected: Vec<BlockHash>,
    /// Blocks that joined the best chain, oldest first; the last is the new tip.
    pub connected: Vec<BlockHash>,
    /// The new tip itself, which is in memory anyway.
    pub tip: Arc<CheckedBlock>,
}

/// The clock and the view of finality that a block is judged by.
#[derive(Debug, Clone, Copy)]
pub struct AcceptContext<'a> {
    /// The clock, Unix seconds.
    pub now: u64,
    /// Which checkpoints are approved and final.
    pub finality: &'a FinalityView,
}

impl Chain {
    /// Judges a block and keeps it if it breaks no rule. If its chain is better than the present
    /// one, switches to it, or begins to; `validated` is told of the new tip before the commit, when
    /// it has passed every rule.
    ///
    /// # Errors
    /// [`AcceptError`]: invalid, not yet, known, too deep, or internal.
    pub fn accept_block(
        &mut self,
        block: Block,
        context: AcceptContext<'_>,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Accepted, AcceptError> {
        let store = Arc::clone(&self.store);
        let snapshot = store.snapshot()?;
        check_is_new(snapshot.as_ref(), block.header.hash())?;
        let block = Arc::new(check_block(self.params(), block)?);
        self.accept_new(snapshot.as_ref(), block, context, validated)
    }

    /// The same for a block that came back as [`AcceptError::NotYet`].
    ///
    /// # Errors
    /// As [`Self::accept_block`].
    pub fn accept_checked(
        &mut self,
        block: Arc<CheckedBlock>,
        context: AcceptContext<'_>,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Accepted, AcceptError> {
        let store = Arc::clone(&self.store);
        let snapshot = store.snapshot()?;
        check_is_new(snapshot.as_ref(), block.hash())?;
        self.accept_new(snapshot.as_ref(), block, context, validated)
    }

    fn accept_new(
        &mut self,
        from: &dyn Snapshot,
        block: Arc<CheckedBlock>,
        context: AcceptContext<'_>,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Accepted, AcceptError> {
        let not_yet = |reason| AcceptError::NotYet {
            reason,
            block: Arc::clone(&block),
        };
        let header = block.block().header;
        let parent = known_parent(&header, schema::entry(from, &header.prev)?).map_err(not_yet)?;
        if parent.status == BlockStatus::Invalid {
            return Err(AcceptError::InvalidAncestor {
                ancestor: header.prev,
            });
        }
        let ancestors = ancestors(from, &parent)?;
        check_header_in_context(self.params(), &header, &ancestors)
            .map_err(|error| AcceptError::Invalid(BlockError::Header(error)))?;
        check_time_at(self.params(), &header, context.now).map_err(not_yet)?;

        let mut overlay = Overlay::new(from);
        let entry = self.add_entry(&mut overlay, &parent, &block)?;
        let order = self.compare_with_tip(&overlay, &entry, context.finality)?;
        if order != Ordering::Greater || self.defer_to_long_reorganisation() {
            self.remember_leaf(&mut overlay, &entry, &[]);
            self.commit(overlay.into_batch())?;
            return Ok(Accepted::Side);
        }
        self.switch_to(overlay, (&entry, &block), context.finality, validated)
    }

    fn add_entry(
        &self,
        overlay: &mut Overlay<'_>,
        parent: &ChainEntry,
        block: &CheckedBlock,
    ) -> Result<ChainEntry, StoreError> {
        let header = block.block().header;
        let work = header.bits.to_target().map_or_else(
            |_| pithead_consensus::Work::ZERO,
            pithead_consensus::Target::work,
        );
        let arrival = schema::last_arrival(overlay)?.saturating_add(1);
        let entry = ChainEntry {
            header,
            commitment: block.block().commitment,
            height: parent.height.next(),
            chain_work: parent.chain_work.saturating_add(work),
            arrival,
            status: BlockStatus::Stored,
            transaction_count: u32::try_from(block.txids().len()).unwrap_or(u32::MAX),
            size: u32::try_from(block.size()).unwrap_or(u32::MAX),
            outcome: schema::BlockOutcome::default(),
        };
        overlay.put(Table::Meta, schema::META_ARRIVAL, arrival.to_le_bytes());
        overlay.put(Table::Entries, block.hash().0, entry.encode());
        overlay.put_body(block.hash(), block.block().encode());
        Ok(entry)
    }
}

/// Refuses a block that is stored already.
fn check_is_new(from: &dyn Snapshot, hash: BlockHash) -> Result<(), AcceptError> {
    match schema::entry(from, &hash)? {
        None => Ok(()),
        Some(entry) if entry.status == BlockStatus::Invalid => {
            Err(AcceptError::InvalidAncestor { ancestor: hash })
        }
        Some(_) => Err(AcceptError::Known { hash }),
    }
}
