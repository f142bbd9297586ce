//! Transactions of others: judging them when they can be judged, and fetching
//! those that gossip missed.

use std::collections::{BTreeMap, VecDeque};

use pithead_consensus::{Address, SignedTransaction, Txid};

use super::announce::HOLD_MS;
use super::bounded_set::BoundedSet;
use super::message::{CONTENT_BYTES_MAX, MEMPOOL_IDS_MAX, Request};
use super::peer::{Gossip, GossipId, Offence, PeerKey, Verdict};
use super::peers::Peer;
use super::requests::Asked;
use super::{PeerEffect, SyncState, View};
use crate::store::StoreError;
use crate::store::schema;

/// Most txids that wait to be fetched.
const WANTED_MAX: usize = 50_000;
/// Most of them from one peer.
const PEER_WANTED_MAX: usize = 20_000;
/// Peers remembered as having one transaction.
const SOURCES_MAX: usize = 3;
/// Txids asked for at once.
const FETCH_IDS: usize = 256;
/// The mempool is compared with a peer's this often.
const COMPARE_INTERVAL_MS: u64 = 120_000;
/// Transactions that policy declined are not fetched again until this passed.
const DECLINED_FOR_MS: u64 = 600_000;
/// Most of them remembered.
const DECLINED_MAX: usize = 20_000;
/// Most transactions held that came before what they build on.
const EARLY_MAX: usize = 256;
/// The same from one peer.
const EARLY_PER_PEER_MAX: usize = 32;

#[derive(Debug)]
struct Wanted {
    /// Who has it, those not asked yet.
    sources: Vec<PeerKey>,
}

/// A transaction that can't be judged before another, or a block, is there.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) transaction: Box<SignedTransaction>,
    /// Who sent it.
    pub(crate) from: PeerKey,
    /// The message that waits for a verdict on it, if it came by gossip.
    pub(crate) gossip: Option<GossipId>,
    /// When it came, monotonic milliseconds.
    pub(crate) since_ms: u64,
}

/// Transactions on their way.
#[derive(Debug)]
pub(super) struct Relay {
    wanted: BTreeMap<Txid, Wanted>,
    declined: BoundedSet<Txid>,
    declined_until_ms: u64,
    /// Own pending transactions and when to announce each again.
    pub(super) own: BTreeMap<Txid, u64>,
    early: VecDeque<Early>,
    compare_at_ms: u64,
    last_compared: PeerKey,
}

impl Relay {
    pub(super) fn new() -> Self {
        Self {
            wanted: BTreeMap::new(),
            declined: BoundedSet::new(DECLINED_MAX),
            declined_until_ms: 0,
            own: BTreeMap::new(),
            early: VecDeque::new(),
            compare_at_ms: 0,
            last_compared: PeerKey(0),
        }
    }

    pub(super) fn wanted_len(&self) -> usize {
        self.wanted.len()
    }

    pub(super) fn own_len(&self) -> usize {
        self.own.len()
    }

    pub(super) fn early_len(&self) -> usize {
        self.early.len()
    }

    /// There was nobody to announce own transactions to; now there is.
    pub(super) fn announce_soon(&mut self, ms: u64) {
        self.own.values_mut().for_each(|due| *due = ms);
    }
}

impl SyncState {
    /// Tells everyone of a transaction that a reorganisation brought back.
    pub(crate) fn publish_transaction(&mut self, transaction: SignedTransaction) {
        if !self.status.syncing && !self.peers.is_empty() {
            let gossip = Gossip::Transaction(Box::new(transaction));
            self.effects.push(PeerEffect::Publish(gossip));
        }
    }

    pub(crate) fn verdict(&mut self, peer: PeerKey, id: GossipId, verdict: Verdict) {
        self.effects.push(PeerEffect::Verdict { peer, id, verdict });
    }

    /// Whether gossiped transactions can be judged now.
    pub(crate) fn judges_transactions(&self, peer: PeerKey) -> bool {
        !self.status.syncing && self.peers.contains_key(&peer)
    }

    /// A peer passed on a transaction that is invalid for ever.
    pub(crate) fn bad_transaction(&mut self, view: &View<'_>, peer: PeerKey) {
        self.offend(view, peer, Offence::InvalidTransaction);
    }

    /// Policy declined a transaction: not worth fetching again soon.
    pub(crate) fn declined(&mut self, txid: Txid) {
        self.relay.declined.insert(txid);
    }

    /// Holds a transaction that came before what it builds on; whoever sends too many
    /// pushes out its own.
    pub(crate) fn hold_early(&mut self, early: Early) {
        let held = &self.relay.early;
        let of_peer = |other: &&Early| other.from == early.from;
        let oldest = if held.iter().filter(of_peer).count() >= EARLY_PER_PEER_MAX {
            held.iter().position(|other| other.from == early.from)
        } else {
            (held.len() >= EARLY_MAX).then_some(0)
        };
        if let Some(oldest) = oldest.and_then(|place| self.relay.early.remove(place)) {
            self.give_up_early(&oldest);
        }
        self.relay.early.push_back(early);
    }

    fn give_up_early(&mut self, early: &Early) {
        if let Some(id) = early.gossip {
            self.verdict(early.from, id, Verdict::Ignore);
        }
    }

    /// Takes back those held, of one sender or all: what they wait for may be
    /// there.
    pub(crate) fn take_early(&mut self, sender: Option<&Address>) -> Vec<Early> {
        if self.relay.early.is_empty() {
            return Vec::new();
        }
        let (taken, kept) = std::mem::take(&mut self.relay.early)
            .into_iter()
            .partition(|early| {
                sender.is_none_or(|sender| early.transaction.body.sender == *sender)
            });
        self.relay.early = kept;
        let mut taken: Vec<Early> = Vec::from(taken);
        taken.sort_by_key(|early| early.transaction.body.sequence);
        taken
    }

    /// Takes in the ids of a peer's mempool.
    pub(super) fn take_mempool(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        txids: &[Txid],
    ) -> Result<(), StoreError> {
        if txids.len() > MEMPOOL_IDS_MAX {
            self.offend(view, peer, Offence::Malformed);
            return Ok(());
        }
        let unknown: Vec<Txid> = {
            let mempool = view.mempool();
            let new =
                |txid: &&Txid| mempool.get(txid).is_none() && !self.relay.declined.contains(txid);
            txids.iter().filter(new).copied().collect()
        };
        let Some(state) = self.peers.get_mut(&peer) else {
            return Ok(());
        };
        for txid in unknown {
            if let Some(wanted) = self.relay.wanted.get_mut(&txid) {
                if wanted.sources.len() < SOURCES_MAX && !wanted.sources.contains(&peer) {
                    wanted.sources.push(peer);
                }
                continue;
            }
            if self.relay.wanted.len() >= WANTED_MAX || state.to_fetch.len() >= PEER_WANTED_MAX {
                break;
            }
            if schema::place(view.store, &txid)?.is_none() {
                let sources = Vec::new();
                self.relay.wanted.insert(txid, Wanted { sources });
                state.to_fetch.push_back(txid);
            }
        }
        Ok(())
    }

    /// Takes in transactions: the answer to a request for `txids`. Returns
    /// those to be judged, and the ids of those that the peer did not have.
    pub(super) fn take_transactions(
        &mut self,
        view: &View<'_>,
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
            // In the order asked; those passed over are not there.
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
                state.to_fetch.extend(rest);
            }
        } else {
            missed.extend(rest);
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            // Once is an accident of timing: it was mined or replaced since it
            // was listed. Listed again and still not given is none.
            let again = missed.iter().any(|txid| state.missed.contains(txid));
            missed.iter().for_each(|txid| state.missed.insert(*txid));
            if again {
                self.offend(view, peer, Offence::Withheld);
            }
        }
        // Each sender's in sequence, since each needs those before it.
        taken.sort_by_key(|transaction| {
            let body = &transaction.body;
            (body.sender, body.sequence)
        });
        (taken, missed)
    }

    /// A peer did not give these: asks another that has them, if there is one.
    pub(super) fn retry_elsewhere(&mut self, but: PeerKey, txids: &[Txid]) {
        for txid in txids {
            let Some(wanted) = self.relay.wanted.get_mut(txid) else {
                continue;
            };
            wanted.sources.retain(|source| *source != but);
            let next = loop {
                match wanted.sources.pop() {
                    Some(source) if !self.peers.contains_key(&source) => {}
                    other => break other,
                }
            };
            match next.and_then(|source| self.peers.get_mut(&source)) {
                Some(state) => state.to_fetch.push_back(*txid),
                None => {
                    self.relay.wanted.remove(txid);
                }
            }
        }
    }

    /// Asks for transactions, and for mempools.
    pub(super) fn plan_relay(&mut self, view: &View<'_>) {
        if self.status.syncing || self.peers.is_empty() {
            return;
        }
        let ready = |state: &Peer| {
            state.status.is_some() && !state.compared && state.quiet_until_ms <= view.ms
        };
        let new: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, state)| ready(state))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in new {
            self.compare_with(view, peer);
        }
        let fetching: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, state)| {
                !state.fetching && !state.to_fetch.is_empty() && state.quiet_until_ms <= view.ms
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in fetching {
            self.fetch_from(view, peer);
        }
    }

    fn compare_with(&mut self, view: &View<'_>, peer: PeerKey) {
        if self
            .ask(view, peer, Asked::Mempool, Request::Mempool)
            .is_some()
            && let Some(state) = self.peers.get_mut(&peer)
        {
            state.compared = true;
        }
    }

    fn fetch_from(&mut self, view: &View<'_>, peer: PeerKey) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let mut txids = Vec::new();
        {
            let mempool = view.mempool();
            while txids.len() < FETCH_IDS
                && let Some(txid) = state.to_fetch.pop_front()
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
        let asked = Asked::Transactions(txids.clone());
        if self.ask(view, peer, asked, request).is_none() {
            self.retry_elsewhere(peer, &txids);
        } else if let Some(state) = self.peers.get_mut(&peer) {
            state.fetching = true;
        }
    }

    pub(super) fn sweep_relay(&mut self, view: &View<'_>) {
        if view.ms >= self.relay.declined_until_ms {
            self.relay.declined.clear();
            self.relay.declined_until_ms = view.ms.saturating_add(DECLINED_FOR_MS);
        }
        // Not in order of age: those tried again are at the end.
        let late = |early: &Early| view.ms.saturating_sub(early.since_ms) >= HOLD_MS;
        if self.relay.early.iter().any(late) {
            let held = std::mem::take(&mut self.relay.early);
            let (given_up, kept) = held.into_iter().partition(late);
            self.relay.early = kept;
            VecDeque::iter(&given_up).for_each(|early| self.give_up_early(early));
        }
        if view.ms >= self.relay.compare_at_ms && !self.status.syncing {
            self.relay.compare_at_ms = view.ms.saturating_add(COMPARE_INTERVAL_MS);
            self.compare_with_next(view);
        }
        self.announce_own(view);
    }

    /// Compares with one peer after another, in turn.
    fn compare_with_next(&mut self, view: &View<'_>) {
        let compared = |(_, state): &(&PeerKey, &Peer)| state.compared;
        let after = (
            std::ops::Bound::Excluded(self.relay.last_compared),
            std::ops::Bound::Unbounded,
        );
        let mut turn = self.peers.range(after).chain(self.peers.iter());
        if let Some(peer) = turn.find(compared).map(|(peer, _)| *peer) {
            self.relay.last_compared = peer;
            self.compare_with(view, peer);
        }
    }
}
