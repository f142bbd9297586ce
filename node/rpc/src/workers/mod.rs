//! The work that was handed out to miners, and what each miner has proven.
//!
//! A plain book without clock, dice or sockets: times and chance come in as
//! arguments. It hands every subscription an extra-nonce prefix of its own, so
//! that no two search the same space, and judges solutions up to the point where
//! a block has to go to the core. `work` is one piece of work and what a solution
//! of it is worth; `record` is what one miner has proven.
//!
//! *Invariant:* what it holds is bounded, in pieces of work and in the templates
//! behind them, each of which may be a whole block.

mod record;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use pithead_consensus::{Address, Target, Work};

pub use record::{Telemetry, WorkerRecord};
pub use work::{Finder, HandedOut, Judged, Moment, Solution};

use pithead_core::template::BlockTemplate;
use record::RETARGET_FACTOR;
use work::{WorkName, WorkRecord};

/// Pieces of work kept per subscription: solutions for older ones are unknown.
const WORK_PER_SUBSCRIPTION_MAX: usize = 8;
/// Pieces of work kept in all.
const WORK_MAX: usize = 20_000;
/// Different templates kept, 2 MB each at most: the work on older ones goes.
const TEMPLATES_MAX: usize = 16;
/// Seconds for which work is kept: miners hand nothing in after ten minutes.
const WORK_AGE_MAX_SECS: u64 = 600;
/// Seconds for which the work of a subscription that has ended is kept: time to
/// come back and hand in what was found meanwhile.
const ENDED_KEPT_SECS: u64 = 120;
/// Ended subscriptions whose work is kept.
const ENDED_MAX: usize = 1_024;
/// Workers remembered, connected or not.
const WORKERS_MAX: usize = 2_000;

/// Who mines: a name and an address make a worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// The name that it gave.
    pub name: String,
    /// Who is paid.
    pub reward_address: Address,
}

/// One subscription's place in the search space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its number, and its extra-nonce prefix.
    pub number: u32,
    /// Whose.
    pub worker: WorkerId,
}

/// How a book is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkSettings {
    /// Any number, but another one in every run of the node: work of one run is
    /// then unknown to the next, never taken for other work of the same name, and
    /// their miners search different spaces.
    pub run: u64,
    /// Milliseconds between a worker's shares that the share target aims at.
    pub share_interval_ms: u64,
}

/// What a book holds, for those who watch its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkUsage {
    /// Subscriptions, ended ones whose work is kept among them.
    pub subscriptions: usize,
    /// Pieces of work.
    pub work: usize,
    /// Different templates behind them.
    pub templates: usize,
    /// Workers.
    pub workers: usize,
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

struct Place {
    worker: WorkerId,
    /// Its work, oldest first.
    work: VecDeque<u64>,
}

/// All work and all workers.
pub struct WorkBook {
    run: u32,
    share_interval_secs: f64,
    next_prefix: u32,
    last_work: u64,
    /// By number: oldest first.
    work: BTreeMap<u64, WorkRecord>,
    /// Work on each template, by the template's rank.
    by_template: BTreeMap<u64, BTreeSet<u64>>,
    places: HashMap<u32, Place>,
    /// Subscriptions that have ended, and when, Unix seconds: oldest first.
    ended: VecDeque<(u64, u32)>,
    workers: BTreeMap<WorkerId, WorkerRecord>,
}

impl WorkBook {
    /// An empty book.
    #[must_use]
    pub fn new(settings: WorkSettings) -> Self {
        let bytes = settings.run.to_be_bytes();
        let half = |at: usize| {
            let half = bytes.iter().skip(at).take(4);
            half.fold(0, |number, byte| number << 8 | u32::from(*byte))
        };
        Self {
            run: half(0),
            share_interval_secs: settings.share_interval_ms as f64 / 1_000.0,
            next_prefix: half(4),
            last_work: 0,
            work: BTreeMap::new(),
            by_template: BTreeMap::new(),
            places: HashMap::new(),
            ended: VecDeque::new(),
            workers: BTreeMap::new(),
        }
    }

    /// Opens a subscription; `now` is Unix seconds.
    pub fn subscribe(
        &mut self,
        worker: WorkerId,
        agent: String,
        remote: String,
        now: u64,
    ) -> Subscription {
        self.expire(now);
        self.forget_idle_workers();
        let record = self.workers.entry(worker.clone());
        let record = record.or_insert_with(|| WorkerRecord::new(now));
        record.agent = agent;
        record.remote = remote;
        record.subscribed(now);
        // One that is still known is passed over: there are far fewer than 2^32.
        while self.places.contains_key(&self.next_prefix) {
            self.next_prefix = self.next_prefix.wrapping_add(1);
        }
        let number = self.next_prefix;
        self.next_prefix = number.wrapping_add(1);
        let place = Place {
            worker: worker.clone(),
            work: VecDeque::new(),
        };
        self.places.insert(number, place);
        Subscription { number, worker }
    }

    /// Ends a subscription; its last work stays known for a while.
    pub fn unsubscribe(&mut self, subscription: &Subscription, now: u64) {
        if let Some(record) = self.workers.get_mut(&subscription.worker) {
            record.unsubscribed(now);
        }
        if self.places.contains_key(&subscription.number) {
            self.ended.push_back((now, subscription.number));
        }
        self.expire(now);
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
        let number = self.last_work;
        let name = WorkName {
            run: self.run,
            subscription: subscription.number,
            number,
        };
        let rank = template.id;
        let handed_out = HandedOut {
            work_id: name.to_string(),
            commitment: template.commitment(address, extra_nonce),
            share_target,
            template,
        };
        let record = WorkRecord::new(handed_out.clone(), subscription.number, now);
        self.work.insert(number, record);
        self.by_template.entry(rank).or_default().insert(number);
        if let Some(place) = self.places.get_mut(&subscription.number) {
            place.work.push_back(number);
        }
        self.forget_old_work(subscription);
        self.expire(now);
        handed_out
    }

    /// Judges a solution.
    pub fn judge(&mut self, solution: &Solution, moment: &Moment) -> Judged {
        let name = WorkName::parse(&solution.work_id).filter(|name| name.run == self.run);
        // Work that is forgotten is still its subscription's, while that is known.
        let place = name.and_then(|name| self.places.get(&name.subscription));
        let (Some(name), Some(place)) = (name, place) else {
            return Judged::UnknownWork;
        };
        let judged = match self.work.get_mut(&name.number) {
            Some(record) if record.subscription == name.subscription => {
                record.judge(solution, moment, &place.worker)
            }
            _ => Judged::UnknownWork,
        };
        let was_handed_out = name.number <= self.last_work;
        let share_hashes = match self.work.get(&name.number) {
            Some(record) => record.handed_out.share_target.work().to_f64(),
            None => 0.0,
        };
        if let Some(worker) = self.workers.get_mut(&place.worker) {
            if solution.first_hash_ms.is_some() {
                worker.first_hash_ms = solution.first_hash_ms;
            }
            match &judged {
                // The core has the word.
                Judged::Block { .. } => {}
                Judged::Share(_) => worker.credit_share(moment.now, share_hashes),
                Judged::Stale(_) | Judged::UsedUp(_) => worker.stale += 1,
                Judged::UnknownWork if was_handed_out => worker.stale += 1,
                Judged::UnknownWork
                | Judged::Duplicate(_)
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

    /// Records what the core said of a block; `now` is Unix seconds.
    pub fn record_block(&mut self, finder: &Finder, verdict: BlockCredit, now: u64) {
        if let Some(record) = self.workers.get_mut(&finder.worker) {
            match verdict {
                BlockCredit::Tip => {
                    record.accepted_blocks += 1;
                    record.credit_share(now, finder.share_hashes);
                }
                BlockCredit::Side => {
                    record.side_blocks += 1;
                    record.stale += 1;
                }
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

    /// What it holds.
    #[must_use]
    pub fn usage(&self) -> WorkUsage {
        WorkUsage {
            subscriptions: self.places.len(),
            work: self.work.len(),
            templates: self.by_template.len(),
            workers: self.workers.len(),
        }
    }

    /// Whether a worker's shares have come to be much more or less frequent than
    /// they should: then it needs work with another share target.
    #[must_use]
    pub fn needs_share_target(&self, subscription: &Subscription, now: u64) -> bool {
        let newest = self
            .places
            .get(&subscription.number)
            .and_then(|place| self.work.get(place.work.back()?));
        let record = self.workers.get(&subscription.worker);
        let (Some(newest), Some(record)) = (newest, record) else {
            return false;
        };
        let block_target = newest.handed_out.template.target;
        let wanted = record.wanted_share_hashes(now, self.share_interval_secs);
        let wanted = work_of(wanted).to_target().max(block_target);
        let wanted = wanted.work().to_f64();
        let present = newest.handed_out.share_target.work().to_f64();
        newest.is_nearly_used_up()
            || !(present / RETARGET_FACTOR..present * RETARGET_FACTOR).contains(&wanted)
    }

    /// Shares as often as they should be, never harder than a block.
    fn share_target(&mut self, worker: &WorkerId, block_target: Target, now: u64) -> Target {
        let Some(record) = self.workers.get_mut(worker) else {
            return block_target;
        };
        let hashes = record.wanted_share_hashes(now, self.share_interval_secs);
        let target = work_of(hashes).to_target().max(block_target);
        record.retarget(now, target.work().to_f64());
        target
    }

    fn forget_old_work(&mut self, subscription: &Subscription) {
        let place = self.places.get(&subscription.number);
        let too_many = place.filter(|place| place.work.len() > WORK_PER_SUBSCRIPTION_MAX);
        if let Some(number) = too_many.and_then(|place| place.work.front().copied()) {
            self.forget(number);
        }
        while self.by_template.len() > TEMPLATES_MAX {
            let Some((_, numbers)) = self.by_template.pop_first() else {
                break;
            };
            for number in numbers {
                self.forget(number);
            }
        }
        while self.work.len() > WORK_MAX
            && let Some((number, _)) = self.work.first_key_value()
        {
            self.forget(*number);
        }
    }

    /// Forgets work that is too old, and subscriptions that ended long ago.
    fn expire(&mut self, now: u64) {
        while let Some((number, record)) = self.work.first_key_value()
            && now.saturating_sub(record.handed_out_at) > WORK_AGE_MAX_SECS
        {
            self.forget(*number);
        }
        while let Some((at, number)) = self.ended.front().copied()
            && (now.saturating_sub(at) > ENDED_KEPT_SECS || self.ended.len() > ENDED_MAX)
        {
            self.ended.pop_front();
            let place = self.places.remove(&number);
            for number in place.into_iter().flat_map(|place| place.work) {
                self.forget(number);
            }
        }
    }

    fn forget(&mut self, number: u64) {
        let Some(record) = self.work.remove(&number) else {
            return;
        };
        if let Some(place) = self.places.get_mut(&record.subscription) {
            place.work.retain(|other| *other != number);
        }
        let rank = record.handed_out.template.id;
        if let Some(numbers) = self.by_template.get_mut(&rank) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_template.remove(&rank);
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

/// Work of a number of hashes, to within the precision of a float.
fn work_of(hashes: f64) -> Work {
    // Shares never need more than 2^127 hashes; the cast saturates.
    let whole = hashes as u128;
    let mut bytes = [0; 32];
    bytes[16..].copy_from_slice(&whole.max(1).to_be_bytes());
    Work::from_be_bytes(bytes)
}
