//! The replay: connects the blocks of the best chain one after another, from the genesis, and
//! compares what each changes with what is stored. Start reading at [`Replay::some_blocks`].

use std::path::Path;
use std::sync::Arc;

use pithead_consensus::check::{BlockError, CheckedBlock, check_block, check_header_in_context};
use pithead_consensus::state_tree::TreeVersion;
use pithead_consensus::{BlockHash, Encode as _, Genesis, Height, Target, Work};

use super::VerifyError;
use super::rows::{check_count, check_same};
use crate::chain::{AcceptError, Chain, ancestors};
use crate::store::schema::{self, BlockOutcome, BlockStatus, ChainEntry};
use crate::store::{Batch, KeyValue, Overlay, Snapshot, Store, StoreError, Table};

/// Most blocks that are replayed in one commit to the scratch store.
const BLOCKS_AT_ONCE: usize = 256;
/// Bytes of blocks after which a commit is made: what a block changes takes up to ten times its
/// own size in memory.
const BYTES_AT_ONCE: usize = 1_000_000;
/// Commits to the scratch store between two that let it use freed room again.
const COMMITS_TO_FREE: u64 = 16;

/// A replay under way.
pub(super) struct Replay<'a> {
    stored: &'a dyn Snapshot,
    /// The chain in the scratch store: its parameters, and the rules.
    chain: Chain,
    tip: Height,
    /// The last block replayed.
    parent: ChainEntry,
    /// The height up to which undo records were dropped, and the state tree's version there.
    pruned: (Height, TreeVersion),
    transactions: u64,
    account_transactions: u64,
    commits: u64,
}

/// The rows that the replay may read: accounts and state tree of the replay itself; blocks as they
/// are stored, which is as they were replayed, since each was compared.
struct Base<'a> {
    scratch: &'a dyn Snapshot,
    stored: &'a dyn Snapshot,
}

impl Snapshot for Base<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match table {
            Table::Entries | Table::BestChain => self.stored.get(table, key),
            _ => self.scratch.get(table, key),
        }
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        descending: bool,
    ) -> Result<Vec<KeyValue>, StoreError> {
        self.scratch.range(table, from, to, limit, descending)
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        self.stored.body(hash)
    }
}

impl<'a> Replay<'a> {
    /// Writes the genesis to `scratch` and compares it with the stored one.
    pub(super) fn start(
        stored: &'a dyn Snapshot,
        genesis: &Genesis,
        scratch: Arc<dyn Store>,
        tip: &ChainEntry,
    ) -> Result<Self, VerifyError> {
        let chain = Chain::open(scratch, genesis.clone(), Path::new("(scratch)"))?;
        let parent = chain.tip().clone();
        let hash = parent.hash();
        let best = schema::best_hash(stored, Height::GENESIS)?;
        let body = stored.body(&hash)?;
        if best != Some(hash) || body != Some(genesis.block.encode()) {
            return Err(VerifyError::Differs {
                height: Height::GENESIS,
                hash,
                what: "genesis",
            });
        }
        compare_entries(&schema::expect_entry(stored, &hash)?, &parent)?;
        Ok(Self {
            stored,
            pruned: pruned(stored, tip)?,
            chain,
            tip: tip.height,
            parent,
            transactions: 0,
            account_transactions: 0,
            commits: 0,
        })
    }

    /// The height of the last block replayed.
    pub(super) fn height(&self) -> Height {
        self.parent.height
    }

    /// Replays the next blocks, as many as go into one commit.
    pub(super) fn some_blocks(
        &mut self,
        progress: &mut impl FnMut(Height, Height),
    ) -> Result<(), VerifyError> {
        let store = Arc::clone(self.chain.store());
        let scratch = store.snapshot()?;
        let base = Base {
            scratch: scratch.as_ref(),
            stored: self.stored,
        };
        let mut overlay = Overlay::new(&base);
        let mut bytes = 0;
        for _ in 0..BLOCKS_AT_ONCE {
            bytes += self.block(&mut overlay)?;
            progress(self.parent.height, self.tip);
            if bytes > BYTES_AT_ONCE || self.parent.height == self.tip {
                break;
            }
        }
        let changes = self.compare_changes(overlay.into_batch())?;
        self.commits += 1;
        if self.commits.is_multiple_of(COMMITS_TO_FREE) {
            store.commit(&changes)?;
        } else {
            store.commit_lazily(&changes)?;
        }
        Ok(())
    }

    /// Replays the next block; returns its size.
    fn block(&mut self, overlay: &mut Overlay<'_>) -> Result<usize, VerifyError> {
        let height = self.parent.height.next();
        let hash = schema::best_hash(self.stored, height)?
            .ok_or_else(|| StoreError::Damaged(format!("no block at height {height}")))?;
        let differs = |what| VerifyError::Differs { height, hash, what };
        let bad = |error| VerifyError::BadBlock {
            height,
            hash,
            error: Box::new(error),
        };
        let stored = schema::expect_entry(self.stored, &hash)?;
        let block = schema::expect_block(self.stored, &hash)?;
        if stored.hash() != hash || block.header.hash() != hash {
            return Err(differs("hash"));
        }
        if block.header.prev != self.parent.hash() {
            return Err(differs("parent"));
        }
        let block = check_block(self.chain.params(), block)
            .map_err(|error| bad(AcceptError::Invalid(error)))?;
        let header = &block.block().header;
        let ancestors = ancestors(overlay, &self.parent)?;
        check_header_in_context(self.chain.params(), header, &ancestors)
            .map_err(|error| bad(AcceptError::Invalid(BlockError::Header(error))))?;
        let entry = entry_after(&self.parent, &block, stored.arrival);
        let replayed = self.chain.connect(overlay, &self.parent, &entry, &block);
        let replayed = replayed.map_err(bad)?;
        compare_entries(&stored, &replayed)?;
        self.transactions += u64::from(replayed.transaction_count);
        self.parent = replayed;
        Ok(block.size())
    }

    /// Compares the rows that blocks wrote with those that are stored. What is left has to be kept
    /// for the blocks that follow.
    fn compare_changes(&mut self, batch: Batch) -> Result<Batch, VerifyError> {
        let mut kept = Batch::default();
        let (pruned, pruned_version) = self.pruned;
        for ((table, key), change) in batch.changes {
            let same = match table {
                Table::Entries => true,
                Table::BestChain | Table::Transactions | Table::AccountTransactions => {
                    self.account_transactions += u64::from(table == Table::AccountTransactions);
                    self.stored.get(table, &key)? == change
                }
                Table::Undo => {
                    let hash = key.as_slice().try_into().map(BlockHash);
                    let hash = hash.map_err(|_| VerifyError::table(table, &key))?;
                    let height = schema::expect_entry(self.stored, &hash)?.height;
                    let expected = change.filter(|_| height > pruned);
                    self.stored.get(table, &key)? == expected
                }
                Table::StaleNodes if is_pruned(&key, pruned_version) => {
                    // Stale nodes come after state nodes, so this overrides a node's own row.
                    let node = key.get(8..).unwrap_or_default().to_vec();
                    kept.changes.insert((Table::StateNodes, node), None);
                    true
                }
                _ => {
                    kept.changes.insert((table, key.clone()), change);
                    true
                }
            };
            if !same {
                return Err(VerifyError::table(table, &key));
            }
        }
        Ok(kept)
    }

    /// Compares what the whole replay has left; returns the numbers of accounts and transactions.
    pub(super) fn compare_tables(&self) -> Result<(u64, u64), VerifyError> {
        let scratch = self.chain.store().snapshot()?;
        let same = |table| check_same(table, self.stored, scratch.as_ref());
        let accounts = same(Table::Accounts)?;
        same(Table::StateNodes)?;
        same(Table::StaleNodes)?;
        // Each replayed row of these tables is there. With the right number, there are no others.
        let blocks = self.parent.height.0;
        let undo = blocks.saturating_sub(self.pruned.0.0);
        check_count(self.stored, Table::BestChain, blocks + 1)?;
        check_count(self.stored, Table::Undo, undo)?;
        check_count(self.stored, Table::Transactions, self.transactions)?;
        let expected = self.account_transactions;
        check_count(self.stored, Table::AccountTransactions, expected)?;
        Ok((accounts, self.transactions))
    }
}

/// Whether the row of a stale node was dropped together with undo records.
fn is_pruned(key: &[u8], pruned_version: TreeVersion) -> bool {
    key.split_first_chunk::<8>()
        .is_some_and(|(version, _)| u64::from_be_bytes(*version) <= pruned_version)
}

/// The entry of a block after `parent`, before it is connected.
pub(super) fn entry_after(parent: &ChainEntry, block: &CheckedBlock, arrival: u64) -> ChainEntry {
    let header = block.block().header;
    let work = header.bits.to_target().map_or(Work::ZERO, Target::work);
    ChainEntry {
        header,
        commitment: block.block().commitment,
        height: parent.height.next(),
        chain_work: parent.chain_work.saturating_add(work),
        arrival,
        status: BlockStatus::Stored,
        transaction_count: u32::try_from(block.txids().len()).unwrap_or(u32::MAX),
        size: u32::try_from(block.size()).unwrap_or(u32::MAX),
        outcome: BlockOutcome::default(),
    }
}

fn compare_entries(stored: &ChainEntry, replayed: &ChainEntry) -> Result<(), VerifyError> {
    let what = if stored.outcome.state_root != replayed.outcome.state_root {
        "state root"
    } else if stored.outcome != replayed.outcome {
        "supply, fees or subsidy"
    } else if stored.chain_work != replayed.chain_work {
        "chain work"
    } else if stored != replayed {
        "entry"
    } else {
        return Ok(());
    };
    Err(VerifyError::Differs {
        height: replayed.height,
        hash: replayed.hash(),
        what,
    })
}

/// The height up to which undo records were dropped, by the records themselves, and the version of
/// the state tree there. It has to be the height on record.
fn pruned(stored: &dyn Snapshot, tip: &ChainEntry) -> Result<(Height, TreeVersion), VerifyError> {
    let mut height = tip.height;
    let mut version = 0;
    while height > Height::GENESIS {
        let hash = schema::best_hash(stored, height)?
            .ok_or_else(|| StoreError::Damaged(format!("no block at height {height}")))?;
        if stored.get(Table::Undo, &hash.0)?.is_none() {
            version = schema::expect_entry(stored, &hash)?.outcome.tree_version;
            break;
        }
        height = Height(height.0.saturating_sub(1));
    }
    let on_record = stored.get(Table::Meta, schema::META_PRUNED)?.is_some();
    if on_record && schema::pruned(stored)? != height {
        return Err(VerifyError::table(Table::Undo, &[]));
    }
    Ok((height, version))
}
