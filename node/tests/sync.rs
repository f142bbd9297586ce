//! Sync and relay among honest nodes, under a virtual clock: catching up,
//! steady state, splits and restarts.

#![allow(clippy::unwrap_used)]

mod support;

use pithead_consensus::Address;
use pithead_node::sync::Gossip;
use support::core::{branch, chain_of, empty, pay};
use support::key;
use support::world::World;

/// Whom the blocks of prepared chains pay.
fn miner() -> Address {
    key(0).address
}

#[test]
fn late_joiner_catches_up() {
    let mut world = World::new();
    let mut plans = empty(300);
    plans[10].0 = vec![pay(&world.file, 0, 0, 1)];
    plans[250].0 = vec![pay(&world.file, 0, 1, 2)];
    let blocks = branch(&world.file, &[], &miner(), &plans);
    let old: Vec<usize> = (0..3).map(|_| world.add(&blocks)).collect();
    let new = world.add(&[]);
    for old in &old {
        world.connect(new, *old);
    }
    world.run_until(10_000, |world| world.height(new) == 300);
    assert_eq!(world.tip(new), world.tip(old[0]));
    let (ours, theirs) = (world.node(new).chain(), world.node(old[0]).chain());
    assert_eq!(ours.tip().outcome, theirs.tip().outcome);
    assert_eq!(world.members[new].sync_changes, [true, false]);
    assert!(world.blamed().is_empty());
    assert_eq!(world.members[new].most.headers, 300);
}
