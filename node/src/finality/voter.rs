//! A validator's part: what to vote for, and that no signature leaves before the
//! vote is on record (protocol §9, rules 1 to 4).

use std::collections::BTreeMap;
use std::fmt;

use pithead_consensus::{
    Address, Approval, BlockHash, Height, Link, Signature, SignedApproval, VoteRecord,
};
use thiserror::Error;

/// Checkpoints whose arrival is remembered.
const REACHED_MAX: usize = 16;

/// A validator's key.
pub trait Signer: Send {
    /// Its address.
    fn address(&self) -> Address;

    /// Signs a message (protocol §2).
    ///
    /// # Errors
    /// In words, if the system gives no randomness.
    fn sign(&self, message: &[u8]) -> Result<Signature, String>;
}

/// Why a vote is not on record: the signature must not leave then.
#[derive(Debug, Error)]
#[error("the vote record: {0}")]
pub struct JournalError(pub String);

/// Where votes are kept.
pub trait VoteJournal: Send {
    /// Puts a vote on record. It is durable on return: a crash of process or
    /// machine keeps it.
    ///
    /// # Errors
    /// [`JournalError`]; whether the vote is on record is unknown then.
    fn append(&mut self, link: &Link) -> Result<(), JournalError>;
}

/// Signs this node's approvals.
pub struct Voter {
    signer: Box<dyn Signer>,
    journal: Box<dyn VoteJournal>,
    record: VoteRecord,
    /// When the best chain reached a checkpoint's height, milliseconds.
    reached: BTreeMap<Height, u64>,
}

impl Voter {
    /// A validator with the votes that it has cast.
    #[must_use]
    pub fn new(signer: Box<dyn Signer>, journal: Box<dyn VoteJournal>, record: VoteRecord) -> Self {
        Self {
            signer,
            journal,
            record,
            reached: BTreeMap::new(),
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// The votes cast.
    #[must_use]
    pub fn record(&self) -> &VoteRecord {
        &self.record
    }

    /// How long the best chain has had a block of this height, milliseconds.
    pub(crate) fn waited_ms(&mut self, height: Height, now_ms: u64) -> u64 {
        let since = *self.reached.entry(height).or_insert(now_ms);
        if self.reached.len() > REACHED_MAX {
            self.reached.pop_first();
        }
        now_ms.saturating_sub(since)
    }

    /// Puts a vote on record, if it is not there, then signs it. The caller has
    /// checked that it may be cast; rules 1 and 2 are checked here once more,
    /// right before the pen.
    ///
    /// # Errors
    /// [`JournalError`] if it is not on record for sure, or may not be.
    pub(crate) fn cast(
        &mut self,
        link: Link,
        genesis_hash: &BlockHash,
    ) -> Result<SignedApproval, JournalError> {
        #[cfg(feature = "planted")]
        let lenient = crate::planted::forget_others(&self.record, link.target.height)
            .is_some_and(|fewer| fewer.check(&link).is_ok());
        #[cfg(not(feature = "planted"))]
        let lenient = false;
        let allowed = self.record.check(&link);
        if !lenient {
            allowed.map_err(|error| JournalError(error.to_string()))?;
        }
        if self.record.vote_at(link.target.height).is_none() {
            self.journal.append(&link)?;
            if lenient {
                #[cfg(feature = "planted")]
                crate::planted::record_anyway(&mut self.record, link);
            } else {
                let recorded = self.record.record(link);
                recorded.map_err(|error| JournalError(error.to_string()))?;
            }
        }
        let approval = Approval {
            validator: self.signer.address(),
            link,
        };
        let message = approval.signing_message(genesis_hash);
        let signature = self.signer.sign(&message).map_err(JournalError)?;
        Ok(SignedApproval {
            approval,
            signature,
        })
    }
}

impl fmt::Debug for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Voter({:?})", self.address())
    }
}
