//! Readers see all of a long reorganisation or nothing, and so does the next start after a crash.

use std::sync::Arc;

use pithead_consensus::{Block, Hash256};
use pithead_core::chain::{AcceptError, verify};
use pithead_core::node::{BlockVerdict, Effect, Event};
use pithead_core::store::schema::BlockStatus;
use pithead_core::store::staged::{StagedView, stage};
use pithead_core::store::{Batch, MemoryStore, RedbStore, Snapshot, Store, Table, schema};
use pithead_testkit::chain::mine;
use pithead_testkit::key;
use pithead_testkit::nodes::{
    NOW, assert_equals_replay, best_chain_state, branch, file, give, give_all, memory, stores,
    table, tip,
};

use super::{Mortal, begun, go_on, open_tiny, paying, state_after};
use crate::reorganisation::{permutation, two_branches};

#[test]
fn readers_see_all_of_a_long_reorganisation_or_nothing() {
    let genesis = file().check().unwrap();
    let (a, b) = two_branches();
    let (before, after) = (state_after(&a), state_after(&b));
    for (store, _dir) in stores() {
        let mut node = open_tiny(&store);
        give_all(&mut node, &a, NOW);
        give_all(&mut node, &b[..3], NOW);
        assert_eq!(give(&mut node, &b[3], NOW).unwrap(), BlockVerdict::Side);
        assert_eq!(node.chain().reorganising(), Some((1, 7)));
        let mut switched = 0;
        while node.has_more() {
            let building = node.chain().reorganising().is_some();
            assert!(
                best_chain_state(&store)
                    == if building {
                        before.clone()
                    } else {
                        after.clone()
                    }
            );
            let tip_seen = schema::tip_entry(store.snapshot().unwrap().as_ref()).unwrap();
            assert_eq!(tip_seen.hash(), tip(&node));
            let (_, effects) = node.handle(Event::Continue, NOW);
            switched += effects
                .iter()
                .filter(|effect| {
                    matches!(
                        effect,
                        Effect::TipChanged {
                            disconnected: 3,
                            ..
                        }
                    )
                })
                .count();
        }
        assert_eq!(switched, 1);
        assert!(
            table(&store, Table::Staged).is_empty(),
            "nothing is left over"
        );
        assert_equals_replay(&node, &genesis, &b, NOW);
        let report = verify(store.as_ref(), &genesis, |_, _| {}).unwrap();
        assert_eq!((report.blocks, report.transactions), (4, 4));
    }
}

#[test]
fn blocks_in_every_order_end_in_one_state_piece_by_piece_too() {
    let (a, b) = two_branches();
    let expected = state_after(&b);
    let all = [a, b.clone()].concat();
    // Every eleventh of the 5,040 orders; between two blocks there is time for 0 to 3 pieces.
    for number in (0..5_040).step_by(11) {
        let store = memory();
        let mut node = open_tiny(&store);
        for (index, block) in permutation(&all, number).iter().enumerate() {
            give_all(&mut node, std::slice::from_ref(block), NOW);
            for _ in 0..(number / 11 + index) % 4 {
                node.handle(Event::Continue, NOW);
            }
        }
        go_on(&mut node);
        assert_eq!(tip(&node), b[3].header.hash(), "order {number}");
        assert!(best_chain_state(&store) == expected, "order {number}");
    }
}

#[test]
fn a_crash_at_any_commit_leaves_a_chain_that_goes_on() {
    let (a, b) = two_branches();
    let (before, after) = (state_after(&a), state_after(&b));
    let mut resumed = 0;
    for commits in 0.. {
        let (store, _dir) = stores().remove(0);
        give_all(&mut open_tiny(&store), &a, NOW);
        let mortal = Mortal::new(&store, commits);
        let dying: Arc<dyn Store> = mortal.clone();
        let mut node = open_tiny(&dying);
        let mut died = false;
        for block in &b {
            died |= matches!(give(&mut node, block, NOW), Err(AcceptError::Internal(_)));
        }
        while node.has_more() && !died {
            let (_, effects) = node.handle(Event::Continue, NOW);
            died = effects
                .iter()
                .any(|effect| matches!(effect, Effect::Fatal(_)));
        }
        drop(node);
        let found = best_chain_state(&store);
        assert!(found == before || found == after, "after {commits} commits");
        // The next start goes on where the rows say.
        let mut node = open_tiny(&store);
        let done = node.chain().reorganising().map_or(0, |(done, _)| done);
        resumed = resumed.max(done);
        for block in &b {
            // Those that were stored before the crash are known.
            let _ = give(&mut node, block, NOW);
        }
        go_on(&mut node);
        assert!(best_chain_state(&store) == after, "after {commits} commits");
        assert!(table(&store, Table::Staged).is_empty());
        if !died {
            assert_eq!(resumed, 6, "it went on with six blocks of seven done");
            return;
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_files_that_go_on() {
    let genesis = file().check().unwrap();
    let (a, b) = two_branches();
    for pieces in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let reopen =
            || -> Arc<dyn Store> { Arc::new(RedbStore::open(dir.path(), 4 << 20).unwrap()) };
        let store = reopen();
        let mut node = open_tiny(&store);
        give_all(&mut node, &[a.clone(), b.clone()].concat(), NOW);
        for _ in 0..pieces {
            node.handle(Event::Continue, NOW);
        }
        let was_done = !node.has_more();
        drop(node);
        drop(store);
        // --verify reads the same chain that a node shows.
        let store = reopen();
        verify(store.as_ref(), &genesis, |_, _| {}).unwrap();
        let mut node = open_tiny(&store);
        go_on(&mut node);
        assert_equals_replay(&node, &genesis, &b, NOW);
        if was_done {
            return;
        }
    }
}

fn status_of(store: &Arc<dyn Store>, block: &Block) -> BlockStatus {
    let snapshot = store.snapshot().unwrap();
    let entry = schema::expect_entry(snapshot.as_ref(), &block.header.hash());
    entry.unwrap().status
}

#[test]
fn an_invalid_block_far_along_the_way_leaves_the_chain_as_it_was() {
    let file = file();
    let genesis = file.check().unwrap();
    for (store, _dir) in stores() {
        let a = branch(&file, &[], &key(6).address, &paying(3, 0));
        let good = branch(&file, &[], &key(7).address, &paying(5, 1));
        let mut b = good.clone();
        b[2].commitment.state_root = Hash256([9; 32]);
        b[2].header.merkle_root = b[2].commitment.merkle_root();
        for index in 2..4 {
            b[index].header.prev = b[index - 1].header.hash();
            b[index].header.nonce = 0;
            mine(&mut b[index].header);
        }
        let mut node = begun(&store, &a, &b[..4]);
        let before = best_chain_state(&store);
        let (effects, _) = go_on(&mut node);
        assert!(best_chain_state(&store) == before, "nothing moved");
        let moved =
            |effect: &Effect| matches!(effect, Effect::TipChanged { .. } | Effect::Fatal(_));
        assert!(!effects.iter().any(moved));
        let expected = [
            BlockStatus::Stored,
            BlockStatus::Stored,
            BlockStatus::Invalid,
        ];
        assert_eq!(
            [&b[0], &b[1], &b[2]].map(|block| status_of(&store, block)),
            expected
        );
        assert_eq!(status_of(&store, &b[3]), BlockStatus::Invalid);
        assert!(table(&store, Table::Staged).is_empty());
        // Its sound parent still carries other branches.
        give_all(&mut node, &good[2..], NOW);
        go_on(&mut node);
        assert_equals_replay(&node, &genesis, &good, NOW);
    }
}

#[test]
fn rows_lie_over_their_tables_in_any_range() {
    let keys: Vec<Vec<u8>> = (0..600_u16).map(|key| key.to_be_bytes().to_vec()).collect();
    // Every second key is stored. Of every three, a row sets one and deletes one.
    let store = MemoryStore::new();
    let (mut stored, mut changes, mut whole) =
        (Batch::default(), Batch::default(), Batch::default());
    for (index, key) in keys.iter().enumerate() {
        if index % 2 == 0 {
            stored.put(Table::Accounts, key.clone(), "stored");
            whole.put(Table::Accounts, key.clone(), "stored");
        }
        match index % 3 {
            0 => changes.put(Table::Accounts, key.clone(), "row"),
            1 => changes.delete(Table::Accounts, key.clone()),
            _ => continue,
        }
    }
    let mut staged = Batch::default();
    stage(&changes.changes, &mut staged).unwrap();
    store.commit(&stored).unwrap();
    store.commit(&staged).unwrap();
    let expected = MemoryStore::new();
    expected.commit(&whole).unwrap();
    expected.commit(&changes).unwrap();
    let (snapshot, expected) = (store.snapshot().unwrap(), expected.snapshot().unwrap());
    let view = StagedView(snapshot.as_ref());
    for (from, to) in [(0, 599), (1, 2), (2, 300), (5, 5), (7, 3)] {
        for limit in [0, 1, 2, 255, 256, 257, usize::MAX] {
            for descending in [false, true] {
                let range = |from_where: &dyn Snapshot| {
                    from_where
                        .range(Table::Accounts, &keys[from], &keys[to], limit, descending)
                        .unwrap()
                };
                assert_eq!(range(&view), range(expected.as_ref()));
            }
        }
    }
    for key in &keys {
        let get = |from: &dyn Snapshot| from.get(Table::Accounts, key).unwrap();
        assert_eq!(get(&view), get(expected.as_ref()));
    }
    // Approvals and their like are never part of a reorganisation.
    let mut other = Batch::default();
    other.put(Table::Certificates, "a", "b");
    assert!(stage(&other.changes, &mut Batch::default()).is_err());
}
