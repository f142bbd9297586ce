//! Orphan transactions: those that came before a transaction or a block that they build on.
//! They are held for a while and judged again.

use std::collections::VecDeque;

use pithead_consensus::{Address, SignedTransaction};

use super::SyncState;
use super::announce::HOLD_MS;
use super::node_view::NodeView;
use super::peer_events::{GossipId, PeerKey, Verdict};

/// Most orphans that are held.
const ORPHANS_MAX: usize = 256;
/// Most of them from one peer.
const ORPHANS_PER_PEER_MAX: usize = 32;

/// A transaction that a peer sent.
#[derive(Debug)]
pub(crate) struct ReceivedTransaction {
    pub(crate) transaction: Box<SignedTransaction>,
    pub(crate) from: PeerKey,
    /// The gossip message that waits for a verdict; `None` if the transaction was fetched.
    pub(crate) gossip: Option<GossipId>,
    /// When it came, monotonic milliseconds.
    pub(crate) since_ms: u64,
}

/// The orphans that are held.
#[derive(Debug, Default)]
pub(super) struct OrphanTransactions(VecDeque<ReceivedTransaction>);

impl OrphanTransactions {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl SyncState {
    /// Holds an orphan. If there are too many, one is dropped: a peer that has too many loses
    /// its own oldest, so it can't push out those of other peers.
    pub(crate) fn hold_orphan(&mut self, orphan: ReceivedTransaction) {
        let held = &self.orphans.0;
        let of_peer = |other: &&ReceivedTransaction| other.from == orphan.from;
        let oldest = if held.iter().filter(of_peer).count() >= ORPHANS_PER_PEER_MAX {
            held.iter().position(|other| other.from == orphan.from)
        } else {
            (held.len() >= ORPHANS_MAX).then_some(0)
        };
        if let Some(oldest) = oldest.and_then(|place| self.orphans.0.remove(place)) {
            self.drop_orphan(&oldest);
        }
        self.orphans.0.push_back(orphan);
    }

    fn drop_orphan(&mut self, orphan: &ReceivedTransaction) {
        if let Some(id) = orphan.gossip {
            self.verdict(orphan.from, id, Verdict::Ignore);
        }
    }

    /// Takes out the orphans of one sender, or all: what they build on may be there now. They
    /// are ordered by sequence.
    pub(crate) fn take_orphans(&mut self, sender: Option<&Address>) -> Vec<ReceivedTransaction> {
        if self.orphans.0.is_empty() {
            return Vec::new();
        }
        let held = std::mem::take(&mut self.orphans.0);
        let (taken, kept) = held.into_iter().partition(|orphan| {
            sender.is_none_or(|sender| orphan.transaction.body.sender == *sender)
        });
        self.orphans.0 = kept;
        let mut taken: Vec<ReceivedTransaction> = Vec::from(taken);
        taken.sort_by_key(|orphan| orphan.transaction.body.sequence);
        taken
    }

    /// Drops orphans that have waited too long. They are not in the order of age: those that
    /// were judged again are at the end.
    pub(super) fn sweep_orphans(&mut self, view: &NodeView<'_>) {
        let late =
            |orphan: &ReceivedTransaction| view.ms.saturating_sub(orphan.since_ms) >= HOLD_MS;
        if self.orphans.0.iter().any(late) {
            let held = std::mem::take(&mut self.orphans.0);
            let (dropped, kept): (VecDeque<_>, _) = held.into_iter().partition(late);
            self.orphans.0 = kept;
            dropped.iter().for_each(|orphan| self.drop_orphan(orphan));
        }
    }
}
