//! Which nodes are connected: dialling, accepting, and losing connections.
//!
//! Messages on connections are in `network`. Start reading at [`Simulation::dial`].

use pithead_core::sync::{PeerEvent, PeerKey};

use crate::events::{SECOND_US, SimEvent};
use crate::nodes::sim_node::ConnectionEnd;
use crate::world::Simulation;

/// The most connections of a node.
pub(crate) const CONNECTIONS_MAX: usize = 32;
/// Time after which a node looks again whether it has enough connections.
const DIAL_US: u64 = 10 * SECOND_US;
/// How many random nodes a node tries for each connection that it lacks.
const DIAL_TRIES: usize = 5;

impl Simulation {
    /// Dials random nodes if a node has too few outbound connections. It also dials lost
    /// partners again, so that the parts of a split network find each other.
    pub(crate) fn dial(&mut self, index: usize) {
        self.after(DIAL_US, SimEvent::Dial(index));
        if self.nodes[index].core.is_none() {
            return;
        }
        let dials = self.settings.dials;
        let missing = dials.saturating_sub(self.nodes[index].outbound_count());
        for _ in 0..missing {
            for _ in 0..DIAL_TRIES {
                let other = self.rng.network.below(self.nodes.len());
                if self.can_connect(index, other) {
                    let partners = &mut self.nodes[index].partners;
                    if partners.len() < dials {
                        partners.push(other);
                    }
                    self.connect(index, other);
                    break;
                }
            }
        }
        for partner in self.nodes[index].partners.clone() {
            if self.can_connect(index, partner) {
                self.connect(index, partner);
            }
        }
    }

    fn can_connect(&self, index: usize, other: usize) -> bool {
        let (caller, called) = (&self.nodes[index], &self.nodes[other]);
        index != other
            && called.core.is_some()
            && self.reach_each_other(index, other)
            && caller.connections.len() < CONNECTIONS_MAX
            && called.connections.len() < CONNECTIONS_MAX
            && !caller.is_connected_to(other)
            && !called.is_connected_to(index)
            && !caller.has_banned(other, self.now_us)
            && !called.has_banned(index, self.now_us)
    }

    /// Connects two nodes. Both get to know it after the handshakes.
    fn connect(&mut self, caller: usize, called: usize) {
        let caller_key = PeerKey(self.next_number());
        let called_key = PeerKey(self.next_number());
        let location = self.nodes[called].location;
        let latency_us = self.nodes[caller].location.latency_us(&location);
        let ends = [
            (caller, caller_key, called, called_key, true),
            (called, called_key, caller, caller_key, false),
        ];
        for (index, key, other, other_key, outbound) in ends {
            let end = ConnectionEnd {
                other,
                other_key,
                outbound,
                latency_us,
            };
            self.nodes[index].connections.insert(key, end);
            let event = PeerEvent::Connected {
                peer: key,
                inbound: !outbound,
            };
            // Two round trips: one for TCP, one for Noise.
            self.after((4.0 * latency_us) as u64, SimEvent::Peer(index, event));
        }
        self.counters.connections += 1;
    }

    /// Removes one end of a connection and tells the node at this end.
    fn remove_connection(&mut self, index: usize, key: PeerKey) -> Option<ConnectionEnd> {
        let node = &mut self.nodes[index];
        let end = node.connections.remove(&key)?;
        node.awaiting_verdict.retain(|_, (peer, _)| *peer != key);
        let event = PeerEvent::Disconnected { peer: key };
        self.after(0, SimEvent::Peer(index, event));
        Some(end)
    }

    /// Closes a connection. The other end notices after the latency.
    pub(crate) fn close_connection(&mut self, index: usize, key: PeerKey) {
        if let Some(end) = self.remove_connection(index, key) {
            let event = SimEvent::ConnectionLost(end.other, end.other_key);
            self.after(end.latency_us as u64, event);
        }
    }

    /// A node notices that a connection is dead.
    pub(crate) fn lose_connection(&mut self, index: usize, key: PeerKey) {
        self.remove_connection(index, key);
    }

    /// Schedules when a node drops a connection, in scenarios where nodes do that.
    pub(crate) fn schedule_drop(&mut self, index: usize) {
        let mean = self.weather.churn_secs;
        if mean.is_finite() {
            let wait = self.rng.faults.exponential(mean);
            self.after_secs(wait, SimEvent::DropConnection(index));
        }
    }

    /// Drops a random outbound connection of a node. The peer is no longer a partner.
    pub(crate) fn drop_connection(&mut self, index: usize) {
        if !self.trouble {
            return;
        }
        self.schedule_drop(index);
        let node = &mut self.nodes[index];
        let outbound: Vec<(PeerKey, usize)> = node
            .connections
            .iter()
            .filter(|(_, end)| end.outbound)
            .map(|(key, end)| (*key, end.other))
            .collect();
        if let Some((key, other)) = self.rng.faults.pick(&outbound) {
            node.partners.retain(|partner| *partner != other);
            self.close_connection(index, key);
        }
    }
}
