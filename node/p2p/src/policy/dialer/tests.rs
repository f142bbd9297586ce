//! Tests of the dialer.

#![allow(clippy::unwrap_used)]

use super::*;

fn dialer(target: usize, bootnodes: &[&str]) -> (Dialer, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let book = AddressBook::open(dir.path(), PeerId::random());
    let bootnodes: Vec<_> = bootnodes.iter().map(|text| text.parse().unwrap()).collect();
    let dial_scope = DialScope::new(&[]);
    (Dialer::new(book, target, &bootnodes, dial_scope), dir)
}

fn know(dialer: &mut Dialer, ip: &str) -> PeerId {
    let peer = PeerId::random();
    let address = format!("/ip4/{ip}/tcp/1").parse().unwrap();
    dialer.book.add_hearsay(peer, vec![address]);
    peer
}

#[test]
fn bootnodes_are_dialled_when_no_peer_is_known_or_answers() {
    let (mut dialer, _dir) = dialer(10, &["203.0.113.1:1", "203.0.113.2:1"]);
    let no_peers = ConnectedPeers::default();
    assert_eq!(dialer.due(0, &no_peers).dials.len(), 2);
    // These dials are under way: they are not begun again.
    assert_eq!(dialer.due(1, &no_peers).dials.len(), 0);
    let (mut dialer, _dir) = self::dialer(10, &["203.0.113.1:1"]);
    let known = know(&mut dialer, "198.51.100.1");
    let dials = dialer.due(0, &no_peers).dials;
    assert_eq!(dials.len(), 1);
    assert_eq!(dials[0].get_peer_id(), Some(known));
    assert_eq!(dialer.due(LONELY_MS - 1, &no_peers).dials.len(), 0);
    assert_eq!(dialer.due(LONELY_MS, &no_peers).dials.len(), 1);
}

#[test]
fn one_outbound_connection_for_each_provider() {
    let (mut dialer, _dir) = dialer(4, &[]);
    for ip in ["203.0.113.1", "203.0.114.1", "198.51.100.1", "192.0.2.1"] {
        know(&mut dialer, ip);
    }
    assert_eq!(dialer.due(0, &ConnectedPeers::default()).dials.len(), 3);
    // A second peer of a provider is better than none.
    let (mut dialer, _dir) = self::dialer(4, &[]);
    let other = know(&mut dialer, "203.0.113.9");
    let address = "/ip4/203.0.1.1/tcp/1".parse().unwrap();
    let mut present = ConnectedPeers {
        providers: providers([&address].into_iter()),
        outbound: HashSet::from([PeerId::random()]),
        ..ConnectedPeers::default()
    };
    let dials = dialer.due(0, &present).dials;
    assert_eq!(dials[0].get_peer_id(), Some(other));
    dialer.dial_failed(dials[0].connection_id(), 0);
    present.outbound.insert(PeerId::random());
    assert_eq!(dialer.due(1_000_000, &present).dials.len(), 0);
    // This machine counts as no provider, private networks as one.
    let (mut dialer, _dir) = self::dialer(4, &[]);
    for ip in ["127.0.0.1", "127.0.0.1", "192.168.1.4", "10.1.1.5"] {
        know(&mut dialer, ip);
    }
    assert_eq!(dialer.due(0, &ConnectedPeers::default()).dials.len(), 3);
}

#[test]
fn it_stops_at_its_target_and_after_failures_waits() {
    let (mut dialer, _dir) = dialer(2, &[]);
    for last in 1..6 {
        know(&mut dialer, &format!("127.0.0.{last}"));
    }
    let no_peers = ConnectedPeers::default();
    let dials = dialer.due(0, &no_peers).dials;
    assert_eq!(dials.len(), 2);
    for dial in &dials {
        dialer.dial_failed(dial.connection_id(), 0);
    }
    let again: Vec<_> = dialer.due(1, &no_peers).dials;
    assert_eq!(again.len(), 2);
    for dial in &again {
        assert!(
            dials
                .iter()
                .all(|one| one.get_peer_id() != dial.get_peer_id())
        );
    }
    let full = ConnectedPeers {
        outbound: HashSet::from([PeerId::random(), PeerId::random()]),
        ..ConnectedPeers::default()
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
    let first = dialer.dial_named(&address);
    let peer = PeerId::random();
    assert!(dialer.connected(first.connection_id(), peer));
    dialer.mark_useful(peer);
    assert!(dialer.is_added(&peer));
    let here = ConnectedPeers {
        connected: HashSet::from([peer]),
        ..ConnectedPeers::default()
    };
    assert_eq!(dialer.due(1, &here).dials.len(), 0);
    let gone = ConnectedPeers::default();
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
fn an_incidental_peer_is_kept_if_chosen() {
    let (mut dialer, _dir) = dialer(4, &[]);
    let known = know(&mut dialer, "203.0.113.1");
    let present = ConnectedPeers {
        incidental: HashSet::from([known, PeerId::random()]),
        ..ConnectedPeers::default()
    };
    let due = dialer.due(0, &present);
    assert_eq!((due.dials.len(), due.adopt), (0, vec![known]));
    // An avoided peer is not kept.
    dialer.avoid(known, 1_000);
    assert!(dialer.due(1, &present).adopt.is_empty());
}

#[test]
fn a_dial_that_was_not_begun_is_no_failure_of_the_peer() {
    let (mut dialer, _dir) = dialer(4, &[]);
    let known = know(&mut dialer, "203.0.113.1");
    let no_peers = ConnectedPeers::default();
    let mut now_ms = 0;
    for _ in 0..100 {
        let dials = dialer.due(now_ms, &no_peers).dials;
        let [dial] = &dials[..] else {
            panic!("it is forgotten");
        };
        assert_eq!(dial.get_peer_id(), Some(known));
        dialer.dial_not_begun(dial.connection_id(), now_ms);
        assert!(dialer.due(now_ms + 1, &no_peers).dials.is_empty());
        now_ms += NOT_BEGUN_MS;
    }
}

#[test]
fn more_peers_are_dialled_while_no_blocks_arrive() {
    let (mut dialer, _dir) = dialer(1, &[]);
    for ip in ["203.0.113.1", "198.51.100.1", "192.0.2.1", "11.0.0.1"] {
        know(&mut dialer, ip);
    }
    let present = ConnectedPeers {
        outbound: HashSet::from([PeerId::random()]),
        ..ConnectedPeers::default()
    };
    assert_eq!(dialer.due(0, &present).dials.len(), 0);
    dialer.set_stale(true);
    assert_eq!(dialer.due(1, &present).dials.len(), STALE_EXTRA);
    dialer.set_stale(false);
    assert_eq!(dialer.outbound_target(), 1);
}
