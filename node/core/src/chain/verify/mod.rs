//! `--verify`: replays the whole best chain from the genesis and compares every row of every table
//! with what the replay gives. What the replay can't give, such as side branches and certificates,
//! is checked by itself.
//!
//! The memory that this takes does not grow with the chain: the accounts and the state tree of the
//! replay are kept in a scratch store, and everything else is compared as soon as it is known.
//! Start reading at [`verify_stored`].

mod certificates;
mod entries;
mod replay;
mod rows;

use std::sync::Arc;

use pithead_consensus::{BlockHash, Genesis, Height};
use thiserror::Error;

use super::AcceptError;
use crate::store::schema;
use crate::store::{MemoryStore, Snapshot, Store, StoreError, Table};

/// The size of a replay that found no difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Number of blocks replayed, without the genesis.
    pub blocks: u64,
    /// Number of transactions replayed.
    pub transactions: u64,
    /// Number of accounts compared.
    pub accounts: u64,
    /// Hash of the last block replayed.
    pub tip: BlockHash,
}

/// The first fault that a replay found.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// A stored block does not pass the rules.
    #[error("block {hash} at height {height} does not pass: {error}")]
    BadBlock {
        height: Height,
        hash: BlockHash,
        /// Why the block is not accepted.
        error: Box<AcceptError>,
    },
    /// A stored outcome differs from the replayed one.
    #[error("block {hash} at height {height}: stored {what} differs from the replayed one")]
    Differs {
        height: Height,
        hash: BlockHash,
        /// The part of the outcome that differs.
        what: &'static str,
    },
    /// The accounts differ although the roots agree.
    #[error("the stored accounts differ from the replayed ones at {address}")]
    AccountsDiffer {
        /// The first address that differs, as hex.
        address: String,
    },
    /// Another table differs.
    #[error("table {table:?} differs from the replay at key {key}")]
    TableDiffers {
        table: Table,
        /// The first key that differs, as hex; empty if only the number of rows differs.
        key: String,
    },
    /// A row does not fit to other rows.
    #[error("table {table:?}, key {key}: {what}")]
    BadRow {
        table: Table,
        /// The row's key, as hex.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// Storage failed, or what it holds can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VerifyError {
    fn table(table: Table, key: &[u8]) -> Self {
        let key = hex::encode(key);
        match table {
            Table::Accounts => Self::AccountsDiffer { address: key },
            _ => Self::TableDiffers { table, key },
        }
    }

    fn row(table: Table, key: &[u8], what: impl Into<String>) -> Self {
        Self::BadRow {
            table,
            key: hex::encode(key),
            what: what.into(),
        }
    }
}

/// [`verify_stored`] with the replay in memory: for small chains, such as those of tests.
///
/// # Errors
/// As [`verify_stored`].
pub fn verify(
    store: &dyn Store,
    genesis: &Genesis,
    progress: impl FnMut(Height, Height),
) -> Result<VerifyReport, VerifyError> {
    let stored = store.snapshot()?;
    let scratch = Arc::new(MemoryStore::new());
    verify_stored(stored.as_ref(), genesis, scratch, progress)
}

/// Replays the best chain in `stored` and compares all tables. The replay keeps its accounts and
/// its state tree in `scratch`, a new store. After each block, `progress` receives its height and
/// the height of the tip.
///
/// What nothing else tells is not compared: the outcome of blocks that were on the best chain once,
/// which nothing uses; in which order blocks arrived; and which ends of side branches and which
/// proofs of misbehaviour are on record.
///
/// # Errors
/// [`VerifyError`] names the first block or row that is wrong.
pub fn verify_stored(
    stored: &dyn Snapshot,
    genesis: &Genesis,
    scratch: Arc<dyn Store>,
    mut progress: impl FnMut(Height, Height),
) -> Result<VerifyReport, VerifyError> {
    let tip = schema::tip_entry(stored)?;
    let mut replay = replay::Replay::start(stored, genesis, scratch, &tip)?;
    while replay.height() < tip.height {
        replay.some_blocks(&mut progress)?;
    }
    let (accounts, transactions) = replay.compare_tables()?;
    entries::check_entries(stored, genesis, tip.height)?;
    entries::check_meta(stored, tip.height)?;
    entries::check_staged(stored)?;
    certificates::check_certificates(stored, genesis)?;
    Ok(VerifyReport {
        blocks: tip.height.0,
        transactions,
        accounts,
        tip: tip.hash(),
    })
}
