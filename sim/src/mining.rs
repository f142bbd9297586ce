//! Miners: each finds blocks as a Poisson process whose rate is its part of the
//! hash rate over the work that a block takes; the nonce is found for real.

use std::sync::Arc;

use pithead_consensus::{Block, BlockHeader};
use pithead_core::chain::next_bits;
use pithead_core::node::{Answer, BlockVerdict, Event, Node};
use pithead_core::template::BlockTemplate;

use crate::schedule::Happening;
use crate::world::{Simulation, Violation};

/// Raises the nonce until the hash meets the target; a try of some dozens.
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

/// Hashes that the next block on a node's tip takes on average.
pub(crate) fn next_work(node: &Node) -> Option<f64> {
    let chain = node.chain();
    let snapshot = chain.store().snapshot().ok()?;
    let bits = next_bits(chain.params(), snapshot.as_ref(), chain.tip()).ok()?;
    Some(bits.to_target().ok()?.work().to_f64())
}

impl Simulation {
    /// Gives the miners their parts of the hash rate: as in pools, the second
    /// has half of what the first has, the third a third, and so on.
    pub(crate) fn share_hash_rate(&mut self) {
        let miners: Vec<usize> = (0..self.members.len())
            .filter(|index| self.members[*index].is_honest())
            .take(self.settings.miners)
            .collect();
        let all: f64 = (1..=miners.len()).map(|rank| 1.0 / rank as f64).sum();
        for (place, index) in miners.into_iter().enumerate() {
            self.members[index].hash_share = 1.0 / (place + 1) as f64 / all;
            self.schedule_solution(index);
        }
    }

    /// Draws anew when a miner finds its next block: its tip has changed, and with
    /// it the work. (The process has no memory, so what was drawn before may go.)
    pub(crate) fn schedule_solution(&mut self, index: usize) {
        let rate = self.hash_rate() * self.members[index].hash_share;
        if rate <= 0.0 || !self.mining {
            return;
        }
        let Some(node) = &self.members[index].node else {
            return;
        };
        let Some(hashes) = next_work(node) else {
            return;
        };
        let wait = self.dice.mining.exponential(hashes / rate);
        let member = &mut self.members[index];
        member.solve_number += 1;
        let number = member.solve_number;
        self.after((wait * 1e6) as u64, Happening::Solve(index, number));
    }

    pub(crate) fn solve(&mut self, index: usize, number: u64) -> Result<(), Violation> {
        let member = &self.members[index];
        let void = member.solve_number != number || member.node.is_none();
        // A node far behind serves no miners; it tells when it has caught up.
        if void || member.syncing || !self.mining {
            return Ok(());
        }
        let Some(block) = self.assemble(index)? else {
            return Ok(());
        };
        self.enter(&block, true);
        let hash = block.header.hash();
        if let Some(height) = self.ledger.get(&hash).map(|found| found.height) {
            self.tempt_liars(index, height, hash);
        }
        self.hand_in(index, block)
    }

    /// A solved block on a node's tip.
    pub(crate) fn assemble(&mut self, index: usize) -> Result<Option<Block>, Violation> {
        let template = self.template(index)?;
        Ok(template.and_then(|template| {
            let member = &self.members[index];
            let extra_nonce = self.digest.events.to_be_bytes();
            let commitment = template.commitment(member.reward_address, extra_nonce);
            let mut header = template.header(&commitment);
            let clock = u32::try_from(member.now(self.now_us).unix_secs).unwrap_or(u32::MAX);
            header.time = clock.max(template.time_min);
            find_nonce(&mut header).then(|| template.block(header, commitment))
        }))
    }

    pub(crate) fn template(
        &mut self,
        index: usize,
    ) -> Result<Option<Arc<BlockTemplate>>, Violation> {
        match self.handle(index, Event::FreshTemplate)? {
            Some(Answer::Template(Ok(template))) => Ok(Some(template)),
            Some(Answer::Template(Err(error))) => Err(self.storage_failed(index, &error)),
            _ => Ok(None),
        }
    }

    /// Notes a block that was found.
    pub(crate) fn enter(&mut self, block: &Block, valid: bool) {
        let counts = self.is_settled();
        let members = self.members.iter();
        let audience =
            members.filter(|member| member.is_honest() && member.node.is_some() && !member.syncing);
        let sizes = (self.members.len(), audience.count());
        self.ledger.enter(block, self.now_us, valid, counts, sizes);
    }

    fn hand_in(&mut self, index: usize, block: Block) -> Result<(), Violation> {
        let answer = self.handle(index, Event::Block(Box::new(block)))?;
        match answer {
            Some(Answer::Block(Ok(BlockVerdict::NewTip))) => Ok(()),
            // It died in the midst of its vote for the block before.
            None if self.members[index].node.is_none() => Ok(()),
            other => {
                let what = format!("it refuses a block of its own miner: {other:?}");
                Err(self.violation(Some(index), what))
            }
        }
    }

    /// Lets the node with the best tip find a last block, by which everybody
    /// else can tell it from tips of equal work.
    pub(crate) fn find_last_block(&mut self) -> Result<(), Violation> {
        let Some(index) = self.best_honest() else {
            return Err(self.violation(None, "no honest node is left"));
        };
        let Some(block) = self.assemble(index)? else {
            return Err(self.violation(Some(index), "it has no template"));
        };
        self.enter(&block, true);
        self.hand_in(index, block)
    }
}
