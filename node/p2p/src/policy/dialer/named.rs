//! Peers that the operator named: bootnodes, and peers added by hand. Each has a pause of its own
//! between dials.

use libp2p::{Multiaddr, PeerId};

use crate::policy::address::PeerAddress;
use crate::policy::address_book::backoff_ms;

/// Peers that the operator may add by hand.
pub(crate) const ADDED_MAX: usize = 64;
/// The pause between dials grows up to that after this many failures. It is shorter than for other
/// peers, because the operator wants these.
const FAILURES_COUNTED_MAX: u32 = 6;

/// A peer that the operator named.
#[derive(Debug)]
pub(super) struct NamedPeer {
    pub(super) address: PeerAddress,
    /// The peer that a dial of this address has led to.
    known_as: Option<PeerId>,
    failures: u32,
    /// When to dial it again, monotonic milliseconds.
    pub(super) next_ms: u64,
    /// Whether it was added by hand, rather than as a bootnode.
    pub(super) added: bool,
}

impl NamedPeer {
    pub(super) fn peer(&self) -> Option<PeerId> {
        self.address.peer.or(self.known_as)
    }
}

/// All peers that the operator named.
#[derive(Debug)]
pub(super) struct NamedPeers(Vec<NamedPeer>);

impl NamedPeers {
    pub(super) fn new(bootnodes: &[PeerAddress]) -> Self {
        let bootnodes = bootnodes.iter().map(|address| NamedPeer {
            address: address.clone(),
            known_as: None,
            failures: 0,
            next_ms: 0,
            added: false,
        });
        Self(bootnodes.collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&NamedPeer> {
        self.0.get(index)
    }

    /// Whether a peer may be added by hand.
    pub(super) fn has_room(&self) -> bool {
        self.0.iter().filter(|one| one.added).count() < ADDED_MAX
    }

    /// Adds a peer by hand. The caller makes the first dial.
    pub(super) fn add(&mut self, address: PeerAddress) {
        self.0.push(NamedPeer {
            address,
            known_as: None,
            failures: 0,
            next_ms: u64::MAX,
            added: true,
        });
    }

    /// Removes a peer that was added by hand. Bootnodes stay.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.0.retain(|one| !one.added || one.peer() != Some(*peer));
    }

    pub(super) fn remove_address(&mut self, address: &Multiaddr) {
        self.0.retain(|one| one.address.address != *address);
    }

    pub(super) fn is_added(&self, peer: &PeerId) -> bool {
        let mut all = self.0.iter();
        all.any(|one| one.added && one.peer() == Some(*peer))
    }

    pub(super) fn is_added_at(&self, address: &PeerAddress) -> bool {
        self.0
            .iter()
            .any(|one| one.added && one.address == *address)
    }

    fn at(&mut self, address: &Multiaddr) -> impl Iterator<Item = &mut NamedPeer> {
        let all = self.0.iter_mut();
        all.filter(move |one| one.address.address == *address)
    }

    /// Notes that a dial of an address has led to a peer.
    pub(super) fn led_to(&mut self, address: &Multiaddr, peer: PeerId) {
        for one in self.at(address) {
            one.known_as = Some(peer);
        }
    }

    /// Notes that a peer is on our network: it may be dialled again at once if it is lost.
    pub(super) fn mark_useful(&mut self, peer: PeerId) {
        for one in self.0.iter_mut().filter(|one| one.peer() == Some(peer)) {
            one.failures = 0;
            one.next_ms = 0;
        }
    }

    /// Does not dial an address before `later_ms`.
    pub(super) fn postpone(&mut self, address: &Multiaddr, later_ms: u64) {
        for one in self.at(address) {
            one.next_ms = later_ms;
        }
    }

    /// Notes that a dial of an address has failed.
    pub(super) fn failed_at(&mut self, address: &Multiaddr, now_ms: u64) {
        for one in self.at(address) {
            back_off(one, now_ms);
        }
    }

    /// Notes that a peer is of no use.
    pub(super) fn failed(&mut self, peer: &PeerId, now_ms: u64) {
        for one in self.0.iter_mut().filter(|one| one.peer() == Some(*peer)) {
            back_off(one, now_ms);
        }
    }
}

fn back_off(one: &mut NamedPeer, now_ms: u64) {
    one.failures = one.failures.saturating_add(1);
    let failures = one.failures.min(FAILURES_COUNTED_MAX);
    one.next_ms = now_ms.saturating_add(backoff_ms(failures));
}
