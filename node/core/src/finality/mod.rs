//! Finality (protocol §9) as one node sees it: approvals that came, the
//! certificates they make, what these approve and finalise, and proofs of
//! misbehaviour. Decides nothing about the chain: `crate::node` feeds it and acts
//! on what it says.
//!
//! [`FinalityState`] is what everyone may read; [`Voter`] signs, if this node is
//! a validator; the program keeps its votes on disk.

mod pool;
mod proof;
mod voter;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pithead_consensus::approval::ApprovalError;
use pithead_consensus::approval::finality::{FinalityError, Outcome};
use pithead_consensus::{
    Address, BlockHash, Certificate, Checkpoint, Decode as _, Encode as _, Evidence, Finality,
    Genesis, Height, Link, SignedApproval, Validators, VerifiedApproval,
};

pub use proof::{CONFLICTS_MAX, KeptProof, PROOFS_OF_ONE_MAX, Proof};
pub use voter::{JournalError, Signer, VoteJournal, Voter};

use crate::store::schema;
use crate::store::{Batch, Snapshot, StoreError, Table};
use pool::Pool;

/// Approvals of so many checkpoints below the highest approved one are still
/// taken: late ones count for participation, and may prove an offence.
const WINDOW_BELOW: u64 = 16;
/// Approvals of so many checkpoints above the tip are taken: others may be ahead.
const WINDOW_ABOVE: u64 = 16;
/// Certificates that participation is counted over.
pub const RECENT_CERTIFICATES: usize = 100;
/// Links read from the store at a time.
const LINKS_PER_READ: usize = 10_000;

/// Certificates that an approval is compared with, to see whether its validator
/// signed against itself.
const COMPARED_MAX: usize = 32;

/// Why an approval is not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This validator's approval of this link is there already: signatures are
    /// randomised, so another one on it is no news and no offence.
    Known,
    /// Too old or too far ahead to be kept.
    OutOfWindow,
    /// This validator has said too much about this checkpoint: proofs are kept.
    TooMany,
    /// It breaks a rule for ever.
    Invalid(ApprovalError),
}

/// What this node saw last of a validator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its approval with the highest target.
    pub approval: SignedApproval,
    /// When it came, Unix seconds. Of one that is known from a certificate alone:
    /// the time of the block that it approves, if that is here.
    pub time: Option<u64>,
}

/// How far the chain is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinalityStatus {
    /// The highest approved checkpoint.
    pub approved: Checkpoint,
    /// The last final block.
    pub last_final: Checkpoint,
    /// Two certificates conflict: nothing more becomes final.
    pub conflict: bool,
}

impl FinalityStatus {
    /// What the best chain should contain if there is a choice: after a conflict no
    /// more than what is final.
    #[must_use]
    pub fn preferred(&self) -> Checkpoint {
        if self.conflict {
            self.last_final
        } else {
            self.approved
        }
    }
}

/// What a node knows about approvals. Bounded, whatever comes: by the number of
/// validators and the windows above; certificates grow with the chain and are
/// on disk, their links of 80 bytes in memory too.
#[derive(Debug, Clone)]
pub struct FinalityState {
    validators: Validators,
    finality: Finality,
    pool: Pool,
    seen: BTreeMap<Address, Seen>,
    recent: VecDeque<(Checkpoint, BTreeSet<Address>)>,
    proofs: Vec<KeptProof>,
    voter: Option<Address>,
}

impl FinalityState {
    /// What is on record in a store.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails or is damaged.
    pub fn open(genesis: &Genesis, from: &dyn Snapshot) -> Result<Self, StoreError> {
        let validators = Validators::of_genesis(genesis);
        let interval = validators.checkpoint_interval();
        let mut state = Self {
            finality: Finality::new(interval, validators.genesis()),
            validators,
            pool: Pool::default(),
            seen: BTreeMap::new(),
            recent: VecDeque::new(),
            proofs: Vec::new(),
            voter: None,
        };
        state.read_links(from)?;
        state.read_recent(from)?;
        state.proofs = proof::read_all(from)?;
        for index in 0..state.proofs.len() {
            let conflict = match state.proofs.get(index).map(|kept| &kept.proof) {
                Some(Proof::Certificates(_, second)) => Some(*second.link()),
                _ => None,
            };
            if let Some(link) = conflict {
                // It was found in conflict, and is again.
                let _ = state.finality.accept(link);
            }
        }
        Ok(state)
    }

    fn read_links(&mut self, from: &dyn Snapshot) -> Result<(), StoreError> {
        let mut start = Vec::new();
        loop {
            let found = from.range(Table::Links, &start, &[0xff; 9], LINKS_PER_READ, false)?;
            let Some((last, _)) = found.last() else {
                return Ok(());
            };
            start = [last.as_slice(), &[0]].concat();
            for (_, bytes) in found {
                let link = Link::decode(&bytes)
                    .map_err(|error| StoreError::Damaged(format!("link: {error}")))?;
                self.finality.accept(link).map_err(|error| {
                    StoreError::Damaged(format!("link to height {}: {error}", link.target.height))
                })?;
            }
        }
    }

    fn read_recent(&mut self, from: &dyn Snapshot) -> Result<(), StoreError> {
        let table = Table::Certificates;
        let found = from.range(table, &[], &[0xff; 9], RECENT_CERTIFICATES, true)?;
        for (_, bytes) in found.into_iter().rev() {
            let certificate = decode_certificate(&bytes)?;
            let time = block_time(from, &certificate)?;
            self.note_certificate(&certificate, time);
        }
        Ok(())
    }

    /// Whether there are validators at all.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.validators.is_empty()
    }

    /// The validators.
    #[must_use]
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// How far the chain is secured.
    #[must_use]
    pub fn status(&self) -> FinalityStatus {
        FinalityStatus {
            approved: self.finality.highest_approved(),
            last_final: self.finality.last_final(),
            conflict: self.finality.conflict().is_some(),
        }
    }

    /// The two links that conflict, once there are such: the earlier one first.
    #[must_use]
    pub fn conflict(&self) -> Option<(Link, Link)> {
        self.finality.conflict()
    }

    /// Whether a checkpoint is approved.
    #[must_use]
    pub fn is_approved(&self, checkpoint: &Checkpoint) -> bool {
        self.finality.is_approved(checkpoint)
    }

    /// The highest checkpoint at or below a height that is known to be final.
    #[must_use]
    pub fn final_at(&self, height: Height) -> Checkpoint {
        self.finality.final_at(height)
    }

    /// Approved checkpoints at or below a height, highest first.
    pub fn approved_below(&self, height: Height) -> impl Iterator<Item = Checkpoint> + '_ {
        self.finality.approved_below(height)
    }

    /// The highest checkpoint at or below a height, whichever chain.
    #[must_use]
    pub fn checkpoint_height(&self, height: Height) -> Height {
        let interval = u64::from(self.validators.checkpoint_interval());
        let rest = height.0.checked_rem(interval).unwrap_or(height.0);
        Height(height.0.saturating_sub(rest))
    }

    /// Whether a validator's approval of a link is at hand.
    #[must_use]
    pub fn has(&self, validator: &Address, link: &Link) -> bool {
        self.pool.contains(validator, link)
    }

    /// Judges an approval. Membership, form, window and duplicates come before
    /// the signature, which costs most; `tip` is the height of the best chain.
    ///
    /// # Errors
    /// [`Refusal`]: why it is not to be taken in.
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

    fn window(&self, tip: Height) -> (Height, Height) {
        let interval = u64::from(self.validators.checkpoint_interval());
        let approved = self.finality.highest_approved().height.0;
        let low = approved.saturating_sub(interval.saturating_mul(WINDOW_BELOW));
        let high = tip.0.max(approved);
        let high = high.saturating_add(interval.saturating_mul(WINDOW_ABOVE));
        (Height(low), Height(high))
    }

    /// Takes in an approval.
    pub fn insert(&mut self, verified: VerifiedApproval, now: u64) {
        let signed = verified.signed();
        let validator = signed.approval.validator;
        let target = signed.approval.link.target;
        let seen = Seen {
            approval: signed.clone(),
            time: Some(now),
        };
        self.note_seen(seen);
        for (checkpoint, approvers) in &mut self.recent {
            if *checkpoint == target {
                approvers.insert(validator);
            }
        }
        self.pool.insert(verified);
    }

    /// The proofs that an approval makes with others of its validator: those at
    /// hand, and those in the certificates that it can't stand beside.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails or is damaged.
    pub fn contradicted(
        &self,
        signed: &SignedApproval,
        from: &dyn Snapshot,
    ) -> Result<Vec<Proof>, StoreError> {
        let validator = &signed.approval.validator;
        let mut others: Vec<SignedApproval> = self.pool.of(validator).collect();
        let suspects = self.finality.conflicting(&signed.approval.link);
        for link in suspects.take(COMPARED_MAX) {
            if let Some(certificate) = certificate_at(from, link.target.height)? {
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

    /// The certificate that the approvals of a link make, if it would be news.
    #[must_use]
    pub fn certify(&self, link: &Link) -> Option<Certificate> {
        if self.finality.is_approved(&link.target) || !self.finality.is_approved(&link.source) {
            return None;
        }
        if self.pool.count(link) < self.validators.quorum() || self.is_kept_conflict(link) {
            return None;
        }
        Certificate::of_verified(&self.validators, &self.pool.verified(link)).ok()
    }

    /// Whether a link is known to be in conflict with another, and both certificates
    /// are kept.
    fn is_kept_conflict(&self, link: &Link) -> bool {
        self.finality.conflict().is_some()
            && self.proofs.iter().any(|kept| match &kept.proof {
                Proof::Certificates(_, second) => second.link() == link,
                Proof::Votes(_) => false,
            })
    }

    /// The next certificate that approvals which waited for their source make.
    #[must_use]
    pub fn certify_from(&self, source: &Checkpoint) -> Option<Certificate> {
        let links = self.pool.links_from(source);
        links.into_iter().find_map(|link| self.certify(&link))
    }

    /// What [`Self::accept`] would make of a certificate's link after those of
    /// `before`: what it brings must be durable before anyone sees it.
    ///
    /// # Errors
    /// [`FinalityError`]: its source's certificate must come first.
    pub fn check(
        &self,
        before: &BTreeMap<Height, Link>,
        link: &Link,
    ) -> Result<Outcome, FinalityError> {
        self.finality.check(before, link)
    }

    /// Takes in a certificate that was checked and is on record; `time` is that of
    /// the block that it approves, if that is here.
    ///
    /// # Errors
    /// [`FinalityError`]: its source's certificate must come first.
    pub fn accept(
        &mut self,
        certificate: &Certificate,
        time: Option<u64>,
    ) -> Result<Outcome, FinalityError> {
        let outcome = self.finality.accept(*certificate.link())?;
        if matches!(outcome, Outcome::Approved | Outcome::Final) {
            self.note_certificate(certificate, time);
            let approved = self.finality.highest_approved().height;
            self.pool.forget_below(self.window(approved).0);
        }
        Ok(outcome)
    }

    fn note_certificate(&mut self, certificate: &Certificate, time: Option<u64>) {
        let target = certificate.link().target;
        let mut approvers: BTreeSet<Address> = self.pool.approvers(&target).collect();
        for approval in certificate.approvals() {
            approvers.insert(approval.approval.validator);
            self.note_seen(Seen { approval, time });
        }
        if self.recent.len() >= RECENT_CERTIFICATES {
            self.recent.pop_front();
        }
        self.recent.push_back((target, approvers));
    }

    /// Keeps what was seen of a validator, if it is news: an approval that came by
    /// itself tells more than the same one in a certificate.
    fn note_seen(&mut self, seen: Seen) {
        let height = |seen: &Seen| seen.approval.approval.link.target.height;
        let validator = seen.approval.approval.validator;
        let known = self.seen.get(&validator).map(height);
        if known.is_none_or(|known| known < height(&seen)) {
            self.seen.insert(validator, seen);
        }
    }

    /// The changes that put a certificate on record.
    pub fn put_certificate(batch: &mut Batch, certificate: &Certificate) {
        let link = certificate.link();
        let key = link.target.height.0.to_be_bytes();
        batch.put(Table::Certificates, key, certificate.encode());
        batch.put(Table::Links, key, link.encode());
    }

    /// Those proofs that are not kept yet and for which there is room: to be put
    /// on record, then taken in.
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

    /// The changes that put proofs on record.
    pub fn put_proofs(&self, batch: &mut Batch, news: &[KeptProof]) {
        for (index, kept) in (self.proofs.len() as u64..).zip(news) {
            batch.put(Table::Evidence, index.to_be_bytes(), kept.encode());
        }
    }

    /// Takes in proofs that are on record.
    pub fn take_proofs(&mut self, news: Vec<KeptProof>) {
        self.proofs.extend(news);
    }

    /// Every proof, oldest first.
    #[must_use]
    pub fn proofs(&self) -> &[KeptProof] {
        &self.proofs
    }

    /// What was seen last of a validator.
    #[must_use]
    pub fn seen(&self, validator: &Address) -> Option<&Seen> {
        self.seen.get(validator)
    }

    /// How many of the last certificates' checkpoints a validator approved, and
    /// how many those are.
    #[must_use]
    pub fn participation(&self, validator: &Address) -> (usize, usize) {
        let approved = self
            .recent
            .iter()
            .filter(|(_, approvers)| approvers.contains(validator))
            .count();
        (approved, self.recent.len())
    }

    /// The approvals of a checkpoint that are at hand, by validator.
    #[must_use]
    pub fn approvals_of(&self, height: Height, hash: &BlockHash) -> Vec<SignedApproval> {
        let target = Checkpoint {
            height,
            hash: *hash,
        };
        self.pool.approvals_of(&target)
    }

    /// Approvals with a target above this height, highest first, at most `max`.
    #[must_use]
    pub fn approvals_above(&self, height: Height, max: usize) -> Vec<SignedApproval> {
        self.pool.above(height, max)
    }

    /// Which validator this node is.
    #[must_use]
    pub fn own(&self) -> Option<Address> {
        self.voter
    }

    pub(crate) fn set_own(&mut self, validator: Address) {
        self.voter = Some(validator);
    }

    /// Approvals in memory, for those who watch its limits.
    #[must_use]
    pub fn pooled(&self) -> usize {
        self.pool.len()
    }
}

/// The time of the block that a certificate approves, if it is here.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn block_time(
    from: &dyn Snapshot,
    certificate: &Certificate,
) -> Result<Option<u64>, StoreError> {
    let entry = schema::entry(from, &certificate.link().target.hash)?;
    Ok(entry.map(|entry| u64::from(entry.header.time)))
}

/// The certificate of the checkpoint at a height.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn certificate_at(
    from: &dyn Snapshot,
    height: Height,
) -> Result<Option<Certificate>, StoreError> {
    from.get(Table::Certificates, &height.0.to_be_bytes())?
        .map(|bytes| decode_certificate(&bytes))
        .transpose()
}

/// Certificates above a height, ascending, until so many bytes: one at least.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn certificates_above(
    from: &dyn Snapshot,
    height: Height,
    max: usize,
    bytes_max: usize,
) -> Result<Vec<Certificate>, StoreError> {
    let start = height.0.saturating_add(1).to_be_bytes();
    let mut found = Vec::new();
    let mut bytes = 0;
    for (_, raw) in from.range(Table::Certificates, &start, &[0xff; 9], max, false)? {
        bytes += raw.len();
        if bytes > bytes_max && !found.is_empty() {
            break;
        }
        found.push(decode_certificate(&raw)?);
    }
    Ok(found)
}

fn decode_certificate(bytes: &[u8]) -> Result<Certificate, StoreError> {
    Certificate::decode(bytes).map_err(|error| StoreError::Damaged(format!("certificate: {error}")))
}
