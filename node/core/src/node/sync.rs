//! Where sync meets the chain: the node hands events of peers to `crate::sync`, connects the
//! blocks that sync brings, and passes sync's effects on. Start reading at `Node::advance`.

use pithead_consensus::BlockHash;

use super::{BlockVerdict, Effect, Node, Now, Sink};
use crate::chain::AcceptError;
use crate::store::StoreError;
use crate::sync::{
    BodyVerdict, Delivered, Gossip, NodeView, PeerEvent, PeerKey, ReceivedTransaction, SyncState,
};

/// Most blocks connected in one event, so that other events get their turn.
const CONNECTED_BLOCKS_MAX: usize = 256;
/// After so many bytes of blocks, an event connects no more.
const CONNECTED_BYTES_MAX: usize = 4 << 20;

impl Node {
    /// Calls sync with the node as it is now.
    pub(super) fn with_view<T>(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut SyncState, &NodeView<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let snapshot = self.chain.store().snapshot()?;
        let (finality, checkpoint) = {
            let state = self.read_finality();
            let height = state.checkpoint_height(self.chain.tip().height);
            (state.view(), state.is_active().then_some(height))
        };
        let view = NodeView {
            params: self.chain.params(),
            store: snapshot.as_ref(),
            tip: self.chain.tip(),
            mempool: &self.mempool,
            finality: &finality,
            checkpoint,
            unix_secs: now.unix_secs,
            ms: now.monotonic_ms,
        };
        let found = act(&mut self.sync, &view)?;
        finality.sound()?;
        Ok(found)
    }

    fn pass_effects_on(&mut self, out: &mut Sink<'_>) {
        let effects = self.sync.take_effects();
        effects.into_iter().map(Effect::Peer).for_each(out);
    }

    /// Handles an event of a peer.
    pub(super) fn handle_peer(&mut self, event: PeerEvent, now: Now, out: &mut Sink<'_>) {
        if let Err(error) = self.try_handle_peer(event, now, out) {
            out(Effect::Fatal(error.to_string()));
        }
    }

    fn try_handle_peer(
        &mut self,
        event: PeerEvent,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        match event {
            PeerEvent::Connected { peer, inbound } => self.with_view(now, |sync, view| {
                sync.connected(view, peer, inbound);
                Ok(())
            }),
            PeerEvent::Disconnected { peer } => {
                self.sync.disconnected(peer);
                Ok(())
            }
            PeerEvent::Response { peer, id, response } => {
                let delivered =
                    self.with_view(now, |sync, view| sync.answered(view, peer, id, response))?;
                self.take_delivered(peer, delivered, now, out)
            }
            PeerEvent::Status { peer, status } => self.with_view(now, |sync, view| {
                sync.unsolicited_status(view, peer, status)
            }),
            PeerEvent::Offended { peer, offence } => self.with_view(now, |sync, view| {
                sync.offend(view, peer, offence);
                Ok(())
            }),
            PeerEvent::Gossip { peer, id, gossip } => match gossip {
                Gossip::Block(header) => {
                    self.with_view(now, |sync, view| sync.announced(view, peer, id, &header))
                }
                Gossip::Transaction(transaction) => {
                    let received = ReceivedTransaction {
                        transaction,
                        from: peer,
                        gossip: Some(id),
                        since_ms: now.monotonic_ms,
                    };
                    self.judge_gossiped(received, now, out)
                }
                Gossip::Approval(signed) => self.judge_approval(peer, id, *signed, now, out),
            },
        }
    }

    /// Judges the content of a response.
    fn take_delivered(
        &mut self,
        peer: PeerKey,
        delivered: Delivered,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        match delivered {
            Delivered::Nothing => Ok(()),
            Delivered::Transactions(transactions) => {
                self.take_fetched(peer, transactions, now, out)
            }
            Delivered::Approvals(approvals) => self.take_approvals(peer, approvals, now, out),
            Delivered::Certificates(certificates) => {
                self.take_certificates(peer, certificates);
                Ok(())
            }
        }
    }

    /// Judges certificates and blocks that have come, votes, and plans the next requests. It runs
    /// after every event.
    pub(super) fn advance(&mut self, now: Now, out: &mut Sink<'_>) {
        if let Err(error) = self.try_advance(now, out) {
            out(Effect::Fatal(error.to_string()));
        }
    }

    fn try_advance(&mut self, now: Now, out: &mut Sink<'_>) -> Result<(), StoreError> {
        self.judge_certificates(now, out)?;
        let advanced = self.connect_bodies(now, out);
        self.chain.defer_commits(false);
        self.chain.flush()?;
        advanced?;
        // A validator votes only for blocks that are on disk.
        self.vote(now, out)?;
        self.pass_effects_on(out);
        Ok(())
    }

    /// Plans requests and connects the bodies that are there, one after the other.
    fn connect_bodies(&mut self, now: Now, out: &mut Sink<'_>) -> Result<(), StoreError> {
        let (mut blocks, mut bytes) = (0, 0);
        self.has_more = false;
        loop {
            self.with_view(now, |sync, view| sync.plan(view))?;
            if let Some(status) = self.sync.refresh_status(self.chain.tip()) {
                // The template comes first: a miner that sees that the node has caught up finds
                // a template on its tip.
                self.renew_stale_template(now.unix_secs, out)?;
                out(Effect::SyncChanged(status));
            }
            self.pass_effects_on(out);
            if blocks >= CONNECTED_BLOCKS_MAX || bytes >= CONNECTED_BYTES_MAX {
                self.has_more = self.sync.has_next_body(self.chain.tip());
                return Ok(());
            }
            let Some(body) = self.sync.next_body(self.chain.tip()) else {
                return Ok(());
            };
            blocks += 1;
            bytes += body.bytes;
            self.chain.defer_commits(self.sync.status().syncing);
            let (hash, from) = (body.hash, body.from);
            let result = self.accept_block(body.block, now.unix_secs, out);
            let stored = result.is_ok();
            let verdict = body_verdict(hash, result)?;
            self.with_view(now, |sync, view| {
                sync.judged(view, hash, from, verdict);
                Ok(())
            })?;
            if stored {
                self.retry_children(hash, now, out);
                self.retry_orphans(None, now, out)?;
            }
        }
    }

    /// Looks at every deadline of sync.
    pub(super) fn sweep_peers(&mut self, now: Now, out: &mut Sink<'_>) {
        let swept = self.with_view(now, |sync, view| {
            sync.sweep(view);
            Ok(())
        });
        if let Err(error) = swept {
            out(Effect::Fatal(error.to_string()));
        }
    }
}

/// Tells sync what became of a body.
fn body_verdict(
    hash: BlockHash,
    result: Result<BlockVerdict, AcceptError>,
) -> Result<BodyVerdict, StoreError> {
    Ok(match result {
        Ok(_) | Err(AcceptError::Known { .. }) => BodyVerdict::Stored,
        Err(AcceptError::Invalid(error)) if error.condemns_header() => {
            BodyVerdict::Invalid { bad: hash }
        }
        Err(AcceptError::Invalid(_)) => BodyVerdict::Mutated,
        Err(AcceptError::InvalidAncestor { ancestor }) => BodyVerdict::Invalid { bad: ancestor },
        Err(
            AcceptError::NotYet { .. }
            | AcceptError::TooDeep { .. }
            | AcceptError::TooManySiblings { .. },
        ) => BodyVerdict::Unusable,
        Err(AcceptError::Internal(error)) => return Err(error),
    })
}
