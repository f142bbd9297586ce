//! Chain sync and transaction relay, without sockets and without a clock.
//!
//! `SyncState` is driven by `crate::node`: it is told what peers do, plans
//! what to ask of whom, and leaves its `Order`s to be carried out. Judging
//! blocks and transactions stays with the node. Where to start reading:
//! `chain_choice` decides whose chain to follow, `header_requests` whom to ask for headers;
//! `download` fetches bodies, `announce` holds announcements until their block is
//! connected, `block_search` finds blocks that their announcer does not give; `transaction_relay` and
//! `own_transactions` handle transactions; `requests` keeps answers and deadlines, `failures` says
//! what no answer means, `peers` counts offences.
//! [`serve()`] answers peers and knows none of this state.

mod announce;
mod approvals;
mod block_search;
mod body_window;
mod bounded_set;
mod chain_choice;
mod download;
mod failures;
mod header_requests;
mod headers;
mod message;
mod own_transactions;
mod peer;
mod peers;
mod requests;
mod serve;
mod transaction_relay;

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use pithead_consensus::{BlockHash, ConsensusParams, Height, Work};

pub use headers::HEADERS_KEPT_MAX;
pub use message::{
    APPROVALS_MAX, CONTENT_BYTES_MAX, HEADERS_MAX, IDS_MAX, LOCATOR_MAX, MEMPOOL_IDS_MAX,
    REQUEST_BYTES_MAX, Request, Response, Status, response_bytes_max,
};
pub use peer::{
    BAN_POINTS, Gossip, GossipId, Offence, PeerEvent, PeerKey, RequestFailure, RequestId,
    SyncStatus, Verdict,
};
pub use serve::{RecentBlocks, serve};

pub(crate) use approvals::CertificatesEnd;
pub(crate) use download::BodyVerdict;
pub(crate) use requests::Delivered;
pub(crate) use transaction_relay::Early;

use crate::chain::undo_reach;
use crate::finality::FinalityView;
use crate::mempool::Mempool;
use crate::store::schema::ChainEntry;
use crate::store::{Snapshot, StoreError};
use announce::Announcements;
use approvals::Approvals;
use block_search::Searches;
use body_window::Download;
use headers::HeaderTree;
use peers::Peers;
use requests::Requests;
use transaction_relay::Relay;

/// Blocks behind the best headers from which on a node is far behind.
const FAR_BEHIND_BLOCKS: u64 = 24;
/// Blocks behind the best headers at which it has caught up again.
const CAUGHT_UP_BLOCKS: u64 = 2;

/// How a node syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncSettings {
    /// Chains with less work than this are not worth a download, and a node on
    /// one has not caught up.
    pub minimum_chain_work: Work,
    /// Spreads choices that are otherwise equal: which peer to ask, when to
    /// ask again. The same seed makes the same choices.
    pub seed: u64,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            minimum_chain_work: Work::ZERO,
            seed: 0,
        }
    }
}

/// What sync holds, for those who watch its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncUsage {
    /// Peers.
    pub peers: usize,
    /// Headers ahead of the stored chain.
    pub headers: usize,
    /// Requests without an answer.
    pub requests: usize,
    /// Bodies that wait for an earlier one.
    pub bodies: usize,
    /// Their encoded bytes.
    pub body_bytes: usize,
    /// Announced blocks whose verdict is held back until they are connected.
    pub held_announcements: usize,
    /// Ids of transactions to be fetched.
    pub wanted_transactions: usize,
    /// Own transactions to be announced again.
    pub own_transactions: usize,
    /// Transactions that came before what they build on.
    pub early_transactions: usize,
}

/// What the node is to pass on.
#[derive(Debug)]
pub(crate) enum Order {
    Request(PeerKey, RequestId, Request),
    Verdict(PeerKey, GossipId, Verdict),
    Publish(Gossip),
    Disconnect(PeerKey, Offence, bool),
    Scored(PeerKey, u32),
}

/// The node as sync sees it at one moment.
pub(crate) struct View<'a> {
    pub(crate) params: &'a ConsensusParams,
    pub(crate) store: &'a dyn Snapshot,
    pub(crate) tip: &'a ChainEntry,
    pub(crate) mempool: &'a RwLock<Mempool>,
    /// Which checkpoints are approved and final.
    pub(crate) finality: &'a FinalityView,
    /// The highest checkpoint of the best chain, if there are validators.
    pub(crate) checkpoint: Option<Height>,
    pub(crate) unix_secs: u64,
    pub(crate) ms: u64,
}

impl View<'_> {
    /// The pool's invariants hold between its methods, whoever panicked.
    fn mempool(&self) -> RwLockReadGuard<'_, Mempool> {
        self.mempool.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many blocks can be undone.
    fn undo_reach(&self) -> Result<u64, StoreError> {
        undo_reach(self.store, self.checkpoint.is_none(), self.tip.height)
    }
}

/// Everything that sync remembers.
pub(crate) struct SyncState {
    settings: SyncSettings,
    headers: HeaderTree,
    peers: Peers,
    requests: Requests,
    download: Download,
    announcements: Announcements,
    searches: Searches,
    relay: Relay,
    approvals: Approvals,
    orders: Vec<Order>,
    status: SyncStatus,
    /// Headers were shown of a chain that is far longer, or work is missing that there
    /// must be.
    is_behind: bool,
    /// The best chain lacks what certificates secure: another one is the right
    /// one, however little work it has.
    astray: bool,
    /// A peer left, or shows another chain: some headers may lead nowhere now.
    collect: bool,
    /// When deadlines were last looked at.
    swept_ms: Option<u64>,
    /// The tip, and since when it is that.
    tip_since: (BlockHash, u64),
    tip_stands_still: bool,
}

impl SyncState {
    pub(crate) fn new(settings: SyncSettings, tip: &ChainEntry) -> Self {
        Self {
            settings,
            headers: HeaderTree::new(),
            peers: Peers::default(),
            requests: Requests::default(),
            download: Download::new(),
            announcements: Announcements::default(),
            searches: Searches::default(),
            relay: Relay::new(),
            approvals: Approvals::default(),
            orders: Vec::new(),
            is_behind: tip.chain_work < settings.minimum_chain_work,
            status: SyncStatus {
                syncing: tip.chain_work < settings.minimum_chain_work,
                best_header_height: tip.height,
                best_header_hash: tip.hash(),
                best_header_work: tip.chain_work,
                tip_stands_still: false,
            },
            astray: false,
            collect: false,
            swept_ms: None,
            tip_since: (tip.hash(), 0),
            tip_stands_still: false,
        }
    }

    pub(crate) fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    pub(crate) fn status(&self) -> SyncStatus {
        self.status
    }

    pub(crate) fn usage(&self) -> SyncUsage {
        let (bodies, body_bytes) = self.download.held();
        SyncUsage {
            peers: self.peers.len(),
            headers: self.headers.len(),
            requests: self.requests.len(),
            bodies,
            body_bytes,
            held_announcements: self.announcements.len(),
            wanted_transactions: self.relay.wanted_len(),
            own_transactions: self.relay.own_len(),
            early_transactions: self.relay.early_len(),
        }
    }

    /// Whether this node is known to be far behind, as against being told so.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Works the status out anew; returns it if it changed.
    pub(crate) fn refresh_status(&mut self, tip: &ChainEntry) -> Option<SyncStatus> {
        let target = self.download.target();
        let best = target
            .and_then(|hash| self.headers.get(&hash).map(|node| (hash, *node)))
            .filter(|(_, node)| node.chain_work > tip.chain_work);
        let (hash, height, work) = match best {
            Some((hash, node)) => (hash, node.height, node.chain_work),
            None => (tip.hash(), tip.height, tip.chain_work),
        };
        let behind = height.0.saturating_sub(tip.height.0);
        let limit = if self.status.syncing {
            CAUGHT_UP_BLOCKS
        } else {
            FAR_BEHIND_BLOCKS
        };
        self.is_behind = behind > limit || tip.chain_work < self.settings.minimum_chain_work;
        let status = SyncStatus {
            syncing: self.is_behind || self.is_told_of_more(tip, limit),
            tip_stands_still: self.tip_stands_still,
            best_header_height: height,
            best_header_hash: hash,
            best_header_work: work,
        };
        (std::mem::replace(&mut self.status, status) != status).then_some(status)
    }

    /// Whether a peer that this node chose says that its chain is far longer, and its
    /// headers are still to be seen. What it has said and not shown counts no more.
    fn is_told_of_more(&self, tip: &ChainEntry, limit: u64) -> bool {
        self.peers.values().any(|state| {
            let due = state.headers_wanted || state.headers_asked;
            due && !state.inbound
                && state.headers_failed == 0
                && !state.headers_doubted
                && state.status.is_some_and(|status| {
                    status.chain_work > tip.chain_work
                        && status.height.0.saturating_sub(tip.height.0) > limit
                        && self.headers.get(&status.best_hash).is_none()
                })
        })
    }

    fn locator_start(&self, view: &View<'_>) -> BlockHash {
        self.download
            .target()
            .filter(|hash| self.headers.get(hash).is_some())
            .unwrap_or_else(|| view.tip.hash())
    }
}

/// Mixes numbers into one that looks random: for choices that are otherwise
/// equal. (The finaliser of SplitMix64.)
fn mix(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
