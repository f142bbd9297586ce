//! What travels on connections: gossip, requests and responses, each delayed by the
//! sender's line and the distance, and sometimes lost.
//!
//! Which connections exist is decided in `connections`. The cores see only the events
//! that arrive. Start reading at [`Simulation::send_request`].

use std::sync::Arc;

use pithead_consensus::{Decode as _, Encode as _};
use pithead_core::node::Event;
use pithead_core::sync::{
    Gossip, PeerEvent, PeerKey, Request, RequestFailure, RequestId, Response, serve,
};

use crate::events::{RequestInFlight, SECOND_US, SimEvent};
use crate::nodes::geography;
use crate::nodes::gossip::{FRAME_BYTES, GossipMessage};
use crate::nodes::sim_node::{ConnectionEnd, NodeKind};
use crate::violation::Violation;
use crate::world::Simulation;

/// How long a node waits for a response, as the real node does.
const REQUEST_US: u64 = 20 * SECOND_US;
/// Mean seconds by which the network delays a late approval: a few blocks.
const LATE_APPROVAL_SECS: f64 = 30.0;

impl Simulation {
    /// Puts a message on a node's line, and returns when it arrives.
    fn transmit(&mut self, from: usize, latency_us: f64, bytes: usize) -> u64 {
        let jitter = geography::jitter(&mut self.rng.network);
        let node = &mut self.nodes[from];
        let ready_us = (self.now_us + node.processing_us).max(node.line_free_us);
        let sending_us = bytes as f64 * 8e6 / node.location.bits_per_sec;
        node.line_free_us = ready_us + sending_us as u64;
        node.line_free_us + (latency_us * jitter) as u64
    }

    /// Sends a gossip message to all peers of a node but the one it came from.
    pub(crate) fn forward(
        &mut self,
        index: usize,
        message: &Arc<GossipMessage>,
        from: Option<PeerKey>,
    ) {
        let ends: Vec<ConnectionEnd> = self.nodes[index]
            .connections
            .iter()
            .filter(|(key, _)| Some(**key) != from)
            .map(|(_, end)| *end)
            .collect();
        for end in ends {
            self.send_gossip(index, &end, message);
        }
    }

    fn send_gossip(&mut self, from: usize, end: &ConnectionEnd, message: &Arc<GossipMessage>) {
        let mut arrives_us = self.transmit(from, end.latency_us, message.bytes);
        let late = self.weather.late_approvals;
        if matches!(message.gossip, Gossip::Approval(_)) && self.rng.network.happens(late) {
            let wait = self.rng.network.exponential(LATE_APPROVAL_SECS);
            arrives_us += (wait * 1e6) as u64;
        }
        match message.gossip {
            Gossip::Block(_) => self.counters.announcements.add(message.bytes),
            Gossip::Transaction(_) => self.counters.transactions.add(message.bytes),
            Gossip::Approval(_) => self.counters.approvals.add(message.bytes),
        }
        let loss = self.weather.gossip_loss;
        if self.rng.network.happens(loss) || !self.reaches(from, end.other) {
            return;
        }
        let event = SimEvent::Gossip(end.other, end.other_key, Arc::clone(message));
        self.at(arrives_us, event);
    }

    /// Sends a request to a peer. If it gets lost, the node only learns that by a time-out.
    pub(crate) fn send_request(
        &mut self,
        index: usize,
        peer: PeerKey,
        id: RequestId,
        request: Request,
    ) {
        let Some(end) = self.nodes[index].connections.get(&peer).copied() else {
            return;
        };
        let bytes = request.encode().len() + FRAME_BYTES;
        let arrives_us = self.transmit(index, end.latency_us, bytes);
        self.counters.requests.add(bytes);
        let loss = self.weather.request_loss;
        if self.rng.network.happens(loss) || !self.reaches(index, end.other) {
            self.time_out(index, peer, id, self.now_us);
            return;
        }
        let request = RequestInFlight {
            server: end.other,
            server_key: end.other_key,
            id,
            request,
            sent_us: self.now_us,
        };
        self.at(arrives_us, SimEvent::Request(request));
    }

    /// Schedules the time-out of a request that will get no response.
    fn time_out(&mut self, index: usize, peer: PeerKey, id: RequestId, sent_us: u64) {
        let event = PeerEvent::Response {
            peer,
            id,
            response: Err(RequestFailure::Timeout),
        };
        self.at(sent_us + REQUEST_US, SimEvent::Peer(index, event));
    }

    /// A request has arrived. The node answers from a snapshot, without its core, as the
    /// real node's shell does. A lying node may distort its response.
    pub(crate) fn receive_request(&mut self, pending: RequestInFlight) -> Result<(), Violation> {
        let server = pending.server;
        let node = &self.nodes[server];
        let Some(end) = node.connections.get(&pending.server_key).copied() else {
            return Ok(());
        };
        if node.core.is_none() {
            return Ok(());
        }
        let reads = node.store.reads();
        let honest = self.serve_request(server, &pending.request)?;
        let reads = self.nodes[server].store.reads() - reads;
        self.check_served(server, reads)?;
        if let Response::Approvals(approvals) = &honest {
            for signed in approvals {
                self.check_vote_sent(server, signed)?;
            }
        }
        self.check_answer_size(server, &pending.request, &honest)?;
        let response = if self.nodes[server].kind == NodeKind::Liar {
            self.distort(server, &pending.request, honest)
        } else {
            Some(honest)
        };
        match response {
            Some(response) => self.send_response(&pending, &end, &response),
            None => self.time_out(end.other, end.other_key, pending.id, pending.sent_us),
        }
        Ok(())
    }

    /// The honest response of a running node to a request.
    fn serve_request(&self, server: usize, request: &Request) -> Result<Response, Violation> {
        let node = &self.nodes[server];
        let Some(core) = &node.core else {
            return Err(self.violation(Some(server), "a node that is down is to answer"));
        };
        let served = core.chain().store().snapshot().and_then(|snapshot| {
            serve(
                snapshot.as_ref(),
                core.mempool(),
                core.finality(),
                &node.recent,
                request,
            )
        });
        served.map_err(|error| self.storage_failed(server, &error))
    }

    /// Sends a response. If it gets lost or comes too late, the request times out.
    fn send_response(
        &mut self,
        pending: &RequestInFlight,
        end: &ConnectionEnd,
        response: &Response,
    ) {
        let (server, asker) = (pending.server, end.other);
        let encoded = response.encode();
        let bytes = encoded.len() + FRAME_BYTES;
        let arrives_us = self.transmit(server, end.latency_us, bytes);
        match response {
            Response::Blocks(_) => self.counters.bodies.add(bytes),
            _ => self.counters.responses.add(bytes),
        }
        let loss = self.weather.request_loss;
        let is_lost = self.rng.network.happens(loss) || !self.reaches(server, asker);
        if is_lost || arrives_us > pending.sent_us + REQUEST_US {
            self.time_out(asker, end.other_key, pending.id, pending.sent_us);
            return;
        }
        // Encoding and decoding shows what the real wire would make of the response.
        let response = Response::decode(&encoded).map_err(|_| RequestFailure::Undecodable);
        let event = PeerEvent::Response {
            peer: end.other_key,
            id: pending.id,
            response,
        };
        self.at(arrives_us, SimEvent::Peer(asker, event));
    }

    /// Hands a node an event from one of its peers, unless the connection is gone.
    pub(crate) fn receive_peer_event(
        &mut self,
        index: usize,
        event: PeerEvent,
    ) -> Result<(), Violation> {
        let (peer, needs_connection) = match &event {
            PeerEvent::Disconnected { peer } => (peer, false),
            PeerEvent::Connected { peer, .. }
            | PeerEvent::Response { peer, .. }
            | PeerEvent::Status { peer, .. }
            | PeerEvent::Offended { peer, .. }
            | PeerEvent::Gossip { peer, .. } => (peer, true),
        };
        if needs_connection && !self.nodes[index].connections.contains_key(peer) {
            return Ok(());
        }
        self.handle(index, Event::Peer(event)).map(drop)
    }
}
