//! Gossip on its way to the core and back: what came is decoded and waits for
//! the core's verdict, and only then travels on. Each peer has its own share of
//! everything, so that one that talks too much drowns nobody out.

use std::collections::{BTreeMap, HashMap};

use libp2p::PeerId;
use libp2p::gossipsub::{IdentTopic, Message, MessageAcceptance, MessageId, PublishError};
use pithead_consensus::check::check_proof_of_work;
use pithead_consensus::{
    BlockHeader, Decode as _, DecodeError, Encode as _, SignedApproval, SignedTransaction,
};
use tracing::{debug, warn};

use crate::policy::limiter::{RateLimiter, Source};
use crate::shell::Shell;
use crate::wire::codec::WireRequest;
use pithead_core::store::schema;
use pithead_core::sync::{Gossip, GossipId, Offence, PeerEvent, Request, Status, Verdict};

/// Messages that may wait for a verdict; the oldest is given up first, which
/// only means that it is not forwarded.
const WAITING_MAX: usize = 16_384;
/// Transactions of all peers that may wait; each peer has its share of them.
const TRANSACTIONS_WAITING_MAX: usize = 1_024;
/// The least share of one peer, and what it has for blocks and approvals each.
const WAITING_PER_PEER_MIN: usize = 32;
/// Messages a minute of one source and at once: headers have cost work, and are
/// rare.
const BLOCKS_PER_MINUTE: (u32, u32) = (600, 100);
/// Many times what fits into blocks.
const TRANSACTIONS_PER_MINUTE: (u32, u32) = (12_000, 2_000);
/// Each of up to 1,000 validators votes once a checkpoint.
const APPROVALS_PER_MINUTE: (u32, u32) = (12_000, 2_000);

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Topic {
    Blocks,
    Transactions,
    Approvals,
}

/// A message that waits for its verdict.
#[derive(Debug)]
struct Waiting {
    id: MessageId,
    from: PeerId,
    topic: Topic,
    /// If it announces a block: that.
    block: Option<BlockHeader>,
}

/// Messages that wait for their verdict.
#[derive(Debug, Default)]
struct Verdicts {
    waiting: BTreeMap<u64, Waiting>,
    counts: HashMap<(PeerId, Topic), usize>,
    next: u64,
}

impl Verdicts {
    fn wait(&mut self, waiting: Waiting) -> GossipId {
        let id = self.next;
        self.next += 1;
        let key = (waiting.from, waiting.topic);
        *self.counts.entry(key).or_default() += 1;
        self.waiting.insert(id, waiting);
        if self.waiting.len() > WAITING_MAX
            && let Some(oldest) = self.waiting.keys().next().copied()
        {
            self.take(oldest);
        }
        GossipId(id)
    }

    fn take(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        let key = (waiting.from, waiting.topic);
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
        Some(waiting)
    }

    fn count(&self, from: PeerId, topic: Topic) -> usize {
        self.counts.get(&(from, topic)).copied().unwrap_or_default()
    }
}

/// Gossip that came.
pub(crate) struct Incoming {
    verdicts: Verdicts,
    blocks: RateLimiter,
    transactions: RateLimiter,
    approvals: RateLimiter,
}

impl Incoming {
    pub(super) fn new() -> Self {
        let limiter = |(per_minute, burst)| RateLimiter::new(per_minute, burst);
        Self {
            verdicts: Verdicts::default(),
            blocks: limiter(BLOCKS_PER_MINUTE),
            transactions: limiter(TRANSACTIONS_PER_MINUTE),
            approvals: limiter(APPROVALS_PER_MINUTE),
        }
    }

    /// Whether a message may go to the core; `peers` share what there is room for.
    fn has_room(
        &mut self,
        from: PeerId,
        source: &Source,
        topic: Topic,
        peers: usize,
        now_ms: u64,
    ) -> bool {
        let (limiter, share) = match topic {
            Topic::Blocks => (&mut self.blocks, WAITING_PER_PEER_MIN),
            Topic::Approvals => (&mut self.approvals, WAITING_PER_PEER_MIN),
            Topic::Transactions => {
                let share = TRANSACTIONS_WAITING_MAX / peers.max(1);
                (&mut self.transactions, share.max(WAITING_PER_PEER_MIN))
            }
        };
        limiter.take(source, now_ms) && self.verdicts.count(from, topic) < share
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
        let topic = if message.topic == self.names.blocks.hash() {
            Topic::Blocks
        } else if message.topic == self.names.approvals.hash() {
            Topic::Approvals
        } else {
            Topic::Transactions
        };
        let (source, peers, now_ms) = (
            self.peers.source(&from),
            self.peers.admitted(),
            self.now_ms(),
        );
        // Comparing mempools makes up for transactions, asking for approvals for those.
        let put_off = match topic {
            Topic::Blocks => false,
            Topic::Transactions => self.is_behind(),
            Topic::Approvals => self.is_far_behind(),
        };
        if put_off || !self.incoming.has_room(from, &source, topic, peers, now_ms) {
            return self.report(&id, &from, MessageAcceptance::Ignore);
        }
        let gossip = match decode(topic, &message.data) {
            Ok(gossip) => gossip,
            Err(error) => {
                debug!(peer = %from, %error, "malformed gossip");
                self.report(&id, &from, MessageAcceptance::Reject);
                return self.blame(&from, Offence::Malformed);
            }
        };
        let block = match &gossip {
            Gossip::Block(header) => Some(*header),
            Gossip::Transaction(_) | Gossip::Approval(_) => None,
        };
        let id = self.incoming.verdicts.wait(Waiting {
            id,
            from,
            topic,
            block,
        });
        self.tell_core(PeerEvent::Gossip {
            peer: key,
            id,
            gossip,
        });
    }

    /// The core's verdict on a message.
    pub(super) fn on_verdict(&mut self, id: GossipId, verdict: Verdict) {
        let Some(waiting) = self.incoming.verdicts.take(id.0) else {
            return;
        };
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let known = gossip.report_message_validation_result(&waiting.id, &waiting.from, acceptance);
        if let (Verdict::Accept, Some(header)) = (verdict, waiting.block) {
            self.note_block(&waiting.from, &header.hash(), &header.prev);
            if !known {
                // Gossip has forgotten it: the verdict came too late.
                self.announce_directly(&header);
            }
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
        match (published, gossip) {
            // It came before it could be judged, and gossip carries nothing twice.
            (Err(PublishError::Duplicate), Gossip::Block(header)) => {
                self.announce_directly(header);
            }
            // Known to all who listen, or nobody does: sync makes up for it.
            (Ok(_) | Err(PublishError::Duplicate | PublishError::NoPeersSubscribedToTopic), _) => {}
            (Err(error), _) => warn!(%error, "gossip not published"),
        }
    }

    /// Tells every peer of a new tip that gossip does not carry, by telling how far
    /// the chain reaches.
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
            // What it answers is of no interest.
            sync.send_request(&peer, WireRequest::Sound { request, bytes: 0 });
        }
    }

    /// The status with a block at the tip that is stored, or about to be.
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

fn decode(topic: Topic, raw: &[u8]) -> Result<Gossip, DecodeError> {
    Ok(match topic {
        Topic::Blocks => Gossip::Block(BlockHeader::decode(raw)?),
        Topic::Transactions => Gossip::Transaction(Box::new(SignedTransaction::decode(raw)?)),
        Topic::Approvals => Gossip::Approval(Box::new(SignedApproval::decode(raw)?)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn waiting(from: PeerId, topic: Topic) -> Waiting {
        Waiting {
            id: MessageId::new(b"any"),
            from,
            topic,
            block: None,
        }
    }

    #[test]
    fn who_talks_too_much_fills_only_its_own_share() {
        let mut incoming = Incoming::new();
        let (loud, quiet) = (PeerId::random(), PeerId::random());
        let [loud_source, quiet_source] = [loud, quiet].map(|peer| Source::of(&peer, None));
        let mut ids = Vec::new();
        while incoming.has_room(loud, &loud_source, Topic::Transactions, 16, 0) {
            let message = waiting(loud, Topic::Transactions);
            ids.push(incoming.verdicts.wait(message));
        }
        assert_eq!(ids.len(), TRANSACTIONS_WAITING_MAX / 16);
        // Neither another peer nor what else it has to tell waits for that.
        assert!(incoming.has_room(quiet, &quiet_source, Topic::Transactions, 16, 0));
        for topic in [Topic::Blocks, Topic::Approvals] {
            assert!(incoming.has_room(loud, &loud_source, topic, 16, 0));
        }
        // A verdict makes room for one more.
        incoming.verdicts.take(ids[0].0).unwrap();
        assert!(incoming.has_room(loud, &loud_source, Topic::Transactions, 16, 0));
    }

    #[test]
    fn messages_of_one_source_are_limited_by_rate() {
        let mut incoming = Incoming::new();
        let peer = PeerId::random();
        let source = Source::of(&peer, None);
        let mut let_through = |topic, now_ms| {
            let tries = (0..10_000).filter(|_| incoming.has_room(peer, &source, topic, 1, now_ms));
            tries.count()
        };
        assert_eq!(let_through(Topic::Transactions, 0), 2_000);
        assert_eq!(let_through(Topic::Blocks, 0), 100);
        // 200 and 10 a second.
        assert_eq!(let_through(Topic::Transactions, 1_000), 200);
        assert_eq!(let_through(Topic::Blocks, 1_000), 10);
    }
}
