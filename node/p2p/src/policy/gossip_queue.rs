//! Gossip messages that wait for the core's verdict. A message is decoded here and travels on once
//! the core has accepted it. Each peer has its own share of the queue, so that one that sends too
//! much shuts no other out.

use std::collections::{BTreeMap, HashMap};

use libp2p::PeerId;
use libp2p::gossipsub::MessageId;
use pithead_consensus::{BlockHeader, Decode as _, DecodeError, SignedApproval, SignedTransaction};
use pithead_core::sync::{Gossip, GossipId};

use crate::policy::limiter::{RateLimiter, Source};

/// Messages that may wait for a verdict. Beyond that the oldest is dropped: the only consequence
/// is that it is not forwarded.
const WAITING_MAX: usize = 16_384;
/// Transactions of all peers that may wait. The peers share this number.
const TRANSACTIONS_WAITING_MAX: usize = 1_024;
/// The least share of one peer in transactions, and its share in blocks and in approvals.
const WAITING_PER_PEER_MIN: usize = 32;
/// Headers of one source, a minute and at once. Headers are rare, because each has cost work.
const BLOCKS_PER_MINUTE: (u32, u32) = (600, 100);
/// Transactions of one source, a minute and at once: many times what fits into blocks.
const TRANSACTIONS_PER_MINUTE: (u32, u32) = (12_000, 2_000);
/// Approvals of one source, a minute and at once: each of up to 1,000 validators votes once a
/// checkpoint.
const APPROVALS_PER_MINUTE: (u32, u32) = (12_000, 2_000);

/// The gossip topics of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum GossipTopic {
    /// Headers of new blocks.
    Blocks,
    /// Pending transactions.
    Transactions,
    /// Votes of validators.
    Approvals,
}

/// The peer that a message came from, and the source whose limits hold for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GossipSender {
    pub(crate) peer: PeerId,
    pub(crate) source: Source,
}

/// A message that waits for its verdict.
#[derive(Debug)]
pub(crate) struct PendingMessage {
    pub(crate) id: MessageId,
    pub(crate) from: PeerId,
    pub(crate) topic: GossipTopic,
    /// The header, if the message announces a block.
    pub(crate) block: Option<BlockHeader>,
}

/// All messages that wait for their verdicts.
#[derive(Debug, Default)]
struct PendingVerdicts {
    waiting: BTreeMap<u64, PendingMessage>,
    counts: HashMap<(PeerId, GossipTopic), usize>,
    next: u64,
}

impl PendingVerdicts {
    fn wait(&mut self, message: PendingMessage) -> GossipId {
        let id = self.next;
        self.next += 1;
        let key = (message.from, message.topic);
        *self.counts.entry(key).or_default() += 1;
        self.waiting.insert(id, message);
        if self.waiting.len() > WAITING_MAX
            && let Some(oldest) = self.waiting.keys().next().copied()
        {
            self.take(oldest);
        }
        GossipId(id)
    }

    fn take(&mut self, id: u64) -> Option<PendingMessage> {
        let message = self.waiting.remove(&id)?;
        let key = (message.from, message.topic);
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
        Some(message)
    }

    fn count(&self, from: PeerId, topic: GossipTopic) -> usize {
        self.counts.get(&(from, topic)).copied().unwrap_or_default()
    }
}

/// Incoming gossip: its limits, and the messages that wait for a verdict.
pub(crate) struct IncomingGossip {
    verdicts: PendingVerdicts,
    blocks: RateLimiter,
    transactions: RateLimiter,
    approvals: RateLimiter,
}

impl IncomingGossip {
    pub(crate) fn new() -> Self {
        let limiter = |(per_minute, burst)| RateLimiter::new(per_minute, burst);
        Self {
            verdicts: PendingVerdicts::default(),
            blocks: limiter(BLOCKS_PER_MINUTE),
            transactions: limiter(TRANSACTIONS_PER_MINUTE),
            approvals: limiter(APPROVALS_PER_MINUTE),
        }
    }

    /// Whether a message may go to the core. `peers` is how many peers share the room for
    /// transactions.
    pub(crate) fn has_room(
        &mut self,
        sender: &GossipSender,
        topic: GossipTopic,
        peers: usize,
        now_ms: u64,
    ) -> bool {
        let (limiter, share) = match topic {
            GossipTopic::Blocks => (&mut self.blocks, WAITING_PER_PEER_MIN),
            GossipTopic::Approvals => (&mut self.approvals, WAITING_PER_PEER_MIN),
            GossipTopic::Transactions => {
                let share = TRANSACTIONS_WAITING_MAX / peers.max(1);
                (&mut self.transactions, share.max(WAITING_PER_PEER_MIN))
            }
        };
        limiter.take(&sender.source, now_ms) && self.verdicts.count(sender.peer, topic) < share
    }

    /// Keeps a message until its verdict. Returns the core's name for it.
    pub(crate) fn wait(&mut self, message: PendingMessage) -> GossipId {
        self.verdicts.wait(message)
    }

    /// Takes the message that a verdict is about; `None` if it was dropped meanwhile.
    pub(crate) fn take(&mut self, id: GossipId) -> Option<PendingMessage> {
        self.verdicts.take(id.0)
    }
}

/// Decodes a message of a topic.
pub(crate) fn decode(topic: GossipTopic, raw: &[u8]) -> Result<Gossip, DecodeError> {
    Ok(match topic {
        GossipTopic::Blocks => Gossip::Block(BlockHeader::decode(raw)?),
        GossipTopic::Transactions => Gossip::Transaction(Box::new(SignedTransaction::decode(raw)?)),
        GossipTopic::Approvals => Gossip::Approval(Box::new(SignedApproval::decode(raw)?)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn waiting(from: PeerId, topic: GossipTopic) -> PendingMessage {
        PendingMessage {
            id: MessageId::new(b"any"),
            from,
            topic,
            block: None,
        }
    }

    fn sender(peer: PeerId) -> GossipSender {
        let source = Source::of(&peer, None);
        GossipSender { peer, source }
    }

    #[test]
    fn a_loud_peer_fills_only_its_own_share() {
        let mut incoming = IncomingGossip::new();
        let (loud, quiet) = (PeerId::random(), PeerId::random());
        let [loud, quiet] = [loud, quiet].map(sender);
        let mut ids = Vec::new();
        while incoming.has_room(&loud, GossipTopic::Transactions, 16, 0) {
            let message = waiting(loud.peer, GossipTopic::Transactions);
            ids.push(incoming.wait(message));
        }
        assert_eq!(ids.len(), TRANSACTIONS_WAITING_MAX / 16);
        // Other peers, and the loud peer's other topics, still have room.
        assert!(incoming.has_room(&quiet, GossipTopic::Transactions, 16, 0));
        for topic in [GossipTopic::Blocks, GossipTopic::Approvals] {
            assert!(incoming.has_room(&loud, topic, 16, 0));
        }
        // A verdict makes room for one more.
        incoming.take(ids[0]).unwrap();
        assert!(incoming.has_room(&loud, GossipTopic::Transactions, 16, 0));
    }

    #[test]
    fn messages_of_one_source_are_limited_by_rate() {
        let mut incoming = IncomingGossip::new();
        let sender = sender(PeerId::random());
        let mut let_through = |topic, now_ms| {
            let tries = (0..10_000).filter(|_| incoming.has_room(&sender, topic, 1, now_ms));
            tries.count()
        };
        assert_eq!(let_through(GossipTopic::Transactions, 0), 2_000);
        assert_eq!(let_through(GossipTopic::Blocks, 0), 100);
        // 200 and 10 a second.
        assert_eq!(let_through(GossipTopic::Transactions, 1_000), 200);
        assert_eq!(let_through(GossipTopic::Blocks, 1_000), 10);
    }
}
