//! Transactions, whether they come through the API or from a peer.

use pithead_consensus::SignedTransaction;
use pithead_core::node::Event;
use pithead_core::sync::Gossip;
use pithead_testkit::nodes::file;
use pithead_testkit::{ALLOCATION, FEE, PIT, key};

use crate::Row;
use crate::bench::{Bench, Cost};

/// Bytes of an ordinary payment, with its key and without.
const FIRST_BYTES: usize = 351 + 256;
const LATER_BYTES: usize = 351;
/// Pending payments of the first key in every measured pool.
const PENDING: u64 = 60;

pub(crate) const ROWS: &[Row] = &[
    ("a payment that is admitted", admitted),
    (
        "a copy of a pending payment with a false signature",
        forged_copy,
    ),
    ("a payment with a false signature", false_signature),
    ("a payment with too low a fee", low_fee),
    ("a payment with a used sequence", used_sequence),
    ("a payment with a sequence too far ahead", far_ahead),
    ("a payment that its sender can't cover", uncovered),
    ("a replacement with too low a fee", poor_replacement),
    (
        "a payment that a full mempool refuses",
        refused_by_full_pool,
    ),
    ("a gossiped payment with a false signature", gossiped),
];

/// A node whose mempool has room for no more than `PENDING` payments and some bytes.
fn bench(room: usize) -> Bench {
    let bytes = FIRST_BYTES + LATER_BYTES * usize::try_from(PENDING - 1).unwrap() + room;
    let mut bench = Bench::with_pool(&file(), &[], bytes);
    for sequence in 0..PENDING {
        let payment = pay(&bench, 0, sequence, FEE);
        bench.handle(event(payment));
    }
    let pending = bench.node.mempool().read().unwrap().len();
    assert_eq!(pending as u64, PENDING);
    bench
}

fn pay(bench: &Bench, from: usize, sequence: u64, fee: u64) -> SignedTransaction {
    let genesis = bench.genesis.params.genesis_hash;
    key(from).pay(&genesis, sequence, fee, &[(key(7).address, PIT)])
}

fn event(payment: SignedTransaction) -> Event {
    Event::Transaction(Box::new(payment))
}

fn spoilt(mut payment: SignedTransaction) -> SignedTransaction {
    payment.signature.0[0] ^= 1;
    payment
}

/// Room for some payments more.
const SOME: usize = 4 * FIRST_BYTES;

fn cost_of(room: usize, make: impl FnOnce(&Bench) -> SignedTransaction) -> Cost {
    let mut bench = bench(room);
    let payment = make(&bench);
    bench.cost_of(event(payment))
}

fn admitted() -> Cost {
    cost_of(SOME, |bench| pay(bench, 0, PENDING, FEE))
}

fn forged_copy() -> Cost {
    cost_of(SOME, |bench| spoilt(pay(bench, 0, 3, FEE)))
}

fn false_signature() -> Cost {
    cost_of(SOME, |bench| spoilt(pay(bench, 1, 0, FEE)))
}

fn low_fee() -> Cost {
    cost_of(SOME, |bench| pay(bench, 1, 0, 1))
}

fn used_sequence() -> Cost {
    let blocks = {
        let bench = Bench::new(&file(), &[]);
        let payments = vec![pay(&bench, 1, 0, FEE)];
        pithead_testkit::nodes::branch(&file(), &[], &key(0).address, &[(payments, 2)])
    };
    let mut bench = Bench::new(&file(), &blocks);
    let genesis = bench.genesis.params.genesis_hash;
    let again = key(1).pay(&genesis, 0, FEE + 1, &[(key(6).address, PIT)]);
    bench.cost_of(event(again))
}

fn far_ahead() -> Cost {
    cost_of(SOME, |bench| pay(bench, 1, 40, FEE))
}

fn uncovered() -> Cost {
    cost_of(SOME, |bench| {
        let genesis = bench.genesis.params.genesis_hash;
        key(1).pay(&genesis, 0, FEE, &[(key(7).address, ALLOCATION)])
    })
}

fn poor_replacement() -> Cost {
    cost_of(SOME, |bench| pay(bench, 0, 3, FEE + 1))
}

fn refused_by_full_pool() -> Cost {
    cost_of(0, |bench| pay(bench, 1, 0, FIRST_BYTES as u64))
}

fn gossiped() -> Cost {
    let mut bench = bench(SOME);
    bench.handle(Event::Peer(pithead_core::sync::PeerEvent::Connected {
        peer: crate::bench::PEER,
        inbound: true,
    }));
    let payment = spoilt(pay(&bench, 1, 0, FEE));
    let event = bench.gossip(Gossip::Transaction(Box::new(payment)));
    bench.cost_of(event)
}
