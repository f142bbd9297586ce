//! How many nonces a worker tries between two looks at the board.

use std::time::Duration;

/// How long a batch should take: the greatest part of the time between new work
/// and its first hash.
const BATCH_TIME: Duration = Duration::from_micros(500);
/// Batches are whole multiples of so many nonces, which is a multiple of what
/// any kernel takes at once: none wastes a part of its width. With sixteen
/// versions that is 768 hashes, a millisecond of a core of 0.8 MH/s.
const BATCH_STEP: u32 = 48;
/// Nor larger, whatever the clock says.
const BATCH_MAX: u32 = BATCH_STEP << 14;

/// A batch size that follows the machine's speed.
#[derive(Debug)]
pub(super) struct Batch {
    /// Hashes a second, smoothed over a few batches.
    rate: f64,
}

impl Default for Batch {
    fn default() -> Self {
        // Half a million a second: a slow core. Better too small at first.
        Self { rate: 5e5 }
    }
}

impl Batch {
    /// Nonces of the next batch, each of which is tried with every version.
    pub(super) fn nonces(&self, versions: usize) -> u32 {
        let hashes = self.rate * BATCH_TIME.as_secs_f64();
        // Saturates, as float conversions do.
        let nonces = (hashes / versions.max(1) as f64) as u32;
        nonces.clamp(1, BATCH_MAX).next_multiple_of(BATCH_STEP)
    }

    pub(super) fn measured(&mut self, hashes: u64, took: Duration) {
        let rate = hashes as f64 / took.as_secs_f64().max(1e-9);
        // An interrupted thread looks slow once; that must not weigh much.
        self.rate += (rate - self.rate) / 8.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_aim_at_half_a_millisecond_and_stay_within_one(
            rate in 1e6f64..1e9,
            versions in 1usize..=16,
        ) {
            let mut batch = Batch::default();
            let hashes = |batch: &Batch| f64::from(batch.nonces(versions)) * versions as f64;
            for _ in 0..100 {
                let size = hashes(&batch);
                batch.measured(size as u64, Duration::from_secs_f64(size / rate));
            }
            let seconds = hashes(&batch) / rate;
            let step = f64::from(BATCH_STEP) * versions as f64 / rate;
            prop_assert!(seconds < 0.001, "{seconds}");
            prop_assert!((0.00049..0.00051 + step).contains(&seconds), "{seconds}");
        }

        #[test]
        fn batches_stay_within_bounds(
            counts in prop::collection::vec((any::<u64>(), any::<u64>()), 1..50),
            versions in 0usize..100_000,
        ) {
            let mut batch = Batch::default();
            for (count, nanos) in counts {
                batch.measured(count, Duration::from_nanos(nanos));
                let nonces = batch.nonces(versions);
                prop_assert!(nonces.is_multiple_of(BATCH_STEP));
                prop_assert!((BATCH_STEP..=BATCH_MAX).contains(&nonces));
            }
        }
    }
}
