//! The way of a certificate through the node, whether peers gave it or the approvals here add up
//! to it: it is checked, put on disk, shown to others, and followed by the chain. Start reading at
//! [`Node::judge_certificates`] for the certificates of peers and at [`Node::certify_on`] for this
//! node's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use pithead_consensus::Certificate;
use pithead_consensus::approval::finality::{FinalityError, Outcome};
use tracing::{debug, info};

use super::proofs::alarm_of_conflict;
use super::{Effect, Node, Now, Sink};
use crate::finality::{Voter, block_time, put_certificate};
use crate::store::{Batch, StoreError};
use crate::sync::{CertificatesEnd, PeerEffect, PeerKey};

/// Certificates that one event judges at most, so that other events get their turn: some 20 ms
/// with twenty approvals each.
const CERTIFICATES_AT_ONCE: usize = 64;

impl Node {
    /// Queues the certificates of a peer's answer; each event judges a slice of them.
    pub(super) fn take_certificates(&mut self, peer: PeerKey, certificates: Vec<Certificate>) {
        // The rest of an earlier answer is of no more use, nor is the answer of a peer that left.
        let sync = &self.sync;
        self.certificates
            .retain(|(other, _)| *other != peer && sync.is_judging(*other));
        self.certificates.push_back((peer, certificates.into()));
    }

    /// Judges the next slice of the certificates that peers gave.
    pub(super) fn judge_certificates(
        &mut self,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let Some((peer, mut left)) = self.certificates.pop_front() else {
            return Ok(());
        };
        if !self.sync.is_judging(peer) {
            // The peer is gone.
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

    /// Checks certificates in order and takes in those that hold. Returns why it stopped early, if
    /// it did.
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
                let outcome = state.check(&before, link);
                state.view().sound()?;
                match outcome {
                    // The signatures of a known certificate were checked before.
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
                // Finality stops here: certificates that build on it do not count.
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

    /// Takes in the certificate that the approvals here make, and those that they make on top of
    /// it: approvals may have waited for their source.
    pub(super) fn certify_on(
        &mut self,
        mut next: Option<Certificate>,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        while let Some(certificate) = next {
            let target = certificate.link().target;
            self.take_checked(&[certificate], now, out)?;
            if !self.read_finality().view().is_approved(&target) {
                break;
            }
            next = self.read_finality().certify_from(&target);
        }
        Ok(())
    }

    /// Takes in certificates that were checked, each after its source: first to disk, then to
    /// where others can see them.
    fn take_checked(
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
                    put_certificate(&mut batch, certificate);
                    before.insert(link.target.height, *link);
                    taken.push(certificate);
                }
            }
        }
        {
            let state = self.read_finality();
            state.put_final_path(&mut batch, before.values());
            state.view().sound()?;
        }
        if !taken.is_empty() {
            self.chain.store().commit(&batch)?;
            self.publish_certificates(&taken, now, out)?;
        }
        let own = self.voter.as_ref().map(Voter::address);
        let votes = certificates.iter().flat_map(Certificate::approvals);
        for signed in votes.filter(|each| Some(each.approval.validator) == own) {
            self.stop_on_doppelganger(&signed.approval, out);
        }
        match conflict {
            Some((second, earlier)) => self.keep_conflict(second, &earlier, now, out),
            None => Ok(()),
        }
    }

    /// Shows everyone what certificates on record bring about, and acts on it.
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
                // The certificate was judged above, and nothing came in between.
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
        self.record_leading_votes()?;
        out(Effect::FinalityMoved(status));
        self.follow_certificates(now, out)
    }

    /// Switches to another chain if too many validators are stranded on the present one. Votes make
    /// no chain better, so nothing is to be done while the present one is votable.
    pub(super) fn leave_unvotable_chain(
        &mut self,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let view = self.read_finality().view();
        if self.chain.is_votable(&view)? {
            return Ok(());
        }
        drop(view);
        self.follow_certificates(now, out)
    }

    /// Switches to the chain that certificates now prefer, if it is another one.
    fn follow_certificates(&mut self, now: Now, out: &mut Sink<'_>) -> Result<(), StoreError> {
        let finality = self.read_finality().view();
        let sync = &mut self.sync;
        let update = self.chain.reconsider(&finality, &mut |block| {
            out(Effect::Peer(PeerEffect::BlockValidated(Arc::clone(block))));
            sync.validated(&block.block().header);
        })?;
        drop(finality);
        if let Some(update) = update {
            self.follow_chain(&update, now.unix_secs, out)?;
        }
        Ok(())
    }

    /// At the start: reports a conflict again, or completes the switch to another chain if a crash
    /// came between the commit of a certificate and the switch.
    pub(super) fn resume_finality(&mut self, now: Now) -> Result<(), StoreError> {
        if !self.read_finality().is_active() {
            return Ok(());
        }
        let conflict = self.read_finality().view().conflict();
        if let Some((earlier, second)) = conflict {
            alarm_of_conflict(&earlier, &second);
            return Ok(());
        }
        self.follow_certificates(now, &mut |_| {})
    }
}
