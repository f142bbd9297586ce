//! A node whose clock is behind, and peers that date blocks ahead, under a virtual clock: the node
//! notices that its clock is behind, and a minority can't make it believe so.

use pithead_consensus::Block;
use pithead_core::sync::SyncStatus;
use pithead_testkit::key;
use pithead_testkit::nodes::{branch, chain_of};
use pithead_testkit::world::World;

/// Index of the node under test.
const NODE: usize = 0;
/// How far its clock is behind, or liars' blocks are ahead, seconds.
const HOUR: u32 = 3_600;

fn status(world: &World) -> SyncStatus {
    world.node(NODE).sync_status()
}

/// A block a minute, from the genesis to the present.
fn hour_of_blocks(world: &World) -> Vec<Block> {
    branch(
        &world.file,
        &[],
        &key(0).address,
        &vec![(Vec::new(), 60); 60],
    )
}

/// Lets the other members find a block a minute for a while. Members find blocks in turn.
fn mine_on(world: &mut World, minutes: usize) {
    for minute in 0..minutes {
        world.run_for(60_000);
        world.mine(1 + minute % 3);
    }
}

#[test]
fn a_node_whose_clock_is_an_hour_slow_notices_and_heals() {
    let mut world = World::new();
    let blocks = hour_of_blocks(&world);
    world.add(&[]);
    world.members[NODE].skew_secs = -i64::from(HOUR);
    for peer in 1..=3 {
        world.add(&blocks);
        world.connect(NODE, peer);
    }
    world.connect(1, 2);
    world.connect(2, 3);
    world.run_for(5_000);
    let seen = status(&world);
    assert!(!seen.syncing, "its peers' blocks are no blocks to it yet");
    assert!((HOUR as u64 - 60..=HOUR as u64).contains(&seen.clock_behind_secs));
    // It stays so while the network goes on, and the node follows an hour later.
    for _ in 0..10 {
        mine_on(&mut world, 1);
        for _ in 0..60 {
            world.run_for(1_000);
            let behind = status(&world).clock_behind_secs;
            assert!(behind > HOUR as u64 - 120, "{behind}");
        }
    }
    assert!(world.node(NODE).chain().tip().height.0 > 10);
    // Nobody is to blame.
    assert!(world.members[NODE].dropped.is_empty());
    assert!(world.members[NODE].scored.is_empty());
    // The clock is set.
    world.members[NODE].skew_secs = 0;
    world.run_until(5_000, |world| world.tip(NODE) == world.tip(1));
    world.run_for(1_000);
    assert_eq!(status(&world).clock_behind_secs, 0);
    mine_on(&mut world, 3);
    world.run_for(1_000);
    assert_eq!(world.tip(NODE), world.tip(1));
    assert_eq!(status(&world).clock_behind_secs, 0);
}

/// Peers of a node, by who opened the connection.
#[derive(Debug, Clone, Copy)]
struct Around {
    outbound_liars: usize,
    outbound_honest: usize,
    inbound_liars: usize,
    inbound_honest: usize,
}

/// A node with these peers. Each liar has a block of its own on the common chain, dated an hour
/// ahead.
fn surrounded(around: Around) -> World {
    let mut world = World::new();
    let blocks = hour_of_blocks(&world);
    world.add(&blocks);
    let ahead = chain_of(&world.file, &blocks);
    let counts = [
        (around.outbound_liars, true, false),
        (around.outbound_honest, false, false),
        (around.inbound_liars, true, true),
        (around.inbound_honest, false, true),
    ];
    for (count, lies, inbound) in counts {
        for _ in 0..count {
            let peer = world.add(&blocks);
            if lies {
                let block = ahead.assemble(Vec::new(), key(peer % 8).address, HOUR);
                world.give_later(peer, &block);
            }
            if inbound {
                world.connect(peer, NODE);
            } else {
                world.connect(NODE, peer);
            }
        }
    }
    world.run_for(10_000);
    world
}

#[test]
fn only_a_majority_of_the_peers_that_a_node_chose_can_doubt_its_clock() {
    let around = |outbound_liars, outbound_honest, inbound_liars, inbound_honest| Around {
        outbound_liars,
        outbound_honest,
        inbound_liars,
        inbound_honest,
    };
    for (around, doubted) in [
        (around(0, 3, 0, 0), false),
        (around(1, 1, 0, 0), false),
        (around(2, 2, 0, 0), false),
        (around(3, 2, 0, 0), true),
        // Peers that came by themselves may be anybody.
        (around(0, 1, 10, 0), false),
        (around(0, 0, 5, 0), false),
        (around(2, 2, 10, 0), false),
        // The only peer that a node chose needs others to bear it out, if there are any.
        (around(1, 0, 0, 0), true),
        (around(1, 0, 0, 1), false),
        (around(1, 0, 1, 1), true),
    ] {
        let world = surrounded(around);
        let behind = status(&world).clock_behind_secs;
        assert_eq!(behind > 0, doubted, "{around:?}: {behind}");
        assert!(world.members[NODE].dropped.is_empty());
    }
}

/// A block from the future counts only as long as nothing better is known.
#[test]
fn a_block_from_the_future_counts_no_more_once_the_chain_has_as_much_work() {
    let around = Around {
        outbound_liars: 1,
        outbound_honest: 0,
        inbound_liars: 0,
        inbound_honest: 0,
    };
    let mut world = surrounded(around);
    assert!(status(&world).clock_behind_secs > 0);
    world.mine(NODE);
    world.run_for(1_000);
    assert_eq!(status(&world).clock_behind_secs, 0);
}
