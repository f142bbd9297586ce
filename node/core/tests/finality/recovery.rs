//! Certificates that a node lacks. It gets them from any honest peer that has them, however many
//! peers lie or keep silent, finds out about conflicting ones, and follows them before it has the
//! blocks.

use std::sync::atomic::Ordering;

use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Block, Certificate, Checkpoint, Height, Link};
use pithead_core::chain::UNDO_BLOCKS;
use pithead_core::sync::{Request, Response, Status, Verdict};
use pithead_testkit::key;
use pithead_testkit::nodes::{GENESIS_TIME, branch, empty, pay};
use pithead_testkit::votes::{
    INTERVAL, QUORUM, add_with, approve, at, certificates, give, gossip, in_conflict, miner, put,
    voting,
};
use pithead_testkit::watched_store::Watched;
use pithead_testkit::world::{Reply, World};

fn certificates_asked(world: &World, index: usize) -> usize {
    let asked = world.members[index].asked.iter();
    asked
        .filter(|(_, request)| matches!(request, Request::Certificates(_)))
        .count()
}

/// Answers the status with another claim, and requests for certificates with these.
fn claiming(
    claim: impl Fn(Status) -> Status + 'static,
    shown: Vec<Certificate>,
) -> impl FnMut(&Request, Response) -> Reply {
    move |request, honest| match (request, honest) {
        (Request::Status(_), Response::Status(status)) => {
            Reply::Answer(Response::Status(claim(status)))
        }
        (Request::Certificates(_), _) => Reply::Answer(Response::Certificates(shown.clone())),
        (_, honest) => Reply::Answer(honest),
    }
}

/// Two sides that share so many blocks, then parted, and each approved its own.
fn split(shared: u64, ours: u64, theirs: u64) -> (World, [usize; 2]) {
    let mut world = World::on(voting());
    let count = |blocks: u64| empty(usize::try_from(blocks).unwrap());
    let common = branch(&world.file, &[], &miner(), &count(shared));
    let genesis = world.genesis.clone();
    let below = certificates(&genesis, 0, &common, 0, shared);
    let sides = [(0, ours, 6), (2, theirs, 5)].map(|(first, top, owner)| {
        let own = branch(
            &world.file,
            &common,
            &key(owner).address,
            &count(top - shared),
        );
        let blocks = [common.clone(), own].concat();
        let above = certificates(&genesis, first, &blocks, shared, top);
        (blocks, [below.clone(), above].concat())
    });
    let sides = sides.map(|(blocks, certificates)| add_with(&mut world, &blocks, &certificates));
    (world, sides)
}

#[test]
fn both_sides_of_a_split_by_liars_find_out() {
    // At equal heights, and with one side ahead; just below the tip, and far below it.
    for (shared, ours, theirs) in [(4, 8, 8), (4, 12, 8), (0, 6, 8), (10, 400, 390)] {
        let (mut world, [a, b]) = split(shared, ours, theirs);
        let before = [a, b].map(|side| world.secured(side));
        assert_eq!(before.map(|(approved, _)| approved), [ours, theirs]);
        world.connect(a, b);
        world.run_until(20_000, |world| {
            in_conflict(world, a) && in_conflict(world, b)
        });
        assert_eq!([a, b].map(|side| world.secured(side)), before);
        for side in [a, b] {
            let asked = certificates_asked(&world, side);
            assert!(asked <= 6, "{asked} requests: steps down grow");
        }
        assert!(world.blamed().is_empty(), "neither side lied");
    }
}

#[test]
fn a_checkpoint_that_others_passed_over_is_no_conflict() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(6));
    let mut all = certificates(&genesis, 0, &blocks, 0, 4);
    let skipping = Link {
        source: at(&genesis, &blocks, 2),
        target: at(&genesis, &blocks, 6),
    };
    let skipping = pithead_testkit::votes::certificate_of(&genesis, 0, skipping);
    let passed_over = add_with(&mut world, &blocks, &[all[0].clone(), skipping]);
    let plain = add_with(&mut world, &blocks, &all);
    world.connect(passed_over, plain);
    world.run_for(5_000);
    all.truncate(2);
    let state = world.node(passed_over).finality().read().unwrap();
    assert!(state.view().is_approved(&all[1].link().target));
    assert!(!state.status().conflict);
    assert_eq!(certificates_asked(&world, passed_over), 1);
}

#[test]
fn peers_that_boast_do_not_keep_certificates_from_a_node() {
    type Claim = fn(Status) -> Status;
    let beyond_its_chain: Claim = |status| Status {
        approved: Checkpoint {
            height: Height(u64::MAX),
            hash: status.best_hash,
        },
        ..status
    };
    let on_a_chain_of_lies: Claim = |status| Status {
        approved: Checkpoint {
            height: Height(u64::MAX - 1),
            hash: status.best_hash,
        },
        height: Height(u64::MAX),
        ..status
    };
    for (claim, points) in [(beyond_its_chain, None), (on_a_chain_of_lies, Some(20))] {
        let mut world = World::on(voting());
        let genesis = world.genesis.clone();
        let blocks = branch(&world.file, &[], &miner(), &empty(12));
        let all = certificates(&genesis, 0, &blocks, 0, 12);
        // Genuine, and of no use without what comes before it.
        let high = vec![all[4].clone()];
        let liars: Vec<usize> = (0..3)
            .map(|_| world.add_odd(&blocks, claiming(claim, high.clone())))
            .collect();
        let late = world.add(&blocks);
        for liar in &liars {
            world.connect(late, *liar);
        }
        world.run_for(2_000);
        let honest = add_with(&mut world, &blocks, &all);
        world.connect(late, honest);
        world.run_until(10_000, |world| world.secured(late) == (12, 10));
        let scored = &world.members[late].scored;
        assert_eq!(scored.first().map(|(_, points)| *points), points);
        assert!(scored.iter().all(|(who, _)| liars.contains(who)));
    }
}

#[test]
fn peers_that_are_slow_do_not_keep_certificates_from_a_node() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(12));
    let all = certificates(&genesis, 0, &blocks, 0, 12);
    let claim = at(&genesis, &blocks, 12);
    let late = world.add(&blocks);
    for _ in 0..6 {
        let mute = world.add_odd(&blocks, move |request, honest| match (request, honest) {
            (Request::Status(_), Response::Status(status)) => {
                let approved = claim;
                Reply::Answer(Response::Status(Status { approved, ..status }))
            }
            (Request::Certificates(_), _) => Reply::Silence,
            (_, honest) => Reply::Answer(honest),
        });
        // They are inbound. The node still asks an outbound peer among others.
        world.connect(mute, late);
    }
    world.run_for(1_000);
    let honest = add_with(&mut world, &blocks, &all);
    world.connect(late, honest);
    // Before the first of them counts as stalled.
    world.run_until(8_000, |world| world.secured(late) == (12, 10));
}

#[test]
fn peers_that_dole_out_certificates_do_not_keep_them_from_a_node() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(60));
    let all = certificates(&genesis, 0, &blocks, 0, 60);
    let late = world.add(&blocks);
    for _ in 0..3 {
        let some = all.clone();
        let liar = world.add_odd(&blocks, move |request, honest| match (request, honest) {
            (Request::Status(_), Response::Status(status)) => {
                let approved = Checkpoint {
                    height: Height(1 << 60),
                    hash: status.best_hash,
                };
                let height = approved.height;
                let status = Status {
                    approved,
                    height,
                    ..status
                };
                Reply::Answer(Response::Status(status))
            }
            // One at a time, each genuine and asked for.
            (Request::Certificates(above), _) => {
                let next = some.iter().find(|each| each.link().target.height > *above);
                Reply::Answer(Response::Certificates(next.cloned().into_iter().collect()))
            }
            (_, honest) => Reply::Answer(honest),
        });
        world.connect(late, liar);
    }
    world.run_for(1_000);
    let honest = add_with(&mut world, &blocks, &all);
    world.connect(late, honest);
    world.run_until(5_000, |world| world.secured(late) == (60, 58));
    assert!(certificates_asked(&world, late) <= 4, "each liar but once");
    let scored = &world.members[late].scored;
    assert!(scored.iter().all(|(who, _)| *who != honest));
}

#[test]
fn approvals_that_waited_for_their_source_count_when_it_comes_with_a_certificate() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(6));
    let some = certificates(&genesis, 0, &blocks, 0, 4);
    let late = world.add(&blocks);
    // This peer has certificates up to the source of the approvals, and no further.
    let other = add_with(&mut world, &blocks, &some);
    let link = Link {
        source: at(&genesis, &blocks, 4),
        target: at(&genesis, &blocks, 6),
    };
    let mute = world.add_odd(&blocks, |_, _| Reply::Silence);
    world.connect(mute, late);
    for validator in 0..QUORUM as usize {
        let signed = approve(&world, validator, link);
        world.gossip_to(mute, late, gossip(&signed));
    }
    world.run_for(500);
    assert_eq!(world.secured(late), (0, 0), "their source is not known");
    world.connect(late, other);
    world.run_until(5_000, |world| world.secured(late) == (6, 4));
}

#[test]
fn votes_from_ahead_with_a_forged_signature_cost_points() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(4));
    let node = world.add(&blocks);
    let liar = world.add_odd(&blocks, |_, honest| Reply::Answer(honest));
    world.connect(node, liar);
    world.run_for(1_000);
    // Its target is so far ahead that only its source makes the node check the signature.
    let far = |height| Checkpoint {
        height: Height(height),
        hash: genesis.params.genesis_hash,
    };
    let mut signed = approve(
        &world,
        0,
        Link {
            source: far(1_000),
            target: far(1_002),
        },
    );
    signed.signature.0[0] ^= 1;
    world.gossip_to(liar, node, gossip(&signed));
    world.run_for(500);
    let blamed: Vec<usize> = world.members[node]
        .scored
        .iter()
        .map(|(who, _)| *who)
        .collect();
    assert!(blamed.contains(&liar) || world.ban(node, liar).is_some());
    assert_eq!(world.verdicts_on(node, liar), [Verdict::Reject]);
}

#[test]
fn a_claim_that_is_not_kept_costs_points() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(8));
    let some = certificates(&genesis, 0, &blocks, 0, 4);
    let claim = at(&genesis, &blocks, 8);
    let node = world.add(&blocks);
    let liar = world.add_odd(&blocks, move |request, honest| match (request, honest) {
        (Request::Status(_), Response::Status(status)) => {
            let approved = claim;
            Reply::Answer(Response::Status(Status { approved, ..status }))
        }
        (_, honest) => Reply::Answer(honest),
    });
    put(&world.members[liar].store, &some);
    world.connect(node, liar);
    world.run_for(5_000);
    assert_eq!(world.secured(node), (4, 2), "what it has is taken");
    assert_eq!(world.members[node].scored, [(liar, 20)]);
    assert_eq!(
        certificates_asked(&world, node),
        1,
        "and not asked for again"
    );
    // Certificates out of order are no answer either.
    let mut mixed = some.clone();
    mixed.reverse();
    let claim = at(&genesis, &blocks, 4);
    let other = world.add(&blocks);
    let approved = move |status| Status {
        approved: claim,
        ..status
    };
    let liar = world.add_odd(&blocks, claiming(approved, mixed));
    world.connect(other, liar);
    world.run_for(5_000);
    assert_eq!(world.members[other].scored, [(liar, 20)]);
    assert_eq!(world.secured(other), (0, 0));
    // Nor are certificates whose source is not approved; the node looks no further into them.
    let high = certificates(&genesis, 0, &blocks, 6, 8);
    let claim = at(&genesis, &blocks, 8);
    let approved = move |status| Status {
        approved: claim,
        ..status
    };
    let third = add_with(&mut world, &blocks, &some);
    let liar = world.add_odd(&blocks, claiming(approved, high));
    world.connect(third, liar);
    world.run_for(5_000);
    assert_eq!(world.members[third].scored, [(liar, 20)]);
    assert_eq!(certificates_asked(&world, third), 1);
}

#[test]
fn many_certificates_take_few_commits() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(300));
    let all = certificates(&genesis, 0, &blocks, 0, 300);
    let store = Watched::new();
    let late = world.add_on(store.clone(), &blocks);
    let before = store.commits.load(Ordering::Relaxed);
    let honest = add_with(&mut world, &blocks, &all);
    world.connect(late, honest);
    world.run_until(10_000, |world| world.secured(late) == (300, 298));
    let commits = store.commits.load(Ordering::Relaxed) - before;
    assert!(commits <= 4, "{commits} commits for 150 certificates");
    assert_eq!(certificates_asked(&world, late), 1);
}

#[test]
fn a_vote_from_far_ahead_hurries_recovery() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(84));
    let all = certificates(&genesis, 0, &blocks, 0, 80);
    let node = world.add(&blocks);
    let first = Checkpoint::genesis(genesis.params.genesis_hash);
    // It learns of them after it was asked for its status.
    let mut asked = 0;
    let peer = world.add_odd(&blocks, move |request, honest| match (request, honest) {
        (Request::Status(_), Response::Status(status)) if asked == 0 => {
            asked += 1;
            let approved = first;
            Reply::Answer(Response::Status(Status { approved, ..status }))
        }
        (_, honest) => Reply::Answer(honest),
    });
    put(&world.members[peer].store, &all);
    world.restart(peer);
    world.connect(node, peer);
    world.run_for(2_000);
    assert_eq!(world.secured(node), (0, 0));
    let link = Link {
        source: at(&genesis, &blocks, 80),
        target: at(&genesis, &blocks, 82),
    };
    // A forged vote hurries nothing.
    let mut forged = approve(&world, 0, link);
    forged.signature = approve(&world, 1, link).signature;
    let other = world.add(&blocks);
    world.connect(node, other);
    world.run_for(500);
    let statuses = |world: &World, of: usize| {
        let asked = world.members[node].asked.iter();
        asked
            .filter(|(who, request)| *who == of && matches!(request, Request::Status(_)))
            .count()
    };
    world.gossip_to(other, node, gossip(&forged));
    world.run_for(3_000);
    assert_eq!(statuses(&world, other), 1);
    let signed = approve(&world, 0, link);
    world.gossip_to(peer, node, gossip(&signed));
    world.run_until(5_000, |world| world.secured(node) == (80, 78));
}

#[test]
fn certificates_guide_before_their_blocks_are_here() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let right = branch(&world.file, &[], &miner(), &empty(24));
    let strong = branch(&world.file, &[], &key(6).address, &empty(60));
    let all = certificates(&genesis, 0, &right, 0, 22);
    // It knows what is final, and has no block yet.
    let late = add_with(&mut world, &[], &all);
    assert_eq!(world.secured(late), (22, 20));
    let attacker = world.add(&strong);
    world.connect(late, attacker);
    world.run_for(20_000);
    assert!(
        world.height(late) < 2,
        "height {}: beyond a final height with another block",
        world.height(late)
    );
    assert!(world.blamed().is_empty(), "it may not know better");
    let honest = world.add(&right);
    world.connect(late, honest);
    world.run_until(20_000, |world| world.tip(late) == world.tip(honest));
}

#[test]
fn the_chain_with_more_of_what_is_final_is_better() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let right = branch(&world.file, &[], &miner(), &empty(12));
    let all = certificates(&genesis, 0, &right, 0, 12);
    // A branch that leaves after height 5, and one that leaves at the genesis.
    let [early, late] = [0, 5].map(|shared| {
        let below = &right[..shared];
        let own = branch(&world.file, below, &key(6).address, &empty(30));
        [below.to_vec(), own].concat()
    });
    let node = add_with(&mut world, &[], &all);
    let tip_is = |world: &World, block: &Block| world.tip(node) == block.header.hash();
    give(&mut world, node, &early);
    assert!(tip_is(&world, &early[29]), "there is no other");
    give(&mut world, node, &right[..2]);
    assert!(tip_is(&world, &right[1]), "it has the first of them");
    give(&mut world, node, &late[2..]);
    assert!(tip_is(&world, &late[34]), "and this the first two");
    give(&mut world, node, &right[5..6]);
    assert!(tip_is(&world, &right[5]), "less work, and three of them");
    give(&mut world, node, &right[6..]);
    assert!(tip_is(&world, &right[11]));
}

#[test]
fn headers_that_leave_below_a_final_block_are_not_kept() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let right = branch(&world.file, &[], &miner(), &empty(12));
    let all = certificates(&genesis, 0, &right, 0, 12);
    let node = add_with(&mut world, &right, &all);
    assert_eq!(world.secured(node), (12, 10));
    let own = branch(&world.file, &right[..5], &key(6).address, &empty(40));
    let attacker = world.add(&[right[..5].to_vec(), own].concat());
    world.connect(node, attacker);
    world.run_for(70_000);
    assert_eq!(world.members[node].most.headers, 0);
    assert_eq!(world.tip(node), right[11].header.hash());
    assert!(world.blamed().is_empty());
}

/// Reads for each block of a split that heals: for its header, when it comes, when it
/// joins the best chain. Some 70 are usual, however long the split.
const HEALING_READS_MAX: usize = 200;
/// Reads for a block that comes and stays off the best chain. Some 20 are usual, however
/// far from the fork.
const SIDE_READS_MAX: usize = 40;

/// Heals a split that is longer than a node without validators could undo. Both sides share the
/// first `shared` blocks, with every checkpoint approved.
fn heal_long_split(shared: u64) {
    let mut world = World::on(GenesisFile {
        time: GENESIS_TIME - 40_000,
        ..voting()
    });
    let depth = usize::try_from(UNDO_BLOCKS).unwrap() + 5;
    let plans = empty(usize::try_from(shared).unwrap());
    let common = branch(&world.file, &[], &miner(), &plans);
    let approved = certificates(&world.genesis, 0, &common, 0, shared);
    let payment = pay(&world.file, 0, 0, 1);
    let mut plans = empty(depth);
    plans[2].0.push(payment.clone());
    let ours = branch(&world.file, &common, &key(0).address, &plans);
    let theirs = branch(&world.file, &common, &key(1).address, &empty(depth + 5));
    let store = Watched::new();
    let a = world.add_on(store.clone(), &[common.clone(), ours].concat());
    put(&world.members[a].store, &approved);
    world.restart(a);
    let b = add_with(&mut world, &[common, theirs].concat(), &approved);
    let secured = (shared, shared.saturating_sub(INTERVAL));
    assert_eq!([a, b].map(|side| world.secured(side)), [secured; 2]);
    let (right, before) = (world.tip(b), store.reads());
    world.connect(a, b);
    world.run_until(120_000, |world| world.tip(a) == right);
    let reads = (store.reads() - before) / depth;
    assert!(reads <= HEALING_READS_MAX, "{reads} reads for each block");
    assert_eq!(world.tip(b), right);
    assert_eq!(world.secured(a), secured);
    assert!(world.blamed().is_empty());
    // What was paid on the branch that lost is pending again.
    let txid = payment.txid(&world.genesis.params.genesis_hash);
    let mempool = world.node(a).mempool().read().unwrap();
    assert!(mempool.get(&txid).is_some());
}

#[test]
fn a_split_heals_however_long_it_was_while_nothing_is_final() {
    heal_long_split(0);
}

#[test]
fn a_split_heals_however_long_it_was_since_the_last_final_block() {
    heal_long_split(14);
}

#[test]
fn a_block_of_a_long_side_branch_takes_few_reads() {
    // More than are remembered of side branches.
    let length = 1_100;
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let common = branch(&world.file, &[], &miner(), &empty(14));
    let ours = branch(&world.file, &common, &key(6).address, &empty(length));
    let theirs = branch(&world.file, &common, &key(5).address, &empty(length + 1));
    let ours = [common, ours].concat();
    // What is final is below the fork, or on the best chain above it.
    for (approved, switches) in [(14, true), (16, true), (18, false)] {
        let store = Watched::new();
        let node = world.add_on(store.clone(), &ours);
        let below = certificates(&genesis, 0, &ours, 0, approved);
        put(&world.members[node].store, &below);
        world.restart(node);
        assert_eq!(world.secured(node), (approved, approved - INTERVAL));
        let mut most = 0;
        for block in &theirs[..length] {
            let before = store.reads();
            give(&mut world, node, std::slice::from_ref(block));
            most = most.max(store.reads() - before);
        }
        assert!(most <= SIDE_READS_MAX, "{most} reads for one block");
        assert_eq!(world.tip(node), ours[ours.len() - 1].header.hash());
        give(&mut world, node, &theirs[length..]);
        let best = if switches { &theirs } else { &ours };
        assert_eq!(world.tip(node), best[best.len() - 1].header.hash());
    }
}
