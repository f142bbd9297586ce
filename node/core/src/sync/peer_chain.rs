//! The chain of a peer: what its status claims, and the last block that it has shown to
//! have. It does not choose between chains: `chain_choice` does.

use pithead_consensus::{BlockHash, Work};

use super::message::{Request, Status};
use super::node_view::NodeView;
use super::peer_events::{Offence, PeerKey};
use super::requests::RequestContext;
use super::{SyncState, mix};
use crate::store::StoreError;

/// A peer is asked for its status again after this.
const STATUS_INTERVAL_MS: u64 = 60_000;
/// A random part of this is added, so that the peers are not all asked at once.
const STATUS_SPREAD_MS: u64 = 20_000;

/// What a peer has claimed and shown of its chain.
#[derive(Debug)]
pub(super) struct PeerChain {
    /// Its last status: a claim, which proves nothing.
    status: Option<Status>,
    status_due_ms: u64,
    /// The last block that it has shown to have, in the header tree or in the store.
    best_known: Option<BlockHash>,
    shared: Option<SharedPath>,
}

/// How far a peer's chain shares the download's path.
#[derive(Debug, Clone, Copy)]
struct SharedPath {
    /// The path changes with every epoch.
    epoch: u64,
    /// The height of the last shared block, if any is shared.
    height: Option<u64>,
}

impl PeerChain {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            status: None,
            status_due_ms: now_ms,
            best_known: None,
            shared: None,
        }
    }

    pub(super) fn status(&self) -> Option<Status> {
        self.status
    }

    /// Drops a status that is older than what the peer has shown since.
    pub(super) fn forget_status(&mut self) {
        self.status = None;
    }

    pub(super) fn is_status_due(&self, now_ms: u64) -> bool {
        self.status_due_ms <= now_ms
    }

    /// Asks for the status at this time, whenever it was due before.
    pub(super) fn ask_status_at(&mut self, ms: u64) {
        self.status_due_ms = ms;
    }

    /// Asks for the status at this time, unless it is due earlier.
    pub(super) fn ask_status_by(&mut self, ms: u64) {
        self.status_due_ms = self.status_due_ms.min(ms);
    }

    pub(super) fn best_known(&self) -> Option<BlockHash> {
        self.best_known
    }

    fn show(&mut self, hash: BlockHash) {
        if self.best_known != Some(hash) {
            self.best_known = Some(hash);
            self.shared = None;
        }
    }

    /// The peer no longer counts as having any block.
    pub(super) fn retract(&mut self) {
        self.best_known = None;
        self.shared = None;
    }

    /// The height up to which the peer has the blocks of the download's path. `work_out` is
    /// called once for each block that the peer shows and each epoch of the path.
    pub(super) fn shared_height(
        &mut self,
        epoch: u64,
        work_out: impl FnOnce(BlockHash) -> Option<u64>,
    ) -> Option<u64> {
        let best_known = self.best_known?;
        match self.shared {
            Some(shared) if shared.epoch == epoch => shared.height,
            _ => {
                let height = work_out(best_known);
                self.shared = Some(SharedPath { epoch, height });
                height
            }
        }
    }
}

impl SyncState {
    pub(super) fn ask_status(&mut self, view: &NodeView<'_>, peer: PeerKey) {
        let spread = mix(self.settings.seed ^ view.ms, peer.0) % STATUS_SPREAD_MS;
        if let Some(state) = self.peers.get_mut(&peer) {
            let due = view.ms.saturating_add(STATUS_INTERVAL_MS + spread);
            state.chain.ask_status_at(due);
        }
        let status = Status {
            best_hash: view.tip.hash(),
            height: view.tip.height,
            chain_work: view.tip.chain_work,
            approved: view.finality.status().approved,
        };
        self.ask(view, peer, RequestContext::Status, Request::Status(status));
    }

    pub(super) fn sweep_statuses(&mut self, view: &NodeView<'_>) {
        let due: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, state)| state.chain.is_status_due(view.ms))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            self.ask_status(view, peer);
        }
    }

    /// Handles a status that a peer sent unasked. It does so when gossip may have kept its
    /// last block from us.
    pub(crate) fn unsolicited_status(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        status: Status,
    ) -> Result<(), StoreError> {
        if !self.peers.contains_key(&peer) {
            return Ok(());
        }
        self.take_status(view, peer, status, view.ms)
    }

    /// Handles a peer's status; `asked_ms` is when it was asked for.
    pub(super) fn take_status(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        status: Status,
        asked_ms: u64,
    ) -> Result<(), StoreError> {
        if self.headers.is_invalid(&status.best_hash) {
            self.offend(view, peer, Offence::InvalidBlock);
            return Ok(());
        }
        // Gossip can overtake an answer: 1. we ask; 2. the peer announces block 8; 3. its
        // answer arrives and still says 7. The answer must not take block 8 back.
        let mut overtaken = false;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.chain.status = Some(status);
            overtaken = state.announcements.any_since(asked_ms);
        }
        match self.headers.locate(view, &status.best_hash)? {
            Some(known) => {
                if overtaken {
                    self.shows_at_least(view, peer, status.best_hash, known.chain_work)?;
                } else {
                    self.shows(peer, status.best_hash);
                }
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.header_answers.kept_promise();
                }
            }
            None => {
                let better = status.chain_work > view.tip.chain_work || self.off_certified_chain;
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.headers.set_wanted(better);
                }
            }
        }
        Ok(())
    }

    /// Records that a peer has this block and all blocks below it.
    pub(super) fn shows(&mut self, peer: PeerKey, hash: BlockHash) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.chain.show(hash);
        }
    }

    /// Records that a peer has this block, unless it has shown a block with more work:
    /// messages can overtake each other.
    pub(super) fn shows_at_least(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        hash: BlockHash,
        work: Work,
    ) -> Result<(), StoreError> {
        let before = self
            .peers
            .get(&peer)
            .and_then(|state| state.chain.best_known);
        let more = match before {
            Some(before) => self.headers.locate(view, &before)?,
            None => None,
        };
        if more.is_none_or(|known| known.chain_work <= work) {
            self.shows(peer, hash);
        }
        Ok(())
    }

    /// The peer did not give this block. If that is the last block that it has shown, the
    /// peer no longer counts as having it.
    pub(super) fn retract_claim(&mut self, peer: PeerKey, hash: BlockHash) {
        if let Some(state) = self.peers.get_mut(&peer)
            && state.chain.best_known == Some(hash)
        {
            state.chain.retract();
            self.headers.mark_for_collection();
        }
    }
}
