//! Announcements of new blocks. A node holds an announced header back until the block is
//! connected, and forwards it only then: so a node that announces a block has it and has
//! checked it.

use std::collections::BTreeMap;

use pithead_consensus::{BlockHash, BlockHeader};

use super::bounded_set::BoundedSet;
use super::headers::HeaderRefusal;
use super::node_view::NodeView;
use super::peer_events::{Gossip, GossipId, Offence, PeerKey, Verdict};
use super::{PeerEffect, SyncState};
use crate::store::StoreError;

/// Most announcements that are held back.
const HELD_MAX: usize = 128;
/// Most blocks announced by one peer that are remembered.
const ANNOUNCED_MAX: usize = 64;
/// Gossip that has waited this long for what it depends on is dropped: the network shell
/// forgets a message after 15 s.
pub(super) const HOLD_MS: u64 = 12_000;

/// The blocks that one peer has announced.
#[derive(Debug)]
pub(super) struct PeerAnnouncements {
    /// When the peer last announced a block whose header was kept.
    last_ms: Option<u64>,
    /// The last ones.
    recent: BoundedSet<BlockHash>,
}

impl PeerAnnouncements {
    pub(super) fn new() -> Self {
        Self {
            last_ms: None,
            recent: BoundedSet::new(ANNOUNCED_MAX),
        }
    }

    pub(super) fn contains(&self, hash: &BlockHash) -> bool {
        self.recent.contains(hash)
    }

    pub(super) fn any_since(&self, ms: u64) -> bool {
        self.last_ms.is_some_and(|when| when >= ms)
    }
}

/// A gossip message that announced a block and waits for its verdict.
#[derive(Debug)]
struct HeldAnnouncement {
    peer: PeerKey,
    id: GossipId,
    since_ms: u64,
}

/// Announcements that are held back, by block.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    held: BTreeMap<BlockHash, Vec<HeldAnnouncement>>,
    count: usize,
}

impl Announcements {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn hold(&mut self, hash: BlockHash, held: HeldAnnouncement) -> bool {
        if self.count >= HELD_MAX {
            return false;
        }
        self.count += 1;
        self.held.entry(hash).or_default().push(held);
        true
    }

    fn take(&mut self, hash: &BlockHash) -> Vec<HeldAnnouncement> {
        let taken = self.held.remove(hash).unwrap_or_default();
        self.count -= taken.len();
        taken
    }

    pub(super) fn forget_peer(&mut self, peer: PeerKey) {
        self.drop_if(|held| held.peer == peer);
    }

    fn drop_if(&mut self, gone: impl Fn(&HeldAnnouncement) -> bool) -> Vec<HeldAnnouncement> {
        let mut dropped = Vec::new();
        self.held.retain(|_, waiting| {
            let (out, kept) = std::mem::take(waiting).into_iter().partition(&gone);
            dropped.extend::<Vec<HeldAnnouncement>>(out);
            *waiting = kept;
            !waiting.is_empty()
        });
        self.count -= dropped.len();
        dropped
    }
}

impl SyncState {
    /// A peer announced a block.
    pub(crate) fn announced(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        id: GossipId,
        header: &BlockHeader,
    ) -> Result<(), StoreError> {
        let (verdict, offence) = if self.peers.contains_key(&peer) {
            self.judge_announcement(view, peer, id, header)?
        } else {
            (Some(Verdict::Ignore), None)
        };
        if let Some(verdict) = verdict {
            self.verdict(peer, id, verdict);
        }
        if let Some(offence) = offence {
            self.offend(view, peer, offence);
        }
        Ok(())
    }

    /// The verdict, unless it has to wait for the block, and what to hold against the peer.
    fn judge_announcement(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        id: GossipId,
        header: &BlockHeader,
    ) -> Result<(Option<Verdict>, Option<Offence>), StoreError> {
        const IGNORE: (Option<Verdict>, Option<Offence>) = (Some(Verdict::Ignore), None);
        let kept = match self.keep_header(view, header)? {
            Ok(kept) => kept,
            Err(refusal) => {
                let offence = self.announcement_refused(view, peer, refusal);
                let verdict = match offence {
                    Some(_) => Verdict::Reject,
                    None => Verdict::Ignore,
                };
                return Ok((Some(verdict), offence));
            }
        };
        self.shows_at_least(view, peer, kept.hash, kept.known.chain_work)?;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.announcements.last_ms = Some(view.ms);
            state.announcements.recent.insert(kept.hash);
        }
        let better = kept.known.chain_work > view.tip.chain_work;
        if kept.known.stored || !better || self.status.syncing {
            return Ok(IGNORE);
        }
        let held = HeldAnnouncement {
            peer,
            id,
            since_ms: view.ms,
        };
        Ok(if self.announcements.hold(kept.hash, held) {
            (None, None)
        } else {
            IGNORE
        })
    }

    /// An announced header is not kept: returns the offence, if it is one.
    fn announcement_refused(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        refusal: HeaderRefusal,
    ) -> Option<Offence> {
        match refusal {
            HeaderRefusal::Invalid => return Some(Offence::InvalidHeader),
            HeaderRefusal::KnownInvalid => return Some(Offence::InvalidBlock),
            HeaderRefusal::UnknownParent => {
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.headers.want();
                    // The peer's last status is older than this block.
                    state.chain.forget_status();
                }
            }
            HeaderRefusal::FromFuture(future) => {
                self.header_from_future(view, peer, future, future.time);
            }
            HeaderRefusal::Full | HeaderRefusal::ContradictsFinal => {}
        }
        None
    }

    /// A block has passed every rule and is about to become the tip: its announcements are
    /// forwarded, before the commit.
    pub(crate) fn validated(&mut self, header: &BlockHeader) {
        let hash = header.hash();
        let held = self.announcements.take(&hash);
        let forwards = !held.is_empty();
        for HeldAnnouncement { peer, id, .. } in held {
            self.verdict(peer, id, Verdict::Accept);
        }
        // To forward an announcement tells every peer as well. A block in the middle of the
        // download's path is not announced, since a better one follows.
        if !forwards
            && !self.download.is_on_the_way(&hash)
            && !self.status.syncing
            && !self.peers.is_empty()
        {
            self.effects
                .push(PeerEffect::Publish(Gossip::Block(*header)));
        }
    }

    /// Gives every held announcement of a block this verdict.
    pub(super) fn settle_announcements(&mut self, hash: &BlockHash, verdict: Verdict) {
        for HeldAnnouncement { peer, id, .. } in self.announcements.take(hash) {
            self.verdict(peer, id, verdict);
        }
    }

    pub(super) fn sweep_announcements(&mut self, view: &NodeView<'_>) {
        let late = |held: &HeldAnnouncement| view.ms.saturating_sub(held.since_ms) >= HOLD_MS;
        for HeldAnnouncement { peer, id, .. } in self.announcements.drop_if(late) {
            self.verdict(peer, id, Verdict::Ignore);
        }
    }
}
