//! New blocks: an announced header is held back until its block is connected,
//! so that whoever announces a block has it and knows it to be sound.

use std::collections::BTreeMap;

use pithead_consensus::{BlockHash, BlockHeader};

use super::headers::Refusal;
use super::peer::{Gossip, GossipId, Offence, PeerKey, Verdict};
use super::{PeerEffect, SyncState, View};
use crate::store::StoreError;

/// Most announcements that are held back.
const HELD_MAX: usize = 128;
/// Blocks announced by one peer that are remembered.
pub(super) const ANNOUNCED_MAX: usize = 64;
/// An announcement whose block is not there by then is not passed on: gossip forgets
/// it after 15 s.
pub(super) const HOLD_MS: u64 = 12_000;

#[derive(Debug)]
struct Held {
    peer: PeerKey,
    id: GossipId,
    since_ms: u64,
}

/// Announcements held back, by block.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    held: BTreeMap<BlockHash, Vec<Held>>,
    count: usize,
}

impl Announcements {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn hold(&mut self, hash: BlockHash, held: Held) -> bool {
        if self.count >= HELD_MAX {
            return false;
        }
        self.count += 1;
        self.held.entry(hash).or_default().push(held);
        true
    }

    fn take(&mut self, hash: &BlockHash) -> Vec<Held> {
        let taken = self.held.remove(hash).unwrap_or_default();
        self.count -= taken.len();
        taken
    }

    pub(super) fn forget_peer(&mut self, peer: PeerKey) {
        self.drop_if(|held| held.peer == peer);
    }

    fn drop_if(&mut self, gone: impl Fn(&Held) -> bool) -> Vec<Held> {
        let mut dropped = Vec::new();
        self.held.retain(|_, waiting| {
            let (out, kept) = std::mem::take(waiting).into_iter().partition(&gone);
            dropped.extend::<Vec<Held>>(out);
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
        view: &View<'_>,
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
            self.effects.push(PeerEffect::Verdict { peer, id, verdict });
        }
        if let Some(offence) = offence {
            self.offend(view, peer, offence);
        }
        Ok(())
    }

    /// The verdict, if it can be given now, and what to hold against the peer.
    fn judge_announcement(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        id: GossipId,
        header: &BlockHeader,
    ) -> Result<(Option<Verdict>, Option<Offence>), StoreError> {
        const IGNORE: (Option<Verdict>, Option<Offence>) = (Some(Verdict::Ignore), None);
        let reject = |offence| Ok((Some(Verdict::Reject), Some(offence)));
        let kept = match self.keep_header(view, header)? {
            Ok(kept) => kept,
            Err(Refusal::Invalid) => return reject(Offence::InvalidHeader),
            Err(Refusal::Condemned) => return reject(Offence::InvalidBlock),
            Err(Refusal::Unconnected) => {
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.headers_wanted = true;
                    // Its last status is older than this block.
                    state.status = None;
                }
                return Ok(IGNORE);
            }
            Err(Refusal::Early(from_secs)) => {
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.headers_wanted = true;
                    state.headers_from_secs = from_secs;
                }
                return Ok(IGNORE);
            }
            Err(Refusal::Full | Refusal::NotFinal) => return Ok(IGNORE),
        };
        self.shows_at_least(view, peer, kept.hash, kept.known.chain_work)?;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.announced_ms = Some(view.ms);
            state.announced.insert(kept.hash);
        }
        let better = kept.known.chain_work > view.tip.chain_work;
        if kept.known.stored || !better || self.status.syncing {
            return Ok(IGNORE);
        }
        let held = Held {
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

    /// A block has passed every rule and is about to be the tip.
    pub(crate) fn validated(&mut self, header: &BlockHeader) {
        let hash = header.hash();
        let held = self.announcements.take(&hash);
        let forwards = !held.is_empty();
        for Held { peer, id, .. } in held {
            self.effects.push(PeerEffect::Verdict {
                peer,
                id,
                verdict: Verdict::Accept,
            });
        }
        // Forwarding an announcement tells everyone as well, and a better block
        // follows those on the way.
        if !forwards
            && !self.download.is_on_the_way(&hash)
            && !self.status.syncing
            && !self.peers.is_empty()
        {
            self.effects
                .push(PeerEffect::Publish(Gossip::Block(*header)));
        }
    }

    /// Gives every announcement of a block its verdict.
    pub(super) fn settle_announcements(&mut self, hash: &BlockHash, verdict: Verdict) {
        for Held { peer, id, .. } in self.announcements.take(hash) {
            self.effects.push(PeerEffect::Verdict { peer, id, verdict });
        }
    }

    pub(super) fn sweep_announcements(&mut self, view: &View<'_>) {
        let late = |held: &Held| view.ms.saturating_sub(held.since_ms) >= HOLD_MS;
        for Held { peer, id, .. } in self.announcements.drop_if(late) {
            self.effects.push(PeerEffect::Verdict {
                peer,
                id,
                verdict: Verdict::Ignore,
            });
        }
    }
}
