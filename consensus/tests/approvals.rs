//! Approvals when all goes well, and when it does not: certificates, evidence,
//! finality, and a simulated committee with a traitor.

#![allow(clippy::unwrap_used)]

mod common;

use common::{checkpoint, key, link};
use pithead_consensus::approval::finality::{Outcome, certificates_conflict, finalised_by};
use pithead_consensus::approval::vote::{Offence, VoteContext, check_vote, offence, surrounds};
use pithead_consensus::genesis::{GenesisFile, Network, ValidatorEntry};
use pithead_consensus::{
    AddressPrefix, Approval, Certificate, Evidence, Finality, Link, Validators, VoteRecord,
};
use proptest::prelude::*;

fn validators() -> Validators {
    let prefix = AddressPrefix::new("dpit").unwrap();
    let entry = |index: usize| ValidatorEntry {
        address: key(index).address.to_text(&prefix),
        public_key: hex::encode(key(index).public.modulus()),
    };
    let file = GenesisFile {
        checkpoint_interval: 10,
        approval_quorum: 5,
        validators: (0..7).map(entry).collect(),
        ..Network::Dev.genesis_file()
    };
    Validators::of_genesis(&file.check().unwrap())
}

#[test]
fn a_quorum_makes_a_certificate() {
    let validators = validators();
    assert_eq!((validators.len(), validators.quorum()), (7, 5));
    let genesis = validators.genesis().hash;
    let approvals: Vec<_> = [6, 2, 4, 0, 1]
        .map(|index| key(index).approve(&genesis, link(0, 10)))
        .to_vec();
    let certificate = Certificate::build(&validators, &approvals).unwrap();
    assert_eq!(certificate.check(&validators), Ok(()));
    assert_eq!(certificate.link(), &link(0, 10));
    assert_eq!(certificate.count(), 5);
    // The same approvals in any order make the same certificate.
    let mut reversed = approvals.clone();
    reversed.reverse();
    assert_eq!(
        Certificate::build(&validators, &reversed),
        Ok(certificate.clone())
    );
    for each in certificate.approvals() {
        assert_eq!(validators.check(&each), Ok(()));
        assert!(approvals.contains(&each));
    }
}

#[test]
fn evidence_names_the_rule() {
    let validators = validators();
    let genesis = validators.genesis().hash;
    let sign = |link: Link| key(3).approve(&genesis, link);
    let other_block = Link {
        target: checkpoint(20, 1),
        ..link(0, 20)
    };
    for (a, b, rule) in [
        (link(0, 20), link(10, 20), Offence::DoubleVote),
        (link(0, 20), other_block, Offence::DoubleVote),
        (link(0, 30), link(10, 20), Offence::SurroundVote),
        (link(10, 20), link(0, 30), Offence::SurroundVote),
    ] {
        let (a, b) = (sign(a), sign(b));
        let (evidence, found) = Evidence::of(&a, &b).unwrap();
        assert_eq!(found, rule);
        assert_eq!(evidence.check(&validators), Ok(rule));
        assert_eq!(evidence.validator(), key(3).address);
        let (mirrored, _) = Evidence::of(&b, &a).unwrap();
        assert_eq!(mirrored, evidence, "one offence, one encoding");
    }
    // Two signatures on one message differ, and are no evidence.
    let (once, twice) = (sign(link(0, 10)), sign(link(0, 10)));
    assert_ne!(once.signature, twice.signature);
    assert_eq!(Evidence::of(&once, &twice), None);
}

#[test]
fn a_checkpoint_is_final_when_the_next_one_builds_on_it() {
    let mut finality = Finality::new(10, checkpoint(0, 0));
    assert_eq!(finality.last_final(), checkpoint(0, 0));
    assert_eq!(finality.highest_approved(), checkpoint(0, 0));
    assert!(finality.is_approved(&checkpoint(0, 0)));

    // The genesis is final already: its successor makes nothing final.
    assert_eq!(finality.accept(link(0, 10)), Ok(Outcome::Approved));
    assert_eq!(finality.accept(link(0, 10)), Ok(Outcome::Known));
    assert_eq!(finality.accept(link(10, 20)), Ok(Outcome::Final));
    assert_eq!(finality.last_final(), checkpoint(10, 0));
    // 30 is skipped: 20 is not made final by 40, nor later.
    assert_eq!(finality.accept(link(20, 40)), Ok(Outcome::Approved));
    assert_eq!(finality.last_final(), checkpoint(10, 0));
    assert_eq!(finality.highest_approved(), checkpoint(40, 0));
    assert_eq!(finality.accept(link(40, 50)), Ok(Outcome::Final));
    assert_eq!(finality.last_final(), checkpoint(40, 0));
    assert!(finality.is_approved(&checkpoint(20, 0)));
    assert!(!finality.is_approved(&checkpoint(30, 0)));
    assert!(!finality.is_approved(&checkpoint(40, 1)));
    assert_eq!(finality.conflict(), None);
}

#[test]
fn only_the_next_checkpoint_makes_final() {
    assert_eq!(finalised_by(10, &link(20, 30)), Some(checkpoint(20, 0)));
    assert_eq!(finalised_by(10, &link(20, 40)), None);
    assert_eq!(finalised_by(10, &link(0, 10)), Some(checkpoint(0, 0)));
    assert_eq!(finalised_by(10, &link(u64::MAX, 5)), None);
}

#[test]
fn conflicting_certificates_stop_finality() {
    let mut finality = Finality::new(10, checkpoint(0, 0));
    finality.accept(link(0, 10)).unwrap();
    finality.accept(link(10, 20)).unwrap();
    let other = Link {
        source: checkpoint(10, 0),
        target: checkpoint(20, 1),
    };
    assert!(certificates_conflict(&link(10, 20), &other));
    let conflict = Outcome::Conflict {
        earlier: link(10, 20),
    };
    assert_eq!(finality.accept(other), Ok(conflict));
    assert_eq!(finality.conflict(), Some((link(10, 20), other)));
    // Nothing is switched, and nothing more becomes approved or final.
    assert_eq!(finality.last_final(), checkpoint(10, 0));
    assert_eq!(finality.highest_approved(), checkpoint(20, 0));
    assert_eq!(finality.accept(link(20, 30)), Ok(conflict));
    assert_eq!(finality.last_final(), checkpoint(10, 0));
    assert_eq!(finality.accept(link(10, 20)), Ok(Outcome::Known));
}

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

    /// A record never holds two votes that make evidence, and refuses exactly
    /// those that would: held against every vote, not only against neighbours.
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

    /// Whatever a record lets go of, it never allows more than before.
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

    /// What comes of two records allows nothing that either forbids.
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
        // Votes that contradict each other are never put together.
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

    /// Five of seven honest validators that follow the rules, two that sign
    /// anything, two branches: never do two branches become final.
    #[test]
    fn two_traitors_of_seven_finalise_no_fork(
        rounds in prop::collection::vec((0..2u8, prop::collection::vec(any::<bool>(), 5)), 1..30),
    ) {
        // The branches part at the genesis; each has its own checkpoints.
        let mut finality = Finality::new(10, checkpoint(0, 0));
        let mut records = vec![VoteRecord::default(); 5];
        let on = |branch: u8, height: u64| {
            if height == 0 { checkpoint(0, 0) } else { checkpoint(height, branch + 1) }
        };
        let mut heights = [0u64; 2];
        for (branch, present) in rounds {
            heights[usize::from(branch)] += 10;
            let target = on(branch, heights[usize::from(branch)]);
            let context = VoteContext {
                checkpoint_interval: 10,
                last_final: finality.last_final(),
                highest_approved: finality.highest_approved(),
            };
            let vote = Link { source: context.highest_approved, target };
            let best = |height: pithead_consensus::Height| Some(on(branch, height.0).hash);
            let mut votes = 2; // the traitors'
            for (record, present) in records.iter_mut().zip(present) {
                let approval = Approval { validator: key(0).address, link: vote };
                if present && check_vote(&context, record, &approval, best).is_ok() {
                    record.record(vote).unwrap();
                    votes += 1;
                }
            }
            if votes >= 5 {
                let before = finality.last_final();
                let outcome = finality.accept(vote).unwrap();
                let is_conflict = matches!(outcome, Outcome::Conflict { .. });
                prop_assert!(!is_conflict);
                let after = finality.last_final();
                // What is final stays on one branch.
                if before.height.0 > 0 && after != before {
                    let branch_of = |c: pithead_consensus::Checkpoint| c.hash.0[31];
                    prop_assert_eq!(branch_of(before), branch_of(after));
                }
            }
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
