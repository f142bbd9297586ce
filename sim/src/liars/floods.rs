//! What a stranger can send without end and nearly for nothing: blocks without a parent, blocks
//! beside the tip, payments that can't be mined or are replaced again and again, and the costliest
//! questions of protocol §13.
//!
//! Each flood fills one of a node's limits. What it may cost the node is judged in
//! `checks::limits`. Start reading at [`Simulation::flood`].

use std::sync::Arc;

use pithead_consensus::{Address, Amount, Block, BlockHash, Height, Output, TransactionBody, Txid};
use pithead_core::node::Event;
use pithead_core::store::schema;
use pithead_core::sync::{Gossip, Request, RequestId};

use crate::events::{RequestInFlight, SimEvent};
use crate::nodes::gossip::GossipMessage;
use crate::nodes::sim_node::GENESIS_TIME;
use crate::violation::Violation;
use crate::weather::mining::find_nonce;
use crate::world::Simulation;

/// Blocks without a parent in one flood: as many as a node keeps.
const ORPHANS: usize = 64;
/// Blocks beside the tip in one flood.
const SIBLINGS: usize = 16;
/// Payments in one flood: as far as a sequence may run ahead.
const PAYMENTS: u64 = 16;
/// Ids in the largest question (protocol §13).
const IDS: u16 = 1_000;
/// Hashes in the largest locator (protocol §13).
const LOCATOR: u16 = 101;
/// Times that each question is asked in one flood.
const REPEATED: usize = 3;
/// Kinds of floods.
const KINDS: usize = 5;
/// The fee of a payment in a flood, grains: at the rate of an ordinary one.
const FEE: u64 = 1_000;

impl Simulation {
    /// A lying node's user floods a random honest node through its API, or the lying node floods its
    /// peers.
    pub(crate) fn flood(&mut self, index: usize) -> Result<(), Violation> {
        match self.rng.liars.below(KINDS) {
            0 => self.flood_with_orphans(),
            1 => self.flood_with_siblings(),
            2 => self.flood_with_gaps(index),
            3 => self.flood_with_replacements(index),
            _ => {
                self.ask_costly_questions(index);
                Ok(())
            }
        }
    }

    fn random_honest(&mut self) -> Option<usize> {
        let honest = self.honest_running();
        self.rng.liars.pick(&honest)
    }

    fn flood_with_orphans(&mut self) -> Result<(), Violation> {
        let (Some(index), Some(block)) = (self.random_honest(), self.stray_block(0)) else {
            return Ok(());
        };
        for _ in 0..ORPHANS {
            let mut orphan = block.clone();
            let number = self.next_number();
            orphan.header.prev.0[..8].copy_from_slice(&number.to_be_bytes());
            if find_nonce(&mut orphan.header) {
                self.handle(index, Event::Block(Box::new(orphan)))?;
            }
        }
        Ok(())
    }

    fn flood_with_siblings(&mut self) -> Result<(), Violation> {
        let Some(index) = self.random_honest() else {
            return Ok(());
        };
        for _ in 0..SIBLINGS {
            let number = self.next_number();
            let Some(mut sibling) = self.stray_block(number) else {
                return Ok(());
            };
            if find_nonce(&mut sibling.header) {
                self.record_block(&sibling);
                self.handle(index, Event::Block(Box::new(sibling)))?;
            }
        }
        Ok(())
    }

    /// An empty block beside the best tip, without its proof of work.
    fn stray_block(&mut self, number: u64) -> Option<Block> {
        let best = self.best_honest()?;
        let (tip, _) = self.nodes[best].tip()?;
        let parent = self.model.get(&tip).filter(|found| found.height > 0)?;
        let time = u32::try_from(u64::from(GENESIS_TIME) + self.secs()).ok()?;
        let (parent, number) = (parent.parent, number.to_be_bytes());
        self.oracle
            .assemble(&parent, Vec::new(), Address([0xf1; 32]), time, number)
    }

    /// Payments behind a missing sequence, the highest first.
    fn flood_with_gaps(&mut self, index: usize) -> Result<(), Violation> {
        let next = self.strangers_sequence(index)?;
        for ahead in (1..=PAYMENTS).rev() {
            self.gossip_of_stranger(index, next + ahead, FEE, 0);
        }
        Ok(())
    }

    /// One payment, replaced again and again by one that pays a tenth more, and refused copies of
    /// it that pay nothing more.
    fn flood_with_replacements(&mut self, index: usize) -> Result<(), Violation> {
        let next = self.strangers_sequence(index)?;
        let mut fee = FEE;
        for round in 0..PAYMENTS / 2 {
            self.gossip_of_stranger(index, next, fee, round);
            self.gossip_of_stranger(index, next, fee, PAYMENTS + round);
            fee += fee.div_ceil(10);
        }
        Ok(())
    }

    /// The next sequence of the stranger's account: that of the last wallet.
    fn strangers_sequence(&self, index: usize) -> Result<u64, Violation> {
        let Some(stranger) = self.wallets.last() else {
            return Ok(0);
        };
        let Some(core) = &self.nodes[index].core else {
            return Ok(0);
        };
        let snapshot = core.chain().store().snapshot();
        let account = snapshot.and_then(|at| schema::account(at.as_ref(), &stranger.address));
        let account = account.map_err(|error| self.storage_failed(index, &error))?;
        Ok(account.sequence)
    }

    fn gossip_of_stranger(&mut self, index: usize, sequence: u64, fee: u64, amount: u64) {
        let Some(stranger) = self.wallets.last() else {
            return;
        };
        let amounts = (Amount::from_grains(fee), Amount::from_grains(1 + amount));
        let (Ok(fee), Ok(amount)) = amounts else {
            return;
        };
        let body = TransactionBody {
            sender: stranger.address,
            sequence,
            fee,
            outputs: vec![Output {
                recipient: stranger.address,
                amount,
            }],
            data: Vec::new(),
        };
        let message = body.signing_message(&self.genesis.params.genesis_hash);
        let Some(signature) = stranger.sign(&message, &mut self.rng.liars) else {
            return;
        };
        let payment = pithead_consensus::SignedTransaction {
            key: (sequence == 0).then(|| stranger.public.clone()),
            body,
            signature,
        };
        let gossip = Gossip::Transaction(Box::new(payment));
        let message = Arc::new(GossipMessage::new(gossip));
        self.forward(index, &message, None);
    }

    /// Asks all peers each question at its largest, more than once.
    fn ask_costly_questions(&mut self, index: usize) {
        let known: Vec<BlockHash> = self.model.in_order().map(|(hash, _)| *hash).collect();
        let mut blocks: Vec<BlockHash> = known.into_iter().rev().take(usize::from(IDS)).collect();
        let missing = usize::from(IDS).saturating_sub(blocks.len());
        blocks.extend(unknown_hashes(IDS).into_iter().take(missing));
        let mut locator = unknown_hashes(LOCATOR - 1);
        locator.push(self.genesis.params.genesis_hash);
        let txids = unknown_hashes(IDS).into_iter().map(|hash| Txid(hash.0));
        let questions = [
            Request::Headers {
                locator,
                stop: None,
            },
            Request::Blocks(blocks),
            Request::Transactions(txids.collect()),
            Request::Mempool,
            Request::Approvals(Height(0)),
            Request::Certificates(Height(0)),
        ];
        let ends: Vec<_> = self.nodes[index].connections.values().copied().collect();
        for end in ends {
            for question in questions.iter().cycle().take(REPEATED * questions.len()) {
                let number = self.next_number();
                let request = RequestInFlight {
                    server: end.other,
                    server_key: end.other_key,
                    id: RequestId(u64::MAX - number),
                    request: question.clone(),
                    sent_us: self.now_us,
                };
                self.after(end.latency_us as u64, SimEvent::Request(request));
            }
        }
    }
}

fn unknown_hashes(count: u16) -> Vec<BlockHash> {
    let hash = |number: u16| {
        let mut hash = [0xee; 32];
        hash[..2].copy_from_slice(&number.to_le_bytes());
        BlockHash(hash)
    };
    (0..count).map(hash).collect()
}
