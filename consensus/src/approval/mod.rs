//! Validators' approvals of checkpoints (protocol §9). This file has the approval
//! itself, its encoding, and the check of its form and signature.
//!
//! - [`vote`]: the rules that a validator keeps before it signs;
//! - [`evidence`]: the proof that a validator broke them;
//! - [`certificate`]: a quorum of approvals;
//! - [`finality`]: which checkpoints certificates approve and make final.
//!
//! No file here reads a chain. What the rules need of it comes in as arguments.

pub mod certificate;
pub mod evidence;
pub mod finality;
pub mod vote;
pub mod vote_sources;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::address::Address;
use crate::encoding::{Decode, DecodeError, Encode, Reader, concat};
use crate::genesis::Genesis;
use crate::hash::BlockHash;
use crate::height::Height;
use crate::key::{PublicKey, SIGNATURE_LEN, Signature, SigningDomain};

/// The only approval version.
pub const APPROVAL_VERSION: u8 = 1;
/// Bytes of an encoded approval body.
pub const APPROVAL_BYTES: usize = 1 + 32 + LINK_BYTES;
/// Bytes of an encoded signed approval.
pub const SIGNED_APPROVAL_BYTES: usize = APPROVAL_BYTES + SIGNATURE_LEN;
/// Bytes of an encoded checkpoint.
pub(crate) const CHECKPOINT_BYTES: usize = 8 + 32;
/// Bytes of an encoded link.
pub(crate) const LINK_BYTES: usize = 2 * CHECKPOINT_BYTES;

/// A block whose height is a multiple of the checkpoint interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checkpoint {
    pub height: Height,
    pub hash: BlockHash,
}

/// The source and the target of a vote: an approved checkpoint and a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The approved checkpoint on which the vote builds.
    pub source: Checkpoint,
    /// The checkpoint that the vote approves.
    pub target: Checkpoint,
}

/// The body of an approval (protocol §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Approval {
    pub validator: Address,
    pub link: Link,
}

/// An approval with its validator's signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignedApproval {
    pub approval: Approval,
    /// Signature of [`Approval::signing_message`].
    pub signature: Signature,
}

/// An approval that passed [`Validators::check`] on a network. Only
/// [`Validators::verify`] makes one, so its signature need not be checked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedApproval(SignedApproval);

impl VerifiedApproval {
    /// The approval that was verified.
    #[must_use]
    pub fn signed(&self) -> &SignedApproval {
        &self.0
    }
}

/// A network's validators, as its genesis lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    genesis_hash: BlockHash,
    checkpoint_interval: u32,
    quorum: u32,
    keys: BTreeMap<Address, PublicKey>,
}

/// An approval breaks a rule for ever (protocol §9, §11: invalid).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApprovalError {
    /// §9: `source_height` is below `target_height`.
    #[error("target height {target_height} is not above source height {source_height}")]
    SourceNotBelowTarget {
        /// Height of the source.
        source_height: Height,
        /// Height of the target.
        target_height: Height,
    },
    /// §9: both heights are multiples of the checkpoint interval.
    #[error("height {height} is no checkpoint: the interval is {interval} blocks")]
    NotACheckpoint {
        height: Height,
        /// The network's checkpoint interval, blocks.
        interval: u32,
    },
    /// §9: the validator is one that the genesis lists.
    #[error("{validator:?} is not a validator of this network")]
    NotAValidator {
        /// The address in the approval.
        validator: Address,
    },
    /// §9: the signature verifies under the validator's key.
    #[error(
        "the signature of {validator:?} does not verify: wrong key, altered content, or signed for another chain"
    )]
    BadSignature {
        /// The validator that the approval names.
        validator: Address,
    },
}

impl Checkpoint {
    /// The checkpoint of the genesis block, which is approved and final.
    #[must_use]
    pub fn genesis(hash: BlockHash) -> Self {
        Self {
            height: Height::GENESIS,
            hash,
        }
    }

    fn to_bytes(self) -> [u8; CHECKPOINT_BYTES] {
        concat(&[&self.height.0.to_le_bytes(), &self.hash.0])
    }
}

impl Approval {
    /// The bytes that are signed: the domain-separated body (protocol §2, §9).
    #[must_use]
    pub fn signing_message(&self, genesis_hash: &BlockHash) -> Vec<u8> {
        SigningDomain::Approval.message(genesis_hash, &self.encode())
    }
}

impl Validators {
    /// The validators of a genesis.
    #[must_use]
    pub fn of_genesis(genesis: &Genesis) -> Self {
        Self {
            genesis_hash: genesis.params.genesis_hash,
            checkpoint_interval: genesis.params.checkpoint_interval,
            quorum: genesis.params.approval_quorum,
            keys: genesis
                .validators
                .iter()
                .map(|key| (Address::of_key(key), key.clone()))
                .collect(),
        }
    }

    /// Whether there are no validators. The chain is then plain proof of work.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The number of validators.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many distinct approvals make a certificate.
    #[must_use]
    pub fn quorum(&self) -> usize {
        usize::try_from(self.quorum).unwrap_or(usize::MAX)
    }

    /// The checkpoint of the genesis block, on which every chain of votes rests.
    #[must_use]
    pub fn genesis(&self) -> Checkpoint {
        Checkpoint::genesis(self.genesis_hash)
    }

    /// Blocks from one checkpoint to the next.
    #[must_use]
    pub fn checkpoint_interval(&self) -> u32 {
        self.checkpoint_interval
    }

    /// The validators' addresses, ascending.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.keys.keys()
    }

    /// A validator's key; `None` if there is no such validator.
    #[must_use]
    pub fn key(&self, validator: &Address) -> Option<&PublicKey> {
        self.keys.get(validator)
    }

    /// Checks the form of an approval and that the genesis lists its validator. It does
    /// not check the signature.
    ///
    /// # Errors
    /// [`ApprovalError`], one variant a rule.
    pub fn check_unsigned(&self, approval: &Approval) -> Result<(), ApprovalError> {
        self.check_link(&approval.link)?;
        self.member(&approval.validator).map(|_| ())
    }

    /// Checks an approval by itself. The signature, which costs most, comes last.
    ///
    /// # Errors
    /// [`ApprovalError`], one variant a rule.
    pub fn check(&self, signed: &SignedApproval) -> Result<(), ApprovalError> {
        let validator = signed.approval.validator;
        self.check_unsigned(&signed.approval)?;
        let key = self.member(&validator)?;
        // # Consensus: §9 "its signature verifies under that validator's key".
        let message = signed.approval.signing_message(&self.genesis_hash);
        if key.verifies(&message, &signed.signature) {
            Ok(())
        } else {
            Err(ApprovalError::BadSignature { validator })
        }
    }

    /// Checks an approval, and wraps it so that others need not check it again.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn verify(&self, signed: SignedApproval) -> Result<VerifiedApproval, ApprovalError> {
        self.check(&signed).map(|()| VerifiedApproval(signed))
    }

    pub(crate) fn genesis_hash(&self) -> &BlockHash {
        &self.genesis_hash
    }

    /// The key of a validator, or an error if the genesis does not list it.
    pub(crate) fn member(&self, validator: &Address) -> Result<&PublicKey, ApprovalError> {
        // # Consensus: §9 "its validator is one that the genesis lists".
        self.key(validator).ok_or(ApprovalError::NotAValidator {
            validator: *validator,
        })
    }

    /// Checks the form of a link.
    pub(crate) fn check_link(&self, link: &Link) -> Result<(), ApprovalError> {
        check_link(self.checkpoint_interval, link)
    }
}

/// Checks the form of a link: both ends are checkpoints, and the source is below the
/// target.
pub(crate) fn check_link(interval: u32, link: &Link) -> Result<(), ApprovalError> {
    // # Consensus: §9 "source_height is below target_height".
    if link.source.height >= link.target.height {
        return Err(ApprovalError::SourceNotBelowTarget {
            source_height: link.source.height,
            target_height: link.target.height,
        });
    }
    // # Consensus: §9 "both heights are multiples of checkpoint_interval".
    for height in [link.source.height, link.target.height] {
        let rest = height.0.checked_rem(u64::from(interval));
        if rest != Some(0) {
            return Err(ApprovalError::NotACheckpoint { height, interval });
        }
    }
    Ok(())
}

impl Encode for Link {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.source.to_bytes());
        out.extend_from_slice(&self.target.to_bytes());
    }
}

impl Decode for Link {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            source: Checkpoint {
                height: Height(reader.u64("source height")?),
                hash: BlockHash(reader.array("source hash")?),
            },
            target: Checkpoint {
                height: Height(reader.u64("target height")?),
                hash: BlockHash(reader.array("target hash")?),
            },
        })
    }
}

impl Encode for Approval {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.push(APPROVAL_VERSION);
        out.extend_from_slice(&self.validator.0);
        self.link.encode_to(out);
    }
}

impl Decode for Approval {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.expect("approval version", APPROVAL_VERSION, "1")?;
        Ok(Self {
            validator: Address(reader.array("validator")?),
            link: Link::decode_from(reader)?,
        })
    }
}

impl Encode for SignedApproval {
    fn encode_to(&self, out: &mut Vec<u8>) {
        self.approval.encode_to(out);
        out.extend_from_slice(self.signature.0.as_slice());
    }
}

impl Decode for SignedApproval {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            approval: Approval::decode_from(reader)?,
            signature: Signature(Box::new(reader.array("signature")?)),
        })
    }
}
