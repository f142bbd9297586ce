//! Certificates: a quorum of approvals of one link (protocol §9). A node keeps one for
//! each approved checkpoint, outside the block, and serves it to peers.

use std::collections::BTreeMap;

use rayon::prelude::*;
use thiserror::Error;

use super::{Approval, ApprovalError, Link, SignedApproval, Validators, VerifiedApproval};
use crate::address::Address;
use crate::encoding::{Decode, DecodeError, Encode, Reader};
use crate::key::{PublicKey, SIGNATURE_LEN, Signature};

/// The only certificate version.
pub const CERTIFICATE_VERSION: u8 = 1;
/// Bytes of a validator and its signature.
const ENTRY_BYTES: usize = 32 + SIGNATURE_LEN;
/// Bytes before the entries: the version, the link and the count.
const HEAD_BYTES: usize = 1 + 80 + 4;

/// The approvals of one link: `version u8 = 1 ‖ link 80 ‖ count u32 ‖
/// (validator 32 ‖ signature 256)…`. They ascend by validator if this code built it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    link: Link,
    approvals: Vec<(Address, Signature)>,
}

/// A validator, its key and its signature.
type Signer<'a> = (Address, (&'a PublicKey, &'a Signature));

/// A certificate breaks a rule and approves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// §9: without validators there are no certificates.
    #[error("this network has no validators: nothing can be approved")]
    NoValidators,
    /// §9: all approvals are of one link.
    #[error(
        "the approvals are not all of one link: {} to {} is another", found.source.hash, found.target.hash
    )]
    MixedLinks {
        /// A link other than the first approval's.
        found: Link,
    },
    /// §9: no validator appears twice.
    #[error("validator {validator:?} appears twice")]
    DuplicateValidator { validator: Address },
    /// §9: the approvals make a quorum.
    #[error("{found} approvals, {needed} make a certificate")]
    TooFewApprovals {
        /// Distinct approvals found.
        found: usize,
        needed: usize,
    },
    /// One of the approvals breaks a rule.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
}

impl Certificate {
    /// Gathers approvals into a certificate and checks all of it. An empty list makes
    /// no certificate.
    ///
    /// # Errors
    /// [`CertificateError`], one variant a rule.
    pub fn build(
        validators: &Validators,
        approvals: &[SignedApproval],
    ) -> Result<Self, CertificateError> {
        let certificate = Self::assemble(validators, approvals.iter())?;
        certificate.check(validators)?;
        Ok(certificate)
    }

    /// Gathers approvals that the same validators have verified before. Everything is
    /// checked except for the signatures.
    ///
    /// # Errors
    /// [`CertificateError`], one variant a rule.
    pub fn of_verified(
        validators: &Validators,
        approvals: &[VerifiedApproval],
    ) -> Result<Self, CertificateError> {
        let certificate =
            Self::assemble(validators, approvals.iter().map(VerifiedApproval::signed))?;
        certificate.signers(validators)?;
        Ok(certificate)
    }

    fn assemble<'a>(
        validators: &Validators,
        approvals: impl Iterator<Item = &'a SignedApproval> + Clone,
    ) -> Result<Self, CertificateError> {
        let Some(first) = approvals.clone().next() else {
            return Err(CertificateError::TooFewApprovals {
                found: 0,
                needed: validators.quorum(),
            });
        };
        let link = first.approval.link;
        // # Consensus: §9 "a quorum of distinct approvals of one link".
        if let Some(other) = approvals.clone().find(|each| each.approval.link != link) {
            return Err(CertificateError::MixedLinks {
                found: other.approval.link,
            });
        }
        let mut approvals: Vec<_> = approvals
            .map(|each| (each.approval.validator, each.signature.clone()))
            .collect();
        approvals.sort();
        Ok(Self { link, approvals })
    }

    /// Checks a certificate by itself: first membership, duplicates and the quorum, then
    /// the signatures, in parallel. Whether its source is approved, is decided by
    /// [`super::finality`].
    ///
    /// # Errors
    /// [`CertificateError`], one variant a rule.
    pub fn check(&self, validators: &Validators) -> Result<(), CertificateError> {
        let signers = self.signers(validators)?;
        let forged = signers
            .par_iter()
            .find_first(|(validator, (key, signature))| {
                let message = Approval {
                    validator: *validator,
                    link: self.link,
                }
                .signing_message(validators.genesis_hash());
                !key.verifies(&message, signature)
            });
        match forged {
            None => Ok(()),
            Some((validator, _)) => Err(ApprovalError::BadSignature {
                validator: *validator,
            }
            .into()),
        }
    }

    /// The validators that signed, with keys and signatures. Checks everything except
    /// for the signatures.
    fn signers<'a>(
        &'a self,
        validators: &'a Validators,
    ) -> Result<Vec<Signer<'a>>, CertificateError> {
        // # Consensus: §9 "Without validators the quorum must be 0, the rule is off".
        if validators.is_empty() {
            return Err(CertificateError::NoValidators);
        }
        validators.check_link(&self.link)?;
        // # Consensus: §9 "Membership and duplicates are checked before any
        // signature".
        let mut signers: BTreeMap<Address, (&PublicKey, &Signature)> = BTreeMap::new();
        for (validator, signature) in &self.approvals {
            let key = validators.member(validator)?;
            if signers.insert(*validator, (key, signature)).is_some() {
                return Err(CertificateError::DuplicateValidator {
                    validator: *validator,
                });
            }
        }
        // # Consensus: §9 "a quorum of distinct approvals".
        let needed = validators.quorum();
        if signers.len() < needed {
            return Err(CertificateError::TooFewApprovals {
                found: signers.len(),
                needed,
            });
        }
        Ok(signers.into_iter().collect())
    }

    /// The link that the certificate approves.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The number of its approvals.
    #[must_use]
    pub fn count(&self) -> usize {
        self.approvals.len()
    }

    /// The length of the encoding, bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        HEAD_BYTES.saturating_add(ENTRY_BYTES.saturating_mul(self.approvals.len()))
    }

    /// The approvals, each with its signature.
    pub fn approvals(&self) -> impl Iterator<Item = SignedApproval> {
        self.approvals
            .iter()
            .map(|(validator, signature)| SignedApproval {
                approval: Approval {
                    validator: *validator,
                    link: self.link,
                },
                signature: signature.clone(),
            })
    }
}

impl Encode for Certificate {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.push(CERTIFICATE_VERSION);
        self.link.encode_to(out);
        let count = u32::try_from(self.approvals.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for (validator, signature) in &self.approvals {
            out.extend_from_slice(&validator.0);
            out.extend_from_slice(signature.0.as_slice());
        }
    }
}

impl Decode for Certificate {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.expect("certificate version", CERTIFICATE_VERSION, "1")?;
        let link = Link::decode_from(reader)?;
        let count = reader.count("approval count", ENTRY_BYTES)?;
        let mut approvals = Vec::with_capacity(count);
        for _ in 0..count {
            approvals.push((
                Address(reader.array("validator")?),
                Signature(Box::new(reader.array("signature")?)),
            ));
        }
        Ok(Self { link, approvals })
    }
}
