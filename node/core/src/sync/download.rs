//! Bodies: fetched from many peers at once within a window ahead of the tip,
//! connected in order.

use pithead_consensus::{Block, BlockHash};

use super::body_window::Body;
use super::message::{CONTENT_BYTES_MAX, Request};
use super::peer::{Offence, PeerKey, Verdict};
use super::peers::BATCH_START;
use super::requests::Asked;
use super::{SyncState, View, mix};
use crate::store::StoreError;
use crate::store::schema;

/// Bytes of bodies at most that wait for an earlier one, with what requests
/// may still bring; the next block in order is fetched in any case.
const BODY_BYTES_MAX: usize = 96 << 20;
/// Requests for blocks to one peer at a time.
const PEER_BLOCK_REQUESTS_MAX: usize = 2;
/// Most blocks asked for at once.
const BATCH_MAX: usize = 128;
/// An answer that comes within this makes the next batch larger.
const QUICK_MS: u64 = 1_000;

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

impl SyncState {
    /// Decides what to ask of whom.
    pub(crate) fn plan(&mut self, view: &View<'_>) -> Result<(), StoreError> {
        self.drop_stored(view)?;
        self.seek_orphaned(view);
        self.collect_headers();
        self.choose_target(view)?;
        self.ask_blocks(view);
        self.ask_headers(view)?;
        self.plan_relay(view);
        self.plan_approvals(view);
        Ok(())
    }

    /// Blocks that came another way need no fetching.
    fn drop_stored(&mut self, view: &View<'_>) -> Result<(), StoreError> {
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

    fn ask_blocks(&mut self, view: &View<'_>) {
        if self.download.target().is_none() {
            return;
        }
        let missing = self.download.missing();
        let mut next = 0;
        while let Some((height, hash)) = missing.get(next).copied() {
            if !self.download.is_next(height) && self.is_body_memory_booked() {
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
                self.download.book(hash, id);
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
        self.download.held().1 + booked + CONTENT_BYTES_MAX > BODY_BYTES_MAX
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
        let (seed, epoch) = (self.settings.seed, self.download.epoch());
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
        let mut lacking = Vec::new();
        for block in blocks {
            let hash = block.header.hash();
            // In the order asked, each once; it lacks those that it skips.
            let skipped: Vec<BlockHash> = {
                let rest = expected.clone();
                rest.take_while(|asked| **asked != hash).copied().collect()
            };
            if !expected.any(|asked| *asked == hash) {
                self.offend(view, peer, Offence::Unrequested);
                return;
            }
            if let Some(state) = self.peers.get_mut(&peer) {
                let failed = &mut state.failed_bodies;
                skipped.iter().for_each(|hash| failed.insert(*hash));
            }
            lacking.extend(skipped);
            if let Some(height) = self.headers.get(&hash).map(|node| node.height.0) {
                self.download.keep(block, hash, peer, height);
            }
        }
        self.seek_announced(view, peer, &lacking);
        if let Some(state) = self.peers.get_mut(&peer)
            && took_ms <= QUICK_MS
            && hashes.len() >= state.batch.min(BATCH_START)
        {
            state.batch = (state.batch * 2).min(BATCH_MAX);
        }
    }

    /// A peer gave none of the blocks that it showed to have.
    fn withheld(&mut self, view: &View<'_>, peer: PeerKey, hashes: &[BlockHash]) {
        self.seek_announced(view, peer, hashes);
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

    pub(crate) fn has_next_body(&self) -> bool {
        self.download.has_next_body()
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
                self.searches.end(&hash);
                self.download.pop(&hash);
                // Those accepted have their verdict already.
                self.settle_announcements(&hash, Verdict::Ignore);
            }
            BodyVerdict::Mutated => {
                if let Some(state) = self.peers.get_mut(&from) {
                    state.failed_bodies.insert(hash);
                }
                self.download.unbook(&hash);
                self.offend(view, from, Offence::MutatedBody);
                self.seek(view, hash, from);
            }
            BodyVerdict::Invalid { bad } => self.condemn(view, hash, bad),
            BodyVerdict::Unusable => {
                self.download.shun();
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
