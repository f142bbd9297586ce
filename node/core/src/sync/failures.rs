//! What it means that a request failed: who else is asked, and what is held against
//! the peer. Bad luck must not cost an honest one anything.

use std::collections::BTreeSet;

use pithead_consensus::BlockHash;

use super::peer::{Offence, PeerKey, RequestFailure};
use super::peers::Peer;
use super::requests::{Asked, InFlight, STALL_MS};
use super::{SyncState, View};

/// A peer that did not answer is asked for its status after this.
const AFTER_SILENCE_MS: u64 = 5_000;
/// How often in a row a peer may not answer before it is let go.
const SILENCE_MAX: u32 = 3;
/// How often in a row a peer that we called may decline before it is let go.
const DECLINES_MAX: u32 = 5;
/// When most peers fall silent together it is this node's own line, for so long; after
/// that it counts against them all the same.
const OWN_LINE_MS: u64 = 60_000;
/// How often that may be.
const OWN_LINE_INTERVAL_MS: u64 = 600_000;

impl SyncState {
    /// A request failed.
    pub(super) fn failed(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        failure: RequestFailure,
        request: &InFlight,
    ) {
        let quiet = |state: &mut Peer| state.quiet_until_ms = view.ms.saturating_add(STALL_MS);
        self.peers.get_mut(&peer).map(quiet);
        if matches!(request.asked, Asked::Headers(_)) && !request.given_up {
            self.headers_failed(view, peer);
        }
        match failure {
            RequestFailure::Timeout if !request.given_up => {
                self.timed_out(view, peer, request.sent_ms);
            }
            RequestFailure::Undecodable => self.offend(view, peer, Offence::Malformed),
            RequestFailure::Refused => self.declined_request(view, peer, request),
            // A lost connection is told of anyway.
            RequestFailure::Timeout | RequestFailure::Disconnected => {}
        }
        self.ask_others(view, peer, &request.asked, request.stalled);
    }

    /// What a request did not bring is asked of others, unless that was done when it
    /// stalled.
    pub(super) fn ask_others(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        asked: &Asked,
        stalled: bool,
    ) {
        match asked {
            Asked::Transactions(txids) if !stalled => self.retry_elsewhere(peer, txids),
            Asked::Sought(hash) if !stalled => self.sought_ended(view, *hash),
            Asked::Blocks(hashes) if !stalled => self.seek_announced(view, peer, hashes),
            _ => {}
        }
    }

    /// Seeks those blocks that a peer has announced, or the only one that it was asked
    /// for: the next one, that all wait for.
    pub(super) fn seek_announced(&mut self, view: &View<'_>, peer: PeerKey, hashes: &[BlockHash]) {
        for hash in hashes {
            let state = self.peers.get(&peer);
            let announced = state.is_some_and(|state| state.announced.contains(hash));
            if announced || hashes.len() == 1 {
                self.seek(view, *hash, peer);
                if self.searches.seeks(hash) {
                    self.doubt(peer, *hash);
                }
            }
        }
    }

    /// Declining is no offence, unless it is what the peer itself has announced; one
    /// that declines everything is of no use.
    fn declined_request(&mut self, view: &View<'_>, peer: PeerKey, request: &InFlight) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        if state.declined_ms.is_none_or(|when| request.sent_ms >= when) {
            state.declined += 1;
            state.declined_ms = Some(view.ms);
        }
        let useless = state.declined >= DECLINES_MAX && !state.inbound;
        let withheld = match &request.asked {
            Asked::Blocks(hashes) => hashes.iter().any(|hash| state.announced.contains(hash)),
            _ => false,
        };
        if withheld {
            self.offend(view, peer, Offence::Withheld);
        }
        if useless && self.peers.contains_key(&peer) {
            self.let_go(peer, Offence::Declines);
        }
    }

    /// A peer did not answer in time. Requests that were under way together count
    /// once: that may be one lost packet.
    pub(super) fn timed_out(&mut self, view: &View<'_>, peer: PeerKey, sent_ms: u64) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        // Find out soon whether it is still there.
        state.status_due_ms = view.ms.saturating_add(AFTER_SILENCE_MS);
        if state.silent_ms.is_some_and(|when| sent_ms < when) {
            return;
        }
        state.silent_ms = Some(view.ms);
        if self.is_own_line(view, peer, sent_ms) {
            tracing::debug!(%peer, "no answer, as from most: it is our own line");
            return;
        }
        let silence = self.peers.get_mut(&peer).map_or(0, |state| {
            state.silence += 1;
            state.silence
        });
        self.offend(view, peer, Offence::Timeout);
        if silence >= SILENCE_MAX && self.peers.contains_key(&peer) {
            self.let_go(peer, Offence::Timeout);
        }
    }

    /// Whether more peers have been silent than have answered since a request was
    /// sent. That excuses them for a while, not for ever: they may be all of one kind.
    fn is_own_line(&mut self, view: &View<'_>, peer: PeerKey, sent_ms: u64) -> bool {
        let answered = |state: &&Peer| state.answered_ms.is_some_and(|when| when >= sent_ms);
        let well = self.peers.values().filter(answered).count();
        let mut silent: BTreeSet<PeerKey> = self
            .requests
            .slow_peers(view.ms)
            .filter(|peer| {
                let state = self.peers.get(peer);
                !state.is_some_and(|state| answered(&state))
            })
            .collect();
        silent.insert(peer);
        let most_are = silent.len() >= 2 && silent.len() > well;
        let past = |since: u64| view.ms.saturating_sub(since);
        let known = self.requests.own_line;
        let known = known.filter(|(since, _)| past(*since) < OWN_LINE_INTERVAL_MS);
        let (since, mut last) = known.unwrap_or((view.ms, 0));
        if most_are && past(since) < OWN_LINE_MS {
            last = view.ms;
            self.requests.own_line = Some((since, last));
        }
        // What was sent while it lasted is excused, also if others are back by now.
        sent_ms < last
    }
}
