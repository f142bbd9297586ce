//! What an adversary sees of the network, and what it can do to it.
//!
//! Its eyes are perfect: it knows every tip and every vote at once. Its hands are bound: it signs
//! with the keys that it holds, by rules 1 and 2 of protocol §9, and its blocks have their proof of
//! work. Start reading at [`Simulation::votes_in_sight`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pithead_consensus::{Address, Block, BlockHash, Height, Link};
use pithead_core::chain::AcceptError;
use pithead_core::node::{Answer, Event};
use pithead_core::sync::Gossip;

use crate::events::SimEvent;
use crate::model::oracle::Verdict;
use crate::model::vote_rules;
use crate::nodes::gossip::GossipMessage;
use crate::nodes::keys::validator_keys;
use crate::nodes::sim_node::{GENESIS_TIME, finality_of, finality_status};
use crate::violation::Violation;
use crate::weather::mining::find_nonce;
use crate::world::Simulation;

/// How long a vote of the adversary takes to reach a node, microseconds.
const RELEASE_US: u64 = 1_000;
/// The address that earns the rewards of the adversary's blocks.
const ADVERSARY: Address = Address([0xad; 32]);

/// The votes that each of the adversary's keys has signed, by validator number.
#[derive(Debug, Default)]
pub(crate) struct HeldKeys(BTreeMap<usize, Vec<Link>>);

impl HeldKeys {
    /// The keys of the first `count` validators.
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|number| (number, Vec::new())).collect())
    }

    /// The keys that may sign this vote now: the vote contradicts none of their earlier ones.
    pub(crate) fn that_may_sign(&self, vote: &Link) -> Vec<usize> {
        let sound = |earlier: &Vec<Link>| {
            !earlier.contains(vote)
                && earlier
                    .iter()
                    .all(|other| vote_rules::broken_rule(other, vote).is_none())
        };
        let keys = self.0.iter().filter(|(_, earlier)| sound(earlier));
        keys.map(|(number, _)| *number).collect()
    }

    /// Whether no key has signed yet.
    pub(crate) fn is_unused(&self) -> bool {
        self.0.values().all(Vec::is_empty)
    }

    fn note(&mut self, number: usize, vote: Link) {
        self.0.entry(number).or_default().push(vote);
    }
}

impl Simulation {
    /// Each vote that some honest node has, with the validators that have cast it.
    pub(crate) fn votes_in_sight(&self) -> BTreeMap<Link, BTreeSet<Address>> {
        let mut seen: BTreeMap<Link, BTreeSet<Address>> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.is_honest()) {
            let Some(core) = &node.core else {
                continue;
            };
            for signed in finality_of(core).approvals_above(Height(0), usize::MAX) {
                let by = seen.entry(signed.approval.link).or_default();
                by.insert(signed.approval.validator);
            }
        }
        seen
    }

    /// The tip of all honest nodes; `None` while they differ.
    pub(crate) fn common_tip(&self) -> Option<BlockHash> {
        let honest = self.nodes.iter().filter(|node| node.is_honest());
        let tips: BTreeSet<BlockHash> = honest
            .filter_map(|node| node.tip())
            .map(|(tip, _)| tip)
            .collect();
        let mut tips = tips.into_iter();
        tips.next().filter(|_| tips.next().is_none())
    }

    /// Whether some honest node knows a vote's source to be approved.
    pub(crate) fn has_approved_source(&self, vote: &Link) -> bool {
        let honest = self.nodes.iter().filter(|node| node.is_honest());
        honest
            .filter_map(|node| node.core.as_ref())
            .any(|core| finality_of(core).view().is_approved(&vote.source))
    }

    /// The height of the highest checkpoint that some honest node knows to be approved.
    pub(crate) fn highest_approved_height(&self) -> u64 {
        let honest = self.nodes.iter().filter(|node| node.is_honest());
        honest
            .filter_map(|node| node.core.as_ref())
            .map(|core| finality_status(core).approved.height.0)
            .max()
            .unwrap_or(0)
    }

    /// Signs a vote with one of the adversary's keys and shows it to these nodes.
    pub(crate) fn release_vote(
        &mut self,
        keys: &mut HeldKeys,
        number: usize,
        vote: Link,
        to: &[usize],
    ) {
        let genesis = self.genesis.params.genesis_hash;
        let key = validator_keys().get(number);
        let Some(signed) = key.and_then(|key| key.approve(vote, &genesis)) else {
            return;
        };
        keys.note(number, vote);
        self.counters.late_votes += 1;
        let message = Arc::new(GossipMessage::new(Gossip::Approval(Box::new(signed))));
        for index in to {
            let Some((peer, _)) = self.nodes[*index].connections.first_key_value() else {
                continue;
            };
            let event = SimEvent::Gossip(*index, *peer, Arc::clone(&message));
            self.after(RELEASE_US, event);
        }
    }

    /// The honest nodes that are running.
    pub(crate) fn honest_running(&self) -> Vec<usize> {
        let all = 0..self.nodes.len();
        all.filter(|index| self.nodes[*index].is_honest() && self.nodes[*index].core.is_some())
            .collect()
    }

    /// Mines an empty block on any block of the run, and keeps it to itself. `None` if the parent
    /// breaks a rule.
    pub(crate) fn mine_privately(&mut self, parent: &BlockHash) -> Option<Block> {
        let time = u32::try_from(u64::from(GENESIS_TIME) + self.secs()).ok()?;
        let number = self.next_number().to_be_bytes();
        let mut block = self
            .oracle
            .assemble(parent, Vec::new(), ADVERSARY, time, number)?;
        find_nonce(&mut block.header).then_some(())?;
        let verdict = self.record_block(&block);
        (verdict == Verdict::Valid).then_some(block)
    }

    /// Hands blocks to a node, as its own miner would. A node may keep them beside its chain,
    /// follow them, or have enough of them, but it may not call them invalid.
    pub(crate) fn release_blocks(
        &mut self,
        index: usize,
        blocks: Vec<Block>,
    ) -> Result<(), Violation> {
        for block in blocks {
            let answer = self.handle(index, Event::Block(Box::new(block)))?;
            if let Some(Answer::Block(Err(
                error @ (AcceptError::Invalid(_) | AcceptError::InvalidAncestor { .. }),
            ))) = answer
            {
                let what = format!("it calls a valid block invalid: {error}");
                return Err(self.violation(Some(index), what));
            }
        }
        Ok(())
    }
}
