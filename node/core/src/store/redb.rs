//! The store on disk: redb for the tables, append-only files for the bodies and for pending
//! transactions. Knows no rules and no types of the tables. `folder` says what the data directory
//! consists of. Start reading at [`RedbStore::open`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pithead_consensus::BlockHash;
use redb::{ReadTransaction, StorageBackend};

use super::backup::{Source, write_backup};
use super::block_file::{BlockFile, Damage};
use super::bodies::{BodyFiles, End, Location, sync_dir};
use super::folder::{bodies_in, check_finished, database_in, prepare, take_lock};
use super::pending_log::PendingLog;
use super::staged::{as_readers_see, is_live, superseding};
use super::tables::{BODIES, BODIES_END, Tables, definition};
use super::{Batch, KeyValue, PendingRecord, Snapshot, Store, StoreError, Table};

/// A store in a folder of its own: the data directory.
pub struct RedbStore {
    dir: PathBuf,
    tables: Tables,
    bodies: Arc<BodyFiles>,
    pending: PendingLog,
    // The lock on the data directory is held as long as this file is open.
    _lock: File,
}

/// The tables and bodies of a store on disk at one moment.
pub(super) struct RedbSnapshot {
    transaction: ReadTransaction,
    damage: Damage,
    bodies: Arc<BodyFiles>,
}

impl RedbSnapshot {
    pub(super) fn new(tables: &Tables, bodies: &Arc<BodyFiles>) -> Result<Self, StoreError> {
        Ok(Self {
            transaction: tables.read()?,
            damage: tables.damage().clone(),
            bodies: Arc::clone(bodies),
        })
    }

    fn error(&self, error: impl Into<redb::Error>) -> StoreError {
        self.damage.error(error)
    }
}

impl RedbStore {
    /// Whether there is a store in `dir`.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        database_in(dir).is_file()
    }

    /// Opens the store in `dir`, or makes a new one. `cache_bytes` bounds redb's page cache. The
    /// data is looked at first: what is refused is not changed.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has the folder open; [`StoreError::MissingHalf`],
    /// [`StoreError::UnfinishedBackup`], [`StoreError::WrongSchema`] or [`StoreError::Damaged`] if
    /// the data is not whole or not of this version; other errors if storage fails.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        Self::open_over(dir, cache_bytes, |file| file)
    }

    /// The same with something between the database and its file.
    pub(super) fn open_over<B: StorageBackend>(
        dir: &Path,
        cache_bytes: usize,
        wrap: impl Fn(BlockFile) -> B,
    ) -> Result<Self, StoreError> {
        check_finished(dir)?;
        fs::create_dir_all(dir).map_err(|error| StoreError::io(dir, error))?;
        let lock = take_lock(dir)?;
        prepare(dir, cache_bytes, &wrap)?;
        let path = database_in(dir);
        let end = Tables::rehearse(&path, cache_bytes, false)?.bodies_end()?;
        let bodies = Arc::new(BodyFiles::open(bodies_in(dir), end)?);
        let tables = Tables::open(&path, cache_bytes, &wrap)?;
        let pending = PendingLog::open(dir)?;
        // A new file survives a power cut only once its folder is synced.
        sync_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            tables,
            bodies,
            pending,
            _lock: lock,
        })
    }

    /// A store in an empty folder whose database is never synced.
    pub(super) fn scratch(dir: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        let lock = take_lock(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            tables: Tables::create(&database_in(dir), cache_bytes, false, |file| file)?,
            bodies: Arc::new(BodyFiles::open(bodies_in(dir), End::default())?),
            pending: PendingLog::open(dir)?,
            _lock: lock,
        })
    }

    fn read(&self) -> Result<RedbSnapshot, StoreError> {
        RedbSnapshot::new(&self.tables, &self.bodies)
    }

    /// Commits a batch. If the commit is to be on disk on return, its bodies are synced first: a
    /// commit never names a body that a crash could take away.
    fn commit_with(&self, batch: &Batch, on_disk: bool) -> Result<(), StoreError> {
        let batch = &*superseding(batch, is_live(&self.read()?)?);
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
        if on_disk {
            self.bodies.sync()?;
        }
        let transaction = self.tables.write(on_disk)?;
        self.write_changes(&transaction, batch)?;
        if let Some((places, end)) = &appended {
            self.write_places(&transaction, batch, places, *end)?;
        }
        transaction
            .commit()
            .map_err(|error| self.tables.error(error))?;
        if let Some((_, end)) = appended {
            self.bodies.advance(end);
        }
        Ok(())
    }

    fn write_places(
        &self,
        transaction: &redb::WriteTransaction,
        batch: &Batch,
        places: &[Location],
        end: End,
    ) -> Result<(), StoreError> {
        let mut table = transaction
            .open_table(BODIES)
            .map_err(|error| self.tables.error(error))?;
        for ((hash, _), place) in batch.bodies.iter().zip(places) {
            table
                .insert(hash.0.as_slice(), place.to_bytes().as_slice())
                .map_err(|error| self.tables.error(error))?;
        }
        let mut meta = transaction
            .open_table(definition(Table::Meta))
            .map_err(|error| self.tables.error(error))?;
        meta.insert(BODIES_END, end.to_bytes().as_slice())
            .map_err(|error| self.tables.error(error))?;
        Ok(())
    }

    fn write_changes(
        &self,
        transaction: &redb::WriteTransaction,
        batch: &Batch,
    ) -> Result<(), StoreError> {
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
                .map_err(|error| self.tables.error(error))?;
            for ((_, key), change) in changes {
                match change {
                    Some(value) => open.insert(key.as_slice(), value.as_slice()),
                    None => open.remove(key.as_slice()),
                }
                .map_err(|error| self.tables.error(error))?;
            }
        }
        Ok(())
    }
}

impl Snapshot for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self
            .transaction
            .open_table(definition(table))
            .map_err(|error| self.error(error))?;
        let value = table.get(key).map_err(|error| self.error(error))?;
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
            .map_err(|error| self.error(error))?;
        let mut range = table.range(from..to).map_err(|error| self.error(error))?;
        let mut found = Vec::new();
        while found.len() < limit {
            let next = if descending {
                range.next_back()
            } else {
                range.next()
            };
            let Some(entry) = next else { break };
            let (key, value) = entry.map_err(|error| self.error(error))?;
            found.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(found)
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self
            .transaction
            .open_table(BODIES)
            .map_err(|error| self.error(error))?;
        let Some(place) = table
            .get(hash.0.as_slice())
            .map_err(|error| self.error(error))?
        else {
            return Ok(None);
        };
        let place = Location::from_bytes(place.value())
            .ok_or_else(|| StoreError::Damaged(format!("place of block {hash}")))?;
        self.bodies.read(place).map(Some)
    }
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        as_readers_see(Box::new(self.read()?))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, true)
    }

    fn commit_lazily(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_with(batch, false)
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
        let snapshot = self.read()?;
        let end = snapshot
            .get(Table::Meta, BODIES_END)?
            .and_then(|bytes| End::from_bytes(&bytes))
            .unwrap_or_default();
        let source = Source {
            tables: &snapshot.transaction,
            damage: &snapshot.damage,
            bodies: &self.bodies,
            end,
        };
        let bytes = write_backup(&source, dir)?;
        Ok((bytes, Box::new(snapshot)))
    }

    fn size_bytes(&self) -> u64 {
        let database = fs::metadata(database_in(&self.dir)).map_or(0, |file| file.len());
        database + self.bodies.size_bytes()
    }
}
