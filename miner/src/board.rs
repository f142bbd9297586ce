//! The board between the link and the workers: the link publishes the newest work,
//! and every worker looks at it between two batches.
//!
//! *Invariant:* the hash loop takes no lock. A look is one atomic load. Only a worker
//! without work waits, on a condition variable.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;

use crate::work::MiningWork;

/// The newest work, shared with all workers.
#[derive(Debug, Default)]
pub struct WorkBoard {
    /// Rises with every change of `current`, and once more when the workers are to stop.
    generation: AtomicU64,
    current: ArcSwapOption<MiningWork>,
    stopped: AtomicBool,
    /// The lock of `changed`. It guards no data.
    idle: Mutex<()>,
    /// Wakes the workers that wait for work.
    changed: Condvar,
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
    /// Replaces the work. With `None` the workers wait for the next work.
    pub fn publish(&self, work: Option<Arc<MiningWork>>) {
        self.current.store(work);
        self.wake();
    }

    /// Ends all workers. A stopped board never starts again.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// The work that was published last.
    #[must_use]
    pub fn current(&self) -> Option<Arc<MiningWork>> {
        self.current.load_full()
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
            // `wake` takes the same lock, so this look can't miss a wake-up.
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

    fn wake(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let _guard = self.lock();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
