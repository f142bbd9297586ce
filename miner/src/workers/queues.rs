//! The two queues between the workers, which find solutions, and the link, which hands
//! them in: one for blocks, one for shares.

use tokio::sync::mpsc;

use crate::solution::Solution;

/// How many blocks can wait for the node.
///
/// Each is on another tip ([`WorkBoard`](crate::board::WorkBoard)), so a few are enough. When
/// the queue is full, the workers pause, so no block is dropped.
const BLOCK_QUEUE: usize = 64;
/// How many shares can wait for the node. Further shares are dropped.
const SHARE_QUEUE: usize = 256;

/// The workers' end of both queues.
#[derive(Debug, Clone)]
pub struct SolutionSender {
    pub(super) blocks: mpsc::Sender<Solution>,
    pub(super) shares: mpsc::Sender<Solution>,
}

/// The link's end of both queues.
#[derive(Debug)]
pub struct SolutionQueues {
    /// Blocks, which the link hands in first.
    pub blocks: mpsc::Receiver<Solution>,
    /// Shares that are no blocks.
    pub shares: mpsc::Receiver<Solution>,
}

/// Makes both queues and returns their ends.
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
