//! Mining, put together: starts the workers, the link and the report, and ends
//! them in an order that loses no block.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use crate::board::WorkBoard;
use crate::clock::Clock;
use crate::kernel::{self, Kernel, KernelError, UnknownKernel};
use crate::link::{ConnectError, Link, LinkConfig};
use crate::placement::Processors;
use crate::report::{Console, Reporter, si};
use crate::stats::{Stats, Summary};
use crate::telemetry::Telemetry;
use crate::trace::Trace;
use crate::workers::{PoolConfig, WorkerError, WorkerPool, solution_queues};

/// What a run needs.
#[derive(Debug, Clone)]
pub struct MineConfig {
    /// Nodes, address, name.
    pub link: LinkConfig,
    /// Mining threads.
    pub threads: usize,
    /// Name of the kernel; `None`: the fastest here.
    pub kernel: Option<String>,
    /// Niceness of the mining threads, 0 to 19.
    pub nice: i32,
    /// Where each of them is kept; `None`: where the system likes.
    pub pinned: Option<Processors>,
    /// Time between two reports where there is no terminal; `None`: no reports.
    pub report_interval: Option<Duration>,
    /// Where everything that is searched and handed in goes on record; `None`:
    /// nowhere.
    pub trace: Option<Arc<Trace>>,
}

/// Why a run failed.
#[derive(Debug, Error)]
pub enum MineError {
    /// The kernel computes something else than consensus.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// There is no such kernel.
    #[error(transparent)]
    UnknownKernel(#[from] UnknownKernel),
    /// No workers.
    #[error(transparent)]
    Workers(#[from] WorkerError),
    /// A node said that there is no point in going on.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// The kernel of this name, checked; or the fastest of those that are right.
///
/// # Errors
/// [`MineError`] if there is no such kernel, or none that is right.
fn choose_kernel(name: Option<&str>) -> Result<&'static dyn Kernel, MineError> {
    if let Some(name) = name {
        let kernel = kernel::by_name(name)?;
        kernel::check(kernel)?;
        return Ok(kernel);
    }
    let choice = kernel::fastest()?;
    for error in &choice.wrong {
        tracing::error!("{error}");
    }
    for one in &choice.measured {
        tracing::debug!(
            kernel = one.kernel.name(),
            hash_rate = si(one.hash_rate, "H/s"),
            "calibrated"
        );
    }
    Ok(choice.kernel)
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
    let kernel = choose_kernel(config.kernel.as_deref())?;
    let board = Arc::new(WorkBoard::default());
    let stats = Arc::new(Stats::new(config.threads));
    let (solutions, queues) = solution_queues();
    let workers = WorkerPool::start(
        PoolConfig {
            threads: config.threads,
            kernel,
            nice: config.nice,
            pinned: config.pinned,
            trace: config.trace.clone(),
            first_extra_nonce: rand::random(),
            clock: Clock::default(),
        },
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

    // A worker that fails ends the run as a signal does.
    let (halt_sender, halt) = watch::channel(false);
    let (mut asked, mut failure) = (stop, workers.failure());
    let halting = tokio::spawn(async move {
        tokio::select! {
            // Senders that are gone can't ask for anything else any more.
            _ = asked.wait_for(|stop| *stop) => {}
            _ = failure.wait_for(Option::is_some) => {}
        }
        halt_sender.send_replace(true);
    });

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
        Telemetry::new(kernel.name(), config.threads),
        queues,
        halt,
        node_sender,
    );
    let ended = link.run().await;
    halting.abort();
    report.abort();
    let _ = report.await;
    let joined = tokio::task::spawn_blocking(move || workers.stop()).await;
    if let Some(trace) = &config.trace {
        trace.flush();
    }
    ended?;
    joined.map_err(|_| WorkerError::Panicked)??;
    Ok(stats.summary())
}
