//! A file that takes writes without changing: what the database writes stays in memory. With it,
//! the database can repair and check what it finds, and the file is as it was afterwards. Knows
//! nothing of what is written. Start reading at [`Rehearsal`].

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

use super::block_file::{BLOCK_BYTES, BlockFile};

/// A file with changes on top that exist in memory only.
///
/// A repair writes the database's header and the map of its free pages: a 10,000th of the file.
#[derive(Debug)]
pub(super) struct Rehearsal {
    file: BlockFile,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    len: u64,
    header: Option<Vec<u8>>,
    /// Written blocks by their number.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Rehearsal {
    /// A rehearsal on a file, without changes.
    pub(super) fn new(file: BlockFile) -> io::Result<Self> {
        let changes = Mutex::new(Changes {
            len: file.len()?,
            header: None,
            blocks: BTreeMap::new(),
        });
        Ok(Self { file, changes })
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Rehearsal {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes();
        if offset == 0 {
            return match changes.header.as_ref().and_then(|all| all.get(..out.len())) {
                Some(header) => {
                    out.copy_from_slice(header);
                    Ok(())
                }
                None => self.file.read(0, out),
            };
        }
        let first = offset / BLOCK_BYTES as u64;
        let last = first + (out.len() / BLOCK_BYTES) as u64;
        if changes.blocks.range(first..last).next().is_none() {
            drop(changes);
            return self.file.read(offset, out);
        }
        for (block, number) in out.chunks_mut(BLOCK_BYTES).zip(first..) {
            match changes.blocks.get(&number) {
                Some(written) => block.copy_from_slice(written),
                None => self.file.read(number * BLOCK_BYTES as u64, block)?,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changes = self.changes();
        changes.len = len;
        changes.blocks.split_off(&len.div_ceil(BLOCK_BYTES as u64));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes();
        if offset == 0 {
            changes.header = Some(data.to_vec());
            return Ok(());
        }
        let first = offset / BLOCK_BYTES as u64;
        for (block, number) in data.chunks(BLOCK_BYTES).zip(first..) {
            changes.blocks.insert(number, block.to_vec());
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}
