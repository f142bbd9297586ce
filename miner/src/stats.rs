//! Counts what this run has done: workers and the link count, the live line, the
//! telemetry and the summary read. This file prints nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pithead_api::v1::SubmitOutcome;
use serde::Serialize;

use crate::outcome::{self, AnswerKind, OUTCOMES};

/// The latencies of this many pieces of work are kept, the newest ones.
const LATENCIES_MAX: usize = 1_000;

/// One worker's count of hashes. Each counter fills a cache line of its own, so that
/// workers don't slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct HashCounter(AtomicU64);

impl HashCounter {
    /// Adds the hashes of a batch. Only the counter's own worker calls this.
    pub fn add(&self, hashes: u64) {
        self.0.fetch_add(hashes, Ordering::Relaxed);
    }
}

/// All counts of one run.
#[derive(Debug)]
pub struct Stats {
    started: Instant,
    hashes: Vec<HashCounter>,
    outcomes: [AtomicU64; OUTCOMES.len()],
    failed: AtomicU64,
    lost: AtomicU64,
    spare: AtomicU64,
    work_items: AtomicU64,
    connections: AtomicU64,
    /// Microseconds from the arrival of work to the first hash on it.
    first_hash_us: LatencyWindow,
    /// The same until every worker hashes on it.
    last_worker_us: LatencyWindow,
}

/// The latencies of the newest pieces of work, in microseconds. Only the link writes,
/// so the lock is never contended for long.
type LatencyWindow = Mutex<VecDeque<u64>>;

/// How long the miner took to start on new work, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WorkLatencies {
    /// How many pieces of work were measured; at most the newest 1,000.
    pub work_items: usize,
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The maximum.
    pub max: f64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Length of the run so far.
    pub seconds: f64,
    /// Hashes that all workers have tried.
    pub hashes: u64,
    /// Hashes a second, averaged over the run.
    pub hash_rate: f64,
    /// Blocks that became the node's tip.
    pub accepted_blocks: u64,
    /// Shares that the node accepted. Blocks are not among them.
    pub accepted_shares: u64,
    /// Solutions that were valid but came too late.
    pub stale: u64,
    /// Solutions that the node found wrong or refused to judge.
    pub rejected: u64,
    /// The count of each answer that came, by its name.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Calls that ended in an error instead of an answer.
    pub failed: u64,
    /// Solutions that never got an answer, because the queue was full or the node that
    /// knew their work was gone.
    pub lost: u64,
    /// Blocks that were not handed in, because another was found on the same tip.
    pub spare: u64,
    /// Pieces of work that nodes sent.
    pub work_items: u64,
    /// How many times a node gave work after connecting.
    pub connections: u64,
    /// Milliseconds from the arrival of work to the first hash on it, over the newest
    /// finished pieces of work.
    pub first_hash_ms: Option<WorkLatencies>,
    /// The same until every worker hashes on it.
    pub last_worker_ms: Option<WorkLatencies>,
}

impl Stats {
    /// Starts a run with this number of workers; all counts are 0.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            started: Instant::now(),
            hashes: (0..workers).map(|_| HashCounter::default()).collect(),
            outcomes: Default::default(),
            failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            spare: AtomicU64::new(0),
            work_items: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            first_hash_us: Mutex::default(),
            last_worker_us: Mutex::default(),
        }
    }

    /// The counter of one worker; `None` if there is no worker with this index.
    #[must_use]
    pub fn hash_counter(&self, worker: usize) -> Option<&HashCounter> {
        self.hashes.get(worker)
    }

    /// The hashes of all workers together.
    #[must_use]
    pub fn hashes(&self) -> u64 {
        self.hashes
            .iter()
            .map(|counter| counter.0.load(Ordering::Relaxed))
            .sum()
    }

    /// Counts an answer of the node.
    pub fn count_outcome(&self, outcome: SubmitOutcome) {
        let index = usize::try_from(outcome as i32).unwrap_or(0);
        if let Some(counter) = self.outcomes.get(index) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call that ended in an error.
    pub fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a solution that gets no answer.
    pub fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a block that is not handed in, because its tip has one.
    pub fn count_spare(&self) {
        self.spare.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that gave work.
    pub fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.hashes.len()
    }

    /// Counts a new piece of work and stores the latencies of the one before it:
    /// microseconds from its arrival to the first hash, and until every worker hashed.
    pub fn count_work(&self, first_hash_us: Option<u64>, last_worker_us: Option<u64>) {
        self.work_items.fetch_add(1, Ordering::Relaxed);
        for (times, us) in [
            (&self.first_hash_us, first_hash_us),
            (&self.last_worker_us, last_worker_us),
        ] {
            let Some(us) = us else { continue };
            let mut times = lock(times);
            if times.len() >= LATENCIES_MAX {
                times.pop_front();
            }
            times.push_back(us);
        }
    }

    /// WorkLatencies to the first hash; `None` before the first measurement.
    #[must_use]
    pub fn first_hash_ms(&self) -> Option<WorkLatencies> {
        WorkLatencies::of(&self.first_hash_us)
    }

    /// WorkLatencies until every worker hashed; `None` before the first measurement.
    #[must_use]
    pub fn last_worker_ms(&self) -> Option<WorkLatencies> {
        WorkLatencies::of(&self.last_worker_us)
    }

    /// How many times the node gave this answer.
    #[must_use]
    pub fn outcome(&self, outcome: SubmitOutcome) -> u64 {
        usize::try_from(outcome as i32)
            .ok()
            .and_then(|index| self.outcomes.get(index))
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// How many times the node gave an answer of this kind.
    #[must_use]
    pub fn kind(&self, kind: AnswerKind) -> u64 {
        OUTCOMES
            .into_iter()
            .filter(|outcome| outcome::kind(*outcome) == kind)
            .map(|outcome| self.outcome(outcome))
            .sum()
    }

    /// All counts at this moment.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let seconds = self.started.elapsed().as_secs_f64();
        let hashes = self.hashes();
        Summary {
            seconds,
            hashes,
            hash_rate: hashes as f64 / seconds.max(1e-9),
            accepted_blocks: self.kind(AnswerKind::Block),
            accepted_shares: self.kind(AnswerKind::Share),
            stale: self.kind(AnswerKind::Stale),
            rejected: self.kind(AnswerKind::Rejected),
            outcomes: OUTCOMES
                .into_iter()
                .map(|outcome| (outcome::name(outcome), self.outcome(outcome)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            failed: self.failed.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            spare: self.spare.load(Ordering::Relaxed),
            work_items: self.work_items.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            first_hash_ms: self.first_hash_ms(),
            last_worker_ms: self.last_worker_ms(),
        }
    }
}

impl WorkLatencies {
    fn of(times: &LatencyWindow) -> Option<Self> {
        let mut times: Vec<u64> = lock(times).iter().copied().collect();
        times.sort_unstable();
        // Nearest rank: the index of the smallest value that `percent` percent of the
        // values don't exceed.
        let rank = |percent: usize| (times.len() * percent).div_ceil(100).saturating_sub(1);
        let ms = |rank: usize| times.get(rank).map(|us| *us as f64 / 1_000.0);
        Some(Self {
            work_items: times.len(),
            p50: ms(rank(50))?,
            p99: ms(rank(99))?,
            max: ms(times.len().saturating_sub(1))?,
        })
    }
}

fn lock(times: &LatencyWindow) -> MutexGuard<'_, VecDeque<u64>> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hash rate over a sliding window of time.
#[derive(Debug)]
pub struct RateWindow {
    length: Duration,
    samples: VecDeque<(Instant, u64)>,
}

impl RateWindow {
    /// A window of this length. It starts at `now`, when `hashes` hashes were done.
    #[must_use]
    pub fn new(length: Duration, now: Instant, hashes: u64) -> Self {
        Self {
            length,
            samples: VecDeque::from([(now, hashes)]),
        }
    }

    /// Adds a reading of the counter and returns the rate over the window, in hashes a
    /// second.
    pub fn rate(&mut self, now: Instant, hashes: u64) -> f64 {
        // The newest sample at or before the window's start stays as the base.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.length)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, hashes));
        self.samples.front().map_or(0.0, |(at, base)| {
            let seconds = now.saturating_duration_since(*at).as_secs_f64();
            if seconds > 0.0 {
                hashes.saturating_sub(*base) as f64 / seconds
            } else {
                0.0
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_forgets_what_is_older_than_the_window() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = RateWindow::new(Duration::from_secs(10), start, 0);
        assert_eq!(window.rate(start, 0), 0.0);
        // 100 hashes a second for 10 s, then no hash for 10 s.
        for second in 1..=10 {
            assert_eq!(window.rate(at(second), second * 100), 100.0);
        }
        assert_eq!(window.rate(at(15), 1_000), 50.0);
        assert_eq!(window.rate(at(20), 1_000), 0.0);
        assert!(window.samples.len() <= 4, "old samples are dropped");
    }

    #[test]
    fn every_answer_is_counted_once_and_under_its_name() {
        let stats = Stats::new(1);
        for (times, outcome) in OUTCOMES.into_iter().enumerate() {
            for _ in 0..=times {
                stats.count_outcome(outcome);
            }
        }
        let summary = stats.summary();
        assert_eq!(summary.outcomes.len(), OUTCOMES.len());
        for (times, outcome) in OUTCOMES.into_iter().enumerate() {
            assert_eq!(summary.outcomes[outcome::name(outcome)], times as u64 + 1);
        }
        assert_eq!(summary.accepted_blocks, 2);
        assert_eq!(summary.accepted_shares, 4);
        assert_eq!(summary.stale, 3 + 5 + 6);
        assert_eq!(summary.rejected, 1 + 7 + 8 + 9 + 10 + 11);
    }
}
