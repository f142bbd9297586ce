//! Chain sync and transaction relay, without sockets and without a clock.
//!
//! `SyncState` learns what peers do, plans which requests to send to which peer, and
//! leaves [`PeerEffect`]s for the network shell. The node, in `crate::node`, judges blocks and
//! transactions. [`serve()`] answers peers from a snapshot and does not know this state.
//!
//! Where to start reading:
//! - `peer` is the record of one peer and of the points against it; `peer_events` is what
//!   passes between core and shell.
//! - Headers: `peer_chain` is what a peer claims and has shown, `header_requests` whom to ask,
//!   `header_answers` what an answer means, `headers` the tree of what is kept.
//! - Blocks: `chain_choice` picks the branch to follow, `download` fetches its blocks along the
//!   path in `body_window`, `announce` holds announcements back until their block is connected,
//!   and `block_search` finds a block that its announcer does not give.
//! - Transactions: `transaction_relay`, `orphan_transactions` and `local_transactions`.
//! - Finality: `certificate_walks` and `approvals` ask for what gossip missed, `branch_finality`
//!   tells which final and approved checkpoints a branch contains.
//! - Time: `peer_clock` notices that this node's clock is behind those of its peers.
//! - Requests: `requests` keeps answers and deadlines, `failures` says what no answer means, and
//!   `sweep` looks at every deadline once a second.

mod message;
mod node_view;
mod peer_events;

mod announce;
mod approvals;
mod block_search;
mod body_window;
mod bounded_set;
mod branch_finality;
mod certificate_walks;
mod chain_choice;
mod download;
mod failures;
mod header_answers;
mod header_requests;
mod headers;
mod local_transactions;
mod orphan_transactions;
mod peer;
mod peer_chain;
mod peer_clock;
mod refusals;
mod requests;
mod serve;
mod sweep;
mod transaction_relay;

use pithead_consensus::Work;

pub use headers::HEADERS_KEPT_MAX;
pub use message::{
    APPROVALS_MAX, CONTENT_BYTES_MAX, HEADERS_MAX, IDS_MAX, LOCATOR_MAX, MEMPOOL_IDS_MAX,
    REQUEST_BYTES_MAX, Request, Response, Status, response_bytes_max,
};
pub use peer_events::{
    BAN_POINTS, Gossip, GossipId, Offence, PeerEffect, PeerEvent, PeerKey, RequestFailure,
    RequestId, SyncStatus, Verdict,
};
pub use serve::{RecentBlocks, serve};

pub(crate) use certificate_walks::CertificatesEnd;
pub(crate) use download::BodyVerdict;
pub(crate) use node_view::NodeView;
pub(crate) use orphan_transactions::ReceivedTransaction;
pub(crate) use requests::Delivered;

use crate::store::schema::ChainEntry;
use announce::Announcements;
use approvals::ApprovalRequests;
use block_search::BlockSearches;
use body_window::Download;
use certificate_walks::CertificateWalks;
use failures::LocalOutage;
use headers::HeaderTree;
use local_transactions::LocalTransactions;
use orphan_transactions::OrphanTransactions;
use peer::Peers;
use peer_clock::ClockWatch;
use requests::Requests;
use sweep::SweepState;
use transaction_relay::TransactionRelay;

/// A node that is more than this many blocks behind its best headers is far behind.
const FAR_BEHIND_BLOCKS: u64 = 24;
/// It has caught up again when it is at most this many blocks behind.
const CAUGHT_UP_BLOCKS: u64 = 2;

/// Settings of sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncSettings {
    /// A chain with less work than this is not downloaded, and a node on it has not caught up.
    pub minimum_chain_work: Work,
    /// Decides between choices that are otherwise equal: which peer to ask, when to ask again.
    /// The same seed makes the same choices.
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

/// How much sync holds, for tests of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncUsage {
    pub peers: usize,
    /// Headers ahead of the stored chain.
    pub headers: usize,
    /// Requests without an outcome.
    pub requests: usize,
    /// Bodies that wait for an earlier one.
    pub bodies: usize,
    /// Encoded bytes of `bodies`.
    pub body_bytes: usize,
    /// Announcements whose verdict is held back until their block is connected.
    pub held_announcements: usize,
    /// Transactions to be fetched.
    pub wanted_transactions: usize,
    /// This node's own transactions, which are announced again until they are mined.
    pub local_transactions: usize,
    /// Transactions that came before one that they build on.
    pub orphan_transactions: usize,
}

/// Everything that sync remembers.
pub(crate) struct SyncState {
    settings: SyncSettings,
    headers: HeaderTree,
    peers: Peers,
    requests: Requests,
    download: Download,
    announcements: Announcements,
    searches: BlockSearches,
    relay: TransactionRelay,
    orphans: OrphanTransactions,
    local: LocalTransactions,
    walks: CertificateWalks,
    approvals: ApprovalRequests,
    effects: Vec<PeerEffect>,
    status: SyncStatus,
    /// Known headers are far ahead of the tip, or our chain has less than the minimum work.
    is_behind: bool,
    /// Our best chain lacks a final or the approved block, so another chain is the right one,
    /// however little work it has.
    off_certified_chain: bool,
    sweeps: SweepState,
    local_outage: LocalOutage,
    clock: ClockWatch,
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
            searches: BlockSearches::default(),
            relay: TransactionRelay::new(),
            orphans: OrphanTransactions::default(),
            local: LocalTransactions::default(),
            walks: CertificateWalks::default(),
            approvals: ApprovalRequests::default(),
            effects: Vec::new(),
            is_behind: tip.chain_work < settings.minimum_chain_work,
            status: SyncStatus {
                syncing: tip.chain_work < settings.minimum_chain_work,
                best_header_height: tip.height,
                best_header_hash: tip.hash(),
                best_header_work: tip.chain_work,
                tip_stands_still: false,
                clock_behind_secs: 0,
            },
            off_certified_chain: false,
            sweeps: SweepState::new(tip.hash()),
            local_outage: LocalOutage::default(),
            clock: ClockWatch::default(),
        }
    }

    /// Answers a gossip message.
    pub(crate) fn verdict(&mut self, peer: PeerKey, id: GossipId, verdict: Verdict) {
        self.effects.push(PeerEffect::Verdict { peer, id, verdict });
    }

    /// The effects since the last call, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<PeerEffect> {
        std::mem::take(&mut self.effects)
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
            local_transactions: self.local.len(),
            orphan_transactions: self.orphans.len(),
        }
    }

    /// Whether this node is known to be far behind. A peer's mere claim does not count.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Updates the status; returns it if it has changed.
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
            syncing: self.is_behind || self.is_more_claimed(tip, limit),
            tip_stands_still: self.sweeps.tip_stands_still(),
            clock_behind_secs: self.clock.behind_secs(),
            best_header_height: height,
            best_header_hash: hash,
            best_header_work: work,
        };
        (std::mem::replace(&mut self.status, status) != status).then_some(status)
    }

    /// Whether an outbound peer claims a chain that is far longer than ours. The claim counts
    /// until an answer is due and fails to bear it out.
    fn is_more_claimed(&self, tip: &ChainEntry, limit: u64) -> bool {
        self.peers.values().any(|state| {
            !state.inbound
                && state.headers.is_claim_open()
                && state.chain.status().is_some_and(|status| {
                    status.chain_work > tip.chain_work
                        && status.height.0.saturating_sub(tip.height.0) > limit
                        && self.headers.get(&status.best_hash).is_none()
                })
        })
    }
}

/// Mixes two numbers into one that looks random, for choices that are otherwise equal. This is
/// the finaliser of SplitMix64.
fn mix(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
