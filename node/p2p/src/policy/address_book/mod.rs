//! The address book: peers that this node knows of, kept across restarts, with their addresses,
//! the time of the last successful connection, and whether they are *anchors*. Anchors are peers
//! that were connected before the restart. They are dialled first, so that a restart doesn't
//! hand the node to attackers who answer fastest.
//!
//! Peers can lie about the addresses of other peers. Therefore:
//!
//! 1. An address that has led to a peer stays, whatever any peer says.
//! 2. Addresses that a peer claims for itself replace those that other peers told (hearsay).
//! 3. Hearsay counts only for a peer of which nothing better is known.
//! 4. The book is bounded, in all and for each provider, so that no one can fill it with
//!    addresses of one network.
//! 5. In a full book, hearsay leaves at random for newcomers: to be there first is no advantage.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use libp2p::{Multiaddr, PeerId};
use rand::Rng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::files;
use crate::policy::address::{PeerAddress, is_relayed};
use crate::policy::address_scope::AddressScope;
use crate::policy::ip_prefix::{IpPrefix, provider_of};

/// The file within the data directory.
pub(crate) const FILE_NAME: &str = "peers.toml";
/// Peers that this node has once been connected to (*tried*).
const TRIED_MAX: usize = 1_000;
/// Peers that are known by hearsay or by their own claims only (*untried*).
const UNTRIED_MAX: usize = 1_000;
/// Tried peers of one provider, and the same number of untried ones.
const PER_PROVIDER_MAX: usize = 64;
/// Addresses that are kept of one peer.
const ADDRESSES_MAX: usize = 4;
/// Longest address that is kept, bytes.
const ADDRESS_BYTES_MAX: usize = 200;
/// Failed dials in a row after which an untried peer is forgotten.
const UNTRIED_FAILURES_MAX: u32 = 3;
/// Failed dials in a row after which a tried peer is forgotten.
const TRIED_FAILURES_MAX: u32 = 20;
/// Pause after the first failed dial. It doubles with each further one.
const BACKOFF_FIRST_MS: u64 = 2_000;
/// The longest pause between two dials.
const BACKOFF_MAX_MS: u64 = 3_600_000;

#[derive(Default, Serialize, Deserialize)]
struct AddressBookFile {
    #[serde(default)]
    peer: Vec<PeerRecord>,
}

#[derive(Serialize, Deserialize)]
struct PeerRecord {
    id: String,
    addresses: Vec<Multiaddr>,
    #[serde(default)]
    last_success: u64,
    #[serde(default)]
    anchor: bool,
}

/// A peer that may be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DialCandidate {
    pub(crate) peer: PeerId,
    /// Addresses to be tried, the best first.
    pub(crate) addresses: Vec<Multiaddr>,
    /// The peer's provider; `None` on this machine and behind names.
    pub(crate) provider: Option<IpPrefix>,
}

/// What the book holds of one peer.
#[derive(Debug, Clone, Default)]
struct KnownPeer {
    /// The address at which the peer was last reached.
    proven: Option<Multiaddr>,
    /// Addresses that the peer claims for itself.
    claimed: Vec<Multiaddr>,
    /// Addresses that other peers told.
    hearsay: Vec<Multiaddr>,
    /// When the peer was last reached, Unix seconds; 0 for never.
    last_success: u64,
    anchor: bool,
    failures: u32,
    /// When the peer may be dialled again, monotonic milliseconds.
    next_dial_ms: u64,
}

impl KnownPeer {
    fn is_tried(&self) -> bool {
        self.last_success > 0
    }

    /// The peer's addresses, direct ones before those through a relay. Within each, the proven one
    /// comes first, then claims, then hearsay.
    fn addresses(&self) -> Vec<Multiaddr> {
        let told = self.claimed.iter().chain(&self.hearsay);
        let told = told.filter(|address| Some(*address) != self.proven.as_ref());
        let mut all: Vec<_> = self.proven.iter().chain(told).cloned().collect();
        all.sort_by_key(is_relayed);
        all.truncate(ADDRESSES_MAX);
        all
    }

    /// The provider of the proven address; without one, of the first address that was told. Other
    /// peers must not be able to move a peer into a crowded provider.
    fn provider(&self) -> Option<IpPrefix> {
        let told = self.claimed.iter().chain(&self.hearsay);
        provider_of(self.proven.iter().chain(told).next()?)
    }
}

/// The peers that this node knows, each with up to four addresses. They are kept in a file.
pub(crate) struct AddressBook {
    own: PeerId,
    peers: HashMap<PeerId, KnownPeer>,
    path: PathBuf,
    changed: bool,
}

impl AddressBook {
    /// Reads the book of a data directory. `own`, this node's identity, is never listed.
    #[must_use]
    pub(crate) fn open(data_dir: &Path, own: PeerId) -> Self {
        let path = data_dir.join(FILE_NAME);
        let file: AddressBookFile = files::read_or_default(&path);
        let mut book = Self {
            own,
            peers: HashMap::new(),
            path,
            changed: false,
        };
        for record in file.peer.into_iter().take(TRIED_MAX + UNTRIED_MAX) {
            let Ok(peer) = record.id.parse() else {
                continue;
            };
            if record.last_success == 0 {
                book.add_hearsay(peer, record.addresses);
                continue;
            }
            let mut addresses = record.addresses.into_iter().filter(fits);
            if let Some(address) = addresses.next() {
                book.reached(peer, address, record.last_success);
                book.set_claimed(peer, addresses.collect());
            }
            if let Some(entry) = book.peers.get_mut(&peer) {
                entry.anchor = record.anchor;
            }
        }
        book.changed = false;
        book
    }

    /// Replaces the addresses that a peer claims for itself, and drops all hearsay about it.
    pub(crate) fn set_claimed(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let addresses = bounded(addresses);
        if peer == self.own || addresses.is_empty() {
            return;
        }
        if !self.peers.contains_key(&peer) && !self.make_room(&addresses, false) {
            return;
        }
        let entry = self.peers.entry(peer).or_default();
        self.changed |= entry.claimed != addresses;
        entry.claimed = addresses;
        entry.hearsay.clear();
    }

    /// Adds addresses that other peers told of a peer, if nothing better is known.
    pub(crate) fn add_hearsay(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let addresses = bounded(addresses);
        if peer == self.own || addresses.is_empty() {
            return;
        }
        if let Some(entry) = self.peers.get_mut(&peer) {
            if entry.proven.is_some() || !entry.claimed.is_empty() {
                return;
            }
            for address in addresses {
                if entry.hearsay.contains(&address) {
                    continue;
                }
                if entry.hearsay.len() >= ADDRESSES_MAX {
                    // The addresses that came first may be lies.
                    let place = rand::rng().random_range(0..entry.hearsay.len());
                    entry.hearsay.swap_remove(place);
                }
                entry.hearsay.push(address);
                self.changed = true;
            }
            return;
        }
        if self.make_room(&addresses, false) {
            let entry = KnownPeer {
                hearsay: addresses,
                ..KnownPeer::default()
            };
            self.peers.insert(peer, entry);
            self.changed = true;
        }
    }

    /// Makes room for one more tried or untried peer at these addresses. If its provider has its
    /// full share, a peer of that provider leaves; otherwise, if the book is full, any peer of
    /// the same kind. Returns false if only anchors are left.
    fn make_room(&mut self, addresses: &[Multiaddr], tried: bool) -> bool {
        let most = if tried { TRIED_MAX } else { UNTRIED_MAX };
        let provider = addresses.first().and_then(provider_of);
        let same_kind = || self.peers.iter().filter(|(_, one)| one.is_tried() == tried);
        let of_provider = || {
            let same = move |one: &KnownPeer| provider.is_some() && one.provider() == provider;
            same_kind().filter(move |(_, one)| same(one))
        };
        let leaving = if of_provider().count() >= PER_PROVIDER_MAX {
            pick_leaving(of_provider(), tried)
        } else if same_kind().count() >= most {
            pick_leaving(same_kind(), tried)
        } else {
            return true;
        };
        leaving.is_some_and(|peer| {
            self.forget(&peer);
            true
        })
    }

    /// Notes that a connection to this address led to the peer; `now` is Unix seconds.
    pub(crate) fn reached(&mut self, peer: PeerId, address: Multiaddr, now: u64) {
        if peer == self.own || is_relayed(&address) || !fits(&address) {
            return;
        }
        let known = self.peers.get(&peer).is_some_and(KnownPeer::is_tried);
        if !known && !self.make_room(std::slice::from_ref(&address), true) {
            return;
        }
        let entry = self.peers.entry(peer).or_default();
        entry.hearsay.clear();
        entry.proven = Some(address);
        entry.last_success = now.max(1);
        entry.failures = 0;
        entry.next_dial_ms = 0;
        self.changed = true;
    }

    /// Notes a failed dial, or a useless peer: it is dialled later, or forgotten after too many
    /// failures.
    pub(crate) fn dial_failed(&mut self, peer: &PeerId, now_ms: u64) {
        let Some(entry) = self.peers.get_mut(peer) else {
            return;
        };
        entry.failures = entry.failures.saturating_add(1);
        entry.next_dial_ms = now_ms.saturating_add(backoff_ms(entry.failures));
        let failures_max = if entry.is_tried() {
            TRIED_FAILURES_MAX
        } else {
            UNTRIED_FAILURES_MAX
        };
        if entry.failures >= failures_max {
            self.forget(&peer.clone());
        }
    }

    /// Keeps a peer from being dialled before `later_ms`.
    pub(crate) fn postpone(&mut self, peer: &PeerId, later_ms: u64) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.next_dial_ms = entry.next_dial_ms.max(later_ms);
        }
    }

    /// Removes a peer from the book.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.changed |= self.peers.remove(peer).is_some();
    }

    /// Marks the anchors. While these are fewer than `most`, anchors of the last time stay as
    /// well: they are still the best guess.
    pub(crate) fn set_anchors(&mut self, anchors: &[PeerId], most: usize) {
        let known = anchors.iter().filter(|peer| self.peers.contains_key(peer));
        let mut spare = most.saturating_sub(known.count());
        for (peer, entry) in &mut self.peers {
            let mut anchor = anchors.contains(peer);
            if !anchor && entry.anchor && spare > 0 {
                anchor = true;
                spare -= 1;
            }
            self.changed |= anchor != entry.anchor;
            entry.anchor = anchor;
        }
    }

    /// Peers that may be dialled at `now_ms`: anchors first, then tried peers, then untried ones,
    /// each in random order.
    #[must_use]
    pub(crate) fn candidates(&self, now_ms: u64) -> Vec<DialCandidate> {
        let mut due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.next_dial_ms <= now_ms)
            .collect();
        due.shuffle(&mut rand::rng());
        due.sort_by_key(|(_, entry)| (!entry.anchor, !entry.is_tried()));
        due.into_iter()
            .map(|(peer, entry)| DialCandidate {
                peer: *peer,
                addresses: entry.addresses(),
                provider: entry.provider(),
            })
            .collect()
    }

    /// How many peers are known.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// If the book changed since the last call, returns a closure that writes it to disk. It has
    /// to run where blocking is allowed.
    pub(crate) fn unsaved(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let peers = self.peers.iter();
        let mut peer: Vec<_> = peers
            .map(|(peer, entry)| PeerRecord {
                id: peer.to_string(),
                addresses: entry.addresses(),
                last_success: entry.last_success,
                anchor: entry.anchor,
            })
            .collect();
        peer.sort_by(|a, b| b.last_success.cmp(&a.last_success).then(a.id.cmp(&b.id)));
        let (file, path) = (AddressBookFile { peer }, self.path.clone());
        Some(move || {
            if let Err(error) = files::write(&path, &file) {
                warn!(file = %path.display(), %error, "the known peers can't be written");
            }
        })
    }
}

/// The pause after so many failures in a row, milliseconds. It doubles with each failure, and is
/// random between a half and the whole of that, so that nodes that lost a peer together don't
/// return together. After three failures it is between 4 s and 8 s.
#[must_use]
pub(crate) fn backoff_ms(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = (BACKOFF_FIRST_MS << doublings).min(BACKOFF_MAX_MS);
    rand::rng().random_range(pause / 2..=pause)
}

/// The believable part of the addresses that a peer at `remote` claims for itself: no host names,
/// and no address nearer to us than the peer itself. Addresses through a relay come last.
#[must_use]
pub(crate) fn believable(claimed: Vec<Multiaddr>, remote: &Multiaddr) -> Vec<Multiaddr> {
    let from = AddressScope::of(remote).filter(|_| !is_relayed(remote));
    let from = from.unwrap_or(AddressScope::Public);
    let mut usable: Vec<_> = claimed
        .into_iter()
        .map(|address| PeerAddress::split(address).address)
        .filter(|address| fits(address) && from.may_advertise(address))
        .collect();
    usable.sort_by_key(is_relayed);
    usable.dedup();
    usable.truncate(ADDRESSES_MAX);
    usable
}

fn bounded(mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    addresses.retain(fits);
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// Picks the peer that leaves for a newcomer, never an anchor: of tried peers the one that was
/// reached longest ago, of untried peers a random one.
fn pick_leaving<'a>(
    peers: impl Iterator<Item = (&'a PeerId, &'a KnownPeer)>,
    tried: bool,
) -> Option<PeerId> {
    let peers = peers.filter(|(_, entry)| !entry.anchor);
    let leaving = if tried {
        peers.min_by_key(|(_, entry)| entry.last_success)
    } else {
        let peers: Vec<_> = peers.collect();
        peers.choose(&mut rand::rng()).copied()
    };
    leaving.map(|(peer, _)| *peer)
}

fn fits(address: &Multiaddr) -> bool {
    !address.is_empty() && address.len() <= ADDRESS_BYTES_MAX
}
