//! What was asked of peers and what became of it: answers, deadlines, and who
//! is replaced by whom.

use std::collections::BTreeMap;

use pithead_consensus::{BlockHash, Certificate, SignedApproval, SignedTransaction, Txid};

use super::message::{Request, Response};
use super::peer::{Offence, PeerKey, RequestFailure, RequestId};
use super::peers::Peer;
use super::{Order, SyncState, View};
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
/// A peer that did not answer is asked for its status after this.
const AFTER_SILENCE_MS: u64 = 5_000;
/// Requests given up in a row after which a peer is let go.
const SILENCE_MAX: u32 = 3;

/// What was asked.
#[derive(Debug)]
pub(super) enum Asked {
    Status,
    Headers(Vec<BlockHash>),
    Blocks(Vec<BlockHash>),
    Transactions(Vec<Txid>),
    Mempool,
    Approvals,
    Certificates,
}

#[derive(Debug)]
struct InFlight {
    peer: PeerKey,
    asked: Asked,
    sent_ms: u64,
    stalled: bool,
    given_up: bool,
}

/// Requests without an answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    last: u64,
    in_flight: BTreeMap<RequestId, InFlight>,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.in_flight.len()
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
        self.orders.push(Order::Request(peer, id, request));
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
            (Ok(_), _) => self.offend(view, peer, Offence::Malformed),
            (Err(failure), asked) => {
                if let Asked::Transactions(txids) = &asked
                    && !in_flight.stalled
                {
                    self.retry_elsewhere(peer, txids);
                }
                self.failed(view, peer, failure, in_flight.given_up);
            }
        }
        Ok(Delivered::Nothing)
    }

    fn failed(&mut self, view: &View<'_>, peer: PeerKey, failure: RequestFailure, given_up: bool) {
        let quiet = |state: &mut Peer| state.quiet_until_ms = view.ms.saturating_add(STALL_MS);
        self.peers.get_mut(&peer).map(quiet);
        match failure {
            RequestFailure::Timeout if !given_up => self.timed_out(view, peer),
            RequestFailure::Undecodable => self.offend(view, peer, Offence::Malformed),
            // Declining is no offence, and a lost connection is told of anyway.
            RequestFailure::Timeout | RequestFailure::Refused | RequestFailure::Disconnected => {}
        }
    }

    fn timed_out(&mut self, view: &View<'_>, peer: PeerKey) {
        let silence = self.peers.get_mut(&peer).map_or(0, |state| {
            state.silence += 1;
            // Find out soon whether it is still there.
            state.status_due_ms = view.ms.saturating_add(AFTER_SILENCE_MS);
            state.silence
        });
        self.offend(view, peer, Offence::Timeout);
        if silence >= SILENCE_MAX && self.peers.contains_key(&peer) {
            self.let_go(peer, Offence::Timeout);
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
                Asked::Certificates => self.approvals.certificates_asked = false,
                Asked::Status | Asked::Mempool | Asked::Approvals => {}
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
                let peer = request.peer;
                self.requests.in_flight.insert(id, request);
                self.timed_out(view, peer);
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
        match &request.asked {
            Asked::Blocks(hashes) if hashes.len() == 1 => self.find_other_holders(view, peer),
            Asked::Transactions(txids) => self.retry_elsewhere(peer, txids),
            _ => {}
        }
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
                if matches!(request.asked, Asked::Certificates) && !request.given_up {
                    // The peer is gone, so that unbooking would not find it.
                    self.approvals.certificates_asked = false;
                }
                if let Asked::Transactions(txids) = &request.asked
                    && !request.stalled
                {
                    self.retry_elsewhere(peer, txids);
                }
            }
        }
    }
}
