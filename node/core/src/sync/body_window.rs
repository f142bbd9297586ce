//! The missing blocks between the stored chain and the branch to follow, in
//! order, and the bodies that wait for an earlier one.

use std::collections::{HashMap, HashSet, VecDeque};

use pithead_consensus::{Block, BlockHash};

use super::View;
use super::bounded_set::BoundedSet;
use super::headers::HeaderTree;
use super::peer::{PeerKey, RequestId};
use crate::store::StoreError;
use crate::store::schema;

/// How far ahead of the stored chain bodies are fetched, blocks.
const WINDOW_BLOCKS: usize = 1_024;
/// Branches that can't be switched to, remembered.
const SHUNNED_MAX: usize = 1_024;

/// A body that waits for its turn.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) block: Block,
    pub(crate) hash: BlockHash,
    /// Who gave it.
    pub(crate) from: PeerKey,
    /// Its encoded size.
    pub(crate) bytes: usize,
}

/// What is being fetched.
#[derive(Debug)]
pub(super) struct Download {
    target: Option<BlockHash>,
    /// The missing blocks up to the target, in order.
    path: VecDeque<BlockHash>,
    /// Height of the first of them.
    front: u64,
    /// Changes whenever heights on the path may stand for other blocks.
    epoch: u64,
    bodies: HashMap<BlockHash, Body>,
    bytes: usize,
    asked: HashMap<BlockHash, RequestId>,
    shunned: BoundedSet<BlockHash>,
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
            shunned: BoundedSet::new(SHUNNED_MAX),
        }
    }

    pub(super) fn target(&self) -> Option<BlockHash> {
        self.target
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The first block that is missing.
    pub(super) fn next(&self) -> Option<BlockHash> {
        self.path.front().copied()
    }

    pub(super) fn is_next(&self, height: u64) -> bool {
        height == self.front
    }

    pub(super) fn has_next_body(&self) -> bool {
        let next = self.path.front();
        next.is_some_and(|hash| self.bodies.contains_key(hash))
    }

    /// A request is to bring this block.
    pub(super) fn book(&mut self, hash: BlockHash, id: RequestId) {
        self.asked.insert(hash, id);
    }

    /// No request will bring this block.
    pub(super) fn unbook(&mut self, hash: &BlockHash) {
        self.asked.remove(hash);
    }

    /// Gives the target up, for good.
    pub(super) fn shun(&mut self) {
        if let Some(target) = self.target {
            self.shunned.insert(target);
        }
        self.clear();
    }

    pub(super) fn aims_at(&self, hash: &BlockHash) -> bool {
        self.target.as_ref() == Some(hash)
    }

    /// Whether it is a block of the path before the last.
    pub(super) fn is_on_the_way(&self, hash: &BlockHash) -> bool {
        self.path.len() > 1 && self.path.front() == Some(hash)
    }

    pub(super) fn is_shunned(&self, hash: &BlockHash) -> bool {
        self.shunned.contains(hash)
    }

    /// Bodies that wait, and their bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.bodies.len(), self.bytes)
    }

    /// Aims at another branch; `false` if it can't be switched to.
    pub(super) fn aim(
        &mut self,
        view: &View<'_>,
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
                // The path so far goes on.
                self.path.extend(added);
                self.target = Some(target);
                self.epoch += 1;
                return Ok(true);
            }
            added.push_front(cursor);
            cursor = node.header.prev;
        }
        let reach = view.undo_reach()?;
        if depth_below_tip(view, cursor)?.is_none_or(|depth| depth > reach) {
            self.shunned.insert(target);
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

    /// The height up to which the path leads to `hash` as well.
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

    /// These may be asked of others.
    pub(super) fn release(&mut self, id: RequestId, hashes: &[BlockHash]) {
        for hash in hashes {
            if self.asked.get(hash) == Some(&id) {
                self.asked.remove(hash);
            }
        }
    }

    /// Keeps a body that is wanted.
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

    /// Blocks within the window that are neither there nor asked for, with
    /// their heights.
    pub(super) fn missing(&self) -> Vec<(u64, BlockHash)> {
        let window = self.path.iter().take(WINDOW_BLOCKS);
        (self.front..)
            .zip(window)
            .filter(|(_, hash)| !self.bodies.contains_key(hash) && !self.asked.contains_key(hash))
            .map(|(height, hash)| (height, *hash))
            .collect()
    }

    pub(super) fn requests(&self) -> usize {
        let ids: HashSet<&RequestId> = self.asked.values().collect();
        ids.len()
    }
}

/// How many blocks would be undone to build on `root`; `None` if it is not in
/// the store.
fn depth_below_tip(view: &View<'_>, root: BlockHash) -> Result<Option<u64>, StoreError> {
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
