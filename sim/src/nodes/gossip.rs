//! Gossip messages, and a node's memory of those that it has seen.
//!
//! The files of `weather` send and delay messages. Start reading at [`GossipMessage`].

use std::collections::{HashMap, VecDeque};

use pithead_consensus::Encode as _;
use pithead_consensus::hash::sha256;
use pithead_core::sync::Gossip;

/// How long a node remembers a message, microseconds: as long as the real node's
/// gossipsub does.
const SEEN_US: u64 = 120_000_000;
/// Bytes that frame each gossip message, request and response: names of topics and
/// protocols, and the headers of gossipsub, Yamux, Noise and TCP/IP.
pub(crate) const FRAME_BYTES: usize = 150;

/// A gossip message. All nodes that have it share one copy.
pub(crate) struct GossipMessage {
    /// The identifier by which nodes recognise a message that they have seen.
    pub(crate) id: [u8; 32],
    pub(crate) gossip: Gossip,
    /// Size on the wire, frames included.
    pub(crate) bytes: usize,
}

impl GossipMessage {
    pub(crate) fn new(gossip: Gossip) -> Self {
        let (id, bytes) = match &gossip {
            Gossip::Block(header) => (header.hash().0, header.encode().len()),
            Gossip::Transaction(transaction) => (transaction.leaf_hash().0, transaction.size()),
            Gossip::Approval(signed) => {
                let raw = signed.encode();
                (sha256(&raw), raw.len())
            }
        };
        Self {
            id,
            gossip,
            bytes: bytes + FRAME_BYTES,
        }
    }
}

/// The identifiers of the messages that a node has seen lately.
#[derive(Default)]
pub(crate) struct SeenCache {
    since_us: HashMap<[u8; 32], u64>,
    oldest_first: VecDeque<([u8; 32], u64)>,
}

impl SeenCache {
    /// Remembers a message. Returns `false` if the node has seen it already.
    pub(crate) fn insert(&mut self, id: [u8; 32], now_us: u64) -> bool {
        while let Some((oldest, at_us)) = self.oldest_first.front().copied() {
            if at_us + SEEN_US > now_us {
                break;
            }
            self.oldest_first.pop_front();
            self.since_us.remove(&oldest);
        }
        if self.since_us.contains_key(&id) {
            return false;
        }
        self.since_us.insert(id, now_us);
        self.oldest_first.push_back((id, now_us));
        true
    }
}
