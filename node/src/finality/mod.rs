//! Finality (protocol §9) as one node sees it: approvals that came, the
//! certificates they make, what these approve and finalise, and proofs of
//! misbehaviour. Decides nothing about the chain: `crate::node` feeds it and acts
//! on what it says.
//!
//! [`FinalityState`] is what everyone may read; [`Voter`] signs, if this node is
//! a validator; [`journal`] keeps its votes.

pub mod journal;
mod pool;
mod proof;
mod voter;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pithead_consensus::approval::ApprovalError;
use pithead_consensus::approval::finality::{FinalityError, Outcome};
use pithead_consensus::{
    Address, BlockHash, Certificate, Checkpoint, Decode as _, Encode as _, Evidence, Finality,
    Genesis, Height, Link, SignedApproval, Validators,
};

pub use proof::{KeptProof, Proof};
pub use voter::{JournalError, Signer, VoteJournal, Voter};

use crate::store::{Batch, Snapshot, StoreError, Table};
use pool::Pool;

/// Approvals of so many checkpoints below the highest approved one are still
/// taken: late ones count for participation, and may prove an offence.
const WINDOW_BELOW: u64 = 16;
/// Approvals of so many checkpoints above the tip are taken: others may be ahead.
const WINDOW_ABOVE: u64 = 16;
/// Certificates that participation is counted over.
pub const RECENT_CERTIFICATES: usize = 100;
/// Proofs kept of one validator's misbehaviour: one suffices.
pub const PROOFS_OF_ONE_MAX: usize = 16;
/// Pairs of conflicting certificates kept.
pub const CONFLICTS_MAX: usize = 16;
/// Links read from the store at a time.
const LINKS_PER_READ: usize = 10_000;

/// What an approval is to this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Sound, and not known.
    New,
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
    /// When it came, Unix seconds.
    pub time: u64,
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
            self.note_certificate(&certificate);
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

    /// Whether a checkpoint is approved.
    #[must_use]
    pub fn is_approved(&self, checkpoint: &Checkpoint) -> bool {
        self.finality.is_approved(checkpoint)
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
    #[must_use]
    pub fn judge(&self, signed: &SignedApproval, tip: Height) -> Judgement {
        let approval = &signed.approval;
        if self.pool.contains(&approval.validator, &approval.link) {
            return Judgement::Known;
        }
        if let Err(error) = self.validators.check_unsigned(approval) {
            return Judgement::Invalid(error);
        }
        let (low, high) = self.window(tip);
        let target = approval.link.target.height;
        if target < low || target > high {
            return Judgement::OutOfWindow;
        }
        if !self.pool.has_room(&approval.validator, target) {
            return Judgement::TooMany;
        }
        match self.validators.check(signed) {
            Ok(()) => Judgement::New,
            Err(error) => Judgement::Invalid(error),
        }
    }

    fn window(&self, tip: Height) -> (Height, Height) {
        let interval = u64::from(self.validators.checkpoint_interval());
        let approved = self.finality.highest_approved().height.0;
        let low = approved.saturating_sub(interval.saturating_mul(WINDOW_BELOW));
        let high = tip.0.max(approved);
        let high = high.saturating_add(interval.saturating_mul(WINDOW_ABOVE));
        (Height(low), Height(high))
    }

    /// Takes in an approval that was judged new, or is this node's own; returns
    /// the proofs that it makes with earlier ones and that are not kept yet.
    pub fn insert(&mut self, signed: SignedApproval, now: u64) -> Vec<Evidence> {
        let validator = signed.approval.validator;
        let target = signed.approval.link.target.height;
        let proofs = self
            .pool
            .of(&validator)
            .filter_map(|earlier| Evidence::of(&earlier, &signed))
            .map(|(evidence, _)| evidence)
            .filter(|evidence| self.is_news(evidence))
            .collect();
        let newer = self
            .seen
            .get(&validator)
            .is_none_or(|seen| seen.approval.approval.link.target.height <= target);
        if newer {
            let seen = Seen {
                approval: signed.clone(),
                time: now,
            };
            self.seen.insert(validator, seen);
        }
        for (checkpoint, approvers) in &mut self.recent {
            if *checkpoint == signed.approval.link.target {
                approvers.insert(validator);
            }
        }
        self.pool.insert(signed);
        proofs
    }

    /// The certificate that the approvals of a link make, if it would be news.
    #[must_use]
    pub fn certify(&self, link: &Link) -> Option<Certificate> {
        if self.finality.is_approved(&link.target) || !self.finality.is_approved(&link.source) {
            return None;
        }
        if self.pool.count(link) < self.validators.quorum() {
            return None;
        }
        Certificate::build(&self.validators, &self.pool.approvals(link)).ok()
    }

    /// The next certificate that approvals which waited for their source make.
    #[must_use]
    pub fn certify_from(&self, source: &Checkpoint) -> Option<Certificate> {
        let links = self.pool.links_from(source);
        links.into_iter().find_map(|link| self.certify(&link))
    }

    /// Takes in a certificate that was checked.
    ///
    /// # Errors
    /// [`FinalityError`]: its source's certificate must come first.
    pub fn accept(&mut self, certificate: &Certificate) -> Result<Outcome, FinalityError> {
        let outcome = self.finality.accept(*certificate.link())?;
        if matches!(outcome, Outcome::Approved | Outcome::Final) {
            self.note_certificate(certificate);
            self.pool
                .forget_below(self.window(certificate.link().target.height).0);
        }
        Ok(outcome)
    }

    fn note_certificate(&mut self, certificate: &Certificate) {
        let target = certificate.link().target;
        let mut approvers: BTreeSet<Address> = self.pool.approvers(&target).collect();
        approvers.extend(certificate.approvals().map(|each| each.approval.validator));
        if self.recent.len() >= RECENT_CERTIFICATES {
            self.recent.pop_front();
        }
        self.recent.push_back((target, approvers));
    }

    /// The changes that put a certificate on record.
    pub fn put_certificate(batch: &mut Batch, certificate: &Certificate) {
        let link = certificate.link();
        let key = link.target.height.0.to_be_bytes();
        batch.put(Table::Certificates, key, certificate.encode());
        batch.put(Table::Links, key, link.encode());
    }

    fn is_news(&self, evidence: &Evidence) -> bool {
        let mut kept = 0;
        for proof in &self.proofs {
            if let Proof::Votes(other) = &proof.proof
                && other.validator() == evidence.validator()
            {
                kept += 1;
                if same_votes(other, evidence) {
                    return false;
                }
            }
        }
        kept < PROOFS_OF_ONE_MAX
    }

    /// Puts a proof on record, unless it is there or there are enough of its
    /// kind; returns whether it did.
    pub fn keep_proof(&mut self, batch: &mut Batch, proof: Proof, now: u64) -> bool {
        let news = match &proof {
            Proof::Votes(evidence) => self.is_news(evidence),
            Proof::Certificates(first, second) => {
                let others = self.proofs.iter().filter_map(|kept| match &kept.proof {
                    Proof::Certificates(a, b) => Some((*a.link(), *b.link())),
                    Proof::Votes(_) => None,
                });
                let others: Vec<_> = others.collect();
                others.len() < CONFLICTS_MAX && !others.contains(&(*first.link(), *second.link()))
            }
        };
        if news {
            let kept = KeptProof { time: now, proof };
            let key = (self.proofs.len() as u64).to_be_bytes();
            batch.put(Table::Evidence, key, kept.encode());
            self.proofs.push(kept);
        }
        news
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

/// Whether two proofs are of the same pair of votes, however signed.
fn same_votes(a: &Evidence, b: &Evidence) -> bool {
    let links = |evidence: &Evidence| {
        let (first, second) = evidence.approvals();
        let mut links = [first.approval.link, second.approval.link];
        links.sort();
        links
    };
    links(a) == links(b)
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
