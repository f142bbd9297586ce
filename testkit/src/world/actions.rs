//! What a test lets members do: mine, hand in blocks and payments, and send others what they
//! should not.

use pithead_consensus::{Block, BlockHeader, SignedTransaction, Txid};
use pithead_core::node::{Answer, BlockVerdict, Event, TransactionVerdict};
use pithead_core::sync::{Gossip, GossipId, PeerEvent, RequestId, Response};

use super::network::{Delivery, LATENCY_MS, World, name_of};
use crate::chain::mine;
use crate::{key, nodes};

impl World {
    /// Lets a node find a block with all that is pending.
    pub fn mine(&mut self, index: usize) -> BlockHeader {
        let Some(Answer::Template(template)) = self.handle(index, Event::FreshTemplate) else {
            panic!("no template");
        };
        let template = template.unwrap();
        let commitment = template.commitment(key(index % 4).address, [index as u8; 8]);
        let mut header = template.header(&commitment);
        header.time = u32::try_from(self.now(index).unix_secs)
            .unwrap()
            .max(template.time_min);
        mine(&mut header);
        self.found(index, template.block(header, commitment));
        header
    }

    /// Hands a node a block of its own miner.
    pub fn found(&mut self, index: usize, block: Block) {
        let answer = self.handle(index, Event::Block(Box::new(block)));
        match answer {
            Some(Answer::Block(Ok(BlockVerdict::NewTip))) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Gives a node a block that it does not announce. Its clock is set to the block's time for it.
    pub fn give_later(&mut self, index: usize, block: &Block) {
        let node = self.members[index].node.as_mut().unwrap();
        let now = u64::from(block.header.time).max(nodes::NOW);
        node.handle(Event::Block(Box::new(block.clone())), now);
        while node.has_more() {
            node.handle(Event::Continue, now);
        }
    }

    /// Hands a node a transaction of its own user.
    pub fn submit(&mut self, index: usize, transaction: SignedTransaction) -> Txid {
        let txid = transaction.txid(&self.genesis.params.genesis_hash);
        let event = Event::Transaction(Box::new(transaction));
        match self.handle(index, event) {
            Some(Answer::Transaction(Ok(TransactionVerdict::Accepted))) => txid,
            other => panic!("{other:?}"),
        }
    }

    /// The same for a transaction that the node may refuse; returns whether it accepted it.
    pub fn try_submit(&mut self, index: usize, transaction: SignedTransaction) -> bool {
        let event = Event::Transaction(Box::new(transaction));
        let answer = self.handle(index, event);
        matches!(
            answer,
            Some(Answer::Transaction(Ok(TransactionVerdict::Accepted)))
        )
    }

    /// Lets one member gossip something to another, whether or not its node would.
    pub fn gossip_to(&mut self, from: usize, to: usize, gossip: Gossip) {
        let peer = self.key_of(to, from);
        let id = GossipId(self.number());
        self.members[to].gossiped.insert(id, (peer, gossip.clone()));
        let event = PeerEvent::Gossip { peer, id, gossip };
        self.after(LATENCY_MS, Delivery::Event(to, event));
    }

    /// The same, and the receiver's gossip counts it as seen.
    pub fn spread_to(&mut self, from: usize, to: usize, gossip: Gossip) {
        let now_ms = self.now_ms;
        self.members[to].seen.insert(name_of(&gossip), now_ms);
        self.gossip_to(from, to, gossip);
    }

    /// Lets one member send another an answer to no request.
    pub fn answer_unasked(&mut self, from: usize, to: usize, response: Response) {
        let event = PeerEvent::Response {
            peer: self.key_of(to, from),
            id: RequestId(u64::MAX - self.last),
            response: Ok(response),
        };
        self.after(LATENCY_MS, Delivery::Event(to, event));
    }
}
