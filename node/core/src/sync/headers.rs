//! The headers ahead of the stored chain: a bounded tree in memory whose every
//! branch hangs on a stored block. A header gets in only with the work that it
//! claims, the target that the rules expect, and a time that the clock allows.

use std::collections::{HashMap, HashSet};

use pithead_consensus::check::{check_header_in_context, check_proof_of_work, check_time_at};
use pithead_consensus::difficulty::Ancestors;
use pithead_consensus::{BlockHash, BlockHeader, Checkpoint, CompactTarget, Height, Work};

use super::View;
use super::bounded_set::BoundedSet;
use super::message::LOCATOR_MAX;
use crate::store::StoreError;
use crate::store::schema::{self, BlockStatus};

/// Most headers kept, about 200 bytes each.
pub const HEADERS_KEPT_MAX: usize = 200_000;
/// Most hashes of headers whose block broke a rule that are remembered.
const CONDEMNED_MAX: usize = 10_000;
/// The tree is not searched for dead branches while it is smaller than this.
const COLLECT_MIN: usize = 2_000;
/// Hashes at the head of a locator that follow one another without a gap.
const LOCATOR_DENSE: usize = 10;

/// A header in the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderNode {
    pub(super) header: BlockHeader,
    pub(super) height: Height,
    pub(super) chain_work: Work,
}

/// What is known of a block, in the tree or in the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) height: Height,
    pub(super) chain_work: Work,
    pub(super) stored: bool,
    invalid: bool,
    prev: BlockHash,
    time: u32,
    bits: CompactTarget,
}

/// Why a header is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It breaks a rule for ever.
    Invalid,
    /// It is, or descends from, a block that broke a rule.
    Condemned,
    /// Its parent is not known.
    Unconnected,
    /// It is on a branch that is known not to become final.
    NotFinal,
    /// The clock must reach this first, Unix seconds.
    Early(u64),
    /// There is no room.
    Full,
}

/// A header that is kept now, or was known before.
pub(super) struct Kept {
    pub(super) hash: BlockHash,
    pub(super) known: Known,
    pub(super) new: bool,
}

/// The headers ahead of the stored chain.
#[derive(Debug)]
pub(super) struct HeaderTree {
    headers: HashMap<BlockHash, HeaderNode>,
    condemned: BoundedSet<BlockHash>,
    collect_at: usize,
}

impl HeaderTree {
    pub(super) fn new() -> Self {
        Self {
            headers: HashMap::new(),
            condemned: BoundedSet::new(CONDEMNED_MAX),
            collect_at: COLLECT_MIN,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.headers.len()
    }

    pub(super) fn get(&self, hash: &BlockHash) -> Option<&HeaderNode> {
        self.headers.get(hash)
    }

    pub(super) fn is_condemned(&self, hash: &BlockHash) -> bool {
        self.condemned.contains(hash)
    }

    /// What is known of a block.
    pub(super) fn locate(
        &self,
        view: &View<'_>,
        hash: &BlockHash,
    ) -> Result<Option<Known>, StoreError> {
        if let Some(node) = self.headers.get(hash) {
            return Ok(Some(Known {
                height: node.height,
                chain_work: node.chain_work,
                stored: false,
                invalid: false,
                prev: node.header.prev,
                time: node.header.time,
                bits: node.header.bits,
            }));
        }
        Ok(schema::entry(view.store, hash)?.map(|entry| Known {
            height: entry.height,
            chain_work: entry.chain_work,
            stored: true,
            invalid: entry.status == BlockStatus::Invalid,
            prev: entry.header.prev,
            time: entry.header.time,
            bits: entry.header.bits,
        }))
    }

    /// Whether the chain up to `hash` contains a checkpoint.
    pub(super) fn contains(
        &self,
        view: &View<'_>,
        hash: &BlockHash,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let mut cursor = *hash;
        loop {
            let Some(known) = self.locate(view, &cursor)? else {
                return Ok(false);
            };
            if known.height <= checkpoint.height {
                return Ok(known.height == checkpoint.height && cursor == checkpoint.hash);
            }
            if known.stored && schema::is_best(view.store, &cursor, known.height)? {
                return schema::is_best(view.store, &checkpoint.hash, checkpoint.height);
            }
            cursor = known.prev;
        }
    }

    /// The highest final checkpoint in the chain up to `hash`.
    pub(super) fn highest_final(
        &self,
        view: &View<'_>,
        hash: &BlockHash,
    ) -> Result<Checkpoint, StoreError> {
        let mut cursor = *hash;
        loop {
            let Some(known) = self.locate(view, &cursor)? else {
                return Ok(view.finality.final_at(Height::GENESIS));
            };
            let here = view.finality.final_at(known.height);
            let is_it = here.height == known.height && here.hash == cursor;
            if is_it || here.height == Height::GENESIS {
                return Ok(here);
            }
            if known.stored && schema::is_best(view.store, &cursor, known.height)? {
                return view
                    .finality
                    .highest_final_on_best(view.store, known.height);
            }
            cursor = known.prev;
        }
    }

    /// Whether a block that is not known yet parts from what is final: at a final
    /// height it is another one, or it leaves the best chain, or a stored branch, below
    /// a final block that is there.
    fn contradicts_final(
        &self,
        view: &View<'_>,
        hash: &BlockHash,
        header: &BlockHeader,
        parent: &Known,
    ) -> Result<bool, StoreError> {
        let height = parent.height.next();
        let last = view.finality.last_final().height;
        if view.checkpoint.is_none() || last == Height::GENESIS {
            return Ok(false);
        }
        let here = view.finality.final_at(height);
        if here.height == height && here.hash != *hash {
            return Ok(true);
        }
        if !parent.stored && height > last {
            // Its parent was looked at when it came.
            return Ok(false);
        }
        let on_best = view
            .finality
            .highest_final_on_best(view.store, view.tip.height)?;
        if height <= on_best.height {
            return Ok(true);
        }
        Ok(parent.stored && self.highest_final(view, &header.prev)?.height < on_best.height)
    }

    /// Checks a header and keeps it, unless it is known already.
    pub(super) fn keep(
        &mut self,
        view: &View<'_>,
        header: &BlockHeader,
    ) -> Result<Result<Kept, Refusal>, StoreError> {
        // The proof of work comes first: whoever makes us look anything up has
        // worked for it.
        let Ok((hash, work)) = check_proof_of_work(view.params, header) else {
            return self.unless_genesis(view, header);
        };
        if self.condemned.contains(&hash) {
            return Ok(Err(Refusal::Condemned));
        }
        if let Some(known) = self.locate(view, &hash)? {
            return Ok(if known.invalid {
                Err(Refusal::Condemned)
            } else {
                let new = false;
                Ok(Kept { hash, known, new })
            });
        }
        if self.condemned.contains(&header.prev) {
            self.condemned.insert(hash);
            return Ok(Err(Refusal::Condemned));
        }
        let Some(parent) = self.locate(view, &header.prev)? else {
            return Ok(Err(Refusal::Unconnected));
        };
        if parent.invalid {
            return Ok(Err(Refusal::Condemned));
        }
        let ancestors = self.ancestors(view, &parent)?;
        if check_header_in_context(view.params, header, &ancestors).is_err() {
            return Ok(Err(Refusal::Invalid));
        }
        if self.contradicts_final(view, &hash, header, &parent)? {
            return Ok(Err(Refusal::NotFinal));
        }
        if check_time_at(view.params, header, view.unix_secs).is_err() {
            let ahead = u64::from(view.params.max_future_secs);
            let until = u64::from(header.time).saturating_sub(ahead);
            return Ok(Err(Refusal::Early(until)));
        }
        if self.headers.len() >= HEADERS_KEPT_MAX {
            return Ok(Err(Refusal::Full));
        }
        let node = HeaderNode {
            header: *header,
            height: parent.height.next(),
            chain_work: parent.chain_work.saturating_add(work),
        };
        self.headers.insert(hash, node);
        let known = Known {
            height: node.height,
            chain_work: node.chain_work,
            stored: false,
            invalid: false,
            prev: header.prev,
            time: header.time,
            bits: header.bits,
        };
        let new = true;
        Ok(Ok(Kept { hash, known, new }))
    }

    /// The genesis has no work, and is known all the same.
    fn unless_genesis(
        &self,
        view: &View<'_>,
        header: &BlockHeader,
    ) -> Result<Result<Kept, Refusal>, StoreError> {
        let hash = header.hash();
        if hash != view.params.genesis_hash {
            return Ok(Err(Refusal::Invalid));
        }
        let new = false;
        Ok(match self.locate(view, &hash)? {
            Some(known) => Ok(Kept { hash, known, new }),
            None => Err(Refusal::Unconnected),
        })
    }

    fn ancestors(&self, view: &View<'_>, parent: &Known) -> Result<Ancestors, StoreError> {
        let grandparent_time = if parent.height == Height::GENESIS {
            None
        } else {
            let grandparent = self.locate(view, &parent.prev)?.ok_or_else(|| {
                StoreError::Damaged(format!("entry of block {}: missing", parent.prev))
            })?;
            Some(grandparent.time)
        };
        Ok(Ancestors {
            parent_time: parent.time,
            parent_bits: parent.bits,
            grandparent_time,
        })
    }

    /// Forgets a header whose block is in the store now.
    pub(super) fn stored(&mut self, hash: &BlockHash) {
        self.headers.remove(hash);
    }

    /// Remembers that a block broke a rule; drops it and all that descends
    /// from it.
    pub(super) fn condemn(&mut self, bad: &BlockHash) {
        self.condemned.insert(*bad);
        let mut by_height: Vec<(Height, BlockHash, BlockHash)> = self
            .headers
            .iter()
            .map(|(hash, node)| (node.height, *hash, node.header.prev))
            .collect();
        by_height.sort_unstable();
        let mut doomed = HashSet::from([*bad]);
        for (_, hash, prev) in by_height {
            if doomed.contains(&prev) {
                doomed.insert(hash);
                self.condemned.insert(hash);
            }
        }
        self.headers.retain(|hash, _| !doomed.contains(hash));
    }

    /// Whether it has grown enough since the last time to look for dead
    /// branches.
    pub(super) fn is_due_for_collection(&self) -> bool {
        self.headers.len() >= self.collect_at
    }

    /// Drops every branch that leads to none of these.
    pub(super) fn collect(&mut self, claimed: impl Iterator<Item = BlockHash>) {
        let mut live = HashSet::new();
        for mut hash in claimed {
            while let Some(node) = self.headers.get(&hash) {
                if !live.insert(hash) {
                    break;
                }
                hash = node.header.prev;
            }
        }
        self.headers.retain(|hash, _| live.contains(hash));
        self.collect_at = COLLECT_MIN.max(live.len().saturating_mul(2));
    }

    /// Hashes from `start` down to the genesis, ever farther apart: what to ask
    /// a peer for headers with.
    pub(super) fn locator(
        &self,
        view: &View<'_>,
        start: BlockHash,
    ) -> Result<Vec<BlockHash>, StoreError> {
        let mut locator = Vec::new();
        let mut cursor = start;
        let (mut step, mut left) = (1_u64, 0_u64);
        // Through the tree and along a side branch parent by parent, then in
        // jumps along the best chain.
        let mut height = loop {
            let (height, prev, best) = match self.headers.get(&cursor) {
                Some(node) => (node.height, node.header.prev, false),
                None => {
                    let entry = schema::expect_entry(view.store, &cursor)?;
                    let best = schema::is_best(view.store, &cursor, entry.height)?;
                    (entry.height, entry.header.prev, best)
                }
            };
            if best {
                break height.0.saturating_sub(left);
            }
            if left == 0 {
                locator.push(cursor);
                step = next_step(step, locator.len());
                left = step;
            }
            left -= 1;
            cursor = prev;
        };
        while height > 0 && locator.len() < LOCATOR_MAX - 1 {
            let hash = schema::best_hash(view.store, Height(height))?;
            locator.extend(hash);
            step = next_step(step, locator.len());
            height = height.saturating_sub(step);
        }
        locator.truncate(LOCATOR_MAX - 1);
        locator.push(view.params.genesis_hash);
        Ok(locator)
    }
}

fn next_step(step: u64, taken: usize) -> u64 {
    if taken < LOCATOR_DENSE {
        1
    } else {
        step.saturating_mul(2)
    }
}
