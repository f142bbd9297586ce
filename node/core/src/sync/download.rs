//! Block bodies: they are fetched from many peers at once, within a window ahead of the
//! tip, and connected in order.

use pithead_consensus::{Block, BlockHash};

use super::body_window::Body;
use super::bounded_set::BoundedSet;
use super::message::{CONTENT_BYTES_MAX, Request};
use super::node_view::NodeView;
use super::peer_events::{Offence, PeerKey, Verdict};
use super::requests::RequestContext;
use super::{SyncState, mix};
use crate::store::StoreError;
use crate::store::schema::{self, ChainEntry};

/// Most bytes of bodies that wait for an earlier one, together with those that requests may
/// still bring. The next blocks in order that are judged together are fetched in any case.
const BODY_BYTES_MAX: usize = 96 << 20;
/// Most requests for blocks to one peer at a time.
const PEER_BLOCK_REQUESTS_MAX: usize = 2;
/// Blocks asked for at once of a new peer.
const BATCH_START: usize = 16;
/// Most blocks asked for at once.
const BATCH_MAX: usize = 128;
/// An answer within this doubles the next batch.
const QUICK_MS: u64 = 1_000;
/// Most blocks remembered that one peer did not give, or gave with a wrong body.
const FAILED_BODIES_MAX: usize = 1_024;

/// The requests for blocks to one peer.
#[derive(Debug)]
pub(super) struct BlockRequests {
    /// How many blocks to ask for at once.
    batch: usize,
    /// Requests that count against the peer's limit.
    open: usize,
    /// Blocks that the peer did not give, or gave with a wrong body.
    failed: BoundedSet<BlockHash>,
}

impl BlockRequests {
    pub(super) fn new() -> Self {
        Self {
            batch: BATCH_START,
            open: 0,
            failed: BoundedSet::new(FAILED_BODIES_MAX),
        }
    }

    fn has_capacity(&self) -> bool {
        self.open < PEER_BLOCK_REQUESTS_MAX
    }

    /// A request was answered or given up.
    pub(super) fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// A request stalled: the next ones ask for fewer blocks.
    pub(super) fn shrink_batch(&mut self) {
        self.batch = (self.batch / 4).max(1);
    }

    pub(super) fn has_failed(&self, hash: &BlockHash) -> bool {
        self.failed.contains(hash)
    }
}

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyVerdict {
    /// The block is in the store.
    Stored,
    /// The body is not the one that the header commits to.
    Mutated,
    /// The block breaks a rule, or descends from a block that does. `bad` is the first.
    Invalid { bad: BlockHash },
    /// The block is not invalid, but it can't be stored now.
    Unusable,
}

impl SyncState {
    /// Decides what to ask of which peer.
    pub(crate) fn plan(&mut self, view: &NodeView<'_>) -> Result<(), StoreError> {
        self.drop_stored(view)?;
        self.search_abandoned(view);
        self.collect_headers();
        self.choose_target(view)?;
        self.ask_blocks(view);
        self.ask_headers(view)?;
        self.plan_transactions(view);
        self.plan_approvals(view)?;
        self.watch_clock(view);
        Ok(())
    }

    /// Skips blocks that reached the store by another way.
    fn drop_stored(&mut self, view: &NodeView<'_>) -> Result<(), StoreError> {
        while let Some(hash) = self.download.next() {
            if schema::entry(view.store, &hash)?.is_none() {
                break;
            }
            self.headers.stored(&hash);
            self.searches.end(&hash);
            self.download.pop(&hash);
            self.settle_announcements(&hash, Verdict::Ignore);
        }
        Ok(())
    }

    fn ask_blocks(&mut self, view: &NodeView<'_>) {
        if self.download.target().is_none() {
            return;
        }
        let missing = self.download.missing();
        let first = self.download.fork_blocks(&self.headers, view.tip);
        let mut next = 0;
        while let Some((height, hash)) = missing.get(next).copied() {
            if !self.download.is_next(height, first) && self.is_body_memory_booked() {
                return;
            }
            let Some((peer, shared)) = self.pick_holder(view, height, &hash) else {
                if !self.has_capacity(view) {
                    return;
                }
                next += 1;
                continue;
            };
            let batch = self.peers.get(&peer).map_or(1, |state| state.blocks.batch);
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

    fn ask_blocks_of(&mut self, view: &NodeView<'_>, peer: PeerKey, hashes: Vec<BlockHash>) {
        let request = Request::Blocks(hashes.clone());
        let context = RequestContext::Blocks(hashes.clone());
        if let Some(id) = self.ask(view, peer, context, request) {
            for hash in hashes {
                self.download.requested(hash, id);
            }
            if let Some(state) = self.peers.get_mut(&peer) {
                state.blocks.open += 1;
            }
        }
    }

    /// Whether the bodies that are held, with those that requests may bring, take all the
    /// memory that they may take.
    fn is_body_memory_booked(&self) -> bool {
        let booked = self.download.requests() * CONTENT_BYTES_MAX;
        self.download.held().1 + booked + CONTENT_BYTES_MAX > BODY_BYTES_MAX
    }

    fn has_capacity(&self, view: &NodeView<'_>) -> bool {
        self.peers
            .values()
            .any(|state| state.blocks.has_capacity() && !state.responses.is_paused(view.ms))
    }

    /// The least busy peer that has this block, and the height up to which it has the blocks
    /// that follow.
    fn pick_holder(
        &mut self,
        view: &NodeView<'_>,
        height: u64,
        hash: &BlockHash,
    ) -> Option<(PeerKey, u64)> {
        let (seed, epoch) = (self.settings.seed, self.download.epoch());
        let mut best: Option<((usize, u64), PeerKey, u64)> = None;
        for (peer, state) in &mut self.peers {
            let free = state.blocks.has_capacity()
                && !state.responses.is_paused(view.ms)
                && !state.blocks.has_failed(hash);
            if !free {
                continue;
            }
            let (download, headers) = (&self.download, &self.headers);
            let shared = state.chain.shared_height(epoch, |best_known| {
                download.shared_height(headers, best_known)
            });
            let Some(shared) = shared.filter(|shared| *shared >= height) else {
                continue;
            };
            let rank = (state.blocks.open, mix(seed ^ height, peer.0));
            if best.is_none_or(|(least, ..)| rank < least) {
                best = Some((rank, *peer, shared));
            }
        }
        best.map(|(_, peer, shared)| (peer, shared))
    }

    /// Handles the answer to a request for `hashes`. Returns whether it brought blocks, each
    /// of them asked for.
    pub(super) fn take_blocks(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        hashes: &[BlockHash],
        blocks: Vec<Block>,
    ) -> bool {
        if blocks.is_empty() {
            self.withheld(view, peer, hashes);
            return false;
        }
        let mut expected = hashes.iter();
        let mut lacking = Vec::new();
        for block in blocks {
            let hash = block.header.hash();
            // Blocks come in the order asked, each once. The peer lacks those that it skips.
            let skipped: Vec<BlockHash> = {
                let rest = expected.clone();
                rest.take_while(|asked| **asked != hash).copied().collect()
            };
            if !expected.any(|asked| *asked == hash) {
                self.offend(view, peer, Offence::Unrequested);
                return false;
            }
            if let Some(state) = self.peers.get_mut(&peer) {
                let failed = &mut state.blocks.failed;
                skipped.iter().for_each(|hash| failed.insert(*hash));
            }
            lacking.extend(skipped);
            if let Some(height) = self.headers.get(&hash).map(|node| node.height.0) {
                self.download.keep(block, hash, peer, height);
            }
        }
        self.search_announced(view, peer, &lacking);
        true
    }

    /// Doubles the batch of a peer that answered a full one quickly.
    pub(super) fn grow_batch(&mut self, peer: PeerKey, asked: usize, took_ms: u64) {
        if let Some(state) = self.peers.get_mut(&peer)
            && took_ms <= QUICK_MS
            && asked >= state.blocks.batch.min(BATCH_START)
        {
            state.blocks.batch = (state.blocks.batch * 2).min(BATCH_MAX);
        }
    }

    /// A peer gave none of the blocks that it has shown to have.
    fn withheld(&mut self, view: &NodeView<'_>, peer: PeerKey, hashes: &[BlockHash]) {
        self.search_announced(view, peer, hashes);
        if let Some(state) = self.peers.get_mut(&peer) {
            for hash in hashes {
                state.blocks.failed.insert(*hash);
            }
            state.chain.retract();
            self.headers.mark_for_collection();
        }
        self.offend(view, peer, Offence::Withheld);
        self.ask_status(view, peer);
    }

    /// The next block to judge, if it is there, with all that belong to the same fork.
    pub(crate) fn next_body(&mut self, tip: &ChainEntry) -> Option<Body> {
        if !self.has_next_body(tip) {
            return None;
        }
        self.download.take_next()
    }

    pub(crate) fn has_next_body(&self, tip: &ChainEntry) -> bool {
        let count = self.download.fork_blocks(&self.headers, tip);
        self.download.has_next_bodies(count)
    }

    /// Records what became of a body that [`Self::next_body`] returned.
    pub(crate) fn judged(
        &mut self,
        view: &NodeView<'_>,
        hash: BlockHash,
        from: PeerKey,
        verdict: BodyVerdict,
    ) {
        match verdict {
            BodyVerdict::Stored => {
                self.headers.stored(&hash);
                self.searches.end(&hash);
                self.download.pop(&hash);
                // Announcements of a block that passed every rule have their verdict already.
                self.settle_announcements(&hash, Verdict::Ignore);
            }
            BodyVerdict::Mutated => {
                if let Some(state) = self.peers.get_mut(&from) {
                    state.blocks.failed.insert(hash);
                }
                self.download.request_ended(&hash);
                self.offend(view, from, Offence::MutatedBody);
                self.search_block(view, hash, from);
            }
            BodyVerdict::Invalid { bad } => self.reject_branch(view, hash, bad),
            BodyVerdict::Unusable => {
                self.download.give_up_target();
                self.settle_announcements(&hash, Verdict::Ignore);
            }
        }
    }

    /// A block broke a rule. Its descendants are dropped, and every peer that has shown it
    /// is banned: no honest node can have connected it.
    pub(crate) fn reject_branch(&mut self, view: &NodeView<'_>, hash: BlockHash, bad: BlockHash) {
        self.settle_announcements(&hash, Verdict::Reject);
        self.headers.mark_invalid(&bad);
        self.headers.mark_invalid(&hash);
        self.download.clear();
        let offenders: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, state)| {
                let shown = state.chain.best_known();
                shown.is_some_and(|shown| self.headers.is_invalid(&shown))
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in offenders {
            self.offend(view, peer, Offence::InvalidBlock);
        }
    }
}
