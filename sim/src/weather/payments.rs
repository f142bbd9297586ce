//! Payments between the wallets, at random times and through random nodes.
//!
//! A wallet knows no more than the node that it uses tells it. Start reading at
//! [`Simulation::pay`].

use pithead_consensus::{Amount, Output, SignedTransaction, TransactionBody};
use pithead_core::node::{Answer, Event, TransactionVerdict};
use pithead_core::store::schema;

use crate::events::SimEvent;
use crate::nodes::sim_node::mempool_of;
use crate::violation::Violation;
use crate::world::Simulation;

/// The amount of each payment, grains: a hundredth of a PIT.
const AMOUNT: u64 = 1_000_000;
/// The fee of each payment, grains.
const FEE: u64 = 1_000;

impl Simulation {
    /// Schedules the next payment, if the run has payments.
    pub(crate) fn schedule_payment(&mut self) {
        let per_hour = self.settings.payments_per_hour;
        if per_hour > 0.0 {
            let wait = self.rng.payments.exponential(3_600.0 / per_hour);
            self.after_secs(wait, SimEvent::Pay);
        }
    }

    /// Makes a payment from one random wallet to another through a random node. Without
    /// effect if the node is down or lies.
    pub(crate) fn pay(&mut self) -> Result<(), Violation> {
        if !self.mining {
            return Ok(());
        }
        self.schedule_payment();
        let index = self.rng.payments.below(self.nodes.len());
        // The last wallet is a stranger's.
        let payer = self.rng.payments.below(self.wallets.len() - 1);
        let payee = self.rng.payments.below(self.wallets.len());
        let node = &self.nodes[index];
        let Some(core) = node.core.as_ref().filter(|_| node.is_honest()) else {
            return Ok(());
        };
        let sender = self.wallets[payer].address;
        let account = core
            .chain()
            .store()
            .snapshot()
            .and_then(|snapshot| schema::account(snapshot.as_ref(), &sender));
        let account = account.map_err(|error| self.storage_failed(index, &error))?;
        let sequence = mempool_of(core).next_sequence(&sender, account.sequence);
        let Some(transaction) = self.sign_payment(payer, payee, sequence) else {
            return Ok(());
        };
        let event = Event::Transaction(Box::new(transaction));
        // The node may refuse the payment: the number of a sender's pending ones is limited.
        if let Some(Answer::Transaction(Ok(TransactionVerdict::Accepted))) =
            self.handle(index, event)?
        {
            self.counters.payments += 1;
        }
        Ok(())
    }

    fn sign_payment(
        &mut self,
        payer: usize,
        payee: usize,
        sequence: u64,
    ) -> Option<SignedTransaction> {
        let (key, recipient) = (&self.wallets[payer], self.wallets[payee].address);
        let body = TransactionBody {
            sender: key.address,
            sequence,
            fee: Amount::from_grains(FEE).ok()?,
            outputs: vec![Output {
                recipient,
                amount: Amount::from_grains(AMOUNT).ok()?,
            }],
            data: Vec::new(),
        };
        let message = body.signing_message(&self.genesis.params.genesis_hash);
        let signature = key.sign(&message, &mut self.rng.payments)?;
        Some(SignedTransaction {
            // An account's first transaction carries its public key (protocol §5).
            key: (sequence == 0).then(|| key.public.clone()),
            body,
            signature,
        })
    }
}
