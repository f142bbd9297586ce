//! What a failed request means: which peers are asked instead, and what is held against
//! the peer. Bad luck alone must not get an honest peer banned.

use std::collections::BTreeSet;

use super::SyncState;
use super::node_view::NodeView;
use super::peer_events::{Offence, PeerKey, RequestFailure};
use super::requests::{InFlight, RequestContext, STALL_MS};

/// A peer that did not answer is asked for its status after this.
const AFTER_SILENCE_MS: u64 = 5_000;
/// A peer that does not answer so many times in a row is disconnected.
const SILENCE_MAX: u32 = 3;
/// An outbound peer that declines so many times in a row is disconnected.
const DECLINES_MAX: u32 = 5;
/// If most peers fall silent together, the fault is taken to be in our own network
/// connection, for so long. After that, silence counts against the peers again.
const OUTAGE_MS: u64 = 60_000;
/// Silent peers are excused in this way at most once within this.
const OUTAGE_INTERVAL_MS: u64 = 600_000;

/// How reliably one peer answers.
#[derive(Debug, Default)]
pub(super) struct Responsiveness {
    /// No large request before this: the peer has stalled or failed.
    paused_until_ms: u64,
    /// Time-outs in a row.
    silence: u32,
    /// When a time-out was last counted. Requests sent before it count with it.
    silent_ms: Option<u64>,
    answered_ms: Option<u64>,
    /// Declined requests in a row.
    declines: u32,
    /// When one was last counted. Requests sent before it count with it.
    declined_ms: Option<u64>,
}

impl Responsiveness {
    pub(super) fn is_paused(&self, now_ms: u64) -> bool {
        self.paused_until_ms > now_ms
    }

    pub(super) fn pause(&mut self, now_ms: u64) {
        self.paused_until_ms = now_ms.saturating_add(STALL_MS);
    }

    pub(super) fn answered(&mut self, now_ms: u64) {
        self.silence = 0;
        self.declines = 0;
        self.answered_ms = Some(now_ms);
    }

    fn has_answered_since(&self, ms: u64) -> bool {
        self.answered_ms.is_some_and(|when| when >= ms)
    }

    /// Counts a declined request; returns whether there have been too many in a row.
    fn declined(&mut self, sent_ms: u64, now_ms: u64) -> bool {
        if self.declined_ms.is_none_or(|when| sent_ms >= when) {
            self.declines += 1;
            self.declined_ms = Some(now_ms);
        }
        self.declines >= DECLINES_MAX
    }

    /// Notes a time-out, unless it belongs to one that was noted: requests that were under
    /// way together count once, since one lost packet may explain them all.
    fn fell_silent(&mut self, sent_ms: u64, now_ms: u64) -> bool {
        if self.silent_ms.is_some_and(|when| sent_ms < when) {
            return false;
        }
        self.silent_ms = Some(now_ms);
        true
    }

    /// Counts a time-out; returns whether there have been too many in a row.
    fn count_silence(&mut self) -> bool {
        self.silence += 1;
        self.silence >= SILENCE_MAX
    }
}

/// The last time that most peers fell silent together.
#[derive(Debug, Default)]
pub(super) struct LocalOutage(Option<Outage>);

#[derive(Debug, Clone, Copy)]
struct Outage {
    since_ms: u64,
    until_ms: u64,
}

impl LocalOutage {
    /// Whether a request sent at `sent_ms` is excused. `most_are_silent` tells whether most
    /// peers are silent now.
    ///
    /// Requests sent during an outage stay excused when other peers answer again.
    fn excuses(&mut self, sent_ms: u64, most_are_silent: bool, now_ms: u64) -> bool {
        let past = |since_ms: u64| now_ms.saturating_sub(since_ms);
        let last = self.0;
        let last = last.filter(|outage| past(outage.since_ms) < OUTAGE_INTERVAL_MS);
        let mut outage = last.unwrap_or(Outage {
            since_ms: now_ms,
            until_ms: 0,
        });
        if most_are_silent && past(outage.since_ms) < OUTAGE_MS {
            outage.until_ms = now_ms;
            self.0 = Some(outage);
        }
        sent_ms < outage.until_ms
    }
}

impl SyncState {
    /// A request failed.
    pub(super) fn failed(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        failure: RequestFailure,
        request: &InFlight,
    ) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.responses.pause(view.ms);
        }
        if matches!(request.context, RequestContext::Headers(_)) && !request.given_up {
            self.header_request_failed(view, peer);
        }
        match failure {
            RequestFailure::Timeout if !request.given_up => {
                self.timed_out(view, peer, request.sent_ms);
            }
            RequestFailure::Undecodable => self.offend(view, peer, Offence::Malformed),
            RequestFailure::Refused => self.declined_request(view, peer, request),
            // A lost connection is reported as an event of its own.
            RequestFailure::Timeout | RequestFailure::Disconnected => {}
        }
        if !request.stalled {
            self.ask_others(view, peer, &request.context);
        }
    }

    /// Asks other peers for what a request did not bring.
    pub(super) fn ask_others(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        context: &RequestContext,
    ) {
        match context {
            RequestContext::Transactions(txids) => self.fetch_elsewhere(peer, txids),
            RequestContext::SearchedBlock(hash) => self.search_request_ended(view, *hash),
            RequestContext::Blocks(hashes) => self.search_announced(view, peer, hashes),
            _ => {}
        }
    }

    /// A peer declined a request. That is an offence only if the peer itself has announced
    /// the block. An outbound peer that declines everything is of no use and is disconnected.
    fn declined_request(&mut self, view: &NodeView<'_>, peer: PeerKey, request: &InFlight) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let too_many = state.responses.declined(request.sent_ms, view.ms);
        let useless = too_many && !state.inbound;
        let withheld = match &request.context {
            RequestContext::Blocks(hashes) => {
                hashes.iter().any(|hash| state.announcements.contains(hash))
            }
            _ => false,
        };
        if withheld {
            self.offend(view, peer, Offence::Withheld);
        }
        if useless {
            self.let_go(peer, Offence::Declines);
        }
    }

    /// A peer did not answer in time.
    pub(super) fn timed_out(&mut self, view: &NodeView<'_>, peer: PeerKey, sent_ms: u64) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        // Find out soon whether the peer is still there.
        let soon = view.ms.saturating_add(AFTER_SILENCE_MS);
        state.chain.ask_status_at(soon);
        if !state.responses.fell_silent(sent_ms, view.ms) {
            return;
        }
        if self.is_excused(view, peer, sent_ms) {
            tracing::debug!(%peer, "no answer, as from most peers: the fault may be ours");
            return;
        }
        let state = self.peers.get_mut(&peer);
        let too_many = state.is_some_and(|state| state.responses.count_silence());
        self.offend(view, peer, Offence::Timeout);
        if too_many {
            self.let_go(peer, Offence::Timeout);
        }
    }

    /// Whether more peers have been silent than have answered since a request was sent. That
    /// excuses them for a while and not for ever, since one attacker may control them all.
    fn is_excused(&mut self, view: &NodeView<'_>, peer: PeerKey, sent_ms: u64) -> bool {
        let has_answered = |peer: &PeerKey| {
            let state = self.peers.get(peer);
            state.is_some_and(|state| state.responses.has_answered_since(sent_ms))
        };
        let well = self.peers.keys().filter(|peer| has_answered(peer)).count();
        let mut silent: BTreeSet<PeerKey> = self
            .requests
            .slow_peers(view.ms)
            .filter(|peer| !has_answered(peer))
            .collect();
        silent.insert(peer);
        let most_are_silent = silent.len() >= 2 && silent.len() > well;
        self.local_outage.excuses(sent_ms, most_are_silent, view.ms)
    }
}
