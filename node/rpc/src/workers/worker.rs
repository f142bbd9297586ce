//! One worker: what it has proven, how fast it is, and how hard its shares should be.
//!
//! Rates are taken over the time in which the worker was connected, on a clock of the worker's
//! own. So an absence is neither a low hash rate nor a silence.

use std::collections::VecDeque;

use pithead_consensus::Address;

/// A worker gets new work once the wanted share target differs from its own by this factor.
pub(super) const RETARGET_FACTOR: f64 = 2.0;
/// Intervals without a share after which the target is certainly too hard: by chance alone, that
/// many pass once in e^6.
const SILENCE_INTERVALS: f64 = 6.0;
/// Seconds over which a hash rate is proven.
const RATE_WINDOW_SECS: u64 = 300;
/// Shortest span that a rate is computed over, seconds.
const RATE_SPAN_MIN_SECS: u64 = 10;
/// Shares remembered of a worker.
const SHARES_MAX: usize = 4_096;
/// Expected hashes of a new worker's first shares: 2^22, under a second of one core.
pub(super) const FIRST_SHARE_HASHES: u64 = 1 << 22;

/// Identifies a worker: miners with the same name and reward address are one worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// The name that the miner gave.
    pub name: String,
    pub reward_address: Address,
}

/// What the node knows of a worker.
#[derive(Debug, Clone, Default)]
pub struct Worker {
    /// Program and version.
    pub agent: String,
    /// IP address and port that the worker connected from last.
    pub remote: String,
    /// Open subscriptions.
    pub subscriptions: usize,
    /// Its blocks that became the tip.
    pub accepted_blocks: u64,
    /// Its valid blocks that were off the best chain.
    pub side_blocks: u64,
    /// Its shares; blocks that became the tip count among them.
    pub accepted_shares: u64,
    /// Solutions that came too late: for stale or forgotten work, and blocks off the best chain.
    pub stale: u64,
    /// Solutions that were wrong in any other way.
    pub rejected: u64,
    /// When it first subscribed, Unix seconds.
    pub connected_at: u64,
    /// When its last share came, Unix seconds; 0 if it had none.
    pub last_share_at: u64,
    /// Milliseconds from new work to the first hash on it, as the worker last reported.
    pub first_hash_ms: Option<u32>,
    pub telemetry: Option<WorkerTelemetry>,
    /// Expected hashes until a share, at the present share target.
    pub share_hashes: f64,
    clock: PresenceClock,
    /// When `share_hashes` changed last, by the worker's clock.
    retargeted: u64,
    /// The time of each share by the worker's clock, and the hashes that the share proves.
    shares: VecDeque<(u64, f64)>,
}

/// What a miner reports of itself; none of it is proven.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkerTelemetry {
    /// Name of the code that hashes, such as `avx2`.
    pub kernel: String,
    /// Mining threads.
    pub threads: u32,
    /// Hashes a second, as the miner counts them.
    pub hash_rate: f64,
    /// Milliseconds from new work to the first hash on it: median.
    pub first_hash_p50_ms: Option<f64>,
    /// The same at the 99th percentile.
    pub first_hash_p99_ms: Option<f64>,
    pub temperature_celsius: Option<f64>,
    pub power_watts: Option<f64>,
}

/// Counts the seconds that a worker has been connected.
#[derive(Debug, Clone, Copy, Default)]
struct PresenceClock {
    /// The count at `since`.
    before: u64,
    /// When the worker last came or left, Unix seconds.
    since: u64,
}

impl PresenceClock {
    /// The count at a time. While a worker is away the count goes on, so that what the worker
    /// has proven grows old. Once the worker is back, the absence no longer counts.
    fn at(&self, now: u64) -> u64 {
        self.before + now.saturating_sub(self.since)
    }

    fn came(&mut self, now: u64) {
        self.since = now;
    }

    fn left(&mut self, now: u64) {
        *self = Self {
            before: self.at(now),
            since: now,
        };
    }
}

impl Worker {
    pub(super) fn new(now: u64) -> Self {
        Self {
            connected_at: now,
            ..Self::default()
        }
    }

    pub(super) fn subscribed(&mut self, now: u64) {
        if self.subscriptions == 0 {
            self.clock.came(now);
        }
        self.subscriptions += 1;
    }

    pub(super) fn unsubscribed(&mut self, now: u64) {
        self.subscriptions = self.subscriptions.saturating_sub(1);
        if self.subscriptions == 0 {
            self.clock.left(now);
        }
    }

    /// Expected hashes of a share, if a share is to come every `interval_secs`.
    pub(super) fn wanted_share_hashes(&self, now: u64, interval_secs: f64) -> f64 {
        let present = if self.share_hashes > 0.0 {
            self.share_hashes
        } else {
            FIRST_SHARE_HASHES as f64
        };
        let last = self.shares.back().map(|(time, _)| *time);
        let quiet_since = self.retargeted.max(last.unwrap_or(0));
        let silent = self.clock.at(now).saturating_sub(quiet_since);
        // A span too short for a rate says nothing, however short the interval is.
        let too_long = (SILENCE_INTERVALS * interval_secs).max(RATE_SPAN_MIN_SECS as f64);
        let wanted = if silent as f64 >= too_long && self.share_hashes > 0.0 {
            // No share came where several were due: whatever came before counts no more.
            0.0
        } else if last.is_none() {
            present
        } else {
            self.hash_rate(now) * interval_secs
        };
        // At most a factor of four a step: one lucky share says little.
        wanted.clamp(present / 4.0, present * 4.0).max(1.0)
    }

    pub(super) fn retarget(&mut self, now: u64, share_hashes: f64) {
        if self.share_hashes != share_hashes {
            self.share_hashes = share_hashes;
            self.retargeted = self.clock.at(now);
        }
    }

    pub(super) fn credit_share(&mut self, now: u64, hashes: f64) {
        self.accepted_shares += 1;
        self.last_share_at = now;
        self.shares.push_back((self.clock.at(now), hashes));
        if self.shares.len() > SHARES_MAX {
            self.shares.pop_front();
        }
    }

    /// The part of its solutions that came too late, 0 to 1.
    #[must_use]
    pub fn stale_rate(&self) -> f64 {
        let all = self.accepted_shares + self.stale;
        self.stale as f64 / all.max(1) as f64
    }

    /// Hashes a second, as the shares of its last minutes prove them.
    #[must_use]
    pub fn hash_rate(&self, now: u64) -> f64 {
        let clock = self.clock.at(now);
        let mut from = clock.saturating_sub(RATE_WINDOW_SECS);
        if self.shares.len() >= SHARES_MAX
            && let Some((oldest, _)) = self.shares.front()
        {
            // Shares that come very often are remembered for less than the window.
            from = from.max(*oldest);
        }
        let span = (clock - from).max(RATE_SPAN_MIN_SECS);
        let work: f64 = self
            .shares
            .iter()
            .filter(|(time, _)| *time >= from)
            .map(|(_, hashes)| hashes)
            .sum();
        work / span as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _};

    const START: u64 = 1_000_000;
    const INTERVAL_SECS: f64 = 5.0;

    /// A worker of a steady hash rate that is told the right share target
    /// whenever a node would tell it.
    struct Steady {
        record: Worker,
        random: rand::rngs::StdRng,
        hash_rate: f64,
        /// Work until the next share, in expected shares.
        left: f64,
        now: u64,
        shares: usize,
        retargets: usize,
    }

    impl Steady {
        fn new(hash_rate: f64, seed: u64) -> Self {
            let mut record = Worker::new(START);
            record.subscribed(START);
            record.retarget(START, FIRST_SHARE_HASHES as f64);
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let left = -f64::ln(1.0 - random.random::<f64>());
            Self {
                record,
                random,
                hash_rate,
                left,
                now: START,
                shares: 0,
                retargets: 0,
            }
        }

        fn mine(&mut self, seconds: u64) {
            for _ in 0..seconds {
                self.now += 1;
                let mut hashes = self.hash_rate;
                loop {
                    let need = self.left * self.record.share_hashes;
                    if need > hashes {
                        self.left -= hashes / self.record.share_hashes;
                        break;
                    }
                    hashes -= need;
                    self.left = -f64::ln(1.0 - self.random.random::<f64>());
                    self.record.credit_share(self.now, self.record.share_hashes);
                    self.shares += 1;
                }
                let wanted = self.record.wanted_share_hashes(self.now, INTERVAL_SECS);
                let present = self.record.share_hashes;
                let fits = present / RETARGET_FACTOR..present * RETARGET_FACTOR;
                if self.now.is_multiple_of(5) && !fits.contains(&wanted) {
                    self.record.retarget(self.now, wanted);
                    self.retargets += 1;
                }
            }
        }

        fn away(&mut self, seconds: u64) {
            self.record.unsubscribed(self.now);
            self.now += seconds;
            self.record.subscribed(self.now);
        }

        /// What it proves, as part of what it does.
        fn proven(&self) -> f64 {
            self.record.hash_rate(self.now) / self.hash_rate
        }
    }

    #[test]
    fn shares_come_about_every_five_seconds_whatever_the_hash_rate() {
        for hash_rate in [1e3, 1e5, 1e7, 1e9, 1e12] {
            let (mut all, mut proven) = (0, 0.0);
            const RUNS: u64 = 40;
            for seed in 0..RUNS {
                let mut steady = Steady::new(hash_rate, seed);
                steady.mine(1_500);
                steady.shares = 0;
                steady.mine(300);
                // Sixty are due, but for a factor of two within which the target is
                // left alone, and for chance.
                let shares = steady.shares;
                assert!((25..=130).contains(&shares), "{hash_rate}: {shares} shares");
                let one = steady.proven();
                assert!((0.5..1.6).contains(&one), "{hash_rate}: proves {one}");
                all += shares;
                proven += one;
            }
            let (shares, proven) = (all as f64 / RUNS as f64, proven / RUNS as f64);
            // A fast worker comes to its target from below and rests within the factor:
            // on average, within its root.
            assert!((42.0..85.0).contains(&shares), "{hash_rate}: {shares}");
            // Some 2,800 shares: one in fifty either way by chance, five times that here.
            assert!((0.9..1.1).contains(&proven), "{hash_rate}: {proven}");
        }
    }

    #[test]
    fn an_absence_is_neither_a_low_hash_rate_nor_a_silence() {
        let (mut before, mut after) = (0.0, 0.0);
        const RUNS: u64 = 40;
        for seed in 0..RUNS {
            let mut steady = Steady::new(1e7, seed);
            steady.mine(900);
            before += steady.proven();
            let share_hashes = steady.record.share_hashes;
            steady.away(3_600);
            let wanted = steady.record.wanted_share_hashes(steady.now, INTERVAL_SECS);
            let fits = share_hashes / RETARGET_FACTOR..share_hashes * RETARGET_FACTOR;
            assert!(fits.contains(&wanted), "{share_hashes} becomes {wanted}");
            steady.retargets = 0;
            steady.mine(60);
            after += steady.proven();
            assert!(steady.retargets <= 2, "{}", steady.retargets);
        }
        let (before, after) = (before / RUNS as f64, after / RUNS as f64);
        assert!((0.9..1.1).contains(&before), "{before}");
        assert!((0.9..1.1).contains(&after), "{after}");
    }

    #[test]
    fn what_an_absent_worker_has_proven_grows_old() {
        let mut steady = Steady::new(1e7, 1);
        steady.mine(900);
        let present = steady.proven();
        steady.record.unsubscribed(steady.now);
        steady.now += 150;
        let half = steady.proven() / present;
        assert!((0.3..0.7).contains(&half), "{half}");
        steady.now += 151;
        assert_eq!(steady.proven(), 0.0);
    }

    #[test]
    fn a_slow_worker_gets_easier_shares_before_it_has_found_any() {
        let mut record = Worker::new(100);
        record.subscribed(100);
        record.retarget(100, FIRST_SHARE_HASHES as f64);
        let wanted = |record: &Worker, now| record.wanted_share_hashes(now, 5.0);
        assert_eq!(wanted(&record, 129), record.share_hashes);
        assert_eq!(wanted(&record, 130), record.share_hashes / 4.0);
        // And one that was fast, and is not any more.
        record.credit_share(131, record.share_hashes);
        assert_eq!(wanted(&record, 161), record.share_hashes / 4.0);
    }
}
