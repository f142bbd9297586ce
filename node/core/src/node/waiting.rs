//! Blocks that came through the API and can't be judged yet: their parent is missing, or their
//! time is ahead of the clock. Each is tried once, when that reason is gone. Knows neither chain
//! nor store. Start reading at [`WaitingBlocks::keep`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pithead_consensus::check::{CheckedBlock, NotYet};
use pithead_consensus::{BlockHash, Work};

use super::Now;

/// Most blocks that wait. A further one takes the place of the oldest.
const WAITING_BLOCKS_MAX: usize = 64;
/// Most encoded bytes of blocks that wait.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Most blocks that wait for one parent. A further one is not kept.
const WAITING_SIBLINGS_MAX: usize = 4;
/// A block that has waited this long is dropped. One that the clock will not reach in this time
/// is not kept.
const WAITING_SECS_MAX: u64 = 600;

/// The event that a block waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// This block is accepted.
    Parent(BlockHash),
    /// The clock shows this time, Unix seconds.
    Time(u64),
}

#[derive(Debug)]
struct WaitingBlock {
    block: Arc<CheckedBlock>,
    until: Until,
    since_ms: u64,
}

/// The blocks that wait, by what they wait for.
#[derive(Debug, Default)]
pub(super) struct WaitingBlocks {
    /// By order of arrival.
    blocks: BTreeMap<u64, WaitingBlock>,
    arrivals: u64,
    bytes: usize,
    hashes: HashMap<BlockHash, u64>,
    by_parent: HashMap<BlockHash, Vec<u64>>,
    by_time: BTreeSet<(u64, u64)>,
}

impl WaitingBlocks {
    /// How many blocks wait, and their encoded bytes.
    pub(super) fn usage(&self) -> (usize, usize) {
        (self.blocks.len(), self.bytes)
    }

    /// Keeps a block until the reason why it can't be judged is gone. The oldest blocks make
    /// room.
    pub(super) fn keep(&mut self, block: Arc<CheckedBlock>, reason: &NotYet, now: Now) {
        let until = match reason {
            NotYet::MissingParent { parent } => Until::Parent(*parent),
            NotYet::TimeTooFarAhead {
                found,
                max_future_secs,
                ..
            } => Until::Time(u64::from(*found).saturating_sub(u64::from(*max_future_secs))),
        };
        let is_too_much = match until {
            Until::Parent(parent) => self.count_of(&parent) >= WAITING_SIBLINGS_MAX,
            Until::Time(time) => time.saturating_sub(now.unix_secs) > WAITING_SECS_MAX,
        };
        if is_too_much
            || block.size() > WAITING_BYTES_MAX
            || self.hashes.contains_key(&block.hash())
        {
            return;
        }
        while self.blocks.len() >= WAITING_BLOCKS_MAX
            || self.bytes + block.size() > WAITING_BYTES_MAX
        {
            let Some(oldest) = self.blocks.keys().next().copied() else {
                return;
            };
            self.remove(oldest);
        }
        self.arrivals += 1;
        let number = self.arrivals;
        self.hashes.insert(block.hash(), number);
        self.bytes += block.size();
        match until {
            Until::Parent(parent) => self.by_parent.entry(parent).or_default().push(number),
            Until::Time(time) => {
                self.by_time.insert((time, number));
            }
        }
        let waiting = WaitingBlock {
            block,
            until,
            since_ms: now.monotonic_ms,
        };
        self.blocks.insert(number, waiting);
    }

    /// Takes the blocks whose parent was accepted.
    pub(super) fn take_children(&mut self, parent: &BlockHash) -> Vec<Arc<CheckedBlock>> {
        let numbers = self.by_parent.get(parent).cloned().unwrap_or_default();
        numbers
            .into_iter()
            .filter_map(|number| self.remove(number))
            .collect()
    }

    /// Takes the blocks that the clock has reached, and drops those that have waited too long.
    pub(super) fn take_due(&mut self, now: Now) -> Vec<Arc<CheckedBlock>> {
        #[cfg(feature = "fault-injection")]
        if crate::fault_injection::retries_all_waiting() {
            let all: Vec<u64> = self.blocks.keys().copied().collect();
            return all
                .into_iter()
                .filter_map(|number| self.remove(number))
                .collect();
        }
        let is_over = |waiting: &WaitingBlock| {
            now.monotonic_ms.saturating_sub(waiting.since_ms) > WAITING_SECS_MAX * 1_000
        };
        while let Some((number, oldest)) = self.blocks.first_key_value()
            && is_over(oldest)
        {
            let number = *number;
            self.remove(number);
        }
        let due: Vec<u64> = self
            .by_time
            .range(..=(now.unix_secs, u64::MAX))
            .map(|(_, number)| *number)
            .collect();
        due.into_iter()
            .filter_map(|number| self.remove(number))
            .collect()
    }

    /// The most work that a waiting child of this block claims, if one waits.
    pub(super) fn work_above(&self, parent: &BlockHash) -> Option<Work> {
        let numbers = self.by_parent.get(parent)?.iter();
        let children = numbers.filter_map(|number| self.blocks.get(number));
        children
            .filter_map(|child| child.block.block().header.bits.to_target().ok())
            .map(pithead_consensus::Target::work)
            .max()
    }

    fn count_of(&self, parent: &BlockHash) -> usize {
        self.by_parent.get(parent).map_or(0, Vec::len)
    }

    fn remove(&mut self, number: u64) -> Option<Arc<CheckedBlock>> {
        let waiting = self.blocks.remove(&number)?;
        self.bytes -= waiting.block.size();
        self.hashes.remove(&waiting.block.hash());
        match waiting.until {
            Until::Parent(parent) => {
                if let Some(numbers) = self.by_parent.get_mut(&parent) {
                    numbers.retain(|other| *other != number);
                    if numbers.is_empty() {
                        self.by_parent.remove(&parent);
                    }
                }
            }
            Until::Time(time) => {
                self.by_time.remove(&(time, number));
            }
        }
        Some(waiting.block)
    }
}
