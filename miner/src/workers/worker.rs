//! One worker: takes work from the board, searches it batch by batch, and hands in what
//! consensus confirms.

use std::sync::Arc;

use pithead_consensus::BlockHash;
use thiserror::Error;
use tokio::sync::{mpsc::error::TrySendError, watch};

use super::batch::BatchSize;
use super::extra_nonces::ExtraNonces;
use super::queues::SolutionSender;
use crate::board::{WorkBoard, WorkerOrder};
use crate::clock::WorkerClock;
use crate::kernel::{Hit, Job, Kernel};
use crate::solution::Solution;
use crate::stats::Stats;
use crate::trace::{Trace, TracedJob};
use crate::versions::RolledVersions;
use crate::work::MiningWork;

/// A kernel that reports this many false hits in a row finds nothing any more.
const FALSE_HITS_MAX: u64 = 1_000;

/// Why the workers did not start, or why they ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorkerError {
    /// The system did not start the threads.
    #[error("can't start {threads} mining threads: {reason}")]
    Start {
        /// How many threads were asked for.
        threads: usize,
        /// The system's error.
        reason: String,
    },
    /// A worker panicked.
    #[error("a mining thread has failed; please report what it printed")]
    Panicked,
    /// The kernel reports solutions that consensus refuses.
    #[error(
        "kernel {kernel} reported {false_hits} wrong solutions in a row; choose another with \
         --kernel, and check the machine's memory and cooling"
    )]
    WrongKernel {
        /// The kernel's name.
        kernel: &'static str,
        /// How many false hits came in a row.
        false_hits: u64,
    },
}

/// The state of one worker thread.
pub(super) struct MiningWorker<'a> {
    pub(super) index: usize,
    pub(super) kernel: &'static dyn Kernel,
    pub(super) board: &'a WorkBoard,
    pub(super) stats: &'a Stats,
    pub(super) solutions: &'a SolutionSender,
    pub(super) clock: &'a WorkerClock,
    pub(super) failure: &'a watch::Sender<Option<WorkerError>>,
    pub(super) trace: Option<&'a Trace>,
    pub(super) batch: BatchSize,
    /// False hits since the last true one.
    pub(super) false_hits: u64,
    pub(super) extra_nonces: ExtraNonces,
}

/// The headers of one piece of work that have one extra nonce.
struct HeaderSearch<'a> {
    work: &'a Arc<MiningWork>,
    /// The board's generation with this work. Another generation ends the search.
    generation: u64,
    /// The miner's half of the extra nonce.
    extra_nonce: [u8; 4],
}

/// What a worker does after a batch or a hit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Search on.
    Continue,
    /// Ask the board for the next order.
    AskBoard,
}

impl MiningWorker<'_> {
    /// Follows the board's orders until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            match self.board.next_order() {
                WorkerOrder::Stop => return,
                WorkerOrder::Mine(work, generation) => self.mine(&work, generation),
            }
        }
    }

    /// Mines on one piece of work until the board changes.
    fn mine(&mut self, work: &Arc<MiningWork>, generation: u64) {
        let mut versions = Vec::new();
        let mut taken_up = false;
        loop {
            let search = HeaderSearch {
                work,
                generation,
                extra_nonce: self.extra_nonces.next(),
            };
            let time = work.time_at(self.clock.now());
            let header = work.header_with(search.extra_nonce, time);
            let group = self.kernel.versions();
            let mut rolled = RolledVersions::new(header.version, work.version_mask, group);
            let mut job = Job::with_versions(header, work.share_target, &[]);
            while rolled.next_group(&mut versions) {
                job.set_versions(&versions);
                if !std::mem::replace(&mut taken_up, true) {
                    work.note_taken_up(self.clock.now());
                }
                if self.mine_job(&search, &mut job) == Next::AskBoard {
                    return;
                }
            }
        }
    }

    /// Tries every nonce of a job, unless the board changes before the last one.
    fn mine_job(&mut self, search: &HeaderSearch<'_>, job: &mut Job) -> Next {
        let versions = job.versions().len();
        let mut hits = Vec::new();
        let mut next_nonce = Some(0u32);
        let mut now = self.clock.now();
        let mut traced = self.trace_job(search, job);
        while let Some(start) = next_nonce {
            if self.board.generation() != search.generation {
                return Next::AskBoard;
            }
            let time = search.work.time_at(now);
            if job.time() != time {
                job.set_time(time);
                traced = self.trace_job(search, job);
            }
            // The last batch ends at u32::MAX. It may leave out the very last nonce; one
            // more batch then has that nonce alone.
            let count = self.batch.nonces(versions).min((u32::MAX - start).max(1));
            self.kernel.scan(job, start, count, &mut hits);
            if let (Some(trace), Some(traced)) = (self.trace, &traced) {
                trace.range(*traced, start, count);
            }
            let hashes = u64::from(count) * versions as u64;
            if let Some(counter) = self.stats.hash_counter(self.index) {
                counter.add(hashes);
            }
            for hit in hits.drain(..) {
                if self.check_hit(search, job, hit, traced) == Next::AskBoard {
                    return Next::AskBoard;
                }
            }
            let end = self.clock.now();
            self.batch
                .measured(hashes, end.saturating_duration_since(now));
            now = end;
            next_nonce = start.checked_add(count);
        }
        Next::Continue
    }

    /// Records a job, if there is a record.
    fn trace_job(&self, search: &HeaderSearch<'_>, job: &Job) -> Option<TracedJob> {
        self.trace.map(|trace| {
            let header = search.work.header_with(search.extra_nonce, job.time());
            let versions: Vec<u32> = job.versions().collect();
            trace.job(&header, &versions, &search.work.share_target)
        })
    }

    /// Checks a hit of the kernel and queues the solution, if it is one.
    fn check_hit(
        &mut self,
        search: &HeaderSearch<'_>,
        job: &Job,
        hit: Hit,
        traced: Option<TracedJob>,
    ) -> Next {
        // Consensus decides. The header is rebuilt from the values that the node will
        // get, not taken from the job.
        let time = job.time();
        let mut header = search.work.header_with(search.extra_nonce, time);
        header.nonce = hit.nonce;
        header.version = hit.version;
        let hash = header.hash();
        if !job.target().is_met_by(&hash) {
            return self.count_false_hit(hit, &hash);
        }
        self.false_hits = 0;
        let solution = Solution {
            work: Arc::clone(search.work),
            extra_nonce: search.extra_nonce,
            time,
            nonce: hit.nonce,
            version: hit.version,
            hash,
        };
        if let (Some(trace), Some(traced)) = (self.trace, traced) {
            trace.hit(traced, &solution);
        }
        self.queue(solution);
        Next::Continue
    }

    /// Puts a solution into its queue. A share is dropped if the queue is full, a block if
    /// another block was found on the same tip.
    fn queue(&self, solution: Solution) {
        let lost = if solution.is_block() {
            if !self.board.claim_tip(&solution.work) {
                self.stats.count_spare();
                if let Some(trace) = self.trace {
                    trace.answer(&solution.hash, "spare");
                }
                return;
            }
            // The call waits while the queue is full. It fails when the link has closed
            // its end.
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

    /// Counts a hit that consensus refuses. Too many in a row end all workers.
    fn count_false_hit(&mut self, hit: Hit, hash: &BlockHash) -> Next {
        let kernel = self.kernel.name();
        self.false_hits += 1;
        let false_hits = self.false_hits;
        // There may be thousands a second, so only powers of two are logged.
        if false_hits.is_power_of_two() {
            tracing::error!(
                kernel, %hash, nonce = hit.nonce, version = hit.version, false_hits,
                "the kernel took a hash for a solution that is none"
            );
        }
        if false_hits < FALSE_HITS_MAX {
            return Next::Continue;
        }
        self.failure
            .send_replace(Some(WorkerError::WrongKernel { kernel, false_hits }));
        self.board.stop();
        Next::AskBoard
    }
}
