//! Honest nodes under a virtual clock. A node that joins late or was cut off ends on the common
//! chain, blocks and transactions reach all nodes, and honest peers are never blamed.

use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Address, BlockHash};
use pithead_core::chain::UNDO_BLOCKS;
use pithead_core::node::{Effect, Event, Node};
use pithead_core::store::schema;
use pithead_core::sync::{
    Gossip, GossipId, PeerEffect, PeerEvent, PeerKey, Request, Response, SyncSettings,
};
use pithead_testkit::key;
use pithead_testkit::nodes::{
    GENESIS_TIME, assert_equals_replay, branch, empty, file, memory, open, pay,
};
use pithead_testkit::world::{Reply, World};

/// The address that gets the rewards of prepared chains.
fn miner() -> Address {
    key(0).address
}

/// Blocks that a member asked for, in order.
fn blocks_asked(world: &World, member: usize) -> Vec<BlockHash> {
    let asked = &world.members[member].asked;
    let blocks = asked.iter().filter_map(|(_, request)| match request {
        Request::Blocks(hashes) => Some(hashes.clone()),
        _ => None,
    });
    blocks.flatten().collect()
}

/// All members in a row, each connected to the next.
fn connect_in_row(world: &mut World, members: &[usize]) {
    for pair in members.windows(2) {
        world.connect(pair[0], pair[1]);
    }
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
    let now = world.unix_secs();
    assert_equals_replay(world.node(new), &world.genesis, &blocks, now);
    assert_eq!(world.members[new].sync_changes, [true, false]);
    assert!(world.blamed().is_empty());
    // Each header once, each body once, from more than one peer.
    assert_eq!(world.members[new].most.headers, 300);
    assert_eq!(blocks_asked(&world, new).len(), 300);
    let from: std::collections::BTreeSet<usize> = world.members[new]
        .asked
        .iter()
        .filter(|(_, request)| matches!(request, Request::Blocks(_)))
        .map(|(from, _)| *from)
        .collect();
    assert!(from.len() > 1, "bodies come from several peers");
}

#[test]
fn catching_up_takes_more_than_one_answer_of_headers() {
    let mut world = World::new();
    // Times stand still, so that so many blocks fit before the clock.
    let blocks = branch(&world.file, &[], &miner(), &vec![(Vec::new(), 1); 2_100]);
    let old = world.add(&blocks);
    let new = world.add(&[]);
    world.connect(new, old);
    world.run_until(60_000, |world| world.height(new) == 2_100);
    assert!(world.blamed().is_empty());
}

#[test]
fn found_block_reaches_all_and_is_told_of_before_it_is_committed() {
    let mut world = World::new();
    let members: Vec<usize> = (0..5).map(|_| world.add(&[])).collect();
    connect_in_row(&mut world, &members);
    world.run_for(2_000);
    let header = world.mine(0);
    world.run_until(1_000, |world| {
        members.iter().all(|each| world.tip(*each) == header.hash())
    });
    assert_eq!(world.members[0].trace, ["validated", "publish", "tip"]);
    assert_eq!(world.members[2].trace, ["validated", "accept", "tip"]);
    // A node does not publish a block that it forwards.
    assert!(world.members[2].published.is_empty());
    assert!(world.blamed().is_empty());
}

#[test]
fn transaction_reaches_all_and_is_mined_elsewhere() {
    let mut world = World::new();
    let members: Vec<usize> = (0..4).map(|_| world.add(&[])).collect();
    connect_in_row(&mut world, &members);
    world.run_for(2_000);
    let transaction = pay(&world.file, 0, 0, 1);
    let txid = world.submit(0, transaction);
    world.run_until(1_000, |world| world.has_pending(3, &txid));
    world.mine(3);
    world.run_until(1_000, |world| world.height(0) == 1);
    let snapshot = world.members[0].store.snapshot().unwrap();
    assert!(schema::place(snapshot.as_ref(), &txid).unwrap().is_some());
    assert!(!world.has_pending(0, &txid));
    assert!(world.blamed().is_empty());
}

#[test]
fn transactions_out_of_order_wait_for_each_other() {
    let mut world = World::new();
    let (a, b) = (world.add(&[]), world.add(&[]));
    world.connect(a, b);
    world.run_for(2_000);
    let genesis = world.genesis.params.genesis_hash;
    let [first, second] = [0, 1].map(|sequence| pay(&world.file, 0, sequence, 1));
    let txids = [first.txid(&genesis), second.txid(&genesis)];
    // The second needs the key that comes with the first.
    world.gossip_to(a, b, Gossip::Transaction(Box::new(second)));
    world.run_for(1_000);
    assert!(!world.has_pending(b, &txids[1]));
    world.gossip_to(a, b, Gossip::Transaction(Box::new(first)));
    world.run_until(1_000, |world| world.has_pending(b, &txids[1]));
    assert!(world.has_pending(b, &txids[0]));
    assert!(world.blamed().is_empty());
}

#[test]
fn what_gossip_missed_is_fetched_on_connecting() {
    let mut world = World::new();
    let (a, b) = (world.add(&[]), world.add(&[]));
    let txids: Vec<_> = (0..3)
        .map(|sequence| {
            let transaction = pay(&world.file, 0, sequence, 1);
            world.submit(a, transaction)
        })
        .collect();
    assert!(world.members[a].published.is_empty(), "nobody is there yet");
    world.connect(a, b);
    world.run_until(3_000, |world| {
        txids.iter().all(|txid| world.has_pending(b, txid))
    });
    assert!(world.blamed().is_empty());
}

#[test]
fn own_transaction_is_announced_again_until_it_is_mined() {
    let mut world = World::new();
    let (a, b) = (world.add(&[]), world.add(&[]));
    world.connect(a, b);
    world.run_for(2_000);
    let transaction = pay(&world.file, 0, 0, 1);
    world.submit(a, transaction);
    let announced = |world: &World| {
        let published = world.members[a].published.iter();
        published
            .filter(|gossip| matches!(gossip, Gossip::Transaction(_)))
            .count()
    };
    assert_eq!(announced(&world), 1);
    world.run_for(11 * 60_000);
    let before = announced(&world);
    assert!(before >= 2, "announced {before} times in eleven minutes");
    for _ in 0..25 {
        world.mine(b);
        world.run_for(3_000);
    }
    assert_eq!(world.height(a), 25);
    world.run_for(20 * 60_000);
    assert_eq!(announced(&world), before);
    assert_eq!(world.node(a).sync_usage().local_transactions, 0);
}

#[test]
fn stalled_peer_is_replaced() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(200));
    let honest = world.add(&blocks);
    let mute = world.add_odd(&blocks, |request, honest| match request {
        Request::Blocks(_) => Reply::Silence,
        _ => Reply::Answer(honest),
    });
    let new = world.add(&[]);
    world.connect(new, mute);
    world.run_for(500);
    world.connect(new, honest);
    world.run_until(15_000, |world| world.height(new) == 200);
    assert!(!world.blamed().contains(&honest));
    world.run_for(120_000);
    assert!(world.blamed().contains(&mute));
    assert!(!world.blamed().contains(&honest));
}

#[test]
fn peer_that_leaves_in_between_does_no_harm() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(150));
    // Shows headers, and leaves before it gives a block.
    let leaves = world.add_odd(&blocks[..100], |request, honest| match request {
        Request::Blocks(_) => Reply::Silence,
        _ => Reply::Answer(honest),
    });
    let stays = world.add(&blocks);
    let new = world.add(&[]);
    world.connect(new, leaves);
    world.run_for(500);
    assert_eq!(world.node(new).sync_usage().headers, 100);
    world.connect(new, stays);
    // The answer to this request comes after the headers that it builds on are dropped.
    world.run_for(45);
    world.disconnect(new, leaves);
    world.run_until(30_000, |world| world.height(new) == 150);
    assert!(world.blamed().is_empty());
}

#[test]
fn split_network_heals_and_keeps_the_losers_transactions() {
    let mut world = World::new();
    let members: Vec<usize> = (0..4).map(|_| world.add(&[])).collect();
    let (left, right) = ([0, 1], [2, 3]);
    world.connect(0, 1);
    world.connect(2, 3);
    world.connect(1, 2);
    world.run_for(2_000);
    world.mine(0);
    world.run_until(1_000, |world| world.height(3) == 1);

    world.disconnect(1, 2);
    world.run_for(1_000);
    let (lost, kept) = (pay(&world.file, 1, 0, 0), pay(&world.file, 2, 0, 0));
    let lost = world.submit(0, lost);
    let kept = world.submit(3, kept);
    world.run_for(1_000);
    for _ in 0..40 {
        world.mine(left[0]);
        world.run_for(1_000);
    }
    for _ in 0..60 {
        world.mine(right[1]);
        world.run_for(500);
    }
    assert_eq!(world.height(left[1]), 41);
    assert_eq!(world.height(right[0]), 61);

    world.connect(1, 2);
    let winner = world.tip(3);
    world.run_until(20_000, |world| {
        members.iter().all(|each| world.tip(*each) == winner)
    });
    let snapshot = world.members[0].store.snapshot().unwrap();
    assert!(schema::place(snapshot.as_ref(), &kept).unwrap().is_some());
    // The payment is pending again, also at nodes that never had it.
    world.run_until(5_000, |world| {
        members.iter().all(|each| world.has_pending(*each, &lost))
    });
    world.mine(3);
    world.run_until(2_000, |world| !world.has_pending(0, &lost));
    let snapshot = world.members[0].store.snapshot().unwrap();
    assert!(schema::place(snapshot.as_ref(), &lost).unwrap().is_some());
    assert!(world.blamed().is_empty());
}

#[test]
fn race_of_two_blocks_ends_with_the_next() {
    let mut world = World::new();
    let members: Vec<usize> = (0..4).map(|_| world.add(&[])).collect();
    connect_in_row(&mut world, &members);
    world.run_for(2_000);
    let (a, b) = (world.mine(0), world.mine(3));
    world.run_for(1_000);
    assert_eq!(world.tip(1), a.hash());
    assert_eq!(world.tip(2), b.hash());
    let next = world.mine(0);
    world.run_until(1_000, |world| {
        members.iter().all(|each| world.tip(*each) == next.hash())
    });
    assert!(world.blamed().is_empty());
}

#[test]
fn restarted_node_resumes_where_it_was() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(600));
    let old = world.add_odd(&blocks, |request, honest| match (request, honest) {
        // Little at a time, so that there is a middle to stop in.
        (Request::Blocks(_), Response::Blocks(blocks)) => {
            Reply::Answer(Response::Blocks(blocks.into_iter().take(8).collect()))
        }
        (_, honest) => Reply::Answer(honest),
    });
    let new = world.add(&[]);
    world.connect(new, old);
    world.run_until(10_000, |world| world.height(new) >= 200);
    let reached = world.height(new);
    assert!(reached < 600);
    world.restart(new);
    world.members[new].asked.clear();
    world.run_until(20_000, |world| world.height(new) == 600);
    let stored: Vec<BlockHash> = blocks
        .iter()
        .take(usize::try_from(reached).unwrap())
        .map(|block| block.header.hash())
        .collect();
    let again = blocks_asked(&world, new);
    assert!(again.iter().all(|hash| !stored.contains(hash)));
    let now = world.unix_secs();
    assert_equals_replay(world.node(new), &world.genesis, &blocks, now);
}

#[test]
fn chain_below_the_minimum_work_is_not_enough() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(3));
    let whole = world.add(&blocks);
    let settings = SyncSettings {
        minimum_chain_work: world.node(whole).chain().tip().chain_work,
        ..SyncSettings::default()
    };
    let store = memory();
    let mut node: Node = open(&store, &world.genesis, world.unix_secs()).with_sync(settings);
    assert!(node.sync_status().syncing);
    for (block, syncing) in blocks.iter().zip([true, true, false]) {
        node.handle(Event::Block(Box::new(block.clone())), world.unix_secs());
        assert_eq!(node.sync_status().syncing, syncing);
    }
}

#[test]
fn events_of_unknown_peers_are_ignored() {
    let world = World::new();
    let store = memory();
    let mut node = open(&store, &world.genesis, world.unix_secs());
    let peer = PeerKey(7);
    let event = PeerEvent::Disconnected { peer };
    let (_, effects) = node.handle(Event::Peer(event), world.unix_secs());
    assert!(effects.is_empty());
    assert_eq!(node.sync_usage().peers, 0);
}

/// The steps of a locator grow. Here the next hash that it names below the split is over
/// 2,000 blocks further down, so that a whole answer of headers shows only what is known.
#[test]
fn a_split_that_begins_beyond_an_answer_of_known_headers_heals() {
    let mut world = World::on(GenesisFile {
        time: GENESIS_TIME - 20_000,
        ..file()
    });
    let common = branch(&world.file, &[], &miner(), &empty(2_100));
    let [ours, theirs] = [(1, 2_080), (2, 2_090)].map(|(owner, count)| {
        let reward = key(owner).address;
        let own = branch(&world.file, &common, &reward, &empty(count));
        [common.clone(), own].concat()
    });
    let (a, b) = (world.add(&ours), world.add(&theirs));
    let winner = world.tip(b);
    world.connect(a, b);
    world.run_until(120_000, |world| world.tip(a) == winner);
    assert!(world.blamed().is_empty());
}

#[test]
fn split_deeper_than_the_undo_records_stays_and_is_not_held_against_a_peer() {
    let mut world = World::on(GenesisFile {
        time: GENESIS_TIME - 40_000,
        ..file()
    });
    let depth = usize::try_from(UNDO_BLOCKS).unwrap() + 5;
    let [ours, theirs] = [(0, depth), (1, depth + 5)].map(|(owner, count)| {
        let reward = key(owner).address;
        branch(&world.file, &[], &reward, &empty(count))
    });
    let (a, b) = (world.add(&ours), world.add(&theirs));
    let tip = world.tip(a);
    world.connect(a, b);
    world.run_for(60_000);
    assert_eq!(world.tip(a), tip);
    assert!(world.are_connected(a, b));
    // The node fetched the other chain's headers once, and no bodies.
    assert!(blocks_asked(&world, a).is_empty());
    assert!(world.members[a].asked.len() < 12);
    assert!(world.blamed().is_empty());
    // Both go on alone.
    world.mine(b);
    world.mine(a);
    world.run_for(5_000);
    assert!(world.blamed().is_empty());
}

/// The answer to a request for the status tells of the time when it was given: a
/// block that the peer has announced since is not given up for it.
#[test]
fn status_that_gossip_overtook_takes_nothing_back() {
    let world = World::new();
    let now = world.unix_secs();
    let [block] = <[_; 1]>::try_from(branch(&world.file, &[], &miner(), &empty(1))).unwrap();
    let mut node = open(&memory(), &world.genesis, now);
    let peer = PeerKey(1);
    let mut tell = |event| node.handle(Event::Peer(event), now).1;
    let request_in = |effects: &[Effect]| {
        let asked = effects.iter().find_map(|effect| match effect {
            Effect::Peer(PeerEffect::Request { id, request, .. }) => Some((*id, request.clone())),
            _ => None,
        });
        asked.expect("a request")
    };
    let inbound = false;
    let (status_id, status) = request_in(&tell(PeerEvent::Connected { peer, inbound }));
    // Both are on the genesis, so that the asker's status is the peer's.
    let Request::Status(status) = status else {
        panic!("{status:?}");
    };
    let gossip = Gossip::Block(block.header);
    let id = GossipId(1);
    let (blocks_id, _) = request_in(&tell(PeerEvent::Gossip { peer, id, gossip }));
    let answers = [
        (status_id, Response::Status(status)),
        (blocks_id, Response::Blocks(vec![block.clone()])),
    ];
    for (id, response) in answers {
        let response = Ok(response);
        tell(PeerEvent::Response { peer, id, response });
    }
    assert_eq!(node.chain().tip().hash(), block.header.hash());
}
