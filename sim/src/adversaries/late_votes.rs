//! The late votes: after one ordinary fork, each vote that comes late completes an old checkpoint on
//! the branch that the network does not follow, and the whole network moves there.
//!
//! With 7 validators, a quorum of 5 and 4 of them online, one late vote decides over each
//! checkpoint. For example, with checkpoints at even heights and branches A and B:
//! 1. The four vote for A2. B becomes longer, the network moves there, and the four vote for B4.
//! 2. A late vote for A2 comes: A2 is approved, and the network moves back to A. The four vote for
//!    A6 from A2, because each has its vote for height 4 already.
//! 3. A late vote for B4 comes: B4 is higher than A2, and the network moves to B, and so on.
//!
//! No vote contradicts another, so no validator can be accused. Start reading at
//! [`LateVotes::act`].

use std::collections::{BTreeMap, BTreeSet};

use pithead_consensus::{Address, BlockHash, Link};

use crate::adversaries::Adversary;
use crate::adversaries::hands::HeldKeys;
use crate::rng::SimRng;
use crate::settings::SimSettings;
use crate::violation::Violation;
use crate::world::Simulation;

/// The fork begins at one of so many first checkpoints, as the seed has it.
const FIRST_CHECKPOINTS: usize = 4;
/// Blocks that the adversary mines for the one fork, at most. Two are enough, unless an honest
/// miner finds a block meanwhile.
const FORK_BLOCKS_MAX: usize = 4;

/// Each vote in sight, with the validators that have cast it.
type Votes = BTreeMap<Link, BTreeSet<Address>>;

pub(super) struct LateVotes {
    keys: HeldKeys,
    quorum: usize,
    interval: u64,
    /// The fork begins at the first checkpoint from this height on.
    begins_at: u64,
    /// The tip of the adversary's own blocks, once it has mined some.
    fork: Option<BlockHash>,
    mined: usize,
}

impl LateVotes {
    pub(super) fn new(settings: &SimSettings) -> Self {
        let mut rng = SimRng::new(settings.seed, "late votes");
        let interval = u64::from(settings.checkpoint_interval);
        Self {
            keys: HeldKeys::new(settings.late),
            quorum: settings.quorum(),
            interval,
            begins_at: interval * (1 + rng.below(FIRST_CHECKPOINTS) as u64),
            fork: None,
            mined: 0,
        }
    }

    /// Makes the one fork: once a checkpoint lacks only votes that the adversary holds, it releases
    /// a longer branch beside it.
    fn fork(&mut self, world: &mut Simulation, tip: BlockHash) -> Result<(), Violation> {
        let Some((height, parent)) = world.model.get(&tip).map(|at| (at.height, at.parent)) else {
            return Ok(());
        };
        let on = match self.fork {
            Some(fork) => fork,
            None => {
                let due = height >= self.begins_at && height.is_multiple_of(self.interval);
                let votes = world.votes_in_sight();
                let is_ripe = votes.iter().any(|(vote, by)| {
                    vote.target.hash == tip && self.signers_for(vote, by).is_some()
                });
                if !due || !is_ripe {
                    return Ok(());
                }
                parent
            }
        };
        let mut blocks = Vec::new();
        let mut top = on;
        for _ in 0..if self.fork.is_none() { 2 } else { 1 } {
            let Some(block) = world.mine_privately(&top) else {
                return Ok(());
            };
            top = block.header.hash();
            blocks.push(block);
        }
        self.mined += blocks.len();
        self.fork = Some(top);
        match world.best_honest() {
            Some(index) => world.release_blocks(index, blocks),
            None => Ok(()),
        }
    }

    /// The adversary's keys that complete a certificate for this vote; `None` if they do not suffice,
    /// or if none is needed.
    fn signers_for(&self, vote: &Link, by: &BTreeSet<Address>) -> Option<Vec<usize>> {
        let missing = self.quorum.checked_sub(by.len())?;
        let mut keys = self.keys.that_may_sign(vote);
        keys.truncate(missing);
        (missing > 0 && keys.len() == missing).then_some(keys)
    }

    /// The vote to release: for the lowest checkpoint beside the chain of `tip` that is above the
    /// approved one.
    fn next_release(
        &self,
        world: &Simulation,
        tip: &BlockHash,
        votes: &Votes,
    ) -> Option<(Link, Vec<usize>)> {
        let approved = world.highest_approved_height();
        let beside = |vote: &Link| {
            world.model.ancestor(tip, vote.target.height.0) != Some(vote.target.hash)
                && vote.target.height.0 > approved
                && world.has_approved_source(vote)
        };
        let found = votes.iter().filter(|(vote, _)| beside(vote));
        let found = found.filter_map(|(vote, by)| Some((*vote, self.signers_for(vote, by)?)));
        found.min_by_key(|(vote, _)| vote.target.height)
    }

    /// Whether the chain of `tip` holds a higher checkpoint by which the network can be called back
    /// later.
    fn can_call_back(
        &self,
        world: &Simulation,
        tip: &BlockHash,
        votes: &Votes,
        now: &Link,
    ) -> bool {
        votes.iter().any(|(vote, by)| {
            vote.target.height > now.target.height
                && world.model.ancestor(tip, vote.target.height.0) == Some(vote.target.hash)
                && vote_allows(now, vote)
                && self.signers_for(vote, by).is_some()
        })
    }
}

/// Whether one key may sign both votes.
fn vote_allows(first: &Link, second: &Link) -> bool {
    crate::model::vote_rules::broken_rule(first, second).is_none()
}

impl Adversary for LateVotes {
    fn act(&mut self, world: &mut Simulation) -> Result<(), Violation> {
        let Some(tip) = world.common_tip() else {
            return Ok(());
        };
        let follows_fork = self.fork.is_some_and(|fork| {
            let height = world.model.get(&fork).map(|at| at.height);
            height.is_some_and(|height| world.model.ancestor(&tip, height) == Some(fork))
        });
        // Once the network has followed the fork, the attack goes by votes alone.
        if !follows_fork && self.mined < FORK_BLOCKS_MAX && self.keys.is_unused() {
            return self.fork(world, tip);
        }
        let votes = world.votes_in_sight();
        let Some((vote, signers)) = self.next_release(world, &tip, &votes) else {
            return Ok(());
        };
        if self.can_call_back(world, &tip, &votes, &vote) {
            let everyone = world.honest_running();
            for number in signers {
                world.release_vote(&mut self.keys, number, vote, &everyone);
            }
        }
        Ok(())
    }
}
