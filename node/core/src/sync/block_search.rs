//! Announced blocks that their announcer does not give. Gossip shows only the first
//! of those who have a block, so others are asked for it at once, whether they are
//! known to have it or not: whoever announces first and then declines delays a
//! block by no more than another round trip.

use std::collections::{BTreeMap, BTreeSet};

use pithead_consensus::{Block, BlockHash};

use super::message::Request;
use super::peer::{Offence, PeerKey};
use super::requests::Asked;
use super::{SyncState, View, mix};
use crate::store::StoreError;

/// Most blocks sought at a time: each has cost someone its work.
const SOUGHT_MAX: usize = 8;
/// Peers asked at once.
const ASKED_AT_ONCE: usize = 3;
/// A block that nobody gives is not sought for longer.
const SEEK_MS: u64 = 20_000;

/// A block that is sought.
#[derive(Debug)]
struct Search {
    since_ms: u64,
    /// Who was asked in this round.
    asked: BTreeSet<PeerKey>,
    /// Requests for it without an answer.
    open: usize,
}

/// Blocks that are sought.
#[derive(Debug, Default)]
pub(super) struct Searches {
    all: BTreeMap<BlockHash, Search>,
    /// Blocks that peers were to give who have left, and those peers.
    orphaned: Vec<(BlockHash, PeerKey)>,
}

impl Searches {
    /// Blocks that somebody has announced, though nobody shows to have them now.
    pub(super) fn sought(&self) -> impl Iterator<Item = BlockHash> {
        self.all.keys().copied()
    }

    pub(super) fn seeks(&self, hash: &BlockHash) -> bool {
        self.all.contains_key(hash)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn end(&mut self, hash: &BlockHash) {
        self.all.remove(hash);
    }

    /// A peer has left that was to give these.
    pub(super) fn orphan(&mut self, hashes: &[BlockHash], peer: PeerKey) {
        let orphaned = hashes.iter().map(|hash| (*hash, peer));
        self.orphaned.extend(orphaned.take(SOUGHT_MAX));
    }

    /// A peer has left that was asked whether it has this.
    pub(super) fn lost(&mut self, hash: &BlockHash) {
        if let Some(search) = self.all.get_mut(hash) {
            search.open = search.open.saturating_sub(1);
        }
    }
}

impl SyncState {
    /// A peer did not give a block that it should have: asks others for it.
    pub(super) fn seek(&mut self, view: &View<'_>, hash: BlockHash, but: PeerKey) {
        if self.status.syncing || self.headers.get(&hash).is_none() {
            return;
        }
        let full = self.searches.len() >= SOUGHT_MAX;
        match self.searches.all.get_mut(&hash) {
            Some(search) => {
                search.asked.insert(but);
            }
            None if full => return,
            None => {
                let search = Search {
                    since_ms: view.ms,
                    asked: BTreeSet::from([but]),
                    open: 0,
                };
                self.searches.all.insert(hash, search);
            }
        }
        self.ask_around(view, hash);
    }

    /// Asks others for what peers were to give who have left.
    pub(super) fn seek_orphaned(&mut self, view: &View<'_>) {
        for (hash, peer) in std::mem::take(&mut self.searches.orphaned) {
            self.seek(view, hash, peer);
        }
    }

    /// The peer did not give what it showed to have: it no longer counts as having
    /// it.
    pub(super) fn doubt(&mut self, peer: PeerKey, hash: BlockHash) {
        if let Some(state) = self.peers.get_mut(&peer)
            && state.best_known == Some(hash)
        {
            state.best_known = None;
            state.shared = None;
            self.collect = true;
        }
    }

    fn ask_around(&mut self, view: &View<'_>, hash: BlockHash) {
        let Some(search) = self.searches.all.get(&hash) else {
            return;
        };
        let wanted = ASKED_AT_ONCE.saturating_sub(search.open);
        let mut others: Vec<(bool, u64, PeerKey)> = self
            .peers
            .iter()
            .filter(|(peer, state)| {
                !search.asked.contains(peer)
                    && state.quiet_until_ms <= view.ms
                    && !state.failed_bodies.contains(&hash)
            })
            // Those that this node chose first: nobody else chose them for it.
            .map(|(peer, state)| {
                let chance = mix(self.settings.seed ^ view.ms, peer.0);
                (state.inbound, chance, *peer)
            })
            .collect();
        others.sort_unstable();
        for (_, _, peer) in others.into_iter().take(wanted) {
            let request = Request::Blocks(vec![hash]);
            let asked = self.ask(view, peer, Asked::Sought(hash), request).is_some();
            if let Some(search) = self.searches.all.get_mut(&hash) {
                search.asked.insert(peer);
                search.open += usize::from(asked);
            }
        }
    }

    /// Takes in the answer to a request for a block that is sought; a peer that does
    /// not have it has promised nothing.
    pub(super) fn take_sought(
        &mut self,
        view: &View<'_>,
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
        // From here on it is what this peer shows to have.
        self.shows_at_least(view, peer, hash, known.chain_work)?;
        self.searches.end(&hash);
        if !known.stored {
            self.download.keep(block, hash, peer, known.height.0);
        }
        Ok(())
    }

    /// A request for a sought block has ended, with or without it: the next peer is
    /// asked, if it is still missing.
    pub(super) fn sought_ended(&mut self, view: &View<'_>, hash: BlockHash) {
        if let Some(search) = self.searches.all.get_mut(&hash) {
            search.open = search.open.saturating_sub(1);
            self.ask_around(view, hash);
        }
    }

    /// Peers come to have a block a moment after it is announced: asks again those
    /// that did not have it.
    pub(super) fn sweep_searches(&mut self, view: &View<'_>) {
        let headers = &self.headers;
        let before = self.searches.len();
        self.searches.all.retain(|hash, search| {
            headers.get(hash).is_some() && view.ms.saturating_sub(search.since_ms) < SEEK_MS
        });
        self.collect |= self.searches.len() < before;
        let sought: Vec<BlockHash> = self.searches.sought().collect();
        for hash in sought {
            if let Some(search) = self.searches.all.get_mut(&hash)
                && search.open == 0
            {
                search.asked.clear();
            }
            self.ask_around(view, hash);
        }
    }
}
