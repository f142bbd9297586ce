//! The relays of a node that can't be reached from outside: how many it asks, and when it asks
//! another one. Relays forward connections to the node.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use libp2p::PeerId;
use libp2p::core::transport::ListenerId;
use lru::LruCache;

/// Relays that a node uses at the same time.
const RELAYS_MAX: usize = 2;
/// Pause before another relay is asked.
const RELAY_INTERVAL_MS: u64 = 5_000;
/// Pause before a relay is asked again that has refused, or ended its service.
const RELAY_REFUSED_MS: u64 = 600_000;
/// Relays whose refusal is remembered. The oldest is forgotten first.
const RELAYS_REFUSED_MAX: NonZeroUsize = NonZeroUsize::new(100).expect("it is not zero");

/// The relays that forward connections to this node.
pub(crate) struct RelayReservations {
    /// Whether the node needs relays.
    wanted: bool,
    listeners: HashMap<ListenerId, PeerId>,
    /// When a relay that has refused may be asked again, monotonic milliseconds.
    refused: LruCache<PeerId, u64>,
    next_ms: u64,
}

impl Default for RelayReservations {
    fn default() -> Self {
        Self {
            wanted: false,
            listeners: HashMap::new(),
            refused: LruCache::new(RELAYS_REFUSED_MAX),
            next_ms: 0,
        }
    }
}

impl RelayReservations {
    /// The node can't be reached from outside: it needs relays.
    pub(crate) fn need(&mut self) {
        self.wanted = true;
    }

    /// The node can be reached directly. Returns the listeners at relays, to be closed.
    pub(crate) fn release(&mut self) -> Vec<ListenerId> {
        self.wanted = false;
        self.listeners
            .drain()
            .map(|(listener, _)| listener)
            .collect()
    }

    /// Whether it is time to ask another relay.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        self.wanted && self.listeners.len() < RELAYS_MAX && now_ms >= self.next_ms
    }

    /// Whether this peer may be asked: it is not in use, and has not refused lately.
    pub(crate) fn may_ask(&self, relay: &PeerId, now_ms: u64) -> bool {
        let refused = self.refused.peek(relay);
        !self.listeners.values().any(|other| other == relay)
            && refused.is_none_or(|until_ms| *until_ms <= now_ms)
    }

    /// A relay is being asked now: the next one has to wait.
    pub(crate) fn asked(&mut self, now_ms: u64) {
        self.next_ms = now_ms.saturating_add(RELAY_INTERVAL_MS);
    }

    /// The node listens through a relay.
    pub(crate) fn listening(&mut self, listener: ListenerId, relay: PeerId) {
        self.listeners.insert(listener, relay);
    }

    /// A listener has ended. Returns the relay, if it was with one.
    pub(crate) fn ended(&mut self, listener: ListenerId, now_ms: u64) -> Option<PeerId> {
        let relay = self.listeners.remove(&listener)?;
        self.refuse(relay, now_ms);
        Some(relay)
    }

    /// A relay has refused: it is not asked again for a while.
    pub(crate) fn refuse(&mut self, relay: PeerId, now_ms: u64) {
        self.refused
            .put(relay, now_ms.saturating_add(RELAY_REFUSED_MS));
    }
}
