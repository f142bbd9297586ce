//! Where approvals meet the chain: judges them, keeps proofs against those who vote
//! against themselves, and votes, if this node is a validator. What comes of enough
//! approvals is in `certificates`.

use pithead_consensus::approval::vote::{VoteContext, check_vote};
use pithead_consensus::{
    Approval, Certificate, Checkpoint, Height, Link, SignedApproval, VerifiedApproval,
};
use tracing::{debug, error};

use super::{Effect, Node, Now, Sink};
use crate::finality::{Proof, Refusal, Voter};
use crate::store::schema;
use crate::store::{Batch, StoreError};
use crate::sync::{GossipId, PeerKey, Verdict};

/// A vote that skips a checkpoint waits for that one's approval this part of a
/// block interval.
const GRACE_PARTS: u64 = 3;

impl Node {
    /// Makes this node a validator; to be called before the first event.
    #[must_use]
    pub fn with_voter(mut self, voter: Voter) -> Self {
        self.write_finality().set_own(voter.address());
        self.voter = Some(voter);
        self
    }

    /// This node's validator, if it is one.
    #[must_use]
    pub fn voter(&self) -> Option<&Voter> {
        self.voter.as_ref()
    }

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
                // Gossip missed it here, so it may have missed others.
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

    /// A validator votes from the highest approved checkpoint that it knows. If that
    /// is above ours, certificates are missing here, and whoever passes the vote on
    /// is asked how far it is, without waiting for the next round.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] if it was looked at and does not hold: it may be one that
    /// nothing else would look at.
    fn heed_source(
        &mut self,
        peer: PeerKey,
        signed: &SignedApproval,
        now: Now,
    ) -> Result<(), Refusal> {
        {
            let state = self.read_finality();
            let source = signed.approval.link.source.height;
            let tells_more = state.is_active()
                && source > state.status().approved.height
                && self.sync.may_hurry_status(peer, now.monotonic_ms);
            if !tells_more {
                return Ok(());
            }
            state.validators().check(signed).map_err(Refusal::Invalid)?;
        }
        self.sync.hurry_status(peer, now.monotonic_ms);
        Ok(())
    }

    fn take_approval(
        &mut self,
        peer: PeerKey,
        signed: SignedApproval,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        if let Err(refusal) = self.heed_source(peer, &signed, now) {
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
                self.keep_verified(verified, now, out)?;
                self.stop_if_disowned(&approval, out);
                Ok(Ok(()))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Stops this node if its own key has voted elsewhere: going on would sooner
    /// or later prove its validator guilty.
    pub(super) fn stop_if_disowned(&mut self, approval: &Approval, out: &mut Sink<'_>) {
        let reason = self.voter.as_mut().and_then(|own| own.disowned(approval));
        if let Some(reason) = reason {
            error!(
                height = approval.link.target.height.0,
                hash = %approval.link.target.hash,
                "ALARM: this validator's key votes elsewhere too"
            );
            self.voter = None;
            out(Effect::Fatal(reason));
        }
    }

    /// Takes in this node's own approval.
    fn keep_approval(
        &mut self,
        signed: SignedApproval,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let verified = self.read_finality().validators().verify(signed);
        match verified {
            Ok(verified) => self.keep_verified(verified, now, out),
            Err(reason) => {
                out(Effect::Fatal(format!("this node's own vote: {reason}")));
                Ok(())
            }
        }
    }

    /// Takes in an approval that is sound and new.
    fn keep_verified(
        &mut self,
        verified: VerifiedApproval,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let link = verified.signed().approval.link;
        self.keep_contradictions(std::iter::once(verified.signed().clone()), now)?;
        self.write_finality().insert(verified, now.unix_secs);
        out(Effect::ApprovalsChanged);
        let next = self.read_finality().certify(&link);
        self.certify_on(next, now, out)
    }

    /// Takes in a certificate that the approvals here make, and those that they make
    /// on top of it: approvals may have waited for their source.
    pub(super) fn certify_on(
        &mut self,
        mut next: Option<Certificate>,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        while let Some(certificate) = next {
            let target = certificate.link().target;
            self.take_checked(&[certificate], now, out)?;
            if !self.read_finality().is_approved(&target) {
                break;
            }
            next = self.read_finality().certify_from(&target);
        }
        Ok(())
    }

    /// Keeps the proofs that approvals make with others of the same validators.
    pub(super) fn keep_contradictions(
        &mut self,
        approvals: impl Iterator<Item = SignedApproval>,
        now: Now,
    ) -> Result<(), StoreError> {
        let snapshot = self.chain.store().snapshot()?;
        let mut proofs = Vec::new();
        for signed in approvals {
            let found = self
                .read_finality()
                .contradicted(&signed, snapshot.as_ref())?;
            proofs.extend(found);
        }
        drop(snapshot);
        self.keep_proofs(proofs, now).map(|_| ())
    }

    /// Puts proofs on record that are news; returns how many were.
    pub(super) fn keep_proofs(
        &mut self,
        proofs: Vec<Proof>,
        now: Now,
    ) -> Result<usize, StoreError> {
        if proofs.is_empty() {
            return Ok(0);
        }
        let mut batch = Batch::default();
        let news = {
            let state = self.read_finality();
            let news = state.news_among(proofs, now.unix_secs);
            state.put_proofs(&mut batch, &news);
            news
        };
        if news.is_empty() {
            return Ok(0);
        }
        self.chain.store().commit(&batch)?;
        for kept in &news {
            if let Proof::Votes(evidence) = &kept.proof {
                let validator = evidence.validator().to_text(&self.chain.genesis().prefix);
                error!(
                    %validator,
                    "ALARM: a validator has voted against itself: see `pithead evidence`"
                );
            }
        }
        let count = news.len();
        self.write_finality().take_proofs(news);
        Ok(count)
    }

    /// Votes, if there is something to vote for.
    pub(super) fn vote(&mut self, now: Now, out: &mut Sink<'_>) -> Result<(), StoreError> {
        // A vote may complete a certificate, which allows the next.
        while let Some(link) = self.next_vote(now)? {
            let genesis = self.chain.params().genesis_hash;
            let Some(voter) = &mut self.voter else {
                return Ok(());
            };
            match voter.cast(link, &genesis) {
                Ok(signed) => {
                    debug!(height = link.target.height.0, hash = %link.target.hash, "voted");
                    self.sync.publish_approval(signed.clone());
                    self.keep_approval(signed, now, out)?;
                }
                Err(error) => {
                    // Whether the vote is on record is unknown: only a restart,
                    // which reads the record again, can tell.
                    out(Effect::Fatal(error.to_string()));
                    self.voter = None;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn next_vote(&mut self, now: Now) -> Result<Option<Link>, StoreError> {
        let status = self.read_finality().status();
        // What a peer merely says of longer chains keeps nobody from voting.
        if self.voter.is_none() || status.conflict || self.sync.is_behind() {
            return Ok(None);
        }
        let params = self.chain.params();
        let interval = u64::from(params.checkpoint_interval);
        let grace_ms = u64::from(params.block_interval_secs) * 1_000 / GRACE_PARTS;
        let snapshot = self.chain.store().snapshot()?;
        let top = self
            .read_finality()
            .checkpoint_height(self.chain.tip().height);
        let below = Height(top.0.saturating_sub(interval));
        for height in [below, top] {
            if height <= status.approved.height {
                continue;
            }
            let Some(hash) = schema::best_hash(snapshot.as_ref(), height)? else {
                continue;
            };
            let target = Checkpoint { height, hash };
            let Some(voter) = &mut self.voter else {
                return Ok(None);
            };
            let waited_ms = voter.waited_ms(height, now.monotonic_ms);
            let has_listened = voter.has_listened(now.monotonic_ms);
            let validator = voter.address();
            let cast = voter.vote_at(height);
            if let Some(cast) = cast {
                let signed = voter.has_signed(&cast);
                // On record, but it may not have left before a crash.
                if cast.target == target && !signed && !self.read_finality().has(&validator, &cast)
                {
                    return Ok(Some(cast));
                }
                continue;
            }
            let follows = height.0 == status.approved.height.0.saturating_add(interval);
            let may_skip = has_listened && waited_ms >= grace_ms;
            if !follows && !may_skip {
                continue;
            }
            let link = Link {
                source: status.approved,
                target,
            };
            let context = VoteContext {
                checkpoint_interval: params.checkpoint_interval,
                last_final: status.last_final,
                highest_approved: status.approved,
            };
            let approval = Approval { validator, link };
            let best = |height| schema::best_hash(snapshot.as_ref(), height).ok().flatten();
            let Some(voter) = &self.voter else {
                return Ok(None);
            };
            let record = voter.record();
            #[cfg(feature = "fault-injection")]
            let fewer = crate::fault_injection::forget_others(record, height);
            #[cfg(feature = "fault-injection")]
            let record = fewer.as_ref().unwrap_or(record);
            match check_vote(&context, record, &approval, best) {
                Ok(()) => return Ok(Some(link)),
                Err(reason) => debug!(height = height.0, %reason, "no vote"),
            }
        }
        Ok(None)
    }
}
