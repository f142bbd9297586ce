//! What takes the chain long: it goes on piece by piece, between other events. Afterwards the
//! mempool follows in the same way. Start reading at [`Node::go_on_reorganising`].

use std::collections::VecDeque;
use std::sync::Arc;

use pithead_consensus::transaction::MAX_TRANSACTION_BYTES;
use pithead_consensus::{Address, BlockHash};
use tracing::{info, warn};

use super::transactions::REPUBLISHED_MAX;
use super::{Effect, Node, Now, Sink, report};
use crate::chain::{Advance, ChainUpdate};
use crate::mempool::PendingChange;
use crate::store::schema;
use crate::store::{Snapshot, StoreError};
use crate::sync::PeerEffect;

/// The blocks whose transactions are taken back after a long reorganisation, one block in each
/// event.
#[derive(Debug, Default)]
pub(super) struct TakingBack {
    /// Blocks that left the best chain, oldest first.
    blocks: VecDeque<BlockHash>,
    /// How many of the transactions were announced.
    announced: usize,
}

impl TakingBack {
    pub(super) fn is_done(&self) -> bool {
        self.blocks.is_empty()
    }
}

impl Node {
    /// Does the next piece of a long reorganisation or of what follows it. This runs when no other
    /// event waits, and once a second.
    pub(super) fn go_on_reorganising(&mut self, now: Now, out: &mut Sink<'_>) {
        if let Err(error) = self.try_go_on_reorganising(now, out) {
            out(Effect::Fatal(error.to_string()));
        }
    }

    fn try_go_on_reorganising(&mut self, now: Now, out: &mut Sink<'_>) -> Result<(), StoreError> {
        if !self.chain.has_more() {
            return self.take_next_back(now.unix_secs, out);
        }
        let finality = self.read_finality().view();
        let sync = &mut self.sync;
        let advance = self.chain.advance(&finality, &mut |block| {
            out(Effect::Peer(PeerEffect::BlockValidated(Arc::clone(block))));
            sync.validated(&block.block().header);
        })?;
        match advance {
            Advance::Nothing => Ok(()),
            Advance::Switched { update, is_long } if is_long => {
                self.follow_long_way(update, now.unix_secs, out)
            }
            Advance::Switched { update, .. } => self.follow_chain(&update, now.unix_secs, out),
            Advance::Condemned { end, bad } => {
                warn!(block = %bad, "a better chain holds an invalid block: the chain stays");
                self.with_view(now, |sync, view| {
                    sync.reject_branch(view, end, bad);
                    Ok(())
                })
            }
        }
    }

    /// Brings mempool and template in line with a chain that changed by more blocks than one event
    /// can go through. The pending transactions are held against the new accounts instead; those of
    /// the blocks that left come back later, a block at a time.
    fn follow_long_way(
        &mut self,
        update: ChainUpdate,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let disconnected = update.disconnected.len();
        let connected = update.connected.len();
        info!(disconnected, connected, "a long reorganisation has ended");
        let changes = self.settle_all_senders()?;
        report(changes, out);
        self.taking_back = TakingBack {
            blocks: update.disconnected.into_iter().rev().collect(),
            announced: 0,
        };
        self.show_new_tip(disconnected, now, out)
    }

    /// Removes the transactions from the mempool that were mined, and those that no longer hold.
    fn settle_all_senders(&mut self) -> Result<Vec<PendingChange>, StoreError> {
        let snapshot = self.chain.store().snapshot()?;
        let senders: Vec<Address> = self.read_mempool().senders().copied().collect();
        let mut changes = Vec::new();
        for sender in &senders {
            changes.extend(self.settle_sender(snapshot.as_ref(), sender)?);
        }
        Ok(changes)
    }

    fn settle_sender(
        &mut self,
        from: &dyn Snapshot,
        sender: &Address,
    ) -> Result<Vec<PendingChange>, StoreError> {
        let account = schema::account(from, sender)?;
        let used: Vec<_> = {
            let mempool = self.read_mempool();
            let pending = mempool.of_sender(sender);
            let used = pending.filter(|each| each.body().sequence < account.sequence);
            used.map(|each| each.txid()).collect()
        };
        let mut changes = Vec::new();
        for txid in used {
            if schema::place(from, &txid)?.is_some() {
                changes.extend(self.write_mempool().remove_mined(&txid));
            }
        }
        let mut mempool = self.write_mempool();
        changes.extend(mempool.revalidate_sender(sender, &account, |_| None));
        Ok(changes)
    }

    /// Takes the transactions of the next block back that left with a long reorganisation, and
    /// announces the first of them. The oldest block comes first, since later transactions build on
    /// earlier ones. It ends once the mempool is full.
    fn take_next_back(&mut self, now: u64, out: &mut Sink<'_>) -> Result<(), StoreError> {
        let Some(hash) = self.taking_back.blocks.pop_front() else {
            return Ok(());
        };
        let block = self.chain.block(&hash)?;
        for transaction in block.checked_transactions() {
            self.take_back(transaction, now, out)?;
        }
        let back: Vec<_> = {
            let mempool = self.read_mempool();
            let left = REPUBLISHED_MAX.saturating_sub(self.taking_back.announced);
            let pending = block.txids().iter().filter_map(|txid| mempool.get(txid));
            let back = pending.take(left).map(|each| each.transaction().clone());
            back.collect()
        };
        self.taking_back.announced += back.len();
        for transaction in back {
            self.sync.publish_transaction(transaction);
        }
        let is_full = {
            let mempool = self.read_mempool();
            mempool.bytes() + MAX_TRANSACTION_BYTES > mempool.limits().bytes_max
        };
        if is_full {
            self.taking_back = TakingBack::default();
        }
        self.shorten_pending_log()
    }
}
