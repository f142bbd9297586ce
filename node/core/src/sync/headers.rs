//! The headers ahead of the stored chain: a bounded tree in memory whose every branch starts
//! from a stored block. It knows nothing of peers.
//!
//! A header is kept only if it has the work that it claims, the target that the rules expect
//! and a time that the clock allows. Start reading at [`HeaderTree::keep`].

use std::collections::{HashMap, HashSet};

use pithead_consensus::check::{check_header_in_context, check_proof_of_work, check_time_at};
use pithead_consensus::difficulty::Ancestors;
use pithead_consensus::{BlockHash, BlockHeader, CompactTarget, Height, Work};

use super::bounded_set::BoundedSet;
use super::message::LOCATOR_MAX;
use super::node_view::NodeView;
use crate::store::StoreError;
use crate::store::schema::{self, BlockStatus};

/// Most headers that are kept. Each takes about 200 bytes.
pub const HEADERS_KEPT_MAX: usize = 200_000;
/// Most hashes of invalid blocks that are remembered.
const INVALID_MAX: usize = 10_000;
/// The tree is not searched for unclaimed branches while it is smaller than this.
const COLLECT_MIN: usize = 2_000;
/// So many hashes at the start of a locator follow one another without a gap.
const LOCATOR_DENSE: usize = 10;

/// A header in the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderNode {
    pub(super) header: BlockHeader,
    pub(super) height: Height,
    pub(super) chain_work: Work,
}

/// A block whose header is in the tree or in the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownBlock {
    pub(super) height: Height,
    pub(super) chain_work: Work,
    /// Whether it is in the store, with its body.
    pub(super) stored: bool,
    /// Whether it is in the store as a block that broke a rule.
    invalid: bool,
    pub(super) prev: BlockHash,
    time: u32,
    bits: CompactTarget,
}

/// Why a header is not kept. Protocol §11 tells apart what is invalid and what is not yet
/// known to be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderRefusal {
    /// It breaks a rule that no later block or time can change.
    Invalid,
    /// It is a block that broke a rule, or descends from one.
    KnownInvalid,
    /// Its parent is not known.
    UnknownParent,
    /// It is on a branch that lacks a final block.
    ContradictsFinal,
    /// Its time is too far ahead.
    FromFuture(FutureHeader),
    /// The tree is full.
    Full,
}

/// A header that keeps every rule, but whose time is too far ahead of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FutureHeader {
    /// Its time, Unix seconds.
    pub(super) time: u32,
    /// It may be asked for again at this time, Unix seconds.
    pub(super) from_secs: u64,
    /// Work of the chain up to it.
    pub(super) chain_work: Work,
}

/// A header that is kept now or was known before.
pub(super) struct KeptHeader {
    pub(super) hash: BlockHash,
    pub(super) known: KnownBlock,
    pub(super) new: bool,
}

/// The headers ahead of the stored chain.
#[derive(Debug)]
pub(super) struct HeaderTree {
    headers: HashMap<BlockHash, HeaderNode>,
    /// Blocks that broke a rule, and headers that descend from them.
    invalid: BoundedSet<BlockHash>,
    /// Unclaimed branches are collected at this size.
    collect_at: usize,
    /// Unclaimed branches are collected at the next occasion, whatever the size.
    collect: bool,
}

impl HeaderTree {
    pub(super) fn new() -> Self {
        Self {
            headers: HashMap::new(),
            invalid: BoundedSet::new(INVALID_MAX),
            collect_at: COLLECT_MIN,
            collect: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.headers.len()
    }

    pub(super) fn get(&self, hash: &BlockHash) -> Option<&HeaderNode> {
        self.headers.get(hash)
    }

    pub(super) fn is_invalid(&self, hash: &BlockHash) -> bool {
        self.invalid.contains(hash)
    }

    /// Looks a block up in the tree, then in the store.
    pub(super) fn locate(
        &self,
        view: &NodeView<'_>,
        hash: &BlockHash,
    ) -> Result<Option<KnownBlock>, StoreError> {
        if let Some(node) = self.headers.get(hash) {
            return Ok(Some(KnownBlock {
                height: node.height,
                chain_work: node.chain_work,
                stored: false,
                invalid: false,
                prev: node.header.prev,
                time: node.header.time,
                bits: node.header.bits,
            }));
        }
        Ok(schema::entry(view.store, hash)?.map(|entry| KnownBlock {
            height: entry.height,
            chain_work: entry.chain_work,
            stored: true,
            invalid: entry.status == BlockStatus::Invalid,
            prev: entry.header.prev,
            time: entry.header.time,
            bits: entry.header.bits,
        }))
    }

    /// Checks a header and keeps it, unless it is known already. The inner error says why it is
    /// not kept.
    pub(super) fn keep(
        &mut self,
        view: &NodeView<'_>,
        header: &BlockHeader,
    ) -> Result<Result<KeptHeader, HeaderRefusal>, StoreError> {
        // The proof of work is checked first: a sender has to work for every lookup that it
        // causes.
        let Ok((hash, work)) = check_proof_of_work(view.params, header) else {
            return self.without_work(view, header);
        };
        if self.invalid.contains(&hash) {
            return Ok(Err(HeaderRefusal::KnownInvalid));
        }
        if let Some(known) = self.locate(view, &hash)? {
            return Ok(if known.invalid {
                Err(HeaderRefusal::KnownInvalid)
            } else {
                let new = false;
                Ok(KeptHeader { hash, known, new })
            });
        }
        if self.invalid.contains(&header.prev) {
            self.invalid.insert(hash);
            return Ok(Err(HeaderRefusal::KnownInvalid));
        }
        let Some(parent) = self.locate(view, &header.prev)? else {
            return Ok(Err(HeaderRefusal::UnknownParent));
        };
        if parent.invalid {
            return Ok(Err(HeaderRefusal::KnownInvalid));
        }
        let ancestors = self.ancestors(view, &parent)?;
        if check_header_in_context(view.params, header, &ancestors).is_err() {
            return Ok(Err(HeaderRefusal::Invalid));
        }
        if self.contradicts_final(view, &hash, header, &parent)? {
            return Ok(Err(HeaderRefusal::ContradictsFinal));
        }
        if check_time_at(view.params, header, view.unix_secs).is_err() {
            let ahead = u64::from(view.params.max_future_secs);
            let until = u64::from(header.time).saturating_sub(ahead);
            return Ok(Err(HeaderRefusal::FromFuture(FutureHeader {
                time: header.time,
                from_secs: until,
                chain_work: parent.chain_work.saturating_add(work),
            })));
        }
        if self.headers.len() >= HEADERS_KEPT_MAX {
            return Ok(Err(HeaderRefusal::Full));
        }
        let node = HeaderNode {
            header: *header,
            height: parent.height.next(),
            chain_work: parent.chain_work.saturating_add(work),
        };
        self.headers.insert(hash, node);
        let known = KnownBlock {
            height: node.height,
            chain_work: node.chain_work,
            stored: false,
            invalid: false,
            prev: header.prev,
            time: header.time,
            bits: header.bits,
        };
        let new = true;
        Ok(Ok(KeptHeader { hash, known, new }))
    }

    /// A header without proof of work is invalid, unless it is the genesis.
    fn without_work(
        &self,
        view: &NodeView<'_>,
        header: &BlockHeader,
    ) -> Result<Result<KeptHeader, HeaderRefusal>, StoreError> {
        let hash = header.hash();
        if hash != view.params.genesis_hash {
            return Ok(Err(HeaderRefusal::Invalid));
        }
        let new = false;
        Ok(match self.locate(view, &hash)? {
            Some(known) => Ok(KeptHeader { hash, known, new }),
            None => Err(HeaderRefusal::UnknownParent),
        })
    }

    fn ancestors(&self, view: &NodeView<'_>, parent: &KnownBlock) -> Result<Ancestors, StoreError> {
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

    /// Remembers that a block broke a rule, and drops it with all its descendants.
    pub(super) fn mark_invalid(&mut self, bad: &BlockHash) {
        self.invalid.insert(*bad);
        let mut by_height: Vec<(Height, BlockHash, BlockHash)> = self
            .headers
            .iter()
            .map(|(hash, node)| (node.height, *hash, node.header.prev))
            .collect();
        by_height.sort_unstable();
        let mut dropped = HashSet::from([*bad]);
        for (_, hash, prev) in by_height {
            if dropped.contains(&prev) {
                dropped.insert(hash);
                self.invalid.insert(hash);
            }
        }
        self.headers.retain(|hash, _| !dropped.contains(hash));
    }

    /// A peer has left or shows another chain: some branches may be unclaimed now.
    pub(super) fn mark_for_collection(&mut self) {
        self.collect = true;
    }

    /// Whether unclaimed branches are to be dropped: the tree was marked for it, or has grown
    /// enough since the last time.
    pub(super) fn is_due_for_collection(&self) -> bool {
        self.collect || self.headers.len() >= self.collect_at
    }

    /// Drops every header that is on no branch which ends with one of these blocks.
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
        self.collect = false;
        self.collect_at = COLLECT_MIN.max(live.len().saturating_mul(2));
    }

    /// A locator for a request for headers: hashes from `start` down to the genesis, ever
    /// farther apart. From height 100 they are at 100, 99, … 91, then 89, 85, 77, 61, 29 and
    /// 0.
    pub(super) fn locator(
        &self,
        view: &NodeView<'_>,
        start: BlockHash,
    ) -> Result<Vec<BlockHash>, StoreError> {
        let mut locator = Vec::new();
        let mut cursor = start;
        let (mut step, mut left) = (1_u64, 0_u64);
        // First parent by parent through the tree and along a side branch, then in jumps
        // along the best chain.
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
