//! Chooses how many nonces a worker tries between two looks at the board.

use std::time::Duration;

/// How long a batch should take. A worker finishes its batch before it looks for new
/// work, so this is most of the latency from new work to the first hash on it.
const BATCH_TIME: Duration = Duration::from_micros(500);
/// The size of a batch is a multiple of this. It is itself a multiple of every kernel's
/// width, so no kernel wastes a part of its vectors. With 16 versions these are 768
/// hashes: a millisecond for a core of 0.8 MH/s.
const BATCH_STEP: u32 = 48;
/// The largest batch, whatever speed the clock shows.
const BATCH_MAX: u32 = BATCH_STEP << 14;

/// The batch size of one worker. It follows the speed of the machine.
#[derive(Debug)]
pub(super) struct BatchSize {
    /// Hashes a second, smoothed over a few batches.
    rate: f64,
}

impl Default for BatchSize {
    fn default() -> Self {
        // The speed of a slow core: the first batches are better too small than too large.
        Self { rate: 5e5 }
    }
}

impl BatchSize {
    /// The number of nonces in the next batch. Each nonce is tried with every version.
    pub(super) fn nonces(&self, versions: usize) -> u32 {
        let hashes = self.rate * BATCH_TIME.as_secs_f64();
        // This conversion saturates.
        let nonces = (hashes / versions.max(1) as f64) as u32;
        nonces.clamp(1, BATCH_MAX).next_multiple_of(BATCH_STEP)
    }

    /// Adjusts the size after a batch of `hashes` hashes.
    pub(super) fn measured(&mut self, hashes: u64, took: Duration) {
        let rate = hashes as f64 / took.as_secs_f64().max(1e-9);
        // An interrupted thread looks slow for one batch. The average keeps the effect
        // of one batch small.
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
            let mut batch = BatchSize::default();
            let hashes = |batch: &BatchSize| f64::from(batch.nonces(versions)) * versions as f64;
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
            let mut batch = BatchSize::default();
            for (count, nanos) in counts {
                batch.measured(count, Duration::from_nanos(nanos));
                let nonces = batch.nonces(versions);
                prop_assert!(nonces.is_multiple_of(BATCH_STEP));
                prop_assert!((BATCH_STEP..=BATCH_MAX).contains(&nonces));
            }
        }
    }
}
