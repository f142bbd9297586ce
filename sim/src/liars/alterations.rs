//! What a lying node makes of transactions and blocks that it saw, before it sends them on.
//!
//! An alteration keeps as much as it can of the original: a forged copy of a payment has the same
//! txid, and an altered body goes out under its true header. Whether an altered block still keeps
//! the rules is for the oracle to say. Start reading at [`Simulation::spread_altered_payments`].

use std::sync::Arc;

use pithead_consensus::{Block, PublicKey, SignedTransaction, merkle};
use pithead_core::sync::Gossip;

use crate::events::SimEvent;
use crate::model::oracle::Verdict;
use crate::nodes::gossip::GossipMessage;
use crate::nodes::sim_node::mempool_of;
use crate::rng::SimRng;
use crate::violation::Violation;
use crate::weather::mining::find_nonce;
use crate::world::Simulation;

/// The most pending payments that a node alters at once.
const ALTERED_MAX: usize = 8;
/// How long forged copies of payments have to reach the peers before a block with them is
/// announced, microseconds.
const SPREAD_US: u64 = 2_000_000;
/// Ways to alter the transactions of a block.
const BLOCK_ALTERATIONS: usize = 5;

/// The payment with another signature: the same txid, another leaf.
fn forged(payment: &SignedTransaction) -> SignedTransaction {
    let mut forged = payment.clone();
    forged.signature.0[0] ^= 1;
    forged
}

/// A payment of which one part is altered: its signature, its key or its body.
fn altered(rng: &mut SimRng, payment: &SignedTransaction, key: &PublicKey) -> SignedTransaction {
    let mut altered = payment.clone();
    match rng.below(4) {
        0 => return forged(payment),
        1 => altered.signature.0.fill(0),
        // Another key, a superfluous one, or none where one is due.
        2 if rng.happens(0.5) => altered.key = Some(key.clone()),
        2 => altered.key = None,
        _ => altered.body.sequence += 1,
    }
    altered
}

/// The body of an answer under its true header, altered on its way.
pub(crate) fn alter_body(rng: &mut SimRng, block: &mut Block) {
    let transactions = &mut block.transactions;
    match (rng.below(4), transactions.len()) {
        (0, 1..) => drop(transactions.pop()),
        (1, 1..) => transactions.push(transactions[0].clone()),
        (2, 2..) => transactions.reverse(),
        (3, 1..) => transactions[0] = forged(&transactions[0]),
        _ => block.commitment.extra_nonce[0] ^= 1,
    }
}

impl Simulation {
    /// Gossips altered copies of the payments that a lying node has pending.
    pub(crate) fn spread_altered_payments(&mut self, index: usize) {
        for payment in self.pending_payments(index) {
            let rng = &mut self.rng.liars;
            let other = rng.below(self.wallets.len());
            let copy = altered(rng, &payment, &self.wallets[other].public);
            self.gossip_payment(index, copy);
        }
    }

    fn pending_payments(&self, index: usize) -> Vec<SignedTransaction> {
        let core = self.nodes[index].core.as_ref();
        core.map(|core| {
            let mempool = mempool_of(core);
            let best = mempool.iter_by_rate().take(ALTERED_MAX);
            best.map(|pending| pending.transaction().clone()).collect()
        })
        .unwrap_or_default()
    }

    fn gossip_payment(&mut self, index: usize, payment: SignedTransaction) {
        let gossip = Gossip::Transaction(Box::new(payment));
        let message = Arc::new(GossipMessage::new(gossip));
        self.forward(index, &message, None);
    }

    /// Alters the transactions of a block and mines it: the header commits to what was altered.
    /// Peers first get the altered payments, and then the block with them.
    pub(crate) fn forge_transactions(&mut self, index: usize) -> Result<(), Violation> {
        let Some(mut block) = self.assemble_block(index)? else {
            return Ok(());
        };
        self.alter_transactions(&mut block);
        for payment in block.transactions.clone() {
            self.gossip_payment(index, payment);
        }
        let leaves: Vec<_> = block
            .transactions
            .iter()
            .map(SignedTransaction::leaf_hash)
            .collect();
        block.commitment.transactions_root = merkle::root(&leaves);
        block.header.merkle_root = block.commitment.merkle_root();
        if !find_nonce(&mut block.header) {
            return Ok(());
        }
        let verdict = self.record_block(&block);
        if verdict == Verdict::Orphan {
            return Ok(());
        }
        let header = block.header;
        self.keep_forged(index, block);
        self.after(SPREAD_US, SimEvent::Announce(index, Box::new(header)));
        Ok(())
    }

    fn alter_transactions(&mut self, block: &mut Block) {
        let rng = &mut self.rng.liars;
        let transactions = &mut block.transactions;
        match (rng.below(BLOCK_ALTERATIONS), transactions.len()) {
            (0 | 1, 1..) => {
                for transaction in transactions.iter_mut() {
                    *transaction = forged(transaction);
                }
            }
            (2, 1..) => transactions.push(transactions[0].clone()),
            (3, 2..) => transactions.reverse(),
            (_, 1..) => {
                let other = rng.below(self.wallets.len());
                let key = &self.wallets[other].public;
                transactions[0] = altered(rng, &transactions[0], key);
            }
            // Without transactions, only the state is left to lie about.
            _ => block.commitment.state_root.0[0] ^= 1,
        }
    }
}
