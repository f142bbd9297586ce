//! Votes that come late or are held back: they undo a few blocks at most, strand nobody for good,
//! and every node judges by them alike (protocol §8, rules 2 and 3).

use std::collections::BTreeMap;

use pithead_consensus::{Block, Height, Link, VoteRecord};
use pithead_testkit::key;
use pithead_testkit::nodes::{branch, empty};
use pithead_testkit::votes::{
    INTERVAL, QUORUM, add_with, approve, at, certificate_of, certificates, give, gossip, voting,
};
use pithead_testkit::world::{Reply, World};

/// Two branches above a common block, a node that knows both, and seven validators: numbers 0 to 3
/// are online, 4 and 5 late, and 6 is away.
struct Split {
    world: World,
    node: usize,
    /// A peer that passes the votes on.
    messenger: usize,
    branches: [Vec<Block>; 2],
    common: u64,
    records: [VoteRecord; 7],
    votes: BTreeMap<Link, usize>,
}

const ONLINE: std::ops::Range<usize> = 0..4;
const LATE: std::ops::Range<usize> = 4..6;

impl Split {
    /// Both branches with one block of their own.
    fn new() -> Self {
        let mut world = World::on(voting());
        let shared = branch(&world.file, &[], &key(7).address, &empty(1));
        let branches = [6, 7].map(|owner| {
            let own = branch(&world.file, &shared, &key(owner).address, &empty(1));
            [shared.clone(), own].concat()
        });
        let node = world.add(&branches[0]);
        give(&mut world, node, &branches[1][1..]);
        let messenger = world.add_odd(&[], |_, _| Reply::Silence);
        world.connect(messenger, node);
        world.run_for(500);
        Self {
            world,
            node,
            messenger,
            branches,
            common: 1,
            records: Default::default(),
            votes: BTreeMap::new(),
        }
    }

    /// The branch that the node follows.
    fn followed(&self) -> usize {
        let tip = self.world.tip(self.node);
        let ends = |blocks: &Vec<Block>| blocks.iter().any(|block| block.header.hash() == tip);
        self.branches.iter().position(ends).unwrap()
    }

    /// Adds a block to the branch that the node follows.
    fn extend(&mut self) {
        self.extend_branch(self.followed());
    }

    fn extend_branch(&mut self, followed: usize) {
        let owner = key(6 + followed).address;
        let blocks = &mut self.branches[followed];
        let next = branch(&self.world.file, blocks, &owner, &empty(1));
        blocks.extend(next.clone());
        give(&mut self.world, self.node, &next);
        self.world.run_for(100);
    }

    fn send(&mut self, validator: usize, link: Link) -> bool {
        if self.records[validator].record(link).is_err() {
            return false;
        }
        *self.votes.entry(link).or_default() += 1;
        let signed = approve(&self.world, validator, link);
        let (from, to) = (self.messenger, self.node);
        self.world.gossip_to(from, to, gossip(&signed));
        self.world.run_for(100);
        true
    }

    /// These validators vote for the last checkpoint of the chain that the node follows.
    fn vote(&mut self, validators: impl Iterator<Item = usize>) {
        let blocks = self.branches[self.followed()].clone();
        let top = blocks.len() as u64 / INTERVAL * INTERVAL;
        let view = self.world.node(self.node).finality().read().unwrap().view();
        let checkpoint = |height| at(&self.world.genesis, &blocks, height);
        let source = (0..top)
            .step_by(INTERVAL as usize)
            .map(checkpoint)
            .filter(|source| view.is_approved(source))
            .last();
        let link = Link {
            source: source.unwrap(),
            target: checkpoint(top),
        };
        for validator in validators {
            self.send(validator, link);
        }
    }

    /// The links of a branch that lack one vote for a certificate which would become the highest.
    fn lacking_one(&self, branch: usize) -> Vec<Link> {
        let blocks = &self.branches[branch];
        let (approved, _) = self.world.secured(self.node);
        let on_branch = |link: &Link| {
            let height = link.target.height.0;
            height <= blocks.len() as u64 && at(&self.world.genesis, blocks, height) == link.target
        };
        let lacking = self.votes.iter().filter(|(link, count)| {
            **count + 1 == QUORUM as usize && link.target.height.0 > approved && on_branch(link)
        });
        lacking.map(|(link, _)| *link).collect()
    }

    /// The adversary's move: a late vote that completes a checkpoint on the branch that the node does
    /// not follow. The adversary waits until the followed branch has a higher checkpoint that
    /// another late vote can complete: with it, the next move leads back. Returns how many blocks
    /// the node undid.
    fn release_late_vote(&mut self) -> Option<u64> {
        let followed = self.followed();
        let before = self.world.height(self.node);
        let way_back = self.lacking_one(followed);
        let link = self.lacking_one(1 - followed).into_iter().find(|link| {
            let higher = |back: &Link| back.target.height > link.target.height;
            way_back.iter().any(higher)
        })?;
        let sent = LATE.clone().any(|validator| self.send(validator, link));
        self.world.run_for(500);
        (sent && self.followed() != followed).then(|| before - self.common)
    }
}

#[test]
fn late_votes_never_undo_more_than_eight_blocks() {
    let mut split = Split::new();
    // An ordinary fork: the node follows one branch, and then the other one grows faster.
    split.vote(ONLINE);
    split.extend_branch(1);
    assert_eq!(split.followed(), 1);
    let mut undone = Vec::new();
    for _ in 0..60 {
        split.extend();
        split.vote(ONLINE);
        undone.extend(split.release_late_vote());
    }
    assert!(undone.len() >= 2, "the votes do move the node: {undone:?}");
    assert!(undone.iter().all(|depth| *depth <= 8), "{undone:?}");
    assert_eq!(
        split.world.secured(split.node).1,
        0,
        "four of seven are too few"
    );
    // When the late ones come back, finality goes on, although one validator is still away.
    for _ in 0..4 * INTERVAL {
        split.extend();
        split.vote(0..6);
    }
    let (_, last_final) = split.world.secured(split.node);
    assert!(last_final > 0, "finality goes on");
}

/// A chain of 14 blocks that leaves a chain of 8 after block 2, and the certificate that approves
/// block 6 of the shorter chain.
fn excused() -> (World, Vec<Block>, Vec<Block>) {
    let world = World::on(voting());
    let common = branch(&world.file, &[], &key(7).address, &empty(2));
    let [short, long] = [6_usize, 12].map(|count| {
        let owner = key(if count == 6 { 6 } else { 7 }).address;
        let own = branch(&world.file, &common, &owner, &empty(count));
        [common.clone(), own].concat()
    });
    (world, short, long)
}

#[test]
fn a_chain_on_which_a_quorum_can_not_vote_is_left() {
    let (mut world, short, long) = excused();
    let genesis = world.genesis.clone();
    let approved = Link {
        source: at(&genesis, &short, 0),
        target: at(&genesis, &short, 6),
    };
    let certificate = certificate_of(&genesis, 2, approved);
    let node = add_with(&mut world, &long, std::slice::from_ref(&certificate));
    give(&mut world, node, &short[2..]);
    let tip_is = |world: &World, index, block: &Block| world.tip(index) == block.header.hash();
    assert!(tip_is(&world, node, &long[13]), "12 blocks above the fork");
    let messenger = world.add_odd(&[], |_, _| Reply::Silence);
    world.connect(messenger, node);
    let vote = Link {
        source: approved.target,
        target: at(&genesis, &short, 8),
    };
    let made_up = Link {
        source: at(&genesis, &long, 10),
        target: at(&genesis, &long, 14),
    };
    // A vote from a source that is not approved says nothing, and one stranded validator of seven
    // leaves a quorum even if another is silent.
    for (validator, link) in [(4, made_up), (5, made_up), (0, vote)] {
        let signed = approve(&world, validator, link);
        world.gossip_to(messenger, node, gossip(&signed));
        world.run_for(500);
        assert!(tip_is(&world, node, &long[13]));
    }
    let signed = approve(&world, 1, vote);
    world.gossip_to(messenger, node, gossip(&signed));
    world.run_for(500);
    assert!(tip_is(&world, node, &short[7]), "two are stranded");
    // The votes are kept over a restart.
    world.restart(node);
    assert!(tip_is(&world, node, &short[7]));
    let longer = branch(&world.file, &long, &key(7).address, &empty(1));
    give(&mut world, node, &longer);
    assert!(tip_is(&world, node, &short[7]));
    // A node that was away gets them from its peer, and judges alike.
    let late = add_with(&mut world, &long, &[certificate]);
    assert!(tip_is(&world, late, &long[13]));
    world.connect(late, node);
    world.run_until(20_000, |world| world.tip(late) == world.tip(node));
}

#[test]
fn a_chain_becomes_votable_again_when_it_gets_a_higher_approved_checkpoint() {
    let (mut world, short, long) = excused();
    let genesis = world.genesis.clone();
    let shorter = Link {
        source: at(&genesis, &short, 0),
        target: at(&genesis, &short, 6),
    };
    let node = add_with(&mut world, &long, &[certificate_of(&genesis, 2, shorter)]);
    give(&mut world, node, &short[2..]);
    let messenger = world.add_odd(&[], |_, _| Reply::Silence);
    world.connect(messenger, node);
    let send = |world: &mut World, validator, link| {
        let signed = approve(world, validator, link);
        world.gossip_to(messenger, node, gossip(&signed));
        world.run_for(200);
    };
    let stranded = Link {
        source: shorter.target,
        target: at(&genesis, &short, 8),
    };
    send(&mut world, 5, stranded);
    send(&mut world, 6, stranded);
    assert_eq!(world.tip(node), short[7].header.hash());
    let higher = Link {
        source: at(&genesis, &long, 0),
        target: at(&genesis, &long, 12),
    };
    for validator in 0..QUORUM as usize {
        send(&mut world, validator, higher);
    }
    assert_eq!(world.secured(node).0, 12);
    assert_eq!(world.tip(node), long[13].header.hash());
    // Peers get the votes with the highest sources, whatever became of their targets.
    let state = world.node(node).finality().read().unwrap();
    let given = state.approvals_above(Height(0), 7);
    let of_stranded = given.iter().filter(|each| each.approval.link == stranded);
    assert_eq!(of_stranded.count(), 2);
}

#[test]
fn a_validator_votes_from_the_highest_approved_checkpoint_of_its_own_chain() {
    let (mut world, short, long) = excused();
    let genesis = world.genesis.clone();
    let below = certificates(&genesis, 0, &long, 0, 2);
    let aside = Link {
        source: at(&genesis, &short, 2),
        target: at(&genesis, &short, 6),
    };
    let voter = world.add_validator(&long, 0);
    pithead_testkit::votes::put(&world.members[voter].store, &below);
    let aside = certificate_of(&genesis, 1, aside);
    pithead_testkit::votes::put(&world.members[voter].store, &[aside]);
    world.restart(voter);
    assert_eq!(world.secured(voter).0, 6, "on the other chain");
    world.run_for(10_000);
    let state = world.node(voter).finality().read().unwrap();
    let cast = state.approvals_above(Height(6), 10);
    let sources: Vec<_> = cast.iter().map(|each| each.approval.link.source).collect();
    assert!(!sources.is_empty());
    let own = at(&genesis, &long, 2);
    assert!(sources.iter().all(|source| *source == own), "{sources:?}");
}
