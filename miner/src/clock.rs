//! The workers' clock: the system's monotonic clock, or one that a test moves.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A source of the present time for the workers.
#[derive(Clone)]
pub struct WorkerClock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl WorkerClock {
    /// A clock that calls `now` for the present time.
    pub fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Instant {
        (self.0)()
    }
}

impl Default for WorkerClock {
    fn default() -> Self {
        Self::new(Instant::now)
    }
}

impl fmt::Debug for WorkerClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerClock")
    }
}
