//! Which peers are asked for headers, and when. A peer's claim costs it nothing, so the
//! few places are given by lot and not to the peer that claims most. What an answer means
//! is in `header_answers`.

use pithead_consensus::{BlockHash, Height};

use super::chain_choice::HEADERS_AHEAD_MAX;
use super::headers::HEADERS_KEPT_MAX;
use super::message::{HEADERS_MAX, Request, Status};
use super::node_view::NodeView;
use super::peer_events::{Offence, PeerKey};
use super::requests::RequestContext;
use super::{SyncState, mix};
use crate::store::StoreError;

/// Most peers that are asked for headers at a time.
const HEADER_PEERS_MAX: usize = 3;
/// Most inbound peers among them. One place is always left for an outbound peer, however
/// many inbound peers claim more.
const HEADER_PEERS_INBOUND_MAX: usize = 2;
/// A peer that leaves so many requests for headers in a row unanswered, or declines them,
/// is disconnected.
const HEADERS_FAILED_MAX: u32 = 3;
/// The pause after the first failure. It doubles with each further failure.
const HEADERS_RETRY_MS: u64 = 10_000;

/// The requests for headers to one peer.
#[derive(Debug, Default)]
pub(super) struct HeaderRequests {
    /// The peer has, or claims to have, headers that are not known here.
    wanted: bool,
    /// A request is under way.
    open: bool,
    /// How many requests in a row have failed.
    failures: u32,
    /// No request before this, milliseconds: the pause after a failure.
    retry_ms: u64,
    /// No request before this, Unix seconds: the peer's next header is ahead of the clock
    /// until then. Zero if it is not.
    from_secs: u64,
    /// The last header of a full answer. The next request goes on from there.
    next: Option<(BlockHash, Height)>,
    /// The last answer led to nothing new, so the peer's claim no longer counts.
    doubted: bool,
}

impl HeaderRequests {
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn set_wanted(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// The peer has a header that may be asked for at `from_secs`, Unix seconds.
    pub(super) fn want_from(&mut self, from_secs: u64) {
        self.wanted = true;
        self.from_secs = from_secs;
    }

    /// A full answer came: the next request goes on from its last header.
    pub(super) fn go_on_from(&mut self, last: Option<(BlockHash, Height)>) {
        self.wanted = true;
        self.next = last;
    }

    /// Whether the peer's claim still counts: an answer is due, the peer has not failed,
    /// and its last answer was of use.
    pub(super) fn is_claim_open(&self) -> bool {
        (self.wanted || self.open) && self.failures == 0 && !self.doubted
    }

    pub(super) fn set_doubted(&mut self, doubted: bool) {
        self.doubted = doubted;
    }

    fn is_ready(&self, view: &NodeView<'_>) -> bool {
        self.wanted && !self.open && self.from_secs <= view.unix_secs && self.retry_ms <= view.ms
    }

    fn sent(&mut self) {
        self.open = true;
        self.wanted = false;
        self.from_secs = 0;
    }

    /// The request was answered or given up.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// Headers came. Returns where the request went on from, if it followed a full answer.
    pub(super) fn answered(&mut self) -> Option<(BlockHash, Height)> {
        self.wanted = false;
        self.failures = 0;
        self.next.take()
    }

    /// Counts a failure; returns whether there have been too many.
    fn fail(&mut self, now_ms: u64) -> bool {
        let pause = HEADERS_RETRY_MS << self.failures.min(HEADERS_FAILED_MAX);
        self.failures += 1;
        self.wanted = true;
        self.retry_ms = now_ms.saturating_add(pause);
        self.failures >= HEADERS_FAILED_MAX
    }
}

impl SyncState {
    /// A peer left a request for headers unanswered, or declined it. Each failure puts its
    /// claim further behind those of other peers, whatever else it answers.
    pub(super) fn header_request_failed(&mut self, view: &NodeView<'_>, peer: PeerKey) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        if state.headers.fail(view.ms) {
            self.let_go(peer, Offence::UselessHeaders);
        }
    }

    /// Asks a few of the peers that claim a better chain for headers: those with the fewest
    /// failures first, and by lot among them.
    pub(super) fn ask_headers(&mut self, view: &NodeView<'_>) -> Result<(), StoreError> {
        // A peer that is paused does not take up a place.
        let busy = |inbound_only: bool| {
            let busy = self.peers.values().filter(|state| {
                state.headers.open
                    && !state.responses.is_paused(view.ms)
                    && (!inbound_only || state.inbound)
            });
            busy.count()
        };
        let mut free = HEADER_PEERS_MAX.saturating_sub(busy(false));
        let mut free_inbound = HEADER_PEERS_INBOUND_MAX.saturating_sub(busy(true));
        if free == 0 {
            return Ok(());
        }
        let seed = self.settings.seed ^ view.ms;
        let mut ready: Vec<(u32, u64, PeerKey, bool)> = self
            .peers
            .iter()
            .filter(|(_, state)| {
                state.headers.is_ready(view) && !state.responses.is_paused(view.ms)
            })
            .map(|(peer, state)| {
                let lot = mix(seed, peer.0);
                (state.headers.failures, lot, *peer, state.inbound)
            })
            .collect();
        ready.sort_unstable();
        for (_, _, peer, inbound) in ready {
            if free == 0 {
                break;
            }
            if inbound && free_inbound == 0 {
                continue;
            }
            if self.ask_headers_of(view, peer)? {
                free -= 1;
                free_inbound -= usize::from(inbound);
            }
        }
        Ok(())
    }

    fn ask_headers_of(&mut self, view: &NodeView<'_>, peer: PeerKey) -> Result<bool, StoreError> {
        let Some(state) = self.peers.get(&peer) else {
            return Ok(false);
        };
        // Another peer may have shown the same chain meanwhile.
        if let Some(status) = state.chain.status()
            && self.headers.locate(view, &status.best_hash)?.is_some()
            && state.headers.from_secs == 0
        {
            self.shows_claimed_tip(view, peer, status)?;
            return Ok(false);
        }
        // A peer in the middle of showing its chain goes on from its own last header, even
        // if all that it has shown is stored here: its branch may part further up.
        let next = match state.headers.next {
            Some((hash, height)) if self.headers.locate(view, &hash)?.is_some() => {
                Some((hash, height))
            }
            _ => None,
        };
        let from = next.or_else(|| {
            let hash = state.chain.best_known()?;
            self.headers.get(&hash).map(|node| (hash, node.height))
        });
        let ahead = from.map_or(0, |(_, height)| height.0.saturating_sub(view.tip.height.0));
        if ahead > HEADERS_AHEAD_MAX || self.headers.len() + HEADERS_MAX > HEADERS_KEPT_MAX {
            return Ok(false);
        }
        let start = from.map_or_else(|| self.locator_start(view), |(hash, _)| hash);
        let locator = self.headers.locator(view, start)?;
        let request = Request::Headers {
            locator: locator.clone(),
            stop: None,
        };
        let context = RequestContext::Headers(locator);
        if self.ask(view, peer, context, request).is_none() {
            return Ok(false);
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.headers.sent();
        }
        Ok(true)
    }

    /// The tip that a peer claims is known here, so its headers need not be asked for.
    fn shows_claimed_tip(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        status: Status,
    ) -> Result<(), StoreError> {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.headers.wanted = false;
        }
        self.shows_at_least(view, peer, status.best_hash, status.chain_work)
    }

    /// Where a locator starts for a peer that has shown nothing yet.
    fn locator_start(&self, view: &NodeView<'_>) -> BlockHash {
        self.download
            .target()
            .filter(|hash| self.headers.get(hash).is_some())
            .unwrap_or_else(|| view.tip.hash())
    }
}
