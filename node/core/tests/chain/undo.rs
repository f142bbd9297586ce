//! How far back blocks can be undone once records were dropped.

use std::sync::Arc;

use pithead_consensus::{Block, Height};
use pithead_core::chain::{AcceptError, UNDO_BLOCKS};
use pithead_core::node::{BlockVerdict, Effect};
use pithead_core::store::{Batch, Store, Table, schema};
use pithead_testkit::key;
use pithead_testkit::nodes::{GENESIS_TIME, NOW, branch, file, give, give_all, memory, open, tip};

use crate::long_reorganisation::go_on;

/// A chain of more blocks than can be undone, and two that are shorter and have more work: their
/// blocks come faster, so that each takes more hashes.
#[test]
fn what_was_pruned_stays_out_of_reach_on_a_shorter_chain() {
    let mut file = file();
    file.time = GENESIS_TIME - 100_000;
    file.half_life_secs = 10 * file.block_interval_secs;
    let genesis = file.check().unwrap();
    let length = usize::try_from(UNDO_BLOCKS).unwrap() + 10;
    let plans = vec![(Vec::new(), file.block_interval_secs); length];
    let long = branch(&file, &[], &key(6).address, &plans);
    let quick = |below: &[Block], owner: usize, count: usize| {
        let plans = vec![(Vec::new(), 0); count];
        let own = branch(&file, below, &key(owner).address, &plans);
        [below.to_vec(), own].concat()
    };
    let store = memory();
    let mut node = open(&store, &genesis, NOW);
    give_all(&mut node, &long, NOW);
    let pruned =
        |store: &Arc<dyn Store>| schema::pruned(store.snapshot().unwrap().as_ref()).unwrap();
    assert_eq!(pruned(&store), Height(10));
    // Fork above what was pruned: the node follows.
    let short = quick(&long[..1_000], 7, 100);
    give_all(&mut node, &short[1_000..], NOW);
    go_on(&mut node);
    assert_eq!(tip(&node), short[short.len() - 1].header.hash());
    assert_eq!(pruned(&store), Height(10), "it never goes down");
    // A version without that record finds out from the records that are there.
    drop(node);
    let mut old = Batch::default();
    old.delete(Table::Meta, schema::META_PRUNED);
    store.commit(&old).unwrap();
    let mut node = open(&store, &genesis, NOW);
    assert_eq!(pruned(&store), Height(10));
    // A fork at the last block that can be kept is followed; one block below, it is refused.
    let deepest = quick(&long[..10], 3, 112);
    let too_deep = quick(&long[..9], 2, 130);
    let tip_before = tip(&node);
    let mut refused = 0;
    for block in &too_deep[9..] {
        match give(&mut node, block, NOW) {
            Ok(verdict) => assert_eq!(verdict, BlockVerdict::Side),
            Err(AcceptError::TooDeep { depth, reach }) => {
                assert_eq!((depth, reach), (1_091, 1_090));
                refused += 1;
                // Served again, it is known.
                let again = give(&mut node, block, NOW);
                assert!(matches!(again, Err(AcceptError::Known { .. })), "{again:?}");
            }
            Err(error) => panic!("{error}"),
        }
        let (effects, _) = go_on(&mut node);
        assert!(
            !effects
                .iter()
                .any(|effect| matches!(effect, Effect::Fatal(_)))
        );
    }
    assert!(refused > 1, "the branch became the better one");
    assert_eq!(tip(&node), tip_before);
    // A start looks at it again and leaves it.
    drop(node);
    let mut node = open(&store, &genesis, NOW);
    go_on(&mut node);
    assert_eq!(tip(&node), tip_before);
    give_all(&mut node, &deepest[10..], NOW);
    go_on(&mut node);
    assert_eq!(tip(&node), deepest[deepest.len() - 1].header.hash());
}
