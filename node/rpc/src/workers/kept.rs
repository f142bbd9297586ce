//! The work that solutions may still come for, and its subscriptions: what is kept, and when it
//! is forgotten.
//!
//! It judges no solution and knows no worker's record.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::work::WorkRecord;
use super::worker::WorkerId;

/// Pieces of work kept for a subscription. A solution for an older piece is for unknown work.
const WORK_PER_SUBSCRIPTION_MAX: usize = 8;
/// Pieces of work kept in all.
const WORK_MAX: usize = 20_000;
/// Different templates kept, 2 MB each at most. The work on older templates is forgotten.
const TEMPLATES_MAX: usize = 16;
/// Seconds for which work is kept: miners hand nothing in after ten minutes.
const WORK_AGE_MAX_SECS: u64 = 600;
/// Seconds for which the work of an ended subscription is kept: time for the miner to come back
/// and hand in what it found meanwhile.
const ENDED_KEPT_SECS: u64 = 120;
/// Ended subscriptions whose work is kept.
const ENDED_MAX: usize = 1_024;

/// A worker's share of the search space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkSubscription {
    /// The extra-nonce prefix of its work. No two subscriptions that are kept have the same.
    pub number: u32,
    pub worker: WorkerId,
}

/// A subscription that is open, or that ended not long ago.
struct KeptSubscription {
    worker: WorkerId,
    /// The numbers of its pieces of work, oldest first.
    work: VecDeque<u64>,
}

/// All subscriptions and pieces of work that are kept.
#[derive(Default)]
pub(super) struct KeptWork {
    /// By its number, so that the oldest comes first.
    work: BTreeMap<u64, WorkRecord>,
    /// The numbers of the work on each template, by the template's id, which grows.
    by_template: BTreeMap<u64, BTreeSet<u64>>,
    subscriptions: HashMap<u32, KeptSubscription>,
    /// When each ended subscription ended, Unix seconds, and its number; oldest first.
    ended: VecDeque<(u64, u32)>,
}

impl KeptWork {
    /// Opens a subscription. It gets the first unused number at or above `wanted`.
    pub(super) fn open(&mut self, wanted: u32, worker: WorkerId) -> WorkSubscription {
        let mut number = wanted;
        // This ends: far fewer than 2^32 subscriptions are kept.
        while self.subscriptions.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        let kept = KeptSubscription {
            worker: worker.clone(),
            work: VecDeque::new(),
        };
        self.subscriptions.insert(number, kept);
        WorkSubscription { number, worker }
    }

    /// Ends a subscription; its work stays known for a while.
    pub(super) fn end(&mut self, subscription: &WorkSubscription, now: u64) {
        if self.subscriptions.contains_key(&subscription.number) {
            self.ended.push_back((now, subscription.number));
        }
        self.expire(now);
    }

    /// Keeps a new piece of work, and forgets what there is no room for beside it.
    pub(super) fn add(&mut self, number: u64, record: WorkRecord, now: u64) {
        let subscription = record.subscription;
        let template = record.assigned.template.id;
        self.work.insert(number, record);
        self.by_template.entry(template).or_default().insert(number);
        if let Some(kept) = self.subscriptions.get_mut(&subscription) {
            kept.work.push_back(number);
        }
        self.make_room(subscription);
        self.expire(now);
    }

    /// The worker of a subscription that is kept.
    pub(super) fn worker(&self, subscription: u32) -> Option<&WorkerId> {
        self.subscriptions
            .get(&subscription)
            .map(|kept| &kept.worker)
    }

    pub(super) fn work(&self, number: u64) -> Option<&WorkRecord> {
        self.work.get(&number)
    }

    pub(super) fn work_mut(&mut self, number: u64) -> Option<&mut WorkRecord> {
        self.work.get_mut(&number)
    }

    /// The newest work of a subscription.
    pub(super) fn newest(&self, subscription: &WorkSubscription) -> Option<&WorkRecord> {
        let kept = self.subscriptions.get(&subscription.number)?;
        self.work.get(kept.work.back()?)
    }

    pub(super) fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    pub(super) fn work_count(&self) -> usize {
        self.work.len()
    }

    pub(super) fn template_count(&self) -> usize {
        self.by_template.len()
    }

    /// Forgets work that is too old, and the work of subscriptions that ended long ago.
    pub(super) fn expire(&mut self, now: u64) {
        while let Some((number, record)) = self.work.first_key_value()
            && now.saturating_sub(record.assigned_at) > WORK_AGE_MAX_SECS
        {
            self.forget(*number);
        }
        while let Some((at, number)) = self.ended.front().copied()
            && (now.saturating_sub(at) > ENDED_KEPT_SECS || self.ended.len() > ENDED_MAX)
        {
            self.ended.pop_front();
            let kept = self.subscriptions.remove(&number);
            for number in kept.into_iter().flat_map(|kept| kept.work) {
                self.forget(number);
            }
        }
    }

    /// Forgets the oldest work of a subscription that has too much, the work on the oldest
    /// templates, and the oldest work of all, as far as the limits demand.
    fn make_room(&mut self, subscription: u32) {
        let kept = self.subscriptions.get(&subscription);
        let too_many = kept.filter(|kept| kept.work.len() > WORK_PER_SUBSCRIPTION_MAX);
        if let Some(number) = too_many.and_then(|kept| kept.work.front().copied()) {
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

    fn forget(&mut self, number: u64) {
        let Some(record) = self.work.remove(&number) else {
            return;
        };
        if let Some(kept) = self.subscriptions.get_mut(&record.subscription) {
            kept.work.retain(|other| *other != number);
        }
        let template = record.assigned.template.id;
        if let Some(numbers) = self.by_template.get_mut(&template) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_template.remove(&template);
            }
        }
    }
}
