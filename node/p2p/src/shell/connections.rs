//! Events of connections: how they begin, live and end, and what that means for their peers.

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId, ping};
use tracing::debug;

use crate::policy::address::{PeerAddress, is_relayed, relay_of};
use crate::policy::peers::{Peer, PeerConnection};
use crate::shell::Shell;
use pithead_core::sync::PeerEvent;

impl Shell {
    pub(super) fn on_ping(&mut self, event: ping::Event) {
        let Some(peer) = self.peers.get_mut(&event.peer) else {
            return;
        };
        match event.result {
            Ok(latency) => {
                peer.latency = Some(latency);
                let gate = &mut self.swarm.behaviour_mut().gate;
                gate.note_latency(event.peer, latency);
            }
            // A peer need not answer pings.
            Err(ping::Failure::Unsupported) => {}
            // It is the second failure in a row: libp2p does not report the first.
            Err(error) => {
                debug!(peer = %event.peer, %error, "the peer no longer answers pings");
                self.swarm.close_connection(event.connection);
            }
        }
    }

    pub(super) fn on_connected(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
    ) {
        let mut chosen = self.dialer.connected(connection, id);
        let (now_ms, now) = (self.now_ms(), self.now());
        let (address, inbound) = remote_of(endpoint, id);
        let relay = relay_of(&address).or_else(|| self.relay_at(&address));
        // A direct connection that replaces a chosen one through a relay is chosen as well.
        if let Some(peer) = self.peers.get(&id)
            && !chosen
            && !inbound
            && !endpoint.is_relayed()
            && peer
                .connection()
                .is_some_and(|present| present.is_relayed() && present.chosen)
        {
            chosen = self.swarm.behaviour_mut().gate.adopt(id, connection);
        }
        debug!(peer = %id, %address, inbound, chosen, "connected");
        let established = PeerConnection {
            id: connection,
            address,
            inbound,
            chosen,
            relay,
            since_ms: now_ms,
        };
        self.peers.connected(id, established, now_ms, now);
        self.addition_connected(connection, id);
    }

    /// The relay in a relayed address. If the relay was dialled without its identity, the address
    /// does not show it; then it is the peer that we are connected to at the relay's address.
    fn relay_at(&self, address: &Multiaddr) -> Option<PeerId> {
        if !is_relayed(address) {
            return None;
        }
        let until = |part: &Protocol<'_>| !matches!(part, Protocol::P2pCircuit);
        let relay: Multiaddr = address.iter().take_while(until).collect();
        let mut peers = self.peers.iter();
        let found = peers.find(|(_, peer)| {
            let mut connections = peer.connections.iter();
            connections.any(|connection| connection.address == relay)
        });
        found.map(|(id, _)| *id)
    }

    /// Admits a peer that has shown that it is on our network, and tells the core.
    pub(super) fn admit(&mut self, id: PeerId) {
        let Some(key) = self.peers.admit(&id) else {
            return;
        };
        let now = self.now();
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let inbound = peer.is_inbound();
        if let Some(dialled) = peer.connection().filter(|connection| !connection.inbound) {
            let address = PeerAddress::split(dialled.address.clone()).address;
            self.dialer.book.reached(id, address, now);
        }
        self.dialer.mark_useful(id);
        self.outbox
            .push(PeerEvent::Connected { peer: key, inbound });
        self.addition_admitted(&id);
        self.refresh_local();
        // Peers come and go as they please, so this is no message for the usual level.
        debug!(peer = %id, inbound, peers = self.peers.admitted(), "new peer");
    }

    /// The last connection of a peer has closed.
    pub(super) fn on_peer_left(&mut self, id: PeerId, peer: &Peer) {
        if let Some(key) = peer.key {
            self.requests.retain(|_, (asked, _)| *asked != key);
            self.outbox.push(PeerEvent::Disconnected { peer: key });
            self.refresh_local();
            debug!(peer = %id, peers = self.peers.admitted(), "a peer has left");
        } else if !peer.identified {
            self.dialer.mark_useless(&id, self.now_ms());
            self.addition_failed(&id, "it does not show that it is on this network");
        }
    }

    pub(super) fn on_dial_failure(&mut self, connection: ConnectionId, error: &DialError) {
        if let DialError::LocalPeerId { address } = error {
            self.dialer.remove_own_address(address);
        }
        debug!(%error, "a dial failed");
        match error {
            // This node itself refused to dial, which says nothing about the peer.
            DialError::Denied { .. }
            | DialError::DialPeerConditionFalse(_)
            | DialError::Aborted => {
                self.dialer.dial_not_begun(connection, self.now_ms());
            }
            _ => self.dialer.dial_failed(connection, self.now_ms()),
        }
        self.addition_not_dialled(connection, error);
    }
}

/// The address at the other end of a connection, and whether the peer connected to us. When both
/// sides dial to replace a relayed connection, the peer that plays the dialer connected to us.
fn remote_of(endpoint: &ConnectedPoint, id: PeerId) -> (Multiaddr, bool) {
    match endpoint {
        ConnectedPoint::Dialer {
            address,
            role_override,
            ..
        } => (address.clone(), role_override.is_listener()),
        // A peer behind a relay shows no address of its own.
        ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => {
            (local_addr.clone().with(Protocol::P2p(id)), true)
        }
        ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr.clone(), true),
    }
}
