//! The store on disk: redb for the tables, append-only files for the bodies and for pending
//! transactions. Knows no rules and no types of the tables. Start reading at [`RedbStore::open`].
//!
//! ```text
//! <data-dir>/LOCK                locked while a node runs
//! <data-dir>/chain.redb          the tables
//! <data-dir>/blocks/bodies-*.dat the block bodies
//! <data-dir>/pending.log         the pending transactions
//! ```

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pithead_consensus::BlockHash;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    TableDefinition, TableError,
};

use super::bodies::{BodyFiles, End, Location, sync_dir};
use super::pending_log::PendingLog;
use super::{Batch, KeyValue, PendingRecord, Snapshot, Store, StoreError, Table};

/// Block hash → place of its body in the files.
const BODIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bodies");
/// Key in [`Table::Meta`] of where the body files end.
const BODIES_END: &[u8] = b"bodies_end";
/// The database's file in the data directory.
const DATABASE_FILE: &str = "chain.redb";

/// A store in a folder of its own: the data directory.
pub struct RedbStore {
    dir: PathBuf,
    database: Database,
    bodies: Arc<BodyFiles>,
    pending: PendingLog,
    // The lock on the data directory is held as long as this file is open.
    _lock: File,
}

struct RedbSnapshot {
    transaction: ReadTransaction,
    bodies: Arc<BodyFiles>,
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Entries => "entries",
        Table::BestChain => "best_chain",
        Table::Undo => "undo",
        Table::Accounts => "accounts",
        Table::StateNodes => "state_nodes",
        Table::StaleNodes => "stale_nodes",
        Table::Transactions => "transactions",
        Table::AccountTransactions => "account_transactions",
        Table::Meta => "meta",
        Table::Certificates => "certificates",
        Table::Links => "links",
        Table::Evidence => "evidence",
        Table::LeadingVotes => "leading_votes",
    })
}

impl RedbStore {
    /// Whether there is a store in `dir`.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        dir.join(DATABASE_FILE).is_file()
    }

    /// Opens the store in `dir`, or makes a new one. `cache_bytes` bounds redb's page cache.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has the folder open; other errors if storage
    /// fails or is damaged.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|error| StoreError::io(dir, error))?;
        let lock = take_lock(dir)?;
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create(dir.join(DATABASE_FILE))
            .map_err(StoreError::database)?;
        create_tables(&database)?;
        let end = {
            let transaction = database.begin_read().map_err(StoreError::database)?;
            let meta = transaction
                .open_table(definition(Table::Meta))
                .map_err(StoreError::database)?;
            match meta.get(BODIES_END).map_err(StoreError::database)? {
                None => End::default(),
                Some(bytes) => End::from_bytes(bytes.value())
                    .ok_or_else(|| StoreError::Damaged("end of the body files".to_owned()))?,
            }
        };
        let bodies = Arc::new(BodyFiles::open(dir.join("blocks"), end)?);
        let pending = PendingLog::open(dir)?;
        // A new file survives a power cut only once its folder is synced.
        sync_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            database,
            bodies,
            pending,
            _lock: lock,
        })
    }

    fn read(&self) -> Result<RedbSnapshot, StoreError> {
        Ok(RedbSnapshot {
            transaction: self.database.begin_read().map_err(StoreError::database)?,
            bodies: Arc::clone(&self.bodies),
        })
    }

    /// Commits a batch. If the commit is to be on disk on return, its bodies are synced first: a
    /// commit never names a body that a crash could take away.
    fn commit_with(&self, batch: &Batch, durability: Durability) -> Result<(), StoreError> {
        let raw: Vec<&[u8]> = batch
            .bodies
            .iter()
            .map(|(_, body)| body.as_slice())
            .collect();
        let appended = if raw.is_empty() {
            None
        } else {
            Some(self.bodies.append(&raw)?)
        };
        let on_disk = matches!(durability, Durability::Immediate);
        if on_disk {
            self.bodies.sync()?;
        }
        let mut transaction = self.database.begin_write().map_err(StoreError::database)?;
        transaction
            .set_durability(durability)
            .map_err(StoreError::database)?;
        // With it, a start after a crash takes milliseconds; without it, redb scans the file.
        transaction.set_quick_repair(on_disk);
        write_changes(&transaction, batch)?;
        if let Some((places, end)) = &appended {
            let mut table = transaction
                .open_table(BODIES)
                .map_err(StoreError::database)?;
            for ((hash, _), place) in batch.bodies.iter().zip(places) {
                table
                    .insert(hash.0.as_slice(), place.to_bytes().as_slice())
                    .map_err(StoreError::database)?;
            }
            let mut meta = transaction
                .open_table(definition(Table::Meta))
                .map_err(StoreError::database)?;
            meta.insert(BODIES_END, end.to_bytes().as_slice())
                .map_err(StoreError::database)?;
        }
        transaction.commit().map_err(StoreError::database)?;
        if let Some((_, end)) = appended {
            self.bodies.advance(end);
        }
        Ok(())
    }
}

/// Takes the exclusive lock on a data directory.
fn take_lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("LOCK");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| StoreError::io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: dir.to_owned(),
        }),
        Err(fs::TryLockError::Error(error)) => Err(StoreError::io(&path, error)),
    }
}

fn create_tables(database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(StoreError::database)?;
    for table in Table::ALL {
        transaction
            .open_table(definition(table))
            .map_err(StoreError::database)?;
    }
    transaction
        .open_table(BODIES)
        .map_err(StoreError::database)?;
    transaction.commit().map_err(StoreError::database)
}

impl Snapshot for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self
            .transaction
            .open_table(definition(table))
            .map_err(StoreError::database)?;
        let value = table.get(key).map_err(StoreError::database)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        descending: bool,
    ) -> Result<Vec<KeyValue>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let table = self
            .transaction
            .open_table(definition(table))
            .map_err(StoreError::database)?;
        let mut range = table.range(from..to).map_err(StoreError::database)?;
        let mut found = Vec::new();
        while found.len() < limit {
            let next = if descending {
                range.next_back()
            } else {
                range.next()
            };
            let Some(entry) = next else { break };
            let (key, value) = entry.map_err(StoreError::database)?;
            found.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(found)
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self
            .transaction
            .open_table(BODIES)
            .map_err(StoreError::database)?;
        let Some(place) = table.get(hash.0.as_slice()).map_err(StoreError::database)? else {
            return Ok(None);
        };
        let place = Location::from_bytes(place.value())
            .ok_or_else(|| StoreError::Damaged(format!("place of block {hash}")))?;
        self.bodies.read(place).map(Some)
    }
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(self.read()?))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, Durability::Immediate)
    }

    fn commit_lazily(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, Durability::None)
    }

    fn append_pending(&self, record: &PendingRecord) -> Result<(), StoreError> {
        self.pending.append(record)
    }

    fn pending(&self) -> Result<Vec<PendingRecord>, StoreError> {
        self.pending.read()
    }

    fn rewrite_pending(&self, records: &[PendingRecord]) -> Result<(), StoreError> {
        self.pending.rewrite(records)
    }

    fn backup(&self, dir: &Path) -> Result<(u64, Box<dyn Snapshot>), StoreError> {
        // A backup never writes over anything, so the folder must be new.
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(|error| StoreError::io(parent, error))?;
        }
        fs::create_dir(dir).map_err(|error| StoreError::io(dir, error))?;
        let snapshot = self.read()?;
        let end = snapshot
            .get(Table::Meta, BODIES_END)?
            .and_then(|bytes| End::from_bytes(&bytes))
            .unwrap_or_default();
        let copied = self.bodies.copy_to(&dir.join("blocks"), end)?;
        let path = dir.join(DATABASE_FILE);
        copy_tables(&snapshot.transaction, &path)?;
        let size = fs::metadata(&path)
            .map_err(|error| StoreError::io(&path, error))?
            .len();
        Ok((size + copied, Box::new(snapshot)))
    }

    fn size_bytes(&self) -> u64 {
        let database = fs::metadata(self.dir.join(DATABASE_FILE)).map_or(0, |file| file.len());
        database + self.bodies.size_bytes()
    }
}

fn write_changes(transaction: &redb::WriteTransaction, batch: &Batch) -> Result<(), StoreError> {
    for table in Table::ALL {
        let from = (table, Vec::new());
        let mut changes = batch
            .changes
            .range(from..)
            .take_while(|((found, _), _)| *found == table)
            .peekable();
        if changes.peek().is_none() {
            continue;
        }
        let mut open = transaction
            .open_table(definition(table))
            .map_err(StoreError::database)?;
        for ((_, key), change) in changes {
            match change {
                Some(value) => open.insert(key.as_slice(), value.as_slice()),
                None => open.remove(key.as_slice()),
            }
            .map_err(StoreError::database)?;
        }
    }
    Ok(())
}

fn copy_tables(from: &ReadTransaction, path: &Path) -> Result<(), StoreError> {
    let database = Database::create(path).map_err(StoreError::database)?;
    let to = database.begin_write().map_err(StoreError::database)?;
    let definitions = Table::ALL.into_iter().map(definition).chain([BODIES]);
    for definition in definitions {
        let mut target = to.open_table(definition).map_err(StoreError::database)?;
        let source = match from.open_table(definition) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => continue,
            Err(error) => return Err(StoreError::database(error)),
        };
        for entry in source.iter().map_err(StoreError::database)? {
            let (key, value) = entry.map_err(StoreError::database)?;
            target
                .insert(key.value(), value.value())
                .map_err(StoreError::database)?;
        }
    }
    to.commit().map_err(StoreError::database)
}
