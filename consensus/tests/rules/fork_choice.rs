//! Fork choice: each rule of protocol §8 in turn, and that the order of arrival at a node makes no
//! difference.

use pithead_consensus::approval::vote_sources::{VoteSources, stranded_max};
use pithead_consensus::fork_choice::{
    APPROVAL_REORG_MAX, Candidate, ChainFinality, Ground, best, compare,
};
use pithead_consensus::{Address, Height, Work};
use proptest::prelude::*;

fn work(number: u64) -> Work {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    Work::from_be_bytes(bytes)
}

const PLAIN: Candidate = Candidate {
    final_height: Height(20),
    votable: false,
    ground: Ground::Near,
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

/// The better of two chains, whichever is named first.
fn better(a: Candidate, b: Candidate) -> Candidate {
    let found = [a, b][best(&[a, b]).unwrap()];
    assert_eq!(found, [b, a][best(&[b, a]).unwrap()]);
    found
}

#[test]
fn what_is_final_outweighs_everything() {
    let without = Candidate {
        final_height: Height(10),
        votable: true,
        ground: Ground::Contains,
        chain_work: work(u64::MAX),
        arrival: 0,
    };
    assert_eq!(better(PLAIN, without), PLAIN);
}

#[test]
fn a_votable_chain_outweighs_one_that_contains_what_is_approved() {
    let votable = Candidate {
        votable: true,
        ..PLAIN
    };
    let contains = Candidate {
        ground: Ground::Contains,
        chain_work: work(1_000_000),
        ..PLAIN
    };
    assert_eq!(better(votable, contains), votable);
}

#[test]
fn an_approved_checkpoint_outweighs_work_near_the_fork_only() {
    let contains = Candidate {
        ground: Ground::Contains,
        ..PLAIN
    };
    let heavier = |ground| Candidate {
        ground,
        chain_work: work(1_000_000),
        arrival: 0,
        ..PLAIN
    };
    assert_eq!(better(contains, heavier(Ground::Near)), contains);
    assert_eq!(better(contains, heavier(Ground::Far)), heavier(Ground::Far));
}

#[test]
fn only_the_heaviest_chain_is_asked_how_far_it_is_above_a_fork() {
    let chain = |ground, hashes| Candidate {
        ground,
        chain_work: work(hashes),
        ..PLAIN
    };
    let contains = chain(Ground::Contains, 110);
    let far = chain(Ground::Far, 111);
    let near = chain(Ground::Near, 113);
    // Each of them loses to another one if only two are compared.
    assert_eq!(better(contains, far), far);
    assert_eq!(better(near, far), near);
    assert_eq!(better(near, contains), contains);
    let all = [contains, far, near];
    assert_eq!(
        best(&all),
        Some(0),
        "it undoes at most eight blocks of the heaviest"
    );
    assert_eq!(best(&[far, near]), Some(1));
    assert_eq!(best(&[]), None);
}

#[test]
fn a_chain_is_far_from_nine_blocks_above_the_fork() {
    let ground = |chain: ChainFinality| chain.ground(Height(40));
    assert_eq!(APPROVAL_REORG_MAX, 8);
    assert_eq!(ground(chain(41, 40)), Ground::Contains);
    assert_eq!(ground(chain(43, 35)), Ground::Near);
    assert_eq!(ground(chain(44, 35)), Ground::Far);
    let unknown = ChainFinality {
        common_height: None,
        ..chain(1, 0)
    };
    assert_eq!(ground(unknown), Ground::Far);
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
fn work_outweighs_arrival() {
    let heavier = Candidate {
        chain_work: work(1),
        arrival: 9,
        ..PLAIN
    };
    assert_eq!(better(heavier, PLAIN), heavier);
}

#[test]
fn the_first_seen_wins_a_tie() {
    let later = Candidate {
        arrival: 6,
        ..PLAIN
    };
    assert_eq!(better(PLAIN, later), PLAIN);
}

fn candidates() -> impl Strategy<Value = Candidate> {
    let grounds = prop::sample::select(vec![Ground::Near, Ground::Far, Ground::Contains]);
    (0..3u64, any::<bool>(), grounds, 0..3u64).prop_map(
        |(final_height, votable, ground, hashes)| Candidate {
            final_height: Height(final_height),
            votable,
            ground,
            chain_work: work(hashes),
            arrival: 0,
        },
    )
}

proptest! {
    #[test]
    fn the_order_in_which_chains_are_known_does_not_matter(
        mut chains in prop::collection::vec(candidates(), 1..6),
        turn in 0..6usize,
    ) {
        for (arrival, chain) in (0..).zip(&mut chains) {
            chain.arrival = arrival;
        }
        let found = chains[best(&chains).unwrap()];
        let turn = turn % chains.len();
        chains.rotate_left(turn);
        prop_assert_eq!(chains[best(&chains).unwrap()], found);
        // A chain that was not chosen may go, unless the choice came from how the heaviest stands.
        let heaviest = *chains.iter().max_by(|a, b| compare(a, b)).unwrap();
        chains.retain(|chain| *chain == found || *chain == heaviest);
        prop_assert_eq!(chains[best(&chains).unwrap()], found);
    }
}
