//! A store in which a process can die: in the midst of a commit, or after one and
//! before it can tell anybody.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pithead_consensus::BlockHash;
use pithead_core::store::{
    Batch, KeyValue, MemoryStore, PendingRecord, Snapshot, Store, StoreError, Table,
};

use crate::dice::Dice;
use crate::settings::Plant;

/// Most records at the end of the log of pending transactions that a crash loses:
/// the log survives the process, not the machine.
const PENDING_LOST_MAX: usize = 3;

/// The node's own store in memory, and how to take back what a crash may undo:
/// what was committed lazily, and the commit under way.
pub(crate) struct CrashStore {
    inner: MemoryStore,
    state: Mutex<State>,
    /// Whether anybody will crash: otherwise nothing is remembered.
    crashes: bool,
    plant: Option<Plant>,
}

#[derive(Default)]
struct State {
    /// What each lazy commit since the last durable one replaced, oldest first.
    replaced: Vec<Batch>,
    /// Bodies that went with a commit that was undone.
    hidden: Arc<HashSet<BlockHash>>,
    doom: Option<Doom>,
    dead: bool,
}

/// Where in its next write a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doom {
    /// In the midst of it: the write is torn, and undone as a whole.
    Within,
    /// After it, before the node can act on it.
    After,
}

impl CrashStore {
    pub(crate) fn new(crashes: bool, plant: Option<Plant>) -> Self {
        Self {
            inner: MemoryStore::new(),
            state: Mutex::default(),
            crashes,
            plant,
        }
    }

    // What is behind the lock is whole between its uses.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the process die at its next write; `None`: not any more.
    pub(crate) fn doom(&self, doom: Option<Doom>) {
        self.state().doom = doom;
    }

    /// Whether the process has died at a write.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// A crash: of what was committed lazily all is lost, or nothing, and of the log
    /// of pending transactions the end.
    pub(crate) fn crash(&self, dice: &mut Dice) -> Result<(), StoreError> {
        let mut state = self.state();
        state.doom = None;
        state.dead = false;
        let replaced = std::mem::take(&mut state.replaced);
        if dice.happens(0.5) {
            for batch in replaced.iter().rev() {
                self.undo(&mut state, batch)?;
            }
        }
        drop(state);
        let mut pending = self.inner.pending()?;
        let lost = dice.below(PENDING_LOST_MAX + 1);
        pending.truncate(pending.len().saturating_sub(lost));
        self.inner.rewrite_pending(&pending)
    }

    fn undo(&self, state: &mut State, replaced: &Batch) -> Result<(), StoreError> {
        let hidden = Arc::make_mut(&mut state.hidden);
        hidden.extend(replaced.bodies.iter().map(|(hash, _)| *hash));
        let changes = replaced.changes.clone();
        self.inner.commit(&Batch {
            changes,
            bodies: Vec::new(),
        })
    }

    /// What a batch is about to replace, and the bodies that are new with it.
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

    fn apply(&self, batch: &Batch, durable: bool) -> Result<(), StoreError> {
        if !self.crashes {
            return self.write(batch);
        }
        self.check_alive()?;
        let doom = self.state().doom.take();
        if doom == Some(Doom::Within) {
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
        match doom {
            None => Ok(()),
            Some(_) => Err(self.die()),
        }
    }

    /// A store that tears its writes leaves half of one behind; a sound one nothing.
    fn tear(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.plant != Some(Plant::TornCommit) {
            return Ok(());
        }
        let mut half = batch.clone();
        let keep = half.changes.len() / 2;
        let mut place = 0;
        half.changes.retain(|_, _| {
            place += 1;
            place <= keep
        });
        self.inner.commit(&half)
    }

    fn check_alive(&self) -> Result<(), StoreError> {
        if self.is_dead() {
            return Err(self.die());
        }
        Ok(())
    }

    fn die(&self) -> StoreError {
        self.state().dead = true;
        StoreError::Database("the process dies here".to_owned())
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
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
        let snapshot = self.inner.snapshot()?;
        let hidden = Arc::clone(&self.state().hidden);
        if hidden.is_empty() {
            return Ok(snapshot);
        }
        Ok(Box::new(WithoutLost { snapshot, hidden }))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.apply(batch, true)
    }

    fn commit_lazily(&self, batch: &Batch) -> Result<(), StoreError> {
        self.apply(batch, false)
    }

    fn append_pending(&self, record: &PendingRecord) -> Result<(), StoreError> {
        self.check_alive()?;
        let doom = self.state().doom.take();
        // A record that is torn at any of its bytes is left out when it is read.
        if doom != Some(Doom::Within) {
            self.inner.append_pending(record)?;
        }
        match doom {
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

/// A snapshot without the bodies that a crash has taken.
struct WithoutLost {
    snapshot: Box<dyn Snapshot>,
    hidden: Arc<HashSet<BlockHash>>,
}

impl Snapshot for WithoutLost {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
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
        self.snapshot.range(table, from, to, limit, descending)
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        if self.hidden.contains(hash) {
            return Ok(None);
        }
        self.snapshot.body(hash)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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

    /// Crashes until the dice lose what they may.
    fn crash(store: &CrashStore) {
        let mut dice = (0..).map(|seed| Dice::new(seed, "crash"));
        let mut losing = dice.find(|dice| dice.clone().happens(0.5)).unwrap();
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
        for (doom, left) in [(Doom::Within, 1), (Doom::After, 2)] {
            let store = CrashStore::new(true, None);
            put(&store, 1, 1, true).unwrap();
            store.doom(Some(doom));
            assert!(put(&store, 1, 2, true).is_err());
            assert!(store.is_dead());
            assert!(put(&store, 1, 3, true).is_err(), "the dead write nothing");
            crash(&store);
            assert_eq!(get(&store, 1), Some(left), "{doom:?}");
            put(&store, 1, 4, true).unwrap();
        }
    }
}
