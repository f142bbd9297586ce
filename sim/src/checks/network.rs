//! Checks of the whole network: the best chain grows, all honest nodes follow it, and
//! they agree on all of it but the last blocks.
//!
//! [`Simulation::inspect`] runs them every half minute; start reading there.

use std::collections::BTreeMap;

use pithead_consensus::{BlockHash, Checkpoint};

use crate::events::{SECOND_US, SimEvent};
use crate::model::monitor::TimelinePoint;
use crate::nodes::sim_node::finality_status;
use crate::violation::Violation;
use crate::weather::mining::next_work;
use crate::world::Simulation;

/// Time between two inspections of the network.
const INSPECT_US: u64 = 30 * SECOND_US;
/// How long a node has to catch up after it has started, and the network after a split:
/// a few rounds in which nodes ask their peers for their status.
const SETTLED_US: u64 = 240 * SECOND_US;
/// How many blocks may fail to come where they were to be expected. Chance alone exceeds
/// this once in e^20 blocks, which is about 500 million.
const MISSING_BLOCKS_MAX: f64 = 20.0;
/// A node that has been up for so long is expected to mine.
const STARTED_US: u64 = 60 * SECOND_US;
/// Time between two replays of a node's whole chain, at least.
const REPLAY_US: u64 = 240 * SECOND_US;
/// The most replays in one run before its end.
const REPLAYS_ON_THE_WAY: u64 = 6;

impl Simulation {
    /// Whether the network is whole, and has been for long enough to agree.
    pub(crate) fn is_settled(&self) -> bool {
        self.whole_since_us
            .is_some_and(|since| since == 0 || self.now_us >= since + SETTLED_US)
    }

    /// The honest nodes that have been up for long enough to catch up.
    fn settled_nodes(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|index| {
                let node = &self.nodes[*index];
                node.is_honest()
                    && node.core.is_some()
                    && self.now_us >= node.online_since_us + SETTLED_US
            })
            .collect()
    }

    /// The honest node whose tip has the most work.
    pub(crate) fn best_honest(&self) -> Option<usize> {
        let honest = (0..self.nodes.len()).filter(|index| self.nodes[*index].is_honest());
        honest
            .filter_map(|index| {
                let core = self.nodes[index].core.as_ref()?;
                Some((core.chain().tip().chain_work, index))
            })
            // Of several tips with equal work, the one at the lowest index.
            .max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)))
            .map(|(_, index)| index)
    }

    /// Checks the whole network, and schedules the next inspection.
    pub(crate) fn inspect(&mut self) -> Result<(), Violation> {
        self.after(INSPECT_US, SimEvent::Inspect);
        self.progress.inspections += 1;
        self.check_memory()?;
        self.replay_sometimes()?;
        let Some(index) = self.best_honest() else {
            return Ok(());
        };
        let Some((best, height)) = self.nodes[index].tip() else {
            return Ok(());
        };
        self.record_timeline(index, height);
        self.check_progress(index, height)?;
        if self.is_settled() && self.now_us >= SETTLED_US {
            self.check_agreement(&self.settled_nodes(), &best, height)?;
        }
        Ok(())
    }

    /// Replays the chain of a random node, if the last replay is long enough ago.
    fn replay_sometimes(&mut self) -> Result<(), Violation> {
        let every_us = REPLAY_US.max(self.settings.secs * SECOND_US / REPLAYS_ON_THE_WAY);
        if self.now_us < self.progress.replayed_us + every_us {
            return Ok(());
        }
        self.progress.replayed_us = self.now_us;
        let index = self.rng.faults.below(self.nodes.len());
        if self.nodes[index].is_honest() && self.nodes[index].core.is_some() {
            self.replay(index)?;
        }
        Ok(())
    }

    fn record_timeline(&mut self, best: usize, height: u64) {
        if let Some(core) = &self.nodes[best].core {
            let status = finality_status(core);
            self.progress.timeline.push(TimelinePoint {
                secs: self.secs(),
                height,
                approved: status.approved.height.0,
                last_final: status.last_final.height.0,
            });
        }
    }

    /// The best chain grows as fast as the hash rate behind it lets expect.
    fn check_progress(&mut self, best: usize, height: u64) -> Result<(), Violation> {
        let expected = self.expected_blocks(best, INSPECT_US);
        let progress = &mut self.progress;
        progress.heights.push((self.now_us, height));
        if height > progress.best_height {
            progress.best_height = height;
            progress.missing_blocks = 0.0;
            return Ok(());
        }
        // An approved chain wins over a longer one, so the best height may go down. The
        // chain then grows from there.
        if self.settings.validators > 0 {
            progress.best_height = height;
        }
        progress.missing_blocks += expected;
        if progress.missing_blocks > MISSING_BLOCKS_MAX {
            let what = format!(
                "no new best block where {:.0} were to be expected",
                progress.missing_blocks
            );
            return Err(self.violation(None, what));
        }
        Ok(())
    }

    /// How many blocks are to be expected in this time from the miners that reach the best
    /// node.
    fn expected_blocks(&self, best: usize, time_us: u64) -> f64 {
        let caught_up = self.is_settled() || self.whole_since_us.is_none();
        let work = self.nodes[best].core.as_ref().and_then(next_work);
        let Some(work) = work.filter(|_| caught_up && self.mining) else {
            return 0.0;
        };
        let share: f64 = self
            .nodes
            .iter()
            .zip(&self.partition_of)
            .filter(|(node, partition)| {
                **partition == self.partition_of[best]
                    && node.core.is_some()
                    && self.now_us >= node.online_since_us + STARTED_US
            })
            .map(|(node, _)| node.hash_share)
            .sum();
        share * self.hash_rate() / work * time_us as f64 / SECOND_US as f64
    }

    /// All settled nodes agree with the best node below the agreed depth, and follow it.
    fn check_agreement(
        &self,
        settled: &[usize],
        best: &BlockHash,
        height: u64,
    ) -> Result<(), Violation> {
        let depth = self.settings.agreed_depth;
        let settled_ago = self.now_us.saturating_sub(SETTLED_US);
        // The best chain of that time may have lost to a shorter, approved one.
        let before = self.progress.height_before(settled_ago).min(height);
        let mut checked: BTreeMap<BlockHash, bool> = BTreeMap::new();
        for index in settled {
            let Some((tip, own)) = self.nodes[*index].tip() else {
                continue;
            };
            // After a conflict of certificates, each node keeps the chain that was final
            // first for it.
            if self.may_conflict() && !self.shares_final_block(*index, best) {
                continue;
            }
            let level = own.min(height).saturating_sub(depth);
            let agrees = *checked.entry(tip).or_insert_with(|| {
                self.model.ancestor(&tip, level) == self.model.ancestor(best, level)
            });
            let what = if !agrees {
                format!(
                    "its tip {tip} at height {own} and the best one, {best} at height {height}, \
                     disagree at height {level}, {depth} blocks deep"
                )
            } else if own + depth < before {
                format!(
                    "it is left behind at height {own}: others had height {before} {} s ago",
                    SETTLED_US / SECOND_US
                )
            } else {
                continue;
            };
            return Err(self.violation(Some(*index), what + &self.describe_nodes()));
        }
        Ok(())
    }

    /// Whether a node's last final block is on the chain of this tip.
    fn shares_final_block(&self, index: usize, tip: &BlockHash) -> bool {
        let Some(core) = &self.nodes[index].core else {
            return true;
        };
        let last_final = finality_status(core).last_final;
        self.model.ancestor(tip, last_final.height.0) == Some(last_final.hash)
    }

    /// Whether all honest nodes have the same tip. If certificates may conflict, only
    /// those with the same last final block need to.
    pub(crate) fn honest_agree(&self) -> bool {
        let honest = self.nodes.iter().filter(|node| node.is_honest());
        let mut tips: BTreeMap<Option<Checkpoint>, _> = BTreeMap::new();
        for node in honest {
            let core = node.core.as_ref().filter(|_| self.may_conflict());
            let last_final = core.map(|core| finality_status(core).last_final);
            let tip = node.tip();
            if *tips.entry(last_final).or_insert(tip) != tip {
                return false;
            }
        }
        true
    }

    /// The violation that honest nodes have different tips `secs` seconds after the last
    /// block.
    pub(crate) fn disagreement(&self, secs: u64) -> Violation {
        let best = self.best_honest().and_then(|index| self.nodes[index].tip());
        let honest = self.nodes.iter().enumerate();
        let mut others = honest
            .filter(|(_, node)| node.is_honest() && node.tip() != best)
            .map(|(index, node)| (index, node.tip().map(|(_, height)| height)));
        let first = others.next();
        let count = 1 + others.count();
        let what = format!(
            "{count} honest nodes have another tip than the best one (height {:?}) {secs} s after \
             the last block; the first of them has height {:?}",
            best.map(|(_, height)| height),
            first.and_then(|(_, height)| height),
        );
        self.violation(first.map(|(index, _)| index), what)
    }
}
