//! Finality under a virtual clock. A quorum of approvals makes a block approved and then final, a
//! final block is never reorganised away, and a validator that contradicts itself is proven guilty.

use pithead_consensus::approval::SIGNED_APPROVAL_BYTES;
use pithead_consensus::{
    Address, Block, Certificate, Checkpoint, Encode as _, Height, Link, SignedApproval,
};
use pithead_core::finality::{Proof, certificate_at};
use pithead_core::sync::{Offence, Request, Response, Verdict};
use pithead_testkit::key;
use pithead_testkit::nodes::{branch, empty};
use pithead_testkit::votes::{
    QUORUM, VALIDATORS, accused, approve, certificate, checkpoint, genesis_checkpoint, give,
    gossip, mine, miner, validators, voting,
};
use pithead_testkit::world::{Reply, World, boastful_status};

#[test]
fn a_quorum_approves_and_the_next_checkpoint_finalises() {
    let mut world = validators(VALIDATORS);
    mine(&mut world, 0, 1);
    assert_eq!(world.secured(0), (0, 0), "height 1 is no checkpoint");
    mine(&mut world, 0, 1);
    for index in 0..VALIDATORS {
        assert_eq!(world.secured(index), (2, 0), "node {index}");
    }
    mine(&mut world, 3, 6);
    for index in 0..VALIDATORS {
        assert_eq!(world.secured(index), (8, 6), "node {index}");
        let state = world.node(index).finality().read().unwrap();
        for validator in 0..VALIDATORS {
            let address = key(validator).address;
            assert_eq!(state.participation(&address), (4, 4), "late ones count too");
            let last = &state.seen(&address).unwrap().approval.approval;
            assert_eq!(last.link.target.height, Height(8));
        }
        let moved: Vec<u64> = world.members[index]
            .moved
            .iter()
            .map(|status| status.last_final.height.0)
            .collect();
        assert_eq!(moved, [0, 2, 4, 6]);
    }
    assert!(world.blamed().is_empty());
}

#[test]
fn too_few_approvals_only_let_finality_wait() {
    let mut world = validators(QUORUM as usize);
    mine(&mut world, 0, 4);
    assert_eq!(world.secured(1), (4, 2));
    world.disconnect(4, 0);
    for other in 1..4 {
        world.disconnect(4, other);
    }
    mine(&mut world, 0, 6);
    assert_eq!(world.secured(1), (4, 2), "four are no quorum");
    assert_eq!(world.height(1), 10, "the chain goes on");
    for other in 0..4 {
        world.connect(4, other);
    }
    world.run_until(20_000, |world| {
        (0..5).all(|index| world.secured(index).0 == 10)
    });
    mine(&mut world, 2, 2);
    for index in 0..5 {
        assert_eq!(world.secured(index), (12, 10));
    }
    assert!(world.blamed().is_empty());
}

#[test]
fn promises_of_a_longer_chain_keep_no_validator_from_voting() {
    let quorum = QUORUM as usize;
    let mut world = validators(quorum);
    let plain = world.add(&[]);
    let liar = world.add_odd(&[], |request, honest| match (request, honest) {
        (Request::Status(_), honest) => {
            let mut status = boastful_status(honest);
            status.height.0 += 1_000_000;
            Reply::Answer(Response::Status(status))
        }
        (Request::Headers { .. }, _) => Reply::Silence,
        (_, honest) => Reply::Answer(honest),
    });
    for index in 0..quorum {
        world.connect(index, plain);
        world.connect(index, liar);
    }
    world.run_for(1_000);
    let told = |world: &World| (0..quorum).all(|index| world.node(index).sync_status().syncing);
    assert!(told(&world), "each was told of it by a peer of its choice");
    mine(&mut world, plain, 2);
    assert!(told(&world), "and has no answer yet");
    for index in 0..quorum {
        assert_eq!(world.secured(index), (2, 0), "node {index}");
    }
}

#[test]
fn what_gossip_loses_is_asked_for() {
    let mut world = validators(QUORUM as usize);
    // Every vote is needed, and one message in three is lost.
    world.loss = 3;
    for _ in 0..6 {
        world.mine(0);
        world.run_for(20_000);
    }
    world.run_until(60_000, |world| {
        (0..5).all(|index| world.secured(index) == (6, 4))
    });
}

#[test]
fn a_late_joiner_gets_certificates_and_holds_to_them() {
    let mut world = validators(QUORUM as usize);
    mine(&mut world, 0, 12);
    // An attacker's chain with more work, which contains nothing final.
    let strong = branch(&world.file, &[], &miner(), &empty(30));
    let attacker = world.add(&strong);
    let late = world.add(&[]);
    world.connect(late, attacker);
    world.run_until(10_000, |world| world.height(late) == 30);
    world.connect(late, 1);
    world.run_until(20_000, |world| world.tip(late) == world.tip(1));
    assert_eq!(world.secured(late), (12, 10));
    world.run_for(120_000);
    assert_eq!(world.tip(late), world.tip(1), "it stays there");
    // It serves what it learned.
    let other = world.add(&[]);
    world.connect(other, late);
    world.run_until(20_000, |world| world.secured(other) == (12, 10));
    assert!(!world.blamed().contains(&1));
}

#[test]
fn a_final_block_is_never_reorganised_away() {
    let mut world = validators(QUORUM as usize);
    mine(&mut world, 0, 6);
    assert_eq!(world.secured(2), (6, 4));
    let tip = world.tip(2);
    let strong = branch(&world.file, &[], &miner(), &empty(40));
    let attacker = world.add(&strong);
    world.connect(attacker, 2);
    world.run_for(60_000);
    assert_eq!(world.tip(2), tip);
    // Blocks that are handed in do not replace it either.
    for block in &strong {
        world.give_later(2, block);
    }
    assert_eq!(world.tip(2), tip);
    assert!(world.blamed().iter().all(|who| *who == attacker));
}

#[test]
fn a_certificate_moves_the_chain_to_what_is_approved() {
    let mut world = World::on(voting());
    let short = branch(&world.file, &[], &miner(), &empty(3));
    let long = branch(&world.file, &[], &key(6).address, &empty(5));
    let node = world.add(&long);
    give(&mut world, node, &short);
    assert_eq!(world.height(node), 5);
    let peer = world.add(&[]);
    world.connect(node, peer);
    world.run_for(100);
    let link = Link {
        source: genesis_checkpoint(&world),
        target: checkpoint(&short[1], 2),
    };
    for validator in 0..QUORUM as usize {
        let signed = approve(&world, validator, link);
        world.gossip_to(peer, node, gossip(&signed));
    }
    world.run_for(1_000);
    assert_eq!(world.secured(node), (2, 0));
    assert_eq!(world.height(node), 3, "less work, but approved");
    assert_eq!(world.tip(node), short[2].header.hash());
    // More work on what is not approved changes nothing up to eight blocks above the fork.
    let longer = branch(&world.file, &long, &miner(), &empty(4));
    give(&mut world, node, &longer[..3]);
    assert_eq!(world.tip(node), short[2].header.hash());
    world.restart(node);
    assert_eq!(world.tip(node), short[2].header.hash());
    assert_eq!(world.secured(node), (2, 0));
    give(&mut world, node, &longer[3..]);
    assert_eq!(world.tip(node), longer[3].header.hash(), "nine blocks");
    assert_eq!(world.secured(node), (2, 0), "approved all the same");
}

#[test]
fn a_double_vote_is_evidence_that_travels() {
    let mut world = World::on(voting());
    let blocks = branch(&world.file, &[], &miner(), &empty(2));
    let others = branch(&world.file, &[], &key(6).address, &empty(2));
    let nodes: Vec<usize> = (0..3).map(|_| world.add(&blocks)).collect();
    let liar = world.add(&blocks);
    world.connect(liar, nodes[0]);
    world.connect(nodes[0], nodes[1]);
    world.connect(nodes[1], nodes[2]);
    world.run_for(100);
    let source = genesis_checkpoint(&world);
    for block in [&blocks[1], &others[1]] {
        let target = checkpoint(block, 2);
        let signed = approve(&world, 3, Link { source, target });
        world.gossip_to(liar, nodes[0], gossip(&signed));
    }
    world.run_for(1_000);
    for node in &nodes {
        assert_eq!(accused(world.node(*node)), [key(3).address]);
    }
    // Peers that pass the evidence on are not blamed.
    assert!(world.blamed().is_empty());
    // The evidence is kept across a restart, and only once.
    world.restart(nodes[2]);
    world.run_for(1_000);
    let state = world.node(nodes[2]).finality().read().unwrap();
    assert_eq!(state.proofs().len(), 1);
    let Proof::Votes(evidence) = &state.proofs()[0].proof else {
        panic!("another kind");
    };
    evidence.check(state.validators()).unwrap();
}

/// A node and a peer of it, both with so many blocks of a network with validators.
fn node_and_peer(count: usize) -> (World, Vec<Block>, [usize; 2]) {
    let mut world = World::on(voting());
    let blocks = branch(&world.file, &[], &miner(), &empty(count));
    let (node, peer) = (world.add(&blocks), world.add(&blocks));
    world.connect(node, peer);
    world.run_for(100);
    (world, blocks, [node, peer])
}

#[test]
fn another_signature_on_one_vote_is_neither_news_nor_an_offence() {
    let (mut world, blocks, [node, peer]) = node_and_peer(2);
    let link = Link {
        source: genesis_checkpoint(&world),
        target: checkpoint(&blocks[1], 2),
    };
    for _ in 0..3 {
        let signed = approve(&world, 0, link);
        world.gossip_to(peer, node, gossip(&signed));
    }
    world.run_for(1_000);
    let verdicts = world.verdicts_on(node, peer);
    assert_eq!(
        verdicts,
        [Verdict::Accept, Verdict::Ignore, Verdict::Ignore]
    );
    let state = world.node(node).finality().read().unwrap();
    assert!(state.proofs().is_empty());
    assert_eq!(state.pooled(), 1);
}

#[test]
fn approvals_that_break_a_rule_cost_the_peer_its_place() {
    let bad: [fn(&World, Checkpoint) -> SignedApproval; 4] = [
        // Not a validator.
        |world, target| {
            let source = genesis_checkpoint(world);
            approve(world, 7, Link { source, target })
        },
        // The signature of another.
        |world, target| {
            let source = genesis_checkpoint(world);
            let mut signed = approve(world, 0, Link { source, target });
            signed.signature = approve(world, 1, signed.approval.link).signature;
            signed
        },
        // No checkpoint.
        |world, mut target| {
            target.height = Height(3);
            let source = genesis_checkpoint(world);
            approve(world, 0, Link { source, target })
        },
        // Backwards.
        |world, target| {
            let source = Checkpoint {
                height: Height(4),
                ..target
            };
            approve(world, 0, Link { source, target })
        },
    ];
    for make in bad {
        let (mut world, blocks, [node, peer]) = node_and_peer(2);
        let signed = make(&world, checkpoint(&blocks[1], 2));
        world.gossip_to(peer, node, gossip(&signed));
        world.run_for(1_000);
        assert_eq!(world.verdicts_on(node, peer), [Verdict::Reject]);
        assert_eq!(world.ban(node, peer), Some(Offence::InvalidApproval));
        assert_eq!(world.node(node).finality().read().unwrap().pooled(), 0);
    }
}

#[test]
fn a_flood_of_votes_is_bounded() {
    let (mut world, blocks, [node, peer]) = node_and_peer(4);
    let source = genesis_checkpoint(&world);
    for number in 0..200_u64 {
        let mut hash = blocks[1].header.hash();
        hash.0[31] = u8::try_from(number % 100).unwrap();
        let height = if number < 100 { 4 } else { 2 * (number - 99) };
        let target = Checkpoint {
            height: Height(height),
            hash,
        };
        let signed = approve(&world, 0, Link { source, target });
        world.gossip_to(peer, node, gossip(&signed));
    }
    world.run_for(5_000);
    let state = world.node(node).finality().read().unwrap();
    // Two of one height; one or two of each height within 16 checkpoints of the tip.
    assert!(state.pooled() <= 2 * 18, "{}", state.pooled());
    assert!(state.pooled() >= 18, "{}", state.pooled());
    // One validator's misbehaviour does not fill the disk.
    assert!(state.proofs().len() <= 16);
    assert!(world.blamed().is_empty(), "the sender may be honest");
}

#[test]
fn conflicting_certificates_stop_finality_and_switch_nothing() {
    let mut world = World::on(voting());
    let ours = branch(&world.file, &[], &miner(), &empty(4));
    let theirs = branch(&world.file, &[], &key(6).address, &empty(3));
    let node = world.add(&ours);
    let peer = world.add(&theirs);
    let source = genesis_checkpoint(&world);
    let link = |block: &Block| Link {
        source,
        target: checkpoint(block, 2),
    };
    // The node gets its own branch's approvals first, and then those of the other branch.
    world.connect(node, peer);
    for validator in 0..QUORUM as usize {
        let signed = approve(&world, validator, link(&ours[1]));
        world.gossip_to(peer, node, gossip(&signed));
    }
    world.run_for(100);
    assert_eq!(world.secured(node), (2, 0));
    let tip = world.tip(node);
    for validator in 2..VALIDATORS {
        let signed = approve(&world, validator, link(&theirs[1]));
        world.gossip_to(peer, node, gossip(&signed));
    }
    world.run_for(100);
    assert_eq!(world.tip(node), tip, "nothing is switched at once");
    {
        let state = world.node(node).finality().read().unwrap();
        assert!(state.status().conflict);
        let both: Vec<Address> = (2..QUORUM as usize)
            .map(|index| key(index).address)
            .collect();
        let found = accused(world.node(node));
        assert_eq!(found.len(), both.len(), "all that voted twice");
        assert!(both.iter().all(|address| found.contains(address)));
        let pairs = state.proofs().iter();
        let pairs = pairs.filter(|kept| matches!(kept.proof, Proof::Certificates(..)));
        assert_eq!(pairs.count(), 1);
    }
    // From here on work decides, and nothing more is approved.
    let third = Link {
        source: checkpoint(&ours[1], 2),
        target: checkpoint(&ours[3], 4),
    };
    for validator in 0..QUORUM as usize {
        let signed = approve(&world, validator, third);
        world.gossip_to(peer, node, gossip(&signed));
    }
    world.run_for(1_000);
    assert_eq!(world.tip(node), tip);
    for _ in 0..3 {
        world.mine(peer);
        world.run_for(1_000);
    }
    assert_eq!(world.tip(node), world.tip(peer));
    assert_eq!(world.secured(node), (2, 0));
    // It is remembered.
    world.restart(node);
    assert!(
        world
            .node(node)
            .finality()
            .read()
            .unwrap()
            .status()
            .conflict
    );
}

#[test]
fn a_restarted_validator_says_the_same_or_nothing() {
    let mut world = validators(QUORUM as usize);
    mine(&mut world, 0, 4);
    for round in 0..6 {
        let index = round % QUORUM as usize;
        world.restart(index);
        world.run_for(500);
        mine(&mut world, (round + 1) % QUORUM as usize, 1);
    }
    mine(&mut world, 0, 4);
    for index in 0..QUORUM as usize {
        assert!(accused(world.node(index)).is_empty());
        let (approved, _) = world.secured(index);
        assert!(approved >= 12, "{approved}");
        // Reading it back applies rules 1 and 2 once more.
        let (_, journal) = world.members[index].journal.as_ref().unwrap();
        assert!(journal.record().votes().count() >= 6);
    }
}

#[test]
fn a_vote_on_record_that_never_left_is_cast_after_the_restart() {
    let mut world = validators(QUORUM as usize - 1);
    let blocks = branch(&world.file, &[], &miner(), &empty(2));
    // One more validator, whose process died right after it wrote its vote.
    let last = world.add_validator(&blocks, QUORUM as usize - 1);
    let link = Link {
        source: genesis_checkpoint(&world),
        target: checkpoint(&blocks[1], 2),
    };
    {
        use pithead_core::finality::VoteJournal as _;
        let (_, journal) = world.members[last].journal.as_mut().unwrap();
        journal.append(&link).unwrap();
    }
    world.restart(last);
    for index in 0..last {
        world.connect(last, index);
    }
    world.run_until(20_000, |world| {
        (0..=last).all(|index| world.secured(index).0 == 2)
    });
    let (_, journal) = world.members[last].journal.as_ref().unwrap();
    assert_eq!(journal.0.lock().unwrap().as_slice(), [link]);
}

#[test]
fn certificates_are_served_and_checked() {
    let mut world = World::on(voting());
    let blocks = branch(&world.file, &[], &miner(), &empty(4));
    let node = world.add(&blocks);
    let link = Link {
        source: genesis_checkpoint(&world),
        target: checkpoint(&blocks[1], 2),
    };
    let sound = certificate(&world, link);
    let shown = sound.clone();
    let claims = [2, 4].map(|height| checkpoint(&blocks[height - 1], height as u64));
    // A peer that knows of more, and shows a certificate.
    let good = world.add_odd(&blocks, move |request, honest| match (request, honest) {
        (Request::Status(_), Response::Status(status)) => {
            Reply::Answer(Response::Status(pithead_core::sync::Status {
                approved: claims[0],
                ..status
            }))
        }
        (Request::Certificates(_), _) => Reply::Answer(Response::Certificates(vec![shown.clone()])),
        (_, honest) => Reply::Answer(honest),
    });
    world.connect(node, good);
    world.run_until(5_000, |world| world.secured(node).0 == 2);
    let store = world.node(node).chain().store().snapshot().unwrap();
    let kept = certificate_at(store.as_ref(), Height(2)).unwrap();
    assert_eq!(kept, Some(sound.clone()));
    assert!(world.blamed().is_empty());
    // One peer claims more and has no certificate; another forges one.
    let mut raw = sound.encode();
    let end = raw.len() - 1;
    raw[end] ^= 1;
    let forged: Certificate = pithead_consensus::Decode::decode(&raw).unwrap();
    for (answer, points) in [(Vec::new(), 20), (vec![forged], 100)] {
        let other = world.add(&blocks);
        let liar = world.add_odd(&blocks, move |request, honest| match (request, honest) {
            (Request::Status(_), Response::Status(status)) => {
                Reply::Answer(Response::Status(pithead_core::sync::Status {
                    approved: claims[1],
                    ..status
                }))
            }
            (Request::Certificates(_), _) => Reply::Answer(Response::Certificates(answer.clone())),
            (_, honest) => Reply::Answer(honest),
        });
        world.connect(other, liar);
        world.run_for(5_000);
        assert_eq!(world.secured(other), (0, 0));
        let scored = world.members[other].scored.first().copied();
        assert_eq!(scored, Some((liar, points)));
    }
}

#[test]
fn an_approval_takes_what_the_protocol_says() {
    let world = World::on(voting());
    let link = Link {
        source: genesis_checkpoint(&world),
        target: Checkpoint {
            height: Height(2),
            ..genesis_checkpoint(&world)
        },
    };
    assert_eq!(
        approve(&world, 0, link).encode().len(),
        SIGNED_APPROVAL_BYTES
    );
    assert_eq!(SIGNED_APPROVAL_BYTES, 369);
}
