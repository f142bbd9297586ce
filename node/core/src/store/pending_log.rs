//! The log of pending transactions, an append-only file. What is appended is not synced: a crash of
//! the machine may take its end away, and the transactions can be sent again. A rewritten log is
//! synced before it takes the old one's place. Knows nothing of transactions but
//! their bytes. Start reading at [`PendingLog::read`].

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::bodies::{open_for_append, sync_dir};
use super::{PendingRecord, StoreError};

/// Longest record: the time (8 bytes) and the longest transaction (protocol §3).
const RECORD_BYTES_MAX: usize = 8 + 16_384;

/// The file, open for appending. A record is its length (4 bytes, big-endian), the time of arrival
/// (8 bytes, big-endian) and the encoded transaction; the length counts the latter two.
pub(super) struct PendingLog {
    dir: PathBuf,
    file: Mutex<File>,
}

impl PendingLog {
    /// Opens the log in a data directory, or makes an empty one.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            dir: dir.to_owned(),
            file: Mutex::new(open_for_append(&path_in(dir))?),
        })
    }

    pub(super) fn append(&self, record: &PendingRecord) -> Result<(), StoreError> {
        let fail = |error| StoreError::io(&path_in(&self.dir), error);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let end = file.metadata().map_err(fail)?.len();
        file.write_all(&encode(record)).map_err(|error| {
            // Half a record, as a full disk leaves it, would hide every later record.
            let _ = file.set_len(end);
            fail(error)
        })
    }

    /// Reads the records up to the first torn one.
    pub(super) fn read(&self) -> Result<Vec<PendingRecord>, StoreError> {
        let path = path_in(&self.dir);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| StoreError::io(&path, error))?;
        Ok(decode(&bytes))
    }

    /// Replaces all records; if that fails, the old file stays.
    pub(super) fn rewrite(&self, records: &[PendingRecord]) -> Result<(), StoreError> {
        let path = path_in(&self.dir);
        let new_path = self.dir.join("pending.log.new");
        let bytes: Vec<u8> = records.iter().flat_map(encode).collect();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        File::create(&new_path)
            .and_then(|mut new| new.write_all(&bytes).and_then(|()| new.sync_all()))
            .map_err(|error| StoreError::io(&new_path, error))?;
        fs::rename(&new_path, &path).map_err(|error| StoreError::io(&path, error))?;
        *file = open_for_append(&path)?;
        sync_dir(&self.dir)?;
        Ok(())
    }
}

fn path_in(dir: &Path) -> PathBuf {
    dir.join("pending.log")
}

fn encode(record: &PendingRecord) -> Vec<u8> {
    let len = u32::try_from(record.raw.len() + 8).unwrap_or(u32::MAX);
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.extend_from_slice(&record.received.to_be_bytes());
    bytes.extend_from_slice(&record.raw);
    bytes
}

fn decode(mut bytes: &[u8]) -> Vec<PendingRecord> {
    let mut records = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let len = u32::from_be_bytes(*len) as usize;
        if len > RECORD_BYTES_MAX {
            break;
        }
        let Some((record, rest)) = rest.split_at_checked(len) else {
            break;
        };
        let Some((received, raw)) = record.split_first_chunk::<8>() else {
            break;
        };
        records.push(PendingRecord {
            received: u64::from_be_bytes(*received),
            raw: raw.to_vec(),
        });
        bytes = rest;
    }
    records
}
