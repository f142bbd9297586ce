//! How many messages one source may send, and how much it may ask for: token buckets in a bounded
//! map. A source is a host, because new identities cost nothing. Time is an argument.

use std::num::NonZeroUsize;

use libp2p::{Multiaddr, PeerId};
use lru::LruCache;

use crate::policy::address::ip_of;
use crate::policy::ip_prefix::IpPrefix;

/// Sources that are remembered, connected or not. The least recent one is forgotten first
/// (node policy).
const SOURCES_MAX: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is not zero");

/// The unit that a rate limit holds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A host: an IPv4 address or an IPv6 /64.
    Host(IpPrefix),
    /// A single peer, where the address tells nothing: peers on this machine share one address,
    /// and peers behind a relay show the relay's.
    Peer(PeerId),
}

impl Source {
    /// The source of a peer at this address.
    #[must_use]
    pub(crate) fn of(peer: &PeerId, address: Option<&Multiaddr>) -> Self {
        let ip = address.and_then(ip_of).filter(|ip| !ip.is_loopback());
        ip.map_or(Self::Peer(*peer), |ip| Self::Host(IpPrefix::host(ip)))
    }
}

/// A token bucket for each source.
pub(crate) struct RateLimiter {
    per_ms: f64,
    burst: f64,
    buckets: LruCache<Source, TokenBucket>,
}

struct TokenBucket {
    tokens: f64,
    at_ms: u64,
}

impl RateLimiter {
    /// Allows each source `per_minute` tokens a minute, and `burst` of them at once. With 0 a
    /// minute there is no limit.
    #[must_use]
    pub(crate) fn new(per_minute: u32, burst: u32) -> Self {
        Self {
            per_ms: f64::from(per_minute) / 60_000.0,
            burst: f64::from(burst.max(1)),
            buckets: LruCache::new(SOURCES_MAX),
        }
    }

    /// Takes one token of the source at `now_ms`, monotonic milliseconds. Returns false if the
    /// source has less than one.
    pub(crate) fn take(&mut self, source: &Source, now_ms: u64) -> bool {
        if self.per_ms == 0.0 {
            return true;
        }
        let bucket = self.filled(source, now_ms);
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    /// Whether the source has any tokens left.
    pub(crate) fn is_open(&mut self, source: &Source, now_ms: u64) -> bool {
        self.per_ms == 0.0 || self.filled(source, now_ms).tokens > 0.0
    }

    /// Takes `count` tokens, even if the source has fewer. A source in debt gets nothing until
    /// its bucket has filled above zero again.
    pub(crate) fn charge(&mut self, source: &Source, count: u32, now_ms: u64) {
        if self.per_ms > 0.0 {
            self.filled(source, now_ms).tokens -= f64::from(count);
        }
    }

    fn filled(&mut self, source: &Source, now_ms: u64) -> &mut TokenBucket {
        let full = self.burst;
        let bucket = self.buckets.get_or_insert_mut(*source, || TokenBucket {
            tokens: full,
            at_ms: now_ms,
        });
        let passed = now_ms.saturating_sub(bucket.at_ms);
        // Milliseconds of decades fit a float exactly.
        bucket.tokens = (bucket.tokens + passed as f64 * self.per_ms).min(full);
        bucket.at_ms = now_ms.max(bucket.at_ms);
        bucket
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(address: &str) -> Source {
        Source::of(&PeerId::random(), Some(&address.parse().unwrap()))
    }

    #[test]
    fn a_thousand_a_minute_and_a_burst() {
        let mut limiter = RateLimiter::new(1_000, 200);
        let (source, other) = (at("/ip4/203.0.113.1/tcp/1"), at("/ip4/203.0.113.2/tcp/1"));
        let taken = (0..300).filter(|_| limiter.take(&source, 0)).count();
        assert_eq!(taken, 200);
        assert!(limiter.take(&other, 0));
        // One comes back every 60 ms.
        assert!(!limiter.take(&source, 59));
        assert!(limiter.take(&source, 61));
        assert!(!limiter.take(&source, 62));
        let taken = (0..60_000)
            .filter(|passed| limiter.take(&source, 100_000 + passed))
            .count();
        assert!((1_199..=1_201).contains(&taken), "{taken}");
    }

    #[test]
    fn zero_is_no_limit() {
        let mut limiter = RateLimiter::new(0, 1);
        let source = at("/ip4/203.0.113.1/tcp/1");
        assert!((0..10_000).all(|_| limiter.take(&source, 0)));
        limiter.charge(&source, u32::MAX, 0);
        assert!(limiter.is_open(&source, 0));
    }

    #[test]
    fn too_much_is_waited_for() {
        let mut limiter = RateLimiter::new(60_000, 100);
        let source = at("/ip4/203.0.113.1/tcp/1");
        assert!(limiter.is_open(&source, 0));
        limiter.charge(&source, 600, 0);
        assert!(!limiter.is_open(&source, 499));
        assert!(limiter.is_open(&source, 501));
    }

    #[test]
    fn identities_of_one_host_share_an_allowance() {
        for (one, same, other) in [
            (
                "/ip4/203.0.113.1/tcp/1",
                "/ip4/203.0.113.1/udp/2/quic-v1",
                "/ip4/203.0.113.2/tcp/1",
            ),
            (
                "/ip6/2001:db8::1/tcp/1",
                "/ip6/2001:db8::ffff/tcp/2",
                "/ip6/2001:db8:0:1::1/tcp/1",
            ),
            (
                "/ip4/203.0.113.1/tcp/1",
                "/ip6/::ffff:203.0.113.1/tcp/1",
                "/ip6/::ffff:203.0.113.2/tcp/1",
            ),
        ] {
            assert_eq!(at(one), at(same));
            assert_ne!(at(one), at(other));
        }
        // On this machine and behind a relay an address says nothing.
        let relayed = format!(
            "/ip4/203.0.113.1/tcp/1/p2p/{}/p2p-circuit",
            PeerId::random()
        );
        for shared in ["/ip4/127.0.0.1/tcp/1", &relayed] {
            assert_ne!(at(shared), at(shared));
        }
    }
}
