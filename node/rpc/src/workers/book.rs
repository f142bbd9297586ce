//! The work book: it gives miners their work, judges their solutions and credits them.

use std::collections::BTreeMap;
use std::sync::Arc;

use pithead_consensus::{Target, Work};
use pithead_core::template::BlockTemplate;

use super::found::FoundBlocks;
use super::kept::{KeptWork, WorkSubscription};
use super::work::{
    AssignedWork, BlockFinder, JudgeContext, SolutionVerdict, SubmittedSolution, WorkId, WorkRecord,
};
use super::worker::{RETARGET_FACTOR, Worker, WorkerId, WorkerTelemetry};

/// Workers remembered, connected or not.
const WORKERS_MAX: usize = 2_000;

/// How a book is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkSettings {
    /// A random number that is another one in every run of the node. The work of one run is then
    /// unknown to the next run, never taken for other work of the same id, and the miners of both
    /// runs search different spaces.
    pub run: u64,
    /// Milliseconds between a worker's shares that its share target aims at.
    pub share_interval_ms: u64,
}

/// How much a book holds; tests watch its limits by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkUsage {
    /// Open subscriptions, and ended ones whose work is kept.
    pub subscriptions: usize,
    /// Pieces of work.
    pub work: usize,
    /// Different templates behind the work.
    pub templates: usize,
    /// Workers, connected or not.
    pub workers: usize,
}

/// The core's verdict on a worker's block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockCredit {
    /// It is the new tip.
    Tip,
    /// It is valid, but off the best chain.
    Side,
    /// It was refused unstored, because enough blocks have its parent.
    Spare,
    /// It was not accepted.
    Rejected,
}

/// All work and all workers.
pub struct WorkBook {
    /// The half of [`WorkSettings::run`] that work ids carry.
    run: u32,
    share_interval_secs: f64,
    /// The number that the next subscription gets, if it is free.
    next_subscription: u32,
    /// The number of the newest piece of work.
    last_work: u64,
    kept: KeptWork,
    found: FoundBlocks,
    workers: BTreeMap<WorkerId, Worker>,
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
            next_subscription: half(4),
            last_work: 0,
            kept: KeptWork::default(),
            found: FoundBlocks::default(),
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
    ) -> WorkSubscription {
        self.kept.expire(now);
        self.forget_idle_workers();
        let record = self.workers.entry(worker.clone());
        let record = record.or_insert_with(|| Worker::new(now));
        record.agent = agent;
        record.remote = remote;
        record.subscribed(now);
        let subscription = self.kept.open(self.next_subscription, worker);
        self.next_subscription = subscription.number.wrapping_add(1);
        subscription
    }

    /// Ends a subscription; its last work stays known for a while.
    pub fn unsubscribe(&mut self, subscription: &WorkSubscription, now: u64) {
        if let Some(worker) = self.workers.get_mut(&subscription.worker) {
            worker.unsubscribed(now);
        }
        self.kept.end(subscription, now);
    }

    /// Makes a new piece of work on a template; `now` is Unix seconds.
    pub fn assign(
        &mut self,
        subscription: &WorkSubscription,
        template: Arc<BlockTemplate>,
        now: u64,
    ) -> AssignedWork {
        let prefix = subscription.number.to_be_bytes();
        let mut extra_nonce = [0; 8];
        extra_nonce[..4].copy_from_slice(&prefix);
        let address = subscription.worker.reward_address;
        let share_target = self.share_target(&subscription.worker, template.target, now);
        self.last_work += 1;
        let number = self.last_work;
        let id = WorkId {
            run: self.run,
            subscription: subscription.number,
            number,
        };
        let assigned = AssignedWork {
            work_id: id.to_string(),
            commitment: template.commitment(address, extra_nonce),
            share_target,
            template,
        };
        let record = WorkRecord::new(assigned.clone(), subscription.number, now);
        self.kept.add(number, record, now);
        assigned
    }

    /// Judges a solution and credits it to its worker, unless it makes a block: that is for the
    /// core to judge, and [`Self::record_block`] to credit.
    pub fn judge(
        &mut self,
        solution: &SubmittedSolution,
        context: &JudgeContext,
    ) -> SolutionVerdict {
        let id = WorkId::parse(&solution.work_id).filter(|id| id.run == self.run);
        // Work that is forgotten still counts for the worker, as long as its subscription is kept.
        let worker = id.and_then(|id| self.kept.worker(id.subscription));
        let (Some(id), Some(worker)) = (id, worker.cloned()) else {
            return SolutionVerdict::UnknownWork;
        };
        let verdict = match self.kept.work_mut(id.number) {
            Some(record) if record.subscription == id.subscription => {
                record.judge(solution, context, &worker, &mut self.found)
            }
            _ => SolutionVerdict::UnknownWork,
        };
        let was_assigned = id.number <= self.last_work;
        let share_hashes = match self.kept.work(id.number) {
            Some(record) => record.assigned.share_target.work().to_f64(),
            None => 0.0,
        };
        if let Some(worker) = self.workers.get_mut(&worker) {
            if solution.first_hash_ms.is_some() {
                worker.first_hash_ms = solution.first_hash_ms;
            }
            match &verdict {
                SolutionVerdict::Block { .. } => {}
                SolutionVerdict::Share(_) => worker.credit_share(context.now, share_hashes),
                SolutionVerdict::Stale(_)
                | SolutionVerdict::UsedUp(_)
                | SolutionVerdict::EnoughBlocks(_) => worker.stale += 1,
                SolutionVerdict::UnknownWork if was_assigned => worker.stale += 1,
                SolutionVerdict::UnknownWork
                | SolutionVerdict::Duplicate(_)
                | SolutionVerdict::HighHash { .. }
                | SolutionVerdict::BadTime { .. }
                | SolutionVerdict::BadVersion => worker.rejected += 1,
            }
        }
        verdict
    }

    /// Keeps what a worker reports of itself; `false` if the worker is not known.
    pub fn record_telemetry(&mut self, worker: &WorkerId, telemetry: WorkerTelemetry) -> bool {
        let worker = self.workers.get_mut(worker);
        worker.is_some_and(|worker| {
            worker.telemetry = Some(telemetry);
            true
        })
    }

    /// Records what the core said of a block; `now` is Unix seconds.
    pub fn record_block(&mut self, finder: &BlockFinder, credit: BlockCredit, now: u64) {
        if credit == BlockCredit::Rejected {
            self.found.uncount(finder);
        }
        if let Some(worker) = self.workers.get_mut(&finder.worker) {
            match credit {
                BlockCredit::Tip => {
                    worker.accepted_blocks += 1;
                    worker.credit_share(now, finder.share_hashes);
                }
                BlockCredit::Side => {
                    worker.side_blocks += 1;
                    worker.stale += 1;
                }
                BlockCredit::Spare => worker.stale += 1,
                BlockCredit::Rejected => worker.rejected += 1,
            }
        }
    }

    /// The workers, connected ones first, then by name.
    #[must_use]
    pub fn workers(&self) -> Vec<(&WorkerId, &Worker)> {
        let mut all: Vec<_> = self.workers.iter().collect();
        all.sort_by_key(|(_, worker)| worker.subscriptions == 0);
        all
    }

    /// How many workers are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        let workers = self.workers.values();
        workers.filter(|worker| worker.subscriptions > 0).count()
    }

    /// How much the book holds.
    #[must_use]
    pub fn usage(&self) -> WorkUsage {
        WorkUsage {
            subscriptions: self.kept.subscription_count(),
            work: self.kept.work_count(),
            templates: self.kept.template_count(),
            workers: self.workers.len(),
        }
    }

    /// Whether a subscription needs work with another share target: the worker's shares have come
    /// to be much more or much less frequent than they should be, or the present work has had
    /// nearly as many as can be remembered.
    #[must_use]
    pub fn needs_share_target(&self, subscription: &WorkSubscription, now: u64) -> bool {
        let newest = self.kept.newest(subscription);
        let worker = self.workers.get(&subscription.worker);
        let (Some(newest), Some(worker)) = (newest, worker) else {
            return false;
        };
        let block_target = newest.assigned.template.target;
        let wanted = worker.wanted_share_hashes(now, self.share_interval_secs);
        let wanted = work_of(wanted).to_target().max(block_target);
        let wanted = wanted.work().to_f64();
        let present = newest.assigned.share_target.work().to_f64();
        newest.is_nearly_used_up()
            || !(present / RETARGET_FACTOR..present * RETARGET_FACTOR).contains(&wanted)
    }

    /// The share target that makes a worker's shares as frequent as they should be. A share is
    /// never harder to find than a block.
    fn share_target(&mut self, worker: &WorkerId, block_target: Target, now: u64) -> Target {
        let Some(worker) = self.workers.get_mut(worker) else {
            return block_target;
        };
        let hashes = worker.wanted_share_hashes(now, self.share_interval_secs);
        let target = work_of(hashes).to_target().max(block_target);
        worker.retarget(now, target.work().to_f64());
        target
    }

    /// Makes room for another worker: those that are not connected go first whose last share is
    /// oldest. Connected workers stay.
    fn forget_idle_workers(&mut self) {
        while self.workers.len() >= WORKERS_MAX {
            let idle = self
                .workers
                .iter()
                .filter(|(_, worker)| worker.subscriptions == 0)
                .min_by_key(|(_, worker)| worker.last_share_at)
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
