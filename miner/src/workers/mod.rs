//! The threads that hash.
//!
//! Each worker takes its work from the [board](crate::board) and searches its own part
//! of the extra nonces, so no two workers ever try the same header. For each extra
//! nonce it tries every nonce with a group of versions, then every nonce with the next
//! group: 2^48 headers before the Merkle root changes.
//!
//! *Invariant:* a worker never waits for the node. It looks at the board between two
//! batches of about half a millisecond, and it puts solutions into queues. It waits in
//! one case only: when the board has no work, such as after a block, because any further
//! block on the same tip would be worth nothing.
//!
//! Start reading at `pool`, which starts and ends the threads; `worker` is the search
//! itself.

mod batch;
mod extra_nonces;
mod pool;
mod queues;
mod worker;

pub use pool::{DEFAULT_NICE, PoolConfig, WorkerPool};
pub use queues::{SolutionQueues, SolutionSender, solution_queues};
pub use worker::WorkerError;
