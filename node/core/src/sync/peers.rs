//! Peers: what is known of each, and what they did wrong.

use std::collections::{BTreeMap, VecDeque};

use pithead_consensus::{BlockHash, Height, Txid};

use super::announce::ANNOUNCED_MAX;
use super::bounded_set::BoundedSet;
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
/// Between two looks at deadlines lies a second; if it is more than this, the core
/// itself was busy, and what came in the meantime waits behind.
const SWEEP_GAP_MS: u64 = 3_000;
/// Block intervals after which a tip that stays the same is a reason to look for
/// more peers: one in 20,000 blocks takes so long by chance.
const STILL_INTERVALS: u64 = 10;
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
    /// Blocks that it announced, the last ones.
    pub(super) announced: BoundedSet<BlockHash>,
    /// The last block that it showed to have, in the tree or in the store.
    pub(super) best_known: Option<BlockHash>,
    /// What that block's chain contains of what was secured then.
    pub(super) secured: Option<((BlockHash, FinalityStatus), Secured)>,
    /// How far it shares the download's path, and in which epoch that was so.
    pub(super) shared: Option<(u64, Option<u64>)>,
    /// It has headers that are not known here.
    pub(super) headers_wanted: bool,
    /// Requests for headers in a row that it left unanswered or declined.
    pub(super) headers_failed: u32,
    /// It is not asked for headers before this.
    pub(super) headers_retry_ms: u64,
    /// Its next header may be asked for at this time, Unix seconds.
    pub(super) headers_from_secs: u64,
    /// The last of a full answer with headers: the next request goes on from there.
    pub(super) headers_next: Option<(BlockHash, Height)>,
    /// Its last answer with headers led nowhere: what it promises keeps nobody from work.
    pub(super) headers_doubted: bool,
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
    /// How often in a row it did not answer.
    pub(super) silence: u32,
    /// When that was last counted: what was asked before counts with it.
    pub(super) silent_ms: Option<u64>,
    /// When it last answered.
    pub(super) answered_ms: Option<u64>,
    /// How often in a row it declined.
    pub(super) declined: u32,
    /// When that was last counted.
    pub(super) declined_ms: Option<u64>,
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
            announced: BoundedSet::new(ANNOUNCED_MAX),
            best_known: None,
            secured: None,
            shared: None,
            headers_wanted: false,
            headers_failed: 0,
            headers_retry_ms: 0,
            headers_from_secs: 0,
            headers_next: None,
            headers_doubted: false,
            headers_asked: false,
            low_work_headers: 0,
            empty_answers: 0,
            quiet_until_ms: 0,
            batch: BATCH_START,
            outstanding: 0,
            block_requests: 0,
            silence: 0,
            silent_ms: None,
            answered_ms: None,
            declined: 0,
            declined_ms: None,
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
            approved: view.finality.status().approved,
        };
        self.ask(view, peer, Asked::Status, Request::Status(status));
    }

    /// Looks at every deadline; called once a second.
    pub(crate) fn sweep(&mut self, view: &View<'_>) {
        self.note_tip(view);
        let before = self.swept_ms.replace(view.ms);
        let gap = view.ms.saturating_sub(before.unwrap_or(view.ms));
        if gap > SWEEP_GAP_MS {
            self.wait_longer(view, gap);
        }
        self.sweep_requests(view);
        self.sweep_searches(view);
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

    /// Notices a tip that stands still.
    fn note_tip(&mut self, view: &View<'_>) {
        let tip = view.tip.hash();
        if self.tip_since.0 != tip || self.peers.is_empty() {
            self.tip_since = (tip, view.ms);
        }
        let still_ms = view.ms.saturating_sub(self.tip_since.1);
        let interval_ms = u64::from(view.params.block_interval_secs).saturating_mul(1_000);
        self.tip_stands_still = still_ms >= STILL_INTERVALS.saturating_mul(interval_ms);
    }

    /// Holds something against a peer; at [`BAN_POINTS`] it is banned.
    pub(crate) fn offend(&mut self, view: &View<'_>, peer: PeerKey, offence: Offence) {
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
