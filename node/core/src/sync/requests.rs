//! Requests to peers and what became of them: answers, stalls and deadlines. What a failure
//! means for the peer is in `failures`.
//!
//! A request goes through these states:
//! 1. It is sent.
//! 2. After its stall time it has *stalled*: another peer is asked for the same.
//! 3. After [`REQUEST_MS`] it is *given up*: it counts as not answered, and no longer against
//!    the peer's limits of its kind.
//! 4. The shell reports its outcome, and it is forgotten. An answer is of use in any state.

use std::collections::BTreeMap;

use pithead_consensus::{BlockHash, Certificate, SignedApproval, SignedTransaction, Txid};

use super::message::{Request, Response};
use super::node_view::NodeView;
use super::peer_events::{Offence, PeerKey, RequestFailure, RequestId};
use super::{PeerEffect, SyncState};
use crate::store::StoreError;

/// Most requests to one peer without an outcome, those given up included.
const PEER_REQUESTS_MAX: usize = 16;
/// A request without an answer is given up after this (node policy: request).
const REQUEST_MS: u64 = 20_000;
/// A request without an outcome is forgotten after this. The shell's own limit is
/// [`REQUEST_MS`] as well, so it should have reported by then.
const FORGET_MS: u64 = 3 * REQUEST_MS;
/// A peer that has not answered by then has stalled (node policy: stall).
pub(super) const STALL_MS: u64 = 10_000;
/// The same for a single block, since all others wait for it.
const SINGLE_BLOCK_STALL_MS: u64 = 3_000;
/// The same for transactions.
const TRANSACTIONS_STALL_MS: u64 = 5_000;

/// The kind of a request, and what its answer is checked against.
#[derive(Debug)]
pub(super) enum RequestContext {
    Status,
    /// Headers after one of these blocks: the locator that was sent.
    Headers(Vec<BlockHash>),
    Blocks(Vec<BlockHash>),
    /// A block that is searched for: the peer may or may not have it.
    SearchedBlock(BlockHash),
    Transactions(Vec<Txid>),
    Mempool,
    Approvals,
    Certificates,
}

/// A request without an outcome.
#[derive(Debug)]
pub(super) struct InFlight {
    peer: PeerKey,
    pub(super) context: RequestContext,
    pub(super) sent_ms: u64,
    /// Other peers have been asked for the same.
    pub(super) stalled: bool,
    /// It has been counted as not answered.
    pub(super) given_up: bool,
}

impl InFlight {
    fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.sent_ms)
    }
}

/// All requests without an outcome, in the order sent.
#[derive(Debug, Default)]
pub(super) struct Requests {
    last_id: u64,
    in_flight: BTreeMap<RequestId, InFlight>,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// The peers with a request that has been open for the stall time.
    pub(super) fn slow_peers(&self, now_ms: u64) -> impl Iterator<Item = PeerKey> {
        let requests = self.in_flight.values();
        requests
            .filter(move |request| request.age_ms(now_ms) >= STALL_MS)
            .map(|request| request.peer)
    }
}

/// How many requests to one peer have no outcome yet.
#[derive(Debug, Default)]
pub(super) struct OpenRequests(usize);

impl OpenRequests {
    /// Counts one more, unless the peer owes too many answers already.
    fn open(&mut self) -> bool {
        let has_room = self.0 < PEER_REQUESTS_MAX;
        self.0 += usize::from(has_room);
        has_room
    }

    fn close(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

/// The part of an answer that the node has to judge.
#[derive(Debug)]
pub(crate) enum Delivered {
    Nothing,
    Transactions(Vec<SignedTransaction>),
    Approvals(Vec<SignedApproval>),
    Certificates(Vec<Certificate>),
}

impl SyncState {
    /// Sends a request, unless the peer owes too many answers already.
    pub(super) fn ask(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        context: RequestContext,
        request: Request,
    ) -> Option<RequestId> {
        let state = self.peers.get_mut(&peer)?;
        if !state.open_requests.open() {
            return None;
        }
        self.requests.last_id += 1;
        let id = RequestId(self.requests.last_id);
        let in_flight = InFlight {
            peer,
            context,
            sent_ms: view.ms,
            stalled: false,
            given_up: false,
        };
        self.requests.in_flight.insert(id, in_flight);
        self.effects.push(PeerEffect::Request { peer, id, request });
        Some(id)
    }

    /// Handles the outcome of a request.
    pub(crate) fn answered(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        id: RequestId,
        response: Result<Response, RequestFailure>,
    ) -> Result<Delivered, StoreError> {
        if !self.peers.contains_key(&peer) {
            return Ok(Delivered::Nothing);
        }
        let asked_of_peer = |found: &InFlight| found.peer == peer;
        if !self.requests.in_flight.get(&id).is_some_and(asked_of_peer) {
            if response.is_ok() {
                self.offend(view, peer, Offence::Unrequested);
            }
            return Ok(Delivered::Nothing);
        }
        let Some(in_flight) = self.requests.in_flight.remove(&id) else {
            return Ok(Delivered::Nothing);
        };
        if let Some(state) = self.peers.get_mut(&peer) {
            state.open_requests.close();
            if response.is_ok() {
                state.responses.answered(view.ms);
            }
        }
        if !in_flight.given_up {
            self.close_request(peer, &in_flight.context);
        }
        if !in_flight.stalled {
            self.release_blocks(id, &in_flight.context);
        }
        match response {
            Ok(response) => self.take_response(view, peer, in_flight, response),
            Err(failure) => {
                if matches!(in_flight.context, RequestContext::Certificates) && !in_flight.given_up
                {
                    self.walks.failed(peer);
                }
                self.failed(view, peer, failure, &in_flight);
                Ok(Delivered::Nothing)
            }
        }
    }

    fn take_response(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        in_flight: InFlight,
        response: Response,
    ) -> Result<Delivered, StoreError> {
        match (response, in_flight.context) {
            (Response::Status(status), RequestContext::Status) => {
                self.take_status(view, peer, status, in_flight.sent_ms)?;
            }
            (Response::Headers(headers), RequestContext::Headers(locator)) => {
                self.take_headers(view, peer, &locator, &headers)?;
            }
            (Response::Blocks(blocks), RequestContext::Blocks(hashes)) => {
                let took_ms = view.ms.saturating_sub(in_flight.sent_ms);
                if self.take_blocks(view, peer, &hashes, blocks) {
                    self.grow_batch(peer, hashes.len(), took_ms);
                }
            }
            (Response::Blocks(blocks), RequestContext::SearchedBlock(hash)) => {
                self.take_searched_block(view, peer, hash, blocks)?;
                if !in_flight.stalled {
                    self.search_request_ended(view, hash);
                }
            }
            (Response::Transactions(transactions), RequestContext::Transactions(txids)) => {
                let (wanted, missing) = self.take_transactions(view, peer, &txids, transactions);
                if !in_flight.stalled {
                    self.fetch_elsewhere(peer, &missing);
                }
                return Ok(Delivered::Transactions(wanted));
            }
            (Response::Mempool(txids), RequestContext::Mempool) => {
                self.take_mempool(view, peer, &txids)?;
            }
            (Response::Approvals(approvals), RequestContext::Approvals) => {
                return Ok(Delivered::Approvals(approvals));
            }
            (Response::Certificates(certificates), RequestContext::Certificates) => {
                if self.took_certificates(view, peer, &certificates) {
                    return Ok(Delivered::Certificates(certificates));
                }
            }
            // The response is of another kind than the request.
            (_, context) => {
                self.offend(view, peer, Offence::Malformed);
                if !in_flight.stalled {
                    self.ask_others(view, peer, &context);
                }
            }
        }
        Ok(Delivered::Nothing)
    }

    /// The core itself was busy for this long, so answers may wait in its queue: all
    /// deadlines move by as much.
    pub(super) fn extend_deadlines(&mut self, view: &NodeView<'_>, gap_ms: u64) {
        for request in self.requests.in_flight.values_mut() {
            request.sent_ms = request.sent_ms.saturating_add(gap_ms).min(view.ms);
        }
    }

    /// A request was answered or given up: it no longer counts against the peer's limit for
    /// requests of its kind.
    fn close_request(&mut self, peer: PeerKey, context: &RequestContext) {
        if let Some(state) = self.peers.get_mut(&peer) {
            match context {
                RequestContext::Blocks(_) => state.blocks.close(),
                RequestContext::Headers(_) => state.headers.close(),
                RequestContext::Transactions(_) => state.transactions.close(),
                RequestContext::Certificates => self.walks.request_ended(peer),
                RequestContext::Status
                | RequestContext::Mempool
                | RequestContext::Approvals
                | RequestContext::SearchedBlock(_) => {}
            }
        }
    }

    /// The blocks of a request may be asked of other peers.
    fn release_blocks(&mut self, id: RequestId, context: &RequestContext) {
        if let RequestContext::Blocks(hashes) = context {
            self.download.release(id, hashes);
        }
    }

    pub(super) fn sweep_requests(&mut self, view: &NodeView<'_>) {
        let (mut stalled, mut late) = (Vec::new(), Vec::new());
        for (id, request) in &mut self.requests.in_flight {
            let age_ms = request.age_ms(view.ms);
            let stall_ms = match &request.context {
                RequestContext::Blocks(hashes) if hashes.len() == 1 => SINGLE_BLOCK_STALL_MS,
                RequestContext::SearchedBlock(_) => SINGLE_BLOCK_STALL_MS,
                RequestContext::Transactions(_) => TRANSACTIONS_STALL_MS,
                _ => STALL_MS,
            };
            if age_ms >= stall_ms && !request.stalled {
                request.stalled = true;
                stalled.push(*id);
            }
            if age_ms >= REQUEST_MS && !request.given_up {
                request.given_up = true;
                late.push(*id);
            }
        }
        for id in stalled {
            self.stalled(view, id);
        }
        for id in late {
            self.give_up(view, id);
        }
        self.forget_lost_requests(view);
    }

    /// Counts a request as not answered. It is kept until the shell reports its outcome, so
    /// that a late answer is told from an unrequested one.
    fn give_up(&mut self, view: &NodeView<'_>, id: RequestId) {
        let Some(request) = self.requests.in_flight.remove(&id) else {
            return;
        };
        let (peer, sent_ms) = (request.peer, request.sent_ms);
        self.close_request(peer, &request.context);
        let is_for_headers = matches!(request.context, RequestContext::Headers(_));
        self.requests.in_flight.insert(id, request);
        if is_for_headers {
            self.header_request_failed(view, peer);
        }
        self.timed_out(view, peer, sent_ms);
    }

    /// Forgets requests whose outcome the shell should have reported long ago.
    fn forget_lost_requests(&mut self, view: &NodeView<'_>) {
        let (peers, requests) = (&mut self.peers, &mut self.requests);
        requests.in_flight.retain(|_, request| {
            let lost = request.age_ms(view.ms) >= FORGET_MS;
            if lost && let Some(state) = peers.get_mut(&request.peer) {
                state.open_requests.close();
            }
            !lost
        });
    }

    fn stalled(&mut self, view: &NodeView<'_>, id: RequestId) {
        let Some(request) = self.requests.in_flight.remove(&id) else {
            return;
        };
        self.release_blocks(id, &request.context);
        let peer = request.peer;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.responses.pause(view.ms);
            match &request.context {
                RequestContext::Blocks(_) => state.blocks.shrink_batch(),
                // The request stays open, but other peers may be asked for headers meanwhile.
                RequestContext::Headers(_) => state.headers.set_wanted(false),
                _ => {}
            }
        }
        self.ask_others(view, peer, &request.context);
        self.requests.in_flight.insert(id, request);
    }

    /// A peer has left: other peers are asked for what it was to bring.
    pub(super) fn drop_requests(&mut self, peer: PeerKey) {
        let ids: Vec<RequestId> = self
            .requests
            .in_flight
            .iter()
            .filter(|(_, request)| request.peer == peer)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(request) = self.requests.in_flight.remove(&id) else {
                continue;
            };
            self.release_blocks(id, &request.context);
            match &request.context {
                _ if request.stalled => {}
                RequestContext::Transactions(txids) => self.fetch_elsewhere(peer, txids),
                RequestContext::Blocks(hashes) => self.searches.abandon(hashes, peer),
                RequestContext::SearchedBlock(hash) => self.searches.peer_left(hash),
                _ => {}
            }
        }
    }
}
