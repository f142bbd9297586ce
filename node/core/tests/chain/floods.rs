//! Blocks in numbers: siblings of the tip, and blocks that can't be judged yet. What they cost is
//! counted in blocks, bytes and reads of the store, and a new tip does not suffer from them.

use std::sync::Arc;

use pithead_consensus::check::NotYet;
use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Block, BlockHash, SignedTransaction, merkle};
use pithead_core::chain::AcceptError;
use pithead_core::node::{BlockVerdict, Event, Node};
use pithead_core::store::schema;
use pithead_core::store::{Store, Table};
use pithead_testkit::chain::mine;
use pithead_testkit::nodes::{
    GENESIS_TIME, NOW, branch, chain_of, empty, file, give, give_all, memory, open, table, tip,
};
use pithead_testkit::watched_store::Watched;
use pithead_testkit::world::World;
use pithead_testkit::{FEE, key};

/// The same block with another extra nonce, mined again.
fn variant(block: &Block, number: u64) -> Block {
    let mut block = block.clone();
    block.commitment.extra_nonce = number.to_le_bytes();
    block.header.merkle_root = block.commitment.merkle_root();
    mine(&mut block.header);
    block
}

/// The same block, mined on another parent.
fn on_parent(block: &Block, prev: BlockHash) -> Block {
    let mut block = block.clone();
    block.header.prev = prev;
    mine(&mut block.header);
    block
}

/// A hash of no block.
fn nowhere(number: usize) -> BlockHash {
    let mut bytes = [0xee; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    BlockHash(bytes)
}

fn stored_on(node: &Node, parent: &BlockHash) -> usize {
    let store = node.chain().store();
    let snapshot = store.snapshot().unwrap();
    let keys = table(store, Table::Entries).into_iter().map(|(key, _)| key);
    keys.map(|key| BlockHash(key.try_into().unwrap()))
        .map(|hash| schema::expect_entry(snapshot.as_ref(), &hash).unwrap())
        .filter(|entry| entry.header.prev == *parent)
        .count()
}

/// A chain of three blocks, and the one after it.
fn start() -> (GenesisFile, Vec<Block>, Block) {
    start_on(file())
}

fn start_on(file: GenesisFile) -> (GenesisFile, Vec<Block>, Block) {
    let blocks = branch(&file, &[], &key(6).address, &empty(3));
    let next = chain_of(&file, &blocks).assemble(Vec::new(), key(6).address, 2);
    (file, blocks, next)
}

#[test]
fn of_a_thousand_blocks_on_one_parent_nine_are_stored() {
    let (file, blocks, next) = start();
    let genesis = file.check().unwrap();
    let watched = Watched::new();
    let store: Arc<dyn Store> = watched.clone();
    let mut node = open(&store, &genesis, NOW);
    give_all(&mut node, &blocks, NOW);
    let parent = tip(&node);
    let (mut tips, mut sides, mut refused) = (0, 0, 0);
    let mut reads_max = 0;
    for number in 0..1_000 {
        let reads = watched.reads();
        match give(&mut node, &variant(&next, number), NOW) {
            Ok(BlockVerdict::NewTip) => tips += 1,
            Ok(BlockVerdict::Side) => sides += 1,
            Err(AcceptError::TooManySiblings { parent: found }) => {
                assert_eq!(found, parent);
                refused += 1;
                reads_max = reads_max.max(watched.reads() - reads);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((tips, sides, refused), (1, 8, 991));
    assert_eq!(stored_on(&node, &parent), 9);
    // A refusal looks at the parent alone; what comes after every event is the rest.
    let idle = {
        let reads = watched.reads();
        node.handle(Event::Continue, NOW);
        watched.reads() - reads
    };
    assert!(reads_max <= idle + 1, "{reads_max} reads, {idle} without");

    // The flood went on with the next tip just as well, and the chain goes on.
    let chain = [blocks, vec![variant(&next, 0)]].concat();
    let after = branch(&file, &chain, &key(6).address, &empty(2));
    for block in &after {
        assert_eq!(give(&mut node, block, NOW).unwrap(), BlockVerdict::NewTip);
    }
}

/// A refused block may turn out to be part of the best chain.
#[test]
fn a_refused_sibling_is_accepted_once_a_child_makes_it_better() {
    let (file, blocks, next) = start();
    let mut node = open(&memory(), &file.check().unwrap(), NOW);
    give_all(&mut node, &blocks, NOW);
    for number in 0..9 {
        give(&mut node, &variant(&next, number), NOW).unwrap();
    }
    let late = variant(&next, 9);
    let chain = [blocks, vec![late.clone()]].concat();
    let child = branch(&file, &chain, &key(6).address, &empty(1)).remove(0);
    let verdict = give(&mut node, &late, NOW);
    assert!(matches!(verdict, Err(AcceptError::TooManySiblings { .. })));
    let verdict = give(&mut node, &child, NOW);
    assert!(matches!(verdict, Err(AcceptError::NotYet { .. })));
    assert_eq!(give(&mut node, &late, NOW).unwrap(), BlockVerdict::Side);
    assert_eq!(tip(&node), child.header.hash());
}

#[test]
fn a_better_chain_over_a_refused_sibling_comes_from_a_peer() {
    let (_, blocks, next) = start();
    let mut world = World::new();
    let node = world.add(&blocks);
    for number in 0..9 {
        world.give_later(node, &variant(&next, number));
    }
    let late = variant(&next, 9);
    world.give_later(node, &late);
    let parent = blocks[2].header.hash();
    assert_eq!(stored_on(world.node(node), &parent), 9);
    let chain = [blocks, vec![late]].concat();
    let child = branch(&world.file, &chain, &key(6).address, &empty(1)).remove(0);
    let better = [chain, vec![child.clone()]].concat();
    let peer = world.add(&better);
    world.connect(node, peer);
    world.run_until(5_000, |world| world.tip(node) == child.header.hash());
}

#[test]
fn blocks_that_wait_for_their_parent_cost_other_blocks_nothing() {
    let (file, blocks, next) = start();
    let genesis = file.check().unwrap();
    let reads_of = |orphans: usize| {
        let watched = Watched::new();
        let store: Arc<dyn Store> = watched.clone();
        let mut node = open(&store, &genesis, NOW);
        for number in 0..orphans {
            let verdict = give(&mut node, &on_parent(&next, nowhere(number)), NOW);
            assert!(matches!(verdict, Err(AcceptError::NotYet { .. })));
        }
        assert_eq!(node.waiting_blocks().0, orphans);
        let reads = watched.reads();
        give_all(&mut node, &blocks, NOW);
        for second in 1..=20 {
            node.handle(Event::Tick, NOW + second);
        }
        assert_eq!(node.waiting_blocks().0, orphans);
        watched.reads() - reads
    };
    assert_eq!(reads_of(64), reads_of(0));
}

#[test]
fn a_waiting_block_is_tried_once_when_its_parent_comes() {
    let (file, blocks, _) = start();
    let mut node = open(&memory(), &file.check().unwrap(), NOW);
    // It follows a block with the wrong state root: it waits, is tried, and is gone.
    let bad = variant(&on_parent(&blocks[2], blocks[0].header.hash()), 7);
    for block in [&bad, &blocks[2], &blocks[1]] {
        let verdict = give(&mut node, block, NOW);
        let missing = matches!(
            verdict,
            Err(AcceptError::NotYet {
                reason: NotYet::MissingParent { .. },
                ..
            })
        );
        assert!(missing, "{verdict:?}");
    }
    assert_eq!(node.waiting_blocks().0, 3);
    assert_eq!(
        give(&mut node, &blocks[0], NOW).unwrap(),
        BlockVerdict::NewTip
    );
    assert_eq!(tip(&node), blocks[2].header.hash());
    assert_eq!(node.waiting_blocks(), (0, 0));
}

#[test]
fn blocks_that_wait_are_bounded_in_number_for_each_parent_and_in_time() {
    let (file, _, next) = start();
    let mut node = open(&memory(), &file.check().unwrap(), NOW);
    for number in 0..70 {
        let _ = give(&mut node, &on_parent(&next, nowhere(number)), NOW);
    }
    assert_eq!(node.waiting_blocks().0, 64);
    // Ten minutes later they are still there, and a second after that they are gone.
    node.handle(Event::Tick, NOW + 600);
    assert_eq!(node.waiting_blocks().0, 64);
    node.handle(Event::Tick, NOW + 601);
    assert_eq!(node.waiting_blocks(), (0, 0));
    // The same block twice, and further blocks for the same parent.
    let one = on_parent(&next, nowhere(0));
    for number in 0..10 {
        let _ = give(&mut node, &one, NOW);
        let _ = give(&mut node, &variant(&one, number), NOW);
    }
    assert_eq!(node.waiting_blocks().0, 4);
}

#[test]
fn a_block_ahead_of_the_clock_waits_if_the_clock_reaches_it_in_ten_minutes() {
    let file = file();
    let genesis = file.check().unwrap();
    let allowed = u32::try_from(NOW).unwrap() + genesis.params.max_future_secs - GENESIS_TIME;
    for (ahead, kept) in [(600, 1), (601, 0)] {
        let mut node = open(&memory(), &genesis, NOW);
        let plan = [(Vec::new(), allowed + ahead)];
        let block = branch(&file, &[], &key(7).address, &plan).remove(0);
        let _ = give(&mut node, &block, NOW);
        assert_eq!(node.waiting_blocks().0, kept);
        node.handle(Event::Tick, NOW + 599);
        assert_eq!(node.waiting_blocks().0, kept);
        node.handle(Event::Tick, NOW + 600);
        assert_eq!(node.waiting_blocks().0, 0);
        assert_eq!(node.chain().tip().height.0, kept as u64);
    }
}

/// Payments with as many outputs as there can be, which fill a block of 2 MB.
fn heavy_payments(file: &GenesisFile) -> Vec<SignedTransaction> {
    let genesis = file.check().unwrap().params.genesis_hash;
    let outputs = vec![(key(1).address, 1); 255];
    (0..190)
        .map(|sequence| key(0).pay(&genesis, sequence, FEE, &outputs))
        .collect()
}

#[test]
fn the_bytes_of_waiting_blocks_are_bounded() {
    // Blocks of 2 MB may hold the largest transactions only.
    let (file, _, next) = start_on(GenesisFile {
        max_account_changes: 100_000,
        ..file()
    });
    let mut node = open(&memory(), &file.check().unwrap(), NOW);
    let mut heavy = next;
    heavy.transactions = heavy_payments(&file);
    let leaves: Vec<_> = heavy.transactions.iter().map(|tx| tx.leaf_hash()).collect();
    heavy.commitment.transactions_root = merkle::root(&leaves);
    let heavy = variant(&heavy, 0);
    assert!(heavy.size() > 1_900_000, "{}", heavy.size());
    for number in 0..20 {
        let verdict = give(&mut node, &on_parent(&heavy, nowhere(number)), NOW);
        assert!(
            matches!(verdict, Err(AcceptError::NotYet { .. })),
            "{verdict:?}"
        );
    }
    let (count, bytes) = node.waiting_blocks();
    assert_eq!((count, bytes), (16, 16 * heavy.size()));
    assert!(bytes <= 32 << 20 && bytes + heavy.size() > 32 << 20);
}
