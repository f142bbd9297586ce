//! Peers that lie: what they answer, and what they tell unasked.

use std::sync::Arc;

use pithead_consensus::{Block, BlockHeader, Hash256};
use pithead_core::node::Event;
use pithead_core::sync::{Gossip, PeerEvent, PeerKey, Request, RequestId, Response};

use crate::false_witness;
use crate::member::Message;
use crate::mining::find_nonce;
use crate::schedule::Happening;
use crate::world::{Simulation, Violation};

/// Mean seconds between two lies of one liar that nobody asked for.
const LIE_SECS: f64 = 60.0;
/// How many forged blocks a liar keeps.
const FORGED_MAX: usize = 16;

impl Simulation {
    /// What a liar makes of its honest answer; `None`: silence.
    pub(crate) fn distort(
        &mut self,
        at: usize,
        request: &Request,
        honest: Response,
    ) -> Option<Response> {
        let roll = self.dice.liars.below(12);
        let member = &mut self.members[at];
        // It always gives what it forged.
        if let Request::Blocks(hashes) = request {
            let forged: Vec<Block> = hashes
                .iter()
                .filter_map(|hash| member.forged.get(hash).cloned())
                .collect();
            if !forged.is_empty() {
                return Some(Response::Blocks(forged));
            }
        }
        match (roll, honest) {
            (0, _) => None,
            (1, _) => member.earlier.clone(),
            (2, Response::Blocks(mut blocks)) => {
                for block in &mut blocks {
                    block.commitment.extra_nonce[0] ^= 1;
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
            (4, _) => Some(Response::Mempool(vec![pithead_consensus::Txid([7; 32]); 3])),
            (5..=7, honest) if self.settings.validators > 0 => {
                let twisted = false_witness::twist(&mut self.dice.liars, &honest);
                Some(twisted.unwrap_or(honest))
            }
            (_, honest) => {
                member.earlier = Some(honest.clone());
                Some(honest)
            }
        }
    }

    pub(crate) fn schedule_lie(&mut self, index: usize) {
        let wait = self.dice.liars.exponential(LIE_SECS);
        self.after((wait * 1e6) as u64, Happening::Lie(index));
    }

    /// Lets a liar tell its peers something of its own accord.
    pub(crate) fn lie(&mut self, index: usize) -> Result<(), Violation> {
        if !self.stirred {
            return Ok(());
        }
        self.schedule_lie(index);
        if self.members[index].node.is_none() {
            return Ok(());
        }
        self.measure.lies += 1;
        let kinds = if self.settings.validators > 0 { 8 } else { 6 };
        match self.dice.liars.below(kinds) {
            0 => self.announce_twisted(index, |header| {
                // No work at all.
                let target = header.bits.to_target().ok();
                while target.is_some_and(|target| target.is_met_by(&header.hash())) {
                    header.nonce = header.nonce.wrapping_add(1);
                }
            }),
            1 => self.announce_twisted(index, |header| {
                // Work for a target that is not due.
                header.bits.0 = 0x207f_ffff;
                find_nonce(header);
            }),
            2 => self.announce_twisted(index, |header| {
                // A time that no clock allows yet.
                header.time = header.time.saturating_add(7_200);
                find_nonce(header);
            }),
            3 => {
                self.answer_unasked(index);
                Ok(())
            }
            6 | 7 => {
                self.flood_with_votes(index);
                Ok(())
            }
            _ => self.forge(index),
        }
    }

    fn announce_twisted(
        &mut self,
        index: usize,
        twist: impl FnOnce(&mut BlockHeader),
    ) -> Result<(), Violation> {
        if let Some(mut block) = self.assemble(index)? {
            twist(&mut block.header);
            self.tell_all(index, block.header);
        }
        Ok(())
    }

    fn tell_all(&mut self, index: usize, header: BlockHeader) {
        let message = Arc::new(Message::new(Gossip::Block(header)));
        self.spread(index, &message, None);
    }

    fn answer_unasked(&mut self, index: usize) {
        let links: Vec<(usize, PeerKey)> = self.members[index]
            .links
            .values()
            .map(|link| (link.other, link.other_key))
            .collect();
        if let Some((other, peer)) = self.dice.liars.pick(&links) {
            let event = PeerEvent::Response {
                peer,
                id: RequestId(u64::MAX),
                response: Ok(Response::Headers(Vec::new())),
            };
            self.after(100_000, Happening::Peer(other, event));
        }
    }

    /// Makes a block with all the work it needs and a rule broken, and announces
    /// it.
    fn forge(&mut self, index: usize) -> Result<(), Violation> {
        let Some(mut block) = self.assemble(index)? else {
            return Ok(());
        };
        block.commitment.state_root = Hash256([0x5a; 32]);
        block.header.merkle_root = block.commitment.merkle_root();
        if !find_nonce(&mut block.header) {
            return Ok(());
        }
        self.enter(&block, false);
        let header = block.header;
        let forged = &mut self.members[index].forged;
        if forged.len() >= FORGED_MAX {
            forged.pop_first();
        }
        forged.insert(header.hash(), block);
        self.tell_all(index, header);
        self.handle(index, Event::Tick).map(drop)
    }
}
