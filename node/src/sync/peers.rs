//! Peers: what is known of each, and what they did wrong.

use std::collections::{BTreeMap, VecDeque};

use pithead_consensus::{BlockHash, Height, Txid};

use super::bounded::BoundedSet;
use super::message::{Request, Status};
use super::peer::{BAN_POINTS, Offence, PeerKey};
use super::requests::Asked;
use super::{Order, SyncState, View, mix};
use crate::finality::FinalityStatus;

/// Most peers; the network shell's own limit is lower.
const PEERS_MAX: usize = 1_024;
/// One point is forgiven each time this has passed.
const FORGIVE_MS: u64 = 10_000;
/// A peer's status is asked again after this.
const STATUS_INTERVAL_MS: u64 = 60_000;
/// Spread of that, so that not all are asked at once.
const STATUS_SPREAD_MS: u64 = 20_000;
/// Peers asked for their status when an announced block stalls.
const STATUS_ON_STALL_PEERS: usize = 3;
/// Blocks asked at once of a peer that is new.
pub(super) const BATCH_START: usize = 16;
/// Txids and bodies of one peer that it did not give, remembered.
const MISSED_MAX: usize = 1_024;

/// What a chain contains of what certificates secure: the order of protocol §8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Secured {
    /// Height of the highest final block in it.
    pub(super) final_height: Height,
    pub(super) contains_approved: bool,
}

/// A peer as sync sees it.
#[derive(Debug)]
pub(super) struct Peer {
    /// Whether it called us: those that we call are nobody else's choice.
    pub(super) inbound: bool,
    points: u32,
    forgiven_ms: u64,
    /// What it last said of its chain.
    pub(super) status: Option<Status>,
    /// When to ask for it again.
    pub(super) status_due_ms: u64,
    /// When it last announced a block that could be placed.
    pub(super) announced_ms: Option<u64>,
    /// The last block that it showed to have, in the tree or in the store.
    pub(super) best_known: Option<BlockHash>,
    /// What that block's chain contains of what was secured then.
    pub(super) secured: Option<((BlockHash, FinalityStatus), Secured)>,
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
    pub(super) outstanding: usize,
    /// Requests for blocks that still count against its limit.
    pub(super) block_requests: usize,
    /// Requests in a row that it did not answer.
    pub(super) silence: u32,
    pub(super) compared: bool,
    pub(super) to_fetch: VecDeque<Txid>,
    pub(super) fetching: bool,
    /// Transactions that it listed and did not give.
    pub(super) missed: BoundedSet<Txid>,
    /// Blocks whose body it got wrong or did not give.
    pub(super) failed_bodies: BoundedSet<BlockHash>,
}

pub(super) type Peers = BTreeMap<PeerKey, Peer>;

impl SyncState {
    pub(crate) fn connected(&mut self, view: &View<'_>, peer: PeerKey, inbound: bool) {
        if self.peers.len() >= PEERS_MAX {
            return;
        }
        if self.peers.is_empty() {
            self.relay.announce_soon(view.ms);
        }
        let state = Peer {
            inbound,
            points: 0,
            forgiven_ms: view.ms,
            status: None,
            status_due_ms: view.ms,
            announced_ms: None,
            best_known: None,
            secured: None,
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
            approved: view.finality.approved,
        };
        self.ask(view, peer, Asked::Status, Request::Status(status));
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

    /// Gossip shows only one of those who have a new block: ask some others
    /// how far they are.
    pub(super) fn find_other_holders(&mut self, view: &View<'_>, but: PeerKey) {
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
        self.drop_requests(peer);
        let queued: Vec<Txid> = state.to_fetch.into_iter().collect();
        self.retry_elsewhere(peer, &queued);
        self.announcements.forget_peer(peer);
        self.approvals.forget_peer(peer);
        self.collect = true;
    }
}
