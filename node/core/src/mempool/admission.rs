//! Which transactions get into the mempool: the consensus rules decide, then policy. Start reading
//! at [`Mempool::judge`]. The signature comes last, since it costs most: the caller checks it between
//! [`Mempool::judge`] and [`Mempool::accept`], without a lock on the mempool.

use std::sync::Arc;

use pithead_consensus::check::{CheckedTransaction, TransactionError};
use pithead_consensus::{Account, Amount, PublicKey, Txid};
use thiserror::Error;

use super::queue::Queue;
use super::room::Room;
use super::{
    Fate, Mempool, Pending, PendingChange, SENDER_TRANSACTIONS_MAX, SEQUENCE_GAP_MAX,
    VerifiedTransaction, weight_of,
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
        /// Sum that the sender's other pending transactions spend.
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
        /// The lowest fee that would do now.
        required: Amount,
    },
    /// The transaction would replace a pending one, but its fee is too low for that.
    #[error(
        "another transaction with sequence {sequence} is pending; to replace it, pay at least {required} PIT"
    )]
    ReplacementFeeTooLow {
        sequence: u64,
        found: Amount,
        /// The lowest fee that would do now.
        required: Amount,
    },
    /// The sender has as many pending transactions as are allowed.
    #[error("the sender has {SENDER_TRANSACTIONS_MAX} pending transactions; wait for a block")]
    TooManyPending,
    /// The mempool is full of transactions that pay more.
    #[error("the mempool is full: pay at least {required} grains a byte, or try again later")]
    Full {
        /// The lowest fee rate that would do now, grains a byte.
        required: u64,
    },
    /// The mempool is full, and this transaction displaces nothing, whatever its fee.
    #[error("the mempool is full, and a higher fee makes no room: {0}")]
    FullAtAnyFee(Obstacle),
}

/// Why no fee makes room for a transaction in a full mempool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Obstacle {
    /// An earlier transaction of the sender is missing, so that this one can't be mined now.
    #[error("send the transaction with sequence {sequence} first")]
    MissingSequence {
        /// The first sequence that is missing.
        sequence: u64,
    },
    /// An earlier pending transaction of the sender pays too little, so that this one would be
    /// mined too late.
    #[error(
        "replace the transaction with sequence {sequence} first by one that pays {required} grains a byte"
    )]
    CheapPredecessor {
        /// The sequence of the earlier transaction.
        sequence: u64,
        /// The fee rate that it would need, grains a byte.
        required: u64,
    },
    /// The sender's own transactions fill the mempool.
    #[error("the sender's own transactions fill it")]
    OwnTransactions,
}

/// A transaction that asks to be admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingTransaction {
    pub transaction: VerifiedTransaction,
    /// When the transaction came, Unix seconds.
    pub received: u64,
    /// When it expires, milliseconds of [`Waited`](super::Waited).
    pub expires_ms: u64,
}

/// What the mempool says of a transaction before its signature is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is admitted if its signature is good.
    Admissible,
    /// A transaction with this txid is in the mempool already. The one that came was not looked
    /// at: it may have another signature, or a forged one.
    Duplicate,
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

/// Where a transaction belongs in its sender's queue.
pub(super) struct Place {
    /// The first sequence that is not pending, from the account's own upwards.
    pub(super) next_sequence: u64,
    /// The pending transaction with the same sequence.
    pub(super) replaced: Option<Arc<Pending>>,
}

impl Mempool {
    /// Judges a transaction by everything but its signature, which costs most: sequence, balance,
    /// fee and room. `account` is the sender's confirmed account; the mempool knows it already if
    /// the sender has pending transactions ([`Self::account_of`]).
    ///
    /// # Errors
    /// [`RejectReason`], one variant a rule.
    pub fn judge(
        &self,
        checked: &CheckedTransaction,
        account: &Account,
    ) -> Result<Judgement, RejectReason> {
        if self.by_txid.contains_key(&checked.txid()) {
            return Ok(Judgement::Duplicate);
        }
        self.find_room(checked, account)?;
        Ok(Judgement::Admissible)
    }

    /// Admits a transaction whose signature was verified, after [`Self::judge`].
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn accept(&mut self, incoming: IncomingTransaction, account: &Account) -> Admission {
        let checked = incoming.transaction.checked();
        let txid = checked.txid();
        if self.by_txid.contains_key(&txid) {
            return Ok((Admitted::Duplicate, Vec::new()));
        }
        let (place, room) = self.find_room(checked, account)?;
        let mut changes = Vec::new();
        for victim in &room.victims {
            let fate = Fate::Dropped {
                reason: "evicted: the mempool is full and others pay more",
            };
            changes.extend(self.remove_as(victim, fate));
        }
        let replaced = place.replaced.map(|old| old.txid());
        if let Some(old) = &replaced {
            changes.extend(self.remove_as(old, Fate::Replaced { by: txid }));
        }
        let pending = Arc::new(Pending {
            transaction: incoming.transaction,
            received: incoming.received,
            expires_ms: incoming.expires_ms,
        });
        self.insert(Arc::clone(&pending), account);
        changes.push(PendingChange::Added(pending));
        let admitted = replaced.map_or(Admitted::Accepted, |txid| Admitted::Replaced { txid });
        Ok((admitted, changes))
    }

    /// The key that a transaction of this sender is checked under, if it carries none itself.
    #[must_use]
    pub fn signing_key<'a>(
        &'a self,
        checked: &CheckedTransaction,
        account: &'a Account,
    ) -> Option<&'a PublicKey> {
        let pending = self.key_of(&checked.transaction().body.sender);
        account.key.as_ref().or(pending)
    }

    fn find_room(
        &self,
        checked: &CheckedTransaction,
        account: &Account,
    ) -> Result<(Place, Room), RejectReason> {
        let body = &checked.transaction().body;
        let account = self.account_of(&body.sender).unwrap_or(account);
        let place = self.place_of(checked, account)?;
        self.check_balance(checked, account)?;
        if checked.transaction().key.is_none() && self.signing_key(checked, account).is_none() {
            return Err(RejectReason::KeyUnknown {
                found: body.sequence,
            });
        }
        let room = self.room_for(checked, &place)?;
        self.check_fee(checked, &place, &room)?;
        Ok((place, room))
    }

    fn place_of(
        &self,
        checked: &CheckedTransaction,
        account: &Account,
    ) -> Result<Place, RejectReason> {
        let body = &checked.transaction().body;
        let (found, queue) = (body.sequence, self.by_sender.get(&body.sender));
        let expected = self.next_sequence(&body.sender, account.sequence);
        if found < account.sequence {
            return Err(RejectReason::SequenceUsed { found, expected });
        }
        if found.saturating_sub(expected) > SEQUENCE_GAP_MAX {
            return Err(RejectReason::SequenceGap { found, expected });
        }
        let replaced = queue.and_then(|queue| queue.get(found)).cloned();
        if replaced.is_none() && queue.map_or(0, Queue::len) >= SENDER_TRANSACTIONS_MAX {
            return Err(RejectReason::TooManyPending);
        }
        Ok(Place {
            next_sequence: expected,
            replaced,
        })
    }

    /// The confirmed balance must cover the transaction and all other pending ones of the sender,
    /// whatever the order in which they came. Pending payments to the account do not count: they
    /// may never be mined.
    fn check_balance(
        &self,
        checked: &CheckedTransaction,
        account: &Account,
    ) -> Result<(), RejectReason> {
        let (body, total) = (&checked.transaction().body, checked.total());
        let queue = self.by_sender.get(&body.sender);
        let reserved = queue.map_or(Amount::ZERO, |queue| queue.reserved_beside(body.sequence));
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

    /// The fee must reach the minimum, what a replacement costs and what the room costs. A refusal
    /// names the highest of the three, so that this fee would be accepted now.
    fn check_fee(
        &self,
        checked: &CheckedTransaction,
        place: &Place,
        room: &Room,
    ) -> Result<(), RejectReason> {
        let weight_bytes = weight_of(checked);
        let weight = weight_bytes as u64;
        let body = &checked.transaction().body;
        let minimum = self.limits.min_fee_rate.saturating_mul(weight);
        let replacement = place
            .replaced
            .as_ref()
            .map_or(0, |old| self.replacement_fee(old, weight));
        let for_room = room.required.saturating_mul(weight);
        let (found, needed) = (body.fee, minimum.max(replacement).max(for_room));
        if found.grains() >= needed {
            return Ok(());
        }
        let required = Amount::from_grains(needed).unwrap_or(Amount::MAX_MONEY);
        Err(if found.grains() < minimum {
            RejectReason::FeeTooLow {
                found,
                weight: weight_bytes,
                required,
            }
        } else if found.grains() < replacement {
            RejectReason::ReplacementFeeTooLow {
                sequence: body.sequence,
                found,
                required,
            }
        } else {
            RejectReason::Full {
                required: needed.div_ceil(weight.max(1)),
            }
        })
    }

    /// The lowest fee with which a transaction of `weight` replaces `old`: a fee rate at least 10 %
    /// higher, and a fee that is higher by the minimum for its own weight. The latter pays for the
    /// relay of the new one, even where a small one replaces a large one.
    fn replacement_fee(&self, old: &Pending, weight: u64) -> u64 {
        let old_fee = old.body().fee.grains();
        // fee / weight >= 1.1 × old fee / old weight, in integers.
        let old_side = u128::from(old_fee) * u128::from(weight) * 11;
        let by_rate = old_side.div_ceil(old.weight().max(1) as u128 * 10);
        let increment = self.limits.min_fee_rate.saturating_mul(weight).max(1);
        u64::try_from(by_rate)
            .unwrap_or(u64::MAX)
            .max(old_fee.saturating_add(increment))
    }
}
