//! A store survives the end of its process, and a full disk, at any moment: from the first write of
//! a first start on. A commit that was acknowledged is there afterwards, and every commit is there
//! wholly or not at all.

use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pithead_consensus::BlockHash;
use redb::{BackendError, StorageBackend};

use super::super::block_file::BlockFile;
use super::super::{Batch, RedbStore, Store as _, StoreError, Table};

const CACHE: usize = 1 << 20;
/// The commits of the story, numbered from 1. The third and the fourth are lazy.
const COMMITS: u64 = 6;

/// What happens after each operation on the database's file.
#[derive(Debug, Default)]
struct Fate {
    operations: AtomicUsize,
    /// The operation from which on the disk is full; 0 if it never is.
    full_from: usize,
    /// The last commit that was acknowledged as being on disk.
    durable: AtomicU64,
    /// The last commit that was begun.
    begun: AtomicU64,
    /// Where copies of the data directory are made after each operation, and from where.
    copied: Option<(PathBuf, PathBuf)>,
    checked: Mutex<Vec<u64>>,
}

impl Fate {
    fn before(&self) -> io::Result<()> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        if self.full_from > 0 && number >= self.full_from {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Looks at what a killed process would leave now.
    fn after(&self) {
        let Some((from, to)) = &self.copied else {
            return;
        };
        copy(from, to);
        let found = state(&RedbStore::open(to, CACHE).unwrap());
        let durable = self.durable.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        assert!(
            durable <= found && found <= begun,
            "{found} commits, {durable} were acknowledged and {begun} begun"
        );
        self.checked.lock().unwrap().push(found);
    }
}

#[derive(Debug)]
struct Recorder {
    file: BlockFile,
    fate: Arc<Fate>,
}

impl StorageBackend for Recorder {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fate.before()?;
        self.file.set_len(len)?;
        self.fate.after();
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fate.before()?;
        self.file.sync_data()?;
        self.fate.after();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fate.before()?;
        self.file.write(offset, data)?;
        self.fate.after();
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// How many commits a store holds. Each of them is there wholly, and none is missing between.
fn state(store: &RedbStore) -> u64 {
    let snapshot = store.snapshot().unwrap();
    let mut found = 0;
    for number in 1..=COMMITS {
        let row = snapshot.get(Table::Undo, &number.to_be_bytes()).unwrap();
        let body = snapshot.body(&hash(number)).unwrap();
        assert_eq!(row.is_some(), body.is_some(), "half of commit {number}");
        if row.is_some() {
            assert_eq!(found, number - 1, "commit {number} without its parent");
            assert_eq!(body.unwrap(), body_of(number));
            found = number;
        }
    }
    found
}

fn hash(number: u64) -> BlockHash {
    BlockHash([u8::try_from(number).unwrap(); 32])
}

fn body_of(number: u64) -> Vec<u8> {
    vec![u8::try_from(number).unwrap(); 5_000]
}

/// A first start, then commits. The third and the fourth need not be on disk.
fn story(dir: &Path, fate: &Arc<Fate>) -> Result<(), StoreError> {
    let wrap = |file| Recorder {
        file,
        fate: Arc::clone(fate),
    };
    let store = RedbStore::open_over(dir, CACHE, wrap)?;
    for number in 1..=COMMITS {
        fate.begun.store(number, Ordering::SeqCst);
        let mut batch = Batch::default();
        batch.put(Table::Undo, number.to_be_bytes(), vec![7; 9_000]);
        batch.put(Table::Meta, "last", number.to_be_bytes());
        batch.bodies.push((hash(number), body_of(number)));
        if number == 3 || number == 4 {
            store.commit_lazily(&batch)?;
        } else {
            store.commit(&batch)?;
            fate.durable.store(number, Ordering::SeqCst);
        }
    }
    Ok(())
}

#[test]
fn a_process_that_ends_at_any_write_leaves_a_store_that_opens() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let fate = Arc::new(Fate {
        copied: Some((dir.clone(), home.path().join("left"))),
        ..Fate::default()
    });
    story(&dir, &fate).unwrap();
    let checked = fate.checked.lock().unwrap();
    assert!(checked.len() > 60, "{} moments", checked.len());
    for number in [0, 1, 2, 5, COMMITS] {
        assert!(checked.contains(&number), "no moment with {number} commits");
    }
}

#[test]
fn a_disk_that_is_full_from_any_write_on_leaves_a_store_that_opens() {
    let mut failures = 0;
    for full_from in 1.. {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let fate = Arc::new(Fate {
            full_from,
            ..Fate::default()
        });
        let told = story(&dir, &fate);
        // There is room again.
        let store = RedbStore::open(&dir, CACHE).unwrap();
        let found = state(&store);
        assert!(found >= fate.durable.load(Ordering::SeqCst));
        assert!(found <= fate.begun.load(Ordering::SeqCst));
        let mut batch = Batch::default();
        batch.put(Table::Meta, "more", "and more");
        batch.bodies.push((hash(9), body_of(9)));
        store.commit(&batch).unwrap();
        assert_eq!(state(&store), found);
        if told.is_ok() {
            break;
        }
        failures += 1;
    }
    assert!(failures > 40, "{failures} moments");
}
