//! Which peers to connect to, and when. The dialer keeps the number of outbound connections up,
//! spreads them over providers, and pauses after failures. It only decides: the shell dials.
//!
//! 1. Peers that the operator added by hand are always dialled. They count as outbound.
//! 2. If outbound connections are missing, peers from the address book are dialled: one for each
//!    provider without an outbound peer.
//! 3. A second peer of a provider is dialled only if there is no other, and less than half of the
//!    outbound connections are up.
//! 4. Bootnodes are dialled if the book offers no peer and no dial is under way, or after 5 seconds
//!    without any outbound connection.

mod named;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::num::{NonZeroU8, NonZeroUsize};

use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use lru::LruCache;

use crate::policy::address::{PeerAddress, is_relayed};
use crate::policy::address_book::{AddressBook, DialCandidate, backoff_ms};
use crate::policy::dial_scope::DialScope;
use crate::policy::ip_prefix::{IpPrefix, provider_of};
use named::NamedPeers;

pub(crate) use named::ADDED_MAX;

/// Dials that may be under way at the same time.
const DIALS_AT_ONCE_MAX: usize = 8;
/// Outbound connections beyond the target while no blocks arrive.
const STALE_EXTRA: usize = 2;
/// After so long without any outbound connection, bootnodes are dialled although other peers are
/// known.
const LONELY_MS: u64 = 5_000;
/// Pause after a dial that this node itself refused to begin.
const NOT_BEGUN_MS: u64 = 5_000;
/// Avoided peers that are remembered. The oldest is forgotten first.
const AVOIDED_MAX: NonZeroUsize = NonZeroUsize::new(1_000).expect("it is not zero");

/// A dial under way. Its address is kept only if the operator named it.
#[derive(Debug, Clone)]
struct PendingDial {
    peer: Option<PeerId>,
    address: Option<Multiaddr>,
}

/// The connected peers, as the dialer needs to know them.
#[derive(Debug, Default)]
pub(crate) struct ConnectedPeers {
    /// Peers that connected to us, or that the dialer chose.
    pub(crate) connected: HashSet<PeerId>,
    /// Peers that are connected only because a protocol needed them for a lookup or a probe.
    pub(crate) incidental: HashSet<PeerId>,
    /// Admitted peers that the dialer chose.
    pub(crate) outbound: HashSet<PeerId>,
    /// The providers of the outbound peers.
    pub(crate) providers: HashSet<IpPrefix>,
}

/// What the shell has to do for the dialer.
#[derive(Debug, Default)]
pub(crate) struct DialPlan {
    /// Dials to begin.
    pub(crate) dials: Vec<DialOpts>,
    /// Peers to keep, since a protocol has connected to them already.
    pub(crate) adopt: Vec<PeerId>,
}

/// Decides which peers to dial: those of the address book, and those that the operator named.
pub(crate) struct Dialer {
    /// The peers that the node knows of.
    pub(crate) book: AddressBook,
    dial_scope: DialScope,
    outbound_target: usize,
    /// Whether no blocks have arrived for so long that the node looks for more peers.
    stale: bool,
    named: NamedPeers,
    dials: HashMap<ConnectionId, PendingDial>,
    avoided: LruCache<PeerId, u64>,
    lonely_since_ms: Option<u64>,
}

impl Dialer {
    /// A dialer that keeps `outbound_target` outbound connections up.
    #[must_use]
    pub(crate) fn new(
        book: AddressBook,
        outbound_target: usize,
        bootnodes: &[PeerAddress],
        dial_scope: DialScope,
    ) -> Self {
        for address in bootnodes {
            dial_scope.note_named(address);
        }
        Self {
            book,
            dial_scope,
            outbound_target,
            stale: false,
            named: NamedPeers::new(bootnodes),
            dials: HashMap::new(),
            avoided: LruCache::new(AVOIDED_MAX),
            lonely_since_ms: None,
        }
    }

    /// How many outbound connections there should be.
    #[must_use]
    pub(crate) fn outbound_target(&self) -> usize {
        self.outbound_target + if self.stale { STALE_EXTRA } else { 0 }
    }

    /// Tells whether no block has arrived for a long time. The peers may be withholding blocks, so
    /// the dialer connects to others as well.
    pub(crate) fn set_stale(&mut self, stale: bool) {
        self.stale = stale;
    }

    /// Adds a peer by hand, to be kept connected. Returns false if there are too many.
    pub(crate) fn add(&mut self, address: PeerAddress) -> bool {
        if let Some(peer) = address.peer {
            self.avoided.pop(&peer);
        }
        if self.named.is_added_at(&address) {
            return true;
        }
        if !self.named.has_room() {
            return false;
        }
        self.dial_scope.note_named(&address);
        self.named.add(address);
        true
    }

    /// Forgets a peer, and does not dial it before `until_ms`. Returns whether it was known.
    pub(crate) fn remove(&mut self, peer: &PeerId, until_ms: u64) -> bool {
        let before = self.named.len() + self.book.len();
        self.named.remove(peer);
        self.book.forget(peer);
        self.avoid(*peer, until_ms);
        self.named.len() + self.book.len() < before
    }

    /// Does not dial a peer before `until_ms`, monotonic milliseconds.
    pub(crate) fn avoid(&mut self, peer: PeerId, until_ms: u64) {
        self.avoided.put(peer, until_ms);
    }

    /// Whether a peer was added by hand.
    #[must_use]
    pub(crate) fn is_added(&self, peer: &PeerId) -> bool {
        self.named.is_added(peer)
    }

    /// The dials to begin at `now_ms`, monotonic milliseconds.
    pub(crate) fn due(&mut self, now_ms: u64, present: &ConnectedPeers) -> DialPlan {
        let mut due = DialPlan::default();
        for index in 0..self.named.len() {
            if self.named.get(index).is_some_and(|one| one.added) {
                self.dial_if_due(index, now_ms, present, &mut due);
            }
        }
        let under_way = self.dials.len();
        let wanted = self
            .outbound_target()
            .saturating_sub(present.outbound.len() + under_way)
            .min(DIALS_AT_ONCE_MAX.saturating_sub(under_way));
        if wanted == 0 {
            return due;
        }
        let chosen = self.choose(now_ms, present, wanted);
        let none_known = chosen.is_empty() && under_way == 0;
        for one in chosen {
            if present.incidental.contains(&one.peer) {
                due.adopt.push(one.peer);
            } else {
                due.dials.push(self.dial_candidate(one));
            }
        }
        if none_known || self.is_lonely(now_ms, present) {
            for index in 0..self.named.len() {
                self.dial_if_due(index, now_ms, present, &mut due);
            }
        }
        due
    }

    fn is_lonely(&mut self, now_ms: u64, present: &ConnectedPeers) -> bool {
        if !present.outbound.is_empty() {
            self.lonely_since_ms = None;
            return false;
        }
        let since = *self.lonely_since_ms.get_or_insert(now_ms);
        now_ms.saturating_sub(since) >= LONELY_MS
    }

    fn is_avoided(&mut self, peer: &PeerId, now_ms: u64) -> bool {
        match self.avoided.peek(peer) {
            Some(until_ms) if *until_ms > now_ms => true,
            Some(_) => {
                self.avoided.pop(peer);
                false
            }
            None => false,
        }
    }

    /// Up to `wanted` peers from the book, by the rules 2 and 3 above.
    fn choose(
        &mut self,
        now_ms: u64,
        present: &ConnectedPeers,
        wanted: usize,
    ) -> Vec<DialCandidate> {
        let dialling: HashSet<_> = self.dials.values().filter_map(|dial| dial.peer).collect();
        let candidates: Vec<_> = self
            .book
            .candidates(now_ms)
            .into_iter()
            .filter(|one| {
                !present.connected.contains(&one.peer)
                    && !dialling.contains(&one.peer)
                    && !self.is_avoided(&one.peer, now_ms)
            })
            .collect();
        let mut taken = present.providers.clone();
        let (mut chosen, mut spare) = (Vec::new(), Vec::new());
        for candidate in candidates {
            if chosen.len() == wanted {
                return chosen;
            }
            match candidate.provider {
                Some(provider) if !taken.insert(provider) => spare.push(candidate),
                _ => chosen.push(candidate),
            }
        }
        if chosen.is_empty() && present.outbound.len() < self.outbound_target / 2 {
            chosen.extend(spare.into_iter().take(1));
        }
        chosen
    }

    fn dial_candidate(&mut self, candidate: DialCandidate) -> DialOpts {
        for address in &candidate.addresses {
            self.dial_scope.permit(address);
        }
        let through_relay = candidate.addresses.iter().any(is_relayed);
        let mut options = DialOpts::peer_id(candidate.peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(candidate.addresses);
        if through_relay {
            // One address after the other: relays are the last resort.
            options = options.override_dial_concurrency_factor(NonZeroU8::MIN);
        }
        let options = options.build();
        let dial = PendingDial {
            peer: Some(candidate.peer),
            address: None,
        };
        self.dials.insert(options.connection_id(), dial);
        options
    }

    fn dial_if_due(
        &mut self,
        index: usize,
        now_ms: u64,
        present: &ConnectedPeers,
        due: &mut DialPlan,
    ) {
        let Some(one) = self.named.get(index) else {
            return;
        };
        let under_way = self
            .dials
            .values()
            .any(|dial| dial.address.as_ref() == Some(&one.address.address));
        if under_way || one.next_ms > now_ms {
            return;
        }
        let address = one.address.clone();
        if let Some(peer) = one.peer() {
            if present.connected.contains(&peer) || self.is_avoided(&peer, now_ms) {
                return;
            }
            if present.incidental.contains(&peer) {
                return due.adopt.push(peer);
            }
        }
        due.dials.push(self.dial_named(&address));
    }

    /// A dial of an address that the operator named.
    pub(crate) fn dial_named(&mut self, address: &PeerAddress) -> DialOpts {
        self.dial_scope.permit(&address.address);
        let options = match address.peer {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(vec![address.address.clone()])
                .build(),
            None => DialOpts::unknown_peer_id()
                .address(address.address.clone())
                .build(),
        };
        let dial = PendingDial {
            peer: address.peer,
            address: Some(address.address.clone()),
        };
        self.dials.insert(options.connection_id(), dial);
        options
    }

    /// Notes that a dial has led to a peer. Returns whether it was a dial of this dialer.
    pub(crate) fn connected(&mut self, connection: ConnectionId, peer: PeerId) -> bool {
        let Some(dial) = self.dials.remove(&connection) else {
            return false;
        };
        if let Some(address) = &dial.address {
            self.named.led_to(address, peer);
        }
        true
    }

    /// Notes that a peer is on our network: it may be dialled again at once if it is lost.
    pub(crate) fn mark_useful(&mut self, peer: PeerId) {
        self.named.mark_useful(peer);
    }

    /// Notes that a dial has failed.
    pub(crate) fn dial_failed(&mut self, connection: ConnectionId, now_ms: u64) {
        let Some(dial) = self.dials.remove(&connection) else {
            return;
        };
        if let Some(peer) = &dial.peer {
            self.book.dial_failed(peer, now_ms);
        }
        if let Some(address) = &dial.address {
            self.named.failed_at(address, now_ms);
        }
    }

    /// Notes that this node itself refused to begin a dial. That is no failure of the peer, but it
    /// is not dialled again at once.
    pub(crate) fn dial_not_begun(&mut self, connection: ConnectionId, now_ms: u64) {
        let Some(dial) = self.dials.remove(&connection) else {
            return;
        };
        let later_ms = now_ms.saturating_add(NOT_BEGUN_MS);
        if let Some(peer) = &dial.peer {
            self.book.postpone(peer, later_ms);
        }
        if let Some(address) = &dial.address {
            self.named.postpone(address, later_ms);
        }
    }

    /// Notes that a peer is of no use, for example because it is on another network.
    pub(crate) fn mark_useless(&mut self, peer: &PeerId, now_ms: u64) {
        self.book.dial_failed(peer, now_ms);
        self.avoid(*peer, now_ms.saturating_add(backoff_ms(8)));
        self.named.failed(peer, now_ms);
    }

    /// Removes an address that has led back to this node itself.
    pub(crate) fn remove_own_address(&mut self, address: &Multiaddr) {
        let address = PeerAddress::split(address.clone()).address;
        self.named.remove_address(&address);
    }
}

/// The providers of these addresses.
#[must_use]
pub(crate) fn providers<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> HashSet<IpPrefix> {
    addresses.filter_map(provider_of).collect()
}
