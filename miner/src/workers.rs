//! The threads that hash.
//!
//! Every worker takes its jobs from the [`WorkBoard`] and searches a part of
//! the extra nonces that is its own, so no two of them ever try one header. Under
//! each extra nonce it tries every nonce with a group of versions, then with the
//! next group: 2^48 headers before the Merkle root changes.
//! *Invariant:* a worker never waits for the node. It looks at the board
//! between batches of about half a millisecond, and hands solutions to queues
//! that it does not wait for either.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pithead_consensus::BlockHash;
use rayon::ThreadPoolBuilder;
use thiserror::Error;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::board::{Order, WorkBoard};
use crate::kernel::{Hit, Job, Kernel};
use crate::placement::{self, Processors};
use crate::stats::Stats;
use crate::trace::{Searched, Trace};
use crate::versions::RolledVersions;
use crate::work::Work;

/// How long a batch should take: the greatest part of the time between new work
/// and its first hash.
const BATCH_TIME: Duration = Duration::from_micros(500);
/// Batches never get smaller: below, looking at the board would cost more than
/// a hundredth of the hashing.
const BATCH_MIN: u32 = 256;
/// Batches are whole multiples of so many nonces, which is a multiple of what
/// any kernel takes at once: none wastes a part of its width.
const BATCH_STEP: u32 = 192;
/// Nor larger, whatever the clock says.
const BATCH_MAX: u32 = BATCH_STEP << 12;
/// Niceness unless told otherwise.
pub const DEFAULT_NICE: i32 = 10;
/// Solutions that wait for the node, blocks and shares by themselves.
const BLOCK_QUEUE: usize = 64;
const SHARE_QUEUE: usize = 256;
/// A header whose hash meets the share target.
#[derive(Debug)]
pub struct Solution {
    /// What it solves.
    pub work: Arc<Work>,
    /// The miner's part of the extra nonce.
    pub extra_nonce: [u8; 4],
    /// The header's time.
    pub time: u32,
    /// The nonce.
    pub nonce: u32,
    /// The header's version.
    pub version: u32,
    /// The header's hash.
    pub hash: BlockHash,
}

impl Solution {
    /// Whether it is a block, not only a share.
    #[must_use]
    pub fn is_block(&self) -> bool {
        self.work.block_target.is_met_by(&self.hash)
    }
}

/// The workers' end of the queues.
#[derive(Debug, Clone)]
pub struct SolutionSender {
    blocks: mpsc::Sender<Solution>,
    shares: mpsc::Sender<Solution>,
}

/// The link's end of the queues.
#[derive(Debug)]
pub struct SolutionQueues {
    /// Blocks; they go first.
    pub blocks: mpsc::Receiver<Solution>,
    /// Shares.
    pub shares: mpsc::Receiver<Solution>,
}

/// Both ends of the queues.
#[must_use]
pub fn solution_queues() -> (SolutionSender, SolutionQueues) {
    let (blocks, block_queue) = mpsc::channel(BLOCK_QUEUE);
    let (shares, share_queue) = mpsc::channel(SHARE_QUEUE);
    (
        SolutionSender { blocks, shares },
        SolutionQueues {
            blocks: block_queue,
            shares: share_queue,
        },
    )
}

/// Why there are no workers.
#[derive(Debug, Error)]
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
            trace: None,
        }
    }
}

/// The running workers.
#[derive(Debug)]
pub struct WorkerPool {
    board: Arc<WorkBoard>,
    driver: JoinHandle<()>,
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
        // The broadcast lasts as long as the workers do; it needs a thread that
        // may wait for them.
        let driver = std::thread::Builder::new()
            .name("miner-pool".to_owned())
            .spawn(move || {
                pool.broadcast(|context| {
                    let worker = Worker {
                        index: context.index(),
                        kernel,
                        board: &workers_board,
                        stats: &stats,
                        solutions: &solutions,
                        trace: trace.as_deref(),
                        batch: Batch::default(),
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
        Ok(Self { board, driver })
    }

    /// Ends the workers and waits for them: a batch at most.
    ///
    /// # Errors
    /// [`WorkerError::Panicked`] if one of them had failed.
    pub fn stop(self) -> Result<(), WorkerError> {
        self.board.stop();
        self.driver.join().map_err(|_| WorkerError::Panicked)
    }
}

struct Worker<'a> {
    index: usize,
    kernel: &'static dyn Kernel,
    board: &'a WorkBoard,
    stats: &'a Stats,
    solutions: &'a SolutionSender,
    trace: Option<&'a Trace>,
    batch: Batch,
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
        loop {
            let extra_nonce = self.extra_nonces.next();
            let time = work.time_at(Instant::now());
            let header = work.header_with(extra_nonce, time);
            let group = self.kernel.versions();
            let mut rolled = RolledVersions::new(header.version, work.version_mask, group);
            let mut job = Job::with_versions(header, work.share_target, &[]);
            while rolled.next_group(&mut versions) {
                job.set_versions(&versions);
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
        let mut now = Instant::now();
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
            work.note_first_hash(now);
            // The last batch ends at u32::MAX and may be one short of what is
            // left; the next one then has a single nonce.
            let count = self.batch.nonces(versions).min((u32::MAX - start).max(1));
            self.kernel.scan(job, start, count, &mut hits);
            if let (Some(trace), Some(searched)) = (self.trace, &searched) {
                trace.range(searched, start, count);
            }
            let hashes = u64::from(count) * versions as u64;
            if let Some(counter) = self.stats.hash_counter(self.index) {
                counter.add(hashes);
            }
            for hit in hits.drain(..) {
                self.hand_in(work, job, extra_nonce, hit);
            }
            let end = Instant::now();
            self.batch.measured(hashes, end - now);
            now = end;
            next_nonce = start.checked_add(count);
        }
        true
    }

    /// What a job searches, if that goes on record.
    fn searched(&self, work: &Work, extra_nonce: [u8; 4], job: &Job) -> Option<Searched> {
        self.trace.map(|_| {
            let header = work.header_with(extra_nonce, job.time());
            Searched::of(&header, &job.versions().collect::<Vec<u32>>())
        })
    }

    fn hand_in(&self, work: &Arc<Work>, job: &Job, extra_nonce: [u8; 4], hit: Hit) {
        // Consensus has the last word on what the kernel says, from the header
        // rebuilt from what the node will be told.
        let time = job.time();
        let mut header = work.header_with(extra_nonce, time);
        header.nonce = hit.nonce;
        header.version = hit.version;
        let hash = header.hash();
        if !job.target().is_met_by(&hash) {
            tracing::error!(
                kernel = self.kernel.name(),
                %hash,
                nonce = hit.nonce,
                "the kernel took a hash for a solution that is none"
            );
            return;
        }
        let solution = Solution {
            work: Arc::clone(work),
            extra_nonce,
            time,
            nonce: hit.nonce,
            version: hit.version,
            hash,
        };
        if let Some(trace) = self.trace {
            trace.hit(&solution.hash, solution.is_block());
        }
        let queue = if solution.is_block() {
            &self.solutions.blocks
        } else {
            &self.solutions.shares
        };
        match queue.try_send(solution) {
            Ok(()) => {}
            Err(TrySendError::Full(solution)) => {
                self.stats.count_lost();
                if let Some(trace) = self.trace {
                    trace.answer(&solution.hash, "queue_full");
                }
                tracing::debug!(hash = %solution.hash, "queue of solutions full: one lost");
            }
            // The end of the run.
            Err(TrySendError::Closed(solution)) => {
                self.stats.count_lost();
                if let Some(trace) = self.trace {
                    trace.answer(&solution.hash, "at_the_end");
                }
            }
        }
    }
}

/// A batch size that follows the machine's speed.
#[derive(Debug)]
struct Batch {
    /// Hashes a second, smoothed over a few batches.
    rate: f64,
}

impl Default for Batch {
    fn default() -> Self {
        // Half a million a second: a slow core. Better too small at first.
        Self { rate: 5e5 }
    }
}

impl Batch {
    /// Hashes of the next batch.
    fn hashes(&self) -> u32 {
        // Saturates, as float conversions do.
        ((self.rate * BATCH_TIME.as_secs_f64()) as u32).clamp(BATCH_MIN, BATCH_MAX)
    }

    /// Nonces of the next batch, each of which is tried with every version.
    fn nonces(&self, versions: usize) -> u32 {
        let versions = u32::try_from(versions).unwrap_or(u32::MAX).max(1);
        (self.hashes() / versions)
            .max(1)
            .next_multiple_of(BATCH_STEP)
    }

    fn measured(&mut self, hashes: u64, took: Duration) {
        let rate = hashes as f64 / took.as_secs_f64().max(1e-9);
        // An interrupted thread looks slow once; that must not weigh much.
        self.rate += (rate - self.rate) / 8.0;
    }
}

/// A worker's part of the 2^32 extra nonces. It goes on from one piece of work
/// to the next: work that comes twice under two names is not searched twice.
#[derive(Debug)]
struct ExtraNonces {
    first: u32,
    count: u32,
    used: u32,
}

impl ExtraNonces {
    /// The part of one of so many workers, to be searched from its `start` on (modulo
    /// its size).
    fn of_worker(index: usize, workers: usize, start: u32) -> Self {
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        let index = u32::try_from(index).unwrap_or(0) % workers;
        let count = u32::MAX / workers;
        Self {
            first: index * count,
            count,
            used: start % count,
        }
    }

    fn next(&mut self) -> [u8; 4] {
        let extra_nonce = self.first + self.used;
        self.used = (self.used + 1) % self.count;
        extra_nonce.to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn extra_nonces_of_workers_never_meet() {
        for workers in [1usize, 2, 3, 7, 64, 1_000] {
            let parts: Vec<_> = (0..workers)
                .map(|index| ExtraNonces::of_worker(index, workers, 0xffff_fff0))
                .collect();
            for part in &parts {
                assert!(part.used < part.count);
            }
            for pair in parts.windows(2) {
                assert!(pair[0].first + (pair[0].count - 1) < pair[1].first);
            }
            let last = &parts[workers - 1];
            assert!(last.first.checked_add(last.count - 1).is_some());
        }
    }

    #[test]
    fn extra_nonces_start_over_within_their_part() {
        let mut part = ExtraNonces {
            first: 10,
            count: 3,
            used: 0,
        };
        let seen: Vec<u32> = (0..5).map(|_| u32::from_le_bytes(part.next())).collect();
        assert_eq!(seen, [10, 11, 12, 10, 11]);
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 3);
    }

    proptest! {
        #[test]
        fn batches_aim_at_half_a_millisecond(rate in 2e6f64..1e9) {
            let mut batch = Batch::default();
            for _ in 0..100 {
                let size = batch.hashes();
                batch.measured(size.into(), Duration::from_secs_f64(f64::from(size) / rate));
            }
            let seconds = f64::from(batch.hashes()) / rate;
            prop_assert!((0.0004..0.0006).contains(&seconds), "{seconds}");
        }

        #[test]
        fn batches_stay_within_bounds(
            counts in prop::collection::vec((any::<u64>(), any::<u64>()), 1..50),
            versions in 0usize..100_000,
        ) {
            let mut batch = Batch::default();
            for (count, nanos) in counts {
                batch.measured(count, Duration::from_nanos(nanos));
                prop_assert!((BATCH_MIN..=BATCH_MAX).contains(&batch.hashes()));
                let nonces = batch.nonces(versions);
                prop_assert!(nonces.is_multiple_of(BATCH_STEP) && nonces <= BATCH_MAX);
                prop_assert!(u64::from(nonces) * versions as u64 >= u64::from(BATCH_MIN).min(versions as u64));
            }
        }
    }
}
