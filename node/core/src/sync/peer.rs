//! The record of one connected peer, its arrival and departure, and the points against it.
//!
//! [`Peer`] is a list of smaller records. Each is private to the file that owns the rule
//! behind it: the other files call its methods and never write its fields.

use std::collections::BTreeMap;

use super::announce::PeerAnnouncements;
use super::branch_finality::BranchFinalityCache;
use super::download::BlockRequests;
use super::failures::Responsiveness;
use super::header_answers::HeaderAnswers;
use super::header_requests::HeaderRequests;
use super::node_view::NodeView;
use super::peer_chain::PeerChain;
use super::peer_clock::PeerClock;
use super::peer_events::{BAN_POINTS, Offence, PeerKey};
use super::requests::OpenRequests;
use super::transaction_relay::TransactionRequests;
use super::{PeerEffect, SyncState};

/// Most peers. The network shell has a lower limit of its own.
const PEERS_MAX: usize = 1_024;
/// One point is forgiven each time this has passed.
const FORGIVE_MS: u64 = 10_000;

/// A connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// Whether the peer opened the connection. We chose our outbound peers, so an
    /// attacker cannot have chosen them.
    pub(super) inbound: bool,
    offences: OffencePoints,
    /// How reliably it answers, and whether it is paused for a stall or a failure.
    pub(super) responses: Responsiveness,
    /// How many requests it has not answered yet.
    pub(super) open_requests: OpenRequests,
    /// The chain that it claims and the part that it has shown.
    pub(super) chain: PeerChain,
    /// The final and approved checkpoints on that chain.
    pub(super) branch_finality: BranchFinalityCache,
    pub(super) headers: HeaderRequests,
    pub(super) header_answers: HeaderAnswers,
    pub(super) blocks: BlockRequests,
    pub(super) announcements: PeerAnnouncements,
    pub(super) transactions: TransactionRequests,
    /// The block that it has ahead of this node's clock.
    pub(super) clock: PeerClock,
}

/// All connected peers, in the order of their keys: every run iterates alike.
pub(super) type Peers = BTreeMap<PeerKey, Peer>;

impl Peer {
    fn new(inbound: bool, now_ms: u64) -> Self {
        Self {
            inbound,
            offences: OffencePoints::new(now_ms),
            responses: Responsiveness::default(),
            open_requests: OpenRequests::default(),
            chain: PeerChain::new(now_ms),
            branch_finality: BranchFinalityCache::default(),
            headers: HeaderRequests::default(),
            header_answers: HeaderAnswers::default(),
            blocks: BlockRequests::new(),
            announcements: PeerAnnouncements::new(),
            transactions: TransactionRequests::new(),
            clock: PeerClock::default(),
        }
    }
}

/// The points against a peer. They decay with time.
#[derive(Debug)]
struct OffencePoints {
    points: u32,
    /// The time up to which points have been forgiven.
    forgiven_ms: u64,
}

impl OffencePoints {
    fn new(now_ms: u64) -> Self {
        Self {
            points: 0,
            forgiven_ms: now_ms,
        }
    }

    /// Forgives what time has forgiven, then adds the points of an offence. Returns the sum.
    fn add(&mut self, offence: Offence, now_ms: u64) -> u32 {
        let passed = now_ms.saturating_sub(self.forgiven_ms) / FORGIVE_MS;
        let forgiven = u32::try_from(passed).unwrap_or(u32::MAX);
        self.points = self.points.saturating_sub(forgiven);
        self.forgiven_ms = self.forgiven_ms.saturating_add(passed * FORGIVE_MS);
        self.points = self.points.saturating_add(offence.points());
        self.points
    }
}

impl SyncState {
    pub(crate) fn connected(&mut self, view: &NodeView<'_>, peer: PeerKey, inbound: bool) {
        if self.peers.len() >= PEERS_MAX {
            return;
        }
        if self.peers.is_empty() {
            self.local.announce_soon(view.ms);
        }
        let state = Peer::new(inbound, view.ms);
        self.peers.entry(peer).or_insert(state);
        self.ask_status(view, peer);
    }

    pub(crate) fn disconnected(&mut self, peer: PeerKey) {
        self.forget_peer(peer);
    }

    /// Adds an offence's points to a peer, and bans it at [`BAN_POINTS`].
    pub(crate) fn offend(&mut self, view: &NodeView<'_>, peer: PeerKey, offence: Offence) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let points = state.offences.add(offence, view.ms);
        tracing::debug!(%peer, %offence, points, "offence");
        self.effects.push(PeerEffect::Scored { peer, points });
        if points >= BAN_POINTS {
            self.disconnect(peer, offence, true);
        }
    }

    /// Closes a peer's connection without a ban, unless the peer has been banned already.
    pub(super) fn let_go(&mut self, peer: PeerKey, reason: Offence) {
        if self.peers.contains_key(&peer) {
            self.disconnect(peer, reason, false);
        }
    }

    fn disconnect(&mut self, peer: PeerKey, reason: Offence, ban: bool) {
        self.effects
            .push(PeerEffect::Disconnect { peer, reason, ban });
        self.forget_peer(peer);
    }

    fn forget_peer(&mut self, peer: PeerKey) {
        let Some(state) = self.peers.remove(&peer) else {
            return;
        };
        self.drop_requests(peer);
        let queued = state.transactions.into_queue();
        self.fetch_elsewhere(peer, &queued);
        self.announcements.forget_peer(peer);
        self.walks.forget_peer(peer);
        self.headers.mark_for_collection();
    }
}
