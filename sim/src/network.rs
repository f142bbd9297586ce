//! Links and what travels on them: the simulated counterpart of sockets.

use std::sync::{Arc, PoisonError};

use pithead_consensus::{Decode as _, Encode as _};
use pithead_core::node::Event;
use pithead_core::sync::{
    Gossip, PeerEvent, PeerKey, Request, RequestFailure, RequestId, Response, serve,
};

use crate::finality::state_of;
use crate::geography;
use crate::member::{FRAME_BYTES, Link, Manner, Message};
use crate::schedule::Happening;
use crate::world::{SECOND_US, Simulation, Violation};

/// The shell's limit for a request.
const REQUEST_US: u64 = 20 * SECOND_US;
/// How often a node looks whether it has enough connections.
const DIAL_US: u64 = 10 * SECOND_US;
/// Most connections of a node.
pub(crate) const LINKS_MAX: usize = 32;
/// Mean seconds by which a late approval is late: a few blocks.
const LATE_APPROVAL_SECS: f64 = 30.0;
/// How many nodes are tried for one new connection at a time.
const DIAL_TRIES: usize = 5;

impl Simulation {
    /// Whether what one node sends comes to another one.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.side[from], self.side[to]);
        from == to || (self.one_way && from > to)
    }

    /// Whether two nodes can hold a connection.
    pub(crate) fn hear_each_other(&self, a: usize, b: usize) -> bool {
        self.reaches(a, b) && self.reaches(b, a)
    }

    /// Puts a message on a node's line; returns when it arrives.
    fn transmit(&mut self, from: usize, latency_us: f64, bytes: usize) -> u64 {
        let jitter = geography::jitter(&mut self.dice.network);
        let member = &mut self.members[from];
        let ready = (self.now_us + member.think_us).max(member.line_free_us);
        let sending = bytes as f64 * 8e6 / member.place.bits_per_sec;
        member.line_free_us = ready + sending as u64;
        member.line_free_us + (latency_us * jitter) as u64
    }

    /// Forwards a message to all but where it came from.
    pub(crate) fn spread(&mut self, index: usize, message: &Arc<Message>, from: Option<PeerKey>) {
        let links: Vec<(usize, PeerKey, f64)> = self.members[index]
            .links
            .iter()
            .filter(|(key, _)| Some(**key) != from)
            .map(|(_, link)| (link.other, link.other_key, link.latency_us))
            .collect();
        for (other, key, latency_us) in links {
            self.gossip_to(index, other, key, latency_us, message);
        }
    }

    /// Sends one peer a message, whatever the node itself thinks of it.
    pub(crate) fn gossip_to(
        &mut self,
        from: usize,
        to: usize,
        key: PeerKey,
        latency_us: f64,
        message: &Arc<Message>,
    ) {
        let mut arrives = self.transmit(from, latency_us, message.bytes);
        let late = self.weather.late_approvals;
        if matches!(message.gossip, Gossip::Approval(_)) && self.dice.network.happens(late) {
            let wait = self.dice.network.exponential(LATE_APPROVAL_SECS);
            arrives += (wait * 1e6) as u64;
        }
        match message.gossip {
            Gossip::Block(_) => self.measure.announcements.add(message.bytes),
            Gossip::Transaction(_) => self.measure.transactions.add(message.bytes),
            Gossip::Approval(_) => self.measure.approvals.add(message.bytes),
        }
        let loss = self.weather.gossip_loss;
        if self.dice.network.happens(loss) || !self.reaches(from, to) {
            return;
        }
        self.at(arrives, Happening::Gossip(to, key, Arc::clone(message)));
    }

    /// Sends a request.
    pub(crate) fn ask(&mut self, index: usize, peer: PeerKey, id: RequestId, request: Request) {
        let Some(link) = self.members[index].links.get(&peer) else {
            return;
        };
        let (at, from, latency_us) = (link.other, link.other_key, link.latency_us);
        let bytes = request.encode().len() + FRAME_BYTES;
        let arrives = self.transmit(index, latency_us, bytes);
        self.measure.requests.add(bytes);
        let loss = self.weather.request_loss;
        if self.dice.network.happens(loss) || !self.reaches(index, at) {
            let sent_us = self.now_us;
            self.time_out(index, peer, id, sent_us);
            return;
        }
        let sent_us = self.now_us;
        let ask = Happening::Ask {
            at,
            from,
            id,
            request,
            sent_us,
        };
        self.at(arrives, ask);
    }

    fn time_out(&mut self, index: usize, peer: PeerKey, id: RequestId, sent_us: u64) {
        let event = PeerEvent::Response {
            peer,
            id,
            response: Err(RequestFailure::Timeout),
        };
        self.at(sent_us + REQUEST_US, Happening::Peer(index, event));
    }

    /// Answers a request, as the shell does: from a snapshot, without the core.
    pub(crate) fn answer(
        &mut self,
        at: usize,
        from: PeerKey,
        id: RequestId,
        request: &Request,
        sent_us: u64,
    ) -> Result<(), Violation> {
        let Some(link) = self.members[at].links.get(&from) else {
            return Ok(());
        };
        let (asker, peer, latency_us) = (link.other, link.other_key, link.latency_us);
        let member = &self.members[at];
        let Some(node) = &member.node else {
            return Ok(());
        };
        let served = node.chain().store().snapshot().and_then(|snapshot| {
            let mempool = node.mempool().read();
            let mempool = mempool.unwrap_or_else(PoisonError::into_inner);
            let finality = state_of(node);
            serve(
                snapshot.as_ref(),
                &mempool,
                &finality,
                &member.recent,
                request,
            )
        });
        let honest = served.map_err(|error| self.storage_failed(at, &error))?;
        if let Response::Approvals(approvals) = &honest {
            for signed in approvals {
                self.check_vote_leaves(at, signed)?;
            }
        }
        let response = if self.members[at].manner == Manner::Liar {
            self.distort(at, request, honest)
        } else {
            Some(honest)
        };
        let Some(response) = response else {
            self.time_out(asker, peer, id, sent_us);
            return Ok(());
        };
        let encoded = response.encode();
        let bytes = encoded.len() + FRAME_BYTES;
        let arrives = self.transmit(at, latency_us, bytes);
        match response {
            Response::Blocks(_) => self.measure.bodies.add(bytes),
            _ => self.measure.responses.add(bytes),
        }
        let loss = self.weather.request_loss;
        let lost = self.dice.network.happens(loss) || !self.reaches(at, asker);
        if lost || arrives > sent_us + REQUEST_US {
            self.time_out(asker, peer, id, sent_us);
            return Ok(());
        }
        // Through the codec, as on a wire.
        let response = Response::decode(&encoded).map_err(|_| RequestFailure::Undecodable);
        let event = PeerEvent::Response { peer, id, response };
        self.at(arrives, Happening::Peer(asker, event));
        Ok(())
    }

    /// Hands a node what comes from a peer, unless the link is gone.
    pub(crate) fn peer_event(&mut self, index: usize, event: PeerEvent) -> Result<(), Violation> {
        let (peer, needs_link) = match &event {
            PeerEvent::Disconnected { peer } => (peer, false),
            PeerEvent::Connected { peer, .. }
            | PeerEvent::Response { peer, .. }
            | PeerEvent::Status { peer, .. }
            | PeerEvent::Offended { peer, .. }
            | PeerEvent::Gossip { peer, .. } => (peer, true),
        };
        if needs_link && !self.members[index].links.contains_key(peer) {
            return Ok(());
        }
        self.handle(index, Event::Peer(event)).map(drop)
    }

    /// Connects two nodes; the first one calls.
    pub(crate) fn connect(&mut self, caller: usize, called: usize) {
        let (near, far) = (PeerKey(self.number()), PeerKey(self.number()));
        let place = self.members[called].place;
        let latency_us = self.members[caller].place.latency_us(&place);
        let ends = [
            (caller, near, called, far, true),
            (called, far, caller, near, false),
        ];
        for (index, key, other, other_key, outbound) in ends {
            let link = Link {
                other,
                other_key,
                outbound,
                latency_us,
            };
            self.members[index].links.insert(key, link);
            let event = PeerEvent::Connected {
                peer: key,
                inbound: !outbound,
            };
            // Two round trips: TCP, then Noise.
            self.after((4.0 * latency_us) as u64, Happening::Peer(index, event));
        }
        self.measure.connections += 1;
    }

    /// Takes one end of a connection away and tells its node.
    fn unlink(&mut self, index: usize, key: PeerKey) -> Option<Link> {
        let member = &mut self.members[index];
        let link = member.links.remove(&key)?;
        member.judged.retain(|_, (peer, _)| *peer != key);
        let event = PeerEvent::Disconnected { peer: key };
        self.after(0, Happening::Peer(index, event));
        Some(link)
    }

    /// Closes a connection; the far end hears of it.
    pub(crate) fn cut(&mut self, index: usize, key: PeerKey) {
        if let Some(link) = self.unlink(index, key) {
            let heard = link.latency_us as u64;
            self.after(heard, Happening::Lost(link.other, link.other_key));
        }
    }

    /// A connection is found to be dead.
    pub(crate) fn lost(&mut self, index: usize, key: PeerKey) -> Result<(), Violation> {
        self.unlink(index, key);
        Ok(())
    }

    /// Makes connections if there are too few; partners that were lost are called
    /// again in any case, so that a network that was split finds itself.
    pub(crate) fn dial(&mut self, index: usize) {
        self.after(DIAL_US, Happening::Dial(index));
        if self.members[index].node.is_none() {
            return;
        }
        let missing = self
            .settings
            .dials
            .saturating_sub(self.members[index].outbound());
        for _ in 0..missing {
            for _ in 0..DIAL_TRIES {
                let other = self.dice.network.below(self.members.len());
                if self.may_connect(index, other) {
                    let partners = &mut self.members[index].partners;
                    if partners.len() < self.settings.dials {
                        partners.push(other);
                    }
                    self.connect(index, other);
                    break;
                }
            }
        }
        for partner in self.members[index].partners.clone() {
            if self.may_connect(index, partner) {
                self.connect(index, partner);
            }
        }
    }

    fn may_connect(&self, index: usize, other: usize) -> bool {
        let (a, b) = (&self.members[index], &self.members[other]);
        index != other
            && b.node.is_some()
            && self.hear_each_other(index, other)
            && a.links.len() < LINKS_MAX
            && b.links.len() < LINKS_MAX
            && !a.is_linked(other)
            && !b.is_linked(index)
            && !a.refuses(other, self.now_us)
            && !b.refuses(index, self.now_us)
    }

    pub(crate) fn schedule_drop(&mut self, index: usize) {
        let mean = self.weather.churn_secs;
        if mean.is_finite() {
            let wait = self.dice.faults.exponential(mean);
            self.after((wait * 1e6) as u64, Happening::Drop(index));
        }
    }

    /// Lets a node drop one of its connections, and forget a partner.
    pub(crate) fn drop_one(&mut self, index: usize) {
        if !self.stirred {
            return;
        }
        self.schedule_drop(index);
        let links: Vec<(PeerKey, usize)> = self.members[index]
            .links
            .iter()
            .filter(|(_, link)| link.outbound)
            .map(|(key, link)| (*key, link.other))
            .collect();
        if let Some((key, other)) = self.dice.faults.pick(&links) {
            self.members[index]
                .partners
                .retain(|partner| *partner != other);
            self.cut(index, key);
        }
    }
}
