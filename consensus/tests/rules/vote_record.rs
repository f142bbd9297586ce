//! A validator's record of votes allows no pair that breaks rule 1 or 2, however many
//! of the votes have become part of its floor.

use pithead_consensus::approval::vote::{offence, surrounds};
use pithead_consensus::{Link, VoteRecord};
use proptest::prelude::*;

use pithead_testkit::checkpoint;

fn links() -> impl Strategy<Value = Link> {
    (0..8u64, 1..8u64, 0..3u8, 0..3u8).prop_map(|(source, span, from, to)| Link {
        source: checkpoint(source * 10, from),
        target: checkpoint((source + span) * 10, to),
    })
}

proptest! {
    #[test]
    fn offences_are_symmetric(a in links(), b in links()) {
        prop_assert_eq!(offence(&a, &b), offence(&b, &a));
        prop_assert_eq!(offence(&a, &a), None);
        prop_assert!(!(surrounds(&a, &b) && surrounds(&b, &a)));
    }

    /// A record never holds two votes that make evidence, and refuses exactly those that
    /// would. The test compares with every vote, not only with neighbours.
    #[test]
    fn a_record_never_incriminates(votes in prop::collection::vec(links(), 1..100)) {
        let mut record = VoteRecord::default();
        for vote in votes {
            let guilty = record.votes().any(|earlier| offence(earlier, &vote).is_some());
            let before = record.clone();
            prop_assert_eq!(record.record(vote).is_err(), guilty);
            if guilty {
                prop_assert_eq!(&record, &before);
            }
        }
    }

    /// A record with a floor never allows more than the record with all votes.
    #[test]
    fn a_floor_forgets_no_rule(
        votes in prop::collection::vec(links(), 1..60),
        kept in 0..20usize,
        next in prop::collection::vec(links(), 1..60),
    ) {
        let mut full = VoteRecord::default();
        for vote in votes {
            let _ = full.record(vote);
        }
        let mut short = full.clone();
        short.keep_highest(kept);
        prop_assert_eq!(short.len(), kept.min(full.len()));
        prop_assert_eq!(short.highest_target(), full.highest_target());
        for vote in full.votes() {
            prop_assert!(short.accounts_for(vote));
        }
        for vote in next {
            if short.check(&vote).is_ok() {
                prop_assert_eq!(full.check(&vote), Ok(()));
                prop_assert_eq!(short.record(vote), Ok(()));
                prop_assert_eq!(full.record(vote), Ok(()));
            }
        }
    }

    /// A merged record allows nothing that one of the two records forbids.
    #[test]
    fn merged_records_keep_the_rules_of_both(
        votes in prop::collection::vec((links(), any::<bool>()), 1..60),
        kept in (0..20usize, 0..20usize),
        next in prop::collection::vec(links(), 1..60),
    ) {
        let mut both = VoteRecord::default();
        let (mut a, mut b) = (VoteRecord::default(), VoteRecord::default());
        for (vote, to_a) in votes {
            if both.record(vote).is_ok() {
                let one = if to_a { &mut a } else { &mut b };
                prop_assert_eq!(one.record(vote), Ok(()));
            }
        }
        a.keep_highest(kept.0);
        b.keep_highest(kept.1);
        let mut merged = a.clone();
        prop_assert_eq!(merged.merge(&b), Ok(()));
        for vote in both.votes() {
            prop_assert!(merged.accounts_for(vote));
        }
        for vote in next {
            if merged.check(&vote).is_ok() {
                prop_assert_eq!(both.check(&vote), Ok(()));
            }
        }
        // Records that contradict each other are never merged.
        if let Some(last) = merged.last().copied() {
            let mut other = last;
            other.target.hash.0[0] ^= 1;
            let mut liar = VoteRecord::default();
            prop_assert_eq!(liar.record(other), Ok(()));
            let before = merged.clone();
            prop_assert!(merged.merge(&liar).is_err());
            prop_assert_eq!(merged, before);
        }
    }
}

/// Votes of some three years of the main network.
#[test]
fn a_long_record_is_as_quick_as_a_short_one() {
    const VOTES: u64 = 1_000_000;
    let mut record = VoteRecord::default();
    for height in 1..=VOTES {
        let link = Link {
            source: checkpoint(10 * (height - 1), 0),
            target: checkpoint(10 * height, 0),
        };
        record.record(link).unwrap();
    }
    let link = |source, target| Link {
        source: checkpoint(source, 0),
        target: checkpoint(target, 0),
    };
    for height in (2..VOTES).step_by(50) {
        let outer = link(10 * (height - 2), 10 * height + 1);
        assert!(record.check(&outer).is_err());
        let between = link(10 * height, 10 * height + 1);
        assert!(record.check(&between).is_ok());
    }
    record.keep_highest(1_000);
    assert_eq!(record.len(), 1_000);
    assert!(record.check(&link(0, 10)).is_err());
}
