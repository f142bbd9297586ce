//! Rules that need little or no context: headers, and what stands in a block
//! by itself (protocol §3, §4, §7). [`crate::connect`] holds the rest.

use thiserror::Error;

use crate::address::Address;
use crate::block::{BASE_VERSION, Block, BlockHeader, VERSION_FIXED_MASK};
use crate::difficulty::{Ancestors, expected_bits};
use crate::genesis::ConsensusParams;
use crate::hash::{BlockHash, Hash256, Txid};
use crate::merkle;
use crate::target::{CompactTarget, CompactTargetError, Target, Work};
use crate::transaction::SignedTransaction;
use crate::{Amount, height::Height};

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

/// A block whose context-free rules hold, with the hashes computed on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedBlock {
    block: Block,
    hash: BlockHash,
    txids: Vec<Txid>,
    leaf_hashes: Vec<Hash256>,
    size: usize,
}

impl CheckedBlock {
    /// The block.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        self.hash
    }

    /// The txids in block order.
    #[must_use]
    pub fn txids(&self) -> &[Txid] {
        &self.txids
    }

    /// The leaves of the transactions root, in block order.
    #[must_use]
    pub fn leaf_hashes(&self) -> &[Hash256] {
        &self.leaf_hashes
    }

    /// Encoded size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }
}

/// Checks what a header shows by itself: version, compact target and proof of
/// work. Returns the block hash and the block's work.
///
/// # Errors
/// [`HeaderError`], one variant a rule.
pub fn check_proof_of_work(
    params: &ConsensusParams,
    header: &BlockHeader,
) -> Result<(BlockHash, Work), HeaderError> {
    // # Consensus: §4 "version & 0xe0001fff must be 0x20000000".
    if header.version & VERSION_FIXED_MASK != BASE_VERSION {
        return Err(HeaderError::BadVersion {
            found: header.version,
        });
    }
    // # Consensus: §7 "bits is canonical compact form … ≤ the limit".
    let target = header.bits.to_target()?;
    if target > params.pow_limit {
        return Err(HeaderError::TargetAboveLimit {
            found: target,
            limit: params.pow_limit,
        });
    }
    // # Consensus: §1 "compared with the target as a little-endian integer".
    let hash = header.hash();
    if !target.is_met_by(&hash) {
        return Err(HeaderError::HighHash { hash, target });
    }
    Ok((hash, target.work()))
}

/// Checks a header against its ancestors: time and expected target.
///
/// # Errors
/// [`HeaderError`], one variant a rule.
pub fn check_header_in_context(
    params: &ConsensusParams,
    header: &BlockHeader,
    ancestors: &Ancestors,
) -> Result<(), HeaderError> {
    // # Consensus: §7 "time ≥ parent.time".
    if header.time < ancestors.parent_time {
        return Err(HeaderError::TimeBeforeParent {
            found: header.time,
            parent: ancestors.parent_time,
        });
    }
    // # Consensus: §7 "bits … must equal the expected value".
    let expected = expected_bits(params, ancestors);
    if header.bits != expected {
        return Err(HeaderError::WrongBits {
            found: header.bits,
            expected,
        });
    }
    Ok(())
}

/// Checks a header's time against the clock, `now` in Unix seconds.
///
/// # Errors
/// [`NotYet::TimeTooFarAhead`]: the same header may pass later.
pub fn check_time_at(
    params: &ConsensusParams,
    header: &BlockHeader,
    now: u64,
) -> Result<(), NotYet> {
    // # Consensus: §7 "time ≤ now + max_future_secs … not yet, never invalid".
    if u64::from(header.time) > now.saturating_add(u64::from(params.max_future_secs)) {
        return Err(NotYet::TimeTooFarAhead {
            found: header.time,
            now,
            max_future_secs: params.max_future_secs,
        });
    }
    Ok(())
}

/// Checks all that a block shows by itself. The checks that tie the body to
/// the header come first, so that a mutated body can't condemn its header.
///
/// # Errors
/// [`BlockError`], one variant a rule.
pub fn check_block(params: &ConsensusParams, block: Block) -> Result<CheckedBlock, BlockError> {
    let (hash, _) = check_proof_of_work(params, &block.header)?;
    check_body(params, block, hash)
}

/// Checks a block except for its proof of work: for templates, which have none
/// yet.
///
/// # Errors
/// [`BlockError`], one variant a rule.
pub fn check_body(
    params: &ConsensusParams,
    block: Block,
    hash: BlockHash,
) -> Result<CheckedBlock, BlockError> {
    // # Consensus: §4 "merkle_root = sha256d(commitment)".
    let found = block.commitment.merkle_root();
    if found != block.header.merkle_root {
        return Err(BlockError::CommitmentMismatch {
            found,
            expected: block.header.merkle_root,
        });
    }
    // # Consensus: §4 "Merkle root over the encoded signed transactions".
    let leaf_hashes: Vec<Hash256> = block
        .transactions
        .iter()
        .map(SignedTransaction::leaf_hash)
        .collect();
    let found = merkle::root(&leaf_hashes);
    if found != block.commitment.transactions_root {
        return Err(BlockError::TransactionsRootMismatch {
            found,
            expected: block.commitment.transactions_root,
        });
    }
    // # Consensus: §4 "encoded size ≤ max_block_bytes".
    let size = block.size();
    if size > usize::try_from(params.max_block_bytes).unwrap_or(usize::MAX) {
        return Err(BlockError::TooLarge {
            found: size,
            max: params.max_block_bytes,
        });
    }
    for (index, transaction) in block.transactions.iter().enumerate() {
        check_transaction(transaction).map_err(|error| BlockError::Transaction { index, error })?;
    }
    let txids = block
        .transactions
        .iter()
        .map(|transaction| transaction.txid(&params.genesis_hash))
        .collect();
    Ok(CheckedBlock {
        block,
        hash,
        txids,
        leaf_hashes,
        size,
    })
}

/// Checks what a transaction shows by itself (protocol §3).
///
/// # Errors
/// [`TransactionError`], one variant a rule.
pub fn check_transaction(transaction: &SignedTransaction) -> Result<(), TransactionError> {
    let body = &transaction.body;
    // # Consensus: §3 "1 to 255 outputs, each amount ≥ 1". More than 255 do not decode.
    if body.outputs.is_empty() {
        return Err(TransactionError::NoOutputs);
    }
    if let Some(index) = body
        .outputs
        .iter()
        .position(|output| output.amount == Amount::ZERO)
    {
        return Err(TransactionError::ZeroOutput { index });
    }
    // # Consensus: §3 "amounts + fee ≤ MAX_MONEY".
    if body.total().is_none() {
        return Err(TransactionError::TotalOutOfRange);
    }
    // # Consensus: §3 "The key is present if and only if sequence == 0 …
    // sender = address(key) is checked at that point".
    match (&transaction.key, body.sequence) {
        (None, 0) => Err(TransactionError::KeyMissing),
        (Some(_), sequence @ 1..) => Err(TransactionError::KeySuperfluous { sequence }),
        (Some(key), 0) if Address::of_key(key) != body.sender => {
            Err(TransactionError::KeyNotSenders {
                sender: body.sender,
                key_address: Address::of_key(key),
            })
        }
        _ => Ok(()),
    }
}

/// Whether a block of this height is a checkpoint (protocol §9).
#[must_use]
pub fn is_checkpoint(params: &ConsensusParams, height: Height) -> bool {
    height
        .0
        .checked_rem(u64::from(params.checkpoint_interval))
        .is_some_and(|rest| rest == 0)
}
