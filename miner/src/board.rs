//! The board between the link and the workers: the link publishes the newest work,
//! and every worker looks at it between two batches.
//!
//! A tip takes one block only. Once a worker has found a block, the board withdraws all work
//! on that tip until the node sends work on the next one. If the node refuses the block, the
//! link gives the tip back.
//!
//! *Invariant:* the hash loop takes no lock. A look is one atomic load. Only a worker
//! without work waits, on a condition variable, and only a block takes the lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use pithead_consensus::BlockHash;

use crate::work::MiningWork;

/// Tips remembered for which a block was found.
const TIPS_MAX: usize = 64;

/// The newest work, shared with all workers.
#[derive(Debug, Default)]
pub struct WorkBoard {
    /// Rises with every change of `current`, and once more when the workers are to stop.
    generation: AtomicU64,
    /// The work that the workers are to mine on.
    current: ArcSwapOption<MiningWork>,
    stopped: AtomicBool,
    /// The lock of `changed`, too.
    tips: Mutex<Tips>,
    /// Wakes the workers that wait for work.
    changed: Condvar,
}

/// Which tips have their block.
#[derive(Debug, Default)]
struct Tips {
    /// The work that was published last, whether or not it is withdrawn.
    newest: Option<Arc<MiningWork>>,
    /// The last tips for which a worker found a block, oldest first.
    found: VecDeque<BlockHash>,
}

impl Tips {
    /// The work to mine on: the newest, unless its tip has its block.
    fn open_work(&self) -> Option<Arc<MiningWork>> {
        let newest = self.newest.as_ref();
        newest
            .filter(|work| !self.found.contains(&work.header.prev))
            .cloned()
    }
}

/// What the board tells a worker to do next.
#[derive(Debug)]
pub enum WorkerOrder {
    /// Mine on this work while the board's generation is this number.
    Mine(Arc<MiningWork>, u64),
    /// End the thread.
    Stop,
}

impl WorkBoard {
    /// Replaces the work. With `None` the workers wait for the next work. They wait, too, while
    /// the work is on a tip for which a block was found.
    pub fn publish(&self, work: Option<Arc<MiningWork>>) {
        let mut tips = self.lock();
        tips.newest = work;
        self.change(&tips);
    }

    /// Takes the place of the block on a work's tip, for a worker that has found it. Returns
    /// `false` if that tip has its block already. The workers then get no further work on it.
    #[must_use]
    pub fn claim_tip(&self, work: &MiningWork) -> bool {
        let mut tips = self.lock();
        if tips.found.contains(&work.header.prev) {
            return false;
        }
        if tips.found.len() >= TIPS_MAX {
            tips.found.pop_front();
        }
        tips.found.push_back(work.header.prev);
        self.change(&tips);
        true
    }

    /// The block that was found on this tip is worth nothing: the workers go on.
    pub fn give_tip_back(&self, tip: &BlockHash) {
        let mut tips = self.lock();
        let before = tips.found.len();
        tips.found.retain(|found| found != tip);
        if tips.found.len() < before {
            self.change(&tips);
        }
    }

    /// Replaces the work by the first of a connection. All tips are open again, because its node
    /// may not know any of the blocks that were found.
    pub fn start_over(&self, work: Arc<MiningWork>) {
        let mut tips = self.lock();
        tips.found.clear();
        tips.newest = Some(work);
        self.change(&tips);
    }

    /// Ends all workers. A stopped board never starts again.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let _tips = self.lock();
        self.wake();
    }

    /// The work that was published last, even if the workers wait for the next.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<MiningWork>> {
        self.lock().newest.clone()
    }

    /// A number that changes whenever a worker has to ask for its next order.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The next order for a worker; waits while the board has no work.
    #[must_use]
    pub fn next_order(&self) -> WorkerOrder {
        if let Some(order) = self.order() {
            return order;
        }
        let mut guard = self.lock();
        loop {
            // `wake` is called under the same lock, so this look can't miss a wake-up.
            if let Some(order) = self.order() {
                return order;
            }
            guard = self
                .changed
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn order(&self) -> Option<WorkerOrder> {
        if self.stopped.load(Ordering::Acquire) {
            return Some(WorkerOrder::Stop);
        }
        // The generation is read first. If the work changes before it is read, the
        // worker holds an old generation and looks again after one batch.
        let generation = self.generation();
        self.current
            .load_full()
            .map(|work| WorkerOrder::Mine(work, generation))
    }

    /// Shows the workers the work that is open now, if it is another.
    fn change(&self, tips: &Tips) {
        let open = tips.open_work();
        let same = match (&open, &*self.current.load()) {
            (Some(open), Some(present)) => Arc::ptr_eq(open, present),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.current.store(open);
            self.wake();
        }
    }

    /// To be called under the lock, so that no worker that is about to wait misses it.
    fn wake(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Tips> {
        self.tips.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
