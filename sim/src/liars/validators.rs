//! Lying validators (protocol §9): for which branches they vote, from which source, when,
//! and which nodes they show a vote to.
//!
//! Their votes do not go through a node of their own, but straight to the peers of other
//! nodes. Start reading at [`Simulation::equivocate`].

use std::sync::Arc;

use pithead_consensus::{BlockHash, Checkpoint, Height, Link, SignedApproval};
use pithead_core::sync::{Gossip, PeerKey};

use crate::events::{SECOND_US, SimEvent};
use crate::model::vote_rules;
use crate::nodes::gossip::GossipMessage;
use crate::nodes::keys::validator_keys;
use crate::nodes::sim_node::finality_status;
use crate::rng::SimRng;
use crate::settings::Deceit;
use crate::world::Simulation;

/// How long lying validators take to vote for a block, microseconds.
const VOTE_US: u64 = 300_000;
/// How long a published vote takes to reach a node, microseconds.
const PUBLISH_US: u64 = 1_000;
/// How long a vote is held back, seconds, at least and at most.
const HELD_BACK_SECS: (f64, f64) = (20.0, 120.0);
/// A validator that surrounds its votes takes the genesis as source for every third
/// checkpoint.
const SURROUND_EVERY: u64 = 3;
/// The ways to lie that a validator's own way is drawn from.
const DECEITS: [Deceit; 5] = [
    Deceit::EveryBranch,
    Deceit::TwoFaces,
    Deceit::Surround,
    Deceit::StaleSource,
    Deceit::HoldBack,
];

impl Simulation {
    /// The way in which a lying validator lies.
    fn deceit_of(&self, number: usize) -> Deceit {
        self.settings.deceit.unwrap_or_else(|| {
            let mut rng = SimRng::new(self.settings.seed, &format!("deceit {number}"));
            rng.pick(&DECEITS).unwrap_or(Deceit::EveryBranch)
        })
    }

    /// A block was found. If it is a checkpoint, the lying validators vote for it,
    /// whatever branch it is on.
    pub(crate) fn schedule_equivocation(&mut self, finder: usize, height: u64, hash: BlockHash) {
        let interval = u64::from(self.settings.checkpoint_interval);
        if self.settings.equivocators > 0 && height.is_multiple_of(interval) {
            let event = SimEvent::Equivocate {
                finder,
                height,
                hash,
            };
            self.after(VOTE_US, event);
        }
    }

    /// All lying validators vote for a checkpoint, each in its own way.
    pub(crate) fn equivocate(&mut self, finder: usize, height: u64, hash: BlockHash) {
        let target = Checkpoint {
            height: Height(height),
            hash,
        };
        let Some(approved) = self.highest_approved_below(&target) else {
            return;
        };
        for number in 0..self.settings.equivocators {
            let deceit = self.deceit_of(number);
            let source = match deceit {
                Deceit::EveryBranch | Deceit::TwoFaces | Deceit::HoldBack => approved,
                Deceit::Surround => self.surrounding_source(&approved, height),
                Deceit::StaleSource => self.stale_source(&approved),
            };
            if let Some(signed) = self.sign_as_liar(number, Link { source, target }) {
                self.show_vote(signed, deceit, finder);
            }
        }
    }

    /// The highest checkpoint below the target on its chain that some honest node knows
    /// to be approved.
    fn highest_approved_below(&self, target: &Checkpoint) -> Option<Checkpoint> {
        self.nodes
            .iter()
            .filter(|node| node.is_honest())
            .filter_map(|node| {
                let approved = finality_status(node.core.as_ref()?).approved;
                let is_below = approved.height < target.height;
                let is_on_chain =
                    self.model.ancestor(&target.hash, approved.height.0) == Some(approved.hash);
                (is_below && is_on_chain).then_some(approved)
            })
            .max()
    }

    /// The genesis at every third checkpoint; otherwise the approved checkpoint.
    fn surrounding_source(&self, approved: &Checkpoint, height: u64) -> Checkpoint {
        let interval = u64::from(self.settings.checkpoint_interval);
        if (height / interval).is_multiple_of(SURROUND_EVERY) {
            Checkpoint::genesis(self.genesis.params.genesis_hash)
        } else {
            *approved
        }
    }

    /// A random checkpoint of the chain up to the approved one.
    fn stale_source(&mut self, approved: &Checkpoint) -> Checkpoint {
        let interval = u64::from(self.settings.checkpoint_interval);
        let steps = usize::try_from(approved.height.0 / interval).unwrap_or_default();
        let height = self.rng.liars.below(steps + 1) as u64 * interval;
        let hash = self.model.ancestor(&approved.hash, height);
        hash.map_or(*approved, |hash| Checkpoint {
            height: Height(height),
            hash,
        })
    }

    /// Signs a vote of a lying validator, and counts its contradictions with earlier ones.
    fn sign_as_liar(&mut self, number: usize, vote: Link) -> Option<SignedApproval> {
        let genesis = self.genesis.params.genesis_hash;
        let signed = validator_keys().get(number)?.approve(vote, &genesis)?;
        self.finality.lying_votes += 1;
        let earlier = self.finality.signed_by_liars.entry(number).or_default();
        let contradictions = earlier
            .iter()
            .filter(|earlier| vote_rules::broken_rule(earlier, &vote).is_some())
            .count();
        self.finality.contradictions += contradictions as u64;
        if !earlier.contains(&vote) {
            earlier.push(vote);
        }
        Some(signed)
    }

    /// Sends a vote to one node of each part of the network. A validator with two faces
    /// sends it only to the part in which the checkpoint was found.
    fn show_vote(&mut self, signed: SignedApproval, deceit: Deceit, finder: usize) {
        let message = Arc::new(GossipMessage::new(Gossip::Approval(Box::new(signed))));
        let wait_us = match deceit {
            Deceit::HoldBack => {
                let secs = self.rng.liars.between(HELD_BACK_SECS.0, HELD_BACK_SECS.1);
                (secs * SECOND_US as f64) as u64
            }
            _ => PUBLISH_US,
        };
        let partitions = match deceit {
            Deceit::TwoFaces => vec![self.partition_of[finder]],
            _ => self.partitions(),
        };
        for partition in partitions {
            self.inject_gossip(partition, &message, wait_us);
        }
    }

    /// Hands a message to a random honest node of a part of the network, as if one of its
    /// peers had sent it.
    fn inject_gossip(&mut self, partition: u8, message: &Arc<GossipMessage>, wait_us: u64) {
        let candidates: Vec<(usize, PeerKey)> = (0..self.nodes.len())
            .filter(|index| {
                self.partition_of[*index] == partition && self.nodes[*index].is_honest()
            })
            .filter_map(|index| {
                let (peer, _) = self.nodes[index].connections.first_key_value()?;
                Some((index, *peer))
            })
            .collect();
        if let Some((index, peer)) = self.rng.liars.pick(&candidates) {
            let event = SimEvent::Gossip(index, peer, Arc::clone(message));
            self.after(wait_us, event);
        }
    }
}
