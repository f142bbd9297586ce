//! Where finality meets the chain: judges approvals and certificates, lets the
//! chain follow what they secure, and votes, if this node is a validator.

use pithead_consensus::approval::finality::{FinalityError, Outcome, certificates_conflict};
use pithead_consensus::approval::vote::{VoteContext, check_vote};
use pithead_consensus::{
    Approval, Certificate, Checkpoint, Evidence, Height, Link, SignedApproval,
};
use tracing::{debug, error, info};

use super::{Effect, Node, Now, Sink};
use crate::finality::{FinalityState, Judgement, Proof, Voter, certificate_at};
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
        let verdict = match self.take_approval(signed, now, out)? {
            Judgement::New => Verdict::Accept,
            Judgement::Known | Judgement::OutOfWindow | Judgement::TooMany => Verdict::Ignore,
            Judgement::Invalid(reason) => {
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
            match self.take_approval(signed, now, out)? {
                // Gossip missed it here, so it may have missed others.
                Judgement::New => self.sync.publish_approval(copy),
                Judgement::Known | Judgement::OutOfWindow | Judgement::TooMany => {}
                Judgement::Invalid(reason) => {
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

    fn take_approval(
        &mut self,
        signed: SignedApproval,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<Judgement, StoreError> {
        if !self.read_finality().is_active() {
            return Ok(Judgement::OutOfWindow);
        }
        let tip = self.chain.tip().height;
        let tip = tip.max(self.sync.status().best_header_height);
        let judgement = self.read_finality().judge(&signed, tip);
        if judgement == Judgement::New {
            let approval = signed.approval;
            self.keep_approval(signed, now, out)?;
            self.stop_if_disowned(&approval, out);
        }
        Ok(judgement)
    }

    /// Stops this node if its own key has voted elsewhere: going on would sooner
    /// or later prove its validator guilty.
    fn stop_if_disowned(&mut self, approval: &Approval, out: &mut Sink<'_>) {
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

    /// Takes in an approval that is sound and new.
    fn keep_approval(
        &mut self,
        signed: SignedApproval,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let link = signed.approval.link;
        let evidence = self.write_finality().insert(signed, now.unix_secs);
        for evidence in evidence {
            self.keep_evidence(evidence, now)?;
        }
        out(Effect::ApprovalsChanged);
        let mut next = self.read_finality().certify(&link);
        while let Some(certificate) = next {
            let target = certificate.link().target;
            if !self.take_certificate(&certificate, now, out)? {
                break;
            }
            next = self.read_finality().certify_from(&target);
        }
        Ok(())
    }

    fn keep_evidence(&mut self, evidence: Evidence, now: Now) -> Result<(), StoreError> {
        let prefix = &self.chain.genesis().prefix;
        let validator = evidence.validator().to_text(prefix);
        let mut batch = Batch::default();
        let kept = self.write_finality().keep_proof(
            &mut batch,
            Proof::Votes(Box::new(evidence)),
            now.unix_secs,
        );
        if kept {
            error!(
                %validator,
                "ALARM: a validator has voted against itself: see `pithead evidence`"
            );
            self.chain.store().commit(&batch)?;
        }
        Ok(())
    }

    /// Takes in certificates that a peer gave.
    pub(super) fn take_certificates(
        &mut self,
        peer: PeerKey,
        certificates: Vec<Certificate>,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let validators = self.read_finality().validators().clone();
        let mut moved = false;
        for certificate in certificates {
            let link = *certificate.link();
            // Those that are known need no second look at their signatures.
            if self.read_finality().is_approved(&link.target) {
                continue;
            }
            if let Err(reason) = certificate.check(&validators) {
                debug!(%peer, %reason, "invalid certificate");
                return self.blame_for_approval(peer, now);
            }
            if !self.read_finality().is_approved(&link.source) {
                self.sync.certificates_missing_from(link.source.height);
                return Ok(());
            }
            moved |= self.take_certificate(&certificate, now, out)?;
        }
        if !moved {
            self.sync.certificates_useless(peer);
        }
        Ok(())
    }

    /// Takes in a certificate that was checked; whether finality moved.
    fn take_certificate(
        &mut self,
        certificate: &Certificate,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<bool, StoreError> {
        let link = *certificate.link();
        let outcome = match self.write_finality().accept(certificate) {
            Ok(outcome) => outcome,
            Err(FinalityError::SourceNotApproved { .. }) => return Ok(false),
        };
        match outcome {
            Outcome::Known => Ok(false),
            Outcome::Conflict { earlier } => {
                self.keep_conflict(certificate, &earlier, now, out)?;
                Ok(false)
            }
            Outcome::Approved | Outcome::Final => {
                let mut batch = Batch::default();
                FinalityState::put_certificate(&mut batch, certificate);
                self.chain.store().commit(&batch)?;
                let status = self.read_finality().status();
                info!(
                    height = link.target.height.0,
                    hash = %link.target.hash,
                    approvals = certificate.count(),
                    last_final = status.last_final.height.0,
                    "checkpoint approved"
                );
                out(Effect::FinalityMoved(status));
                let own = self.voter.as_ref().map(Voter::address);
                let of_own_key = |each: &SignedApproval| Some(each.approval.validator) == own;
                if let Some(signed) = certificate.approvals().find(of_own_key) {
                    self.stop_if_disowned(&signed.approval, out);
                }
                self.follow_certificates(now, out)?;
                Ok(true)
            }
        }
    }

    /// Keeps both certificates of a conflict, and a proof against each validator
    /// that signed both.
    fn keep_conflict(
        &mut self,
        second: &Certificate,
        earlier: &Link,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        if !certificates_conflict(earlier, second.link()) {
            // Finality stopped before: this one is merely not counted.
            return Ok(());
        }
        let snapshot = self.chain.store().snapshot()?;
        let Some(first) = certificate_at(snapshot.as_ref(), earlier.target.height)? else {
            return Ok(());
        };
        drop(snapshot);
        error!(
            height = earlier.target.height.0,
            first = %earlier.target.hash,
            second = %second.link().target.hash,
            "ALARM: two certificates conflict; nothing more becomes final here: see `pithead evidence`"
        );
        let mut batch = Batch::default();
        {
            let mut state = self.write_finality();
            for a in first.approvals() {
                let same = |b: &SignedApproval| b.approval.validator == a.approval.validator;
                let both = second.approvals().find(same);
                if let Some((evidence, _)) = both.and_then(|b| Evidence::of(&a, &b)) {
                    state.keep_proof(&mut batch, Proof::Votes(Box::new(evidence)), now.unix_secs);
                }
            }
            let pair = Proof::Certificates(Box::new(first), Box::new(second.clone()));
            state.keep_proof(&mut batch, pair, now.unix_secs);
        }
        self.chain.store().commit(&batch)?;
        let status = self.read_finality().status();
        out(Effect::FinalityMoved(status));
        // Proof of work decides again, within what is final; nothing is switched.
        self.chain
            .follow_finality(status.last_final, status.last_final);
        Ok(())
    }

    /// Lets the chain follow what is approved and final.
    pub(super) fn follow_certificates(
        &mut self,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let status = self.read_finality().status();
        let approved = if status.conflict {
            status.last_final
        } else {
            status.approved
        };
        self.chain.follow_finality(status.last_final, approved);
        let sync = &mut self.sync;
        let update = self.chain.reconsider(&mut |block| {
            out(Effect::BlockValidated(std::sync::Arc::clone(block)));
            sync.validated(&block.block().header);
        })?;
        if let Some(update) = update {
            self.follow_chain(&update, now.unix_secs, out)?;
        }
        Ok(())
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
        if self.voter.is_none() || status.conflict || self.sync.status().syncing {
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
            if !follows && waited_ms < grace_ms {
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
            #[cfg(feature = "planted")]
            let fewer = crate::planted::forget_others(record, height);
            #[cfg(feature = "planted")]
            let record = fewer.as_ref().unwrap_or(record);
            match check_vote(&context, record, &approval, best) {
                Ok(()) => return Ok(Some(link)),
                Err(reason) => debug!(height = height.0, %reason, "no vote"),
            }
        }
        Ok(None)
    }
}
