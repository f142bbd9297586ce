//! How much one peer may ask and tell: token buckets in a bounded map.

use std::num::NonZeroUsize;

use libp2p::PeerId;
use lru::LruCache;

/// Peers whose rates are remembered, also when they are gone; the least recent
/// goes first (protocol §12).
const PEERS_MAX: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is not zero");

/// A rate for each peer.
pub(super) struct RateLimiter {
    per_ms: f64,
    burst: f64,
    buckets: LruCache<PeerId, Bucket>,
}

struct Bucket {
    tokens: f64,
    at_ms: u64,
}

impl RateLimiter {
    /// `per_minute` for each peer, `burst` of them at once; 0 a minute: no limit.
    #[must_use]
    pub(super) fn new(per_minute: u32, burst: u32) -> Self {
        Self {
            per_ms: f64::from(per_minute) / 60_000.0,
            burst: f64::from(burst.max(1)),
            buckets: LruCache::new(PEERS_MAX),
        }
    }

    /// Takes one from the peer's allowance at `now_ms`, monotonic milliseconds;
    /// false if it is used up.
    pub(super) fn take(&mut self, peer: &PeerId, now_ms: u64) -> bool {
        if self.per_ms == 0.0 {
            return true;
        }
        let full = self.burst;
        let bucket = self.buckets.get_or_insert_mut(*peer, || Bucket {
            tokens: full,
            at_ms: now_ms,
        });
        let passed = now_ms.saturating_sub(bucket.at_ms);
        // Milliseconds of decades fit a float exactly.
        bucket.tokens = (bucket.tokens + passed as f64 * self.per_ms).min(full);
        bucket.at_ms = now_ms.max(bucket.at_ms);
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_a_minute_and_a_burst() {
        let mut limiter = RateLimiter::new(1_000, 200);
        let (peer, other) = (PeerId::random(), PeerId::random());
        let taken = (0..300).filter(|_| limiter.take(&peer, 0)).count();
        assert_eq!(taken, 200);
        assert!(limiter.take(&other, 0));
        // One comes back every 60 ms.
        assert!(!limiter.take(&peer, 59));
        assert!(limiter.take(&peer, 61));
        assert!(!limiter.take(&peer, 62));
        let taken = (0..60_000)
            .filter(|passed| limiter.take(&peer, 100_000 + passed))
            .count();
        assert!((1_199..=1_201).contains(&taken), "{taken}");
    }

    #[test]
    fn zero_is_no_limit() {
        let mut limiter = RateLimiter::new(0, 1);
        let peer = PeerId::random();
        assert!((0..10_000).all(|_| limiter.take(&peer, 0)));
    }
}
