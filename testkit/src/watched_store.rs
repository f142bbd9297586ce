//! A store in memory that counts commits, reads and bytes read, and whose commits fail on demand. Start with
//! [`Watched::new`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pithead_consensus::BlockHash;
use pithead_core::store::{Batch, KeyValue, PendingRecord, Snapshot, Store, StoreError, Table};

use crate::nodes::memory;

/// A store that counts. Writes succeed until a test sets `fails`.
pub struct Watched {
    inner: Arc<dyn Store>,
    /// How many batches were committed.
    pub commits: AtomicUsize,
    /// Whether writes fail from now on.
    pub fails: AtomicBool,
    read: Arc<Read>,
}

/// What readers have taken from a store.
#[derive(Default)]
struct Read {
    /// Questions of any kind.
    reads: AtomicUsize,
    /// Bytes of all keys and values that the answers held.
    bytes: AtomicUsize,
}

impl Read {
    fn note(&self, bytes: usize) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

struct WatchedSnapshot {
    inner: Box<dyn Snapshot>,
    read: Arc<Read>,
}

impl Watched {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: memory(),
            commits: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
            read: Arc::default(),
        })
    }

    /// Reads of any kind so far.
    pub fn reads(&self) -> usize {
        self.read.reads.load(Ordering::Relaxed)
    }

    /// Bytes of all keys and values that reads have given so far.
    pub fn bytes_read(&self) -> usize {
        self.read.bytes.load(Ordering::Relaxed)
    }
}

impl Store for Watched {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(WatchedSnapshot {
            inner: self.inner.snapshot()?,
            read: Arc::clone(&self.read),
        }))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Database("the disk is full".to_owned()));
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.inner.commit(batch)
    }

    fn append_pending(&self, record: &PendingRecord) -> Result<(), StoreError> {
        self.inner.append_pending(record)
    }

    fn pending(&self) -> Result<Vec<PendingRecord>, StoreError> {
        self.inner.pending()
    }

    fn rewrite_pending(&self, records: &[PendingRecord]) -> Result<(), StoreError> {
        self.inner.rewrite_pending(records)
    }

    fn backup(&self, dir: &Path) -> Result<(u64, Box<dyn Snapshot>), StoreError> {
        self.inner.backup(dir)
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
}

impl Snapshot for WatchedSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.inner.get(table, key)?;
        self.read.note(found.as_ref().map_or(0, Vec::len));
        Ok(found)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        descending: bool,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let found = self.inner.range(table, from, to, limit, descending)?;
        let bytes = found.iter().map(|(key, value)| key.len() + value.len());
        self.read.note(bytes.sum());
        Ok(found)
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.inner.body(hash)?;
        self.read.note(found.as_ref().map_or(0, Vec::len));
        Ok(found)
    }
}
