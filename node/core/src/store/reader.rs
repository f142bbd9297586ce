//! A data directory that is read and never changed: for `--verify`. Start reading at
//! [`StoreReader::open`].

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use redb::ReadableTable as _;

use super::bodies::{BodyFiles, End, Location};
use super::folder::{bodies_in, check_finished, database_in, take_lock_if_there};
use super::redb::RedbSnapshot;
use super::staged::as_readers_see;
use super::tables::{BODIES, Tables, definition};
use super::{Snapshot, StoreError, Table};

/// The data of a store that no node uses. Nothing in its directory is made, cut or written.
pub struct StoreReader {
    tables: Tables,
    bodies: Arc<BodyFiles>,
    // The lock on the data directory is held as long as this file is open.
    _lock: Option<File>,
}

impl StoreReader {
    /// Opens the data in `dir`, once every block of the database has been read and every body file
    /// is there. `cache_bytes` bounds redb's page cache.
    ///
    /// # Errors
    /// [`StoreError::NoData`], [`StoreError::MissingHalf`], [`StoreError::UnfinishedBackup`] or
    /// [`StoreError::Damaged`] if there is no whole chain in `dir`; [`StoreError::Locked`] if
    /// another process has it open; other errors if storage fails.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        check_finished(dir)?;
        let path = database_in(dir);
        if !path.exists() {
            return Err(if BodyFiles::are_in(&bodies_in(dir))? {
                StoreError::MissingHalf { missing: path }
            } else {
                StoreError::NoData {
                    path: dir.to_owned(),
                }
            });
        }
        let lock = take_lock_if_there(dir)?;
        let tables = Tables::rehearse(&path, cache_bytes, true)?;
        let end = tables.bodies_end()?;
        let bodies = Arc::new(BodyFiles::open(bodies_in(dir), end)?);
        let reader = Self {
            tables,
            bodies,
            _lock: lock,
        };
        reader.check_places(end)?;
        Ok(reader)
    }

    /// The tables and bodies.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        as_readers_see(Box::new(RedbSnapshot::new(&self.tables, &self.bodies)?))
    }

    /// Checks that exactly the blocks with an entry have a body, and that each body's place is
    /// within the files.
    fn check_places(&self, end: End) -> Result<(), StoreError> {
        let transaction = self.tables.read()?;
        let open = |definition| {
            let table = transaction.open_table(definition);
            table.map_err(|error| self.tables.error(error))
        };
        let (places, entries) = (open(BODIES)?, open(definition(Table::Entries))?);
        let fail = |error: redb::StorageError| self.tables.error(error);
        let mut entries = entries.iter().map_err(fail)?;
        for place in places.iter().map_err(fail)? {
            let (hash, place) = place.map_err(fail)?;
            let entry = entries.next().transpose().map_err(fail)?;
            if entry.is_none_or(|(key, _)| key.value() != hash.value()) {
                return Err(damaged(
                    "entry and body do not belong together",
                    hash.value(),
                ));
            }
            let place = Location::from_bytes(place.value());
            if place.is_none_or(|place| !place.is_within(end)) {
                return Err(damaged("its body is outside of the files", hash.value()));
            }
        }
        match entries.next().transpose().map_err(fail)? {
            None => Ok(()),
            Some((hash, _)) => Err(damaged("its body is missing", hash.value())),
        }
    }
}

fn damaged(what: &str, hash: &[u8]) -> StoreError {
    StoreError::Damaged(format!("block {}: {what}", hex::encode(hash)))
}
