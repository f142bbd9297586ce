//! Mining, put together: starts the workers, the link and the report, and ends
//! them in an order that loses no block.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use crate::board::WorkBoard;
use crate::kernel::{self, KernelError};
use crate::link::{ConnectError, Link, LinkConfig};
use crate::report::{Console, Reporter};
use crate::stats::{Stats, Summary};
use crate::workers::{WorkerError, WorkerPool, solution_queues};

/// What a run needs.
#[derive(Debug, Clone)]
pub struct MineConfig {
    /// Nodes, address, name.
    pub link: LinkConfig,
    /// Mining threads.
    pub threads: usize,
    /// Time between two reports where there is no terminal; `None`: no reports.
    pub report_interval: Option<Duration>,
}

/// Why a run failed.
#[derive(Debug, Error)]
pub enum MineError {
    /// The kernel computes something else than consensus.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No workers.
    #[error(transparent)]
    Workers(#[from] WorkerError),
    /// A node said that there is no point in going on.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Mines until `stop` turns true or the blocks asked for are found.
///
/// # Errors
/// [`MineError`] if mining could not begin or had to end.
pub async fn mine(
    config: MineConfig,
    console: Console,
    stop: watch::Receiver<bool>,
) -> Result<Summary, MineError> {
    let kernel = kernel::fastest();
    kernel::check(kernel)?;
    let board = Arc::new(WorkBoard::default());
    let stats = Arc::new(Stats::new(config.threads));
    let (solutions, queues) = solution_queues();
    let workers = WorkerPool::start(
        config.threads,
        kernel,
        Arc::clone(&board),
        Arc::clone(&stats),
        solutions,
    )?;
    tracing::info!(
        threads = config.threads,
        kernel = kernel.name(),
        address = config.link.reward_address,
        worker = config.link.worker,
        "mining"
    );

    let (node_sender, node) = watch::channel(None);
    let reporter = Reporter::new(
        console,
        Arc::clone(&stats),
        Arc::clone(&board),
        node,
        config.report_interval,
    );
    let report = tokio::spawn(reporter.run());
    let link = Link::new(
        config.link,
        Arc::clone(&board),
        Arc::clone(&stats),
        queues,
        stop,
        node_sender,
    );
    let ended = link.run().await;
    // The summary covers the time of mining, so it is taken before the threads
    // are waited for; that takes a batch.
    board.stop();
    report.abort();
    let _ = report.await;
    let joined = tokio::task::spawn_blocking(move || workers.stop()).await;
    ended?;
    joined.map_err(|_| WorkerError::Panicked)??;
    Ok(stats.summary())
}
