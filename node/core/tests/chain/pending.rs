//! Pending transactions: a fault in a template costs one of them at most, templates read nothing
//! twice, what expired stays away, and refusals are held against the peer that causes them.

use std::sync::Arc;

use pithead_consensus::check::{CheckedTransaction, TransactionError};
use pithead_consensus::{Account, Block, SignedTransaction};
use pithead_core::chain::oracle::without_oracle;
use pithead_core::mempool::{IncomingTransaction, RejectReason, VerifiedTransaction};
use pithead_core::node::{
    Answer, Effect, Event, Node, Now, RejectedTransaction, TransactionVerdict,
};
use pithead_core::store::{Store, schema};
use pithead_core::sync::{Gossip, GossipId, PeerEffect, PeerEvent, PeerKey, Verdict};
use pithead_testkit::nodes::{NOW, branch, empty, file, give_all, memory, open, pay, tip};
use pithead_testkit::watched_store::Watched;
use pithead_testkit::{FEE, PIT, grains, key};

use super::reorganisation::submit;

fn pending_count(node: &Node) -> usize {
    node.mempool().read().unwrap().len()
}

fn connect(node: &mut Node, peer: PeerKey) {
    let inbound = true;
    node.handle(Event::Peer(PeerEvent::Connected { peer, inbound }), NOW);
}

/// Gives a node a gossiped transaction; returns the verdict.
fn gossip(
    node: &mut Node,
    peer: PeerKey,
    number: u64,
    transaction: &SignedTransaction,
    now: u64,
) -> Option<Verdict> {
    let event = PeerEvent::Gossip {
        peer,
        id: GossipId(number),
        gossip: Gossip::Transaction(Box::new(transaction.clone())),
    };
    let (_, effects) = node.handle(Event::Peer(event), now);
    effects.iter().find_map(|effect| match effect {
        Effect::Peer(PeerEffect::Verdict { id, verdict, .. }) if id.0 == number => Some(*verdict),
        _ => None,
    })
}

#[test]
fn a_template_that_breaks_a_rule_is_empty_and_costs_one_transaction() {
    let file = file();
    let genesis = file.check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    for from in 0..3 {
        submit(&mut node, &pay(&file, from, 0, 5), NOW);
    }
    // A fault of the node, planted: a payment whose sender owns nothing.
    let fee = FEE * 1_000;
    let uncovered = key(4).pay(
        &genesis.params.genesis_hash,
        0,
        fee,
        &[(key(5).address, PIT)],
    );
    let checked = CheckedTransaction::new(&genesis.params, uncovered).unwrap();
    let incoming = IncomingTransaction {
        transaction: VerifiedTransaction::check(&genesis.params, checked, None).unwrap(),
        received: NOW,
        expires_ms: u64::MAX,
    };
    let rich = Account {
        balance: grains(PIT * 10),
        ..Account::default()
    };
    let accepted = node.mempool().write().unwrap().accept(incoming, &rich);
    accepted.unwrap();
    assert_eq!(pending_count(&node), 4);

    let template = node.template(NOW).unwrap();
    assert!(template.transactions.is_empty());
    assert_eq!(pending_count(&node), 3, "the others stay");
    node.handle(Event::Tick, NOW + 1);
    assert_eq!(node.template(NOW + 1).unwrap().transactions.len(), 3);
}

#[test]
fn a_template_on_the_same_tip_reads_nothing_again() {
    let file = file();
    let genesis = file.check().unwrap();
    let watched = Watched::new();
    let store: Arc<dyn Store> = watched.clone();
    let mut node = open(&store, &genesis, NOW);
    for from in 0..4 {
        submit(&mut node, &pay(&file, from, 0, 5), NOW);
    }
    let first = node.template(NOW).unwrap();
    let mut tick = |now| {
        let before = watched.reads();
        without_oracle(|| node.handle(Event::Tick, now));
        let template = node.template(now).unwrap();
        (watched.reads() - before, template.id)
    };
    let (idle, same) = tick(NOW + 1);
    assert_eq!(same, first.id);
    let (renewed, id) = tick(NOW + 31);
    assert!(id > first.id, "the template was assembled again");
    assert_eq!(renewed, idle, "and that read nothing");
}

#[test]
fn what_expired_comes_back_from_its_owner_alone() {
    let file = file();
    let genesis = file.check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    let peer = PeerKey(1);
    connect(&mut node, peer);
    let payment = pay(&file, 0, 0, 5);
    submit(&mut node, &payment, NOW);
    let later = NOW + 3_601;
    node.handle(Event::Tick, later);
    assert_eq!(pending_count(&node), 0);
    let verdict = gossip(&mut node, peer, 1, &payment, later);
    assert_eq!(verdict, Some(Verdict::Ignore));
    assert_eq!(pending_count(&node), 0);
    assert_eq!(
        submit(&mut node, &payment, later),
        TransactionVerdict::Accepted
    );
    assert_eq!(pending_count(&node), 1);
}

#[test]
fn a_wall_clock_that_jumps_makes_nothing_expire() {
    let file = file();
    let genesis = file.check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    submit(&mut node, &pay(&file, 0, 0, 5), NOW);
    let jumped = Now {
        unix_secs: NOW + 1_000_000,
        ..Now::from(NOW + 1)
    };
    node.handle(Event::Tick, jumped);
    assert_eq!(pending_count(&node), 1);
    let back = Now {
        unix_secs: NOW,
        ..Now::from(NOW + 3_601)
    };
    node.handle(Event::Tick, back);
    assert_eq!(pending_count(&node), 0, "an hour has passed");
}

#[test]
fn a_forged_copy_does_not_enter_after_its_original_was_replaced() {
    let file = file();
    let genesis = file.check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    let payment = pay(&file, 0, 0, 5);
    let mut forged = payment.clone();
    *forged.signature.0 = [7; 256];
    submit(&mut node, &payment, NOW);
    assert_eq!(
        submit(&mut node, &forged, NOW),
        TransactionVerdict::Duplicate
    );
    let outputs = [(key(5).address, PIT)];
    let better = key(0).pay(&genesis.params.genesis_hash, 0, FEE * 2, &outputs);
    submit(&mut node, &better, NOW);
    // The better one is mined, comes back by a reorganisation, and leaves.
    let block = branch(&file, &[], &key(6).address, &[(vec![better], 2)]);
    give_all(&mut node, &block, NOW);
    let longer = branch(&file, &[], &key(7).address, &empty(2));
    give_all(&mut node, &longer, NOW);
    let txid = node.mempool().read().unwrap().txids_by_rate().next();
    node.mempool().write().unwrap().remove_mined(&txid.unwrap());
    let (answer, _) = node.handle(Event::Transaction(Box::new(forged)), NOW);
    assert!(
        matches!(
            answer,
            Answer::Transaction(Err(RejectedTransaction::Rule(RejectReason::Rule(
                TransactionError::BadSignature
            ))))
        ),
        "{answer:?}"
    );
}

/// The accounts that the mempool keeps are those of the store.
fn assert_accounts_agree(node: &Node) {
    let mempool = node.mempool().read().unwrap();
    let snapshot = node.chain().store().snapshot().unwrap();
    for sender in mempool.senders() {
        let stored = schema::account(snapshot.as_ref(), sender).unwrap();
        assert_eq!(mempool.account_of(sender), Some(&stored));
    }
}

#[test]
fn the_accounts_of_senders_follow_every_change_of_the_chain() {
    for maturity in [0, 2] {
        let mut file = file();
        file.reward_maturity = maturity;
        let genesis = file.check().unwrap();
        let pay_zero = pay(&file, 1, 0, 0);
        // The first key waits with a payment. It earns the reward of the first block, which a later
        // one pays out whose own reward is another's, and a payment on one of two branches.
        let first = branch(&file, &[], &key(0).address, &empty(1));
        let mut plans = empty(5);
        plans[3].0 = vec![pay_zero.clone()];
        let a = branch(&file, &first, &key(6).address, &plans);
        let b = branch(&file, &first, &key(7).address, &empty(6));
        let below = [first.clone(), a.clone()].concat();
        let c = branch(&file, &below, &key(6).address, &empty(4));
        let mut node = open(&memory(), &genesis, NOW);
        submit(&mut node, &pay(&file, 0, 0, 5), NOW);
        submit(&mut node, &pay_zero, NOW);
        submit(&mut node, &pay(&file, 1, 1, 5), NOW);
        let blocks: Vec<Block> = [first, a, b, c].concat();
        for block in &blocks {
            give_all(&mut node, std::slice::from_ref(block), NOW);
            assert_accounts_agree(&node);
        }
        assert_eq!(tip(&node), blocks[blocks.len() - 1].header.hash());
    }
}

#[test]
fn refusals_are_held_against_the_peer_that_causes_them() {
    let file = file();
    let genesis = file.check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    let (peer, other) = (PeerKey(1), PeerKey(2));
    connect(&mut node, peer);
    connect(&mut node, other);
    let hash = genesis.params.genesis_hash;
    let cheap = key(0).pay(&hash, 0, 1, &[(key(5).address, PIT)]);
    // The first costs 1 of 1,000, each repeat 10.
    for number in 0..100 {
        gossip(&mut node, peer, number, &cheap, NOW);
    }
    let first = pay(&file, 1, 0, 5);
    let verdict = gossip(&mut node, peer, 100, &first, NOW);
    assert_eq!(verdict, Some(Verdict::Accept), "991 are spent");
    gossip(&mut node, peer, 101, &cheap, NOW);
    let second = pay(&file, 2, 0, 5);
    let verdict = gossip(&mut node, peer, 102, &second, NOW);
    assert_eq!(verdict, Some(Verdict::Ignore), "1,001 are spent");
    assert_eq!(pending_count(&node), 1);
    // Other peers are heard, and this one again after a minute. It was never banned.
    let verdict = gossip(&mut node, other, 103, &second, NOW);
    assert_eq!(verdict, Some(Verdict::Accept));
    let third = pay(&file, 3, 0, 5);
    let verdict = gossip(&mut node, peer, 104, &third, NOW + 60);
    assert_eq!(verdict, Some(Verdict::Accept));
}
