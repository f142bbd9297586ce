//! One piece of work, and what a solution of it is worth.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use pithead_consensus::block::{BASE_VERSION, VERSION_FIXED_MASK};
use pithead_consensus::{Block, BlockCommitment, BlockHash, Target};
use pithead_core::template::BlockTemplate;

use super::found::FoundBlocks;
use super::worker::WorkerId;

/// Solutions remembered for a piece of work, to recognise duplicates. The miner gets other work,
/// with harder shares, when half as many have come.
pub(super) const SOLUTIONS_MAX: usize = 20_000;

/// A piece of work as a miner gets it.
#[derive(Debug, Clone)]
pub struct AssignedWork {
    pub work_id: String,
    /// The commitment with the subscription's prefix in it.
    pub commitment: BlockCommitment,
    /// A hash at or below it is a share.
    pub share_target: Target,
    pub template: Arc<BlockTemplate>,
}

/// A solution as a miner handed it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmittedSolution {
    /// The [`AssignedWork::work_id`] that it is for.
    pub work_id: String,
    /// The miner's part of the extra nonce.
    pub extra_nonce: [u8; 4],
    /// The time in the header, Unix seconds.
    pub time: u32,
    pub nonce: u32,
    /// The version in the header; 0 stands for the version that the work came with.
    pub version: u32,
    /// Milliseconds from new work to the first hash, if the miner reports it.
    pub first_hash_ms: Option<u32>,
}

/// What a solution is worth.
#[derive(Debug)]
pub enum SolutionVerdict {
    /// It makes a whole block. The core judges the block, and
    /// [`WorkBook::record_block`](super::WorkBook::record_block) is to be told the core's verdict.
    /// Until then the solution counts for nothing.
    Block {
        block: Box<Block>,
        finder: BlockFinder,
    },
    /// It would make a block, but the core was given enough blocks of this worker with the same
    /// parent.
    EnoughBlocks(BlockHash),
    /// It is a share.
    Share(BlockHash),
    /// It is a share, but a newer tip has made its work stale.
    Stale(BlockHash),
    /// It is a share, but its work has had as many solutions as are remembered.
    UsedUp(BlockHash),
    /// Its work was never assigned, or is forgotten.
    UnknownWork,
    /// The same solution was handed in before.
    Duplicate(BlockHash),
    /// Its hash exceeds the share target.
    HighHash { hash: BlockHash, target: Target },
    /// Its time is out of range.
    BadTime {
        /// Earliest, Unix seconds.
        min: u32,
        /// Latest, Unix seconds.
        max: u64,
    },
    /// Its version differs in bits that miners may not change.
    BadVersion,
}

/// The worker that found a block, and the work that the block proves as a share.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFinder {
    pub worker: WorkerId,
    /// The block's parent.
    pub(super) parent: BlockHash,
    /// Expected hashes until a share.
    pub(super) share_hashes: f64,
}

/// What a verdict depends on besides the work and the solution.
#[derive(Debug, Clone, Copy)]
pub struct JudgeContext {
    /// The tip of the best chain.
    pub tip: BlockHash,
    /// Unix seconds.
    pub now: u64,
    /// How far a header's time may be ahead of `now`, seconds.
    pub max_future_secs: u32,
}

/// The id of a piece of work: the run of the node, the subscription, and the number of the work
/// in that run. Two runs share their ids by a chance of one in 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkId {
    pub(super) run: u32,
    pub(super) subscription: u32,
    pub(super) number: u64,
}

impl fmt::Display for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            run,
            subscription,
            number,
        } = self;
        write!(f, "{run:08x}-{subscription:08x}-{number:x}")
    }
}

impl WorkId {
    /// Reads an id as it is written by [`fmt::Display`]; `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let id = Self {
            run: u32::from_str_radix(parts.next()?, 16).ok()?,
            subscription: u32::from_str_radix(parts.next()?, 16).ok()?,
            number: u64::from_str_radix(parts.next()?, 16).ok()?,
        };
        // No signs, no other zeros, nothing behind it.
        (id.to_string() == text).then_some(id)
    }
}

/// A piece of work, and the solutions that came for it.
pub(super) struct WorkRecord {
    pub(super) assigned: AssignedWork,
    pub(super) subscription: u32,
    /// Unix seconds.
    pub(super) assigned_at: u64,
    /// Extra nonce, time, nonce and version of each solution.
    seen: HashSet<([u8; 4], u32, u32, u32)>,
}

impl WorkRecord {
    pub(super) fn new(assigned: AssignedWork, subscription: u32, now: u64) -> Self {
        Self {
            assigned,
            subscription,
            assigned_at: now,
            seen: HashSet::new(),
        }
    }

    /// Whether it is time for work with harder shares.
    pub(super) fn is_nearly_used_up(&self) -> bool {
        self.seen.len() >= SOLUTIONS_MAX / 2
    }

    pub(super) fn judge(
        &mut self,
        solution: &SubmittedSolution,
        context: &JudgeContext,
        worker: &WorkerId,
        found: &mut FoundBlocks,
    ) -> SolutionVerdict {
        let template = &self.assigned.template;
        let version = match solution.version {
            0 => BASE_VERSION,
            rolled if rolled & VERSION_FIXED_MASK == BASE_VERSION => rolled,
            _ => return SolutionVerdict::BadVersion,
        };
        let max = context.now + u64::from(context.max_future_secs);
        if solution.time < template.time_min || u64::from(solution.time) > max {
            return SolutionVerdict::BadTime {
                min: template.time_min,
                max,
            };
        }
        let mut commitment = self.assigned.commitment;
        commitment.extra_nonce[4..].copy_from_slice(&solution.extra_nonce);
        let mut header = template.header(&commitment);
        header.version = version;
        header.time = solution.time;
        header.nonce = solution.nonce;
        let hash = header.hash();
        let target = self.assigned.share_target;
        if !target.is_met_by(&hash) {
            return SolutionVerdict::HighHash { hash, target };
        }
        let key = (solution.extra_nonce, solution.time, solution.nonce, version);
        if self.seen.contains(&key) {
            return SolutionVerdict::Duplicate(hash);
        }
        let has_room = self.seen.len() < SOLUTIONS_MAX;
        if has_room {
            self.seen.insert(key);
        }
        // Before everything that would turn a share away: the core alone judges a block.
        if template.target.is_met_by(&hash) {
            let finder = BlockFinder {
                worker: worker.clone(),
                parent: template.parent,
                share_hashes: target.work().to_f64(),
            };
            if !found.count(&finder) {
                return SolutionVerdict::EnoughBlocks(hash);
            }
            return SolutionVerdict::Block {
                block: Box::new(template.block(header, commitment)),
                finder,
            };
        }
        if template.parent != context.tip {
            SolutionVerdict::Stale(hash)
        } else if has_room {
            SolutionVerdict::Share(hash)
        } else {
            SolutionVerdict::UsedUp(hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let id = WorkId {
            run: 0xdead_beef,
            subscription: 7,
            number: 300,
        };
        assert_eq!(id.to_string(), "deadbeef-00000007-12c");
        assert_eq!(WorkId::parse("deadbeef-00000007-12c"), Some(id));
        for other in [
            "",
            "deadbeef-00000007",
            "deadbeef-7-12c",
            "DEADBEEF-00000007-12c",
            "deadbeef-00000007-+12c",
            "deadbeef-00000007-012c",
            "deadbeef-00000007-12c-",
        ] {
            assert_eq!(WorkId::parse(other), None, "{other}");
        }
    }
}
