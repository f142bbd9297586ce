//! Finality (protocol §9) as one node sees it: the approvals that arrived, the certificates that
//! they make, what certificates approve and finalise, and proofs of misbehaviour. Decides nothing
//! about the chain: `crate::node` feeds it and acts on what it says.
//!
//! [`FinalityState`] is the one place that holds all this. What is approved and final is asked
//! through [`FinalityState::view`]; [`Voter`] signs if this node is a validator. The program keeps
//! a validator's votes on disk. Start reading at [`FinalityState::judge`] for approvals and at
//! [`FinalityState::accept`] for certificates.

mod archive;
mod certificates;
mod leading;
mod participation;
mod pool;
mod proof;
mod view;
mod voter;

use std::collections::BTreeMap;
use std::sync::Arc;

use pithead_consensus::approval::ApprovalError;
use pithead_consensus::approval::finality::{FinalityError, Outcome};
use pithead_consensus::{
    Address, BlockHash, Certificate, Checkpoint, Encode as _, Evidence, Finality, Genesis, Height,
    Link, SignedApproval, Validators, VerifiedApproval,
};

pub use certificates::{block_time, certificate_at, certificates_above, put_certificate};
pub use participation::Seen;
pub use proof::{CONFLICTS_MAX, KeptProof, PROOFS_OF_ONE_MAX, Proof};
pub use view::{FinalityStatus, FinalityView, LINKS_IN_MEMORY_MAX};
pub use voter::{JournalError, Signer, VoteJournal, Voter};

use crate::store::{Batch, Snapshot, Store, StoreError, Table};
use archive::{Archive, Staged};
use leading::LeadingVotes;
use participation::{Participation, RECENT_CERTIFICATES};
use pool::Pool;

/// Approvals are taken down to this many checkpoints below the last final one: a late one counts
/// for participation, and may prove an offence. Between the last final and the highest approved
/// checkpoint all are taken, because the best chain need not contain the highest approved one.
const WINDOW_BELOW: u64 = 16;
/// Approvals are taken up to this many checkpoints above the tip: other nodes may be ahead.
const WINDOW_ABOVE: u64 = 16;
/// How many certificates an approval is compared with at most, to see whether its validator
/// contradicts itself.
pub const COMPARED_MAX: usize = 32;
/// No further certificate is read for that after so many bytes: one of a thousand validators has
/// 288 kB.
pub const COMPARED_BYTES_MAX: usize = 1 << 20;

/// Why an approval is not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The node has this validator's approval of this link. Signatures are randomised, so a second
    /// signature on the same link is neither news nor an offence.
    Known,
    /// The target is too old or too far ahead.
    OutOfWindow,
    /// The node has two approvals of this validator with this target height, which is proof
    /// enough, or as many target heights of it as are kept.
    TooMany,
    /// The approval breaks a rule for ever.
    Invalid(ApprovalError),
}

/// Everything that a node knows about approvals and certificates.
///
/// The number of validators and the windows above bound all of it, whatever peers send, except
/// for certificates: those grow with the chain. They are on disk, and memory holds the links of the
/// last ones.
#[derive(Debug, Clone)]
pub struct FinalityState {
    validators: Validators,
    view: FinalityView,
    pool: Pool,
    leading: LeadingVotes,
    participation: Participation,
    proofs: Vec<KeptProof>,
    own_validator: Option<Address>,
}

impl FinalityState {
    /// Reads back everything that a store has on record.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails or is damaged.
    pub fn open(genesis: &Genesis, store: &Arc<dyn Store>) -> Result<Self, StoreError> {
        if !archive::is_complete(store.snapshot()?.as_ref())? {
            record_final_path(genesis, store)?;
        }
        let snapshot = store.snapshot()?;
        let from = snapshot.as_ref();
        let first = Checkpoint::genesis(genesis.params.genesis_hash);
        let recent = archive::last_links(from, LINKS_IN_MEMORY_MAX)?;
        let last_final = archive::final_at(from, Height(u64::MAX))?.unwrap_or(first);
        let interval = genesis.params.checkpoint_interval;
        let validators = Validators::of_genesis(genesis);
        let finality = Finality::resume(interval, first, last_final, &recent);
        let mut state = Self {
            view: FinalityView::on(finality, Archive::new(Arc::clone(store))),
            leading: LeadingVotes::new(&validators),
            validators,
            pool: Pool::default(),
            participation: Participation::default(),
            proofs: Vec::new(),
            own_validator: None,
        };
        certificates::for_each_of_last(from, RECENT_CERTIFICATES, |certificate| {
            let time = block_time(from, certificate)?;
            state.note_certificate(certificate, time);
            Ok(())
        })?;
        state.read_leading_votes(from)?;
        state.proofs = proof::read_all(from)?;
        for kept in &state.proofs {
            if let Proof::Certificates(_, second) = &kept.proof {
                // The link conflicted when it came, and does so again.
                let _ = state.view.accept(*second.link());
            }
        }
        state.view.sound()?;
        Ok(state)
    }

    /// Adds the changes to a batch that put on record what becomes final with the links of
    /// certificates which the batch puts on record.
    pub fn put_final_path<'a>(&self, batch: &mut Batch, links: impl Iterator<Item = &'a Link>) {
        let mut finality = self.view.finality().clone();
        let before = finality.last_final().height;
        let mut older = Staged {
            older: self.view.older(),
            staged: BTreeMap::new(),
        };
        for link in links {
            // The link was judged after those before it.
            let _ = finality.accept_after(&older, *link);
            older.staged.insert(link.target.height, *link);
        }
        let highest = finality.highest_approved().height;
        archive::put_final_path(batch, finality.final_above(before), highest);
    }

    /// Whether the network has validators. Without them, nothing here does anything.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.validators.is_empty()
    }

    /// The validators that the genesis names.
    #[must_use]
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// The approved and final checkpoints of this moment. The view is cheap to take, holds no lock
    /// and does not change with later certificates.
    #[must_use]
    pub fn view(&self) -> FinalityView {
        self.view.clone().with_sources(self.leading.sources())
    }

    /// The status of [`Self::view`].
    #[must_use]
    pub fn status(&self) -> FinalityStatus {
        self.view.status()
    }

    /// The height of the highest checkpoint at or below a height. On every chain, each
    /// `checkpoint_interval`-th block is a checkpoint.
    #[must_use]
    pub fn checkpoint_height(&self, height: Height) -> Height {
        let interval = u64::from(self.validators.checkpoint_interval());
        let rest = height.0.checked_rem(interval).unwrap_or(height.0);
        Height(height.0.saturating_sub(rest))
    }

    /// Whether the pool has a validator's approval of a link.
    #[must_use]
    pub fn has(&self, validator: &Address, link: &Link) -> bool {
        self.pool.contains(validator, link)
    }

    /// Judges an approval. `tip` is the height of the best chain. The signature costs most, so it is
    /// checked last: after duplicates, membership and form, window and room.
    ///
    /// # Errors
    /// [`Refusal`]: why the approval is not to be taken in.
    pub fn judge(&self, signed: SignedApproval, tip: Height) -> Result<VerifiedApproval, Refusal> {
        let approval = &signed.approval;
        if self.pool.contains(&approval.validator, &approval.link) {
            return Err(Refusal::Known);
        }
        self.validators
            .check_unsigned(approval)
            .map_err(Refusal::Invalid)?;
        let (low, high) = self.window(tip);
        let target = approval.link.target.height;
        if target < low || target > high {
            return Err(Refusal::OutOfWindow);
        }
        if !self.pool.has_room(&approval.validator, target) {
            return Err(Refusal::TooMany);
        }
        self.validators.verify(signed).map_err(Refusal::Invalid)
    }

    /// The lowest and the highest target that is taken.
    fn window(&self, tip: Height) -> (Height, Height) {
        let interval = u64::from(self.validators.checkpoint_interval());
        let status = self.view.status();
        let last_final = status.last_final.height.0;
        let low = last_final.saturating_sub(interval.saturating_mul(WINDOW_BELOW));
        let high = tip.0.max(status.approved.height.0);
        let high = high.saturating_add(interval.saturating_mul(WINDOW_ABOVE));
        (Height(low), Height(high))
    }

    /// Takes in an approval that arrived at `now`, Unix seconds. Returns whether it leads now: its
    /// source is approved and above those of all earlier approvals of its validator.
    pub fn insert(&mut self, verified: VerifiedApproval, now: u64) -> bool {
        let signed = verified.signed();
        self.participation.note_approval(signed, now);
        let leads =
            self.view.is_approved(&signed.approval.link.source) && self.leading.note(signed, false);
        self.pool.insert(verified);
        leads
    }

    /// The changes that put leading votes on record which are not yet; empty if all are.
    pub fn take_unrecorded_votes(&mut self) -> Batch {
        let mut batch = Batch::default();
        self.leading.put_unrecorded(&mut batch);
        batch
    }

    /// Finds the leading votes again: in the certificates above the last final block, and among the
    /// votes on record. Votes from lower sources strand no validator on a chain that contains the
    /// last final block.
    fn read_leading_votes(&mut self, from: &dyn Snapshot) -> Result<(), StoreError> {
        let mut above = self.view.last_final().height;
        loop {
            let found = certificates::certificates_above(from, above, 1, 0)?;
            let Some(certificate) = found.first() else {
                break;
            };
            above = certificate.link().target.height;
            self.note_leading(certificate);
        }
        for signed in leading::read_all(from, &self.validators)? {
            if self.view.is_approved(&signed.approval.link.source) {
                self.leading.note(&signed, true);
            }
        }
        Ok(())
    }

    /// Takes in the votes of an accepted certificate, and those from its target, which is an
    /// approved source from now on.
    fn note_leading(&mut self, certificate: &Certificate) {
        for signed in certificate.approvals() {
            self.leading.note(&signed, true);
        }
        for link in self.pool.links_from(&certificate.link().target) {
            for verified in self.pool.verified(&link) {
                self.leading.note(verified.signed(), false);
            }
        }
    }

    /// The proofs that an approval makes together with others of its validator: with those in the
    /// pool, and with those in the certificates that its link conflicts with. There are no more of
    /// them once as many proofs against the validator are kept as there is room for.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails or is damaged.
    pub fn contradicted(
        &self,
        signed: &SignedApproval,
        from: &dyn Snapshot,
    ) -> Result<Vec<Proof>, StoreError> {
        let validator = &signed.approval.validator;
        if !proof::has_room_against(&self.proofs, validator) {
            return Ok(Vec::new());
        }
        let mut others: Vec<SignedApproval> = self.pool.of(validator).collect();
        let link = &signed.approval.link;
        let finality = self.view.finality();
        let suspects = finality.conflicting(self.view.older(), link, COMPARED_MAX);
        self.view.sound()?;
        let mut bytes = 0_usize;
        for link in suspects {
            if bytes >= COMPARED_BYTES_MAX {
                break;
            }
            if let Some(certificate) = certificate_at(from, link.target.height)? {
                bytes = bytes.saturating_add(certificate.encoded_len());
                let own = |other: &SignedApproval| other.approval.validator == *validator;
                others.extend(certificate.approvals().find(own));
            }
        }
        let proofs = others
            .iter()
            .filter_map(|earlier| Evidence::of(earlier, signed))
            .map(|(evidence, _)| Proof::Votes(Box::new(evidence)));
        Ok(proofs.collect())
    }

    /// The certificate that the approvals of a link make, if they suffice, the source is approved
    /// and the target is not.
    #[must_use]
    pub fn certify(&self, link: &Link) -> Option<Certificate> {
        if self.view.is_approved(&link.target) || !self.view.is_approved(&link.source) {
            return None;
        }
        if self.pool.count(link) < self.validators.quorum() || self.is_kept_conflict(link) {
            return None;
        }
        Certificate::of_verified(&self.validators, &self.pool.verified(link)).ok()
    }

    /// Whether a link is known to conflict with another one, and both certificates are kept.
    fn is_kept_conflict(&self, link: &Link) -> bool {
        self.view.conflict().is_some()
            && self.proofs.iter().any(|kept| match &kept.proof {
                Proof::Certificates(_, second) => second.link() == link,
                Proof::Votes(_) => false,
            })
    }

    /// The certificate that approvals make which waited for this source.
    #[must_use]
    pub fn certify_from(&self, source: &Checkpoint) -> Option<Certificate> {
        let links = self.pool.links_from(source);
        links.into_iter().find_map(|link| self.certify(&link))
    }

    /// The outcome that [`Self::accept`] would have for a certificate's link after the links of
    /// `before`: it must be durable before anyone sees it.
    ///
    /// # Errors
    /// [`FinalityError`]: the certificate of the source must come first.
    pub fn check(
        &self,
        before: &BTreeMap<Height, Link>,
        link: &Link,
    ) -> Result<Outcome, FinalityError> {
        self.view.finality().check(self.view.older(), before, link)
    }

    /// Takes in a certificate that was checked and is on record. `time` is the time of the block
    /// that it approves, if this node has that block.
    ///
    /// # Errors
    /// [`FinalityError`]: the certificate of the source must come first.
    pub fn accept(
        &mut self,
        certificate: &Certificate,
        time: Option<u64>,
    ) -> Result<Outcome, FinalityError> {
        let outcome = self.view.accept(*certificate.link())?;
        if matches!(outcome, Outcome::Approved | Outcome::Final) {
            self.note_certificate(certificate, time);
            self.note_leading(certificate);
            self.pool.forget_below(self.window(Height::GENESIS).0);
        }
        Ok(outcome)
    }

    fn note_certificate(&mut self, certificate: &Certificate, time: Option<u64>) {
        let others = self.pool.approvers(&certificate.link().target);
        self.participation
            .note_certificate(certificate, time, others);
    }

    /// The proofs that are not kept yet and for which there is room. The caller puts them on record
    /// ([`Self::put_proofs`]), then takes them in ([`Self::take_proofs`]).
    #[must_use]
    pub fn news_among(&self, proofs: Vec<Proof>, now: u64) -> Vec<KeptProof> {
        let mut news: Vec<KeptProof> = Vec::new();
        for proof in proofs {
            if proof::has_room(self.proofs.iter().chain(&news), &proof) {
                news.push(KeptProof { time: now, proof });
            }
        }
        news
    }

    /// Adds the changes to a batch that put proofs on record.
    pub fn put_proofs(&self, batch: &mut Batch, news: &[KeptProof]) {
        for (index, kept) in (self.proofs.len() as u64..).zip(news) {
            batch.put(Table::Evidence, index.to_be_bytes(), kept.encode());
        }
    }

    /// Takes in proofs that are on record.
    pub fn take_proofs(&mut self, news: Vec<KeptProof>) {
        self.proofs.extend(news);
    }

    /// All proofs, oldest first.
    #[must_use]
    pub fn proofs(&self) -> &[KeptProof] {
        &self.proofs
    }

    /// The approval of a validator that this node heard of last.
    #[must_use]
    pub fn seen(&self, validator: &Address) -> Option<&Seen> {
        self.participation.seen(validator)
    }

    /// How many of the last certificates' checkpoints a validator approved, and how many
    /// checkpoints that is out of.
    #[must_use]
    pub fn participation(&self, validator: &Address) -> (usize, usize) {
        self.participation.count(validator)
    }

    /// The approvals of a checkpoint that are in the pool, by validator.
    #[must_use]
    pub fn approvals_of(&self, height: Height, hash: &BlockHash) -> Vec<SignedApproval> {
        let target = Checkpoint {
            height,
            hash: *hash,
        };
        self.pool.approvals_of(&target)
    }

    /// Approvals with a target above this height, at most `max`: first the validators' votes with
    /// the highest approved source, then the rest, each group by descending target.
    #[must_use]
    pub fn approvals_above(&self, height: Height, max: usize) -> Vec<SignedApproval> {
        let above = |signed: &&SignedApproval| signed.approval.link.target.height > height;
        let mut found: Vec<SignedApproval> = self.leading.iter().filter(above).cloned().collect();
        found.sort_by_key(|signed| std::cmp::Reverse(signed.approval.link.target));
        found.truncate(max);
        let rest = self.pool.above(height, max.saturating_add(found.len()));
        let rest = rest
            .into_iter()
            .filter(|signed| !self.leading.contains(signed));
        found.extend(rest.take(max.saturating_sub(found.len())));
        found
    }

    /// The validator that this node is, if it is one.
    #[must_use]
    pub fn own(&self) -> Option<Address> {
        self.own_validator
    }

    pub(crate) fn set_own(&mut self, validator: Address) {
        self.own_validator = Some(validator);
    }

    /// How many approvals the pool holds.
    #[must_use]
    pub fn pooled(&self) -> usize {
        self.pool.len()
    }
}

/// Works out from all links on record which checkpoints are final, and puts that on record: for a
/// store in which it is missing.
fn record_final_path(genesis: &Genesis, store: &Arc<dyn Store>) -> Result<(), StoreError> {
    let first = Checkpoint::genesis(genesis.params.genesis_hash);
    let finality = Finality::new(genesis.params.checkpoint_interval, first);
    let mut view = FinalityView::on(finality, Archive::new(Arc::clone(store)));
    let snapshot = store.snapshot()?;
    let mut recorded = Height::GENESIS;
    let mut put = |view: &FinalityView| {
        let mut batch = Batch::default();
        let finality = view.finality();
        let highest = finality.highest_approved().height;
        archive::put_final_path(&mut batch, finality.final_above(recorded), highest);
        recorded = finality.last_final().height;
        store.commit(&batch)
    };
    let mut untold = 0;
    certificates::for_each_link(snapshot.as_ref(), |link| {
        let taken = view.accept(link).map(|_| ());
        taken.map_err(|error| {
            StoreError::Damaged(format!("link to height {}: {error}", link.target.height))
        })?;
        untold += 1;
        if untold == LINKS_IN_MEMORY_MAX / 2 {
            // What is final leaves memory with the links.
            untold = 0;
            put(&view)?;
        }
        Ok(())
    })?;
    put(&view)?;
    view.sound()
}
