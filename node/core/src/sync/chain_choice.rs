//! Whose chain to follow: what peers say of their chains, their headers, and
//! the best branch that somebody has the blocks of.

use pithead_consensus::{BlockHash, BlockHeader, Height, Work};

use super::headers::{HEADERS_KEPT_MAX, HeaderNode, Kept, Known, Refusal};
use super::message::{HEADERS_MAX, Status};
use super::peer::{Offence, PeerKey};
use super::peers::Secured;
use super::{SyncState, View};
use crate::chain::UNDO_BLOCKS;
use crate::store::StoreError;

/// How far headers run ahead of the stored chain; more are asked for once
/// blocks have followed.
pub(super) const HEADERS_AHEAD_MAX: u64 = 50_000;
/// Most headers of one peer in a row that have less work than the chain that
/// is there, for each block that can be undone: easier blocks may be more.
const LOW_WORK_HEADERS_RATIO: u64 = 2;
/// The same, however much can be undone: half of all that are kept.
const LOW_WORK_HEADERS_MAX: u64 = HEADERS_KEPT_MAX as u64 / 2;
/// Answers in a row that may fall short of a status, as after a race.
const EMPTY_ANSWERS_MAX: u32 = 1;
/// A branch that ended this far below the tip is not waited for.
const STALE_BLOCKS: u64 = 6;

impl SyncState {
    /// Takes in what a peer says of its chain.
    pub(super) fn take_status(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        status: Status,
        asked_ms: u64,
    ) -> Result<(), StoreError> {
        if self.headers.is_condemned(&status.best_hash) {
            self.offend(view, peer, Offence::InvalidBlock);
            return Ok(());
        }
        // Gossip overtakes answers: what a peer announced since it was asked is
        // not taken back by what it says of the time before.
        let mut overtaken = false;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.status = Some(status);
            overtaken = state.announced_ms.is_some_and(|when| when >= asked_ms);
        }
        match self.headers.locate(view, &status.best_hash)? {
            Some(known) => {
                if overtaken {
                    self.shows_at_least(view, peer, status.best_hash, known.chain_work)?;
                } else {
                    self.shows(peer, status.best_hash);
                }
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.empty_answers = 0;
                }
            }
            None => {
                let better = status.chain_work > view.tip.chain_work || self.astray;
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.headers_wanted = better;
                }
            }
        }
        Ok(())
    }

    /// A peer told its status unasked: gossip may have kept its last block from us.
    pub(crate) fn told_status(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        status: Status,
    ) -> Result<(), StoreError> {
        if !self.peers.contains_key(&peer) {
            return Ok(());
        }
        self.take_status(view, peer, status, view.ms)
    }

    /// A peer has this block and all before it.
    pub(super) fn shows(&mut self, peer: PeerKey, hash: BlockHash) {
        if let Some(state) = self.peers.get_mut(&peer)
            && state.best_known != Some(hash)
        {
            state.best_known = Some(hash);
            state.shared = None;
        }
    }

    /// The same, unless it showed more work before: gossip overtakes.
    pub(super) fn shows_at_least(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        hash: BlockHash,
        work: Work,
    ) -> Result<(), StoreError> {
        let before = self.peers.get(&peer).and_then(|state| state.best_known);
        let more = match before {
            Some(before) => self.headers.locate(view, &before)?,
            None => None,
        };
        if more.is_none_or(|known| known.chain_work <= work) {
            self.shows(peer, hash);
        }
        Ok(())
    }

    /// Takes in headers: the answer to `locator`.
    pub(super) fn take_headers(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        locator: &[BlockHash],
        headers: &[BlockHeader],
    ) -> Result<(), StoreError> {
        let mut before = None;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.headers_wanted = false;
            state.headers_failed = 0;
            before = state.headers_next.take();
        }
        let Some(first) = headers.first() else {
            return self.no_headers(view, peer);
        };
        if !locator.contains(&first.prev) || headers.len() > HEADERS_MAX {
            self.offend(view, peer, Offence::UselessHeaders);
            return Ok(());
        }
        let mut last: Option<(BlockHash, Known)> = None;
        let mut new = 0_usize;
        for header in headers {
            if last.is_some_and(|(hash, _)| hash != header.prev) {
                self.offend(view, peer, Offence::Malformed);
                return Ok(());
            }
            match self.headers.keep(view, header)? {
                Ok(kept) => {
                    new += usize::from(kept.new);
                    last = Some((kept.hash, kept.known));
                }
                Err(Refusal::Early(from_secs)) => {
                    self.ask_headers_from(peer, from_secs);
                    self.took_headers(view, peer, last, new)?;
                    self.doubt_headers(peer, true);
                    return Ok(());
                }
                Err(Refusal::NotFinal) => {
                    // It may not know better: what it has is merely of no use.
                    self.took_headers(view, peer, last, new)?;
                    self.doubt_headers(peer, true);
                    return Ok(());
                }
                Err(Refusal::Full) => {
                    self.took_headers(view, peer, last, new)?;
                    self.doubt_headers(peer, new == 0);
                    self.make_room(view);
                    return Ok(());
                }
                Err(Refusal::Unconnected) => {
                    // What the locator named was dropped meanwhile.
                    if let Some(state) = self.peers.get_mut(&peer) {
                        state.headers_wanted = true;
                    }
                    return Ok(());
                }
                Err(refusal) => {
                    self.collect = true;
                    let offence = match refusal {
                        Refusal::Condemned => Offence::InvalidBlock,
                        _ => Offence::InvalidHeader,
                    };
                    self.offend(view, peer, offence);
                    return Ok(());
                }
            }
        }
        // What ends where the locator begins leads nowhere; no chain that holds
        // its first hash is shown from further down.
        if last.is_some_and(|(hash, _)| locator.first() == Some(&hash)) {
            self.offend(view, peer, Offence::UselessHeaders);
            return Ok(());
        }
        self.took_headers(view, peer, last, new)?;
        // Only what leads on to more that is new makes the rest of it likely: what is
        // known already can be told as slowly as one likes, and costs nothing.
        self.doubt_headers(peer, new == 0 || headers.len() < HEADERS_MAX);
        if headers.len() == HEADERS_MAX {
            let last = last.map(|(hash, known)| (hash, known.height));
            if let Some(state) = self.peers.get_mut(&peer) {
                state.headers_wanted = true;
                state.headers_next = last;
            }
            // What is known already has to lead on.
            let height = |one: Option<(BlockHash, Height)>| one.map(|(_, height)| height);
            if new == 0 && before.is_some() && height(last) <= height(before) {
                self.offend(view, peer, Offence::UselessHeaders);
            }
        } else if let Some((_, known)) = last {
            self.end_of_headers(view, peer, &known);
        }
        Ok(())
    }

    /// Whether what this peer promised can be had from it is in doubt now.
    fn doubt_headers(&mut self, peer: PeerKey, doubted: bool) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.headers_doubted = doubted;
        }
    }

    fn ask_headers_from(&mut self, peer: PeerKey, from_secs: u64) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.headers_wanted = true;
            state.headers_from_secs = from_secs;
        }
    }

    /// Books what a run of headers brought.
    fn took_headers(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        last: Option<(BlockHash, Known)>,
        new: usize,
    ) -> Result<(), StoreError> {
        let Some((hash, known)) = last else {
            return Ok(());
        };
        let enough = view.tip.chain_work.max(self.settings.minimum_chain_work);
        self.shows(peer, hash);
        let low = self.peers.get_mut(&peer).map_or(0, |state| {
            state.empty_answers = 0;
            state.low_work_headers = if known.chain_work > enough {
                0
            } else {
                state.low_work_headers.saturating_add(new)
            };
            state.low_work_headers
        });
        let reach = view.undo_reach()?.max(UNDO_BLOCKS);
        let most = reach
            .saturating_mul(LOW_WORK_HEADERS_RATIO)
            .min(LOW_WORK_HEADERS_MAX);
        let too_many = known.chain_work <= view.tip.chain_work && low as u64 > most;
        if too_many {
            self.offend(view, peer, Offence::UselessHeaders);
        }
        if too_many && self.peers.contains_key(&peer) {
            self.let_go(peer, Offence::UselessHeaders);
        }
        Ok(())
    }

    /// A peer has shown all its headers: they must keep what its status
    /// promised, since an honest chain never loses work.
    fn end_of_headers(&mut self, view: &View<'_>, peer: PeerKey, end: &Known) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let promised = state.status.map_or(Work::ZERO, |status| status.chain_work);
        state.low_work_headers = 0;
        let behind = end.chain_work <= view.tip.chain_work;
        if behind && !self.astray && !end.stored && end.height.0 + STALE_BLOCKS < view.tip.height.0
        {
            state.best_known = None;
            state.shared = None;
            self.collect = true;
        }
        if end.chain_work < promised {
            self.offend(view, peer, Offence::UselessHeaders);
        }
    }

    /// A peer has nothing after the locator, although its status said so.
    fn no_headers(&mut self, view: &View<'_>, peer: PeerKey) -> Result<(), StoreError> {
        let Some(state) = self.peers.get_mut(&peer) else {
            return Ok(());
        };
        let unknown = match state.status {
            Some(status) => self.headers.locate(view, &status.best_hash)?.is_none(),
            None => false,
        };
        if !unknown {
            return Ok(());
        }
        state.empty_answers += 1;
        state.headers_doubted = true;
        if state.empty_answers > EMPTY_ANSWERS_MAX {
            self.offend(view, peer, Offence::UselessHeaders);
        }
        // Its chain may have changed in between.
        self.ask_status(view, peer);
        Ok(())
    }

    /// The tree is full: lets the peer go that fills it most with headers that
    /// lead to no better chain.
    fn make_room(&mut self, view: &View<'_>) {
        let worst = self
            .peers
            .iter()
            .filter(|(_, state)| state.low_work_headers > 0)
            .max_by_key(|(peer, state)| (state.low_work_headers, **peer))
            .map(|(peer, _)| *peer);
        if let Some(peer) = worst {
            self.offend(view, peer, Offence::UselessHeaders);
            if self.peers.contains_key(&peer) {
                self.let_go(peer, Offence::UselessHeaders);
            }
        }
        self.collect = true;
    }

    /// Drops headers that nobody claims any more.
    pub(super) fn collect_headers(&mut self) {
        if std::mem::take(&mut self.collect) || self.headers.is_due_for_collection() {
            let claimed = self.peers.values().filter_map(|state| state.best_known);
            let sought = self.searches.sought();
            self.headers.collect(claimed.chain(sought));
        }
    }

    /// Chooses the best branch that some peer has, if it is better than the
    /// chain that is there.
    pub(super) fn choose_target(&mut self, view: &View<'_>) -> Result<(), StoreError> {
        loop {
            let target = self.best_claimed(view)?;
            if self.download.aim(view, &self.headers, target)? {
                return Ok(());
            }
            // It can't be switched to: look for another.
        }
    }

    /// The best branch that some peer has and that beats the chain that is there:
    /// by what is final, what is approved, then work (protocol §8).
    fn best_claimed(&mut self, view: &View<'_>) -> Result<Option<BlockHash>, StoreError> {
        let present = self.secured(view, &view.tip.hash())?;
        let full = Secured {
            final_height: view.finality.last_final().height,
            contains_approved: true,
        };
        let astray = view.checkpoint.is_some() && present != full;
        if astray && !std::mem::replace(&mut self.astray, astray) {
            // The right chain may be one that had too little work to be of interest.
            for state in self.peers.values_mut() {
                state.headers_wanted = true;
            }
        }
        self.astray = astray;
        let mut best = None;
        let mut most = (present, view.tip.chain_work);
        let claims: Vec<(PeerKey, BlockHash, HeaderNode)> = self
            .peers
            .iter()
            .filter_map(|(peer, state)| {
                let hash = state.best_known?;
                Some((*peer, hash, *self.headers.get(&hash)?))
            })
            .collect();
        for (peer, hash, node) in claims {
            // Too little work is waited out, but not for ever: with headers
            // only so far ahead, blocks have to follow.
            let ahead = node.height.0.saturating_sub(view.tip.height.0);
            let enough =
                node.chain_work >= self.settings.minimum_chain_work || ahead > HEADERS_AHEAD_MAX;
            let rank = (self.claim_secured(view, peer, &hash)?, node.chain_work);
            let better =
                rank > most || (rank == most && best.is_some() && self.download.aims_at(&hash));
            if enough && better && !self.download.is_shunned(&hash) {
                best = Some(hash);
                most = rank;
            }
        }
        // What nobody shows to have comes last: it must not keep out its equals.
        let sought: Vec<BlockHash> = self.searches.sought().collect();
        for hash in sought {
            let Some(node) = self.headers.get(&hash).copied() else {
                continue;
            };
            let rank = (self.secured(view, &hash)?, node.chain_work);
            if rank > most && !self.download.is_shunned(&hash) {
                best = Some(hash);
                most = rank;
            }
        }
        Ok(best)
    }

    /// What a peer's chain contains of what is secured, worked out once for each
    /// of its tips.
    fn claim_secured(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        hash: &BlockHash,
    ) -> Result<Secured, StoreError> {
        if view.checkpoint.is_none() {
            return Ok(Secured::default());
        }
        let key = (*hash, view.finality.status());
        if let Some(state) = self.peers.get(&peer)
            && let Some((known, secured)) = state.secured
            && known == key
        {
            return Ok(secured);
        }
        let secured = self.secured(view, hash)?;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.secured = Some((key, secured));
        }
        Ok(secured)
    }

    fn secured(&self, view: &View<'_>, hash: &BlockHash) -> Result<Secured, StoreError> {
        if view.checkpoint.is_none() {
            return Ok(Secured::default());
        }
        let preferred = view.finality.status().preferred();
        Ok(Secured {
            final_height: self.headers.highest_final(view, hash)?.height,
            contains_approved: self.headers.contains(view, hash, &preferred)?,
        })
    }

    /// Keeps an announced header; `Ok(Err)` tells why not.
    pub(super) fn keep_header(
        &mut self,
        view: &View<'_>,
        header: &BlockHeader,
    ) -> Result<Result<Kept, Refusal>, StoreError> {
        self.headers.keep(view, header)
    }
}
