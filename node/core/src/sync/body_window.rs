//! The path of the download: the missing blocks between the stored chain and the branch to
//! follow, in order, and the bodies that wait for an earlier one. It knows nothing of peers
//! but which of them gave a body; `download` decides whom to ask.

use std::collections::{HashMap, HashSet, VecDeque};

use pithead_consensus::{Block, BlockHash};

use super::bounded_set::BoundedSet;
use super::headers::HeaderTree;
use super::node_view::NodeView;
use super::peer_events::{PeerKey, RequestId};
use crate::store::StoreError;
use crate::store::schema::{self, ChainEntry};

/// Bodies are fetched up to so many blocks ahead of the stored chain.
const WINDOW_BLOCKS: usize = 1_024;
/// A fork of at most so many blocks is stored only once all of it has come.
const FORK_BLOCKS_MAX: usize = 16;
/// Most branches remembered that the node can't switch to.
const UNREACHABLE_MAX: usize = 1_024;

/// A block whose body has come.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) block: Block,
    pub(crate) hash: BlockHash,
    pub(crate) from: PeerKey,
    /// The block's encoded size.
    pub(crate) bytes: usize,
}

/// The branch that is being downloaded, and how far.
#[derive(Debug)]
pub(super) struct Download {
    /// The last block of the branch.
    target: Option<BlockHash>,
    /// The missing blocks up to the target, in order.
    path: VecDeque<BlockHash>,
    /// Height of the first block on the path.
    front: u64,
    /// Changes whenever a height on the path may stand for another block.
    epoch: u64,
    bodies: HashMap<BlockHash, Body>,
    /// Encoded bytes of `bodies`.
    bytes: usize,
    /// The request that is to bring a block.
    asked: HashMap<BlockHash, RequestId>,
    /// Targets that the node can't switch to.
    unreachable: BoundedSet<BlockHash>,
}

impl Download {
    pub(super) fn new() -> Self {
        Self {
            target: None,
            path: VecDeque::new(),
            front: 0,
            epoch: 0,
            bodies: HashMap::new(),
            bytes: 0,
            asked: HashMap::new(),
            unreachable: BoundedSet::new(UNREACHABLE_MAX),
        }
    }

    pub(super) fn target(&self) -> Option<BlockHash> {
        self.target
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The first missing block.
    pub(super) fn next(&self) -> Option<BlockHash> {
        self.path.front().copied()
    }

    /// Whether a height is among the next `count` ones.
    pub(super) fn is_next(&self, height: u64, count: usize) -> bool {
        height.saturating_sub(self.front) < count as u64
    }

    /// Whether the next `count` bodies are there.
    pub(super) fn has_next_bodies(&self, count: usize) -> bool {
        self.path.len() >= count
            && self
                .path
                .iter()
                .take(count)
                .all(|hash| self.bodies.contains_key(hash))
    }

    /// How many blocks have to be there before the next one is judged: where the path forks from
    /// the best chain, all up to the first with more work than the tip, if that is not far. One
    /// in any other case.
    ///
    /// A fork that somebody shows and never completes then costs nothing on disk.
    pub(super) fn fork_blocks(&self, headers: &HeaderTree, tip: &ChainEntry) -> usize {
        let first = self.path.front().and_then(|hash| headers.get(hash));
        if first.is_none_or(|first| first.header.prev == tip.hash()) {
            return 1;
        }
        let near = self.path.iter().take(FORK_BLOCKS_MAX);
        let better = near
            .filter_map(|hash| headers.get(hash))
            .position(|node| node.chain_work > tip.chain_work);
        better.map_or(1, |position| position + 1)
    }

    /// A request is to bring this block.
    pub(super) fn requested(&mut self, hash: BlockHash, id: RequestId) {
        self.asked.insert(hash, id);
    }

    /// No request will bring this block.
    pub(super) fn request_ended(&mut self, hash: &BlockHash) {
        self.asked.remove(hash);
    }

    /// Gives the target up for good.
    pub(super) fn give_up_target(&mut self) {
        if let Some(target) = self.target {
            self.unreachable.insert(target);
        }
        self.clear();
    }

    pub(super) fn aims_at(&self, hash: &BlockHash) -> bool {
        self.target.as_ref() == Some(hash)
    }

    /// Whether this is the next block on the path and another one follows it.
    pub(super) fn is_on_the_way(&self, hash: &BlockHash) -> bool {
        self.path.len() > 1 && self.path.front() == Some(hash)
    }

    pub(super) fn is_unreachable(&self, hash: &BlockHash) -> bool {
        self.unreachable.contains(hash)
    }

    /// How many bodies wait, and their bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.bodies.len(), self.bytes)
    }

    /// Aims at another branch; returns `false` if the node can't switch to it.
    pub(super) fn aim(
        &mut self,
        view: &NodeView<'_>,
        headers: &HeaderTree,
        target: Option<BlockHash>,
    ) -> Result<bool, StoreError> {
        if target == self.target {
            return Ok(true);
        }
        let Some(target) = target else {
            self.clear();
            return Ok(true);
        };
        let mut added = VecDeque::new();
        let mut cursor = target;
        while let Some(node) = headers.get(&cursor) {
            if self.path.back() == Some(&cursor) {
                // The new branch extends the old path.
                self.path.extend(added);
                self.target = Some(target);
                self.epoch += 1;
                return Ok(true);
            }
            added.push_front(cursor);
            cursor = node.header.prev;
        }
        let depth_max = view.reorg_depth_max()?;
        if depth_below_tip(view, cursor)?.is_none_or(|depth| depth > depth_max) {
            self.unreachable.insert(target);
            return Ok(false);
        }
        self.front = headers
            .get(added.front().unwrap_or(&target))
            .map_or(0, |node| node.height.0);
        self.path = added;
        self.target = Some(target);
        self.epoch += 1;
        self.keep_only_path();
        Ok(true)
    }

    /// Drops the path and its bodies.
    pub(super) fn clear(&mut self) {
        self.target = None;
        self.path.clear();
        self.bodies.clear();
        self.bytes = 0;
        self.asked.clear();
        self.epoch += 1;
    }

    fn keep_only_path(&mut self) {
        let on_path: HashSet<BlockHash> = self.path.iter().copied().collect();
        self.bodies.retain(|hash, _| on_path.contains(hash));
        self.asked.retain(|hash, _| on_path.contains(hash));
        self.bytes = self.bodies.values().map(|body| body.bytes).sum();
    }

    fn at(&self, height: u64) -> Option<&BlockHash> {
        let index = usize::try_from(height.checked_sub(self.front)?).ok()?;
        self.path.get(index)
    }

    /// The height up to which the path is part of the branch that ends with `hash`.
    pub(super) fn shared_height(&self, headers: &HeaderTree, mut hash: BlockHash) -> Option<u64> {
        while let Some(node) = headers.get(&hash) {
            if node.height.0 < self.front {
                return None;
            }
            if self.at(node.height.0) == Some(&hash) {
                return Some(node.height.0);
            }
            hash = node.header.prev;
        }
        None
    }

    /// The blocks of this request may be asked of other peers.
    pub(super) fn release(&mut self, id: RequestId, hashes: &[BlockHash]) {
        for hash in hashes {
            if self.asked.get(hash) == Some(&id) {
                self.asked.remove(hash);
            }
        }
    }

    /// Keeps a body if it belongs to the path and is missing.
    pub(super) fn keep(&mut self, block: Block, hash: BlockHash, from: PeerKey, height: u64) {
        if self.at(height) != Some(&hash) || self.bodies.contains_key(&hash) {
            return;
        }
        let bytes = block.size();
        self.bytes += bytes;
        let body = Body {
            block,
            hash,
            from,
            bytes,
        };
        self.bodies.insert(hash, body);
    }

    /// The next body in order, if it is there.
    pub(super) fn take_next(&mut self) -> Option<Body> {
        let body = self.bodies.remove(self.path.front()?)?;
        self.bytes -= body.bytes;
        Some(body)
    }

    /// Takes the next block off the path: it is in the store.
    pub(super) fn pop(&mut self, hash: &BlockHash) {
        if self.path.front() == Some(hash) {
            self.path.pop_front();
            self.front += 1;
            self.asked.remove(hash);
            if let Some(body) = self.bodies.remove(hash) {
                self.bytes -= body.bytes;
            }
        }
    }

    /// The blocks within the window that are neither there nor asked for, with their heights.
    pub(super) fn missing(&self) -> Vec<(u64, BlockHash)> {
        let window = self.path.iter().take(WINDOW_BLOCKS);
        (self.front..)
            .zip(window)
            .filter(|(_, hash)| !self.bodies.contains_key(hash) && !self.asked.contains_key(hash))
            .map(|(height, hash)| (height, *hash))
            .collect()
    }

    /// How many requests are to bring blocks of the path.
    pub(super) fn requests(&self) -> usize {
        let ids: HashSet<&RequestId> = self.asked.values().collect();
        ids.len()
    }
}

/// How many blocks would be undone to build on `root`; `None` if `root` is not in the
/// store.
fn depth_below_tip(view: &NodeView<'_>, root: BlockHash) -> Result<Option<u64>, StoreError> {
    let mut hash = root;
    loop {
        let Some(entry) = schema::entry(view.store, &hash)? else {
            return Ok(None);
        };
        if schema::is_best(view.store, &hash, entry.height)? {
            return Ok(Some(view.tip.height.0.saturating_sub(entry.height.0)));
        }
        hash = entry.header.prev;
    }
}
