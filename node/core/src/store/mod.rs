//! Where the chain is kept: the trait [`Store`], with one implementation on disk and one in
//! memory.
//!
//! A store consists of ordered key-value tables, block bodies, and a log of pending transactions.
//! It knows no rules: [`schema`] gives the tables their types, and `crate::chain` decides what goes
//! in. A [`Batch`] is committed wholly or not at all. Readers work on snapshots and never block the
//! writer. Start reading at [`Store`].

mod backup;
mod block_file;
mod bodies;
mod checksum;
mod folder;
mod memory;
mod overlay;
mod pending_log;
mod reader;
mod redb;
mod rehearsal;
pub mod schema;
mod scratch;
pub mod staged;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use pithead_consensus::BlockHash;
use thiserror::Error;

pub use memory::MemoryStore;
pub use overlay::Overlay;
pub use reader::StoreReader;
pub use redb::RedbStore;
pub use scratch::ScratchStore;

/// The tables, each ordered by its key's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Block hash → [`schema::ChainEntry`].
    Entries,
    /// Height, big-endian → hash of that block on the best chain.
    BestChain,
    /// Block hash → its undo record.
    Undo,
    /// Address → account.
    Accounts,
    /// Version big-endian ‖ path → node of the state tree.
    StateNodes,
    /// Version that superseded it, big-endian ‖ node key → nothing.
    StaleNodes,
    /// Txid → place in the best chain.
    Transactions,
    /// Address ‖ height ‖ position, both big-endian → nothing.
    AccountTransactions,
    /// Name → a single value, such as the schema version, the genesis or the tip.
    Meta,
    /// Target height, big-endian → the certificate of an approved checkpoint.
    Certificates,
    /// Target height, big-endian → that certificate's link.
    Links,
    /// Height, big-endian → hash of the final checkpoint there.
    FinalPath,
    /// Number, big-endian → proof of a validator's misbehaviour.
    Evidence,
    /// Tag of a table ‖ key of that table → its change by a long reorganisation ([`staged`]).
    Staged,
    /// Validator's address → its signed vote with the highest approved source.
    LeadingVotes,
}

impl Table {
    /// Every table, in no particular order.
    pub const ALL: [Self; 15] = [
        Self::Entries,
        Self::BestChain,
        Self::Undo,
        Self::Accounts,
        Self::StateNodes,
        Self::StaleNodes,
        Self::Transactions,
        Self::AccountTransactions,
        Self::Meta,
        Self::Certificates,
        Self::Links,
        Self::FinalPath,
        Self::Evidence,
        Self::Staged,
        Self::LeadingVotes,
    ];
}

/// A key and its value, both as bytes.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// New values by table and key; `None` deletes.
pub type Changes = BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>;

/// Why storage failed. It is never a verdict about a block (protocol §11: internal).
#[derive(Debug, Error)]
pub enum StoreError {
    /// Reading or writing a file failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error that the system reports.
        source: io::Error,
    },
    /// The database failed.
    #[error("database: {0}")]
    Database(String),
    /// Stored bytes are not in the form that this program writes.
    #[error(
        "damaged data: {0}; restore a backup, or start afresh in another --data-dir and download the chain again; --verify shows whether a data directory is sound"
    )]
    Damaged(String),
    /// One part of the data is there and another is not.
    #[error(
        "{missing} is missing, and the rest of the chain's data is there: put it back, restore a backup, or start afresh in another --data-dir; nothing was changed"
    )]
    MissingHalf {
        /// The file that is missing.
        missing: PathBuf,
    },
    /// There is no chain in the data directory.
    #[error(
        "there is no chain in data directory {path} to verify: look at --data-dir and --network"
    )]
    NoData {
        /// The data directory.
        path: PathBuf,
    },
    /// The folder was left by a backup that did not end.
    #[error(
        "{path} was left by a backup that did not end, and is not a data directory: restore a finished backup, and delete this one"
    )]
    UnfinishedBackup {
        /// The folder.
        path: PathBuf,
    },
    /// Another process has the data directory.
    #[error(
        "data directory {path} is in use by another pithead-node; stop that one first, or choose another --data-dir"
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory was written by an incompatible version.
    #[error(
        "data directory {path} has schema version {found}, this program reads {expected}; use the version of pithead-node that wrote it, or start afresh in another --data-dir"
    )]
    WrongSchema {
        /// The data directory.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The version of this program.
        expected: u32,
    },
    /// The data directory holds another chain.
    #[error(
        "data directory {path} holds the chain with genesis {found}, not {expected}; choose the network it was made for, or another --data-dir"
    )]
    WrongGenesis {
        /// The data directory.
        path: PathBuf,
        /// The genesis found.
        found: BlockHash,
        /// The genesis configured.
        expected: BlockHash,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn database(error: impl std::fmt::Display) -> Self {
        Self::Database(error.to_string())
    }
}

/// The tables and bodies as they stood at one moment.
pub trait Snapshot: Send + Sync {
    /// The value under a key.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` entries with `from <= key < to`: the lowest ones, ascending, or, if
    /// `descending`, the highest ones, descending.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        descending: bool,
    ) -> Result<Vec<KeyValue>, StoreError>;

    /// The body of a block: its consensus encoding.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError>;
}

/// Changes that are committed together, wholly or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// New values by table and key.
    pub changes: Changes,
    /// New block bodies.
    pub bodies: Vec<(BlockHash, Vec<u8>)>,
}

impl Batch {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.bodies.is_empty()
    }

    /// Sets a value.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.insert((table, key.into()), Some(value.into()));
    }

    /// Deletes a key.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.changes.insert((table, key.into()), None);
    }
}

/// A pending transaction as the store keeps it across restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRecord {
    /// When it was accepted, Unix seconds.
    pub received: u64,
    /// Its consensus encoding.
    pub raw: Vec<u8>,
}

/// Where one chain is kept. One writer at a time; any number of readers.
pub trait Store: Send + Sync {
    /// The tables as they stand now, with live staged rows over them ([`staged`]).
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// Applies a batch wholly or not at all. On return it is on disk.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails; nothing was applied then.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Applies a batch wholly or not at all; every reader sees it on return. A crash before the next
    /// [`Store::commit`] may undo this commit and every later one; that commit brings all of them
    /// to disk. For blocks that can be fetched again.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails; nothing was applied then.
    fn commit_lazily(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit(batch)
    }

    /// Appends a record to the log of pending transactions. The record survives the end of the
    /// process, but not a crash of the machine.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    fn append_pending(&self, record: &PendingRecord) -> Result<(), StoreError>;

    /// Reads the log of pending transactions back, without a torn record at its end.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    fn pending(&self) -> Result<Vec<PendingRecord>, StoreError>;

    /// Replaces the log of pending transactions.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails; the old log is kept then.
    fn rewrite_pending(&self, records: &[PendingRecord]) -> Result<(), StoreError>;

    /// Writes a consistent copy to a new folder, which appears whole or not at all. Returns its size
    /// in bytes and the snapshot that was copied.
    ///
    /// # Errors
    /// [`StoreError`] if the folder exists or storage fails.
    fn backup(&self, dir: &Path) -> Result<(u64, Box<dyn Snapshot>), StoreError>;

    /// How many bytes the store takes.
    fn size_bytes(&self) -> u64;
}
