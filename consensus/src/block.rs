//! Headers, commitments and blocks: their encoding (protocol §4).

use crate::address::Address;
use crate::encoding::{Decode, DecodeError, Encode, Reader, concat};
use crate::hash::{BlockHash, Hash256, sha256d};
use crate::merkle;
use crate::target::CompactTarget;
use crate::transaction::{MIN_TRANSACTION_BYTES, SignedTransaction};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 80;
/// Bytes of a commitment.
pub const COMMITMENT_BYTES: usize = 104;
/// The version of a header whose rolled bits are all zero.
pub const BASE_VERSION: u32 = 0x2000_0000;
/// The bits of a version that are fixed (protocol §4).
pub const VERSION_FIXED_MASK: u32 = 0xe000_1fff;
/// The bits of a version that miners may roll: 13 to 28 (the BIP 320 mask).
pub const VERSION_ROLL_MASK: u32 = !VERSION_FIXED_MASK;

/// The 80 bytes that miners hash, in the Bitcoin layout (protocol §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHeader {
    /// `0x20000000`, plus the bits that miners roll.
    pub version: u32,
    /// Hash of the parent.
    pub prev: BlockHash,
    /// SHA-256d of the commitment.
    pub merkle_root: Hash256,
    /// Unix seconds.
    pub time: u32,
    /// Compact target.
    pub bits: CompactTarget,
    /// Proof-of-work nonce.
    pub nonce: u32,
}

/// What a header's `merkle_root` commits to, 104 bytes (protocol §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockCommitment {
    /// RFC 6962 root over the encoded signed transactions.
    pub transactions_root: Hash256,
    /// Root of the account state before this block.
    pub state_root: Hash256,
    /// The account that earns the subsidy and the fees.
    pub reward_address: Address,
    /// Free for the miner to roll, once it has tried all nonces.
    pub extra_nonce: [u8; 8],
}

/// A block (protocol §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub header: BlockHeader,
    /// The header commits to it.
    pub commitment: BlockCommitment,
    /// The commitment commits to them.
    pub transactions: Vec<SignedTransaction>,
}

impl BlockHeader {
    /// The 80 bytes that are hashed.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        concat(&[
            &self.version.to_le_bytes(),
            &self.prev.0,
            &self.merkle_root.0,
            &self.time.to_le_bytes(),
            &self.bits.0.to_le_bytes(),
            &self.nonce.to_le_bytes(),
        ])
    }

    /// Block hash: SHA-256d of the 80 bytes.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        BlockHash(sha256d(&self.to_bytes()))
    }
}

impl BlockCommitment {
    /// The 104 bytes that are hashed.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; COMMITMENT_BYTES] {
        concat(&[
            &self.transactions_root.0,
            &self.state_root.0,
            &self.reward_address.0,
            &self.extra_nonce,
        ])
    }

    /// The header's `merkle_root`: SHA-256d of the 104 bytes.
    #[must_use]
    pub fn merkle_root(&self) -> Hash256 {
        Hash256(sha256d(&self.to_bytes()))
    }
}

impl Block {
    /// Root over the encoded transactions, in block order (protocol §4).
    #[must_use]
    pub fn transactions_root(&self) -> Hash256 {
        let leaves: Vec<Hash256> = self
            .transactions
            .iter()
            .map(SignedTransaction::leaf_hash)
            .collect();
        merkle::root(&leaves)
    }

    /// Encoded size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.transactions
            .iter()
            .map(SignedTransaction::size)
            .fold(EMPTY_BLOCK_BYTES, usize::saturating_add)
    }
}

/// Bytes of a block without transactions.
pub const EMPTY_BLOCK_BYTES: usize = HEADER_BYTES + COMMITMENT_BYTES + 4;

impl Encode for BlockHeader {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }
}

impl Decode for BlockHeader {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: reader.u32("version")?,
            prev: BlockHash(reader.array("previous hash")?),
            merkle_root: Hash256(reader.array("merkle root")?),
            time: reader.u32("time")?,
            bits: CompactTarget(reader.u32("bits")?),
            nonce: reader.u32("nonce")?,
        })
    }
}

impl Encode for BlockCommitment {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }
}

impl Decode for BlockCommitment {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            transactions_root: Hash256(reader.array("transactions root")?),
            state_root: Hash256(reader.array("state root")?),
            reward_address: Address(reader.array("reward address")?),
            extra_nonce: reader.array("extra nonce")?,
        })
    }
}

impl Encode for Block {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.size());
        self.header.encode_to(out);
        self.commitment.encode_to(out);
        let count = u32::try_from(self.transactions.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for transaction in &self.transactions {
            transaction.encode_to(out);
        }
    }
}

impl Decode for Block {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let header = BlockHeader::decode_from(reader)?;
        let commitment = BlockCommitment::decode_from(reader)?;
        let count = reader.count("transaction count", MIN_TRANSACTION_BYTES)?;
        let mut transactions = Vec::with_capacity(count);
        for _ in 0..count {
            transactions.push(SignedTransaction::decode_from(reader)?);
        }
        Ok(Self {
            header,
            commitment,
            transactions,
        })
    }
}
