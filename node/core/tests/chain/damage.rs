//! Damaged files: each block of the database, and each part of the body files, is damaged once, on
//! a small chain. A node that starts on it, and `--verify`, either give right answers or end with
//! the error that names the damage and the way out. They never panic.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use pithead_consensus::{Block, Genesis};
use pithead_core::chain::{VerifyError, check_identity, verify_stored};
use pithead_core::store::{
    Batch, KeyValue, MemoryStore, RedbStore, Snapshot, Store, StoreError, StoreReader, Table,
};
use pithead_testkit::nodes::{NOW, file, give, open};

use super::reorganisation::two_branches;

const CACHE: usize = 1 << 20;
const BLOCK: usize = 4_096;

/// A chain on disk, and everything that it holds.
struct Chain {
    home: tempfile::TempDir,
    genesis: Genesis,
    content: Vec<Vec<KeyValue>>,
    bodies: Vec<Block>,
    /// A block that the chain does not hold yet.
    next: Block,
}

/// Every row of every table.
fn content(from: &dyn Snapshot) -> Result<Vec<Vec<KeyValue>>, StoreError> {
    let all = Table::ALL.into_iter();
    all.map(|table| from.range(table, &[], &[0xff; 128], usize::MAX, false))
        .collect()
}

impl Chain {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let genesis = file().check().unwrap();
        let (mut blocks, side) = two_branches();
        let next = blocks.pop().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::open(&home.path().join("sound"), CACHE).unwrap());
        let mut node = open(&store, &genesis, NOW);
        for block in blocks.iter().chain(&side[..1]) {
            give(&mut node, block, NOW).unwrap();
        }
        let content = content(store.snapshot().unwrap().as_ref()).unwrap();
        Self {
            home,
            genesis,
            content,
            bodies: blocks,
            next,
        }
    }

    /// A copy of the data directory in which `damage` changed the bytes of one file.
    fn damaged(&self, name: &str, damage: &dyn Fn(&mut Vec<u8>)) -> std::path::PathBuf {
        let (from, to) = (self.home.path().join("sound"), self.home.path().join("bad"));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(to.join("blocks")).unwrap();
        for file in ["chain.redb", "blocks/bodies-00000.dat", "pending.log"] {
            let mut bytes = fs::read(from.join(file)).unwrap();
            if file == name {
                damage(&mut bytes);
            }
            fs::write(to.join(file), bytes).unwrap();
        }
        to
    }

    fn size_of(&self, name: &str) -> usize {
        let path = self.home.path().join("sound").join(name);
        fs::metadata(path).unwrap().len() as usize
    }

    /// Starts a node on the folder, asks for everything, and gives it the next block. Returns
    /// whether the damage was reported; if it was not, every answer was right.
    fn start(&self, dir: &Path) -> bool {
        let ran = catch_unwind(AssertUnwindSafe(|| self.try_start(dir)));
        is_reported(ran.expect("no panic"))
    }

    fn try_start(&self, dir: &Path) -> Result<(), StoreError> {
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(dir, CACHE)?);
        let snapshot = store.snapshot()?;
        let found = content(snapshot.as_ref())?;
        assert!(found == self.content, "a wrong answer");
        for block in &self.bodies {
            let hash = block.header.hash();
            let body = pithead_core::store::schema::expect_block(snapshot.as_ref(), &hash)?;
            assert_eq!(&body, block, "a wrong body");
        }
        let mut chain = pithead_core::chain::Chain::open(store, self.genesis.clone(), dir)?;
        let finality = pithead_core::finality::FinalityView::of_genesis(chain.params());
        let context = pithead_core::chain::AcceptContext {
            now: NOW,
            finality: &finality,
        };
        match chain.accept_block(self.next.clone(), context, &mut |_| {}) {
            Ok(_) => Ok(()),
            Err(pithead_core::chain::AcceptError::Internal(error)) => Err(error),
            Err(other) => panic!("a wrong verdict: {other}"),
        }
    }

    /// Verifies the folder. Returns whether damage was reported.
    fn verify(&self, dir: &Path) -> bool {
        let before = listing(dir);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let reader = StoreReader::open(dir, CACHE)?;
            let stored = reader.snapshot()?;
            check_identity(stored.as_ref(), &self.genesis.params.genesis_hash, dir)?;
            let scratch = Arc::new(MemoryStore::new());
            match verify_stored(stored.as_ref(), &self.genesis, scratch, |_, _| {}) {
                Ok(_) => Ok(()),
                Err(VerifyError::Store(error)) => Err(error),
                Err(other) => Err(StoreError::Damaged(other.to_string())),
            }
        }));
        let reported = is_reported(ran.expect("no panic"));
        assert!(listing(dir) == before, "--verify changed the data");
        reported
    }
}

fn is_reported(result: Result<(), StoreError>) -> bool {
    match result {
        Ok(()) => false,
        Err(
            StoreError::Damaged(_)
            | StoreError::WrongSchema { .. }
            | StoreError::WrongGenesis { .. }
            | StoreError::MissingHalf { .. },
        ) => true,
        Err(other) => panic!("not an error of damage: {other:?}"),
    }
}

/// Every file in a folder, with its bytes.
fn listing(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(listing(&path));
        } else {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn each_zeroed_block_of_the_database_is_harmless_or_reported() {
    let chain = Chain::new();
    let name = "chain.redb";
    let (mut reported, mut verified) = (0, 0);
    let count = chain.size_of(name) / BLOCK;
    for block in 0..count {
        let bad = chain.damaged(name, &|bytes| {
            bytes[block * BLOCK..(block + 1) * BLOCK].fill(0);
        });
        verified += u32::from(chain.verify(&bad));
        reported += u32::from(chain.start(&bad));
    }
    // Most blocks of a small database are free; each table has one at least.
    assert!(reported >= 12, "{reported} of {count}");
    assert!(verified >= reported, "{verified} of {count}, {reported}");
}

#[test]
fn each_flipped_bit_of_a_sample_is_harmless_or_reported() {
    let chain = Chain::new();
    let name = "chain.redb";
    let size = chain.size_of(name);
    let sound = fs::read(chain.home.path().join("sound").join(name)).unwrap();
    let (mut tried, mut reported) = (0, 0);
    // A bit of the first byte of each block, where the database keeps its structure; and bits all
    // over the header of the database, which is the only block that is written in place.
    let header = 2 * BLOCK..2 * BLOCK + 512;
    let is_tried =
        |at: &usize| at.is_multiple_of(BLOCK) || (header.contains(at) && at.is_multiple_of(3));
    for byte in (0..size).filter(is_tried) {
        let is_free = sound[byte / BLOCK * BLOCK..][..BLOCK]
            .iter()
            .all(|byte| *byte == 0);
        if is_free {
            continue;
        }
        let bit = byte % 8;
        let bad = chain.damaged(name, &|bytes| bytes[byte] ^= 1 << bit);
        tried += 1;
        chain.verify(&bad);
        reported += u32::from(chain.start(&bad));
    }
    assert!(tried > 150 && reported >= 20, "{reported} of {tried}");
}

#[test]
fn a_database_that_is_cut_off_anywhere_is_reported() {
    let chain = Chain::new();
    let name = "chain.redb";
    let size = chain.size_of(name);
    for len in (0..size).step_by(16 * BLOCK).chain([size - 1]) {
        let bad = chain.damaged(name, &|bytes| bytes.truncate(len));
        assert!(chain.verify(&bad), "cut to {len} of {size}");
        assert!(chain.start(&bad), "cut to {len} of {size}");
    }
}

#[test]
fn each_damaged_byte_of_a_body_is_reported() {
    let chain = Chain::new();
    let name = "blocks/bodies-00000.dat";
    for byte in (0..chain.size_of(name)).step_by(37) {
        let bad = chain.damaged(name, &|bytes| bytes[byte] ^= 0x10);
        assert!(chain.verify(&bad), "byte {byte}");
        // A start reads the bodies of the best chain only.
        chain.start(&bad);
    }
}

#[test]
fn damage_that_a_running_store_meets_stays_its_answer() {
    let chain = Chain::new();
    let dir = chain.damaged("chain.redb", &|_| {});
    // Without a cache, each answer is read from the file.
    let store = RedbStore::open(&dir, 0).unwrap();
    let mut bytes = fs::read(dir.join("chain.redb")).unwrap();
    for block in bytes.chunks_mut(BLOCK).skip(3) {
        block.fill(0xee);
    }
    fs::write(dir.join("chain.redb"), bytes).unwrap();
    let read = || content(store.snapshot()?.as_ref()).map(drop);
    let error = read();
    assert!(matches!(error, Err(StoreError::Damaged(_))), "{error:?}");
    let mut batch = Batch::default();
    batch.put(Table::Meta, "a", "b");
    let error = store.commit(&batch).unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
    assert!(error.to_string().contains("restore a backup"), "{error}");
}
