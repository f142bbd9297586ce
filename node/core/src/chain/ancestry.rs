//! Which final checkpoints the chain below a block contains, and whether it contains the preferred
//! one: fork choice asks this before it looks at work (protocol §8). Knows neither work nor whether
//! blocks are valid. Start reading at [`Ancestry::finality_rank`].

use std::collections::{HashMap, VecDeque};

use pithead_consensus::{BlockHash, Checkpoint, Height};

use crate::finality::FinalityView;
use crate::store::schema::{self, ChainEntry};
use crate::store::{Snapshot, StoreError};

/// Most blocks whose rank is remembered: as many as ends of side branches, some 100 kB. The rank
/// of a block that was forgotten is worked out again from the blocks below it.
const REMEMBERED_MAX: usize = 1_024;

/// How a chain compares with others before work counts: by the final and approved checkpoints that
/// it contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FinalityRank {
    /// Height of the highest final block in the chain.
    pub(super) final_height: Height,
    /// Whether the chain contains the preferred checkpoint.
    pub(super) contains_preferred: bool,
}

/// Everything that a rank depends on besides the block. Which checkpoints below the last final
/// one are final is fixed with the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Basis {
    last_final: Checkpoint,
    preferred: Checkpoint,
}

/// Ranks blocks, and remembers the last ranks, so that the next block of a long branch takes
/// its rank from its parent. The hash of a block fixes what is below it, whichever chain is the
/// best: a rank holds until its basis moves.
#[derive(Debug, Default)]
pub(super) struct Ancestry {
    basis: Option<Basis>,
    found: HashMap<BlockHash, FinalityRank>,
    /// The blocks of `found`, oldest first.
    order: VecDeque<BlockHash>,
}

impl Ancestry {
    /// The rank of the chain that ends with a block.
    pub(super) fn finality_rank(
        &mut self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
        finality: &FinalityView,
        preferred: &Checkpoint,
    ) -> Result<FinalityRank, StoreError> {
        let basis = Some(Basis {
            last_final: finality.last_final(),
            preferred: *preferred,
        });
        if self.basis != basis {
            *self = Self {
                basis,
                ..Self::default()
            };
        }
        let found = self.work_out(from, entry, finality, preferred)?;
        self.remember(entry.hash(), found);
        Ok(found)
    }

    /// Goes down block by block, to one that decides by itself or whose rank is at hand.
    fn work_out(
        &self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
        finality: &FinalityView,
        preferred: &Checkpoint,
    ) -> Result<FinalityRank, StoreError> {
        let mut at = Checkpoint {
            height: entry.height,
            hash: entry.hash(),
        };
        let mut prev = entry.header.prev;
        let mut final_height = None;
        // Every chain contains the genesis.
        let mut contains_preferred = (preferred.height == Height::GENESIS).then_some(true);
        loop {
            final_height = final_height.or_else(|| final_by(finality, &at));
            contains_preferred = contains_preferred.or_else(|| preferred_by(preferred, &at));
            if let (Some(final_height), Some(contains_preferred)) =
                (final_height, contains_preferred)
            {
                return Ok(FinalityRank {
                    final_height,
                    contains_preferred,
                });
            }
            if let Some(rest) = self.at_hand(from, &at, finality, preferred)? {
                return Ok(FinalityRank {
                    final_height: final_height.unwrap_or(rest.final_height),
                    contains_preferred: contains_preferred.unwrap_or(rest.contains_preferred),
                });
            }
            let parent = schema::expect_entry(from, &prev)?;
            at = Checkpoint {
                height: parent.height,
                hash: prev,
            };
            prev = parent.header.prev;
        }
    }

    /// The rank of a block that is remembered or on the best chain.
    fn at_hand(
        &self,
        from: &dyn Snapshot,
        at: &Checkpoint,
        finality: &FinalityView,
        preferred: &Checkpoint,
    ) -> Result<Option<FinalityRank>, StoreError> {
        if let Some(known) = self.found.get(&at.hash) {
            return Ok(Some(*known));
        }
        if !schema::is_best(from, &at.hash, at.height)? {
            return Ok(None);
        }
        Ok(Some(FinalityRank {
            final_height: finality.highest_final_on_best(from, at.height)?.height,
            contains_preferred: preferred.height <= at.height
                && schema::is_best(from, &preferred.hash, preferred.height)?,
        }))
    }

    fn remember(&mut self, hash: BlockHash, found: FinalityRank) {
        if self.found.insert(hash, found).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.found.remove(&oldest);
        }
    }
}

/// The height of the highest final block in a chain, if the block at its end decides it: either
/// that block is final, or nothing up to its height is final but the genesis.
fn final_by(finality: &FinalityView, end: &Checkpoint) -> Option<Height> {
    let here = finality.final_at(end.height);
    (here == *end || here.height == Height::GENESIS).then_some(here.height)
}

/// Whether a chain contains the preferred checkpoint, if the block at its end decides it: the
/// checkpoint is that block, or is not below it.
fn preferred_by(preferred: &Checkpoint, end: &Checkpoint) -> Option<bool> {
    (end.height <= preferred.height).then(|| end == preferred)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use pithead_consensus::{
        Address, BlockCommitment, BlockHeader, CompactTarget, Encode as _, Finality, Hash256, Link,
        Work,
    };

    use super::*;
    use crate::store::schema::{BlockOutcome, BlockStatus};
    use crate::store::{Batch, MemoryStore, Store as _, Table};

    /// The chain `below` with `count` more blocks on top, or a new chain if `below` is empty. The
    /// nonce tells branches apart.
    fn grow(below: &[ChainEntry], count: usize, nonce: u32) -> Vec<ChainEntry> {
        let zero = Hash256([0; 32]);
        let mut chain = below.to_vec();
        for _ in 0..count {
            let parent = chain.last();
            let entry = ChainEntry {
                header: BlockHeader {
                    version: 0,
                    prev: parent.map_or(BlockHash([0; 32]), ChainEntry::hash),
                    merkle_root: zero,
                    time: 0,
                    bits: CompactTarget(0),
                    nonce,
                },
                commitment: BlockCommitment {
                    transactions_root: zero,
                    state_root: zero,
                    reward_address: Address([0; 32]),
                    extra_nonce: [0; 8],
                },
                height: parent.map_or(Height::GENESIS, |parent| parent.height.next()),
                chain_work: Work::ZERO,
                arrival: 0,
                status: BlockStatus::Stored,
                transaction_count: 0,
                size: 0,
                outcome: BlockOutcome::default(),
            };
            chain.push(entry);
        }
        chain
    }

    fn put(store: &MemoryStore, chain: &[ChainEntry]) {
        let mut batch = Batch::default();
        for entry in chain {
            batch.put(Table::Entries, entry.hash().0, entry.encode());
        }
        store.commit(&batch).unwrap();
    }

    fn make_best(store: &MemoryStore, chain: &[ChainEntry]) {
        let mut batch = Batch::default();
        for entry in chain {
            let key = entry.height.0.to_be_bytes();
            batch.put(Table::BestChain, key, entry.hash().0);
        }
        store.commit(&batch).unwrap();
    }

    fn checkpoints(chain: &[ChainEntry]) -> Vec<Checkpoint> {
        let of = |entry: &ChainEntry| Checkpoint {
            height: entry.height,
            hash: entry.hash(),
        };
        chain.iter().map(of).collect()
    }

    /// The view in which the checkpoints of a path are final, from the genesis up to height `top`.
    fn final_up_to(path: &[Checkpoint], top: u64) -> FinalityView {
        let mut finality = Finality::new(5, path[0]);
        for pair in path
            .windows(2)
            .filter(|pair| top > 0 && pair[0].height.0 <= top)
        {
            let link = Link {
                source: pair[0],
                target: pair[1],
            };
            finality.accept(link).unwrap();
        }
        assert_eq!(finality.last_final().height.0, top);
        FinalityView::new(finality)
    }

    /// Holds the answers for a chain's blocks against all that is below each.
    fn check(
        ancestry: &mut Ancestry,
        from: &dyn Snapshot,
        chain: &[ChainEntry],
        finality: &FinalityView,
        preferred: &Checkpoint,
    ) {
        let all = checkpoints(chain);
        // With gaps, then without.
        for step in [3, 1] {
            for (index, entry) in chain.iter().enumerate().step_by(step) {
                let below = &all[..=index];
                let is_final = |at: &&Checkpoint| finality.final_at(at.height) == **at;
                let expected = FinalityRank {
                    final_height: below.iter().rev().find(is_final).unwrap().height,
                    contains_preferred: below.contains(preferred),
                };
                let found = ancestry.finality_rank(from, entry, finality, preferred);
                assert_eq!(
                    found.unwrap(),
                    expected,
                    "{entry:?}, {finality:?}, {preferred:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_remembered_holds_until_finality_moves() {
        let main = grow(&[], 41, 0);
        let right = grow(&main[..=10], 30, 1);
        let early = grow(&right[..=25], 20, 2);
        let late = grow(&main[..=33], 10, 3);
        let chains = [&main, &right, &early, &late];
        let store = MemoryStore::new();
        for chain in chains {
            put(&store, chain);
        }
        let path: Vec<Checkpoint> = checkpoints(&right).into_iter().step_by(5).collect();
        let choices: Vec<Checkpoint> = chains
            .iter()
            .flat_map(|chain| checkpoints(chain).into_iter().step_by(10))
            .collect();
        let mut kept = Ancestry::default();
        for top in [0, 5, 10, 15, 25, 30, 5] {
            let finality = final_up_to(&path, top);
            for preferred in &choices {
                // Both end at one height. Which is the best makes no difference.
                for best in [&main, &right] {
                    make_best(&store, best);
                    let snapshot = store.snapshot().unwrap();
                    let mut fresh = Ancestry::default();
                    for chain in chains {
                        check(&mut kept, snapshot.as_ref(), chain, &finality, preferred);
                        check(&mut fresh, snapshot.as_ref(), chain, &finality, preferred);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let chain = grow(&[], REMEMBERED_MAX + 10, 0);
        let store = MemoryStore::new();
        put(&store, &chain);
        make_best(&store, &chain[..1]);
        let snapshot = store.snapshot().unwrap();
        let all = checkpoints(&chain);
        let finality = FinalityView::new(Finality::new(1, all[0]));
        let mut ancestry = Ancestry::default();
        for _ in 0..2 {
            for entry in &chain {
                let found = ancestry.finality_rank(snapshot.as_ref(), entry, &finality, &all[1]);
                assert_eq!(found.unwrap().contains_preferred, entry.height.0 >= 1);
            }
            assert_eq!(ancestry.found.len(), REMEMBERED_MAX);
            assert_eq!(ancestry.order.len(), REMEMBERED_MAX);
        }
    }
}
