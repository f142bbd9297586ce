//! What comes while a long reorganisation is worked out, and what follows it.

use std::path::Path;
use std::sync::Arc;

use pithead_consensus::{Finality, Link};
use pithead_core::chain::{AcceptContext, Advance, Chain};
use pithead_core::finality::FinalityView;
use pithead_core::node::{Answer, BlockVerdict, Effect, Event, Node};
use pithead_core::store::{Store, Table};
use pithead_core::sync::{Gossip, PeerEffect, PeerEvent, PeerKey};
use pithead_testkit::key;
use pithead_testkit::nodes::{
    NOW, Plan, assert_equals_replay, branch, empty, file, give, give_all, memory, pay, stores,
    table, tip,
};
use pithead_testkit::votes::{INTERVAL, at, voting};

use super::{Mortal, TINY, begun, go_on, open_tiny, paying};
use crate::reorganisation::{submit, two_branches};

#[test]
fn blocks_that_come_meanwhile_count_at_the_end() {
    let file = file();
    let genesis = file.check().unwrap();
    let (a, b) = two_branches();
    let on_a = [a.clone(), branch(&file, &a, &key(6).address, &empty(2))].concat();
    let on_b = [b.clone(), branch(&file, &b, &key(7).address, &empty(3))].concat();
    let third = branch(&file, &b[..2], &key(3).address, &empty(4));
    let on_third = [b[..2].to_vec(), third].concat();
    // Which blocks come while six pieces are left or fewer, the chain that is the best then, and
    // how often blocks are undone for it: not for a branch that is no longer the best.
    let cases = [
        (&on_a[3..4], &b, 1),
        (&on_a[3..5], &on_a, 0),
        (&on_b[4..7], &on_b, 1),
        (&on_third[2..6], &on_third, 2),
    ];
    for (given, best, undone) in cases {
        for pieces in 0..6 {
            let mut node = begun(&memory(), &a, &b);
            let mut effects = Vec::new();
            for _ in 0..pieces {
                effects.extend(node.handle(Event::Continue, NOW).1);
            }
            give_all(&mut node, given, NOW);
            effects.extend(go_on(&mut node).0);
            assert_equals_replay(&node, &genesis, best, NOW);
            let is_undone = |effect: &&Effect| matches!(effect, Effect::TipChanged { disconnected, .. } if *disconnected > 0);
            assert_eq!(effects.iter().filter(is_undone).count(), undone);
        }
    }
}

#[test]
fn a_long_reorganisation_is_given_up_once_certificates_favour_the_present_chain() {
    let file = voting();
    let genesis = file.check().unwrap();
    let a = branch(&file, &[], &key(6).address, &empty(4));
    let b = branch(&file, &[], &key(7).address, &empty(5));
    let mut finality = Finality::new(INTERVAL.try_into().unwrap(), at(&genesis, &a, 0));
    let nothing = FinalityView::new(finality.clone());
    let link = Link {
        source: at(&genesis, &a, 0),
        target: at(&genesis, &a, 2),
    };
    finality.accept(link).unwrap();
    let approved = FinalityView::new(finality);
    // The chain is told at once, or finds out at the end.
    for told in [true, false] {
        let store = memory();
        let path = Path::new("test");
        let mut chain = Chain::open(Arc::clone(&store), genesis.clone(), path).unwrap();
        chain.set_limits(TINY);
        for block in a.iter().chain(&b) {
            let context = AcceptContext {
                now: NOW,
                finality: &nothing,
            };
            let accepted = chain.accept_block(block.clone(), context, &mut |_| {});
            accepted.unwrap();
        }
        assert_eq!(chain.reorganising(), Some((1, 9)));
        chain.advance(&nothing, &mut |_| {}).unwrap();
        if told {
            let update = chain.reconsider(&approved, &mut |_| {}).unwrap();
            assert!(update.is_none());
            assert_eq!(chain.reorganising(), None);
        }
        while chain.has_more() {
            let advance = chain.advance(&approved, &mut |_| panic!("no new tip"));
            assert!(matches!(advance, Ok(Advance::Nothing)));
        }
        assert_eq!(chain.tip().hash(), a[3].header.hash());
        assert!(table(&store, Table::Staged).is_empty());
    }
}

#[test]
fn a_flood_of_side_blocks_does_not_delay_the_end() {
    let file = file();
    let (a, b) = two_branches();
    let steps = |flood: bool| {
        let store = memory();
        let mut node = begun(&store, &a, &b);
        let mut events = 0;
        while node.chain().reorganising().is_some() {
            if flood {
                // Siblings of the tip, and of the tip to be.
                for (below, owner) in [(&a[..2], 0), (&b[..3], 1)] {
                    let plans = [(Vec::new(), 10 + u32::try_from(events).unwrap())];
                    let side = branch(&file, below, &key(owner).address, &plans);
                    assert_eq!(give(&mut node, &side[0], NOW).unwrap(), BlockVerdict::Side);
                }
            }
            node.handle(Event::Continue, NOW);
            events += 1;
        }
        assert_eq!(tip(&node), b[3].header.hash());
        events
    };
    assert_eq!(steps(true), steps(false));
}

#[test]
fn the_core_answers_between_the_pieces() {
    let file = file();
    let (a, b) = two_branches();
    let mortal = Mortal::new(&memory(), usize::MAX);
    let store: Arc<dyn Store> = mortal.clone();
    let mut node = begun(&store, &a, &b);
    let mut pieces = 0;
    while node.chain().reorganising().is_some() {
        // Any other event costs what it always costs: no piece is worked out in it.
        let (commits, before) = (mortal.commits(), node.chain().reorganising());
        let template = match node.handle(Event::FreshTemplate, NOW).0 {
            Answer::Template(template) => template.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            template.parent,
            a[2].header.hash(),
            "work on the chain that is valid"
        );
        let peer = PeerKey(pieces);
        let inbound = false;
        node.handle(Event::Peer(PeerEvent::Connected { peer, inbound }), NOW);
        submit(&mut node, &pay(&file, 3, pieces, 0), NOW);
        assert_eq!(
            (mortal.commits(), node.chain().reorganising()),
            (commits, before)
        );
        // A piece comes with each tick, however many events wait.
        node.handle(Event::Tick, NOW);
        assert_ne!(node.chain().reorganising(), before);
        assert_eq!(mortal.commits(), commits + 1);
        pieces += 1;
    }
    assert_eq!(pieces, 6);
    assert_eq!(node.template(NOW).unwrap().parent, b[3].header.hash());
    // What was paid meanwhile is still pending.
    let mempool = node.mempool().read().unwrap();
    assert_eq!(mempool.of_sender(&key(3).address).count(), 6);
}

#[test]
fn a_second_long_reorganisation_waits_until_the_rows_of_the_first_have_moved() {
    let file = file();
    let genesis = file.check().unwrap();
    let (a, b) = two_branches();
    let c = branch(&file, &[], &key(3).address, &paying(6, 2));
    for (store, _dir) in stores() {
        let mut node = begun(&store, &a, &b);
        while tip(&node) != b[3].header.hash() {
            node.handle(Event::Continue, NOW);
        }
        assert!(!table(&store, Table::Staged).is_empty());
        give_all(&mut node, &c[..5], NOW);
        assert_eq!(tip(&node), b[3].header.hash());
        assert_eq!(node.chain().reorganising(), None);
        give_all(&mut node, &c[5..], NOW);
        go_on(&mut node);
        assert_equals_replay(&node, &genesis, &c, NOW);
        assert!(table(&store, Table::Staged).is_empty());
    }
}

#[test]
fn payments_of_the_branch_that_is_left_come_back_block_by_block() {
    let file = file();
    let genesis = file.check().unwrap();
    let own: Vec<Plan> = (0..3)
        .map(|sequence| (vec![pay(&file, 0, sequence, 4)], 2))
        .collect();
    let a = branch(&file, &[], &key(6).address, &own);
    // The other branch mines the first of them, and one that was pending.
    let mut plans = empty(4);
    plans[2].0 = vec![a[0].transactions[0].clone(), pay(&file, 1, 0, 4)];
    let b = branch(&file, &[], &key(7).address, &plans);
    let store = memory();
    let mut node = open_tiny(&store);
    let peer = PeerKey(1);
    let inbound = false;
    node.handle(Event::Peer(PeerEvent::Connected { peer, inbound }), NOW);
    give_all(&mut node, &a, NOW);
    submit(&mut node, &pay(&file, 0, 3, 4), NOW);
    submit(&mut node, &pay(&file, 1, 0, 4), NOW);
    give_all(&mut node, &b, NOW);
    let (effects, _) = go_on(&mut node);
    assert_equals_replay(&node, &genesis, &b, NOW);
    let sequences = |node: &Node, index: usize| -> Vec<u64> {
        let mempool = node.mempool().read().unwrap();
        let pending = mempool.of_sender(&key(index).address);
        pending.map(|each| each.body().sequence).collect()
    };
    assert_eq!(sequences(&node, 0), [1, 2, 3]);
    assert_eq!(sequences(&node, 1), [0; 0], "mined on the new branch");
    let announced = effects.iter().filter(|effect| {
        matches!(
            effect,
            Effect::Peer(PeerEffect::Publish(Gossip::Transaction(_)))
        )
    });
    assert_eq!(announced.count(), 2, "those that came back");
    // A restart keeps them.
    drop(node);
    let node = open_tiny(&store);
    assert_eq!(sequences(&node, 0), [1, 2, 3]);
}
