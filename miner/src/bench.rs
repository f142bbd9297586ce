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
use crate::kernel::{self, Hit, Job, Kernel, KernelError, UnknownKernel};
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
    /// Versions that are tried together; `None`: as many as suit each kernel.
    pub versions: Option<usize>,
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
    /// Versions that it tries together.
    pub versions: usize,
    /// What the processor calls itself, if it tells.
    pub processor: Option<String>,
    /// Processors that this process may use.
    pub processors: usize,
    /// Cores that they belong to.
    pub cores: usize,
    /// One row for each number of threads.
    pub rows: Vec<BenchRow>,
    /// How long a block takes, if a node was asked and answered.
    pub estimate: Option<Estimate>,
    /// Why the node that was asked gave no estimate.
    pub estimate_error: Option<String>,
}

/// A kernel on one thread.
#[derive(Debug, Clone, Serialize)]
pub struct KernelRow {
    /// Its name.
    pub name: &'static str,
    /// Versions that it tries together.
    pub versions: usize,
    /// Hashes a second; 0 of a kernel that is wrong.
    pub hash_rate: f64,
    /// What is wrong with it on this machine.
    pub error: Option<String>,
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
    /// Millions of hashes a second for each thread.
    pub megahashes_per_thread: f64,
    /// The rate as a multiple of that of one thread.
    pub scaling: f64,
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
    // A name that is wrong is told before anything takes its time.
    let named = match &config.kernel {
        Some(name) => Some(kernel::by_name(name)?),
        None => None,
    };
    let mut kernels = Vec::new();
    if config.all_kernels {
        kernels = compare(kernel::all(), config.versions, config.length);
        progress(Progress::Kernels(&kernels));
    }
    let fastest = kernels.first().filter(|row| row.error.is_none());
    let kernel = match (named, fastest) {
        (Some(kernel), _) => kernel,
        (None, Some(row)) => kernel::by_name(row.name)?,
        (None, None) => kernel::fastest()?.kernel,
    };
    kernel::check(kernel)?;
    let kernel = in_versions(kernel, config.versions);
    progress(Progress::Kernel(kernel.name()));
    let mut rows: Vec<BenchRow> = Vec::new();
    for threads in 1..=config.threads_max {
        let pool = PoolConfig {
            pinned: config.pinned.clone(),
            ..PoolConfig::new(threads, kernel)
        };
        let mut row = measure(pool, config.length)?;
        let one = rows.first().map_or(row.hash_rate, |one| one.hash_rate);
        row.scaling = row.hash_rate / one.max(1e-9);
        progress(Progress::Threads(&row));
        rows.push(row);
    }
    let processors = Processors::of_this_process();
    Ok(BenchReport {
        kernels,
        kernel: kernel.name(),
        versions: kernel.versions(),
        processor: processor_name(),
        processors: processors.count(),
        cores: processors.cores(),
        rows,
        estimate: None,
        estimate_error: None,
    })
}

/// A kernel, to be given another number of versions than it likes best.
struct InVersions {
    kernel: &'static dyn Kernel,
    versions: usize,
}

impl Kernel for InVersions {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn versions(&self) -> usize {
        self.versions
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        self.kernel.scan(job, start, count, hits);
    }
}

/// The kernel with so many versions; `None`: its own number. Kernels live as
/// long as the process, which measures a few of them and ends.
fn in_versions(kernel: &'static dyn Kernel, versions: Option<usize>) -> &'static dyn Kernel {
    match versions {
        Some(versions) => Box::leak(Box::new(InVersions { kernel, versions })),
        None => kernel,
    }
}

/// Every kernel on this thread, `length` each, the fastest first; those that are
/// wrong are not timed, and come last.
fn compare(
    kernels: &[&'static dyn Kernel],
    versions: Option<usize>,
    length: Duration,
) -> Vec<KernelRow> {
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for kernel in kernels.iter().copied() {
        let row = |error: Option<String>| KernelRow {
            name: kernel.name(),
            versions: versions.unwrap_or(kernel.versions()),
            hash_rate: 0.0,
            error,
        };
        match kernel::check(kernel) {
            Ok(()) => right.push(in_versions(kernel, versions)),
            Err(error) => wrong.push(row(Some(error.to_string()))),
        }
    }
    let total = length * u32::try_from(right.len()).unwrap_or(u32::MAX);
    let measured = kernel::calibrate(&right, total);
    let rows = measured.into_iter().map(|one| KernelRow {
        name: one.kernel.name(),
        versions: one.kernel.versions(),
        hash_rate: one.hash_rate,
        error: None,
    });
    rows.chain(wrong).collect()
}

/// What the processor calls itself.
fn processor_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
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
        megahashes_per_thread: hashes as f64 / seconds / 1e6 / threads as f64,
        scaling: 1.0,
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

/// What a node's next block takes.
#[derive(Debug, Clone)]
pub struct Difficulty {
    network: String,
    height: u64,
    difficulty: f64,
}

impl Difficulty {
    /// How long a block takes with this hash rate.
    #[must_use]
    pub fn estimate(self, hash_rate: f64) -> Estimate {
        Estimate {
            network: self.network,
            height: self.height,
            difficulty: self.difficulty,
            seconds_per_block: self.difficulty / hash_rate.max(1e-9),
        }
    }
}

/// Asks a node for its difficulty.
///
/// # Errors
/// [`BenchError::Node`] if the node can't be asked.
pub async fn ask(node: &NodeAddress) -> Result<Difficulty, BenchError> {
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
    Ok(Difficulty {
        network: info.network,
        height: info.tip.map_or(0, |tip| tip.height),
        difficulty: info.next_difficulty,
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
        if let Some(error) = &row.error {
            let _ = writeln!(text, "{:<14}  {error}", row.name);
            continue;
        }
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

/// A line of it.
#[must_use]
pub fn table_row(row: &BenchRow) -> String {
    let megahashes = row.hash_rate / 1e6;
    format!(
        "{:>7}  {megahashes:>10.3}  {:>15.3}  {:>6.2}×",
        row.threads, row.megahashes_per_thread, row.scaling
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

    /// Finds nothing.
    struct Blind;

    impl Kernel for Blind {
        fn name(&self) -> &'static str {
            "blind"
        }

        fn scan(&self, _: &Job, _: u32, _: u32, _: &mut Vec<Hit>) {}
    }

    #[test]
    fn a_wrong_kernel_is_a_row_without_a_rate_and_comes_last() {
        let kernels: [&'static dyn Kernel; 3] = [&Blind, &kernel::Portable, &kernel::Reference];
        let rows = compare(&kernels, None, Duration::from_millis(2));
        assert_eq!(rows.len(), 3);
        let [right @ .., wrong] = &rows[..] else {
            panic!("no rows");
        };
        assert!(
            right
                .iter()
                .all(|row| row.error.is_none() && row.hash_rate > 0.0)
        );
        assert_eq!((wrong.name, wrong.hash_rate), ("blind", 0.0));
        let table = kernel_table(&rows);
        assert!(
            table.contains("blind           kernel blind is wrong"),
            "{table}"
        );
    }

    #[test]
    fn a_kernel_is_measured_in_the_versions_asked_for() {
        let kernels: [&'static dyn Kernel; 1] = [&kernel::Portable];
        let rows = compare(&kernels, Some(5), Duration::from_millis(2));
        assert_eq!((rows[0].name, rows[0].versions), ("portable", 5));
    }

    #[test]
    fn an_unknown_kernel_is_told_before_anything_is_measured() {
        let config = BenchConfig {
            threads_max: 1,
            length: Duration::from_secs(3_600),
            kernel: Some("warp".to_owned()),
            all_kernels: true,
            versions: None,
            pinned: None,
        };
        let error = run(&config, |_| panic!("something was measured")).unwrap_err();
        assert!(matches!(error, BenchError::UnknownKernel(_)), "{error}");
    }

    #[test]
    fn tables_name_what_they_show() {
        let rows = [("avx", 16, 4e7), ("reference", 1, 5e6)].map(|(name, versions, hash_rate)| {
            KernelRow {
                name,
                versions,
                hash_rate,
                error: None,
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
