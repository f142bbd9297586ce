//! `--verify` finds what was altered in a store: it replays every block from the genesis and
//! compares what it gets with what is stored, so an operator can trust a store that passes.

use std::sync::atomic::{AtomicUsize, Ordering};

use pithead_consensus::{Amount, Block, BlockHash, Encode as _, Genesis, Hash256, Work};
use pithead_core::chain::{VerifyError, verify, verify_stored};
use pithead_core::store::schema::{self, ChainEntry};
use pithead_core::store::{Batch, KeyValue, Snapshot, StoreError, Table};
use pithead_testkit::key;
use pithead_testkit::nodes::{NOW, branch, empty, file, give_all, memory, open};

use super::reorganisation::two_branches;

/// A store with three blocks, and what a replay makes of it once it is altered.
struct Altered {
    genesis: Genesis,
    blocks: Vec<Block>,
}

impl Altered {
    fn new() -> Self {
        Self {
            genesis: file().check().unwrap(),
            blocks: two_branches().0,
        }
    }

    /// The hash of the second block.
    fn second(&self) -> BlockHash {
        self.blocks[1].header.hash()
    }

    /// What a replay says of a store that was sound until this alteration.
    fn error(&self, alter: impl Fn(&dyn Snapshot, &mut Batch)) -> VerifyError {
        let store = memory();
        give_all(&mut open(&store, &self.genesis, NOW), &self.blocks, NOW);
        verify(store.as_ref(), &self.genesis, |_, _| {}).unwrap();
        let mut batch = Batch::default();
        alter(store.snapshot().unwrap().as_ref(), &mut batch);
        store.commit(&batch).unwrap();
        verify(store.as_ref(), &self.genesis, |_, _| {}).unwrap_err()
    }

    /// The same for a change to the second block's entry.
    fn entry_error(&self, change: impl Fn(&mut ChainEntry)) -> VerifyError {
        let hash = self.second();
        self.error(|from, batch| {
            let mut entry = schema::expect_entry(from, &hash).unwrap();
            change(&mut entry);
            batch.put(Table::Entries, hash.0, entry.encode());
        })
    }
}

#[test]
fn a_replay_finds_altered_accounts() {
    let altered = Altered::new();
    let error = altered.error(|from, batch| {
        let address = key(4).address;
        let mut account = schema::account(from, &address).unwrap();
        account.balance = account
            .balance
            .checked_add(Amount::from_grains(1).unwrap())
            .unwrap();
        batch.put(Table::Accounts, address.0, account.encode());
    });
    assert!(
        matches!(error, VerifyError::AccountsDiffer { .. }),
        "{error}"
    );
    let error = altered.error(|_, batch| batch.delete(Table::Accounts, key(4).address.0));
    assert!(
        matches!(error, VerifyError::AccountsDiffer { .. }),
        "{error}"
    );
}

#[test]
fn a_replay_finds_altered_entries() {
    let altered = Altered::new();
    let error = altered.entry_error(|entry| entry.outcome.state_root = Hash256([9; 32]));
    assert!(
        matches!(
            error,
            VerifyError::Differs {
                what: "state root",
                ..
            }
        ),
        "{error}"
    );
    let error = altered.entry_error(|entry| entry.outcome.supply = 0);
    assert!(matches!(error, VerifyError::Differs { .. }), "{error}");
    let error = altered.entry_error(|entry| entry.chain_work = Work::ZERO);
    assert!(
        matches!(
            error,
            VerifyError::Differs {
                what: "chain work",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_replay_finds_altered_and_missing_blocks() {
    let altered = Altered::new();
    let error = altered.error(|_, batch| {
        let mut block = altered.blocks[1].clone();
        block.transactions.clear();
        batch.bodies.push((altered.second(), block.encode()));
    });
    assert!(matches!(error, VerifyError::BadBlock { .. }), "{error}");
    let error = altered.error(|_, batch| batch.delete(Table::BestChain, 2u64.to_be_bytes()));
    assert!(
        matches!(error, VerifyError::Store(StoreError::Damaged(_))),
        "{error}"
    );
}

#[test]
fn every_altered_missing_or_added_row_is_found() {
    let genesis = file().check().unwrap();
    let (blocks, side) = two_branches();
    let store = memory();
    let mut node = open(&store, &genesis, NOW);
    give_all(&mut node, &blocks, NOW);
    give_all(&mut node, &side[..2], NOW);
    verify(store.as_ref(), &genesis, |_, _| {}).unwrap();
    let mut rows = 0;
    for table in Table::ALL {
        let snapshot = store.snapshot().unwrap();
        for (key, value) in snapshot
            .range(table, &[], &[0xff; 128], usize::MAX, false)
            .unwrap()
        {
            rows += 1;
            for (other, change) in alterations(table, &key, &value) {
                let mut batch = Batch::default();
                batch.changes.insert((table, other.clone()), change.clone());
                store.commit(&batch).unwrap();
                let found = verify(store.as_ref(), &genesis, |_, _| {});
                assert!(found.is_err(), "{table:?} {other:?}: {change:?}");
                batch.changes.insert((table, other), None);
                batch
                    .changes
                    .insert((table, key.clone()), Some(value.clone()));
                store.commit(&batch).unwrap();
            }
        }
    }
    assert!(rows > 60, "{rows}");
    // A row in a table that has none.
    let snapshot = store.snapshot().unwrap();
    for table in Table::ALL {
        let is_empty = |table| {
            let rows = snapshot.range(table, &[], &[0xff; 128], 1, false);
            rows.unwrap().is_empty()
        };
        if is_empty(table) {
            let mut batch = Batch::default();
            batch.put(table, 2u64.to_be_bytes(), [1; 40]);
            store.commit(&batch).unwrap();
            let found = verify(store.as_ref(), &genesis, |_, _| {});
            assert!(found.is_err(), "{table:?}");
            batch.delete(table, 2u64.to_be_bytes());
            store.commit(&batch).unwrap();
        }
    }
    verify(store.as_ref(), &genesis, |_, _| {}).unwrap();
}

/// What may happen to a row: its value differs by a bit, it is gone, or there is another one.
fn alterations(table: Table, key: &[u8], value: &[u8]) -> Vec<KeyChange> {
    let mut altered = value.to_vec();
    match altered.last_mut() {
        Some(last) => *last ^= 1,
        None => altered.push(1),
    }
    let mut other = key.to_vec();
    *other.last_mut().unwrap() ^= 0x55;
    let altered = (key.to_vec(), Some(altered));
    let missing = (key.to_vec(), None);
    let added = (other, Some(value.to_vec()));
    match (table, key) {
        // These two are compared by `check_identity`.
        (Table::Meta, schema::META_SCHEMA | schema::META_GENESIS) => vec![],
        // Nothing else tells which ends of side branches are remembered.
        (Table::Meta, schema::META_LEAVES) => vec![altered],
        (Table::Meta, _) => vec![altered, missing],
        _ => vec![altered, missing, added],
    }
}

type KeyChange = (Vec<u8>, Option<Vec<u8>>);

/// A snapshot that remembers how many rows were asked for at most.
struct Counted<'a>(&'a dyn Snapshot, AtomicUsize);

impl Snapshot for Counted<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        descending: bool,
    ) -> Result<Vec<KeyValue>, StoreError> {
        self.1.fetch_max(limit, Ordering::Relaxed);
        self.0.range(table, from, to, limit, descending)
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.body(hash)
    }
}

#[test]
fn a_replay_keeps_the_state_alone_and_reads_a_bounded_number_of_rows() {
    let genesis = file().check().unwrap();
    let store = memory();
    let blocks = branch(&file(), &[], &key(6).address, &empty(1_100));
    give_all(&mut open(&store, &genesis, NOW), &blocks, NOW);
    let snapshot = store.snapshot().unwrap();
    let counted = Counted(snapshot.as_ref(), AtomicUsize::new(0));
    let scratch = memory();
    verify_stored(&counted, &genesis, scratch.clone(), |_, _| {}).unwrap();
    assert_eq!(counted.1.load(Ordering::Relaxed), 1_000);
    let kept = scratch.snapshot().unwrap();
    for table in Table::ALL {
        let rows = |from: &dyn Snapshot| {
            from.range(table, &[], &[0xff; 128], usize::MAX, false)
                .unwrap()
        };
        match table {
            Table::Accounts | Table::StateNodes | Table::StaleNodes => {
                assert_eq!(rows(kept.as_ref()), rows(snapshot.as_ref()), "{table:?}");
            }
            // What a new store has; the values are those of the genesis.
            Table::Entries | Table::BestChain => assert_eq!(rows(kept.as_ref()).len(), 1),
            Table::Meta => {}
            _ => assert!(rows(kept.as_ref()).is_empty(), "{table:?}"),
        }
    }
}

#[test]
fn a_replay_drops_what_the_node_has_dropped() {
    let genesis = file().check().unwrap();
    let store = memory();
    let blocks = two_branches().0;
    give_all(&mut open(&store, &genesis, NOW), &blocks, NOW);
    // The first two blocks can't be undone any more: with their undo records go the nodes of the
    // state tree that they replaced.
    let snapshot = store.snapshot().unwrap();
    let mut dropped = Batch::default();
    for block in &blocks[..2] {
        dropped.delete(Table::Undo, block.header.hash().0);
    }
    let second = schema::expect_entry(snapshot.as_ref(), &blocks[1].header.hash()).unwrap();
    let above = (second.outcome.tree_version + 1).to_be_bytes();
    let stale = snapshot
        .range(Table::StaleNodes, &[], &above, usize::MAX, false)
        .unwrap();
    assert!(!stale.is_empty());
    for (key, _) in &stale {
        dropped.delete(Table::StateNodes, &key[8..]);
        dropped.delete(Table::StaleNodes, key.clone());
    }
    store.commit(&dropped).unwrap();
    let check = || verify(store.as_ref(), &genesis, |_, _| {});
    check().unwrap();
    let pruned = |height: u64| {
        let mut batch = Batch::default();
        batch.put(Table::Meta, schema::META_PRUNED, height.to_le_bytes());
        store.commit(&batch).unwrap();
    };
    pruned(2);
    check().unwrap();
    for height in [1, 3] {
        pruned(height);
        assert!(check().is_err(), "pruned to {height}");
    }
    pruned(2);
    let mut left = Batch::default();
    left.put(Table::StaleNodes, stale[0].0.clone(), Vec::new());
    store.commit(&left).unwrap();
    assert!(check().is_err());
}
