//! A solution: a header that meets the target of its work's shares.
//!
//! Workers make solutions, the link hands them in, and `trace` records them. This
//! file knows neither threads nor nodes.

use std::sync::Arc;

use pithead_consensus::{Block, BlockHash, BlockHeader};

use crate::work::Work;

/// A header whose hash meets the share target.
#[derive(Debug)]
pub struct Solution {
    /// What it solves.
    pub work: Arc<Work>,
    /// The miner's part of the extra nonce.
    pub extra_nonce: [u8; 4],
    /// The header's time.
    pub time: u32,
    /// The nonce.
    pub nonce: u32,
    /// The header's version.
    pub version: u32,
    /// The header's hash.
    pub hash: BlockHash,
}

impl Solution {
    /// Whether it is a block, not only a share.
    #[must_use]
    pub fn is_block(&self) -> bool {
        self.work.block_target.is_met_by(&self.hash)
    }

    /// The header, complete.
    #[must_use]
    pub fn header(&self) -> BlockHeader {
        BlockHeader {
            version: self.version,
            nonce: self.nonce,
            ..self.work.header_with(self.extra_nonce, self.time)
        }
    }

    /// The whole block, which any node can judge; `None` if it is none, or has
    /// transactions, which only the node has that gave the work.
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
