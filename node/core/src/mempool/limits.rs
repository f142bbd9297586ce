//! Which transactions leave the mempool: those that exceed its limits, and those that no longer
//! hold after a change of the chain. Start reading at [`Mempool::revalidate_sender`].

use std::sync::Arc;

use pithead_consensus::{Account, Address, Amount, Txid};

use super::{Fate, Mempool, Pending, PendingChange, RejectReason};

impl Mempool {
    /// Evicts transactions until `incoming` fits, where `freed` bytes leave with the transaction that
    /// it replaces (node policy):
    /// 1. Only the last transaction of a sender's queue is evicted, never one that others need.
    /// 2. Only transactions that pay less than `incoming` are evicted.
    /// 3. If `incoming` is not `ready`, that is, if it can't be mined next, nothing is evicted for it.
    pub(super) fn make_room(
        &mut self,
        incoming: &Pending,
        ready: bool,
        freed: usize,
        changes: &mut Vec<PendingChange>,
    ) -> Result<(), RejectReason> {
        let mut over = (self.bytes + incoming.size())
            .saturating_sub(freed)
            .saturating_sub(self.limits.bytes_max);
        if over == 0 {
            return Ok(());
        }
        let full = RejectReason::Full {
            required: self.entry_rate(),
        };
        if !ready {
            return Err(full);
        }
        let mut victims: Vec<Txid> = Vec::new();
        while over > 0 {
            let victim = self
                .eviction_candidate(incoming, &victims)
                .ok_or_else(|| full.clone())?;
            over = over.saturating_sub(victim.size());
            victims.push(victim.txid());
        }
        for victim in victims {
            let fate = Fate::Dropped {
                reason: "evicted: the mempool is full and others pay more",
            };
            changes.extend(self.remove_as(&victim, fate));
        }
        Ok(())
    }

    /// The transaction with the lowest fee rate that pays less than `incoming`, is of another sender,
    /// and is the last of its sender's queue apart from those already chosen.
    fn eviction_candidate(&self, incoming: &Pending, chosen: &[Txid]) -> Option<Arc<Pending>> {
        let rate = incoming.fee_rate();
        self.by_rate
            .iter()
            .take_while(|(worse, _)| *worse < rate)
            .filter(|(_, txid)| !chosen.contains(txid))
            .filter_map(|(_, txid)| self.by_txid.get(txid))
            .find(|pending| {
                let body = pending.body();
                body.sender != incoming.body().sender && self.is_last_but(pending, chosen)
            })
            .cloned()
    }

    fn is_last_but(&self, pending: &Pending, chosen: &[Txid]) -> bool {
        let body = pending.body();
        self.by_sender.get(&body.sender).is_some_and(|queue| {
            queue
                .range(body.sequence.saturating_add(1)..)
                .all(|(_, txid)| chosen.contains(txid))
        })
    }

    /// Drops transactions that have waited too long; `now` is Unix seconds.
    pub fn expire(&mut self, now: u64) -> Vec<PendingChange> {
        let limit = self.limits.expiry_secs;
        // By sender and sequence: the order must not be that of a hash map.
        let expired: Vec<Txid> = self
            .by_sender
            .values()
            .flat_map(|queue| queue.values())
            .filter_map(|txid| self.by_txid.get(txid))
            .filter(|pending| now.saturating_sub(pending.received) > limit)
            .map(|pending| pending.txid())
            .collect();
        let fate = Fate::Dropped {
            reason: "expired: it was not mined in time",
        };
        expired
            .iter()
            .filter_map(|txid| self.remove_as(txid, fate.clone()))
            .collect()
    }

    /// Removes a transaction that was mined.
    pub fn remove_mined(&mut self, txid: &Txid) -> Option<PendingChange> {
        self.fates.remove(txid);
        self.remove(txid).map(PendingChange::Mined)
    }

    /// Brings a sender's queue in line with its account after a change of the chain: drops
    /// transactions whose sequence is used now, and those that the balance no longer covers.
    /// `mined_at` gives the txid that was mined with a sequence, if the caller knows it.
    pub fn revalidate_sender(
        &mut self,
        sender: &Address,
        account: &Account,
        mined_at: impl Fn(u64) -> Option<Txid>,
    ) -> Vec<PendingChange> {
        let mut left = account.balance;
        let mut doomed = Vec::new();
        for pending in self.of_sender(sender) {
            let sequence = pending.body().sequence;
            if sequence < account.sequence {
                let fate = mined_at(sequence).map_or(
                    Fate::Dropped {
                        reason: "another transaction with its sequence was mined",
                    },
                    |by| Fate::Replaced { by },
                );
                doomed.push((pending.txid(), fate));
                continue;
            }
            match left.checked_sub(pending.total()) {
                Some(rest) => left = rest,
                None => {
                    left = Amount::ZERO;
                    let fate = Fate::Dropped {
                        reason: "the balance no longer covers it",
                    };
                    doomed.push((pending.txid(), fate));
                }
            }
        }
        doomed
            .into_iter()
            .filter_map(|(txid, fate)| self.remove_as(&txid, fate))
            .collect()
    }

    /// Drops a transaction that broke a rule when a block was assembled from it.
    pub fn drop_bad(&mut self, txid: &Txid) -> Option<PendingChange> {
        let fate = Fate::Dropped {
            reason: "it broke a rule when a block was built from it",
        };
        self.remove_as(txid, fate)
    }
}
