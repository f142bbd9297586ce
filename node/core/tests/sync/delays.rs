//! Peers that try to hold a node up, and connections that fail, under a virtual clock. Blocks that an
//! honest peer has arrive all the same, and a peer with a bad connection is not penalised.

use std::cell::Cell;
use std::rc::Rc;

use pithead_consensus::{Address, Block, BlockHash, Signature, Txid};
use pithead_core::node::{Effect, Event, Now};
use pithead_core::sync::{
    Gossip, Offence, PeerEffect, PeerEvent, PeerKey, Request, RequestFailure, Response, Status,
    Verdict,
};
use pithead_testkit::key;
use pithead_testkit::nodes::{self, branch, chain_of, empty, pay};
use pithead_testkit::world::{Reply, World, boastful_status};

/// Blocks that all members start with.
const COMMON: usize = 20;
/// Index of the node under test.
const NODE: usize = 0;
/// Index of its honest peer.
const HONEST: usize = 1;
/// From one member to another and back, milliseconds.
const ROUND_TRIP_MS: u64 = 40;

fn miner() -> Address {
    key(0).address
}

fn common_blocks(world: &World) -> Vec<Block> {
    branch(&world.file, &[], &miner(), &empty(COMMON))
}

/// A node, an honest peer that has one block more without having told of it, and one
/// that announces that block first and then answers by this policy when asked for it.
fn announced_by(mut policy: impl FnMut(Block) -> Reply + 'static) -> (World, usize, BlockHash) {
    let mut world = World::new();
    let blocks = common_blocks(&world);
    world.add(&blocks);
    world.add(&blocks);
    world.connect(NODE, HONEST);
    let next = chain_of(&world.file, &blocks).assemble(Vec::new(), miner(), 2);
    let asked_for = next.clone();
    let odd = world.add_odd(&blocks, move |request, honest| match request {
        Request::Blocks(_) => policy(asked_for.clone()),
        _ => Reply::Answer(honest),
    });
    world.connect(odd, NODE);
    world.run_for(2_000);
    world.give_later(HONEST, &next);
    world.gossip_to(odd, NODE, Gossip::Block(next.header));
    // The announcement is there, and the node has asked for the block.
    world.run_for(ROUND_TRIP_MS / 2);
    (world, odd, next.header.hash())
}

/// Asserts that the node gets the block within a round trip after the announcer has failed.
fn assert_arrives_at_once(world: &mut World, hash: BlockHash) {
    world.run_for(2 * ROUND_TRIP_MS);
    assert_eq!(world.tip(NODE), hash);
    assert!(!world.blamed().contains(&HONEST));
}

#[test]
fn announcing_and_declining_delays_nothing_and_costs_points() {
    let (mut world, odd, hash) = announced_by(|_| Reply::Fails(RequestFailure::Refused));
    assert_arrives_at_once(&mut world, hash);
    let points = Offence::Withheld.points();
    assert_eq!(world.members[NODE].scored, [(odd, points)]);
}

#[test]
fn announcing_and_giving_nothing_delays_nothing() {
    let (mut world, odd, hash) = announced_by(|_| Reply::Answer(Response::Blocks(Vec::new())));
    assert_arrives_at_once(&mut world, hash);
    let points = Offence::Withheld.points();
    assert_eq!(world.members[NODE].scored, [(odd, points)]);
}

#[test]
fn announcing_and_giving_another_body_delays_nothing() {
    let extra = pay(&nodes::file(), 0, 0, 1);
    let (mut world, odd, hash) = announced_by(move |mut block| {
        block.transactions.push(extra.clone());
        Reply::Answer(Response::Blocks(vec![block]))
    });
    assert_arrives_at_once(&mut world, hash);
    let points = Offence::MutatedBody.points();
    assert_eq!(world.members[NODE].scored, [(odd, points)]);
}

#[test]
fn announcing_and_leaving_delays_nothing() {
    let (mut world, odd, hash) = announced_by(|_| Reply::Silence);
    world.disconnect(NODE, odd);
    assert_arrives_at_once(&mut world, hash);
}

#[test]
fn announcing_and_keeping_silent_delays_little() {
    let (mut world, _, hash) = announced_by(|_| Reply::Silence);
    // A single block is waited for three seconds, and deadlines are looked at once a
    // second.
    world.run_for(4_000 + ROUND_TRIP_MS);
    assert_eq!(world.tip(NODE), hash);
}

#[test]
fn a_withheld_block_does_not_keep_out_its_equal() {
    let mut world = World::new();
    let blocks = common_blocks(&world);
    world.add(&blocks);
    world.add(&blocks);
    world.connect(NODE, HONEST);
    let odd = world.add_odd(&blocks, |request, honest| match request {
        Request::Blocks(_) => Reply::Fails(RequestFailure::Refused),
        _ => Reply::Answer(honest),
    });
    world.connect(odd, NODE);
    world.run_for(2_000);
    let withheld = chain_of(&world.file, &blocks).assemble(Vec::new(), key(3).address, 2);
    world.gossip_to(odd, NODE, Gossip::Block(withheld.header));
    world.run_for(200);
    assert_eq!(world.node(NODE).sync_usage().headers, 1, "it is sought");
    let header = world.mine(HONEST);
    world.run_for(2 * ROUND_TRIP_MS);
    assert_eq!(world.tip(NODE), header.hash());
    // The search for the withheld block ends.
    world.run_for(30_000);
    assert_eq!(world.node(NODE).sync_usage().headers, 0);
    assert!(!world.blamed().contains(&HONEST));
}

#[test]
fn an_announcement_gets_its_verdict_before_gossip_forgets_it() {
    let mut world = World::new();
    let blocks = common_blocks(&world);
    world.add(&blocks);
    let odd = world.add_odd(&blocks, |request, honest| match request {
        Request::Blocks(_) => Reply::Silence,
        _ => Reply::Answer(honest),
    });
    world.connect(NODE, odd);
    world.run_for(2_000);
    let next = chain_of(&world.file, &blocks).assemble(Vec::new(), miner(), 2);
    world.gossip_to(odd, NODE, Gossip::Block(next.header));
    // Key 5 owns nothing so far.
    let early = pay(&world.file, 5, 0, 1);
    world.gossip_to(odd, NODE, Gossip::Transaction(Box::new(early)));
    world.run_for(13_500);
    assert_eq!(world.verdicts_on(NODE, odd), [Verdict::Ignore; 2]);
}

/// A node can't judge a header whose parent it lacks, and gossip carries no message twice. Once
/// the node has the block, it tells its peers by its status instead.
#[test]
fn a_block_that_gossip_does_not_carry_is_told_of_directly() {
    let mut world = World::new();
    let blocks = common_blocks(&world);
    let next = branch(&world.file, &blocks, &miner(), &empty(2));
    let (a, b) = (world.add(&blocks), world.add(&blocks));
    world.connect(a, b);
    let odd = world.add_odd(&blocks, |request, honest| match request {
        Request::Headers { .. } | Request::Blocks(_) => Reply::Silence,
        _ => Reply::Answer(honest),
    });
    world.connect(odd, a);
    world.connect(odd, b);
    world.run_for(2_000);
    // Both hear of the second block before they know of the first.
    for node in [a, b] {
        world.spread_to(odd, node, Gossip::Block(next[1].header));
    }
    world.run_for(100);
    for block in &next {
        world.found(a, block.clone());
    }
    world.run_for(10 * ROUND_TRIP_MS);
    assert_eq!(world.tip(b), next[1].header.hash());
    assert!(world.blamed().is_empty());
}

/// A status that promises far more blocks and work than any chain has.
fn boast(honest: Response) -> Reply {
    let status = Status {
        height: pithead_consensus::Height(1_000_000),
        ..boastful_status(honest)
    };
    Reply::Answer(Response::Status(status))
}

/// A new node with inbound connections from many peers that promise much and give no headers.
fn besieged(headers: impl Fn() -> Reply + Clone + 'static) -> (World, Vec<usize>) {
    let mut world = World::new();
    world.add(&[]);
    let boasters: Vec<usize> = (0..24)
        .map(|_| {
            let headers = headers.clone();
            let boaster = world.add_odd(&[], move |request, honest| match request {
                Request::Status(_) => boast(honest),
                Request::Headers { .. } => headers(),
                _ => Reply::Answer(honest),
            });
            world.connect(boaster, NODE);
            boaster
        })
        .collect();
    world.run_for(3_000);
    (world, boasters)
}

#[test]
fn boasting_peers_do_not_keep_a_chosen_one_from_being_asked() {
    for headers in [|| Reply::Silence, || Reply::Fails(RequestFailure::Refused)] {
        let (mut world, boasters) = besieged(headers);
        let blocks = common_blocks(&world);
        let honest = world.add(&blocks);
        world.connect(NODE, honest);
        world.run_until(2_000, |world| world.height(NODE) == COMMON as u64);
        // A promise that was not kept counts for less each time.
        world.run_for(600_000);
        let left = boasters
            .iter()
            .filter(|one| world.are_connected(NODE, **one));
        assert_eq!(left.count(), 0);
        assert!(world.are_connected(NODE, honest));
        assert!(!world.blamed().contains(&honest));
    }
}

#[test]
fn boasting_peers_give_way_to_an_honest_one_that_calls() {
    let (mut world, _) = besieged(|| Reply::Silence);
    let blocks = common_blocks(&world);
    let honest = world.add(&blocks);
    world.connect(honest, NODE);
    world.run_until(240_000, |world| world.height(NODE) == COMMON as u64);
}

#[test]
fn miners_are_sent_elsewhere_as_soon_as_a_chosen_peer_tells_of_more() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(100));
    world.add(&blocks[..COMMON]);
    let slow = |request: &Request, honest| match request {
        Request::Headers { .. } => Reply::Silence,
        _ => Reply::Answer(honest),
    };
    let calls = world.add_odd(&blocks, slow);
    world.connect(calls, NODE);
    world.run_for(1_000);
    assert!(!world.node(NODE).sync_status().syncing, "anyone may call");
    let called = world.add_odd(&blocks, slow);
    world.connect(NODE, called);
    world.run_for(1_000);
    assert!(world.node(NODE).sync_status().syncing);
    // A promise without headers does not count for long.
    world.run_for(60_000);
    assert!(!world.node(NODE).sync_status().syncing);
}

#[test]
fn a_connection_that_fails_for_a_while_is_not_held_against_the_peer() {
    let mut world = World::new();
    let blocks = common_blocks(&world);
    let down = Rc::new(Cell::new(false));
    world.add(&blocks);
    let peers: Vec<usize> = (0..8)
        .map(|_| {
            let down = Rc::clone(&down);
            let peer = world.add_odd(&blocks, move |_, honest| {
                if down.get() {
                    Reply::Silence
                } else {
                    Reply::Answer(honest)
                }
            });
            world.connect(NODE, peer);
            peer
        })
        .collect();
    world.run_for(55_000);
    // Long enough for the status of each to be asked for, and to be given up.
    down.set(true);
    world.run_for(45_000);
    down.set(false);
    world.run_for(120_000);
    assert!(world.members[NODE].dropped.is_empty());
    assert!(peers.iter().all(|peer| world.are_connected(NODE, *peer)));
    let worst = world.members[NODE].scored.iter().map(|(_, points)| *points);
    assert!(worst.max().unwrap_or(0) <= Offence::Timeout.points());
}

#[test]
fn requests_that_were_under_way_together_count_once() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(200));
    let mute = world.add_odd(&blocks, |request, honest| match request {
        Request::Blocks(_) => Reply::Silence,
        _ => Reply::Answer(honest),
    });
    let new = world.add(&[]);
    world.connect(new, mute);
    world.run_for(1_000);
    let asked = world.members[new].asked.iter();
    let blocks_asked = asked.filter(|(_, request)| matches!(request, Request::Blocks(_)));
    assert_eq!(blocks_asked.count(), 2);
    world.run_for(21_000);
    let points = Offence::Timeout.points();
    assert_eq!(world.members[new].scored, [(mute, points)]);
}

#[test]
fn a_core_that_was_busy_itself_blames_no_peer() {
    let genesis = World::new().genesis;
    let start = nodes::NOW;
    for (ticks, blames) in [((1..=25).collect::<Vec<u64>>(), true), (vec![1, 25], false)] {
        let mut node = nodes::open(&nodes::memory(), &genesis, start);
        let mut scored = 0;
        let mut tell = |event, secs: u64| {
            let now = Now {
                unix_secs: start + secs,
                monotonic_ms: 1_000 * secs,
            };
            let (_, effects) = node.handle(event, now);
            let scores =
                |effect: &&Effect| matches!(effect, Effect::Peer(PeerEffect::Scored { .. }));
            scored += effects.iter().filter(scores).count();
        };
        let (peer, inbound) = (PeerKey(1), false);
        tell(Event::Peer(PeerEvent::Connected { peer, inbound }), 0);
        for secs in ticks {
            tell(Event::Tick, secs);
        }
        assert_eq!(scored > 0, blames);
    }
}

#[test]
fn a_tip_that_stands_still_asks_for_more_peers() {
    let mut world = World::new();
    let blocks = common_blocks(&world);
    let interval_ms = 1_000 * u64::from(world.genesis.params.block_interval_secs);
    world.add(&blocks);
    world.run_for(12 * interval_ms);
    assert!(!world.node(NODE).sync_status().tip_stands_still, "alone");
    world.add(&blocks);
    world.connect(NODE, HONEST);
    world.run_for(9 * interval_ms);
    assert!(!world.node(NODE).sync_status().tip_stands_still);
    world.run_for(2 * interval_ms);
    assert!(world.node(NODE).sync_status().tip_stands_still);
    world.mine(HONEST);
    world.run_for(2_000);
    assert!(!world.node(NODE).sync_status().tip_stands_still);
}

#[test]
fn a_bad_transaction_does_not_take_the_rest_of_its_batch_along() {
    let mut world = World::new();
    world.add(&[]);
    let mut listed: Vec<_> = (0..3).map(|owner| pay(&world.file, owner, 0, 3)).collect();
    listed[1].signature = Signature(Box::new([3; 256]));
    let genesis = world.genesis.params.genesis_hash;
    let txids: Vec<Txid> = listed.iter().map(|one| one.txid(&genesis)).collect();
    let asked = txids.clone();
    let odd = world.add_odd(&[], move |request, honest| match request {
        Request::Mempool => Reply::Answer(Response::Mempool(asked.clone())),
        Request::Transactions(_) => Reply::Answer(Response::Transactions(listed.clone())),
        _ => Reply::Answer(honest),
    });
    world.connect(NODE, odd);
    world.run_for(2_000);
    assert_eq!(world.ban(NODE, odd), Some(Offence::InvalidTransaction));
    assert!(world.has_pending(NODE, &txids[0]) && world.has_pending(NODE, &txids[2]));
}

#[test]
fn early_transactions_of_one_peer_do_not_push_out_those_of_others() {
    let mut world = World::new();
    let blocks = common_blocks(&world);
    world.add(&blocks);
    world.add(&blocks);
    let odd = world.add_odd(&blocks, |_, honest| Reply::Answer(honest));
    for peer in [HONEST, odd] {
        world.connect(peer, NODE);
    }
    world.run_for(2_000);
    let genesis = world.genesis.params.genesis_hash;
    let [first, second] = [0, 1].map(|sequence| pay(&world.file, 0, sequence, 1));
    let txid = second.txid(&genesis);
    world.gossip_to(HONEST, NODE, Gossip::Transaction(Box::new(second)));
    world.run_for(100);
    // Keys 5 and 6 own nothing.
    for number in 0..300 {
        let early = pay(&world.file, 5 + number % 2, number as u64 / 2, 1);
        world.gossip_to(odd, NODE, Gossip::Transaction(Box::new(early)));
    }
    world.run_for(100);
    assert!(world.node(NODE).sync_usage().orphan_transactions <= 33);
    world.gossip_to(HONEST, NODE, Gossip::Transaction(Box::new(first)));
    world.run_for(100);
    assert!(world.has_pending(NODE, &txid));
}
