//! What a change of the best chain means for pending transactions and for the miners' template.
//! Start reading at [`Node::follow_chain`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pithead_consensus::check::{CheckedBlock, CheckedTransaction};
use pithead_consensus::{Address, BlockHash, Txid};

use super::{Effect, Node, Sink, report};
use crate::chain::ChainUpdate;
use crate::mempool::{Mempool, PendingChange};
use crate::store::StoreError;
use crate::store::schema;

/// The senders whose pending transactions a chain change may have affected, and which of their
/// transactions was mined with which sequence.
#[derive(Default)]
struct Affected {
    senders: BTreeSet<Address>,
    mined: HashMap<(Address, u64), Txid>,
}

impl Node {
    /// Brings mempool and template in line with a changed chain.
    pub(super) fn follow_chain(
        &mut self,
        update: &ChainUpdate,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        // First take the transactions of disconnected blocks back: one that is on both branches
        // must end as mined. Oldest block first: a transaction may need the key and the sequence
        // that an earlier one brings.
        for hash in update.disconnected.iter().rev() {
            let block = self.chain.block(hash)?;
            for transaction in block.checked_transactions() {
                self.take_back(transaction, now, out)?;
            }
        }
        let changes = self.settle_mempool(update)?;
        report(changes, out);
        self.publish_taken_back(update)?;
        self.show_new_tip(update.disconnected.len(), now, out)
    }

    /// Tells of the new tip, and gives miners work on it.
    pub(super) fn show_new_tip(
        &mut self,
        disconnected: usize,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        self.shorten_pending_log()?;
        out(Effect::TipChanged {
            tip: Box::new(self.chain.tip().clone()),
            disconnected,
        });
        if self.sync.status().syncing {
            // Miners get no work on a chain that is far behind.
            self.template_is_stale = true;
            return Ok(());
        }
        let (template, changes) = self.renew_template(now)?;
        report(changes, out);
        out(Effect::NewTemplate(template));
        Ok(())
    }

    /// Puts a transaction of a disconnected block back into the mempool and its log. The log may
    /// have dropped it when it was mined.
    pub(super) fn take_back(
        &mut self,
        transaction: CheckedTransaction,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        if let Ok((_, changes)) = self.admit(transaction, now)? {
            self.log_added(&changes)?;
            report(changes, out);
        }
        Ok(())
    }

    /// Removes mined transactions from the mempool, and those that no longer hold.
    fn settle_mempool(&mut self, update: &ChainUpdate) -> Result<Vec<PendingChange>, StoreError> {
        let snapshot = self.chain.store().snapshot()?;
        let mut changes = Vec::new();
        let mut affected = Affected::default();
        let mut mempool = self.write_mempool();
        for hash in &update.connected {
            let block = self.connected_block(update, hash)?;
            changes.extend(remove_mined(&mut mempool, &block, &mut affected));
        }
        for hash in &update.disconnected {
            let block = self.chain.block(hash)?;
            note_weakened(&mempool, &block, &mut affected);
        }
        if !update.disconnected.is_empty() {
            // A reward that was undone may have paid any of the senders.
            affected.senders.extend(mempool.senders().copied());
        }
        for sender in &affected.senders {
            let account = schema::account(snapshot.as_ref(), sender)?;
            changes.extend(mempool.revalidate_sender(sender, &account, |sequence| {
                affected.mined.get(&(*sender, sequence)).copied()
            }));
        }
        Ok(changes)
    }

    /// A block that joined the best chain. The new tip is in memory; the others are read back.
    fn connected_block(
        &self,
        update: &ChainUpdate,
        hash: &BlockHash,
    ) -> Result<Arc<CheckedBlock>, StoreError> {
        if update.tip.hash() == *hash {
            return Ok(Arc::clone(&update.tip));
        }
        self.chain.block(hash)
    }
}

/// Whether a sender has pending transactions. Only those senders are noted, which bounds what a
/// long reorganisation keeps in memory.
fn has_pending(mempool: &Mempool, sender: &Address) -> bool {
    mempool.of_sender(sender).next().is_some()
}

/// Removes the transactions of a connected block from the mempool, and notes its senders.
fn remove_mined(
    mempool: &mut Mempool,
    block: &CheckedBlock,
    affected: &mut Affected,
) -> Vec<PendingChange> {
    let mut changes = Vec::new();
    let transactions = block.block().transactions.iter();
    for (transaction, txid) in transactions.zip(block.txids()) {
        let sender = transaction.body.sender;
        if has_pending(mempool, &sender) {
            affected.senders.insert(sender);
            let key = (sender, transaction.body.sequence);
            affected.mined.insert(key, *txid);
        }
        changes.extend(mempool.remove_mined(txid));
    }
    changes
}

/// Notes the senders and the recipients of a disconnected block: the credits that were undone
/// weaken the recipients' balances.
fn note_weakened(mempool: &Mempool, block: &CheckedBlock, affected: &mut Affected) {
    for transaction in &block.block().transactions {
        let outputs = transaction.body.outputs.iter();
        let parties = outputs
            .map(|output| output.recipient)
            .chain([transaction.body.sender]);
        let pending = parties.filter(|party| has_pending(mempool, party));
        affected.senders.extend(pending);
    }
}
