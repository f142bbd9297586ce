//! Starts the worker threads, watches them, and ends them.

use std::sync::Arc;
use std::thread::JoinHandle;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::watch;

use super::batch::BatchSize;
use super::extra_nonces::ExtraNonces;
use super::queues::SolutionSender;
use super::worker::{MiningWorker, WorkerError};
use crate::board::WorkBoard;
use crate::clock::WorkerClock;
use crate::kernel::Kernel;
use crate::placement::{self, Processors};
use crate::stats::Stats;
use crate::trace::Trace;

/// The workers' niceness, unless the user chooses another.
pub const DEFAULT_NICE: i32 = 10;

/// The number of workers, and how they run.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The number of worker threads.
    pub threads: usize,
    /// The kernel that all workers hash with.
    pub kernel: &'static dyn Kernel,
    /// The threads' niceness, 0 to 19.
    pub nice: i32,
    /// The processors to pin the threads to; `None`: the system places them.
    pub pinned: Option<Processors>,
    /// Where each worker starts in its part of the extra nonces.
    ///
    /// Every process needs a different number. A restarted node may give a miner the
    /// prefix that another miner had, and both of them the same template; two miners
    /// with the same start would then search the same headers.
    pub first_extra_nonce: u32,
    /// The clock that sets the headers' time and the batch size.
    pub clock: WorkerClock,
    /// The record of everything that is searched; `None`: no record.
    pub trace: Option<Arc<Trace>>,
}

impl PoolConfig {
    /// Workers of the default niceness that the system places, with extra nonces from 0.
    #[must_use]
    pub fn new(threads: usize, kernel: &'static dyn Kernel) -> Self {
        Self {
            threads,
            kernel,
            nice: DEFAULT_NICE,
            pinned: None,
            first_extra_nonce: 0,
            clock: WorkerClock::default(),
            trace: None,
        }
    }
}

/// The running workers.
#[derive(Debug)]
pub struct WorkerPool {
    board: Arc<WorkBoard>,
    driver: JoinHandle<()>,
    failure: watch::Receiver<Option<WorkerError>>,
}

impl WorkerPool {
    /// Starts the workers. They wait until the board has work.
    ///
    /// # Errors
    /// [`WorkerError::Start`] if the system grants no threads.
    pub fn start(
        config: PoolConfig,
        board: Arc<WorkBoard>,
        stats: Arc<Stats>,
        solutions: SolutionSender,
    ) -> Result<Self, WorkerError> {
        let failed = |reason: String| WorkerError::Start {
            threads: config.threads,
            reason,
        };
        let pool = threads(&config).map_err(|error| failed(error.to_string()))?;
        let (failed_sender, failure) = watch::channel(None);
        let workers_board = Arc::clone(&board);
        let config_of_workers = config.clone();
        // The broadcast returns when all workers have ended, so a thread of its own has
        // to wait for it.
        let driver = std::thread::Builder::new()
            .name("miner-pool".to_owned())
            .spawn(move || {
                let config = config_of_workers;
                pool.broadcast(|context| {
                    // When one worker panics, all others end as well.
                    let _watch = PanicWatch {
                        board: &workers_board,
                        failure: &failed_sender,
                    };
                    let index = context.index();
                    let worker = MiningWorker {
                        index,
                        kernel: config.kernel,
                        board: &workers_board,
                        stats: &stats,
                        solutions: &solutions,
                        clock: &config.clock,
                        failure: &failed_sender,
                        trace: config.trace.as_deref(),
                        batch: BatchSize::default(),
                        false_hits: 0,
                        extra_nonces: ExtraNonces::of_worker(
                            index,
                            config.threads,
                            config.first_extra_nonce,
                        ),
                    };
                    worker.run();
                });
            })
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            board,
            driver,
            failure,
        })
    }

    /// The failure of a worker, which ends all workers; `None` until one fails.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<WorkerError>> {
        self.failure.clone()
    }

    /// Ends the workers and waits for them. They finish their batches first, and wait
    /// for room in the queue of blocks.
    ///
    /// # Errors
    /// [`WorkerError`] if a worker has failed.
    pub fn stop(self) -> Result<(), WorkerError> {
        self.board.stop();
        let joined = self.driver.join();
        if let Some(failure) = self.failure.borrow().clone() {
            return Err(failure);
        }
        joined.map_err(|_| WorkerError::Panicked)
    }
}

/// The threads, with their names, niceness and processors.
fn threads(config: &PoolConfig) -> Result<ThreadPool, rayon::ThreadPoolBuildError> {
    let (nice, pinned) = (config.nice, config.pinned.clone());
    ThreadPoolBuilder::new()
        .num_threads(config.threads)
        .thread_name(|index| format!("miner-{index}"))
        .start_handler(move |worker| {
            placement::set_niceness(nice);
            if let Some(processor) = pinned.as_ref().and_then(|all| all.of_worker(worker)) {
                placement::pin_this_thread(processor);
            }
        })
        .build()
}

/// Reports the panic of a worker at once. Rayon itself reports it only when all workers
/// have ended.
struct PanicWatch<'a> {
    board: &'a WorkBoard,
    failure: &'a watch::Sender<Option<WorkerError>>,
}

impl Drop for PanicWatch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failure.send_replace(Some(WorkerError::Panicked));
            self.board.stop();
        }
    }
}
