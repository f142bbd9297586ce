//! Which transactions leave the mempool by themselves: those that waited too long, and those that
//! no longer hold after a change of the chain. Start reading at [`Mempool::revalidate_sender`].

use pithead_consensus::{Account, Address, Amount, Txid};

use super::{Fate, Mempool, PendingChange};

impl Mempool {
    /// Drops transactions that have waited too long, and remembers them for as long again: a node
    /// that had one of them a little longer would give it back. `now_ms` is in milliseconds of
    /// [`Waited`](super::Waited).
    pub fn expire(&mut self, now_ms: u64) -> Vec<PendingChange> {
        self.expired.sweep(now_ms);
        let mut changes = Vec::new();
        while let Some((expires_ms, txid)) = self.by_expiry.first().copied()
            && expires_ms < now_ms
        {
            let fate = Fate::Dropped {
                reason: "expired: it was not mined in time",
            };
            changes.extend(self.remove_as(&txid, fate));
            self.note_expired(txid, now_ms);
        }
        changes
    }

    /// Remembers that a transaction has expired.
    pub fn note_expired(&mut self, txid: Txid, now_ms: u64) {
        let memory_ms = self.limits.expiry_secs.saturating_mul(1_000);
        self.expired.insert(txid, now_ms.saturating_add(memory_ms));
    }

    /// Removes a transaction that was mined.
    pub fn remove_mined(&mut self, txid: &Txid) -> Option<PendingChange> {
        self.fates.remove(txid);
        self.expired.forget(txid);
        self.remove(txid).map(PendingChange::Mined)
    }

    /// Takes note of a sender's confirmed account, if the sender has pending transactions. Those that
    /// no longer hold stay until [`Self::revalidate_sender`].
    pub fn set_account(&mut self, sender: &Address, account: &Account) {
        self.change_queue(sender, |queue| queue.set_account(account.clone()));
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
        self.set_account(sender, account);
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

    /// Drops a transaction that broke a rule in a template, and again when it was judged by itself.
    pub fn drop_bad(&mut self, txid: &Txid) -> Option<PendingChange> {
        let fate = Fate::Dropped {
            reason: "it broke a rule when a block was built from it",
        };
        self.remove_as(txid, fate)
    }
}
