//! The way of a transaction into the mempool and its log, and back from the log after a restart.
//! Start reading at [`Node::handle_transaction`].

use pithead_consensus::check::CheckedTransaction;
use pithead_consensus::{Account, Decode as _, SignedTransaction, Txid};

use super::{Effect, Node, Now, RejectedTransaction, Sink, TransactionVerdict, report};
use crate::credits::check_openings;
use crate::mempool::{
    Admission, Admitted, IncomingTransaction, Judgement, Pending, PendingChange,
    VerifiedTransaction,
};
use crate::store::schema;
use crate::store::{PendingRecord, StoreError};

/// The pending log is rewritten once it holds this many records more than there are pending
/// transactions.
const PENDING_LOG_SLACK: usize = 10_000;

impl Node {
    /// Takes a transaction that came through the API: this node's own, which it announces.
    pub(super) fn submit_transaction(
        &mut self,
        transaction: SignedTransaction,
        time: Now,
        out: &mut Sink<'_>,
    ) -> Result<TransactionVerdict, RejectedTransaction> {
        let sender = transaction.body.sender;
        match self.handle_transaction(transaction, time.unix_secs, out) {
            Ok((verdict, txid)) => {
                self.announce_local(txid, &sender, time, out);
                Ok(verdict)
            }
            Err(rejected) => {
                // The transaction may be in the mempool and not in the log: no answer would hold
                // after a restart.
                if let RejectedTransaction::Internal(error) = &rejected {
                    out(Effect::Fatal(error.to_string()));
                }
                Err(rejected)
            }
        }
    }

    /// Judges a transaction and puts it into the mempool and its log. Returns its txid as well.
    pub(super) fn handle_transaction(
        &mut self,
        transaction: SignedTransaction,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<(TransactionVerdict, Txid), RejectedTransaction> {
        let checked = CheckedTransaction::new(self.chain.params(), transaction);
        let txid = match &checked {
            Ok(checked) => checked.txid(),
            Err(failed) => failed.txid,
        };
        // A copy of a known transaction is a duplicate even if it breaks a rule: its txid covers
        // neither key nor signature, so that anyone can make one.
        if self
            .is_known(&txid)
            .map_err(RejectedTransaction::Internal)?
        {
            #[cfg(feature = "fault-injection")]
            if let Ok(copy) = &checked {
                crate::fault_injection::note_copy(copy.leaf_hash());
            }
            return Ok((TransactionVerdict::Duplicate, txid));
        }
        let checked = checked.map_err(|failed| RejectedTransaction::Rule(failed.error.into()))?;
        let (admitted, changes) = self
            .admit(checked, now, 0)
            .map_err(RejectedTransaction::Internal)?
            .map_err(RejectedTransaction::Rule)?;
        let verdict = match admitted {
            Admitted::Duplicate => return Ok((TransactionVerdict::Duplicate, txid)),
            Admitted::Accepted => TransactionVerdict::Accepted,
            Admitted::Replaced { txid } => TransactionVerdict::Replaced { txid },
        };
        self.log_added(&changes)
            .map_err(RejectedTransaction::Internal)?;
        self.mempool_changed = true;
        report(changes, out);
        Ok((verdict, txid))
    }

    /// Whether a transaction with this txid is on the best chain or in the mempool.
    fn is_known(&self, txid: &Txid) -> Result<bool, StoreError> {
        let snapshot = self.chain.store().snapshot()?;
        let is_mined = schema::place(snapshot.as_ref(), txid)?.is_some();
        Ok(is_mined || self.read_mempool().get(txid).is_some())
    }

    /// Admits a transaction to the mempool. The outer error is storage's, the inner one a verdict.
    /// `received` is Unix seconds, `age_secs` how long the transaction has waited before.
    pub(super) fn admit(
        &mut self,
        checked: CheckedTransaction,
        received: u64,
        age_secs: u64,
    ) -> Result<Admission, StoreError> {
        let sender = &checked.transaction().body.sender;
        // The mempool's own copy follows every change of the chain, and costs no read.
        let known = self.read_mempool().account_of(sender).cloned();
        let snapshot = self.chain.store().snapshot()?;
        if let Err(error) = check_openings(snapshot.as_ref(), self.chain.params(), &checked)? {
            return Ok(Err(error.into()));
        }
        let account = match known {
            Some(account) => account,
            None => schema::account(snapshot.as_ref(), sender)?,
        };
        Ok(self.admit_from(&account, checked, received, age_secs))
    }

    /// The same for a sender with this confirmed account.
    pub(super) fn admit_from(
        &mut self,
        account: &Account,
        checked: CheckedTransaction,
        received: u64,
        age_secs: u64,
    ) -> Admission {
        let (judgement, key) = {
            let mempool = self.read_mempool();
            let key = mempool.signing_key(&checked, account).cloned();
            (mempool.judge(&checked, account), key)
        };
        if judgement? == Judgement::Duplicate {
            return Ok((Admitted::Duplicate, Vec::new()));
        }
        // No lock is held here. Nothing else writes the mempool, so that the judgement holds.
        let transaction = VerifiedTransaction::check(self.chain.params(), checked, key.as_ref())?;
        let mut mempool = self.write_mempool();
        let left_secs = mempool.limits().expiry_secs.saturating_sub(age_secs);
        let left_ms = left_secs.saturating_mul(1_000);
        let incoming = IncomingTransaction {
            transaction,
            received,
            expires_ms: self.waited.ms().saturating_add(left_ms),
        };
        mempool.accept(incoming, account)
    }

    /// Reads the pending log back at the start; `now` is Unix seconds. Transactions that no longer
    /// hold are left out.
    pub(super) fn reload_pending(&mut self, now: u64) -> Result<(), StoreError> {
        let mut pending: Vec<(u64, SignedTransaction)> = self
            .chain
            .store()
            .pending()?
            .into_iter()
            .filter_map(|record| {
                let transaction = SignedTransaction::decode(&record.raw).ok()?;
                Some((record.received, transaction))
            })
            .collect();
        // By sequence, because a transaction needs what the earlier ones of its sender bring, and
        // those may be younger: a reorganisation takes old ones back. The order is stable, so that
        // a replacement still follows the transaction that it replaced.
        pending.sort_by_key(|(_, transaction)| transaction.body.sequence);
        for (received, transaction) in pending {
            if let Ok(checked) = CheckedTransaction::new(self.chain.params(), transaction) {
                let received = received.min(now);
                self.reload(checked, received, now.saturating_sub(received))?;
            }
        }
        self.rewrite_pending_log()
    }

    /// Takes a transaction of the log back, unless it expired while the node was away.
    fn reload(
        &mut self,
        checked: CheckedTransaction,
        received: u64,
        age_secs: u64,
    ) -> Result<(), StoreError> {
        let expiry_secs = self.read_mempool().limits().expiry_secs;
        if age_secs > expiry_secs {
            let waited_ms = self.waited.ms();
            self.write_mempool().note_expired(checked.txid(), waited_ms);
            return Ok(());
        }
        let _ = self.admit(checked, received, age_secs)?;
        Ok(())
    }

    /// Appends the transactions that entered the mempool to the pending log.
    pub(super) fn log_added(&mut self, changes: &[PendingChange]) -> Result<(), StoreError> {
        for change in changes {
            if let PendingChange::Added(pending) = change {
                self.chain.store().append_pending(&record_of(pending))?;
                self.pending_log_records += 1;
            }
        }
        Ok(())
    }

    /// Rewrites the pending log if most of its records are of transactions that have left.
    pub(super) fn shorten_pending_log(&mut self) -> Result<(), StoreError> {
        let live = self.read_mempool().len();
        if self.pending_log_records > live + PENDING_LOG_SLACK {
            self.rewrite_pending_log()?;
        }
        Ok(())
    }

    fn rewrite_pending_log(&mut self) -> Result<(), StoreError> {
        let records: Vec<PendingRecord> = self
            .read_mempool()
            .in_order_of_arrival()
            .iter()
            .map(|pending| record_of(pending))
            .collect();
        self.pending_log_records = records.len();
        self.chain.store().rewrite_pending(&records)
    }
}

fn record_of(pending: &Pending) -> PendingRecord {
    PendingRecord {
        received: pending.received,
        raw: pending.checked().encoded().to_vec(),
    }
}
