//! Fork choice: each rule of protocol §8 in turn, and that they make a total order.

use std::cmp::Ordering;

use pithead_consensus::approval::vote_sources::{VoteSources, stranded_max};
use pithead_consensus::fork_choice::{
    APPROVAL_REORG_MAX, Candidate, ChainFinality, FinalityRank, compare,
};
use pithead_consensus::{Address, Height, Work};
use proptest::prelude::*;

fn work(number: u64) -> Work {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    Work::from_be_bytes(bytes)
}

const PLAIN: Candidate = Candidate {
    rank: FinalityRank {
        final_height: Height(20),
        votable: false,
        holds_ground: false,
    },
    chain_work: Work::ZERO,
    arrival: 5,
};

/// A chain that ends at a height and parts from the preferred checkpoint's chain at another.
fn chain(height: u64, common: u64) -> ChainFinality {
    ChainFinality {
        height: Height(height),
        final_height: Height(0),
        approved_height: Height(0),
        common_height: Some(Height(common)),
    }
}

#[test]
fn what_is_final_outweighs_everything() {
    let without = Candidate {
        rank: FinalityRank {
            final_height: Height(10),
            votable: true,
            holds_ground: true,
        },
        chain_work: work(u64::MAX),
        arrival: 0,
    };
    assert_eq!(compare(&PLAIN, &without), Ordering::Greater);
}

#[test]
fn a_votable_chain_outweighs_one_that_holds_its_ground() {
    let rank = |votable, holds_ground| Candidate {
        rank: FinalityRank {
            votable,
            holds_ground,
            ..PLAIN.rank
        },
        ..PLAIN
    };
    assert_eq!(
        compare(&rank(true, false), &rank(false, true)),
        Ordering::Greater
    );
}

#[test]
fn a_chain_that_holds_its_ground_outweighs_work() {
    let holds = Candidate {
        rank: FinalityRank {
            holds_ground: true,
            ..PLAIN.rank
        },
        ..PLAIN
    };
    let heavier = Candidate {
        chain_work: work(1_000_000),
        arrival: 0,
        ..PLAIN
    };
    assert_eq!(compare(&holds, &heavier), Ordering::Greater);
}

#[test]
fn a_chain_holds_its_ground_from_nine_blocks_above_the_fork() {
    let sources = VoteSources::default();
    let holds = |chain| FinalityRank::of(&chain, Height(40), &sources).holds_ground;
    assert_eq!(APPROVAL_REORG_MAX, 8);
    // It contains the highest approved checkpoint.
    assert!(holds(chain(41, 40)));
    assert!(!holds(chain(43, 35)));
    assert!(holds(chain(44, 35)));
    let unknown = ChainFinality {
        common_height: None,
        ..chain(100, 0)
    };
    assert!(!holds(unknown));
}

#[test]
fn a_chain_is_votable_while_few_have_voted_from_higher_sources() {
    assert_eq!(stranded_max(4, 3), 0);
    assert_eq!(stranded_max(7, 5), 1);
    assert_eq!(stranded_max(25, 20), 2);
    let mut sources = VoteSources::new(7, 5);
    assert!(sources.note(Address([1; 32]), Height(50)));
    // A lower source changes nothing, and neither does the same vote twice.
    assert!(!sources.note(Address([1; 32]), Height(50)));
    assert!(!sources.note(Address([1; 32]), Height(10)));
    assert_eq!(sources.highest(&Address([1; 32])), Height(50));
    assert!(sources.votable(Height(40)));
    assert!(sources.note(Address([2; 32]), Height(60)));
    assert!(!sources.votable(Height(40)));
    assert!(sources.votable(Height(50)));
    assert!(sources.votable(Height(60)));
}

#[test]
fn after_a_conflict_only_final_blocks_count_before_work() {
    let rank = FinalityRank::after_conflict;
    assert!(rank(Height(10)) > rank(Height(9)));
    assert_eq!(rank(Height(10)), rank(Height(10)));
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
    let ranks = (0..3u64, any::<bool>(), any::<bool>());
    (ranks, 0..3u64, 0..3u64).prop_map(
        |((final_height, votable, holds_ground), hashes, arrival)| Candidate {
            rank: FinalityRank {
                final_height: Height(final_height),
                votable,
                holds_ground,
            },
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
