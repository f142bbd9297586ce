//! What fork choice asks about a chain before it looks at work (protocol §8, rules 1 to 3): which
//! final and approved checkpoints the chain contains, and where it leaves the chain of the highest
//! approved checkpoint. Knows neither work nor votes nor whether blocks are valid. Start reading
//! at [`Ancestry::chain_finality`].

use std::collections::{HashMap, VecDeque};

use pithead_consensus::fork_choice::ChainFinality;
use pithead_consensus::{BlockHash, Checkpoint, Height};

use crate::finality::FinalityView;
use crate::store::schema::{self, ChainEntry};
use crate::store::{Snapshot, StoreError};

/// Most blocks for which the answer is remembered: as many as ends of side branches, some 100 kB.
/// The answer for a block that was forgotten is worked out again from the blocks below it.
const REMEMBERED_MAX: usize = 1_024;

/// The answer for the chain that ends with a block, without that chain's height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    final_height: Height,
    approved_height: Height,
    common_height: Option<Height>,
}

/// Everything that the facts depend on besides the block. The hash of a block fixes what is below
/// it, and that of the preferred checkpoint fixes what is below that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Basis {
    last_final: Checkpoint,
    preferred: Checkpoint,
    /// How many certificates there are: each may approve a checkpoint on any chain.
    certificates: u64,
    /// Whether the block of the preferred checkpoint is stored.
    preferred_stored: bool,
}

/// Answers for chains, and remembers the last answers: the next block of a long branch takes them
/// from its parent. They hold until the basis moves, whichever chain is the best.
#[derive(Debug, Default)]
pub(super) struct Ancestry {
    basis: Option<Basis>,
    found: HashMap<BlockHash, Facts>,
    /// The blocks of `found`, oldest first.
    order: VecDeque<BlockHash>,
    preferred_path: Option<PreferredPath>,
}

/// The chain that ends in the preferred checkpoint, as far as it is off the best chain.
#[derive(Debug)]
struct PreferredPath {
    /// Its blocks above `junction`, by height.
    off_best: HashMap<Height, BlockHash>,
    /// Its highest block on the best chain, as of when this was worked out.
    junction: Checkpoint,
}

impl PreferredPath {
    /// Goes down from the preferred checkpoint to the best chain.
    fn find(from: &dyn Snapshot, preferred: &Checkpoint) -> Result<Self, StoreError> {
        let mut off_best = HashMap::new();
        let mut at = *preferred;
        while !schema::is_best(from, &at.hash, at.height)? {
            off_best.insert(at.height, at.hash);
            let entry = schema::expect_entry(from, &at.hash)?;
            at = Checkpoint {
                height: Height(at.height.0.saturating_sub(1)),
                hash: entry.header.prev,
            };
        }
        Ok(Self {
            off_best,
            junction: at,
        })
    }

    /// Whether the best chain still parts from this chain where it did.
    fn still_parts_there(&self, from: &dyn Snapshot) -> Result<bool, StoreError> {
        if !schema::is_best(from, &self.junction.hash, self.junction.height)? {
            return Ok(false);
        }
        let above = self.junction.height.next();
        match self.off_best.get(&above) {
            Some(hash) => Ok(!schema::is_best(from, hash, above)?),
            None => Ok(true),
        }
    }

    /// Whether the chain contains a block that is off the best chain.
    fn contains_off_best(&self, at: &Checkpoint) -> bool {
        self.off_best.get(&at.height) == Some(&at.hash)
    }
}

impl Ancestry {
    /// What rules 1 to 3 depend on, for the chain that ends with a block.
    pub(super) fn chain_finality(
        &mut self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
        finality: &FinalityView,
    ) -> Result<ChainFinality, StoreError> {
        let preferred = finality.status().preferred();
        let basis = Basis {
            last_final: finality.last_final(),
            preferred,
            certificates: finality.certificates(),
            preferred_stored: schema::entry(from, &preferred.hash)?.is_some(),
        };
        if self.basis != Some(basis) {
            *self = Self {
                basis: Some(basis),
                ..Self::default()
            };
        }
        self.renew_preferred_path(from, &basis)?;
        let facts = self.work_out(from, entry, finality)?;
        self.remember(entry.hash(), facts);
        Ok(ChainFinality {
            height: entry.height,
            final_height: facts.final_height,
            approved_height: facts.approved_height,
            common_height: facts.common_height,
        })
    }

    /// Works the path to the preferred checkpoint out again if the best chain has moved across it.
    fn renew_preferred_path(
        &mut self,
        from: &dyn Snapshot,
        basis: &Basis,
    ) -> Result<(), StoreError> {
        let holds = match &self.preferred_path {
            Some(path) => path.still_parts_there(from)?,
            None => !basis.preferred_stored,
        };
        if !holds {
            self.preferred_path = Some(PreferredPath::find(from, &basis.preferred)?);
        }
        Ok(())
    }

    /// Goes down block by block, to one whose facts are at hand, and adds what the blocks on the way
    /// decide by themselves.
    fn work_out(
        &self,
        from: &dyn Snapshot,
        entry: &ChainEntry,
        finality: &FinalityView,
    ) -> Result<Facts, StoreError> {
        let mut at = Checkpoint {
            height: entry.height,
            hash: entry.hash(),
        };
        let mut prev = entry.header.prev;
        let (mut final_height, mut approved_height, mut common_height) = (None, None, None);
        loop {
            final_height = final_height.or_else(|| final_by(finality, &at));
            approved_height =
                approved_height.or_else(|| finality.is_approved(&at).then_some(at.height));
            common_height = common_height.or_else(|| self.common_by(&at));
            if let Some(rest) = self.at_hand(from, &at, finality)? {
                return Ok(Facts {
                    final_height: final_height.unwrap_or(rest.final_height),
                    approved_height: approved_height.unwrap_or(rest.approved_height),
                    common_height: common_height.or(rest.common_height),
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

    /// The last block in common with the preferred checkpoint's chain, if this one is it.
    fn common_by(&self, at: &Checkpoint) -> Option<Height> {
        let path = self.preferred_path.as_ref()?;
        path.contains_off_best(at).then_some(at.height)
    }

    /// The facts of a block that is remembered or on the best chain. The genesis is on every best
    /// chain.
    fn at_hand(
        &self,
        from: &dyn Snapshot,
        at: &Checkpoint,
        finality: &FinalityView,
    ) -> Result<Option<Facts>, StoreError> {
        if let Some(known) = self.found.get(&at.hash) {
            return Ok(Some(*known));
        }
        if !schema::is_best(from, &at.hash, at.height)? {
            return Ok(None);
        }
        let path = self.preferred_path.as_ref();
        Ok(Some(Facts {
            final_height: finality.highest_final_on_best(from, at.height)?.height,
            approved_height: finality.highest_approved_on_best(from, at.height)?.height,
            common_height: path.map(|path| path.junction.height.min(at.height)),
        }))
    }

    fn remember(&mut self, hash: BlockHash, found: Facts) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use pithead_consensus::approval::vote_sources::VoteSources;
    use pithead_consensus::fork_choice::{Candidate, best};
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

    fn forget_best(store: &MemoryStore, chain: &[ChainEntry]) {
        let mut batch = Batch::default();
        for entry in chain {
            batch.delete(Table::BestChain, entry.height.0.to_be_bytes());
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

    /// A view with one more certificate, for a checkpoint that need not be on the path.
    fn with_approved(view: &FinalityView, target: Checkpoint) -> FinalityView {
        let mut view = view.clone();
        let source = view.status().approved;
        view.accept(Link { source, target }).unwrap();
        assert_eq!(view.status().preferred(), target);
        view
    }

    /// Holds the answers for a chain's blocks against all that is below each. `preferred_chain`
    /// contains the highest approved checkpoint.
    fn check(
        ancestry: &mut Ancestry,
        from: &dyn Snapshot,
        chain: &[ChainEntry],
        finality: &FinalityView,
        preferred_chain: &[ChainEntry],
    ) {
        let all = checkpoints(chain);
        let preferred = finality.status().preferred();
        let path: Vec<Checkpoint> = checkpoints(preferred_chain)
            .into_iter()
            .filter(|at| at.height <= preferred.height)
            .collect();
        assert_eq!(path.last(), Some(&preferred));
        // With gaps, then without.
        for step in [3, 1] {
            for (index, entry) in chain.iter().enumerate().step_by(step) {
                let below = &all[..=index];
                let highest = |found: &dyn Fn(&Checkpoint) -> bool| {
                    below.iter().rev().find(|at| found(at)).unwrap().height
                };
                let expected = ChainFinality {
                    height: entry.height,
                    final_height: highest(&|at| finality.final_at(at.height) == *at),
                    approved_height: highest(&|at| finality.is_approved(at)),
                    common_height: Some(highest(&|at| path.contains(at))),
                };
                let found = ancestry.chain_finality(from, entry, finality);
                assert_eq!(found.unwrap(), expected, "{entry:?}, {finality:?}");
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
        let mut kept = Ancestry::default();
        for top in [0, 5, 10, 15, 25, 30, 5] {
            let plain = final_up_to(&path, top);
            let approved = plain.status().approved.height;
            let mut views = vec![(plain.clone(), &right)];
            for chain in chains {
                let choices = checkpoints(chain).into_iter().step_by(10);
                let above = choices.filter(|at| at.height > approved);
                views.extend(above.map(|at| (with_approved(&plain, at), chain)));
            }
            for (finality, preferred_chain) in &views {
                // Both end at one height. Which is the best makes no difference.
                for best in [&main, &right] {
                    make_best(&store, best);
                    let snapshot = store.snapshot().unwrap();
                    let mut fresh = Ancestry::default();
                    for chain in chains {
                        check(
                            &mut kept,
                            snapshot.as_ref(),
                            chain,
                            finality,
                            preferred_chain,
                        );
                        check(
                            &mut fresh,
                            snapshot.as_ref(),
                            chain,
                            finality,
                            preferred_chain,
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_late_certificate_for_a_lower_checkpoint_is_noticed() {
        let main = grow(&[], 41, 0);
        let side = grow(&main[..=10], 20, 1);
        let store = MemoryStore::new();
        put(&store, &main);
        put(&store, &side);
        make_best(&store, &main);
        let snapshot = store.snapshot().unwrap();
        let (main, side_end) = (checkpoints(&main), side.last().unwrap());
        let mut finality = FinalityView::new(Finality::new(5, main[0]));
        let mut ancestry = Ancestry::default();
        let link = |source, target| Link { source, target };
        finality.accept(link(main[0], main[30])).unwrap();
        let found = ancestry.chain_finality(snapshot.as_ref(), side_end, &finality);
        assert_eq!(found.unwrap().approved_height, Height(0));
        // Neither the highest approved nor the last final checkpoint moves.
        finality
            .accept(link(main[0], checkpoints(&side)[20]))
            .unwrap();
        assert_eq!(finality.status().preferred(), main[30]);
        let found = ancestry.chain_finality(snapshot.as_ref(), side_end, &finality);
        assert_eq!(found.unwrap().approved_height, Height(20));
    }

    #[test]
    fn the_preferred_block_counts_from_when_it_is_stored() {
        let main = grow(&[], 21, 0);
        let side = grow(&main[..=10], 20, 1);
        let store = MemoryStore::new();
        put(&store, &main);
        make_best(&store, &main);
        let view = FinalityView::new(Finality::new(5, checkpoints(&main)[0]));
        let view = with_approved(&view, checkpoints(&side)[20]);
        let mut ancestry = Ancestry::default();
        let mut common = || {
            let snapshot = store.snapshot().unwrap();
            let found = ancestry.chain_finality(snapshot.as_ref(), &main[20], &view);
            found.unwrap().common_height
        };
        assert_eq!(common(), None);
        put(&store, &side);
        assert_eq!(common(), Some(Height(10)));
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
        let finality = with_approved(&finality, all[1]);
        let mut ancestry = Ancestry::default();
        for _ in 0..2 {
            for entry in &chain {
                let found = ancestry.chain_finality(snapshot.as_ref(), entry, &finality);
                assert_eq!(found.unwrap().approved_height.0, entry.height.0.min(1));
            }
            assert_eq!(ancestry.found.len(), REMEMBERED_MAX);
            assert_eq!(ancestry.order.len(), REMEMBERED_MAX);
        }
    }

    /// The blocks of a vector's tree, in the order of their numbers.
    fn tree(parents: &[usize], works: &[usize]) -> Vec<ChainEntry> {
        let mut blocks = grow(&[], 1, 0);
        let mut totals = vec![0];
        for (number, (parent, work)) in parents.iter().zip(works).enumerate().skip(1) {
            let below = std::slice::from_ref(&blocks[*parent]);
            let nonce = u32::try_from(number).unwrap();
            let mut block = grow(below, 1, nonce).remove(1);
            totals.push(totals[*parent] + work);
            let mut bytes = [0; 32];
            bytes[24..].copy_from_slice(&(totals[number] as u64).to_be_bytes());
            block.chain_work = Work::from_be_bytes(bytes);
            blocks.push(block);
        }
        blocks
    }

    /// The chain that ends with a block of the tree, tip first.
    fn path_to(blocks: &[ChainEntry], tip: usize) -> Vec<ChainEntry> {
        let mut chain = vec![blocks[tip].clone()];
        let parent_of = |block: &ChainEntry| {
            let prev = block.header.prev;
            blocks.iter().find(|each| each.hash() == prev).cloned()
        };
        while let Some(parent) = parent_of(&chain[chain.len() - 1]) {
            chain.push(parent);
        }
        chain
    }

    fn numbers(value: &serde_json::Value) -> Vec<usize> {
        let words = value.as_str().unwrap().split_whitespace();
        words.map(|word| word.parse().unwrap()).collect()
    }

    fn pairs(value: &serde_json::Value) -> Vec<[usize; 2]> {
        let words = value.as_str().unwrap().split_whitespace();
        let pair = |word: &str| {
            let (left, right) = word.split_once('-').unwrap();
            [left.parse().unwrap(), right.parse().unwrap()]
        };
        words.map(pair).collect()
    }

    #[test]
    fn chains_compare_as_the_reference_says() {
        let vectors = include_str!("../../../../tests/reference/vectors.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        let cases = vectors["fork_choice"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let field = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
            let pairs = |name: &str| pairs(&case[name]).into_iter();
            let blocks = tree(&numbers(&case["parents"]), &numbers(&case["work"]));
            let all = checkpoints(&blocks);
            let interval = u32::try_from(field("interval")).unwrap();
            let mut view = FinalityView::new(Finality::new(interval, all[0]));
            for pair in pairs("certificates") {
                let (source, target) = (all[pair[0]], all[pair[1]]);
                view.accept(Link { source, target }).unwrap();
            }
            let mut sources = VoteSources::new(field("validators"), field("quorum"));
            for vote in pairs("votes").filter(|vote| view.is_approved(&all[vote[1]])) {
                let validator = Address([u8::try_from(vote[0]).unwrap(); 32]);
                sources.note(validator, all[vote[1]].height);
            }
            let view = view.with_sources(Arc::new(sources));
            let store = MemoryStore::new();
            put(&store, &blocks);
            let ends: Vec<usize> = (0..blocks.len())
                .filter(|block| !numbers(&case["parents"])[1..].contains(block))
                .collect();
            let expected = field("best");
            // Whichever chain the node has followed so far, it finds the same one.
            for followed in &ends {
                let chain = path_to(&blocks, *followed);
                make_best(&store, &chain);
                let snapshot = store.snapshot().unwrap();
                let mut ancestry = Ancestry::default();
                let candidates: Vec<Candidate> = ends
                    .iter()
                    .map(|tip| {
                        let entry = &blocks[*tip];
                        let facts = ancestry.chain_finality(snapshot.as_ref(), entry, &view);
                        let facts = facts.unwrap();
                        Candidate {
                            final_height: facts.final_height,
                            votable: view.votable(&facts),
                            ground: view.ground(&facts),
                            chain_work: entry.chain_work,
                            arrival: *tip as u64,
                        }
                    })
                    .collect();
                assert_eq!(ends[best(&candidates).unwrap()], expected, "{case}");
                forget_best(&store, &chain);
            }
        }
    }
}
