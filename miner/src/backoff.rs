//! Pauses between attempts to reach a node. This file knows nothing of nodes.

use std::time::Duration;

use rand::Rng;

const FIRST: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(10);

/// Pauses that double from 0.2 s up to 10 s.
///
/// Each pause is shortened at random by up to half. Without this, all miners of a
/// restarted node would come back at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure and returns the pause that follows it.
    pub(crate) fn next_pause(&mut self, random: &mut impl Rng) -> Duration {
        // 2^6 · 0.2 s = 12.8 s, which is above the maximum.
        let pause = (FIRST * (1 << self.failures.min(6))).min(MAX);
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(random.random_range(0.5..=1.0))
    }

    /// Makes the next pause the shortest again, after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over() {
        let mut random = rand::rng();
        let mut backoff = Backoff::default();
        let mut upper = FIRST;
        for _ in 0..20 {
            let pause = backoff.next_pause(&mut random);
            assert!(
                pause >= upper / 2 && pause <= upper,
                "{pause:?} of {upper:?}"
            );
            upper = (upper * 2).min(MAX);
        }
        assert_eq!(upper, MAX);
        backoff.reset();
        assert!(backoff.next_pause(&mut random) <= FIRST);
    }
}
