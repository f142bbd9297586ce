//! Connections as they come, live and go, and what that makes of their peers.

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId, ping};
use tracing::debug;

use crate::policy::address::{is_relayed, relay_of};
use crate::policy::peers::{Link, Peer};
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
            // It may do without.
            Err(ping::Failure::Unsupported) => {}
            // The second in a row: of the first, libp2p does not speak.
            Err(error) => {
                debug!(peer = %event.peer, %error, "it answers no longer");
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
        let mut wanted = self.dialer.connected(connection, id);
        let (now_ms, now) = (self.now_ms(), self.now());
        let (address, inbound) = place_of(endpoint, id);
        let relay = relay_of(&address).or_else(|| self.relay_at(&address));
        // A way around the relay that was wanted is wanted.
        if let Some(peer) = self.peers.get(&id)
            && !wanted
            && !inbound
            && !endpoint.is_relayed()
            && peer
                .link()
                .is_some_and(|link| link.is_relayed() && link.wanted)
        {
            wanted = self.swarm.behaviour_mut().gate.adopt(id, connection);
        }
        debug!(peer = %id, %address, inbound, wanted, "connected");
        let link = Link {
            id: connection,
            address,
            inbound,
            wanted,
            relay,
            since_ms: now_ms,
        };
        self.peers.connected(id, link, now_ms, now);
        self.dialled(connection, id);
    }

    /// The peer behind the address of a relay, which shows no identity where the
    /// relay was dialled without one.
    fn relay_at(&self, address: &Multiaddr) -> Option<PeerId> {
        if !is_relayed(address) {
            return None;
        }
        let until = |part: &Protocol<'_>| !matches!(part, Protocol::P2pCircuit);
        let relay: Multiaddr = address.iter().take_while(until).collect();
        let mut peers = self.peers.iter();
        let found = peers.find(|(_, peer)| peer.links.iter().any(|link| link.address == relay));
        found.map(|(id, _)| *id)
    }

    /// The peer is on our network: tells the core.
    pub(super) fn admit(&mut self, id: PeerId) {
        let Some(key) = self.peers.admit(&id) else {
            return;
        };
        let now = self.now();
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let inbound = peer.is_inbound();
        if let Some(link) = peer.link().filter(|link| !link.inbound) {
            self.dialer.book.succeeded(id, plain(&link.address), now);
        }
        self.dialer.useful(id);
        self.tell_core(PeerEvent::Connected { peer: key, inbound });
        self.added(&id);
        self.refresh_local();
        // Peers come and go as they please: no more than this at the usual level.
        debug!(peer = %id, inbound, peers = self.peers.admitted(), "new peer");
    }

    pub(super) fn on_gone(&mut self, id: PeerId, peer: &Peer) {
        if let Some(key) = peer.key {
            self.requests.retain(|_, (asked, _)| *asked != key);
            self.tell_core(PeerEvent::Disconnected { peer: key });
            self.refresh_local();
            debug!(peer = %id, peers = self.peers.admitted(), "a peer has left");
        } else if !peer.identified {
            self.dialer.useless(&id, self.now_ms());
            self.not_added(&id, "it does not show that it is on this network");
        }
    }

    pub(super) fn on_dial_failure(&mut self, connection: ConnectionId, error: &DialError) {
        if let DialError::LocalPeerId { address } = error {
            self.dialer.is_us(address);
        }
        debug!(%error, "a dial failed");
        match error {
            // This node's own doing: the peer may be as well as ever.
            DialError::Denied { .. }
            | DialError::DialPeerConditionFalse(_)
            | DialError::Aborted => {
                self.dialer.not_begun(connection, self.now_ms());
            }
            _ => self.dialer.failed(connection, self.now_ms()),
        }
        self.not_dialled(connection, error);
    }
}

/// Where a connection leads, and whether the peer came to us: so it does too where
/// both sides dial to do without a relay, and it is the one that was dialled.
fn place_of(endpoint: &ConnectedPoint, id: PeerId) -> (Multiaddr, bool) {
    match endpoint {
        ConnectedPoint::Dialer {
            address,
            role_override,
            ..
        } => (address.clone(), role_override.is_listener()),
        // What is behind a relay has no address of its own.
        ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => {
            (local_addr.clone().with(Protocol::P2p(id)), true)
        }
        ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr.clone(), true),
    }
}

/// An address without `/p2p/ID`.
fn plain(address: &Multiaddr) -> Multiaddr {
    crate::policy::address::PeerAddress::split(address.clone()).address
}
