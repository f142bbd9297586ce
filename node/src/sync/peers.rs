//! Peers, what was asked of them, and what they did wrong: deadlines, points,
//! disconnections.

use std::collections::{BTreeMap, VecDeque};

use pithead_consensus::{BlockHash, SignedTransaction, Txid};

use super::bounded::BoundedSet;
use super::message::{Request, Response, Status};
use super::peer::{BAN_POINTS, Offence, PeerKey, RequestFailure, RequestId};
use super::{Order, SyncState, View, mix};
use crate::store::StoreError;

/// Most peers; the network shell's own limit is lower.
const PEERS_MAX: usize = 1_024;
/// Most requests to one peer without an answer, given up ones included.
const PEER_REQUESTS_MAX: usize = 16;
/// A request without an answer is given up then (protocol §12: request).
pub(super) const REQUEST_MS: u64 = 20_000;
/// A peer that has not answered by then is replaced (protocol §12: stall).
pub(super) const STALL_MS: u64 = 10_000;
/// A single block, which all wait for, is asked of another peer then.
const SINGLE_BLOCK_STALL_MS: u64 = 3_000;
/// Transactions are asked of another peer then.
const TRANSACTIONS_STALL_MS: u64 = 5_000;
/// Requests given up in a row after which a peer is let go.
const SILENCE_MAX: u32 = 3;
/// One point is forgiven each time this has passed.
const FORGIVE_MS: u64 = 10_000;
/// A peer's status is asked again after this.
const STATUS_INTERVAL_MS: u64 = 30_000;
/// Spread of that, so that not all are asked at once.
const STATUS_SPREAD_MS: u64 = 10_000;
/// Peers asked for their status when an announced block stalls.
const STATUS_ON_STALL_PEERS: usize = 3;
/// Blocks asked at once of a peer that is new.
pub(super) const BATCH_START: usize = 16;
/// Txids and bodies of one peer that it did not give, remembered.
const MISSED_MAX: usize = 1_024;

/// A peer as sync sees it.
#[derive(Debug)]
pub(super) struct Peer {
    points: u32,
    forgiven_ms: u64,
    /// What it last said of its chain.
    pub(super) status: Option<Status>,
    status_due_ms: u64,
    /// The last block that it showed to have, in the tree or in the store.
    pub(super) best_known: Option<BlockHash>,
    /// How far it shares the download's path, and in which epoch that was so.
    pub(super) shared: Option<(u64, Option<u64>)>,
    /// It has headers that are not known here.
    pub(super) headers_wanted: bool,
    /// Its next header may be asked for at this time, Unix seconds.
    pub(super) headers_from_secs: u64,
    pub(super) headers_asked: bool,
    /// Headers in a row that it showed and that do not lead to a better chain.
    pub(super) low_work_headers: usize,
    /// Answers in a row that did not show what its status promised.
    pub(super) empty_answers: u32,
    /// Nothing large is asked of it before this.
    pub(super) quiet_until_ms: u64,
    /// Blocks to ask for at once.
    pub(super) batch: usize,
    /// Requests without an answer.
    outstanding: usize,
    /// Requests for blocks that still count against its limit.
    pub(super) block_requests: usize,
    silence: u32,
    pub(super) compared: bool,
    pub(super) to_fetch: VecDeque<Txid>,
    pub(super) fetching: bool,
    /// Transactions that it listed and did not give.
    pub(super) missed: BoundedSet<Txid>,
    /// Blocks whose body it got wrong or did not give.
    pub(super) failed_bodies: BoundedSet<BlockHash>,
}

pub(super) type Peers = BTreeMap<PeerKey, Peer>;

/// What was asked.
#[derive(Debug)]
pub(super) enum Asked {
    Status,
    Headers(Vec<BlockHash>),
    Blocks(Vec<BlockHash>),
    Transactions(Vec<Txid>),
    Mempool,
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
}

impl SyncState {
    pub(crate) fn connected(&mut self, view: &View<'_>, peer: PeerKey) {
        if self.peers.len() >= PEERS_MAX {
            return;
        }
        if self.peers.is_empty() {
            self.relay.announce_soon(view.ms);
        }
        let state = Peer {
            points: 0,
            forgiven_ms: view.ms,
            status: None,
            status_due_ms: view.ms,
            best_known: None,
            shared: None,
            headers_wanted: false,
            headers_from_secs: 0,
            headers_asked: false,
            low_work_headers: 0,
            empty_answers: 0,
            quiet_until_ms: 0,
            batch: BATCH_START,
            outstanding: 0,
            block_requests: 0,
            silence: 0,
            compared: false,
            to_fetch: VecDeque::new(),
            fetching: false,
            missed: BoundedSet::new(MISSED_MAX),
            failed_bodies: BoundedSet::new(MISSED_MAX),
        };
        self.peers.entry(peer).or_insert(state);
        self.ask_status(view, peer);
    }

    pub(crate) fn disconnected(&mut self, peer: PeerKey) {
        self.forget_peer(peer);
    }

    pub(super) fn ask_status(&mut self, view: &View<'_>, peer: PeerKey) {
        let spread = mix(self.settings.seed ^ view.ms, peer.0) % STATUS_SPREAD_MS;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.status_due_ms = view.ms.saturating_add(STATUS_INTERVAL_MS + spread);
        }
        let status = Status {
            best_hash: view.tip.hash(),
            height: view.tip.height,
            chain_work: view.tip.chain_work,
        };
        self.ask(view, peer, Asked::Status, Request::Status(status));
    }

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
                self.take_status(view, peer, status)?;
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

    fn failed(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        failure: RequestFailure,
        given_up: bool,
    ) {
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
                Asked::Status | Asked::Mempool => {}
            }
        }
    }

    /// What a request was to bring may be asked of others.
    fn release(&mut self, id: RequestId, in_flight: &InFlight) {
        if let Asked::Blocks(hashes) = &in_flight.asked {
            self.download.release(id, hashes);
        }
    }

    /// Looks at every deadline; called once a second.
    pub(crate) fn sweep(&mut self, view: &View<'_>) {
        self.sweep_requests(view);
        let due: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, state)| state.status_due_ms <= view.ms)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            self.ask_status(view, peer);
        }
        self.sweep_announcements(view);
        self.sweep_relay(view);
    }

    fn sweep_requests(&mut self, view: &View<'_>) {
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

    /// Gossip shows only one of those who have a new block: ask some others
    /// how far they are.
    fn find_other_holders(&mut self, view: &View<'_>, but: PeerKey) {
        let target = self.download.target();
        let mut others: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(peer, state)| **peer != but && state.best_known != target)
            .map(|(peer, _)| *peer)
            .collect();
        let seed = self.settings.seed ^ view.ms;
        others.sort_by_key(|peer| mix(seed, peer.0));
        for peer in others.into_iter().take(STATUS_ON_STALL_PEERS) {
            self.ask_status(view, peer);
        }
    }

    /// Holds something against a peer; at [`BAN_POINTS`] it is banned.
    pub(super) fn offend(&mut self, view: &View<'_>, peer: PeerKey, offence: Offence) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let passed = view.ms.saturating_sub(state.forgiven_ms) / FORGIVE_MS;
        let forgiven = u32::try_from(passed).unwrap_or(u32::MAX);
        state.points = state.points.saturating_sub(forgiven);
        state.forgiven_ms = state.forgiven_ms.saturating_add(passed * FORGIVE_MS);
        state.points = state.points.saturating_add(offence.points());
        let points = state.points;
        tracing::debug!(%peer, %offence, points, "offence");
        self.orders.push(Order::Scored(peer, points));
        if points >= BAN_POINTS {
            self.orders.push(Order::Disconnect(peer, offence, true));
            self.forget_peer(peer);
        }
    }

    /// Closes a connection without a ban.
    pub(super) fn let_go(&mut self, peer: PeerKey, reason: Offence) {
        self.orders.push(Order::Disconnect(peer, reason, false));
        self.forget_peer(peer);
    }

    fn forget_peer(&mut self, peer: PeerKey) {
        let Some(state) = self.peers.remove(&peer) else {
            return;
        };
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
                if let Asked::Transactions(txids) = &request.asked
                    && !request.stalled
                {
                    self.retry_elsewhere(peer, txids);
                }
            }
        }
        let queued: Vec<Txid> = state.to_fetch.into_iter().collect();
        self.retry_elsewhere(peer, &queued);
        self.announcements.forget_peer(peer);
        self.collect = true;
    }
}
