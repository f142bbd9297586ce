//! A simulated committee with two traitors: no two branches become final.

use std::collections::{BTreeMap, BTreeSet};

use pithead_consensus::approval::finality::{Outcome, finalised_by};
use pithead_consensus::approval::vote::{VoteContext, check_vote};
use pithead_consensus::{Approval, Finality, Height, Link, VoteRecord};
use proptest::prelude::*;

use pithead_testkit::{checkpoint, key};

/// Validators of which each knows only the certificates that reached it. The branches
/// part at the genesis, and each has its own checkpoints.
struct Committee {
    views: Vec<Finality>,
    records: Vec<VoteRecord>,
    /// How many honest validators cast a vote.
    votes: BTreeMap<Link, usize>,
}

impl Committee {
    fn new() -> Self {
        Self {
            views: vec![Finality::new(10, checkpoint(0, 0)); 5],
            records: vec![VoteRecord::default(); 5],
            votes: BTreeMap::new(),
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
                // A certificate whose source it missed waits for another turn.
                let _ = self.views[who].accept(*link);
            }
        }
    }

    /// A validator with this branch as its best chain votes, if the rules allow it.
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
        let best = |height: Height| Some(on(height.0).hash);
        let record = &mut self.records[who];
        if check_vote(&context, record, &approval, best).is_ok()
            && record.vote_at(link.target.height).is_none()
        {
            record.record(link).unwrap();
            *self.votes.entry(link).or_default() += 1;
        }
    }
}

proptest! {
    /// Five of seven validators follow the rules, each with the certificates that it
    /// happens to know. Two sign anything. There are two branches. No certificates
    /// conflict, and only one branch becomes final.
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
        let branches: BTreeSet<u8> = finals
            .filter(|last| last.height.0 > 0)
            .map(|last| last.hash.0[31])
            .collect();
        prop_assert!(branches.len() <= 1, "{:?}", all);
    }
}
