//! `pithead-miner bench`: the hash rate of this machine. Kernels are compared on
//! one thread; the rate of 1 to N threads is that of the very workers that mine,
//! on work that has no solution.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pithead_api::v1::GetChainInfoRequest;
use pithead_api::v1::chain_service_client::ChainServiceClient;
use serde::Serialize;

use crate::board::WorkBoard;
use crate::endpoint::NodeAddress;
use crate::kernel::{self, Kernel, KernelError, UnknownKernel};
use crate::placement::Processors;
use crate::report::si;
use crate::stats::Stats;
use crate::work::Work;
use crate::workers::{PoolConfig, WorkerError, WorkerPool, solution_queues};

/// How long a node may take to tell its difficulty.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchConfig {
    /// Measure 1 to so many threads.
    pub threads_max: usize,
    /// Length of each measurement.
    pub length: Duration,
    /// Name of the kernel; `None`: the fastest here.
    pub kernel: Option<String>,
    /// Compare all kernels first.
    pub all_kernels: bool,
    /// Where workers are kept; `None`: where the system likes.
    pub pinned: Option<Processors>,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// Every kernel on one thread, the fastest first; empty unless asked for.
    pub kernels: Vec<KernelRow>,
    /// The kernel of the rows that follow.
    pub kernel: &'static str,
    /// Processors that this process may use.
    pub processors: usize,
    /// Cores that they belong to.
    pub cores: usize,
    /// One row for each number of threads.
    pub rows: Vec<BenchRow>,
    /// How long a block takes, if a node was asked.
    pub estimate: Option<Estimate>,
}

/// A kernel on one thread.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct KernelRow {
    /// Its name.
    pub name: &'static str,
    /// Versions that it tries together.
    pub versions: usize,
    /// Hashes a second.
    pub hash_rate: f64,
}

/// Some threads.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct BenchRow {
    /// Mining threads.
    pub threads: usize,
    /// Length of the measurement.
    pub seconds: f64,
    /// Processor time of the whole process in it, if the system tells.
    pub cpu_seconds: Option<f64>,
    /// Hashes tried.
    pub hashes: u64,
    /// Hashes a second, all threads together.
    pub hash_rate: f64,
}

/// What the hash rate is worth on a network.
#[derive(Debug, Clone, Serialize)]
pub struct Estimate {
    /// Name of the network.
    pub network: String,
    /// Height of its tip.
    pub height: u64,
    /// Expected hashes to find the next block.
    pub difficulty: f64,
    /// Mean time to find a block with all threads, seconds.
    pub seconds_per_block: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The kernel computes something else than consensus.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// There is no such kernel.
    #[error(transparent)]
    UnknownKernel(#[from] UnknownKernel),
    /// No workers.
    #[error(transparent)]
    Workers(#[from] WorkerError),
    /// The node did not tell its difficulty.
    #[error("{node} does not tell its difficulty: {reason}")]
    Node {
        /// The node.
        node: NodeAddress,
        /// Why.
        reason: String,
    },
}

/// What there is to show as it comes.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// The kernels have been compared.
    Kernels(&'a [KernelRow]),
    /// The threads of this kernel come next.
    Kernel(&'static str),
    /// Some threads have been measured.
    Threads(&'a BenchRow),
}

/// Measures; `progress` sees every result as it is there.
///
/// # Errors
/// [`BenchError`] if a kernel is wrong or unknown, or threads can't be started.
pub fn run(
    config: &BenchConfig,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<BenchReport, BenchError> {
    let mut kernels = Vec::new();
    if config.all_kernels {
        kernels = compare(config.length)?;
        progress(Progress::Kernels(&kernels));
    }
    let kernel = match (&config.kernel, kernels.first()) {
        (Some(name), _) => kernel::by_name(name)?,
        (None, Some(fastest)) => kernel::by_name(fastest.name)?,
        (None, None) => kernel::fastest()?.kernel,
    };
    kernel::check(kernel)?;
    progress(Progress::Kernel(kernel.name()));
    let mut rows = Vec::new();
    for threads in 1..=config.threads_max {
        let pool = PoolConfig {
            pinned: config.pinned.clone(),
            ..PoolConfig::new(threads, kernel)
        };
        let row = measure(pool, config.length)?;
        progress(Progress::Threads(&row));
        rows.push(row);
    }
    let processors = Processors::of_this_process();
    Ok(BenchReport {
        kernels,
        kernel: kernel.name(),
        processors: processors.count(),
        cores: processors.cores(),
        rows,
        estimate: None,
    })
}

/// Every kernel on this thread, `length` each.
fn compare(length: Duration) -> Result<Vec<KernelRow>, BenchError> {
    let kernels: Vec<&'static dyn Kernel> = kernel::all().to_vec();
    for kernel in &kernels {
        kernel::check(*kernel)?;
    }
    let total = length * u32::try_from(kernels.len()).unwrap_or(u32::MAX);
    let measured = kernel::calibrate(&kernels, total);
    let rows = measured.into_iter().map(|one| KernelRow {
        name: one.kernel.name(),
        versions: one.kernel.versions(),
        hash_rate: one.hash_rate,
    });
    Ok(rows.collect())
}

fn measure(pool: PoolConfig, length: Duration) -> Result<BenchRow, BenchError> {
    let threads = pool.threads;
    let board = Arc::new(WorkBoard::default());
    let stats = Arc::new(Stats::new(threads));
    let (solutions, _queues) = solution_queues();
    let workers = WorkerPool::start(pool, Arc::clone(&board), Arc::clone(&stats), solutions)?;
    board.publish(Some(Arc::new(Work::without_solution())));
    // A moment to start the threads and to find the batch size.
    std::thread::sleep(length.min(Duration::from_millis(200)) / 4);
    let (start, cpu_before, before) = (Instant::now(), cpu_seconds(), stats.hashes());
    std::thread::sleep(length);
    let (hashes, seconds) = (stats.hashes() - before, start.elapsed().as_secs_f64());
    let cpu_seconds = cpu_seconds()
        .zip(cpu_before)
        .map(|(now, before)| now - before);
    workers.stop()?;
    Ok(BenchRow {
        threads,
        seconds,
        cpu_seconds,
        hashes,
        hash_rate: hashes as f64 / seconds,
    })
}

/// Processor time that this process has used.
fn cpu_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
    }
    #[cfg(not(unix))]
    None
}

/// How long a block takes at a node's difficulty with this hash rate.
///
/// # Errors
/// [`BenchError::Node`] if the node can't be asked.
pub async fn estimate(node: &NodeAddress, hash_rate: f64) -> Result<Estimate, BenchError> {
    let failed = |reason: String| BenchError::Node {
        node: node.clone(),
        reason,
    };
    let channel = node
        .endpoint()
        .map_err(|error| failed(error.to_string()))?
        .connect()
        .await
        .map_err(|_| failed("nothing answers there; is the node running?".to_owned()))?;
    let mut request = tonic::Request::new(GetChainInfoRequest {});
    request.set_timeout(NODE_TIMEOUT);
    let info = ChainServiceClient::new(channel)
        .get_chain_info(request)
        .await
        .map_err(|status| failed(status.message().to_owned()))?
        .into_inner();
    Ok(Estimate {
        network: info.network,
        height: info.tip.map_or(0, |tip| tip.height),
        difficulty: info.next_difficulty,
        seconds_per_block: info.next_difficulty / hash_rate.max(1e-9),
    })
}

/// The table of the kernels.
#[must_use]
pub fn kernel_table(rows: &[KernelRow]) -> String {
    // The reference is the last resort of comparison: it is always there.
    let reference = rows.iter().find(|row| row.name == "reference");
    let reference = reference.map_or(f64::NAN, |row| row.hash_rate);
    let mut text = format!(
        "{:<14}  {:>15}  {:>12}  {:>8}\n",
        "kernel", "MH/s per thread", "× reference", "versions"
    );
    for row in rows {
        let _ = writeln!(
            text,
            "{:<14}  {:>15.3}  {:>12.2}  {:>8}",
            row.name,
            row.hash_rate / 1e6,
            row.hash_rate / reference,
            row.versions
        );
    }
    text
}

/// Head of the table of threads.
#[must_use]
pub fn table_head() -> String {
    format!(
        "{:>7}  {:>10}  {:>15}  {:>7}",
        "threads", "MH/s", "MH/s per thread", "scaling"
    )
}

/// A line of it; `one` is the rate of a single thread.
#[must_use]
pub fn table_row(row: &BenchRow, one: f64) -> String {
    let megahashes = row.hash_rate / 1e6;
    format!(
        "{:>7}  {megahashes:>10.3}  {:>15.3}  {:>6.2}×",
        row.threads,
        megahashes / row.threads as f64,
        row.hash_rate / one.max(1e-9)
    )
}

/// The estimate in words.
#[must_use]
pub fn estimate_text(estimate: &Estimate) -> String {
    format!(
        "at the difficulty of network {} (height {}, {} hashes a block): a block every {}",
        estimate.network,
        estimate.height,
        si(estimate.difficulty, "").trim(),
        span(estimate.seconds_per_block)
    )
}

/// A length of time in the unit that suits it.
fn span(seconds: f64) -> String {
    const UNITS: [(f64, &str); 5] = [
        (365.25 * 86_400.0, "years"),
        (86_400.0, "days"),
        (3_600.0, "hours"),
        (60.0, "minutes"),
        (1.0, "seconds"),
    ];
    for (length, unit) in UNITS {
        // Two units of a kind are the first that read well.
        if seconds >= 2.0 * length {
            return format!("{:.1} {unit}", seconds / length);
        }
    }
    format!("{:.3} seconds", seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_the_unit_that_suits_them() {
        for (seconds, text) in [
            (0.0004, "0.000 seconds"),
            (1.5, "1.500 seconds"),
            (119.0, "119.0 seconds"),
            (150.0, "2.5 minutes"),
            (86_400.0, "24.0 hours"),
            (1e9, "31.7 years"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn tables_name_what_they_show() {
        let rows = [("avx", 16, 4e7), ("reference", 1, 5e6)].map(|(name, versions, hash_rate)| {
            KernelRow {
                name,
                versions,
                hash_rate,
            }
        });
        let table = kernel_table(&rows);
        assert!(table.contains("avx") && table.contains("40.000") && table.contains("8.00"));
        let estimate = estimate_text(&Estimate {
            network: "dev".to_owned(),
            height: 7,
            difficulty: 4.2e6,
            seconds_per_block: 0.5,
        });
        assert!(
            estimate.contains("network dev (height 7, 4.20 M hashes a block): a block every 0.500"),
            "{estimate}"
        );
    }
}
