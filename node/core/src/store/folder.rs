//! The data directory: its parts, its lock, and whether it is whole. A first start makes the
//! database under another name, so the database is there wholly or not at all. Knows no tables.
//! Start reading at [`prepare`].
//!
//! ```text
//! <data-dir>/LOCK                locked while a node runs
//! <data-dir>/chain.redb          the tables
//! <data-dir>/chain.redb.new      the tables, until a first start has made all of them
//! <data-dir>/blocks/bodies-*.dat the block bodies
//! <data-dir>/pending.log         the pending transactions
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::StorageBackend;

use super::StoreError;
use super::block_file::{BlockFile, Format, format_of};
use super::bodies::{BodyFiles, sync_dir};
use super::tables::Tables;

/// The database's file in the data directory.
const DATABASE_FILE: &str = "chain.redb";
/// The database's file until it is whole.
const NEW_DATABASE_FILE: &str = "chain.redb.new";
/// What the first start of an earlier version left of a database before it was whole.
const UNFINISHED_DATABASE_FILE: &str = "chain.redb.unfinished";
/// The folder of a backup has this at the end of its name until the backup is whole.
pub(super) const UNFINISHED_BACKUP: &str = ".unfinished-backup";

pub(super) fn database_in(dir: &Path) -> PathBuf {
    dir.join(DATABASE_FILE)
}

pub(super) fn bodies_in(dir: &Path) -> PathBuf {
    dir.join("blocks")
}

fn lock_in(dir: &Path) -> PathBuf {
    dir.join("LOCK")
}

/// Refuses a folder that a backup left before it was whole.
pub(super) fn check_finished(dir: &Path) -> Result<(), StoreError> {
    let name = dir.file_name().unwrap_or_default();
    if name.to_string_lossy().ends_with(UNFINISHED_BACKUP) {
        return Err(StoreError::UnfinishedBackup {
            path: dir.to_owned(),
        });
    }
    Ok(())
}

/// Takes the exclusive lock on a data directory.
pub(super) fn take_lock(dir: &Path) -> Result<File, StoreError> {
    let path = lock_in(dir);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| StoreError::io(&path, error))?;
    lock(dir, &path, file)
}

/// Takes the exclusive lock on a data directory without changing it. A directory in which no node
/// ever ran has no file to lock.
pub(super) fn take_lock_if_there(dir: &Path) -> Result<Option<File>, StoreError> {
    let path = lock_in(dir);
    match File::open(&path) {
        Ok(file) => lock(dir, &path, file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io(&path, error)),
    }
}

fn lock(dir: &Path, path: &Path, file: File) -> Result<File, StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: dir.to_owned(),
        }),
        Err(fs::TryLockError::Error(error)) => Err(StoreError::io(path, error)),
    }
}

/// Makes sure that there is a database in `dir`: makes one in a new directory, and refuses one
/// that has bodies and no database.
pub(super) fn prepare<B: StorageBackend>(
    dir: &Path,
    cache_bytes: usize,
    wrap: impl FnOnce(BlockFile) -> B,
) -> Result<(), StoreError> {
    let path = database_in(dir);
    let has_bodies = BodyFiles::are_in(&bodies_in(dir))?;
    if path.exists() {
        if has_bodies || format_of(&path)? != Format::Unknown {
            return Ok(());
        }
        // The first start of an earlier version ended before the database was whole: no block was
        // ever stored. The file is kept, because a start deletes nothing that it can't read.
        let aside = dir.join(UNFINISHED_DATABASE_FILE);
        tracing::warn!(kept = %aside.display(), "the first start did not end: starting again");
        fs::rename(&path, &aside).map_err(|error| StoreError::io(&path, error))?;
    } else if has_bodies {
        return Err(StoreError::MissingHalf { missing: path });
    }
    let new = dir.join(NEW_DATABASE_FILE);
    let made = make_database(&new, cache_bytes, wrap);
    made.inspect_err(|_| {
        // A full disk needs the room; a start removes it in any case.
        let _ = fs::remove_file(&new);
    })?;
    fs::rename(&new, &path).map_err(|error| StoreError::io(&path, error))?;
    // A new name survives a power cut only once its folder is synced.
    sync_dir(dir)
}

fn make_database<B: StorageBackend>(
    path: &Path,
    cache_bytes: usize,
    wrap: impl FnOnce(BlockFile) -> B,
) -> Result<(), StoreError> {
    Tables::create(path, cache_bytes, true, wrap)?.close()?;
    sync_file(path)
}

/// Brings a file that is closed, and its length, to disk.
pub(super) fn sync_file(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| StoreError::io(path, error))
}
