//! Bodies: fetched from many peers at once within a window ahead of the tip,
//! connected in order.

use std::collections::{HashMap, VecDeque};

use pithead_consensus::{Block, BlockHash};

use super::bounded::BoundedSet;
use super::headers::HeaderTree;
use super::message::{CONTENT_BYTES_MAX, Request};
use super::peer::{Offence, PeerKey, RequestId, Verdict};
use super::peers::{Asked, BATCH_START};
use super::{SyncState, View, mix};
use crate::chain::UNDO_BLOCKS;
use crate::store::StoreError;
use crate::store::schema;

/// How far ahead of the stored chain bodies are fetched, blocks.
const WINDOW_BLOCKS: usize = 1_024;
/// Bytes of bodies at most that wait for an earlier one, with what requests
/// may still bring; the next block in order is fetched in any case.
const BODY_BYTES_MAX: usize = 96 << 20;
/// Requests for blocks to one peer at a time.
const PEER_BLOCK_REQUESTS_MAX: usize = 2;
/// Most blocks asked for at once.
const BATCH_MAX: usize = 128;
/// An answer that comes within this makes the next batch larger.
const QUICK_MS: u64 = 1_000;
/// Branches that can't be switched to, remembered.
const SHUNNED_MAX: usize = 1_024;

/// A body that waits for its turn.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) block: Block,
    pub(crate) hash: BlockHash,
    /// Who gave it.
    pub(crate) from: PeerKey,
    bytes: usize,
}

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyVerdict {
    /// It is in the store.
    Stored,
    /// It is not what the header commits to.
    Mutated,
    /// The block breaks a rule, and `bad` is the first that does.
    Invalid { bad: BlockHash },
    /// Nothing is wrong with it, but it can't be taken now.
    Unusable,
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

    pub(super) fn aims_at(&self, hash: &BlockHash) -> bool {
        self.target.as_ref() == Some(hash)
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
        if depth_below_tip(view, cursor)?.is_none_or(|depth| depth > UNDO_BLOCKS) {
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

    fn clear(&mut self) {
        self.target = None;
        self.path.clear();
        self.bodies.clear();
        self.bytes = 0;
        self.asked.clear();
        self.epoch += 1;
    }

    fn keep_only_path(&mut self) {
        let on_path: std::collections::HashSet<BlockHash> = self.path.iter().copied().collect();
        self.bodies.retain(|hash, _| on_path.contains(hash));
        self.asked.retain(|hash, _| on_path.contains(hash));
        self.bytes = self.bodies.values().map(|body| body.bytes).sum();
    }

    fn at(&self, height: u64) -> Option<&BlockHash> {
        let index = usize::try_from(height.checked_sub(self.front)?).ok()?;
        self.path.get(index)
    }

    /// The height up to which the path leads to `hash` as well.
    fn shared_height(&self, headers: &HeaderTree, mut hash: BlockHash) -> Option<u64> {
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
    fn keep(&mut self, block: Block, hash: BlockHash, from: PeerKey, height: u64) {
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
    fn take_next(&mut self) -> Option<Body> {
        let body = self.bodies.remove(self.path.front()?)?;
        self.bytes -= body.bytes;
        Some(body)
    }

    fn pop(&mut self, hash: &BlockHash) {
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
    fn missing(&self) -> Vec<(u64, BlockHash)> {
        let window = self.path.iter().take(WINDOW_BLOCKS);
        (self.front..)
            .zip(window)
            .filter(|(_, hash)| !self.bodies.contains_key(hash) && !self.asked.contains_key(hash))
            .map(|(height, hash)| (height, *hash))
            .collect()
    }

    fn requests(&self) -> usize {
        let ids: std::collections::HashSet<&RequestId> = self.asked.values().collect();
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

impl SyncState {
    /// Decides what to ask of whom.
    pub(crate) fn plan(&mut self, view: &View<'_>) -> Result<(), StoreError> {
        self.drop_stored(view)?;
        self.collect_headers();
        self.choose_target(view)?;
        self.ask_blocks(view);
        self.ask_headers(view)?;
        self.plan_relay(view);
        Ok(())
    }

    /// Blocks that came another way need no fetching.
    fn drop_stored(&mut self, view: &View<'_>) -> Result<(), StoreError> {
        while let Some(hash) = self.download.path.front().copied() {
            if schema::entry(view.store, &hash)?.is_none() {
                break;
            }
            self.headers.stored(&hash);
            self.download.pop(&hash);
            self.settle_announcements(&hash, Verdict::Ignore);
        }
        Ok(())
    }

    fn ask_blocks(&mut self, view: &View<'_>) {
        if self.download.target.is_none() {
            return;
        }
        let missing = self.download.missing();
        let mut next = 0;
        while let Some((height, hash)) = missing.get(next).copied() {
            if height != self.download.front && self.is_body_memory_booked() {
                return;
            }
            let Some((peer, shared)) = self.pick_holder(view, height, &hash) else {
                if !self.has_capacity(view) {
                    return;
                }
                next += 1;
                continue;
            };
            let batch = self.peers.get(&peer).map_or(1, |state| state.batch);
            let hashes: Vec<BlockHash> = missing
                .iter()
                .skip(next)
                .take(batch)
                .take_while(|(height, _)| *height <= shared)
                .map(|(_, hash)| *hash)
                .collect();
            next += hashes.len().max(1);
            self.ask_blocks_of(view, peer, hashes);
        }
    }

    fn ask_blocks_of(&mut self, view: &View<'_>, peer: PeerKey, hashes: Vec<BlockHash>) {
        let request = Request::Blocks(hashes.clone());
        let asked = Asked::Blocks(hashes.clone());
        if let Some(id) = self.ask(view, peer, asked, request) {
            for hash in hashes {
                self.download.asked.insert(hash, id);
            }
            if let Some(state) = self.peers.get_mut(&peer) {
                state.block_requests += 1;
            }
        }
    }

    /// Whether what is held and what requests may bring fills the memory that
    /// bodies may take.
    fn is_body_memory_booked(&self) -> bool {
        let booked = self.download.requests() * CONTENT_BYTES_MAX;
        self.download.bytes + booked + CONTENT_BYTES_MAX > BODY_BYTES_MAX
    }

    fn has_capacity(&self, view: &View<'_>) -> bool {
        self.peers.values().any(|state| {
            state.block_requests < PEER_BLOCK_REQUESTS_MAX && state.quiet_until_ms <= view.ms
        })
    }

    /// The least busy peer that has this block, and up to where it has the
    /// blocks that follow.
    fn pick_holder(
        &mut self,
        view: &View<'_>,
        height: u64,
        hash: &BlockHash,
    ) -> Option<(PeerKey, u64)> {
        let (seed, epoch) = (self.settings.seed, self.download.epoch);
        let mut best: Option<((usize, u64), PeerKey, u64)> = None;
        for (peer, state) in &mut self.peers {
            let free = state.block_requests < PEER_BLOCK_REQUESTS_MAX
                && state.quiet_until_ms <= view.ms
                && !state.failed_bodies.contains(hash);
            let Some(best_known) = state.best_known.filter(|_| free) else {
                continue;
            };
            let shared = match state.shared {
                Some((when, shared)) if when == epoch => shared,
                _ => {
                    let shared = self.download.shared_height(&self.headers, best_known);
                    state.shared = Some((epoch, shared));
                    shared
                }
            };
            let Some(shared) = shared.filter(|shared| *shared >= height) else {
                continue;
            };
            let rank = (state.block_requests, mix(seed ^ height, peer.0));
            if best.is_none_or(|(least, ..)| rank < least) {
                best = Some((rank, *peer, shared));
            }
        }
        best.map(|(_, peer, shared)| (peer, shared))
    }

    /// Takes in blocks: the answer to a request for `hashes`.
    pub(super) fn take_blocks(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        hashes: &[BlockHash],
        blocks: Vec<Block>,
        took_ms: u64,
    ) {
        if blocks.is_empty() {
            return self.withheld(view, peer, hashes);
        }
        let mut expected = hashes.iter();
        for block in blocks {
            let hash = block.header.hash();
            // In the order asked, each once.
            if !expected.any(|asked| *asked == hash) {
                self.offend(view, peer, Offence::Unrequested);
                return;
            }
            if let Some(height) = self.headers.get(&hash).map(|node| node.height.0) {
                self.download.keep(block, hash, peer, height);
            }
        }
        if let Some(state) = self.peers.get_mut(&peer)
            && took_ms <= QUICK_MS
            && hashes.len() >= state.batch.min(BATCH_START)
        {
            state.batch = (state.batch * 2).min(BATCH_MAX);
        }
    }

    /// A peer gave none of the blocks that it showed to have.
    fn withheld(&mut self, view: &View<'_>, peer: PeerKey, hashes: &[BlockHash]) {
        if let Some(state) = self.peers.get_mut(&peer) {
            for hash in hashes {
                state.failed_bodies.insert(*hash);
            }
            state.best_known = None;
            state.shared = None;
            self.collect = true;
        }
        self.offend(view, peer, Offence::Withheld);
        self.ask_status(view, peer);
    }

    /// The next block to judge, if its body is there.
    pub(crate) fn next_body(&mut self) -> Option<Body> {
        self.download.take_next()
    }

    /// Tells what became of a body that [`Self::next_body`] gave.
    pub(crate) fn judged(
        &mut self,
        view: &View<'_>,
        hash: BlockHash,
        from: PeerKey,
        verdict: BodyVerdict,
    ) {
        match verdict {
            BodyVerdict::Stored => {
                self.headers.stored(&hash);
                self.download.pop(&hash);
                // Those accepted have their verdict already.
                self.settle_announcements(&hash, Verdict::Ignore);
            }
            BodyVerdict::Mutated => {
                if let Some(state) = self.peers.get_mut(&from) {
                    state.failed_bodies.insert(hash);
                }
                self.download.asked.remove(&hash);
                self.offend(view, from, Offence::MutatedBody);
            }
            BodyVerdict::Invalid { bad } => self.condemn(view, hash, bad),
            BodyVerdict::Unusable => {
                if let Some(target) = self.download.target {
                    self.download.shunned.insert(target);
                }
                self.download.clear();
                self.settle_announcements(&hash, Verdict::Ignore);
            }
        }
    }

    /// A block broke a rule: drops what descends from it, and bans whoever
    /// showed it, since none of them can have connected it.
    fn condemn(&mut self, view: &View<'_>, hash: BlockHash, bad: BlockHash) {
        self.settle_announcements(&hash, Verdict::Reject);
        self.headers.condemn(&bad);
        self.headers.condemn(&hash);
        self.download.clear();
        let guilty: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, state)| {
                let shown = state.best_known;
                shown.is_some_and(|shown| self.headers.is_condemned(&shown))
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in guilty {
            self.offend(view, peer, Offence::InvalidBlock);
        }
    }
}
