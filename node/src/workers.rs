//! The work that was handed out to miners, and what each miner has proven.
//!
//! A plain book without clock or sockets: times come in as arguments. It hands
//! every subscription an extra-nonce prefix of its own, so that no two search
//! the same space, and judges solutions up to the point where a block has to
//! go to the core.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use pithead_consensus::block::{BASE_VERSION, VERSION_FIXED_MASK};
use pithead_consensus::{Address, Block, BlockCommitment, BlockHash, Target, Work};

use crate::template::BlockTemplate;

/// Pieces of work kept per subscription: solutions for older ones are unknown.
const WORK_PER_SUBSCRIPTION_MAX: usize = 8;
/// Pieces of work kept in all.
const WORK_MAX: usize = 20_000;
/// Workers remembered, connected or not.
const WORKERS_MAX: usize = 2_000;
/// Solutions remembered per piece of work, to tell duplicates.
const SOLUTIONS_MAX: usize = 20_000;
/// Seconds between shares that the share target aims at.
const SHARE_INTERVAL_SECS: f64 = 5.0;
/// Work is handed out anew if the share target is wrong by this factor.
const RETARGET_FACTOR: f64 = 2.0;
/// So many intervals without a share are too many to be chance: one in e^6.
const SILENCE_INTERVALS: f64 = 6.0;
/// Seconds over which a hash rate is proven.
const RATE_WINDOW_SECS: u64 = 300;
/// Shortest span that a rate is computed over, seconds.
const RATE_SPAN_MIN_SECS: u64 = 10;
/// Shares remembered per worker.
const SHARES_MAX: usize = 4_096;
/// Expected hashes of a new worker's first shares: 2^22, under a second of one core.
const FIRST_SHARE_HASHES: u64 = 1 << 22;

/// Who mines: a name and an address make a worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// The name that it gave.
    pub name: String,
    /// Who is paid.
    pub reward_address: Address,
}

/// A worker's record.
#[derive(Debug, Clone, Default)]
pub struct WorkerRecord {
    /// Program and version.
    pub agent: String,
    /// Where it connects from.
    pub remote: String,
    /// Subscriptions now.
    pub subscriptions: usize,
    /// Blocks of it that became the tip.
    pub accepted_blocks: u64,
    /// Valid blocks of it that came second.
    pub side_blocks: u64,
    /// Its shares, those of blocks among them.
    pub accepted_shares: u64,
    /// Solutions for stale or unknown work.
    pub stale: u64,
    /// Solutions wrong in any other way.
    pub rejected: u64,
    /// When it first came, Unix seconds.
    pub connected_at: u64,
    /// When its last share came, Unix seconds; 0: never.
    pub last_share_at: u64,
    /// Milliseconds from new work to its first hash, the last that it told.
    pub first_hash_ms: Option<u32>,
    /// What it says of itself, if it does.
    pub telemetry: Option<Telemetry>,
    /// Work of its present shares.
    pub share_hashes: f64,
    /// When that changed last, Unix seconds.
    retargeted_at: u64,
    shares: VecDeque<(u64, f64)>,
}

/// What a miner says of itself; nothing of it is proven.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Telemetry {
    /// Name of the code that hashes.
    pub kernel: String,
    /// Mining threads.
    pub threads: u32,
    /// Hashes a second, by its own count.
    pub hash_rate: f64,
    /// Milliseconds from new work to the first hash on it: median.
    pub first_hash_p50_ms: Option<f64>,
    /// The same: 99 of 100 are at most this.
    pub first_hash_p99_ms: Option<f64>,
    /// Of the processor, degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// Of the processor, watts.
    pub power_watts: Option<f64>,
}

impl WorkerRecord {
    /// Expected hashes of shares that would come as often as they should.
    fn wanted_share_hashes(&self, now: u64) -> f64 {
        let present = if self.share_hashes > 0.0 {
            self.share_hashes
        } else {
            FIRST_SHARE_HASHES as f64
        };
        let silent = now.saturating_sub(self.retargeted_at.max(self.last_share_at));
        let wanted = if silent as f64 >= SILENCE_INTERVALS * SHARE_INTERVAL_SECS
            && self.share_hashes > 0.0
        {
            // None came where some were due, whatever came before.
            0.0
        } else if self.accepted_shares == 0 {
            present
        } else {
            self.hash_rate(now) * SHARE_INTERVAL_SECS
        };
        // At most a factor of four a step: one lucky share says little.
        wanted.clamp(present / 4.0, present * 4.0).max(1.0)
    }

    fn credit_share(&mut self, now: u64, hashes: f64) {
        self.accepted_shares += 1;
        self.last_share_at = now;
        self.shares.push_back((now, hashes));
        if self.shares.len() > SHARES_MAX {
            self.shares.pop_front();
        }
    }

    /// Part of its solutions that came too late, 0 to 1.
    #[must_use]
    pub fn stale_rate(&self) -> f64 {
        let all = self.accepted_shares + self.stale;
        self.stale as f64 / all.max(1) as f64
    }

    /// Hashes a second, proven by the shares of the last minutes.
    #[must_use]
    pub fn hash_rate(&self, now: u64) -> f64 {
        let from = now.saturating_sub(RATE_WINDOW_SECS);
        let start = from.max(self.connected_at);
        let span = now.saturating_sub(start).max(RATE_SPAN_MIN_SECS);
        let work: f64 = self
            .shares
            .iter()
            .filter(|(time, _)| *time >= from)
            .map(|(_, hashes)| hashes)
            .sum();
        work / span as f64
    }
}

/// One subscription's place in the search space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its number.
    pub number: u32,
    /// Whose.
    pub worker: WorkerId,
}

/// A piece of work as it was handed out.
#[derive(Debug, Clone)]
pub struct HandedOut {
    /// Its name.
    pub work_id: String,
    /// The commitment with the subscription's prefix in it.
    pub commitment: BlockCommitment,
    /// The target of its shares.
    pub share_target: Target,
    /// The template behind it.
    pub template: Arc<BlockTemplate>,
}

/// A solution as it was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    /// The work that it solves.
    pub work_id: String,
    /// The miner's part of the extra nonce.
    pub extra_nonce: [u8; 4],
    /// The header's time.
    pub time: u32,
    /// The nonce.
    pub nonce: u32,
    /// The header's version; 0: as handed out.
    pub version: u32,
    /// Milliseconds from new work to the first hash, if told.
    pub first_hash_ms: Option<u32>,
}

/// A judged solution.
#[derive(Debug)]
pub enum Judged {
    /// It makes a whole block: the core must judge on.
    Block {
        /// The block.
        block: Box<Block>,
        /// Whose it is.
        worker: WorkerId,
    },
    /// A share.
    Share(BlockHash),
    /// A share for work that a newer tip has made stale.
    Stale(BlockHash),
    /// No such work.
    UnknownWork,
    /// Handed in before.
    Duplicate(BlockHash),
    /// The hash exceeds the share target.
    HighHash {
        /// The hash.
        hash: BlockHash,
        /// The share target.
        target: Target,
    },
    /// The time is out of range.
    BadTime {
        /// Earliest, Unix seconds.
        min: u32,
        /// Latest, Unix seconds.
        max: u64,
    },
    /// The version has bits that may not be rolled.
    BadVersion,
}

struct WorkRecord {
    handed_out: HandedOut,
    worker: WorkerId,
    seen: HashSet<([u8; 4], u32, u32, u32)>,
}

/// What judging a solution needs to know of the moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The tip of the best chain.
    pub tip: BlockHash,
    /// Unix seconds.
    pub now: u64,
    /// How far a header's time may be ahead of that, seconds.
    pub max_future_secs: u32,
}

/// All work and all workers.
#[derive(Default)]
pub struct WorkBook {
    last_subscription: u32,
    last_work: u64,
    work: HashMap<String, WorkRecord>,
    work_order: VecDeque<String>,
    by_subscription: HashMap<u32, VecDeque<String>>,
    workers: BTreeMap<WorkerId, WorkerRecord>,
}

impl WorkBook {
    /// Opens a subscription; `now` is Unix seconds.
    pub fn subscribe(
        &mut self,
        worker: WorkerId,
        agent: String,
        remote: String,
        now: u64,
    ) -> Subscription {
        self.forget_idle_workers();
        let record = self
            .workers
            .entry(worker.clone())
            .or_insert_with(|| WorkerRecord {
                connected_at: now,
                ..WorkerRecord::default()
            });
        record.agent = agent;
        record.remote = remote;
        record.subscriptions += 1;
        self.last_subscription = self.last_subscription.wrapping_add(1);
        Subscription {
            number: self.last_subscription,
            worker,
        }
    }

    /// Ends a subscription; its last work stays known for a while.
    pub fn unsubscribe(&mut self, subscription: &Subscription) {
        if let Some(record) = self.workers.get_mut(&subscription.worker) {
            record.subscriptions = record.subscriptions.saturating_sub(1);
        }
    }

    /// Hands out work on a template.
    pub fn hand_out(
        &mut self,
        subscription: &Subscription,
        template: Arc<BlockTemplate>,
        now: u64,
    ) -> HandedOut {
        let prefix = subscription.number.to_be_bytes();
        let mut extra_nonce = [0; 8];
        extra_nonce[..4].copy_from_slice(&prefix);
        let address = subscription.worker.reward_address;
        let share_target = self.share_target(&subscription.worker, template.target, now);
        self.last_work += 1;
        let handed_out = HandedOut {
            work_id: format!("{}-{}", subscription.number, self.last_work),
            commitment: template.commitment(address, extra_nonce),
            share_target,
            template,
        };
        let record = WorkRecord {
            handed_out: handed_out.clone(),
            worker: subscription.worker.clone(),
            seen: HashSet::new(),
        };
        self.work.insert(handed_out.work_id.clone(), record);
        self.work_order.push_back(handed_out.work_id.clone());
        self.by_subscription
            .entry(subscription.number)
            .or_default()
            .push_back(handed_out.work_id.clone());
        self.forget_old_work(subscription);
        handed_out
    }

    /// Judges a solution.
    pub fn judge(&mut self, solution: &Solution, moment: &Moment) -> Judged {
        let Some(record) = self.work.get_mut(&solution.work_id) else {
            return Judged::UnknownWork;
        };
        let worker_id = record.worker.clone();
        let judged = record.judge(solution, moment);
        let share_hashes = record.handed_out.share_target.work().to_f64();
        if let Some(worker) = self.workers.get_mut(&worker_id) {
            if solution.first_hash_ms.is_some() {
                worker.first_hash_ms = solution.first_hash_ms;
            }
            match &judged {
                Judged::Block { .. } | Judged::Share(_) => {
                    worker.credit_share(moment.now, share_hashes);
                }
                Judged::Stale(_) | Judged::UnknownWork => worker.stale += 1,
                Judged::Duplicate(_)
                | Judged::HighHash { .. }
                | Judged::BadTime { .. }
                | Judged::BadVersion => worker.rejected += 1,
            }
        }
        judged
    }

    /// Keeps what a worker says of itself; `false` if no such worker is known.
    pub fn record_telemetry(&mut self, worker: &WorkerId, telemetry: Telemetry) -> bool {
        let record = self.workers.get_mut(worker);
        record.is_some_and(|record| {
            record.telemetry = Some(telemetry);
            true
        })
    }

    /// Records what the core said of a worker's block.
    pub fn record_block(&mut self, worker: &WorkerId, verdict: BlockCredit) {
        if let Some(record) = self.workers.get_mut(worker) {
            match verdict {
                BlockCredit::Tip => record.accepted_blocks += 1,
                BlockCredit::Side => record.side_blocks += 1,
                BlockCredit::Rejected => record.rejected += 1,
            }
        }
    }

    /// The workers, connected ones first, then by name.
    #[must_use]
    pub fn workers(&self) -> Vec<(&WorkerId, &WorkerRecord)> {
        let mut all: Vec<_> = self.workers.iter().collect();
        all.sort_by_key(|(_, record)| record.subscriptions == 0);
        all
    }

    /// How many workers are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        let records = self.workers.values();
        records.filter(|record| record.subscriptions > 0).count()
    }

    /// Whether a worker's shares have come to be much more or less frequent than
    /// they should: then it needs work with another share target.
    #[must_use]
    pub fn needs_share_target(&self, subscription: &Subscription, now: u64) -> bool {
        let newest = self
            .by_subscription
            .get(&subscription.number)
            .and_then(|own| self.work.get(own.back()?));
        let record = self.workers.get(&subscription.worker);
        let (Some(newest), Some(record)) = (newest, record) else {
            return false;
        };
        let block_target = newest.handed_out.template.target;
        let wanted = work_of(record.wanted_share_hashes(now)).to_target();
        let wanted = wanted.max(block_target).work().to_f64();
        let present = newest.handed_out.share_target.work().to_f64();
        !(present / RETARGET_FACTOR..present * RETARGET_FACTOR).contains(&wanted)
    }

    /// A share about every five seconds, never harder than a block.
    fn share_target(&mut self, worker: &WorkerId, block_target: Target, now: u64) -> Target {
        let Some(record) = self.workers.get_mut(worker) else {
            return block_target;
        };
        let hashes = record.wanted_share_hashes(now);
        let target = work_of(hashes).to_target().max(block_target);
        let hashes = target.work().to_f64();
        if record.share_hashes != hashes {
            record.share_hashes = hashes;
            record.retargeted_at = now;
        }
        target
    }

    fn forget_old_work(&mut self, subscription: &Subscription) {
        let own = self.by_subscription.entry(subscription.number).or_default();
        if own.len() > WORK_PER_SUBSCRIPTION_MAX
            && let Some(id) = own.pop_front()
        {
            self.work.remove(&id);
        }
        while self.work_order.len() > WORK_MAX {
            if let Some(id) = self.work_order.pop_front() {
                self.forget(&id);
            }
        }
    }

    fn forget(&mut self, work_id: &str) {
        self.work.remove(work_id);
        let number = work_id
            .split_once('-')
            .and_then(|(number, _)| number.parse().ok());
        if let Some(number) = number
            && let Some(own) = self.by_subscription.get_mut(&number)
        {
            own.retain(|id| id != work_id);
            if own.is_empty() {
                self.by_subscription.remove(&number);
            }
        }
    }

    fn forget_idle_workers(&mut self) {
        while self.workers.len() >= WORKERS_MAX {
            let idle = self
                .workers
                .iter()
                .filter(|(_, record)| record.subscriptions == 0)
                .min_by_key(|(_, record)| record.last_share_at)
                .map(|(id, _)| id.clone());
            match idle {
                Some(id) => self.workers.remove(&id),
                None => return,
            };
        }
    }
}

/// What the core said of a worker's block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockCredit {
    /// The new tip.
    Tip,
    /// Valid, off the best chain.
    Side,
    /// Not accepted.
    Rejected,
}

impl WorkRecord {
    fn judge(&mut self, solution: &Solution, moment: &Moment) -> Judged {
        let template = &self.handed_out.template;
        let version = match solution.version {
            0 => BASE_VERSION,
            rolled if rolled & VERSION_FIXED_MASK == BASE_VERSION => rolled,
            _ => return Judged::BadVersion,
        };
        let max = moment.now + u64::from(moment.max_future_secs);
        if solution.time < template.time_min || u64::from(solution.time) > max {
            return Judged::BadTime {
                min: template.time_min,
                max,
            };
        }
        let mut commitment = self.handed_out.commitment;
        commitment.extra_nonce[4..].copy_from_slice(&solution.extra_nonce);
        let mut header = template.header(&commitment);
        header.version = version;
        header.time = solution.time;
        header.nonce = solution.nonce;
        let hash = header.hash();
        let target = self.handed_out.share_target;
        if !target.is_met_by(&hash) {
            return Judged::HighHash { hash, target };
        }
        let key = (solution.extra_nonce, solution.time, solution.nonce, version);
        if self.seen.len() >= SOLUTIONS_MAX || !self.seen.insert(key) {
            return Judged::Duplicate(hash);
        }
        if template.target.is_met_by(&hash) {
            return Judged::Block {
                block: Box::new(template.block(header, commitment)),
                worker: self.worker.clone(),
            };
        }
        if template.parent == moment.tip {
            Judged::Share(hash)
        } else {
            Judged::Stale(hash)
        }
    }
}

/// Work of a number of hashes, to within the precision of a float.
fn work_of(hashes: f64) -> Work {
    // Shares never need more than 2^127 hashes; the cast saturates.
    let whole = hashes as u128;
    let mut bytes = [0; 32];
    bytes[16..].copy_from_slice(&whole.max(1).to_be_bytes());
    Work::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _};

    /// A worker of a steady hash rate for half an hour of seconds: what share
    /// count and hash rate it ends with.
    fn mine_for_half_an_hour(hash_rate: f64, seed: u64) -> (usize, f64) {
        const START: u64 = 1_000_000;
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let mut book = WorkBook::default();
        let id = WorkerId {
            name: "steady".to_owned(),
            reward_address: Address([1; 32]),
        };
        book.subscribe(id.clone(), String::new(), String::new(), START);
        // The hardest target there is: no block limits the shares.
        let mut one = [0; 32];
        one[0] = 1;
        let block_target = Target::from_le_bytes(one).unwrap();
        book.share_target(&id, block_target, START);
        let mut last_five_minutes = 0;
        // Work until the next share, in expected hashes.
        let mut left = -f64::ln(1.0 - random.random::<f64>());
        for second in 1..=1_800 {
            let now = START + second;
            let record = book.workers.get_mut(&id).unwrap();
            let mut hashes = hash_rate;
            while hashes > 0.0 {
                let need = left * record.share_hashes;
                if need > hashes {
                    left -= hashes / record.share_hashes;
                    break;
                }
                hashes -= need;
                left = -f64::ln(1.0 - random.random::<f64>());
                record.credit_share(now, record.share_hashes);
                last_five_minutes += usize::from(second > 1_500);
            }
            let (wanted, present) = (record.wanted_share_hashes(now), record.share_hashes);
            if second % 5 == 0 && !(present / 2.0..present * 2.0).contains(&wanted) {
                book.share_target(&id, block_target, now);
            }
        }
        (
            last_five_minutes,
            book.workers[&id].hash_rate(START + 1_800),
        )
    }

    #[test]
    fn shares_come_about_every_five_seconds_whatever_the_hash_rate() {
        for hash_rate in [1e3, 1e5, 1e7, 1e9, 1e12] {
            for seed in 0..20 {
                let (shares, proven) = mine_for_half_an_hour(hash_rate, seed);
                // Sixty are due; the target is left alone within a factor of two.
                assert!((20..=160).contains(&shares), "{hash_rate}: {shares} shares");
                let ratio = proven / hash_rate;
                assert!((0.4..1.8).contains(&ratio), "{hash_rate}: proves {proven}");
            }
        }
    }

    #[test]
    fn a_slow_worker_gets_easier_shares_before_it_has_found_any() {
        let mut record = WorkerRecord {
            share_hashes: FIRST_SHARE_HASHES as f64,
            connected_at: 100,
            retargeted_at: 100,
            ..WorkerRecord::default()
        };
        assert_eq!(record.wanted_share_hashes(129), record.share_hashes);
        assert_eq!(record.wanted_share_hashes(130), record.share_hashes / 4.0);
        // And one that was fast, and is not any more.
        record.credit_share(131, record.share_hashes);
        assert_eq!(record.wanted_share_hashes(161), record.share_hashes / 4.0);
    }
}
