//! How many blocks of each worker went to the core for each parent. At an easy target a worker
//! finds many blocks with one parent, of which one at most becomes the tip.

use std::collections::{HashMap, VecDeque};

use pithead_consensus::BlockHash;

use super::work::BlockFinder;
use super::worker::WorkerId;

/// Most blocks of one worker with one parent that go to the core. More than one, because the
/// worker may hand in several before it has the answer to the first, and any of them may still
/// win against another worker's block.
const BLOCKS_PER_PARENT_MAX: usize = 4;
/// Parents remembered. Solutions come for the work on a few of the last tips only.
const PARENTS_MAX: usize = 16;

/// The blocks that went to the core, for the last parents.
#[derive(Debug, Default)]
pub(super) struct FoundBlocks {
    by_parent: HashMap<BlockHash, HashMap<WorkerId, usize>>,
    /// The parents, oldest first.
    order: VecDeque<BlockHash>,
}

impl FoundBlocks {
    /// Counts a block. Returns `false` if the core has had enough of them.
    pub(super) fn count(&mut self, finder: &BlockFinder) -> bool {
        if !self.by_parent.contains_key(&finder.parent) {
            self.order.push_back(finder.parent);
        }
        let of_parent = self.by_parent.entry(finder.parent).or_default();
        let found = of_parent.entry(finder.worker.clone()).or_default();
        if *found >= BLOCKS_PER_PARENT_MAX {
            return false;
        }
        *found += 1;
        while self.order.len() > PARENTS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.by_parent.remove(&oldest);
            }
        }
        true
    }

    /// The core did not accept this block: it does not count.
    pub(super) fn uncount(&mut self, finder: &BlockFinder) {
        let of_parent = self.by_parent.get_mut(&finder.parent);
        if let Some(found) = of_parent.and_then(|workers| workers.get_mut(&finder.worker)) {
            *found = found.saturating_sub(1);
        }
    }
}
