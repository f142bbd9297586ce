//! Whom to ask for headers. What a peer promises costs it nothing, so it is not by
//! promises that those are chosen who get one of the few places.

use super::chain_choice::HEADERS_AHEAD_MAX;
use super::headers::HEADERS_KEPT_MAX;
use super::message::{HEADERS_MAX, Request, Status};
use super::peer::{Offence, PeerKey};
use super::requests::Asked;
use super::{SyncState, View, mix};
use crate::store::StoreError;

/// Peers that are asked for headers at a time.
const HEADER_PEERS_MAX: usize = 3;
/// The same of those that called us: one place is kept for a peer of our own choice,
/// however many others promise more.
const HEADER_PEERS_INBOUND_MAX: usize = 2;
/// Requests for headers in a row that a peer may leave unanswered or decline before
/// it is let go.
const HEADERS_FAILED_MAX: u32 = 3;
/// A peer that failed is asked for headers again after this, twice as long each
/// further time.
const HEADERS_RETRY_MS: u64 = 10_000;

impl SyncState {
    /// A peer left a request for headers unanswered, or declined it: what it says of
    /// its chain is worth less each time, whatever else it answers.
    pub(super) fn headers_failed(&mut self, view: &View<'_>, peer: PeerKey) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let pause = HEADERS_RETRY_MS << state.headers_failed.min(HEADERS_FAILED_MAX);
        state.headers_failed += 1;
        state.headers_wanted = true;
        state.headers_retry_ms = view.ms.saturating_add(pause);
        if state.headers_failed >= HEADERS_FAILED_MAX {
            self.let_go(peer, Offence::UselessHeaders);
        }
    }

    /// Asks for headers: a few of those who promise a better chain at a time, by lot,
    /// since promising costs nothing.
    pub(super) fn ask_headers(&mut self, view: &View<'_>) -> Result<(), StoreError> {
        let busy = |inbound_too: bool| {
            let busy = self.peers.values().filter(|state| {
                state.headers_asked
                    && state.quiet_until_ms <= view.ms
                    && (inbound_too || state.inbound)
            });
            busy.count()
        };
        let mut free = HEADER_PEERS_MAX.saturating_sub(busy(true));
        let mut free_inbound = HEADER_PEERS_INBOUND_MAX.saturating_sub(busy(false));
        if free == 0 {
            return Ok(());
        }
        let seed = self.settings.seed ^ view.ms;
        let mut willing: Vec<(u32, u64, PeerKey, bool)> = self
            .peers
            .iter()
            .filter(|(_, state)| {
                state.headers_wanted
                    && !state.headers_asked
                    && state.headers_from_secs <= view.unix_secs
                    && state.headers_retry_ms <= view.ms
                    && state.quiet_until_ms <= view.ms
            })
            .map(|(peer, state)| {
                let lot = mix(seed, peer.0);
                (state.headers_failed, lot, *peer, state.inbound)
            })
            .collect();
        willing.sort_unstable();
        for (_, _, peer, inbound) in willing {
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

    fn ask_headers_of(&mut self, view: &View<'_>, peer: PeerKey) -> Result<bool, StoreError> {
        let Some(state) = self.peers.get(&peer) else {
            return Ok(false);
        };
        // Another peer may have shown the same chain meanwhile.
        if let Some(status) = state.status
            && self.headers.locate(view, &status.best_hash)?.is_some()
            && state.headers_from_secs == 0
        {
            self.shows_and_rests(view, peer, status)?;
            return Ok(false);
        }
        // Its own last header, if it is in the middle of showing its chain: also where
        // all of it is stored here, since a branch may part further up.
        let next = match state.headers_next {
            Some((hash, height)) if self.headers.locate(view, &hash)?.is_some() => {
                Some((hash, height))
            }
            _ => None,
        };
        let own = next.or_else(|| {
            let hash = state.best_known?;
            self.headers.get(&hash).map(|node| (hash, node.height))
        });
        let ahead = own.map_or(0, |(_, height)| height.0.saturating_sub(view.tip.height.0));
        if ahead > HEADERS_AHEAD_MAX || self.headers.len() + HEADERS_MAX > HEADERS_KEPT_MAX {
            return Ok(false);
        }
        let start = own.map_or_else(|| self.locator_start(view), |(hash, _)| hash);
        let locator = self.headers.locator(view, start)?;
        let request = Request::Headers {
            locator: locator.clone(),
            stop: None,
        };
        if self
            .ask(view, peer, Asked::Headers(locator), request)
            .is_none()
        {
            return Ok(false);
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.headers_asked = true;
            state.headers_wanted = false;
            state.headers_from_secs = 0;
        }
        Ok(true)
    }

    fn shows_and_rests(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        status: Status,
    ) -> Result<(), StoreError> {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.headers_wanted = false;
        }
        self.shows_at_least(view, peer, status.best_hash, status.chain_work)
    }
}
