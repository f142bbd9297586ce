//! The mempool against floods and against a plain model. The transactions here have no true
//! signatures: [`super::VerifiedTransaction::assumed`] stands in for the check.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashSet};

use pithead_consensus::check::CheckedTransaction;
use pithead_consensus::key::SIGNATURE_LEN;
use pithead_consensus::{
    Account, Address, ConsensusParams, Output, Signature, SignedTransaction, TransactionBody,
};
use pithead_testkit::{grains, key, nodes};

use super::*;

const SIZE: u64 = 351;
/// Many times what any transaction here spends.
const RICH: u64 = 1_000_000_000;

struct Pool {
    params: ConsensusParams,
    mempool: Mempool,
}

fn account(balance: u64) -> Account {
    Account {
        balance: grains(balance),
        sequence: 1,
        key: Some(key(0).public.clone()),
    }
}

fn sender(number: u32) -> Address {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Address(bytes)
}

impl Pool {
    /// A mempool with room for so many ordinary payments.
    fn of(payments: u64) -> Self {
        Self {
            params: nodes::file().check().unwrap().params,
            mempool: Mempool::new(MempoolLimits {
                bytes_max: usize::try_from(payments * SIZE).unwrap(),
                expiry_secs: 3_600,
                min_fee_rate: 1,
            }),
        }
    }

    /// An ordinary payment with a fee of so many grains a byte.
    fn payment(&self, from: u32, sequence: u64, rate: u64) -> CheckedTransaction {
        let body = TransactionBody {
            sender: sender(from),
            sequence,
            fee: grains(rate * SIZE),
            outputs: vec![Output {
                recipient: key(5).address,
                amount: grains(1_000),
            }],
            data: Vec::new(),
        };
        let signature = Signature(Box::new([1; SIGNATURE_LEN]));
        let transaction = SignedTransaction {
            body,
            key: None,
            signature,
        };
        CheckedTransaction::new(&self.params, transaction).unwrap()
    }

    fn offer_of(&mut self, checked: CheckedTransaction, balance: u64) -> Result<(), RejectReason> {
        let account = account(balance);
        self.mempool.judge(&checked, &account)?;
        let incoming = IncomingTransaction {
            transaction: VerifiedTransaction::assumed(checked),
            received: 0,
            expires_ms: 1_000_000,
        };
        let accepted = self.mempool.accept(incoming, &account).map(|_| ());
        self.hold_to_model();
        accepted
    }

    fn offer(&mut self, from: u32, sequence: u64, rate: u64) -> Result<(), RejectReason> {
        self.offer_of(self.payment(from, sequence, rate), RICH)
    }

    fn pending(&self, from: u32) -> Vec<u64> {
        let sender = sender(from);
        let queue = self.mempool.of_sender(&sender);
        queue.map(|pending| pending.body().sequence).collect()
    }

    /// Everything that the mempool keeps besides the transactions follows from them.
    fn hold_to_model(&self) {
        let all: Vec<_> = self.mempool.by_txid.values().collect();
        let bytes: usize = all.iter().map(|pending| pending.size()).sum();
        assert_eq!(self.mempool.bytes, bytes);
        assert!(bytes <= self.mempool.limits.bytes_max);
        let (mut ends, mut heads) = (BTreeSet::new(), BTreeSet::new());
        let mut count = 0;
        for (address, queue) in &self.mempool.by_sender {
            let mut lowest = FeeRate(u64::MAX);
            let (mut next, mut spent, mut last) = (1, 0, None);
            for pending in queue.iter() {
                assert_eq!(pending.body().sender, *address);
                lowest = lowest.min(pending.fee_rate());
                let ready = pending.body().sequence == next;
                next += u64::from(ready);
                spent += pending.total().grains();
                let rate = lowest;
                last = Some((Rank { ready, rate }, pending.txid()));
                count += 1;
            }
            assert!(
                spent <= queue.account().balance.grains(),
                "covered together"
            );
            ends.extend(last);
            heads.extend(queue.head());
        }
        assert_eq!(count, all.len());
        assert_eq!(self.mempool.ends, ends);
        assert_eq!(self.mempool.heads, heads);
    }
}

#[test]
fn what_can_not_be_mined_now_leaves_first_whatever_it_pays() {
    let mut pool = Pool::of(4);
    // Queues without their first transaction, filled from the top down.
    for from in 0..2 {
        for sequence in [3, 2] {
            pool.offer(from, sequence, 1_000).unwrap();
        }
    }
    assert_eq!(pool.mempool.entry_rate(351), 1, "they hold no place");
    pool.offer(9, 1, 1).unwrap();
    assert_eq!(pool.pending(9), [1]);
    assert_eq!(pool.pending(0).len() + pool.pending(1).len(), 3);
    // One more that can't be mined displaces nothing, and says which transaction is missing.
    let refused = pool.offer(5, 2, 1_000_000).unwrap_err();
    let missing = Obstacle::MissingSequence { sequence: 1 };
    assert_eq!(refused, RejectReason::FullAtAnyFee(missing));
}

#[test]
fn all_pending_transactions_of_a_sender_are_covered_together() {
    let mut pool = Pool::of(10);
    let one = 1_000 + 10 * SIZE;
    // From the top down, each for itself covered.
    let offer = |pool: &mut Pool, sequence| {
        let payment = pool.payment(1, sequence, 10);
        pool.offer_of(payment, 2 * one)
    };
    offer(&mut pool, 3).unwrap();
    offer(&mut pool, 2).unwrap();
    let refused = offer(&mut pool, 1).unwrap_err();
    assert!(
        matches!(refused, RejectReason::InsufficientBalance { reserved, .. } if reserved == grains(2 * one)),
        "{refused}"
    );
}

#[test]
fn a_refusal_names_a_rate_that_is_accepted() {
    let mut pool = Pool::of(3);
    for from in 0..3 {
        pool.offer(from, 1, 100 + u64::from(from)).unwrap();
    }
    let RejectReason::Full { required } = pool.offer(7, 1, 50).unwrap_err() else {
        panic!("the mempool is full");
    };
    assert_eq!(pool.mempool.entry_rate(351), required);
    assert!(pool.offer(7, 1, required - 1).is_err());
    pool.offer(7, 1, required).unwrap();
    assert!(pool.pending(0).is_empty(), "the cheapest left");
}

#[test]
fn a_replacement_pays_more_by_the_byte_and_in_all() {
    let mut pool = Pool::of(10);
    pool.mempool.limits.min_fee_rate = 20;
    pool.offer(1, 1, 100).unwrap();
    let RejectReason::ReplacementFeeTooLow { required, .. } = pool.offer(1, 1, 110).unwrap_err()
    else {
        panic!("10 % more is less than the increment");
    };
    assert_eq!(required, grains(120 * SIZE));
    assert!(pool.offer(1, 1, 119).is_err());
    pool.offer(1, 1, 120).unwrap();
    assert_eq!(pool.pending(1), [1]);
}

#[test]
fn a_refusal_by_a_full_mempool_looks_at_one_transaction() {
    let mut pool = Pool::of(2_000);
    // Each queue has a cheap first and a better last transaction.
    for from in 0..1_000 {
        for (sequence, rate) in [(1, 5), (2, 900)] {
            let checked = pool.payment(from, sequence, rate);
            let incoming = IncomingTransaction {
                transaction: VerifiedTransaction::assumed(checked),
                received: 0,
                expires_ms: 1_000_000,
            };
            pool.mempool.accept(incoming, &account(RICH)).unwrap();
        }
    }
    pool.hold_to_model();
    let before = pool.mempool.looked_at();
    let refused = pool.offer(5_000, 1, 5).unwrap_err();
    assert_eq!(refused, RejectReason::Full { required: 6 });
    assert_eq!(pool.mempool.looked_at() - before, 1);
    // What sits behind a cheap transaction is worth no more than that.
    pool.offer(5_000, 1, 6).unwrap();
}

#[test]
fn a_template_looks_at_little_more_than_it_takes() {
    let mut pool = Pool::of(3_000);
    for from in 0..3_000 {
        let checked = pool.payment(from, 1, u64::from(from % 50) + 1);
        let incoming = IncomingTransaction {
            transaction: VerifiedTransaction::assumed(checked),
            received: 0,
            expires_ms: 1_000_000,
        };
        pool.mempool.accept(incoming, &account(RICH)).unwrap();
    }
    let room = |payments: usize| BlockRoom {
        bytes: payments * 351,
        account_changes: usize::MAX,
    };
    let selection = pool.mempool.select(room(100), &HashSet::new());
    assert_eq!(selection.transactions.len(), 100);
    assert_eq!(selection.looked_at, 100);
    let best = selection
        .transactions
        .iter()
        .all(|pending| pending.fee_rate() >= FeeRate::per_byte(49));
    assert!(best, "60 senders pay 50 grains a byte, and 60 pay 49");
    // Transactions that do not fit are passed over up to a limit.
    let few = BlockRoom {
        bytes: 1_000_000,
        account_changes: 0,
    };
    let selection = pool.mempool.select(few, &HashSet::new());
    assert!(selection.transactions.is_empty());
    assert_eq!(selection.looked_at, SELECT_MISSES_MAX + 1);
}

#[test]
fn what_expired_is_remembered_for_as_long_again() {
    let mut pool = Pool::of(10);
    pool.offer(1, 1, 10).unwrap();
    let txid = pool.payment(1, 1, 10).txid();
    assert!(
        pool.mempool.expire(1_000_000).is_empty(),
        "it has until then"
    );
    assert_eq!(pool.mempool.expire(1_000_001).len(), 1);
    assert!(pool.mempool.has_expired(&txid));
    pool.mempool.expire(1_000_001 + 3_600_000);
    assert!(pool.mempool.has_expired(&txid));
    pool.mempool.expire(1_000_002 + 3_600_000);
    assert!(!pool.mempool.has_expired(&txid));
    // The memory is bounded, and its owner may send a transaction again.
    for number in 0..=EXPIRED_MAX {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        pool.mempool.note_expired(Txid(bytes), 0);
    }
    assert!(!pool.mempool.has_expired(&Txid([0; 32])), "the oldest went");
    pool.mempool.note_expired(txid, 0);
    pool.offer(1, 1, 10).unwrap();
    assert!(!pool.mempool.has_expired(&txid));
}

/// A generator of numbers that look random (SplitMix64).
fn next(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % below
}

#[test]
fn random_changes_keep_it_to_the_model() {
    for seed in 0..20 {
        let mut state = seed;
        let mut pool = Pool::of(12);
        for _ in 0..300 {
            let from = u32::try_from(next(&mut state, 6)).unwrap();
            match next(&mut state, 10) {
                0 => {
                    // A block brings another balance.
                    let changed = account(next(&mut state, 60_000));
                    let sender = sender(from);
                    pool.mempool.revalidate_sender(&sender, &changed, |_| None);
                }
                1 => {
                    let some = pool.mempool.iter_by_rate().next().map(|first| first.txid());
                    some.and_then(|txid| pool.mempool.remove_mined(&txid));
                }
                _ => {
                    let (sequence, rate) = (1 + next(&mut state, 5), 1 + next(&mut state, 40));
                    let payment = pool.payment(from, sequence, rate);
                    let _ = pool.offer_of(payment, 60_000);
                }
            }
            pool.hold_to_model();
        }
    }
}
