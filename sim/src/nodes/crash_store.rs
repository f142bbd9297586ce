//! A store whose process can die while it writes: in the middle of a write, or after it
//! and before the node can act on it.
//!
//! It wraps the node's own store in memory and undoes what a crash loses. When a process
//! dies is decided in `weather::crashes`. Start reading at [`CrashStore`].

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pithead_consensus::BlockHash;
use pithead_core::store::{
    Batch, KeyValue, MemoryStore, PendingRecord, Snapshot, Store, StoreError, Table,
};

use crate::rng::SimRng;
use crate::settings::InjectedFault;

/// The most records that a crash takes from the end of the log of pending transactions.
/// The log is not flushed: it survives a crash of the process, not one of the machine.
const PENDING_LOST_MAX: usize = 3;

/// The node's own store in memory, with a log of what a crash may undo.
///
/// A crash undoes the write under way, and perhaps all lazy commits since the last
/// durable one. For example, with commits A (durable), B (lazy) and C (lazy), the store
/// holds either A or A, B and C after a crash.
pub(crate) struct CrashStore {
    inner: MemoryStore,
    state: Mutex<CrashState>,
    /// Whether the run has crashes. Without them the store logs nothing.
    crashes: bool,
    fault: Option<InjectedFault>,
    /// Questions that snapshots were asked.
    reads: Arc<AtomicU64>,
}

#[derive(Default)]
struct CrashState {
    /// The values that each lazy commit since the last durable one has replaced, oldest
    /// commit first.
    replaced: Vec<Batch>,
    /// Bodies of commits that were undone. The store in memory can't remove a body, so
    /// snapshots hide them.
    hidden: Arc<HashSet<BlockHash>>,
    /// Where in its next write the process dies, if it is to die there.
    crash_point: Option<CrashPoint>,
    /// Whether the process has died at a write.
    dead: bool,
}

/// Where in a write a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    /// In the middle of the write, which is undone as a whole.
    DuringWrite,
    /// After the write, before the node can act on it.
    AfterWrite,
}

impl CrashStore {
    pub(crate) fn new(crashes: bool, fault: Option<InjectedFault>) -> Self {
        Self {
            inner: MemoryStore::new(),
            state: Mutex::default(),
            crashes,
            fault,
            reads: Arc::default(),
        }
    }

    /// How many questions the store was asked so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    // A panic leaves the state consistent: each change under the lock is complete.
    fn state(&self) -> MutexGuard<'_, CrashState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the process die at its next write. `None` cancels that.
    pub(crate) fn crash_at_next_write(&self, point: Option<CrashPoint>) {
        self.state().crash_point = point;
    }

    /// Whether the process has died at a write.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The process crashes. With equal chance the store keeps or loses all lazy commits,
    /// and it loses some records at the end of the log of pending transactions.
    pub(crate) fn crash(&self, rng: &mut SimRng) -> Result<(), StoreError> {
        let mut state = self.state();
        state.crash_point = None;
        state.dead = false;
        let replaced = std::mem::take(&mut state.replaced);
        if rng.happens(0.5) {
            for batch in replaced.iter().rev() {
                self.undo(&mut state, batch)?;
            }
        }
        drop(state);
        let mut pending = self.inner.pending()?;
        let lost = rng.below(PENDING_LOST_MAX + 1);
        pending.truncate(pending.len().saturating_sub(lost));
        self.inner.rewrite_pending(&pending)
    }

    /// Undoes a commit. `replaced` holds the values that it has replaced.
    fn undo(&self, state: &mut CrashState, replaced: &Batch) -> Result<(), StoreError> {
        let hidden = Arc::make_mut(&mut state.hidden);
        hidden.extend(replaced.bodies.iter().map(|(hash, _)| *hash));
        let changes = replaced.changes.clone();
        self.inner.commit(&Batch {
            changes,
            bodies: Vec::new(),
        })
    }

    /// The batch that undoes `batch`: the values that it is about to replace, and the
    /// bodies that only it adds.
    fn replaced(&self, batch: &Batch) -> Result<Batch, StoreError> {
        let snapshot = self.inner.snapshot()?;
        let mut replaced = Batch::default();
        for (table, key) in batch.changes.keys() {
            let value = snapshot.get(*table, key)?;
            replaced.changes.insert((*table, key.clone()), value);
        }
        for (hash, _) in &batch.bodies {
            if snapshot.body(hash)?.is_none() {
                replaced.bodies.push((*hash, Vec::new()));
            }
        }
        Ok(replaced)
    }

    /// Writes a batch, unless the process is to die during this write.
    fn apply(&self, batch: &Batch, durable: bool) -> Result<(), StoreError> {
        if !self.crashes {
            return self.write(batch);
        }
        self.check_alive()?;
        let point = self.state().crash_point.take();
        if point == Some(CrashPoint::DuringWrite) {
            self.tear(batch)?;
            return Err(self.die());
        }
        let replaced = self.replaced(batch)?;
        self.write(batch)?;
        let mut state = self.state();
        let hidden = Arc::make_mut(&mut state.hidden);
        for (hash, _) in &batch.bodies {
            hidden.remove(hash);
        }
        if durable {
            state.replaced.clear();
        } else {
            state.replaced.push(replaced);
        }
        drop(state);
        match point {
            None => Ok(()),
            Some(_) => Err(self.die()),
        }
    }

    /// Leaves half of a write behind, with [`InjectedFault::TornCommit`]. A sound store
    /// leaves nothing.
    fn tear(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.fault != Some(InjectedFault::TornCommit) {
            return Ok(());
        }
        let mut half = batch.clone();
        let keep = half.changes.len() / 2;
        let mut index = 0;
        half.changes.retain(|_, _| {
            index += 1;
            index <= keep
        });
        self.inner.commit(&half)
    }

    fn check_alive(&self) -> Result<(), StoreError> {
        if self.is_dead() {
            return Err(self.die());
        }
        Ok(())
    }

    /// Ends the process, and returns the error by which the node learns of it.
    fn die(&self) -> StoreError {
        self.state().dead = true;
        StoreError::Database("the process dies here".to_owned())
    }

    /// Writes a batch; with [`InjectedFault::KeepUndone`], without the accounts that a
    /// reorganisation restores.
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let undoes = |batch: &Batch| {
            let mut changes = batch.changes.iter();
            changes.any(|((table, _), value)| *table == Table::Undo && value.is_none())
        };
        if self.fault == Some(InjectedFault::KeepUndone) && undoes(batch) {
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
        let snapshot = self.inner.snapshot()?;
        Ok(Box::new(CountedSnapshot {
            snapshot,
            hidden: Arc::clone(&self.state().hidden),
            reads: Arc::clone(&self.reads),
        }))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.apply(batch, true)
    }

    fn commit_lazily(&self, batch: &Batch) -> Result<(), StoreError> {
        self.apply(batch, false)
    }

    fn append_pending(&self, record: &PendingRecord) -> Result<(), StoreError> {
        self.check_alive()?;
        let point = self.state().crash_point.take();
        // A reader leaves a torn record out, so a torn write is the same as no write.
        if point != Some(CrashPoint::DuringWrite) {
            self.inner.append_pending(record)?;
        }
        match point {
            None => Ok(()),
            Some(_) => Err(self.die()),
        }
    }

    fn pending(&self) -> Result<Vec<PendingRecord>, StoreError> {
        self.inner.pending()
    }

    fn rewrite_pending(&self, records: &[PendingRecord]) -> Result<(), StoreError> {
        self.check_alive()?;
        self.inner.rewrite_pending(records)
    }

    fn backup(&self, dir: &Path) -> Result<(u64, Box<dyn Snapshot>), StoreError> {
        self.inner.backup(dir)
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
}

/// A snapshot that counts questions, and hides the bodies that a crash has taken.
struct CountedSnapshot {
    snapshot: Box<dyn Snapshot>,
    hidden: Arc<HashSet<BlockHash>>,
    reads: Arc<AtomicU64>,
}

impl CountedSnapshot {
    fn count(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }
}

impl Snapshot for CountedSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.count();
        self.snapshot.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        descending: bool,
    ) -> Result<Vec<KeyValue>, StoreError> {
        self.count();
        self.snapshot.range(table, from, to, limit, descending)
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        self.count();
        if self.hidden.contains(hash) {
            return Ok(None);
        }
        self.snapshot.body(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &CrashStore, key: u8, value: u8, durable: bool) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(Table::Meta, [key], [value]);
        batch.bodies.push((BlockHash([value; 32]), vec![value]));
        if durable {
            store.commit(&batch)
        } else {
            store.commit_lazily(&batch)
        }
    }

    fn get(store: &CrashStore, key: u8) -> Option<u8> {
        let value = store.snapshot().unwrap().get(Table::Meta, &[key]).unwrap();
        value.map(|value| value[0])
    }

    /// Crashes with random numbers by which the lazy commits are lost.
    fn crash(store: &CrashStore) {
        let mut streams = (0..).map(|seed| SimRng::new(seed, "crash"));
        let mut losing = streams.find(|rng| rng.clone().happens(0.5)).unwrap();
        store.crash(&mut losing).unwrap();
    }

    #[test]
    fn crashes_undo_what_was_lazy_and_no_more() {
        let store = CrashStore::new(true, None);
        put(&store, 1, 1, false).unwrap();
        put(&store, 1, 2, true).unwrap();
        put(&store, 1, 3, false).unwrap();
        put(&store, 2, 4, false).unwrap();
        crash(&store);
        assert_eq!((get(&store, 1), get(&store, 2)), (Some(2), None));
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.body(&BlockHash([4; 32])).unwrap(), None);
        assert!(snapshot.body(&BlockHash([2; 32])).unwrap().is_some());
        crash(&store);
        assert_eq!(get(&store, 1), Some(2), "nothing more is lost");
        put(&store, 2, 4, true).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert!(snapshot.body(&BlockHash([4; 32])).unwrap().is_some());
    }

    #[test]
    fn processes_die_within_a_commit_or_after_it() {
        for (point, left) in [(CrashPoint::DuringWrite, 1), (CrashPoint::AfterWrite, 2)] {
            let store = CrashStore::new(true, None);
            put(&store, 1, 1, true).unwrap();
            store.crash_at_next_write(Some(point));
            assert!(put(&store, 1, 2, true).is_err());
            assert!(store.is_dead());
            assert!(put(&store, 1, 3, true).is_err(), "the dead write nothing");
            crash(&store);
            assert_eq!(get(&store, 1), Some(left), "{point:?}");
            put(&store, 1, 4, true).unwrap();
        }
    }
}
