//! What a long reorganisation holds in memory and does in one event has limits, whatever its depth.

use std::sync::Arc;

use pithead_core::chain::{Budget, ReorganisationLimits};
use pithead_core::node::BlockVerdict;
use pithead_core::store::Store;
use pithead_testkit::key;
use pithead_testkit::nodes::{
    NOW, assert_equals_replay, branch, empty, file, give, give_all, memory, open, tip,
};

use super::{Mortal, go_on, paying};

#[test]
fn memory_and_pieces_do_not_grow_with_the_depth() {
    let file = file();
    let genesis = file.check().unwrap();
    let limits = ReorganisationLimits {
        at_once: Budget {
            blocks: 12,
            bytes: 1 << 20,
        },
        piece: Budget {
            blocks: 4,
            bytes: 16 << 10,
        },
    };
    let mut largest = Vec::new();
    for depth in [10, 40] {
        let mortal = Mortal::new(&memory(), usize::MAX);
        let store: Arc<dyn Store> = mortal.clone();
        let mut node = open(&store, &genesis, NOW).with_reorganisations(limits);
        let a = branch(&file, &[], &key(6).address, &paying(depth, 0));
        let b = branch(&file, &[], &key(7).address, &paying(depth + 1, 1));
        give_all(&mut node, &a, NOW);
        let a_block = mortal.largest();
        give_all(&mut node, &b, NOW);
        go_on(&mut node);
        assert_equals_replay(&node, &genesis, &b, NOW);
        let most = mortal.largest();
        let bound = 20 * a_block;
        assert!(most <= bound, "{most} bytes in one commit, at most {bound}");
        largest.push(most);
    }
    assert!(largest[1] < 2 * largest[0], "{largest:?}");
}

#[test]
fn bytes_end_a_piece_as_well() {
    let file = file();
    let genesis = file.check().unwrap();
    let a = branch(&file, &[], &key(6).address, &paying(10, 0));
    let b = branch(&file, &[], &key(7).address, &paying(11, 1));
    // The limit in bytes, and the changes of one block on top: rows have a tag and a kind each.
    let bytes = 8_192;
    let limits = ReorganisationLimits {
        at_once: Budget {
            blocks: usize::MAX,
            bytes,
        },
        piece: Budget {
            blocks: usize::MAX,
            bytes,
        },
    };
    let mortal = Mortal::new(&memory(), usize::MAX);
    let store: Arc<dyn Store> = mortal.clone();
    let mut node = open(&store, &genesis, NOW).with_reorganisations(limits);
    give_all(&mut node, &a, NOW);
    let a_block = mortal.largest();
    give_all(&mut node, &b, NOW);
    go_on(&mut node);
    assert_equals_replay(&node, &genesis, &b, NOW);
    let most = mortal.largest();
    let bound = bytes + 2 * a_block;
    assert!(most <= bound, "{most} bytes in one commit, at most {bound}");
}

#[test]
fn the_limits_of_a_node_count_blocks() {
    let limits = ReorganisationLimits::default();
    assert_eq!(
        (limits.at_once.blocks, limits.at_once.bytes),
        (256, 32 << 20)
    );
    assert_eq!((limits.piece.blocks, limits.piece.bytes), (64, 8 << 20));
    let file = file();
    let genesis = file.check().unwrap();
    // Between branches of equal blocks the way is odd: 255 blocks are gone at once, 257 are not.
    for (down, is_long) in [(127, false), (128, true)] {
        let a = branch(&file, &[], &key(6).address, &empty(down));
        let b = branch(&file, &[], &key(7).address, &empty(down + 1));
        let mut node = open(&memory(), &genesis, NOW);
        give_all(&mut node, &a, NOW);
        give_all(&mut node, &b[..down], NOW);
        assert_eq!(tip(&node), a[down - 1].header.hash());
        let verdict = give(&mut node, &b[down], NOW).unwrap();
        assert_eq!(verdict == BlockVerdict::Side, is_long);
        assert_eq!(node.chain().reorganising(), is_long.then_some((256, 257)));
        go_on(&mut node);
        assert_eq!(tip(&node), b[down].header.hash());
    }
}
