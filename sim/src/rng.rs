//! The run's random numbers, which follow from its seed alone.
//!
//! Each concern (the network, mining, …) draws from a stream of its own, so that one
//! more draw in one concern does not shift the numbers of the others. Nothing else in
//! the simulation may be a source of chance: no clock, no system generator, no order of
//! a hash map. Start reading at [`SimRng::new`].

use rsa::rand_core::{CryptoRng, Error, RngCore};
use sha2::{Digest as _, Sha256};

/// The independent random streams of a run, one for each concern.
pub(crate) struct RngStreams {
    pub(crate) network: SimRng,
    pub(crate) faults: SimRng,
    pub(crate) mining: SimRng,
    pub(crate) payments: SimRng,
    pub(crate) liars: SimRng,
}

impl RngStreams {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            network: SimRng::new(seed, "network"),
            faults: SimRng::new(seed, "faults"),
            mining: SimRng::new(seed, "mining"),
            payments: SimRng::new(seed, "wallets"),
            liars: SimRng::new(seed, "liars"),
        }
    }
}

/// A deterministic pseudo-random generator (SplitMix64). Its results are the same on
/// every machine: logarithms and the like come from `libm`, not from the platform.
#[derive(Debug, Clone)]
pub(crate) struct SimRng(u64);

impl SimRng {
    /// The stream of one concern in the run of a seed.
    #[must_use]
    pub(crate) fn new(seed: u64, concern: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(seed.to_le_bytes());
        hasher.update(concern.as_bytes());
        let hash: [u8; 32] = hasher.finalize().into();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        Self(u64::from_le_bytes(first))
    }

    /// The next of 2^64 equally likely numbers.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A whole number below `limit`; 0 if `limit` is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let scaled = (u128::from(self.next()) * limit as u128) >> 64;
        scaled as usize
    }

    /// A fraction, above 0 and at most 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// `true` with this probability.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.fraction() <= probability
    }

    /// A number between `low` and `high`, all equally likely.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.fraction()
    }

    /// The wait for the next event of a Poisson process whose events are `mean` apart on
    /// average.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -libm::log(self.fraction()) * mean
    }

    /// A normally distributed number with mean 0 and standard deviation 1 (Box and
    /// Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(self.fraction()));
        radius * libm::cos(std::f64::consts::TAU * self.fraction())
    }

    /// A log-normally distributed number about a median.
    pub(crate) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * libm::exp(sigma * self.normal())
    }

    /// One of several values, all equally likely; `None` if the slice is empty.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }
}

/// The `rsa` crate draws signature salts and test keys from this generator, so that a
/// signature is the same in each run of a seed.
impl RngCore for SimRng {
    fn next_u32(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.next()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.next().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// The generator is not cryptographically secure. It only ever signs with test keys,
/// whose signatures protect nothing.
impl CryptoRng for SimRng {}

#[cfg(test)]
mod tests {
    use super::SimRng;

    #[test]
    fn distributions_have_their_means() {
        let mut rng = SimRng::new(1, "test");
        let count = 200_000;
        let mean = |draw: &mut dyn FnMut() -> f64| {
            (0..count).map(|_| draw()).sum::<f64>() / f64::from(count)
        };
        assert!((mean(&mut || rng.fraction()) - 0.5).abs() < 0.01);
        assert!((mean(&mut || rng.exponential(10.0)) - 10.0).abs() < 0.2);
        assert!(mean(&mut || rng.normal()).abs() < 0.02);
        // The mean of a log-normal is exp(sigma²/2) medians.
        let expected = 5.0 * (0.5_f64 * 0.5 / 2.0).exp();
        assert!((mean(&mut || rng.log_normal(5.0, 0.5)) - expected).abs() < 0.1);
    }

    #[test]
    fn seed_and_concern_decide() {
        let draws = |seed, concern| {
            let mut rng = SimRng::new(seed, concern);
            [rng.next(), rng.next()]
        };
        assert_eq!(draws(1, "a"), draws(1, "a"));
        assert_ne!(draws(1, "a"), draws(2, "a"));
        assert_ne!(draws(1, "a"), draws(1, "b"));
    }
}
