//! How nodes find each other: what identify, Kademlia and mDNS tell goes into the
//! book of known peers, from which the dialer chooses; and how a node behind a
//! router becomes reachable.

use libp2p::autonat::NatStatus;
use libp2p::kad::{self, GetClosestPeersError, GetClosestPeersOk, QueryResult};
use libp2p::multiaddr::Protocol;
use libp2p::relay::HOP_PROTOCOL_NAME;
use libp2p::{Multiaddr, PeerId, autonat, identify, mdns, upnp};
use tracing::{debug, info};

use super::address::{is_loopback, is_relayed, is_shareable};
use super::behaviour::BehaviourEvent;
use super::book::usable;
use super::dialer::Present;
use super::peers::printable;
use super::swarm::Shell;

/// Pause between two walks through the network while peers are wanting.
const LOOKUP_INTERVAL_MS: u64 = 10_000;
/// The same while there are enough.
const LOOKUP_IDLE_INTERVAL_MS: u64 = 300_000;
/// Pause before the walk that a new peer is worth.
const LOOKUP_NEW_PEER_MS: u64 = 200;
/// Relays that are asked to pass on connections.
const RELAYS_MAX: usize = 2;

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
                    self.learn(peer.peer_id, peer.addrs);
                }
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.learn(peer, vec![address]);
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

    fn on_identified(&mut self, id: PeerId, info: identify::Info) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.agent = printable(&info.agent_version);
        peer.relays = info.protocols.contains(&HOP_PROTOCOL_NAME);
        let Some(remote) = peer.link().map(|link| link.address.clone()) else {
            return;
        };
        // Names hold the genesis hash.
        if !info.protocols.contains(&self.names.sync) {
            debug!(peer = %id, family = %printable(&info.protocol_version), "of another network");
            self.dialer.useless(&id, self.now_ms());
            self.not_added(&id, "it is on another network");
            self.disconnect(&id);
            return;
        }
        let addresses = usable(info.listen_addrs, &remote);
        let kad = &mut self.swarm.behaviour_mut().kad;
        if info.protocols.contains(&self.names.kad) {
            for address in addresses.iter().filter(|address| !is_relayed(address)) {
                kad.add_address(&id, address.clone());
            }
        } else {
            kad.remove_peer(&id);
        }
        self.dialer.book.learn(id, addresses);
        if self.peers.key(&id).is_none() {
            let soon = self.now_ms().saturating_add(LOOKUP_NEW_PEER_MS);
            self.next_lookup_ms = self.next_lookup_ms.min(soon);
        }
        self.admit(id);
    }

    /// Takes note of where others say that a peer is. Addresses of this machine
    /// count only while peers on this machine are connected: no stranger should
    /// have this node knock at its own doors.
    fn learn(&mut self, id: PeerId, addresses: Vec<Multiaddr>) {
        let mut links = self.peers.iter().flat_map(|(_, peer)| &peer.links);
        let local = links.any(|link| is_loopback(&link.address));
        let addresses = addresses
            .into_iter()
            .map(|address| super::address::PeerAddress::split(address).address)
            .filter(|address| is_shareable(address) || (local && is_loopback(address)));
        self.dialer.book.learn(id, addresses);
    }

    /// Walks through the network for more peers, now and then.
    pub(super) fn look_around(&mut self, now_ms: u64, present: &Present) {
        if now_ms < self.next_lookup_ms || present.connected.is_empty() {
            return;
        }
        let wanting = present.outbound.len() < self.dialer.outbound_target();
        let pause = if wanting {
            LOOKUP_INTERVAL_MS
        } else {
            LOOKUP_IDLE_INTERVAL_MS
        };
        self.next_lookup_ms = now_ms.saturating_add(pause);
        let kad = &mut self.swarm.behaviour_mut().kad;
        // Somewhere else each time.
        kad.get_closest_peers(PeerId::random());
    }

    /// Whether others can reach this node has turned out, or changed.
    fn on_reachability(&mut self, status: &NatStatus) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        match status {
            NatStatus::Public(address) => {
                info!(%address, "reachable from outside");
                kad.set_mode(Some(kad::Mode::Server));
            }
            NatStatus::Private => {
                info!("not reachable from outside");
                // Nobody should be sent here in vain.
                kad.set_mode(Some(kad::Mode::Client));
                self.ask_relays();
            }
            NatStatus::Unknown => {}
        }
    }

    /// Asks peers to pass connections on to this node; those that come so are
    /// then made direct, if the routers on both sides allow it.
    fn ask_relays(&mut self) {
        let mut relays = Vec::new();
        for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.relays) {
            let Some(link) = peer.link().filter(|link| !link.inbound) else {
                continue;
            };
            let base = super::address::PeerAddress::split(link.address.clone()).address;
            if is_shareable(&base) && !is_relayed(&base) {
                relays.push(base.with(Protocol::P2p(*id)).with(Protocol::P2pCircuit));
            }
        }
        for address in relays.into_iter().take(RELAYS_MAX) {
            if let Err(error) = self.swarm.listen_on(address) {
                debug!(%error, "no relay");
            }
        }
    }
}
