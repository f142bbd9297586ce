//! Validators that lie: what they vote for, from where, whom they show it, and
//! how often they contradict themselves (protocol §9).

use std::sync::Arc;

use pithead_consensus::{BlockHash, Checkpoint, Height, Link, SignedApproval};
use pithead_core::finality::{PROOFS_OF_ONE_MAX, Proof};
use pithead_core::sync::{Gossip, PeerKey};

use crate::dice::Dice;
use crate::finality::{state_of, status_of};
use crate::keys::{keys, number_of};
use crate::member::Message;
use crate::rules;
use crate::schedule::Happening;
use crate::settings::Deceit;
use crate::world::{SECOND_US, Simulation, Violation};

/// How long liars take to vote for a block, microseconds.
const LIARS_TAKE_US: u64 = 300_000;
/// How long a vote is held back, seconds, at least and at most.
const HELD_BACK_SECS: (f64, f64) = (20.0, 120.0);
/// One in so many votes of those who surround goes from the genesis.
const SURROUND_EVERY: u64 = 3;
const ALL: [Deceit; 5] = [
    Deceit::EveryBranch,
    Deceit::TwoFaces,
    Deceit::Surround,
    Deceit::StaleSource,
    Deceit::HoldBack,
];

impl Simulation {
    /// How one of the liars goes about it.
    fn deceit(&self, number: usize) -> Deceit {
        self.settings.deceit.unwrap_or_else(|| {
            let mut dice = Dice::new(self.settings.seed, &format!("deceit {number}"));
            dice.pick(&ALL).unwrap_or(Deceit::EveryBranch)
        })
    }

    /// A block was found: liars vote for every checkpoint that there is.
    pub(crate) fn tempt_liars(&mut self, finder: usize, height: u64, hash: BlockHash) {
        let interval = u64::from(self.settings.checkpoint_interval);
        if self.settings.equivocators > 0 && height.is_multiple_of(interval) {
            let vote = Happening::Equivocate {
                finder,
                height,
                hash,
            };
            self.after(LIARS_TAKE_US, vote);
        }
    }

    /// The liars approve a block, whatever else they approved.
    pub(crate) fn equivocate(&mut self, finder: usize, height: u64, hash: BlockHash) {
        let target = Checkpoint {
            height: Height(height),
            hash,
        };
        let Some(source) = self.source_for(&target) else {
            return;
        };
        for number in 0..self.settings.equivocators {
            let deceit = self.deceit(number);
            let source = match deceit {
                Deceit::EveryBranch | Deceit::TwoFaces | Deceit::HoldBack => source,
                Deceit::Surround => self.genesis_every_third(&source, height),
                Deceit::StaleSource => self.earlier(&source),
            };
            self.tell(number, deceit, Link { source, target }, finder);
        }
    }

    fn genesis_every_third(&self, source: &Checkpoint, height: u64) -> Checkpoint {
        let interval = u64::from(self.settings.checkpoint_interval);
        if (height / interval).is_multiple_of(SURROUND_EVERY) {
            Checkpoint::genesis(self.genesis.params.genesis_hash)
        } else {
            *source
        }
    }

    /// Some checkpoint that this one builds on, or itself.
    fn earlier(&mut self, source: &Checkpoint) -> Checkpoint {
        let interval = u64::from(self.settings.checkpoint_interval);
        let steps = usize::try_from(source.height.0 / interval).unwrap_or_default();
        let height = self.dice.liars.below(steps + 1) as u64 * interval;
        let hash = self.ledger.ancestor(&source.hash, height);
        hash.map_or(*source, |hash| Checkpoint {
            height: Height(height),
            hash,
        })
    }

    /// A liar signs a vote and shows it to whom it likes.
    fn tell(&mut self, number: usize, deceit: Deceit, link: Link, finder: usize) {
        let genesis = self.genesis.params.genesis_hash;
        let signed = keys()
            .get(number)
            .and_then(|key| key.approve(link, &genesis));
        let Some(signed) = signed else {
            return;
        };
        self.finality.lies += 1;
        let told = self.finality.told.entry(number).or_default();
        let broken = told
            .iter()
            .filter(|earlier| rules::broken(earlier, &link).is_some())
            .count();
        self.finality.contradictions += broken as u64;
        if !told.contains(&link) {
            told.push(link);
        }
        let message = Arc::new(Message::new(Gossip::Approval(Box::new(signed))));
        let wait_us = match deceit {
            Deceit::HoldBack => {
                let secs = self.dice.liars.between(HELD_BACK_SECS.0, HELD_BACK_SECS.1);
                (secs * SECOND_US as f64) as u64
            }
            _ => 1_000,
        };
        let own_side = self.side[finder];
        let sides: Vec<u8> = match deceit {
            Deceit::TwoFaces => vec![own_side],
            _ => self.sides(),
        };
        for side in sides {
            self.slip(side, &message, wait_us);
        }
    }

    /// The highest approved checkpoint, at any honest node, that the target
    /// builds on.
    fn source_for(&self, target: &Checkpoint) -> Option<Checkpoint> {
        self.members
            .iter()
            .filter(|member| member.is_honest())
            .filter_map(|member| {
                let approved = status_of(member.node.as_ref()?).approved;
                let below = approved.height < target.height;
                let on_chain =
                    self.ledger.ancestor(&target.hash, approved.height.0) == Some(approved.hash);
                (below && on_chain).then_some(approved)
            })
            .max()
    }

    /// Gives a message to some node of a side, as if a neighbour had sent it.
    fn slip(&mut self, side: u8, message: &Arc<Message>, wait_us: u64) {
        let all: Vec<(usize, PeerKey)> = (0..self.members.len())
            .filter(|index| self.side[*index] == side && self.members[*index].is_honest())
            .filter_map(|index| {
                let (peer, _) = self.members[index].links.first_key_value()?;
                Some((index, *peer))
            })
            .collect();
        if let Some((index, peer)) = self.dice.liars.pick(&all) {
            self.after(wait_us, Happening::Gossip(index, peer, Arc::clone(message)));
        }
    }

    /// A node took a vote of a liar for sound: if it contradicts another one that
    /// it has at hand, it must hold the proof.
    pub(crate) fn check_heard(
        &mut self,
        index: usize,
        signed: &SignedApproval,
    ) -> Result<(), Violation> {
        let validator = signed.approval.validator;
        let link = signed.approval.link;
        let liar = number_of(&validator).filter(|number| *number < self.settings.equivocators);
        let (Some(number), Some(node)) = (liar, &self.members[index].node) else {
            return Ok(());
        };
        let mut unproven = None;
        {
            let state = state_of(node);
            let mut pairs = Vec::new();
            for kept in state.proofs() {
                if let Proof::Votes(evidence) = &kept.proof
                    && evidence.validator() == validator
                {
                    let (first, second) = evidence.approvals();
                    pairs.push([first.approval.link, second.approval.link]);
                }
            }
            let heard = self.members[index].heard.get(&number);
            for earlier in heard.into_iter().flatten() {
                let contradict = rules::broken(earlier, &link).is_some()
                    && state.has(&validator, earlier)
                    && state.has(&validator, &link);
                let proven = |pair: &[Link; 2]| pair.contains(earlier) && pair.contains(&link);
                if contradict && pairs.len() < PROOFS_OF_ONE_MAX && !pairs.iter().any(proven) {
                    unproven = Some(*earlier);
                }
                self.finality.pairs_met += u64::from(contradict);
            }
        }
        let heard = self.members[index].heard.entry(number).or_default();
        heard.push(link);
        match unproven {
            None => Ok(()),
            Some(earlier) => {
                let (earlier, later) = (rules::words(&earlier), rules::words(&link));
                let what = format!(
                    "it holds votes {earlier} and {later} of validator {number}, and no proof"
                );
                Err(self.violation(Some(index), what))
            }
        }
    }
}
