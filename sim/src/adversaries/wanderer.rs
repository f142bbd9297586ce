//! The wanderer: an adversary without a plan. It releases votes and blocks at random, to all nodes
//! or to one, and so comes upon states that no plan has thought of.
//!
//! Its chains are short: a longer chain wins by its work, which nothing forbids. Start reading at
//! [`Wanderer::act`].

use std::collections::VecDeque;

use pithead_consensus::{Block, BlockHash, Checkpoint, Height, Link};

use crate::adversaries::Adversary;
use crate::adversaries::hands::HeldKeys;
use crate::nodes::sim_node::finality_of;
use crate::rng::SimRng;
use crate::settings::SimSettings;
use crate::violation::Violation;
use crate::world::Simulation;

/// Steps on which the wanderer does nothing, out of a hundred.
const IDLE_STEPS: usize = 70;
/// How deep below a tip a chain of its own begins, at most.
const FORK_DEPTH_MAX: usize = 4;
/// The most blocks of a chain of its own that it holds back.
const HELD_BLOCKS_MAX: usize = 4;
/// Steps between two of its blocks: it has a quarter of the hash rate of a network with blocks
/// every ten seconds.
const STEPS_PER_BLOCK: u64 = 40;
/// How many checkpoints below the tip it votes for, at most.
const CHECKPOINTS_BELOW_MAX: usize = 6;

pub(super) struct Wanderer {
    rng: SimRng,
    keys: HeldKeys,
    interval: u64,
    held: VecDeque<Block>,
    step: u64,
    mined_at_step: u64,
}

impl Wanderer {
    pub(super) fn new(settings: &SimSettings) -> Self {
        Self {
            rng: SimRng::new(settings.seed, "wanderer"),
            keys: HeldKeys::new(settings.late),
            interval: u64::from(settings.checkpoint_interval),
            held: VecDeque::new(),
            step: 0,
            mined_at_step: 0,
        }
    }

    /// All honest nodes, or a single one of them.
    fn audience(&mut self, world: &Simulation) -> Vec<usize> {
        let all = world.honest_running();
        if self.rng.happens(0.5) {
            return all;
        }
        self.rng.pick(&all).into_iter().collect()
    }

    /// The tip of a random honest node.
    fn random_tip(&mut self, world: &Simulation) -> Option<BlockHash> {
        let all = world.honest_running();
        let index = self.rng.pick(&all)?;
        world.nodes[index].tip().map(|(tip, _)| tip)
    }

    /// A vote for a checkpoint near a random tip, from an approved one below it, or a vote that some
    /// honest validator has cast.
    fn random_vote(&mut self, world: &Simulation) -> Option<Link> {
        if self.rng.happens(0.6) {
            let votes: Vec<Link> = world.votes_in_sight().into_keys().collect();
            return self.rng.pick(&votes);
        }
        let tip = self.random_tip(world)?;
        let top = world.model.get(&tip)?.height / self.interval;
        let back = self.rng.below(CHECKPOINTS_BELOW_MAX) as u64;
        let height = top.checked_sub(back).filter(|number| *number > 0)? * self.interval;
        let target = checkpoint_of(world, &tip, height)?;
        let view = world
            .honest_running()
            .iter()
            .filter_map(|index| world.nodes[*index].core.as_ref())
            .map(|core| finality_of(core).view())
            .next()?;
        let below = (0..height).step_by(usize::try_from(self.interval).ok()?);
        let sources: Vec<Checkpoint> = below
            .filter_map(|height| checkpoint_of(world, &tip, height))
            .filter(|checkpoint| view.is_approved(checkpoint))
            .collect();
        let source = self.rng.pick(&sources)?;
        Some(Link { source, target })
    }

    fn vote(&mut self, world: &mut Simulation) {
        let Some(vote) = self.random_vote(world) else {
            return;
        };
        let keys = self.keys.that_may_sign(&vote);
        if let Some(number) = self.rng.pick(&keys) {
            let to = self.audience(world);
            world.release_vote(&mut self.keys, number, vote, &to);
        }
    }

    /// Mines on its own chain, or begins one a few blocks below a tip.
    fn mine(&mut self, world: &mut Simulation) {
        if self.step < self.mined_at_step + STEPS_PER_BLOCK || self.held.len() >= HELD_BLOCKS_MAX {
            return;
        }
        let parent = match self.held.back() {
            Some(last) => Some(last.header.hash()),
            None => self.random_parent(world),
        };
        if let Some(block) = parent.and_then(|parent| world.mine_privately(&parent)) {
            self.mined_at_step = self.step;
            self.held.push_back(block);
        }
    }

    fn random_parent(&mut self, world: &Simulation) -> Option<BlockHash> {
        let mut at = self.random_tip(world)?;
        for _ in 0..self.rng.below(FORK_DEPTH_MAX + 1) {
            let found = world.model.get(&at)?;
            if found.height == 0 {
                break;
            }
            at = found.parent;
        }
        Some(at)
    }

    fn release(&mut self, world: &mut Simulation) -> Result<(), Violation> {
        let blocks: Vec<Block> = self.held.drain(..).collect();
        let all = world.honest_running();
        match self.rng.pick(&all) {
            Some(index) => world.release_blocks(index, blocks),
            None => Ok(()),
        }
    }
}

fn checkpoint_of(world: &Simulation, tip: &BlockHash, height: u64) -> Option<Checkpoint> {
    let hash = world.model.ancestor(tip, height)?;
    Some(Checkpoint {
        height: Height(height),
        hash,
    })
}

impl Adversary for Wanderer {
    fn act(&mut self, world: &mut Simulation) -> Result<(), Violation> {
        self.step += 1;
        match self.rng.below(100) {
            0..IDLE_STEPS => Ok(()),
            roll if roll < 85 => {
                self.vote(world);
                Ok(())
            }
            roll if roll < 95 => {
                self.mine(world);
                Ok(())
            }
            _ => self.release(world),
        }
    }
}
