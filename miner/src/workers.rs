//! The threads that hash.
//!
//! Every worker takes its jobs from the [`WorkBoard`] and searches a part of
//! the extra nonces that is its own, so no two of them ever try one header. Under
//! each extra nonce it tries every nonce with a group of versions, then with the
//! next group: 2^48 headers before the Merkle root changes.
//! *Invariant:* a worker never waits for the node. It looks at the board
//! between batches of about half a millisecond, and hands solutions to queues
//! that it does not wait for either, unless blocks fill theirs: what it would find
//! meanwhile could not be handed in.

mod batch;
mod extra_nonces;
mod queues;

use std::sync::Arc;
use std::thread::JoinHandle;

use pithead_consensus::BlockHash;
use rayon::ThreadPoolBuilder;
use thiserror::Error;
use tokio::sync::{mpsc::error::TrySendError, watch};

use crate::board::{Order, WorkBoard};
use crate::clock::Clock;
use crate::kernel::{Hit, Job, Kernel};
use crate::placement::{self, Processors};
use crate::solution::Solution;
use crate::stats::Stats;
use crate::trace::{Searched, Trace};
use crate::versions::RolledVersions;
use crate::work::Work;
use batch::Batch;
use extra_nonces::ExtraNonces;
pub use queues::{SolutionQueues, SolutionSender, solution_queues};

/// Niceness unless told otherwise.
pub const DEFAULT_NICE: i32 = 10;
/// So many hits in a row that are none: this kernel finds nothing any more.
const FALSE_HITS_MAX: u64 = 1_000;

/// Why there are no workers, or no more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorkerError {
    /// The threads could not be started.
    #[error("can't start {threads} mining threads: {reason}")]
    Start {
        /// How many.
        threads: usize,
        /// Why.
        reason: String,
    },
    /// A worker panicked.
    #[error("a mining thread has failed; please report what it printed")]
    Panicked,
    /// The kernel says nonsense.
    #[error(
        "kernel {kernel} took {false_hits} hashes in a row for solutions that are none; choose \
         another with --kernel, and check the machine's memory and cooling"
    )]
    WrongKernel {
        /// Its name.
        kernel: &'static str,
        /// How many.
        false_hits: u64,
    },
}

/// What workers are there, and how they run.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How many.
    pub threads: usize,
    /// What they hash with.
    pub kernel: &'static dyn Kernel,
    /// Their niceness, 0 to 19.
    pub nice: i32,
    /// Where each of them is kept; `None`: where the system likes.
    pub pinned: Option<Processors>,
    /// Where each of them begins in its part of the extra nonces: any number, but
    /// another one in every process. A node that is restarted may give a miner the
    /// prefix that another had, and both the same template.
    pub first_extra_nonce: u32,
    /// What they take for the time.
    pub clock: Clock,
    /// Where everything that is searched goes on record; `None`: nowhere.
    pub trace: Option<Arc<Trace>>,
}

impl PoolConfig {
    /// Workers that yield to everything else, wherever the system puts them.
    #[must_use]
    pub fn new(threads: usize, kernel: &'static dyn Kernel) -> Self {
        Self {
            threads,
            kernel,
            nice: DEFAULT_NICE,
            pinned: None,
            first_extra_nonce: 0,
            clock: Clock::default(),
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
    /// Starts the workers; they wait until the board has work.
    ///
    /// # Errors
    /// [`WorkerError::Start`] if the system grants no threads.
    pub fn start(
        config: PoolConfig,
        board: Arc<WorkBoard>,
        stats: Arc<Stats>,
        solutions: SolutionSender,
    ) -> Result<Self, WorkerError> {
        let PoolConfig {
            threads,
            kernel,
            nice,
            pinned,
            first_extra_nonce,
            clock,
            trace,
        } = config;
        let failed = |reason: String| WorkerError::Start { threads, reason };
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("miner-{index}"))
            .start_handler(move |worker| {
                placement::set_niceness(nice);
                if let Some(processor) = pinned.as_ref().and_then(|all| all.of_worker(worker)) {
                    placement::pin_this_thread(processor);
                }
            })
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let workers_board = Arc::clone(&board);
        let (failed_sender, failure) = watch::channel(None);
        // The broadcast lasts as long as the workers do; it needs a thread that
        // may wait for them.
        let driver = std::thread::Builder::new()
            .name("miner-pool".to_owned())
            .spawn(move || {
                pool.broadcast(|context| {
                    // The others must not go on as if nothing had happened.
                    let _watch = PanicWatch {
                        board: &workers_board,
                        failure: &failed_sender,
                    };
                    let worker = Worker {
                        index: context.index(),
                        kernel,
                        board: &workers_board,
                        stats: &stats,
                        solutions: &solutions,
                        clock: &clock,
                        failure: &failed_sender,
                        trace: trace.as_deref(),
                        batch: Batch::default(),
                        false_hits: 0,
                        extra_nonces: ExtraNonces::of_worker(
                            context.index(),
                            threads,
                            first_extra_nonce,
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

    /// Set once a worker has failed, which ends all of them.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<WorkerError>> {
        self.failure.clone()
    }

    /// Ends the workers and waits for them: a batch at most, and as long as blocks
    /// that they have found fill their queue.
    ///
    /// # Errors
    /// [`WorkerError`] if one of them had failed.
    pub fn stop(self) -> Result<(), WorkerError> {
        self.board.stop();
        let joined = self.driver.join();
        if let Some(failure) = self.failure.borrow().clone() {
            return Err(failure);
        }
        joined.map_err(|_| WorkerError::Panicked)
    }
}

/// Tells of a worker's panic: the pool itself does only once all have ended.
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

struct Worker<'a> {
    index: usize,
    kernel: &'static dyn Kernel,
    board: &'a WorkBoard,
    stats: &'a Stats,
    solutions: &'a SolutionSender,
    clock: &'a Clock,
    failure: &'a watch::Sender<Option<WorkerError>>,
    trace: Option<&'a Trace>,
    batch: Batch,
    /// Since the last true one.
    false_hits: u64,
    extra_nonces: ExtraNonces,
}

impl Worker<'_> {
    fn run(mut self) {
        loop {
            match self.board.next_order() {
                Order::Stop => return,
                Order::Mine(work, generation) => self.mine(&work, generation),
            }
        }
    }

    /// Mines on one piece of work until the board changes.
    fn mine(&mut self, work: &Arc<Work>, generation: u64) {
        let mut versions = Vec::new();
        let mut taken_up = false;
        loop {
            let extra_nonce = self.extra_nonces.next();
            let time = work.time_at(self.clock.now());
            let header = work.header_with(extra_nonce, time);
            let group = self.kernel.versions();
            let mut rolled = RolledVersions::new(header.version, work.version_mask, group);
            let mut job = Job::with_versions(header, work.share_target, &[]);
            while rolled.next_group(&mut versions) {
                job.set_versions(&versions);
                if !std::mem::replace(&mut taken_up, true) {
                    work.note_taken_up(self.clock.now());
                }
                if !self.mine_job(work, generation, extra_nonce, &mut job) {
                    return;
                }
            }
        }
    }

    /// Tries every nonce of a job; `false` if the board has changed before.
    fn mine_job(
        &mut self,
        work: &Arc<Work>,
        generation: u64,
        extra_nonce: [u8; 4],
        job: &mut Job,
    ) -> bool {
        let versions = job.versions().len();
        let mut hits = Vec::new();
        let mut next_nonce = Some(0u32);
        let mut now = self.clock.now();
        let mut searched = self.searched(work, extra_nonce, job);
        while let Some(start) = next_nonce {
            if self.board.generation() != generation {
                return false;
            }
            let time = work.time_at(now);
            if job.time() != time {
                job.set_time(time);
                searched = self.searched(work, extra_nonce, job);
            }
            // The last batch ends at u32::MAX and may be one short of what is
            // left; the next one then has a single nonce.
            let count = self.batch.nonces(versions).min((u32::MAX - start).max(1));
            self.kernel.scan(job, start, count, &mut hits);
            if let (Some(trace), Some(searched)) = (self.trace, &searched) {
                trace.range(*searched, start, count);
            }
            let hashes = u64::from(count) * versions as u64;
            if let Some(counter) = self.stats.hash_counter(self.index) {
                counter.add(hashes);
            }
            for hit in hits.drain(..) {
                if !self.hand_in(work, job, extra_nonce, hit, searched) {
                    return false;
                }
            }
            let end = self.clock.now();
            self.batch
                .measured(hashes, end.saturating_duration_since(now));
            now = end;
            next_nonce = start.checked_add(count);
        }
        true
    }

    /// What a job searches, if that goes on record.
    fn searched(&self, work: &Work, extra_nonce: [u8; 4], job: &Job) -> Option<Searched> {
        self.trace.map(|trace| {
            let header = work.header_with(extra_nonce, job.time());
            let versions: Vec<u32> = job.versions().collect();
            trace.job(&header, &versions, &work.share_target)
        })
    }

    /// Hands in what the kernel found; `false` if the kernel is of no use.
    fn hand_in(
        &mut self,
        work: &Arc<Work>,
        job: &Job,
        extra_nonce: [u8; 4],
        hit: Hit,
        searched: Option<Searched>,
    ) -> bool {
        // Consensus has the last word on what the kernel says, from the header
        // rebuilt from what the node will be told.
        let time = job.time();
        let mut header = work.header_with(extra_nonce, time);
        header.nonce = hit.nonce;
        header.version = hit.version;
        let hash = header.hash();
        if !job.target().is_met_by(&hash) {
            return self.count_false_hit(hit, &hash);
        }
        self.false_hits = 0;
        let solution = Solution {
            work: Arc::clone(work),
            extra_nonce,
            time,
            nonce: hit.nonce,
            version: hit.version,
            hash,
        };
        if let (Some(trace), Some(searched)) = (self.trace, searched) {
            trace.hit(searched, &solution);
        }
        self.queue(solution);
        true
    }

    fn queue(&self, solution: Solution) {
        let lost = if solution.is_block() {
            // Waits while thousands of blocks do; ends with the link's end of
            // the queue.
            let closed = self.solutions.blocks.blocking_send(solution);
            closed.err().map(|error| (error.0, "at_the_end"))
        } else {
            match self.solutions.shares.try_send(solution) {
                Ok(()) => None,
                Err(TrySendError::Full(solution)) => Some((solution, "queue_full")),
                Err(TrySendError::Closed(solution)) => Some((solution, "at_the_end")),
            }
        };
        if let Some((solution, why)) = lost {
            self.stats.count_lost();
            if let Some(trace) = self.trace {
                trace.answer(&solution.hash, why);
            }
        }
    }

    /// Counts a hit that is none; `false` after too many in a row, which end all
    /// workers.
    fn count_false_hit(&mut self, hit: Hit, hash: &BlockHash) -> bool {
        let kernel = self.kernel.name();
        self.false_hits += 1;
        let false_hits = self.false_hits;
        // Not a line for each: there may be thousands a second.
        if false_hits.is_power_of_two() {
            tracing::error!(
                kernel, %hash, nonce = hit.nonce, version = hit.version, false_hits,
                "the kernel took a hash for a solution that is none"
            );
        }
        if false_hits < FALSE_HITS_MAX {
            return true;
        }
        self.failure
            .send_replace(Some(WorkerError::WrongKernel { kernel, false_hits }));
        self.board.stop();
        false
    }
}
