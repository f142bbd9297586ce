//! A store whose last commit can be lost, as by a crash in the midst of it.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pithead_node::store::{Batch, MemoryStore, PendingRecord, Snapshot, Store, StoreError, Table};

use crate::settings::Plant;

/// The node's own store in memory, and how to take back what a crash may undo:
/// the last commit, and what was committed lazily before it.
pub(crate) struct CrashStore {
    inner: MemoryStore,
    undo: Mutex<Undo>,
    /// Whether anybody will crash: otherwise nothing is remembered.
    crashes: bool,
    plant: Option<Plant>,
}

#[derive(Default)]
struct Undo {
    /// What each commit replaced, oldest first.
    replaced: Vec<Batch>,
    /// Whether the last of them returned as durable.
    complete: bool,
}

impl CrashStore {
    pub(crate) fn new(crashes: bool, plant: Option<Plant>) -> Self {
        Self {
            inner: MemoryStore::new(),
            undo: Mutex::default(),
            crashes,
            plant,
        }
    }

    // What is behind the lock is whole between its uses.
    fn undo(&self) -> MutexGuard<'_, Undo> {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loses the last commit, and the end of the log of pending transactions.
    pub(crate) fn crash(&self) -> Result<(), StoreError> {
        let mut undo = self.undo();
        while let Some(mut replaced) = undo.replaced.pop() {
            if self.plant == Some(Plant::TornCommit) {
                let keep = replaced.changes.len() / 2;
                let mut place = 0;
                replaced.changes.retain(|_, _| {
                    place += 1;
                    place > keep
                });
            }
            self.inner.commit(&replaced)?;
        }
        let mut pending = self.inner.pending()?;
        pending.pop();
        self.inner.rewrite_pending(&pending)
    }

    fn apply(&self, batch: &Batch, durable: bool) -> Result<(), StoreError> {
        if self.crashes {
            let snapshot = self.inner.snapshot()?;
            let mut replaced = Batch::default();
            for (table, key) in batch.changes.keys() {
                let value = snapshot.get(*table, key)?;
                replaced.changes.insert((*table, key.clone()), value);
            }
            let mut undo = self.undo();
            if undo.complete {
                undo.replaced.clear();
            }
            undo.complete = durable;
            undo.replaced.push(replaced);
        }
        let undoes = |batch: &Batch| {
            let mut changes = batch.changes.iter();
            changes.any(|((table, _), value)| *table == Table::Undo && value.is_none())
        };
        if self.plant == Some(Plant::KeepUndone) && undoes(batch) {
            let mut batch = batch.clone();
            batch
                .changes
                .retain(|(table, _), _| *table != Table::Accounts);
            return self.inner.commit(&batch);
        }
        self.inner.commit(batch)
    }
}

impl Store for CrashStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.apply(batch, true)
    }

    fn commit_lazily(&self, batch: &Batch) -> Result<(), StoreError> {
        self.apply(batch, false)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn put(store: &CrashStore, key: u8, value: u8, durable: bool) {
        let mut batch = Batch::default();
        batch.put(Table::Meta, [key], [value]);
        if durable {
            store.commit(&batch).unwrap();
        } else {
            store.commit_lazily(&batch).unwrap();
        }
    }

    fn get(store: &CrashStore, key: u8) -> Option<Vec<u8>> {
        store.snapshot().unwrap().get(Table::Meta, &[key]).unwrap()
    }

    #[test]
    fn crash_undoes_the_last_commit_and_what_was_lazy() {
        let store = CrashStore::new(true, None);
        put(&store, 1, 1, true);
        put(&store, 2, 1, true);
        put(&store, 1, 2, false);
        put(&store, 3, 1, false);
        put(&store, 1, 3, true);
        store.crash().unwrap();
        assert_eq!(get(&store, 1), Some(vec![1]));
        assert_eq!(get(&store, 2), Some(vec![1]));
        assert_eq!(get(&store, 3), None);
        store.crash().unwrap();
        assert_eq!(get(&store, 1), Some(vec![1]), "nothing more is lost");
    }
}
