//! One piece of work as it was handed out, and what a solution of it is worth.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use pithead_consensus::block::{BASE_VERSION, VERSION_FIXED_MASK};
use pithead_consensus::{Block, BlockCommitment, BlockHash, Target};

use super::WorkerId;
use pithead_core::template::BlockTemplate;

/// Solutions remembered per piece of work, to tell duplicates. Long before, its
/// miner is given work with harder shares.
pub(super) const SOLUTIONS_MAX: usize = 20_000;

/// A piece of work as it was handed out.
#[derive(Debug, Clone)]
pub struct HandedOut {
    /// Its name.
    pub work_id: String,
    /// The commitment with the subscription's prefix in it.
    pub commitment: BlockCommitment,
    /// The target of its shares.
    pub share_target: Target,
    /// The template behind it.
    pub template: Arc<BlockTemplate>,
}

/// A solution as it was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    /// The work that it solves.
    pub work_id: String,
    /// The miner's part of the extra nonce.
    pub extra_nonce: [u8; 4],
    /// The header's time.
    pub time: u32,
    /// The nonce.
    pub nonce: u32,
    /// The header's version; 0: as handed out.
    pub version: u32,
    /// Milliseconds from new work to the first hash, if told.
    pub first_hash_ms: Option<u32>,
}

/// A judged solution.
#[derive(Debug)]
pub enum Judged {
    /// It makes a whole block: the core must judge on, and
    /// [`WorkBook::record_block`](super::WorkBook::record_block) be told what it
    /// said. Until then it counts as nothing.
    Block {
        /// The block.
        block: Box<Block>,
        /// Whose it is, and what it proves.
        finder: Finder,
    },
    /// A share.
    Share(BlockHash),
    /// A share for work that a newer tip has made stale.
    Stale(BlockHash),
    /// A share for work that has had as many as are remembered.
    UsedUp(BlockHash),
    /// No such work.
    UnknownWork,
    /// Handed in before.
    Duplicate(BlockHash),
    /// The hash exceeds the share target.
    HighHash {
        /// The hash.
        hash: BlockHash,
        /// The share target.
        target: Target,
    },
    /// The time is out of range.
    BadTime {
        /// Earliest, Unix seconds.
        min: u32,
        /// Latest, Unix seconds.
        max: u64,
    },
    /// The version has bits that may not be rolled.
    BadVersion,
}

/// Who found a block, and the work that it proves as a share.
#[derive(Debug, Clone, PartialEq)]
pub struct Finder {
    /// Who.
    pub worker: WorkerId,
    pub(super) share_hashes: f64,
}

/// What judging a solution needs to know of the moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The tip of the best chain.
    pub tip: BlockHash,
    /// Unix seconds.
    pub now: u64,
    /// How far a header's time may be ahead of that, seconds.
    pub max_future_secs: u32,
}

/// The name of a piece of work: the run of the node, the subscription, the
/// number of the work. No two runs have a name in common, but by a chance of one
/// in 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkName {
    pub(super) run: u32,
    pub(super) subscription: u32,
    pub(super) number: u64,
}

impl fmt::Display for WorkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            run,
            subscription,
            number,
        } = self;
        write!(f, "{run:08x}-{subscription:08x}-{number:x}")
    }
}

impl WorkName {
    /// Reads a name; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let name = Self {
            run: u32::from_str_radix(parts.next()?, 16).ok()?,
            subscription: u32::from_str_radix(parts.next()?, 16).ok()?,
            number: u64::from_str_radix(parts.next()?, 16).ok()?,
        };
        // Only as it is written here: no signs, no other zeros, nothing behind.
        (name.to_string() == text).then_some(name)
    }
}

/// Handed-out work, and the solutions that came for it.
pub(super) struct WorkRecord {
    pub(super) handed_out: HandedOut,
    pub(super) subscription: u32,
    /// Unix seconds.
    pub(super) handed_out_at: u64,
    seen: HashSet<([u8; 4], u32, u32, u32)>,
}

impl WorkRecord {
    pub(super) fn new(handed_out: HandedOut, subscription: u32, now: u64) -> Self {
        Self {
            handed_out,
            subscription,
            handed_out_at: now,
            seen: HashSet::new(),
        }
    }

    /// Whether it is time for work with harder shares.
    pub(super) fn is_nearly_used_up(&self) -> bool {
        self.seen.len() >= SOLUTIONS_MAX / 2
    }

    pub(super) fn judge(
        &mut self,
        solution: &Solution,
        moment: &Moment,
        worker: &WorkerId,
    ) -> Judged {
        let template = &self.handed_out.template;
        let version = match solution.version {
            0 => BASE_VERSION,
            rolled if rolled & VERSION_FIXED_MASK == BASE_VERSION => rolled,
            _ => return Judged::BadVersion,
        };
        let max = moment.now + u64::from(moment.max_future_secs);
        if solution.time < template.time_min || u64::from(solution.time) > max {
            return Judged::BadTime {
                min: template.time_min,
                max,
            };
        }
        let mut commitment = self.handed_out.commitment;
        commitment.extra_nonce[4..].copy_from_slice(&solution.extra_nonce);
        let mut header = template.header(&commitment);
        header.version = version;
        header.time = solution.time;
        header.nonce = solution.nonce;
        let hash = header.hash();
        let target = self.handed_out.share_target;
        if !target.is_met_by(&hash) {
            return Judged::HighHash { hash, target };
        }
        let key = (solution.extra_nonce, solution.time, solution.nonce, version);
        if self.seen.contains(&key) {
            return Judged::Duplicate(hash);
        }
        let has_room = self.seen.len() < SOLUTIONS_MAX;
        if has_room {
            self.seen.insert(key);
        }
        // A block is never turned away here: the core knows one that it has.
        if template.target.is_met_by(&hash) {
            return Judged::Block {
                block: Box::new(template.block(header, commitment)),
                finder: Finder {
                    worker: worker.clone(),
                    share_hashes: target.work().to_f64(),
                },
            };
        }
        if template.parent != moment.tip {
            Judged::Stale(hash)
        } else if has_room {
            Judged::Share(hash)
        } else {
            Judged::UsedUp(hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = WorkName {
            run: 0xdead_beef,
            subscription: 7,
            number: 300,
        };
        assert_eq!(name.to_string(), "deadbeef-00000007-12c");
        assert_eq!(WorkName::parse("deadbeef-00000007-12c"), Some(name));
        for other in [
            "",
            "deadbeef-00000007",
            "deadbeef-7-12c",
            "DEADBEEF-00000007-12c",
            "deadbeef-00000007-+12c",
            "deadbeef-00000007-012c",
            "deadbeef-00000007-12c-",
        ] {
            assert_eq!(WorkName::parse(other), None, "{other}");
        }
    }
}
