//! Tests of the gate: they call it in the order in which the swarm does.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libp2p::futures::task::noop_waker;

use super::checks::{
    GUEST_SECS, LOOKUPS_MAX, PENDING_PER_SITE_MAX, PER_PEER_MAX, PER_RELAY_MAX, PROBES_MAX,
    RELAYED_MAX,
};
use super::*;
use crate::policy::bans::{BannedBy, Subject};

const LIMITS: GateLimits = GateLimits {
    peers_max: 23,
    inbound_max: 20,
    per_host_max: 2,
    per_site_max: 8,
    count_loopback: false,
};
const NOW: u64 = 1_700_000_000;
const HERE: &str = "/ip4/192.0.2.200/tcp/7311";

fn gate(limits: GateLimits) -> (Gate, tempfile::TempDir) {
    let (gate, _, dir) = gate_in_time(limits);
    (gate, dir)
}

/// A gate, and the time that its clock shows.
fn gate_in_time(limits: GateLimits) -> (Gate, Arc<AtomicU64>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let bans = Bans::open(dir.path(), NOW);
    let time = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&time);
    let clock = Arc::new(move || clock.load(Ordering::Relaxed));
    (Gate::new(limits, bans, clock), time, dir)
}

fn at(ip: &str) -> Multiaddr {
    let kind = if ip.contains(':') { "ip6" } else { "ip4" };
    format!("/{kind}/{ip}/tcp/5000").parse().unwrap()
}

fn refused(denied: ConnectionDenied) -> GateRefusal {
    *denied.downcast_ref::<GateRefusal>().unwrap()
}

fn next_id(gate: &Gate) -> ConnectionId {
    ConnectionId::new_unchecked(usize::try_from(gate.table.arrivals).unwrap() + 1_000)
}

fn establish(gate: &mut Gate, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
    gate.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
        peer_id: peer,
        connection_id: id,
        endpoint,
        failed_addresses: &[],
        other_established: 0,
    }));
}

fn close(gate: &mut Gate, peer: PeerId, id: ConnectionId) {
    let remaining_established = gate.table.count_of(peer) - 1;
    let endpoint = ConnectedPoint::Listener {
        local_addr: Multiaddr::empty(),
        send_back_addr: Multiaddr::empty(),
    };
    gate.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
        peer_id: peer,
        connection_id: id,
        endpoint: &endpoint,
        cause: None,
        remaining_established,
    }));
}

/// Goes through what the swarm does with an inbound connection.
fn arrive_over(
    gate: &mut Gate,
    peer: PeerId,
    local: Multiaddr,
    remote: Multiaddr,
) -> Result<ConnectionId, GateRefusal> {
    let id = next_id(gate);
    gate.handle_pending_inbound_connection(id, &local, &remote)
        .map_err(refused)?;
    gate.handle_established_inbound_connection(id, peer, &local, &remote)
        .map_err(refused)?;
    let endpoint = ConnectedPoint::Listener {
        local_addr: local,
        send_back_addr: remote,
    };
    establish(gate, peer, id, &endpoint);
    Ok(id)
}

fn arrive(gate: &mut Gate, peer: PeerId, ip: &str) -> Result<ConnectionId, GateRefusal> {
    arrive_over(gate, peer, HERE.parse().unwrap(), at(ip))
}

/// Goes through what the swarm does with an outbound connection.
fn dial(
    gate: &mut Gate,
    peer: PeerId,
    ip: &str,
    chosen: bool,
) -> Result<ConnectionId, GateRefusal> {
    let id = next_id(gate);
    if chosen {
        gate.expect_dial(id);
    }
    gate.handle_pending_outbound_connection(id, Some(peer), &[at(ip)], Endpoint::Dialer)
        .map_err(refused)?;
    let (role_override, port_use) = (Endpoint::Dialer, PortUse::Reuse);
    gate.handle_established_outbound_connection(id, peer, &at(ip), role_override, port_use)
        .map_err(refused)?;
    let endpoint = ConnectedPoint::Dialer {
        address: at(ip),
        role_override,
        port_use,
    };
    establish(gate, peer, id, &endpoint);
    Ok(id)
}

/// The peers that the gate evicts.
fn put_out(gate: &mut Gate) -> Vec<PeerId> {
    let waker = noop_waker();
    let mut context = Context::from_waker(&waker);
    let mut all = Vec::new();
    while let Poll::Ready(ToSwarm::CloseConnection { peer_id, .. }) = gate.poll(&mut context) {
        all.push(peer_id);
    }
    all
}

#[test]
fn two_peers_of_a_host_and_eight_of_a_site() {
    let (mut gate, _dir) = gate(LIMITS);
    for ip in ["203.0.113.1", "::ffff:203.0.113.1"] {
        arrive(&mut gate, PeerId::random(), ip).unwrap();
    }
    let third = arrive(&mut gate, PeerId::random(), "203.0.113.1");
    assert_eq!(third.unwrap_err(), GateRefusal::HostFull);
    for last in 2..8 {
        arrive(&mut gate, PeerId::random(), &format!("203.0.113.{last}")).unwrap();
    }
    let ninth = arrive(&mut gate, PeerId::random(), "203.0.113.99");
    assert_eq!(ninth.unwrap_err(), GateRefusal::SiteFull);
    arrive(&mut gate, PeerId::random(), "203.0.114.1").unwrap();
    // IPv6 hosts are whole /64s.
    for last in 1..3 {
        arrive(&mut gate, PeerId::random(), &format!("2001:db8::{last}")).unwrap();
    }
    let third = arrive(&mut gate, PeerId::random(), "2001:db8::ffff");
    assert_eq!(third.unwrap_err(), GateRefusal::HostFull);
}

#[test]
fn this_machine_is_exempt_unless_told() {
    let (mut open, _dir) = gate(LIMITS);
    for _ in 0..LIMITS.inbound_max {
        arrive(&mut open, PeerId::random(), "127.0.0.1").unwrap();
    }
    assert_eq!(put_out(&mut open), []);
    let (mut strict, _dir) = gate(GateLimits {
        count_loopback: true,
        ..LIMITS
    });
    for _ in 0..2 {
        arrive(&mut strict, PeerId::random(), "127.0.0.1").unwrap();
    }
    let third = arrive(&mut strict, PeerId::random(), "127.0.0.1");
    assert_eq!(third.unwrap_err(), GateRefusal::HostFull);
}

#[test]
fn a_place_is_free_again_once_its_connection_closes() {
    let (mut gate, _dir) = gate(LIMITS);
    let peer = PeerId::random();
    let first = arrive(&mut gate, peer, "203.0.113.1").unwrap();
    arrive(&mut gate, PeerId::random(), "203.0.113.1").unwrap();
    assert!(arrive(&mut gate, PeerId::random(), "203.0.113.1").is_err());
    close(&mut gate, peer, first);
    arrive(&mut gate, PeerId::random(), "203.0.113.1").unwrap();
}

#[test]
fn the_banned_are_refused_by_identity_and_by_host() {
    let (mut gate, _dir) = gate(LIMITS);
    let peer = PeerId::random();
    gate.bans()
        .ban(Subject::Peer(peer), NOW + 10, NOW, BannedBy::Operator);
    let refused = arrive(&mut gate, peer, "127.0.0.1");
    assert_eq!(refused.unwrap_err(), GateRefusal::Banned);
    let host = Subject::host("203.0.113.7".parse().unwrap()).unwrap();
    gate.bans().ban(host, NOW + 10, NOW, BannedBy::Node);
    let refused = arrive(&mut gate, PeerId::random(), "203.0.113.7");
    assert_eq!(refused.unwrap_err(), GateRefusal::Banned);
    arrive(&mut gate, PeerId::random(), "203.0.113.8").unwrap();
}

#[test]
fn more_connections_of_a_peer_take_no_places_of_others() {
    let (mut gate, _dir) = gate(LIMITS);
    for number in 0..LIMITS.inbound_max {
        let peer = PeerId::random();
        for _ in 0..PER_PEER_MAX {
            arrive(&mut gate, peer, &format!("203.{number}.113.1")).unwrap();
        }
        let over = arrive(&mut gate, peer, &format!("203.{number}.113.1"));
        assert_eq!(over.unwrap_err(), GateRefusal::PeerFull);
    }
    assert_eq!(put_out(&mut gate), []);
}

/// Closes the connections of the peers that the gate evicts; returns these peers.
fn see_out(gate: &mut Gate) -> Vec<PeerId> {
    let out = put_out(gate);
    for peer in &out {
        let all = gate.table.connections.iter();
        let held = all.filter(|(_, (_, one))| one.peer == *peer);
        let ids: Vec<_> = held.map(|(id, _)| *id).collect();
        for id in ids {
            close(gate, *peer, id);
        }
    }
    out
}

/// Fills a gate with settled peers, the nearest first.
fn fill(gate: &mut Gate, time: &AtomicU64) -> Vec<PeerId> {
    let settled = LIMITS.inbound_max - gate.guests_max();
    let mut peers = Vec::new();
    for number in 0..settled {
        let peer = PeerId::random();
        arrive(gate, peer, &format!("203.{number}.113.1")).unwrap();
        gate.note_latency(peer, Duration::from_millis(10 + number as u64));
        peers.push(peer);
    }
    time.fetch_add(GUEST_SECS, Ordering::Relaxed);
    gate.settle_guests();
    assert_eq!(put_out(gate), []);
    peers
}

#[test]
fn a_settled_newcomer_takes_the_place_of_the_peer_with_the_least_merit() {
    let (mut gate, time, _dir) = gate_in_time(LIMITS);
    let old = fill(&mut gate, &time);
    for last in 0..200 {
        arrive(&mut gate, PeerId::random(), &format!("198.51.{last}.1")).unwrap();
        time.fetch_add(GUEST_SECS, Ordering::Relaxed);
        gate.settle_guests();
        assert_eq!(see_out(&mut gate).len(), 1);
        assert_eq!(gate.table.inbound().len(), old.len());
    }
    // The nearest peers are still there.
    let left = gate.table.inbound();
    assert!(old[..8].iter().all(|peer| left.contains(peer)));
}

#[test]
fn short_visits_evict_no_settled_peer() {
    let (mut gate, time, _dir) = gate_in_time(LIMITS);
    let old = fill(&mut gate, &time);
    for last in 0..200 {
        arrive(&mut gate, PeerId::random(), &format!("198.51.{last}.1")).unwrap();
        gate.settle_guests();
        see_out(&mut gate);
        assert!(gate.table.inbound().len() <= LIMITS.inbound_max);
    }
    let left = gate.table.inbound();
    assert!(old.iter().all(|peer| left.contains(peer)));
}

#[test]
fn peers_in_all_are_bounded_and_lookups_apart() {
    let limits = GateLimits {
        peers_max: 4,
        inbound_max: 2,
        ..LIMITS
    };
    let (mut gate, _dir) = gate(limits);
    for number in 0..4 {
        dial(
            &mut gate,
            PeerId::random(),
            &format!("203.{number}.1.1"),
            true,
        )
        .unwrap();
    }
    let fifth = dial(&mut gate, PeerId::random(), "203.9.1.1", true);
    assert_eq!(fifth.unwrap_err(), GateRefusal::OutboundFull);
    let inbound = arrive(&mut gate, PeerId::random(), "203.9.1.1");
    assert_eq!(inbound.unwrap_err(), GateRefusal::InboundFull);
    // Connections that protocols open have places of their own, and make no peers.
    let strangers: Vec<_> = (0..LOOKUPS_MAX).map(|_| PeerId::random()).collect();
    let ids: Vec<_> = strangers
        .iter()
        .map(|peer| dial(&mut gate, *peer, "203.9.1.1", false).unwrap())
        .collect();
    let over = dial(&mut gate, PeerId::random(), "203.9.1.1", false);
    assert_eq!(over.unwrap_err(), GateRefusal::LookupsFull);
    assert!(!gate.adopt(strangers[0], ids[0]));
    close(&mut gate, strangers[0], ids[0]);
    dial(&mut gate, PeerId::random(), "203.9.1.1", false).unwrap();
}

#[test]
fn probes_of_many_peers_do_not_keep_the_dialer_from_dialling() {
    let (mut gate, _dir) = gate(LIMITS);
    let mut probed = 0;
    for number in 0..LIMITS.inbound_max {
        let (peer, ip) = (PeerId::random(), format!("203.{number}.1.1"));
        arrive(&mut gate, peer, &ip).unwrap();
        for _ in 0..2 {
            probed += usize::from(dial(&mut gate, peer, &ip, false).is_ok());
        }
    }
    assert_eq!(probed, PROBES_MAX);
    dial(&mut gate, PeerId::random(), "198.51.100.1", true).unwrap();
    dial(&mut gate, PeerId::random(), "198.51.100.1", false).unwrap();
}

#[test]
fn two_peers_through_a_relay_and_eight_through_all() {
    let (mut gate, _dir) = gate(LIMITS);
    let come_by = |gate: &mut Gate, relay: &str| {
        let local = format!("/ip4/203.0.113.1/tcp/1{relay}/p2p-circuit");
        let peer = PeerId::random();
        let remote = Multiaddr::empty().with(libp2p::multiaddr::Protocol::P2p(peer));
        arrive_over(gate, peer, local.parse().unwrap(), remote)
    };
    let come = |gate: &mut Gate, relay: PeerId| come_by(gate, &format!("/p2p/{relay}"));
    // A relay that was dialled by its address shows no identity.
    for _ in 0..PER_RELAY_MAX {
        come_by(&mut gate, "").unwrap();
    }
    assert_eq!(come_by(&mut gate, "").unwrap_err(), GateRefusal::RelayFull);
    for _ in 1..RELAYED_MAX / PER_RELAY_MAX {
        let relay = PeerId::random();
        for _ in 0..PER_RELAY_MAX {
            come(&mut gate, relay).unwrap();
        }
        assert_eq!(come(&mut gate, relay).unwrap_err(), GateRefusal::RelayFull);
    }
    let over = come(&mut gate, PeerId::random());
    assert_eq!(over.unwrap_err(), GateRefusal::RelayFull);
    arrive(&mut gate, PeerId::random(), "203.0.113.1").unwrap();
}

#[test]
fn a_site_does_not_take_all_that_is_pending() {
    let (mut gate, _dir) = gate(LIMITS);
    let local: Multiaddr = HERE.parse().unwrap();
    let mut taken = 0;
    for last in 0..200 {
        let id = ConnectionId::new_unchecked(last);
        let remote = at(&format!("203.0.113.{last}"));
        taken += usize::from(
            gate.handle_pending_inbound_connection(id, &local, &remote)
                .is_ok(),
        );
    }
    assert_eq!(taken, PENDING_PER_SITE_MAX);
    arrive(&mut gate, PeerId::random(), "198.51.100.1").unwrap();
}
