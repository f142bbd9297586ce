//! A store in memory: for tests, for replays, and for the simulation, which runs many nodes in
//! one process. Knows no rules, and keeps nothing beyond its process.

use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use pithead_consensus::BlockHash;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use super::staged::{as_readers_see, is_live, superseding};
use super::{Batch, KeyValue, PendingRecord, Snapshot, Store, StoreError, Table};

/// The tables in persistent maps, so that a snapshot is a cheap clone.
#[derive(Default)]
pub struct MemoryStore {
    state: RwLock<State>,
    pending: Mutex<Vec<PendingRecord>>,
}

#[derive(Clone, Default)]
struct State {
    tables: RedBlackTreeMapSync<(Table, Vec<u8>), Vec<u8>>,
    bodies: HashTrieMapSync<BlockHash, Vec<u8>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    // Maps are replaced as a whole, so a panic can't leave half a change behind: a poisoned lock
    // is still good.
    fn state(&self) -> State {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn pending_log(&self) -> MutexGuard<'_, Vec<PendingRecord>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot for State {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables.get(&(table, key.to_vec())).cloned())
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
        let bounds = (
            Bound::Included((table, from.to_vec())),
            Bound::Excluded((table, to.to_vec())),
        );
        let entries = self
            .tables
            .range(bounds)
            .map(|((_, key), value)| (key.clone(), value.clone()));
        Ok(if descending {
            entries.rev().take(limit).collect()
        } else {
            entries.take(limit).collect()
        })
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.bodies.get(hash).cloned())
    }
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        as_readers_see(Box::new(self.state()))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut state = self.state();
        let batch = superseding(batch, is_live(&state)?);
        for (key, change) in &batch.changes {
            match change {
                Some(value) => state.tables.insert_mut(key.clone(), value.clone()),
                None => {
                    state.tables.remove_mut(key);
                }
            }
        }
        for (hash, body) in &batch.bodies {
            state.bodies.insert_mut(*hash, body.clone());
        }
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    fn append_pending(&self, record: &PendingRecord) -> Result<(), StoreError> {
        self.pending_log().push(record.clone());
        Ok(())
    }

    fn pending(&self) -> Result<Vec<PendingRecord>, StoreError> {
        Ok(self.pending_log().clone())
    }

    fn rewrite_pending(&self, records: &[PendingRecord]) -> Result<(), StoreError> {
        *self.pending_log() = records.to_vec();
        Ok(())
    }

    fn backup(&self, _dir: &Path) -> Result<(u64, Box<dyn Snapshot>), StoreError> {
        Err(StoreError::Database(
            "a store in memory has no backups".to_owned(),
        ))
    }

    fn size_bytes(&self) -> u64 {
        let state = self.state();
        let tables: usize = state
            .tables
            .iter()
            .map(|((_, key), value)| key.len() + value.len())
            .sum();
        let bodies: usize = state.bodies.values().map(Vec::len).sum();
        (tables + bodies) as u64
    }
}
