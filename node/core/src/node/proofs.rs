//! Proofs against validators that contradict themselves: found, put on record, reported. Start
//! reading at [`Node::keep_contradictions`].

use pithead_consensus::approval::finality::certificates_conflict;
use pithead_consensus::{Certificate, Evidence, Link, SignedApproval};
use tracing::error;

use super::{Effect, Node, Now, Sink};
use crate::finality::{Proof, certificate_at};
use crate::store::{Batch, StoreError};

impl Node {
    /// Keeps the proofs that approvals make together with others of the same validators.
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
        self.keep_proofs(proofs, now)
    }

    /// Keeps both certificates of a conflict, and a proof against each validator that signed both.
    /// The first conflict stops finality here and raises an alarm.
    pub(super) fn keep_conflict(
        &mut self,
        second: &Certificate,
        earlier: &Link,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        if !certificates_conflict(earlier, second.link()) {
            // An earlier conflict stopped finality: this certificate merely does not count.
            return Ok(());
        }
        let snapshot = self.chain.store().snapshot()?;
        let Some(first) = certificate_at(snapshot.as_ref(), earlier.target.height)? else {
            return Ok(());
        };
        drop(snapshot);
        let is_first = !self.read_finality().status().conflict;
        let mut proofs = signed_both(&first, second);
        let pair = Proof::Certificates(Box::new(first), Box::new(second.clone()));
        proofs.push(pair);
        self.keep_proofs(proofs, now)?;
        if !is_first {
            return Ok(());
        }
        alarm_of_conflict(earlier, second.link());
        let status = {
            let mut state = self.write_finality();
            let _ = state.accept(second, None);
            state.status()
        };
        // From now on proof of work decides again above the last final block. The present chain
        // stays: nothing is switched because of a conflict.
        out(Effect::FinalityMoved(status));
        Ok(())
    }

    /// Puts the proofs among these on record that are not kept yet, and reports each validator.
    fn keep_proofs(&mut self, proofs: Vec<Proof>, now: Now) -> Result<(), StoreError> {
        if proofs.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        let news = {
            let state = self.read_finality();
            let news = state.news_among(proofs, now.unix_secs);
            state.put_proofs(&mut batch, &news);
            news
        };
        if news.is_empty() {
            return Ok(());
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
        self.write_finality().take_proofs(news);
        Ok(())
    }
}

/// A proof against each validator that signed both of two conflicting certificates.
fn signed_both(first: &Certificate, second: &Certificate) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for a in first.approvals() {
        let same = |b: &SignedApproval| b.approval.validator == a.approval.validator;
        let both = second.approvals().find(same);
        if let Some((evidence, _)) = both.and_then(|b| Evidence::of(&a, &b)) {
            proofs.push(Proof::Votes(Box::new(evidence)));
        }
    }
    proofs
}

/// Reports that two certificates conflict: when it is found, and at each start after it.
pub(super) fn alarm_of_conflict(earlier: &Link, second: &Link) {
    error!(
        height = earlier.target.height.0,
        first = %earlier.target.hash,
        second = %second.target.hash,
        "ALARM: two certificates conflict; nothing more becomes final here: see `pithead evidence`"
    );
}
