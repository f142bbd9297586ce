//! How many blocks beside the best chain the API may have this node store. At an easy target
//! such blocks cost next to nothing, and nothing that is worth less than the tip has to be kept:
//! a branch that becomes better is fetched from peers by its headers. Knows no blocks, only their
//! parents.

use std::collections::{HashMap, VecDeque};

use pithead_consensus::BlockHash;

/// Most side blocks with one parent that are stored for the API.
const SIBLINGS_MAX: usize = 8;
/// Most side blocks that are stored for the API, in all, beside those that new tips have
/// forgiven. It is more than a reorganisation can undo without finality.
const SIDE_BLOCKS_MAX: usize = 16_384;
/// So many of the last side blocks are remembered in any case.
const REMEMBERED_MIN: usize = 1_024;
/// So many older side blocks are forgotten with each new tip.
const FORGIVEN_PER_TIP: usize = 8;

/// The parents of the side blocks that were stored for the API since the node started.
#[derive(Debug, Default)]
pub(super) struct SideBlocks {
    by_parent: HashMap<BlockHash, usize>,
    /// The parent of each, oldest first.
    order: VecDeque<BlockHash>,
}

impl SideBlocks {
    /// Whether another side block with this parent is too many.
    pub(super) fn is_full(&self, parent: &BlockHash) -> bool {
        let siblings = self.by_parent.get(parent).copied().unwrap_or(0);
        siblings >= SIBLINGS_MAX || self.order.len() >= SIDE_BLOCKS_MAX
    }

    /// A side block with this parent was stored.
    pub(super) fn stored(&mut self, parent: BlockHash) {
        *self.by_parent.entry(parent).or_default() += 1;
        self.order.push_back(parent);
    }

    /// The best chain has a new tip: its work makes up for some of the older side blocks.
    pub(super) fn tip_changed(&mut self) {
        for _ in 0..FORGIVEN_PER_TIP {
            if self.order.len() <= REMEMBERED_MIN {
                return;
            }
            let Some(parent) = self.order.pop_front() else {
                return;
            };
            if let Some(count) = self.by_parent.get_mut(&parent) {
                *count -= 1;
                if *count == 0 {
                    self.by_parent.remove(&parent);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pithead_consensus::Hash256;

    fn parent(number: usize) -> BlockHash {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        BlockHash(Hash256(bytes).0)
    }

    #[test]
    fn each_parent_and_all_together_have_their_limit() {
        let mut sides = SideBlocks::default();
        for _ in 0..SIBLINGS_MAX {
            assert!(!sides.is_full(&parent(0)));
            sides.stored(parent(0));
        }
        assert!(sides.is_full(&parent(0)));
        for number in 1..=SIDE_BLOCKS_MAX - SIBLINGS_MAX {
            assert!(!sides.is_full(&parent(number)));
            sides.stored(parent(number));
        }
        assert!(sides.is_full(&parent(SIDE_BLOCKS_MAX)));
        // A new tip forgives the eight oldest: those of the first parent.
        sides.tip_changed();
        assert!(!sides.is_full(&parent(SIDE_BLOCKS_MAX)));
        assert!(!sides.is_full(&parent(0)));
        assert_eq!(sides.by_parent.len(), SIDE_BLOCKS_MAX - SIBLINGS_MAX);
    }

    #[test]
    fn the_last_ones_are_remembered_whatever_the_number_of_tips() {
        let mut sides = SideBlocks::default();
        for _ in 0..SIBLINGS_MAX {
            sides.stored(parent(0));
        }
        for _ in 0..10_000 {
            sides.tip_changed();
        }
        assert!(sides.is_full(&parent(0)));
    }
}
