//! What was asked of peers and what became of it: answers, deadlines, and who
//! is replaced by whom. What a failure means for the peer is said in `failures`.

use std::collections::BTreeMap;

use pithead_consensus::{BlockHash, Certificate, SignedApproval, SignedTransaction, Txid};

use super::message::{Request, Response};
use super::peer::{Offence, PeerKey, RequestFailure, RequestId};
use super::{PeerEffect, SyncState, View};
use crate::store::StoreError;

/// Most requests to one peer without an answer, given up ones included.
const PEER_REQUESTS_MAX: usize = 16;
/// A request without an answer is given up then (protocol §12: request).
pub(super) const REQUEST_MS: u64 = 20_000;
/// What became of a request should have been told by then; the shell's own
/// limit is [`REQUEST_MS`] as well.
const FORGET_MS: u64 = 3 * REQUEST_MS;
/// A peer that has not answered by then is replaced (protocol §12: stall).
pub(super) const STALL_MS: u64 = 10_000;
/// A single block, which all wait for, is asked of another peer then.
const SINGLE_BLOCK_STALL_MS: u64 = 3_000;
/// Transactions are asked of another peer then.
const TRANSACTIONS_STALL_MS: u64 = 5_000;

/// What was asked.
#[derive(Debug)]
pub(super) enum Asked {
    Status,
    Headers(Vec<BlockHash>),
    Blocks(Vec<BlockHash>),
    /// A block that the peer may or may not have.
    Sought(BlockHash),
    Transactions(Vec<Txid>),
    Mempool,
    Approvals,
    Certificates,
}

#[derive(Debug)]
pub(super) struct InFlight {
    peer: PeerKey,
    pub(super) asked: Asked,
    pub(super) sent_ms: u64,
    /// What it was to bring has been asked of others.
    pub(super) stalled: bool,
    /// It has been counted as not answered.
    pub(super) given_up: bool,
}

/// Requests without an answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    last: u64,
    in_flight: BTreeMap<RequestId, InFlight>,
    /// When most peers fell silent together, and until when they were, milliseconds.
    pub(super) own_line: Option<(u64, u64)>,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// Peers that have left something unanswered for longer than others are waited for.
    pub(super) fn slow_peers(&self, now_ms: u64) -> impl Iterator<Item = PeerKey> {
        let requests = self.in_flight.values();
        requests
            .filter(move |request| now_ms.saturating_sub(request.sent_ms) >= STALL_MS)
            .map(|request| request.peer)
    }
}

/// What an answer brought for the node to judge.
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
        view: &View<'_>,
        peer: PeerKey,
        asked: Asked,
        request: Request,
    ) -> Option<RequestId> {
        let state = self.peers.get_mut(&peer)?;
        if state.outstanding >= PEER_REQUESTS_MAX {
            return None;
        }
        state.outstanding += 1;
        self.requests.last += 1;
        let id = RequestId(self.requests.last);
        let in_flight = InFlight {
            peer,
            asked,
            sent_ms: view.ms,
            stalled: false,
            given_up: false,
        };
        self.requests.in_flight.insert(id, in_flight);
        self.effects.push(PeerEffect::Request { peer, id, request });
        Some(id)
    }

    /// Takes in the answer to a request.
    pub(crate) fn answered(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        id: RequestId,
        response: Result<Response, RequestFailure>,
    ) -> Result<Delivered, StoreError> {
        if !self.peers.contains_key(&peer) {
            return Ok(Delivered::Nothing);
        }
        let is_its_own = |found: &InFlight| found.peer == peer;
        if !self.requests.in_flight.get(&id).is_some_and(is_its_own) {
            if response.is_ok() {
                self.offend(view, peer, Offence::Unrequested);
            }
            return Ok(Delivered::Nothing);
        }
        let Some(in_flight) = self.requests.in_flight.remove(&id) else {
            return Ok(Delivered::Nothing);
        };
        if let Some(state) = self.peers.get_mut(&peer) {
            state.outstanding = state.outstanding.saturating_sub(1);
            if response.is_ok() {
                state.silence = 0;
                state.declined = 0;
                state.answered_ms = Some(view.ms);
            }
        }
        if !in_flight.given_up {
            self.unbook(peer, &in_flight.asked);
        }
        if !in_flight.stalled {
            self.release(id, &in_flight);
        }
        match (response, in_flight.asked) {
            (Ok(Response::Status(status)), Asked::Status) => {
                self.take_status(view, peer, status, in_flight.sent_ms)?;
            }
            (Ok(Response::Headers(headers)), Asked::Headers(locator)) => {
                self.take_headers(view, peer, &locator, &headers)?;
            }
            (Ok(Response::Blocks(blocks)), Asked::Blocks(hashes)) => {
                let took_ms = view.ms.saturating_sub(in_flight.sent_ms);
                self.take_blocks(view, peer, &hashes, blocks, took_ms);
            }
            (Ok(Response::Blocks(blocks)), Asked::Sought(hash)) => {
                self.take_sought(view, peer, hash, blocks)?;
                if !in_flight.stalled {
                    self.sought_ended(view, hash);
                }
            }
            (Ok(Response::Transactions(transactions)), Asked::Transactions(txids)) => {
                let (wanted, missed) = self.take_transactions(view, peer, &txids, transactions);
                if !in_flight.stalled {
                    self.retry_elsewhere(peer, &missed);
                }
                return Ok(Delivered::Transactions(wanted));
            }
            (Ok(Response::Mempool(txids)), Asked::Mempool) => {
                self.take_mempool(view, peer, &txids)?;
            }
            (Ok(Response::Approvals(approvals)), Asked::Approvals) => {
                return Ok(Delivered::Approvals(approvals));
            }
            (Ok(Response::Certificates(certificates)), Asked::Certificates) => {
                if self.took_certificates(view, peer, &certificates) {
                    return Ok(Delivered::Certificates(certificates));
                }
            }
            (Ok(_), asked) => {
                self.offend(view, peer, Offence::Malformed);
                self.ask_others(view, peer, &asked, in_flight.stalled);
            }
            (Err(failure), asked) => {
                if let Asked::Certificates = asked
                    && !in_flight.given_up
                {
                    self.approvals.failed(peer);
                }
                let failed = InFlight { asked, ..in_flight };
                self.failed(view, peer, failure, &failed);
            }
        }
        Ok(Delivered::Nothing)
    }

    /// The core itself was busy for a while: answers may wait behind this.
    pub(super) fn wait_longer(&mut self, view: &View<'_>, gap_ms: u64) {
        for request in self.requests.in_flight.values_mut() {
            request.sent_ms = request.sent_ms.saturating_add(gap_ms).min(view.ms);
        }
    }

    /// A request no longer counts against the peer's limits.
    fn unbook(&mut self, peer: PeerKey, asked: &Asked) {
        if let Some(state) = self.peers.get_mut(&peer) {
            match asked {
                Asked::Blocks(_) => {
                    state.block_requests = state.block_requests.saturating_sub(1);
                }
                Asked::Headers(_) => state.headers_asked = false,
                Asked::Transactions(_) => state.fetching = false,
                Asked::Certificates => self.approvals.unbook(peer),
                Asked::Status | Asked::Mempool | Asked::Approvals | Asked::Sought(_) => {}
            }
        }
    }

    /// What a request was to bring may be asked of others.
    fn release(&mut self, id: RequestId, in_flight: &InFlight) {
        if let Asked::Blocks(hashes) = &in_flight.asked {
            self.download.release(id, hashes);
        }
    }

    pub(super) fn sweep_requests(&mut self, view: &View<'_>) {
        let (mut stalled, mut late) = (Vec::new(), Vec::new());
        for (id, request) in &mut self.requests.in_flight {
            let age = view.ms.saturating_sub(request.sent_ms);
            let patience = match &request.asked {
                Asked::Blocks(hashes) if hashes.len() == 1 => SINGLE_BLOCK_STALL_MS,
                Asked::Sought(_) => SINGLE_BLOCK_STALL_MS,
                Asked::Transactions(_) => TRANSACTIONS_STALL_MS,
                _ => STALL_MS,
            };
            if age >= patience && !request.stalled {
                request.stalled = true;
                stalled.push(*id);
            }
            if age >= REQUEST_MS && !request.given_up {
                request.given_up = true;
                late.push(*id);
            }
        }
        for id in stalled {
            self.stalled(view, id);
        }
        for id in late {
            // The entry stays until the shell tells what became of it, so
            // that a late answer is known from an unrequested one.
            if let Some(request) = self.requests.in_flight.remove(&id) {
                self.unbook(request.peer, &request.asked);
                let (peer, sent_ms) = (request.peer, request.sent_ms);
                let headers = matches!(request.asked, Asked::Headers(_));
                self.requests.in_flight.insert(id, request);
                if headers {
                    self.headers_failed(view, peer);
                }
                self.timed_out(view, peer, sent_ms);
            }
        }
        self.forget_lost_requests(view);
    }

    /// The shell never told what became of these: it must have lost them.
    fn forget_lost_requests(&mut self, view: &View<'_>) {
        let (peers, requests) = (&mut self.peers, &mut self.requests);
        requests.in_flight.retain(|_, request| {
            let lost = view.ms.saturating_sub(request.sent_ms) >= FORGET_MS;
            if lost && let Some(state) = peers.get_mut(&request.peer) {
                state.outstanding = state.outstanding.saturating_sub(1);
            }
            !lost
        });
    }

    fn stalled(&mut self, view: &View<'_>, id: RequestId) {
        let Some(request) = self.requests.in_flight.remove(&id) else {
            return;
        };
        self.release(id, &request);
        let peer = request.peer;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.quiet_until_ms = view.ms.saturating_add(STALL_MS);
            match &request.asked {
                Asked::Blocks(_) => state.batch = (state.batch / 4).max(1),
                // It keeps its turn, but others may be asked meanwhile.
                Asked::Headers(_) => state.headers_wanted = false,
                _ => {}
            }
        }
        self.ask_others(view, peer, &request.asked, false);
        self.requests.in_flight.insert(id, request);
    }

    /// A peer is gone: what it was to bring is asked of others.
    pub(super) fn drop_requests(&mut self, peer: PeerKey) {
        let ids: Vec<RequestId> = self
            .requests
            .in_flight
            .iter()
            .filter(|(_, request)| request.peer == peer)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(request) = self.requests.in_flight.remove(&id) {
                self.release(id, &request);
                match &request.asked {
                    _ if request.stalled => {}
                    Asked::Transactions(txids) => self.retry_elsewhere(peer, txids),
                    Asked::Blocks(hashes) => self.searches.orphan(hashes, peer),
                    Asked::Sought(hash) => self.searches.lost(hash),
                    _ => {}
                }
            }
        }
    }
}
