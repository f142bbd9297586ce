//! A run of the miner: starts the workers, the link and the reporter, and ends them in
//! an order that loses no block.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::board::WorkBoard;
use crate::clock::WorkerClock;
use crate::kernel::{self, ChooseKernelError, Kernel};
use crate::link::{ConnectError, LinkConfig, LinkParts, NodeLink};
use crate::placement::MachineUse;
use crate::report::{Console, Reporter, si};
use crate::stats::{Stats, Summary};
use crate::telemetry::TelemetryCollector;
use crate::trace::Trace;
use crate::workers::{PoolConfig, WorkerError, WorkerPool, solution_queues};

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct MineConfig {
    /// Nodes, address and name.
    pub link: LinkConfig,
    /// Threads, kernel and processors.
    pub machine: MachineUse,
    /// Niceness of the mining threads, 0 to 19.
    pub nice: i32,
    /// Time between two reports in the log; `None`: no reports. A terminal shows a live
    /// line instead.
    pub report_interval: Option<Duration>,
    /// The record of everything that is searched; `None`: no record.
    pub trace: Option<Arc<Trace>>,
}

/// Why a run failed.
#[derive(Debug, Error)]
pub enum MineError {
    /// The kernel is unknown, or disagrees with consensus.
    #[error(transparent)]
    Kernel(#[from] ChooseKernelError),
    /// The workers did not start, or one has failed.
    #[error(transparent)]
    Workers(#[from] WorkerError),
    /// Every node said that this miner's request is wrong.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Mines until `stop` turns true, or until the configured number of blocks is accepted.
///
/// # Errors
/// [`MineError`] if mining could not begin, or had to end early.
pub async fn mine(
    config: MineConfig,
    console: Console,
    stop: watch::Receiver<bool>,
) -> Result<Summary, MineError> {
    let kernel = choose_kernel(config.machine.kernel.as_deref())?;
    let threads = config.machine.threads;
    let board = Arc::new(WorkBoard::default());
    let stats = Arc::new(Stats::new(threads));
    let (solutions, queues) = solution_queues();
    let pool = PoolConfig {
        threads,
        kernel,
        nice: config.nice,
        pinned: config.machine.pinned,
        trace: config.trace.clone(),
        first_extra_nonce: rand::random(),
        clock: WorkerClock::default(),
    };
    let workers = WorkerPool::start(pool, Arc::clone(&board), Arc::clone(&stats), solutions)?;
    tracing::info!(
        threads,
        kernel = kernel.name(),
        address = config.link.reward_address,
        worker = config.link.worker,
        "mining"
    );
    let (halt, halting) = halt_on(stop, workers.failure());
    let (node_sender, node) = watch::channel(None);
    let reporter = Reporter::new(
        console,
        Arc::clone(&stats),
        Arc::clone(&board),
        node,
        config.report_interval,
    );
    let report = tokio::spawn(reporter.run());
    let parts = LinkParts {
        board,
        stats: Arc::clone(&stats),
        telemetry: TelemetryCollector::new(kernel.name(), threads),
        queues,
    };
    let ended = NodeLink::new(config.link, parts, halt, node_sender)
        .run()
        .await;
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

/// The kernel of this name, or the fastest one, checked against consensus.
fn choose_kernel(name: Option<&str>) -> Result<&'static dyn Kernel, ChooseKernelError> {
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

/// A flag that turns true when `stop` does, or when a worker fails; and the task that
/// sets it.
fn halt_on(
    mut stop: watch::Receiver<bool>,
    mut failure: watch::Receiver<Option<WorkerError>>,
) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (sender, halt) = watch::channel(false);
    let task = tokio::spawn(async move {
        tokio::select! {
            // An error means that the sender is gone. The run then ends as well, because
            // nothing could stop it any more.
            _ = stop.wait_for(|stop| *stop) => {}
            _ = failure.wait_for(Option::is_some) => {}
        }
        sender.send_replace(true);
    });
    (halt, task)
}
