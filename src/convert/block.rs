//! Headers, commitments, approvals and blocks, as the wire shows them.

use pithead_consensus::{
    Amount, BlockCommitment, BlockHeader, Encode as _, Height, SignedApproval, Target, Work,
};

use super::{ChainContext, timestamp};
use crate::v1;

/// The facts about a block that its header and commitment do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSummary {
    /// Number of transactions.
    pub transaction_count: u32,
    /// Money that the block issues.
    pub subsidy: Amount,
    /// Sum of the transactions' fees.
    pub fees: Amount,
    /// Encoded size, bytes.
    pub size: u32,
    /// Whether the block is on the best chain.
    pub best_chain: bool,
    /// Blocks from this one to the tip, both counted; 0 off the best chain.
    pub confirmations: u64,
    /// Height of the block whose reward this block pays out.
    pub matured_reward_height: Option<u64>,
}

/// Expected hashes for a target, for display.
#[must_use]
pub fn work_f64(target: Target) -> f64 {
    target.work().to_f64()
}

/// A header as the wire shows it.
#[must_use]
pub fn header(header: &BlockHeader, height: Height, chain_work: Work) -> v1::BlockHeader {
    let target = header.bits.to_target().ok();
    v1::BlockHeader {
        hash: header.hash().to_string(),
        height: height.0,
        version: header.version,
        previous_hash: header.prev.to_string(),
        merkle_root: header.merkle_root.to_string(),
        time: Some(timestamp(u64::from(header.time))),
        bits: header.bits.0,
        nonce: header.nonce,
        target: target.map_or_else(String::new, |target| target.to_string()),
        difficulty: target.map_or(0.0, work_f64),
        chain_work: chain_work.to_string(),
        raw: header.to_bytes().to_vec().into(),
    }
}

impl ChainContext {
    /// A commitment as the wire shows it.
    #[must_use]
    pub fn commitment(&self, commitment: &BlockCommitment) -> v1::BlockCommitment {
        v1::BlockCommitment {
            transactions_root: commitment.transactions_root.to_string(),
            state_root: commitment.state_root.to_string(),
            reward_address: self.address_text(&commitment.reward_address),
            extra_nonce: hex::encode(commitment.extra_nonce),
            raw: commitment.encode().into(),
        }
    }

    /// A validator's approval as the wire shows it.
    #[must_use]
    pub fn approval(&self, signed: &SignedApproval) -> v1::Approval {
        let link = &signed.approval.link;
        v1::Approval {
            validator: self.address_text(&signed.approval.validator),
            source_height: link.source.height.0,
            source_hash: link.source.hash.to_string(),
            target_height: link.target.height.0,
            target_hash: link.target.hash.to_string(),
            signature: signed.signature.0.to_vec().into(),
            raw: signed.encode().into(),
        }
    }

    /// A block without its transactions.
    #[must_use]
    pub fn block(
        &self,
        header: v1::BlockHeader,
        commitment: &BlockCommitment,
        summary: &BlockSummary,
    ) -> v1::Block {
        v1::Block {
            header: Some(header),
            commitment: Some(self.commitment(commitment)),
            transaction_count: summary.transaction_count,
            transactions: Vec::new(),
            txids: Vec::new(),
            subsidy: summary.subsidy.grains(),
            fees: summary.fees.grains(),
            size_bytes: summary.size,
            best_chain: summary.best_chain,
            confirmations: summary.confirmations,
            matured_reward_height: summary.matured_reward_height,
            finality: v1::Finality::Unspecified.into(),
            approvals: Vec::new(),
            raw: prost::bytes::Bytes::new(),
        }
    }
}
