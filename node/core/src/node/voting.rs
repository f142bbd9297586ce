//! This node's own votes, if it is a validator (protocol §9). Start reading at [`Node::vote`].

use pithead_consensus::approval::vote::{VoteContext, check_vote};
use pithead_consensus::{Approval, Checkpoint, Height, Link, SignedApproval};
use tracing::{debug, error};

use super::{Effect, Node, Now, Sink};
use crate::finality::Voter;
use crate::store::schema;
use crate::store::{Snapshot, StoreError};

/// A vote that skips a checkpoint first waits this part of a block interval (a third), in which
/// the skipped checkpoint may still be approved.
const GRACE_PARTS: u64 = 3;

impl Node {
    /// Makes this node a validator; to be called before the first event.
    #[must_use]
    pub fn with_voter(mut self, voter: Voter) -> Self {
        self.write_finality().set_own(voter.address());
        self.voter = Some(voter);
        self
    }

    /// The validator that this node is, if it is one.
    #[must_use]
    pub fn voter(&self) -> Option<&Voter> {
        self.voter.as_ref()
    }

    /// Casts every vote that is due.
    pub(super) fn vote(&mut self, now: Now, out: &mut Sink<'_>) -> Result<(), StoreError> {
        // A vote may complete a certificate, which allows the next vote.
        while let Some(link) = self.next_vote(now)? {
            let genesis = self.chain.params().genesis_hash;
            let Some(voter) = &mut self.voter else {
                return Ok(());
            };
            match voter.cast(link, &genesis) {
                Ok(signed) => {
                    debug!(height = link.target.height.0, hash = %link.target.hash, "voted");
                    self.sync.publish_approval(signed.clone());
                    self.keep_own_approval(signed, now, out)?;
                }
                Err(error) => {
                    // Whether the vote is on record is unknown. Only a restart can tell: it reads
                    // the record again.
                    out(Effect::Fatal(error.to_string()));
                    self.voter = None;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The next vote that is due, for one of the last two checkpoints of the best chain.
    fn next_vote(&mut self, now: Now) -> Result<Option<Link>, StoreError> {
        let status = self.read_finality().status();
        // A peer's mere claim of a longer chain does not keep a validator from voting.
        if self.voter.is_none() || status.conflict || self.sync.is_behind() {
            return Ok(None);
        }
        let interval = u64::from(self.chain.params().checkpoint_interval);
        let snapshot = self.chain.store().snapshot()?;
        let tip = self.chain.tip().height;
        let (view, top) = {
            let state = self.read_finality();
            (state.view(), state.checkpoint_height(tip))
        };
        let source = view.highest_approved_on_best(snapshot.as_ref(), tip)?;
        let context = VoteContext {
            checkpoint_interval: self.chain.params().checkpoint_interval,
            last_final: status.last_final,
            highest_approved: source,
        };
        let below = Height(top.0.saturating_sub(interval));
        for height in [below, top] {
            if height <= source.height {
                continue;
            }
            let Some(hash) = schema::best_hash(snapshot.as_ref(), height)? else {
                continue;
            };
            let target = Checkpoint { height, hash };
            if let Some(link) = self.vote_for(target, &context, snapshot.as_ref(), now) {
                return Ok(Some(link));
            }
        }
        Ok(None)
    }

    /// The vote for a checkpoint of the best chain, if it is due and may be cast: a new vote, or
    /// one that is on record and whose signature may not have left before a crash.
    fn vote_for(
        &mut self,
        target: Checkpoint,
        context: &VoteContext,
        snapshot: &dyn Snapshot,
        now: Now,
    ) -> Option<Link> {
        let height = target.height;
        let voter = self.voter.as_mut()?;
        let waited_ms = voter.waited_ms(height, now.monotonic_ms);
        let has_listened = voter.has_listened(now.monotonic_ms);
        let validator = voter.address();
        if let Some(cast) = voter.vote_at(height) {
            let signed = voter.has_signed(&cast);
            let sign_again =
                cast.target == target && !signed && !self.read_finality().has(&validator, &cast);
            return sign_again.then_some(cast);
        }
        let params = self.chain.params();
        let interval = u64::from(params.checkpoint_interval);
        let grace_ms = u64::from(params.block_interval_secs) * 1_000 / GRACE_PARTS;
        let follows = height.0 == context.highest_approved.height.0.saturating_add(interval);
        let may_skip = has_listened && waited_ms >= grace_ms;
        if !follows && !may_skip {
            return None;
        }
        let link = Link {
            source: context.highest_approved,
            target,
        };
        let approval = Approval { validator, link };
        let best = |height| schema::best_hash(snapshot, height).ok().flatten();
        let record = self.voter.as_ref()?.record();
        #[cfg(feature = "fault-injection")]
        let fewer = crate::fault_injection::record_of_height(record, height);
        #[cfg(feature = "fault-injection")]
        let record = fewer.as_ref().unwrap_or(record);
        match check_vote(context, record, &approval, best) {
            Ok(()) => Some(link),
            Err(reason) => {
                debug!(height = height.0, %reason, "no vote");
                None
            }
        }
    }

    /// Keeps this node's own approval like any other.
    fn keep_own_approval(
        &mut self,
        signed: SignedApproval,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let verified = self.read_finality().validators().verify(signed);
        match verified {
            Ok(verified) => self.keep_approval(verified, now, out),
            Err(reason) => {
                out(Effect::Fatal(format!("this node's own vote: {reason}")));
                Ok(())
            }
        }
    }

    /// Stops this node if an approval shows that its key votes on another machine as well. If it
    /// went on, the two would sooner or later contradict each other and prove the validator
    /// guilty.
    pub(super) fn stop_on_doppelganger(&mut self, approval: &Approval, out: &mut Sink<'_>) {
        let voter = self.voter.as_mut();
        let reason = voter.and_then(|voter| voter.detect_doppelganger(approval));
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
}
