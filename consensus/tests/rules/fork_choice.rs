//! Fork choice: each rule of protocol §8 in turn, and that they make a total order.

use std::cmp::Ordering;

use pithead_consensus::fork_choice::{Candidate, compare};
use pithead_consensus::{Height, Work};
use proptest::prelude::*;

fn work(number: u64) -> Work {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    Work::from_be_bytes(bytes)
}

const PLAIN: Candidate = Candidate {
    final_height: Height(20),
    contains_approved: false,
    chain_work: Work::ZERO,
    arrival: 5,
};

#[test]
fn what_is_final_outweighs_everything() {
    let without = Candidate {
        final_height: Height(10),
        contains_approved: true,
        chain_work: work(u64::MAX),
        arrival: 0,
    };
    assert_eq!(compare(&PLAIN, &without), Ordering::Greater);
}

#[test]
fn an_approved_checkpoint_outweighs_work() {
    let approved = Candidate {
        contains_approved: true,
        ..PLAIN
    };
    let heavier = Candidate {
        chain_work: work(1_000_000),
        arrival: 0,
        ..PLAIN
    };
    assert_eq!(compare(&approved, &heavier), Ordering::Greater);
}

#[test]
fn work_outweighs_arrival() {
    let heavier = Candidate {
        chain_work: work(1),
        arrival: 9,
        ..PLAIN
    };
    assert_eq!(compare(&heavier, &PLAIN), Ordering::Greater);
}

#[test]
fn the_first_seen_wins_a_tie() {
    let later = Candidate {
        arrival: 6,
        ..PLAIN
    };
    assert_eq!(compare(&PLAIN, &later), Ordering::Greater);
    assert_eq!(compare(&PLAIN, &PLAIN), Ordering::Equal);
}

fn candidates() -> impl Strategy<Value = Candidate> {
    (0..3u64, any::<bool>(), 0..3u64, 0..3u64).prop_map(
        |(final_height, contains_approved, hashes, arrival)| Candidate {
            final_height: Height(final_height),
            contains_approved,
            chain_work: work(hashes),
            arrival,
        },
    )
}

proptest! {
    #[test]
    fn it_is_a_total_order(a in candidates(), b in candidates(), c in candidates()) {
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        prop_assert_eq!(compare(&a, &b) == Ordering::Equal, a == b);
        if compare(&a, &b) != Ordering::Less && compare(&b, &c) != Ordering::Less {
            prop_assert_ne!(compare(&a, &c), Ordering::Less);
        }
    }
}
