//! Whom to connect to, and when: keeps the number of outbound connections up,
//! spread over providers, with anchors first; pauses after failures.

use std::collections::{HashMap, HashSet};
use std::num::{NonZeroU8, NonZeroUsize};

use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use lru::LruCache;

use crate::policy::address::{Network, PeerAddress, is_relayed, provider_of};
use crate::policy::address_book::{Book, Candidate, backoff_ms};
use crate::policy::dial_scope::Reach;

/// Dials that may be under way to fill up the outbound connections.
const DIALS_AT_ONCE_MAX: usize = 8;
/// Peers that may be added by hand.
pub(crate) const ADDED_MAX: usize = 64;
/// Outbound connections beyond the target while no blocks come.
const STALE_EXTRA: usize = 2;
/// Without any outbound connection for so long, bootnodes are asked although
/// other peers are known.
const LONELY_MS: u64 = 5_000;
/// Pause after a dial that this node itself did not begin.
const NOT_BEGUN_MS: u64 = 5_000;
/// Peers that are not to be dialled for now; the oldest goes first.
const AVOIDED_MAX: NonZeroUsize = NonZeroUsize::new(1_000).expect("it is not zero");

/// A peer that was named by the operator, and when to try it again.
#[derive(Debug)]
struct Fixed {
    address: PeerAddress,
    /// Who turned out to be there.
    known_as: Option<PeerId>,
    failures: u32,
    next_ms: u64,
    added: bool,
}

impl Fixed {
    fn peer(&self) -> Option<PeerId> {
        self.address.peer.or(self.known_as)
    }
}

/// A dial under way.
#[derive(Debug, Clone)]
struct Dial {
    peer: Option<PeerId>,
    address: Option<Multiaddr>,
}

/// The peers that the dialer need not dial, or count on.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// All that are connected, because they came or because we chose them.
    pub(crate) connected: HashSet<PeerId>,
    /// Those that are connected because a protocol asked them the way.
    pub(crate) unwanted: HashSet<PeerId>,
    /// Those that we connected to and work with.
    pub(crate) outbound: HashSet<PeerId>,
    /// The providers of those.
    pub(crate) providers: HashSet<Network>,
}

/// What the dialer wants.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// To be dialled.
    pub(crate) dials: Vec<DialOpts>,
    /// Connected already, by a protocol: to be kept.
    pub(crate) adopt: Vec<PeerId>,
}

/// The dialer.
pub(crate) struct Dialer {
    /// Known peers.
    pub(crate) book: Book,
    reach: Reach,
    outbound_target: usize,
    /// Whether it takes more than that, since those there are bring nothing new.
    stale: bool,
    fixed: Vec<Fixed>,
    dials: HashMap<ConnectionId, Dial>,
    avoided: LruCache<PeerId, u64>,
    lonely_since_ms: Option<u64>,
}

impl Dialer {
    /// Keeps `outbound_target` outbound connections.
    #[must_use]
    pub(crate) fn new(
        book: Book,
        outbound_target: usize,
        bootnodes: &[PeerAddress],
        reach: Reach,
    ) -> Self {
        for address in bootnodes {
            reach.named(address);
        }
        let fixed = bootnodes.iter().map(|address| Fixed {
            address: address.clone(),
            known_as: None,
            failures: 0,
            next_ms: 0,
            added: false,
        });
        Self {
            book,
            reach,
            outbound_target,
            stale: false,
            fixed: fixed.collect(),
            dials: HashMap::new(),
            avoided: LruCache::new(AVOIDED_MAX),
            lonely_since_ms: None,
        }
    }

    /// How many outbound connections it wants.
    #[must_use]
    pub(crate) fn outbound_target(&self) -> usize {
        self.outbound_target + if self.stale { STALE_EXTRA } else { 0 }
    }

    /// Whether no block has come for so long that perhaps the peers keep them back:
    /// then others are asked as well.
    pub(crate) fn set_stale(&mut self, stale: bool) {
        self.stale = stale;
    }

    /// Adds a peer to keep; false if there are too many.
    pub(crate) fn add(&mut self, address: PeerAddress) -> bool {
        if let Some(peer) = address.peer {
            self.avoided.pop(&peer);
        }
        if self
            .fixed
            .iter()
            .any(|one| one.added && one.address == address)
        {
            return true;
        }
        if self.fixed.iter().filter(|one| one.added).count() >= ADDED_MAX {
            return false;
        }
        self.reach.named(&address);
        self.fixed.push(Fixed {
            address,
            known_as: None,
            failures: 0,
            // The first dial is the caller's.
            next_ms: u64::MAX,
            added: true,
        });
        true
    }

    /// Forgets a peer, and does not dial it until `until_ms`; whether it was
    /// known.
    pub(crate) fn remove(&mut self, peer: &PeerId, until_ms: u64) -> bool {
        let before = self.fixed.len() + self.book.len();
        self.fixed
            .retain(|one| !one.added || one.peer() != Some(*peer));
        self.book.forget(peer);
        self.avoid(*peer, until_ms);
        self.fixed.len() + self.book.len() < before
    }

    /// Does not dial a peer until `until_ms`.
    pub(crate) fn avoid(&mut self, peer: PeerId, until_ms: u64) {
        self.avoided.put(peer, until_ms);
    }

    /// Whether a peer was added by hand.
    #[must_use]
    pub(crate) fn is_added(&self, peer: &PeerId) -> bool {
        let mut fixed = self.fixed.iter();
        fixed.any(|one| one.added && one.peer() == Some(*peer))
    }

    /// Whom to connect to at `now_ms`, monotonic milliseconds.
    pub(crate) fn due(&mut self, now_ms: u64, present: &Present) -> Due {
        let mut due = Due::default();
        for index in 0..self.fixed.len() {
            if self.fixed.get(index).is_some_and(|one| one.added) {
                self.want_fixed(index, now_ms, present, &mut due);
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
            if present.unwanted.contains(&one.peer) {
                due.adopt.push(one.peer);
            } else {
                due.dials.push(self.dial_candidate(one));
            }
        }
        if none_known || self.is_lonely(now_ms, present) {
            for index in 0..self.fixed.len() {
                self.want_fixed(index, now_ms, present, &mut due);
            }
        }
        due
    }

    fn is_lonely(&mut self, now_ms: u64, present: &Present) -> bool {
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

    /// Candidates from the book: one for each provider that no outbound
    /// connection leads to; more of a provider only while there is nobody else
    /// and less than half of the connections are up.
    fn choose(&mut self, now_ms: u64, present: &Present, wanted: usize) -> Vec<Candidate> {
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

    fn dial_candidate(&mut self, candidate: Candidate) -> DialOpts {
        for address in &candidate.addresses {
            self.reach.permit(address);
        }
        let through_relay = candidate.addresses.iter().any(is_relayed);
        let mut options = DialOpts::peer_id(candidate.peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(candidate.addresses);
        if through_relay {
            // Relays are the last resort, not one of several ways at once.
            options = options.override_dial_concurrency_factor(NonZeroU8::MIN);
        }
        let options = options.build();
        let dial = Dial {
            peer: Some(candidate.peer),
            address: None,
        };
        self.dials.insert(options.connection_id(), dial);
        options
    }

    fn want_fixed(&mut self, index: usize, now_ms: u64, present: &Present, due: &mut Due) {
        let Some(one) = self.fixed.get(index) else {
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
            if present.unwanted.contains(&peer) {
                return due.adopt.push(peer);
            }
        }
        due.dials.push(self.dial(&address));
    }

    /// The dial of an address that was named by the operator.
    pub(crate) fn dial(&mut self, address: &PeerAddress) -> DialOpts {
        self.reach.permit(&address.address);
        let options = match address.peer {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(vec![address.address.clone()])
                .build(),
            None => DialOpts::unknown_peer_id()
                .address(address.address.clone())
                .build(),
        };
        let dial = Dial {
            peer: address.peer,
            address: Some(address.address.clone()),
        };
        self.dials.insert(options.connection_id(), dial);
        options
    }

    /// A dial has led to a peer; whether it was one of ours.
    pub(crate) fn connected(&mut self, connection: ConnectionId, peer: PeerId) -> bool {
        let Some(dial) = self.dials.remove(&connection) else {
            return false;
        };
        for one in &mut self.fixed {
            if dial.address.as_ref() == Some(&one.address.address) {
                one.known_as = Some(peer);
            }
        }
        true
    }

    /// The peer behind a connection has proven to be of use.
    pub(crate) fn useful(&mut self, peer: PeerId) {
        for one in &mut self.fixed {
            if one.peer() == Some(peer) {
                one.failures = 0;
                one.next_ms = 0;
            }
        }
    }

    /// A dial of ours has failed.
    pub(crate) fn failed(&mut self, connection: ConnectionId, now_ms: u64) {
        let Some(dial) = self.dials.remove(&connection) else {
            return;
        };
        if let Some(peer) = &dial.peer {
            self.book.failed(peer, now_ms);
        }
        if let Some(address) = &dial.address {
            self.put_off(now_ms, |one| one.address.address == *address);
        }
    }

    /// A dial of ours was not begun, for reasons of this node: nothing is held
    /// against the peer, but it is not tried again at once.
    pub(crate) fn not_begun(&mut self, connection: ConnectionId, now_ms: u64) {
        let Some(dial) = self.dials.remove(&connection) else {
            return;
        };
        let later_ms = now_ms.saturating_add(NOT_BEGUN_MS);
        if let Some(peer) = &dial.peer {
            self.book.put_off(peer, later_ms);
        }
        for one in &mut self.fixed {
            if dial.address.as_ref() == Some(&one.address.address) {
                one.next_ms = later_ms;
            }
        }
    }

    /// A peer turned out to be of no use, such as one of another network.
    pub(crate) fn useless(&mut self, peer: &PeerId, now_ms: u64) {
        self.book.failed(peer, now_ms);
        self.avoid(*peer, now_ms.saturating_add(backoff_ms(8)));
        self.put_off(now_ms, |one| one.peer() == Some(*peer));
    }

    /// An address leads back to this node: never dial it again.
    pub(crate) fn is_us(&mut self, address: &Multiaddr) {
        let address = PeerAddress::split(address.clone()).address;
        self.fixed.retain(|one| one.address.address != address);
    }

    fn put_off(&mut self, now_ms: u64, which: impl Fn(&Fixed) -> bool) {
        for one in self.fixed.iter_mut().filter(|one| which(one)) {
            one.failures = one.failures.saturating_add(1);
            // Named peers are worth asking more often than others.
            one.next_ms = now_ms.saturating_add(backoff_ms(one.failures.min(6)));
        }
    }
}

/// The providers of the addresses that outbound connections lead to.
#[must_use]
pub(crate) fn providers<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> HashSet<Network> {
    addresses.filter_map(provider_of).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn dialer(target: usize, bootnodes: &[&str]) -> (Dialer, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::open(dir.path(), PeerId::random());
        let bootnodes: Vec<_> = bootnodes.iter().map(|text| text.parse().unwrap()).collect();
        let reach = Reach::new(&[]);
        (Dialer::new(book, target, &bootnodes, reach), dir)
    }

    fn know(dialer: &mut Dialer, ip: &str) -> PeerId {
        let peer = PeerId::random();
        let address = format!("/ip4/{ip}/tcp/1").parse().unwrap();
        dialer.book.hear(peer, vec![address]);
        peer
    }

    #[test]
    fn bootnodes_come_in_when_nobody_is_known_or_answers() {
        let (mut dialer, _dir) = dialer(10, &["203.0.113.1:1", "203.0.113.2:1"]);
        let nobody = Present::default();
        assert_eq!(dialer.due(0, &nobody).dials.len(), 2);
        // Under way: not again.
        assert_eq!(dialer.due(1, &nobody).dials.len(), 0);
        let (mut dialer, _dir) = self::dialer(10, &["203.0.113.1:1"]);
        let known = know(&mut dialer, "198.51.100.1");
        let dials = dialer.due(0, &nobody).dials;
        assert_eq!(dials.len(), 1);
        assert_eq!(dials[0].get_peer_id(), Some(known));
        assert_eq!(dialer.due(LONELY_MS - 1, &nobody).dials.len(), 0);
        assert_eq!(dialer.due(LONELY_MS, &nobody).dials.len(), 1);
    }

    #[test]
    fn one_outbound_connection_for_each_provider() {
        let (mut dialer, _dir) = dialer(4, &[]);
        for ip in ["203.0.113.1", "203.0.114.1", "198.51.100.1", "192.0.2.1"] {
            know(&mut dialer, ip);
        }
        assert_eq!(dialer.due(0, &Present::default()).dials.len(), 3);
        // Somebody of a provider that is taken is better than nobody at all.
        let (mut dialer, _dir) = self::dialer(4, &[]);
        let other = know(&mut dialer, "203.0.113.9");
        let address = "/ip4/203.0.1.1/tcp/1".parse().unwrap();
        let mut present = Present {
            providers: providers([&address].into_iter()),
            outbound: HashSet::from([PeerId::random()]),
            ..Present::default()
        };
        let dials = dialer.due(0, &present).dials;
        assert_eq!(dials[0].get_peer_id(), Some(other));
        dialer.failed(dials[0].connection_id(), 0);
        present.outbound.insert(PeerId::random());
        assert_eq!(dialer.due(1_000_000, &present).dials.len(), 0);
        // This machine is no provider; private networks are one.
        let (mut dialer, _dir) = self::dialer(4, &[]);
        for ip in ["127.0.0.1", "127.0.0.1", "192.168.1.4", "10.1.1.5"] {
            know(&mut dialer, ip);
        }
        assert_eq!(dialer.due(0, &Present::default()).dials.len(), 3);
    }

    #[test]
    fn it_stops_at_its_target_and_after_failures_waits() {
        let (mut dialer, _dir) = dialer(2, &[]);
        for last in 1..6 {
            know(&mut dialer, &format!("127.0.0.{last}"));
        }
        let nobody = Present::default();
        let dials = dialer.due(0, &nobody).dials;
        assert_eq!(dials.len(), 2);
        for dial in &dials {
            dialer.failed(dial.connection_id(), 0);
        }
        let again: Vec<_> = dialer.due(1, &nobody).dials;
        assert_eq!(again.len(), 2);
        for dial in &again {
            assert!(
                dials
                    .iter()
                    .all(|one| one.get_peer_id() != dial.get_peer_id())
            );
        }
        let full = Present {
            outbound: HashSet::from([PeerId::random(), PeerId::random()]),
            ..Present::default()
        };
        for dial in &again {
            dialer.connected(dial.connection_id(), dial.get_peer_id().unwrap());
        }
        assert_eq!(dialer.due(2, &full).dials.len(), 0);
    }

    #[test]
    fn added_peers_are_kept_up_whatever_the_target() {
        let (mut dialer, _dir) = dialer(0, &[]);
        let address: PeerAddress = "203.0.113.1:1".parse().unwrap();
        assert!(dialer.add(address.clone()));
        let first = dialer.dial(&address);
        let peer = PeerId::random();
        assert!(dialer.connected(first.connection_id(), peer));
        dialer.useful(peer);
        assert!(dialer.is_added(&peer));
        let here = Present {
            connected: HashSet::from([peer]),
            ..Present::default()
        };
        assert_eq!(dialer.due(1, &here).dials.len(), 0);
        let gone = Present::default();
        assert_eq!(dialer.due(2, &gone).dials.len(), 1);
        assert!(dialer.remove(&peer, 1_000));
        assert!(!dialer.is_added(&peer));
        assert_eq!(dialer.due(3, &gone).dials.len(), 0);
        for port in 1..=ADDED_MAX {
            assert!(dialer.add(format!("203.0.113.1:{port}").parse().unwrap()));
        }
        assert!(!dialer.add("203.0.113.1:999".parse().unwrap()));
    }

    #[test]
    fn whom_a_protocol_connected_to_is_kept_if_chosen() {
        let (mut dialer, _dir) = dialer(4, &[]);
        let known = know(&mut dialer, "203.0.113.1");
        let present = Present {
            unwanted: HashSet::from([known, PeerId::random()]),
            ..Present::default()
        };
        let due = dialer.due(0, &present);
        assert_eq!((due.dials.len(), due.adopt), (0, vec![known]));
        // Not one that is to be avoided.
        dialer.avoid(known, 1_000);
        assert!(dialer.due(1, &present).adopt.is_empty());
    }

    #[test]
    fn what_this_node_did_not_begin_is_nobody_elses_failure() {
        let (mut dialer, _dir) = dialer(4, &[]);
        let known = know(&mut dialer, "203.0.113.1");
        let nobody = Present::default();
        let mut now_ms = 0;
        for _ in 0..100 {
            let dials = dialer.due(now_ms, &nobody).dials;
            let [dial] = &dials[..] else {
                panic!("it is forgotten");
            };
            assert_eq!(dial.get_peer_id(), Some(known));
            dialer.not_begun(dial.connection_id(), now_ms);
            assert!(dialer.due(now_ms + 1, &nobody).dials.is_empty());
            now_ms += NOT_BEGUN_MS;
        }
    }

    #[test]
    fn others_are_asked_while_no_blocks_come() {
        let (mut dialer, _dir) = dialer(1, &[]);
        for ip in ["203.0.113.1", "198.51.100.1", "192.0.2.1", "11.0.0.1"] {
            know(&mut dialer, ip);
        }
        let present = Present {
            outbound: HashSet::from([PeerId::random()]),
            ..Present::default()
        };
        assert_eq!(dialer.due(0, &present).dials.len(), 0);
        dialer.set_stale(true);
        assert_eq!(dialer.due(1, &present).dials.len(), STALE_EXTRA);
        dialer.set_stale(false);
        assert_eq!(dialer.outbound_target(), 1);
    }
}
