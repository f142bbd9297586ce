//! The relay of other nodes' transactions: mempools are compared with those of peers, and
//! transactions that gossip missed are fetched. The node judges them.

use std::collections::{BTreeMap, VecDeque};

use pithead_consensus::{SignedTransaction, Txid};

use super::bounded_set::BoundedSet;
use super::message::{CONTENT_BYTES_MAX, MEMPOOL_IDS_MAX, Request};
use super::node_view::NodeView;
use super::peer_events::{Gossip, Offence, PeerKey};
use super::refusals::Refusals;
use super::requests::RequestContext;
use super::{PeerEffect, SyncState};
use crate::store::StoreError;
use crate::store::schema;

/// Most txids that wait to be fetched.
const WANTED_MAX: usize = 50_000;
/// Most of them to be fetched from one peer.
const PEER_WANTED_MAX: usize = 20_000;
/// Most further peers remembered as having one transaction.
const SOURCES_MAX: usize = 3;
/// Most txids asked for at once.
const FETCH_IDS: usize = 256;
/// The mempool is compared with one peer's this often.
const COMPARE_INTERVAL_MS: u64 = 120_000;
/// Transactions that policy declined are not fetched again before this has passed.
const DECLINED_FOR_MS: u64 = 600_000;
/// Most declined transactions that are remembered.
const DECLINED_MAX: usize = 20_000;
/// Most transactions remembered that one peer listed and did not give.
const MISSED_MAX: usize = 1_024;

/// The requests for transactions to one peer.
#[derive(Debug)]
pub(super) struct TransactionRequests {
    /// The peer has been asked for its mempool.
    compared: bool,
    /// Transactions to be asked of it.
    queue: VecDeque<Txid>,
    /// A request is under way.
    open: bool,
    /// Transactions that it listed and did not give.
    missed: BoundedSet<Txid>,
    /// Transactions of it that were refused lately.
    refusals: Refusals,
}

impl TransactionRequests {
    pub(super) fn new() -> Self {
        Self {
            compared: false,
            queue: VecDeque::new(),
            open: false,
            missed: BoundedSet::new(MISSED_MAX),
            refusals: Refusals::new(),
        }
    }

    /// A request was answered or given up.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    pub(super) fn into_queue(self) -> Vec<Txid> {
        self.queue.into()
    }
}

/// A transaction that is to be fetched.
#[derive(Debug)]
struct WantedTransaction {
    /// Peers that have it and have not been asked.
    sources: Vec<PeerKey>,
}

/// Which transactions are to be fetched, and which not.
#[derive(Debug)]
pub(super) struct TransactionRelay {
    wanted: BTreeMap<Txid, WantedTransaction>,
    declined: BoundedSet<Txid>,
    declined_until_ms: u64,
    compare_at_ms: u64,
    last_compared: PeerKey,
}

impl TransactionRelay {
    pub(super) fn new() -> Self {
        Self {
            wanted: BTreeMap::new(),
            declined: BoundedSet::new(DECLINED_MAX),
            declined_until_ms: 0,
            compare_at_ms: 0,
            last_compared: PeerKey(0),
        }
    }

    pub(super) fn wanted_len(&self) -> usize {
        self.wanted.len()
    }
}

impl SyncState {
    /// Announces a transaction to every peer: one that was fetched, or that a reorganisation
    /// brought back.
    pub(crate) fn publish_transaction(&mut self, transaction: SignedTransaction) {
        if !self.status.syncing && !self.peers.is_empty() {
            let gossip = Gossip::Transaction(Box::new(transaction));
            self.effects.push(PeerEffect::Publish(gossip));
        }
    }

    /// Whether gossiped transactions of this peer can be judged now. A node that is far behind
    /// does not know the accounts that they spend from, and of one that had too many refused lately
    /// none is looked at.
    pub(crate) fn judges_transactions(&self, peer: PeerKey, now_ms: u64) -> bool {
        let state = self.peers.get(&peer);
        !self.status.syncing
            && state.is_some_and(|state| !state.transactions.refusals.are_too_many(now_ms))
    }

    /// Holds against a peer that a transaction of it was refused.
    pub(crate) fn refused(&mut self, peer: PeerKey, txid: Txid, now_ms: u64) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.transactions.refusals.note(txid, now_ms);
        }
    }

    /// A peer passed on a transaction that breaks a rule.
    pub(crate) fn bad_transaction(&mut self, view: &NodeView<'_>, peer: PeerKey) {
        self.offend(view, peer, Offence::InvalidTransaction);
    }

    /// Policy declined a transaction: it is not fetched again soon. Policy looks at everything but
    /// the signature, all of which the txid covers, so that a forged copy says nothing wrong about
    /// the sound one.
    pub(crate) fn declined(&mut self, txid: Txid) {
        self.relay.declined.insert(txid);
    }

    /// Handles the ids of a peer's mempool: queues those that are new.
    pub(super) fn take_mempool(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        txids: &[Txid],
    ) -> Result<(), StoreError> {
        if txids.len() > MEMPOOL_IDS_MAX {
            self.offend(view, peer, Offence::Malformed);
            return Ok(());
        }
        let unknown: Vec<Txid> = {
            let mempool = view.mempool();
            let new = |txid: &&Txid| {
                mempool.get(txid).is_none()
                    && !mempool.has_expired(txid)
                    && !self.relay.declined.contains(txid)
            };
            txids.iter().filter(new).copied().collect()
        };
        let Some(state) = self.peers.get_mut(&peer) else {
            return Ok(());
        };
        let queue = &mut state.transactions.queue;
        for txid in unknown {
            if let Some(wanted) = self.relay.wanted.get_mut(&txid) {
                if wanted.sources.len() < SOURCES_MAX && !wanted.sources.contains(&peer) {
                    wanted.sources.push(peer);
                }
                continue;
            }
            if self.relay.wanted.len() >= WANTED_MAX || queue.len() >= PEER_WANTED_MAX {
                break;
            }
            if schema::place(view.store, &txid)?.is_none() {
                let sources = Vec::new();
                self.relay
                    .wanted
                    .insert(txid, WantedTransaction { sources });
                queue.push_back(txid);
            }
        }
        Ok(())
    }

    /// Handles the answer to a request for `txids`. Returns the transactions to be judged, and
    /// the ids of those that the peer did not give.
    pub(super) fn take_transactions(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        txids: &[Txid],
        transactions: Vec<SignedTransaction>,
    ) -> (Vec<SignedTransaction>, Vec<Txid>) {
        let mut taken = Vec::new();
        let mut bytes = 0;
        let mut asked = txids.iter();
        let mut missed = Vec::new();
        for transaction in transactions {
            let txid = transaction.txid(&view.params.genesis_hash);
            // Transactions come in the order asked. The peer lacks those that it skips.
            let before = asked.clone();
            let mut skipped = before.take_while(|asked| **asked != txid).copied();
            let gaps: Vec<Txid> = skipped.by_ref().collect();
            if !asked.any(|asked| *asked == txid) {
                self.offend(view, peer, Offence::Unrequested);
                break;
            }
            missed.extend(gaps);
            bytes += transaction.size();
            if self.relay.wanted.remove(&txid).is_some() {
                taken.push(transaction);
            }
        }
        let rest: Vec<Txid> = asked.copied().collect();
        let cut = bytes > CONTENT_BYTES_MAX / 2;
        if cut {
            if let Some(state) = self.peers.get_mut(&peer) {
                state.transactions.queue.extend(rest);
            }
        } else {
            missed.extend(rest);
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            // The first time is an accident of timing: the transaction was mined or replaced
            // after it was listed. A peer that lists it again and does not give it withholds
            // it.
            let known = &mut state.transactions.missed;
            let again = missed.iter().any(|txid| known.contains(txid));
            missed.iter().for_each(|txid| known.insert(*txid));
            if again {
                self.offend(view, peer, Offence::Withheld);
            }
        }
        // By sequence within each sender, since each transaction needs those before it.
        taken.sort_by_key(|transaction| {
            let body = &transaction.body;
            (body.sender, body.sequence)
        });
        (taken, missed)
    }

    /// Queues transactions for another peer that has them, since the peer `except` did not
    /// give them. Those that no other peer has are not wanted any more.
    pub(super) fn fetch_elsewhere(&mut self, except: PeerKey, txids: &[Txid]) {
        for txid in txids {
            let Some(wanted) = self.relay.wanted.get_mut(txid) else {
                continue;
            };
            wanted.sources.retain(|source| *source != except);
            let next = loop {
                match wanted.sources.pop() {
                    Some(source) if !self.peers.contains_key(&source) => {}
                    other => break other,
                }
            };
            match next.and_then(|source| self.peers.get_mut(&source)) {
                Some(state) => state.transactions.queue.push_back(*txid),
                None => {
                    self.relay.wanted.remove(txid);
                }
            }
        }
    }

    /// Asks new peers for their mempools, and peers with a queue for transactions.
    pub(super) fn plan_transactions(&mut self, view: &NodeView<'_>) {
        if self.status.syncing || self.peers.is_empty() {
            return;
        }
        let new: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, state)| {
                state.chain.status().is_some()
                    && !state.transactions.compared
                    && !state.responses.is_paused(view.ms)
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in new {
            self.compare_with(view, peer);
        }
        let fetching: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, state)| {
                !state.transactions.open
                    && !state.transactions.queue.is_empty()
                    && !state.transactions.refusals.are_too_many(view.ms)
                    && !state.responses.is_paused(view.ms)
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in fetching {
            self.fetch_from(view, peer);
        }
    }

    fn compare_with(&mut self, view: &NodeView<'_>, peer: PeerKey) {
        if self
            .ask(view, peer, RequestContext::Mempool, Request::Mempool)
            .is_some()
            && let Some(state) = self.peers.get_mut(&peer)
        {
            state.transactions.compared = true;
        }
    }

    fn fetch_from(&mut self, view: &NodeView<'_>, peer: PeerKey) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let mut txids = Vec::new();
        {
            let mempool = view.mempool();
            while txids.len() < FETCH_IDS
                && let Some(txid) = state.transactions.queue.pop_front()
            {
                if mempool.get(&txid).is_some() {
                    self.relay.wanted.remove(&txid);
                } else if self.relay.wanted.contains_key(&txid) && !txids.contains(&txid) {
                    txids.push(txid);
                }
            }
        }
        if txids.is_empty() {
            return;
        }
        let request = Request::Transactions(txids.clone());
        let context = RequestContext::Transactions(txids.clone());
        if self.ask(view, peer, context, request).is_none() {
            self.fetch_elsewhere(peer, &txids);
        } else if let Some(state) = self.peers.get_mut(&peer) {
            state.transactions.open = true;
        }
    }

    pub(super) fn sweep_transactions(&mut self, view: &NodeView<'_>) {
        if view.ms >= self.relay.declined_until_ms {
            self.relay.declined.clear();
            self.relay.declined_until_ms = view.ms.saturating_add(DECLINED_FOR_MS);
        }
        self.sweep_orphans(view);
        if view.ms >= self.relay.compare_at_ms && !self.status.syncing {
            self.relay.compare_at_ms = view.ms.saturating_add(COMPARE_INTERVAL_MS);
            self.compare_with_next(view);
        }
    }

    /// Asks the next peer for its mempool, each in turn.
    fn compare_with_next(&mut self, view: &NodeView<'_>) {
        let after = (
            std::ops::Bound::Excluded(self.relay.last_compared),
            std::ops::Bound::Unbounded,
        );
        let mut turn = self.peers.range(after).chain(self.peers.iter());
        if let Some(peer) = turn
            .find(|(_, state)| state.transactions.compared)
            .map(|(peer, _)| *peer)
        {
            self.relay.last_compared = peer;
            self.compare_with(view, peer);
        }
    }
}
