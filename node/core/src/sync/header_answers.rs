//! What a peer's answer with headers means: which headers are kept, whether the claim of
//! its status still counts, and what is held against the peer. Whom to ask is decided in
//! `header_requests`.

use pithead_consensus::{BlockHash, BlockHeader, Height, Work};

use super::SyncState;
use super::headers::{HEADERS_KEPT_MAX, HeaderRefusal, KeptHeader, KnownBlock};
use super::message::HEADERS_MAX;
use super::node_view::NodeView;
use super::peer_events::{Offence, PeerKey};
use crate::chain::UNDO_BLOCKS;
use crate::store::StoreError;

/// A peer may show so many headers in a row with less work than our best chain for each
/// block that can be undone. A branch of easier blocks has more headers than ours.
const LOW_WORK_HEADERS_RATIO: u64 = 2;
/// The same as a fixed limit: half of all headers that are kept.
const LOW_WORK_HEADERS_MAX: u64 = HEADERS_KEPT_MAX as u64 / 2;
/// Empty answers in a row that are excused although the peer's status promised more: its
/// chain may have changed in between.
const EMPTY_ANSWERS_MAX: u32 = 1;
/// A peer's branch is dropped if it ends so many blocks below our tip.
const STALE_BLOCKS: u64 = 6;

/// How useful one peer's answers with headers have been.
#[derive(Debug, Default)]
pub(super) struct HeaderAnswers {
    /// New headers in a row that do not lead to a better chain.
    low_work: usize,
    /// Answers in a row without the headers that its status promised.
    empty: u32,
}

impl HeaderAnswers {
    /// The peer has shown the block that its status names, or new headers.
    pub(super) fn kept_promise(&mut self) {
        self.empty = 0;
    }
}

/// What was kept of one answer.
#[derive(Default)]
struct HeaderRun {
    /// The last header that was kept or known before.
    last: Option<(BlockHash, KnownBlock)>,
    /// How many headers were new.
    new: usize,
    /// The time of the last header of the answer, which may follow a refused one.
    claimed_time: u32,
}

/// Why a run of headers ended.
enum RunEnd {
    /// All headers of the answer are kept.
    Complete,
    /// A header does not follow from the one before it.
    Broken,
    Refused(HeaderRefusal),
}

impl SyncState {
    /// Checks an announced header and keeps it; the inner error says why it is not kept.
    pub(super) fn keep_header(
        &mut self,
        view: &NodeView<'_>,
        header: &BlockHeader,
    ) -> Result<Result<KeptHeader, HeaderRefusal>, StoreError> {
        self.headers.keep(view, header)
    }

    /// Handles the answer to a request with this locator.
    pub(super) fn take_headers(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        locator: &[BlockHash],
        headers: &[BlockHeader],
    ) -> Result<(), StoreError> {
        let state = self.peers.get_mut(&peer);
        let before = state.and_then(|state| state.headers.answered());
        let Some(first) = headers.first() else {
            return self.no_headers(view, peer);
        };
        if !locator.contains(&first.prev) || headers.len() > HEADERS_MAX {
            self.offend(view, peer, Offence::UselessHeaders);
            return Ok(());
        }
        let (run, end) = self.keep_run(view, headers)?;
        match end {
            RunEnd::Complete => self.headers_in_time(peer),
            RunEnd::Broken => {
                self.offend(view, peer, Offence::Malformed);
                return Ok(());
            }
            RunEnd::Refused(refusal) => return self.run_refused(view, peer, &run, refusal),
        }
        // These headers stop at the first hash of our own locator, so they add nothing. A
        // peer that has that block would have answered with the headers above it.
        if run
            .last
            .is_some_and(|(hash, _)| locator.first() == Some(&hash))
        {
            self.offend(view, peer, Offence::UselessHeaders);
            return Ok(());
        }
        self.count_run(view, peer, &run)?;
        // The rest of a claim counts only while full answers bring new headers. Headers that
        // are known already cost a peer nothing, and it could repeat them for ever.
        let is_full = headers.len() == HEADERS_MAX;
        self.doubt_headers(peer, run.new == 0 || !is_full);
        if is_full {
            self.go_on_after(view, peer, &run, before);
        } else if let Some((_, known)) = run.last {
            self.end_of_headers(view, peer, &known);
        }
        Ok(())
    }

    /// Keeps headers in order, up to the first that is refused.
    fn keep_run(
        &mut self,
        view: &NodeView<'_>,
        headers: &[BlockHeader],
    ) -> Result<(HeaderRun, RunEnd), StoreError> {
        let mut run = HeaderRun {
            claimed_time: headers.last().map_or(0, |last| last.time),
            ..HeaderRun::default()
        };
        for header in headers {
            if run.last.is_some_and(|(hash, _)| hash != header.prev) {
                return Ok((run, RunEnd::Broken));
            }
            match self.headers.keep(view, header)? {
                Ok(kept) => {
                    run.new += usize::from(kept.new);
                    run.last = Some((kept.hash, kept.known));
                }
                Err(refusal) => return Ok((run, RunEnd::Refused(refusal))),
            }
        }
        Ok((run, RunEnd::Complete))
    }

    /// Handles an answer of which only the headers before a refused one were kept.
    fn run_refused(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        run: &HeaderRun,
        refusal: HeaderRefusal,
    ) -> Result<(), StoreError> {
        match refusal {
            HeaderRefusal::FromFuture(future) => {
                self.header_from_future(view, peer, future, run.claimed_time);
                self.count_run(view, peer, run)?;
                self.doubt_headers(peer, true);
            }
            // A peer that offers that chain is not penalised: it may not know the final
            // block.
            HeaderRefusal::ContradictsFinal => {
                self.count_run(view, peer, run)?;
                self.doubt_headers(peer, true);
            }
            HeaderRefusal::Full => {
                self.count_run(view, peer, run)?;
                self.doubt_headers(peer, run.new == 0);
                self.make_room(view);
            }
            // The block that the locator named has been dropped since: ask again.
            HeaderRefusal::UnknownParent => {
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.headers.want();
                }
            }
            HeaderRefusal::KnownInvalid | HeaderRefusal::Invalid => {
                self.headers.mark_for_collection();
                let offence = match refusal {
                    HeaderRefusal::KnownInvalid => Offence::InvalidBlock,
                    _ => Offence::InvalidHeader,
                };
                self.offend(view, peer, offence);
            }
        }
        Ok(())
    }

    /// A full answer came, so there may be more. `before` is where its request went on from.
    fn go_on_after(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        run: &HeaderRun,
        before: Option<(BlockHash, Height)>,
    ) {
        let last = run.last.map(|(hash, known)| (hash, known.height));
        if let Some(state) = self.peers.get_mut(&peer) {
            state.headers.go_on_from(last);
        }
        // Headers that are known already must at least lead further up than those before.
        let height = |one: Option<(BlockHash, Height)>| one.map(|(_, height)| height);
        if run.new == 0 && before.is_some() && height(last) <= height(before) {
            self.offend(view, peer, Offence::UselessHeaders);
        }
    }

    fn doubt_headers(&mut self, peer: PeerKey, doubted: bool) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.headers.set_doubted(doubted);
        }
    }

    /// Records the last block of a run as shown, and counts headers that lead to no better
    /// chain.
    fn count_run(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        run: &HeaderRun,
    ) -> Result<(), StoreError> {
        let Some((hash, known)) = run.last else {
            return Ok(());
        };
        let enough = view.tip.chain_work.max(self.settings.minimum_chain_work);
        self.shows(peer, hash);
        let low_work = self.peers.get_mut(&peer).map_or(0, |state| {
            let answers = &mut state.header_answers;
            answers.empty = 0;
            answers.low_work = if known.chain_work > enough {
                0
            } else {
                answers.low_work.saturating_add(run.new)
            };
            answers.low_work
        });
        let depth = view.reorg_depth_max()?.max(UNDO_BLOCKS);
        let most = depth
            .saturating_mul(LOW_WORK_HEADERS_RATIO)
            .min(LOW_WORK_HEADERS_MAX);
        if known.chain_work <= view.tip.chain_work && low_work as u64 > most {
            self.offend(view, peer, Offence::UselessHeaders);
            self.let_go(peer, Offence::UselessHeaders);
        }
        Ok(())
    }

    /// A peer has shown all its headers. They must have the work that its status promised,
    /// since the chain of an honest node never loses work.
    fn end_of_headers(&mut self, view: &NodeView<'_>, peer: PeerKey, end: &KnownBlock) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let status = state.chain.status();
        let promised = status.map_or(Work::ZERO, |status| status.chain_work);
        state.header_answers.low_work = 0;
        let is_worse = end.chain_work <= view.tip.chain_work;
        let is_stale = end.height.0 + STALE_BLOCKS < view.tip.height.0;
        if is_worse && !self.off_certified_chain && !end.stored && is_stale {
            state.chain.retract();
            self.headers.mark_for_collection();
        }
        if end.chain_work < promised {
            self.offend(view, peer, Offence::UselessHeaders);
        }
    }

    /// A peer has no headers after the locator, although its status named a block that is
    /// not known here.
    fn no_headers(&mut self, view: &NodeView<'_>, peer: PeerKey) -> Result<(), StoreError> {
        let Some(state) = self.peers.get_mut(&peer) else {
            return Ok(());
        };
        let unknown = match state.chain.status() {
            Some(status) => self.headers.locate(view, &status.best_hash)?.is_none(),
            None => false,
        };
        if !unknown {
            return Ok(());
        }
        state.header_answers.empty += 1;
        state.headers.set_doubted(true);
        if state.header_answers.empty > EMPTY_ANSWERS_MAX {
            self.offend(view, peer, Offence::UselessHeaders);
        }
        // Its chain may have changed in between.
        self.ask_status(view, peer);
        Ok(())
    }

    /// The header tree is full: disconnects the peer with the most headers in it that lead
    /// to no better chain.
    fn make_room(&mut self, view: &NodeView<'_>) {
        let worst = self
            .peers
            .iter()
            .filter(|(_, state)| state.header_answers.low_work > 0)
            .max_by_key(|(peer, state)| (state.header_answers.low_work, **peer))
            .map(|(peer, _)| *peer);
        if let Some(peer) = worst {
            self.offend(view, peer, Offence::UselessHeaders);
            self.let_go(peer, Offence::UselessHeaders);
        }
        self.headers.mark_for_collection();
    }
}
