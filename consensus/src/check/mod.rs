//! The rules for headers, and those that a block or a transaction must keep by itself
//! (protocol §3, §4, §7). They need no accounts; [`crate::connect`] has the rules that
//! do. Start with [`check_block`].

mod error;

use crate::address::Address;
use crate::amount::Amount;
use crate::block::{BASE_VERSION, Block, BlockHeader, VERSION_FIXED_MASK};
use crate::difficulty::{Ancestors, expected_bits};
use crate::genesis::ConsensusParams;
use crate::hash::{BlockHash, Hash256, Txid};
use crate::merkle;
use crate::target::Work;
use crate::transaction::SignedTransaction;

pub use error::{BlockError, HeaderError, NotYet, TransactionError};

/// A block that keeps every rule which needs no context. It holds the hashes that
/// were computed on the way.
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

    /// The block's hash.
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

/// Checks a header by itself: version, compact target and proof of work. Returns the
/// block hash and the block's work.
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
    // # Consensus: §7 "bits is canonical, and its target does not exceed the limit".
    let target = header.bits.to_target()?;
    if target > params.pow_limit {
        return Err(HeaderError::TargetAboveLimit {
            found: target,
            limit: params.pow_limit,
        });
    }
    // # Consensus: §7 "The block hash does not exceed the target".
    let hash = header.hash();
    if !target.is_met_by(&hash) {
        return Err(HeaderError::HighHash { hash, target });
    }
    Ok((hash, target.work()))
}

/// Checks a header's time and target against its ancestors.
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
    // # Consensus: §7 "bits must equal the expected value".
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
    // # Consensus: §7 "time ≤ now + max_future_secs".
    if u64::from(header.time) > now.saturating_add(u64::from(params.max_future_secs)) {
        return Err(NotYet::TimeTooFarAhead {
            found: header.time,
            now,
            max_future_secs: params.max_future_secs,
        });
    }
    Ok(())
}

/// Returns what the caller found out about a header's parent.
///
/// # Errors
/// [`NotYet::MissingParent`] if the caller does not know the parent: the header can be
/// checked once the parent is there.
pub fn known_parent<T>(header: &BlockHeader, parent: Option<T>) -> Result<T, NotYet> {
    // # Consensus: §11 "the parent is missing".
    parent.ok_or(NotYet::MissingParent {
        parent: header.prev,
    })
}

/// Checks a block by itself. The checks that tie the body to the header come first:
/// an altered body must not prove the header invalid.
///
/// # Errors
/// [`BlockError`], one variant a rule.
pub fn check_block(params: &ConsensusParams, block: Block) -> Result<CheckedBlock, BlockError> {
    let (hash, _) = check_proof_of_work(params, &block.header)?;
    check_body(params, block, hash)
}

/// Checks a block without its proof of work. Block templates have none yet.
///
/// # Errors
/// [`BlockError`], one variant a rule.
pub fn check_body(
    params: &ConsensusParams,
    block: Block,
    hash: BlockHash,
) -> Result<CheckedBlock, BlockError> {
    // # Consensus: §4 "The header's merkle_root equals sha256d(commitment)".
    let found = block.commitment.merkle_root();
    if found != block.header.merkle_root {
        return Err(BlockError::CommitmentMismatch {
            found,
            expected: block.header.merkle_root,
        });
    }
    // # Consensus: §4 "The commitment's transactions_root is the root of the
    // transactions that came with it".
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
    // # Consensus: §4 "The encoded block has at most max_block_bytes".
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

/// Checks a transaction by itself (protocol §3).
///
/// # Errors
/// [`TransactionError`], one variant a rule.
pub fn check_transaction(transaction: &SignedTransaction) -> Result<(), TransactionError> {
    let body = &transaction.body;
    // # Consensus: §3 "1 to 255 outputs, each at least 1 grain".
    // The decoder refuses more than 255.
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
    // # Consensus: §3 "the key is there if and only if the sequence is 0".
    // # Consensus: §3 "with a key: its address is the sender".
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
