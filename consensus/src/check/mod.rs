//! The rules for headers, and those that a block or a transaction must keep by itself
//! (protocol §3, §4, §7). They need no accounts; [`crate::connect`] has the rules that
//! do. Start with [`check_block`].

mod error;
mod transaction;

use crate::block::{BASE_VERSION, Block, BlockCommitment, BlockHeader, VERSION_FIXED_MASK};
use crate::difficulty::{Ancestors, expected_bits};
use crate::genesis::ConsensusParams;
use crate::hash::{BlockHash, Hash256, Txid};
use crate::merkle;
use crate::target::Work;
use crate::transaction::SignedTransaction;

pub use error::{BlockError, HeaderError, NotYet, TransactionError};
pub use transaction::{CheckedTransaction, FailedTransaction, check_transaction};

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
    /// The block that was checked.
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

    /// The transactions by themselves, in block order: each was checked with the block.
    pub fn checked_transactions(&self) -> impl Iterator<Item = CheckedTransaction> + '_ {
        let hashes = self.txids.iter().zip(&self.leaf_hashes);
        self.block
            .transactions
            .iter()
            .zip(hashes)
            .filter_map(|(transaction, (txid, leaf_hash))| {
                CheckedTransaction::of_block(transaction, *txid, *leaf_hash)
            })
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
    check_commitment(&block)?;
    let leaf_hashes: Vec<Hash256> = block
        .transactions
        .iter()
        .map(SignedTransaction::leaf_hash)
        .collect();
    check_transactions_root(&block, &leaf_hashes)?;
    let size = check_size(params, &block)?;
    check_account_changes(params, &block)?;
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

/// Checks a block that is put together from checked transactions, without its proof of work: block
/// templates have none yet. Neither the transactions nor their txids and leaves are checked or
/// computed again; they must have been checked with these parameters.
///
/// # Errors
/// [`BlockError`], one variant a rule.
pub fn check_assembled(
    params: &ConsensusParams,
    header: BlockHeader,
    commitment: BlockCommitment,
    transactions: &[&CheckedTransaction],
) -> Result<CheckedBlock, BlockError> {
    let block = Block {
        header,
        commitment,
        transactions: transactions
            .iter()
            .map(|checked| checked.transaction().clone())
            .collect(),
    };
    check_commitment(&block)?;
    let leaf_hashes: Vec<Hash256> = transactions
        .iter()
        .map(|checked| checked.leaf_hash())
        .collect();
    check_transactions_root(&block, &leaf_hashes)?;
    let size = check_size(params, &block)?;
    check_account_changes(params, &block)?;
    Ok(CheckedBlock {
        hash: block.header.hash(),
        txids: transactions.iter().map(|checked| checked.txid()).collect(),
        block,
        leaf_hashes,
        size,
    })
}

fn check_commitment(block: &Block) -> Result<(), BlockError> {
    // # Consensus: §4 "The header's merkle_root equals sha256d(commitment)".
    let found = block.commitment.merkle_root();
    if found != block.header.merkle_root {
        return Err(BlockError::CommitmentMismatch {
            found,
            expected: block.header.merkle_root,
        });
    }
    Ok(())
}

fn check_transactions_root(block: &Block, leaf_hashes: &[Hash256]) -> Result<(), BlockError> {
    // # Consensus: §4 "The commitment's transactions_root is the root of the
    // transactions that came with it".
    let found = merkle::root(leaf_hashes);
    if found != block.commitment.transactions_root {
        return Err(BlockError::TransactionsRootMismatch {
            found,
            expected: block.commitment.transactions_root,
        });
    }
    Ok(())
}

/// Checks a block's size and returns it, in bytes.
fn check_size(params: &ConsensusParams, block: &Block) -> Result<usize, BlockError> {
    // # Consensus: §4 "The encoded block has at most max_block_bytes".
    let size = block.size();
    if size > usize::try_from(params.max_block_bytes).unwrap_or(usize::MAX) {
        return Err(BlockError::TooLarge {
            found: size,
            max: params.max_block_bytes,
        });
    }
    Ok(size)
}

fn check_account_changes(params: &ConsensusParams, block: &Block) -> Result<(), BlockError> {
    // # Consensus: §4 "Its transactions change at most max_account_changes accounts".
    let found = block.transactions.iter().fold(0_usize, |sum, transaction| {
        sum.saturating_add(transaction.body.account_changes())
    });
    if found > usize::try_from(params.max_account_changes).unwrap_or(usize::MAX) {
        return Err(BlockError::TooManyAccountChanges {
            found,
            max: params.max_account_changes,
        });
    }
    Ok(())
}
