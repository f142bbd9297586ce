//! Backups: a consistent copy in a folder that has another name until the copy is whole and on
//! disk. Start reading at [`write_backup`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::{ReadTransaction, TableError};

use super::block_file::Damage;
use super::bodies::{BodyFiles, End, sync_dir};
use super::folder::{
    UNFINISHED_BACKUP, bodies_in, check_finished, database_in, sync_file, take_lock,
};
use super::tables::{BODIES, Tables, definition};
use super::{StoreError, Table};

/// Bytes of the database's cache while a backup is written: what has no room is on disk already.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// What a backup is made of: the tables at one moment, and the bodies up to the end at that moment.
pub(super) struct Source<'a> {
    pub(super) tables: &'a ReadTransaction,
    pub(super) damage: &'a Damage,
    pub(super) bodies: &'a BodyFiles,
    pub(super) end: End,
}

/// Writes a backup to the new folder `dir`; returns its bytes. The folder appears once everything
/// in it is on disk. Folders that earlier backups left beside it are removed.
pub(super) fn write_backup(source: &Source<'_>, dir: &Path) -> Result<u64, StoreError> {
    check_is_new(dir)?;
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(|error| StoreError::io(parent, error))?;
    remove_leftovers(parent)?;
    let unfinished = unfinished_name(dir)?;
    fs::create_dir(&unfinished).map_err(|error| StoreError::io(&unfinished, error))?;
    let written = fill(source, &unfinished).and_then(|bytes| {
        check_is_new(dir)?;
        fs::rename(&unfinished, dir).map_err(|error| StoreError::io(dir, error))?;
        Ok(bytes)
    });
    let bytes = written.inspect_err(|_| {
        let _ = fs::remove_dir_all(&unfinished);
    })?;
    sync_dir(parent)?;
    Ok(bytes)
}

/// A backup never writes over anything, and its folder must not look like an unfinished one.
fn check_is_new(dir: &Path) -> Result<(), StoreError> {
    if check_finished(dir).is_err() {
        let why = format!("the name of a backup must not end with {UNFINISHED_BACKUP}");
        let error = io::Error::new(io::ErrorKind::InvalidInput, why);
        return Err(StoreError::io(dir, error));
    }
    if dir.symlink_metadata().is_ok() {
        return Err(StoreError::io(dir, io::ErrorKind::AlreadyExists.into()));
    }
    Ok(())
}

fn unfinished_name(dir: &Path) -> Result<PathBuf, StoreError> {
    let Some(name) = dir.file_name() else {
        return Err(StoreError::io(dir, io::ErrorKind::InvalidInput.into()));
    };
    let mut name = name.to_owned();
    name.push(UNFINISHED_BACKUP);
    Ok(dir.with_file_name(name))
}

/// Removes what backups left that did not end. One that is being written is locked, and stays.
fn remove_leftovers(parent: &Path) -> Result<(), StoreError> {
    let fail = |error| StoreError::io(parent, error);
    for entry in fs::read_dir(parent).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_dir = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        if !is_dir || !name.ends_with(UNFINISHED_BACKUP) {
            continue;
        }
        match take_lock(&path) {
            Ok(_lock) => fs::remove_dir_all(&path).map_err(|error| StoreError::io(&path, error))?,
            Err(StoreError::Locked { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills the folder of a backup and brings it to disk; returns its bytes.
fn fill(source: &Source<'_>, dir: &Path) -> Result<u64, StoreError> {
    let _lock = take_lock(dir)?;
    let copied = source.bodies.copy_to(&bodies_in(dir), source.end)?;
    let path = database_in(dir);
    copy_tables(source, &path)?;
    sync_file(&path)?;
    sync_dir(dir)?;
    let size = fs::metadata(&path)
        .map_err(|error| StoreError::io(&path, error))?
        .len();
    Ok(size + copied)
}

fn copy_tables(source: &Source<'_>, path: &Path) -> Result<(), StoreError> {
    let target = Tables::create(path, CACHE_BYTES, true, |file| file)?;
    let to = target.write(true)?;
    for definition in Table::ALL.into_iter().map(definition).chain([BODIES]) {
        let mut copy = to
            .open_table(definition)
            .map_err(|error| target.error(error))?;
        let table = match source.tables.open_table(definition) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => continue,
            Err(error) => return Err(source.damage.error(error)),
        };
        let all = redb::ReadableTable::iter(&table);
        for entry in all.map_err(|error| source.damage.error(error))? {
            let (key, value) = entry.map_err(|error| source.damage.error(error))?;
            copy.insert(key.value(), value.value())
                .map_err(|error| target.error(error))?;
        }
    }
    to.commit().map_err(|error| target.error(error))?;
    target.close()
}
