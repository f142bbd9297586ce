//! Long reorganisations: they are worked out piece by piece, in bounded memory, between other
//! events. Readers see all of one or nothing; a crash leaves all of it, nothing, or what goes on at
//! the next start.

mod atomic;
mod limits;
mod meanwhile;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use pithead_consensus::Block;
use pithead_core::chain::{Budget, ReorganisationLimits};
use pithead_core::node::{Effect, Event, Node};
use pithead_core::store::{Batch, KeyValue, PendingRecord, Snapshot, Store, StoreError, Table};
use pithead_testkit::nodes::{NOW, Plan, best_chain_state, file, give_all, memory, open, pay, tip};

/// Limits so low that a branch of a few blocks is long: one block in each piece, and some rows in
/// each commit that moves them.
pub(crate) const TINY: ReorganisationLimits = ReorganisationLimits {
    at_once: Budget {
        blocks: 1,
        bytes: usize::MAX,
    },
    piece: Budget {
        blocks: 1,
        bytes: 4_096,
    },
};

/// Opens a node with the limits [`TINY`].
pub(crate) fn open_tiny(store: &Arc<dyn Store>) -> Node {
    open(store, &file().check().unwrap(), NOW).with_reorganisations(TINY)
}

/// Lets a node do what it put off; returns the effects and how many events it took.
pub(crate) fn go_on(node: &mut Node) -> (Vec<Effect>, usize) {
    let (mut all, mut events) = (Vec::new(), 0);
    while node.has_more() {
        all.extend(node.handle(Event::Continue, NOW).1);
        events += 1;
        assert!(events < 100_000, "it ends");
    }
    (all, events)
}

/// How a store failed, and what it committed.
#[derive(Default)]
pub(crate) struct Log {
    /// Commits that are still to succeed.
    left: AtomicUsize,
    /// Bytes of keys and values of the largest commit.
    largest: AtomicUsize,
    commits: AtomicUsize,
}

/// A store whose process dies after some commits.
pub(crate) struct Mortal {
    inner: Arc<dyn Store>,
    log: Log,
}

impl Mortal {
    pub(crate) fn new(inner: &Arc<dyn Store>, commits: usize) -> Arc<Self> {
        let log = Log::default();
        log.left.store(commits, Ordering::Relaxed);
        let inner = Arc::clone(inner);
        Arc::new(Self { inner, log })
    }

    pub(crate) fn largest(&self) -> usize {
        self.log.largest.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn commits(&self) -> usize {
        self.log.commits.load(Ordering::Relaxed)
    }
}

impl Store for Mortal {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.log.left.load(Ordering::Relaxed) == 0 {
            return Err(StoreError::Database("the process dies here".to_owned()));
        }
        self.log.left.fetch_sub(1, Ordering::Relaxed);
        self.log.commits.fetch_add(1, Ordering::Relaxed);
        let bytes = batch.changes.iter().map(|((_, key), value)| {
            let value = value.as_ref().map_or(0, Vec::len);
            key.len() + value
        });
        self.log.largest.fetch_max(bytes.sum(), Ordering::Relaxed);
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

/// What a replay of these blocks leaves in every table of the best chain.
pub(crate) fn state_after(blocks: &[Block]) -> Vec<(Table, Vec<KeyValue>)> {
    let store = memory();
    let mut node = open(&store, &file().check().unwrap(), NOW);
    give_all(&mut node, blocks, NOW);
    best_chain_state(&store)
}

/// Blocks with a payment each.
pub(crate) fn paying(count: usize, from: usize) -> Vec<Plan> {
    let file = file();
    (0..count)
        .map(|sequence| (vec![pay(&file, from, sequence as u64, 4)], 2))
        .collect()
}

/// A node on `a` that has begun to switch to `b`, which is longer by one block.
pub(crate) fn begun(store: &Arc<dyn Store>, a: &[Block], b: &[Block]) -> Node {
    let mut node = open_tiny(store);
    give_all(&mut node, a, NOW);
    give_all(&mut node, b, NOW);
    assert!(node.chain().reorganising().is_some());
    assert_eq!(tip(&node), a[a.len() - 1].header.hash());
    node
}
