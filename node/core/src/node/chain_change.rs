//! What a change of the best chain means for pending transactions and for the miners' template.
//! Start reading at [`Node::follow_chain`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pithead_consensus::check::{CheckedBlock, CheckedTransaction};
use pithead_consensus::connect::{Reward, touched_addresses};
use pithead_consensus::{Address, BlockHash, Height, Txid};

use super::{Effect, Node, Sink, report};
use crate::chain::ChainUpdate;
use crate::mempool::{Mempool, PendingChange};
use crate::store::schema;
use crate::store::{Snapshot, StoreError};

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
        // The mempool has the account of before the change.
        let sender = &transaction.transaction().body.sender;
        let snapshot = self.chain.store().snapshot()?;
        let account = schema::account(snapshot.as_ref(), sender)?;
        self.write_mempool().set_account(sender, &account);
        if let Ok((_, changes)) = self.admit_from(&account, transaction, now, 0) {
            self.log_added(&changes)?;
            report(changes, out);
        }
        Ok(())
    }

    /// Removes mined transactions from the mempool, and those that no longer hold. The accounts that
    /// the mempool keeps are renewed if a block on the way could have changed them. The mempool is
    /// locked only between reads of the store.
    fn settle_mempool(&mut self, update: &ChainUpdate) -> Result<Vec<PendingChange>, StoreError> {
        let snapshot = self.chain.store().snapshot()?;
        let mut changes = Vec::new();
        let mut affected = Affected::default();
        let old_tip = match update.disconnected.first() {
            Some(hash) => schema::expect_entry(snapshot.as_ref(), hash)?.height.0,
            None => 0,
        };
        for (below, hash) in (0..).zip(&update.disconnected) {
            let block = self.chain.block(hash)?;
            let height = old_tip.saturating_sub(below);
            let reward = self.reward_undone(snapshot.as_ref(), update, old_tip, height)?;
            note_touched(&self.read_mempool(), &block, reward.as_ref(), &mut affected);
        }
        let first = self.chain.tip().height.0 + 1 - update.connected.len() as u64;
        for (height, hash) in (first..).zip(&update.connected) {
            let block = self.connected_block(update, hash)?;
            let reward = self
                .chain
                .matured_reward(snapshot.as_ref(), Height(height))?;
            let mut mempool = self.write_mempool();
            note_touched(&mempool, &block, reward.as_ref(), &mut affected);
            changes.extend(remove_mined(&mut mempool, &block, &mut affected));
        }
        for sender in &affected.senders {
            let account = schema::account(snapshot.as_ref(), sender)?;
            let mined = |sequence| affected.mined.get(&(*sender, sequence)).copied();
            let mut mempool = self.write_mempool();
            changes.extend(mempool.revalidate_sender(sender, &account, mined));
        }
        Ok(changes)
    }

    /// The reward that a disconnected block of this height had paid out. It is that of a block below
    /// the fork, or of one that left with it; `old_tip` is the height of the first that left.
    fn reward_undone(
        &self,
        from: &dyn Snapshot,
        update: &ChainUpdate,
        old_tip: u64,
        height: u64,
    ) -> Result<Option<Reward>, StoreError> {
        let maturity = u64::from(self.chain.params().reward_maturity);
        let source = height.saturating_sub(maturity);
        let place = usize::try_from(old_tip.saturating_sub(source)).unwrap_or(usize::MAX);
        match update.disconnected.get(place) {
            Some(hash) if maturity > 0 => Ok(Some(schema::expect_entry(from, hash)?.reward())),
            _ => self.chain.matured_reward(from, Height(height)),
        }
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

/// Removes the transactions of a connected block from the mempool, and notes which were mined.
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
            let key = (sender, transaction.body.sequence);
            affected.mined.insert(key, *txid);
        }
        changes.extend(mempool.remove_mined(txid));
    }
    changes
}

/// Notes the senders whose accounts a block changes, when it is connected as when it is
/// disconnected.
fn note_touched(
    mempool: &Mempool,
    block: &CheckedBlock,
    paid: Option<&Reward>,
    affected: &mut Affected,
) {
    let touched = touched_addresses(block.block(), paid).into_iter();
    let pending = touched.filter(|address| has_pending(mempool, address));
    affected.senders.extend(pending);
}
