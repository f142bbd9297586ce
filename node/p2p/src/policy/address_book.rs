//! The peers that this node knows of, kept across restarts: where they are, when
//! a connection to them last succeeded, and which were connected last
//! (anchors, dialled first, so that a restart doesn't hand the node to whoever
//! answers fastest).
//!
//! Whoever tells of others may lie. So what a peer says of itself replaces what
//! others say of it, an address that has led to it stays whatever anyone says, and
//! who is dialled next depends on that alone. Bounded in all and per provider, so
//! that nobody fills the book with addresses of one network; and no list that is
//! full stays as it is: newcomers take random places.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use libp2p::{Multiaddr, PeerId};
use rand::Rng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::files;
use crate::policy::address::{Network, PeerAddress, Scope, is_relayed, provider_of};

/// The file within the data directory.
pub(crate) const FILE_NAME: &str = "peers.toml";
/// Peers that were connected to once.
const TRIED_MAX: usize = 1_000;
/// Peers of hearsay.
const UNTRIED_MAX: usize = 1_000;
/// Peers of each of the two kinds from one provider.
const PER_PROVIDER_MAX: usize = 64;
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
pub(crate) struct Candidate {
    /// Who.
    pub(crate) peer: PeerId,
    /// Where, all to be tried.
    pub(crate) addresses: Vec<Multiaddr>,
    /// Its provider, as far as it counts.
    pub(crate) provider: Option<Network>,
}

/// What is known of one peer.
#[derive(Debug, Clone, Default)]
struct Entry {
    /// Where it was reached last.
    proven: Option<Multiaddr>,
    /// Where it says itself that it is.
    own: Vec<Multiaddr>,
    /// Where others say so.
    heard: Vec<Multiaddr>,
    /// Unix seconds; 0: never.
    last_success: u64,
    anchor: bool,
    failures: u32,
    /// Monotonic milliseconds.
    next_dial_ms: u64,
}

impl Entry {
    fn is_tried(&self) -> bool {
        self.last_success > 0
    }

    /// The best first, those through a relay last.
    fn addresses(&self) -> Vec<Multiaddr> {
        let own = self.own.iter().chain(&self.heard);
        let own = own.filter(|address| Some(*address) != self.proven.as_ref());
        let mut all: Vec<_> = self.proven.iter().chain(own).cloned().collect();
        all.sort_by_key(is_relayed);
        all.truncate(ADDRESSES_MAX);
        all
    }

    /// Of the address that is proven, and only while none is, of the first that
    /// was told: others must not be able to say that it belongs to a crowd.
    fn provider(&self) -> Option<Network> {
        let told = self.own.iter().chain(&self.heard);
        provider_of(self.proven.iter().chain(told).next()?)
    }
}

/// The known peers.
pub(crate) struct Book {
    own: PeerId,
    peers: HashMap<PeerId, Entry>,
    path: PathBuf,
    changed: bool,
}

impl Book {
    /// Reads the book of a data directory; `own` is never in it.
    #[must_use]
    pub(crate) fn open(data_dir: &Path, own: PeerId) -> Self {
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
            if record.last_success == 0 {
                book.hear(peer, record.addresses);
                continue;
            }
            let mut addresses = record.addresses.into_iter().filter(fits);
            if let Some(address) = addresses.next() {
                book.succeeded(peer, address, record.last_success);
                book.learn(peer, addresses.collect());
            }
            if let Some(entry) = book.peers.get_mut(&peer) {
                entry.anchor = record.anchor;
            }
        }
        book.changed = false;
        book
    }

    /// Takes note of where a peer says that it is, instead of all that was said
    /// before.
    pub(crate) fn learn(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let addresses = bounded(addresses);
        if peer == self.own || addresses.is_empty() {
            return;
        }
        if !self.peers.contains_key(&peer) && !self.make_room(&addresses, false) {
            return;
        }
        let entry = self.peers.entry(peer).or_default();
        self.changed |= entry.own != addresses;
        entry.own = addresses;
        entry.heard.clear();
    }

    /// Takes note of where others say that a peer is: for those of whom nothing
    /// better is known.
    pub(crate) fn hear(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let addresses = bounded(addresses);
        if peer == self.own || addresses.is_empty() {
            return;
        }
        if let Some(entry) = self.peers.get_mut(&peer) {
            if entry.proven.is_some() || !entry.own.is_empty() {
                return;
            }
            for address in addresses {
                if entry.heard.contains(&address) {
                    continue;
                }
                if entry.heard.len() >= ADDRESSES_MAX {
                    // The first may have told lies only.
                    let place = rand::rng().random_range(0..entry.heard.len());
                    entry.heard.swap_remove(place);
                }
                entry.heard.push(address);
                self.changed = true;
            }
            return;
        }
        if self.make_room(&addresses, false) {
            let entry = Entry {
                heard: addresses,
                ..Entry::default()
            };
            self.peers.insert(peer, entry);
            self.changed = true;
        }
    }

    /// Makes room for one more at these addresses among those that were tried, or
    /// those that were not: first among those of its provider, then among all.
    /// Hearsay leaves at random, so that coming first is no merit; of the tried,
    /// the one that was reached the longest ago. False if nobody may leave.
    fn make_room(&mut self, addresses: &[Multiaddr], tried: bool) -> bool {
        let most = if tried { TRIED_MAX } else { UNTRIED_MAX };
        let provider = addresses.first().and_then(provider_of);
        let kin = || self.peers.iter().filter(|(_, one)| one.is_tried() == tried);
        let of_provider = || {
            let same = move |one: &Entry| provider.is_some() && one.provider() == provider;
            kin().filter(move |(_, one)| same(one))
        };
        let leaving = if of_provider().count() >= PER_PROVIDER_MAX {
            pick(of_provider(), tried)
        } else if kin().count() >= most {
            pick(kin(), tried)
        } else {
            return true;
        };
        leaving.is_some_and(|peer| {
            self.forget(&peer);
            true
        })
    }

    /// A connection to the peer at this address succeeded; `now` is Unix
    /// seconds.
    pub(crate) fn succeeded(&mut self, peer: PeerId, address: Multiaddr, now: u64) {
        if peer == self.own || is_relayed(&address) || !fits(&address) {
            return;
        }
        let known = self.peers.get(&peer).is_some_and(Entry::is_tried);
        if !known && !self.make_room(std::slice::from_ref(&address), true) {
            return;
        }
        let entry = self.peers.entry(peer).or_default();
        entry.heard.clear();
        entry.proven = Some(address);
        entry.last_success = now.max(1);
        entry.failures = 0;
        entry.next_dial_ms = 0;
        self.changed = true;
    }

    /// A dial failed, or the peer is of no use: try it later, if ever.
    pub(crate) fn failed(&mut self, peer: &PeerId, now_ms: u64) {
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

    /// Does not offer a peer before `later_ms`.
    pub(crate) fn put_off(&mut self, peer: &PeerId, later_ms: u64) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.next_dial_ms = entry.next_dial_ms.max(later_ms);
        }
    }

    /// Forgets a peer.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.changed |= self.peers.remove(peer).is_some();
    }

    /// Marks the peers that are to be dialled first after a restart: these, and
    /// while they are fewer than `most`, those of the last time, which are still
    /// the best guess.
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

    /// Peers that may be dialled at `now_ms`: anchors first, then those that
    /// have answered before, then hearsay, each in random order.
    #[must_use]
    pub(crate) fn candidates(&self, now_ms: u64) -> Vec<Candidate> {
        let mut due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.next_dial_ms <= now_ms)
            .collect();
        due.shuffle(&mut rand::rng());
        due.sort_by_key(|(_, entry)| (!entry.anchor, !entry.is_tried()));
        due.into_iter()
            .map(|(peer, entry)| Candidate {
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

    /// What writes the book to disk, if it changed since the last call: to be
    /// run where blocking is allowed.
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
pub(crate) fn backoff_ms(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = (BACKOFF_FIRST_MS << doublings).min(BACKOFF_MAX_MS);
    rand::rng().random_range(pause / 2..=pause)
}

/// Of the addresses that a peer at `remote` claims for itself, those that may be
/// believed: no names, and none nearer to us than the peer itself. Those through a
/// relay come last.
#[must_use]
pub(crate) fn usable(claimed: Vec<Multiaddr>, remote: &Multiaddr) -> Vec<Multiaddr> {
    let from = Scope::of(remote).filter(|_| !is_relayed(remote));
    let from = from.unwrap_or(Scope::Open);
    let mut usable: Vec<_> = claimed
        .into_iter()
        .map(|address| PeerAddress::split(address).address)
        .filter(|address| fits(address) && from.may_tell(address))
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

/// Who leaves.
fn pick<'a>(peers: impl Iterator<Item = (&'a PeerId, &'a Entry)>, tried: bool) -> Option<PeerId> {
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
        book.hear(heard, vec![address("/ip4/203.0.113.3/tcp/1")]);
        for (peer, last) in [(anchor, 1), (tried, 2)] {
            book.succeeded(peer, address(&format!("/ip4/203.0.113.{last}/tcp/1")), 50);
        }
        book.set_anchors(&[anchor], 4);
        // Few peers after a restart do not displace them.
        book.set_anchors(&[tried], 2);
        book.set_anchors(&[anchor], 1);
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
        book.hear(heard, vec![address("/ip4/203.0.113.3/tcp/1")]);
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

    fn in_provider(number: u16) -> Vec<Multiaddr> {
        let [high, low] = number.to_be_bytes();
        vec![address(&format!("/ip4/203.0.{high}.{low}/tcp/1"))]
    }

    #[test]
    fn nobody_fills_it_with_one_provider() {
        let (mut book, _dir) = book();
        for number in 0..500 {
            book.hear(PeerId::random(), in_provider(number));
        }
        assert_eq!(book.len(), PER_PROVIDER_MAX);
        for number in 0..5_000_u16 {
            let [high, low] = number.to_be_bytes();
            let there = address(&format!("/ip4/5{}.{high}.{low}.1/tcp/1", number % 5));
            book.hear(PeerId::random(), vec![there]);
        }
        assert_eq!(book.len(), UNTRIED_MAX);
        // Peers that answered have their own room, and share it as well.
        for number in 0..500 {
            let there = in_provider(number).remove(0);
            book.succeeded(PeerId::random(), there, u64::from(number));
        }
        assert_eq!(book.len(), UNTRIED_MAX + PER_PROVIDER_MAX);
        for number in 0..5_000_u16 {
            let [high, low] = number.to_be_bytes();
            let there = address(&format!("/ip4/5{}.{high}.{low}.1/tcp/1", number % 5));
            book.succeeded(PeerId::random(), there, 1_000);
        }
        assert_eq!(book.len(), UNTRIED_MAX + TRIED_MAX);
    }

    #[test]
    fn a_full_book_still_learns() {
        let (mut book, _dir) = book();
        for number in 0..u16::try_from(UNTRIED_MAX).unwrap() {
            let [high, low] = number.to_be_bytes();
            let there = address(&format!("/ip4/5{}.{high}.{low}.1/tcp/1", number % 5));
            book.hear(PeerId::random(), vec![there]);
        }
        let newcomers: Vec<_> = (0..PER_PROVIDER_MAX).map(|_| PeerId::random()).collect();
        for (number, peer) in newcomers.iter().enumerate() {
            book.hear(*peer, in_provider(u16::try_from(number).unwrap()));
        }
        let kept = newcomers
            .iter()
            .filter(|peer| book.peers.contains_key(peer));
        // Each may push out another; few do.
        assert!(kept.count() > PER_PROVIDER_MAX / 2);
        assert_eq!(book.len(), UNTRIED_MAX);
    }

    #[test]
    fn nobody_else_says_where_a_peer_is_once_it_has_said_so() {
        let (mut book, _dir) = book();
        let peer = PeerId::random();
        let [wrong, own, proven] = ["192.0.2.1", "198.51.100.1", "203.0.113.1"]
            .map(|ip| address(&format!("/ip4/{ip}/tcp/1")));
        let known = |book: &Book| book.candidates(0).remove(0);
        book.hear(peer, vec![wrong.clone()]);
        assert_eq!(known(&book).addresses, std::slice::from_ref(&wrong));
        book.learn(peer, vec![own.clone()]);
        book.hear(peer, vec![wrong.clone()]);
        assert_eq!(known(&book).addresses, std::slice::from_ref(&own));
        book.succeeded(peer, proven.clone(), 1);
        book.hear(peer, vec![wrong.clone()]);
        assert_eq!(known(&book).addresses, [proven.clone(), own]);
        // Not even the peer itself can deny where it was found, or say that it
        // belongs to another provider.
        book.learn(peer, vec![wrong.clone()]);
        assert_eq!(known(&book).addresses, [proven.clone(), wrong]);
        assert_eq!(known(&book).provider, provider_of(&proven));
    }

    #[test]
    fn lies_about_a_stranger_do_not_keep_the_truth_out() {
        let (mut book, _dir) = book();
        let peer = PeerId::random();
        let lies: Vec<_> = (0..4).map(|number| in_provider(number).remove(0)).collect();
        book.hear(peer, lies);
        let truth = address("/ip4/198.51.100.1/tcp/1");
        book.hear(peer, vec![truth.clone()]);
        let known = book.candidates(0).remove(0).addresses;
        assert!(known.contains(&truth) && known.len() == ADDRESSES_MAX);
    }

    #[test]
    fn claimed_addresses_are_cut_to_what_can_be_believed() {
        let far = address("/ip4/203.0.113.9/tcp/1");
        let near = address("/ip4/127.0.0.1/tcp/1");
        let lan = address("/ip4/192.168.1.9/tcp/1");
        let relay = PeerId::random();
        let relayed = address(&format!("/ip4/203.0.113.1/tcp/1/p2p/{relay}/p2p-circuit"));
        let claimed = || {
            let name = address("/dns/localhost/tcp/1");
            let any = address("/ip4/0.0.0.0/tcp/1");
            let (relayed, near) = (relayed.clone(), near.clone());
            vec![relayed, name, near, lan.clone(), far.clone(), any]
        };
        assert_eq!(usable(claimed(), &far), [far.clone(), relayed.clone()]);
        // Through a relay anyone comes, from anywhere.
        assert_eq!(usable(claimed(), &relayed), [far.clone(), relayed.clone()]);
        assert_eq!(
            usable(claimed(), &lan),
            [lan.clone(), far.clone(), relayed.clone()]
        );
        assert_eq!(usable(claimed(), &near).len(), 4);
        let many = (0..1_000).map(|number| in_provider(number).remove(0));
        assert_eq!(usable(many.collect(), &near).len(), ADDRESSES_MAX);
        let (mut book, _dir) = book();
        let long = format!("/dns/{}/tcp/1", "x".repeat(240));
        book.hear(PeerId::random(), vec![address(&long)]);
        book.learn(PeerId::random(), vec![address(&long)]);
        assert_eq!(book.len(), 0);
    }
}
