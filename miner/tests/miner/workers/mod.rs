//! The workers, with kernels that watch how they are called.
//!
//! This file starts pools; `search` tests which headers are tried, `solutions` what is
//! handed in and what happens when a kernel is wrong.

mod kernels;
mod search;
mod solutions;

use std::sync::Arc;
use std::time::Instant;

use pithead_miner::board::WorkBoard;
use pithead_miner::kernel::Kernel;
use pithead_miner::stats::Stats;
use pithead_miner::work::MiningWork;
use pithead_miner::workers::{PoolConfig, SolutionQueues, WorkerPool, solution_queues};

use crate::fake_node::{WorkSpec, reward_address};

/// A pool with the ends that a test needs.
struct RunningPool {
    pool: WorkerPool,
    board: Arc<WorkBoard>,
    stats: Arc<Stats>,
    queues: SolutionQueues,
}

fn start(threads: usize, kernel: impl Kernel + 'static) -> RunningPool {
    start_pool(pool_config(threads, kernel))
}

fn start_pool(config: PoolConfig) -> RunningPool {
    let threads = config.threads;
    let board = Arc::new(WorkBoard::default());
    let stats = Arc::new(Stats::new(threads));
    let (solutions, queues) = solution_queues();
    let pool =
        WorkerPool::start(config, Arc::clone(&board), Arc::clone(&stats), solutions).unwrap();
    RunningPool {
        pool,
        board,
        stats,
        queues,
    }
}

fn work(spec: &WorkSpec, arrived: Instant) -> Option<Arc<MiningWork>> {
    let work = MiningWork::from_message(spec.message(), &reward_address(), 1, arrived).unwrap();
    Some(Arc::new(work))
}

/// The settings of a pool with this kernel, which is leaked: kernels live as long as the
/// program.
fn pool_config(threads: usize, kernel: impl Kernel + 'static) -> PoolConfig {
    PoolConfig::new(threads, Box::leak(Box::new(kernel)))
}
