//! Events of discovery: what identify, Kademlia and mDNS tell of peers goes into the address book,
//! from which the dialer chooses. Also how a node behind a router becomes reachable.

use libp2p::autonat::NatStatus;
use libp2p::core::transport::ListenerId;
use libp2p::kad::{self, GetClosestPeersError, GetClosestPeersOk, QueryResult};
use libp2p::multiaddr::Protocol;
use libp2p::relay::HOP_PROTOCOL_NAME;
use libp2p::{Multiaddr, PeerId, autonat, identify, mdns, upnp};
use tracing::{debug, info};

use crate::policy::address::{PeerAddress, is_relayed};
use crate::policy::address_book::believable;
use crate::policy::address_scope::AddressScope;
use crate::policy::dialer::ConnectedPeers;
use crate::policy::limiter::Source;
use crate::policy::peers::printable;
use crate::shell::Shell;
use crate::wire::behaviour::BehaviourEvent;

/// Pause between two lookups of peers while outbound peers are missing.
const LOOKUP_INTERVAL_MS: u64 = 10_000;
/// Pause between two lookups while there are enough outbound peers.
const LOOKUP_IDLE_INTERVAL_MS: u64 = 300_000;
/// Pause before the lookup that follows a new peer.
const LOOKUP_NEW_PEER_MS: u64 = 200;

impl Shell {
    pub(super) fn on_discovery(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, info);
            }
            BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                result: QueryResult::GetClosestPeers(found),
                ..
            }) => {
                let (Ok(GetClosestPeersOk { peers, .. })
                | Err(GetClosestPeersError::Timeout { peers, .. })) = found;
                for peer in peers {
                    self.add_hearsay(peer.peer_id, peer.addrs, AddressScope::Public);
                }
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.add_hearsay(peer, vec![address], AddressScope::Private);
                }
            }
            BehaviourEvent::Autonat(autonat::Event::StatusChanged { new, .. }) => {
                self.on_reachability(&new);
            }
            BehaviourEvent::Upnp(upnp::Event::NewExternalAddr { external_addr, .. }) => {
                info!(address = %external_addr, "the router has opened a port");
            }
            _ => {}
        }
    }

    /// A peer has told its agent, protocols and addresses.
    fn on_identified(&mut self, id: PeerId, info: identify::Info) {
        if !self.identifications.take(&Source::Peer(id), self.now_ms()) {
            debug!(peer = %id, "the peer identifies itself too often");
            self.dialer.mark_useless(&id, self.now_ms());
            return self.disconnect(&id);
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.agent = printable(&info.agent_version);
        peer.offers_relay = info.protocols.contains(&HOP_PROTOCOL_NAME);
        let Some(remote) = peer.connection().map(|one| one.address.clone()) else {
            return;
        };
        // The protocol's name holds the genesis hash.
        if !info.protocols.contains(&self.names.sync) {
            debug!(peer = %id, family = %printable(&info.protocol_version), "of another network");
            self.dialer.mark_useless(&id, self.now_ms());
            self.addition_failed(&id, "it is on another network");
            self.disconnect(&id);
            return;
        }
        let addresses = believable(info.listen_addrs, &remote);
        let mut routed = Vec::new();
        if info.protocols.contains(&self.names.kad) {
            let direct = addresses.iter().filter(|address| !is_relayed(address));
            routed.extend(direct.cloned());
        }
        self.set_routed(id, routed);
        self.dialer.book.set_claimed(id, addresses);
        if self.peers.key(&id).is_none() {
            let soon_ms = self.now_ms().saturating_add(LOOKUP_NEW_PEER_MS);
            self.next_lookup_ms = self.next_lookup_ms.min(soon_ms);
        }
        self.admit(id);
    }

    /// Puts exactly these addresses of a peer into Kademlia's routing table. Kademlia itself would
    /// keep every address that it ever heard.
    fn set_routed(&mut self, id: PeerId, addresses: Vec<Multiaddr>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if !addresses.is_empty() && peer.routed == addresses {
            return;
        }
        peer.routed.clone_from(&addresses);
        let kad = &mut self.swarm.behaviour_mut().kad;
        kad.remove_peer(&id);
        for address in addresses {
            kad.add_address(&id, address);
        }
    }

    /// Adds addresses that other peers told of a peer, as far as peers of this scope may tell
    /// them.
    fn add_hearsay(&mut self, id: PeerId, addresses: Vec<Multiaddr>, from: AddressScope) {
        let from = from.min(self.dial_scope.home());
        let addresses = addresses
            .into_iter()
            .map(|address| PeerAddress::split(address).address)
            .filter(|address| from.may_advertise(address));
        self.dialer.book.add_hearsay(id, addresses.collect());
    }

    /// Looks up more peers through Kademlia, if it is time.
    pub(super) fn look_up_peers(&mut self, now_ms: u64, present: &ConnectedPeers) {
        if now_ms < self.next_lookup_ms || present.connected.is_empty() {
            return;
        }
        let missing = present.outbound.len() < self.dialer.outbound_target();
        let pause_ms = if missing {
            LOOKUP_INTERVAL_MS
        } else {
            LOOKUP_IDLE_INTERVAL_MS
        };
        self.next_lookup_ms = now_ms.saturating_add(pause_ms);
        let kad = &mut self.swarm.behaviour_mut().kad;
        // A random target leads to another part of the network each time.
        kad.get_closest_peers(PeerId::random());
    }

    /// Autonat has found out whether other nodes can reach this one.
    fn on_reachability(&mut self, status: &NatStatus) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        match status {
            NatStatus::Public(address) => {
                info!(%address, "reachable from outside");
                kad.set_mode(Some(kad::Mode::Server));
                for listener in self.relays.release() {
                    self.swarm.remove_listener(listener);
                }
            }
            NatStatus::Private => {
                info!("not reachable from outside: asking for relays");
                // As a client, the node stays out of other nodes' routing tables.
                kad.set_mode(Some(kad::Mode::Client));
                self.relays.need();
            }
            NatStatus::Unknown => {}
        }
    }

    /// While this node can't be reached, asks peers to relay connections to it. A relayed
    /// connection is then replaced by a direct one, if the routers on both sides allow it.
    pub(super) fn keep_relays(&mut self, now_ms: u64) {
        if !self.relays.is_due(now_ms) {
            return;
        }
        let relay = self.peers.iter().find_map(|(id, peer)| {
            // Other nodes may be unable to reach a peer that connected to us.
            let connection = peer.connection()?;
            if connection.inbound || connection.relay.is_some() {
                return None;
            }
            let base = PeerAddress::split(connection.address.clone()).address;
            let usable = peer.offers_relay
                && self.relays.may_ask(id, now_ms)
                && AddressScope::of(&base).is_some();
            usable.then_some((*id, base))
        });
        let Some((id, base)) = relay else {
            return;
        };
        self.relays.asked(now_ms);
        let through = base.with(Protocol::P2p(id)).with(Protocol::P2pCircuit);
        match self.swarm.listen_on(through) {
            Ok(listener) => self.relays.listening(listener, id),
            Err(error) => {
                debug!(relay = %id, %error, "the relay can't be asked");
                self.relays.refuse(id, now_ms);
            }
        }
    }

    /// A listener has ended. If it was at a relay, another relay is asked.
    pub(super) fn on_listener_closed(&mut self, listener: ListenerId) {
        let now_ms = self.now_ms();
        if let Some(relay) = self.relays.ended(listener, now_ms) {
            debug!(%relay, "the relay has ended its service");
        }
    }
}
