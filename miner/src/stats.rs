//! What this run has done so far: counted with atomics, read by the live line
//! and by the summary at the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pithead_api::v1::SubmitOutcome;
use serde::Serialize;

use crate::outcome::{self, Kind, OUTCOMES};

/// Pieces of work whose first hash is remembered.
const FIRST_HASHES_MAX: usize = 1_000;

/// One worker's hashes, on a cache line of its own so that workers don't slow
/// each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct HashCounter(AtomicU64);

impl HashCounter {
    /// Adds the hashes of a batch; only the worker whose counter it is may.
    pub fn add(&self, hashes: u64) {
        self.0.fetch_add(hashes, Ordering::Relaxed);
    }
}

/// All counts of a run.
#[derive(Debug)]
pub struct Stats {
    started: Instant,
    hashes: Vec<HashCounter>,
    outcomes: [AtomicU64; OUTCOMES.len()],
    failed: AtomicU64,
    lost: AtomicU64,
    work_items: AtomicU64,
    connections: AtomicU64,
    /// Microseconds from new work to the first hash on it, for the last pieces.
    first_hash_us: TakeUpTimes,
    /// The same until every worker is on it.
    last_worker_us: TakeUpTimes,
}

/// Only the link writes, so nobody waits.
type TakeUpTimes = Mutex<VecDeque<u64>>;

/// Milliseconds from new work until it is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TakeUp {
    /// Pieces of work that this is of: the last ones.
    pub work_items: usize,
    /// Median.
    pub p50: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Length of the run.
    pub seconds: f64,
    /// Hashes tried.
    pub hashes: u64,
    /// Average hashes a second.
    pub hash_rate: f64,
    /// Blocks that became the tip.
    pub accepted_blocks: u64,
    /// Shares accepted; blocks are not among them.
    pub accepted_shares: u64,
    /// Right, but too late.
    pub stale: u64,
    /// Wrong, or refused.
    pub rejected: u64,
    /// Answers by name, those that came.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Calls that ended in an error of their own instead of an answer.
    pub failed: u64,
    /// Solutions that never got an answer: the queue was full, or the node that
    /// knew their work was gone.
    pub lost: u64,
    /// Pieces of work received.
    pub work_items: u64,
    /// Times that a node gave work after connecting.
    pub connections: u64,
    /// Milliseconds from work's arrival to the first hash on it, over the last
    /// finished pieces of work.
    pub first_hash_ms: Option<TakeUp>,
    /// The same until every worker is on it.
    pub last_worker_ms: Option<TakeUp>,
}

impl Stats {
    /// Starts counting.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            started: Instant::now(),
            hashes: (0..workers).map(|_| HashCounter::default()).collect(),
            outcomes: Default::default(),
            failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            work_items: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            first_hash_us: Mutex::default(),
            last_worker_us: Mutex::default(),
        }
    }

    /// A worker's own counter.
    #[must_use]
    pub fn hash_counter(&self, worker: usize) -> Option<&HashCounter> {
        self.hashes.get(worker)
    }

    /// Hashes of all workers.
    #[must_use]
    pub fn hashes(&self) -> u64 {
        self.hashes
            .iter()
            .map(|counter| counter.0.load(Ordering::Relaxed))
            .sum()
    }

    /// Counts an answer.
    pub fn count_outcome(&self, outcome: SubmitOutcome) {
        let index = usize::try_from(outcome as i32).unwrap_or(0);
        if let Some(counter) = self.outcomes.get(index) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call that failed.
    pub fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a solution that gets no answer.
    pub fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
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

    /// Counts a piece of work, and keeps how fast the one before it was taken up,
    /// in microseconds: by the first worker and by the last.
    pub fn count_work(&self, first_hash_us: Option<u64>, last_worker_us: Option<u64>) {
        self.work_items.fetch_add(1, Ordering::Relaxed);
        for (times, us) in [
            (&self.first_hash_us, first_hash_us),
            (&self.last_worker_us, last_worker_us),
        ] {
            let Some(us) = us else { continue };
            let mut times = lock(times);
            if times.len() >= FIRST_HASHES_MAX {
                times.pop_front();
            }
            times.push_back(us);
        }
    }

    /// How fast the last pieces of work had their first hash, if any had.
    #[must_use]
    pub fn first_hash_ms(&self) -> Option<TakeUp> {
        TakeUp::of(&self.first_hash_us)
    }

    /// How fast every worker was on the last pieces of work.
    #[must_use]
    pub fn last_worker_ms(&self) -> Option<TakeUp> {
        TakeUp::of(&self.last_worker_us)
    }

    /// How often the node gave this answer.
    #[must_use]
    pub fn outcome(&self, outcome: SubmitOutcome) -> u64 {
        usize::try_from(outcome as i32)
            .ok()
            .and_then(|index| self.outcomes.get(index))
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// How often the node gave an answer of this kind.
    #[must_use]
    pub fn kind(&self, kind: Kind) -> u64 {
        OUTCOMES
            .into_iter()
            .filter(|outcome| outcome::kind(*outcome) == kind)
            .map(|outcome| self.outcome(outcome))
            .sum()
    }

    /// Everything, now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let seconds = self.started.elapsed().as_secs_f64();
        let hashes = self.hashes();
        Summary {
            seconds,
            hashes,
            hash_rate: hashes as f64 / seconds.max(1e-9),
            accepted_blocks: self.kind(Kind::Block),
            accepted_shares: self.kind(Kind::Share),
            stale: self.kind(Kind::Stale),
            rejected: self.kind(Kind::Rejected),
            outcomes: OUTCOMES
                .into_iter()
                .map(|outcome| (outcome::name(outcome), self.outcome(outcome)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            failed: self.failed.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            work_items: self.work_items.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            first_hash_ms: self.first_hash_ms(),
            last_worker_ms: self.last_worker_ms(),
        }
    }
}

impl TakeUp {
    fn of(times: &TakeUpTimes) -> Option<Self> {
        let mut times: Vec<u64> = lock(times).iter().copied().collect();
        times.sort_unstable();
        // The nearest rank: so many of a hundred are at most this.
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

fn lock(times: &TakeUpTimes) -> MutexGuard<'_, VecDeque<u64>> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hash rate over the last seconds.
#[derive(Debug)]
pub struct RateWindow {
    length: Duration,
    samples: VecDeque<(Instant, u64)>,
}

impl RateWindow {
    /// A window of this length that starts at `now` with `hashes` done.
    #[must_use]
    pub fn new(length: Duration, now: Instant, hashes: u64) -> Self {
        Self {
            length,
            samples: VecDeque::from([(now, hashes)]),
        }
    }

    /// Adds a reading and gives the rate over the window, in hashes a second.
    pub fn rate(&mut self, now: Instant, hashes: u64) -> f64 {
        // One sample at or before the window's start stays, as its base.
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
        // 100 a second for 10 s, then nothing for 10 s.
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
