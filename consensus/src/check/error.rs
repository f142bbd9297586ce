//! What checking finds, one variant a rule: invalid for ever, or not yet
//! (protocol §11).

use thiserror::Error;

use crate::address::Address;
use crate::amount::Amount;
use crate::hash::{BlockHash, Hash256};
use crate::target::{CompactTarget, CompactTargetError, Target};

/// A header breaks a rule for ever (protocol §11: invalid).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// §4: the fixed version bits.
    #[error("version {found:#010x}: its fixed bits must read 0x20000000")]
    BadVersion {
        /// The version found.
        found: u32,
    },
    /// §7: the compact form.
    #[error(transparent)]
    BadBits(#[from] CompactTargetError),
    /// §7: the limit.
    #[error("target {found} is easier than the network's limit {limit}")]
    TargetAboveLimit {
        /// The target found.
        found: Target,
        /// The limit.
        limit: Target,
    },
    /// §1: the proof of work.
    #[error("block hash {hash} exceeds the target {target}")]
    HighHash {
        /// The block's hash.
        hash: BlockHash,
        /// Its target.
        target: Target,
    },
    /// §7: not before the parent.
    #[error("time {found} is before the parent's, {parent}")]
    TimeBeforeParent {
        /// The block's time, Unix seconds.
        found: u32,
        /// The parent's.
        parent: u32,
    },
    /// §7: the difficulty rule.
    #[error("bits {found}, expected {expected}")]
    WrongBits {
        /// The compact target found.
        found: CompactTarget,
        /// What the rule demands.
        expected: CompactTarget,
    },
}

/// A block can't be judged now, but perhaps later (protocol §11: not yet):
/// never cached as invalid, never punished.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotYet {
    /// §7: ahead of the clock.
    #[error("time {found} is more than {max_future_secs} s ahead of the clock, {now}")]
    TimeTooFarAhead {
        /// The block's time, Unix seconds.
        found: u32,
        /// The clock, Unix seconds.
        now: u64,
        /// How far ahead is allowed.
        max_future_secs: u32,
    },
    /// The parent is not known.
    #[error("parent {parent} is not known")]
    MissingParent {
        /// The parent's hash.
        parent: BlockHash,
    },
}

/// A transaction breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// §3: 1 to 255 outputs.
    #[error("it has no outputs: at least one payment is needed")]
    NoOutputs,
    /// §3: each amount at least 1.
    #[error("output {index} pays nothing: at least 1 grain is needed")]
    ZeroOutput {
        /// Which output, from 0.
        index: usize,
    },
    /// §3: amounts + fee ≤ MAX_MONEY.
    #[error("its amounts and fee exceed all the money there can be")]
    TotalOutOfRange,
    /// §3: the key goes with sequence 0.
    #[error("sequence is 0, so the public key must be sent along")]
    KeyMissing,
    /// §3: and with no other.
    #[error("sequence is {sequence}, so the public key is on record and must be left out")]
    KeySuperfluous {
        /// The sequence.
        sequence: u64,
    },
    /// §3: sender = address(key).
    #[error("the public key belongs to another address than the sender's")]
    KeyNotSenders {
        /// The sender.
        sender: Address,
        /// The key's address.
        key_address: Address,
    },
    /// §3: sequence equals the account's.
    #[error("sequence is {found}, the account's is {expected}")]
    WrongSequence {
        /// The transaction's.
        found: u64,
        /// The account's.
        expected: u64,
    },
    /// §3: balance ≥ amounts + fee.
    #[error("it spends {needed} PIT with its fee, the account has {balance} PIT")]
    InsufficientBalance {
        /// Amounts and fee.
        needed: Amount,
        /// The account's balance.
        balance: Amount,
    },
    /// §3: the signature.
    #[error(
        "the signature does not verify: wrong key, altered content, or signed for another chain"
    )]
    BadSignature,
}

/// A block breaks a rule for ever (protocol §11: invalid).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BlockError {
    /// Its header does.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// §4: merkle_root = sha256d(commitment).
    #[error("the header commits to {expected}, the commitment given hashes to {found}")]
    CommitmentMismatch {
        /// Hash of the commitment that came with it.
        found: Hash256,
        /// The header's.
        expected: Hash256,
    },
    /// §4: the transactions root.
    #[error("the commitment names transactions root {expected}, those given have {found}")]
    TransactionsRootMismatch {
        /// Root of the transactions that came with it.
        found: Hash256,
        /// The commitment's.
        expected: Hash256,
    },
    /// §4: the size.
    #[error("it takes {found} bytes, at most {max} allowed")]
    TooLarge {
        /// Its encoded size, bytes.
        found: usize,
        /// The limit, bytes.
        max: u32,
    },
    /// A transaction breaks a rule.
    #[error("transaction {index}: {error}")]
    Transaction {
        /// Its place in the block, from 0.
        index: usize,
        /// The rule.
        error: TransactionError,
    },
    /// §4: the state root.
    #[error("the commitment names state root {found}, the state has {expected}")]
    StateRootMismatch {
        /// The commitment's.
        found: Hash256,
        /// That of the state after the parent.
        expected: Hash256,
    },
    /// §1: no balance exceeds MAX_MONEY.
    #[error("a balance would exceed all the money there can be")]
    BalanceOutOfRange {
        /// Whose.
        address: Address,
    },
}

impl BlockError {
    /// Whether the header itself is thereby proven bad. A body that does not
    /// match its header says nothing about the header (protocol §4).
    #[must_use]
    pub fn condemns_header(&self) -> bool {
        !matches!(
            self,
            Self::CommitmentMismatch { .. } | Self::TransactionsRootMismatch { .. }
        )
    }
}
