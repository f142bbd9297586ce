//! The chain: accepts blocks, chooses the best chain, reorganises atomically.
//!
//! [`Chain::accept_block`] is the only way in. It decides with the consensus
//! crate, works every change out on an overlay, and commits once. Start
//! reading there; `connect` holds one step up or down, `path` finds the way
//! from one block to another.

mod ancestry;
mod choose;
mod connect;
mod final_path;
mod open;
mod reorg_path;
mod verify;

use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use pithead_consensus::check::{
    BlockError, CheckedBlock, NotYet, check_block, check_header_in_context, check_time_at,
};
use pithead_consensus::difficulty::{Ancestors, expected_bits};
use pithead_consensus::{
    Block, BlockHash, Checkpoint, CompactTarget, ConsensusParams, Encode, Genesis, Hash256, Height,
};
use thiserror::Error;

use crate::store::schema::{self, BlockStatus, ChainEntry};
use crate::store::{Batch, Overlay, Snapshot, Store, StoreError, Table};

use ancestry::Ancestry;
use choose::contains_best;
pub(crate) use connect::load_accounts;
pub use connect::{UNDO_BLOCKS, undo_reach};
pub use final_path::{FinalPath, highest};
pub use reorg_path::{ChainPath, path_between};
pub use verify::{VerifyError, VerifyReport, verify};

/// Most transactions whose checked signatures are remembered.
const VERIFIED_MAX: usize = 400_000;

/// Why a block was not accepted.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// It breaks a rule for ever.
    #[error("invalid: {0}")]
    Invalid(#[from] BlockError),
    /// It descends from a block that breaks a rule.
    #[error("invalid: it descends from {ancestor}, which is invalid")]
    InvalidAncestor {
        /// The parent.
        ancestor: BlockHash,
    },
    /// It can't be judged now.
    #[error("not yet: {0}")]
    NotYet(#[from] NotYet),
    /// It was accepted before.
    #[error("block {hash} is known already")]
    Known {
        /// Its hash.
        hash: BlockHash,
    },
    /// It has more work, but undoing what it would replace is not possible.
    #[error("a reorganisation of {depth} blocks: undo records reach back {reach}")]
    TooDeep {
        /// Blocks that would have to be undone.
        depth: u64,
        /// Blocks that can be.
        reach: u64,
    },
    /// Storage failed.
    #[error(transparent)]
    Internal(#[from] StoreError),
}

/// What accepting a block did.
#[derive(Debug, Clone)]
pub enum Accepted {
    /// The best chain changed.
    NewTip(ChainUpdate),
    /// It is kept, off the best chain.
    Side,
}

/// How the best chain changed: by name, since a long reorganisation is more than
/// memory holds; [`Chain::block`] reads each back.
#[derive(Debug, Clone)]
pub struct ChainUpdate {
    /// Blocks that left it, newest first.
    pub disconnected: Vec<BlockHash>,
    /// Blocks that joined it, oldest first; the last is the new tip.
    pub connected: Vec<BlockHash>,
    /// The new tip, which is at hand.
    pub tip: Arc<CheckedBlock>,
}

/// The chain and where it is kept.
pub struct Chain {
    genesis: Genesis,
    store: Arc<dyn Store>,
    tip: ChainEntry,
    /// Leaf hashes of transactions whose signatures were checked here.
    verified: HashSet<Hash256>,
    defers_commits: bool,
    has_deferred: bool,
    /// Never reorganised away; the genesis without validators.
    last_final: Checkpoint,
    /// What the best chain should contain, if there is a choice.
    approved: Checkpoint,
    /// What is known of final checkpoints on the way to the last one.
    finals: FinalPath,
    /// What chains contain of both.
    ancestry: Ancestry,
    /// Ends of side branches, oldest first.
    leaves: VecDeque<BlockHash>,
}

impl Chain {
    /// The consensus parameters.
    #[must_use]
    pub fn params(&self) -> &ConsensusParams {
        &self.genesis.params
    }

    /// The genesis.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The tip of the best chain.
    #[must_use]
    pub fn tip(&self) -> &ChainEntry {
        &self.tip
    }

    /// Where the chain is kept.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Leaf hashes of transactions whose signatures were checked here.
    #[must_use]
    pub fn verified(&self) -> &HashSet<Hash256> {
        &self.verified
    }

    /// Remembers that a transaction's signature was checked.
    pub fn remember_verified(&mut self, leaf: Hash256) {
        if self.verified.len() >= VERIFIED_MAX {
            self.verified.clear();
        }
        self.verified.insert(leaf);
    }

    /// Judges a block and, if it is sound, keeps it; switches to its chain if
    /// that is the better one. `now` is Unix seconds.
    ///
    /// # Errors
    /// [`AcceptError`]: invalid, not yet, known, or internal.
    pub fn accept_block(&mut self, block: Block, now: u64) -> Result<Accepted, AcceptError> {
        self.accept_block_telling(block, now, &mut |_| {})
    }

    /// The same; `validated` is told of a block that has passed every rule and
    /// becomes the tip, before the commit.
    ///
    /// # Errors
    /// As [`Self::accept_block`].
    pub fn accept_block_telling(
        &mut self,
        block: Block,
        now: u64,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Accepted, AcceptError> {
        let store = Arc::clone(&self.store);
        let snapshot = store.snapshot()?;
        let hash = block.header.hash();
        if let Some(entry) = schema::entry(snapshot.as_ref(), &hash)? {
            return Err(match entry.status {
                BlockStatus::Invalid => AcceptError::InvalidAncestor { ancestor: hash },
                _ => AcceptError::Known { hash },
            });
        }
        let block = Arc::new(check_block(self.params(), block)?);
        let header = block.block().header;
        let parent =
            schema::entry(snapshot.as_ref(), &header.prev)?.ok_or(NotYet::MissingParent {
                parent: header.prev,
            })?;
        if parent.status == BlockStatus::Invalid {
            return Err(AcceptError::InvalidAncestor {
                ancestor: header.prev,
            });
        }
        let ancestors = ancestors(snapshot.as_ref(), &parent)?;
        check_header_in_context(self.params(), &header, &ancestors)
            .map_err(|error| AcceptError::Invalid(BlockError::Header(error)))?;
        check_time_at(self.params(), &header, now)?;

        let mut overlay = Overlay::new(snapshot.as_ref());
        let entry = self.add_entry(&mut overlay, &parent, &block)?;
        if self.rank(&overlay, &entry)? != Ordering::Greater {
            self.remember_leaf(&mut overlay, &entry, &[]);
            self.commit(overlay.into_batch())?;
            return Ok(Accepted::Side);
        }
        self.switch_to(overlay, &entry, block, validated)
    }

    /// Connects everything between the fork and `entry`, in one commit. If a
    /// block on the way is invalid, that verdict is all that is kept.
    fn switch_to(
        &mut self,
        mut overlay: Overlay<'_>,
        entry: &ChainEntry,
        block: Arc<CheckedBlock>,
        validated: &mut dyn FnMut(&Arc<CheckedBlock>),
    ) -> Result<Accepted, AcceptError> {
        let path = path_between(&overlay, &self.tip, entry)?;
        let depth = path.down.len() as u64;
        let reach = self.undo_reach(&overlay)?;
        if depth > reach {
            // Kept as a side chain: more undo records may exist elsewhere.
            self.remember_leaf(&mut overlay, entry, &[]);
            self.store.commit(&overlay.into_batch())?;
            return Err(AcceptError::TooDeep { depth, reach });
        }
        for down in &path.down {
            self.disconnect(&mut overlay, down)?;
        }
        let mut parent = path.fork;
        for up in &path.up {
            let up_hash = up.hash();
            let up_block = if up_hash == block.hash() {
                Arc::clone(&block)
            } else {
                self.load(&overlay, up)?
            };
            match self.connect(&mut overlay, &parent, up, &up_block) {
                Ok(connected) => parent = connected,
                Err(AcceptError::Invalid(error)) => {
                    drop(overlay);
                    return Err(self.condemn(&path.up, &up_hash, &block, error)?);
                }
                Err(other) => return Err(other),
            }
            for leaf in up_block.leaf_hashes() {
                self.verified.remove(leaf);
            }
        }
        let hashes = |entries: &[ChainEntry]| entries.iter().map(ChainEntry::hash).collect();
        let update = ChainUpdate {
            disconnected: hashes(&path.down),
            connected: hashes(&path.up),
            tip: Arc::clone(&block),
        };
        if !update.disconnected.is_empty() {
            let left = self.tip.clone();
            self.remember_leaf(&mut overlay, &left, &update.connected);
        }
        overlay.put(Table::Meta, schema::META_TIP, entry.hash().0);
        validated(&block);
        self.commit(overlay.into_batch())?;
        self.tip = parent;
        Ok(Accepted::NewTip(update))
    }

    /// A block that this chain has accepted, with what its check found.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails or is damaged.
    pub fn block(&self, hash: &BlockHash) -> Result<Arc<CheckedBlock>, StoreError> {
        let snapshot = self.store.snapshot()?;
        let entry = schema::expect_entry(snapshot.as_ref(), hash)?;
        self.load(snapshot.as_ref(), &entry)
    }

    /// Marks `bad` and the blocks after it on `branch` invalid; returns what to
    /// answer about the block that was being accepted.
    fn condemn(
        &self,
        branch: &[ChainEntry],
        bad: &BlockHash,
        accepting: &CheckedBlock,
        error: BlockError,
    ) -> Result<AcceptError, StoreError> {
        let snapshot = self.store.snapshot()?;
        let mut overlay = Overlay::new(snapshot.as_ref());
        let from_bad = branch.iter().skip_while(|entry| entry.hash() != *bad);
        for entry in from_bad {
            let condemned = ChainEntry {
                status: BlockStatus::Invalid,
                ..entry.clone()
            };
            overlay.put(Table::Entries, entry.hash().0, condemned.encode());
        }
        self.store.commit(&overlay.into_batch())?;
        Ok(if *bad == accepting.hash() {
            AcceptError::Invalid(error)
        } else {
            AcceptError::InvalidAncestor { ancestor: *bad }
        })
    }

    /// Lets commits of blocks wait for [`Self::flush`]: while catching up,
    /// when blocks come by the hundred and can be fetched again.
    pub(crate) fn defer_commits(&mut self, defer: bool) {
        self.defers_commits = defer;
    }

    /// Brings deferred commits to disk.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.has_deferred) {
            self.store.commit(&Batch::default())?;
        }
        Ok(())
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        if self.defers_commits {
            self.has_deferred = true;
            return self.store.commit_lazily(&batch);
        }
        self.has_deferred = false;
        self.store.commit(&batch)
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
            outcome: schema::Outcome::default(),
        };
        overlay.put(Table::Meta, schema::META_ARRIVAL, arrival.to_le_bytes());
        overlay.put(Table::Entries, block.hash().0, entry.encode());
        overlay.put_body(block.hash(), block.block().encode());
        Ok(entry)
    }

    /// Reads a stored block back. It was checked when it came.
    fn load(
        &self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
    ) -> Result<Arc<CheckedBlock>, StoreError> {
        let hash = entry.hash();
        let block = schema::expect_block(from, &hash)?;
        check_block(self.params(), block)
            .map(Arc::new)
            .map_err(|error| StoreError::Damaged(format!("body of block {hash}: {error}")))
    }
}

/// What the difficulty rule needs to know to judge a child of `parent`.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn ancestors(from: &dyn Snapshot, parent: &ChainEntry) -> Result<Ancestors, StoreError> {
    let grandparent_time = if parent.height == Height::GENESIS {
        None
    } else {
        Some(schema::expect_entry(from, &parent.header.prev)?.header.time)
    };
    Ok(Ancestors {
        parent_time: parent.header.time,
        parent_bits: parent.header.bits,
        grandparent_time,
    })
}

/// The compact target that a child of `parent` must carry.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn next_bits(
    params: &ConsensusParams,
    from: &dyn Snapshot,
    parent: &ChainEntry,
) -> Result<CompactTarget, StoreError> {
    Ok(expected_bits(params, &ancestors(from, parent)?))
}
