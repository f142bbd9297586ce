//! Gossip on its way to the core and back: what came is decoded and waits for
//! the core's verdict, and only then travels on.

use std::collections::BTreeMap;

use libp2p::PeerId;
use libp2p::gossipsub::{IdentTopic, Message, MessageAcceptance, MessageId, PublishError};
use pithead_consensus::{
    BlockHash, BlockHeader, Decode as _, Encode as _, SignedApproval, SignedTransaction,
};
use tracing::{debug, warn};

use super::swarm::Shell;
use crate::sync::{Gossip, GossipId, PeerEvent, Verdict};

/// Messages that may wait for a verdict; the oldest is given up first, which
/// only means that it is not forwarded.
const WAITING_MAX: usize = 4_096;

/// A message that waits for its verdict.
#[derive(Debug)]
struct Waiting {
    id: MessageId,
    from: PeerId,
    /// If it announces a block: that and its parent.
    block: Option<[BlockHash; 2]>,
}

/// Messages that wait for their verdict.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

impl Verdicts {
    fn wait(&mut self, waiting: Waiting) -> GossipId {
        let id = self.next;
        self.next += 1;
        self.waiting.insert(id, waiting);
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_first();
        }
        GossipId(id)
    }
}

impl Shell {
    /// A message came: to the core with it, or straight to a verdict if it is no
    /// message at all.
    pub(super) fn on_gossip(&mut self, from: PeerId, id: MessageId, message: &Message) {
        // The protocol's name holds the genesis hash: whoever speaks it is on our
        // network.
        self.admit(from);
        self.peers.count_bytes(&from, 0, message.data.len());
        let Some(key) = self.peers.key(&from) else {
            return self.report(&id, &from, MessageAcceptance::Ignore);
        };
        let gossip = if message.topic == self.names.blocks.hash() {
            BlockHeader::decode(&message.data).map(Gossip::Block)
        } else if message.topic == self.names.approvals.hash() {
            SignedApproval::decode(&message.data)
                .map(|approval| Gossip::Approval(Box::new(approval)))
        } else {
            SignedTransaction::decode(&message.data)
                .map(|transaction| Gossip::Transaction(Box::new(transaction)))
        };
        let gossip = match gossip {
            Ok(gossip) => gossip,
            Err(error) => {
                debug!(peer = %from, %error, "malformed gossip");
                return self.report(&id, &from, MessageAcceptance::Reject);
            }
        };
        let block = match &gossip {
            Gossip::Block(header) => Some([header.hash(), header.prev]),
            // The core is behind: comparing mempools will make up for it.
            Gossip::Transaction(_) | Gossip::Approval(_) if self.is_behind() => {
                return self.report(&id, &from, MessageAcceptance::Ignore);
            }
            Gossip::Transaction(_) | Gossip::Approval(_) => None,
        };
        let id = self.verdicts.wait(Waiting { id, from, block });
        self.tell_core(PeerEvent::Gossip {
            peer: key,
            id,
            gossip,
        });
    }

    /// The core's verdict on a message.
    pub(super) fn on_verdict(&mut self, id: GossipId, verdict: Verdict) {
        let Some(waiting) = self.verdicts.waiting.remove(&id.0) else {
            return;
        };
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        self.report(&waiting.id, &waiting.from, acceptance);
        if let (Verdict::Accept, Some([block, parent])) = (verdict, waiting.block) {
            self.note_block(&waiting.from, &block, &parent);
        }
    }

    fn report(&mut self, id: &MessageId, from: &PeerId, acceptance: MessageAcceptance) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(id, from, acceptance);
    }

    /// Tells every peer.
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
        match published {
            // Known to all who listen, or nobody does: sync makes up for it.
            Ok(_) | Err(PublishError::Duplicate | PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => warn!(%error, "gossip not published"),
        }
    }
}
