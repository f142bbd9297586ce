//! Miners. Each finds blocks as a Poisson process, at its hash rate divided by the hashes
//! that a block takes. The nonce of a block is then searched for real.
//!
//! Which part of the hash rate a miner has does not depend on its node. Start reading at [`Simulation::schedule_solution`].

use std::sync::Arc;

use pithead_consensus::{Block, BlockHeader};
use pithead_core::chain::{AcceptError, next_bits};
use pithead_core::node::{Answer, BlockVerdict, Event, Node};
use pithead_core::template::BlockTemplate;

use crate::events::SimEvent;
use crate::model::chain::Discovery;
use crate::model::oracle::Verdict;
use crate::violation::Violation;
use crate::world::Simulation;

/// Raises the nonce until the hash meets the target, which takes some dozen hashes.
/// Returns `false` if no nonce does.
pub(crate) fn find_nonce(header: &mut BlockHeader) -> bool {
    let Ok(target) = header.bits.to_target() else {
        return false;
    };
    while !target.is_met_by(&header.hash()) {
        let Some(next) = header.nonce.checked_add(1) else {
            return false;
        };
        header.nonce = next;
    }
    true
}

/// How many hashes the next block on a node's tip takes on average.
pub(crate) fn next_work(core: &Node) -> Option<f64> {
    let chain = core.chain();
    let snapshot = chain.store().snapshot().ok()?;
    let bits = next_bits(chain.params(), snapshot.as_ref(), chain.tip()).ok()?;
    Some(bits.to_target().ok()?.work().to_f64())
}

impl Simulation {
    /// Gives the first honest nodes their parts of the hash rate. As among mining pools,
    /// the second has half as much as the first, the third a third, and so on.
    pub(crate) fn share_hash_rate(&mut self) {
        let miners: Vec<usize> = (0..self.nodes.len())
            .filter(|index| self.nodes[*index].is_honest())
            .take(self.settings.miners)
            .collect();
        let all: f64 = (1..=miners.len()).map(|rank| 1.0 / rank as f64).sum();
        for (place, index) in miners.into_iter().enumerate() {
            self.nodes[index].hash_share = 1.0 / (place + 1) as f64 / all;
            self.schedule_solution(index);
        }
    }

    /// Draws when a miner finds its next block. It is drawn again whenever the node's tip
    /// changes, since the work may change with it. A Poisson process has no memory, so
    /// dropping the earlier draw does not change the rate.
    pub(crate) fn schedule_solution(&mut self, index: usize) {
        let rate = self.hash_rate() * self.nodes[index].hash_share;
        if rate <= 0.0 || !self.mining {
            return;
        }
        let Some(core) = &self.nodes[index].core else {
            return;
        };
        let Some(hashes) = next_work(core) else {
            return;
        };
        let wait = self.rng.mining.exponential(hashes / rate);
        let node = &mut self.nodes[index];
        node.solve_number += 1;
        let number = node.solve_number;
        self.after_secs(wait, SimEvent::Solve(index, number));
    }

    /// A miner finds a block, unless the search that this belongs to is outdated.
    pub(crate) fn solve(&mut self, index: usize, number: u64) -> Result<(), Violation> {
        let node = &self.nodes[index];
        let is_void = node.solve_number != number || node.core.is_none();
        // A node that is catching up gives its miner no template. Once it has caught up,
        // a new search is scheduled.
        if is_void || node.syncing || !self.mining {
            return Ok(());
        }
        let Some(block) = self.assemble_block(index)? else {
            return Ok(());
        };
        self.record_own_block(index, &block)?;
        let hash = block.header.hash();
        if let Some(height) = self.model.get(&hash).map(|found| found.height) {
            self.schedule_equivocation(index, height, hash);
        }
        self.submit_block(index, block)
    }

    /// A solved block on a node's tip; `None` if the node is down or no nonce is found.
    pub(crate) fn assemble_block(&mut self, index: usize) -> Result<Option<Block>, Violation> {
        let template = self.fresh_template(index)?;
        Ok(template.and_then(|template| {
            let node = &self.nodes[index];
            let extra_nonce = self.digest.events.to_be_bytes();
            let commitment = template.commitment(node.reward_address, extra_nonce);
            let mut header = template.header(&commitment);
            let clock = u32::try_from(node.now(self.now_us).unix_secs).unwrap_or(u32::MAX);
            header.time = clock.max(template.time_min);
            find_nonce(&mut header).then(|| template.block(header, commitment))
        }))
    }

    fn fresh_template(&mut self, index: usize) -> Result<Option<Arc<BlockTemplate>>, Violation> {
        match self.handle(index, Event::FreshTemplate)? {
            Some(Answer::Template(Ok(template))) => Ok(Some(template)),
            Some(Answer::Template(Err(error))) => Err(self.storage_failed(index, &error)),
            _ => Ok(None),
        }
    }

    /// Enters a block that was found into the model, and returns what the oracle says of it.
    pub(crate) fn record_block(&mut self, block: &Block) -> Verdict {
        let verdict = self.oracle.judge(block);
        let nodes = self.nodes.iter();
        let audience =
            nodes.filter(|node| node.is_honest() && node.core.is_some() && !node.syncing);
        let discovery = Discovery {
            at_us: self.now_us,
            valid: verdict == Verdict::Valid,
            counts: self.is_settled(),
            nodes: self.nodes.len(),
            audience: audience.count(),
        };
        self.model.insert(block, discovery);
        verdict
    }

    /// Enters a block that an honest miner has found by its node's template: it keeps every rule.
    fn record_own_block(&mut self, index: usize, block: &Block) -> Result<(), Violation> {
        let verdict = self.record_block(block);
        if verdict == Verdict::Valid || !self.nodes[index].is_honest() {
            return Ok(());
        }
        let what = format!("oracle: a block by its template is {verdict:?}");
        Err(self.violation(Some(index), what))
    }

    /// A miner hands its node a block, which must become the node's tip.
    fn submit_block(&mut self, index: usize, block: Block) -> Result<(), Violation> {
        let answer = self.handle(index, Event::Block(Box::new(block)))?;
        match answer {
            Some(Answer::Block(Ok(BlockVerdict::NewTip))) => Ok(()),
            // Where clocks jump, the tip may be ahead of the node's clock.
            Some(Answer::Block(Err(AcceptError::NotYet { .. })))
                if self.weather.clock_jump_secs.is_finite() =>
            {
                Ok(())
            }
            // The node died while it wrote its vote for the block before.
            None if self.nodes[index].core.is_none() => Ok(()),
            other => {
                let what = format!("it refuses a block of its own miner: {other:?}");
                Err(self.violation(Some(index), what))
            }
        }
    }

    /// Lets the honest node with the best tip find one last block. By it, all nodes can
    /// tell this tip from others with equal work.
    pub(crate) fn find_last_block(&mut self) -> Result<(), Violation> {
        let Some(index) = self.best_honest() else {
            return Err(self.violation(None, "no honest node is running at the end"));
        };
        let Some(block) = self.assemble_block(index)? else {
            let what = "it has no template for the last block";
            return Err(self.violation(Some(index), what));
        };
        self.record_own_block(index, &block)?;
        self.submit_block(index, block)
    }
}
