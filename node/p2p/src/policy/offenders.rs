//! Hosts whose peers were banned lately, so that a second ban in a day can include the host.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::policy::bans::Subject;

/// A host is banned only if the last ban of one of its peers is no older than this, seconds. A
/// single peer's offence may be an accident.
const REPEAT_SECS: u64 = 86_400;
/// Hosts that are remembered. The least recent one is forgotten first.
const OFFENDERS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("it is not zero");

/// Hosts, and when a peer of each was last banned, Unix seconds.
pub(crate) struct Offenders(LruCache<Subject, u64>);

impl Offenders {
    pub(crate) fn new() -> Self {
        Self(LruCache::new(OFFENDERS_MAX))
    }

    /// Notes that a peer of a host is banned. Returns whether this is not the first ban within a
    /// day.
    pub(crate) fn is_repeated(&mut self, host: Subject, now: u64) -> bool {
        let before = self.0.put(host, now);
        before.is_some_and(|before| now.saturating_sub(before) < REPEAT_SECS)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_banned_only_on_repeat() {
        let mut offenders = Offenders::new();
        let [host, other] = ["203.0.113.1", "203.0.113.2"].map(|ip| {
            let ip = ip.parse().unwrap();
            Subject::host(ip).unwrap()
        });
        assert!(!offenders.is_repeated(host, 1_000));
        assert!(!offenders.is_repeated(other, 1_000));
        assert!(offenders.is_repeated(host, 2_000));
        assert!(!offenders.is_repeated(host, 2_000 + REPEAT_SECS));
    }
}
