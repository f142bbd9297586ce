//! The search for a block that its announcer does not give.
//!
//! Gossip shows only the first peer that has a block. If that peer declines or stays
//! silent, a few others are asked at once, even if they have not shown to have the block:
//! so a peer that announces first and then declines delays a block by one more round trip
//! at most.

use std::collections::{BTreeMap, BTreeSet};

use pithead_consensus::{Block, BlockHash};

use super::message::Request;
use super::node_view::NodeView;
use super::peer_events::{Offence, PeerKey};
use super::requests::RequestContext;
use super::{SyncState, mix};
use crate::store::StoreError;

/// Most searches at a time. Each is for a block that somebody has mined.
const SEARCHES_MAX: usize = 8;
/// Peers asked at once for one block.
const ASKED_AT_ONCE: usize = 3;
/// A search ends without the block after this.
const SEARCH_MS: u64 = 20_000;

/// The search for one block.
#[derive(Debug)]
struct BlockSearch {
    since_ms: u64,
    /// The peers asked in this round.
    asked: BTreeSet<PeerKey>,
    /// Requests for the block without an answer.
    open: usize,
}

/// The searches under way, by the block that is searched for.
#[derive(Debug, Default)]
pub(super) struct BlockSearches {
    all: BTreeMap<BlockHash, BlockSearch>,
    /// Blocks that were asked of a peer that has left since. A search for them begins with
    /// the next event.
    abandoned: Vec<(BlockHash, PeerKey)>,
}

impl BlockSearches {
    /// The blocks that are searched for. Some peer has announced each.
    pub(super) fn hashes(&self) -> impl Iterator<Item = BlockHash> {
        self.all.keys().copied()
    }

    pub(super) fn contains(&self, hash: &BlockHash) -> bool {
        self.all.contains_key(hash)
    }

    fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn end(&mut self, hash: &BlockHash) {
        self.all.remove(hash);
    }

    /// A peer has left that was asked for these blocks.
    pub(super) fn abandon(&mut self, hashes: &[BlockHash], peer: PeerKey) {
        let abandoned = hashes.iter().map(|hash| (*hash, peer));
        self.abandoned.extend(abandoned.take(SEARCHES_MAX));
    }

    /// A peer has left that was asked within the search for this block.
    pub(super) fn peer_left(&mut self, hash: &BlockHash) {
        if let Some(search) = self.all.get_mut(hash) {
            search.open = search.open.saturating_sub(1);
        }
    }
}

impl SyncState {
    /// Begins or continues the search for a block that the peer `except` did not give.
    pub(super) fn search_block(&mut self, view: &NodeView<'_>, hash: BlockHash, except: PeerKey) {
        if self.status.syncing || self.headers.get(&hash).is_none() {
            return;
        }
        let full = self.searches.len() >= SEARCHES_MAX;
        match self.searches.all.get_mut(&hash) {
            Some(search) => {
                search.asked.insert(except);
            }
            None if full => return,
            None => {
                let search = BlockSearch {
                    since_ms: view.ms,
                    asked: BTreeSet::from([except]),
                    open: 0,
                };
                self.searches.all.insert(hash, search);
            }
        }
        self.ask_around(view, hash);
    }

    /// Searches for those of the blocks that the peer has announced. A block that was asked
    /// for alone is always searched for: it is the next one, and all others wait for it.
    pub(super) fn search_announced(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        hashes: &[BlockHash],
    ) {
        for hash in hashes {
            let state = self.peers.get(&peer);
            let announced = state.is_some_and(|state| state.announcements.contains(hash));
            if announced || hashes.len() == 1 {
                self.search_block(view, *hash, peer);
                if self.searches.contains(hash) {
                    self.retract_claim(peer, *hash);
                }
            }
        }
    }

    /// Searches for the blocks that were asked of peers that have left.
    pub(super) fn search_abandoned(&mut self, view: &NodeView<'_>) {
        for (hash, peer) in std::mem::take(&mut self.searches.abandoned) {
            self.search_block(view, hash, peer);
        }
    }

    /// Asks the next peers for a block: outbound peers first, since an attacker cannot have
    /// chosen them.
    fn ask_around(&mut self, view: &NodeView<'_>, hash: BlockHash) {
        let Some(search) = self.searches.all.get(&hash) else {
            return;
        };
        let wanted = ASKED_AT_ONCE.saturating_sub(search.open);
        let mut others: Vec<(bool, u64, PeerKey)> = self
            .peers
            .iter()
            .filter(|(peer, state)| {
                !search.asked.contains(peer)
                    && !state.responses.is_paused(view.ms)
                    && !state.blocks.has_failed(&hash)
            })
            .map(|(peer, state)| {
                let lot = mix(self.settings.seed ^ view.ms, peer.0);
                (state.inbound, lot, *peer)
            })
            .collect();
        others.sort_unstable();
        for (_, _, peer) in others.into_iter().take(wanted) {
            let request = Request::Blocks(vec![hash]);
            let context = RequestContext::SearchedBlock(hash);
            let asked = self.ask(view, peer, context, request).is_some();
            if let Some(search) = self.searches.all.get_mut(&hash) {
                search.asked.insert(peer);
                search.open += usize::from(asked);
            }
        }
    }

    /// Handles the answer to a request within a search. An answer without the block is no
    /// offence: the peer has not claimed to have it.
    pub(super) fn take_searched_block(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        hash: BlockHash,
        mut blocks: Vec<Block>,
    ) -> Result<(), StoreError> {
        let Some(block) = blocks.pop() else {
            return Ok(());
        };
        if !blocks.is_empty() || block.header.hash() != hash {
            self.offend(view, peer, Offence::Unrequested);
            return Ok(());
        }
        let Some(known) = self.headers.locate(view, &hash)? else {
            return Ok(());
        };
        // The peer has now shown that it has the block.
        self.shows_at_least(view, peer, hash, known.chain_work)?;
        self.searches.end(&hash);
        if !known.stored {
            self.download.keep(block, hash, peer, known.height.0);
        }
        Ok(())
    }

    /// A request within a search has ended. If the block is still missing, the next peer is
    /// asked.
    pub(super) fn search_request_ended(&mut self, view: &NodeView<'_>, hash: BlockHash) {
        if let Some(search) = self.searches.all.get_mut(&hash) {
            search.open = search.open.saturating_sub(1);
            self.ask_around(view, hash);
        }
    }

    /// Ends searches that have lasted too long. Once all requests of a round have been
    /// answered, the next round asks the same peers: a peer may get a block a moment after
    /// it said that it had none.
    pub(super) fn sweep_searches(&mut self, view: &NodeView<'_>) {
        let headers = &self.headers;
        let before = self.searches.len();
        self.searches.all.retain(|hash, search| {
            headers.get(hash).is_some() && view.ms.saturating_sub(search.since_ms) < SEARCH_MS
        });
        if self.searches.len() < before {
            self.headers.mark_for_collection();
        }
        let searched: Vec<BlockHash> = self.searches.hashes().collect();
        for hash in searched {
            if let Some(search) = self.searches.all.get_mut(&hash)
                && search.open == 0
            {
                search.asked.clear();
            }
            self.ask_around(view, hash);
        }
    }
}
