//! Lying nodes: how they distort their responses, and what they send on their own.
//!
//! Their lies about votes and certificates are made in `finality_claims`. Start reading
//! at [`Simulation::distort`] for responses and at [`Simulation::lie`] for the rest.

use std::sync::Arc;

use pithead_consensus::{Block, BlockHeader, Hash256, Txid};
use pithead_core::node::Event;
use pithead_core::sync::{Gossip, PeerEvent, PeerKey, Request, RequestId, Response};

use crate::events::SimEvent;
use crate::liars::alterations::alter_body;
use crate::liars::finality_claims;
use crate::nodes::gossip::GossipMessage;
use crate::violation::Violation;
use crate::weather::mining::find_nonce;
use crate::world::Simulation;

/// Mean seconds between two lies that a node sends on its own.
const LIE_SECS: f64 = 60.0;
/// The most forged blocks that a node keeps.
const FORGED_MAX: usize = 16;
/// How many kinds of lies on its own [`Simulation::lie`] knows: without validators, and
/// with the two more that concern votes.
const KINDS: usize = 12;
const KINDS_WITH_VOTES: usize = 14;
/// The easiest target as a compact target, which is never due in a run.
const EASIEST_BITS: u32 = 0x207f_ffff;
/// How far ahead of its node's clock a block with a false time is, seconds.
const AHEAD_SECS: u32 = 7_200;

impl Simulation {
    /// What a lying node makes of an honest response; `None` if it does not respond.
    pub(crate) fn distort(
        &mut self,
        index: usize,
        request: &Request,
        honest: Response,
    ) -> Option<Response> {
        let roll = self.rng.liars.below(12);
        let node = &mut self.nodes[index];
        // It always serves the blocks that it has forged.
        if let Request::Blocks(hashes) = request {
            let forged: Vec<Block> = hashes
                .iter()
                .filter_map(|hash| node.forged.get(hash).cloned())
                .collect();
            if !forged.is_empty() {
                return Some(Response::Blocks(forged));
            }
        }
        match (roll, honest) {
            (0, _) => None,
            (1, _) => node.last_response.clone(),
            (2, Response::Blocks(mut blocks)) => {
                for block in &mut blocks {
                    alter_body(&mut self.rng.liars, block);
                }
                Some(Response::Blocks(blocks))
            }
            (2, Response::Headers(headers)) => {
                Some(Response::Headers(headers.into_iter().skip(1).collect()))
            }
            (2, Response::Status(mut status)) => {
                status.height.0 += 1_000;
                status.chain_work = status.chain_work.saturating_add(status.chain_work);
                Some(Response::Status(status))
            }
            (3, Response::Blocks(_)) => Some(Response::Blocks(Vec::new())),
            (3, Response::Transactions(_)) => Some(Response::Transactions(Vec::new())),
            (4, _) => Some(Response::Mempool(vec![Txid([7; 32]); 3])),
            (5..=7, honest) if self.settings.validators > 0 => {
                let distorted = finality_claims::distort(&mut self.rng.liars, &honest);
                Some(distorted.unwrap_or(honest))
            }
            (_, honest) => {
                node.last_response = Some(honest.clone());
                Some(honest)
            }
        }
    }

    /// Schedules the next lie that a node sends on its own.
    pub(crate) fn schedule_lie(&mut self, index: usize) {
        let wait = self.rng.liars.exponential(LIE_SECS);
        self.after_secs(wait, SimEvent::Lie(index));
    }

    /// Lets a lying node send its peers something false that no peer has asked for.
    pub(crate) fn lie(&mut self, index: usize) -> Result<(), Violation> {
        if !self.trouble {
            return Ok(());
        }
        self.schedule_lie(index);
        if self.nodes[index].core.is_none() {
            return Ok(());
        }
        self.counters.lies += 1;
        let has_votes = self.settings.validators > 0;
        let kinds = if has_votes { KINDS_WITH_VOTES } else { KINDS };
        match self.rng.liars.below(kinds) {
            0 => self.announce_altered(index, spoil_work),
            1 => self.announce_altered(index, |header| {
                header.bits.0 = EASIEST_BITS;
                find_nonce(header);
            }),
            2 => self.announce_altered(index, |header| {
                header.time = header.time.saturating_add(AHEAD_SECS);
                find_nonce(header);
            }),
            3 => {
                self.send_unrequested_response(index);
                Ok(())
            }
            4 | 5 => self.forge_block(index),
            6 | 7 => self.forge_transactions(index),
            8 => {
                self.spread_altered_payments(index);
                Ok(())
            }
            9..KINDS => self.flood(index),
            _ => {
                self.flood_with_votes(index);
                Ok(())
            }
        }
    }

    /// Announces the header of a solved block after a change to it.
    fn announce_altered(
        &mut self,
        index: usize,
        alter: impl FnOnce(&mut BlockHeader),
    ) -> Result<(), Violation> {
        if let Some(mut block) = self.assemble_block(index)? {
            alter(&mut block.header);
            self.announce(index, block.header);
        }
        Ok(())
    }

    /// Announces a header, whatever is behind it.
    pub(crate) fn announce(&mut self, index: usize, header: BlockHeader) {
        let message = Arc::new(GossipMessage::new(Gossip::Block(header)));
        self.forward(index, &message, None);
    }

    fn send_unrequested_response(&mut self, index: usize) {
        let ends: Vec<(usize, PeerKey)> = self.nodes[index]
            .connections
            .values()
            .map(|end| (end.other, end.other_key))
            .collect();
        if let Some((other, peer)) = self.rng.liars.pick(&ends) {
            let event = PeerEvent::Response {
                peer,
                id: RequestId(u64::MAX),
                response: Ok(Response::Headers(Vec::new())),
            };
            self.after(100_000, SimEvent::Peer(other, event));
        }
    }

    /// Makes a block with enough work and a false state root, and announces it.
    fn forge_block(&mut self, index: usize) -> Result<(), Violation> {
        let Some(mut block) = self.assemble_block(index)? else {
            return Ok(());
        };
        block.commitment.state_root = Hash256([0x5a; 32]);
        block.header.merkle_root = block.commitment.merkle_root();
        if !find_nonce(&mut block.header) {
            return Ok(());
        }
        self.record_block(&block);
        let header = block.header;
        self.keep_forged(index, block);
        self.announce(index, header);
        self.handle(index, Event::Tick).map(drop)
    }

    /// Keeps a block that a lying node has forged, to serve it to its peers.
    pub(crate) fn keep_forged(&mut self, index: usize, block: Block) {
        let forged = &mut self.nodes[index].forged;
        if forged.len() >= FORGED_MAX {
            forged.pop_first();
        }
        forged.insert(block.header.hash(), block);
    }
}

/// Changes the nonce until the hash no longer meets the target.
fn spoil_work(header: &mut BlockHeader) {
    let target = header.bits.to_target().ok();
    while target.is_some_and(|target| target.is_met_by(&header.hash())) {
        header.nonce = header.nonce.wrapping_add(1);
    }
}
