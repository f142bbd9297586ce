//! Events of gossip: messages on their way to the core, verdicts on their way back, and what this
//! node publishes itself. `policy::gossip_queue` holds the messages that wait.

use libp2p::PeerId;
use libp2p::gossipsub::{IdentTopic, Message, MessageAcceptance, MessageId, PublishError};
use pithead_consensus::check::check_proof_of_work;
use pithead_consensus::{BlockHeader, Encode as _};
use tracing::{debug, warn};

use crate::policy::gossip_queue::{GossipSender, GossipTopic, PendingMessage, decode};
use crate::shell::Shell;
use crate::wire::codec::WireRequest;
use pithead_core::store::schema;
use pithead_core::sync::{Gossip, GossipId, Offence, PeerEvent, Request, Status, Verdict};

impl Shell {
    /// A gossip message has arrived. It goes to the core, or gets its verdict here if it does not
    /// decode or is beyond its peer's limits.
    pub(super) fn on_gossip(&mut self, from: PeerId, id: MessageId, message: &Message) {
        // The protocol's name holds the genesis hash: a peer that speaks it is on our network.
        self.admit(from);
        self.peers.count_bytes(&from, 0, message.data.len());
        let Some(key) = self.peers.key(&from) else {
            self.report_validation(&id, &from, MessageAcceptance::Ignore);
            return;
        };
        let topic = if message.topic == self.names.blocks.hash() {
            GossipTopic::Blocks
        } else if message.topic == self.names.approvals.hash() {
            GossipTopic::Approvals
        } else {
            GossipTopic::Transactions
        };
        let sender = GossipSender {
            peer: from,
            source: self.peers.source(&from),
        };
        let (peers, now_ms) = (self.peers.admitted(), self.now_ms());
        if self.outbox.drops(topic) || !self.incoming.has_room(&sender, topic, peers, now_ms) {
            self.report_validation(&id, &from, MessageAcceptance::Ignore);
            return;
        }
        let gossip = match decode(topic, &message.data) {
            Ok(gossip) => gossip,
            Err(error) => {
                debug!(peer = %from, %error, "malformed gossip");
                self.report_validation(&id, &from, MessageAcceptance::Reject);
                return self.report_offence(&from, Offence::Malformed);
            }
        };
        let block = match &gossip {
            Gossip::Block(header) => Some(*header),
            Gossip::Transaction(_) | Gossip::Approval(_) => None,
        };
        let id = self.incoming.wait(PendingMessage {
            id,
            from,
            topic,
            block,
        });
        self.outbox.push(PeerEvent::Gossip {
            peer: key,
            id,
            gossip,
        });
    }

    /// The core has given its verdict on a message.
    pub(super) fn on_verdict(&mut self, id: GossipId, verdict: Verdict) {
        let Some(message) = self.incoming.take(id) else {
            return;
        };
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        let known = self.report_validation(&message.id, &message.from, acceptance);
        if let (Verdict::Accept, Some(header)) = (verdict, message.block) {
            self.note_block(&message.from, &header.hash(), &header.prev);
            if !known {
                // The verdict came too late: gossipsub has forgotten the message.
                self.announce_directly(&header);
            }
        }
    }

    /// Tells gossipsub a verdict. Returns whether it still knew the message.
    fn report_validation(
        &mut self,
        id: &MessageId,
        from: &PeerId,
        acceptance: MessageAcceptance,
    ) -> bool {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(id, from, acceptance)
    }

    /// Publishes a message to all peers.
    pub(super) fn publish(&mut self, gossip: &Gossip) {
        let (topic, data): (&IdentTopic, _) = match gossip {
            Gossip::Block(header) => (&self.names.blocks, header.encode()),
            Gossip::Transaction(transaction) => (&self.names.transactions, transaction.encode()),
            Gossip::Approval(approval) => (&self.names.approvals, approval.encode()),
        };
        let published = self
            .swarm
            .behaviour_mut()
            .gossip
            .publish(topic.hash(), data);
        match (published, gossip) {
            // The header arrived from a peer before the core could judge it, and gossipsub sends
            // nothing twice.
            (Err(PublishError::Duplicate), Gossip::Block(header)) => {
                self.announce_directly(header);
            }
            // All subscribers know the message, or there are none yet: sync makes up for it.
            (Ok(_) | Err(PublishError::Duplicate | PublishError::NoPeersSubscribedToTopic), _) => {}
            (Err(error), _) => warn!(%error, "gossip not published"),
        }
    }

    /// Tells all peers of a new tip that gossip does not carry, by sending them our status.
    fn announce_directly(&mut self, header: &BlockHeader) {
        let Some(status) = self.status_at(header) else {
            return;
        };
        let peers: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.key.is_some())
            .map(|(id, _)| *id)
            .collect();
        debug!(hash = %status.best_hash, peers = peers.len(), "announcing a block directly");
        let sync = &mut self.swarm.behaviour_mut().sync;
        for peer in peers {
            let request = Request::Status(status);
            // The answer is not used.
            sync.send_request(&peer, WireRequest::Valid { request, bytes: 0 });
        }
    }

    /// Our status with this block as the tip. The block may still be about to be stored.
    fn status_at(&self, header: &BlockHeader) -> Option<Status> {
        let snapshot = self.engine.store().snapshot().ok()?;
        let params = &self.engine.genesis().params;
        let (best_hash, work) = check_proof_of_work(params, header).ok()?;
        let parent = schema::entry(snapshot.as_ref(), &header.prev).ok()??;
        Some(Status {
            best_hash,
            height: parent.height.next(),
            chain_work: parent.chain_work.saturating_add(work),
            approved: self.engine.finality().borrow().approved,
        })
    }
}
