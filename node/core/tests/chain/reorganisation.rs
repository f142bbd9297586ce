//! Fork choice and reorganisation. In whatever order blocks come, a node ends on the chain with the
//! most work, with the state that a replay of that chain gives; a reorganisation happens wholly or
//! not at all, and payments that it undoes are pending again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pithead_consensus::check::{BlockError, NotYet, TransactionError};
use pithead_consensus::{Block, Encode as _, Hash256, SignedTransaction};
use pithead_core::chain::{AcceptError, verify};
use pithead_core::node::{Answer, BlockVerdict, Effect, Event, Node, TransactionVerdict};
use pithead_core::store::Store;
use pithead_core::store::schema::{self, BlockStatus};
use pithead_core::sync::{Gossip, PeerEffect, PeerEvent, PeerKey};
use pithead_testkit::chain::mine;
use pithead_testkit::nodes::{
    GENESIS_TIME, NOW, assert_equals_replay, best_chain_state, branch, chain_of, empty, file, give,
    give_all, memory, open, pay, stores, tip,
};
use pithead_testkit::watched_store::Watched;
use pithead_testkit::{PIT, key};

/// Two branches from the genesis: three blocks, and four that are better. They
/// share some transactions, conflict in others, and each has some of its own.
pub(crate) fn two_branches() -> (Vec<Block>, Vec<Block>) {
    let file = file();
    let pay = |from, sequence, to| pay(&file, from, sequence, to);
    let a = branch(
        &file,
        &[],
        &key(6).address,
        &[
            (vec![pay(0, 0, 4), pay(1, 0, 4)], 2),
            (vec![pay(0, 1, 4)], 2),
            (vec![pay(0, 2, 5), pay(1, 1, 0)], 2),
        ],
    );
    let b = branch(
        &file,
        &[],
        &key(7).address,
        &[
            (vec![pay(1, 0, 4), pay(0, 0, 3)], 2),
            (vec![], 2),
            (vec![pay(2, 0, 4)], 2),
            (vec![pay(0, 1, 4)], 2),
        ],
    );
    (a, b)
}

#[test]
fn a_reorganisation_equals_a_replay_from_the_genesis() {
    let genesis = file().check().unwrap();
    let (a, b) = two_branches();
    for (store, _dir) in stores() {
        let mut node = open(&store, &genesis, NOW);
        give_all(&mut node, &a, NOW);
        assert_equals_replay(&node, &genesis, &a, NOW);
        for block in &b[..3] {
            assert_eq!(give(&mut node, block, NOW).unwrap(), BlockVerdict::Side);
        }
        assert_eq!(
            tip(&node),
            a[2].header.hash(),
            "as much work: first seen stays"
        );
        let (_, effects) = node.handle(Event::Block(Box::new(b[3].clone())), NOW);
        let undone = effects.iter().find_map(|effect| match effect {
            Effect::TipChanged { disconnected, .. } => Some(*disconnected),
            _ => None,
        });
        assert_eq!(undone, Some(3));
        assert_equals_replay(&node, &genesis, &b, NOW);
        let report = verify(store.as_ref(), &genesis, |_, _| {}).unwrap();
        assert_eq!((report.blocks, report.transactions), (4, 4));
        // And back again, once the first branch is longer.
        let more = branch(&file(), &a, &key(6).address, &empty(2));
        give_all(&mut node, &more, NOW);
        let all = [a.clone(), more].concat();
        assert_equals_replay(&node, &genesis, &all, NOW);
        verify(store.as_ref(), &genesis, |_, _| {}).unwrap();
        // A restart finds the same.
        drop(node);
        let node = open(&store, &genesis, NOW);
        assert_equals_replay(&node, &genesis, &all, NOW);
    }
}

/// The permutation of `items` with this number.
pub(crate) fn permutation<T: Clone>(items: &[T], mut number: usize) -> Vec<T> {
    let mut left = items.to_vec();
    let mut order = Vec::new();
    while !left.is_empty() {
        order.push(left.remove(number % left.len()));
        number /= left.len() + 1;
    }
    order
}

#[test]
fn a_fork_fed_in_every_order_ends_in_one_state() {
    let genesis = file().check().unwrap();
    let (a, b) = two_branches();
    let expected = {
        let store = memory();
        give_all(&mut open(&store, &genesis, NOW), &b, NOW);
        best_chain_state(&store)
    };
    let check = |order: &[Block]| {
        let store = memory();
        let mut node = open(&store, &genesis, NOW);
        give_all(&mut node, order, NOW);
        assert_eq!(tip(&node), b[b.len() - 1].header.hash());
        assert!(best_chain_state(&store) == expected);
    };
    // Three blocks and four: 5,040 orders, on every core.
    let all = [a, b.clone()].concat();
    let threads = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for first in 0..threads {
            let (all, check) = (&all, &check);
            scope.spawn(move || {
                for number in (first..5_040).step_by(threads) {
                    check(&permutation(all, number));
                }
            });
        }
    });
}

#[test]
fn every_order_of_a_short_fork_ends_in_one_state_on_disk_too() {
    let genesis = file().check().unwrap();
    let (a, b) = two_branches();
    let all = [&a[..1], &b[..2]].concat();
    for number in 0..6 {
        for (store, _dir) in stores() {
            let mut node = open(&store, &genesis, NOW);
            give_all(&mut node, &permutation(&all, number), NOW);
            assert_equals_replay(&node, &genesis, &b[..2], NOW);
        }
    }
}

#[test]
fn between_equal_branches_the_first_seen_stays() {
    let genesis = file().check().unwrap();
    let (a, b) = two_branches();
    for (first, second) in [(&a, &b), (&b, &a)] {
        let mut node = open(&memory(), &genesis, NOW);
        give_all(&mut node, &first[..2], NOW);
        give_all(&mut node, &second[..2], NOW);
        assert_eq!(tip(&node), first[1].header.hash());
    }
}

/// 2027-01-01 00:00:00 UTC, when the subsidy halves for the first time.
const HALVING: u32 = 1_798_761_600;

#[test]
fn a_reorganisation_across_the_halving_pays_what_each_parents_year_says() {
    let mut file = file();
    file.time = HALVING - 5;
    let genesis = file.check().unwrap();
    let now = u64::from(HALVING) + 1_000;
    // Parents at -5, -3, -1 and +1 seconds.
    let a = branch(&file, &[], &key(6).address, &empty(4));
    // Parents at -5, and then four times at +5.
    let mut plans = empty(5);
    plans[0].1 = 10;
    plans[1..].iter_mut().for_each(|plan| plan.1 = 0);
    let b = branch(&file, &[], &key(7).address, &plans);
    let paid = |node: &Node, index: usize| {
        let snapshot = node.chain().store().snapshot().unwrap();
        let account = schema::account(snapshot.as_ref(), &key(index).address).unwrap();
        account.balance.grains()
    };
    let allocated = 4 * pithead_testkit::ALLOCATION;
    for (store, _dir) in stores() {
        let mut node = open(&store, &genesis, now);
        give_all(&mut node, &a, now);
        assert_eq!(paid(&node, 6), (50 + 50 + 50 + 25) * PIT);
        assert_eq!(
            node.chain().tip().outcome.supply,
            u128::from(allocated + 175 * PIT)
        );
        give_all(&mut node, &b, now);
        assert_eq!(tip(&node), b[4].header.hash());
        assert_eq!((paid(&node, 6), paid(&node, 7)), (0, (50 + 4 * 25) * PIT));
        assert_eq!(
            node.chain().tip().outcome.supply,
            u128::from(allocated + 150 * PIT)
        );
        assert_equals_replay(&node, &genesis, &b, now);
        assert_eq!(node.template(now).unwrap().subsidy.grains(), 25 * PIT);
    }
}

#[test]
fn matured_rewards_follow_a_reorganisation() {
    let mut file = file();
    file.reward_maturity = 2;
    let genesis = file.check().unwrap();
    let a = branch(&file, &[], &key(6).address, &empty(4));
    let b = branch(&file, &a[..1], &key(7).address, &empty(4));
    let b = [&a[..1], &b].concat();
    let mut node = open(&memory(), &genesis, NOW);
    give_all(&mut node, &a, NOW);
    give_all(&mut node, &b[1..], NOW);
    assert_equals_replay(&node, &genesis, &b, NOW);
}

/// Gives a block another state root, and work that fits.
fn with_bad_state_root(mut block: Block) -> Block {
    block.commitment.state_root = Hash256([9; 32]);
    block.header.merkle_root = block.commitment.merkle_root();
    block.header.nonce = 0;
    mine(&mut block.header);
    block
}

/// Puts a block on another parent.
fn on_top_of(parent: &Block, mut block: Block) -> Block {
    block.header.prev = parent.header.hash();
    block.header.nonce = 0;
    mine(&mut block.header);
    block
}

#[test]
fn an_invalid_block_within_a_heavier_branch_condemns_what_follows_it_and_no_more() {
    let file = file();
    let genesis = file.check().unwrap();
    for (store, _dir) in stores() {
        let mut node = open(&store, &genesis, NOW);
        let a = branch(&file, &[], &key(6).address, &empty(2));
        give_all(&mut node, &a, NOW);
        let before = best_chain_state(&store);

        let good = branch(&file, &[], &key(7).address, &empty(4));
        let bad = with_bad_state_root(good[1].clone());
        let after = on_top_of(&bad, good[2].clone());
        assert_eq!(give(&mut node, &good[0], NOW).unwrap(), BlockVerdict::Side);
        assert_eq!(give(&mut node, &bad, NOW).unwrap(), BlockVerdict::Side);
        match give(&mut node, &after, NOW) {
            Err(AcceptError::InvalidAncestor { ancestor }) => {
                assert_eq!(ancestor, bad.header.hash());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(tip(&node), a[1].header.hash());
        assert!(best_chain_state(&store) == before, "nothing moved");
        // The verdict is kept, for the block and for any child of it.
        let status = |block: &Block| {
            let snapshot = store.snapshot().unwrap();
            schema::entry(snapshot.as_ref(), &block.header.hash())
                .unwrap()
                .map(|entry| entry.status)
        };
        assert_eq!(status(&bad), Some(BlockStatus::Invalid));
        assert_eq!(status(&good[0]), Some(BlockStatus::Stored));
        let child = on_top_of(&after, good[3].clone());
        for block in [&bad, &after, &child] {
            let verdict = give(&mut node, block, NOW);
            assert!(matches!(verdict, Err(AcceptError::InvalidAncestor { .. })));
        }
        // Its sound parent still carries other branches.
        give_all(&mut node, &good[1..3], NOW);
        assert_equals_replay(&node, &genesis, &good[..3], NOW);
    }
}

#[test]
fn an_invalid_block_on_the_tip_names_its_rule() {
    let file = file();
    let genesis = file.check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    let bad = with_bad_state_root(branch(&file, &[], &key(7).address, &empty(1)).remove(0));
    match give(&mut node, &bad, NOW) {
        Err(AcceptError::Invalid(BlockError::StateRootMismatch { .. })) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(node.chain().tip().height.0, 0);
}

#[test]
fn a_forged_signature_beside_a_pending_payment_stays_unchecked() {
    let file = file();
    let genesis = file.check().unwrap();
    let payment = pay(&file, 0, 0, 1);
    // The same body, hence the same txid, with a made-up signature.
    let mut forged = payment.clone();
    *forged.signature.0 = [7; 256];
    let block = chain_of(&file, &[]).assemble(vec![forged.clone()], key(6).address, 2);

    let mut node = open(&memory(), &genesis, NOW);
    assert_eq!(
        submit(&mut node, &payment, NOW),
        TransactionVerdict::Accepted
    );
    assert_eq!(
        submit(&mut node, &forged, NOW),
        TransactionVerdict::Duplicate
    );

    let mut fresh = open(&memory(), &genesis, NOW);
    for (name, node) in [("fresh", &mut fresh), ("that saw it", &mut node)] {
        let verdict = give(node, &block, NOW);
        assert!(
            matches!(
                verdict,
                Err(AcceptError::Invalid(BlockError::Transaction {
                    error: TransactionError::BadSignature,
                    ..
                }))
            ),
            "the node {name}: {verdict:?}"
        );
    }
}

#[test]
fn a_forged_copy_of_a_pending_payment_is_not_announced() {
    let file = file();
    let genesis = file.check().unwrap();
    let payment = pay(&file, 0, 0, 4);
    let mut forged = payment.clone();
    *forged.signature.0 = [7; 256];
    let mut node = open(&memory(), &genesis, NOW);
    let connected = PeerEvent::Connected {
        peer: PeerKey(1),
        inbound: false,
    };
    node.handle(Event::Peer(connected), NOW);
    for given in [&payment, &forged] {
        let event = Event::Transaction(Box::new(given.clone()));
        let (_, effects) = node.handle(event, NOW);
        let announced: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Peer(PeerEffect::Publish(Gossip::Transaction(transaction))) => {
                    Some(transaction.as_ref())
                }
                _ => None,
            })
            .collect();
        assert_eq!(announced, [&payment]);
    }
}

#[test]
fn a_mutated_body_does_not_poison_its_header() {
    let file = file();
    let genesis = file.check().unwrap();
    let (a, _) = two_branches();
    let mut node = open(&memory(), &genesis, NOW);
    let mut shorter = a[0].clone();
    shorter.transactions.pop();
    let mut resigned = a[0].clone();
    resigned.transactions[0] = pay(&file, 0, 0, 4);
    let mut elsewhere = a[0].clone();
    elsewhere.commitment.reward_address = key(3).address;
    for mutated in [shorter, resigned, elsewhere] {
        assert_eq!(mutated.header, a[0].header);
        let verdict = give(&mut node, &mutated, NOW);
        assert!(
            matches!(verdict, Err(AcceptError::Invalid(_))),
            "{verdict:?}"
        );
    }
    assert_eq!(give(&mut node, &a[0], NOW).unwrap(), BlockVerdict::NewTip);
    let again = give(&mut node, &a[0], NOW);
    assert!(matches!(again, Err(AcceptError::Known { .. })));
}

pub(crate) fn submit(
    node: &mut Node,
    transaction: &SignedTransaction,
    now: u64,
) -> TransactionVerdict {
    let event = Event::Transaction(Box::new(transaction.clone()));
    match node.handle(event, now).0 {
        Answer::Transaction(verdict) => verdict.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn pending(node: &Node) -> Vec<u64> {
    let mempool = node.mempool().read().unwrap();
    let own = mempool.of_sender(&key(0).address);
    own.map(|pending| pending.body().sequence).collect()
}

#[test]
fn transactions_of_a_branch_that_is_left_wait_again_and_survive_a_restart() {
    let file = file();
    let genesis = file.check().unwrap();
    // The other branch mines either no transaction of the first, or only the one with the key.
    for (shared, expected) in [(0, vec![0, 1, 2, 3]), (1, vec![1, 2, 3])] {
        for (store, _dir) in stores() {
            // One account's first transactions, spread over three blocks.
            let plans: Vec<_> = (0..3)
                .map(|sequence| (vec![pay(&file, 0, sequence, 4)], 2))
                .collect();
            let a = branch(&file, &[], &key(6).address, &plans);
            let mut node = open(&store, &genesis, NOW);
            give_all(&mut node, &a, NOW);
            let verdict = submit(&mut node, &pay(&file, 0, 3, 4), NOW);
            assert_eq!(verdict, TransactionVerdict::Accepted);
            // A restart forgets mined ones: they are on the chain.
            drop(node);
            let mut node = open(&store, &genesis, NOW);
            assert_eq!(pending(&node), [3]);
            let mut plans = empty(4);
            plans[3].0 = a[0].transactions[..shared].to_vec();
            let later = NOW + 5;
            give_all(
                &mut node,
                &branch(&file, &[], &key(7).address, &plans),
                later,
            );
            assert_eq!(node.chain().tip().height.0, 4);
            assert_eq!(pending(&node), expected);
            let template = node.template(later).unwrap();
            assert_eq!(
                template.transactions.len(),
                expected.len(),
                "all can be mined"
            );
            // Twice: once from what was appended, once from what was rewritten.
            for _ in 0..2 {
                drop(node);
                node = open(&store, &genesis, later);
                assert_eq!(pending(&node), expected);
            }
        }
    }
}

#[test]
fn a_mined_rival_replaces_a_pending_transaction() {
    let file = file();
    let genesis = file.check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    let waiting = pay(&file, 0, 0, 4);
    submit(&mut node, &waiting, NOW);
    let rival = pay(&file, 0, 0, 5);
    let block = branch(&file, &[], &key(7).address, &[(vec![rival.clone()], 2)]);
    give_all(&mut node, &block, NOW);
    let mempool = node.mempool().read().unwrap();
    assert!(mempool.is_empty());
    let hash = genesis.params.genesis_hash;
    let fate = mempool.fate(&waiting.txid(&hash)).unwrap();
    let by = rival.txid(&hash);
    assert_eq!(*fate, pithead_core::mempool::Fate::Replaced { by });
}

#[test]
fn blocks_that_can_not_be_judged_yet_are_tried_again() {
    let file = file();
    let genesis = file.check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    let ahead = u32::try_from(NOW).unwrap() + genesis.params.max_future_secs + 1 - GENESIS_TIME;
    let block = branch(&file, &[], &key(7).address, &[(Vec::new(), ahead)]);
    let verdict = give(&mut node, &block[0], NOW);
    assert!(
        matches!(
            verdict,
            Err(AcceptError::NotYet {
                reason: NotYet::TimeTooFarAhead { .. },
                ..
            })
        ),
        "{verdict:?}"
    );
    assert_eq!(node.chain().tip().height.0, 0);
    // A second later the block's time is no longer too far ahead.
    let (_, effects) = node.handle(Event::Tick, NOW + 1);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::TipChanged { .. }))
    );
    assert_eq!(tip(&node), block[0].header.hash());

    // All blocks of a branch that comes youngest first are kept.
    let blocks = branch(&file, &[], &key(6).address, &empty(5));
    for block in blocks[1..].iter().rev() {
        let verdict = give(&mut node, block, NOW);
        assert!(matches!(
            verdict,
            Err(AcceptError::NotYet {
                reason: NotYet::MissingParent { .. },
                ..
            })
        ));
    }
    give_all(&mut node, &blocks[..1], NOW);
    assert_eq!(tip(&node), blocks[4].header.hash());
}

#[test]
fn pending_transactions_expire() {
    let file = file();
    let genesis = file.check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    submit(&mut node, &pay(&file, 0, 0, 4), NOW);
    node.handle(Event::Tick, NOW + 3_600);
    assert_eq!(pending(&node), [0]);
    node.handle(Event::Tick, NOW + 3_601);
    assert_eq!(pending(&node), [0; 0]);
}

#[test]
fn each_block_is_one_commit_and_a_failed_one_changes_nothing() {
    let genesis = file().check().unwrap();
    let watched = Watched::new();
    let store: Arc<dyn Store> = watched.clone();
    let mut node = open(&store, &genesis, NOW);
    let commits = || watched.commits.swap(0, Ordering::Relaxed);
    commits();
    let (a, b) = two_branches();
    for block in a.iter().chain(&b[..3]) {
        give(&mut node, block, NOW).unwrap();
        assert_eq!(commits(), 1);
    }
    // The disk fails in the middle of a reorganisation: all of it is undone.
    let before = best_chain_state(&store);
    watched.fails.store(true, Ordering::Relaxed);
    let (answer, effects) = node.handle(Event::Block(Box::new(b[3].clone())), NOW);
    assert!(matches!(
        answer,
        Answer::Block(Err(AcceptError::Internal(_)))
    ));
    // Peers may have got the validated block before the commit; nothing else left the core.
    assert!(matches!(
        effects.as_slice(),
        [Effect::Peer(PeerEffect::BlockValidated(_)), Effect::Fatal(reason)] if reason.contains("disk is full")
    ));
    assert!(best_chain_state(&store) == before);
    assert_eq!(tip(&node), a[2].header.hash());
    watched.fails.store(false, Ordering::Relaxed);
    commits();
    assert_eq!(give(&mut node, &b[3], NOW).unwrap(), BlockVerdict::NewTip);
    assert_eq!(commits(), 1, "three blocks down and four up are one commit");
    assert_equals_replay(&node, &genesis, &b, NOW);
}

#[test]
fn stored_bodies_are_the_blocks_that_came() {
    let genesis = file().check().unwrap();
    let (a, b) = two_branches();
    for (store, _dir) in stores() {
        let mut node = open(&store, &genesis, NOW);
        give_all(&mut node, &[a.clone(), b.clone()].concat(), NOW);
        let snapshot = store.snapshot().unwrap();
        for block in a.iter().chain(&b) {
            let body = snapshot.body(&block.header.hash()).unwrap().unwrap();
            assert_eq!(body, block.encode());
        }
    }
}
