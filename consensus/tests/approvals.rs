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

    /// Five of seven honest validators that follow the rules, each with what it
    /// happens to know, two that sign anything, two branches: whatever anyone
    /// sees, no certificates conflict and one branch alone becomes final.
    #[test]
    fn two_traitors_of_seven_finalise_no_fork(
        turns in prop::collection::vec(
            (0..5usize, 0..2u8, 1..7u64, prop::collection::vec(any::<bool>(), 12)),
            1..60,
        ),
    ) {
        let mut committee = Committee::new();
        for (who, branch, height, hears) in turns {
            committee.hears(who, &hears);
            committee.votes(who, branch, height * 10);
        }
        let all = committee.certified();
        let mut observer = Finality::new(10, checkpoint(0, 0));
        for link in &all {
            let outcome = observer.accept(*link).unwrap();
            let is_conflict = matches!(outcome, Outcome::Conflict { .. });
            prop_assert!(!is_conflict, "{:?} among {:?}", link, all);
        }
        let finals = all.iter().filter_map(|link| finalised_by(10, link));
        let branches: std::collections::BTreeSet<u8> = finals
            .filter(|last| last.height.0 > 0)
            .map(|last| last.hash.0[31])
            .collect();
        prop_assert!(branches.len() <= 1, "{:?}", all);
    }
}

/// Validators that know of certificates only what they heard. The branches part
/// at the genesis; each has its own checkpoints.
struct Committee {
    views: Vec<Finality>,
    records: Vec<VoteRecord>,
    /// How many honest validators cast a vote.
    votes: std::collections::BTreeMap<Link, usize>,
}

impl Committee {
    fn new() -> Self {
        Self {
            views: vec![Finality::new(10, checkpoint(0, 0)); 5],
            records: vec![VoteRecord::default(); 5],
            votes: std::collections::BTreeMap::new(),
        }
    }

    /// Links that the traitors' two votes make a quorum of, each after its source.
    fn certified(&self) -> Vec<Link> {
        let mut links: Vec<Link> = self
            .votes
            .iter()
            .filter(|(_, votes)| **votes + 2 >= 5)
            .map(|(link, _)| *link)
            .collect();
        links.sort_by_key(|link| (link.target.height, *link));
        links
    }

    /// Some certificates reach a validator.
    fn hears(&mut self, who: usize, hears: &[bool]) {
        let certified = self.certified();
        for (link, hears) in certified.iter().rev().zip(hears).rev() {
            if *hears {
                // One whose source it missed waits for another turn.
                let _ = self.views[who].accept(*link);
            }
        }
    }

    /// A validator whose best chain is a branch votes, if it may.
    fn votes(&mut self, who: usize, branch: u8, height: u64) {
        let on = |height: u64| match height {
            0 => checkpoint(0, 0),
            height => checkpoint(height, branch + 1),
        };
        let view = &self.views[who];
        let context = VoteContext {
            checkpoint_interval: 10,
            last_final: view.last_final(),
            highest_approved: view.highest_approved(),
        };
        let link = Link {
            source: context.highest_approved,
            target: on(height),
        };
        let approval = Approval {
            validator: key(0).address,
            link,
        };
        let best = |height: pithead_consensus::Height| Some(on(height.0).hash);
        let record = &mut self.records[who];
        if check_vote(&context, record, &approval, best).is_ok()
            && record.vote_at(link.target.height).is_none()
        {
            record.record(link).unwrap();
            *self.votes.entry(link).or_default() += 1;
        }
    }
}

#[test]
fn what_is_final_is_known_at_every_height() {
    let mut finality = Finality::new(10, checkpoint(0, 0));
    let fork = |height| checkpoint(height, 1);
    for link in [
        link(0, 10),
        // Approved on another branch, and left for the main one.
        Link {
            source: checkpoint(10, 0),
            target: fork(20),
        },
        link(10, 30),
        link(30, 40),
        link(40, 60),
        link(60, 70),
    ] {
        finality.accept(link).unwrap();
    }
    assert_eq!(finality.last_final(), checkpoint(60, 0));
    for (height, last) in [
        (0, 0),
        (9, 0),
        (10, 10),
        (29, 10),
        (30, 30),
        (45, 40),
        (59, 40),
        (60, 60),
        (999, 60),
    ] {
        let found = finality.final_at(pithead_consensus::Height(height));
        assert_eq!(found, checkpoint(last, 0), "at {height}");
    }
    // One that comes late, for a checkpoint that was passed over.
    finality
        .accept(Link {
            source: checkpoint(40, 0),
            target: checkpoint(50, 2),
        })
        .unwrap();
    assert_eq!(
        finality.final_at(pithead_consensus::Height(59)),
        checkpoint(40, 0)
    );
}

#[test]
fn a_link_is_judged_after_those_that_are_not_taken_in_yet() {
    let mut finality = Finality::new(10, checkpoint(0, 0));
    let mut before = std::collections::BTreeMap::new();
    assert!(finality.check(&before, &link(10, 20)).is_err());
    before.insert(link(0, 10).target.height, link(0, 10));
    assert_eq!(finality.check(&before, &link(0, 10)), Ok(Outcome::Known));
    assert_eq!(finality.check(&before, &link(10, 20)), Ok(Outcome::Final));
    let other = Link {
        target: checkpoint(10, 1),
        ..link(0, 10)
    };
    let conflict = Outcome::Conflict {
        earlier: link(0, 10),
    };
    assert_eq!(finality.check(&before, &other), Ok(conflict));
    assert_eq!(finality.links().count(), 0, "nothing was taken in");
    finality.accept(link(0, 10)).unwrap();
    assert_eq!(
        finality.check(&std::collections::BTreeMap::new(), &other),
        Ok(conflict)
    );
}

#[test]
fn verified_approvals_make_a_certificate_without_a_second_look() {
    let validators = validators();
    let genesis = validators.genesis().hash;
    let verified = |index: usize, link: Link| {
        let signed = key(index).approve(&genesis, link);
        validators.verify(signed).unwrap()
    };
    let mut approvals: Vec<_> = (0..5).map(|index| verified(index, link(0, 10))).collect();
    let certificate = Certificate::of_verified(&validators, &approvals).unwrap();
    assert_eq!(certificate.check(&validators), Ok(()));
    // What is no matter of signatures is still checked.
    let twice = [approvals.clone(), vec![verified(0, link(0, 10))]].concat();
    assert!(Certificate::of_verified(&validators, &twice).is_err());
    approvals[4] = verified(4, link(0, 20));
    assert!(Certificate::of_verified(&validators, &approvals).is_err());
    assert!(Certificate::of_verified(&validators, &approvals[..4]).is_err());
    let mut forged = key(0).approve(&genesis, link(0, 10));
    forged.signature = key(1).approve(&genesis, link(0, 10)).signature;
    assert!(validators.verify(forged).is_err());
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
