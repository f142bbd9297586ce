//! The way of an approval through the node: it is judged, kept, and counted towards a
//! certificate. `certificates` goes on from there; `proofs` holds what is done about validators
//! that contradict themselves, and `voting` casts this node's own votes. Start reading at
//! [`Node::judge_approval`].

use pithead_consensus::{SignedApproval, VerifiedApproval};
use tracing::debug;

use super::{Effect, Node, Now, Sink};
use crate::finality::Refusal;
use crate::store::StoreError;
use crate::sync::{GossipId, PeerKey, Verdict};

impl Node {
    /// Judges an approval that a peer passed on by gossip.
    pub(super) fn judge_approval(
        &mut self,
        peer: PeerKey,
        id: GossipId,
        signed: SignedApproval,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let verdict = match self.take_approval(peer, signed, now, out)? {
            Ok(()) => Verdict::Accept,
            Err(Refusal::Known | Refusal::OutOfWindow | Refusal::TooMany) => Verdict::Ignore,
            Err(Refusal::Invalid(reason)) => {
                debug!(%peer, %reason, "invalid approval");
                Verdict::Reject
            }
        };
        self.sync.verdict(peer, id, verdict);
        if verdict == Verdict::Reject {
            self.blame_for_approval(peer, now)?;
        }
        Ok(())
    }

    /// Judges the approvals of a peer's answer. An invalid one ends the answer.
    pub(super) fn take_approvals(
        &mut self,
        peer: PeerKey,
        approvals: Vec<SignedApproval>,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        for signed in approvals {
            let copy = signed.clone();
            match self.take_approval(peer, signed, now, out)? {
                // Gossip did not bring it here, and may not have brought it to others.
                Ok(()) => self.sync.publish_approval(copy),
                Err(Refusal::Known | Refusal::OutOfWindow | Refusal::TooMany) => {}
                Err(Refusal::Invalid(reason)) => {
                    debug!(%peer, %reason, "invalid approval");
                    return self.blame_for_approval(peer, now);
                }
            }
        }
        Ok(())
    }

    fn blame_for_approval(&mut self, peer: PeerKey, now: Now) -> Result<(), StoreError> {
        self.with_view(now, |sync, view| {
            sync.bad_approval(view, peer);
            Ok(())
        })
    }

    /// Judges one approval and keeps it if it is sound and new. The outer error is storage's, the
    /// inner one the verdict.
    fn take_approval(
        &mut self,
        peer: PeerKey,
        signed: SignedApproval,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        if let Err(refusal) = self.request_missing_source(peer, &signed, now) {
            return Ok(Err(refusal));
        }
        if !self.read_finality().is_active() {
            return Ok(Err(Refusal::OutOfWindow));
        }
        let tip = self.chain.tip().height;
        let tip = tip.max(self.sync.status().best_header_height);
        let judged = self.read_finality().judge(signed, tip);
        match judged {
            Ok(verified) => {
                let approval = verified.signed().approval;
                self.keep_approval(verified, now, out)?;
                self.stop_on_doppelganger(&approval, out);
                Ok(Ok(()))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// A validator votes from the highest approved checkpoint of its best chain. If the source of
    /// its vote is not approved here, this node lacks certificates, and asks the peer that passed
    /// the vote on for its status at once instead of in the next round.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] if the source called for checking the approval here and it does not
    /// hold. An approval far above the window is checked by nothing else.
    fn request_missing_source(
        &mut self,
        peer: PeerKey,
        signed: &SignedApproval,
        now: Now,
    ) -> Result<(), Refusal> {
        {
            let state = self.read_finality();
            let source = signed.approval.link.source;
            let view = state.view();
            let tells_more = state.is_active()
                && source.height > view.last_final().height
                && !view.is_approved(&source)
                && self.sync.may_hurry_status(peer, now.monotonic_ms);
            if !tells_more {
                return Ok(());
            }
            state.validators().check(signed).map_err(Refusal::Invalid)?;
        }
        self.sync.hurry_status(peer, now.monotonic_ms);
        Ok(())
    }

    /// Puts votes on record that fork choice counts. They may wait for the next commit that is
    /// synced: a vote that a crash loses comes back from peers.
    pub(super) fn record_leading_votes(&mut self) -> Result<(), StoreError> {
        let batch = self.write_finality().take_unrecorded_votes();
        if batch.is_empty() {
            return Ok(());
        }
        self.chain.store().commit_lazily(&batch)
    }

    /// Keeps an approval that is sound and new, and takes in the certificate that it completes, if
    /// it completes one.
    pub(super) fn keep_approval(
        &mut self,
        verified: VerifiedApproval,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let link = verified.signed().approval.link;
        self.keep_contradictions(std::iter::once(verified.signed().clone()), now)?;
        let leads = self.write_finality().insert(verified, now.unix_secs);
        out(Effect::ApprovalsChanged);
        self.record_leading_votes()?;
        let next = self.read_finality().certify(&link);
        if leads && next.is_none() {
            // The vote may strand its validator on our chain (protocol §8, rule 2).
            self.leave_unvotable_chain(now, out)?;
        }
        self.certify_on(next, now, out)
    }
}
