//! Which transactions get into the mempool: the consensus rules decide, then policy. Start reading
//! at [`Mempool::accept`].

use std::sync::Arc;

use pithead_consensus::check::{CheckedTransaction, TransactionError};
use pithead_consensus::connect::check_signature;
use pithead_consensus::{Account, Amount, ConsensusParams, SignedTransaction, Txid};
use thiserror::Error;

use super::{
    Fate, FeeRate, Mempool, Pending, PendingChange, SENDER_TRANSACTIONS_MAX, SEQUENCE_GAP_MAX,
    weight_of,
};

/// Why a transaction is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RejectReason {
    /// The transaction breaks a consensus rule.
    #[error(transparent)]
    Rule(#[from] TransactionError),
    /// The account's transaction with this sequence is mined.
    #[error(
        "sequence {found} was used already: the account's next is {expected}; build the transaction again"
    )]
    SequenceUsed {
        /// The sequence of the transaction.
        found: u64,
        /// The next sequence due.
        expected: u64,
    },
    /// The sequence is too far above the next one due.
    #[error(
        "sequence {found} is too far ahead: the next due is {expected}, at most {SEQUENCE_GAP_MAX} may be skipped"
    )]
    SequenceGap {
        /// The sequence of the transaction.
        found: u64,
        /// The next sequence due.
        expected: u64,
    },
    /// The sender's first transaction, which brings the key, is neither mined nor pending.
    #[error("sequence {found} can't be checked before the account's first transaction, sequence 0")]
    KeyUnknown { found: u64 },
    /// The balance does not cover the transaction on top of the sender's pending ones.
    #[error(
        "it spends {needed} PIT with its fee; of {balance} PIT, {reserved} PIT are pending already"
    )]
    InsufficientBalance {
        /// Sum of the amounts and the fee.
        needed: Amount,
        /// The confirmed balance.
        balance: Amount,
        /// Sum that the sender's pending transactions with lower sequences spend.
        reserved: Amount,
    },
    /// The fee is below the minimum.
    #[error(
        "a fee of {found} PIT is too low for a weight of {weight} bytes: at least {required} PIT"
    )]
    FeeTooLow {
        found: Amount,
        /// Weight, bytes.
        weight: usize,
        /// The lowest fee that would do.
        required: Amount,
    },
    /// The transaction would replace a pending one, but its fee is too low for that.
    #[error(
        "another transaction with sequence {sequence} is pending; to replace it, pay at least {required} PIT"
    )]
    ReplacementFeeTooLow {
        sequence: u64,
        found: Amount,
        /// The lowest fee that would do: 10 % more for each byte.
        required: Amount,
    },
    /// The sender has as many pending transactions as are allowed.
    #[error("the sender has {SENDER_TRANSACTIONS_MAX} pending transactions; wait for a block")]
    TooManyPending,
    /// The mempool is full of transactions that pay more, or that this one must not displace.
    #[error("the mempool is full: pay more than {required} grains a byte, or try again later")]
    Full {
        /// The fee rate that must be exceeded, grains a byte.
        required: u64,
    },
}

/// A transaction that asks to be admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingTransaction {
    pub checked: CheckedTransaction,
    /// Whether this process has verified the signature of these very bytes before. The mempool
    /// verifies it otherwise.
    pub is_verified: bool,
    /// When the transaction came, Unix seconds.
    pub received: u64,
}

/// The effect of admitting a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// The transaction is in the mempool.
    Accepted,
    /// The transaction is in the mempool, and the one with the same sender and sequence is out.
    Replaced {
        /// The txid of the transaction that is out.
        txid: Txid,
    },
    /// A transaction with this txid is in the mempool already. The one that came was not looked
    /// at: it may have another signature, or a forged one.
    Duplicate,
}

/// How the mempool answers to a transaction, and how it changed.
pub type Admission = Result<(Admitted, Vec<PendingChange>), RejectReason>;

impl Mempool {
    /// Admits a transaction whose sender has the confirmed account `account`.
    ///
    /// # Errors
    /// [`RejectReason`], one variant a rule.
    pub fn accept(
        &mut self,
        params: &ConsensusParams,
        incoming: IncomingTransaction,
        account: &Account,
    ) -> Admission {
        let checked = &incoming.checked;
        let (transaction, txid) = (checked.transaction(), checked.txid());
        if self.by_txid.contains_key(&txid) {
            return Ok((Admitted::Duplicate, Vec::new()));
        }
        self.check_fee(checked)?;
        let next = self.next_sequence(&transaction.body.sender, account.sequence);
        check_sequence(transaction, account.sequence, next)?;
        let replaced = self.check_replacement(checked)?;
        self.check_balance(checked, account)?;
        if !incoming.is_verified {
            self.check_key_and_signature(params, transaction, account)?;
        }
        let pending = Arc::new(Pending {
            received: incoming.received,
            checked: incoming.checked,
        });
        let mut changes = Vec::new();
        let freed = replaced.map_or(0, |txid| {
            self.by_txid.get(&txid).map_or(0, |old| old.size())
        });
        let ready = pending.body().sequence <= next;
        self.make_room(&pending, ready, freed, &mut changes)?;
        if let Some(old) = replaced {
            changes.extend(self.remove_as(&old, Fate::Replaced { by: txid }));
        }
        self.insert(Arc::clone(&pending));
        changes.push(PendingChange::Added(pending));
        let admitted = replaced.map_or(Admitted::Accepted, |txid| Admitted::Replaced { txid });
        Ok((admitted, changes))
    }

    fn check_fee(&self, checked: &CheckedTransaction) -> Result<(), RejectReason> {
        let weight = weight_of(checked);
        let least = self.limits.min_fee_rate.saturating_mul(weight as u64);
        let found = checked.transaction().body.fee;
        if found.grains() < least {
            return Err(RejectReason::FeeTooLow {
                found,
                weight,
                required: Amount::from_grains(least).unwrap_or(Amount::MAX_MONEY),
            });
        }
        Ok(())
    }

    /// The txid of the pending transaction that this one replaces, if there is one and the fee rate
    /// is 10 % higher.
    fn check_replacement(
        &self,
        checked: &CheckedTransaction,
    ) -> Result<Option<Txid>, RejectReason> {
        let (body, weight) = (&checked.transaction().body, weight_of(checked));
        let queue = self.by_sender.get(&body.sender);
        let Some(old) = queue
            .and_then(|queue| queue.get(&body.sequence))
            .and_then(|txid| self.by_txid.get(txid))
        else {
            return if queue.map_or(0, |queue| queue.len()) >= SENDER_TRANSACTIONS_MAX {
                Err(RejectReason::TooManyPending)
            } else {
                Ok(None)
            };
        };
        // fee / weight >= 1.1 × old fee / old weight, in integers.
        let old_weight = weight_of(old.checked()) as u128;
        let new_side = u128::from(body.fee.grains()) * old_weight * 10;
        let old_side = u128::from(old.body().fee.grains()) * weight as u128 * 11;
        if new_side < old_side || body.fee.grains() == 0 {
            let divisor = old_weight * 10;
            let required = u64::try_from(old_side.div_ceil(divisor)).unwrap_or(u64::MAX);
            return Err(RejectReason::ReplacementFeeTooLow {
                sequence: body.sequence,
                found: body.fee,
                required: Amount::from_grains(required.max(1)).unwrap_or(Amount::MAX_MONEY),
            });
        }
        Ok(Some(old.txid()))
    }

    /// The confirmed balance must cover the transaction and the sender's pending ones with lower
    /// sequences. Pending payments to the account do not count: they may never be mined.
    fn check_balance(
        &self,
        checked: &CheckedTransaction,
        account: &Account,
    ) -> Result<(), RejectReason> {
        let (body, total) = (&checked.transaction().body, checked.total());
        let earlier = self
            .of_sender(&body.sender)
            .filter(|pending| pending.body().sequence < body.sequence)
            .map(|pending| pending.total());
        let reserved = Amount::sum(earlier).unwrap_or(Amount::MAX_MONEY);
        let covered = account
            .balance
            .checked_sub(reserved)
            .and_then(|left| left.checked_sub(total));
        match covered {
            Some(_) => Ok(()),
            None if reserved == Amount::ZERO => Err(TransactionError::InsufficientBalance {
                needed: total,
                balance: account.balance,
            }
            .into()),
            None => Err(RejectReason::InsufficientBalance {
                needed: total,
                balance: account.balance,
                reserved,
            }),
        }
    }

    fn check_key_and_signature(
        &self,
        params: &ConsensusParams,
        transaction: &SignedTransaction,
        account: &Account,
    ) -> Result<(), RejectReason> {
        let sender = &transaction.body.sender;
        // The account's first transaction, which brings the key, may be pending itself.
        let first = self.of_sender(sender).next();
        let pending_key = first.and_then(|pending| pending.transaction().key.clone());
        let key = account.key.clone().or(pending_key);
        if transaction.key.is_none() && key.is_none() {
            return Err(RejectReason::KeyUnknown {
                found: transaction.body.sequence,
            });
        }
        check_signature(params, transaction, key.as_ref())?;
        Ok(())
    }

    /// The fee rate that a new transaction must reach to be admitted now, grains a byte.
    #[must_use]
    pub fn entry_rate(&self) -> u64 {
        if self.bytes < self.limits.bytes_max {
            return self.limits.min_fee_rate;
        }
        let worst = self.by_rate.first().map_or(FeeRate(0), |(rate, _)| *rate);
        worst
            .grains_per_byte()
            .saturating_add(1)
            .max(self.limits.min_fee_rate)
    }
}

fn check_sequence(
    transaction: &SignedTransaction,
    account_sequence: u64,
    next: u64,
) -> Result<(), RejectReason> {
    let found = transaction.body.sequence;
    if found < account_sequence {
        return Err(RejectReason::SequenceUsed {
            found,
            expected: next,
        });
    }
    if found.saturating_sub(next) > SEQUENCE_GAP_MAX {
        return Err(RejectReason::SequenceGap {
            found,
            expected: next,
        });
    }
    Ok(())
}
