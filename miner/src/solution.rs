//! A solution: a header that meets the share target of its work.
//!
//! Workers find solutions, the link hands them in, and `trace` records them. This file
//! knows neither threads nor nodes.

use std::sync::Arc;

use pithead_consensus::{Block, BlockHash, BlockHeader};

use crate::work::MiningWork;

/// A header whose hash meets the share target of its work.
#[derive(Debug)]
pub struct Solution {
    /// The work that the header solves.
    pub work: Arc<MiningWork>,
    /// The miner's half of the extra nonce; the node chose the other half.
    pub extra_nonce: [u8; 4],
    /// The header's time, Unix seconds.
    pub time: u32,
    /// The nonce that was found.
    pub nonce: u32,
    /// The header's version, rolled within the work's mask.
    pub version: u32,
    /// The header's hash, as consensus computes it.
    pub hash: BlockHash,
}

impl Solution {
    /// Whether the hash meets the block target as well, not only the share target.
    #[must_use]
    pub fn is_block(&self) -> bool {
        self.work.block_target.is_met_by(&self.hash)
    }

    /// The complete header.
    #[must_use]
    pub fn header(&self) -> BlockHeader {
        BlockHeader {
            version: self.version,
            nonce: self.nonce,
            ..self.work.header_with(self.extra_nonce, self.time)
        }
    }

    /// The whole block, which any node can judge.
    ///
    /// `None` for a share, and for a block with transactions: only the node that gave
    /// the work has them.
    #[must_use]
    pub fn whole_block(&self) -> Option<Block> {
        if !self.is_block() || self.work.transaction_count > 0 {
            return None;
        }
        Some(Block {
            header: self.header(),
            commitment: self.work.commitment_with(self.extra_nonce),
            transactions: Vec::new(),
        })
    }
}
