//! `pithead-miner bench`: the hash rate of this machine, with the very workers
//! that mine, on work that has no solution.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::board::WorkBoard;
use crate::kernel::{self, KernelError};
use crate::stats::Stats;
use crate::work::Work;
use crate::workers::{WorkerError, WorkerPool, solution_queues};

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The kernel.
    pub kernel: &'static str,
    /// One row for each number of threads.
    pub rows: Vec<BenchRow>,
}

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct BenchRow {
    /// Mining threads.
    pub threads: usize,
    /// Length of the measurement.
    pub seconds: f64,
    /// Hashes tried.
    pub hashes: u64,
    /// Hashes a second, all threads together.
    pub hash_rate: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The kernel computes something else than consensus.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No workers.
    #[error(transparent)]
    Workers(#[from] WorkerError),
}

/// Measures 1 to `threads_max` threads, each for `length`; `progress` sees
/// every row as it is there.
///
/// # Errors
/// [`BenchError`] if the kernel is wrong or threads can't be started.
pub fn run(
    threads_max: usize,
    length: Duration,
    mut progress: impl FnMut(&BenchRow),
) -> Result<BenchReport, BenchError> {
    let kernel = kernel::fastest();
    kernel::check(kernel)?;
    let mut rows = Vec::new();
    for threads in 1..=threads_max {
        let board = Arc::new(WorkBoard::default());
        let stats = Arc::new(Stats::new(threads));
        let (solutions, _queues) = solution_queues();
        let workers = WorkerPool::start(
            threads,
            kernel,
            Arc::clone(&board),
            Arc::clone(&stats),
            solutions,
        )?;
        board.publish(Some(Arc::new(Work::without_solution())));
        // A moment to start the threads and to find the batch size.
        std::thread::sleep(length.min(Duration::from_millis(200)) / 4);
        let (start, before) = (Instant::now(), stats.hashes());
        std::thread::sleep(length);
        let (hashes, seconds) = (stats.hashes() - before, start.elapsed().as_secs_f64());
        workers.stop()?;
        let row = BenchRow {
            threads,
            seconds,
            hashes,
            hash_rate: hashes as f64 / seconds,
        };
        progress(&row);
        rows.push(row);
    }
    Ok(BenchReport {
        kernel: kernel.name(),
        rows,
    })
}

/// Head of the table.
#[must_use]
pub fn table_head() -> String {
    format!(
        "{:>7}  {:>10}  {:>15}  {:>7}",
        "threads", "MH/s", "MH/s per thread", "scaling"
    )
}

/// A line of the table; `one` is the rate of a single thread.
#[must_use]
pub fn table_row(row: &BenchRow, one: f64) -> String {
    let mut line = String::new();
    let megahashes = row.hash_rate / 1e6;
    let _ = write!(
        line,
        "{:>7}  {megahashes:>10.3}  {:>15.3}  {:>6.2}×",
        row.threads,
        megahashes / row.threads as f64,
        row.hash_rate / one.max(1e-9)
    );
    line
}
