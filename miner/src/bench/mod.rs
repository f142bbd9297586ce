//! `pithead-miner bench`: measures the hash rate of this machine.
//!
//! Kernels are compared on one thread. The rate of 1 to N threads is then measured with
//! the same workers that mine, on work that has no solution. Start reading at [`run`];
//! `report` has the results and their tables, `difficulty` asks a node.

mod difficulty;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use difficulty::{DifficultyError, NetworkDifficulty, ask};
pub use report::{
    BenchReport, BenchRow, BlockEstimate, KernelRow, estimate_text, kernel_table, table_head,
    table_row,
};

use crate::board::WorkBoard;
use crate::kernel::{self, ChooseKernelError, Hit, Job, Kernel};
use crate::placement::{MachineUse, Processors};
use crate::stats::Stats;
use crate::work::MiningWork;
use crate::workers::{PoolConfig, WorkerError, WorkerPool, solution_queues};

/// The settings of a measurement.
#[derive(Debug, Clone)]
pub struct BenchConfig {
    /// Kernel and processors. Every number of threads from 1 to `machine.threads` is
    /// measured.
    pub machine: MachineUse,
    /// Length of each measurement.
    pub length: Duration,
    /// Whether all kernels are compared first.
    pub all_kernels: bool,
    /// How many versions are tried together; `None`: each kernel's own number.
    pub versions: Option<usize>,
}

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The kernel is unknown, or disagrees with consensus.
    #[error(transparent)]
    Kernel(#[from] ChooseKernelError),
    /// The workers did not start, or one has failed.
    #[error(transparent)]
    Workers(#[from] WorkerError),
}

/// A result that can be shown before the measurement is complete.
#[derive(Debug, Clone, Copy)]
pub enum BenchProgress<'a> {
    /// The comparison of all kernels.
    Kernels(&'a [KernelRow]),
    /// The kernel that is measured from now on.
    Kernel(&'static str),
    /// The rate of one number of threads.
    Threads(&'a BenchRow),
}

/// Measures, and passes every result to `progress` as soon as it is there.
///
/// # Errors
/// [`BenchError`] if the kernel is unknown or wrong, or if threads can't be started.
pub fn run(
    config: &BenchConfig,
    mut progress: impl FnMut(BenchProgress<'_>),
) -> Result<BenchReport, BenchError> {
    // A wrong name is reported before anything is measured.
    let named = match &config.machine.kernel {
        Some(name) => Some(kernel::by_name(name).map_err(ChooseKernelError::from)?),
        None => None,
    };
    let mut kernels = Vec::new();
    if config.all_kernels {
        kernels = compare(kernel::all(), config.versions, config.length);
        progress(BenchProgress::Kernels(&kernels));
    }
    let fastest = kernels.first().filter(|row| row.error.is_none());
    let kernel = match (named, fastest) {
        (Some(kernel), _) => kernel,
        (None, Some(row)) => kernel::by_name(row.name).map_err(ChooseKernelError::from)?,
        (None, None) => kernel::fastest().map_err(ChooseKernelError::from)?.kernel,
    };
    kernel::check(kernel).map_err(ChooseKernelError::from)?;
    let kernel = in_versions(kernel, config.versions);
    progress(BenchProgress::Kernel(kernel.name()));
    let mut rows: Vec<BenchRow> = Vec::new();
    for threads in 1..=config.machine.threads {
        let pool = PoolConfig {
            pinned: config.machine.pinned.clone(),
            ..PoolConfig::new(threads, kernel)
        };
        let mut row = measure(pool, config.length)?;
        let one = rows.first().map_or(row.hash_rate, |one| one.hash_rate);
        row.scaling = row.hash_rate / one.max(1e-9);
        progress(BenchProgress::Threads(&row));
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

/// A kernel that gets another number of versions than it works best with.
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

/// The kernel with this number of versions; `None` leaves its own number.
///
/// The kernel is leaked, because kernels live as long as the process. The process makes
/// a few of them and ends.
fn in_versions(kernel: &'static dyn Kernel, versions: Option<usize>) -> &'static dyn Kernel {
    match versions {
        Some(versions) => Box::leak(Box::new(InVersions { kernel, versions })),
        None => kernel,
    }
}

/// Measures every kernel on this thread, for `length` each. The fastest comes first;
/// wrong kernels are not timed and come last.
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

/// Measures the workers of one pool. The row's `scaling` is left at 1.
fn measure(pool: PoolConfig, length: Duration) -> Result<BenchRow, BenchError> {
    let threads = pool.threads;
    let board = Arc::new(WorkBoard::default());
    let stats = Arc::new(Stats::new(threads));
    let (solutions, _queues) = solution_queues();
    let workers = WorkerPool::start(pool, Arc::clone(&board), Arc::clone(&stats), solutions)?;
    board.publish(Some(Arc::new(MiningWork::without_solution())));
    // The threads need a moment to start and to find their batch size.
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

/// The name of the processor, as Linux shows it.
fn processor_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Processor time that this process has used so far, in seconds.
fn cpu_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong kernel: it finds nothing.
    struct BlindKernel;

    impl Kernel for BlindKernel {
        fn name(&self) -> &'static str {
            "blind"
        }

        fn scan(&self, _: &Job, _: u32, _: u32, _: &mut Vec<Hit>) {}
    }

    #[test]
    fn a_wrong_kernel_is_a_row_without_a_rate_and_comes_last() {
        let kernels: [&'static dyn Kernel; 3] = [
            &BlindKernel,
            &kernel::PortableKernel,
            &kernel::ReferenceKernel,
        ];
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
        let kernels: [&'static dyn Kernel; 1] = [&kernel::PortableKernel];
        let rows = compare(&kernels, Some(5), Duration::from_millis(2));
        assert_eq!((rows[0].name, rows[0].versions), ("portable", 5));
    }

    #[test]
    fn an_unknown_kernel_is_reported_before_anything_is_measured() {
        let config = BenchConfig {
            machine: MachineUse {
                threads: 1,
                kernel: Some("warp".to_owned()),
                pinned: None,
            },
            length: Duration::from_secs(3_600),
            all_kernels: true,
            versions: None,
        };
        let error = run(&config, |_| panic!("something was measured")).unwrap_err();
        assert!(
            matches!(error, BenchError::Kernel(ChooseKernelError::Unknown(_))),
            "{error}"
        );
    }
}
