//! How nodes find each other: what identify, Kademlia and mDNS tell goes into the
//! book of known peers, from which the dialer chooses; and how a node behind a
//! router becomes reachable.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use libp2p::autonat::NatStatus;
use libp2p::core::transport::ListenerId;
use libp2p::kad::{self, GetClosestPeersError, GetClosestPeersOk, QueryResult};
use libp2p::multiaddr::Protocol;
use libp2p::relay::HOP_PROTOCOL_NAME;
use libp2p::{Multiaddr, PeerId, autonat, identify, mdns, upnp};
use lru::LruCache;
use tracing::{debug, info};

use crate::policy::address::{PeerAddress, Scope, is_relayed};
use crate::policy::address_book::usable;
use crate::policy::dialer::Present;
use crate::policy::limiter::Source;
use crate::policy::peers::printable;
use crate::shell::Shell;
use crate::wire::behaviour::BehaviourEvent;

/// Pause between two walks through the network while peers are wanting.
const LOOKUP_INTERVAL_MS: u64 = 10_000;
/// The same while there are enough.
const LOOKUP_IDLE_INTERVAL_MS: u64 = 300_000;
/// Pause before the walk that a new peer is worth.
const LOOKUP_NEW_PEER_MS: u64 = 200;
/// Relays that are asked to pass on connections.
const RELAYS_MAX: usize = 2;
/// Pause before another relay is asked.
const RELAY_INTERVAL_MS: u64 = 5_000;
/// Pause before one is asked again that would not, or no longer.
const RELAY_REFUSED_MS: u64 = 600_000;
/// Relays of which that is remembered; the oldest goes first.
const RELAYS_REFUSED_MAX: NonZeroUsize = NonZeroUsize::new(100).expect("it is not zero");

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
                    self.hear(peer.peer_id, peer.addrs, Scope::Open);
                }
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.hear(peer, vec![address], Scope::Local);
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
        if !self.identifications.take(&Source::Peer(id), self.now_ms()) {
            debug!(peer = %id, "it says who it is again and again");
            self.dialer.useless(&id, self.now_ms());
            return self.disconnect(&id);
        }
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
        let mut routed = Vec::new();
        if info.protocols.contains(&self.names.kad) {
            let direct = addresses.iter().filter(|address| !is_relayed(address));
            routed.extend(direct.cloned());
        }
        self.route(id, routed);
        self.dialer.book.learn(id, addresses);
        if self.peers.key(&id).is_none() {
            let soon = self.now_ms().saturating_add(LOOKUP_NEW_PEER_MS);
            self.next_lookup_ms = self.next_lookup_ms.min(soon);
        }
        self.admit(id);
    }

    /// Has Kademlia know a peer by these addresses only: by itself it would keep
    /// all that it ever heard.
    fn route(&mut self, id: PeerId, addresses: Vec<Multiaddr>) {
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

    /// Takes note of where others say that a peer is, as far as they may.
    fn hear(&mut self, id: PeerId, addresses: Vec<Multiaddr>, from: Scope) {
        let from = from.min(self.reach.home());
        let addresses = addresses
            .into_iter()
            .map(|address| PeerAddress::split(address).address)
            .filter(|address| from.may_tell(address));
        self.dialer.book.hear(id, addresses.collect());
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
                self.relaying.wanted = false;
                for (listener, _) in self.relaying.listeners.drain() {
                    self.swarm.remove_listener(listener);
                }
            }
            NatStatus::Private => {
                info!("not reachable from outside: asking for relays");
                // Nobody should be sent here in vain.
                kad.set_mode(Some(kad::Mode::Client));
                self.relaying.wanted = true;
            }
            NatStatus::Unknown => {}
        }
    }

    /// While nobody can reach this node, has peers pass connections on to it; those
    /// that come so are then made direct, if the routers on both sides allow it.
    pub(super) fn keep_relays(&mut self, now_ms: u64) {
        let relaying = &self.relaying;
        if !relaying.wanted || relaying.listeners.len() >= RELAYS_MAX || now_ms < relaying.next_ms {
            return;
        }
        let relay = self.peers.iter().find_map(|(id, peer)| {
            // Where a peer that came to us can be reached, others may not know.
            let link = peer
                .link()
                .filter(|link| !link.inbound && link.relay.is_none())?;
            let base = PeerAddress::split(link.address.clone()).address;
            let asked = relaying.listeners.values().any(|other| other == id);
            let refused = relaying
                .refused
                .peek(id)
                .is_some_and(|until| *until > now_ms);
            (peer.relays && !asked && !refused && Scope::of(&base).is_some()).then_some((*id, base))
        });
        let Some((id, base)) = relay else {
            return;
        };
        self.relaying.next_ms = now_ms.saturating_add(RELAY_INTERVAL_MS);
        match self
            .swarm
            .listen_on(base.with(Protocol::P2p(id)).with(Protocol::P2pCircuit))
        {
            Ok(listener) => {
                self.relaying.listeners.insert(listener, id);
            }
            Err(error) => {
                debug!(relay = %id, %error, "no relay");
                self.relaying.refuse(id, now_ms);
            }
        }
    }

    /// A listener has ended; if it was with a relay, another is asked.
    pub(super) fn on_listener_closed(&mut self, listener: ListenerId) {
        let now_ms = self.now_ms();
        if let Some(relay) = self.relaying.listeners.remove(&listener) {
            debug!(%relay, "it passes nothing on any longer");
            self.relaying.refuse(relay, now_ms);
        }
    }
}

/// The relays of this node.
pub(crate) struct Relaying {
    /// Whether it needs any.
    wanted: bool,
    listeners: HashMap<ListenerId, PeerId>,
    /// When to ask those again that would not, monotonic milliseconds.
    refused: LruCache<PeerId, u64>,
    next_ms: u64,
}

impl Default for Relaying {
    fn default() -> Self {
        Self {
            wanted: false,
            listeners: HashMap::new(),
            refused: LruCache::new(RELAYS_REFUSED_MAX),
            next_ms: 0,
        }
    }
}

impl Relaying {
    fn refuse(&mut self, relay: PeerId, now_ms: u64) {
        self.refused
            .put(relay, now_ms.saturating_add(RELAY_REFUSED_MS));
    }
}
