//! What the chain below a block contains of the final checkpoints and of the approved
//! one: what fork choice asks before it looks at work (protocol §8). Knows nothing of
//! work, nor whether blocks are valid. Start with [`Ancestry::secured`].

use std::collections::{HashMap, VecDeque};

use pithead_consensus::{BlockHash, Checkpoint, Height};

use super::{FinalPath, contains_best};
use crate::store::schema::{self, ChainEntry};
use crate::store::{Snapshot, StoreError};

/// Most blocks whose answer is remembered, as many as ends of side branches: some 100 kB.
/// One that is forgotten is worked out anew from the blocks below.
const REMEMBERED_MAX: usize = 1_024;

/// What a chain contains of what certificates secure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Secured {
    /// Height of the highest final block in it.
    pub(super) final_height: Height,
    /// Whether the approved checkpoint is in it.
    pub(super) contains_approved: bool,
}

/// All that an answer depends on besides the block: which checkpoints are final below the
/// last one is fixed with that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Basis {
    last_final: Checkpoint,
    approved: Checkpoint,
}

/// Answers, and remembers the last ones, so that the next block of a long branch is
/// answered for from its parent. A block's hash fixes what is below it, whichever chain
/// is the best: an answer holds until its basis moves.
#[derive(Debug, Default)]
pub(super) struct Ancestry {
    basis: Option<Basis>,
    found: HashMap<BlockHash, Secured>,
    /// The blocks of `found`, oldest first.
    order: VecDeque<BlockHash>,
}

impl Ancestry {
    /// What the chain that ends with a block contains.
    pub(super) fn secured(
        &mut self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
        finals: &FinalPath,
        approved: &Checkpoint,
    ) -> Result<Secured, StoreError> {
        let basis = Some(Basis {
            last_final: finals.at(Height(u64::MAX)),
            approved: *approved,
        });
        if self.basis != basis {
            *self = Self {
                basis,
                ..Self::default()
            };
        }
        let found = self.work_out(from, entry, finals, approved)?;
        self.remember(entry.hash(), found);
        Ok(found)
    }

    /// Looks at the blocks one by one, down to one that decides by itself or whose answer
    /// is at hand.
    fn work_out(
        &self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
        finals: &FinalPath,
        approved: &Checkpoint,
    ) -> Result<Secured, StoreError> {
        let mut at = (entry.hash(), entry.height, entry.header.prev);
        let mut final_height = None;
        // Every chain contains the genesis.
        let mut contains_approved = (approved.height == Height::GENESIS).then_some(true);
        loop {
            let (hash, height, prev) = at;
            final_height = final_height.or_else(|| final_by(finals, &hash, height));
            contains_approved = contains_approved.or_else(|| approved_by(approved, &hash, height));
            if let (Some(final_height), Some(contains_approved)) = (final_height, contains_approved)
            {
                return Ok(Secured {
                    final_height,
                    contains_approved,
                });
            }
            if let Some(rest) = self.at_hand(from, &hash, height, finals, approved)? {
                return Ok(Secured {
                    final_height: final_height.unwrap_or(rest.final_height),
                    contains_approved: contains_approved.unwrap_or(rest.contains_approved),
                });
            }
            let parent = schema::expect_entry(from, &prev)?;
            at = (prev, parent.height, parent.header.prev);
        }
    }

    /// The answer for a block that is remembered or on the best chain.
    fn at_hand(
        &self,
        from: &dyn Snapshot,
        hash: &BlockHash,
        height: Height,
        finals: &FinalPath,
        approved: &Checkpoint,
    ) -> Result<Option<Secured>, StoreError> {
        if let Some(known) = self.found.get(hash) {
            return Ok(Some(*known));
        }
        if !schema::is_best(from, hash, height)? {
            return Ok(None);
        }
        Ok(Some(Secured {
            final_height: finals.on_best(from, height)?.height,
            contains_approved: approved.height <= height && contains_best(from, approved)?,
        }))
    }

    fn remember(&mut self, hash: BlockHash, found: Secured) {
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

/// The height of the highest final block in a chain, if the block at its end decides
/// that: it is final itself, or nothing up to its height is but the genesis.
fn final_by(finals: &FinalPath, hash: &BlockHash, height: Height) -> Option<Height> {
    let here = finals.at(height);
    let is_it = here.height == height && here.hash == *hash;
    (is_it || here.height == Height::GENESIS).then_some(here.height)
}

/// Whether a chain contains the approved checkpoint, if the block at its end decides that.
fn approved_by(approved: &Checkpoint, hash: &BlockHash, height: Height) -> Option<bool> {
    (height <= approved.height).then(|| height == approved.height && *hash == approved.hash)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use pithead_consensus::{
        Address, BlockCommitment, BlockHeader, CompactTarget, Encode as _, Hash256, Work,
    };

    use super::*;
    use crate::store::schema::{BlockStatus, Outcome};
    use crate::store::{Batch, MemoryStore, Store as _, Table};

    /// A chain from the genesis with so many blocks more; the nonce tells branches apart.
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
                outcome: Outcome::default(),
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

    /// Holds the answers for a chain's blocks against all that is below each.
    fn check(
        ancestry: &mut Ancestry,
        from: &dyn Snapshot,
        chain: &[ChainEntry],
        finals: &FinalPath,
        approved: &Checkpoint,
    ) {
        let all = checkpoints(chain);
        // With gaps, then without.
        for step in [3, 1] {
            for (index, entry) in chain.iter().enumerate().step_by(step) {
                let below = &all[..=index];
                let is_final = |at: &&Checkpoint| finals.at(at.height) == **at;
                let expected = Secured {
                    final_height: below.iter().rev().find(is_final).unwrap().height,
                    contains_approved: below.contains(approved),
                };
                let found = ancestry.secured(from, entry, finals, approved).unwrap();
                assert_eq!(found, expected, "{entry:?}, {finals:?}, {approved:?}");
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
        let last_final = Arc::new(AtomicU64::new(0));
        let finals = {
            let last_final = Arc::clone(&last_final);
            let path: Vec<Checkpoint> = checkpoints(&right).into_iter().step_by(5).collect();
            FinalPath::new(move |height| {
                let top = height.0.min(last_final.load(Ordering::Relaxed));
                *path.iter().rev().find(|at| at.height.0 <= top).unwrap()
            })
        };
        let approvable: Vec<Checkpoint> = chains
            .iter()
            .flat_map(|chain| checkpoints(chain).into_iter().step_by(10))
            .collect();
        let mut kept = Ancestry::default();
        for top in [0, 5, 10, 15, 25, 30, 5] {
            last_final.store(top, Ordering::Relaxed);
            for approved in &approvable {
                // Both end at one height. Which is the best makes no difference.
                for best in [&main, &right] {
                    make_best(&store, best);
                    let snapshot = store.snapshot().unwrap();
                    let mut fresh = Ancestry::default();
                    for chain in chains {
                        check(&mut kept, snapshot.as_ref(), chain, &finals, approved);
                        check(&mut fresh, snapshot.as_ref(), chain, &finals, approved);
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
        let genesis = all[0];
        let finals = FinalPath::new(move |_| genesis);
        let mut ancestry = Ancestry::default();
        for _ in 0..2 {
            for entry in &chain {
                let found = ancestry.secured(snapshot.as_ref(), entry, &finals, &all[1]);
                assert_eq!(found.unwrap().contains_approved, entry.height.0 >= 1);
            }
            assert_eq!(ancestry.found.len(), REMEMBERED_MAX);
            assert_eq!(ancestry.order.len(), REMEMBERED_MAX);
        }
    }
}
