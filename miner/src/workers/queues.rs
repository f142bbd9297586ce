//! The queues between the workers, which find solutions, and the link, which
//! hands them in.

use tokio::sync::mpsc;

use crate::solution::Solution;

/// Blocks that wait for the node: more than fast workers find of the easiest
/// sensible work in the time for which work outlives a connection. When it is
/// full, workers pause: no block is dropped.
const BLOCK_QUEUE: usize = 4_096;
/// Shares that wait for the node. What exceeds them is dropped.
const SHARE_QUEUE: usize = 256;

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
