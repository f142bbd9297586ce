//! The peers that this node knows of, kept across restarts: where they are, when
//! a connection to them last succeeded, and which were connected last
//! (anchors, dialled first, so that a restart doesn't hand the node to whoever
//! answers fastest).
//!
//! Bounded in all, and per provider, so that nobody can fill it with addresses
//! of one network.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use libp2p::{Multiaddr, PeerId};
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::address::{Network, ip_of, is_loopback, is_relayed};
use super::files;

/// The file within the data directory.
pub(super) const FILE_NAME: &str = "peers.toml";
/// Peers that were connected to once.
const TRIED_MAX: usize = 1_000;
/// Peers of hearsay.
const UNTRIED_MAX: usize = 1_000;
/// Peers of hearsay from one provider.
const UNTRIED_PER_PROVIDER_MAX: usize = 64;
/// Addresses of one peer.
const ADDRESSES_MAX: usize = 4;
/// Longest address that is kept, bytes.
const ADDRESS_BYTES_MAX: usize = 200;
/// Failed dials in a row after which hearsay is forgotten.
const UNTRIED_FAILURES_MAX: u32 = 3;
/// Failed dials in a row after which a peer that answered once is forgotten.
const TRIED_FAILURES_MAX: u32 = 20;
/// Pause after the first failed dial; it doubles with each.
const BACKOFF_FIRST_MS: u64 = 2_000;
/// The longest pause between two dials.
const BACKOFF_MAX_MS: u64 = 3_600_000;

#[derive(Default, Serialize, Deserialize)]
struct BookFile {
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
pub(super) struct Candidate {
    /// Who.
    pub(super) peer: PeerId,
    /// Where, all to be tried.
    pub(super) addresses: Vec<Multiaddr>,
}

impl Candidate {
    /// The providers of its addresses, as far as they count: private networks
    /// are not the Internet's.
    pub(super) fn providers(&self) -> impl Iterator<Item = Network> + '_ {
        self.addresses.iter().filter_map(provider_of)
    }
}

/// The provider of an address on the open Internet.
#[must_use]
pub(super) fn provider_of(address: &Multiaddr) -> Option<Network> {
    let ip = ip_of(address)?;
    let open = match ip {
        std::net::IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
        std::net::IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    };
    open.then(|| Network::provider(ip))
}

/// What is known of one peer.
#[derive(Debug, Clone, Default)]
struct Entry {
    addresses: Vec<Multiaddr>,
    /// Unix seconds; 0: never.
    last_success: u64,
    anchor: bool,
    failures: u32,
    /// Monotonic milliseconds.
    next_dial_ms: u64,
}

/// The known peers.
pub(super) struct Book {
    own: PeerId,
    peers: HashMap<PeerId, Entry>,
    path: PathBuf,
    changed: bool,
}

impl Book {
    /// Reads the book of a data directory; `own` is never in it.
    #[must_use]
    pub(super) fn open(data_dir: &Path, own: PeerId) -> Self {
        let path = data_dir.join(FILE_NAME);
        let file: BookFile = files::read_or_default(&path);
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
            book.learn(peer, record.addresses);
            if let Some(entry) = book.peers.get_mut(&peer) {
                entry.last_success = record.last_success;
                entry.anchor = record.anchor;
            }
        }
        book.changed = false;
        book
    }

    /// Takes note of where a peer is said to be.
    pub(super) fn learn(&mut self, peer: PeerId, addresses: impl IntoIterator<Item = Multiaddr>) {
        let mut addresses: Vec<_> = addresses
            .into_iter()
            .filter(|address| {
                !address.is_empty() && address.len() <= ADDRESS_BYTES_MAX && !is_relayed(address)
            })
            .take(ADDRESSES_MAX)
            .collect();
        if peer == self.own || addresses.is_empty() {
            return;
        }
        if let Some(entry) = self.peers.get_mut(&peer) {
            // Addresses that have worked stay in front.
            for address in addresses {
                if !entry.addresses.contains(&address) && entry.addresses.len() < ADDRESSES_MAX {
                    entry.addresses.push(address);
                    self.changed = true;
                }
            }
            return;
        }
        addresses.dedup();
        if !self.has_room_for(&addresses) {
            return;
        }
        let entry = Entry {
            addresses,
            ..Entry::default()
        };
        self.peers.insert(peer, entry);
        self.changed = true;
    }

    fn has_room_for(&self, addresses: &[Multiaddr]) -> bool {
        let untried = || self.peers.values().filter(|entry| entry.last_success == 0);
        if untried().count() >= UNTRIED_MAX {
            return false;
        }
        addresses.iter().filter_map(provider_of).all(|provider| {
            let same = untried().filter(|entry| {
                let mut providers = entry.addresses.iter().filter_map(provider_of);
                providers.any(|other| other == provider)
            });
            same.count() < UNTRIED_PER_PROVIDER_MAX
        })
    }

    /// A connection to the peer at this address succeeded; `now` is Unix
    /// seconds.
    pub(super) fn succeeded(&mut self, peer: PeerId, address: Multiaddr, now: u64) {
        if peer == self.own || is_relayed(&address) || address.len() > ADDRESS_BYTES_MAX {
            return;
        }
        let entry = self.peers.entry(peer).or_default();
        entry.addresses.retain(|other| *other != address);
        entry.addresses.insert(0, address);
        entry.addresses.truncate(ADDRESSES_MAX);
        entry.last_success = now.max(1);
        entry.failures = 0;
        entry.next_dial_ms = 0;
        self.changed = true;
        self.forget_oldest_tried();
    }

    fn forget_oldest_tried(&mut self) {
        let tried = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.last_success > 0);
        if tried.clone().count() > TRIED_MAX
            && let Some(oldest) = tried
                .min_by_key(|(_, entry)| (entry.anchor, entry.last_success))
                .map(|(peer, _)| *peer)
        {
            self.peers.remove(&oldest);
        }
    }

    /// A dial failed, or the peer is of no use: try it later, if ever.
    pub(super) fn failed(&mut self, peer: &PeerId, now_ms: u64) {
        let Some(entry) = self.peers.get_mut(peer) else {
            return;
        };
        entry.failures = entry.failures.saturating_add(1);
        entry.next_dial_ms = now_ms.saturating_add(backoff_ms(entry.failures));
        let failures_max = if entry.last_success == 0 {
            UNTRIED_FAILURES_MAX
        } else {
            TRIED_FAILURES_MAX
        };
        if entry.failures >= failures_max {
            self.forget(&peer.clone());
        }
    }

    /// Forgets a peer.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.changed |= self.peers.remove(peer).is_some();
    }

    /// Marks the peers that are to be dialled first after a restart.
    pub(super) fn set_anchors(&mut self, anchors: &[PeerId]) {
        for (peer, entry) in &mut self.peers {
            let anchor = anchors.contains(peer);
            self.changed |= anchor != entry.anchor;
            entry.anchor = anchor;
        }
    }

    /// Peers that may be dialled at `now_ms`: anchors first, then those that
    /// have answered before, then hearsay, each in random order.
    #[must_use]
    pub(super) fn candidates(&self, now_ms: u64) -> Vec<Candidate> {
        let mut due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.next_dial_ms <= now_ms)
            .collect();
        due.shuffle(&mut rand::rng());
        due.sort_by_key(|(_, entry)| (!entry.anchor, entry.last_success == 0));
        due.into_iter()
            .map(|(peer, entry)| Candidate {
                peer: *peer,
                addresses: entry.addresses.clone(),
            })
            .collect()
    }

    /// How many peers are known.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// What writes the book to disk, if it changed since the last call: to be
    /// run where blocking is allowed.
    pub(super) fn unsaved(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let peers = self.peers.iter();
        let mut peer: Vec<_> = peers
            .map(|(peer, entry)| PeerRecord {
                id: peer.to_string(),
                addresses: entry.addresses.clone(),
                last_success: entry.last_success,
                anchor: entry.anchor,
            })
            .collect();
        peer.sort_by(|a, b| b.last_success.cmp(&a.last_success).then(a.id.cmp(&b.id)));
        let (file, path) = (BookFile { peer }, self.path.clone());
        Some(move || {
            if let Err(error) = files::write(&path, &file) {
                warn!(file = %path.display(), %error, "the known peers can't be written");
            }
        })
    }
}

/// The pause after so many failures in a row, monotonic milliseconds: doubled
/// each time, spread so that nodes that lost a peer together don't return
/// together.
#[must_use]
pub(super) fn backoff_ms(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = (BACKOFF_FIRST_MS << doublings).min(BACKOFF_MAX_MS);
    rand::rng().random_range(pause / 2..=pause)
}

/// Of the addresses that a peer at `remote` claims for itself, those that we
/// could reach: loopback ones only from this machine.
#[must_use]
pub(super) fn usable(claimed: Vec<Multiaddr>, remote: &Multiaddr) -> Vec<Multiaddr> {
    let local = is_loopback(remote);
    claimed
        .into_iter()
        .map(|address| super::address::PeerAddress::split(address).address)
        .filter(|address| (local && is_loopback(address)) || super::address::is_shareable(address))
        .take(ADDRESSES_MAX)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn book() -> (Book, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Book::open(dir.path(), PeerId::random()), dir)
    }

    #[test]
    fn known_peers_and_anchors_survive_a_restart() {
        let (mut book, dir) = book();
        let [anchor, tried, heard] = [(); 3].map(|()| PeerId::random());
        book.learn(heard, [address("/ip4/203.0.113.3/tcp/1")]);
        for (peer, last) in [(anchor, 1), (tried, 2)] {
            book.succeeded(peer, address(&format!("/ip4/203.0.113.{last}/tcp/1")), 50);
        }
        book.set_anchors(&[anchor]);
        book.unsaved().unwrap()();
        assert!(book.unsaved().is_none());
        let again = Book::open(dir.path(), PeerId::random());
        let order: Vec<_> = again
            .candidates(0)
            .into_iter()
            .map(|one| one.peer)
            .collect();
        assert_eq!(order, [anchor, tried, heard]);
        // It never lists itself.
        assert_eq!(Book::open(dir.path(), anchor).len(), 2);
    }

    #[test]
    fn damage_costs_the_book_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        for garbage in [
            &b"[[peer]]\nid = \"x\"\naddresses = [\"nowhere\"]"[..],
            &[0; 10],
        ] {
            std::fs::write(&path, garbage).unwrap();
            assert!(Book::open(dir.path(), PeerId::random()).len() == 0);
        }
    }

    #[test]
    fn failures_put_off_and_then_forget() {
        let (mut book, _dir) = book();
        let [heard, tried] = [(); 2].map(|()| PeerId::random());
        book.learn(heard, [address("/ip4/203.0.113.3/tcp/1")]);
        book.succeeded(tried, address("/ip4/203.0.113.4/tcp/1"), 50);
        let due = |book: &Book, now_ms| book.candidates(now_ms).len();
        book.failed(&heard, 0);
        book.failed(&tried, 0);
        assert_eq!(due(&book, 0), 0);
        assert_eq!(due(&book, BACKOFF_FIRST_MS), 2);
        for _ in 1..UNTRIED_FAILURES_MAX {
            book.failed(&heard, 0);
            book.failed(&tried, 0);
        }
        assert!(!book.peers.contains_key(&heard) && book.peers.contains_key(&tried));
        assert_eq!(due(&book, BACKOFF_MAX_MS), 1);
        for _ in 0..TRIED_FAILURES_MAX {
            book.failed(&tried, 0);
        }
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for failures in [1, 2, 10, 40, u32::MAX] {
            let pause = backoff_ms(failures);
            assert!((BACKOFF_FIRST_MS / 2..=BACKOFF_MAX_MS).contains(&pause));
        }
        assert!(backoff_ms(30) >= BACKOFF_MAX_MS / 2);
    }

    #[test]
    fn nobody_fills_it_with_one_provider() {
        let (mut book, _dir) = book();
        for number in 0..500_u16 {
            let [high, low] = number.to_be_bytes();
            book.learn(
                PeerId::random(),
                [address(&format!("/ip4/203.0.{high}.{low}/tcp/1"))],
            );
        }
        assert_eq!(book.len(), UNTRIED_PER_PROVIDER_MAX);
        for number in 0..5_000_u16 {
            let [high, low] = number.to_be_bytes();
            book.learn(
                PeerId::random(),
                [address(&format!(
                    "/ip4/5{}.{high}.{low}.1/tcp/1",
                    number % 5
                ))],
            );
        }
        assert_eq!(book.len(), UNTRIED_MAX);
        // Peers that answered have their own room.
        for number in 0..TRIED_MAX as u64 + 5 {
            book.succeeded(PeerId::random(), address("/ip4/203.0.113.9/tcp/1"), number);
        }
        assert_eq!(book.len(), UNTRIED_MAX + TRIED_MAX);
    }

    #[test]
    fn claimed_addresses_are_cut_to_what_can_be_reached() {
        let far = address("/ip4/203.0.113.9/tcp/1");
        let near = address("/ip4/127.0.0.1/tcp/1");
        let claimed = || vec![near.clone(), far.clone(), address("/ip4/0.0.0.0/tcp/1")];
        assert_eq!(usable(claimed(), &far), std::slice::from_ref(&far));
        assert_eq!(usable(claimed(), &near), [near.clone(), far.clone()]);
        assert_eq!(usable(vec![far.clone(); 1_000], &near).len(), ADDRESSES_MAX);
        let (mut book, _dir) = book();
        let long = format!("/dns/{}/tcp/1", "x".repeat(240));
        book.learn(PeerId::random(), [address(&long)]);
        assert_eq!(book.len(), 0);
    }
}
