//! Certificates that others gathered, or that the approvals here add up to: judged a
//! few at a time, put on disk, then shown and followed by the chain.

use std::collections::BTreeMap;

use pithead_consensus::approval::finality::{FinalityError, Outcome, certificates_conflict};
use pithead_consensus::{Certificate, Evidence, Link, SignedApproval};
use tracing::{debug, error, info};

use super::{Effect, Node, Now, Sink};
use crate::finality::{FinalityState, Proof, Voter, block_time, certificate_at};
use crate::store::{Batch, StoreError};
use crate::sync::{CertificatesEnd, PeerEffect, PeerKey};

/// Certificates judged in one event, so that others get their turn: some 20 ms with
/// twenty approvals each.
const CERTIFICATES_AT_ONCE: usize = 64;

impl Node {
    /// Certificates that a peer gave wait to be judged, a slice with each event.
    pub(super) fn take_certificates(&mut self, peer: PeerKey, certificates: Vec<Certificate>) {
        // What is left of an earlier answer is of no more use.
        self.certificates.retain(|(other, _)| *other != peer);
        self.certificates.push_back((peer, certificates.into()));
    }

    /// Judges the next slice of what peers gave.
    pub(super) fn judge_certificates(
        &mut self,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let Some((peer, mut left)) = self.certificates.pop_front() else {
            return Ok(());
        };
        if !self.sync.is_judging(peer) {
            // It is gone.
            return Ok(());
        }
        let slice: Vec<_> = left.drain(..left.len().min(CERTIFICATES_AT_ONCE)).collect();
        let ended = match self.judge_slice(peer, &slice, now, out)? {
            Some(ended) => Some(ended),
            None if left.is_empty() => {
                let last = slice.last().map(|last| last.link().target);
                last.map(CertificatesEnd::Taken)
            }
            None => None,
        };
        match ended {
            Some(end) => self.with_view(now, |sync, view| {
                sync.certificates_judged(view, peer, end);
                Ok(())
            }),
            None => {
                self.certificates.push_front((peer, left));
                Ok(())
            }
        }
    }

    /// Checks certificates in order and takes in those that hold; tells why it
    /// stopped, if it did.
    fn judge_slice(
        &mut self,
        peer: PeerKey,
        slice: &[Certificate],
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<Option<CertificatesEnd>, StoreError> {
        let mut end = None;
        let (mut before, mut sound) = (BTreeMap::new(), Vec::new());
        for certificate in slice {
            let link = certificate.link();
            let (outcome, checked) = {
                let state = self.read_finality();
                match state.check(&before, link) {
                    // Known ones need no second look at their signatures.
                    Ok(Outcome::Known) => continue,
                    Ok(outcome) => (outcome, certificate.check(state.validators())),
                    Err(FinalityError::SourceNotApproved { .. }) => {
                        end = Some(CertificatesEnd::SourceUnknown);
                        break;
                    }
                }
            };
            if let Err(reason) = checked {
                debug!(%peer, %reason, "invalid certificate");
                end = Some(CertificatesEnd::Invalid);
                break;
            }
            before.insert(link.target.height, *link);
            sound.push(certificate.clone());
            if matches!(outcome, Outcome::Conflict { .. }) {
                // What builds on it is of no more interest.
                break;
            }
        }
        let Some(last) = sound.last().map(|last| last.link().target) else {
            return Ok(end);
        };
        self.sync.certificates_are_news(now.monotonic_ms);
        self.take_checked(&sound, now, out)?;
        let next = self.read_finality().certify_from(&last);
        self.certify_on(next, now, out)?;
        Ok(end)
    }

    /// Takes in certificates that were checked, each after its source: on disk
    /// first, then where others can see it.
    pub(super) fn take_checked(
        &mut self,
        certificates: &[Certificate],
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let (mut before, mut taken) = (BTreeMap::new(), Vec::new());
        let mut conflict = None;
        for certificate in certificates {
            let link = certificate.link();
            let checked = self.read_finality().check(&before, link);
            match checked {
                Ok(Outcome::Known) | Err(FinalityError::SourceNotApproved { .. }) => {}
                Ok(Outcome::Conflict { earlier }) => {
                    conflict = Some((certificate, earlier));
                    break;
                }
                Ok(Outcome::Approved | Outcome::Final) => {
                    FinalityState::put_certificate(&mut batch, certificate);
                    before.insert(link.target.height, *link);
                    taken.push(certificate);
                }
            }
        }
        if !taken.is_empty() {
            self.chain.store().commit(&batch)?;
            self.publish_certificates(&taken, now, out)?;
        }
        let own = self.voter.as_ref().map(Voter::address);
        let votes = certificates.iter().flat_map(Certificate::approvals);
        for signed in votes.filter(|each| Some(each.approval.validator) == own) {
            self.stop_if_disowned(&signed.approval, out);
        }
        match conflict {
            Some((second, earlier)) => self.keep_conflict(second, &earlier, now, out),
            None => Ok(()),
        }
    }

    /// Lets everyone see what certificates on record bring about, and acts on it.
    fn publish_certificates(
        &mut self,
        taken: &[&Certificate],
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let votes = taken.iter().flat_map(|certificate| certificate.approvals());
        self.keep_contradictions(votes, now)?;
        let snapshot = self.chain.store().snapshot()?;
        let mut times = Vec::new();
        for certificate in taken {
            times.push(block_time(snapshot.as_ref(), certificate)?);
        }
        drop(snapshot);
        let status = {
            let mut state = self.write_finality();
            for (certificate, time) in taken.iter().zip(times) {
                // Judged above, with nothing in between.
                let _ = state.accept(certificate, time);
            }
            state.status()
        };
        if let Some(last) = taken.last() {
            info!(
                height = last.link().target.height.0,
                hash = %last.link().target.hash,
                approvals = last.count(),
                certificates = taken.len(),
                last_final = status.last_final.height.0,
                "checkpoint approved"
            );
        }
        out(Effect::FinalityMoved(status));
        self.follow_certificates(now, out)
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
        let is_first = !self.read_finality().status().conflict;
        let mut proofs = Vec::new();
        for a in first.approvals() {
            let same = |b: &SignedApproval| b.approval.validator == a.approval.validator;
            let both = second.approvals().find(same);
            if let Some((evidence, _)) = both.and_then(|b| Evidence::of(&a, &b)) {
                proofs.push(Proof::Votes(Box::new(evidence)));
            }
        }
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
        out(Effect::FinalityMoved(status));
        // Proof of work decides again, within what is final; nothing is switched.
        self.chain
            .follow_finality(status.last_final, status.last_final);
        Ok(())
    }

    /// Lets the chain follow what is approved and final.
    fn follow_certificates(&mut self, now: Now, out: &mut Sink<'_>) -> Result<(), StoreError> {
        let status = self.read_finality().status();
        self.chain
            .follow_finality(status.last_final, status.preferred());
        let sync = &mut self.sync;
        let update = self.chain.reconsider(&mut |block| {
            out(Effect::Peer(PeerEffect::BlockValidated(
                std::sync::Arc::clone(block),
            )));
            sync.validated(&block.block().header);
        })?;
        if let Some(update) = update {
            self.follow_chain(&update, now.unix_secs, out)?;
        }
        Ok(())
    }

    /// At the start: says once more what stopped finality, and ends what a crash cut
    /// short between a certificate's commit and the switch to its chain.
    pub(super) fn resume_finality(&mut self, now: Now) -> Result<(), StoreError> {
        if !self.read_finality().is_active() {
            return Ok(());
        }
        let conflict = self.read_finality().conflict();
        if let Some((earlier, second)) = conflict {
            alarm_of_conflict(&earlier, &second);
            return Ok(());
        }
        self.follow_certificates(now, &mut |_| {})
    }
}

fn alarm_of_conflict(earlier: &Link, second: &Link) {
    error!(
        height = earlier.target.height.0,
        first = %earlier.target.hash,
        second = %second.target.hash,
        "ALARM: two certificates conflict; nothing more becomes final here: see `pithead evidence`"
    );
}
