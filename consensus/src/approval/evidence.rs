//! Proof that a validator broke rule 1 or 2 (protocol §9): two of its signed approvals
//! that no validator may sign both.

use thiserror::Error;

use super::vote::{VoteOffence, offence};
use super::{ApprovalError, SignedApproval, Validators};
use crate::address::Address;
use crate::encoding::{Decode, DecodeError, Encode, Reader};

/// Two signed approvals of one validator that break rule 1 or 2. [`Self::check`] says
/// whether the signatures hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Evidence {
    first: SignedApproval,
    second: SignedApproval,
}

/// Evidence proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvidenceError {
    /// One of the approvals is invalid on this network.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// A validator may sign both approvals.
    #[error("the two approvals of {validator:?} break neither rule 1 nor rule 2")]
    NoOffence {
        /// The validator that the approvals name.
        validator: Address,
    },
}

impl Evidence {
    /// The evidence that two approvals make, in either order, and the rule that they
    /// break. It is `None`
    /// - if the approvals are of two validators;
    /// - if they break no rule;
    /// - if they are two signatures on one message, because PSS is randomised.
    #[must_use]
    pub fn of(a: &SignedApproval, b: &SignedApproval) -> Option<(Self, VoteOffence)> {
        if a.approval.validator != b.approval.validator {
            return None;
        }
        let offence = offence(&a.approval.link, &b.approval.link)?;
        // A fixed order, so that one offence has one encoding.
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        let evidence = Self {
            first: first.clone(),
            second: second.clone(),
        };
        Some((evidence, offence))
    }

    /// The validator that broke the rule.
    #[must_use]
    pub fn validator(&self) -> Address {
        self.first.approval.validator
    }

    /// The two approvals, in the order of the encoding.
    #[must_use]
    pub fn approvals(&self) -> (&SignedApproval, &SignedApproval) {
        (&self.first, &self.second)
    }

    /// Checks both approvals and returns the rule that they break.
    ///
    /// # Errors
    /// [`EvidenceError`] if they prove nothing.
    pub fn check(&self, validators: &Validators) -> Result<VoteOffence, EvidenceError> {
        let no_offence = EvidenceError::NoOffence {
            validator: self.validator(),
        };
        if self.first.approval.validator != self.second.approval.validator {
            return Err(no_offence);
        }
        let offence =
            offence(&self.first.approval.link, &self.second.approval.link).ok_or(no_offence)?;
        validators.check(&self.first)?;
        validators.check(&self.second)?;
        Ok(offence)
    }
}

impl Encode for Evidence {
    fn encode_to(&self, out: &mut Vec<u8>) {
        self.first.encode_to(out);
        self.second.encode_to(out);
    }
}

impl Decode for Evidence {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            first: SignedApproval::decode_from(reader)?,
            second: SignedApproval::decode_from(reader)?,
        })
    }
}
