//! Where the newest work hangs: the link to the node writes it, every worker
//! looks at it between two batches.
//!
//! *Invariant:* the hash loop takes no lock. A look is one atomic load; only a
//! worker with nothing to do waits, on a condition variable.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;

use crate::work::Work;

/// The newest work, for all workers.
#[derive(Debug, Default)]
pub struct WorkBoard {
    /// Rises with every change of `current`, and at the end.
    generation: AtomicU64,
    current: ArcSwapOption<Work>,
    stopped: AtomicBool,
    /// Only for workers without work.
    idle: Mutex<()>,
    changed: Condvar,
}

/// What a worker is to do next.
#[derive(Debug)]
pub enum Order {
    /// Mine on this until the generation is another.
    Mine(Arc<Work>, u64),
    /// Come to an end.
    Stop,
}

impl WorkBoard {
    /// Replaces the work; `None`: there is nothing worth mining on.
    pub fn publish(&self, work: Option<Arc<Work>>) {
        self.current.store(work);
        self.wake();
    }

    /// Ends all workers, for good.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// The work being mined on.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Work>> {
        self.current.load_full()
    }

    /// Changes whenever a worker has to look again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The next order; waits while there is no work.
    #[must_use]
    pub fn next_order(&self) -> Order {
        if let Some(order) = self.order() {
            return order;
        }
        let mut guard = self.lock();
        loop {
            // Looked at under the lock that `wake` takes: no wake-up is missed.
            if let Some(order) = self.order() {
                return order;
            }
            guard = self
                .changed
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn order(&self) -> Option<Order> {
        if self.stopped.load(Ordering::Acquire) {
            return Some(Order::Stop);
        }
        // The generation first: if the work changes in between, the worker
        // holds an old generation and looks again after one batch.
        let generation = self.generation();
        self.current
            .load_full()
            .map(|work| Order::Mine(work, generation))
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
