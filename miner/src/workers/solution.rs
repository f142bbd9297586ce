//! What workers find, and the queues in which it waits for the link.

use std::sync::Arc;

use pithead_consensus::{Block, BlockHash, BlockHeader};
use tokio::sync::mpsc;

use crate::work::Work;

/// Blocks that wait for the node: more than fast workers find of the easiest
/// sensible work in the time for which work outlives a connection. When it is
/// full, workers pause: no block is dropped.
const BLOCK_QUEUE: usize = 4_096;
/// Shares that wait for the node. What exceeds them is dropped.
const SHARE_QUEUE: usize = 256;

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

/// The workers' end of the queues.
#[derive(Debug, Clone)]
pub struct SolutionSender {
    pub(super) blocks: mpsc::Sender<Solution>,
    pub(super) shares: mpsc::Sender<Solution>,
}

/// The link's end of the queues.
#[derive(Debug)]
pub struct SolutionQueues {
    /// Blocks; they go first.
    pub blocks: mpsc::Receiver<Solution>,
    /// Shares.
    pub shares: mpsc::Receiver<Solution>,
}

/// Both ends of the queues.
#[must_use]
pub fn solution_queues() -> (SolutionSender, SolutionQueues) {
    let (blocks, block_queue) = mpsc::channel(BLOCK_QUEUE);
    let (shares, share_queue) = mpsc::channel(SHARE_QUEUE);
    (
        SolutionSender { blocks, shares },
        SolutionQueues {
            blocks: block_queue,
            shares: share_queue,
        },
    )
}
