//! The errors of checking and connecting, one variant for each rule. [`NotYet`] may
//! pass later; the others are invalid for ever (protocol §11).

use thiserror::Error;

use crate::address::Address;
use crate::amount::Amount;
use crate::hash::{BlockHash, Hash256};
use crate::target::{CompactTarget, CompactTargetError, Target};

/// A header breaks a rule for ever (protocol §11: invalid).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// §4: the version's fixed bits must read 0x20000000.
    #[error("version {found:#010x}: its fixed bits must read 0x20000000")]
    BadVersion { found: u32 },
    /// §7: `bits` must be canonical.
    #[error(transparent)]
    BadBits(#[from] CompactTargetError),
    /// §7: the target must not exceed the limit.
    #[error("target {found} is easier than the network's limit {limit}")]
    TargetAboveLimit { found: Target, limit: Target },
    /// §7: the block hash must not exceed the target.
    #[error("block hash {hash} exceeds the target {target}")]
    HighHash { hash: BlockHash, target: Target },
    /// §7: a block's time is not before its parent's.
    #[error("time {found} is before the parent's, {parent}")]
    TimeBeforeParent {
        /// The block's time, Unix seconds.
        found: u32,
        parent: u32,
    },
    /// §7: `bits` must equal the expected value.
    #[error("bits {found}, expected {expected}")]
    WrongBits {
        /// The compact target found.
        found: CompactTarget,
        /// The compact target that the rule demands.
        expected: CompactTarget,
    },
}

/// A block can't be checked now, but perhaps later (protocol §11: not yet). Nodes
/// never remember it as invalid and never penalise a peer for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotYet {
    /// §7: the block's time is ahead of the clock.
    #[error("time {found} is more than {max_future_secs} s ahead of the clock, {now}")]
    TimeTooFarAhead {
        /// The block's time, Unix seconds.
        found: u32,
        /// The clock, Unix seconds.
        now: u64,
        /// How far ahead of the clock a time may be, seconds.
        max_future_secs: u32,
    },
    /// §11: the parent is not known.
    #[error("parent {parent} is not known")]
    MissingParent { parent: BlockHash },
}

/// A transaction breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// §3: a transaction has 1 to 255 outputs.
    #[error("it has no outputs: at least one payment is needed")]
    NoOutputs,
    /// §3: each output pays at least 1 grain.
    #[error("output {index} pays nothing: at least 1 grain is needed")]
    ZeroOutput {
        /// The output's position, from 0.
        index: usize,
    },
    /// §3: amounts + fee ≤ `MAX_MONEY`.
    #[error("its amounts and fee exceed all the money there can be")]
    TotalOutOfRange,
    /// §3: a transaction with sequence 0 carries the key.
    #[error("sequence is 0, so the public key must be sent along")]
    KeyMissing,
    /// §3: a transaction with any other sequence leaves the key out.
    #[error("sequence is {sequence}, so the public key is on record and must be left out")]
    KeySuperfluous { sequence: u64 },
    /// §3: the key's address is the sender.
    #[error("the public key belongs to another address than the sender's")]
    KeyNotSenders {
        sender: Address,
        key_address: Address,
    },
    /// §3: the sequence is the account's.
    #[error("sequence is {found}, the account's is {expected}")]
    WrongSequence { found: u64, expected: u64 },
    /// §3: the balance covers amounts + fee.
    #[error("it spends {needed} PIT with its fee, the account has {balance} PIT")]
    InsufficientBalance {
        /// Amounts and fee.
        needed: Amount,
        balance: Amount,
    },
    /// §3: an output to an unused account carries at least `min_opening_amount`.
    #[error(
        "output {index} would open an account with {found} PIT: a new account starts with at least {min} PIT"
    )]
    OpeningTooSmall {
        /// The output's position, from 0.
        index: usize,
        found: Amount,
        /// The least amount that opens an account.
        min: Amount,
    },
    /// §3: the signature verifies under the key given or on record.
    #[error(
        "the signature does not verify: wrong key, altered content, or signed for another chain"
    )]
    BadSignature,
}

/// A block breaks a rule for ever (protocol §11: invalid).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BlockError {
    /// The block's header breaks a rule.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// §4: the header's `merkle_root` equals `sha256d(commitment)`.
    #[error("the header commits to {expected}, the commitment given hashes to {found}")]
    CommitmentMismatch {
        /// Hash of the commitment that came with the header.
        found: Hash256,
        expected: Hash256,
    },
    /// §4: the commitment's `transactions_root` is that of the transactions.
    #[error("the commitment names transactions root {expected}, those given have {found}")]
    TransactionsRootMismatch {
        /// Root of the transactions that came with the commitment.
        found: Hash256,
        expected: Hash256,
    },
    /// §4: the encoded block has at most `max_block_bytes`.
    #[error("it takes {found} bytes, at most {max} allowed")]
    TooLarge {
        /// The encoded size, bytes.
        found: usize,
        /// The limit, bytes.
        max: u32,
    },
    /// §4: the transactions change at most `max_account_changes` accounts.
    #[error("its transactions change {found} accounts, at most {max} allowed")]
    TooManyAccountChanges {
        /// One for each sender and one for each output.
        found: usize,
        max: u32,
    },
    /// A transaction breaks a rule.
    #[error("transaction {index}: {error}")]
    Transaction {
        /// The transaction's position in the block, from 0.
        index: usize,
        error: TransactionError,
    },
    /// §4: the commitment's `state_root` is that of the state before the block.
    #[error("the commitment names state root {found}, the state has {expected}")]
    StateRootMismatch {
        found: Hash256,
        /// Root of the state after the parent.
        expected: Hash256,
    },
    /// §5: no output raises a balance above MAX_MONEY.
    #[error("a payment would raise a balance above all the money there can be")]
    BalanceOutOfRange { address: Address },
}

impl BlockError {
    /// Whether the error proves that the header commits to an invalid block. A body
    /// that does not match its header says nothing about the header (protocol §4).
    #[must_use]
    pub fn condemns_header(&self) -> bool {
        !matches!(
            self,
            Self::CommitmentMismatch { .. } | Self::TransactionsRootMismatch { .. }
        )
    }
}
