//! The rules that a transaction must keep by itself (protocol §3), and the proof that it was
//! checked. Knows no account and no key on record. Start reading at [`check_transaction`].

use super::error::TransactionError;
use crate::address::Address;
use crate::amount::Amount;
use crate::encoding::Encode as _;
use crate::genesis::ConsensusParams;
use crate::hash::{Hash256, Txid};
use crate::merkle;
use crate::transaction::SignedTransaction;

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

/// A transaction that has passed [`check_transaction`], with everything that was computed on the
/// way.
///
/// It says nothing about the signature: that is [`crate::connect::check_signature`]'s, which needs
/// the sender's key. The txid does not cover the signature either. Two checked transactions with
/// one txid may differ, and one of them may be forged; compare the leaf hash to tell them apart.
///
/// The txid holds for the chain whose parameters the constructor was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedTransaction {
    transaction: SignedTransaction,
    encoded: Vec<u8>,
    txid: Txid,
    leaf_hash: Hash256,
    total: Amount,
}

/// A transaction that breaks a rule. Its txid may be known all the same: it covers neither the
/// key nor the signature, so that a sound transaction may have it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTransaction {
    /// The txid of the transaction that was refused.
    pub txid: Txid,
    /// The rule that it breaks.
    pub error: TransactionError,
}

impl CheckedTransaction {
    /// Checks a transaction.
    ///
    /// # Errors
    /// [`FailedTransaction`] names the rule that it breaks.
    pub fn new(
        params: &ConsensusParams,
        transaction: SignedTransaction,
    ) -> Result<Self, FailedTransaction> {
        let txid = transaction.txid(&params.genesis_hash);
        let fail = |error| FailedTransaction { txid, error };
        check_transaction(&transaction).map_err(fail)?;
        let total = transaction.body.total();
        let total = total.ok_or_else(|| fail(TransactionError::TotalOutOfRange))?;
        let encoded = transaction.encode();
        Ok(Self {
            leaf_hash: merkle::leaf_hash(&encoded),
            transaction,
            encoded,
            txid,
            total,
        })
    }

    /// A transaction of a checked block, with the hashes that the block's check computed. `None` if
    /// it can't have been checked: its total is out of range.
    pub(super) fn of_block(
        transaction: &SignedTransaction,
        txid: Txid,
        leaf_hash: Hash256,
    ) -> Option<Self> {
        Some(Self {
            total: transaction.body.total()?,
            encoded: transaction.encode(),
            transaction: transaction.clone(),
            txid,
            leaf_hash,
        })
    }

    /// The transaction that was checked.
    #[must_use]
    pub fn transaction(&self) -> &SignedTransaction {
        &self.transaction
    }

    /// The consensus encoding, signature included.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Identifies the body of the transaction on its chain.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.txid
    }

    /// The leaf of the transactions root: unlike the txid it covers key and signature.
    #[must_use]
    pub fn leaf_hash(&self) -> Hash256 {
        self.leaf_hash
    }

    /// Encoded size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.encoded.len()
    }

    /// Sum of the outputs and the fee.
    #[must_use]
    pub fn total(&self) -> Amount {
        self.total
    }
}
